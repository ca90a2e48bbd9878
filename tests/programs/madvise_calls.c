/* madvise(2): what each advice does to contents, to children, and its errors. */
#include "guest.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 8
#endif

static char *p;
static int fd;

static void contents(void)
{
	char *f = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *s = fresh_shared(2 * PAGE);

	memset(p, 1, 16 * PAGE);
	SHOW(madvise(p, 4 * PAGE, MADV_DONTNEED));
	printf("dontneed: %d, next page %d\n", all_zero(p, 4 * PAGE), p[4 * PAGE]);
	f[0] = 99;
	SHOW(madvise(f, PAGE, MADV_DONTNEED));
	printf("private file back to the file's byte: %d\n", f[0]);
	s[0] = 5;
	SHOW(madvise(s, PAGE, MADV_DONTNEED));
	printf("shared keeps: %d\n", s[0]);
	SHOW(madvise(s, PAGE, MADV_REMOVE));
	printf("removed: %d\n", s[0]);
	SHOW(madvise(p + 4 * PAGE, PAGE, MADV_FREE));
	printf("freed is old or zero: %d\n", p[4 * PAGE] == 1 || p[4 * PAGE] == 0);
	p[4 * PAGE] = 2;
	printf("written after free: %d\n", p[4 * PAGE]);
	for (int advice = MADV_NORMAL; advice <= MADV_WILLNEED; advice++)
		SHOW(madvise(p, 16 * PAGE, advice));
	SHOW(madvise(p, 16 * PAGE, MADV_COLD));
	SHOW(madvise(p, 16 * PAGE, MADV_PAGEOUT));
	printf("paged out, still there: %d\n", p[8 * PAGE]);
	SHOW(madvise(p, 16 * PAGE, MADV_POPULATE_READ));
	SHOW(madvise(p, 16 * PAGE, MADV_POPULATE_WRITE));
	SHOW(madvise(p, 16 * PAGE, MADV_NOHUGEPAGE));
}

/* Memory that may vanish is dropped on demand, also where it came in large pieces.  The host may need more than one try. */
static void droppable(void)
{
	size_t bytes = 700 * PAGE;
	char *d = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	bool gone = false;

	VERIFY(d != MAP_FAILED);
	memset(d, 4, bytes);
	for (int i = 0; i < 8 && !gone; i++) {
		VERIFY(madvise(d, bytes, MADV_PAGEOUT) == 0);
		gone = all_zero(d, bytes);
		usleep(gone ? 0 : 100000);
	}
	printf("dropped: %d\n", gone);
}

static void child_sees(void)
{
	int fds[2];

	VERIFY(pipe(fds) == 0);
	printf("child: wiped %d, kept %d\n", all_zero(p, PAGE), p[5 * PAGE]);
	printf("child: not inherited: %s\n", write(fds[1], p + 2 * PAGE, 1) == -1 ? strerrorname_np(errno) : "there");
}

static void errors(void)
{
	SHOW(madvise(p + 1, PAGE, MADV_DONTNEED));
	SHOW(madvise(p, 0, MADV_DONTNEED));
	SHOW(madvise(p, PAGE, 9999));
	SHOW(madvise(p, (size_t)-1, MADV_DONTNEED));
	VERIFY(munmap(p + 8 * PAGE, PAGE) == 0);
	memset(p + 7 * PAGE, 3, PAGE);
	memset(p + 9 * PAGE, 3, PAGE);
	SHOW(madvise(p + 7 * PAGE, 3 * PAGE, MADV_DONTNEED));
	printf("around the hole: %d %d\n", p[7 * PAGE], p[9 * PAGE]);
	VERIFY(mprotect(p + 7 * PAGE, PAGE, PROT_READ) == 0);
	SHOW(madvise(p + 7 * PAGE, PAGE, MADV_POPULATE_WRITE));
	SHOW(madvise(p + 8 * PAGE, PAGE, MADV_POPULATE_READ));
	SHOW(madvise(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), PAGE, MADV_FREE));
	SHOW(madvise(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0), PAGE, MADV_WIPEONFORK));
}

int main(void)
{
	p = fresh(16 * PAGE);
	fd = temp_file(2 * PAGE);
	contents();
	SHOW(madvise(p, PAGE, MADV_WIPEONFORK));
	SHOW(madvise(p + 2 * PAGE, PAGE, MADV_DONTFORK));
	p[0] = p[5 * PAGE] = 6;
	in_child("child", child_sees);
	printf("parent keeps: %d\n", p[0]);
	SHOW(madvise(p, PAGE, MADV_KEEPONFORK));
	SHOW(madvise(p + 2 * PAGE, PAGE, MADV_DOFORK));
	in_child("child", child_sees);
	errors();
	droppable();
	return 0;
}
