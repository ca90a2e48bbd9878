/*
 * Descriptors and names: opening (what /proc serves comes first), closing, duplicating, locks, handles, mounts.
 * The kernel's own descriptor does not exist for guests: every call on it is EBADF.
 */
#include "native.h"
#include "procfs.h"
#include "x86_64/native_nr.h"
#include <linux/fcntl.h>
#include <linux/kcmp.h>
#include <linux/mount.h>

#define HANDLE_HEAD 8u   /* struct file_handle without its bytes */
#define HANDLE_MAX 128u  /* MAX_HANDLE_SZ */
#define HANDLE_MNT_ID_UNIQUE 1u
#define RANGE_CLOEXEC 4u /* CLOSE_RANGE_CLOEXEC */

static long open_path(struct native_frame *f, unsigned path, int dirfd, u64 flags)
{
	int r = native_string(f, f->a[path], &f->h[path]);
	long served;

	if (r)
		return r;
	if (dirfd == KERNEL_FD)
		return -EBADF;
	if (f->h[path]) {
		served = procfs_open(dirfd, (const char *)f->h[path], (int)flags);
		if (served != PROCFS_NOT_OURS)
			return served;
	}
	return native_issue(f);
}

long native_open(struct native_frame *f)
{
	if (f->nr == __NR_creat)
		return open_path(f, 0, AT_FDCWD, O_CREAT | O_WRONLY | O_TRUNC);
	if (f->nr == __NR_open)
		return open_path(f, 0, AT_FDCWD, f->a[1]);
	return open_path(f, 1, (s32)f->a[0], f->a[2]);
}

long native_openat2(struct native_frame *f)
{
	u64 size = f->a[3];
	int r;

	/* The host refuses sizes below 24 and above a page before it reads. */
	if (size < 24 || size > PAGE_SIZE)
		return native_issue(f);
	r = native_in(f, f->a[2], size, &f->h[2]);
	if (r)
		return r;
	return open_path(f, 1, (s32)f->a[0], f->a[2] ? *(u64 *)f->h[2] : 0);
}

long native_readlink(struct native_frame *f)
{
	unsigned p = f->nr == __NR_readlinkat;
	int dirfd = p ? (s32)f->a[0] : AT_FDCWD, r;
	s32 size = (s32)f->a[p + 2];
	char *buf;
	long n;

	if (dirfd == KERNEL_FD)
		return -EBADF;
	if (size <= 0)
		return -EINVAL;
	size = MIN(size, (s32)NATIVE_PATH);
	r = native_string(f, f->a[p], &f->h[p]);
	buf = native_alloc(f, (u64)size);
	if (r || !f->h[p])
		return r ? r : -EFAULT;
	if (!buf)
		return -ENOMEM;
	f->h[p + 1] = (u64)buf;
	f->h[p + 2] = (u64)size;
	n = procfs_readlink(dirfd, (const char *)f->h[p], buf, (size_t)size);
	if (n == PROCFS_NOT_OURS)
		n = native_issue(f);
	if (n > 0 && copy_to_user(f->a[p + 1], buf, (size_t)n))
		return -EFAULT;
	return n;
}

long native_close(struct native_frame *f)
{
	if (native_check_fd(f->a[0]))
		return -EBADF;
	procfs_fd_closed((s32)f->a[0]);
	return native_issue(f);
}

/* One range, or the two around the kernel's descriptor. */
long native_close_range(struct native_frame *f)
{
	u32 first = (u32)f->a[0], last = (u32)f->a[1];
	u64 flags = f->a[2];
	long r = 0;

	if (last >= first && !(flags & RANGE_CLOEXEC))
		procfs_range_closed(first, last);
	if (last < first || first > KERNEL_FD || last < KERNEL_FD)
		return native_issue(f);
	if (first < KERNEL_FD)
		r = host_call(__NR_close_range, first, KERNEL_FD - 1, flags);
	if (!r && last > KERNEL_FD)
		r = host_call(__NR_close_range, KERNEL_FD + 1, last, flags);
	return r;
}

long native_dup(struct native_frame *f)
{
	long r = native_check_fd(f->a[0]) ? -EBADF : native_issue(f);

	if (r >= 0)
		procfs_fd_dup((s32)f->a[0], (int)r);
	return r;
}

long native_dup2(struct native_frame *f)
{
	int old = (s32)f->a[0], new = (s32)f->a[1];
	long r;

	if (native_check_fd(f->a[0]) || native_check_fd(f->a[1]))
		return -EBADF;
	r = native_issue(f);
	if (r >= 0 && old != new) {
		procfs_fd_closed(new);
		procfs_fd_dup(old, new);
	}
	return r;
}

long native_fcntl(struct native_frame *f)
{
	static const struct native_arg in_flock = { ARG_IN, 0, 32 }, inout_flock = { ARG_INOUT, 0, 32 };
	static const struct native_arg in8 = { ARG_IN, 0, 8 }, out8 = { ARG_OUT, 0, 8 }, value = { ARG_VALUE, 0, 0 };
	struct native_arg d[3] = { { ARG_FD, 0, 0 }, value, value };
	long r;

	switch ((u32)f->a[1]) {
	case F_GETLK: case F_OFD_GETLK:
		d[2] = inout_flock;
		break;
	case F_SETLK: case F_SETLKW: case F_OFD_SETLK: case F_OFD_SETLKW:
		d[2] = in_flock;
		break;
	case F_SETOWN_EX: case F_SET_RW_HINT: case F_SET_FILE_RW_HINT:
		d[2] = in8;
		break;
	case F_GETOWN_EX: case F_GETOWNER_UIDS: case F_GET_RW_HINT: case F_GET_FILE_RW_HINT:
		d[2] = out8;
		break;
	}
	r = native_run(f, d, 3);
	if (r >= 0 && ((u32)f->a[1] == F_DUPFD || (u32)f->a[1] == F_DUPFD_CLOEXEC))
		procfs_fd_dup((s32)f->a[0], (int)r);
	return r >= 0 && (u32)f->a[1] == F_GETFL ? procfs_flags((s32)f->a[0], r) : r;
}

/* No guest may fetch the kernel's descriptor out of another guest. */
long native_pidfd_getfd(struct native_frame *f)
{
	if (native_check_fd(f->a[0]) || native_check_fd(f->a[1]))
		return -EBADF;
	return native_issue(f);
}

/* The address space of a task, by number; 0 for threads that are not a process's first, and for strangers. */
static u64 mm_of(s32 pid)
{
	struct task *t = task_find_get(kproc.task->q, pid);
	u64 mm;

	if (!t)
		return 0;
	mm = (u64)READ_ONCE(t->mm);
	task_put(t);
	return mm;
}

/* kcmp(2): objects are the host's, but for memory: processes that share the machine's address space have mappings of their own. */
long native_kcmp(struct native_frame *f)
{
	u32 type = (u32)f->a[2];
	u64 first, second;
	long r = 0;

	if (type == KCMP_FILE && (native_check_fd(f->a[3]) || native_check_fd(f->a[4])))
		return -EBADF;
	if (type == KCMP_EPOLL_TFD)
		r = native_in(f, f->a[4], sizeof(struct kcmp_epoll_slot), &f->h[4]);
	if (!r)
		r = native_issue(f);
	if (r <= 0 || type != KCMP_VM)
		return r;
	first = mm_of((s32)f->a[0]);
	second = mm_of((s32)f->a[1]);
	if (first && second)
		r = first == second ? 0 : first < second ? 1 : 2;
	return r;
}

/* struct file_handle tells its own size; the host writes the size it needs also when it fails with EOVERFLOW. */
long native_name_to_handle(struct native_frame *f)
{
	u64 id_bytes = f->a[4] & HANDLE_MNT_ID_UNIQUE ? 8 : 4;
	u32 bytes;
	int r;
	long ret;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (copy_from_user(&bytes, f->a[2], sizeof(bytes)))
		return -EFAULT;
	r = native_string(f, f->a[1], &f->h[1]);
	if (!r)
		r = native_inout(f, f->a[2], HANDLE_HEAD + MIN(bytes, HANDLE_MAX), &f->h[2]);
	if (!r)
		r = native_outbuf(f, f->a[3], id_bytes, &f->h[3]);
	if (r)
		return r;
	ret = native_issue(f);
	if ((ret >= 0 || ret == -EOVERFLOW) && native_copy_outs(f))
		return -EFAULT;
	return ret;
}

long native_open_by_handle(struct native_frame *f)
{
	u32 bytes;
	int r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (copy_from_user(&bytes, f->a[1], sizeof(bytes)))
		return -EFAULT;
	r = native_in(f, f->a[1], HANDLE_HEAD + MIN(bytes, HANDLE_MAX), &f->h[1]);
	return r ? r : native_issue(f);
}

/* {set,get}xattrat(dirfd, path, at_flags, name, struct xattr_args { value, size, flags }, usize) */
long native_xattrat(struct native_frame *f)
{
	struct { u64 value; u32 size, flags; } *args;
	bool write = f->nr == __NR_getxattrat;
	u64 user;
	int r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (f->a[5] < sizeof(*args) || f->a[5] > PAGE_SIZE || !f->a[4])
		return native_issue(f); /* the host refuses it unseen */
	r = native_string(f, f->a[1], &f->h[1]);
	if (!r)
		r = native_string(f, f->a[3], &f->h[3]);
	if (!r)
		r = native_in(f, f->a[4], f->a[5], &f->h[4]);
	if (r)
		return r;
	args = (void *)f->h[4];
	user = args->value;
	/* XATTR_SIZE_MAX is 64 KiB; larger ones are E2BIG, or cut for reading. */
	if (user && args->size)
		r = native_pin(f, user, MIN(args->size, 65536u), write);
	return r ? r : native_issue(f);
}

/* mount(2): the options are a page of bytes of any kind, or as much of it as is mapped (copy_mount_options). */
long native_mount(struct native_frame *f)
{
	u64 room = PAGE_SIZE - (f->a[4] & ~PAGE_MASK);
	unsigned i;
	u8 *data;

	for (i = 0; i < 3; i++) {
		int r = native_string(f, f->a[i], &f->h[i]);

		if (r)
			return r;
	}
	if (f->a[4]) {
		data = native_alloc(f, PAGE_SIZE);
		if (!data)
			return -ENOMEM;
		memset(data, 0, PAGE_SIZE);
		if (copy_from_user(data, f->a[4], room))
			return -EFAULT;
		/* What lies on the next page is optional. */
		if (room < PAGE_SIZE && copy_from_user(data + room, f->a[4] + room, PAGE_SIZE - room))
			memset(data + room, 0, PAGE_SIZE - room);
		f->h[4] = (u64)data;
	}
	return native_issue(f);
}

long native_fsconfig(struct native_frame *f)
{
	static const struct native_arg value = { ARG_VALUE, 0, 0 }, str = { ARG_STR, 0, 0 };
	struct native_arg d[4] = { { ARG_FD, 0, 0 }, value, str, value };

	switch ((u32)f->a[1]) {
	case FSCONFIG_SET_STRING: case FSCONFIG_SET_PATH: case FSCONFIG_SET_PATH_EMPTY:
		d[3] = str;
		break;
	case FSCONFIG_SET_BINARY:
		d[3] = (struct native_arg){ ARG_INBUF, 4, 1 };
		break;
	}
	return native_run(f, d, 4);
}
