/*
 * dup_mm: copies that are equal, private where they must be and shared where they must be; a random stream of forks,
 * exits, writes and reads against plain arrays; every allocation failed in turn.
 */
#include "memfile_test.h"
#include <mm/mm.h>

#define BASE 0x10000000ull
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
#define RW (PROT_READ | PROT_WRITE)

static u64 rng;

static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

static struct mm_struct *new_mm(struct quire *q)
{
	struct mm_struct *mm = mm_alloc(q, &guest_abi_x86_64);

	assert_non_null(mm);
	return mm;
}

static void map(struct mm_struct *mm, u64 addr, u64 pages, u64 prot, u64 flags)
{
	assert_int_equal(do_mmap(mm, NULL, addr, pages * PAGE_SIZE, prot, flags, 0), (long)addr);
}

static void put(struct mm_struct *mm, u64 addr, u64 v)
{
	assert_int_equal(access_process_vm(mm, addr, &v, sizeof(v), true), sizeof(v));
}

static u64 get(struct mm_struct *mm, u64 addr)
{
	u64 v = 0;

	assert_int_equal(access_process_vm(mm, addr, &v, sizeof(v), false), sizeof(v));
	return v;
}

static struct mm_struct *fork_mm(struct mm_struct *mm)
{
	struct mm_struct *child = dup_mm(mm);

	assert_false(IS_ERR(child));
	assert_true(mm_is_valid(mm));
	assert_true(mm_is_valid(child));
	return child;
}

static void test_private_is_private(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct leak_check before = leak_count(q);
	struct mm_struct *mm = new_mm(q), *child, *grandchild;

	map(mm, BASE, 16, RW, ANON);
	put(mm, BASE, 1);
	get(mm, BASE + 5 * PAGE_SIZE); /* the zero page */
	child = fork_mm(mm);
	assert_int_equal(get(child, BASE), 1);
	put(child, BASE, 2);
	put(child, BASE + 5 * PAGE_SIZE, 3);
	grandchild = fork_mm(child);
	put(mm, BASE, 4);
	assert_int_equal(get(mm, BASE), 4);
	assert_int_equal(get(mm, BASE + 5 * PAGE_SIZE), 0);
	assert_int_equal(get(child, BASE), 2);
	assert_int_equal(get(grandchild, BASE), 2);
	assert_int_equal(get(grandchild, BASE + 5 * PAGE_SIZE), 3);
	mmput(child);
	put(grandchild, BASE, 5);
	assert_int_equal(get(mm, BASE), 4);
	assert_int_equal(get(grandchild, BASE), 5);
	mmput(mm);
	mmput(grandchild);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

static void test_shared_is_shared(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct leak_check before = leak_count(q);
	struct mm_struct *mm = new_mm(q), *child;

	map(mm, BASE, 4, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED);
	put(mm, BASE, 10);
	child = fork_mm(mm);
	assert_int_equal(get(child, BASE), 10);
	put(child, BASE, 11);
	put(child, BASE + PAGE_SIZE, 12); /* nobody had this page before the fork */
	assert_int_equal(get(mm, BASE), 11);
	assert_int_equal(get(mm, BASE + PAGE_SIZE), 12);
	mmput(mm);
	assert_int_equal(get(child, BASE), 11);
	mmput(child);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

static void test_private_file_pages(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct leak_check before = leak_count(q);
	struct mm_struct *mm = new_mm(q), *child;
	u64 *bytes = malloc(4 * PAGE_SIZE);
	struct file *f;

	for (u64 i = 0; i < 4 * PAGE_SIZE / 8; i++)
		bytes[i] = i;
	f = memfile_new(q, 9, "/data", bytes, 4 * PAGE_SIZE);
	assert_int_equal(do_mmap(mm, f, BASE, 4 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED, 0), (long)BASE);
	put(mm, BASE, 100);
	child = fork_mm(mm);
	put(child, BASE + PAGE_SIZE, 200);
	assert_int_equal(get(child, BASE), 100);
	assert_int_equal(get(mm, BASE + PAGE_SIZE), PAGE_SIZE / 8);
	put(mm, BASE, 101);
	assert_int_equal(get(child, BASE), 100);
	assert_int_equal(get(child, BASE + 2 * PAGE_SIZE), 2 * PAGE_SIZE / 8);
	mmput(mm);
	mmput(child);
	assert_int_equal(bytes[0], 0); /* the file itself was never written */
	file_put(f);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

static void test_layout_goes_along(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = new_mm(q), *child;

	mm->start_brk = mm->brk = 0x5000000;
	mm->start_stack = 0x6fffffff0000;
	mm->arg_start = 1;
	mm->env_end = 2;
	mm->saved_auxv[3] = 99;
	mm->rlim_as = 1ull << 40;
	map(mm, BASE, 3, RW, ANON);
	child = fork_mm(mm);
	assert_int_equal(child->start_brk, mm->start_brk);
	assert_int_equal(child->brk, mm->brk);
	assert_int_equal(child->start_stack, mm->start_stack);
	assert_int_equal(child->env_end, 2);
	assert_int_equal(child->saved_auxv[3], 99);
	assert_int_equal(child->rlim_as, mm->rlim_as);
	assert_int_equal(child->mmap_base, mm->mmap_base);
	assert_int_equal(child->total_vm, 3);
	assert_int_equal(child->users, 1);
	mmput(child);
	mmput(mm);
	sim_machine_free(q);
}

/* ---- random processes ---- */

#define PROCS 8
#define PRIVATE_PAGES 96
#define SHARED_PAGES 16
#define SHARED_BASE (BASE + (PRIVATE_PAGES + 16) * PAGE_SIZE)

struct model {
	struct quire *q;
	struct mm_struct *mm[PROCS];
	u64 private[PROCS][PRIVATE_PAGES];
	u64 shared[SHARED_PAGES];
	unsigned live;
};

static void model_fork(struct model *m, unsigned from)
{
	for (unsigned i = 0; i < PROCS; i++) {
		if (m->mm[i])
			continue;
		m->mm[i] = fork_mm(m->mm[from]);
		memcpy(m->private[i], m->private[from], sizeof(m->private[i]));
		m->live++;
		return;
	}
}

static void model_exit(struct model *m, unsigned i)
{
	if (m->live == 1)
		return;
	mmput(m->mm[i]);
	m->mm[i] = NULL;
	m->live--;
}

static void model_write(struct model *m, unsigned i)
{
	u64 v = rnd(), page = rnd() % (PRIVATE_PAGES + SHARED_PAGES);

	if (page < PRIVATE_PAGES) {
		put(m->mm[i], BASE + page * PAGE_SIZE + 8, v);
		m->private[i][page] = v;
	} else {
		put(m->mm[i], SHARED_BASE + (page - PRIVATE_PAGES) * PAGE_SIZE + 8, v);
		m->shared[page - PRIVATE_PAGES] = v;
	}
}

/* A hole and fresh memory in its place: reads zero again. */
static void model_remap(struct model *m, unsigned i)
{
	u64 page = rnd() % PRIVATE_PAGES, want = 1 + rnd() % 12, n = MIN(want, PRIVATE_PAGES - page);

	if (rnd() % 2)
		assert_int_equal(do_munmap(m->mm[i], BASE + page * PAGE_SIZE, n * PAGE_SIZE), 0);
	map(m->mm[i], BASE + page * PAGE_SIZE, n, RW, ANON);
	memset(&m->private[i][page], 0, n * sizeof(u64));
}

static void model_check(struct model *m, unsigned i)
{
	for (unsigned p = 0; p < PRIVATE_PAGES; p++)
		assert_int_equal(get(m->mm[i], BASE + p * PAGE_SIZE + 8), m->private[i][p]);
	for (unsigned p = 0; p < SHARED_PAGES; p++)
		assert_int_equal(get(m->mm[i], SHARED_BASE + p * PAGE_SIZE + 8), m->shared[p]);
}

static void model_step(struct model *m)
{
	unsigned i = (unsigned)(rnd() % PROCS);
	u64 r = rnd() % 100;

	while (!m->mm[i])
		i = (i + 1) % PROCS;
	if (r < 70)
		model_write(m, i);
	else if (r < 80)
		model_fork(m, i);
	else if (r < 87)
		model_exit(m, i);
	else if (r < 92)
		model_remap(m, i);
	else
		model_check(m, i);
}

static void run_model(u32 max_order, u32 break_percent, int steps)
{
	struct sim_config cfg = { .folio_max_order = max_order, .break_percent = break_percent, .memory = 64 << 20 };
	static struct model m;
	struct leak_check before;

	memset(&m, 0, sizeof(m));
	m.q = sim_machine_new(&cfg);
	before = leak_count(m.q);
	m.mm[0] = new_mm(m.q);
	m.live = 1;
	map(m.mm[0], BASE, PRIVATE_PAGES, RW, ANON);
	map(m.mm[0], SHARED_BASE, SHARED_PAGES, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED);
	for (int i = 0; i < steps; i++)
		model_step(&m);
	for (unsigned i = 0; i < PROCS; i++) {
		if (!m.mm[i])
			continue;
		model_check(&m, i);
		mmput(m.mm[i]);
	}
	assert_true(phys_is_valid(m.q));
	leak_assert_none(m.q, before);
	sim_machine_free(m.q);
}

static void test_random_processes(void **state)
{
	int steps = getenv("QUIRE_LONG") ? 400000 : 6000;

	rng = sim_seed(4711) * 2 + 1;
	run_model(0, 0, steps);
	run_model(0, 30, steps);
	run_model(4, 10, steps);
}

/* ---- failures ---- */

static struct mm_struct *parent_for_sweep(struct quire *q)
{
	struct mm_struct *mm = new_mm(q);

	map(mm, BASE, 40, RW, ANON);
	map(mm, BASE + (1 << 30), 8, RW, ANON);
	map(mm, SHARED_BASE, 4, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED);
	for (u64 i = 0; i < 40; i++)
		put(mm, BASE + i * PAGE_SIZE, i + 1);
	put(mm, BASE + (1 << 30), 77);
	put(mm, SHARED_BASE, 88);
	return mm;
}

static void check_parent(struct mm_struct *mm)
{
	assert_true(mm_is_valid(mm));
	for (u64 i = 0; i < 40; i++)
		assert_int_equal(get(mm, BASE + i * PAGE_SIZE), i + 1);
	put(mm, BASE + (1 << 30), 77);
	assert_int_equal(get(mm, SHARED_BASE), 88);
}

static void sweep(bool from)
{
	struct sim_config cfg = { .memory = 16 << 20, .break_percent = 10 };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q), settled;
	struct mm_struct *mm = parent_for_sweep(q), *child;
	u64 n, failed = 0;

	settled = leak_count(q);
	for (n = 1;; n++) {
		if (from)
			sim_fail_from(q, SIM_FAIL_MEMORY, n);
		else
			sim_fail_nth(q, SIM_FAIL_ALL, n);
		child = dup_mm(mm);
		if (!sim_fail_injected(q))
			break;
		sim_fail_none(q);
		if (IS_ERR(child)) {
			assert_int_equal(PTR_ERR(child), -ENOMEM);
			failed++;
		} else {
			mmput(child);
		}
		check_parent(mm);
		leak_assert_none(q, settled);
	}
	sim_fail_none(q);
	check_parent(child);
	mmput(child);
	mmput(mm);
	leak_assert_none(q, before);
	print_message("%lu injections, %lu forks failed\n", (unsigned long)n - 1, (unsigned long)failed);
	if (from)
		assert_true(failed > 0);
	sim_machine_free(q);
}

static void test_failure_sweep(void **state)
{
	sweep(false);
	sweep(true);
}

/* ---- tasks ---- */

static void test_task_table(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct leak_check before = leak_count(q);
	struct task *t[300], *found;
	struct mm_struct *mm;
	s32 pid = -1, last = -1;
	unsigned n = 0;

	for (int i = 0; i < 300; i++) {
		t[i] = task_create(q, 1000 + (i * 7) % 300, 1, "a name that is too long");
		assert_non_null(t[i]);
	}
	assert_null(task_create(q, 1000, 1, "twice"));
	assert_string_equal(t[0]->comm, "a name that is ");
	for (; (found = task_next_get(q, pid)); n++) {
		assert_true(found->pid > last);
		last = pid = found->pid;
		task_put(found);
	}
	assert_int_equal(n, 300);
	assert_int_equal(q->tasks.nr, 300);
	task_set_mm(t[0], new_mm(q));
	assert_int_equal(t[0]->state, TASK_RUNNING);
	mm = task_get_mm(t[0]);
	assert_int_equal(mm->users, 2);
	mmput(mm);
	found = task_find_get(q, t[0]->pid);
	task_exit(t[0]);
	/* Gone from the table, but our reference keeps the record. */
	assert_int_equal(found->state, TASK_DEAD);
	assert_null(task_get_mm(found));
	assert_null(task_find_get(q, found->pid));
	task_put(found);
	for (int i = 1; i < 300; i++)
		task_exit(t[i]);
	assert_null(task_next_get(q, -1));
	leak_assert_none(q, before);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_private_is_private),
		cmocka_unit_test(test_shared_is_shared),
		cmocka_unit_test(test_private_file_pages),
		cmocka_unit_test(test_layout_goes_along),
		cmocka_unit_test(test_random_processes),
		cmocka_unit_test(test_failure_sweep),
		cmocka_unit_test(test_task_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
