/*
 * mempool: elements that can be had however short memory is.
 *
 * After mempool_create(n) has succeeded, n elements can be allocated whatever happens elsewhere; an element that is
 * freed first refills the pool.  A blocking allocation (__GFP_DIRECT_RECLAIM, no lock held) waits for a free and never
 * fails.
 */
#ifndef QUIRE_MEMPOOL_H
#define QUIRE_MEMPOOL_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;
struct kmem_cache;
struct mempool;
typedef struct mempool mempool_t;

/* Called with or without q->lock, never told to wait under it; must return NULL rather than wait if gfp says so. */
typedef void *(*mempool_alloc_t)(struct quire *q, gfp_t gfp, void *pool_data);
typedef void (*mempool_free_t)(struct quire *q, void *element, void *pool_data);

/* ---- kmem/mempool.c ---- */
/* NULL when out of memory, or min_nr < 0.  Under no lock, as are resize and destroy. */
mempool_t *mempool_create(struct quire *q, int min_nr, mempool_alloc_t alloc, mempool_free_t free, void *pool_data);
mempool_t *mempool_create_slab_pool(struct quire *q, int min_nr, struct kmem_cache *c);
mempool_t *mempool_create_kmalloc_pool(struct quire *q, int min_nr, size_t size);
mempool_t *mempool_create_page_pool(struct quire *q, int min_nr, unsigned order); /* elements: struct frame * */
/* __GFP_ZERO is not for pools (as in Linux).  NULL only if it may not wait and the pool is empty. */
void *mempool_alloc(struct quire *q, mempool_t *pool, gfp_t gfp);
void mempool_free(struct quire *q, mempool_t *pool, void *element); /* NULL is ignored; any context */
/* 0 or -ENOMEM (the pool is then as before) or -EINVAL. */
int mempool_resize(struct quire *q, mempool_t *pool, int new_min_nr);
/* Every element must have been freed, else the machine ends with a report, naming its maker.  NULL is ignored. */
void mempool_destroy(struct quire *q, mempool_t *pool);
int mempool_free_elements(struct quire *q, mempool_t *pool); /* in the pool now */

#endif
