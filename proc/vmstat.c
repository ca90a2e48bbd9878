/*
 * /proc/vmstat: every name of Linux 6.18, in its order; what this machine does not count is 0.
 *
 * One table says for each name where its value comes from: a counter of events (q->vm_events) or a figure of the
 * snapshot.  Locks: q->lock for the snapshot.
 */
#include <mm/mm.h>
#include "proc.h"

/* Figures that are not events; pages unless noted. */
enum figure {
	FIG_FREE, FIG_FREE_BLOCKS, FIG_INACTIVE_ANON, FIG_ACTIVE_ANON, FIG_INACTIVE_FILE, FIG_ACTIVE_FILE, FIG_UNEVICTABLE,
	FIG_DIRTY, FIG_WRITEBACK, FIG_WRITE_PENDING, FIG_SLAB_RECLAIMABLE, FIG_SLAB_UNRECLAIMABLE, FIG_ANON, FIG_MAPPED,
	FIG_FILE, FIG_SHMEM, FIG_PAGETABLES, FIG_SWAPCACHED, FIG_MEMMAP, FIG_ZSPAGES,
	FIG_ISOLATED, FIG_DIRTY_THRESHOLD, FIG_DIRTY_BACKGROUND_THRESHOLD,
	FIG_NUMA_HIT, FIG_PGFREE, FIG_PGALLOC_DMA, FIG_PGALLOC_DMA32, FIG_PGALLOC_NORMAL, /* counted since boot */
	NR_FIGURES,
};

/* Where a value comes from. */
#define ZERO 0u
#define FIG(f) (0x100u | (f))
#define EV(e) (0x200u | (e))

struct vmstat_line {
	const char *name;
	u32 from; /* ZERO, FIG() or EV() */
};

static const struct vmstat_line lines[] = {
	{ "nr_free_pages", FIG(FIG_FREE) },
	{ "nr_free_pages_blocks", FIG(FIG_FREE_BLOCKS) },
	{ "nr_zone_inactive_anon", FIG(FIG_INACTIVE_ANON) },
	{ "nr_zone_active_anon", FIG(FIG_ACTIVE_ANON) },
	{ "nr_zone_inactive_file", FIG(FIG_INACTIVE_FILE) },
	{ "nr_zone_active_file", FIG(FIG_ACTIVE_FILE) },
	{ "nr_zone_unevictable", FIG(FIG_UNEVICTABLE) },
	{ "nr_zone_write_pending", FIG(FIG_WRITE_PENDING) },
	{ "nr_mlock", FIG(FIG_UNEVICTABLE) },
	{ "nr_zspages", FIG(FIG_ZSPAGES) },
	{ "nr_free_cma", ZERO },
	{ "numa_hit", FIG(FIG_NUMA_HIT) },
	{ "numa_miss", ZERO },
	{ "numa_foreign", ZERO },
	{ "numa_interleave", ZERO },
	{ "numa_local", FIG(FIG_NUMA_HIT) },
	{ "numa_other", ZERO },
	{ "nr_inactive_anon", FIG(FIG_INACTIVE_ANON) },
	{ "nr_active_anon", FIG(FIG_ACTIVE_ANON) },
	{ "nr_inactive_file", FIG(FIG_INACTIVE_FILE) },
	{ "nr_active_file", FIG(FIG_ACTIVE_FILE) },
	{ "nr_unevictable", FIG(FIG_UNEVICTABLE) },
	{ "nr_slab_reclaimable", FIG(FIG_SLAB_RECLAIMABLE) },
	{ "nr_slab_unreclaimable", FIG(FIG_SLAB_UNRECLAIMABLE) },
	{ "nr_isolated_anon", FIG(FIG_ISOLATED) },
	{ "nr_isolated_file", ZERO },
	{ "workingset_nodes", ZERO },
	{ "workingset_refault_anon", EV(WORKINGSET_REFAULT_ANON) },
	{ "workingset_refault_file", EV(WORKINGSET_REFAULT_FILE) },
	{ "workingset_activate_anon", EV(WORKINGSET_ACTIVATE_ANON) },
	{ "workingset_activate_file", EV(WORKINGSET_ACTIVATE_FILE) },
	{ "workingset_restore_anon", EV(WORKINGSET_RESTORE_ANON) },
	{ "workingset_restore_file", EV(WORKINGSET_RESTORE_FILE) },
	{ "workingset_nodereclaim", ZERO },
	{ "nr_anon_pages", FIG(FIG_ANON) },
	{ "nr_mapped", FIG(FIG_MAPPED) },
	{ "nr_file_pages", FIG(FIG_FILE) },
	{ "nr_dirty", FIG(FIG_DIRTY) },
	{ "nr_writeback", FIG(FIG_WRITEBACK) },
	{ "nr_shmem", FIG(FIG_SHMEM) },
	{ "nr_shmem_hugepages", ZERO },
	{ "nr_shmem_pmdmapped", ZERO },
	{ "nr_file_hugepages", ZERO },
	{ "nr_file_pmdmapped", ZERO },
	{ "nr_anon_transparent_hugepages", ZERO },
	{ "nr_vmscan_write", ZERO },
	{ "nr_vmscan_immediate_reclaim", ZERO },
	{ "nr_dirtied", EV(NR_DIRTIED) },
	{ "nr_written", EV(NR_WRITTEN) },
	{ "nr_throttled_written", EV(NR_THROTTLED_WRITTEN) },
	{ "nr_kernel_misc_reclaimable", ZERO },
	{ "nr_foll_pin_acquired", ZERO },
	{ "nr_foll_pin_released", ZERO },
	{ "nr_kernel_stack", ZERO },
	{ "nr_page_table_pages", FIG(FIG_PAGETABLES) },
	{ "nr_sec_page_table_pages", ZERO },
	{ "nr_iommu_pages", ZERO },
	{ "nr_swapcached", FIG(FIG_SWAPCACHED) },
	{ "pgpromote_success", ZERO },
	{ "pgpromote_candidate", ZERO },
	{ "pgpromote_candidate_nrl", ZERO },
	{ "pgdemote_kswapd", ZERO },
	{ "pgdemote_direct", ZERO },
	{ "pgdemote_khugepaged", ZERO },
	{ "pgdemote_proactive", ZERO },
	{ "nr_hugetlb", ZERO },
	{ "nr_balloon_pages", ZERO },
	{ "nr_kernel_file_pages", ZERO },
	{ "nr_dirty_threshold", FIG(FIG_DIRTY_THRESHOLD) },
	{ "nr_dirty_background_threshold", FIG(FIG_DIRTY_BACKGROUND_THRESHOLD) },
	{ "nr_memmap_pages", ZERO },
	{ "nr_memmap_boot_pages", FIG(FIG_MEMMAP) },
	{ "pgpgin", EV(PGPGIN) },
	{ "pgpgout", EV(PGPGOUT) },
	{ "pswpin", EV(PSWPIN) },
	{ "pswpout", EV(PSWPOUT) },
	{ "pgalloc_dma", FIG(FIG_PGALLOC_DMA) },
	{ "pgalloc_dma32", FIG(FIG_PGALLOC_DMA32) },
	{ "pgalloc_normal", FIG(FIG_PGALLOC_NORMAL) },
	{ "pgalloc_movable", ZERO },
	{ "pgalloc_device", ZERO },
	{ "allocstall_dma", ZERO },
	{ "allocstall_dma32", ZERO },
	{ "allocstall_normal", EV(ALLOCSTALL) },
	{ "allocstall_movable", ZERO },
	{ "allocstall_device", ZERO },
	{ "pgskip_dma", ZERO },
	{ "pgskip_dma32", ZERO },
	{ "pgskip_normal", ZERO },
	{ "pgskip_movable", ZERO },
	{ "pgskip_device", ZERO },
	{ "pgfree", FIG(FIG_PGFREE) },
	{ "pgactivate", EV(PGACTIVATE) },
	{ "pgdeactivate", EV(PGDEACTIVATE) },
	{ "pglazyfree", EV(PGLAZYFREE) },
	{ "pgfault", EV(PGFAULT) },
	{ "pgmajfault", EV(PGMAJFAULT) },
	{ "pglazyfreed", EV(PGLAZYFREED) },
	{ "pgrefill", EV(PGREFILL) },
	{ "pgreuse", EV(PGREUSE) },
	{ "pgsteal_kswapd", EV(PGSTEAL_KSWAPD) },
	{ "pgsteal_direct", EV(PGSTEAL_DIRECT) },
	{ "pgsteal_khugepaged", ZERO },
	{ "pgsteal_proactive", ZERO },
	{ "pgscan_kswapd", EV(PGSCAN_KSWAPD) },
	{ "pgscan_direct", EV(PGSCAN_DIRECT) },
	{ "pgscan_khugepaged", ZERO },
	{ "pgscan_proactive", ZERO },
	{ "pgscan_direct_throttle", EV(PGSCAN_DIRECT_THROTTLE) },
	{ "pgscan_anon", EV(PGSCAN_ANON) },
	{ "pgscan_file", EV(PGSCAN_FILE) },
	{ "pgsteal_anon", EV(PGSTEAL_ANON) },
	{ "pgsteal_file", EV(PGSTEAL_FILE) },
	{ "zone_reclaim_success", ZERO },
	{ "zone_reclaim_failed", ZERO },
	{ "pginodesteal", ZERO },
	{ "slabs_scanned", EV(SLABS_SCANNED) },
	{ "kswapd_inodesteal", ZERO },
	{ "kswapd_low_wmark_hit_quickly", EV(KSWAPD_LOW_WMARK_HIT_QUICKLY) },
	{ "kswapd_high_wmark_hit_quickly", EV(KSWAPD_HIGH_WMARK_HIT_QUICKLY) },
	{ "pageoutrun", EV(PAGEOUTRUN) },
	{ "pgrotated", EV(PGROTATED) },
	{ "drop_pagecache", EV(DROP_PAGECACHE) },
	{ "drop_slab", EV(DROP_SLAB) },
	{ "oom_kill", EV(OOM_KILL) },
	{ "numa_pte_updates", ZERO },
	{ "numa_huge_pte_updates", ZERO },
	{ "numa_hint_faults", ZERO },
	{ "numa_hint_faults_local", ZERO },
	{ "numa_pages_migrated", ZERO },
	{ "pgmigrate_success", EV(PGMIGRATE_SUCCESS) },
	{ "pgmigrate_fail", EV(PGMIGRATE_FAIL) },
	{ "thp_migration_success", ZERO },
	{ "thp_migration_fail", ZERO },
	{ "thp_migration_split", ZERO },
	{ "compact_migrate_scanned", EV(COMPACT_MIGRATE_SCANNED) },
	{ "compact_free_scanned", EV(COMPACT_FREE_SCANNED) },
	{ "compact_isolated", EV(COMPACT_ISOLATED) },
	{ "compact_stall", EV(COMPACT_STALL) },
	{ "compact_fail", EV(COMPACT_FAIL) },
	{ "compact_success", EV(COMPACT_SUCCESS) },
	{ "compact_daemon_wake", EV(COMPACT_DAEMON_WAKE) },
	{ "compact_daemon_migrate_scanned", ZERO },
	{ "compact_daemon_free_scanned", ZERO },
	{ "htlb_buddy_alloc_success", ZERO },
	{ "htlb_buddy_alloc_fail", ZERO },
	{ "unevictable_pgs_culled", EV(UNEVICTABLE_PGCULLED) },
	{ "unevictable_pgs_scanned", ZERO },
	{ "unevictable_pgs_rescued", EV(UNEVICTABLE_PGRESCUED) },
	{ "unevictable_pgs_mlocked", EV(UNEVICTABLE_PGMLOCKED) },
	{ "unevictable_pgs_munlocked", EV(UNEVICTABLE_PGMUNLOCKED) },
	{ "unevictable_pgs_cleared", ZERO },
	{ "unevictable_pgs_stranded", ZERO },
	{ "thp_fault_alloc", EV(THP_FAULT_ALLOC) },
	{ "thp_fault_fallback", EV(THP_FAULT_FALLBACK) },
	{ "thp_fault_fallback_charge", ZERO },
	{ "thp_collapse_alloc", ZERO },
	{ "thp_collapse_alloc_failed", ZERO },
	{ "thp_file_alloc", ZERO },
	{ "thp_file_fallback", ZERO },
	{ "thp_file_fallback_charge", ZERO },
	{ "thp_file_mapped", ZERO },
	{ "thp_split_page", EV(THP_SPLIT_PAGE) },
	{ "thp_split_page_failed", ZERO },
	{ "thp_deferred_split_page", ZERO },
	{ "thp_underused_split_page", ZERO },
	{ "thp_split_pmd", EV(THP_SPLIT_PMD) },
	{ "thp_scan_exceed_none_pte", ZERO },
	{ "thp_scan_exceed_swap_pte", ZERO },
	{ "thp_scan_exceed_share_pte", ZERO },
	{ "thp_split_pud", ZERO },
	{ "thp_zero_page_alloc", EV(THP_ZERO_PAGE_ALLOC) },
	{ "thp_zero_page_alloc_failed", ZERO },
	{ "thp_swpout", ZERO },
	{ "thp_swpout_fallback", ZERO },
	{ "balloon_inflate", ZERO },
	{ "balloon_deflate", ZERO },
	{ "balloon_migrate", ZERO },
	{ "swap_ra", EV(SWAP_RA) },
	{ "swap_ra_hit", EV(SWAP_RA_HIT) },
	{ "swpin_zero", ZERO },
	{ "swpout_zero", ZERO },
	{ "ksm_swpin_copy", ZERO },
	{ "cow_ksm", ZERO },
	{ "zswpin", ZERO },
	{ "zswpout", ZERO },
	{ "zswpwb", ZERO },
	{ "direct_map_level2_splits", ZERO },
	{ "direct_map_level3_splits", ZERO },
	{ "direct_map_level2_collapses", ZERO },
	{ "direct_map_level3_collapses", ZERO },
	{ "nr_unstable", ZERO },
};

struct vmstat_snapshot {
	u64 figure[NR_FIGURES];
	u64 event[NR_VM_EVENT_ITEMS];
};

/* Pages in whole free blocks of the pageblock order. */
static u64 free_in_blocks(struct quire *q)
{
	u64 n = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		const struct zone *zone = &q->phys.zones[z];

		n += zone->virgin_end - zone->virgin_next;
		for (unsigned o = PAGEBLOCK_ORDER; o < NR_ORDERS; o++)
			n += zone->free_area[o].nr_free << o;
	}
	return n;
}

/* Counted on the CPUs' lists, not in q->vm_events.  Under q->lock. */
static void allocation_figures(struct quire *q, u64 *f)
{
	u64 pgalloc[MAX_NR_ZONES];

	phys_alloc_counts(q, pgalloc, &f[FIG_NUMA_HIT], &f[FIG_PGFREE]);
	f[FIG_PGALLOC_DMA] = pgalloc[ZONE_DMA];
	f[FIG_PGALLOC_DMA32] = pgalloc[ZONE_DMA32];
	f[FIG_PGALLOC_NORMAL] = pgalloc[ZONE_NORMAL];
}

/* Under q->lock. */
static void figures(struct quire *q, u64 *f)
{
	memset(f, 0, NR_FIGURES * sizeof(*f));
	f[FIG_FREE] = nr_free_pages(q);
	f[FIG_FREE_BLOCKS] = free_in_blocks(q);
	f[FIG_INACTIVE_ANON] = q->nr_lru_pages[LRU_INACTIVE_ANON];
	f[FIG_ACTIVE_ANON] = q->nr_lru_pages[LRU_ACTIVE_ANON];
	f[FIG_INACTIVE_FILE] = q->nr_lru_pages[LRU_INACTIVE_FILE];
	f[FIG_ACTIVE_FILE] = q->nr_lru_pages[LRU_ACTIVE_FILE];
	f[FIG_UNEVICTABLE] = q->nr_lru_pages[LRU_UNEVICTABLE];
	f[FIG_DIRTY] = q->nr_dirty_pages;
	f[FIG_WRITEBACK] = q->nr_writeback_pages;
	f[FIG_ISOLATED] = q->reclaim.nr_isolated;
	f[FIG_DIRTY_THRESHOLD] = global_dirty_limits(q).hard;
	f[FIG_DIRTY_BACKGROUND_THRESHOLD] = global_dirty_limits(q).background;
	f[FIG_WRITE_PENDING] = q->nr_dirty_pages + q->nr_writeback_pages;
	f[FIG_SLAB_UNRECLAIMABLE] = q->kmem.nr_slab_pages[0];
	f[FIG_SLAB_RECLAIMABLE] = q->kmem.nr_slab_pages[1];
	f[FIG_ANON] = q->nr_anon_pages;
	f[FIG_MAPPED] = q->nr_file_mapped;
	f[FIG_FILE] = q->nr_file_pages;
	f[FIG_SHMEM] = q->nr_shmem_pages;
	f[FIG_PAGETABLES] = q->nr_pagetable_pages;
	f[FIG_SWAPCACHED] = q->nr_swapcache_pages;
	f[FIG_ZSPAGES] = q->swap.pool.nr_frames;
	f[FIG_MEMMAP] = q->cfg.memory / PAGE_SIZE * sizeof(struct frame) / PAGE_SIZE;
	allocation_figures(q, f);
}

static u64 value_of(const struct vmstat_snapshot *s, u32 from)
{
	if (from & 0x200u)
		return s->event[from & 0xff];
	return from ? s->figure[from & 0xff] : 0;
}

void proc_vmstat(struct quire *q, struct fmt_buf *out)
{
	struct vmstat_snapshot s;

	spin_lock(&q->lock);
	figures(q, s.figure);
	memcpy(s.event, q->vm_events, sizeof(s.event));
	spin_unlock(&q->lock);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		fmt_printf(out, "%s %lu\n", lines[i].name, (unsigned long)value_of(&s, lines[i].from));
}
