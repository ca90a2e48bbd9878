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

/* ---- contiguous sets and blocks ---- */

void contpte_unfold(struct mm_struct *mm, pte_t *slot)
{
	struct quire *q = mm->q;
	pte_t *first = (pte_t *)ALIGN_DOWN((uintptr_t)slot, CONT_PTES * sizeof(pte_t)), old[CONT_PTES];
	u64 at = ((uintptr_t)first & (PAGE_SIZE - 1)) / sizeof(pte_t), addr = virt_to_frame(q, first)->index + (at << PAGE_SHIFT);
	u32 i;

	for (i = 0; i < CONT_PTES; i++)
		old[i] = pte_read(first + i);
	if (!(q->caps & PORT_CAP_BBM)) {
		for (i = 0; i < CONT_PTES; i++)
			pte_store(first + i, __pte(0));
		port_tlb_flush_range(mm, addr, addr + CONT_PTE_SIZE);
	}
	for (i = 0; i < CONT_PTES; i++)
		pte_store(first + i, pte_mknoncont(old[i]));
}

/* Breaks a translation whose frames stay but whose size changes. */
static void break_block(struct mm_struct *mm, pte_t *slot, u64 addr)
{
	if (mm->q->caps & PORT_CAP_BBM)
		return;
	pgtable_set(mm->q, slot, __pte(0));
	port_tlb_flush_range(mm, ALIGN_DOWN(addr, PMD_SIZE), ALIGN_DOWN(addr, PMD_SIZE) + PMD_SIZE);
}

bool mm_split_block(struct mm_struct *mm, u64 addr)
{
	struct pgtable pt = mm_pgtable(mm);
	pte_t *slot = pgtable_block(mm->q, mm->pgd, addr);
	struct frame *table;

	lockdep_assert_held(&mm->lock);
	if (!slot)
		return true;
	table = pgtable_split_fill(&pt, slot, addr);
	if (!table)
		return false;
	break_block(mm, slot, addr);
	pgtable_split_store(&pt, slot, table);
	return true;
}

void mm_split_block_at(struct mm_struct *mm, u64 addr)
{
	if (addr & (PMD_SIZE - 1))
		mm_split_block(mm, addr);
}

/* p as a block at addr, with the reserve of the one in `from`, or another. */
static bool store_block(struct mm_struct *mm, u64 addr, pte_t p, pte_t *from, enum reserve_source *source)
{
	struct pgtable pt = mm_pgtable(mm);
	pte_t *slot = pgtable_block_slot(&pt, addr, from, source);

	lockdep_assert_held(&mm->lock);
	if (!slot)
		return false;
	/* Walkers may still be on their way to the empty table: it stays ours, and empty until the block is split. */
	if (*source == RESERVE_WAS_TABLE)
		break_block(mm, slot, addr);
	pgtable_set(mm->q, slot, pte_mkblock(p));
	return true;
}

bool mm_map_block(struct mm_struct *mm, u64 addr, pte_t p)
{
	enum reserve_source source;

	return store_block(mm, addr, p, NULL, &source);
}

bool mm_move_block(struct mmu_gather *tlb, pte_t *slot, u64 addr, u64 to)
{
	enum reserve_source source;

	if (!store_block(tlb->mm, to, pte_read(slot), slot, &source))
		return false;
	if (source != RESERVE_MOVED) {
		clear_block(tlb, slot, addr);
		return true;
	}
	pgtable_set(tlb->mm->q, slot, __pte(0));
	tlb_remove(tlb, addr, PT_ENTRIES, 0, 0);
	return true;
}

void clear_block(struct mmu_gather *tlb, pte_t *slot, u64 addr)
{
	struct pgtable pt = mm_pgtable(tlb->mm);
	struct frame *table;

	pgtable_set(tlb->mm->q, slot, __pte(0));
	table = pgtable_take_reserve(&pt, slot);
	tlb_remove(tlb, addr, PT_ENTRIES, table ? frame_to_pfn(tlb->mm->q, table) : 0, table != NULL);
}

/* ---- zapping ---- */

/* A run of entries that map consecutive pages of one folio and were cleared already. */
struct zap_run {
	struct folio *folio;
	pfn_t head; /* its first frame */
	u64 addr;
	u32 n;
	bool dirty, young;
	bool locked; /* q->lock, from the first run to the last */
};

/* The folio behind an entry: mostly that of the run, and then the frame's own record need not be looked at. */
static struct folio *run_folio(const struct zap_run *run, struct mm_struct *mm, pte_t p)
{
	if (run->n && pte_pfn(p) - run->head < folio_nr_pages(run->folio))
		return run->folio;
	return pte_folio(mm, p);
}

/* What leads to a token leads to bytes of the host's: no translation can reach its frame, so there is nothing to wait for, and with a
 * reference left nothing to free. */
static bool is_kept_token(const struct folio *folio, u32 refs)
{
	const struct address_space *m = (const struct address_space *)(uintptr_t)folio->f.mapping;

	return folio->f.type == FRAME_FILE && m && (m->flags & AS_TOKEN) && folio->f.refcount > refs;
}

static void run_end(struct mmu_gather *tlb, struct zap_run *run)
{
	struct mm_struct *mm = tlb->mm;
	struct quire *q = mm->q;
	struct folio *folio = run->folio;

	if (!run->n)
		return;
	if (!run->locked)
		spin_lock(&q->lock);
	run->locked = true;
	if (folio->f.type != FRAME_ANON) {
		if (run->dirty && q->hooks.folio_mark_dirty)
			q->hooks.folio_mark_dirty(folio);
		if (run->young)
			folio->f.flags |= FF_REFERENCED;
	}
	add_mm_counter(mm, mm_counter(folio), -(s64)run->n);
	folio_remove_rmap(q, folio, run->n);
	if (is_kept_token(folio, run->n)) {
		folio_put(q, folio, run->n);
		tlb_remove(tlb, run->addr, run->n, 0, 0);
	} else {
		tlb_remove(tlb, run->addr, run->n, folio_pfn(q, folio), run->n);
	}
	run->n = 0;
}

static void run_add(struct mmu_gather *tlb, struct zap_run *run, struct folio *folio, u64 addr, pte_t p, u32 n)
{
	if (run->n && (run->folio != folio || run->addr + ((u64)run->n << PAGE_SHIFT) != addr))
		run_end(tlb, run);
	if (!run->n)
		*run = (struct zap_run){.folio = folio, .head = folio_pfn(tlb->mm->q, folio), .addr = addr, .locked = run->locked};
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

/* A block that lies only partly in the range becomes pages, and the iterator looks again. */
static bool zap_needs_split(struct mmu_gather *tlb, struct pt_iter *it)
{
	if (it->level == PT_LAST_LEVEL ||
	    (!(it->addr & (pt_size(it->level) - 1)) && it->addr + pt_size(it->level) <= it->end))
		return false;
	tlb->need_memory = !mm_split_block(tlb->mm, it->addr);
	pt_iter_again(it);
	return true;
}

/* How many entries can go at once: a whole contiguous set, if it lies in the range and is still of one folio (reclaim splits
 * folios and leaves their entries as they are). */
static u32 zap_batch(struct mm_struct *mm, const struct pt_iter *it, pte_t p)
{
	if (!pte_cont(p) || (it->addr & (CONT_PTE_SIZE - 1)) || it->addr + CONT_PTE_SIZE > it->end)
		return 1;
	return folio_nr_pages(pte_folio(mm, p)) >= CONT_PTES ? CONT_PTES : 1;
}

static void zap_entry(struct mmu_gather *tlb, struct zap_run *run, struct pt_iter *it)
{
	struct mm_struct *mm = tlb->mm;
	pte_t p = pte_read(it->slot);
	u32 n = PT_ENTRIES;

	if (!pte_present(p)) {
		zap_nonpresent(tlb, it->addr, p);
		set_pte(mm, it->slot, __pte(0));
		return;
	}
	if (it->level != PT_LAST_LEVEL) {
		clear_block(tlb, it->slot, it->addr);
	} else {
		n = zap_batch(mm, it, p);
		clear_ptes(mm, it->slot, n);
		it->next = it->addr + ((u64)n << PAGE_SHIFT);
	}
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
		done = !tlb_full(tlb) && !(progress && txn_should_break()) && !tlb->need_memory;
		if (!done)
			break;
		progress = true;
		if (zap_needs_split(tlb, &it))
			continue;
		if (should_zap(mm, pte_read(it.slot), flags))
			zap_entry(tlb, &run, &it);
	}
	run_end(tlb, &run);
	if (run.locked)
		spin_unlock(&mm->q->lock);
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
