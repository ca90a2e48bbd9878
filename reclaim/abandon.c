/*
 * What a dead context had begun with frames, for whoever tidies up after it (LOCKING.md, "Who may die where").
 *
 * Its transaction is rolled back already, so every reference that it had taken out of page tables stands in parked[].  The order is
 * everything: first nobody may reach those frames by an address, then what else knows of them lets go, then they are free.
 * Not here: address spaces and files (mm_drop_held, file_drop_held), which come last.
 * Locks: under none.
 */
#include "reclaim.h"
#include <mm/mm.h>
#include <swap/swap.h>

/* Its own gather's address space, and those of reclaim's and migration's batches, which unmap in many. */
static void sync_translations(struct ctx *dead)
{
	u32 i;

	if (dead->parked_mm && dead->parked_mm->port_mm)
		port_tlb_sync(dead->parked_mm);
	for (i = 0; i < dead->nmms; i++)
		if (dead->mms[i] != dead->parked_mm)
			port_tlb_sync(dead->mms[i]);
}

void ctx_abandon(struct ctx *dead)
{
	struct quire *q = dead->q;
	u32 i;

	sync_translations(dead);
	migrate_abandon(q, dead);
	psi_abandon(q, dead);
	throttle_abandon(q, dead);
	swap_abandon(dead);
	for (i = 0; i < dead->nparked; i++) {
		spin_lock(&q->lock);
		if (dead->parked[i].refs)
			folio_put(q, pfn_folio(q, dead->parked[i].pfn), dead->parked[i].refs);
		spin_unlock(&q->lock);
	}
	dead->nparked = 0;
	dead->parked_mm = NULL;
}
