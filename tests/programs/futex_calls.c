/* futex_wake(2), futex_wait(2), futex_requeue(2) of Linux 6.7: arguments, and waking on private and on shared memory. */
#include "guest.h"

#define WAKE 454
#define WAIT 455
#define REQUEUE 456
#define SIZE_U32 2u
#define PRIVATE 128u
#define ANY (~0u)

struct waiter {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static long f_wake(void *addr, unsigned long mask, int nr, unsigned flags)
{
	return syscall(WAKE, addr, mask, nr, flags);
}

static long f_wait(void *addr, unsigned long val, unsigned long mask, unsigned flags, struct timespec *t, int clock)
{
	return syscall(WAIT, addr, val, mask, flags, t, clock);
}

static struct timespec soon(int clock, long ns)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_nsec += ns;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

static void arguments(uint32_t *word)
{
	struct timespec t = soon(CLOCK_MONOTONIC, 1000000), bad = { 0, -1 };
	struct waiter w[2] = { { 5, (uintptr_t)word, SIZE_U32, 0 }, { 0, (uintptr_t)(word + 1), SIZE_U32, 0 } };

	*word = 5;
	SHOW(f_wake(word, ANY, 1, SIZE_U32));
	SHOW(f_wake(word, 0, 1, SIZE_U32));
	SHOW(f_wake(word, ANY, 1, 0));
	SHOW(f_wake(word, ANY, 1, 3));
	SHOW(f_wake(word, ANY, 1, SIZE_U32 | 16));
	SHOW(f_wake((char *)word + 1, ANY, 1, SIZE_U32));
	SHOW(f_wake(nowhere(), ANY, 1, SIZE_U32));
	SHOW(f_wake(nowhere(), ANY, 1, SIZE_U32 | PRIVATE));
	SHOW(f_wait(word, 4, ANY, SIZE_U32, NULL, 0));
	SHOW(f_wait(word, 1ul << 32 | 5, ANY, SIZE_U32, NULL, 0));
	SHOW(f_wait(word, 5, 0, SIZE_U32, NULL, 0));
	SHOW(f_wait(nowhere(), 5, ANY, SIZE_U32, NULL, 0));
	SHOW(f_wait((char *)word + 2, 5, ANY, SIZE_U32, NULL, 0));
	SHOW(f_wait(word, 5, ANY, SIZE_U32 | PRIVATE, &t, CLOCK_MONOTONIC));
	t = soon(CLOCK_REALTIME, 1000000);
	SHOW(f_wait(word, 5, ANY, SIZE_U32, &t, CLOCK_REALTIME));
	SHOW(f_wait(word, 5, ANY, SIZE_U32, &t, CLOCK_BOOTTIME));
	SHOW(f_wait(word, 5, ANY, SIZE_U32, &bad, CLOCK_MONOTONIC));
	SHOW(f_wait(word, 5, ANY, SIZE_U32, nowhere(), CLOCK_MONOTONIC));
	SHOW(syscall(REQUEUE, w, 1, 1, 1));
	SHOW(syscall(REQUEUE, NULL, 0, 1, 1));
	SHOW(syscall(REQUEUE, nowhere(), 0, 1, 1));
	SHOW(syscall(REQUEUE, w, 0, 1, 1));
	w[0].val = 4;
	SHOW(syscall(REQUEUE, w, 0, 1, 1));
	w[0].val = 5;
	SHOW(syscall(REQUEUE, w, 0, -1, 1));
	w[1].reserved = 1;
	SHOW(syscall(REQUEUE, w, 0, 1, 1));
	w[1].reserved = 0;
	w[1].uaddr = 8;
	SHOW(syscall(REQUEUE, w, 0, 1, 1));
}

struct sleeper {
	uint32_t *word;
	unsigned long mask;
	unsigned flags;
};

static void *sleeps(void *arg)
{
	struct sleeper *s = arg;

	return (void *)f_wait(s->word, *(volatile uint32_t *)s->word, s->mask, s->flags, NULL, 0);
}

/* Until somebody is awake, or moved. */
static long until_done(long (*try)(uint32_t *, unsigned), uint32_t *word, unsigned flags)
{
	long n;

	while ((n = try(word, flags)) == 0)
		usleep(1000);
	return n;
}

static long wake_second_bit(uint32_t *word, unsigned flags)
{
	return f_wake(word, 2, 1, flags);
}

static long wake_any(uint32_t *word, unsigned flags)
{
	return f_wake(word, ANY, 10, flags);
}

static long move(uint32_t *word, unsigned flags)
{
	struct waiter w[2] = { { *word, (uintptr_t)word, flags, 0 }, { 0, (uintptr_t)(word + 1), flags, 0 } };

	return syscall(REQUEUE, w, 0, 0, 10);
}

static void with_threads(const char *what, uint32_t *word, unsigned flags)
{
	struct sleeper s = { word, 2, flags };
	pthread_t thread;
	void *ret;

	*word = 1;
	VERIFY(pthread_create(&thread, NULL, sleeps, &s) == 0);
	printf("%s: other bit %ld,", what, f_wake(word, 1, 1, flags));
	printf(" woken %ld,", until_done(wake_second_bit, word, flags));
	pthread_join(thread, &ret);
	printf(" returned %ld\n", (long)ret);
	s.mask = ANY;
	VERIFY(pthread_create(&thread, NULL, sleeps, &s) == 0);
	printf("%s: moved %ld,", what, until_done(move, word, flags));
	printf(" left %ld, woken %ld\n", f_wake(word, ANY, 10, flags), f_wake(word + 1, ANY, 10, flags));
	pthread_join(thread, &ret);
}

/* A child sleeps in shared memory, and the parent wakes it. */
static void between_processes(uint32_t *word)
{
	struct sleeper s = { word, ANY, SIZE_U32 };
	int status;

	*word = 3;
	fflush(stdout);
	if (!fork())
		_exit(sleeps(&s) ? 1 : 0);
	printf("child woken: %ld\n", until_done(wake_any, word, SIZE_U32));
	wait(&status);
	printf("its end: %d\n", status);
}

int main(void)
{
	uint32_t *private = fresh(PAGE), *shared = fresh_shared(PAGE);

	arguments(private);
	with_threads("private", private, SIZE_U32 | PRIVATE);
	with_threads("private memory, shared call", private, SIZE_U32);
	with_threads("shared", shared, SIZE_U32);
	with_threads("shared memory, private call", shared, SIZE_U32 | PRIVATE);
	between_processes(shared);
	return 0;
}
