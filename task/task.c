/*
 * The task table: every process of a machine, by pid.
 *
 * A task is in the table from task_create() to task_exit().  The table owns one reference; whoever keeps a
 * task across an unlock takes another (task_find_get, task_next_get), so that a killer or a reader of /proc
 * never holds a freed record.  An address space is reached from outside only through task_get_mm().
 *
 * Invariant: t is on the list and in its hash chain exactly while t->state != TASK_DEAD.
 * Locks: q->tasks.lock for everything here, the reference counts too.  mmput() and the slab are called
 * after unlocking, so that exit_mmap never runs under the table's lock.
 */
#include <quire/machine.h>

static struct task **hash_slot(struct task_table *tt, s32 pid)
{
	return &tt->hash[(u32)pid % TASK_HASH_BUCKETS];
}

struct task *task_find(struct quire *q, s32 pid)
{
	struct task *t;

	lockdep_assert_held(&q->tasks.lock);
	for (t = *hash_slot(&q->tasks, pid); t; t = t->hash_next) {
		if (t->pid == pid)
			return t;
	}
	return NULL;
}

static void table_insert(struct task_table *tt, struct task *t)
{
	struct task **slot = hash_slot(tt, t->pid);

	t->hash_next = *slot;
	*slot = t;
	t->next = tt->first;
	if (tt->first)
		tt->first->prev = t;
	tt->first = t;
	tt->nr++;
	tt->total_forks++;
	tt->last_pid = (u32)t->pid;
}

static void table_remove(struct task_table *tt, struct task *t)
{
	struct task **slot = hash_slot(tt, t->pid);

	while (*slot != t)
		slot = &(*slot)->hash_next;
	*slot = t->hash_next;
	if (t->next)
		t->next->prev = t->prev;
	if (t->prev)
		t->prev->next = t->next;
	else
		tt->first = t->next;
	t->next = t->prev = t->hash_next = NULL;
	tt->nr--;
}

/* Under q->tasks.lock. */
static void set_comm_locked(struct task *t, const char *comm)
{
	size_t n = MIN(strlen(comm), (size_t)TASK_COMM_LEN - 1);

	memset(t->comm, 0, sizeof(t->comm));
	memcpy(t->comm, comm, n);
}

struct task *task_create(struct quire *q, s32 pid, s32 ppid, const char *comm)
{
	struct task *t = kmem_cache_alloc(q, q->task_cache, GFP_KERNEL | __GFP_ZERO);
	bool clash;

	if (!t)
		return NULL;
	t->q = q;
	t->pid = pid;
	t->ppid = ppid;
	t->nr_threads = 1;
	t->refcount = 1;
	t->start_ns = port_clock_ns();
	spin_lock(&q->tasks.lock);
	set_comm_locked(t, comm);
	clash = task_find(q, pid);
	if (!clash)
		table_insert(&q->tasks, t);
	spin_unlock(&q->tasks.lock);
	if (clash) {
		quire_log(q, 3, "task_create: pid %d exists already", pid);
		kmem_cache_free(q, q->task_cache, t);
		return NULL;
	}
	return t;
}

void task_put(struct task *t)
{
	struct quire *q = t->q;
	bool last;

	spin_lock(&q->tasks.lock);
	last = --t->refcount == 0;
	spin_unlock(&q->tasks.lock);
	if (last)
		kmem_cache_free(q, q->task_cache, t);
}

/* Its memory is back: those who wait for that may look again. */
static void exit_done(struct quire *q)
{
	spin_lock(&q->tasks.lock);
	q->oom_wake++;
	spin_unlock(&q->tasks.lock);
	port_wake(&q->oom_wake, ~0u);
}

/* The task's reference becomes ours.  Under q->tasks.lock. */
static struct mm_struct *task_take_mm(struct task *t)
{
	struct mm_struct *mm = t->mm;

	if (mm) {
		spin_lock(&t->q->lock);
		mm_hold(mm);
		spin_unlock(&t->q->lock);
	}
	t->mm = NULL;
	return mm;
}

void task_exit(struct task *t)
{
	struct quire *q = t->q;
	struct mm_struct *mm;

	spin_lock(&q->tasks.lock);
	mm = task_take_mm(t);
	q->tasks.exit_ns = port_clock_ns();
	if (t->state != TASK_DEAD) {
		t->state = TASK_DEAD;
		table_remove(&q->tasks, t);
	}
	spin_unlock(&q->tasks.lock);
	if (mm)
		mmput(mm);
	exit_done(q);
	task_put(t);
}

void task_set_mm(struct task *t, struct mm_struct *mm)
{
	struct mm_struct *old;

	spin_lock(&t->q->tasks.lock);
	old = task_take_mm(t);
	t->mm = mm;
	if (mm) {
		spin_lock(&t->q->lock);
		mm_unhold(mm); /* our reference is the task's now */
		spin_unlock(&t->q->lock);
	}
	if (t->state == TASK_EMBRYO && mm)
		t->state = TASK_RUNNING;
	if (mm)
		mm->oom_score_adj = t->oom_score_adj;
	if (mm && old)
		mm->mdwe = mm_inherited_mdwe(old);
	spin_unlock(&t->q->tasks.lock);
	if (old)
		mmput(old);
}

void task_set_pid_locked(struct task *t, s32 pid)
{
	struct task_table *tt = &t->q->tasks;
	struct task **slot;

	lockdep_assert_held(&tt->lock);
	for (slot = hash_slot(tt, t->pid); *slot != t; slot = &(*slot)->hash_next)
		;
	*slot = t->hash_next;
	t->pid = pid;
	slot = hash_slot(tt, pid);
	t->hash_next = *slot;
	*slot = t;
	tt->last_pid = (u32)pid;
}

void task_set_pid(struct task *t, s32 pid)
{
	spin_lock(&t->q->tasks.lock);
	task_set_pid_locked(t, pid);
	spin_unlock(&t->q->tasks.lock);
}

void task_set_comm(struct task *t, const char *comm)
{
	spin_lock(&t->q->tasks.lock);
	set_comm_locked(t, comm);
	spin_unlock(&t->q->tasks.lock);
}

struct task *task_find_get(struct quire *q, s32 pid)
{
	struct task *t;

	spin_lock(&q->tasks.lock);
	t = task_find(q, pid);
	if (t)
		t->refcount++;
	spin_unlock(&q->tasks.lock);
	return t;
}

struct task *task_next_get(struct quire *q, s32 pid)
{
	struct task *t, *best = NULL;

	spin_lock(&q->tasks.lock);
	for (t = q->tasks.first; t; t = t->next) {
		if (t->pid > pid && (!best || t->pid < best->pid))
			best = t;
	}
	if (best)
		best->refcount++;
	spin_unlock(&q->tasks.lock);
	return best;
}

struct mm_struct *task_get_mm(struct task *t)
{
	struct mm_struct *mm;

	/* mmget() takes q->lock, which nests inside the table's lock. */
	spin_lock(&t->q->tasks.lock);
	mm = t->mm;
	if (mm)
		mmget(mm);
	spin_unlock(&t->q->tasks.lock);
	return mm;
}
