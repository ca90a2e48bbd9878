/*
 * Caches: how objects of one kind are laid out, and the life of a cache.
 *
 * One object of a plain cache is just its bytes; the free link lies in its first word.  With a constructor the link
 * stands behind the object, which must survive being free.  In debug mode an object looks like this:
 *
 *	left red zone | object ... right red zone | link | owner records (allocated, freed) | padding
 *	^ slot start  ^ what the user sees        ^ inuse_end                                ^ slot start + size
 *
 * Locks: the list of caches and a cache's counts are under q->lock; the layout is immutable.  reap_mutex is held while
 * a cache disappears, so that kmem_reap() may walk the list with q->lock dropped in between.
 */
#include <quire/vmalloc.h>
#include "magazine.h"

#define SLAB_MAX_ORDER 3
/* A full magazine holds at most so many objects and so much memory: at first, and when the cache is busy (slot_exchange()). */
#define MAGAZINE_FEW 62
#define MAGAZINE_BYTES 65536u
#define MAGAZINE_BUSY_BYTES 262144u

static unsigned fls32(u32 x)
{
	return x ? 32 - (unsigned)__builtin_clz(x) : 0;
}

static unsigned order_of(u64 bytes)
{
	unsigned order = 0;

	while ((PAGE_SIZE << order) < bytes)
		order++;
	return order;
}

/* Frames of a slab: enough objects to be worth a trip to the page allocator, then little waste; as SLUB does
 * (Documentation/mm/slab.rst: slab_max_order, slab_min_objects). */
static unsigned preferred_order(u32 size, u32 nr_cpus)
{
	u64 want = 4 * (fls32(nr_cpus) + 1), most = (PAGE_SIZE << SLAB_MAX_ORDER) / size;
	unsigned fraction, order, first = order_of(MAX(MIN(want, most), 1) * size);

	for (fraction = 16; fraction > 1; fraction /= 2)
		for (order = first; order <= SLAB_MAX_ORDER; order++)
			if ((PAGE_SIZE << order) % size <= (PAGE_SIZE << order) / fraction)
				return order;
	return order_of(size);
}

/* Objects smaller than half a cache line share lines without straddling them, as SLUB's calculate_alignment(). */
static u32 natural_align(u32 size, u32 align, u32 flags)
{
	u32 line = 64;

	if (flags & SLAB_HWCACHE_ALIGN) {
		while (size <= line / 2)
			line /= 2;
		align = MAX(align, line);
	}
	return MAX(align, 8);
}

/* See the picture above.  Offsets count from what the user sees, so that plain caches pay nothing for the others. */
static void layout_objects(struct kmem_cache *c)
{
	u32 size = (u32)ALIGN_UP(c->object_size, 8);

	if (c->flags & SLAB_RED_ZONE)
		size = size == c->object_size ? size + 8 : size;
	c->inuse_end = size;
	c->link = 0;
	c->left = c->track = 0;
	if (c->ctor || (c->flags & SLAB_DEBUG_FLAGS)) {
		c->link = size;
		size += 8;
	}
	if (c->flags & SLAB_STORE_USER) {
		c->track = size;
		size += 2 * sizeof(struct track);
	}
	if (c->flags & SLAB_RED_ZONE) {
		c->left = MAX(c->align, 8);
		size += c->left + 8;
	}
	c->size = (u32)ALIGN_UP(size, c->align);
}

/* A debug cache has no magazines: every allocation and every free must pass the checks. */
static u16 magazine_size(const struct kmem_cache *c, u32 bytes, u32 objects)
{
	return c->flags & SLAB_DEBUG_FLAGS ? 0 : (u16)MAX(MIN(bytes / c->size, objects), 2);
}

/* A cache may keep so much of memory in full magazines until somebody reclaims (kmem_reap). */
#define DEPOT_FRACTION 64u
#define DEPOT_MAX_BYTES (16u << 20)
#define DEPOT_MIN_BYTES (64u << 10)
#define DEPOT_MAX_MAGAZINES 1024u
static u32 depot_limit(const struct quire *q, const struct kmem_cache *c)
{
	u64 bytes = MAX(MIN(q->cfg.memory / DEPOT_FRACTION, DEPOT_MAX_BYTES), DEPOT_MIN_BYTES);

	return (u32)MIN(MAX(bytes / c->size, 2u * c->mag_min), DEPOT_MAX_MAGAZINES * c->mag_min);
}

static void copy_name(char *to, const char *name)
{
	size_t n = MIN(strlen(name), CACHE_NAME_MAX - 1);

	memcpy(to, name, n);
	to[n] = '\0';
}

struct kmem_cache *cache_setup(struct quire *q, struct kmem_cache *c, const char *name, size_t size, size_t align,
			       u32 flags, void (*ctor)(void *))
{
	memset(c, 0, offsetof(struct kmem_cache, slot) + q->kmem.nr_slots * sizeof(struct kmem_slot));
	copy_name(c->name, name);
	c->object_size = (u32)size;
	/* A constructed object keeps its state while it is free, so it cannot be poisoned. */
	c->flags = ctor ? flags & ~SLAB_POISON : flags;
	c->ctor = ctor;
	c->align = natural_align((u32)size, (u32)align, flags);
	layout_objects(c);
	c->reciprocal = ((1ull << 40) + c->size - 1) / c->size;
	c->divisor = ~0ull / c->size + 1;
	c->min_order = (u8)order_of(c->size);
	c->order = (u8)preferred_order(c->size, q->cfg.nr_cpus);
	c->mag_min = magazine_size(c, MAGAZINE_BYTES, MAGAZINE_FEW);
	c->mag_max = magazine_size(c, MAGAZINE_BUSY_BYTES, MAGAZINE_MAX);
	c->mag_size = c->mag_min;
	c->depot_max = depot_limit(q, c);
	c->gfp = (flags & SLAB_CACHE_DMA ? __GFP_DMA : 0) | (flags & SLAB_RECLAIM_ACCOUNT ? __GFP_RECLAIMABLE : 0);
	return c;
}

void cache_link_locked(struct quire *q, struct kmem_cache *c)
{
	c->next = q->kmem.caches;
	c->prev = NULL;
	if (c->next)
		c->next->prev = c;
	q->kmem.caches = c;
}

static void cache_unlink(struct quire *q, struct kmem_cache *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		q->kmem.caches = c->next;
	if (c->next)
		c->next->prev = c->prev;
}

/* A slab is a block of the page allocator, aligned to its size: that bounds what alignment can be kept. */
static bool sane_cache(const char *name, size_t size, size_t align)
{
	return name && name[0] && size >= 1 && size <= KMALLOC_MAX_SIZE / 4 && align <= 8 * PAGE_SIZE &&
	       (align & (align - 1)) == 0;
}

struct kmem_cache *kmem_cache_create(struct quire *q, const char *name, size_t size, size_t align, u32 flags,
				     void (*ctor)(void *))
{
	struct kmem_cache *c = NULL;

	if (!sane_cache(name, size, align))
		quire_log(q, 3, "kmem_cache_create(%s): size %lu, align %lu make no sense; caller 0x%lx",
			  name ? name : "(null)", (unsigned long)size, (unsigned long)align, (unsigned long)CALLER);
	else
		c = cache_alloc(q, &q->kmem.cache_cache, GFP_KERNEL, CALLER);
	if (!c) {
		if (flags & SLAB_PANIC)
			port_panic(q, "kmem_cache_create: failed to create a cache that the machine needs");
		return NULL;
	}
	cache_setup(q, c, name, size, align, flags | q->kmem.debug_flags, ctor);
	spin_lock(&q->lock);
	cache_link_locked(q, c);
	spin_unlock(&q->lock);
	return c;
}

/* A few of the objects that were never freed, so that their owner can be told from the bytes (or the owner records). */
static void report_leftovers(struct quire *q, struct kmem_cache *c, u64 live, u64 caller)
{
	struct frame_list *lists[2] = {&c->full, &c->partial};
	u32 shown = 0, i, n;

	quire_log(q, 3, "kmem_cache_destroy %s: Slab cache still has objects when called from 0x%lx", c->name,
		  (unsigned long)caller);
	for (n = 0; n < 2; n++) {
		struct frame *s = lists[n]->first ? pfn_to_frame(q, lists[n]->first - 1) : NULL;

		for (i = 0; s && i < slab_get(s, SLAB_OBJECTS_SHIFT) && shown < 4; i++) {
			if (slab_object_is_free_locked(q, c, s, i))
				continue;
			slab_report(q, c, s, obj_at(q, c, s, i), 0,
				    "Objects remaining in cache on __kmem_cache_shutdown()");
			shown++;
		}
	}
	quire_log(q, 3, "%s: %lu objects remain", c->name, (unsigned long)live);
}

/* In pieces; inside a transaction of the caller only as much as that may still hold. */
static void free_all_empty(struct quire *q, struct kmem_cache *c)
{
	bool more;

	do {
		spin_lock(&q->lock);
		slab_free_empty_locked(q, c, 0);
		more = c->empty.count != 0;
		spin_unlock(&q->lock);
	} while (more && !in_transaction());
}

int kmem_cache_destroy(struct quire *q, struct kmem_cache *c)
{
	u64 live;

	if (!c)
		return 0;
	mutex_lock(&q->kmem.reap_mutex);
	magazine_drain(q, c, true);
	spin_lock(&q->lock);
	live = c->nr_inuse;
	if (live)
		report_leftovers(q, c, live, CALLER);
	spin_unlock(&q->lock);
	if (!live) {
		free_all_empty(q, c);
		spin_lock(&q->lock);
		cache_unlink(q, c);
		slab_give_locked(q, &q->kmem.cache_cache, c, CALLER);
		spin_unlock(&q->lock);
	}
	mutex_unlock(&q->kmem.reap_mutex);
	return live ? -EBUSY : 0;
}

int kmem_cache_shrink(struct quire *q, struct kmem_cache *c)
{
	bool slabs;

	magazine_drain(q, c, false);
	free_all_empty(q, c);
	spin_lock(&q->lock);
	slabs = c->nr_objs != 0;
	spin_unlock(&q->lock);
	return slabs;
}

size_t kmem_cache_size(const struct kmem_cache *c)
{
	return c->object_size;
}

u64 kmem_cache_live_objects(struct quire *q, struct kmem_cache *c)
{
	u64 n;

	spin_lock(&q->lock);
	n = c->nr_inuse - magazine_count_locked(q, c, true);
	spin_unlock(&q->lock);
	return n;
}

/* The cache in hand cannot disappear (reap_mutex), and new ones come in front of it, so its `next` may be read again.
 * */
u64 kmem_reap(struct quire *q)
{
	u64 before, after, purged;
	struct kmem_cache *c;

	if (!mutex_trylock(&q->kmem.reap_mutex))
		return 0;
	purged = vm_unmap_aliases(q);
	spin_lock(&q->lock);
	before = q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1];
	c = q->kmem.caches;
	spin_unlock(&q->lock);
	while (c) {
		kmem_cache_shrink(q, c);
		spin_lock(&q->lock);
		c = c->next;
		spin_unlock(&q->lock);
	}
	spin_lock(&q->lock);
	after = q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1];
	spin_unlock(&q->lock);
	mutex_unlock(&q->kmem.reap_mutex);
	return purged + (before > after ? before - after : 0);
}

/* ---- the same in small pieces, for shrinkers ---- */

static u64 objects_of_slab(const struct kmem_cache *c)
{
	return (PAGE_SIZE << c->order) / c->size;
}

u64 kmem_reapable(struct quire *q, bool slots)
{
	u64 n = 0;

	spin_lock(&q->lock);
	for (struct kmem_cache *c = q->kmem.caches; c; c = c->next)
		n += magazine_count_locked(q, c, false) + c->empty.count * objects_of_slab(c) + slots;
	spin_unlock(&q->lock);
	return n;
}

static u64 slab_pages(const struct quire *q)
{
	return q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1];
}

/* One magazine, or one slab.  Objects. */
static u64 reap_one(struct quire *q, struct kmem_cache *c, u64 *pages)
{
	u64 n, before;

	spin_lock(&q->lock);
	before = slab_pages(q);
	n = magazine_shrink_locked(q, c);
	if (!n && c->empty.count) {
		n = objects_of_slab(c);
		slab_free_empty_locked(q, c, c->empty.count - 1);
	}
	*pages += before - MIN(before, slab_pages(q));
	spin_unlock(&q->lock);
	return n;
}

/* Every cache in turn, so that none has to give everything because it is the newest. */
static u64 reap_round(struct quire *q, u64 n, u64 *pages)
{
	struct kmem_cache *c;
	u64 done = 0;

	spin_lock(&q->lock);
	c = q->kmem.caches;
	spin_unlock(&q->lock);
	while (c && done < n) {
		done += reap_one(q, c, pages);
		spin_lock(&q->lock);
		c = c->next;
		spin_unlock(&q->lock);
	}
	return done;
}

u64 kmem_reap_some(struct quire *q, u64 n, bool slots, u64 *pages)
{
	u64 done = 0, round;

	if (slots) {
		round = kmem_reap(q);
		*pages += round;
		return round;
	}
	if (!mutex_trylock(&q->kmem.reap_mutex))
		return 0;
	while (done < n && (round = reap_round(q, n - done, pages)))
		done += round;
	mutex_unlock(&q->kmem.reap_mutex);
	return done;
}
