/*
 * The simulated host's processes, as far as the core sees them: host_kill() records what it was asked to send.
 */
#include "sim_internal.h"
#include <port/host.h>

int host_kill(struct quire *q, struct task *t, int sig)
{
	struct sim_machine *m = sim_of(q);
	struct sim_signal *s;

	if (sig < 0 || sig > 64)
		return -EINVAL;
	if (in_transaction())
		port_panic(q, "host_kill under a spin lock");
	pthread_mutex_lock(&m->signal_lock);
	s = &m->signals[m->nr_signals++ % SIM_MAX_SIGNALS];
	*s = (struct sim_signal){ .pid = t->pid, .sig = sig };
	pthread_mutex_unlock(&m->signal_lock);
	return 0;
}

unsigned sim_signals_sent(struct quire *q, s32 pid, int sig)
{
	struct sim_machine *m = sim_of(q);
	unsigned i, n = 0;

	pthread_mutex_lock(&m->signal_lock);
	for (i = 0; i < MIN(m->nr_signals, SIM_MAX_SIGNALS); i++)
		n += m->signals[i].pid == pid && (!sig || m->signals[i].sig == sig);
	pthread_mutex_unlock(&m->signal_lock);
	return n;
}

void sim_signals_clear(struct quire *q)
{
	struct sim_machine *m = sim_of(q);

	pthread_mutex_lock(&m->signal_lock);
	m->nr_signals = 0;
	pthread_mutex_unlock(&m->signal_lock);
}
