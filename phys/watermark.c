/*
 * Watermarks: how much of each zone stays free, and for whom.
 *
 *	free frames of a zone
 *	high   kswapd sleeps again
 *	low    kswapd is woken
 *	min    only reserves below: __GFP_HIGH may use half of it, __GFP_MEMALLOC all
 *
 * lowmem_reserve[c]: frames that a request which could also use the higher zone c must leave, so that
 * a zone that DMA needs is not filled with what could lie elsewhere.
 *
 * The formulas are Linux's (mm/page_alloc.c: setup_per_zone_wmarks, setup_per_zone_lowmem_reserve,
 * __zone_watermark_ok), so that zoneinfo of a machine shows what a Linux of that size shows.
 * Locks: q->lock to change, any context to ask.
 */
#include "phys.h"

#define SWAP_CLUSTER_MAX 32u

/* floor(sqrt(x)), bit by bit. */
static u64 int_sqrt(u64 x)
{
	u64 bit = 1ull << 62, root = 0;

	while (bit > x)
		bit >>= 2;
	for (; bit; bit >>= 2) {
		if (x >= root + bit) {
			x -= root + bit;
			root = (root >> 1) + bit;
		} else {
			root >>= 1;
		}
	}
	return root;
}

static u64 lowmem_pages(const struct quire *q)
{
	u64 n = 0;
	unsigned i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		if (!q->phys.zones[i].highmem)
			n += q->phys.zones[i].managed;
	return n;
}

u64 default_min_free_kbytes(struct quire *q)
{
	u64 kbytes = int_sqrt((lowmem_pages(q) << (PAGE_SHIFT - 10)) * 16);

	return MIN(MAX(kbytes, 128), 262144);
}

static void setup_lowmem_reserve(struct quire *q)
{
	unsigned i, j;

	for (i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *z = &q->phys.zones[i];
		u32 ratio = q->phys.lowmem_reserve_ratio[i];
		u64 above = 0;

		for (j = 0; j < MAX_NR_ZONES; j++)
			z->lowmem_reserve[j] = 0;
		for (j = i + 1; j < MAX_NR_ZONES; j++) {
			above += q->phys.zones[j].managed;
			if (ratio && z->managed)
				z->lowmem_reserve[j] = above / ratio;
		}
	}
}

static u32 rounddown_pow_of_two(u64 n)
{
	return n ? 1u << (63 - __builtin_clzll(n)) : 0;
}

/* Linux: zone_batchsize, zone_highsize.  Every CPU's list together may hold what lies below the low watermark. */
static void setup_pcp_sizes(struct quire *q, struct zone *z)
{
	u32 batch = (u32)MIN(z->managed >> 10, (1ull << 20) / PAGE_SIZE) / 4;

	batch = batch ? batch : 1;
	batch = rounddown_pow_of_two(batch + batch / 2) - 1;
	z->pcp_batch = batch ? batch : 1;
	z->pcp_high_min = (u32)MAX(z->watermark[WMARK_LOW] / q->cfg.nr_cpus, (u64)z->pcp_batch << 2);
	z->pcp_high_max = (u32)MAX(z->managed / 8 / q->cfg.nr_cpus, (u64)z->pcp_batch << 2);
}

static void setup_zone_wmarks(struct quire *q, struct zone *z, u64 pages_min, u64 lowmem)
{
	u64 share = lowmem ? pages_min * z->managed / lowmem : 0, step;

	if (z->highmem)
		z->watermark[WMARK_MIN] = MIN(MAX(z->managed / 1024, SWAP_CLUSTER_MAX), 128);
	else
		z->watermark[WMARK_MIN] = share;
	step = MAX(share >> 2, z->managed * q->phys.watermark_scale_factor / 10000);
	z->watermark[WMARK_LOW] = z->watermark[WMARK_MIN] + step;
	z->watermark[WMARK_HIGH] = z->watermark[WMARK_LOW] + step;
	z->watermark_promo = z->watermark[WMARK_HIGH] + step;
	setup_pcp_sizes(q, z);
}

void setup_per_zone_wmarks(struct quire *q)
{
	u64 pages_min = q->phys.min_free_kbytes >> (PAGE_SHIFT - 10), lowmem = lowmem_pages(q);
	unsigned i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		setup_zone_wmarks(q, &q->phys.zones[i], pages_min, lowmem);
	setup_lowmem_reserve(q);
}

void set_min_free_kbytes(struct quire *q, u64 kbytes)
{
	spin_lock(&q->lock);
	q->phys.min_free_kbytes = kbytes;
	setup_per_zone_wmarks(q);
	spin_unlock(&q->lock);
}

void set_watermark_scale_factor(struct quire *q, u32 factor)
{
	spin_lock(&q->lock);
	q->phys.watermark_scale_factor = factor;
	setup_per_zone_wmarks(q);
	spin_unlock(&q->lock);
}

void set_lowmem_reserve_ratio(struct quire *q, const u32 ratio[MAX_NR_ZONES])
{
	spin_lock(&q->lock);
	memcpy(q->phys.lowmem_reserve_ratio, ratio, sizeof(q->phys.lowmem_reserve_ratio));
	setup_lowmem_reserve(q);
	spin_unlock(&q->lock);
}

static bool has_free_block(const struct zone *z, unsigned order)
{
	unsigned o;

	for (o = order; o <= MAX_ORDER; o++)
		if (racy_u64(&z->free_area[o].nr_free))
			return true;
	return z->virgin_next != z->virgin_end;
}

bool zone_watermark_ok(struct zone *z, unsigned order, u64 mark, unsigned highest, u32 alloc_flags)
{
	s64 min = (s64)mark, nr_free = (s64)racy_u64(&z->nr_free) - ((1 << order) - 1);

	if (alloc_flags & ALLOC_MIN_RESERVE) {
		min -= min / 2;
		if (alloc_flags & ALLOC_NON_BLOCK)
			min -= min / 4;
	}
	if (nr_free <= min + (s64)z->lowmem_reserve[highest])
		return false;
	return !order || has_free_block(z, order);
}

bool phys_balanced(struct quire *q, unsigned order, int wmark, enum zone_type highest)
{
	bool any = false;
	unsigned i;

	for (i = 0; i <= (unsigned)highest; i++) {
		struct zone *z = &q->phys.zones[i];

		if (!zone_populated(z))
			continue;
		any = true;
		if (zone_watermark_ok(z, order, z->watermark[wmark], (unsigned)highest, 0))
			return true;
	}
	return !any;
}

u64 phys_shortfall(struct quire *q)
{
	u64 n = 0;
	unsigned i;

	for (i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *z = &q->phys.zones[i];
		u64 nr_free = racy_u64(&z->nr_free);

		if (zone_populated(z) && nr_free < z->watermark[WMARK_HIGH])
			n += z->watermark[WMARK_HIGH] - nr_free;
	}
	return n;
}

u64 phys_watermark_pages(struct quire *q, int wmark)
{
	u64 n = 0;

	for (unsigned i = 0; i < MAX_NR_ZONES; i++)
		if (zone_populated(&q->phys.zones[i]))
			n += q->phys.zones[i].watermark[wmark];
	return n;
}

void zone_snapshot(struct quire *q, unsigned zone, struct zone *copy)
{
	spin_lock(&q->lock);
	memcpy(copy, &q->phys.zones[zone], sizeof(*copy));
	spin_unlock(&q->lock);
}

/* ---- fragmentation (Linux: mm/vmstat.c) ---- */

/* Free frames of a zone, free blocks of any order, and blocks of 2^order frames that could be cut from them. */
static void contig_info(struct quire *q, unsigned zone, unsigned order, u64 *pages, u64 *blocks, u64 *suitable)
{
	struct zone z;
	unsigned o;

	zone_snapshot(q, zone, &z);
	*pages = *blocks = *suitable = 0;
	for (o = 0; o <= MAX_ORDER; o++) {
		u64 n = zone_free_blocks(&z, o);

		*blocks += n;
		*pages += n << o;
		if (o >= order)
			*suitable += n << (o - order);
	}
}

int unusable_free_index(struct quire *q, enum zone_type zone, unsigned order)
{
	u64 pages, blocks, suitable;

	contig_info(q, zone, order, &pages, &blocks, &suitable);
	return pages ? (int)((pages - (suitable << order)) * 1000 / pages) : 1000;
}

int fragmentation_index(struct quire *q, enum zone_type zone, unsigned order)
{
	u64 pages, blocks, suitable, requested = 1ull << order;

	contig_info(q, zone, order, &pages, &blocks, &suitable);
	if (!blocks)
		return 0;
	if (suitable)
		return -1000;
	return (int)(1000 - (1000 + pages * 1000 / requested) / blocks);
}

int phys_largest_free_order(struct quire *q)
{
	int o, best = -1;
	unsigned i;

	spin_lock(&q->lock);
	for (i = 0; i < MAX_NR_ZONES; i++)
		for (o = MAX_ORDER; o > best; o--)
			if (zone_free_blocks(&q->phys.zones[i], (unsigned)o))
				best = o;
	spin_unlock(&q->lock);
	return best;
}
