/*
 * Faults in VMAs with a file, on entries that are still none: do_read_fault, do_cow_fault, do_shared_fault.
 *
 * All three want the page in the cache first; if it is not, the step asks for it (NEED_PAGE_CACHE) and is run
 * again.  A read maps what else is cached around the address ("fault-around"), since that saves faults and costs
 * little.  Whether a page lies beyond the end of the file is decided when it is brought in (filemap_fill); a
 * cached page lies inside, except behind the cut end of a shmem object (file/shmem.c).
 *
 * Locks: mm->lock; q->lock from the lookup in the cache to the end of the step.
 */
#include "fault.h"

#define FAULT_AROUND_PAGES 16u
#define FAULT_AROUND_TOKENS 64u
#define FAULT_AROUND_TEXT 512u

/* Entry for a page of the file itself: never writable in a private mapping, for there the first write copies. */
static pte_t file_pte(const struct vm_area_struct *vma, pfn_t pfn, bool dirty)
{
	pte_t p = pte_mkyoung(pfn_pte(pfn, vm_get_page_prot(vma->vm_flags)));

	if (!(vma->vm_flags & VM_SHARED))
		return pte_wrprotect(p);
	return dirty ? pte_mkdirty(p) : p;
}

/* Pages of the object that exist; only shmem objects may have folios beyond. */
static u64 mapping_page_limit(const struct address_space *m)
{
	return mapping_is_shmem(m) ? PAGE_ALIGN(m->shmem_size) >> PAGE_SHIFT : ~0ull;
}

/* The cached folio for vmf->pgoff, with q->lock held; else NULL, *r set, q->lock not held. */
static struct folio *find_folio(struct vm_fault *vmf, enum vm_fault_reason *r)
{
	struct address_space *m = vmf->vma->vm_file->mapping;
	struct folio *folio;

	spin_lock(&vmf->q->lock);
	if (vmf->pgoff >= mapping_page_limit(m)) {
		*r = VM_FAULT_SIGBUS;
	} else {
		folio = filemap_lookup(m, vmf->pgoff);
		if (likely(folio))
			return folio;
		*r = fault_need_file(vmf, NEED_PAGE_CACHE);
	}
	spin_unlock(&vmf->q->lock);
	return NULL;
}

/* Maps the pages of folio that belong at [first, last] of the file, where entries are still none.  Under q->lock. */
static u32 map_folio_pages(struct vm_fault *vmf, struct folio *folio, u64 first, u64 last, bool dirty)
{
	pfn_t head = folio_pfn(vmf->q, folio);
	u64 i = MAX(first, folio->f.index), end = MIN(last, folio->f.index + folio_nr_pages(folio) - 1);
	u32 n = 0;

	for (; i <= end; i++) {
		pte_t *slot = slot_at(vmf, vmf->address + ((i - vmf->pgoff) << PAGE_SHIFT));

		if (!pte_none(pte_read(slot)))
			continue;
		set_pte(vmf->mm, slot, file_pte(vmf->vma, head + (pfn_t)(i - folio->f.index), dirty));
		n++;
	}
	if (n) {
		folio_get(folio, n);
		folio_add_rmap(vmf->q, folio, n);
		add_mm_counter(vmf->mm, mm_counter(folio), n);
	}
	return n;
}

/* The window of file pages around the fault: aligned as Linux's do_fault_around, inside the VMA and the table. */
static void around_window(const struct vm_fault *vmf, u64 pages, u64 *first, u64 *last)
{
	u64 window = pages << PAGE_SHIFT;
	u64 start = MAX(MAX(ALIGN_DOWN(vmf->address, window), ALIGN_DOWN(vmf->address, PMD_SIZE)), vma_start(vmf->vma));
	/* As Linux: a window that a VMA's start cuts off in front is as much longer behind. */
	u64 end = MIN(MIN(start + window, ALIGN_DOWN(vmf->address, PMD_SIZE) + PMD_SIZE), vma_end(vmf->vma));

	*first = vmf->pgoff - ((vmf->address - start) >> PAGE_SHIFT);
	*last = *first + ((end - start) >> PAGE_SHIFT) - 1;
}

/* Text jumps about in all of itself, and an entry costs a hundredth of a trap: while memory is ample what is cached of it is mapped at once. */
static u64 around_pages(const struct vm_fault *vmf)
{
	const struct quire_config *cfg = &vmf->q->cfg;

	if (mapping_is_token(vmf->vma->vm_file->mapping)) {
		if (cfg->fault_around_tokens)
			return cfg->fault_around_tokens;
		return (vmf->vma->vm_flags & VM_EXEC) && memory_allows(vmf->q, 0) ? FAULT_AROUND_TEXT : FAULT_AROUND_TOKENS;
	}
	return cfg->fault_around_pages ? cfg->fault_around_pages : FAULT_AROUND_PAGES;
}

/* Maps what is cached around the address.  Returns how many entries were made.  Under q->lock. */
static u32 map_around(struct vm_fault *vmf)
{
	struct address_space *m = vmf->vma->vm_file->mapping;
	u64 i, last, limit = mapping_page_limit(m);
	struct folio *folio;
	u32 mapped = 0;

	FAULT_TRACE(vmf->q, "filemap_map_pages");
	around_window(vmf, around_pages(vmf), &i, &last);
	if (i >= limit)
		return 0;
	last = MIN(last, limit - 1);
	while ((folio = radix_next(&m->i_pages, &i, last))) {
		mapped += map_folio_pages(vmf, folio, i, last, false);
		i = folio->f.index + folio_nr_pages(folio);
	}
	return mapped;
}

static enum vm_fault_reason do_read_fault(struct vm_fault *vmf)
{
	enum vm_fault_reason r;
	u32 mapped;

	FAULT_TRACE(vmf->q, "do_read_fault");
	if (!find_folio(vmf, &r)) {
		if (r == VM_FAULT_SIGBUS) { /* as Linux: the neighbours are mapped before the page is missed */
			spin_lock(&vmf->q->lock);
			map_around(vmf);
			spin_unlock(&vmf->q->lock);
		}
		return r;
	}
	mapped = map_around(vmf);
	count_vm_events(vmf->q, QFAULT_AROUND, mapped - 1);
	spin_unlock(&vmf->q->lock);
	return VM_FAULT_DONE;
}

/* A private copy straight away: the file's page need not be mapped first. */
static enum vm_fault_reason do_cow_fault(struct vm_fault *vmf)
{
	enum vm_fault_reason r;
	struct folio *page, *copy;
	struct quire *q = vmf->q;
	u64 base;

	FAULT_TRACE(q, "do_cow_fault");
	vma_prepare_anon(vmf->vma); /* as Linux: also if the page then turns out to lie beyond the end of the file */
	if (mapping_is_token(vmf->vma->vm_file->mapping)) {
		copy = token_copy(vmf, &base, &r);
		if (!copy)
			return r;
		map_token_copy(vmf, copy, base);
		return VM_FAULT_DONE;
	}
	page = find_folio(vmf, &r);
	if (!page)
		return r;
	copy = folio_alloc(q, GFP_FAULT, 0);
	if (copy) {
		u8 *from = (u8 *)frame_address(q, &page->f) + ((vmf->pgoff - page->f.index) << PAGE_SHIFT);

		port_copy_pages(frame_address(q, &copy->f), from, 1);
		map_new_anon(vmf, copy, vmf->address);
	}
	spin_unlock(&q->lock);
	return copy ? VM_FAULT_DONE : fault_retry(vmf, NEED_MEMORY);
}

static enum vm_fault_reason do_shared_fault(struct vm_fault *vmf)
{
	struct address_space *m = vmf->vma->vm_file->mapping;
	u64 first = vmf->pgoff, last = vmf->pgoff;
	enum vm_fault_reason r;
	struct folio *folio;

	FAULT_TRACE(vmf->q, "do_shared_fault");
	folio = find_folio(vmf, &r);
	if (!folio)
		return r;
	/* Shared memory is dirty anyway, so a large folio is mapped as a whole; a file's page only as it is written. */
	if (folio_order(folio) && mapping_is_shmem(m)) {
		around_window(vmf, folio_nr_pages(folio), &first, &last);
		last = MIN(last, mapping_page_limit(m) - 1);
	}
	folio_mark_dirty(folio);
	vmf->dirtied = true;
	map_folio_pages(vmf, folio, first, last, true);
	spin_unlock(&vmf->q->lock);
	return VM_FAULT_DONE;
}

enum vm_fault_reason do_file_fault(struct vm_fault *vmf)
{
	vmf->pgoff = linear_page_index(vmf->vma, vmf->address);
	if (vmf->vma->vm_file->mapping->flags & AS_DAX)
		return VM_FAULT_SIGBUS;
	if (!fault_is_write(vmf))
		return do_read_fault(vmf);
	if (!(vmf->vma->vm_flags & VM_SHARED))
		return do_cow_fault(vmf);
	return do_shared_fault(vmf);
}
