/*
 * What swap/ offers to the floors below it (fault, reclaim, proc) and its own files share.  Sections by owning file.
 *
 * A slot's life
 *
 *	free --swap_alloc()--> in use, folio in the swap cache, no bytes yet
 *	        its page is unmapped: entries become swap entries, each counted
 *	     --swap_commit()--> bytes stored; the folio may leave the cache, and its frame be freed
 *	     --swap_forward()--> another area has them, since this one would not take them: one count more there
 *	        a fault: the folio is found in the cache, or made again from the bytes
 *	     --swap_put(): the last count--> free; a folio in the cache leaves it and is an ordinary page again
 *
 * Invariants at every commit (swap_is_valid):
 *   - a slot is in use exactly while its count is at least 1: page-table entries that hold its entry, slots that forward to it,
 *     contexts that write it;
 *   - a slot in use has a folio in the cache, or stored bytes, or both (then they are the same bytes);
 *   - a folio in the cache is of order 0, has FF_SWAPCACHE, its entry in frame.private, and one reference of the cache;
 *   - bytes once stored do not change while the slot is in use, so who holds a counted entry may read them with no lock.
 *
 * A back end either works at once, under any lock (memory), or is a device of the port: then its I/O runs under no lock, and
 *   - who writes holds a count of the slot in ctx->swaps[], so that nobody else writes there before the I/O is over;
 *   - who reads holds nothing, but believes what it read only if the slot has the same stamp afterwards.
 *
 * Locks: q->lock, unless noted.
 */
#ifndef QUIRE_SWAP_INTERNAL_H
#define QUIRE_SWAP_INTERNAL_H
#include <quire/machine.h>
#include <pgtable.h>

/* Set while an unmapped folio is being written; whoever maps it takes the flag away, and the writing does not count. */
#define FF_SWAPOUT FF_RECLAIM

enum slot_state {
	SLOT_EMPTY,   /* no bytes: the folio is in the cache */
	SLOT_FILLED,  /* every 64-bit word of the page is slot->data */
	SLOT_STORED,  /* the back end has it */
	SLOT_FORWARDED, /* slot->data is an entry of another area, which has it and does not forward */
};

/* 32 bytes; 128 of them in a frame. */
struct swap_slot {
	u32 count;    /* page-table entries that hold the entry; 0 = free */
	pfn_t folio;  /* in the swap cache: pfn + 1; 0 = none */
	u32 sum;      /* checksum of the page's bytes, unless SLOT_EMPTY */
	u16 len;      /* bytes stored by the back end */
	u8 state;     /* enum slot_state */
	u8 refused;   /* its page would not get smaller; bytes do not change while a slot is in use, so nor does this */
	u64 data;     /* the word (SLOT_FILLED), the other entry (SLOT_FORWARDED), or the back end's own; on a device: a stamp that no
	               * other page ever had */
	u64 shadow;   /* for refault detection: what reclaim noted when the folio left memory; 0 = it never did */
};
_Static_assert(sizeof(struct swap_slot) == 32, "128 slots to a frame");
#define SLOTS_PER_CLUSTER ((u32)(PAGE_SIZE / sizeof(struct swap_slot)))

/* A page on its way out: in its back end's form, in private memory. */
#define SWAP_WRITE_MAX (ZPOOL_CLASSES * ZPOOL_STEP)
struct swap_write {
	u32 sum;
	u16 len;      /* bytes in buf[] */
	u8 state;     /* SLOT_FILLED or SLOT_STORED */
	u64 value;    /* SLOT_FILLED */
	u8 buf[SWAP_WRITE_MAX + ZPOOL_STEP];
};

/* A back end.  Errors are negative errnos. */
struct swap_ops {
	/* NULL: it works at once.  Else as host_swap_io(), with area->dev.  Under no lock, so the area itself may be gone. */
	int (*io)(struct quire *q, u32 dev, bool write, u64 offset, u32 n, void *const *pages);
	/* Of the compressor; 0 = it has none. */
	u32 level;
	/* Under no lock; the page may be changing (then the result is thrown away).  Puts it into w.  -ENOSPC: it would not
	 * get smaller.  May wait for a room.  `ops` are these. */
	int (*prepare)(struct quire *q, const struct swap_ops *ops, const void *page, struct swap_write *w);
	/* Under q->lock: keeps what was prepared (or, on a device, has been written) for this slot; sets slot->data and len.  -ENOMEM. */
	int (*store)(struct swap_area *a, struct swap_slot *slot, const struct swap_write *w);
	/* The page's bytes, into a frame nobody else sees.  The slot cannot go or change meanwhile.  Any lock or none: must
	 * neither block nor write anything else.  -EIO; -EAGAIN: all rooms are in use (swap_room_wait). */
	int (*load)(struct swap_area *a, const struct swap_slot *slot, void *page);
	/* Under q->lock: the bytes are not needed any more. */
	void (*free)(struct swap_area *a, struct swap_slot *slot);
	/* Under no lock: the area is gone.  May be NULL. */
	void (*close)(struct swap_area *a);
};
extern const struct swap_ops swap_ops_lz4;                    /* swap/compressed.c */
extern const struct swap_ops swap_ops_zstd[SWAP_ZSTD_LEVELS]; /* the same; by level, from 1 on; need rooms */
extern const struct swap_ops swap_ops_device; /* swap/device.c; has io and neither prepare nor load */

/* The slots of a cluster have one frame of records, there while any of them is in use. */
struct swap_cluster {
	pfn_t records;   /* pfn + 1; 0 = none */
	u16 used;        /* slots in use */
	u16 hint;        /* where to look next for a free one */
	u32 next, prev;  /* on the area's partial or free list, as index + 1 */
};

struct swap_area {
	struct quire *q;
	const struct swap_ops *ops;
	const char *kind; /* as /proc/swaps calls it */
	char name[SWAP_NAME_MAX + 1];
	u32 type;
	u32 dev;         /* the port's number of the device */
	s32 prio;
	u32 turn;        /* slots given out since it was its turn among its equals */
	bool full;       /* its device has no room for pages that were never written: it takes no more */
	u64 pages;       /* slots 1..pages may be used */
	u64 used;
	u32 nr_clusters;
	u32 virgin;      /* clusters from here on were never used */
	u32 current;     /* cluster that slots are taken from, as index + 1; 0 = none */
	u32 partial, free; /* lists: some slots in use (and not current); none in use any more */
	struct swap_cluster *clusters;
	u32 clusters_order; /* its block of frames */
};

/* ---- swap/slots.c ---- */
/* Under q->lock: will what goes out next stay in memory (compressed)?  False when there is no swap. */
bool swap_is_memory(const struct quire *q);
/* Under q->lock.  A slot with count 1 for the caller's entry; 0 when swap is full or memory short. */
u64 swap_alloc(struct quire *q);
/* The same, but in none of those areas (a mask of types), and held. */
u64 swap_alloc_elsewhere(struct quire *q, u32 but);
/* One count more, which stands in ctx->swaps[]; there must be room.  Under q->lock. */
void swap_hold(struct quire *q, u64 entry);
/* That count is the caller's now (and in ctx->swaps[] no more). */
void swap_unhold(struct quire *q, u64 entry);
/* Under no lock: gives back what a dead context held, whose I/O is over. */
void swap_abandon(struct ctx *dead);
/* Under q->lock: no room on the area's device; it takes no more pages. */
void swap_area_is_full(struct quire *q, u64 entry);
/* Does the entry's page lie in this area, be it because another one forwards to it?  Under q->lock. */
bool swap_entry_in_area(struct quire *q, u64 entry, unsigned type);
/* n more entries.  Under q->lock. */
void swap_dup(struct quire *q, u64 entry, u32 n);
/* n entries less.  With the last one the slot is free, and a folio in the cache leaves it and is dirty.  Under q->lock. */
void swap_put(struct quire *q, u64 entry, u32 n);
u32 swap_count(struct quire *q, u64 entry);
/* The record of a slot in use.  Under q->lock, or by who holds a counted entry. */
struct swap_slot *swap_slot_of(struct quire *q, u64 entry);
/* hooks.swap_dup, hooks.swap_free, hooks.total_swap_pages: by mm/, which holds mm->lock. */
void swap_dup_hook(struct quire *q, u64 entry);
void swap_free_hook(struct quire *q, u64 entry, u32 n);
u64 swap_total_hook(struct quire *q);
/* Walks everything; says through quire_log what is wrong.  Under q->lock. */
bool swap_is_valid(struct quire *q);

/* ---- swap/cache.c: under q->lock ---- */
/* The folio takes part as the entry's page; the cache has a reference of its own. */
void swap_cache_add(struct quire *q, struct folio *folio, u64 entry);
/* The cache's reference is dropped: the frame may be gone afterwards. */
void swap_cache_del(struct quire *q, struct folio *folio);
/* The entry's folio, without a reference, or NULL. */
struct folio *swap_cache_folio(struct quire *q, u64 entry);
/* The same with no lock, as a hint: NULL may be out of date, but if it is NULL, stored bytes may be read. */
bool swap_cache_empty_hint(struct quire *q, u64 entry);
bool swap_cached_hook(struct quire *q, u64 entry);

/* ---- swap/io.c ---- */
/* Of a counted entry's area.  Its `io` says whether it works through the port.  Any lock or none. */
const struct swap_ops *swap_ops_of(struct quire *q, u64 entry);
/* Under no lock, on a folio in the cache that the caller has a reference to and has set FF_SWAPOUT on: its bytes into w.  0,
 * -ENOSPC (not worth storing), -EIO.  On a device this is half of it: unless the page is of one word (w->state), swap_write_pages()
 * must follow. */
int swap_prepare(struct quire *q, const struct swap_ops *ops, const void *page, struct swap_write *w);
/* Under no lock: writes n pages to consecutive slots of a device, each held.  0, -EIO, -ENOSPC. */
int swap_write_pages(struct quire *q, u64 entry, u32 n, void *const *pages);
/* Under q->lock, FF_SWAPOUT still set: the slot has the bytes now.  0, -ENOMEM, -EIO. */
int swap_commit(struct quire *q, u64 entry, const struct swap_write *w);
/* Under q->lock: the bytes are `to`'s, which was committed and whose held count becomes the slot's. */
void swap_forward(struct quire *q, u64 entry, u64 to);
/* Reads the page of a counted entry whose folio is not in the cache into a frame nobody else sees.  0; -EIO; -EBADMSG: the
 * checksum does not fit; or -EAGAIN: end the transaction, swap_room_wait(), and try again.  Under any lock or none; inside a
 * transaction the frame must be one that a rollback may clear.  Not for what needs I/O. */
int swap_load(struct quire *q, u64 entry, void *page);

/* A page to be read from a device. */
struct swap_read {
	u64 entry;  /* where it lies (what is forwarded, is followed) */
	const struct swap_ops *ops; /* the area may be closed while it is read */
	u32 dev;
	u64 stamp;  /* slot->data; 0 = nothing to read */
	u32 sum;
};
/* Of a counted entry whose folio is not in the cache: must it be read from a device, and what?  Any lock or none. */
bool swap_needs_io(struct quire *q, u64 entry, struct swap_read *r);
/* Under q->lock: the n slots from aligned `first` on that could be read along with it; those that cannot have stamp 0. */
void swap_readahead_window(struct quire *q, u64 first, u32 n, struct swap_read *r);
/* Under no lock: reads n pages of consecutive entries.  result[i]: 0, -EIO or -EBADMSG. */
void swap_read_pages(struct quire *q, const struct swap_read *r, u32 n, void *const *pages, int *result);
/* Why a page is lost, for the log. */
const char *swap_error_text(int err);
/* Under q->lock: is what was read still the page? */
bool swap_read_is_current(struct quire *q, const struct swap_read *r);

/* ---- swap/zpool.c: under q->lock ---- */
/* Room for len bytes (1..SWAP_WRITE_MAX), filled with src.  0 = no memory. */
u64 zpool_store(struct quire *q, const void *src, u32 len);
/* With no lock by who knows that the object stays. */
void zpool_read(struct quire *q, u64 handle, void *dst, u32 len);
void zpool_free(struct quire *q, u64 handle, u32 len);

/* ---- swap/room.c ---- */
/* Under no lock.  An area needs rooms: 0 or -ENOMEM.  It needs them no more. */
int swap_rooms_get(struct quire *q);
void swap_rooms_put(struct quire *q);
/* A room (its mem) for oneself.  Under no lock, waits; NULL: there are none any more. */
struct swap_room *swap_room_lock(struct quire *q);
/* The same under any lock, never waits; NULL: none is free.  Inside a transaction it is kept until commit. */
struct swap_room *swap_room_trylock(struct quire *q);
void swap_room_unlock(struct swap_room *r);
/* Under no lock: until one may be free. */
void swap_room_wait(struct quire *q);

/* ---- swap/zstd.c: private memory, frames nobody else sees, and the room; never logged ---- */
size_t page_zstd_room(void); /* bytes of a room */
/* As page_compress(). */
u32 page_zstd_compress(const void *page, void *dst, u32 max, u32 level, void *room);
/* Where in the room (8-byte aligned, a page long) the bytes have to be, and then the same as page_decompress(). */
void *page_zstd_stored(void *room);
bool page_zstd_decompress(u32 len, void *page, void *room);

/* ---- swap/bytes.c: private memory and frames nobody else sees; never logged ---- */
#define PAGE_COMPRESS_WORK 4608u
/* Bytes of the compressed page (<= max), 0 if it does not fit. */
u32 page_compress(const void *page, void *dst, u32 max, void *work);
bool page_decompress(const void *src, u32 len, void *page);
/* Does the page consist of one 64-bit value? */
bool page_same_filled(const void *page, u64 *value);
void page_fill(void *page, u64 value);
u32 page_checksum(const void *page);
void copy_unlogged(void *dst, const void *src, size_t n); /* n a multiple of 8, both 8-byte aligned */

#endif
