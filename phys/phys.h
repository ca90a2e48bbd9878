/*
 * Inside phys/: what its files share, in sections by owning file.
 *
 * The life of a block, with the lock each step needs:
 *
 *      virgin region --(q->lock: take_virgin)--> FREE lists --(q->lock: rmqueue)--> PCP list (slot lock)
 *            ^ boot only                            ^                                  |        ^
 *                                                   |                              pop |        | push
 *                                                   +---(q->lock: free_one_page)---  in use (the owner's)
 *
 * Record invariants outside the owner's hands:
 *   - FREE head: flags in {FF_ZEROED, FF_POISONED} or none, refcount 0, head_off = the list's migrate type,
 *     mapcount, mapping, index, private 0.
 *   - PCP head: the same, but head_off 0 and prev 0.
 *   - No head of a block, free or in use: VIRGIN (never touched) or FRAME_TAIL, perhaps stale.  Handing a block out does not
 *     write its tails: that would cost a cache line for each (and, hosted, two entries of the log).  A stale tail never lies
 *     about a block in use: head_off points to the head of a block that once held both, and if that head is
 *     in use again with an order that covers the tail, then the tail is its tail.  Else pfn_folio() searches.  Who looks heads up
 *     often (slabs) writes the tails once: set_tails().
 */
#ifndef PHYS_PHYS_H
#define PHYS_PHYS_H
#include <quire/machine.h>

/* Reads that race with plain stores by design; TSan is told so, nobody else pays. */
#if defined(__SANITIZE_THREAD__)
#define RACY __attribute__((no_sanitize("thread"), noinline, unused))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACY __attribute__((no_sanitize("thread"), noinline, unused))
#endif
#endif
#ifndef RACY
#define RACY inline
#endif

/* Types whose frames belong to somebody. */
#define IN_USE_TYPES                                                                                                   \
	((1u << FRAME_KERNEL) | (1u << FRAME_SLAB) | (1u << FRAME_PGTABLE) | (1u << FRAME_ANON) | (1u << FRAME_FILE) | \
	 (1u << FRAME_SHMEM) | (1u << FRAME_VMALLOC))
#define FF_FREE_MASK (FF_ZEROED | FF_POISONED)

/* What an allocation may do; Linux's names (mm/internal.h).  The low two bits are the watermark. */
#define ALLOC_WMARK_MASK 3u
#define ALLOC_NO_WATERMARKS 0x04u
#define ALLOC_NON_BLOCK 0x10u
#define ALLOC_MIN_RESERVE 0x20u
#define ALLOC_NOFRAGMENT 0x100u
#define ALLOC_REFILL 0x200u /* the per-CPU list may be filled on the way */
#define ALLOC_KSWAPD 0x800u

#define PAGE_ALLOC_COSTLY_ORDER 3u
#define MAX_RECLAIM_RETRIES 16u

struct alloc_context {
	gfp_t gfp;
	unsigned order;
	enum migratetype mt;
	unsigned highest; /* enum zone_type: the request's class */
	void *caller;
};

/* ---- the first words of a record, written in one store each (one undo entry) ---- */
static inline void frame_set_head(struct frame *f, u8 type, u8 order, u16 flags, u32 refcount)
{
	*(u64 *)(void *)f = (u64)type | (u64)order << 8 | (u64)flags << 16 | (u64)refcount << 32;
}
static inline void frame_set_counts(struct frame *f, u32 mapcount, u32 head_off)
{
	*(u64 *)(void *)&f->mapcount = (u64)mapcount | (u64)head_off << 32;
}
static inline void frame_set_links(struct frame *f, pfn_t next, pfn_t prev)
{
	*(u64 *)(void *)&f->next = (u64)next | (u64)prev << 32;
}
static inline bool type_in_use(unsigned type)
{
	return (1u << type) & IN_USE_TYPES;
}
/* Owners change the type of their frame without q->lock; FREE is entered and left only under it. */
static RACY u8 frame_type_racy(const struct frame *f)
{
	return READ_ONCE(f->type);
}
static RACY s32 racy_s32(const s32 *p)
{
	return READ_ONCE(*p);
}
static RACY u64 racy_u64(const u64 *p)
{
	return READ_ONCE(*p);
}
static RACY u8 racy_u8(const u8 *p)
{
	return READ_ONCE(*p);
}

/* ---- which zone ---- */
static inline unsigned pfn_zone_idx(const struct quire *q, pfn_t pfn)
{
	const pfn_t *end = q->phys.zone_end;

	return (pfn >= end[0]) + (pfn >= end[1]) + (pfn >= end[2]);
}
static inline struct zone *pfn_zone(struct quire *q, pfn_t pfn)
{
	return &q->phys.zones[pfn_zone_idx(q, pfn)];
}
static inline bool zone_populated(const struct zone *z)
{
	return z->managed != 0;
}

/* ---- lists of frames, inline: frame.c exports the same under public names ---- */
static inline void list_insert(struct frame *map, struct frame_list *l, struct frame *f, pfn_t after)
{
	pfn_t self = (pfn_t)(f - map) + 1, next = after ? map[after - 1].next : l->first;

	frame_set_links(f, next, after);
	if (after)
		map[after - 1].next = self;
	else
		l->first = self;
	if (next)
		map[next - 1].prev = self;
	else
		l->last = self;
	l->count++;
}
static inline void list_remove(struct frame *map, struct frame_list *l, struct frame *f)
{
	pfn_t next = f->next, prev = f->prev;

	if (prev)
		map[prev - 1].next = next;
	else
		l->first = next;
	if (next)
		map[next - 1].prev = prev;
	else
		l->last = prev;
	frame_set_links(f, 0, 0);
	l->count--;
}

/* ---- buddy.c: under q->lock ---- */
/* Gives a block (whose record nobody else looks at) to the free lists, merging.  flags: FF_FREE_MASK bits that hold
 * for every byte.  Boot passes records that are still all zero. */
void free_one_page(struct quire *q, struct zone *z, pfn_t pfn, unsigned order, u16 flags, enum migratetype mt);
/* Smallest block of >= order on mt's lists, cut down to order; MOVABLE also opens the virgin region. */
struct frame *rmqueue_smallest(struct quire *q, struct zone *z, unsigned order, enum migratetype mt);
/* Takes a FREE head off its list; counts blocks, not zone->nr_free. */
void del_from_free_list(struct quire *q, struct zone *z, struct frame *f);
void add_to_free_list(struct quire *q, struct zone *z, struct frame *f, unsigned order, u16 flags, enum migratetype mt,
		      bool tail);
/* Gives the upper parts of a block of order high to mt's lists until 2^low frames are left. */
void expand(struct quire *q, struct zone *z, struct frame *f, unsigned low, unsigned high, u16 flags,
	    enum migratetype mt);
/* The next virgin order-10 block as an unlisted record, or NULL. */
struct frame *take_virgin(struct quire *q, struct zone *z);
static inline u64 virgin_blocks(const struct zone *z)
{
	return (z->virgin_end - z->virgin_next) >> MAX_ORDER;
}
/* Free blocks of order as buddyinfo counts them. */
static inline u64 zone_free_blocks(const struct zone *z, unsigned order)
{
	return z->free_area[order].nr_free + (order == MAX_ORDER ? virgin_blocks(z) : 0);
}
/* ---- migratetype.c: under q->lock except where noted ---- */
/* Any context: may be stale by one conversion. */
static inline enum migratetype pageblock_migratetype(struct quire *q, pfn_t pfn)
{
	return (enum migratetype)(racy_u8(&q->phys.pageblock_mt[pfn >> PAGEBLOCK_ORDER]) ^ MIGRATE_MOVABLE);
}
void set_pageblock_migratetype(struct quire *q, pfn_t pfn, enum migratetype mt);
/* A block of exactly order for mt, by Linux's rules of fallback; NULL if the zone has none.  The caller counts
 * zone->nr_free down. */
struct frame *rmqueue(struct quire *q, struct zone *z, unsigned order, enum migratetype mt, u32 alloc_flags);

/* ---- pcp.c ---- */
/* Which of the NR_PCP_ORDERS kinds of list holds blocks of order; -1: none. */
static inline int pcp_order_index(unsigned order)
{
	return order <= NR_PCP_ORDERS - 2 ? (int)order : order == PMD_ORDER ? NR_PCP_ORDERS - 1 : -1;
}
static inline unsigned pcp_list_order(unsigned pi)
{
	return pi / MIGRATE_PCPTYPES == NR_PCP_ORDERS - 1 ? PMD_ORDER : pi / MIGRATE_PCPTYPES;
}
/* Slot held: its last user died in the middle of quick.c.  His frame, of which nobody else knows, goes back on its list. */
void slot_repair(struct quire *q, struct phys_cpu *c);
/* Every slot is locked by this, but for quick.c.  ctx: the caller's own. */
static inline bool slot_trylock(struct quire *q, struct ctx *ctx, struct phys_cpu *c)
{
	if (unlikely(!ctx_spin_trylock(ctx, &c->lock)))
		return false;
	if (unlikely(c->in_flight))
		slot_repair(q, c);
	return true;
}
/* The neighbours of a busy slot, one after the other. */
struct phys_cpu *slot_get_other(struct quire *q, struct ctx *ctx, unsigned cpu);
/* The caller's slot or a neighbour's, locked; NULL if all tried were busy.  ctx: the caller's own. */
static inline struct phys_cpu *slot_get(struct quire *q, struct ctx *ctx)
{
	unsigned cpu = port_cpu();
	struct phys_cpu *c = &q->phys.cpus[cpu];

	return likely(slot_trylock(q, ctx, c)) ? c : slot_get_other(q, ctx, cpu);
}
static inline void slot_put(struct ctx *ctx, struct phys_cpu *c)
{
	ctx_spin_unlock(ctx, &c->lock);
}

/* Slot and q->lock held.  How much the lists may hold: nothing while memory is short, for what is freed must show in its zone then.  A list
 * gives to anybody, so what lies there is no reserve, and reclaim, which must live on the reserve, starved beside it. */
void pcp_refresh_sizes(const struct zone *z, struct per_cpu_pages *pcp);
/* Slot and q->lock held: fills list pi of the zone from the buddy lists and takes the first block off again.  NULL if the zone
 * gave nothing. */
struct frame *pcp_refill(struct quire *q, struct phys_cpu *c, unsigned zone, unsigned pi, u32 alloc_flags);
/* Slot held: gives what lies above `high`, and a batch more, back to the buddy lists.  Takes q->lock. */
void pcp_trim(struct quire *q, struct phys_cpu *c, unsigned zone);
u64 pcp_free_pages(struct quire *q, unsigned zone); /* frames on all per-CPU lists; racy */
/* Allocations and frames ever handed out by the zone; racy. */
void zone_alloc_counts(struct quire *q, unsigned zone, u64 *events, u64 *pages);

/* Slot held.  The block keeps type PCP and its flags: see prep_new_page(). */
static inline struct frame *pcp_pop(struct quire *q, struct per_cpu_pages *pcp, unsigned pi, unsigned order)
{
	struct pcp_list *l = &pcp->lists[pi];
	struct frame *f;

	if (!l->first)
		return NULL;
	f = q->cfg.mem_map + (l->first - 1);
	l->first = f->next;
	pcp->count -= 1 << order;
	return f;
}

/* Slot held.  The record becomes that of a PCP head. */
static inline void pcp_push(struct per_cpu_pages *pcp, unsigned pi, struct frame *f, pfn_t pfn, unsigned order,
			    u16 flags)
{
	struct pcp_list *l = &pcp->lists[pi];

	frame_set_head(f, FRAME_PCP, (u8)order, flags, 0);
	frame_set_links(f, l->first, 0);
	l->first = pfn + 1;
	pcp->count += 1 << order;
}

/* The same behind `at`, a block of this list; NULL = in front. */
static inline void pcp_push_after(struct per_cpu_pages *pcp, unsigned pi, struct frame *at, struct frame *f, pfn_t pfn,
				  unsigned order, u16 flags)
{
	if (!at) {
		pcp_push(pcp, pi, f, pfn, order, flags);
		return;
	}
	frame_set_head(f, FRAME_PCP, (u8)order, flags, 0);
	frame_set_links(f, at->next, 0);
	frame_set_links(at, pfn + 1, 0);
	pcp->count += 1 << order;
}

/* ---- page_alloc.c ---- */
/* Is this allocation to fail, because a test wants it so?  To be asked once for each. */
static inline bool fail_page(struct quire *q, gfp_t gfp)
{
	return should_fail(q, FAIL_PAGE) && !(gfp & __GFP_NOFAIL);
}
struct frame *alloc_pages_caller(struct quire *q, gfp_t gfp, unsigned order, void *caller);
/* The same when fail_page() was asked already. */
struct frame *alloc_pages_asked(struct quire *q, gfp_t gfp, unsigned order, void *caller);
void free_pages_caller(struct quire *q, struct frame *f, unsigned order, void *caller);
static inline enum migratetype gfp_migratetype(const struct quire *q, gfp_t gfp)
{
	_Static_assert(__GFP_MOVABLE == 8 && __GFP_RECLAIMABLE == 16, "gfp_type[] is indexed by these bits");
	return (enum migratetype)q->phys.gfp_type[gfp >> 3 & 3];
}
/* Makes a block that left its list the caller's.  Returns what is known about its bytes. */
static inline u16 prep_new_page(struct frame *f, unsigned order)
{
	u16 flags = f->flags & FF_FREE_MASK;

	frame_set_head(f, FRAME_KERNEL, (u8)order, 0, 1);
	if (f->head_off)
		frame_set_counts(f, 0, 0);
	if (f->next)
		frame_set_links(f, 0, 0);
	return flags;
}
/* In this order: a wild pointer must not be followed. */
static inline bool free_is_sane(const struct quire *q, const struct frame *f, u64 pfn, unsigned order)
{
	const u64 mask = 0xff00 | (u64)(FF_LRU | FF_WRITEBACK) << 16;

	/* order and flags in one comparison */
	return likely(pfn < q->phys.nr_frames) && likely(q->cfg.mem_map + pfn == f) && likely(type_in_use(f->type)) &&
	       likely((*(const u64 *)(const void *)f & mask) == (u64)order << 8) && likely(!f->mapcount);
}
/* What free records promise: nothing of the owner is left.  Mostly there is nothing to do. */
static inline void wipe_record(struct frame *f)
{
	if (likely(!(f->head_off | f->mapping | f->index | f->private)))
		return;
	frame_set_counts(f, 0, 0);
	f->mapping = f->index = f->private = 0;
}
/* The per-CPU list where a block belongs: found before the slot is locked. */
static inline unsigned free_list_index(struct quire *q, pfn_t pfn, unsigned order)
{
	return (unsigned)pcp_order_index(order) * MIGRATE_PCPTYPES + pageblock_migratetype(q, pfn);
}

/* ---- watermark.c ---- */
/* A copy of one moment, for those who print.  Takes q->lock. */
void zone_snapshot(struct quire *q, unsigned zone, struct zone *copy);
bool zone_watermark_ok(struct zone *z, unsigned order, u64 mark, unsigned highest, u32 alloc_flags);
void setup_per_zone_wmarks(struct quire *q);
u64 default_min_free_kbytes(struct quire *q);

/* ---- report.c ---- */
void warn_alloc(struct quire *q, const struct alloc_context *ac);

/* ---- debug.c ---- */
void debug_alloc(struct quire *q, struct frame *f, unsigned order, u16 flags, void *caller);
/* Returns the FF_FREE_MASK bits that the freed block now has. */
u16 debug_free(struct quire *q, struct frame *f, unsigned order, u16 flags, void *caller);
/* Flags of a block merged from two; may poison the half that is not. */
u16 merge_flags(struct quire *q, pfn_t a, u16 aflags, pfn_t b, u16 bflags, unsigned order);
void debug_split(struct quire *q, struct frame *f, unsigned order);
/* Names the frame, the caller and what is wrong, then quire_bug(). */
void bad_free(struct quire *q, struct frame *f, unsigned order, void *caller) __attribute__((noreturn, cold));
void bad_page(struct quire *q, const struct frame *f, void *caller, const char *why) __attribute__((noreturn, cold));
void bad_address(struct quire *q, const void *addr, void *caller) __attribute__((noreturn, cold));
bool phys_owner_is_valid(struct quire *q);

#endif
