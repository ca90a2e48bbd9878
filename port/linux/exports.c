/*
 * The supervisor's side of the kernel: booting the machine, tidying up after dead processes, reading the log.
 */
#include "exports.h"
#include "hostsys.h"
#include "revoke.h"
#include "selftest.h"
#include "sup_control_views.h"
#include "fmt.h"
#include "../../mm/mm.h"
#include "../../reclaim/reclaim.h"
#include "../../swap/swap.h"

static long bind_supervisor(void)
{
	struct machine_shared *m = shared_area();
	struct kthread *k = kthread_alloc();
	struct ctx *c;

	if (!k)
		return -ENOMEM;
	/* The very first context: made by hand, because ctx_alloc() needs one to lock with. */
	c = ctx_by_id(1);
	c->id = 1;
	c->q = &m->q;
	c->state = CTX_KERNEL;
	c->flags = CTXF_SUPERVISOR;
	m->ctx_used = 1;
	k->ctx = c;
	kproc.pid = (s32)host_call(__NR_getpid);
	kthread_bind_light(k, c);
	c->port_data[CTXP_TGID] = (u64)kproc.pid;
	m->supervisor_ctx = 1;
	m->supervisor_pid = kproc.pid;
	return 0;
}

/* A context for the thread that will run kswapd; a thread without one cannot take the lock that this needs. */
static struct kthread *kswapd_thread;

static long prepare_kswapd(struct quire *q)
{
	struct kthread *k = kthread_alloc();
	struct ctx *c = k ? ctx_alloc(q, kproc.pid, process_serial_new()) : NULL;

	if (!c)
		return -ENOMEM;
	c->flags |= CTXF_SUPERVISOR;
	k->ctx = c;
	kswapd_thread = k;
	q->hooks.wake_kswapd = wake_kswapd;
	return 0;
}

static void kswapd(void)
{
	struct quire *q = &shared_area()->q;

	kthread_bind_light(kswapd_thread, kswapd_thread->ctx);
	for (;;)
		kswapd_once(q, ~0ull);
}

static long add_swap(struct quire *q, const struct machine_params *p)
{
	long ret = 0;

	for (u32 i = 0; i < p->nr_swap && !ret; i++) {
		const struct machine_swap *s = &p->swap[i];

		if (s->file)
			ret = swapon_device(q, s->name, "file", s->dev, s->pages, s->prio);
		else if (s->zstd)
			ret = swapon_zstd(q, s->name, s->zstd, s->pages, s->prio);
		else
			ret = swapon_compressed(q, s->name, s->pages, s->prio);
	}
	return ret;
}

static long machine_init(const struct machine_params *p)
{
	struct machine_shared *m = shared_area();
	struct quire_config cfg = {
		.memory = p->memory, .nr_cpus = p->nr_cpus, .seed = p->seed,
		.direct_map = (void *)(SHARED_BASE + RAM_OFFSET),
		.mem_map = (struct frame *)(SHARED_BASE + MEM_MAP_OFFSET),
		.overcommit_memory = p->overcommit, .overcommit_ratio = 50,
		.folio_max_order = p->folio_max_order, .max_map_count = 65530, .version = p->version,
		.vsyscall_flags = (p->vsyscall & 4 ? VM_READ : 0) | (p->vsyscall & 1 ? VM_EXEC : 0),
		.policy = p->policy ? reclaim_policy_by_name(p->policy) : NULL,
	};
	struct ctx *c;
	long ret;

	m->cpu_count = p->nr_cpus;
	m->seed_state = p->seed;
	m->ram_bytes = p->memory;
	m->options = (p->verbose ? OPT_VERBOSE : 0) | (p->aslr ? 0 : OPT_NO_ASLR) | (p->patch ? OPT_PATCH : 0) |
		     (p->host_huge ? OPT_HOST_HUGE : 0);
	patch_store_init();
	spin_lock_init(&m->pool_lock, LOCK_RANK_LEAF);
	ret = bind_supervisor();
	if (!ret)
		ret = quire_boot(&m->q, &cfg);
	if (!ret)
		ret = prepare_kswapd(&m->q);
	if (!ret)
		ret = add_swap(&m->q, p);
	if (ret)
		return ret;
	c = ctx_alloc(&m->q, 0, process_serial_new());
	m->first_ctx = c->id;
	m->magic = EXPORTS_MAGIC;
	return 0;
}

static bool next_newborn(u64 *serial, u32 *ctx_id)
{
	struct ctx *c = newborn_pop();

	if (!c)
		return false;
	*serial = c->port_data[CTXP_SERIAL];
	*ctx_id = c->id;
	return true;
}

static bool process_lives(u64 serial)
{
	struct ctx *c = NULL;

	while ((c = ctx_next_of(serial, c)))
		if (port_ctx_alive(c))
			return true;
	return false;
}

static enum newborn_state newborn_state(u64 serial, u32 ctx_id, s32 *pid)
{
	struct ctx *c = ctx_by_id(ctx_id);
	u64 birth = __atomic_load_n(&c->port_data[CTXP_BIRTH], __ATOMIC_SEQ_CST);

	*pid = birth ? BIRTH_PID(birth) : (s32)c->port_data[CTXP_TGID]; /* the first program was not forked */
	if (BIRTH_STATE(birth) == BIRTH_CANCELLED)
		return NEWBORN_GONE;
	if (*pid)
		return NEWBORN_WATCH;
	if (!process_lives(c->port_data[CTXP_PARENT]) && birth_change(c, serial, BIRTH_CANCELLED, 0)) {
		/* Should it exist after all and be stopped before its first step, nobody knows its number any more. */
		__atomic_store_n(&shared_area()->strays, 1, __ATOMIC_SEQ_CST);
		return NEWBORN_GONE;
	}
	return NEWBORN_WAIT;
}

/*
 * Robust futexes of a killed thread, through the page tables.  The wake goes to the frame's address in the direct map: for the host
 * that is the same (file, offset) as the guests' shared mappings of it.  (Futexes in mapped host files are not woken: CAVEATS.md.)
 */
static bool read_of(struct mm_struct *mm, u64 addr, void *to, size_t n)
{
	return access_process_vm(mm, addr, to, n, false) == (long)n;
}

static bool write_of(struct mm_struct *mm, u64 addr, const void *from, size_t n)
{
	return access_process_vm(mm, addr, (void *)from, n, true) == (long)n;
}

static void wake_of(struct mm_struct *mm, u64 futex)
{
	pte_t p;

	spin_lock(&mm->lock);
	p = pte_at(mm, futex);
	spin_unlock(&mm->lock);
	if (pte_valid(p))
		host_call(__NR_futex, SHARED_BASE + RAM_OFFSET + pte_addr(p) + (futex & (PAGE_SIZE - 1)), FUTEX_WAKE, 1);
}

static void walk_robust_list(struct ctx *dead, u32 tid)
{
	struct robust_walk w = {.tid = tid, .mm = dead->mm, .read = read_of, .write = write_of, .wake = wake_of};

	if (dead->mm)
		robust_list_died(&w, dead->port_data[CTXP_ROBUST]);
}

static void reap_ctx(struct ctx *dead)
{
	u32 tid = (u32)dead->port_data[CTXP_TID];

	__atomic_or_fetch(&dead->life, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
	ctx_recover_wait(dead);
	swapio_abandon(dead->q, dead->id);
	ctx_abandon(dead);
	walk_robust_list(dead, tid);
	/* Before its references go: in exec it has joined an address space that only such a reference keeps. */
	ctx_leave_mm(dead);
	mm_drop_held(dead);
	file_drop_held(dead);
	ctx_free(dead);
	shared_area()->stat_recoveries++;
}

static void reap(u64 serial)
{
	struct quire *q = &shared_area()->q;
	struct ctx *c = NULL;
	struct task *task;

	while ((c = ctx_next_of(serial, c)))
		reap_ctx(c);
	spin_lock(&q->tasks.lock);
	task = task_by_serial(q, serial);
	if (!task)
		task = task_find(q, -(s32)serial); /* its parent died before it could say more */
	spin_unlock(&q->tasks.lock);
	if (task) {
		vfork_done(task);
		task_exit(task);
	}
}

static size_t log_read(u64 *pos, char *buf, size_t size)
{
	struct fmt_buf b = fmt_init(buf, size);

	quire_log_read(&shared_area()->q, pos, &b);
	return fmt_stored(&b);
}

static s32 live_pid(u32 ctx_id)
{
	struct ctx *c;
	u64 birth;

	if (ctx_id > shared_area()->ctx_used)
		return -1;
	c = ctx_by_id(ctx_id);
	if (c->state == CTX_FREE || (c->flags & CTXF_SUPERVISOR) || !port_ctx_alive(c))
		return 0;
	birth = __atomic_load_n(&c->port_data[CTXP_BIRTH], __ATOMIC_SEQ_CST);
	/* A child of fork may have been stopped between any two of its first steps; its birth names it all along. */
	if (BIRTH_PID(birth))
		return BIRTH_PID(birth);
	return c->life > 1 ? (s32)c->port_data[CTXP_TGID] : 0; /* not bound: a thread to be; the others of its process are listed */
}

static bool strays(void)
{
	struct machine_shared *m = shared_area();
	u32 id;

	for (id = 1; id <= m->ctx_used; id++) {
		u64 birth = ctx_by_id(id)->port_data[CTXP_BIRTH];

		if (ctx_by_id(id)->state != CTX_FREE && BIRTH_STATE(birth) == BIRTH_EXPECTED && !BIRTH_PID(birth))
			return true;
	}
	return __atomic_load_n(&m->strays, __ATOMIC_SEQ_CST);
}

static bool check(void)
{
	struct quire *q = &shared_area()->q;

	bool swap_ok;

	spin_lock(&q->lock);
	swap_ok = swap_is_valid(q);
	spin_unlock(&q->lock);
	return swap_ok && phys_is_valid(q) && kmem_is_valid(q);
}

const struct kernel_exports kernel_exports = {
	.magic = EXPORTS_MAGIC,
	.machine_init = machine_init,
	.guest_start = guest_start,
	.kswapd = kswapd,
	.next_newborn = next_newborn,
	.newborn_state = newborn_state,
	.process_lives = process_lives,
	.reap = reap,
	.log_read = log_read,
	.live_pid = live_pid,
	.strays = strays,
	.proc_text = control_proc_text,
	.pids = control_pids,
	.translate = control_translate,
	.devmem_write = control_devmem_write,
	.join = control_join,
	.check = check,
#ifdef QUIRE_SELFTEST
	.selftest = &selftest_exports,
#endif
};
