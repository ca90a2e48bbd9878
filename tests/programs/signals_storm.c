/* A fast timer and two processes that signal each other, while memory is written and checked. */
#include "guest.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks, pokes;

static void on_tick(int sig, siginfo_t *info, void *context)
{
	char room[500];

	memset(room, 0x55, sizeof(room));
	ticks += room[77] == 0x55;
}

static void on_poke(int sig, siginfo_t *info, void *context)
{
	pokes++;
}

int main(void)
{
	struct itimerval t = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
	size_t words = 1 << 20, bad = 0;
	uint64_t *p = fresh(words * 8);
	pid_t parent = getpid(), pid;
	int status;

	handle(SIGALRM, on_tick, SA_RESTART);
	handle(SIGUSR1, on_poke, SA_RESTART);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 300; i++) {
			kill(parent, SIGUSR1);
			sleep_ms(1);
		}
		_exit(0);
	}
	VERIFY(setitimer(ITIMER_REAL, &t, NULL) == 0);
	for (int round = 0; round < 6; round++) {
		for (size_t i = 0; i < words; i++)
			p[i] = i * 31 + (size_t)round;
		for (size_t i = 0; i < words; i++)
			bad += p[i] != i * 31 + (size_t)round;
		VERIFY(madvise(p, words * 8, MADV_DONTNEED) == 0);
	}
	while (waitpid(pid, &status, 0) != pid)
		VERIFY(errno == EINTR);
	VERIFY(setitimer(ITIMER_REAL, &off, NULL) == 0);
	printf("bad words: %zu, ticks came %d, pokes came %d\n", bad, ticks > 5, pokes > 5);
	return 0;
}
