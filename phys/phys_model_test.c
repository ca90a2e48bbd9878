/*
 * Random operations against a flat model that is obviously right: an array that says for every frame which block it
 * belongs to.  Checked at each step: where the block lies and that nobody had its frames, its record, zeroing, the
 * count of free frames; that a request was refused only when no aligned free run was left.  At intervals: everything
 * (phys_is_valid), and at the end that the same seed gave the same bytes of /proc.
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

#define MAX_BLOCKS 20000

struct block {
	struct frame *f;
	unsigned order;
	u64 stamp; /* written into the first and the last word of the block */
};

struct model {
	struct quire *q;
	u64 rng;
	u32 *owner; /* by frame: index into blocks + 1; 0 = free */
	struct block *blocks;
	unsigned n;    /* live blocks */
	u64 used;      /* frames */
	u64 total;     /* frames free at the start */
	unsigned bias; /* percent of operations that allocate, changes with time */
};

static u64 rnd(struct model *m, u64 below)
{
	m->rng = m->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (m->rng >> 33) % below;
}

static unsigned random_order(struct model *m)
{
	/* mostly small, like real requests */
	u64 r = rnd(m, 100);

	return r < 60 ? 0 : r < 80 ? 1 + (unsigned)rnd(m, 3) : (unsigned)rnd(m, NR_ORDERS);
}

static gfp_t random_gfp(struct model *m)
{
	static const gfp_t kinds[] =
		{GFP_KERNEL, GFP_HIGHUSER_MOVABLE,     GFP_KERNEL | __GFP_RECLAIMABLE, GFP_ATOMIC,
		 GFP_NOWAIT, GFP_KERNEL | __GFP_DMA32, GFP_KERNEL | __GFP_DMA,         GFP_HIGHUSER,
		 GFP_NOFS};
	gfp_t gfp = kinds[rnd(m, ARRAY_SIZE(kinds))] | __GFP_NOWARN;

	if (rnd(m, 4) == 0)
		gfp |= __GFP_ZERO;
	if (rnd(m, 8) == 0)
		gfp |= __GFP_MEMALLOC;
	return gfp;
}

/* The last frame that the request may get. */
static pfn_t limit_of(struct model *m, gfp_t gfp)
{
	const struct zone *z = m->q->phys.zones;

	if (gfp & __GFP_DMA && z[ZONE_DMA].configured)
		return z[ZONE_DMA].end_pfn;
	if (gfp & __GFP_DMA32 && z[ZONE_DMA32].configured)
		return z[ZONE_DMA32].end_pfn;
	return gfp & __GFP_HIGHMEM ? m->q->phys.nr_frames : z[ZONE_NORMAL].end_pfn;
}

/* The bytes of any frame, HighMem too: only a simulated machine lets one do that. */
static u64 *bytes_of(struct quire *q, const struct frame *f)
{
	return (u64 *)((char *)q->cfg.direct_map + ((u64)frame_to_pfn(q, f) << PAGE_SHIFT));
}

static void clear_any(struct quire *q, struct frame *f, u32 n)
{
	assert_null(frame_address(q, f));
	memset(bytes_of(q, f), 0, n * PAGE_SIZE);
}

static void check_is_zero(struct model *m, struct frame *f, unsigned order)
{
	const u64 *p = bytes_of(m->q, f);
	u64 i, n = (PAGE_SIZE << order) / 8;

	/* whole small blocks, samples of large ones */
	for (i = 0; i<n; i += order> 3 ? 61 : 1)
		assert_int_equal(p[i], 0);
	assert_int_equal(p[n - 1], 0);
}

static u64 *last_word(u64 *first, unsigned order)
{
	return first + (PAGE_SIZE << order) / 8 - 1;
}

static void model_add(struct model *m, struct frame *f, unsigned order, gfp_t gfp)
{
	pfn_t pfn = frame_to_pfn(m->q, f), i;
	struct block *b = &m->blocks[m->n];
	u64 *p = bytes_of(m->q, f);

	assert_true(pfn + (1u << order) <= limit_of(m, gfp));
	assert_int_equal(pfn & ((1u << order) - 1), 0);
	assert_int_equal(f->type, FRAME_KERNEL);
	assert_int_equal(f->order, order);
	assert_int_equal(f->refcount, 1);
	assert_true(!f->flags && !f->mapcount && !f->mapping && !f->index && !f->private && !f->next && !f->prev);
	if (gfp & __GFP_ZERO)
		check_is_zero(m, f, order);
	m->n++;
	for (i = pfn; i < pfn + (1u << order); i++) {
		assert_int_equal(m->owner[i], 0);
		m->owner[i] = m->n;
	}
	*b = (struct block){f, order, rnd(m, 1ull << 31)};
	*p = *last_word(p, order) = b->stamp;
	/* what an owner leaves in the record must not come back */
	f->mapping = f->index = f->private = b->stamp;
	m->used += 1u << order;
}

static void model_remove(struct model *m, unsigned i)
{
	struct block *b = &m->blocks[i], *last = &m->blocks[m->n - 1];
	pfn_t pfn = frame_to_pfn(m->q, b->f), k;
	u64 *p = bytes_of(m->q, b->f);

	assert_true(*p == b->stamp && *last_word(p, b->order) == b->stamp);
	for (k = 0; k < 1u << b->order; k++) {
		assert_int_equal(m->owner[pfn + k], i + 1);
		m->owner[pfn + k] = 0;
	}
	m->used -= 1u << b->order;
	if (b != last) {
		*b = *last;
		pfn = frame_to_pfn(m->q, b->f);
		for (k = 0; k < 1u << b->order; k++)
			m->owner[pfn + k] = i + 1;
	}
	m->n--;
}

/* Is there an aligned free run, in one zone, that the request might have had? */
static bool run_exists(struct model *m, pfn_t limit, unsigned order)
{
	pfn_t pfn, i, size = 1u << order;

	for (pfn = size == 1 ? 1 : 0; pfn + size <= limit; pfn += size) {
		for (i = pfn; i < pfn + size; i++)
			if (m->owner[i] || m->q->cfg.mem_map[i].type == FRAME_RESERVED ||
			    pfn_zone_idx(m->q, i) != pfn_zone_idx(m->q, pfn))
				break;
		if (i == pfn + size)
			return true;
	}
	return false;
}

static void op_alloc(struct model *m)
{
	unsigned order = random_order(m);
	gfp_t gfp = random_gfp(m);
	struct frame *f;

	if (m->n == MAX_BLOCKS)
		return;
	f = alloc_pages(m->q, gfp, order);
	if (!f && gfp & __GFP_MEMALLOC) {
		drain_all_pages(m->q);
		f = alloc_pages(m->q, gfp, order);
		if (!f && run_exists(m, limit_of(m, gfp), order))
			fail_msg("order %u refused although there is room", order);
	}
	if (f)
		model_add(m, f, order, gfp);
}

static void op_free(struct model *m)
{
	unsigned i;
	struct block b;

	if (!m->n)
		return;
	i = (unsigned)rnd(m, m->n);
	b = m->blocks[i];
	model_remove(m, i);
	__free_pages(m->q, b.f, b.order);
}

/* Cuts a block into single frames, as a reservation is broken. */
static void op_split(struct model *m)
{
	unsigned i, k;
	struct block b;

	if (!m->n)
		return;
	i = (unsigned)rnd(m, m->n);
	b = m->blocks[i];
	if (b.order > 5 || m->n + (1u << b.order) > MAX_BLOCKS)
		return;
	model_remove(m, i);
	b.f->mapping = b.f->index = b.f->private = 0;
	split_page(m->q, b.f, b.order);
	for (k = 0; k < 1u << b.order; k++)
		model_add(m, b.f + k, 0, __GFP_HIGHMEM);
}

static void op_bulk(struct model *m)
{
	struct frame *f[40];
	gfp_t gfp = random_gfp(m);
	unsigned i, n, want = 1 + (unsigned)rnd(m, ARRAY_SIZE(f));

	if (m->n + want > MAX_BLOCKS)
		return;
	n = alloc_pages_bulk(m->q, gfp, want, f);
	for (i = 0; i < n; i++)
		model_add(m, f[i], 0, gfp);
}

static void op_bulk_free(struct model *m)
{
	struct frame *f[40];
	unsigned n = 0, want = 1 + (unsigned)rnd(m, ARRAY_SIZE(f));

	while (m->n && n < want) {
		unsigned i = (unsigned)rnd(m, m->n);

		f[n++] = m->blocks[i].f;
		model_remove(m, i);
	}
	free_pages_bulk(m->q, n, f);
}

/* A size that is no power of two: single frames to the model. */
static void op_exact(struct model *m)
{
	unsigned i, n = 1 + (unsigned)rnd(m, 70);
	struct frame *f;
	void *p;

	if (m->n + n > MAX_BLOCKS)
		return;
	p = alloc_pages_exact(m->q, n * PAGE_SIZE - rnd(m, PAGE_SIZE), GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
	if (!p)
		return;
	f = virt_to_frame(m->q, p);
	for (i = 0; i < n; i++)
		model_add(m, f + i, 0, GFP_KERNEL | __GFP_ZERO);
}

static void step(struct model *m)
{
	u64 r = rnd(m, 1000);

	if (r == 0)
		drain_all_pages(m->q);
	else if (r < 20)
		sim_thread_set_cpu((unsigned)rnd(m, m->q->cfg.nr_cpus));
	else if (r < 24)
		op_split(m);
	else if (r < 30)
		op_bulk(m);
	else if (r < 36)
		op_bulk_free(m);
	else if (r < 39)
		op_exact(m);
	else if (rnd(m, 100) < m->bias)
		op_alloc(m);
	else
		op_free(m);
	assert_int_equal(nr_free_pages(m->q), m->total - m->used);
}

static void show(struct quire *q, struct fmt_buf *out)
{
	proc_buddyinfo(q, out);
	proc_pagetypeinfo(q, out);
	proc_zoneinfo(q, out);
	assert_false(fmt_truncated(out));
}

static void run_model(const struct sim_config *cfg, u64 ops, struct fmt_buf *out)
{
	struct model m = {.q = sim_machine_new_raw(cfg), .rng = cfg->seed, .bias = 60};
	u64 i;

	assert_int_equal(phys_init(m.q), 0);
	m.q->hooks.clear_highpages = clear_any;
	m.owner = calloc(m.q->phys.nr_frames, sizeof(*m.owner));
	m.blocks = calloc(MAX_BLOCKS, sizeof(*m.blocks));
	m.total = nr_free_pages(m.q);
	for (i = 0; i < ops; i++) {
		if (i % 20000 == 0)
			m.bias = 35 + (unsigned)rnd(&m, 31); /* fill up and empty in turn */
		step(&m);
		if (i % 50000 == 0)
			assert_true(phys_is_valid(m.q));
	}
	assert_true(phys_is_valid(m.q));
	show(m.q, out);
	while (m.n)
		op_free(&m);
	drain_all_pages(m.q);
	assert_int_equal(nr_free_pages(m.q), m.total);
	assert_true(phys_is_valid(m.q));
	show(m.q, out);
	free(m.owner);
	free(m.blocks);
	sim_machine_free(m.q);
}

static void run_twice(struct sim_config cfg, u64 ops)
{
	size_t size = 256 << 10;
	char *first = malloc(size), *second = malloc(size);
	struct fmt_buf a = fmt_init(first, size), b = fmt_init(second, size);

	cfg.seed = sim_seed(0x5eed0 + cfg.memory + cfg.nr_cpus);
	run_model(&cfg, ops, &a);
	run_model(&cfg, ops, &b);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

/* QUIRE_MODEL_OPS multiplies the lengths, for long runs. */
static u64 times(u64 ops)
{
	const char *env = getenv("QUIRE_MODEL_OPS");

	return env ? ops * strtoull(env, NULL, 0) : ops;
}

static void default_layout(void **state)
{
	run_twice((struct sim_config){.memory = 64 << 20, .nr_cpus = 3}, times(1000000));
}

static void small_highmem_layout(void **state)
{
	static const struct zone_layout small32 = {.name = "small32", .dma_end = 4 << 20, .lowmem_end = 24 << 20};

	run_twice((struct sim_config){.memory = 48 << 20, .zones = &small32, .nr_cpus = 2}, times(600000));
}

static void unaligned_layout_with_junk(void **state)
{
	static const struct zone_layout odd = {.name = "odd",
					       .dma_end = 0x323000,
					       .dma32_end = 0xa45000,
					       .lowmem_end = ~0ull};

	run_twice((struct sim_config){.memory = 0x1ffd000, .zones = &odd, .no_virgin_zero = true}, times(400000));
}

static void poisoned_and_owned(void **state)
{
	run_twice((struct sim_config){.memory = 32 << 20,
				      .zones = &zone_layout_flat,
				      .debug_poison = true,
				      .debug_owner = true},
		  times(40000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_layout),
		cmocka_unit_test(small_highmem_layout),
		cmocka_unit_test(unaligned_layout_with_junk),
		cmocka_unit_test(poisoned_and_owned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
