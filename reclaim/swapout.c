/*
 * Anonymous pages on their way out.
 *
 *   for each candidate, transactions:
 *	entries -> swap entries (under every mm's lock), flushes logged, the folio in the swap cache and held
 *   once for each address space of the batch:
 *	port_tlb_sync()             from here on nobody can reach the frames by an address
 *   swapout_write.c: the bytes are stored, and the frames freed
 *
 * What was thrown away with MADV_FREE and not written since goes without being stored.
 *
 * Between the unmapping and the sync a thread may still use old translations; mm->unsynced tells calls that must not
 * return before those are gone (tlb_finish_mmu).
 *
 * Death.  The folios stand in ctx->parked[], the address spaces in ctx->mms[]; each commit leaves either entries or
 * swap entries whose folio is in the cache, so nothing is lost but the reference, which whoever tidies up gives back
 * after a sync.
 *
 * Locks: called under none.  q->lock, mm locks by trylock (rmap_walk).
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include <swap/swap.h>
#include "swapout.h"

#define BLOCKED_SPINS 200u
#define BLOCKED_NS 50000u
#define BREATH 8u
#define CACHE_WORTH_IT 32u /* with swap full, pages in its cache are looked for if they are one in so many */

/* ---- unmapping ---- */

/* Will mm be synchronised at the end of the batch?  Under mm->lock. */
static bool batch_has_mm(struct swapout *b, struct mm_struct *mm)
{
	for (u32 i = 0; i < b->nmms; i++)
		if (b->mms[i] == mm)
			return true;
	if (b->nmms == SWAPOUT_MMS) {
		b->mms_full = true;
		return false;
	}
	/* Without users it is being torn down and will let go of the folio by itself. */
	if (!mm->users)
		return false;
	mmget(mm);
	mm->unsynced++;
	b->mms[b->nmms++] = mm;
	return true;
}

static bool stop(struct swapout *b, enum unmap_result why)
{
	b->why = why;
	return false;
}

/* The entry that stands for the page from now on; 0 = none, swap is full. */
static u64 entry_for(struct quire *q, struct folio *folio)
{
	u64 entry = folio->f.private;

	if (folio->f.flags & FF_SWAPCACHE) {
		swap_dup(q, entry, 1);
		return entry;
	}
	entry = swap_alloc(q);
	if (entry)
		swap_cache_add(q, folio, entry);
	return entry;
}

/* MADV_FREE, and nobody wrote since (mm/mm.h). */
static bool is_lazily_free(const struct folio *folio)
{
	return !(folio->f.flags & (FF_DIRTY | FF_SWAPCACHE));
}

/* The mapping is gone.  The batch's own reference keeps the folio until the translations are. */
static void entry_is_gone(struct quire *q, struct folio *folio, struct mm_struct *mm, u64 addr)
{
	mm->hiwater_rss = MAX(mm->hiwater_rss, get_mm_rss(mm));
	add_mm_counter(mm, mm_counter(folio), -1);
	folio_remove_rmap(q, folio, 1);
	folio_put(q, folio, 1);
	port_tlb_flush_range(mm, addr, addr + PAGE_SIZE);
}

/* The entry is young.  To ask whether the page is used means to make it old: who uses it answers by a fault. */
enum youth {
	YOUTH_ASK,     /* it stays, and is asked */
	YOUTH_BELIEVE, /* it stays */
	YOUTH_NOTHING, /* it goes all the same */
};

/* Where faults are dear, a page that has just answered is believed once more: the next question comes a turn of the lists later, and what is not
 * used any more stays a turn longer.  And where what goes is in memory still, bringing a page back costs little more than an answer: then only those
 * are asked of which we know that they came back, and came back soon (FF_WORKINGSET); that counts as their first answer. */
static enum youth judge_youth(const struct quire *q, struct folio *folio)
{
	bool asked = folio->f.flags & FF_ASKED, near;

	if (!(q->caps & PORT_CAP_DEAR_FAULTS))
		return YOUTH_ASK;
	near = q->lru.policy->knows_refaults && swap_is_memory(q);
	if (near && !(folio->f.flags & FF_WORKINGSET))
		return YOUTH_NOTHING;
	folio->f.flags ^= FF_ASKED;
	return asked == near ? YOUTH_ASK : YOUTH_BELIEVE;
}

static void make_old(struct swapout *b, struct mm_struct *mm, u64 addr, pte_t *slot)
{
	set_pte(mm, slot, pte_mkold(pte_read(slot)));
	port_tlb_flush_range(mm, addr, addr + PAGE_SIZE);
	b->aged++;
	if (b->nmms < SWAPOUT_MMS)
		batch_has_mm(b, mm);
}

/* May this entry go now?  If not, b->why says why. */
static bool entry_may_go(struct swapout *b, struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot)
{
	struct mm_struct *mm = vma->vm_mm;
	pte_t p = pte_read(slot);

	if (vma->vm_flags & VM_LOCKED)
		return stop(b, UNMAP_LOCKED);
	if (port_range_pinned(mm, addr, addr + PAGE_SIZE))
		return stop(b, UNMAP_BUSY);
	if (pte_dirty(p))
		folio->f.flags |= FF_DIRTY;
	if (pte_young(p) && b->sc->priority >= DEF_PRIORITY / 2 && !is_lazily_free(folio)) {
		enum youth y = judge_youth(b->q, folio);

		if (y == YOUTH_ASK)
			make_old(b, mm, addr, slot);
		if (y != YOUTH_NOTHING)
			return stop(b, UNMAP_REFERENCED);
	}
	return batch_has_mm(b, mm) || stop(b, UNMAP_BUSY);
}

static bool swap_entry_out(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct swapout *b = arg;
	struct mm_struct *mm = vma->vm_mm;
	pte_t p = pte_read(slot);
	u64 entry;

	if (!entry_may_go(b, folio, vma, addr, slot))
		return false;
	if (is_lazily_free(folio)) {
		set_pte(mm, slot, __pte(0));
		count_vm_event(b->q, PGLAZYFREED);
	} else {
		entry = entry_for(b->q, folio);
		if (!entry)
			return stop(b, UNMAP_NOWHERE);
		set_pte(mm, slot, swp_entry_to_pte(entry, pte_excl(p)));
		add_mm_counter(mm, MM_SWAPENTS, 1);
	}
	entry_is_gone(b->q, folio, mm, addr);
	return true;
}

static bool hold(struct quire *q, struct folio *folio)
{
	if (port_ctx()->nparked >= CTX_MAX_PARKED)
		return false;
	folio_get_hold(q, folio);
	isolate_count(q, 1);
	return true;
}

static u32 cache_refs(const struct folio *folio)
{
	return (folio->f.flags & FF_SWAPCACHE) != 0;
}

static const enum keep_reason why_kept[] = {
	[UNMAP_REFERENCED] = KEEP_REFERENCED, [UNMAP_BUSY] = KEEP_BUSY, [UNMAP_LOCKED] = KEEP_LOCKED, [UNMAP_NOWHERE] = KEEP_DIRTY,
};

/* Under q->lock (which the walk may let go and take again).  Unmaps a held page and takes it into the batch, or says why not. */
static void take_held(struct swapout *b, struct folio *folio)
{
	struct quire *q = b->q;
	enum rmap_result r;

	b->why = UNMAP_BUSY;
	r = rmap_walk(q, folio, swap_entry_out, b, RMAP_MAY_CYCLE);
	if (!folio->f.mapcount) {
		folio->f.flags &= (u16)~FF_ASKED; /* of a page that nobody maps it says something else: FF_READAHEAD */
		/* Out of everybody's way, but on its list, so that it is not lost if we die. */
		reclaim_keep(b->sc, folio, KEEP_DIRTY);
		b->folio[b->n++] = folio;
		return;
	}
	b->blocked = r == RMAP_BUSY && b->tries < BLOCKED_TRIES;
	if (!b->mms_full && !b->blocked)
		reclaim_keep(b->sc, folio, r == RMAP_STOPPED ? why_kept[b->why] : KEEP_BUSY);
	swapout_release(q, folio);
}

/* Has the folio references beyond `known` and its entries': I/O, get_user_pages, another reclaimer, a migration? */
static bool is_busy(const struct folio *folio, u32 known)
{
	return folio->f.refcount != folio->f.mapcount + cache_refs(folio) + known;
}

static void take_page(struct swapout *b, struct folio *folio)
{
	if (is_busy(folio, 0) || !hold(b->q, folio))
		reclaim_keep(b->sc, folio, KEEP_BUSY);
	else
		take_held(b, folio);
}

/* ---- shared memory: the entry stands in the object, not in page tables (file/shmem_swap.c) ---- */
static bool shmem_entry_out(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct swapout *b = arg;

	if (!entry_may_go(b, folio, vma, addr, slot))
		return false;
	set_pte(vma->vm_mm, slot, __pte(0));
	entry_is_gone(b->q, folio, vma->vm_mm, addr);
	return true;
}

/* Under q->lock: nobody maps the held page any more.  Is it the swap cache's now? */
static bool shmem_leaves(struct swapout *b, struct folio *folio)
{
	struct address_space *m = folio_mapping(folio);
	u64 entry;

	/* The object may have been cut while the walk had let go, or somebody copies from the page. */
	if (!m || folio->f.mapcount || folio->f.refcount != 2)
		return stop(b, UNMAP_BUSY);
	entry = swap_alloc(b->q);
	if (!entry)
		return stop(b, UNMAP_NOWHERE);
	if (shmem_swap_out(m, folio, entry))
		return true;
	swap_put(b->q, entry, 1);
	return stop(b, UNMAP_BUSY);
}

static void take_shmem(struct swapout *b, struct folio *folio)
{
	struct quire *q = b->q;

	if (folio->f.refcount != folio->f.mapcount + 1 || !hold(q, folio)) {
		reclaim_keep(b->sc, folio, KEEP_BUSY);
		return;
	}
	b->why = UNMAP_BUSY;
	rmap_walk(q, folio, shmem_entry_out, b, RMAP_MAY_CYCLE);
	if (!folio->f.mapcount && shmem_leaves(b, folio)) {
		reclaim_keep(b->sc, folio, KEEP_DIRTY);
		b->folio[b->n++] = folio;
		return;
	}
	if (!b->mms_full)
		reclaim_keep(b->sc, folio, why_kept[b->why]);
	swapout_release(q, folio);
}

/* Under q->lock.  Without free slots only what already has one can leave: to look for a handful of such pages among all would keep everybody
 * busy for seconds, and the lock, before somebody is killed. */
static bool anon_can_leave(const struct quire *q)
{
	u64 anon = q->nr_lru_pages[LRU_INACTIVE_ANON] + q->nr_lru_pages[LRU_ACTIVE_ANON];

	return q->nr_free_swap_pages || q->nr_swapcache_pages > anon / CACHE_WORTH_IT;
}

/* One candidate.  False when there is none left. */
static bool take_one(struct swapout *b)
{
	struct quire *q = b->q;
	u32 nparked = port_ctx()->nparked;
	struct folio *folio;
	u32 pages;
	bool split = false;

	spin_lock(&q->lock);
	if (!anon_can_leave(q))
		b->sc->budget = 0; /* swap has become full */
	folio = reclaim_next(b->sc);
	if (!folio) {
		spin_unlock(&q->lock);
		return b->sc->budget != 0;
	}
	pages = folio_nr_pages(folio);
	count_vm_events(q, b->sc->kswapd ? PGSCAN_KSWAPD : PGSCAN_DIRECT, pages);
	count_vm_events(q, PGSCAN_ANON, pages);
	if (folio->f.type != FRAME_ANON && (folio->f.type != FRAME_SHMEM || !b->q->nr_free_swap_pages)) {
		reclaim_keep(b->sc, folio, KEEP_DIRTY); /* it has nowhere to go */
	} else if (pages > 1) {
		split = split_folio(q, folio);
		if (split)
			b->sc->budget += pages; /* they are the next candidates */
		else
			reclaim_keep(b->sc, folio, KEEP_BUSY);
	} else if (folio->f.type == FRAME_SHMEM) {
		take_shmem(b, folio);
	} else {
		take_page(b, folio);
	}
	spin_unlock(&q->lock);
	if (split)
		split_finish(q, nparked);
	return true;
}

static void finish_batch(struct swapout *b)
{
	for (u32 i = 0; i < b->nmms; i++) {
		port_tlb_sync(b->mms[i]);
		spin_lock(&b->mms[i]->lock);
		b->mms[i]->unsynced--;
		spin_unlock(&b->mms[i]->lock);
	}
	swapout_write(b);
	for (u32 i = 0; i < b->nmms; i++)
		mmput(b->mms[i]);
	/* What was freed lies on the CPUs' lists, maybe for another kind of use. */
	if (b->starved)
		drain_all_pages(b->q);
	if (b->n)
		throttle_wake(b->q);
	b->n = b->nmms = b->aged = 0;
	b->mms_full = b->starved = false;
}

/* Somebody works in the candidate's address space.  The page keeps its place, since nothing is known against it or for it: we let them,
 * and meanwhile store what we have. */
static void let_others(struct swapout *b)
{
	u32 never = 0;

	b->blocked = false;
	b->sc->budget++;
	if (b->n)
		finish_batch(b);
	else if (b->tries++ < BLOCKED_TRIES / 2)
		for (unsigned i = 0; i < BLOCKED_SPINS; i++)
			port_relax();
	else
		port_wait(&never, 0, BLOCKED_NS);
}

/* q->lock has no queue: who lets go of it and takes it again at once, as kswapd does for each candidate, would leave it to nobody. */
static void breathe(const struct scan_control *sc)
{
	for (unsigned i = 0; i < BREATH && sc->kswapd; i++)
		port_relax();
}

bool can_swap(struct quire *q)
{
	bool yes;

	spin_lock(&q->lock);
	yes = anon_can_leave(q);
	spin_unlock(&q->lock);
	return yes;
}

void shrink_anon(struct scan_control *sc)
{
	struct swapout b = { .sc = sc, .q = sc->q };

	if (throttle_isolated(sc))
		return;
	for (u64 steps = 4 * sc->budget; steps && sc->budget; steps--) {
		bool more = take_one(&b);

		breathe(sc);
		if (b.blocked)
			let_others(&b);
		else
			b.tries = 0;
		if (b.n == SWAPOUT_BATCH || b.aged >= SWAPOUT_AGED || b.mms_full || b.n + sc->reclaimed >= sc->to_reclaim + SWAP_CLUSTER_MAX)
			finish_batch(&b);
		if (!more || sc->reclaimed >= sc->to_reclaim)
			break;
	}
	finish_batch(&b);
}

void swapout_held(struct quire *q, struct folio **folio, u32 n)
{
	struct scan_control sc = { .q = q, .gfp = GFP_KERNEL, .anon = true };
	struct swapout b = { .sc = &sc, .q = q, .tries = BLOCKED_TRIES };

	for (u32 i = 0; i < n; i++) {
		spin_lock(&q->lock);
		if (is_busy(folio[i], 1) || !(folio[i]->f.flags & FF_LRU))
			swapout_release(q, folio[i]);
		else
			take_held(&b, folio[i]);
		spin_unlock(&q->lock);
		if (b.n == SWAPOUT_BATCH || b.mms_full)
			finish_batch(&b);
	}
	finish_batch(&b);
}
