/*
 * Debug mode of slabs: red zones, poison, owners, and the reports of whatever is found wrong, in the manner of SLUB
 * (Documentation/mm/slab.rst), so that readers of Linux's reports feel at home.
 *
 * The bytes are Linux's (include/linux/poison.h): a free object is 6b..6b a5, its red zones bb; a live one has red
 * zones cc.  A constructed object is never poisoned.
 *
 * Locks: q->lock.
 */
#include "slab.h"

#define POISON_FREE 0x6b
#define POISON_END 0xa5
#define RED_INACTIVE 0xbb
#define RED_ACTIVE 0xcc

enum { TRACK_ALLOC, TRACK_FREE };

static struct track *track_of(struct kmem_cache *c, const void *obj, int which)
{
	return (struct track *)((char *)(uintptr_t)obj + c->track) + which;
}

/* Linux calls the last field pid; here it is the context, the nearest thing that allocators know. */
static void set_track(struct kmem_cache *c, void *obj, int which, u64 caller)
{
	struct track *t;

	if (!c->track)
		return;
	t = track_of(c, obj, which);
	t->caller = caller;
	t->when = port_clock_ns();
	t->cpu = port_cpu();
	t->ctx = port_ctx()->id;
}

static void paint_red(struct kmem_cache *c, void *obj, u8 colour)
{
	if (!(c->flags & SLAB_RED_ZONE))
		return;
	memset((char *)obj - c->left, colour, c->left);
	memset((char *)obj + c->object_size, colour, c->inuse_end - c->object_size);
}

/* The last byte differs, so that running over the end of a neighbour filled with the same pattern shows, too. */
static void paint_poison(struct kmem_cache *c, void *obj)
{
	if (!(c->flags & SLAB_POISON))
		return;
	memset(obj, POISON_FREE, c->object_size - 1);
	((u8 *)obj)[c->object_size - 1] = POISON_END;
}

void debug_fresh_object(struct kmem_cache *c, void *obj)
{
	paint_red(c, obj, RED_INACTIVE);
	paint_poison(c, obj);
	if (c->track)
		memset(track_of(c, obj, TRACK_ALLOC), 0, 2 * sizeof(struct track));
}

/* ---- reports ---- */

static void report_track(struct quire *q, struct kmem_cache *c, const void *obj, int which, const char *verb)
{
	const struct track *t;

	if (!c->track)
		return;
	t = track_of(c, obj, which);
	if (t->caller)
		quire_log(q, 3, "%s in 0x%lx age=%lu cpu=%u pid=%u", verb, (unsigned long)t->caller,
			  (unsigned long)(port_clock_ns() - t->when) / 1000000, t->cpu, t->ctx);
}

static void report_bytes(struct quire *q, const char *what, const u8 *p, u32 n)
{
	char text[128];
	u32 i, j;

	for (i = 0; i < MIN(n, 64u); i += 16) {
		struct fmt_buf b = fmt_init(text, sizeof(text));

		for (j = i; j < MIN(i + 16, n); j++)
			fmt_printf(&b, "%02x ", p[j]);
		for (j = i; j < MIN(i + 16, n); j++)
			fmt_putc(&b, p[j] >= 32 && p[j] < 127 ? (char)p[j] : '.');
		quire_log(q, 3, "%s 0x%lx: %s", what, (unsigned long)(uintptr_t)(p + i), text);
	}
}

void slab_report(struct quire *q, struct kmem_cache *c, struct frame *s, const void *obj, u64 caller, const char *what)
{
	quire_log(q, 3, "=============================================================================");
	quire_log(q, 3, "BUG %s (Not tainted): %s", c->name, what);
	quire_log(q, 3, "-----------------------------------------------------------------------------");
	if (caller)
		quire_log(q, 3, "Caller 0x%lx", (unsigned long)caller);
	else if (!c->track)
		quire_log(q, 3,
			  "Caller not known; caches with SLAB_STORE_USER, and machines with debug_owner, remember it");
	quire_log(q, 3, "Slab 0x%lx objects=%u used=%u pfn=%u", (unsigned long)(uintptr_t)slab_base(q, s),
		  slab_get(s, SLAB_OBJECTS_SHIFT), slab_get(s, SLAB_INUSE_SHIFT), frame_to_pfn(q, s));
	if (!obj)
		return;
	quire_log(q, 3, "Object 0x%lx @offset=%lu", (unsigned long)(uintptr_t)obj,
		  (unsigned long)((const char *)obj - slab_base(q, s)));
	report_track(q, c, obj, TRACK_ALLOC, "Allocated");
	report_track(q, c, obj, TRACK_FREE, "Freed");
	if (c->flags & SLAB_RED_ZONE)
		report_bytes(q, "Redzone ", (const u8 *)obj - MIN(c->left, 16u), MIN(c->left, 16u));
	report_bytes(q, "Object  ", obj, c->object_size);
	if (c->flags & SLAB_RED_ZONE)
		report_bytes(q, "Redzone ", (const u8 *)obj + c->object_size, c->inuse_end - c->object_size);
}

/* What an address that is no object does belong to: most bad frees are frees by the wrong function. */
static const char *frame_words(const struct frame *f)
{
	switch (f ? f->type : FRAME_VIRGIN) {
	case FRAME_FREE:
	case FRAME_PCP: return "a free frame";
	case FRAME_SLAB: return "a slab";
	case FRAME_KERNEL: return "a block of pages";
	case FRAME_PGTABLE: return "a page table";
	case FRAME_VMALLOC: return "vmalloc memory";
	case FRAME_VIRGIN: return f ? "a frame never used" : "no memory of this machine";
	default: return "user or reserved memory";
	}
}

void slab_bad_free(struct quire *q, struct kmem_cache *c, const void *p, u64 caller, const char *what)
{
	struct frame *f = kmem_frame(q, p);
	struct kmem_cache *real = f && f->type == FRAME_SLAB ? slab_cache(f) : NULL;

	quire_log(q, 3, "BUG %s (Not tainted): %s", c ? c->name : real ? real->name : "kfree", what);
	quire_log(q, 3, "Object 0x%lx in %s of cache %s, freed by caller 0x%lx", (unsigned long)(uintptr_t)p,
		  frame_words(f), real ? real->name : "(none)", (unsigned long)caller);
	if (c && real && c != real)
		quire_log(q, 3, "Wrong slab cache. %s but object is from %s", c->name, real->name);
	quire_bug(__FILE__, __LINE__, what);
}

/* ---- checks ---- */

/* The first of n bytes that is not `value`; NULL if all are. */
static const u8 *first_other(const u8 *p, u8 value, u32 n)
{
	for (; n; p++, n--)
		if (*p != value)
			return p;
	return NULL;
}

/* The machine ends: going on would hand the damage to the next owner. */
static void complain(struct quire *q, struct kmem_cache *c, struct frame *s, const void *obj, u64 caller, const u8 *at,
		     u8 wanted, const char *what)
{
	slab_report(q, c, s, obj, caller, what);
	quire_log(q, 3, "First byte 0x%x instead of 0x%x at 0x%lx", *at, wanted, (unsigned long)(uintptr_t)at);
	BUG();
}

static void check_red(struct quire *q, struct kmem_cache *c, struct frame *s, const void *obj, u64 caller, u8 wanted)
{
	const u8 *p = obj, *bad;

	if (!(c->flags & SLAB_RED_ZONE))
		return;
	bad = first_other(p - c->left, wanted, c->left);
	if (bad)
		complain(q, c, s, obj, caller, bad, wanted, "Left Redzone overwritten");
	bad = first_other(p + c->object_size, wanted, c->inuse_end - c->object_size);
	if (bad)
		complain(q, c, s, obj, caller, bad, wanted, "Right Redzone overwritten");
}

static void check_poison(struct quire *q, struct kmem_cache *c, struct frame *s, const void *obj, u64 caller)
{
	const u8 *p = obj, *bad;

	if (!(c->flags & SLAB_POISON))
		return;
	bad = first_other(p, POISON_FREE, c->object_size - 1);
	if (bad)
		complain(q, c, s, obj, caller, bad, POISON_FREE, "Poison overwritten");
	if (p[c->object_size - 1] != POISON_END)
		complain(q, c, s, obj, caller, p + c->object_size - 1, POISON_END, "Poison overwritten");
}

/* Whatever was written into a free object is found when it is handed out the next time; the Freed-in record names
 * the likeliest culprit. */
void debug_object_alloc(struct quire *q, struct kmem_cache *c, struct frame *s, void *obj, u64 caller)
{
	check_red(q, c, s, obj, caller, RED_INACTIVE);
	check_poison(q, c, s, obj, caller);
	paint_red(c, obj, RED_ACTIVE);
	set_track(c, obj, TRACK_ALLOC, caller);
}

void debug_object_free(struct quire *q, struct kmem_cache *c, struct frame *s, void *obj, u64 caller)
{
	check_red(q, c, s, obj, caller, RED_ACTIVE);
	set_track(c, obj, TRACK_FREE, caller);
	paint_red(c, obj, RED_INACTIVE);
	paint_poison(c, obj);
}
