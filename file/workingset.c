/*
 * Refaults: did a page come back so soon that it should never have gone?
 *
 * A clock counts the pages that left the inactive end of the lists (evicted, or made active).  Who leaves memory leaves a
 * shadow: the clock's value then.  When the page comes back, the distance between then and now says how much longer the
 * inactive lists should have been to keep it; if what it competes with is larger than that, the page has a better claim than some
 * of it, and is made active at once (Linux: mm/workingset.c).  One that was part of the working set when it left should not have
 * gone at all: that counts as I/O which reclaim caused, and reclaim then takes more of the other kind (lru_note_cost).
 *
 *	evicted, age 100 ... 40 pages leave meanwhile ... back, age 140: distance 40
 *
 * Shadows of file pages stand in a hash table of about as many entries as the machine has frames, in buckets of 8 of
 * which the oldest is overwritten.  (Linux keeps them in the page cache's own tree, and needs a shrinker for nodes that hold
 * nothing else.)  An entry knows its page by 32 bits of hash: one refault in millions is a mistake, which costs nothing but a
 * wrong guess.  A file that was closed meanwhile keeps its history.  Anonymous pages keep theirs in the swap slot.
 *
 * Locks: q->lock.
 */
#include "filemap.h"

#define BUCKET 8u
#define SHADOWS_MAX (1u << 20) /* 8 MiB of table: refaults within 4 GiB of evictions are noticed */
#define WORKINGSET_BIT 1u

void workingset_init(struct quire *q)
{
	u64 n = BUCKET;

	while (n < q->cfg.memory >> PAGE_SHIFT && n < SHADOWS_MAX)
		n *= 2;
	q->lru.shadows = early_alloc(q, n * sizeof(struct shadow), PAGE_SIZE);
	q->lru.nr_shadows = q->lru.shadows ? n : 0;
}

static u64 mix(u64 x)
{
	x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ull;
	return x ^ (x >> 32);
}

static u64 page_hash(const struct address_space *m, u64 index)
{
	return mix(mix(m->dev * 31 + m->ino) + index);
}

static struct shadow *bucket_of(struct quire *q, u64 hash)
{
	return &q->lru.shadows[hash % q->lru.nr_shadows / BUCKET * BUCKET];
}

static u32 tag_of(u64 hash)
{
	return (u32)(hash >> 32) | 1u;
}

/* The clock as shadows keep it: even, so that the lowest bit is free. */
static u32 age_now(const struct quire *q)
{
	return (u32)q->lru.nonresident_age << 1;
}

static u32 pack(struct quire *q, const struct folio *folio)
{
	u32 age = age_now(q) | (folio->f.flags & FF_WORKINGSET ? WORKINGSET_BIT : 0);

	q->lru.nonresident_age += folio_nr_pages(folio);
	return age;
}

u64 workingset_eviction_anon(struct quire *q, struct folio *folio)
{
	return (u64)pack(q, folio) | BIT(63);
}

void workingset_eviction(struct quire *q, struct folio *folio)
{
	u64 hash = page_hash(folio_mapping(folio), folio->f.index);
	u32 age = pack(q, folio), now = age_now(q), oldest = 0;
	struct shadow *b;

	if (!q->lru.nr_shadows)
		return;
	b = bucket_of(q, hash);
	for (u32 i = 0; i < BUCKET; i++) {
		if (!b[i].tag || b[i].tag == tag_of(hash)) {
			oldest = i;
			break;
		}
		if (now - b[i].age > now - b[oldest].age)
			oldest = i;
	}
	b[oldest] = (struct shadow){ tag_of(hash), age };
}

/* What a page that comes back now competes with (Linux: workingset_test_recent): all that is active, and all of the other kind,
 * since it is reclaim's choice which kind it takes more of. */
static u64 workingset_size(const struct quire *q, bool file)
{
	const u64 *lru = q->nr_lru_pages;
	u64 n = lru[LRU_ACTIVE_FILE] + (file ? 0 : lru[LRU_INACTIVE_FILE]);

	return q->total_swap_pages ? n + lru[LRU_ACTIVE_ANON] + (file ? lru[LRU_INACTIVE_ANON] : 0) : n;
}

/* Everything that reclaim could take. */
static u64 reclaimable(const struct quire *q)
{
	u64 n = q->nr_lru_pages[LRU_INACTIVE_FILE] + q->nr_lru_pages[LRU_ACTIVE_FILE];

	return q->total_swap_pages ? n + q->nr_lru_pages[LRU_INACTIVE_ANON] + q->nr_lru_pages[LRU_ACTIVE_ANON] : n;
}

#define SOON_LEAST 32u /* pages: one round of reclaim */

/* The folio is on the lists again. */
static void refault(struct quire *q, struct folio *folio, u32 age, bool file)
{
	u32 distance = (age_now(q) - (age & ~WORKINGSET_BIT)) >> 1, pages = folio_nr_pages(folio);

	count_vm_events(q, file ? WORKINGSET_REFAULT_FILE : WORKINGSET_REFAULT_ANON, pages);
	/* Where next to nothing is left to take, a handful of pages that go round have a longer way than twice that. */
	if (distance <= 2 * MAX(reclaimable(q), SOON_LEAST))
		q->lru.refaults_soon += pages;
	if (distance > workingset_size(q, file))
		return;
	q->lru.nonresident_age += pages;
	q->lru.policy->activate(q, folio);
	count_vm_events(q, file ? WORKINGSET_ACTIVATE_FILE : WORKINGSET_ACTIVATE_ANON, pages);
	if (!(age & WORKINGSET_BIT))
		return;
	folio->f.flags |= FF_WORKINGSET;
	lru_note_cost(q, file ? LRU_KIND_FILE : LRU_KIND_ANON, pages, 0);
	count_vm_events(q, file ? WORKINGSET_RESTORE_FILE : WORKINGSET_RESTORE_ANON, pages);
}

void workingset_refault(struct quire *q, struct folio *folio)
{
	u64 hash = page_hash(folio_mapping(folio), folio->f.index);
	struct shadow *b;

	if (!q->lru.nr_shadows || !q->lru.nonresident_age)
		return;
	b = bucket_of(q, hash);
	for (u32 i = 0; i < BUCKET; i++) {
		if (b[i].tag != tag_of(hash))
			continue;
		b[i].tag = 0;
		refault(q, folio, b[i].age, true);
		return;
	}
}

void workingset_refault_anon(struct quire *q, struct folio *folio, u64 shadow)
{
	if (shadow)
		refault(q, folio, (u32)shadow, false);
}

bool workingset_was_part(u64 shadow)
{
	return shadow & WORKINGSET_BIT;
}

void workingset_activation(struct quire *q, const struct folio *folio)
{
	q->lru.nonresident_age += folio_nr_pages(folio);
}
