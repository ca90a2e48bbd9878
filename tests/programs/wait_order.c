/*
 * The mask that sigsuspend, ppoll, pselect and epoll_pwait wait with is in force until the handler that ends them returns: what it
 * blocks comes after that handler, what the mask before allowed notwithstanding.
 */
#define _GNU_SOURCE
#include "guest.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

static char order[64];
static int norder;

static void note(int sig)
{
	sigset_t now;

	sigprocmask(SIG_SETMASK, NULL, &now);
	order[norder++] = sig == SIGUSR1 ? '1' : '2';
	order[norder++] = sigismember(&now, SIGUSR2) ? 'b' : 'o';
	order[norder++] = sigismember(&now, SIGUSR1) ? 'b' : 'o';
}

static void show(const char *what, int ret)
{
	sigset_t now;

	sigprocmask(SIG_SETMASK, NULL, &now);
	order[norder] = 0;
	printf("%s: %d %s, handlers %s, then %d %d\n", what, ret, ret < 0 ? strerrorname_np(errno) : "", order,
	       sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2));
	norder = 0;
}

/* SIGUSR1 is blocked and pending, SIGUSR2 open but for the wait, and sent by SIGUSR1's sender just before. */
static void prepare(sigset_t *wait)
{
	sigset_t both;

	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGUSR2);
	sigprocmask(SIG_SETMASK, &both, NULL);
	raise(SIGUSR1);
	raise(SIGUSR2);
	sigemptyset(wait);
	sigaddset(wait, SIGUSR2);
}

int main(void)
{
	struct sigaction sa = { .sa_handler = note };
	struct timespec second = { 1, 0 };
	struct epoll_event ev;
	int ep = epoll_create1(0);
	sigset_t wait, old;

	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	prepare(&wait);
	show("sigsuspend", sigsuspend(&wait));
	prepare(&wait);
	show("ppoll", ppoll(NULL, 0, &second, &wait));
	prepare(&wait);
	show("pselect", pselect(0, NULL, NULL, NULL, &second, &wait));
	prepare(&wait);
	show("epoll_pwait", epoll_pwait(ep, &ev, 1, 1000, &wait));
	/* Now SIGUSR2 is only blocked by the wait: it is sent from the handler's sender, a child. */
	sigemptyset(&old);
	sigprocmask(SIG_SETMASK, &old, NULL);
	norder = 0;
	for (int round = 0; round < 2; round++) {
		pid_t parent = getpid(), child = fork();

		if (child == 0) {
			usleep(50000);
			kill(parent, SIGUSR2);
			usleep(20000);
			kill(parent, SIGUSR1);
			_exit(0);
		}
		sigemptyset(&wait);
		sigaddset(&wait, SIGUSR2);
		if (round)
			show("ppoll, mask open before", ppoll(NULL, 0, &(struct timespec){ 5, 0 }, &wait));
		else
			show("sigsuspend, mask open before", sigsuspend(&wait));
		waitpid(child, NULL, 0);
	}
	return 0;
}
