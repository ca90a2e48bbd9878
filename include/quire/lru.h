/*
 * The LRU lists and what orders them: struct lruvec (one a machine) and struct reclaim_policy.
 *
 * Reclaim is mechanism and policy.  The mechanism (reclaim/vmscan.c, unmap.c, swapout.c) asks the policy for one candidate after
 * another, tries to free it, and tells what became of it.  A policy decides order only: it moves folios between lists and
 * never frees, unmaps or writes.  docs/policies.md shows how to write one.
 *
 * There are LRU_NR_LISTS lists for folios of files and as many for anonymous ones, and one for what cannot be reclaimed.
 * What the lists mean is the policy's business; FF_ACTIVE and FF_LIST1 of a folio say which one it is on, as a number of two
 * bits.  Lists are front (first) to tail (last); new folios usually come to a front, and candidates from a tail.
 *
 * Locks: q->lock for everything here.  A policy's functions are called under it, inside a transaction: bounded work.
 */
#ifndef QUIRE_LRU_H
#define QUIRE_LRU_H
#include <quire/phys.h>
#include <quire/shrinker.h>
#include <sync.h>

struct quire;
struct scan_control;
struct reclaim_policy;

#define LRU_NR_LISTS 4u
/* First index of lruvec.list[]. */
enum { LRU_KIND_ANON, LRU_KIND_FILE, LRU_NR_KINDS };

/* An entry for each of the pages that left memory last: workingset.c. */
struct shadow {
	u32 tag;  /* which page of which file; 0 = none */
	u32 age;  /* lruvec.nonresident_age when it left; the lowest bit says that it was part of the working set */
};

struct lruvec {
	const struct reclaim_policy *policy; /* set at boot; written by lru_set_policy() */
	struct frame_list list[LRU_NR_KINDS][LRU_NR_LISTS];
	u64 pages[LRU_NR_KINDS][LRU_NR_LISTS]; /* pages (not folios) on each */
	struct frame_list unevictable;

	/* file/workingset.c */
	struct shadow *shadows;    /* boot pointer; a hash table of nr_shadows entries, or NULL */
	u64 nr_shadows;            /* boot; a power of two */
	u64 nonresident_age;       /* pages that left the inactive end ever: evicted, or made active */
	/* file/lru.c */
	u64 cost[LRU_NR_KINDS];    /* what reclaiming each kind has cost lately: lru_note_cost() */

	/* file/workingset.c, too */
	u64 refaults_soon;         /* pages that came back although they had been out for no longer than memory can hold */

	/* For policies: what a policy keeps for the machine. */
	u64 seq[LRU_NR_KINDS];     /* generations: number of the youngest one */
	u64 min_seq[LRU_NR_KINDS]; /* generations: number of the oldest one */
	u64 word;                  /* whatever it likes (a random state, a hand) */
};

/* Why a candidate was not freed. */
enum keep_reason {
	KEEP_REFERENCED, /* somebody used it since it was last looked at */
	KEEP_BUSY,       /* pinned, locked, its mm busy, or under writeback */
	KEEP_DIRTY,      /* must be written first */
	KEEP_LOCKED,     /* in a VM_LOCKED area: it belongs on the unevictable list (lru_cull) */
};

struct reclaim_policy {
	const char *name;
	/* Once, when the policy is chosen, before there are folios; may be NULL. */
	void (*init)(struct lruvec *lru);
	/* A folio comes onto the lists: the number of its list.  Its flags may say which it was on before. */
	unsigned (*place)(struct quire *q, struct folio *folio);
	/* It has proved to be worth keeping: used a second time, or it came back soon after it had been reclaimed. */
	void (*activate)(struct quire *q, struct folio *folio);
	/* The program says it will not need it soon: as if it had not been used for long. */
	void (*deactivate)(struct quire *q, struct folio *folio);
	/* Does /proc call what is on this list active? */
	bool (*is_active)(const struct lruvec *lru, unsigned kind, unsigned list);
	/* The folio that should go next (it stays on its list), or NULL when this round has none: sc->budget was used up, or
	 * there is nothing.  Takes one from sc->budget for each folio it looks at. */
	struct folio *(*next)(struct scan_control *sc);
	/* The candidate stays; it must not be the next candidate again at once. */
	void (*kept)(struct scan_control *sc, struct folio *folio, enum keep_reason why);
	/* It keeps apart what has come back soon after it had gone, with FF_WORKINGSET.  Then, where faults are dear (PORT_CAP_DEAR_FAULTS)
	 * and swap is in memory, anonymous pages that have not are not asked whether they are used. */
	bool knows_refaults;
	/* Not NULL: when a candidate is found used, the mechanism asks its neighbours in the page table too, and names those that
	 * were used. */
	void (*young)(struct quire *q, struct folio *folio);
};

/* reclaim/shrinker.c: the machine's own. */
enum { SHRINKER_KMEM, SHRINKER_VMAP, NR_OWN_SHRINKERS };

/* What reclaim/ keeps in struct quire.  q->lock. */
struct reclaim_info {
	u32 page_cluster;      /* vm.page-cluster: binary logarithm of the pages that are read from a swap device together */
	u32 swappiness;        /* vm.swappiness, 0..200: weight of anonymous pages; 200 - it of file pages */
	u32 bad_windows;       /* thrash.c: how many windows in a row were nothing but thrashing */
	u64 window_ns;         /* when this window began */
	u64 window_soon;       /* lru.refaults_soon then */
	bool thrashing;        /* the verdict: the OOM killer is being asked because of it */
	u64 thrash_kills;      /* how often it was */
	struct mutex compact_mutex; /* compaction.c: one at a time; tried only */
	u64 compact_hand;      /* range of frames that was looked at last */
	u64 nr_isolated;       /* pages on their way to swap, in reclaimers' hands */
	u32 kswapd_failures;   /* of its runs, in a row, that got nothing */
	u32 throttle_word;     /* throttled reclaimers wait here; counts reasons to look again; atomic */
	struct shrinker *shrinkers; /* all of them, newest first */
	struct shrinker own_shrinkers[NR_OWN_SHRINKERS];
};

/* ---- file/lru.c ---- */
/* Reclaiming pages of this kind has cost something: `io` pages were written, or read again that should have stayed, and `rotated`
 * were looked at for nothing.  Reclaim leans away from what costs more.  Under q->lock. */
#define LRU_IO_COST 32u
void lru_note_cost(struct quire *q, unsigned kind, u64 io, u64 rotated);

/* ---- file/lru.c: for policies ---- */
static inline unsigned folio_kind(const struct folio *folio)
{
	return folio->f.flags & FF_SWAPBACKED ? LRU_KIND_ANON : LRU_KIND_FILE;
}
static inline unsigned folio_list(const struct folio *folio)
{
	return (folio->f.flags & FF_ACTIVE ? 1u : 0u) | (folio->f.flags & FF_LIST1 ? 2u : 0u);
}
/* Moves a folio that is on the lists to the front (or the tail) of one of its kind. */
void lru_move(struct quire *q, struct folio *folio, unsigned list);
void lru_move_tail(struct quire *q, struct folio *folio, unsigned list);
/* Moves it to the unevictable list. */
void lru_cull(struct quire *q, struct folio *folio);
/* The folio at the tail of a list, or NULL. */
struct folio *lru_tail(struct quire *q, unsigned kind, unsigned list);
/* Walks all lists; says through quire_log what is wrong. */
bool lru_is_valid(struct quire *q);
/* Shifts what /proc counts after a list has begun or ceased to be active. */
void lru_recount(struct quire *q);

#endif
