/*
 * The walk in words: each level's index, place and descriptor as they stand in memory, and what the last one leads to.
 */
#include "../task/memfile_test.h"
#include <mm/mm.h>
#include "proc.h"

#define BASE 0x12345678000ull /* another index at every level */
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)

static char text[8192];

static struct mm_struct *mapped(struct quire *q, u64 addr, u64 pages)
{
	struct mm_struct *mm = mm_alloc(q, &guest_abi_arm64);

	assert_int_equal(do_mmap(mm, NULL, addr, pages * PAGE_SIZE, RW, ANON, 0), (long)addr);
	return mm;
}

static void touch(struct mm_struct *mm, u64 addr, bool write)
{
	u32 esr = esr_make(ESR_EC_DABT_LOW, write, FSC_TRANSLATION + 3);
	struct fault_info info;

	assert_int_equal(do_mem_abort(mm, addr, esr, &info), FAULT_OK);
}

static const char *translate(struct mm_struct *mm, u64 addr)
{
	struct fmt_buf b = fmt_init(text, sizeof(text));

	proc_translate(mm->q, mm, addr, &b);
	assert_false(fmt_truncated(&b));
	return text;
}

static void has(const char *what)
{
	if (!strstr(text, what))
		fail_msg("no '%s' in:\n%s", what, text);
}

/* Every level that is told agrees with what stands in the machine's memory.  Returns the number of levels. */
static int check_levels(struct mm_struct *mm, u64 addr)
{
	const char *at = text;
	int level, n = 0;

	for (; (at = strstr(at, "level ")); n++) {
		unsigned index;
		unsigned long slot, entry;

		assert_int_equal(sscanf(at, "level %d  index %u  at 0x%lx  0x%lx", &level, &index, &slot, &entry), 4);
		assert_int_equal(level, n);
		assert_int_equal(index, pt_index(addr, level));
		assert_int_equal(slot & (PAGE_SIZE - 1), index * 8);
		assert_int_equal(*(u64 *)((u8 *)mm->q->cfg.direct_map + slot), entry);
		at++;
	}
	return n;
}

static void test_nothing(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = mm_alloc(q, &guest_abi_arm64);

	translate(mm, BASE);
	has("vma      none\n");
	has("physical none: a touch is SIGSEGV\n");
	mmput(mm);
	sim_machine_free(q);
}

static void test_page(void **state)
{
	struct sim_config cfg = { .memory = 64 << 20, .folio_max_order = 0 };
	struct quire *q = sim_machine_new(&cfg);
	struct mm_struct *mm = mapped(q, BASE, 2);
	unsigned long physical;
	char line[64];
	const char *at;

	touch(mm, BASE, true);
	translate(mm, BASE + 0x123);
	assert_int_equal(check_levels(mm, BASE), 4);
	has("vma      12345678000-1234567a000 rw-p 00000000 00:00 0 \n");
	has("user, read/write, UXN, AF, nG, PXN, normal memory, inner shareable; software: dirty, exclusive\n");
	has(": anonymous, refcount 1, mapcount 1, flags ");
	at = strstr(text, "physical 0x");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "physical 0x%lx", &physical), 1);
	assert_int_equal(physical, ((u64)pte_pfn(pte_read(pte_lookup(mm, BASE))) << PAGE_SHIFT) + 0x123);
	snprintf(line, sizeof(line), "frame    %lu: ", physical >> PAGE_SHIFT);
	has(line);
	translate(mm, BASE + PAGE_SIZE);
	assert_int_equal(check_levels(mm, BASE + PAGE_SIZE), 4);
	has("  nothing\nphysical none: a touch faults\n");
	mmput(mm);
	sim_machine_free(q);
}

static void test_zero_page_and_fork(void **state)
{
	struct sim_config cfg = { .memory = 64 << 20, .folio_max_order = 0 };
	struct quire *q = sim_machine_new(&cfg);
	struct mm_struct *mm = mapped(q, BASE, 2), *child;

	touch(mm, BASE, false);
	touch(mm, BASE + PAGE_SIZE, true);
	translate(mm, BASE);
	has("special");
	has("reserved (the zero page)");
	child = dup_mm(mm);
	assert_false(IS_ERR(child));
	translate(child, BASE + PAGE_SIZE);
	check_levels(child, BASE + PAGE_SIZE);
	has("user, read-only");
	has("refcount 2, mapcount 2");
	assert_null(strstr(text, "exclusive"));
	mmput(child);
	mmput(mm);
	sim_machine_free(q);
}

/* Made by hand, whatever the fault path likes to make. */
static void test_block(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = mapped(q, BASE & ~(PMD_SIZE - 1), 512);
	u64 addr = (BASE & ~(PMD_SIZE - 1)) + 0x12345;
	struct pgtable pt = { .q = q, .pgd = &mm->pgd };
	unsigned long physical;
	struct frame *f = alloc_pages(q, GFP_KERNEL, PMD_ORDER);
	char line[64];
	pte_t *slot;

	assert_non_null(f);
	spin_lock(&mm->lock);
	slot = pgtable_alloc(&pt, addr, 2);
	assert_non_null(slot);
	pgtable_set(q, slot, pte_mkblock(pfn_pte(frame_to_pfn(q, f), PAGE_READONLY_EXEC_PROT | PTE_AF)));
	spin_unlock(&mm->lock);
	translate(mm, addr);
	assert_int_equal(check_levels(mm, addr), 3);
	has("block of 2 MiB 0x");
	has(": user, read-only, executable, AF, nG, PXN, ");
	has(": kernel, refcount 1, mapcount 0, page 18 of a folio of 512");
	assert_int_equal(sscanf(strstr(text, "physical 0x"), "physical 0x%lx", &physical), 1);
	assert_int_equal(physical, ((u64)frame_to_pfn(q, f) << PAGE_SHIFT) + 0x12345);
	snprintf(line, sizeof(line), "frame    %u: ", frame_to_pfn(q, f) + 18);
	has(line);
	spin_lock(&mm->lock);
	pgtable_set(q, slot, __pte(0));
	spin_unlock(&mm->lock);
	__free_pages(q, f, PMD_ORDER);
	mmput(mm);
	sim_machine_free(q);
}

static void test_guard(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = mapped(q, BASE, 4);

	assert_int_equal(do_madvise(mm, BASE, PAGE_SIZE, 102 /* MADV_GUARD_INSTALL */), 0);
	translate(mm, BASE);
	has("guard: no access\n");
	mmput(mm);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing), cmocka_unit_test(test_page), cmocka_unit_test(test_zero_page_and_fork),
		cmocka_unit_test(test_block), cmocka_unit_test(test_guard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
