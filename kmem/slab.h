/*
 * What the files of kmem/ share, by owning file.
 *
 * Words: a *slab* is a block of 2^order frames cut into objects of one cache; its frame record is its only metadata.
 * A *magazine* is a stack of free objects outside their slabs; a *depot* is a cache's list of full magazines.  An
 * object is
 *	free      on its slab's free list, or above the slab's `fresh` mark (never handed out, never written)
 *	cached    in a magazine
 *	live      with its user
 * Invariants, for every cache:
 *	slab.inuse        = live + cached objects of that slab
 *	sum of slab.inuse = nr_inuse,   sum of slab.objects = nr_objs
 *	partial: 0 < inuse < objects,   full: inuse == objects,   empty: inuse == 0
 *	a cache with any debug flag has no cached objects
 */
#ifndef QUIRE_KMEM_SLAB_H
#define QUIRE_KMEM_SLAB_H
#include <fmt.h>
#include <quire/machine.h>

#define SLAB_DEBUG_FLAGS (SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER)
#define CALLER ((u64)(uintptr_t)__builtin_return_address(0))

/* frame.private of a slab: four 16-bit counts in one word, so that a change is one store. */
#define SLAB_FREE_SHIFT 0 /* index + 1 of the first object of the free list; 0 = none */
#define SLAB_INUSE_SHIFT 16
#define SLAB_FRESH_SHIFT 32 /* objects from this index on were never handed out */
#define SLAB_OBJECTS_SHIFT 48
static inline u32 slab_get(const struct frame *s, unsigned shift)
{
	return (u32)(s->private >> shift) & 0xffff;
}
static inline u64 slab_word(u32 head, u32 inuse, u32 fresh, u32 objects)
{
	return (u64)head << SLAB_FREE_SHIFT | (u64)inuse << SLAB_INUSE_SHIFT | (u64)fresh << SLAB_FRESH_SHIFT |
	       (u64)objects << SLAB_OBJECTS_SHIFT;
}
static inline struct kmem_cache *slab_cache(const struct frame *s)
{
	return (void *)(uintptr_t)s->mapping;
}

/* Inline twins of phys/frame.c for the hot paths: slabs always lie in the direct map. */
static inline char *slab_base(const struct quire *q, const struct frame *s)
{
	return (char *)q->cfg.direct_map + ((u64)(s - q->cfg.mem_map) << PAGE_SHIFT);
}
/* f is no head of a slab. */
static inline struct frame *kmem_locate_tail(const struct quire *q, struct frame *f, u64 *off)
{
	struct frame *head = f - (f->type == FRAME_TAIL ? f->head_off : 0);

	/* Slabs have their tails written; an older hint may lead to a slab, but not to one that reaches so far. */
	if (unlikely(head->type != FRAME_SLAB || (u32)(f - head) >> head->order))
		head = &pfn_folio((struct quire *)(uintptr_t)q, (pfn_t)(f - q->cfg.mem_map))->f;
	*off += (u64)(f - head) << PAGE_SHIFT;
	return head;
}

/* The head record of the block that contains p and p's offset in the block; NULL if p is no address of this machine's
 * RAM. */
static inline struct frame *kmem_locate(const struct quire *q, const void *p, u64 *off)
{
	u64 at = (u64)(uintptr_t)p - (u64)(uintptr_t)q->cfg.direct_map;
	struct frame *f;

	if (unlikely(at >= q->cfg.memory))
		return NULL;
	f = &q->cfg.mem_map[at >> PAGE_SHIFT];
	*off = at & (PAGE_SIZE - 1);
	if (likely(f->type == FRAME_SLAB))
		return f;
	return kmem_locate_tail(q, f, off);
}
static inline struct frame *kmem_frame(const struct quire *q, const void *p)
{
	u64 off;

	return kmem_locate(q, p, &off);
}
/* Number of the object that contains byte off of a slab. */
static inline u32 obj_index(const struct kmem_cache *c, u64 off)
{
	return (u32)(off * c->reciprocal >> 40);
}
static inline void *obj_at(const struct quire *q, const struct kmem_cache *c, const struct frame *s, u32 i)
{
	return slab_base(q, s) + c->left + (u64)i * c->size;
}

/* ---- slab.c: objects and slabs; under q->lock ---- */
/* Takes one object out of a slab, making a slab if there is none (never reclaims).  NULL: out of memory. */
void *slab_take_locked(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller);
/* At least one and at most n objects of one slab, without debug treatment; 0: out of memory. */
u32 slab_take_batch_locked(struct quire *q, struct kmem_cache *c, gfp_t gfp, u32 n, void **out);
void slab_give_locked(struct quire *q, struct kmem_cache *c, void *obj, u64 caller);
bool slab_object_is_free_locked(struct quire *q, struct kmem_cache *c, struct frame *s, u32 index);
/* Frees empty slabs until `keep` are left; returns frames freed.  Stops early when the transaction should end. */
u64 slab_free_empty_locked(struct quire *q, struct kmem_cache *c, u64 keep);

/* ---- magazine.c; the fast path is in magazine.h ---- */
/* Empties depots and the slots that nobody may be using; with all, every slot. */
void magazine_drain(struct quire *q, struct kmem_cache *c, bool all);
u64 magazine_count_locked(struct quire *q, struct kmem_cache *c, bool slots);
/* Under q->lock: empties one magazine of the depot.  Objects that were in it. */
u64 magazine_shrink_locked(struct quire *q, struct kmem_cache *c);

/* ---- cache.c ---- */
struct kmem_cache *cache_setup(struct quire *q, struct kmem_cache *c, const char *name, size_t size, size_t align,
			       u32 flags, void (*ctor)(void *));

void cache_link_locked(struct quire *q, struct kmem_cache *c);

/* ---- kmalloc.c ---- */
int kmalloc_init(struct quire *q);

/* ---- debug.c: what debug caches check, and the reports; under q->lock ---- */
/* Who allocated or freed an object. */
struct track {
	u64 caller; /* address in the code; 0 = never */
	u64 when;   /* ns of port_clock_ns() */
	u32 cpu;
	u32 ctx; /* context id */
};
void debug_fresh_object(struct kmem_cache *c, void *obj);
void debug_object_alloc(struct quire *q, struct kmem_cache *c, struct frame *s, void *obj, u64 caller);
void debug_object_free(struct quire *q, struct kmem_cache *c, struct frame *s, void *obj, u64 caller);
/* One report in Linux's manner; obj may be NULL. */
void slab_report(struct quire *q, struct kmem_cache *c, struct frame *s, const void *obj, u64 caller, const char *what);
/* The same for an address that is no slab object, and the end of the machine. */
void slab_bad_free(struct quire *q, struct kmem_cache *c, const void *p, u64 caller, const char *what)
	__attribute__((noreturn, cold));

/* Is byte off of slab s the start of an object? */
static inline bool is_object_start(const struct kmem_cache *c, u64 off)
{
	/* n * ceil(2^64 / d) mod 2^64 < ceil(2^64 / d) only for multiples of d (n, d below 2^32: Lemire, Kaser and Kurz, "Faster
	 * remainder by direct computation", 2019). */
	return (off - c->left) * c->divisor < c->divisor;
}

/* Head record of the slab that obj was cut from; ends the machine if obj is no object of cache c (NULL: any cache). */
static inline struct frame *check_object(struct quire *q, struct kmem_cache *c, const void *obj, u64 caller)
{
	u64 off;
	struct frame *s = kmem_locate(q, obj, &off);

	if (unlikely(!s || s->type != FRAME_SLAB))
		slab_bad_free(q, c, obj, caller, "Not a slab object");
	if (unlikely(c && slab_cache(s) != c))
		slab_bad_free(q, c, obj, caller, "Wrong slab cache");
	if (unlikely(!is_object_start(slab_cache(s), off)))
		slab_bad_free(q, c, obj, caller, "Not the start of an object");
	return s;
}
#endif
