/*
 * do_swap_page: the page is out; it comes back here.
 *
 *   entry's folio in the swap cache      -> mapped again (a minor fault)
 *   not there                            -> read into a new frame (a major one): at once from memory; from a device under
 *                                           no lock, together with neighbours (swapin.c), and then this step again
 *
 * From memory, with neighbours that are out, too, while there is enough of it (swapblock.c).
 *
 * The entry then gives its count back.  If that was the last one the slot is free and the page is this entry's alone: it
 * is mapped as it would be after a first touch.  If other address spaces still hold the entry (fork), the folio stays in, or
 * goes into, the swap cache, so that they will find the same frame, and is mapped for reading; a write then goes on to
 * do_wp_page.
 *
 * Memory is read under mm->lock only: our entry keeps the slot as it is (swap/swap.h).  A page that cannot be read
 * is SIGBUS for whoever needs it, and a line in the log.
 *
 * Locks: mm->lock; q->lock for slot, cache and folio.
 */
#include "fault.h"

/* A new folio with the page's bytes, or NULL and *r. */
static struct folio *swap_in(struct vm_fault *vmf, u64 entry, enum vm_fault_reason *r)
{
	struct quire *q = vmf->q;
	struct folio *folio = folio_alloc(q, GFP_FAULT, 0);
	int err;

	if (!folio) {
		*r = fault_retry(vmf, NEED_MEMORY);
		return NULL;
	}
	err = swap_load(q, entry, frame_address(q, &folio->f));
	if (!err)
		return folio;
	folio_put(q, folio, 1);
	if (err == -EAGAIN) {
		*r = fault_retry(vmf, NEED_SWAP_ROOM);
		return NULL;
	}
	vmf->swap_error = entry;
	vmf->swap_err = err;
	*r = VM_FAULT_SIGBUS;
	return NULL;
}

/* The page as it was read from a device, with one reference, or NULL and *r. */
static struct folio *swap_in_device(struct vm_fault *vmf, u64 entry, const struct swap_read *want, enum vm_fault_reason *r)
{
	if (spare_for(vmf, vmf->address, 0, SPARE_SWAP)) {
		if (vmf->swap.entry == want->entry && vmf->swap.stamp == want->stamp) {
			if (!vmf->swap_err)
				return spare_take(vmf);
			vmf->swap_error = entry;
			*r = VM_FAULT_SIGBUS;
			return NULL;
		}
		spare_give_back(vmf); /* the slot has another page now */
	}
	vmf->swap = *want;
	vmf->need_random = vmf->vma->vm_flags & VM_RAND_READ;
	*r = fault_retry(vmf, spare_alloc(vmf, vmf->address) ? NEED_SWAP : NEED_MEMORY);
	return NULL;
}

void fault_report_swap_error(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;

	spin_lock(&q->lock);
	q->swap.read_errors++;
	spin_unlock(&q->lock);
	quire_log(q, 3, "Read-error on swap-device (%u:%llu): page at %#llx is lost: %s", swp_type(vmf->swap_error),
		  (unsigned long long)swp_offset(vmf->swap_error), (unsigned long long)vmf->address, swap_error_text(vmf->swap_err));
}

static pte_t swapped_in_pte(const struct vm_fault *vmf, const struct folio *folio, bool exclusive)
{
	u64 vm_flags = vmf->vma->vm_flags;
	pte_t p = pte_mkyoung(pfn_pte(folio_pfn(vmf->q, folio), vm_get_page_prot(vm_flags)));

	if (!exclusive)
		return pte_wrprotect(p);
	/* The folio is dirty anyway, since no slot has its bytes: save the fault on the first write. */
	if (vm_flags & VM_WRITE)
		p = pte_mkwrite(p);
	return pte_mkdirty(pte_mkexcl(p));
}

/* Under q->lock.  One entry less, one mapping more.  Is the page this mm's alone now?  `read`: it is new. */
static bool take_page(struct vm_fault *vmf, struct folio *folio, u64 entry, bool read)
{
	struct quire *q = vmf->q;
	bool last = swap_count(q, entry) == 1;
	u64 shadow = swap_slot_of(q, entry)->shadow; /* also of one that was read ahead: it is used now */

	if (!read && (folio->f.flags & FF_READAHEAD) && !folio->f.mapcount)
		count_vm_event(q, SWAP_RA_HIT);
	folio->f.type = FRAME_ANON;
	folio->f.flags |= FF_SWAPBACKED | FF_UPTODATE;
	folio->f.flags &= (u16)~(FF_SWAPOUT | FF_READAHEAD);
	if (read && last)
		folio->f.flags |= FF_DIRTY;
	else if (read)
		swap_cache_add(q, folio, entry);
	else
		folio_get(folio, 1);
	folio_add_anon_rmap(folio, vmf->vma, vmf->address, 1);
	swap_slot_of(q, entry)->shadow = 0;
	swap_put(q, entry, 1);
	folio_add_lru(q, folio);
	workingset_refault_anon(q, folio, shadow);
	return last && folio->f.mapcount == 1;
}

static enum vm_fault_reason map_swapped(struct vm_fault *vmf, struct folio *folio, u64 entry, bool read)
{
	struct quire *q = vmf->q;
	bool exclusive = take_page(vmf, folio, entry, read);

	set_pte(vmf->mm, vmf->slot, swapped_in_pte(vmf, folio, exclusive));
	add_mm_counter(vmf->mm, MM_ANONPAGES, 1);
	add_mm_counter(vmf->mm, MM_SWAPENTS, -1);
	vmf->major |= read;
	if (read)
		count_vm_event(q, PSWPIN);
	if (fault_is_write(vmf) && !exclusive)
		return fault_retry(vmf, NEED_NOTHING);
	fault_count(vmf);
	return VM_FAULT_DONE;
}

enum vm_fault_reason do_swap_page(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;
	u64 entry = pte_to_swp_entry(vmf->orig);
	struct folio *fresh = NULL, *folio;
	enum vm_fault_reason r = VM_FAULT_RETRY;
	struct swap_read want;

	FAULT_TRACE(q, "do_swap_page");
	if (vmf->spare && vmf->spare_state == SPARE_SWAP_BLOCK && swap_block_finish(vmf))
		return VM_FAULT_DONE;
	if (swap_cache_empty_hint(q, entry)) {
		if (!vmf->spare && swap_block_begin(vmf))
			return fault_retry(vmf, NEED_SWAP_BLOCK);
		fresh = swap_needs_io(q, entry, &want) ? swap_in_device(vmf, entry, &want, &r) : swap_in(vmf, entry, &r);
		if (!fresh)
			return r;
	}
	spin_lock(&q->lock);
	folio = swap_cache_folio(q, entry);
	if (folio && fresh)
		folio_put(q, fresh, 1); /* somebody else was faster */
	if (folio)
		r = map_swapped(vmf, folio, entry, false);
	else if (fresh)
		r = map_swapped(vmf, fresh, entry, true);
	else
		r = fault_retry(vmf, NEED_NOTHING); /* it was written out just now */
	spin_unlock(&q->lock);
	return r;
}
