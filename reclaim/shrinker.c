/*
 * Shrinkers: caches of objects give back in proportion to what reclaim takes from the lists of pages (quire/shrinker.h).
 *
 * Reclaim at priority p looks at 1/2^p of the lists; so it asks each shrinker for twice 1/2^p of its objects (they are worth less
 * than pages by DEFAULT_SEEKS).  What is less than a batch is put off and added the next time, so that little by little a small
 * cache pays its share, too; what is put off is never more than twice the cache.  (Linux: mm/shrinker.c.)
 *
 *	kmem   free objects in magazines and slabs without objects; at priority 0 also what the CPUs' slots hold
 *	vmap   ranges of vmalloc that are freed, but not flushed
 *
 * The shadows of file pages (file/workingset.c) need none: they are a table of fixed size.
 *
 * Locks: called under none.  q->lock for the list and nr_deferred; a shrinker takes its own.
 */
#include <mm/mm.h>
#include <quire/vmalloc.h>
#include "vmscan.h"

#define DROP_ROUNDS 32u

void shrinker_register(struct quire *q, struct shrinker *s)
{
	spin_lock(&q->lock);
	s->next = q->reclaim.shrinkers;
	q->reclaim.shrinkers = s;
	spin_unlock(&q->lock);
}

/* ---- the machine's own ---- */

static u64 count_kmem(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	return kmem_reapable(q, sc->priority == 0);
}

static u64 scan_kmem(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	bool all = sc->priority == 0;
	u64 freed;

	if (all)
		sc->nr_scanned = kmem_reapable(q, true);
	freed = kmem_reap_some(q, sc->nr_to_scan, all, &sc->pages);
	return freed ? freed : SHRINK_STOP;
}

static u64 count_vmap(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	u64 n;

	spin_lock(&q->lock);
	n = q->kmem.nr_lazy_pages;
	spin_unlock(&q->lock);
	return n;
}

/* All or nothing: one flush serves them all. */
static u64 scan_vmap(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	u64 n = count_vmap(q, s, sc);

	sc->pages += vm_unmap_aliases(q);
	sc->nr_scanned = n;
	return n ? n : SHRINK_STOP;
}

void shrinker_init(struct quire *q)
{
	struct shrinker *own = q->reclaim.own_shrinkers;

	own[SHRINKER_KMEM] = (struct shrinker){ .name = "kmem", .count_objects = count_kmem, .scan_objects = scan_kmem, .seeks = DEFAULT_SEEKS };
	own[SHRINKER_VMAP] = (struct shrinker){ .name = "vmap", .count_objects = count_vmap, .scan_objects = scan_vmap, .seeks = DEFAULT_SEEKS };
	for (unsigned i = 0; i < NR_OWN_SHRINKERS; i++)
		shrinker_register(q, &own[i]);
}

/* ---- asking ---- */

static u64 take_deferred(struct quire *q, struct shrinker *s)
{
	u64 n;

	spin_lock(&q->lock);
	n = s->nr_deferred;
	s->nr_deferred = 0;
	spin_unlock(&q->lock);
	return n;
}

static void defer(struct quire *q, struct shrinker *s, u64 n, u64 most)
{
	spin_lock(&q->lock);
	s->nr_deferred = MIN(s->nr_deferred + n, most);
	spin_unlock(&q->lock);
}

/* This time's share of `freeable` objects. */
static u64 share(const struct shrinker *s, u64 freeable, int priority)
{
	return s->seeks ? 4 * (freeable >> priority) / s->seeks : freeable / 2;
}

/* Objects freed; sc->pages grows. */
static u64 shrink_one_cache(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	u64 freeable = s->count_objects(q, s, sc), batch = s->batch ? s->batch : SHRINK_BATCH;
	u64 due, total, scanned = 0, freed = 0, deferred;

	if (!freeable)
		return 0;
	deferred = take_deferred(q, s);
	due = share(s, freeable, sc->priority);
	total = MIN((deferred >> sc->priority) + due, 2 * freeable);
	while (total && (total >= batch || total >= freeable)) {
		u64 n;

		sc->nr_to_scan = sc->nr_scanned = MIN(batch, total);
		n = s->scan_objects(q, s, sc);
		if (n == SHRINK_STOP)
			break;
		freed += n;
		scanned += sc->nr_scanned;
		total -= MIN(total, sc->nr_scanned);
	}
	defer(q, s, deferred + due - MIN(deferred + due, scanned), 2 * freeable);
	spin_lock(&q->lock);
	count_vm_events(q, SLABS_SCANNED, scanned);
	spin_unlock(&q->lock);
	return freed;
}

static struct shrinker *next_shrinker(struct quire *q, struct shrinker *s)
{
	struct shrinker *next;

	spin_lock(&q->lock);
	next = s ? s->next : q->reclaim.shrinkers;
	spin_unlock(&q->lock);
	return next;
}

u64 shrink_slab(struct quire *q, gfp_t gfp, int priority, u64 *pages)
{
	u64 freed = 0;

	for (struct shrinker *s = next_shrinker(q, NULL); s; s = next_shrinker(q, s)) {
		struct shrink_control sc = { .gfp = gfp, .priority = priority };

		freed += shrink_one_cache(q, s, &sc);
		*pages += sc.pages;
	}
	return freed;
}

u64 drop_slab(struct quire *q)
{
	u64 pages = 0, freed;
	unsigned round = 0;

	/* As Linux: the longer it takes, the more must be in it to go on. */
	do {
		freed = shrink_slab(q, GFP_KERNEL, 0, &pages);
	} while (freed >> round > 1 && ++round < DROP_ROUNDS);
	return pages;
}
