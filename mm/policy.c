/*
 * Memory policies of ranges (mbind(2)) on a machine with one node.
 *
 * A policy decides nothing here, but it is remembered: get_mempolicy(2) tells it, and neighbours with different policies
 * are different VMAs.  It lives in vm_flags (VM_POLICY_MASK), so splitting, merging, fork and mremap carry it along.
 * Locks: mmap_lock + mm->lock for changes, mm->lock for looking.
 */
#include <mm/vma.h>

/* Linux's queue_pages_range(): holes are errors unless the default policy comes back, but something must be there. */
static bool range_may_be_bound(struct mm_struct *mm, u64 start, u64 end, bool holes)
{
	struct vm_area_struct *vma = find_vma(mm, start);
	u64 at = start;

	if (!vma || vma_start(vma) >= end)
		return false;
	for (; !holes && vma && at < end && vma_start(vma) <= at; vma = vma_next(mm, vma))
		at = vma_end(vma);
	return holes || at >= end;
}

/* The first VMA at or after *at gets the policy as far as end.  0, or -ENOMEM. */
static int bind_one(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end, u64 policy)
{
	u64 newflags = (vma->vm_flags & ~VM_POLICY_MASK) | policy;
	int err;

	if (newflags == vma->vm_flags)
		return 0;
	err = mm_prepare(mm, 2);
	return err ? err : IS_ERR(vma_modify_flags(mm, vma, start, end, newflags)) ? -ENOMEM : 0;
}

long do_mbind(struct mm_struct *mm, u64 start, u64 len, u32 policy)
{
	u64 end = start + PAGE_ALIGN(len), bits = (u64)policy << VM_POLICY_SHIFT, at = start;
	struct vm_area_struct *vma;
	long err = 0;

	mmap_write_begin(mm);
	if (!range_may_be_bound(mm, start, end, !policy))
		err = -EFAULT;
	while (!err && (vma = find_vma(mm, at)) && vma_start(vma) < end) {
		u64 stop = MIN(vma_end(vma), end);

		err = bind_one(mm, vma, MAX(at, vma_start(vma)), stop, bits);
		at = stop;
		if (at >= end)
			break;
		if (txn_should_break())
			mmap_write_cycle(mm);
	}
	mmap_write_end(mm);
	return err;
}

long vma_policy(struct mm_struct *mm, u64 addr)
{
	struct vm_area_struct *vma;
	long policy;

	spin_lock(&mm->lock);
	vma = vma_lookup(mm, addr);
	policy = vma ? (long)((vma->vm_flags & VM_POLICY_MASK) >> VM_POLICY_SHIFT) : -EFAULT;
	spin_unlock(&mm->lock);
	return policy;
}
