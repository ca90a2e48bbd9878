/*
 * madvise(MADV_COLD) and MADV_PAGEOUT: a program says which pages it will not need soon.
 *
 * COLD makes entries old and folios inactive.  PAGEOUT also unmaps file pages that nobody else maps, puts them where
 * reclaim looks first, and reclaims as many; anonymous pages go to swap (pageout.c), and those that may be thrown away are,
 * without swap too.  Pages that others map too are left alone, as on Linux: their owners did not say so.
 *
 * The walk commits after ENTRIES_AT_ONCE entries and goes on by address.  Locks: mm->lock, q->lock inside.
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "vmscan.h"

#define ENTRIES_AT_ONCE 128u

struct cold_walk {
	struct mm_struct *mm;
	struct mmu_gather tlb;
	bool pageout;
	u64 paged_out; /* pages unmapped */
	struct folio *dropping; /* of which so many pages were dropped and are parked: each still holds its reference */
	u32 dropped;
};

/* To the inactive list; to its end if it should be the next to go. */
static void deactivate(struct quire *q, struct folio *folio, bool last)
{
	if (!(folio->f.flags & FF_LRU) || (folio->f.flags & FF_UNEVICTABLE))
		return;
	q->lru.policy->deactivate(q, folio);
	if (last)
		lru_move_tail(q, folio, folio_list(folio));
}

/* Nobody would miss it: thrown away with MADV_FREE and not written since, or mapped with MAP_DROPPABLE. */
static bool is_droppable(const struct cold_walk *w, const struct folio *folio, u64 addr, pte_t p)
{
	u32 parked = folio == w->dropping ? w->dropped : 0;
	struct vm_area_struct *vma;

	if (folio->f.type != FRAME_ANON || (folio->f.flags & FF_SWAPCACHE) || folio->f.refcount != folio->f.mapcount + parked)
		return false;
	vma = vma_lookup(w->mm, addr);
	return (vma && (vma->vm_flags & VM_DROPPABLE)) || (!(folio->f.flags & FF_DIRTY) && !pte_dirty(p));
}

/* Under q->lock: an entry of the folio goes, its reference is parked. */
static void note_dropped(struct cold_walk *w, struct folio *folio)
{
	count_vm_event(w->mm->q, PGLAZYFREED);
	w->dropped = w->dropping == folio ? w->dropped + 1 : 1;
	w->dropping = folio;
}

/* Under q->lock and mm->lock. */
static void cold_entry(struct cold_walk *w, u64 addr, pte_t *slot)
{
	struct mm_struct *mm = w->mm;
	struct quire *q = mm->q;
	pte_t p = pte_read(slot);
	struct folio *folio;

	if (!pte_present(p) || pte_special(p) || port_range_pinned(mm, addr, addr + PAGE_SIZE))
		return;
	folio = pte_folio(mm, p);
	if (folio->f.mapcount > folio_nr_pages(folio))
		return;
	if (w->pageout && (folio->f.type == FRAME_FILE || is_droppable(w, folio, addr, p))) {
		if (folio->f.type == FRAME_ANON)
			note_dropped(w, folio);
		else if (pte_dirty(p))
			folio_mark_dirty(folio);
		set_pte(mm, slot, __pte(0));
		add_mm_counter(mm, mm_counter(folio), -1);
		folio_remove_rmap(q, folio, 1);
		tlb_remove(&w->tlb, addr, 1, pte_pfn(p), 1);
		w->paged_out += folio->f.type == FRAME_FILE;
	} else if (pte_young(p)) {
		set_pte(mm, slot, pte_mkold(p));
		tlb_remove(&w->tlb, addr, 1, pte_pfn(p), 0);
	}
	if (!w->pageout || folio->f.type == FRAME_FILE)
		deactivate(q, folio, w->pageout);
}

/* One transaction's worth of [addr, end); returns where to go on. */
static u64 cold_some(struct cold_walk *w, u64 addr, u64 end)
{
	struct quire *q = w->mm->q;
	struct pt_iter it;
	unsigned n = 0;

	spin_lock(&w->mm->lock);
	spin_lock(&q->lock);
	pt_iter_init(&it, q, w->mm->pgd, addr, end);
	addr = end;
	while (pt_iter_next(&it)) {
		if (n++ == ENTRIES_AT_ONCE || tlb_full(&w->tlb) || txn_should_break()) {
			addr = it.addr;
			break;
		}
		if (it.level == PT_LAST_LEVEL)
			cold_entry(w, it.addr, it.slot);
		else if (mm_split_block(w->mm, it.addr))
			pt_iter_again(&it);
	}
	spin_unlock(&q->lock);
	tlb_flush(&w->tlb);
	spin_unlock(&w->mm->lock);
	tlb_finish_mmu(&w->tlb);
	w->dropping = NULL;
	return addr;
}

void madvise_cold(struct mm_struct *mm, u64 start, u64 end, bool pageout)
{
	struct cold_walk w = { .mm = mm, .pageout = pageout };
	u64 from = start;

	tlb_gather_mmu(&w.tlb, mm);
	while (start < end)
		start = cold_some(&w, start, end);
	if (w.paged_out)
		reclaim_tail(mm->q, w.paged_out);
	if (pageout && can_swap(mm->q))
		pageout_range(mm, from, end);
}
