/*
 * ptrace(2), as far as a program needs it that looks at its own threads: LeakSanitizer starts a process that shares its memory (CLONE_VM),
 * which attaches to every thread, waits until it stands still, reads its registers, looks at the memory and lets it go on.
 *
 * The host's ptrace would stop this kernel in the middle of its work.  So it is not used: the tracer asks in the tracee's context
 * (CTXP_TRACER, CTXP_TRACE) and sends the private signal; the tracee leaves what it is doing, as for any signal, and stands still on its way
 * back to guest code, with its registers in ctx.port_regs.  Only processes on one address space can do so: others have neither the
 * same memory to look at nor the signals, calls and events that a debugger asks for, and are refused.
 *
 *	0 -> ASKED -> STOPPED -> REPORTED -> RUNNING or 0       the first and the last two by the tracer, under mm->lock (hostmm.c)
 *
 * A tracee that stands still looks now and then whether its tracer lives.
 */
#include "process.h"
#include "hostsys.h"
#include "revoke.h"
#include "x86_64/regs.h"
#include <linux/ptrace.h>
#include <linux/wait.h>

#define NT_PRSTATUS_ 1
#define LOOK_NS 20000000u   /* a tracee looks for its tracer */
#define ASK_AGAIN_NS 2000000u /* the private signal may have come before a call that waits */
#define STATUS_STOPPED 0x137fu /* wait(2): stopped by SIGSTOP */

static u32 *trace_word(struct ctx *c)
{
	return (u32 *)&c->port_data[CTXP_TRACE];
}

static u64 own_serial(void)
{
	return kthread()->ctx->port_data[CTXP_SERIAL];
}

/* ---- the tracee ---- */

bool trace_asked(struct kthread *k)
{
	return READ_ONCE(*trace_word(k->ctx)) == TRACE_ASKED;
}

static bool tracer_lives(struct ctx *c)
{
	struct quire *q = c->q;
	bool lives;

	spin_lock(&q->tasks.lock);
	lives = task_by_serial(q, READ_ONCE(c->port_data[CTXP_TRACER])) != NULL;
	spin_unlock(&q->tasks.lock);
	return lives;
}

void trace_stop_point(struct kthread *k, const struct ucontext_host *uc)
{
	u32 *word = trace_word(k->ctx), state = TRACE_ASKED;

	k->pending &= ~PEND_TRACE;
	export_registers(uc, k->syscall_nr, k->ctx->port_regs);
	if (!__atomic_compare_exchange_n(word, &state, TRACE_STOPPED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return;
	port_wake(word, ~0u);
	while ((state = READ_ONCE(*word)) == TRACE_STOPPED || state == TRACE_REPORTED) {
		if (kproc.exec_stop || shared_area()->ending || !tracer_lives(k->ctx))
			break;
		port_wait(word, state, LOOK_NS);
	}
}

/* ---- the tracer ---- */

/* A tracee that was asked hears of it; again, as long as it does not stand still. */
static void trace_nudge(struct ctx *c)
{
	host_call(__NR_tgkill, c->port_data[CTXP_TGID], c->port_data[CTXP_TID], SIG_PRIVATE);
}

static long trace_refused(void)
{
	if (first_time(__NR_ptrace))
		klog("ptrace refused: the host's would stop this kernel in the middle of its work, show each call as a SIGSYS, and see "
		     "only the pages that happen to be mapped");
	return -EPERM;
}

static long trace_attach(s32 tid)
{
	struct ctx *c = tid > 0 ? ctx_trace_change(kproc.mm, tid, 0, own_serial(), TRACE_ASKED) : NULL;

	if (!c)
		return trace_refused();
	trace_nudge(c);
	return 0;
}

static long trace_let(s32 tid, u64 tracer, u32 state)
{
	struct ctx *c = ctx_trace_change(kproc.mm, tid, own_serial(), tracer, state);

	if (!c)
		return -ESRCH;
	port_wake(trace_word(c), ~0u);
	return 0;
}

static long trace_registers(s32 tid, u64 to, u64 size)
{
	u64 regs[CTX_PORT_REGS];

	if (!ctx_trace_registers(kproc.mm, tid, own_serial(), regs))
		return -ESRCH;
	return copy_to_user(to, regs, MIN(size, sizeof(regs)));
}

static long trace_regset(s32 tid, u64 type, u64 iov_at)
{
	struct { u64 base, len; } iov;
	long ret;

	if (copy_from_user(&iov, iov_at, sizeof(iov)))
		return -EFAULT;
	if (type != NT_PRSTATUS_)
		return -EINVAL;
	iov.len = MIN(iov.len, CTX_PORT_REGS * 8ull);
	ret = trace_registers(tid, iov.base, iov.len);
	return ret ? ret : copy_to_user(iov_at, &iov, sizeof(iov));
}

static long trace_peek(s32 tid, u64 addr, u64 to)
{
	u64 word;

	if (!ctx_trace_registers(kproc.mm, tid, own_serial(), NULL))
		return -ESRCH;
	if (copy_from_user(&word, addr, sizeof(word)))
		return -EIO;
	return copy_to_user(to, &word, sizeof(word));
}

long sys_ptrace(const u64 a[6])
{
	s32 tid = (s32)a[1];

	switch (a[0]) {
	case PTRACE_CONT: return trace_let(tid, own_serial(), TRACE_RUNNING);
	case PTRACE_DETACH: return trace_let(tid, 0, 0);
	case PTRACE_GETREGS: return trace_registers(tid, a[3], CTX_PORT_REGS * 8);
	case PTRACE_GETREGSET: return trace_regset(tid, a[2], a[3]);
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA: return trace_peek(tid, a[2], a[3]);
	case PTRACE_ATTACH: return trace_attach(tid);
	default: return trace_refused();
	}
}

/* wait4 for a thread that this process traces: true, and what it says in *ret. */
bool trace_wait(struct trap *t, const u64 a[6], long *ret)
{
	u32 status = STATUS_STOPPED, state;
	s32 tid = (s32)a[0];
	struct ctx *c;

	while (tid > 0 && (c = ctx_traced_by(kproc.mm, tid, own_serial()))) {
		if (ctx_trace_report(kproc.mm, tid, own_serial())) {
			*ret = a[1] && copy_to_user(a[1], &status, 4) ? -EFAULT : tid;
			return true;
		}
		*ret = a[2] & WNOHANG ? 0 : t->k->pending ? -ERESTARTSYS : 1;
		if (*ret <= 0)
			return true;
		state = READ_ONCE(*trace_word(c));
		if (state == TRACE_ASKED)
			trace_nudge(c);
		if (state != TRACE_STOPPED)
			port_wait(trace_word(c), state, ASK_AGAIN_NS);
	}
	return false;
}
