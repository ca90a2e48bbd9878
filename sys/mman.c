/*
 * mmap(2) and its family on tasks: what the man pages want checked before an address space is looked at, the second
 * try after reclaim, and mincore's copying to user memory.  Everything else is decided in mm/.
 * Locks: called under none, holds none.
 */
#include <mm/mm.h>
#include <reclaim/reclaim.h>
#include "sys.h"

/* The call once more if memory was short and is no longer.  mm/ undoes completely on failure, so it may be repeated. */
#define WITH_RECLAIM(t, call) ({ \
	long ret_ = (call); \
	if (ret_ == -ENOMEM && memory_shortage_relieved((t)->q)) \
		ret_ = (call); \
	ret_; \
})

/* What a task with READ_IMPLIES_EXEC gets for what it asked: programs from before pages that cannot be executed. */
static u64 implied_prot(const struct task *t, const struct file *file, u64 prot)
{
	bool implies = (t->personality & READ_IMPLIES_EXEC) && (prot & PROT_READ) && !(file && (file->mode & FMODE_NOEXEC));

	return implies ? prot | PROT_EXEC : prot;
}

long sys_mmap(struct task *t, u64 addr, u64 len, u64 prot, u64 flags, struct file *file, u64 offset)
{
	if (offset & (PAGE_SIZE - 1))
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS) && !file)
		return -EBADF;
	if (flags & MAP_ANONYMOUS)
		file = NULL;
	prot = implied_prot(t, file, prot);
	return WITH_RECLAIM(t, do_mmap(t->mm, file, addr, len, prot, flags, offset >> PAGE_SHIFT));
}

long sys_munmap(struct task *t, u64 addr, u64 len)
{
	return WITH_RECLAIM(t, do_munmap(t->mm, addr, len));
}

/* brk(2) reports failure by not moving, so only the address tells. */
long sys_brk(struct task *t, u64 brk)
{
	long now = do_brk(t->mm, brk);

	if (brk && (u64)now < brk && memory_shortage_relieved(t->q))
		now = do_brk(t->mm, brk);
	return now;
}

long sys_mprotect(struct task *t, u64 addr, u64 len, u64 prot)
{
	return WITH_RECLAIM(t, do_mprotect(t->mm, addr, len, implied_prot(t, NULL, prot)));
}

long sys_mremap(struct task *t, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr)
{
	return WITH_RECLAIM(t, do_mremap(t->mm, addr, old_len, new_len, flags, new_addr));
}

long sys_remap_file_pages(struct task *t, u64 start, u64 size, u64 prot, u64 pgoff, u64 flags)
{
	return WITH_RECLAIM(t, do_remap_file_pages(t->mm, start, size, prot, pgoff, flags));
}

long sys_madvise(struct task *t, u64 addr, u64 len, int advice)
{
	return WITH_RECLAIM(t, do_madvise(t->mm, addr, len, advice));
}

long sys_msync(struct task *t, u64 addr, u64 len, int flags)
{
	return do_msync(t->mm, addr, len, flags);
}

long sys_mlock(struct task *t, u64 addr, u64 len)
{
	return WITH_RECLAIM(t, do_mlock(t->mm, addr, len, 0));
}

long sys_mlock2(struct task *t, u64 addr, u64 len, u64 flags)
{
	if (flags & ~(u64)MLOCK_ONFAULT)
		return -EINVAL;
	return WITH_RECLAIM(t, do_mlock(t->mm, addr, len, (int)flags));
}

long sys_munlock(struct task *t, u64 addr, u64 len)
{
	return WITH_RECLAIM(t, do_munlock(t->mm, addr, len));
}

long sys_mlockall(struct task *t, int flags)
{
	return WITH_RECLAIM(t, do_mlockall(t->mm, flags));
}

long sys_munlockall(struct task *t)
{
	return WITH_RECLAIM(t, do_munlockall(t->mm));
}

long sys_mseal(struct task *t, u64 addr, u64 len, u64 flags)
{
	return WITH_RECLAIM(t, do_mseal(t->mm, addr, len, flags));
}

#define MINCORE_PAGES_AT_ONCE 512u

/* One stretch; 0 or negative errno. */
static long mincore_some(struct task *t, u64 addr, u64 pages, u64 vec)
{
	u8 buf[MINCORE_PAGES_AT_ONCE];
	long err = do_mincore(t->mm, addr, pages << PAGE_SHIFT, buf);

	if (err)
		return err;
	return access_process_vm(t->mm, vec, buf, pages, true) == (long)pages ? 0 : -EFAULT;
}

long sys_mincore(struct task *t, u64 addr, u64 len, u64 vec)
{
	u64 limit = t->mm->task_size, pages = PAGE_ALIGN(len) >> PAGE_SHIFT, n;
	long err = 0;

	if (addr & (PAGE_SIZE - 1))
		return -EINVAL;
	if (len > limit || addr > limit - len)
		return -ENOMEM;
	if (pages > limit || vec > limit - pages)
		return -EFAULT;
	for (; pages && !err; pages -= n) {
		n = MIN(pages, MINCORE_PAGES_AT_ONCE);
		err = mincore_some(t, addr, n, vec);
		addr += n << PAGE_SHIFT;
		vec += n;
	}
	return err;
}
