/*
 * The OOM killer: when reclaim finds nothing, somebody's memory must go.
 *
 * One at a time (q->oom_lock, a mutex); who comes while another is at it waits a moment and tries its allocation
 * again.  A victim that is still dying is waited for, not doubled; one that has not died after OOM_GIVE_UP_NS
 * (stopped by a debugger, say) is passed over.  Every wait is bounded, so a machine without memory makes
 * progress, kills, or returns -ENOMEM.
 *
 * Points, selection and report follow Linux (mm/oom_kill.c) so that what people know and what their log
 * parsers expect holds: rss + swap + page tables in pages, plus oom_score_adj thousandths of all memory.
 *
 * Locks: called under none.  Tasks are walked by pid with a reference each; every mm is read in one short
 * transaction.
 */
#include "reclaim.h"

#define OOM_WAIT_NS 50000000ull       /* one wait for a victim's memory */
#define OOM_BUSY_NS 2000000ull        /* one wait for somebody else's choice */
#define OOM_WAITS 20                  /* at most this many, then the caller tries its luck */
#define OOM_GIVE_UP_NS 5000000000ull
#define OOM_SCORE_ADJ_MIN (-1000)
#define SIGKILL_NR 9

static unsigned long kib(u64 pages)
{
	return (unsigned long)(pages << (PAGE_SHIFT - 10));
}

static long points_of(struct quire *q, const struct mm_usage *u, s32 adj)
{
	long points = (long)(u->rss + u->swap + u->pgtables_bytes / PAGE_SIZE);

	return points + (long)adj * ((long)totalram_pages(q) / 1000);
}

/* May the task be killed at all?  Then also its adjustment. */
static bool killable(struct quire *q, struct task *t, s32 *adj)
{
	bool ok;

	spin_lock(&q->tasks.lock);
	*adj = t->oom_score_adj;
	ok = *adj > OOM_SCORE_ADJ_MIN && t->oom_victim != OOM_GIVEN_UP;
	spin_unlock(&q->tasks.lock);
	return ok;
}

/* LONG_MIN for tasks that cannot be killed; else fills *u. */
static long badness(struct quire *q, struct task *t, struct mm_usage *u)
{
	struct mm_struct *mm;
	s32 adj;

	if (!killable(q, t, &adj))
		return LONG_MIN;
	mm = task_get_mm(t);
	if (!mm)
		return LONG_MIN;
	mm_usage_get(mm, u);
	mmput(mm);
	return points_of(q, u, adj);
}

long oom_badness(struct quire *q, struct task *t)
{
	struct mm_usage u;

	return badness(q, t, &u);
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

static bool victim_is_dying(struct quire *q)
{
	bool found;

	spin_lock(&q->tasks.lock);
	found = port_clock_ns() - q->tasks.exit_ns < OOM_GIVE_UP_NS && mm_is_going(q);
	for (struct task *t = q->tasks.first; t && !found; t = t->next)
		found = still_dying_locked(t);
	spin_unlock(&q->tasks.lock);
	return found;
}

/* A frame can be had again: somebody freed enough meanwhile. */
static bool memory_is_back(struct quire *q, unsigned order)
{
	bool ok;

	spin_lock(&q->lock);
	ok = phys_balanced(q, order, WMARK_LOW, ZONE_NORMAL);
	spin_unlock(&q->lock);
	return ok;
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
	for (int i = 0; i < OOM_WAITS; i++) {
		u32 seen = wake_count(q);

		if (memory_is_back(q, order) || !victim_is_dying(q))
			return;
		port_wait(&q->oom_wake, seen, OOM_WAIT_NS);
	}
}

/* ---- the report ---- */

static void dump_header(struct quire *q, const char *comm, s32 adj, gfp_t gfp, unsigned order)
{
	char flags[160];

	quire_log(q, 4, "%s invoked oom-killer: gfp_mask=%#x(%s), order=%u, oom_score_adj=%d", comm, gfp,
		  gfp_flags_string(gfp, flags, sizeof(flags)), order, adj);
	show_mem(q);
}

static void dump_task(struct quire *q, struct task *t)
{
	struct mm_struct *mm = task_get_mm(t);
	struct mm_usage u;

	if (!mm)
		return;
	mm_usage_get(mm, &u);
	mmput(mm);
	quire_log(q, 6, "[%7d] %5u %5d %8lu %8lu %8lu %8lu %9lu %8ld %8lu         %5d %s", t->pid, t->uid, t->pid,
		  (unsigned long)u.total_vm, (unsigned long)u.rss, (unsigned long)u.anon, (unsigned long)u.file,
		  (unsigned long)u.shmem, (long)u.pgtables_bytes, (unsigned long)u.swap, t->oom_score_adj, t->comm);
}

static void dump_tasks(struct quire *q)
{
	struct task *t;
	s32 pid = -1;

	quire_log(q, 6, "Tasks state (memory values in pages):");
	quire_log(q, 6, "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents "
			"oom_score_adj name");
	while ((t = task_next_get(q, pid))) {
		pid = t->pid;
		dump_task(q, t);
		task_put(t);
	}
}

static void dump_kill(struct quire *q, struct task *t, const struct mm_usage *u)
{
	quire_log(q, 6, "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
			"task_memcg=/,task=%s,pid=%d,uid=%u", t->comm, t->pid, t->uid);
	quire_log(q, 3, "Out of memory: Killed process %d (%s) total-vm:%lukB, anon-rss:%lukB, file-rss:%lukB, "
			"shmem-rss:%lukB, UID:%u pgtables:%lukB oom_score_adj:%d", t->pid, t->comm, kib(u->total_vm),
		  kib(u->anon), kib(u->file), kib(u->shmem), t->uid, (unsigned long)(u->pgtables_bytes >> 10),
		  t->oom_score_adj);
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

static void oom_kill_process(struct quire *q, struct task *t)
{
	struct mm_struct *mm = task_get_mm(t);
	struct mm_usage u;

	if (!mm)
		return;
	mm_usage_get(mm, &u);
	mark_victim(t);
	dump_kill(q, t, &u);
	host_kill(q, t, SIGKILL_NR);
	kill_sharers(q, t, mm);
	mmput(mm);
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

/* Under q->oom_lock. */
static int choose_and_kill(struct quire *q, struct task *self, gfp_t gfp, unsigned order)
{
	struct task *t;
	long points;

	/* The last chance: alone, and after all that was going on when the caller gave up. */
	if (try_to_free_pages(q, gfp, order))
		return 0;
	t = select_bad_process(q, &points);
	dump_header(q, self ? self->comm : "kernel", self ? self->oom_score_adj : 0, gfp, order);
	dump_tasks(q);
	if (!t) {
		quire_log(q, 4, "Out of memory and no killable processes...");
		return -ENOMEM;
	}
	oom_kill_process(q, t);
	task_put(t);
	return is_victim(self) ? -ENOMEM : 0;
}

int out_of_memory(struct quire *q, gfp_t gfp, unsigned order)
{
	struct task *self = port_ctx()->task;
	int err = 0;

	DEBUG_ON(in_transaction());
	if (is_victim(self) || (port_ctx()->flags & CTX_RECLAIM))
		return -ENOMEM;
	/* A large block that cannot be had is no reason to kill: the caller can do without. */
	if (order > 3)
		return -ENOMEM;
	if (mutex_trylock(&q->oom_lock)) {
		if (!victim_is_dying(q) && !memory_is_back(q, order))
			err = choose_and_kill(q, self, gfp, order);
		mutex_unlock(&q->oom_lock);
	} else {
		wait_a_moment(q);
	}
	if (!err)
		wait_for_memory(q, order);
	return is_victim(self) ? -ENOMEM : err;
}
