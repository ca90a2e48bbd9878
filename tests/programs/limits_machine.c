/*
 * Limits that a program sets for itself do not hurt what keeps it running: processes, descriptors, cores.
 * Run by root (limits of processes do not bind root, so it becomes somebody else) or by anybody.
 */
#include "guest.h"
#include <dirent.h>
#include <grp.h>
#include <sys/resource.h>

#define SOMEBODY 64321 /* has no other processes */

static void limit(int what, rlim_t to)
{
	struct rlimit r = {to, to};

	VERIFY(setrlimit(what, &r) == 0);
}

static void works(const char *when)
{
	char *p = fresh(500 * PAGE);

	memset(p, 7, 500 * PAGE);
	printf("%s: memory works %d\n", when, p[499 * PAGE] == 7 && munmap(p, 500 * PAGE) == 0);
	fflush(stdout);
}

static void *nothing(void *arg)
{
	return arg;
}

static void processes(void)
{
	pid_t pids[20];
	pthread_t t;
	int n = 0, ok;

	if (geteuid() == 0)
		VERIFY(setgroups(0, NULL) == 0 && setresgid(SOMEBODY, SOMEBODY, SOMEBODY) == 0 &&
		       setresuid(SOMEBODY, SOMEBODY, SOMEBODY) == 0);
	limit(RLIMIT_NPROC, geteuid() == SOMEBODY ? 4 : 0);
	while (n < 20 && (pids[n] = fork()) > 0)
		n++;
	if (n < 20 && pids[n] == 0) {
		pause();
		_exit(0);
	}
	ok = geteuid() != SOMEBODY || n == 3;
	printf("no more processes: %s %d\n", strerrorname_np(errno), ok ? 3 : n);
	printf("no more threads: %s\n", strerrorname_np(pthread_create(&t, NULL, nothing, NULL)));
	works("at the limit of processes");
	while (n)
		kill(pids[--n], SIGKILL);
	while (wait(NULL) > 0)
		;
	if (geteuid() == SOMEBODY && fork() == 0)
		_exit(0);
	while (wait(NULL) > 0)
		;
	works("below it again");
}

static void descriptors(void)
{
	int status, n = 0;
	pid_t pid;

	struct rlimit r = {40, 1024};

	closefrom(3);
	VERIFY(setrlimit(RLIMIT_NOFILE, &r) == 0);
	while (open("/proc/self/exe", O_RDONLY | O_CLOEXEC) >= 0)
		n++;
	printf("no more descriptors: %s %d\n", strerrorname_np(errno), n > 20);
	works("without descriptors");
	printf("a mapped file: %d\n", *(char *)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 20, 0) == 0x7f);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "limits_machine", "after", (char *)NULL);
		printf("exec: %s\n", strerrorname_np(errno));
		fflush(stdout);
		_exit(1);
	}
	VERIFY(waitpid(pid, &status, 0) == pid);
	printf("executed a program: %d\n", WEXITSTATUS(status));
}

static off_t biggest_file(void)
{
	DIR *d = opendir(".");
	struct dirent *e;
	struct stat st;
	off_t most = 0;

	while (d && (e = readdir(d)))
		if (lstat(e->d_name, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > most)
			most = st.st_size;
	closedir(d);
	return most;
}

static void core_of(int sig)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		memset(fresh(1 << 20), 1, 1 << 20);
		if (sig == SIGSEGV)
			*(volatile char *)nowhere() = 1;
		raise(sig);
		_exit(0);
	}
	VERIFY(waitpid(pid, &status, 0) == pid);
	printf("SIG%s: core %d, small %d\n", sigabbrev_np(WTERMSIG(status)), WCOREDUMP(status), biggest_file() < 16 << 20);
}

static void cores(void)
{
	char dir[] = "/tmp/quire-guest-XXXXXX", command[100];
	struct rlimit r;

	VERIFY(mkdtemp(dir) && chdir(dir) == 0 && getrlimit(RLIMIT_CORE, &r) == 0);
	r.rlim_cur = r.rlim_max;
	VERIFY(setrlimit(RLIMIT_CORE, &r) == 0);
	fflush(stdout);
	core_of(SIGSEGV);
	core_of(SIGABRT);
	core_of(SIGQUIT);
	core_of(SIGFPE);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	VERIFY(system(command) == 0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "after") == 0) {
		int fd, n = 0;

		for (fd = 3; fd < 40; fd++)
			n += fcntl(fd, F_GETFD) >= 0;
		printf("descriptors closed by exec: %d\n", n == 0);
		return 5;
	}
	in_child("processes", processes);
	in_child("descriptors", descriptors);
	in_child("cores", cores);
	return 0;
}
