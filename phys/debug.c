/*
 * Debugging: poison, owners, and the reports for what must never happen.
 *
 * Poison (cfg.debug_poison).  A freed block is filled with 0xaa and carries FF_POISONED; when it is allocated again
 * every byte is checked.  Virgin frames are known to be zero (FF_ZEROED) and are checked for that.  A block merged of
 * one kind and the other gets its zeroed part poisoned, so that no free byte escapes the check.  HighMem frames have
 * no address here: they are neither filled nor checked.
 *
 * Owners (cfg.debug_owner).  sites[] is an open hash of return addresses with counts, owners[] remembers for
 * each frame who allocated and who freed it last.  A full table counts everybody else under entry 0.
 *
 * Poisoning is an unlogged write: on a port whose contexts may die in a transaction, a free that is rolled back
 * would give the poison to the living owner.  So these options are for machines that nobody kills.
 *
 * Locks: q->lock for the owner tables; a block's bytes belong to whoever allocates or frees it.
 */
#include "phys.h"
#include <fmt.h>

#define PAGE_POISON 0xaau
#define POISON_WORD 0xaaaaaaaaaaaaaaaaull

/* ---- who ---- */

/* The entry of a call site, made if need be.  0 if the table is full.  q->lock held. */
static u16 site_index(struct quire *q, void *caller)
{
	u64 ip = (u64)(uintptr_t)caller;
	u32 i, h = (u32)((ip * 0x9e3779b97f4a7c15ull) >> 40);

	for (i = 0; i < PHYS_MAX_SITES; i++) {
		u32 k = (h + i) % PHYS_MAX_SITES;
		struct phys_site *s = &q->phys.sites[k];

		if (!k)
			continue;
		if (!s->ip)
			s->ip = ip;
		if (s->ip == ip)
			return (u16)k;
	}
	return 0;
}

static void owner_alloc(struct quire *q, const struct frame *f, unsigned order, void *caller)
{
	struct phys_site *s;
	u16 k;

	spin_lock(&q->lock);
	k = site_index(q, caller);
	s = &q->phys.sites[k];
	s->allocs++;
	s->live_blocks++;
	s->live_pages += 1u << order;
	q->phys.owners[frame_to_pfn(q, f)].alloc_site = k;
	spin_unlock(&q->lock);
}

static void owner_free(struct quire *q, const struct frame *f, unsigned order, void *caller)
{
	struct phys_owner *o = &q->phys.owners[frame_to_pfn(q, f)];
	struct phys_site *s;

	spin_lock(&q->lock);
	s = &q->phys.sites[o->alloc_site];
	s->live_blocks--;
	s->live_pages -= 1u << order;
	o->free_site = site_index(q, caller);
	spin_unlock(&q->lock);
}

/* A block fell into pieces: each has the owner that the whole had. */
void debug_split(struct quire *q, struct frame *f, unsigned order)
{
	struct phys_owner *o = q->phys.owners + frame_to_pfn(q, f);
	u32 i, pieces = 0;

	if (!q->cfg.debug_owner)
		return;
	spin_lock(&q->lock);
	for (i = 0; i < 1u << order; i += 1u << f[i].order) {
		o[i].alloc_site = o->alloc_site;
		pieces++;
	}
	q->phys.sites[o->alloc_site].live_blocks += pieces - 1;
	spin_unlock(&q->lock);
}

/* The site with most live pages among those with fewer than `below` (ties: lower address first). */
static const struct phys_site *next_site(struct quire *q, const struct phys_site *prev)
{
	const struct phys_site *best = NULL;
	u32 i;

	for (i = 0; i < PHYS_MAX_SITES; i++) {
		const struct phys_site *s = &q->phys.sites[i];

		if (!s->allocs)
			continue;
		if (prev &&
		    (s->live_pages > prev->live_pages || (s->live_pages == prev->live_pages && s->ip <= prev->ip)))
			continue;
		if (!best || s->live_pages > best->live_pages ||
		    (s->live_pages == best->live_pages && s->ip < best->ip))
			best = s;
	}
	return best;
}

void phys_show_owners(struct quire *q, struct fmt_buf *out)
{
	const struct phys_site *s = NULL;

	if (!q->cfg.debug_owner)
		return;
	fmt_printf(out, "%10s %10s %10s  %s\n", "pages", "blocks", "allocs", "caller");
	spin_lock(&q->lock);
	while ((s = next_site(q, s)))
		fmt_printf(out, "%10lu %10lu %10lu  %#lx\n", (unsigned long)s->live_pages,
			   (unsigned long)s->live_blocks, (unsigned long)s->allocs, (unsigned long)s->ip);
	spin_unlock(&q->lock);
}

bool phys_owner_is_valid(struct quire *q)
{
	u64 pages = 0, used = 0;
	unsigned i;

	for (i = 0; i < PHYS_MAX_SITES; i++)
		pages += q->phys.sites[i].live_pages;
	for (i = 0; i < MAX_NR_ZONES; i++)
		used += q->phys.zones[i].managed;
	return pages == used - nr_free_pages(q);
}

/* ---- reports.  The panic line itself names frame and caller; details go to the log before it ---- */

static u64 last_freer(struct quire *q, pfn_t pfn)
{
	return q->cfg.debug_owner ? q->phys.sites[q->phys.owners[pfn].free_site].ip : 0;
}

static void dump_page(struct quire *q, const struct frame *f, const char *why)
{
	static const char *const names[] = {"virgin",  "free", "pcp",  "tail",  "kernel",  "slab",
					    "pgtable", "anon", "file", "shmem", "vmalloc", "reserved"};
	pfn_t pfn = frame_to_pfn(q, f);

	quire_log(q, 1, "page: refcount:%u mapcount:%u mapping:%#lx index:%#lx pfn:%#x", f->refcount, f->mapcount,
		  (unsigned long)f->mapping, (unsigned long)f->index, pfn);
	quire_log(q, 1, "type:%s order:%u flags:%#x private:%#lx head_off:%u",
		  f->type < ARRAY_SIZE(names) ? names[f->type] : "?", f->order, f->flags, (unsigned long)f->private,
		  f->head_off);
	quire_log(q, 1, "page dumped because: %s", why);
	if (q->cfg.debug_owner)
		quire_log(q, 1, "page last allocated via %#lx, last freed via %#lx",
			  (unsigned long)q->phys.sites[q->phys.owners[pfn].alloc_site].ip,
			  (unsigned long)last_freer(q, pfn));
}

void bad_page(struct quire *q, const struct frame *f, void *caller, const char *why)
{
	char text[160];
	struct fmt_buf b = fmt_init(text, sizeof(text));

	dump_page(q, f, why);
	fmt_printf(&b, "Bad page state pfn:%#x order:%u: %s (caller %p)", frame_to_pfn(q, f), f->order, why, caller);
	quire_bug(__FILE__, __LINE__, text);
}

void bad_address(struct quire *q, const void *addr, void *caller)
{
	char text[160];
	struct fmt_buf b = fmt_init(text, sizeof(text));

	fmt_printf(&b, "Bad address %p: not the start of a page of low memory (caller %p)", addr, caller);
	quire_bug(__FILE__, __LINE__, text);
	(void)q;
}

/* No head: inside a block in use, or inside one that is free? */
static const char *tail_problem(struct quire *q, const struct frame *f)
{
	const struct frame *head = &pfn_folio(q, frame_to_pfn(q, f))->f;

	if (type_in_use(head->type))
		return "free of the middle of a block";
	if (f->type == FRAME_VIRGIN && head == f)
		return "free of a frame that was never allocated";
	return "double free: it is inside a free block";
}

static const char *free_problem(struct quire *q, const struct frame *f, unsigned order)
{
	switch (f->type) {
	case FRAME_FREE:
	case FRAME_PCP: return "double free";
	case FRAME_VIRGIN:
	case FRAME_TAIL: return tail_problem(q, f);
	case FRAME_RESERVED: return "free of a reserved frame";
	}
	if (f->order != order)
		return "freed with another order than it was allocated with";
	if (f->flags & FF_LRU)
		return "freed while on an LRU list";
	if (f->flags & FF_WRITEBACK)
		return "freed while under writeback";
	return f->mapcount ? "freed while mapped" : "nonsensical frame type";
}

void bad_free(struct quire *q, struct frame *f, unsigned order, void *caller)
{
	u64 off = (u64)((char *)f - (char *)q->cfg.mem_map);
	char text[160];
	struct fmt_buf b = fmt_init(text, sizeof(text));
	const char *why;

	if (off / sizeof(*f) >= q->phys.nr_frames || off % sizeof(*f)) {
		fmt_printf(&b, "Bad free of %p: no frame record (caller %p)", (void *)f, caller);
		quire_bug(__FILE__, __LINE__, text);
	}
	why = free_problem(q, f, order);
	dump_page(q, f, why);
	fmt_printf(&b, "Bad free of pfn:%#x order:%u: %s (caller %p)", frame_to_pfn(q, f), order, why, caller);
	quire_bug(__FILE__, __LINE__, text);
}

/* ---- poison ---- */

static void corruption(struct quire *q, const struct frame *f, const u8 *page, u32 at, void *caller, bool poisoned)
{
	u8 bits = page[at] ^ (poisoned ? PAGE_POISON : 0);
	char text[160];
	struct fmt_buf b = fmt_init(text, sizeof(text));
	u32 from = at & ~15u, i;

	quire_log(q, 1, "pagealloc: %s", (bits & (bits - 1)) ? "memory corruption" : "single bit error");
	for (i = 0; i < 16; i++)
		fmt_printf(&b, " %02x", page[from + i]);
	quire_log(q, 1, "%08x:%s", from, text);
	dump_page(q, f, "pagealloc: corrupted page details");
	b = fmt_init(text, sizeof(text));
	fmt_printf(&b, "Write after free: pfn:%#x byte %u is %#x (last freed via %#lx, found for caller %p)",
		   frame_to_pfn(q, f), at, page[at], (unsigned long)last_freer(q, frame_to_pfn(q, f)), caller);
	quire_bug(__FILE__, __LINE__, text);
}

static void check_pattern(struct quire *q, struct frame *f, bool poisoned, void *caller)
{
	const u64 *w = frame_address(q, f), expect = poisoned ? POISON_WORD : 0;
	u32 i, at;

	for (i = 0; i < PAGE_SIZE / sizeof(*w); i++) {
		if (likely(w[i] == expect))
			continue;
		at = i * sizeof(*w);
		while (((const u8 *)w)[at] == (u8)expect)
			at++;
		corruption(q, f, (const u8 *)w, at, caller, poisoned);
	}
}

static void fill_poison(struct quire *q, struct frame *f, unsigned order)
{
	memset(frame_address(q, f), PAGE_POISON, PAGE_SIZE << order);
}

void debug_alloc(struct quire *q, struct frame *f, unsigned order, u16 flags, void *caller)
{
	u32 i;

	if (q->cfg.debug_poison && flags && frame_address(q, f))
		for (i = 0; i < 1u << order; i++)
			check_pattern(q, f + i, flags & FF_POISONED, caller);
	if (q->cfg.debug_owner)
		owner_alloc(q, f, order, caller);
}

u16 debug_free(struct quire *q, struct frame *f, unsigned order, u16 flags, void *caller)
{
	u32 i;

	if (q->cfg.debug_owner)
		owner_free(q, f, order, caller);
	if (!q->cfg.debug_poison || !frame_address(q, f))
		return flags;
	/* The owner says that it is all zero: hold him to it. */
	if (flags & FF_ZEROED)
		for (i = 0; i < 1u << order; i++)
			check_pattern(q, f + i, false, caller);
	fill_poison(q, f, order);
	return FF_POISONED;
}

u16 merge_flags(struct quire *q, pfn_t a, u16 aflags, pfn_t b, u16 bflags, unsigned order)
{
	struct frame *map = q->cfg.mem_map;

	if (likely(!((aflags | bflags) & FF_POISONED)))
		return aflags & bflags & FF_ZEROED;
	/* Poison is only in low memory; what is not poisoned there is virgin. */
	if (!(aflags & FF_POISONED))
		fill_poison(q, map + a, order);
	if (!(bflags & FF_POISONED))
		fill_poison(q, map + b, order);
	return FF_POISONED;
}
