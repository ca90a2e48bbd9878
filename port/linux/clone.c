/*
 * fork, vfork, clone, clone3.
 *
 * A guest process is a host process.  fork: the core copies the address space (copy-on-write), this process flushes what was
 * write-protected, then the host forks; the child inherits host mappings that agree with its copy.  What must not be
 * inherited (VM_DONTCOPY, pinned pages that were copied) stands in the child's own flush log.
 *
 * vfork and posix_spawn (CLONE_VM without CLONE_THREAD): the child is a host process of its own, with its own host
 * mappings, but on the *same* mm.  Both map the same frames, so they share memory exactly, and the child may exec or exit
 * without harm to the parent, which waits as Linux says.
 *
 * kproc.install is held across the host's fork: nobody maps or unmaps meanwhile.
 */
#include "process.h"
#include "hostsys.h"
#include "refill.h"
#include "revoke.h"
#include "guest_signal.h"
#include "x86_64/regs.h"
#include <linux/sched.h>

#define FORK_FLAGS_HOST (CLONE_PARENT | CLONE_PIDFD | CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_IO | 0xffull)
#define MAX_PID_NS_LEVEL 32u
#define NEWBORN_TRAPS 3u /* a child that only execs or ends makes so few: to count them would cost it a page */
#define CLONE_NEW_ANY (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
		       CLONE_NEWNET)

struct clone_request {
	u64 flags;       /* CLONE_*, without the exit signal */
	u64 exit_signal;
	u64 stack;       /* new stack pointer, 0 = the same */
	u64 ptid, ctid, tls, pidfd;
};

/* The child's first steps as a process of its own.  Runs on the copied trap stack. */
static void child_adopt(struct kthread *k, struct task *task, struct ctx *c, s32 pid, u64 flags)
{
	s32 parent = kproc.pid;

	/* Its own context first: until then port_ctx() would be the parent's.  The host knows the trap stack already. */
	kthread_bind_light(k, c);
	kproc.install = kproc.populating = 0;
	kproc.sig_lock = 0;
	kproc.pid = pid;
	kproc.task = task;
	kproc.mm = task->mm;
	kproc.nthreads = kproc.nliving = 1;
	kproc.stat_refills = kproc.stat_drops = 0;
	kproc.exec_stop = kproc.exec_busy = 0;
	anchors_forget_holders();
	kproc.ntimers = 0;
	kproc.newborn = NEWBORN_TRAPS;
	kproc.vforked = flags & CLONE_VFORK;
	if (!(flags & CLONE_VM))
		kproc.flushed = host_mm_of(task->mm)->base;
	k->pending = 0;
	k->pending_sig = 0;
	k->held_back = 0;
	k->requeued = 0;
	k->guest_robust_head = 0;
	c->port_data[CTXP_ROBUST] = 0;
	kthread_forget_others(k);
	c->port_data[CTXP_TGID] = (u64)pid;
	task_set_pid(task, pid);
	c->task = task;
	ctx_join_mm(c, task->mm);
	host_call(__NR_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	host_call(__NR_prctl, 1 /* PR_SET_PDEATHSIG */, SIG_PRIVATE, 0, 0, 0);
	doorbell_ring_birth();
	/* From here on we are told of our parent's death, which follows the supervisor's. */
	if (shared_area()->ending || (host_call(__NR_getppid) != parent && !port_ctx_alive(ctx_by_id(shared_area()->supervisor_ctx))))
		machine_died();
}

static void child_finish(struct trap *t, const struct clone_request *r)
{
	struct kthread *k = t->k;

	k->clear_child_tid = (r->flags & CLONE_CHILD_CLEARTID) ? r->ctid : 0;
	if (r->flags & CLONE_CHILD_SETTID)
		copy_to_user(r->ctid, &k->tid, 4);
	if (r->flags & CLONE_SETTLS)
		host_call(__NR_arch_prctl, 0x1002 /* ARCH_SET_FS */, r->tls);
	if (r->stack)
		t->uc->r.sp = r->stack;
	if (r->flags & CLONE_CLEAR_SIGHAND)
		signals_exec_reset(k);
	if ((r->flags & CLONE_VM) && !(r->flags & CLONE_VFORK)) {
		k->alt_sp = k->alt_size = 0;
		k->alt_flags = SS_DISABLE_;
	}
}

#define HOT_RANGES 20u        /* pins taken for them: dup_mm() asks for each page whether it is in one */
#define HOT_AGAIN 64u         /* forks after which the guesses begin anew */
#define HOT_FAULTS FORK_HOT   /* write faults after a fork that are noted */

/* In order, so that neighbours become one range; 0 = none, first. */
static void hot_sorted(const u64 *hot, u64 *to)
{
	u32 i, j;

	for (i = 0; i < FORK_HOT; i++) {
		u64 page = READ_ONCE(hot[i]);

		for (j = i; j > 0 && to[j - 1] > page; j--)
			to[j] = to[j - 1];
		to[j] = page;
	}
}

/*
 * What parent and child write to at once after a fork is copied by the fork itself: a copy costs less than two faults.  Such a page is
 * pinned, and what is pinned the core copies (mm/fork.c).  Only without other threads, which could write meanwhile.
 */
static struct mm_struct *dup_mm_hot(void)
{
	u64 *hot = host_mm_of(kproc.mm)->hot, pages[FORK_HOT];
	struct ctx *c = kthread()->ctx;
	struct mm_struct *mm;
	u32 i, had = c->npins;

	hot_sorted(hot, pages);
	for (i = 0; i < FORK_HOT && c->npins < had + HOT_RANGES && READ_ONCE(kproc.nthreads) == 1; i++) {
		u64 page = pages[i];

		if (!page || page >= GUEST_END)
			continue;
		if (c->npins > had && c->pins[c->npins - 1].end == page)
			c->pins[c->npins - 1].end += PAGE_SIZE;
		else if (pin_add(c, page, page + PAGE_SIZE))
			break;
	}
	mm = dup_mm(kproc.mm);
	WRITE_ONCE(c->npins, had);
	if (++kproc.forks % HOT_AGAIN == 0)
		for (i = 0; i < FORK_HOT; i++)
			hot[i] = 0;
	kproc.fork_hot = hot;
	kproc.fork_faults = HOT_FAULTS;
	return mm;
}

/* The address space of the child: shared, or a copy.  Consumes no reference on failure. */
static struct mm_struct *child_mm(bool share)
{
	if (share) {
		mmget(kproc.mm);
		return kproc.mm;
	}
	return dup_mm_hot();
}

/* Whoever is told the child's number may use it at once, also before the child ran. */
static void task_number(u64 serial, s32 pid)
{
	struct quire *q = kthread()->ctx->q;
	struct task *task;

	spin_lock(&q->tasks.lock);
	task = task_by_serial(q, serial);
	if (task && task->pid != pid)
		task_set_pid_locked(task, pid);
	spin_unlock(&q->tasks.lock);
}

struct birth {
	struct task *task;
	struct ctx *ctx;
	u64 serial;
};

/* The memory comes back now, the context by the supervisor, to whom it was announced. */
static void birth_undo(struct birth *b)
{
	if (b->task)
		task_exit(b->task);
	birth_change(b->ctx, b->serial, BIRTH_CANCELLED, 0);
	doorbell_ring_birth();
}

/* Everything the child needs from the core, made before it exists. */
static long birth_prepare(struct birth *b, bool share)
{
	struct quire *q = kthread()->ctx->q;
	struct mm_struct *mm;

	b->serial = process_serial_new();
	b->ctx = ctx_alloc_child(q, b->serial, kthread()->ctx->port_data[CTXP_SERIAL]);
	if (!b->ctx)
		return -EAGAIN;
	b->task = task_create(q, -(s32)b->serial, kproc.pid, kproc.task->comm);
	mm = b->task ? child_mm(share) : ERR_PTR(-ENOMEM);
	if (!b->task || IS_ERR(mm)) {
		birth_undo(b);
		return b->task ? PTR_ERR(mm) : -ENOMEM;
	}
	b->task->oom_score_adj = kproc.task->oom_score_adj;
	b->task->oom_score_adj_min = kproc.task->oom_score_adj_min;
	b->task->personality = kproc.task->personality;
	b->task->uid = kproc.task->uid;
	b->task->port_data[TASKP_SERIAL] = b->serial;
	b->task->port_data[TASKP_VFORK] = 0;
	task_set_mm(b->task, mm);
	return 0;
}

/* vfork: until the child has left our address space.  Only death ends the wait early. */
static void wait_for_vfork(struct ctx *child, struct task *task, u64 serial)
{
	struct quire *q = kthread()->ctx->q;

	for (;;) {
		bool done;

		spin_lock(&q->tasks.lock);
		done = !task_by_serial(q, serial) || task->port_data[TASKP_VFORK];
		spin_unlock(&q->tasks.lock);
		if (done || shared_area()->ending || kproc.exec_stop)
			return;
		port_wait(&shared_area()->vfork_word, READ_ONCE(shared_area()->vfork_word), 20000000);
	}
}

static long do_fork(struct trap *t, const struct clone_request *r)
{
	bool share = r->flags & CLONE_VM;
	struct kthread *k = t->k;
	struct birth b;
	int pidfd = -1;
	long ret, pid;
	u64 mark, mask;

	if (r->flags & CLONE_PIDFD) {
		ret = copy_to_user(r->pidfd, &pidfd, 4);
		if (ret)
			return ret;
	}
	if (share && !(r->flags & CLONE_VFORK))
		WRITE_ONCE(host_mm_of(kproc.mm)->many, 1);
	mark = installs_mark();
	ret = birth_prepare(&b, share);
	if (ret)
		return ret;
	install_lock();
	host_tlb_flush();
	/* No signal before the child is somebody: what it notes till then would be its parent's. */
	mask = signals_hold();
	pid = host_call(__NR_clone, (r->flags & FORK_FLAGS_HOST) | r->exit_signal, 0, &pidfd, 0, 0);
	if (pid == 0) {
		pid = host_call(__NR_getpid);
		/* The context is ours only if the supervisor has not given us up. */
		if (!birth_change(b.ctx, b.serial, BIRTH_BORN, (s32)pid))
			machine_died();
		child_adopt(k, b.task, b.ctx, (s32)pid, r->flags);
		signals_let(~SIGMASK_NEVER);
		if (!share)
			installs_undo(mark);
		child_finish(t, r);
		return 0;
	}
	signals_let(mask);
	install_unlock();
	if (pid < 0) {
		birth_undo(&b);
		return pid;
	}
	birth_change(b.ctx, b.serial, BIRTH_EXPECTED, (s32)pid); /* it may die before it says so itself */
	task_number(b.serial, (s32)pid);
	if (r->flags & CLONE_PARENT_SETTID)
		copy_to_user(r->ptid, &pid, 4);
	if (r->flags & CLONE_PIDFD)
		copy_to_user(r->pidfd, &pidfd, 4);
	if (r->flags & CLONE_VFORK)
		wait_for_vfork(b.ctx, b.task, b.serial);
	return pid;
}

/* ---- threads ---- */

struct thread_start {
	struct kthread *k;
	struct ctx *ctx;
	struct ucontext_host *uc;
};

/* First instructions of a new host thread: on its own trap stack, gs still the parent's. */
static void thread_begin(void *arg)
{
	struct thread_start *s = arg;
	struct kthread *k = s->k;
	struct ucontext_host *uc = s->uc;

	kthread_bind(k, s->ctx);
	signals_let(~SIGMASK_NEVER); /* the others after the exit path, as the guest has it */
	s->ctx->task = kproc.task;
	ctx_join_mm(s->ctx, kproc.mm);
	if (k->set_child_tid)
		copy_to_user(k->set_child_tid, &k->tid, 4);
	exit_work(uc);
	call_restorer(uc);
}

/* A copy of the parent's signal frame on the new trap stack, for the new thread to return through.  The FP state is
 * copied to a 64-byte boundary (XSAVE), and the alternate stack that sigreturn reinstates is the new one. */
static struct ucontext_host *copy_frame(struct kthread *k, const struct ucontext_host *from)
{
	const u8 *fp = (const u8 *)from->r.fpstate;
	u32 fp_size = fp ? fpstate_size(fp) : 0;
	u64 top = (u64)kthread_stack_top(k) - 256;
	u64 fp_at = ALIGN_DOWN(top - fp_size, 64);
	struct ucontext_host *uc = (void *)(ALIGN_DOWN(fp_at - sizeof(*uc) - 512, 64));

	*uc = *from;
	if (fp)
		memcpy((void *)fp_at, fp, fp_size);
	uc->r.fpstate = fp ? fp_at : 0;
	uc->stack = (struct stack_host){ .sp = (u64)(k + 1), .size = TRAP_SLOT_SIZE - sizeof(*k) };
	return uc;
}

static long do_thread(struct trap *t, const struct clone_request *r)
{
	struct ctx *me = t->k->ctx, *c;
	struct thread_start *s;
	struct kthread *k;
	u64 *stack, parent_settid = 0, mask;
	long tid;

	k = kthread_alloc();
	c = k ? ctx_alloc(me->q, kproc.pid, me->port_data[CTXP_SERIAL]) : NULL;
	if (!c) {
		if (k)
			kthread_free(k);
		return -EAGAIN;
	}
	s = (struct thread_start *)(k + 1); /* below the stack's reach at this time */
	s->k = k;
	s->ctx = c;
	s->uc = copy_frame(k, t->uc);
	s->uc->r.ax = 0;
	s->uc->r.sp = r->stack ? r->stack : t->uc->r.sp;
	k->vmask = t->k->vmask;
	k->alt_flags = SS_DISABLE_;
	k->set_child_tid = (r->flags & CLONE_CHILD_SETTID) ? r->ctid : 0;
	k->clear_child_tid = (r->flags & CLONE_CHILD_CLEARTID) ? r->ctid : 0;
	/* The host itself stores the number, before the thread runs: it may have ended, and cleared the word, before we return. */
	if ((r->flags & CLONE_PARENT_SETTID) && user_pin(r->ptid, 4, true) == 0)
		parent_settid = CLONE_PARENT_SETTID;
	__atomic_add_fetch(&kproc.nthreads, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&kproc.nliving, 1, __ATOMIC_SEQ_CST);
	stack = (u64 *)ALIGN_DOWN((u64)s->uc - 64, 64);
	stack[-1] = (u64)s;
	mask = signals_hold(); /* its gs is ours until it has its own: no signal may find it so */
	tid = host_clone_thread(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
				CLONE_CHILD_CLEARTID | parent_settid | (r->flags & CLONE_SETTLS),
				stack, (u32 *)r->ptid, kthread_slot_word(k), r->tls, thread_begin);
	signals_let(mask);
	user_unpin_all();
	if (tid < 0) {
		__atomic_sub_fetch(&kproc.nthreads, 1, __ATOMIC_SEQ_CST);
		__atomic_sub_fetch(&kproc.nliving, 1, __ATOMIC_SEQ_CST);
		ctx_free(c);
		kthread_free(k);
	}
	return tid;
}

static long do_clone(struct trap *t, const struct clone_request *r)
{
	if (r->flags & CLONE_THREAD) {
		if (!(r->flags & CLONE_SIGHAND) || !(r->flags & CLONE_VM))
			return -EINVAL;
		return do_thread(t, r);
	}
	if (((r->flags & CLONE_FS) && (r->flags & (CLONE_NEWNS | CLONE_NEWUSER))) || ((r->flags & CLONE_SIGHAND) && !(r->flags & CLONE_VM)))
		return -EINVAL;
	if (r->flags & CLONE_NEW_ANY) {
		klog("clone with new namespaces is not supported");
		return -EPERM;
	}
	return do_fork(t, r);
}

long sys_clone(struct trap *t, u64 flags, u64 stack, u64 ptid, u64 ctid, u64 tls)
{
	struct clone_request r = { .flags = flags & ~0xffull, .exit_signal = flags & 0xff, .stack = stack,
				   .ptid = ptid, .ctid = ctid, .tls = tls, .pidfd = ptid };

	if ((flags & CLONE_PIDFD) && (flags & CLONE_PARENT_SETTID))
		return -EINVAL;
	return do_clone(t, &r);
}

/* A longer structure than ours may hold nothing but zeros beyond it (copy_struct_from_user). */
static long copy_clone_args(struct clone_args *ca, u64 args, u64 size)
{
	u64 at;
	u8 rest;

	if (size > PAGE_SIZE)
		return -E2BIG;
	if (size < CLONE_ARGS_SIZE_VER0)
		return -EINVAL;
	for (at = sizeof(*ca); at < size; at++) {
		if (copy_from_user(&rest, args + at, 1))
			return -EFAULT;
		if (rest)
			return -E2BIG;
	}
	memset(ca, 0, sizeof(*ca));
	return copy_from_user(ca, args, MIN(size, sizeof(*ca))) ? -EFAULT : 0;
}

/* What clone(2) says of clone3's arguments, in Linux's order. */
static long check_clone3(const struct clone_args *ca, u64 size)
{
	u64 known = 0xffffffffull | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
	bool bad_stack = (ca->stack == 0) != (ca->stack_size == 0) || ca->stack > GUEST_END ||
			 ca->stack_size > GUEST_END - ca->stack;

	if (ca->set_tid_size > MAX_PID_NS_LEVEL || (ca->set_tid == 0) != (ca->set_tid_size == 0) || ca->exit_signal > NSIG)
		return -EINVAL;
	if ((ca->flags & CLONE_INTO_CGROUP) && (ca->cgroup > INT_MAX || size < CLONE_ARGS_SIZE_VER2))
		return -EINVAL;
	if ((ca->flags & ~known) || (ca->flags & (CLONE_DETACHED | (CSIGNAL & ~CLONE_NEWTIME))) || bad_stack)
		return -EINVAL;
	if ((ca->flags & CLONE_SIGHAND) && (ca->flags & CLONE_CLEAR_SIGHAND))
		return -EINVAL;
	if ((ca->flags & (CLONE_THREAD | CLONE_PARENT)) && ca->exit_signal)
		return -EINVAL;
	/* Not supported: chosen numbers, control groups, clocks of their own. */
	return ca->set_tid_size || (ca->flags & (CLONE_INTO_CGROUP | CLONE_NEWTIME)) ? -EPERM : 0;
}

long sys_clone3(struct trap *t, u64 args, u64 size)
{
	struct clone_args ca;
	struct clone_request r;
	long ret = copy_clone_args(&ca, args, size);

	if (!ret)
		ret = check_clone3(&ca, size);
	if (ret)
		return ret;
	r = (struct clone_request){ .flags = ca.flags, .exit_signal = ca.exit_signal & 0xff,
				    .stack = ca.stack + ca.stack_size, .ptid = ca.parent_tid, .ctid = ca.child_tid,
				    .tls = ca.tls, .pidfd = ca.pidfd };
	return do_clone(t, &r);
}

long sys_vfork(struct trap *t)
{
	struct clone_request r = { .flags = CLONE_VM | CLONE_VFORK, .exit_signal = 17 /* SIGCHLD */ };

	return do_clone(t, &r);
}
