/*
 * Sockets: options and messages.
 *
 * A message consumed from a socket cannot be put back, so everything that recvmsg writes (data, address, control
 * data, the header itself) is pinned before.  recvmmsg and sendmmsg are done message by message: one message may take all pins.
 */
#include "native.h"
#include "x86_64/native_nr.h"

#define SOL_SOCKET_ 1
#define SOL_TCP_ 6
#define SO_ATTACH_FILTER_ 26 /* also SO_GET_FILTER */
#define SO_ATTACH_REUSEPORT_CBPF_ 51
#define SO_ZEROCOPY_ 60
#define TCP_ZEROCOPY_RECEIVE_ 35
#define EOPNOTSUPP_ 95
#define ENOPROTOOPT_ 92
#define ENOBUFS_ 105
#define FILTER_BYTES 8u      /* struct sock_filter */
#define FILTER_MAX 4096u     /* BPF_MAXINSNS */
#define SOCKADDR_MAX 128u    /* struct sockaddr_storage */
#define CONTROL_MAX (1u << 20)
#define RECV_MAX (16ull << 20) /* more than any socket buffer: a datagram must not be cut */
#define MSG_OOB_ 0x1u
#define MSG_DONTWAIT_ 0x40u
#define MSG_WAITFORONE_ 0x10000u
#define NSEC_PER_SEC 1000000000ull

struct msghdr_host {
	u64 name;
	s32 namelen;
	u32 pad1;
	u64 iov, iovlen, control, controllen;
	u32 flags, pad2;
};
_Static_assert(sizeof(struct msghdr_host) == 56, "struct user_msghdr");
#define MMSG_BYTES 64u       /* struct mmsghdr */
#define MMSG_LEN 56u         /* offset of msg_len */

/* struct sock_fprog { u16 len; struct sock_filter *filter; } */
static long set_filter(struct native_frame *f)
{
	struct { u16 len, pad[3]; u64 filter; } *prog;
	int r;

	if ((u32)f->a[4] != sizeof(*prog) || !f->a[3])
		return native_issue(f);
	r = native_in(f, f->a[3], sizeof(*prog), &f->h[3]);
	if (r)
		return r;
	prog = (void *)f->h[3];
	if (prog->len <= FILTER_MAX)
		r = native_in(f, prog->filter, (u64)prog->len * FILTER_BYTES, &prog->filter);
	return r ? r : native_issue(f);
}

/* Without SO_ZEROCOPY the host copies, whatever MSG_ZEROCOPY says.  As from a kind of socket that does not know it. */
static long refuse_zerocopy(struct native_frame *f)
{
	if (first_time(SAID_ZEROCOPY))
		klog("SO_ZEROCOPY refused: the host would read the pages after the call, when nothing is pinned any more");
	return (u32)f->a[4] < 4 ? -EINVAL : -EOPNOTSUPP_;
}

long native_setsockopt(struct native_frame *f)
{
	static const struct native_arg value = { ARG_VALUE, 0, 0 };
	const struct native_arg d[4] = { { ARG_FD, 0, 0 }, value, value, { ARG_INBUF, 4, 1 } };

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if ((s32)f->a[1] == SOL_SOCKET_ &&
	    ((s32)f->a[2] == SO_ATTACH_FILTER_ || (s32)f->a[2] == SO_ATTACH_REUSEPORT_CBPF_))
		return set_filter(f);
	if ((s32)f->a[1] == SOL_SOCKET_ && (s32)f->a[2] == SO_ZEROCOPY_)
		return refuse_zerocopy(f);
	return native_run(f, d, 4);
}

long native_getsockopt(struct native_frame *f)
{
	static const struct native_arg value = { ARG_VALUE, 0, 0 };
	const struct native_arg d[5] = { { ARG_FD, 0, 0 }, value, value, { ARG_OUTLEN, 4, 65535 }, { ARG_LEN, 0, 4 } };
	u32 n;
	int r;

	if ((s32)f->a[1] == SOL_TCP_ && (s32)f->a[2] == TCP_ZEROCOPY_RECEIVE_)
		return -ENOPROTOOPT_; /* it maps host pages into the caller */
	if ((s32)f->a[1] == SOL_SOCKET_ && (s32)f->a[2] == SO_ATTACH_FILTER_) {
		/* SO_GET_FILTER counts instructions. */
		if (copy_from_user(&n, f->a[4], sizeof(n)))
			return -EFAULT;
		r = f->a[3] ? native_pin(f, f->a[3], (u64)MIN(n, FILTER_MAX) * FILTER_BYTES, true) : 0;
		if (r)
			return r;
	}
	return native_run(f, d, 5);
}

/* ---- sendto, recvfrom ---- */

static int name_in(struct native_frame *f, u64 user, u64 len, u64 *out)
{
	if ((s32)len <= 0)
		return 0; /* the host refuses a negative length */
	return native_in(f, user, MIN(len, SOCKADDR_MAX), out);
}

long native_sendto(struct native_frame *f)
{
	u64 len = MIN(f->a[2], NATIVE_MAX_RW);
	s64 got = (s64)len;
	int r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	r = name_in(f, f->a[4], (u32)f->a[5], &f->h[4]);
	if (r)
		return r;
	if (len <= NATIVE_SMALL) {
		r = native_in(f, f->a[1], len, &f->h[1]);
	} else if (len <= native_bulk_limit()) {
		r = native_pin(f, f->a[1], len, false);
	} else {
		got = native_pin_prefix(f, f->a[1], native_bulk_limit(), false);
		r = got < 0 ? (int)got : 0;
	}
	if (r)
		return r;
	f->h[2] = (u64)got;
	return native_issue(f);
}

long native_recvfrom(struct native_frame *f)
{
	u64 len = MIN(f->a[2], MIN(RECV_MAX, native_bulk_limit()));
	s64 got;
	long ret;
	int r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	r = native_prepare_arg(f, 4, (struct native_arg){ ARG_OUTLEN, 5, SOCKADDR_MAX });
	if (r)
		return r;
	got = native_pin_prefix(f, f->a[1], len, true);
	if (got < 0)
		return got;
	f->h[2] = (u64)got;
	ret = native_issue(f);
	if (ret >= 0 && native_copy_outs(f))
		return -EFAULT;
	return ret;
}

/* ---- messages ---- */

static int send_header(struct native_frame *f, u64 user, struct msghdr_host *m)
{
	struct native_iov v;
	int r;

	if (copy_from_user(m, user, sizeof(*m)))
		return -EFAULT;
	if (m->controllen > CONTROL_MAX)
		return -ENOBUFS_;
	r = m->name ? name_in(f, m->name, (u64)(s64)m->namelen, &m->name) : 0;
	if (!r)
		r = native_in(f, m->control, m->controllen, &m->control);
	if (!r)
		r = native_iov_get(f, m->iov, m->iovlen, 0, IOV_WHOLE, &v);
	if (r)
		return r == -EINVAL && m->iovlen > UIO_MAXIOV ? -90 /* EMSGSIZE */ : r;
	m->iov = (u64)v.host;
	m->iovlen = v.n;
	return 0;
}

static long send_message(struct native_frame *f, u64 user)
{
	struct msghdr_host m;
	int r = send_header(f, user, &m);

	if (r)
		return r;
	f->h[1] = (u64)&m;
	f->h[3] = f->h[4] = f->h[5] = 0;
	return native_issue_nr(f, __NR_sendmsg);
}

static int recv_header(struct native_frame *f, u64 user, struct msghdr_host *m, struct native_iov *v)
{
	int r = native_pin(f, user, sizeof(*m), true);

	if (r)
		return r;
	if (copy_from_user(m, user, sizeof(*m)))
		return -EFAULT;
	if (m->name && m->namelen > 0)
		r = native_pin(f, m->name, MIN((u32)m->namelen, SOCKADDR_MAX), true);
	if (!r && m->control)
		r = native_pin(f, m->control, MIN(m->controllen, CONTROL_MAX), true);
	if (!r)
		r = native_iov_get(f, m->iov, m->iovlen, 0, IOV_WRITE | IOV_WHOLE, v);
	if (r)
		return r == -EINVAL && m->iovlen > UIO_MAXIOV ? -90 /* EMSGSIZE */ : r;
	m->controllen = MIN(m->controllen, CONTROL_MAX);
	m->iov = (u64)v->host;
	m->iovlen = v->n;
	return 0;
}

/* The fields of the header that recvmsg changes. */
static int recv_header_back(u64 user, const struct msghdr_host *m, bool name)
{
	if (name && copy_to_user(user + offsetof(struct msghdr_host, namelen), &m->namelen, sizeof(m->namelen)))
		return -EFAULT;
	if (copy_to_user(user + offsetof(struct msghdr_host, controllen), &m->controllen, sizeof(m->controllen)) ||
	    copy_to_user(user + offsetof(struct msghdr_host, flags), &m->flags, sizeof(m->flags)))
		return -EFAULT;
	return 0;
}

static long recv_message(struct native_frame *f, u64 user, u64 flags, u32 *msg_flags)
{
	struct msghdr_host m;
	struct native_iov v;
	long ret;
	int r = recv_header(f, user, &m, &v);

	if (r)
		return r;
	f->h[1] = (u64)&m;
	f->h[2] = flags;
	f->h[3] = f->h[4] = f->h[5] = 0;
	ret = native_issue_nr(f, __NR_recvmsg);
	if (ret < 0)
		return ret;
	*msg_flags = m.flags;
	/* With MSG_TRUNC the result is the message's length, which may exceed the buffers. */
	if (native_iov_put(&v, MIN((u64)ret, v.bytes)) || recv_header_back(user, &m, m.name != 0))
		return -EFAULT;
	return ret;
}

long native_sendmsg(struct native_frame *f)
{
	return native_check_fd(f->a[0]) ? -EBADF : send_message(f, f->a[1]);
}

long native_recvmsg(struct native_frame *f)
{
	u32 msg_flags;

	return native_check_fd(f->a[0]) ? -EBADF : recv_message(f, f->a[1], f->a[2], &msg_flags);
}

/* sendmmsg(fd, msgs, n, flags) */
long native_sendmmsg(struct native_frame *f)
{
	u32 n = (u32)MIN(f->a[2] & 0xffffffff, UIO_MAXIOV), done;
	u64 flags = f->a[3];

	if (native_check_fd(f->a[0]))
		return -EBADF;
	for (done = 0; done < n; done++) {
		u64 user = f->a[1] + (u64)done * MMSG_BYTES;
		u32 len;
		long r;

		/* The length will have to be written. */
		r = native_pin(f, user, MMSG_BYTES, true);
		f->h[2] = flags;
		if (!r)
			r = send_message(f, user);
		if (r < 0)
			return done ? (long)done : r;
		len = (u32)r;
		if (copy_to_user(user + MMSG_LEN, &len, sizeof(len)))
			return done ? (long)done : -EFAULT;
		native_frame_release(f);
	}
	return done;
}

static int recv_timeout_in(const struct native_frame *f, u64 *deadline)
{
	struct native_timespec ts;

	*deadline = ~0ull;
	if (!f->a[4])
		return 0;
	if (copy_from_user(&ts, f->a[4], sizeof(ts)))
		return -EFAULT;
	if (ts.sec < 0 || ts.nsec < 0 || (u64)ts.nsec >= NSEC_PER_SEC)
		return -EINVAL;
	if (ts.sec < (s64)(1ull << 32))
		*deadline = port_clock_ns() + (u64)ts.sec * NSEC_PER_SEC + (u64)ts.nsec;
	return 0;
}

static int recv_timeout_out(const struct native_frame *f, u64 deadline)
{
	u64 now = port_clock_ns(), left = deadline > now ? deadline - now : 0;
	struct native_timespec ts = { .sec = (s64)(left / NSEC_PER_SEC), .nsec = (s64)(left % NSEC_PER_SEC) };

	return deadline == ~0ull ? 0 : copy_to_user(f->a[4], &ts, sizeof(ts));
}

/* recvmmsg(fd, msgs, n, flags, timeout).  The timeout is looked at after each message, as on Linux. */
long native_recvmmsg(struct native_frame *f)
{
	u32 n = (u32)MIN(f->a[2] & 0xffffffff, UIO_MAXIOV), done, msg_flags = 0;
	u64 flags = f->a[3] & ~(u64)MSG_WAITFORONE_, deadline;
	int err = recv_timeout_in(f, &deadline);

	if (err)
		return err;
	if (native_check_fd(f->a[0]))
		return -EBADF;
	for (done = 0; done < n;) {
		u64 user = f->a[1] + (u64)done * MMSG_BYTES;
		u32 len;
		long r = native_pin(f, user, MMSG_BYTES, true);

		if (!r)
			r = recv_message(f, user, flags, &msg_flags);
		if (r < 0 && !done)
			return r;
		if (r < 0)
			break;
		len = (u32)r;
		if (copy_to_user(user + MMSG_LEN, &len, sizeof(len)))
			return done ? (long)done : -EFAULT;
		done++;
		native_frame_release(f);
		if (f->a[3] & MSG_WAITFORONE_)
			flags |= MSG_DONTWAIT_;
		if ((deadline != ~0ull && port_clock_ns() >= deadline) || (msg_flags & MSG_OOB_))
			break;
	}
	return recv_timeout_out(f, deadline) ? -EFAULT : (long)done;
}
