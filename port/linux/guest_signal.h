/* Guest signals: virtual dispositions and masks, frames on the guest's stack (signal.c). */
#ifndef QUIRE_LINUX_SIGNAL_H
#define QUIRE_LINUX_SIGNAL_H
#include "kernel.h"

#define SIG_BUS 7
#define SIG_KILL 9
#define SIG_SEGV 11
#define SIG_STOP 19
#define SIG_SYS 31
#define SS_DISABLE_ 2u /* k->alt_flags: no alternate stack */
#define SIGBIT(n) (1ull << ((n) - 1))
/* Signals that must never be blocked on the host: faults, traps, and the kernel's own. */
#define SIGMASK_NEVER (SIGBIT(SIG_SEGV) | SIGBIT(SIG_BUS) | SIGBIT(SIG_SYS) | SIGBIT(SIG_PRIVATE))

struct ucontext_host;

/* Makes the guest run its handler for sig, or lets the host do what the default is. */
void deliver_signal(struct kthread *k, struct ucontext_host *uc, int sig, const u8 *info);
/* Gives a signal back to the host, as if it had not come yet. */
void requeue_signal(struct kthread *k, int sig, const u8 *info);
/* A fault of the guest's own: as the kernel's force_sig (a blocked or ignored one kills). */
void force_signal(struct kthread *k, struct ucontext_host *uc, const struct fault_info *fi);
/* No signal was delivered: a call that was interrupted starts again. */
void finish_syscall(struct kthread *k, struct ucontext_host *uc);
/* Blocks every signal, the kernel's own too (touch no guest memory meanwhile); returns the mask to go back to. */
u64 signals_hold(void);
void signals_let(u64 mask);
/* A thread ends, its signals blocked: what it has noted for the process, or requeued for itself, goes back to the process. */
void signals_hand_back(struct kthread *k);
u64 guest_mask(const struct kthread *k, const struct ucontext_host *uc);
void set_guest_mask(struct kthread *k, struct ucontext_host *uc, u64 mask);
/* Ends the process as if by that signal's default action. */
void die_by_signal(int sig) __attribute__((noreturn));
/* Installs the host's handlers that the kernel needs in every process.  Once per process image. */
void signals_init(void);
/* exec: handlers back to default, alternate stack off. */
void signals_exec_reset(struct kthread *k);

long sys_rt_sigaction(struct trap *t, int sig, u64 act, u64 oact, u64 size);
long sys_rt_sigprocmask(struct trap *t, int how, u64 set, u64 oset, u64 size);
long sys_rt_sigreturn(struct trap *t);
long sys_sigaltstack(struct trap *t, u64 ss, u64 oss);
long sys_rt_sigsuspend(struct trap *t, u64 set, u64 size);
long sys_rt_sigtimedwait(struct trap *t, u64 set, u64 info, u64 timeout, u64 size);
long sys_rt_sigpending(struct trap *t, u64 set, u64 size);
#endif
