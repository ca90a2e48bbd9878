/* The radix tree against a flat array of (index, value) pairs; and every allocation failing in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <port/sim/sim.h>
#include <radix.h>

#define MODEL_MAX 512u

struct model {
	u64 index[MODEL_MAX];
	void *value[MODEL_MAX];
	u32 n;
};

static void *model_get(const struct model *m, u64 index)
{
	for (u32 i = 0; i < m->n; i++)
		if (m->index[i] == index)
			return m->value[i];
	return NULL;
}

static void model_set(struct model *m, u64 index, void *value)
{
	u32 i;

	for (i = 0; i < m->n && m->index[i] != index; i++)
		;
	if (value) {
		m->n += i == m->n;
		m->index[i] = index;
		m->value[i] = value;
	} else if (i < m->n) {
		m->n--;
		m->index[i] = m->index[m->n];
		m->value[i] = m->value[m->n];
	}
}

static void *model_next(const struct model *m, u64 *index, u64 last)
{
	u64 best = ~0ull;
	void *value = NULL;

	for (u32 i = 0; i < m->n; i++) {
		if (m->index[i] < *index || m->index[i] > last || (value && m->index[i] >= best))
			continue;
		best = m->index[i];
		value = m->value[i];
	}
	if (value)
		*index = best;
	return value;
}

static u64 rnd(u64 *s)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return *s >> 17;
}

/* Dense, sparse, huge and wrapping indexes. */
static u64 pick(u64 *s)
{
	switch (rnd(s) % 5) {
	case 0: return rnd(s) % 100;
	case 1: return rnd(s) % 5000;
	case 2: return rnd(s);
	case 3: return ~0ull - rnd(s) % 70;
	default: return 1ull << (rnd(s) % 64);
	}
}

static void check(const struct radix *r, const struct model *m, u64 *s)
{
	u64 a = pick(s), b = a, last = rnd(s) % 2 ? ~0ull : pick(s);
	void *x = radix_next(r, &a, last), *y = model_next(m, &b, last);

	assert_ptr_equal(x, y);
	if (x)
		assert_int_equal(a, b);
	a = pick(s);
	assert_ptr_equal(radix_lookup(r, a), model_get(m, a));
	assert_true(radix_is_valid(r));
}

static void test_model(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct radix r = { 0 };
	static struct model m;
	u64 seed = sim_seed(20240701), i;

	(void)state;
	for (i = 0; i < 10000; i++) {
		u64 index = m.n && rnd(&seed) % 3 == 0 ? m.index[rnd(&seed) % m.n] : pick(&seed);
		void *value = m.n >= MODEL_MAX - 1 || rnd(&seed) % 5 < 2 ? NULL : (void *)(uintptr_t)(rnd(&seed) | 1);

		assert_int_equal(radix_store(q, &r, index, value), 0);
		model_set(&m, index, value);
		check(&r, &m, &seed);
	}
	while (m.n) {
		assert_int_equal(radix_store(q, &r, m.index[0], NULL), 0);
		model_set(&m, m.index[0], NULL);
		assert_true(radix_is_valid(&r));
	}
	assert_int_equal(r.height, 0);
	assert_int_equal(kmem_cache_live_objects(q, q->radix_cache), 0);
	sim_machine_free(q);
}

/* A store that fails for want of memory changes nothing. */
static void test_failures(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct radix r = { 0 };
	u64 seed = sim_seed(7), n, i, failed = 0;

	(void)state;
	for (i = 0; i < 300; i++) {
		u64 index = pick(&seed), live = kmem_cache_live_objects(q, q->radix_cache);

		for (n = 1;; n++) {
			bool there = radix_lookup(&r, index);
			int err;

			sim_fail_nth(q, BIT(FAIL_SLAB), n);
			err = radix_store(q, &r, index, q);
			sim_fail_none(q);
			assert_true(radix_is_valid(&r));
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_false(there);
			assert_null(radix_lookup(&r, index));
			assert_int_equal(kmem_cache_live_objects(q, q->radix_cache), live);
			failed++;
		}
	}
	assert_true(failed > 100);
	radix_destroy(q, &r);
	assert_true(radix_is_valid(&r));
	assert_int_equal(kmem_cache_live_objects(q, q->radix_cache), 0);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_model), cmocka_unit_test(test_failures) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
