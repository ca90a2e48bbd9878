/*
 * /proc/PID/smaps and smaps_rollup: what each VMA has resident, and how it is shared.
 *
 * A VMA's entries are read in pieces: mm->lock and q->lock are held for at most ENTRIES_AT_ONCE of them, and the
 * walk goes on by address.  Sharing is judged by the folio: the map count of a folio of n pages, divided by n and
 * rounded, is what each of its pages counts as (as Linux does with CONFIG_NO_PAGE_MAPCOUNT); a 4 KiB folio is exact.
 *
 * Locks: mm->lock, q->lock inside.
 */
#include "maps.h"

#define PSS_SHIFT 12
#define ENTRIES_AT_ONCE 256u

/* Bytes; pss in bytes << PSS_SHIFT. */
struct mem_size {
	u64 resident, shared_clean, shared_dirty, private_clean, private_dirty, referenced, anonymous, lazyfree;
	u64 anon_huge, shmem_huge, file_huge, swap;
	u64 pss, pss_anon, pss_file, pss_shmem, pss_dirty, pss_locked, swap_pss;
};

static void count_sharing(struct mem_size *s, u64 size, bool shared, bool dirty)
{
	if (shared) {
		s->shared_dirty += dirty ? size : 0;
		s->shared_clean += dirty ? 0 : size;
	} else {
		s->private_dirty += dirty ? size : 0;
		s->private_clean += dirty ? 0 : size;
	}
}

static void count_kind(struct mem_size *s, const struct folio *folio, u64 size, u64 pss, int level)
{
	bool block = level < PT_LAST_LEVEL;

	if (folio->f.type == FRAME_ANON) {
		s->anonymous += size;
		s->pss_anon += pss;
		s->anon_huge += block ? size : 0;
	} else if (folio->f.type == FRAME_SHMEM) {
		s->pss_shmem += pss;
		s->shmem_huge += block ? size : 0;
	} else {
		s->pss_file += pss;
		s->file_huge += block ? size : 0;
	}
}

/* A present, ordinary entry.  Under q->lock. */
static void count_present(struct mem_size *s, struct mm_struct *mm, u64 vm_flags, pte_t pte, u64 size, int level)
{
	struct folio *folio = pte_folio(mm, pte);
	u64 n = folio_nr_pages(folio), sharers = MAX((folio->f.mapcount + n / 2) / n, 1ull);
	u64 pss = (size << PSS_SHIFT) / sharers;
	bool dirty = pte_dirty(pte) || (folio->f.flags & FF_DIRTY);

	s->resident += size;
	s->pss += pss;
	s->pss_dirty += dirty ? pss : 0;
	s->pss_locked += vm_flags & VM_LOCKED ? pss : 0;
	if (pte_young(pte) || (folio->f.flags & FF_REFERENCED))
		s->referenced += size;
	if (folio->f.type == FRAME_ANON && !(folio->f.flags & FF_SWAPBACKED) && !dirty)
		s->lazyfree += size;
	count_kind(s, folio, size, pss, level);
	count_sharing(s, size, folio->f.mapcount > n, dirty);
}

static void count_entry(struct mem_size *s, struct mm_struct *mm, u64 vm_flags, const struct pt_iter *it)
{
	pte_t pte = pte_read(it->slot);

	if (pte_is_swap(pte)) {
		s->swap += PAGE_SIZE;
		s->swap_pss += PAGE_SIZE << PSS_SHIFT;
	} else if (pte_present(pte) && !pte_special(pte)) {
		count_present(s, mm, vm_flags, pte, it->next - it->addr, it->level);
	}
}

/* Entries of [addr, end), some of them; returns where to go on.  Under mm->lock. */
static u64 count_some(struct mem_size *s, struct mm_struct *mm, u64 vm_flags, u64 addr, u64 end)
{
	struct quire *q = mm->q;
	struct pt_iter it;
	unsigned n = 0;

	spin_lock(&q->lock);
	pt_iter_init(&it, q, mm->pgd, addr, end);
	while (n++ < ENTRIES_AT_ONCE && pt_iter_next(&it)) {
		count_entry(s, mm, vm_flags, &it);
		addr = it.next;
	}
	spin_unlock(&q->lock);
	return n > ENTRIES_AT_ONCE ? addr : end;
}

/* Walks the VMA at *addr to its end in pieces, each its own transaction.  Called and left under mm->lock.  If the
 * VMA changes meanwhile, what is left of the old range is counted. */
static void count_vma(struct mem_size *s, struct mm_struct *mm, u64 vm_flags, u64 start, u64 end)
{
	while (start < end) {
		start = count_some(s, mm, vm_flags, start, end);
		if (start < end) {
			spin_unlock(&mm->lock);
			spin_lock(&mm->lock);
		}
	}
}

static void line_kb(struct fmt_buf *out, const char *name, u64 bytes)
{
	size_t from = out->len;

	fmt_printf(out, "%s:", name);
	fmt_pad_to(out, from, 16, ' ');
	fmt_printf(out, "%8lu kB\n", (unsigned long)(bytes >> 10));
}

static void put_sizes(struct fmt_buf *out, const struct mem_size *s, bool rollup)
{
	line_kb(out, "Rss", s->resident);
	line_kb(out, "Pss", s->pss >> PSS_SHIFT);
	line_kb(out, "Pss_Dirty", s->pss_dirty >> PSS_SHIFT);
	if (rollup) {
		line_kb(out, "Pss_Anon", s->pss_anon >> PSS_SHIFT);
		line_kb(out, "Pss_File", s->pss_file >> PSS_SHIFT);
		line_kb(out, "Pss_Shmem", s->pss_shmem >> PSS_SHIFT);
	}
	line_kb(out, "Shared_Clean", s->shared_clean);
	line_kb(out, "Shared_Dirty", s->shared_dirty);
	line_kb(out, "Private_Clean", s->private_clean);
	line_kb(out, "Private_Dirty", s->private_dirty);
	line_kb(out, "Referenced", s->referenced);
	line_kb(out, "Anonymous", s->anonymous);
	line_kb(out, "KSM", 0);
	line_kb(out, "LazyFree", s->lazyfree);
	line_kb(out, "AnonHugePages", s->anon_huge);
	line_kb(out, "ShmemPmdMapped", s->shmem_huge);
	line_kb(out, "FilePmdMapped", s->file_huge);
	line_kb(out, "Shared_Hugetlb", 0);
	line_kb(out, "Private_Hugetlb", 0);
	line_kb(out, "Swap", s->swap);
	line_kb(out, "SwapPss", s->swap_pss >> PSS_SHIFT);
	line_kb(out, "Locked", s->pss_locked >> PSS_SHIFT);
}

/* proc(5), VmFlags; in the order of the bits.  Not "sd": it is taken for a promise of soft-dirty bits in pagemap. */
static void put_vm_flags(struct fmt_buf *out, u64 vm_flags)
{
	static const struct {
		u64 flag;
		char name[3];
	} names[] = {
		{ VM_READ, "rd" }, { VM_WRITE, "wr" }, { VM_EXEC, "ex" }, { VM_SHARED, "sh" }, { VM_MAYREAD, "mr" },
		{ VM_MAYWRITE, "mw" }, { VM_MAYEXEC, "me" }, { VM_MAYSHARE, "ms" }, { VM_GROWSDOWN, "gd" },
		{ VM_PFNMAP, "pf" }, { VM_MAYBE_GUARD, "gu" }, { VM_LOCKED, "lo" }, { VM_IO, "io" }, { VM_SEQ_READ, "sr" },
		{ VM_RAND_READ, "rr" }, { VM_DONTCOPY, "dc" }, { VM_DONTEXPAND, "de" }, { VM_LOCKONFAULT, "lf" }, { VM_ACCOUNT, "ac" },
		{ VM_NORESERVE, "nr" }, { VM_SYNC, "sf" }, { VM_WIPEONFORK, "wf" }, { VM_DONTDUMP, "dd" },
		{ VM_MIXEDMAP, "mm" }, { VM_HUGEPAGE, "hg" }, { VM_NOHUGEPAGE, "nh" },
		{ VM_MERGEABLE, "mg" }, { VM_DROPPABLE, "dp" }, { VM_SEALED, "sl" },
	};

	fmt_printf(out, "VmFlags: ");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (vm_flags & names[i].flag)
			fmt_printf(out, "%s ", names[i].name);
	}
	fmt_putc(out, '\n');
}

static bool thp_eligible(const struct quire *q, bool anon, u64 vm_flags, u64 start, u64 end)
{
	return anon && q->cfg.folio_max_order >= PMD_ORDER && !(vm_flags & VM_NOHUGEPAGE) &&
	       ALIGN_UP(start, PMD_SIZE) + PMD_SIZE <= end;
}

/* The lines behind a VMA's first one. */
static void put_block(struct fmt_buf *out, u64 bytes, const struct mem_size *s, bool thp, u64 vm_flags)
{
	line_kb(out, "Size", bytes);
	line_kb(out, "KernelPageSize", PAGE_SIZE);
	line_kb(out, "MMUPageSize", PAGE_SIZE);
	put_sizes(out, s, false);
	fmt_printf(out, "THPeligible:    %8u\n", thp);
	put_vm_flags(out, vm_flags);
}

/* One VMA's block; returns where the next one begins to be looked for, PROC_VMA_END at the end. */
static u64 show_vma(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out)
{
	struct vm_area_struct *vma;
	struct mem_size s;
	u64 start, end, flags;
	bool anon;

	memset(&s, 0, sizeof(s));
	spin_lock(&mm->lock);
	vma = find_vma(mm, addr);
	if (!vma) {
		spin_unlock(&mm->lock);
		if (proc_gate_line(q, out))
			put_block(out, PAGE_SIZE, &s, false, q->cfg.vsyscall_flags);
		return PROC_VMA_END;
	}
	start = vma_start(vma);
	end = vma_end(vma);
	flags = vma->vm_flags;
	anon = vma_is_anonymous(vma);
	proc_vma_line(mm, vma, out);
	count_vma(&s, mm, flags, start, end);
	spin_unlock(&mm->lock);
	put_block(out, end - start, &s, thp_eligible(q, anon, flags, start, end), flags);
	return end;
}

void proc_smaps(struct quire *q, struct mm_struct *mm, struct fmt_buf *out)
{
	for (u64 addr = 0; addr != PROC_VMA_END;)
		addr = show_vma(q, mm, addr, out);
}

u64 proc_smaps_from(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out)
{
	return proc_vmas_from(show_vma, q, mm, addr, out);
}

void proc_smaps_rollup(struct quire *q, struct mm_struct *mm, struct fmt_buf *out)
{
	struct vm_area_struct *vma;
	u64 first = 0, addr = 0;
	struct mem_size s;
	size_t from = out->len;

	memset(&s, 0, sizeof(s));
	spin_lock(&mm->lock);
	vma = vma_first(mm);
	if (vma)
		first = vma_start(vma);
	while ((vma = find_vma(mm, addr))) {
		addr = vma_end(vma);
		count_vma(&s, mm, vma->vm_flags, vma_start(vma), addr);
		spin_unlock(&mm->lock);
		spin_lock(&mm->lock);
	}
	spin_unlock(&mm->lock);
	proc_vma_prefix(out, first, addr, 0, 0, 0, 0);
	fmt_pad_to(out, from, 73, ' ');
	fmt_printf(out, "[rollup]\n");
	put_sizes(out, &s, true);
}
