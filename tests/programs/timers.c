/* Timers and event descriptors: setitimer, timer_create, timerfd, signalfd, eventfd, epoll, alarm. */
#include "guest.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static volatile sig_atomic_t ticks, value;

static void on_tick(int sig, siginfo_t *info, void *context)
{
	ticks++;
	if (info->si_code == SI_TIMER)
		value = info->si_value.sival_int;
}

static void interval_timer(void)
{
	struct itimerval t = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};

	handle(SIGALRM, on_tick, 0);
	VERIFY(setitimer(ITIMER_REAL, &t, NULL) == 0);
	while (ticks < 20)
		pause();
	VERIFY(setitimer(ITIMER_REAL, &off, &t) == 0);
	printf("interval timer ticked, interval %ld\n", t.it_interval.tv_usec);
	ticks = 0;
	handle(SIGVTALRM, on_tick, 0);
	t = (struct itimerval){{0, 1000}, {0, 1000}};
	VERIFY(setitimer(ITIMER_VIRTUAL, &t, NULL) == 0);
	while (ticks < 5)
		;
	VERIFY(setitimer(ITIMER_VIRTUAL, &off, NULL) == 0);
	printf("virtual timer ticked\n");
	SHOWN(alarm(100));
	printf("alarm was set: %d\n", alarm(0) >= 99);
}

static void posix_timer(void)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 99};
	struct itimerspec its = {{0, 1000000}, {0, 1000000}};
	timer_t timer;

	ticks = 0;
	handle(SIGUSR1, on_tick, 0);
	VERIFY(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0 && timer_settime(timer, 0, &its, NULL) == 0);
	while (ticks < 10)
		sleep_ms(1);
	VERIFY(timer_delete(timer) == 0);
	printf("posix timer ticked, value %d\n", value);
}

static void signal_descriptor(void)
{
	struct signalfd_siginfo *info = fresh(PAGE);
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN);
	VERIFY(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	SHOWN(read(fd, info, sizeof(*info)));
	VERIFY(kill(getpid(), SIGUSR2) == 0);
	VERIFY(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 6}) == 0);
	printf("signalfd: %ld of two\n", (long)read(fd, info, 2 * sizeof(*info)) / (long)sizeof(*info));
	printf("first %d, second %d with %d\n", info[0].ssi_signo == SIGUSR2, info[1].ssi_signo == (uint32_t)SIGRTMIN,
	       info[1].ssi_int);
	SHOWN(read(fd, info, sizeof(*info)));
}

static void events(void)
{
	int ep = epoll_create1(0), ev = eventfd(0, EFD_NONBLOCK | EFD_SEMAPHORE), t = timerfd_create(CLOCK_REALTIME, 0);
	struct itimerspec its = {{0, 0}, {0, 5000000}};
	struct epoll_event add = {.events = EPOLLIN}, *got = fresh(PAGE);
	uint64_t three = 3, *count = fresh(PAGE);

	add.data.fd = 1;
	VERIFY(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &add) == 0);
	add.data.fd = 2;
	VERIFY(epoll_ctl(ep, EPOLL_CTL_ADD, t, &add) == 0 && timerfd_settime(t, 0, &its, NULL) == 0);
	SHOWN(epoll_wait(ep, got, 10, 0));
	SHOWN(epoll_wait(ep, got, 10, -1));
	printf("who: %d\n", got[0].data.fd);
	VERIFY(read(t, count, 8) == 8 && *count == 1 && write(ev, &three, 8) == 8);
	for (int i = 0; i < 4; i++)
		SHOWN(read(ev, count, 8));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &add));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &add));
	SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, ep + 100, NULL));
}

int main(void)
{
	interval_timer();
	posix_timer();
	signal_descriptor();
	events();
	return 0;
}
