/*
 * Children that map, fault, fork, write files and die, kept at a fixed number by a parent that checks its own memory;
 * somebody outside kills children at random (tests/hosted/machine.py).  Usage: hammer CHILDREN DEATHS
 */
#include "guest.h"

#include <sys/prctl.h>

#define OWN_PAGES 256

static void child_life(uint64_t seed, volatile unsigned *shared)
{
	int fd = temp_file(8 * PAGE);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		size_t n = 1 + next_random(&seed) % 64;
		char *p = fresh(n * PAGE), *f = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		for (size_t i = 0; i < n; i++)
			p[i * PAGE] = (char)i;
		f[next_random(&seed) % (8 * PAGE)]++;
		__atomic_fetch_add(shared, 1, __ATOMIC_SEQ_CST);
		if (next_random(&seed) % 8 == 0) {
			pid_t pid = fork();

			if (pid == 0) {
				p[0] = 9;
				_exit(0);
			}
			waitpid(pid, NULL, 0);
		}
		VERIFY(mprotect(p, PAGE, PROT_READ) == 0);
		for (size_t i = 0; i < n; i++)
			VERIFY(p[i * PAGE] == (char)i);
		VERIFY(munmap(p, n * PAGE) == 0 && munmap(f, 8 * PAGE) == 0);
	}
}

static void start_child(uint64_t *seed, volatile unsigned *shared)
{
	uint64_t own = next_random(seed);
	pid_t pid = fork();

	VERIFY(pid >= 0);
	if (pid == 0)
		child_life(own, shared);
}

int main(int argc, char **argv)
{
	int children = argc > 1 ? atoi(argv[1]) : 3, deaths = argc > 2 ? atoi(argv[2]) : 10, bad = 0, status;
	volatile unsigned *shared = fresh_shared(PAGE);
	char *own = fresh(OWN_PAGES * PAGE);
	uint64_t seed = 11, before;

	memset(own, 0x33, OWN_PAGES * PAGE);
	before = digest(own, OWN_PAGES * PAGE);
	printf("parent %d\n", getpid());
	fflush(stdout);
	for (int i = 0; i < children; i++)
		start_child(&seed, shared);
	for (int i = 0; i < deaths; i++) {
		VERIFY(wait(&status) > 0);
		bad += !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		own[(size_t)i % OWN_PAGES * PAGE] = 0x33;
		VERIFY(digest(own, OWN_PAGES * PAGE) == before);
		start_child(&seed, shared);
	}
	printf("deaths %d, of another kind %d, work done %d\n", deaths, bad, *shared > (unsigned)deaths);
	return bad != 0; /* the children die with their parent */
}
