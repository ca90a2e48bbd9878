/*
 * The codec by its truth tables, and the walker against a flat array of entries.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <port/sim/sim.h>
#include <pgtable.h>
#include <cmocka.h>

static struct quire *q;
static u64 pgd, bytes;
static struct pgtable pt;

static void test_codec(void **state)
{
	pte_t clean = pte_mkwrite(pfn_pte(0x1234, PAGE_READONLY_PROT)), dirty = pte_mkdirty(clean);

	assert_true(pte_present(clean) && pte_write(clean) && pte_rdonly(clean) && !pte_dirty(clean) &&
		    !pte_young(clean));
	assert_true(pte_dirty(dirty) && !pte_rdonly(dirty) && pte_pfn(dirty) == 0x1234);
	assert_true(pte_dirty(pte_wrprotect(dirty)) && !pte_write(pte_wrprotect(dirty)) &&
		    pte_rdonly(pte_wrprotect(dirty)));
	assert_false(pte_dirty(pte_mkclean(dirty)));
	assert_true(pte_write(pte_mkclean(dirty)));
	/* What hardware would have recorded (DBM): software keeps it. */
	assert_true(pte_dirty(__pte(clean.v & ~PTE_RDONLY)));
	assert_true(pte_wrprotect(__pte(clean.v & ~PTE_RDONLY)).v & PTE_DIRTY);
	assert_true(pte_dirty(pte_modify(dirty, PAGE_READONLY_PROT)) &&
		    !pte_write(pte_modify(dirty, PAGE_READONLY_PROT)));
	assert_true(pte_dirty(pte_modify(dirty, PAGE_SHARED_PROT)) && !pte_rdonly(pte_modify(dirty, PAGE_SHARED_PROT)));
	assert_false(pte_user(pte_modify(dirty, PAGE_NONE_PROT)));
	assert_true(pte_exec(pfn_pte(1, PAGE_READONLY_EXEC_PROT)) && !pte_exec(clean));
	assert_true(pte_block(pte_mkblock(clean)) && pte_table(pte_mktable(7)));
}

static void test_nonpresent(void **state)
{
	for (unsigned type = 0; type < MAX_SWAPFILES; type++) {
		u64 off = 0x3123456789abcull + type;
		pte_t p = swp_entry_to_pte(swp_entry(type, off), type & 1);

		assert_true(!pte_present(p) && pte_is_swap(p) && !pte_none(p) && !pte_is_guard(p));
		assert_int_equal(swp_type(pte_to_swp_entry(p)), type);
		assert_int_equal(swp_offset(pte_to_swp_entry(p)), off);
		assert_int_equal(pte_swp_excl(p), type & 1);
		assert_false(pte_swp_excl(pte_swp_clear_excl(p)));
	}
	assert_true(pte_is_guard(pte_mkguard()) && !pte_present(pte_mkguard()));
	assert_true(pte_is_migration(pte_mkmigration(pfn_pte(0xabcde, PAGE_SHARED_PROT))));
	assert_int_equal(pte_migration_pfn(pte_mkmigration(pfn_pte(0xabcde, PAGE_SHARED_PROT))), 0xabcde);
}

/* ---- the walker ---- */
#define NR_ADDRS 400u
static u64 addrs[NR_ADDRS]; /* ascending */
static u64 values[NR_ADDRS];

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void pick_addrs(void)
{
	srand((unsigned)sim_seed(7));
	for (unsigned i = 0; i < NR_ADDRS; i++) {
		u64 base = (u64[]){0, 0x7fff00000000, 0x123456000000, 0xffff00000000}[rand() % 4];

		addrs[i] = base + ((u64)(rand() % 5000) << PAGE_SHIFT);
	}
	qsort(addrs, NR_ADDRS, sizeof(addrs[0]), by_value);
	for (unsigned i = 1; i < NR_ADDRS; i++)
		if (addrs[i] <= addrs[i - 1])
			addrs[i] = addrs[i - 1] + PAGE_SIZE;
}

static void check_range(u64 start, u64 end)
{
	struct pt_iter it;
	unsigned i = 0;

	pt_iter_init(&it, q, pgd, start, end);
	while (pt_iter_next(&it)) {
		while (addrs[i] < start || !values[i])
			assert_true(++i < NR_ADDRS);
		assert_int_equal(it.addr, addrs[i]);
		assert_int_equal(pte_read(it.slot).v, values[i]);
		i++;
	}
	while (i < NR_ADDRS && (addrs[i] < start || !values[i]))
		i++;
	assert_true(i == NR_ADDRS || addrs[i] >= end);
}

static void free_empty(u64 start, u64 end)
{
	struct frame *f;

	while ((f = pgtable_take_empty(&pt, &start, end)))
		__free_pages(q, f, 0);
}

static void test_walker(void **state)
{
	pick_addrs();
	for (unsigned round = 0; round < 4000; round++) {
		unsigned i = (unsigned)rand() % NR_ADDRS;
		pte_t *slot = pgtable_alloc(&pt, addrs[i], PT_LAST_LEVEL);

		assert_non_null(slot);
		assert_ptr_equal(slot, pgtable_pte(q, pgd, addrs[i]));
		values[i] = rand() % 3 ? ((u64)rand() << 12 | 3) : 0;
		pgtable_set(q, slot, __pte(values[i]));
		if (round % 50 == 0) {
			u64 start = addrs[rand() % NR_ADDRS], end = addrs[rand() % NR_ADDRS];

			check_range(start, end);
			check_range(0, 1ull << 48);
			assert_true(pgtable_is_valid(&pt, true));
		}
		if (round % 97 == 0) {
			free_empty(0, 1ull << 48);
			assert_true(pgtable_is_valid(&pt, false));
		}
	}
	for (unsigned i = 0; i < NR_ADDRS; i++)
		if (pgtable_pte(q, pgd, addrs[i]))
			pgtable_set(q, pgtable_pte(q, pgd, addrs[i]), __pte(0));
	free_empty(0, 1ull << 48);
	assert_int_equal(bytes, 0);
	__free_pages(q, pgtable_take_root(&pt), 0);
	assert_int_equal(q->nr_pagetable_pages, 0);
}

static void test_blocks(void **state)
{
	u64 at = 0x40000000;
	pte_t *slot = pgtable_alloc(&pt, at, 2);
	pte_t block = pte_mkblock(pte_mkyoung(pfn_pte(0x200, PAGE_SHARED_PROT)));
	struct pt_iter it;
	int level;

	pgtable_set(q, slot, block);
	assert_null(pgtable_pte(q, pgd, at));
	assert_null(pgtable_alloc(&pt, at, PT_LAST_LEVEL));
	assert_ptr_equal(pgtable_lookup(q, pgd, at + 5 * PAGE_SIZE, &level), slot);
	pt_iter_init(&it, q, pgd, at + 3 * PAGE_SIZE, at + (1 << 22));
	assert_true(pt_iter_next(&it) && it.level == 2 && it.addr == at + 3 * PAGE_SIZE);
	assert_false(pt_iter_next(&it));
	assert_int_equal(pgtable_split_block(&pt, at), 0);
	assert_int_equal(pte_pfn(pte_read(pgtable_pte(q, pgd, at + 5 * PAGE_SIZE))), 0x205);
	assert_true(pte_young(pte_read(pgtable_pte(q, pgd, at))));
	assert_true(pgtable_is_valid(&pt, false));
	for (u64 a = at; a < at + PMD_SIZE; a += PAGE_SIZE)
		pgtable_set(q, pgtable_pte(q, pgd, a), __pte(0));
	free_empty(0, 1ull << 48);
	__free_pages(q, pgtable_take_root(&pt), 0);
}

/* Every allocation on the way down fails once: nothing is lost, the next try succeeds. */
static void test_no_memory(void **state)
{
	for (u64 n = 1; n <= 4; n++) {
		sim_fail_nth(q, SIM_FAIL_MEMORY, n);
		assert_null(pgtable_alloc(&pt, 0x5000, PT_LAST_LEVEL));
		sim_fail_none(q);
		assert_true(pgtable_is_valid(&pt, true));
		assert_non_null(pgtable_alloc(&pt, 0x5000, PT_LAST_LEVEL));
		free_empty(0, 1ull << 48);
		__free_pages(q, pgtable_take_root(&pt), 0);
		assert_int_equal(q->nr_pagetable_pages, 0);
	}
}

static int setup(void **state)
{
	q = sim_machine_new(NULL);
	pgd = bytes = 0;
	pt = (struct pgtable){q, &pgd, &bytes};
	return 0;
}

static int teardown(void **state)
{
	sim_machine_free(q);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codec),
		cmocka_unit_test(test_nonpresent),
		cmocka_unit_test_setup_teardown(test_walker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
