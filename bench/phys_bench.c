/*
 * The page allocator: pairs of allocation and free, churn, growth with RAM size, fragmentation.
 *
 * Each figure is the median of ROUNDS rounds; rounds of all figures alternate, so that a slow moment of the host hits
 * all.  There is no peer for a page allocator in user mode, so the measure is a lock pair (spin_trylock + spin_unlock
 * of a free per-CPU slot) timed in the same run.
 */
#include <phys/phys.h>
#include <port/sim/sim.h>
#include <stdio.h>
#include <stdlib.h>
#include "timing.h"

#define ROUNDS 201 /* short ones: most are not interrupted, however busy the host */
#define PAIRS 5000u
#define CHURN 20000u
#define CHURN_LIVE 512u

static struct quire *machine(u64 memory, u32 cpus, bool no_types)
{
	struct quire *q = sim_machine_new_raw(&(struct sim_config){.memory = memory, .nr_cpus = cpus});

	q->cfg.no_migratetypes = no_types;
	if (phys_init(q))
		exit(1);
	sim_fail_nth(q, 0, 0); /* no counting of allocations in the measured path */
	return q;
}

/* ---- pairs ---- */

static double time_lock(struct quire *q, unsigned order)
{
	struct spinlock *l = &q->phys.cpus[0].lock;
	double t = wall_ns();
	unsigned i;

	for (i = 0; i < PAIRS; i++) {
		spin_trylock(l);
		spin_unlock(l);
	}
	return (wall_ns() - t) / PAIRS;
}

static double time_pair(struct quire *q, unsigned order)
{
	double t = wall_ns();
	unsigned i;

	for (i = 0; i < PAIRS; i++)
		__free_pages(q, alloc_pages(q, GFP_KERNEL, order), order);
	return (wall_ns() - t) / PAIRS;
}

/* Sixty-four live at a time, freed in the order of allocation: what a gather of a large unmap does. */
static double time_bulk(struct quire *q, unsigned order)
{
	struct frame *f[64];
	double t = wall_ns();
	unsigned i;

	for (i = 0; i < PAIRS / 64; i++) {
		alloc_pages_bulk(q, GFP_KERNEL, 64, f);
		free_pages_bulk(q, 64, f);
	}
	return (wall_ns() - t) / (PAIRS / 64 * 64);
}

struct figure {
	const char *name;
	double (*fn)(struct quire *q, unsigned order);
	unsigned order;
	double ns[ROUNDS];
};

static void pairs(void)
{
	static struct figure figures[] = {
		{.name = "lock pair", .fn = time_lock},
		{.name = "order 0, list of the CPU", .fn = time_pair},
		{.name = "order 3, list of the CPU", .fn = time_pair, .order = 3},
		{.name = "order 9, list of the CPU", .fn = time_pair, .order = 9},
		{.name = "order 6, buddy lists", .fn = time_pair, .order = 6},
		{.name = "order 0, 64 at once", .fn = time_bulk},
	};
	struct quire *q = machine(4ull << 30, 1, false);
	double lock;
	unsigned r, i;

	for (r = 0; r < ROUNDS; r++)
		for (i = 0; i < ARRAY_SIZE(figures); i++)
			figures[i].ns[r] = figures[i].fn(q, figures[i].order);
	lock = median(figures[0].ns, ROUNDS);
	/* The fastest round is what the code costs; the median is what this host gave it while it ran. */
	printf("alloc + free, 1 CPU            median ns  lock pairs  fastest round ns\n");
	for (i = 0; i < ARRAY_SIZE(figures); i++) {
		double ns = median(figures[i].ns, ROUNDS); /* sorts */

		printf("  %-28s %8.1f  %10.2f  %16.1f\n", figures[i].name, ns, ns / lock, figures[i].ns[0]);
	}
	printf("  order 0 against 20 ns: %.2f; against two lock pairs + 10 ns: %.2f\n", median(figures[1].ns, ROUNDS) / 20,
	       median(figures[1].ns, ROUNDS) / (2 * lock + 10));
	sim_machine_free(q);
}

/* ---- churn ---- */

static u64 next(u64 *rng)
{
	*rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
	return *rng >> 33;
}

static unsigned churn_order(u64 r)
{
	return r % 16 < 11   ? 0
	       : r % 16 < 14 ? 1 + (unsigned)(r >> 8) % 3
	       : r % 16 < 15 ? 4
			     : (unsigned)(r >> 8) % NR_ORDERS;
}

static gfp_t churn_gfp(u64 r)
{
	return (r >> 20) % 4 == 0   ? GFP_KERNEL
	       : (r >> 20) % 4 == 1 ? GFP_KERNEL | __GFP_RECLAIMABLE
				    : GFP_HIGHUSER_MOVABLE;
}

struct churn {
	double ns[QUIRE_MAX_CPUS];
	u64 ops;
};

static void churn_thread(struct quire *q, unsigned id, void *arg)
{
	struct churn *c = arg;
	struct frame *live[CHURN_LIVE] = {0};
	u64 rng = 12345 + id, i;
	double t = wall_ns();

	for (i = 0; i < c->ops; i++) {
		u64 r = next(&rng);
		struct frame **f = &live[r % CHURN_LIVE];

		if (*f) {
			__free_pages(q, *f, (*f)->order);
			*f = NULL;
		} else {
			*f = alloc_pages(q, churn_gfp(r) | __GFP_NOWARN, churn_order(r >> 10));
		}
	}
	c->ns[id] = (wall_ns() - t) / (double)c->ops;
	for (i = 0; i < CHURN_LIVE; i++)
		if (live[i])
			__free_pages(q, live[i], live[i]->order);
}

static double churn(u64 memory, unsigned threads)
{
	struct quire *q = machine(memory, threads, false);
	double sum[ROUNDS];
	unsigned r, i;

	for (r = 0; r < ROUNDS; r++) {
		struct churn c = {.ops = CHURN / threads};

		sim_run(q, threads, churn_thread, &c);
		sum[r] = 0;
		for (i = 0; i < threads; i++)
			sum[r] += c.ns[i] / threads;
	}
	sim_machine_free(q);
	return median(sum, ROUNDS);
}

static void churns(void)
{
	double one = churn(4ull << 30, 1), two = churn(4ull << 30, 2);

	printf("random orders and types, ns an operation\n");
	printf("  1 thread                     %8.1f\n  2 threads, 2 CPUs            %8.1f  %6.2f of 1 thread\n", one,
	       two, two / one);
}

/* ---- growth ---- */

static double time_boot(u64 memory)
{
	double ns[ROUNDS];
	unsigned r;

	for (r = 0; r < ROUNDS; r++) {
		struct quire *q = sim_machine_new_raw(&(struct sim_config){.memory = memory});
		double t = wall_ns();

		if (phys_init(q))
			exit(1);
		ns[r] = (wall_ns() - t) / 1000;
		sim_machine_free(q);
	}
	return median(ns, ROUNDS);
}

static void growth(void)
{
	static const u64 sizes[] = {64ull << 20, 1ull << 30, 8ull << 30, 64ull << 30};
	struct quire *q[ARRAY_SIZE(sizes)];
	double ns[ARRAY_SIZE(sizes)][ROUNDS], first_boot = 0, first_pair = 0, first_churn = 0;
	unsigned i, r;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		q[i] = machine(sizes[i], 1, false);
	for (r = 0; r < ROUNDS; r++) {
		for (i = 0; i < ARRAY_SIZE(sizes); i++) {
			sim_thread_enter(q[i]);
			ns[i][r] = time_pair(q[i], 0);
		}
	}
	printf("growth with RAM            boot us         order-0 pair ns      churn ns\n");
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		double boot = time_boot(sizes[i]), pair = median(ns[i], ROUNDS), ch = churn(sizes[i], 1);

		first_boot = i ? first_boot : boot;
		first_pair = i ? first_pair : pair;
		first_churn = i ? first_churn : ch;
		printf("  %6llu MiB             %7.1f  %5.2f        %7.1f  %5.2f    %7.1f  %5.2f\n",
		       (unsigned long long)(sizes[i] >> 20), boot, boot / first_boot, pair, pair / first_pair, ch,
		       ch / first_churn);
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		sim_machine_free(q[i]);
}

/* ---- fragmentation ---- */

/* Fills the machine, frees most of what can be moved, and looks at what is left for large blocks. */
static void fragment(bool no_types, int *largest, int *unusable, u64 *huge)
{
	struct quire *q = machine(256ull << 20, 1, no_types);
	u64 rng = 777, i, n = 0, max = 200000;
	struct frame **live = calloc(max, sizeof(*live));
	bool *movable = calloc(max, sizeof(*movable));

	for (i = 0; i < 3 * max && n < max; i++) {
		u64 r = next(&rng);
		gfp_t gfp = churn_gfp(r);
		struct frame *f = alloc_pages(q, (gfp | __GFP_NOWARN | __GFP_NORETRY) & ~__GFP_DIRECT_RECLAIM,
					      r % 8 ? 0 : churn_order(r >> 10) % 4);

		if (!f)
			break;
		movable[n] = gfp & __GFP_MOVABLE;
		live[n++] = f;
	}
	/* What is movable goes; one in eight of the kernel's own stays for ever. */
	for (i = 0; i < n; i++)
		if (movable[i] || next(&rng) % 8)
			__free_pages(q, live[i], live[i]->order);
	drain_all_pages(q);
	*largest = phys_largest_free_order(q);
	*unusable = unusable_free_index(q, ZONE_DMA32, PMD_ORDER);
	*huge = 0;
	while (alloc_pages(q, GFP_HIGHUSER_MOVABLE | __GFP_NOWARN | __GFP_MEMALLOC, PMD_ORDER))
		(*huge)++;
	free(live);
	free(movable);
	sim_machine_free(q);
}

static void fragmentation(void)
{
	int largest[2], unusable[2];
	u64 huge[2];

	fragment(false, &largest[0], &unusable[0], &huge[0]);
	fragment(true, &largest[1], &unusable[1], &huge[1]);
	printf("fragmentation after churn in 256 MiB     with types   without\n");
	printf("  largest free order                       %8d  %8d\n", largest[0], largest[1]);
	printf("  unusable-free index for 2 MiB, per mille %8d  %8d\n", unusable[0], unusable[1]);
	printf("  2 MiB blocks that can be had             %8llu  %8llu\n", (unsigned long long)huge[0],
	       (unsigned long long)huge[1]);
}

int main(void)
{
	pairs();
	churns();
	growth();
	fragmentation();
	printf("frame records: %.2f %% of RAM\n", 100.0 * sizeof(struct frame) / PAGE_SIZE);
	return 0;
}
