/* mmap(2)'s flags and errors, as the man page lists them. */
#include "guest.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static void lengths(void)
{
	SHOW(mmap(NULL, 0, RW, ANON, -1, 0));
	SHOW(mmap(NULL, 1, RW, ANON, -1, 0));
	SHOW(mmap(NULL, ~0ul, RW, ANON, -1, 0));
	SHOW(mmap(NULL, ~0ul - PAGE, RW, ANON, -1, 0));
	SHOW(mmap(NULL, 1ul << 47, RW, ANON | MAP_NORESERVE, -1, 0));
	SHOW(mmap(NULL, 1ul << 40, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
}

static void flags(char *hole)
{
	SHOW(mmap(NULL, PAGE, RW, MAP_ANONYMOUS, -1, 0));
	SHOW(mmap(NULL, PAGE, RW, 0, -1, 0));
	SHOW(mmap(hole + 1, PAGE, RW, ANON | MAP_FIXED, -1, 0));
	SHOW(mmap(hole, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
	SHOW(mmap(hole + 2 * PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0));
	SHOW(mmap(hole, 3 * PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
	SHOW(mmap(hole, 3 * PAGE, RW, ANON | MAP_FIXED, -1, 0));
	SHOW(mmap((void *)(1ul << 62), PAGE, RW, ANON | MAP_FIXED, -1, 0));
	SHOW(mmap((void *)(1ul << 62), PAGE, RW, ANON, -1, 0));
	SHOW(mmap(NULL, PAGE, RW, ANON | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_DENYWRITE, -1, 0));
	SHOW(mmap(NULL, PAGE, RW, ANON | MAP_GROWSDOWN, -1, 0));
	SHOW(mmap(NULL, PAGE, RW, ANON | MAP_LOCKED, -1, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ | 0x40, ANON, -1, 0));
	printf("MAP_32BIT lies low: %d\n", (uintptr_t)mmap(NULL, PAGE, RW, ANON | MAP_32BIT, -1, 0) < 1ul << 32);
	printf("a hint that is free is taken: %d\n",
	       munmap(hole, PAGE) == 0 && mmap(hole, PAGE, RW, ANON, -1, 0) == hole);
	printf("a hint that is not free is passed over: %d\n", mmap(hole, PAGE, RW, ANON, -1, 0) != hole);
}

static void files(void)
{
	int rw = temp_file(3 * PAGE), ro, wo, dir = open("/tmp", O_RDONLY | O_DIRECTORY), pipes[2];
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", rw);
	ro = open(path, O_RDONLY);
	wo = open(path, O_WRONLY);
	VERIFY(ro >= 0 && wo >= 0 && dir >= 0 && pipe(pipes) == 0);
	SHOW(mmap(NULL, PAGE, RW, MAP_SHARED, -1, 0));
	SHOW(mmap(NULL, PAGE, RW, MAP_SHARED, 999, 0));
	SHOW(mmap(NULL, PAGE, RW, MAP_SHARED, rw, 0));
	SHOW(mmap(NULL, PAGE, RW, MAP_SHARED, rw, 1));
	SHOW(mmap(NULL, PAGE, RW, MAP_SHARED, rw, 100 * PAGE));
	SHOW(mmap(NULL, PAGE, RW, MAP_SHARED, ro, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0));
	SHOW(mmap(NULL, PAGE, RW, MAP_PRIVATE, ro, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, wo, 0));
	SHOW(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, wo, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, dir, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, pipes[0], 0));
	SHOW(mmap((void *)-1l, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	SHOW(mmap((void *)-PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE, rw, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | (1 << 22), rw, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | (1 << 30), rw, 0)); /* part of MAP_HUGE_1GB: known */
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | (1u << 31), rw, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED | (1 << 22), rw, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, rw, 0));
	SHOW(mmap(NULL, 1ul << 40, PROT_READ, MAP_SHARED, rw, (off_t)(~0ul << 12 >> 1 & ~0xffful)));
}

static void unmapping(char *hole)
{
	SHOW(munmap(hole + 1, PAGE));
	SHOW(munmap(hole, 0));
	SHOW(munmap(hole, PAGE));
	SHOW(munmap(hole, PAGE));
	SHOW(munmap((void *)(1ul << 62), PAGE));
	SHOW(munmap(hole, 1));
	SHOW(mprotect(hole, PAGE, PROT_READ));
	SHOW(mprotect(hole + 1, PAGE, PROT_READ));
	SHOW(mprotect(hole, 0, PROT_READ));
	SHOW(mprotect(hole + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
	SHOW(mprotect(hole + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN));
	SHOW(mprotect(hole + PAGE, PAGE, 0x10));
	SHOW(mprotect(hole + PAGE, PAGE, PROT_NONE));
}

int main(void)
{
	char *hole = fresh(16 * PAGE);

	VERIFY(munmap(hole + PAGE, 15 * PAGE) == 0);
	lengths();
	flags(hole);
	unmapping(hole);
	files();
	return 0;
}
