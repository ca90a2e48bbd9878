/*
 * When dirty pages of frame-backed files are written without being asked for: by age, and by amount (Linux: mm/page-writeback.c,
 * fs/fs-writeback.c).
 *
 *	0 ........ background limit ........ hard limit
 *	   by age        the flusher writes       whoever makes pages dirty waits
 *
 * Every dirty_writeback_centisecs the flusher writes the files that have been dirty for dirty_expire_centisecs; and whenever
 * there are more dirty pages than the background limit it writes, the files dirty for longest first, until there are fewer.
 * Above the hard limit whoever makes a page dirty waits for the flusher, batch by batch; he writes a batch himself if there is
 * none, or if it gets nothing done in a while.  If nothing can be written at all (a broken disk) he goes on after
 * MAX_STUCK such attempts: the pages stay dirty, and nobody hangs.
 *
 * Limits are shares of what could be dirty at all: free memory without reserves, and the file pages.
 *
 * Tokens and shared memory are never counted: the host writes the first by its own timer and limits; the second has swap.
 *
 * Where the MMU keeps dirty state, a page can become dirty without a fault.  Nobody is throttled for such pages, and they are
 * counted when they are found: the flusher looks at the mapped files for them as often as data gets old.
 *
 * Invariant: a mapping is on the list (wb_prev, wb_next) exactly while its nr_dirty is not 0; the list is ordered by dirtied_ns;
 * the sum of nr_dirty is q->nr_dirty_pages.  Locks: q->lock; wb_mutex of one file while it is written.
 */
#include "filemap.h"

#define BATCH_PAGES 1024u            /* of one file before the limit is looked at again */
#define SELF_PAGES 64u               /* what a throttled writer writes himself */
#define PAUSE_NS 200000000ull        /* Linux's MAX_PAUSE */
#define MAX_STUCK 5u
#define CENTISEC_NS 10000000ull
#define INT_MOST 0x7fffffffl
#define LONG_MOST 0x7fffffffffffffffl

void writeback_init(struct quire *q)
{
	s64 *s = q->wb.setting;

	s[WB_DIRTY_BACKGROUND_RATIO] = 10;
	s[WB_DIRTY_RATIO] = 20;
	s[WB_DIRTY_WRITEBACK_CENTISECS] = 500;
	s[WB_DIRTY_EXPIRE_CENTISECS] = 3000;
}

/* ---- settings ---- */

s64 wb_setting_get(struct quire *q, enum wb_setting which)
{
	s64 v;

	spin_lock(&q->lock);
	v = q->wb.setting[which];
	spin_unlock(&q->lock);
	return v;
}

static int check_setting(enum wb_setting which, s64 v)
{
	static const struct { s64 min, max; } range[NR_WB_SETTINGS] = {
		[WB_DIRTY_BACKGROUND_RATIO] = { 0, 100 }, [WB_DIRTY_RATIO] = { 0, 100 },
		[WB_DIRTY_BACKGROUND_BYTES] = { 1, LONG_MOST }, [WB_DIRTY_BYTES] = { 2 * PAGE_SIZE, LONG_MOST },
		[WB_DIRTY_WRITEBACK_CENTISECS] = { -INT_MOST - 1, INT_MOST }, [WB_DIRTY_EXPIRE_CENTISECS] = { 0, INT_MOST },
	};
	bool bytes = which == WB_DIRTY_BACKGROUND_BYTES || which == WB_DIRTY_BYTES;

	if (v < range[which].min || v > range[which].max)
		return -EINVAL;
	return bytes && (u64)v >> PAGE_SHIFT > 0xffffffffull - ((u64)v % PAGE_SIZE != 0) ? -ERANGE : 0;
}

int wb_setting_set(struct quire *q, enum wb_setting which, s64 value)
{
	static const u8 rival[] = {
		[WB_DIRTY_BACKGROUND_RATIO] = WB_DIRTY_BACKGROUND_BYTES, [WB_DIRTY_BACKGROUND_BYTES] = WB_DIRTY_BACKGROUND_RATIO,
		[WB_DIRTY_RATIO] = WB_DIRTY_BYTES, [WB_DIRTY_BYTES] = WB_DIRTY_RATIO,
	};
	bool background = which <= WB_DIRTY_BACKGROUND_BYTES;
	s64 *s = q->wb.setting;
	int err = check_setting(which, value);

	if (err)
		return err;
	spin_lock(&q->lock);
	/* dirty_ratio and dirty_bytes take over only if they change; those of the background always do (as Linux's handlers). */
	if (which < ARRAY_SIZE(rival) && (background || s[which] != value))
		s[rival[which]] = 0;
	s[which] = value;
	spin_unlock(&q->lock);
	/* A flusher that sleeps for the old interval, or below the old limit. */
	__atomic_store_n(&q->wb.wanted, 1, __ATOMIC_RELEASE);
	port_wake(&q->wb.wanted, 1);
	return 0;
}

/* ---- limits ---- */

static u64 dirtyable_pages(const struct quire *q)
{
	u64 reserve = 0, free = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		const struct zone *zone = &q->phys.zones[z];
		u64 kept = 0;

		for (int c = z; c < MAX_NR_ZONES; c++)
			kept = MAX(kept, zone->lowmem_reserve[c]);
		reserve += MIN(kept + zone->watermark[WMARK_HIGH], zone->managed);
	}
	free = nr_free_pages((struct quire *)(uintptr_t)q);
	free -= MIN(free, reserve);
	return free + q->nr_lru_pages[LRU_INACTIVE_FILE] + q->nr_lru_pages[LRU_ACTIVE_FILE] + 1;
}

static u64 limit_of(const struct quire *q, enum wb_setting bytes, enum wb_setting ratio, u64 available)
{
	const s64 *s = q->wb.setting;

	return s[bytes] ? ((u64)s[bytes] + PAGE_SIZE - 1) / PAGE_SIZE : available * (u64)s[ratio] / 100;
}

struct dirty_limits global_dirty_limits(const struct quire *q)
{
	u64 available = dirtyable_pages(q);
	struct dirty_limits l = {
		.background = limit_of(q, WB_DIRTY_BACKGROUND_BYTES, WB_DIRTY_BACKGROUND_RATIO, available),
		.hard = limit_of(q, WB_DIRTY_BYTES, WB_DIRTY_RATIO, available),
	};

	/* The flusher must begin before anybody waits for it. */
	if (l.background >= l.hard)
		l.background = l.hard / 2;
	return l;
}

static bool over_background(struct quire *q)
{
	bool over;

	spin_lock(&q->lock);
	over = q->nr_dirty_pages > global_dirty_limits(q).background;
	spin_unlock(&q->lock);
	return over;
}

/* ---- the list of dirty files ---- */

static void list_add_last(struct quire *q, struct address_space *m)
{
	m->dirtied_ns = port_clock_ns();
	m->wb_prev = q->wb.last;
	m->wb_next = NULL;
	*(q->wb.last ? &q->wb.last->wb_next : &q->wb.first) = m;
	q->wb.last = m;
}

static void list_del(struct quire *q, struct address_space *m)
{
	*(m->wb_prev ? &m->wb_prev->wb_next : &q->wb.first) = m->wb_next;
	*(m->wb_next ? &m->wb_next->wb_prev : &q->wb.last) = m->wb_prev;
	m->wb_prev = m->wb_next = NULL;
}

void wb_account_dirty(struct address_space *m, s64 n)
{
	struct quire *q = m->q;
	u64 before = m->nr_dirty;

	lockdep_assert_held(&q->lock);
	m->nr_dirty += (u64)n;
	q->nr_dirty_pages += (u64)n;
	if (n > 0)
		count_vm_events(q, NR_DIRTIED, (u64)n);
	if (!before)
		list_add_last(q, m);
	else if (!m->nr_dirty)
		list_del(q, m);
}

/* The file that has been dirty for longest, if that is since `since` or earlier, with a reference. */
static struct address_space *oldest_file(struct quire *q, u64 since)
{
	struct address_space *m;

	spin_lock(&q->lock);
	m = q->wb.first;
	if (m && m->dirtied_ns > since)
		m = NULL;
	if (m)
		m->refcount++;
	spin_unlock(&q->lock);
	return m;
}

/* All of it was written once.  What is dirty now became so meanwhile, or could not be written: it waits for its next turn. */
static void next_turn(struct address_space *m)
{
	spin_lock(&m->q->lock);
	if (m->nr_dirty) {
		list_del(m->q, m);
		list_add_last(m->q, m);
	}
	spin_unlock(&m->q->lock);
}

/* ---- writing ---- */

/* Some more of a file.  *end: that was the last of it.  Pages written. */
static u64 write_some(struct address_space *m, u64 pages, bool *end)
{
	u64 n = filemap_write_some(m, pages, end);

	if (*end)
		next_turn(m);
	if (n) {
		__atomic_add_fetch(&m->q->wb.batches, 1, __ATOMIC_RELEASE);
		port_wake(&m->q->wb.batches, ~0u >> 1);
	}
	return n;
}

/* The files that were dirty at `since`, once each; in the background only while there is too much. */
static u64 write_files(struct quire *q, u64 since, bool background)
{
	struct address_space *m;
	u64 written = 0;

	while ((!background || over_background(q)) && (m = oldest_file(q, since))) {
		bool end = false;

		while (!end && (!background || over_background(q)))
			written += write_some(m, BATCH_PAGES, &end);
		mapping_put(m);
	}
	return written;
}

/* The n-th file of a hash chain, with a reference. */
static struct address_space *nth_file(struct quire *q, u32 bucket, u32 n)
{
	struct address_space *m;

	spin_lock(&q->lock);
	for (m = q->files[bucket]; m && n; m = m->hash_next)
		n--;
	if (m)
		m->refcount++;
	spin_unlock(&q->lock);
	return m;
}

/* Pages that the MMU alone knows to be dirty: in files that are mapped. */
static void write_mapped_files(struct quire *q)
{
	struct address_space *m;

	for (u32 bucket = 0; bucket < FILE_HASH_BUCKETS; bucket++) {
		for (u32 n = 0; (m = nth_file(q, bucket, n)); n++) {
			if (READ_ONCE(m->i_mmap) && !(m->flags & (AS_TOKEN | AS_SHMEM | AS_DAX)))
				filemap_sync(m, 0, ~0ull, false);
			mapping_put(m);
		}
	}
}

static u64 interval_ns(struct quire *q, enum wb_setting which)
{
	return (u64)(u32)wb_setting_get(q, which) * CENTISEC_NS;
}

/* Is it time to look for old data?  `interval`: that of the timer; 0 = there is none. */
static bool kupdate_is_due(struct quire *q, u64 now, u64 interval)
{
	bool due;

	spin_lock(&q->lock);
	due = interval && now - q->wb.last_kupdate_ns >= interval;
	if (due)
		q->wb.last_kupdate_ns = now;
	spin_unlock(&q->lock);
	return due;
}

/* How long the flusher may sleep: until the timer. */
static u64 time_to_kupdate(struct quire *q, u64 now)
{
	u64 interval = interval_ns(q, WB_DIRTY_WRITEBACK_CENTISECS), passed;

	spin_lock(&q->lock);
	passed = now - MIN(q->wb.last_kupdate_ns, now);
	spin_unlock(&q->lock);
	return interval ? interval - MIN(passed, interval) : ~0ull;
}

void wb_flusher_once(struct quire *q, u64 timeout_ns)
{
	u64 now = port_clock_ns(), sleep = MIN(timeout_ns, time_to_kupdate(q, now));
	u64 expire = interval_ns(q, WB_DIRTY_EXPIRE_CENTISECS);

	__atomic_store_n(&q->wb.has_flusher, true, __ATOMIC_RELAXED);
	if (sleep && !__atomic_load_n(&q->wb.wanted, __ATOMIC_ACQUIRE))
		port_wait(&q->wb.wanted, 0, sleep);
	__atomic_store_n(&q->wb.wanted, 0, __ATOMIC_RELEASE);
	now = port_clock_ns();
	if (kupdate_is_due(q, now, interval_ns(q, WB_DIRTY_WRITEBACK_CENTISECS)) && now >= expire) {
		write_files(q, now - expire, false);
		if (q->caps & PORT_CAP_HW_DBM)
			write_mapped_files(q);
	}
	write_files(q, now, true);
}

/* ---- throttling ---- */

/* Under no lock: is there too much?  Wakes the flusher long before. */
static bool over_limit(struct quire *q)
{
	bool flusher = __atomic_load_n(&q->wb.has_flusher, __ATOMIC_RELAXED), wake;
	struct dirty_limits l;
	u64 dirty;

	spin_lock(&q->lock);
	l = global_dirty_limits(q);
	dirty = q->nr_dirty_pages + q->nr_writeback_pages;
	wake = flusher && q->nr_dirty_pages > l.background;
	spin_unlock(&q->lock);
	if (wake && !__atomic_exchange_n(&q->wb.wanted, 1, __ATOMIC_ACQ_REL))
		port_wake(&q->wb.wanted, 1);
	return dirty > l.hard;
}

/* Pages written. */
static u64 write_oneself(struct quire *q)
{
	struct address_space *m = oldest_file(q, ~0ull);
	u64 written = 0;
	bool end;

	if (m) {
		written = write_some(m, SELF_PAGES, &end);
		mapping_put(m);
	}
	return written;
}

void balance_dirty_pages(struct quire *q)
{
	u32 batches = __atomic_load_n(&q->wb.batches, __ATOMIC_ACQUIRE), stuck = 0;

	if (port_ctx()->flags & CTX_RECLAIM)
		return;
	while (stuck < MAX_STUCK && over_limit(q)) {
		int err = -ETIMEDOUT;

		if (__atomic_load_n(&q->wb.has_flusher, __ATOMIC_RELAXED))
			err = port_wait(&q->wb.batches, batches, PAUSE_NS);
		if (err == -EINTR)
			return; /* it has something urgent to do: a signal, its death */
		if (err == -ETIMEDOUT)
			stuck = write_oneself(q) ? 0 : stuck + 1;
		batches = __atomic_load_n(&q->wb.batches, __ATOMIC_ACQUIRE);
	}
}
