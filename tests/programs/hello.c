/* The smallest program that uses its libc.  Built dynamic, static, static-PIE and with musl. */
#include <stdio.h>
#include <string.h>

static char zeroed[70000];
static int initialised = 42;

int main(int argc, char **argv)
{
	size_t nonzero = 0;

	for (size_t i = 0; i < sizeof(zeroed); i++)
		nonzero += zeroed[i] != 0;
	memset(zeroed, 1, sizeof(zeroed));
	printf("hello, world: %d arguments, %d, %zu\n", argc - 1, initialised, nonzero);
	for (int i = 1; i < argc; i++)
		printf("%s\n", argv[i]);
	return argc - 1;
}
