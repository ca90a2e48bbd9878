/*
 * The page cache: folios of a file by page index.
 *
 * Invariants (mapping_is_valid checks them):
 *   - every index of a cached folio leads to its head in i_pages; nrpages counts indexes;
 *   - a cached folio has type FRAME_FILE or FRAME_SHMEM, its mapping and index say where it is, and the cache owns
 *     one of its references;
 *   - a cached folio is up to date (nobody ever finds one that is still being read), and lies inside the file.
 *
 * A miss is served without a lock held: note i_seq, then the size, allocate and read, then lock again and insert -
 * unless i_seq has moved, for then the file was cut, or a folio was changed, written back and dropped, between the
 * read and now, and what was read may be old.  (Changes only happen to cached folios, and a folio leaves the
 * cache clean, so only writeback and truncation need to move i_seq.)  Who loses such a race looks again.
 *
 *        filemap_lookup -> hit: under q->lock
 *              | miss: unlock
 *        filemap_fill -> mapping_size -> read_folio (blocks) -> lock -> i_seq same? -> filemap_add_folio
 *
 * Tokens (AS_TOKEN) have no bytes here, so there is nothing to read: a window of them is made in one
 * transaction.  Locks: q->lock; mapping operations run with no lock held.
 */
#include "filemap.h"

/* Pages of the aligned block brought in by a miss; the same as what a read fault maps around itself. */
#define READ_AROUND 16u
#define READ_AROUND_TOKENS 64u
/* The largest window of sequential readahead: 128 KiB, as Linux's VM_READAHEAD_PAGES. */
#define READ_AHEAD_MAX 32u

struct folio *filemap_lookup(const struct address_space *m, u64 index)
{
	lockdep_assert_held(&m->q->lock);
	return radix_lookup(&m->i_pages, index);
}

u64 mapping_size(struct address_space *m)
{
	u64 size;

	if (!mapping_is_shmem(m))
		return m->ops->size(m);
	spin_lock(&m->q->lock);
	size = m->shmem_size;
	spin_unlock(&m->q->lock);
	return size;
}

static void count_cached(struct address_space *m, const struct folio *folio, s64 sign)
{
	u64 n = (u64)(sign * (s64)folio_nr_pages(folio));

	m->nrpages += n;
	m->q->nr_file_pages += n;
	if (mapping_is_shmem(m))
		m->q->nr_shmem_pages += n;
}

static void erase_indexes(struct address_space *m, u64 index, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		radix_store(m->q, &m->i_pages, index + i, NULL);
}

int filemap_add_folio(struct address_space *m, struct folio *folio, u64 index)
{
	u32 i, n = folio_nr_pages(folio);
	u64 next = index;

	lockdep_assert_held(&m->q->lock);
	if (radix_next(&m->i_pages, &next, index + n - 1))
		return -EEXIST;
	for (i = 0; i < n; i++) {
		if (radix_store(m->q, &m->i_pages, index + i, folio)) {
			erase_indexes(m, index, i);
			return -ENOMEM;
		}
	}
	folio->f.type = mapping_is_shmem(m) ? FRAME_SHMEM : FRAME_FILE;
	folio->f.flags |= FF_UPTODATE | (mapping_is_shmem(m) ? FF_SWAPBACKED : 0);
	folio->f.mapping = (u64)(uintptr_t)m;
	folio->f.index = index;
	count_cached(m, folio, 1);
	folio_add_lru(m->q, folio);
	if (!mapping_is_shmem(m))
		workingset_refault(m->q, folio);
	return 0;
}

void filemap_delete_folio(struct address_space *m, struct folio *folio)
{
	lockdep_assert_held(&m->q->lock);
	DEBUG_ON(folio_mapping(folio) != m);
	erase_indexes(m, folio->f.index, folio_nr_pages(folio));
	count_cached(m, folio, -1);
	folio_clear_dirty(folio);
	folio_del_lru(m->q, folio);
	folio->f.mapping = 0; /* whoever still holds a reference sees that it left the file */
	folio_put(m->q, folio, 1);
}

bool filemap_remove_folio(struct address_space *m, struct folio *folio)
{
	bool busy = folio->f.mapcount || (folio->f.flags & FF_WRITEBACK) || folio->f.refcount != 1;
	bool dirty = !mapping_is_token(m) && (folio->f.flags & FF_DIRTY);

	lockdep_assert_held(&m->q->lock);
	/* The bytes of shared memory are nowhere else. */
	if (folio_mapping(folio) != m || busy || dirty || mapping_is_shmem(m))
		return false;
	workingset_eviction(m->q, folio);
	filemap_delete_folio(m, folio);
	return true;
}

/* NR_FILE_DIRTY counts what writeback has to do: neither tokens nor shared memory. */
static bool folio_dirty_counts(const struct folio *folio)
{
	return folio->f.type == FRAME_FILE && !mapping_is_token(folio_mapping(folio));
}

void folio_mark_dirty(struct folio *folio)
{
	struct address_space *m = folio_mapping(folio);

	/* Anonymous folios go to swap whatever the flag says; one that left its file has nowhere to go. */
	if (!m || (folio->f.flags & FF_DIRTY))
		return;
	lockdep_assert_held(&m->q->lock);
	folio->f.flags |= FF_DIRTY;
	if (folio_dirty_counts(folio))
		wb_account_dirty(m, folio_nr_pages(folio));
}

bool folio_clear_dirty(struct folio *folio)
{
	struct address_space *m = folio_mapping(folio);

	if (!(folio->f.flags & FF_DIRTY))
		return false;
	folio->f.flags &= (u16)~FF_DIRTY;
	if (folio_dirty_counts(folio))
		wb_account_dirty(m, -(s64)folio_nr_pages(folio));
	return true;
}

/* ---- misses ---- */

struct window {
	u64 start, end; /* page indexes, [start, end) */
};

/* Where memory is short, a miss brings in no more than a small part of what the cache can hold: a machine that hardly has
 * room for the page that is wanted would else throw the rest of its working set out for the neighbours. */
#define WINDOW_SHARE 64u
static u64 window_limit(struct quire *q)
{
	u64 cached = q->nr_lru_pages[LRU_INACTIVE_FILE] + q->nr_lru_pages[LRU_ACTIVE_FILE];

	return phys_balanced(q, 0, WMARK_HIGH, ZONE_NORMAL) ? ~0ull : MAX(cached / WINDOW_SHARE, 1);
}

/* What a miss at index brings in besides.  Sequential readers double their window from miss to miss. */
static struct window read_window(struct address_space *m, u64 index, enum ra_hint hint, u64 nr_pages)
{
	struct quire *q = m->q;
	u64 around = q->cfg.fault_around_pages ? q->cfg.fault_around_pages : READ_AROUND;
	struct window w;

	lockdep_assert_held(&q->lock);
	if (mapping_is_token(m))
		around = q->cfg.fault_around_tokens ? q->cfg.fault_around_tokens : READ_AROUND_TOKENS;
	around = MIN(around, window_limit(q));
	w.start = index - index % around;
	w.end = w.start + around;
	if (hint == RA_RANDOM) {
		w.start = index;
		w.end = index + 1;
	} else if (!mapping_is_token(m) && (hint == RA_SEQUENTIAL || index == m->ra_prev)) {
		m->ra_size = MIN(MAX(m->ra_size * 2, 4ul), (u64)READ_AHEAD_MAX);
		w.start = index;
		w.end = MAX(w.end, index + m->ra_size);
	} else {
		m->ra_size = 0;
	}
	if (m->ra_end)
		nr_pages = MIN(nr_pages, MAX(m->ra_end, index + 1));
	w.end = MIN(w.end, nr_pages);
	m->ra_prev = w.end;
	return w;
}

/* One token.  Under q->lock. */
static int add_token(struct address_space *m, u64 index)
{
	struct folio *folio;
	int err;

	if (filemap_lookup(m, index))
		return 0;
	folio = folio_alloc(m->q, GFP_HIGHUSER_MOVABLE, 0);
	if (!folio)
		return -ENOMEM;
	err = filemap_add_folio(m, folio, index);
	if (err)
		folio_put(m->q, folio, 1);
	return err;
}

/* Nothing to read: the whole window in one transaction, the wanted index first. */
static int fill_tokens(struct address_space *m, u64 index, enum ra_hint hint, u64 nr_pages, u64 seq)
{
	struct window w;
	int err = -EAGAIN;
	u64 i;

	spin_lock(&m->q->lock);
	if (m->i_seq == seq) {
		w = read_window(m, index, hint, nr_pages);
		err = add_token(m, index);
		for (i = w.start; !err && i < w.end; i++)
			if (add_token(m, i))
				break; /* the neighbours are a courtesy */
	}
	spin_unlock(&m->q->lock);
	return err;
}

/* Takes a frame for one page and reads it, with no lock held.  The folio is held; NULL and *err on failure. */
static struct folio *read_one(struct address_space *m, u64 index, u64 seq, int *err)
{
	struct quire *q = m->q;
	struct folio *folio = NULL;

	spin_lock(&q->lock);
	*err = m->i_seq != seq ? -EAGAIN : filemap_lookup(m, index) ? -EEXIST : -ENOMEM;
	if (*err == -ENOMEM)
		folio = folio_alloc_hold(q, GFP_HIGHUSER_MOVABLE & ~__GFP_HIGHMEM, 0);
	spin_unlock(&q->lock);
	if (!folio)
		return NULL;
	folio->f.index = index;
	*err = port_should_fail(q, FAIL_IO) ? -EIO : m->ops->read_folio(m, folio);
	if (!*err)
		return folio;
	folio_drop_held(q, folio);
	return NULL;
}

/* Reads one page into the cache.  0 also if it was there already. */
static int fill_one(struct address_space *m, u64 index, u64 seq)
{
	struct quire *q = m->q;
	struct folio *folio;
	int err;

	folio = read_one(m, index, seq, &err);
	if (!folio)
		return err == -EEXIST ? 0 : err;
	spin_lock(&q->lock);
	count_vm_events(q, PGPGIN, PAGE_SIZE >> 10);
	err = m->i_seq == seq ? filemap_add_folio(m, folio, index) : -EAGAIN;
	folio_unhold(q, folio);
	if (err)
		folio_put(q, folio, 1);
	spin_unlock(&q->lock);
	return err == -EEXIST ? 0 : err;
}

static int fill_frames(struct address_space *m, u64 index, enum ra_hint hint, u64 nr_pages, u64 seq)
{
	struct window w;
	int err;
	u64 i;

	spin_lock(&m->q->lock);
	w = read_window(m, index, hint, nr_pages);
	spin_unlock(&m->q->lock);
	err = fill_one(m, index, seq);
	for (i = w.start; !err && i < w.end; i++)
		if (i != index && fill_one(m, i, seq))
			break;
	return err;
}

int filemap_fill(struct address_space *m, u64 index, enum ra_hint hint, bool *did_io)
{
	u64 seq, nr_pages;

	if (mapping_is_shmem(m))
		return shmem_fill(m, index, did_io);
	spin_lock(&m->q->lock);
	seq = m->i_seq;
	spin_unlock(&m->q->lock);
	/* The size is asked for after i_seq was noted: a cut in between is seen at the insertion. */
	nr_pages = PAGE_ALIGN(mapping_size(m)) >> PAGE_SHIFT;
	if (index >= nr_pages)
		return -ERANGE;
	if (mapping_is_token(m))
		return fill_tokens(m, index, hint, nr_pages, seq);
	*did_io = true;
	return fill_frames(m, index, hint, nr_pages, seq);
}

void filemap_readahead(struct address_space *m, u64 index, u64 n)
{
	bool did_io = false;
	int err = 0;
	u64 i;

	for (i = 0; i < n && (!err || err == -EAGAIN); i++)
		err = filemap_fill(m, index + i, RA_RANDOM, &did_io);
}

/* One folio of a mapping, found at index. */
static bool folio_entry_ok(const struct address_space *m, const struct folio *folio, u64 index)
{
	u32 i, n = folio_nr_pages(folio);

	if (folio->f.mapping != (u64)(uintptr_t)m || folio->f.index != index || !folio->f.refcount)
		return false;
	if (folio->f.type != (mapping_is_shmem(m) ? FRAME_SHMEM : FRAME_FILE) || !(folio->f.flags & FF_UPTODATE))
		return false;
	for (i = 0; i < n; i++)
		if (radix_lookup(&m->i_pages, index + i) != folio)
			return false;
	return true;
}

bool mapping_is_valid(const struct address_space *m)
{
	u64 index = 0, pages = 0;
	const struct folio *folio;

	if (!radix_is_valid(&m->i_pages))
		return false;
	while ((folio = radix_next(&m->i_pages, &index, ~0ull))) {
		if (!folio_entry_ok(m, folio, index))
			return false;
		pages += folio_nr_pages(folio);
		index += folio_nr_pages(folio);
	}
	return pages == m->nrpages;
}
