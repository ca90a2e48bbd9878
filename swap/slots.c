/*
 * The slot table: which slots are in use, and how often each is referred to.
 *
 * Slots come in clusters of 128, whose records fill one frame; that frame exists only while one of them is in use.
 * Slots are taken one after another from one cluster at a time, so that what goes out together lies together.  Areas are asked
 * by priority; equals take turns, a few slots each.
 *
 *	never used -> current -> full <-> partial -> empty (its frame is given back) -> current
 *
 * Invariants: swap.h, and area->used = sum of the clusters' used; nr_free_swap_pages = sum over areas that take pages
 * of (pages - used).  Locks: q->lock.
 */
#include "swap.h"

#define SLOTS_PER_TURN 32u
#define GFP_SLOTS (__GFP_HIGH | __GFP_MEMALLOC | __GFP_NOWARN | __GFP_ZERO)

/* ---- lists of clusters, as index + 1 ---- */
static void list_push(struct swap_area *a, u32 *head, u32 c)
{
	struct swap_cluster *cl = &a->clusters[c];

	cl->prev = 0;
	cl->next = *head;
	if (*head)
		a->clusters[*head - 1].prev = c + 1;
	*head = c + 1;
}

static void list_remove(struct swap_area *a, u32 *head, u32 c)
{
	struct swap_cluster *cl = &a->clusters[c];

	if (cl->prev)
		a->clusters[cl->prev - 1].next = cl->next;
	else
		*head = cl->next;
	if (cl->next)
		a->clusters[cl->next - 1].prev = cl->prev;
	cl->next = cl->prev = 0;
}

/* ---- one cluster ---- */
static struct swap_slot *cluster_slots(struct quire *q, const struct swap_cluster *cl)
{
	return frame_address(q, pfn_to_frame(q, cl->records - 1));
}

/* Slots [first, end) of cluster c may be used: slot 0 of the area is its header, and the last cluster may be short. */
static u32 first_slot(u32 c)
{
	return c == 0;
}

static u32 end_slot(const struct swap_area *a, u32 c)
{
	return (u32)MIN(a->pages + 1 - (u64)c * SLOTS_PER_CLUSTER, SLOTS_PER_CLUSTER);
}

static bool cluster_full(const struct swap_area *a, u32 c)
{
	return a->clusters[c].used == end_slot(a, c) - first_slot(c);
}

static bool cluster_open(struct swap_area *a, u32 c)
{
	struct frame *f;

	if (a->clusters[c].records)
		return true;
	f = alloc_page(a->q, GFP_SLOTS);
	if (!f)
		return false;
	a->clusters[c].records = frame_to_pfn(a->q, f) + 1;
	return true;
}

static u32 find_free_slot(struct swap_area *a, u32 c)
{
	struct swap_cluster *cl = &a->clusters[c];
	const struct swap_slot *s = cluster_slots(a->q, cl);
	u32 first = first_slot(c), end = end_slot(a, c), at = MAX(cl->hint, first);

	for (u32 n = first; n < end; n++, at++) {
		if (at >= end)
			at = first;
		if (!s[at].count)
			return at;
	}
	BUG();
}

/* ---- one area ---- */

/* A cluster with room becomes the current one.  False: none, or no frame for its records. */
static bool next_cluster(struct swap_area *a)
{
	u32 c;

	if (a->free) {
		c = a->free - 1;
	} else if (a->virgin < a->nr_clusters) {
		c = a->virgin;
	} else if (a->partial) {
		c = a->partial - 1;
	} else {
		return false;
	}
	if (!cluster_open(a, c))
		return false;
	if (c == a->virgin)
		a->virgin++;
	else
		list_remove(a, a->free ? &a->free : &a->partial, c);
	a->current = c + 1;
	return true;
}

/* Does the area take pages?  Not while it is being closed. */
static bool area_is_open(struct quire *q, const struct swap_area *a)
{
	for (u32 i = 0; i < q->swap.nr_order && !a->full; i++)
		if (q->swap.order[i] == a->type)
			return true;
	return false;
}

static u64 area_alloc(struct swap_area *a)
{
	struct swap_cluster *cl;
	struct swap_slot *s;
	u32 c, i;

	if (a->full || a->used == a->pages || (!a->current && !next_cluster(a)))
		return 0;
	c = a->current - 1;
	cl = &a->clusters[c];
	i = find_free_slot(a, c);
	s = &cluster_slots(a->q, cl)[i];
	s->count = 1;
	cl->hint = (u16)(i + 1);
	cl->used++;
	a->used++;
	a->turn++;
	a->q->nr_free_swap_pages--;
	a->q->swap.nr_slots_used++;
	if (cluster_full(a, c))
		a->current = 0;
	return swp_entry(a->type, (u64)c * SLOTS_PER_CLUSTER + i);
}

static void slot_free(struct swap_area *a, struct swap_slot *s, u64 offset)
{
	u32 c = (u32)(offset / SLOTS_PER_CLUSTER);
	struct swap_cluster *cl = &a->clusters[c];
	bool was_full = cluster_full(a, c), current = a->current == c + 1;

	*s = (struct swap_slot){ 0 };
	cl->used--;
	a->used--;
	a->q->swap.nr_slots_used--;
	if (area_is_open(a->q, a))
		a->q->nr_free_swap_pages++;
	if (was_full && !current)
		list_push(a, &a->partial, c);
	if (cl->used)
		return;
	if (current)
		a->current = 0;
	else
		list_remove(a, &a->partial, c);
	__free_pages(a->q, pfn_to_frame(a->q, cl->records - 1), 0);
	cl->records = 0;
	cl->hint = 0;
	list_push(a, &a->free, c);
}

/* ---- the table ---- */
struct swap_slot *swap_slot_of(struct quire *q, u64 entry)
{
	struct swap_area *a = q->swap.areas[swp_type(entry)];
	u64 c = swp_offset(entry) / SLOTS_PER_CLUSTER;

	if (!a || c >= a->nr_clusters || !a->clusters[c].records)
		return NULL;
	return &cluster_slots(q, &a->clusters[c])[swp_offset(entry) % SLOTS_PER_CLUSTER];
}

/* The area at order[i] had its turn: behind its equals. */
static void next_turn(struct quire *q, u32 i)
{
	struct swap_area *a = q->swap.areas[q->swap.order[i]];

	a->turn = 0;
	for (; i + 1 < q->swap.nr_order && q->swap.areas[q->swap.order[i + 1]]->prio == a->prio; i++)
		q->swap.order[i] = q->swap.order[i + 1];
	q->swap.order[i] = (u8)a->type;
}

/* From any area but those: a mask of types. */
static u64 alloc_but(struct quire *q, u32 but)
{
	u64 entry = 0;

	lockdep_assert_held(&q->lock);
	for (u32 i = 0; i < q->swap.nr_order && !entry; i++) {
		struct swap_area *a = q->swap.areas[q->swap.order[i]];

		entry = but & BIT(a->type) ? 0 : area_alloc(a);
		if (entry && a->turn >= SLOTS_PER_TURN)
			next_turn(q, i);
	}
	return entry;
}

bool swap_is_memory(const struct quire *q)
{
	for (u32 i = 0; i < q->swap.nr_order; i++) {
		const struct swap_area *a = q->swap.areas[q->swap.order[i]];

		if (!a->full && a->used < a->pages)
			return !a->ops->io;
	}
	return false;
}

u64 swap_alloc(struct quire *q)
{
	return alloc_but(q, 0);
}

u64 swap_alloc_elsewhere(struct quire *q, u32 but)
{
	struct ctx *c = port_ctx();
	u64 to = c->nswaps < CTX_MAX_SWAPS ? alloc_but(q, but) : 0;

	if (to)
		c->swaps[c->nswaps++] = to;
	return to;
}

void swap_area_is_full(struct quire *q, u64 entry)
{
	struct swap_area *a = q->swap.areas[swp_type(entry)];

	lockdep_assert_held(&q->lock);
	if (!area_is_open(q, a))
		return;
	q->nr_free_swap_pages -= a->pages - a->used;
	a->full = true;
	quire_log(q, 4, "No room left on swap-device (%u): %s takes no more pages", a->type, a->name);
}

static struct swap_slot *slot_in_use(struct quire *q, u64 entry)
{
	struct swap_slot *s = swap_slot_of(q, entry);

	lockdep_assert_held(&q->lock);
	BUG_ON(!s || !s->count);
	return s;
}

void swap_dup(struct quire *q, u64 entry, u32 n)
{
	slot_in_use(q, entry)->count += n;
}

u32 swap_count(struct quire *q, u64 entry)
{
	return slot_in_use(q, entry)->count;
}

/* The last count is gone.  Returns an entry that loses one, too; 0 = none. */
static u64 slot_release(struct quire *q, struct swap_slot *s, u64 entry)
{
	struct swap_area *a = q->swap.areas[swp_type(entry)];
	u64 to = s->state == SLOT_FORWARDED ? s->data : 0;

	if (s->folio) {
		struct folio *folio = (struct folio *)pfn_to_frame(q, s->folio - 1);

		folio->f.flags |= FF_DIRTY; /* its only copy is in memory again */
		swap_cache_del(q, folio);
	}
	if (s->state == SLOT_STORED && a->ops->free)
		a->ops->free(a, s);
	slot_free(a, s, swp_offset(entry));
	return to;
}

void swap_put(struct quire *q, u64 entry, u32 n)
{
	while (entry) {
		struct swap_slot *s = slot_in_use(q, entry);

		BUG_ON(s->count < n);
		s->count -= n;
		entry = s->count ? 0 : slot_release(q, s, entry);
		n = 1;
	}
}

/* ---- counts held by who writes ---- */
void swap_hold(struct quire *q, u64 entry)
{
	struct ctx *c = port_ctx();

	BUG_ON(c->nswaps == CTX_MAX_SWAPS);
	swap_dup(q, entry, 1);
	c->swaps[c->nswaps++] = entry;
}

void swap_unhold(struct quire *q, u64 entry)
{
	struct ctx *c = port_ctx();
	u32 i = c->nswaps;

	lockdep_assert_held(&q->lock);
	while (i && c->swaps[i - 1] != entry)
		i--;
	BUG_ON(!i);
	c->swaps[i - 1] = c->swaps[--c->nswaps];
}

void swap_abandon(struct ctx *dead)
{
	struct quire *q = dead->q;

	while (READ_ONCE(dead->nswaps)) {
		spin_lock(&q->lock);
		swap_put(q, dead->swaps[--dead->nswaps], 1);
		spin_unlock(&q->lock);
	}
}

bool swap_entry_in_area(struct quire *q, u64 entry, unsigned type)
{
	const struct swap_slot *s = slot_in_use(q, entry);

	return swp_type(entry) == type || (s->state == SLOT_FORWARDED && swp_type(s->data) == type);
}

void swap_dup_hook(struct quire *q, u64 entry)
{
	spin_lock(&q->lock);
	swap_dup(q, entry, 1);
	spin_unlock(&q->lock);
}

void swap_free_hook(struct quire *q, u64 entry, u32 n)
{
	spin_lock(&q->lock);
	swap_put(q, entry, n);
	spin_unlock(&q->lock);
}

u64 swap_total_hook(struct quire *q)
{
	return q->total_swap_pages;
}

/* ---- checking ---- */
static bool complain(struct quire *q, const char *what, u64 entry)
{
	quire_log(q, 3, "swap: %s (entry %#llx)", what, (unsigned long long)entry);
	return false;
}

static bool slot_is_valid(struct quire *q, const struct swap_slot *s, u64 entry, u64 *cached)
{
	const struct frame *f = s->folio ? pfn_to_frame(q, s->folio - 1) : NULL;

	if (!s->count)
		return (!s->folio && !s->state) || complain(q, "a free slot is not empty", entry);
	*cached += f != NULL;
	if (!f && s->state == SLOT_EMPTY)
		return complain(q, "a slot in use has neither folio nor bytes", entry);
	if (s->state == SLOT_FORWARDED && (!swap_slot_of(q, s->data) || swap_slot_of(q, s->data)->state == SLOT_FORWARDED))
		return complain(q, "a slot forwards to nowhere", entry);
	if (f && (f->type != FRAME_ANON || !(f->flags & FF_SWAPCACHE) || f->private != entry || !f->refcount))
		return complain(q, "a slot's folio does not know it", entry);
	return true;
}

static bool area_is_valid(struct quire *q, struct swap_area *a, u64 *cached)
{
	u64 used = 0;
	bool ok = true;

	for (u32 c = 0; c < a->nr_clusters; c++) {
		const struct swap_cluster *cl = &a->clusters[c];
		u32 n = 0;

		if (!cl->records) {
			if (cl->used)
				ok = complain(q, "a cluster in use has no records", swp_entry(a->type, (u64)c * SLOTS_PER_CLUSTER));
			continue;
		}
		for (u32 i = 0; i < SLOTS_PER_CLUSTER; i++) {
			const struct swap_slot *s = &cluster_slots(q, cl)[i];

			n += s->count != 0;
			ok &= slot_is_valid(q, s, swp_entry(a->type, (u64)c * SLOTS_PER_CLUSTER + i), cached);
		}
		if (n != cl->used)
			ok = complain(q, "a cluster's count is wrong", swp_entry(a->type, (u64)c * SLOTS_PER_CLUSTER));
		used += n;
	}
	return used == a->used ? ok : complain(q, "an area's count is wrong", swp_entry(a->type, 0));
}

bool swap_is_valid(struct quire *q)
{
	u64 cached = 0, free = 0;
	bool ok = true;

	lockdep_assert_held(&q->lock);
	for (u32 i = 0; i < QUIRE_MAX_SWAP_AREAS; i++) {
		if (!q->swap.areas[i])
			continue;
		ok &= area_is_valid(q, q->swap.areas[i], &cached);
		if (area_is_open(q, q->swap.areas[i]))
			free += q->swap.areas[i]->pages - q->swap.areas[i]->used;
	}
	if (cached != q->nr_swapcache_pages)
		ok = complain(q, "SwapCached is wrong", cached);
	if (free != q->nr_free_swap_pages)
		ok = complain(q, "SwapFree is wrong", free);
	return ok;
}
