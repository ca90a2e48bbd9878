/* Slabs and kmalloc, one property a test; bad input; debug mode; every allocation failed in turn. */
#include "kmem_test.h"

static void test_every_size(void **state)
{
	struct quire *q = kmem_machine(NULL);
	size_t size;

	for (size = 1; size <= 20000; size += size < 300 ? 1 : 37) {
		u8 *p = kmalloc(q, size, GFP_KERNEL);

		assert_non_null(p);
		assert_true(ksize(q, p) >= size);
		assert_int_equal((uintptr_t)p % 8, 0);
		/* A power of two is aligned to itself, as Linux promises. */
		if (!(size & (size - 1)))
			assert_int_equal((uintptr_t)p % MIN(size, PAGE_SIZE), 0);
		fill_pattern(p, ksize(q, p), 0xee);
		kfree(q, p);
	}
	assert_int_equal(ksize(q, kmalloc(q, 65, GFP_KERNEL)), 96);
	assert_int_equal(ksize(q, kmalloc(q, 129, GFP_KERNEL)), 192);
	assert_int_equal(ksize(q, kmalloc(q, 8193, GFP_KERNEL)), 4 * PAGE_SIZE);
	assert_true(kmem_is_valid(q));
	sim_machine_free(q);
}

static void test_corners(void **state)
{
	struct quire *q = kmem_machine(NULL);
	char *s = kstrdup(q, "a quire of paper", GFP_KERNEL);
	u8 *p;

	assert_string_equal(s, "a quire of paper");
	kfree(q, s);
	assert_null(kstrdup(q, NULL, GFP_KERNEL));
	assert_ptr_equal(kmalloc(q, 0, GFP_KERNEL), ZERO_SIZE_PTR);
	kfree(q, ZERO_SIZE_PTR);
	kfree(q, NULL);
	assert_int_equal(ksize(q, NULL), 0);
	assert_null(kcalloc(q, SIZE_MAX / 2, 3, GFP_KERNEL));
	assert_null(kmalloc_array(q, 1ull << 33, 1ull << 33, GFP_KERNEL));
	assert_null(kmalloc(q, KMALLOC_MAX_SIZE + 1, GFP_KERNEL));
	assert_null(kmalloc(q, SIZE_MAX, GFP_KERNEL));
	p = kmalloc(q, 100, GFP_KERNEL);
	fill_pattern(p, 128, 0xff);
	kfree(q, p);
	p = kcalloc(q, 25, 4, GFP_KERNEL); /* most likely the same object */
	assert_true(pattern_ok(p, 100, 0));
	kfree(q, p);
	sim_machine_free(q);
}

static void test_krealloc(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u8 *p = krealloc(q, NULL, 10, GFP_KERNEL), *old = p;

	fill_pattern(p, 10, 3);
	p = krealloc(q, p, 16, GFP_KERNEL);
	assert_ptr_equal(p, old); /* still fits its class */
	p = krealloc(q, p, 5000, GFP_KERNEL);
	assert_true(pattern_ok(p, 10, 3));
	fill_pattern(p, 5000, 4);
	p = krealloc(q, p, 100000, GFP_KERNEL);
	assert_true(pattern_ok(p, 5000, 4));
	sim_fail_nth(q, SIM_FAIL_MEMORY, 1);
	assert_null(krealloc(q, p, 200000, GFP_KERNEL));
	sim_fail_none(q);
	assert_true(pattern_ok(p, 5000, 4)); /* what could not grow is untouched */
	assert_ptr_equal(krealloc(q, p, 0, GFP_KERNEL), ZERO_SIZE_PTR);
	assert_int_equal(q->kmem.nr_large_pages, 0);
	sim_machine_free(q);
}

static unsigned constructed;
static void counting_ctor(void *p)
{
	fill_pattern(p, 40, 0x77);
	constructed++;
}

static void test_constructor(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct kmem_cache *c = kmem_cache_create(q, "built", 40, 0, 0, counting_ctor);
	void *obj[300];
	unsigned i, round, first = 0;

	constructed = 0;
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 300; i++) {
			obj[i] = kmem_cache_alloc(q, c, GFP_KERNEL);
			assert_true(pattern_ok(obj[i], 40, 0x77));
		}
		for (i = 0; i < 300; i++)
			kmem_cache_free(q, c, obj[(i * 7 + round) % 300]);
		first = round ? first : constructed;
	}
	/* Constructed once, not at each allocation. */
	assert_int_equal(constructed, first);
	assert_true(kmem_is_valid(q));
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

/* First in, first out: every object goes through the depot. */
static void fifo_rounds(struct quire *q, struct kmem_cache *c, unsigned rounds)
{
	static void *obj[4096];
	unsigned i;

	while (rounds--) {
		for (i = 0; i < 4096; i++)
			obj[i] = kmem_cache_alloc(q, c, GFP_KERNEL);
		for (i = 0; i < 4096; i++)
			kmem_cache_free(q, c, obj[i]);
	}
}

/* A busy cache takes larger magazines; when memory is short it gives them up, and their objects. */
static void test_busy_magazines(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct kmem_cache *c = kmem_cache_create(q, "busy", 64, 0, 0, NULL);

	assert_int_equal(c->mag_size, c->mag_min);
	fifo_rounds(q, c, 4);
	assert_int_equal(c->mag_size, c->mag_min);
	fifo_rounds(q, c, 60);
	assert_int_equal(c->mag_size, c->mag_max);
	assert_true(c->mag_max > c->mag_min);
	assert_true(kmem_is_valid(q));
	fifo_rounds(q, c, 2);
	assert_true(c->depot_objs <= c->depot_max);
	kmem_reap(q);
	assert_int_equal(c->mag_size, c->mag_min);
	assert_int_equal(c->depot_objs, 0);
	assert_true(kmem_is_valid(q));
	fifo_rounds(q, c, 2); /* slots may still have large ones */
	assert_true(kmem_is_valid(q));
	assert_int_equal(kmem_cache_live_objects(q, c), 0);
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

static void test_alignment(void **state)
{
	struct quire *q = kmem_machine(NULL);
	size_t align;

	for (align = 8; align <= 4096; align *= 2) {
		struct kmem_cache *c = kmem_cache_create(q, "aligned", 24, align, 0, NULL);
		void *a = kmem_cache_alloc(q, c, GFP_KERNEL), *b = kmem_cache_alloc(q, c, GFP_KERNEL);

		assert_int_equal((uintptr_t)a % align, 0);
		assert_int_equal((uintptr_t)b % align, 0);
		assert_int_equal(kmem_cache_size(c), 24);
		kmem_cache_free(q, c, a);
		kmem_cache_free(q, c, b);
		assert_int_equal(kmem_cache_destroy(q, c), 0);
	}
	assert_null(kmem_cache_create(q, "odd", 24, 24, 0, NULL));
	assert_null(kmem_cache_create(q, "", 24, 0, 0, NULL));
	assert_null(kmem_cache_create(q, "none", 0, 0, 0, NULL));
	assert_null(kmem_cache_create(q, "vast", 64u << 20, 0, 0, NULL));
	sim_machine_free(q);
}

static void test_destroy_busy(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct kmem_cache *c = kmem_cache_create(q, "dentry", 192, 0, 0, NULL);
	void *a = kmem_cache_alloc(q, c, GFP_KERNEL), *b = kmem_cache_alloc(q, c, GFP_KERNEL);

	kmem_cache_free(q, c, a);
	assert_int_equal(kmem_cache_live_objects(q, c), 1);
	assert_int_equal(kmem_cache_destroy(q, c), -EBUSY);
	assert_non_null(
		strstr(whole_log(q), "kmem_cache_destroy dentry: Slab cache still has objects when called from 0x"));
	assert_non_null(strstr(whole_log(q), "Objects remaining"));
	a = kmem_cache_alloc(q, c, GFP_KERNEL); /* nothing changed */
	assert_non_null(a);
	kmem_cache_free(q, c, a);
	kmem_cache_free(q, c, b);
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	assert_int_equal(kmem_cache_destroy(q, NULL), 0);
	assert_true(kmem_is_valid(q));
	sim_machine_free(q);
}

static void test_shrink(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct kmem_cache *c = kmem_cache_create(q, "shrunk", 512, 0, 0, NULL);
	u64 before = kmem_frames_in_use(q);
	void *obj[1000];
	unsigned i;

	for (i = 0; i < 1000; i++)
		obj[i] = kmem_cache_alloc(q, c, GFP_KERNEL);
	assert_int_equal(kmem_cache_shrink(q, c), 1);
	for (i = 0; i < 1000; i++)
		kmem_cache_free(q, c, obj[i]);
	assert_int_equal(kmem_cache_shrink(q, c), 0);
	assert_int_equal(kmem_frames_in_use(q), before);
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

static void test_bulk(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct kmem_cache *c = kmem_cache_create(q, "bulk", 64, 0, 0, NULL);
	void *obj[200];

	assert_int_equal(kmem_cache_alloc_bulk(q, c, GFP_KERNEL, 200, obj), 200);
	kmem_cache_free_bulk(q, c, 200, obj);
	sim_fail_nth(q, BIT(FAIL_SLAB), 150);
	assert_int_equal(kmem_cache_alloc_bulk(q, c, GFP_KERNEL, 200, obj), 0);
	sim_fail_none(q);
	assert_int_equal(kmem_cache_live_objects(q, c), 0);
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

/* A slab that becomes free inside a transaction, and one made there: nothing may wait, everything is counted. */
static void test_inside_transaction(void **state)
{
	struct quire *q = kmem_machine(NULL);
	void *p[100];
	unsigned i;

	spin_lock(&q->lock);
	for (i = 0; i < 100; i++)
		p[i] = kzalloc(q, 1024, GFP_KERNEL);
	for (i = 0; i < 100; i++) {
		assert_true(pattern_ok(p[i], 1024, 0));
		kfree(q, p[i]);
	}
	spin_unlock(&q->lock);
	assert_false(in_transaction());
	assert_true(kmem_is_valid(q));
	sim_machine_free(q);
}

/* More contexts than own slots: the others use CPU slots. */
static void slot_user(struct quire *q, unsigned i, void *arg)
{
	struct kmem_cache *c = arg;
	void *obj[100];
	unsigned n, round;

	for (round = 0; round < 50; round++) {
		for (n = 0; n < 100; n++) {
			obj[n] = kmem_cache_alloc(q, c, GFP_KERNEL);
			fill_pattern(obj[n], 48, (u8)i);
		}
		for (n = 0; n < 100; n++) {
			assert_true(pattern_ok(obj[n], 48, (u8)i));
			kmem_cache_free(q, c, obj[n]);
		}
	}
}

static void test_many_contexts(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.nr_cpus = 3});
	struct kmem_cache *c = kmem_cache_create(q, "many", 48, 0, 0, NULL);

	sim_run(q, 24, slot_user, c);
	assert_true(kmem_is_valid(q));
	assert_int_equal(kmem_cache_live_objects(q, c), 0);
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	sim_machine_free(q);
}

/* ---- bad input: each ends the machine with a message that names the cache, the object and the caller ---- */

struct crime {
	struct quire *q;
	struct kmem_cache *c, *other;
	u8 *obj, *obj2;
};

static void double_free(void *arg)
{
	struct crime *k = arg;

	kmem_cache_free(k->q, k->c, k->obj);
	kmem_cache_free(k->q, k->c, k->obj);
}

/* Both copies travel through magazines into the slab: found there at the latest. */
static void double_free_late(void *arg)
{
	struct crime *k = arg;
	u8 *p[200];
	unsigned i;

	for (i = 0; i < 200; i++)
		p[i] = kmem_cache_alloc(k->q, k->c, GFP_KERNEL);
	kmem_cache_free(k->q, k->c, k->obj);
	kmem_cache_shrink(k->q, k->c);
	for (i = 0; i < 200; i++)
		kmem_cache_free(k->q, k->c, p[i]);
	kmem_cache_free(k->q, k->c, k->obj);
	kmem_cache_shrink(k->q, k->c);
}

static void free_middle(void *arg)
{
	struct crime *k = arg;

	kmem_cache_free(k->q, k->c, k->obj + 8);
}

static void free_to_wrong_cache(void *arg)
{
	struct crime *k = arg;

	kmem_cache_free(k->q, k->other, k->obj);
}

static void kfree_page(void *arg)
{
	struct crime *k = arg;

	kfree(k->q, __get_free_pages(k->q, GFP_KERNEL, 0));
}

static void kfree_stack(void *arg)
{
	struct crime *k = arg;
	u64 local = 0;

	kfree(k->q, &local);
}

static void kfree_large_middle(void *arg)
{
	struct crime *k = arg;
	char *p = kmalloc(k->q, 40000, GFP_KERNEL);

	kfree(k->q, p + PAGE_SIZE);
}

static void kfree_large_twice(void *arg)
{
	struct crime *k = arg;
	char *p = kmalloc(k->q, 40000, GFP_KERNEL);

	kfree(k->q, p);
	kfree(k->q, p);
}

static void free_never_allocated(void *arg)
{
	struct crime *k = arg;

	/* The last object of the slab was never handed out. */
	kmem_cache_free(k->q, k->c, slab_base(k->q, kmem_frame(k->q, k->obj)) + k->c->left + 31 * k->c->size);
	kmem_cache_shrink(k->q, k->c);
}

static void overrun(void *arg)
{
	struct crime *k = arg;

	k->obj[kmem_cache_size(k->c)] = 1;
	kmem_cache_free(k->q, k->c, k->obj);
}

static void underrun(void *arg)
{
	struct crime *k = arg;

	k->obj[-1] = 1;
	kmem_cache_free(k->q, k->c, k->obj);
}

static void write_after_free(void *arg)
{
	struct crime *k = arg;
	unsigned i;

	kmem_cache_free(k->q, k->c, k->obj);
	k->obj[50] = 1;
	for (i = 0; i < 100; i++)
		kmem_cache_alloc(k->q, k->c, GFP_KERNEL);
}

/* Without debug mode: the free list's own word. */
static void write_after_free_link(void *arg)
{
	struct crime *k = arg;
	unsigned i;

	kmem_cache_free(k->q, k->c, k->obj);
	kmem_cache_shrink(k->q, k->c);
	k->obj[0] ^= 0xff;
	k->obj[7] ^= 0xff;
	for (i = 0; i < 100; i++)
		kmem_cache_alloc(k->q, k->c, GFP_KERNEL);
}

#define ALL_DEBUG (SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER)

static void expect(u32 flags, void (*crime)(void *), const char *cache, const char *words)
{
	struct quire *q = kmem_machine(NULL);
	struct crime k = {.q = q};
	char addr[32];

	k.c = kmem_cache_create(q, "victim", 100, 0, flags, NULL);
	k.other = kmem_cache_create(q, "other", 100, 0, flags, NULL);
	k.obj = kmem_cache_alloc(q, k.c, GFP_KERNEL);
	k.obj2 = kmem_cache_alloc(q, k.c, GFP_KERNEL); /* keeps the slab in use */
	assert_non_null(sim_expect_panic(crime, &k));
	if (!strstr(whole_log(q), words) || !strstr(whole_log(q), cache) || !strstr(whole_log(q), "aller ") ||
	    !strstr(whole_log(q), "Object 0x"))
		fail_msg("expected \"%s\" for \"%s\" in:\n%s", words, cache, whole_log(q));
	snprintf(addr, sizeof(addr), "%p", (void *)k.obj);
	/* What is found only when a magazine is emptied has no caller left. */
	if (crime != double_free_late && crime != free_never_allocated)
		assert_non_null(strstr(whole_log(q), "aller 0x"));
	if (crime == double_free || crime == overrun)
		assert_non_null(strstr(whole_log(q), addr));
	sim_machine_free(q);
}

static void test_bad_input(void **state)
{
	expect(0, double_free, "BUG victim", "Object already free");
	expect(0, double_free_late, "BUG victim", "Object already free");
	expect(0, free_middle, "BUG victim", "Not the start of an object");
	expect(0, free_to_wrong_cache, "Wrong slab cache. other but object is from victim", "Wrong slab cache");
	expect(0, kfree_page, "BUG kfree", "Not a kmalloc object");
	expect(0, kfree_stack, "no memory of this machine", "Not a kmalloc object");
	expect(0, kfree_large_middle, "BUG kfree", "Not the start of an object");
	expect(0, kfree_large_twice, "BUG kfree", "Not a kmalloc object");
	expect(0, free_never_allocated, "BUG victim", "Object already free");
}

static void test_debug_mode(void **state)
{
	expect(ALL_DEBUG, double_free, "BUG victim", "Object already free");
	expect(ALL_DEBUG, free_middle, "BUG victim", "Not the start of an object");
	expect(ALL_DEBUG, overrun, "BUG victim", "Right Redzone overwritten");
	expect(SLAB_RED_ZONE, overrun, "BUG victim", "Right Redzone overwritten");
	expect(ALL_DEBUG, underrun, "BUG victim", "Left Redzone overwritten");
	expect(ALL_DEBUG, write_after_free, "BUG victim", "Poison overwritten");
	expect(SLAB_STORE_USER, double_free, "Freed in 0x", "Object already free");
	expect(ALL_DEBUG, overrun, "Allocated in 0x", "First byte 0x1 instead of 0xcc");
}

static void test_broken_free_list(void **state)
{
	struct quire *q = kmem_machine(NULL);
	struct crime k = {.q = q, .c = kmem_cache_create(q, "victim", 100, 0, 0, NULL)};

	k.obj = kmem_cache_alloc(q, k.c, GFP_KERNEL);
	k.obj2 = kmem_cache_alloc(q, k.c, GFP_KERNEL);
	assert_non_null(sim_expect_panic(write_after_free_link, &k));
	assert_non_null(strstr(whole_log(q), "BUG victim (Not tainted): Freechain corrupt"));
	sim_machine_free(q);
}

/* cfg.debug_*: every cache is in debug mode, and ordinary use raises no alarm. */
static void test_debug_machine(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.debug_poison = true, .debug_owner = true});
	u64 seed = sim_seed(5);
	void *p[100] = {0};
	unsigned i;

	assert_int_equal(q->kmem.kmalloc[0][3]->flags & ALL_DEBUG, ALL_DEBUG);
	for (i = 0; i < 20000; i++) {
		unsigned j = rnd(&seed) % 100;
		size_t size = rnd(&seed) % (rnd(&seed) % 8 ? 300 : 9000) + 1;

		kfree(q, p[j]);
		p[j] = kmalloc(q, size, GFP_KERNEL | (i % 2 ? __GFP_ZERO : 0));
		assert_true(i % 2 == 0 || pattern_ok(p[j], size, 0));
		fill_pattern(p[j], size, 0x42);
	}
	assert_true(kmem_is_valid(q));
	sim_machine_free(q);
}

/* ---- every allocation failed in turn ---- */

static bool scenario(struct quire *q)
{
	struct kmem_cache *c = kmem_cache_create(q, "sweep", 300, 0, 0, NULL);
	void *p[80] = {0};
	bool ok = c != NULL;
	unsigned i;

	for (i = 0; ok && i < 80; i++) {
		p[i] = i % 3 ? kmem_cache_alloc(q, c, GFP_KERNEL) : kmalloc(q, 50u << i % 10, GFP_KERNEL);
		ok = p[i] != NULL;
	}
	for (i = 0; i < 80; i++) {
		if (i % 3 && p[i])
			kmem_cache_free(q, c, p[i]);
		else
			kfree(q, p[i]);
	}
	assert_int_equal(kmem_cache_destroy(q, c), 0);
	return ok;
}

static void test_failure_sweep(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u64 before = kmem_frames_in_use(q), n, asked, asked_slab;

	sim_fail_nth(q, BIT(FAIL_SLAB), 0);
	assert_true(scenario(q));
	asked_slab = sim_fail_count(q);
	assert_int_equal(asked_slab, 81);
	for (n = 1; n <= asked_slab; n++) {
		sim_fail_nth(q, BIT(FAIL_SLAB), n);
		assert_false(scenario(q));
		assert_int_equal(sim_fail_injected(q), 1);
	}
	sim_fail_none(q);
	assert_true(scenario(q));
	asked = sim_fail_count(q);
	for (n = 1; n <= asked + 2; n++) {
		sim_fail_nth(q, SIM_FAIL_MEMORY, n);
		scenario(q);
		sim_fail_from(q, SIM_FAIL_MEMORY, n);
		scenario(q);
		sim_fail_none(q);
		assert_true(kmem_is_valid(q));
		assert_int_equal(kmem_frames_in_use(q), before);
	}
	sim_machine_free(q);
}

/* Out of memory for real: NULL, no crash, and everything comes back. */
static void test_exhaustion(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.memory = 8 << 20});
	u64 before = kmem_frames_in_use(q);
	void **list = NULL, **p;
	u64 n = 0;

	while ((p = kmalloc(q, 1000, GFP_NOWAIT))) {
		*p = list;
		list = p;
		n++;
	}
	assert_true(n > 6000);
	assert_true(kmem_is_valid(q));
	while ((p = list)) {
		list = *p;
		kfree(q, p);
	}
	assert_int_equal(kmem_frames_in_use(q), before);
	assert_true(kmem_is_valid(q));
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_size),
		cmocka_unit_test(test_corners),
		cmocka_unit_test(test_krealloc),
		cmocka_unit_test(test_constructor),
		cmocka_unit_test(test_busy_magazines),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_destroy_busy),
		cmocka_unit_test(test_shrink),
		cmocka_unit_test(test_bulk),
		cmocka_unit_test(test_inside_transaction),
		cmocka_unit_test(test_many_contexts),
		cmocka_unit_test(test_bad_input),
		cmocka_unit_test(test_debug_mode),
		cmocka_unit_test(test_broken_free_list),
		cmocka_unit_test(test_debug_machine),
		cmocka_unit_test(test_failure_sweep),
		cmocka_unit_test(test_exhaustion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
