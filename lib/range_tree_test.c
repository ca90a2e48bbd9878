/*
 * The range tree against a sorted array: random inserts, erasures, resizes and searches for ranges and for holes.
 * QUIRE_SEED replays a run.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <port/sim/sim.h>
#include <cmocka.h>

#define MAX_RANGES 4000u
#define SPACE (1ull << 24)

/* Sorted by start; what the tree must hold. */
static struct range_node *model[MAX_RANGES];
static unsigned count;
static struct quire *q;
static struct range_tree tree;
static u64 rng_state;

static u64 rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return (rng_state * 0x2545f4914f6cdd1dull) >> 16;
}

/* Index of the first range that ends after addr. */
static unsigned model_find(u64 addr)
{
	unsigned i = 0;

	while (i < count && model[i]->end <= addr)
		i++;
	return i;
}

static void do_insert(u64 start, u64 end)
{
	unsigned i = model_find(start);
	bool clash = i < count && model[i]->start < end;
	struct range_node *n = calloc(1, sizeof(*n));

	n->start = start;
	n->end = end;
	assert_int_equal(range_tree_insert(q, &tree, n), clash ? -EEXIST : 0);
	if (clash) {
		free(n);
		return;
	}
	memmove(&model[i + 1], &model[i], (count - i) * sizeof(model[0]));
	model[i] = n;
	count++;
}

static void do_erase(unsigned i)
{
	range_tree_erase(q, &tree, model[i]);
	free(model[i]);
	count--;
	memmove(&model[i], &model[i + 1], (count - i) * sizeof(model[0]));
}

static void do_resize(unsigned i)
{
	u64 lo = i ? model[i - 1]->end : 0, hi = i + 1 < count ? model[i + 1]->start : SPACE;
	u64 start = lo + rng() % (hi - lo), end = start + 1 + rng() % (hi - start);

	range_tree_resize(&tree, model[i], start, end);
	assert_int_equal(model[i]->start, start);
	assert_int_equal(model[i]->end, end);
}

static void check_find(u64 addr)
{
	unsigned i = model_find(addr);
	struct range_node *n = range_tree_find(&tree, addr);

	assert_ptr_equal(n, i < count ? model[i] : NULL);
	if (!n)
		return;
	assert_ptr_equal(range_tree_next(&tree, n), i + 1 < count ? model[i + 1] : NULL);
	assert_ptr_equal(range_tree_prev(&tree, n), i ? model[i - 1] : NULL);
}

/* Guards depend on the range alone, so that the model can ask too. */
static void guard(const struct range_node *n, u64 *before, u64 *after)
{
	*before = n->start % 7 == 0 ? 200 : 0;
	*after = n->end % 5 == 0 ? 90 : 0;
}

/* Every hole by definition, from above or below. */
static u64 model_gap(u64 lo, u64 hi, u64 len, u64 align, range_guard_fn g, bool down)
{
	u64 best = ~0ull;

	for (unsigned i = 0; i <= count; i++) {
		u64 start = i ? model[i - 1]->end : 0, end = i < count ? model[i]->start : ~0ull, b = 0, a = 0, unused,
		    at;

		if (g && i)
			g(model[i - 1], &unused, &a);
		if (g && i < count)
			g(model[i], &b, &unused);
		if (end - start < a + b)
			continue;
		start = MAX(start + a, lo);
		end = MIN(end - b, hi);
		if (end <= start || end - start < len)
			continue;
		at = down ? ALIGN_DOWN(end - len, align) : ALIGN_UP(start, align);
		if (at < start || at + len > end)
			continue;
		if (down)
			best = at;
		else if (best == ~0ull)
			best = at;
	}
	return best;
}

static void check_gap(void)
{
	u64 lo = rng() % SPACE, hi = lo + 1 + rng() % (SPACE - lo), len = 1 + rng() % (rng() % 4 ? 300 : 20000);
	u64 align = 1ull << (rng() % 8);
	range_guard_fn g = rng() % 2 ? guard : NULL;

	assert_int_equal(range_tree_gap_top_down(&tree, lo, hi, len, align, g), model_gap(lo, hi, len, align, g, true));
	assert_int_equal(range_tree_gap_bottom_up(&tree, lo, hi, len, align, g),
			 model_gap(lo, hi, len, align, g, false));
}

static void step(unsigned target)
{
	u64 what = rng() % 16, start = rng() % SPACE;
	bool grow = count < target;

	if (what < 8 && grow && count < MAX_RANGES)
		do_insert(start, start + 1 + rng() % 4000);
	else if (what < 8 && count)
		do_erase((unsigned)(rng() % count));
	else if (what < 10 && count)
		do_resize((unsigned)(rng() % count));
	else if (what < 13)
		check_find(start);
	else
		check_gap();
}

static void empty_tree(void)
{
	while (count)
		do_erase(rng() % 3 ? 0 : (unsigned)(rng() % count));
	assert_true(range_tree_is_valid(&tree));
	assert_null(tree.root);
	range_tree_destroy(q, &tree);
	assert_int_equal(kmem_cache_live_objects(q, q->range_cache), 0);
}

static void test_model(void **state)
{
	rng_state = sim_seed(1) * 2 + 1;
	for (unsigned round = 0; round < 6; round++) {
		unsigned target = (unsigned[]){20, 300, 2000, 3000, 14, 700}[round];

		for (unsigned i = 0; i < 4000; i++) {
			step(i > 3000 ? target / 8 : target);
			if (i % (count > 200 ? 64 : 4) == 0)
				assert_true(range_tree_is_valid(&tree));
		}
		empty_tree();
	}
}

/* Ascending and descending inserts leave the tree reasonably full and shallow. */
static void test_sequential(void **state)
{
	for (unsigned down = 0; down < 2; down++) {
		for (unsigned i = 0; i < MAX_RANGES; i++) {
			unsigned k = down ? MAX_RANGES - 1 - i : i;

			do_insert(k * 100 + 1, k * 100 + 50);
		}
		assert_true(range_tree_is_valid(&tree));
		assert_true(tree.height <= 4);
		empty_tree();
	}
}

static void test_reserve_then_no_memory(void **state)
{
	struct range_node *n;

	for (unsigned i = 0; i < 400; i++)
		do_insert(i * 1000 + 1, i * 1000 + 10);
	for (unsigned round = 0; round < 200; round++) {
		assert_int_equal(range_tree_reserve(q, &tree, 3), 0);
		sim_fail_from(q, SIM_FAIL_MEMORY, 1);
		for (unsigned k = 0; k < 3; k++)
			do_insert(rng() % (SPACE - 1000), rng() % SPACE + SPACE);
		n = range_tree_first(&tree);
		assert_non_null(n);
		sim_fail_none(q);
		assert_true(range_tree_is_valid(&tree));
		while (count > 400)
			do_erase(count - 1);
	}
	empty_tree();
}

static void test_no_memory(void **state)
{
	struct range_node n = {1, 2};

	sim_fail_from(q, SIM_FAIL_MEMORY, 1);
	assert_int_equal(range_tree_insert(q, &tree, &n), -ENOMEM);
	sim_fail_none(q);
	assert_true(range_tree_is_valid(&tree));
}

static int setup(void **state)
{
	q = sim_machine_new(NULL);
	rng_state = 12345;
	return 0;
}

static int teardown(void **state)
{
	sim_machine_free(q);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sequential, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reserve_then_no_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
