/* Registers survive page faults and signals: SSE, AVX where there is any, x87, flags, in threads that fault all the time. */
#include "guest.h"
#include <immintrin.h>
#include <sys/time.h>

static long ticks;

static void on_tick(int sig, siginfo_t *info, void *context)
{
	volatile float junk[64];

	for (int i = 0; i < 64; i++)
		junk[i] = (float)i * 1.5f;
	__atomic_fetch_add(&ticks, junk[2] == 3.0f, __ATOMIC_RELAXED);
}

/* Eight vector registers hold values across stores that fault. */
__attribute__((target("avx"))) static int with_avx(char *p, size_t pages)
{
	__m256d v[8];
	double out[4];
	int bad = 0;

	for (int i = 0; i < 8; i++)
		v[i] = _mm256_set1_pd(i + 0.5);
	for (size_t k = 0; k < pages; k++) {
		*(volatile char *)(p + k * PAGE) = 1;
		for (int i = 0; i < 8; i++)
			v[i] = _mm256_add_pd(v[i], _mm256_set1_pd(1.0));
	}
	for (int i = 0; i < 8; i++) {
		_mm256_storeu_pd(out, v[i]);
		for (int j = 0; j < 4; j++)
			bad += out[j] != i + 0.5 + (double)pages;
	}
	return bad;
}

static int with_x87(char *p, size_t pages)
{
	long double a = 1.0L, b = 0.0L;

	for (size_t k = 0; k < pages; k++) {
		*(volatile char *)(p + k * PAGE + 8) = 1;
		a += 1.0L / 3;
		b += a;
	}
	for (size_t k = pages; k-- > 0; a -= 1.0L / 3)
		b -= a;
	return b > 1e-6L || b < -1e-6L;
}

static void *worker(void *arg)
{
	size_t pages = 400;
	long bad = 0;

	for (int round = 0; round < 8; round++) {
		char *p = fresh(pages * PAGE);

		bad += __builtin_cpu_supports("avx") ? with_avx(p, pages) : 0;
		VERIFY(madvise(p, pages * PAGE, MADV_DONTNEED) == 0);
		bad += with_x87(p, pages);
		VERIFY(munmap(p, pages * PAGE) == 0);
	}
	return (void *)bad;
}

int main(void)
{
	struct itimerval t = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
	pthread_t threads[3];
	long bad = 0;
	void *r;

	handle(SIGALRM, on_tick, SA_RESTART);
	VERIFY(setitimer(ITIMER_REAL, &t, NULL) == 0);
	for (int i = 0; i < 3; i++)
		VERIFY(pthread_create(&threads[i], NULL, worker, NULL) == 0);
	for (int i = 0; i < 3; i++) {
		VERIFY(pthread_join(threads[i], &r) == 0);
		bad += (long)r;
	}
	VERIFY(setitimer(ITIMER_REAL, &off, NULL) == 0);
	printf("registers lost: %ld, ticks came %d\n", bad, ticks > 0);
	return 0;
}
