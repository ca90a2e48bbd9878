/*
 * The end of all guests.
 *
 * The watchdog is a child of the supervisor that holds the reading end of a pipe.  When the supervisor dies, however it dies, the
 * read returns and the watchdog kills what the shared context table lists.  (Guests also notice by PDEATHSIG; the watchdog
 * is for the stopped ones.)
 *
 * A process that was stopped before its first step, and whose parent died before it could note the number, is listed nowhere.  The
 * machine knows that there may be one (strays()); such are found among the host's processes by the descriptor that only guests have.
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
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

static void nap(void)
{
	struct timespec pause = { 0, 1000000 };

	nanosleep(&pause, NULL);
}

unsigned kill_all_guests(const struct kernel_exports *k, unsigned ms)
{
	unsigned left, round;

	/* Several rounds: a guest may have been forking. */
	for (round = 0; (left = kill_round(k)) && round < ms; round++)
		nap();
	return left;
}

static bool has_memory(const char *pid, const struct stat *ram)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%.20s/fd/%d", pid, KERNEL_FD);
	return stat(path, &st) == 0 && st.st_dev == ram->st_dev && st.st_ino == ram->st_ino;
}

static unsigned kill_strays(const struct stat *ram)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	unsigned n = 0;

	while (proc && (d = readdir(proc)))
		if (atoi(d->d_name) > 0 && has_memory(d->d_name, ram) && !kill(atoi(d->d_name), SIGKILL))
			n++;
	if (proc)
		closedir(proc);
	return n;
}

static void close_all_but(int keep)
{
	syscall(SYS_close_range, 0, keep - 1, 0);
	syscall(SYS_close_range, keep + 1, ~0u, 0);
}

static void watch(const struct kernel_exports *k, int fd, const struct stat *ram)
{
	unsigned round;
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
	for (round = 0; k->strays() && kill_strays(ram) && round < 2000; round++)
		nap();
	_exit(0);
}

int watchdog_start(const struct kernel_exports *k, int ram_fd)
{
	struct stat ram;
	int p[2];
	pid_t pid;

	if (fstat(ram_fd, &ram) < 0 || pipe2(p, O_CLOEXEC) < 0)
		return -1;
	/* Descriptor 0 may be closed in our caller; the watchdog keeps only its end of the pipe, so it must not be 0. */
	if (p[0] == 0) {
		p[0] = dup(p[0]);
		close(0);
	}
	pid = fork();
	if (pid == 0)
		watch(k, p[0], &ram);
	close(p[0]);
	if (pid < 0) {
		close(p[1]);
		return -1;
	}
	return p[1];
}
