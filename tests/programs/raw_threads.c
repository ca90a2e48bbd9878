/* clone(2) by hand: shared memory with and without threads, tid words, exit of one and of all, set_tid_address. */
#include "guest.h"
#include <linux/futex.h>
#include <sched.h>

static int shared_value;
static volatile pid_t child_word, parent_word;

static int adds(void *arg)
{
	shared_value += (int)(long)arg;
	return 5;
}

static int opens(void *arg)
{
	*(int *)arg = open("/dev/null", O_RDONLY);
	return 0;
}

static int sleeps_then_ends(void *arg)
{
	sleep_ms(30);
	syscall(SYS_exit, 0);
	return 0;
}

static char *new_stack(void)
{
	return (char *)fresh(16 * PAGE) + 16 * PAGE;
}

static void processes(void)
{
	int status, fd = -1;
	pid_t pid = clone(adds, new_stack(), SIGCHLD, (void *)1);

	VERIFY(pid > 0 && waitpid(pid, &status, 0) == pid);
	printf("own memory: %d, exit %d\n", shared_value, WEXITSTATUS(status));
	pid = clone(adds, new_stack(), CLONE_VM | SIGCHLD, (void *)2);
	VERIFY(pid > 0 && waitpid(pid, &status, 0) == pid);
	printf("shared memory: %d\n", shared_value);
	pid = clone(adds, new_stack(), CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)4);
	printf("vfork waits: %d\n", shared_value);
	VERIFY(waitpid(pid, &status, 0) == pid);
	pid = clone(opens, new_stack(), CLONE_VM | CLONE_FILES | SIGCHLD, &fd);
	VERIFY(waitpid(pid, &status, 0) == pid);
	printf("descriptor shared: %d\n", fcntl(fd, F_GETFD) >= 0);
	pid = clone(adds, new_stack(), CLONE_VM, (void *)8);
	SHOW(waitpid(pid, &status, 0));
	printf("without a signal: %d\n", waitpid(pid, &status, __WCLONE) == pid);
}

static void thread_words(void)
{
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
		    CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
	pid_t tid = clone(sleeps_then_ends, new_stack(), flags, NULL, &parent_word, NULL, &child_word);

	VERIFY(tid > 0);
	printf("parent's word: %d\n", parent_word == tid);
	while (child_word) {
		pid_t seen = child_word;

		if (seen)
			syscall(SYS_futex, &child_word, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	printf("child's word cleared: %d\n", child_word == 0);
	SHOW(clone(adds, new_stack(), CLONE_THREAD, NULL));
	SHOW(clone(adds, new_stack(), CLONE_SIGHAND, NULL));
	printf("tid is pid: %d\n", (pid_t)syscall(SYS_set_tid_address, &child_word) == getpid());
}

static void *outlives(void *arg)
{
	sleep_ms(30);
	printf("other thread speaks after the first ended\n");
	fflush(stdout);
	syscall(SYS_exit_group, 66);
	return NULL;
}

int main(void)
{
	pthread_t t;

	processes();
	thread_words();
	fflush(stdout);
	VERIFY(pthread_create(&t, NULL, outlives, NULL) == 0);
	syscall(SYS_exit, 1);
	return 0;
}
