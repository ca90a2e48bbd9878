/* mseal(2): what a sealed mapping refuses, what it still allows, where calls over several mappings stop, and VmFlags. */
#include "guest.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define PAGES 8

static long seal(void *addr, size_t len, unsigned long flags)
{
	return syscall(SYS_mseal, addr, len, flags);
}

/* Eight pages of which two, the third and the fourth, are sealed.  Sealed memory stays for good, so each test takes its own. */
static char *partly_sealed(int prot)
{
	char *p = mmap(NULL, PAGES * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	VERIFY(p != MAP_FAILED && seal(p + 2 * PAGE, 2 * PAGE, 0) == 0);
	return p;
}

/* The mappings of [p, p + PAGES), as rights and lengths, and whether smaps calls them sealed. */
static void show_mappings(const char *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	char line[512], rights[8];
	bool mine = false;

	VERIFY(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3) {
			unsigned long from = start < (unsigned long)p ? (unsigned long)p : start;

			mine = start < (unsigned long)p + PAGES * PAGE && end > (unsigned long)p;
			end = end > (unsigned long)p + PAGES * PAGE ? (unsigned long)p + PAGES * PAGE : end;
			if (mine)
				printf("  page %lu, %lu pages %s", (from - (unsigned long)p) / PAGE, (end - from) / PAGE, rights);
		}
		if (mine && !strncmp(line, "VmFlags:", 8))
			printf(" %s\n", strstr(line, " sl") ? "sealed" : "-");
	}
	fclose(f);
}

static void arguments(void)
{
	char *p = fresh(PAGES * PAGE);

	SHOW(seal(p, PAGE, 1));
	SHOW(seal(p, PAGE, ~0ul));
	SHOW(seal(p + 1, PAGE, 0));
	SHOW(seal(p, -PAGE + 2, 0));
	SHOW(seal(p, -PAGE, 0));
	SHOW(seal(p, 0, 0));
	SHOW(seal((char *)16, 0, 0));
	VERIFY(munmap(p + 3 * PAGE, PAGE) == 0);
	SHOW(seal(p + 3 * PAGE, PAGE, 0));
	SHOW(seal(p + 2 * PAGE, 2 * PAGE, 0));
	SHOW(seal(p + 3 * PAGE, 2 * PAGE, 0));
	SHOW(seal(p, PAGES * PAGE, 0));
	show_mappings(p);
	SHOW(seal(p, 1, 0));
	SHOW(seal(p, 2 * PAGE, 0));
	SHOW(seal(p, 2 * PAGE, 0));
	show_mappings(p);
}

static void mappings(void)
{
	char *p = partly_sealed(PROT_READ | PROT_WRITE), *q = fresh(PAGES * PAGE);

	SHOW(munmap(p, PAGES * PAGE));
	SHOW(munmap(p + 1 * PAGE, 2 * PAGE));
	SHOW(munmap(p + 3 * PAGE, PAGE));
	SHOW(munmap(p + 3 * PAGE, 3 * PAGE));
	show_mappings(p);
	SHOW(mmap(p, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	SHOW(mmap(p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 2 * PAGE);
	SHOW(mmap(p + 2 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p);
	SHOW(mremap(p + 2 * PAGE, PAGE, PAGE, 0) == MAP_FAILED);
	SHOW(mremap(p + 2 * PAGE, 2 * PAGE, PAGE, 0) == MAP_FAILED);
	SHOW(mremap(p + 2 * PAGE, PAGE, 4 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
	SHOW(mremap(p + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == MAP_FAILED);
	SHOW(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * PAGE) == MAP_FAILED);
	SHOW(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED);
	SHOW(mremap(p + 2 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == MAP_FAILED);
	SHOW(mremap(p, 4 * PAGE, PAGE, 0) == MAP_FAILED);
	SHOW(mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q) == MAP_FAILED);
	show_mappings(p);
	SHOW(munmap(p + 4 * PAGE, PAGE));
	SHOW(munmap(p, 2 * PAGE));
	show_mappings(p);
}

static void protections(void)
{
	char *p = partly_sealed(PROT_READ | PROT_WRITE);

	SHOW(mprotect(p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	SHOW(mprotect(p + 2 * PAGE, PAGE, PROT_READ));
	SHOW(mprotect(p, PAGES * PAGE, PROT_READ));
	show_mappings(p);
	SHOW(syscall(SYS_pkey_mprotect, p + 2 * PAGE, PAGE, PROT_NONE, -1));
	SHOW(mprotect(p + 4 * PAGE, PAGE, PROT_NONE));
	p[2 * PAGE] = 1;
	show_mappings(p);
	SHOW(seal(p, PAGES * PAGE, 0));
	show_mappings(p);
}

static void advise_all(const char *what, char *p)
{
	static const int advices[] = { MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK,
				       MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_COLD, MADV_PAGEOUT,
				       MADV_POPULATE_READ, 24 /* DONTNEED_LOCKED */, 102 /* GUARD_INSTALL */, 103 /* GUARD_REMOVE */ };

	printf("%s:", what);
	for (size_t i = 0; i < COUNT(advices); i++)
		printf(" %d=%s", advices[i], madvise(p, PAGE, advices[i]) ? strerrorname_np(errno) : "0");
	printf("\n");
}

static void advices(int fd)
{
	static const struct { const char *what; int prot, flags; } kinds[] = {
		{ "anonymous rw", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS },
		{ "anonymous ro", PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS },
		{ "shared ro", PROT_READ, MAP_SHARED | MAP_ANONYMOUS },
		{ "file private ro", PROT_READ, MAP_PRIVATE },
		{ "file shared ro", PROT_READ, MAP_SHARED },
	};

	for (size_t i = 0; i < COUNT(kinds); i++) {
		char *p = mmap(NULL, 2 * PAGE, kinds[i].prot, kinds[i].flags, kinds[i].flags & MAP_ANONYMOUS ? -1 : fd, 0);

		VERIFY(p != MAP_FAILED && seal(p, PAGE, 0) == 0);
		advise_all(kinds[i].what, p);
	}
}

/* Calls that a seal does not concern, and what a child has. */
static void untouched(void)
{
	char *p = partly_sealed(PROT_READ | PROT_WRITE);
	unsigned char vec[PAGES];
	int status;

	SHOW(mlock(p + 2 * PAGE, PAGE));
	SHOW(munlock(p + 2 * PAGE, PAGE));
	SHOW(msync(p, PAGES * PAGE, MS_SYNC));
	SHOW(mincore(p, PAGES * PAGE, vec));
	fflush(stdout);
	if (!fork()) {
		SHOW(munmap(p, PAGES * PAGE));
		show_mappings(p);
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	printf("child: %d\n", status);
}

/* The heap cannot shrink below what is sealed, and says so by staying. */
static void heap(void)
{
	char *was = sbrk(0), *start = (char *)(((unsigned long)was + PAGE - 1) & ~(PAGE - 1));

	VERIFY(!brk(start + 4 * PAGE));
	SHOW(seal(start + 2 * PAGE, PAGE, 0));
	SHOW(brk(start + 3 * PAGE));
	SHOW(brk(start + PAGE));
	printf("still there: %ld pages\n", ((char *)syscall(SYS_brk, 0) - start) / (long)PAGE);
	SHOW(brk(start + 5 * PAGE));
}

int main(int argc, char **argv)
{
	int fd = open(argc > 1 ? argv[1] : "/proc/self/exe", argc > 1 ? O_RDWR | O_CREAT : O_RDONLY, 0600);

	VERIFY(fd >= 0);
	if (argc > 1)
		VERIFY(ftruncate(fd, PAGES * PAGE) == 0);
	arguments();
	mappings();
	protections();
	advices(fd);
	untouched();
	heap();
	return 0;
}
