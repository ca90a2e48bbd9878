/*
 * do_wp_page: a write to a page that is there but may not be written.
 *
 *   zero page                         -> a zeroed page instead
 *   VM_SHARED                         -> the page is the file's: make the entry writable, mark the folio dirty
 *   anonymous, nobody else has it     -> keep it (reuse)
 *   else                              -> copy
 *
 * "Nobody else has it": the entry says so (EXCL; fork clears it), or the counts prove it - all references of the folio
 * are entries of this mm.  A page with any other reference (a pin, another process, I/O) is always copied, so that who
 * holds the reference goes on seeing what it saw.
 *
 * A copy takes the whole 64 KiB block at once if one folio lies behind all its 16 entries: the others will be
 * written soon, and the new block can be mapped as one again.
 *
 * The old translation is cleared, flushed, and only then replaced; the old frame's references go to the gather, which
 * drops them after the flush is complete.  Locks: mm->lock; q->lock inside.
 */
#include "fault.h"

/* ---- reuse ---- */

/* Entries of this mm that map pages of folio in order around the fault, within one table and the VMA. */
struct folio_span {
	u64 start, end; /* bytes */
	u32 mapped;
};

static struct folio_span find_span(struct vm_fault *vmf, struct folio *folio)
{
	pfn_t head = folio_pfn(vmf->q, folio), pfn = pte_pfn(vmf->orig);
	u64 base = vmf->address - ((u64)(pfn - head) << PAGE_SHIFT);
	u64 table = ALIGN_DOWN(vmf->address, PMD_SIZE);
	struct folio_span s = { MAX(MAX(base, vma_start(vmf->vma)), table),
				MIN(MIN(base + ((u64)folio_nr_pages(folio) << PAGE_SHIFT), vma_end(vmf->vma)),
				    table + PMD_SIZE), 0 };
	u64 addr;

	for (addr = s.start; addr < s.end; addr += PAGE_SIZE) {
		pte_t p = pte_read(slot_at(vmf, addr));

		s.mapped += pte_present(p) && !pte_special(p) && pte_pfn(p) == head + ((addr - base) >> PAGE_SHIFT);
	}
	return s;
}

/* All entries of the span become exclusive; those of a writable VMA writable, too. */
static void make_span_exclusive(struct vm_fault *vmf, struct folio *folio, const struct folio_span *s)
{
	u64 addr;

	for (addr = s->start; addr < s->end; addr += PAGE_SIZE) {
		pte_t *slot = slot_at(vmf, addr), p = pte_read(slot);

		if (!pte_present(p) || pte_special(p) || pte_folio(vmf->mm, p) != folio)
			continue;
		p = pte_mkexcl(p);
		if (vmf->vma->vm_flags & VM_WRITE)
			p = pte_mkwrite(p);
		set_pte(vmf->mm, slot, p);
	}
}

/* Are all references of the folio entries of this mm?  Then they become exclusive. */
static bool make_exclusive(struct vm_fault *vmf, struct folio *folio)
{
	struct folio_span s = { vmf->address, vmf->address + PAGE_SIZE, 1 };
	bool sole;

	if (folio_order(folio))
		s = find_span(vmf, folio);
	spin_lock(&vmf->q->lock);
	sole = folio->f.refcount == s.mapped && folio->f.mapcount == s.mapped;
	spin_unlock(&vmf->q->lock);
	if (sole)
		make_span_exclusive(vmf, folio, &s);
	return sole;
}

static bool wp_can_reuse(struct vm_fault *vmf, struct folio *folio)
{
	if (folio->f.type != FRAME_ANON)
		return false;
	return pte_excl(vmf->orig) || make_exclusive(vmf, folio);
}

static enum vm_fault_reason wp_page_reuse(struct vm_fault *vmf)
{
	pte_t p = pte_read(vmf->slot);

	FAULT_TRACE(vmf->q, "wp_page_reuse");
	if (vmf->vma->vm_flags & VM_WRITE)
		p = pte_mkwrite(p);
	set_pte(vmf->mm, vmf->slot, pte_mkdirty(pte_mkyoung(p)));
	spin_lock(&vmf->q->lock);
	count_vm_event(vmf->q, PGREUSE);
	spin_unlock(&vmf->q->lock);
	return VM_FAULT_DONE;
}

bool wp_block_reuse(struct vm_fault *vmf)
{
	struct folio *folio = pte_folio(vmf->mm, vmf->orig);
	pte_t p = pte_mkexcl(vmf->orig);
	bool sole;

	if (vmf->vma->vm_flags & VM_SHARED)
		return false;
	spin_lock(&vmf->q->lock);
	sole = pte_excl(vmf->orig) || (folio->f.refcount == PT_ENTRIES && folio->f.mapcount == PT_ENTRIES);
	if (sole)
		count_vm_event(vmf->q, PGREUSE);
	spin_unlock(&vmf->q->lock);
	if (!sole)
		return false;
	FAULT_TRACE(vmf->q, "wp_block_reuse");
	if (vmf->vma->vm_flags & VM_WRITE)
		p = pte_mkwrite(p);
	set_pte(vmf->mm, vmf->slot, pte_mkdirty(pte_mkyoung(p)));
	return true;
}

static enum vm_fault_reason wp_page_shared(struct vm_fault *vmf, struct folio *folio)
{
	pte_t p = pte_mkdirty(pte_mkwrite(pte_mkyoung(vmf->orig)));

	FAULT_TRACE(vmf->q, "wp_page_shared");
	spin_lock(&vmf->q->lock);
	folio_mark_dirty(folio);
	vmf->dirtied = true;
	spin_unlock(&vmf->q->lock);
	set_pte(vmf->mm, vmf->slot, p);
	return VM_FAULT_DONE;
}

/* ---- copy ---- */

/* The n entries from base on, which map old (NULL: the zero page), are cleared and flushed, and lead to copy then. */
static void replace_pages(struct vm_fault *vmf, u64 base, struct folio *old, struct folio *copy)
{
	u32 n = folio_nr_pages(copy);
	pfn_t pfn = pte_pfn(pte_read(slot_at(vmf, base)));

	spin_lock(&vmf->q->lock);
	clear_ptes(vmf->mm, slot_at(vmf, base), n);
	if (old) {
		add_mm_counter(vmf->mm, mm_counter(old), -(s64)n);
		folio_remove_rmap(vmf->q, old, n);
	}
	fault_gather(vmf, base, n, pfn, old ? n : 0);
	tlb_flush(&vmf->tlb);
	map_new_anon(vmf, copy, base);
	count_vm_event(vmf->q, n > 1 ? QCOW_BATCH : QCOW_COPY);
	spin_unlock(&vmf->q->lock);
}

static enum vm_fault_reason wp_zero_page(struct vm_fault *vmf)
{
	struct folio *folio = folio_alloc(vmf->q, GFP_FAULT | __GFP_ZERO, 0);

	FAULT_TRACE(vmf->q, "wp_page_copy(zero page)");
	if (!folio)
		return fault_retry(vmf, NEED_MEMORY);
	replace_pages(vmf, vmf->address, NULL, folio);
	return VM_FAULT_DONE;
}

/* Do all 16 entries of the block map consecutive pages of this one folio, and none of them alone? */
static bool block_is_one_folio(struct vm_fault *vmf, u64 base, struct folio *folio)
{
	pte_t *slot = slot_at(vmf, base);
	pfn_t pfn = pte_pfn(vmf->orig) - (pfn_t)((vmf->address - base) >> PAGE_SHIFT);
	pfn_t head = folio_pfn(vmf->q, folio);
	u32 i;

	if (pfn < head || pfn + BLOCK_PAGES > head + folio_nr_pages(folio))
		return false;
	for (i = 0; i < BLOCK_PAGES; i++) {
		pte_t p = pte_read(slot + i);

		if (!pte_present(p) || pte_special(p) || pte_write(p) || pte_excl(p) || pte_pfn(p) != pfn + i)
			return false;
	}
	return true;
}

static unsigned copy_order(struct vm_fault *vmf, u64 base, struct folio *folio)
{
	bool wanted = folio_order(folio) >= CONT_PTE_ORDER && vmf->q->cfg.folio_max_order >= CONT_PTE_ORDER &&
		      !(vmf->vma->vm_flags & VM_NOHUGEPAGE);

	if (!wanted || !memory_allows(vmf->q, CONT_PTE_ORDER) || !block_in_vma(vmf, base, BLOCK_PAGES))
		return 0;
	return block_is_one_folio(vmf, base, folio) ? CONT_PTE_ORDER : 0;
}

static enum vm_fault_reason wp_page_copy(struct vm_fault *vmf, struct folio *old)
{
	struct quire *q = vmf->q;
	u64 base = ALIGN_DOWN(vmf->address, CONT_PTE_SIZE);
	unsigned order = copy_order(vmf, base, old);
	struct folio *copy = order ? folio_alloc(q, GFP_FAULT_LARGE, order) : NULL;
	pfn_t from;

	FAULT_TRACE(q, "wp_page_copy");
	if (!copy) {
		order = 0;
		base = vmf->address;
		copy = folio_alloc(q, GFP_FAULT, 0);
	}
	if (!copy)
		return fault_retry(vmf, NEED_MEMORY);
	from = pte_pfn(pte_read(slot_at(vmf, base)));
	port_copy_pages(frame_address(q, &copy->f), frame_address(q, pfn_to_frame(q, from)), 1ul << order);
	replace_pages(vmf, base, old, copy);
	return VM_FAULT_DONE;
}

/* The bytes of a token are the host's: they were fetched with no lock held, into the spare. */
static enum vm_fault_reason wp_token_copy(struct vm_fault *vmf)
{
	enum vm_fault_reason r;
	struct folio *copy;
	u64 base;

	FAULT_TRACE(vmf->q, "wp_page_copy(token)");
	vma_prepare_anon(vmf->vma); /* as do_cow_fault(): also if the page lies beyond the end of the file */
	vmf->pgoff = linear_page_index(vmf->vma, vmf->address);
	copy = token_copy(vmf, &base, &r);
	if (!copy)
		return r;
	map_token_copy(vmf, copy, base);
	return VM_FAULT_DONE;
}

/* The file of a page, or NULL for anonymous memory.  *cut: the page has left its file (truncation) and is about to leave
 * this entry too; a token's bytes cannot be had any more. */
static struct address_space *wp_mapping(struct vm_fault *vmf, struct folio *folio, bool *cut)
{
	struct address_space *m;

	spin_lock(&vmf->q->lock);
	m = folio_mapping(folio);
	*cut = folio->f.type == FRAME_FILE && !m;
	spin_unlock(&vmf->q->lock);
	return m;
}

enum vm_fault_reason do_wp_page(struct vm_fault *vmf)
{
	struct address_space *m;
	struct folio *folio;
	bool cut;

	FAULT_TRACE(vmf->q, "do_wp_page");
	if (pte_special(vmf->orig))
		return wp_zero_page(vmf);
	folio = pte_folio(vmf->mm, vmf->orig);
	if (vmf->vma->vm_flags & VM_SHARED)
		return wp_page_shared(vmf, folio);
	if (wp_can_reuse(vmf, folio))
		return wp_page_reuse(vmf);
	m = wp_mapping(vmf, folio, &cut);
	if (cut)
		return fault_retry(vmf, NEED_NOTHING);
	if (m && mapping_is_token(m))
		return wp_token_copy(vmf);
	return wp_page_copy(vmf, folio);
}
