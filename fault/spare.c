/*
 * vmf->spare: a folio taken in one step, prepared with no lock held, installed by a later step.
 *
 * It is for one block of one address space (spare_base, order) and one content (spare_state); a step that turns out
 * to need something else - the VMA was changed, memory became short - gives it back and starts over.
 * Locks: all but spare_drop() run inside a step (mm->lock held).
 */
#include "fault.h"

static bool spare_fits(const struct vm_fault *vmf, u64 base, unsigned order, enum spare_state state)
{
	if (vmf->spare_base != base || folio_order(vmf->spare) != order || vmf->spare_state != state)
		return false;
	if (state != SPARE_BYTES)
		return true;
	return vmf->spare_file->mapping == vmf->vma->vm_file->mapping &&
	       vmf->spare_pgoff == vmf->pgoff - ((vmf->address - base) >> PAGE_SHIFT);
}

void spare_give_back(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;

	spin_lock(&q->lock);
	swap_block_release(vmf);
	folio_unhold(q, vmf->spare);
	folio_put(q, vmf->spare, 1);
	spin_unlock(&q->lock);
	vmf->spare = NULL;
}

struct folio *spare_for(struct vm_fault *vmf, u64 base, unsigned order, enum spare_state state)
{
	if (likely(!vmf->spare))
		return NULL;
	if (spare_fits(vmf, base, order, state))
		return vmf->spare;
	spare_give_back(vmf);
	return NULL;
}

bool spare_keep(struct vm_fault *vmf, struct folio *folio, u64 base)
{
	if (!folio_hold_new(vmf->q, folio)) {
		folio_put(vmf->q, folio, 1);
		return false;
	}
	vmf->spare = folio;
	vmf->spare_state = SPARE_RAW;
	vmf->spare_base = base;
	return true;
}

bool spare_alloc(struct vm_fault *vmf, u64 base)
{
	struct folio *folio = folio_alloc(vmf->q, GFP_FAULT | __GFP_TELL_ZERO, 0);

	return folio && spare_keep(vmf, folio, base);
}

struct folio *spare_take(struct vm_fault *vmf)
{
	struct folio *folio = vmf->spare;

	/* folio_unhold() moves the last entry of ctx->parked[] down: no gather may have begun above it. */
	DEBUG_ON(vmf->tlb_used);
	folio_unhold(vmf->q, folio);
	vmf->spare = NULL;
	return folio;
}

void spare_drop(struct vm_fault *vmf)
{
	spare_give_back(vmf); /* its own transaction here */
}

bool memory_allows(struct quire *q, unsigned order)
{
	/* "Ample": an eighth of RAM is free for 2 MiB, a sixteenth for less; and reclaim is far away in either case. */
	return has_free_pages(q, totalram_pages(q) / (order >= PMD_ORDER ? 8 : 16) + (1ul << (order + 2)));
}

/* Are as many pages in front of the block mapped as it has, and was its first one touched?  Then somebody comes along there.  Asked
 * of the entries, so that several streams in one VMA are seen, too. */
static bool stream_arrives(const struct vm_fault *vmf, u64 base, u64 pages)
{
	const pte_t *slot = slot_at(vmf, base);
	u64 before = (base & (PMD_SIZE - 1)) >> PAGE_SHIFT;

	if (vmf->address != base || before < pages)
		return false;
	for (u64 i = 1; i <= pages; i++)
		if (!pte_present(pte_read(slot - i)))
			return false;
	return true;
}

bool block_allowed(const struct vm_fault *vmf, u64 base, unsigned order)
{
	struct quire *q = vmf->q;
	u64 low = 4ul << order;

	if (memory_allows(q, order))
		return true;
	if (order > CONT_PTE_ORDER || !stream_arrives(vmf, base, 1ul << order))
		return false;
	for (unsigned i = 0; i < MAX_NR_ZONES; i++)
		low += q->phys.zones[i].watermark[WMARK_LOW];
	return has_free_pages(q, low);
}
