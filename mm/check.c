/*
 * mm_is_valid: every invariant of an address space that can be checked by looking.
 *
 *   tree          ordered, disjoint, page aligned, below task_size; moved VMAs listed
 *   counters      total_vm, locked_vm, data_vm, exec_vm, stack_vm are the sums over VMAs
 *   tables        counts of live entries, pgtables_bytes
 *   entries       each lies in a VMA; rss[] is what they say; each has its share of its folio's mapcount and refcount
 *
 * Under mm->lock (taken here); says what is wrong through quire_log.
 */
#include <mm/vma.h>

#define COMPLAIN(mm, ...) (quire_log((mm)->q, 3, "mm: " __VA_ARGS__), false)
typedef unsigned long long ull;

struct sums {
	struct mm_struct acc; /* only the counters are used */
	s64 rss[NR_MM_COUNTERS];
	u32 moved;
};

static bool vma_is_valid(struct mm_struct *mm, struct vm_area_struct *vma)
{
	bool moved = vma->anon && vma->anon_pgoff != vma_start(vma) >> PAGE_SHIFT;

	if (!PAGE_ALIGNED(vma_start(vma)) || !PAGE_ALIGNED(vma_end(vma)) || vma_end(vma) > mm->task_size)
		return COMPLAIN(mm, "vma %llx-%llx out of shape", (ull)vma_start(vma), (ull)vma_end(vma));
	if (vma->vm_mm != mm || (vma->anon && vma->anon != mm->anon) || !vma->anon != !vma->anon_id)
		return COMPLAIN(mm, "vma %llx: not of this mm or family", (ull)vma_start(vma));
	if (moved != (vma->moved_prev || mm->moved_vmas == vma))
		return COMPLAIN(mm, "vma %llx: moved %d but listed otherwise", (ull)vma_start(vma), moved);
	if (vma_is_anonymous(vma) && vma->anon && vma->anon_pgoff != vma->vm_pgoff)
		return COMPLAIN(mm, "vma %llx: anon_pgoff %llx, vm_pgoff %llx", (ull)vma_start(vma),
				(ull)vma->anon_pgoff, (ull)vma->vm_pgoff);
	return true;
}

static bool sum_vmas(struct mm_struct *mm, struct sums *s)
{
	for (struct vm_area_struct *vma = vma_first(mm); vma; vma = vma_next(mm, vma)) {
		if (!vma_is_valid(mm, vma))
			return false;
		vm_stat_account(&s->acc, vma->vm_flags, (s64)vma_pages(vma));
		if (vma->vm_flags & VM_LOCKED)
			s->acc.locked_vm += vma_pages(vma);
		s->moved += vma->anon && vma->anon_pgoff != vma_start(vma) >> PAGE_SHIFT;
	}
	return true;
}

static bool sums_agree(struct mm_struct *mm, const struct sums *s)
{
	const struct mm_struct *a = &s->acc;

	if (a->total_vm != mm->total_vm || a->locked_vm != mm->locked_vm || a->data_vm != mm->data_vm ||
	    a->exec_vm != mm->exec_vm || a->stack_vm != mm->stack_vm)
		return COMPLAIN(mm,
				"total %llu/%llu locked %llu/%llu data %llu/%llu exec %llu/%llu stack %llu/%llu "
				"(counted/kept)",
				(ull)a->total_vm, (ull)mm->total_vm, (ull)a->locked_vm, (ull)mm->locked_vm,
				(ull)a->data_vm, (ull)mm->data_vm, (ull)a->exec_vm, (ull)mm->exec_vm, (ull)a->stack_vm,
				(ull)mm->stack_vm);
	if (s->moved != mm->nr_moved_vmas)
		return COMPLAIN(mm, "%u moved VMAs, counted %u", mm->nr_moved_vmas, s->moved);
	for (int i = 0; i < NR_MM_COUNTERS; i++)
		if (s->rss[i] != mm->rss[i])
			return COMPLAIN(mm, "rss[%d] is %lld, entries say %lld", i, (long long)mm->rss[i],
					(long long)s->rss[i]);
	return true;
}

static bool folio_is_valid(struct mm_struct *mm, const struct vm_area_struct *vma, u64 addr, pte_t p,
			   struct folio *folio)
{
	u32 page = (u32)(pte_pfn(p) - folio_pfn(mm->q, folio));
	u8 type = folio->f.type;

	if (type != FRAME_ANON && type != FRAME_FILE && type != FRAME_SHMEM)
		return COMPLAIN(mm, "%llx maps pfn %x of type %u", (ull)addr, pte_pfn(p), type);
	if (!folio->f.mapcount || folio->f.refcount < folio->f.mapcount)
		return COMPLAIN(mm, "%llx: folio %x has mapcount %u, refcount %u", (ull)addr, folio_pfn(mm->q, folio),
				folio->f.mapcount, folio->f.refcount);
	if (vma_address(vma, folio, page) != addr)
		return COMPLAIN(mm, "%llx: rmap of folio %x (index %llx) gives %llx", (ull)addr,
				folio_pfn(mm->q, folio), (ull)folio->f.index, (ull)vma_address(vma, folio, page));
	if (pte_excl(p) && type != FRAME_ANON)
		return COMPLAIN(mm, "%llx: exclusive but not anonymous", (ull)addr);
	if (type == FRAME_ANON && pte_write(p) && !pte_excl(p))
		return COMPLAIN(mm, "%llx: writable but not exclusive", (ull)addr);
	return true;
}

/* A block: a whole anonymous folio, inside one VMA. */
static bool block_is_valid(struct mm_struct *mm, u64 addr, pte_t p, struct sums *s)
{
	struct vm_area_struct *vma = vma_lookup(mm, addr);
	struct folio *folio = pte_folio(mm, p);

	if (!vma || vma_end(vma) < addr + PMD_SIZE || folio_order(folio) != PMD_ORDER || folio->f.type != FRAME_ANON ||
	    folio_pfn(mm->q, folio) != pte_pfn(p) || folio->f.mapcount < PT_ENTRIES)
		return COMPLAIN(mm, "%llx: block %llx is no whole folio of one VMA", (ull)addr, (ull)p.v);
	if (pte_write(p) && !(vma->vm_flags & VM_WRITE))
		return COMPLAIN(mm, "%llx: writable block in a VMA that is not", (ull)addr);
	s->rss[MM_ANONPAGES] += PT_ENTRIES;
	return folio_is_valid(mm, vma, addr, p, folio);
}

static bool entry_is_valid(struct mm_struct *mm, u64 addr, pte_t p, struct sums *s)
{
	struct vm_area_struct *vma = vma_lookup(mm, addr);
	struct folio *folio;

	if (!vma)
		return COMPLAIN(mm, "%llx: entry %llx outside of any VMA", (ull)addr, (ull)p.v);
	if (!pte_present(p)) {
		s->rss[MM_SWAPENTS] += pte_is_swap(p);
		if (pte_is_migration(p))
			s->rss[mm_counter(pfn_folio(mm->q, pte_migration_pfn(p)))]++;
		return true;
	}
	if (pte_write(p) && !(vma->vm_flags & VM_WRITE))
		return COMPLAIN(mm, "%llx: writable entry in a VMA that is not", (ull)addr);
	if (pte_special(p))
		return true;
	folio = pfn_folio(mm->q, pte_pfn(p));
	s->rss[mm_counter(folio)]++;
	return folio_is_valid(mm, vma, addr, p, folio);
}

static bool entries_are_valid(struct mm_struct *mm, struct sums *s)
{
	struct pt_iter it;

	pt_iter_init(&it, mm->q, mm->pgd, 0, 1ull << VA_BITS);
	while (pt_iter_next(&it))
		if (!(it.level == PT_LAST_LEVEL ? entry_is_valid : block_is_valid)(mm, it.addr, pte_read(it.slot), s))
			return false;
	return true;
}

bool mm_is_valid(struct mm_struct *mm)
{
	struct pgtable pt = mm_pgtable(mm);
	struct sums s;
	bool ok;

	memset(&s, 0, sizeof(s));
	spin_lock(&mm->lock);
	spin_lock(&mm->q->lock); /* counts of folios that others map, too */
	ok = range_tree_is_valid(&mm->vmas) || COMPLAIN(mm, "range tree");
	ok = ok && (pgtable_is_valid(&pt, true) || COMPLAIN(mm, "page tables, %llu bytes", (ull)mm->pgtables_bytes));
	ok = ok && sum_vmas(mm, &s) && entries_are_valid(mm, &s) && sums_agree(mm, &s);
	spin_unlock(&mm->q->lock);
	spin_unlock(&mm->lock);
	return ok || COMPLAIN(mm, "this address space is not valid");
}
