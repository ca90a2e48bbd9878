/* malloc(1) books a heap of 132 KiB: the C library buys wholesale (by brk) and sells retail. */
#include "look.h"

int main(void)
{
	static char output[4096]; /* so that printf does not allocate before we do */
	uintptr_t where;
	char *p;
	long kb;

	setvbuf(stdout, output, _IOLBF, sizeof(output));
	p = malloc(1);
	where = (uintptr_t)p;
	printf("malloc(1) = %p, the break is at %p\n", (void *)p, sbrk(0));
	kb = show_mapping(where);
	printf("asked for 1 byte, the heap has %ld KiB\n", kb);
	free(p);
	printf("after free:\n");
	kb = show_mapping(where);
	printf("the heap still has %ld KiB: free gave it back to the library, not to the system\n", kb);
	return 0;
}
