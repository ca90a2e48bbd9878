/* brk(2): growing, shrinking, zeroes after growing again, limits. */
#include "guest.h"
#include <sys/resource.h>

static char *raw_brk(void *p)
{
	return (char *)syscall(SYS_brk, p);
}

int main(void)
{
	static char output[4096]; /* no malloc: the break is ours alone */
	char *start = raw_brk(NULL);
	struct rlimit data = {16 << 20, 16 << 20};

	setvbuf(stdout, output, _IOFBF, sizeof(output));
	VERIFY(start != NULL);
	VERIFY(raw_brk(start + 10 * PAGE) == start + 10 * PAGE);
	VERIFY(all_zero(start, 10 * PAGE));
	memset(start, 0xab, 10 * PAGE);
	VERIFY(raw_brk(start + 4 * PAGE) == start + 4 * PAGE);
	VERIFY(start[4 * PAGE - 1] == (char)0xab);
	VERIFY(raw_brk(start + 10 * PAGE) == start + 10 * PAGE);
	printf("regrown part is zero: %d\n", all_zero(start + 4 * PAGE, 6 * PAGE));
	printf("kept part is kept: %d\n", start[0] == (char)0xab && start[4 * PAGE - 1] == (char)0xab);
	/* In the middle of a page. */
	VERIFY(raw_brk(start + 10 * PAGE + 100) == start + 10 * PAGE + 100);
	start[10 * PAGE + 4095] = 1;
	VERIFY(raw_brk(start + 10 * PAGE + 1) == start + 10 * PAGE + 1);
	printf("same page survives: %d\n", start[10 * PAGE + 4095]);
	/* Refused: the break stays where it is. */
	printf("below the start: %s\n", raw_brk(start - (1 << 30)) == start + 10 * PAGE + 1 ? "refused" : "moved");
	printf("absurdly high: %s\n", raw_brk((void *)(1ul << 62)) == start + 10 * PAGE + 1 ? "refused" : "moved");
	for (unsigned long below = 1; below <= 3 * PAGE; below += PAGE - 1) /* rounded up, the first of them are 0 */
		printf("at the very end: %s\n", raw_brk((void *)-below) == start + 10 * PAGE + 1 ? "refused" : "moved");
	SHOW(sbrk(1l << 46));
	SHOW(setrlimit(RLIMIT_DATA, &data));
	printf("over RLIMIT_DATA: %s\n", raw_brk(start + (64 << 20)) == start + 10 * PAGE + 1 ? "refused" : "moved");
	printf("within RLIMIT_DATA: %s\n", raw_brk(start + (1 << 20)) == start + (1 << 20) ? "moved" : "refused");
	memset(start, 1, 1 << 20);
	printf("back: %s\n", raw_brk(start) == start ? "moved" : "refused");
	return 0;
}
