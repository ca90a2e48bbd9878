/*
 * Death on demand, and the supervisor's part of recovery (revocation.md section 2) on the simulated machine.
 *
 * A victim dies at an exact event, so a sweep over all events kills it at every logged store of a scenario in turn.
 */
#include "sim_internal.h"
#include <reclaim/reclaim.h>
#include <swap/swap.h>

void sim_kill_at(struct quire *q, unsigned victim, u64 n)
{
	sim_of(q)->victim = victim;
	sim_of(q)->victim_dies_at = n;
}

u64 sim_kill_events(struct quire *q)
{
	return sim_of(q)->victim_events;
}

/* Frames that the dead context had taken out of use: nobody may reach them any more, then they are free. */
static void drop_parked(struct ctx *dead)
{
	struct quire *q = dead->q;
	u32 i;

	if (dead->parked_mm && dead->parked_mm->port_mm)
		port_tlb_sync(dead->parked_mm);
	migrate_abandon(q, dead);
	psi_abandon(q, dead);
	throttle_abandon(q, dead);
	swap_abandon(dead);
	for (i = 0; i < dead->nparked; i++) {
		spin_lock(&q->lock);
		if (dead->parked[i].refs)
			folio_put(q, pfn_folio(q, dead->parked[i].pfn), dead->parked[i].refs);
		spin_unlock(&q->lock);
	}
	dead->nparked = 0;
	dead->parked_mm = NULL;
}

static struct sim_ctx *next_dead(struct sim_machine *m)
{
	struct sim_ctx *s;

	pthread_mutex_lock(&m->ctx_lock);
	for (s = m->contexts; s && !s->dead; s = s->next)
		;
	pthread_mutex_unlock(&m->ctx_lock);
	return s;
}

unsigned sim_recover_dead(struct quire *q)
{
	struct sim_machine *m = sim_of(q);
	struct sim_ctx *s;
	unsigned n = 0;

	while ((s = next_dead(m))) {
		ctx_recover(s->ctx);
		drop_parked(s->ctx);
		mm_drop_held(s->ctx);
		file_drop_held(s->ctx);
		sim_ctx_destroy(s);
		n++;
	}
	return n;
}
