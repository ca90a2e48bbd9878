/* Mapped files: shared and private, coherent with read and write, beyond the end, after truncation, across fork. */
#include "guest.h"
#include <sys/uio.h>

static int fd;

static char *map(size_t pages, int prot, int flags)
{
	char *p = mmap(NULL, pages * PAGE, prot, flags, fd, 0);

	VERIFY(p != MAP_FAILED);
	return p;
}

static void coherence(void)
{
	char *s = map(4, PROT_READ | PROT_WRITE, MAP_SHARED), *r = map(4, PROT_READ, MAP_SHARED);
	char *p = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE), byte;

	printf("as written: %d %d %d\n", (unsigned char)s[10], (unsigned char)r[PAGE + 10], (unsigned char)p[2 * PAGE + 10]);
	s[10] = 1;
	VERIFY(pread(fd, &byte, 1, 10) == 1);
	printf("store seen by read: %d, by the other mapping: %d, by the private one: %d\n", byte, r[10], p[10]);
	VERIFY(pwrite(fd, "\2", 1, 11) == 1);
	printf("write seen by mappings: %d %d %d\n", s[11], r[11], p[11]);
	p[12] = 3;
	VERIFY(pread(fd, &byte, 1, 12) == 1);
	printf("private store stays private: %d, shared still %d\n", byte == (char)84, s[12] == (char)84);
	s[12] = 4;
	printf("private copy no longer follows: %d\n", p[12]);
	s[PAGE + 5] = 5;
	printf("private page not yet copied follows: %d\n", p[PAGE + 5]);
	VERIFY(msync(s, 4 * PAGE, MS_SYNC) == 0 && munmap(r, 4 * PAGE) == 0);
}

static void child_part(void)
{
	static char *s, *p;

	if (!s) {
		s = map(1, PROT_READ | PROT_WRITE, MAP_SHARED);
		p = map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	}
	s[100] = 50;
	p[100] = 51;
	printf("child: %d %d\n", s[100], p[100]);
}

static void growth(void)
{
	char *s = map(8, PROT_READ | PROT_WRITE, MAP_SHARED), byte;

	VERIFY(ftruncate(fd, 8 * PAGE) == 0);
	s[7 * PAGE] = 9;
	VERIFY(pread(fd, &byte, 1, 7 * PAGE) == 1);
	printf("mapped before it grew: %d\n", byte);
	VERIFY(ftruncate(fd, 2 * PAGE + 100) == 0);
	s[2 * PAGE + 200] = 10; /* in the last page, beyond the end: lost */
	VERIFY(ftruncate(fd, 8 * PAGE) == 0);
	printf("cut and grown again is zero: %d %d\n", s[7 * PAGE], s[4 * PAGE]);
	VERIFY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE) == 0);
	printf("punched is zero: %d\n", all_zero(s + PAGE, PAGE));
}

/* The file copied onto itself through its own mapping, and between mapping and pipe. */
static void through_calls(void)
{
	char *s = map(8, PROT_READ | PROT_WRITE, MAP_SHARED), *copy = fresh(8 * PAGE);
	struct iovec iov[3] = {{copy, 100}, {copy + PAGE + 5, 3000}, {copy + 5 * PAGE, 2 * PAGE}};

	for (size_t i = 0; i < 8 * PAGE; i++)
		s[i] = (char)(i / 37);
	SHOWN(preadv(fd, iov, 3, 50));
	printf("preadv: %d %d %d\n", memcmp(copy, s + 50, 100), memcmp(copy + PAGE + 5, s + 150, 3000),
	       memcmp(copy + 5 * PAGE, s + 3150, 2 * PAGE));
	SHOWN(pread(fd, s + 4 * PAGE, 2 * PAGE, 0));
	printf("read into its own mapping: %d\n", memcmp(s, s + 4 * PAGE, 2 * PAGE));
	SHOWN(pwrite(fd, s + 1000, 3 * PAGE, 5 * PAGE));
	printf("written from its own mapping: %016lx\n", digest(s, 8 * PAGE));
}

int main(void)
{
	fd = temp_file(4 * PAGE);
	coherence();
	in_child("child", child_part);
	in_child("child", child_part);
	growth();
	through_calls();
	return 0;
}
