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

/* Where byte off of the file is now, and how far; it stays there until anchors_release().  NULL: nowhere. */
static void *hold_bytes(struct address_space *m, u64 off, bool write, u64 *avail)
{
	void *at;

	anchors_hold();
	install_lock();
	at = anchor_bytes(m->dev, m->ino, off, write, avail);
	install_unlock();
	return at;
}

static long copy_bytes(struct address_space *m, u64 off, void *buf, size_t len, bool write)
{
	u64 avail = 0, left = len;
	u8 *at = hold_bytes(m, off, write, &avail);

	len = MIN(len, avail);
	if (at)
		left = write ? user_copy(at, buf, len) : user_copy(buf, at, len);
	anchors_release();
	return at ? (long)(len - left) : -EIO;
}

static long hostfile_copy_out(struct address_space *m, u64 off, void *dst, size_t len)
{
	return copy_bytes(m, off, dst, len, false);
}

static long hostfile_copy_in(struct address_space *m, u64 off, const void *src, size_t len)
{
	return copy_bytes(m, off, (void *)src, len, true);
}

/* msync or madvise of [start, end) through anchors, each of which may end before the range does. */
static int for_bytes(struct address_space *m, u64 start, u64 end, bool write, long nr, int how)
{
	int err = 0;

	while (!err && start < end) {
		u64 avail = 0;
		void *at = hold_bytes(m, start, write, &avail);

		avail = MIN(avail, end - start);
		err = at ? (int)host_call(nr, at, avail, how) : -EIO;
		anchors_release();
		start += avail;
	}
	return err;
}

/* Through a writable anchor: the host writes nothing for a mapping that cannot write, which is what private ones have.  Without one
 * there is nothing that this process wrote. */
static int hostfile_sync(struct address_space *m, u64 start, u64 end)
{
	int err = for_bytes(m, start & PAGE_MASK, PAGE_ALIGN(end), true, __NR_msync, MS_SYNC);

	return err == -EIO ? 0 : err;
}

/* The host's own punch, through the anchor.  (No access, no anchor: EACCES was said before.)  Where no anchor reaches no file does. */
static int hostfile_punch_hole(struct address_space *m, u64 start, u64 end)
{
	int err = for_bytes(m, start, end, true, __NR_madvise, MADV_REMOVE);

	return err == -EIO && start >= ANCHOR_REACH ? -EFBIG : err;
}

static int hostfile_mincore(struct address_space *m, u64 index, u64 n, u8 *vec)
{
	u64 avail = 0, i;
	void *at = hold_bytes(m, index << PAGE_SHIFT, false, &avail);
	long r = at ? host_call(__NR_mincore, at, MIN(n << PAGE_SHIFT, PAGE_ALIGN(avail)), vec) : -EIO;

	anchors_release();
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

/* Pipes, sockets and the like: the host says whether their file system forbids execution, which is asked before whether
 * they can be mapped at all. */
static bool noexec_special(int fd)
{
	long ret = host_call(__NR_mmap, 0, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);

	if (ret < 0)
		return ret == -EPERM;
	host_call(__NR_munmap, ret, PAGE_SIZE);
	return false;
}

#define F_GET_SEALS_ 1034
#define SEALS_WRITE 0x18 /* F_SEAL_WRITE | F_SEAL_FUTURE_WRITE */
static bool sealed_against_writing(int fd)
{
	long seals = host_call(__NR_fcntl, fd, F_GET_SEALS_);

	return seals > 0 && (seals & SEALS_WRITE);
}

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

/* 0 or errno.  What is sealed against writing cannot be mapped for it, not even for a moment. */
static long make_anchor(int fd, const struct hostfile_info *info, u64 end, bool shared, u32 mode)
{
	return anchor_create(fd, info->dev, info->ino, end, shared && (mode & FMODE_WRITE) && !(mode & FMODE_SEAL_WRITE));
}

/* size() says nothing (above), but a miss need not bring in what most likely is not there. */
static void note_size(struct address_space *m, u64 size)
{
	u64 pages = PAGE_ALIGN(size) >> PAGE_SHIFT;

	if (READ_ONCE(m->ra_end) == pages)
		return;
	spin_lock(&m->q->lock);
	m->ra_end = pages;
	spin_unlock(&m->q->lock);
}

struct file *hostfile_open(int fd, u64 map_end, bool shared)
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
	if (!ret && !info.regular && noexec_special(fd))
		mode |= FMODE_NOEXEC;
	if (!ret && info.regular && shared && (mode & FMODE_WRITE) && sealed_against_writing(fd))
		mode |= FMODE_SEAL_WRITE;
	/* What cannot be mapped is refused by the core, in Linux's order.  No anchor reaches absurdly far behind the end. */
	if (map_end > info.size && map_end - info.size > ANCHOR_REACH)
		map_end = info.size;
	if (!ret && info.regular && (mode & FMODE_READ))
		ret = make_anchor(fd, &info, MAX(MAX(map_end, info.size), PAGE_SIZE), shared, mode);
	if (ret)
		return ERR_PTR(ret);
	patch_note_file(info.dev, info.ino, info.size, info.mtime_sec, info.mtime_nsec);
	m = mapping_get(q, info.dev, info.ino, &hostfile_ops, AS_TOKEN);
	if (!m)
		return ERR_PTR(-ENOMEM);
	note_size(m, info.size);
	path_of(fd, path, sizeof(path));
	f = file_create(q, m, mode, path);
	mapping_put(m);
	return f ? f : ERR_PTR(-ENOMEM);
}

/*
 * The loader maps a library whole and then its segments over that: the file is the one that is there, and the host need not be asked
 * for its name and its file system again.  NULL: it is another one.  Counted, as by hostfile_open().
 */
struct file *hostfile_again(int fd, const struct hostfile_info *info, u64 addr, u64 map_end)
{
	struct mm_struct *mm = kproc.mm;
	long flags = host_call(__NR_fcntl, fd, F_GETFL);
	struct vm_area_struct *v;
	struct file *f = NULL;

	if (flags < 0 || (flags & (O_PATH | O_ACCMODE)) != O_RDONLY || map_end > PAGE_ALIGN(info->size))
		return NULL;
	if (make_anchor(fd, info, info->size, false, FMODE_READ)) /* there is one, but for a process that shares another's memory */
		return NULL;
	spin_lock(&mm->lock);
	v = vma_lookup(mm, addr);
	if (v && v->vm_file && v->vm_file->mapping->dev == info->dev && v->vm_file->mapping->ino == info->ino &&
	    !(v->vm_file->mode & ~(FMODE_READ | FMODE_NOEXEC))) {
		f = v->vm_file;
		file_get_held(f);
	}
	spin_unlock(&mm->lock);
	return f;
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
