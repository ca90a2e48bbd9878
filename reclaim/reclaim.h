/*
 * What reclaim/ offers to the floors below and to the machine's builder.  Sections by owning file.
 *
 * All of it runs under no lock: reclaim takes q->lock and the mm locks itself, in short transactions.
 */
#ifndef QUIRE_RECLAIM_H
#define QUIRE_RECLAIM_H
#include <port/host.h>
#include <quire/machine.h>

/* ---- reclaim/vmscan.c ---- */
/* hooks.try_to_free_pages: frees about 2^order frames or more.  Returns frames freed; 0 = no progress. */
u64 try_to_free_pages(struct quire *q, gfp_t gfp, unsigned order);

/* Under no lock, after an operation failed with -ENOMEM: was memory short, and did reclaim get some back, so that it is
 * worth trying again?  False: a limit said no, or there is nothing to reclaim. */
bool memory_shortage_relieved(struct quire *q);

/* At boot. */
void reclaim_init(struct quire *q);
int set_swappiness(struct quire *q, s64 value); /* vm.swappiness; 0 or -EINVAL */
int set_page_cluster(struct quire *q, s64 value); /* vm.page-cluster; the same */

/* ---- reclaim/shrinker.c: under no lock ---- */
void shrinker_register(struct quire *q, struct shrinker *s); /* for the life of the machine */
/* Asks all shrinkers for their share at this priority.  Objects freed; *pages grows by the frames that became free. */
u64 shrink_slab(struct quire *q, gfp_t gfp, int priority, u64 *pages);
/* vm.drop_caches, 2: everything that shrinkers will give.  Frames freed. */
u64 drop_slab(struct quire *q);

/* ---- reclaim/throttle.c ---- */
/* Under no lock: a dead context has no pages in its hands any more. */
void throttle_abandon(struct quire *q, struct ctx *dead);

/* ---- reclaim/policies.c ---- */
extern const struct reclaim_policy policy_second_chance;
const struct reclaim_policy *reclaim_policy_by_name(const char *name); /* NULL: none */
const struct reclaim_policy *reclaim_policy_nth(unsigned n);           /* all of them, the default first */

/* ---- reclaim/kswapd.c ---- */
/* hooks.wake_kswapd, for machines that run one.  Any context. */
void wake_kswapd(struct quire *q);
/* Under no lock: reclaims until free memory is above the high watermark or nothing is left.  Returns frames freed. */
u64 balance_pgdat(struct quire *q);
/* kswapd's loop body: waits until it is wanted (at most that long), then does its work.  Under no lock. */
void kswapd_once(struct quire *q, u64 timeout_ns);

/* ---- reclaim/cold.c ---- */
/* hooks.madvise_cold: the pages of [start, end) will not be needed soon; pageout = try to free them now. */
void madvise_cold(struct mm_struct *mm, u64 start, u64 end, bool pageout);

/* ---- reclaim/compaction.c: under no lock ---- */
/* hooks.compact_pages */
bool try_to_compact_pages(struct quire *q, gfp_t gfp, unsigned order);
void compact_memory(struct quire *q); /* /proc/sys/vm/compact_memory: all that can be done */

/* ---- reclaim/migrate.c ---- */
#define MIGRATE_BATCH 64u
#define MIGRATE_MMS 48u /* address spaces of one batch */
/* Under no lock: moves what lies in up to MIGRATE_BATCH anonymous folios, given by their first frames, to other frames.  Batches of
 * 32 or more share one flush.  What cannot be moved now stays.  Returns how many moved. */
u32 migrate_folios(struct quire *q, const pfn_t *heads, u32 n);
/* Before a dead context's parked references are given back, under no lock: what it was moving stays where it was. */
void migrate_abandon(struct quire *q, struct ctx *dead);

/* ---- reclaim/abandon.c ---- */
/* Under no lock, after its transaction was rolled back: what a dead context was doing with frames is over, and those it had parked are
 * free.  Its references to address spaces and files are still there. */
void ctx_abandon(struct ctx *dead);

/* ---- reclaim/psi.c: under no lock ---- */
/* From here on the calling context does nothing but wait for memory.  False: it did already, and somebody else ends it. */
bool psi_memstall_enter(struct quire *q);
void psi_memstall_leave(struct quire *q, bool entered);
/* A dead context waits no longer. */
void psi_abandon(struct quire *q, struct ctx *dead);
/* The figures of this moment: totals in nanoseconds, averages in hundredths of a percent. */
struct psi_view {
	u64 total[NR_PSI_STATES];
	u32 avg[NR_PSI_STATES][NR_PSI_AVGS];
};
void psi_read(struct quire *q, struct psi_view *v);

/* ---- reclaim/usage.c ---- */
/* Pages unless noted. */
struct mm_usage {
	u64 total_vm, locked_vm, pinned_vm, data_vm, exec_vm, stack_vm;
	u64 rss, anon, file, shmem, swap;
	u64 hiwater_rss, hiwater_vm;
	u64 pgtables_bytes;   /* bytes */
	u64 min_flt, maj_flt; /* faults */
	u64 start_code, end_code, start_data, end_data, start_brk, brk, start_stack; /* addresses */
	u64 arg_start, arg_end, env_start, env_end;
};
void mm_usage_get(struct mm_struct *mm, struct mm_usage *u);

/* ---- reclaim/oom.c ---- */
/* hooks.out_of_memory: 0 = memory may have come back, retry; -ENOMEM = the caller itself is dying. */
int out_of_memory(struct quire *q, gfp_t gfp, unsigned order);
/* Points by Linux's rules: pages of rss, swap and page tables, shifted by oom_score_adj.  LONG_MIN = never kill.
 * Under no lock; the task is referenced by the caller. */
long oom_badness(struct quire *q, struct task *t);
/* process_mrelease(2): takes the memory of a process that runs no more of its program.  0, -ESRCH: it has none, -EINVAL: others use it. */
int oom_release(struct task *t);
/* The victim with most points, with a reference; NULL if nobody may be killed. */
struct task *select_bad_process(struct quire *q, long *points);

#endif
