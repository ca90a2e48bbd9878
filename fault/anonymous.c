/*
 * do_anonymous_page: the first touch of private memory without a file.
 *
 * A read maps the shared zero page, which costs nothing and counts nowhere.  A write gets a folio; how large, the
 * policy (anon_order) says: as large as fits around the address - inside the VMA, aligned, nothing mapped there yet -
 * and as memory is ample, because a fault costs the same for 4 KiB as for more.
 *
 * Order 0 is allocated, cleared and mapped in one step.  Larger folios are cleared with no lock held (vmf->spare),
 * unless their frames are known to be zero.  Locks: mm->lock.
 */
#include "fault.h"

/* A program that has written this many pages in a row into a large VMA will go on doing so. */
#define SEQUENTIAL_PAGES 512u

static enum vm_fault_reason map_zero_page(struct vm_fault *vmf)
{
	u64 prot = vm_get_page_prot(vmf->vma->vm_flags);

	FAULT_TRACE(vmf->q, "do_anonymous_page(zero page)");
	set_pte(vmf->mm, vmf->slot, pte_wrprotect(pte_mkspecial(pte_mkyoung(pfn_pte(vmf->q->zero_pfn, prot)))));
	spin_lock(&vmf->q->lock);
	count_vm_event(vmf->q, QFAULT_ZERO_PAGE);
	spin_unlock(&vmf->q->lock);
	return VM_FAULT_DONE;
}

static bool order_fits(const struct vm_fault *vmf, unsigned order)
{
	u64 pages = 1ul << order, base = ALIGN_DOWN(vmf->address, pages << PAGE_SHIFT);

	return block_in_vma(vmf, base, pages) && block_is_none(vmf, base, pages);
}

/* THE policy: the order of the folio to try first. */
static unsigned anon_order(const struct vm_fault *vmf)
{
	static const u8 orders[] = { CONT_PTE_ORDER, 2 };
	struct quire *q = vmf->q;
	unsigned i;

	if (!q->cfg.folio_max_order || (vmf->vma->vm_flags & VM_NOHUGEPAGE))
		return 0;
	for (i = 0; i < ARRAY_SIZE(orders); i++)
		if (orders[i] <= q->cfg.folio_max_order && memory_allows(q, orders[i]) && order_fits(vmf, orders[i]))
			return orders[i];
	return 0;
}

/* Maps the folio and counts what it was. */
static void install_anon(struct vm_fault *vmf, struct folio *folio, u64 base)
{
	struct quire *q = vmf->q;
	unsigned order = folio_order(folio);

	spin_lock(&q->lock);
	map_new_anon(vmf, folio, base);
	count_vm_event(q, !order ? QFAULT_ANON_4K : order <= 2 ? QFAULT_ANON_16K :
			  order <= CONT_PTE_ORDER ? QFAULT_ANON_64K : QFAULT_ANON_2M);
	if (order >= PMD_ORDER)
		count_vm_event(q, THP_FAULT_ALLOC);
	spin_unlock(&q->lock);
}

static enum vm_fault_reason map_small(struct vm_fault *vmf)
{
	struct folio *folio = folio_alloc(vmf->q, GFP_FAULT | __GFP_ZERO, 0);

	if (unlikely(!folio))
		return fault_retry(vmf, NEED_MEMORY);
	install_anon(vmf, folio, vmf->address);
	return VM_FAULT_DONE;
}

/* The prepared spare, if its block is still free of entries. */
static bool map_spare(struct vm_fault *vmf)
{
	unsigned order = vmf->spare ? folio_order(vmf->spare) : 0;
	u64 base = ALIGN_DOWN(vmf->address, PAGE_SIZE << order);

	if (!order || !order_fits(vmf, order) || !spare_for(vmf, base, order, SPARE_CLEAR))
		return false;
	install_anon(vmf, spare_take(vmf), base);
	return true;
}

enum vm_fault_reason do_anonymous_page(struct vm_fault *vmf)
{
	unsigned order;

	if (!fault_is_write(vmf))
		return map_zero_page(vmf);
	FAULT_TRACE(vmf->q, "do_anonymous_page");
	if (map_spare(vmf))
		return VM_FAULT_DONE;
	if (vmf->spare)
		spare_give_back(vmf);
	for (order = anon_order(vmf); order; order = order > 2 ? 2 : 0) {
		if (!spare_alloc(vmf, ALIGN_DOWN(vmf->address, PAGE_SIZE << order), order))
			continue;
		if (!(vmf->spare->f.flags & FF_ZEROED))
			return fault_retry(vmf, NEED_CLEAR);
		folio_clear(vmf->q, vmf->spare);
		vmf->spare_state = SPARE_CLEAR;
		if (map_spare(vmf))
			return VM_FAULT_DONE;
	}
	return map_small(vmf);
}
