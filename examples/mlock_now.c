/* mlock: the frames arrive at once, and stay. */
#include "look.h"

#include <sys/mman.h>

int main(void)
{
	size_t bytes = 4 << 20;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long before, untouched;

	say_frame("before mlock", p);
	before = status_kb("VmRSS");
	if (mlock(p, bytes)) {
		perror("mlock");
		return 1;
	}
	say_frame("after mlock, never touched", p);
	untouched = faults();
	for (size_t i = 0; i < bytes; i += PAGE)
		p[i] = 1;
	printf("resident grew by %ld KiB, locked are %ld KiB\n", status_kb("VmRSS") - before, status_kb("VmLck"));
	printf("touching all 1024 pages took %ld faults\n", faults() - untouched);
	munlock(p, bytes);
	printf("after munlock locked are %ld KiB\n", status_kb("VmLck"));
	return 0;
}
