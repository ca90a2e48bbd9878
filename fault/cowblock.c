/*
 * Private copies of a program's own data, 64 or 16 KiB at once.
 *
 * Large programs write to hundreds of pages of their data in a row when they start (relocation, static objects), and where the bytes are the
 * host's (tokens) each copy costs a trap, a read and a mapping of its own.  So after a few copies in one VMA a write takes the aligned
 * block around it along.
 *
 * Only from the file that the process executes: nobody may write to that (ETXTBSY), so that a copy which is made before the page is
 * written to holds what it would hold later.  Of any other file a private page must show what is written to the file until
 * it is copied itself.  And only while memory is ample, inside the file, and where nothing else is mapped in the block.
 *
 * Locks: mm->lock; q->lock inside.
 */
#include "fault.h"

#define SINGLE_COPIES 6u /* of a VMA before blocks: small programs write to fewer pages */

static const u8 copy_orders[] = { CONT_PTE_ORDER, 2, 0 };

static bool is_own_data(const struct vm_fault *vmf)
{
	const struct file *exe = vmf->mm->exe_file;

	return exe && exe->mapping == vmf->vma->vm_file->mapping && (vmf->vma->vm_flags & VM_WRITE) &&
	       !(vmf->vma->vm_flags & VM_NOHUGEPAGE);
}

/* Is every entry of the block none, or a page of the VMA's file?  Under q->lock. */
static bool block_is_file(const struct vm_fault *vmf, u64 base, u64 pages)
{
	const pte_t *slot = slot_at(vmf, base);

	for (u64 i = 0; i < pages; i++) {
		pte_t p = pte_read(slot + i);

		if (pte_none(p))
			continue;
		if (!pte_present(p) || pte_special(p) || folio_mapping(pte_folio(vmf->mm, p)) != vmf->vma->vm_file->mapping)
			return false;
	}
	return true;
}

static bool block_fits(struct vm_fault *vmf, u64 base, unsigned order)
{
	bool fits;

	if (!block_in_vma(vmf, base, 1ul << order))
		return false;
	spin_lock(&vmf->q->lock);
	fits = block_is_file(vmf, base, 1ul << order);
	spin_unlock(&vmf->q->lock);
	return fits;
}

/* The prepared block, if it still fits. */
static struct folio *prepared(struct vm_fault *vmf, u64 *base)
{
	unsigned order = vmf->spare ? folio_order(vmf->spare) : 0;
	u64 start = ALIGN_DOWN(vmf->address, PAGE_SIZE << order);

	if (!order || !block_fits(vmf, start, order) || !spare_for(vmf, start, order, SPARE_BYTES))
		return NULL;
	*base = start;
	return spare_take(vmf);
}

/* Sets out to read a block.  False: by single pages. */
static bool begin_block(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;
	unsigned i;

	if (vmf->no_block || !is_own_data(vmf))
		return false;
	if (vmf->vma->ra_size < SINGLE_COPIES) { /* file VMAs have no stream of touches: it counts these */
		vmf->vma->ra_size++;
		return false;
	}
	for (i = 0; copy_orders[i]; i++) {
		u64 base = ALIGN_DOWN(vmf->address, PAGE_SIZE << copy_orders[i]);
		struct folio *folio;

		if (copy_orders[i] > q->cfg.folio_max_order || !memory_allows(q, copy_orders[i]) ||
		    !block_fits(vmf, base, copy_orders[i]))
			continue;
		folio = folio_alloc(q, GFP_FAULT_LARGE, copy_orders[i]);
		if (folio)
			return spare_keep(vmf, folio, base);
	}
	return false;
}

struct folio *token_copy(struct vm_fault *vmf, u64 *base, enum vm_fault_reason *r)
{
	struct folio *copy = prepared(vmf, base);

	if (copy)
		return copy;
	*base = vmf->address;
	if (spare_for(vmf, vmf->address, 0, SPARE_BYTES))
		return spare_take(vmf);
	if (begin_block(vmf) || spare_alloc(vmf, vmf->address))
		*r = fault_need_file(vmf, NEED_BYTES);
	else
		*r = fault_retry(vmf, NEED_MEMORY);
	return NULL;
}

/* Clears what is mapped in the block.  Returns whether anything was.  Under q->lock. */
static bool unmap_block(struct vm_fault *vmf, u64 base, u32 pages)
{
	struct quire *q = vmf->q;
	bool any = false;

	for (u32 i = 0; i < pages; i++) {
		u64 addr = base + ((u64)i << PAGE_SHIFT);
		pte_t *slot = slot_at(vmf, addr), p = pte_read(slot);
		struct folio *old;

		if (pte_none(p))
			continue;
		old = pte_folio(vmf->mm, p);
		clear_ptes(vmf->mm, slot, 1);
		add_mm_counter(vmf->mm, mm_counter(old), -1);
		folio_remove_rmap(q, old, 1);
		fault_gather(vmf, addr, 1, pte_pfn(p), 1);
		any = true;
	}
	return any;
}

void map_token_copy(struct vm_fault *vmf, struct folio *copy, u64 base)
{
	u32 pages = folio_nr_pages(copy);

	spin_lock(&vmf->q->lock);
	if (unmap_block(vmf, base, pages)) {
		tlb_flush(&vmf->tlb);
		count_vm_event(vmf->q, pages > 1 ? QCOW_BATCH : QCOW_COPY);
	}
	map_new_anon(vmf, copy, base);
	spin_unlock(&vmf->q->lock);
}
