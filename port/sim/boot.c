/*
 * The whole machine: the simulated body with the core booted on it, and the count of leaked frames.
 */
#include "sim_internal.h"
#include <stdio.h>
#include <stdlib.h>

s64 sim_leaked_frames(struct quire *q)
{
	kmem_reap(q);
	drain_all_pages(q);
	return (s64)(sim_of(q)->baseline_free - nr_free_pages(q));
}

struct quire *sim_machine_new(const struct sim_config *cfg)
{
	struct quire *q = sim_machine_new_raw(cfg);
	struct sim_machine *m = sim_of(q);
	int err = quire_boot(q, &m->qcfg);

	if (err) {
		fprintf(stderr, "sim: quire_boot: error %d\n%s", err, sim_log_text(q));
		exit(99);
	}
	sim_set_abort_handler(q, do_mem_abort);
	kmem_reap(q);
	drain_all_pages(q);
	m->baseline_free = nr_free_pages(q);
	m->leaked = sim_leaked_frames;
	return q;
}
