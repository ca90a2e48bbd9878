/*
 * /proc/slabinfo, version 2.1: the format of Linux's mm/slab_common.c as slabinfo(5) describes it and libproc2 parses
 * it.
 *
 * <objsize> is the distance between objects, and <active_slabs> equals <num_slabs>, as with SLUB.  Objects in the
 * slots of contexts count as active, as SLUB counts those of its CPU slabs; objects in depots do not.
 *
 * Locks: takes q->lock for one cache at a time; reap_mutex keeps caches from disappearing in between.
 */
#include <fmt.h>
#include <quire/machine.h>

/* Preferred order: slabs made while memory was short may be smaller, and still count as one. */
static void slabinfo_line(struct quire *q, const struct kmem_cache *c, struct fmt_buf *out)
{
	u64 slabs = c->partial.count + c->full.count + c->empty.count;
	u64 active = c->nr_inuse - c->depot_objs;

	fmt_printf(out, "%-17s %6lu %6lu %6u %4u %4d : tunables %4u %4u %4u : slabdata %6lu %6lu %6lu\n", c->name,
		   (unsigned long)active, (unsigned long)c->nr_objs, c->size,
		   (unsigned)((PAGE_SIZE << c->order) / c->size), 1 << c->order, 0u, 0u, 0u, (unsigned long)slabs,
		   (unsigned long)slabs, 0ul);
}

void proc_slabinfo(struct quire *q, struct fmt_buf *out)
{
	const struct kmem_cache *c;

	fmt_printf(out, "slabinfo - version: 2.1\n");
	fmt_printf(out, "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables "
			"<limit> "
			"<batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n");
	mutex_lock(&q->kmem.reap_mutex);
	spin_lock(&q->lock);
	c = q->kmem.caches;
	spin_unlock(&q->lock);
	while (c) {
		spin_lock(&q->lock);
		slabinfo_line(q, c, out);
		c = c->next;
		spin_unlock(&q->lock);
	}
	mutex_unlock(&q->kmem.reap_mutex);
}
