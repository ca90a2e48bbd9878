/*
 * /proc/PID: status, statm, stat, oom_score, oom_score_adj, auxv.
 *
 * Figures come from one snapshot of the address space (reclaim/usage.c) and one of the task, each in a short
 * transaction.  What only the port can know (signals, CPU times, terminals, groups) is printed as 0 or left out; the
 * hosted port takes those lines from its host and the memory lines from here.
 * Locks: q->tasks.lock for the task's fields, mm->lock through mm_usage_get().
 */
#include <mm/mm.h>
#include <reclaim/reclaim.h>
#include "proc.h"

#define OOM_SCORE_ADJ_MAX 1000

/* A task's fields at one moment. */
struct task_view {
	char comm[TASK_COMM_LEN];
	s32 pid, ppid, oom_score_adj;
	u32 state, uid, nr_threads;
	u64 start_ns;
};

static struct task_view view_of(struct task *t)
{
	struct task_view v;

	spin_lock(&t->q->tasks.lock);
	memcpy(v.comm, t->comm, sizeof(v.comm));
	v.pid = t->pid;
	v.ppid = t->ppid;
	v.oom_score_adj = t->oom_score_adj;
	v.state = t->state;
	v.uid = t->uid;
	v.nr_threads = t->nr_threads;
	v.start_ns = t->start_ns;
	spin_unlock(&t->q->tasks.lock);
	return v;
}

/* False after exit; then *u is all zero. */
static bool usage_of(struct task *t, struct mm_usage *u)
{
	struct mm_struct *mm = task_get_mm(t);

	memset(u, 0, sizeof(*u));
	if (!mm)
		return false;
	mm_usage_get(mm, u);
	mmput(mm);
	return true;
}

static char state_letter(const struct task_view *v)
{
	return v->state == TASK_ZOMBIE ? 'Z' : v->state == TASK_DEAD ? 'X' : 'R';
}

static void line_kb(struct fmt_buf *out, const char *name, u64 bytes)
{
	fmt_printf(out, "%s:\t%8lu kB\n", name, (unsigned long)(bytes >> 10));
}

static void line(struct fmt_buf *out, const char *name, u64 pages)
{
	line_kb(out, name, pages << PAGE_SHIFT);
}

/* The program's own code, and all other executable mappings. */
static u64 text_bytes(const struct mm_usage *u)
{
	u64 text = PAGE_ALIGN(u->end_code) - ALIGN_DOWN(u->start_code, PAGE_SIZE);

	return MIN(text, u->exec_vm << PAGE_SHIFT);
}

static void put_vm(struct fmt_buf *out, const struct mm_usage *u)
{
	line(out, "VmPeak", u->hiwater_vm);
	line(out, "VmSize", u->total_vm);
	line(out, "VmLck", u->locked_vm);
	line(out, "VmPin", u->pinned_vm);
	line(out, "VmHWM", u->hiwater_rss);
	line(out, "VmRSS", u->rss);
	line(out, "RssAnon", u->anon);
	line(out, "RssFile", u->file);
	line(out, "RssShmem", u->shmem);
	line(out, "VmData", u->data_vm);
	line(out, "VmStk", u->stack_vm);
	line_kb(out, "VmExe", text_bytes(u));
	line_kb(out, "VmLib", (u->exec_vm << PAGE_SHIFT) - text_bytes(u));
	line_kb(out, "VmPTE", u->pgtables_bytes);
	line(out, "VmSwap", u->swap);
}

void proc_status_vm(struct quire *q, struct mm_struct *mm, struct fmt_buf *out)
{
	struct mm_usage u;

	mm_usage_get(mm, &u);
	put_vm(out, &u);
}

static void put_identity(struct fmt_buf *out, const struct task_view *v)
{
	const char *name = state_letter(v) == 'R' ? "running" : state_letter(v) == 'Z' ? "zombie" : "dead";

	fmt_printf(out, "Name:\t%s\nUmask:\t0022\nState:\t%c (%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n",
		   v->comm, state_letter(v), name, v->pid, v->pid, v->ppid);
	fmt_printf(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t64\nGroups:\t \n", v->uid, v->uid, v->uid, v->uid,
		   v->uid, v->uid, v->uid, v->uid);
	fmt_printf(out, "NStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\nKthread:\t0\n", v->pid, v->pid, v->pid, v->pid);
}

static void put_cpus(struct quire *q, struct fmt_buf *out)
{
	u32 n = q->cfg.nr_cpus;
	u64 mask = n < 64 ? (1ull << n) - 1 : ~0ull;

	/* Groups of 32 bits, as %*pb prints a bitmap. */
	fmt_printf(out, "Cpus_allowed:\t");
	if (n > 32)
		fmt_printf(out, "%0*x,%08x\n", (int)(n - 32 + 3) / 4, (u32)(mask >> 32), (u32)mask);
	else
		fmt_printf(out, "%0*x\n", (int)(n + 3) / 4, (u32)mask);
	fmt_printf(out, "Cpus_allowed_list:\t0");
	if (n > 1)
		fmt_printf(out, "-%u", n - 1);
	fmt_printf(out, "\nMems_allowed:\t1\nMems_allowed_list:\t0\n");
}

void proc_status(struct quire *q, struct task *t, struct fmt_buf *out)
{
	static const char *const masks[] = { "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff",
					     "CapBnd", "CapAmb" };
	struct task_view v = view_of(t);
	struct mm_usage u;

	put_identity(out, &v);
	if (usage_of(t, &u)) {
		put_vm(out, &u);
		fmt_printf(out, "HugetlbPages:\t%8lu kB\nCoreDumping:\t0\nTHP_enabled:\t%d\nuntag_mask:\t0xffffffffffffffff\n",
			   0ul, q->cfg.folio_max_order >= PMD_ORDER);
	}
	fmt_printf(out, "Threads:\t%u\nSigQ:\t0/0\n", v.nr_threads);
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++)
		fmt_printf(out, "%s:\t%016x\n", masks[i], 0u);
	fmt_printf(out, "NoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n");
	put_cpus(q, out);
	fmt_printf(out, "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
}

void proc_statm(struct quire *q, struct mm_struct *mm, struct fmt_buf *out)
{
	struct mm_usage u;

	mm_usage_get(mm, &u);
	fmt_printf(out, "%lu %lu %lu %lu 0 %lu 0\n", (unsigned long)u.total_vm, (unsigned long)u.rss,
		   (unsigned long)(u.file + u.shmem),
		   (unsigned long)((PAGE_ALIGN(u.end_code) - ALIGN_DOWN(u.start_code, PAGE_SIZE)) >> PAGE_SHIFT),
		   (unsigned long)(u.data_vm + u.stack_vm));
}

/* proc_pid_stat(5), fields 1 to 52. */
void proc_stat(struct quire *q, struct task *t, struct fmt_buf *out)
{
	struct task_view v = view_of(t);
	struct mm_usage u;
	u64 start_ticks = v.start_ns > q->boot_ns ? (v.start_ns - q->boot_ns) / 10000000 : 0;

	usage_of(t, &u);
	fmt_printf(out, "%d (%s) %c %d %d %d 0 -1 4194304 ", v.pid, v.comm, state_letter(&v), v.ppid, v.pid, v.pid);
	fmt_printf(out, "%lu 0 %lu 0 0 0 0 0 20 0 %u 0 %lu ", (unsigned long)u.min_flt, (unsigned long)u.maj_flt, v.nr_threads,
		   (unsigned long)start_ticks);
	fmt_printf(out, "%lu %lu 18446744073709551615 %lu %lu %lu 0 0 ", (unsigned long)(u.total_vm << PAGE_SHIFT),
		   (unsigned long)u.rss, (unsigned long)u.start_code, (unsigned long)u.end_code, (unsigned long)u.start_stack);
	fmt_printf(out, "0 0 0 0 0 0 0 17 0 0 0 0 0 0 %lu %lu %lu ", (unsigned long)u.start_data, (unsigned long)u.end_data,
		   (unsigned long)u.start_brk);
	fmt_printf(out, "%lu %lu %lu %lu 0\n", (unsigned long)u.arg_start, (unsigned long)u.arg_end, (unsigned long)u.env_start,
		   (unsigned long)u.env_end);
}

/* 0 for who cannot be killed, about 667 for who has nothing, up to 2000 (fs/proc/base.c, proc_oom_score). */
void proc_oom_score(struct quire *q, struct task *t, struct fmt_buf *out)
{
	long total = (long)(totalram_pages(q) + q->total_swap_pages), badness = oom_badness(q, t);
	long points = badness == LONG_MIN ? 0 : (1000 + badness * 1000 / total) * 2 / 3;

	fmt_printf(out, "%lu\n", (unsigned long)MAX(points, 0l));
}

void proc_oom_score_adj(struct quire *q, struct task *t, struct fmt_buf *out)
{
	fmt_printf(out, "%d\n", view_of(t).oom_score_adj);
}

/* The old name of the same number, from -17 (never) to 15. */
#define OOM_ADJ_NEVER (-17)
#define OOM_ADJ_MAX 15

void proc_oom_adj(struct task *t, struct fmt_buf *out)
{
	s32 adj = view_of(t).oom_score_adj;

	fmt_printf(out, "%d\n", adj == OOM_SCORE_ADJ_MAX ? OOM_ADJ_MAX : MIN(adj * -OOM_ADJ_NEVER / OOM_SCORE_ADJ_MAX, OOM_ADJ_MAX));
}

int proc_set_oom_adj(struct task *t, s64 old, bool capable)
{
	s64 adj = old == OOM_ADJ_MAX ? OOM_SCORE_ADJ_MAX : old * OOM_SCORE_ADJ_MAX / -OOM_ADJ_NEVER;

	if (old < OOM_ADJ_NEVER || old > OOM_ADJ_MAX)
		return -EINVAL;
	if (adj < view_of(t).oom_score_adj && !capable)
		return -EACCES;
	return proc_set_oom_score_adj(t, adj, capable);
}

int proc_set_oom_score_adj(struct task *t, s64 adj, bool capable)
{
	bool allowed;

	if (adj < -OOM_SCORE_ADJ_MAX || adj > OOM_SCORE_ADJ_MAX)
		return -EINVAL;
	spin_lock(&t->q->tasks.lock);
	allowed = capable || adj >= t->oom_score_adj_min;
	if (allowed)
		t->oom_score_adj = (s32)adj;
	if (allowed && capable)
		t->oom_score_adj_min = (s32)adj;
	spin_unlock(&t->q->tasks.lock);
	return allowed ? 0 : -EACCES;
}

void proc_auxv(struct quire *q, struct mm_struct *mm, struct fmt_buf *out)
{
	u64 auxv[ARRAY_SIZE(mm->saved_auxv)];
	size_t n = 0;

	spin_lock(&mm->lock);
	memcpy(auxv, mm->saved_auxv, sizeof(auxv));
	spin_unlock(&mm->lock);
	/* Up to and with AT_NULL. */
	while (n + 2 < ARRAY_SIZE(auxv) && auxv[n])
		n += 2;
	fmt_write(out, (const char *)auxv, (n + 2) * sizeof(u64));
}
