/*
 * Reclaim: the mechanism.
 *
 * A round asks the policy for candidates and does to each what its state allows, each step a transaction of its
 * own that begins with the candidate found again on its list.  A reference that must outlive a transaction stands
 * in ctx->parked[], so a context that dies here leaves nothing behind:
 *
 *	clean, unmapped  -> out of the page cache, frames freed
 *	mapped           -> one step of unmapping (unmap.c); comes back as a candidate
 *	dirty            -> written out if the caller may wait for I/O; comes back clean
 *	in use           -> the policy hears why and moves it away
 *
 * Rounds grow from 1/4096 of the lists to all of them (priority 12 to 0) until enough came back.  A round that found
 * everything in others' hands waits a moment, so that a descheduled lock holder does not look like a lack of memory.
 * Files and anonymous memory take part by their sizes, anonymous pages weighing less because they cost more to bring
 * back (vm.swappiness), and either kind less the more it has cost lately (lru_note_cost); anonymous pages go as swapout.c says,
 * if there is swap.  Pages given up with MADV_FREE are among those of files, as on Linux: they need no swap.
 *
 * After each round the caches of objects give their share (shrinker.c).
 *
 * What is in a VM_LOCKED area is put aside on the unevictable list; what is there is looked at again when little else is left,
 * since nobody tells us when the last such area goes (unmapped, unlocked, its process ended).
 *
 * Locks: called under none; q->lock per step.
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "vmscan.h"

#define THROTTLE_NS 1000000ull
#define LAST_ROUNDS 20
#define SWAPPINESS_DEFAULT 60u
#define PAGE_CLUSTER_DEFAULT 3u
#define PAGE_CLUSTER_MAX 31
#define RESCUE_PRIORITY (DEF_PRIORITY - 4)
#define FORCE_PRIORITY (DEF_PRIORITY / 2) /* below this, who was used goes all the same */
#define ROUND_MAX 16u      /* candidates of an early round, at most, for each page that is wanted */
#define ROUND_MIN 32u      /* candidates of a round, at least */

void reclaim_init(struct quire *q)
{
	q->reclaim.swappiness = SWAPPINESS_DEFAULT;
	q->reclaim.page_cluster = PAGE_CLUSTER_DEFAULT;
	shrinker_init(q);
}

int set_swappiness(struct quire *q, s64 value)
{
	if (value < 0 || value > 200)
		return -EINVAL;
	spin_lock(&q->lock);
	q->reclaim.swappiness = (u32)value;
	spin_unlock(&q->lock);
	return 0;
}

int set_page_cluster(struct quire *q, s64 value)
{
	if (value < 0 || value > PAGE_CLUSTER_MAX)
		return -EINVAL;
	spin_lock(&q->lock);
	q->reclaim.page_cluster = (u32)value;
	spin_unlock(&q->lock);
	return 0;
}

struct folio *reclaim_next(struct scan_control *sc)
{
	return sc->q->lru.policy->next(sc);
}

void reclaim_keep(struct scan_control *sc, struct folio *folio, enum keep_reason why)
{
	sc->busy += why == KEEP_BUSY;
	/* What only waits to be written has not been looked at for nothing. */
	if (why != KEEP_DIRTY)
		lru_note_cost(sc->q, folio_kind(folio), 0, folio_nr_pages(folio));
	if (!(folio->f.flags & FF_LRU) || (folio->f.flags & FF_UNEVICTABLE))
		return;
	if (why == KEEP_LOCKED)
		lru_cull(sc->q, folio);
	else
		sc->q->lru.policy->kept(sc, folio, why);
}

/* As folio_alloc_hold(), for a folio that others see too; folio_unhold() ends it. */
static bool hold_reference(struct quire *q, struct folio *folio)
{
	struct ctx *c = port_ctx();

	if (c->nparked >= CTX_MAX_PARKED)
		return false;
	folio_get(folio, 1);
	c->parked[c->nparked] = (struct parked_frame){ .pfn = folio_pfn(q, folio), .refs = 1 };
	c->nparked++;
	return true;
}

/* Under q->lock; returns unlocked.  Writes the folio out; then it is at the back of its list, clean or kept. */
static void write_step(struct scan_control *sc, struct folio *folio)
{
	struct quire *q = sc->q;
	struct address_space *m = folio_mapping(folio);
	int err = -EBUSY;

	if (!(sc->gfp & __GFP_IO) || !m || !m->ops->write_folio || !hold_reference(q, folio)) {
		reclaim_keep(sc, folio, KEEP_DIRTY);
		spin_unlock(&q->lock);
		return;
	}
	m->refcount++;
	spin_unlock(&q->lock);
	err = filemap_write_folio(m, folio);
	spin_lock(&q->lock);
	if (err)
		reclaim_keep(sc, folio, KEEP_DIRTY);
	folio_unhold(q, folio);
	folio_put(q, folio, 1);
	spin_unlock(&q->lock);
	mapping_put(m);
}

/* Under q->lock: frees an unmapped clean folio, or says why not. */
static void free_step(struct scan_control *sc, struct folio *folio)
{
	struct quire *q = sc->q;
	struct address_space *m = folio_mapping(folio);
	u32 n = folio_nr_pages(folio);

	if (!m || !filemap_remove_folio(m, folio)) {
		reclaim_keep(sc, folio, KEEP_BUSY);
		return;
	}
	sc->reclaimed += n;
	count_vm_events(q, sc->kswapd ? PGSTEAL_KSWAPD : PGSTEAL_DIRECT, n);
	count_vm_events(q, PGSTEAL_FILE, n);
}

/* Under q->lock, after a step of unmapping a page given up with MADV_FREE; ours is one of its references. */
static void lazyfree_step(struct scan_control *sc, struct folio *folio, enum unmap_result r)
{
	struct quire *q = sc->q;
	u32 n = folio_nr_pages(folio);

	if (r == UNMAP_DIRTY) {
		/* Written to again: it is memory like any other. */
		folio_del_lru(q, folio);
		folio->f.flags |= FF_SWAPBACKED | FF_DIRTY;
		folio_add_lru(q, folio);
	} else if (r != UNMAP_DONE && r != UNMAP_PARTLY) {
		reclaim_keep(sc, folio, r == UNMAP_LOCKED ? KEEP_LOCKED : KEEP_BUSY);
	} else if (!folio->f.mapcount && folio->f.refcount == 1) {
		sc->reclaimed += n;
		count_vm_events(q, sc->kswapd ? PGSTEAL_KSWAPD : PGSTEAL_DIRECT, n);
		count_vm_events(q, PGSTEAL_ANON, n);
		count_vm_events(q, PGLAZYFREED, n);
	}
}

static bool must_write(const struct folio *folio)
{
	struct address_space *m = folio_mapping(folio);

	return (folio->f.flags & FF_DIRTY) && m && !mapping_is_token(m);
}

/* Under q->lock; returns unlocked.  What can go goes at once: left on its list between two transactions it would be
 * found by other reclaimers, each of which would be in the way of the others. */
static void unmap_step(struct scan_control *sc, struct folio *folio)
{
	static const enum keep_reason why[] = {
		[UNMAP_REFERENCED] = KEEP_REFERENCED, [UNMAP_BUSY] = KEEP_BUSY, [UNMAP_LOCKED] = KEEP_LOCKED,
	};
	struct quire *q = sc->q;
	enum unmap_result r;
	bool mine;

	if (!hold_reference(q, folio)) {
		reclaim_keep(sc, folio, KEEP_BUSY);
		spin_unlock(&q->lock);
		return;
	}
	r = try_to_unmap_step(q, folio, sc->priority < FORCE_PRIORITY);
	spin_lock(&q->lock);
	folio_unhold(q, folio);
	if (folio->f.type == FRAME_ANON) {
		lazyfree_step(sc, folio, r);
		folio_put(q, folio, 1);
		spin_unlock(&q->lock);
		return;
	}
	mine = folio->f.refcount > 1; /* else only our reference is left: it was cut off its file meanwhile */
	folio_put(q, folio, 1);
	if (mine && r == UNMAP_DONE && !folio->f.mapcount && !must_write(folio))
		free_step(sc, folio);
	else if (mine && r != UNMAP_DONE && r != UNMAP_PARTLY)
		reclaim_keep(sc, folio, why[r]);
	spin_unlock(&q->lock);
}

/* Under q->lock; returns unlocked.  The next step with a folio, whichever it is. */
static void shrink_folio(struct scan_control *sc, struct folio *folio)
{
	if (folio->f.mapcount) {
		unmap_step(sc, folio);
	} else if (must_write(folio)) {
		write_step(sc, folio);
	} else {
		free_step(sc, folio);
		spin_unlock(&sc->q->lock);
	}
}

/* One candidate.  False when this round has none left. */
static bool shrink_one(struct scan_control *sc)
{
	struct quire *q = sc->q;
	struct folio *folio;

	spin_lock(&q->lock);
	folio = reclaim_next(sc);
	if (!folio) {
		spin_unlock(&q->lock);
		return sc->budget != 0;
	}
	count_vm_events(q, sc->kswapd ? PGSCAN_KSWAPD : PGSCAN_DIRECT, folio_nr_pages(folio));
	count_vm_events(q, PGSCAN_FILE, folio_nr_pages(folio));
	shrink_folio(sc, folio);
	return true;
}

u64 reclaim_folio(struct quire *q, struct folio *folio)
{
	struct scan_control sc = { .q = q, .to_reclaim = 1 };
	pfn_t pfn = folio_pfn(q, folio);

	for (int step = 0; step < 4 && !sc.reclaimed; step++) {
		spin_lock(&q->lock);
		if (frame_type_hint(q, pfn) != FRAME_FILE || !(folio->f.flags & FF_LRU) || (folio->f.flags & FF_UNEVICTABLE)) {
			spin_unlock(&q->lock);
			break;
		}
		shrink_folio(&sc, folio);
	}
	return sc.reclaimed;
}

static bool enough(const struct scan_control *sc)
{
	return sc->reclaimed >= sc->to_reclaim;
}

/* What a round looks at: folios of each kind, and how much they weigh against each other. */
struct scan_share {
	u64 file, anon;               /* folios */
	u64 file_weight, anon_weight;
};

static u64 folios_of(const struct quire *q, unsigned kind)
{
	u64 n = 0;

	for (unsigned list = 0; list < LRU_NR_LISTS; list++)
		n += q->lru.list[kind][list].count;
	return n;
}

/* Between 1.5 and 3 (times 64): the more, the less of the cost so far was this kind's (Linux: get_scan_count).  Never nothing,
 * or what has become cheap would not be found out. */
#define COST_ONE 64u
static u64 cheapness(const struct quire *q, unsigned kind)
{
	u64 total = q->lru.cost[LRU_KIND_ANON] + q->lru.cost[LRU_KIND_FILE];

	return (3 * total + 1) * COST_ONE / (total + q->lru.cost[kind] + 1);
}

static struct scan_share scan_shares(struct quire *q)
{
	struct scan_share s = { 0 };
	bool swap = can_swap(q);

	spin_lock(&q->lock);
	s.file = folios_of(q, LRU_KIND_FILE);
	s.file_weight = s.file * (200 - q->reclaim.swappiness) * cheapness(q, LRU_KIND_FILE);
	if (swap) {
		s.anon = folios_of(q, LRU_KIND_ANON);
		s.anon_weight = (q->nr_lru_pages[LRU_INACTIVE_ANON] + q->nr_lru_pages[LRU_ACTIVE_ANON]) * q->reclaim.swappiness *
				cheapness(q, LRU_KIND_ANON);
	}
	spin_unlock(&q->lock);
	return s;
}

static void shrink_file(struct scan_control *sc)
{
	for (u64 steps = 4 * sc->budget; steps && sc->budget && !enough(sc); steps--)
		if (!shrink_one(sc))
			break;
}

static bool sees_lock(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	return !(vma->vm_flags & VM_LOCKED);
}

/* Folios that were put aside because they were locked in memory: those that are so no more come back. */
static void rescue_unevictable(struct quire *q)
{
	for (unsigned i = 0; i < SWAP_CLUSTER_MAX; i++) {
		struct folio *folio;
		bool more;

		spin_lock(&q->lock);
		more = q->lru.unevictable.last;
		if (more) {
			folio = (struct folio *)pfn_to_frame(q, q->lru.unevictable.last - 1);
			frame_list_del(q, &q->lru.unevictable, &folio->f);
			frame_list_add(q, &q->lru.unevictable, &folio->f);
			if (rmap_walk(q, folio, sees_lock, NULL, 0) == RMAP_DONE)
				lru_rescue(q, folio);
		}
		spin_unlock(&q->lock);
		if (!more)
			return;
	}
}

/* One round at sc->priority.  False: there is nothing to look at. */
static bool shrink_round(struct scan_control *sc)
{
	struct scan_share s = scan_shares(sc->q);
	u64 weight, total, wanted = sc->to_reclaim;

	sc->busy = 0;
	if (sc->priority < RESCUE_PRIORITY || !(s.file + s.anon)) {
		rescue_unevictable(sc->q);
		s = scan_shares(sc->q);
	}
	weight = MAX(s.file_weight + s.anon_weight, 1);
	total = MAX((s.file + s.anon) >> sc->priority, ROUND_MIN);
	/* Who waits for a few pages must not look at all of a large memory first, only because all of it is in use. */
	if (sc->priority >= FORCE_PRIORITY)
		total = MIN(total, ROUND_MAX * sc->to_reclaim);
	/* In the last round every folio may be looked at three times: unmap, write, free. */
	sc->anon = false;
	sc->budget = sc->priority ? total * s.file_weight / weight : 3 * s.file;
	/* What is wanted is shared out, too, or the first kind would always do. */
	if (s.anon && sc->priority)
		sc->to_reclaim = sc->reclaimed + (wanted - sc->reclaimed) * s.file_weight / weight;
	shrink_file(sc);
	sc->to_reclaim = wanted;
	if (s.anon && !enough(sc)) {
		sc->anon = true;
		sc->budget = sc->priority ? total * s.anon_weight / weight : 3 * s.anon;
		shrink_anon(sc);
	}
	return s.file + s.anon != 0;
}

/* A round got nothing because others hold the locks it needs, and one of them may not be running: let them. */
static void throttle(const struct scan_control *sc)
{
	u32 never = 0;

	if (sc->busy && !sc->reclaimed)
		port_wait(&never, 0, THROTTLE_NS);
}

void shrink_lists(struct scan_control *sc)
{
	for (sc->priority = DEF_PRIORITY; sc->priority >= 0 && !enough(sc); sc->priority--) {
		bool any = shrink_round(sc);

		/* Nothing on the lists: then shrinkers have to give all they can. */
		if (!any)
			sc->priority = 0;
		if (!enough(sc))
			shrink_slab(sc->q, sc->gfp, sc->priority, &sc->reclaimed);
		if (!any)
			return;
		throttle(sc);
		if (sc->priority == 1)
			throttle_noprogress(sc);
	}
	sc->priority = 0;
	for (int i = 0; i < LAST_ROUNDS && sc->busy && !sc->reclaimed; i++) {
		shrink_round(sc);
		throttle(sc);
	}
}

u64 reclaim_tail(struct quire *q, u64 pages)
{
	struct scan_control sc = { .q = q, .gfp = GFP_KERNEL, .to_reclaim = pages, .budget = 2 * pages };

	/* Twice as many: dirty pages take one step to be written and one to go. */
	for (u64 steps = 2 * pages; steps && sc.budget && !enough(&sc); steps--) {
		if (!shrink_one(&sc))
			break;
	}
	return sc.reclaimed;
}

/* Frames that anybody's reclaim freed so far.  Under q->lock. */
static u64 pages_stolen(const struct quire *q)
{
	return q->vm_events[PGSTEAL_DIRECT] + q->vm_events[PGSTEAL_KSWAPD];
}

/* Several reclaimers may get everything out of one another's hands; memory was freed all the same, and who asks again
 * can have it.  Without this somebody would be killed while the page cache is full. */
static u64 stolen_since(struct quire *q, u64 before)
{
	u64 n;

	spin_lock(&q->lock);
	n = pages_stolen(q) - before;
	spin_unlock(&q->lock);
	return n;
}

u64 try_to_free_pages(struct quire *q, gfp_t gfp, unsigned order)
{
	struct scan_control sc = { .q = q, .gfp = gfp, .to_reclaim = MAX(SWAP_CLUSTER_MAX, 1u << order) };
	struct ctx *c = port_ctx();
	bool stall;
	u64 before;

	DEBUG_ON(in_transaction());
	if (c->flags & CTX_RECLAIM)
		return 0;
	stall = psi_memstall_enter(q);
	if (throttle_direct_reclaim(q)) {
		psi_memstall_leave(q, stall);
		return 1; /* the caller dies; what it needs for that the reserves have */
	}
	c->flags |= CTX_RECLAIM;
	spin_lock(&q->lock);
	count_vm_event(q, ALLOCSTALL);
	before = pages_stolen(q);
	spin_unlock(&q->lock);
	shrink_lists(&sc);
	if (!sc.reclaimed)
		sc.reclaimed = stolen_since(q, before);
	if (order)
		drain_all_pages(q);
	c->flags &= ~CTX_RECLAIM;
	psi_memstall_leave(q, stall);
	thrash_check(q);
	return sc.reclaimed;
}

bool memory_shortage_relieved(struct quire *q)
{
	bool ample;

	spin_lock(&q->lock);
	ample = phys_balanced(q, 0, WMARK_LOW, ZONE_NORMAL);
	spin_unlock(&q->lock);
	/* Nobody is killed here: what failed may have failed for a limit. */
	return !ample && try_to_free_pages(q, GFP_KERNEL, 0) > 0;
}
