/*
 * Who reclaims for himself may have to wait first (Linux: throttle_direct_reclaim, reclaim_throttle).
 *
 *	reserves below a half   reclaim itself allocates (page tables, compressed pages), from reserves that reclaimers by the dozen would
 *	                        use up: whoever has a kswapd to wait for lets it work, as long as it gets on
 *	too many isolated       pages on their way to swap are in reclaimers' hands.  When those are more than an eighth of the inactive
 *	                        pages, one more reclaimer would find nothing but what the others have, and scan its way to the active ones
 *	no progress             when all but the last round of a reclaimer's gave nothing, what it finds in the last is what others are just
 *	                        about to use, or what they are freeing: it lets them, for a tick of Linux's clock
 *
 * All waits are bounded (a second; 20 ms; 4 ms), and end early: at a signal (port_wait says so), or when the waiter is the OOM killer's
 * victim, who must get on to die.  A task that is killed outright dies in the wait.  What follows a wait does not depend on how it ended.
 *
 * Invariant: q->reclaim.nr_isolated is the sum of all contexts' nisolated; both change in one transaction, and a dead context's is taken
 * back by whoever tidies up.  Locks: waits under none; q->lock for the figures.  throttle_word is a hint, changed atomically.
 */
#include <mm/mm.h>
#include "vmscan.h"

#define DIRECT_SLICE_NS 20000000ull
#define DIRECT_SLICES 50u
#define ISOLATED_NS 20000000ull
#define NOPROGRESS_NS 4000000ull

/* ---- pages in reclaimers' hands ---- */

void isolate_count(struct quire *q, s32 n)
{
	lockdep_assert_held(&q->lock);
	port_ctx()->nisolated += (u32)n;
	q->reclaim.nr_isolated += (u64)(s64)n;
}

void throttle_abandon(struct quire *q, struct ctx *dead)
{
	spin_lock(&q->lock);
	q->reclaim.nr_isolated -= dead->nisolated;
	dead->nisolated = 0;
	spin_unlock(&q->lock);
}

/* ---- waiting ---- */

void throttle_wake(struct quire *q)
{
	__atomic_add_fetch(&q->reclaim.throttle_word, 1, __ATOMIC_RELEASE);
	port_wake(&q->reclaim.throttle_word, ~0u >> 1);
}

static u32 throttle_word(const struct quire *q)
{
	return __atomic_load_n(&q->reclaim.throttle_word, __ATOMIC_ACQUIRE);
}

static bool is_dying(const struct ctx *c)
{
	const struct task *t = c->task;

	return t && __atomic_load_n(&t->oom_victim, __ATOMIC_RELAXED);
}

/* Linux: allow_direct_reclaim(). */
static bool reserves_are_ample(struct quire *q)
{
	u64 reserve = phys_watermark_pages(q, WMARK_MIN);
	bool yes;

	spin_lock(&q->lock);
	yes = !reserve || q->reclaim.kswapd_failures >= MAX_KSWAPD_FAILURES || nr_free_pages(q) > reserve / 2;
	spin_unlock(&q->lock);
	return yes;
}

bool throttle_direct_reclaim(struct quire *q)
{
	struct ctx *c = port_ctx();

	if (!q->hooks.wake_kswapd || !c->task || is_dying(c) || reserves_are_ample(q))
		return is_dying(c);
	spin_lock(&q->lock);
	count_vm_event(q, PGSCAN_DIRECT_THROTTLE);
	spin_unlock(&q->lock);
	for (unsigned i = 0; i < DIRECT_SLICES && !is_dying(c) && !reserves_are_ample(q); i++) {
		u32 seen = throttle_word(q);

		q->hooks.wake_kswapd(q);
		if (port_wait(&q->reclaim.throttle_word, seen, DIRECT_SLICE_NS) == -EINTR)
			break;
	}
	return is_dying(c);
}

static bool too_many_isolated(struct quire *q)
{
	bool yes;

	spin_lock(&q->lock);
	yes = q->reclaim.nr_isolated > MAX(q->nr_lru_pages[LRU_INACTIVE_ANON] / 8, ISOLATED_AT_LEAST);
	spin_unlock(&q->lock);
	return yes;
}

bool throttle_isolated(struct scan_control *sc)
{
	struct quire *q = sc->q;
	u32 seen = throttle_word(q);

	if (sc->kswapd || is_dying(port_ctx()) || !too_many_isolated(q))
		return false;
	port_wait(&q->reclaim.throttle_word, seen, ISOLATED_NS);
	/* Once: after that it is for the others to bring something. */
	return too_many_isolated(q);
}

void throttle_noprogress(struct scan_control *sc)
{
	struct quire *q = sc->q;
	struct ctx *c = port_ctx();
	u32 seen = throttle_word(q);
	bool hopeless;

	if (sc->kswapd || sc->reclaimed || !c->task || is_dying(c) || !q->hooks.wake_kswapd)
		return;
	/* As Linux: with a kswapd that has given up somebody will have to be killed, and the sooner the better. */
	spin_lock(&q->lock);
	hopeless = q->reclaim.kswapd_failures >= MAX_KSWAPD_FAILURES;
	spin_unlock(&q->lock);
	if (!hopeless)
		port_wait(&q->reclaim.throttle_word, seen, NOPROGRESS_NS);
}
