/*
 * /proc/meminfo: every line of Linux 6.18, in its order and width.  proc(5), fs/proc/meminfo.c for meanings.
 *
 * MemTotal is the size the machine was given, to the byte: frame records lie outside its RAM.  Lines about what
 * this machine does not have (zswap, NFS, CMA, huge pages) are there and say 0.
 * Locks: q->lock for one snapshot.
 */
#include <mm/mm.h>
#include "proc.h"

/* All in pages. */
struct meminfo {
	u64 free, available, cached, swapcache, dirty, writeback, anon, mapped, shmem;
	u64 lru[NR_LRU_LISTS];
	u64 slab_reclaimable, slab_unreclaimable, pagetables;
	u64 swap_total, swap_free, committed, vmalloc_used;
};

#define VMALLOC_TOTAL_KB 34359738367ul /* as x86-64 and arm64 say */

/* As si_mem_available(): what a new program may take without swapping. */
static u64 available(struct quire *q, const struct meminfo *i)
{
	u64 low = 0, reserve = 0, cache = i->lru[LRU_ACTIVE_FILE] + i->lru[LRU_INACTIVE_FILE];
	u64 slab = i->slab_reclaimable, avail;

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		const struct zone *zone = &q->phys.zones[z];
		u64 kept = 0;

		for (int c = z; c < MAX_NR_ZONES; c++)
			kept = MAX(kept, zone->lowmem_reserve[c]);
		low += zone->watermark[WMARK_LOW];
		reserve += MIN(kept + zone->watermark[WMARK_HIGH], zone->managed);
	}
	cache -= MIN(cache / 2, low);
	slab -= MIN(slab / 2, low);
	avail = i->free + cache + slab;
	return avail > reserve ? avail - reserve : 0;
}

static void snapshot(struct quire *q, struct meminfo *i)
{
	spin_lock(&q->lock);
	i->free = nr_free_pages(q);
	i->swapcache = q->nr_swapcache_pages;
	i->cached = q->nr_file_pages - MIN(q->nr_file_pages, q->nr_swapcache_pages);
	i->dirty = q->nr_dirty_pages;
	i->writeback = q->nr_writeback_pages;
	i->anon = q->nr_anon_pages;
	i->mapped = q->nr_file_mapped;
	i->shmem = q->nr_shmem_pages;
	memcpy(i->lru, q->nr_lru_pages, sizeof(i->lru));
	i->slab_unreclaimable = q->kmem.nr_slab_pages[0];
	i->slab_reclaimable = q->kmem.nr_slab_pages[1];
	i->pagetables = q->nr_pagetable_pages;
	i->swap_total = q->total_swap_pages;
	i->swap_free = q->nr_free_swap_pages;
	i->committed = q->committed_pages;
	i->vmalloc_used = q->kmem.nr_vmalloc_pages;
	i->available = available(q, i);
	spin_unlock(&q->lock);
}

static void line_kb(struct fmt_buf *out, const char *name, u64 kb)
{
	size_t from = out->len;

	fmt_printf(out, "%s:", name);
	fmt_pad_to(out, from, 16, ' ');
	fmt_printf(out, "%8lu kB\n", (unsigned long)kb);
}

static void line(struct fmt_buf *out, const char *name, u64 pages)
{
	line_kb(out, name, pages << (PAGE_SHIFT - 10));
}

static void zeros(struct fmt_buf *out, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		line(out, names[i], 0);
}

static void put_lru(struct fmt_buf *out, const struct meminfo *i)
{
	line(out, "Active", i->lru[LRU_ACTIVE_ANON] + i->lru[LRU_ACTIVE_FILE]);
	line(out, "Inactive", i->lru[LRU_INACTIVE_ANON] + i->lru[LRU_INACTIVE_FILE]);
	line(out, "Active(anon)", i->lru[LRU_ACTIVE_ANON]);
	line(out, "Inactive(anon)", i->lru[LRU_INACTIVE_ANON]);
	line(out, "Active(file)", i->lru[LRU_ACTIVE_FILE]);
	line(out, "Inactive(file)", i->lru[LRU_INACTIVE_FILE]);
	line(out, "Unevictable", i->lru[LRU_UNEVICTABLE]);
	line(out, "Mlocked", i->lru[LRU_UNEVICTABLE]);
}

static void put_usage(struct quire *q, struct fmt_buf *out, const struct meminfo *i)
{
	static const char *const absent[] = { "SecPageTables", "NFS_Unstable", "Bounce", "WritebackTmp" };

	line(out, "SwapTotal", i->swap_total);
	line(out, "SwapFree", i->swap_free);
	line(out, "Zswap", 0);
	line(out, "Zswapped", 0);
	line(out, "Dirty", i->dirty);
	line(out, "Writeback", i->writeback);
	line(out, "AnonPages", i->anon);
	line(out, "Mapped", i->mapped);
	line(out, "Shmem", i->shmem);
	line(out, "KReclaimable", i->slab_reclaimable);
	line(out, "Slab", i->slab_reclaimable + i->slab_unreclaimable);
	line(out, "SReclaimable", i->slab_reclaimable);
	line(out, "SUnreclaim", i->slab_unreclaimable);
	line(out, "KernelStack", 0);
	line(out, "PageTables", i->pagetables);
	zeros(out, absent, ARRAY_SIZE(absent));
	line(out, "CommitLimit", vm_commit_limit(q));
	line(out, "Committed_AS", i->committed);
	line_kb(out, "VmallocTotal", VMALLOC_TOTAL_KB);
	line(out, "VmallocUsed", i->vmalloc_used);
}

/* Huge pages in Linux's sense, and how the direct map is made: this machine's is of 4 KiB frames. */
static void put_tail(struct quire *q, struct fmt_buf *out)
{
	static const char *const absent[] = { "VmallocChunk", "Percpu", "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped",
					      "FileHugePages", "FilePmdMapped", "Balloon" };

	zeros(out, absent, ARRAY_SIZE(absent));
	fmt_printf(out, "HugePages_Total:   %5u\nHugePages_Free:    %5u\nHugePages_Rsvd:    %5u\nHugePages_Surp:    %5u\n",
		   0u, 0u, 0u, 0u);
	line_kb(out, "Hugepagesize", 2048);
	line(out, "Hugetlb", 0);
	line_kb(out, "DirectMap4k", q->cfg.memory >> 10);
	line(out, "DirectMap2M", 0);
	line(out, "DirectMap1G", 0);
}

void proc_meminfo(struct quire *q, struct fmt_buf *out)
{
	struct meminfo i;

	snapshot(q, &i);
	line_kb(out, "MemTotal", q->cfg.memory >> 10);
	line(out, "MemFree", i.free);
	line(out, "MemAvailable", i.available);
	line(out, "Buffers", 0);
	line(out, "Cached", i.cached);
	line(out, "SwapCached", i.swapcache);
	put_lru(out, &i);
	put_usage(q, out, &i);
	put_tail(q, out);
}
