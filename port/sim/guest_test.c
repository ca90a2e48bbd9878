/*
 * Guests on the whole machine: processes that map, touch, fork and share files on the simulated disk, in both file
 * flavours; the same seed giving the same bytes; several CPUs at once; and a core whose flushes are dropped being caught.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <port/sim/process.h>
#include <port/sim/simfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sys.h>
#include <port/host.h>

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define SEGV 11
#define BUS 7

static u64 load8(struct sim_process *p, u64 va)
{
	u64 v = 0;

	assert_int_equal(sim_process_load(p, va, 8, &v), 0);
	return v;
}

static void store8(struct sim_process *p, u64 va, u64 v)
{
	assert_int_equal(sim_process_store(p, va, 8, v), 0);
}

static u64 map(struct sim_process *p, u64 len, u64 prot, u64 flags, struct file *f)
{
	long a = sys_mmap(p->task, 0, len, prot, flags, f, 0);

	assert_true(a > 0);
	return (u64)a;
}

static struct quire *machine(struct sim_config cfg)
{
	cfg.check_leaks = true;
	return sim_machine_new(&cfg);
}

static void fork_copies_on_write(void **state)
{
	struct quire *q = machine((struct sim_config){ .nr_cpus = 2, .check_law1 = true, .check_reuse = true });
	struct sim_process *p = sim_process_new(q, "parent"), *c;
	u64 a = map(p, 64 << 10, RW, ANON, NULL), i;

	for (i = 0; i < 16; i++)
		store8(p, a + i * PAGE_SIZE, i);
	c = sim_process_fork(p);
	assert_false(IS_ERR(c));
	assert_int_not_equal(c->task->pid, p->task->pid);
	sim_process_set_cpu(c, 1);
	for (i = 0; i < 16; i++) {
		assert_int_equal(load8(c, a + i * PAGE_SIZE), i);
		store8(c, a + i * PAGE_SIZE, 100 + i);
		assert_int_equal(load8(p, a + i * PAGE_SIZE), i);
		store8(p, a + i * PAGE_SIZE, 200 + i);
		assert_int_equal(load8(c, a + i * PAGE_SIZE), 100 + i);
		assert_int_equal(sim_tlb_check(q), 0);
	}
	sim_process_exit(p);
	assert_int_equal(load8(c, a), 100);
	sim_process_exit(c);
	sim_machine_free(q);
}

static void signals_are_reported(void **state)
{
	struct quire *q = machine((struct sim_config){ 0 });
	struct sim_process *p = sim_process_new(q, "bad");
	u64 a = map(p, PAGE_SIZE, PROT_READ, ANON, NULL), v;
	u32 insn;

	assert_int_equal(sim_process_load(p, 0x123450, 8, &v), -EFAULT);
	assert_int_equal(p->cpu->info.sig, SEGV);
	assert_int_equal(p->cpu->info.code, 1);
	assert_int_equal(p->cpu->info.addr, 0x123450);
	assert_int_equal(load8(p, a), 0);
	assert_int_equal(sim_process_store(p, a + 8, 8, 1), -EFAULT);
	assert_int_equal(p->cpu->info.code, 2);
	assert_int_equal(sim_process_fetch(p, a, &insn), -EFAULT);
	assert_int_equal(p->cpu->info.code, 2);
	assert_int_equal(host_kill(q, p->task, 9), 0);
	assert_int_equal(sim_signals_sent(q, p->task->pid, 9), 1);
	assert_int_equal(sim_signals_sent(q, p->task->pid, 15), 0);
	sim_process_exit(p);
	sim_machine_free(q);
}

/* Mappings, read(2), write(2) and the disk agree, in frames and as tokens. */
static void files_are_coherent(void **state)
{
	static const char text[] = "twelve bytes";
	unsigned tokens;

	for (tokens = 0; tokens < 2; tokens++) {
		struct quire *q = machine((struct sim_config){ .host_files = tokens, .tlb = tokens ? SIM_TLB_HOSTED : SIM_TLB_NORMAL });
		struct sim_process *p = sim_process_new(q, "reader");
		struct file *f = sim_file_create(q, "/tmp/a", NULL, 3 * PAGE_SIZE);
		u64 shared = map(p, 4 * PAGE_SIZE, RW, MAP_SHARED, f), private = map(p, 4 * PAGE_SIZE, RW, MAP_PRIVATE, f);
		char buf[sizeof(text)];
		u64 v;

		assert_int_equal(!!(f->mapping->flags & AS_TOKEN), tokens);
		assert_int_equal(load8(p, shared), 0);
		assert_int_equal(sim_file_pwrite(f, 100, text, sizeof(text)), sizeof(text));
		assert_int_equal(sim_process_read(p, shared + 100, buf, sizeof(buf)), sizeof(buf));
		assert_memory_equal(buf, text, sizeof(text));
		assert_int_equal(sim_process_write(p, shared + 5000, text, sizeof(text)), sizeof(text));
		assert_int_equal(sim_file_pread(f, 5000, buf, sizeof(buf)), sizeof(buf));
		assert_memory_equal(buf, text, sizeof(text));
		assert_int_equal(sys_msync(p->task, shared, 4 * PAGE_SIZE, MS_SYNC), 0);
		assert_memory_equal(sim_file_disk(f) + 5000, text, sizeof(text));
		/* A private copy stays private. */
		store8(p, private + 4096, 55);
		assert_int_equal(load8(p, shared + 4096), 0);
		assert_int_equal(load8(p, private + 4096), 55);
		/* Behind the end, and behind a new end. */
		assert_int_equal(sim_process_load(p, shared + 3 * PAGE_SIZE, 8, &v), -EFAULT);
		assert_int_equal(p->cpu->info.sig, BUS);
		assert_int_equal(sim_file_truncate(f, 5000), 0);
		assert_int_equal(sim_tlb_check(q), 0);
		assert_int_equal(sim_process_load(p, shared + 2 * PAGE_SIZE, 8, &v), -EFAULT);
		assert_int_equal(p->cpu->info.sig, BUS);
		assert_int_equal(load8(p, shared + 5000), 0);
		assert_int_equal(sim_file_truncate(f, 3 * PAGE_SIZE), 0);
		assert_int_equal(load8(p, shared + 2 * PAGE_SIZE), 0);
		assert_int_equal(load8(p, shared + 5000), 0);
		file_put(f);
		sim_process_exit(p);
		sim_machine_free(q);
	}
}

static void disk_outlives_open_files(void **state)
{
	struct quire *q = machine((struct sim_config){ 0 });
	struct file *f = sim_file_create(q, "/etc/x", "abc", 3);
	char buf[8] = "";

	assert_int_equal(sim_file_pwrite(f, 3, "def", 3), 3);
	file_put(f); /* the last one writes back */
	f = sim_file_open(q, "/etc/x", FMODE_READ);
	assert_false(IS_ERR(f));
	assert_int_equal(sim_file_size(f), 6);
	assert_memory_equal(sim_file_disk(f), "abcdef", 6);
	assert_int_equal(sim_file_pread(f, 0, buf, sizeof(buf)), 6);
	assert_string_equal(buf, "abcdef");
	assert_int_equal(PTR_ERR(sim_file_open(q, "/etc/y", FMODE_READ)), -ENOENT);
	assert_int_equal(sim_file_unlink(q, "/etc/x"), 0);
	assert_int_equal(sim_file_pread(f, 0, buf, sizeof(buf)), 6); /* the open file keeps it */
	assert_int_equal(PTR_ERR(sim_file_open(q, "/etc/x", FMODE_READ)), -ENOENT);
	file_put(f);
	sim_machine_free(q);
}

static void broken_disks_give_sigbus(void **state)
{
	struct quire *q = machine((struct sim_config){ 0 });
	struct sim_process *p = sim_process_new(q, "io");
	struct file *f = sim_file_create(q, "/tmp/b", NULL, 64 * PAGE_SIZE);
	u64 a = map(p, 64 * PAGE_SIZE, RW, MAP_SHARED, f), v;

	sim_file_break(f, -EIO);
	assert_int_equal(sim_process_load(p, a, 8, &v), -EFAULT);
	assert_int_equal(p->cpu->info.sig, BUS);
	sim_file_break(f, 0);
	assert_int_equal(load8(p, a), 0);
	assert_true(sim_file_counts(f).reads >= 2);
	store8(p, a, 1);
	sim_file_fail_nth(f, 1, -ENOSPC);
	assert_int_equal(sys_msync(p->task, a, PAGE_SIZE, MS_SYNC), -ENOSPC);
	store8(p, a, 2);
	assert_int_equal(sys_msync(p->task, a, PAGE_SIZE, MS_SYNC), 0);
	assert_int_equal(*(const u64 *)(const void *)sim_file_disk(f), 2);
	file_put(f);
	sim_process_exit(p);
	sim_machine_free(q);
}

/* ---- several CPUs ---- */

struct shared_job {
	struct sim_process *p;
	u64 counter, heap; /* addresses */
};

/* Threads of one process: atomics on one page, and private pages mapped, filled, checked and unmapped again. */
static void thread_of_process(struct quire *q, unsigned i, void *arg)
{
	struct shared_job *j = arg;
	struct sim_process *t = sim_process_thread(j->p, i);
	unsigned n, k;
	u64 old;

	for (n = 0; n < 60; n++) {
		u64 a = map(t, 8 * PAGE_SIZE, RW, ANON, NULL);

		for (k = 0; k < 8; k++)
			store8(t, a + k * PAGE_SIZE, a + k + i);
		assert_int_equal(sim_process_fetch_add(t, j->counter, 8, 1, &old), 0);
		for (k = 0; k < 8; k++)
			assert_int_equal(load8(t, a + k * PAGE_SIZE), a + k + i);
		assert_int_equal(sys_madvise(t->task, a, 4 * PAGE_SIZE, 4 /* MADV_DONTNEED */), 0);
		assert_int_equal(load8(t, a), 0);
		assert_int_equal(sys_munmap(t->task, a, 8 * PAGE_SIZE), 0);
		store8(t, j->heap + (i * 64 + n) * 8, n);
	}
	sim_process_exit(t);
}

static u64 run_threads(struct sim_config cfg, u64 *order)
{
	struct shared_job j;
	struct quire *q;
	u64 count;

	cfg.nr_cpus = 4;
	cfg.check_law1 = cfg.check_reuse = true;
	q = machine(cfg);
	j.p = sim_process_new(q, "threads");
	j.counter = map(j.p, 16 * PAGE_SIZE, RW, ANON, NULL);
	j.heap = j.counter + PAGE_SIZE;
	sim_run(q, 4, thread_of_process, &j);
	count = load8(j.p, j.counter);
	assert_int_equal(sim_tlb_check(q), 0);
	if (order)
		*order = sim_stats(q).walks * 1000003 + sim_stats(q).exceptions * 31 + q->vm_events[PGFAULT];
	sim_process_exit(j.p);
	sim_machine_free(q);
	return count;
}

static void threads_share_a_space(void **state)
{
	enum sim_tlb_mode mode;

	for (mode = SIM_TLB_NORMAL; mode <= SIM_TLB_HOSTED; mode++) {
		assert_int_equal(run_threads((struct sim_config){ .tlb = mode }, NULL), 240);
		assert_int_equal(run_threads((struct sim_config){ .tlb = mode, .sched = SIM_SCHED_ONE, .seed = 9 + mode }, NULL), 240);
		assert_int_equal(run_threads((struct sim_config){ .tlb = mode, .sched = SIM_SCHED_ONE, .break_percent = 50 }, NULL), 240);
	}
}

/* ---- the same seed ---- */

/* A hash of everything the machine holds: RAM and the counters. */
static u64 hash_machine(struct quire *q)
{
	const u64 *w = q->cfg.direct_map;
	u64 h = 14695981039346656037ull, i;

	for (i = 0; i < q->cfg.memory / 8; i++)
		if (w[i] && w[i] < q->cfg.memory) /* no host addresses, which the host's ASLR draws */
			h = (h ^ w[i] ^ (i << 32)) * 1099511628211ull;
	for (i = 0; i < NR_VM_EVENT_ITEMS; i++)
		h = (h ^ q->vm_events[i]) * 1099511628211ull;
	return h ^ nr_free_pages(q);
}

static u64 play(u64 seed)
{
	struct quire *q = machine((struct sim_config){ .nr_cpus = 4, .sched = SIM_SCHED_ONE, .seed = seed, .memory = 32 << 20 });
	struct shared_job j;
	u64 h;

	j.p = sim_process_new(q, "replay");
	j.counter = map(j.p, 16 * PAGE_SIZE, RW, ANON, NULL);
	j.heap = j.counter + PAGE_SIZE;
	sim_run(q, 4, thread_of_process, &j);
	h = hash_machine(q) ^ sim_stats(q).walks;
	sim_process_exit(j.p);
	sim_machine_free(q);
	return h;
}

static void same_seed_same_bytes(void **state)
{
	u64 a = play(5);

	assert_int_equal(a, play(5));
	assert_int_not_equal(a, play(6));
}

/* ---- negative control ---- */

/* The same fork test with the port dropping flushes: the checks must see stale translations of a real core. */
static void lost_flushes_of_the_core_are_seen(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct sim_process *p = sim_process_new(q, "lost");
	u64 a = map(p, PAGE_SIZE, RW, ANON, NULL);

	store8(p, a, 1);
	assert_int_equal(sim_tlb_check(q), 0);
	sim_ignore_flushes(q, true);
	assert_int_equal(sys_mprotect(p->task, a, PAGE_SIZE, PROT_READ), 0);
	assert_int_equal(sim_tlb_check(q), 1);
	store8(p, a, 2); /* it may still write */
	sim_ignore_flushes(q, false);
	assert_int_equal(sys_munmap(p->task, a, PAGE_SIZE), 0);
	assert_int_equal(sim_tlb_check(q), 0);
	sim_process_exit(p);
	sim_machine_free(q);
}

/* Each allocation of a small life fails in turn: nothing is lost and nothing is wrong but the call that says so. */
static bool small_life(struct quire *q)
{
	struct sim_process *p = sim_process_new(q, "life"), *c = NULL;
	struct file *f = p ? sim_file_create(q, "/tmp/s", NULL, 8 * PAGE_SIZE) : NULL;
	bool ok = false;
	long a, b;
	u64 v;

	if (f) {
		a = sys_mmap(p->task, 0, 8 * PAGE_SIZE, RW, ANON, NULL, 0);
		b = sys_mmap(p->task, 0, 8 * PAGE_SIZE, RW, MAP_SHARED, f, 0);
		ok = a > 0 && b > 0 && !sim_process_store(p, (u64)a, 8, 1) && !sim_process_load(p, (u64)b, 8, &v);
		c = ok ? sim_process_fork(p) : NULL;
		ok = ok && !IS_ERR(c) && !sim_process_store(c, (u64)a, 8, 2) && !sim_process_load(p, (u64)a, 8, &v) && v == 1;
	}
	if (c && !IS_ERR(c))
		sim_process_exit(c);
	if (f)
		file_put(f);
	if (p)
		sim_process_exit(p);
	sim_file_unlink(q, "/tmp/s");
	return ok;
}

static void failure_sweep(void **state)
{
	struct quire *q = machine((struct sim_config){ .check_law1 = true, .check_reuse = true });
	u64 n, asked;

	assert_true(small_life(q));
	sim_fail_none(q);
	assert_true(small_life(q));
	asked = sim_fail_count(q);
	assert_in_range(asked, 10, 100000);
	for (n = 1; n <= asked; n++) {
		sim_fail_nth(q, SIM_FAIL_ALL, n);
		small_life(q);
		sim_fail_none(q);
		assert_int_equal(sim_tlb_check(q), 0);
	}
	assert_true(small_life(q));
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fork_copies_on_write),
		cmocka_unit_test(signals_are_reported),
		cmocka_unit_test(files_are_coherent),
		cmocka_unit_test(disk_outlives_open_files),
		cmocka_unit_test(broken_disks_give_sigbus),
		cmocka_unit_test(threads_share_a_space),
		cmocka_unit_test(same_seed_same_bytes),
		cmocka_unit_test(lost_flushes_of_the_core_are_seen),
		cmocka_unit_test(failure_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
