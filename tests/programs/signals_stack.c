/* Alternate stacks (never touched before), nested and masked handlers, one-shot and NODEFER, deep nesting. */
#include "guest.h"

static char *alt;
static size_t alt_size;
static volatile sig_atomic_t depth, deepest;
static volatile int on_alt;

static bool here_on_alt(void)
{
	char here;

	return &here >= alt && &here < alt + alt_size;
}

static void nested(int sig, siginfo_t *info, void *context)
{
	char room[3000];

	memset(room, sig, sizeof(room));
	on_alt += here_on_alt();
	if (++depth > deepest)
		deepest = depth;
	if (sig == SIGUSR1)
		raise(SIGUSR2);
	VERIFY(room[1500] == (char)sig);
	depth--;
}

static void recursive(int sig, siginfo_t *info, void *context)
{
	if (++depth > deepest)
		deepest = depth;
	if (depth < 20)
		raise(sig);
	depth--;
}

static void mask_shown(int sig, siginfo_t *info, void *context)
{
	sigset_t now;

	sigprocmask(SIG_BLOCK, NULL, &now);
	printf("in handler: own %d, masked too %d, other %d\n", sigismember(&now, sig), sigismember(&now, SIGUSR2),
	       sigismember(&now, SIGTERM));
}

static void fpu(int sig, siginfo_t *info, void *context)
{
	volatile double x = 3.0;

	for (int i = 0; i < 100; i++)
		x = x * 1.5 - 0.25;
}

int main(void)
{
	stack_t ss, old;
	struct sigaction sa = {.sa_sigaction = mask_shown, .sa_flags = SA_SIGINFO | SA_RESETHAND};
	double a = 1.0, b = 0.5;

	alt_size = 64 * PAGE;
	alt = fresh(alt_size);
	ss = (stack_t){.ss_sp = alt, .ss_size = alt_size};
	SHOW(sigaltstack(&ss, NULL));
	SHOW(sigaltstack(NULL, &old));
	printf("as set: %d %d %d\n", old.ss_sp == alt, old.ss_size == alt_size, old.ss_flags);
	ss.ss_size = 100;
	SHOW(sigaltstack(&ss, NULL));
	handle(SIGUSR1, nested, SA_ONSTACK);
	handle(SIGUSR2, nested, SA_ONSTACK);
	raise(SIGUSR1);
	printf("both on the alternate stack: %d, deepest %d\n", on_alt, deepest);
	handle(SIGUSR1, nested, 0);
	on_alt = 0;
	raise(SIGUSR1);
	printf("one on the alternate stack: %d\n", on_alt);
	deepest = 0;
	handle(SIGUSR1, recursive, SA_NODEFER);
	raise(SIGUSR1);
	printf("nodefer depth: %d\n", deepest);
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	VERIFY(sigaction(SIGUSR1, &sa, NULL) == 0);
	raise(SIGUSR1);
	VERIFY(sigaction(SIGUSR1, NULL, &sa) == 0);
	printf("reset after one: %d\n", sa.sa_handler == SIG_DFL);
	handle(SIGUSR1, fpu, 0);
	for (int i = 0; i < 50; i++) {
		a = a * 1.01 + b;
		raise(SIGUSR1);
		b = b * 0.99 + a / 7;
	}
	printf("floating point across handlers: %.12f %.12f\n", a, b);
	return 0;
}
