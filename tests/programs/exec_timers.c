/* POSIX timers end with exec and are not inherited by fork; interval timers survive exec (execve(2), timer_create(2)). */
#include "guest.h"
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static timer_t make(long ms)
{
	struct itimerspec when = { .it_value = { ms / 1000, ms % 1000 * 1000000 } };
	timer_t t;

	if (timer_create(CLOCK_MONOTONIC, NULL, &t) || timer_settime(t, 0, &when, NULL))
		printf("no timer: %s\n", strerrorname_np(errno));
	return t;
}

static void wait_ms(long ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

static void left_timer(const char *who)
{
	struct itimerval v;

	getitimer(ITIMER_REAL, &v);
	printf("%s: interval timer %s\n", who, v.it_value.tv_sec || v.it_value.tv_usec ? "runs" : "is off");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct itimerval far = { .it_value = { 1000, 0 } };
	timer_t first, last;
	int i, status;

	if (argc > 1) { /* SIGALRM would end us */
		left_timer("after exec");
		wait_ms(400);
		printf("alive; the first timer's number is %s\n", syscall(SYS_timer_delete, 0) ? strerrorname_np(errno) : "valid");
		return 0;
	}
	first = make(100000);
	for (i = 0; i < 20; i++) {
		last = make(100000);
		if (i % 2)
			timer_delete(last);
	}
	timer_delete(first);
	fflush(stdout);
	if (fork() == 0) {
		printf("child: %s\n", timer_delete(last) ? strerrorname_np(errno) : "has its parent's timers");
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	setitimer(ITIMER_REAL, &far, NULL);
	left_timer("before exec");
	make(150);
	execl("/proc/self/exe", argv[0], "again", (char *)NULL);
	return 1;
}
