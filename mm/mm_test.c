/*
 * Address spaces on their own: limits, overcommit, brk, stacks, rmap, what is left when memory runs out at every
 * possible place, and several threads in one address space.  The calls' answers are tested in mm_diff_test.c.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mm/mm.h>
#include <port/sim/sim.h>
#include <cmocka.h>

#define BASE 0x200000000ull
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

struct rig {
	struct quire *q;
	struct mm_struct *mm;
};

static struct rig rig_new(const struct sim_config *cfg)
{
	struct rig r = {.q = sim_machine_new(cfg)};

	r.mm = mm_alloc(r.q, &guest_abi_x86_64);
	assert_non_null(r.mm);
	return r;
}

/* Nothing may be left once the last address space is gone. */
static void assert_clean(struct quire *q)
{
	assert_null(q->mms);
	assert_int_equal(q->nr_anon_pages, 0);
	assert_int_equal(q->nr_file_mapped, 0);
	assert_int_equal(q->nr_pagetable_pages, 0);
	assert_int_equal(q->committed_pages, 0);
	assert_int_equal(kmem_cache_live_objects(q, q->vma_cache), 0);
	assert_int_equal(kmem_cache_live_objects(q, q->mm_cache), 0);
	assert_int_equal(kmem_cache_live_objects(q, q->anon_cache), 0);
	assert_int_equal(kmem_cache_live_objects(q, q->range_cache), 0);
	assert_int_equal(port_ctx()->nparked, 0);
	assert_true(phys_is_valid(q));
	assert_true(kmem_is_valid(q));
}

static void rig_free(struct rig *r)
{
	assert_true(mm_is_valid(r->mm));
	mmput(r->mm);
	assert_clean(r->q);
	sim_machine_free(r->q);
}

static long map_at(struct mm_struct *mm, u64 addr, u64 pages, u64 prot)
{
	return do_mmap(mm, NULL, addr, pages * PAGE_SIZE, prot, ANON | MAP_FIXED, 0);
}

static bool poke(struct mm_struct *mm, u64 addr, u8 value)
{
	return access_process_vm(mm, addr, &value, 1, true) == 1;
}

static int peek(struct mm_struct *mm, u64 addr)
{
	u8 value;

	return access_process_vm(mm, addr, &value, 1, false) == 1 ? value : -1;
}

/* ---- limits ---- */
static void test_rlimits(void **state)
{
	struct rig r = rig_new(NULL);

	r.mm->rlim_as = 10 * PAGE_SIZE;
	assert_int_equal(map_at(r.mm, BASE, 10, PROT_READ), BASE);
	assert_int_equal(map_at(r.mm, BASE + 20 * PAGE_SIZE, 1, PROT_READ), -ENOMEM);
	assert_int_equal(map_at(r.mm, BASE, 10, PROT_READ), BASE); /* replacing needs no more */
	assert_int_equal(do_mremap(r.mm, BASE, 10 * PAGE_SIZE, 11 * PAGE_SIZE, MREMAP_MAYMOVE, 0), -ENOMEM);
	r.mm->rlim_as = ~0ull;
	r.mm->rlim_data = 4 * PAGE_SIZE;
	assert_int_equal(do_mprotect(r.mm, BASE, 5 * PAGE_SIZE, RW), -ENOMEM);
	assert_int_equal(do_mprotect(r.mm, BASE, 4 * PAGE_SIZE, RW), 0);
	r.mm->rlim_memlock = 3 * PAGE_SIZE;
	assert_int_equal(do_mlock(r.mm, BASE, 4 * PAGE_SIZE, 0), -ENOMEM);
	assert_int_equal(do_mlock(r.mm, BASE, 3 * PAGE_SIZE, 0), 0);
	assert_int_equal(do_mlock(r.mm, BASE, 3 * PAGE_SIZE, 0), 0); /* counted once */
	assert_int_equal(do_mmap(r.mm, NULL, 0, PAGE_SIZE, RW, ANON | MAP_LOCKED, 0), -EAGAIN);
	r.mm->rlim_memlock = 0;
	assert_int_equal(do_mlock(r.mm, BASE, PAGE_SIZE, 0), -EPERM);
	assert_int_equal(r.mm->locked_vm, 3);
	assert_true(mm_is_valid(r.mm));
	rig_free(&r);
}

static void test_sealed(void **state)
{
	struct rig r = rig_new(NULL);
	u64 at = BASE + 2 * PAGE_SIZE;

	(void)state;
	assert_int_equal(map_at(r.mm, BASE, 8, RW), BASE);
	assert_true(poke(r.mm, at, 7));
	assert_int_equal(do_mseal(r.mm, at, 2 * PAGE_SIZE, 0), 0);
	assert_int_equal(do_munmap(r.mm, BASE, 8 * PAGE_SIZE), -EPERM);
	assert_int_equal(do_munmap(r.mm, at + PAGE_SIZE, 3 * PAGE_SIZE), -EPERM);
	assert_int_equal(map_at(r.mm, BASE, 8, RW), -EPERM);
	assert_int_equal(do_mprotect(r.mm, at, PAGE_SIZE, RW), -EPERM);
	assert_int_equal(do_mremap(r.mm, at, PAGE_SIZE, PAGE_SIZE, 0, 0), -EPERM);
	assert_int_equal(do_mremap(r.mm, BASE, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at), -EPERM);
	assert_int_equal(peek(r.mm, at), 7);
	assert_true(mm_is_valid(r.mm));
	/* Its neighbours are as free as before, and new ones do not merge with it. */
	assert_int_equal(do_munmap(r.mm, at + 2 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
	assert_int_equal(map_at(r.mm, at + 2 * PAGE_SIZE, 1, RW), (long)(at + 2 * PAGE_SIZE));
	assert_int_equal(do_munmap(r.mm, at + 2 * PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(do_madvise(r.mm, at, PAGE_SIZE, MADV_DONTNEED), 0); /* it may be written */
	assert_int_equal(peek(r.mm, at), 0);
	rig_free(&r);
}

static void test_overcommit(void **state)
{
	u64 ram = 64ull << 20, ram_pages = ram >> PAGE_SHIFT;
	struct rig r;

	for (u32 mode = 0; mode <= 2; mode++) {
		r = rig_new(&(struct sim_config){.memory = ram, .overcommit_memory = mode, .overcommit_ratio = 50});
		assert_int_equal(map_at(r.mm, BASE, ram_pages * 2, RW), mode == 1 ? (long)BASE : -ENOMEM);
		assert_int_equal(map_at(r.mm, BASE, ram_pages * 3 / 4, RW), mode == 2 ? -ENOMEM : (long)BASE);
		assert_int_equal(map_at(r.mm, BASE, ram_pages * 2, PROT_READ), BASE); /* not charged */
		assert_int_equal(do_mprotect(r.mm, BASE, ram_pages * 2 * PAGE_SIZE, RW), mode == 1 ? 0 : -ENOMEM);
		assert_int_equal(do_mmap(r.mm, NULL, BASE, ram_pages * 2 * PAGE_SIZE, RW,
					 ANON | MAP_FIXED | MAP_NORESERVE, 0),
				 mode == 2 ? -ENOMEM : (long)BASE);
		rig_free(&r);
	}
}

static void test_max_map_count(void **state)
{
	struct rig r = rig_new(&(struct sim_config){.max_map_count = 20});
	u64 n = 0;

	/* One page in two, so that nothing merges.  Linux compares with > before and so allows one more. */
	while (map_at(r.mm, BASE + 2 * n * PAGE_SIZE, 1, RW) > 0)
		n++;
	assert_int_equal(n, 21);
	assert_int_equal(do_munmap(r.mm, BASE, 2 * PAGE_SIZE), 0);
	assert_int_equal(do_munmap(r.mm, BASE + 2 * PAGE_SIZE, 4 * PAGE_SIZE), 0);
	assert_int_equal(map_at(r.mm, BASE, 5, RW), BASE);
	assert_int_equal(map_at(r.mm, BASE + 100 * PAGE_SIZE, 1, RW), BASE + 100 * PAGE_SIZE);
	assert_int_equal(do_munmap(r.mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE), -ENOMEM); /* would be one too many */
	assert_int_equal(do_mprotect(r.mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE, PROT_READ), -ENOMEM);
	rig_free(&r);
}

/* ---- growing ---- */
static void test_brk(void **state)
{
	struct rig r = rig_new(NULL);
	u64 start = 0x600000;

	r.mm->start_brk = r.mm->brk = start;
	assert_int_equal(do_brk(r.mm, 0), start);
	assert_int_equal(do_brk(r.mm, start + 100), start + 100);
	assert_true(poke(r.mm, start, 1));
	assert_int_equal(do_brk(r.mm, start + 10 * PAGE_SIZE), start + 10 * PAGE_SIZE);
	assert_int_equal(r.mm->vmas.count, 1);
	assert_int_equal(peek(r.mm, start), 1);
	assert_int_equal(do_brk(r.mm, start - 1), start + 10 * PAGE_SIZE);
	map_at(r.mm, start + 20 * PAGE_SIZE, 1, RW);
	assert_int_equal(do_brk(r.mm, start + 20 * PAGE_SIZE), start + 10 * PAGE_SIZE); /* a page stays free between */
	assert_int_equal(do_brk(r.mm, start + 19 * PAGE_SIZE), start + 19 * PAGE_SIZE);
	r.mm->rlim_data = 20 * PAGE_SIZE;
	assert_int_equal(do_brk(r.mm, start + 3), start + 3);
	assert_int_equal(peek(r.mm, start), 1);
	assert_int_equal(peek(r.mm, start + PAGE_SIZE), -1);
	assert_int_equal(do_brk(r.mm, start), start);
	assert_int_equal(r.mm->vmas.count, 1);
	rig_free(&r);
}

static void test_stack(void **state)
{
	struct rig r = rig_new(NULL);
	u64 top = BASE + 4096 * PAGE_SIZE, low = top - 4 * PAGE_SIZE;
	struct fault_info fi;

	assert_int_equal(do_mmap(r.mm, NULL, low, 4 * PAGE_SIZE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, 0), low);
	/* The program's own touch grows it; access by others does not (Linux since 6.5). */
	assert_false(poke(r.mm, low - 3 * PAGE_SIZE, 7));
	assert_int_equal(do_mem_abort(r.mm, low - 3 * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, true, FSC_TRANSLATION + 3), &fi), FAULT_OK);
	assert_int_equal(vma_start(find_vma(r.mm, low)), low - 3 * PAGE_SIZE);
	r.mm->rlim_stack = 16 * PAGE_SIZE;
	assert_int_equal(expand_stack(r.mm, top - 16 * PAGE_SIZE), 0);
	assert_int_equal(expand_stack(r.mm, top - 17 * PAGE_SIZE), -ENOMEM);
	r.mm->rlim_stack = ~0ull;
	map_at(r.mm, top - 600 * PAGE_SIZE, 1, RW);
	assert_int_equal(expand_stack(r.mm, top - 343 * PAGE_SIZE), 0);       /* 256 pages stay free */
	assert_int_equal(expand_stack(r.mm, top - 344 * PAGE_SIZE), -ENOMEM); /* the guard gap */
	/* A search keeps away from the gap, a hint into it is not granted. */
	assert_int_not_equal(do_mmap(r.mm, NULL, top - 400 * PAGE_SIZE, PAGE_SIZE, RW, ANON, 0), top - 400 * PAGE_SIZE);
	assert_int_equal(expand_stack(r.mm, BASE), -EFAULT);
	rig_free(&r);
}

/* Also if it is not charged: else a touch far below would give it the whole address space. */
static void test_stack_asks_for_room(void **state)
{
	struct rig r = rig_new(NULL);
	u64 low = BASE + (1ull << 40);

	assert_int_equal(do_mmap(r.mm, NULL, low, PAGE_SIZE, PROT_NONE, ANON | MAP_FIXED | MAP_GROWSDOWN, 0), low);
	assert_int_equal(expand_stack(r.mm, BASE), -ENOMEM);
	assert_int_equal(expand_stack(r.mm, low - 8 * PAGE_SIZE), 0);
	assert_int_equal(r.q->committed_pages, 0);
	rig_free(&r);
}

/* ---- memory policies ---- */
static void test_mbind(void **state)
{
	struct rig r = rig_new(NULL);
	u64 len = 4 * PAGE_SIZE;

	map_at(r.mm, BASE, 4, RW);
	assert_int_equal(do_mbind(r.mm, BASE, len, 1, true), 0); /* no page is where it should not be */
	assert_int_equal(vma_policy(r.mm, BASE), 1);
	assert_true(poke(r.mm, BASE + PAGE_SIZE, 1));
	assert_int_equal(do_mbind(r.mm, BASE, len, 2, true), -EIO);
	assert_int_equal(vma_policy(r.mm, BASE), 1);
	assert_int_equal(do_mbind(r.mm, BASE, len, 2, false), 0);
	assert_int_equal(do_mbind(r.mm, BASE, 2 * len, 1, true), -EFAULT); /* the hole is seen before the page */
	assert_int_equal(do_mbind(r.mm, BASE, 2 * len, 0, false), 0);
	assert_int_equal(vma_policy(r.mm, BASE), 0);
	assert_int_equal(vma_policy(r.mm, BASE + len), -EFAULT);
	rig_free(&r);
}

/* ---- rmap ---- */
static bool count_visit(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	u32 page = (u32)(pte_pfn(pte_read(slot)) - folio_pfn(vma->vm_mm->q, folio));

	assert_int_equal(vma_address(vma, folio, page), addr);
	++*(unsigned *)arg;
	return true;
}

static void check_rmap(struct mm_struct *mm, u64 addr, unsigned want)
{
	struct quire *q = mm->q;
	unsigned seen = 0;
	struct folio *folio;
	pte_t *slot;

	slot = pte_lookup(mm, addr);
	assert_non_null(slot);
	folio = pfn_folio(q, pte_pfn(pte_read(slot)));
	spin_lock(&q->lock);
	assert_int_equal(rmap_walk(q, folio, count_visit, &seen, RMAP_MAY_CYCLE), RMAP_DONE);
	assert_int_equal(folio->f.mapcount, want);
	spin_unlock(&q->lock);
	assert_int_equal(seen, want);
}

static void test_rmap(void **state)
{
	struct rig r = rig_new(NULL);
	struct mm_struct *kids[20];
	u64 addr = BASE + PAGE_SIZE, moved = BASE + 64 * PAGE_SIZE;

	map_at(r.mm, BASE, 4, RW);
	assert_true(poke(r.mm, addr, 5));
	check_rmap(r.mm, addr, 1);
	for (unsigned i = 0; i < 20; i++) {
		kids[i] = dup_mm(r.mm);
		assert_false(IS_ERR(kids[i]));
		if (i % 2) /* half of them move it elsewhere */
			assert_int_equal(do_mremap(kids[i], BASE, 4 * PAGE_SIZE, 4 * PAGE_SIZE,
						   MREMAP_MAYMOVE | MREMAP_FIXED, moved),
					 moved);
		assert_true(mm_is_valid(kids[i]));
	}
	check_rmap(r.mm, addr, 21);
	assert_int_equal(peek(kids[1], moved + PAGE_SIZE), 5);
	assert_int_equal(kids[1]->nr_moved_vmas, 1);
	assert_int_equal(do_munmap(kids[0], BASE, 4 * PAGE_SIZE), 0);
	assert_true(poke(kids[1], moved + PAGE_SIZE, 6));
	check_rmap(r.mm, addr, 19);
	check_rmap(kids[1], moved + PAGE_SIZE, 1);
	assert_int_equal(peek(r.mm, addr), 5);
	for (unsigned i = 0; i < 20; i++)
		mmput(kids[i]);
	check_rmap(r.mm, addr, 1);
	rig_free(&r);
}

/* A large folio: parts of it are unmapped, moved and shared. */
static void test_large_folio(void **state)
{
	struct rig r = rig_new(&(struct sim_config){.folio_max_order = 4});
	struct mm_struct *kid;
	u64 part = BASE + 5 * PAGE_SIZE, moved = BASE + (1 << 20);

	map_at(r.mm, BASE, 64, RW);
	for (u64 i = 0; i < 64; i++)
		assert_true(poke(r.mm, BASE + i * PAGE_SIZE, (u8)i));
	assert_int_equal(get_mm_rss(r.mm), 64);
	assert_int_equal(do_mremap(r.mm, part, 3 * PAGE_SIZE, 3 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, moved),
			 moved);
	assert_int_equal(peek(r.mm, moved), 5);
	assert_true(mm_is_valid(r.mm));
	kid = dup_mm(r.mm);
	assert_int_equal(do_madvise(r.mm, BASE + 20 * PAGE_SIZE, 8 * PAGE_SIZE, MADV_DONTNEED), 0);
	assert_int_equal(peek(r.mm, BASE + 20 * PAGE_SIZE), 0);
	assert_int_equal(peek(kid, BASE + 20 * PAGE_SIZE), 20);
	assert_true(mm_is_valid(r.mm) && mm_is_valid(kid));
	mmput(kid);
	rig_free(&r);
}

/* ---- out of memory at every place ---- */

/* A life of an address space that uses every call.  Returns after the first -ENOMEM, which is no failure of the
 * test. */
static long life(struct quire *q, struct mm_struct **mmp, struct mm_struct **kid)
{
	struct mm_struct *mm = *mmp = mm_alloc(q, &guest_abi_x86_64);
	u64 shm;
	long ret;

	*kid = NULL;
	if (!mm)
		return -ENOMEM;
#define TRY(call)                                                                                                      \
	do {                                                                                                           \
		ret = (long)(call);                                                                                    \
		if (IS_ERR(ret))                                                                                       \
			return ret;                                                                                    \
	} while (0)
	TRY(map_at(mm, BASE, 40, RW));
	TRY(map_at(mm, BASE + 10 * PAGE_SIZE, 10, PROT_READ));
	for (u64 i = 0; i < 40; i += 3)
		if (i / 10 != 1 && !poke(mm, BASE + i * PAGE_SIZE, 1))
			return -ENOMEM;
	TRY(do_mmap(mm, NULL, 0, 8 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, 0));
	shm = (u64)ret;
	TRY(do_mprotect(mm, BASE + 5 * PAGE_SIZE, 20 * PAGE_SIZE, RW));
	TRY(do_madvise(mm, BASE + 30 * PAGE_SIZE, 3 * PAGE_SIZE, MADV_GUARD_INSTALL));
	*kid = dup_mm(mm);
	if (IS_ERR(*kid)) {
		ret = PTR_ERR(*kid);
		*kid = NULL;
		return ret;
	}
	TRY(do_mremap(mm, BASE, 20 * PAGE_SIZE, 20 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + (1ull << 40)));
	TRY(do_mremap(*kid, BASE, 4 * PAGE_SIZE, 100 * PAGE_SIZE, MREMAP_MAYMOVE, 0));
	TRY(do_mlock(mm, BASE + 20 * PAGE_SIZE, 5 * PAGE_SIZE, 0));
	TRY(do_munmap(mm, shm + PAGE_SIZE, PAGE_SIZE));
	TRY(do_munmap(mm, BASE + 25 * PAGE_SIZE, PAGE_SIZE));
	TRY(do_brk(mm, 0));
#undef TRY
	return 0;
}

static bool allowed_failure(long ret)
{
	return ret == -ENOMEM || ret == -EAGAIN; /* mlock and madvise say EAGAIN */
}

static void one_life(struct quire *q, const char *what, u64 n)
{
	struct mm_struct *mm, *kid;
	long ret = life(q, &mm, &kid);

	sim_fail_none(q);
	if (ret && !allowed_failure(ret))
		fail_msg("%s %llu: error %ld", what, (unsigned long long)n, ret);
	if (mm) {
		assert_true(mm_is_valid(mm));
		mmput(mm);
	}
	if (kid) {
		assert_true(mm_is_valid(kid));
		mmput(kid);
	}
	assert_clean(q);
}

static void sweep(void (*plan)(struct quire *, u64, u64), const char *what)
{
	struct quire *q = sim_machine_new(&(struct sim_config){.memory = 16 << 20, .break_percent = 30});
	u64 total;

	one_life(q, "warm-up", 0);
	sim_fail_none(q);
	one_life(q, "count", 0);
	sim_fail_nth(q, SIM_FAIL_MEMORY, 0);
	life(q, &(struct mm_struct *){NULL}, &(struct mm_struct *){NULL});
	total = sim_fail_count(q);
	assert_true(total > 30);
	while (q->mms)
		mmput(q->mms);
	for (u64 n = 1; n <= total + 1; n++) {
		plan(q, SIM_FAIL_MEMORY, n);
		one_life(q, what, n);
	}
	sim_machine_free(q);
}

static void test_failure_sweep(void **state)
{
	sweep(sim_fail_nth, "one failure at");
	sweep(sim_fail_from, "all failures from");
}

/* ---- several threads ---- */
#define THREADS 4u
#define AREA_PAGES 256u
#define STEPS 1500u

static u64 next_random(u64 *s)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return *s >> 33;
}

/* Each thread owns an area and knows one byte per page of it; all of them also tear at a shared one. */
static void hammer(struct quire *q, unsigned i, void *arg)
{
	struct mm_struct *mm = arg;
	u64 base = BASE + (u64)(i + 1) * AREA_PAGES * PAGE_SIZE, s = sim_seed(9) + i;
	u8 know[AREA_PAGES] = {0};

	(void)q;
	for (unsigned step = 0; step < STEPS; step++) {
		u64 page = next_random(&s) % AREA_PAGES, want = 1 + next_random(&s) % 8,
		    n = MIN(want, AREA_PAGES - page);
		u64 addr = base + page * PAGE_SIZE, any = BASE + page * PAGE_SIZE;

		switch (next_random(&s) % 8) {
		case 0:
			map_at(mm, addr, n, RW);
			memset(know + page, 0, n);
			break;
		case 1:
			do_mprotect(mm, addr, n * PAGE_SIZE, PROT_READ);
			do_mprotect(mm, addr, n * PAGE_SIZE, RW);
			break;
		case 2: map_at(mm, any, n, RW); break;
		case 3: do_munmap(mm, any, n * PAGE_SIZE); break;
		case 4: poke(mm, any, 1); break;
		default:
			if (poke(mm, addr, (u8)step))
				know[page] = (u8)step;
			assert_int_equal(peek(mm, addr) == -1 ? know[page] : peek(mm, addr), know[page]);
			break;
		}
	}
}

static void run_threads(enum sim_sched sched, enum sim_tlb_mode tlb)
{
	struct rig r = rig_new(&(struct sim_config){.memory = 128 << 20,
						    .nr_cpus = THREADS,
						    .sched = sched,
						    .tlb = tlb,
						    .break_percent = 10,
						    .check_reuse = true,
						    .seed = 5});

	sim_run(r.q, THREADS, hammer, r.mm);
	rig_free(&r);
}

static void test_threads(void **state)
{
	run_threads(SIM_SCHED_THREADS, SIM_TLB_NORMAL);
	run_threads(SIM_SCHED_ONE, SIM_TLB_STRICT);
}

/* Reclaim gets on, but others take what comes back, a hundred times. */
static unsigned rounds_until_memory;
static u64 others_are_faster(struct quire *q, gfp_t gfp, unsigned order)
{
	(void)gfp;
	(void)order;
	if (rounds_until_memory && --rounds_until_memory == 0)
		sim_fail_none(q);
	return 1;
}

static void test_progress_is_worth_waiting(void **state)
{
	struct rig r = rig_new(NULL);

	(void)state;
	r.q->hooks.try_to_free_pages = others_are_faster;
	rounds_until_memory = 100;
	sim_fail_from(r.q, SIM_FAIL_MEMORY, 1);
	assert_int_equal(map_at(r.mm, BASE, 1, RW), BASE);
	assert_int_equal(rounds_until_memory, 0);
	/* But not for ever. */
	rounds_until_memory = 0;
	kmem_reap(r.q);
	sim_fail_from(r.q, SIM_FAIL_MEMORY, 1);
	for (u64 i = 0; map_at(r.mm, BASE + 4 * i * PAGE_SIZE, 1, RW) > 0; i++)
		assert_true(i < 10000);
	sim_fail_none(r.q);
	r.q->hooks.try_to_free_pages = NULL;
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rlimits),       cmocka_unit_test(test_overcommit),
		cmocka_unit_test(test_max_map_count), cmocka_unit_test(test_brk),
		cmocka_unit_test(test_stack),         cmocka_unit_test(test_stack_asks_for_room),
		cmocka_unit_test(test_mbind),         cmocka_unit_test(test_rmap),
		cmocka_unit_test(test_large_folio),   cmocka_unit_test(test_failure_sweep),
		cmocka_unit_test(test_threads),       cmocka_unit_test(test_progress_is_worth_waiting),
		cmocka_unit_test(test_sealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
