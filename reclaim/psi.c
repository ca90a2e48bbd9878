/*
 * Pressure stall information: how much of the time programs wait for memory instead of getting on (/proc/pressure/memory).
 *
 *	some   at least one context waits
 *	full   at least one waits, and no program ran when that was last looked at
 *
 * A context waits while it reclaims for an allocation of its own, while it waits for the OOM killer's victim, as kswapd while
 * it works, and while it reads a page of its working set from a swap device again (fault/swapin.c); what is in memory, compressed, comes back at
 * once and is not counted.  Every change of the number of waiters brings the totals up to date; the averages decay
 * every two seconds like Linux's (kernel/sched/psi.c): weights exp(-2/10), exp(-2/60), exp(-2/300).
 *
 * Invariant: psi.nr_stalled = contexts whose memstall is 1.  Both change in one transaction; a dead context's is taken back
 * by whoever tidies up.  Locks: called under none; q->lock.
 */
#include "reclaim.h"

#define PSI_PERIOD_NS 2000000000ull
#define PSI_ONE (1u << PSI_FIXED_SHIFT)

static const u32 decay[NR_PSI_AVGS] = { 1677, 1981, 2034 }; /* of PSI_ONE, in a period */

/* One period with `percent` (fixed point) after n without any.  What decays is nothing soon, however large n. */
static u32 average(u32 avg, u32 weight, u32 percent, u64 n)
{
	u64 next;

	for (; n && avg; n--)
		avg = (u32)((u64)avg * weight >> PSI_FIXED_SHIFT);
	next = (u64)avg * weight + (u64)percent * (PSI_ONE - weight);
	if (percent >= avg)
		next += PSI_ONE - 1;
	return (u32)(next >> PSI_FIXED_SHIFT);
}

/* Under q->lock.  The averages, if a period is over. */
static void update_averages(struct psi *p, u64 now)
{
	u64 passed = now - p->avg_ns, missed = passed / PSI_PERIOD_NS, period;

	if (!missed)
		return;
	missed--;
	period = passed - missed * PSI_PERIOD_NS;
	for (unsigned s = 0; s < NR_PSI_STATES; s++) {
		u64 sample = MIN(p->total[s] - p->avg_total[s], period);

		p->avg_total[s] += sample;
		for (unsigned a = 0; a < NR_PSI_AVGS; a++)
			p->avg[s][a] = average(p->avg[s][a], decay[a], (u32)(sample * 100 * PSI_ONE / period), missed);
	}
	p->avg_ns = now;
}

/* Under q->lock.  Everything up to now belongs to the state that was. */
static void psi_advance(struct psi *p, u64 now)
{
	u64 passed = now > p->last_ns ? now - p->last_ns : 0;

	if (!p->last_ns) {
		p->avg_ns = now;
		passed = 0;
	}
	if (p->nr_stalled)
		p->total[PSI_MEM_SOME] += passed;
	if (p->nr_stalled && p->full)
		p->total[PSI_MEM_FULL] += passed;
	p->last_ns = MAX(now, p->last_ns);
	update_averages(p, p->last_ns);
}

/* The context's state changes to `stalled`. */
static void psi_change(struct quire *q, struct ctx *c, bool stalled)
{
	u64 now = port_clock_ns();
	bool running = port_programs_run(q);

	spin_lock(&q->lock);
	psi_advance(&q->psi, now);
	if (stalled != (bool)c->memstall) {
		c->memstall = stalled;
		q->psi.nr_stalled += stalled ? 1u : ~0u;
	}
	q->psi.full = !running;
	spin_unlock(&q->lock);
}

bool psi_memstall_enter(struct quire *q)
{
	struct ctx *c = port_ctx();

	if (c->memstall)
		return false;
	psi_change(q, c, true);
	return true;
}

void psi_memstall_leave(struct quire *q, bool entered)
{
	if (entered)
		psi_change(q, port_ctx(), false);
}

void psi_abandon(struct quire *q, struct ctx *dead)
{
	if (dead->memstall)
		psi_change(q, dead, false);
}

void psi_read(struct quire *q, struct psi_view *v)
{
	u64 now = port_clock_ns();

	spin_lock(&q->lock);
	psi_advance(&q->psi, now);
	for (unsigned s = 0; s < NR_PSI_STATES; s++) {
		v->total[s] = q->psi.total[s];
		for (unsigned a = 0; a < NR_PSI_AVGS; a++)
			v->avg[s][a] = (u32)((u64)q->psi.avg[s][a] * 100 >> PSI_FIXED_SHIFT);
	}
	spin_unlock(&q->lock);
}
