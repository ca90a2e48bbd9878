/*
 * Pages in zstd's form (third_party/zstd): smaller than lz4's, for more work.
 *
 * zstd wants some 60 KiB to work in, far more than a stack here has to give, so whoever calls brings that room (swap/room.c).  What is
 * in it before does not matter: every page begins anew.  So a context may be killed in the middle of a page, and the next one
 * uses the same room.
 * A page becomes one frame without magic number, size or checksum (the slot has one): 5 bytes of headers.
 *
 * As in bytes.c nothing here is logged: only private memory, the room, and frames nobody else sees are written.  Locks: none;
 * the room is the caller's.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* judged at the end of the file */
#include "zstd_lib.h"
#include "swap.h"

/* What upstream's levels 1 to 3 are for so little, with hash tables that a page can fill: measured on program text and python's heap,
 * larger ones gain nothing. */
static const ZSTD_compressionParameters levels[SWAP_ZSTD_LEVELS] = {
	{ .windowLog = PAGE_SHIFT, .chainLog = 11, .hashLog = 12, .searchLog = 1, .minMatch = 5, .targetLength = 0, .strategy = ZSTD_fast },
	{ .windowLog = PAGE_SHIFT, .chainLog = 11, .hashLog = 12, .searchLog = 1, .minMatch = 4, .targetLength = 0, .strategy = ZSTD_fast },
	{ .windowLog = PAGE_SHIFT, .chainLog = 11, .hashLog = 11, .searchLog = 1, .minMatch = 4, .targetLength = 0, .strategy = ZSTD_dfast },
};

/* The whole of a room.  Pages out are copied first: other threads may be writing to them, and zstd looks at its source more than once. */
struct zstd_room {
	u64 bytes[PAGE_SIZE / 8]; /* the page, or what it became */
	u64 work[];
};

size_t page_zstd_room(void)
{
	size_t most = sizeof(ZSTD_DCtx);

	for (u32 i = 0; i < SWAP_ZSTD_LEVELS; i++)
		most = MAX(most, ZSTD_estimateCCtxSize_usingCParams(levels[i]));
	return sizeof(struct zstd_room) + ALIGN_UP(most, 8);
}

u32 page_zstd_compress(const void *page, void *dst, u32 max, u32 level, void *room)
{
	struct zstd_room *r = room;
	ZSTD_CCtx *c = ZSTD_initStaticCCtx(r->work, page_zstd_room() - sizeof(*r));
	ZSTD_parameters p = { .cParams = levels[level - 1], .fParams = { .noDictIDFlag = 1 } };
	size_t n;

	if (!c || ZSTD_isError(ZSTD_CCtx_setParams(c, p)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_format, ZSTD_f_zstd1_magicless)))
		return 0;
	copy_unlogged(r->bytes, page, PAGE_SIZE);
	n = ZSTD_compress2(c, dst, max, r->bytes, PAGE_SIZE);
	return ZSTD_isError(n) ? 0 : (u32)n;
}

void *page_zstd_stored(void *room)
{
	return ((struct zstd_room *)room)->bytes;
}

bool page_zstd_decompress(u32 len, void *page, void *room)
{
	struct zstd_room *r = room;
	ZSTD_DCtx *d = ZSTD_initStaticDCtx(r->work, page_zstd_room() - sizeof(*r));

	if (!d || ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_format, ZSTD_f_zstd1_magicless)))
		return false;
	return ZSTD_decompressDCtx(d, page, PAGE_SIZE, r->bytes, len) == PAGE_SIZE;
}
