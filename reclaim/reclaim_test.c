/*
 * Reclaim: page cache larger than memory, second chances, dirty pages, tokens.
 */
#include "../task/memfile_test.h"
#include <file/filemap.h>
#include <mm/mm.h>
#include "reclaim.h"

#define BASE 0x10000000ull
#define RW (PROT_READ | PROT_WRITE)

/* Every word of a test file says where it is. */
static struct file *pattern_file(struct quire *q, u64 ino, size_t bytes)
{
	u64 *data = malloc(bytes);

	for (size_t i = 0; i < bytes / 8; i++)
		data[i] = (ino << 48) + i;
	return memfile_new(q, ino, "/data/pattern", data, bytes);
}

static struct mm_struct *map_file(struct quire *q, struct file *f, size_t bytes, u64 flags)
{
	struct mm_struct *mm = mm_alloc(q, &guest_abi_x86_64);

	f->mode |= FMODE_WRITE;
	assert_int_equal(do_mmap(mm, f, BASE, bytes, RW, flags | MAP_FIXED, 0), (long)BASE);
	return mm;
}

static u64 get(struct mm_struct *mm, u64 addr)
{
	u64 v = 0;

	assert_int_equal(access_process_vm(mm, addr, &v, sizeof(v), false), sizeof(v));
	return v;
}

static void put(struct mm_struct *mm, u64 addr, u64 v)
{
	assert_int_equal(access_process_vm(mm, addr, &v, sizeof(v), true), sizeof(v));
}

static void touch_all(struct mm_struct *mm, u64 ino, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		assert_int_equal(get(mm, BASE + at), (ino << 48) + at / 8);
}

/* ---- page cache ---- */

static void test_unmapped_cache_goes_entirely(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct file *f = pattern_file(q, 1, 4 << 20);
	u64 buf[512], freed;

	for (u64 at = 0; at < 4 << 20; at += PAGE_SIZE)
		assert_int_equal(filemap_read(f->mapping, at, buf, PAGE_SIZE), PAGE_SIZE);
	assert_int_equal(q->nr_file_pages, 1024);
	for (freed = 0; freed < 1024;) {
		u64 n = try_to_free_pages(q, GFP_KERNEL, 0);

		assert_true(n > 0);
		freed += n;
	}
	/* Slabs may have come back as well. */
	while (try_to_free_pages(q, GFP_KERNEL, 0))
		;
	assert_int_equal(q->nr_file_pages, 0);
	assert_int_equal(filemap_read(f->mapping, 0, buf, PAGE_SIZE), PAGE_SIZE);
	assert_int_equal(buf[5], (1ull << 48) + 5);
	file_put(f);
	sim_machine_free(q);
}

static void test_mapped_cache_is_unmapped(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q);
	struct file *f = pattern_file(q, 2, 2 << 20);
	struct mm_struct *a = map_file(q, f, 2 << 20, MAP_SHARED), *b = dup_mm(a);

	assert_false(IS_ERR(b));
	touch_all(a, 2, 2 << 20);
	touch_all(b, 2, 2 << 20);
	assert_int_equal(a->rss[MM_FILEPAGES], 512);
	while (try_to_free_pages(q, GFP_KERNEL, 0))
		;
	assert_int_equal(q->nr_file_pages, 0);
	assert_int_equal(q->nr_file_mapped, 0);
	assert_int_equal(a->rss[MM_FILEPAGES], 0);
	assert_int_equal(b->rss[MM_FILEPAGES], 0);
	assert_true(mm_is_valid(a) && mm_is_valid(b));
	touch_all(a, 2, 2 << 20);
	mmput(a);
	mmput(b);
	file_put(f);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

/* Used pages outlive unused ones by at least one pass. */
static void test_second_chance(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct file *hot = pattern_file(q, 3, 64 * PAGE_SIZE), *cold = pattern_file(q, 4, 4 << 20);
	u64 buf[512], hot_left = 0;

	for (int round = 0; round < 2; round++) {
		for (u64 at = 0; at < 64 * PAGE_SIZE; at += PAGE_SIZE)
			filemap_read(hot->mapping, at, buf, PAGE_SIZE);
	}
	for (u64 at = 0; at < 4 << 20; at += PAGE_SIZE)
		filemap_read(cold->mapping, at, buf, PAGE_SIZE);
	for (u64 freed = 0; freed < 800;)
		freed += try_to_free_pages(q, GFP_KERNEL, 0);
	hot_left = hot->mapping->nrpages;
	print_message("hot %lu of 64, cold %lu of 1024 left\n", (unsigned long)hot_left, (unsigned long)cold->mapping->nrpages);
	assert_true(hot_left >= 60);
	file_put(hot);
	file_put(cold);
	sim_machine_free(q);
}

/* A file four times as large as memory, read and then written through a mapping. */
static void test_file_larger_than_memory(void **state)
{
	struct sim_config cfg = { .memory = 8 << 20, .break_percent = 5 };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q);
	size_t bytes = 32 << 20;
	struct file *f = pattern_file(q, 5, bytes);
	struct mm_struct *mm = map_file(q, f, bytes, MAP_SHARED);
	u64 *data = (void *)((struct memfile *)f->mapping->port_private)->data;

	touch_all(mm, 5, bytes);
	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		put(mm, BASE + at + 16, at ^ 0x5555);
	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		assert_int_equal(get(mm, BASE + at + 16), at ^ 0x5555);
	assert_true(mm_is_valid(mm));
	mmput(mm);
	assert_int_equal(filemap_sync(f->mapping, 0, ~0ull, true), 0);
	for (size_t at = 0; at < bytes; at += PAGE_SIZE) {
		assert_int_equal(data[(at + 16) / 8], at ^ 0x5555);
		assert_int_equal(data[(at + 8) / 8], (5ull << 48) + (at + 8) / 8);
	}
	assert_true(q->vm_events[PGSTEAL_DIRECT] > 2 * bytes / PAGE_SIZE);
	file_put(f);
	leak_assert_none(q, before);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

/* Tokens hold no bytes: they go whether dirty or not, and what was written is the host's at once. */
static void test_tokens_larger_than_memory(void **state)
{
	struct sim_config cfg = { .memory = 8 << 20, .host_files = true };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q);
	size_t bytes = 32 << 20;
	struct file *f = pattern_file(q, 9, bytes);
	struct mm_struct *mm = map_file(q, f, bytes, MAP_SHARED), *cow = map_file(q, f, bytes, MAP_PRIVATE | MAP_NORESERVE);

	assert_true(f->mapping->flags & AS_TOKEN);
	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		put(mm, BASE + at + 16, at ^ 0x7777);
	for (size_t at = 0; at < 1 << 20; at += PAGE_SIZE)
		put(cow, BASE + at + 24, at ^ 0x8888);
	for (size_t at = 0; at < bytes; at += PAGE_SIZE) {
		assert_int_equal(get(cow, BASE + at + 16), at ^ 0x7777);
		assert_int_equal(get(cow, BASE + at + 24), at < 1 << 20 ? at ^ 0x8888 : (9ull << 48) + (at + 24) / 8);
		assert_int_equal(get(mm, BASE + at + 24), (9ull << 48) + (at + 24) / 8);
	}
	assert_true(q->vm_events[PGSTEAL_FILE] > bytes / PAGE_SIZE);
	assert_true(mm_is_valid(mm) && mm_is_valid(cow));
	mmput(mm);
	mmput(cow);
	file_put(f);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

static void test_reclaim_with_failing_writes(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	size_t bytes = 2 << 20;
	struct file *f = pattern_file(q, 6, bytes);
	struct mm_struct *mm = map_file(q, f, bytes, MAP_SHARED);

	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		put(mm, BASE + at, ~at);
	sim_fail_from(q, BIT(FAIL_IO), 1);
	try_to_free_pages(q, GFP_KERNEL, 0);
	sim_fail_none(q);
	/* Nothing that could not be written was dropped. */
	for (size_t at = 0; at < bytes; at += PAGE_SIZE)
		assert_int_equal(get(mm, BASE + at), ~at);
	mmput(mm);
	file_put(f);
	sim_machine_free(q);
}

static void test_cold_and_pageout(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .break_percent = 20 };
	struct quire *q = sim_machine_new(&cfg);
	size_t bytes = 1 << 20;
	struct file *f = pattern_file(q, 8, bytes);
	struct mm_struct *mm = map_file(q, f, bytes, MAP_SHARED);

	touch_all(mm, 8, bytes);
	put(mm, BASE + 4096, 4242);
	madvise_cold(mm, BASE, BASE + bytes, false);
	assert_int_equal(mm->rss[MM_FILEPAGES], 256);
	assert_int_equal(q->nr_lru_pages[LRU_ACTIVE_FILE], 0);
	madvise_cold(mm, BASE, BASE + bytes / 2, true);
	assert_int_equal(mm->rss[MM_FILEPAGES], 128);
	assert_int_equal(f->mapping->nrpages, 128);
	assert_true(mm_is_valid(mm));
	assert_int_equal(get(mm, BASE + 4096), 4242);
	assert_int_equal(get(mm, BASE + 8192), (8ull << 48) + 1024);
	mmput(mm);
	file_put(f);
	sim_machine_free(q);
}

/* MADV_PAGEOUT takes anonymous pages away, too, without swap, if nobody would miss them. */
static void test_pageout_of_droppable(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 16 << 20, .break_percent = 20 });
	struct mm_struct *mm = mm_alloc(q, &guest_abi_x86_64);
	u64 other = BASE + (1 << 20), bytes = 8 * PAGE_SIZE;

	assert_int_equal(do_mmap(mm, NULL, BASE, bytes, RW, MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED, 0), (long)BASE);
	assert_int_equal(do_mmap(mm, NULL, other, bytes, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0), (long)other);
	for (u64 at = 0; at < bytes; at += PAGE_SIZE) {
		put(mm, BASE + at, 1);
		put(mm, other + at, 2);
	}
	assert_int_equal(do_madvise(mm, BASE, bytes, MADV_PAGEOUT), 0);
	assert_int_equal(mm->rss[MM_ANONPAGES], 8);
	assert_int_equal(get(mm, BASE), 0);
	assert_int_equal(do_madvise(mm, other, bytes, MADV_PAGEOUT), 0);
	assert_int_equal(mm->rss[MM_ANONPAGES], 8); /* these are kept: there is no swap */
	assert_int_equal(do_madvise(mm, other, bytes, MADV_FREE), 0);
	put(mm, other + PAGE_SIZE, 3);
	assert_int_equal(do_madvise(mm, other, bytes, MADV_PAGEOUT), 0);
	assert_int_equal(mm->rss[MM_ANONPAGES], 1); /* thrown away, but for the one that was written since */
	assert_int_equal(get(mm, other), 0);
	assert_int_equal(get(mm, other + PAGE_SIZE), 3);
	assert_true(mm_is_valid(mm));
	mmput(mm);
	sim_machine_free(q);
}

/* ---- several threads under pressure ---- */

struct stress {
	struct mm_struct *mm[4];
	size_t bytes;
	u64 seed;
};

static void stress_thread(struct quire *q, unsigned i, void *arg)
{
	struct stress *s = arg;
	u64 r = s->seed * 31 + i + 1;

	for (int n = 0; n < 3000; n++) {
		u64 page;

		r = r * 6364136223846793005ull + 1442695040888963407ull;
		page = (r >> 33) % (s->bytes / PAGE_SIZE);
		if (get(s->mm[i], BASE + page * PAGE_SIZE) != (7ull << 48) + page * 512)
			abort();
	}
}

static void run_stress(enum sim_sched sched, enum sim_tlb_mode tlb)
{
	struct sim_config cfg = { .memory = 4 << 20, .sched = sched, .tlb = tlb, .check_reuse = true, .nr_cpus = 4, .seed = sim_seed(5) };
	struct quire *q = sim_machine_new(&cfg);
	struct stress s = { .bytes = 8 << 20, .seed = cfg.seed };
	struct file *f = pattern_file(q, 7, s.bytes);

	for (int i = 0; i < 4; i++)
		s.mm[i] = map_file(q, f, s.bytes, MAP_SHARED);
	sim_run(q, 4, stress_thread, &s);
	for (int i = 0; i < 4; i++) {
		assert_true(mm_is_valid(s.mm[i]));
		mmput(s.mm[i]);
	}
	file_put(f);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

static void test_stress(void **state)
{
	run_stress(SIM_SCHED_ONE, SIM_TLB_NORMAL);
	run_stress(SIM_SCHED_ONE, SIM_TLB_HOSTED);
	run_stress(SIM_SCHED_THREADS, SIM_TLB_NORMAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unmapped_cache_goes_entirely),
		cmocka_unit_test(test_mapped_cache_is_unmapped),
		cmocka_unit_test(test_second_chance),
		cmocka_unit_test(test_file_larger_than_memory),
		cmocka_unit_test(test_tokens_larger_than_memory),
		cmocka_unit_test(test_reclaim_with_failing_writes),
		cmocka_unit_test(test_cold_and_pageout),
		cmocka_unit_test(test_pageout_of_droppable),
		cmocka_unit_test(test_stress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
