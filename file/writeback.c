/*
 * Writing dirty folios of frame-backed files out: msync, fsync, the last close, reclaim, the flusher (page_writeback.c).
 *
 * A folio is dirty if FF_DIRTY says so, or if an entry that maps it is dirty (hardware with dirty state only; else the
 * first write through an entry faults and sets FF_DIRTY).  Writing it out:
 *
 *   wb_mutex -> [q->lock: FF_DIRTY -> FF_WRITEBACK] -> [q->lock: entries clean and read-only again] -> flush
 *            -> write_folio -> [q->lock: FF_WRITEBACK off, i_seq moves] -> wb_mutex off
 *
 * A write that comes after the entries were cleaned faults and makes the folio dirty again, for the next round; one
 * that comes before is in the frame when write_folio reads it.  wb_mutex keeps two writers of one folio from overtaking
 * each other, and keeps truncation away.  If the write fails the folio is dirty again: nothing is lost silently.
 *
 * Tokens have no bytes here: the host writes them, and msync(MS_SYNC) makes them clean.  Shared memory has nowhere to go.
 *
 * Locks: wb_mutex outermost; q->lock; mm locks by trylock in rmap_walk().
 */
#include "filemap.h"
#include <mm/mm.h>

/* One round of cleaning handles the entries of one mm, so that one flush serves them. */
struct clean_step {
	struct mmu_gather tlb;
	struct mm_struct *mm; /* counted; NULL: no dirty entry met yet */
	bool more;            /* another mm has dirty entries, too */
	bool found;
};

static bool clean_entry(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct clean_step *s = arg;
	pte_t p = pte_read(slot);

	(void)folio;
	if (!pte_dirty(p) || !(vma->vm_flags & VM_SHARED))
		return true;
	s->found = true;
	if (s->mm && s->mm != vma->vm_mm) {
		s->more = true;
		return false;
	}
	if (!s->mm) {
		s->mm = vma->vm_mm;
		if (s->mm->users)
			mmget(s->mm); /* else it runs no more: no translation of it is in use */
		tlb_gather_mmu(&s->tlb, s->mm);
	}
	set_pte(s->mm, slot, pte_mkclean(p));
	tlb_remove(&s->tlb, addr, 1, pte_pfn(p), 0);
	return true;
}

/* Cleans all entries that map the folio.  True if one was dirty.  Under no lock; the folio is held. */
static bool clean_entries(struct address_space *m, struct folio *folio)
{
	struct quire *q = m->q;
	bool dirty = false, again = true;

	while (again) {
		struct clean_step s = { 0 };
		enum rmap_result r;
		bool counted;

		spin_lock(&q->lock);
		r = rmap_walk(q, folio, clean_entry, &s, 0);
		if (s.mm)
			tlb_flush(&s.tlb);
		counted = s.mm && s.mm->users;
		spin_unlock(&q->lock);
		if (counted) {
			tlb_finish_mmu(&s.tlb);
			mmput(s.mm);
		}
		dirty |= s.found;
		again = s.more || r == RMAP_BUSY;
		if (r == RMAP_BUSY)
			port_relax();
	}
	return dirty;
}

/* Takes the dirty mark.  From here on FF_WRITEBACK keeps the folio in place.  Was it dirty?
 * A token has no bytes that anybody writes: without the mark, a death in the middle leaves nothing behind (-9 from outside). */
static bool start_writeback(struct address_space *m, struct folio *folio)
{
	struct quire *q = m->q;
	bool dirty;

	spin_lock(&q->lock);
	dirty = folio_clear_dirty(folio);
	if (!mapping_is_token(m)) {
		folio->f.flags |= FF_WRITEBACK;
		q->nr_writeback_pages += folio_nr_pages(folio);
	}
	spin_unlock(&q->lock);
	return dirty;
}

/* found: an entry was dirty of which the folio did not know. */
static void end_writeback(struct address_space *m, struct folio *folio, bool written, bool found, int err)
{
	struct quire *q = m->q;

	spin_lock(&q->lock);
	if (!mapping_is_token(m)) {
		folio->f.flags &= (u16)~FF_WRITEBACK;
		q->nr_writeback_pages -= folio_nr_pages(folio);
	}
	if (found && !mapping_is_token(m))
		count_vm_events(q, NR_DIRTIED, folio_nr_pages(folio));
	if (written) {
		m->i_seq++;
		if (err)
			folio_mark_dirty(folio);
		else
			count_vm_events(q, NR_WRITTEN, folio_nr_pages(folio));
		if (!err)
			count_vm_events(q, PGPGOUT, (u64)folio_nr_pages(folio) << (PAGE_SHIFT - 10));
	}
	spin_unlock(&q->lock);
}

static bool still_in_file(struct address_space *m, struct folio *folio)
{
	bool in;

	spin_lock(&m->q->lock);
	in = folio_mapping(folio) == m;
	spin_unlock(&m->q->lock);
	return in;
}

/* Under wb_mutex, so the folio stays in the file if it is there now. */
static int write_one(struct address_space *m, struct folio *folio)
{
	bool dirty, in_entries;
	int err = 0;

	if (!still_in_file(m, folio))
		return 0;
	/* In this order: a write fault that comes between the two sets FF_DIRTY again, and the next round sees it. */
	dirty = start_writeback(m, folio);
	in_entries = clean_entries(m, folio);
	if ((dirty || in_entries) && !mapping_is_token(m))
		err = port_should_fail(m->q, FAIL_IO) ? -EIO : m->ops->write_folio(m, folio);
	end_writeback(m, folio, dirty || in_entries, in_entries && !dirty, err);
	return err;
}

int filemap_write_folio(struct address_space *m, struct folio *folio)
{
	int err;

	if (m->flags & (AS_TOKEN | AS_SHMEM))
		return 0;
	if (!mutex_trylock(&m->wb_mutex))
		return -EBUSY;
	err = write_one(m, folio);
	mutex_unlock(&m->wb_mutex);
	return err;
}

/* The first folio at or after *index, up to last, that may be dirty; held.  NULL at the end. */
static struct folio *next_dirty(struct address_space *m, u64 *index, u64 last)
{
	struct quire *q = m->q;
	struct folio *folio;

	spin_lock(&q->lock);
	while ((folio = radix_next(&m->i_pages, index, last))) {
		bool hw = (q->caps & PORT_CAP_HW_DBM) && folio->f.mapcount;

		*index = folio->f.index + folio_nr_pages(folio);
		if (hw || (folio->f.flags & FF_DIRTY))
			break;
	}
	if (folio)
		folio_get_hold(q, folio);
	spin_unlock(&q->lock);
	return folio;
}

static int write_range(struct address_space *m, u64 index, u64 last)
{
	struct folio *folio;
	int err = 0, e;

	mutex_lock(&m->wb_mutex);
	while (index <= last && (folio = next_dirty(m, &index, last))) {
		e = write_one(m, folio);
		folio_drop_held(m->q, folio);
		err = err ? err : e;
	}
	mutex_unlock(&m->wb_mutex);
	return err;
}

u64 filemap_write_some(struct address_space *m, u64 pages, bool *end)
{
	u64 index, written = 0, seen = 0;
	struct folio *folio = NULL;

	mutex_lock(&m->wb_mutex);
	index = READ_ONCE(m->writeback_index);
	while (seen < pages && (folio = next_dirty(m, &index, ~0ull))) {
		seen += folio_nr_pages(folio);
		written += write_one(m, folio) ? 0 : folio_nr_pages(folio);
		folio_drop_held(m->q, folio);
	}
	*end = !folio;
	spin_lock(&m->q->lock);
	m->writeback_index = *end ? 0 : index;
	spin_unlock(&m->q->lock);
	mutex_unlock(&m->wb_mutex);
	return written;
}

int filemap_sync(struct address_space *m, u64 start, u64 end, bool wait)
{
	int err = 0, e;

	if (end <= start)
		return 0;
	/* Tokens only become clean, the host writes; asked for without waiting they stay what they are, as on Linux. */
	if (mapping_is_token(m) ? wait : !mapping_is_shmem(m))
		err = write_range(m, start >> PAGE_SHIFT, (end - 1) >> PAGE_SHIFT);
	if (!wait || !m->ops->sync)
		return err;
	e = m->ops->sync(m, start, end);
	return err ? err : e;
}
