/*
 * alloc_pages and free_pages: the entry to physical memory.
 *
 *	alloc_pages
 *	  fast   the CPU's list has a block: no core lock
 *	  low    q->lock: a zone above its low watermark fills the CPU's list (or gives one block)
 *	  slow   wake kswapd; down to the min watermark, or into the reserves if the flags allow;
 *	         then, only if the caller holds no lock and may wait: reclaim, drain, OOM killer, again
 *
 * Zones are tried from the highest that the request may use downwards; lowmem_reserve protects the lower ones.
 *
 * Locks: none needed; takes a CPU slot (try) and q->lock.  Inside a transaction everything is part of it, and the slow
 * path ends before reclaim: the caller's outermost level reclaims and tries again (gfp.h).
 *
 * Rule for owners: a frame that was allocated inside a transaction may be rolled back to the free lists with the flags
 * it had there.  Until that transaction commits, change its bytes by logged stores only.
 */
#include "phys.h"

/* A thread that cannot fail waits this long between two rounds of reclaim that freed nothing. */
#define NOFAIL_WAIT_NS 1000000ull

static unsigned gfp_special_zone(const struct quire *q, gfp_t gfp)
{
	if (gfp & __GFP_DMA)
		return q->phys.zones[ZONE_DMA].configured ? ZONE_DMA : ZONE_NORMAL;
	if (gfp & __GFP_DMA32)
		return q->phys.zones[ZONE_DMA32].configured ? ZONE_DMA32 : ZONE_NORMAL;
	/* Without somebody who can map it, a HighMem frame cannot be cleared. */
	if (gfp & __GFP_ZERO && !q->hooks.clear_highpages)
		return ZONE_NORMAL;
	return ZONE_HIGHMEM;
}

static inline unsigned gfp_zone(const struct quire *q, gfp_t gfp)
{
	return likely(!(gfp & (__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM))) ? ZONE_NORMAL : gfp_special_zone(q, gfp);
}

/* Under no lock of ours, the block is already the caller's. */
static void clear_block(struct quire *q, struct frame *f, unsigned order)
{
	void *va = frame_address(q, f);

	if (va)
		port_clear_pages(va, 1ul << order);
	else
		q->hooks.clear_highpages(q, f, 1u << order);
}

/* Once the block is the caller's: checks and books when debugging, and clears what is not known to be zero. */
static inline struct frame *finish_alloc(struct quire *q, gfp_t gfp, struct frame *f, unsigned order, u16 flags,
					 void *caller)
{
	if (unlikely(q->phys.debug))
		debug_alloc(q, f, order, flags, caller);
	if (gfp & __GFP_ZERO && !(flags & FF_ZEROED))
		clear_block(q, f, order);
	if (gfp & __GFP_TELL_ZERO)
		f->flags |= flags & FF_ZEROED;
	return f;
}

/* ---- one pass over the zones; q->lock held ---- */

static struct frame *alloc_from_zone(struct quire *q, struct phys_cpu *c, unsigned zi, const struct alloc_context *ac,
				     u32 alloc_flags)
{
	struct zone *z = &q->phys.zones[zi];
	struct frame *f;

	if (c) {
		unsigned pi = (unsigned)pcp_order_index(ac->order) * MIGRATE_PCPTYPES + ac->mt;

		f = pcp_refill(q, c, zi, pi, alloc_flags);
		if (f) {
			c->cur_zone[ac->highest] = (u8)zi;
			c->pcp[zi].lists[pi].nr_alloc++;
		}
		return f;
	}
	f = rmqueue(q, z, ac->order, ac->mt, alloc_flags);
	if (!f)
		return NULL;
	z->nr_free -= 1u << ac->order;
	z->nr_alloc++;
	z->nr_alloc_pages += 1u << ac->order;
	return f;
}

static struct frame *scan_zones(struct quire *q, struct phys_cpu *c, const struct alloc_context *ac, u32 alloc_flags)
{
	int zi;

	for (zi = q->phys.first_zone[ac->highest]; zi >= 0; zi--) {
		struct zone *z = &q->phys.zones[zi];
		u64 mark = z->watermark[MIN(alloc_flags & ALLOC_WMARK_MASK, (u32)WMARK_HIGH)];
		struct frame *f;

		if (!zone_populated(z))
			continue;
		if (!(alloc_flags & ALLOC_NO_WATERMARKS) &&
		    !zone_watermark_ok(z, ac->order, mark, ac->highest, alloc_flags)) {
			if (c)
				pcp_refresh_sizes(z, &c->pcp[zi]);
			continue;
		}
		f = alloc_from_zone(q, c, (unsigned)zi, ac, alloc_flags);
		if (f)
			return f;
	}
	return NULL;
}

/* c: the caller's slot, to be filled on the way, or NULL for one block straight from the buddy lists.  Mixing
 * types in Normal is worse than using a lower zone, so the first pass does not. */
static struct frame *get_page_from_freelist(struct quire *q, struct phys_cpu *c, const struct alloc_context *ac,
					    u32 alloc_flags)
{
	struct frame *f = NULL;

	lockdep_assert_held(&q->lock);
	if (q->phys.first_zone[ac->highest] == ZONE_NORMAL)
		f = scan_zones(q, c, ac, alloc_flags | ALLOC_NOFRAGMENT);
	return f ? f : scan_zones(q, c, ac, alloc_flags);
}

static struct frame *try_freelists(struct quire *q, const struct alloc_context *ac, u32 alloc_flags, u16 *flags)
{
	struct frame *f;

	spin_lock(&q->lock);
	f = get_page_from_freelist(q, NULL, ac, alloc_flags);
	if (f)
		*flags = prep_new_page(f, ac->order);
	spin_unlock(&q->lock);
	return f;
}

/* ---- the slow path ---- */

static u32 gfp_to_alloc_flags(gfp_t gfp, bool may_block)
{
	u32 flags = WMARK_MIN;

	if (gfp & __GFP_HIGH)
		flags |= ALLOC_MIN_RESERVE;
	if (!may_block && !(gfp & __GFP_NOMEMALLOC))
		flags |= ALLOC_NON_BLOCK;
	if (gfp & __GFP_MEMALLOC && !(gfp & __GFP_NOMEMALLOC))
		flags |= ALLOC_NO_WATERMARKS;
	return flags;
}

static void wake_kswapd(struct quire *q, gfp_t gfp)
{
	if (gfp & __GFP_KSWAPD_RECLAIM && q->hooks.wake_kswapd)
		q->hooks.wake_kswapd(q);
}

/* Frames that reclaim might still free; without progress and without these another round is vain. */
static bool reclaim_could_help(struct quire *q, const struct alloc_context *ac)
{
	u64 n = racy_u64(&q->nr_lru_pages[LRU_INACTIVE_FILE]) + racy_u64(&q->nr_lru_pages[LRU_ACTIVE_FILE]);
	u64 min = 0;
	int zi;

	if (racy_u64(&q->nr_free_swap_pages))
		n += racy_u64(&q->nr_lru_pages[LRU_INACTIVE_ANON]) + racy_u64(&q->nr_lru_pages[LRU_ACTIVE_ANON]);
	for (zi = q->phys.first_zone[ac->highest]; zi >= 0; zi--)
		min += q->phys.zones[zi].watermark[WMARK_MIN];
	return n + nr_free_pages(q) > min + (1u << ac->order);
}

/* Linux's should_reclaim_retry.  *loops counts rounds without progress. */
static bool should_reclaim_retry(struct quire *q, const struct alloc_context *ac, bool progress, unsigned *loops)
{
	if (progress && ac->order <= PAGE_ALLOC_COSTLY_ORDER)
		*loops = 0;
	else
		(*loops)++;
	return *loops <= MAX_RECLAIM_RETRIES && (progress || reclaim_could_help(q, ac));
}

/* Reclaim, then look again, once more with the CPUs' lists emptied. */
static struct frame *direct_reclaim(struct quire *q, const struct alloc_context *ac, u32 alloc_flags, u16 *flags,
				    bool *progress)
{
	struct frame *f;

	*progress = q->hooks.try_to_free_pages && q->hooks.try_to_free_pages(q, ac->gfp, ac->order) > 0;
	f = try_freelists(q, ac, alloc_flags, flags);
	if (f)
		return f;
	drain_all_pages(q);
	return try_freelists(q, ac, alloc_flags, flags);
}

/* The last resort of small orders.  True if it makes sense to try again.  As on Linux nobody is killed for costly
 * orders, for callers who can do without, or where the file system may not be entered; the last of these fail here. */
static bool may_oom(struct quire *q, const struct alloc_context *ac)
{
	if (ac->order > PAGE_ALLOC_COSTLY_ORDER || ac->gfp & (__GFP_RETRY_MAYFAIL | __GFP_THISNODE))
		return false;
	if (!(ac->gfp & (__GFP_FS | __GFP_NOFAIL)))
		return false;
	return q->hooks.out_of_memory && q->hooks.out_of_memory(q, ac->gfp, ac->order) == 0;
}

/* Whoever may not fail gets the reserves; if even they are empty it waits for others to free, and if there is nobody
 * who could be made to, the machine is deadlocked on memory, as Linux says. */
static struct frame *nofail_last_resort(struct quire *q, const struct alloc_context *ac, u16 *flags)
{
	struct frame *f = try_freelists(q, ac, ALLOC_NO_WATERMARKS, flags);
	u32 never = 0;

	if (f)
		return f;
	if (!q->hooks.out_of_memory) {
		show_mem(q);
		quire_bug(__FILE__, __LINE__, "System is deadlocked on memory: __GFP_NOFAIL and nobody to kill");
	}
	port_wait(&never, 0, NOFAIL_WAIT_NS);
	return NULL;
}

/* Rounds of reclaim, for a caller who holds no lock.  NULL: give up. */
static struct frame *reclaim_rounds(struct quire *q, const struct alloc_context *ac, u32 alloc_flags, u16 *flags)
{
	bool costly = ac->order > PAGE_ALLOC_COSTLY_ORDER, progress;
	unsigned loops = 0;
	struct frame *f;

	/* There may be enough, only not in one piece. */
	if (ac->order && q->hooks.compact_pages && q->hooks.compact_pages(q, ac->gfp, ac->order)) {
		f = try_freelists(q, ac, alloc_flags, flags);
		if (f)
			return f;
	}

	for (;;) {
		wake_kswapd(q, ac->gfp);
		f = direct_reclaim(q, ac, alloc_flags, flags, &progress);
		if (f)
			return f;
		if (ac->gfp & __GFP_NORETRY && !(ac->gfp & __GFP_NOFAIL))
			return NULL;
		if (costly && !(ac->gfp & (__GFP_RETRY_MAYFAIL | __GFP_NOFAIL)))
			return NULL;
		if (should_reclaim_retry(q, ac, progress, &loops))
			continue;
		/* Somebody else may have been killed meanwhile: kill only if the high watermark is out of reach. */
		f = try_freelists(q, ac, WMARK_HIGH, flags);
		if (f)
			return f;
		if (may_oom(q, ac)) {
			loops = 0;
			continue;
		}
		if (!(ac->gfp & __GFP_NOFAIL))
			return NULL;
		f = nofail_last_resort(q, ac, flags);
		if (f)
			return f;
	}
}

static struct frame *alloc_slowpath(struct quire *q, const struct alloc_context *ac, u16 *flags)
{
	bool may_block = ac->gfp & __GFP_DIRECT_RECLAIM, locked = in_transaction();
	u32 alloc_flags = gfp_to_alloc_flags(ac->gfp, may_block && !locked);
	struct frame *f;

	wake_kswapd(q, ac->gfp);
	f = try_freelists(q, ac, alloc_flags, flags);
	if (f)
		return f;
	if (may_block && !locked && !(ac->gfp & __GFP_MEMALLOC))
		f = reclaim_rounds(q, ac, alloc_flags, flags);
	if (f)
		return f;
	/* Under a lock this is no failure yet: the outermost caller reclaims and tries again. */
	if (!(may_block && locked))
		warn_alloc(q, ac);
	return NULL;
}

/* ---- allocation ---- */

/* Slot held: a block of the CPU's list of a zone if it has one. */
static inline struct frame *alloc_from_list(struct quire *q, struct per_cpu_pages *pcp, unsigned pi, unsigned order,
					    u16 *flags)
{
	struct frame *f = pcp_pop(q, pcp, pi, order);

	if (likely(f)) {
		pcp->lists[pi].nr_alloc++;
		*flags = prep_new_page(f, order);
	}
	return f;
}

/* Slot held, the preferred zone's list is empty: takes what the last refill brought from a lower zone, or fills a list
 * from the first zone above its low watermark and takes one. */
static struct frame *alloc_refill(struct quire *q, const struct alloc_context *ac, struct phys_cpu *c, u16 *flags)
{
	unsigned pi = (unsigned)pcp_order_index(ac->order) * MIGRATE_PCPTYPES + ac->mt;
	struct frame *f = alloc_from_list(q, &c->pcp[c->cur_zone[ac->highest]], pi, ac->order, flags);

	if (f)
		return f;
	spin_lock(&q->lock);
	f = get_page_from_freelist(q, c, ac, WMARK_LOW);
	spin_unlock(&q->lock);
	if (f)
		*flags = prep_new_page(f, ac->order);
	return f;
}

/* Everything but a hit on the CPU's list.  c: the slot, held, whose list was empty; or NULL. */
static __attribute__((noinline)) struct frame *alloc_missed(struct quire *q, gfp_t gfp, unsigned order, void *caller,
							    struct phys_cpu *c)
{
	struct alloc_context ac = {gfp, order, gfp_migratetype(q, gfp), gfp_zone(q, gfp), caller};
	struct frame *f;
	u16 flags = 0;

	if (unlikely(order > MAX_ORDER))
		return NULL;
	if (c) {
		f = alloc_refill(q, &ac, c, &flags);
		spin_unlock(&c->lock);
	} else {
		f = try_freelists(q, &ac, WMARK_LOW, &flags);
	}
	if (!f)
		f = alloc_slowpath(q, &ac, &flags);
	return f ? finish_alloc(q, gfp, f, order, flags, caller) : NULL;
}

struct frame *alloc_pages_asked(struct quire *q, gfp_t gfp, unsigned order, void *caller)
{
	/* All that can be found out before the slot is locked: the atomic holds up every load after it. */
	struct ctx *ctx = port_ctx();
	int oi = pcp_order_index(order);
	unsigned zi = q->phys.first_zone[gfp_zone(q, gfp)],
		 pi = (unsigned)oi * MIGRATE_PCPTYPES + gfp_migratetype(q, gfp);
	struct phys_cpu *c = NULL;
	struct frame *f;
	u16 flags;

	if (oi >= 0)
		c = slot_get(q, ctx);
	if (unlikely(!c))
		return alloc_missed(q, gfp, order, caller, NULL);
	f = alloc_from_list(q, &c->pcp[zi], pi, order, &flags);
	if (unlikely(!f))
		return alloc_missed(q, gfp, order, caller, c);
	slot_put(ctx, c);
	return finish_alloc(q, gfp, f, order, flags, caller);
}

struct frame *alloc_pages_caller(struct quire *q, gfp_t gfp, unsigned order, void *caller)
{
	return unlikely(fail_page(q, gfp)) ? NULL : alloc_pages_asked(q, gfp, order, caller);
}

/* One locked slot serves as many as its list and one refill give. */
static unsigned bulk_from_slot(struct quire *q, const struct alloc_context *ac, unsigned n, struct frame **out)
{
	struct ctx *ctx = port_ctx();
	struct phys_cpu *c = slot_get(q, ctx);
	unsigned got = 0, i, zi = q->phys.first_zone[ac->highest];
	u16 flags[16];

	if (!c)
		return 0;
	while (got < n && got < ARRAY_SIZE(flags)) {
		out[got] = alloc_from_list(q, &c->pcp[zi], ac->mt, 0, &flags[got]);
		if (!out[got])
			out[got] = alloc_refill(q, ac, c, &flags[got]);
		if (!out[got])
			break;
		got++;
	}
	slot_put(ctx, c);
	for (i = 0; i < got; i++)
		finish_alloc(q, ac->gfp, out[i], 0, flags[i], ac->caller);
	return got;
}

unsigned alloc_pages_bulk(struct quire *q, gfp_t gfp, unsigned n, struct frame **out)
{
	struct alloc_context ac = {gfp, 0, gfp_migratetype(q, gfp), gfp_zone(q, gfp), __builtin_return_address(0)};
	unsigned got = 0;

	if (n && fail_page(q, gfp))
		return 0;
	while (got < n) {
		unsigned k = bulk_from_slot(q, &ac, n - got, out + got);

		if (!k) {
			out[got] = alloc_pages_caller(q, gfp, 0, ac.caller);
			k = out[got] != NULL;
		}
		if (!k)
			break;
		got += k;
	}
	return got;
}

/* ---- freeing ---- */

static void free_to_buddy(struct quire *q, struct frame *f, unsigned order, u16 flags)
{
	pfn_t pfn = frame_to_pfn(q, f);

	spin_lock(&q->lock);
	wipe_record(f);
	frame_set_links(f, 0, 0);
	free_one_page(q, pfn_zone(q, pfn), pfn, order, flags, pageblock_migratetype(q, pfn));
	spin_unlock(&q->lock);
}

/* Slot held. */
static inline void free_to_slot(struct quire *q, struct phys_cpu *c, struct frame *f, pfn_t pfn, unsigned zi,
				unsigned pi, unsigned order, u16 flags)
{
	struct per_cpu_pages *pcp = &c->pcp[zi];

	pcp_push(pcp, pi, f, pfn, order, flags);
	wipe_record(f);
	if (unlikely(pcp->count > pcp->high))
		pcp_trim(q, c, zi);
}

void free_pages_caller(struct quire *q, struct frame *f, unsigned order, void *caller)
{
	struct ctx *ctx = port_ctx();
	u64 pfn = (u64)(f - q->cfg.mem_map);
	struct phys_cpu *c;
	unsigned zi, pi;
	u16 flags;

	if (unlikely(!free_is_sane(q, f, pfn, order)))
		bad_free(q, f, order, caller);
	/* The owner may know that the bytes are zero (a page table, a block given back to the host). */
	flags = f->flags & FF_ZEROED;
	if (unlikely(q->phys.debug))
		flags = debug_free(q, f, order, flags, caller);
	zi = pfn_zone_idx(q, (pfn_t)pfn);
	pi = free_list_index(q, (pfn_t)pfn, order);
	c = pcp_order_index(order) >= 0 ? slot_get(q, ctx) : NULL;
	if (likely(c)) {
		free_to_slot(q, c, f, (pfn_t)pfn, zi, pi, order, flags);
		slot_put(ctx, c);
	} else {
		free_to_buddy(q, f, order, flags);
	}
}

/* Slot held: as many as belong on its lists, up to a number that keeps the transaction short. */
static unsigned bulk_to_slot(struct quire *q, struct phys_cpu *c, unsigned n, struct frame **frames, void *caller)
{
	unsigned i;

	for (i = 0; i < n && i < 64; i++) {
		struct frame *f = frames[i];
		u64 pfn = (u64)(f - q->cfg.mem_map);
		u16 flags = f->flags & FF_ZEROED;

		if (unlikely(!free_is_sane(q, f, pfn, f->order)))
			bad_free(q, f, f->order, caller);
		if (pcp_order_index(f->order) < 0)
			break;
		if (unlikely(q->phys.debug))
			flags = debug_free(q, f, f->order, flags, caller);
		free_to_slot(q, c, f, (pfn_t)pfn, pfn_zone_idx(q, (pfn_t)pfn), free_list_index(q, (pfn_t)pfn, f->order),
			     f->order, flags);
	}
	return i;
}

void free_pages_bulk(struct quire *q, unsigned n, struct frame **frames)
{
	void *caller = __builtin_return_address(0);

	while (n) {
		struct ctx *ctx = port_ctx();
		struct phys_cpu *c = slot_get(q, ctx);
		unsigned done = 0;

		if (c) {
			done = bulk_to_slot(q, c, n, frames, caller);
			slot_put(ctx, c);
		}
		if (!done) {
			free_pages_caller(q, frames[0], frames[0]->order, caller);
			done = 1;
		}
		n -= done;
		frames += done;
	}
}

/* ---- special requests ---- */

struct frame *phys_take_free_block(struct quire *q, pfn_t head, unsigned order)
{
	struct frame *f = q->cfg.mem_map + head;
	struct zone *z = pfn_zone(q, head);
	u16 flags;

	lockdep_assert_held(&q->lock);
	if (head >= q->phys.nr_frames ||
	    !zone_watermark_ok(z, 0, z->watermark[WMARK_MIN] + (1u << order), ZONE_NORMAL, 0))
		return NULL;
	if (order == MAX_ORDER && head == z->virgin_next && head != z->virgin_end)
		take_virgin(q, z);
	else if (frame_type_racy(f) == FRAME_FREE && f->order == order)
		del_from_free_list(q, z, f);
	else
		return NULL;
	z->nr_free -= 1u << order;
	z->nr_alloc++;
	z->nr_alloc_pages += 1u << order;
	flags = prep_new_page(f, order);
	if (unlikely(q->phys.debug))
		debug_alloc(q, f, order, flags, __builtin_return_address(0));
	return f;
}

u64 nr_free_pages(struct quire *q)
{
	u64 n = 0;
	unsigned i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		n += racy_u64(&q->phys.zones[i].nr_free) + pcp_free_pages(q, i);
	return n;
}

bool has_free_pages(struct quire *q, u64 n)
{
	u64 free = 0;
	unsigned i;

	/* Mostly true without asking every CPU for what lies on its lists. */
	for (i = 0; i < MAX_NR_ZONES && free < n; i++)
		free += racy_u64(&q->phys.zones[i].nr_free);
	return free >= n || nr_free_pages(q) >= n;
}

u64 totalram_pages(struct quire *q)
{
	return q->cfg.memory >> PAGE_SHIFT;
}
