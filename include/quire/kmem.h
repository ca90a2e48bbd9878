/*
 * The kernel's own allocators, above the buddy allocator.  Names and meanings are Linux's.
 * All of them may be called inside a transaction (then they never wait), except where noted.
 *
 * See also <quire/vmalloc.h>, <quire/highmem.h> and <quire/mempool.h>.
 */
#ifndef QUIRE_KMEM_H
#define QUIRE_KMEM_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;
struct kmem_cache;
struct frame;
struct fmt_buf;

/* ---- kmem/kmem.c ---- */
/* Once, at boot, after phys_init and before anybody allocates: caches for caches and the kmalloc classes.  Debug mode
 * for all caches if cfg.debug_poison (red zones, poison) or cfg.debug_owner (who allocated, who freed).  0 or -ENOMEM.
 * */
int kmem_init(struct quire *q);
/* Gives cached free objects of every cache back to their slabs and free slabs to the page allocator; for reclaim.
 * Under no lock.  Returns frames freed. */
u64 kmem_reap(struct quire *q);
/* The same by and by: free objects that are easily had, those in magazines and in slabs without objects; with `slots`, each cache's
 * magazines in the CPUs' slots count as one more, for what is in them only their owners know. */
u64 kmem_reapable(struct quire *q, bool slots);
/* Gives about n of them back (with `slots`: all).  Objects that went, at least 1 if anything did; *pages grows by frames freed. */
u64 kmem_reap_some(struct quire *q, u64 n, bool slots, u64 *pages);

/* ---- kmem/cache.c ---- */
#define SLAB_RED_ZONE 0x400u
#define SLAB_POISON 0x800u
#define SLAB_HWCACHE_ALIGN 0x2000u
#define SLAB_CACHE_DMA 0x4000u
#define SLAB_STORE_USER 0x10000u
#define SLAB_RECLAIM_ACCOUNT 0x20000u
#define SLAB_PANIC 0x40000u
/*
 * name is copied (31 bytes at most are kept).  align: a power of two, 0 = natural (8).  ctor runs once per object, when
 * the object is handed out for the first time after its slab was made; an object must be freed in its constructed
 * state. NULL when out of memory or if the arguments make no sense (logged); with SLAB_PANIC the machine ends instead.
 */
struct kmem_cache *kmem_cache_create(struct quire *q, const char *name, size_t size, size_t align, u32 flags,
				     void (*ctor)(void *));
/* 0, or -EBUSY (and nothing changed, but it is logged) while objects are live.  NULL is ignored.  The caller makes
 * sure that nobody uses the cache any more. */
int kmem_cache_destroy(struct quire *q, struct kmem_cache *c);
/* Frees empty slabs.  0 if no slab remains, else 1, as in Linux. */
int kmem_cache_shrink(struct quire *q, struct kmem_cache *c);
size_t kmem_cache_size(const struct kmem_cache *c); /* bytes of an object, as asked for */
/* Walks every cache and slab; says what is wrong through quire_log.  Nobody else may allocate meanwhile. */
bool kmem_is_valid(struct quire *q);
/* Objects handed out and not freed.  Exact while nobody else allocates. */
u64 kmem_cache_live_objects(struct quire *q, struct kmem_cache *c);

/* ---- kmem/slab.c ---- */
void *kmem_cache_alloc(struct quire *q, struct kmem_cache *c, gfp_t gfp);
void *kmem_cache_zalloc(struct quire *q, struct kmem_cache *c, gfp_t gfp);
/* NULL is ignored.  What is not a live object of c ends the machine with a report. */
void kmem_cache_free(struct quire *q, struct kmem_cache *c, void *obj);
/* All n or none: returns n or 0. */
unsigned kmem_cache_alloc_bulk(struct quire *q, struct kmem_cache *c, gfp_t gfp, unsigned n, void **out);
void kmem_cache_free_bulk(struct quire *q, struct kmem_cache *c, unsigned n, void **objs);

/* ---- kmem/kmalloc.c ---- */
#define KMALLOC_MAX_CACHE_SIZE 8192u           /* above: whole pages */
#define KMALLOC_MAX_SIZE ((size_t)PAGE_SIZE << 10)
#define ZERO_SIZE_PTR ((void *)16)             /* what kmalloc(0) returns, as in Linux */
#define ZERO_OR_NULL_PTR(p) ((unsigned long)(p) <= (unsigned long)ZERO_SIZE_PTR)
void *kmalloc(struct quire *q, size_t size, gfp_t gfp);
void *kzalloc(struct quire *q, size_t size, gfp_t gfp);
void *kmalloc_array(struct quire *q, size_t n, size_t size, gfp_t gfp); /* NULL if n * size overflows */
void *kcalloc(struct quire *q, size_t n, size_t size, gfp_t gfp);       /* the same, zeroed */
/* Size 0 frees p and returns ZERO_SIZE_PTR; when out of memory NULL, and p stays. */
void *krealloc(struct quire *q, const void *p, size_t size, gfp_t gfp);
size_t ksize(struct quire *q, const void *p); /* bytes that may really be used; 0 for NULL and ZERO_SIZE_PTR */
void kfree(struct quire *q, const void *p);
char *kstrdup(struct quire *q, const char *s, gfp_t gfp);
void *kmemdup(struct quire *q, const void *src, size_t len, gfp_t gfp);

/* ---- proc/slabinfo.c ---- */
void proc_slabinfo(struct quire *q, struct fmt_buf *out);
/* ---- proc/vmallocinfo.c ---- */
void proc_vmallocinfo(struct quire *q, struct fmt_buf *out);

#endif
