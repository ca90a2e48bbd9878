/*
 * Gathering: frames whose translations were removed wait in ctx->parked[] until every CPU has forgotten them.
 *
 *   clear PTE, park (one transaction) -> commit -> port_tlb_sync -> folio_put, unpark (another transaction)
 *
 * Invariant: at every commit a reference belongs to a page-table entry or stands in a parked[] array, never neither
 * (lost if the context dies) and never both (freed twice).
 * Locks: tlb_remove and tlb_flush under mm->lock (and q->lock as the caller needs it), tlb_finish_mmu under none.
 */
#include <mm/mm.h>

void tlb_gather_mmu(struct mmu_gather *tlb, struct mm_struct *mm)
{
	*tlb = (struct mmu_gather){.mm = mm, .ctx = port_ctx(), .start = ~0ull};
	tlb->base = tlb->ctx->nparked;
	tlb->outer = tlb->base ? tlb->ctx->parked_mm : NULL;
}

void tlb_remove(struct mmu_gather *tlb, u64 addr, u64 pages, pfn_t pfn, u32 refs)
{
	struct ctx *c = tlb->ctx;
	struct parked_frame *last = c->nparked > tlb->base ? &c->parked[c->nparked - 1] : NULL;

	tlb->start = MIN(tlb->start, addr);
	tlb->end = MAX(tlb->end, addr + (pages << PAGE_SHIFT));
	if (!refs)
		return;
	if (last && last->pfn == pfn) {
		last->refs += refs;
		return;
	}
	BUG_ON(c->nparked >= CTX_MAX_PARKED); /* the caller did not ask tlb_full() */
	c->parked[c->nparked] = (struct parked_frame){pfn, refs};
	c->nparked++;
	c->parked_mm = tlb->mm;
}

static void flush_protected(struct mmu_gather *tlb)
{
	if (!tlb->wp_end)
		return;
	port_tlb_protect_range(tlb->mm, tlb->wp_start, tlb->wp_end);
	tlb->wp_end = 0;
	tlb->pending = true;
}

/* Exact ranges, not one from the first to the last: a port may keep what else lies between them. */
void tlb_protect(struct mmu_gather *tlb, u64 addr, u64 pages)
{
	if (tlb->wp_end != addr) {
		flush_protected(tlb);
		tlb->wp_start = addr;
	}
	tlb->wp_end = addr + (pages << PAGE_SHIFT);
}

void tlb_flush(struct mmu_gather *tlb)
{
	flush_protected(tlb);
	/* Reclaim may have unmapped pages here whose translations somebody can still use: the call must not return before. */
	tlb->pending |= tlb->mm->unsynced != 0;
	if (tlb->start >= tlb->end)
		return;
	port_tlb_flush_range(tlb->mm, tlb->start, tlb->end);
	tlb->start = ~0ull;
	tlb->end = 0;
	tlb->pending = true;
}

void tlb_finish_mmu(struct mmu_gather *tlb)
{
	struct ctx *c = tlb->ctx;
	struct quire *q = tlb->mm->q;

	DEBUG_ON(in_transaction());
	if (tlb->pending)
		port_tlb_sync(tlb->mm);
	tlb->pending = false;
	if (c->nparked == tlb->base)
		return;
	spin_lock(&q->lock);
	while (c->nparked > tlb->base) {
		struct parked_frame p = c->parked[--c->nparked];

		folio_put(q, pfn_folio(q, p.pfn), p.refs);
		if (txn_should_break()) {
			spin_unlock(&q->lock);
			spin_lock(&q->lock);
		}
	}
	c->parked_mm = tlb->outer; /* ours may soon be gone */
	spin_unlock(&q->lock);
}

void tlb_cycle(struct mmu_gather *tlb)
{
	bool need = tlb->need_memory;
	unsigned tries = 0;

	tlb_flush(tlb);
	spin_unlock(&tlb->mm->lock);
	tlb_finish_mmu(tlb);
	if (need)
		mm_reclaim(tlb->mm->q, &tries);
	tlb->need_memory = false;
	spin_lock(&tlb->mm->lock);
}
