/* The rules of alternate stacks: one that disarms itself, one that is too small, what handlers and calls are told of them. */
#include "guest.h"
#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static char *alt;
static size_t alt_size;
static volatile sig_atomic_t depth;
static sigjmp_buf out;

static void shown(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	char here;
	stack_t now;

	SHOW(sigaltstack(NULL, &now));
	printf("in handler %d: on it %d, saved size %zu flags %x; now size %zu flags %x\n", sig,
	       &here >= alt && &here < alt + alt_size, uc->uc_stack.ss_size,
	       uc->uc_stack.ss_size ? (unsigned)uc->uc_stack.ss_flags : 0 /* else what the parent's thread had */, now.ss_size,
	       now.ss_flags);
	now = (stack_t){.ss_sp = alt, .ss_size = alt_size, .ss_flags = SS_DISABLE};
	SHOW(sigaltstack(&now, NULL));
}

static void deeper(int sig, siginfo_t *info, void *context)
{
	depth++;
	raise(sig);
}

static void no_room(int sig, siginfo_t *info, void *context)
{
	printf("no room: code %d, address %p, deep enough %d\n", info->si_code, info->si_addr, depth > 0);
	siglongjmp(out, 1);
}

static void set(int flags)
{
	stack_t ss = {.ss_sp = alt, .ss_size = alt_size, .ss_flags = flags}, old;

	SHOW(sigaltstack(&ss, NULL));
	SHOW(sigaltstack(NULL, &old));
	printf("as set: %d %d %x\n", old.ss_sp == alt, old.ss_size == alt_size, old.ss_flags);
}

static void *in_thread(void *arg)
{
	raise(SIGUSR1);
	return NULL;
}

int main(void)
{
	pthread_t thread;
	int status;

	alt_size = 64 * PAGE;
	alt = fresh(alt_size);
	handle(SIGUSR1, shown, SA_ONSTACK);
	raise(SIGUSR1);
	pthread_create(&thread, NULL, in_thread, NULL);
	pthread_join(thread, NULL);
	set(SS_ONSTACK | (int)SS_AUTODISARM);
	raise(SIGUSR1);
	set(SS_ONSTACK | (int)SS_AUTODISARM);
	set(SS_ONSTACK);
	raise(SIGUSR1);
	set(0);
	raise(SIGUSR1);
	set(SS_DISABLE);
	set(77);
	/* Handlers on top of each other until the stack ends; SIGSEGV cannot be delivered there either, but elsewhere. */
	set(0);
	handle(SIGUSR2, deeper, SA_ONSTACK | SA_NODEFER);
	handle(SIGSEGV, no_room, 0);
	if (fork() == 0) {
		raise(SIGUSR2);
		_exit(0);
	}
	wait(&status);
	printf("signal %d\n", WTERMSIG(status));
	/* The ordinary stack is not there: what is to run on it becomes SIGSEGV, which has a stack of its own. */
	handle(SIGUSR2, deeper, 0);
	handle(SIGSEGV, no_room, SA_ONSTACK);
	if (!sigsetjmp(out, 1)) {
		depth = 1;
		__asm__ volatile("mov $0x10, %%rsp\n\tmov $234, %%eax\n\tsyscall\n\tud2" ::"D"(getpid()), "S"(gettid()),
				 "d"(SIGUSR2)
				 : "memory");
	}
	set(0);
	return 0;
}
