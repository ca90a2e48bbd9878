/*
 * Shrinkers: asked in proportion, in batches, and until they say stop; the machine's own give slabs back.
 */
#include "../fault/testutil.h"
#include <port/sim/simfs.h>
#include "reclaim.h"

/* A cache of numbers: `left` objects, of which `stuck` cannot go. */
struct toy {
	struct shrinker s;
	u64 left, stuck;
	u64 calls, scanned, largest;
};

static u64 toy_count(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	return ((struct toy *)s->private_data)->left;
}

static u64 toy_scan(struct quire *q, struct shrinker *s, struct shrink_control *sc)
{
	struct toy *t = s->private_data;
	u64 n = MIN(sc->nr_to_scan, t->left - t->stuck);

	assert_false(in_transaction());
	t->calls++;
	t->scanned += sc->nr_to_scan;
	t->largest = MAX(t->largest, sc->nr_to_scan);
	if (!n && t->stuck)
		return SHRINK_STOP;
	t->left -= n;
	sc->pages += n / 64;
	return n;
}

static void toy_new(struct quire *q, struct toy *t, u64 objects)
{
	*t = (struct toy){ .s = { .name = "toy", .count_objects = toy_count, .scan_objects = toy_scan, .seeks = DEFAULT_SEEKS }, .left = objects };
	t->s.private_data = t;
	shrinker_register(q, &t->s);
}

/* Twice 1/2^priority of the objects, never more than twice all; nothing while that is less than a batch. */
static void test_share(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct toy t;
	u64 pages = 0, freed = 0;

	toy_new(q, &t, 1 << 20);
	shrink_slab(q, GFP_KERNEL, 12, &pages);
	assert_int_equal(t.scanned, 2 * (1 << 8));
	assert_int_equal(t.largest, SHRINK_BATCH);
	assert_int_equal(q->vm_events[SLABS_SCANNED], 2 * (1 << 8));
	assert_int_equal(pages, 8);
	t.scanned = 0;
	shrink_slab(q, GFP_KERNEL, 4, &pages);
	assert_in_range(t.scanned, (1 << 17) - 200, 1 << 17);
	t.left = 20000;
	t.s.nr_deferred = 0;
	t.scanned = t.calls = 0;
	for (int i = 0; i < 14; i++)
		shrink_slab(q, GFP_KERNEL, 12, &pages);
	assert_int_equal(t.calls, 0); /* 8 objects a time are less than a batch, and put off */
	assert_in_range(t.s.nr_deferred, 14 * 8, 14 * 8 + 8);
	shrink_slab(q, GFP_KERNEL, 6, &pages);
	assert_in_range(t.scanned, 512, 640);
	freed = t.left;
	assert_true(shrink_slab(q, GFP_KERNEL, 0, &pages) >= freed);
	assert_int_equal(t.left, 0);
	t.calls = 0;
	shrink_slab(q, GFP_KERNEL, 0, &pages);
	assert_int_equal(t.calls, 0); /* who has nothing is not asked */
	sim_machine_free(q);
}

/* What must stay stays, and nobody asks for ever. */
static void test_stop(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct toy t;
	u64 pages = 0;

	toy_new(q, &t, 5000);
	t.stuck = 4000;
	shrink_slab(q, GFP_KERNEL, 0, &pages);
	assert_int_equal(t.left, 4000);
	for (int i = 0; i < 100; i++)
		shrink_slab(q, GFP_KERNEL, 2, &pages);
	assert_true(t.s.nr_deferred <= 2 * t.left);
	assert_true(drop_slab(q) < 1000);
	assert_int_equal(t.left, 4000);
	sim_machine_free(q);
}

/* Reclaim of pages asks, too: as much of the objects as of the pages, more or less. */
static void test_reclaim_asks(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct rig r = rig_new(&cfg);
	struct file *f = sim_file_create(r.q, "/f", NULL, 2048 * PAGE_SIZE);
	u64 a = map_file(r.mm, f, 2048 * PAGE_SIZE, PROT_READ, MAP_SHARED, 0), pages;
	struct toy t;

	toy_new(r.q, &t, 100000);
	for (u64 i = 0; i < 2048; i++)
		load8(&r, a + i * PAGE_SIZE);
	pages = r.q->nr_file_pages;
	for (int i = 0; i < 64 && r.q->nr_file_pages > pages / 2; i++)
		assert_true(try_to_free_pages(r.q, GFP_KERNEL, 0) > 0);
	print_message("%lu of %lu pages, %lu of 100000 objects left\n", (unsigned long)r.q->nr_file_pages, (unsigned long)pages,
		      (unsigned long)t.left);
	assert_in_range(t.left, 1, 99000);
	assert_true(r.q->vm_events[SLABS_SCANNED] >= 100000 - t.left);
	assert_int_equal(do_munmap(r.mm, a, 2048 * PAGE_SIZE), 0);
	file_put(f);
	rig_free(&r);
}

/* ---- the machine's own ---- */

static u64 slab_frames(const struct quire *q)
{
	return q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1];
}

static void test_kmem(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 64 << 20 });
	struct kmem_cache *c = kmem_cache_create(q, "crowd", 512, 0, 0, NULL);
	u64 before = slab_frames(q), full, pages = 0, n;
	static void *obj[4000];

	for (unsigned i = 0; i < ARRAY_SIZE(obj); i++)
		obj[i] = kmem_cache_alloc(q, c, GFP_KERNEL);
	for (unsigned i = 0; i < ARRAY_SIZE(obj); i++)
		kmem_cache_free(q, c, obj[i]);
	full = slab_frames(q);
	n = kmem_reapable(q, false);
	assert_true(full > before + 100 && n > 1000);
	/* Gently: some of it goes, and as many frames as were said. */
	for (int i = 0; i < 8; i++)
		shrink_slab(q, GFP_KERNEL, 3, &pages);
	assert_true(kmem_reapable(q, false) < n && kmem_reapable(q, false) > 0);
	assert_true(pages > 0);
	assert_int_equal(slab_frames(q) + pages, full);
	assert_true(kmem_is_valid(q));
	/* All of it. */
	pages += drop_slab(q);
	assert_int_equal(kmem_reapable(q, false), 0);
	print_message("slab frames: %lu, full %lu, dropped %lu\n", (unsigned long)before, (unsigned long)full, (unsigned long)slab_frames(q));
	/* But for spare magazines. */
	assert_true(slab_frames(q) <= before + 16);
	assert_true(kmem_is_valid(q));
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

/* ---- several reclaimers at once ---- */

static void reclaim_thread(struct quire *q, unsigned i, void *arg)
{
	struct kmem_cache *c = arg;
	void *obj[40];
	u64 pages = 0;

	for (int n = 0; n < 150; n++) {
		if (i % 2) {
			shrink_slab(q, GFP_KERNEL, n % 6, &pages);
			continue;
		}
		for (unsigned k = 0; k < ARRAY_SIZE(obj); k++)
			obj[k] = kmem_cache_alloc(q, c, GFP_KERNEL);
		for (unsigned k = 0; k < ARRAY_SIZE(obj); k++)
			kmem_cache_free(q, c, obj[k]);
	}
}

static void run_together(enum sim_sched sched)
{
	struct sim_config cfg = { .memory = 64 << 20, .nr_cpus = 4, .sched = sched, .seed = sim_seed(3), .break_percent = 10 };
	struct quire *q = sim_machine_new(&cfg);
	struct kmem_cache *c = kmem_cache_create(q, "crowd", 200, 0, 0, NULL);

	sim_run(q, 6, reclaim_thread, c);
	assert_true(kmem_is_valid(q));
	assert_int_equal(kmem_cache_live_objects(q, c), 0);
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

static void test_together(void **state)
{
	run_together(SIM_SCHED_ONE);
	run_together(SIM_SCHED_THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share), cmocka_unit_test(test_stop), cmocka_unit_test(test_reclaim_asks), cmocka_unit_test(test_kmem),
		cmocka_unit_test(test_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
