/*
 * Address space identifiers: few numbers for many mms, by generations, as Linux gives them out on arm64.
 *
 * An mm's context is generation | ASID.  It is valid while its generation is the machine's.  When the numbers run out, the
 * generation goes up: what the CPUs run right now stays reserved, every other number is free again, and each
 * CPU flushes its whole TLB before it runs on a number of the new generation.
 *
 * Invariant: two live mms of the same generation never have the same ASID.  ASID 0 is nobody's.
 * Locks: m->asid_lock for all of it; mm contexts and stats are atomic because flushers read them without it.
 * Order: asid_lock -> cpu->lock -> sim_mm.tlb_lock.
 */
#include "mmu_internal.h"
#include <sched.h>
#include <stdlib.h>

void sim_lock_contended(u32 *word)
{
	unsigned spins = 0;

	while (__atomic_load_n(word, __ATOMIC_RELAXED))
		if (++spins % 128 == 0)
			sched_yield();
}

static u64 asid_mask(const struct sim_machine *m)
{
	return BIT(m->cfg.asid_bits) - 1;
}

void sim_mmu_init(struct sim_machine *m)
{
	unsigned i;

	m->cpus = sim_map(sizeof(*m->cpus) * m->cfg.nr_cpus);
	for (i = 0; i < m->cfg.nr_cpus; i++) {
		m->cpus[i].q = m->q;
		m->cpus[i].id = i;
		m->cpus[i].ugen = 1;
		m->cpus[i].tlb = sim_map(sizeof(struct sim_tlb));
	}
	pthread_mutex_init(&m->asid_lock, NULL);
	pthread_mutex_init(&m->mms_lock, NULL);
	m->asid_generation = BIT(m->cfg.asid_bits);
	m->asid_next = 1;
	m->asid_map = calloc(BIT(m->cfg.asid_bits) / 64 + 1, sizeof(u64));
	if (!m->asid_map)
		sim_die("sim: asid map");
	sim_rng_seed(&m->flush_coin, m->cfg.seed ^ 0xf1005ull);
}

void sim_mmu_destroy(struct sim_machine *m)
{
	unsigned i;

	for (i = 0; i < m->cfg.nr_cpus; i++)
		sim_unmap(m->cpus[i].tlb, sizeof(struct sim_tlb));
	sim_unmap(m->cpus, sizeof(*m->cpus) * m->cfg.nr_cpus);
	while (m->mms) {
		struct sim_mm *s = m->mms;

		m->mms = s->next;
		free(s->tlb);
		free(s);
	}
	free(m->asid_map);
}

int port_mm_init(struct mm_struct *mm)
{
	struct sim_machine *m = sim_of(mm->q);
	struct sim_mm *s = calloc(1, sizeof(*s));

	if (s && m->cfg.tlb == SIM_TLB_HOSTED)
		s->tlb = calloc(1, sizeof(*s->tlb));
	if (!s || (m->cfg.tlb == SIM_TLB_HOSTED && !s->tlb)) {
		free(s);
		return -ENOMEM;
	}
	s->mm = mm;
	s->m = m;
	pthread_mutex_init(&s->flush_lock, NULL);
	pthread_mutex_lock(&m->mms_lock);
	s->uid = ++m->last_uid;
	s->next = m->mms;
	m->mms = s;
	pthread_mutex_unlock(&m->mms_lock);
	mm->port_mm = s;
	return 0;
}

/* TLB entries of a dead mm may stay: nobody can run on it, and its number comes back only after a whole flush. */
void port_mm_destroy(struct mm_struct *mm)
{
	struct sim_mm *s = sim_mm_of(mm), **link;
	struct sim_machine *m;
	unsigned i;

	if (!s)
		return;
	m = s->m;
	for (i = 0; i < m->cfg.nr_cpus; i++)
		if (__atomic_load_n(&m->cpus[i].mm, __ATOMIC_RELAXED) == mm)
			sim_cpu_switch_mm(&m->cpus[i], NULL);
	pthread_mutex_lock(&m->mms_lock);
	for (link = &m->mms; *link != s; link = &(*link)->next)
		;
	*link = s->next;
	pthread_mutex_unlock(&m->mms_lock);
	mm->port_mm = NULL;
	free(s->tlb);
	free(s);
}

static bool map_test_and_set(struct sim_machine *m, u64 asid)
{
	bool was = m->asid_map[asid / 64] & BIT(asid % 64);

	m->asid_map[asid / 64] |= BIT(asid % 64);
	return was;
}

/* A new generation: only what the CPUs run (or ran at the previous roll-over) keeps its number. */
static void roll_over(struct sim_machine *m)
{
	unsigned i;

	m->asid_generation += BIT(m->cfg.asid_bits);
	memset(m->asid_map, 0, (BIT(m->cfg.asid_bits) / 64 + 1) * sizeof(u64));
	for (i = 0; i < m->cfg.nr_cpus; i++) {
		u64 ctx = m->active_context[i];

		m->active_context[i] = 0;
		/* A CPU that has not switched since the last roll-over still runs on its reserved number. */
		m->reserved_context[i] = ctx ? ctx : m->reserved_context[i];
		map_test_and_set(m, m->reserved_context[i] & asid_mask(m));
		m->flush_wanted[i] = true;
	}
	m->asid_next = 1;
	__atomic_add_fetch(&m->stats.rollovers, 1, __ATOMIC_RELAXED);
}

static bool keep_reserved(struct sim_machine *m, u64 old, u64 new)
{
	bool hit = false;
	unsigned i;

	for (i = 0; i < m->cfg.nr_cpus; i++)
		if (m->reserved_context[i] == old) {
			m->reserved_context[i] = new;
			hit = true;
		}
	return hit;
}

static u64 take_asid(struct sim_machine *m)
{
	u64 a;

	for (a = m->asid_next; a <= asid_mask(m); a++)
		if (!map_test_and_set(m, a)) {
			m->asid_next = (u32)a + 1;
			return a;
		}
	return 0;
}

/* Under asid_lock. */
static u64 new_context(struct sim_machine *m, u64 old)
{
	u64 a;

	if (old) {
		u64 same = m->asid_generation | (old & asid_mask(m));

		if (keep_reserved(m, old, same))
			return same;
		if (!map_test_and_set(m, old & asid_mask(m)))
			return same;
	}
	a = take_asid(m);
	if (!a) {
		roll_over(m);
		a = take_asid(m);
	}
	if (!a)
		sim_die("sim: fewer ASIDs than CPUs");
	return m->asid_generation | a;
}

static void run_on(struct sim_cpu *cpu, struct mm_struct *mm, u64 uid, u64 context, bool flush)
{
	struct sim_machine *m = sim_of(cpu->q);

	sim_lock(&cpu->lock);
	if (flush)
		memset(cpu->tlb, 0, sizeof(*cpu->tlb));
	sim_utlb_forget(cpu);
	__atomic_store_n(&cpu->mm, mm, __ATOMIC_RELAXED);
	cpu->mm_uid = uid;
	cpu->asid = (u16)(context & asid_mask(m));
	sim_unlock(&cpu->lock);
}

void sim_cpu_switch_mm(struct sim_cpu *cpu, struct mm_struct *mm)
{
	struct sim_machine *m = sim_of(cpu->q);
	struct sim_mm *s = mm ? sim_mm_of(mm) : NULL;
	u64 context = 0;
	bool flush = false;

	pthread_mutex_lock(&m->asid_lock);
	if (s) {
		context = s->context;
		if ((context & ~asid_mask(m)) != m->asid_generation) {
			context = new_context(m, context);
			/* Ordered before the walks on it: flushers read it after they changed the tables. */
			__atomic_store_n(&s->context, context, __ATOMIC_SEQ_CST);
		}
		flush = m->flush_wanted[cpu->id];
		m->flush_wanted[cpu->id] = false;
	}
	m->active_context[cpu->id] = context;
	if (!s) /* runs on nothing: no number needs to be kept for it */
		m->reserved_context[cpu->id] = 0;
	run_on(cpu, mm, s ? s->uid : 0, context, flush);
	pthread_mutex_unlock(&m->asid_lock);
}

void sim_set_kernel_table(struct quire *q, u64 table)
{
	__atomic_store_n(&sim_of(q)->kernel_table, table, __ATOMIC_RELEASE);
}
