/*
 * The whole machine: the simulated body with the core booted on it, and the count of what it has lost.
 */
#include "sim_internal.h"
#include <stdio.h>
#include <stdlib.h>

/* Frames in use that are not slabs': a slab may outlive its objects. */
static u64 frames_in_use(struct quire *q)
{
	return totalram_pages(q) - nr_free_pages(q) - q->kmem.nr_slab_pages[0] - q->kmem.nr_slab_pages[1];
}

static u64 objects_in_use(struct quire *q)
{
	struct kmem_cache *c;
	u64 n = 0;

	for (c = q->kmem.caches; c; c = c->next)
		if (c != &q->kmem.magazine_cache) /* these only hold others' free objects */
			n += kmem_cache_live_objects(q, c);
	return n;
}

s64 sim_leaked_frames(struct quire *q)
{
	kmem_reap(q);
	drain_all_pages(q);
	return (s64)(sim_of(q)->baseline.free - nr_free_pages(q));
}

/* Is everything given back that was taken since boot?  Says what is not. */
static bool nothing_leaked(struct quire *q)
{
	const struct sim_baseline *b = &sim_of(q)->baseline;
	u64 frames, objects;

	kmem_reap(q);
	drain_all_pages(q);
	frames = frames_in_use(q);
	objects = objects_in_use(q);
	if (frames == b->frames && objects == b->objects)
		return true;
	fprintf(stderr, "sim: %lld frames and %lld slab objects leaked\n", (long long)(frames - b->frames),
		(long long)(objects - b->objects));
	return false;
}

struct quire *sim_machine_new(const struct sim_config *cfg)
{
	struct quire *q = sim_machine_new_raw(cfg);
	struct sim_machine *m = sim_of(q);
	int err = quire_boot(q, &m->qcfg);

	if (err) {
		fprintf(stderr, "sim: quire_boot: error %d\n%s", err, sim_log_text(q));
		exit(99);
	}
	sim_set_abort_handler(q, do_mem_abort);
	kmem_reap(q);
	drain_all_pages(q);
	m->baseline = (struct sim_baseline){ nr_free_pages(q), frames_in_use(q), objects_in_use(q) };
	m->nothing_leaked = nothing_leaked;
	return q;
}
