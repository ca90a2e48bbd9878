/*
 * The fast path of every slab allocation: one look at the loaded magazine of the context's own slot.  No lock, no
 * call, no loop; whatever does not fit goes to magazine.c, where the design is explained.
 */
#ifndef QUIRE_KMEM_MAGAZINE_H
#define QUIRE_KMEM_MAGAZINE_H
#include "slab.h"

/* ---- magazine.c ---- */
void *cache_alloc_slow(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller);
/* The same for a machine whose port wants to be asked whether this allocation should fail. */
void *cache_alloc_asking(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller);
void cache_free_slow(struct quire *q, struct kmem_cache *c, void *obj, u64 caller);
/* Zeroes an object that has just been allocated; returns it. */
void *zero_object(const struct kmem_cache *c, void *obj);
/* Debug builds look at every free whether the object lies in one of the slot's magazines already. */
bool slot_has_object(const struct kmem_slot *s, const void *obj);

static inline void *slot_pop(struct kmem_slot *s)
{
	u32 n = s->n - 1;
	void *obj = s->loaded->obj[n];

	s->n = n;
	return obj;
}

static inline void slot_push(struct kmem_slot *s, void *obj)
{
	u32 n = s->n;

	s->loaded->obj[n] = obj;
	/* The object must lie there before it is counted: we may die in between. */
	__atomic_signal_fence(__ATOMIC_RELEASE);
	s->n = n + 1;
}

/* The slot that only this context uses, or NULL. */
static inline struct kmem_slot *own_slot(struct kmem_cache *c, const struct ctx *me)
{
	u32 id = me->id; /* never 0 */

	return likely(id <= KMEM_OWN_SLOTS) ? &c->slot[id - 1ul] : NULL;
}

static inline void *cache_alloc(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller)
{
	struct ctx *me = port_ctx_quick();
	struct kmem_slot *s;
	void *obj;

	/* Every way out of here is a return or a tail call, so that nothing need be saved on the stack. */
	if (unlikely(q->fail_kinds & BIT(FAIL_SLAB)))
		return cache_alloc_asking(q, c, gfp, caller);
	s = likely(me) ? own_slot(c, me) : NULL;
	if (unlikely(!s || !s->n))
		return cache_alloc_slow(q, c, gfp, caller);
	obj = slot_pop(s);
	return unlikely(gfp & __GFP_ZERO) ? zero_object(c, obj) : obj;
}

static inline void check_not_cached(struct quire *q, struct kmem_cache *c, const struct kmem_slot *s, void *obj,
				    u64 caller)
{
#ifdef QUIRE_DEBUG
	bool cached = slot_has_object(s, obj);
#else
	/* The plainest of double frees costs one comparison. */
	bool cached = s->cap && s->loaded->obj[s->n - 1l] == obj; /* obj[-1] is a link, and no object */
#endif
	if (unlikely(cached))
		slab_bad_free(q, c, obj, caller, "Object already free");
}

/* obj has passed check_object(). */
static inline void cache_free(struct quire *q, struct kmem_cache *c, void *obj, u64 caller)
{
	struct ctx *me = port_ctx_quick();
	struct kmem_slot *s = likely(me) ? own_slot(c, me) : NULL;

	if (unlikely(!s || s->n >= s->cap)) {
		cache_free_slow(q, c, obj, caller);
		return;
	}
	check_not_cached(q, c, s, obj, caller);
	slot_push(s, obj);
}
#endif
