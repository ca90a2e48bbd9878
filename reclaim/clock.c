/*
 * The clock: the simplest policy that looks at use, and the example of docs/policies.md.
 *
 * One list for each kind.  New folios come to its front; what has reached the tail is the next candidate; what turns out to have been
 * used since goes round once more.  /proc calls nothing active.  Locks: q->lock for everything.
 */
#include <file/filemap.h>
#include "vmscan.h"

static unsigned place(struct quire *q, struct folio *folio)
{
	return 0;
}

/* Used, or back soon after it was reclaimed: as new. */
static void to_front(struct quire *q, struct folio *folio)
{
	if ((folio->f.flags & FF_LRU) && !(folio->f.flags & FF_UNEVICTABLE))
		lru_move(q, folio, 0);
}

static void to_tail(struct quire *q, struct folio *folio)
{
	lru_move_tail(q, folio, 0);
}

static bool is_active(const struct lruvec *lru, unsigned kind, unsigned list)
{
	return false;
}

static struct folio *next(struct scan_control *sc)
{
	while (sc->budget) {
		struct folio *folio = lru_tail(sc->q, sc->anon ? LRU_KIND_ANON : LRU_KIND_FILE, 0);

		if (!folio) {
			sc->budget = 0;
			return NULL;
		}
		sc->budget--;
		/* Mapped folios are asked by the mechanism; this one was read or written through a descriptor. */
		if (!(folio->f.flags & FF_REFERENCED) || sc->priority == 0)
			return folio;
		folio->f.flags &= (u16)~FF_REFERENCED;
		lru_move(sc->q, folio, 0);
		if (txn_should_break())
			return NULL;
	}
	return NULL;
}

static void kept(struct scan_control *sc, struct folio *folio, enum keep_reason why)
{
	lru_move(sc->q, folio, 0);
}

const struct reclaim_policy policy_clock = {
	.name = "clock", .place = place, .activate = to_front, .deactivate = to_tail, .is_active = is_active,
	.next = next, .kept = kept,
};
