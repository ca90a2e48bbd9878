/*
 * process_vm_readv(2) and process_vm_writev(2): bytes between two address spaces through a buffer in the kernel; and
 * process_madvise(2), which names ranges of another address space in the same form.  As the man page says, transfers are not atomic, and what was copied before a bad address counts.
 * Locks: called under none, holds none; both address spaces are kept by references.
 */
#include <mm/mm.h>
#include "sys.h"

#define UIO_MAXIOV 1024u
#define RW_MAX 0x7ffff000ull /* Linux's MAX_RW_COUNT: more is cut off */

/* struct iovec of a 64-bit guest. */
struct user_iovec {
	u64 base, len;
};

/* A place in an array of ranges of one mm. */
struct cursor {
	struct mm_struct *mm;
	u32 flags;  /* ACCESS_* */
	const struct user_iovec *iov;
	u64 n, at;  /* entries; bytes into iov[0] */
	u64 pinned; /* the other process's: how far into iov[0] pages were brought in */
};

#define PIN_PAGES 1024u /* Linux's PVM_MAX_KMALLOC_PAGES, in pointers */

static void cursor_skip_empty(struct cursor *c)
{
	while (c->n && c->at == c->iov->len) {
		c->iov++;
		c->n--;
		c->at = c->pinned = 0;
	}
}

static u64 cursor_room(const struct cursor *c)
{
	return c->n ? c->iov->len - c->at : 0;
}

/* Copies an array in; sets *total.  ERR_PTR on failure; NULL for an empty one. */
static struct user_iovec *fetch_iov(struct task *t, u64 vec, u64 n, u64 *total)
{
	size_t bytes = n * sizeof(struct user_iovec);
	struct user_iovec *iov;

	*total = 0;
	if (n > UIO_MAXIOV)
		return ERR_PTR(-EINVAL);
	if (!n)
		return NULL;
	iov = kmalloc(t->q, bytes, GFP_KERNEL);
	if (!iov)
		return ERR_PTR(-ENOMEM);
	if (access_process_vm_flags(t->mm, vec, iov, bytes, false, ACCESS_OWN) != (long)bytes) {
		kfree(t->q, iov);
		return ERR_PTR(-EFAULT);
	}
	for (u64 i = 0; i < n; i++) {
		if (iov[i].len > (u64)LONG_MAX - *total) {
			kfree(t->q, iov);
			return ERR_PTR(-EINVAL);
		}
		*total += iov[i].len;
	}
	return iov;
}

/* One piece between equal amounts of both; bytes moved, short or negative at a bad address. */
static long copy_piece(struct cursor *from, struct cursor *to, void *buf, size_t n)
{
	long got = access_process_vm_flags(from->mm, from->iov->base + from->at, buf, n, false, from->flags);

	if (got <= 0)
		return -EFAULT;
	got = access_process_vm_flags(to->mm, to->iov->base + to->at, buf, (size_t)got, true, to->flags);
	return got <= 0 ? -EFAULT : got;
}

/* Linux pins the other process's pages before it looks at the caller's: they come in also if those turn out to be bad, and where there
 * are none the caller's are left alone.  False: not even the next one is there. */
static bool pin_next(struct cursor *c, bool write)
{
	u64 start = c->iov->base + c->at, pages = (PAGE_ALIGN(c->iov->base + c->iov->len) - (start & PAGE_MASK)) >> PAGE_SHIFT;

	pages = MIN(pages, PIN_PAGES);
	pages = fault_in_remote(c->mm, start & PAGE_MASK, pages, write);
	c->pinned = (start & PAGE_MASK) + (pages << PAGE_SHIFT) - c->iov->base;
	return pages;
}

/* far: whichever of them is the other process's. */
static long copy_all(struct cursor *from, struct cursor *to, struct cursor *far, void *buf)
{
	u64 done = 0;

	for (;;) {
		long n;

		cursor_skip_empty(from);
		cursor_skip_empty(to);
		if (from->n && to->n && far->at >= far->pinned && !pin_next(far, far == to))
			return done ? (long)done : -EFAULT;
		n = (long)MIN(MIN(cursor_room(from), cursor_room(to)), MIN(PAGE_SIZE, RW_MAX - done));
		if (!n)
			return (long)done;
		n = MIN(n, (long)(far->pinned - far->at));
		n = copy_piece(from, to, buf, (size_t)n);
		if (n < 0)
			return done ? (long)done : n;
		from->at += (u64)n;
		to->at += (u64)n;
		done += (u64)n;
	}
}

static long transfer(struct task *t, struct mm_struct *remote, const struct cursor *local, const struct cursor *far, bool write)
{
	struct cursor l = *local, r = *far;
	void *buf = kmalloc(t->q, PAGE_SIZE, GFP_KERNEL);
	long ret;

	if (!buf)
		return -ENOMEM;
	l.mm = t->mm;
	l.flags = ACCESS_OWN;
	r.mm = remote;
	ret = write ? copy_all(&l, &r, &r, buf) : copy_all(&r, &l, &r, buf);
	kfree(t->q, buf);
	return ret;
}

static long with_remote(struct task *t, long pid, const struct cursor *local, const struct cursor *far, bool write)
{
	struct task *other = pid > 0 ? task_find_get(t->q, (s32)pid) : NULL;
	struct mm_struct *mm;
	long ret;

	if (!other)
		return pid < 0 ? pid : -ESRCH;
	mm = task_get_mm(other);
	task_put(other);
	if (!mm)
		return -ESRCH;
	ret = transfer(t, mm, local, far, write);
	mmput(mm);
	return ret;
}

/* pid: or a negative errno, for what the port found out about the process; other errors come first. */
static long process_vm_rw(struct task *t, long pid, u64 lvec, u64 liovcnt, u64 rvec, u64 riovcnt, u64 flags, bool write)
{
	struct user_iovec *l, *r;
	u64 ltotal, rtotal;
	long ret;

	if (flags)
		return -EINVAL;
	l = fetch_iov(t, lvec, liovcnt, &ltotal);
	if (IS_ERR(l))
		return PTR_ERR(l);
	r = fetch_iov(t, rvec, riovcnt, &rtotal);
	if (IS_ERR(r)) {
		kfree(t->q, l);
		return PTR_ERR(r);
	}
	ret = 0;
	if (ltotal && rtotal) {
		struct cursor local = { .iov = l, .n = liovcnt }, far = { .iov = r, .n = riovcnt };

		ret = with_remote(t, pid, &local, &far, write);
	}
	kfree(t->q, l);
	kfree(t->q, r);
	return ret;
}

long sys_process_vm_readv(struct task *t, long pid, u64 lvec, u64 liovcnt, u64 rvec, u64 riovcnt, u64 flags)
{
	return process_vm_rw(t, pid, lvec, liovcnt, rvec, riovcnt, flags, false);
}

long sys_process_vm_writev(struct task *t, long pid, u64 lvec, u64 liovcnt, u64 rvec, u64 riovcnt, u64 flags)
{
	return process_vm_rw(t, pid, lvec, liovcnt, rvec, riovcnt, flags, true);
}

/* ---- process_madvise(2) ---- */

/* What may be advised for others: it changes nothing that they could notice but by the clock. */
static bool harmless_to_others(int advice)
{
	return advice == MADV_COLD || advice == MADV_PAGEOUT || advice == MADV_WILLNEED || advice == MADV_COLLAPSE;
}

/* Linux's import_iovec(): no range outside user space, and together no more than a transfer may have. */
static int clip_ranges(struct user_iovec *iov, u64 n, u64 task_size, u64 *total)
{
	*total = 0;
	for (u64 i = 0; i < n; i++) {
		if (iov[i].len > LONG_MAX)
			return -EINVAL;
		if (iov[i].len > task_size || iov[i].base > task_size - iov[i].len)
			return -EFAULT;
		iov[i].len = MIN(iov[i].len, RW_MAX - *total);
		*total += iov[i].len;
	}
	return 0;
}

/* Bytes advised before the first error, or that error if there were none. */
static long advise_ranges(struct mm_struct *mm, const struct user_iovec *iov, u64 n, u64 total, int advice)
{
	u64 done = 0;
	long err = 0;

	for (u64 i = 0; i < n && done < total && !err; i++) {
		if (i && !iov[i].len)
			continue;
		err = do_madvise(mm, iov[i].base, iov[i].len, advice);
		done += err ? 0 : iov[i].len;
	}
	return done ? (long)done : err;
}

static long advise_process(struct task *t, long pid, const struct madvise_caller *who, const struct user_iovec *iov, u64 n, u64 total,
			   int advice)
{
	struct task *other = pid > 0 ? task_find_get(t->q, (s32)pid) : NULL;
	struct mm_struct *mm = other ? task_get_mm(other) : NULL;
	long ret;

	if (other)
		task_put(other);
	if (!mm)
		return pid < 0 ? pid : -ESRCH;
	if (mm == t->mm)
		ret = advise_ranges(mm, iov, n, total, advice);
	else if (!who->may_look)
		ret = -EACCES;
	else if (!harmless_to_others(advice))
		ret = -EINVAL;
	else
		ret = who->cap_sys_nice ? advise_ranges(mm, iov, n, total, advice) : -EPERM;
	mmput(mm);
	return ret;
}

long sys_process_madvise(struct task *t, long pid, const struct madvise_caller *who, u64 vec, u64 vlen, int advice, u64 flags)
{
	struct user_iovec *iov;
	u64 total;
	long ret;

	if (flags)
		return -EINVAL;
	iov = fetch_iov(t, vec, vlen, &total);
	if (IS_ERR(iov))
		return PTR_ERR(iov);
	ret = clip_ranges(iov, vlen, t->mm->task_size, &total);
	if (!ret)
		ret = advise_process(t, pid, who, iov, vlen, total, advice);
	kfree(t->q, iov);
	return ret;
}
