/*
 * Memory policies of ranges (mbind(2)) on a machine with one node.
 *
 * A policy decides nothing here, but it is remembered: get_mempolicy(2) tells it, and neighbours with different policies
 * are different VMAs.  It lives in vm_flags (VM_POLICY_MASK), so splitting, merging, fork and mremap carry it along.
 * Locks: mmap_lock + mm->lock for changes, mm->lock for looking.
 */
#include <mm/vma.h>

static bool has_page(struct mm_struct *mm, u64 start, u64 end)
{
	struct pt_iter it;
	bool found = false;

	pt_iter_init(&it, mm->q, mm->pgd, start, end);
	while (!found && pt_iter_next(&it))
		found = pte_present(pte_read(it.slot)) && !pte_special(pte_read(it.slot));
	return found;
}

/*
 * Linux's queue_pages_range(): holes are errors unless the default policy comes back, but something must be there.
 * empty: with MPOL_MF_STRICT no page may be where it is.
 */
static int check_range(struct mm_struct *mm, u64 start, u64 end, bool holes, bool empty)
{
	struct vm_area_struct *vma = find_vma(mm, start), *next;

	if (!vma || vma_start(vma) >= end || (!holes && vma_start(vma) > start))
		return -EFAULT;
	for (; vma && vma_start(vma) < end; vma = next) {
		next = vma_next(mm, vma);
		if (!holes && vma_end(vma) < end && (!next || vma_start(next) > vma_end(vma)))
			return -EFAULT;
		if (empty && has_page(mm, MAX(start, vma_start(vma)), MIN(end, vma_end(vma))))
			return -EIO;
	}
	return 0;
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

long do_mbind(struct mm_struct *mm, u64 start, u64 len, u32 policy, bool empty)
{
	u64 end = start + PAGE_ALIGN(len), bits = (u64)policy << VM_POLICY_SHIFT, at = start;
	struct vm_area_struct *vma;
	long err;

	mmap_write_begin(mm);
	err = check_range(mm, start, end, !policy, empty);
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
