/*
 * Moving pages: the bytes of anonymous folios go to other frames while programs run.  Compaction is its main user.
 *
 *   for each folio, one transaction:
 *	entries -> migration entries (under every mm's lock), flushes logged, old and new folio held in ctx->parked[]
 *   once for each address space of the batch:
 *	port_tlb_sync()              from here on nobody can reach the old frames by an address
 *   copy
 *   for each folio, transactions:
 *	migration entries -> the new frames
 *   the old frames are freed
 *
 * A migration entry keeps the reference and the mapcount of the entry it replaced, so rmap finds it, zapping it gives both
 * back as usual, and the fork family lives.  Whoever meets one waits (migration_entry_wait) and looks again; a copy of the
 * address space waits too.
 *
 * Death.  The folios of a dead migrator stand in its parked[]; whoever tidies up turns what still are migration entries
 * back into entries of the old frames (migrate_abandon), which is right at any moment: nobody can have written to them, and of
 * a page shared copy-on-write some entries may lead to the copy and others to the original, since the bytes are the same.
 *
 * Refused: what is not anonymous, what has references beyond its entries (get_user_pages, I/O), what a native call has
 * pinned, and what cannot be locked without waiting.
 *
 * Locks: called under none.  q->lock, mm locks by trylock (rmap_walk).
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "vmscan.h"

#define RESTORE_SPINS 8u
#define RESTORE_NAP_NS 50000ull

struct migration {
	struct quire *q;
	u32 n, nmms;
	struct { struct folio *from, *to; } f[MIGRATE_BATCH];
	struct mm_struct *mms[MIGRATE_MMS]; /* each counted and held */
};

/* One pass over the entries of a folio. */
struct pass {
	struct migration *m;
	struct mm_struct *new_mms[MIGRATE_MMS]; /* hiding: the folio's that are not the batch's yet */
	u32 nnew;
	struct folio *to;      /* restoring: where the entries shall lead */
	struct mm_struct *mm;  /* hiding: range not flushed yet */
	u64 start, end;
	bool refused;
};

static void pass_flush(struct pass *p)
{
	if (p->mm)
		port_tlb_flush_range(p->mm, p->start, p->end);
	p->mm = NULL;
}

static bool among(struct mm_struct *const *mms, u32 n, const struct mm_struct *mm)
{
	while (n--)
		if (mms[n] == mm)
			return true;
	return false;
}

/* Will mm be synchronised, if the folio is hidden?  False: there is no room for it. */
static bool pass_has_mm(struct pass *p, struct mm_struct *mm)
{
	struct migration *m = p->m;

	if (among(m->mms, m->nmms, mm) || among(p->new_mms, p->nnew, mm))
		return true;
	/* Without users it is being torn down and will let go of the folio by itself. */
	if (m->nmms + p->nnew == MIGRATE_MMS || !mm->users)
		return false;
	p->new_mms[p->nnew++] = mm;
	return true;
}

/* Only now: what a folio that stays is mapped by must not take the room of others. */
static void batch_add_mms(struct migration *m, const struct pass *p)
{
	for (u32 i = 0; i < p->nnew; i++) {
		mmget(p->new_mms[i]);
		m->mms[m->nmms++] = p->new_mms[i];
	}
}

static bool hide_entry(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct mm_struct *mm = vma->vm_mm;
	struct pass *p = arg;

	if (port_range_pinned(mm, addr, addr + PAGE_SIZE) || !pass_has_mm(p, mm)) {
		p->refused = true;
		return false;
	}
	set_pte(mm, slot, pte_mkmigration(pte_read(slot)));
	if (p->mm != mm || p->end != addr) {
		pass_flush(p);
		p->mm = mm;
		p->start = addr;
	}
	p->end = addr + PAGE_SIZE;
	return true;
}

/* The entry as its VMA wants it now, with what the old one knew. */
static pte_t restored(const struct vm_area_struct *vma, pte_t mig, pfn_t pfn)
{
	pte_t p = pfn_pte(pfn, vm_get_page_prot(vma->vm_flags));

	if (pte_swp_excl(mig))
		p = pte_mkexcl(p);
	if (!(mig.v & PTE_MIG_WRITE))
		p = pte_wrprotect(p);
	if (mig.v & PTE_MIG_YOUNG)
		p = pte_mkyoung(p);
	return mig.v & PTE_MIG_DIRTY ? pte_mkdirty(p) : p;
}

static void first_mapping(struct quire *q, struct folio *from, struct folio *to)
{
	to->f.type = FRAME_ANON;
	to->f.mapping = from->f.mapping;
	to->f.index = from->f.index;
	to->f.flags |= from->f.flags & (FF_DIRTY | FF_REFERENCED | FF_SWAPBACKED | FF_UPTODATE | FF_UNEVICTABLE | FF_ASKED |
					FF_ACTIVE | FF_LIST1 | FF_SEEN | FF_WORKINGSET);
	folio_add_lru(q, to);
}

static bool show_entry(struct folio *from, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct pass *p = arg;
	struct quire *q = vma->vm_mm->q;
	pte_t mig = pte_read(slot);
	pfn_t page = pte_migration_pfn(mig) - folio_pfn(q, from);

	set_pte(vma->vm_mm, slot, restored(vma, mig, folio_pfn(q, p->to) + page));
	if (p->to == from)
		return true;
	if (p->to->f.type != FRAME_ANON)
		first_mapping(q, from, p->to);
	folio_get(p->to, 1);
	folio_add_rmap(q, p->to, 1);
	folio_remove_rmap(q, from, 1);
	folio_put(q, from, 1); /* ours in parked[] is left */
	return true;
}

bool folio_may_move(const struct folio *folio)
{
	const struct frame *f = &folio->f;

	if (!f->mapcount || f->refcount != f->mapcount || (f->flags & (FF_WRITEBACK | FF_SWAPCACHE)))
		return false;
	/* The entries of one folio change in one transaction, whose log has room for about this. */
	return folio_order(folio) <= CONT_PTE_ORDER || f->mapcount <= folio_nr_pages(folio);
}

/* Under q->lock.  False: it stays, and nothing has changed. */
static bool hide_folio(struct migration *m, struct folio *from, struct folio *to)
{
	struct pass p = { .m = m, .to = from };
	enum rmap_result r;

	r = rmap_walk(m->q, from, hide_entry, &p, 0);
	pass_flush(&p);
	if (r == RMAP_DONE && !p.refused) {
		batch_add_mms(m, &p);
		return true;
	}
	/* All locks are still ours, so this reaches every entry that was changed. */
	rmap_walk(m->q, from, show_entry, &p, RMAP_MIGRATION | RMAP_KEPT);
	return false;
}

/* One transaction: hides a folio and takes it into the batch. */
static bool take_folio(struct migration *m, pfn_t pfn)
{
	struct quire *q = m->q;
	struct folio *from = (struct folio *)pfn_to_frame(q, pfn), *to = NULL;
	bool taken = false;

	spin_lock(&q->lock);
	/* The caller only guessed: the frame may be somebody else's by now, who is writing to its record. */
	if (frame_type_hint(q, pfn) == FRAME_ANON && folio_may_move(from))
		to = folio_alloc_hold(q, GFP_HIGHUSER_MOVABLE & ~__GFP_HIGHMEM, folio_order(from));
	if (to) {
		folio_get_hold(q, from);
		taken = hide_folio(m, from, to);
		if (!taken) {
			folio_unhold(q, from);
			folio_put(q, from, 1);
			folio_unhold(q, to);
			folio_put(q, to, 1);
		}
	}
	if (taken) {
		m->f[m->n].from = from;
		m->f[m->n++].to = to;
	}
	spin_unlock(&q->lock);
	return taken;
}

/* Under no lock: every migration entry of `from` becomes one of `to`. */
static void show_folio(struct quire *q, struct folio *from, struct folio *to)
{
	struct pass p = { .to = to };
	enum rmap_result r;
	unsigned tries = 0;
	u32 never = 0;

	for (;;) {
		spin_lock(&q->lock);
		r = rmap_walk(q, from, show_entry, &p, RMAP_MIGRATION | RMAP_MAY_CYCLE);
		spin_unlock(&q->lock);
		if (r == RMAP_DONE)
			return;
		/* Somebody else has an mm's lock. */
		if (++tries < RESTORE_SPINS)
			port_relax();
		else
			port_wait(&never, 0, RESTORE_NAP_NS);
	}
}

static void finish_folio(struct quire *q, struct folio *from, struct folio *to)
{
	show_folio(q, from, to);
	if (q->hooks.folio_moved)
		q->hooks.folio_moved(q, from);
	spin_lock(&q->lock);
	count_vm_event(q, PGMIGRATE_SUCCESS);
	folio_unhold(q, from);
	folio_put(q, from, 1);
	folio_unhold(q, to);
	folio_put(q, to, 1);
	spin_unlock(&q->lock);
}

static void wake_waiters(struct quire *q)
{
	__atomic_add_fetch(&q->migrations, 1, __ATOMIC_RELEASE);
	port_wake(&q->migrations, ~0u >> 1);
}

u32 migrate_folios(struct quire *q, const pfn_t *heads, u32 n)
{
	struct migration m = { .q = q };
	u32 i;

	DEBUG_ON(in_transaction());
	for (i = 0; i < MIN(n, MIGRATE_BATCH); i++)
		take_folio(&m, heads[i]);
	for (i = 0; i < m.nmms; i++)
		port_tlb_sync(m.mms[i]);
	for (i = 0; i < m.n; i++)
		port_copy_pages(frame_address(q, &m.f[i].to->f), frame_address(q, &m.f[i].from->f),
				folio_nr_pages(m.f[i].from));
	for (i = 0; i < m.n; i++)
		finish_folio(q, m.f[i].from, m.f[i].to);
	if (m.n)
		wake_waiters(q);
	for (i = 0; i < m.nmms; i++)
		mmput(m.mms[i]);
	return m.n;
}

void migrate_abandon(struct quire *q, struct ctx *dead)
{
	u32 i;

	for (i = 0; i < dead->nparked; i++) {
		struct folio *folio = pfn_folio(q, dead->parked[i].pfn);

		if (READ_ONCE(folio->f.type) == FRAME_ANON && READ_ONCE(folio->f.mapcount))
			show_folio(q, folio, folio);
	}
	wake_waiters(q);
}
