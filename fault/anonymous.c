/*
 * do_anonymous_page: the first touch of private memory without a file.
 *
 * A read maps the shared zero page, which costs nothing and counts nowhere.  A write gets a folio; how large, the
 * policy (order_allowed) says: as large as fits around the address - inside the VMA, aligned, nothing mapped there yet
 * - and as memory is ample, because a fault costs the same for 4 KiB as for more; or as a stream of touches arrives there (spare.c).
 *
 * A folio of 2 MiB is mapped by one block where nothing is mapped around it yet, else by 512 entries like any other.
 *
 * Order 0 is allocated, cleared and mapped in one step.  Larger folios are cleared with no lock held (vmf->spare),
 * unless their frames are known to be zero.  Locks: mm->lock.
 */
#include "fault.h"

/* A program that has touched this many pages in a row of a VMA this large will go on doing so. */
#define SEQUENTIAL_PAGES 512u
#define LARGE_VMA_PAGES 2048u

/* The orders that anonymous folios come in, largest first. */
static const u8 anon_orders[] = { PMD_ORDER, CONT_PTE_ORDER, 2, 0 };

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

/* 2 MiB is a bet that the program goes on; who says MADV_HUGEPAGE has made it himself. */
static bool wants_huge(const struct vm_area_struct *vma, u64 address)
{
	u64 base = ALIGN_DOWN(address, PMD_SIZE) >> PAGE_SHIFT;

	if (vma->vm_flags & VM_HUGEPAGE)
		return true;
	return vma_pages(vma) >= LARGE_VMA_PAGES && vma->ra_size >= SEQUENTIAL_PAGES && vma->ra_last == base;
}

/* THE policy: may the folio have this order, if it fits? */
static bool policy_allows(const struct vm_fault *vmf, unsigned order)
{
	if (order > vmf->q->cfg.folio_max_order || (vmf->vma->vm_flags & VM_NOHUGEPAGE))
		return false;
	/* Who had to wait for memory once takes what is small: 2 MiB and no page for the tables would take turns. */
	if (order >= PMD_ORDER && (vmf->tries || !wants_huge(vmf->vma, vmf->address)))
		return false;
	return order < PMD_ORDER || memory_allows(vmf->q, order); /* smaller ones: block_allowed() */
}

static bool order_allowed(const struct vm_fault *vmf, unsigned order)
{
	return !order || (policy_allows(vmf, order) && order_fits(vmf, order) &&
			  block_allowed(vmf, ALIGN_DOWN(vmf->address, PAGE_SIZE << order), order));
}

/* Notes where the touch went, for wants_huge(). */
static void note_touch(struct vm_area_struct *vma, u64 base, u64 pages)
{
	u64 page = base >> PAGE_SHIFT;

	vma->ra_size = page == vma->ra_last ? vma->ra_size + pages : pages;
	vma->ra_last = page + pages;
}

/* Maps the folio (whose block, if it has one, is mapped already) and counts what it was. */
static void install_anon_as(struct vm_fault *vmf, struct folio *folio, u64 base, bool block)
{
	struct quire *q = vmf->q;
	unsigned order = folio_order(folio);

	note_touch(vmf->vma, base, 1ul << order);
	spin_lock(&q->lock);
	if (block)
		count_new_anon(vmf, folio, base);
	else
		map_new_anon(vmf, folio, base);
	count_vm_event(q, !order ? QFAULT_ANON_4K : order <= 2 ? QFAULT_ANON_16K :
			  order <= CONT_PTE_ORDER ? QFAULT_ANON_64K : QFAULT_ANON_2M);
	if (order >= PMD_ORDER)
		count_vm_event(q, THP_FAULT_ALLOC);
	spin_unlock(&q->lock);
}

static void install_anon(struct vm_fault *vmf, struct folio *folio, u64 base)
{
	install_anon_as(vmf, folio, base, false);
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

/* Allocates and maps a folio of an order that fits, or sets out to: VM_FAULT_RETRY while it is being cleared.
 * VM_FAULT_OOM: no such block is free. */
static enum vm_fault_reason try_order(struct vm_fault *vmf, unsigned order)
{
	u64 base = ALIGN_DOWN(vmf->address, PAGE_SIZE << order);
	struct folio *folio = folio_alloc(vmf->q, GFP_FAULT_LARGE | __GFP_TELL_ZERO, order);

	if (!folio)
		return VM_FAULT_OOM;
	if (!(folio->f.flags & FF_ZEROED))
		return spare_keep(vmf, folio, base) ? fault_retry(vmf, NEED_CLEAR) : VM_FAULT_OOM;
	folio->f.flags &= (u16)~FF_ZEROED;
	install_anon(vmf, folio, base);
	return VM_FAULT_DONE;
}

/* The spare if it is a cleared block for base, or a new one; NULL: *r says what to do. */
static struct folio *huge_folio(struct vm_fault *vmf, u64 base, enum vm_fault_reason *r)
{
	struct folio *folio;

	*r = VM_FAULT_OOM;
	if (spare_for(vmf, base, PMD_ORDER, SPARE_CLEAR))
		return spare_take(vmf);
	folio = folio_alloc(vmf->q, GFP_FAULT_LARGE | __GFP_TELL_ZERO, PMD_ORDER);
	if (!folio)
		return NULL;
	if (!(folio->f.flags & FF_ZEROED)) {
		if (spare_keep(vmf, folio, base))
			*r = fault_retry(vmf, NEED_CLEAR);
		return NULL;
	}
	folio->f.flags &= (u16)~FF_ZEROED;
	return folio;
}

enum vm_fault_reason do_huge_anonymous_page(struct vm_fault *vmf)
{
	u64 base = ALIGN_DOWN(vmf->address, PMD_SIZE);
	enum vm_fault_reason r;
	struct folio *folio;

	if (!block_in_vma(vmf, base, PT_ENTRIES) || !policy_allows(vmf, PMD_ORDER))
		return VM_FAULT_OOM;
	/* An earlier step found no block of this size and has prepared a smaller one: given back here, that would go on for ever. */
	if (vmf->spare && folio_order(vmf->spare) != PMD_ORDER)
		return VM_FAULT_OOM;
	folio = huge_folio(vmf, base, &r);
	if (!folio)
		return r;
	FAULT_TRACE(vmf->q, "do_huge_anonymous_page");
	if (!mm_map_block(vmf->mm, base, new_anon_pte(vmf->vma, folio_pfn(vmf->q, folio)))) {
		folio_put(vmf->q, folio, 1);
		return VM_FAULT_OOM;
	}
	install_anon_as(vmf, folio, base, true);
	return VM_FAULT_DONE;
}

enum vm_fault_reason do_anonymous_page(struct vm_fault *vmf)
{
	enum vm_fault_reason r;
	unsigned i;

	if (!fault_is_write(vmf))
		return map_zero_page(vmf);
	FAULT_TRACE(vmf->q, "do_anonymous_page");
	if (map_spare(vmf))
		return VM_FAULT_DONE;
	if (vmf->spare)
		spare_give_back(vmf);
	for (i = 0; anon_orders[i]; i++) {
		if (!order_allowed(vmf, anon_orders[i]))
			continue;
		r = try_order(vmf, anon_orders[i]);
		if (r != VM_FAULT_OOM)
			return r;
	}
	return map_small(vmf);
}
