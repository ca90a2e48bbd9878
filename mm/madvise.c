/*
 * madvise: advice that only sets VMA flags, advice that takes pages away, advice that brings them in, and guard pages.
 *
 *   flags    NORMAL RANDOM SEQUENTIAL DONTFORK DOFORK WIPEONFORK KEEPONFORK DONTDUMP DODUMP (UN)MERGEABLE (NO)HUGEPAGE
 *   away     DONTNEED DONTNEED_LOCKED FREE REMOVE COLD PAGEOUT
 *   in       WILLNEED POPULATE_READ POPULATE_WRITE COLLAPSE
 *   guards   GUARD_INSTALL GUARD_REMOVE: non-present entries on which any touch is SIGSEGV
 *
 * The range is walked VMA by VMA; holes are skipped and reported by -ENOMEM at the end.  What needs no lock (I/O,
 * faults) runs between two looks at the tree.
 * Locks: mmap_lock + mm->lock for flags and guards; mm->lock alone for zapping.
 */
#include <mm/vma.h>

/* One VMA's part of the range. */
struct advice {
	struct mmu_gather *tlb;
	struct mm_struct *mm;
	struct vm_area_struct *vma;
	u64 start, end; /* bytes */
	int behavior;
	/* A job for after the locks are dropped: */
	struct file *file;        /* counted */
	u64 file_start, file_end; /* bytes of the file */
};

/* ---- flags ---- */
static int ksm_flags(const struct vm_area_struct *vma, int behavior, u64 *flags)
{
	if (behavior == MADV_UNMERGEABLE)
		*flags &= ~VM_MERGEABLE;
	else if (!(vma->vm_flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_DROPPABLE)))
		*flags |= VM_MERGEABLE;
	return 0;
}

/* The flags after the advice.  0, or -EINVAL if it does not suit the VMA. */
static int advised_flags(const struct vm_area_struct *vma, int behavior, u64 *flags)
{
	u64 old = *flags;

	switch (behavior) {
	case MADV_NORMAL: *flags = old & ~(VM_RAND_READ | VM_SEQ_READ); return 0;
	case MADV_SEQUENTIAL: *flags = (old & ~VM_RAND_READ) | VM_SEQ_READ; return 0;
	case MADV_RANDOM: *flags = (old & ~VM_SEQ_READ) | VM_RAND_READ; return 0;
	case MADV_DONTFORK: *flags = old | VM_DONTCOPY; return 0;
	case MADV_DOFORK: *flags = old & ~VM_DONTCOPY; return old & VM_SPECIAL ? -EINVAL : 0;
	case MADV_WIPEONFORK: *flags = old | VM_WIPEONFORK; return vma->vm_file || (old & VM_SHARED) ? -EINVAL : 0;
	case MADV_KEEPONFORK: *flags = old & ~VM_WIPEONFORK; return old & VM_DROPPABLE ? -EINVAL : 0;
	case MADV_DONTDUMP: *flags = old | VM_DONTDUMP; return 0;
	case MADV_DODUMP: *flags = old & ~VM_DONTDUMP; return old & (VM_SPECIAL | VM_DROPPABLE) ? -EINVAL : 0;
	case MADV_HUGEPAGE: *flags = (old & ~VM_NOHUGEPAGE) | VM_HUGEPAGE; return 0;
	case MADV_NOHUGEPAGE: *flags = (old & ~VM_HUGEPAGE) | VM_NOHUGEPAGE; return 0;
	default: return ksm_flags(vma, behavior, flags);
	}
}

static int advise_flags(struct advice *a)
{
	u64 flags = a->vma->vm_flags;
	int err = advised_flags(a->vma, a->behavior, &flags);

	if (err || flags == a->vma->vm_flags)
		return err;
	if (mm_prepare(a->mm, 2) != 0 || IS_ERR(vma_modify_flags(a->mm, a->vma, a->start, a->end, flags)))
		return -EAGAIN;
	return 0;
}

/* ---- away ---- */
static int advise_dontneed(struct advice *a)
{
	u64 forbidden = VM_PFNMAP | (a->behavior == MADV_DONTNEED_LOCKED ? 0 : VM_LOCKED), at = a->start;

	if (a->vma->vm_flags & forbidden)
		return -EINVAL;
	while (!zap_page_range(a->tlb, &at, a->end, ZAP_KEEP_GUARDS))
		tlb_cycle(a->tlb);
	return 0;
}

/* Pages of one folio, all of it, that nobody else maps become lazily freed. */
static void free_lazily(struct advice *a, struct folio *folio, const struct pt_iter *it, pte_t p)
{
	struct quire *q = a->mm->q;
	u32 nr = folio_nr_pages(folio);
	bool sole;

	if (pte_pfn(p) != folio_pfn(q, folio) || it->addr + ((u64)nr << PAGE_SHIFT) > a->end)
		return;
	spin_lock(&q->lock);
	sole = folio->f.type == FRAME_ANON && folio->f.mapcount == nr && folio->f.refcount == nr &&
	       !(folio->f.flags & FF_SWAPCACHE);
	for (u32 i = 0; sole && i < nr; i++) {
		pte_t *slot = pte_lookup(a->mm, it->addr + ((u64)i << PAGE_SHIFT));

		sole = slot && pte_present(pte_read(slot)) && pte_pfn(pte_read(slot)) == pte_pfn(p) + i;
	}
	if (sole) {
		/* Among the pages of files, which need no swap to be reclaimed. */
		q->hooks.lru_del(q, folio);
		folio->f.flags &= (u16) ~(FF_DIRTY | FF_REFERENCED | FF_SWAPBACKED | FF_ACTIVE | FF_LIST1 | FF_UNEVICTABLE);
		q->hooks.lru_add(q, folio);
		count_vm_events(q, PGLAZYFREE, nr);
	}
	spin_unlock(&q->lock);
	for (u32 i = 0; sole && i < nr; i++) {
		u64 addr = it->addr + ((u64)i << PAGE_SHIFT);
		pte_t *slot = pte_lookup(a->mm, addr);

		set_pte(a->mm, slot, pte_mkold(pte_mkclean(pte_read(slot))));
		tlb_remove(a->tlb, addr, 1, 0, 0);
	}
}

static void free_swap(struct advice *a, pte_t *slot, pte_t p)
{
	if (a->mm->q->hooks.swap_free)
		a->mm->q->hooks.swap_free(a->mm->q, pte_to_swp_entry(p), 1);
	add_mm_counter(a->mm, MM_SWAPENTS, -1);
	set_pte(a->mm, slot, __pte(0));
}

/* Returns whether the rest of the VMA's range is done. */
static bool free_piece(struct advice *a)
{
	struct pt_iter it;
	bool progress = false;

	pt_iter_init(&it, a->mm->q, a->mm->pgd, a->start, a->end);
	while (pt_iter_next(&it)) {
		pte_t p = pte_read(it.slot);

		a->start = it.addr;
		if (progress && txn_should_break())
			return false;
		progress = true;
		if (it.level != PT_LAST_LEVEL) {
			if (mm_split_block(a->mm, it.addr))
				pt_iter_again(&it);
			continue;
		}
		if (pte_is_swap(p))
			free_swap(a, it.slot, p);
		else if (pte_present(p) && !pte_special(p))
			free_lazily(a, pte_folio(a->mm, p), &it, p);
	}
	return true;
}

static int advise_free(struct advice *a)
{
	if ((a->vma->vm_flags & (VM_PFNMAP | VM_LOCKED)) || !vma_is_anonymous(a->vma))
		return -EINVAL;
	while (!free_piece(a))
		tlb_cycle(a->tlb);
	return 0;
}

/* Remembers the file's part, with a reference, for advise_unlocked(). */
static int want_file(struct advice *a)
{
	u64 base = a->vma->vm_pgoff << PAGE_SHIFT;

	a->file = a->vma->vm_file;
	a->file_start = base + (a->start - vma_start(a->vma));
	a->file_end = base + (a->end - vma_start(a->vma));
	spin_lock(&a->mm->q->lock);
	a->file->refcount++;
	file_note_held(port_ctx(), a->file);
	spin_unlock(&a->mm->q->lock);
	return 0;
}

static int advise_remove(struct advice *a)
{
	if ((a->vma->vm_flags & VM_LOCKED) || !a->vma->vm_file)
		return -EINVAL;
	if ((a->vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) != (VM_SHARED | VM_MAYWRITE))
		return -EACCES;
	return want_file(a);
}

/* ---- guards ---- */
static bool guard_allowed(const struct vm_area_struct *vma, bool locked_too)
{
	return !(vma->vm_flags & (VM_SPECIAL | (locked_too ? 0 : VM_LOCKED)));
}

/* Marks pages from *at on.  1 = all marked, 0 = commit and go on, -ENOMEM. */
static int guard_piece(struct advice *a, u64 *at)
{
	for (bool progress = false; *at < a->end; *at += PAGE_SIZE, progress = true) {
		pte_t *slot;

		if (progress && txn_should_break())
			return 0;
		slot = pte_alloc(a->mm, *at);
		if (!slot)
			return -ENOMEM;
		set_pte(a->mm, slot, pte_mkguard());
	}
	return 1;
}

static int advise_guard(struct advice *a)
{
	u64 at = a->start;
	unsigned tries = 0;
	int ret;

	if (!guard_allowed(a->vma, false))
		return -EINVAL;
	a->vma->vm_flags |= VM_MAYBE_GUARD; /* so that fork copies the marks */
	if (vma_is_anonymous(a->vma))
		vma_prepare_anon(a->vma);
	mark_busy(a->mm, a->start, a->end);
	while (!zap_page_range(a->tlb, &at, a->end, ZAP_ALL))
		tlb_cycle(a->tlb);
	at = a->start;
	while ((ret = guard_piece(a, &at)) != 1) {
		tlb_flush(a->tlb);
		spin_unlock(&a->mm->lock);
		tlb_finish_mmu(a->tlb);
		if (ret < 0)
			ret = mm_reclaim(a->mm->q, &tries);
		spin_lock(&a->mm->lock);
		if (ret < 0)
			break;
	}
	clear_busy(a->mm);
	return ret < 0 ? ret : 0;
}

static int advise_unguard(struct advice *a)
{
	struct pt_iter it;

	if (!guard_allowed(a->vma, true))
		return -EINVAL;
	pt_iter_init(&it, a->mm->q, a->mm->pgd, a->start, a->end);
	while (pt_iter_next(&it)) {
		if (pte_is_guard(pte_read(it.slot)))
			set_pte(a->mm, it.slot, __pte(0));
		if (txn_should_break()) {
			mmap_write_cycle(a->mm);
			pt_iter_init(&it, a->mm->q, a->mm->pgd, it.next, a->end);
		}
	}
	return 0;
}

/* ---- in ---- */
static int advise_willneed(struct advice *a)
{
	/* Memory without a file behind it: what is swapped out comes back by faults, a readahead window at a time. */
	return a->vma->vm_file && !(a->vma->vm_file->mapping->flags & AS_SHMEM) ? want_file(a) : 0;
}

static int advise_cold(struct advice *a)
{
	return a->vma->vm_flags & (VM_LOCKED | VM_PFNMAP) ? -EINVAL : 0;
}

/* Best effort by definition: neighbours are merged when they are faulted in.  But there must be room for a large page, and
 * files have none. */
static int advise_collapse(const struct advice *a)
{
	bool file = a->vma->vm_file && !(a->vma->vm_file->mapping->flags & AS_SHMEM);

	return file || (a->vma->vm_flags & VM_SPECIAL) || ALIGN_UP(vma_start(a->vma), PMD_SIZE) + PMD_SIZE > vma_end(a->vma) ?
		       -EINVAL : 0;
}

static bool takes_away(int behavior)
{
	switch (behavior) {
	case MADV_FREE:
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_REMOVE:
	case MADV_DONTFORK:
	case MADV_WIPEONFORK:
	case MADV_GUARD_INSTALL: return true;
	default: return false;
	}
}

/* mseal(2): what the program may not write it shall not be able to clear either.  Shared memory and files keep their bytes. */
static bool advice_sealed_off(const struct advice *a)
{
	return vma_is_sealed(a->vma) && takes_away(a->behavior) && vma_is_anonymous(a->vma) && !(a->vma->vm_flags & VM_WRITE);
}

/* One VMA, under the locks. */
static int advise_vma(struct advice *a)
{
	if (advice_sealed_off(a))
		return -EPERM;
	switch (a->behavior) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED: return advise_dontneed(a);
	case MADV_FREE: return advise_free(a);
	case MADV_REMOVE: return advise_remove(a);
	case MADV_COLD:
	case MADV_PAGEOUT: return advise_cold(a);
	case MADV_WILLNEED: return advise_willneed(a);
	case MADV_GUARD_INSTALL: return advise_guard(a);
	case MADV_GUARD_REMOVE: return advise_unguard(a);
	case MADV_COLLAPSE: return advise_collapse(a);
	default: return advise_flags(a);
	}
}

/* What remains to be done for the VMA with no lock held. */
static int advise_unlocked(struct advice *a)
{
	const struct quire_hooks *hooks = &a->mm->q->hooks;
	int err = 0;

	if (a->behavior == MADV_REMOVE && a->file)
		err = hooks->punch_hole ? hooks->punch_hole(a->file->mapping, a->file_start, a->file_end) : -EOPNOTSUPP;
	if (a->behavior == MADV_WILLNEED && a->file && hooks->readahead)
		hooks->readahead(a->file->mapping, a->file_start >> PAGE_SHIFT,
				 (a->file_end - a->file_start) >> PAGE_SHIFT);
	if ((a->behavior == MADV_COLD || a->behavior == MADV_PAGEOUT) && hooks->madvise_cold)
		hooks->madvise_cold(a->mm, a->start, a->end, a->behavior == MADV_PAGEOUT);
	if (a->file && hooks->file_put)
		hooks->file_put(a->file);
	return err;
}

/* Advises the first VMA of [*start, end).  1 = go on at *start, 0 = done, or the errno. */
static int advise_step(struct mm_struct *mm, struct mmu_gather *tlb, u64 *start, u64 end, int behavior, bool *hole)
{
	struct advice a = {.tlb = tlb, .mm = mm, .behavior = behavior};
	u64 stop;
	int err;

	mmap_write_begin(mm);
	a.vma = find_vma(mm, *start);
	if (!a.vma || vma_start(a.vma) >= end) {
		mmap_write_end(mm);
		*hole = true;
		return 0;
	}
	*hole |= vma_start(a.vma) > *start;
	a.start = MAX(*start, vma_start(a.vma));
	a.end = stop = MIN(end, vma_end(a.vma));
	err = advise_vma(&a);
	finish_call(tlb);
	a.start = MIN(a.start, stop);
	if (!err)
		err = advise_unlocked(&a);
	*start = stop;
	return err ? err : stop < end;
}

/* ---- MADV_POPULATE_* ---- */

/* 1 = go on at *start, 0 = done, or the errno. */
static int populate_step(struct mm_struct *mm, u64 *start, u64 end, bool write)
{
	struct vm_area_struct *vma;
	u64 stop = 0;
	int err = 0;

	spin_lock(&mm->lock);
	vma = vma_lookup(mm, *start);
	if (!vma)
		err = -ENOMEM;
	else if ((vma->vm_flags & (VM_IO | VM_PFNMAP)) || !(vma->vm_flags & (write ? VM_WRITE : VM_READ)))
		err = -EINVAL;
	else
		stop = MIN(vma_end(vma), end);
	spin_unlock(&mm->lock);
	if (err)
		return err;
	if (mm->q->hooks.fault_in)
		err = mm->q->hooks.fault_in(mm, *start, stop, write);
	*start = stop;
	return err ? err : stop < end;
}

/* ---- the call ---- */
static bool behavior_valid(int behavior)
{
	return (behavior >= MADV_NORMAL && behavior <= MADV_DONTNEED) ||
	       (behavior >= MADV_FREE && behavior <= MADV_COLLAPSE) || behavior == MADV_GUARD_INSTALL ||
	       behavior == MADV_GUARD_REMOVE;
}

long do_madvise(struct mm_struct *mm, u64 addr, u64 len, int behavior)
{
	u64 end = addr + PAGE_ALIGN(len);
	struct mmu_gather tlb;
	bool hole = false;
	int more = 1;

	if (!behavior_valid(behavior) || !PAGE_ALIGNED(addr) || (len && !PAGE_ALIGN(len)) || end < addr)
		return -EINVAL;
	tlb_gather_mmu(&tlb, mm);
	while (more > 0 && addr < end) {
		if (behavior == MADV_POPULATE_READ || behavior == MADV_POPULATE_WRITE)
			more = populate_step(mm, &addr, end, behavior == MADV_POPULATE_WRITE);
		else
			more = advise_step(mm, &tlb, &addr, end, behavior, &hole);
	}
	if (more < 0)
		return more;
	return hole ? -ENOMEM : 0;
}
