/* ppoll, pselect, epoll_pwait: the mask holds exactly for the wait, with no window for a lost signal. */
#include "guest.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static volatile sig_atomic_t hits;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	hits++;
}

static void *pokes(void *arg)
{
	for (int i = 0; i < 300; i++) {
		kill(getpid(), SIGUSR1);
		while (__atomic_load_n((int *)arg, __ATOMIC_SEQ_CST) <= i)
			sched_yield();
	}
	return NULL;
}

int main(void)
{
	struct timespec now = {0, 0}, long_time = {20, 0};
	struct epoll_event event;
	sigset_t blocked, open_mask;
	int ep = epoll_create1(0), turn = 0, fds[2];
	struct pollfd p;
	pthread_t t;
	fd_set set;

	VERIFY(pipe(fds) == 0);
	p = (struct pollfd){fds[0], POLLIN, 0};
	handle(SIGUSR1, on_signal, 0);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	VERIFY(sigprocmask(SIG_BLOCK, &blocked, &open_mask) == 0);
	raise(SIGUSR1);
	SHOWN(ppoll(&p, 1, &now, NULL));
	printf("still pending: %d\n", hits == 0);
	SHOWN(ppoll(&p, 1, &long_time, &open_mask));
	printf("taken by ppoll: %d\n", hits);
	raise(SIGUSR1);
	SHOWN(pselect(0, NULL, NULL, NULL, &long_time, &open_mask));
	raise(SIGUSR1);
	SHOWN(epoll_pwait(ep, &event, 1, 20000, &open_mask));
	printf("taken by all: %d\n", hits);
	/* Ready and pending at once: ready wins, the signal stays or is taken, the mask is back. */
	VERIFY(write(fds[1], "x", 1) == 1);
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	SHOWN(pselect(fds[0] + 1, &set, NULL, NULL, &long_time, &blocked));
	VERIFY(read(fds[0], &(char){0}, 1) == 1);
	/* No poke may be lost: each wait ends by a signal, never by the 20 s. */
	hits = 0;
	VERIFY(pthread_create(&t, NULL, pokes, &turn) == 0);
	for (int i = 0; i < 300; i++) {
		while (hits <= i)
			VERIFY(ppoll(&p, 1, &long_time, &open_mask) == -1 && errno == EINTR);
		__atomic_fetch_add(&turn, 1, __ATOMIC_SEQ_CST);
	}
	VERIFY(pthread_join(t, NULL) == 0);
	printf("pokes caught: %d\n", hits);
	sigprocmask(SIG_BLOCK, NULL, &open_mask);
	printf("mask is back: %d\n", sigismember(&open_mask, SIGUSR1));
	return 0;
}
