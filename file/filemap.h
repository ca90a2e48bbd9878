/*
 * What the floors fault/ and reclaim/ (and this floor's own files) use of the page cache.
 * Functions in sections by the file that owns them.  The public half is include/quire/file.h.
 */
#ifndef QUIRE_FILEMAP_H
#define QUIRE_FILEMAP_H
#include <quire/machine.h>

/* ---- file/hold.c: a frame between its allocation and its use ----
 *
 * A new frame that must be cleared or read into is in nobody's hands while no lock is held.  So that it is not
 * lost if the context dies, it stands in ctx->parked[] from the transaction that allocated it to the one that
 * installs or frees it; whoever tidies up after a dead context drops the references listed there. */
/* Inside a transaction: an allocated and held folio, or NULL when memory is short (nothing is reclaimed here). */
struct folio *folio_alloc_hold(struct quire *q, gfp_t gfp, unsigned order);
/* Inside the transaction that allocated it: the folio is held.  False when the list is full. */
bool folio_hold_new(struct quire *q, struct folio *folio);
/* Under q->lock: one more reference to a folio, held, so that it may be used with no lock; ended by folio_drop_held().
 * */
void folio_get_hold(struct quire *q, struct folio *folio);
/* Inside a transaction: the folio has found its owner; the reference that the hold stood for is the caller's. */
void folio_unhold(struct quire *q, struct folio *folio);
/* Clears a new folio unless its frames are known to be zero (__GFP_TELL_ZERO).  Best under no lock. */
void folio_clear(struct quire *q, struct folio *folio);
/* Under no lock: a held folio is not needed after all. */
void folio_drop_held(struct quire *q, struct folio *folio);

/* ---- file/lru.c: q->lru_* lists.  All under q->lock ---- */
void folio_add_lru(struct quire *q, struct folio *folio); /* by FF_ACTIVE, FF_UNEVICTABLE, FF_SWAPBACKED */
void folio_add_lru_tail(struct quire *q, struct folio *folio); /* where reclaim looks first; it is on no list yet */
void folio_del_lru(struct quire *q, struct folio *folio); /* nothing if it is on none; fits hooks.lru_del */
struct frame_list *folio_lru_list(struct quire *q, const struct folio *folio);
/* It was read or written through a descriptor; the second time it is worth more (mark_page_accessed). */
void folio_mark_accessed(struct quire *q, struct folio *folio);
/* An unevictable folio may be looked at again: whoever locked it does so no more. */
void lru_rescue(struct quire *q, struct folio *folio);
/* At boot, before there are folios. */
void lru_set_policy(struct quire *q, const struct reclaim_policy *policy);

/* ---- file/workingset.c: under q->lock ---- */
/* At boot, before phys_init(). */
void workingset_init(struct quire *q);
/* Reclaim is about to take a file folio out of the cache. */
void workingset_eviction(struct quire *q, struct folio *folio);
/* The same for an anonymous one: what its swap slot shall remember (slot->shadow); never 0. */
u64 workingset_eviction_anon(struct quire *q, struct folio *folio);
/* A folio has just come into the cache, or from swap, and is on the lists. */
void workingset_refault(struct quire *q, struct folio *folio);
void workingset_refault_anon(struct quire *q, struct folio *folio, u64 shadow);
/* Was it part of the working set when it left?  Any lock or none. */
bool workingset_was_part(u64 shadow);
/* An inactive folio becomes active: it leaves the inactive lists, too. */
void workingset_activation(struct quire *q, const struct folio *folio);

/* ---- file/filemap.c ---- */
/* Under q->lock.  The folio that covers page index, without a reference; NULL if it is not cached. */
struct folio *filemap_lookup(const struct address_space *m, u64 index);
/* Under q->lock.  0, -EEXIST (some index is taken) or -ENOMEM, both changing nothing.  The cache takes over the
 * caller's reference. */
int filemap_add_folio(struct address_space *m, struct folio *folio, u64 index);
/* Under q->lock.  Takes an unmapped folio out and drops the cache's reference.  False (nothing done) if it is
 * mapped, dirty (unless a token), under writeback, or not of m. */
bool filemap_remove_folio(struct address_space *m, struct folio *folio);
/* The same whatever its state, for truncation. */
void filemap_delete_folio(struct address_space *m, struct folio *folio);

/* How many pages a miss brings in. */
enum ra_hint { RA_NORMAL, RA_RANDOM, RA_SEQUENTIAL };
/* Under no lock; may block.  Makes page index present if it lies inside the file, with its neighbours by hint.
 * 0, -ERANGE (beyond the end), -ENOMEM (nothing was reclaimed), -EAGAIN (lost a race: look again) or -EIO.
 * *did_io says whether bytes were fetched (a major fault). */
int filemap_fill(struct address_space *m, u64 index, enum ra_hint hint, bool *did_io);
/* Under no lock, may block: the file's size in bytes now. */
u64 mapping_size(struct address_space *m);
/* The hooks.readahead: n pages from index on, as far as memory and the file allow.  Under no lock. */
void filemap_readahead(struct address_space *m, u64 index, u64 n);
static inline bool mapping_is_token(const struct address_space *m) { return (m->flags & AS_TOKEN) != 0; }
static inline bool mapping_is_shmem(const struct address_space *m) { return (m->flags & AS_SHMEM) != 0; }
static inline struct address_space *folio_mapping(const struct folio *folio)
{
	bool file = folio->f.type == FRAME_FILE || folio->f.type == FRAME_SHMEM;

	return file ? (struct address_space *)folio->f.mapping : NULL;
}
/* Under q->lock: bytes of a frame-backed folio will differ from the file's. */
void folio_mark_dirty(struct folio *folio);
/* The same undone: it goes out, or is thrown away.  Under q->lock.  Was it dirty? */
bool folio_clear_dirty(struct folio *folio);
bool mapping_is_valid(const struct address_space *m); /* under q->lock */

/* ---- file/shmem.c ---- */
/* Under no lock: as filemap_fill for AS_SHMEM. */
int shmem_fill(struct address_space *m, u64 index, bool *did_io);

/* ---- file/shmem_swap.c ---- */
/* Under q->lock: the swap entry in the place of page index; 0 = none. */
u64 shmem_swap_entry(const struct address_space *m, u64 index);
/* Under q->lock: is one of pages [first, last] in swap? */
bool shmem_any_swapped(const struct address_space *m, u64 first, u64 last);
/* Under q->lock: a folio of one page that nobody maps, which the caller holds, leaves the object for the swap cache; the entry's
 * count becomes the object's.  False: not now, nothing has changed. */
bool shmem_swap_out(struct address_space *m, struct folio *folio, u64 entry);
/* Under no lock, may block.  0: look again; -ENOMEM (nothing was reclaimed), -EAGAIN (lost a race), -EIO. */
int shmem_swap_in(struct address_space *m, u64 index, bool *did_io);
/* Under no lock: pages [first, last] that are in swap are forgotten. */
void shmem_swap_drop(struct address_space *m, u64 first, u64 last);
/* Under no lock, for swapoff: everything in that area comes back.  0, -ENOMEM, -EIO. */
int shmem_unuse(struct quire *q, unsigned type);

/* ---- file/writeback.c ---- */
/* Under no lock, on a folio the caller holds a reference to.  Writes it out if it is dirty; for reclaim.  0, -EBUSY
 * (somebody else is at it), or an I/O error. */
int filemap_write_folio(struct address_space *m, struct folio *folio);
/* Under no lock: writes up to `pages` dirty pages from where the last such call stopped; *end: that was the end of the file, and the
 * next call begins at its beginning.  Pages written. */
u64 filemap_write_some(struct address_space *m, u64 pages, bool *end);

/* ---- file/truncate.c ---- */
/* The hooks.punch_hole: whole pages of [start, end) bytes of a shmem object read as zero afterwards.  Under no lock. */
int filemap_punch_hole(struct address_space *m, u64 start, u64 end);
/* The folios of a file whose bytes changed or went behind our back (tokens after the host cut or punched it): they
 * leave the cache and all mappings.  Bytes [start, end).  Under no lock. */
void invalidate_mapping_range(struct address_space *m, u64 start, u64 end);
/* truncate_pagecache() for callers that hold m->wb_mutex. */
void truncate_pagecache_locked(struct address_space *m, u64 size);

#endif
