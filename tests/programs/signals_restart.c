/* Which calls a handler interrupts and which restart: with SA_RESTART and without. */
#include "guest.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>

static volatile sig_atomic_t hits;
static int fds[2], feeder_go[2];

static void on_alarm(int sig, siginfo_t *info, void *context)
{
	hits++;
}

static void alarm_in(long ms)
{
	struct itimerval t = {.it_value = {0, ms * 1000}};

	VERIFY(setitimer(ITIMER_REAL, &t, NULL) == 0);
}

/* Writes one byte 60 ms after being asked, so that restarted calls end. */
static void *feeder(void *arg)
{
	char c;

	while (read(feeder_go[0], &c, 1) == 1 && c) {
		sleep_ms(60);
		VERIFY(write(fds[1], "x", 1) == 1);
	}
	return NULL;
}

#define INTERRUPTED(call) do { \
	char go_ = 1; \
	hits = 0; \
	VERIFY(write(feeder_go[1], &go_, 1) == 1); \
	alarm_in(20); \
	errno = 0; \
	long r_ = (long)(call); \
	printf("  %s: %s, handled %d\n", #call, r_ == -1 ? strerrorname_np(errno) : "went on", hits); \
	if (r_ == -1) \
		VERIFY(recv(fds[0], buf, 1, 0) == 1); \
} while (0)
#define TIMED(call) do { \
	hits = 0; \
	alarm_in(20); \
	errno = 0; \
	long r_ = (long)(call); \
	printf("  %s: %s, handled %d\n", #call, r_ == -1 ? strerrorname_np(errno) : "went on", hits); \
} while (0)

static void all_calls(const char *how, int flags)
{
	struct timespec t = {0, 80000000}, left = {0, 0};
	struct pollfd p = {.fd = feeder_go[0] + 1000, .events = 0};
	struct epoll_event event;
	int epoll = epoll_create1(0), status;
	uint32_t word = 0;
	char *buf = fresh(PAGE);
	pid_t pid;

	printf("%s\n", how);
	handle(SIGALRM, on_alarm, flags);
	INTERRUPTED(read(fds[0], buf, 1));
	INTERRUPTED(recv(fds[0], buf, 1, 0));
	pid = fork();
	if (pid == 0) {
		sleep_ms(80);
		_exit(3);
	}
	TIMED(waitpid(pid, &status, 0));
	waitpid(pid, &status, 0);
	TIMED(nanosleep(&t, &left));
	printf("  time left: %d\n", left.tv_nsec > 10000000 && left.tv_nsec < 80000000);
	TIMED(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL) == 0 ? 0 : -1);
	TIMED(poll(&p, 0, 80));
	TIMED(select(0, NULL, NULL, NULL, &(struct timeval){0, 80000}));
	TIMED(epoll_wait(epoll, &event, 1, 80));
	TIMED(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
	TIMED(pause());
	VERIFY(close(epoll) == 0 && munmap(buf, PAGE) == 0);
}

int main(void)
{
	pthread_t t;
	sigset_t set;
	char zero = 0;

	VERIFY(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0 && pipe(feeder_go) == 0);
	/* The alarm must hit the main thread. */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	VERIFY(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	VERIFY(pthread_create(&t, NULL, feeder, NULL) == 0);
	VERIFY(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
	all_calls("without SA_RESTART", 0);
	all_calls("with SA_RESTART", SA_RESTART);
	VERIFY(write(feeder_go[1], &zero, 1) == 1 && pthread_join(t, NULL) == 0);
	return 0;
}
