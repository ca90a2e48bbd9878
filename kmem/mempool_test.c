/* mempools: the promise under failure and under real shortage, waiting, resizing, bad input, threads. */
#include <quire/mempool.h>
#include "kmem_test.h"

#define N 10

static mempool_t *make(struct quire *q, unsigned kind, struct kmem_cache *c)
{
	if (kind == 0)
		return mempool_create_slab_pool(q, N, c);
	return kind == 1 ? mempool_create_kmalloc_pool(q, N, 3000) : mempool_create_page_pool(q, N, 1);
}

/* After mempool_create(n), n elements can be had although every allocation fails. */
static void test_promise(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct kmem_cache *c = kmem_cache_create(q, "element", 128, 0, 0, NULL);
	u64 before = kmem_frames_in_use(q);
	unsigned kind, i;
	void *e[N];

	for (kind = 0; kind < 3; kind++) {
		mempool_t *pool = make(q, kind, c);

		sim_fail_from(q, SIM_FAIL_MEMORY, 1);
		for (i = 0; i < N; i++) {
			e[i] = mempool_alloc(q, pool, GFP_ATOMIC);
			assert_non_null(e[i]);
		}
		assert_null(mempool_alloc(q, pool, GFP_ATOMIC));
		assert_null(mempool_alloc(q, pool, GFP_NOWAIT));
		for (i = 0; i < N; i++)
			mempool_free(q, pool, e[i]);
		assert_int_equal(mempool_free_elements(q, pool), N);
		sim_fail_none(q);
		mempool_free(q, pool, NULL);
		mempool_destroy(q, pool);
		assert_int_equal(kmem_frames_in_use(q), before);
	}
	mempool_destroy(q, NULL);
	sim_machine_free(q);
}

/* A blocking allocation under a lock must not wait. */
static void test_no_waiting_in_a_transaction(void **state)
{
	struct quire *q = kmem_machine(NULL);
	mempool_t *pool = mempool_create_kmalloc_pool(q, 1, 64);
	void *e;

	sim_fail_from(q, SIM_FAIL_MEMORY, 1);
	spin_lock(&q->lock);
	e = mempool_alloc(q, pool, GFP_KERNEL);
	assert_non_null(e);
	assert_null(mempool_alloc(q, pool, GFP_KERNEL));
	spin_unlock(&q->lock);
	mempool_free(q, pool, e);
	sim_fail_none(q);
	mempool_destroy(q, pool);
	sim_machine_free(q);
}

struct blocked {
	mempool_t *pool;
	void *held[N];
	unsigned got;
};

static void waiting_thread(struct quire *q, unsigned i, void *arg)
{
	struct blocked *b = arg;
	unsigned n;

	if (i < 4) {
		void *e = mempool_alloc(q, b->pool, GFP_KERNEL);

		assert_non_null(e);
		b->got++;
		sim_preempt();
		mempool_free(q, b->pool, e);
		return;
	}
	for (n = 0; n < 50; n++)
		port_relax();
	assert_int_equal(b->got, 0); /* nothing free, all wait */
	for (n = 0; n < 2; n++)
		mempool_free(q, b->pool, b->held[n]);
}

static void test_blocking_never_fails(void **state)
{
	u64 seed;

	for (seed = 1; seed < 20; seed++) {
		struct quire *q = kmem_machine(&(struct sim_config){.sched = SIM_SCHED_ONE, .seed = seed});
		struct blocked b = {.pool = mempool_create_kmalloc_pool(q, N, 100)};
		unsigned i;

		sim_fail_from(q, SIM_FAIL_MEMORY, 1);
		for (i = 0; i < N; i++)
			b.held[i] = mempool_alloc(q, b.pool, GFP_NOWAIT);
		sim_run(q, 5, waiting_thread, &b);
		assert_int_equal(b.got, 4);
		for (i = 2; i < N; i++)
			mempool_free(q, b.pool, b.held[i]);
		assert_int_equal(mempool_free_elements(q, b.pool), N);
		sim_fail_none(q);
		mempool_destroy(q, b.pool);
		sim_machine_free(q);
	}
}

static void test_resize(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u64 before = kmem_frames_in_use(q), asked, n;
	mempool_t *pool = mempool_create_kmalloc_pool(q, N, 500);
	void *e = mempool_alloc(q, pool, GFP_KERNEL);
	int err;

	assert_int_equal(mempool_resize(q, pool, 50), 0);
	assert_int_equal(mempool_free_elements(q, pool), 50);
	assert_int_equal(mempool_resize(q, pool, 3), 0);
	assert_int_equal(mempool_free_elements(q, pool), 3);
	assert_int_equal(mempool_resize(q, pool, -1), -EINVAL);
	mempool_free(q, pool, e);
	sim_fail_none(q);
	assert_int_equal(mempool_resize(q, pool, 40), 0);
	asked = sim_fail_count(q);
	for (n = 1; n <= asked; n++) {
		assert_int_equal(mempool_resize(q, pool, 3), 0);
		sim_fail_from(q, BIT(FAIL_SLAB), n);
		err = mempool_resize(q, pool, 40);
		assert_int_equal(err, sim_fail_injected(q) ? -ENOMEM : 0);
		assert_int_equal(mempool_free_elements(q, pool), err ? 3 : 40);
		sim_fail_none(q);
	}
	mempool_destroy(q, pool);
	assert_int_equal(kmem_frames_in_use(q), before);
	sim_machine_free(q);
}

static void test_create_fails_cleanly(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u64 before = kmem_frames_in_use(q), n, asked;

	assert_null(mempool_create_kmalloc_pool(q, -1, 10));
	sim_fail_none(q);
	mempool_destroy(q, mempool_create_page_pool(q, 5, 2));
	asked = sim_fail_count(q);
	for (n = 1; n <= asked; n++) {
		mempool_t *pool;

		sim_fail_nth(q, SIM_FAIL_MEMORY, n);
		pool = mempool_create_page_pool(q, 5, 2);
		sim_fail_none(q);
		mempool_destroy(q, pool);
		assert_int_equal(kmem_frames_in_use(q), before);
	}
	sim_machine_free(q);
}

static void destroy_busy(void *arg)
{
	struct quire *q = arg;
	mempool_t *pool = mempool_create_kmalloc_pool(q, N, 100);

	sim_fail_from(q, SIM_FAIL_MEMORY, 1);
	mempool_alloc(q, pool, GFP_ATOMIC);
	mempool_destroy(q, pool);
}

static void test_destroy_busy(void **state)
{
	struct quire *q = kmem_machine(NULL);

	assert_non_null(sim_expect_panic(destroy_busy, q));
	assert_non_null(strstr(whole_log(q), "mempool_destroy: 1 of 10 elements are still out"));
	sim_machine_free(q);
}

/* Real threads on a machine without memory: everybody gets on, one element at a time. */
static void pool_thread(struct quire *q, unsigned t, void *arg)
{
	u64 seed = t + 1, i;

	for (i = 0; i < 3000; i++) {
		u64 *e = mempool_alloc(q, arg, rnd(&seed) % 4 ? GFP_KERNEL : GFP_ATOMIC);

		if (!e)
			continue;
		*e = t * 1000003 + i;
		if (rnd(&seed) % 8 == 0)
			port_relax();
		assert_int_equal(*e, t * 1000003 + i);
		mempool_free(q, arg, e);
	}
}

static void test_threads(void **state)
{
	unsigned threads;

	for (threads = 2; threads <= 8; threads *= 2) {
		struct quire *q = kmem_machine(&(struct sim_config){.nr_cpus = 4, .real_clock = true});
		mempool_t *pool = mempool_create_kmalloc_pool(q, 2, 40);

		sim_fail_from(q, SIM_FAIL_MEMORY, 1);
		sim_run(q, threads, pool_thread, pool);
		assert_int_equal(mempool_free_elements(q, pool), 2);
		sim_fail_none(q);
		mempool_destroy(q, pool);
		assert_true(kmem_is_valid(q));
		sim_machine_free(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_promise),
		cmocka_unit_test(test_no_waiting_in_a_transaction),
		cmocka_unit_test(test_blocking_never_fails),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_create_fails_cleanly),
		cmocka_unit_test(test_destroy_busy),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
