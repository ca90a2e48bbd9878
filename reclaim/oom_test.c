/*
 * The OOM killer: who is chosen, what the report says in Linux's words and in plain ones, what the settings do, how a victim
 * that does not die loses its memory, and that nobody waits for ever.
 */
#include "../task/memfile_test.h"
#include <mm/mm.h>
#include "reclaim.h"

#define BASE 0x10000000ull
#define RW (PROT_READ | PROT_WRITE)

static void put(struct mm_struct *mm, u64 addr, u64 v)
{
	assert_int_equal(access_process_vm(mm, addr, &v, sizeof(v), true), sizeof(v));
}

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

/* Everything that is left, and a way to give it back. */
struct hogged {
	struct quire *q;
	struct frame **list;
	unsigned long n;
};

static struct hogged hog_all(struct quire *q)
{
	struct hogged h = { .q = q, .list = calloc(8192, sizeof(struct frame *)) };

	h.n = hog(q, h.list, 8192);
	return h;
}

static void hog_free(struct hogged *h)
{
	while (h->n)
		__free_pages(h->q, h->list[--h->n], 0);
	free(h->list);
}

/* The asker is the biggest: it is told to give up.  While it does not die its memory is taken, once. */
static void test_self_and_reaper(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *self = task_with(q, 30, "asker", 1000, 0), *other = task_with(q, 31, "other", 500, 0);
	struct hogged h = hog_all(q);
	const char *log;
	u64 v = 0;

	port_ctx()->task = self;
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	assert_int_equal(sim_signals_sent(q, 30, 9), 1);
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	assert_int_equal(self->mm->rss[MM_ANONPAGES], 1000); /* it had no time yet, and it is the one who asks */
	port_ctx()->task = other;
	for (int i = 0; i < 20 && !self->mm->oom_reaped; i++)
		assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), 0);
	assert_int_equal(self->mm->rss[MM_ANONPAGES], 0);
	assert_int_equal(self->oom_victim, OOM_REAPED);
	log = strstr(sim_log_text(q), "oom_reaper: reaped process 30 (asker), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB\n");
	assert_non_null(log);
	assert_null(strstr(log + 10, "oom_reaper"));
	assert_true(nr_free_pages(q) >= 1000);
	assert_true(mm_is_valid(self->mm));

	/* Nothing of it must look like zeroes; the survivor is not concerned, and nobody else had to go. */
	assert_int_not_equal(access_process_vm(self->mm, BASE, &v, 8, false), 8);
	assert_int_equal(access_process_vm(other->mm, BASE + 499 * PAGE_SIZE, &v, 8, false), 8);
	assert_int_equal(v, 499);
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), 0);
	assert_int_equal(sim_signals_sent(q, 31, 9), 0);
	port_ctx()->task = NULL;
	hog_free(&h);
	task_exit(self);
	task_exit(other);
	sim_machine_free(q);
}

/* Private copies, file pages of others, shared memory and a pinned page: only what is the victim's alone goes. */
static void test_reaper_takes_private_memory_only(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .tlb = SIM_TLB_HOSTED };
	struct quire *q = sim_machine_new(&cfg);
	struct task *victim = task_with(q, 30, "victim", 1000, 0), *child = task_create(q, 31, 30, "child"), *asker;
	u64 shared = BASE + (512ull << 20), v = 77;
	struct hogged h;

	assert_int_equal(do_mmap(victim->mm, NULL, shared, 16 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, 0), (long)shared);
	put(victim->mm, shared, 5);
	task_set_mm(child, dup_mm(victim->mm));
	child->oom_score_adj = -1000;
	asker = task_with(q, 32, "asker", 1, -1000);
	h = hog_all(q);
	port_ctx()->task = asker;
	for (int i = 0; i < 20 && !victim->mm->oom_reaped; i++)
		out_of_memory(q, GFP_KERNEL, 0);
	assert_int_equal(victim->mm->rss[MM_ANONPAGES], 0);
	assert_int_equal(victim->mm->rss[MM_SHMEMPAGES], 1);
	port_ctx()->task = NULL;
	hog_free(&h);
	assert_int_equal(access_process_vm(child->mm, BASE + 999 * PAGE_SIZE, &v, 8, false), 8);
	assert_int_equal(v, 999);
	assert_int_equal(access_process_vm(child->mm, shared, &v, 8, false), 8);
	assert_int_equal(v, 5);
	task_exit(victim);
	task_exit(child);
	task_exit(asker);
	sim_machine_free(q);
}

/* ---- settings ---- */

static void ask(void *arg)
{
	struct quire *q = arg;

	for (int i = 0; i < 1000; i++)
		out_of_memory(q, GFP_KERNEL, 0);
}

/* Everybody is protected: the machine says so and ends.  Who is no program is told to do without; so are large blocks. */
static void test_nobody_to_kill(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *t = task_with(q, 30, "precious", 1000, -1000);
	struct hogged h = hog_all(q);
	const char *log, *panic;

	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 4), -ENOMEM);
	port_ctx()->task = t;
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 4), -ENOMEM);
	panic = sim_expect_panic(ask, q);
	assert_non_null(panic);
	assert_non_null(strstr(panic, "System is deadlocked on memory"));
	log = sim_log_text(q);
	assert_non_null(strstr(log, "precious invoked oom-killer: "));
	assert_non_null(strstr(log, "Out of memory and no killable processes...\n"));
	assert_non_null(strstr(log, "oom: victim: none; 1 programs are spared by oom_score_adj -1000\n"));
	assert_non_null(strstr(log, "Kernel panic - not syncing: System is deadlocked on memory\n"));
	assert_int_equal(sim_signals_sent(q, 30, 0), 0);
	port_ctx()->task = NULL;
	hog_free(&h);
	task_exit(t);
	sim_machine_free(q);
}

static void test_panic_on_oom(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *t = task_with(q, 30, "hungry", 1000, 0);
	struct hogged h = hog_all(q);

	port_ctx()->task = t;
	q->oom.panic_on_oom = 1;
	assert_non_null(strstr(sim_expect_panic(ask, q), "Out of memory: system-wide panic_on_oom is enabled"));
	q->oom.panic_on_oom = 2;
	assert_non_null(strstr(sim_expect_panic(ask, q), "Out of memory: compulsory panic_on_oom is enabled"));
	assert_int_equal(sim_signals_sent(q, 30, 0), 0);
	port_ctx()->task = NULL;
	hog_free(&h);
	task_exit(t);
	sim_machine_free(q);
}

static void test_kill_allocating_task_without_table(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *self = task_with(q, 30, "asker", 10, 0), *big = task_with(q, 31, "big", 1000, 0);
	struct hogged h = hog_all(q);
	const char *log;

	q->oom.kill_allocating_task = 1;
	q->oom.dump_tasks = 0;
	port_ctx()->task = self;
	assert_int_equal(out_of_memory(q, GFP_KERNEL, 0), -ENOMEM);
	assert_int_equal(sim_signals_sent(q, 30, 9), 1);
	assert_int_equal(sim_signals_sent(q, 31, 9), 0);
	log = sim_log_text(q);
	assert_non_null(strstr(log, "Out of memory (oom_kill_allocating_task): Killed process 30 (asker) total-vm:"));
	assert_non_null(strstr(log, "oom: victim: asker (30): it asked for memory, and vm.oom_kill_allocating_task is set; "));
	assert_null(strstr(log, "Tasks state"));

	/* One that may not be killed is not: then it is the largest as ever. */
	port_ctx()->task = NULL;
	task_exit(self);
	self = task_with(q, 32, "spared", 10, -1000);
	sim_advance_clock(q, 10000000000ull);
	port_ctx()->task = self;
	out_of_memory(q, GFP_KERNEL, 0);
	assert_int_equal(sim_signals_sent(q, 32, 9), 0);
	assert_int_equal(sim_signals_sent(q, 31, 9), 1);
	port_ctx()->task = NULL;
	hog_free(&h);
	task_exit(self);
	task_exit(big);
	sim_machine_free(q);
}

/* ---- words ---- */

static double number_after(const char *text, const char *words)
{
	const char *p = strstr(text, words);

	assert_non_null(p);
	return strtod(p + strlen(words), NULL);
}

/* The plain explanation: sizes add up, the largest come first, the remedy is as much as was missing. */
static void test_explanation(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *small = task_with(q, 30, "small", 100, 0), *big = task_with(q, 31, "big", 2000, 0);
	struct task *spared = task_with(q, 32, "spared", 256, -1000);
	struct hogged h = hog_all(q);
	const char *log, *line;
	double sum = 0, all;

	out_of_memory(q, GFP_HIGHUSER_MOVABLE, 0);
	log = sim_log_text(q);
	all = number_after(log, "oom: memory: ");
	assert_true(all == 16.0);
	line = strstr(log, "oom: memory: 16.0 MiB in all: ");
	assert_true(number_after(line, "in all: ") > 9.1 && number_after(line, "in all: ") < 9.3); /* 2356 pages */
	sum = number_after(line, "in all: ") + number_after(line, "own, ") + number_after(line, "shared, ") +
	      number_after(line, "of files, ") + number_after(line, "page tables, ") + number_after(line, "kernel objects, ") +
	      number_after(line, "compressed swap, ") + number_after(line, "else, ");
	assert_true(sum > 15.5 && sum < 16.5);
	assert_non_null(strstr(log, "oom: swap: none\n"));
	assert_non_null(strstr(log, "oom: programs: big (31) 7.8 MiB, spared (32) 1.0 MiB, small (30) 0.4 MiB; "));
	assert_non_null(strstr(log, "9.2 MiB of programs and no swap to put them in"));
	assert_non_null(strstr(log, "oom: victim: big (31): 2"));
	assert_non_null(strstr(log, "; next small (30) with 1"));
	assert_non_null(strstr(log, "; 1 spared by oom_score_adj -1000\n"));
	assert_true(number_after(log, "--memory ") >= 17);
	assert_true(number_after(log, "--swap ") >= 1);
	hog_free(&h);
	task_exit(small);
	task_exit(big);
	task_exit(spared);
	sim_machine_free(q);
}

/* Ten full reports in five seconds; who is killed is said every time. */
static void test_report_rate(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	unsigned killed = 0, told = 0, reports = 0;
	struct hogged h;

	for (s32 i = 0; i < 15; i++) {
		struct task *t = task_with(q, 100 + i, "victim", 40, 0);

		h = hog_all(q);
		out_of_memory(q, GFP_KERNEL, 0);
		killed += sim_signals_sent(q, 100 + i, 9);
		hog_free(&h);
		task_exit(t);
	}
	for (const char *p = sim_log_text(q); (p = strstr(p, "Killed process")); p++)
		told++;
	for (const char *p = sim_log_text(q); (p = strstr(p, "invoked oom-killer")); p++)
		reports++;
	assert_int_equal(killed, 15);
	assert_int_equal(told, 15);
	assert_in_range(reports, 10, 11);
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
		cmocka_unit_test(test_badness),
		cmocka_unit_test(test_report_and_kill),
		cmocka_unit_test(test_self_and_reaper),
		cmocka_unit_test(test_reaper_takes_private_memory_only),
		cmocka_unit_test(test_nobody_to_kill),
		cmocka_unit_test(test_panic_on_oom),
		cmocka_unit_test(test_kill_allocating_task_without_table),
		cmocka_unit_test(test_explanation),
		cmocka_unit_test(test_report_rate),
		cmocka_unit_test(test_sharers_die_together),
		cmocka_unit_test(test_endless_allocation_ends),
		cmocka_unit_test(test_greedy_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
