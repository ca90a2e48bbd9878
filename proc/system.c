/*
 * Small files about the whole machine: /proc/swaps, /proc/pressure/memory, /proc/loadavg.
 * Locks: q->tasks.lock for the counts.
 */
#include <reclaim/reclaim.h>
#include "proc.h"

/* The heading stands alone while no swap area is in use.  Columns as Linux's swap_show(): sizes in KiB. */
void proc_swaps(struct quire *q, struct fmt_buf *out)
{
	struct swap_stat st;

	fmt_printf(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
	for (unsigned type = 0; type < QUIRE_MAX_SWAP_AREAS; type++) {
		u64 kib, used;

		if (!swap_area_stat(q, type, &st))
			continue;
		kib = st.pages << (PAGE_SHIFT - 10);
		used = st.used << (PAGE_SHIFT - 10);
		fmt_printf(out, "%s", st.name);
		for (size_t n = strlen(st.name); n < 40; n++)
			fmt_putc(out, ' ');
		fmt_printf(out, "%s\t%llu\t%s%llu\t%s%d\n", st.kind, (unsigned long long)kib, kib < 10000000 ? "\t" : "",
			   (unsigned long long)used, used < 10000000 ? "\t" : "", st.prio);
	}
}

/* kernel/sched/psi.c, psi_show(): percent of the last 10, 60 and 300 seconds, and microseconds in all. */
void proc_pressure_memory(struct quire *q, struct fmt_buf *out)
{
	static const char *const names[NR_PSI_STATES] = { "some", "full" };
	static const unsigned seconds[NR_PSI_AVGS] = { 10, 60, 300 };
	struct psi_view v;

	psi_read(q, &v);
	for (unsigned s = 0; s < NR_PSI_STATES; s++) {
		fmt_printf(out, "%s", names[s]);
		for (unsigned a = 0; a < NR_PSI_AVGS; a++) {
			fmt_printf(out, " avg%u=", seconds[a]);
			fmt_fixed(out, v.avg[s][a], 2);
		}
		fmt_printf(out, " total=%lu\n", (unsigned long)(v.total[s] / 1000));
	}
}

void proc_loadavg(struct quire *q, const u64 load[3], struct fmt_buf *out)
{
	u32 running = 0, total = 0, last_pid;

	spin_lock(&q->tasks.lock);
	for (struct task *t = q->tasks.first; t; t = t->next) {
		running += t->state == TASK_RUNNING;
		total += t->nr_threads;
	}
	last_pid = q->tasks.last_pid;
	spin_unlock(&q->tasks.lock);
	for (int i = 0; i < 3; i++) {
		fmt_fixed(out, load ? (s64)load[i] : 0, 2);
		fmt_putc(out, ' ');
	}
	fmt_printf(out, "%u/%u %u\n", running, total, last_pid);
}
