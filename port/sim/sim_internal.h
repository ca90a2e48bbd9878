/*
 * What the files of the simulated machine share.  Locks are host locks (pthread): the core never sees them,
 * and a port lock is innermost: nothing of the core is called while one is held.
 */
#ifndef PORT_SIM_INTERNAL_H
#define PORT_SIM_INTERNAL_H
#include "mmu.h"
#include "sim.h"
#include <pthread.h>
#include <setjmp.h>

#define SIM_MAX_CTX 256

struct sim_cpu;

/* A seeded generator: splitmix64 (Steele, Lea, Flood 2014), one atomic add a draw. */
struct sim_rng {
	u64 state; /* atomic */
};
void sim_rng_seed(struct sim_rng *r, u64 seed);
u64 sim_rng_next(struct sim_rng *r);
static inline bool sim_rng_percent(struct sim_rng *r, u32 percent)
{
	return percent && sim_rng_next(r) % 100 < percent;
}

/* What a context is doing under SIM_SCHED_ONE; sched.lock. */
enum sim_run_state { SIM_IDLE, SIM_RUNNABLE, SIM_WAITING, SIM_JOINING };

/* One context of one thread.  Freed when the thread leaves. */
struct sim_ctx {
	struct ctx *ctx;            /* stays mapped until the machine ends */
	struct sim_machine *m;      /* immutable */
	struct sim_ctx *outer;      /* this thread's context on another machine, entered before */
	struct sim_ctx *next;       /* m->contexts; m->ctx_lock */
	unsigned slot;              /* index in sched.slots */
	/* SIM_SCHED_ONE; sched.lock: */
	enum sim_run_state run;
	pthread_cond_t turn;
	u32 *wait_word;
	u64 wait_until;             /* simulated ns; ~0 = for ever */
	bool woken;
	/* Death on demand; own thread only: */
	u64 events;                 /* logged stores and port calls so far */
	u64 dies_at;                /* event; 0 = lives */
	jmp_buf death;              /* to the end of its thread; valid while dies_at is set */
	bool dead;                  /* read by others after the thread has ended */
	bool unlogged;              /* own thread only: in phys/quick.c, whose stores are events but not noted */
};

struct sim_scheduler {
	pthread_mutex_t lock;
	struct sim_rng rng;
	struct sim_ctx *running;    /* who holds the baton */
	struct sim_ctx *slots[SIM_MAX_CTX];
	u32 preempt_percent;        /* immutable */
};

struct sim_fail_plan {
	u64 kinds;                  /* mask of BIT(FAIL_*) */
	u64 nth;                    /* 0 = none */
	bool onwards;               /* nth and every later one */
	u32 percent;
	struct sim_rng rng;
	u64 asked, injected;        /* atomic */
};

struct sim_log {
	pthread_mutex_t lock;
	char *text;                 /* NUL-terminated; lock */
	size_t len, cap;            /* bytes; lock */
	bool to_stderr;             /* immutable */
};

#define SIM_MAX_SIGNALS 1024u
struct sim_signal {
	s32 pid;
	int sig;
};

/* What was in use right after boot. */
struct sim_baseline {
	u64 free;                   /* free frames */
	u64 frames;                 /* used frames that are not slabs' */
	u64 objects;                /* live slab objects */
};

#define SIM_MAX_SWAP_DEVICES 8u
struct sim_swap_device {
	u8 *bytes;                  /* NULL = no device */
	u64 pages;
	int read_error, write_error; /* what every request gets; 0 = it works */
	u64 reads, writes, pages_read, pages_written; /* requests, failed ones included; atomic */
};

struct sim_mm;
struct sim_disk;
struct sim_machine {
	struct quire *q;
	struct sim_config cfg;      /* defaults filled in; immutable */
	struct quire_config qcfg;   /* immutable */
	u8 *ram;                    /* physical address 0 */
	u64 ram_bytes;
	void *ram_map, *mem_map;    /* host mappings, for munmap */
	size_t ram_map_bytes, mem_map_bytes;
	u64 clock_ns;               /* simulated time; atomic */
	struct sim_rng random;      /* port_random */
	struct sim_rng coin;        /* break hints */
	struct sim_fail_plan fail;
	struct sim_log log;
	bool panicked;
	bool programs_run;      /* port_programs_run(); atomic */
	pthread_mutex_t ctx_lock;
	struct sim_ctx *contexts;   /* ctx_lock */
	u32 nr_contexts;            /* ctx_lock */
	bool id_used[SIM_MAX_CTX + 1];      /* ctx_lock */
	struct ctx *by_id[SIM_MAX_CTX + 1]; /* written under ctx_lock, read atomically; never unset */
	struct sim_scheduler sched;
	struct sim_cpu *cpus;       /* nr_cpus of them */
	u64 kernel_table;           /* TTBR1; atomic */
	sim_abort_fn abort_handler; /* set before the first access */
	pthread_mutex_t asid_lock;
	u64 asid_generation;        /* asid_lock; steps of 1 << asid_bits */
	u64 *asid_map;              /* asid_lock; one bit each */
	u32 asid_next;              /* asid_lock */
	u64 active_context[QUIRE_MAX_CPUS], reserved_context[QUIRE_MAX_CPUS]; /* asid_lock */
	bool flush_wanted[QUIRE_MAX_CPUS]; /* asid_lock */
	pthread_mutex_t mms_lock;
	struct sim_mm *mms;         /* mms_lock */
	u64 last_uid;               /* mms_lock */
	pthread_mutex_t signal_lock;
	u32 nr_signals;             /* ever sent; signal_lock */
	struct sim_signal signals[SIM_MAX_SIGNALS]; /* a ring; signal_lock */
	struct sim_rng flush_coin;
	bool ignore_flushes;
	unsigned victim;            /* of the next sim_run; set by sim_kill_at */
	u64 victim_dies_at;         /* 0 = nobody dies */
	u64 victim_events;          /* events of thread `victim` in the last sim_run */
	struct sim_swap_device swap_devices[SIM_MAX_SWAP_DEVICES]; /* simswap.c */
	struct sim_disk *disk;      /* simfs.c; NULL until a file is made */
	void (*free_disk)(struct sim_machine *m);            /* set with it, as is: */
	u8 *(*token_bytes)(struct sim_machine *m, u64 pa);   /* host address of a token frame's byte, or NULL */
	s32 last_pid;               /* process.c; atomic */
	struct sim_stats stats;     /* atomic */
	struct sim_baseline baseline;
	bool (*nothing_leaked)(struct quire *q); /* set by sim_machine_new: keeps machine.o free of references to the core */
};

void sim_lock_contended(u32 *word);
/* ---- simswap.c ---- */
void sim_swap_free(struct sim_machine *m);

static inline struct sim_machine *sim_of(const struct quire *q) { return q->port_data; }

void sim_die(const char *what) __attribute__((noreturn)); /* the host cannot give what the test needs */
void *sim_map(size_t bytes);                              /* zeroed, lazily backed, page aligned */
void sim_unmap(void *p, size_t bytes);
struct sim_ctx *sim_ctx_current(void);
void sim_ctx_destroy(struct sim_ctx *s);
void sim_ctx_die(struct sim_ctx *s) __attribute__((noreturn));
/* A point where a context may die. */
static inline void sim_event(struct sim_ctx *s)
{
	if (unlikely(s->dies_at) && ++s->events == s->dies_at)
		sim_ctx_die(s);
}
void sim_ctx_end_all(struct sim_machine *m);              /* at machine end */
void sim_ctx_break_locks(struct ctx *c);                  /* after a caught panic */
void sim_sched_init(struct sim_machine *m);
void sim_sched_add(struct sim_ctx *s, bool run_now);
void sim_sched_remove(struct sim_ctx *s);
int sim_sched_wait(struct sim_ctx *s, u32 *word, u32 expected, u64 timeout_ns);
void sim_sched_wake(struct sim_machine *m, u32 *word, u32 n);
void sim_sched_join_begin(struct sim_ctx *s);
void sim_sched_start(struct sim_ctx *s);
void sim_sched_join_end(struct sim_ctx *s);

#endif
