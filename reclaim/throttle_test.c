/*
 * Throttled reclaimers: who waits, for what, how long, and who does not.
 */
#include "../fault/testutil.h"
#include <swap/swap.h>
#include "vmscan.h"

#define MS 1000000ull

static u64 throttled(const struct quire *q)
{
	return q->vm_events[PGSCAN_DIRECT_THROTTLE];
}

static void nobody(struct quire *q)
{
}

/* Takes frames until less than half of the least reserve is free. */
static void use_reserves_up(struct quire *q)
{
	u64 min = phys_watermark_pages(q, WMARK_MIN);

	while (nr_free_pages(q) > min / 2)
		assert_non_null(alloc_page(q, (GFP_KERNEL | __GFP_MEMALLOC) & ~__GFP_DIRECT_RECLAIM));
}

static u64 time_of(struct quire *q, bool *dying)
{
	u64 start = port_clock_ns();

	*dying = throttle_direct_reclaim(q);
	return port_clock_ns() - start;
}

/* A task waits for kswapd, a second at most; the kernel's own threads and victims do not, nor anybody without a kswapd. */
static void test_direct(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .sched = SIM_SCHED_ONE };
	struct quire *q = sim_machine_new(&cfg);
	struct task t = { .pid = 7 };
	struct ctx *c = port_ctx();
	bool dying;

	c->task = &t;
	q->hooks.wake_kswapd = nobody;
	assert_true(time_of(q, &dying) < MS);
	use_reserves_up(q);
	q->hooks.wake_kswapd = NULL;
	assert_true(time_of(q, &dying) < MS);
	q->hooks.wake_kswapd = nobody;
	c->task = NULL;
	assert_true(time_of(q, &dying) < MS);
	assert_int_equal(throttled(q), 0);
	c->task = &t;
	assert_in_range(time_of(q, &dying), 900 * MS, 1100 * MS);
	assert_false(dying);
	assert_int_equal(throttled(q), 1);
	t.oom_victim = 1;
	assert_true(time_of(q, &dying) < MS && dying);
	assert_int_equal(try_to_free_pages(q, GFP_KERNEL, 0), 1);
	t.oom_victim = 0;
	/* A kswapd that gets nothing is not waited for. */
	q->reclaim.kswapd_failures = MAX_KSWAPD_FAILURES;
	assert_true(time_of(q, &dying) < MS);
	assert_int_equal(throttled(q), 1);
	c->task = NULL;
	q->hooks.wake_kswapd = NULL;
	sim_machine_free(q);
}

struct scene {
	struct task t;
	u64 waited;
	bool isolated;
	u32 done;
};

/* Thread 0 waits; thread 1 is kswapd, which has a page cache to reclaim. */
static void waiter_and_kswapd(struct quire *q, unsigned i, void *arg)
{
	struct scene *s = arg;
	u64 start = port_clock_ns();

	if (i == 1) {
		while (!__atomic_load_n(&s->done, __ATOMIC_ACQUIRE))
			kswapd_once(q, 5 * MS);
		return;
	}
	port_ctx()->task = &s->t;
	assert_false(throttle_direct_reclaim(q));
	s->waited = port_clock_ns() - start;
	port_ctx()->task = NULL;
	__atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
}

static void test_kswapd_ends_the_wait(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .sched = SIM_SCHED_ONE, .nr_cpus = 2, .seed = sim_seed(4) };
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 2000 * PAGE_SIZE, RW);
	struct scene s = { .t.pid = 7 };

	assert_int_equal(swapon_compressed(r.q, "/dev/zram0", 4096, SWAP_PRIO_DEFAULT), 0);
	for (u64 i = 0; i < 2000; i++)
		store8(&r, a + i * PAGE_SIZE, i);
	use_reserves_up(r.q);
	r.q->hooks.wake_kswapd = wake_kswapd;
	sim_run(r.q, 2, waiter_and_kswapd, &s);
	print_message("waited %lu us\n", (unsigned long)s.waited / 1000);
	assert_true(s.waited < 900 * MS);
	assert_int_equal(throttled(r.q), 1);
	assert_int_equal(r.q->reclaim.nr_isolated, 0);
	r.q->hooks.wake_kswapd = NULL;
	rig_drop_mm(&r);
	assert_int_equal(swapoff(r.q, "/dev/zram0"), 0);
	sim_machine_free(r.q);
}

/* ---- too many isolated ---- */

static void isolated_thread(struct quire *q, unsigned i, void *arg)
{
	struct scan_control sc = { .q = q, .to_reclaim = 32 };
	struct scene *s = arg;
	u64 start = port_clock_ns();
	u32 never = 0;

	if (i == 1) {
		port_wait(&never, 0, 3 * MS);
		spin_lock(&q->lock);
		isolate_count(q, -(s32)port_ctx()->nisolated);
		q->reclaim.nr_isolated = s->isolated ? 1000 : 0;
		spin_unlock(&q->lock);
		throttle_wake(q);
		return;
	}
	assert_int_equal(throttle_isolated(&sc), s->isolated);
	s->waited = port_clock_ns() - start;
	sc.kswapd = true;
	assert_false(throttle_isolated(&sc)); /* kswapd must get on */
}

static void test_isolated(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .sched = SIM_SCHED_ONE, .nr_cpus = 2 };
	struct quire *q = sim_machine_new(&cfg);
	struct scene s = { .t.pid = 7 };
	struct scan_control sc = { .q = q };

	q->reclaim.nr_isolated = ISOLATED_AT_LEAST;
	assert_false(throttle_isolated(&sc));
	for (int still = 0; still < 2; still++) {
		q->reclaim.nr_isolated = ISOLATED_AT_LEAST + 1;
		s.isolated = still;
		sim_run(q, 2, isolated_thread, &s);
		assert_in_range(s.waited, 2 * MS, 10 * MS);
	}
	/* Nobody comes: 20 ms. */
	s.waited = port_clock_ns();
	assert_true(throttle_isolated(&sc));
	assert_in_range(port_clock_ns() - s.waited, 19 * MS, 25 * MS);
	q->reclaim.nr_isolated = 0;
	sim_machine_free(q);
}

/* ---- no progress ---- */
static u64 time_of_reclaim(struct quire *q, u64 freed)
{
	struct scan_control sc = { .q = q, .gfp = GFP_KERNEL, .to_reclaim = 32 };
	u64 start = port_clock_ns();

	shrink_lists(&sc);
	assert_int_equal(!!sc.reclaimed, !!freed);
	return port_clock_ns() - start;
}

/* A disk that takes nothing: once 4 ms, but not by who may not wait, nor when nothing will come of it. */
static void test_no_progress(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .sched = SIM_SCHED_ONE };
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 500 * PAGE_SIZE, RW);
	struct task t = { .pid = 7 };
	struct ctx *c = port_ctx();
	struct task *me = c->task;
	u32 dev = sim_swap_new(r.q, 4097);

	assert_int_equal(swapon_device(r.q, "/swap0", "file", dev, 4096, SWAP_PRIO_DEFAULT), 0);
	for (u64 i = 0; i < 500; i++)
		store8(&r, a + i * PAGE_SIZE, i + 1);
	sim_swap_break(r.q, dev, 0, -EIO);
	c->task = &t;
	assert_true(time_of_reclaim(r.q, 0) < 3 * MS);
	r.q->hooks.wake_kswapd = nobody;
	assert_in_range(time_of_reclaim(r.q, 0), 3 * MS, 10 * MS);
	t.oom_victim = 1;
	assert_true(time_of_reclaim(r.q, 0) < 3 * MS);
	t.oom_victim = 0;
	c->task = NULL;
	assert_true(time_of_reclaim(r.q, 0) < 3 * MS);
	c->task = &t;
	r.q->reclaim.kswapd_failures = MAX_KSWAPD_FAILURES;
	assert_true(time_of_reclaim(r.q, 0) < 3 * MS);
	r.q->reclaim.kswapd_failures = 0;
	sim_swap_break(r.q, dev, 0, 0);
	assert_true(time_of_reclaim(r.q, 1) < 3 * MS);
	c->task = me;
	r.q->hooks.wake_kswapd = NULL;
	rig_drop_mm(&r);
	assert_int_equal(swapoff(r.q, "/swap0"), 0);
	sim_machine_free(r.q);
}

/* What a dead reclaimer had in its hands is in nobody's. */
static void test_death(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct ctx other = { .q = q, .nisolated = 64 };

	q->reclaim.nr_isolated = 64;
	throttle_abandon(q, &other);
	throttle_abandon(q, &other);
	assert_int_equal(q->reclaim.nr_isolated, 0);
	sim_machine_free(q);
}

/* ---- several reclaimers and kswapd ---- */

struct crowd {
	struct mm_struct *mm[4];
	u64 base[4];
	u32 done;
	u64 most;
};

#define PAGES 900u

static void crowd_thread(struct quire *q, unsigned i, void *arg)
{
	struct crowd *c = arg;

	if (i == 4) {
		while (__atomic_load_n(&c->done, __ATOMIC_ACQUIRE) < 4)
			kswapd_once(q, 5 * MS);
		return;
	}
	for (unsigned n = 0; n < 3 * PAGES; n++) {
		u64 at = c->base[i] + n % PAGES * PAGE_SIZE, v = 0;

		if (n >= PAGES && (access_process_vm(c->mm[i], at, &v, 8, false) != 8 || v != n % PAGES + i))
			abort();
		v = n % PAGES + i;
		if (access_process_vm(c->mm[i], at, &v, 8, true) != 8)
			abort();
		spin_lock(&q->lock);
		c->most = MAX(c->most, q->reclaim.nr_isolated);
		spin_unlock(&q->lock);
	}
	__atomic_add_fetch(&c->done, 1, __ATOMIC_RELEASE);
}

static void run_crowd(enum sim_sched sched)
{
	struct sim_config cfg = { .memory = 8 << 20, .sched = sched, .nr_cpus = 4, .seed = sim_seed(9), .break_percent = 5 };
	struct rig r = rig_new(&cfg);
	struct crowd c = { 0 };

	assert_int_equal(swapon_compressed(r.q, "/dev/zram0", 16384, SWAP_PRIO_DEFAULT), 0);
	r.q->hooks.wake_kswapd = wake_kswapd;
	for (int i = 0; i < 4; i++) {
		c.mm[i] = mm_alloc(r.q, &guest_abi_x86_64);
		c.base[i] = map_anon(c.mm[i], 0, PAGES * PAGE_SIZE, RW);
	}
	sim_run(r.q, 5, crowd_thread, &c);
	print_message("at most %lu isolated\n", (unsigned long)c.most);
	assert_int_equal(r.q->reclaim.nr_isolated, 0);
	assert_true(r.q->vm_events[PSWPOUT] > 1000);
	r.q->hooks.wake_kswapd = NULL;
	for (int i = 0; i < 4; i++)
		mmput(c.mm[i]);
	rig_drop_mm(&r);
	assert_int_equal(swapoff(r.q, "/dev/zram0"), 0);
	rig_free(&r);
}

static void test_crowd(void **state)
{
	run_crowd(SIM_SCHED_ONE);
	run_crowd(SIM_SCHED_THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_direct), cmocka_unit_test(test_kswapd_ends_the_wait), cmocka_unit_test(test_isolated),
		cmocka_unit_test(test_no_progress), cmocka_unit_test(test_death), cmocka_unit_test(test_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
