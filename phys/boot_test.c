/* Boot: layouts, their frames and watermarks, impossible layouts, the early allocator, and what boot touches. */
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
	assert_true(phys_is_valid(q));
	return q;
}

static void default_layout_has_linux_figures(void **state)
{
	/* The figures of a Linux of this size: lowmem 4194304 kB, min_free_kbytes 4*sqrt = 8192. */
	struct quire *q = boot(&(struct sim_config){.memory = 4ull << 30});
	const struct zone *dma = &q->phys.zones[ZONE_DMA], *dma32 = &q->phys.zones[ZONE_DMA32];

	assert_int_equal(dma->start_pfn, 0);
	assert_int_equal(dma->managed, 4095);
	assert_int_equal(dma32->start_pfn, 4096);
	assert_int_equal(dma32->end_pfn, 1 << 20);
	assert_int_equal(q->phys.zones[ZONE_NORMAL].managed, 0);
	assert_in_range(q->phys.min_free_kbytes, 8188, 8192);
	assert_int_equal(dma32->watermark[WMARK_LOW] - dma32->watermark[WMARK_MIN],
			 MAX(dma32->watermark[WMARK_MIN] / 4, dma32->managed / 1000));
	assert_int_equal(dma->lowmem_reserve[ZONE_NORMAL], dma32->managed / 256);
	assert_int_equal(dma->lowmem_reserve[ZONE_DMA], 0);
	assert_int_equal(dma32->pcp_batch, 63);
	assert_int_equal(totalram_pages(q), 1 << 20);
	sim_machine_free(q);
}

static void classic_32_bit_layout(void **state)
{
	struct quire *q = boot(&(struct sim_config){.memory = 2ull << 30, .zones = &zone_layout_32});
	const struct zone *high = &q->phys.zones[ZONE_HIGHMEM];
	struct frame *f;

	assert_int_equal(q->phys.zones[ZONE_NORMAL].end_pfn, 896 << 8);
	assert_int_equal(high->start_pfn, 896 << 8);
	assert_int_equal(high->managed, (2048 - 896) << 8);
	assert_int_equal(high->watermark[WMARK_MIN], 128);
	f = alloc_page(q, GFP_HIGHUSER_MOVABLE);
	assert_true(frame_to_pfn(q, f) >= high->start_pfn);
	assert_null(frame_address(q, f));
	__free_pages(q, f, 0);
	f = alloc_page(q, GFP_KERNEL);
	assert_non_null(frame_address(q, f));
	assert_ptr_equal(virt_to_frame(q, frame_address(q, f)), f);
	__free_pages(q, f, 0);
	assert_null(virt_to_frame(q, (char *)q->cfg.direct_map + (1000ull << 20)));
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

static void odd_layouts(void **state)
{
	static const struct zone_layout odd[] = {
		{.name = "unaligned", .dma_end = 0x123000, .dma32_end = 0x745000, .lowmem_end = 0x1239000},
		{.name = "dma only", .dma_end = 1ull << 40, .lowmem_end = ~0ull},
		{.name = "no dma", .dma32_end = 8 << 20, .lowmem_end = 16 << 20},
	};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(odd); i++) {
		struct quire *q = boot(&(struct sim_config){.memory = 0x1ffd000, .zones = &odd[i]});
		u64 before = nr_free_pages(q), n = 0;
		struct frame *f;

		while ((f = alloc_page(q, GFP_HIGHUSER | __GFP_MEMALLOC | __GFP_NOWARN))) {
			f->private = n;
			n++;
		}
		assert_int_equal(n, before);
		assert_int_equal(nr_free_pages(q), 0);
		assert_true(phys_is_valid(q));
		sim_machine_free(q);
	}
}

static void tiny_machine(void **state)
{
	struct quire *q = boot(&(struct sim_config){.memory = 256 << 10, .zones = &zone_layout_flat});

	assert_true(nr_free_pages(q) >= 60);
	assert_true(q->phys.mobility_disabled);
	sim_machine_free(q);
}

static void expect_refused(const struct zone_layout *l, u64 memory, const char *why)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){.memory = memory, .zones = l});

	assert_int_equal(phys_init(q), -EINVAL);
	if (!strstr(sim_log_text(q), why))
		fail_msg("expected \"%s\" in: %s", why, sim_log_text(q));
	assert_non_null(strstr(sim_log_text(q), l->name));
	sim_machine_free(q);
}

static void impossible_layouts_are_named(void **state)
{
	struct zone_layout l = {.name = "bad0", .lowmem_end = 0};

	expect_refused(&l, 64 << 20, "no low memory");
	l = (struct zone_layout){.name = "bad1", .dma_end = 123, .lowmem_end = ~0ull};
	expect_refused(&l, 64 << 20, "not page aligned");
	l = (struct zone_layout){.name = "bad2", .dma_end = 32 << 20, .dma32_end = 16 << 20, .lowmem_end = ~0ull};
	expect_refused(&l, 64 << 20, "DMA ends above zone DMA32");
	l = (struct zone_layout){.name = "bad3", .dma_end = 32 << 20, .lowmem_end = 16 << 20};
	expect_refused(&l, 64 << 20, "ends above low memory");
	l = (struct zone_layout){.name = "bad4", .lowmem_end = 8192};
	expect_refused(&l, 64 << 20, "low memory is smaller");
	expect_refused(&zone_layout_32, 5ull << 30, "without PAE");
	expect_refused(&zone_layout_flat, 128 << 10, "smaller than 256 KiB");
}

static void early_memory_is_reserved(void **state)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){.no_virgin_zero = true});
	u64 *p;
	unsigned i;

	assert_int_equal(phys_early_init(q), 0);
	p = early_alloc(q, 3 * PAGE_SIZE + 1, 64 << 10);
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % (64 << 10), 0);
	for (i = 0; i < 3 * PAGE_SIZE / 8; i++)
		assert_int_equal(p[i], 0);
	assert_null(early_alloc(q, 1ull << 40, 1));
	assert_int_equal(phys_init(q), 0);
	assert_null(early_alloc(q, 1, 1));
	assert_int_equal(virt_to_frame(q, p)->type, FRAME_RESERVED);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

/* Records that are not all zero, i.e. pages of mem_map that boot made the host back. */
static u64 touched_records(const struct quire *q, u64 limit)
{
	static const struct frame zero;
	u64 n = 0, pfn;

	for (pfn = 0; pfn < limit; pfn++)
		n += memcmp(&q->cfg.mem_map[pfn], &zero, sizeof(zero)) != 0;
	return n;
}

static void boot_touches_the_same_few_records(void **state)
{
	struct quire *small = boot(&(struct sim_config){.memory = 64 << 20});
	struct quire *large = boot(&(struct sim_config){.memory = 64ull << 30});
	u64 n_small = touched_records(small, 64 << 8), n_large = touched_records(large, 64ull << 18);

	/* The large machine has one zone more and a longer pageblock map: some tens of records, not millions. */
	assert_true(n_small < 64);
	assert_true(n_large < n_small + 64);
	sim_thread_enter(small);
	sim_machine_free(small);
	sim_thread_enter(large);
	sim_machine_free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_layout_has_linux_figures),
		cmocka_unit_test(classic_32_bit_layout),
		cmocka_unit_test(odd_layouts),
		cmocka_unit_test(tiny_machine),
		cmocka_unit_test(impossible_layouts_are_named),
		cmocka_unit_test(early_memory_is_reserved),
		cmocka_unit_test(boot_touches_the_same_few_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
