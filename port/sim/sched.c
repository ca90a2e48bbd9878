/*
 * The one-thread scheduler (SIM_SCHED_ONE): contexts are host threads, but only the one that holds the baton runs.
 *
 * The baton changes hands at port calls only, and to whom is drawn from the machine's seed, so an interleaving is a function
 * of the seed.  A waiting context becomes runnable when it is woken or, when nobody can run, by simulated time
 * jumping to the earliest timeout.  If there is no timeout either, the machine has deadlocked, and we say so.
 *
 *	SIM_IDLE      not started, or outside
 *	SIM_RUNNABLE  wants the baton or has it
 *	SIM_WAITING   in port_wait
 *	SIM_JOINING   in sim_run: gets the baton back when every other one has ended
 *
 * Invariant: sched.running is NULL or RUNNABLE.  Lock: sched.lock, innermost.
 */
#include "sim_internal.h"
#include <stdio.h>
#include <stdlib.h>

static bool one_thread(const struct sim_machine *m)
{
	return m->cfg.sched == SIM_SCHED_ONE;
}

void sim_sched_init(struct sim_machine *m)
{
	pthread_mutex_init(&m->sched.lock, NULL);
	sim_rng_seed(&m->sched.rng, m->cfg.seed ^ 0x5c4edull);
	m->sched.preempt_percent = m->cfg.preempt_percent;
}

static struct sim_ctx *nth_in_state(struct sim_scheduler *sc, enum sim_run_state state, u64 n)
{
	unsigned i;

	for (i = 0; i < SIM_MAX_CTX; i++)
		if (sc->slots[i] && sc->slots[i]->run == state && n-- == 0)
			return sc->slots[i];
	return NULL;
}

static u64 count_in_state(struct sim_scheduler *sc, enum sim_run_state state)
{
	unsigned i;
	u64 n = 0;

	for (i = 0; i < SIM_MAX_CTX; i++)
		n += sc->slots[i] && sc->slots[i]->run == state;
	return n;
}

/* Lets time jump to the earliest timeout.  False if nobody waits with one. */
static bool fire_earliest_timeout(struct sim_machine *m)
{
	struct sim_scheduler *sc = &m->sched;
	struct sim_ctx *first = NULL;
	unsigned i;

	for (i = 0; i < SIM_MAX_CTX; i++) {
		struct sim_ctx *s = sc->slots[i];

		if (s && s->run == SIM_WAITING && s->wait_until != ~0ull && (!first || s->wait_until < first->wait_until))
			first = s;
	}
	if (!first)
		return false;
	if (m->clock_ns < first->wait_until)
		__atomic_store_n(&m->clock_ns, first->wait_until, __ATOMIC_RELAXED);
	first->run = SIM_RUNNABLE;
	return true;
}

/* Gives the baton to somebody drawn from the seed.  Under sched.lock. */
static void pass_baton(struct sim_machine *m)
{
	struct sim_scheduler *sc = &m->sched;
	u64 n = count_in_state(sc, SIM_RUNNABLE);

	sc->running = NULL;
	if (!n && fire_earliest_timeout(m))
		n = 1;
	if (!n) {
		if (count_in_state(sc, SIM_WAITING)) {
			fprintf(stderr, "sim: deadlock: every context waits and nobody can wake one\n");
			abort();
		}
		return;
	}
	sc->running = nth_in_state(sc, SIM_RUNNABLE, n == 1 ? 0 : sim_rng_next(&sc->rng) % n);
	pthread_cond_signal(&sc->running->turn);
}

static void await_baton(struct sim_scheduler *sc, struct sim_ctx *s)
{
	while (sc->running != s)
		pthread_cond_wait(&s->turn, &sc->lock);
}

/* run_now: the calling thread's own context; it waits for its turn.  Else it stays idle until sim_sched_start(). */
void sim_sched_add(struct sim_ctx *s, bool run_now)
{
	struct sim_scheduler *sc = &s->m->sched;
	unsigned i;

	if (!one_thread(s->m))
		return;
	pthread_mutex_lock(&sc->lock);
	for (i = 0; i < SIM_MAX_CTX && sc->slots[i]; i++)
		;
	if (i == SIM_MAX_CTX)
		sim_die("sim: too many contexts");
	sc->slots[i] = s;
	s->slot = i;
	/* A context of sim_run() is runnable from the start: who is drawn first must not depend on host threads. */
	s->run = SIM_RUNNABLE;
	if (run_now) {
		if (!sc->running)
			pass_baton(s->m);
		await_baton(sc, s);
	}
	pthread_mutex_unlock(&sc->lock);
}

void sim_sched_start(struct sim_ctx *s)
{
	struct sim_scheduler *sc = &s->m->sched;

	if (!one_thread(s->m))
		return;
	pthread_mutex_lock(&sc->lock);
	await_baton(sc, s);
	pthread_mutex_unlock(&sc->lock);
}

void sim_sched_remove(struct sim_ctx *s)
{
	struct sim_scheduler *sc = &s->m->sched;

	if (!one_thread(s->m))
		return;
	pthread_mutex_lock(&sc->lock);
	sc->slots[s->slot] = NULL;
	s->run = SIM_IDLE;
	if (sc->running == s)
		pass_baton(s->m);
	pthread_mutex_unlock(&sc->lock);
}

void sim_sched_join_begin(struct sim_ctx *s)
{
	struct sim_scheduler *sc = &s->m->sched;

	if (!one_thread(s->m))
		return;
	pthread_mutex_lock(&sc->lock);
	s->run = SIM_JOINING;
	pass_baton(s->m);
	pthread_mutex_unlock(&sc->lock);
}

void sim_sched_join_end(struct sim_ctx *s)
{
	struct sim_scheduler *sc = &s->m->sched;

	if (!one_thread(s->m))
		return;
	pthread_mutex_lock(&sc->lock);
	s->run = SIM_RUNNABLE;
	if (!sc->running)
		pass_baton(s->m);
	await_baton(sc, s);
	pthread_mutex_unlock(&sc->lock);
}

static void switch_away(struct sim_ctx *s)
{
	struct sim_scheduler *sc = &s->m->sched;

	pthread_mutex_lock(&sc->lock);
	pass_baton(s->m);
	await_baton(sc, s);
	pthread_mutex_unlock(&sc->lock);
}

void sim_preempt(void)
{
	struct sim_ctx *s = sim_ctx_current();

	if (s)
		sim_event(s);
	if (s && one_thread(s->m) && sim_rng_percent(&s->m->sched.rng, s->m->sched.preempt_percent))
		switch_away(s);
}

static void relax_host(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

void port_relax(void)
{
	struct sim_ctx *s = sim_ctx_current();

	if (s && one_thread(s->m))
		switch_away(s);
	else
		relax_host();
}

int sim_sched_wait(struct sim_ctx *s, u32 *word, u32 expected, u64 timeout_ns)
{
	struct sim_scheduler *sc = &s->m->sched;
	u64 now = __atomic_load_n(&s->m->clock_ns, __ATOMIC_RELAXED);

	if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != expected)
		return -EAGAIN;
	pthread_mutex_lock(&sc->lock);
	s->run = SIM_WAITING;
	s->wait_word = word;
	s->woken = false;
	s->wait_until = timeout_ns == ~0ull ? ~0ull : now + timeout_ns;
	pass_baton(s->m);
	await_baton(sc, s);
	s->wait_word = NULL;
	pthread_mutex_unlock(&sc->lock);
	return s->woken ? 0 : -ETIMEDOUT;
}

void sim_sched_wake(struct sim_machine *m, u32 *word, u32 n)
{
	struct sim_scheduler *sc = &m->sched;
	unsigned i;

	pthread_mutex_lock(&sc->lock);
	for (i = 0; i < SIM_MAX_CTX && n; i++) {
		struct sim_ctx *s = sc->slots[i];

		if (!s || s->run != SIM_WAITING || s->wait_word != word)
			continue;
		s->run = SIM_RUNNABLE;
		s->woken = true;
		n--;
	}
	pthread_mutex_unlock(&sc->lock);
}
