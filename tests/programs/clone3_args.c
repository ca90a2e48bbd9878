/* clone3(): what is refused, in which order, and that the rest makes children. */
#include "guest.h"
#include <linux/sched.h>

static char buffer[PAGE];

static long try_clone3(const struct clone_args *ca, size_t size)
{
	long pid;

	fflush(stdout);
	memcpy(buffer, ca, sizeof(*ca));
	pid = syscall(__NR_clone3, buffer, size);
	if (pid == 0)
		_exit(7);
	if (pid > 0) {
		int status = 0;

		VERIFY(waitpid((pid_t)pid, &status, __WALL) == pid && WEXITSTATUS(status) == 7);
		return 1;
	}
	return pid;
}

#define TRY(size, ...) SHOW(try_clone3(&(struct clone_args){__VA_ARGS__}, size))
#define ALL sizeof(struct clone_args)

int main(void)
{
	TRY(ALL, .exit_signal = SIGCHLD);
	TRY(64, .exit_signal = SIGCHLD);
	TRY(ALL, .exit_signal = 0);
	TRY(0, .exit_signal = SIGCHLD);
	TRY(63, .exit_signal = SIGCHLD);
	TRY(PAGE, .exit_signal = SIGCHLD);
	TRY(PAGE + 1, .exit_signal = SIGCHLD);
	buffer[ALL + 9] = 1;
	TRY(ALL + 10, .exit_signal = SIGCHLD);
	TRY(ALL + 9, .exit_signal = SIGCHLD);
	TRY(ALL, .exit_signal = 65);
	TRY(ALL, .exit_signal = -1ull);
	TRY(ALL, .exit_signal = 0x100000000ull | SIGCHLD);
	TRY(ALL, .flags = SIGCHLD);
	TRY(ALL, .flags = 1ull << 40, .exit_signal = SIGCHLD);
	TRY(ALL, .flags = 0x00400000 /* CLONE_DETACHED */, .exit_signal = SIGCHLD);
	TRY(ALL, .flags = CLONE_PARENT, .exit_signal = SIGCHLD);
	TRY(ALL, .flags = CLONE_THREAD, .exit_signal = SIGCHLD);
	TRY(ALL, .flags = CLONE_SIGHAND | CLONE_CLEAR_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD);
	TRY(ALL, .flags = CLONE_SIGHAND, .exit_signal = SIGCHLD);
	TRY(ALL, .flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD);
	TRY(ALL, .stack_size = PAGE, .exit_signal = SIGCHLD);
	TRY(ALL, .stack = (uintptr_t)buffer, .exit_signal = SIGCHLD);
	TRY(ALL, .stack = -4096ull, .stack_size = PAGE, .exit_signal = SIGCHLD);
	TRY(ALL, .set_tid_size = 1, .exit_signal = SIGCHLD);
	TRY(ALL, .set_tid = (uintptr_t)buffer, .exit_signal = SIGCHLD);
	TRY(ALL, .set_tid = (uintptr_t)buffer, .set_tid_size = 33, .exit_signal = SIGCHLD);
	TRY(64, .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD);
	SHOW(syscall(__NR_clone3, 16, ALL));
	return 0;
}
