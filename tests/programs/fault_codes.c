/* What a handler learns of a bad access: signal, code and address, for every way of being wrong. */
#include "guest.h"

static sigjmp_buf back;
static siginfo_t seen;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	seen = *info;
	siglongjmp(back, 1);
}

static const char *code_name(const siginfo_t *info)
{
	if (info->si_signo == SIGBUS)
		return info->si_code == BUS_ADRERR ? "BUS_ADRERR" : info->si_code == BUS_ADRALN ? "BUS_ADRALN" : "?";
	return info->si_code == SEGV_MAPERR ? "SEGV_MAPERR" : info->si_code == SEGV_ACCERR ? "SEGV_ACCERR" :
	       info->si_code == SI_KERNEL ? "SI_KERNEL" : "?";
}

/* Runs one access; prints what came, with the address relative to base. */
#define TRY(what, base, access) do { \
	if (sigsetjmp(back, 1) == 0) { \
		access; \
		printf("%s: no signal\n", what); \
	} else { \
		printf("%s: SIG%s %s at +%ld\n", what, sigabbrev_np(seen.si_signo), code_name(&seen), \
		       (long)((uintptr_t)seen.si_addr - (uintptr_t)(base))); \
	} \
} while (0)

int main(void)
{
	volatile char *p = fresh(8 * PAGE), *ro, *f, *gone;
	int fd = temp_file(PAGE + 100);
	volatile char sink;

	handle(SIGSEGV, on_fault, 0);
	handle(SIGBUS, on_fault, 0);
	TRY("read NULL", 0, sink = *(volatile char *)8);
	TRY("write NULL", 0, *(volatile char *)16 = 1);
	TRY("non-canonical", 0, sink = *(volatile char *)(1ul << 62));
	VERIFY(munmap((char *)p + 2 * PAGE, PAGE) == 0);
	TRY("read a hole", p, sink = p[2 * PAGE + 5]);
	TRY("write a hole", p, p[2 * PAGE + 7] = 1);
	TRY("word across into a hole", p, *(volatile uint64_t *)(p + 2 * PAGE - 3) = 1);
	p[3 * PAGE] = 1;
	VERIFY(mprotect((char *)p + 3 * PAGE, PAGE, PROT_READ) == 0);
	TRY("write read-only touched", p, p[3 * PAGE + 9] = 1);
	VERIFY(mprotect((char *)p + 4 * PAGE, PAGE, PROT_READ) == 0);
	TRY("write read-only untouched", p, p[4 * PAGE + 9] = 1);
	TRY("read read-only untouched", p, sink = p[4 * PAGE + 9]);
	VERIFY(mprotect((char *)p + 5 * PAGE, PAGE, PROT_NONE) == 0);
	TRY("read PROT_NONE", p, sink = p[5 * PAGE + 1]);
	TRY("execute data", p, ((void (*)(void))(uintptr_t)(p + 6 * PAGE))());
	VERIFY(mprotect((char *)p + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
	TRY("after PROT_NONE", p, sink = p[5 * PAGE + 1]);
	ro = mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	TRY("file, last page's tail", ro, sink = ro[PAGE + 4000]);
	TRY("file, beyond the end", ro, sink = ro[2 * PAGE + 10]);
	TRY("file, write read-only", ro, ro[20] = 1);
	f = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	TRY("private file, write beyond the end", f, f[2 * PAGE + 11] = 1);
	TRY("private file, write", f, f[PAGE + 1] = 1);
	VERIFY(ftruncate(fd, 10) == 0);
	TRY("file cut, own copy gone too", f, sink = f[PAGE + 1]);
	TRY("file cut, shared", ro, sink = ro[PAGE]);
	gone = fresh(PAGE);
	gone[0] = 1;
	VERIFY(munmap((char *)gone, PAGE) == 0);
	TRY("after munmap", gone, sink = gone[0]);
	(void)sink;
	return 0;
}
