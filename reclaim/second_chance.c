/*
 * The default policy: two lists per kind, and a second chance.
 *
 *	new folios -> inactive front ... inactive tail -> candidate
 *	                  ^   used once: back to the front |
 *	   active tail ---+   used twice: active front  <--+
 *
 * Invariant: FF_ACTIVE names the list.  The inactive list is kept at least half as long as the active one, so that
 * a folio has time to be used again before it is judged.  Locks: q->lock for everything.
 */
#include <file/filemap.h>
#include "vmscan.h"

static struct folio *list_tail(struct quire *q, const struct frame_list *l)
{
	return l->last ? (struct folio *)pfn_to_frame(q, l->last - 1) : NULL;
}

/* Takes the folio off its list, changes flags, and puts it at the front of the list that they name. */
static void requeue(struct quire *q, struct folio *folio, u16 set, u16 clear)
{
	folio_del_lru(q, folio);
	folio->f.flags = (u16)((folio->f.flags | set) & ~clear);
	folio_add_lru(q, folio);
}

static struct frame_list *inactive_list(const struct scan_control *sc)
{
	return sc->anon ? &sc->q->lru_inactive_anon : &sc->q->lru_inactive_file;
}

/* Moves a few of the longest unused active folios over when too few are inactive. */
static void refill_inactive(const struct scan_control *sc)
{
	struct quire *q = sc->q;
	const struct frame_list *active = sc->anon ? &q->lru_active_anon : &q->lru_active_file;

	for (unsigned i = 0; i < SWAP_CLUSTER_MAX; i++) {
		struct folio *folio = list_tail(q, active);

		if (!folio || inactive_list(sc)->count * 2 > active->count || txn_should_break())
			return;
		requeue(q, folio, 0, FF_ACTIVE | FF_REFERENCED);
		count_vm_event(q, PGREFILL);
		count_vm_events(q, PGDEACTIVATE, folio_nr_pages(folio));
	}
}

static struct folio *second_chance_next(struct scan_control *sc)
{
	struct quire *q = sc->q;

	refill_inactive(sc);
	while (sc->budget) {
		struct folio *folio = list_tail(q, inactive_list(sc));

		if (!folio) {
			sc->budget = 0;
			return NULL;
		}
		sc->budget--;
		if (!(folio->f.flags & FF_REFERENCED) || sc->priority == 0)
			return folio;
		requeue(q, folio, 0, FF_REFERENCED);
		count_vm_events(q, PGROTATED, folio_nr_pages(folio));
		if (txn_should_break())
			return NULL;
	}
	return NULL;
}

static void second_chance_kept(struct scan_control *sc, struct folio *folio, enum keep_reason why)
{
	if (!(folio->f.flags & FF_LRU))
		return;
	switch (why) {
	case KEEP_REFERENCED:
		/* Mapped and used within one pass of the list: worth more than a page read once. */
		requeue(sc->q, folio, FF_ACTIVE, FF_REFERENCED);
		count_vm_events(sc->q, PGACTIVATE, folio_nr_pages(folio));
		break;
	case KEEP_LOCKED:
		requeue(sc->q, folio, FF_UNEVICTABLE, FF_ACTIVE);
		count_vm_events(sc->q, UNEVICTABLE_PGCULLED, folio_nr_pages(folio));
		break;
	default:
		requeue(sc->q, folio, 0, 0);
		count_vm_events(sc->q, PGROTATED, folio_nr_pages(folio));
	}
}

const struct reclaim_policy policy_second_chance = {
	.name = "second-chance",
	.next = second_chance_next,
	.kept = second_chance_kept,
};
