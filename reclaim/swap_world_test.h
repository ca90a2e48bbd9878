/*
 * For tests of swap (reclaim/swap*_test.c): processes that want several times the machine's memory, with forks, in any order,
 * under every kind of injected failure.  The model is one tag per page of every process; a tag says every byte of the page.
 */
#ifndef QUIRE_SWAP_WORLD_H
#define QUIRE_SWAP_WORLD_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <mm/mm.h>
#include <port/sim/process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swap/swap.h>
#include <sys/sys.h>
#include "vmscan.h"

/* Not every test program uses all of it. */
#define TEST_HELPER static __attribute__((unused))

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define MIB (1ul << 20)

TEST_HELPER u64 mix(u64 z)
{
	z += 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* What a page with that tag holds.  Tag 0: zeroes.  Most compress well, some to half, some not at all, some are of one word. */
TEST_HELPER void page_of(u32 tag, u64 *w)
{
	u32 kind = tag % 64, fresh = kind == 3 ? 512 : kind < 12 ? 256 : 16;

	for (u32 i = 0; i < 512; i++) {
		if (!tag)
			w[i] = 0;
		else if (kind == 5)
			w[i] = mix(tag);
		else
			w[i] = mix(tag * 1024ull + (i < fresh ? i : fresh - 1));
	}
}

/* ---- one process and what it should see ---- */
struct proc {
	struct sim_process *p;
	u64 base;
	u32 npages;
	u32 *tag;
};

struct world {
	struct quire *q;
	u64 rnd;
	u32 last_tag;
	bool injecting;
	u64 fail_kinds;
	unsigned fail_percent;
	u64 retried;
};

TEST_HELPER u64 draw(struct world *w, u64 n)
{
	w->rnd = mix(w->rnd);
	return w->rnd % n;
}

TEST_HELPER void inject(struct world *w, bool on)
{
	if (!w->fail_percent)
		return;
	if (on)
		sim_fail_seeded(w->q, w->fail_kinds, w->fail_percent, draw(w, ~0ull));
	else
		sim_fail_none(w->q);
}

/* An access that may fail only because a failure was injected; then it must work without. */
TEST_HELPER void must_write(struct world *w, struct proc *p, u32 page, const void *buf, size_t n)
{
	if (sim_process_write(p->p, p->base + (u64)page * PAGE_SIZE, buf, n) == n)
		return;
	assert_int_not_equal(w->fail_percent, 0);
	w->retried++;
	inject(w, false);
	assert_int_equal(sim_process_write(p->p, p->base + (u64)page * PAGE_SIZE, buf, n), n);
	inject(w, true);
}

TEST_HELPER void must_read(struct world *w, struct proc *p, u32 page, void *buf)
{
	if (sim_process_read(p->p, p->base + (u64)page * PAGE_SIZE, buf, PAGE_SIZE) == PAGE_SIZE)
		return;
	assert_int_not_equal(w->fail_percent, 0);
	w->retried++;
	inject(w, false);
	assert_int_equal(sim_process_read(p->p, p->base + (u64)page * PAGE_SIZE, buf, PAGE_SIZE), PAGE_SIZE);
	inject(w, true);
}

TEST_HELPER void write_page(struct world *w, struct proc *p, u32 page)
{
	u64 buf[512];

	p->tag[page] = ++w->last_tag;
	page_of(p->tag[page], buf);
	must_write(w, p, page, buf, PAGE_SIZE);
}

TEST_HELPER void check_page(struct world *w, struct proc *p, u32 page)
{
	u64 want[512], got[512];

	page_of(p->tag[page], want);
	must_read(w, p, page, got);
	if (!memcmp(want, got, PAGE_SIZE))
		return;
	for (u32 i = 0; i < 512; i++)
		if (want[i] != got[i])
			fail_msg("page %u (tag %u), word %u: %#llx is not %#llx", page, p->tag[page], i,
				 (unsigned long long)got[i], (unsigned long long)want[i]);
}

TEST_HELPER struct proc proc_new(struct quire *q, u32 npages)
{
	struct proc p = { .p = sim_process_new(q, "model"), .npages = npages, .tag = calloc(npages, 4) };
	long a;

	assert_non_null(p.p);
	a = sys_mmap(p.p->task, 0, (u64)npages * PAGE_SIZE, RW, ANON, NULL, 0);
	assert_true(a > 0);
	p.base = (u64)a;
	return p;
}

TEST_HELPER bool proc_fork(struct world *w, struct proc *from, struct proc *to)
{
	struct sim_process *c = sim_process_fork(from->p);

	if (IS_ERR(c)) {
		assert_int_not_equal(w->fail_percent, 0);
		return false;
	}
	*to = *from;
	to->p = c;
	to->tag = malloc(from->npages * 4);
	memcpy(to->tag, from->tag, from->npages * 4);
	return true;
}

TEST_HELPER void proc_exit(struct proc *p)
{
	sim_process_exit(p->p);
	free(p->tag);
	p->p = NULL;
}

TEST_HELPER void check_machine(struct quire *q)
{
	struct mm_struct *mm;
	bool ok;

	spin_lock(&q->lock);
	ok = swap_is_valid(q);
	spin_unlock(&q->lock);
	assert_true(ok);
	assert_true(phys_is_valid(q));
	for (mm = q->mms; mm; mm = mm->all_next)
		assert_true(mm_is_valid(mm));
}

/* Frames in use that are not slabs' (those need not be empty), beyond those at boot. */
TEST_HELPER s64 frames_in_use(struct quire *q)
{
	return sim_leaked_frames(q) - (s64)(q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1]);
}

static s64 frames_at_start;
static bool swap_may_be_full; /* a device without room: what is free does not count */

/* Nothing is left: no slot, no frame. */
TEST_HELPER void end_world(struct quire *q)
{
	struct swap_stat st;

	assert_null(q->mms);
	assert_int_equal(q->swap.nr_slots_used, 0);
	assert_int_equal(q->nr_swapcache_pages, 0);
	assert_int_equal(q->swap.pool.nr_frames, 0);
	assert_int_equal(q->swap.pool.nr_objects, 0);
	assert_int_equal(q->nr_anon_pages, 0);
	if (!swap_may_be_full)
		assert_int_equal(q->nr_free_swap_pages, q->total_swap_pages);
	for (unsigned type = 0; type < QUIRE_MAX_SWAP_AREAS; type++)
		if (swap_area_stat(q, type, &st))
			assert_int_equal(swapoff(q, st.name), 0);
	assert_int_equal(q->total_swap_pages, 0);
	assert_int_equal(q->swap.room_users, 0);
	for (u32 i = 0; i < SWAP_ROOMS_MAX; i++)
		assert_null(q->swap.room[i].mem);
	check_machine(q);
	assert_int_equal(frames_in_use(q), frames_at_start);
	sim_machine_free(q);
}

typedef void (*add_swap_fn)(struct quire *q, u64 pages);

TEST_HELPER void add_zram(struct quire *q, u64 pages)
{
	assert_int_equal(swapon_compressed(q, "/dev/zram0", pages, SWAP_PRIO_DEFAULT), 0);
}

TEST_HELPER void add_zstd(struct quire *q, u64 pages)
{
	assert_int_equal(swapon_zstd(q, "/dev/zram0", SWAP_ZSTD_LEVEL_DEFAULT, pages, SWAP_PRIO_DEFAULT), 0);
}

/* Swap in memory, of the kind under test. */
static add_swap_fn add_compressed = add_zram;

TEST_HELPER struct quire *machine_with(const struct sim_config *cfg, add_swap_fn add, u64 swap_bytes)
{
	struct quire *q = sim_machine_new(cfg);

	frames_at_start = frames_in_use(q);
	swap_may_be_full = false;
	add(q, swap_bytes / PAGE_SIZE);
	sim_set_abort_handler(q, do_mem_abort);
	return q;
}

TEST_HELPER struct quire *machine_with_swap(const struct sim_config *cfg, u64 swap_bytes)
{
	return machine_with(cfg, add_compressed, swap_bytes);
}

TEST_HELPER u64 swap_out_all(struct quire *q)
{
	u64 freed = 0, n;

	while ((n = try_to_free_pages(q, GFP_KERNEL, 0)))
		freed += n;
	return freed;
}

/* ---- the model ---- */
#define MODEL_PROCS 5u

TEST_HELPER void one_step(struct world *w, struct proc *procs)
{
	struct proc *p = &procs[draw(w, MODEL_PROCS)], *other = &procs[draw(w, MODEL_PROCS)];
	u32 page = (u32)draw(w, p->npages), n = 1 + (u32)draw(w, MIN(p->npages - page, 64));
	struct mm_struct *mm = sim_process_mm(p->p);

	switch (draw(w, 24)) {
	case 0:
		if (p == other)
			break;
		proc_exit(other);
		if (!proc_fork(w, p, other)) {
			inject(w, false);
			assert_true(proc_fork(w, p, other));
			inject(w, true);
		}
		break;
	case 1:
		if (!sys_madvise(p->p->task, p->base + (u64)page * PAGE_SIZE, (u64)n * PAGE_SIZE, MADV_DONTNEED))
			memset(p->tag + page, 0, n * 4);
		break;
	case 2:
		sys_mprotect(p->p->task, p->base + (u64)page * PAGE_SIZE, (u64)n * PAGE_SIZE, PROT_READ);
		check_page(w, p, page);
		inject(w, false);
		assert_int_equal(sys_mprotect(p->p->task, p->base, (u64)p->npages * PAGE_SIZE, RW), 0);
		inject(w, true);
		break;
	case 3:
		if (page & 1)
			try_to_free_pages(w->q, GFP_KERNEL, 0);
		else
			sys_madvise(p->p->task, p->base + (u64)page * PAGE_SIZE, (u64)n * PAGE_SIZE, MADV_PAGEOUT);
		break;
	case 4:
		for (u32 i = 0; i < n; i++)
			check_page(w, p, page + i);
		break;
	case 5:
		do_mlock(mm, p->base + (u64)page * PAGE_SIZE, PAGE_SIZE, 0);
		check_page(w, p, page);
		do_munlock(mm, p->base + (u64)page * PAGE_SIZE, PAGE_SIZE);
		break;
	case 6: case 7: case 8: case 9: case 10: case 11: case 12:
		check_page(w, p, page);
		break;
	default:
		for (u32 i = 0; i < MIN(n, 8); i++)
			write_page(w, p, page + i);
	}
}

TEST_HELPER void run_model(const struct sim_config *cfg, add_swap_fn add, u64 seed, u64 kinds, unsigned percent, unsigned steps)
{
	struct world w = { .q = machine_with(cfg, add, 8 * cfg->memory), .rnd = sim_seed(seed), .fail_kinds = kinds, .fail_percent = percent };
	struct proc procs[MODEL_PROCS];

	for (u32 i = 0; i < MODEL_PROCS; i++)
		procs[i] = proc_new(w.q, (u32)(cfg->memory / PAGE_SIZE));
	inject(&w, true);
	for (unsigned i = 0; i < steps; i++) {
		one_step(&w, procs);
		if (i % (steps / 8) == 0)
			check_machine(w.q);
	}
	inject(&w, false);
	for (u32 i = 0; i < MODEL_PROCS; i++)
		for (u32 page = 0; page < procs[i].npages; page++)
			check_page(&w, &procs[i], page);
	check_machine(w.q);
	assert_true(w.q->vm_events[PSWPOUT] > 100 && w.q->vm_events[PSWPIN] > 100);
	fprintf(stderr, "swapped out %llu, in %llu; same-filled %llu, refused %llu; split %llu; retried %llu\n",
		(unsigned long long)w.q->vm_events[PSWPOUT], (unsigned long long)w.q->vm_events[PSWPIN],
		(unsigned long long)w.q->swap.filled, (unsigned long long)w.q->swap.refused,
		(unsigned long long)w.q->vm_events[THP_SPLIT_PAGE], (unsigned long long)w.retried);
	for (u32 i = 0; i < MODEL_PROCS; i++)
		proc_exit(&procs[i]);
	end_world(w.q);
}

TEST_HELPER unsigned steps(unsigned n)
{
	return getenv("QUIRE_LONG") ? n * 50 : n;
}

/* The model on three machines of which each finds other mistakes, for any kind of swap. */
TEST_HELPER void model_of_orders(add_swap_fn add, u64 seed)
{
	run_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true,
					.break_percent = 10 }, add, seed, 0, 0, steps(6000));
}

TEST_HELPER void model_hosted_tlb(add_swap_fn add, u64 seed)
{
	run_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 9, .tlb = SIM_TLB_HOSTED, .check_reuse = true,
					.break_percent = 3 }, add, seed, 0, 0, steps(6000));
}

TEST_HELPER void model_with_failures(add_swap_fn add, u64 seed)
{
	run_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 2, .check_law1 = true, .break_percent = 5 }, add, seed,
		  SIM_FAIL_ALL, 3, steps(6000));
}

/* ---- several processors ---- */
#define RACERS 4u

struct race {
	struct proc p[RACERS];
	u32 sharers; /* pages are one thread's each: 1 = every thread has a process's own, RACERS = they take turns in one object */
	u64 seed;
	bool failed[RACERS];
};

/* Memory and swap are everybody's.  (cmocka's assertions are for one thread only.) */
TEST_HELPER void race_thread(struct quire *q, unsigned i, void *arg)
{
	struct race *r = arg;
	struct proc *p = &r->p[i];
	u64 rnd = r->seed + i, buf[512], got[512];
	u32 tag = i * 1000000;

	sim_process_set_cpu(p->p, i);
	for (unsigned n = 0; n < steps(1500) && !r->failed[i]; n++) {
		u32 page = (u32)((rnd = mix(rnd)) % (p->npages / r->sharers)) * r->sharers + i % r->sharers;
		u64 at = p->base + (u64)page * PAGE_SIZE;

		if ((rnd >> 40) % 3) {
			page_of(p->tag[page], buf);
			r->failed[i] = sim_process_read(p->p, at, got, PAGE_SIZE) != PAGE_SIZE || memcmp(buf, got, PAGE_SIZE);
		} else {
			p->tag[page] = ++tag;
			page_of(tag, buf);
			r->failed[i] = sim_process_write(p->p, at, buf, PAGE_SIZE) != PAGE_SIZE;
		}
	}
}

/* Whatever they did at the same time, each found its own bytes, and finds them still. */
TEST_HELPER void race(struct world *w, struct race *r)
{
	r->seed = w->rnd;
	sim_run(w->q, RACERS, race_thread, r);
	for (u32 i = 0; i < RACERS; i++) {
		assert_false(r->failed[i]);
		for (u32 page = i % r->sharers; page < r->p[i].npages; page += r->sharers)
			check_page(w, &r->p[i], page);
	}
	check_machine(w->q);
	assert_true(w->q->vm_events[PSWPOUT] > 100 && w->q->vm_events[PSWPIN] > 100);
}

#endif
