/*
 * The simulated AArch64 machine, as tests and the lab see it.
 *
 * A machine is made by sim_machine_new() and ended by sim_machine_free(); many may live in one process.
 * Everything about it is drawn from one seed.  Two schedulers:
 *   SIM_SCHED_THREADS   contexts are real threads running at once (for TSan and stress);
 *   SIM_SCHED_ONE       contexts are threads too, but only one runs at a time, and who runs next is drawn
 *                       from the seed at every port call: the same seed gives the same interleaving.
 * The thread that makes a machine gets a context on it at once; other threads call sim_thread_enter(), or are
 * started by sim_run().
 *
 * This is ordinary libc C (the unit flavour's port).  Nothing of it may be used by the core.
 */
#ifndef PORT_SIM_H
#define PORT_SIM_H
#include <quire/machine.h>

enum sim_sched { SIM_SCHED_THREADS, SIM_SCHED_ONE };

/* When a flush that the core asked for takes effect. */
enum sim_tlb_mode {
	SIM_TLB_NORMAL, /* per-CPU TLBs with ASIDs; on each CPU at a moment drawn from the seed, at port_tlb_sync at the latest */
	SIM_TLB_STRICT, /* per-CPU TLBs with ASIDs; at once, on all CPUs */
	SIM_TLB_HOSTED, /* imitates the hosted port: one software TLB per mm, flushed at port_tlb_sync, refused when pinned */
};

/* All-zero is a valid configuration. */
struct sim_config {
	u64 memory;                      /* bytes; 0 = 64 MiB */
	u32 nr_cpus;                     /* 0 = 1 */
	u64 seed;
	const struct zone_layout *zones; /* NULL = 64-bit default */
	u32 overcommit_memory, overcommit_ratio; /* ratio 0 = 50 */
	u32 folio_max_order;             /* 0 = 4 KiB only */
	u32 max_map_count;               /* 0 = 65530 */
	const struct reclaim_policy *policy; /* NULL = second-chance */
	bool debug_poison, debug_owner;

	enum sim_sched sched;
	u32 preempt_percent;             /* SIM_SCHED_ONE: chance to switch at a port call; 0 = 20 */
	u32 break_percent;               /* chance that txn_should_break() says yes without need */
	bool real_clock;                 /* port_clock_ns from the host instead of simulated time */

	bool no_virgin_zero;             /* RAM starts full of junk (at most 1 GiB then) and the capability is off */
	bool host_files;                 /* PORT_CAP_HOST_FILES: file folios are tokens */
	bool hw_af, hw_dbm;              /* the MMU updates the Access flag / dirty state (dbm implies af) */
	enum sim_tlb_mode tlb;
	u32 asid_bits;                   /* 0 = 16; 2..16 */
	bool pan;                        /* EL1 may not touch EL0 pages except by unprivileged loads and stores */
	bool align_check;                /* SCTLR_EL1.A: unaligned accesses fault */
	bool tbi0;                       /* TCR_EL1.TBI0: the top byte of user addresses is ignored */
	bool check_law1;                 /* panic when a live translation changes its frame without a flush */
	bool check_reuse;                /* panic when a frame is cleared or overwritten while a TLB still holds it */

	bool check_leaks;                /* sim_machine_free aborts if frames or slab objects are missing */
};

/* ---- machine.c, boot.c ---- */
/* A machine with memory, CPUs and a context for the caller, but no core: port_data, cfg, caps and lock ranks are set;
 * tests of a single floor call its *_init themselves.  Never NULL: ends the test program when the host has no memory. */
struct quire *sim_machine_new_raw(const struct sim_config *cfg); /* cfg NULL = all zero */
/* The same, and quire_boot().  Never NULL. */
struct quire *sim_machine_new(const struct sim_config *cfg);
/* What sim_machine_new would pass to quire_boot(): memory, direct map, mem_map.  Valid after sim_machine_new_raw. */
const struct quire_config *sim_quire_config(struct quire *q);
/* Ends the machine and every context on it.  No other thread may be inside. */
void sim_machine_free(struct quire *q);
/* Frames in use now beyond those in use right after boot, slabs' included (negative: fewer).  Empties per-CPU lists and
 * caches first. */
s64 sim_leaked_frames(struct quire *q);

/* ---- context.c ---- */
/* Makes this thread's context on q current, creating it if needed. */
struct ctx *sim_thread_enter(struct quire *q);
/* Ends the current context; the one that was current before (on another machine) is current again. */
void sim_thread_leave(void);
/* Moves the calling context to CPU n. */
void sim_thread_set_cpu(unsigned n);
/* Runs fn(q, i, arg) for i in [0, n) on n threads, each with a context, thread i on CPU i % nr_cpus; returns when all have. */
void sim_run(struct quire *q, unsigned n, void (*fn)(struct quire *q, unsigned i, void *arg), void *arg);
/* A point where SIM_SCHED_ONE may let another context run. */
void sim_preempt(void);
/* What port_programs_run() says from here on; at first, that none runs. */
void sim_set_programs_run(struct quire *q, bool run);
/* Moves simulated time forward. */
void sim_advance_clock(struct quire *q, u64 ns);

/* ---- kill.c: death at any instruction, as by kill -9 ---- */
/* In every following sim_run() thread `victim` dies at its event n: a store of the core (only in programs linked with
 * port/sim/undo_hooks.c, where stores are logged), a lock or a port call.  n = ~0: it lives, but its events are counted; 0: off. */
void sim_kill_at(struct quire *q, unsigned victim, u64 n);
u64 sim_kill_events(struct quire *q); /* of the victim in the last sim_run() */
/* What a supervisor does after a death: rolls dead contexts back, frees their locks, gives back what they had parked.
 * Returns how many there were.  Under no lock. */
unsigned sim_recover_dead(struct quire *q);

/* ---- fail.c: failures on demand.  kinds: mask of BIT(FAIL_PAGE) ...; each call replaces the plan and zeroes the count ---- */
#define SIM_FAIL_ALL (BIT(FAIL_PAGE) | BIT(FAIL_SLAB) | BIT(FAIL_VMALLOC) | BIT(FAIL_IO))
#define SIM_FAIL_MEMORY (BIT(FAIL_PAGE) | BIT(FAIL_SLAB) | BIT(FAIL_VMALLOC))
void sim_fail_none(struct quire *q);                       /* fail nothing; count all kinds */
void sim_fail_nth(struct quire *q, u64 kinds, u64 n);      /* the nth from now (1 = the next), once; 0 = none, only count */
void sim_fail_from(struct quire *q, u64 kinds, u64 n);     /* the nth from now and every later one */
void sim_fail_seeded(struct quire *q, u64 kinds, unsigned percent, u64 seed);
u64 sim_fail_count(struct quire *q);                       /* how many were asked for since the plan was set */
u64 sim_fail_injected(struct quire *q);                    /* how many of them failed */

/* ---- host.c ---- */
/* How often host_kill() sent sig (0 = any) to pid since the machine began or sim_signals_clear(). */
unsigned sim_signals_sent(struct quire *q, s32 pid, int sig);
void sim_signals_clear(struct quire *q);

/* ---- simswap.c: swap devices ---- */
/* A new one, all zero; its number. */
u32 sim_swap_new(struct quire *q, u64 pages);
/* Every read, every write from now on gets these errors (negative; 0 = works). */
void sim_swap_break(struct quire *q, u32 dev, int read_error, int write_error);
/* The bytes of a page on it. */
u8 *sim_swap_page(struct quire *q, u32 dev, u64 page);
struct sim_swap_counts { u64 reads, writes, pages_read, pages_written; bool open; };
struct sim_swap_counts sim_swap_counts(struct quire *q, u32 dev);

/* ---- console.c ---- */
/* Everything port_log() was given so far, one line each; valid until the next port_log.  Also on stderr with QUIRE_LOG=1. */
const char *sim_log_text(struct quire *q);
void sim_log_clear(struct quire *q);
/* Calls fn(arg); if it panics (BUG_ON, port_panic) returns the text, else NULL.  Locks taken inside are broken open.
 * The text is valid until the next call on this thread. */
const char *sim_expect_panic(void (*fn)(void *arg), void *arg);
/* The seed of this run: environment QUIRE_SEED if set, else `fallback`; printed on stderr so that it can be replayed. */
u64 sim_seed(u64 fallback);

#endif
