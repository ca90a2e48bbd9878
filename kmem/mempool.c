/*
 * mempool: a reserve of elements in front of an allocator.
 *
 * An allocation first asks the allocator behind the pool without waiting and without using its reserves, then takes an
 * element of the pool, then asks again as the caller allowed, and at last sleeps until somebody frees.  A freed element
 * fills the pool first.  So whoever allocates one element at a time and frees it after finite time always gets on.
 *
 * Invariant: 0 <= curr_nr <= min_nr; after creation the pool and its users together own at least min_nr elements.
 * Locks: q->lock; alloc and free functions of the pool are called outside of it.
 */
#include <quire/mempool.h>
#include "slab.h"

/* A sleeper tries again after this long, since the allocator may have memory again (5 s, as in Linux). */
#define POOL_WAIT_NS 5000000000ull

struct mempool {
	mempool_alloc_t alloc; /* immutable, as are free and pool_data */
	mempool_free_t free;
	void *pool_data;
	/* q->lock: */
	void **elements; /* room for min_nr */
	int min_nr, curr_nr;
	u32 seq; /* counts elements put back; sleepers wait on it */
	u32 waiters;
	u64 caller; /* who created it; for reports; immutable */
};

/* ---- elements ---- */

/* NULL if the pool is empty; then *seq is what to sleep on. */
static void *pool_take(struct quire *q, mempool_t *pool, u32 *seq)
{
	void *e = NULL;

	spin_lock(&q->lock);
	if (pool->curr_nr)
		e = pool->elements[--pool->curr_nr];
	*seq = pool->seq;
	spin_unlock(&q->lock);
	return e;
}

/* False if the pool is full: the element is still the caller's. */
static bool pool_put(struct quire *q, mempool_t *pool, void *element)
{
	bool put, wake;

	spin_lock(&q->lock);
	put = pool->curr_nr < pool->min_nr;
	if (put) {
		pool->elements[pool->curr_nr++] = element;
		pool->seq++;
	}
	wake = put && pool->waiters;
	spin_unlock(&q->lock);
	/* One element, one sleeper; it wakes the next by freeing. */
	if (wake)
		port_wake(&pool->seq, 1);
	return put;
}

/* One element at a time and without the lock, because the allocator behind may wait; somebody else may fill meanwhile.
 * */
static bool pool_fill(struct quire *q, mempool_t *pool, gfp_t gfp)
{
	for (;;) {
		void *e;
		bool full;

		spin_lock(&q->lock);
		full = pool->curr_nr >= pool->min_nr;
		spin_unlock(&q->lock);
		if (full)
			return true;
		e = pool->alloc(q, gfp, pool->pool_data);
		if (!e)
			return false;
		if (!pool_put(q, pool, e))
			pool->free(q, e, pool->pool_data);
	}
}

static void pool_empty(struct quire *q, mempool_t *pool)
{
	u32 seq;
	void *e;

	while ((e = pool_take(q, pool, &seq)))
		pool->free(q, e, pool->pool_data);
}

/* ---- life ---- */

static mempool_t *pool_new(struct quire *q, int min_nr, mempool_alloc_t alloc, mempool_free_t free, void *data,
			   u64 caller)
{
	mempool_t *pool;

	if (min_nr < 0)
		return NULL;
	pool = kzalloc(q, sizeof(*pool), GFP_KERNEL);
	if (!pool)
		return NULL;
	pool->elements = kmalloc_array(q, (size_t)MAX(min_nr, 1), sizeof(void *), GFP_KERNEL);
	pool->alloc = alloc;
	pool->free = free;
	pool->pool_data = data;
	pool->min_nr = min_nr;
	pool->caller = caller;
	if (pool->elements && pool_fill(q, pool, GFP_KERNEL))
		return pool;
	if (pool->elements)
		pool_empty(q, pool);
	kfree(q, pool->elements);
	kfree(q, pool);
	return NULL;
}

mempool_t *mempool_create(struct quire *q, int min_nr, mempool_alloc_t alloc, mempool_free_t free, void *pool_data)
{
	return pool_new(q, min_nr, alloc, free, pool_data, CALLER);
}

static void *slab_element(struct quire *q, gfp_t gfp, void *cache)
{
	return kmem_cache_alloc(q, cache, gfp);
}

static void slab_element_free(struct quire *q, void *e, void *cache)
{
	kmem_cache_free(q, cache, e);
}

static void *kmalloc_element(struct quire *q, gfp_t gfp, void *size)
{
	return kmalloc(q, (size_t)(uintptr_t)size, gfp);
}

static void kmalloc_element_free(struct quire *q, void *e, void *size)
{
	kfree(q, e);
}

static void *page_element(struct quire *q, gfp_t gfp, void *order)
{
	return alloc_pages(q, gfp, (unsigned)(uintptr_t)order);
}

static void page_element_free(struct quire *q, void *e, void *order)
{
	__free_pages(q, e, (unsigned)(uintptr_t)order);
}

mempool_t *mempool_create_slab_pool(struct quire *q, int min_nr, struct kmem_cache *c)
{
	return pool_new(q, min_nr, slab_element, slab_element_free, c, CALLER);
}

mempool_t *mempool_create_kmalloc_pool(struct quire *q, int min_nr, size_t size)
{
	return pool_new(q, min_nr, kmalloc_element, kmalloc_element_free, (void *)(uintptr_t)size, CALLER);
}

mempool_t *mempool_create_page_pool(struct quire *q, int min_nr, unsigned order)
{
	return pool_new(q, min_nr, page_element, page_element_free, (void *)(uintptr_t)order, CALLER);
}

void mempool_destroy(struct quire *q, mempool_t *pool)
{
	if (!pool)
		return;
	/* Elements that are still out can no longer find their pool: the pool's promise to somebody is being broken. */
	if (pool->curr_nr < pool->min_nr || pool->waiters) {
		quire_log(q, 3,
			  "mempool_destroy: %d of %d elements are still out, %u waiting; pool created by 0x%lx, "
			  "destroyed by 0x%lx",
			  pool->min_nr - pool->curr_nr, pool->min_nr, pool->waiters, (unsigned long)pool->caller,
			  (unsigned long)CALLER);
		BUG();
	}
	pool_empty(q, pool);
	kfree(q, pool->elements);
	kfree(q, pool);
}

/* ---- resizing ---- */

/* min_nr sinks only when the pool holds no more than that, so that curr_nr <= min_nr at every instant. */
static void *pool_shrink_one(struct quire *q, mempool_t *pool, int new_min_nr)
{
	void *e = NULL;

	spin_lock(&q->lock);
	if (pool->curr_nr > new_min_nr)
		e = pool->elements[--pool->curr_nr];
	else
		pool->min_nr = new_min_nr;
	spin_unlock(&q->lock);
	return e;
}

static void pool_shrink(struct quire *q, mempool_t *pool, int new_min_nr)
{
	void *e;

	while ((e = pool_shrink_one(q, pool, new_min_nr)))
		pool->free(q, e, pool->pool_data);
}

static void pool_new_array(struct quire *q, mempool_t *pool, void **array, int new_min_nr)
{
	void **old;

	/* Few stores as far as the undo log goes: one entry in 16 bytes. */
	spin_lock(&q->lock);
	old = pool->elements;
	memcpy(array, old, (size_t)pool->curr_nr * sizeof(*array));
	pool->elements = array;
	pool->min_nr = new_min_nr;
	spin_unlock(&q->lock);
	kfree(q, old);
}

int mempool_resize(struct quire *q, mempool_t *pool, int new_min_nr)
{
	int old = pool->min_nr;
	void **array;

	if (new_min_nr < 0)
		return -EINVAL;
	if (new_min_nr <= old) {
		pool_shrink(q, pool, new_min_nr);
		return 0;
	}
	array = kmalloc_array(q, (size_t)new_min_nr, sizeof(*array), GFP_KERNEL);
	if (!array)
		return -ENOMEM;
	pool_new_array(q, pool, array, new_min_nr);
	if (pool_fill(q, pool, GFP_KERNEL))
		return 0;
	pool_shrink(q, pool, old);
	return -ENOMEM;
}

/* ---- allocation ---- */

/* waiters is raised first: a pool_put() after that wakes us, one before has changed seq and port_wait() returns at
 * once. */
static void pool_sleep(struct quire *q, mempool_t *pool, u32 seq)
{
	spin_lock(&q->lock);
	pool->waiters++;
	spin_unlock(&q->lock);
	port_wait(&pool->seq, seq, POOL_WAIT_NS);
	spin_lock(&q->lock);
	pool->waiters--;
	spin_unlock(&q->lock);
}

void *mempool_alloc(struct quire *q, mempool_t *pool, gfp_t gfp)
{
	gfp_t first, attempt;
	u32 seq;
	void *e;

	/* An element from the pool holds old bytes: nobody would zero it. */
	BUG_ON(gfp & __GFP_ZERO);
	/* The pool is the reserve: the allocator's own reserves, and its patience, are for those who have none. */
	gfp |= __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN;
	first = gfp & ~(__GFP_DIRECT_RECLAIM | __GFP_IO);
	for (attempt = first;; attempt = gfp) {
		e = pool->alloc(q, attempt, pool->pool_data);
		if (!e)
			e = pool_take(q, pool, &seq);
		if (e || !(gfp & __GFP_DIRECT_RECLAIM) || in_transaction())
			return e;
		if (attempt != gfp)
			continue;
		/* seq was read together with "empty": a free in between makes port_wait return at once. */
		pool_sleep(q, pool, seq);
	}
}

void mempool_free(struct quire *q, mempool_t *pool, void *element)
{
	if (element && !pool_put(q, pool, element))
		pool->free(q, element, pool->pool_data);
}

int mempool_free_elements(struct quire *q, mempool_t *pool)
{
	int n;

	spin_lock(&q->lock);
	n = pool->curr_nr;
	spin_unlock(&q->lock);
	return n;
}
