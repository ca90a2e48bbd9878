/*
 * How much an address space may have: RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, and how much all of them together
 * may be promised (overcommit; Linux Documentation/mm/overcommit-accounting.rst).
 *
 * Invariants: total_vm is the sum of all VMAs' pages; q->committed_pages is the sum over all VMAs with VM_ACCOUNT plus
 * the shmem objects' charges.  Locks: mm->lock; committed_pages under q->lock.
 */
#include <mm/vma.h>

#define ADMIN_RESERVE_PAGES (8192ull >> 2)  /* sysctl admin_reserve_kbytes: 8 MiB */
#define USER_RESERVE_PAGES (131072ull >> 2) /* sysctl user_reserve_kbytes: 128 MiB */

static bool is_data_mapping(u64 vm_flags)
{
	return (vm_flags & (VM_WRITE | VM_SHARED | VM_STACK)) == VM_WRITE;
}

static bool is_exec_mapping(u64 vm_flags)
{
	return (vm_flags & (VM_EXEC | VM_WRITE | VM_STACK)) == VM_EXEC;
}

void vm_stat_account(struct mm_struct *mm, u64 vm_flags, s64 npages)
{
	mm->total_vm += (u64)npages;
	if (is_exec_mapping(vm_flags))
		mm->exec_vm += (u64)npages;
	else if (vm_flags & VM_STACK)
		mm->stack_vm += (u64)npages;
	else if (is_data_mapping(vm_flags))
		mm->data_vm += (u64)npages;
	mm->hiwater_vm = MAX(mm->hiwater_vm, mm->total_vm);
}

bool may_expand_vm(struct mm_struct *mm, u64 vm_flags, u64 npages)
{
	if (mm->total_vm + npages > mm->rlim_as >> PAGE_SHIFT)
		return false;
	return !is_data_mapping(vm_flags) || mm->data_vm + npages <= mm->rlim_data >> PAGE_SHIFT;
}

bool can_do_mlock(const struct mm_struct *mm)
{
	return mm->rlim_memlock != 0 || mm->cap_ipc_lock;
}

bool mlock_future_ok(struct mm_struct *mm, u64 vm_flags, u64 bytes)
{
	if (!(vm_flags & VM_LOCKED) || mm->cap_ipc_lock)
		return true;
	return mm->locked_vm + (bytes >> PAGE_SHIFT) <= mm->rlim_memlock >> PAGE_SHIFT;
}

/* Private writable memory is charged when it is mapped; shared memory by its object. */
bool accountable_mapping(const struct file *file, u64 vm_flags)
{
	(void)file;
	return (vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE)) == VM_WRITE;
}

u64 max_map_count(const struct quire *q)
{
	return q->cfg.max_map_count ? q->cfg.max_map_count : 65530;
}

static u64 swap_pages(struct quire *q)
{
	return q->hooks.total_swap_pages ? q->hooks.total_swap_pages(q) : 0;
}

u64 vm_commit_limit(struct quire *q)
{
	u64 allowed = q->cfg.overcommit_kbytes ? q->cfg.overcommit_kbytes >> (PAGE_SHIFT - 10) :
						 totalram_pages(q) * q->cfg.overcommit_ratio / 100;

	return allowed + swap_pages(q);
}

/* Mode 2: what this process may still take. */
static bool strict_enough(struct mm_struct *mm, u64 committed)
{
	u64 allowed = vm_commit_limit(mm->q),
	    reserve = MIN(mm->total_vm / 32, USER_RESERVE_PAGES) + ADMIN_RESERVE_PAGES;

	return allowed > reserve && committed < allowed - reserve;
}

int vm_enough_memory(struct mm_struct *mm, u64 npages)
{
	struct quire *q = mm->q;
	bool ok = true;

	if (!npages)
		return 0;
	spin_lock(&q->lock);
	if (q->cfg.overcommit_memory == 0)
		ok = npages <= totalram_pages(q) + swap_pages(q);
	else if (q->cfg.overcommit_memory == 2)
		ok = strict_enough(mm, q->committed_pages + npages);
	if (ok)
		q->committed_pages += npages;
	spin_unlock(&q->lock);
	return ok ? 0 : -ENOMEM;
}

void vm_unacct_memory(struct quire *q, u64 npages)
{
	if (!npages)
		return;
	spin_lock(&q->lock);
	q->committed_pages -= npages;
	spin_unlock(&q->lock);
}
