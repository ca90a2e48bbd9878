/*
 * More memory than there is: a pattern is written and read back in other orders, alone and in forked processes, until the time is
 * up.  usage: swap_pattern MIB SECONDS [CHILDREN [DEATHS]].  Prints the same whatever the memory; how far it got goes to stderr.
 * With DEATHS the children go on until somebody outside has killed that many of them; each dead one is replaced.
 *
 * A page holds a few random words and then one of them again and again, so that it gets small when it is compressed; a
 * few pages are noise by half, and a few are of one word.
 */
#include "guest.h"
#include <sys/wait.h>
#include <time.h>

#define WORDS (PAGE / 8)

struct memory {
	uint64_t *p;
	uint32_t *tag; /* what page i should hold; 0 = zeroes */
	size_t pages;
	uint32_t last;
	uint64_t rnd;
	unsigned long wrong, accesses;
};

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t word_of(uint32_t tag, size_t i)
{
	size_t fresh = tag % 32 == 3 ? 256 : tag % 32 == 5 ? 1 : 12;

	return tag ? mix(tag * 4096ull + (i < fresh ? i : fresh - 1)) : 0;
}

static void write_page(struct memory *m, size_t page)
{
	uint32_t tag = m->tag[page] = ++m->last;
	uint64_t *w = m->p + page * WORDS;

	for (size_t i = 0; i < WORDS; i++)
		w[i] = word_of(tag, i);
	m->accesses++;
}

static void check_page(struct memory *m, size_t page)
{
	const uint64_t *w = m->p + page * WORDS;
	unsigned long wrong = 0;

	for (size_t i = 0; i < WORDS; i++)
		wrong += w[i] != word_of(m->tag[page], i);
	if (wrong)
		fprintf(stderr, "pid %d: page %zu (tag %u): %lu words are wrong, the first is %016lx\n", (int)getpid(), page,
			m->tag[page], wrong, (unsigned long)w[0]);
	m->wrong += wrong;
	m->accesses++;
}

/* Runs of pages, up and down, and single ones. */
static void work(struct memory *m, int writes)
{
	size_t at = next_random(&m->rnd) % m->pages, n = 1 + next_random(&m->rnd) % 256;
	int down = next_random(&m->rnd) & 1;

	for (size_t i = 0; i < n; i++) {
		size_t page = (at + (down ? m->pages - i : i)) % m->pages;

		if (next_random(&m->rnd) % 100 < (unsigned)writes)
			write_page(m, page);
		else
			check_page(m, page);
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check_all(struct memory *m)
{
	for (size_t i = m->pages; i-- > 0;)
		check_page(m, i);
}

static int child(struct memory *m, int number, double end)
{
	m->rnd = (uint64_t)number * 77 + 5;
	m->last += (uint32_t)number * 100000000u;
	m->accesses = 0;
	while (now() < end && !m->wrong)
		work(m, 30);
	check_all(m);
	fprintf(stderr, "child %d: %lu pages\n", number, m->accesses);
	return m->wrong != 0;
}

/* Children at work on copies of our memory are killed by somebody else; ours must stay what it is. */
static int until_killed(struct memory *m, int children, int deaths)
{
	int status, number = 0, wrong = 0, pids[64], pid, i;

	printf("parent %d\n", (int)getpid());
	fflush(stdout);
	for (i = 0; i < children; i++)
		if (!(pids[i] = fork()))
			_exit(child(m, ++number, 1e18));
	while (deaths > 0) {
		pid = wait(&status);
		VERIFY(pid > 0);
		if (WIFSIGNALED(status))
			deaths--;
		else
			wrong++, deaths = 0;
		for (i = 0; i < children && pids[i] != pid; i++)
			;
		number++;
		if (!(pids[i] = fork()))
			_exit(child(m, number, 1e18));
	}
	for (i = 0; i < children; i++)
		kill(pids[i], SIGKILL);
	while (wait(&status) > 0)
		;
	check_all(m);
	printf("in the end: %lu wrong, %d children failed\n", m->wrong, wrong);
	return m->wrong || wrong;
}

int main(int argc, char **argv)
{
	size_t bytes = (argc > 1 ? (size_t)atoi(argv[1]) : 64) << 20;
	double seconds = argc > 2 ? atof(argv[2]) : 2, start = now();
	int children = argc > 3 ? atoi(argv[3]) : 4, bad = 0, status, pids[64];
	struct memory m = { .p = fresh(bytes), .pages = bytes / PAGE, .rnd = 9 };

	m.tag = calloc(m.pages, sizeof(*m.tag));
	for (size_t i = 0; i < m.pages; i++)
		write_page(&m, i);
	check_all(&m);
	if (argc > 4)
		return until_killed(&m, children, atoi(argv[4]));
	while (now() - start < seconds / 2 && !m.wrong)
		work(&m, 50);
	printf("alone: %lu wrong\n", m.wrong);
	fprintf(stderr, "alone: %lu pages in %.1f s\n", m.accesses, now() - start);
	fflush(stdout);
	for (int i = 0; i < children; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(child(&m, i + 1, start + seconds));
	}
	for (int i = 0; i < children; i++) {
		VERIFY(waitpid(pids[i], &status, 0) == pids[i]);
		bad += status != 0;
		printf("child %d: status %d\n", i + 1, status);
	}
	check_all(&m);
	printf("in the end: %lu wrong, %d children failed\n", m.wrong, bad);
	return m.wrong || bad;
}
