/*
 * The swap cache: folios whose page also has a slot.  It is the slots themselves: a slot knows its folio.
 *
 * A folio is in it from the moment its first entry is replaced until its bytes are stored and its frame freed, or
 * until no entry is left; and again after it was read for several address spaces that share it, so that they find
 * the same frame.  /proc counts it as Linux does: SwapCached, and as part of the file pages.
 * Locks: q->lock.
 */
#include "swap.h"

void swap_cache_add(struct quire *q, struct folio *folio, u64 entry)
{
	struct swap_slot *s = swap_slot_of(q, entry);

	lockdep_assert_held(&q->lock);
	BUG_ON(!s || s->folio || folio->f.order || (folio->f.flags & FF_SWAPCACHE));
	folio_get(folio, 1);
	folio->f.flags |= FF_SWAPCACHE;
	folio->f.private = entry;
	s->folio = folio_pfn(q, folio) + 1;
	q->nr_swapcache_pages++;
	q->nr_file_pages++;
}

void swap_cache_del(struct quire *q, struct folio *folio)
{
	struct swap_slot *s = swap_slot_of(q, folio->f.private);

	lockdep_assert_held(&q->lock);
	BUG_ON(!(folio->f.flags & FF_SWAPCACHE) || !s || s->folio != folio_pfn(q, folio) + 1);
	/* Who sees no folio here may read the stored bytes with no lock. */
#ifndef __SANITIZE_THREAD__ /* which knows no fences; the reader is not instrumented either */
	__atomic_thread_fence(__ATOMIC_RELEASE);
#endif
	s->folio = 0;
	folio->f.flags &= (u16)~(FF_SWAPCACHE | FF_SWAPOUT);
	folio->f.private = 0;
	q->nr_swapcache_pages--;
	q->nr_file_pages--;
	folio_put(q, folio, 1);
}

struct folio *swap_cache_folio(struct quire *q, u64 entry)
{
	struct swap_slot *s = swap_slot_of(q, entry);

	lockdep_assert_held(&q->lock);
	return s && s->folio ? (struct folio *)pfn_to_frame(q, s->folio - 1) : NULL;
}

#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread"), noinline))
#endif
bool swap_cache_empty_hint(struct quire *q, u64 entry)
{
	struct swap_slot *s = swap_slot_of(q, entry);

	return s && !__atomic_load_n(&s->folio, __ATOMIC_ACQUIRE);
}

bool swap_cached_hook(struct quire *q, u64 entry)
{
	return swap_cache_folio(q, entry) != NULL;
}
