/*
 * The back end that keeps pages on a device of the port's: a file of the host.
 *
 * Slot n is page n of the device; page 0 is its header.  slot->data is a stamp that no other page ever had, so whoever reads
 * with no lock can tell afterwards whether he read this page (swap.h).  The bytes themselves are written and read through
 * io(), under no lock, in runs of neighbours.
 */
#include <port/host.h>
#include "swap.h"

static int device_store(struct swap_area *a, struct swap_slot *slot, const struct swap_write *w)
{
	slot->data = ++a->q->swap.stamp;
	slot->len = (u16)PAGE_SIZE;
	return 0;
}

static void device_close(struct swap_area *a)
{
	host_swap_close(a->q, a->dev);
}

const struct swap_ops swap_ops_device = {
	.io = host_swap_io,
	.store = device_store,
	.close = device_close,
};
