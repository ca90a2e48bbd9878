/*
 * The event counters of /proc/vmstat, with Linux's names (include/linux/vm_event_item.h): q->vm_events[], under
 * q->lock.  Append only; proc/vmstat.c prints them in Linux's order.
 */
#ifndef QUIRE_VMSTAT_H
#define QUIRE_VMSTAT_H

enum vm_event_item {
	PGPGIN, PGPGOUT, PSWPIN, PSWPOUT, /* KiB read, KiB written; pages swapped in, out */
	PGALLOC_DMA, PGALLOC_DMA32, PGALLOC_NORMAL, PGALLOC_HIGHMEM,
	PGFREE, PGACTIVATE, PGDEACTIVATE, PGLAZYFREE, PGLAZYFREED,
	PGFAULT, PGMAJFAULT,              /* all faults; those that waited for I/O */
	PGREFILL, PGREUSE,                /* PGREUSE: write faults that kept the page */
	PGSTEAL_KSWAPD, PGSTEAL_DIRECT, PGSCAN_KSWAPD, PGSCAN_DIRECT,
	PGSTEAL_ANON, PGSTEAL_FILE, PGSCAN_ANON, PGSCAN_FILE,
	ALLOCSTALL, KSWAPD_LOW_WMARK_HIT_QUICKLY, KSWAPD_HIGH_WMARK_HIT_QUICKLY, PAGEOUTRUN,
	PGROTATED, DROP_PAGECACHE, DROP_SLAB, OOM_KILL,
	PGMIGRATE_SUCCESS, PGMIGRATE_FAIL, COMPACT_STALL, COMPACT_FAIL, COMPACT_SUCCESS,
	UNEVICTABLE_PGCULLED, UNEVICTABLE_PGRESCUED, UNEVICTABLE_PGMLOCKED, UNEVICTABLE_PGMUNLOCKED,
	WORKINGSET_REFAULT_ANON, WORKINGSET_REFAULT_FILE, WORKINGSET_ACTIVATE_ANON, WORKINGSET_ACTIVATE_FILE,
	THP_FAULT_ALLOC, THP_FAULT_FALLBACK, THP_SPLIT_PAGE, THP_SPLIT_PMD, THP_ZERO_PAGE_ALLOC,
	SWAP_RA, SWAP_RA_HIT,
	/* Ours: which size anonymous faults and copies took. */
	QFAULT_ANON_4K, QFAULT_ANON_16K, QFAULT_ANON_64K, QFAULT_ANON_2M, QFAULT_ZERO_PAGE,
	QCOW_COPY, QCOW_BATCH, QFAULT_AROUND,
	NR_VM_EVENT_ITEMS
};
_Static_assert(NR_VM_EVENT_ITEMS <= 96, "q->vm_events is too short");

/* Under q->lock (lockdep checks in the callers' locks). */
#define count_vm_events(q, item, n) ((q)->vm_events[item] += (n))
#define count_vm_event(q, item) count_vm_events(q, item, 1)

#endif
