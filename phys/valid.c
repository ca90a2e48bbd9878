/*
 * phys_is_valid(): walks every record that was ever used, every list and every counter, and says what does not fit.
 *
 * Takes q->lock, and each slot while it walks it.  The machine must be at rest: blocks on their way between a list and
 * their owner, and slots that others hold, would look like errors.
 *
 * What is checked:
 *   records   blocks tile each zone without gap or overlap; heads are aligned; free records keep their promises;
 *             tails in use lead to their head; virgin records are all zero
 *   lists     links and counts of every free list agree with the records; types agree with pageblocks
 *   counters  nr_free, per-CPU counts, pageblocks by type, managed frames
 */
#include "phys.h"

/* Virgin regions larger than this are looked at only at the ends of each block. */
#define VIRGIN_FULL_FRAMES (1u << 17)

struct walk {
	struct quire *q;
	u64 free_blocks[NR_ORDERS][MIGRATE_PCPTYPES]; /* found among the records of one zone */
	u64 pcp_frames, used, reserved;               /* frames, one zone */
	u64 pcp_blocks;
	bool ok;
};

static void complain(struct walk *w, pfn_t pfn, const char *what)
{
	const struct frame *f = w->q->cfg.mem_map + pfn;

	w->ok = false;
	quire_log(w->q, 3, "phys: pfn %#x (type %u order %u flags %#x ref %u off %u): %s", pfn, f->type, f->order,
		  f->flags, f->refcount, f->head_off, what);
}

static void complain_zone(struct walk *w, const struct zone *z, const char *what, u64 is, u64 want)
{
	w->ok = false;
	quire_log(w->q, 3, "phys: zone %s: %s is %lu, counted %lu", z->name, what, (unsigned long)is,
		  (unsigned long)want);
}

static bool record_is_zero(const struct frame *f)
{
	const u64 *w = (const u64 *)(const void *)f;
	unsigned i;

	for (i = 0; i < sizeof(*f) / sizeof(*w); i++)
		if (w[i])
			return false;
	return true;
}

static void check_virgin(struct walk *w, const struct zone *z)
{
	bool full = z->virgin_end - z->virgin_next <= VIRGIN_FULL_FRAMES;
	pfn_t pfn;

	for (pfn = z->virgin_next; pfn < z->virgin_end; pfn += full ? 1 : MAX_ORDER_NR_PAGES - 1) {
		if (!record_is_zero(w->q->cfg.mem_map + pfn))
			complain(w, pfn, "virgin record is not zero");
		if (!full && (pfn & (MAX_ORDER_NR_PAGES - 1)))
			pfn -= MAX_ORDER_NR_PAGES - 2;
	}
}

/* Free and per-CPU heads. */
static void check_idle_head(struct walk *w, const struct zone *z, pfn_t pfn)
{
	const struct frame *f = w->q->cfg.mem_map + pfn;
	u32 i;

	if (f->refcount || f->mapcount || f->mapping || f->index || f->private)
		complain(w, pfn, "idle record is not clean");
	if (f->flags & ~FF_FREE_MASK || (f->flags & FF_FREE_MASK) == FF_FREE_MASK)
		complain(w, pfn, "idle record has wrong flags");
	for (i = 1; i < 1u << f->order; i++) {
		const struct frame *t = f + i;

		if (t->next || t->prev || t->mapping || t->index || t->private)
			complain(w, pfn + i, "tail of an idle block is not clean");
		if (t->type != FRAME_TAIL && !record_is_zero(t))
			complain(w, pfn + i, "head inside an idle block");
	}
	if (f->type == FRAME_PCP) {
		w->pcp_frames += 1u << f->order;
		w->pcp_blocks++;
		return;
	}
	if (f->head_off >= MIGRATE_PCPTYPES) {
		complain(w, pfn, "free block of no type");
		return;
	}
	w->free_blocks[f->order][f->head_off]++;
	/* A pageblock shared with the zone below has one type but two zones' lists. */
	if ((pfn & ~(PAGEBLOCK_NR_PAGES - 1)) >= z->start_pfn && ALIGN_UP(pfn + 1, PAGEBLOCK_NR_PAGES) <= z->end_pfn &&
	    f->head_off != (u32)pageblock_migratetype(w->q, pfn))
		complain(w, pfn, "free block on the list of another type than its pageblock");
}

static void check_used_head(struct walk *w, pfn_t pfn)
{
	const struct frame *f = w->q->cfg.mem_map + pfn;
	u32 i;

	if (f->flags & (FF_ZEROED | FF_POISONED) && !(f->flags & FF_ZEROED))
		complain(w, pfn, "block in use is marked as poisoned");
	for (i = 1; i < 1u << f->order; i++) {
		if (f[i].type != FRAME_TAIL && !record_is_zero(f + i))
			complain(w, pfn + i, "head inside a block in use");
		else if (&pfn_folio(w->q, pfn + i)->f != f)
			complain(w, pfn + i, "tail does not lead to its head");
	}
	w->used += 1u << f->order;
}

/* The block at pfn; returns its size in frames. */
static pfn_t check_block(struct walk *w, const struct zone *z, pfn_t pfn)
{
	const struct frame *f = w->q->cfg.mem_map + pfn;

	if (f->type == FRAME_RESERVED) {
		w->reserved++;
		return 1;
	}
	if (f->type == FRAME_VIRGIN || f->type == FRAME_TAIL || f->type > FRAME_RESERVED || f->order > MAX_ORDER) {
		complain(w, pfn, "no block begins here");
		return 1;
	}
	if (pfn & ((1u << f->order) - 1) || pfn + (1u << f->order) > z->end_pfn) {
		/* Blocks in use may have been split from larger ones, but never lose their alignment. */
		complain(w, pfn, "block is not aligned or leaves its zone");
		return 1;
	}
	if (type_in_use(f->type))
		check_used_head(w, pfn);
	else
		check_idle_head(w, z, pfn);
	return 1u << f->order;
}

static void check_list(struct walk *w, const struct zone *z, unsigned order, unsigned mt)
{
	const struct frame_list *l = &z->free_area[order].free_list[mt];
	pfn_t at = l->first, prev = 0;
	u64 n = 0;

	for (; at && n <= l->count; n++) {
		const struct frame *f = w->q->cfg.mem_map + (at - 1);

		if (f->type != FRAME_FREE || f->order != order || f->head_off != mt || f->prev != prev)
			complain(w, at - 1, "wrong record on a free list");
		if (at - 1 < z->start_pfn || at - 1 >= z->end_pfn)
			complain(w, at - 1, "on a free list of another zone");
		prev = at;
		at = f->next;
	}
	if (n != l->count || l->last != prev)
		complain_zone(w, z, "length of a free list", l->count, n);
	if (n != w->free_blocks[order][mt])
		complain_zone(w, z, "free blocks listed", n, w->free_blocks[order][mt]);
}

static void check_lists(struct walk *w, const struct zone *z)
{
	u64 nr_free = z->virgin_end - z->virgin_next;
	unsigned order, mt;

	for (order = 0; order <= MAX_ORDER; order++) {
		u64 n = 0;

		for (mt = 0; mt < MIGRATE_PCPTYPES; mt++) {
			check_list(w, z, order, mt);
			n += z->free_area[order].free_list[mt].count;
		}
		if (n != z->free_area[order].nr_free)
			complain_zone(w, z, "free_area.nr_free", z->free_area[order].nr_free, n);
		nr_free += n << order;
	}
	if (nr_free != z->nr_free)
		complain_zone(w, z, "nr_free", z->nr_free, nr_free);
}

/* One CPU's stacks of one zone: returns frames on them. */
static u64 check_slot(struct walk *w, const struct zone *z, struct phys_cpu *c, unsigned zi)
{
	struct per_cpu_pages *pcp = &c->pcp[zi];
	u64 frames = 0;
	unsigned pi;

	for (pi = 0; pi < NR_PCP_LISTS; pi++) {
		pfn_t at = pcp->lists[pi].first;

		for (; at; at = w->q->cfg.mem_map[at - 1].next) {
			const struct frame *f = w->q->cfg.mem_map + (at - 1);

			if (f->type != FRAME_PCP || f->order != pcp_list_order(pi) || at - 1 < z->start_pfn ||
			    at - 1 >= z->end_pfn) {
				complain(w, at - 1, "wrong record on a per-CPU list");
				break;
			}
			w->pcp_blocks--;
			frames += 1u << f->order;
		}
	}
	if ((s64)frames != pcp->count)
		complain_zone(w, z, "per-CPU count", (u64)pcp->count, frames);
	return frames;
}

static void check_slots(struct walk *w, const struct zone *z, unsigned zi)
{
	u64 frames = 0;
	u32 cpu;

	for (cpu = 0; cpu < w->q->cfg.nr_cpus; cpu++) {
		struct phys_cpu *c = &w->q->phys.cpus[cpu];

		if (!slot_trylock(w->q, port_ctx(), c)) {
			complain_zone(w, z, "CPU slot held by somebody else", cpu, cpu);
			continue;
		}
		if (c->in_flight)
			complain(w, c->in_flight - 1, "on its way at a CPU that nobody uses");
		frames += check_slot(w, z, c, zi);
		spin_unlock(&c->lock);
	}
	if (frames != w->pcp_frames || w->pcp_blocks)
		complain_zone(w, z, "frames on per-CPU lists", frames, w->pcp_frames);
}

static void check_pageblocks(struct walk *w)
{
	u64 found[MAX_NR_ZONES][MIGRATE_PCPTYPES] = {{0}};
	pfn_t pfn;
	unsigned i, mt;

	for (pfn = 0; pfn < w->q->phys.nr_frames; pfn += PAGEBLOCK_NR_PAGES) {
		mt = pageblock_migratetype(w->q, pfn);
		if (mt < MIGRATE_PCPTYPES)
			found[pfn_zone_idx(w->q, pfn)][mt]++;
		else
			complain(w, pfn, "pageblock of no type");
	}
	for (i = 0; i < MAX_NR_ZONES; i++)
		for (mt = 0; mt < MIGRATE_PCPTYPES; mt++)
			if (found[i][mt] != w->q->phys.zones[i].nr_pageblocks[mt])
				complain_zone(w, &w->q->phys.zones[i], "pageblocks of a type",
					      w->q->phys.zones[i].nr_pageblocks[mt], found[i][mt]);
}

static void check_zone(struct walk *w, unsigned zi)
{
	const struct zone *z = &w->q->phys.zones[zi];
	pfn_t pfn = z->start_pfn;

	memset(w->free_blocks, 0, sizeof(w->free_blocks));
	w->pcp_frames = w->used = w->reserved = w->pcp_blocks = 0;
	while (pfn < z->end_pfn) {
		if (pfn == z->virgin_next && z->virgin_next < z->virgin_end) {
			check_virgin(w, z);
			pfn = z->virgin_end;
			continue;
		}
		pfn += check_block(w, z, pfn);
	}
	check_lists(w, z);
	check_slots(w, z, zi);
	if (w->used + w->pcp_frames + z->nr_free != z->managed)
		complain_zone(w, z, "managed", z->managed, w->used + w->pcp_frames + z->nr_free);
	if (z->managed + w->reserved != z->end_pfn - z->start_pfn)
		complain_zone(w, z, "present", z->end_pfn - z->start_pfn, z->managed + w->reserved);
}

bool phys_is_valid(struct quire *q)
{
	struct walk w = {.q = q, .ok = true};
	unsigned i;

	spin_lock(&q->lock);
	for (i = 0; i < MAX_NR_ZONES; i++)
		check_zone(&w, i);
	check_pageblocks(&w);
	if (q->cfg.debug_owner && !phys_owner_is_valid(q)) {
		w.ok = false;
		quire_log(q, 3, "phys: owner counts do not add up");
	}
	spin_unlock(&q->lock);
	return w.ok;
}
