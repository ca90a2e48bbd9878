/*
 * Processes that map, fault, fork and unmap; somebody outside stops one of them at a time (tests/hosted/stopped.py) and asks, by a line
 * on standard input, how far each has come.  Usage: stop_hammer CHILDREN
 */
#include "guest.h"
#include <sys/prctl.h>

#define MOST 16

static void child_life(uint64_t seed, volatile unsigned long *count)
{
	for (;;) {
		size_t n = 1 + next_random(&seed) % 48;
		char *p = fresh(n * PAGE);
		pid_t pid;

		for (size_t i = 0; i < n; i++)
			p[i * PAGE] = (char)i;
		if (next_random(&seed) % 16 == 0) {
			pid = fork();
			if (pid == 0)
				_exit(p[0]);
			VERIFY(waitpid(pid, NULL, 0) == pid);
		}
		VERIFY(mprotect(p, PAGE, PROT_READ) == 0 && munmap(p, n * PAGE) == 0);
		++*count;
	}
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 3;
	volatile unsigned long *counts = fresh_shared(PAGE);
	char line[100];

	VERIFY(n > 0 && n <= MOST);
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		VERIFY(pid >= 0);
		if (pid == 0)
			child_life((uint64_t)i + 5, &counts[i * 8]);
		printf("%d ", pid);
	}
	printf("\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		for (int i = 0; i < n; i++)
			printf("%lu ", counts[i * 8]);
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
