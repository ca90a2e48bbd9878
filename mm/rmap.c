/*
 * Reverse mapping: from a folio to the entries that map it.  One function, rmap_walk(); how it finds them is nobody
 * else's business.
 *
 *   file folio:  mapping->i_mmap -> VMAs -> address by vm_pgoff -> entry
 *   anon folio:  family -> mms -> the VMA at index << 12 (almost always), or a moved VMA -> entry
 *
 * A family is all mms that came from one exec by fork, so anonymous pages can only be shared inside it.  mremap() keeps
 * the index of a page and makes its VMA a "moved" one; those few are on a list of their mm.
 *
 * Invariants: mapcount = entries that map any page of the folio; refcount >= mapcount.  folio->f.mapping of an
 * anonymous folio is valid while mapcount > 0 (then an mm of the family has it, so the family lives).
 * Locks: q->lock; mms by trylock because the order is mm->lock -> q->lock.
 */
#include <mm/mm.h>

/*
 * Locks of mms that map the folio which one transaction may keep: ctx->held[] has CTX_MAX_HELD places and callers hold some.  A walk that may
 * cycle keeps others waiting for less long; and each block of 2 MiB that is split takes 512 entries of the undo log.
 */
#define WALK_MAX_LOCKS 48u
#define WALK_FEW_LOCKS 8u

/* ---- counts ---- */
static u64 *mapped_counter(struct quire *q, const struct folio *folio)
{
	return folio->f.type == FRAME_ANON ? &q->nr_anon_pages : &q->nr_file_mapped;
}

void folio_add_rmap(struct quire *q, struct folio *folio, u32 n)
{
	lockdep_assert_held(&q->lock);
	if (!folio->f.mapcount)
		*mapped_counter(q, folio) += folio_nr_pages(folio);
	folio->f.mapcount += n;
}

void folio_add_new_anon_rmap(struct folio *folio, struct vm_area_struct *vma, u64 addr, u32 n)
{
	vma_prepare_anon(vma);
	folio->f.type = FRAME_ANON;
	folio->f.mapping = (u64)(uintptr_t)vma->anon;
	folio->f.index = linear_anon_index(vma, addr);
	folio_add_rmap(vma->vm_mm->q, folio, n);
}

void folio_add_anon_rmap(struct folio *folio, struct vm_area_struct *vma, u64 addr, u32 n)
{
	if (!folio->f.mapcount)
		folio_add_new_anon_rmap(folio, vma, addr, n);
	else
		folio_add_rmap(vma->vm_mm->q, folio, n);
}

void folio_remove_rmap(struct quire *q, struct folio *folio, u32 n)
{
	lockdep_assert_held(&q->lock);
	BUG_ON(folio->f.mapcount < n);
	folio->f.mapcount -= n;
	if (!folio->f.mapcount)
		*mapped_counter(q, folio) -= folio_nr_pages(folio);
}

int mm_counter(const struct folio *folio)
{
	switch (folio->f.type) {
	case FRAME_ANON: return MM_ANONPAGES;
	case FRAME_SHMEM: return MM_SHMEMPAGES;
	default: return MM_FILEPAGES;
	}
}

u64 vma_address(const struct vm_area_struct *vma, const struct folio *folio, u32 page)
{
	bool anon = folio->f.type == FRAME_ANON;
	u64 off = folio->f.index + page - (anon ? vma->anon_pgoff : vma->vm_pgoff);

	if (anon ? !vma->anon : !vma->vm_file || (u64)(uintptr_t)vma->vm_file->mapping != folio->f.mapping)
		return ~0ull;
	return off < vma_pages(vma) ? vma_start(vma) + (off << PAGE_SHIFT) : ~0ull;
}

/* ---- walks ---- */
struct walk {
	struct quire *q;
	struct folio *folio;
	rmap_visit_fn visit;
	void *arg;
	u32 flags;
	u32 max_locks;
	u32 left;  /* mappings not seen yet; 0 = done early */
	u32 locks; /* taken since the last commit, and kept until the next */
	bool used; /* something was found, or changed, in the mm at hand */
	bool stopped, busy;
};

static bool entry_is_wanted(pte_t p, pfn_t pfn, u32 flags)
{
	if (flags & RMAP_MIGRATION)
		return pte_is_migration(p) && pte_migration_pfn(p) == pfn;
	return pte_present(p) && !pte_special(p) && pte_pfn(p) == pfn;
}

/* The block at addr becomes pages, if it is this folio's (and not that of a copy). */
static void split_for_visitor(struct walk *w, struct mm_struct *mm, u64 addr, pfn_t pfn)
{
	pte_t *slot = addr & (PMD_SIZE - 1) ? NULL : pgtable_block(w->q, mm->pgd, addr);

	if (!slot || pte_pfn(pte_read(slot)) != pfn)
		return;
	w->used = true;
	mm_split_block(mm, addr);
}

/* Visits the entries of one VMA.  Under its mm's lock. */
static void walk_vma(struct walk *w, struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;
	pfn_t pfn = folio_pfn(w->q, w->folio);
	u32 nr = folio_nr_pages(w->folio);

	for (u32 i = 0; i < nr && w->left && !w->stopped; i++) {
		u64 addr = vma_address(vma, w->folio, i);
		pte_t *slot;

		/* Visitors know pages only. */
		if (i == 0 && nr == PT_ENTRIES)
			split_for_visitor(w, mm, addr, pfn);
		slot = addr == ~0ull ? NULL : pte_lookup(mm, addr);
		pte_t p = slot ? pte_read(slot) : __pte(0);

		if (!entry_is_wanted(p, pfn + i, w->flags))
			continue;
		w->left--;
		w->used = true;
		if (!w->visit(w->folio, vma, addr, slot, w->arg))
			w->stopped = true;
	}
}

/* Locks mm if that is possible now.  *locked says whether to unlock it. */
static bool walk_lock(struct walk *w, struct mm_struct *mm, bool *locked)
{
	*locked = false;
	if (spin_is_held(&mm->lock))
		return true;
	/* A lock that an earlier walk of the same transaction took is ours anyway, so a second walk reaches what it reached. */
	if (!spin_is_kept(&mm->lock)) {
		if ((w->flags & RMAP_KEPT) || w->locks >= w->max_locks || !spin_trylock(&mm->lock)) {
			spin_help(&mm->lock);
			w->busy = true;
			return false;
		}
		w->locks++;
		w->used = false;
	} else {
		spin_lock(&mm->lock);
		w->used = true; /* by the earlier walk, perhaps */
	}
	*locked = true;
	return true;
}

/* The lock of an mm where nothing was found is free at once: most folios of a large family are mapped by few of its members.  We
 * have q->lock, so the folio cannot come to be mapped there behind our back. */
static void walk_unlock(struct walk *w, struct mm_struct *mm)
{
	if (w->used) {
		spin_unlock(&mm->lock);
		return;
	}
	w->locks--;
	spin_unlock_unused(&mm->lock);
}

/* Between two mms: commits so that their locks are free again.  Returns whether q->lock was dropped. */
static bool walk_cycle(struct walk *w)
{
	if (!(w->flags & RMAP_MAY_CYCLE) || (w->locks < w->max_locks && !txn_should_break()))
		return false;
	spin_unlock(&w->q->lock);
	spin_lock(&w->q->lock);
	w->locks = 0;
	return true;
}

/* All VMAs of an mm that hold a part of an anonymous folio. */
static void walk_anon_mm(struct walk *w, struct mm_struct *mm)
{
	u64 start = w->folio->f.index << PAGE_SHIFT, end = start + ((u64)folio_nr_pages(w->folio) << PAGE_SHIFT);
	struct vm_area_struct *vma;

	for (vma = find_vma(mm, start); vma && vma_start(vma) < end; vma = vma_next(mm, vma))
		if (vma->anon_pgoff == vma_start(vma) >> PAGE_SHIFT)
			walk_vma(w, vma);
	for (vma = mm->moved_vmas; vma; vma = vma->moved_next)
		walk_vma(w, vma);
}

static void walk_anon(struct walk *w)
{
	struct anon_family *family = (struct anon_family *)(uintptr_t)w->folio->f.mapping;
	struct mm_struct *mm = family->mms;

	while (mm && w->left && !w->stopped) {
		u64 seq = mm->family_seq;
		bool locked;

		if (walk_lock(w, mm, &locked)) {
			walk_anon_mm(w, mm);
			if (locked)
				walk_unlock(w, mm);
		}
		if (!walk_cycle(w)) {
			mm = mm->family_next;
			continue;
		}
		/* Anything may have gone meanwhile: the folio's mappings, mms, the family. */
		if (!w->folio->f.mapcount || w->folio->f.mapping != (u64)(uintptr_t)family)
			return;
		for (mm = family->mms; mm && mm->family_seq >= seq; mm = mm->family_next)
			;
	}
}

static void walk_file(struct walk *w)
{
	struct address_space *m = (struct address_space *)(uintptr_t)w->folio->f.mapping;
	struct vm_area_struct *vma = m->i_mmap;

	while (vma && w->left && !w->stopped) {
		u64 seq = vma->i_mmap_seq;
		bool locked;

		if (walk_lock(w, vma->vm_mm, &locked)) {
			walk_vma(w, vma);
			if (locked)
				walk_unlock(w, vma->vm_mm);
		}
		if (!walk_cycle(w)) {
			vma = vma->i_mmap_next;
			continue;
		}
		if (!w->folio->f.mapcount || w->folio->f.mapping != (u64)(uintptr_t)m)
			return;
		for (vma = m->i_mmap; vma && vma->i_mmap_seq >= seq; vma = vma->i_mmap_next)
			;
	}
}

enum rmap_result rmap_walk(struct quire *q, struct folio *folio, rmap_visit_fn visit, void *arg, u32 flags)
{
	bool few = (flags & RMAP_MAY_CYCLE) || folio_nr_pages(folio) >= PT_ENTRIES;
	struct walk w = {.q = q, .folio = folio, .visit = visit, .arg = arg, .flags = flags, .left = folio->f.mapcount,
			 .max_locks = few ? WALK_FEW_LOCKS : WALK_MAX_LOCKS};

	lockdep_assert_held(&q->lock);
	if (!w.left || !folio->f.mapping)
		return RMAP_DONE;
	if (folio->f.type == FRAME_ANON)
		walk_anon(&w);
	else
		walk_file(&w);
	if (w.stopped)
		return RMAP_STOPPED;
	return w.busy && w.left ? RMAP_BUSY : RMAP_DONE;
}
