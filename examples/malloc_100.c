/*
 * When does malloc(100) get its memory?  malloc only books addresses; a frame arrives when a page is first touched.
 * A large block makes it visible, because nothing else lies in its pages.
 */
#include "look.h"

int main(void)
{
	long before, after;
	char *small, *large;

	printf("first call\n"); /* stdio's own buffer is out of the way now */
	small = malloc(100);
	large = malloc(64 << 20);
	printf("malloc(100) = %p, malloc(64 MiB) = %p\n", (void *)small, (void *)large);
	say_frame("before the touch", large + (32 << 20));
	before = status_kb("VmRSS");
	printf("64 MiB are booked, and the process holds %ld KiB in all\n", before);
	large[32 << 20] = 1;
	say_frame("after the touch", large + (32 << 20));
	before = faults();
	for (size_t i = 0; i < 16 << 20; i += PAGE)
		large[i] = 1;
	after = faults();
	printf("touching 4096 pages took %ld faults: %s\n", after - before,
	       after - before > 4000 ? "a frame at a time" : "several frames at a time");
	printf("the process holds %ld KiB now\n", status_kb("VmRSS"));
	printf("100 bytes were asked for; the smallest thing the system gives is a page of %ld\n", sysconf(_SC_PAGESIZE));
	free(small);
	free(large);
	return 0;
}
