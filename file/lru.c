/*
 * The LRU lists: which folios reclaim may look at.  What the lists mean is the policy's business (quire/lru.h).
 *
 * Invariants: FF_LRU is set exactly while the folio's record is linked on the list that folio_lru_list() names;
 * so FF_ACTIVE, FF_LIST1, FF_UNEVICTABLE and FF_SWAPBACKED change only while a folio is off the lists.
 * q->nr_lru_pages[] is what /proc shows: pages on the lists that the policy calls active, and on the others.
 * Locks: q->lock.
 */
#include "filemap.h"

struct frame_list *folio_lru_list(struct quire *q, const struct folio *folio)
{
	if (folio->f.flags & FF_UNEVICTABLE)
		return &q->lru.unevictable;
	return &q->lru.list[folio_kind(folio)][folio_list(folio)];
}

static enum lru_list lru_of(const struct quire *q, unsigned kind, unsigned list)
{
	bool active = q->lru.policy->is_active(&q->lru, kind, list);

	return (kind == LRU_KIND_ANON ? LRU_INACTIVE_ANON : LRU_INACTIVE_FILE) + active;
}

/* Lists count folios; these count pages. */
static void count_pages(struct quire *q, const struct folio *folio, u64 n)
{
	unsigned kind = folio_kind(folio), list = folio_list(folio);

	if (folio->f.flags & FF_UNEVICTABLE) {
		q->nr_lru_pages[LRU_UNEVICTABLE] += n;
		return;
	}
	q->lru.pages[kind][list] += n;
	q->nr_lru_pages[lru_of(q, kind, list)] += n;
}

static void link_folio(struct quire *q, struct folio *folio, bool tail)
{
	struct frame_list *l = folio_lru_list(q, folio);

	if (tail)
		frame_list_add_tail(q, l, &folio->f);
	else
		frame_list_add(q, l, &folio->f);
	folio->f.flags |= FF_LRU;
	count_pages(q, folio, folio_nr_pages(folio));
}

static void set_list(struct folio *folio, unsigned list)
{
	u16 flags = folio->f.flags & (u16)~(FF_ACTIVE | FF_LIST1);

	folio->f.flags = (u16)(flags | (list & 1 ? FF_ACTIVE : 0) | (list & 2 ? FF_LIST1 : 0));
}

static void add(struct quire *q, struct folio *folio, bool tail)
{
	lockdep_assert_held(&q->lock);
	if (folio->f.flags & FF_LRU)
		return;
	set_list(folio, q->lru.policy->place(q, folio));
	link_folio(q, folio, tail);
}

void folio_add_lru(struct quire *q, struct folio *folio)
{
	add(q, folio, false);
}

void folio_add_lru_tail(struct quire *q, struct folio *folio)
{
	add(q, folio, true);
}

void folio_del_lru(struct quire *q, struct folio *folio)
{
	lockdep_assert_held(&q->lock);
	if (!(folio->f.flags & FF_LRU))
		return;
	frame_list_del(q, folio_lru_list(q, folio), &folio->f);
	folio->f.flags &= (u16)~FF_LRU;
	count_pages(q, folio, -(u64)folio_nr_pages(folio));
}

void folio_mark_accessed(struct quire *q, struct folio *folio)
{
	u16 flags = folio->f.flags;

	if (!(flags & FF_REFERENCED))
		folio->f.flags |= FF_REFERENCED;
	else if ((flags & FF_LRU) && !(flags & FF_UNEVICTABLE))
		q->lru.policy->activate(q, folio);
}

/* Costs fade: of what they sum up to, only the last quarter of the lists' length counts in full. */
void lru_note_cost(struct quire *q, unsigned kind, u64 io, u64 rotated)
{
	u64 *cost = q->lru.cost, size = 0;

	cost[kind] += io * LRU_IO_COST + rotated;
	for (unsigned list = LRU_INACTIVE_ANON; list < LRU_UNEVICTABLE; list++)
		size += q->nr_lru_pages[list];
	if (cost[LRU_KIND_ANON] + cost[LRU_KIND_FILE] <= size / 4)
		return;
	cost[LRU_KIND_ANON] /= 2;
	cost[LRU_KIND_FILE] /= 2;
}

/* ---- for policies ---- */

static void move(struct quire *q, struct folio *folio, unsigned list, bool tail)
{
	folio_del_lru(q, folio);
	set_list(folio, list);
	link_folio(q, folio, tail);
}

void lru_move(struct quire *q, struct folio *folio, unsigned list)
{
	move(q, folio, list, false);
}

void lru_move_tail(struct quire *q, struct folio *folio, unsigned list)
{
	move(q, folio, list, true);
}

void lru_cull(struct quire *q, struct folio *folio)
{
	folio_del_lru(q, folio);
	folio->f.flags |= FF_UNEVICTABLE;
	link_folio(q, folio, false);
	count_vm_events(q, UNEVICTABLE_PGCULLED, folio_nr_pages(folio));
}

void lru_rescue(struct quire *q, struct folio *folio)
{
	if (!(folio->f.flags & FF_UNEVICTABLE))
		return;
	folio_del_lru(q, folio);
	folio->f.flags &= (u16)~FF_UNEVICTABLE;
	add(q, folio, false);
	count_vm_events(q, UNEVICTABLE_PGRESCUED, folio_nr_pages(folio));
}

struct folio *lru_tail(struct quire *q, unsigned kind, unsigned list)
{
	const struct frame_list *l = &q->lru.list[kind][list];

	return l->last ? (struct folio *)pfn_to_frame(q, l->last - 1) : NULL;
}

void lru_recount(struct quire *q)
{
	u64 n[NR_LRU_LISTS] = { 0 };

	for (unsigned kind = 0; kind < LRU_NR_KINDS; kind++)
		for (unsigned list = 0; list < LRU_NR_LISTS; list++)
			n[lru_of(q, kind, list)] += q->lru.pages[kind][list];
	for (unsigned i = 0; i < LRU_UNEVICTABLE; i++)
		q->nr_lru_pages[i] = n[i];
}

void lru_set_policy(struct quire *q, const struct reclaim_policy *policy)
{
	q->lru.policy = policy;
	if (policy->init)
		policy->init(&q->lru);
}

/* ---- checking ---- */

static bool complain(struct quire *q, const char *what, unsigned kind, unsigned list)
{
	quire_log(q, 3, "lru: %s (kind %u, list %u)", what, kind, list);
	return false;
}

/* One list; its pages are added to *pages. */
static bool list_is_valid(struct quire *q, const struct frame_list *l, unsigned kind, unsigned list, u64 *pages)
{
	u64 folios = 0;

	for (pfn_t at = l->first; at; at = pfn_to_frame(q, at - 1)->next) {
		const struct folio *folio = (const struct folio *)pfn_to_frame(q, at - 1);

		if (!(folio->f.flags & FF_LRU) || !folio->f.refcount || folio_lru_list(q, folio) != l)
			return complain(q, "a folio stands on a list that is not its own", kind, list);
		*pages += folio_nr_pages(folio);
		folios++;
	}
	return folios == l->count || complain(q, "a list's count is wrong", kind, list);
}

bool lru_is_valid(struct quire *q)
{
	u64 shown[NR_LRU_LISTS] = { 0 };
	bool ok = true;

	lockdep_assert_held(&q->lock);
	for (unsigned kind = 0; kind < LRU_NR_KINDS; kind++) {
		for (unsigned list = 0; list < LRU_NR_LISTS; list++) {
			u64 pages = 0;

			ok &= list_is_valid(q, &q->lru.list[kind][list], kind, list, &pages);
			if (pages != q->lru.pages[kind][list])
				ok = complain(q, "a list's pages are wrong", kind, list);
			shown[lru_of(q, kind, list)] += pages;
		}
	}
	ok &= list_is_valid(q, &q->lru.unevictable, LRU_NR_KINDS, 0, &shown[LRU_UNEVICTABLE]);
	for (unsigned i = 0; i < NR_LRU_LISTS; i++)
		if (shown[i] != q->nr_lru_pages[i])
			ok = complain(q, "what /proc shows is wrong", i, 0);
	return ok;
}
