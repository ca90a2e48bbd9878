/* mmap's flags and its errors: what each asks for, and how it is refused. */
#include "look.h"

#include <errno.h>
#include <sys/mman.h>

static void *try(const char *what, void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	void *p = mmap(at, n, prot, flags, fd, off);

	if (p == MAP_FAILED)
		printf("%-52s refused: %s\n", what, strerror(errno));
	else
		printf("%-52s %p\n", what, p);
	return p;
}

int main(void)
{
	int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	int file = open("/etc/passwd", O_RDONLY), directory = open("/", O_RDONLY);
	char *p = try("private anonymous", NULL, 4 * PAGE, rw, anon, -1, 0), *q;

	p[0] = 1;
	try("the same place again, MAP_FIXED: replaces", p, PAGE, rw, anon | MAP_FIXED, -1, 0);
	printf("%-52s %d\n", "  what stood there is gone", p[0]);
	try("MAP_FIXED_NOREPLACE where something is", p, PAGE, rw, anon | MAP_FIXED_NOREPLACE, -1, 0);
	q = try("only a hint where something is: elsewhere", p, PAGE, rw, anon, -1, 0);
	printf("%-52s %s\n", "  another place", q != p ? "yes" : "no");
	q = try("MAP_POPULATE: frames at once", NULL, PAGE, rw, anon | MAP_POPULATE, -1, 0);
	printf("%-52s %s\n", "  has a frame", frame_of(q) ? "yes" : "no");
	q = try("without: none yet", NULL, PAGE, rw, anon, -1, 0);
	printf("%-52s %s\n", "  has a frame", frame_of(q) ? "yes" : "no");
	try("MAP_32BIT: below 4 GiB", NULL, PAGE, rw, anon | MAP_32BIT, -1, 0);
	try("a file, private, writable though opened for reading", NULL, PAGE, rw, MAP_PRIVATE, file, 0);
	try("a file, shared and writable, opened for reading", NULL, PAGE, rw, MAP_SHARED, file, 0);
	try("a file at an offset that is not a page's", NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 100);
	try("a directory", NULL, PAGE, PROT_READ, MAP_PRIVATE, directory, 0);
	try("a descriptor that is none", NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0);
	try("neither shared nor private", NULL, PAGE, rw, MAP_ANONYMOUS, -1, 0);
	try("length 0", NULL, 0, rw, anon, -1, 0);
	try("more than the address space", NULL, 1ul << 47, rw, anon | MAP_NORESERVE, -1, 0);
	printf("%-52s %s\n", "munmap of an address that is not a page's",
	       munmap(p + 1, PAGE) ? strerror(errno) : "done");
	printf("%-52s %s\n", "munmap of what is not mapped", munmap(p, 4 * PAGE) || munmap(p, PAGE) ? strerror(errno) : "done");
	return 0;
}
