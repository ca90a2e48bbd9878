/* Processes and threads of a hosted machine (process.c, clone.c, exec.c). */
#ifndef QUIRE_LINUX_PROCESS_H
#define QUIRE_LINUX_PROCESS_H
#include "kernel.h"

/* The supervisor is gone or the machine ends: leave at once. */
void machine_died(void) __attribute__((noreturn));
/* A bug of this kernel: say where and end the machine. */
void kernel_oops(int sig, u64 ip, u64 addr) __attribute__((noreturn));
/* exit path: another thread execs or exits, or the machine ends. */
void thread_stop_point(struct kthread *k, struct ucontext_host *uc);
void exit_work(struct ucontext_host *uc);
void kernel_signal(int sig, u8 *info, struct ucontext_host *uc);

/* thread.c */
struct kthread *kthread_alloc(void);               /* a mapped trap slot, or NULL */
void kthread_bind(struct kthread *k, struct ctx *c); /* gs, alternate stack, robust list of the calling host thread */
void kthread_bind_light(struct kthread *k, struct ctx *c);
void *kthread_stack_top(struct kthread *k);
void kthread_free(struct kthread *k);              /* a slot that never ran */
u32 *kthread_slot_word(struct kthread *k);         /* for CLONE_CHILD_CLEARTID: the host frees the slot */
void kthread_forget_others(struct kthread *k);     /* in the child of fork */

long sys_clone(struct trap *t, u64 flags, u64 stack, u64 ptid, u64 ctid, u64 tls);
long sys_clone3(struct trap *t, u64 args, u64 size);
long sys_vfork(struct trap *t);
long sys_exit_thread(struct trap *t, int code);
long sys_exit_group(struct trap *t, int code);
long sys_set_tid_address(struct trap *t, u64 ctid);
long sys_execve(struct trap *t, u64 path, u64 argv, u64 envp);
long sys_execveat(struct trap *t, int fd, u64 path, u64 argv, u64 envp, int flags);
/* Ends the calling thread: another one is about to exec.  Never returns. */
void thread_end_for_exec(struct kthread *k) __attribute__((noreturn));
/* exit path of a thread while another execs: ends it, or, for the leader, does the exec. */
void exec_stop_point(struct kthread *k, struct ucontext_host *uc);
/* Robust futexes and clear_child_tid of a thread that leaves its address space. */
void thread_release_user(struct kthread *k);
struct task *task_by_serial(struct quire *q, u64 serial); /* under q->tasks.lock */
void doorbell_ring(void);       /* the supervisor has something to do now */
void doorbell_ring_birth(void); /* a process was born, or not: soon is enough */
void process_stats_add(void); /* this process's counters into the machine's */
/* futex.c */
void guest_futex_wake(u64 addr, int n);
/* Linux's exit_robust_list(): the locks on the list of a thread that is gone are marked as OWNER_DIED.  How its memory is reached
 * depends on who does it: the thread itself, or the supervisor after a kill. */
struct robust_walk {
	u32 tid;              /* as it stands in the words that it owned */
	struct mm_struct *mm; /* passed on */
	bool (*read)(struct mm_struct *mm, u64 addr, void *to, size_t n);
	bool (*write)(struct mm_struct *mm, u64 addr, const void *from, size_t n);
	void (*wake)(struct mm_struct *mm, u64 futex); /* one waiter */
};
void robust_list_died(const struct robust_walk *w, u64 head);
long sys_futex(struct trap *t, const u64 a[6]);
long sys_futex_waitv(struct trap *t, const u64 a[6]);
long sys_futex_wake(struct trap *t, const u64 a[6]);
long sys_futex_wait(struct trap *t, const u64 a[6]);
long sys_futex_requeue(struct trap *t, const u64 a[6]);
/* x86_64/syscall.S: the exit path of a thread that did not come through a signal. */
void call_restorer(struct ucontext_host *uc) __attribute__((noreturn));
/* Wakes a parent that waits in vfork for this task. */
void vfork_done(struct task *task);
/* Registers to start a program; uc is the frame that the exit path will load. */
void start_program(struct ucontext_host *uc, u64 entry, u64 sp);

#define NR_RLIMITS 16
struct rlimit_pair { u64 cur, max; };

/* What the first program of a machine is. */
struct guest_boot {
	int ram_fd;
	u64 vdso, vdso_start, vdso_end;
	u32 nspecial;
	struct special_range special[MAX_SPECIAL];
	u64 hwcap, hwcap2, minsigstksz, clktck;
	u64 keep_start, keep_end; /* not unmapped (none: 0) */
	const char *path;         /* resolved file name */
	u32 argc, envc;
	const char *const *argv, *const *envp;
	u64 sigmask;              /* that the supervisor was started with */
	struct rlimit_pair limits[NR_RLIMITS]; /* that the user set, by resource */
	u32 personality;          /* that the user set */
	u32 ctx_id;               /* of a program that joins: the context made for it; 0 = the machine's first program */
	int error_fd;             /* where it says why it could not be started (one s32); -1 = in machine_shared */
};
void start_first_program(struct kthread *k, struct ucontext_host *uc);
long seccomp_install(void);
void rlimits_init(const struct rlimit_pair *users); /* limits.c */
void personality_init(u32 persona);
void guest_start(const struct guest_boot *boot) __attribute__((noreturn));

/* ptrace.c */
long sys_ptrace(const u64 a[6]);
bool trace_wait(struct trap *t, const u64 a[6], long *ret);
bool trace_asked(struct kthread *k);
void trace_stop_point(struct kthread *k, const struct ucontext_host *uc);

/* How task->port_data is used. */
enum { TASKP_SERIAL, TASKP_VFORK, TASKP_EXITING };
#endif
