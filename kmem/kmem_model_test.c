/*
 * Model test: random kmalloc, krealloc, kfree and cache operations against a flat map with one byte per 8 bytes of RAM
 * that says "taken".  Two live objects that overlap, an object outside RAM, a size that is too small: all meet the map
 * at once. QUIRE_SEED replays a run, QUIRE_OPS sets its length.  Then threads, with objects freed by others than their
 * makers.
 */
#include <pthread.h>
#include "kmem_test.h"

#define MEMORY (64ull << 20)
#define LIVE_MAX 4000
#define NR_CACHES 5

struct live {
	u8 *p;
	size_t size; /* bytes that are marked */
	struct kmem_cache *c;
	u8 tag;
};

struct model {
	struct quire *q;
	u64 seed;
	u8 *taken; /* one per 8 bytes of RAM */
	struct live live[LIVE_MAX];
	unsigned n;
	struct kmem_cache *caches[NR_CACHES];
	bool constructed[NR_CACHES];
	u64 frames; /* in use before anything else */
};

static void model_ctor(void *p)
{
	memset(p, 0xc7, 56);
}

static void mark(struct model *m, const struct live *l, u8 from, u8 to)
{
	u64 off = (u64)(l->p - (u8 *)m->q->cfg.direct_map), i;

	assert_true(off + l->size <= MEMORY);
	for (i = off / 8; i < (off + l->size + 7) / 8; i++) {
		if (m->taken[i] != from)
			fail_msg("object %p+%zu of %s: byte %lu is %s", (void *)l->p, l->size,
				 l->c ? kmem_cache_size(l->c) ? "cache" : "" : "kmalloc", (unsigned long)i * 8,
				 from ? "not taken" : "taken already");
		m->taken[i] = to;
	}
}

static void add(struct model *m, void *p, size_t size, struct kmem_cache *c)
{
	struct live *l = &m->live[m->n++];

	*l = (struct live){.p = p, .size = size, .c = c, .tag = (u8)rnd(&m->seed)};
	mark(m, l, 0, 1);
	fill_pattern(p, MIN(size, 4096), l->tag);
}

static void drop(struct model *m, unsigned i, bool constructed)
{
	struct live *l = &m->live[i];

	assert_true(pattern_ok(l->p, MIN(l->size, 4096), l->tag));
	mark(m, l, 1, 0);
	if (l->c && constructed)
		model_ctor(l->p);
	if (l->c)
		kmem_cache_free(m->q, l->c, l->p);
	else
		kfree(m->q, l->p);
	m->live[i] = m->live[--m->n];
}

static size_t random_size(struct model *m)
{
	u64 r = rnd(&m->seed) % 100;

	return 1 + rnd(&m->seed) % (r < 70 ? 300 : r < 95 ? 9000 : 60000);
}

static bool is_constructed(struct model *m, const struct kmem_cache *c)
{
	unsigned i;

	for (i = 0; i < NR_CACHES; i++)
		if (m->caches[i] == c)
			return m->constructed[i];
	return false;
}

static void step_kmalloc(struct model *m)
{
	size_t size = random_size(m);
	bool zero = rnd(&m->seed) % 4 == 0;
	u8 *p = kmalloc(m->q, size, zero ? GFP_KERNEL | __GFP_ZERO : GFP_NOWAIT);

	if (!p)
		return;
	assert_true(ksize(m->q, p) >= size);
	assert_true(!zero || pattern_ok(p, size, 0));
	add(m, p, ksize(m->q, p), NULL);
}

static void step_cache(struct model *m)
{
	unsigned i = rnd(&m->seed) % NR_CACHES;
	void *p = kmem_cache_alloc(m->q, m->caches[i], GFP_NOWAIT);

	if (!p)
		return;
	assert_true(!m->constructed[i] || pattern_ok(p, 56, 0xc7));
	add(m, p, kmem_cache_size(m->caches[i]), m->caches[i]);
}

static void step_realloc(struct model *m)
{
	unsigned i = rnd(&m->seed) % m->n;
	struct live old = m->live[i];
	size_t size = random_size(m);
	u8 *p;

	if (old.c)
		return;
	p = krealloc(m->q, old.p, size, GFP_NOWAIT);
	if (!p)
		return;
	assert_true(pattern_ok(p, MIN(MIN(old.size, size), 4096), old.tag));
	mark(m, &old, 1, 0);
	m->live[i] = m->live[--m->n];
	add(m, p, ksize(m->q, p), NULL);
}

static void step_bulk(struct model *m)
{
	struct kmem_cache *c = m->caches[0];
	void *p[50];
	unsigned i, n = 1 + rnd(&m->seed) % 50;

	if (m->n + n > LIVE_MAX || !kmem_cache_alloc_bulk(m->q, c, GFP_NOWAIT, n, p))
		return;
	for (i = 0; i < n; i++)
		add(m, p[i], kmem_cache_size(c), c);
}

static void step(struct model *m)
{
	u64 r = rnd(&m->seed) % 10000;

	if (r < 5)
		kmem_cache_shrink(m->q, m->caches[r]);
	else if (r == 5)
		kmem_reap(m->q);
	else if (r < 50)
		step_bulk(m);
	else if (m->n && r < 600)
		step_realloc(m);
	else if (m->n == LIVE_MAX || (m->n && r < 5300)) {
		unsigned i = rnd(&m->seed) % m->n;

		drop(m, i, is_constructed(m, m->live[i].c));
	} else if (r % 3)
		step_kmalloc(m);
	else
		step_cache(m);
}

static void model_begin(struct model *m, u64 seed)
{
	static const size_t size[NR_CACHES] = {24, 56, 200, 1100, 20000};
	char name[32];
	unsigned i;

	memset(m, 0, sizeof(*m));
	m->q = kmem_machine(&(struct sim_config){.memory = MEMORY, .seed = seed, .nr_cpus = 2});
	m->seed = seed | 1;
	m->frames = kmem_frames_in_use(m->q);
	m->taken = calloc(1, MEMORY / 8);
	for (i = 0; i < NR_CACHES; i++) {
		snprintf(name, sizeof(name), "model-%u", i);
		m->constructed[i] = i == 1;
		m->caches[i] = kmem_cache_create(m->q, name, size[i], i == 2 ? 64 : 0,
						 i == 3 ? SLAB_RECLAIM_ACCOUNT : 0, i == 1 ? model_ctor : NULL);
	}
}

static char *slabinfo(struct quire *q)
{
	char *text = malloc(1 << 16);
	struct fmt_buf b = fmt_init(text, 1 << 16);

	proc_slabinfo(q, &b);
	assert_false(fmt_truncated(&b));
	return text;
}

static void model_end(struct model *m)
{
	unsigned i;

	while (m->n)
		drop(m, 0, is_constructed(m, m->live[0].c));
	for (i = 0; i < NR_CACHES; i++) {
		assert_int_equal(kmem_cache_live_objects(m->q, m->caches[i]), 0);
		assert_int_equal(kmem_cache_destroy(m->q, m->caches[i]), 0);
	}
	assert_int_equal(kmem_frames_in_use(m->q), m->frames);
	assert_true(kmem_is_valid(m->q));
	free(m->taken);
	sim_machine_free(m->q);
}

static u64 nr_ops(u64 fallback)
{
	const char *s = getenv("QUIRE_OPS");

	return s ? strtoull(s, NULL, 0) : fallback;
}

static void test_model(void **state)
{
	static struct model m;
	u64 i, n = nr_ops(3000000);

	model_begin(&m, sim_seed(1));
	for (i = 0; i < n; i++) {
		step(&m);
		if (i % (n / 100 + 1) == 0)
			assert_true(kmem_is_valid(m.q));
	}
	model_end(&m);
}

static void test_same_seed_same_slabinfo(void **state)
{
	static struct model m;
	char *text[2];
	unsigned run, i;

	for (run = 0; run < 2; run++) {
		model_begin(&m, 77);
		for (i = 0; i < 50000; i++)
			step(&m);
		text[run] = slabinfo(m.q);
		model_end(&m);
	}
	assert_string_equal(text[0], text[1]);
	assert_non_null(strstr(text[0], "slabinfo - version: 2.1\n# name  "));
	assert_non_null(strstr(text[0], "\nmodel-2 "));
	free(text[0]);
	free(text[1]);
}

/* ---- threads ---- */

#define SHELF 256
struct shelf {
	pthread_mutex_t lock;
	void *obj[SHELF];
	struct kmem_cache *c;
	u64 seed;
};

/* Puts one object on the shelf and frees what another thread had put there. */
static void worker(struct quire *q, unsigned i, void *arg)
{
	struct shelf *s = arg;
	u64 seed = (s->seed + i) * 2 + 1, n, ops = nr_ops(300000) / 4;

	for (n = 0; n < ops; n++) {
		unsigned at = rnd(&seed) % SHELF;
		bool slab = at % 2;
		void *p = slab ? kmem_cache_alloc(q, s->c, GFP_NOWAIT) : kmalloc(q, 8u << rnd(&seed) % 8, GFP_NOWAIT),
		     *old;

		if (p)
			memset(p, (int)at, 8);
		pthread_mutex_lock(&s->lock);
		old = s->obj[at];
		s->obj[at] = p;
		pthread_mutex_unlock(&s->lock);
		if (old)
			assert_true(pattern_ok(old, 8, (u8)at));
		if (slab)
			kmem_cache_free(q, s->c, old);
		else
			kfree(q, old);
		if (n % 20000 == 0)
			kmem_reap(q);
	}
}

static void test_threads(void **state)
{
	static const unsigned threads[] = {2, 4, 8, 20};
	unsigned t, i;

	for (t = 0; t < ARRAY_SIZE(threads); t++) {
		struct quire *q = kmem_machine(&(struct sim_config){.memory = MEMORY, .nr_cpus = 4});
		struct shelf s = {.lock = PTHREAD_MUTEX_INITIALIZER, .seed = sim_seed(9)};

		s.c = kmem_cache_create(q, "shelf", 120, 0, 0, NULL);
		sim_run(q, threads[t], worker, &s);
		for (i = 0; i < SHELF; i++) {
			if (i % 2)
				kmem_cache_free(q, s.c, s.obj[i]);
			else
				kfree(q, s.obj[i]);
		}
		assert_true(kmem_is_valid(q));
		assert_int_equal(kmem_cache_live_objects(q, s.c), 0);
		assert_int_equal(kmem_cache_destroy(q, s.c), 0);
		sim_machine_free(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_same_seed_same_slabinfo),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
