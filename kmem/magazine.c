/*
 * The fast path: magazines of free objects, after Bonwick and Adams, "Magazines and Vmem" (USENIX 2001).
 *
 *	slot: [loaded][prev]  <-- whole magazines, under q->lock -->  depot  <-- objects -->  slabs
 *
 * An allocation pops from the loaded magazine, a free pushes onto it; if that is empty (full), the previous one takes
 * its place; only if that does not help either, a whole magazine is exchanged with the cache's depot, so that q->lock
 * is taken once in so many calls as a magazine holds, whatever the pattern.  A cache that comes here often gets
 * larger magazines, until memory is short (their "dynamic magazine resizing", with the memory in place of the lock's
 * contention as what sets the end).
 *
 * A slot is owned, not locked: contexts with ids 1..KMEM_OWN_SLOTS have one each.  A push or a pop becomes visible by
 * one store (of n), so a context that dies at any instruction outside a transaction leaves a valid magazine behind,
 * which the next context with its id inherits; inside a transaction the stores are logged and undone.  Magazines
 * change places under q->lock only, hence inside a transaction.  All other contexts use
 * the slot of a CPU under its trylock; if every try fails they go straight to the slabs.
 *
 * Invariants: depot magazines are not empty; spare ones are.
 * Locks: a slot's magazines belong to the slot; the depot and spare magazines to q->lock.
 */
#include "magazine.h"

#define NO_CPU (~0u)
#define SLOT_TRIES 4
#define MAX_SPARE_MAGAZINES 32
/* A cache whose magazines were exchanged so often since memory was last short gets larger ones: a quarter of a million calls. */
#define BUSY_EXCHANGES 4096
/* Rounds of "make room with reclaim, then try again" before an allocation that may fail does: in each of them somebody else was
 * faster to take it. */
#define MAKE_ROOM_ROUNDS 256

/* ---- slots ---- */

static struct kmem_slot *slot_of_cpu(struct quire *q, struct kmem_cache *c, u32 *cpu)
{
	u32 nr = q->cfg.nr_cpus, hint = port_cpu(), i;

	for (i = 0; i < MIN(nr, SLOT_TRIES); i++) {
		*cpu = (hint + i) % nr;
		if (spin_trylock(&q->kmem.cpu[*cpu].lock))
			return &c->slot[KMEM_OWN_SLOTS + *cpu];
	}
	*cpu = NO_CPU;
	return NULL;
}

static struct kmem_slot *slot_get(struct quire *q, struct kmem_cache *c, u32 *cpu)
{
	struct kmem_slot *own = own_slot(c, port_ctx());

	*cpu = NO_CPU;
	return own ? own : slot_of_cpu(q, c, cpu);
}

static void slot_put(struct quire *q, u32 cpu)
{
	if (cpu != NO_CPU)
		spin_unlock(&q->kmem.cpu[cpu].lock);
}

/* ---- magazines ---- */

static struct magazine *spare_get(struct quire *q)
{
	struct magazine *m = q->kmem.empty;

	if (m) {
		q->kmem.empty = m->next;
		q->kmem.nr_empty--;
		return m;
	}
	m = slab_take_locked(q, &q->kmem.magazine_cache, GFP_NOWAIT, CALLER);
	if (m)
		m->n = 0;
	return m;
}

static void spare_put(struct quire *q, struct magazine *m)
{
	if (q->kmem.nr_empty >= MAX_SPARE_MAGAZINES) {
		slab_give_locked(q, &q->kmem.magazine_cache, m, CALLER);
		return;
	}
	m->next = q->kmem.empty;
	q->kmem.empty = m;
	q->kmem.nr_empty++;
}

static void magazine_flush(struct quire *q, struct kmem_cache *c, struct magazine *m)
{
	while (m->n) {
		void *obj = m->obj[m->n - 1];

		m->n--;
		slab_give_locked(q, c, obj, 0);
	}
}

static void depot_put(struct kmem_cache *c, struct magazine *m)
{
	m->next = c->depot;
	c->depot = m;
	c->depot_objs += (u32)m->n;
}

static struct magazine *depot_get(struct kmem_cache *c)
{
	struct magazine *m = c->depot;

	if (m) {
		c->depot = m->next;
		c->depot_objs -= (u32)m->n;
	}
	return m;
}

/* The loaded magazine leaves the slot, which is then without one. */
static struct magazine *slot_unload(struct kmem_slot *s)
{
	struct magazine *m = s->loaded;

	if (m)
		m->n = s->n;
	s->n = s->cap = 0;
	s->loaded = NULL;
	return m;
}

static void slot_load(struct kmem_cache *c, struct kmem_slot *s, struct magazine *m)
{
	s->loaded = m;
	s->n = m ? (u32)m->n : 0;
	s->cap = m ? MAX(c->mag_size, s->n) : 0;
}

/* Under q->lock, whenever a slot comes for objects or for room. */
static void slot_exchange(struct kmem_cache *c)
{
	if (c->mag_size < c->mag_max && ++c->exchanges == BUSY_EXCHANGES)
		c->mag_size = c->mag_max;
}

/* m takes the place of the loaded magazine, which becomes the previous one. */
static void slot_change(struct kmem_cache *c, struct kmem_slot *s, struct magazine *m)
{
	s->prev = slot_unload(s);
	slot_load(c, s, m);
}

/* ---- allocation ---- */

/* Makes the loaded magazine non-empty.  False: out of memory, or no magazine to be had. */
static bool slot_refill(struct quire *q, struct kmem_cache *c, struct kmem_slot *s, gfp_t gfp)
{
	struct magazine *m = s->prev;

	slot_exchange(c);
	if (!m || !m->n) {
		m = depot_get(c);
		if (m && s->prev)
			spare_put(q, s->prev);
	}
	if (m) {
		slot_change(c, s, m);
		return true;
	}
	if (!s->loaded)
		slot_load(c, s, spare_get(q));
	if (!s->loaded)
		return false;
	s->n = slab_take_batch_locked(q, c, gfp, (c->mag_size + 1u) / 2, s->loaded->obj);
	return s->n != 0;
}

static void *alloc_locked(struct quire *q, struct kmem_cache *c, struct kmem_slot *s, gfp_t gfp, u64 caller)
{
	if (s && c->mag_max && (s->n || slot_refill(q, c, s, gfp)))
		return slot_pop(s);
	return slab_take_locked(q, c, gfp, caller);
}

/*
 * Slabs are made inside a transaction, where nothing reclaims.  So when memory is short, outside any transaction, the
 * page allocator is asked for a block as a reclaiming caller, the block is given back, and the transaction is tried
 * again: a context that dies on the way has lost nothing.
 */
static bool make_room(struct quire *q, struct kmem_cache *c, gfp_t gfp)
{
	struct frame *f;

	gfp &= ~(__GFP_HIGHMEM | __GFP_MOVABLE | __GFP_ZERO);
	f = alloc_pages(q, gfp | c->gfp | __GFP_COMP, c->min_order);
	if (!f)
		return false;
	__free_pages(q, f, c->min_order);
	return true;
}

static void *alloc_object(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller)
{
	struct kmem_slot *s;
	unsigned round;
	void *obj;
	u32 cpu;

	for (round = 0;; round++) {
		s = slot_get(q, c, &cpu);
		if (s && s->n) {
			obj = slot_pop(s); /* a CPU's slot: the fast path did not look there */
		} else {
			spin_lock(&q->lock);
			obj = alloc_locked(q, c, s, gfp, caller);
			spin_unlock(&q->lock);
		}
		slot_put(q, cpu);
		if (obj || in_transaction() || !(gfp & __GFP_DIRECT_RECLAIM))
			return obj;
		if (round >= MAKE_ROOM_ROUNDS && !(gfp & __GFP_NOFAIL))
			break;
		if (!make_room(q, c, gfp))
			break;
	}
	if (!(gfp & __GFP_NOWARN))
		quire_log(q, 4,
			  "SLUB: Unable to allocate memory on node -1, gfp=0x%x, cache: %s, object size: %u, order: "
			  "%u, caller 0x%lx",
			  gfp, c->name, c->object_size, c->order, caller);
	return NULL;
}

void *zero_object(const struct kmem_cache *c, void *obj)
{
	/* Outside a transaction these stores are not logged; nobody else knows the object yet. */
	return memset(obj, 0, c->object_size);
}

__attribute__((noinline)) void *cache_alloc_slow(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller)
{
	void *obj = alloc_object(q, c, gfp, caller);

	return obj && gfp & __GFP_ZERO ? zero_object(c, obj) : obj;
}

__attribute__((noinline)) void *cache_alloc_asking(struct quire *q, struct kmem_cache *c, gfp_t gfp, u64 caller)
{
	if (port_should_fail(q, FAIL_SLAB) && !(gfp & __GFP_NOFAIL))
		return NULL;
	return cache_alloc_slow(q, c, gfp, caller);
}

/* ---- freeing ---- */

/* Makes room in the loaded magazine.  False: no magazine to be had. */
static bool slot_make_space(struct quire *q, struct kmem_cache *c, struct kmem_slot *s)
{
	struct magazine *m = s->prev;

	slot_exchange(c);
	if (m && m->n >= c->mag_size && c->depot_objs + m->n > c->depot_max)
		magazine_flush(q, c, m);
	if (!m || m->n >= c->mag_size) {
		m = spare_get(q);
		if (m && s->prev)
			depot_put(c, s->prev);
	}
	if (!m)
		return false;
	slot_change(c, s, m);
	return true;
}

static bool magazine_has(const struct magazine *m, u64 n, const void *obj)
{
	u64 i;

	for (i = 0; m && i < n; i++)
		if (m->obj[i] == obj)
			return true;
	return false;
}

bool slot_has_object(const struct kmem_slot *s, const void *obj)
{
	return magazine_has(s->loaded, s->n, obj) || magazine_has(s->prev, s->prev ? s->prev->n : 0, obj);
}

__attribute__((noinline)) void cache_free_slow(struct quire *q, struct kmem_cache *c, void *obj, u64 caller)
{
	u32 cpu;
	struct kmem_slot *s = slot_get(q, c, &cpu);

	if (s)
		check_not_cached(q, c, s, obj, caller);
	if (s && s->n < s->cap) {
		slot_push(s, obj);
	} else {
		spin_lock(&q->lock);
		if (s && c->mag_max && slot_make_space(q, c, s))
			slot_push(s, obj);
		else
			slab_give_locked(q, c, obj, caller);
		spin_unlock(&q->lock);
	}
	slot_put(q, cpu);
}

/* ---- draining ---- */

static void drain_magazine(struct quire *q, struct kmem_cache *c, struct magazine *m)
{
	if (!m)
		return;
	magazine_flush(q, c, m);
	spare_put(q, m);
}

static void drain_slot(struct quire *q, struct kmem_cache *c, struct kmem_slot *s)
{
	struct magazine *prev;

	spin_lock(&q->lock);
	drain_magazine(q, c, slot_unload(s));
	spin_unlock(&q->lock);
	spin_lock(&q->lock);
	prev = s->prev;
	s->prev = NULL;
	drain_magazine(q, c, prev);
	spin_unlock(&q->lock);
}

static void drain_depot(struct quire *q, struct kmem_cache *c)
{
	struct magazine *m;

	do {
		spin_lock(&q->lock);
		m = depot_get(c);
		drain_magazine(q, c, m);
		spin_unlock(&q->lock);
	} while (m);
}

u64 magazine_shrink_locked(struct quire *q, struct kmem_cache *c)
{
	struct magazine *m = depot_get(c);
	u64 n = m ? m->n : 0;

	lockdep_assert_held(&q->lock);
	drain_magazine(q, c, m);
	return n;
}

/* One transaction a magazine.  An own slot of another context cannot be touched while that context may run. */
void magazine_drain(struct quire *q, struct kmem_cache *c, bool all)
{
	u32 me = port_ctx()->id - 1, i;

	if (!c->mag_max)
		return;
	spin_lock(&q->lock);
	c->mag_size = c->mag_min;
	c->exchanges = 0;
	spin_unlock(&q->lock);
	for (i = 0; i < KMEM_OWN_SLOTS; i++)
		if (all || i == me)
			drain_slot(q, c, &c->slot[i]);
	for (i = 0; i < q->cfg.nr_cpus; i++) {
		while (!spin_trylock(&q->kmem.cpu[i].lock)) {
			if (!all)
				break;
			port_relax();
		}
		if (!spin_is_held(&q->kmem.cpu[i].lock))
			continue;
		drain_slot(q, c, &c->slot[KMEM_OWN_SLOTS + i]);
		spin_unlock(&q->kmem.cpu[i].lock);
	}
	drain_depot(q, c);
}

u64 magazine_count_locked(struct quire *q, struct kmem_cache *c, bool slots)
{
	u64 n = c->depot_objs;
	u32 i;

	for (i = 0; slots && c->mag_max && i < q->kmem.nr_slots; i++) {
		n += c->slot[i].n;
		n += c->slot[i].prev ? c->slot[i].prev->n : 0;
	}
	return n;
}

/* ---- the public face ---- */

void *kmem_cache_alloc(struct quire *q, struct kmem_cache *c, gfp_t gfp)
{
	return cache_alloc(q, c, gfp, CALLER);
}

void *kmem_cache_zalloc(struct quire *q, struct kmem_cache *c, gfp_t gfp)
{
	return cache_alloc(q, c, gfp | __GFP_ZERO, CALLER);
}

void kmem_cache_free(struct quire *q, struct kmem_cache *c, void *obj)
{
	if (!obj)
		return;
	check_object(q, c, obj, CALLER);
	cache_free(q, c, obj, CALLER);
}

void kmem_cache_free_bulk(struct quire *q, struct kmem_cache *c, unsigned n, void **objs)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		check_object(q, c, objs[i], CALLER);
		cache_free(q, c, objs[i], CALLER);
	}
}

unsigned kmem_cache_alloc_bulk(struct quire *q, struct kmem_cache *c, gfp_t gfp, unsigned n, void **out)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		out[i] = cache_alloc(q, c, gfp, CALLER);
		if (!out[i]) {
			kmem_cache_free_bulk(q, c, i, out);
			return 0;
		}
	}
	return n;
}
