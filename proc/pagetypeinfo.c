/*
 * /proc/pagetypeinfo: free blocks by migrate type, and pageblocks of each type (mm/vmstat.c: pagetypeinfo_show).
 *
 * HighAtomic and Isolate are types of Linux that this machine does not have: always 0.
 * Locks: q->lock for a snapshot of each part.
 */
#include "phys_views.h"
#include <fmt.h>
#include <phys/phys.h>

#define MIGRATE_TYPES 5
static const char *const type_names[MIGRATE_TYPES] = {"Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"};

static u64 free_blocks(const struct zone *z, unsigned order, unsigned type)
{
	u64 n;

	if (type >= MIGRATE_PCPTYPES)
		return 0;
	n = z->free_area[order].free_list[type].count;
	return n + (order == MAX_ORDER && type == MIGRATE_MOVABLE ? virgin_blocks(z) : 0);
}

static void show_free(struct quire *q, struct fmt_buf *out, const struct zone *z)
{
	u64 n[MIGRATE_TYPES][NR_ORDERS];
	unsigned type, order;

	spin_lock(&q->lock);
	for (type = 0; type < MIGRATE_TYPES; type++)
		for (order = 0; order < NR_ORDERS; order++)
			n[type][order] = free_blocks(z, order, type);
	spin_unlock(&q->lock);
	for (type = 0; type < MIGRATE_TYPES; type++) {
		fmt_printf(out, "Node %4d, zone %8s, type %12s ", 0, z->name, type_names[type]);
		for (order = 0; order < NR_ORDERS; order++)
			fmt_printf(out, "%6lu ", (unsigned long)n[type][order]);
		fmt_putc(out, '\n');
	}
}

static void show_pageblocks(struct quire *q, struct fmt_buf *out, const struct zone *z)
{
	u64 n[MIGRATE_TYPES] = {0};
	unsigned type;

	spin_lock(&q->lock);
	for (type = 0; type < MIGRATE_PCPTYPES; type++)
		n[type] = z->nr_pageblocks[type];
	spin_unlock(&q->lock);
	fmt_printf(out, "Node %d, zone %8s ", 0, z->name);
	for (type = 0; type < MIGRATE_TYPES; type++)
		fmt_printf(out, "%12lu ", (unsigned long)n[type]);
	fmt_putc(out, '\n');
}

void proc_pagetypeinfo(struct quire *q, struct fmt_buf *out)
{
	unsigned i, order, type;

	fmt_printf(out, "Page block order: %d\nPages per block:  %lu\n\n", PAGEBLOCK_ORDER,
		   (unsigned long)PAGEBLOCK_NR_PAGES);
	fmt_printf(out, "%-43s ", "Free pages count per migrate type at order");
	for (order = 0; order < NR_ORDERS; order++)
		fmt_printf(out, "%6u ", order);
	fmt_putc(out, '\n');
	for (i = 0; i < MAX_NR_ZONES; i++)
		if (zone_populated(&q->phys.zones[i]))
			show_free(q, out, &q->phys.zones[i]);
	fmt_printf(out, "\n%-23s", "Number of blocks type ");
	for (type = 0; type < MIGRATE_TYPES; type++)
		fmt_printf(out, "%12s ", type_names[type]);
	fmt_putc(out, '\n');
	for (i = 0; i < MAX_NR_ZONES; i++)
		if (zone_populated(&q->phys.zones[i]))
			show_pageblocks(q, out, &q->phys.zones[i]);
}
