/*
 * HighMem mappings and the fixmap: single pages at kernel addresses.
 *
 *	PKMAP_BASE     LAST_PKMAP slots, counted, for everybody; who finds none free waits for a kunmap()
 *	FIXADDR_START  FIX_SLOTS fixed slots, then KM_MAX_IDX slots for each context (kmap_local_page)
 *
 * Touching a HighMem frame without a mapping cannot happen by accident: frame_address() has no address for it, and an
 * address whose mapping is gone faults.  Linux keeps unused PKMAP mappings until the area is full; here the last
 * kunmap() unmaps and flushes at once, because a frame must not be reused while a TLB may hold it (port law 2).
 *
 * Locks: slots and tables: q->lock.  A context's kmap_local slots and depth are its own; only their table entries,
 * whose count is shared, are written under q->lock.
 */
#include "vmalloc.h"

_Static_assert(FIXADDR_START + (FIX_SLOTS + KM_MAX_CONTEXTS * KM_MAX_IDX) * PAGE_SIZE <= FIXADDR_TOP, "fixmap fits");

static u64 pkmap_addr(u32 slot)
{
	return PKMAP_BASE + (u64)slot * PAGE_SIZE;
}

/* ---- one page at a fixed address ---- */

static bool map_page_locked(struct quire *q, u64 addr, pte_t pte)
{
	struct pgtable pt = kernel_pgtable(q);
	pte_t *slot = pgtable_alloc(&pt, kernel_offset(addr), PT_LAST_LEVEL);

	if (!slot)
		return false;
	pgtable_set(q, slot, pte);
	return true;
}

static bool unmap_page_locked(struct quire *q, u64 addr)
{
	pte_t *slot = pgtable_pte(q, q->kmem.kernel_pgd, kernel_offset(addr));

	if (!slot || pte_none(pte_read(slot)))
		return false;
	pgtable_set(q, slot, __pte(0));
	port_kernel_flush(q, addr, addr + PAGE_SIZE);
	return true;
}

int set_fixmap(struct quire *q, unsigned idx, u64 phys, u64 prot)
{
	u64 addr = fix_to_virt(idx);
	bool ok;

	BUG_ON(idx >= FIX_SLOTS || !PAGE_ALIGNED(phys));
	spin_lock(&q->lock);
	/* Valid to valid never changes the frame: clear, flush, install. */
	unmap_page_locked(q, addr);
	ok = map_page_locked(q, addr, pfn_pte((pfn_t)(phys >> PAGE_SHIFT), prot));
	spin_unlock(&q->lock);
	return ok ? 0 : -ENOMEM;
}

void clear_fixmap(struct quire *q, unsigned idx)
{
	BUG_ON(idx >= FIX_SLOTS);
	spin_lock(&q->lock);
	unmap_page_locked(q, fix_to_virt(idx));
	spin_unlock(&q->lock);
}

/* ---- kmap ---- */

/* 512 slots are 4 KiB: a scan is cheaper than it looks, and HighMem is for machines that are simulated or small. */
static struct pkmap_slot *pkmap_find(struct quire *q, pfn_t pfn)
{
	u32 i;

	for (i = 0; q->kmem.pkmap && i < LAST_PKMAP; i++)
		if (q->kmem.pkmap[i].count && q->kmem.pkmap[i].pfn == pfn)
			return &q->kmem.pkmap[i];
	return NULL;
}

/* Slots are given out in turn, so that a stale pointer meets an unmapped page rather than a new mapping. */
static struct pkmap_slot *pkmap_free_slot(struct quire *q)
{
	u32 i;

	if (q->kmem.pkmap_users == LAST_PKMAP)
		return NULL;
	for (i = 1; i <= LAST_PKMAP; i++) {
		u32 slot = (q->kmem.pkmap_last + i) % LAST_PKMAP;

		if (q->kmem.pkmap[slot].count)
			continue;
		q->kmem.pkmap_last = slot;
		return &q->kmem.pkmap[slot];
	}
	return NULL;
}

static u64 slot_address(struct quire *q, const struct pkmap_slot *s)
{
	return pkmap_addr((u32)(s - q->kmem.pkmap));
}

/* One attempt under q->lock.  0: no slot is free. */
static u64 kmap_try(struct quire *q, pfn_t pfn)
{
	struct pkmap_slot *s = pkmap_find(q, pfn);

	if (s) {
		s->count++;
		return slot_address(q, s);
	}
	s = pkmap_free_slot(q);
	if (!s)
		return 0;
	/* The table was made at boot. */
	BUG_ON(!map_page_locked(q, slot_address(q, s), pfn_pte(pfn, PAGE_KERNEL_PROT)));
	s->pfn = pfn;
	s->count = 1;
	q->kmem.pkmap_users++;
	return slot_address(q, s);
}

void *kmap(struct quire *q, struct frame *f)
{
	pfn_t pfn = frame_to_pfn(q, f);
	void *direct = frame_address(q, f);
	u64 addr = 0;

	while (!direct && !addr) {
		u32 seq;

		spin_lock(&q->lock);
		addr = kmap_try(q, pfn);
		seq = q->kmem.pkmap_seq;
		q->kmem.pkmap_waiters += !addr;
		spin_unlock(&q->lock);
		if (addr)
			break;
		BUG_ON(in_transaction());
		port_wait(&q->kmem.pkmap_seq, seq, ~0ull);
		spin_lock(&q->lock);
		q->kmem.pkmap_waiters--;
		spin_unlock(&q->lock);
	}
	return direct ? direct : (void *)(uintptr_t)addr;
}

void kunmap(struct quire *q, struct frame *f)
{
	struct pkmap_slot *s;
	bool wake = false;

	if (frame_address(q, f))
		return;
	spin_lock(&q->lock);
	s = pkmap_find(q, frame_to_pfn(q, f));
	if (!s) {
		quire_log(q, 3, "kunmap: frame %u is not mapped; caller 0x%lx", frame_to_pfn(q, f),
			  (unsigned long)CALLER);
		BUG();
	}
	if (--s->count == 0) {
		unmap_page_locked(q, slot_address(q, s));
		s->pfn = 0;
		q->kmem.pkmap_users--;
		q->kmem.pkmap_seq++;
		wake = q->kmem.pkmap_waiters != 0;
	}
	spin_unlock(&q->lock);
	if (wake)
		port_wake(&q->kmem.pkmap_seq, 1);
}

void *page_address(struct quire *q, struct frame *f)
{
	void *direct = frame_address(q, f);
	struct pkmap_slot *s;
	u64 addr;

	if (direct)
		return direct;
	spin_lock(&q->lock);
	s = pkmap_find(q, frame_to_pfn(q, f));
	addr = s ? slot_address(q, s) : 0;
	spin_unlock(&q->lock);
	return (void *)(uintptr_t)addr;
}

/* ---- kmap_local ---- */

/* Contexts are the simulated CPUs here: slots belong to a context, so a mapping never has to move with one. */
static u64 local_address(u32 ctx, u32 depth)
{
	return fix_to_virt(FIX_SLOTS + ctx * KM_MAX_IDX + depth);
}

void *kmap_local_page(struct quire *q, struct frame *f)
{
	void *direct = frame_address(q, f);
	u32 ctx = port_ctx()->id - 1, depth;
	u64 addr;

	if (direct)
		return direct;
	BUG_ON(ctx >= KM_MAX_CONTEXTS);
	depth = q->kmem.kmap_depth[ctx];
	BUG_ON(depth >= KM_MAX_IDX);
	addr = local_address(ctx, depth);
	spin_lock(&q->lock);
	BUG_ON(!map_page_locked(q, addr, pfn_pte(frame_to_pfn(q, f), PAGE_KERNEL_PROT)));
	q->kmem.kmap_depth[ctx] = (u8)(depth + 1);
	spin_unlock(&q->lock);
	return (void *)(uintptr_t)addr;
}

void kunmap_local(struct quire *q, const void *addr)
{
	u64 va = (u64)(uintptr_t)addr & PAGE_MASK;
	u32 ctx = port_ctx()->id - 1, depth;

	if (va < FIXADDR_START || va >= FIXADDR_TOP)
		return; /* of the direct map */
	BUG_ON(ctx >= KM_MAX_CONTEXTS);
	depth = q->kmem.kmap_depth[ctx];
	/* Mappings nest: only the newest may go. */
	if (!depth || va != local_address(ctx, depth - 1)) {
		quire_log(q, 3, "kunmap_local: 0x%lx is not the newest of %u mappings; caller 0x%lx", (unsigned long)va,
			  depth, (unsigned long)CALLER);
		BUG();
	}
	spin_lock(&q->lock);
	BUG_ON(!unmap_page_locked(q, va));
	q->kmem.kmap_depth[ctx] = (u8)(depth - 1);
	spin_unlock(&q->lock);
}

/* ---- contents ---- */

void clear_highpages(struct quire *q, struct frame *f, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		void *va = kmap_local_page(q, f + i);

		port_clear_pages(va, 1);
		kunmap_local(q, va);
	}
}

void copy_highpages(struct quire *q, struct frame *to, struct frame *from, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		void *dst = kmap_local_page(q, to + i), *src = kmap_local_page(q, from + i);

		port_copy_pages(dst, src, 1);
		kunmap_local(q, src);
		kunmap_local(q, dst);
	}
}

/* ---- boot ---- */

/* A table for every 2 MiB of [start, end), so that mapping there can never fail. */
static bool make_tables(struct quire *q, u64 start, u64 end)
{
	struct pgtable pt = kernel_pgtable(q);
	bool ok = true;
	u64 addr;

	spin_lock(&q->lock);
	for (addr = start; ok && addr < end; addr += PMD_SIZE)
		ok = pgtable_alloc(&pt, kernel_offset(addr), PT_LAST_LEVEL) != NULL;
	spin_unlock(&q->lock);
	return ok;
}

int highmem_init(struct quire *q)
{
	if (q->caps & PORT_CAP_DIRECT_MAP)
		return 0;
	q->kmem.pkmap = kcalloc(q, LAST_PKMAP, sizeof(*q->kmem.pkmap), GFP_KERNEL);
	if (!q->kmem.pkmap || !make_tables(q, PKMAP_BASE, pkmap_addr(LAST_PKMAP)) ||
	    !make_tables(q, FIXADDR_START, fix_to_virt(FIX_SLOTS + KM_MAX_CONTEXTS * KM_MAX_IDX)))
		return -ENOMEM;
	q->hooks.clear_highpages = clear_highpages;
	return 0;
}
