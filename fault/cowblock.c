/*
 * Private copies of a program's own data, several pages at once.
 *
 * Large programs write to hundreds of pages of their data in a row when they start (relocation, static objects), and where the bytes are the
 * host's (tokens) each copy costs a trap, a read and a mapping of its own.  So after a few copies in one VMA a write takes the aligned
 * block of 64 or 16 KiB around it along.  Data of up to 64 KiB is mostly written to in all its pages (relocations, what they make
 * read-only, variables): it is cut into blocks from its start, each as large as fits,
 *
 *	| 4 pages | 2 | 1 |		wherever that is, aligned or not
 *
 * Only of files that this address space executes, programs and libraries: nobody writes to those while they are in use, so that a copy which is
 * made before the page is written to holds what it would hold later.  Of any other file a private page must show what is written
 * to the file until it is copied itself; whoever maps a library says by MAP_DENYWRITE that it is one.  And only while memory is ample,
 * inside the file, and where nothing else is mapped in the block.
 *
 * Locks: mm->lock; q->lock inside.
 */
#include "fault.h"

#define SINGLE_COPIES 6u /* of a VMA before blocks: small programs write to fewer pages */

#define SMALL_DATA (1ul << CONT_PTE_ORDER) /* pages */
#define LIBRARY_PARTS 4u /* VMAs that a library's data has before it at most: head, text, constants, what was made read-only */

static const u8 copy_orders[] = { CONT_PTE_ORDER, 2, 0 };

/* Is text of the file mapped before the VMA, as the loader does it? */
static bool is_library(const struct vm_fault *vmf)
{
	const struct vm_area_struct *v = vmf->vma;

	if (!(v->vm_flags & VM_DENYWRITE))
		return false;
	for (u32 i = 0; i < LIBRARY_PARTS; i++) {
		v = vma_prev(vmf->mm, v);
		if (!v || !v->vm_file || v->vm_file->mapping != vmf->vma->vm_file->mapping)
			return false;
		if (v->vm_flags & VM_EXEC)
			return true;
	}
	return false;
}

static bool is_own_data(const struct vm_fault *vmf)
{
	const struct file *exe = vmf->mm->exe_file;

	if (!(vmf->vma->vm_flags & VM_WRITE) || (vmf->vma->vm_flags & VM_NOHUGEPAGE))
		return false;
	return (exe && exe->mapping == vmf->vma->vm_file->mapping) || is_library(vmf);
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
	u64 last = base + (PAGE_SIZE << order) - 1;
	bool fits;

	/* And in one table: slot_at(). */
	if (!block_in_vma(vmf, base, 1ul << order) || ALIGN_DOWN(base, PMD_SIZE) != ALIGN_DOWN(last, PMD_SIZE))
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
	u64 start = vmf->spare_base;

	if (!order || vmf->address - start >= PAGE_SIZE << order || !block_fits(vmf, start, order) ||
	    !spare_for(vmf, start, order, SPARE_BYTES))
		return NULL;
	*base = start;
	return spare_take(vmf);
}

/* Takes a folio for the block, if that is as it should be. */
static bool begin_at(struct vm_fault *vmf, u64 base, unsigned order)
{
	struct quire *q = vmf->q;
	struct folio *folio;

	if (order > q->cfg.folio_max_order || !memory_allows(q, order) || !block_fits(vmf, base, order))
		return false;
	folio = folio_alloc(q, GFP_FAULT_LARGE, order);
	return folio && spare_keep(vmf, folio, base);
}

/* The block of small data that has the address. */
static bool begin_small(struct vm_fault *vmf)
{
	u64 base = vma_start(vmf->vma), left = vma_pages(vmf->vma);
	unsigned order = CONT_PTE_ORDER;

	for (;;) {
		while (1ul << order > left)
			order--;
		if (vmf->address - base < PAGE_SIZE << order)
			break;
		base += PAGE_SIZE << order;
		left -= 1ul << order;
	}
	return order && begin_at(vmf, base, order);
}

/* Sets out to read a block.  False: by single pages. */
static bool begin_block(struct vm_fault *vmf)
{
	unsigned i;

	if (vmf->no_block || !is_own_data(vmf))
		return false;
	if (vma_pages(vmf->vma) <= SMALL_DATA)
		return begin_small(vmf);
	if (vmf->vma->ra_size < SINGLE_COPIES) { /* file VMAs have no stream of touches: it counts these */
		vmf->vma->ra_size++;
		return false;
	}
	for (i = 0; copy_orders[i]; i++)
		if (begin_at(vmf, ALIGN_DOWN(vmf->address, PAGE_SIZE << copy_orders[i]), copy_orders[i]))
			return true;
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
