/*
 * mseal(2): mappings that stay as they are until the address space ends.
 *
 * A sealed VMA is not unmapped, moved, resized or replaced, keeps its protection, and is not emptied by advice where the program
 * may not write.  There is no way back, so this file only sets the flag; the refusals (-EPERM) stand where the changes are made:
 * split_ends() for everything that unmaps, mprotect_fixup(), check_vma() of mremap, advise_vma().
 *
 * Locks: mmap_lock + mm->lock.
 */
#include <mm/vma.h>

static bool has_hole(struct mm_struct *mm, u64 start, u64 end)
{
	struct vm_area_struct *vma;

	for (; start < end; start = vma_end(vma)) {
		vma = vma_lookup(mm, start);
		if (!vma)
			return true;
	}
	return false;
}

/* What was sealed before an error stays so. */
static int seal_range(struct mm_struct *mm, u64 start, u64 end)
{
	while (start < end) {
		struct vm_area_struct *vma = vma_lookup(mm, start);
		u64 stop = MIN(vma_end(vma), end);
		int err;

		if (!vma_is_sealed(vma)) {
			err = mm_prepare(mm, 2);
			if (err)
				return err;
			if (IS_ERR(vma_modify_flags(mm, vma, start, stop, vma->vm_flags | VM_SEALED)))
				return -ENOMEM;
		}
		start = stop;
		if (txn_should_break())
			mmap_write_cycle(mm);
	}
	return 0;
}

long do_mseal(struct mm_struct *mm, u64 addr, u64 len, u64 flags)
{
	u64 end = addr + PAGE_ALIGN(len);
	int err = -ENOMEM;

	if (flags || !PAGE_ALIGNED(addr) || (len && !PAGE_ALIGN(len)) || end < addr)
		return -EINVAL;
	if (end == addr)
		return 0;
	mmap_write_begin(mm);
	if (!has_hole(mm, addr, end))
		err = seal_range(mm, addr, end);
	mmap_write_end(mm);
	mm_reap(mm);
	return err;
}
