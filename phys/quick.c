/*
 * Single frames from and to the CPU's list, outside transactions, without the log.
 *
 * Whoever holds a slot and nothing else needs no undo log: a list changes by one store (of `first`), so all that a death
 * could leave behind is one frame half-way between the list and its owner, and a count.  Hence this file is the one
 * part of the allocator that is not instrumented (port/linux/meson.build).  Instead the slot says which frame is on its
 * way, and whoever locks the slot after a death puts that frame back (slot_repair() in pcp.c):
 *
 *	alloc   in_flight = f    first = f->next    count, record    in_flight = 0    unlock
 *	free    in_flight = f    record, link       first = f        count, in_flight = 0    unlock
 *
 * So a frame is lost only with an owner who has it, and nobody has it before in_flight is 0.
 *
 * Invariants, at every instruction: what a list links has whole links; what is on no list is in_flight, or in use.
 * Whatever is not a plain hit (a transaction, an empty list, a full one, debugging, zeroes wanted, a slot to be repaired)
 * goes to page_alloc.c, with nothing changed here.
 *
 * Lock: the slot's, which is all that the caller may hold.
 */
#include "phys.h"

/* Requests that want more than any frame of the usual zone. */
#define NOT_QUICK (__GFP_DMA | __GFP_DMA32 | __GFP_HIGHMEM | __GFP_ZERO | __GFP_TELL_ZERO)

/* The process may die between any two instructions, and its stores reach memory in order (x86-64): so must the compiler's. */
#define then() __atomic_signal_fence(__ATOMIC_SEQ_CST)

static inline bool may_be_quick(const struct quire *q, const struct ctx *ctx)
{
	return likely(!ctx->nheld) && likely(!q->phys.debug);
}

/* The CPU's slot if it is free and in order.  Who gets none asks nobody else: page_alloc.c tries the neighbours. */
static inline struct phys_cpu *quick_slot(struct quire *q, struct ctx *ctx)
{
	struct phys_cpu *c = &q->phys.cpus[port_cpu()];

	if (unlikely(!ctx_spin_trylock(ctx, &c->lock)))
		return NULL;
	if (likely(!c->in_flight))
		return c;
	ctx_spin_unlock(ctx, &c->lock);
	return NULL;
}

static inline struct frame *quick_alloc(struct quire *q, struct ctx *ctx, gfp_t gfp)
{
	unsigned zi = q->phys.first_zone[ZONE_NORMAL];
	struct phys_cpu *c = quick_slot(q, ctx);
	struct per_cpu_pages *pcp;
	struct pcp_list *l;
	struct frame *f = NULL;

	if (unlikely(!c))
		return NULL;
	pcp = &c->pcp[zi];
	l = &pcp->lists[gfp_migratetype(q, gfp)];
	if (likely(l->first)) {
		f = q->cfg.mem_map + (l->first - 1);
		c->in_flight = l->first;
		then();
		l->first = f->next;
		then();
		pcp->count--;
		l->nr_alloc++;
		prep_new_page(f, 0);
		then();
		c->in_flight = 0;
	}
	ctx_spin_unlock(ctx, &c->lock);
	return f;
}

/* False: the list is full, or nothing could be done at all. */
static inline bool quick_free(struct quire *q, struct ctx *ctx, struct frame *f, pfn_t pfn)
{
	unsigned zi = pfn_zone_idx(q, pfn), pi = free_list_index(q, pfn, 0);
	struct phys_cpu *c = quick_slot(q, ctx);
	struct per_cpu_pages *pcp;
	struct pcp_list *l;
	bool room;

	if (unlikely(!c))
		return false;
	pcp = &c->pcp[zi];
	l = &pcp->lists[pi];
	room = pcp->count < pcp->high;
	if (likely(room)) {
		c->in_flight = pfn + 1;
		then();
		wipe_record(f);
		frame_set_head(f, FRAME_PCP, 0, f->flags & FF_ZEROED, 0);
		frame_set_links(f, l->first, 0);
		then();
		l->first = pfn + 1;
		then();
		pcp->count++;
		c->in_flight = 0;
	}
	ctx_spin_unlock(ctx, &c->lock);
	return room;
}

struct frame *alloc_pages(struct quire *q, gfp_t gfp, unsigned order)
{
	struct ctx *ctx = port_ctx();
	struct frame *f = NULL;

	if (unlikely(fail_page(q, gfp)))
		return NULL;
	if (likely(!order) && likely(!(gfp & NOT_QUICK)) && may_be_quick(q, ctx))
		f = quick_alloc(q, ctx, gfp);
	return likely(f) ? f : alloc_pages_asked(q, gfp, order, __builtin_return_address(0));
}

void __free_pages(struct quire *q, struct frame *f, unsigned order)
{
	struct ctx *ctx = port_ctx();
	u64 pfn = (u64)(f - q->cfg.mem_map);

	/* What is not sane is reported by page_alloc.c. */
	if (unlikely(order) || !may_be_quick(q, ctx) || unlikely(!free_is_sane(q, f, pfn, 0)) || !quick_free(q, ctx, f, (pfn_t)pfn))
		free_pages_caller(q, f, order, __builtin_return_address(0));
}
