/*
 * exec by a thread that is not the first one: the new program has the process's number as its thread's number, whatever the first thread
 * was doing, even if it had ended; and how processes end whose first thread ended before the others.
 */
#include "guest.h"
#include <dirent.h>

enum { WAITING, SPINNING, READING, SLEEPING, ENDED, IN_VFORK, FAULTING, DOING };
static const char *const doing_names[DOING] = {"waits", "spins", "reads", "sleeps", "has ended", "waits for vfork", "faults"};
static int doing, pipe_fd[2];
static char self[4096];

static int threads_now(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = -2;

	VERIFY(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int checks(const char *was)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	printf("tid is pid %d, the same as before %d, threads %d, mask of the caller %d\n", getpid() == (pid_t)syscall(SYS_gettid),
	       getpid() == atoi(was), threads_now(), sigismember(&mask, SIGUSR1));
	return 11;
}

static void exec_self(void)
{
	char was[20];
	sigset_t usr1;

	snprintf(was, sizeof(was), "%d", getpid());
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &usr1, NULL);
	execl(self, "exec_threads", "check", was, (char *)NULL);
	_exit(98);
}

static void *executes(void *arg)
{
	(void)arg;
	sleep_ms(20);
	SHOW(execl("/nonexistent", "x", (char *)NULL));
	fflush(stdout);
	exec_self();
	return NULL;
}

static void *idles(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void *faults(void *arg)
{
	for (;;) {
		char *p = fresh(64 * PAGE);

		memset(p, 1, 64 * PAGE);
		munmap(p, 64 * PAGE);
	}
	return arg;
}

static void first_thread(pthread_t t)
{
	char c;

	switch (doing) {
	case WAITING: pthread_join(t, NULL); break;
	case SPINNING: for (volatile int i = 0;; i++) ;
	case READING: VERIFY(read(pipe_fd[0], &c, 1) != 1); break;
	case SLEEPING: sleep(100); break;
	case ENDED: syscall(SYS_exit, 5); break;
	case IN_VFORK: if (vfork() == 0) { usleep(150000); _exit(0); } pause(); break;
	default: faults(NULL);
	}
	_exit(97);
}

static void from_thread(void)
{
	pthread_t t;

	VERIFY(pipe(pipe_fd) == 0 && pthread_create(&t, NULL, idles, NULL) == 0 && pthread_create(&t, NULL, faults, NULL) == 0);
	VERIFY(pthread_create(&t, NULL, executes, NULL) == 0);
	first_thread(t);
}

static void *executes_at_once(void *arg)
{
	(void)arg;
	exec_self();
	return NULL;
}

static void from_many(void)
{
	pthread_t t;

	for (int i = 0; i < 8; i++)
		pthread_create(&t, NULL, executes_at_once, NULL);
	exec_self();
}

static void *ends_last(void *arg)
{
	(void)arg;
	sleep_ms(30);
	syscall(SYS_exit, 4);
	return NULL;
}

static void first_ends_first(void)
{
	pthread_t t;

	VERIFY(pthread_create(&t, NULL, ends_last, NULL) == 0);
	syscall(SYS_exit, 3);
}

static void *ends_all(void *arg)
{
	(void)arg;
	sleep_ms(30);
	exit(6);
	return NULL;
}

static void others_exit(void)
{
	pthread_t t;

	VERIFY(pthread_create(&t, NULL, ends_all, NULL) == 0);
	syscall(SYS_exit, 3);
}

static void *takes_signals(void *arg)
{
	(void)arg;
	sleep_ms(30);
	kill(getpid(), SIGUSR2); /* not to be lost in the thread that is gone */
	sleep_ms(2000);
	_exit(96);
	return NULL;
}

static void handled(int sig, siginfo_t *si, void *uc)
{
	(void)si;
	(void)uc;
	_exit(sig == SIGUSR2 ? 8 : 95);
}

static void signals_after_first(void)
{
	pthread_t t;

	handle(SIGUSR2, handled, 0);
	VERIFY(pthread_create(&t, NULL, takes_signals, NULL) == 0);
	syscall(SYS_exit, 3);
}

static void own_number(void)
{
	printf("child: tid is pid %d\n", getpid() == (pid_t)syscall(SYS_gettid));
	doing = ENDED;
	from_thread();
}

static void *forks(void *arg)
{
	(void)arg;
	sleep_ms(30);
	in_child("forked by another thread", own_number);
	fflush(stdout);
	_exit(9);
	return NULL;
}

static void fork_after_first(void)
{
	pthread_t t;

	VERIFY(pthread_create(&t, NULL, forks, NULL) == 0);
	syscall(SYS_exit, 3);
}

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	VERIFY(n > 0);
	if (argc > 2 && strcmp(argv[1], "check") == 0)
		return checks(argv[2]);
	for (doing = 0; doing < DOING; doing++)
		in_child(doing_names[doing], from_thread);
	for (int i = 0; i < 10; i++)
		in_child("many at once", from_many);
	in_child("the first thread ends first", first_ends_first);
	in_child("another thread exits for all", others_exit);
	in_child("a signal when the first has ended", signals_after_first);
	in_child("fork", fork_after_first);
	return 0;
}
