/* A program sends itself signals that look like faults or like a filter's: its handlers get them, nothing else happens. */
#include "guest.h"

static volatile sig_atomic_t got;

static void note(int sig, siginfo_t *si, void *uc)
{
	(void)si;
	(void)uc;
	got = sig;
}

static void forge(int sig, int code)
{
	siginfo_t si = {.si_code = code};

	si.si_signo = sig;
	si.si_addr = (void *)0x1234;
	got = 0;
	handle(sig, note, 0);
	VERIFY(syscall(SYS_rt_sigqueueinfo, getpid(), sig, &si) == 0);
	printf("SIG%s to the process: %d\n", sigabbrev_np(sig), got == sig);
	got = 0;
	VERIFY(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, &si) == 0);
	printf("SIG%s to the thread: %d\n", sigabbrev_np(sig), got == sig);
}

static void dies(void)
{
	siginfo_t si = {.si_code = SEGV_MAPERR};

	si.si_signo = SIGSEGV;
	signal(SIGSEGV, SIG_DFL);
	syscall(SYS_rt_sigqueueinfo, getpid(), SIGSEGV, &si);
}

int main(void)
{
	siginfo_t si = {.si_code = SI_QUEUE};

	for (int code = 1; code < 4; code++) {
		forge(SIGSEGV, code);
		forge(SIGBUS, code);
		forge(SIGSYS, code);
	}
	SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), 0, &si));
	SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), 99, &si));
	SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, nowhere()));
	SHOW(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, NULL));
	SHOW(syscall(SYS_pidfd_send_signal, 1021, SIGUSR1, NULL, 0));
	in_child("without a handler", dies);
	return 0;
}
