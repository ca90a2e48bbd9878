/*
 * The back end that keeps pages compressed in the machine's own memory (what zram is on Linux).
 *
 * slot->data is a handle of zpool.c.  A page that does not get small enough to be worth it is refused: keeping it
 * would cost as much as leaving it where it is.  Loading takes the object's bytes without a lock: they stay as they are while
 * the caller's entry counts (swap.h).
 */
#include "swap.h"

static int compressed_prepare(const void *page, struct swap_write *w)
{
	u64 work[PAGE_COMPRESS_WORK / 8];

	w->len = (u16)page_compress(page, w->buf, SWAP_WRITE_MAX, work);
	return w->len ? 0 : -ENOSPC;
}

static int compressed_store(struct swap_area *a, struct swap_slot *slot, const struct swap_write *w)
{
	u64 handle = zpool_store(a->q, w->buf, w->len);

	if (!handle)
		return -ENOMEM;
	slot->data = handle;
	slot->len = w->len;
	return 0;
}

static int compressed_load(struct swap_area *a, const struct swap_slot *slot, void *page)
{
	u64 buf[(SWAP_WRITE_MAX + ZPOOL_STEP) / 8];

	zpool_read(a->q, slot->data, buf, slot->len);
	return page_decompress(buf, slot->len, page) ? 0 : -EIO;
}

static void compressed_free(struct swap_area *a, struct swap_slot *slot)
{
	zpool_free(a->q, slot->data, slot->len);
}

const struct swap_ops swap_ops_compressed = {
	.prepare = compressed_prepare,
	.store = compressed_store,
	.load = compressed_load,
	.free = compressed_free,
};
