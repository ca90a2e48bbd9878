/*
 * System calls made again and again from the same places, in all the ways that a rewritten call site must survive: registers, flags
 * and the red zone, jumps to the middle, signals at any moment, restarts, masks, fork and threads from such a place, and text that the
 * program changes itself.  (What the machine may rewrite: port/linux/patch.h.)
 */
#include "guest.h"
#include <sched.h>
#include <sys/time.h>
#include <ucontext.h>

#define ROUNDS 3000
#define STR_(x) #x
#define STR(x) STR_(x)
#define NR_BRK 12
#define NR_READ 0

/* What a probe leaves behind: see the assembler below. */
enum { OUT_AX, OUT_BX, OUT_CX, OUT_DX, OUT_SI, OUT_DI, OUT_BP, OUT_R8, OUT_R9, OUT_R10, OUT_R11, OUT_R12, OUT_R13, OUT_R14, OUT_XMM,
       OUT_FLAGS, OUT_RED /* 16 of them */, OUT_COUNT = OUT_RED + 16 };
void probe(long *out, const void *site);
extern const char far_site[], far_middle[], far_after[], near_site[], near_after[], probe_back[];
long far_read(int fd, void *buf, size_t n);
long near_call(long nr, long a, long b, long c, long d);

/* Jumps to the site with a value of its own in every register, DF and CF set, the red zone full; the site comes back by probe_back. */
__asm__(".text\n.p2align 4\n"
	".type probe, @function\nprobe:\n.cfi_startproc\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rdi, %r15; mov %rsi, %r14; mov $16, %ecx; lea -128(%rsp), %rdx\n"
	"1:	lea 0x1000(%rcx), %rax; mov %rax, (%rdx); add $8, %rdx; dec %ecx; jnz 1b\n"
	"	mov $0xb1, %ebx; mov $0xb2, %ebp; mov $0xb3, %r12d; mov $0xb4, %r13d; mov $0xd, %edx; mov $0xe, %esi\n"
	"	mov $8, %r8d; mov $9, %r9d; mov $10, %r10d; mov $0x77, %eax; movq %rax, %xmm7; xor %edi, %edi\n"
	"	mov $" STR(NR_BRK) ", %eax; stc; std; jmp *%r14\n"
	"probe_back:\n"
	"	mov %rax, 0(%r15); mov %rbx, 8(%r15); mov %rcx, 16(%r15); mov %rdx, 24(%r15); mov %rsi, 32(%r15)\n"
	"	mov %rdi, 40(%r15); mov %rbp, 48(%r15); mov %r8, 56(%r15); mov %r9, 64(%r15); mov %r10, 72(%r15)\n"
	"	mov %r11, 80(%r15); mov %r12, 88(%r15); mov %r13, 96(%r15); mov %r14, 104(%r15); movq %xmm7, 112(%r15)\n"
	"	.set i, 0\n	.rept 16\n	mov -128 + 8 * i(%rsp), %rax\n	mov %rax, 128 + 8 * i(%r15)\n	.set i, i + 1\n	.endr\n"
	"	pushfq; popq 120(%r15); cld\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
	".cfi_endproc\n.size probe, . - probe\n"
	".p2align 4\n.fill 32, 1, 0x90\n"
	".type far_site, @function\nfar_site:\n.cfi_startproc\n	mov $" STR(NR_BRK) ", %eax\n"
	"far_middle:	syscall\nfar_after:	jmp probe_back\n.cfi_endproc\n.size far_site, . - far_site\n.fill 16, 1, 0x90\n"
	".type near_site, @function\nnear_site:\n.cfi_startproc\n	nop\n	syscall\nnear_after:	jmp probe_back\n"
	".cfi_endproc\n.size near_site, . - near_site\n.fill 16, 1, 0x90\n"
	".type far_read, @function\nfar_read:\n.cfi_startproc\n	mov $" STR(NR_READ) ", %eax\n	syscall\n	ret\n"
	".cfi_endproc\n.size far_read, . - far_read\n.fill 16, 1, 0x90\n"
	".type near_call, @function\nnear_call:\n.cfi_startproc\n	mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi; mov %rcx, %rdx\n"
	"	mov %r8, %r10\n	syscall\n	ret\n"
	".cfi_endproc\n.size near_call, . - near_call\n.fill 16, 1, 0x90\n");

static long ticks, strange;

/* A handler never sees the program anywhere but in mapped text of its own, with its own stack. */
static void on_tick(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	long here;

	ticks++;
	if (uc->uc_mcontext.gregs[REG_RIP] >> 44 >= 7 && (uc->uc_mcontext.gregs[REG_RIP] >> 36 & 0xfff) == 0x7e0)
		strange++;
	if (labs(uc->uc_mcontext.gregs[REG_RSP] - (long)&here) > 1l << 26)
		strange++;
}

static void check(const long *out, long brk_now, const char *site, const char *after)
{
	VERIFY(out[OUT_AX] == brk_now);
	VERIFY(out[OUT_BX] == 0xb1 && out[OUT_BP] == 0xb2 && out[OUT_R12] == 0xb3 && out[OUT_R13] == 0xb4);
	VERIFY(out[OUT_DX] == 0xd && out[OUT_SI] == 0xe && out[OUT_DI] == 0 && out[OUT_XMM] == 0x77);
	VERIFY(out[OUT_R8] == 8 && out[OUT_R9] == 9 && out[OUT_R10] == 10 && out[OUT_R14] == (long)site);
	VERIFY(out[OUT_CX] == (long)after && out[OUT_R11] == out[OUT_FLAGS]);
	VERIFY((out[OUT_FLAGS] & 0x401) == 0x401); /* CF and DF */
	for (int i = 0; i < 16; i++)
		VERIFY(out[OUT_RED + i] == 0x1000 + 16 - i);
}

static void probes(int rounds)
{
	long out[OUT_COUNT], now = near_call(NR_BRK, 0, 0, 0, 0);

	for (int i = 0; i < rounds; i++) {
		probe(out, far_site);
		check(out, now, far_site, far_after);
		probe(out, near_site);
		check(out, now, near_site, near_after);
		if (i % 50 == 49) {
			probe(out, far_middle);
			check(out, now, far_middle, far_after);
		}
	}
}

static void tick_every(long usec)
{
	struct itimerval every = {{0, usec}, {0, usec}};

	VERIFY(setitimer(ITIMER_REAL, &every, NULL) == 0);
}

static void *probing(void *arg)
{
	probes(ROUNDS);
	return NULL;
}

/* From the first call on in several threads, so that the rewriting itself happens under their feet. */
static void in_threads(void)
{
	pthread_t t[3];

	for (size_t i = 0; i < COUNT(t); i++)
		VERIFY(pthread_create(&t[i], NULL, probing, NULL) == 0);
	probes(ROUNDS);
	for (size_t i = 0; i < COUNT(t); i++)
		VERIFY(pthread_join(t[i], NULL) == 0);
	puts("threads: ok");
}

static void under_ticks(void)
{
	handle(SIGALRM, on_tick, SA_RESTART);
	tick_every(150);
	probes(20 * ROUNDS);
	tick_every(0);
	printf("ticks: %s, strange: %ld\n", ticks > 3 ? "many" : "few", strange);
}

static int pipe_fds[2];

static void on_tick_write(int sig, siginfo_t *info, void *context)
{
	ticks++;
	if (ticks % 3 == 0)
		VERIFY(write(pipe_fds[1], "x", 1) == 1);
}

/* A read that sleeps: interrupted without SA_RESTART, begun again with it. */
static void restarts(int flags)
{
	long interrupted = 0, got = 0;
	char c;

	VERIFY(pipe(pipe_fds) == 0);
	ticks = 0;
	handle(SIGALRM, on_tick_write, flags);
	tick_every(700);
	while (got < 60) {
		long r = far_read(pipe_fds[0], &c, 1);

		VERIFY(r == 1 || r == -EINTR);
		got += r == 1;
		interrupted += r == -EINTR;
	}
	tick_every(0);
	VERIFY(close(pipe_fds[0]) == 0 && close(pipe_fds[1]) == 0);
	printf("%s: interrupted %s\n", flags ? "restarting" : "plain", interrupted ? "sometimes" : "never");
}

static volatile long handled;
static void on_usr1(int sig, siginfo_t *info, void *context) { handled++; }

/* A signal that is unblocked is handled before the call that unblocks it returns. */
static void masks(void)
{
	uint64_t usr1 = 1ull << (SIGUSR1 - 1), old;

	handle(SIGUSR1, on_usr1, 0);
	for (long i = 0; i < 300; i++) {
		VERIFY(near_call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&usr1, 0, 8) == 0);
		VERIFY(near_call(SYS_tgkill, getpid(), gettid(), SIGUSR1, 0) == 0);
		VERIFY(handled == i);
		VERIFY(near_call(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&usr1, (long)&old, 8) == 0);
		VERIFY(handled == i + 1 && (old & usr1));
	}
	puts("masks: ok");
}

/* Calls that need a whole register set, from a place that is used for others too. */
static void forks(void)
{
	for (int i = 0; i < 20; i++) {
		long pid = near_call(SYS_fork, 0, 0, 0, 0);
		int status;

		VERIFY(pid >= 0);
		if (pid == 0) {
			probes(100);
			near_call(SYS_exit_group, 7, 0, 0, 0);
		}
		VERIFY(near_call(SYS_wait4, pid, (long)&status, 0, 0) == pid && WEXITSTATUS(status) == 7);
	}
	puts("forks: ok");
}

/* The program's text becomes its own: whatever stood there for it goes on working. */
static void own_text(void)
{
	char *page = (char *)((uintptr_t)far_site & ~(PAGE - 1)), was;

	VERIFY(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
	was = *(volatile char *)page;
	*(volatile char *)page = was;
	probes(200);
	VERIFY(mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC) == 0);
	probes(200);
	puts("own text: ok");
}

/* Low addresses are the program's, whoever else may use some of them. */
static void low_memory(void)
{
	char *low = mmap((void *)0x3ff00000, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	VERIFY(low == (void *)0x3ff00000);
	VERIFY(all_zero(low, 1 << 20));
	memset(low, 0x5a, 1 << 20);
	probes(ROUNDS);
	for (size_t i = 0; i < 1 << 20; i++)
		VERIFY(low[i] == 0x5a);
	VERIFY(munmap(low, 1 << 20) == 0);
	puts("low memory: ok");
}

static void low_memory_in_threads(void)
{
	pthread_t t;

	VERIFY(pthread_create(&t, NULL, probing, NULL) == 0);
	low_memory();
	VERIFY(pthread_join(t, NULL) == 0);
}

int main(void)
{
	in_threads();
	probes(ROUNDS);
	under_ticks();
	restarts(0);
	restarts(SA_RESTART);
	masks();
	forks();
	in_child("low memory in a child", low_memory);
	in_child("own text in a child", own_text);
	in_child("low memory, threads", low_memory_in_threads);
	own_text();
	low_memory();
	return 0;
}
