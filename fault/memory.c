/*
 * handle_mm_fault: what does the entry say, and which kind of fault is this therefore?
 *
 *   entry          access         VMA            goes to
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
static pte_t anon_pte(const struct vm_area_struct *vma, pfn_t pfn)
{
	pte_t p = pte_mkexcl(pte_mkyoung(pfn_pte(pfn, vm_get_page_prot(vma->vm_flags))));

	if (vma->vm_flags & VM_WRITE)
		p = pte_mkwrite(p);
	return pte_mkdirty(p);
}

void map_new_anon(struct vm_fault *vmf, struct folio *folio, u64 base)
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
	pgtable_fill(vmf->q, slot_at(vmf, base), anon_pte(vma, folio_pfn(vmf->q, folio)), n);
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

/* A 2 MiB block in the way becomes pages, and the step is run again.  False when memory is short, or no block is there.
 * */
static bool split_block(struct vm_fault *vmf)
{
	struct pgtable pt = mm_pgtable(vmf->mm);
	int level;
	pte_t *slot = pgtable_lookup(vmf->q, vmf->mm->pgd, vmf->address, &level);

	if (!slot || level == PT_LAST_LEVEL || !pte_block(pte_read(slot)) || pgtable_split_block(&pt, vmf->address))
		return false;
	fault_gather(vmf, ALIGN_DOWN(vmf->address, PMD_SIZE), PT_ENTRIES, 0, 0);
	return true;
}

enum vm_fault_reason handle_mm_fault(struct vm_fault *vmf)
{
	FAULT_TRACE(vmf->q, "handle_mm_fault");
	/* Devices and the like: who installed the mapping puts its entries in place, not we. */
	if (vmf->vma->vm_flags & (VM_PFNMAP | VM_IO))
		return VM_FAULT_SIGBUS;
	vmf->slot = pte_alloc(vmf->mm, vmf->address);
	if (unlikely(!vmf->slot))
		return fault_retry(vmf, split_block(vmf) ? NEED_NOTHING : NEED_MEMORY);
	return handle_pte_fault(vmf);
}
