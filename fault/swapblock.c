/*
 * Swapped neighbours come back together: a fault on one page of a block whose pages are all out fills one folio with all of
 * them, as the first touch of the block would have done.  One trap and one mapping of the port instead of sixteen.
 *
 *   a step        all entries of the block are swap entries of pages that lie in memory, compressed, and are nobody else's: their
 *                 slots are held, a folio is taken as the spare
 *   under no lock the pages are put into it
 *   a step        the entries are still the same: the folio is mapped, the slots are free.  Else all of it is given back, and
 *                 the page comes alone (swap.c)
 *
 * Only while memory is ample, or for who goes on from page to page (block_allowed): pages that nobody asked for must not push
 * others out.
 *
 * Invariant: slots are held (vmf->nblock) only while the spare is the block's, and while no other need is served, so that
 * reclaim finds its places in ctx->swaps[] free.  A held slot keeps its bytes, whatever happens to the entries (swap/swap.h).
 * Death: the holds are in ctx->swaps[], the folio in ctx->parked[].
 * Locks: mm->lock and q->lock inside for the steps, none for reading.
 */
#include "fault.h"

static const u8 block_orders[] = { CONT_PTE_ORDER, 2, 0 };

/* Under q->lock: is it the page of this entry only, and stored where it can be had at once? */
static bool is_stored_alone(struct quire *q, u64 entry, u32 count)
{
	const struct swap_slot *s = swap_slot_of(q, entry);

	if (!s || s->count != count || s->folio || (s->state != SLOT_STORED && s->state != SLOT_FILLED))
		return false;
	return s->state == SLOT_FILLED || !swap_ops_of(q, entry)->io;
}

/* Are all n entries from base on swap entries? */
static bool block_is_swapped(const struct vm_fault *vmf, u64 base, u32 n)
{
	const pte_t *slot = slot_at(vmf, base);

	for (u32 i = 0; i < n; i++)
		if (pte_kind(pte_read(slot + i)) != PTE_KIND_SWAP)
			return false;
	return true;
}

static bool block_may_come(const struct vm_fault *vmf, u64 base, unsigned order)
{
	u32 n = 1u << order;

	if (order > vmf->q->cfg.folio_max_order || (vmf->vma->vm_flags & (VM_NOHUGEPAGE | VM_RAND_READ)))
		return false;
	return block_in_vma(vmf, base, n) && block_is_swapped(vmf, base, n) && block_allowed(vmf, base, order);
}

/* Holds all slots of the block, or none. */
static bool hold_slots(struct vm_fault *vmf, u64 base, u32 n)
{
	struct quire *q = vmf->q;
	const pte_t *slot = slot_at(vmf, base);
	bool all = port_ctx()->nswaps + n <= CTX_MAX_SWAPS;

	spin_lock(&q->lock);
	for (u32 i = 0; i < n && all; i++) {
		vmf->block[i] = pte_to_swp_entry(pte_read(slot + i));
		all = is_stored_alone(q, vmf->block[i], 1);
	}
	for (u32 i = 0; i < n && all; i++)
		swap_hold(q, vmf->block[i]);
	spin_unlock(&q->lock);
	if (all)
		vmf->nblock = n;
	return all;
}

void swap_block_release(struct vm_fault *vmf)
{
	while (vmf->nblock) {
		u64 entry = vmf->block[--vmf->nblock];

		swap_unhold(vmf->q, entry);
		swap_put(vmf->q, entry, 1);
	}
}

static bool try_order(struct vm_fault *vmf, unsigned order)
{
	u64 base = ALIGN_DOWN(vmf->address, PAGE_SIZE << order);
	struct folio *folio;

	if (!block_may_come(vmf, base, order))
		return false;
	folio = folio_alloc(vmf->q, GFP_FAULT_LARGE | __GFP_TELL_ZERO, order);
	if (!folio || !spare_keep(vmf, folio, base))
		return false;
	if (hold_slots(vmf, base, 1u << order))
		return true;
	spare_give_back(vmf);
	return false;
}

bool swap_block_begin(struct vm_fault *vmf)
{
	if (vmf->no_block)
		return false;
	for (unsigned i = 0; block_orders[i]; i++)
		if (try_order(vmf, block_orders[i]))
			return true;
	return false;
}

enum vm_fault_reason serve_swap_block(struct vm_fault *vmf)
{
	u8 *to = frame_address(vmf->q, &vmf->spare->f);

	/* What was cleared is so no more, also if reading fails half-way. */
	vmf->spare->f.flags &= (u16)~FF_ZEROED;
	for (u32 i = 0; i < vmf->nblock; i++) {
		if (swap_load(vmf->q, vmf->block[i], to + i * PAGE_SIZE)) {
			vmf->no_block = true; /* whose page it is finds out by itself */
			spare_drop(vmf);
			return VM_FAULT_RETRY;
		}
	}
	vmf->spare_state = SPARE_SWAP_BLOCK;
	return VM_FAULT_RETRY;
}

/* Under q->lock: has nothing happened to the entries and their slots? */
static bool block_is_current(const struct vm_fault *vmf, u64 base)
{
	const pte_t *slot = slot_at(vmf, base);

	for (u32 i = 0; i < vmf->nblock; i++) {
		pte_t p = pte_read(slot + i);

		if (pte_kind(p) != PTE_KIND_SWAP || pte_to_swp_entry(p) != vmf->block[i] || !is_stored_alone(vmf->q, vmf->block[i], 2))
			return false;
	}
	return true;
}

/* Under q->lock.  The slots are free, and the folio is mapped as after a first touch. */
static void map_block(struct vm_fault *vmf, u64 base)
{
	struct quire *q = vmf->q;
	u32 n = vmf->nblock;
	u64 shadow = 0;

	for (u32 i = 0; i < n; i++)
		shadow = MAX(shadow, swap_slot_of(q, vmf->block[i])->shadow);
	swap_block_release(vmf);
	for (u32 i = 0; i < n; i++)
		swap_put(q, vmf->block[i], 1);
	pgtable_clear(q, slot_at(vmf, base), n);
	folio_unhold(q, vmf->spare);
	vmf->major = true;
	map_new_anon(vmf, vmf->spare, base);
	workingset_refault_anon(q, vmf->spare, shadow);
	add_mm_counter(vmf->mm, MM_SWAPENTS, -(s64)n);
	count_vm_events(q, PSWPIN, n);
	vmf->spare = NULL;
}

bool swap_block_finish(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;
	u64 base = vmf->spare_base;
	bool done;

	DEBUG_ON(!vmf->spare || vmf->tlb_used);
	FAULT_TRACE(q, "do_swap_block");
	spin_lock(&q->lock);
	done = base == ALIGN_DOWN(vmf->address, (u64)vmf->nblock << PAGE_SHIFT) && block_in_vma(vmf, base, vmf->nblock) &&
	       block_is_current(vmf, base);
	if (done)
		map_block(vmf, base);
	spin_unlock(&q->lock);
	if (!done) {
		vmf->no_block = true;
		spare_give_back(vmf);
	}
	return done;
}
