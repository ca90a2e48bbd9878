/*
 * handle_mm_fault: what does the entry say, and which kind of fault is this therefore?
 *
 *   entry          access         VMA            goes to
 *   no table       write          anonymous      do_huge_anonymous_page, perhaps
 *   block          any            anonymous      handled whole (handle_block_fault), or split
 *   none           any            anonymous      do_anonymous_page
 *   none           any            file           do_file_fault (read, copy-on-write, shared)
 *   not valid      any            any            guard: SEGV; migration: look again; swap: do_swap_page
 *   valid          write          not writable   do_wp_page
 *   valid          write          clean          dirty fault: recorded here
 *   valid          any            -              access-flag fault: recorded here; or another CPU was faster
 *
 * Also here: what these have in common.  Locks: mm->lock throughout; q->lock inside, where said.
 */
#include "fault.h"

bool block_in_vma(const struct vm_fault *vmf, u64 base, u64 pages)
{
	return base >= vma_start(vmf->vma) && base + (pages << PAGE_SHIFT) <= vma_end(vmf->vma);
}

bool block_is_none(const struct vm_fault *vmf, u64 base, u64 pages)
{
	const pte_t *slot = slot_at(vmf, base);
	u64 i, any = 0;

	/* Almost always true, so no branch in the loop. */
	for (i = 0; i < pages; i++)
		any |= pte_read(slot + i).v;
	return !any;
}

/* A page of our own: nobody else maps it, so it is exclusive; written by filling it, so it is dirty. */
pte_t new_anon_pte(const struct vm_area_struct *vma, pfn_t pfn)
{
	pte_t p = pte_mkexcl(pte_mkyoung(pfn_pte(pfn, vm_get_page_prot(vma->vm_flags))));

	if (vma->vm_flags & VM_WRITE)
		p = pte_mkwrite(p);
	return pte_mkdirty(p);
}

void count_new_anon(struct vm_fault *vmf, struct folio *folio, u64 base)
{
	struct vm_area_struct *vma = vmf->vma;
	u32 n = folio_nr_pages(folio);

	lockdep_assert_held(&vmf->q->lock);
	vma_prepare_anon(vma);
	folio->f.type = FRAME_ANON;
	folio->f.flags |= FF_SWAPBACKED | FF_UPTODATE | FF_DIRTY;
	if (n > 1)
		folio_get(folio, n - 1); /* the first entry has the reference of the allocation */
	folio_add_new_anon_rmap(folio, vma, base, n);
	folio_add_lru(vmf->q, folio);
	fault_count(vmf);
	add_mm_counter(vmf->mm, MM_ANONPAGES, n);
}

void map_new_anon(struct vm_fault *vmf, struct folio *folio, u64 base)
{
	u32 n = folio_nr_pages(folio);
	pte_t p = new_anon_pte(vmf->vma, folio_pfn(vmf->q, folio));

	count_new_anon(vmf, folio, base);
	if (n >= CONT_PTES && (vmf->q->caps & PORT_CAP_CONT) && !(base & (CONT_PTE_SIZE - 1)))
		p = pte_mkcont(p);
	pgtable_fill(vmf->q, slot_at(vmf, base), p, n);
}

/* Shared file pages learn here that their bytes will differ from the file's. */
static void mark_folio_dirty(struct vm_fault *vmf)
{
	struct folio *folio;

	if (!(vmf->vma->vm_flags & VM_SHARED) || pte_special(vmf->orig))
		return;
	FAULT_TRACE(vmf->q, "fault_dirty_shared_page");
	folio = pte_folio(vmf->mm, vmf->orig);
	spin_lock(&vmf->q->lock);
	folio_mark_dirty(folio);
	vmf->dirtied = true;
	spin_unlock(&vmf->q->lock);
}

/* The entry is there and permits, or would permit, the access: record the access, and the write. */
static enum vm_fault_reason record_access(struct vm_fault *vmf)
{
	pte_t p = vmf->orig;
	u64 prot = vm_get_page_prot(vmf->vma->vm_flags);

	/* An entry with fewer rights than its VMA, left behind by a change of protection. */
	if (!pte_user(p) || (!pte_exec(p) && (vmf->vma->vm_flags & VM_EXEC)))
		p = pte_modify(p, pte_write(p) ? prot : prot & ~PTE_DBM);
	p = pte_mkyoung(p);
	if (fault_is_write(vmf) && !pte_dirty(p)) {
		mark_folio_dirty(vmf);
		p = pte_mkdirty(p);
	}
	if (p.v != vmf->orig.v)
		set_pte(vmf->mm, vmf->slot, p);
	return VM_FAULT_DONE;
}

static enum vm_fault_reason handle_nonpresent(struct vm_fault *vmf)
{
	switch (pte_kind(vmf->orig)) {
	case PTE_KIND_GUARD:
		return VM_FAULT_BADMAP;
	case PTE_KIND_MIGRATION:
		FAULT_TRACE(vmf->q, "migration_entry_wait");
		return fault_retry(vmf, NEED_MIGRATION);
	case PTE_KIND_SWAP:
		return do_swap_page(vmf);
	default:
		return VM_FAULT_SIGBUS;
	}
}

static enum vm_fault_reason handle_pte_fault(struct vm_fault *vmf)
{
	FAULT_TRACE(vmf->q, "handle_pte_fault");
	vmf->orig = pte_read(vmf->slot);
	if (pte_none(vmf->orig))
		return vmf->vma->vm_file ? do_file_fault(vmf) : do_anonymous_page(vmf);
	if (unlikely(!pte_present(vmf->orig)))
		return handle_nonpresent(vmf);
	if (fault_is_write(vmf) && !pte_write(vmf->orig))
		return do_wp_page(vmf);
	return record_access(vmf);
}

/* The entry is a block: what can be done with it as a whole is, else it becomes pages. */
static enum vm_fault_reason handle_block_fault(struct vm_fault *vmf)
{
	FAULT_TRACE(vmf->q, "handle_block_fault");
	vmf->orig = pte_read(vmf->slot);
	if (!fault_is_write(vmf) || pte_write(vmf->orig))
		return record_access(vmf);
	if (wp_block_reuse(vmf))
		return VM_FAULT_DONE;
	if (!mm_split_block(vmf->mm, vmf->address))
		return fault_retry(vmf, NEED_MEMORY);
	vmf->slot = pte_lookup(vmf->mm, vmf->address);
	return handle_pte_fault(vmf);
}

/* No level-3 table with anything in it is there yet. */
static enum vm_fault_reason handle_no_table(struct vm_fault *vmf)
{
	if (fault_is_write(vmf) && vma_is_anonymous(vmf->vma)) {
		enum vm_fault_reason r = do_huge_anonymous_page(vmf);

		if (r != VM_FAULT_OOM)
			return r;
	}
	vmf->slot = pte_alloc(vmf->mm, vmf->address);
	return vmf->slot ? handle_pte_fault(vmf) : fault_retry(vmf, NEED_MEMORY);
}

enum vm_fault_reason handle_mm_fault(struct vm_fault *vmf)
{
	int level = 0;

	FAULT_TRACE(vmf->q, "handle_mm_fault");
	/* Devices and the like: who installed the mapping puts its entries in place, not we. */
	if (vmf->vma->vm_flags & (VM_PFNMAP | VM_IO))
		return VM_FAULT_SIGBUS;
	vmf->slot = pgtable_lookup(vmf->q, vmf->mm->pgd, vmf->address, &level);
	if (likely(vmf->slot && level == PT_LAST_LEVEL))
		return likely(virt_to_frame(vmf->q, vmf->slot)->private) ? handle_pte_fault(vmf) : handle_no_table(vmf);
	if (vmf->slot && pte_block(pte_read(vmf->slot)))
		return handle_block_fault(vmf);
	return handle_no_table(vmf);
}
