/*
 * Shared memory of the machine in swap.
 *
 * A page of a shmem object is a folio in the object's cache, or a swap entry in m->swapped, or neither (a hole, which
 * reads as zero).  The object's entry is one count of the slot.
 *
 *	out  reclaim (reclaim/swapout_shmem.c): nobody maps the folio any more; in one transaction it leaves the object for
 *	     the swap cache, as if it were an anonymous page, and its entry takes its place.  From there on it goes the way of
 *	     those.
 *	in   a fault or a copy misses the page and finds the entry: shmem_swap_in().  The folio is still in the swap cache, or it is
 *	     read: from memory under q->lock, from a device under no lock, after which everything is looked at again.
 *
 * Who cuts an object says so in m->cutting (under wb_mutex) as long as nothing may go out, drops entries first and folios then:
 * so nothing slips from one place to the other between the two.
 *
 * Invariants: an index is never in both; m->nr_swapped counts m->swapped.  Locks: q->lock.
 */
#include "filemap.h"
#include <swap/swap.h>

#define DROP_AT_ONCE 64u

/* Entries as the pointers that a radix tree holds: odd, so none of them is NULL. */
static void *entry_to_value(u64 entry)
{
	return (void *)(uintptr_t)(entry << 1 | 1);
}

static u64 value_to_entry(const void *value)
{
	return (u64)(uintptr_t)value >> 1;
}

u64 shmem_swap_entry(const struct address_space *m, u64 index)
{
	const void *v = m->nr_swapped ? radix_lookup(&m->swapped, index) : NULL;

	return v ? value_to_entry(v) : 0;
}

bool shmem_any_swapped(const struct address_space *m, u64 first, u64 last)
{
	return m->nr_swapped && radix_next(&m->swapped, &first, last);
}

/* The index has no entry any more; its count goes. */
static void forget(struct address_space *m, u64 index, u64 entry)
{
	radix_store(m->q, &m->swapped, index, NULL);
	m->nr_swapped--;
	swap_put(m->q, entry, 1);
}

bool shmem_swap_out(struct address_space *m, struct folio *folio, u64 entry)
{
	struct quire *q = m->q;

	lockdep_assert_held(&q->lock);
	if (m->cutting || radix_store(q, &m->swapped, folio->f.index, entry_to_value(entry)))
		return false;
	m->nr_swapped++;
	filemap_delete_folio(m, folio); /* the caller's reference keeps it */
	folio->f.type = FRAME_ANON;
	folio->f.flags |= FF_SWAPBACKED | FF_UPTODATE;
	swap_cache_add(q, folio, entry);
	folio_add_lru(q, folio);
	return true;
}

/* ---- in ---- */

/* Under q->lock.  The folio (a reference, the caller's, becomes the cache's) takes the place of the entry.  0 or -ENOMEM: nothing
 * has changed. */
static int install(struct address_space *m, struct folio *folio, u64 index, u64 entry)
{
	u64 shadow = swap_slot_of(m->q, entry)->shadow;
	int err;

	folio_del_lru(m->q, folio);
	err = filemap_add_folio(m, folio, index);
	if (err)
		return err;
	folio_mark_dirty(folio);
	workingset_refault_anon(m->q, folio, shadow);
	forget(m, index, entry);
	return 0;
}

/* Under q->lock: the page is still in the swap cache.  Who is writing it out will see that it left. */
static int take_back(struct address_space *m, struct folio *folio, u64 index, u64 entry)
{
	struct quire *q = m->q;
	int err;

	folio_get(folio, 1);
	err = install(m, folio, index, entry);
	if (err) {
		folio_add_lru(q, folio);
		folio_put(q, folio, 1);
		return err;
	}
	/* If the last count went just now, it left the swap cache with it. */
	if (folio->f.flags & FF_SWAPCACHE)
		swap_cache_del(q, folio);
	return 0;
}

static void say_lost(struct quire *q, u64 entry, u64 index, int err)
{
	spin_lock(&q->lock);
	q->swap.read_errors++;
	spin_unlock(&q->lock);
	quire_log(q, 3, "Read-error on swap-device (%u:%llu): page %llu of shared memory is lost: %s", swp_type(entry),
		  (unsigned long long)swp_offset(entry), (unsigned long long)index, swap_error_text(err));
}

/* Under q->lock: reads what is in memory.  *r: it must be read from a device. */
static int load_now(struct address_space *m, u64 index, u64 entry, struct swap_read *r, bool *device)
{
	struct quire *q = m->q;
	struct folio *folio;
	int err;

	*device = swap_needs_io(q, entry, r);
	if (*device)
		return 0;
	folio = folio_alloc(q, GFP_USER | __GFP_MOVABLE, 0);
	if (!folio)
		return -ENOMEM;
	err = swap_load(q, entry, frame_address(q, &folio->f));
	if (!err)
		err = install(m, folio, index, entry);
	if (err)
		folio_put(q, folio, 1);
	else
		count_vm_event(q, PSWPIN);
	return err;
}

/* Under no lock: reads from a device, looks again, installs. */
static int load_from_device(struct address_space *m, u64 index, u64 entry, const struct swap_read *r)
{
	struct quire *q = m->q;
	struct folio *folio;
	void *page;
	int err;

	spin_lock(&q->lock);
	folio = folio_alloc_hold(q, GFP_USER | __GFP_MOVABLE, 0);
	spin_unlock(&q->lock);
	if (!folio)
		return -ENOMEM;
	page = frame_address(q, &folio->f);
	swap_read_pages(q, r, 1, &page, &err);
	spin_lock(&q->lock);
	folio_unhold(q, folio);
	if (shmem_swap_entry(m, index) != entry || !swap_read_is_current(q, r) || swap_cache_folio(q, entry))
		err = -EAGAIN;
	else if (!err)
		err = install(m, folio, index, entry);
	if (err)
		folio_put(q, folio, 1);
	else
		count_vm_event(q, PSWPIN);
	spin_unlock(&q->lock);
	return err;
}

int shmem_swap_in(struct address_space *m, u64 index, bool *did_io)
{
	struct quire *q = m->q;
	struct swap_read r;
	struct folio *folio;
	bool device = false;
	u64 entry;
	int err = 0;

	spin_lock(&q->lock);
	entry = shmem_swap_entry(m, index);
	folio = entry ? swap_cache_folio(q, entry) : NULL;
	if (folio)
		err = take_back(m, folio, index, entry);
	else if (entry)
		err = load_now(m, index, entry, &r, &device);
	*did_io = entry && !folio;
	spin_unlock(&q->lock);
	if (device)
		err = load_from_device(m, index, entry, &r);
	else if (err == -EAGAIN)
		swap_room_wait(q);
	if (err != -EIO && err != -EBADMSG)
		return err;
	say_lost(q, entry, index, err);
	return -EIO;
}

/* ---- entries go ---- */
void shmem_swap_drop(struct address_space *m, u64 first, u64 last)
{
	struct quire *q = m->q;
	void *v;
	u32 n = 0;

	spin_lock(&q->lock);
	while (m->nr_swapped && (v = radix_next(&m->swapped, &first, last))) {
		forget(m, first, value_to_entry(v));
		if (++n % DROP_AT_ONCE == 0 || txn_should_break()) {
			spin_unlock(&q->lock);
			spin_lock(&q->lock);
		}
	}
	spin_unlock(&q->lock);
}

/* Under q->lock: the first index from *index on whose entry lies in that area. */
static bool next_in_area(struct address_space *m, unsigned type, u64 *index)
{
	void *v;

	while ((v = radix_next(&m->swapped, index, ~0ull))) {
		if (swap_entry_in_area(m->q, value_to_entry(v), type))
			return true;
		++*index;
	}
	return false;
}

/* An object with a page in that area, counted, and which page; NULL = there is none. */
static struct address_space *next_object(struct quire *q, unsigned type, u64 *index)
{
	struct address_space *found = NULL;

	spin_lock(&q->lock);
	for (u32 i = 0; i < FILE_HASH_BUCKETS && !found; i++) {
		for (struct address_space *m = q->files[i]; m && !found; m = m->hash_next) {
			*index = 0;
			if (m->nr_swapped && next_in_area(m, type, index))
				found = m;
		}
	}
	if (found)
		found->refcount++;
	spin_unlock(&q->lock);
	return found;
}

int shmem_unuse(struct quire *q, unsigned type)
{
	struct address_space *m;
	u64 index;
	int err = 0;

	while (!err && (m = next_object(q, type, &index))) {
		bool did_io;

		do {
			err = shmem_swap_in(m, index, &did_io);
		} while (err == -EAGAIN || (err == -ENOMEM && q->hooks.try_to_free_pages &&
					    q->hooks.try_to_free_pages(q, GFP_USER, 0)));
		mapping_put(m);
	}
	return err;
}
