/*
 * kswapd: reclaim in the background, so that who allocates need not wait for it.
 *
 *	free memory falls below low  -> wake_kswapd(), from any allocation
 *	kswapd                       -> reclaims until it is above high
 *
 * Who runs it is the machine's builder's business (on a Linux host a thread of the supervisor).  q->kswapd_word is 1
 * while it is wanted; it is a hint and belongs to nobody's transaction, so it is changed atomically.
 * Locks: wake_kswapd() under any, the others under none.
 */
#include <mm/mm.h>
#include "vmscan.h"

#define RETRY_NS 20000000ull /* nothing could be freed: look again when something may have changed */
#define MAX_ROUNDS 64u

void wake_kswapd(struct quire *q)
{
	if (__atomic_load_n(&q->kswapd_word, __ATOMIC_RELAXED) || __atomic_exchange_n(&q->kswapd_word, 1, __ATOMIC_ACQ_REL))
		return;
	port_wake(&q->kswapd_word, 1);
}

static bool balanced(struct quire *q)
{
	bool yes;

	spin_lock(&q->lock);
	yes = phys_balanced(q, 0, WMARK_HIGH, ZONE_NORMAL);
	spin_unlock(&q->lock);
	return yes;
}

static u64 shortfall(struct quire *q)
{
	u64 n;

	spin_lock(&q->lock);
	n = phys_shortfall(q);
	count_vm_event(q, PAGEOUTRUN);
	spin_unlock(&q->lock);
	return n;
}

/* Nobody waits for a kswapd that gets nothing (throttle.c). */
static void note_result(struct quire *q, u64 reclaimed)
{
	spin_lock(&q->lock);
	q->reclaim.kswapd_failures = reclaimed ? 0 : q->reclaim.kswapd_failures + 1;
	spin_unlock(&q->lock);
}

u64 balance_pgdat(struct quire *q)
{
	struct ctx *c = port_ctx();
	bool stall = psi_memstall_enter(q);
	u64 freed = 0;

	c->flags |= CTX_RECLAIM;
	for (unsigned i = 0; i < MAX_ROUNDS && !balanced(q); i++) {
		struct scan_control sc = { .q = q, .gfp = GFP_KERNEL, .kswapd = true, .to_reclaim = MAX(shortfall(q), SWAP_CLUSTER_MAX) };

		shrink_lists(&sc);
		freed += sc.reclaimed;
		note_result(q, sc.reclaimed);
		throttle_wake(q);
		if (!sc.reclaimed)
			break;
	}
	c->flags &= ~CTX_RECLAIM;
	psi_memstall_leave(q, stall);
	return freed;
}

void kswapd_once(struct quire *q, u64 timeout_ns)
{
	u32 never = 0;

	if (!__atomic_load_n(&q->kswapd_word, __ATOMIC_ACQUIRE))
		port_wait(&q->kswapd_word, 0, timeout_ns);
	if (!__atomic_exchange_n(&q->kswapd_word, 0, __ATOMIC_ACQ_REL))
		return;
	thrash_check(q);
	if (!balance_pgdat(q) && !balanced(q))
		port_wait(&never, 0, RETRY_NS);
	else
		compact_background(q);
}
