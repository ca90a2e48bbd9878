/*
 * The back ends that keep pages compressed in the machine's own memory (what zram is on Linux): with lz4, which needs no more than a
 * stack, and with zstd, which makes pages smaller and needs a room.
 *
 * slot->data is a handle of zpool.c.  A page that does not get small enough to be worth it is refused: keeping it
 * would cost as much as leaving it where it is.  Loading takes the object's bytes without a lock: they stay as they are while
 * the caller's entry counts (swap.h).
 */
#include "swap.h"

static int lz4_prepare(struct quire *q, const struct swap_ops *ops, const void *page, struct swap_write *w)
{
	u64 work[PAGE_COMPRESS_WORK / 8];

	w->len = (u16)page_compress(page, w->buf, SWAP_WRITE_MAX, work);
	return w->len ? 0 : -ENOSPC;
}

static int lz4_load(struct swap_area *a, const struct swap_slot *slot, void *page)
{
	u64 buf[(SWAP_WRITE_MAX + ZPOOL_STEP) / 8];

	zpool_read(a->q, slot->data, buf, slot->len);
	return page_decompress(buf, slot->len, page) ? 0 : -EIO;
}

static int zstd_prepare(struct quire *q, const struct swap_ops *ops, const void *page, struct swap_write *w)
{
	struct swap_room *r = swap_room_lock(q);

	if (!r)
		return -EIO; /* the area is gone */
	w->len = (u16)page_zstd_compress(page, w->buf, SWAP_WRITE_MAX, ops->level, r->mem);
	swap_room_unlock(r);
	return w->len ? 0 : -ENOSPC;
}

static int zstd_load(struct swap_area *a, const struct swap_slot *slot, void *page)
{
	struct swap_room *r = swap_room_trylock(a->q);
	bool ok;

	if (!r)
		return -EAGAIN;
	zpool_read(a->q, slot->data, page_zstd_stored(r->mem), slot->len);
	ok = page_zstd_decompress(slot->len, page, r->mem);
	swap_room_unlock(r);
	return ok ? 0 : -EIO;
}

static void zstd_close(struct swap_area *a)
{
	swap_rooms_put(a->q);
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

static void compressed_free(struct swap_area *a, struct swap_slot *slot)
{
	zpool_free(a->q, slot->data, slot->len);
}

const struct swap_ops swap_ops_lz4 = {
	.prepare = lz4_prepare,
	.store = compressed_store,
	.load = lz4_load,
	.free = compressed_free,
};

#define ZSTD_OPS(n) {                    \
	.level = n,                      \
	.prepare = zstd_prepare,         \
	.store = compressed_store,       \
	.load = zstd_load,               \
	.free = compressed_free,         \
	.close = zstd_close,             \
}
const struct swap_ops swap_ops_zstd[SWAP_ZSTD_LEVELS] = { ZSTD_OPS(1), ZSTD_OPS(2), ZSTD_OPS(3) };
