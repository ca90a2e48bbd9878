/*
 * What the OOM killer says: Linux's report, word for word, so that people and log parsers find what they look for; then
 * the same in plain words.
 *
 *	endless_malloc invoked oom-killer: gfp_mask=0x... order=0, oom_score_adj=0
 *	CPU: ...  Mem-Info: ... Tasks state ...
 *	oom-kill:constraint=CONSTRAINT_NONE,...
 *	Out of memory: Killed process 42 (endless_malloc) total-vm:...kB, anon-rss:...kB, ...
 *	oom: memory: 64.0 MiB in all: ...        how much of what was in use
 *	oom: programs: ...                       by whom
 *	oom: reclaim: ...                        what was tried and what it brought
 *	oom: victim: ...                         why this one
 *	oom: what would have helped: ...
 *
 * Sizes are MiB of 1024 KiB with one decimal.  At most OOM_BURST reports in OOM_WINDOW_NS, as on Linux: a machine that kills
 * many one after the other is to spend its time otherwise; the line that names the victim is never left out.
 *
 * Locks: called under q->oom_lock and no spin lock; figures are read at one moment under q->lock, tasks one by one.
 */
#include "oom.h"
#include <fmt.h>

#define OOM_BURST 10u
#define OOM_WINDOW_NS 5000000000ull
#define TOP_TASKS 4u
#define ASSUMED_RATIO 333u /* of 1000: what compressed swap makes of a page when nothing was measured */
#define MEASURED_SLOTS 64u /* slots in use from which on the machine's own figure counts */
#define MIB (1024u * 1024u)

static unsigned long kib(u64 pages)
{
	return (unsigned long)(pages << (PAGE_SHIFT - 10));
}

/* ---- Linux's text ---- */

static bool too_many_reports(struct quire *q)
{
	struct oom_settings *s = &q->oom;
	u64 now = port_clock_ns();

	if (!s->window_ns || now - s->window_ns > OOM_WINDOW_NS) {
		if (s->missed)
			quire_log(q, 4, "oom_kill_process: %u callbacks suppressed", s->missed);
		s->window_ns = now;
		s->reports = s->missed = 0;
	}
	if (s->reports >= OOM_BURST) {
		s->missed++;
		return true;
	}
	s->reports++;
	return false;
}

static void dump_header(struct oom_control *oc)
{
	struct oom_task v = { .comm = "kernel" };
	struct quire *q = oc->q;
	char flags[160];

	if (oc->self)
		oom_task_view(oc->self, &v);
	quire_log(q, 4, "%s invoked oom-killer: gfp_mask=%#x(%s), order=%u, oom_score_adj=%d", v.comm, oc->gfp,
		  gfp_flags_string(oc->gfp, flags, sizeof(flags)), oc->order, v.adj);
	quire_log(q, 4, "CPU: %u UID: %u PID: %d Comm: %s Not tainted", port_cpu(), v.uid, v.pid, v.comm);
	show_mem(q);
}

static void dump_task(struct quire *q, const struct oom_task *v)
{
	quire_log(q, 6, "[%7d] %5u %5d %8lu %8lu %8lu %8lu %9lu %8ld %8lu         %5d %s", v->pid, v->uid, v->pid,
		  (unsigned long)v->u.total_vm, (unsigned long)v->u.rss, (unsigned long)v->u.anon, (unsigned long)v->u.file,
		  (unsigned long)v->u.shmem, (long)v->u.pgtables_bytes, (unsigned long)v->u.swap, v->adj, v->comm);
}

static void dump_tasks(struct quire *q)
{
	struct oom_task v;
	struct task *t;
	s32 pid = -1;

	quire_log(q, 6, "Tasks state (memory values in pages):");
	quire_log(q, 6, "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents "
			"oom_score_adj name");
	while ((t = task_next_get(q, pid))) {
		pid = t->pid;
		if (oom_task_view(t, &v))
			dump_task(q, &v);
		task_put(t);
	}
}

static void dump_kill(struct oom_control *oc, const struct oom_task *v, bool all)
{
	if (all)
		quire_log(oc->q, 6, "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
				    "task_memcg=/,task=%s,pid=%d,uid=%u", v->comm, v->pid, v->uid);
	quire_log(oc->q, 3, "%s: Killed process %d (%s) total-vm:%lukB, anon-rss:%lukB, file-rss:%lukB, "
			    "shmem-rss:%lukB, UID:%u pgtables:%lukB oom_score_adj:%d", oc->message, v->pid, v->comm,
		  kib(v->u.total_vm), kib(v->u.anon), kib(v->u.file), kib(v->u.shmem), v->uid,
		  (unsigned long)(v->u.pgtables_bytes >> 10), v->adj);
}

void oom_dump(struct oom_control *oc)
{
	struct quire *q = oc->q;
	bool all = !too_many_reports(q);
	struct oom_task v;
	u32 tasks;

	spin_lock(&q->lock);
	tasks = q->oom.dump_tasks;
	spin_unlock(&q->lock);
	if (all)
		dump_header(oc);
	if (all && tasks)
		dump_tasks(q);
	if (!oc->chosen)
		return;
	if (oom_task_view(oc->chosen, &v))
		dump_kill(oc, &v, all);
	if (all)
		oom_explain(oc);
}

/* ---- plain words ---- */

/* Pages unless noted. */
struct facts {
	u64 total, free, kept;    /* kept: the min watermarks, which programs do not get */
	u64 high;                 /* the high watermarks: what kswapd tries to keep free */
	u64 anon, shmem, file, tables, slab, pool, unevictable;
	u64 anon_lists;           /* on the LRU lists of anonymous and shared memory */
	u64 swap, swap_free, swapped; /* slots: all, free, in use */
	u64 committed;
	u64 scanned, stolen;      /* since the last report */
	bool thrashing;           /* reclaim succeeds, but nobody gets on (thrash.c) */
};

static void gather(struct quire *q, struct facts *f)
{
	memset(f, 0, sizeof(*f));
	f->total = q->cfg.memory >> PAGE_SHIFT;
	oom_reclaim_counts(q, &f->scanned, &f->stolen);
	spin_lock(&q->lock);
	f->free = nr_free_pages(q);
	f->kept = phys_watermark_pages(q, WMARK_MIN);
	f->high = phys_watermark_pages(q, WMARK_HIGH);
	f->anon = q->nr_anon_pages;
	f->shmem = q->nr_shmem_pages;
	f->file = q->nr_file_pages - MIN(q->nr_file_pages, q->nr_shmem_pages + q->nr_swapcache_pages);
	f->tables = q->nr_pagetable_pages;
	f->slab = q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1];
	f->pool = q->swap.pool.nr_frames;
	f->unevictable = q->nr_lru_pages[LRU_UNEVICTABLE];
	f->anon_lists = q->nr_lru_pages[LRU_INACTIVE_ANON] + q->nr_lru_pages[LRU_ACTIVE_ANON];
	f->swap = q->total_swap_pages;
	f->swap_free = q->nr_free_swap_pages;
	f->swapped = q->swap.nr_slots_used;
	f->committed = q->committed_pages;
	f->thrashing = q->reclaim.thrashing;
	spin_unlock(&q->lock);
	f->scanned -= MIN(f->scanned, q->oom.scanned);
	f->stolen -= MIN(f->stolen, q->oom.stolen);
}

/* "12.3", MiB. */
static void put_mib(struct fmt_buf *b, const char *before, u64 pages, const char *after)
{
	fmt_printf(b, "%s", before);
	fmt_fixed(b, (s64)((pages * PAGE_SIZE * 10 + MIB / 2) / MIB), 1);
	fmt_printf(b, "%s", after);
}

static void say(struct quire *q, int level, struct fmt_buf *b)
{
	quire_log(q, level, "%s", b->buf);
	*b = fmt_init(b->buf, b->size);
}

static void say_memory(struct quire *q, const struct facts *f, struct fmt_buf *b)
{
	u64 named = f->anon + f->shmem + f->file + f->tables + f->slab + f->pool + f->free;

	put_mib(b, "oom: memory: ", f->total, " MiB in all: ");
	put_mib(b, "", f->anon, " programs' own, ");
	put_mib(b, "", f->shmem, " shared, ");
	put_mib(b, "", f->file, " of files, ");
	put_mib(b, "", f->tables, " page tables, ");
	put_mib(b, "", f->slab, " kernel objects, ");
	put_mib(b, "", f->pool, " compressed swap, ");
	put_mib(b, "", f->total - MIN(f->total, named), " else, ");
	put_mib(b, "", f->free, " free (");
	put_mib(b, "", MIN(f->kept, f->free), " of it kept back for the kernel)");
	say(q, 4, b);
	if (!f->swap) {
		fmt_printf(b, "oom: swap: none");
	} else {
		put_mib(b, "oom: swap: ", f->swap, " MiB in all, ");
		put_mib(b, "", f->swap_free, " free; ");
		put_mib(b, "", f->swapped, " are in use");
		if (f->pool)
			put_mib(b, " and take ", f->pool, " of memory, compressed");
	}
	say(q, 4, b);
}

static u64 size_of(const struct oom_task *v)
{
	return v->u.rss + v->u.swap;
}

/* The largest tasks, largest first; the smallest falls out. */
struct top {
	struct oom_task t[TOP_TASKS];
	u32 n, others, spared;    /* others: not in t[]; spared: by oom_score_adj -1000 */
	u64 others_size;          /* pages */
};

static void top_add(struct top *top, const struct oom_task *v)
{
	u32 i;

	top->spared += v->adj == OOM_SCORE_ADJ_MIN;
	for (i = 0; i < top->n && size_of(&top->t[i]) >= size_of(v); i++)
		;
	if (top->n == TOP_TASKS || i == TOP_TASKS) {
		top->others++;
		top->others_size += size_of(i == TOP_TASKS ? v : &top->t[TOP_TASKS - 1]);
	}
	if (i == TOP_TASKS)
		return;
	if (top->n < TOP_TASKS)
		top->n++;
	for (u32 k = top->n - 1; k > i; k--)
		top->t[k] = top->t[k - 1];
	top->t[i] = *v;
}

static void find_top(struct quire *q, struct top *top)
{
	struct oom_task v;
	struct task *t;
	s32 pid = -1;

	top->n = top->others = top->spared = 0;
	top->others_size = 0;
	while ((t = task_next_get(q, pid))) {
		pid = t->pid;
		if (oom_task_view(t, &v))
			top_add(top, &v);
		task_put(t);
	}
}

static void say_programs(struct quire *q, const struct top *top, struct fmt_buf *b)
{
	fmt_printf(b, "oom: programs:");
	for (u32 i = 0; i < top->n; i++) {
		const struct oom_task *v = &top->t[i];

		fmt_printf(b, "%s %s (%d) ", i ? "," : "", v->comm, v->pid);
		put_mib(b, "", v->u.rss, " MiB");
		if (v->u.swap)
			put_mib(b, " + ", v->u.swap, " in swap");
	}
	if (top->others)
		put_mib(b, ", others ", top->others_size, " MiB");
	fmt_printf(b, "; what they share counts for each");
	say(q, 4, b);
}

/* Why what is left could not be freed. */
static void put_stuck(const struct facts *f, struct fmt_buf *b)
{
	u64 anon = f->anon_lists - MIN(f->anon_lists, f->shmem);

	put_mib(b, "left: ", anon, " MiB of programs");
	if (!f->swap)
		fmt_printf(b, " and no swap to put them in");
	else if (f->swap_free < f->swap / 64 + 1)
		fmt_printf(b, " and swap is full");
	else
		fmt_printf(b, " that would not get smaller in swap, or were in use");
	if (f->shmem)
		put_mib(b, ", ", f->shmem, " shared");
	if (f->unevictable)
		put_mib(b, ", ", f->unevictable, " locked");
	put_mib(b, ", ", f->file, " of files in use");
}

static void say_reclaim(struct oom_control *oc, const struct facts *f, struct fmt_buf *b)
{
	struct quire *q = oc->q;
	u64 since = q->oom.last_ns ? q->oom.last_ns : q->boot_ns;

	fmt_printf(b, "oom: reclaim: looked at %lu pages and freed %lu (", (unsigned long)f->scanned, (unsigned long)f->stolen);
	put_mib(b, "", f->stolen, " MiB) in the ");
	fmt_fixed(b, (s64)((port_clock_ns() - since) / 100000000), 1);
	fmt_printf(b, " s since the %s; at last %lu looked at, %lu freed; ", q->oom.last_ns ? "last report" : "machine started",
		   (unsigned long)oc->last_scanned, (unsigned long)oc->last_stolen);
	if (f->thrashing)
		fmt_printf(b, "what it frees is read in again at once (thrashing); ");
	put_stuck(f, b);
	say(q, 4, b);
}

static const struct oom_task *runner_up(struct quire *q, const struct top *top, s32 victim)
{
	const struct oom_task *best = NULL;

	for (u32 i = 0; i < top->n; i++) {
		const struct oom_task *v = &top->t[i];

		if (v->pid != victim && oom_points(q, v) != LONG_MIN && (!best || oom_points(q, v) > oom_points(q, best)))
			best = v;
	}
	return best;
}

static void say_victim(struct oom_control *oc, const struct top *top, struct fmt_buf *b)
{
	const struct oom_task *next;
	struct oom_task v;

	if (!oc->chosen) {
		fmt_printf(b, "oom: victim: none; %u programs are spared by oom_score_adj -1000", top->spared);
		say(oc->q, 4, b);
		return;
	}
	if (!oom_task_view(oc->chosen, &v))
		return;
	next = runner_up(oc->q, top, v.pid);
	fmt_printf(b, "oom: victim: %s (%d): ", v.comm, v.pid);
	if (oc->for_asking)
		fmt_printf(b, "it asked for memory, and vm.oom_kill_allocating_task is set; ");
	fmt_printf(b, "%ld points = %lu pages in memory + %lu in swap + %lu of page tables", oc->points, (unsigned long)v.u.rss,
		   (unsigned long)v.u.swap, (unsigned long)(v.u.pgtables_bytes / PAGE_SIZE));
	if (v.adj)
		fmt_printf(b, " %c %d/1000 of all memory (oom_score_adj)", v.adj < 0 ? '-' : '+', v.adj < 0 ? -v.adj : v.adj);
	if (next)
		fmt_printf(b, "; next %s (%d) with %ld", next->comm, next->pid, oom_points(oc->q, next));
	fmt_printf(b, "; %u spared by oom_score_adj -1000", top->spared);
	say(oc->q, 4, b);
}

static unsigned long mib_up(u64 pages)
{
	return (unsigned long)((pages * PAGE_SIZE + MIB - 1) / MIB);
}

/* Thousandths of its size that a page in swap takes in memory. */
static u64 swap_ratio(const struct facts *f)
{
	if (f->swapped >= MEASURED_SLOTS)
		return MIN(f->pool * 1000 / f->swapped, 900ull);
	return ASSUMED_RATIO;
}

/* Pages that were missing for everything that programs have asked for so far, were they to use it all. */
static u64 missing(const struct oom_control *oc, const struct facts *f)
{
	u64 asked = MAX(f->committed, f->anon + f->shmem + f->swapped), ratio = swap_ratio(f);
	u64 rest = f->total - MIN(f->total, f->free + f->anon + f->shmem + f->pool);
	u64 need = asked + rest + f->high, have = f->total + f->swap - f->swap * (f->swap ? ratio : 0) / 1000;
	u64 at_least = f->high - MIN(f->high, f->free) + (1u << oc->order) + MIB / 10 / PAGE_SIZE;

	return MAX(need - MIN(need, have), at_least);
}

static void say_remedy(struct oom_control *oc, const struct facts *f, struct fmt_buf *b)
{
	u64 more = missing(oc, f), swap = more * 1000 / (1000 - swap_ratio(f));

	put_mib(b, "oom: what would have helped: ", more, " MiB more");
	fmt_printf(b, ", for the %lu KiB asked for now and all that programs had asked for before, used or not: --memory %luM, or "
		      "--swap %luM if pages shrink to %lu %% (%s). A program that asks without end only gets further.",
		   kib(1ull << oc->order), mib_up(f->total + more), mib_up(f->swap + swap), (unsigned long)(swap_ratio(f) / 10),
		   f->swapped >= MEASURED_SLOTS ? "as so far" : "an assumption");
	say(oc->q, 3, b); /* severe enough that the log is sent on at once */
}

void oom_explain(struct oom_control *oc)
{
	struct quire *q = oc->q;
	struct facts f;
	struct top top;
	char line[480];
	struct fmt_buf b = fmt_init(line, sizeof(line));

	gather(q, &f);
	find_top(q, &top);
	say_memory(q, &f, &b);
	say_programs(q, &top, &b);
	say_reclaim(oc, &f, &b);
	say_victim(oc, &top, &b);
	say_remedy(oc, &f, &b);
	q->oom.scanned += f.scanned;
	q->oom.stolen += f.stolen;
	q->oom.last_ns = port_clock_ns();
}
