/*
 * Address spaces: find_vma beside a sorted array and a red-black tree in the same run, mmap + munmap pairs by number of
 * mappings, fork by mapped page.  Every figure is the median of ROUNDS; CPU time of this thread.
 */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <mm/mm.h>
#include <port/sim/sim.h>
#include "timing.h"

#define ROUNDS 15
#define LOOKUPS 200000u
#define PAIRS 20000u
#define BASE 0x100000000ull
#define STRIDE (4 * PAGE_SIZE) /* two pages mapped, two free */

/* ---- peers: ranges sorted in an array, and a red-black tree (glibc's tsearch is one) ---- */
struct range {
	u64 start, end;
};
static struct range *sorted;
static u32 nr;

static const struct range *array_find(u64 addr)
{
	u32 lo = 0, hi = nr;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (sorted[mid].end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < nr ? &sorted[lo] : NULL;
}

struct rb {
	struct rb *left, *right, *parent;
	bool red;
	struct range r;
};
static struct rb *rb_root;

static void rotate(struct rb *x, bool left)
{
	struct rb *y = left ? x->right : x->left, *b = left ? y->left : y->right;

	*(left ? &x->right : &x->left) = b;
	if (b)
		b->parent = x;
	y->parent = x->parent;
	if (!x->parent)
		rb_root = y;
	else
		*(x == x->parent->left ? &x->parent->left : &x->parent->right) = y;
	*(left ? &y->left : &y->right) = x;
	x->parent = y;
}

/* Textbook insertion (Cormen et al., chapter 13). */
static void rb_fix(struct rb *n)
{
	while (n->parent && n->parent->red) {
		struct rb *p = n->parent, *g = p->parent;
		bool left = p == g->left;
		struct rb *u = left ? g->right : g->left;

		if (u && u->red) {
			p->red = u->red = false;
			g->red = true;
			n = g;
			continue;
		}
		if (n == (left ? p->right : p->left)) {
			n = p;
			rotate(n, left);
			p = n->parent;
		}
		p->red = false;
		g->red = true;
		rotate(g, !left);
	}
	rb_root->red = false;
}

static void rb_insert(struct rb *n)
{
	struct rb **link = &rb_root, *up = NULL;

	while (*link) {
		up = *link;
		link = n->r.start < up->r.start ? &up->left : &up->right;
	}
	n->parent = up;
	n->red = true;
	*link = n;
	rb_fix(n);
}

static const struct range *rb_find(u64 addr)
{
	struct rb *n = rb_root, *best = NULL;

	while (n) {
		if (n->r.end > addr) {
			best = n;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best ? &best->r : NULL;
}

/* ---- measuring ---- */
static u64 rng_state = 88172645463325252ull;
static u64 rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static u64 addrs[LOOKUPS];
static volatile u64 sink;
static struct mm_struct *mm;

/* What is found, not touched: all three hand out a pointer. */
static const void *ask(int who, u64 addr)
{
	if (who == 0)
		return find_vma(mm, addr);
	return who == 1 ? array_find(addr) : rb_find(addr);
}

static double lookup_ns(int who)
{
	double v[ROUNDS];

	for (unsigned r = 0; r < ROUNDS; r++) {
		double t = cpu_ns();
		u64 sum = 0;

		for (u32 i = 0; i < LOOKUPS; i++)
			sum += (u64)(uintptr_t)ask(who, addrs[i]);
		v[r] = (cpu_ns() - t) / LOOKUPS;
		sink = sum;
	}
	return median(v, ROUNDS);
}

static double pair_ns(void)
{
	double v[ROUNDS];

	for (unsigned r = 0; r < ROUNDS; r++) {
		double t = cpu_ns();

		for (u32 i = 0; i < PAIRS; i++) {
			long a = do_mmap(mm, NULL, 0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, 0);

			do_munmap(mm, (u64)a, 2 * PAGE_SIZE);
		}
		v[r] = (cpu_ns() - t) / PAIRS;
	}
	return median(v, ROUNDS);
}

static void bench_lookup(struct quire *q, u32 n)
{
	struct rb *nodes = calloc(n, sizeof(*nodes));
	double tree, array, rb, pair;

	mm = mm_alloc(q, &guest_abi_x86_64);
	sorted = calloc(n, sizeof(*sorted));
	nr = n;
	rb_root = NULL;
	for (u32 i = 0; i < n; i++) {
		u64 start = BASE + i * STRIDE;

		if (do_mmap(mm, NULL, start, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) < 0)
			exit(1);
		sorted[i] = nodes[i].r = (struct range){start, start + 2 * PAGE_SIZE};
		rb_insert(&nodes[i]);
	}
	for (u32 i = 0; i < LOOKUPS; i++) {
		addrs[i] = BASE + rng() % (n * STRIDE - 2 * PAGE_SIZE);
		if (vma_start(find_vma(mm, addrs[i])) != array_find(addrs[i])->start ||
		    array_find(addrs[i])->start != rb_find(addrs[i])->start)
			exit(2);
	}
	tree = lookup_ns(0);
	array = lookup_ns(1);
	rb = lookup_ns(2);
	pair = pair_ns();
	printf("%7u mappings: find_vma %6.1f ns  sorted array %6.1f ns (%.2fx)  red-black %6.1f ns (%.2fx)  "
	       "mmap+munmap %6.0f ns\n",
	       n, tree, array, tree / array, rb, tree / rb, pair);
	mmput(mm);
	free(sorted);
	free(nodes);
}

static void bench_fork(u32 order, u64 pages)
{
	struct sim_config cfg = {.memory = (pages * 2 + 32768) << PAGE_SHIFT,
				 .folio_max_order = order,
				 .overcommit_memory = 1,
				 .real_clock = true};
	struct quire *q = sim_machine_new(&cfg);
	double forks[5], exits[5];

	mm = mm_alloc(q, &guest_abi_x86_64);
	do_mmap(mm, NULL, BASE, pages << PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		0);
	if (mm_populate(mm, BASE, BASE + (pages << PAGE_SHIFT), true) != 0)
		exit(3);
	for (unsigned r = 0; r < 5; r++) {
		double t = cpu_ns();
		struct mm_struct *kid = dup_mm(mm);

		forks[r] = (cpu_ns() - t) / (double)pages;
		t = cpu_ns();
		mmput(kid);
		exits[r] = (cpu_ns() - t) / (double)pages;
	}
	printf("fork of %llu MiB in folios of %3llu KiB: %5.1f ns a page, exit of the child %5.1f\n",
	       (unsigned long long)(pages >> 8), (4ull << order), median(forks, 5), median(exits, 5));
	mmput(mm);
	sim_machine_free(q);
}

int main(void)
{
	struct sim_config cfg = {.memory = 512ull << 20,
				 .max_map_count = 200000,
				 .overcommit_memory = 1,
				 .real_clock = true};
	struct quire *q = sim_machine_new(&cfg);

	bench_lookup(q, 10);
	bench_lookup(q, 1000);
	bench_lookup(q, 100000);
	sim_machine_free(q);
	bench_fork(0, 262144);
	bench_fork(4, 262144);
	return 0;
}
