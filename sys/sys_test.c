/*
 * The system calls on tasks: what is checked before mm/, mincore and process_vm_readv through user memory, figures,
 * and calls that succeed because reclaim made room.
 */
#include "../task/memfile_test.h"
#include <mm/mm.h>
#include <sys/sys.h>

#define BASE 0x10000000ull
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)

static struct task *new_task(struct quire *q, s32 pid)
{
	struct task *t = task_create(q, pid, 1, "test");

	task_set_mm(t, mm_alloc(q, &guest_abi_x86_64));
	t->mm->start_brk = t->mm->brk = 0x5000000;
	return t;
}

static void put(struct task *t, u64 addr, const void *data, size_t n)
{
	assert_int_equal(access_process_vm(t->mm, addr, (void *)(uintptr_t)data, n, true), n);
}

static void test_mmap_arguments(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct task *t = new_task(q, 1);
	struct file *f = memfile_new(q, 1, "/f", calloc(1, PAGE_SIZE), PAGE_SIZE);

	assert_int_equal(sys_mmap(t, BASE, PAGE_SIZE, RW, ANON, NULL, 5), -EINVAL);
	assert_int_equal(sys_mmap(t, BASE, PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED, NULL, 0), -EBADF);
	assert_int_equal(sys_mmap(t, BASE, 0, RW, ANON, NULL, 0), -EINVAL);
	assert_int_equal(sys_mmap(t, BASE + 1, PAGE_SIZE, RW, ANON, NULL, 0), -EINVAL);
	assert_int_equal(sys_mmap(t, BASE, PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, f, 0), -EACCES); /* opened for reading */
	assert_int_equal(sys_mmap(t, BASE, PAGE_SIZE, RW, ANON, f, 0), (long)BASE);                /* the file is ignored */
	assert_null(find_vma(t->mm, BASE)->vm_file);
	assert_int_equal(sys_munmap(t, BASE + 1, PAGE_SIZE), -EINVAL);
	assert_int_equal(sys_munmap(t, BASE, 0), -EINVAL);
	assert_int_equal(sys_munmap(t, BASE, PAGE_SIZE), 0);
	assert_int_equal(sys_mlock2(t, BASE, PAGE_SIZE, 2), -EINVAL);
	assert_int_equal(sys_mprotect(t, BASE, PAGE_SIZE, RW), -ENOMEM);
	assert_true(mm_is_valid(t->mm));
	file_put(f);
	task_exit(t);
	sim_machine_free(q);
}

static void test_brk(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct task *t = new_task(q, 1);
	u64 v = 5;

	assert_int_equal(sys_brk(t, 0), 0x5000000);
	assert_int_equal(sys_brk(t, 0x5000000 + 132 * 1024), 0x5000000 + 132 * 1024);
	put(t, 0x5000000 + 100 * 1024, &v, 8);
	assert_int_equal(sys_brk(t, 0x5000001), 0x5000001);
	assert_int_equal(t->mm->rss[MM_ANONPAGES], 0);
	assert_int_equal(sys_set_mm_rlimit(t, RLIMIT_DATA, 64 << 10), 0);
	assert_int_equal(sys_brk(t, 0x5000000 + (1 << 20)), 0x5000001); /* refused: it does not move */
	assert_int_equal(sys_set_mm_rlimit(t, 77, 1), -EINVAL);
	task_exit(t);
	sim_machine_free(q);
}

static void test_mincore(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct task *t = new_task(q, 1);
	u64 vec = BASE + (64ull << 20), pages = 1500;
	u8 *got = malloc(pages);

	assert_int_equal(sys_mmap(t, BASE, pages * PAGE_SIZE, RW, ANON, NULL, 0), (long)BASE);
	assert_int_equal(sys_mmap(t, vec, PAGE_SIZE, RW, ANON, NULL, 0), (long)vec);
	for (u64 i = 0; i < pages; i += 3)
		put(t, BASE + i * PAGE_SIZE, "x", 1);
	assert_int_equal(sys_mincore(t, BASE, pages * PAGE_SIZE, vec), 0);
	assert_int_equal(access_process_vm(t->mm, vec, got, pages, false), pages);
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(got[i] & 1, i % 3 == 0);
	assert_int_equal(sys_mincore(t, BASE + 1, PAGE_SIZE, vec), -EINVAL);
	assert_int_equal(sys_mincore(t, BASE, (pages + 1) * PAGE_SIZE, vec), -ENOMEM);
	assert_int_equal(sys_mincore(t, BASE, PAGE_SIZE, 0x1000), -EFAULT);
	assert_int_equal(sys_mincore(t, BASE, PAGE_SIZE, ~0ull), -EFAULT);
	assert_int_equal(sys_mincore(t, BASE, ~0ull, vec), -ENOMEM);
	assert_int_equal(sys_mincore(t, BASE, 0, vec), 0);
	free(got);
	task_exit(t);
	sim_machine_free(q);
}

/* ---- process_vm_readv ---- */

static void test_process_vm(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct leak_check before = leak_count(q);
	struct task *t = new_task(q, 1), *o = new_task(q, 2);
	u64 iov = BASE + (1 << 20);
	/* Scattered over both: 100 + 0 + 9000 bytes here, 5000 + 4100 there. */
	u64 local[6] = { BASE + 7, 100, 0, 0, BASE + 20000, 9000 }, far[4] = { BASE + 1, 5000, BASE + 30001, 4100 };
	u64 fresh[2] = { BASE + (64 << 20), 3 * PAGE_SIZE }, stack = BASE + (128 << 20), below[2] = { stack - 200, 100 };
	s64 anon;
	u64 bad[2] = { BASE + (512 << 20), 10 }, half[4] = { BASE, 100, BASE + (512 << 20), 100 };
	u8 *data = malloc(64 * 1024), *got = malloc(64 * 1024);

	for (int i = 0; i < 64 * 1024; i++)
		data[i] = (u8)(i * 31 + (i >> 8));
	assert_int_equal(sys_mmap(t, BASE, 2 << 20, RW, ANON, NULL, 0), (long)BASE);
	assert_int_equal(sys_mmap(o, BASE, 64 * 1024, RW, ANON, NULL, 0), (long)BASE);
	put(o, BASE, data, 64 * 1024);
	put(t, iov, local, sizeof(local));
	put(t, iov + 4096, far, sizeof(far));
	put(t, iov + 8192, bad, sizeof(bad));
	put(t, iov + 9000, half, sizeof(half));
	assert_int_equal(sys_process_vm_readv(t, 2, iov, 3, iov + 4096, 2, 0), 9100);
	assert_int_equal(access_process_vm(t->mm, BASE, got, 64 * 1024, false), 64 * 1024);
	assert_memory_equal(got + 7, data + 1, 100);
	assert_memory_equal(got + 20000, data + 101, 4900);
	assert_memory_equal(got + 24900, data + 30001, 4100);
	/* And back again, one byte shifted. */
	got[7] ^= 0xff;
	put(t, BASE + 7, got + 7, 1);
	assert_int_equal(sys_process_vm_writev(t, 2, iov, 3, iov + 4096, 2, 0), 9100);
	assert_int_equal(access_process_vm(o->mm, BASE + 1, got, 1, false), 1);
	assert_int_equal(got[0], data[1] ^ 0xff);
	/* Errors. */
	assert_int_equal(sys_process_vm_readv(t, 2, iov, 3, iov + 4096, 2, 1), -EINVAL);
	assert_int_equal(sys_process_vm_readv(t, 2, iov, 1025, iov + 4096, 2, 0), -EINVAL);
	assert_int_equal(sys_process_vm_readv(t, 3, iov, 3, iov + 4096, 2, 0), -ESRCH);
	assert_int_equal(sys_process_vm_readv(t, 2, 0x10, 3, iov + 4096, 2, 0), -EFAULT);
	assert_int_equal(sys_process_vm_readv(t, 2, iov, 3, iov + 8192, 1, 0), -EFAULT);
	assert_int_equal(sys_process_vm_readv(t, 2, iov, 0, iov + 4096, 2, 0), 0);
	/* What came before the bad address counts. */
	assert_int_equal(sys_process_vm_readv(t, 2, iov, 3, iov + 9000, 2, 0), 100);
	/* The other side's pages come in, all of a range, before this side's turn out to be bad. */
	assert_int_equal(sys_mmap(o, fresh[0], fresh[1], RW, ANON, NULL, 0), (long)fresh[0]);
	put(t, iov + 9000, fresh, sizeof(fresh));
	anon = o->mm->rss[MM_ANONPAGES];
	assert_int_equal(sys_process_vm_writev(t, 2, iov + 8192, 1, iov + 9000, 1, 0), -EFAULT);
	assert_int_equal(o->mm->rss[MM_ANONPAGES], anon + 3);
	/* And if the other side's are not there, this side's are not touched: a stack does not grow. */
	assert_int_equal(sys_mmap(t, stack, 2 * PAGE_SIZE, RW, ANON | MAP_GROWSDOWN, NULL, 0), (long)stack);
	put(t, iov + 9000, below, sizeof(below));
	assert_int_equal(sys_process_vm_writev(t, 2, iov + 9000, 1, iov + 8192, 1, 0), -EFAULT);
	assert_int_equal(vma_start(find_vma(t->mm, stack)), stack);
	assert_int_equal(sys_process_vm_writev(t, 2, iov + 9000, 1, iov + 4096, 1, 0), 100);
	assert_int_equal(vma_start(find_vma(t->mm, stack)), stack - PAGE_SIZE);
	free(data);
	free(got);
	task_exit(t);
	task_exit(o);
	leak_assert_none(q, before);
	sim_machine_free(q);
}

/* ---- figures ---- */

static void test_figures(void **state)
{
	struct sim_config cfg = { .memory = 32 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct task *t = new_task(q, 1);
	struct quire_sysinfo i, j;
	struct quire_rusage r;
	struct fault_info info;

	sys_sysinfo(q, &i);
	assert_int_equal(i.totalram, 32 << 20);
	assert_int_equal(i.procs, 1);
	sys_mmap(t, BASE, 1 << 20, RW, ANON, NULL, 0);
	for (u64 a = BASE; a < BASE + (1 << 20); a += PAGE_SIZE)
		do_mem_abort(t->mm, a, esr_make(ESR_EC_DABT_LOW, true, FSC_TRANSLATION + 3), &info);
	sys_sysinfo(q, &j);
	assert_in_range(i.freeram - j.freeram, 1 << 20, (1 << 20) + (1 << 19));
	sys_munmap(t, BASE, 1 << 20);
	sys_getrusage(t, &r);
	assert_int_equal(r.minflt, 256);
	assert_int_equal(r.majflt, 0);
	assert_int_equal(r.maxrss_kb, 1024); /* the peak, though all of it is gone */
	task_exit(t);
	sim_machine_free(q);
}

/* Every allocation of every call failed in turn: an error or success, and a valid address space after it. */
static long one_of_each(struct task *t, unsigned which)
{
	switch (which) {
	case 0: return sys_mmap(t, BASE + (8 << 20), 1 << 20, RW, ANON, NULL, 0);
	case 1: return sys_munmap(t, BASE + 64 * PAGE_SIZE, 8 * PAGE_SIZE);
	case 2: return sys_mprotect(t, BASE + 32 * PAGE_SIZE, 8 * PAGE_SIZE, PROT_READ);
	case 3: return sys_mremap(t, BASE, 16 * PAGE_SIZE, 600 * PAGE_SIZE, MREMAP_MAYMOVE, 0);
	case 4: return sys_brk(t, t->mm->brk + PAGE_SIZE) ? 0 : 0;
	case 5: return sys_madvise(t, BASE + 16 * PAGE_SIZE, 8 * PAGE_SIZE, 4 /* MADV_DONTNEED */);
	case 6: return sys_mlock(t, BASE + 40 * PAGE_SIZE, 4 * PAGE_SIZE);
	case 7: return sys_mmap(t, 0, 1 << 20, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, NULL, 0) > 0 ? 0 : -ENOMEM;
	default: return sys_mincore(t, BASE, PAGE_SIZE, BASE + 20 * PAGE_SIZE);
	}
}

static void test_failure_sweep(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .break_percent = 10 };
	struct quire *q = sim_machine_new(&cfg);
	struct leak_check before = leak_count(q);

	for (unsigned which = 0; which < 9; which++) {
		for (u64 n = 1;; n++) {
			struct task *t = new_task(q, 1);
			u64 injected;

			assert_int_equal(sys_mmap(t, BASE, 100 * PAGE_SIZE, RW, ANON, NULL, 0), (long)BASE);
			for (u64 i = 0; i < 100; i += 2)
				put(t, BASE + i * PAGE_SIZE, "y", 1);
			if (n & 1)
				sim_fail_nth(q, SIM_FAIL_MEMORY, n / 2 + 1);
			else
				sim_fail_from(q, SIM_FAIL_MEMORY, n / 2);
			one_of_each(t, which);
			injected = sim_fail_injected(q);
			sim_fail_none(q);
			assert_true(mm_is_valid(t->mm));
			task_exit(t);
			leak_assert_none(q, before);
			if (!injected)
				break;
		}
	}
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mmap_arguments),
		cmocka_unit_test(test_brk),
		cmocka_unit_test(test_mincore),
		cmocka_unit_test(test_process_vm),
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_failure_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
