/*
 * Vectors of buffers for the host.
 *
 * Each segment is copied (small input), pinned, or, when all pins are in use, moved through a private buffer.  Where
 * short transfers are legal, a vector that is too large or partly unmapped is cut off; messages are not.
 */
#include "native.h"

#define IOV_BOUNCE_MAX NATIVE_PIECE /* bytes in private buffers where a short transfer is legal */

enum { SEG_TAKEN = 0, SEG_STOP = 1 };

static int add_segment(struct native_iov *v, void *host, u64 len, u64 bounce)
{
	v->host[v->n] = (struct native_iovec){ .base = (u64)host, .len = len };
	v->bounce[v->n] = bounce;
	v->n++;
	v->bytes += len;
	return SEG_TAKEN;
}

/* Faults end a vector that may be cut off, unless they come first. */
static int segment_failed(const struct native_iov *v, unsigned flags, int error)
{
	return v->bytes && !(flags & IOV_WHOLE) ? SEG_STOP : error;
}

static int bounce_segment(struct native_frame *f, u64 addr, u64 len, unsigned flags, struct native_iov *v)
{
	void *p;

	if (!(flags & IOV_WHOLE)) {
		len = MIN(len, IOV_BOUNCE_MAX - MIN(v->bounced, IOV_BOUNCE_MAX));
		if (!len)
			return SEG_STOP;
	}
	p = native_alloc(f, len);
	if (!p)
		return segment_failed(v, flags, -ENOMEM);
	if (!(flags & IOV_WRITE) && copy_from_user(p, addr, len))
		return segment_failed(v, flags, -EFAULT);
	v->bounced += len;
	return add_segment(v, p, len, flags & IOV_WRITE ? addr : 0);
}

static int pin_segment(struct native_frame *f, u64 addr, u64 len, unsigned flags, struct native_iov *v)
{
	bool write = flags & IOV_WRITE;
	s64 got;

	if (flags & IOV_WHOLE) {
		got = native_pin(f, addr, len, write);
		got = got ? got : (s64)len;
	} else {
		got = native_pin_transfer(f, addr, len, write);
	}
	if (got == -E2BIG)
		return bounce_segment(f, addr, len, flags, v);
	if (got <= 0)
		return segment_failed(v, flags, got ? (int)got : -EFAULT);
	add_segment(v, (void *)addr, (u64)got, 0);
	return (u64)got < len ? SEG_STOP : SEG_TAKEN;
}

static int take_segment(struct native_frame *f, u64 addr, u64 len, unsigned flags, struct native_iov *v)
{
	u64 room = NATIVE_MAX_RW - v->bytes;
	bool cut = false;
	int r;

	if (!(flags & IOV_WHOLE))
		room = MIN(room, native_bulk_limit() - MIN(v->bytes, native_bulk_limit()));
	if (!room)
		return SEG_STOP;
	if (len > room) {
		len = room;
		cut = true;
	}
	if (!(flags & IOV_WRITE) && len <= NATIVE_SMALL && f->used + len + 16 <= NATIVE_ARENA) {
		void *p = native_alloc(f, len);

		if (!copy_from_user(p, addr, len))
			r = add_segment(v, p, len, 0);
		else
			r = pin_segment(f, addr, len, flags, v);
	} else {
		r = pin_segment(f, addr, len, flags, v);
	}
	return r == SEG_TAKEN && cut ? SEG_STOP : r;
}

/* Linux refuses the whole vector for one impossible length (import_iovec). */
static int check_lengths(const struct native_iovec *u, u64 n, u64 *total)
{
	u64 i;

	*total = 0;
	for (i = 0; i < n; i++) {
		if (u[i].len >> 63)
			return -EINVAL;
		*total = MIN(*total + u[i].len, NATIVE_MAX_RW);
	}
	return 0;
}

int native_iov_get(struct native_frame *f, u64 user, u64 n, u64 skip, unsigned flags, struct native_iov *v)
{
	struct native_iovec *u;
	u64 i;
	int r;

	*v = (struct native_iov){ 0 };
	if (n > UIO_MAXIOV)
		return -EINVAL;
	if (!n)
		return 0;
	u = native_alloc(f, n * sizeof(*u));
	v->host = native_alloc(f, n * sizeof(*v->host));
	v->bounce = native_alloc(f, n * sizeof(*v->bounce));
	if (!u || !v->host || !v->bounce)
		return -ENOMEM;
	if (copy_from_user(u, user, n * sizeof(*u)))
		return -EFAULT;
	r = check_lengths(u, n, &v->wanted);
	for (i = 0; i < n && !r; i++) {
		u64 off = MIN(skip, u[i].len);

		skip -= off;
		if (u[i].len > off)
			r = take_segment(f, u[i].base + off, u[i].len - off, flags, v);
	}
	return r < 0 ? r : 0;
}

int native_iov_put(const struct native_iov *v, u64 done)
{
	u64 i;

	for (i = 0; i < v->n && done; i++) {
		u64 n = MIN(done, v->host[i].len);

		if (v->bounce[i] && copy_to_user(v->bounce[i], (void *)v->host[i].base, n))
			return -EFAULT;
		done -= n;
	}
	return 0;
}
