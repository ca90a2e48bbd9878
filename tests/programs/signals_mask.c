/* Blocking, pending, sigsuspend, sigwaitinfo, sigtimedwait, order of delivery, queues, masks across fork and threads. */
#include "guest.h"

static volatile sig_atomic_t count;
static int order[16];

static void note(int sig, siginfo_t *info, void *context)
{
	order[count++ & 15] = info->si_code == SI_QUEUE ? info->si_value.sival_int : sig;
}

static void child_masks(void)
{
	sigset_t now, pending;

	sigprocmask(SIG_BLOCK, NULL, &now);
	sigpending(&pending);
	printf("child: blocked %d, pending %d\n", sigismember(&now, SIGUSR1), sigismember(&pending, SIGUSR1));
}

static void *thread_mask(void *arg)
{
	sigset_t now;

	pthread_sigmask(SIG_BLOCK, NULL, &now);
	printf("thread: blocked %d\n", sigismember(&now, SIGUSR1));
	return NULL;
}

static void *sends_later(void *arg)
{
	sleep_ms(30);
	kill(getpid(), SIGUSR2);
	return NULL;
}

int main(void)
{
	struct timespec soon = {0, 20000000}, none = {0, 0};
	sigset_t set, old, pending;
	siginfo_t info;
	pthread_t t;

	handle(SIGUSR1, note, 0);
	handle(SIGUSR2, note, 0);
	handle(SIGRTMIN + 1, note, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 1);
	SHOW(sigprocmask(SIG_BLOCK, &set, &old));
	raise(SIGUSR1);
	raise(SIGUSR1);
	kill(getpid(), SIGUSR1);
	for (int i = 1; i <= 5; i++)
		VERIFY(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}) == 0);
	VERIFY(sigpending(&pending) == 0);
	printf("pending: %d %d %d, handled %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2),
	       sigismember(&pending, SIGRTMIN + 1), count);
	in_child("child", child_masks);
	VERIFY(pthread_create(&t, NULL, thread_mask, NULL) == 0 && pthread_join(t, NULL) == 0);
	SHOW(sigprocmask(SIG_SETMASK, &old, NULL));
	printf("real-time queued in order: %d %d %d %d %d, in all %d\n", order[0] == 1 || order[1] == 1, order[1] == 2 ||
	       order[2] == 2, order[2] == 3 || order[3] == 3, order[3] == 4 || order[4] == 4, order[4] == 5 ||
	       order[5] == 5, count);
	count = 0;
	VERIFY(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	raise(SIGUSR2);
	SHOW(sigwaitinfo(&set, &info) == SIGUSR2 ? 0 : -1);
	SHOW(sigtimedwait(&set, &info, &soon));
	SHOW(sigtimedwait(&set, &info, &none));
	printf("handled meanwhile: %d\n", count);
	VERIFY(pthread_create(&t, NULL, sends_later, NULL) == 0);
	sigdelset(&old, SIGUSR2);
	SHOW(sigsuspend(&old));
	printf("handled by sigsuspend: %d\n", count);
	VERIFY(pthread_join(t, NULL) == 0);
	sigprocmask(SIG_BLOCK, NULL, &pending);
	printf("mask is back: %d %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2));
	sigfillset(&set);
	SHOW(sigprocmask(SIG_SETMASK, &set, NULL));
	sigprocmask(SIG_BLOCK, NULL, &pending);
	printf("cannot be blocked: %d %d\n", sigismember(&pending, SIGKILL), sigismember(&pending, SIGSTOP));
	SHOW(sigprocmask(77, &set, NULL));
	return 0;
}
