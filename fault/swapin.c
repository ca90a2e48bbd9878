/*
 * Reading swapped pages from a device: the one that is needed, and readable neighbours along with it.
 *
 * The needed page goes into vmf->spare; the step that runs next takes it if the slot still has the same stamp.  Neighbours, in an
 * aligned window of 2^page_cluster slots around it (32 at most, which is what a port reads at once), go into the swap cache, where faults on them will find them; they
 * are read only while memory is not short, and only in one piece with the needed page.
 *
 * Death: all frames are in ctx->parked[] until they are in the cache; nothing else changes before.
 * Locks: called under none; q->lock to choose and to install.
 */
#include <port/host.h>
#include "fault.h"

#define WINDOW HOST_SWAP_MAX

/* What is read at once. */
struct batch {
	struct quire *q;
	u32 n;
	struct swap_read read[WINDOW];
	struct folio *folio[WINDOW];
	void *page[WINDOW];
	int result[WINDOW];
	bool stall;             /* the needed page should not have gone: to wait for it is to wait for memory (psi.c; Linux: swap_read_folio()) */
};

/* Under q->lock: a frame for a neighbour, or NULL if there is no memory to spare. */
static struct folio *neighbour_alloc(struct quire *q)
{
	if (port_ctx()->nparked >= CTX_MAX_PARKED || !phys_balanced(q, 0, WMARK_HIGH, ZONE_NORMAL))
		return NULL;
	return folio_alloc_hold(q, (GFP_FAULT & ~(__GFP_IO | __GFP_FS)) | __GFP_NOWARN, 0);
}

/* Chooses what is read: slots [lo, hi) of the window, with `at` the needed one, each with a frame. */
static void choose(struct batch *b, struct vm_fault *vmf)
{
	struct swap_read window[WINDOW];
	struct folio *folio[WINDOW];
	struct quire *q = b->q;
	u32 size = 1u << MIN(q->reclaim.page_cluster, 5u);
	u64 at = swp_offset(vmf->swap.entry) % size, lo = at, hi = at + 1;

	folio[at] = vmf->spare;
	spin_lock(&q->lock);
	b->stall = swap_read_is_current(q, &vmf->swap) && workingset_was_part(swap_slot_of(q, vmf->swap.entry)->shadow);
	if (swap_read_is_current(q, &vmf->swap) && !vmf->need_random) {
		swap_readahead_window(q, vmf->swap.entry - at, size, window);
		while (hi < size && window[hi].stamp && (folio[hi] = neighbour_alloc(q)))
			hi++;
		while (lo && window[lo - 1].stamp && (folio[lo - 1] = neighbour_alloc(q)))
			lo--;
	}
	spin_unlock(&q->lock);
	window[at] = vmf->swap;
	for (; lo < hi; lo++, b->n++) {
		b->read[b->n] = window[lo];
		b->folio[b->n] = folio[lo];
		b->page[b->n] = frame_address(q, &folio[lo]->f);
	}
}

/* Under q->lock: a neighbour that was read goes into the cache, unless something happened to its slot. */
static void neighbour_done(struct quire *q, struct folio *folio, const struct swap_read *r, int err)
{
	folio_unhold(q, folio);
	if (!err && swap_read_is_current(q, r) && !swap_cache_folio(q, r->entry)) {
		folio->f.type = FRAME_ANON;
		folio->f.flags |= FF_SWAPBACKED | FF_UPTODATE | FF_READAHEAD;
		swap_cache_add(q, folio, r->entry);
		folio_add_lru(q, folio);
		count_vm_event(q, SWAP_RA);
		count_vm_event(q, PSWPIN);
	}
	folio_put(q, folio, 1);
}

enum vm_fault_reason serve_swap(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;
	struct batch b;
	bool entered;

	b.q = q;
	b.n = 0;
	choose(&b, vmf);
	entered = b.stall && q->hooks.memstall_enter && q->hooks.memstall_enter(q);
	swap_read_pages(q, b.read, b.n, b.page, b.result);
	/* One failure may have been a neighbour's. */
	for (u32 i = 0; i < b.n; i++)
		if (b.folio[i] == vmf->spare && b.result[i] && b.n > 1)
			swap_read_pages(q, &b.read[i], 1, &b.page[i], &b.result[i]);
	if (entered)
		q->hooks.memstall_leave(q, entered);
	spin_lock(&q->lock);
	for (u32 i = b.n; i-- > 0;) {
		if (b.folio[i] == vmf->spare)
			vmf->swap_err = b.result[i];
		else
			neighbour_done(q, b.folio[i], &b.read[i], b.result[i]);
	}
	spin_unlock(&q->lock);
	vmf->spare->f.flags &= (u16)~FF_ZEROED;
	vmf->spare_state = SPARE_SWAP;
	vmf->major = true;
	return VM_FAULT_RETRY;
}
