/* Splitting and joining mappings by munmap and mprotect in random places, checked against a table of pages. */
#include "guest.h"

#define PAGES 256
enum { NONE, RO, RW };
static char *base;
static unsigned char state[PAGES], value[PAGES];

/* Asks the kernel, not by touching: may this page be read (written) ? */
static int probe(size_t page, int fds[2])
{
	char *p = base + page * PAGE;
	bool readable = write(fds[1], p, 1) == 1, writable;
	char c;

	if (!readable)
		return NONE;
	VERIFY(read(fds[0], &c, 1) == 1 && (unsigned char)c == value[page]);
	VERIFY(write(fds[1], &c, 1) == 1);
	writable = read(fds[0], p, 1) == 1;
	if (!writable)
		VERIFY(errno == EFAULT && read(fds[0], &c, 1) == 1);
	return writable ? RW : RO;
}

static void change(size_t at, size_t n, unsigned how, unsigned char mark)
{
	char *p = base + at * PAGE;

	for (size_t i = at; i < at + n; i++) {
		if (how == 1 && state[i] == NONE)
			how = 2; /* mprotect would fail half-way: map instead */
	}
	if (how == 0)
		VERIFY(munmap(p, n * PAGE) == 0);
	else if (how == 1)
		VERIFY(mprotect(p, n * PAGE, PROT_READ) == 0);
	else
		VERIFY(mmap(p, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	for (size_t i = at; i < at + n; i++) {
		state[i] = (unsigned char[]){NONE, RO, RW}[how];
		if (how != 1)
			value[i] = 0;
		if (how == 2 && i % 3)
			base[i * PAGE] = (char)(value[i] = mark);
	}
}

int main(void)
{
	uint64_t seed = 0x5eed;
	int fds[2], counts[3] = {0};

	VERIFY(pipe2(fds, O_NONBLOCK) == 0);
	base = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VERIFY(base != MAP_FAILED && munmap(base, PAGES * PAGE) == 0);
	for (int step = 0; step < 3000; step++) {
		size_t at = next_random(&seed) % PAGES, n = 1 + next_random(&seed) % 40;

		if (at + n > PAGES)
			n = PAGES - at;
		change(at, n, next_random(&seed) % 3, (unsigned char)step);
		if (step % 50 == 0)
			for (size_t i = 0; i < PAGES; i++)
				VERIFY(probe(i, fds) == state[i]);
	}
	for (size_t i = 0; i < PAGES; i++)
		counts[probe(i, fds)]++;
	printf("none %d, read-only %d, writable %d\n", counts[NONE], counts[RO], counts[RW]);
	return 0;
}
