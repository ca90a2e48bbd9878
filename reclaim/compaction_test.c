/*
 * Compaction: memory is broken into crumbs, and becomes whole blocks again without a byte being lost; by /proc's command, and because an
 * allocation needs a block; beside programs that go on; not where it cannot be.
 */
#include "../fault/testutil.h"
#include <port/sim/simfs.h>
#include "reclaim.h"

#define PAGES 6000u

/* Fills most of memory with pages and frees every second one. */
static u64 make_crumbs(struct rig *r)
{
	u64 a = map_anon(r->mm, 0, PAGES * PAGE_SIZE, RW);

	for (u64 i = 0; i < PAGES; i++)
		store8(r, a + i * PAGE_SIZE, i + 1);
	for (u64 i = 1; i < PAGES; i += 2)
		assert_int_equal(do_madvise(r->mm, a + i * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED), 0);
	drain_all_pages(r->q);
	return a;
}

static void check_crumbs(struct rig *r, u64 a)
{
	for (u64 i = 0; i < PAGES; i++)
		assert_int_equal(load8(r, a + i * PAGE_SIZE), i & 1 ? 0 : i + 1);
}

/* What is left of the largest blocks. */
static void take_whole_blocks(struct quire *q, unsigned order)
{
	while (alloc_pages(q, (GFP_KERNEL | __GFP_NOWARN) & ~__GFP_DIRECT_RECLAIM, order))
		;
}

static struct rig crumbled(struct sim_config cfg, u64 *a)
{
	struct rig r;

	cfg.memory = 32 * MIB;
	cfg.zones = &zone_layout_flat;
	cfg.check_law1 = cfg.check_reuse = true;
	r = rig_new(&cfg);
	*a = make_crumbs(&r);
	take_whole_blocks(r.q, 4);
	return r;
}

/* The frames that take_whole_blocks() took are never given back: the machine ends with them. */
static void crumbled_end(struct rig *r)
{
	rig_drop_mm(r);
	assert_true(phys_is_valid(r->q));
	assert_int_equal(port_ctx()->nparked, 0);
	sim_machine_free(r->q);
}

static u64 free_blocks(struct quire *q, unsigned order)
{
	u64 n = 0;

	for (unsigned z = 0; z < MAX_NR_ZONES; z++)
		for (unsigned o = order; o <= MAX_ORDER; o++)
			n += q->phys.zones[z].free_area[o].nr_free << (o - order);
	return n;
}

static void test_command(void **state)
{
	for (int tlb = SIM_TLB_NORMAL; tlb <= SIM_TLB_HOSTED; tlb++) {
		u64 a, before;
		struct rig r = crumbled((struct sim_config){ .tlb = (enum sim_tlb_mode)tlb, .break_percent = 5 }, &a);

		before = nr_free_pages(r.q);
		assert_int_equal(free_blocks(r.q, 4), 0);
		compact_memory(r.q);
		print_message("%lu free frames: %lu blocks of 64 KiB, %lu of 2 MiB; %lu moved\n", (unsigned long)before,
			      (unsigned long)free_blocks(r.q, 4), (unsigned long)free_blocks(r.q, 9),
			      (unsigned long)r.q->vm_events[PGMIGRATE_SUCCESS]);
		assert_true(free_blocks(r.q, 4) * 16 >= before * 7 / 10);
		assert_true(free_blocks(r.q, 9) >= 2);
		assert_true(nr_free_pages(r.q) + 64 >= before);
		assert_true(mm_is_valid(r.mm));
		check_crumbs(&r, a);
		crumbled_end(&r);
	}
}

/* Who asks for a block gets one. */
static void test_direct(void **state)
{
	static const unsigned orders[] = { 2, 4, 9 };

	for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
		u64 a;
		struct rig r = crumbled((struct sim_config){ 0 }, &a);
		struct frame *f;

		assert_null(alloc_pages(r.q, (GFP_HIGHUSER_MOVABLE | __GFP_NOWARN) & ~__GFP_DIRECT_RECLAIM, orders[i] > 3 ? orders[i] : 4));
		f = alloc_pages(r.q, GFP_HIGHUSER_MOVABLE, orders[i]);
		assert_non_null(f);
		if (orders[i] > 3)
			assert_true(r.q->vm_events[COMPACT_SUCCESS] > 0);
		__free_pages(r.q, f, orders[i]);
		check_crumbs(&r, a);
		crumbled_end(&r);
	}
}

/* Pages of files are in the way: clean ones go, dirty ones and locked ones stay where they are. */
static void test_files_in_the_way(void **state)
{
	struct sim_config cfg = { .memory = 32 * MIB, .zones = &zone_layout_flat };
	struct rig r = rig_new(&cfg);
	struct file *f = sim_file_create(r.q, "/f", NULL, 3000 * PAGE_SIZE);
	u64 a = map_file(r.mm, f, 3000 * PAGE_SIZE, RW, MAP_SHARED, 0);

	for (u64 i = 0; i < 3000; i++)
		load8(&r, a + i * PAGE_SIZE);
	for (u64 i = 0; i < 3000; i += 100)
		store8(&r, a + i * PAGE_SIZE, i + 1);
	for (u64 i = 0; i < 3000; i += 2)
		assert_int_equal(do_madvise(r.mm, a + i * PAGE_SIZE, PAGE_SIZE, MADV_PAGEOUT), 0);
	drain_all_pages(r.q);
	compact_memory(r.q);
	assert_true(r.q->vm_events[PGSTEAL_FILE] > 1600);
	for (u64 i = 0; i < 3000; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE), i % 100 ? 0 : i + 1);
	assert_int_equal(do_munmap(r.mm, a, 3000 * PAGE_SIZE), 0);
	sim_file_unlink(r.q, "/f");
	file_put(f);
	rig_free(&r);
}

/* Nothing moves where there is no memory to move to, or where the pages are pinned. */
static void test_cannot(void **state)
{
	u64 a;
	struct rig r = crumbled((struct sim_config){ 0 }, &a);
	u64 before = nr_free_pages(r.q);

	sim_fail_from(r.q, BIT(FAIL_PAGE), 1);
	compact_memory(r.q);
	sim_fail_none(r.q);
	assert_int_equal(r.q->vm_events[PGMIGRATE_SUCCESS], 0);
	drain_all_pages(r.q);
	assert_int_equal(nr_free_pages(r.q), before);
	sim_pin_range(r.mm, a, a + PAGES * PAGE_SIZE);
	compact_memory(r.q);
	assert_int_equal(r.q->vm_events[PGMIGRATE_SUCCESS], 0);
	sim_unpin_range(r.mm, a, a + PAGES * PAGE_SIZE);
	drain_all_pages(r.q);
	assert_int_equal(nr_free_pages(r.q), before);
	check_crumbs(&r, a);
	crumbled_end(&r);
}

/* ---- beside programs ---- */

struct together {
	u64 rounds, bad;
	u32 running;
};

static void program(struct quire *q, struct together *t, unsigned i)
{
	struct mm_struct *mm = mm_alloc(q, NULL);
	struct sim_cpu *cpu = sim_cpu_get(q, i);
	u64 rnd = q->cfg.seed * 77 + i, v, last[64] = { 0 };
	long a = do_mmap(mm, NULL, 0, 64 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, 0);

	sim_cpu_switch_mm(cpu, mm);
	sim_cpu_set_el(cpu, 0);
	for (u64 n = 0; n < t->rounds; n++) {
		u64 k, at;

		rnd = rnd * 6364136223846793005ull + 1442695040888963407ull;
		k = (rnd >> 33) % 64;
		at = (u64)a + k * PAGE_SIZE;
		if ((rnd >> 45) % 8 == 0) {
			do_madvise(mm, at, PAGE_SIZE, MADV_DONTNEED);
			last[k] = 0;
		}
		if (sim_load(cpu, at, 8, &v) || v != last[k] || sim_store(cpu, at, 8, last[k] = rnd))
			__atomic_fetch_add(&t->bad, 1, __ATOMIC_RELAXED);
	}
	sim_cpu_switch_mm(cpu, NULL);
	mmput(mm);
	__atomic_fetch_sub(&t->running, 1, __ATOMIC_RELEASE);
}

static void worker(struct quire *q, unsigned i, void *arg)
{
	struct together *t = arg;

	if (i > 1) {
		program(q, t, i);
		return;
	}
	while (__atomic_load_n(&t->running, __ATOMIC_ACQUIRE)) {
		compact_memory(q);
		sim_preempt();
	}
}

static void run_together(struct sim_config cfg, u64 rounds)
{
	struct together t = { .rounds = rounds, .running = 2 };
	struct rig r;

	cfg.memory = 8 * MIB;
	cfg.nr_cpus = 4;
	cfg.zones = &zone_layout_flat;
	cfg.check_law1 = cfg.check_reuse = true;
	r = rig_new(&cfg);
	r.q->cfg.seed = cfg.seed;
	sim_run(r.q, 4, worker, &t);
	assert_int_equal(t.bad, 0);
	rig_free(&r);
}

static void test_beside_programs(void **state)
{
	const char *s = getenv("QUIRE_STEPS");
	u64 rounds = s ? strtoull(s, NULL, 0) : 3000;

	run_together((struct sim_config){ .seed = sim_seed(5), .tlb = SIM_TLB_HOSTED }, rounds);
	run_together((struct sim_config){ .seed = sim_seed(6) }, rounds);
	run_together((struct sim_config){ .seed = sim_seed(7), .sched = SIM_SCHED_ONE, .break_percent = 5 }, rounds / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_command), cmocka_unit_test(test_direct), cmocka_unit_test(test_files_in_the_way),
		cmocka_unit_test(test_cannot), cmocka_unit_test(test_beside_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
