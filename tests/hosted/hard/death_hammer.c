/*
 * Processes hammer the shared structures of a machine (port/linux/selftest_work.c) while they are SIGKILLed from here, one or
 * several at a time, at random moments.  After each round the survivors must go on, every structure must be valid, and
 * at the end nothing may be lost.
 *
 * death_hammer [--rounds N] [--workers N] [--seed S] [--no-log]
 * With --no-log it succeeds when the machine was found broken: stores are then not logged, so it must be.
 */
#define _GNU_SOURCE
#include "../../../port/linux/sup_internal.h"
#include "selftest.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 20

struct worker_process {
	pid_t pid;
	u32 ctx;
	u64 serial;
	bool killed;
};

static struct harness {
	const struct kernel_exports *k;
	struct worker_process w[ST_WORKERS];
	unsigned workers, rounds;
	u64 seed, kills, in_transaction, log_pos;
	u32 pauses;
	bool no_log;
} h = { .workers = 2, .rounds = 1000, .seed = 1 };

static u64 rnd(u64 below)
{
	h.seed ^= h.seed << 13;
	h.seed ^= h.seed >> 7;
	h.seed ^= h.seed << 17;
	return h.seed % below;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void nap(u64 ns)
{
	struct timespec t = { 0, (long)ns };

	nanosleep(&t, NULL);
}

static void print_log(void)
{
	char buf[4096];
	size_t n;

	while ((n = h.k->log_read(&h.log_pos, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, n, stdout);
}

/* ---- the run itself: a child process of main(), so that a broken machine cannot take the verdict with it ---- */

static void broken(const char *what, unsigned round)
{
	unsigned i;

	for (i = 0; i < h.workers; i++)
		if (h.w[i].pid > 0)
			kill(h.w[i].pid, SIGKILL);
	printf("round %u, after %llu kills: %s\n", round, (unsigned long long)h.kills, what);
	if (shared_area()->panicked)
		printf("the machine ended: %.255s\n", shared_area()->panic_text);
	else if (!h.no_log)
		print_log();
	fflush(stdout);
	_exit(1);
}

static void start_worker(unsigned i)
{
	u64 seed = rnd(~0ull);

	h.w[i].ctx = h.k->selftest->new_ctx(&h.w[i].serial);
	if (!h.w[i].ctx)
		broken("no context is free", 0);
	fflush(stdout);
	h.w[i].pid = fork();
	if (h.w[i].pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		h.k->selftest->work(h.w[i].ctx, i, seed, ~0ull);
		_exit(0);
	}
}

static void kill_worker(unsigned i)
{
	h.kills++;
	h.w[i].killed = true;
	kill(h.w[i].pid, SIGKILL);
}

static void bury_worker(unsigned i)
{
	int status;

	while (waitpid(h.w[i].pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		broken("a worker ended by itself", 0);
	if (h.k->selftest->open_log(h.w[i].ctx))
		h.in_transaction++;
	h.k->reap(h.w[i].serial);
	h.w[i].pid = 0;
	h.w[i].killed = false;
}

static void pause_survivors(unsigned round)
{
	struct selftest *s = selftest_area();
	double end = now() + HANG_SECONDS;
	unsigned i, living = 0;

	for (i = 0; i < h.workers; i++)
		living += h.w[i].pid > 0;
	__atomic_store_n(&s->paused, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->pause, ++h.pauses, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&s->paused, __ATOMIC_SEQ_CST) < living) {
		if (shared_area()->panicked)
			broken("panic", round);
		if (now() > end)
			broken("a survivor hangs", round);
		nap(20000);
	}
}

static void resume(void)
{
	__atomic_store_n(&selftest_area()->pause, 0, __ATOMIC_SEQ_CST);
}

/* Everybody who lives must have done something since. */
static void expect_progress(const u64 *before, unsigned round)
{
	double end = now() + HANG_SECONDS;
	unsigned i;

	for (i = 0; i < h.workers; i++) {
		while (h.w[i].pid > 0 && !h.w[i].killed && READ_ONCE(selftest_area()->progress[i].n) < before[i] + 3) {
			if (shared_area()->panicked)
				broken("panic", round);
			if (now() > end)
				broken("a survivor makes no progress", round);
			nap(20000);
		}
	}
}

static void one_round(unsigned round)
{
	unsigned victim = (unsigned)rnd(h.workers), also = (unsigned)rnd(h.workers), i;
	bool two = rnd(5) == 0 && also != victim;
	u64 before[ST_WORKERS];

	nap(rnd(4000000));
	for (i = 0; i < h.workers; i++)
		before[i] = READ_ONCE(selftest_area()->progress[i].n);
	kill_worker(victim);
	if (two) {
		nap(rnd(800000)); /* perhaps while it recovers the first */
		kill_worker(also);
	}
	if (rnd(2))
		bury_worker(victim); /* else the survivors find out by themselves first */
	if (h.w[victim].pid && !two)
		expect_progress(before, round);
	if (h.w[victim].pid)
		bury_worker(victim);
	if (two)
		bury_worker(also);
	expect_progress(before, round);
	pause_survivors(round);
	if (!h.k->selftest->valid())
		broken("a structure is not valid", round);
	for (i = 0; i < h.workers; i++)
		if (!h.w[i].pid)
			start_worker(i);
	resume();
}

static void boot(void)
{
	struct machine_params p = { .memory = 64ull << 20, .nr_cpus = 2, .folio_max_order = 9, .seed = h.seed, .version = "test" };
	int ram;

	h.k = image_map(p.memory, &ram);
	if (!h.k || !h.k->selftest || h.k->machine_init(&p)) {
		printf("the machine does not boot\n");
		_exit(2);
	}
}

static int run(void)
{
	u64 frames, objects, lost, frames_end, objects_end, lost_end, work = 0;
	double start;
	unsigned i;

	boot();
	h.k->selftest->usage(&frames, &objects, &lost);
	if (h.k->selftest->init())
		broken("no memory", 0);
	if (h.no_log)
		selftest_area()->options |= ST_NO_LOG;
	for (i = 0; i < h.workers; i++)
		start_worker(i);
	start = now();
	for (i = 0; i < h.rounds; i++)
		one_round(i);
	start = now() - start;
	pause_survivors(h.rounds);
	for (i = 0; i < h.workers; i++) {
		work += selftest_area()->progress[i].n;
		kill_worker(i);
		bury_worker(i);
	}
	h.k->selftest->drain();
	h.k->selftest->usage(&frames_end, &objects_end, &lost_end);
	printf("%u rounds in %.1f s, %llu kills, %llu of them found inside a transaction, %llu operations; machines ended: 0\n",
	       h.rounds, start, (unsigned long long)h.kills, (unsigned long long)h.in_transaction, (unsigned long long)work);
	printf("frames in use %llu before, %llu after; live objects %llu before, %llu after\n", (unsigned long long)frames,
	       (unsigned long long)frames_end, (unsigned long long)objects, (unsigned long long)objects_end);
	printf("objects lost between allocation and use: %llu\n", (unsigned long long)(lost_end - lost));
	fflush(stdout);
	return frames != frames_end || objects != objects_end || lost_end - lost > 12 * h.kills;
}

static int verdict(int status)
{
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (WIFSIGNALED(status))
		printf("the harness died by signal %d\n", WTERMSIG(status));
	if (!h.no_log)
		return good ? 0 : 1;
	printf(good ? "nothing broke without the log: this test proves nothing\n" : "as it must: without the log it breaks\n");
	return good ? 1 : 0;
}

int main(int argc, char **argv)
{
	pid_t pid;
	int i, status;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--no-log"))
			h.no_log = true;
		else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			h.rounds = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--workers") && i + 1 < argc)
			h.workers = (unsigned)atoi(argv[++i]) % (ST_WORKERS + 1);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			h.seed = strtoull(argv[++i], NULL, 0);
	}
	if (getenv("QUIRE_LONG"))
		h.rounds *= 10;
	printf("seed %llu\n", (unsigned long long)h.seed);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (h.no_log)
			alarm(120);
		_exit(run());
	}
	waitpid(pid, &status, 0);
	return verdict(status);
}
