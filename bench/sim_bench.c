/*
 * The simulated MMU: loads, stores and fetches per second, by what the TLB knows.
 *
 * The peer in the same run is an uncontended atomic exchange and release store, which each access pays to be exact about
 * flushes; `native` is the same loop over the same pages without a machine.  Medians of alternating rounds.
 */
#include <port/sim/mmu.h>
#include <stdio.h>
#include <stdlib.h>
#include "timing.h"

#define ROUNDS 31
#define OPS 400000u
#define SPAN_HOT 64u    /* pages: all in the micro-TLB */
#define SPAN_TLB 800u   /* pages: more than the micro-TLB has, fewer than the TLB */
#define SPAN_MISS 8192u /* pages: a table walk nearly each time */
#define BASE 0x40000000ull

struct bench {
	struct quire *q;
	struct sim_cpu *cpu;
	struct mm_struct mm;
	u64 sum;
	u32 word;
};

/* Offset of access i: scattered over the pages of a span, made beforehand so that a division is not measured too. */
#define ORDER 16384u
static u64 order[ORDER];

static void make_order(u64 span)
{
	u64 i;

	for (i = 0; i < ORDER; i++)
		order[i] = (i * 2654435761u >> 7) % span * PAGE_SIZE + (i & 511) * 8;
}

static inline u64 offset_of(u32 i)
{
	return order[i % ORDER];
}

static void run_lock(struct bench *b)
{
	u32 i;

	for (i = 0; i < OPS; i++) {
		b->sum += __atomic_exchange_n(&b->word, 1, __ATOMIC_ACQUIRE) + offset_of(i);
		__atomic_store_n(&b->word, 0, __ATOMIC_RELEASE);
	}
}

static void run_native(struct bench *b)
{
	const volatile u8 *ram = b->q->cfg.direct_map;
	u32 i;

	for (i = 0; i < OPS; i++)
		b->sum += *(const volatile u64 *)(const volatile void *)(ram + (32u << 20) + offset_of(i));
}

static void run_load(struct bench *b)
{
	u64 v;
	u32 i;

	for (i = 0; i < OPS; i++) {
		if (sim_load(b->cpu, BASE + offset_of(i), 8, &v))
			abort();
		b->sum += v;
	}
}

static void run_store(struct bench *b)
{
	u32 i;

	for (i = 0; i < OPS; i++)
		if (sim_store(b->cpu, BASE + offset_of(i), 8, i))
			abort();
}

static void run_same_page(struct bench *b)
{
	u64 v;
	u32 i;

	for (i = 0; i < OPS; i++) {
		if (sim_load(b->cpu, BASE + (i & 511) * 8, 8, &v))
			abort();
		b->sum += v;
	}
}

static const struct {
	const char *name;
	void (*run)(struct bench *b);
	u64 span;
	double goal_mops; /* 0: none */
} list[] = {
	{ "lock pair", run_lock, SPAN_HOT, 0 },
	{ "native, 64 pages", run_native, SPAN_HOT, 0 },
	{ "load, 1 page", run_same_page, 1, 50 },
	{ "load, 64 pages", run_load, SPAN_HOT, 50 },
	{ "store, 64 pages", run_store, SPAN_HOT, 0 },
	{ "load, 800 pages", run_load, SPAN_TLB, 0 },
	{ "load, table walk", run_load, SPAN_MISS, 0 },
};

/* 8192 pages from physical 32 MiB on, mapped by hand: the benchmark needs no core. */
static void map_pages(struct bench *b)
{
	u64 *ram = b->q->cfg.direct_map, i;
	u64 l0 = 1 << 20, l1 = l0 + PAGE_SIZE, l2 = l1 + PAGE_SIZE, l3 = l2 + PAGE_SIZE;

	ram[(l0 >> 3) + (BASE >> 39 & 511)] = l1 | 3;
	ram[(l1 >> 3) + (BASE >> 30 & 511)] = l2 | 3;
	for (i = 0; i < SPAN_MISS / 512; i++)
		ram[(l2 >> 3) + (BASE >> 21 & 511) + i] = (l3 + i * PAGE_SIZE) | 3;
	for (i = 0; i < SPAN_MISS; i++)
		ram[(l3 >> 3) + i] = ((32ull << 20) + i * PAGE_SIZE) | 3 | 1 << 6 | 1 << 10 | 1 << 11; /* EL0, AF, nG */
	b->mm.q = b->q;
	b->mm.pgd = l0;
}

int main(void)
{
	static struct bench b;
	static double ns[ARRAY_SIZE(list)][ROUNDS];
	unsigned i, r;

	b.q = sim_machine_new_raw(&(struct sim_config){ .memory = 128 << 20 });
	b.cpu = sim_cpu_get(b.q, 0);
	map_pages(&b);
	if (port_mm_init(&b.mm))
		return 1;
	sim_cpu_switch_mm(b.cpu, &b.mm);
	for (r = 0; r < ROUNDS; r++)
		for (i = 0; i < ARRAY_SIZE(list); i++) {
			double t;

			make_order(list[i].span);
			t = wall_ns();
			list[i].run(&b);
			ns[i][r] = (wall_ns() - t) / OPS;
		}
	for (i = 0; i < ARRAY_SIZE(list); i++) {
		double mid, mops;

		mid = median(ns[i], ROUNDS);
		mops = 1000 / mid;
		printf("sim %-18s %8.2f ns %8.1f M/s  %5.2f x lock pair", list[i].name, mid, mops, mid / ns[0][ROUNDS / 2]);
		if (list[i].goal_mops)
			printf("  (goal %.0f M/s)%s", list[i].goal_mops, mops < list[i].goal_mops ? " *" : "");
		printf("\n");
	}
	port_mm_destroy(&b.mm);
	sim_machine_free(b.q);
	return 0;
}
