/*
 * Guest signals.
 *
 * Dispositions are virtual for signals that the guest handles: the host's handler is always the kernel's own, on its own
 * stack, and this file builds the frame on the guest's stack.  SIG_DFL and SIG_IGN are the host's own, so stops, continues
 * and default deaths are native.  SIGSEGV, SIGBUS, SIGSYS and SIG_PRIVATE always stay with the kernel.
 *
 * The guest's mask is the mask in the host's frame, less what must never be blocked; the guest's wish for those is kept in
 * k->vmask.  Frame layout: arch/x86 struct rt_sigframe (return address, ucontext, siginfo), FP state above, 64-byte aligned.
 */
#include "guest_signal.h"
#include "hostsys.h"
#include "process.h"
#include "x86_64/regs.h"
#include <asm/siginfo.h>

#define SA_NOCLDSTOP_ 1ull
#define SA_NOCLDWAIT_ 2ull
#define SA_SIGINFO_ 4ull
#define SA_RESTORER_ 0x04000000ull
#define SA_ONSTACK_ 0x08000000ull
#define SA_RESTART_ 0x10000000ull
#define SA_NODEFER_ 0x40000000ull
#define SA_RESETHAND_ 0x80000000ull
#define SIG_DFL_ 0ull
#define SIG_IGN_ 1ull
#define SS_ONSTACK_ 1
#define SS_AUTODISARM_ 0x80000000u
#define MINSIGSTKSZ_ 2048
#define RED_ZONE 128 /* System V ABI, AMD64 supplement 3.2.2 */

struct guest_frame {
	u64 pretcode;
	struct ucontext_host uc;
	u8 info[128];
};

static void sig_lock(void)
{
	u32 zero = 0;

	while (!__atomic_compare_exchange_n(&kproc.sig_lock, &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		zero = 0;
		host_call(__NR_sched_yield);
	}
}

static void sig_unlock(void)
{
	__atomic_store_n(&kproc.sig_lock, 0, __ATOMIC_RELEASE);
}

static bool kernel_owned(int sig)
{
	return sig == SIG_SEGV || sig == SIG_BUS || sig == SIG_SYS || sig == SIG_PRIVATE;
}

static long host_sigaction(int sig, u64 handler, u64 flags, u64 mask)
{
	struct guest_sigaction sa = { .handler = handler, .flags = flags | SA_RESTORER_,
				      .restorer = (u64)kernel_restorer, .mask = mask };

	return host_call(__NR_rt_sigaction, sig, &sa, NULL, 8);
}

/* SA_RESTART always: then the host tells restartable calls from others (syscall.S), and the guest's flag decides later.
 * The guest's own signals block each other while one is being noted or delivered: the host would otherwise stack a frame for
 * each queued one, and they would be seen in the wrong order. */
static void host_handle(int sig, u64 guest_flags)
{
	host_sigaction(sig, (u64)kernel_signal,
		       SA_SIGINFO_ | SA_ONSTACK_ | SA_RESTART_ | SA_NODEFER_ | (guest_flags & (SA_NOCLDSTOP_ | SA_NOCLDWAIT_)),
		       kernel_owned(sig) ? 0 : ~SIGMASK_NEVER);
}

void signals_init(void)
{
	host_handle(SIG_SEGV, 0);
	host_handle(SIG_BUS, 0);
	host_handle(SIG_SYS, 0);
	host_handle(SIG_PRIVATE, 0);
}

void signals_exec_reset(struct kthread *k)
{
	int sig;

	for (sig = 1; sig <= NSIG; sig++) {
		struct guest_sigaction *sa = &kproc.sigaction[sig];

		if (sa->handler == SIG_IGN_)
			continue;
		if (sa->handler != SIG_DFL_ && !kernel_owned(sig))
			host_sigaction(sig, SIG_DFL_, 0, 0);
		memset(sa, 0, sizeof(*sa));
	}
	k->alt_sp = k->alt_size = 0; /* the flags stay, as on Linux */
	k->has_saved_mask = 0;
}

void die_by_signal(int sig)
{
	u64 none = ~SIGBIT(sig), unblock = SIGBIT(sig);
	host_sigaction(sig, SIG_DFL_, 0, 0);
	host_call(__NR_rt_sigprocmask, 1 /* SIG_UNBLOCK */, &unblock, NULL, 8);
	host_call(__NR_kill, host_call(__NR_getpid), sig);
	for (;;)
		host_call(__NR_rt_sigsuspend, &none, 8);
}

/* Does sp lie on the stack that is set? */
static bool in_altstack(const struct kthread *k, u64 sp)
{
	return sp > k->alt_sp && sp - k->alt_sp <= k->alt_size;
}

/* Is the program running on it?  One that disarms itself may be set anew by whoever runs there. */
static bool on_altstack(const struct kthread *k, u64 sp)
{
	return !(k->alt_flags & SS_AUTODISARM_) && in_altstack(k, sp);
}

static s32 altstack_state(const struct kthread *k, u64 sp)
{
	if (!k->alt_size)
		return (s32)SS_DISABLE_;
	return on_altstack(k, sp) ? SS_ONSTACK_ : 0;
}

/* A call that a signal interrupted: EINTR or again, by the class the host reported and the handler's SA_RESTART. */
static void fix_syscall(struct kthread *k, struct ucontext_host *uc, bool handler_restarts)
{
	long ret = (long)uc->r.ax;

	if (k->syscall_nr < 0)
		return;
	if (ret == -ERESTARTNOINTR || (ret == -ERESTARTSYS && handler_restarts)) {
		uc->r.ax = (u64)k->syscall_nr;
		uc->r.ip -= SYSCALL_INSN_SIZE;
	} else if (ret == -ERESTARTSYS) {
		uc->r.ax = (u64)-EINTR;
	}
	k->syscall_nr = -1;
}

void finish_syscall(struct kthread *k, struct ucontext_host *uc)
{
	fix_syscall(k, uc, true);
	if (k->has_saved_mask) {
		k->has_saved_mask = 0;
		uc->sigmask = k->saved_mask & ~SIGMASK_NEVER;
	}
}

u64 signals_hold(void)
{
	u64 all = ~0ull, old;

	host_call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, &old, 8);
	return old;
}

void signals_let(u64 mask)
{
	host_call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &mask, NULL, 8);
}

/* The host lets only the first thread say how a signal came about; for the others it keeps at least the signal. */
static void hand_back_noted(struct kthread *k)
{
	s32 code, sig = (s32)k->pending_sig;

	if (!(k->pending & PEND_SIGNAL))
		return;
	k->pending &= ~PEND_SIGNAL;
	__builtin_memcpy(&code, k->pending_info + 8, 4);
	if (code == SI_TKILL)
		return; /* meant for this thread */
	if (host_call(__NR_rt_sigqueueinfo, kproc.pid, sig, k->pending_info) < 0)
		host_call(__NR_kill, kproc.pid, sig);
}

void signals_hand_back(struct kthread *k)
{
	s64 now[2] = { 0, 0 };
	long sig;

	hand_back_noted(k);
	while (k->requeued && (sig = host_call(__NR_rt_sigtimedwait, &k->requeued, NULL, now, 8)) > 0)
		host_call(__NR_kill, kproc.pid, sig);
}

/* Gives the signal back to the host, which keeps it pending while it is blocked and acts by default otherwise. */
void requeue_signal(struct kthread *k, int sig, const u8 *info)
{
	s32 code;

	/* What was sent to the process stays the process's, where the host lets us say so. */
	__builtin_memcpy(&code, info + 8, 4);
	if (code != SI_TKILL) {
		if (host_call(__NR_rt_sigqueueinfo, kproc.pid, sig, info) == 0)
			return;
		k->requeued |= SIGBIT(sig); /* this thread's alone: signals_hand_back() */
	}
	if (host_call(__NR_rt_tgsigqueueinfo, host_call(__NR_getpid), k->tid, sig, info) < 0)
		host_call(__NR_tgkill, host_call(__NR_getpid), k->tid, sig);
}

/* Writes the frame; 0 or -EFAULT.  One that would run over the end of the alternate stack is not written at all. */
static int push_frame(struct kthread *k, struct ucontext_host *uc, const struct guest_sigaction *sa, const u8 *info, u64 mask,
		      u64 *frame_at)
{
	const u8 *fp = (const u8 *)uc->r.fpstate;
	u32 fp_size = fp ? fpstate_size(fp) : 0;
	bool nested = on_altstack(k, uc->r.sp), entering = (sa->flags & SA_ONSTACK_) && k->alt_size && !nested;
	u64 sp = entering ? k->alt_sp + k->alt_size : uc->r.sp - RED_ZONE;
	u64 fp_at = ALIGN_DOWN(sp - fp_size, 64);
	u64 at = ALIGN_DOWN(fp_at - sizeof(struct guest_frame), 16) - 8;
	struct guest_frame f;

	if ((nested || entering) && !in_altstack(k, at))
		return -EFAULT;
	f.pretcode = sa->restorer;
	f.uc = *uc;
	f.uc.uc_link = 0;
	f.uc.r.fpstate = fp ? fp_at : 0;
	f.uc.sigmask = mask | (k->vmask & SIGMASK_NEVER);
	f.uc.stack = (struct stack_host){ .sp = k->alt_sp, .size = k->alt_size,
					  .flags = (s32)k->alt_flags };
	__builtin_memcpy(f.info, info, sizeof(f.info));
	if (copy_to_user(at, &f, sizeof(f)) || (fp && copy_to_user(fp_at, fp, fp_size)))
		return -EFAULT;
	*frame_at = at;
	return 0;
}

/* Handlers start with the FP state of a new program (arch/x86: fpu__clear_user_states). */
void init_fpstate(struct ucontext_host *uc)
{
	u8 *fp = (u8 *)uc->r.fpstate;
	u32 mxcsr = MXCSR_DEFAULT;
	u64 none = 0;

	if (!fp || fpstate_size(fp) == FPX_LEGACY_SIZE)
		return;
	__builtin_memcpy(fp + FPX_XSTATE_BV_OFFSET, &none, 8);
	__builtin_memcpy(fp + FPX_MXCSR_OFFSET, &mxcsr, 4);
}

static void enter_handler(struct ucontext_host *uc, int sig, u64 frame, u64 handler)
{
	uc->r.di = (u64)sig;
	uc->r.si = frame + offsetof(struct guest_frame, info);
	uc->r.dx = frame + offsetof(struct guest_frame, uc);
	uc->r.ax = 0;
	uc->r.sp = frame;
	uc->r.ip = handler;
	uc->r.flags &= ~(EFLAGS_TF | EFLAGS_DF | EFLAGS_RF);
	init_fpstate(uc);
}

/* Runs the handler of sig, of which `sa` is a snapshot (another thread may change it meanwhile).  -EFAULT, and nothing but the
 * interrupted call settled, if its frame finds no room. */
static int run_handler(struct kthread *k, struct ucontext_host *uc, int sig, const u8 *info,
		       const struct guest_sigaction *sa)
{
	u64 mask = k->has_saved_mask ? k->wait_mask : uc->sigmask, frame = 0;

	fix_syscall(k, uc, sa->flags & SA_RESTART_);
	if (push_frame(k, uc, sa, info, k->has_saved_mask ? k->saved_mask : mask, &frame))
		return -EFAULT;
	k->has_saved_mask = 0;
	mask |= sa->mask | (sa->flags & SA_NODEFER_ ? 0 : SIGBIT(sig));
	k->vmask |= (sa->mask | (sa->flags & SA_NODEFER_ ? 0 : SIGBIT(sig))) & SIGMASK_NEVER;
	uc->sigmask = mask & ~SIGMASK_NEVER;
	if (k->alt_flags & SS_AUTODISARM_) {
		k->alt_sp = k->alt_size = 0;
		k->alt_flags = SS_DISABLE_;
	}
	enter_handler(uc, sig, frame, sa->handler);
	return 0;
}

static struct guest_sigaction take_action(int sig)
{
	struct guest_sigaction sa;

	sig_lock();
	sa = kproc.sigaction[sig];
	if (sa.handler > SIG_IGN_ && (sa.flags & SA_RESETHAND_)) {
		kproc.sigaction[sig].handler = SIG_DFL_;
		if (!kernel_owned(sig))
			host_sigaction(sig, SIG_DFL_, 0, 0);
	}
	sig_unlock();
	return sa;
}

static bool default_is_ignore(int sig)
{
	return sig == 17 /* CHLD */ || sig == 18 /* CONT */ || sig == 23 /* URG */ || sig == 28 /* WINCH */;
}

void force_signal(struct kthread *k, struct ucontext_host *uc, const struct fault_info *fi)
{
	struct guest_sigaction sa = take_action(fi->sig);
	u8 info[128] = { 0 };
	s32 head[3] = { fi->sig, 0, fi->code };

	if (sa.handler <= SIG_IGN_ || (k->vmask & SIGBIT(fi->sig)))
		die_by_signal(fi->sig);
	__builtin_memcpy(info, head, sizeof(head));
	__builtin_memcpy(info + 16, &fi->addr, 8);
	uc->r.cr2 = fi->addr;
	if (run_handler(k, uc, fi->sig, info, &sa))
		die_by_signal(SIG_SEGV);
}

void deliver_signal(struct kthread *k, struct ucontext_host *uc, int sig, const u8 *info)
{
	struct fault_info no_room = { .sig = SIG_SEGV, .code = SI_KERNEL };
	struct guest_sigaction sa;

	if (kernel_owned(sig) ? (k->vmask & SIGBIT(sig)) : (uc->sigmask & SIGBIT(sig)) && !k->has_saved_mask) {
		if (!kernel_owned(sig))
			requeue_signal(k, sig, info);
		else
			k->held_back |= SIGBIT(sig);
		return;
	}
	sa = take_action(sig);
	if (sa.handler > SIG_IGN_) {
		if (!run_handler(k, uc, sig, info, &sa))
			return;
		/* SIGSEGV may have a handler on a stack of its own; but not if it was the one. */
		if (sig == SIG_SEGV)
			die_by_signal(SIG_SEGV);
		force_signal(k, uc, &no_room);
	} else if (sa.handler == SIG_DFL_ && kernel_owned(sig)) {
		die_by_signal(sig);
	} else if (sa.handler == SIG_DFL_ && !default_is_ignore(sig)) {
		requeue_signal(k, sig, info);
	}
}

/* ---- system calls ---- */

long sys_rt_sigaction(struct trap *t, int sig, u64 act, u64 oact, u64 size)
{
	struct guest_sigaction new, old;

	if (size != 8 || sig < 1 || sig > NSIG || (act && (sig == SIG_KILL || sig == SIG_STOP)))
		return -EINVAL;
	if (act && copy_from_user(&new, act, sizeof(new)))
		return -EFAULT;
	sig_lock();
	old = kproc.sigaction[sig];
	if (act) {
		new.mask &= ~(SIGBIT(SIG_KILL) | SIGBIT(SIG_STOP));
		kproc.sigaction[sig] = new;
		if (kernel_owned(sig))
			;
		else if (new.handler <= SIG_IGN_)
			host_sigaction(sig, new.handler, new.flags & (SA_NOCLDSTOP_ | SA_NOCLDWAIT_), 0);
		else
			host_handle(sig, new.flags);
	}
	sig_unlock();
	if (oact && copy_to_user(oact, &old, sizeof(old)))
		return -EFAULT;
	return 0;
}

void set_guest_mask(struct kthread *k, struct ucontext_host *uc, u64 mask)
{
	mask &= ~(SIGBIT(SIG_KILL) | SIGBIT(SIG_STOP));
	uc->sigmask = mask & ~SIGMASK_NEVER;
	k->vmask = mask & SIGMASK_NEVER;
	if (k->held_back & ~k->vmask) {
		int sig = __builtin_ctzll(k->held_back & ~k->vmask) + 1;

		k->held_back &= ~SIGBIT(sig);
		host_call(__NR_tgkill, host_call(__NR_getpid), k->tid, sig);
	}
}

u64 guest_mask(const struct kthread *k, const struct ucontext_host *uc)
{
	return (uc->sigmask & ~SIGMASK_NEVER) | (k->vmask & SIGMASK_NEVER);
}

/* May the mask become `to`?  Not if a signal was noted that it blocks: its handler comes first, and the call is made again.  What comes
 * from here on stays the host's until the guest runs: it may be for another thread. */
static bool may_block(const struct kthread *k, u64 to)
{
	signals_let(~SIGMASK_NEVER);
	return !(k->pending & PEND_SIGNAL && to & SIGBIT(k->pending_sig));
}

long sys_rt_sigprocmask(struct trap *t, int how, u64 set, u64 oset, u64 size)
{
	u64 old = guest_mask(t->k, t->uc), new;

	if (size != 8)
		return -EINVAL;
	if (set) {
		if (copy_from_user(&new, set, 8))
			return -EFAULT;
		if (how < 0 || how > 2)
			return -EINVAL;
		new = how == 0 ? old | new : how == 1 ? old & ~new : new;
		if ((new & ~old & ~(SIGMASK_NEVER | SIGBIT(SIG_KILL) | SIGBIT(SIG_STOP))) && !may_block(t->k, new))
			return -ERESTARTNOINTR;
		set_guest_mask(t->k, t->uc, new);
	}
	if (oset && copy_to_user(oset, &old, 8))
		return -EFAULT;
	return 0;
}

/* Takes the FP state of the guest's frame over, if it looks like one. */
static int restore_fpstate(struct ucontext_host *uc, u64 from)
{
	u8 *fp = (u8 *)uc->r.fpstate;
	u8 head[FPX_LEGACY_SIZE];
	u32 size;

	if (!fp)
		return 0;
	if (!from) {
		init_fpstate(uc);
		return 0;
	}
	if (copy_from_user(head, from, sizeof(head)))
		return -EFAULT;
	size = fpstate_size(head);
	if (size == fpstate_size(fp))
		return copy_from_user(fp, from, size);
	__builtin_memcpy(fp, head, FPX_SW_OFFSET);
	return 0;
}

/* 0 or the errno of sigaltstack(2). */
static int set_altstack(struct kthread *k, const struct stack_host *new, u64 sp, u64 min_size)
{
	u32 mode = (u32)new->flags & ~SS_AUTODISARM_;

	if (k->alt_size && on_altstack(k, sp))
		return -EPERM;
	if (mode != 0 && mode != SS_DISABLE_ && mode != SS_ONSTACK_)
		return -EINVAL;
	if (mode != SS_DISABLE_ && new->size < min_size)
		return -ENOMEM;
	k->alt_sp = mode == SS_DISABLE_ ? 0 : new->sp;
	k->alt_size = mode == SS_DISABLE_ ? 0 : new->size;
	k->alt_flags = (u32)new->flags;
	return 0;
}

long sys_rt_sigreturn(struct trap *t)
{
	struct ucontext_host *uc = t->uc, in;
	struct sigcontext_host keep = uc->r;
	u64 fp = keep.fpstate;

	if (copy_from_user(&in, uc->r.sp, sizeof(in)))
		die_by_signal(SIG_SEGV);
	uc->r = in.r;
	uc->r.fpstate = fp;
	uc->r.cs = keep.cs;
	uc->r.ss = keep.ss;
	if (restore_fpstate(uc, in.r.fpstate))
		die_by_signal(SIG_SEGV);
	set_guest_mask(t->k, uc, in.sigmask);
	set_altstack(t->k, &in.stack, uc->r.sp, 0); /* what is wrong with it is not told, as on Linux */
	t->k->syscall_nr = -1;
	return (long)uc->r.ax;
}

long sys_sigaltstack(struct trap *t, u64 ss, u64 oss)
{
	struct kthread *k = t->k;
	struct stack_host new, old = { .sp = k->alt_sp, .size = k->alt_size, .flags = altstack_state(k, t->uc->r.sp) };
	long ret;

	old.flags |= (s32)(k->alt_flags & SS_AUTODISARM_);
	if (ss && copy_from_user(&new, ss, sizeof(new)))
		return -EFAULT;
	ret = ss ? set_altstack(k, &new, t->uc->r.sp, MINSIGSTKSZ_) : 0;
	if (ret)
		return ret;
	if (oss && copy_to_user(oss, &old, sizeof(old)))
		return -EFAULT;
	return 0;
}

long sys_rt_sigsuspend(struct trap *t, u64 set, u64 size)
{
	u64 mask;
	long ret;

	if (size != 8)
		return -EINVAL;
	if (copy_from_user(&mask, set, 8))
		return -EFAULT;
	mask &= ~SIGMASK_NEVER;
	t->k->saved_mask = t->uc->sigmask;
	t->k->wait_mask = mask;
	t->k->has_saved_mask = 1;
	do
		ret = host_syscall_interruptible(__NR_rt_sigsuspend, (u64)&mask, 8, 0, 0, 0, 0);
	while (!t->k->pending && !kproc.exec_stop);
	/* sigsuspend never restarts once its signal has come. */
	return t->k->pending & PEND_SIGNAL ? -EINTR : ret;
}

long sys_rt_sigtimedwait(struct trap *t, u64 set, u64 info, u64 timeout, u64 size)
{
	u64 mask, ts[2];
	u8 si[128];
	long ret;

	if (size != 8)
		return -EINVAL;
	if (copy_from_user(&mask, set, 8) || (timeout && copy_from_user(ts, timeout, 16)))
		return -EFAULT;
	mask &= ~SIGMASK_NEVER;
	ret = host_syscall_interruptible(__NR_rt_sigtimedwait, (u64)&mask, (u64)si, timeout ? (u64)ts : 0, 8, 0, 0);
	if (ret > 0 && info && copy_to_user(info, si, sizeof(si)))
		return -EFAULT;
	return ret;
}

long sys_rt_sigpending(struct trap *t, u64 set, u64 size)
{
	u64 mask = 0;
	long ret;

	if (size > 8)
		return -EINVAL;
	ret = host_call(__NR_rt_sigpending, &mask, 8);
	mask |= t->k->held_back;
	if (ret >= 0 && copy_to_user(set, &mask, size))
		return -EFAULT;
	return ret;
}
