/*
 * Per-CPU lists: stacks of ready blocks that spare most allocations the core lock.
 *
 * A slot belongs to a CPU, but a CPU number is only a hint (the thread may move at any time), so a slot has a lock.  It
 * is only ever tried: who loses takes the neighbour's slot or goes to the buddy lists under q->lock.  Hence a slot that
 * a transaction keeps until its commit, or whose owner is stopped, delays nobody.
 *
 * Single frames outside a transaction come and go without the log, by quick.c.
 *
 * Orders 0-4 and 9 have lists, one for each migrate type.  Blocks move between lists and buddy in batches under
 * q->lock.  The frames on them are not counted free in their zone: watermarks hold without them.
 *
 * Lock: the slot's (rank CPU), then q->lock for moving.
 */
#include "phys.h"

/* How many neighbours are tried before the core lock is cheaper. */
#define SLOT_TRIES 3u
/* How often a busy slot is polled by drain_all_pages. */
#define DRAIN_POLLS 200u
/* Frames given back in one transaction: at most about 60 stores each. */
#define DRAIN_STEP 64

/* Records and links on the lists are whole at every instruction of quick.c; only of this frame and of the count is it not known how far
 * they got. */
void slot_repair(struct quire *q, struct phys_cpu *c)
{
	pfn_t pfn = c->in_flight - 1, at;
	struct frame *map = q->cfg.mem_map, *f = map + pfn;
	struct per_cpu_pages *pcp = &c->pcp[pfn_zone_idx(q, pfn)];
	u16 flags = f->flags & FF_ZEROED;
	bool listed = false;
	unsigned pi;

	pcp->count = 0;
	for (pi = 0; pi < NR_PCP_LISTS; pi++) {
		for (at = pcp->lists[pi].first; at; at = map[at - 1].next) {
			pcp->count += 1 << pcp_list_order(pi);
			listed |= at == pfn + 1;
		}
	}
	wipe_record(f);
	if (listed)
		frame_set_head(f, FRAME_PCP, 0, flags, 0);
	else
		pcp_push(pcp, free_list_index(q, pfn, 0), f, pfn, 0, flags);
	c->in_flight = 0;
}

struct phys_cpu *slot_get_other(struct quire *q, struct ctx *ctx, unsigned cpu)
{
	u32 n = q->cfg.nr_cpus, i;

	for (i = 1; i < SLOT_TRIES && i < n; i++) {
		struct phys_cpu *c;

		cpu = cpu + 1 == n ? 0 : cpu + 1;
		c = &q->phys.cpus[cpu];
		if (slot_trylock(q, ctx, c))
			return c;
	}
	return NULL;
}

void pcp_refresh_sizes(const struct zone *z, struct per_cpu_pages *pcp)
{
	pcp->high = z->nr_free < z->watermark[WMARK_LOW] ? 0 : (s32)z->pcp_high_min;
	pcp->batch = z->pcp_batch;
}

/* The blocks leave the list in the order in which they were taken: one that is split hands out ascending frames, so that
 * pages touched in turn lie in a row, and a port can map them as one. */
struct frame *pcp_refill(struct quire *q, struct phys_cpu *c, unsigned zone, unsigned pi, u32 alloc_flags)
{
	struct zone *z = &q->phys.zones[zone];
	struct per_cpu_pages *pcp = &c->pcp[zone];
	unsigned order = pcp_list_order(pi);
	struct frame *last = NULL;
	u32 n, want;

	pcp_refresh_sizes(z, pcp);
	want = order ? MAX(pcp->batch >> order, 2u) : pcp->batch;
	for (n = 0; n < want; n++) {
		struct frame *f = rmqueue(q, z, order, (enum migratetype)(pi % MIGRATE_PCPTYPES), alloc_flags);

		if (!f)
			break;
		z->nr_free -= 1u << order;
		frame_set_counts(f, 0, 0);
		pcp_push_after(pcp, pi, last, f, frame_to_pfn(q, f), order, f->flags & FF_FREE_MASK);
		last = f;
		/* More than one block only while that leaves the low watermark alone. */
		if (!zone_watermark_ok(z, order, z->watermark[WMARK_LOW], zone, 0))
			break;
	}
	return pcp_pop(q, pcp, pi, order);
}

/* Slot and q->lock held: takes a block of some list, round robin, and frees it.  Returns its frames, 0 if none. */
static s32 drain_one(struct quire *q, struct zone *z, struct per_cpu_pages *pcp)
{
	u32 i, pi = pcp->next_drain;
	struct frame *f;
	unsigned order;
	pfn_t pfn;

	for (i = 0; i < NR_PCP_LISTS && !pcp->lists[pi].first; i++)
		pi = pi + 1 == NR_PCP_LISTS ? 0 : pi + 1;
	order = pcp_list_order(pi);
	f = pcp_pop(q, pcp, pi, order);
	if (!f)
		return 0;
	pcp->next_drain = pi + 1 == NR_PCP_LISTS ? 0 : pi + 1;
	pfn = frame_to_pfn(q, f);
	frame_set_links(f, 0, 0); /* it may become a tail */
	free_one_page(q, z, pfn, order, f->flags & FF_FREE_MASK, pageblock_migratetype(q, pfn));
	return 1 << order;
}

/* Slot held: gives about nr frames back. */
static void drain_some(struct quire *q, struct phys_cpu *c, unsigned zone, s32 nr)
{
	struct per_cpu_pages *pcp = &c->pcp[zone];
	s32 got = 1;

	spin_lock(&q->lock);
	pcp_refresh_sizes(&q->phys.zones[zone], pcp);
	for (; nr > 0 && pcp->count > 0 && got; nr -= got)
		got = drain_one(q, &q->phys.zones[zone], pcp);
	spin_unlock(&q->lock);
}

void pcp_trim(struct quire *q, struct phys_cpu *c, unsigned zone)
{
	struct per_cpu_pages *pcp = &c->pcp[zone];
	s32 excess;

	/* The first free on a CPU only learns the sizes. */
	if (!pcp->batch)
		drain_some(q, c, zone, 0);
	excess = pcp->count - pcp->high;
	/* A list may be thousands of frames too long at once: its limit is 0 below the low watermark, and follows min_free_kbytes.  They
	 * leave step by step, with each frame that is freed, and not in a transaction that has written much already. */
	if (excess > 0 && port_ctx()->log_len < UNDO_BREAK)
		drain_some(q, c, zone, MIN(excess + (s32)pcp->batch, MIN(pcp->count, DRAIN_STEP)));
}

static struct phys_cpu *slot_try_hard(struct quire *q, struct phys_cpu *c, bool may_poll)
{
	struct ctx *me = port_ctx();
	unsigned i;

	for (i = 0; i < DRAIN_POLLS; i++) {
		if (slot_trylock(q, me, c))
			return c;
		if (!may_poll)
			return NULL;
		port_relax();
	}
	return NULL;
}

/* One piece of one zone.  Returns true when there is more and it may go on. */
static bool drain_slot_piece(struct quire *q, struct phys_cpu *slot, unsigned zone, bool outer)
{
	struct phys_cpu *c = slot_try_hard(q, slot, !outer);
	bool more;

	if (!c)
		return false;
	drain_some(q, c, zone, DRAIN_STEP);
	more = c->pcp[zone].count > 0;
	spin_unlock(&c->lock);
	/* Inside the caller's transaction nothing is committed here: stop while its log has room. */
	return more && !(outer && txn_should_break());
}

void drain_all_pages(struct quire *q)
{
	bool outer = in_transaction();
	unsigned cpu, zone;

	for (cpu = 0; cpu < q->cfg.nr_cpus; cpu++)
		for (zone = 0; zone < MAX_NR_ZONES; zone++)
			while (drain_slot_piece(q, &q->phys.cpus[cpu], zone, outer))
				;
}

u64 pcp_free_pages(struct quire *q, unsigned zone)
{
	u64 n = 0;
	unsigned cpu;

	for (cpu = 0; cpu < q->cfg.nr_cpus; cpu++)
		n += (u64)racy_s32(&q->phys.cpus[cpu].pcp[zone].count);
	return n;
}

void zone_alloc_counts(struct quire *q, unsigned zone, u64 *events, u64 *pages)
{
	struct zone *z = &q->phys.zones[zone];
	unsigned cpu, pi;

	*events = racy_u64(&z->nr_alloc);
	*pages = racy_u64(&z->nr_alloc_pages);
	for (cpu = 0; cpu < q->cfg.nr_cpus; cpu++) {
		for (pi = 0; pi < NR_PCP_LISTS; pi++) {
			u64 n = racy_u64(&q->phys.cpus[cpu].pcp[zone].lists[pi].nr_alloc);

			*events += n;
			*pages += n << pcp_list_order(pi);
		}
	}
}

void phys_alloc_counts(struct quire *q, u64 pgalloc[MAX_NR_ZONES], u64 *allocs, u64 *pgfree)
{
	u64 managed = 0, handed_out = 0, events;
	unsigned i;

	*allocs = 0;
	for (i = 0; i < MAX_NR_ZONES; i++) {
		zone_alloc_counts(q, i, &events, &pgalloc[i]);
		*allocs += events;
		handed_out += pgalloc[i];
		managed += q->phys.zones[i].managed;
	}
	/* What was handed out and is not in use now has come back. */
	*pgfree = handed_out - (managed - nr_free_pages(q));
}
