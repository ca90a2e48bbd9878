/* process_madvise(2): on oneself and on a child, in which order it looks at its arguments, and what it did before an error. */
#include "guest.h"
#include <sys/uio.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#define SELF (-10001)
#define SELF_THREAD (-10000)
#define PAGES 8

static char *p;

static long advise(int fd, struct iovec *vec, size_t n, int advice, unsigned flags)
{
	return syscall(SYS_process_madvise, fd, vec, n, advice, flags);
}

static long advise_one(int fd, void *at, size_t len, int advice)
{
	struct iovec vec = { at, len };

	return advise(fd, &vec, 1, advice, 0);
}

static void show_all(const char *who, int fd)
{
	printf("%s:", who);
	for (int advice = 0; advice <= 26; advice++) {
		long n = advise_one(fd, p, PAGE, advice);

		printf(" %d=%s", advice, n < 0 ? strerrorname_np(errno) : n == (long)PAGE ? "page" : "?");
	}
	printf("\n");
}

static void ranges(void)
{
	struct iovec vec[4] = { { p, PAGE }, { p + 3 * PAGE, PAGE }, { p + 5 * PAGE, 2 * PAGE }, { p + 2 * PAGE, 0 } };

	memset(p, 7, PAGES * PAGE);
	SHOWN(advise(SELF, vec, 4, MADV_DONTNEED, 0));
	for (int i = 0; i < PAGES; i++)
		printf("%d", p[i * PAGE]);
	printf("\n");
	vec[1].iov_base = (void *)(1ul << 40);
	SHOWN(advise(SELF, vec, 3, MADV_DONTNEED, 0));
	SHOWN(advise(SELF, vec + 1, 2, MADV_DONTNEED, 0));
	vec[1].iov_base = p + 1;
	SHOWN(advise(SELF, vec, 3, MADV_DONTNEED, 0));
	vec[1] = (struct iovec){ p + PAGE, 100 };
	SHOWN(advise(SELF, vec, 2, MADV_COLD, 0));
	vec[1] = (struct iovec){ p + PAGE, 0 };
	SHOWN(advise(SELF, vec, 3, MADV_DONTNEED, 0));
}

static void errors(int gone, int pipe_fd)
{
	struct iovec vec = { p, PAGE }, many[2] = { { p, PAGE }, { p, (size_t)-1 } };

	SHOW(advise(SELF, &vec, 1, MADV_COLD, 1));
	SHOW(advise(-1, NULL, 1, MADV_COLD, 1));
	SHOW(advise(-1, NULL, 1, MADV_COLD, 0));
	SHOW(advise(-1, &vec, 1025, MADV_COLD, 0));
	SHOW(advise(SELF, &vec, 1025, MADV_COLD, 0));
	SHOW(advise(-1, NULL, 0, MADV_COLD, 0));
	SHOW(advise(SELF, NULL, 0, MADV_COLD, 0));
	SHOW(advise(SELF, many, 2, MADV_COLD, 0));
	SHOW(advise(-1, many, 2, MADV_COLD, 0));
	SHOW(advise_one(SELF, (void *)-PAGE, PAGE, MADV_COLD));
	SHOW(advise_one(-1, p, PAGE, MADV_COLD));
	SHOW(advise_one(pipe_fd, p, PAGE, MADV_COLD));
	SHOW(advise_one(1000, p, PAGE, MADV_COLD));
	SHOW(advise_one(gone, p, PAGE, MADV_COLD));
	SHOW(advise_one(SELF, p, PAGE, 9999));
	SHOW(advise_one(SELF, p, 0, 9999));
	SHOW(advise_one(SELF, p, 0, MADV_COLD));
	SHOW(advise_one(SELF_THREAD, p, PAGE, MADV_COLD) == (long)PAGE);
}

int main(void)
{
	int gone, fds[2], to_child[2];
	pid_t pid;
	char c;

	p = fresh(PAGES * PAGE);
	VERIFY(pipe(fds) == 0 && pipe(to_child) == 0);
	pid = fork();
	if (!pid)
		_exit(0);
	gone = (int)syscall(SYS_pidfd_open, pid, 0);
	VERIFY(gone >= 0 && waitpid(pid, NULL, 0) == pid);
	show_all("self", SELF);
	ranges();
	errors(gone, fds[0]);
	pid = fork();
	if (!pid) {
		p[0] = 'x';
		VERIFY(write(fds[1], "r", 1) == 1 && read(to_child[0], &c, 1) == 1);
		_exit(p[0] == 'x' ? 0 : 1);
	}
	VERIFY(read(fds[0], &c, 1) == 1);
	show_all("child", (int)syscall(SYS_pidfd_open, pid, 0));
	SHOW(advise_one((int)syscall(SYS_pidfd_open, getpid(), 0), p, PAGE, MADV_DONTNEED) == (long)PAGE);
	VERIFY(setresuid(-1, 1, -1) == 0);
	SHOW(advise_one((int)syscall(SYS_pidfd_open, pid, 0), p, PAGE, MADV_COLD));
	SHOW(advise_one((int)syscall(SYS_pidfd_open, pid, 0), p, PAGE, MADV_DONTNEED));
	VERIFY(setresuid(-1, 0, -1) == 0 && write(to_child[1], "g", 1) == 1);
	VERIFY(waitpid(pid, &gone, 0) == pid);
	printf("the child saw nothing of it: %d\n", gone);
	return 0;
}
