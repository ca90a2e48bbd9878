/*
 * Mappings that grow: the heap (brk) and stacks (a fault below a VM_GROWSDOWN mapping).
 *
 * Locks: mmap_lock + mm->lock, as every mapping call; a fault that wants to grow a stack drops its lock first.
 */
#include <mm/vma.h>

#define VM_DATA_FLAGS (VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT)

static bool data_rlimit_ok(const struct mm_struct *mm, u64 brk)
{
	return mm->rlim_data == ~0ull || (brk - mm->start_brk) + (mm->end_data - mm->start_data) <= mm->rlim_data;
}

static int brk_shrink(struct mmu_gather *tlb, u64 newbrk, u64 oldbrk)
{
	struct mm_struct *mm = tlb->mm;
	struct vm_area_struct *vma = find_vma(mm, newbrk);
	int err;

	if (!vma || vma_start(vma) >= oldbrk)
		return -EINVAL;
	err = mm_prepare(mm, 2);
	if (!err)
		err = split_ends(mm, newbrk, oldbrk);
	if (!err)
		unmap_region(tlb, newbrk, oldbrk);
	return err;
}

/* The heap keeps clear of the next mapping, and of the guard gap if that is a stack. */
static bool brk_room(struct mm_struct *mm, u64 oldbrk, u64 newbrk)
{
	struct vm_area_struct *next = find_vma(mm, oldbrk);

	return newbrk <= mm->task_size && mlock_future_ok(mm, mm->def_flags, newbrk - oldbrk) &&
	       (!next || newbrk + PAGE_SIZE <= vm_start_gap(next));
}

static int brk_grow(struct mmu_gather *tlb, u64 oldbrk, u64 newbrk)
{
	struct mm_struct *mm = tlb->mm;
	struct vma_proto p = {
		.start = oldbrk,
		.end = newbrk,
		.vm_flags = VM_DATA_FLAGS | mm->def_flags,
		.pgoff = oldbrk >> PAGE_SHIFT,
	};

	if (!brk_room(mm, oldbrk, newbrk) || mm->vmas.count > max_map_count(mm->q))
		return -ENOMEM;
	if (mm_prepare(mm, PREPARE_MAX) != 0)
		return -ENOMEM;
	return mmap_region(tlb, &p);
}

long do_brk(struct mm_struct *mm, u64 brk)
{
	u64 newbrk = PAGE_ALIGN(brk), oldbrk;
	struct mmu_gather tlb;
	bool grown = false;
	long ret;
	int err = 0;

	tlb_gather_mmu(&tlb, mm);
	mmap_write_begin(mm);
	oldbrk = PAGE_ALIGN(mm->brk);
	if (brk < mm->start_brk || brk > mm->task_size || !data_rlimit_ok(mm, brk)) {
		err = -EINVAL; /* the last page of all would round to 0 */
	} else if (newbrk < oldbrk) {
		err = brk_shrink(&tlb, newbrk, oldbrk);
	} else if (newbrk > oldbrk) {
		err = brk_grow(&tlb, oldbrk, newbrk);
		grown = !err && (mm->def_flags & VM_LOCKED);
	}
	if (!err)
		mm->brk = brk;
	ret = (long)mm->brk;
	finish_call(&tlb);
	if (grown)
		populate(mm, oldbrk, newbrk, false);
	return ret;
}

/* ---- stacks ---- */
static int stack_may_grow(struct mm_struct *mm, const struct vm_area_struct *vma, u64 addr)
{
	struct vm_area_struct *prev = vma_prev(mm, vma);
	u64 grow = (vma_start(vma) - addr) >> PAGE_SHIFT;

	if (mm->abi && addr < mm->abi->mmap_min_addr)
		return -EPERM;
	if (prev && !(prev->vm_flags & VM_GROWSDOWN) && vma_is_accessible(prev) &&
	    addr - vma_end(prev) < STACK_GUARD_GAP)
		return -ENOMEM;
	if (!may_expand_vm(mm, vma->vm_flags, grow) || vma_end(vma) - addr > mm->rlim_stack)
		return -ENOMEM;
	if (!mlock_future_ok(mm, vma->vm_flags, grow << PAGE_SHIFT) || grow > vma->vm_pgoff || vm_enough_memory(mm, grow) != 0)
		return -ENOMEM;
	/* Linux asks whatever the mapping; what unmapping will not give back is not kept. */
	if (!(vma->vm_flags & VM_ACCOUNT))
		vm_unacct_memory(mm->q, grow);
	return 0;
}

int expand_stack(struct mm_struct *mm, u64 addr)
{
	struct vm_area_struct *vma;
	int err = 0;

	addr &= PAGE_MASK;
	mmap_write_begin(mm);
	vma = find_vma(mm, addr);
	if (!vma || (vma_start(vma) > addr && !(vma->vm_flags & VM_GROWSDOWN)))
		err = -EFAULT;
	else if (vma_start(vma) > addr)
		err = stack_may_grow(mm, vma, addr);
	if (!err && vma_start(vma) > addr) {
		u64 grow = (vma_start(vma) - addr) >> PAGE_SHIFT;

		vm_stat_account(mm, vma->vm_flags, (s64)grow);
		if (vma->vm_flags & VM_LOCKED)
			mm->locked_vm += grow;
		vma_prepare_anon(vma);
		vma_set_range(mm, vma, addr, vma_end(vma));
	}
	mmap_write_end(mm);
	return err;
}
