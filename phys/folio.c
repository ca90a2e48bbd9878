/*
 * Blocks by other names: folios with reference counts, kernel addresses, exact sizes, single frames cut from a block.
 *
 * A folio's frames go back when its last reference is put.  Its count is protected by q->lock once others can see the
 * folio; until then by nobody.
 */
#include "phys.h"

struct folio *folio_alloc(struct quire *q, gfp_t gfp, unsigned order)
{
	return (struct folio *)alloc_pages_caller(q, gfp, order, __builtin_return_address(0));
}

void folio_get(struct folio *folio, u32 n)
{
	BUG_ON(!type_in_use(folio->f.type) || !folio->f.refcount);
	folio->f.refcount += n;
}

void folio_put(struct quire *q, struct folio *folio, u32 n)
{
	struct frame *f = &folio->f;

	if (unlikely(!type_in_use(f->type)))
		bad_free(q, f, f->order, __builtin_return_address(0));
	if (unlikely(f->refcount < n))
		bad_page(q, f, __builtin_return_address(0), "more references put than taken");
	f->refcount -= n;
	if (f->refcount)
		return;
	if (f->flags & FF_LRU) {
		spin_lock(&q->lock);
		if (q->hooks.lru_del)
			q->hooks.lru_del(q, folio);
		f->flags &= (u16)~FF_LRU;
		spin_unlock(&q->lock);
	}
	free_pages_caller(q, f, f->order, __builtin_return_address(0));
}

/* Turns the first `used` frames of a block into single ones and the rest into the largest aligned blocks. */
static void split_block(struct quire *q, struct frame *f, unsigned order, u32 used)
{
	u32 i, size = 1u << order;
	u8 type = f->type;
	u16 flags = f->flags;

	for (i = 0; i < used; i++) {
		frame_set_head(f + i, type, 0, flags, 1);
		frame_set_counts(f + i, 0, 0);
	}
	while (i < size) {
		unsigned o = (unsigned)__builtin_ctz(i);

		frame_set_head(f + i, type, (u8)o, flags, 1);
		frame_set_counts(f + i, 0, 0);
		i += 1u << o;
	}
	if (unlikely(q->phys.debug))
		debug_split(q, f, order);
}

void split_page(struct quire *q, struct frame *f, unsigned order)
{
	BUG_ON(!type_in_use(f->type) || f->order != order);
	split_block(q, f, order, 1u << order);
}

void *__get_free_pages(struct quire *q, gfp_t gfp, unsigned order)
{
	struct frame *f = alloc_pages_caller(q, gfp & ~__GFP_HIGHMEM, order, __builtin_return_address(0));

	return f ? frame_address(q, f) : NULL;
}

void *get_zeroed_page(struct quire *q, gfp_t gfp)
{
	struct frame *f = alloc_pages_caller(q, (gfp & ~__GFP_HIGHMEM) | __GFP_ZERO, 0, __builtin_return_address(0));

	return f ? frame_address(q, f) : NULL;
}

/* A wild address has no frame; say so instead of following NULL. */
static struct frame *address_frame(struct quire *q, void *addr, void *caller)
{
	struct frame *f = PAGE_ALIGNED((uintptr_t)addr) ? virt_to_frame(q, addr) : NULL;

	if (!f)
		bad_address(q, addr, caller);
	return f;
}

void free_pages(struct quire *q, void *addr, unsigned order)
{
	void *caller = __builtin_return_address(0);

	if (addr)
		free_pages_caller(q, address_frame(q, addr, caller), order, caller);
}

static unsigned get_order(size_t size)
{
	unsigned order = 0;

	while (PAGE_SIZE << order < size && order <= MAX_ORDER)
		order++;
	return order;
}

void *alloc_pages_exact(struct quire *q, size_t size, gfp_t gfp)
{
	unsigned order = get_order(size);
	u32 used = (u32)(PAGE_ALIGN(size) >> PAGE_SHIFT), i, next;
	struct frame *f;

	if (!size || order > MAX_ORDER)
		return NULL;
	f = alloc_pages_caller(q, gfp & ~__GFP_HIGHMEM, order, __builtin_return_address(0));
	if (!f)
		return NULL;
	split_block(q, f, order, used);
	for (i = used; i < 1u << order; i = next) {
		next = i + (1u << f[i].order);
		free_pages_caller(q, f + i, f[i].order, __builtin_return_address(0));
	}
	return frame_address(q, f);
}

void free_pages_exact(struct quire *q, void *addr, size_t size)
{
	void *caller = __builtin_return_address(0);
	u32 n = (u32)(PAGE_ALIGN(size) >> PAGE_SHIFT), i;
	struct frame *f;

	if (!addr)
		return;
	f = address_frame(q, addr, caller);
	for (i = 0; i < n; i++)
		free_pages_caller(q, f + i, 0, caller);
}
