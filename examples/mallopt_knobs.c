/* mallopt: without mmap (M_MMAP_MAX 0) and without trimming (M_TRIM_THRESHOLD -1) freed memory stays, and is quick. */
#include "look.h"

#include <malloc.h>

/* Faults that a second round of the same work takes. */
static long second_round(void)
{
	long before = 0;

	for (int round = 0; round < 2; round++) {
		char *p;

		before = faults();
		p = malloc(8 << 20);
		memset(p, round, 8 << 20);
		__asm__ volatile("" : : "r"(p) : "memory"); /* the compiler must not see that nobody reads it */
		free(p);
	}
	return faults() - before;
}

int main(void)
{
	long without, with;

	printf("first call\n");
	mallopt(M_MMAP_THRESHOLD, 128 << 10); /* the library would otherwise raise it by itself */
	without = second_round();
	printf("as it comes: 8 MiB again take %ld faults\n", without);
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, -1);
	with = second_round();
	printf("with M_MMAP_MAX 0 and M_TRIM_THRESHOLD -1: %ld faults\n", with);
	printf("the knobs save faults: %s\n", with < without ? "yes" : "no");
	return 0;
}
