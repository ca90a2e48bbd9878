/*
 * Reading directories.  The kernel's own descriptor is left out of /proc/PID/fd and fdinfo, so that programs which
 * walk them (to close everything, to look for leaks) see only what is theirs.
 */
#include "native.h"
#include "x86_64/native_nr.h"
#include <fmt.h>
#include <asm/statfs.h>

#define PROC_MAGIC 0x9fa0
#define RECLEN_OFFSET 16u /* in struct linux_dirent and linux_dirent64: behind inode and offset */

static bool is_descriptor_dir(int fd)
{
	char link[32], target[64];
	struct fmt_buf b = fmt_init(link, sizeof(link));
	struct statfs sf;
	long n;

	if (host_call(__NR_fstatfs, fd, &sf) || sf.f_type != PROC_MAGIC)
		return false;
	fmt_printf(&b, "/proc/self/fd/%d", fd);
	n = host_call(__NR_readlink, link, target, sizeof(target));
	return (n > 3 && !memcmp(target + n - 3, "/fd", 3)) || (n > 7 && !memcmp(target + n - 7, "/fdinfo", 7));
}

/* Takes the entry of that name out; returns the bytes that remain. */
static u64 remove_entry(u8 *buf, u64 bytes, unsigned name_offset, const char *name)
{
	u64 at = 0;

	while (at + name_offset < bytes) {
		u16 len;

		memcpy(&len, buf + at + RECLEN_OFFSET, sizeof(len));
		if (!len || len > bytes - at)
			break;
		if (!strcmp((const char *)buf + at + name_offset, name)) {
			memmove(buf + at, buf + at + len, bytes - at - len);
			return bytes - len;
		}
		at += len;
	}
	return bytes;
}

/* The same entries without ours.  0 stands for the end, so a piece that held nothing else is not returned. */
static long hide_entry(struct native_frame *f, long bytes)
{
	unsigned name_offset = f->nr == __NR_getdents64 ? 19 : 18;
	char name[12];
	struct fmt_buf b = fmt_init(name, sizeof(name));
	u8 *buf = native_alloc(f, (u64)bytes);
	u64 left;

	if (!buf || copy_from_user(buf, f->a[1], (u64)bytes))
		return bytes;
	fmt_printf(&b, "%d", KERNEL_FD);
	left = remove_entry(buf, (u64)bytes, name_offset, name);
	if (left != (u64)bytes && left && copy_to_user(f->a[1], buf, left))
		return -EFAULT;
	return (long)left;
}

long native_getdents(struct native_frame *f)
{
	static const struct native_arg d[3] = { { ARG_FD, 0, 0 }, { ARG_OUTBUF, 2, 1 }, { ARG_VALUE, 0, 0 } };
	long r = native_run(f, d, 3);

	while (r > 0 && is_descriptor_dir((s32)f->a[0])) {
		long left = hide_entry(f, r);

		if (left)
			return left;
		r = native_issue(f);
	}
	return r;
}
