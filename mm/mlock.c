/*
 * mlock and its kin: VM_LOCKED on VMAs, the count against RLIMIT_MEMLOCK, and faulting the pages in.
 *
 * A page of a locked VMA is kept by reclaim because rmap_walk finds VM_LOCKED on a VMA that maps it; no page list is
 * kept. Locks: mmap_lock + mm->lock.
 */
#include <mm/vma.h>

#define VM_LOCKED_MASK (VM_LOCKED | VM_LOCKONFAULT)

/* Gives [start, end) of vma the lock flags.  0 or -ENOMEM. */
static int mlock_fixup(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end, u64 lock_flags)
{
	u64 old = vma->vm_flags, newflags = (old & ~VM_LOCKED_MASK) | lock_flags;
	u64 pages = (end - start) >> PAGE_SHIFT;
	int err;

	if (newflags == old || (old & (VM_SPECIAL | VM_DROPPABLE)))
		return 0;
	err = mm_prepare(mm, 2);
	if (err)
		return err;
	if (IS_ERR(vma_modify_flags(mm, vma, start, end, newflags)))
		return -ENOMEM;
	if ((newflags & VM_LOCKED) && !(old & VM_LOCKED))
		mm->locked_vm += pages;
	else if (!(newflags & VM_LOCKED) && (old & VM_LOCKED))
		mm->locked_vm -= pages;
	return 0;
}

static int apply_range(struct mm_struct *mm, u64 start, u64 len, u64 lock_flags)
{
	u64 end = start + len;

	if (end < start)
		return -EINVAL;
	while (start < end) {
		struct vm_area_struct *vma = vma_lookup(mm, start);
		u64 stop = vma ? MIN(vma_end(vma), end) : 0;
		int err = vma ? mlock_fixup(mm, vma, start, stop, lock_flags) : -ENOMEM;

		if (err)
			return err;
		start = stop;
		if (txn_should_break())
			mmap_write_cycle(mm);
	}
	return 0;
}

/* Pages of the range that are locked already. */
static u64 count_locked(struct mm_struct *mm, u64 start, u64 end)
{
	u64 n = 0;

	for (struct vm_area_struct *vma = find_vma(mm, start); vma && vma_start(vma) < end; vma = vma_next(mm, vma))
		if (vma->vm_flags & VM_LOCKED)
			n += (MIN(vma_end(vma), end) - MAX(vma_start(vma), start)) >> PAGE_SHIFT;
	return n;
}

static bool within_limit(struct mm_struct *mm, u64 start, u64 len)
{
	u64 limit = mm->rlim_memlock >> PAGE_SHIFT, pages = (len >> PAGE_SHIFT) + mm->locked_vm;

	if (mm->cap_ipc_lock || pages <= limit)
		return true;
	return pages - count_locked(mm, start, start + len < start ? ~0ull : start + len) <= limit;
}

/* What mlock(2) says when the pages cannot be had. */
static long posix_error(int err)
{
	if (err == -EFAULT)
		return -ENOMEM;
	return err == -ENOMEM ? -EAGAIN : err;
}

/* ---- faulting in ---- */

/* The next part of [*at, end) to fault in, by one VMA's flags.  False = none left. */
static bool next_part(struct mm_struct *mm, u64 *at, u64 *stop, u64 end, u64 *vm_flags)
{
	struct vm_area_struct *vma;
	bool found;

	spin_lock(&mm->lock);
	vma = find_vma(mm, *at);
	found = vma && vma_start(vma) < end;
	if (found) {
		*at = MAX(*at, vma_start(vma));
		*stop = MIN(end, vma_end(vma));
		*vm_flags = vma->vm_flags;
	}
	spin_unlock(&mm->lock);
	return found;
}

/* One VMA's part, as Linux's populate_vma_page_range(): memory that may not be accessed at all cannot be had. */
static int populate_part(struct mm_struct *mm, u64 start, u64 end, u64 vm_flags)
{
	if ((vm_flags & (VM_IO | VM_PFNMAP | VM_LOCKONFAULT)) || !mm->q->hooks.populate)
		return 0;
	if (!(vm_flags & VM_ACCESS_FLAGS))
		return -EFAULT;
	return mm->q->hooks.populate(mm, start, end, true);
}

int populate(struct mm_struct *mm, u64 start, u64 end, bool stop_on_error)
{
	u64 stop, vm_flags;

	while (start < end && next_part(mm, &start, &stop, end, &vm_flags)) {
		int err = populate_part(mm, start, stop, vm_flags);

		if (err && stop_on_error)
			return err;
		start = stop;
	}
	return 0;
}

/* ---- the calls ---- */
long do_mlock(struct mm_struct *mm, u64 addr, u64 len, int flags)
{
	u64 start = addr & PAGE_MASK, lock_flags = VM_LOCKED | (flags & MLOCK_ONFAULT ? VM_LOCKONFAULT : 0);
	int err = -ENOMEM;

	if (flags & ~MLOCK_ONFAULT)
		return -EINVAL;
	if (!can_do_mlock(mm))
		return -EPERM;
	len = PAGE_ALIGN(len + (addr & ~PAGE_MASK));
	mmap_write_begin(mm);
	if (within_limit(mm, start, len))
		err = apply_range(mm, start, len, lock_flags);
	mmap_write_end(mm);
	mm_reap(mm);
	return err ? err : posix_error(populate(mm, start, start + len, true));
}

long do_munlock(struct mm_struct *mm, u64 addr, u64 len)
{
	int err;

	len = PAGE_ALIGN(len + (addr & ~PAGE_MASK));
	mmap_write_begin(mm);
	err = apply_range(mm, addr & PAGE_MASK, len, 0);
	mmap_write_end(mm);
	mm_reap(mm);
	return err;
}

/* Errors for single VMAs are ignored, as Linux does. */
static void apply_all(struct mm_struct *mm, u64 lock_flags)
{
	struct vm_area_struct *vma;

	for (u64 at = 0; (vma = find_vma(mm, at));) {
		at = vma_end(vma);
		mlock_fixup(mm, vma, vma_start(vma), at, lock_flags);
		if (txn_should_break())
			mmap_write_cycle(mm);
	}
}

static void apply_mlockall(struct mm_struct *mm, int flags)
{
	u64 lock_flags = VM_LOCKED | (flags & MCL_ONFAULT ? VM_LOCKONFAULT : 0);

	mm->def_flags &= ~VM_LOCKED_MASK;
	if (flags & MCL_FUTURE)
		mm->def_flags |= lock_flags;
	if (flags & MCL_CURRENT)
		apply_all(mm, lock_flags);
	else if (!(flags & MCL_FUTURE))
		apply_all(mm, 0);
}

long do_mlockall(struct mm_struct *mm, int flags)
{
	long err = -ENOMEM;

	if (!flags || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT)
		return -EINVAL;
	if (!can_do_mlock(mm))
		return -EPERM;
	mmap_write_begin(mm);
	if (!(flags & MCL_CURRENT) || mm->total_vm <= mm->rlim_memlock >> PAGE_SHIFT || mm->cap_ipc_lock) {
		apply_mlockall(mm, flags);
		err = 0;
	}
	mmap_write_end(mm);
	mm_reap(mm);
	if (!err && (flags & MCL_CURRENT))
		populate(mm, 0, mm->task_size, false);
	return err;
}

long do_munlockall(struct mm_struct *mm)
{
	mmap_write_begin(mm);
	apply_mlockall(mm, 0);
	mmap_write_end(mm);
	mm_reap(mm);
	return 0;
}
