/*
 * Calls that wait with a timeout or a signal mask: poll, select, epoll, sleeping; and interval timers.
 *
 * Time.  -EINTR without a pending signal means that only the kernel's own signal came by; the call is issued again with the
 * time that is left.  Most calls tell: the host writes the remainder into its (kernel) copy of the timeout.  epoll
 * does not; for it the end is computed beforehand.
 *
 * Masks.  The host's mask for the duration of a call must never block the signals this kernel lives on.  When a signal
 * ends the call, its handler returns to the mask before the call: kthread.saved_mask (signal.c).
 */
#include "native.h"
#include "guest_signal.h"
#include "x86_64/native_nr.h"
#include "x86_64/regs.h"

#define POLLFD_BYTES 8u
#define POLLFD_REVENTS 6u       /* offset of revents */
#define POLL_MAX (1u << 20)     /* more descriptors than any limit allows */
#define EPOLL_EVENT_BYTES 12u
#define EPOLL_MAX_EVENTS 65536  /* returned at once; fewer than asked for is legal */
#define EPOLL_CTL_DEL_ 2
#define HOST_TIMER_ABSTIME 1
#define SIGEVENT_BYTES 64u      /* struct sigevent of x86-64 and everywhere else with 64 bits */
/* Two traps per signal take several microseconds; a timer that fires faster would leave no time for the program. */
#define MIN_INTERVAL_NS 100000u
#define NSEC_PER_SEC 1000000000ull

int native_sigmask(struct native_frame *f, u64 user, u64 size, u64 *out)
{
	u64 *mask;
	int r;

	*out = user;
	if (!user || size != 8)
		return 0; /* the host refuses other sizes */
	r = native_in(f, user, 8, out);
	if (r)
		return r;
	mask = (u64 *)*out;
	*mask &= ~(SIGMASK_NEVER | SIGBIT(SIG_KILL) | SIGBIT(SIG_STOP));
	f->has_mask = true;
	f->mask = *mask;
	return 0;
}

void native_sigmask_done(struct native_frame *f, long r)
{
	if (!f->has_mask || r != -EINTR || !native_pending(f))
		return;
	f->k->saved_mask = f->t->uc->sigmask;
	f->k->wait_mask = f->mask;
	f->k->has_saved_mask = 1;
}

/* ---- poll ---- */

/* The host gets a copy of the array; only revents go back, as from Linux. */
static int poll_fds_in(struct native_frame *f, u64 n)
{
	if (n > POLL_MAX)
		return -EINVAL;
	return native_in(f, f->a[0], n * POLLFD_BYTES, &f->h[0]);
}

static int poll_fds_out(struct native_frame *f, u64 n)
{
	u64 i;

	for (i = 0; i < n; i++) {
		u64 off = i * POLLFD_BYTES + POLLFD_REVENTS;

		if (copy_to_user(f->a[0] + off, (void *)(f->h[0] + off), 2))
			return -EFAULT;
	}
	return 0;
}

/* The whole array in one copy when nobody can tell: a copy per element costs a pin each. */
static int poll_fds_back(struct native_frame *f, u64 n)
{
	if (!n)
		return 0;
	if (READ_ONCE(kproc.nthreads) <= 1)
		return copy_to_user(f->a[0], (void *)f->h[0], n * POLLFD_BYTES);
	return poll_fds_out(f, n);
}

static long poll_issue(struct native_frame *f, u64 n)
{
	long r = native_issue_nr(f, __NR_ppoll);

	if (r >= 0 && poll_fds_back(f, n))
		return -EFAULT;
	return r;
}

/* poll(fds, n, ms) as ppoll(fds, n, timespec, NULL): only that tells the time that is left. */
long native_poll(struct native_frame *f)
{
	s32 ms = (s32)f->a[2];
	u32 n = (u32)f->a[1];
	struct native_timespec ts = { .sec = ms / 1000, .nsec = ms % 1000 * 1000000 };
	int r = poll_fds_in(f, n);

	if (r)
		return r;
	f->h[1] = n;
	f->h[2] = ms < 0 ? 0 : (u64)&ts;
	f->h[3] = f->h[4] = 0;
	return poll_issue(f, n);
}

long native_ppoll(struct native_frame *f)
{
	u32 n = (u32)f->a[1];
	int r = poll_fds_in(f, n);
	long ret;

	if (!r)
		r = native_in(f, f->a[2], sizeof(struct native_timespec), &f->h[2]);
	if (!r)
		r = native_sigmask(f, f->a[3], f->a[4], &f->h[3]);
	if (r)
		return r;
	f->h[1] = n;
	ret = poll_issue(f, n);
	native_sigmask_done(f, ret);
	/* Linux writes what is left of the timeout, and does not mind if it cannot. */
	if (f->a[2])
		(void)copy_to_user(f->a[2], (void *)f->h[2], sizeof(struct native_timespec));
	return ret;
}

/* ---- select ---- */

/* a[0] = n, a[1..3] = sets, a[4] = timeout of 16 bytes. */
static int select_args(struct native_frame *f)
{
	s32 n = (s32)f->a[0];
	u64 bytes = n < 0 ? 0 : ((u64)n + 63) / 64 * 8;
	unsigned i;
	int r;

	for (i = 1; i <= 3; i++) {
		r = native_inout(f, f->a[i], MIN(bytes, POLL_MAX / 8), &f->h[i]);
		if (r)
			return r;
	}
	return native_in(f, f->a[4], 16, &f->h[4]);
}

static long select_issue(struct native_frame *f)
{
	long r = native_issue(f);

	native_sigmask_done(f, r);
	if (f->a[4])
		(void)copy_to_user(f->a[4], (void *)f->h[4], 16);
	if (r >= 0 && native_copy_outs(f))
		return -EFAULT;
	return r;
}

long native_select(struct native_frame *f)
{
	int r = select_args(f);

	return r ? r : select_issue(f);
}

long native_pselect6(struct native_frame *f)
{
	struct { u64 mask, size; } *arg;
	int r = select_args(f);

	if (!r)
		r = native_in(f, f->a[5], sizeof(*arg), &f->h[5]);
	if (r)
		return r;
	if (f->a[5]) {
		arg = (void *)f->h[5];
		r = native_sigmask(f, arg->mask, arg->size, &arg->mask);
		if (r)
			return r;
	}
	return select_issue(f);
}

/* ---- epoll ---- */

long native_epoll_ctl(struct native_frame *f)
{
	int r = 0;

	if (native_check_fd(f->a[0]) || native_check_fd(f->a[2]))
		return -EBADF;
	if ((s32)f->a[1] != EPOLL_CTL_DEL_)
		r = native_in(f, f->a[3], EPOLL_EVENT_BYTES, &f->h[3]);
	return r ? r : native_issue(f);
}

/* When a finite wait ends, in ns of port_clock_ns(); ~0 = never. */
static u64 deadline_ms(s32 ms)
{
	return ms < 0 ? ~0ull : ms ? port_clock_ns() + (u64)ms * 1000000 : 0;
}

static u64 deadline_ts(const struct native_timespec *ts)
{
	if (!ts)
		return ~0ull;
	if (ts->sec < 0 || ts->nsec < 0 || (u64)ts->nsec >= NSEC_PER_SEC || ts->sec > (s64)(1ull << 32))
		return ~0ull; /* invalid (the host says so at once), or for ever */
	if (!ts->sec && !ts->nsec)
		return 0;
	return port_clock_ns() + (u64)ts->sec * NSEC_PER_SEC + (u64)ts->nsec;
}

static u64 time_left(u64 deadline)
{
	u64 now = port_clock_ns();

	return deadline > now ? deadline - now : 0;
}

static void set_time_left(struct native_timespec *ts, u64 deadline)
{
	u64 left = time_left(deadline);

	ts->sec = (s64)(left / NSEC_PER_SEC);
	ts->nsec = (s64)(left % NSEC_PER_SEC);
}

static long interruptible(struct native_frame *f)
{
	return host_syscall_interruptible(f->nr, f->h[0], f->h[1], f->h[2], f->h[3], f->h[4], f->h[5]);
}

static long epoll_issue(struct native_frame *f, bool has_timespec)
{
	struct native_timespec *ts = has_timespec && f->a[3] ? (void *)f->h[3] : NULL;
	u64 deadline = has_timespec ? deadline_ts(ts) : deadline_ms((s32)f->a[3]);
	long r;

	while ((r = interruptible(f)) == -EINTR && !native_pending(f)) {
		if (deadline == ~0ull || !deadline)
			continue;
		if (ts)
			set_time_left(ts, deadline);
		else
			f->h[3] = (time_left(deadline) + 999999) / 1000000;
	}
	return r;
}

/* epoll_wait(fd, events, n, ms), epoll_pwait(..., mask, size), epoll_pwait2(fd, events, n, timespec, mask, size).
 * An event that is returned may be gone, so the buffer is pinned before. */
long native_epoll_wait(struct native_frame *f)
{
	bool has_timespec = f->nr == __NR_epoll_pwait2;
	s32 n = MIN((s32)f->a[2], EPOLL_MAX_EVENTS);
	s64 got;
	long ret;
	int r = 0;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (n > 0) {
		got = native_pin_prefix(f, f->a[1], (u64)n * EPOLL_EVENT_BYTES, true);
		if (got < (s64)EPOLL_EVENT_BYTES)
			return got < 0 ? got : -EFAULT;
		f->h[2] = (u64)got / EPOLL_EVENT_BYTES;
	}
	if (has_timespec)
		r = native_in(f, f->a[3], sizeof(struct native_timespec), &f->h[3]);
	if (!r && f->nr != __NR_epoll_wait)
		r = native_sigmask(f, f->a[4], f->a[5], &f->h[4]);
	if (r)
		return r;
	ret = epoll_issue(f, has_timespec);
	native_sigmask_done(f, ret);
	return ret;
}

long native_signalfd(struct native_frame *f)
{
	int r;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	r = native_sigmask(f, f->a[1], f->a[2], &f->h[1]);
	return r ? r : native_issue(f);
}

/* A process may send itself what only hardware sends.  This kernel would take it for a fault, so it becomes SI_QUEUE. */
long native_sigqueue(struct native_frame *f)
{
	unsigned info = f->nr == __NR_rt_tgsigqueueinfo ? 3 : 2;
	u64 sig = f->a[info - 1];
	s32 *code;
	int r;

	if (f->nr == __NR_pidfd_send_signal && native_check_fd(f->a[0]))
		return -EBADF;
	r = native_in(f, f->a[info], 128, &f->h[info]);
	if (r)
		return r;
	code = (s32 *)f->h[info] + 2;
	if (f->h[info] && sig >= 1 && sig <= NSIG && (SIGMASK_NEVER & SIGBIT(sig)) && *code > 0)
		*code = -1; /* SI_QUEUE */
	return native_issue(f);
}

/* ---- sleeping ---- */

/* The request doubles as the remainder, so that a restart sleeps for what is left. */
static long sleep_issue(struct native_frame *f, unsigned req, bool relative)
{
	int r = native_in(f, f->a[req], sizeof(struct native_timespec), &f->h[req]);
	long ret;

	if (r)
		return r;
	f->h[req + 1] = relative ? f->h[req] : 0;
	ret = native_issue(f);
	if (ret == -EINTR && relative && f->a[req + 1] &&
	    copy_to_user(f->a[req + 1], (void *)f->h[req], sizeof(struct native_timespec)))
		return -EFAULT;
	return ret;
}

long native_nanosleep(struct native_frame *f)
{
	return sleep_issue(f, 0, true);
}

long native_clock_nanosleep(struct native_frame *f)
{
	return sleep_issue(f, 2, !(f->a[1] & HOST_TIMER_ABSTIME));
}

/* ---- interval timers ---- */

/* value: struct itimerval or itimerspec, the interval first; `unit` = its second word's nanoseconds. */
static void bound_interval(s64 *value, u64 unit)
{
	if (value[0] == 0 && value[1] > 0 && (u64)value[1] * unit < MIN_INTERVAL_NS)
		value[1] = (s64)(MIN_INTERVAL_NS / unit);
}

static long set_timer(struct native_frame *f, unsigned arg, u64 unit)
{
	int r = native_in(f, f->a[arg], 32, &f->h[arg]);

	if (!r)
		r = native_outbuf(f, f->a[arg + 1], 32, &f->h[arg + 1]);
	if (r)
		return r;
	if (f->a[arg])
		bound_interval((s64 *)f->h[arg], unit);
	return native_finish(f);
}

long native_setitimer(struct native_frame *f)
{
	return set_timer(f, 1, 1000);
}

long native_timer_settime(struct native_frame *f)
{
	return set_timer(f, 2, 1);
}

/* ---- POSIX timers: exec deletes them, so they are counted ---- */

long native_timer_create(struct native_frame *f)
{
	int r = native_in(f, f->a[1], SIGEVENT_BYTES, &f->h[1]);
	s32 id, last;
	long ret;

	if (!r)
		r = native_outbuf(f, f->a[2], sizeof(id), &f->h[2]);
	if (r)
		return r;
	ret = native_finish(f);
	if (ret < 0)
		return ret;
	id = *(const s32 *)f->h[2];
	last = READ_ONCE(kproc.timer_last);
	while (last < id && !__atomic_compare_exchange_n(&kproc.timer_last, &last, id, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	__atomic_add_fetch(&kproc.ntimers, 1, __ATOMIC_SEQ_CST);
	return ret;
}

long native_timer_delete(struct native_frame *f)
{
	long ret = native_finish(f);

	if (!ret)
		__atomic_sub_fetch(&kproc.ntimers, 1, __ATOMIC_SEQ_CST);
	return ret;
}

/* Numbers are given out in order, so the newest are found first. */
void timers_delete_all(void)
{
	s32 id;

	for (id = kproc.timer_last; kproc.ntimers && id >= 0; id--)
		if (host_call(__NR_timer_delete, id) >= 0)
			kproc.ntimers--;
	kproc.ntimers = 0;
	kproc.timer_last = 0;
}
