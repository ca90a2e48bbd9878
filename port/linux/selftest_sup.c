/*
 * Test builds of the supervisor: a thread that revokes while guests run.
 *
 * Environment, read by the test build only:
 *	QUIRE_HARD_REVOKE=N   move folios N times, then tell the first program by SIGTERM
 *	QUIRE_HARD_BATCH=N    at most so many at once (default 32)
 *	QUIRE_HARD=delays,no-signal,keep-installs,owners   options of selftest.h
 */
#define _GNU_SOURCE
#include "selftest_sup.h"
#include "sup_internal.h"
#include "selftest.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	const struct kernel_exports *k;
	pid_t first;
	u32 ctx, batch, stop;
	u64 wanted;
	pthread_t thread;
} r;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *revoke_main(void *arg)
{
	u64 seed = 1, done = 0;
	double start = now();

	r.k->selftest->bind(r.ctx);
	while (done < r.wanted && !__atomic_load_n(&r.stop, __ATOMIC_RELAXED)) {
		u32 n = r.k->selftest->revoke(&seed, r.batch);

		done += n;
		if (!n)
			usleep(200);
	}
	fprintf(stderr, "revoked %llu folios (%llu frames) in %.1f s, %llu batches, %llu refused, %llu signals\n",
		(unsigned long long)selftest_area()->revoked, (unsigned long long)selftest_area()->frames, now() - start,
		(unsigned long long)selftest_area()->batches, (unsigned long long)selftest_area()->refused,
		(unsigned long long)shared_area()->stat_revoke_signals);
	if (!r.stop)
		kill(r.first, SIGTERM);
	return arg;
}

void selftest_start(const struct kernel_exports *k, pid_t first)
{
	const char *wanted = getenv("QUIRE_HARD_REVOKE"), *batch = getenv("QUIRE_HARD_BATCH"), *options = getenv("QUIRE_HARD");
	u64 serial;

	if (options && strstr(options, "delays"))
		selftest_area()->options |= ST_DELAYS;
	if (options && strstr(options, "no-signal"))
		selftest_area()->options |= ST_NO_SIGNAL;
	if (options && strstr(options, "keep-installs"))
		selftest_area()->options |= ST_KEEP_INSTALLS;
	if (options && strstr(options, "owners"))
		selftest_area()->options |= ST_OWNERS;
	if (!wanted)
		return;
	r.k = k;
	r.first = first;
	r.wanted = strtoull(wanted, NULL, 0);
	r.batch = batch ? (u32)atoi(batch) : 32;
	r.ctx = k->selftest->new_ctx(&serial);
	k->selftest->bind_revoker(r.ctx);
	pthread_create(&r.thread, NULL, revoke_main, NULL);
}

void selftest_stop(void)
{
	if (!r.k)
		return;
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELAXED);
	pthread_join(r.thread, NULL);
}
