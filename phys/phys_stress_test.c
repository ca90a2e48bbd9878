/*
 * Many threads at once: allocation, freeing by another thread, drains, views.  Meant for TSan and ASan: what
 * is checked here is that nobody gets a frame twice, that contents stay whole, and that all comes back.
 * Then a failure sweep: every allocation of a scenario is made to fail in turn, and nothing may leak.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fmt.h>
#include <phys/phys.h>
#include <port/sim/sim.h>
#include <proc/phys_views.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 64
#define EXCHANGE 32

struct shared {
	u64 seed;
	u64 ops;
	struct frame *exchange[EXCHANGE]; /* blocks on their way to whoever finds them; atomic */
	u64 allocated;                    /* atomic */
};

struct worker {
	struct quire *q;
	struct shared *sh;
	u64 rng;
	u64 done;
	unsigned id;
	struct frame *mine[SLOTS];
};

static u64 rnd(struct worker *w, u64 below)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (w->rng >> 33) % below;
}

static u64 *word(struct worker *w, struct frame *f, u32 i)
{
	return (u64 *)((char *)frame_address(w->q, f) + i * PAGE_SIZE) + 1;
}

/* Every frame of the block says whose it is. */
static void stamp(struct worker *w, struct frame *f)
{
	for (u32 i = 0; i < 1u << f->order; i++)
		*word(w, f, i) = (u64)(uintptr_t)f + i;
}

static void check_stamp(struct worker *w, struct frame *f)
{
	for (u32 i = 0; i < 1u << f->order; i++)
		if (*word(w, f, i) != (u64)(uintptr_t)f + i || &pfn_folio(w->q, frame_to_pfn(w->q, f) + i)->f != f)
			abort();
}

static void let_go(struct worker *w, struct frame *f)
{
	check_stamp(w, f);
	if (rnd(w, 4) == 0) {
		struct frame **at = &w->sh->exchange[rnd(w, EXCHANGE)];

		f = __atomic_exchange_n(at, f, __ATOMIC_ACQ_REL);
		if (!f)
			return;
		check_stamp(w, f);
	}
	__free_pages(w->q, f, f->order);
}

static void alloc_one(struct worker *w, unsigned slot)
{
	static const gfp_t kinds[] = {GFP_KERNEL, GFP_KERNEL | __GFP_MOVABLE, GFP_ATOMIC | __GFP_ZERO,
				      GFP_KERNEL | __GFP_RECLAIMABLE};
	unsigned order = rnd(w, 10) ? (unsigned)rnd(w, 4) : (unsigned)rnd(w, NR_ORDERS);
	struct frame *f = alloc_pages(w->q, kinds[rnd(w, 4)] | __GFP_NOWARN | __GFP_NORETRY, order);

	if (!f)
		return;
	f->type = FRAME_ANON; /* owners write records without any lock */
	stamp(w, f);
	w->mine[slot] = f;
	w->done++;
}

/* A transaction of several steps, as the floors below make them. */
static void in_transaction_ops(struct worker *w)
{
	struct frame *f[4];
	unsigned i, n;

	spin_lock(&w->q->lock);
	n = alloc_pages_bulk(w->q, GFP_NOWAIT, 4, f);
	for (i = 0; i < n; i++)
		__free_pages(w->q, f[i], 0);
	spin_unlock(&w->q->lock);
}

static void look(struct worker *w)
{
	static _Thread_local char text[64 << 10];
	struct fmt_buf b = fmt_init(text, sizeof(text));

	proc_buddyinfo(w->q, &b);
	proc_zoneinfo(w->q, &b);
	proc_pagetypeinfo(w->q, &b);
	show_mem(w->q);
	if (fmt_truncated(&b) || phys_largest_free_order(w->q) > MAX_ORDER || !nr_free_pages(w->q))
		abort();
}

static void work(struct quire *q, unsigned id, void *arg)
{
	struct worker w = {.q = q, .sh = arg, .id = id, .rng = ((struct shared *)arg)->seed + id};
	u64 i;

	for (i = 0; i < w.sh->ops; i++) {
		unsigned slot = (unsigned)rnd(&w, SLOTS);
		u64 r = rnd(&w, 2000);

		if (r == 0)
			drain_all_pages(q);
		else if (r == 1)
			look(&w);
		else if (r < 20)
			sim_thread_set_cpu((unsigned)rnd(&w, q->cfg.nr_cpus));
		else if (r < 60)
			in_transaction_ops(&w);
		else if (!w.mine[slot])
			alloc_one(&w, slot);
		else {
			let_go(&w, w.mine[slot]);
			w.mine[slot] = NULL;
		}
	}
	for (i = 0; i < SLOTS; i++)
		if (w.mine[i])
			__free_pages(q, w.mine[i], w.mine[i]->order);
	__atomic_add_fetch(&w.sh->allocated, w.done, __ATOMIC_RELAXED);
}

static void stress(struct sim_config cfg, unsigned threads, u64 ops)
{
	struct shared sh = {.seed = sim_seed(cfg.memory + threads), .ops = ops};
	struct quire *q;
	u64 before;
	unsigned i;

	cfg.seed = sh.seed;
	q = sim_machine_new_raw(&cfg);
	assert_int_equal(phys_init(q), 0);
	before = nr_free_pages(q);
	sim_run(q, threads, work, &sh);
	for (i = 0; i < EXCHANGE; i++)
		if (sh.exchange[i])
			__free_pages(q, sh.exchange[i], sh.exchange[i]->order);
	assert_true(sh.allocated > ops * threads / 20);
	drain_all_pages(q);
	assert_int_equal(nr_free_pages(q), before);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

static void two_threads_one_cpu(void **state)
{
	stress((struct sim_config){.memory = 64 << 20}, 2, 60000);
}

static void four_threads_two_cpus(void **state)
{
	stress((struct sim_config){.memory = 128 << 20, .nr_cpus = 2}, 4, 40000);
}

static void eight_threads_short_of_memory(void **state)
{
	stress((struct sim_config){.memory = 24 << 20, .nr_cpus = 8}, 8, 20000);
}

static void four_threads_with_debugging(void **state)
{
	stress((struct sim_config){.memory = 32 << 20, .nr_cpus = 4, .debug_owner = true, .debug_poison = true}, 4,
	       4000);
}

/* The same interleaving from the same seed, chosen by the scheduler of the simulated machine. */
static void one_at_a_time(void **state)
{
	stress((struct sim_config){.memory = 32 << 20, .nr_cpus = 3, .sched = SIM_SCHED_ONE, .break_percent = 30}, 4,
	       5000);
}

/* ---- failure sweep ---- */

/* A scenario that undoes what it began when something fails.  Returns true if it came to its end. */
static bool scenario(struct quire *q)
{
	struct frame *bulk[30], *f = NULL, *g = NULL;
	void *exact = NULL, *page = NULL;
	unsigned n = alloc_pages_bulk(q, GFP_KERNEL, 30, bulk);
	bool ok = n == 30;

	if (ok)
		f = alloc_pages(q, GFP_KERNEL, 3);
	if (f)
		g = alloc_pages(q, GFP_HIGHUSER_MOVABLE | __GFP_ZERO, 9);
	if (g)
		exact = alloc_pages_exact(q, 7 * PAGE_SIZE, GFP_KERNEL);
	if (exact)
		page = get_zeroed_page(q, GFP_ATOMIC);
	ok = page != NULL;
	free_pages(q, page, 0);
	free_pages_exact(q, exact, 7 * PAGE_SIZE);
	if (g)
		__free_pages(q, g, 9);
	if (f)
		__free_pages(q, f, 3);
	free_pages_bulk(q, n, bulk);
	return ok;
}

static void every_allocation_fails_in_turn(void **state)
{
	struct quire *q = sim_machine_new_raw(NULL);
	u64 before, n, asked;

	assert_int_equal(phys_init(q), 0);
	before = nr_free_pages(q);
	sim_fail_none(q);
	assert_true(scenario(q));
	asked = sim_fail_count(q);
	assert_int_equal(asked, 5);
	for (n = 1; n <= asked; n++) {
		sim_fail_nth(q, BIT(FAIL_PAGE), n);
		assert_false(scenario(q));
		assert_int_equal(sim_fail_injected(q), 1);
		drain_all_pages(q);
		assert_int_equal(nr_free_pages(q), before);
		assert_true(phys_is_valid(q));
	}
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_threads_one_cpu),
		cmocka_unit_test(four_threads_two_cpus),
		cmocka_unit_test(eight_threads_short_of_memory),
		cmocka_unit_test(four_threads_with_debugging),
		cmocka_unit_test(one_at_a_time),
		cmocka_unit_test(every_allocation_fails_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
