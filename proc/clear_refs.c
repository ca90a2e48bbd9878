/*
 * /proc/PID/clear_refs: pages count as not touched from now on ("Referenced:" in smaps), or the peak of the resident set
 * is forgotten (proc(5)).  Soft-dirty bits do not exist here, as on a kernel without them: asking for that changes nothing.
 *
 * Locks: mm->lock, q->lock inside; some entries at a time, the walk goes on by address.
 */
#include <mm/mm.h>
#include "proc.h"

enum { CLEAR_REFS_ALL = 1, CLEAR_REFS_ANON, CLEAR_REFS_MAPPED, CLEAR_REFS_SOFT_DIRTY, CLEAR_REFS_MM_HIWATER_RSS };

#define ENTRIES_AT_ONCE 256u

static void clear_entry(struct mmu_gather *tlb, const struct pt_iter *it)
{
	pte_t pte = pte_read(it->slot);

	if (!pte_present(pte) || pte_special(pte))
		return;
	pte_folio(tlb->mm, pte)->f.flags &= (u16)~FF_REFERENCED;
	if (!pte_young(pte))
		return;
	set_pte(tlb->mm, it->slot, pte_mkold(pte));
	tlb_remove(tlb, it->addr, (it->next - it->addr) >> PAGE_SHIFT, 0, 0);
}

/* Entries of [addr, end), some of them; returns where to go on.  Under mm->lock. */
static u64 clear_some(struct mmu_gather *tlb, u64 addr, u64 end)
{
	struct quire *q = tlb->mm->q;
	unsigned n = 0;
	struct pt_iter it;

	spin_lock(&q->lock);
	pt_iter_init(&it, q, tlb->mm->pgd, addr, end);
	while (n++ < ENTRIES_AT_ONCE && pt_iter_next(&it)) {
		clear_entry(tlb, &it);
		addr = it.next;
	}
	spin_unlock(&q->lock);
	return n > ENTRIES_AT_ONCE ? addr : end;
}

static bool concerns(const struct vm_area_struct *vma, s64 type)
{
	if (type == CLEAR_REFS_ANON && vma->vm_file)
		return false;
	if (type == CLEAR_REFS_MAPPED && !vma->vm_file)
		return false;
	return !(vma->vm_flags & VM_PFNMAP);
}

static void clear_referenced(struct mm_struct *mm, s64 type)
{
	struct vm_area_struct *vma;
	struct mmu_gather tlb;
	u64 addr = 0, end;

	tlb_gather_mmu(&tlb, mm);
	spin_lock(&mm->lock);
	while ((vma = find_vma(mm, addr))) {
		addr = MAX(addr, vma_start(vma));
		end = vma_end(vma);
		if (concerns(vma, type))
			addr = clear_some(&tlb, addr, end);
		else
			addr = end;
		tlb_cycle(&tlb);
	}
	tlb_flush(&tlb);
	spin_unlock(&mm->lock);
	tlb_finish_mmu(&tlb);
}

int proc_clear_refs(struct mm_struct *mm, s64 type)
{
	switch (type) {
	case CLEAR_REFS_ALL:
	case CLEAR_REFS_ANON:
	case CLEAR_REFS_MAPPED: clear_referenced(mm, type); return 0;
	case CLEAR_REFS_SOFT_DIRTY: return 0;
	case CLEAR_REFS_MM_HIWATER_RSS:
		spin_lock(&mm->lock);
		mm->hiwater_rss = get_mm_rss(mm);
		spin_unlock(&mm->lock);
		return 0;
	default: return -EINVAL;
	}
}
