/*
 * The kernel's own allocators, above the buddy allocator.  Names and meanings are Linux's.
 * All of them may be called inside a transaction (then they never wait), except where noted.
 */
#ifndef QUIRE_KMEM_H
#define QUIRE_KMEM_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;
struct kmem_cache;
struct frame;

/* ---- kmem/slab.c ---- */
#define SLAB_HWCACHE_ALIGN 0x2000u
#define SLAB_RECLAIM_ACCOUNT 0x20000u
#define SLAB_PANIC 0x40000u
#define SLAB_RED_ZONE 0x400u
#define SLAB_POISON 0x800u
#define SLAB_STORE_USER 0x10000u
/* align 0 = natural; ctor runs once per object when its slab is made.  NULL when out of memory. */
struct kmem_cache *kmem_cache_create(struct quire *q, const char *name, size_t size, size_t align, u32 flags,
				     void (*ctor)(void *));
/* 0, or -EBUSY (and nothing changed) while objects are live. */
int kmem_cache_destroy(struct quire *q, struct kmem_cache *c);
int kmem_cache_shrink(struct quire *q, struct kmem_cache *c);
void *kmem_cache_alloc(struct quire *q, struct kmem_cache *c, gfp_t gfp);
void kmem_cache_free(struct quire *q, struct kmem_cache *c, void *obj);
unsigned kmem_cache_alloc_bulk(struct quire *q, struct kmem_cache *c, gfp_t gfp, unsigned n, void **out);
void kmem_cache_free_bulk(struct quire *q, struct kmem_cache *c, unsigned n, void **objs);

/* ---- kmem/kmalloc.c ---- */
void *kmalloc(struct quire *q, size_t size, gfp_t gfp);
void *kzalloc(struct quire *q, size_t size, gfp_t gfp);
void *kcalloc(struct quire *q, size_t n, size_t size, gfp_t gfp);
void *krealloc(struct quire *q, const void *p, size_t size, gfp_t gfp);
size_t ksize(struct quire *q, const void *p);
void kfree(struct quire *q, const void *p);
char *kstrdup(struct quire *q, const char *s, gfp_t gfp);

#endif
