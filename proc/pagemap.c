/*
 * /proc/PID/pagemap, /proc/kpagecount, /proc/kpageflags: one 64-bit word for each page.
 * Layouts: Documentation/admin-guide/mm/pagemap.rst.
 * Locks: mm->lock and q->lock inside it, for at most ENTRIES_AT_ONCE pages at a time.
 */
#include <mm/mm.h>
#include "proc.h"

#define ENTRIES_AT_ONCE 256u

#define PM_PFN_MASK ((1ull << 55) - 1)
#define PM_SWAP_OFFSET_SHIFT 5
#define PM_MMAP_EXCLUSIVE BIT(56)
#define PM_GUARD_REGION BIT(58)
#define PM_FILE BIT(61) /* file page or shared anonymous */
#define PM_SWAP BIT(62)
#define PM_PRESENT BIT(63)

/* Under mm->lock and q->lock. */
static u64 present_word(struct mm_struct *mm, pte_t pte, u64 offset)
{
	struct folio *folio;
	u64 w = PM_PRESENT | ((pte_pfn(pte) + offset) & PM_PFN_MASK);

	if (pte_special(pte))
		return w;
	folio = pte_folio(mm, pte);
	if (folio->f.type != FRAME_ANON)
		w |= PM_FILE;
	if (folio->f.mapcount <= folio_nr_pages(folio))
		w |= PM_MMAP_EXCLUSIVE;
	return w;
}

static u64 word_of(struct mm_struct *mm, pte_t pte, u64 offset)
{
	u64 e;

	if (pte_present(pte))
		return present_word(mm, pte, offset);
	if (pte_is_guard(pte))
		return PM_GUARD_REGION;
	if (!pte_is_swap(pte))
		return 0;
	e = pte_to_swp_entry(pte);
	return PM_SWAP | ((swp_offset(e) << PM_SWAP_OFFSET_SHIFT) & PM_PFN_MASK) | swp_type(e);
}

/* Fills the words of [addr, end), which were zeroed before.  Under mm->lock. */
static void fill_some(struct mm_struct *mm, u64 addr, u64 end, u64 *entries)
{
	struct pt_iter it;

	spin_lock(&mm->q->lock);
	pt_iter_init(&it, mm->q, mm->pgd, addr, end);
	while (pt_iter_next(&it)) {
		pte_t pte = pte_read(it.slot);
		u64 skipped = it.addr - ALIGN_DOWN(it.addr, pt_size(it.level));

		for (u64 a = it.addr; a < MIN(it.next, end); a += PAGE_SIZE)
			entries[(a - addr) >> PAGE_SHIFT] = word_of(mm, pte, (skipped + a - it.addr) >> PAGE_SHIFT);
	}
	spin_unlock(&mm->q->lock);
}

size_t proc_pagemap(struct mm_struct *mm, u64 addr, u64 *entries, size_t n)
{
	u64 limit = mm->task_size;
	size_t done = 0;

	addr = ALIGN_DOWN(addr, PAGE_SIZE);
	if (addr >= limit)
		return 0;
	n = MIN(n, (limit - addr) >> PAGE_SHIFT);
	memset(entries, 0, n * sizeof(*entries));
	while (done < n) {
		size_t some = MIN(n - done, (size_t)ENTRIES_AT_ONCE);
		u64 at = addr + done * PAGE_SIZE;

		spin_lock(&mm->lock);
		fill_some(mm, at, at + some * PAGE_SIZE, entries + done);
		spin_unlock(&mm->lock);
		done += some;
	}
	return n;
}

static bool pfn_ok(const struct quire *q, pfn_t pfn)
{
	return pfn < q->cfg.memory >> PAGE_SHIFT;
}

/* The record that speaks for frame pfn, copied, and whether pfn is not its first frame.  A tail may be stale: only a head in
 * use that covers it counts. */
static bool look(struct quire *q, pfn_t pfn, struct frame *head, bool *tail)
{
	enum block_state state;
	pfn_t first;
	unsigned order;

	spin_lock(&q->lock);
	state = phys_lookup(q, pfn, &first, &order);
	*head = *pfn_to_frame(q, first);
	spin_unlock(&q->lock);
	*tail = first != pfn;
	return state == BLOCK_USED || state == BLOCK_RESERVED;
}

/* How often the page is mapped; for a large folio the average over its pages. */
u64 proc_kpagecount(struct quire *q, pfn_t pfn)
{
	struct frame f;
	bool tail;

	if (!pfn_ok(q, pfn) || !look(q, pfn, &f, &tail))
		return 0;
	if (f.type != FRAME_ANON && f.type != FRAME_FILE && f.type != FRAME_SHMEM)
		return 0;
	return (f.mapcount + (1u << f.order) - 1) >> f.order;
}

/* KPF_* (include/uapi/linux/kernel-page-flags.h). */
enum {
	KPF_REFERENCED = 2, KPF_UPTODATE = 3, KPF_DIRTY = 4, KPF_LRU = 5, KPF_ACTIVE = 6, KPF_SLAB = 7, KPF_WRITEBACK = 8,
	KPF_RECLAIM = 9, KPF_BUDDY = 10, KPF_MMAP = 11, KPF_ANON = 12, KPF_SWAPCACHE = 13, KPF_SWAPBACKED = 14,
	KPF_COMPOUND_HEAD = 15, KPF_COMPOUND_TAIL = 16, KPF_UNEVICTABLE = 18, KPF_NOPAGE = 20, KPF_ZERO_PAGE = 24,
	KPF_PGTABLE = 26, KPF_RESERVED = 32,
};

static u64 flag_bits(const struct frame *f)
{
	static const struct {
		u16 flag;
		u8 bit;
	} map[] = {
		{ FF_REFERENCED, KPF_REFERENCED }, { FF_UPTODATE, KPF_UPTODATE }, { FF_DIRTY, KPF_DIRTY }, { FF_LRU, KPF_LRU },
		{ FF_ACTIVE, KPF_ACTIVE }, { FF_WRITEBACK, KPF_WRITEBACK }, { FF_RECLAIM, KPF_RECLAIM },
		{ FF_SWAPCACHE, KPF_SWAPCACHE }, { FF_SWAPBACKED, KPF_SWAPBACKED }, { FF_UNEVICTABLE, KPF_UNEVICTABLE },
	};
	u64 w = 0;

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		w |= f->flags & map[i].flag ? BIT(map[i].bit) : 0;
	return w;
}

static u64 type_bits(const struct frame *f)
{
	switch (f->type) {
	case FRAME_ANON: return BIT(KPF_ANON) | (f->mapcount ? BIT(KPF_MMAP) : 0) | flag_bits(f);
	case FRAME_FILE:
	case FRAME_SHMEM: return (f->mapcount ? BIT(KPF_MMAP) : 0) | flag_bits(f);
	case FRAME_SLAB: return BIT(KPF_SLAB);
	case FRAME_PGTABLE: return BIT(KPF_PGTABLE);
	case FRAME_RESERVED: return BIT(KPF_RESERVED);
	default: return 0;
	}
}

u64 proc_kpageflags(struct quire *q, pfn_t pfn)
{
	struct frame f;
	bool tail;

	if (!pfn_ok(q, pfn))
		return BIT(KPF_NOPAGE);
	if (pfn == q->zero_pfn)
		return BIT(KPF_ZERO_PAGE) | BIT(KPF_RESERVED);
	if (!look(q, pfn, &f, &tail))
		return BIT(KPF_BUDDY);
	return type_bits(&f) | (f.order ? BIT(tail ? KPF_COMPOUND_TAIL : KPF_COMPOUND_HEAD) : 0);
}
