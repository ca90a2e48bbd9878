/*
 * Copying an address space for fork: the same VMAs, the same pages, copy-on-write.
 *
 *   parent's entry          child's entry
 *   private, present   ->   write-protected, not exclusive, in both; one more reference and mapcount
 *   private, pinned    ->   parent keeps its page; the child gets a copy at once
 *   shared, present    ->   copied as it is for shmem; left to faults for files
 *   swap               ->   one more reference to the slot, not exclusive in both
 *   zero page, guard   ->   copied
 *   block of 2 MiB     ->   as one private entry; pinned: split first
 *
 * It goes in pieces: a piece ends when the transaction is long enough, and goes on where it stopped.  Nobody else runs
 * in the child.  The parent's whole range is busy until the last flush, so its other threads' faults wait, as they do on
 * Linux for mmap_lock: none gets a copy of its own of a page while another page can still be written for both.  What the
 * child sees is therefore one moment of the parent, that of the flushes, and not a different one for each piece.
 *
 * Invariants: as mm_is_valid for both at every commit.
 * Locks: src mmap_lock; src->lock, dst->lock by trylock (dst is new, so only a glance from /proc can hold it); q->lock.
 */
#include <mm/vma.h>

struct dup {
	struct mm_struct *dst, *src;
	struct mmu_gather tlb; /* flushes of src, frames copied for dst */
	u64 wp_start, wp_end;  /* neighbouring entries of src write-protected since the last flush; end 0 = none */
	struct vm_area_struct *child; /* the VMA being filled */
	u64 at;                       /* copied up to here */
	pte_t *slot;                  /* of dst: the newest, in this piece */
	u64 slot_at;                  /* its address */
	u32 stored;                   /* entries of its table that are not counted there yet */
	s64 single[NR_MM_COUNTERS];   /* pages of folios of one page, not counted in dst yet */
	unsigned tries;
	bool starved; /* an allocation failed: reclaim before going on */
	bool moving;  /* a page is on the move: wait for it */
};

/* ---- locks of both ---- */
static void dup_lock(struct dup *d)
{
	for (;;) {
		spin_lock(&d->src->lock);
		if (spin_trylock(&d->dst->lock))
			return;
		spin_unlock(&d->src->lock);
		port_relax();
	}
}

static void dup_unlock(struct dup *d)
{
	tlb_flush(&d->tlb);
	spin_unlock(&d->dst->lock);
	spin_unlock(&d->src->lock);
}

/* Commit; reclaim if that is why we stopped.  0 or -ENOMEM, locked again either way. */
static int dup_cycle(struct dup *d)
{
	int err = 0;

	dup_unlock(d);
	tlb_finish_mmu(&d->tlb);
	if (d->starved)
		err = mm_reclaim(d->src->q, &d->tries);
	else
		d->tries = 0;
	if (d->moving)
		migration_entry_wait(d->src->q);
	d->starved = d->moving = false;
	dup_lock(d);
	return err;
}

/* ---- entries ---- */

/* A run of entries that map consecutive pages of one folio: counted together. */
struct dup_run {
	struct folio *folio;
	pfn_t head; /* its first frame */
	u32 n;
};

/* The folio behind an entry: mostly that of the run. */
static struct folio *dup_run_folio(const struct dup_run *run, struct mm_struct *mm, pte_t p)
{
	if (run->n && pte_pfn(p) - run->head < folio_nr_pages(run->folio))
		return run->folio;
	return pte_folio(mm, p);
}

static void dup_run_end(struct dup *d, struct dup_run *run)
{
	struct quire *q = d->src->q;

	if (!run->n)
		return;
	folio_get(run->folio, run->n);
	folio_add_rmap(q, run->folio, run->n);
	add_mm_counter(d->dst, mm_counter(run->folio), run->n);
	run->n = 0;
}

static void dup_run_add(struct dup *d, struct dup_run *run, struct folio *folio, u32 n)
{
	if (run->n && run->folio != folio)
		dup_run_end(d, run);
	if (!run->n) {
		run->folio = folio;
		run->head = folio_pfn(d->src->q, folio);
	}
	run->n += n;
}

/* The child's tables are filled from left to right: what is counted for a table, and for the child, is so once for many entries. */
static void dup_count(struct dup *d)
{
	int i;

	if (d->stored)
		pgtable_count(d->src->q, d->slot, d->stored);
	d->stored = 0;
	for (i = 0; i < NR_MM_COUNTERS; i++) {
		if (d->single[i])
			add_mm_counter(d->dst, i, d->single[i]);
		d->single[i] = 0;
	}
}

static void dup_store(struct dup *d, pte_t p)
{
	pgtable_store(d->slot, pte_cont(p) ? pte_mknoncont(p) : p);
	d->stored++;
}

/* The child's slot for addr: beside the last one, or by a walk.  False = no memory. */
static bool dup_slot(struct dup *d, u64 addr)
{
	if (d->slot && (addr ^ d->slot_at) < PMD_SIZE) {
		d->slot += (addr >> PAGE_SHIFT) - (d->slot_at >> PAGE_SHIFT);
	} else {
		dup_count(d);
		d->slot = pte_alloc(d->dst, addr);
	}
	d->slot_at = addr;
	return d->slot != NULL;
}

/* A page that a native call of the parent may be writing: the child gets its own copy now.  False = no memory. */
static bool dup_pinned(struct dup *d, u64 addr, pte_t p)
{
	struct quire *q = d->src->q;
	struct folio *copy = folio_alloc(q, GFP_HIGHUSER_MOVABLE, 0);

	if (!copy)
		return false;
	/* Logged, unlike port_copy_pages(): the frame was allocated in this transaction, and a rollback that gives it
	 * back must also give it its old bytes, which may be known to be zero. */
	memcpy(port_frame_address(q, folio_pfn(q, copy)), port_frame_address(q, pte_pfn(p)), PAGE_SIZE);
	copy->f.flags |= FF_SWAPBACKED | FF_UPTODATE | FF_DIRTY;
	folio_add_new_anon_rmap(copy, d->child, addr, 1);
	if (q->hooks.lru_add)
		q->hooks.lru_add(q, copy);
	add_mm_counter(d->dst, MM_ANONPAGES, 1);
	p = __pte((p.v & ~PTE_ADDR_MASK) | ((u64)folio_pfn(q, copy) << PAGE_SHIFT));
	p = pte_mkexcl(p);
	if (d->child->vm_flags & VM_WRITE) /* nobody else's and dirty as it is: why should the child ask? */
		p = pte_mkdirty(pte_mkwrite(pte_mkyoung(p)));
	dup_store(d, p);
	port_tlb_flush_range(d->dst, addr, addr + PAGE_SIZE);
	return true;
}

/* Write-protects the parent's entry if it has to be shared from now on; returns what the child gets. */
static pte_t dup_protect(struct dup *d, const struct pt_iter *it, pte_t p)
{
	pte_t shared = pte_clear_excl(pte_wrprotect(p));

	if (d->child->vm_flags & VM_SHARED)
		return pte_mkclean(p);
	if (shared.v != p.v) {
		set_pte(d->src, it->slot, shared);
		if (pte_write(p))
			tlb_protect(&d->tlb, it->addr, 1);
	}
	return shared;
}

static bool dup_present(struct dup *d, struct dup_run *run, const struct pt_iter *it, pte_t p)
{
	struct folio *folio;

	if (pte_special(p)) {
		dup_store(d, p);
		return true;
	}
	folio = dup_run_folio(run, d->src, p);
	if (folio->f.type == FRAME_ANON && port_range_pinned(d->src, it->addr, it->addr + PAGE_SIZE)) {
		dup_run_end(d, run);
		return dup_pinned(d, it->addr, p);
	}
	dup_store(d, dup_protect(d, it, p));
	if (folio_order(folio)) {
		dup_run_add(d, run, folio, 1);
		return true;
	}
	folio_get(folio, 1);
	folio_add_rmap(d->src->q, folio, 1);
	d->single[mm_counter(folio)]++;
	return true;
}

static void dup_nonpresent(struct dup *d, const struct pt_iter *it, pte_t p)
{
	if (pte_is_swap(p)) {
		if (d->src->q->hooks.swap_dup)
			d->src->q->hooks.swap_dup(d->src->q, pte_to_swp_entry(p));
		if (pte_swp_excl(p)) {
			p = pte_swp_clear_excl(p);
			set_pte(d->src, it->slot, p);
		}
		add_mm_counter(d->dst, MM_SWAPENTS, 1);
	}
	dup_store(d, p);
}

/* A block goes to the child as one, unless a native call is using a part of it; then its pages are copied one by one.
 * False = stop here: no memory. */
static bool dup_block(struct dup *d, struct dup_run *run, struct pt_iter *it)
{
	pte_t p = pte_read(it->slot), shared = pte_clear_excl(pte_wrprotect(p));
	struct folio *folio = pte_folio(d->src, p);

	if (port_range_pinned(d->src, it->addr, it->addr + PMD_SIZE)) {
		d->starved = !mm_split_block(d->src, it->addr);
		pt_iter_again(it);
		return !d->starved;
	}
	d->starved = !mm_map_block(d->dst, it->addr, shared);
	if (d->starved)
		return false;
	if (shared.v != p.v) {
		set_pte(d->src, it->slot, shared);
		if (pte_write(p))
			tlb_protect(&d->tlb, it->addr, PT_ENTRIES);
	}
	dup_run_add(d, run, folio, PT_ENTRIES);
	return true;
}

/* Copies one entry.  False = stop here: no memory, or a page on the move. */
static bool dup_entry(struct dup *d, struct dup_run *run, struct pt_iter *it)
{
	pte_t p = pte_read(it->slot);

	if (it->level != PT_LAST_LEVEL)
		return dup_block(d, run, it);
	d->moving = pte_is_migration(p);
	if (d->moving)
		return false;
	d->starved = !dup_slot(d, it->addr);
	if (d->starved)
		return false;
	if (!pte_present(p)) {
		dup_nonpresent(d, it, p);
		return true;
	}
	d->starved = !dup_present(d, run, it, p);
	return !d->starved;
}

/* Goes on from d->at.  True when the child's VMA is complete. */
static bool dup_piece(struct dup *d)
{
	struct dup_run run = {0};
	struct pt_iter it;
	bool progress = false, done = true;

	pt_iter_init(&it, d->src->q, d->src->pgd, d->at, vma_end(d->child));
	spin_lock(&d->src->q->lock);
	while (done && pt_iter_next(&it)) {
		d->at = it.addr;
		done = !(progress && txn_should_break()) && dup_entry(d, &run, &it);
		progress = true;
	}
	dup_run_end(d, &run);
	dup_count(d);
	d->slot = NULL;
	spin_unlock(&d->src->q->lock);
	return done;
}

static bool has_entries(struct mm_struct *mm, const struct vm_area_struct *vma)
{
	struct pt_iter it;

	pt_iter_init(&it, mm->q, mm->pgd, vma_start(vma), vma_end(vma));
	return pt_iter_next(&it);
}

/*
 * Shared file pages and the zero page come back by faults, as on Linux (vma_needs_copy).  But a hosted port's fork
 * carries the translations over and needs an entry behind each of them, so that rmap finds it; and a fault costs far
 * more there than copying an entry.  What such a child must not see is flushed from its side: the translations it may
 * have inherited go.
 */
static bool needs_copy(struct mm_struct *dst, const struct vm_area_struct *vma)
{
	if (!vma->anon && !(vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP | VM_MAYBE_GUARD)) && vma_is_anonymous(vma)) {
		if (has_entries(vma->vm_mm, vma)) /* zero pages */
			port_tlb_flush_range(dst, vma_start(vma), vma_end(vma));
		return false;
	}
	if (vma->vm_flags & VM_WIPEONFORK) {
		port_tlb_flush_range(dst, vma_start(vma), vma_end(vma));
		return false;
	}
	return vma->anon || (vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP | VM_MAYBE_GUARD)) ||
	       (dst->q->caps & PORT_CAP_HOST_FILES);
}

static int dup_entries(struct dup *d)
{
	d->at = vma_start(d->child);
	while (!dup_piece(d)) {
		int err = dup_cycle(d);

		if (err)
			return err;
	}
	return 0;
}

/* ---- VMAs ---- */

/* Charges and links a copy of vma in dst.  0 or -ENOMEM. */
static int dup_vma(struct dup *d, const struct vm_area_struct *vma)
{
	struct mm_struct *dst = d->dst;
	struct vm_area_struct *child;
	u64 pages = vma_pages(vma);

	if ((vma->vm_flags & VM_ACCOUNT) && vm_enough_memory(dst, pages) != 0)
		return -ENOMEM;
	child = vma_alloc(dst);
	child->node = vma->node;
	child->vm_flags = vma->vm_flags & ~(VM_LOCKED | VM_LOCKONFAULT);
	child->vm_pgoff = vma->vm_pgoff;
	child->anon_pgoff = vma->anon_pgoff;
	child->name = vma->name;
	child->host_private = vma->host_private;
	child->vm_file = vma->vm_file;
	if (vma->anon && !(vma->vm_flags & VM_WIPEONFORK)) {
		child->anon = dst->anon;
		child->anon_id = ++dst->last_anon_id;
		child->anon_forked = true;
	} else {
		child->anon_pgoff = vma_start(vma) >> PAGE_SHIFT;
	}
	if (child->vm_file) {
		spin_lock(&dst->q->lock);
		child->vm_file->refcount++;
		spin_unlock(&dst->q->lock);
	}
	vma_link(dst, child);
	vm_stat_account(dst, child->vm_flags, (s64)pages);
	d->child = child;
	return 0;
}

/* One VMA of the new mm and its tree nodes, so that linking it cannot fail. */
static int dup_prepare(struct dup *d)
{
	int err = 0;

	while (!err && !mm_try_prepare(d->dst, 1)) {
		d->starved = true;
		err = dup_cycle(d);
	}
	return err;
}

static int dup_all(struct dup *d)
{
	struct vm_area_struct *vma;
	u64 at = 0;
	int err = 0;

	while (!err && (vma = find_vma(d->src, at))) {
		at = vma_end(vma);
		if (vma->vm_flags & VM_DONTCOPY) {
			port_tlb_flush_range(d->dst, vma_start(vma), vma_end(vma));
			continue;
		}
		err = dup_prepare(d);
		if (!err)
			err = dup_vma(d, vma);
		if (!err && needs_copy(d->dst, vma))
			err = dup_entries(d);
		if (!err && txn_should_break())
			err = dup_cycle(d);
	}
	return err;
}

static void dup_layout(struct mm_struct *dst, const struct mm_struct *src)
{
	dst->abi = src->abi;
	dst->def_flags = src->def_flags & ~(VM_LOCKED | VM_LOCKONFAULT);
	dst->mmap_base = src->mmap_base;
	dst->mmap_bottom_up = src->mmap_bottom_up;
	dst->task_size = src->task_size;
	dst->start_code = src->start_code;
	dst->end_code = src->end_code;
	dst->start_data = src->start_data;
	dst->end_data = src->end_data;
	dst->start_brk = src->start_brk;
	dst->brk = src->brk;
	dst->start_stack = src->start_stack;
	dst->arg_start = src->arg_start;
	dst->arg_end = src->arg_end;
	dst->env_start = src->env_start;
	dst->env_end = src->env_end;
	dst->rlim_as = src->rlim_as;
	dst->rlim_data = src->rlim_data;
	dst->rlim_stack = src->rlim_stack;
	dst->rlim_memlock = src->rlim_memlock;
	dst->cap_ipc_lock = src->cap_ipc_lock;
	dst->cap_sys_rawio = src->cap_sys_rawio;
	dst->oom_score_adj = src->oom_score_adj;
	dst->mdwe = mm_inherited_mdwe(src);
	memcpy(dst->saved_auxv, src->saved_auxv, sizeof(dst->saved_auxv));
}

/* dst leaves the family it was born with and joins its parent's. */
static void dup_family(struct mm_struct *dst, struct mm_struct *src)
{
	spin_lock(&src->q->lock);
	if (dst->anon != src->anon) {
		family_leave(dst);
		family_join(src->anon, dst);
	}
	if (!dst->exe_file && src->exe_file) {
		dst->exe_file = src->exe_file;
		src->exe_file->refcount++;
	}
	spin_unlock(&src->q->lock);
}

int mm_dup_vmas(struct mm_struct *dst, struct mm_struct *src)
{
	struct dup d = {.dst = dst, .src = src};
	int err;

	tlb_gather_mmu(&d.tlb, src);
	mutex_lock(&src->mmap_lock);
	dup_lock(&d);
	mark_busy(src, 0, src->task_size);
	dup_layout(dst, src);
	dup_family(dst, src);
	err = dup_all(&d);
	dst->hiwater_rss = get_mm_rss(dst);
	dst->hiwater_vm = dst->total_vm;
	dup_unlock(&d);
	tlb_finish_mmu(&d.tlb);
	spin_lock(&src->lock);
	mmap_write_end(src);
	return err;
}
