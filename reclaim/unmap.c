/*
 * Taking a file folio out of the page tables that map it.
 *
 * One step handles the entries of one address space in one transaction: entries cleared, their references
 * parked, the translations flushed, commit, synchronise, references dropped.  A folio mapped by many processes
 * takes as many steps; so a step is short, one flush serves it, and dying in between loses nothing.
 *
 * An entry that is young gets its second chance here: it is made old (and its translation flushed, so that the
 * next use is noticed) and the folio stays.  If the policy wants to know, its neighbours in the page table are asked at the same
 * time: that is cheap, since one flush serves them all.
 *
 * A page given up with MADV_FREE (an anonymous one on the lists of files) goes like a clean page of a file, unless it was
 * written to since.
 *
 * Locks: q->lock is held by the caller; mm locks are tried by rmap_walk().
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "vmscan.h"

struct unmap_step {
	struct mmu_gather tlb;
	struct mm_struct *mm; /* whose entries this step handles; counted */
	bool force;
	u32 unmapped;
	enum unmap_result result;
};

static bool step_begin(struct unmap_step *s, struct mm_struct *mm)
{
	/* Without users it is being torn down: it will let go of the folio by itself. */
	if (!mm->users)
		return false;
	mmget(mm);
	s->mm = mm;
	tlb_gather_mmu(&s->tlb, mm);
	return true;
}

/* The entry goes; its reference is parked until nobody can use the translation. */
static void unmap_entry(struct unmap_step *s, struct folio *folio, u64 addr, pte_t *slot)
{
	struct mm_struct *mm = s->mm;
	pte_t old = pte_read(slot);

	if (pte_dirty(old))
		folio_mark_dirty(folio);
	set_pte(mm, slot, __pte(0));
	add_mm_counter(mm, mm_counter(folio), -1);
	folio_remove_rmap(mm->q, folio, 1);
	tlb_remove(&s->tlb, addr, 1, pte_pfn(old), 1);
	s->unmapped++;
}

#define LOOK_AROUND 16u /* entries on either side */

/* The folio of an entry was used: so, perhaps, were its neighbours.  Makes their entries old and tells the policy. */
static void look_around(struct unmap_step *s, const struct vm_area_struct *vma, u64 addr, pte_t *slot)
{
	u64 table = ALIGN_DOWN(addr, PMD_SIZE), from = MAX(table, vma_start(vma)), to = MIN(table + PMD_SIZE, vma_end(vma));
	struct quire *q = s->mm->q;

	from = MAX(from, addr - MIN(addr, (u64)LOOK_AROUND << PAGE_SHIFT));
	to = MIN(to, addr + ((LOOK_AROUND + 1ul) << PAGE_SHIFT));
	for (u64 at = from; at < to; at += PAGE_SIZE) {
		pte_t *near = slot + ((s64)(at - addr) >> PAGE_SHIFT), p = pte_read(near);
		struct folio *folio;

		if (at == addr || !pte_present(p) || pte_special(p) || !pte_young(p) || port_range_pinned(s->mm, at, at + PAGE_SIZE))
			continue;
		folio = pte_folio(s->mm, p);
		if (!(folio->f.flags & FF_LRU) || (folio->f.flags & FF_UNEVICTABLE))
			continue;
		set_pte(s->mm, near, pte_mkold(p));
		tlb_remove(&s->tlb, at, 1, pte_pfn(p), 0);
		q->lru.policy->young(q, folio);
	}
}

static bool stop(struct unmap_step *s, enum unmap_result result)
{
	s->result = result;
	return false;
}

static bool visit(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct unmap_step *s = arg;
	struct mm_struct *mm = vma->vm_mm;

	if (s->mm && s->mm != mm)
		return stop(s, UNMAP_PARTLY);
	if (vma->vm_flags & VM_LOCKED)
		return stop(s, UNMAP_LOCKED);
	if (port_range_pinned(mm, addr, addr + PAGE_SIZE) || (!s->mm && !step_begin(s, mm)))
		return stop(s, UNMAP_BUSY);
	if (folio->f.type == FRAME_ANON && (pte_dirty(pte_read(slot)) || (folio->f.flags & FF_DIRTY)))
		return stop(s, UNMAP_DIRTY);
	if (!s->force && pte_young(pte_read(slot)) && folio->f.type != FRAME_ANON) {
		if (mm->q->lru.policy->young)
			look_around(s, vma, addr, slot);
		set_pte(mm, slot, pte_mkold(pte_read(slot)));
		tlb_remove(&s->tlb, addr, 1, pte_pfn(pte_read(slot)), 0);
		return stop(s, UNMAP_REFERENCED);
	}
	if (tlb_full(&s->tlb))
		return stop(s, UNMAP_PARTLY);
	unmap_entry(s, folio, addr, slot);
	return true;
}

enum unmap_result try_to_unmap_step(struct quire *q, struct folio *folio, bool force)
{
	struct unmap_step s = { .force = force, .result = UNMAP_DONE };
	enum rmap_result walked;

	lockdep_assert_held(&q->lock);
	walked = rmap_walk(q, folio, visit, &s, 0);
	if (walked == RMAP_BUSY && s.result == UNMAP_DONE)
		s.result = s.unmapped ? UNMAP_PARTLY : UNMAP_BUSY;
	if (s.mm)
		tlb_flush(&s.tlb);
	spin_unlock(&q->lock);
	if (s.mm) {
		tlb_finish_mmu(&s.tlb);
		mmput(s.mm);
	}
	return s.result;
}
