/*
 * Rooms: memory of the machine's that a compressor works in, where a stack is too small (swap/zstd.c).
 *
 * There is one for each CPU, but at most one for 8 MiB of RAM, from the first area that needs them until the last one is gone;
 * they are the slab cache "swap_room" of /proc/slabinfo.  Each has a lock, a leaf:
 *
 *	out  under no lock: any free room, else one is waited for              swap_room_lock
 *	in   inside a transaction, where a leaf may only be tried.  If none is free the caller ends its transaction,
 *	     waits, and starts again                                           swap_room_trylock, swap_room_wait
 *
 * Who dies in a room is rolled back by the next one that wants it, as with any lock; what lies in it means nothing to others.
 *
 * Invariant: once swap_rooms_get() is over, every room has its memory until swap_rooms_put() was called as often.  room->mem changes
 * under q->lock and the room's own lock, so it stays while either is held.
 */
#include "swap.h"

#define MEMORY_PER_ROOM (8u << 20)

/* ---- use ---- */

/* Contexts begin at different rooms, so that they rarely meet. */
static struct swap_room *room_at(struct quire *q, u32 i)
{
	return &q->swap.room[(port_ctx()->cpu + i) % q->swap.nr_rooms];
}

/* The room's memory is there, or the lock is given back. */
static bool room_has_memory(struct swap_room *r)
{
	if (r->mem)
		return true;
	spin_unlock(&r->lock);
	return false;
}

struct swap_room *swap_room_trylock(struct quire *q)
{
	for (u32 i = 0; i < q->swap.nr_rooms; i++) {
		struct swap_room *r = room_at(q, i);

		if (spin_trylock(&r->lock) && room_has_memory(r))
			return r;
	}
	return NULL;
}

struct swap_room *swap_room_lock(struct quire *q)
{
	struct swap_room *r = swap_room_trylock(q);

	if (r || !q->swap.nr_rooms)
		return r;
	r = room_at(q, 0);
	spin_lock(&r->lock);
	return room_has_memory(r) ? r : NULL;
}

void swap_room_unlock(struct swap_room *r)
{
	spin_unlock(&r->lock);
}

void swap_room_wait(struct quire *q)
{
	struct swap_room *r = swap_room_lock(q);

	if (r)
		swap_room_unlock(r);
}

/* ---- coming and going ---- */

/* The number of rooms, for good, and their cache.  False: no memory. */
static bool rooms_init(struct quire *q)
{
	struct kmem_cache *c = NULL;

	if (!q->swap.room_cache)
		c = kmem_cache_create(q, "swap_room", page_zstd_room(), 64, 0, NULL);
	spin_lock(&q->lock);
	if (c && !q->swap.room_cache) {
		q->swap.room_cache = c;
		c = NULL;
		for (u32 i = 0; i < SWAP_ROOMS_MAX; i++)
			spin_lock_init(&q->swap.room[i].lock, LOCK_RANK_LEAF);
		q->swap.nr_rooms = (u32)MAX(MIN(MIN(q->cfg.nr_cpus, SWAP_ROOMS_MAX), q->cfg.memory / MEMORY_PER_ROOM), 1);
	}
	spin_unlock(&q->lock);
	kmem_cache_destroy(q, c); /* somebody else was faster */
	return q->swap.room_cache;
}

/* Under q->lock.  False: somebody is in it. */
static bool room_set_memory(struct swap_room *r, void *mem)
{
	if (!spin_trylock(&r->lock))
		return false;
	r->mem = mem;
	spin_unlock(&r->lock);
	return true;
}

/* Under no lock: whoever is in it now leaves. */
static void room_wait(struct swap_room *r)
{
	spin_lock(&r->lock);
	spin_unlock(&r->lock);
}

static bool room_fill(struct quire *q, struct swap_room *r)
{
	void *mem = kmem_cache_alloc(q, q->swap.room_cache, GFP_KERNEL | __GFP_NOWARN);

	while (mem) {
		spin_lock(&q->lock);
		if (r->mem || room_set_memory(r, mem))
			break;
		spin_unlock(&q->lock);
		room_wait(r);
	}
	if (!mem)
		return false;
	if (r->mem != mem)
		kmem_cache_free(q, q->swap.room_cache, mem);
	spin_unlock(&q->lock);
	return true;
}

/* Takes its memory away, in one transaction with its going, unless it is needed again.  False: somebody is in it. */
static bool room_empty(struct quire *q, struct swap_room *r)
{
	void *mem;
	bool done = true;

	spin_lock(&q->lock);
	mem = r->mem;
	if (mem && !q->swap.room_users) {
		done = room_set_memory(r, NULL);
		if (done)
			kmem_cache_free(q, q->swap.room_cache, mem);
	}
	spin_unlock(&q->lock);
	return done;
}

void swap_rooms_put(struct quire *q)
{
	spin_lock(&q->lock);
	q->swap.room_users--;
	spin_unlock(&q->lock);
	for (u32 i = 0; i < q->swap.nr_rooms; i++)
		while (!room_empty(q, &q->swap.room[i]))
			room_wait(&q->swap.room[i]);
	if (!q->swap.room_users)
		kmem_cache_shrink(q, q->swap.room_cache);
}

int swap_rooms_get(struct quire *q)
{
	bool ok;

	if (!rooms_init(q))
		return -ENOMEM;
	spin_lock(&q->lock);
	q->swap.room_users++;
	spin_unlock(&q->lock);
	ok = true;
	for (u32 i = 0; i < q->swap.nr_rooms && ok; i++)
		ok = room_fill(q, &q->swap.room[i]);
	if (!ok)
		swap_rooms_put(q);
	return ok ? 0 : -ENOMEM;
}
