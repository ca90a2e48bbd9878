/*
 * kmem_is_valid(): the invariants of slab.h, executable.
 *
 * Walks every list of every cache, every slab's free list, every magazine.  Nobody else may allocate meanwhile, because
 * slots of other contexts are read without a lock.  Locks: takes q->lock for the whole walk; writes nothing.
 */
#include "slab.h"

/* What was wrong with which cache; returns false, so that a check can say `return complain(...)`. */
static bool complain(struct quire *q, struct kmem_cache *c, const struct frame *s, const char *what)
{
	quire_log(q, 3, "kmem: cache %s, slab pfn %u: %s", c->name, s ? frame_to_pfn(q, s) : 0, what);
	return false;
}

static bool slab_is_valid(struct quire *q, struct kmem_cache *c, struct frame *s)
{
	u32 objects = slab_get(s, SLAB_OBJECTS_SHIFT), fresh = slab_get(s, SLAB_FRESH_SHIFT);
	u32 head = slab_get(s, SLAB_FREE_SHIFT), inuse = slab_get(s, SLAB_INUSE_SHIFT), free = 0;

	if (s->type != FRAME_SLAB || slab_cache(s) != c)
		return complain(q, c, s, "not a slab of this cache");
	if (objects != (PAGE_SIZE << s->order) / c->size || fresh > objects || inuse > fresh)
		return complain(q, c, s, "counts make no sense");
	for (; head; free++) {
		if (head > fresh || free > objects)
			return complain(q, c, s, "free list leaves the slab or has a loop");
		head = *(u64 *)((char *)obj_at(q, c, s, head - 1) + c->link) & 0xffff;
	}
	return inuse + free == fresh ? true : complain(q, c, s, "used and free objects do not add up");
}

static bool list_is_valid(struct quire *q, struct kmem_cache *c, struct frame_list *l, u64 *objs, u64 *inuse)
{
	pfn_t next = l->first;
	u64 n;

	for (n = 0; next; n++) {
		struct frame *s = pfn_to_frame(q, next - 1);
		u32 used = slab_get(s, SLAB_INUSE_SHIFT), objects = slab_get(s, SLAB_OBJECTS_SHIFT);
		struct frame_list *should = !used ? &c->empty : used == objects ? &c->full : &c->partial;

		if (n > l->count)
			return complain(q, c, s, "list has a loop");
		if (!slab_is_valid(q, c, s))
			return false;
		if (should != l)
			return complain(q, c, s, "slab on the wrong list");
		*objs += objects;
		*inuse += used;
		next = s->next;
	}
	return n == l->count ? true : complain(q, c, NULL, "list count wrong");
}

static bool magazine_is_valid(struct quire *q, struct kmem_cache *c, const struct magazine *m, u64 n)
{
	u64 i;

	if (n > c->mag_max)
		return complain(q, c, NULL, "magazine holds too many objects");
	for (i = 0; i < n; i++) {
		struct frame *s = kmem_frame(q, m->obj[i]);
		u64 off = (u64)((char *)m->obj[i] - slab_base(q, s)) - c->left;

		if (s->type != FRAME_SLAB || slab_cache(s) != c || (u64)obj_index(c, off) * c->size != off)
			return complain(q, c, s, "magazine holds no object of the cache");
		if (off / c->size >= slab_get(s, SLAB_FRESH_SHIFT))
			return complain(q, c, s, "magazine holds an object that was never handed out");
	}
	return true;
}

static bool slot_is_valid(struct quire *q, struct kmem_cache *c, const struct kmem_slot *s)
{
	if (s->cap > (s->loaded ? c->mag_max : 0))
		return complain(q, c, NULL, "slot does not know its magazine");
	return (!s->loaded || magazine_is_valid(q, c, s->loaded, s->n)) &&
	       (!s->prev || magazine_is_valid(q, c, s->prev, s->prev->n));
}

static bool magazines_are_valid(struct quire *q, struct kmem_cache *c)
{
	const struct magazine *m;
	u64 objs = 0;
	u32 i;

	for (m = c->depot; m; m = m->next) {
		objs += m->n;
		if (objs > c->depot_objs || !m->n || !magazine_is_valid(q, c, m, m->n))
			return complain(q, c, NULL, "depot broken");
	}
	if (objs != c->depot_objs)
		return complain(q, c, NULL, "depot count wrong");
	for (i = 0; c->mag_max && i < q->kmem.nr_slots; i++)
		if (!slot_is_valid(q, c, &c->slot[i]))
			return false;
	return true;
}

/* Adds the cache's slab pages to pages[reclaimable]. */
static bool cache_is_valid(struct quire *q, struct kmem_cache *c, u64 *pages)
{
	struct frame_list *lists[3] = {&c->empty, &c->partial, &c->full};
	u64 objs = 0, inuse = 0;
	unsigned i;

	for (i = 0; i < 3; i++) {
		pfn_t next;

		if (!list_is_valid(q, c, lists[i], &objs, &inuse))
			return false;
		for (next = lists[i]->first; next; next = pfn_to_frame(q, next - 1)->next)
			pages[!!(c->flags & SLAB_RECLAIM_ACCOUNT)] += 1ull << pfn_to_frame(q, next - 1)->order;
	}
	if (objs != c->nr_objs || inuse != c->nr_inuse)
		return complain(q, c, NULL, "object counts wrong");
	if (magazine_count_locked(q, c, true) > inuse)
		return complain(q, c, NULL, "more objects in magazines than out of slabs");
	return magazines_are_valid(q, c);
}

bool kmem_is_valid(struct quire *q)
{
	struct kmem_cache *c, *prev = NULL;
	u64 pages[2] = {0, 0};
	bool ok = true;

	spin_lock(&q->lock);
	for (c = q->kmem.caches; ok && c; prev = c, c = c->next)
		ok = c->prev == prev ? cache_is_valid(q, c, pages) : complain(q, c, NULL, "list of caches broken");
	if (ok && (pages[0] != q->kmem.nr_slab_pages[0] || pages[1] != q->kmem.nr_slab_pages[1])) {
		quire_log(q, 3, "kmem: %lu+%lu slab pages, %lu+%lu counted", (unsigned long)pages[0],
			  (unsigned long)pages[1], (unsigned long)q->kmem.nr_slab_pages[0],
			  (unsigned long)q->kmem.nr_slab_pages[1]);
		ok = false;
	}
	spin_unlock(&q->lock);
	return ok;
}
