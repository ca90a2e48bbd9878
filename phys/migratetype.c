/*
 * Migrate types: keeping what can be moved apart from what cannot.
 *
 * Each pageblock (512 frames) has a type, and free blocks lie on the lists of their pageblock's type.  A request of one
 * type is served from its own lists first.  When these are empty it *falls back*:
 *   claim   take the largest block of another type and, if most of its pageblock is free or suits us, convert the
 *           whole pageblock, so that the next requests of our type stay here as well;
 *   steal   take the smallest block that serves, converting nothing.
 * Sizes and thresholds are those of Linux (mm/page_alloc.c: fallbacks[], should_try_claim_block).
 *
 * pageblock_mt holds type ^ MIGRATE_MOVABLE, one byte each, so that all-zero memory means MOVABLE.  Locks: q->lock; the
 * free path reads a type without it and may then put a block on the per-CPU list of the type before a conversion.
 */
#include "phys.h"

static const u8 fallbacks[MIGRATE_PCPTYPES][MIGRATE_PCPTYPES - 1] = {
	[MIGRATE_UNMOVABLE] = {MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE},
	[MIGRATE_MOVABLE] = {MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE},
	[MIGRATE_RECLAIMABLE] = {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE},
};

void set_pageblock_migratetype(struct quire *q, pfn_t pfn, enum migratetype mt)
{
	struct zone *z;
	u8 *byte = &q->phys.pageblock_mt[pfn >> PAGEBLOCK_ORDER];

	/* A pageblock that straddles two zones counts for the lower one. */
	z = pfn_zone(q, pfn & ~(PAGEBLOCK_NR_PAGES - 1));
	z->nr_pageblocks[*byte ^ MIGRATE_MOVABLE]--;
	z->nr_pageblocks[mt]++;
	*byte = (u8)(mt ^ MIGRATE_MOVABLE);
}

/* The part of pfn's pageblock that lies in the zone: [*start, *end). */
static void pageblock_range(const struct zone *z, pfn_t pfn, pfn_t *start, pfn_t *end)
{
	*start = pfn & ~(PAGEBLOCK_NR_PAGES - 1);
	*end = MIN(*start + PAGEBLOCK_NR_PAGES, z->end_pfn);
	*start = MAX(*start, z->start_pfn);
}

static bool frame_is_movable(unsigned type)
{
	return type == FRAME_ANON || type == FRAME_FILE || type == FRAME_SHMEM;
}

/* Counts free frames and movable ones in use.  Owners may change their records meanwhile: a rough count does. */
static void count_pageblock(struct quire *q, pfn_t start, pfn_t end, u32 *nr_free, u32 *nr_movable)
{
	pfn_t pfn = start;
	unsigned last = FRAME_VIRGIN;

	*nr_free = *nr_movable = 0;
	while (pfn < end) {
		struct frame *f = q->cfg.mem_map + pfn;
		unsigned type = frame_type_racy(f);

		if (type == FRAME_FREE) {
			*nr_free += 1u << f->order;
			pfn += 1u << f->order;
			last = FRAME_FREE;
			continue;
		}
		/* tails follow the type of the head before them */
		last = type == FRAME_TAIL || type == FRAME_VIRGIN ? last : type;
		*nr_movable += frame_is_movable(last);
		pfn++;
	}
}

/* Moves the free blocks of a pageblock to mt's lists. */
static void move_freepages(struct quire *q, struct zone *z, pfn_t start, pfn_t end, enum migratetype mt)
{
	pfn_t pfn = start;

	while (pfn < end) {
		struct frame *f = q->cfg.mem_map + pfn;
		unsigned order;

		if (frame_type_racy(f) != FRAME_FREE) {
			pfn++;
			continue;
		}
		order = f->order;
		del_from_free_list(q, z, f);
		add_to_free_list(q, z, f, order, f->flags & FF_FREE_MASK, mt, false);
		pfn += 1u << order;
	}
}

/* Is it worth trying to convert the pageblock around a block of order? */
static bool should_try_claim(unsigned order, enum migratetype start_mt)
{
	return order >= PAGEBLOCK_ORDER / 2 || start_mt == MIGRATE_RECLAIMABLE || start_mt == MIGRATE_UNMOVABLE;
}

/* A whole pageblock or more: it changes its type without any counting. */
static struct frame *claim_whole(struct quire *q, struct zone *z, struct frame *f, unsigned have, unsigned order,
				 enum migratetype mt)
{
	pfn_t pfn = frame_to_pfn(q, f);
	u32 i;

	for (i = 0; i < 1u << (have - PAGEBLOCK_ORDER); i++)
		set_pageblock_migratetype(q, pfn + i * PAGEBLOCK_NR_PAGES, mt);
	expand(q, z, f, order, have, f->flags & FF_FREE_MASK, mt);
	return f;
}

/* Linux's try_to_claim_block: convert the pageblock if at least half of it is free or suits the new type. */
static struct frame *claim_pageblock(struct quire *q, struct zone *z, struct frame *f, unsigned order,
				     enum migratetype start_mt, enum migratetype old_mt)
{
	pfn_t start, end;
	u32 nr_free, nr_movable, alike;

	pageblock_range(z, frame_to_pfn(q, f), &start, &end);
	count_pageblock(q, start, end, &nr_free, &nr_movable);
	if (start_mt == MIGRATE_MOVABLE)
		alike = nr_movable;
	else
		alike = old_mt == MIGRATE_MOVABLE ? PAGEBLOCK_NR_PAGES - MIN(nr_free + nr_movable, PAGEBLOCK_NR_PAGES)
						  : 0;
	if (nr_free + alike < 1u << (PAGEBLOCK_ORDER - 1))
		return NULL;
	move_freepages(q, z, start, end, start_mt);
	set_pageblock_migratetype(q, start, start_mt);
	return rmqueue_smallest(q, z, order, start_mt);
}

/* The first block of order on the lists of another type; virgin blocks count as MOVABLE ones of order 10. */
static struct frame *find_fallback(struct quire *q, struct zone *z, unsigned order, enum migratetype start_mt,
				   enum migratetype *old_mt)
{
	unsigned i;

	for (i = 0; i < MIGRATE_PCPTYPES - 1; i++) {
		pfn_t first;

		*old_mt = fallbacks[start_mt][i];
		first = z->free_area[order].free_list[*old_mt].first;
		if (first)
			return q->cfg.mem_map + (first - 1);
		if (order == MAX_ORDER && *old_mt == MIGRATE_MOVABLE && z->virgin_next != z->virgin_end)
			return q->cfg.mem_map + z->virgin_next;
	}
	return NULL;
}

/* Takes what find_fallback found off its list. */
static void take_fallback(struct quire *q, struct zone *z, struct frame *f)
{
	if (frame_to_pfn(q, f) == z->virgin_next && z->virgin_next != z->virgin_end)
		take_virgin(q, z);
	else
		del_from_free_list(q, z, f);
}

/* Largest blocks first: converting many frames at once is what keeps later requests from falling back again. */
static struct frame *rmqueue_claim(struct quire *q, struct zone *z, unsigned order, enum migratetype mt,
				   u32 alloc_flags)
{
	int min_order = alloc_flags & ALLOC_NOFRAGMENT && order < PAGEBLOCK_ORDER ? PAGEBLOCK_ORDER : (int)order;
	enum migratetype old_mt;
	struct frame *f;
	int o;

	for (o = MAX_ORDER; o >= min_order; o--) {
		f = find_fallback(q, z, (unsigned)o, mt, &old_mt);
		if (!f)
			continue;
		if (!should_try_claim((unsigned)o, mt))
			return NULL;
		if (o >= PAGEBLOCK_ORDER) {
			take_fallback(q, z, f);
			f = claim_whole(q, z, f, (unsigned)o, order, mt);
		} else {
			f = claim_pageblock(q, z, f, order, mt, old_mt);
		}
		if (f) {
			q->phys.claims++;
			return f;
		}
	}
	return NULL;
}

/* The smallest block that serves; what is left over stays with its type. */
static struct frame *rmqueue_steal(struct quire *q, struct zone *z, unsigned order, enum migratetype mt)
{
	enum migratetype old_mt;
	struct frame *f;
	unsigned o;

	for (o = order; o <= MAX_ORDER; o++) {
		f = find_fallback(q, z, o, mt, &old_mt);
		if (!f)
			continue;
		take_fallback(q, z, f);
		expand(q, z, f, order, o, f->flags & FF_FREE_MASK, old_mt);
		q->phys.steals++;
		return f;
	}
	return NULL;
}

struct frame *rmqueue(struct quire *q, struct zone *z, unsigned order, enum migratetype mt, u32 alloc_flags)
{
	struct frame *f = rmqueue_smallest(q, z, order, mt);

	if (!f)
		f = rmqueue_claim(q, z, order, mt, alloc_flags);
	if (!f && !(alloc_flags & ALLOC_NOFRAGMENT))
		f = rmqueue_steal(q, z, order, mt);
	return f;
}
