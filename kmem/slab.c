/*
 * Slabs: blocks of frames cut into objects of one cache.
 *
 * A slab's metadata are its frame record: `mapping` the cache, `private` four counts (slab.h).  Nothing in a new slab
 * is written until its objects are handed out: the free list starts empty and `fresh` counts up through the virgin
 * objects, so that making a slab costs the undo log a dozen entries, whatever the slab's size.  A freed object goes on
 * the slab's free list: the word at c->link then holds the next object's number and, above 16 bits, a mark made of the
 * object's address and the machine's secret.  The mark is cleared when the object leaves the list, so an object that
 * carries it when freed was very probably freed before, and the list itself decides.
 *
 * Which list a slab is on follows from its counts; partial slabs are used oldest first, so that young ones can drain.
 *
 * Locks: everything here is under q->lock.
 */
#include "slab.h"

/* Empty slabs that a cache keeps for the next allocation. */
#define MAX_EMPTY_SLABS 5

static u64 free_mark(const struct quire *q, const void *obj)
{
	return (((u64)(uintptr_t)obj >> 3) * 0x9e3779b97f4a7c15ull ^ q->kmem.secret) & ~0xffffull;
}

static u64 *link_of(const struct kmem_cache *c, void *obj)
{
	return (u64 *)((char *)obj + c->link);
}

static struct frame_list *list_for(struct kmem_cache *c, u32 inuse, u32 objects)
{
	return inuse == 0 ? &c->empty : inuse == objects ? &c->full : &c->partial;
}

/* At the tail: partial slabs are taken from the front, so a slab that was just freed into has the longest time to
 * drain. */
static void move_list(struct quire *q, struct kmem_cache *c, struct frame *s, u32 old_inuse, u32 inuse, u32 objects)
{
	struct frame_list *from = list_for(c, old_inuse, objects), *to = list_for(c, inuse, objects);

	if (from == to)
		return;
	frame_list_del(q, from, s);
	frame_list_add_tail(q, to, s);
}

/* ---- slabs ---- */

static struct frame *slab_alloc_frames(struct quire *q, struct kmem_cache *c, gfp_t gfp)
{
	gfp_t high;
	struct frame *s;

	gfp &= ~(__GFP_DIRECT_RECLAIM | __GFP_NOFAIL | __GFP_HIGHMEM | __GFP_MOVABLE | __GFP_ZERO);
	gfp |= c->gfp | __GFP_COMP | __GFP_NOWARN;
	/* A larger slab is a convenience: no reserve is spent on it. */
	high = (gfp | __GFP_NORETRY | __GFP_NOMEMALLOC) & ~(__GFP_HIGH | __GFP_MEMALLOC);
	s = alloc_pages(q, c->order > c->min_order ? high : gfp, c->order);
	if (!s && c->order > c->min_order)
		s = alloc_pages(q, gfp, c->min_order);
	return s;
}

static struct frame *slab_new(struct quire *q, struct kmem_cache *c, gfp_t gfp)
{
	struct frame *s = slab_alloc_frames(q, c, gfp);
	u32 objects;

	if (!s)
		return NULL;
	objects = (u32)((PAGE_SIZE << s->order) / c->size);
	s->type = FRAME_SLAB;
	s->mapping = (u64)(uintptr_t)c;
	s->private = slab_word(0, 0, 0, objects);
	set_tails(s, s->order); /* every kfree() looks for the head */
	frame_list_add(q, &c->empty, s);
	c->nr_objs += objects;
	q->kmem.nr_slab_pages[!!(c->flags & SLAB_RECLAIM_ACCOUNT)] += 1ull << s->order;
	return s;
}

static u64 slab_free(struct quire *q, struct kmem_cache *c, struct frame *s)
{
	unsigned order = s->order;

	frame_list_del(q, &c->empty, s);
	c->nr_objs -= slab_get(s, SLAB_OBJECTS_SHIFT);
	q->kmem.nr_slab_pages[!!(c->flags & SLAB_RECLAIM_ACCOUNT)] -= 1ull << order;
	s->mapping = 0;
	s->private = 0;
	s->type = FRAME_KERNEL;
	__free_pages(q, s, order);
	return 1ull << order;
}

/* Oldest first.  Each costs the undo log a few dozen entries, hence the question in between. */
u64 slab_free_empty_locked(struct quire *q, struct kmem_cache *c, u64 keep)
{
	u64 freed = 0;

	lockdep_assert_held(&q->lock);
	while (c->empty.count > keep && !txn_should_break())
		freed += slab_free(q, c, pfn_to_frame(q, c->empty.first - 1));
	return freed;
}

/* ---- objects ---- */

/* The first object of the free list; *head becomes the rest of the list. */
static void *unlink_object(struct quire *q, struct kmem_cache *c, struct frame *s, u32 *head)
{
	void *obj = obj_at(q, c, s, *head - 1);
	u64 *link = link_of(c, obj);
	u32 next = *link & 0xffff;

	if (unlikely((*link & ~0xffffull) != free_mark(q, obj) || next > slab_get(s, SLAB_OBJECTS_SHIFT))) {
		slab_report(q, c, s, obj, 0, "Freechain corrupt (object written after it was freed)");
		BUG();
	}
	*link = 0;
	*head = next;
	return obj;
}

static void *fresh_object(struct quire *q, struct kmem_cache *c, struct frame *s, u32 index)
{
	void *obj = obj_at(q, c, s, index);

	if (unlikely(c->flags & SLAB_DEBUG_FLAGS))
		debug_fresh_object(c, obj);
	if (c->ctor)
		c->ctor(obj);
	return obj;
}

u32 slab_take_batch_locked(struct quire *q, struct kmem_cache *c, gfp_t gfp, u32 n, void **out)
{
	pfn_t first = c->partial.first ? c->partial.first : c->empty.first;
	struct frame *s = first ? pfn_to_frame(q, first - 1) : slab_new(q, c, gfp);
	u32 head, inuse, fresh, objects, i;

	lockdep_assert_held(&q->lock);
	if (!s)
		return 0;
	head = slab_get(s, SLAB_FREE_SHIFT);
	inuse = slab_get(s, SLAB_INUSE_SHIFT);
	fresh = slab_get(s, SLAB_FRESH_SHIFT);
	objects = slab_get(s, SLAB_OBJECTS_SHIFT);
	n = MIN(n, objects - inuse);
	/* Backwards, so that a stack of them hands out the first one first. */
	for (i = n; i > 0; i--)
		out[i - 1] = head ? unlink_object(q, c, s, &head) : fresh_object(q, c, s, fresh++);
	s->private = slab_word(head, inuse + n, fresh, objects);
	c->nr_inuse += n;
	move_list(q, c, s, inuse, inuse + n, objects);
	return n;
}

void *slab_take_locked(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller)
{
	void *obj;

	if (!slab_take_batch_locked(q, c, gfp, 1, &obj))
		return NULL;
	if (unlikely(c->flags & SLAB_DEBUG_FLAGS))
		debug_object_alloc(q, c, kmem_frame(q, obj), obj, caller);
	return obj;
}

/* The truth, at the price of a walk; bounded by `objects` in case the list is broken. */
bool slab_object_is_free_locked(struct quire *q, struct kmem_cache *c, struct frame *s, u32 index)
{
	u32 head = slab_get(s, SLAB_FREE_SHIFT), objects = slab_get(s, SLAB_OBJECTS_SHIFT), steps;

	if (index >= slab_get(s, SLAB_FRESH_SHIFT))
		return true;
	for (steps = 0; head && head <= objects && steps < objects; steps++) {
		if (head - 1 == index)
			return true;
		head = *link_of(c, obj_at(q, c, s, head - 1)) & 0xffff;
	}
	return false;
}

/* Cheap suspicion first: without the mark of a free object, and with others in use, it was handed out. */
static void check_not_free(struct quire *q, struct kmem_cache *c, struct frame *s, void *obj, u32 index, u64 caller)
{
	bool suspect = (c->flags & SLAB_DEBUG_FLAGS) || (*link_of(c, obj) & ~0xffffull) == free_mark(q, obj) ||
		       index >= slab_get(s, SLAB_FRESH_SHIFT) || !slab_get(s, SLAB_INUSE_SHIFT);

	if (likely(!suspect) || !slab_object_is_free_locked(q, c, s, index))
		return;
	slab_report(q, c, s, obj, caller, "Object already free");
	BUG();
}

void slab_give_locked(struct quire *q, struct kmem_cache *c, void *obj, u64 caller)
{
	struct frame *s = kmem_frame(q, obj);
	u32 index = obj_index(c, (u64)((char *)obj - slab_base(q, s)) - c->left);
	u32 inuse = slab_get(s, SLAB_INUSE_SHIFT), objects = slab_get(s, SLAB_OBJECTS_SHIFT);

	lockdep_assert_held(&q->lock);
	check_not_free(q, c, s, obj, index, caller);
	if (unlikely(c->flags & SLAB_DEBUG_FLAGS))
		debug_object_free(q, c, s, obj, caller);
	*link_of(c, obj) = free_mark(q, obj) | slab_get(s, SLAB_FREE_SHIFT);
	s->private = slab_word(index + 1, inuse - 1, slab_get(s, SLAB_FRESH_SHIFT), objects);
	c->nr_inuse--;
	move_list(q, c, s, inuse, inuse - 1, objects);
	if (inuse == 1 && c->empty.count > MAX_EMPTY_SLABS)
		slab_free(q, c, s);
}
