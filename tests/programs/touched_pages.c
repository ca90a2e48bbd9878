/* What was touched, as mincore() tells of files and /proc of memory: tmpfs brings in no neighbours, clear_refs forgets. */
#include "guest.h"

#define PAGES 256ul

static unsigned char vec[PAGES];

static void resident(const char *what, void *p)
{
	unsigned long n = 0, first = PAGES, last = 0;

	SHOW(mincore(p, PAGES * PAGE, vec));
	for (unsigned long i = 0; i < PAGES; i++) {
		if (vec[i] & 1) {
			n++;
			first = i < first ? i : first;
			last = i;
		}
	}
	printf("%s: %lu, first %lu, last %lu\n", what, n, first, last);
}

/* Kilobytes of a field of smaps for the mapping at p, or of a field of status if p is NULL. */
static long field(const void *p, const char *name)
{
	FILE *f = fopen(p ? "/proc/self/smaps" : "/proc/self/status", "r");
	unsigned long start, end;
	char line[512];
	long kb = -1;
	bool here = !p;

	VERIFY(f);
	while (kb < 0 && fgets(line, sizeof(line), f)) {
		if (p && sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (unsigned long)p && (unsigned long)p < end;
		if (here && !strncmp(line, name, strlen(name)))
			kb = atol(line + strlen(name));
	}
	fclose(f);
	return kb;
}

static void clear_refs(const char *what)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY);

	VERIFY(fd >= 0);
	printf("clear_refs %s: ", what);
	SHOW(write(fd, what, strlen(what)));
	close(fd);
}

static void files(void)
{
	int fd = memfd_create("touched", 0);
	char *p, *private;

	SHOW(ftruncate(fd, PAGES * PAGE));
	p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	resident("new", p);
	p[100 * PAGE] = 1;
	resident("one written", p);
	VERIFY(!p[110 * PAGE]);
	resident("one read", p);
	SHOW(pwrite(fd, "x", 1, 200 * PAGE) == 1);
	resident("one by write()", p);
	private = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	private[100 * PAGE] = 1;
	resident("private", private);
	SHOW(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * PAGE, PAGE));
	resident("punched", p);
}

static void memory(void)
{
	char *p = fresh(PAGES * PAGE), *big;

	memset(p, 1, PAGES * PAGE);
	printf("referenced %ld kB\n", field(p, "Referenced:"));
	clear_refs("3\n");
	printf("files only: %ld kB\n", field(p, "Referenced:"));
	clear_refs("1");
	printf("all: %ld kB of %ld\n", field(p, "Referenced:"), field(p, "Rss:"));
	SHOW(mprotect(p, PAGES * PAGE, PROT_READ)); /* the processor forgets what it knew of the pages */
	for (unsigned long i = 0; i < PAGES; i++)
		VERIFY(p[i * PAGE] == 1);
	printf("touched again: %d\n", field(p, "Referenced:") > 0);
	clear_refs("2");
	printf("anonymous: %ld kB\n", field(p, "Referenced:"));
	clear_refs("0");
	clear_refs("6");
	clear_refs("x");
	big = fresh(64ul << 20);
	memset(big, 1, 64ul << 20);
	munmap(big, 64ul << 20);
	VERIFY(field(NULL, "VmHWM:") > 64 << 10);
	clear_refs("5");
	printf("peak forgotten: %d\n", field(NULL, "VmHWM:") < 32 << 10);
}

int main(void)
{
	files();
	memory();
	return 0;
}
