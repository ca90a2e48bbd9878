/*
 * The end of all guests.
 *
 * The watchdog is a child of the supervisor that holds the reading end of a pipe.  When the supervisor dies, however it dies, the
 * read returns and the watchdog kills what the shared context table lists.  (Guests also notice by PDEATHSIG; the watchdog
 * is for the stopped ones.)
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A process that died before its first step here has not said so in the context table. */
static bool is_zombie(s32 pid)
{
	char path[32], text[512], *state;
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return true;
	text[n] = 0;
	state = strrchr(text, ')');
	return state && (state[2] == 'Z' || state[2] == 'X');
}

static unsigned kill_round(const struct kernel_exports *k)
{
	unsigned n = 0;
	s32 pid, last = 0;
	u32 id;

	for (id = 1; (pid = k->live_pid(id)) >= 0; id++) {
		if (!pid || pid == last)
			continue;
		last = pid;
		if (!kill(pid, SIGKILL) && !is_zombie(pid))
			n++;
	}
	return n;
}

unsigned kill_all_guests(const struct kernel_exports *k, unsigned ms)
{
	struct timespec pause = { 0, 1000000 };
	unsigned left, round;

	/* Several rounds: a guest may have been forking. */
	for (round = 0; (left = kill_round(k)) && round < ms; round++)
		nanosleep(&pause, NULL);
	return left;
}

static void close_all_but(int keep)
{
	syscall(SYS_close_range, 0, keep - 1, 0);
	syscall(SYS_close_range, keep + 1, ~0u, 0);
}

static void watch(const struct kernel_exports *k, int fd)
{
	sigset_t all;
	char c;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "quire-watchdog");
	close_all_but(fd);
	while (read(fd, &c, 1) > 0)
		;
	kill_all_guests(k, 2000);
	_exit(0);
}

int watchdog_start(const struct kernel_exports *k)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	/* Descriptor 0 may be closed in our caller; the watchdog keeps only its end of the pipe, so it must not be 0. */
	if (p[0] == 0) {
		p[0] = dup(p[0]);
		close(0);
	}
	pid = fork();
	if (pid == 0)
		watch(k, p[0]);
	close(p[0]);
	if (pid < 0) {
		close(p[1]);
		return -1;
	}
	return p[1];
}
