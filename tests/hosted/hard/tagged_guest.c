/*
 * A guest that knows every byte it has: each page carries a tag made of who wrote it, where, and how often.  Its processes are
 * spinning, asleep in read, poll, nanosleep and futex, stopped, forking, with threads, and exiting, while somebody
 * else takes their frames away (revocation.py).  Whatever is wrong is said and counted; the exit code is 0 only if nothing was.
 *
 * tagged_guest [SECONDS]: runs until SIGTERM, at most so long (default 100).  Also runs natively.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define PAGES 768u          /* tagged pages of each process */
#define SPREAD 16u          /* words of a page that carry the tag */
#define THREADS 3u

struct shared {
	volatile unsigned stop, bad;
	volatile uint64_t checks, forks, wakes;
};
static struct shared *shared;

struct pages {
	uint64_t owner;
	char *base;
	uint32_t version[PAGES];
};

static void bad(const char *what, uint64_t a, uint64_t b)
{
	char line[200];
	int n = snprintf(line, sizeof(line), "BAD %s: %#lx instead of %#lx (process %d)\n", what, a, b, getpid());

	if (__atomic_add_fetch(&shared->bad, 1, __ATOMIC_SEQ_CST) == 100)
		shared->stop = 1; /* enough is known */
	if (shared->bad < 20 && write(2, line, (size_t)n) < 0)
		_exit(4);
}

static uint64_t tag(uint64_t owner, uint64_t page, uint64_t version)
{
	return (owner << 40 ^ page << 20 ^ version) * 0x9e3779b97f4a7c15ull | 1;
}

static uint64_t rnd(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

static void *map(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED) {
		bad("mmap", (uint64_t)errno, 0);
		_exit(4);
	}
	return p;
}

static volatile uint64_t *word(struct pages *p, unsigned page, unsigned i)
{
	return (volatile uint64_t *)(p->base + (size_t)page * PAGE + i * (PAGE / SPREAD) + page % 32 * 8);
}

static void write_page(struct pages *p, unsigned page)
{
	uint64_t t = tag(p->owner, page, ++p->version[page]);

	for (unsigned i = 0; i < SPREAD; i++)
		*word(p, page, i) = t;
}

static void check_page(struct pages *p, unsigned page, const char *where)
{
	uint64_t t = p->version[page] ? tag(p->owner, page, p->version[page]) : 0;

	for (unsigned i = 0; i < SPREAD; i++) {
		uint64_t v = *word(p, page, i);

		if (v != t) {
			bad(where, v, t);
			return;
		}
	}
}

/* Checks `n` random pages of those with page % step == first, rewriting some. */
static void work(struct pages *p, uint64_t *seed, unsigned n, unsigned first, unsigned step, const char *where)
{
	while (n--) {
		unsigned page = (unsigned)(rnd(seed) % (PAGES / step)) * step + first;

		check_page(p, page, where);
		if (rnd(seed) % 3 == 0)
			write_page(p, page);
	}
}

static void fill(struct pages *p)
{
	p->owner = (uint64_t)getpid();
	p->base = map((size_t)PAGES * PAGE, MAP_PRIVATE);
	for (unsigned i = 0; i < PAGES; i++)
		write_page(p, i);
}

static void check_all(struct pages *p, const char *where)
{
	for (unsigned i = 0; i < PAGES; i++)
		check_page(p, i, where);
	__atomic_fetch_add(&shared->checks, PAGES, __ATOMIC_RELAXED);
}

static struct pages own; /* of each process */

/* ---- the ways to live ---- */

static void spinning(void)
{
	uint64_t seed = (uint64_t)getpid();

	while (!shared->stop) {
		work(&own, &seed, 2000, 0, 1, "spinning");
		__atomic_fetch_add(&shared->checks, 2000, __ATOMIC_RELAXED);
	}
}

static void *thread_main(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t seed = me + 77;

	while (!shared->stop) {
		work(&own, &seed, 500, me, THREADS, "thread");
		__atomic_fetch_add(&shared->checks, 500, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t t[THREADS];

	for (uintptr_t i = 1; i < THREADS; i++)
		pthread_create(&t[i], NULL, thread_main, (void *)i);
	thread_main(NULL);
	for (unsigned i = 1; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

/* Asleep in read(2), into a tagged page; a child feeds it. */
static void reading(void)
{
	uint64_t seed = 5, expected = 0, got;
	int p[2];
	pid_t feeder;

	if (pipe(p))
		_exit(4);
	feeder = fork();
	if (feeder == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (uint64_t n = 1; !shared->stop; n++) {
			if (write(p[1], &n, sizeof(n)) != sizeof(n))
				bad("write", (uint64_t)errno, 0);
			usleep(700);
		}
		_exit(0);
	}
	close(p[1]);
	while (!shared->stop) {
		unsigned page = (unsigned)(rnd(&seed) % PAGES);
		volatile uint64_t *to = word(&own, page, 3);
		ssize_t n = read(p[0], (void *)to, sizeof(got));

		if (n == 0)
			break;
		got = *to;
		if (n != sizeof(got) || got != ++expected)
			bad(n < 0 ? "read says errno" : "read", n < 0 ? (uint64_t)errno : got, expected);
		write_page(&own, page);
		work(&own, &seed, 20, 0, 1, "after read");
		__atomic_fetch_add(&shared->wakes, 1, __ATOMIC_RELAXED);
	}
	waitpid(feeder, NULL, 0);
}

/* Calls with a timeout, which the host does not restart by itself. */
static void sleeping(void)
{
	uint64_t seed = 6;

	while (!shared->stop) {
		struct timespec t = { 0, 3000000 }, before, after;

		clock_gettime(CLOCK_MONOTONIC, &before);
		if (poll(NULL, 0, 5) != 0)
			bad("poll", (uint64_t)errno, 0);
		if (nanosleep(&t, NULL))
			bad("nanosleep", (uint64_t)errno, 0);
		clock_gettime(CLOCK_MONOTONIC, &after);
		if ((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec < 8000000)
			bad("slept too short, ns", (uint64_t)(after.tv_nsec - before.tv_nsec), 8000000);
		work(&own, &seed, 20, 0, 1, "after sleep");
		__atomic_fetch_add(&shared->wakes, 1, __ATOMIC_RELAXED);
	}
}

static int futex(volatile uint32_t *w, int op, uint32_t v, const struct timespec *t)
{
	return (int)syscall(SYS_futex, w, op, v, t, NULL, 0);
}

/* Two threads hand a number to and fro; each sleeps in futex until it is its turn. */
static volatile uint32_t *turn;
static void *futex_main(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t seed = me + 9;

	for (uint32_t n = me; !shared->stop; n += 2) {
		while (*turn != n && !shared->stop) {
			struct timespec t = { 1, 0 };
			uint32_t seen = *turn;

			if (seen != n && futex(turn, FUTEX_WAIT_PRIVATE, seen, n % 3 ? NULL : &t) && errno != EAGAIN &&
			    errno != ETIMEDOUT)
				bad("futex", (uint64_t)errno, 0);
		}
		work(&own, &seed, 10, me, 2, "after futex");
		usleep(200);
		*turn = n + 1;
		futex(turn, FUTEX_WAKE_PRIVATE, 10, NULL);
		__atomic_fetch_add(&shared->wakes, 1, __ATOMIC_RELAXED);
	}
	futex(turn, FUTEX_WAKE_PRIVATE, 10, NULL);
	return NULL;
}

static void futexes(void)
{
	pthread_t t;

	turn = map(PAGE, MAP_PRIVATE);
	pthread_create(&t, NULL, futex_main, (void *)1);
	futex_main(NULL);
	/* The other may have gone to sleep since. */
	while (pthread_tryjoin_np(t, NULL)) {
		(*turn)++;
		futex(turn, FUTEX_WAKE_PRIVATE, 10, NULL);
		usleep(1000);
	}
}

/* A child that is stopped and continued. */
static void stopped(void)
{
	uint64_t seed = 8;
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		spinning();
		check_all(&own, "stopped, at the end");
		_exit(0);
	}
	while (!shared->stop) {
		usleep((unsigned)(rnd(&seed) % 4000));
		kill(child, SIGSTOP);
		usleep((unsigned)(rnd(&seed) % 8000));
		kill(child, SIGCONT);
	}
	kill(child, SIGCONT);
	waitpid(child, NULL, 0);
}

static void child_of_fork(uint64_t seed)
{
	check_all(&own, "inherited");
	for (unsigned i = 0; i < 64; i++)
		write_page(&own, (unsigned)(rnd(&seed) % PAGES));
	for (unsigned i = 0; i < 64; i++)
		check_page(&own, (unsigned)(rnd(&seed) % PAGES), "in the child");
	if (seed % 4 == 0)
		usleep(300);
	check_all(&own, "in the child, at the end");
	_exit(0);
}

static void forking(void)
{
	uint64_t seed = 3;

	while (!shared->stop) {
		pid_t pid = fork();

		if (pid == 0)
			child_of_fork(rnd(&seed));
		rnd(&seed);
		work(&own, &seed, 200, 0, 1, "forking");
		if (pid > 0 && waitpid(pid, NULL, 0) != pid)
			bad("waitpid", (uint64_t)errno, 0);
		check_all(&own, "after fork");
		__atomic_fetch_add(&shared->forks, 1, __ATOMIC_RELAXED);
	}
}

/* Forks while another thread maps, writes and unmaps: what comes into being during the fork is not the child's. */
static struct { char *volatile at; } fresh;
static void *fresh_main(void *arg)
{
	for (uint64_t n = 1; !shared->stop; n++) {
		char *p = map(16 * PAGE, MAP_PRIVATE);

		for (unsigned i = 0; i < 16; i++)
			*(volatile uint64_t *)(p + i * PAGE) = tag(1, i, n);
		fresh.at = p;
		for (unsigned k = 0; k < 20; k++) {
			for (unsigned i = 0; i < 16; i++) {
				uint64_t v = *(volatile uint64_t *)(p + i * PAGE);

				if (v != tag(1, i, n + k))
					bad("fresh page during a fork", v, tag(1, i, n + k));
				*(volatile uint64_t *)(p + i * PAGE) = tag(1, i, n + k + 1);
			}
		}
		fresh.at = NULL;
		munmap(p, 16 * PAGE);
	}
	return arg;
}

/* Is it mapped at all?  Without touching it. */
static int is_mapped(void *p)
{
	unsigned char v[16];

	return mincore(p, 16 * PAGE, v) == 0;
}

static void forking_with_threads(void)
{
	pthread_t t;
	uint64_t seed = 4;

	pthread_create(&t, NULL, fresh_main, NULL);
	while (!shared->stop) {
		pid_t pid = fork();

		if (pid == 0) {
			char *p = fresh.at;

			if (p && is_mapped(p))
				for (unsigned i = 0; i < 16; i++)
					*(volatile uint64_t *)(p + i * PAGE) = 0xbadbadbad;
			check_all(&own, "inherited from threads");
			_exit(0);
		}
		work(&own, &seed, 100, 0, 1, "forking with threads");
		if (pid > 0)
			waitpid(pid, NULL, 0);
		__atomic_fetch_add(&shared->forks, 1, __ATOMIC_RELAXED);
	}
	pthread_join(t, NULL);
}

/* Children that fill memory of their own and go. */
static void exiting(void)
{
	while (!shared->stop) {
		pid_t pid = fork();

		if (pid == 0) {
			munmap(own.base, (size_t)PAGES * PAGE);
			memset(own.version, 0, sizeof(own.version));
			fill(&own);
			check_all(&own, "before exit");
			_exit(0);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
		__atomic_fetch_add(&shared->forks, 1, __ATOMIC_RELAXED);
	}
}

static void (*const lives[])(void) = {
	spinning, threads, reading, sleeping, futexes, stopped, forking, forking_with_threads, exiting,
};
#define LIVES (sizeof(lives) / sizeof(lives[0]))

static void on_term(int sig)
{
	(void)sig;
	shared->stop = 1;
}

int main(int argc, char **argv)
{
	unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 100, i, failed = 0;
	pid_t pid[LIVES];
	int status;

	shared = map(PAGE, MAP_SHARED);
	signal(SIGTERM, on_term);
	signal(SIGALRM, on_term);
	for (i = 0; i < LIVES; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			signal(SIGTERM, SIG_DFL);
			fill(&own);
			lives[i]();
			check_all(&own, "at the end");
			_exit(0);
		}
	}
	alarm(seconds);
	for (i = 0; i < LIVES; i++) {
		while (waitpid(pid[i], &status, 0) < 0 && errno == EINTR)
			;
		if (status) {
			printf("process %u ended with status %#x\n", i, status);
			shared->stop = 1;
			failed++;
		}
	}
	printf("%lu checks, %lu forks, %lu wake-ups, %u bad, %u processes failed\n", (unsigned long)shared->checks,
	       (unsigned long)shared->forks, (unsigned long)shared->wakes, shared->bad, failed);
	return shared->bad || failed ? 3 : 0;
}
