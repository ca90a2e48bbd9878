/*
 * Failures on demand: what --fail asks for, in the supervisor's I/O of swap files.
 *
 * By number: the nth question of its kind is answered with yes.  By seed: the nth answer is a function of (seed, kind, n), so that the
 * same seed gives the same answers in the same order; which request asks first is the host's business.
 * A transfer fails after any number of its bytes, so half of what a failed write meant to write may be there.
 *
 * Locks: none; the plan is made before there are threads, the counters are atomic.
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include "../../cmd/quire/options.h"
#include <errno.h>
#include <sys/uio.h>
#include <time.h>

#define SLOW_NS_MAX 20000000u

static struct {
	struct run_fail fail[RUN_NR_FAIL];
	bool any;
	u64 asked[RUN_NR_FAIL];
	u64 failed;
} plan;

/* splitmix64's finish (Steele, Lea, Flood 2014) */
static u64 mix(u64 z)
{
	z += 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void fail_plan(const struct run_options *o)
{
	for (u32 kind = 0; kind < RUN_NR_FAIL; kind++) {
		struct run_fail *f = &plan.fail[kind];

		*f = o->fail[kind];
		if (!f->seed_given)
			f->seed = o->seed_given ? o->seed : 1;
		plan.any |= f->nth || f->share;
	}
}

/* 0: it goes well.  Else a number for what the failure is to look like. */
static u64 should_fail_now(enum run_fail_kind kind)
{
	const struct run_fail *f = &plan.fail[kind];
	u64 n, drawn;

	if (!f->nth && !f->share)
		return 0;
	n = __atomic_add_fetch(&plan.asked[kind], 1, __ATOMIC_RELAXED);
	drawn = mix(mix(f->seed * RUN_NR_FAIL + kind) + n);
	if (f->nth ? n != f->nth : (drawn >> 32) >= f->share)
		return 0;
	__atomic_add_fetch(&plan.failed, 1, __ATOMIC_RELAXED);
	return mix(drawn) | 1;
}

static void take_longer(void)
{
	u64 drawn = should_fail_now(RUN_FAIL_SWAP_SLOW);

	if (drawn)
		nanosleep(&(struct timespec){ .tv_nsec = (long)(drawn % SLOW_NS_MAX) }, NULL);
}

struct fail_transfer fail_transfer(bool write, size_t bytes)
{
	struct fail_transfer t = { .fails_at = bytes + 1 };
	u64 drawn;

	if (!plan.any)
		return t;
	take_longer();
	drawn = should_fail_now(write ? RUN_FAIL_SWAP_WRITE : RUN_FAIL_SWAP_READ);
	t.err = -EIO;
	if (!drawn && write) {
		drawn = should_fail_now(RUN_FAIL_SWAP_FULL);
		t.err = -ENOSPC;
	}
	if (drawn)
		t.fails_at = drawn % (bytes + 1);
	return t;
}

static size_t length_of(const struct iovec *iov, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

int fail_cut(struct iovec *iov, int n, size_t most)
{
	u64 drawn;
	int i;

	if (!plan.any)
		return n;
	drawn = should_fail_now(RUN_FAIL_SWAP_SHORT);
	if (drawn)
		most = 1 + drawn % MIN(most, length_of(iov, n));
	for (i = 0; i < n && most; i++) {
		iov[i].iov_len = MIN(iov[i].iov_len, most);
		most -= iov[i].iov_len;
	}
	return i;
}

u64 fail_count(void)
{
	return __atomic_load_n(&plan.failed, __ATOMIC_RELAXED);
}
