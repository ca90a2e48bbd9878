/*
 * Shrinkers: who keeps objects that it could do without (a cache of any kind) tells reclaim how many there are, and gives some
 * back when asked; Linux's struct shrinker.  reclaim/shrinker.c asks all of them in proportion to what it asks of the lists of pages.
 *
 * A shrinker is registered once and stays as long as its machine, so nobody who walks the list need hold anything.
 */
#ifndef QUIRE_SHRINKER_H
#define QUIRE_SHRINKER_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;

/* One question to one shrinker. */
struct shrink_control {
	gfp_t gfp;
	int priority;     /* as that of reclaim: 0 = whatever there is */
	u64 nr_to_scan;   /* objects that it should look at */
	u64 nr_scanned;   /* objects that it did look at, if it says so; else nr_to_scan */
	u64 pages;        /* frames that became free by that */
};

#define SHRINK_STOP (~0ull) /* scan_objects: not now (a lock is not to be had) */
#define DEFAULT_SEEKS 2u    /* what making an object anew costs beside reading a page, times 2 */
#define SHRINK_BATCH 128u

struct shrinker {
	const char *name;
	/* Objects that could go.  Under no lock, as below. */
	u64 (*count_objects)(struct quire *q, struct shrinker *s, struct shrink_control *sc);
	/* Looks at sc->nr_to_scan objects and frees those that can go.  Objects freed, or SHRINK_STOP. */
	u64 (*scan_objects)(struct quire *q, struct shrinker *s, struct shrink_control *sc);
	u32 seeks;        /* 0: they cost next to nothing */
	u32 batch;        /* objects of one scan; 0 = SHRINK_BATCH */
	void *private_data;
	/* q->lock: */
	u64 nr_deferred;  /* objects that were due, but fewer than a batch */
	struct shrinker *next;
};

#endif
