/*
 * swapoff: every page of an area is brought back, address space by address space, by the same faults that its owner
 * would have.
 *
 * The area takes no more pages meanwhile, but entries may still be copied by fork; so the rounds go on until no slot is
 * in use.  Who runs out of memory on the way gives up, and the area is used again, as on Linux.
 * Locks: called under none.
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include <swap/swap.h>
#include <swap/swap_area.h>
#include "reclaim.h"

#define MAX_ROUNDS 64u

/* Under the mm->lock of a table that holds the entry. */
static bool is_in_area(struct quire *q, u64 entry, unsigned type)
{
	bool in;

	spin_lock(&q->lock);
	in = swap_entry_in_area(q, entry, type);
	spin_unlock(&q->lock);
	return in;
}

/* Address of the first entry of that area at or after `at`; ~0 = none. */
static u64 next_entry(struct mm_struct *mm, unsigned type, u64 at)
{
	struct pt_iter it;
	u64 found = ~0ull;

	spin_lock(&mm->lock);
	pt_iter_init(&it, mm->q, mm->pgd, at, 1ull << VA_BITS);
	while (found == ~0ull && pt_iter_next(&it)) {
		pte_t p = pte_read(it.slot);

		if (pte_is_swap(p) && is_in_area(mm->q, pte_to_swp_entry(p), type))
			found = it.addr;
	}
	spin_unlock(&mm->lock);
	return found;
}

/* 0, or why a page could not be had. */
static int unuse_mm(struct mm_struct *mm, unsigned type)
{
	u64 at = 0;
	u8 byte;

	while ((at = next_entry(mm, type, at)) != ~0ull) {
		if (access_process_vm_flags(mm, at, &byte, 1, false, ACCESS_FORCE) != 1)
			return -EIO;
		at += PAGE_SIZE;
	}
	return 0;
}

/* The n-th address space with a user, with a reference; NULL = there are fewer. */
static struct mm_struct *nth_mm(struct quire *q, unsigned n)
{
	struct mm_struct *mm;

	spin_lock(&q->lock);
	for (mm = q->mms; mm; mm = mm->all_next)
		if (mm->users && !n--)
			break;
	if (mm)
		mmget(mm);
	spin_unlock(&q->lock);
	return mm;
}

/* One look at every address space (new ones come in front, so some may be looked at twice). */
static int unuse_round(struct quire *q, unsigned type)
{
	struct mm_struct *mm;
	int err = 0;

	for (unsigned n = 0; !err && (mm = nth_mm(q, n)); n++) {
		err = unuse_mm(mm, type);
		mmput(mm);
	}
	return err;
}

int swapoff(struct quire *q, const char *name)
{
	int type = swap_area_close(q, name), err;

	if (type < 0)
		return type;
	for (unsigned i = 0; i < MAX_ROUNDS; i++) {
		err = unuse_round(q, (unsigned)type);
		if (!err)
			err = shmem_unuse(q, (unsigned)type);
		if (!err && swap_area_destroy(q, (unsigned)type))
			return 0;
		if (err)
			break;
	}
	swap_area_reopen(q, (unsigned)type);
	return err ? err : -ENOMEM;
}
