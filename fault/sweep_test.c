/*
 * Failure sweeps: every allocation and every I/O of a scenario fails in turn.  An access that met the failure may be
 * refused (killed, or SIGBUS for I/O), but it must leave everything as it was: the same access succeeds right after,
 * the bytes are right, and nothing is missing at the end (rig_free).
 *
 * The machine has no reclaim here: try_to_free_pages would hide the failures.
 */
#include "testutil.h"

typedef void (*scenario_fn)(struct rig *r, struct test_file *t);

static u64 refused; /* accesses that met an injected failure, over all sweeps */

/* The access, again if it was refused.  Nothing but the injected failure may be the reason. */
static void touch(struct rig *r, u64 addr, bool write, u64 value)
{
	u64 v = 0;
	int err = write ? sim_store(r->cpu, addr, 8, value) : sim_load(r->cpu, addr, 8, &v);

	if (err) {
		assert_int_equal(sim_fail_injected(r->q), 1);
		assert_true(err == -EINTR || (r->cpu->info.sig == 7 && r->cpu->info.code == 2));
		refused++;
		err = write ? sim_store(r->cpu, addr, 8, value) : sim_load(r->cpu, addr, 8, &v);
	}
	assert_int_equal(err, 0);
	if (!write)
		assert_int_equal(v, value);
}

static u64 try_map(struct rig *r, struct file *f, u64 len, u64 prot, u64 flags)
{
	long a = do_mmap(r->mm, f, 0, len, prot, flags, 0);

	if (a < 0) {
		assert_int_equal(sim_fail_injected(r->q), 1);
		a = do_mmap(r->mm, f, 0, len, prot, flags, 0);
	}
	assert_true(a > 0);
	return (u64)a;
}

static struct mm_struct *try_fork(struct rig *r)
{
	struct mm_struct *mm = dup_mm(r->mm);

	if (IS_ERR(mm)) {
		assert_int_equal(sim_fail_injected(r->q), 1);
		mm = dup_mm(r->mm);
	}
	assert_false(IS_ERR(mm));
	return mm;
}

static void anonymous(struct rig *r, struct test_file *t)
{
	u64 a = try_map(r, NULL, 4 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS), i;

	(void)t;
	for (i = 0; i < 40; i++)
		touch(r, a + i * 20 * KIB, i % 3, i % 3 ? i : 0);
	for (i = 0; i < 40; i++)
		touch(r, a + i * 20 * KIB, true, i);
	for (i = 0; i < 40; i++)
		touch(r, a + i * 20 * KIB, false, i);
}

static void cow(struct rig *r, struct test_file *t)
{
	u64 a = try_map(r, NULL, 1 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS), i;
	struct mm_struct *child;

	(void)t;
	for (i = 0; i < 64; i++)
		touch(r, a + i * PAGE_SIZE, true, i);
	child = try_fork(r);
	for (i = 0; i < 64; i += 5)
		touch(r, a + i * PAGE_SIZE, true, 1000 + i);
	sim_cpu_switch_mm(r->cpu, child);
	for (i = 0; i < 64; i++)
		touch(r, a + i * PAGE_SIZE, false, i);
	for (i = 0; i < 64; i += 7)
		touch(r, a + i * PAGE_SIZE, true, 2000 + i);
	sim_cpu_switch_mm(r->cpu, r->mm);
	for (i = 0; i < 64; i++)
		touch(r, a + i * PAGE_SIZE, false, i % 5 ? i : 1000 + i);
	mmput(child);
}

static void files(struct rig *r, struct test_file *t)
{
	u64 p = try_map(r, t->file, 40 * PAGE_SIZE, RW, MAP_PRIVATE);
	u64 s = try_map(r, t->file, 40 * PAGE_SIZE, RW, MAP_SHARED);
	u64 i, byte = 0x0101010101010101ull;

	for (i = 0; i < 40; i += 7)
		touch(r, p + i * PAGE_SIZE, false, (i + 1) * byte);
	for (i = 0; i < 40; i += 5)
		touch(r, p + i * PAGE_SIZE + 8, true, i);
	for (i = 0; i < 40; i += 3)
		touch(r, s + i * PAGE_SIZE, true, 500 + i);
	for (i = 0; i < 40; i += 3)
		touch(r, s + i * PAGE_SIZE, false, 500 + i);
	if (filemap_sync(t->m, 0, ~0ull, true)) {
		assert_int_equal(sim_fail_injected(r->q), 1);
		assert_int_equal(filemap_sync(t->m, 0, ~0ull, true), 0);
	}
	for (i = 0; i < 40; i += 3)
		assert_int_equal(*(u64 *)(void *)(t->data + i * PAGE_SIZE), 500 + i);
	assert_int_equal(r->q->nr_dirty_pages, 0);
}

static void tokens(struct rig *r, struct test_file *t)
{
	u64 p = try_map(r, t->file, 40 * PAGE_SIZE, RW, MAP_PRIVATE), i;
	struct fault_info info;

	for (i = 0; i < 40; i += 9)
		if (do_mem_abort(r->mm, p + i * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, false, 7), &info))
			assert_int_equal(sim_fail_injected(r->q), 1);
	for (i = 1; i < 40; i += 5)
		touch(r, p + i * PAGE_SIZE + 8, true, i);
	for (i = 1; i < 40; i += 5)
		touch(r, p + i * PAGE_SIZE, false, (i + 1) * 0x0101010101010101ull);
}

/* Private copies in blocks: the file is the program's own. */
static void program_data(struct rig *r, struct test_file *t)
{
	u64 p = try_map(r, t->file, 40 * PAGE_SIZE, RW, MAP_PRIVATE), i;

	r->mm->exe_file = t->file;
	t->file->refcount++;
	for (i = 0; i < 40; i += 3)
		touch(r, p + i * PAGE_SIZE + 8, true, i);
	for (i = 0; i < 40; i += 3)
		touch(r, p + i * PAGE_SIZE, false, (i + 1) * 0x0101010101010101ull);
}

static void shmem(struct rig *r, struct test_file *t)
{
	u64 a = try_map(r, NULL, 1 * MIB, RW, MAP_SHARED | MAP_ANONYMOUS), i;
	struct mm_struct *child;

	(void)t;
	for (i = 0; i < 20; i++)
		touch(r, a + i * 12 * KIB, true, i);
	child = try_fork(r);
	sim_cpu_switch_mm(r->cpu, child);
	for (i = 0; i < 20; i++)
		touch(r, a + i * 12 * KIB, false, i);
	sim_cpu_switch_mm(r->cpu, r->mm);
	mmput(child);
}

static void gup(struct rig *r, struct test_file *t)
{
	u64 a = try_map(r, NULL, 256 * KIB, RW, MAP_PRIVATE | MAP_ANONYMOUS);
	static char buf[100 * 1024], back[sizeof(buf)];
	size_t done = 0;
	u32 pfns[8];
	long n;

	(void)t;
	memset(buf, 7, sizeof(buf));
	while (done < sizeof(buf)) {
		n = access_process_vm(r->mm, a + 9 + done, buf + done, sizeof(buf) - done, true);
		if (n < 0 || done + (size_t)n < sizeof(buf))
			assert_int_equal(sim_fail_injected(r->q), 1);
		done += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(access_process_vm(r->mm, a + 9, back, sizeof(back), false), sizeof(back));
	assert_memory_equal(buf, back, sizeof(buf));
	n = get_user_pages(r->mm, a + 128 * KIB, 8, true, pfns);
	if (n < 8)
		assert_int_equal(sim_fail_injected(r->q), 1);
	if (n > 0)
		put_user_pages(r->q, pfns, (u32)n, true);
	n = mm_populate(r->mm, a, a + 256 * KIB, true);
	if (n)
		assert_int_equal(sim_fail_injected(r->q), 1);
}

/* Runs the scenario once with the nth request of these kinds failing.  False when it asks for fewer than n. */
static bool run_once(scenario_fn fn, const struct sim_config *cfg, u32 as_flags, u64 kinds, u64 n)
{
	struct rig r = rig_new(cfg);
	struct test_file *t = tf_new(r.q, 1, 40 * PAGE_SIZE, as_flags);
	bool injected;

	r.q->hooks.try_to_free_pages = NULL;
	r.q->hooks.out_of_memory = NULL;
	sim_fail_nth(r.q, kinds, n);
	fn(&r, t);
	injected = sim_fail_injected(r.q);
	sim_fail_none(r.q);
	assert_int_equal(sim_tlb_check(r.q), 0);
	rig_drop_mm(&r);
	file_put(t->file);
	tf_free(t);
	rig_free(&r);
	return injected;
}

static void sweep(scenario_fn fn, u32 as_flags)
{
	u32 order;
	u64 n;

	for (order = 0; order <= 4; order += 4) {
		struct sim_config cfg = { .memory = 16 * MIB, .folio_max_order = order, .overcommit_memory = 1,
					  .check_law1 = true, .check_reuse = true };

		for (n = 1; run_once(fn, &cfg, as_flags, SIM_FAIL_ALL, n); n++)
			;
		assert_true(n > 3);
	}
}

static void test_anonymous(void **state) { (void)state; sweep(anonymous, 0); }
static void test_cow(void **state) { (void)state; sweep(cow, 0); }
static void test_files(void **state) { (void)state; sweep(files, 0); }
static void test_tokens(void **state) { (void)state; sweep(tokens, AS_TOKEN); }
static void test_program_data(void **state) { (void)state; sweep(program_data, AS_TOKEN); }
static void test_shmem(void **state) { (void)state; sweep(shmem, 0); }
static void test_gup(void **state) { (void)state; sweep(gup, 0); }

/* The sweeps are worth nothing if nobody ever met a failure. */
static void test_failures_were_met(void **state)
{
	(void)state;
	assert_true(refused > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_anonymous), cmocka_unit_test(test_cow), cmocka_unit_test(test_files),
		cmocka_unit_test(test_tokens), cmocka_unit_test(test_program_data),
		cmocka_unit_test(test_shmem), cmocka_unit_test(test_gup),
		cmocka_unit_test(test_failures_were_met),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
