/*
 * Faults on several CPUs at once, on one address space and on forks of it, beside mapping calls, writeback and
 * truncation.  Run with real threads (for TSan) and with seeded interleavings.
 *
 * What must hold: a page that only one thread writes reads back what it wrote, whatever the others do to their
 * pages of the same folio; counters that all threads add to atomically lose nothing; a page unmapped and mapped again
 * is zero; and the books balance at the end.
 */
#include "testutil.h"

#define THREADS 4u
#define OWN_PAGES 64u /* interleaved: page i belongs to thread i % THREADS */
#define COUNTERS 8u

struct shared {
	struct mm_struct *mm;
	struct test_file *t;
	u64 own, counters, scratch, file, priv; /* addresses */
	u64 rounds;
	u64 adds[THREADS];
	u64 bad;            /* threads' failed checks: cmocka asserts only work in the main thread */
};

static u64 rnd(u64 *s, u64 n)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return (*s >> 24) % n;
}

static void expect(struct shared *sh, bool ok)
{
	if (!ok)
		__atomic_fetch_add(&sh->bad, 1, __ATOMIC_RELAXED);
}

static void own_pages(struct shared *sh, struct sim_cpu *cpu, unsigned i, u64 *seed, u64 *last)
{
	u64 k = rnd(seed, OWN_PAGES / THREADS), addr = sh->own + (k * THREADS + i) * PAGE_SIZE + i * 8, v = 0;

	expect(sh, sim_load(cpu, addr, 8, &v) == 0 && v == last[k]);
	last[k] = rnd(seed, ~0ull);
	expect(sh, sim_store(cpu, addr, 8, last[k]) == 0);
}

/* Each thread unmaps and maps its own stretch of scratch; fresh memory is zero. */
static void remap(struct shared *sh, struct sim_cpu *cpu, unsigned i, u64 *seed)
{
	u64 a = sh->scratch + i * 256 * KIB, off = rnd(seed, 64) * PAGE_SIZE, v = 1;

	expect(sh, do_munmap(sh->mm, a, 256 * KIB) == 0);
	expect(sh, do_mmap(sh->mm, NULL, a, 256 * KIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) == (long)a);
	expect(sh, sim_load(cpu, a + off, 8, &v) == 0 && v == 0);
	expect(sh, sim_store(cpu, a + off + 8, 8, 5) == 0);
}

static void fork_and_look(struct shared *sh, struct sim_cpu *cpu, unsigned i, const u64 *last)
{
	struct mm_struct *child = dup_mm(sh->mm);
	u64 k, v;

	if (IS_ERR(child)) {
		expect(sh, false);
		return;
	}
	sim_cpu_switch_mm(cpu, child);
	for (k = 0; k < OWN_PAGES / THREADS; k++) {
		u64 addr = sh->own + (k * THREADS + i) * PAGE_SIZE + i * 8;

		expect(sh, sim_load(cpu, addr, 8, &v) == 0 && v == last[k]);
		if (k & 1)
			expect(sh, sim_store(cpu, addr, 8, 0xdead) == 0);
	}
	sim_cpu_switch_mm(cpu, sh->mm);
	mmput(child);
}

static void file_work(struct shared *sh, struct sim_cpu *cpu, unsigned i, u64 *seed)
{
	u64 off = rnd(seed, 32) * PAGE_SIZE + i * 64, v;

	switch (rnd(seed, 4)) {
	case 0:
		expect(sh, sim_store(cpu, sh->file + off, 8, off) == 0);
		break;
	case 1:
		expect(sh, sim_load(cpu, sh->priv + off, 8, &v) == 0);
		break;
	case 2:
		expect(sh, sim_store(cpu, sh->priv + off, 8, 3) == 0);
		break;
	default:
		if (i == 0)
			invalidate_mapping_range(sh->t->m, 16 * PAGE_SIZE, 32 * PAGE_SIZE);
		else
			expect(sh, filemap_sync(sh->t->m, 0, 16 * PAGE_SIZE, true) == 0);
	}
}

static void worker(struct quire *q, unsigned i, void *arg)
{
	struct shared *sh = arg;
	struct sim_cpu *cpu = sim_cpu_get(q, i);
	u64 seed = q->cfg.seed * 31 + i, last[OWN_PAGES / THREADS] = { 0 }, n, old;

	sim_cpu_switch_mm(cpu, sh->mm);
	sim_cpu_set_el(cpu, 0);
	for (n = 0; n < sh->rounds; n++) {
		u64 k = rnd(&seed, 100);

		if (k < 50) {
			own_pages(sh, cpu, i, &seed, last);
		} else if (k < 70) {
			u64 addr = sh->counters + rnd(&seed, COUNTERS) * PAGE_SIZE;

			expect(sh, sim_fetch_add(cpu, addr, 8, 1, &old) == 0);
			sh->adds[i]++;
		} else if (k < 90) {
			file_work(sh, cpu, i, &seed);
		} else if (k < 97) {
			remap(sh, cpu, i, &seed);
		} else {
			fork_and_look(sh, cpu, i, last);
		}
	}
	sim_cpu_switch_mm(cpu, NULL);
}

static void run(const struct sim_config *cfg, u64 rounds)
{
	struct rig r = rig_new(cfg);
	struct shared sh = { .mm = r.mm, .rounds = rounds };
	u64 sum = 0, adds = 0, i;

	r.q->cfg.seed = cfg->seed;
	sh.t = tf_new(r.q, 1, 32 * PAGE_SIZE, 0);
	sh.own = map_anon(r.mm, 0x10000000, OWN_PAGES * PAGE_SIZE, RW);
	sh.counters = map_anon(r.mm, 0x20000000, COUNTERS * PAGE_SIZE, RW);
	sh.scratch = map_anon(r.mm, 0x30000000, THREADS * 256 * KIB, RW);
	sh.file = map_file(r.mm, sh.t->file, 32 * PAGE_SIZE, RW, MAP_SHARED, 0);
	sh.priv = map_file(r.mm, sh.t->file, 32 * PAGE_SIZE, RW, MAP_PRIVATE, 0);
	sim_run(r.q, THREADS, worker, &sh);
	assert_int_equal(sh.bad, 0);
	sim_cpu_switch_mm(r.cpu, r.mm);
	for (i = 0; i < COUNTERS; i++)
		sum += load8(&r, sh.counters + i * PAGE_SIZE);
	for (i = 0; i < THREADS; i++)
		adds += sh.adds[i];
	assert_int_equal(sum, adds);
	assert_int_equal(sim_tlb_check(r.q), 0);
	rig_drop_mm(&r);
	file_put(sh.t->file);
	assert_true(sh.t->released);
	tf_free(sh.t);
	rig_free(&r);
}

static u64 rounds(void)
{
	const char *s = getenv("QUIRE_STEPS");

	return s ? strtoull(s, NULL, 0) : 1500;
}

static struct sim_config config(u64 seed, u32 order)
{
	return (struct sim_config){ .memory = 64 * MIB, .nr_cpus = THREADS, .seed = seed, .folio_max_order = order,
				    .overcommit_memory = 1, .check_law1 = true, .check_reuse = true,
				    .break_percent = 5 };
}

static void test_threads(void **state)
{
	struct sim_config cfg = config(sim_seed(1), 4);

	(void)state;
	cfg.tlb = SIM_TLB_STRICT;
	run(&cfg, rounds());
}

/* Flushes that take effect late, at port_tlb_sync() at the latest. */
static void test_threads_late_flush(void **state)
{
	struct sim_config cfg = config(sim_seed(4), 9);

	(void)state;
	run(&cfg, rounds());
	cfg.tlb = SIM_TLB_HOSTED;
	run(&cfg, rounds());
}

static void test_threads_4k(void **state)
{
	struct sim_config cfg = config(sim_seed(2), 0);

	(void)state;
	cfg.tlb = SIM_TLB_STRICT;
	run(&cfg, rounds());
}

static void test_interleavings(void **state)
{
	u64 seed = sim_seed(3), i;

	(void)state;
	for (i = 0; i < 8; i++) {
		struct sim_config cfg = config(seed + i, i & 1 ? 4 : 0);

		cfg.sched = SIM_SCHED_ONE;
		cfg.tlb = SIM_TLB_STRICT;
		run(&cfg, rounds() / 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads), cmocka_unit_test(test_threads_4k),
		cmocka_unit_test(test_threads_late_flush), cmocka_unit_test(test_interleavings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
