/*
 * Contexts, waiting and time.
 *
 * A thread has at most one context per machine; the newest entered is current and port_ctx() returns it.  Context ids
 * are small and unique in their machine (the lowest free one is taken), so that what a machine does depends on its own
 * contexts only: per-CPU data may be keyed by them.  A thread that works on a machine must have entered that machine.
 */
#include "sim_internal.h"
#include <errno.h>
#include <execinfo.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Thread_local struct sim_ctx *current_ctx;
/* Its struct ctx, unless its events are counted: what the hot paths ask for. */
static _Thread_local struct ctx *quick_ctx __attribute__((tls_model("initial-exec")));

static void set_current(struct sim_ctx *s)
{
	current_ctx = s;
	quick_ctx = s && !s->dies_at ? s->ctx : NULL;
}

/* What an ended context may have left behind.  id, q and life stay: somebody may be looking at them. */
static void clean_ctx(struct ctx *c)
{
	c->nparked = c->npins = c->nmms = c->nfiles = c->nswaps = c->flags = 0;
	c->parked_mm = c->mm = c->lent_mm = NULL;
	c->task = NULL;
	__atomic_store_n(&c->life, 1, __ATOMIC_RELEASE);
	memset(c->port_data, 0, sizeof(c->port_data));
}

/* The lowest free id.  Contexts stay mapped until the machine ends, because a waiter may look at an owner that has just
 * ended.  Under m->ctx_lock. */
static struct ctx *take_ctx(struct sim_machine *m)
{
	struct ctx *c;
	u32 id = 1;

	while (id <= SIM_MAX_CTX && m->id_used[id])
		id++;
	if (id > SIM_MAX_CTX)
		sim_die("sim: too many contexts");
	m->id_used[id] = true;
	c = m->by_id[id];
	if (c) {
		clean_ctx(c);
		return c;
	}
	c = sim_map(sizeof(*c)); /* its undo log is large and mostly untouched */
	ctx_init(c, m->q, id);
	__atomic_store_n(&m->by_id[id], c, __ATOMIC_RELEASE);
	return c;
}

struct ctx *port_ctx_by_id(u32 id)
{
	struct sim_machine *m = current_ctx->m;

	return id && id <= SIM_MAX_CTX ? __atomic_load_n(&m->by_id[id], __ATOMIC_ACQUIRE) : NULL;
}

struct sim_ctx *sim_ctx_current(void)
{
	return current_ctx;
}

static struct sim_ctx *find_on_this_thread(struct quire *q)
{
	struct sim_ctx *s = current_ctx;

	while (s && s->m->q != q)
		s = s->outer;
	return s;
}

/* Makes s the current one of this thread; it is somewhere on the thread's chain. */
static void move_to_front(struct sim_ctx *s)
{
	struct sim_ctx **link = &current_ctx;

	while (*link != s)
		link = &(*link)->outer;
	*link = s->outer;
	s->outer = current_ctx;
	set_current(s);
}

static struct sim_ctx *make_ctx(struct sim_machine *m)
{
	struct sim_ctx *s = calloc(1, sizeof(*s));

	if (!s)
		sim_die("sim: calloc");
	s->m = m;
	pthread_cond_init(&s->turn, NULL);
	pthread_mutex_lock(&m->ctx_lock);
	s->ctx = take_ctx(m);
	__atomic_add_fetch(&m->nr_contexts, 1, __ATOMIC_RELAXED);
	s->ctx->cpu = (s->ctx->id - 1) % m->cfg.nr_cpus;
	s->next = m->contexts;
	m->contexts = s;
	pthread_mutex_unlock(&m->ctx_lock);
	return s;
}

struct ctx *sim_thread_enter(struct quire *q)
{
	struct sim_ctx *s = find_on_this_thread(q);

	if (!s) {
		s = make_ctx(sim_of(q));
		s->outer = current_ctx;
		set_current(s);
		sim_sched_add(s, true);
	}
	move_to_front(s);
	return s->ctx;
}

void sim_ctx_destroy(struct sim_ctx *s)
{
	struct sim_machine *m = s->m;
	struct sim_ctx **link;

	pthread_mutex_lock(&m->ctx_lock);
	for (link = &m->contexts; *link != s; link = &(*link)->next)
		;
	*link = s->next;
	__atomic_sub_fetch(&m->nr_contexts, 1, __ATOMIC_RELAXED);
	m->id_used[s->ctx->id] = false;
	pthread_mutex_unlock(&m->ctx_lock);
	pthread_cond_destroy(&s->turn);
	free(s);
}

void sim_thread_leave(void)
{
	struct sim_ctx *s = current_ctx;

	if (!s || s->ctx->nheld || s->ctx->nmutex) {
		fprintf(stderr, "sim: a context ends that %s\n", s ? "holds locks" : "never began");
		abort();
	}
	sim_sched_remove(s);
	set_current(s->outer);
	sim_ctx_destroy(s);
}

void sim_ctx_end_all(struct sim_machine *m)
{
	struct sim_ctx *mine = find_on_this_thread(m->q);
	u32 id;

	if (mine) {
		move_to_front(mine);
		set_current(mine->outer);
	}
	while (m->contexts)
		sim_ctx_destroy(m->contexts);
	for (id = 1; id <= SIM_MAX_CTX; id++)
		if (m->by_id[id])
			munmap(m->by_id[id], sizeof(struct ctx));
}

void sim_ctx_break_locks(struct ctx *c)
{
	while (c->nheld) {
		struct spinlock *l = c->held[--c->nheld].lock;

		if ((__atomic_load_n(&l->word, __ATOMIC_RELAXED) & ~SPIN_WAITERS) == c->id)
			__atomic_store_n(&l->word, 0, __ATOMIC_RELEASE);
	}
	while (c->nmutex)
		__atomic_store_n(&c->mutexes[--c->nmutex]->word, 0, __ATOMIC_RELEASE);
	c->depth = 0;
	c->log_len = 0;
}

static __attribute__((noreturn, cold, noinline)) void no_context(void)
{
	fprintf(stderr, "sim: core code on a thread without sim_thread_enter()\n");
	abort();
}

static __attribute__((noinline)) struct ctx *port_ctx_slow(void)
{
	if (unlikely(!current_ctx))
		no_context();
	sim_event(current_ctx);
	return current_ctx->ctx;
}

struct ctx *port_ctx(void)
{
	return likely(quick_ctx) ? quick_ctx : port_ctx_slow();
}

struct ctx *port_ctx_quick(void)
{
	return quick_ctx;
}

/* A context that ends properly has no locks (sim_thread_leave); a killed one (sim_kill_at) may own some. */
bool port_ctx_alive(const struct ctx *c)
{
	return c && __atomic_load_n(&c->life, __ATOMIC_ACQUIRE) == 1;
}

/* Nobody stops a simulated CPU. */
void port_owner_slow(struct ctx *owner)
{
	(void)owner;
}

unsigned port_cpu(void)
{
	return port_ctx()->cpu;
}

void sim_thread_set_cpu(unsigned n)
{
	struct ctx *c = port_ctx();

	c->cpu = n % sim_of(c->q)->cfg.nr_cpus;
}

/* ---- time ---- */

static u64 host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

void sim_advance_clock(struct quire *q, u64 ns)
{
	__atomic_add_fetch(&sim_of(q)->clock_ns, ns, __ATOMIC_RELAXED);
}

/* Simulated time passes by 1 us per question, so that loops that wait for time to pass end. */
u64 port_clock_ns(void)
{
	struct sim_machine *m = sim_of(port_ctx()->q);

	if (m->cfg.real_clock)
		return host_ns();
	return __atomic_add_fetch(&m->clock_ns, 1000, __ATOMIC_RELAXED);
}

/* ---- waiting ---- */

static int futex(u32 *word, int op, u32 val, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, timeout, NULL, 0) < 0 ? -errno : 0;
}

static int host_wait(struct sim_machine *m, u32 *word, u32 expected, u64 timeout_ns)
{
	struct timespec ts = { (time_t)(timeout_ns / 1000000000ull), (long)(timeout_ns % 1000000000ull) };
	int err;

	if (timeout_ns == ~0ull)
		return futex(word, FUTEX_WAIT, expected, NULL);
	/* Nobody else is there to wake us: simulated time may as well pass at once. */
	if (!m->cfg.real_clock && __atomic_load_n(&m->nr_contexts, __ATOMIC_RELAXED) == 1)
		err = __atomic_load_n(word, __ATOMIC_ACQUIRE) == expected ? -ETIMEDOUT : -EAGAIN;
	else
		err = futex(word, FUTEX_WAIT, expected, &ts);
	if (err == -ETIMEDOUT)
		sim_advance_clock(m->q, timeout_ns);
	return err;
}

int port_wait(u32 *word, u32 expected, u64 timeout_ns)
{
	struct sim_ctx *s = current_ctx;
	struct sim_machine *m = s->m;

	if (m->cfg.sched == SIM_SCHED_ONE)
		return sim_sched_wait(s, word, expected, timeout_ns);
	return host_wait(m, word, expected, timeout_ns);
}

void port_wake(u32 *word, u32 n)
{
	struct sim_machine *m = current_ctx->m;

	if (m->cfg.sched == SIM_SCHED_ONE)
		sim_sched_wake(m, word, n);
	else
		futex(word, FUTEX_WAKE, n > INT_MAX ? INT_MAX : n, NULL);
}

/* ---- threads of a test ---- */

struct sim_run_job {
	struct quire *q;
	void (*fn)(struct quire *q, unsigned i, void *arg);
	void *arg;
	unsigned i;
	struct sim_ctx *s;
	pthread_t thread;
	pthread_barrier_t *ready;
};

/* As by kill -9: nothing is unlocked, nothing undone.  The context stays, dead, for others to recover from. */
void sim_ctx_die(struct sim_ctx *s)
{
	if (getenv("QUIRE_DEATH_TRACE")) {
		void *frames[32];

		backtrace_symbols_fd(frames, backtrace(frames, 32), 2);
	}
	s->dies_at = 0;
	s->dead = true;
	__atomic_store_n(&s->ctx->life, 0, __ATOMIC_RELEASE);
	longjmp(s->death, 1);
}

/* The job as the context that may die in it. */
static void run_victim(struct sim_run_job *j)
{
	struct sim_machine *m = sim_of(j->q);

	if (!setjmp(j->s->death)) {
		j->s->events = 0;
		j->s->dies_at = m->victim_dies_at;
		set_current(j->s);
		j->fn(j->q, j->i, j->arg);
		j->s->dies_at = 0;
		set_current(j->s);
	}
	m->victim_events = j->s->events;
}

static void *run_thread(void *p)
{
	struct sim_run_job *j = p;
	struct sim_machine *m = sim_of(j->q);

	set_current(j->s);
	sim_thread_set_cpu(j->i);
	pthread_barrier_wait(j->ready);
	sim_sched_start(j->s);
	if (m->victim_dies_at && m->victim == j->i)
		run_victim(j);
	else
		j->fn(j->q, j->i, j->arg);
	if (j->s->dead) {
		sim_sched_remove(j->s);
		set_current(NULL);
		return NULL;
	}
	sim_thread_leave();
	return NULL;
}

/* The contexts are made here, in order, so that SIM_SCHED_ONE knows all of them before the first one runs. */
void sim_run(struct quire *q, unsigned n, void (*fn)(struct quire *q, unsigned i, void *arg), void *arg)
{
	struct sim_run_job *jobs = calloc(n, sizeof(*jobs));
	pthread_barrier_t ready;
	struct sim_ctx *me;
	unsigned i;

	sim_thread_enter(q);
	me = current_ctx;
	if (!jobs || pthread_barrier_init(&ready, NULL, n))
		sim_die("sim: sim_run");
	for (i = 0; i < n; i++) {
		jobs[i] = (struct sim_run_job){ .q = q, .fn = fn, .arg = arg, .i = i, .s = make_ctx(sim_of(q)), .ready = &ready };
		sim_sched_add(jobs[i].s, false);
	}
	for (i = 0; i < n; i++)
		if (pthread_create(&jobs[i].thread, NULL, run_thread, &jobs[i]))
			sim_die("sim: pthread_create");
	sim_sched_join_begin(me);
	for (i = 0; i < n; i++)
		pthread_join(jobs[i].thread, NULL);
	sim_sched_join_end(me);
	pthread_barrier_destroy(&ready);
	free(jobs);
}
