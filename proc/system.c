/*
 * Small files about the whole machine: /proc/swaps, /proc/loadavg.
 * Locks: q->tasks.lock for the counts.
 */
#include "proc.h"

/* The heading stands alone while no swap area is in use. */
void proc_swaps(struct quire *q, struct fmt_buf *out)
{
	fmt_printf(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
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
