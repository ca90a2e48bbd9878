/*
 * Blocks of 2 MiB and contiguous sets of 64 KiB: that they are made, what the TLB gains, and that every call on a part
 * of one leaves the rest as it was; then random calls on a fork family against a flat model.
 */
#include "testutil.h"

#define AREA 0x40000000ull
#define BLOCK (2 * MIB)

static struct sim_config config(enum sim_tlb_mode tlb)
{
	return (struct sim_config){ .memory = 64 * MIB, .overcommit_memory = 1, .folio_max_order = 9, .tlb = tlb,
				    .check_law1 = true, .check_reuse = true, .check_leaks = true };
}

static u64 map_huge(struct mm_struct *mm, u64 addr, u64 len)
{
	long a = do_mmap(mm, NULL, addr, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);

	assert_int_equal(a, addr);
	assert_int_equal(do_madvise(mm, addr, len, MADV_HUGEPAGE), 0);
	return addr;
}

static bool is_block(struct mm_struct *mm, u64 addr)
{
	return pgtable_block(mm->q, mm->pgd, addr) != NULL;
}

static void check_all(struct rig *r, struct mm_struct *mm)
{
	assert_true(mm_is_valid(mm));
	assert_int_equal(sim_tlb_check(r->q), 0);
}

/* ---- what is made ---- */

static void test_one_fault_one_entry(void **state)
{
	struct sim_config cfg = config(SIM_TLB_STRICT);
	struct rig r = rig_new(&cfg);
	u64 a = map_huge(r.mm, AREA, 2 * BLOCK), misses, i, tables = r.mm->pgtables_bytes;

	(void)state;
	store8(&r, a + 5, 1);
	assert_true(is_block(r.mm, a) && !is_block(r.mm, a + BLOCK));
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 512);
	assert_int_equal(r.mm->pgtables_bytes - tables, 3 * PAGE_SIZE); /* levels 1 and 2, and the one in reserve */
	misses = sim_stats(r.q).tlb_misses;
	for (i = 0; i < BLOCK; i += PAGE_SIZE)
		store8(&r, a + i, i);
	assert_int_equal(sim_stats(r.q).tlb_misses, misses);
	check_all(&r, r.mm);
	assert_int_equal(do_madvise(r.mm, a, BLOCK, MADV_DONTNEED), 0);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 0);
	assert_int_equal(load8(&r, a + BLOCK - 8), 0); /* a table with the zero page is in the way now */
	store8(&r, a, 2);
	assert_false(is_block(r.mm, a));
	/* An empty table is not. */
	assert_int_equal(do_madvise(r.mm, a, BLOCK, MADV_DONTNEED), 0);
	store8(&r, a + MIB, 3);
	assert_true(is_block(r.mm, a));
	check_all(&r, r.mm);
	rig_free(&r);
}

static void test_contiguous_sets(void **state)
{
	struct sim_config cfg = config(SIM_TLB_STRICT);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, AREA, MIB, RW), misses, i;

	(void)state;
	store8(&r, a, 1);
	for (i = 0; i < 16; i++)
		assert_true(pte_cont(pte_of(r.mm, a + i * PAGE_SIZE)));
	misses = sim_stats(r.q).tlb_misses;
	for (i = 0; i < 16; i++)
		store8(&r, a + i * PAGE_SIZE, i);
	assert_int_equal(sim_stats(r.q).tlb_misses, misses);
	/* One page leaves: none of the others may keep the hint. */
	assert_int_equal(do_madvise(r.mm, a + 3 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED), 0);
	for (i = 0; i < 16; i++) {
		assert_false(pte_cont(pte_of(r.mm, a + i * PAGE_SIZE)));
		assert_int_equal(load8(&r, a + i * PAGE_SIZE), i == 3 ? 0 : i);
	}
	check_all(&r, r.mm);
	store8(&r, a + 64 * KIB, 1);
	assert_int_equal(do_mprotect(r.mm, a + 64 * KIB, 64 * KIB, PROT_READ), 0);
	assert_false(pte_cont(pte_of(r.mm, a + 64 * KIB)));
	check_all(&r, r.mm);
	assert_int_equal(sim_stats(r.q).cont_bad, 0);
	rig_free(&r);
}

/* ---- a call on a part ---- */

enum part_call { UNMAP, PROTECT, DONTNEED, FREE, MOVE, NOHUGE, GUARD, PAGEOUT, NR_PART_CALLS };

static void call_on_part(struct mm_struct *mm, enum part_call call, u64 from, u64 len)
{
	switch (call) {
	case UNMAP: assert_int_equal(do_munmap(mm, from, len), 0); break;
	case PROTECT: assert_int_equal(do_mprotect(mm, from, len, PROT_READ), 0); break;
	case DONTNEED: assert_int_equal(do_madvise(mm, from, len, MADV_DONTNEED), 0); break;
	case FREE: assert_int_equal(do_madvise(mm, from, len, MADV_FREE), 0); break;
	case MOVE:
		assert_int_equal(do_mremap(mm, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, AREA + 8 * BLOCK + 7 * PAGE_SIZE),
				 AREA + 8 * BLOCK + 7 * PAGE_SIZE);
		break;
	case NOHUGE: assert_int_equal(do_madvise(mm, from, len, MADV_NOHUGEPAGE), 0); break;
	case GUARD: assert_int_equal(do_madvise(mm, from, len, MADV_GUARD_INSTALL), 0); break;
	case PAGEOUT: assert_int_equal(do_madvise(mm, from, len, MADV_PAGEOUT), 0); break;
	case NR_PART_CALLS: break;
	}
}

static void check_around(struct rig *r, u64 a, u64 from, u64 len)
{
	u64 i;

	for (i = 0; i < 3 * BLOCK; i += PAGE_SIZE)
		if (a + i < from || a + i >= from + len)
			assert_int_equal(load8(r, a + i), i + 1);
}

static void test_parts(void **state)
{
	static const struct { u64 from, len; } part[] = {
		{ BLOCK + 5 * PAGE_SIZE, 3 * PAGE_SIZE }, { BLOCK, BLOCK }, { BLOCK / 2, BLOCK }, { BLOCK, 64 * KIB },
		{ 2 * BLOCK - PAGE_SIZE, PAGE_SIZE }, { BLOCK / 2, 2 * BLOCK },
	};
	unsigned c, p, tlb;
	u64 i;

	(void)state;
	for (tlb = SIM_TLB_STRICT; tlb <= SIM_TLB_HOSTED; tlb++)
		for (c = 0; c < NR_PART_CALLS; c++)
			for (p = 0; p < ARRAY_SIZE(part); p++) {
				struct sim_config cfg = config((enum sim_tlb_mode)tlb);
				struct rig r = rig_new(&cfg);
				u64 a = map_huge(r.mm, AREA, 3 * BLOCK), from = a + part[p].from, len = part[p].len;

				for (i = 0; i < 3 * BLOCK; i += PAGE_SIZE)
					store8(&r, a + i, i + 1);
				assert_true(is_block(r.mm, a) && is_block(r.mm, a + BLOCK) && is_block(r.mm, a + 2 * BLOCK));
				/* Splitting needs no memory. */
				if (c == DONTNEED || c == FREE || c == PAGEOUT)
					sim_fail_from(r.q, SIM_FAIL_MEMORY, 1);
				call_on_part(r.mm, (enum part_call)c, from, len);
				sim_fail_none(r.q);
				check_all(&r, r.mm);
				check_around(&r, a, from, len);
				for (i = from; i < from + len && (c == PROTECT || c == NOHUGE || c == FREE); i += PAGE_SIZE)
					assert_int_equal(load8(&r, i), i - a + 1);
				for (i = from; i < from + len && c == MOVE; i += PAGE_SIZE)
					assert_int_equal(load8(&r, AREA + 8 * BLOCK + 7 * PAGE_SIZE + i - from), i - a + 1);
				check_all(&r, r.mm);
				rig_free(&r);
			}
}

static void test_moves_whole(void **state)
{
	struct sim_config cfg = config(SIM_TLB_STRICT);
	struct rig r = rig_new(&cfg);
	u64 a = map_huge(r.mm, AREA, 2 * BLOCK), to = AREA + 16 * BLOCK, n;

	(void)state;
	store8(&r, a, 1);
	store8(&r, a + BLOCK + 8, 2);
	/* Whatever allocation fails, it either moves or stays. */
	for (n = 1; n < 40; n++) {
		long at;

		sim_fail_nth(r.q, SIM_FAIL_MEMORY, n);
		at = do_mremap(r.mm, a, 2 * BLOCK, 2 * BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to);
		sim_fail_none(r.q);
		check_all(&r, r.mm);
		if (at < 0) {
			assert_int_equal(at, -ENOMEM);
			at = (long)a;
		}
		assert_true(is_block(r.mm, (u64)at) && is_block(r.mm, (u64)at + BLOCK));
		assert_int_equal(load8(&r, (u64)at), 1);
		assert_int_equal(load8(&r, (u64)at + BLOCK + 8), 2);
		if (at == (long)to) {
			to = a;
			a = (u64)at;
		}
	}
	rig_free(&r);
}

static void test_fork(void **state)
{
	struct sim_config cfg = config(SIM_TLB_STRICT);
	struct rig r = rig_new(&cfg);
	u64 a = map_huge(r.mm, AREA, 2 * BLOCK);
	struct mm_struct *child;

	(void)state;
	store8(&r, a, 1);
	store8(&r, a + BLOCK, 2);
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	assert_true(is_block(child, a) && is_block(child, a + BLOCK) && is_block(r.mm, a));
	check_all(&r, child);
	store8(&r, a + 8, 3); /* pages from here on, and a copy of sixteen */
	assert_false(is_block(r.mm, a));
	assert_true(is_block(child, a) && is_block(r.mm, a + BLOCK));
	check_all(&r, r.mm);
	sim_cpu_switch_mm(r.cpu, child);
	assert_int_equal(load8(&r, a), 1);
	assert_int_equal(load8(&r, a + 8), 0);
	sim_cpu_switch_mm(r.cpu, r.mm);
	assert_int_equal(load8(&r, a), 1);
	mmput(child);
	store8(&r, a + BLOCK + MIB, 4); /* nobody else is left: the whole block is ours again */
	assert_true(is_block(r.mm, a + BLOCK));
	assert_true(pte_excl(pte_of(r.mm, a + BLOCK)));
	check_all(&r, r.mm);
	rig_free(&r);
}

/* ---- memory for one allocation at a time ---- */

static u64 rounds_of_reclaim;

/* One allocation works, all that follow fail until the next round. */
static u64 free_a_little(struct quire *q, gfp_t gfp, unsigned order)
{
	(void)gfp;
	(void)order;
	rounds_of_reclaim++;
	sim_fail_from(q, BIT(FAIL_PAGE), 2);
	return 1;
}

/* A folio of 2 MiB, and then no page for the tables: the fault must not take one again and again. */
static void test_no_memory_for_tables(void **state)
{
	(void)state;
	for (unsigned junk = 0; junk <= 1; junk++) {
		struct sim_config cfg = config(SIM_TLB_STRICT);
		struct rig r;
		u64 a;

		cfg.no_virgin_zero = junk;
		r = rig_new(&cfg);
		a = map_huge(r.mm, AREA, BLOCK);
		drain_all_pages(r.q);
		r.q->hooks.try_to_free_pages = free_a_little;
		rounds_of_reclaim = 0;
		free_a_little(r.q, 0, 0);
		store8(&r, a + 5 * PAGE_SIZE, 7);
		sim_fail_none(r.q);
		assert_in_range(rounds_of_reclaim, 2, 8); /* tables of three levels, and a page */
		assert_int_equal(load8(&r, a + 5 * PAGE_SIZE), 7);
		assert_int_equal(load8(&r, a), 0);
		check_all(&r, r.mm);
		rig_free(&r);
	}
}

/* ---- random calls against a flat model ---- */

#define PAGES (4 * 512u)
#define MAX_MMS 4

struct model {
	struct rig r;
	u64 rng;
	struct world {
		struct mm_struct *mm;
		u64 value[PAGES];
		u8 prot[PAGES]; /* 0 = not mapped */
	} w[MAX_MMS];
};

static u64 rnd(struct model *m, u64 below)
{
	m->rng = m->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (m->rng >> 33) % below;
}

static void touch(struct model *m, struct world *w, u64 page, bool write)
{
	u64 addr = AREA + page * PAGE_SIZE + 8 * (page % 512), v = m->rng;
	int want = w->prot[page] >= (write ? 2 : 1) ? 0 : -EFAULT, got;

	sim_cpu_switch_mm(m->r.cpu, w->mm);
	got = write ? sim_store(m->r.cpu, addr, 8, v) : sim_load(m->r.cpu, addr, 8, &v);
	assert_int_equal(got, want);
	if (!got && write)
		w->value[page] = v;
	if (!got)
		assert_int_equal(v, w->value[page]);
}

/* A range: pages, sixteens or blocks, mostly where one begins. */
static void range(struct model *m, u64 *first, u64 *n)
{
	static const u64 unit[] = { 1, 16, 512 };
	u64 u = unit[rnd(m, 3)], at = rnd(m, PAGES), len = u * (1 + rnd(m, 3));

	*first = ALIGN_DOWN(at, u);
	*n = MIN(len, PAGES - *first);
	if (rnd(m, 4) == 0 && *n > 1)
		(*n)--;
}

static void remap(struct model *m, struct world *w, u64 first, u64 n)
{
	u64 a = AREA + first * PAGE_SIZE, i;

	if (rnd(m, 2)) {
		assert_int_equal(do_munmap(w->mm, a, n * PAGE_SIZE), 0);
		memset(w->prot + first, 0, n);
		return;
	}
	map_huge(w->mm, a, n * PAGE_SIZE);
	for (i = first; i < first + n; i++) {
		w->prot[i] = 2;
		w->value[i] = 0;
	}
}

static void protect(struct model *m, struct world *w, u64 first, u64 n)
{
	bool rw = rnd(m, 3), all = true;
	u64 i;

	for (i = first; i < first + n; i++)
		all &= w->prot[i] != 0;
	if (!all)
		return;
	assert_int_equal(do_mprotect(w->mm, AREA + first * PAGE_SIZE, n * PAGE_SIZE, rw ? RW : PROT_READ), 0);
	memset(w->prot + first, rw ? 2 : 1, n);
}

static void forget(struct model *m, struct world *w, u64 first, u64 n)
{
	bool whole = true;
	u64 i;
	int advice = rnd(m, 3) ? MADV_DONTNEED : MADV_FREE;
	long r;

	for (i = first; i < first + n; i++)
		whole &= w->prot[i] != 0;
	r = do_madvise(w->mm, AREA + first * PAGE_SIZE, n * PAGE_SIZE, advice);
	assert_int_equal(r, whole ? 0 : -ENOMEM);
	for (i = first; i < first + n && advice == MADV_DONTNEED; i++)
		w->value[i] = 0;
}

/* Whole blocks change places with what is behind the area, and come back elsewhere. */
static void move(struct model *m, struct world *w)
{
	u64 from = 512 * rnd(m, 4), to = 512 * rnd(m, 4), away = AREA + PAGES * PAGE_SIZE + BLOCK, i;
	long at;

	for (i = 0; i < 512; i++)
		if (!w->prot[from + i] || w->prot[from + i] != w->prot[from])
			return;
	at = do_mremap(w->mm, AREA + from * PAGE_SIZE, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, away);
	assert_int_equal(at, away);
	at = do_mremap(w->mm, away, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, AREA + to * PAGE_SIZE);
	assert_int_equal(at, AREA + to * PAGE_SIZE);
	memmove(w->value + to, w->value + from, 512 * sizeof(u64));
	memmove(w->prot + to, w->prot + from, 512);
	if (to != from)
		memset(w->prot + from, 0, 512);
}

static void fork_or_exit(struct model *m, struct world *w)
{
	struct world *o = &m->w[rnd(m, MAX_MMS)];

	if (o == w)
		return;
	if (o->mm) {
		mmput(o->mm);
		o->mm = NULL;
		return;
	}
	*o = *w;
	o->mm = dup_mm(w->mm);
	assert_false(IS_ERR(o->mm));
}

static void step(struct model *m)
{
	struct world *w = &m->w[rnd(m, MAX_MMS)];
	u64 what = rnd(m, 100), first, n, i;

	if (!w->mm)
		return;
	range(m, &first, &n);
	if (what < 70)
		for (i = first; i < first + n; i += 1 + rnd(m, n))
			touch(m, w, i, rnd(m, 2));
	else if (what < 78)
		remap(m, w, first, n);
	else if (what < 84)
		protect(m, w, first, n);
	else if (what < 90)
		forget(m, w, first, n);
	else if (what < 94)
		move(m, w);
	else
		fork_or_exit(m, w);
	assert_true(w == &m->w[0] || w->mm == NULL || mm_is_valid(w->mm));
}

/* Returns how many blocks were met. */
static u64 run_model(enum sim_tlb_mode tlb, u64 seed, u32 break_percent)
{
	static struct model m;
	struct sim_config cfg = config(tlb);
	u64 i, page, steps = getenv("QUIRE_LONG") ? 20000 : 1500, blocks = 0;

	cfg.break_percent = break_percent;
	cfg.seed = seed;
	memset(&m, 0, sizeof(m));
	m.rng = seed;
	m.r = rig_new(&cfg);
	m.w[0].mm = m.r.mm;
	mmget(m.r.mm);
	map_huge(m.r.mm, AREA, PAGES * PAGE_SIZE);
	memset(m.w[0].prot, 2, PAGES);
	for (i = 0; i < steps; i++) {
		if (!m.w[0].mm) {
			m.w[0] = (struct world){ .mm = m.r.mm };
			mmget(m.r.mm);
			assert_int_equal(do_munmap(m.r.mm, AREA, 2 * PAGES * PAGE_SIZE), 0);
		}
		step(&m);
		if (i % 64)
			continue;
		for (unsigned k = 0; k < MAX_MMS; k++)
			for (page = 0; m.w[k].mm && page < PAGES; page += 512)
				blocks += is_block(m.w[k].mm, AREA + page * PAGE_SIZE);
		check_all(&m.r, m.r.mm);
		assert_true(phys_is_valid(m.r.q));
	}
	for (unsigned k = 0; k < MAX_MMS; k++) {
		for (page = 0; m.w[k].mm && page < PAGES; page++)
			touch(&m, &m.w[k], page, false);
		if (m.w[k].mm)
			mmput(m.w[k].mm);
	}
	rig_free(&m.r);
	return blocks;
}

static void test_model(void **state)
{
	u64 seed = sim_seed(1), blocks = 0;
	unsigned i;

	(void)state;
	for (i = 0; i < 6; i++)
		blocks += run_model((enum sim_tlb_mode)(i % 3), seed + i, i < 3 ? 0 : 5);
	fprintf(stderr, "%llu blocks seen\n", (unsigned long long)blocks);
	assert_true(blocks > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_fault_one_entry),
		cmocka_unit_test(test_contiguous_sets),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_moves_whole),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_no_memory_for_tables),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
