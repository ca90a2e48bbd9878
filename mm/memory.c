/*
 * The entries of an address space: making tables and taking pages away.
 *
 * A zapped entry passes its reference to the gather, gives its mapcount back, and its page leaves rss at once; the
 * frame itself is freed after the flush (gather.c).  Consecutive entries of one folio go together: one update of each
 * counter for the whole run.
 *
 * Invariants (mm_is_valid): rss[] equals what the entries say; each mapping entry holds one reference and one mapcount.
 * Locks: mm->lock; folios under q->lock inside it.
 */
#include <mm/mm.h>

pte_t *pte_alloc(struct mm_struct *mm, u64 addr)
{
	struct pgtable pt = mm_pgtable(mm);

	lockdep_assert_held(&mm->lock);
	return pgtable_alloc(&pt, addr, PT_LAST_LEVEL);
}

/* A run of entries that map consecutive pages of one folio and were cleared already. */
struct zap_run {
	struct folio *folio;
	pfn_t head; /* its first frame */
	u64 addr;
	u32 n;
	bool dirty, young;
};

/* The folio behind an entry: mostly that of the run, and then the frame's own record need not be looked at. */
static struct folio *run_folio(const struct zap_run *run, struct mm_struct *mm, pte_t p)
{
	if (run->n && pte_pfn(p) - run->head < folio_nr_pages(run->folio))
		return run->folio;
	return pte_folio(mm, p);
}

static void run_end(struct mmu_gather *tlb, struct zap_run *run)
{
	struct mm_struct *mm = tlb->mm;
	struct quire *q = mm->q;
	struct folio *folio = run->folio;

	if (!run->n)
		return;
	spin_lock(&q->lock);
	if (folio->f.type != FRAME_ANON) {
		if (run->dirty && q->hooks.folio_mark_dirty)
			q->hooks.folio_mark_dirty(folio);
		if (run->young)
			folio->f.flags |= FF_REFERENCED;
	}
	add_mm_counter(mm, mm_counter(folio), -(s64)run->n);
	folio_remove_rmap(q, folio, run->n);
	tlb_remove(tlb, run->addr, run->n, folio_pfn(q, folio), run->n);
	spin_unlock(&q->lock);
	run->n = 0;
}

static void run_add(struct mmu_gather *tlb, struct zap_run *run, struct folio *folio, u64 addr, pte_t p, u32 n)
{
	if (run->n && (run->folio != folio || run->addr + ((u64)run->n << PAGE_SHIFT) != addr))
		run_end(tlb, run);
	if (!run->n)
		*run = (struct zap_run){.folio = folio, .head = folio_pfn(tlb->mm->q, folio), .addr = addr};
	run->n += n;
	run->dirty |= pte_dirty(p);
	run->young |= pte_young(p);
}

/* False = the entry stays. */
static bool should_zap(struct mm_struct *mm, pte_t p, u32 flags)
{
	if (pte_is_guard(p))
		return !(flags & ZAP_KEEP_GUARDS);
	if (!(flags & ZAP_KEEP_COWS))
		return true;
	return pte_present(p) && !pte_special(p) && pte_folio(mm, p)->f.type != FRAME_ANON;
}

/* A page on the move: the entry gives back what it kept of the one it replaced. */
static void zap_migration(struct mmu_gather *tlb, u64 addr, pte_t p)
{
	struct quire *q = tlb->mm->q;
	struct folio *folio = pfn_folio(q, pte_migration_pfn(p));

	add_mm_counter(tlb->mm, mm_counter(folio), -1);
	spin_lock(&q->lock);
	folio_remove_rmap(q, folio, 1);
	tlb_remove(tlb, addr, 1, folio_pfn(q, folio), 1);
	spin_unlock(&q->lock);
}

static void zap_nonpresent(struct mmu_gather *tlb, u64 addr, pte_t p)
{
	struct mm_struct *mm = tlb->mm;

	if (pte_is_swap(p)) {
		add_mm_counter(mm, MM_SWAPENTS, -1);
		if (mm->q->hooks.swap_free)
			mm->q->hooks.swap_free(mm->q, pte_to_swp_entry(p), 1);
	} else if (pte_is_migration(p)) {
		zap_migration(tlb, addr, p);
	}
}

/* A block that lies only partly in the range must be split first. */
static bool zap_block_ready(struct mmu_gather *tlb, const struct pt_iter *it)
{
	struct pgtable pt = mm_pgtable(tlb->mm);

	if (it->level == PT_LAST_LEVEL)
		return true;
	if (!(it->addr & (pt_size(it->level) - 1)) && it->addr + pt_size(it->level) <= it->end)
		return true;
	tlb->need_memory = pgtable_split_block(&pt, it->addr) != 0;
	tlb_remove(tlb, ALIGN_DOWN(it->addr, pt_size(it->level)), pt_size(it->level) >> PAGE_SHIFT, 0, 0);
	return false;
}

static void zap_entry(struct mmu_gather *tlb, struct zap_run *run, const struct pt_iter *it)
{
	struct mm_struct *mm = tlb->mm;
	pte_t p = pte_read(it->slot);
	u32 n = (u32)(pt_size(it->level) >> PAGE_SHIFT);

	if (!pte_present(p)) {
		zap_nonpresent(tlb, it->addr, p);
		set_pte(mm, it->slot, __pte(0));
		return;
	}
	set_pte(mm, it->slot, __pte(0));
	if (pte_special(p))
		tlb_remove(tlb, it->addr, n, 0, 0);
	else
		run_add(tlb, run, run_folio(run, mm, p), it->addr, p, n);
}

bool zap_page_range(struct mmu_gather *tlb, u64 *cursor, u64 end, u32 flags)
{
	struct mm_struct *mm = tlb->mm;
	struct zap_run run = {0};
	struct pt_iter it;
	bool done = true, progress = false;

	lockdep_assert_held(&mm->lock);
	mm->hiwater_rss = MAX(mm->hiwater_rss, get_mm_rss(mm));
	pt_iter_init(&it, mm->q, mm->pgd, *cursor, end);
	while (pt_iter_next(&it)) {
		*cursor = it.addr;
		done = !tlb_full(tlb) && !(progress && txn_should_break()) && zap_block_ready(tlb, &it);
		if (!done)
			break;
		progress = true;
		if (should_zap(mm, pte_read(it.slot), flags))
			zap_entry(tlb, &run, &it);
	}
	run_end(tlb, &run);
	if (done)
		*cursor = end;
	return done;
}

void zap_range_pieces(struct mm_struct *mm, u64 start, u64 end, u32 flags)
{
	struct mmu_gather tlb;

	tlb_gather_mmu(&tlb, mm);
	spin_lock(&mm->lock);
	while (!zap_page_range(&tlb, &start, end, flags))
		tlb_cycle(&tlb);
	tlb_flush(&tlb);
	spin_unlock(&mm->lock);
	tlb_finish_mmu(&tlb);
}
