/*
 * A process that shares the memory of another (CLONE_VM) looks at the other's threads, as LeakSanitizer does: it waits on a private futex
 * until it may begin, attaches to each thread - one that computes, one that sleeps in a call, the first one, which waits for us - reads its
 * registers and lets it go on.  And once again.  Then a tracer is killed, and a tracee.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC 0x5151deadbeef1515ull
enum { SPINS, SLEEPS, WAITS, KINDS };
static const char *const names[] = { "spins", "sleeps", "waits" };
static volatile unsigned long turns;
static volatile int stop;
static int go, started, fds[2];
static pid_t tid[KINDS];
static struct { char *low, *high; } stack_of[KINDS];

static void introduce(int kind)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstack(&attr, &low, &size);
	pthread_attr_destroy(&attr);
	stack_of[kind].low = low;
	stack_of[kind].high = (char *)low + size;
	tid[kind] = (pid_t)syscall(SYS_gettid);
	__atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
}

static void *spin(void *arg)
{
	introduce(SPINS);
	__asm__ volatile("mov %0, %%r12\n"
			 "1: incq %1\n"
			 "cmpl $0, %2\n"
			 "je 1b" : : "r"(MAGIC), "m"(turns), "m"(stop) : "r12", "memory", "cc");
	return arg;
}

static void *sleep_in_call(void *arg)
{
	char c = 0;
	ssize_t n;

	introduce(SLEEPS);
	n = read(fds[0], &c, 1);
	printf("the sleeper read %zd '%c'\n", n, c);
	return arg;
}

static void look(int kind)
{
	struct user_regs_struct r = { 0 }, s = { 0 };
	struct iovec iov = { &s, sizeof(s) };
	unsigned long before;
	int status = 0, again;
	long ret;

	ret = ptrace(PTRACE_ATTACH, tid[kind], 0, 0);
	printf("%s: attach %ld", names[kind], ret);
	ret = waitpid(tid[kind], &status, __WALL);
	again = waitpid(tid[kind], &status, __WALL | WNOHANG);
	printf(", wait %d stopped %d by %d, no more %d", ret == tid[kind], WIFSTOPPED(status), WSTOPSIG(status), again);
	before = turns;
	ret = ptrace(PTRACE_GETREGS, tid[kind], 0, &r);
	printf(", registers %ld, stack %d, magic %d", ret, (char *)r.rsp >= stack_of[kind].low && (char *)r.rsp < stack_of[kind].high,
	       kind != SPINS || r.r12 == MAGIC);
	ret = ptrace(PTRACE_GETREGSET, tid[kind], (void *)1, &iov);
	printf(", the same %ld %d %zu", ret, !memcmp(&r, &s, 8 * 15) && r.rip == s.rip && r.rsp == s.rsp, iov.iov_len);
	errno = 0;
	printf(", peek %d", ptrace(PTRACE_PEEKDATA, tid[kind], &tid[SPINS], 0) == *(long *)&tid[SPINS]);
	usleep(2000);
	if (kind == SPINS)
		printf(", stands still %d", before == turns);
	printf(", detach %ld\n", ptrace(PTRACE_DETACH, tid[kind], 0, 0));
	while (kind == SPINS && before == turns)
		sched_yield();
}

static int tracer(void *arg)
{
	int kind, round;

	while (!__atomic_load_n(&go, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &go, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	for (round = 0; round < 2; round++)
		for (kind = 0; kind < KINDS; kind++)
			look(kind);
	printf("not traced: %d", (int)ptrace(PTRACE_GETREGS, tid[SPINS], 0, arg));
	printf(" %s\n", strerror(errno));
	fflush(stdout);
	return 7;
}

/* Attaches to the thread that spins, and is killed, or kills its process. */
static int careless_tracer(void *kills)
{
	int status;

	ptrace(PTRACE_ATTACH, tid[SPINS], 0, 0);
	waitpid(tid[SPINS], &status, __WALL);
	__atomic_store_n(&go, 2, __ATOMIC_SEQ_CST);
	if (!kills)
		pause();
	kill(tid[SPINS], SIGKILL); /* the first thread of its process */
	waitpid(tid[SPINS], &status, __WALL);
	_exit(0);
}

static void killed_tracer(char *stack)
{
	pid_t child = clone(careless_tracer, stack, CLONE_VM | CLONE_FS | CLONE_FILES, NULL);
	unsigned long before;
	int status = 0;

	while (__atomic_load_n(&go, __ATOMIC_SEQ_CST) != 2)
		sched_yield();
	before = turns;
	usleep(2000);
	printf("stands still %d, ", before == turns);
	kill(child, SIGKILL);
	waitpid(child, &status, __WALL);
	while (before == turns)
		sched_yield();
	printf("goes on when its tracer was killed (%d)\n", WTERMSIG(status));
}

static void killed_tracee(char *stack)
{
	int status = 0;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		tid[SPINS] = getpid();
		clone(careless_tracer, stack, CLONE_VM | CLONE_FS | CLONE_FILES, &status);
		for (;;)
			pause();
	}
	waitpid(child, &status, 0);
	printf("a tracee was killed by %d\n", WTERMSIG(status));
}

int main(void)
{
	static struct user_regs_struct unused;
	char *stack = malloc(1 << 20);
	pthread_t t[2];
	int status = 0;
	pid_t child;

	if (pipe(fds))
		return 1;
	introduce(WAITS);
	pthread_create(&t[0], NULL, spin, NULL);
	pthread_create(&t[1], NULL, sleep_in_call, NULL);
	while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) < KINDS || !turns)
		sched_yield();
	child = clone(tracer, stack + (1 << 20), CLONE_VM | CLONE_FS | CLONE_FILES, &unused);
	usleep(20000); /* so that it sleeps */
	__atomic_store_n(&go, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &go, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
		;
	printf("the tracer ended with %d\n", WEXITSTATUS(status));
	if (write(fds[1], "x", 1) != 1)
		return 1;
	pthread_join(t[1], NULL);
	killed_tracer(stack + (1 << 20));
	stop = 1;
	pthread_join(t[0], NULL);
	killed_tracee(stack + (1 << 20));
	return 0;
}
