/*
 * Limits and figures: setrlimit(2)'s memory limits, sysinfo(2), getrusage(2).
 * Locks: mm->lock, q->lock, q->tasks.lock, one after the other.
 */
#include <mm/mm.h>
#include <reclaim/reclaim.h>
#include "sys.h"

long sys_set_mm_rlimit(struct task *t, unsigned resource, u64 bytes)
{
	struct mm_struct *mm = t->mm;
	long err = 0;

	spin_lock(&mm->lock);
	switch (resource) {
	case RLIMIT_DATA: mm->rlim_data = bytes; break;
	case RLIMIT_STACK: mm->rlim_stack = bytes; break;
	case RLIMIT_MEMLOCK: mm->rlim_memlock = bytes; break;
	case RLIMIT_AS: mm->rlim_as = bytes; break;
	default: err = -EINVAL;
	}
	spin_unlock(&mm->lock);
	return err;
}

void sys_sysinfo(struct quire *q, struct quire_sysinfo *out)
{
	memset(out, 0, sizeof(*out));
	spin_lock(&q->lock);
	out->totalram = q->cfg.memory;
	out->freeram = nr_free_pages(q) << PAGE_SHIFT;
	out->sharedram = q->nr_shmem_pages << PAGE_SHIFT;
	out->totalswap = q->total_swap_pages << PAGE_SHIFT;
	out->freeswap = q->nr_free_swap_pages << PAGE_SHIFT;
	out->totalhigh = q->phys.zones[ZONE_HIGHMEM].managed << PAGE_SHIFT;
	out->freehigh = q->phys.zones[ZONE_HIGHMEM].nr_free << PAGE_SHIFT;
	spin_unlock(&q->lock);
	spin_lock(&q->tasks.lock);
	out->procs = q->tasks.nr;
	spin_unlock(&q->tasks.lock);
	out->uptime = (port_clock_ns() - q->boot_ns) / 1000000000;
}

void sys_getrusage(struct task *t, struct quire_rusage *out)
{
	struct mm_struct *mm = task_get_mm(t);
	struct mm_usage u;

	memset(out, 0, sizeof(*out));
	if (!mm)
		return;
	mm_usage_get(mm, &u);
	mmput(mm);
	out->maxrss_kb = u.hiwater_rss << (PAGE_SHIFT - 10);
	out->minflt = u.min_flt;
	out->majflt = u.maj_flt;
}
