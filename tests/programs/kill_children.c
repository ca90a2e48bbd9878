/* Children killed at random moments while they fault, allocate and fork; the parent counts and checks its own memory. */
#include "guest.h"

static void busy(uint64_t seed)
{
	for (;;) {
		size_t n = 1 + next_random(&seed) % 200;
		char *p = fresh(n * PAGE);

		for (size_t i = 0; i < n; i++)
			p[i * PAGE] = 1;
		if (seed % 16 == 0 && fork() == 0)
			_exit(0);
		munmap(p, n * PAGE);
	}
}

int main(void)
{
	uint64_t seed = 2024, before;
	char *mine = fresh(200 * PAGE);
	int status, killed = 0;

	memset(mine, 0x5a, 200 * PAGE);
	before = digest(mine, 200 * PAGE);
	signal(SIGCHLD, SIG_DFL);
	for (int i = 0; i < 60; i++) {
		pid_t pid = fork();

		if (pid == 0)
			busy(seed + (uint64_t)i);
		VERIFY(pid > 0);
		for (volatile uint64_t spin = next_random(&seed) % 3000000; spin; spin--)
			;
		VERIFY(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
		killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	}
	printf("killed %d, memory as before %d\n", killed, digest(mine, 200 * PAGE) == before);
	return 0;
}
