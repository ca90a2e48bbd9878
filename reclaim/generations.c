/*
 * Generations: folios by the time of their last known use, after Linux's multi-gen LRU.
 *
 *	list = number of a generation modulo 4
 *
 *	   oldest (min_seq)                          youngest (seq)
 *	[ candidates ]   [        ]   [        ]   [ new, and found used ]
 *
 * Candidates come from the tail of the oldest generation.  One that was used since goes to the youngest; and so do its
 * neighbours in the page table if they were used, too: where one page is in use others are, and asking them now saves the walk
 * from the folio to its mappings later (`young`, MGLRU's look-around).  When the youngest generation has grown to a
 * quarter of all a new one begins; an empty oldest one ends.
 *
 * The first look finds every page used, for it was brought in by a use; so that look only makes it old (FF_SEEN), and gives it
 * one generation more.  Without this a file that is read once would stay as long as what is used all the time.
 *
 * Unlike MGLRU there are no tiers with a feedback loop for what is used through descriptors (it gets one more
 * generation), and page tables are not walked as a whole: clearing an accessed mark costs the hosted port a host call.
 *
 * Invariant: seq - min_seq < 4.  The two youngest are what /proc calls active.  Locks: q->lock for everything.
 */
#include <file/filemap.h>
#include "vmscan.h"

static unsigned list_of(u64 seq)
{
	return (unsigned)(seq % LRU_NR_LISTS);
}

/* 0 = youngest. */
static unsigned generation_age(const struct lruvec *lru, unsigned kind, unsigned list)
{
	return (unsigned)(lru->seq[kind] - list) % LRU_NR_LISTS;
}

static bool is_active(const struct lruvec *lru, unsigned kind, unsigned list)
{
	return generation_age(lru, kind, list) < 2;
}

static void init(struct lruvec *lru)
{
	for (unsigned kind = 0; kind < LRU_NR_KINDS; kind++) {
		lru->min_seq[kind] = LRU_NR_LISTS;
		lru->seq[kind] = LRU_NR_LISTS + 1;
	}
}

static unsigned place(struct quire *q, struct folio *folio)
{
	return list_of(q->lru.seq[folio_kind(folio)]);
}

static void to_youngest(struct quire *q, struct folio *folio)
{
	if (!(folio->f.flags & FF_LRU) || (folio->f.flags & FF_UNEVICTABLE))
		return;
	if (!is_active(&q->lru, folio_kind(folio), folio_list(folio))) {
		workingset_activation(q, folio);
		folio->f.flags |= FF_WORKINGSET;
		count_vm_events(q, PGACTIVATE, folio_nr_pages(folio));
	}
	lru_move(q, folio, list_of(q->lru.seq[folio_kind(folio)]));
}

/* Out of the oldest generation into the next. */
static void one_more(struct quire *q, struct folio *folio)
{
	unsigned kind = folio_kind(folio);

	lru_move(q, folio, list_of(MAX(q->lru.min_seq[kind], q->lru.seq[kind] - 1)));
	count_vm_events(q, PGROTATED, folio_nr_pages(folio));
}

/* Found used.  True: by more than the use that brought it in, as far as we know. */
static bool used_again(struct folio *folio)
{
	bool seen = folio->f.flags & FF_SEEN;

	folio->f.flags |= FF_SEEN;
	return seen;
}

/* A neighbour was found used, and is old now. */
static void young(struct quire *q, struct folio *folio)
{
	if (used_again(folio))
		to_youngest(q, folio);
	else
		lru_move(q, folio, folio_list(folio)); /* looked at before its turn: that shall not be its end */
}

static void to_oldest(struct quire *q, struct folio *folio)
{
	folio->f.flags &= (u16)~FF_REFERENCED;
	lru_move(q, folio, list_of(q->lru.min_seq[folio_kind(folio)]));
	count_vm_events(q, PGDEACTIVATE, folio_nr_pages(folio));
}

static u64 all_pages(const struct lruvec *lru, unsigned kind)
{
	u64 n = 0;

	for (unsigned i = 0; i < LRU_NR_LISTS; i++)
		n += lru->pages[kind][i];
	return n;
}

/* Ends empty generations and begins a new one when it is time. */
static void age(struct quire *q, unsigned kind)
{
	struct lruvec *lru = &q->lru;
	u64 seq = lru->seq[kind], min = lru->min_seq[kind];

	while (min < seq && !lru->list[kind][list_of(min)].count)
		min++;
	if (seq - min < LRU_NR_LISTS - 1 && lru->pages[kind][list_of(seq)] > all_pages(lru, kind) / LRU_NR_LISTS)
		seq++;
	if (seq == lru->seq[kind] && min == lru->min_seq[kind])
		return;
	lru->seq[kind] = seq;
	lru->min_seq[kind] = min;
	lru_recount(q);
}

static struct folio *next(struct scan_control *sc)
{
	unsigned kind = sc->anon ? LRU_KIND_ANON : LRU_KIND_FILE;
	struct quire *q = sc->q;

	while (sc->budget) {
		struct folio *folio;

		age(q, kind);
		folio = lru_tail(q, kind, list_of(q->lru.min_seq[kind]));
		if (!folio) {
			sc->budget = 0;
			return NULL;
		}
		sc->budget--;
		if (!(folio->f.flags & FF_REFERENCED) || sc->priority == 0)
			return folio;
		folio->f.flags &= (u16)~FF_REFERENCED;
		one_more(q, folio);
		if (txn_should_break())
			return NULL;
	}
	return NULL;
}

static void kept(struct scan_control *sc, struct folio *folio, enum keep_reason why)
{
	if (why == KEEP_REFERENCED && used_again(folio)) {
		to_youngest(sc->q, folio);
		return;
	}
	if (why == KEEP_REFERENCED) {
		one_more(sc->q, folio);
		return;
	}
	lru_move(sc->q, folio, folio_list(folio));
	count_vm_events(sc->q, PGROTATED, folio_nr_pages(folio));
}

const struct reclaim_policy policy_generations = {
	.name = "generations", .init = init, .place = place, .activate = to_youngest, .deactivate = to_oldest,
	.is_active = is_active, .next = next, .kept = kept, .young = young,
};
