/*
 * No signal is lost at the edges of a life: to a child as soon as it has a number, to a process whose threads come and go.
 */
#include "guest.h"
#include <sched.h>

#define CHILDREN 1500
#define QUEUED 4000

static volatile sig_atomic_t got;
static unsigned counted;

static void note(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	(void)uc;
	got = 1;
}

static void count(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	(void)uc;
	__atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
}

/* The parent's kill may arrive before the child has done its first step. */
static void to_newborns(void)
{
	int lost = 0, status;

	handle(SIGUSR1, note, 0);
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		VERIFY(pid >= 0);
		if (pid == 0) {
			for (int ms = 0; !got && ms < 2000; ms++)
				sleep_ms(1);
			_exit(!got);
		}
		VERIFY(kill(pid, SIGUSR1) == 0 && waitpid(pid, &status, 0) == pid);
		lost += status != 0;
	}
	printf("lost by children: %d\n", lost);
}

static int ends_at_once(void *arg)
{
	(void)arg;
	syscall(SYS_exit, 0); /* at once, with signals let through: libc's own threads block them first */
	return 0;
}

static void *makes_threads(void *arg)
{
	volatile bool *stop = arg;
	char *stack[8];
	volatile pid_t word[8] = {0};

	for (int i = 0; i < 8; i++)
		stack[i] = (char *)fresh(16 * PAGE) + 16 * PAGE;
	for (unsigned i = 0; !*stop; i = (i + 1) % 8) {
		while (word[i])
			sched_yield();
		word[i] = 1;
		if (clone(ends_at_once, stack[i],
			  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_SETTID |
			  CLONE_CHILD_CLEARTID, NULL, NULL, NULL, &word[i]) < 0)
			word[i] = 0;
	}
	return NULL;
}

static void queue_many(pid_t to)
{
	for (int i = 0; i < QUEUED; i++) {
		while (sigqueue(to, SIGRTMIN + i % 3, (union sigval){.sival_int = i}) < 0 && errno == EAGAIN)
			sched_yield();
		if (i % 16 == 0)
			sched_yield();
	}
	_exit(0);
}

static void to_threads_that_end(void)
{
	static volatile bool stop;
	sigset_t set;
	pthread_t t[2];
	pid_t pid, me = getpid();

	sigemptyset(&set);
	for (int i = 0; i < 3; i++) {
		handle(SIGRTMIN + i, count, SA_RESTART);
		sigaddset(&set, SIGRTMIN + i);
	}
	for (int i = 0; i < 2; i++)
		VERIFY(pthread_create(&t[i], NULL, makes_threads, (void *)&stop) == 0);
	pid = fork();
	if (pid == 0)
		queue_many(me);
	VERIFY(waitpid(pid, NULL, 0) == pid);
	for (int ms = 0; __atomic_load_n(&counted, __ATOMIC_SEQ_CST) < QUEUED && ms < 3000; ms++)
		sleep_ms(1);
	stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	printf("queued %d, handled %u\n", QUEUED, counted);
}

int main(void)
{
	to_newborns();
	to_threads_that_end();
	return 0;
}
