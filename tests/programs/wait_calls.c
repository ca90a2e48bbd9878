/* wait in all forms: statuses, rusage, WNOHANG, WNOWAIT, stops and continues, groups, pidfds, orphans. */
#include "guest.h"
#include <sys/prctl.h>
#include <sys/resource.h>

static pid_t child_that(int what)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	VERIFY(pid >= 0);
	if (pid)
		return pid;
	if (what >= 0)
		_exit(what);
	if (what == -1)
		raise(SIGKILL);
	if (what == -2)
		raise(SIGSTOP);
	if (what == -3)
		pause();
	_exit(44);
}

static void show(const char *what, int status)
{
	printf("%s: %s %d\n", what, WIFEXITED(status) ? "exited" : WIFSIGNALED(status) ? "signalled" : WIFSTOPPED(status) ?
	       "stopped" : WIFCONTINUED(status) ? "continued" : "?", WIFEXITED(status) ? WEXITSTATUS(status) :
	       WIFSIGNALED(status) ? WTERMSIG(status) : WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
}

static void forms(void)
{
	struct rusage *usage = fresh(PAGE);
	int *status = fresh(PAGE);
	siginfo_t *info = fresh(PAGE);
	pid_t pid = child_that(17);

	VERIFY(wait4(pid, status, 0, usage) == pid);
	show("wait4 into fresh memory", *status);
	printf("usage is sane: %d\n", usage->ru_minflt > 0 && usage->ru_maxrss > 0);
	pid = child_that(300);
	VERIFY(waitid(P_PID, (id_t)pid, info, WEXITED | WNOWAIT) == 0);
	printf("waitid, kept: code %d, status %d, pid right %d\n", info->si_code == CLD_EXITED, info->si_status,
	       info->si_pid == pid);
	VERIFY(wait(status) == pid);
	show("wait", *status);
	pid = child_that(-1);
	VERIFY(waitpid(-1, status, 0) == pid);
	show("killed", *status);
	pid = child_that(-3);
	SHOWN(waitpid(pid, status, WNOHANG));
	VERIFY(kill(pid, SIGTERM) == 0 && waitpid(0, status, 0) == pid);
	show("terminated", *status);
	SHOW(waitpid(pid, status, 0));
	SHOW(wait(NULL));
	SHOW(waitid(P_ALL, 0, info, WEXITED));
	SHOW(waitpid(-1, status, 0x40000));
	pid = child_that(5);
	sleep_ms(20);
	SHOW(wait4(pid, (int *)8, 0, NULL));
	waitpid(pid, NULL, 0);
}

static void stops(void)
{
	int status;
	pid_t pid = child_that(-2);

	VERIFY(waitpid(pid, &status, WUNTRACED) == pid);
	show("stop", status);
	VERIFY(kill(pid, SIGCONT) == 0 && waitpid(pid, &status, WCONTINUED) == pid);
	show("continue", status);
	VERIFY(waitpid(pid, &status, 0) == pid);
	show("end", status);
}

static void by_pidfd(void)
{
	siginfo_t info;
	pid_t pid = child_that(-3);
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	VERIFY(fd >= 0);
	SHOW(syscall(SYS_pidfd_send_signal, fd, SIGINT, NULL, 0));
	VERIFY(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED) == 0);
	printf("pidfd: killed %d by %d\n", info.si_code == CLD_KILLED, info.si_status);
	SHOW(syscall(SYS_pidfd_send_signal, fd, SIGINT, NULL, 0));
}

static void orphans(void)
{
	int fds[2], status;
	char c = 0;
	pid_t pid;

	VERIFY(pipe(fds) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (fork() == 0) {
			pid_t old = getppid();

			VERIFY(write(fds[1], &c, 1) == 1);
			while (getppid() == old)
				sleep_ms(1);
			_exit(77);
		}
		VERIFY(read(fds[0], &c, 1) == 1);
		_exit(0);
	}
	VERIFY(waitpid(pid, &status, 0) == pid && wait(&status) > 0);
	show("orphan", status);
}

int main(void)
{
	struct rusage usage;

	forms();
	stops();
	by_pidfd();
	orphans();
	setpgid(0, 0);
	printf("group leader: %d\n", getpgrp() == getpid());
	VERIFY(getrusage(RUSAGE_CHILDREN, &usage) == 0);
	printf("children used: %d\n", usage.ru_minflt > 0);
	return 0;
}
