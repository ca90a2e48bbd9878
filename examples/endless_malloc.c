/*
 * The tutorial's program that allocates without limit, a KiB at a time, and says so every MiB.
 * With an argument it stops after that many MiB (so that it can be run where memory is not limited).
 */
#include <stdio.h>
#include <stdlib.h>

#define ONE_K 1024

int main(int argc, char **argv)
{
	int limit = argc > 1 ? atoi(argv[1]) : 0;
	int megs_obtained = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (!limit || megs_obtained < limit) {
		for (int ks_obtained = 0; ks_obtained < 1024; ks_obtained++) {
			char *some_memory = malloc(ONE_K);

			if (!some_memory)
				exit(EXIT_FAILURE);
			sprintf(some_memory, "Hello World");
		}
		megs_obtained++;
		printf("Now allocated %d Megabytes\n", megs_obtained);
	}
	exit(EXIT_SUCCESS);
}
