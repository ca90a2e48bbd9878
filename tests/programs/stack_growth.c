/* The stack grows by itself, deep and in leaps; its limit ends in SIGSEGV on the alternate stack or in death. */
#include "guest.h"
#include <alloca.h>
#include <sys/resource.h>

static sigjmp_buf back;
static volatile int caught;

static void on_segv(int sig, siginfo_t *info, void *context)
{
	caught = info->si_code == SEGV_MAPERR ? 1 : info->si_code == SEGV_ACCERR ? 2 : 3;
	siglongjmp(back, 1);
}

static __attribute__((noinline)) long deep(int n)
{
	volatile char frame[1000];

	frame[0] = (char)n;
	frame[999] = (char)(n >> 8);
	return n ? deep(n - 1) + frame[0] * 0 + 1 : 0;
}

static __attribute__((noinline)) void endless(volatile char *previous)
{
	volatile char frame[5000];

	frame[0] = previous[0];
	if (frame[0] == 7) /* never; but a compiler may not know */
		return;
	endless(frame);
	previous[1] = frame[2];
}

static __attribute__((noinline)) int leap(size_t n)
{
	volatile char *p = alloca(n);

	p[0] = 1; /* far below the stack so far */
	return p[0];
}

static void overflow(void)
{
	char c[2] = {0};

	endless(c);
}

static void *thread_overflow(void *arg)
{
	static char alt[65536];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt)};

	VERIFY(sigaltstack(&ss, NULL) == 0);
	if (!sigsetjmp(back, 1))
		overflow();
	return NULL;
}

int main(void)
{
	struct rlimit lim;
	stack_t ss = {.ss_sp = fresh(16 * PAGE), .ss_size = 16 * PAGE};
	pthread_t t;

	VERIFY(getrlimit(RLIMIT_STACK, &lim) == 0);
	printf("deep: %ld\n", deep(3000));
	printf("leap: %d\n", leap(3 << 20));
	in_child("overflow", overflow);
	lim.rlim_cur = 1 << 20;
	VERIFY(setrlimit(RLIMIT_STACK, &lim) == 0);
	VERIFY(sigaltstack(&ss, NULL) == 0);
	handle(SIGSEGV, on_segv, SA_ONSTACK);
	if (!sigsetjmp(back, 1))
		overflow();
	printf("caught: %d\n", caught);
	caught = 0;
	VERIFY(pthread_create(&t, NULL, thread_overflow, NULL) == 0 && pthread_join(t, NULL) == 0);
	printf("caught in a thread, at its guard: %d\n", caught);
	return 0;
}
