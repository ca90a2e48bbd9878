/*
 * Compaction: free frames that lie scattered become whole blocks of 64 KiB, 2 MiB or whatever is asked for.
 *
 * An aligned range of 2^order frames in which everything is free or can be made to leave is emptied:
 *
 *	[ free | anon | free | file | free ... ]
 *	   1. the free frames are taken out of the allocator, so that nobody moves in again (ctx->parked[]: a death gives them back)
 *	   2. anonymous folios are migrated (migrate.c) to frames that the allocator finds, in other holes; clean pages of
 *	      files are dropped: on the hosted port they are tokens, and cost next to nothing to bring back
 *	   3. the free frames go back and merge
 *
 * Linux lets two scanners, one for what is to move and one for free frames, meet in the middle of a zone; here a hand goes
 * round the ranges and takes those first in which little has to move (a quarter of the frames, then three quarters).
 *
 *	who asks                               how far it goes
 *	an allocation that found no block      DIRECT_RANGES from the hand on, until there is one (hooks.compact_pages)
 *	kswapd, when it has reclaimed          the same, if there is room but no block of 64 KiB
 *	/proc/sys/vm/compact_memory            every range of 2 MiB, then of 64 KiB
 *
 * Locks: called under none.  One at a time (reclaim.compact_mutex, tried only); q->lock in steps.
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "vmscan.h"

#define DIRECT_RANGES 256u
#define NEVER (~0u)

struct compaction {
	struct quire *q;
	unsigned order;
	u32 max_cost;   /* frames that may have to move, of one range */
	u32 base;       /* ctx->nparked before: what is above are our free blocks */
	u64 ranges;     /* that may still be looked at */
	u64 made;       /* blocks */
};

/* ---- what is in a range.  Under q->lock ---- */

static bool may_leave(struct quire *q, pfn_t head)
{
	struct folio *folio = (struct folio *)pfn_to_frame(q, head);

	switch (frame_type_hint(q, head)) {
	case FRAME_ANON:
		return folio_may_move(folio);
	case FRAME_FILE:
		return (folio->f.flags & FF_LRU) && !(folio->f.flags & (FF_UNEVICTABLE | FF_WRITEBACK)) &&
		       folio->f.refcount == folio->f.mapcount + 1 &&
		       (mapping_is_token(folio_mapping(folio)) || !(folio->f.flags & FF_DIRTY));
	default:
		return false;
	}
}

/* Frames that would have to leave; NEVER: some cannot, or there is nothing to gain. */
static u32 range_cost(struct compaction *c, pfn_t start)
{
	pfn_t pfn = start, end = start + (1u << c->order), head;
	unsigned order;
	u32 cost = 0;

	while (pfn < end) {
		enum block_state s = phys_lookup(c->q, pfn, &head, &order);

		if (order >= c->order || (s != BLOCK_FREE && s != BLOCK_USED) || (s == BLOCK_USED && !may_leave(c->q, head)))
			return NEVER;
		cost += s == BLOCK_USED ? 1u << order : 0;
		pfn = head + (1u << order);
	}
	return cost;
}

/* ---- the three steps ---- */

static bool park_block(struct quire *q, pfn_t head, unsigned order)
{
	struct ctx *c = port_ctx();

	if (c->nparked + 2 * MIGRATE_BATCH + 8 >= CTX_MAX_PARKED || !phys_take_free_block(q, head, order))
		return false;
	c->parked[c->nparked] = (struct parked_frame){ .pfn = head, .refs = 1 };
	c->nparked++;
	return true;
}

/* False: memory is too short, or there are too many pieces. */
static bool take_free_frames(struct compaction *c, pfn_t start)
{
	struct quire *q = c->q;
	pfn_t pfn = start, end = start + (1u << c->order), head;
	unsigned order;
	bool ok = true;

	spin_lock(&q->lock);
	while (ok && pfn < end) {
		if (phys_lookup(q, pfn, &head, &order) == BLOCK_FREE)
			ok = order < c->order && park_block(q, head, order);
		pfn = head + (1u << order);
		if (txn_should_break()) {
			spin_unlock(&q->lock);
			spin_lock(&q->lock);
		}
	}
	spin_unlock(&q->lock);
	return ok;
}

static void give_free_frames_back(struct compaction *c)
{
	struct ctx *ctx = port_ctx();
	struct quire *q = c->q;

	spin_lock(&q->lock);
	while (ctx->nparked > c->base) {
		struct frame *f = pfn_to_frame(q, ctx->parked[--ctx->nparked].pfn);

		__free_pages(q, f, f->order);
		if (txn_should_break()) {
			spin_unlock(&q->lock);
			spin_lock(&q->lock);
		}
	}
	spin_unlock(&q->lock);
	drain_all_pages(q);
}

/* The next heads in the range that are to leave: anonymous ones into heads[], one of a file into *file.  Returns how many of both. */
static u32 collect(struct compaction *c, pfn_t start, pfn_t *heads, u32 *n, struct folio **file)
{
	struct quire *q = c->q;
	pfn_t pfn = start, end = start + (1u << c->order), head;
	unsigned order;

	*n = 0;
	*file = NULL;
	spin_lock(&q->lock);
	while (pfn < end && *n < MIGRATE_BATCH) {
		enum frame_type type;

		phys_lookup(q, pfn, &head, &order);
		type = frame_type_hint(q, head);
		if (type == FRAME_ANON && may_leave(q, head))
			heads[(*n)++] = head;
		else if (type == FRAME_FILE && !*file && may_leave(q, head))
			*file = (struct folio *)pfn_to_frame(q, head);
		pfn = head + (1u << order);
	}
	spin_unlock(&q->lock);
	return *n + (*file != NULL);
}

static void empty_range(struct compaction *c, pfn_t start)
{
	pfn_t heads[MIGRATE_BATCH];
	struct folio *file;
	u32 n, moved;

	/* Each turn gets rid of something, or is the last. */
	for (u32 turns = 2u << c->order; turns && collect(c, start, heads, &n, &file); turns--) {
		moved = n ? migrate_folios(c->q, heads, n) : 0;
		if (file)
			moved += reclaim_folio(c->q, file);
		/* What has become free here must not be where the next ones go. */
		drain_all_pages(c->q);
		if (!moved || !take_free_frames(c, start))
			return;
	}
}

static bool is_free_block(struct compaction *c, pfn_t start)
{
	unsigned order;
	pfn_t head;
	bool yes;

	spin_lock(&c->q->lock);
	yes = phys_lookup(c->q, start, &head, &order) == BLOCK_FREE && order >= c->order;
	spin_unlock(&c->q->lock);
	return yes;
}

/* ---- ranges ---- */

/* Is there room elsewhere for what a range holds, above what reclaim wants free? */
static bool has_room(struct compaction *c)
{
	return nr_free_pages(c->q) > (2ull << c->order) + 64 && phys_balanced(c->q, 0, WMARK_LOW, ZONE_NORMAL);
}

static void compact_range(struct compaction *c, pfn_t start)
{
	struct quire *q = c->q;
	u32 cost;

	spin_lock(&q->lock);
	cost = range_cost(c, start);
	count_vm_events(q, COMPACT_MIGRATE_SCANNED, 1u << c->order);
	if (cost != NEVER && cost <= c->max_cost)
		count_vm_events(q, COMPACT_ISOLATED, cost);
	spin_unlock(&q->lock);
	if (cost == NEVER || cost > c->max_cost)
		return;
	c->base = port_ctx()->nparked;
	if (take_free_frames(c, start))
		empty_range(c, start);
	give_free_frames_back(c);
	c->made += is_free_block(c, start);
}

/* Goes round the ranges from the hand on until `want` blocks were made.  Whole ranges of RAM only. */
static void compact_round(struct compaction *c, u64 want)
{
	struct quire *q = c->q;
	u64 n = (q->cfg.memory >> PAGE_SHIFT) >> c->order, hand;

	for (u64 i = 0; i < n && c->ranges && c->made < want && has_room(c); i++, c->ranges--) {
		spin_lock(&q->lock);
		hand = q->reclaim.compact_hand = q->reclaim.compact_hand + 1;
		spin_unlock(&q->lock);
		compact_range(c, (pfn_t)(hand % n << c->order));
	}
}

/* Blocks made. */
static u64 compact(struct quire *q, unsigned order, u64 ranges, u64 want)
{
	struct compaction c = { .q = q, .order = order };
	struct ctx *ctx = port_ctx();
	u32 flags = ctx->flags;

	if (!order || order > MAX_ORDER || !mutex_trylock(&q->reclaim.compact_mutex))
		return 0;
	ctx->flags |= CTX_RECLAIM;
	drain_all_pages(q);
	for (u32 quarters = 1; quarters <= 3 && c.made < want; quarters += 2) {
		c.ranges = ranges;
		c.max_cost = MAX(quarters * (1u << order) / 4, 1);
		compact_round(&c, want);
	}
	ctx->flags = (ctx->flags & ~CTX_RECLAIM) | (flags & CTX_RECLAIM);
	mutex_unlock(&q->reclaim.compact_mutex);
	return c.made;
}

bool try_to_compact_pages(struct quire *q, gfp_t gfp, unsigned order)
{
	u64 made;

	DEBUG_ON(in_transaction());
	if (port_ctx()->flags & CTX_RECLAIM)
		return false;
	spin_lock(&q->lock);
	count_vm_event(q, COMPACT_STALL);
	spin_unlock(&q->lock);
	made = compact(q, order, DIRECT_RANGES, 1);
	spin_lock(&q->lock);
	count_vm_event(q, made ? COMPACT_SUCCESS : COMPACT_FAIL);
	spin_unlock(&q->lock);
	return made;
}

void compact_memory(struct quire *q)
{
	compact(q, PMD_ORDER, ~0ull, ~0ull);
	compact(q, CONT_PTE_ORDER, ~0ull, ~0ull);
}

void compact_background(struct quire *q)
{
	if (phys_largest_free_order(q) >= (int)CONT_PTE_ORDER)
		return;
	spin_lock(&q->lock);
	count_vm_event(q, COMPACT_DAEMON_WAKE);
	spin_unlock(&q->lock);
	compact(q, CONT_PTE_ORDER, DIRECT_RANGES, 8);
}
