/*
 * Moving pages: the bytes, the rights and the books afterwards; what must be refused; a migrator beside programs that write,
 * fork, unmap and exit, on machines whose translations die late.
 */
#include "../fault/testutil.h"
#include <reclaim/reclaim.h>
#include <unistd.h>

#define BASE 0x10000000ull
#define PAGES 96u

/* A guess, without any lock: migrate_folios() looks again. */
#ifdef __SANITIZE_THREAD__
__attribute__((no_sanitize("thread"), noinline))
#endif
static bool looks_anonymous(struct quire *q, pfn_t pfn)
{
	return pfn_to_frame(q, pfn)->type == FRAME_ANON;
}

/* Every anonymous folio of the machine is asked to move once. */
static u32 move_all(struct quire *q)
{
	pfn_t heads[MIGRATE_BATCH], pfn, end = (pfn_t)(q->cfg.memory >> PAGE_SHIFT);
	u32 n = 0, moved = 0;

	for (pfn = 0; pfn < end; pfn++) {
		if (looks_anonymous(q, pfn))
			heads[n++] = pfn;
		if (n == MIGRATE_BATCH || (n && pfn + 1 == end)) {
			moved += migrate_folios(q, heads, n);
			n = 0;
		}
	}
	return moved;
}

static void fill(struct rig *r, u64 salt)
{
	for (u64 i = 0; i < PAGES; i++)
		store8(r, BASE + i * PAGE_SIZE, salt + i);
}

static void expect_filled(struct rig *r, u64 salt)
{
	for (u64 i = 0; i < PAGES; i++)
		assert_int_equal(load8(r, BASE + i * PAGE_SIZE), salt + i);
}

static void test_bytes_and_rights(void **state)
{
	for (u32 order = 0; order <= 9; order += order ? 5 : 4) {
		struct sim_config cfg = { .memory = 64 * MIB, .folio_max_order = order, .check_law1 = true, .check_reuse = true };
		struct rig r = rig_new(&cfg);
		pfn_t before;

		map_anon(r.mm, BASE, PAGES * PAGE_SIZE, RW);
		fill(&r, 1000);
		assert_int_equal(do_mprotect(r.mm, BASE, 8 * PAGE_SIZE, PROT_READ), 0);
		before = pte_pfn(pte_of(r.mm, BASE));
		assert_true(move_all(r.q) > 0);
		assert_true(pte_pfn(pte_of(r.mm, BASE)) != before);
		assert_true(mm_is_valid(r.mm) && phys_is_valid(r.q));
		expect_filled(&r, 1000);
		expect_signal(&r, SIM_WRITE, BASE, 11, 2 /* SIGSEGV, SEGV_ACCERR */);
		store8(&r, BASE + 9 * PAGE_SIZE, 5);
		assert_int_equal(load8(&r, BASE + 9 * PAGE_SIZE), 5);
		rig_free(&r);
	}
	(void)state;
}

static void test_shared_by_fork(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true };
	struct rig r = rig_new(&cfg);
	struct mm_struct *child;
	u64 anon;

	map_anon(r.mm, BASE, PAGES * PAGE_SIZE, RW);
	fill(&r, 7);
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	anon = r.q->nr_anon_pages;
	assert_true(move_all(r.q) > 0);
	assert_int_equal(pte_pfn(pte_of(r.mm, BASE)), pte_pfn(pte_of(child, BASE)));
	assert_int_equal(r.q->nr_anon_pages, anon);
	fill(&r, 500);
	sim_cpu_switch_mm(r.cpu, child);
	expect_filled(&r, 7);
	assert_true(mm_is_valid(r.mm) && mm_is_valid(child));
	sim_cpu_switch_mm(r.cpu, r.mm);
	expect_filled(&r, 500);
	mmput(child);
	rig_free(&r);
	(void)state;
}

static void test_refused(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);
	u32 pfn;
	pfn_t pinned;

	map_anon(r.mm, BASE, PAGES * PAGE_SIZE, RW);
	fill(&r, 1);
	sim_pin_range(r.mm, BASE, BASE + 16 * PAGE_SIZE);
	pinned = pte_pfn(pte_of(r.mm, BASE + 3 * PAGE_SIZE));
	assert_int_equal(get_user_pages(r.mm, BASE + 20 * PAGE_SIZE, 1, true, &pfn), 1);
	assert_true(move_all(r.q) >= PAGES - 17);
	assert_int_equal(pte_pfn(pte_of(r.mm, BASE + 3 * PAGE_SIZE)), pinned);
	assert_int_equal(pte_pfn(pte_of(r.mm, BASE + 20 * PAGE_SIZE)), pfn);
	assert_int_equal(port_ctx()->nparked, 0);
	assert_int_equal(port_ctx()->nmms, 1); /* the rig's own */
	sim_unpin_range(r.mm, BASE, BASE + 16 * PAGE_SIZE);
	put_user_pages(r.q, &pfn, 1, true);
	assert_true(move_all(r.q) >= PAGES); /* some more than once */
	expect_filled(&r, 1);
	rig_free(&r);
	(void)state;
}

#define FAMILY 56u

static void make_kin(struct mm_struct *mm, struct mm_struct **kin)
{
	for (unsigned i = 0; i < FAMILY; i++) {
		kin[i] = dup_mm(mm);
		assert_false(IS_ERR(kin[i]));
	}
}

static void drop_kin(struct mm_struct **kin)
{
	for (unsigned i = 0; i < FAMILY; i++) {
		assert_true(mm_is_valid(kin[i]));
		mmput(kin[i]);
	}
}

/* Pages that only one or two of a large family map move, whoever they are; those that all map stay. */
static void test_few_of_a_family(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB, .check_law1 = true, .check_reuse = true };
	struct rig r = rig_new(&cfg);
	struct mm_struct *kin[FAMILY], *child;
	pfn_t first, second, shared;

	map_anon(r.mm, BASE, PAGES * PAGE_SIZE, RW);
	store8(&r, BASE, 1);
	store8(&r, BASE + PAGE_SIZE, 2);
	make_kin(r.mm, kin);
	store8(&r, BASE, 3); /* the family's oldest has a page of its own */
	sim_cpu_switch_mm(r.cpu, kin[0]);
	store8(&r, BASE, 4);
	child = dup_mm(kin[0]);
	assert_false(IS_ERR(child));
	first = pte_pfn(pte_of(r.mm, BASE));
	second = pte_pfn(pte_of(kin[0], BASE));
	shared = pte_pfn(pte_of(r.mm, BASE + PAGE_SIZE));
	assert_int_equal(migrate_folios(r.q, (pfn_t[]){ shared, first, second }, 3), 2);
	assert_true(pte_pfn(pte_of(r.mm, BASE)) != first);
	assert_true(pte_pfn(pte_of(kin[0], BASE)) != second);
	assert_int_equal(pte_pfn(pte_of(kin[0], BASE)), pte_pfn(pte_of(child, BASE)));
	assert_int_equal(load8(&r, BASE), 4);
	assert_int_equal(load8(&r, BASE + PAGE_SIZE), 2);
	sim_cpu_switch_mm(r.cpu, r.mm);
	assert_int_equal(load8(&r, BASE), 3);
	assert_int_equal(port_ctx()->nmms, 1 + FAMILY + 1); /* what migration held is given back */
	mmput(child);
	drop_kin(kin);
	rig_free(&r);
	(void)state;
}

/* What is refused must not take its address spaces into the batch, where they would leave no room for others. */
static void test_refused_take_no_room(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);
	struct mm_struct *kin[2][FAMILY], *other = mm_alloc(r.q, NULL), *last = mm_alloc(r.q, NULL);
	pfn_t heads[3];

	for (unsigned i = 0; i < 2; i++) {
		struct mm_struct *mm = i ? other : r.mm;

		map_anon(mm, BASE, PAGE_SIZE, RW);
		sim_cpu_switch_mm(r.cpu, mm);
		store8(&r, BASE, i);
		make_kin(mm, kin[i]);
		heads[i] = pte_pfn(pte_of(mm, BASE));
	}
	map_anon(last, BASE, PAGE_SIZE, RW);
	sim_cpu_switch_mm(r.cpu, last);
	store8(&r, BASE, 2);
	heads[2] = pte_pfn(pte_of(last, BASE));
	assert_int_equal(migrate_folios(r.q, heads, 3), 1);
	assert_int_equal(load8(&r, BASE), 2);
	sim_cpu_switch_mm(r.cpu, r.mm);
	drop_kin(kin[0]);
	drop_kin(kin[1]);
	mmput(other);
	mmput(last);
	rig_free(&r);
	(void)state;
}

/* No frame anywhere: everything stays as it is. */
static void test_no_memory(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);

	map_anon(r.mm, BASE, PAGES * PAGE_SIZE, RW);
	fill(&r, 1);
	sim_fail_from(r.q, BIT(FAIL_PAGE), 1);
	assert_int_equal(move_all(r.q), 0);
	sim_fail_none(r.q);
	assert_true(mm_is_valid(r.mm));
	expect_filled(&r, 1);
	rig_free(&r);
	(void)state;
}

/* ---- beside programs ---- */

#define THREADS 4u
#define OWN 24u
#define KIN 49u

struct together {
	u64 rounds, bad, moved;
	u32 running;
};

static u64 rnd(u64 *s, u64 n)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return (*s >> 24) % n;
}

static void expect(struct together *t, bool ok)
{
	if (!ok)
		__atomic_fetch_add(&t->bad, 1, __ATOMIC_RELAXED);
}

static void check_own(struct together *t, struct sim_cpu *cpu, const u64 *last)
{
	for (u64 k = 0; k < OWN; k++) {
		u64 v = 0;

		expect(t, sim_load(cpu, BASE + k * PAGE_SIZE, 8, &v) == 0 && v == last[k]);
	}
}

static void fork_and_check(struct together *t, struct sim_cpu *cpu, struct mm_struct *mm, const u64 *last)
{
	struct mm_struct *child = dup_mm(mm);

	if (IS_ERR(child)) {
		expect(t, false);
		return;
	}
	sim_cpu_switch_mm(cpu, child);
	check_own(t, cpu, last);
	for (u64 k = 0; k < OWN; k += 2)
		expect(t, sim_store(cpu, BASE + k * PAGE_SIZE, 8, 0xdead) == 0);
	sim_cpu_switch_mm(cpu, mm);
	mmput(child);
}

/* More address spaces share a page than one transaction can lock: the page is refused, whole. */
static void many_kin(struct mm_struct *mm, struct mm_struct **kin)
{
	for (unsigned i = 0; i < KIN; i++)
		kin[i] = dup_mm(mm);
}

static void end_kin(struct together *t, struct sim_cpu *cpu, struct mm_struct **kin)
{
	for (unsigned i = 0; i < KIN; i++) {
		u64 v = 0;

		sim_cpu_switch_mm(cpu, kin[i]);
		for (u64 k = 0; k < OWN; k++)
			expect(t, sim_load(cpu, BASE + k * PAGE_SIZE, 8, &v) == 0 && v == k + 1);
		expect(t, mm_is_valid(kin[i]));
		sim_cpu_switch_mm(cpu, NULL);
		mmput(kin[i]);
	}
}

#define PATIENCE 20000 /* times 50 us and more */

static void program(struct quire *q, struct together *t, unsigned i)
{
	struct mm_struct *mm = mm_alloc(q, NULL), *kin[KIN];
	struct sim_cpu *cpu = sim_cpu_get(q, i);
	u64 seed = q->cfg.seed * 31 + i, last[OWN] = { 0 }, n;

	sim_cpu_switch_mm(cpu, mm);
	sim_cpu_set_el(cpu, 0);
	expect(t, do_mmap(mm, NULL, BASE, OWN * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) == (long)BASE);
	for (n = 0; n < OWN; n++)
		expect(t, sim_store(cpu, BASE + n * PAGE_SIZE, 8, last[n] = n + 1) == 0);
	many_kin(mm, kin);
	for (n = 0; n < t->rounds; n++) {
		u64 k = rnd(&seed, OWN), what = rnd(&seed, 50);

		if (what == 0) {
			fork_and_check(t, cpu, mm, last);
		} else if (what == 1) {
			expect(t, do_madvise(mm, BASE + k * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED) == 0);
			last[k] = 0;
		} else if (what == 2) {
			check_own(t, cpu, last);
		} else {
			last[k] = rnd(&seed, ~0ull);
			expect(t, sim_store(cpu, BASE + k * PAGE_SIZE, 8, last[k]) == 0);
		}
	}
	/* On a loaded host the programs may be done before the mover has run at all; pages of their own are there to be moved.  With
	 * pauses: the simulated CPUs' locks are not fair, and who only stores keeps the mover's flushes out for minutes. */
	for (n = 0; n < PATIENCE && !__atomic_load_n(&t->moved, __ATOMIC_ACQUIRE); n++) {
		u64 k = rnd(&seed, OWN);

		last[k] = rnd(&seed, ~0ull);
		expect(t, sim_store(cpu, BASE + k * PAGE_SIZE, 8, last[k]) == 0);
		sim_preempt();
		usleep(50);
	}
	expect(t, mm_is_valid(mm));
	end_kin(t, cpu, kin);
	sim_cpu_switch_mm(cpu, NULL);
	mmput(mm);
	__atomic_fetch_sub(&t->running, 1, __ATOMIC_RELEASE);
}

static void worker(struct quire *q, unsigned i, void *arg)
{
	struct together *t = arg;

	if (i) {
		program(q, t, i);
		return;
	}
	while (__atomic_load_n(&t->running, __ATOMIC_ACQUIRE)) {
		__atomic_fetch_add(&t->moved, move_all(q), __ATOMIC_RELEASE);
		sim_preempt();
	}
}

static void run(struct sim_config cfg, u64 rounds)
{
	struct together t = { .rounds = rounds, .running = THREADS - 1 };
	struct rig r;

	cfg.memory = 16 * MIB;
	cfg.nr_cpus = THREADS;
	cfg.check_law1 = cfg.check_reuse = true;
	r = rig_new(&cfg);
	r.q->cfg.seed = cfg.seed;
	sim_run(r.q, THREADS, worker, &t);
	assert_int_equal(t.bad, 0);
	assert_true(t.moved > 0);
	rig_free(&r);
}

static u64 rounds(void)
{
	const char *s = getenv("QUIRE_STEPS");

	return s ? strtoull(s, NULL, 0) : 3000;
}

static void test_beside_threads(void **state)
{
	run((struct sim_config){ .seed = sim_seed(1), .tlb = SIM_TLB_HOSTED, .folio_max_order = 4 }, rounds());

	run((struct sim_config){ .seed = sim_seed(2), .tlb = SIM_TLB_NORMAL }, rounds());
	(void)state;
}

/* One thread at a time: nothing for the thread sanitizer to see, and it makes this very slow. */
static void test_interleavings(void **state)
{
#ifdef __SANITIZE_THREAD__
	skip();
#endif
	for (u64 i = 0; i < 4; i++)
		run((struct sim_config){ .seed = sim_seed(3) + i, .sched = SIM_SCHED_ONE, .break_percent = 5,
					 .tlb = i & 1 ? SIM_TLB_HOSTED : SIM_TLB_STRICT, .folio_max_order = i & 2 ? 4 : 0 },
		    rounds() / 10);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_and_rights), cmocka_unit_test(test_shared_by_fork), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_few_of_a_family), cmocka_unit_test(test_refused_take_no_room), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_beside_threads), cmocka_unit_test(test_interleavings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
