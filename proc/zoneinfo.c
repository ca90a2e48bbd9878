/*
 * /proc/zoneinfo: watermarks, protection, counters and per-CPU lists of each zone (mm/vmstat.c: zoneinfo_show_print).
 *
 * The zones shown are those of the layout, with or without frames, then Linux's Movable and (where there is no HighMem)
 * Device, which this machine has only by name.
 * LRU, dirty and mlock figures are counted for the machine, not by zone: the highest zone shows them all.
 * Locks: q->lock for the snapshot of counters; the per-CPU counts are read as they are.
 */
#include "phys_views.h"
#include <fmt.h>
#include <phys/phys.h>

/* A zone of the view; index -1: Movable or Device. */
struct shown_zone {
	const char *name;
	int index;
	u64 watermark; /* of an empty zone: Linux gives Movable the minimum of a HighMem zone */
};

/* What the counters need, copied at one moment. */
struct snapshot {
	u64 lru[NR_LRU_LISTS];
	u64 slab_reclaimable, slab_unreclaimable, anon, mapped, file, shmem, dirty, writeback, pagetables, swapcached, zspages;
	u64 refault_anon, refault_file, activate_anon, activate_file, restore_anon, restore_file;
};

static void take_snapshot(struct quire *q, struct snapshot *s)
{
	spin_lock(&q->lock);
	memcpy(s->lru, q->nr_lru_pages, sizeof(s->lru));
	s->slab_unreclaimable = q->kmem.nr_slab_pages[0];
	s->slab_reclaimable = q->kmem.nr_slab_pages[1];
	s->anon = q->nr_anon_pages;
	s->mapped = q->nr_file_mapped;
	s->file = q->nr_file_pages;
	s->shmem = q->nr_shmem_pages;
	s->dirty = q->nr_dirty_pages;
	s->writeback = q->nr_writeback_pages;
	s->pagetables = q->nr_pagetable_pages;
	s->swapcached = q->nr_swapcache_pages;
	s->zspages = q->swap.pool.nr_frames;
	s->refault_anon = q->vm_events[WORKINGSET_REFAULT_ANON];
	s->refault_file = q->vm_events[WORKINGSET_REFAULT_FILE];
	s->activate_anon = q->vm_events[WORKINGSET_ACTIVATE_ANON];
	s->activate_file = q->vm_events[WORKINGSET_ACTIVATE_FILE];
	s->restore_anon = q->vm_events[WORKINGSET_RESTORE_ANON];
	s->restore_file = q->vm_events[WORKINGSET_RESTORE_FILE];
	spin_unlock(&q->lock);
}

static void item(struct fmt_buf *out, const char *name, u64 value)
{
	fmt_printf(out, "\n      %-12s %lu", name, (unsigned long)value);
}

static void zero_items(struct fmt_buf *out, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		item(out, names[i], 0);
}

static void node_lru_stats(struct fmt_buf *out, const struct snapshot *s)
{
	item(out, "nr_inactive_anon", s->lru[LRU_INACTIVE_ANON]);
	item(out, "nr_active_anon", s->lru[LRU_ACTIVE_ANON]);
	item(out, "nr_inactive_file", s->lru[LRU_INACTIVE_FILE]);
	item(out, "nr_active_file", s->lru[LRU_ACTIVE_FILE]);
	item(out, "nr_unevictable", s->lru[LRU_UNEVICTABLE]);
	item(out, "nr_slab_reclaimable", s->slab_reclaimable);
	item(out, "nr_slab_unreclaimable", s->slab_unreclaimable);
	item(out, "nr_isolated_anon", 0);
	item(out, "nr_isolated_file", 0);
	item(out, "workingset_nodes", 0);
	item(out, "workingset_refault_anon", s->refault_anon);
	item(out, "workingset_refault_file", s->refault_file);
	item(out, "workingset_activate_anon", s->activate_anon);
	item(out, "workingset_activate_file", s->activate_file);
	item(out, "workingset_restore_anon", s->restore_anon);
	item(out, "workingset_restore_file", s->restore_file);
	item(out, "workingset_nodereclaim", 0);
}

static void node_stats(struct fmt_buf *out, const struct snapshot *s)
{
	static const char *const huge[] = {"nr_shmem_hugepages",
					   "nr_shmem_pmdmapped",
					   "nr_file_hugepages",
					   "nr_file_pmdmapped",
					   "nr_anon_transparent_hugepages",
					   "nr_vmscan_write",
					   "nr_vmscan_immediate_reclaim",
					   "nr_dirtied",
					   "nr_written",
					   "nr_throttled_written",
					   "nr_kernel_misc_reclaimable",
					   "nr_foll_pin_acquired",
					   "nr_foll_pin_released",
					   "nr_kernel_stack"};
	static const char *const tail[] = {"pgpromote_success",   "pgpromote_candidate", "pgpromote_candidate_nrl",
					   "pgdemote_kswapd",     "pgdemote_direct",     "pgdemote_khugepaged",
					   "pgdemote_proactive",  "nr_hugetlb",          "nr_balloon_pages",
					   "nr_kernel_file_pages"};

	fmt_printf(out, "\n  per-node stats");
	node_lru_stats(out, s);
	item(out, "nr_anon_pages", s->anon);
	item(out, "nr_mapped", s->mapped);
	item(out, "nr_file_pages", s->file);
	item(out, "nr_dirty", s->dirty);
	item(out, "nr_writeback", s->writeback);
	item(out, "nr_shmem", s->shmem);
	zero_items(out, huge, ARRAY_SIZE(huge));
	item(out, "nr_page_table_pages", s->pagetables);
	item(out, "nr_sec_page_table_pages", 0);
	item(out, "nr_iommu_pages", 0);
	item(out, "nr_swapcached", s->swapcached);
	zero_items(out, tail, ARRAY_SIZE(tail));
}

static u64 free_in_pageblocks(const struct zone *z)
{
	u64 n = 0;

	for (unsigned o = PAGEBLOCK_ORDER; o <= MAX_ORDER; o++)
		n += zone_free_blocks(z, o) << o;
	return n;
}

/* s: all zero for every zone but the highest. */
static void zone_stats(struct quire *q, struct fmt_buf *out, const struct zone *z, unsigned zi,
		       const struct snapshot *s)
{
	u64 events, pages;

	zone_alloc_counts(q, zi, &events, &pages);
	item(out, "nr_free_pages", z->nr_free);
	item(out, "nr_free_pages_blocks", free_in_pageblocks(z));
	item(out, "nr_zone_inactive_anon", s->lru[LRU_INACTIVE_ANON]);
	item(out, "nr_zone_active_anon", s->lru[LRU_ACTIVE_ANON]);
	item(out, "nr_zone_inactive_file", s->lru[LRU_INACTIVE_FILE]);
	item(out, "nr_zone_active_file", s->lru[LRU_ACTIVE_FILE]);
	item(out, "nr_zone_unevictable", s->lru[LRU_UNEVICTABLE]);
	item(out, "nr_zone_write_pending", s->dirty + s->writeback);
	item(out, "nr_mlock", s->lru[LRU_UNEVICTABLE]);
	item(out, "nr_zspages", s->zspages);
	item(out, "nr_free_cma", 0);
	item(out, "numa_hit", events);
	item(out, "numa_miss", 0);
	item(out, "numa_foreign", 0);
	item(out, "numa_interleave", 0);
	item(out, "numa_local", events);
	item(out, "numa_other", 0);
}

static unsigned fls(u64 x)
{
	return x ? 64u - (unsigned)__builtin_clzll(x) : 0;
}

/* Linux's calculate_normal_threshold: how far a CPU's counters may lag; ours never do. */
static unsigned stat_threshold(const struct quire *q, const struct zone *z)
{
	unsigned t = 2 * fls(q->cfg.nr_cpus) * (1 + fls(z->managed >> (27 - PAGE_SHIFT)));

	return MIN(t, 125u);
}

static void pagesets(struct quire *q, struct fmt_buf *out, const struct zone *z, unsigned zi)
{
	unsigned cpu;

	fmt_printf(out, "\n  pagesets");
	for (cpu = 0; cpu < q->cfg.nr_cpus; cpu++) {
		const struct per_cpu_pages *pcp = &q->phys.cpus[cpu].pcp[zi];

		fmt_printf(out,
			   "\n    cpu: %i\n              count:    %i\n              high:     %i\n              "
			   "batch:    %i"
			   "\n              high_min: %i\n              high_max: %i",
			   (int)cpu, racy_s32(&pcp->count), racy_s32(&pcp->high), (int)z->pcp_batch,
			   (int)z->pcp_high_min, (int)z->pcp_high_max);
		fmt_printf(out, "\n  vm stats threshold: %d", (int)stat_threshold(q, z));
	}
}

/* The lines that every zone has; protection names one figure for each shown zone. */
static void zone_pages(struct fmt_buf *out, const struct zone *z, u64 extra, const struct shown_zone *all, unsigned n)
{
	fmt_printf(out,
		   "\n  pages free     %lu\n        boost    %lu\n        min      %lu\n        low      %lu\n        "
		   "high     %lu"
		   "\n        promo    %lu\n        spanned  %lu\n        present  %lu\n        managed  %lu\n        "
		   "cma      %lu",
		   (unsigned long)z->nr_free, 0ul, (unsigned long)(z->watermark[WMARK_MIN] + extra),
		   (unsigned long)(z->watermark[WMARK_LOW] + extra), (unsigned long)(z->watermark[WMARK_HIGH] + extra),
		   (unsigned long)(z->watermark_promo + extra), (unsigned long)(z->end_pfn - z->start_pfn),
		   (unsigned long)(z->end_pfn - z->start_pfn), (unsigned long)z->managed, 0ul);
	for (unsigned i = 0; i < n; i++)
		fmt_printf(out, "%s%lu", i ? ", " : "\n        protection: (",
			   (unsigned long)z->lowmem_reserve[all[i].index < 0 ? ZONE_HIGHMEM : all[i].index]);
	fmt_putc(out, ')');
}

static unsigned shown_zones(struct quire *q, struct shown_zone *all)
{
	unsigned i, n = 0;

	for (i = 0; i < MAX_NR_ZONES; i++)
		if (q->phys.zones[i].configured)
			all[n++] = (struct shown_zone){q->phys.zones[i].name, (int)i, 0};
	all[n++] = (struct shown_zone){"Movable", -1, 32};
	if (!q->phys.zones[ZONE_HIGHMEM].configured)
		all[n++] = (struct shown_zone){"Device", -1, 0};
	return n;
}

static void zone_details(struct quire *q, struct fmt_buf *out, const struct zone *z, unsigned zi,
			 const struct snapshot *s)
{
	zone_stats(q, out, z, zi, s);
	pagesets(q, out, z, zi);
	fmt_printf(out, "\n  node_unreclaimable:  %u\n  start_pfn:           %lu", 0u,
		   (unsigned long)MAX(z->start_pfn, 1u));
}

void proc_zoneinfo(struct quire *q, struct fmt_buf *out)
{
	static const struct snapshot nothing;
	static const struct zone empty;
	struct shown_zone all[MAX_NR_ZONES + 2];
	unsigned i, n = shown_zones(q, all);
	struct snapshot s;
	struct zone z;
	bool first = true;

	take_snapshot(q, &s);
	for (i = 0; i < n; i++) {
		if (all[i].index >= 0)
			zone_snapshot(q, (unsigned)all[i].index, &z);
		else
			z = empty;
		fmt_printf(out, "Node %d, zone %8s", 0, all[i].name);
		if (zone_populated(&z) && first) {
			first = false;
			node_stats(out, &s);
		}
		zone_pages(out, &z, all[i].watermark, all, n);
		if (zone_populated(&z))
			zone_details(q, out, &z, (unsigned)all[i].index,
				     all[i].index == q->phys.first_zone[ZONE_HIGHMEM] ? &s : &nothing);
		fmt_putc(out, '\n');
	}
}
