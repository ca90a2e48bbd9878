/* Bad input and debugging: each mistake ends the machine with a line that names frame and caller. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fmt.h>
#include <phys/phys.h>
#include <port/sim/sim.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One mistake, made on a machine of its own. */
struct mistake {
	struct quire *q;
	struct frame *f;
	unsigned order;
};

static struct quire *boot(bool poison, bool owner)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){.debug_poison = poison, .debug_owner = owner});

	assert_int_equal(phys_init(q), 0);
	return q;
}

static void expect(void (*fn)(void *arg), struct mistake *m, const char *why)
{
	const char *text = sim_expect_panic(fn, m);
	char pfn[32];

	if (!text)
		fail_msg("no panic, expected: %s", why);
	if (!strstr(text, why))
		fail_msg("expected \"%s\" in: %s", why, text);
	snprintf(pfn, sizeof(pfn), "pfn:%#x", (unsigned)(m->f - m->q->cfg.mem_map));
	if (!strstr(text, pfn) || !strstr(text, "caller 0x"))
		fail_msg("frame %s or caller not named in: %s", pfn, text);
	sim_machine_free(m->q);
}

static void do_free(void *arg)
{
	struct mistake *m = arg;

	__free_pages(m->q, m->f, m->order);
}

static void free_twice(void **state)
{
	static const unsigned orders[] = {0, 3, 5, 9, 10};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		struct mistake m = {.q = boot(false, i & 1), .order = orders[i]};

		m.f = alloc_pages(m.q, GFP_KERNEL, m.order);
		__free_pages(m.q, m.f, m.order);
		expect(do_free, &m, "double free");
	}
}

static void free_twice_after_the_merge(void **state)
{
	struct mistake m = {.q = boot(false, false)};
	struct frame *f = alloc_pages(m.q, GFP_KERNEL, 5);

	split_page(m.q, f, 5);
	for (int i = 0; i < 32; i++)
		__free_pages(m.q, f + i, 0);
	drain_all_pages(m.q);
	m.f = f + 5;
	expect(do_free, &m, "double free: it is inside a free block");
}

static void free_the_middle(void **state)
{
	struct mistake m = {.q = boot(false, false)};

	m.f = alloc_pages(m.q, GFP_KERNEL, 4) + 3;
	expect(do_free, &m, "free of the middle of a block");
}

static void free_with_the_wrong_order(void **state)
{
	struct mistake m = {.q = boot(false, false), .order = 2};

	m.f = alloc_pages(m.q, GFP_KERNEL, 3);
	expect(do_free, &m, "another order");
}

static void free_what_never_was(void **state)
{
	struct mistake m = {.q = boot(false, false)};

	m.f = m.q->cfg.mem_map + 9000; /* virgin */
	expect(do_free, &m, "never allocated");
	m = (struct mistake){.q = boot(false, false)};
	m.f = m.q->cfg.mem_map;
	expect(do_free, &m, "reserved frame");
}

static void free_in_use(void **state)
{
	struct mistake m = {.q = boot(false, false)};

	m.f = alloc_page(m.q, GFP_KERNEL);
	m.f->mapcount = 1;
	expect(do_free, &m, "freed while mapped");
	m = (struct mistake){.q = boot(false, false)};
	m.f = alloc_page(m.q, GFP_KERNEL);
	m.f->flags = FF_LRU;
	expect(do_free, &m, "freed while on an LRU list");
	m = (struct mistake){.q = boot(false, false)};
	m.f = alloc_page(m.q, GFP_KERNEL);
	m.f->flags = FF_WRITEBACK;
	expect(do_free, &m, "freed while under writeback");
}

static void free_no_record(void **state)
{
	struct mistake m = {.q = boot(false, false)};
	const char *text;

	m.f = (struct frame *)((char *)m.q->cfg.mem_map + 17);
	text = sim_expect_panic(do_free, &m);
	assert_non_null(strstr(text, "no frame record"));
	sim_machine_free(m.q);
	m.q = boot(false, false);
	m.f = m.q->cfg.mem_map + (64 << 8);
	text = sim_expect_panic(do_free, &m);
	assert_non_null(strstr(text, "no frame record"));
	sim_machine_free(m.q);
}

static void do_free_bulk(void *arg)
{
	struct mistake *m = arg;

	free_pages_bulk(m->q, 1, &m->f);
}

static void do_free_address(void *arg)
{
	struct mistake *m = arg;

	free_pages(m->q, m->f, 0);
}

static void other_ways_to_free(void **state)
{
	struct mistake m = {.q = boot(false, false)};
	const char *text;
	int local;

	m.f = alloc_page(m.q, GFP_KERNEL);
	__free_pages(m.q, m.f, 0);
	expect(do_free_bulk, &m, "double free");
	m.q = boot(false, false);
	m.f = (void *)&local;
	text = sim_expect_panic(do_free_address, &m);
	assert_non_null(strstr(text, "Bad address"));
	sim_machine_free(m.q);
}

static void put_too_much(void *arg)
{
	struct mistake *m = arg;

	folio_put(m->q, (struct folio *)m->f, 3);
}

static void more_put_than_taken(void **state)
{
	struct mistake m = {.q = boot(false, false)};

	m.f = alloc_page(m.q, GFP_KERNEL);
	m.f->refcount = 2;
	expect(put_too_much, &m, "more references put than taken");
	m = (struct mistake){.q = boot(false, false)};
	m.f = alloc_page(m.q, GFP_KERNEL);
	__free_pages(m.q, m.f, 0);
	expect(put_too_much, &m, "double free");
}

/* ---- poison ---- */

static void alloc_all(void *arg)
{
	struct mistake *m = arg;

	while (alloc_page(m->q, GFP_KERNEL | __GFP_MEMALLOC | __GFP_NOWARN))
		;
}

static void write_after_free_is_found(void **state)
{
	static const u32 at[] = {0, 1, 2049, 4095};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		struct mistake m = {.q = boot(true, true)};
		u8 *p;
		char where[40];

		m.f = alloc_page(m.q, GFP_KERNEL);
		p = frame_address(m.q, m.f);
		__free_pages(m.q, m.f, 0);
		p[at[i]] ^= i ? 1 : 0x77;
		snprintf(where, sizeof(where), "byte %u is", at[i]);
		{
			struct quire *q = m.q;
			const char *text = sim_expect_panic(alloc_all, &m);

			assert_non_null(text);
			assert_non_null(strstr(text, where));
			assert_non_null(strstr(text, "Write after free"));
			drain_all_pages(q); /* no transaction is open: sends the log out */
			quire_log(q, 6, "-");
			assert_non_null(strstr(sim_log_text(q), i ? "single bit error" : "memory corruption"));
			assert_non_null(strstr(sim_log_text(q), "last allocated via 0x"));
			sim_machine_free(q);
		}
	}
}

static void write_to_virgin_memory_is_found(void **state)
{
	struct mistake m = {.q = boot(true, false)};

	m.f = m.q->cfg.mem_map + 9000;
	*(u8 *)frame_address(m.q, m.f) = 1;
	expect(alloc_all, &m, "Write after free");
}

static void false_promise_of_zero_is_found(void **state)
{
	struct mistake m = {.q = boot(true, false)};

	m.f = alloc_page(m.q, GFP_KERNEL);
	*(u8 *)frame_address(m.q, m.f) = 1;
	m.f->flags |= FF_ZEROED;
	expect(do_free, &m, "Write after free");
}

static void poison_survives_merges_and_splits(void **state)
{
	struct quire *q = boot(true, false);
	struct frame *f[64];
	struct mistake m = {.q = q};
	unsigned round, i;

	/* Halves of virgin blocks merge with poisoned ones; everything must stay checked. */
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 64; i++)
			f[i] = alloc_pages(q, i & 1 ? GFP_KERNEL : GFP_HIGHUSER_MOVABLE, i % 7);
		for (i = 0; i < 64; i++) {
			memset(frame_address(q, f[i]), (int)round, PAGE_SIZE);
			__free_pages(q, f[i], i % 7);
		}
		drain_all_pages(q);
		assert_true(phys_is_valid(q));
	}
	m.f = f[0] + 1;
	*(u8 *)frame_address(q, m.f) = 3;
	expect(alloc_all, &m, "Write after free");
}

/* ---- owners ---- */

static struct frame *__attribute__((noinline)) here(struct quire *q)
{
	struct frame *f = alloc_pages(q, GFP_KERNEL, 2);

	__asm__ volatile("");
	return f;
}

static struct frame *__attribute__((noinline)) there(struct quire *q)
{
	struct frame *f = alloc_page(q, GFP_KERNEL);

	__asm__ volatile("");
	return f;
}

static void owners_are_counted_by_call_site(void **state)
{
	struct quire *q = boot(false, true);
	char text[4096], line[80];
	struct fmt_buf b = fmt_init(text, sizeof(text));
	struct frame *f[10], *g[3];
	unsigned i;

	for (i = 0; i < 10; i++)
		f[i] = here(q);
	for (i = 0; i < 3; i++)
		g[i] = there(q);
	phys_show_owners(q, &b);
	snprintf(line, sizeof(line), "%10d %10d %10d  0x", 40, 10, 10);
	assert_non_null(strstr(text, line));
	snprintf(line, sizeof(line), "%10d %10d %10d  0x", 3, 3, 3);
	assert_non_null(strstr(text, line));
	for (i = 0; i < 10; i++)
		__free_pages(q, f[i], 2);
	for (i = 0; i < 3; i++)
		__free_pages(q, g[i], 0);
	b = fmt_init(text, sizeof(text));
	phys_show_owners(q, &b);
	snprintf(line, sizeof(line), "%10d %10d %10d  0x", 0, 0, 10);
	assert_non_null(strstr(text, line));
	free_pages_exact(q, alloc_pages_exact(q, 3 * PAGE_SIZE, GFP_KERNEL), 3 * PAGE_SIZE);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

/* ---- the walker finds what is wrong ---- */

static void walker_sees_damage(void **state)
{
	unsigned what;

	for (what = 0; what < 10; what++) {
		struct quire *q = boot(false, false);
		struct frame *f = alloc_pages(q, GFP_KERNEL, 5), *g = alloc_page(q, GFP_KERNEL);
		struct zone *z = pfn_zone(q, frame_to_pfn(q, f));
		struct frame *listed;

		__free_pages(q, g, 0);
		listed = q->cfg.mem_map + z->free_area[6].free_list[MIGRATE_UNMOVABLE].first - 1;
		assert_true(z->free_area[6].free_list[MIGRATE_UNMOVABLE].first);
		assert_true(phys_is_valid(q));
		switch (what) {
		case 0: z->nr_free++; break;
		case 1: z->free_area[6].nr_free--; break;
		case 2: f[4].type = FRAME_KERNEL; break;
		case 3: f->type = FRAME_FREE; break;
		case 4: listed->refcount = 1; break;
		case 5: listed->head_off = MIGRATE_MOVABLE; break;
		case 6: g->type = FRAME_KERNEL; break;
		case 7: q->phys.cpus[0].pcp[pfn_zone_idx(q, frame_to_pfn(q, g))].count++; break;
		case 8: q->phys.pageblock_mt[frame_to_pfn(q, f) >> PAGEBLOCK_ORDER] ^= 3; break;
		case 9: q->cfg.mem_map[z->virgin_end - 1].index = 1; break;
		}
		if (phys_is_valid(q))
			fail_msg("damage %u was not seen", what);
		sim_machine_free(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(free_twice),
		cmocka_unit_test(free_twice_after_the_merge),
		cmocka_unit_test(free_the_middle),
		cmocka_unit_test(free_with_the_wrong_order),
		cmocka_unit_test(free_what_never_was),
		cmocka_unit_test(free_in_use),
		cmocka_unit_test(free_no_record),
		cmocka_unit_test(other_ways_to_free),
		cmocka_unit_test(more_put_than_taken),
		cmocka_unit_test(write_after_free_is_found),
		cmocka_unit_test(write_to_virgin_memory_is_found),
		cmocka_unit_test(false_promise_of_zero_is_found),
		cmocka_unit_test(poison_survives_merges_and_splits),
		cmocka_unit_test(owners_are_counted_by_call_site),
		cmocka_unit_test(walker_sees_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
