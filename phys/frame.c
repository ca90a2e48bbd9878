/*
 * Names and addresses of frames, lists of frames, and what a frame belongs to.
 *
 * A frame has three names: its PFN, its record (mem_map + PFN) and, in low memory, its direct-map address
 * (direct_map + PFN * PAGE_SIZE).  Lists link records by PFN + 1, so that an all-zero record is on no list.
 *
 * Locks: the conversions need none; a list is its owner's; phys_lookup wants q->lock.
 */
#include "phys.h"

struct frame *pfn_to_frame(struct quire *q, pfn_t pfn)
{
	DEBUG_ON(pfn >= q->phys.nr_frames);
	return q->cfg.mem_map + pfn;
}

pfn_t frame_to_pfn(const struct quire *q, const struct frame *f)
{
	return (pfn_t)(f - q->cfg.mem_map);
}

/* Is h the head of a block, with somebody or on a CPU's list, that reaches off frames further? */
static bool head_covers(const struct frame *h, u32 off)
{
	u64 w = racy_u64((const u64 *)(const void *)h);
	u8 type = (u8)w, order = (u8)(w >> 8);

	return (type_in_use(type) || type == FRAME_PCP) && off < 1u << order;
}

/* Tails are written only where that pays (phys.h).  Where the record has no hint, or an old one, the head is one of ten:
 * blocks are aligned to their size, and what is no head never looks like one. */
static __attribute__((noinline)) struct frame *find_head(struct quire *q, pfn_t pfn)
{
	struct frame *f = q->cfg.mem_map + pfn;
	u32 hint = frame_type_racy(f) == FRAME_TAIL ? (u32)racy_s32((const s32 *)&f->head_off) : 0;
	unsigned o;

	if (hint && head_covers(f - hint, hint))
		return f - hint;
	for (o = 1; o <= MAX_ORDER; o++) {
		u32 off = pfn & ((1u << o) - 1);

		if (off && head_covers(f - off, off))
			return f - off;
	}
	return f;
}

struct folio *pfn_folio(struct quire *q, pfn_t pfn)
{
	struct frame *f = pfn_to_frame(q, pfn);
	u8 type = frame_type_racy(f); /* who looks a frame up by its number may meet one that is just being allocated */

	if (type == FRAME_TAIL || type == FRAME_VIRGIN)
		f = find_head(q, pfn);
	return (struct folio *)f;
}

void *frame_address(struct quire *q, const struct frame *f)
{
	pfn_t pfn = frame_to_pfn(q, f);

	if (pfn >= q->phys.lowmem_end)
		return NULL;
	return (char *)q->cfg.direct_map + ((u64)pfn << PAGE_SHIFT);
}

struct frame *virt_to_frame(struct quire *q, const void *addr)
{
	u64 off = (u64)((const char *)addr - (const char *)q->cfg.direct_map);

	if ((off >> PAGE_SHIFT) >= q->phys.lowmem_end)
		return NULL;
	return q->cfg.mem_map + (off >> PAGE_SHIFT);
}

void frame_list_add(struct quire *q, struct frame_list *l, struct frame *f)
{
	list_insert(q->cfg.mem_map, l, f, 0);
}

void frame_list_add_tail(struct quire *q, struct frame_list *l, struct frame *f)
{
	list_insert(q->cfg.mem_map, l, f, l->last);
}

void frame_list_del(struct quire *q, struct frame_list *l, struct frame *f)
{
	list_remove(q->cfg.mem_map, l, f);
}

struct frame *frame_list_pop(struct quire *q, struct frame_list *l)
{
	struct frame *f;

	if (!l->first)
		return NULL;
	f = q->cfg.mem_map + (l->first - 1);
	list_remove(q->cfg.mem_map, l, f);
	return f;
}

/* Blocks are aligned to their size, so the head of the free block around pfn is one of eleven frames. */
static bool find_free_head(struct quire *q, pfn_t pfn, pfn_t *head, unsigned *order)
{
	unsigned o;

	for (o = 0; o <= MAX_ORDER; o++) {
		pfn_t h = pfn & ~((1u << o) - 1);
		struct frame *f = q->cfg.mem_map + h;

		if (frame_type_racy(f) != FRAME_FREE)
			continue;
		if (pfn - h >= 1u << f->order)
			return false;
		*head = h;
		*order = f->order;
		return true;
	}
	return false;
}

enum frame_type frame_type_hint(struct quire *q, pfn_t pfn)
{
	return (enum frame_type)frame_type_racy(pfn_to_frame(q, pfn));
}

enum block_state phys_lookup(struct quire *q, pfn_t pfn, pfn_t *head, unsigned *order)
{
	struct zone *z = pfn_zone(q, pfn);
	struct frame *f;

	lockdep_assert_held(&q->lock);
	if (pfn >= z->virgin_next && pfn < z->virgin_end) {
		*head = pfn & ~(MAX_ORDER_NR_PAGES - 1);
		*order = MAX_ORDER;
		return BLOCK_FREE;
	}
	if (find_free_head(q, pfn, head, order))
		return BLOCK_FREE;
	f = &pfn_folio(q, pfn)->f;
	*head = frame_to_pfn(q, f);
	*order = (u8)(racy_u64((const u64 *)(const void *)f) >> 8);
	if (frame_type_racy(f) == FRAME_RESERVED)
		return BLOCK_RESERVED;
	return frame_type_racy(f) == FRAME_PCP ? BLOCK_PCP : BLOCK_USED;
}
