/*
 * Reading directories.  The kernel's own descriptor is left out of /proc/PID/fd and fdinfo, so that programs which
 * walk them (to close everything, to look for leaks) see only what is theirs; and a listing of /proc shows the machine's
 * processes, not the host's.
 */
#include "native.h"
#include "x86_64/native_nr.h"
#include <fmt.h>
#include <asm/statfs.h>

#define PROC_MAGIC 0x9fa0
#define RECLEN_OFFSET 16u /* in struct linux_dirent and linux_dirent64: behind inode and offset */

enum dir_kind { DIR_PLAIN, DIR_FD, DIR_PROC };

static enum dir_kind dir_kind(int fd)
{
	char link[32], target[64];
	struct fmt_buf b = fmt_init(link, sizeof(link));
	struct statfs sf;
	long n;

	if (host_call(__NR_fstatfs, fd, &sf) || sf.f_type != PROC_MAGIC)
		return DIR_PLAIN;
	fmt_printf(&b, "/proc/self/fd/%d", fd);
	n = host_call(__NR_readlink, link, target, sizeof(target));
	if (n == 5 && !memcmp(target, "/proc", 5))
		return DIR_PROC;
	if ((n > 3 && !memcmp(target + n - 3, "/fd", 3)) || (n > 7 && !memcmp(target + n - 7, "/fdinfo", 7)))
		return DIR_FD;
	return DIR_PLAIN;
}

/* The number that is the whole name, or -1. */
static s32 number_of(const char *name)
{
	s64 v = 0;

	if (!*name)
		return -1;
	for (; *name >= '0' && *name <= '9' && v < INT32_MAX; name++)
		v = v * 10 + (*name - '0');
	return *name || v > INT32_MAX ? -1 : (s32)v;
}

static bool hidden(enum dir_kind kind, const char *name)
{
	s32 n = number_of(name);

	if (n < 0)
		return false;
	return kind == DIR_FD ? n == KERNEL_FD : !guest_exists(n);
}

/* Takes the hidden entries out; returns the bytes that remain. */
static u64 remove_hidden(struct native_frame *f, enum dir_kind kind, u8 *buf, u64 bytes)
{
	unsigned name_offset = f->nr == __NR_getdents64 ? 19 : 18;
	u64 at = 0;

	while (at + name_offset < bytes) {
		u16 len;

		memcpy(&len, buf + at + RECLEN_OFFSET, sizeof(len));
		if (!len || len > bytes - at)
			break;
		if (hidden(kind, (const char *)buf + at + name_offset)) {
			memmove(buf + at, buf + at + len, bytes - at - len);
			bytes -= len;
		} else {
			at += len;
		}
	}
	return bytes;
}

/* The same entries without those.  0 stands for the end, so a piece that held nothing else is not returned. */
static long hide_entries(struct native_frame *f, enum dir_kind kind, long bytes)
{
	u8 *buf = native_alloc(f, (u64)bytes);
	u64 left;

	if (!buf || copy_from_user(buf, f->a[1], (u64)bytes))
		return bytes;
	left = remove_hidden(f, kind, buf, (u64)bytes);
	if (left != (u64)bytes && left && copy_to_user(f->a[1], buf, left))
		return -EFAULT;
	return (long)left;
}

long native_getdents(struct native_frame *f)
{
	static const struct native_arg d[3] = { { ARG_FD, 0, 0 }, { ARG_OUTBUF, 2, 1 }, { ARG_VALUE, 0, 0 } };
	long r = native_run(f, d, 3);
	enum dir_kind kind = r > 0 ? dir_kind((s32)f->a[0]) : DIR_PLAIN;

	while (r > 0 && kind != DIR_PLAIN) {
		long left = hide_entries(f, kind, r);

		if (left)
			return left;
		r = native_issue(f);
	}
	return r;
}
