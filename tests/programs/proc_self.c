/* The parts of /proc/self that are the same everywhere: names of mappings, links, a consistent memory image. */
#include "guest.h"

static int lines_with(const char *file, const char *word)
{
	char line[4096];
	int n = 0;
	FILE *f = fopen(file, "re");

	VERIFY(f != NULL);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, word) != NULL;
	fclose(f);
	return n;
}

/* Finds the mapping of an address: its permissions, or "none". */
static const char *permissions(const void *p)
{
	static char perms[8];
	unsigned long start, end;
	char line[4096];
	FILE *f = fopen("/proc/self/maps", "re");

	VERIFY(f != NULL);
	strcpy(perms, "none");
	while (fgets(line, sizeof(line), f)) {
		char now[8];

		VERIFY(sscanf(line, "%lx-%lx %7s", &start, &end, now) == 3 && start < end);
		if ((uintptr_t)p >= start && (uintptr_t)p < end)
			strcpy(perms, now);
	}
	fclose(f);
	return perms;
}

static unsigned long status_kb(const char *name)
{
	unsigned long kb = 0;
	char line[512];
	FILE *f = fopen("/proc/self/status", "re");

	VERIFY(f != NULL);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), ": %lu", &kb);
	fclose(f);
	return kb;
}

int main(int argc, char **argv)
{
	char link[4096] = "", comm[32] = "", bytes[8], *p = fresh(1000 * PAGE);
	unsigned long before, after;
	int local = 77, fd;
	FILE *f;

	(void)!malloc(1);
	printf("heap %d, stack %d, vdso %d\n", lines_with("/proc/self/maps", "[heap]"), lines_with("/proc/self/maps", "[stack]"),
	       lines_with("/proc/self/maps", "[vdso]"));
	printf("text %s", permissions((void *)(uintptr_t)main));
	printf(", stack %s", permissions(&local));
	printf(", fresh %s", permissions(p));
	printf(", shared %s", permissions(fresh_shared(PAGE)));
	VERIFY(mprotect(p, PAGE, PROT_NONE) == 0);
	printf(", protected %s", permissions(p));
	VERIFY(munmap(p, PAGE) == 0);
	printf(", unmapped %s\n", permissions(p));
	before = status_kb("VmRSS");
	memset(p + PAGE, 1, 999 * PAGE);
	after = status_kb("VmRSS");
	printf("RSS grew by about what was touched: %d\n", after - before > 3700 && after - before < 4400);
	before = status_kb("VmSize");
	VERIFY(munmap(p + PAGE, 999 * PAGE) == 0);
	printf("size shrank exactly: %lu\n", before - status_kb("VmSize"));
	VERIFY(readlink("/proc/self/exe", link, sizeof(link) - 1) > 0);
	printf("exe: %s\n", strrchr(link, '/') + 1);
	f = fopen("/proc/self/comm", "re");
	VERIFY(f && fgets(comm, sizeof(comm), f));
	printf("comm: %s", comm);
	fd = open("/proc/self/mem", O_RDONLY);
	VERIFY(fd >= 0 && pread(fd, bytes, 4, (off_t)(uintptr_t)&local) == 4);
	printf("mem: %d, opened for %d", *(int *)bytes, fcntl(fd, F_GETFL) & O_ACCMODE);
	fd = open("/proc/self/mem", O_RDWR);
	printf(" and %d, ", fcntl(fd, F_GETFL) & O_ACCMODE);
	fd = dup(open("/proc/self/statm", O_RDONLY));
	printf("statm for %d, ", fcntl(fd, F_GETFL) & O_ACCMODE);
	fd = dup(open("/proc/self/mem", O_RDONLY));
	printf("a copy of mem reads %zd\n", pread(fd, bytes, 4, (off_t)(uintptr_t)&local));
	SHOW(access("/proc/self/fd/0", F_OK));
	SHOW(access("/proc/self/fd/77", F_OK));
	printf("threads: %lu\n", status_kb("Threads"));
	return 0;
}
