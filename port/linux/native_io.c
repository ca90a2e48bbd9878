/*
 * read and write in all their forms.
 *
 * Buffers are pinned, so that the host copies straight into them.  Reads go in pieces (native.h) and stop at the first
 * short one; only for regular files and block devices the next piece is tried, because elsewhere it could sleep although
 * there is something to return.  Writes carry on until everything is written, as callers of blocking descriptors expect.
 */
#include "native.h"
#include "procfs.h"
#include "x86_64/native_nr.h"
#include <asm/stat.h>

#define MODE_TYPE 0170000u
#define MODE_REGULAR 0100000u
#define MODE_BLOCK 0060000u
#define HOST_F_GETFL 3
#define HOST_F_GETPIPE_SZ 1032
#define HOST_O_ACCMODE 3
#define HOST_SPLICE_F_NONBLOCK 2
#define HOST_RWF_NOWAIT 8

/* Never short before the end, and never asleep for want of data. */
static bool reads_fully(int fd)
{
	struct stat st;

	if (host_call(__NR_fstat, fd, &st))
		return false;
	return (st.st_mode & MODE_TYPE) == MODE_REGULAR || (st.st_mode & MODE_TYPE) == MODE_BLOCK;
}

static bool is_positioned(long nr)
{
	return nr == __NR_pread64 || nr == __NR_pwrite64;
}

/* One piece at `done`; *want = bytes that were possible. */
static long read_piece(struct native_frame *f, u64 done, u64 *want)
{
	s64 n = native_pin_transfer(f, f->a[1] + done, *want, true);

	if (n < 0)
		return n;
	*want = (u64)n;
	f->h[1] = f->a[1] + done;
	f->h[2] = (u64)n;
	if (is_positioned(f->nr))
		f->h[3] = f->a[3] + done;
	return native_issue(f);
}

long native_read(struct native_frame *f)
{
	u64 len = MIN(f->a[2], NATIVE_MAX_RW), done = 0;
	s64 offset = is_positioned(f->nr) ? (s64)f->a[3] : -1;
	int fd = (s32)f->a[0];
	bool retried = false;
	long r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (is_positioned(f->nr) && offset < 0)
		return -EINVAL;
	if (procfs_read(fd, f->a[1], len, offset, &r))
		return r;
	for (;;) {
		u64 want = MIN(len - done, NATIVE_PIECE), got = want;

		r = read_piece(f, done, &got);
		if (r == -EFAULT && !retried && f->pinned && reads_fully(fd)) {
			/* A mapping changed under us; nothing is lost in a file. */
			retried = true;
			native_unpin(f);
			continue;
		}
		if (r < 0)
			return done ? (long)done : r;
		done += (u64)r;
		if ((u64)r < want || done == len || !reads_fully(fd))
			return (long)done;
		native_unpin(f);
	}
}

static long write_piece(struct native_frame *f, u64 done, u64 want)
{
	s64 n = (s64)want;

	f->h[1] = f->a[1] + done;
	if (want && want <= NATIVE_SMALL) {
		int r = native_in(f, f->a[1] + done, want, &f->h[1]);

		if (r) {
			/* The host writes what can be read of it. */
			n = native_pin_transfer(f, f->a[1] + done, want, false);
			f->h[1] = f->a[1] + done;
		}
	} else {
		n = native_pin_transfer(f, f->a[1] + done, want, false);
	}
	if (n < 0)
		return n;
	f->h[2] = (u64)n;
	if (is_positioned(f->nr))
		f->h[3] = f->a[3] + done;
	return native_issue(f);
}

long native_write(struct native_frame *f)
{
	u64 len = MIN(f->a[2], NATIVE_MAX_RW), done = 0;
	s64 offset = is_positioned(f->nr) ? (s64)f->a[3] : -1;
	long r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (is_positioned(f->nr) && offset < 0)
		return -EINVAL;
	if (procfs_write((s32)f->a[0], f->a[1], len, offset, &r))
		return r;
	for (;;) {
		r = write_piece(f, done, MIN(len - done, native_bulk_limit()));
		if (r < 0)
			return done ? (long)done : r;
		done += (u64)r;
		/* Cut short by the host (r < h[2]) or by us (r == h[2] < len - done)? */
		if ((u64)r < f->h[2] || done == len || !r)
			return (long)done;
		native_unpin(f);
	}
}

/* preadv2 and pwritev2 know -1 as "the file's own position". */
static void advance_offset(struct native_frame *f, u64 done)
{
	bool v2 = f->nr == __NR_preadv2 || f->nr == __NR_pwritev2;

	if (f->nr == __NR_readv || f->nr == __NR_writev || (v2 && f->a[3] == ~0ull))
		return;
	f->h[3] = f->a[3] + done;
}

/* Files under /proc that the machine serves take one buffer after another, as Linux's files without iterators do.  False: the host's. */
static bool vector_procfs(struct native_frame *f, bool write_to_guest, long *ret)
{
	bool v2 = f->nr == __NR_preadv2 || f->nr == __NR_pwritev2;
	bool own = f->nr == __NR_readv || f->nr == __NR_writev || (v2 && f->a[3] == ~0ull);
	u64 n = (u32)f->a[2], done = 0;

	*ret = 0;
	if (n > UIO_MAXIOV || (!own && (s64)f->a[3] < 0))
		return false;
	for (u64 i = 0, len = 0; i < n && (u64)*ret == len; i++) {
		struct native_iovec u;
		s64 at = own ? -1 : (s64)(f->a[3] + done);

		if (copy_from_user(&u, f->a[1] + i * sizeof(u), sizeof(u)))
			return false;
		len = MIN(u.len, NATIVE_MAX_RW);
		if (write_to_guest ? !procfs_read((s32)f->a[0], u.base, len, at, ret) :
				     !procfs_write((s32)f->a[0], u.base, len, at, ret))
			return false;
		done += *ret > 0 ? (u64)*ret : 0;
	}
	*ret = done ? (long)done : *ret;
	return n;
}

static long vector_io(struct native_frame *f, bool write_to_guest)
{
	unsigned flags = write_to_guest ? IOV_WRITE : 0;
	struct native_iov v;
	u64 done = 0;
	long r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (vector_procfs(f, write_to_guest, &r))
		return r;
	procfs_refresh((s32)f->a[0]);
	for (;;) {
		r = native_iov_get(f, f->a[1], (u32)f->a[2], done, flags, &v);
		if (r)
			return done ? (long)done : r;
		f->h[1] = (u64)v.host;
		f->h[2] = v.n;
		advance_offset(f, done);
		r = native_issue(f);
		if (r >= 0 && write_to_guest && native_iov_put(&v, (u64)r))
			r = -EFAULT;
		if (r < 0)
			return done ? (long)done : r;
		done += (u64)r;
		if (!r || (u64)r < v.bytes || done >= v.wanted || (write_to_guest && !reads_fully((s32)f->a[0])))
			return (long)done;
		native_frame_release(f);
	}
}

long native_readv(struct native_frame *f)
{
	return vector_io(f, true);
}

long native_writev(struct native_frame *f)
{
	return vector_io(f, false);
}

/* Pages cannot be given to a pipe (they would have to stay pinned until they are read): copied instead, which the call
 * allows.  (fd, iov, n, flags) becomes p{read,write}v2(fd, iov, n, -1, -1, flags). */
long native_vmsplice(struct native_frame *f)
{
	bool nonblock = f->a[3] & HOST_SPLICE_F_NONBLOCK;
	struct native_iov v;
	bool reads;
	long r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (first_time(SAID_VMSPLICE))
		klog("vmsplice copies: pages in a pipe would outlive the call");
	r = host_call(__NR_fcntl, f->a[0], HOST_F_GETPIPE_SZ);
	if (r < 0)
		return -EBADF; /* no pipe */
	r = host_call(__NR_fcntl, f->a[0], HOST_F_GETFL);
	if (r < 0)
		return r;
	reads = (r & HOST_O_ACCMODE) == 0;
	r = native_iov_get(f, f->a[1], (u32)f->a[2], 0, reads ? IOV_WRITE : 0, &v);
	if (r)
		return r;
	f->h[1] = (u64)v.host;
	f->h[2] = v.n;
	f->h[3] = f->h[4] = ~0ull;
	f->h[5] = nonblock ? HOST_RWF_NOWAIT : 0;
	r = native_issue_nr(f, reads ? __NR_preadv2 : __NR_pwritev2);
	if (r > 0 && reads && native_iov_put(&v, (u64)r))
		return -EFAULT;
	return r;
}

long native_getrandom(struct native_frame *f)
{
	u64 len = MIN(f->a[1], NATIVE_MAX_RW), done = 0;

	do {
		s64 n = native_pin_prefix(f, f->a[0] + done, MIN(len - done, NATIVE_PIECE), true);
		long r;

		if (n < 0)
			return done ? (long)done : n;
		f->h[0] = f->a[0] + done;
		f->h[1] = (u64)n;
		r = native_issue(f);
		if (r < 0)
			return done ? (long)done : r;
		done += (u64)r;
		if (r < n || !r)
			break;
		native_unpin(f);
	} while (done < len);
	return (long)done;
}
