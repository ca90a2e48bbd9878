/* For the benchmarks of the core: two clocks, and the median of what they said. */
#ifndef QUIRE_BENCH_TIMING_H
#define QUIRE_BENCH_TIMING_H
#include <stdlib.h>
#include <time.h>

static inline double clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* CPU time of the calling thread: what somebody else does on this host is not measured. */
static inline double cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* Cheaper to ask, for rounds too short to be interrupted often. */
static inline double wall_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Leaves them sorted. */
static inline double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

#endif
