/* What the tests of kmem/ share: a machine with frames and allocators only, random numbers, a few bytes to tell
 * objects apart. */
#ifndef QUIRE_KMEM_TEST_H
#define QUIRE_KMEM_TEST_H
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <port/sim/sim.h>
#include "slab.h"

static inline struct quire *kmem_machine(const struct sim_config *cfg)
{
	struct quire *q = sim_machine_new_raw(cfg);

	assert_int_equal(phys_init(q), 0);
	assert_int_equal(kmem_init(q), 0);
	q->range_cache = kmem_cache_create(q, "range_btnode", sizeof(struct range_btnode), 0, 0, NULL);
	assert_non_null(q->range_cache);
	return q;
}

/* Everything that only waits for new use goes back; the frames in use then. */
static inline u64 kmem_frames_in_use(struct quire *q)
{
	struct kmem_cache *c;

	kmem_reap(q);
	if (!q->kmem.vmap.count)
		range_tree_destroy(q, &q->kmem.vmap); /* its reserve of nodes */
	for (c = q->kmem.caches; c; c = c->next) {
		magazine_drain(q, c, true);
		kmem_cache_shrink(q, c);
	}
	/* Spare magazines are the allocator's own stock. */
	spin_lock(&q->lock);
	while (q->kmem.empty) {
		struct magazine *m = q->kmem.empty;

		q->kmem.empty = m->next;
		q->kmem.nr_empty--;
		slab_give_locked(q, &q->kmem.magazine_cache, m, 0);
	}
	spin_unlock(&q->lock);
	kmem_cache_shrink(q, &q->kmem.magazine_cache);
	drain_all_pages(q);
	return totalram_pages(q) - nr_free_pages(q);
}

/* xorshift64* (Vigna 2016) */
static inline u64 rnd(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

static inline void fill_pattern(void *p, size_t n, u8 tag)
{
	memset(p, tag, n);
}

static inline bool pattern_ok(const void *p, size_t n, u8 tag)
{
	const u8 *b = p;
	size_t i;

	for (i = 0; i < n; i++)
		if (b[i] != tag)
			return false;
	return true;
}

/* The log of a machine, also what is still waiting to be forwarded. */
static inline const char *whole_log(struct quire *q)
{
	quire_log(q, 7, "(end)");
	return sim_log_text(q);
}
#endif
