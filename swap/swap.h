/*
 * What swap/ offers to the floors below it (fault, reclaim, proc) and its own files share.  Sections by owning file.
 *
 * A slot's life
 *
 *	free --swap_alloc()--> in use, folio in the swap cache, no bytes yet
 *	        its page is unmapped: entries become swap entries, each counted
 *	     --swap_commit()--> bytes stored; the folio may leave the cache, and its frame be freed
 *	        a fault: the folio is found in the cache, or made again from the bytes
 *	     --swap_put(): the last count--> free; a folio in the cache leaves it and is an ordinary page again
 *
 * Invariants at every commit (swap_is_valid):
 *   - a slot is in use exactly while its count, the number of page-table entries that hold its entry, is at least 1;
 *   - a slot in use has a folio in the cache, or stored bytes, or both (then they are the same bytes);
 *   - a folio in the cache is of order 0, has FF_SWAPCACHE, its entry in frame.private, and one reference of the cache;
 *   - bytes once stored do not change while the slot is in use, so who holds a counted entry may read them with no lock.
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
};

/* 32 bytes; 128 of them in a frame. */
struct swap_slot {
	u32 count;    /* page-table entries that hold the entry; 0 = free */
	pfn_t folio;  /* in the swap cache: pfn + 1; 0 = none */
	u32 sum;      /* checksum of the page's bytes, unless SLOT_EMPTY */
	u16 len;      /* bytes stored by the back end */
	u8 state;     /* enum slot_state */
	u8 refused;   /* its page would not get smaller; bytes do not change while a slot is in use, so nor does this */
	u64 data;     /* the word (SLOT_FILLED), or the back end's own */
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
	const char *kind; /* as /proc/swaps calls it */
	/* Under no lock; the page may be changing (then the result is thrown away).  Puts it into w.  -ENOSPC: it would not
	 * get smaller. */
	int (*prepare)(struct swap_area *a, const void *page, struct swap_write *w);
	/* Under q->lock: keeps what was prepared for this slot, sets slot->data and len.  -ENOMEM. */
	int (*store)(struct swap_area *a, struct swap_slot *slot, const struct swap_write *w);
	/* The page's bytes, into a frame nobody else sees.  The slot cannot go or change meanwhile.  Any lock or none: must
	 * neither block nor write anything else.  -EIO. */
	int (*load)(struct swap_area *a, const struct swap_slot *slot, void *page);
	/* Under q->lock: the bytes are not needed any more. */
	void (*free)(struct swap_area *a, struct swap_slot *slot);
};
extern const struct swap_ops swap_ops_compressed; /* swap/compressed.c */

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
	char name[SWAP_NAME_MAX + 1];
	u32 type;
	s32 prio;
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
/* Under q->lock.  A slot with count 1 for the caller's entry; 0 when swap is full or memory short. */
u64 swap_alloc(struct quire *q);
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
/* Under no lock, on a folio in the cache that the caller has a reference to and has set FF_SWAPOUT on: its bytes into w.  0,
 * -ENOSPC (not worth storing), -EIO. */
int swap_prepare(struct quire *q, u64 entry, const void *page, struct swap_write *w);
/* Under q->lock, FF_SWAPOUT still set: the slot has the bytes now.  0, -ENOMEM, -EIO. */
int swap_commit(struct quire *q, u64 entry, const struct swap_write *w);
/* Reads the page of a counted entry whose folio is not in the cache into a frame nobody else sees.  0 or -EIO.  Under any lock
 * or none; inside a transaction the frame must be one that a rollback may clear. */
int swap_load(struct quire *q, u64 entry, void *page);

/* ---- swap/zpool.c: under q->lock ---- */
/* Room for len bytes (1..SWAP_WRITE_MAX), filled with src.  0 = no memory. */
u64 zpool_store(struct quire *q, const void *src, u32 len);
/* With no lock by who knows that the object stays. */
void zpool_read(struct quire *q, u64 handle, void *dst, u32 len);
void zpool_free(struct quire *q, u64 handle, u32 len);

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
