/*
 * Holding a frame between its allocation and its use: see filemap.h.
 *
 * ctx->parked[] is written inside transactions only, so that it is true at every commit: a frame is either
 * free, or listed by exactly one context, or owned by a structure.  Locks: any spin lock (a transaction); the
 * list belongs to the context.
 */
#include "filemap.h"

bool folio_hold_new(struct quire *q, struct folio *folio)
{
	struct ctx *c = port_ctx();

	DEBUG_ON(!in_transaction());
	if (c->nparked >= CTX_MAX_PARKED)
		return false;
	c->parked[c->nparked].pfn = folio_pfn(q, folio);
	c->parked[c->nparked].refs = 1;
	c->nparked++;
	return true;
}

struct folio *folio_alloc_hold(struct quire *q, gfp_t gfp, unsigned order)
{
	struct folio *folio = folio_alloc(q, gfp, order);

	if (folio && !folio_hold_new(q, folio)) {
		folio_put(q, folio, 1);
		return NULL;
	}
	return folio;
}

void folio_get_hold(struct quire *q, struct folio *folio)
{
	lockdep_assert_held(&q->lock);
	folio_get(folio, 1);
	BUG_ON(!folio_hold_new(q, folio));
}

void folio_unhold(struct quire *q, struct folio *folio)
{
	struct ctx *c = port_ctx();
	pfn_t pfn = folio_pfn(q, folio);
	u32 i = c->nparked;

	DEBUG_ON(!in_transaction());
	while (i && c->parked[i - 1].pfn != pfn)
		i--;
	BUG_ON(!i);
	c->parked[i - 1] = c->parked[--c->nparked];
}

void folio_clear(struct quire *q, struct folio *folio)
{
	if (!(folio->f.flags & FF_ZEROED))
		port_clear_pages(frame_address(q, &folio->f), folio_nr_pages(folio));
	folio->f.flags &= (u16)~FF_ZEROED;
}

void folio_drop_held(struct quire *q, struct folio *folio)
{
	spin_lock(&q->lock);
	folio_unhold(q, folio);
	folio_put(q, folio, 1);
	spin_unlock(&q->lock);
}
