/*
 * The OOM killer: when reclaim finds nothing, somebody's memory must go.
 *
 *	out_of_memory()
 *	  somebody is at it, or a victim is dying  -> wait a moment; whoever waits also takes a slow victim's memory (oom_reap.c)
 *	  else reclaim once more                   -> it got something: try again
 *	  panic_on_oom                             -> report, the machine ends
 *	  oom_kill_allocating_task                 -> report, whoever asks goes
 *	  the task with most points                -> report, it goes
 *	  nobody may be killed                     -> wait for those who are dying; then the machine ends: it is deadlocked
 *
 * One at a time (q->oom_lock, a mutex).  A victim that is still dying is waited for, not doubled; one whose memory was
 * taken, or that has neither died nor could be emptied after OOM_GIVE_UP_NS, is passed over.  Every wait is bounded, so a
 * machine without memory makes progress, kills, ends, or returns -ENOMEM (to the victim, to callers who are no
 * program, and for large blocks).
 *
 * Points, selection and report follow Linux (mm/oom_kill.c) so that what people know and what their log parsers
 * expect holds: rss + swap + page tables in pages, plus oom_score_adj thousandths of all memory and swap.
 *
 * Locks: called under none.  Tasks are walked by pid with a reference each; every mm is read in one short
 * transaction.
 */
#include "oom.h"

#define OOM_WAIT_NS 50000000ull       /* one wait for a victim's memory */
#define OOM_BUSY_NS 2000000ull        /* one wait for somebody else's choice */
#define OOM_WAITS 20                  /* at most this many, then the caller tries its luck */
#define OOM_GIVE_UP_NS 5000000000ull
#define OOM_COSTLY_ORDER 3u           /* nobody is killed for a larger block: the caller can do without */
#define SIGKILL_NR 9

/* ---- points ---- */

bool oom_task_view(struct task *t, struct oom_task *v)
{
	struct mm_struct *mm;

	spin_lock(&t->q->tasks.lock);
	memcpy(v->comm, t->comm, sizeof(v->comm));
	v->pid = t->pid;
	v->adj = t->oom_score_adj;
	v->uid = t->uid;
	v->state = t->oom_victim;
	spin_unlock(&t->q->tasks.lock);
	mm = task_get_mm(t);
	if (!mm)
		return false;
	mm_usage_get(mm, &v->u);
	mmput(mm);
	return true;
}

u64 oom_totalpages(struct quire *q)
{
	u64 swap;

	spin_lock(&q->lock);
	swap = q->total_swap_pages;
	spin_unlock(&q->lock);
	return totalram_pages(q) + swap;
}

long oom_points(struct quire *q, const struct oom_task *v)
{
	long points = (long)(v->u.rss + v->u.swap + v->u.pgtables_bytes / PAGE_SIZE);

	if (v->adj == OOM_SCORE_ADJ_MIN || v->state != OOM_NONE)
		return LONG_MIN;
	return points + (long)v->adj * ((long)oom_totalpages(q) / 1000);
}

long oom_badness(struct quire *q, struct task *t)
{
	struct oom_task v;

	return oom_task_view(t, &v) ? oom_points(q, &v) : LONG_MIN;
}

struct task *select_bad_process(struct quire *q, long *points)
{
	struct task *t, *best = NULL;

	*points = LONG_MIN;
	for (t = task_next_get(q, -1); t;) {
		long p = oom_badness(q, t);
		s32 pid = t->pid;

		/* Of equals the youngest goes, as on Linux. */
		if (p != LONG_MIN && p >= *points) {
			if (best)
				task_put(best);
			best = t;
			*points = p;
		} else {
			task_put(t);
		}
		t = task_next_get(q, pid);
	}
	return best;
}

/* ---- victims under way ---- */

/* Under q->tasks.lock: still holding memory, and not for too long? */
static bool still_dying_locked(struct task *t)
{
	if (t->oom_victim != OOM_CHOSEN || !t->mm)
		return false;
	if (port_clock_ns() - t->oom_ns < OOM_GIVE_UP_NS)
		return true;
	t->oom_victim = OOM_GIVEN_UP;
	return false;
}

/* The same after its memory was taken: what is left of it (page tables, shared pages) comes back with its death. */
static bool still_leaving_locked(const struct task *t)
{
	return t->oom_victim != OOM_NONE && t->mm && port_clock_ns() - t->oom_ns < OOM_GIVE_UP_NS;
}

/* Is some address space without users being taken apart?  Its memory is nobody's in the task table, but not yet free. */
static bool mm_is_going(struct quire *q)
{
	struct mm_struct *mm;

	spin_lock(&q->lock);
	for (mm = q->mms; mm && mm->users; mm = mm->all_next)
		;
	spin_unlock(&q->lock);
	return mm;
}

/* last_hope: nobody else could be killed, so those count too who have little left to give. */
static bool victim_is_dying(struct quire *q, bool last_hope)
{
	bool found;

	spin_lock(&q->tasks.lock);
	found = port_clock_ns() - q->tasks.exit_ns < OOM_GIVE_UP_NS && mm_is_going(q);
	for (struct task *t = q->tasks.first; t && !found; t = t->next)
		found = still_dying_locked(t) || (last_hope && still_leaving_locked(t));
	spin_unlock(&q->tasks.lock);
	return found;
}

/* A frame can be had again: somebody freed enough meanwhile. */
static bool memory_is_back(struct quire *q, unsigned order)
{
	bool ok;

	spin_lock(&q->lock);
	/* Thrashing (thrash.c): there is memory, but only because somebody's working set has just been thrown out. */
	ok = !q->reclaim.thrashing && phys_balanced(q, order, WMARK_LOW, ZONE_NORMAL);
	spin_unlock(&q->lock);
	return ok;
}

static bool is_thrashing(struct quire *q)
{
	bool yes;

	spin_lock(&q->lock);
	yes = q->reclaim.thrashing;
	spin_unlock(&q->lock);
	return yes;
}

static u32 wake_count(struct quire *q)
{
	u32 n;

	spin_lock(&q->tasks.lock);
	n = q->oom_wake;
	spin_unlock(&q->tasks.lock);
	return n;
}

/* Somebody else is choosing. */
static void wait_a_moment(struct quire *q)
{
	port_wait(&q->oom_wake, wake_count(q), OOM_BUSY_NS);
}

static void wait_for_memory(struct quire *q, unsigned order)
{
	bool stall = psi_memstall_enter(q);

	for (int i = 0; i < OOM_WAITS; i++) {
		u32 seen = wake_count(q);

		if (memory_is_back(q, order) || !victim_is_dying(q, false))
			break;
		port_wait(&q->oom_wake, seen, OOM_WAIT_NS);
		oom_reap_victims(q);
	}
	psi_memstall_leave(q, stall);
}

/* ---- the kill ---- */

static void mark_victim(struct task *t)
{
	spin_lock(&t->q->tasks.lock);
	t->oom_victim = OOM_CHOSEN;
	t->oom_ns = port_clock_ns();
	spin_unlock(&t->q->tasks.lock);
	spin_lock(&t->q->lock);
	count_vm_event(t->q, OOM_KILL);
	spin_unlock(&t->q->lock);
}

/* Memory only comes back when every process on it is gone (vfork, CLONE_VM). */
static void kill_sharers(struct quire *q, struct task *victim, struct mm_struct *mm)
{
	struct task *t;
	s32 pid = -1;

	while ((t = task_next_get(q, pid))) {
		struct mm_struct *its = task_get_mm(t);

		pid = t->pid;
		if (t != victim && its == mm) {
			mark_victim(t);
			host_kill(q, t, SIGKILL_NR);
		}
		if (its)
			mmput(its);
		task_put(t);
	}
}

/* Takes over the reference of the chosen one.  If that is the caller itself it is dead after host_kill(): by then it must have let
 * go of everything, killed the sharers, and called off what made it ask (nobody thrashes beside a victim). */
static void oom_kill_process(struct oom_control *oc)
{
	struct task *t = oc->chosen;
	struct mm_struct *mm = task_get_mm(t);
	bool self = t == oc->self; /* then the table keeps the record */

	if (mm) {
		mark_victim(t);
		kill_sharers(oc->q, t, mm);
		mmput(mm);
	}
	spin_lock(&oc->q->lock);
	oc->q->reclaim.thrashing = false;
	spin_unlock(&oc->q->lock);
	if (self)
		task_put(t);
	if (mm)
		host_kill(oc->q, t, SIGKILL_NR);
	if (!self)
		task_put(t);
}

static bool is_victim(struct task *t)
{
	bool victim;

	if (!t)
		return false;
	spin_lock(&t->q->tasks.lock);
	victim = t->oom_victim != OOM_NONE;
	spin_unlock(&t->q->tasks.lock);
	return victim;
}

/* ---- the choice.  Under q->oom_lock ---- */

/* The machine cannot go on; as Linux's panic(), with the report before it. */
static void __attribute__((noreturn)) oom_panic(struct oom_control *oc, const char *why)
{
	oom_explain(oc);
	quire_log(oc->q, 0, "Kernel panic - not syncing: %s", why);
	port_panic(oc->q, why);
}

static void check_panic_on_oom(struct oom_control *oc)
{
	u32 how;

	spin_lock(&oc->q->lock);
	how = oc->q->oom.panic_on_oom;
	spin_unlock(&oc->q->lock);
	if (!how)
		return;
	oom_dump(oc);
	oom_panic(oc, how == 2 ? "Out of memory: compulsory panic_on_oom is enabled" :
				 "Out of memory: system-wide panic_on_oom is enabled");
}

/* vm.oom_kill_allocating_task: no search, if the caller may be killed. */
static bool choose_allocating_task(struct oom_control *oc)
{
	bool wanted;

	spin_lock(&oc->q->lock);
	wanted = oc->q->oom.kill_allocating_task;
	spin_unlock(&oc->q->lock);
	if (!wanted || !oc->self)
		return false;
	oc->points = oom_badness(oc->q, oc->self);
	if (oc->points == LONG_MIN)
		return false;
	oc->chosen = task_find_get(oc->q, oc->self->pid);
	oc->message = "Out of memory (oom_kill_allocating_task)";
	oc->for_asking = true;
	return oc->chosen;
}

/* Nobody may be killed.  0 = those who are dying may still bring something; a program that asks has nowhere to go. */
static int nobody_to_kill(struct oom_control *oc)
{
	u32 seen = wake_count(oc->q);

	if (victim_is_dying(oc->q, true)) {
		port_wait(&oc->q->oom_wake, seen, OOM_WAIT_NS);
		return 0;
	}
	/* A machine that thrashes at least moves. */
	if (!oc->self || is_thrashing(oc->q))
		return -ENOMEM;
	oom_dump(oc);
	quire_log(oc->q, 4, "Out of memory and no killable processes...");
	oom_panic(oc, "System is deadlocked on memory");
}

static int choose_and_kill(struct oom_control *oc)
{
	struct quire *q = oc->q;
	u64 scanned, stolen;

	/* The last chance: alone, and after all that was going on when the caller gave up. */
	oom_reclaim_counts(q, &scanned, &stolen);
	if (!is_thrashing(q) && try_to_free_pages(q, oc->gfp, oc->order))
		return 0;
	oom_reclaim_counts(q, &oc->last_scanned, &oc->last_stolen);
	oc->last_scanned -= scanned;
	oc->last_stolen -= stolen;
	check_panic_on_oom(oc);
	if (!choose_allocating_task(oc))
		oc->chosen = select_bad_process(q, &oc->points);
	if (!oc->chosen)
		return nobody_to_kill(oc);
	oom_dump(oc);
	oom_kill_process(oc);
	return is_victim(oc->self) ? -ENOMEM : 0;
}

void oom_reclaim_counts(struct quire *q, u64 *scanned, u64 *stolen)
{
	spin_lock(&q->lock);
	*scanned = q->vm_events[PGSCAN_KSWAPD] + q->vm_events[PGSCAN_DIRECT];
	*stolen = q->vm_events[PGSTEAL_KSWAPD] + q->vm_events[PGSTEAL_DIRECT];
	spin_unlock(&q->lock);
}

int out_of_memory(struct quire *q, gfp_t gfp, unsigned order)
{
	struct oom_control oc = { .q = q, .self = port_ctx()->task, .gfp = gfp, .order = order, .message = "Out of memory" };
	int err = 0;

	DEBUG_ON(in_transaction());
	if (is_victim(oc.self) || (port_ctx()->flags & CTX_RECLAIM) || order > OOM_COSTLY_ORDER)
		return -ENOMEM;
	if (mutex_trylock(&q->oom_lock)) {
		if (!victim_is_dying(q, false) && !memory_is_back(q, order))
			err = choose_and_kill(&oc);
		mutex_unlock(&q->oom_lock);
	} else {
		wait_a_moment(q);
	}
	if (!err)
		wait_for_memory(q, order);
	return is_victim(oc.self) ? -ENOMEM : err;
}
