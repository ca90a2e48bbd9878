/*
 * MADV_PAGEOUT of anonymous memory: the pages of a range go to swap now, young or not.
 *
 *   under mm->lock and q->lock   up to a batch of pages is held; a large folio becomes pages first
 *   under no lock                they go the way of all pages (swapout.c), as if reclaim had chosen them
 *
 * Only pages that nobody else maps: their owners did not say so.  What is pinned, locked, or has other references, stays.
 * Locks: called under none.
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "swapout.h"

struct pageout {
	struct mm_struct *mm;
	struct quire *q;
	u32 n;
	struct folio *folio[SWAPOUT_BATCH]; /* held */
	u64 no_split;                       /* addresses below: their folio could not be split */
};

/* Under both locks.  The entry's folio, if its pages may go; else NULL. */
static struct folio *candidate(struct pageout *p, u64 addr, pte_t e)
{
	struct folio *folio;

	if (!pte_present(e) || pte_special(e) || port_range_pinned(p->mm, addr, addr + PAGE_SIZE))
		return NULL;
	folio = pte_folio(p->mm, e);
	if (folio->f.type != FRAME_ANON || !(folio->f.flags & FF_LRU) || (folio->f.flags & FF_UNEVICTABLE))
		return NULL;
	return folio->f.mapcount <= folio_nr_pages(folio) ? folio : NULL;
}

/* One transaction's worth of [addr, end): returns where to go on.  *split: a folio became pages there. */
static u64 collect(struct pageout *p, u64 addr, u64 end, bool *split)
{
	struct pt_iter it;

	pt_iter_init(&it, p->q, p->mm->pgd, addr, end);
	while (pt_iter_next(&it)) {
		struct folio *folio = it.level == PT_LAST_LEVEL ? candidate(p, it.addr, pte_read(it.slot)) : NULL;

		if (txn_should_break())
			return it.addr;
		if (it.level != PT_LAST_LEVEL && mm_split_block(p->mm, it.addr))
			pt_iter_again(&it);
		if (!folio || (folio_order(folio) && it.addr < p->no_split))
			continue;
		if (p->n == SWAPOUT_BATCH || port_ctx()->nparked >= CTX_MAX_PARKED || (folio_order(folio) && p->n))
			return it.addr;
		if (folio_order(folio)) {
			*split = split_folio(p->q, folio);
			if (!*split)
				p->no_split = it.addr + PAGE_SIZE;
			return it.addr;
		}
		folio_get_hold(p->q, folio);
		isolate_count(p->q, 1);
		p->folio[p->n++] = folio;
	}
	return end;
}

void pageout_range(struct mm_struct *mm, u64 start, u64 end)
{
	struct pageout p = { .mm = mm, .q = mm->q };

	while (start < end) {
		u32 nparked = port_ctx()->nparked;
		bool split = false;

		p.n = 0;
		spin_lock(&mm->lock);
		spin_lock(&p.q->lock);
		start = collect(&p, start, end, &split);
		spin_unlock(&p.q->lock);
		spin_unlock(&mm->lock);
		if (split)
			split_finish(p.q, nparked);
		swapout_held(p.q, p.folio, p.n);
	}
}
