/*
 * Death on demand, and the supervisor's part of recovery (revocation.md section 2) on the simulated machine.
 *
 * A victim dies at an exact event, so a sweep over all events kills it at every logged store of a scenario in turn.
 */
#include "sim_internal.h"
#include <reclaim/reclaim.h>

void sim_kill_at(struct quire *q, unsigned victim, u64 n)
{
	sim_of(q)->victim = victim;
	sim_of(q)->victim_dies_at = n;
}

u64 sim_kill_events(struct quire *q)
{
	return sim_of(q)->victim_events;
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
		ctx_abandon(s->ctx);
		mm_drop_held(s->ctx);
		file_drop_held(s->ctx);
		sim_ctx_destroy(s);
		n++;
	}
	return n;
}
