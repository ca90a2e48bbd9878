/*
 * A machine that thrashes makes progress or kills, in bounded time.
 *
 * Without swap anonymous memory can squeeze the page cache into a sliver in which the programs' own text has to live: every
 * page that is brought in throws out one that is wanted next.  Reclaim "succeeds" all the time, so nobody ever is
 * out of memory, and nothing moves.  (Linux is known for this; its multi-gen LRU has min_ttl_ms against it.)
 *
 * A window of WINDOW_NS is bad if both hold:
 *   - what reclaim could take at all is less than a quarter of memory, and
 *   - pages came back soon (within twice what reclaim could take) LIFETIMES times as often as there are such pages: a page
 *     stays for less than WINDOW_NS / LIFETIMES on average.
 * After BAD_WINDOWS bad ones in a row the OOM killer is asked.  A program that works its way through a file or through swap is
 * not hit by this: either its pages are a large part of memory, or they come back late.
 *
 * The bound: a machine whose guests do nothing but fault kills somebody within (BAD_WINDOWS + 1) * WINDOW_NS, 6 seconds.
 *
 * Locks: called under none; q->lock for the figures.
 */
#include <mm/mm.h>
#include "vmscan.h"

#define WINDOW_NS 1000000000ull
#define BAD_WINDOWS 5u
#define LIFETIMES 4u
#define SLIVER 4u /* of memory: one part in so many */

/* Under q->lock. */
static u64 reclaimable_pages(const struct quire *q)
{
	u64 n = q->nr_lru_pages[LRU_INACTIVE_FILE] + q->nr_lru_pages[LRU_ACTIVE_FILE];

	return q->nr_free_swap_pages ? n + q->nr_lru_pages[LRU_INACTIVE_ANON] + q->nr_lru_pages[LRU_ACTIVE_ANON] : n;
}

/* Under q->lock, at the end of a window that took `ns`. */
static bool window_is_bad(struct quire *q, u64 ns)
{
	u64 pages = reclaimable_pages(q), soon = q->lru.refaults_soon - q->reclaim.window_soon;

	/* Nobody reclaimed for long: the machine was idle, or had memory. */
	if (ns >= 2 * WINDOW_NS)
		return false;
	return pages < totalram_pages(q) / SLIVER && soon > pages * LIFETIMES && soon > SWAP_CLUSTER_MAX;
}

/* Under q->lock.  True: it is time. */
static bool end_window(struct quire *q, u64 now)
{
	struct reclaim_info *r = &q->reclaim;

	if (now - r->window_ns < WINDOW_NS)
		return false;
	r->bad_windows = window_is_bad(q, now - r->window_ns) ? r->bad_windows + 1 : 0;
	r->window_ns = now;
	r->window_soon = q->lru.refaults_soon;
	if (r->bad_windows < BAD_WINDOWS)
		return false;
	r->bad_windows = 0;
	r->thrashing = true;
	r->thrash_kills++;
	return true;
}

void thrash_check(struct quire *q)
{
	u64 pages;
	bool kill;

	/* The OOM killer itself reclaims, before it chooses. */
	if (mutex_is_held(&q->oom_lock) || (port_ctx()->flags & CTX_RECLAIM))
		return;
	spin_lock(&q->lock);
	kill = end_window(q, port_clock_ns());
	pages = reclaimable_pages(q);
	spin_unlock(&q->lock);
	if (!kill || !q->hooks.out_of_memory)
		return;
	quire_log(q, 4, "Thrashing: for %u s pages had to be brought back within %u ms of their use; reclaim has %lu kB of %lu kB to choose from",
		  BAD_WINDOWS, (unsigned)(WINDOW_NS / LIFETIMES / 1000000), (unsigned long)(pages << (PAGE_SHIFT - 10)),
		  (unsigned long)(q->cfg.memory >> 10));
	q->hooks.out_of_memory(q, GFP_HIGHUSER_MOVABLE, 0);
	spin_lock(&q->lock);
	q->reclaim.thrashing = false;
	spin_unlock(&q->lock);
}
