/* What handlers are told: sender, value and code of signals from kill, sigqueue, timers, children and instructions. */
#include "guest.h"

static volatile sig_atomic_t count;
static siginfo_t seen;
static sigjmp_buf back;

static void note(int sig, siginfo_t *info, void *context)
{
	seen = *info;
	count++;
}

static void note_and_leave(int sig, siginfo_t *info, void *context)
{
	seen = *info;
	siglongjmp(back, 1);
}

static void show(const char *what)
{
	printf("%s: SIG%s, code %d, from me %d, value %d\n", what, sigabbrev_np(seen.si_signo), seen.si_code,
	       seen.si_pid == getpid(), seen.si_code == SI_QUEUE ? seen.si_value.sival_int : 0);
}

static void instructions(void)
{
	volatile int zero = 0, one = 1;

	handle(SIGFPE, note_and_leave, 0);
	handle(SIGILL, note_and_leave, 0);
	handle(SIGTRAP, note, 0);
	if (!sigsetjmp(back, 1))
		one = one / zero;
	printf("division: SIG%s, code %d\n", sigabbrev_np(seen.si_signo), seen.si_code == FPE_INTDIV);
	if (!sigsetjmp(back, 1))
		__builtin_trap();
	printf("bad instruction: SIG%s, code %d\n", sigabbrev_np(seen.si_signo), seen.si_code == ILL_ILLOPN);
	raise(SIGTRAP);
	printf("raise: SIG%s, code %d\n", sigabbrev_np(seen.si_signo), seen.si_code == SI_TKILL);
}

static void children(void)
{
	pid_t pid;
	int status;

	handle(SIGCHLD, note, 0);
	count = 0;
	pid = fork();
	if (pid == 0)
		_exit(33);
	while (!count)
		sleep_ms(1);
	printf("child: code %d, pid right %d, status %d\n", seen.si_code == CLD_EXITED, seen.si_pid == pid, seen.si_status);
	VERIFY(waitpid(pid, &status, 0) == pid);
	count = 0;
	pid = fork();
	if (pid == 0)
		raise(SIGKILL);
	while (!count)
		sleep_ms(1);
	printf("child: code %d, pid right %d, status %d\n", seen.si_code == CLD_KILLED, seen.si_pid == pid, seen.si_status);
	VERIFY(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

int main(void)
{
	union sigval value = {.sival_int = 4711};

	handle(SIGUSR1, note, 0);
	handle(SIGRTMIN + 3, note, 0);
	VERIFY(kill(getpid(), SIGUSR1) == 0);
	show("kill");
	VERIFY(sigqueue(getpid(), SIGUSR1, value) == 0);
	show("sigqueue");
	VERIFY(pthread_kill(pthread_self(), SIGUSR1) == 0);
	show("pthread_kill");
	VERIFY(sigqueue(getpid(), SIGRTMIN + 3, value) == 0);
	printf("real-time: %d, value %d\n", seen.si_signo == SIGRTMIN + 3, seen.si_value.sival_int);
	instructions();
	children();
	SHOW(kill(getpid(), 99));
	SHOW(kill(getpid(), 0));
	SHOW(kill(0x3ffffff, SIGTERM));
	SHOW(signal(SIGKILL, SIG_IGN) == SIG_ERR ? -1 : 0);
	signal(SIGUSR1, SIG_IGN);
	raise(SIGUSR1);
	signal(SIGUSR1, SIG_DFL);
	fflush(stdout);
	raise(SIGUSR1);
	return 0;
}
