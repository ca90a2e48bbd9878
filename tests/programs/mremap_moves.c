/* mremap(2): growing, shrinking, moving, and its errors; contents travel with the pages. */
#include "guest.h"

static bool marked(const char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		if (p[i * PAGE] != (char)(i + 1))
			return false;
	return true;
}

static char *mark(char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		p[i * PAGE] = (char)(i + 1);
	return p;
}

int main(void)
{
	char *area = fresh(256 * PAGE), *p = mark(area, 16), *q, *wall;
	int fd = temp_file(4 * PAGE);

	VERIFY(munmap(area + 16 * PAGE, 240 * PAGE) == 0);
	q = mremap(p, 16 * PAGE, 32 * PAGE, 0);
	printf("grown in place: %d, marked %d, rest zero %d\n", q == p, marked(q, 16), all_zero(q + 16 * PAGE, 16 * PAGE));
	wall = mmap(p + 32 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	VERIFY(wall == p + 32 * PAGE);
	SHOW(mremap(p, 32 * PAGE, 64 * PAGE, 0));
	q = mremap(p, 32 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	printf("moved: %d, marked %d\n", q != p && q != MAP_FAILED, marked(q, 16));
	SHOW(msync(p, PAGE, MS_ASYNC));
	p = mremap(q, 64 * PAGE, 8 * PAGE, 0);
	printf("shrunk in place: %d, marked %d\n", p == q, marked(p, 8));
	SHOW(msync(p + 8 * PAGE, PAGE, MS_ASYNC));
	q = mremap(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 100 * PAGE);
	printf("moved to a place: %d, marked %d\n", q == area + 100 * PAGE, marked(q, 8));
	p = mremap(q + 2 * PAGE, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
	printf("middle moved out: %d %d\n", p[0], p[PAGE]);
	SHOW(msync(q + 2 * PAGE, PAGE, MS_ASYNC));
	p = mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	printf("dontunmap: %d %d, old place zero %d\n", p[0], p[PAGE], all_zero(q, 2 * PAGE));
	SHOW(mremap(q + 1, PAGE, PAGE, 0));
	SHOW(mremap(q, PAGE, 0, 0));
	SHOW(mremap(q, PAGE, PAGE, 0x80));
	SHOW(mremap(q, PAGE, PAGE, MREMAP_FIXED, area));
	SHOW(mremap(q, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + PAGE));
	SHOW(mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 1));
	SHOW(mremap(area + 200 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
	SHOW(mremap(p, 0, PAGE, MREMAP_MAYMOVE));
	p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	q = mremap(p, 0, 4 * PAGE, MREMAP_MAYMOVE);
	p[5] = 77;
	printf("shared mapping doubled: %d, sees %d\n", q != p && q != MAP_FAILED, q[5]);
	q = mremap(p, 4 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
	printf("file mapping moved: %d %d\n", q[5], (unsigned char)q[PAGE + 1]);
	return 0;
}
