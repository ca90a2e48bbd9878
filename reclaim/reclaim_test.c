/*
 * Reclaim and the OOM killer: page cache larger than memory, second chances, dirty pages, tokens; who is chosen, what the
 * report says, and that nobody waits for ever.
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

/* ---- the OOM killer ---- */

static struct task *task_with(struct quire *q, s32 pid, const char *comm, u64 pages, s32 adj)
{
	struct task *t = task_create(q, pid, 1, comm);
	struct mm_struct *mm = mm_alloc(q, &guest_abi_x86_64);

	t->oom_score_adj = adj;
	t->uid = 1000;
	task_set_mm(t, mm);
	assert_int_equal(do_mmap(mm, NULL, BASE, 64 << 20, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, 0),
			 (long)BASE);
	for (u64 i = 0; i < pages; i++)
		put(mm, BASE + i * PAGE_SIZE, i);
	return t;
}

static void test_badness(void **state)
{
	struct sim_config cfg = { .memory = 32 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *small = task_with(q, 10, "small", 100, 0), *big = task_with(q, 11, "big", 1000, 0);
	struct task *spared = task_with(q, 12, "spared", 2000, -1000), *offered = task_with(q, 13, "offered", 200, 500);
	struct task *chosen;
	long points, tables = (long)(big->mm->pgtables_bytes / PAGE_SIZE), total = (long)totalram_pages(q);

	assert_int_equal(oom_badness(q, big), 1000 + tables);
	assert_int_equal(oom_badness(q, small), 100 + (long)(small->mm->pgtables_bytes / PAGE_SIZE));
	assert_int_equal(oom_badness(q, spared), LONG_MIN);
	assert_int_equal(oom_badness(q, offered), 200 + (long)(offered->mm->pgtables_bytes / PAGE_SIZE) + 500 * (total / 1000));
	chosen = select_bad_process(q, &points);
	assert_ptr_equal(chosen, offered);
	task_put(chosen);
	offered->oom_score_adj = 0;
	chosen = select_bad_process(q, &points);
	assert_ptr_equal(chosen, big);
	assert_int_equal(points, 1000 + tables);
	task_put(chosen);
	task_exit(small);
	task_exit(big);
	task_exit(offered);
	assert_null(select_bad_process(q, &points));
	task_exit(spared);
	sim_machine_free(q);
}

/* Takes memory until none is left for GFP_KERNEL; nobody is asked to die for it. */
static unsigned long hog(struct quire *q, struct frame **list, unsigned long max)
{
	unsigned long n = 0;

	while (n < max && (list[n] = alloc_page(q, (GFP_KERNEL | __GFP_NORETRY) & ~__GFP_DIRECT_RECLAIM)))
		n++;
	return n;
}

static void test_report_and_kill(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *self = task_with(q, 20, "asker", 50, 0), *victim = task_with(q, 21, "hungry", 1500, 0);
	struct frame **list = calloc(8192, sizeof(*list));
	unsigned long n = hog(q, list, 8192);
	const char *log;
	char want[200];

	port_ctx()->task = self;
	sim_log_clear(q);
	assert_int_equal(out_of_memory(q, GFP_HIGHUSER_MOVABLE, 0), 0);
	assert_int_equal(sim_signals_sent(q, 21, 9), 1);
	assert_int_equal(sim_signals_sent(q, 20, 0), 0);
	log = sim_log_text(q);
	assert_non_null(strstr(log, "asker invoked oom-killer: gfp_mask=0x"));
	assert_non_null(strstr(log, "order=0, oom_score_adj=0"));
	assert_non_null(strstr(log, "Mem-Info:"));
	assert_non_null(strstr(log, "Tasks state (memory values in pages):\n"));
	assert_non_null(strstr(log, "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents "
				    "oom_score_adj name\n"));
	snprintf(want, sizeof(want), "[     21]  1000    21    16384     1500     1500        0         0 %8lu        0"
				     "             0 hungry\n", (unsigned long)victim->mm->pgtables_bytes);
	assert_non_null(strstr(log, want));
	assert_non_null(strstr(log, "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
				    "task_memcg=/,task=hungry,pid=21,uid=1000\n"));
	assert_non_null(strstr(log, "Out of memory: Killed process 21 (hungry) total-vm:65536kB, anon-rss:6000kB, file-rss:0kB, "
				    "shmem-rss:0kB, UID:1000 pgtables:"));
	assert_int_equal(q->vm_events[OOM_KILL], 1);

	/* While it is dying nobody else is killed; when it is gone there is memory. */
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), 0);
	assert_int_equal(q->vm_events[OOM_KILL], 1);
	task_exit(victim);
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), 0);
	assert_int_equal(q->vm_events[OOM_KILL], 1);
	assert_false(memory_shortage_relieved(q)); /* not short any more */

	port_ctx()->task = NULL;
	while (n)
		__free_pages(q, list[--n], 0);
	free(list);
	task_exit(self);
	sim_machine_free(q);
}

/* The asker is the biggest: it is told to give up.  One that never dies is passed over in time. */
static void test_self_and_stubborn_victims(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *self = task_with(q, 30, "asker", 1000, 0), *other = task_with(q, 31, "other", 500, 0);
	struct frame **list = calloc(8192, sizeof(*list));
	unsigned long n = hog(q, list, 8192);

	port_ctx()->task = self;
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	assert_int_equal(sim_signals_sent(q, 30, 9), 1);
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	port_ctx()->task = NULL;
	for (int i = 0; i < 20 && !sim_signals_sent(q, 31, 9); i++) {
		sim_advance_clock(q, 1000000000);
		out_of_memory(q, GFP_KERNEL, 0);
	}
	assert_int_equal(sim_signals_sent(q, 31, 9), 1);
	for (int i = 0; i < 20; i++)
		sim_advance_clock(q, 1000000000);
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	assert_non_null(strstr(sim_log_text(q), "Out of memory and no killable processes..."));
	/* Costly orders kill nobody. */
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 4), -ENOMEM);
	while (n)
		__free_pages(q, list[--n], 0);
	free(list);
	task_exit(self);
	task_exit(other);
	sim_machine_free(q);
}

/* Two tasks on one address space: memory comes back only when both are gone. */
static void test_sharers_die_together(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *a = task_with(q, 40, "parent", 1000, 0), *b = task_create(q, 41, 40, "vforked");
	struct frame **list = calloc(8192, sizeof(*list));
	unsigned long n;

	mmget(a->mm);
	task_set_mm(b, a->mm);
	n = hog(q, list, 8192);
	out_of_memory(q, GFP_KERNEL, 0);
	assert_int_equal(sim_signals_sent(q, 40, 9), 1);
	assert_int_equal(sim_signals_sent(q, 41, 9), 1);
	while (n)
		__free_pages(q, list[--n], 0);
	free(list);
	task_exit(a);
	task_exit(b);
	sim_machine_free(q);
}

/* The endless allocator: faults end with FAULT_KILLED or a failed access, in bounded time, and everything comes back. */
static void test_endless_allocation_ends(void **state)
{
	struct sim_config cfg = { .memory = 8 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q);
	struct task *t = task_with(q, 50, "endless", 1, 0);
	u64 pages = 0, v = 1;

	port_ctx()->task = t;
	while (access_process_vm(t->mm, BASE + pages * PAGE_SIZE, &v, 8, true) == 8)
		pages++;
	print_message("%lu of %lu pages\n", (unsigned long)pages, (unsigned long)totalram_pages(q));
	assert_true(pages > totalram_pages(q) * 8 / 10 && pages < totalram_pages(q));
	assert_int_equal(sim_signals_sent(q, 50, 9), 1);
	port_ctx()->task = NULL;
	task_exit(t);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

/* Four greedy programs for ever on one small machine: each dies when it is chosen, at its next failed access, and a new one
 * takes its place.  Everybody gets its turns, nothing hangs, nothing is lost. */
static void greedy_thread(struct quire *q, unsigned i, void *arg)
{
	for (int life = 0; life < 5; life++) {
		struct task *t = task_with(q, (s32)(100 + i * 10 + (unsigned)life), "greedy", 0, 0);
		u64 at = 0, v = i;

		port_ctx()->task = t;
		while (access_process_vm(t->mm, BASE + at * PAGE_SIZE, &v, 8, true) == 8)
			at++;
		if (t->oom_victim == OOM_NONE || at > totalram_pages(q))
			abort();
		port_ctx()->task = NULL;
		task_exit(t);
	}
}

static void run_greedy(enum sim_sched sched)
{
	struct sim_config cfg = { .memory = 6 << 20, .sched = sched, .nr_cpus = 4, .seed = sim_seed(9),
				  .real_clock = sched == SIM_SCHED_THREADS };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q);

	sim_run(q, 4, greedy_thread, NULL);
	assert_int_equal(q->tasks.nr, 0);
	assert_in_range(q->vm_events[OOM_KILL], 20, 40);
	leak_assert_none(q, before);
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

static void test_greedy_programs(void **state)
{
	run_greedy(SIM_SCHED_ONE);
	run_greedy(SIM_SCHED_THREADS);
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
		cmocka_unit_test(test_stress),
		cmocka_unit_test(test_badness),
		cmocka_unit_test(test_report_and_kill),
		cmocka_unit_test(test_self_and_stubborn_victims),
		cmocka_unit_test(test_sharers_die_together),
		cmocka_unit_test(test_endless_allocation_ends),
		cmocka_unit_test(test_greedy_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
