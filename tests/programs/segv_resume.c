/* A program that pages for itself: its SIGSEGV handler maps and protects, then the access goes on (as collectors do). */
#include "guest.h"
#include <ucontext.h>

#define PAGES 300
static char *area;
static int faults, writes, skipped;

static void on_segv(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	size_t page = (size_t)((char *)info->si_addr - area) / PAGE;
	char *p = area + page * PAGE;

	if (page >= PAGES) { /* skip "movb $1, (%rax)": three bytes */
		uc->uc_mcontext.gregs[REG_RIP] += 3;
		skipped++;
		return;
	}
	faults++;
	if (info->si_code == SEGV_MAPERR) {
		VERIFY(mmap(p, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
		p[0] = (char)page;
		VERIFY(mprotect(p, PAGE, PROT_READ) == 0);
		return;
	}
	writes += (uc->uc_mcontext.gregs[REG_ERR] & 2) != 0;
	VERIFY(mprotect(p, PAGE, PROT_READ | PROT_WRITE) == 0);
}

int main(void)
{
	size_t sum = 0;

	area = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VERIFY(area != MAP_FAILED && munmap(area, PAGES * PAGE) == 0);
	handle(SIGSEGV, on_segv, 0);
	for (size_t i = 0; i < PAGES; i++)
		sum += (unsigned char)((volatile char *)area)[i * PAGE];
	printf("sum %zu, faults %d\n", sum, faults);
	for (size_t i = 0; i < PAGES; i += 3)
		((volatile char *)area)[i * PAGE + 8] = 1;
	printf("faults %d, of them writes %d\n", faults, writes);
	__asm__ volatile("movb $1, (%%rax)" : : "a"(8ul) : "memory");
	__asm__ volatile("movb $1, (%%rax)" : : "a"(0ul) : "memory");
	printf("skipped %d\n", skipped);
	signal(SIGSEGV, SIG_DFL);
	fflush(stdout);
	*(volatile char *)8 = 1;
	return 0;
}
