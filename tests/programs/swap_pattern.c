/*
 * More memory than there is: a pattern is written and read back in other orders, alone and in forked processes, until the time is
 * up.  usage: swap_pattern [shared] [survive] MIB SECONDS [CHILDREN [DEATHS]] [-- PROGRAM ...].  Prints the same whatever the memory;
 * how far it got goes to stderr.  With DEATHS the children go on until somebody outside has killed that many of them; each dead one is
 * replaced.  In the end PROGRAM takes our place.
 *
 *	shared    the memory is shared; each child has pages of its own in it.  What a dead one was writing to its successor writes again
 *	survive   a page that cannot be read (SIGBUS, BUS_ADRERR) is tried again; when that does not help it is given up, and is no
 *	          wrong byte.  All else that we have is locked, so that it happens to the pattern only; the handler has a stack there
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
	bool shared, survive;
	int children, mine;    /* of shared memory: every children-th page from `mine` on; children 0: all */
	size_t *writing;       /* of each child: 1 + the page that it writes to */
	unsigned char *gone;   /* of each page: it was given up */
};

#define LOCKED_MAX 256
#define TRIES 30
static struct {
	struct memory *m;
	struct { uintptr_t start, end; } range[LOCKED_MAX]; /* what is locked */
	int ranges;
	uintptr_t page;        /* of the last SIGBUS, and how many of them there */
	int again;
	unsigned long met, given_up;
	char stack[1 << 16], out[1 << 12];
} bus;

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
	uint32_t tag = ++m->last;
	uint64_t *w = m->p + page * WORDS;

	if (m->shared && m->children)
		__atomic_store_n(&m->writing[m->mine], page + 1, __ATOMIC_SEQ_CST);
	m->tag[page] = tag;
	for (size_t i = 0; i < WORDS; i++)
		w[i] = word_of(tag, i);
	if (m->shared && m->children)
		__atomic_store_n(&m->writing[m->mine], 0, __ATOMIC_SEQ_CST);
	m->accesses++;
}

static void check_page(struct memory *m, size_t page)
{
	const uint64_t *w = m->p + page * WORDS;
	unsigned long wrong = 0;

	for (size_t i = 0; i < WORDS; i++)
		wrong += w[i] != word_of(m->tag[page], i);
	m->accesses++;
	if (m->gone[page]) {
		m->gone[page] = 0;
		write_page(m, page);
		return;
	}
	if (wrong)
		fprintf(stderr, "pid %d: page %zu (tag %u): %lu words are wrong, the first is %016lx\n", (int)getpid(), page,
			m->tag[page], wrong, (unsigned long)w[0]);
	m->wrong += wrong;
}

/* ---- pages that cannot be read ---- */
static void on_sigbus(int sig, siginfo_t *si, void *context)
{
	uintptr_t page = (uintptr_t)si->si_addr & ~(PAGE - 1), at = page - (uintptr_t)bus.m->p;

	(void)sig, (void)context;
	if (si->si_code != BUS_ADRERR)
		_exit(97);
	bus.met++;
	bus.again = page == bus.page ? bus.again + 1 : 1;
	bus.page = page;
	if (bus.again < TRIES)
		return;
	if (at >= bus.m->pages * PAGE || madvise((void *)page, PAGE, bus.m->shared ? MADV_REMOVE : MADV_DONTNEED))
		_exit(98);
	bus.m->gone[at / PAGE] = 1;
	bus.given_up++;
	bus.again = 0;
}

/* Children do it again: locks are not inherited. */
static void lock_ranges(void)
{
	for (int i = 0; i < bus.ranges; i++)
		for (int n = 0; n < 1000 && mlock((void *)bus.range[i].start, bus.range[i].end - bus.range[i].start); n++)
			;
}

/* Called before the pattern is there, and so it is all that is not locked. */
static void survive(struct memory *m)
{
	stack_t stack = { .ss_sp = bus.stack, .ss_size = sizeof(bus.stack) };
	struct sigaction act = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];

	VERIFY(f && !sigaltstack(&stack, NULL) && !sigaction(SIGBUS, &act, NULL));
	while (bus.ranges < LOCKED_MAX && fgets(line, sizeof(line), f))
		if (!strstr(line, "[v") && !strstr(line, "---p") &&
		    sscanf(line, "%lx-%lx", &bus.range[bus.ranges].start, &bus.range[bus.ranges].end) == 2)
			bus.ranges++;
	fclose(f);
	setvbuf(stdout, bus.out, _IOFBF, sizeof(bus.out));
	bus.m = m;
	lock_ranges();
}

/* Runs of pages, up and down, and single ones. */
static void work(struct memory *m, int writes)
{
	size_t at = next_random(&m->rnd) % m->pages, n = 1 + next_random(&m->rnd) % 256;
	int down = next_random(&m->rnd) & 1;

	for (size_t i = 0; i < n; i++) {
		size_t page = (at + (down ? m->pages - i : i)) % m->pages;

		if (m->shared && m->children)
			page = page / (size_t)m->children * (size_t)m->children + (size_t)m->mine;
		if (page >= m->pages)
			continue;
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

/* All that is ours. */
static void check_all(struct memory *m)
{
	size_t step = m->shared && m->children ? (size_t)m->children : 1, from = step > 1 ? (size_t)m->mine : 0;

	for (size_t i = m->pages; i-- > 0;)
		if (i % step == from)
			check_page(m, i);
}

static int child(struct memory *m, int number, int place, double end)
{
	if (m->survive)
		lock_ranges();
	bus.met = bus.given_up = 0;
	m->rnd = (uint64_t)number * 77 + 5;
	m->last += (uint32_t)number * 100000000u;
	m->accesses = 0;
	m->mine = place;
	if (m->shared && m->writing[place])
		write_page(m, m->writing[place] - 1);
	while (now() < end && !m->wrong)
		work(m, 30);
	check_all(m);
	fprintf(stderr, "child %d: %lu pages, %lu SIGBUS, %lu given up\n", number, m->accesses, bus.met, bus.given_up);
	return m->wrong != 0;
}

/* What a dead child was writing is for nobody to compare. */
static void finish_writing(struct memory *m)
{
	for (int i = 0; m->shared && i < m->children; i++)
		if (m->writing[i])
			m->gone[m->writing[i] - 1] = 1;
	m->children = 0;
}

/* Children at work on copies of our memory are killed by somebody else; ours must stay what it is. */
static int until_killed(struct memory *m, int deaths)
{
	int status, number = 0, wrong = 0, pids[64], pid, i, children = m->children;

	printf("parent %d\n", (int)getpid());
	fflush(stdout);
	for (i = 0; i < children; i++)
		if (!(pids[i] = fork()))
			_exit(child(m, ++number, i, 1e18));
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
			_exit(child(m, number, i, 1e18));
	}
	for (i = 0; i < children; i++)
		kill(pids[i], SIGKILL);
	while (wait(&status) > 0)
		;
	finish_writing(m);
	check_all(m);
	printf("in the end: %lu wrong, %d children failed\n", m->wrong, wrong);
	return m->wrong || wrong;
}

static int until_the_end(struct memory *m, double start, double seconds)
{
	int bad = 0, status, pids[64], children = m->children;

	m->children = 0;
	while (now() - start < seconds / 2 && !m->wrong)
		work(m, 50);
	m->children = children;
	printf("alone: %lu wrong\n", m->wrong);
	fprintf(stderr, "alone: %lu pages in %.1f s, %lu SIGBUS, %lu given up\n", m->accesses, now() - start, bus.met, bus.given_up);
	fflush(stdout);
	for (int i = 0; i < children; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(child(m, i + 1, i, start + seconds));
	}
	for (int i = 0; i < children; i++) {
		VERIFY(waitpid(pids[i], &status, 0) == pids[i]);
		bad += status != 0;
		printf("child %d: status %d\n", i + 1, status);
	}
	finish_writing(m);
	check_all(m);
	printf("in the end: %lu wrong, %d children failed\n", m->wrong, bad);
	return m->wrong || bad;
}

static void *memory_of(const struct memory *m, size_t bytes)
{
	return m->shared ? fresh_shared(bytes) : fresh(bytes);
}

static bool flag(int *argc, char ***argv, const char *word)
{
	if (*argc < 2 || strcmp((*argv)[1], word))
		return false;
	--*argc;
	++*argv;
	return true;
}

int main(int argc, char **argv)
{
	struct memory m = { .rnd = 9 };
	double seconds, start = now();
	size_t bytes;
	int own = 1, bad;

	m.shared = flag(&argc, &argv, "shared");
	m.survive = flag(&argc, &argv, "survive");
	while (own < argc && strcmp(argv[own], "--"))
		own++;
	bytes = (own > 1 ? (size_t)atoi(argv[1]) : 64) << 20;
	seconds = own > 2 ? atof(argv[2]) : 2;
	m.pages = bytes / PAGE;
	m.tag = memory_of(&m, m.pages * sizeof(*m.tag));
	m.gone = memory_of(&m, m.pages);
	m.writing = memory_of(&m, 64 * sizeof(*m.writing));
	if (m.survive)
		survive(&m);
	m.p = memory_of(&m, bytes);
	for (size_t i = 0; i < m.pages; i++)
		write_page(&m, i);
	check_all(&m);
	m.children = own > 3 ? atoi(argv[3]) : 4;
	bad = own > 4 ? until_killed(&m, atoi(argv[4])) : until_the_end(&m, start, seconds);
	if (own + 1 >= argc)
		return bad;
	printf("code %d\n", bad);
	fflush(stdout);
	munmap(m.p, bytes);
	for (int n = 0; n < 1000; n++)
		execvp(argv[own + 1], argv + own + 1);
	return 99;
}
