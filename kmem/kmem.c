/*
 * kmem_init(): the allocators come up.  The two caches that every cache needs (for struct kmem_cache and for
 * magazines) lie in struct quire itself; they work without magazines of their own.
 */
#include "vmalloc.h"

_Static_assert(KMEM_MAX_CPUS == QUIRE_MAX_CPUS, "a slot for every CPU");
_Static_assert(sizeof(struct magazine) == 1024, "a magazine wastes nothing in a slab");

static void boot_cache(struct quire *q, struct kmem_cache *c, const char *name, size_t size)
{
	cache_setup(q, c, name, size, 64, 0, NULL);
	c->mag_min = c->mag_max = 0;
	c->mag_size = 0;
	spin_lock(&q->lock);
	cache_link_locked(q, c);
	spin_unlock(&q->lock);
}

int kmem_init(struct quire *q)
{
	u32 i;
	int err;

	q->kmem.nr_slots = KMEM_OWN_SLOTS + q->cfg.nr_cpus;
	q->kmem.secret = port_random(q);
	q->kmem.mem_map_bias = (u64)(uintptr_t)q->cfg.mem_map - ((u64)(uintptr_t)q->cfg.direct_map >> PAGE_SHIFT) * sizeof(struct frame);
	q->kmem.debug_flags =
		(q->cfg.debug_poison ? SLAB_POISON | SLAB_RED_ZONE : 0) | (q->cfg.debug_owner ? SLAB_STORE_USER : 0);
	for (i = 0; i < QUIRE_MAX_CPUS; i++)
		spin_lock_init(&q->kmem.cpu[i].lock, LOCK_RANK_CPU);
	mutex_init(&q->kmem.reap_mutex);
	boot_cache(q, &q->kmem.cache_cache, "kmem_cache",
		   offsetof(struct kmem_cache, slot) + q->kmem.nr_slots * sizeof(struct kmem_slot));
	boot_cache(q, &q->kmem.magazine_cache, "kmem_magazine", sizeof(struct magazine));
	err = kmalloc_init(q);
	if (err)
		return err;
	q->kmem.area_cache = kmem_cache_create(q, "vmap_area", sizeof(struct vmap_area), 0, 0, NULL);
	return q->kmem.area_cache ? highmem_init(q) : -ENOMEM;
}
