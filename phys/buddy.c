/*
 * The buddy allocator: free blocks of 2^order frames, aligned to their size, per zone, order and migrate type.
 *
 *	split  an order-3 block            merge   frame 5 is freed
 *	[0 . . . . . . .]                  [0 . . .][4][5][6 .]   5's buddy 4 is free
 *	[0 . . .][4 . . .]                 [0 . . .][4 .]  [6 .]  4's buddy 6 is free
 *	[0 . . .][4 .][6 .]                [0 . . .][4 . . .]     4's buddy 0 is free
 *	[0 . . .][4][5][6 .]               [0 . . . . . . .]
 *
 * Two blocks of order o are buddies if their PFNs differ in bit o only.
 *
 * The virgin region.  Most of a large machine is never used, so boot does not write its records: each zone keeps one
 * range of whole order-10 blocks whose records are all zero, and blocks are opened from its low end when the lists of
 * MOVABLE are empty.  For everybody who counts they are free blocks of order 10 and type MOVABLE.
 *
 * What is known to be zero stays known: FF_ZEROED of a block says that every byte of it is.  A split hands the
 * flag to both halves, a merge keeps it if both had it.
 *
 * Everything here runs under q->lock and changes only free records and list heads, at most about 12 stores for each
 * level of a merge or split.
 */
#include "phys.h"

void add_to_free_list(struct quire *q, struct zone *z, struct frame *f, unsigned order, u16 flags, enum migratetype mt,
		      bool tail)
{
	struct free_area *a = &z->free_area[order];

	frame_set_head(f, FRAME_FREE, (u8)order, flags, 0);
	frame_set_counts(f, 0, mt);
	list_insert(q->cfg.mem_map, &a->free_list[mt], f, tail ? a->free_list[mt].last : 0);
	a->nr_free++;
}

void del_from_free_list(struct quire *q, struct zone *z, struct frame *f)
{
	struct free_area *a = &z->free_area[f->order];

	list_remove(q->cfg.mem_map, &a->free_list[f->head_off], f);
	a->nr_free--;
}

struct frame *take_virgin(struct quire *q, struct zone *z)
{
	struct frame *f;

	if (z->virgin_next == z->virgin_end)
		return NULL;
	f = q->cfg.mem_map + z->virgin_next;
	z->virgin_next += MAX_ORDER_NR_PAGES;
	frame_set_head(f, FRAME_FREE, MAX_ORDER, q->phys.virgin_flags, 0);
	return f;
}

void expand(struct quire *q, struct zone *z, struct frame *f, unsigned low, unsigned high, u16 flags,
	    enum migratetype mt)
{
	while (high > low) {
		high--;
		add_to_free_list(q, z, f + (1u << high), high, flags, mt, false);
	}
}

struct frame *rmqueue_smallest(struct quire *q, struct zone *z, unsigned order, enum migratetype mt)
{
	struct frame *f = NULL;
	unsigned o;

	for (o = order; o <= MAX_ORDER; o++) {
		pfn_t first = z->free_area[o].free_list[mt].first;

		if (!first)
			continue;
		f = q->cfg.mem_map + (first - 1);
		del_from_free_list(q, z, f);
		break;
	}
	if (!f && mt == MIGRATE_MOVABLE) {
		f = take_virgin(q, z);
		o = MAX_ORDER;
	}
	if (f)
		expand(q, z, f, order, o, f->flags & FF_FREE_MASK, mt);
	return f;
}

/* The free block of exactly order at pfn, or NULL.  Only a FREE record's order means anything here. */
static struct frame *free_buddy(struct quire *q, struct zone *z, pfn_t pfn, unsigned order)
{
	struct frame *f = q->cfg.mem_map + pfn;

	if (pfn < z->start_pfn || pfn + (1u << order) > z->end_pfn)
		return NULL;
	return frame_type_racy(f) == FRAME_FREE && f->order == order ? f : NULL;
}

/* A block whose buddy's buddy-to-be is free will probably merge soon: hand it out last (Linux: buddy_merge_likely). */
static bool merge_likely(struct quire *q, struct zone *z, pfn_t pfn, unsigned order)
{
	pfn_t parent = pfn & ~(1u << order);

	if (order >= MAX_ORDER - 1)
		return false;
	return free_buddy(q, z, parent ^ (1u << (order + 1)), order + 1) != NULL;
}

/* From pageblock size upwards buddies may be of different types: the newcomer's type wins, for both halves. */
static void match_types(struct quire *q, pfn_t pfn, unsigned order, enum migratetype mt)
{
	if (order >= PAGEBLOCK_ORDER && pageblock_migratetype(q, pfn) != mt)
		set_pageblock_migratetype(q, pfn, mt);
}

void free_one_page(struct quire *q, struct zone *z, pfn_t pfn, unsigned order, u16 flags, enum migratetype mt)
{
	struct frame *map = q->cfg.mem_map;

	z->nr_free += 1u << order;
	for (; order < MAX_ORDER; order++) {
		pfn_t buddy = pfn ^ (1u << order), upper = pfn | (1u << order);
		struct frame *b = free_buddy(q, z, buddy, order);

		if (!b)
			break;
		match_types(q, buddy, order, mt);
		del_from_free_list(q, z, b);
		flags = merge_flags(q, pfn, flags, buddy, b->flags, order);
		pfn &= buddy;
		/* The upper head is a tail from now on; leaving it FREE would let a later merge swallow it. */
		frame_set_head(map + upper, FRAME_TAIL, 0, 0, 0);
		frame_set_counts(map + upper, 0, 1u << order);
	}
	add_to_free_list(q, z, map + pfn, order, flags, mt, merge_likely(q, z, pfn, order));
}

void set_tails(struct frame *f, unsigned order)
{
	u32 i;

	for (i = 1; i < 1u << order; i++) {
		/* Most tails say so already from the block's last use: reading is cheaper than logging a store. */
		if (f[i].type != FRAME_TAIL || f[i].order || f[i].flags || f[i].refcount)
			frame_set_head(f + i, FRAME_TAIL, 0, 0, 0);
		if (f[i].head_off != i || f[i].mapcount)
			frame_set_counts(f + i, 0, i);
	}
}
