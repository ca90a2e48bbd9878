/* Tests of the machine's body: contexts, waiting, schedulers, clocks, failures on demand, log and panic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <port/sim/sim.h>
#include <stdlib.h>
#include <string.h>

static void ram_is_lazy_and_zero(void **state)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){ .memory = 64ull << 30 });
	u8 *last = port_frame_address(q, (pfn_t)((64ull << 30 >> PAGE_SHIFT) - 1));

	assert_int_equal(last[PAGE_SIZE - 1], 0);
	assert_null(port_frame_address(q, (pfn_t)(64ull << 30 >> PAGE_SHIFT)));
	assert_int_equal(q->cfg.mem_map[12345].type, FRAME_VIRGIN);
	assert_true(port_caps(q) & PORT_CAP_VIRGIN_ZERO);
	sim_machine_free(q);
}

static void highmem_has_no_address(void **state)
{
	static const struct zone_layout zones = { .name = "test", .lowmem_end = 16 << 20 };
	struct quire *q = sim_machine_new_raw(&(struct sim_config){ .memory = 32 << 20, .zones = &zones, .no_virgin_zero = true });

	assert_non_null(port_frame_address(q, (16 << 20 >> PAGE_SHIFT) - 1));
	assert_null(port_frame_address(q, 16 << 20 >> PAGE_SHIFT));
	assert_false(port_caps(q) & (PORT_CAP_DIRECT_MAP | PORT_CAP_VIRGIN_ZERO));
	assert_int_not_equal(*(u8 *)port_frame_address(q, 7), 0);
	sim_machine_free(q);
}

static void two_machines_on_one_thread(void **state)
{
	struct quire *a = sim_machine_new_raw(NULL), *b = sim_machine_new_raw(NULL);
	struct ctx *cb = port_ctx();

	assert_ptr_equal(cb->q, b);
	assert_ptr_equal(sim_thread_enter(a)->q, a);
	assert_ptr_not_equal(port_ctx(), cb);
	assert_ptr_equal(port_ctx_by_id(port_ctx()->id), port_ctx());
	assert_null(port_ctx_by_id(port_ctx()->id + 1));
	sim_machine_free(a);
	assert_ptr_equal(port_ctx(), cb);
	sim_machine_free(b);
}

static void failures_come_when_told(void **state)
{
	struct quire *q = sim_machine_new_raw(NULL);
	unsigned i, failed = 0;

	sim_fail_nth(q, BIT(FAIL_PAGE), 3);
	assert_false(port_should_fail(q, FAIL_SLAB));
	assert_false(port_should_fail(q, FAIL_PAGE));
	assert_false(port_should_fail(q, FAIL_PAGE));
	assert_true(port_should_fail(q, FAIL_PAGE));
	assert_false(port_should_fail(q, FAIL_PAGE));
	assert_int_equal(sim_fail_count(q), 4);
	assert_int_equal(sim_fail_injected(q), 1);
	sim_fail_from(q, SIM_FAIL_ALL, 2);
	assert_false(port_should_fail(q, FAIL_IO));
	assert_true(port_should_fail(q, FAIL_IO));
	assert_true(port_should_fail(q, FAIL_SLAB));
	sim_fail_seeded(q, SIM_FAIL_ALL, 25, 7);
	for (i = 0; i < 10000; i++)
		failed += port_should_fail(q, FAIL_PAGE);
	assert_in_range(failed, 2200, 2800);
	sim_fail_none(q);
	assert_false(port_should_fail(q, FAIL_PAGE));
	sim_machine_free(q);
}

static void log_is_kept(void **state)
{
	struct quire *q = sim_machine_new_raw(NULL);

	assert_string_equal(sim_log_text(q), "");
	port_log(q, 6, "one", 3);
	port_log(q, 6, "two!", 3);
	assert_string_equal(sim_log_text(q), "one\ntwo\n");
	sim_log_clear(q);
	assert_string_equal(sim_log_text(q), "");
	sim_machine_free(q);
}

static void lock_and_bug(void *arg)
{
	struct quire *q = arg;

	spin_lock(&q->lock);
	BUG_ON(q->cfg.nr_cpus == 1);
}

static void harmless(void *arg)
{
}

static void panic_is_caught(void **state)
{
	struct quire *q = sim_machine_new_raw(NULL);
	const char *text = sim_expect_panic(lock_and_bug, q);

	assert_non_null(text);
	assert_non_null(strstr(text, "q->cfg.nr_cpus == 1"));
	assert_false(spin_is_held(&q->lock));
	assert_int_equal(q->lock.word, 0);
	assert_null(sim_expect_panic(harmless, q));
	sim_machine_free(q);
}

static void waits_keep_their_word(void **state)
{
	struct quire *q = sim_machine_new_raw(NULL);
	u32 word = 5;
	u64 before = port_clock_ns();

	assert_int_equal(port_wait(&word, 4, ~0ull), -EAGAIN);
	assert_int_equal(port_wait(&word, 5, 3000000000ull), -ETIMEDOUT);
	assert_true(port_clock_ns() - before >= 3000000000ull);
	sim_machine_free(q);
}

struct counter_job {
	struct spinlock lock;
	u64 count;
	u64 order; /* a hash of who came when */
};

static void count_up(struct quire *q, unsigned i, void *arg)
{
	struct counter_job *j = arg;
	unsigned n;

	for (n = 0; n < 500; n++) {
		spin_lock(&j->lock);
		sim_preempt();
		j->count++;
		j->order = j->order * 31 + i;
		spin_unlock(&j->lock);
		sim_preempt();
	}
}

static struct counter_job run_counters(enum sim_sched sched, u64 seed)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){ .nr_cpus = 4, .sched = sched, .seed = seed });
	struct counter_job j = { .lock = { .rank = LOCK_RANK_CORE } };

	sim_run(q, 4, count_up, &j);
	assert_int_equal(j.count, 2000);
	sim_machine_free(q);
	return j;
}

static void threads_share_locks(void **state)
{
	run_counters(SIM_SCHED_THREADS, 1);
}

static void same_seed_same_order(void **state)
{
	u64 a = run_counters(SIM_SCHED_ONE, 42).order, b = run_counters(SIM_SCHED_ONE, 42).order;

	assert_int_equal(a, b);
	assert_int_not_equal(a, run_counters(SIM_SCHED_ONE, 43).order);
}

struct pingpong {
	u32 word;
	u32 timeouts;
};

static void ping(struct quire *q, unsigned i, void *arg)
{
	struct pingpong *p = arg;
	unsigned n;

	for (n = 0; n < 200; n++) {
		u32 w;

		while (((w = __atomic_load_n(&p->word, __ATOMIC_ACQUIRE)) & 1) != i)
			port_wait(&p->word, w, ~0ull);
		__atomic_store_n(&p->word, w + 1, __ATOMIC_RELEASE);
		port_wake(&p->word, 1);
	}
}

static void wakes_reach_waiters(void **state)
{
	enum sim_sched s;

	for (s = SIM_SCHED_THREADS; s <= SIM_SCHED_ONE; s++) {
		struct quire *q = sim_machine_new_raw(&(struct sim_config){ .nr_cpus = 2, .sched = s });
		struct pingpong p = { 0 };

		sim_run(q, 2, ping, &p);
		assert_int_equal(p.word, 400);
		sim_machine_free(q);
	}
}

static void break_hint_follows_percent(void **state)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){ .break_percent = 50 });
	unsigned i, yes = 0;

	for (i = 0; i < 1000; i++)
		yes += txn_should_break();
	assert_in_range(yes, 400, 600);
	sim_machine_free(q);
	q = sim_machine_new_raw(NULL);
	for (i = 0; i < 1000; i++)
		assert_false(txn_should_break());
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_is_lazy_and_zero),
		cmocka_unit_test(highmem_has_no_address),
		cmocka_unit_test(two_machines_on_one_thread),
		cmocka_unit_test(failures_come_when_told),
		cmocka_unit_test(log_is_kept),
		cmocka_unit_test(panic_is_caught),
		cmocka_unit_test(waits_keep_their_word),
		cmocka_unit_test(threads_share_locks),
		cmocka_unit_test(same_seed_same_order),
		cmocka_unit_test(wakes_reach_waiters),
		cmocka_unit_test(break_hint_follows_percent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
