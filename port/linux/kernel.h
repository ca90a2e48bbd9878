/*
 * The hosted kernel's own structures: what is shared by all processes of the machine, what is private to a host process,
 * and what belongs to one thread.
 *
 * A guest thread is always in one of these states (struct ctx.state, shared):
 *	CTX_USER             running guest code: a revoker must signal it
 *	CTX_KERNEL           running this kernel, or blocked in a native call whose buffers are pinned
 *	CTX_NATIVE_UNPINNED  in a native call with pointers that are not listed: its mm is skipped by reclaim
 * The entry sets KERNEL; the exit sets USER and then checks mm->gen against the process's flushed (revoke.c).
 *
 * Locks: kproc.install (private) is taken before mm->lock and never while a spin lock is held.  All host mmap, munmap and
 * mprotect calls on the guest's range happen under it.
 */
#ifndef QUIRE_LINUX_KERNEL_H
#define QUIRE_LINUX_KERNEL_H
#include <quire/machine.h>
#include "layout.h"
#include "swapio.h"
#include "patch.h"

#define CTX_FREE 0u
#define CTX_KERNEL 1u
#define CTX_USER 2u
#define CTX_NATIVE_UNPINNED 3u

/* ctx.flags */
#define CTXF_SUPERVISOR 1u

/* kthread.pending */
#define PEND_SIGNAL 1u
#define PEND_STOP 2u
#define PEND_TRACE 4u /* ptrace.c */

/* The private signal between kernels of one machine: a standard one, so that it coalesces and cannot meet the queue limit. */
#define SIG_PRIVATE 16 /* SIGSTKFLT: nothing on Linux ever sends it */

/* ---- ctx.port_data[] ---- */
enum { CTXP_TGID, CTXP_NEXT, CTXP_PREV, CTXP_TID, CTXP_FREE_NEXT, CTXP_SERIAL, CTXP_NEWBORN,
       CTXP_ROBUST /* guest's robust list head: whoever tidies up after a kill walks it */,
       CTXP_BIRTH  /* of a process that fork makes: birth_word(); changed by compare-and-swap */,
       CTXP_PARENT /* serial of the process that makes it */,
       CTXP_OF_NEXT, CTXP_OF_PREV /* list of machine_shared.ctx_of[], by id */,
       CTXP_TRACER /* serial of the process that traces this thread, 0 = none; mm->lock */,
       CTXP_TRACE  /* futex: TRACE_*, ptrace.c */ };

enum { TRACE_ASKED = 1, TRACE_STOPPED, TRACE_REPORTED, TRACE_RUNNING };

/*
 * A process is announced to the supervisor before it exists, so that a death at any moment leaves somebody who knows.
 *	EXPECTED   the parent is about to fork
 *	BORN       the child runs
 *	CANCELLED  there will be none: the parent could not fork, or died (said by the supervisor); a child that comes
 *	           late ends at once
 */
#define BIRTH_EXPECTED 1u
#define BIRTH_BORN 2u
#define BIRTH_CANCELLED 3u
#define BIRTH_STATE(word) ((u32)(word) & 3u)
#define BIRTH_PID(word) ((s32)((word) >> 2 & 0x3fffff)) /* PID_MAX_LIMIT is 2^22; 0 = not known yet */
#define BIRTH_SERIAL(word) ((word) >> 24)
static inline u64 birth_word(u64 serial, u32 state, s32 pid) { return serial << 24 | (u64)pid << 2 | state; }

/* Per address space, shared; in machine memory at HOST_MM_OFFSET.  gen, log, first_ctx, nproc: mm->lock (logged). */
#define FLUSH_LOG 2048u /* what reclaim can get done while a process sleeps: who missed more loses all its mappings */
#define FLUSH_PROTECT 1u /* in end: only write permission was lost */
struct flush_range { u64 start, end; };
#define FORK_HOT 32u
struct host_mm {
	u64 gen;                  /* number of flushes ever; log[gen % FLUSH_LOG] is the next to write */
	u64 base;                 /* gen when this mm was made: what its first process agrees with */
	u32 first_ctx;            /* list of contexts on this mm, by id, through CTXP_NEXT/PREV; 0 = none */
	u32 nproc;                /* host processes on this mm */
	u32 next_free;            /* index + 1 while free; machine_shared.pool_lock */
	u32 index;
	u32 many;                 /* processes share it, or did, other than by vfork: futex.c; never taken back, not logged */
	u64 hot[FORK_HOT];        /* pages that are written to soon after each fork, 0 = none; guesses, no lock, not logged */
	struct flush_range log[FLUSH_LOG];
};
_Static_assert(HOST_MM_OFFSET + MAX_HOST_MM * sizeof(struct host_mm) <= RAM_BLOCKS_OFFSET, "layout.h");

#define CTX_LISTS 1024u

/* Start of the shared memfd. */
struct machine_shared {
	u64 magic, build_id;
	u64 ram_bytes;
	u32 supervisor_ctx;       /* id; its life word tells whether the supervisor lives */
	s32 supervisor_pid;
	u32 ending;               /* the machine ends: everybody exits at once with 125 */
	u32 first_exit;           /* first program ended */
	struct spinlock pool_lock; /* LOCK_RANK_LEAF: free lists of contexts and host_mms */
	u32 ctx_used;             /* contexts ever used: ids 1..ctx_used */
	u32 ctx_free;             /* id of the first free one, through CTXP_FREE_NEXT */
	u32 ctx_of[CTX_LISTS];    /* those in use by the serial of their process modulo CTX_LISTS, through CTXP_OF_NEXT/PREV; pool_lock */
	u32 host_mm_used, host_mm_free;
	u64 serial;               /* of the newest process; pool_lock */
	u32 newborn;              /* id of a context whose process has no pidfd yet, through CTXP_NEWBORN; pool_lock */
	u32 vfork_word;           /* futex: some vfork child left its parent's mm */
	u32 doorbell;             /* futex: somebody rang the supervisor's bell; this and the next three atomically */
	u32 urgent;               /* rings that cannot wait */
	u32 births;               /* rings for a process that was born: several are answered at once */
	u32 bell_idle;            /* the bell sleeps until somebody wakes it */
	u32 cpu_count;
	u32 panicked;             /* panic_text says why the machine ends */
	u32 strays;               /* a birth was given up without knowing whether there was a child */
	u32 log_seq;              /* lines ever logged: followers look again */
	u32 first_ctx;            /* the first program's context, made by the supervisor */
	s32 start_error;          /* why the first program could not be started (errno) */
	u32 slow_bell;            /* futex: somebody was added to slow_owners; atomically */
	u64 slow_owners[MAX_CTX / 64]; /* bit set of context ids that others have long waited for; atomically */
	u64 said[8];              /* bit set of SAID_*; atomically */
	char panic_text[256];
	u64 seed_state;           /* pool_lock */
	u64 stat_revocations, stat_revoke_signals, stat_recoveries; /* atomically, as all stat_* */
	u64 stat_refills, stat_drops; /* of processes that ended in peace */
	u64 stat_peak_rss;            /* pages, of one process */
	u64 options;              /* OPT_* */
	struct patch_store patch; /* rewritten text (patch_store.c) */
	u32 blocks_begun, blocks_skip, blocks_backoff; /* hugeram.c: of 2 MiB; racy */
	char exe_path[4096];
	struct swapio swapio;     /* requests of swap I/O; atomically */
	struct quire q;
};
_Static_assert(sizeof(struct machine_shared) <= HOST_MM_OFFSET, "layout.h");
#define shared_area() ((struct machine_shared *)SHARED_BASE)
#define OPT_VERBOSE BIT(0)
#define OPT_NO_ASLR BIT(1)
#define OPT_PATCH BIT(2) /* --patch-syscalls */
#define OPT_HOST_HUGE BIT(3) /* the host gives the machine's memory huge pages */

static inline struct ctx *ctx_by_id(u32 id)
{
	return (struct ctx *)(SHARED_BASE + CTX_OFFSET) + (id - 1);
}

/* ---- private to one host process ---- */
#define MAX_NATIVE_RANGES 32
struct native_range { u64 start, end; }; /* host mappings inside the guest's range that are not a TLB (devices) */

#define NSIG 64
/* The host's vdso and its data pages, where the host put them in this process; listed in every address space. */
struct special_range { u64 start, end; u32 exec; char name[20]; };
#define MAX_SPECIAL 4

struct guest_sigaction { u64 handler, flags, restorer, mask; };

struct kproc {
	/* What is written by and after each fork comes first: every page of this that is written to is copied for each child. */
	u32 install;              /* futex mutex: 0 free, 1 held, 2 held and waited for */
	u64 flushed;              /* generation of mm this process's mappings agree with; under install to write */
	struct mm_struct *mm;
	struct task *task;
	s32 pid;
	u32 nthreads;             /* on the address space; atomically.  A first thread that has ended and waits is not one */
	u32 threaded;             /* there may be threads that the host has not buried yet */
	u32 nliving;              /* that have not begun to end; atomically: the last one ends the process */
	u32 sig_lock;             /* futex mutex over sigactions */
	u32 nnative;
	u32 starting;             /* the next private signal starts the first program */
	u32 exec_stop;            /* futex: != 0, all threads end but the first, which completes the exec */
	u32 exec_busy;            /* futex mutex: somebody prepares an exec */
	u32 exec_taken;           /* futex: the first thread has what the executing one prepared */
	struct ctx *exec_ctx;     /* of the thread that called exec, if it is not the first */
	u64 exec_mask;            /* its signal mask */
	u32 membarrier;           /* what the program itself registered for: MEMBARRIER_CMD_REGISTER_*; atomically */
	u64 seq_next, seq_window; /* refills: where sequential touch would go on; under install */
	u64 stat_refills, stat_drops;
	u32 populating;           /* hugeram.c's scratch mapping is in use */
	u64 fresh, fresh_end;     /* what the newest flush mapped again last, 0 = nothing; under install */
	u32 fresh_prot;
	u32 fork_faults;          /* so many more write faults are noted in fork_hot */
	u64 *fork_hot;            /* host_mm.hot of the process that forked last: this one, or its parent */
	u32 forks;
	s32 timer_last;           /* POSIX timers: the highest number given out */
	u32 ntimers;              /* and how many there are; atomically.  Those of the process, which ends with exec */
	u64 installs;             /* refills ever; under install */
	struct native_range installed[64]; /* what the newest of them mapped: installs % 64 is the next; under install */
	struct flush_range few_ranges[48]; /* refill.c's, for flushes that fit: most do, and the long ones lie elsewhere; under install */
	struct flush_range few_kept[16];
	u32 newborn;              /* so many more trapped calls of this process are not counted (patch.c) */
	bool vforked;             /* whoever made this process waits until it leaves the address space */
	struct native_range native[MAX_NATIVE_RANGES];
	struct guest_sigaction sigaction[NSIG + 1];
	struct patch_proc patch;
	u64 vdso, vdso_start, vdso_end; /* host vdso kept for the guest */
	u32 nspecial;
	struct special_range special[MAX_SPECIAL];
	u64 hwcap, hwcap2, minsigstksz, clktck;
	u32 dumpable;
	u32 no_new_privs;         /* what the program asked for; the host's is always set (seccomp.c) */
	char exe_path[4096];      /* /proc/self/exe */
};
extern struct kproc kproc;

/* ---- one thread; at the bottom of its trap slot; gs base points here ---- */
struct sigframe_host;
struct kthread {
	struct kthread *self;     /* %gs:0 */
	struct ctx *ctx;          /* %gs:8, read by the store logger */
	u32 pending;              /* %gs:16: a signal (or other work) waits for the exit path */
	u32 slot;                 /* index of the trap slot */
	struct robust_head { u64 next, off, pending_op; } robust; /* host robust list: one entry, ctx->life */
	u64 robust_entry;
	u64 fast_sp;              /* %gs:56: the guest's stack pointer on its way through a rewritten system call (x86_64/patch.S) */
	s32 tid;
	u32 pending_sig;          /* number, 0 = none */
	u8 pending_info[128];     /* its siginfo */
	u64 saved_mask;           /* sigsuspend and friends: mask to return to */
	u64 requeued;             /* signals of the process that the host may keep for this thread alone */
	u64 wait_mask;            /* the mask that they waited with: the handler that ends them runs under it */
	u32 has_saved_mask;
	u64 held_back;            /* signals of the never-blocked kind that vmask holds back */
	u64 vmask;                /* guest's wish for the signals the kernel never blocks */
	u64 alt_sp, alt_size;     /* guest's sigaltstack */
	u32 alt_flags;
	u64 guest_robust_head, guest_robust_len;
	u64 clear_child_tid, set_child_tid;
	u32 guest_pdeathsig;
	u64 fixup_ip, fixup_sp;   /* kernel access to guest memory in progress: where to go when it fails */
	u64 last_syscall;
	struct trap *trap;        /* innermost trap from guest code */
	long syscall_nr;          /* of the current trap, -1 when it is not a system call or was dealt with */
	u64 fast_mask;            /* guest's signal mask when a rewritten call was interrupted */
	u32 cpu, cpu_uses;        /* port_cpu()'s last answer, and how often it was asked */
	u32 fast_redo;            /* a rewritten call turns into a trap, because it needs one */
};

static inline struct kthread *kthread(void)
{
	struct kthread *k;

	__asm__("mov %%gs:0, %0" : "=r"(k));
	return k;
}

/* One trap from guest code: the host's signal frame, by name.  x86_64/regs.h has the accessors. */
struct ucontext_host;
struct trap {
	struct kthread *k;
	struct ucontext_host *uc; /* guest registers; edits take effect at the exit */
	void *siginfo;
	long nr;                  /* system call, or -1 */
};

/* ---- x86_64/syscall.S ---- */
/* A host system call; negative errno on failure. */
long host_syscall(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
/* The same, but a signal that arrives before or during it ends it: -ERESTARTNOINTR (513) if it was not started,
 * -ERESTARTSYS (512) if it was interrupted and Linux would restart it, -EINTR otherwise. */
long host_syscall_interruptible(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define HC6(nr, a, b, c, d, e, f, ...) host_syscall((nr), (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))
#define host_call(...) HC6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

/* ---- user.c: guest memory.  Under no lock. ---- */
/* Pins [addr, addr+len) for this thread and makes it resident for reading or writing, so that the host kernel can
 * access it until user_unpin_all().  0, -EFAULT, or -E2BIG when all pins are in use (callers then copy).  len 0 is fine. */
int user_pin(u64 addr, u64 len, bool write);
void user_unpin_all(void);
/* -EFAULT if any byte cannot be had (a prefix may have been copied). */
int copy_from_user(void *dst, u64 src, size_t n);
int copy_to_user(u64 dst, const void *src, size_t n);
/* Length without NUL, -EFAULT, or -ENAMETOOLONG when there is no NUL within size. */
long strncpy_from_user(char *dst, u64 src, size_t size);

/* ---- dispatch.c ---- */
/* A system call from the guest.  Returns its result (or -ERESTART*), to be put into the guest's registers. */
long guest_syscall(struct trap *t, long nr, const u64 a[6]);

/* ---- native.c: calls that the host executes ---- */
/* Pins what the table says, executes, unpins.  -ENOSYS for calls that are refused. */
long native_syscall(struct trap *t, long nr, const u64 a[6]);

/* ---- procfs.c: paths that the machine serves ---- */
/* Looks whether path (relative to dirfd) names something under /proc that the machine serves, and opens it: >= 0 a
 * descriptor, negative errno, or PROCFS_NOT_OURS when the host should be asked. */
#define PROCFS_NOT_OURS (-100000)
long procfs_open(int dirfd, const char *path, int flags);
/* readlink on /proc/self/exe and the like: length (<= size) or errno or PROCFS_NOT_OURS. */
long procfs_readlink(int dirfd, const char *path, char *buf, size_t size);

/* ---- refill.c ---- */
void install_lock(void);
void install_unlock(void);
/* Drops every host mapping of the guest's range, except pinned and native ranges.  Under install. */
void host_tlb_drop_all(void);
/* Makes the process's mappings agree with mm->gen.  Under install. */
void host_tlb_flush(void);
/* Brings the page at addr in and maps it (and neighbours).  Returns as do_mem_abort. */
enum fault_result host_fault(u64 addr, u32 esr, struct fault_info *info);

/* ---- log ---- */
/* True the first time in the life of the machine: for what is said once.  Below NATIVE_MAX: numbers of refused calls. */
enum { SAID_PR_SET_MM = 480, SAID_ZEROCOPY, SAID_VMSPLICE, SAID_END = 512 };
bool first_time(u32 what);
void klog(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
