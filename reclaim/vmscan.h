/*
 * Inside reclaim/: what the mechanism (vmscan.c) and the policies share.
 *
 * The mechanism asks a policy (quire/lru.h) for one candidate after another, tries to free it, and tells the policy what
 * became of it.
 */
#ifndef QUIRE_VMSCAN_H
#define QUIRE_VMSCAN_H
#include "reclaim.h"

#define SWAP_CLUSTER_MAX 32u
#define DEF_PRIORITY 12

struct scan_control {
	struct quire *q;
	gfp_t gfp;
	int priority;        /* DEF_PRIORITY = gentle ... 0 = everything */
	u64 to_reclaim;      /* frames wanted */
	u64 reclaimed;       /* frames freed so far */
	u64 budget;          /* candidates that may still be looked at in this round */
	u64 busy;            /* candidates of this round that somebody else was at */
	bool anon;           /* this part of the round looks at anonymous folios, else at those of files */
	bool kswapd;         /* in the background: counted apart */
};


/* ---- reclaim/vmscan.c ---- */
/* Under no lock: frees up to `pages` of what lies at the end of the inactive list now.  Returns frames freed. */
u64 reclaim_tail(struct quire *q, u64 pages);
/* Under q->lock: the policy's next candidate of sc's kind, and what became of it. */
struct folio *reclaim_next(struct scan_control *sc);
void reclaim_keep(struct scan_control *sc, struct folio *folio, enum keep_reason why);
/* Under no lock: a page of a file, found a moment ago, is to go now, used or not.  Pages freed. */
u64 reclaim_folio(struct quire *q, struct folio *folio);
/* Rounds of growing priority until sc->to_reclaim frames are free, or nothing is left.  Under no lock. */
void shrink_lists(struct scan_control *sc);

/* ---- reclaim/throttle.c ---- */
#define MAX_KSWAPD_FAILURES 16u
#define ISOLATED_AT_LEAST 64ul /* one reclaimer's batch */
/* Under no lock, before direct reclaim: waits while kswapd is behind.  True: the caller is to die, and should not reclaim at all. */
bool throttle_direct_reclaim(struct quire *q);
/* Under no lock: waits if others have too many pages in their hands.  True: they still have, leave it at that. */
bool throttle_isolated(struct scan_control *sc);
/* All rounds of a reclaimer but the last gave nothing: it may have to wait for others, a few milliseconds. */
void throttle_noprogress(struct scan_control *sc);
/* Under no lock: something was freed. */
void throttle_wake(struct quire *q);
/* Under q->lock: the caller has n pages more (or less) in its hands. */
void isolate_count(struct quire *q, s32 n);

/* ---- reclaim/shrinker.c ---- */
void shrinker_init(struct quire *q); /* at boot */

/* ---- reclaim/swapout.c: under no lock ---- */
/* Looks at up to sc->budget anonymous folios (sc->anon is set). */
void shrink_anon(struct scan_control *sc);
bool can_swap(struct quire *q);

/* ---- reclaim/pageout.c ---- */
/* Under no lock: the anonymous pages of [start, end) that nobody else maps go to swap. */
void pageout_range(struct mm_struct *mm, u64 start, u64 end);

/* ---- reclaim/split.c ---- */
/* Under q->lock: the folio's pages become folios of their own, next in line for reclaim.  False: it is not possible now.  Pages
 * that nobody maps stand in ctx->parked[]: split_finish() after the commit. */
bool split_folio(struct quire *q, struct folio *folio);
/* Under no lock: drops what was parked above nparked. */
void split_finish(struct quire *q, u32 nparked);

/* ---- reclaim/second_chance.c, generations.c, clock.c ---- */
extern const struct reclaim_policy policy_generations, policy_clock;

/* ---- reclaim/compaction.c ---- */
/* kswapd, under no lock: free memory that lies in crumbs becomes a few blocks of 64 KiB. */
void compact_background(struct quire *q);
/* ---- reclaim/migrate.c ---- */
/* Under q->lock, an anonymous folio: do only page tables know of it, and not too many? */
bool folio_may_move(const struct folio *folio);

/* ---- reclaim/thrash.c ---- */
/* Under no lock, now and then while memory is short: has the machine been doing nothing but thrash?  Then somebody is killed. */
void thrash_check(struct quire *q);

/* ---- reclaim/unmap.c ---- */
enum unmap_result {
	UNMAP_DONE,       /* nothing maps the folio any more */
	UNMAP_PARTLY,     /* some entries are gone: ask again */
	UNMAP_REFERENCED, /* an entry was young: it is old now */
	UNMAP_BUSY,
	UNMAP_LOCKED,
	UNMAP_NOWHERE,    /* swap is full */
	UNMAP_DIRTY,      /* given up with MADV_FREE, but written to since */
};
/* One step of unmapping a file folio: the entries of one address space.  Called under q->lock (held once) and
 * RETURNS UNLOCKED, after the flush.  The folio may be gone then unless the caller holds it.  force: ignore youth. */
enum unmap_result try_to_unmap_step(struct quire *q, struct folio *folio, bool force);

#endif
