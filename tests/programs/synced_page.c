/* The dirty bit of a file's page in /proc/kpageflags, before and after msync(MS_SYNC).  Root only; else it says nothing. */
#include "guest.h"

#define KPF_DIRTY 4
#define PM_PRESENT (1ull << 63)
#define PM_PFN ((1ull << 55) - 1)

static uint64_t word(const char *path, uint64_t index)
{
	int fd = open(path, O_RDONLY);
	uint64_t w = 0;

	if (fd < 0 || pread(fd, &w, sizeof(w), (off_t)(index * sizeof(w))) != sizeof(w))
		w = 0;
	close(fd);
	return w;
}

static const char *dirty(const char *p)
{
	uint64_t entry = word("/proc/self/pagemap", (uintptr_t)p / PAGE);

	if (geteuid())
		return "hidden";
	if (!(entry & PM_PRESENT))
		return "absent";
	return word("/proc/kpageflags", entry & PM_PFN) >> KPF_DIRTY & 1 ? "dirty" : "clean";
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_CREAT | O_RDWR | O_TRUNC, 0600);
	char *p;

	VERIFY(fd >= 0 && ftruncate(fd, PAGE) == 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VERIFY(p != MAP_FAILED && p[0] == 'x');
	for (int i = 0; i < 3; i++) {
		p[8] = (char)('A' + i);
		printf("written: %s\n", dirty(p));
		SHOW(msync(p, PAGE, MS_SYNC));
		printf("synced: %s\n", dirty(p));
		VERIFY(p[8] == 'A' + i);
	}
	return 0;
}
