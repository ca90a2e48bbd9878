/*
 * Leaving: thread exit, process exit, stops asked for by other threads, the end of the machine.
 *
 * A process with one thread gives its memory back itself (its own accesses are over, it never returns to the guest).  With
 * several threads the frames go only after the last one is gone: the supervisor sees the pidfd and tidies up, exactly
 * as after kill -9.
 */
#include "process.h"
#include "hostsys.h"
#include "native.h"
#include "revoke.h"
#include "guest_signal.h"
#include "x86_64/regs.h"
#include "../../mm/mm.h"

struct kproc kproc __attribute__((aligned(PAGE_SIZE)));

bool guest_exists(s32 pid)
{
	struct task *t = task_find_get(kthread()->ctx->q, pid);

	if (t)
		task_put(t);
	return t != NULL;
}

struct task *task_by_serial(struct quire *q, u64 serial)
{
	struct task *t;

	for (t = q->tasks.first; t && t->port_data[TASKP_SERIAL] != serial; t = t->next)
		;
	return t;
}

void doorbell_ring(void)
{
	struct machine_shared *m = shared_area();

	__atomic_add_fetch(&m->urgent, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&m->doorbell, 1, __ATOMIC_SEQ_CST);
	port_wake(&m->doorbell, 1);
}

void doorbell_ring_birth(void)
{
	struct machine_shared *m = shared_area();

	__atomic_add_fetch(&m->births, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_exchange_n(&m->bell_idle, 0, __ATOMIC_SEQ_CST))
		return; /* it looks again before it sleeps */
	__atomic_add_fetch(&m->doorbell, 1, __ATOMIC_SEQ_CST);
	port_wake(&m->doorbell, 1);
}

void vfork_done(struct task *task)
{
	struct machine_shared *m = shared_area();

	if (!task)
		return;
	spin_lock(&task->q->tasks.lock);
	task->port_data[TASKP_VFORK] = 1;
	spin_unlock(&task->q->tasks.lock);
	__atomic_add_fetch(&m->vfork_word, 1, __ATOMIC_SEQ_CST);
	port_wake(&m->vfork_word, ~0u >> 1);
}

/* The supervisor itself found that the machine cannot go on: there is nobody else to say so.  Its watchdog sees to the guests. */
static void __attribute__((noreturn)) supervisor_died(void)
{
	static const char lead[] = "quire: the machine had to end: ";
	const char *text = shared_area()->panic_text;

	host_call(__NR_write, 2, lead, sizeof(lead) - 1);
	host_call(__NR_write, 2, text, strlen(text));
	host_call(__NR_write, 2, "\n", 1);
	for (;;)
		host_call(__NR_exit_group, 125);
}

void machine_died(void)
{
	if (kthread()->ctx->flags & CTXF_SUPERVISOR)
		supervisor_died();
	for (;;)
		host_call(__NR_kill, host_call(__NR_getpid), SIG_KILL);
}

void kernel_oops(int sig, u64 ip, u64 addr)
{
	klog("kernel oops: signal %d at %#lx, address %#lx", sig, (unsigned long)ip, (unsigned long)addr);
	port_panic(kthread()->ctx->q, "the hosted kernel touched memory that it must not touch");
}

/* ---- what a thread leaves behind ---- */

static bool own_read(struct mm_struct *mm, u64 addr, void *to, size_t n)
{
	return !copy_from_user(to, addr, n);
}

static bool own_write(struct mm_struct *mm, u64 addr, const void *from, size_t n)
{
	return !copy_to_user(addr, from, n);
}

static void own_wake(struct mm_struct *mm, u64 futex)
{
	guest_futex_wake(futex, 1);
}

static void exit_robust_list(struct kthread *k)
{
	struct robust_walk w = {.tid = (u32)k->tid, .mm = kproc.mm, .read = own_read, .write = own_write, .wake = own_wake};

	robust_list_died(&w, k->guest_robust_head);
}

void thread_release_user(struct kthread *k)
{
	u32 zero = 0;

	exit_robust_list(k);
	k->guest_robust_head = 0;
	k->ctx->port_data[CTXP_ROBUST] = 0;
	if (k->clear_child_tid) {
		if (!copy_to_user(k->clear_child_tid, &zero, 4))
			guest_futex_wake(k->clear_child_tid, 1);
		k->clear_child_tid = 0;
	}
}

/* Leaves the address space; only then may others think that they are alone on it. */
static void leave_mm(struct kthread *k)
{
	/* No handler may look at the context once it is somebody else's.  A signal to the process goes to another thread. */
	signals_hold();
	signals_hand_back(k);
	ctx_leave_mm(k->ctx);
	__atomic_sub_fetch(&kproc.nthreads, 1, __ATOMIC_SEQ_CST);
	port_wake(&kproc.nthreads, ~0u >> 1);
}

/* Gives the context back and ends this host thread; the host clears the slot word when it is really gone.  Never the first
 * thread's: that may still be on the supervisor's list of newborns. */
static void __attribute__((noreturn)) thread_leave(struct kthread *k, int code)
{
	struct ctx *c = k->ctx;

	leave_mm(k);
	/* Our robust entry stays: until ctx_free() has committed we may die holding pool_lock, and afterwards the host finds our
	 * number in the life word only as long as the context is nobody else's. */
	ctx_free(c);
	for (;;)
		host_call(__NR_exit, code);
}

/* The first thread has ended, but another one that execs will need its number, which is the process's: it sleeps until then, or
 * until the process is over. */
static void first_thread_waits(struct kthread *k, struct ucontext_host *uc)
{
	leave_mm(k);
	while (!__atomic_load_n(&kproc.exec_stop, __ATOMIC_SEQ_CST))
		host_call(__NR_futex, &kproc.exec_stop, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL);
	__atomic_add_fetch(&kproc.nthreads, 1, __ATOMIC_SEQ_CST);
	signals_let(~SIGMASK_NEVER);
	exec_stop_point(k, uc);
}

long sys_exit_thread(struct trap *t, int code)
{
	struct kthread *k = t->k;

	signals_hold();
	signals_let(~SIGMASK_NEVER);
	/* Noted on the way here: it comes first, for nobody else would get it. */
	if (k->pending & PEND_SIGNAL)
		return -ERESTARTNOINTR;
	if (__atomic_sub_fetch(&kproc.nliving, 1, __ATOMIC_SEQ_CST) == 0)
		return sys_exit_group(t, code << 8 >> 8);
	thread_release_user(k);
	if (k->tid != kproc.pid)
		thread_leave(k, code);
	first_thread_waits(k, t->uc);
	return 0;
}

/* For --stats.  A process that is killed takes its own counts along. */
void process_stats_add(void)
{
	struct machine_shared *m = shared_area();
	u64 rss = kproc.mm ? kproc.mm->hiwater_rss : 0, seen = READ_ONCE(m->stat_peak_rss);

	if (kproc.mm)
		rss = MAX(rss, get_mm_rss(kproc.mm));
	__atomic_add_fetch(&m->stat_refills, kproc.stat_refills, __ATOMIC_RELAXED);
	__atomic_add_fetch(&m->stat_drops, kproc.stat_drops, __ATOMIC_RELAXED);
	kproc.stat_refills = kproc.stat_drops = 0;
	while (rss > seen && !__atomic_compare_exchange_n(&m->stat_peak_rss, &seen, rss, false, __ATOMIC_RELAXED,
							  __ATOMIC_RELAXED))
		;
}

/* The last thread: all of the process's memory goes back at once. */
static void process_release(struct kthread *k)
{
	struct task *task = kproc.task;
	struct ctx *c = k->ctx;

	if (kproc.vforked)
		vfork_done(task);
	ctx_leave_mm(c);
	kproc.mm = NULL;
	kproc.task = NULL;
	c->task = NULL;
	task_exit(task);
}

long sys_exit_group(struct trap *t, int code)
{
	struct kthread *k = t->k;

	process_stats_add();
	/* Not when the first thread is about to go on as another program: it is none of nthreads while it sleeps. */
	if (__atomic_load_n(&kproc.nthreads, __ATOMIC_SEQ_CST) == 1 && !__atomic_load_n(&kproc.exec_stop, __ATOMIC_SEQ_CST)) {
		thread_release_user(k);
		process_release(k);
	}
	for (;;)
		host_call(__NR_exit_group, code);
}

void thread_stop_point(struct kthread *k, struct ucontext_host *uc)
{
	k->pending &= ~PEND_STOP;
	if (shared_area()->ending)
		machine_died();
	if (kproc.exec_stop)
		exec_stop_point(k, uc);
}

void thread_end_for_exec(struct kthread *k)
{
	thread_release_user(k);
	thread_leave(k, 0);
}
