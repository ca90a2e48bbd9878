/*
 * Failures on demand: by number, from a number on, or by a seeded coin.  A plan is set by one thread while no other
 * runs core code; the counters are atomic because the allocators ask from every CPU.
 */
#include "sim_internal.h"

static void set_plan(struct quire *q, u64 kinds, u64 nth, bool onwards, u32 percent, u64 seed)
{
	struct sim_fail_plan *p = &sim_of(q)->fail;

	p->kinds = kinds;
	q->fail_kinds = (u32)kinds;
	p->nth = nth;
	p->onwards = onwards;
	p->percent = percent;
	p->asked = p->injected = 0;
	sim_rng_seed(&p->rng, seed);
}

void sim_fail_none(struct quire *q)
{
	set_plan(q, SIM_FAIL_ALL, 0, false, 0, 0);
}

void sim_fail_nth(struct quire *q, u64 kinds, u64 n)
{
	set_plan(q, kinds, n, false, 0, 0);
}

void sim_fail_from(struct quire *q, u64 kinds, u64 n)
{
	set_plan(q, kinds, n, true, 0, 0);
}

void sim_fail_seeded(struct quire *q, u64 kinds, unsigned percent, u64 seed)
{
	set_plan(q, kinds, 0, false, percent, seed);
}

u64 sim_fail_count(struct quire *q)
{
	return __atomic_load_n(&sim_of(q)->fail.asked, __ATOMIC_RELAXED);
}

u64 sim_fail_injected(struct quire *q)
{
	return __atomic_load_n(&sim_of(q)->fail.injected, __ATOMIC_RELAXED);
}

bool port_should_fail(struct quire *q, unsigned kind)
{
	struct sim_fail_plan *p = &sim_of(q)->fail;
	u64 n;
	bool fail;

	if (!(p->kinds & BIT(kind)))
		return false;
	n = __atomic_add_fetch(&p->asked, 1, __ATOMIC_RELAXED);
	fail = p->nth ? (n == p->nth || (p->onwards && n > p->nth)) : sim_rng_percent(&p->rng, p->percent);
	if (fail)
		__atomic_add_fetch(&p->injected, 1, __ATOMIC_RELAXED);
	return fail;
}
