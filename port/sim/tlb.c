/*
 * The TLB's memory: translations of five sizes, each in its own set-associative part.
 *
 * A contiguous set or a block takes one entry, so flushing one page of it drops the whole, as the architecture allows
 * and as real TLBs do.  An entry stays until it is flushed or replaced: what the core forgets to flush stays usable.
 * Callers hold the owner's lock.
 */
#include "mmu_internal.h"

static const struct {
	u8 shift;
	u16 sets, first;
} class[SIM_TLB_CLASSES] = {
	{ 12, 512, 0 }, { 16, 128, 1024 }, { 21, 64, 1280 }, { 25, 16, 1408 }, { 30, 8, 1440 },
};
_Static_assert(1440 + 8 * SIM_TLB_WAYS == SIM_TLB_ENTRIES, "TLB parts");

static struct sim_tlb_entry *set_of(struct sim_tlb *t, unsigned c, u64 va)
{
	return &t->e[class[c].first + ((va >> class[c].shift) & (class[c].sets - 1u)) * SIM_TLB_WAYS];
}

static bool matches(const struct sim_tlb_entry *e, u64 va, u16 asid)
{
	return e->valid && e->va == ALIGN_DOWN(va, 1ull << e->shift) && (e->global || e->asid == asid);
}

static unsigned class_of(const struct sim_tlb_entry *e)
{
	unsigned c = 0;

	while (class[c].shift != e->shift)
		c++;
	return c;
}

struct sim_tlb_entry *sim_tlb_find(struct sim_tlb *t, u64 va, u16 asid)
{
	unsigned c, w;

	for (c = 0; c < SIM_TLB_CLASSES; c++) {
		struct sim_tlb_entry *e = set_of(t, c, va);

		if (!t->used[c])
			continue;
		for (w = 0; w < SIM_TLB_WAYS; w++)
			if (matches(&e[w], va, asid))
				return &e[w];
	}
	return NULL;
}

void sim_tlb_drop(struct sim_tlb *t, struct sim_tlb_entry *e)
{
	if (!e->valid)
		return;
	e->valid = false;
	t->used[class_of(e)]--;
}

void sim_tlb_insert(struct sim_tlb *t, const struct sim_tlb_entry *e)
{
	unsigned c = class_of(e), w;
	struct sim_tlb_entry *set = set_of(t, c, e->va), *to = NULL;

	for (w = 0; w < SIM_TLB_WAYS && !to; w++)
		if (!set[w].valid || matches(&set[w], e->va, e->asid))
			to = &set[w];
	if (!to)
		to = &set[t->victim++ % SIM_TLB_WAYS];
	sim_tlb_drop(t, to);
	*to = *e;
	to->valid = true;
	t->used[c]++;
}

static void flush_entry(struct sim_tlb *t, struct sim_tlb_entry *e, int asid, bool globals, u64 start, u64 end)
{
	if (!e->valid || e->va >= end || e->va + (1ull << e->shift) - 1 < start)
		return;
	if (e->global ? globals : asid < 0 || e->asid == asid)
		sim_tlb_drop(t, e);
}

/* All of one size: by index when the range is short, else every entry. */
static void flush_class(struct sim_tlb *t, unsigned c, int asid, bool globals, u64 start, u64 end)
{
	u64 size = 1ull << class[c].shift, first = ALIGN_DOWN(start, size), n = (end - 1 - first) / size + 1, i, w;

	if (n > class[c].sets)
		n = class[c].sets;
	for (i = 0; i < n; i++)
		for (w = 0; w < SIM_TLB_WAYS; w++)
			flush_entry(t, &set_of(t, c, first + i * size)[w], asid, globals, start, end);
}

void sim_tlb_flush(struct sim_tlb *t, int asid, bool globals, u64 start, u64 end)
{
	unsigned c;

	for (c = 0; c < SIM_TLB_CLASSES; c++)
		if (t->used[c] && start < end)
			flush_class(t, c, asid, globals, start, end);
}
