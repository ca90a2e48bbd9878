/* alloc_pages and its kin: flags, zeroing, zones, watermarks, the slow path with scripted hooks, failures on demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <phys/phys.h>
#include <port/sim/sim.h>
#include <stdlib.h>
#include <string.h>

static struct quire *boot(const struct sim_config *cfg)
{
	struct quire *q = sim_machine_new_raw(cfg);

	assert_int_equal(phys_init(q), 0);
	return q;
}

/* Everything is back and everything fits. */
static void finish(struct quire *q, u64 free_at_start)
{
	drain_all_pages(q);
	assert_int_equal(nr_free_pages(q), free_at_start);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

static bool all_zero(const void *p, size_t n)
{
	const u8 *b = p;

	while (n--)
		if (*b++)
			return false;
	return true;
}

static void every_order(void **state)
{
	struct quire *q = boot(NULL);
	u64 before = nr_free_pages(q);
	unsigned order;
	u32 i;

	for (order = 0; order <= MAX_ORDER; order++) {
		struct frame *f = alloc_pages(q, GFP_KERNEL, order);

		assert_non_null(f);
		assert_int_equal(frame_to_pfn(q, f) & ((1u << order) - 1), 0);
		assert_int_equal(f->type, FRAME_KERNEL);
		assert_int_equal(f->order, order);
		assert_int_equal(f->refcount, 1);
		assert_int_equal(f->flags, 0);
		for (i = 1; i < 1u << order; i++)
			assert_ptr_equal(pfn_folio(q, frame_to_pfn(q, f) + i), f);
		assert_int_equal(nr_free_pages(q), before - (1u << order));
		__free_pages(q, f, order);
	}
	assert_null(alloc_pages(q, GFP_KERNEL, MAX_ORDER + 1));
	finish(q, before);
}

static void zeroed_means_zero(void **state)
{
	unsigned junk, order;

	for (junk = 0; junk < 2; junk++) {
		struct quire *q = boot(&(struct sim_config){.no_virgin_zero = junk});
		u64 before = nr_free_pages(q);

		for (order = 0; order <= MAX_ORDER; order++) {
			struct frame *f = alloc_pages(q, GFP_KERNEL | __GFP_ZERO, order);

			assert_true(all_zero(frame_address(q, f), PAGE_SIZE << order));
			memset(frame_address(q, f), 0x5a, PAGE_SIZE << order);
			__free_pages(q, f, order);
			f = alloc_pages(q, GFP_KERNEL | __GFP_ZERO, order);
			assert_true(all_zero(frame_address(q, f), PAGE_SIZE << order));
			memset(frame_address(q, f), 0x5a, PAGE_SIZE << order);
			__free_pages(q, f, order);
		}
		finish(q, before);
	}
}

static void merging_keeps_zero_only_if_both_halves_are(void **state)
{
	struct quire *q = boot(NULL);
	struct frame *f = alloc_pages(q, GFP_KERNEL, 5); /* 5 has no per-CPU list */
	u64 before = nr_free_pages(q) + 32;

	split_page(q, f, 5);
	/* All but one frame were never written; their owner says so. */
	for (u32 i = 0; i < 32; i++) {
		if (i != 7)
			f[i].flags |= FF_ZEROED;
		else
			*(u64 *)frame_address(q, f + i) = 1;
		__free_pages(q, f + i, 0);
	}
	drain_all_pages(q);
	f = alloc_pages(q, GFP_KERNEL | __GFP_ZERO, 5);
	assert_true(all_zero(frame_address(q, f), PAGE_SIZE << 5));
	__free_pages(q, f, 5);
	finish(q, before);
}

static void addresses_and_exact_sizes(void **state)
{
	struct quire *q = boot(NULL);
	u64 before = nr_free_pages(q);
	char *p = __get_free_pages(q, GFP_KERNEL, 2), *z = get_zeroed_page(q, GFP_KERNEL), *e;

	memset(p, 1, 4 * PAGE_SIZE);
	assert_true(all_zero(z, PAGE_SIZE));
	free_pages(q, p, 2);
	free_pages(q, z, 0);
	free_pages(q, NULL, 3);
	e = alloc_pages_exact(q, 5 * PAGE_SIZE + 1, GFP_KERNEL | __GFP_ZERO);
	assert_true(all_zero(e, 6 * PAGE_SIZE));
	assert_int_equal(nr_free_pages(q), before - 6);
	assert_true(phys_is_valid(q));
	free_pages_exact(q, e, 5 * PAGE_SIZE + 1);
	assert_null(alloc_pages_exact(q, 0, GFP_KERNEL));
	assert_null(alloc_pages_exact(q, 5 << 20, GFP_KERNEL));
	finish(q, before);
}

static void bulk(void **state)
{
	struct quire *q = boot(NULL);
	u64 before = nr_free_pages(q);
	struct frame *f[500];
	unsigned i, n = alloc_pages_bulk(q, GFP_KERNEL | __GFP_ZERO, 500, f);

	assert_int_equal(n, 500);
	for (i = 0; i < n; i++) {
		assert_int_equal(f[i]->refcount, 1);
		f[i]->refcount = 1000 + i;
	}
	for (i = 0; i < n; i++)
		assert_int_equal(f[i]->refcount, 1000 + i); /* all different */
	free_pages_bulk(q, n, f);
	assert_int_equal(nr_free_pages(q), before);
	sim_fail_nth(q, BIT(FAIL_PAGE), 1);
	assert_int_equal(alloc_pages_bulk(q, GFP_KERNEL, 3, f), 0);
	finish(q, before);
}

/* Single pages of a machine at rest come in rows: a port's mappings of them stay few. */
static void single_pages_in_rows(void **state)
{
	struct quire *q = boot(NULL);
	u64 before = nr_free_pages(q);
	struct frame *f[1024];
	unsigned i, breaks = 0;

	for (i = 0; i < 1024; i++) {
		f[i] = alloc_page(q, GFP_KERNEL);
		assert_non_null(f[i]);
		breaks += i && f[i] != f[i - 1] + 1;
	}
	assert_in_range(breaks, 0, 32);
	for (i = 0; i < 1024; i++)
		__free_pages(q, f[i], 0);
	finish(q, before);
}

static void counts_for_vmstat(void **state)
{
	struct quire *q = boot(&(struct sim_config){.nr_cpus = 2});
	u64 before = nr_free_pages(q), pgalloc[MAX_NR_ZONES], allocs, pgfree;
	struct frame *a = alloc_pages(q, GFP_KERNEL, 3), *b = alloc_pages(q, GFP_KERNEL, 6);

	sim_thread_set_cpu(1);
	__free_pages(q, a, 3);
	a = alloc_page(q, GFP_KERNEL | __GFP_DMA);
	phys_alloc_counts(q, pgalloc, &allocs, &pgfree);
	assert_int_equal(allocs, 3);
	assert_int_equal(pgalloc[ZONE_DMA], 1);
	assert_int_equal(pgalloc[ZONE_DMA32], 8 + 64);
	assert_int_equal(pgfree, 8);
	__free_pages(q, a, 0);
	__free_pages(q, b, 6);
	finish(q, before);
}

static struct folio *deleted_from_lru;
static void note_lru_del(struct quire *q, struct folio *folio)
{
	assert_true(spin_is_held(&q->lock));
	deleted_from_lru = folio;
}

static void folio_references(void **state)
{
	struct quire *q = boot(NULL);
	u64 before = nr_free_pages(q);
	struct folio *folio = folio_alloc(q, GFP_KERNEL, 4);

	q->hooks.lru_del = note_lru_del;
	folio_get(folio, 3);
	folio->f.type = FRAME_ANON;
	folio->f.flags |= FF_LRU | FF_DIRTY;
	folio->f.mapping = 0x1234;
	spin_lock(&q->lock);
	folio_put(q, folio, 2);
	assert_int_equal(folio->f.refcount, 2);
	folio_put(q, folio, 2);
	spin_unlock(&q->lock);
	assert_ptr_equal(deleted_from_lru, folio);
	finish(q, before);
}

static void zones_by_flag(void **state)
{
	struct quire *q = boot(&(struct sim_config){.memory = 6ull << 30});
	u64 before = nr_free_pages(q);
	struct frame *n = alloc_page(q, GFP_KERNEL), *d32 = alloc_page(q, GFP_KERNEL | __GFP_DMA32),
		     *d = alloc_page(q, GFP_KERNEL | __GFP_DMA), *h = alloc_page(q, GFP_HIGHUSER);

	assert_int_equal(pfn_zone_idx(q, frame_to_pfn(q, n)), ZONE_NORMAL);
	assert_int_equal(pfn_zone_idx(q, frame_to_pfn(q, d32)), ZONE_DMA32);
	assert_int_equal(pfn_zone_idx(q, frame_to_pfn(q, d)), ZONE_DMA);
	assert_int_equal(pfn_zone_idx(q, frame_to_pfn(q, h)), ZONE_NORMAL);
	__free_pages(q, n, 0);
	__free_pages(q, d32, 0);
	__free_pages(q, d, 0);
	__free_pages(q, h, 0);
	finish(q, before);
}

/* Takes frames until the flags give no more; they are chained through `private`. */
static struct frame *eat(struct quire *q, gfp_t gfp, struct frame *chain, u64 *n)
{
	struct frame *f;

	for (*n = 0; (f = alloc_page(q, gfp | __GFP_NOWARN)); (*n)++) {
		f->private = (u64)(uintptr_t)chain;
		chain = f;
	}
	return chain;
}

static void spit_out(struct quire *q, struct frame *chain)
{
	while (chain) {
		struct frame *next = (struct frame *)(uintptr_t)chain->private;

		__free_pages(q, chain, 0);
		chain = next;
	}
}

static void watermarks_keep_reserves(void **state)
{
	struct quire *q = boot(NULL);
	const struct zone *dma = &q->phys.zones[ZONE_DMA], *z = &q->phys.zones[ZONE_DMA32];
	u64 before = nr_free_pages(q), n;
	struct frame *chain;

	chain = eat(q, GFP_NOWAIT, NULL, &n);
	/* Ordinary requests stop at min, in DMA above what is reserved for it. */
	assert_in_range(z->nr_free, z->watermark[WMARK_MIN] - 1, z->watermark[WMARK_MIN] + 1);
	assert_in_range(dma->nr_free, dma->watermark[WMARK_MIN] + dma->lowmem_reserve[ZONE_NORMAL] - 1,
			dma->watermark[WMARK_MIN] + dma->lowmem_reserve[ZONE_NORMAL] + 1);
	chain = eat(q, GFP_ATOMIC, chain, &n);
	assert_true(n > 0);
	/* half of it for __GFP_HIGH, another quarter of the rest for those who cannot wait */
	assert_in_range(z->nr_free, z->watermark[WMARK_MIN] * 3 / 8 - 1, z->watermark[WMARK_MIN] * 3 / 8 + 2);
	chain = eat(q, GFP_NOWAIT | __GFP_DMA, chain, &n);
	assert_in_range(dma->nr_free, dma->watermark[WMARK_MIN] - 1, dma->watermark[WMARK_MIN] + 1);
	chain = eat(q, GFP_NOWAIT | __GFP_MEMALLOC, chain, &n);
	assert_int_equal(nr_free_pages(q), 0);
	assert_null(alloc_page(q, GFP_NOWAIT | __GFP_MEMALLOC));
	assert_true(phys_is_valid(q));
	spit_out(q, chain);
	finish(q, before);
}

/* ---- the slow path ---- */

static struct {
	struct frame *chain; /* frames that "reclaim" can free */
	u64 give;            /* frames it frees at each call */
	unsigned reclaims, ooms, wakes;
	int oom_answer;
} script;

static u64 scripted_reclaim(struct quire *q, gfp_t gfp, unsigned order)
{
	u64 n;

	assert_false(in_transaction());
	script.reclaims++;
	for (n = 0; n < script.give && script.chain; n++) {
		struct frame *f = script.chain;

		script.chain = (struct frame *)(uintptr_t)f->private;
		__free_pages(q, f, 0);
	}
	return n;
}

static int scripted_oom(struct quire *q, gfp_t gfp, unsigned order)
{
	assert_false(in_transaction());
	script.ooms++;
	if (!script.oom_answer)
		script.give = 64; /* the victim's memory can be had now */
	return script.oom_answer;
}

static void scripted_wake(struct quire *q)
{
	script.wakes++;
}

static struct quire *full_machine(u64 *before)
{
	struct quire *q = boot(NULL);
	u64 n;

	*before = nr_free_pages(q);
	memset(&script, 0, sizeof(script));
	q->hooks.wake_kswapd = scripted_wake;
	script.chain = eat(q, GFP_NOWAIT, NULL, &n);
	script.wakes = 0;
	q->hooks.try_to_free_pages = scripted_reclaim;
	q->hooks.out_of_memory = scripted_oom;
	return q;
}

static void reclaim_is_called_and_helps(void **state)
{
	u64 before;
	struct quire *q = full_machine(&before);
	struct frame *f;

	script.give = 64;
	f = alloc_page(q, GFP_KERNEL);
	assert_non_null(f);
	assert_int_equal(script.reclaims, 1);
	assert_int_equal(script.ooms, 0);
	assert_true(script.wakes > 0);
	__free_pages(q, f, 0);
	spit_out(q, script.chain);
	finish(q, before);
}

static void no_reclaim_under_a_lock(void **state)
{
	u64 before;
	struct quire *q = full_machine(&before);

	script.give = 64;
	spin_lock(&q->lock);
	assert_null(alloc_page(q, GFP_KERNEL));
	spin_unlock(&q->lock);
	assert_int_equal(script.reclaims, 0);
	assert_null(strstr(sim_log_text(q), "allocation failure"));
	spit_out(q, script.chain);
	finish(q, before);
}

static void oom_killer_comes_last(void **state)
{
	u64 before;
	struct quire *q = full_machine(&before);
	struct frame *f;

	script.give = 0;
	f = alloc_page(q, GFP_KERNEL);
	assert_non_null(f);
	assert_int_equal(script.ooms, 1);
	assert_true(script.reclaims > 1);
	__free_pages(q, f, 0);
	spit_out(q, script.chain);
	finish(q, before);
}

static void who_gives_up(void **state)
{
	static const struct {
		gfp_t gfp;
		unsigned order;
		bool ooms, warns;
	} cases[] = {
		{GFP_KERNEL, 0, true, true}, /* the OOM killer says: the caller dies */
		{GFP_KERNEL | __GFP_NORETRY, 0, false, true},
		{GFP_KERNEL | __GFP_RETRY_MAYFAIL, 0, false, true},
		{GFP_KERNEL | __GFP_RETRY_MAYFAIL, 9, false, true},
		{GFP_KERNEL, 4, false, true}, /* costly */
		{GFP_NOFS, 0, false, true},
		{GFP_NOIO | __GFP_NOWARN, 0, false, false},
		{GFP_NOWAIT, 0, false, false},
		{GFP_ATOMIC | __GFP_NOMEMALLOC, 10, false, true},
	};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 before;
		struct quire *q = full_machine(&before);
		const char *log;

		script.oom_answer = -ENOMEM;
		assert_null(alloc_pages(q, cases[i].gfp, cases[i].order));
		assert_int_equal(script.ooms != 0, cases[i].ooms);
		log = sim_log_text(q);
		assert_int_equal(strstr(log, ": page allocation failure: order:") != NULL, cases[i].warns);
		spit_out(q, script.chain);
		finish(q, before);
	}
}

static void nofail_gets_the_reserves(void **state)
{
	u64 before;
	struct quire *q = full_machine(&before);
	struct frame *f;

	script.oom_answer = -ENOMEM;
	f = alloc_page(q, GFP_KERNEL | __GFP_NOFAIL);
	assert_non_null(f);
	__free_pages(q, f, 0);
	sim_fail_from(q, BIT(FAIL_PAGE), 1);
	f = alloc_page(q, GFP_KERNEL | __GFP_NOFAIL);
	assert_non_null(f);
	assert_null(alloc_page(q, GFP_KERNEL));
	sim_fail_none(q);
	__free_pages(q, f, 0);
	spit_out(q, script.chain);
	finish(q, before);
}

static void nofail_alone(void *arg)
{
	struct quire *q = arg;
	u64 n;

	eat(q, GFP_NOWAIT | __GFP_MEMALLOC, NULL, &n);
	alloc_page(q, GFP_KERNEL | __GFP_NOFAIL);
}

static void nofail_with_nobody_to_kill_is_the_end(void **state)
{
	struct quire *q = boot(NULL);
	const char *text = sim_expect_panic(nofail_alone, q);

	assert_non_null(text);
	assert_non_null(strstr(text, "deadlocked on memory"));
	sim_machine_free(q);
}

static void report_reads_like_linux(void **state)
{
	u64 before;
	struct quire *q = full_machine(&before);
	unsigned i;
	const char *log, *p;

	for (i = 0; i < 30; i++)
		assert_null(alloc_pages(q, GFP_KERNEL | __GFP_ZERO, 10));
	log = sim_log_text(q);
	assert_non_null(
		strstr(log, ": page allocation failure: order:10, mode:0xdc0(GFP_KERNEL|__GFP_ZERO), nodemask=(null)"));
	assert_non_null(strstr(log, "Mem-Info:"));
	assert_non_null(strstr(log, "Node 0 DMA32 free:"));
	assert_non_null(strstr(log, "lowmem_reserve[]: 0"));
	assert_non_null(strstr(log, " pages RAM"));
	for (i = 0, p = log; (p = strstr(p, "page allocation failure")); p++)
		i++;
	assert_int_equal(i, 10); /* rate limited */
	spit_out(q, script.chain);
	finish(q, before);
}

static void flag_names(void **state)
{
	char buf[256];

	assert_string_equal(gfp_flags_string(GFP_HIGHUSER_MOVABLE, buf, sizeof(buf)), "GFP_HIGHUSER_MOVABLE");
	assert_string_equal(gfp_flags_string(GFP_ATOMIC | __GFP_COMP, buf, sizeof(buf)), "GFP_ATOMIC|__GFP_COMP");
	assert_string_equal(gfp_flags_string(0, buf, sizeof(buf)), "0");
	assert_string_equal(gfp_flags_string(0x80000000u, buf, sizeof(buf)), "0x80000000");
}

/* ---- types, blocks, slots ---- */

static void types_do_not_mix(void **state)
{
	struct quire *q = boot(&(struct sim_config){.memory = 256 << 20});
	u64 before = nr_free_pages(q);
	struct frame *u[64], *m[64];
	unsigned i, j;

	for (i = 0; i < 64; i++) {
		u[i] = alloc_page(q, GFP_KERNEL);
		m[i] = alloc_page(q, GFP_HIGHUSER_MOVABLE);
	}
	for (i = 0; i < 64; i++)
		for (j = 0; j < 64; j++)
			assert_int_not_equal(frame_to_pfn(q, u[i]) >> PAGEBLOCK_ORDER,
					     frame_to_pfn(q, m[j]) >> PAGEBLOCK_ORDER);
	for (i = 0; i < 64; i++) {
		__free_pages(q, u[i], 0);
		__free_pages(q, m[i], 0);
	}
	finish(q, before);
}

static void lookup_and_take(void **state)
{
	struct quire *q = boot(NULL);
	u64 before = nr_free_pages(q);
	struct frame *f = alloc_pages(q, GFP_KERNEL, 6), *t;
	pfn_t head, pfn = frame_to_pfn(q, f);
	unsigned order;

	spin_lock(&q->lock);
	assert_int_equal(phys_lookup(q, pfn + 13, &head, &order), BLOCK_USED);
	assert_int_equal(head, pfn);
	assert_int_equal(order, 6);
	assert_int_equal(phys_lookup(q, 0, &head, &order), BLOCK_RESERVED);
	assert_int_equal(phys_lookup(q, pfn ^ 64, &head, &order), BLOCK_FREE);
	assert_true(head <= (pfn ^ 64) && (pfn ^ 64) < head + (1u << order));
	t = phys_take_free_block(q, head, order);
	assert_non_null(t);
	assert_null(phys_take_free_block(q, head, order));
	spin_unlock(&q->lock);
	__free_pages(q, t, order);
	__free_pages(q, f, 6);
	finish(q, before);
}

static void busy_slot_delays_nobody(void **state)
{
	struct quire *q = boot(&(struct sim_config){.nr_cpus = 2});
	u64 before = nr_free_pages(q);
	struct frame *f;
	unsigned i;

	/* As if owners of both slots were stopped. */
	for (i = 0; i < 2; i++)
		q->phys.cpus[i].lock.word = 77;
	f = alloc_page(q, GFP_KERNEL);
	assert_non_null(f);
	__free_pages(q, f, 0);
	drain_all_pages(q);
	for (i = 0; i < 2; i++)
		q->phys.cpus[i].lock.word = 0;
	finish(q, before);
}

/* A list that is far above its limit (which is 0 below the low watermark) gets shorter with every free, but no free gives back so much
 * that a log of 16384 stores could not hold it. */
static void long_lists_shrink_in_steps(void **state)
{
	struct quire *q = boot(NULL);
	struct per_cpu_pages *pcp = &q->phys.cpus[0].pcp[ZONE_DMA32];
	u64 before = nr_free_pages(q);
	struct frame *chain = NULL, *last = alloc_page(q, GFP_KERNEL);
	s32 count;
	int i;

	set_min_free_kbytes(q, 16 << 10);
	for (i = 0; i < 2000; i++) {
		struct frame *f = alloc_page(q, GFP_KERNEL);

		assert_non_null(f);
		f->private = (u64)(uintptr_t)chain;
		chain = f;
	}
	spit_out(q, chain);
	assert_true(pcp->count > 1000);
	set_min_free_kbytes(q, q->cfg.memory >> 10);
	pcp_refresh_sizes(&q->phys.zones[ZONE_DMA32], pcp);
	assert_int_equal(pcp->high, 0);
	for (; pcp->count > 1; last = alloc_page(q, GFP_KERNEL | __GFP_MEMALLOC)) {
		count = pcp->count;
		__free_pages(q, last, 0);
		assert_in_range(count + 1 - pcp->count, 1, 100);
	}
	if (last)
		__free_pages(q, last, 0);
	finish(q, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_order),
		cmocka_unit_test(zeroed_means_zero),
		cmocka_unit_test(merging_keeps_zero_only_if_both_halves_are),
		cmocka_unit_test(addresses_and_exact_sizes),
		cmocka_unit_test(bulk),
		cmocka_unit_test(single_pages_in_rows),
		cmocka_unit_test(counts_for_vmstat),
		cmocka_unit_test(folio_references),
		cmocka_unit_test(zones_by_flag),
		cmocka_unit_test(watermarks_keep_reserves),
		cmocka_unit_test(reclaim_is_called_and_helps),
		cmocka_unit_test(no_reclaim_under_a_lock),
		cmocka_unit_test(oom_killer_comes_last),
		cmocka_unit_test(who_gives_up),
		cmocka_unit_test(nofail_gets_the_reserves),
		cmocka_unit_test(nofail_with_nobody_to_kill_is_the_end),
		cmocka_unit_test(report_reads_like_linux),
		cmocka_unit_test(flag_names),
		cmocka_unit_test(types_do_not_mix),
		cmocka_unit_test(lookup_and_take),
		cmocka_unit_test(busy_slot_delays_nobody),
		cmocka_unit_test(long_lists_shrink_in_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
