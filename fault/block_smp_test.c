/*
 * Blocks of 2 MiB under several CPUs at once: each thread has two of its own in one address space, fills them, takes them apart
 * (munmap, mprotect, madvise, mremap), forks, and makes them anew, while the others do to parts of them what does not change what
 * they hold: protect and unprotect, page out, fork and write in the child.  Run with real threads (for TSan) and with seeded
 * interleavings.
 *
 * What must hold: a thread reads in its pages what it wrote there last, and a child what was there when it was made; what was
 * given up is zero; and the books balance at the end.
 */
#include "testutil.h"
#include <quire/swap.h>

#define THREADS 4u
#define BLOCK (2 * MIB)
#define OWN_PAGES 1024u /* two blocks */
#define AREA 0x40000000ull
#define SWAP "/dev/zram0"

struct shared {
	struct mm_struct *mm;
	u64 rounds;
	bool protects; /* others may split VMAs; else blocks move */
	u64 bad, blocks, forks;
};

struct worker {
	struct shared *sh;
	struct sim_cpu *cpu;
	unsigned i;
	u64 seed, base;
	u64 last[OWN_PAGES];
};

static u64 rnd(struct worker *w, u64 n)
{
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (w->seed >> 24) % n;
}

static void expect(struct worker *w, bool ok)
{
	if (!ok)
		__atomic_fetch_add(&w->sh->bad, 1, __ATOMIC_RELAXED);
}

static u64 base_of(unsigned i) { return AREA + i * 16 * BLOCK; }
static u64 page_at(const struct worker *w, u64 k) { return w->base + k * PAGE_SIZE; }

static void check(struct worker *w, u64 k)
{
	u64 v = 0;

	expect(w, sim_load(w->cpu, page_at(w, k) + 8 * (k % 512), 8, &v) == 0 && v == w->last[k]);
}

static void write_page(struct worker *w, u64 k)
{
	w->last[k] = rnd(w, ~0ull);
	expect(w, sim_store(w->cpu, page_at(w, k) + 8 * (k % 512), 8, w->last[k]) == 0);
}

/* A stretch of pages, often one that begins or ends with a block. */
static void stretch(struct worker *w, u64 *k, u64 *n)
{
	static const u64 lengths[] = { 1, 3, 16, 200, 512 };
	u64 len = lengths[rnd(w, 5)];

	*k = rnd(w, 3) ? rnd(w, OWN_PAGES) : 512 * rnd(w, 2);
	*n = MIN(len, OWN_PAGES - *k);
}

/* Gone: fresh memory is zero. */
static void forget(struct worker *w, u64 k, u64 n)
{
	memset(w->last + k, 0, n * sizeof(u64));
	check(w, k);
}

static void map_anew(struct worker *w, u64 addr, u64 len)
{
	expect(w, do_mmap(w->sh->mm, NULL, addr, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) == (long)addr);
	expect(w, do_madvise(w->sh->mm, addr, len, MADV_HUGEPAGE) == 0);
}

static void new_block(struct worker *w)
{
	u64 k = 512 * rnd(w, 2);
	struct quire *q = w->sh->mm->q;

	expect(w, do_munmap(w->sh->mm, page_at(w, k), BLOCK) == 0);
	map_anew(w, page_at(w, k), BLOCK);
	memset(w->last + k, 0, 512 * sizeof(u64));
	write_page(w, k + rnd(w, 512));
	spin_lock(&w->sh->mm->lock);
	w->sh->blocks += pgtable_block(q, w->sh->mm->pgd, page_at(w, k)) != NULL;
	spin_unlock(&w->sh->mm->lock);
}

static void take_apart(struct worker *w)
{
	struct mm_struct *mm = w->sh->mm;
	u64 k, n;

	stretch(w, &k, &n);
	switch (rnd(w, 3)) {
	case 0:
		expect(w, do_munmap(mm, page_at(w, k), n * PAGE_SIZE) == 0);
		map_anew(w, page_at(w, k), n * PAGE_SIZE);
		forget(w, k, n);
		break;
	case 1:
		expect(w, do_madvise(mm, page_at(w, k), n * PAGE_SIZE, MADV_DONTNEED) == 0);
		forget(w, k, n);
		break;
	default:
		expect(w, do_mprotect(mm, page_at(w, k), n * PAGE_SIZE, PROT_READ) == 0);
		check(w, k);
		expect(w, do_mprotect(mm, page_at(w, k), n * PAGE_SIZE, RW) == 0);
	}
}

/* To the next blocks but one, whole or not, and back. */
static void move(struct worker *w)
{
	u64 from = page_at(w, 512 * rnd(w, 2)), to = from + 4 * BLOCK + (rnd(w, 2) ? PAGE_SIZE : 0);
	struct mm_struct *mm = w->sh->mm;

	expect(w, do_mremap(mm, from, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to) == (long)to);
	expect(w, do_mremap(mm, to, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, from) == (long)from);
}

/* A part of somebody's, perhaps while it is not mapped. */
static void disturb(struct worker *w)
{
	u64 at = base_of((unsigned)rnd(w, THREADS)), k, n;
	struct mm_struct *mm = w->sh->mm;

	stretch(w, &k, &n);
	if (w->sh->protects && rnd(w, 2))
		do_mprotect(mm, at + k * PAGE_SIZE, n * PAGE_SIZE, rnd(w, 2) ? RW : RW | PROT_EXEC);
	else
		do_madvise(mm, at + k * PAGE_SIZE, n * PAGE_SIZE, rnd(w, 3) ? MADV_PAGEOUT : MADV_COLD);
}

static void fork_and_look(struct worker *w)
{
	struct mm_struct *child = dup_mm(w->sh->mm);
	u64 k;

	if (IS_ERR(child)) {
		expect(w, false);
		return;
	}
	__atomic_fetch_add(&w->sh->forks, 1, __ATOMIC_RELAXED);
	sim_cpu_switch_mm(w->cpu, child);
	for (k = rnd(w, 7); k < OWN_PAGES; k += 1 + rnd(w, 40)) {
		check(w, k);
		if (rnd(w, 8) == 0)
			expect(w, sim_store(w->cpu, page_at(w, k) + 8 * (k % 512), 8, 0xdead) == 0);
	}
	expect(w, mm_is_valid(child));
	sim_cpu_switch_mm(w->cpu, w->sh->mm);
	mmput(child);
}

static void step(struct worker *w)
{
	u64 what = rnd(w, 100), k = rnd(w, OWN_PAGES);

	if (what < 35)
		write_page(w, k);
	else if (what < 60)
		check(w, k);
	else if (what < 72)
		take_apart(w);
	else if (what < 80)
		new_block(w);
	else if (what < 92)
		disturb(w);
	else if (what < 96 && !w->sh->protects)
		move(w);
	else
		fork_and_look(w);
}

static void work(struct quire *q, unsigned i, void *arg)
{
	struct worker *w = calloc(1, sizeof(*w));
	u64 n;

	*w = (struct worker){ .sh = arg, .cpu = sim_cpu_get(q, i), .i = i, .seed = q->cfg.seed * 31 + i, .base = base_of(i) };
	sim_cpu_switch_mm(w->cpu, w->sh->mm);
	sim_cpu_set_el(w->cpu, 0);
	map_anew(w, w->base, 2 * BLOCK);
	for (n = 0; n < w->sh->rounds; n++)
		step(w);
	for (n = 0; n < OWN_PAGES; n++)
		check(w, n);
	sim_cpu_switch_mm(w->cpu, NULL);
	free(w);
}

static u64 run(struct sim_config cfg, u64 rounds, bool protects)
{
	struct shared sh = { .rounds = rounds, .protects = protects };
	struct rig r;

	cfg.memory = 96 * MIB;
	cfg.nr_cpus = THREADS;
	cfg.folio_max_order = PMD_ORDER;
	cfg.overcommit_memory = 1;
	cfg.check_law1 = cfg.check_reuse = true;
	cfg.break_percent = 5;
	r = rig_new(&cfg);
	r.q->cfg.seed = cfg.seed;
	assert_int_equal(swapon_compressed(r.q, SWAP, 4096, SWAP_PRIO_DEFAULT), 0);
	sh.mm = r.mm;
	sim_run(r.q, THREADS, work, &sh);
	assert_int_equal(sh.bad, 0);
	assert_true(mm_is_valid(r.mm));
	assert_int_equal(sim_tlb_check(r.q), 0);
	fprintf(stderr, "%llu blocks made, %llu forks, %llu folios split, %llu pages out\n", (unsigned long long)sh.blocks,
		(unsigned long long)sh.forks, (unsigned long long)r.q->vm_events[THP_SPLIT_PAGE],
		(unsigned long long)r.q->vm_events[PSWPOUT]);
	rig_drop_mm(&r);
	assert_int_equal(swapoff(r.q, SWAP), 0);
	rig_free(&r);
	return sh.blocks;
}

static u64 rounds(void)
{
	const char *s = getenv("QUIRE_STEPS");

	return s ? strtoull(s, NULL, 0) / 2 : 600;
}

static void test_threads(void **state)
{
	u64 blocks = run((struct sim_config){ .seed = sim_seed(1), .tlb = SIM_TLB_STRICT }, rounds(), true);

	(void)state;
	blocks += run((struct sim_config){ .seed = sim_seed(2), .tlb = SIM_TLB_NORMAL }, rounds(), false);
	assert_true(blocks > 0);
}

/* Flushes that take effect late, at port_tlb_sync() at the latest. */
static void test_threads_late_flush(void **state)
{
	u64 blocks = run((struct sim_config){ .seed = sim_seed(3), .tlb = SIM_TLB_HOSTED }, rounds(), false);

	(void)state;
	blocks += run((struct sim_config){ .seed = sim_seed(4), .tlb = SIM_TLB_HOSTED }, rounds(), true);
	assert_true(blocks > 0);
}

static void test_interleavings(void **state)
{
	u64 seed = sim_seed(5), blocks = 0;

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* one thread at a time: nothing to see */
#endif
	for (u64 i = 0; i < 6; i++)
		blocks += run((struct sim_config){ .seed = seed + i, .sched = SIM_SCHED_ONE, .tlb = (enum sim_tlb_mode)(i % 3) },
			      rounds() / 6, i & 1);
	assert_true(blocks > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads), cmocka_unit_test(test_threads_late_flush), cmocka_unit_test(test_interleavings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
