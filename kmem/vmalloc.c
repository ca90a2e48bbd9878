/*
 * vmalloc and vmap: ranges of the kernel half, backed by scattered frames.
 *
 *	vmalloc   area reserved -> frames allocated and mapped, batch by batch -> ready
 *	vfree     unmapped -> on the lazy list: addresses and frames stay taken, since a TLB may still hold them
 *	purge     one flush for all lazy areas -> frames and addresses given back, empty tables too
 *	vunmap    unmapped and flushed at once, because the frames are the caller's and may be reused at once
 *
 * An area is [start, end) with one unmapped guard page at its end, so that running over it faults.  Entries of the
 * range tree are disjoint, so two areas never share a page.  A machine maps no more lazy pages than LAZY_FRACTION of
 * memory.
 *
 * Locks: the tree of areas, the tables, the counters: q->lock.  An area that is not `ready` belongs to whoever makes or
 * frees it.  All loops over pages commit in pieces.
 */
#include "vmalloc.h"

#define BATCH 64u
#define LAZY_FRACTION 128u
#define LAZY_MAX_PAGES (32u << 20 >> PAGE_SHIFT)
#define LAZY_MIN_PAGES 32u
/* How often a step that needs a frame inside a transaction makes room outside and tries again. */
#define ROUNDS 16

u64 kernel_pgd(struct quire *q)
{
	return q->kmem.kernel_pgd;
}

struct pgtable kernel_pgtable(struct quire *q)
{
	return (struct pgtable){.q = q, .pgd = &q->kmem.kernel_pgd, .bytes = &q->kmem.kernel_pgtable_bytes};
}

/* Room for a table or a tree node, which are made inside transactions; see make_room() in magazine.c. */
static bool make_room(struct quire *q, gfp_t gfp)
{
	struct frame *f = alloc_page(q, gfp & ~(__GFP_ZERO | __GFP_HIGHMEM | __GFP_MOVABLE));

	if (f)
		__free_pages(q, f, 0);
	return f != NULL;
}

/* ---- areas ---- */

static int area_insert(struct quire *q, struct vmap_area *a, u64 bytes)
{
	int err = -ENOSPC;
	u64 start;

	spin_lock(&q->lock);
	start = range_tree_gap_bottom_up(&q->kmem.vmap, VMALLOC_START, VMALLOC_END, bytes, PAGE_SIZE, NULL);
	if (start != ~0ull) {
		a->node.start = start;
		a->node.end = start + bytes;
		err = range_tree_insert(q, &q->kmem.vmap, &a->node);
	}
	spin_unlock(&q->lock);
	return err;
}

/* The area is in the tree from here on, not `ready`: its addresses are taken, and nobody can free it yet. */
static struct vmap_area *area_new(struct quire *q, u64 bytes, enum vmap_kind kind, gfp_t gfp, u64 caller)
{
	struct vmap_area *a;
	unsigned round;
	int err = -ENOMEM;

	if (port_should_fail(q, FAIL_VMALLOC))
		return NULL;
	a = kmem_cache_zalloc(q, q->kmem.area_cache, gfp & ~__GFP_HIGHMEM);
	if (!a)
		return NULL;
	a->kind = kind;
	a->caller = caller;
	for (round = 0; err && round < 2; round++) {
		err = area_insert(q, a, bytes + PAGE_SIZE);
		/* Either the addresses or memory for the tree are short; a purge helps with both. */
		if (err)
			vm_unmap_aliases(q);
		if (err == -ENOMEM && !make_room(q, gfp))
			break;
	}
	if (!err)
		return a;
	kmem_cache_free(q, q->kmem.area_cache, a);
	return NULL;
}

static u64 area_bytes(const struct vmap_area *a)
{
	return a->node.end - a->node.start - PAGE_SIZE;
}

/* The area that starts at addr, no longer ready: the caller is going to take it down.  NULL if there is none. */
static struct vmap_area *area_claim(struct quire *q, const void *addr, enum vmap_kind kind)
{
	struct range_node *n;
	struct vmap_area *a;

	spin_lock(&q->lock);
	n = range_tree_find(&q->kmem.vmap, (u64)(uintptr_t)addr);
	a = n ? container_of(n, struct vmap_area, node) : NULL;
	if (!a || n->start != (u64)(uintptr_t)addr || a->kind != kind || !a->ready)
		a = NULL;
	else
		a->ready = false;
	spin_unlock(&q->lock);
	return a;
}

static void area_set_ready(struct quire *q, struct vmap_area *a)
{
	spin_lock(&q->lock);
	a->ready = true;
	if (a->kind == VMAP_ALLOC)
		q->kmem.nr_vmalloc_pages += a->nr_pages;
	spin_unlock(&q->lock);
}

/* ---- mapping ---- */

/* The slot for addr: the one behind prev if that lies in the same table, else by a walk.  NULL: no memory for a table.
 * */
static pte_t *next_slot(const struct pgtable *pt, pte_t *prev, u64 addr)
{
	return prev && addr % PMD_SIZE ? prev + 1 : pgtable_alloc(pt, addr, PT_LAST_LEVEL);
}

/* Maps up to n frames behind those the area has; returns how many.  Fewer: no memory for a table, or the transaction
 * ended. */
static unsigned map_some(struct quire *q, struct vmap_area *a, struct frame **frames, unsigned n, u64 prot)
{
	u64 addr = kernel_offset(a->node.start) + (u64)a->nr_pages * PAGE_SIZE;
	struct pgtable pt = kernel_pgtable(q);
	pte_t *slot = NULL;
	unsigned i;

	spin_lock(&q->lock);
	for (i = 0; i < n && (i == 0 || !txn_should_break()); i++, addr += PAGE_SIZE) {
		slot = next_slot(&pt, slot, addr);
		if (!slot)
			break;
		pgtable_set(q, slot, pfn_pte(frame_to_pfn(q, frames[i]), prot));
		if (a->kind == VMAP_ALLOC) {
			frames[i]->type = FRAME_VMALLOC;
			frame_list_add_tail(q, &a->frames, frames[i]);
		}
	}
	a->nr_pages += i;
	spin_unlock(&q->lock);
	return i;
}

static bool map_all(struct quire *q, struct vmap_area *a, struct frame **frames, unsigned n, u64 prot, gfp_t gfp,
		    unsigned *mapped)
{
	unsigned rounds = 0;

	*mapped = 0;
	while (*mapped < n) {
		unsigned got = map_some(q, a, frames + *mapped, MIN(n - *mapped, 512u), prot);

		*mapped += got;
		rounds = got ? 0 : rounds + 1;
		if (!got && (rounds > ROUNDS || !make_room(q, gfp)))
			return false;
	}
	return true;
}

static bool fill_area(struct quire *q, struct vmap_area *a, u64 pages, gfp_t gfp)
{
	struct frame *batch[BATCH];
	unsigned n, mapped;

	while (a->nr_pages < pages) {
		n = alloc_pages_bulk(q, gfp, (unsigned)MIN(pages - a->nr_pages, BATCH), batch);
		if (!n)
			return false;
		if (!map_all(q, a, batch, n, PAGE_KERNEL_PROT, gfp, &mapped)) {
			free_pages_bulk(q, n - mapped, batch + mapped);
			return false;
		}
	}
	return true;
}

/* Entries only; what an MMU remembers is the business of whoever reuses frames or addresses. */
static void unmap_area(struct quire *q, struct vmap_area *a)
{
	bool more;

	do {
		struct pt_iter it;

		more = false;
		spin_lock(&q->lock);
		pt_iter_init(&it, q, q->kmem.kernel_pgd, kernel_offset(a->node.start), kernel_offset(a->node.end));
		while (pt_iter_next(&it)) {
			pgtable_set(q, it.slot, __pte(0));
			more = txn_should_break();
			if (more)
				break;
		}
		spin_unlock(&q->lock);
	} while (more);
}

/* ---- purge ---- */

/* Tables that became empty leave the tree now and are freed after the flush: an MMU may have cached the way to them. */
static void take_empty_tables(struct quire *q, u64 start, u64 end, struct frame_list *tables)
{
	struct pgtable pt = kernel_pgtable(q);
	u64 cursor = kernel_offset(start);
	struct frame *f;

	do {
		spin_lock(&q->lock);
		do {
			f = pgtable_take_empty(&pt, &cursor, kernel_offset(end));
			if (f)
				frame_list_add(q, tables, f);
		} while (f && !txn_should_break());
		spin_unlock(&q->lock);
	} while (f);
}

/* Frees the frames on a list that is nobody else's; their links are still under q->lock.  Returns how many. */
static u64 free_list(struct quire *q, struct frame_list *l)
{
	struct frame *batch[BATCH];
	u64 total = 0;
	unsigned n;

	do {
		spin_lock(&q->lock);
		for (n = 0; n < BATCH && (batch[n] = frame_list_pop(q, l)); n++)
			batch[n]->type = FRAME_KERNEL;
		spin_unlock(&q->lock);
		free_pages_bulk(q, n, batch);
		total += n;
	} while (n);
	return total;
}

static u64 area_release(struct quire *q, struct vmap_area *a)
{
	u64 freed = free_list(q, &a->frames);

	spin_lock(&q->lock);
	range_tree_erase(q, &q->kmem.vmap, &a->node);
	spin_unlock(&q->lock);
	kmem_cache_free(q, q->kmem.area_cache, a);
	return freed;
}

u64 vm_unmap_aliases(struct quire *q)
{
	struct frame_list tables = {0};
	struct vmap_area *list, *a;
	u64 start = ~0ull, end = 0, freed = 0;

	if (in_transaction())
		return 0;
	spin_lock(&q->lock);
	list = q->kmem.lazy;
	q->kmem.lazy = NULL;
	q->kmem.nr_lazy_pages = 0;
	spin_unlock(&q->lock);
	if (!list)
		return 0;
	for (a = list; a; a = a->next_lazy) {
		start = MIN(start, a->node.start);
		end = MAX(end, a->node.end);
	}
	take_empty_tables(q, start, end, &tables);
	port_kernel_flush(q, start, end);
	freed = free_list(q, &tables);
	while ((a = list)) {
		list = a->next_lazy;
		freed += area_release(q, a);
	}
	return freed;
}

/* Lazy frames are lost to everybody else: at most a 128th of memory, and never so few that each vfree flushes. */
static u64 lazy_limit(struct quire *q)
{
	return MAX(MIN(totalram_pages(q) / LAZY_FRACTION, LAZY_MAX_PAGES), LAZY_MIN_PAGES);
}

/* Unmapped; addresses and frames wait for the next purge. */
static void area_make_lazy(struct quire *q, struct vmap_area *a)
{
	bool purge;

	spin_lock(&q->lock);
	a->dead = true;
	a->next_lazy = q->kmem.lazy;
	q->kmem.lazy = a;
	q->kmem.nr_lazy_pages += a->nr_pages;
	purge = q->kmem.nr_lazy_pages > lazy_limit(q);
	spin_unlock(&q->lock);
	if (purge)
		vm_unmap_aliases(q);
}

/* ---- the public face ---- */

static void *vmalloc_failed(struct quire *q, size_t size, gfp_t gfp, const char *why, u64 caller)
{
	if (!(gfp & __GFP_NOWARN))
		quire_log(q, 4, "vmalloc error: size %lu, %s; caller 0x%lx", (unsigned long)size, why,
			  (unsigned long)caller);
	return NULL;
}

static void *vmalloc_caller(struct quire *q, size_t size, gfp_t gfp, u64 caller)
{
	u64 pages = PAGE_ALIGN(size) >> PAGE_SHIFT;
	struct vmap_area *a;

	if (!size || size > KMEM_VMALLOC_MAX || pages > totalram_pages(q))
		return vmalloc_failed(q, size, gfp, "exceeds total pages", caller);
	a = area_new(q, pages << PAGE_SHIFT, VMAP_ALLOC, gfp, caller);
	if (!a)
		return vmalloc_failed(q, size, gfp, "vm_struct allocation failed", caller);
	if (!fill_area(q, a, pages, gfp | __GFP_HIGHMEM | __GFP_NOWARN)) {
		unmap_area(q, a);
		area_make_lazy(q, a);
		vm_unmap_aliases(q);
		return vmalloc_failed(q, size, gfp, "page order 0, failed to allocate pages", caller);
	}
	area_set_ready(q, a);
	return (void *)(uintptr_t)a->node.start;
}

void *__vmalloc(struct quire *q, size_t size, gfp_t gfp)
{
	return vmalloc_caller(q, size, gfp, CALLER);
}

void *vmalloc(struct quire *q, size_t size)
{
	return vmalloc_caller(q, size, GFP_KERNEL, CALLER);
}

void *vzalloc(struct quire *q, size_t size)
{
	return vmalloc_caller(q, size, GFP_KERNEL | __GFP_ZERO, CALLER);
}

static void __attribute__((noreturn, cold)) bad_vfree(struct quire *q, const void *addr, const char *what, u64 caller)
{
	quire_log(q, 3, "%s 0x%lx: caller 0x%lx", what, (unsigned long)(uintptr_t)addr, (unsigned long)caller);
	quire_bug(__FILE__, __LINE__, what);
}

void vfree(struct quire *q, const void *addr)
{
	struct vmap_area *a;

	if (!addr)
		return;
	a = area_claim(q, addr, VMAP_ALLOC);
	if (!a)
		bad_vfree(q, addr, "Trying to vfree() nonexistent vm area", CALLER);
	spin_lock(&q->lock);
	q->kmem.nr_vmalloc_pages -= a->nr_pages;
	spin_unlock(&q->lock);
	unmap_area(q, a);
	area_make_lazy(q, a);
}

void *vmap(struct quire *q, struct frame **frames, unsigned count, u64 prot)
{
	struct vmap_area *a;
	unsigned mapped;

	if (!count || count > totalram_pages(q))
		return NULL;
	a = area_new(q, (u64)count << PAGE_SHIFT, VMAP_MAP, GFP_KERNEL, CALLER);
	if (!a)
		return NULL;
	if (!map_all(q, a, frames, count, prot, GFP_KERNEL, &mapped)) {
		unmap_area(q, a);
		port_kernel_flush(q, a->node.start, a->node.end);
		area_release(q, a);
		return NULL;
	}
	area_set_ready(q, a);
	return (void *)(uintptr_t)a->node.start;
}

void vunmap(struct quire *q, const void *addr)
{
	struct frame_list tables = {0};
	struct vmap_area *a;

	if (!addr)
		return;
	a = area_claim(q, addr, VMAP_MAP);
	if (!a)
		bad_vfree(q, addr, "Trying to vunmap() nonexistent vm area", CALLER);
	unmap_area(q, a);
	take_empty_tables(q, a->node.start, a->node.end, &tables);
	port_kernel_flush(q, a->node.start, a->node.end);
	free_list(q, &tables);
	area_release(q, a);
}

struct frame *vmalloc_to_page(struct quire *q, const void *addr)
{
	struct frame *f = NULL;
	pte_t *slot;

	spin_lock(&q->lock);
	slot = pgtable_pte(q, q->kmem.kernel_pgd, kernel_offset((u64)(uintptr_t)addr));
	if (slot && pte_valid(pte_read(slot)))
		f = pfn_to_frame(q, pte_pfn(pte_read(slot)));
	spin_unlock(&q->lock);
	return f;
}

/* For more than a page no effort is made to find contiguous frames, as in Linux's kvmalloc_node(). */
void *kvmalloc(struct quire *q, size_t size, gfp_t gfp)
{
	void *p = kmalloc(q, size, size > PAGE_SIZE ? gfp | __GFP_NOWARN | __GFP_NORETRY : gfp);

	return p || size <= PAGE_SIZE ? p : vmalloc_caller(q, size, gfp, CALLER);
}

void kvfree(struct quire *q, const void *p)
{
	if (is_vmalloc_addr(p))
		vfree(q, p);
	else
		kfree(q, p);
}

/* ---- validity ---- */

static u64 mapped_pages(struct quire *q, u64 start, u64 end)
{
	struct pt_iter it;
	u64 n = 0;

	pt_iter_init(&it, q, q->kmem.kernel_pgd, kernel_offset(start), kernel_offset(end));
	while (pt_iter_next(&it))
		n++;
	return n;
}

static bool area_is_valid(struct quire *q, const struct vmap_area *a)
{
	u64 want = a->dead ? 0 : a->nr_pages, have = mapped_pages(q, a->node.start, a->node.end);

	if (!a->ready && !a->dead)
		return true;
	if (have == want && (a->dead || want == area_bytes(a) >> PAGE_SHIFT) &&
	    (a->kind == VMAP_MAP || a->frames.count == a->nr_pages))
		return true;
	quire_log(q, 3, "vmalloc: area 0x%lx maps %lu pages, should %lu; %lu frames", (unsigned long)a->node.start,
		  (unsigned long)have, (unsigned long)want, (unsigned long)a->frames.count);
	return false;
}

bool vmalloc_is_valid(struct quire *q)
{
	struct pgtable pt = kernel_pgtable(q);
	struct range_node *n;
	u64 pages = 0, mapped = 0;
	bool ok;

	spin_lock(&q->lock);
	ok = range_tree_is_valid(&q->kmem.vmap) && pgtable_is_valid(&pt, true);
	for (n = range_tree_first(&q->kmem.vmap); ok && n; n = range_tree_next(&q->kmem.vmap, n)) {
		struct vmap_area *a = container_of(n, struct vmap_area, node);

		ok = area_is_valid(q, a);
		pages += a->ready && a->kind == VMAP_ALLOC ? a->nr_pages : 0;
		mapped += a->dead ? 0 : a->nr_pages;
	}
	if (ok && (pages != q->kmem.nr_vmalloc_pages || mapped != mapped_pages(q, VMALLOC_START, VMALLOC_END))) {
		quire_log(q, 3, "vmalloc: %lu pages counted, %lu in areas", (unsigned long)q->kmem.nr_vmalloc_pages,
			  (unsigned long)pages);
		ok = false;
	}
	spin_unlock(&q->lock);
	return ok;
}
