/*
 * System calls that the host executes: the interpreter of native_table.
 *
 * For each argument the table says what it points to; native_prepare_arg() makes that usable (copy or pin, native.h),
 * then the host's call is issued, outputs are copied back and pins dropped.  Calls whose arguments depend on
 * a command have functions of their own, which are built from the same pieces.
 *
 * No locks are held here; the core is entered only through user_pin() and copies.
 */
#include "native.h"
#include "procfs.h"
#include "x86_64/native_nr.h"
#include <linux/fcntl.h>

long native_issue_nr(struct native_frame *f, long nr)
{
	const u64 *h = f->h;
	long r;

	if (!(f->call->flags & NF_BLOCK))
		return host_syscall(nr, h[0], h[1], h[2], h[3], h[4], h[5]);
	do {
		r = host_syscall_interruptible(nr, h[0], h[1], h[2], h[3], h[4], h[5]);
	} while (r == -EINTR && !native_pending(f));
	return r;
}

long native_issue(struct native_frame *f)
{
	return native_issue_nr(f, f->nr);
}

/* arg[len] * size, or ~0 when that is more than any guest has. */
static u64 buffer_bytes(const struct native_frame *f, struct native_arg d)
{
	u64 n = f->a[d.len];

	/* Lengths are size_t or int; a negative int is for the host to refuse. */
	if (n >> 63 || (d.size > 1 && (s32)n < 0))
		return 0;
	if (n > GUEST_END / d.size)
		return ~0ull;
	return n * d.size;
}

static int prepare_outbuf(struct native_frame *f, unsigned i, struct native_arg d)
{
	u64 bytes = MIN(buffer_bytes(f, d), NATIVE_MAX_RW);
	s64 got;

	f->h[i] = f->a[i];
	if (!f->a[i] || !bytes)
		return 0;
	/* Only a byte-counted buffer can be shortened without changing the meaning. */
	if (d.size != 1)
		return native_pin(f, f->a[i], bytes, true);
	got = native_pin_prefix(f, f->a[i], MIN(bytes, NATIVE_PIECE), true);
	if (got < 0)
		return (int)got;
	f->h[d.len] = (u64)got;
	return 0;
}

/* Buffer and length of accept(2) and its like.  The length is passed as a copy, so that the host uses the one that was
 * checked; the guest's is checked for writing first if the call cannot be taken back. */
static int prepare_outlen(struct native_frame *f, unsigned i, struct native_arg d)
{
	s32 len;
	int r;

	f->h[i] = f->a[i];
	f->h[d.len] = f->a[d.len];
	if (!f->a[i] && d.size == 128)
		return 0; /* a socket address not wanted: the length is not looked at */
	r = native_inout(f, f->a[d.len], 4, &f->h[d.len]);
	if (r || !f->a[d.len])
		return r;
	len = *(s32 *)f->h[d.len];
	if (len <= 0 || !f->a[i])
		return 0;
	return native_pin(f, f->a[i], MIN((u64)len, (u64)d.size), true);
}

static int prepare_vsize(struct native_frame *f, unsigned i)
{
	u32 size;

	f->h[i] = f->a[i];
	if (!f->a[i])
		return 0;
	if (copy_from_user(&size, f->a[i], sizeof(size)))
		return -EFAULT;
	return native_in(f, f->a[i], MIN(MAX(size, 4u), (u32)PAGE_SIZE), &f->h[i]);
}

static bool follows_links(const struct native_frame *f)
{
	if (!(f->call->flags & NF_FOLLOW))
		return false;
	if (f->nr == __NR_newfstatat)
		return !(f->a[3] & AT_SYMLINK_NOFOLLOW);
	return f->nr != __NR_statx || !(f->a[2] & AT_SYMLINK_NOFOLLOW);
}

/* /proc/PID/exe of a guest is the host's link to this kernel's loader: the guest's program takes its place. */
static int follow_exe(struct native_frame *f, unsigned i)
{
	size_t n = f->h[i] ? strlen((const char *)f->h[i]) : 0;
	char *path;

	if (n < 3 || strcmp((const char *)f->h[i] + n - 3, "exe"))
		return 0;
	path = native_alloc(f, NATIVE_PATH);
	if (!path)
		return -ENOMEM;
	memcpy(path, (const char *)f->h[i], n + 1);
	procfs_follow_exe(i && f->call->arg[i - 1].kind == ARG_FD ? (s32)f->a[i - 1] : AT_FDCWD, path, NATIVE_PATH);
	f->h[i] = (u64)path;
	return 0;
}

static int prepare_string(struct native_frame *f, unsigned i)
{
	int r = native_string(f, f->a[i], &f->h[i]);

	return r || !follows_links(f) ? r : follow_exe(f, i);
}

/* Calls that read a file, or let it be read, in ways that procfs.c does not see. */
static bool reads_unseen(long nr)
{
	return nr == __NR_dup || nr == __NR_sendfile || nr == __NR_splice || nr == __NR_tee || nr == __NR_copy_file_range;
}

static int prepare_fd(struct native_frame *f, unsigned i)
{
	if (reads_unseen(f->nr))
		procfs_complete((s32)f->a[i]);
	return native_check_fd(f->a[i]);
}

int native_prepare_arg(struct native_frame *f, unsigned i, struct native_arg d)
{
	u64 bytes;

	switch (d.kind) {
	case ARG_FD:
		return prepare_fd(f, i);
	case ARG_STR:
		return prepare_string(f, i);
	case ARG_IN:
		return native_in(f, f->a[i], d.size, &f->h[i]);
	case ARG_OUT:
		return native_outbuf(f, f->a[i], d.size, &f->h[i]);
	case ARG_INOUT:
		return native_inout(f, f->a[i], d.size, &f->h[i]);
	case ARG_INBUF:
		bytes = buffer_bytes(f, d);
		/* More than the host would take anyway: it looks at the length before the bytes. */
		return bytes > NATIVE_MAX_RW ? 0 : native_inbuf(f, f->a[i], bytes, &f->h[i]);
	case ARG_OUTBUF:
		return prepare_outbuf(f, i, d);
	case ARG_OUTLEN:
		return prepare_outlen(f, i, d);
	case ARG_VSIZE:
		return prepare_vsize(f, i);
	default: /* ARG_VALUE; ARG_LEN is done with its buffer */
		return 0;
	}
}

long native_finish(struct native_frame *f)
{
	long r = native_issue(f);

	if (r == -EFAULT && f->call->flags & NF_RETRY) {
		/* Another thread changed a mapping under us: once more, with everything resident again. */
		unsigned i;

		native_frame_release(f);
		for (i = 0; i < 6; i++)
			f->h[i] = f->a[i];
		for (i = 0; i < 6; i++)
			if (native_prepare_arg(f, i, f->call->arg[i]))
				return -EFAULT;
		r = native_issue(f);
	}
	if (r >= 0 && native_copy_outs(f))
		return -EFAULT;
	return r;
}

long native_run(struct native_frame *f, const struct native_arg *d, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		int r = native_prepare_arg(f, i, d[i]);

		if (r)
			return r;
	}
	return native_finish(f);
}

static long refuse(const struct native_call *c)
{
	/* Every program's libc asks for rseq, and does without. */
	if (c != native_lookup(__NR_rseq) && first_time((u32)(c - native_table)))
		klog("%s refused: %s", c->name, c->why);
	return -(long)c->error;
}

long native_syscall(struct trap *t, long nr, const u64 a[6])
{
	const struct native_call *c = native_lookup(nr);
	struct native_frame f;
	unsigned i;
	long r;

	if (!c)
		return -ENOSYS;
	if (c->class == NC_REFUSED)
		return refuse(c);
	if (!c->described)
		return -ENOSYS; /* the machine's own, and it did not want it */
	f.t = t;
	f.k = t->k;
	f.call = c;
	f.nr = nr;
	f.nouts = 0;
	f.pinned = false;
	f.has_mask = false;
	f.chunks = NULL;
	f.used = 0;
	for (i = 0; i < 6; i++)
		f.h[i] = f.a[i] = a[i];
	r = c->fn ? c->fn(&f) : native_run(&f, c->arg, 6);
	native_frame_release(&f);
	return r;
}
