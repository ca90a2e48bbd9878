/*
 * What a guest program feels of its memory system, one measurement a run: `guest_bench NAME` prints one number, in
 * nanoseconds per operation.  bench.py runs it natively and under Quire in turn and prints the ratios.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char *area(size_t bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	/* bench.py asks for 4 KiB pages natively; under Quire --folio-max decides. */
	if (getenv("BENCH_SMALL_PAGES"))
		madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

/* A permutation of 0..n-1 without memory of its own: n a power of two, the multiplier odd. */
static size_t shuffled(size_t i, size_t n)
{
	return (i * 0x9e3779b1u + 12345) & (n - 1);
}

static double touch(size_t mib, int randomly)
{
	size_t pages = mib * MIB / PAGE;
	char *p = area(mib * MIB);
	uint64_t start = now_ns();

	for (size_t i = 0; i < pages; i++)
		((volatile char *)p)[(randomly ? shuffled(i, pages) : i) * PAGE] = 1;
	return (double)(now_ns() - start) / (double)pages;
}

static double first_touch_sequential(void) { return touch(128, 0); }
static double first_touch_random(void) { return touch(128, 1); }

/* Touch, give back, touch again: the frames are not virgin any more and must be cleared. */
static double second_touch(void)
{
	size_t bytes = 64 * MIB;
	uint64_t start, sum = 0;
	char *p = area(bytes);

	for (int round = 0; round < 4; round++) {
		start = now_ns();
		for (size_t i = 0; i < bytes; i += PAGE)
			((volatile char *)p)[i] = 1;
		sum += round ? now_ns() - start : 0;
		madvise(p, bytes, MADV_DONTNEED);
	}
	return (double)sum / 3 / (double)(bytes / PAGE);
}

static double repeated(long (*op)(void *), void *arg, int n)
{
	uint64_t start;

	op(arg);
	start = now_ns();
	for (int i = 0; i < n; i++)
		op(arg);
	return (double)(now_ns() - start) / n;
}

static long op_brk(void *arg)
{
	return syscall(SYS_brk, 0);
}

static long op_getppid(void *arg)
{
	return syscall(SYS_getppid);
}

static long op_lseek(void *arg)
{
	return syscall(SYS_lseek, 0, 0, SEEK_CUR);
}

static long op_write_null(void *arg)
{
	static char bytes[64];

	return write(*(int *)arg, bytes, sizeof(bytes));
}

static long op_mmap_munmap(void *arg)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*(volatile char *)p = 1;
	return munmap(p, PAGE);
}

static long op_mprotect(void *arg)
{
	mprotect(arg, 64 * PAGE, PROT_READ);
	return mprotect(arg, 64 * PAGE, PROT_READ | PROT_WRITE);
}

static long op_fork(void *arg)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return waitpid(pid, NULL, 0);
}

static long op_fork_rewrite(void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (size_t i = 0; i < 64 * MIB; i += PAGE)
			((volatile char *)arg)[i] = 2;
		_exit(0);
	}
	return waitpid(pid, NULL, 0);
}

static long op_exec(void *arg)
{
	char *argv[] = {"/bin/true", NULL};
	pid_t pid = fork();

	if (pid == 0) {
		execv(argv[0], argv);
		_exit(1);
	}
	return waitpid(pid, NULL, 0);
}

static double call_trapped(void) { return repeated(op_brk, NULL, 200000); }
static double call_getppid(void) { return repeated(op_getppid, NULL, 200000); }
static double call_untrapped(void) { return repeated(op_lseek, NULL, 200000); }
static double call_with_buffer(void)
{
	int fds[2];

	if (pipe(fds))
		return -1;
	close(fds[0]);
	fds[0] = memfd_create("sink", 0);
	return repeated(op_write_null, &fds[0], 100000);
}
static double mmap_touch_munmap(void) { return repeated(op_mmap_munmap, NULL, 20000); }
static double mprotect_pair(void) { return repeated(op_mprotect, memset(area(64 * PAGE), 1, 64 * PAGE), 20000); }
static double fork_exit_wait(void) { return repeated(op_fork, NULL, 300); }
static double fork_of_64m(void)
{
	memset(area(64 * MIB), 1, 64 * MIB);
	return repeated(op_fork, NULL, 50);
}
static double child_rewrites_64m(void) { return repeated(op_fork_rewrite, memset(area(64 * MIB), 1, 64 * MIB), 5); }
static double exec_cached(void) { return repeated(op_exec, NULL, 100); }

/*
 * Revocation: pages are taken away (MADV_DONTNEED) while another process, which shares the address space (clone with
 * CLONE_VM), could be using them.  Nanoseconds a page.  busy: the other one spins in user code; else it sleeps in read(2).
 */
static volatile int other_stops;
static int other_pipe[2];

static int other_spins(void *arg)
{
	while (!other_stops)
		;
	_exit(0);
}

static int other_sleeps(void *arg)
{
	char c;

	while (read(other_pipe[0], &c, 1) < 0)
		;
	_exit(0);
}

static double revoke_pages(size_t pages, int (*other)(void *))
{
	char *p = area(pages * PAGE), *stack = area(256 << 10);
	const int rounds = 200;
	uint64_t spent = 0, start;
	int pid;

	if (pipe(other_pipe) < 0)
		return -1;
	other_stops = 0;
	pid = clone(other, stack + (256 << 10), CLONE_VM | SIGCHLD, NULL);
	if (pid < 0)
		return -1;
	usleep(20000);
	for (int i = 0; i < rounds; i++) {
		memset(p, 1, pages * PAGE);
		start = now_ns();
		madvise(p, pages * PAGE, MADV_DONTNEED);
		spent += now_ns() - start;
	}
	other_stops = 1;
	if (write(other_pipe[1], "", 1) != 1)
		return -1;
	waitpid(pid, NULL, 0);
	return (double)spent / rounds / (double)pages;
}

static double revoke_1_busy(void) { return revoke_pages(1, other_spins); }
static double revoke_64_busy(void) { return revoke_pages(64, other_spins); }
static double revoke_1024_busy(void) { return revoke_pages(1024, other_spins); }
static double revoke_1_asleep(void) { return revoke_pages(1, other_sleeps); }
static double revoke_64_asleep(void) { return revoke_pages(64, other_sleeps); }
static double revoke_1024_asleep(void) { return revoke_pages(1024, other_sleeps); }

static double compute(void)
{
	uint64_t start = now_ns();
	volatile uint64_t sink;
	uint64_t x = 1;

	for (long i = 0; i < 300000000; i++)
		x = x * 6364136223846793005u + 1442695040888963407u;
	sink = x;
	(void)sink;
	return (double)(now_ns() - start) / 300000000;
}

/* Dependent loads over resident memory, so that every host TLB miss shows. */
static double walk(size_t mib)
{
	size_t n = mib * MIB / 64, steps = 4000000, at = 0;
	char *p = area(mib * MIB);
	uint64_t start;

	for (size_t i = 0; i < n; i++)
		*(size_t *)(p + i * 64) = shuffled(i + 1, n);
	start = now_ns();
	for (size_t i = 0; i < steps; i++)
		at = *(volatile size_t *)(p + at * 64);
	return (double)(now_ns() - start + (at == n + 1)) / (double)steps;
}

static double walk_64m(void) { return walk(64); }
static double walk_1g(void) { return walk(1024); }

static double copy_resident(void)
{
	size_t bytes = 64 * MIB;
	char *a = memset(area(bytes), 1, bytes), *b = memset(area(bytes), 2, bytes);
	uint64_t start = now_ns();

	for (int i = 0; i < 10; i++)
		memcpy(i & 1 ? a : b, i & 1 ? b : a, bytes);
	return (double)(now_ns() - start) / 10 / (double)(bytes / PAGE);
}

static const struct {
	const char *name;
	double (*run)(void);
} measurements[] = {
	{"first_touch_sequential", first_touch_sequential}, {"first_touch_random", first_touch_random},
	{"second_touch", second_touch}, {"call_trapped", call_trapped}, {"call_getppid", call_getppid},
	{"call_untrapped", call_untrapped}, {"call_with_buffer", call_with_buffer},
	{"mmap_touch_munmap", mmap_touch_munmap}, {"mprotect_pair", mprotect_pair},
	{"fork_exit_wait", fork_exit_wait}, {"fork_of_64m", fork_of_64m}, {"child_rewrites_64m", child_rewrites_64m},
	{"revoke_1_busy", revoke_1_busy}, {"revoke_64_busy", revoke_64_busy}, {"revoke_1024_busy", revoke_1024_busy},
	{"revoke_1_asleep", revoke_1_asleep}, {"revoke_64_asleep", revoke_64_asleep},
	{"revoke_1024_asleep", revoke_1024_asleep},
	{"exec_cached", exec_cached}, {"compute", compute}, {"copy_resident", copy_resident},
	{"walk_64m", walk_64m}, {"walk_1g", walk_1g},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(measurements) / sizeof(measurements[0]); i++) {
		if (strcmp(argv[1], measurements[i].name) == 0) {
			printf("%.2f\n", measurements[i].run());
			return 0;
		}
	}
	fprintf(stderr, "guest_bench: which measurement?\n");
	return 2;
}
