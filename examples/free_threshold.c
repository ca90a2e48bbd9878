/* free below and above the mmap threshold (128 KiB): the heap keeps small blocks, large ones go back at once. */
#include "look.h"

int main(void)
{
	char *small[100], *large, *top;
	uintptr_t where;
	long full;

	printf("first call\n"); /* and the first look: stdio's buffers must not come to lie above our blocks */
	status_kb("VmRSS");
	for (int i = 0; i < 100; i++) {
		small[i] = malloc(100 << 10);
		memset(small[i], 1, 100 << 10);
	}
	top = malloc(8000); /* lies above: the heap cannot shrink below it */
	large = malloc(1 << 20);
	where = (uintptr_t)large;
	__asm__ volatile("" : : "r"(top) : "memory"); /* the compiler must not leave it out */
	memset(large, 1, 1 << 20);
	printf("100 KiB blocks lie in the heap:\n");
	show_mapping((uintptr_t)small[50]);
	printf("1 MiB lies in a mapping of its own:\n");
	show_mapping(where);
	full = status_kb("VmRSS");
	free(large);
	printf("1 MiB freed: resident fell by %ld KiB\n", full - status_kb("VmRSS"));
	show_mapping(where);
	full = status_kb("VmRSS");
	for (int i = 0; i < 100; i++)
		free(small[i]);
	printf("100 blocks of 100 KiB freed: resident fell by %ld KiB\n", full - status_kb("VmRSS"));
	free(top);
	printf("the block above them freed too: resident fell by %ld KiB in all\n", full - status_kb("VmRSS"));
	return 0;
}
