/*
 * `quire run --stats`: what the machine did, printed on standard error when it ends, in the style of time(1)'s -v; with --json
 * one object on one line.  The figures are the machine's own counters (q->vm_events and struct machine_shared), read when
 * nobody else is running any more.
 */
#include "sup_internal.h"
#include <quire/vmstat.h>

struct figure {
	const char *key;  /* JSON */
	const char *text; /* for people */
	u64 value;
};

static size_t collect(struct figure *f, const struct machine_shared *m)
{
	const u64 *e = m->q.vm_events;
	size_t n = 0;

#define FIGURE(k, t, v) (f[n++] = (struct figure){ k, t, v })
	FIGURE("processes", "Processes", m->q.tasks.total_forks);
	FIGURE("faults", "Page faults", e[PGFAULT]);
	FIGURE("major_faults", "Page faults that waited for I/O", e[PGMAJFAULT]);
	FIGURE("anon_4k", "Anonymous folios of 4 KiB", e[QFAULT_ANON_4K]);
	FIGURE("anon_16k", "Anonymous folios of 16 KiB", e[QFAULT_ANON_16K]);
	FIGURE("anon_64k", "Anonymous folios of 64 KiB", e[QFAULT_ANON_64K]);
	FIGURE("anon_2m", "Anonymous folios of 2 MiB", e[QFAULT_ANON_2M]);
	FIGURE("zero_page", "Reads that got the zero page", e[QFAULT_ZERO_PAGE]);
	FIGURE("copies", "Pages copied on write", e[QCOW_COPY]);
	FIGURE("copy_batches", "64 KiB batches copied on write", e[QCOW_BATCH]);
	FIGURE("reuses", "Write faults that kept the page", e[PGREUSE]);
	FIGURE("fault_around", "File pages mapped ahead", e[QFAULT_AROUND]);
	FIGURE("refills", "Host mappings refilled", m->stat_refills);
	FIGURE("drops", "Times all host mappings were dropped", m->stat_drops);
	FIGURE("revoke_signals", "Signals sent to revoke mappings", m->stat_revoke_signals);
	FIGURE("recoveries", "Contexts tidied up after their process", m->stat_recoveries);
	FIGURE("peak_rss_kb", "Largest resident size of one process (KiB)", m->stat_peak_rss << (PAGE_SHIFT - 10));
	FIGURE("oom_kills", "Processes killed for want of memory", e[OOM_KILL]);
	FIGURE("swap_out", "Pages written to swap", e[PSWPOUT]);
	FIGURE("swap_in", "Pages read from swap", e[PSWPIN]);
	FIGURE("swap_read_errors", "Pages that swap could not give back", m->q.swap.read_errors);
	FIGURE("swap_write_errors", "Writes that a swap file did not take", m->q.swap.write_errors);
	FIGURE("failures_on_demand", "Failures on demand (--fail)", fail_count());
#undef FIGURE
	return n;
}

void stats_print(bool json)
{
	struct figure f[32];
	size_t i, n = collect(f, shared_area());

	if (json) {
		for (i = 0; i < n; i++)
			fprintf(stderr, "%s\"%s\": %lu", i ? ", " : "{", f[i].key, (unsigned long)f[i].value);
		fprintf(stderr, "}\n");
		return;
	}
	for (i = 0; i < n; i++)
		fprintf(stderr, "\t%s: %lu\n", f[i].text, (unsigned long)f[i].value);
}
