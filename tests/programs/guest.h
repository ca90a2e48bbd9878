/*
 * What the guest programs share.  Each program prints the same, and ends with the same code, natively and under
 * Quire: no addresses, times or process numbers in its output.  A broken promise of memory is printed and ends it.
 */
#ifndef TESTS_GUEST_H
#define TESTS_GUEST_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Prints a call and what became of it: 0, a positive number as "ok", or the name of the error. */
#define SHOW(call) do { \
	errno = 0; \
	long show_ = (long)(call); \
	printf("%s: %s\n", #call, show_ == -1 ? strerrorname_np(errno) : show_ == 0 ? "0" : "ok"); \
} while (0)
/* The same with the number itself, for calls whose result is the same everywhere. */
#define SHOWN(call) do { \
	errno = 0; \
	long show_ = (long)(call); \
	if (show_ == -1) \
		printf("%s: %s\n", #call, strerrorname_np(errno)); \
	else \
		printf("%s: %ld\n", #call, show_); \
} while (0)
#define VERIFY(cond) do { \
	if (!(cond)) { \
		printf("line %d: not true: %s (errno %s)\n", __LINE__, #cond, strerrorname_np(errno)); \
		fflush(stdout); \
		_exit(99); \
	} \
} while (0)

static inline void *fresh(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	VERIFY(p != MAP_FAILED);
	return p;
}

static inline void *fresh_shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	VERIFY(p != MAP_FAILED);
	return p;
}

/* An address where nothing is, that no compiler sees through. */
static inline void *nowhere(void)
{
	static void *volatile bad = (void *)8;

	return bad;
}

/* A repeatable stream of numbers (xorshift64*, Vigna 2016). */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/* FNV-1a, to compare much memory by one number. */
static inline uint64_t digest(const void *p, size_t n)
{
	const unsigned char *b = p;
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	return h;
}

/* Is [p, p+n) all zero? */
static inline bool all_zero(const void *p, size_t n)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i])
			return false;
	return true;
}

static inline void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};

	sigemptyset(&sa.sa_mask);
	VERIFY(sigaction(sig, &sa, NULL) == 0);
}

static inline void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* Runs fn in a child and prints how it ended. */
static inline int in_child(const char *what, void (*fn)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	VERIFY(pid >= 0);
	if (pid == 0) {
		fn();
		fflush(stdout);
		_exit(0);
	}
	VERIFY(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		printf("%s: SIG%s\n", what, sigabbrev_np(WTERMSIG(status)));
	else
		printf("%s: exit %d\n", what, WEXITSTATUS(status));
	return status;
}

/* An unlinked file of n bytes, byte i = i * 7 + page number. */
static inline int temp_file(size_t n)
{
	char path[] = "/tmp/quire-guest-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	unsigned char page[PAGE];

	VERIFY(fd >= 0 && unlink(path) == 0);
	for (size_t at = 0; at < n; at += PAGE) {
		for (size_t i = 0; i < PAGE; i++)
			page[i] = (unsigned char)(i * 7 + at / PAGE);
		VERIFY(write(fd, page, n - at < PAGE ? n - at : PAGE) > 0);
	}
	return fd;
}

#endif
