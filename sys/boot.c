/*
 * Bringing a machine up.
 *
 * Order: configuration checked -> locks -> frames -> slabs -> the floors' caches -> the zero page -> hooks.  Nothing
 * before kmem_init() may allocate but early_alloc(); nobody else runs on the machine yet.  The hooks table is
 * filled here and never changes again: this is the one place that knows every floor.
 */
#include <file/filemap.h>
#include <quire/highmem.h>
#include <mm/mm.h>
#include <reclaim/reclaim.h>
#include <swap/swap.h>

#define MAX_MAP_COUNT_DEFAULT 65530u

static int bad(struct quire *q, const char *what, u64 value)
{
	quire_log(q, 3, "cannot boot: %s (%llu)", what, (unsigned long long)value);
	return -EINVAL;
}

/* What the floors below do not look at themselves; phys_early_init() judges memory size and zones. */
static int check_config(struct quire *q, const struct quire_config *cfg)
{
	if (!cfg->memory || cfg->memory % PAGE_SIZE)
		return bad(q, "memory size must be a multiple of the page size", cfg->memory);
	if (!cfg->nr_cpus || cfg->nr_cpus > QUIRE_MAX_CPUS)
		return bad(q, "number of CPUs must be 1 to 64", cfg->nr_cpus);
	if (!cfg->direct_map || !PAGE_ALIGNED((uintptr_t)cfg->direct_map))
		return bad(q, "the direct map must be page aligned", (uintptr_t)cfg->direct_map);
	if (!cfg->mem_map)
		return bad(q, "no room for frame records given", 0);
	if (cfg->overcommit_memory > 2)
		return bad(q, "overcommit mode must be 0, 1 or 2", cfg->overcommit_memory);
	if (cfg->folio_max_order > PMD_ORDER)
		return bad(q, "largest folio order must be 0 to 9", cfg->folio_max_order);
	return 0;
}

static void init_locks(struct quire *q)
{
	spin_lock_init(&q->tasks.lock, LOCK_RANK_TASKS);
	spin_lock_init(&q->lock, LOCK_RANK_CORE);
	spin_lock_init(&q->log_lock, LOCK_RANK_LEAF);
}

/* The page that read faults on untouched anonymous memory map.  Never in the allocator, never freed. */
static int init_zero_page(struct quire *q)
{
	void *page = early_alloc(q, PAGE_SIZE, PAGE_SIZE);

	if (!page)
		return -ENOMEM;
	q->zero_pfn = frame_to_pfn(q, virt_to_frame(q, page));
	return 0;
}

/* What reclaim needs from the first folio on. */
static int init_lru(struct quire *q)
{
	workingset_init(q);
	lru_set_policy(q, q->cfg.policy ? q->cfg.policy : &policy_second_chance);
	reclaim_init(q);
	writeback_init(q);
	return 0;
}

static int init_caches(struct quire *q)
{
	struct {
		struct kmem_cache **cache;
		const char *name;
		size_t size;
	} list[] = {
		{ &q->task_cache, "task_struct", sizeof(struct task) },
		{ &q->radix_cache, "radix_tree_node", sizeof(struct radix_node) },
		{ &q->file_cache, "filp", sizeof(struct file) },
		{ &q->mapping_cache, "inode_cache", sizeof(struct address_space) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		*list[i].cache = kmem_cache_create(q, list[i].name, list[i].size, 0, SLAB_HWCACHE_ALIGN, NULL);
		if (!*list[i].cache)
			return -ENOMEM;
	}
	return mm_init(q);
}

static void init_hooks(struct quire *q)
{
	q->hooks.try_to_free_pages = try_to_free_pages;
	q->hooks.out_of_memory = out_of_memory;
	q->hooks.compact_pages = try_to_compact_pages;
	q->hooks.memstall_enter = psi_memstall_enter;
	q->hooks.memstall_leave = psi_memstall_leave;
	q->hooks.populate = mm_populate;
	q->hooks.fault_in = mm_fault_in;
	q->hooks.shmem_file_setup = shmem_file_setup;
	q->hooks.file_put = file_put;
	q->hooks.filemap_sync = filemap_sync;
	q->hooks.punch_hole = filemap_punch_hole;
	q->hooks.readahead = filemap_readahead;
	q->hooks.folio_mark_dirty = folio_mark_dirty;
	q->hooks.madvise_cold = madvise_cold;
	q->hooks.lru_add = folio_add_lru;
	q->hooks.lru_del = folio_del_lru;
	q->hooks.clear_highpages = clear_highpages;
	q->hooks.swap_dup = swap_dup_hook;
	q->hooks.swap_free = swap_free_hook;
	q->hooks.swap_cached = swap_cached_hook;
	q->hooks.total_swap_pages = swap_total_hook;
}

static void banner(struct quire *q)
{
	const char *version = q->cfg.version ? q->cfg.version : "0.1.0";

	quire_log(q, 5, "Quire version %s (%u CPU%s, seed %llu)", version, q->cfg.nr_cpus, q->cfg.nr_cpus == 1 ? "" : "s",
		  (unsigned long long)q->cfg.seed);
	quire_log(q, 6, "Memory: %luK/%luK available (%zu bytes per frame record, folios up to %luK, overcommit %u)",
		  (unsigned long)(nr_free_pages(q) << (PAGE_SHIFT - 10)), (unsigned long)(q->cfg.memory >> 10),
		  sizeof(struct frame), (unsigned long)(PAGE_SIZE >> 10 << q->cfg.folio_max_order), q->cfg.overcommit_memory);
}

static int bring_up(struct quire *q)
{
	int err = phys_early_init(q);

	if (!err)
		err = init_zero_page(q);
	if (!err)
		err = init_lru(q);
	if (!err)
		err = phys_init(q);
	if (!err)
		err = kmem_init(q);
	if (!err)
		err = init_caches(q);
	return err;
}

int quire_boot(struct quire *q, const struct quire_config *cfg)
{
	int err;

	q->boot_ns = port_clock_ns();
	init_locks(q);
	err = check_config(q, cfg);
	if (err)
		return err;
	q->cfg = *cfg;
	if (!q->cfg.max_map_count)
		q->cfg.max_map_count = MAX_MAP_COUNT_DEFAULT;
	q->caps = port_caps(q);
	err = bring_up(q);
	if (err) {
		quire_log(q, 3, "cannot boot: error %d while setting memory up", err);
		return err;
	}
	q->oom.dump_tasks = 1; /* vm.oom_dump_tasks, as Linux's default */
	init_hooks(q);
	banner(q);
	return 0;
}
