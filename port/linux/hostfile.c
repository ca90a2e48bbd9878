/*
 * Host files as the core's files: tokens in the machine's page cache, bytes in the host's (design.md 3.10).
 *
 * The size is not asked here: the host itself raises SIGBUS for a touch beyond the end, and a copy from there comes up
 * short.  So size() says "unlimited" and copies report how far they got.
 */
#include "hostfile.h"
#include "hostsys.h"
#include "refill.h"
#include "x86_64/regs.h"
#include <linux/fcntl.h>
#include <asm/stat.h>
#include <asm/statfs.h>

#define ST_NOEXEC 8
#define ANCHOR_REACH (1ull << 40) /* bytes behind the end of a file that a mapping of it may see it grow into */

static long copy_bytes(struct address_space *m, u64 off, void *buf, size_t len, bool write)
{
	u64 avail = 0, left;
	u8 *at;

	install_lock();
	at = anchor_bytes(m->dev, m->ino, off, write, &avail);
	install_unlock();
	if (!at)
		return -EIO;
	len = MIN(len, avail);
	left = write ? user_copy(at, buf, len) : user_copy(buf, at, len);
	return (long)(len - left);
}

static long hostfile_copy_out(struct address_space *m, u64 off, void *dst, size_t len)
{
	return copy_bytes(m, off, dst, len, false);
}

static long hostfile_copy_in(struct address_space *m, u64 off, const void *src, size_t len)
{
	return copy_bytes(m, off, (void *)src, len, true);
}

static int hostfile_sync(struct address_space *m, u64 start, u64 end)
{
	u64 avail = 0;
	void *at;

	install_lock();
	at = anchor_bytes(m->dev, m->ino, start & PAGE_MASK, false, &avail);
	install_unlock();
	if (!at)
		return 0;
	return (int)host_call(__NR_msync, at, MIN(PAGE_ALIGN(end) - (start & PAGE_MASK), avail), MS_SYNC);
}

/* The host's own punch, through the anchor.  (No access, no anchor: EACCES was said before.) */
static int hostfile_punch_hole(struct address_space *m, u64 start, u64 end)
{
	u64 avail = 0;
	void *at;

	install_lock();
	at = anchor_bytes(m->dev, m->ino, start, true, &avail);
	install_unlock();
	return at ? (int)host_call(__NR_madvise, at, MIN(end - start, avail), MADV_REMOVE) : -EIO;
}

static int hostfile_mincore(struct address_space *m, u64 index, u64 n, u8 *vec)
{
	u64 avail = 0, i;
	void *at;
	long r;

	install_lock();
	at = anchor_bytes(m->dev, m->ino, index << PAGE_SHIFT, false, &avail);
	install_unlock();
	r = at ? host_call(__NR_mincore, at, MIN(n << PAGE_SHIFT, PAGE_ALIGN(avail)), vec) : -EIO;
	for (i = 0; !r && i < n; i++)
		vec[i] &= 1; /* the other bits are undefined */
	return (int)r;
}

static u64 hostfile_size(struct address_space *m)
{
	return ~0ull >> 1;
}

const struct mapping_ops hostfile_ops = {
	.copy_in = hostfile_copy_in,
	.copy_out = hostfile_copy_out,
	.sync = hostfile_sync,
	.punch_hole = hostfile_punch_hole,
	.mincore = hostfile_mincore,
	.size = hostfile_size,
};

static u32 mode_of(int fd, long flags)
{
	struct statfs sf;
	u32 mode = 0;

	if ((flags & O_ACCMODE) != O_WRONLY)
		mode |= FMODE_READ;
	if ((flags & O_ACCMODE) != O_RDONLY)
		mode |= FMODE_WRITE;
	if (host_call(__NR_fstatfs, fd, &sf) == 0 && (sf.f_flags & ST_NOEXEC))
		mode |= FMODE_NOEXEC;
	return mode;
}

/* The name as /proc/PID/maps prints it; the host adds " (deleted)" by itself. */
static void path_of(int fd, char *path, size_t size)
{
	char link[40] = "/proc/self/fd/";
	char digits[12], *d = digits + sizeof(digits) - 1, *p = link + 14;
	long n;

	*d = 0;
	do
		*--d = (char)('0' + fd % 10);
	while ((fd /= 10));
	while ((*p++ = *d++))
		;
	n = host_call(__NR_readlink, link, path, size - 1);
	path[n < 0 ? 0 : n] = 0;
}

#define S_IFMT_BITS 0170000
static bool is_kind(const struct stat *st, u32 kind) { return (st->st_mode & S_IFMT_BITS) == kind; }

long hostfile_stat(int fd, struct hostfile_info *info)
{
	struct stat st;
	long ret = host_call(__NR_fstat, fd, &st);

	if (ret < 0)
		return ret;
	info->dev = st.st_dev;
	info->ino = st.st_ino;
	info->rdev = st.st_rdev;
	info->size = (u64)st.st_size;
	info->mtime_sec = st.st_mtime;
	info->mtime_nsec = st.st_mtime_nsec;
	info->mode = st.st_mode;
	info->regular = is_kind(&st, 0100000);
	info->chardev = is_kind(&st, 0020000);
	return 0;
}

/* 0 or errno.  *mode loses FMODE_WRITE when the file is sealed against shared writing and the mapping does not ask for it. */
static long make_anchor(int fd, const struct hostfile_info *info, u64 end, bool shared, bool write, u32 *mode)
{
	bool writable = shared && (*mode & FMODE_WRITE);
	long ret = anchor_create(fd, info->dev, info->ino, end, writable);

	if (ret == -EPERM && writable && !write) {
		*mode &= ~FMODE_WRITE;
		ret = anchor_create(fd, info->dev, info->ino, end, false);
	}
	return ret;
}

struct file *hostfile_open(int fd, u64 map_end, bool shared, bool write)
{
	struct quire *q = kthread()->ctx->q;
	struct hostfile_info info;
	struct address_space *m;
	struct file *f;
	char path[4096];
	u32 mode;
	long ret, flags = host_call(__NR_fcntl, fd, F_GETFL);

	if (flags < 0)
		return ERR_PTR(flags);
	ret = hostfile_stat(fd, &info);
	if (!ret && (flags & O_PATH))
		ret = -EBADF;
	mode = mode_of(fd, flags) | (info.regular ? 0 : FMODE_NOMMAP);
	/* What cannot be mapped is refused by the core, in Linux's order.  No anchor reaches absurdly far behind the end. */
	if (map_end > info.size && map_end - info.size > ANCHOR_REACH)
		map_end = info.size;
	if (!ret && info.regular && (mode & FMODE_READ))
		ret = make_anchor(fd, &info, MAX(map_end, info.size), shared, write, &mode);
	if (ret)
		return ERR_PTR(ret);
	patch_note_file(info.dev, info.ino, info.size, info.mtime_sec, info.mtime_nsec);
	m = mapping_get(q, info.dev, info.ino, &hostfile_ops, AS_TOKEN);
	if (!m)
		return ERR_PTR(-ENOMEM);
	path_of(fd, path, sizeof(path));
	f = file_create(q, m, mode, path);
	mapping_put(m);
	return f ? f : ERR_PTR(-ENOMEM);
}

/* Private copies beyond the new end must go too, and the host knows nothing of those (mmap(2): a touch is SIGBUS). */
static void truncated(const struct hostfile_info *info)
{
	struct address_space *m = mapping_find(kthread()->ctx->q, info->dev, info->ino);

	if (!m)
		return;
	truncate_pagecache(m, info->size);
	mapping_put(m);
}

void hostfile_truncated(int fd)
{
	struct hostfile_info info;

	if (!hostfile_stat(fd, &info) && info.regular)
		truncated(&info);
}

void hostfile_truncated_path(const char *path)
{
	long fd = host_call(__NR_openat, HOST_AT_FDCWD, path, O_PATH | HOST_O_CLOEXEC);

	if (fd < 0)
		return;
	hostfile_truncated((int)fd);
	host_call(__NR_close, fd);
}
