/*
 * Cutting files: what lies behind the new end, or inside a hole, leaves the cache and every mapping.
 *
 * The order makes one pass enough.  The size is already new when we are called (shmem_size, or the host's file), and
 * i_seq moves, so that a read under way is not inserted.  Then the folios leave the cache: from here on no fault finds
 * them.  Only then are the mappings taken away; the frames live as long as an entry or a pin refers to them.  A
 * fault afterwards asks for the page again and finds it beyond the end: SIGBUS.
 *
 * Truncation also takes private copies of pages beyond the end away, as Linux does; a hole leaves them.
 *
 * Locks: m->wb_mutex for the whole, so that nothing is being written out meanwhile; inside it, one after the other,
 * the mmap_lock of each mm that maps the file; spin locks in pieces.
 */
#include "filemap.h"
#include <mm/mm.h>

/* Folios removed in one transaction. */
#define CUT_BATCH 64u

/* Pages [first, last] of a file. */
struct page_range {
	u64 first, last;
};

/* ---- the cache ---- */

/* What is in swap goes first, and nothing more goes there until the folios are gone, too. */
static void cut_swapped(struct address_space *m, struct page_range r)
{
	if (!mapping_is_shmem(m))
		return;
	spin_lock(&m->q->lock);
	m->cutting = true;
	spin_unlock(&m->q->lock);
	shmem_swap_drop(m, r.first, r.last);
}

/* Folios wholly inside the range go; one that only overlaps it stays (its bytes are cleared by the caller). */
static void delete_folios(struct address_space *m, struct page_range r)
{
	struct quire *q = m->q;
	struct folio *folio;
	u64 index = r.first;
	u32 n = 0;

	cut_swapped(m, r);
	spin_lock(&q->lock);
	m->i_seq++;
	while ((folio = radix_next(&m->i_pages, &index, r.last))) {
		u64 start = folio->f.index, end = start + folio_nr_pages(folio) - 1;

		if (start >= r.first && end <= r.last)
			filemap_delete_folio(m, folio);
		index = end + 1;
		if (!index)
			break;
		if (++n % CUT_BATCH == 0 || txn_should_break()) {
			spin_unlock(&q->lock);
			spin_lock(&q->lock);
		}
	}
	m->cutting = false;
	spin_unlock(&q->lock);
}

/* Zeroes bytes [start, end) of what is cached. */
static void clear_cached_bytes(struct address_space *m, u64 start, u64 end)
{
	struct quire *q = m->q;

	while (start < end) {
		u64 index = start >> PAGE_SHIFT, in = start & (PAGE_SIZE - 1), n = MIN(PAGE_SIZE - in, end - start);
		struct folio *folio;

		spin_lock(&q->lock);
		folio = filemap_lookup(m, index);
		if (folio)
			folio_get_hold(q, folio);
		spin_unlock(&q->lock);
		if (folio) {
			memset((u8 *)frame_address(q, &folio->f) + ((index - folio->f.index) << PAGE_SHIFT) + in, 0, n);
			folio_drop_held(q, folio);
		}
		start += n;
	}
}

/* First byte behind the folio that covers the page of `pos`, if one is cached; else the end of that page. */
static u64 folio_end(struct address_space *m, u64 pos)
{
	struct folio *folio;
	u64 end = PAGE_ALIGN(pos);

	spin_lock(&m->q->lock);
	folio = pos ? filemap_lookup(m, (pos - 1) >> PAGE_SHIFT) : NULL;
	if (folio)
		end = (folio->f.index + folio_nr_pages(folio)) << PAGE_SHIFT;
	spin_unlock(&m->q->lock);
	return end;
}

/* ---- the mappings ---- */

/* The next mm on i_mmap below *seq, counted; NULL at the end.  Its VMA is the one numbered *seq. */
static struct mm_struct *next_mapper(struct address_space *m, u64 *seq)
{
	struct mm_struct *mm = NULL;
	struct vm_area_struct *vma;

	spin_lock(&m->q->lock);
	for (vma = m->i_mmap; vma && !mm; vma = vma->i_mmap_next) {
		if (vma->i_mmap_seq >= *seq)
			continue;
		*seq = vma->i_mmap_seq;
		/* An mm without users is being torn down and will let go by itself. */
		if (vma->vm_mm->users) {
			mm = vma->vm_mm;
			mmget(mm);
		}
	}
	spin_unlock(&m->q->lock);
	return mm;
}

/* Where VMA number seq of this mm maps pages of the range.  False if nowhere.  Under mmap_lock. */
static bool mapped_range(struct address_space *m, struct mm_struct *mm, u64 seq, struct page_range r, u64 *start,
			 u64 *end)
{
	struct vm_area_struct *vma;
	bool found = false;

	spin_lock(&mm->lock);
	spin_lock(&m->q->lock);
	for (vma = m->i_mmap; vma && vma->i_mmap_seq > seq; vma = vma->i_mmap_next)
		;
	if (vma && vma->i_mmap_seq == seq && vma->vm_mm == mm) {
		u64 first = MAX(r.first, vma->vm_pgoff), last = MIN(r.last, vma->vm_pgoff + vma_pages(vma) - 1);

		found = first <= last;
		*start = vma_start(vma) + ((first - vma->vm_pgoff) << PAGE_SHIFT);
		*end = vma_start(vma) + ((last - vma->vm_pgoff + 1) << PAGE_SHIFT);
	}
	spin_unlock(&m->q->lock);
	spin_unlock(&mm->lock);
	return found;
}

static void unmap_mapping_range(struct address_space *m, struct page_range r, u32 zap_flags)
{
	struct mm_struct *mm;
	u64 seq = ~0ull, start, end;

	while ((mm = next_mapper(m, &seq))) {
		mutex_lock(&mm->mmap_lock); /* the VMA stays what it is */
		if (mapped_range(m, mm, seq, r, &start, &end))
			zap_range_pieces(mm, start, end, zap_flags | ZAP_KEEP_GUARDS);
		mutex_unlock(&mm->mmap_lock);
		mmput(mm);
	}
}

/* ---- the calls ---- */

void truncate_pagecache_locked(struct address_space *m, u64 size)
{
	struct page_range r = { PAGE_ALIGN(size) >> PAGE_SHIFT, ~0ull };

	DEBUG_ON(in_transaction());
	delete_folios(m, r);
	if (!mapping_is_token(m))
		clear_cached_bytes(m, size, folio_end(m, size));
	unmap_mapping_range(m, r, ZAP_ALL);
	/* A write through a mapping may have landed behind the end before it was taken away. */
	if (!mapping_is_token(m))
		clear_cached_bytes(m, size, folio_end(m, size));
}

void truncate_pagecache(struct address_space *m, u64 size)
{
	mutex_lock(&m->wb_mutex);
	truncate_pagecache_locked(m, size);
	mutex_unlock(&m->wb_mutex);
}

void invalidate_mapping_range(struct address_space *m, u64 start, u64 end)
{
	struct page_range r = { start >> PAGE_SHIFT, (PAGE_ALIGN(end) >> PAGE_SHIFT) - 1 };

	if (end <= start)
		return;
	mutex_lock(&m->wb_mutex);
	delete_folios(m, r);
	unmap_mapping_range(m, r, ZAP_KEEP_COWS);
	mutex_unlock(&m->wb_mutex);
}

int filemap_punch_hole(struct address_space *m, u64 start, u64 end)
{
	if (m->ops->punch_hole)
		return m->ops->punch_hole(m, start, end);
	if (!mapping_is_shmem(m))
		return -EOPNOTSUPP;
	end = MIN(end, PAGE_ALIGN(mapping_size(m)));
	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(end))
		return -EINVAL;
	if (start >= end)
		return 0;
	invalidate_mapping_range(m, start, end);
	/* Folios that reach out of the hole stayed. */
	clear_cached_bytes(m, start, end);
	return 0;
}
