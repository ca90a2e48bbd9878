/*
 * The reclaimer of the revocation test: moves anonymous folios of whatever guests there are, as fast as it can, and fills
 * the frames that they left with poison before anybody gets them, so that a stale translation shows at once.
 */
#include "selftest.h"
#include "hostsys.h"
#include "../../mm/mm.h"
#include "../../reclaim/reclaim.h"

#define POISON 0xdeadf00ddeadf00dull
#define LOOK_AT 256u /* frames searched for a folio, from a random one on */

static void poison(struct quire *q, struct folio *folio)
{
	u64 *w = frame_address(q, &folio->f), i, n = (u64)folio_nr_pages(folio) * (PAGE_SIZE / sizeof(*w));

	for (i = 0; i < n; i++)
		WRITE_ONCE(w[i], POISON);
	selftest_area()->frames += folio_nr_pages(folio);
}

static u64 next_random(u64 *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

/* The head of some folio, ~0 if none is near.  Looked at without a lock: migrate_folios() looks again. */
static pfn_t some_folio(struct quire *q, u64 *seed)
{
	pfn_t frames = (pfn_t)(q->cfg.memory >> PAGE_SHIFT), pfn = (pfn_t)(next_random(seed) % frames), i;

	for (i = 0; i < LOOK_AT && pfn < frames; i++, pfn++)
		if (READ_ONCE(q->cfg.mem_map[pfn].type) == FRAME_ANON)
			return pfn;
	return ~(pfn_t)0;
}

void selftest_bind_revoker(u32 ctx_id)
{
	ctx_by_id(ctx_id)->flags |= CTXF_SUPERVISOR; /* not a guest: nobody kills it */
	shared_area()->q.hooks.folio_moved = poison;
}

u32 selftest_revoke(u64 *seed, u32 batch)
{
	struct selftest *s = selftest_area();
	struct quire *q = &shared_area()->q;
	pfn_t heads[MIGRATE_BATCH], pfn;
	u32 i, n = 0, moved;

	for (i = 0; i < batch; i++) {
		pfn = some_folio(q, seed);
		if (pfn != ~(pfn_t)0)
			heads[n++] = pfn;
	}
	moved = migrate_folios(q, heads, n);
	s->revoked += moved;
	s->refused += n - moved;
	s->batches++;
	return moved;
}
