/*
 * Signals sent to the process, one at a time, while the threads that may take them block all signals, begin and end: none gets lost, for
 * what a thread has not delivered is the others' (signal(7), "Process-directed").
 */
#include "guest.h"
#include <semaphore.h>

#define SIGNALS 20000

static sem_t turn;
static volatile bool done;
static volatile int came;

static void note(int sig)
{
	came += sig == SIGUSR1;
	sem_post(&turn);
}

static void *send_all(void *unused)
{
	for (int i = 0; i < SIGNALS; i++) {
		sem_wait(&turn);
		kill(getpid(), SIGUSR1);
	}
	sem_wait(&turn);
	done = true;
	return unused;
}

static void *brief(void *unused)
{
	return unused;
}

static void *make_threads(void *unused)
{
	sigset_t open;
	pthread_t t;

	sigemptyset(&open);
	sigaddset(&open, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &open, NULL);
	while (!done)
		if (!pthread_create(&t, NULL, brief, NULL))
			pthread_join(t, NULL);
	return unused;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = note };
	pthread_t sender, maker;
	sigset_t all;

	alarm(60); /* a signal that is lost is a wait for ever */
	sem_init(&turn, 0, 1);
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&all);
	sigaddset(&all, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	VERIFY(pthread_create(&sender, NULL, send_all, NULL) == 0);
	VERIFY(pthread_create(&maker, NULL, make_threads, NULL) == 0);
	VERIFY(pthread_join(sender, NULL) == 0);
	VERIFY(pthread_join(maker, NULL) == 0);
	printf("%d signals came\n", came);
	return 0;
}
