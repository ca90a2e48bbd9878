/*
 * The machine's own shared memory: anonymous shared mappings, System V segments, memfd-like objects.
 *
 * A shmem object is an address space whose bytes live in frames, or in swap (shmem_swap.c), and nowhere else, so it
 * needs no port.  Folios are made zero-filled on the first touch, by a fault or by a write; a read of a hole
 * through copy_out gives zeros and makes nothing.
 *
 * While memory is ample a touch makes a folio of 64 KiB, if its whole aligned block lies inside the object.  The
 * object may be cut inside a folio afterwards: then the folio stays, with zeros behind the end, and shmem_size alone
 * says which of its pages exist.  So whoever finds a shmem folio also compares the index with shmem_size.
 *
 * Locks: q->lock for shmem_size and the cache; copies run with no lock held, on a folio they hold a reference to.
 */
#include "filemap.h"

#define SHMEM_DEV 1u /* st_dev of Linux's internal tmpfs mount as maps prints it: 00:01 */

static u64 shmem_pages_locked(const struct address_space *m)
{
	return PAGE_ALIGN(m->shmem_size) >> PAGE_SHIFT;
}

/* 4 for a 64 KiB folio, if its block is free of folios and inside the object, and memory is plentiful. */
static unsigned shmem_order(const struct address_space *m, u64 index)
{
	struct quire *q = m->q;
	u64 base = ALIGN_DOWN(index, 1ul << CONT_PTE_ORDER), next = base;

	if (q->cfg.folio_max_order < CONT_PTE_ORDER || nr_free_pages(q) < totalram_pages(q) / 8)
		return 0;
	if (base + (1ul << CONT_PTE_ORDER) > shmem_pages_locked(m))
		return 0;
	if (shmem_any_swapped(m, base, base + (1ul << CONT_PTE_ORDER) - 1))
		return 0;
	return radix_next(&m->i_pages, &next, base + (1ul << CONT_PTE_ORDER) - 1) ? 0 : CONT_PTE_ORDER;
}

/* A held folio for index, not yet cleared.  NULL and *err: 0 if one is there already, IN_SWAP if it is there. */
#define IN_SWAP 1
static struct folio *shmem_alloc_hold(struct address_space *m, u64 index, u64 *base, int *err)
{
	struct quire *q = m->q;
	struct folio *folio = NULL;
	unsigned order = 0;

	spin_lock(&q->lock);
	*err = 0;
	if (index >= shmem_pages_locked(m)) {
		*err = -ERANGE;
	} else if (shmem_swap_entry(m, index)) {
		*err = IN_SWAP;
	} else if (!filemap_lookup(m, index)) {
		order = shmem_order(m, index);
		if (order)
			folio = folio_alloc_hold(q, (GFP_TRANSHUGE_LIGHT & ~__GFP_HIGHMEM) | __GFP_TELL_ZERO, order);
		if (!folio) {
			order = 0;
			folio = folio_alloc_hold(q, GFP_USER | __GFP_MOVABLE | __GFP_TELL_ZERO, 0);
		}
		if (!folio)
			*err = -ENOMEM;
	}
	spin_unlock(&q->lock);
	*base = ALIGN_DOWN(index, 1ul << order);
	return folio;
}

int shmem_fill(struct address_space *m, u64 index, bool *did_io)
{
	struct quire *q = m->q;
	struct folio *folio;
	u64 base;
	int err;

	folio = shmem_alloc_hold(m, index, &base, &err);
	if (!folio)
		return err == IN_SWAP ? shmem_swap_in(m, index, did_io) : err;
	folio_clear(q, folio);
	spin_lock(&q->lock);
	if (base + folio_nr_pages(folio) > shmem_pages_locked(m))
		err = -EAGAIN; /* it was cut meanwhile */
	else if (shmem_any_swapped(m, base, base + folio_nr_pages(folio) - 1))
		err = -EAGAIN; /* somebody made it, and it went to swap, meanwhile */
	else
		err = filemap_add_folio(m, folio, base);
	folio_unhold(q, folio);
	if (err)
		folio_put(q, folio, 1);
	else
		folio_mark_dirty(folio);
	spin_unlock(&q->lock);
	return err == -EEXIST ? -EAGAIN : err;
}

/* The folio at index with a reference, and the kernel address of that page; NULL if there is none. */
static struct folio *shmem_get_page(struct address_space *m, u64 index, u8 **va)
{
	struct quire *q = m->q;
	struct folio *folio;

	spin_lock(&q->lock);
	folio = index < shmem_pages_locked(m) ? filemap_lookup(m, index) : NULL;
	if (folio) {
		folio_get(folio, 1);
		*va = (u8 *)frame_address(q, &folio->f) + ((index - folio->f.index) << PAGE_SHIFT);
	}
	spin_unlock(&q->lock);
	return folio;
}

static void shmem_put_page(struct quire *q, struct folio *folio)
{
	spin_lock(&q->lock);
	folio_put(q, folio, 1);
	spin_unlock(&q->lock);
}

/* Makes index present, reclaiming if need be.  0 or negative errno. */
static int shmem_make(struct address_space *m, u64 index)
{
	struct quire *q = m->q;
	bool did_io;
	int err;

	while ((err = shmem_fill(m, index, &did_io)) == -EAGAIN || err == -ENOMEM) {
		if (err == -EAGAIN)
			continue;
		if (!q->hooks.try_to_free_pages || !q->hooks.try_to_free_pages(q, GFP_USER, 0))
			return -ENOMEM;
	}
	return err;
}

/* A page that is not there: 0 = a hole, 1 = it was in swap, look again, or why it cannot be had. */
static int shmem_back(struct address_space *m, u64 index)
{
	bool swapped;
	int err;

	spin_lock(&m->q->lock);
	swapped = shmem_swap_entry(m, index) || filemap_lookup(m, index);
	spin_unlock(&m->q->lock);
	if (!swapped)
		return 0;
	err = shmem_make(m, index);
	return err ? err : 1;
}

static long shmem_copy_out(struct address_space *m, u64 off, void *dst, size_t len)
{
	u64 size = mapping_size(m), done = 0;
	int err = 0;

	if (off >= size)
		return 0;
	len = MIN(len, size - off);
	while (done < len) {
		u64 in = (off + done) & (PAGE_SIZE - 1), n = MIN(PAGE_SIZE - in, len - done);
		u64 index = (off + done) >> PAGE_SHIFT;
		u8 *va, *to = (u8 *)dst + done;
		struct folio *folio = shmem_get_page(m, index, &va);

		if (!folio && READ_ONCE(m->nr_swapped) && (err = shmem_back(m, index))) {
			if (err > 0)
				continue;
			break;
		}
		if (folio) {
			memcpy(to, va + in, n);
			shmem_put_page(m->q, folio);
		} else {
			memset(to, 0, n);
		}
		done += n;
	}
	return done || !err ? (long)done : err;
}

static long shmem_copy_in(struct address_space *m, u64 off, const void *src, size_t len)
{
	u64 size = mapping_size(m), done = 0;
	int err = 0;

	if (off >= size)
		return 0;
	len = MIN(len, size - off);
	while (done < len && !err) {
		u64 in = (off + done) & (PAGE_SIZE - 1), n = MIN(PAGE_SIZE - in, len - done);
		u64 index = (off + done) >> PAGE_SHIFT;
		u8 *va;
		struct folio *folio = shmem_get_page(m, index, &va);

		if (!folio) {
			err = shmem_make(m, index);
			continue;
		}
		memcpy(va + in, (const u8 *)src + done, n);
		shmem_put_page(m->q, folio);
		done += n;
	}
	return done ? (long)done : err == -ERANGE ? 0 : err;
}

static u64 shmem_size(struct address_space *m)
{
	return mapping_size(m);
}

/* The object is gone: so is its charge. */
static void shmem_release(struct address_space *m)
{
	shmem_swap_drop(m, 0, ~0ull);
	spin_lock(&m->q->lock);
	m->q->committed_pages -= m->shmem_accounted;
	m->shmem_accounted = 0;
	spin_unlock(&m->q->lock);
}

static const struct mapping_ops shmem_ops = {
	.copy_in = shmem_copy_in,
	.copy_out = shmem_copy_out,
	.size = shmem_size,
	.release = shmem_release,
};

/* Charges the object's pages to Committed_AS, up or down.  Under q->lock. */
static void shmem_account(struct address_space *m, u64 pages)
{
	m->q->committed_pages += pages - m->shmem_accounted;
	m->shmem_accounted = pages;
}

struct file *shmem_file_setup(struct quire *q, const char *name, u64 size, u64 vm_flags)
{
	struct address_space *m;
	struct file *f;
	u64 ino;

	spin_lock(&q->lock);
	ino = ++q->shmem_last_ino;
	spin_unlock(&q->lock);
	m = mapping_get(q, SHMEM_DEV, ino, &shmem_ops, AS_SHMEM);
	if (!m)
		return NULL;
	spin_lock(&q->lock);
	m->shmem_size = size;
	if (!(vm_flags & VM_NORESERVE))
		shmem_account(m, PAGE_ALIGN(size) >> PAGE_SHIFT);
	spin_unlock(&q->lock);
	f = file_create(q, m, FMODE_READ | FMODE_WRITE, name);
	mapping_put(m);
	return f;
}

int shmem_set_size(struct address_space *m, u64 size)
{
	struct quire *q = m->q;
	bool shrink;

	if (!mapping_is_shmem(m) || (s64)size < 0)
		return -EINVAL;
	mutex_lock(&m->wb_mutex);
	spin_lock(&q->lock);
	shrink = size < m->shmem_size;
	m->shmem_size = size;
	if (m->shmem_accounted)
		shmem_account(m, PAGE_ALIGN(size) >> PAGE_SHIFT);
	spin_unlock(&q->lock);
	if (shrink) {
		/* The page that is cut in two must be there, that its rest can be cleared. */
		if (size & (PAGE_SIZE - 1))
			shmem_back(m, size >> PAGE_SHIFT);
		truncate_pagecache_locked(m, size);
	}
	mutex_unlock(&m->wb_mutex);
	return 0;
}
