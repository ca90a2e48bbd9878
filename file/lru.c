/*
 * The LRU lists: which folios reclaim may look at, oldest last.
 *
 * Invariant: FF_LRU is set exactly while the folio's record is linked on the list that folio_lru_list() names;
 * so FF_ACTIVE, FF_UNEVICTABLE and FF_SWAPBACKED change only while a folio is off the lists.
 * Locks: q->lock.
 */
#include "filemap.h"

struct frame_list *folio_lru_list(struct quire *q, const struct folio *folio)
{
	u16 flags = folio->f.flags;

	if (flags & FF_UNEVICTABLE)
		return &q->lru_unevictable;
	if (flags & FF_SWAPBACKED)
		return flags & FF_ACTIVE ? &q->lru_active_anon : &q->lru_inactive_anon;
	return flags & FF_ACTIVE ? &q->lru_active_file : &q->lru_inactive_file;
}

/* Lists count folios, q->nr_lru_pages pages: what /proc/meminfo shows. */
static u64 *lru_pages(struct quire *q, const struct folio *folio)
{
	u16 flags = folio->f.flags;
	unsigned base = flags & FF_SWAPBACKED ? LRU_INACTIVE_ANON : LRU_INACTIVE_FILE;

	return &q->nr_lru_pages[flags & FF_UNEVICTABLE ? LRU_UNEVICTABLE : base + !!(flags & FF_ACTIVE)];
}

void folio_add_lru(struct quire *q, struct folio *folio)
{
	lockdep_assert_held(&q->lock);
	if (folio->f.flags & FF_LRU)
		return;
	frame_list_add(q, folio_lru_list(q, folio), &folio->f);
	folio->f.flags |= FF_LRU;
	*lru_pages(q, folio) += folio_nr_pages(folio);
}

void folio_add_lru_tail(struct quire *q, struct folio *folio)
{
	lockdep_assert_held(&q->lock);
	frame_list_add_tail(q, folio_lru_list(q, folio), &folio->f);
	folio->f.flags |= FF_LRU;
	*lru_pages(q, folio) += folio_nr_pages(folio);
}

void folio_del_lru(struct quire *q, struct folio *folio)
{
	lockdep_assert_held(&q->lock);
	if (!(folio->f.flags & FF_LRU))
		return;
	frame_list_del(q, folio_lru_list(q, folio), &folio->f);
	folio->f.flags &= (u16)~FF_LRU;
	*lru_pages(q, folio) -= folio_nr_pages(folio);
}

void folio_mark_accessed(struct quire *q, struct folio *folio)
{
	u16 flags = folio->f.flags;

	if (!(flags & FF_REFERENCED)) {
		folio->f.flags |= FF_REFERENCED;
		return;
	}
	if ((flags & (FF_ACTIVE | FF_UNEVICTABLE)) || !(flags & FF_LRU))
		return;
	folio_del_lru(q, folio);
	folio->f.flags = (u16)((folio->f.flags | FF_ACTIVE) & ~FF_REFERENCED);
	folio_add_lru(q, folio);
	count_vm_events(q, PGACTIVATE, folio_nr_pages(folio));
}
