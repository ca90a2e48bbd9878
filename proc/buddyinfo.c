/*
 * /proc/buddyinfo: free blocks of each order, one line for each zone with frames (mm/vmstat.c: frag_show_print).
 * Virgin blocks count as what they are, free blocks of the largest order.  Locks: q->lock for one snapshot.
 */
#include "phys_views.h"
#include <fmt.h>
#include <phys/phys.h>

void proc_buddyinfo(struct quire *q, struct fmt_buf *out)
{
	u64 n[MAX_NR_ZONES][NR_ORDERS];
	unsigned i, order;

	spin_lock(&q->lock);
	for (i = 0; i < MAX_NR_ZONES; i++)
		for (order = 0; order < NR_ORDERS; order++)
			n[i][order] = zone_free_blocks(&q->phys.zones[i], order);
	spin_unlock(&q->lock);
	for (i = 0; i < MAX_NR_ZONES; i++) {
		if (!zone_populated(&q->phys.zones[i]))
			continue;
		fmt_printf(out, "Node %d, zone %8s ", 0, q->phys.zones[i].name);
		for (order = 0; order < NR_ORDERS; order++)
			fmt_printf(out, "%6lu ", (unsigned long)n[i][order]);
		fmt_putc(out, '\n');
	}
}
