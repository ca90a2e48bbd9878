/*
 * Words about memory for people: the allocation-failure report and Mem-Info, in Linux's text (mm/page_alloc.c:
 * warn_alloc, mm/show_mem.c), so that those who know how to read one can read ours.
 *
 * Locks: reads counters without any; a report is a snapshot, not a proof.
 */
#include "phys.h"
#include <fmt.h>

/* Linux's default rate limit: ten reports in five seconds. */
#define WARN_BURST 10u
#define WARN_WINDOW_NS 5000000000ull
#define K(pages) ((unsigned long)((pages) << (PAGE_SHIFT - 10)))

struct flag_name {
	gfp_t bits;
	const char *name;
};

/* Order as in include/trace/events/mmflags.h: combinations first. */
static const struct flag_name gfp_names[] = {
	{GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM, "GFP_TRANSHUGE"},
	{GFP_TRANSHUGE_LIGHT, "GFP_TRANSHUGE_LIGHT"},
	{GFP_HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"},
	{GFP_HIGHUSER, "GFP_HIGHUSER"},
	{GFP_USER, "GFP_USER"},
	{GFP_KERNEL | __GFP_ACCOUNT, "GFP_KERNEL_ACCOUNT"},
	{GFP_KERNEL, "GFP_KERNEL"},
	{GFP_NOFS, "GFP_NOFS"},
	{GFP_ATOMIC, "GFP_ATOMIC"},
	{GFP_NOIO, "GFP_NOIO"},
	{GFP_NOWAIT, "GFP_NOWAIT"},
	{GFP_DMA, "GFP_DMA"},
	{GFP_DMA32, "GFP_DMA32"},
	{__GFP_RECLAIM, "__GFP_RECLAIM"},
	{__GFP_HIGHMEM, "__GFP_HIGHMEM"},
	{__GFP_MOVABLE, "__GFP_MOVABLE"},
	{__GFP_RECLAIMABLE, "__GFP_RECLAIMABLE"},
	{__GFP_HIGH, "__GFP_HIGH"},
	{__GFP_IO, "__GFP_IO"},
	{__GFP_FS, "__GFP_FS"},
	{__GFP_ZERO, "__GFP_ZERO"},
	{__GFP_DIRECT_RECLAIM, "__GFP_DIRECT_RECLAIM"},
	{__GFP_KSWAPD_RECLAIM, "__GFP_KSWAPD_RECLAIM"},
	{__GFP_WRITE, "__GFP_WRITE"},
	{__GFP_NOWARN, "__GFP_NOWARN"},
	{__GFP_RETRY_MAYFAIL, "__GFP_RETRY_MAYFAIL"},
	{__GFP_NOFAIL, "__GFP_NOFAIL"},
	{__GFP_NORETRY, "__GFP_NORETRY"},
	{__GFP_MEMALLOC, "__GFP_MEMALLOC"},
	{__GFP_COMP, "__GFP_COMP"},
	{__GFP_NOMEMALLOC, "__GFP_NOMEMALLOC"},
	{__GFP_HARDWALL, "__GFP_HARDWALL"},
	{__GFP_THISNODE, "__GFP_THISNODE"},
	{__GFP_ACCOUNT, "__GFP_ACCOUNT"},
};

char *gfp_flags_string(gfp_t gfp, char *buf, size_t size)
{
	struct fmt_buf b = fmt_init(buf, size);
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(gfp_names) && gfp; i++) {
		if ((gfp & gfp_names[i].bits) != gfp_names[i].bits)
			continue;
		fmt_printf(&b, "%s%s", b.len ? "|" : "", gfp_names[i].name);
		gfp &= ~gfp_names[i].bits;
	}
	if (gfp || !b.len)
		fmt_printf(&b, "%s%#x", b.len ? "|" : "", gfp);
	return buf;
}

/* ---- Mem-Info ---- */

static u64 total_pcp(struct quire *q)
{
	u64 n = 0;
	unsigned i;

	for (i = 0; i < MAX_NR_ZONES; i++)
		n += pcp_free_pages(q, i);
	return n;
}

/* Machine-wide figures, pages; counted without a lock. */
struct mem_info {
	u64 lru[NR_LRU_LISTS];
	u64 dirty, writeback, slab_reclaimable, slab_unreclaimable, mapped, shmem, pagetables, zspages;
};

static void read_mem_info(struct quire *q, struct mem_info *i)
{
	for (unsigned l = 0; l < NR_LRU_LISTS; l++)
		i->lru[l] = racy_u64(&q->nr_lru_pages[l]);
	i->dirty = racy_u64(&q->nr_dirty_pages);
	i->writeback = racy_u64(&q->nr_writeback_pages);
	i->slab_unreclaimable = racy_u64(&q->kmem.nr_slab_pages[0]);
	i->slab_reclaimable = racy_u64(&q->kmem.nr_slab_pages[1]);
	i->mapped = racy_u64(&q->nr_file_mapped);
	i->shmem = racy_u64(&q->nr_shmem_pages);
	i->pagetables = racy_u64(&q->nr_pagetable_pages);
	i->zspages = racy_u64(&q->swap.pool.nr_frames);
}

static void show_totals(struct quire *q, const struct mem_info *i)
{
	u64 nr_free = nr_free_pages(q), pcp = total_pcp(q);

	quire_log(q, 4, "Mem-Info:");
	quire_log(q, 4, "active_anon:%lu inactive_anon:%lu isolated_anon:0", (unsigned long)i->lru[LRU_ACTIVE_ANON],
		  (unsigned long)i->lru[LRU_INACTIVE_ANON]);
	quire_log(q, 4, " active_file:%lu inactive_file:%lu isolated_file:0", (unsigned long)i->lru[LRU_ACTIVE_FILE],
		  (unsigned long)i->lru[LRU_INACTIVE_FILE]);
	quire_log(q, 4, " unevictable:%lu dirty:%lu writeback:%lu", (unsigned long)i->lru[LRU_UNEVICTABLE],
		  (unsigned long)i->dirty, (unsigned long)i->writeback);
	quire_log(q, 4, " slab_reclaimable:%lu slab_unreclaimable:%lu", (unsigned long)i->slab_reclaimable,
		  (unsigned long)i->slab_unreclaimable);
	quire_log(q, 4, " mapped:%lu shmem:%lu pagetables:%lu", (unsigned long)i->mapped, (unsigned long)i->shmem,
		  (unsigned long)i->pagetables);
	quire_log(q, 4, " sec_pagetables:0 bounce:0");
	quire_log(q, 4, " kernel_misc_reclaimable:0");
	quire_log(q, 4, " free:%lu free_pcp:%lu free_cma:0", (unsigned long)(nr_free - pcp), (unsigned long)pcp);
}

static void show_node(struct quire *q, const struct mem_info *i)
{
	quire_log(q, 4,
		  "Node 0 active_anon:%lukB inactive_anon:%lukB active_file:%lukB inactive_file:%lukB unevictable:%lukB "
		  "isolated(anon):0kB isolated(file):0kB mapped:%lukB dirty:%lukB writeback:%lukB shmem:%lukB shmem_thp:0kB "
		  "shmem_pmdmapped:0kB anon_thp:0kB kernel_stack:0kB pagetables:%lukB sec_pagetables:0kB all_unreclaimable? no "
		  "Balloon:0kB",
		  K(i->lru[LRU_ACTIVE_ANON]), K(i->lru[LRU_INACTIVE_ANON]), K(i->lru[LRU_ACTIVE_FILE]),
		  K(i->lru[LRU_INACTIVE_FILE]), K(i->lru[LRU_UNEVICTABLE]), K(i->mapped), K(i->dirty), K(i->writeback),
		  K(i->shmem), K(i->pagetables));
}

/* i: the machine's lists belong to its highest zone, as in /proc/zoneinfo; all zero for the others. */
static void show_zone(struct quire *q, const struct zone *z, unsigned zi, const struct mem_info *i)
{
	char text[200];
	struct fmt_buf b = fmt_init(text, sizeof(text));
	u64 pcp = pcp_free_pages(q, zi);

	quire_log(q, 4,
		  "Node 0 %s free:%lukB boost:0kB min:%lukB low:%lukB high:%lukB reserved_highatomic:0KB free_highatomic:0KB "
		  "active_anon:%lukB inactive_anon:%lukB active_file:%lukB inactive_file:%lukB unevictable:%lukB "
		  "writepending:%lukB zspages:%lukB present:%lukB managed:%lukB mlocked:%lukB bounce:0kB free_pcp:%lukB "
		  "local_pcp:%lukB free_cma:0kB",
		  z->name, K(z->nr_free), K(z->watermark[WMARK_MIN]), K(z->watermark[WMARK_LOW]), K(z->watermark[WMARK_HIGH]),
		  K(i->lru[LRU_ACTIVE_ANON]), K(i->lru[LRU_INACTIVE_ANON]), K(i->lru[LRU_ACTIVE_FILE]),
		  K(i->lru[LRU_INACTIVE_FILE]), K(i->lru[LRU_UNEVICTABLE]), K(i->dirty + i->writeback), K(i->zspages),
		  K((u64)(z->end_pfn - z->start_pfn)), K(z->managed), K(i->lru[LRU_UNEVICTABLE]), K(pcp),
		  K((u64)racy_s32(&q->phys.cpus[port_cpu()].pcp[zi].count)));
	for (unsigned c = 0; c < MAX_NR_ZONES; c++)
		fmt_printf(&b, " %lu", (unsigned long)z->lowmem_reserve[c]);
	quire_log(q, 4, "lowmem_reserve[]:%s", text);
}

/* "Node 0 DMA: 1*4kB (U) 0*8kB ... = 15360kB", letters naming the types that have blocks. */
static void show_zone_blocks(struct quire *q, const struct zone *z)
{
	static const char letters[MIGRATE_PCPTYPES] = {'U', 'M', 'E'};
	char text[400];
	struct fmt_buf b = fmt_init(text, sizeof(text));
	u64 total = 0;
	unsigned order, mt;

	for (order = 0; order <= MAX_ORDER; order++) {
		u64 n = zone_free_blocks(z, order);
		size_t open;

		total += n << order;
		fmt_printf(&b, "%lu*%lukB ", (unsigned long)n, K(1ull << order));
		if (!n)
			continue;
		fmt_putc(&b, '(');
		open = b.len;
		for (mt = 0; mt < MIGRATE_PCPTYPES; mt++)
			if (z->free_area[order].free_list[mt].first ||
			    (order == MAX_ORDER && mt == MIGRATE_MOVABLE && virgin_blocks(z)))
				fmt_putc(&b, letters[mt]);
		fmt_printf(&b, "%s) ", b.len == open ? "-" : "");
	}
	quire_log(q, 4, "Node 0 %s: %s= %lukB", z->name, text, K(total));
}

static void show_zones(struct quire *q, const struct mem_info *info, u64 *reserved)
{
	static const struct mem_info nothing;
	struct zone z;
	unsigned i;

	for (i = 0; i < MAX_NR_ZONES; i++) {
		zone_snapshot(q, i, &z);
		*reserved -= z.managed;
		if (zone_populated(&z))
			show_zone(q, &z, i, i == q->phys.first_zone[ZONE_HIGHMEM] ? info : &nothing);
	}
	for (i = 0; i < MAX_NR_ZONES; i++) {
		zone_snapshot(q, i, &z);
		if (zone_populated(&z))
			show_zone_blocks(q, &z);
	}
}

void show_mem(struct quire *q)
{
	u64 reserved = q->phys.nr_frames;
	struct mem_info info;

	read_mem_info(q, &info);
	show_totals(q, &info);
	show_node(q, &info);
	show_zones(q, &info, &reserved);
	quire_log(q, 4, "Node 0 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=2048kB");
	quire_log(q, 4, "%lu total pagecache pages", (unsigned long)racy_u64(&q->nr_file_pages));
	quire_log(q, 4, "%lu pages in swap cache", (unsigned long)racy_u64(&q->nr_swapcache_pages));
	quire_log(q, 4, "Free swap  = %lukB", K(racy_u64(&q->nr_free_swap_pages)));
	quire_log(q, 4, "Total swap = %lukB", K(racy_u64(&q->total_swap_pages)));
	quire_log(q, 4, "%lu pages RAM", (unsigned long)q->phys.nr_frames);
	quire_log(q, 4, "%lu pages HighMem/MovableOnly", (unsigned long)q->phys.zones[ZONE_HIGHMEM].managed);
	quire_log(q, 4, "%lu pages reserved", (unsigned long)reserved);
	quire_log(q, 4, "0 pages hwpoisoned");
}

/* ---- allocation failures ---- */

/* May a report be printed now?  Counts those that may not. */
static bool warn_ratelimit(struct quire *q, u32 *missed)
{
	struct phys *p = &q->phys;
	u64 now = port_clock_ns();
	bool ok;

	spin_lock(&q->lock);
	*missed = 0;
	if (!p->warn_window_ns || now - p->warn_window_ns > WARN_WINDOW_NS) {
		*missed = p->warn_missed;
		p->warn_window_ns = now;
		p->warn_count = p->warn_missed = 0;
	}
	ok = p->warn_count < WARN_BURST;
	if (ok)
		p->warn_count++;
	else
		p->warn_missed++;
	spin_unlock(&q->lock);
	return ok;
}

void warn_alloc(struct quire *q, const struct alloc_context *ac)
{
	char flags[256];
	u32 missed;

	if (ac->gfp & __GFP_NOWARN || !warn_ratelimit(q, &missed))
		return;
	if (missed)
		quire_log(q, 4, "warn_alloc: %u callbacks suppressed", missed);
	/* Below the tasks there is no "current": the context stands for its name. */
	quire_log(q, 4, "context-%u: page allocation failure: order:%u, mode:%#x(%s), nodemask=(null)", port_ctx()->id,
		  ac->order, ac->gfp, gfp_flags_string(ac->gfp, flags, sizeof(flags)));
	quire_log(q, 4, "CPU: %u caller: %p", port_cpu(), ac->caller);
	show_mem(q);
}
