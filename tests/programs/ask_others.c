/*
 * What one process may ask of another, or do to it: comparing (kcmp), taking its memory when it dies (process_mrelease), reading its memory,
 * the places of its pages, its robust list; and what it may say of itself under old names.
 */
#include "guest.h"
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#define NOBODY_THERE 0x3ffffff

static long kcmp(pid_t a, pid_t b, int type, unsigned long i, unsigned long j)
{
	long r = syscall(SYS_kcmp, a, b, type, i, j);

	return r > 0 ? 1 : r; /* which of them is the greater is anybody's guess */
}

static void compare(void)
{
	int fd = open("/dev/null", O_RDONLY), copy = dup(fd), other = open("/dev/null", O_RDONLY);
	pid_t me = getpid(), pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	SHOWN(kcmp(me, me, KCMP_FILE, fd, copy));
	SHOWN(kcmp(me, me, KCMP_FILE, fd, other));
	SHOWN(kcmp(me, pid, KCMP_FILE, fd, copy));
	SHOWN(kcmp(me, me, KCMP_FILE, fd, 999));
	SHOWN(kcmp(me, me, KCMP_VM, 0, 0));
	SHOWN(kcmp(me, pid, KCMP_VM, 0, 0));
	SHOWN(kcmp(me, pid, KCMP_FILES, 0, 0));
	SHOWN(kcmp(me, pid, 99, 0, 0));
	SHOWN(kcmp(me, NOBODY_THERE, KCMP_VM, 0, 0));
	SHOWN(kcmp(me, me, KCMP_EPOLL_TFD, fd, (unsigned long)nowhere()));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int shares_memory(void *arg)
{
	return (int)kcmp(getppid(), getpid(), KCMP_VM, 0, 0);
}

static void compare_sharers(void)
{
	int status;
	pid_t pid = clone(shares_memory, (char *)fresh(16 * PAGE) + 16 * PAGE, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);

	VERIFY(pid > 0 && waitpid(pid, &status, 0) == pid);
	printf("a child that shares its parent's memory: %d\n", status);
}

static void release(void)
{
	int fd, file = open("/dev/null", O_RDONLY);
	char *area = fresh(256 * PAGE);
	pid_t pid = fork();
	long r;

	if (pid == 0) {
		memset(area, 1, 256 * PAGE);
		pause();
		_exit(0);
	}
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	SHOWN(syscall(SYS_process_mrelease, fd, 0));
	SHOWN(syscall(SYS_process_mrelease, fd, 1));
	SHOWN(syscall(SYS_process_mrelease, -1, 0));
	SHOWN(syscall(SYS_process_mrelease, file, 0));
	kill(pid, SIGKILL);
	r = syscall(SYS_process_mrelease, fd, 0);
	printf("of one that dies: %d\n", r == 0 || errno == ESRCH); /* it may be faster */
	VERIFY(waitpid(pid, NULL, 0) == pid);
	SHOWN(syscall(SYS_process_mrelease, fd, 0));
}

static void numbers(void)
{
	unsigned long nodes = 1;
	void *pages[1] = {&nodes}, *head;
	int status[1];
	size_t len;

	SHOWN(syscall(SYS_move_pages, NOBODY_THERE, 1, pages, NULL, status, 0));
	SHOWN(syscall(SYS_move_pages, 0, 1, pages, NULL, status, 0));
	SHOWN(syscall(SYS_migrate_pages, NOBODY_THERE, 64, &nodes, &nodes));
	SHOWN(syscall(SYS_migrate_pages, 0, 64, nowhere(), &nodes));
	SHOWN(syscall(SYS_migrate_pages, 0, 64, &nodes, &nodes));
	SHOWN(syscall(SYS_get_robust_list, NOBODY_THERE, &head, &len));
	SHOWN(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, 0));
	SHOWN(syscall(SYS_execveat, -1, "", NULL, NULL, AT_EMPTY_PATH));
	status[0] = open("/dev/null", O_WRONLY);
	SHOWN(vmsplice(status[0], &(struct iovec){ &nodes, 8 }, 1, 0));
}

/* Of a process of another user nothing is to be had. */
static void strangers(void)
{
	char mine[8];
	struct iovec to = {mine, 8}, from = {mine, 8};
	pid_t parent = getppid();

	if (geteuid() == 0)
		VERIFY(setgid(65534) == 0 && setuid(65534) == 0);
	else
		parent = 1;
	SHOWN(process_vm_readv(parent, &to, 1, &from, 1, 0));
	SHOWN(process_vm_writev(parent, &to, 1, &from, 1, 0));
	SHOWN(process_vm_readv(parent, &to, 1, nowhere(), 1, 0));
}

static long number_in(const char *path)
{
	FILE *f = fopen(path, "r");
	long n = -1000000;

	VERIFY(f && fscanf(f, "%ld", &n) == 1);
	fclose(f);
	return n;
}

static long put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	long r = write(fd, text, strlen(text));

	close(fd);
	return r;
}

static void itself(void)
{
	SHOWN(number_in("/proc/self/oom_adj"));
	SHOWN(put("/proc/self/oom_score_adj", "500"));
	SHOWN(number_in("/proc/self/oom_adj"));
	SHOWN(put("/proc/self/oom_adj", "15"));
	SHOWN(number_in("/proc/self/oom_score_adj"));
	SHOWN(put("/proc/self/oom_adj", "16"));
	SHOWN(put("/proc/self/oom_adj", "-18"));
	SHOWN(number_in("/proc/self/oom_adj"));
	SHOWN(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	SHOWN(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
	SHOWN(prctl(PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0));
	SHOWN(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	SHOWN(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	SHOWN(personality(0xffffffff));
	SHOWN(personality(ADDR_NO_RANDOMIZE | WHOLE_SECONDS));
	SHOWN(personality(PER_LINUX));
	SHOWN(personality(0xffffffff));
}

int main(void)
{
	prctl(PR_SET_DUMPABLE, 1);
	compare();
	compare_sharers();
	release();
	numbers();
	fflush(stdout);
	in_child("strangers", strangers);
	in_child("itself", itself);
	return 0;
}
