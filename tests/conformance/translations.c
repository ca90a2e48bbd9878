/*
 * Conformance: translations of user address spaces.
 *
 * The suite owns an mm with one special mapping (VM_PFNMAP: the core neither counts nor fills its pages) and installs
 * entries in it by hand, special ones, over frames of its own.  A guest of the port under test then reads and writes there.
 * The laws (port.h): clear, flush, install; after port_tlb_sync() nobody uses what was flushed before; a flush may
 * be refused for pinned ranges only; an entry without AF and the first write to a clean one reach the core unless the
 * port said that its hardware does those.
 */
#include "conformance.h"
#include <mm/mm.h>
#include <pgtable.h>

#define BASE 0x40000000ull
#define SPACE (64ull << 20)
#define MARK 0x5117e000ull
#define NR_FRAMES 20u

#define READ_ONLY (PAGE_READONLY_PROT | PTE_SPECIAL | PTE_AF)
#define WRITABLE_CLEAN (PAGE_SHARED_PROT | PTE_SPECIAL | PTE_AF)
#define WRITABLE ((WRITABLE_CLEAN & ~PTE_RDONLY) | PTE_DIRTY)

/* An address space with frames to map; frame i's first word is MARK + i. */
struct space {
	struct port_under_test *p;
	struct mm_struct *mm;
	struct frame *frame[NR_FRAMES];
	struct frame *huge; /* PMD_ORDER, or NULL when there is no such block */
};

static u64 *frame_word(struct port_under_test *p, const struct frame *f)
{
	return frame_address(p->q, f);
}

static void space_end(struct space *s)
{
	unsigned i;

	if (s->mm)
		mmput(s->mm);
	for (i = 0; i < NR_FRAMES; i++)
		if (s->frame[i])
			__free_pages(s->p->q, s->frame[i], 0);
	if (s->huge)
		__free_pages(s->p->q, s->huge, PMD_ORDER);
}

static bool space_begin(struct port_under_test *p, struct space *s)
{
	unsigned i;

	*s = (struct space){ .p = p, .mm = mm_alloc(p->q, &guest_abi_arm64) };
	for (i = 0; i < NR_FRAMES; i++) {
		s->frame[i] = alloc_pages(p->q, GFP_KERNEL, 0);
		if (s->frame[i])
			*frame_word(p, s->frame[i]) = MARK + i;
	}
	s->huge = alloc_pages(p->q, GFP_KERNEL | __GFP_NOWARN, PMD_ORDER);
	CHECK(p, s->mm && s->frame[NR_FRAMES - 1]);
	if (s->mm && s->frame[NR_FRAMES - 1] &&
	    install_special_mapping(s->mm, BASE, SPACE, VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE, "[conformance]") ==
		    (long)BASE)
		return true;
	CHECK(p, !"an address space to test with");
	space_end(s);
	return false;
}

/* Stores an entry of `level`; makes tables first, with no lock held in between failures. */
static void put(struct space *s, u64 va, u64 entry, int level)
{
	struct pgtable pt = mm_pgtable(s->mm);
	pte_t *slot;

	spin_lock(&s->mm->lock);
	slot = pgtable_alloc(&pt, va, level);
	CHECK(s->p, slot != NULL);
	if (slot)
		pgtable_set(s->p->q, slot, __pte(entry)); /* as it is: contiguous entries, too */
	spin_unlock(&s->mm->lock);
}

static void map(struct space *s, u64 va, unsigned frame, u64 prot)
{
	put(s, va, pfn_pte(frame_to_pfn(s->p->q, s->frame[frame]), prot).v, PT_LAST_LEVEL);
}

/* What the core does when it takes a translation back. */
static void clear_locked(struct space *s, u64 va, u64 pages)
{
	u64 i;

	for (i = 0; i < pages; i++) {
		pte_t *slot = pte_lookup(s->mm, va + i * PAGE_SIZE);

		if (slot)
			set_pte(s->mm, slot, __pte(0));
	}
	port_tlb_flush_range(s->mm, va, va + pages * PAGE_SIZE);
}

static void revoke(struct space *s, u64 va, u64 pages)
{
	spin_lock(&s->mm->lock);
	clear_locked(s, va, pages);
	spin_unlock(&s->mm->lock);
	port_tlb_sync(s->mm);
}

static bool reads(struct space *s, unsigned cpu, u64 va, u64 want)
{
	u64 v = ~want;

	return s->p->access(s->p, cpu, s->mm, va, false, &v) == 0 && v == want;
}

static bool writes(struct space *s, unsigned cpu, u64 va, u64 v)
{
	return s->p->access(s->p, cpu, s->mm, va, true, &v) == 0;
}

static bool faults(struct space *s, unsigned cpu, u64 va, bool write)
{
	u64 v = 0;

	return s->p->access(s->p, cpu, s->mm, va, write, &v) != 0;
}

/* ---- what an entry permits ---- */

static void entries_permit_what_they_say(struct port_under_test *p)
{
	struct space s;

	if (!space_begin(p, &s))
		return;
	CHECK(p, faults(&s, 0, BASE, false));
	map(&s, BASE, 0, WRITABLE);
	map(&s, BASE + PAGE_SIZE, 1, READ_ONLY);
	map(&s, BASE + 2 * PAGE_SIZE, 2, PAGE_NONE_PROT | PTE_SPECIAL | PTE_AF);
	CHECK(p, reads(&s, 0, BASE, MARK));
	CHECK(p, writes(&s, 0, BASE + 8, 77));
	CHECK(p, frame_word(p, s.frame[0])[1] == 77); /* the frame itself, seen through the direct map */
	CHECK(p, reads(&s, 0, BASE + PAGE_SIZE, MARK + 1));
	CHECK(p, faults(&s, 0, BASE + PAGE_SIZE, true));
	CHECK(p, faults(&s, 0, BASE + 2 * PAGE_SIZE, false));
	CHECK(p, faults(&s, 0, BASE + 3 * PAGE_SIZE, false));
	/* And the other way round: what the kernel writes, the guest reads. */
	frame_word(p, s.frame[0])[1] = 78;
	CHECK(p, reads(&s, 0, BASE + 8, 78));
	revoke(&s, BASE, 3);
	space_end(&s);
}

static void accessed_and_dirty_reach_the_core(struct port_under_test *p)
{
	struct space s;
	u64 before, v = 1;

	if (!space_begin(p, &s))
		return;
	map(&s, BASE, 0, READ_ONLY & ~PTE_AF);
	map(&s, BASE + PAGE_SIZE, 1, WRITABLE_CLEAN);
	before = p->aborts(p);
	p->access(p, 0, s.mm, BASE, false, &v);
	CHECK(p, p->aborts(p) != before || ((p->q->caps & PORT_CAP_HW_AF) && pte_young(pte_read(pte_lookup(s.mm, BASE)))));
	CHECK(p, reads(&s, 0, BASE + PAGE_SIZE, MARK + 1));
	before = p->aborts(p);
	v = 1;
	p->access(p, 0, s.mm, BASE + PAGE_SIZE, true, &v);
	CHECK(p, p->aborts(p) != before ||
			 ((p->q->caps & PORT_CAP_HW_DBM) && pte_dirty(pte_read(pte_lookup(s.mm, BASE + PAGE_SIZE)))));
	revoke(&s, BASE, 2);
	space_end(&s);
}

/* Installing needs no flush: nothing remembers that there was no translation; relaxing needs none either. */
static void installing_needs_no_flush(struct port_under_test *p)
{
	struct space s;
	unsigned cpu;

	if (!space_begin(p, &s))
		return;
	for (cpu = 0; cpu < p->nr_cpus; cpu++)
		CHECK(p, faults(&s, cpu, BASE, false));
	map(&s, BASE, 0, READ_ONLY);
	for (cpu = 0; cpu < p->nr_cpus; cpu++) {
		CHECK(p, reads(&s, cpu, BASE, MARK));
		CHECK(p, faults(&s, cpu, BASE, true));
	}
	map(&s, BASE, 0, WRITABLE);
	for (cpu = 0; cpu < p->nr_cpus; cpu++)
		CHECK(p, writes(&s, cpu, BASE + 8, cpu));
	revoke(&s, BASE, 1);
	space_end(&s);
}

/* ---- flushing ---- */

static void cleared_and_synced_is_gone(struct port_under_test *p)
{
	struct space s;
	unsigned cpu;
	u64 i;

	if (!space_begin(p, &s))
		return;
	for (i = 0; i < 16; i++)
		map(&s, BASE + i * PAGE_SIZE, (unsigned)i, WRITABLE);
	for (cpu = 0; cpu < p->nr_cpus; cpu++)
		for (i = 0; i < 16; i++)
			CHECK(p, reads(&s, cpu, BASE + i * PAGE_SIZE, MARK + i));
	revoke(&s, BASE + 4 * PAGE_SIZE, 3);
	for (cpu = 0; cpu < p->nr_cpus; cpu++)
		for (i = 0; i < 16; i++)
			CHECK(p, i >= 4 && i < 7 ? faults(&s, cpu, BASE + i * PAGE_SIZE, false) :
						   reads(&s, cpu, BASE + i * PAGE_SIZE, MARK + i));
	revoke(&s, BASE, 16);
	port_tlb_sync(s.mm); /* once more: nothing to do */
	for (i = 0; i < 16; i++)
		CHECK(p, faults(&s, 0, BASE + i * PAGE_SIZE, true));
	space_end(&s);
}

static void restricted_and_synced_is_restricted(struct port_under_test *p)
{
	struct space s;
	unsigned cpu;

	if (!space_begin(p, &s))
		return;
	map(&s, BASE, 0, WRITABLE);
	for (cpu = 0; cpu < p->nr_cpus; cpu++)
		CHECK(p, writes(&s, cpu, BASE + 8, cpu));
	spin_lock(&s.mm->lock);
	set_pte(s.mm, pte_lookup(s.mm, BASE), pfn_pte(frame_to_pfn(p->q, s.frame[0]), READ_ONLY));
	port_tlb_flush_range(s.mm, BASE, BASE + PAGE_SIZE);
	spin_unlock(&s.mm->lock);
	port_tlb_sync(s.mm);
	for (cpu = 0; cpu < p->nr_cpus; cpu++) {
		CHECK(p, faults(&s, cpu, BASE + 8, true));
		CHECK(p, reads(&s, cpu, BASE, MARK));
	}
	revoke(&s, BASE, 1);
	space_end(&s);
}

/* Aging: an entry that loses its Access flag and is flushed tells the core of the next touch. */
static void aged_entry_reports_the_next_touch(struct port_under_test *p)
{
	struct space s;
	u64 before, v;

	if (!space_begin(p, &s))
		return;
	map(&s, BASE, 0, READ_ONLY);
	CHECK(p, reads(&s, 0, BASE, MARK));
	spin_lock(&s.mm->lock);
	set_pte(s.mm, pte_lookup(s.mm, BASE), pte_mkold(pte_read(pte_lookup(s.mm, BASE))));
	port_tlb_flush_range(s.mm, BASE, BASE + PAGE_SIZE);
	spin_unlock(&s.mm->lock);
	port_tlb_sync(s.mm);
	before = p->aborts(p);
	p->access(p, 0, s.mm, BASE, false, &v);
	CHECK(p, p->aborts(p) != before || pte_young(pte_read(pte_lookup(s.mm, BASE))));
	revoke(&s, BASE, 1);
	space_end(&s);
}

static void odd_ranges_are_flushed(struct port_under_test *p)
{
	struct space s;

	if (!space_begin(p, &s))
		return;
	map(&s, BASE, 0, WRITABLE);
	map(&s, BASE + SPACE - PAGE_SIZE, 1, WRITABLE);
	CHECK(p, reads(&s, 0, BASE, MARK) && reads(&s, 0, BASE + SPACE - PAGE_SIZE, MARK + 1));
	spin_lock(&s.mm->lock);
	set_pte(s.mm, pte_lookup(s.mm, BASE), __pte(0));
	set_pte(s.mm, pte_lookup(s.mm, BASE + SPACE - PAGE_SIZE), __pte(0));
	port_tlb_flush_range(s.mm, BASE, BASE); /* empty */
	port_tlb_flush_range(s.mm, 0, s.mm->abi->task_size); /* everything, as exit does */
	spin_unlock(&s.mm->lock);
	port_tlb_sync(s.mm);
	CHECK(p, faults(&s, 0, BASE, false) && faults(&s, 0, BASE + SPACE - PAGE_SIZE, false));
	space_end(&s);
}

/* More requests than a port may have room for, without a sync in between. */
static void many_flushes_then_one_sync(struct port_under_test *p)
{
	struct space s;
	u64 i;

	if (!space_begin(p, &s))
		return;
	for (i = 0; i < 1500; i++) {
		map(&s, BASE + i * 3 * PAGE_SIZE, (unsigned)(i % NR_FRAMES), WRITABLE);
		CHECK(p, reads(&s, (unsigned)(i % p->nr_cpus), BASE + i * 3 * PAGE_SIZE, MARK + i % NR_FRAMES));
	}
	for (i = 0; i < 1500; i++) {
		spin_lock(&s.mm->lock);
		clear_locked(&s, BASE + i * 3 * PAGE_SIZE, 1);
		spin_unlock(&s.mm->lock);
	}
	port_tlb_sync(s.mm);
	for (i = 0; i < 1500; i++)
		CHECK(p, faults(&s, (unsigned)(i % p->nr_cpus), BASE + i * 3 * PAGE_SIZE, false));
	space_end(&s);
}

/* Clear, flush, install another frame: everybody sees the new one, and the old one may be reused at once. */
static void new_frame_after_break(struct port_under_test *p)
{
	struct space s;
	unsigned cpu, round;

	if (!space_begin(p, &s))
		return;
	for (round = 0; round < 50; round++) {
		map(&s, BASE, round % 2, WRITABLE);
		for (cpu = 0; cpu < p->nr_cpus; cpu++)
			CHECK(p, reads(&s, cpu, BASE, MARK + round % 2));
		revoke(&s, BASE, 1);
		port_clear_pages(frame_word(p, s.frame[round % 2]), 1);
		*frame_word(p, s.frame[round % 2]) = MARK + round % 2;
	}
	space_end(&s);
}

/* ---- large translations ---- */

static void contiguous_sets_are_one(struct port_under_test *p)
{
	struct frame *f = alloc_pages(p->q, GFP_KERNEL | __GFP_NOWARN, CONT_PTE_ORDER);
	struct space s;
	u64 i;

	if (!f)
		return;
	if (!space_begin(p, &s)) {
		__free_pages(p->q, f, CONT_PTE_ORDER);
		return;
	}
	for (i = 0; i < 16; i++) {
		frame_word(p, f)[i * (PAGE_SIZE / 8)] = i;
		put(&s, BASE + i * PAGE_SIZE, pfn_pte(frame_to_pfn(p->q, f) + (pfn_t)i, WRITABLE | PTE_CONT).v, PT_LAST_LEVEL);
	}
	for (i = 0; i < 16; i++)
		CHECK(p, reads(&s, 0, BASE + i * PAGE_SIZE, i));
	/* Taking the set apart: all of it is cleared and flushed, then single entries come back. */
	revoke(&s, BASE, 16);
	for (i = 0; i < 16; i += 2)
		put(&s, BASE + i * PAGE_SIZE, pfn_pte(frame_to_pfn(p->q, f) + (pfn_t)i, WRITABLE).v, PT_LAST_LEVEL);
	for (i = 0; i < 16; i++)
		CHECK(p, i % 2 ? faults(&s, 0, BASE + i * PAGE_SIZE, false) : reads(&s, 0, BASE + i * PAGE_SIZE, i));
	revoke(&s, BASE, 16);
	space_end(&s);
	__free_pages(p->q, f, CONT_PTE_ORDER);
}

static void blocks_map_and_break_up(struct port_under_test *p)
{
	struct space s;
	u64 va = BASE + (16ull << 20), i, words = PAGE_SIZE / 8;

	if (!space_begin(p, &s))
		return;
	if (!s.huge) {
		space_end(&s);
		return;
	}
	for (i = 0; i < 512; i++)
		frame_word(p, s.huge)[i * words] = i;
	put(&s, va, pte_mkblock(pfn_pte(frame_to_pfn(p->q, s.huge), WRITABLE)).v, 2);
	for (i = 0; i < 512; i += 7)
		CHECK(p, reads(&s, (unsigned)i % p->nr_cpus, va + i * PAGE_SIZE, i));
	spin_lock(&s.mm->lock);
	i = 0;
	set_pte(s.mm, pgtable_lookup(p->q, s.mm->pgd, va, &(int){ 0 }), __pte(0));
	port_tlb_flush_range(s.mm, va, va + PMD_SIZE);
	spin_unlock(&s.mm->lock);
	port_tlb_sync(s.mm);
	for (i = 0; i < 512; i += 31)
		CHECK(p, faults(&s, (unsigned)i % p->nr_cpus, va + i * PAGE_SIZE, false));
	map(&s, va + 5 * PAGE_SIZE, 3, WRITABLE);
	CHECK(p, reads(&s, 0, va + 5 * PAGE_SIZE, MARK + 3));
	CHECK(p, faults(&s, 0, va + 6 * PAGE_SIZE, false));
	revoke(&s, va + 5 * PAGE_SIZE, 1);
	space_end(&s);
}

/* ---- several address spaces ---- */

static void spaces_are_apart(struct port_under_test *p)
{
	struct space a, b;
	unsigned round;

	if (!space_begin(p, &a))
		return;
	if (!space_begin(p, &b)) {
		space_end(&a);
		return;
	}
	map(&a, BASE, 0, WRITABLE);
	map(&b, BASE, 1, WRITABLE);
	map(&b, BASE + PAGE_SIZE, 2, WRITABLE);
	for (round = 0; round < 20; round++) {
		unsigned cpu = round % p->nr_cpus;

		CHECK(p, reads(&a, cpu, BASE, MARK));
		CHECK(p, reads(&b, cpu, BASE, MARK + 1));
		CHECK(p, reads(&b, cpu, BASE + PAGE_SIZE, MARK + 2));
		CHECK(p, faults(&a, cpu, BASE + PAGE_SIZE, false));
	}
	revoke(&a, BASE, 1);
	CHECK(p, faults(&a, 0, BASE, false));
	CHECK(p, reads(&b, 0, BASE, MARK + 1)); /* another's flush took nothing away */
	revoke(&b, BASE, 2);
	space_end(&a);
	space_end(&b);
}

/* Address spaces come and go: what a dead one had mapped is nobody's, whatever names the port gives them. */
static void dead_spaces_leave_nothing(struct port_under_test *p)
{
	struct space s;
	unsigned round;

	for (round = 0; round < 100; round++) {
		if (!space_begin(p, &s))
			return;
		CHECK(p, faults(&s, round % p->nr_cpus, BASE, false));
		map(&s, BASE, round % NR_FRAMES, WRITABLE);
		CHECK(p, reads(&s, round % p->nr_cpus, BASE, MARK + round % NR_FRAMES));
		space_end(&s); /* without a revoke: exit_mmap must do it */
	}
}

/* ---- pins ---- */

static void pinned_ranges_are_told(struct port_under_test *p)
{
	struct space s;

	if (!p->pin || !space_begin(p, &s))
		return;
	map(&s, BASE, 0, WRITABLE);
	CHECK(p, reads(&s, 0, BASE, MARK));
	spin_lock(&s.mm->lock);
	CHECK(p, !port_range_pinned(s.mm, 0, s.mm->abi->task_size));
	spin_unlock(&s.mm->lock);
	p->pin(p, s.mm, BASE, BASE + 2 * PAGE_SIZE);
	spin_lock(&s.mm->lock);
	CHECK(p, port_range_pinned(s.mm, BASE + PAGE_SIZE, BASE + 4 * PAGE_SIZE));
	CHECK(p, port_range_pinned(s.mm, 0, s.mm->abi->task_size));
	CHECK(p, !port_range_pinned(s.mm, BASE + 2 * PAGE_SIZE, BASE + 4 * PAGE_SIZE));
	CHECK(p, !port_range_pinned(s.mm, BASE - PAGE_SIZE, BASE));
	spin_unlock(&s.mm->lock);
	p->unpin(p, s.mm, BASE, BASE + 2 * PAGE_SIZE);
	spin_lock(&s.mm->lock);
	CHECK(p, !port_range_pinned(s.mm, BASE, BASE + PAGE_SIZE));
	spin_unlock(&s.mm->lock);
	revoke(&s, BASE, 1);
	CHECK(p, faults(&s, 0, BASE, false));
	space_end(&s);
}

/* A flush of a pinned range may be refused; once the pin is gone the next sync is not. */
static void refused_flush_comes_later(struct port_under_test *p)
{
	struct space s;

	if (!p->pin || !space_begin(p, &s))
		return;
	map(&s, BASE, 0, WRITABLE);
	map(&s, BASE + PAGE_SIZE, 1, WRITABLE);
	CHECK(p, reads(&s, 0, BASE, MARK) && reads(&s, 0, BASE + PAGE_SIZE, MARK + 1));
	p->pin(p, s.mm, BASE, BASE + PAGE_SIZE);
	revoke(&s, BASE, 2);
	CHECK(p, faults(&s, 0, BASE + PAGE_SIZE, false));
	p->unpin(p, s.mm, BASE, BASE + PAGE_SIZE);
	port_tlb_sync(s.mm);
	CHECK(p, faults(&s, 0, BASE, false));
	space_end(&s);
}

/* ---- at the same time ---- */

struct race {
	struct space *s;
	u32 stop;
	u32 readers_seen;
};

/* Context 0 moves a page from frame to frame by the rules and spoils each frame that it has taken away. */
static void move_page(struct port_under_test *p, struct race *r)
{
	struct space *s = r->s;
	unsigned round, want = p->nr_cpus > 1;

	for (round = 0; round < 500 || __atomic_load_n(&r->readers_seen, __ATOMIC_RELAXED) < want; round++) {
		unsigned new = round % 2, old = !new;

		*frame_word(p, s->frame[new]) = MARK;
		revoke(s, BASE, 1);
		*frame_word(p, s->frame[old]) = 0xdead;
		port_relax();
		map(s, BASE, new, WRITABLE);
		port_relax();
	}
	__atomic_store_n(&r->stop, 1, __ATOMIC_RELEASE);
}

static void move_or_read(struct port_under_test *p, unsigned i, void *arg)
{
	struct race *r = arg;
	unsigned n;
	u64 v;

	if (i == 0) {
		move_page(p, r);
		return;
	}
	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		for (n = 0; n < 32; n++)
			if (!p->access(p, i, r->s->mm, BASE, false, &v)) {
				CHECK(p, v == MARK);
				__atomic_store_n(&r->readers_seen, 1, __ATOMIC_RELAXED);
			}
		port_relax();
	}
}

static void nobody_reads_a_frame_taken_away(struct port_under_test *p)
{
	struct space s;
	struct race r = { .s = &s };

	if (!space_begin(p, &s))
		return;
	p->run(p, p->nr_cpus, move_or_read, &r);
	revoke(&s, BASE, 1);
	space_end(&s);
}

const struct conformance_check conformance_translations[] = {
	{ "entries_permit_what_they_say", entries_permit_what_they_say },
	{ "accessed_and_dirty_reach_the_core", accessed_and_dirty_reach_the_core },
	{ "installing_needs_no_flush", installing_needs_no_flush },
	{ "cleared_and_synced_is_gone", cleared_and_synced_is_gone },
	{ "restricted_and_synced_is_restricted", restricted_and_synced_is_restricted },
	{ "aged_entry_reports_the_next_touch", aged_entry_reports_the_next_touch },
	{ "odd_ranges_are_flushed", odd_ranges_are_flushed },
	{ "many_flushes_then_one_sync", many_flushes_then_one_sync },
	{ "new_frame_after_break", new_frame_after_break },
	{ "contiguous_sets_are_one", contiguous_sets_are_one },
	{ "blocks_map_and_break_up", blocks_map_and_break_up },
	{ "spaces_are_apart", spaces_are_apart },
	{ "dead_spaces_leave_nothing", dead_spaces_leave_nothing },
	{ "pinned_ranges_are_told", pinned_ranges_are_told },
	{ "refused_flush_comes_later", refused_flush_comes_later },
	{ "nobody_reads_a_frame_taken_away", nobody_reads_a_frame_taken_away },
	{ NULL, NULL },
};
