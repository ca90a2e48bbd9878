/*
 * Traps on x86-64: every host signal of a guest process enters here.
 *
 *	SIGSEGV, SIGBUS by hardware, from guest code   page fault: FAR/ESR -> host_fault()
 *	the same, from this kernel                     copy to or from the guest: resolve, or fixup
 *	SIGSYS by seccomp                              system call -> guest_syscall()
 *	SIG_PRIVATE by a revoker                       flush (exit path), or thread stop
 *	anything else                                  the guest's own signal: deliver, or note it when the kernel was interrupted
 *
 * Handlers run with no signal blocked.  One that interrupts the kernel only notes the signal, blocks all others in the
 * interrupted context (one slot is enough) and sees that the restartable windows are left (syscall.S).
 */
#include "regs.h"
#include "../process.h"
#include "../revoke.h"
#include "../guest_signal.h"
#include "../selftest.h"
#include <asm/siginfo.h>

static s32 info_code(const u8 *info) { s32 v; __builtin_memcpy(&v, info + 8, 4); return v; }
static u64 info_addr(const u8 *info) { u64 v; __builtin_memcpy(&v, info + 16, 8); return v; }

/* (error code, trap number) -> ESR_EL1.  The fault status code says translation fault, level 3: the core looks at
 * the tables itself, and the host cannot tell levels apart. */
static u32 esr_of(const struct ucontext_host *uc, bool from_guest)
{
	bool ifetch = uc->r.err & PF_INSTR, write = uc->r.err & PF_WRITE;
	u32 ec = ifetch ? (from_guest ? ESR_EC_IABT_LOW : ESR_EC_IABT_CUR) :
			  (from_guest ? ESR_EC_DABT_LOW : ESR_EC_DABT_CUR);
	u32 fsc = uc->r.trapno == TRAPNO_AC ? FSC_ALIGNMENT : FSC_TRANSLATION + 3;

	if (uc->r.trapno == TRAPNO_PF && (uc->r.err & PF_PROT))
		fsc = FSC_PERMISSION + 3;
	return esr_make(ec, write, fsc);
}

/* A hardware fault has si_code > 0 and fresh trapno/cr2; one sent by kill(2) has neither. */
static bool is_hardware_fault(int sig, const u8 *info)
{
	return (sig == SIG_SEGV || sig == SIG_BUS) && info_code(info) > 0;
}

static bool is_trap(int sig, const u8 *info)
{
	return (sig == SIG_SYS && info_code(info) == SYS_SECCOMP) || is_hardware_fault(sig, info);
}

static void guest_page_fault(struct kthread *k, int sig, const u8 *info, struct ucontext_host *uc)
{
	struct fault_info fi = { 0 };
	enum fault_result r;

	if (sig == SIG_BUS && uc->r.trapno == TRAPNO_PF) {
		/* The host could not give us the byte: beyond the end of a file, or its disk failed. */
		fi = (struct fault_info){ .sig = SIG_BUS, .code = info_code(info), .addr = info_addr(info) };
		force_signal(k, uc, &fi);
		return;
	}
	if (uc->r.trapno == TRAPNO_GP) {
		/* Non-canonical address or privileged instruction: Linux reports SI_KERNEL, address 0. */
		fi = (struct fault_info){ .sig = SIG_SEGV, .code = SI_KERNEL, .addr = 0 };
		force_signal(k, uc, &fi);
		return;
	}
	r = host_fault(uc->r.cr2, esr_of(uc, true), &fi);
	if (r == FAULT_SIGNAL)
		force_signal(k, uc, &fi);
	else if (r == FAULT_KILLED)
		die_by_signal(SIG_KILL);
	else if (r != FAULT_OK)
		die_by_signal(SIG_SEGV);
}

/* This kernel touched guest memory (user.c).  Anything else is a bug of ours. */
static void kernel_page_fault(int sig, struct ucontext_host *uc)
{
	bool copying = uc->r.ip >= (u64)user_copy_start && uc->r.ip < (u64)user_copy_end;
	struct fault_info fi = { 0 };
	u64 addr = uc->r.cr2;

	if (!copying)
		kernel_oops(sig, uc->r.ip, addr);
	if (sig == SIG_SEGV && uc->r.trapno == TRAPNO_PF && addr < GUEST_END &&
	    host_fault(addr, esr_of(uc, false), &fi) == FAULT_OK)
		return;
	uc->r.ip = (u64)user_copy_fault;
}

static void system_call(struct kthread *k, struct ucontext_host *uc, void *info)
{
	struct trap t = { .k = k, .uc = uc, .siginfo = info, .nr = (s32)uc->r.ax };
	u64 a[6] = { uc->r.di, uc->r.si, uc->r.dx, uc->r.r10, uc->r.r8, uc->r.r9 }, ip = uc->r.ip;

	k->trap = &t;
	k->syscall_nr = t.nr;
	uc->r.ax = (u64)guest_syscall(&t, t.nr, a);
	k->trap = NULL;
	patch_consider(ip, t.nr);
}

/* One slot is enough: from the first signal on all are blocked where it was noted.  Only a handler of a fault may return to where they
 * are not, so that a second one comes: it goes back to the host. */
static void pend_signal(struct kthread *k, int sig, const u8 *info, const struct ucontext_host *uc)
{
	if (k->pending & PEND_SIGNAL) {
		requeue_signal(k, sig, info);
		return;
	}
	k->fast_mask = uc->sigmask;
	k->pending_sig = (u32)sig;
	__builtin_memcpy(k->pending_info, info, sizeof(k->pending_info));
	k->pending |= PEND_SIGNAL;
}

/* The kernel itself was interrupted: remember the signal for the exit path and leave the windows. */
static void note_signal(struct kthread *k, int sig, const u8 *info, bool private, struct ucontext_host *uc)
{
	if (private) {
		if (kproc.exec_stop || shared_area()->ending)
			k->pending |= PEND_STOP;
		else if (!(k->pending & PEND_TRACE))
			return;
	} else {
		pend_signal(k, sig, info, uc);
		uc->sigmask = ~0ull & ~SIGMASK_NEVER;
	}
	if (patch_leave(k, uc) == PATCH_WINDOW)
		patch_exit_again(k, uc);
	if (uc->r.ip >= (u64)native_window_start && uc->r.ip < (u64)native_window_end)
		uc->r.ip = (u64)native_window_start;
	if (uc->r.ip >= (u64)kernel_restorer && uc->r.ip < (u64)kernel_restorer_end)
		uc->r.ip = (u64)kernel_restorer;
}

static bool is_private_signal(int sig, const u8 *info)
{
	/* Whoever sent it: the sender may be gone by now, and looking for it would need a lock. */
	return sig == SIG_PRIVATE && (info_code(info) == SI_TKILL || info_code(info) == SI_KERNEL || info_code(info) == 0);
}

/* The parent of this process died (PR_SET_PDEATHSIG): if that was the supervisor, so must we. */
static void check_supervisor(void)
{
	struct machine_shared *m = shared_area();

	if (m->ending || !port_ctx_alive(ctx_by_id(m->supervisor_ctx)))
		machine_died();
}

/* What the private signal may be about, besides translations. */
static void look_around(struct kthread *k)
{
	check_supervisor();
	if (unlikely(trace_asked(k)))
		k->pending |= PEND_TRACE;
}

/* A rewritten call needs a register set, and this is it: whatever signal made the host build it comes second. */
static void finish_rewritten(struct kthread *k, int sig, u8 *info, struct ucontext_host *uc)
{
	if (is_private_signal(sig, info))
		look_around(k);
	else
		pend_signal(k, sig, info, uc);
	if (k->fast_redo) {
		k->fast_redo = 0;
		system_call(k, uc, info);
	}
	exit_work(uc);
}

void kernel_signal(int sig, u8 *info, struct ucontext_host *uc)
{
	struct kthread *k = kthread();
	enum patch_place place = ip_in_kernel(uc->r.ip) ? patch_leave(k, uc) : PATCH_GUEST;
	bool from_guest = place == PATCH_GUEST || place == PATCH_SLOW;

	/*
	 * First of all: as long as the state is USER, a private signal that interrupts us flushes on our behalf, and that
	 * takes locks.  From KERNEL on it takes none, so it may interrupt the locks' own code.
	 */
	if (from_guest)
		WRITE_ONCE(k->ctx->state, CTX_KERNEL);
	if (unlikely(kproc.starting)) {
		start_first_program(k, uc);
		exit_work(uc);
		return;
	}
	if (place == PATCH_SLOW) {
		finish_rewritten(k, sig, info, uc);
		return;
	}
	if (from_guest && !is_trap(sig, info))
		patch_leave_cave(uc);
	if (is_private_signal(sig, info)) {
		selftest_delay();
		look_around(k);
		if (!from_guest) {
			if (k->ctx->state == CTX_USER) {
				/* In an exit window: the revoker saw USER and relies on us. */
				k->ctx->state = CTX_KERNEL;
				flush_until_current(k);
			}
			note_signal(k, sig, info, true, uc);
			host_sigreturn(uc);
		}
		exit_work(uc);
		return;
	}
	if (!from_guest) {
		if (is_hardware_fault(sig, info))
			kernel_page_fault(sig, uc);
		else
			note_signal(k, sig, info, false, uc);
		host_sigreturn(uc);
	}
	k->syscall_nr = -1;
	if (sig == SIG_SYS && info_code(info) == SYS_SECCOMP)
		system_call(k, uc, info);
	else if (is_hardware_fault(sig, info) && uc->r.trapno == TRAPNO_GP && patch_is_hlt(uc))
		system_call(k, uc, info);
	else if (is_hardware_fault(sig, info))
		guest_page_fault(k, sig, info, uc);
	else
		deliver_signal(k, uc, sig, info);
	exit_work(uc);
}

/* struct user_regs_struct (sys/user.h).  ptrace.c */
void export_registers(const struct ucontext_host *uc, long nr, u64 to[CTX_PORT_REGS])
{
	const struct sigcontext_host *r = &uc->r;
	u64 fs_base = 0;
	u64 regs[CTX_PORT_REGS] = { r->r15, r->r14, r->r13, r->r12, r->bp, r->bx, r->r11, r->r10, r->r9, r->r8, r->ax, r->cx, r->dx,
				    r->si, r->di, (u64)nr, r->ip, r->cs, r->flags, r->sp, r->ss };

	host_call(158 /* arch_prctl */, 0x1003 /* ARCH_GET_FS */, &fs_base);
	regs[21] = fs_base;
	memcpy(to, regs, sizeof(regs));
}

/* What Linux does before it returns to user mode: signals, stops, then the translations. */
void exit_work(struct ucontext_host *uc)
{
	struct kthread *k = kthread();

	for (;;) {
		WRITE_ONCE(k->ctx->state, CTX_KERNEL);
		if (k->pending & PEND_STOP || kproc.exec_stop || shared_area()->ending)
			thread_stop_point(k, uc);
		if (unlikely(k->pending & PEND_TRACE))
			trace_stop_point(k, uc);
		if (k->pending & PEND_SIGNAL) {
			k->pending &= ~PEND_SIGNAL;
			deliver_signal(k, uc, (int)k->pending_sig, k->pending_info);
		}
		finish_syscall(k, uc);
		flush_until_current(k);
		if (!k->pending)
			return;
	}
}
