/*
 * Boot of physical memory: zones, the early allocator, opening the buddy lists.
 *
 *	pfn 0        DMA        DMA32            Normal                      HighMem
 *	|R|..........|..........|.....................[early, reserved]|..................|
 *
 * Frame 0 is never given out, so that physical address 0 can mean "none".  Until phys_init() is done, memory comes from
 * the early allocator: whole frames downwards from the end of low memory, reserved for ever.  Then every zone's frames
 * become free: the odd ends at once, everything between as the virgin region, whose records stay untouched.
 * So boot writes the same few records for 64 MiB and for 64 GiB.
 *
 * Locks: none; boot is single-threaded.
 */
#include "phys.h"

#define MIN_FRAMES 64u
/* Linux turns mobility grouping off below this size (build_all_zonelists): its six types times a pageblock. */
#define MIN_FRAMES_FOR_MOBILITY (6u * PAGEBLOCK_NR_PAGES)

const struct zone_layout zone_layout_64 = {
	.name = "64",
	.dma_end = ZONE_DMA_END,
	.dma32_end = ZONE_DMA32_END,
	.lowmem_end = ~0ull,
};
const struct zone_layout zone_layout_32 = {
	.name = "32",
	.dma_end = ZONE_DMA_END,
	.lowmem_end = 896ull << 20,
};
const struct zone_layout zone_layout_flat = {
	.name = "flat",
	.lowmem_end = ~0ull,
};
static const char *const zone_names[MAX_NR_ZONES] = {"DMA", "DMA32", "Normal", "HighMem"};

const struct zone_layout *zone_layout_by_name(const char *name)
{
	if (strcmp(name, "64") == 0)
		return &zone_layout_64;
	if (strcmp(name, "32") == 0)
		return &zone_layout_32;
	return strcmp(name, "flat") == 0 ? &zone_layout_flat : NULL;
}

/* ---- is the layout possible? ---- */

static const char *memory_problem(const struct quire_config *cfg)
{
	if (!PAGE_ALIGNED(cfg->memory))
		return "memory size is not a multiple of the page size";
	if (cfg->memory >> PAGE_SHIFT < MIN_FRAMES)
		return "memory is smaller than 256 KiB";
	if (cfg->memory >> PAGE_SHIFT >= PFN_NONE)
		return "memory is larger than page frame numbers reach (16 TiB)";
	if (!cfg->direct_map || !PAGE_ALIGNED((uintptr_t)cfg->direct_map))
		return "the direct map is missing or not page aligned";
	if (!cfg->mem_map)
		return "mem_map is missing";
	if (!cfg->nr_cpus || cfg->nr_cpus > QUIRE_MAX_CPUS)
		return "number of CPUs out of range";
	return NULL;
}

static const char *layout_problem(const struct zone_layout *l, u64 memory)
{
	if (!l->lowmem_end)
		return "no low memory: lowmem_end is 0";
	if (!PAGE_ALIGNED(l->dma_end) || !PAGE_ALIGNED(l->dma32_end) ||
	    (l->lowmem_end != ~0ull && !PAGE_ALIGNED(l->lowmem_end)))
		return "a zone boundary is not page aligned";
	if (l->dma32_end && l->dma_end > l->dma32_end)
		return "zone DMA ends above zone DMA32";
	if (MAX(l->dma_end, l->dma32_end) > l->lowmem_end)
		return "a DMA zone ends above low memory";
	if (l->lowmem_end >> PAGE_SHIFT < MIN_FRAMES)
		return "low memory is smaller than 256 KiB";
	if (l->lowmem_end < memory && memory > 4ull << 30 && !l->pae_32bit)
		return "a 32-bit machine without PAE cannot address memory above 4 GiB";
	return NULL;
}

/* ---- zones ---- */

static void setup_zone(struct quire *q, unsigned i, u64 start, u64 end, bool configured)
{
	struct zone *z = &q->phys.zones[i];
	pfn_t first;

	z->name = zone_names[i];
	z->start_pfn = (pfn_t)(MIN(start, q->cfg.memory) >> PAGE_SHIFT);
	z->end_pfn = (pfn_t)(MIN(end, q->cfg.memory) >> PAGE_SHIFT);
	z->configured = configured;
	z->highmem = i == ZONE_HIGHMEM;
	if (i < MAX_NR_ZONES - 1)
		q->phys.zone_end[i] = z->end_pfn;
	/* Pageblocks that begin in the zone; all MOVABLE. */
	first = (pfn_t)ALIGN_UP(z->start_pfn, PAGEBLOCK_NR_PAGES);
	if (first < z->end_pfn)
		z->nr_pageblocks[MIGRATE_MOVABLE] =
			(ALIGN_UP(z->end_pfn, PAGEBLOCK_NR_PAGES) - first) >> PAGEBLOCK_ORDER;
}

static void setup_zones(struct quire *q, const struct zone_layout *l)
{
	u64 dma32_end = MAX(l->dma_end, l->dma32_end);

	setup_zone(q, ZONE_DMA, 0, l->dma_end, l->dma_end != 0);
	setup_zone(q, ZONE_DMA32, l->dma_end, dma32_end, l->dma32_end != 0);
	setup_zone(q, ZONE_NORMAL, dma32_end, l->lowmem_end, true);
	setup_zone(q, ZONE_HIGHMEM, l->lowmem_end, ~0ull, l->lowmem_end != ~0ull);
}

/* Both flags at once make no sense; Linux warns, we let movable win. */
static void setup_types(struct quire *q)
{
	static const u8 by_flags[4] = {MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(by_flags); i++)
		q->phys.gfp_type[i] = q->phys.mobility_disabled ? MIGRATE_MOVABLE : by_flags[i];
}

int phys_early_init(struct quire *q)
{
	const struct zone_layout *l = q->cfg.zones ? q->cfg.zones : &zone_layout_64;
	const char *why = memory_problem(&q->cfg);

	if (q->phys.state)
		return 0;
	if (!why)
		why = layout_problem(l, q->cfg.memory);
	if (why) {
		quire_log(q, 3, "phys: impossible zone layout \"%s\" for %lu KiB: %s", l->name ? l->name : "?",
			  (unsigned long)(q->cfg.memory >> 10), why);
		return -EINVAL;
	}
	q->phys.nr_frames = (pfn_t)(q->cfg.memory >> PAGE_SHIFT);
	q->phys.lowmem_end = (pfn_t)(MIN(l->lowmem_end, q->cfg.memory) >> PAGE_SHIFT);
	setup_zones(q, l);
	q->phys.early_limit = q->phys.early_next = q->phys.lowmem_end;
	q->phys.virgin_flags = q->caps & PORT_CAP_VIRGIN_ZERO ? FF_ZEROED : 0;
	q->phys.debug = q->cfg.debug_poison || q->cfg.debug_owner;
	q->phys.mobility_disabled = q->cfg.no_migratetypes || q->phys.nr_frames < MIN_FRAMES_FOR_MOBILITY;
	setup_types(q);
	q->cfg.mem_map[0].type = FRAME_RESERVED;
	q->phys.state = PHYS_EARLY;
	return 0;
}

/* ---- the early allocator ---- */

void *early_alloc(struct quire *q, size_t size, size_t align)
{
	u64 frames = PAGE_ALIGN(size) >> PAGE_SHIFT, step = MAX(align, PAGE_SIZE) >> PAGE_SHIFT;
	pfn_t pfn, i;
	void *va;

	if (q->phys.state != PHYS_EARLY || !size || frames >= q->phys.early_next)
		return NULL;
	pfn = (pfn_t)ALIGN_DOWN(q->phys.early_next - frames, step);
	/* Half of low memory is all that boot may eat. */
	if (pfn < q->phys.lowmem_end / 2)
		return NULL;
	for (i = pfn; i < q->phys.early_next; i++)
		q->cfg.mem_map[i].type = FRAME_RESERVED;
	q->phys.early_next = pfn;
	va = (char *)q->cfg.direct_map + ((u64)pfn << PAGE_SHIFT);
	if (!q->phys.virgin_flags)
		port_clear_pages(va, frames);
	return va;
}

static int alloc_tables(struct quire *q)
{
	u32 i;

	q->phys.cpus = early_alloc(q, q->cfg.nr_cpus * sizeof(*q->phys.cpus), 64);
	q->phys.pageblock_mt = early_alloc(q, (q->phys.nr_frames >> PAGEBLOCK_ORDER) + 1, 1);
	if (!q->phys.cpus || !q->phys.pageblock_mt)
		return -ENOMEM;
	if (q->cfg.debug_owner) {
		q->phys.sites = early_alloc(q, PHYS_MAX_SITES * sizeof(*q->phys.sites), 64);
		q->phys.owners = early_alloc(q, (u64)q->phys.nr_frames * sizeof(*q->phys.owners), 64);
		if (!q->phys.sites || !q->phys.owners)
			return -ENOMEM;
	}
	for (i = 0; i < q->cfg.nr_cpus; i++)
		spin_lock_init(&q->phys.cpus[i].lock, LOCK_RANK_CPU);
	return 0;
}

/* ---- opening the buddy lists ---- */

/* Frees [start, end) in the largest aligned blocks; at most about twenty. */
static void free_range(struct quire *q, struct zone *z, pfn_t start, pfn_t end)
{
	while (start < end) {
		unsigned order = start ? (unsigned)__builtin_ctz(start) : MAX_ORDER;

		order = MIN(order, (unsigned)MAX_ORDER);
		while (start + (1u << order) > end)
			order--;
		free_one_page(q, z, start, order, q->phys.virgin_flags, MIGRATE_MOVABLE);
		start += 1u << order;
	}
}

static void open_zone(struct quire *q, struct zone *z)
{
	pfn_t start = MAX(z->start_pfn, 1u);
	pfn_t end = z->highmem ? z->end_pfn : MIN(z->end_pfn, q->phys.early_next);
	pfn_t virgin_start = (pfn_t)ALIGN_UP(start, MAX_ORDER_NR_PAGES);
	pfn_t virgin_end = (pfn_t)ALIGN_DOWN(end, MAX_ORDER_NR_PAGES);

	if (start >= end)
		return;
	z->managed = end - start;
	if (virgin_start >= virgin_end) {
		free_range(q, z, start, end);
		return;
	}
	z->virgin_next = virgin_start;
	z->virgin_end = virgin_end;
	z->nr_free = virgin_end - virgin_start;
	free_range(q, z, start, virgin_start);
	free_range(q, z, virgin_end, end);
}

static void setup_zonelists(struct quire *q)
{
	unsigned class, cpu;

	for (class = 0; class < MAX_NR_ZONES; class ++) {
		unsigned i = class;

		while (i && !zone_populated(&q->phys.zones[i]))
			i--;
		q->phys.first_zone[class] = (u8)i;
		for (cpu = 0; cpu < q->cfg.nr_cpus; cpu++)
			q->phys.cpus[cpu].cur_zone[class] = (u8)i;
	}
}

int phys_init(struct quire *q)
{
	static const u32 default_ratio[MAX_NR_ZONES] = {256, 256, 32, 0};
	unsigned i;
	int err = phys_early_init(q);

	if (!err)
		err = alloc_tables(q);
	if (err) {
		if (err == -ENOMEM)
			quire_log(q, 3, "phys: not enough low memory for the allocator's own tables");
		return err;
	}
	spin_lock(&q->lock);
	for (i = 0; i < MAX_NR_ZONES; i++)
		open_zone(q, &q->phys.zones[i]);
	setup_zonelists(q);
	memcpy(q->phys.lowmem_reserve_ratio, default_ratio, sizeof(default_ratio));
	q->phys.min_free_kbytes = default_min_free_kbytes(q);
	q->phys.watermark_scale_factor = 10;
	setup_per_zone_wmarks(q);
	q->phys.state = PHYS_READY;
	spin_unlock(&q->lock);
	return 0;
}
