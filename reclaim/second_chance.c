/*
 * The default policy: two lists per kind, and a second chance.
 *
 *	new folios -> inactive front ... inactive tail -> candidate
 *	                  ^   used once: back to the front |
 *	   active tail ---+   used twice: active front  <--+
 *
 * List 0 is inactive, list 1 active.  The inactive list is kept at least a quarter as long as the active one, so that a folio
 * has time to be used again before it is judged.  Locks: q->lock for everything.
 */
#include <file/filemap.h>
#include "vmscan.h"

enum { INACTIVE, ACTIVE };

static unsigned kind_of(const struct scan_control *sc)
{
	return sc->anon ? LRU_KIND_ANON : LRU_KIND_FILE;
}

static unsigned place(struct quire *q, struct folio *folio)
{
	return folio_list(folio) & ACTIVE;
}

static bool is_active(const struct lruvec *lru, unsigned kind, unsigned list)
{
	return list == ACTIVE;
}

static void activate(struct quire *q, struct folio *folio)
{
	if (!(folio->f.flags & FF_LRU) || (folio->f.flags & (FF_UNEVICTABLE | FF_ACTIVE)))
		return;
	folio->f.flags &= (u16)~FF_REFERENCED;
	lru_move(q, folio, ACTIVE);
	workingset_activation(q, folio);
	count_vm_events(q, PGACTIVATE, folio_nr_pages(folio));
}

static void deactivate(struct quire *q, struct folio *folio)
{
	folio->f.flags &= (u16)~FF_REFERENCED;
	lru_move(q, folio, INACTIVE);
	count_vm_events(q, PGDEACTIVATE, folio_nr_pages(folio));
}

/* Moves a few of the longest unused active folios over when too few are inactive. */
static void refill_inactive(const struct scan_control *sc)
{
	struct quire *q = sc->q;
	const struct frame_list *l = q->lru.list[kind_of(sc)];

	for (unsigned i = 0; i < SWAP_CLUSTER_MAX; i++) {
		struct folio *folio = lru_tail(q, kind_of(sc), ACTIVE);

		if (!folio || l[INACTIVE].count * 4 > l[ACTIVE].count || txn_should_break())
			return;
		deactivate(q, folio);
		folio->f.flags |= FF_WORKINGSET; /* it was, once: worth remembering when it has gone */
		count_vm_events(q, PGREFILL, folio_nr_pages(folio));
	}
}

static struct folio *next(struct scan_control *sc)
{
	struct quire *q = sc->q;

	refill_inactive(sc);
	while (sc->budget) {
		struct folio *folio = lru_tail(q, kind_of(sc), INACTIVE);

		if (!folio) {
			sc->budget = 0;
			return NULL;
		}
		sc->budget--;
		if (!(folio->f.flags & FF_REFERENCED) || sc->priority == 0)
			return folio;
		folio->f.flags &= (u16)~FF_REFERENCED;
		lru_move(q, folio, INACTIVE);
		count_vm_events(q, PGROTATED, folio_nr_pages(folio));
		if (txn_should_break())
			return NULL;
	}
	return NULL;
}

static void kept(struct scan_control *sc, struct folio *folio, enum keep_reason why)
{
	struct quire *q = sc->q;

	if (why == KEEP_REFERENCED) {
		/* Mapped and used within one pass of the list: worth more than a page read once. */
		activate(q, folio);
		return;
	}
	lru_move(q, folio, folio_list(folio));
	count_vm_events(q, PGROTATED, folio_nr_pages(folio));
}

const struct reclaim_policy policy_second_chance = {
	.name = "second-chance", .place = place, .activate = activate, .deactivate = deactivate, .is_active = is_active,
	.next = next, .kept = kept, .knows_refaults = true,
};
