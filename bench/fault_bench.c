/*
 * What the core adds to a page fault: from the entry of do_mem_abort to its return, the zeroing and copying of
 * bytes not counted.
 *
 * "known zero": frames never used before, whose bytes need no clearing: nothing has to be taken off.
 * "recycled": frames that were used and freed.  Their bytes are measured in the same run, on the same frames
 * (port_clear_pages, port_copy_pages), and taken off; the difference of two large figures is a rough one.  For
 * copy-on-write the simulated TLB's work for a flush is taken off, too.
 * Beside it stands what a pair of the two locks costs, which no fault can do without.
 *
 * Targets: 4 KiB first touch and copy-on-write <= 200 ns; a 64 KiB folio <= 3 times the 4 KiB one.
 */
#include <stdio.h>
#include <stdlib.h>

#include <fault/fault.h>
#include <port/sim/mmu.h>
#include "timing.h"

#define MIB (1ull << 20)
#define ROUNDS 25
#define CHUNK 256 /* pages */

/* Nanoseconds of each piece of work.  The work is timed in pieces of some 100 us and the median taken, so that what
 * else runs on the host does not matter. */
struct samples {
	double v[4096];
	unsigned n;
};

static double median_of(struct samples *s)
{
	return s->n ? median(s->v, s->n) : 0;
}

static void sample(struct samples *s, double ns, u64 n)
{
	if (s->n < sizeof(s->v) / sizeof(*s->v))
		s->v[s->n++] = ns / (double)n;
}

static void die(const char *what)
{
	fprintf(stderr, "fault_bench: %s\n", what);
	exit(1);
}

static u64 map(struct mm_struct *mm, u64 addr, u64 len)
{
	long a = do_mmap(mm, NULL, addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);

	if (a < 0)
		die("mmap");
	return (u64)a;
}

/* Write faults on n pages `stride` bytes apart. */
static void faults(struct samples *s, struct mm_struct *mm, u64 addr, u64 n, u64 stride, u32 fsc)
{
	u32 esr = esr_make(ESR_EC_DABT_LOW, true, fsc);
	struct fault_info info;
	double t = wall_ns();
	u64 i;

	for (i = 0; i < n; i++)
		if (do_mem_abort(mm, addr + i * stride, esr, &info) != FAULT_OK)
			die("a fault was refused");
	sample(s, wall_ns() - t, n);
}

static void *page_va(struct mm_struct *mm, u64 addr)
{
	return frame_address(mm->q, pfn_to_frame(mm->q, pte_pfn(pte_read(pte_lookup(mm, addr)))));
}

/* Clearing the same frames again, or copying them from those of `from`, in the same order. */
static void bytes_again(struct samples *s, struct mm_struct *mm, u64 addr, u64 n, u64 stride, struct mm_struct *from)
{
	static void *to_va[CHUNK], *from_va[CHUNK];
	double t;
	u64 i;

	for (i = 0; i < n; i++) {
		to_va[i] = page_va(mm, addr + i * stride);
		from_va[i] = from ? page_va(from, addr + i * stride) : NULL;
	}
	t = wall_ns();
	for (i = 0; i < n; i++) {
		if (from)
			port_copy_pages(to_va[i], from_va[i], stride >> PAGE_SHIFT);
		else
			port_clear_pages(to_va[i], stride >> PAGE_SHIFT);
	}
	sample(s, wall_ns() - t, n);
}

/* What the port takes for one flush of one page and its completion: the price of the simulated TLB, not of the core. */
static void flush_again(struct samples *s, struct mm_struct *mm, u64 addr, u64 n)
{
	double t = wall_ns();
	u64 i;

	for (i = 0; i < n; i++) {
		port_tlb_flush_range(mm, addr + i * PAGE_SIZE, addr + (i + 1) * PAGE_SIZE);
		port_tlb_sync(mm);
	}
	sample(s, wall_ns() - t, n);
}

struct result {
	struct samples total, bytes, flush;
};

/* One chunk after the other, so that what is measured lies in the caches as in a program that touches its memory in
 * order. */
static void measure(struct result *r, struct mm_struct *mm, u64 a, u64 n, u64 stride, struct mm_struct *from)
{
	u64 chunk = MIN(n, (u64)CHUNK * PAGE_SIZE / stride), i;

	for (i = 0; i + chunk <= n; i += chunk)
		faults(&r->total, mm, a + i * stride, chunk, stride, (from ? FSC_PERMISSION : FSC_TRANSLATION) + 3);
	for (i = 0; i + chunk <= n; i += chunk) {
		bytes_again(&r->bytes, mm, a + i * stride, chunk, stride, from);
		if (from)
			flush_again(&r->flush, mm, a + i * stride, chunk);
	}
}

static struct quire *machine(u32 order)
{
	struct sim_config cfg = { .memory = 512 * MIB, .folio_max_order = order, .overcommit_memory = 1, .real_clock = true,
				  .tlb = SIM_TLB_HOSTED };

	return sim_machine_new(&cfg);
}

/* The first rounds warm records, tables and caches. */
static void restart(struct result *r, int round)
{
	if (round == 2)
		r->total.n = r->bytes.n = r->flush.n = 0;
}

static void first_touch(struct result *r, u32 order, u64 n)
{
	struct quire *q = machine(order);
	struct mm_struct *mm = mm_alloc(q, NULL);
	u64 stride = PAGE_SIZE << order, a;

	for (int i = 0; i < ROUNDS; i++) {
		restart(r, i);
		a = map(mm, 0x100000000ull, n * stride);
		measure(r, mm, a, n, stride, NULL);
		if ((u64)mm->rss[MM_ANONPAGES] != n << order)
			die("folios of the wrong size");
		if (do_munmap(mm, a, n * stride))
			die("munmap");
	}
	mmput(mm);
	sim_machine_free(q);
}

/* Frames that nobody has used yet: no bytes to clear.  Their records are touched first, so that the host has pages for
 * them. */
static void first_touch_virgin(struct result *r, u32 order, u64 n)
{
	struct quire *q = machine(order);
	struct mm_struct *mm = mm_alloc(q, NULL);
	u64 stride = PAGE_SIZE << order, chunk = CHUNK * PAGE_SIZE / stride, a = map(mm, 0x100000000ull, n * stride), i;

	for (i = 0; i < q->cfg.memory >> PAGE_SHIFT; i++)
		if (q->cfg.mem_map[i].type == FRAME_VIRGIN)
			((volatile struct frame *)q->cfg.mem_map)[i].type = FRAME_VIRGIN;
	for (i = 0; i + chunk <= n; i += chunk)
		faults(&r->total, mm, a + i * stride, chunk, stride, FSC_TRANSLATION + 3);
	mmput(mm);
	sim_machine_free(q);
}

static void copy_on_write(struct result *r, u32 order, u64 n)
{
	struct quire *q = machine(order);
	struct mm_struct *mm = mm_alloc(q, NULL), *child;
	u64 stride = PAGE_SIZE << order, a = map(mm, 0x100000000ull, n * stride);

	measure(r, mm, a, n, stride, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		restart(r, i);
		child = dup_mm(mm);
		if (IS_ERR(child))
			die("fork");
		measure(r, mm, a, n, stride, child);
		mmput(child);
	}
	mmput(mm);
	sim_machine_free(q);
}

static double lock_pairs(void)
{
	static struct samples s;
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = mm_alloc(q, NULL);

	for (u32 i = 0; i < 1000; i++) {
		double t = wall_ns();

		for (u32 k = 0; k < 1000; k++) {
			spin_lock(&mm->lock);
			spin_lock(&q->lock);
			spin_unlock(&q->lock);
			spin_unlock(&mm->lock);
		}
		sample(&s, wall_ns() - t, 1000);
	}
	mmput(mm);
	sim_machine_free(q);
	return median_of(&s);
}

static double report(const char *name, struct result *r, double locks)
{
	double total = median_of(&r->total), bytes = median_of(&r->bytes), flush = median_of(&r->flush);
	double core = total - bytes - flush;

	printf("%-33s %8.0f ns  (%.0f total - %.0f bytes - %.0f TLB)   %.1f x a pair of locks\n", name, core, total, bytes,
	       flush, core / locks);
	return core;
}

int main(void)
{
	static struct result r[6];
	double locks = lock_pairs(), small, large, cow;

	printf("mm->lock + q->lock pair           %8.1f ns\n", locks);
	first_touch_virgin(&r[0], 0, 65536);
	small = report("first touch, 4 KiB, known zero", &r[0], locks);
	first_touch_virgin(&r[1], 4, 4096);
	large = report("first touch, 64 KiB, known zero", &r[1], locks);
	first_touch(&r[2], 0, 8192);
	report("first touch, 4 KiB, recycled", &r[2], locks);
	first_touch(&r[3], 4, 1024);
	report("first touch, 64 KiB, recycled", &r[3], locks);
	copy_on_write(&r[4], 0, 8192);
	cow = report("copy-on-write, 4 KiB", &r[4], locks);
	copy_on_write(&r[5], 4, 1024);
	report("copy-on-write, 64 KiB", &r[5], locks);
	printf("64 KiB / 4 KiB first touch        %8.2f x  (target <= 3)\n", large / small);
	printf("targets: first touch %s, copy-on-write %s, 64 KiB %s\n", small <= 200 ? "met" : "MISSED",
	       cow <= 200 ? "met" : "MISSED", large <= 3 * small ? "met" : "MISSED");
	return 0;
}
