/*
 * What the allocators cost in the hosted flavour, where every store of the core is logged: beside a pair of locks of the same run.
 * The kernel is the test build's (tests/hosted/hard), which asks one word more at each logged store than the product.
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include "selftest.h"
#include "timing.h"
#include <stdio.h>

#define ROUNDS 31
#define PAIRS 20000u

/* Rounds of all three take turns, so that a change of the machine's speed meets all of them. */
static void measure(const struct kernel_exports *k, double *result)
{
	static double ns[3][ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		for (int what = 0; what < 3; what++) {
			double start = cpu_ns();

			k->selftest->bench((enum st_bench)what, PAIRS);
			ns[what][round] = (cpu_ns() - start) / PAIRS;
		}
	}
	for (int what = 0; what < 3; what++)
		result[what] = median(ns[what], ROUNDS);
}

int main(void)
{
	struct machine_params p = { .memory = 256ull << 20, .nr_cpus = 2, .folio_max_order = 9, .seed = 1, .version = "bench" };
	const struct kernel_exports *k;
	double ns[3], aim;
	int ram;

	k = image_map(p.memory, &ram);
	if (!k || !k->selftest || k->machine_init(&p)) {
		printf("the machine does not boot\n");
		return 1;
	}
	measure(k, ns);
	aim = 2 * ns[0] + 10;
	printf("hosted flavour, 1 thread, ns a pair, median of %d\n", ROUNDS);
	printf("  lock pair                 %6.1f\n", ns[0]);
	printf("  order 0, list of the CPU  %6.1f  against two lock pairs + 10 ns: %.2f%s\n", ns[1], ns[1] / aim, ns[1] > aim ? " *" : "");
	printf("  kmalloc(64) + kfree       %6.1f  against two lock pairs + 10 ns: %.2f%s\n", ns[2], ns[2] / aim, ns[2] > aim ? " *" : "");
	return 0;
}
