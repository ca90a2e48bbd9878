/*
 * Swap as a whole: processes that want several times the machine's memory, with forks, in any order, under every kind of
 * injected failure.  The model is one tag per page of every process; a tag says every byte of the page.
 */
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

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
#define MIB (1ul << 20)

static u64 mix(u64 z)
{
	z += 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* What a page with that tag holds.  Tag 0: zeroes.  Most compress well, some to half, some not at all, some are of one word. */
static void page_of(u32 tag, u64 *w)
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

static u64 draw(struct world *w, u64 n)
{
	w->rnd = mix(w->rnd);
	return w->rnd % n;
}

static void inject(struct world *w, bool on)
{
	if (!w->fail_percent)
		return;
	if (on)
		sim_fail_seeded(w->q, w->fail_kinds, w->fail_percent, draw(w, ~0ull));
	else
		sim_fail_none(w->q);
}

/* An access that may fail only because a failure was injected; then it must work without. */
static void must_write(struct world *w, struct proc *p, u32 page, const void *buf, size_t n)
{
	if (sim_process_write(p->p, p->base + (u64)page * PAGE_SIZE, buf, n) == n)
		return;
	assert_int_not_equal(w->fail_percent, 0);
	w->retried++;
	inject(w, false);
	assert_int_equal(sim_process_write(p->p, p->base + (u64)page * PAGE_SIZE, buf, n), n);
	inject(w, true);
}

static void must_read(struct world *w, struct proc *p, u32 page, void *buf)
{
	if (sim_process_read(p->p, p->base + (u64)page * PAGE_SIZE, buf, PAGE_SIZE) == PAGE_SIZE)
		return;
	assert_int_not_equal(w->fail_percent, 0);
	w->retried++;
	inject(w, false);
	assert_int_equal(sim_process_read(p->p, p->base + (u64)page * PAGE_SIZE, buf, PAGE_SIZE), PAGE_SIZE);
	inject(w, true);
}

static void write_page(struct world *w, struct proc *p, u32 page)
{
	u64 buf[512];

	p->tag[page] = ++w->last_tag;
	page_of(p->tag[page], buf);
	must_write(w, p, page, buf, PAGE_SIZE);
}

static void check_page(struct world *w, struct proc *p, u32 page)
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

static struct proc proc_new(struct quire *q, u32 npages)
{
	struct proc p = { .p = sim_process_new(q, "model"), .npages = npages, .tag = calloc(npages, 4) };
	long a;

	assert_non_null(p.p);
	a = sys_mmap(p.p->task, 0, (u64)npages * PAGE_SIZE, RW, ANON, NULL, 0);
	assert_true(a > 0);
	p.base = (u64)a;
	return p;
}

static bool proc_fork(struct world *w, struct proc *from, struct proc *to)
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

static void proc_exit(struct proc *p)
{
	sim_process_exit(p->p);
	free(p->tag);
	p->p = NULL;
}

static void check_machine(struct quire *q)
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
static s64 frames_in_use(struct quire *q)
{
	return sim_leaked_frames(q) - (s64)(q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1]);
}

static s64 frames_at_start;

/* Nothing is left: no slot, no frame. */
static void end_world(struct quire *q)
{
	assert_null(q->mms);
	assert_int_equal(q->swap.nr_slots_used, 0);
	assert_int_equal(q->nr_swapcache_pages, 0);
	assert_int_equal(q->swap.pool.nr_frames, 0);
	assert_int_equal(q->swap.pool.nr_objects, 0);
	assert_int_equal(q->nr_anon_pages, 0);
	assert_int_equal(q->nr_free_swap_pages, q->total_swap_pages);
	assert_int_equal(swapoff(q, "/dev/zram0"), 0);
	assert_int_equal(q->total_swap_pages, 0);
	check_machine(q);
	assert_int_equal(frames_in_use(q), frames_at_start);
	sim_machine_free(q);
}

static struct quire *machine_with_swap(const struct sim_config *cfg, u64 swap_bytes)
{
	struct quire *q = sim_machine_new(cfg);

	frames_at_start = frames_in_use(q);
	assert_int_equal(swapon_compressed(q, "/dev/zram0", swap_bytes / PAGE_SIZE, SWAP_PRIO_DEFAULT), 0);
	sim_set_abort_handler(q, do_mem_abort);
	return q;
}

/* ---- alone, in other orders ---- */
static void test_four_times_memory(void **state)
{
	struct sim_config cfg = { .memory = 8 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true };
	struct world w = { .q = machine_with_swap(&cfg, 64 * MIB), .rnd = sim_seed(1) };
	struct proc p = proc_new(w.q, 4 * 8 * MIB / PAGE_SIZE);

	for (u32 i = 0; i < p.npages; i++) {
		w.last_tag += w.last_tag % 64 == 2; /* no incompressible ones here */
		write_page(&w, &p, i);
	}
	assert_true(w.q->vm_events[PSWPOUT] > p.npages / 2);
	check_machine(w.q);
	for (u32 i = p.npages; i-- > 0;)
		check_page(&w, &p, i);
	for (u32 i = 0; i < p.npages; i++)
		check_page(&w, &p, (i * 1237u) % p.npages);
	assert_true(w.q->vm_events[PSWPIN] > p.npages / 2);
	assert_int_equal(sim_signals_sent(w.q, 0, 0), 0); /* nobody had to be killed */
	check_machine(w.q);
	proc_exit(&p);
	end_world(w.q);
}

/* ---- the model ---- */
#define MODEL_PROCS 5u

static void one_step(struct world *w, struct proc *procs)
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
		try_to_free_pages(w->q, GFP_KERNEL, 0);
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

static void run_model(const struct sim_config *cfg, u64 seed, u64 kinds, unsigned percent, unsigned steps)
{
	struct world w = { .q = machine_with_swap(cfg, 8 * cfg->memory), .rnd = sim_seed(seed), .fail_kinds = kinds, .fail_percent = percent };
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

static unsigned steps(unsigned n)
{
	return getenv("QUIRE_LONG") ? n * 50 : n;
}

static void test_model(void **state)
{
	run_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true,
					.break_percent = 10 }, 2, 0, 0, steps(6000));
}

static void test_model_hosted_tlb(void **state)
{
	run_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 9, .tlb = SIM_TLB_HOSTED, .check_reuse = true,
					.break_percent = 3 }, 3, 0, 0, steps(6000));
}

static void test_model_with_failures(void **state)
{
	run_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 2, .check_law1 = true, .break_percent = 5 }, 4,
		  SIM_FAIL_ALL, 3, steps(6000));
}

/* ---- one thing at a time ---- */
static u64 swap_out_all(struct quire *q)
{
	u64 freed = 0, n;

	while ((n = try_to_free_pages(q, GFP_KERNEL, 0)))
		freed += n;
	return freed;
}

static void test_fork_shares_a_slot(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1, .last_tag = 20 };
	struct proc p = proc_new(w.q, 8), c;

	for (u32 i = 0; i < 8; i++)
		write_page(&w, &p, i);
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_anon_pages, 0);
	assert_int_equal(w.q->swap.nr_slots_used, 8);
	assert_true(proc_fork(&w, &p, &c));
	assert_int_equal(w.q->swap.nr_slots_used, 8);
	check_page(&w, &p, 3); /* read once ... */
	assert_int_equal(w.q->vm_events[PSWPIN], 1);
	check_page(&w, &c, 3); /* ... for both */
	assert_int_equal(w.q->vm_events[PSWPIN], 1);
	assert_int_equal(w.q->nr_anon_pages, 1);
	assert_int_equal(w.q->nr_swapcache_pages, 0);
	assert_int_equal(w.q->swap.nr_slots_used, 7);
	write_page(&w, &c, 4); /* a copy; the parent's stays in the cache */
	check_page(&w, &p, 4);
	check_page(&w, &c, 4);
	check_page(&w, &p, 3);
	check_machine(w.q);
	proc_exit(&p);
	for (u32 i = 0; i < 8; i++)
		check_page(&w, &c, i);
	proc_exit(&c);
	end_world(w.q);
}

static void test_read_error_is_sigbus(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 4);
	u64 v;

	for (u32 i = 0; i < 4; i++)
		write_page(&w, &p, i);
	swap_out_all(w.q);
	sim_log_clear(w.q);
	sim_fail_nth(w.q, BIT(FAIL_IO), 1);
	assert_int_equal(sim_process_load(p.p, p.base, 8, &v), -EFAULT);
	assert_int_equal(p.p->cpu->info.sig, 7);
	assert_non_null(strstr(sim_log_text(w.q), "Read-error on swap-device"));
	sim_fail_none(w.q);
	for (u32 i = 0; i < 4; i++)
		check_page(&w, &p, i); /* the rest goes on, and this page is there again */
	proc_exit(&p);
	end_world(w.q);
}

static void test_damaged_page_is_noticed(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1, .last_tag = 20 };
	struct proc p = proc_new(w.q, 1);
	struct swap_slot *s;
	u64 v;

	write_page(&w, &p, 0);
	swap_out_all(w.q);
	s = swap_slot_of(w.q, pte_to_swp_entry(pte_read(pte_lookup(sim_process_mm(p.p), p.base))));
	assert_int_equal(s->state, SLOT_STORED);
	((u8 *)frame_address(w.q, pfn_to_frame(w.q, (pfn_t)(s->data >> 8))))[(s->data & 0xff) * ALIGN_UP(s->len, ZPOOL_STEP) + 20] ^= 1;
	assert_int_equal(sim_process_load(p.p, p.base, 8, &v), -EFAULT);
	assert_int_equal(p.p->cpu->info.sig, 7);
	proc_exit(&p);
	end_world(w.q);
}

static void test_swapoff_brings_everything_back(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB, .folio_max_order = 4 }, 16 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 512), c;

	for (u32 i = 0; i < 512; i++)
		write_page(&w, &p, i);
	assert_true(proc_fork(&w, &p, &c));
	for (u32 i = 0; i < 64; i++)
		write_page(&w, &c, i);
	swap_out_all(w.q);
	assert_true(w.q->swap.nr_slots_used > 500);
	assert_int_equal(swapoff(w.q, "/dev/zram0"), 0);
	assert_int_equal(swapoff(w.q, "/dev/zram0"), -EINVAL);
	assert_int_equal(w.q->swap.nr_slots_used, 0);
	assert_int_equal(sim_process_mm(p.p)->rss[MM_SWAPENTS], 0);
	for (u32 i = 0; i < 512; i++) {
		check_page(&w, &p, i);
		check_page(&w, &c, i);
	}
	check_machine(w.q);
	assert_int_equal(swapon_compressed(w.q, "/dev/zram0", 4096, 5), 0);
	assert_int_equal(swapon_compressed(w.q, "/dev/zram0", 4096, 5), -EEXIST);
	proc_exit(&p);
	proc_exit(&c);
	end_world(w.q);
}

static void test_higher_priority_first(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 512);
	struct swap_stat st;

	assert_int_equal(swapon_compressed(w.q, "/dev/zram1", 100, 7), 0);
	for (u32 i = 0; i < 512; i++)
		write_page(&w, &p, i);
	swap_out_all(w.q);
	assert_true(swap_area_stat(w.q, 1, &st));
	assert_int_equal(st.used, 100);
	assert_int_equal(st.prio, 7);
	assert_true(swap_area_stat(w.q, 0, &st));
	assert_true(st.used > 300);
	assert_int_equal(swapoff(w.q, "/dev/zram1"), 0);
	for (u32 i = 0; i < 512; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

/* A locked page stays, whatever reclaim tries. */
static void test_locked_pages_stay(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 64);

	for (u32 i = 0; i < 64; i++)
		write_page(&w, &p, i);
	assert_int_equal(do_mlock(sim_process_mm(p.p), p.base, 16 * PAGE_SIZE, 0), 0);
	swap_out_all(w.q);
	assert_int_equal(sim_process_mm(p.p)->rss[MM_ANONPAGES], 16);
	assert_int_equal(do_munlock(sim_process_mm(p.p), p.base, 16 * PAGE_SIZE), 0);
	for (u32 i = 0; i < 64; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

/* MADV_FREE: what was not written since is dropped, not stored. */
static void test_lazily_freed_pages_are_dropped(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 64);

	for (u32 i = 0; i < 64; i++)
		write_page(&w, &p, i);
	assert_int_equal(sys_madvise(p.p->task, p.base, 32 * PAGE_SIZE, MADV_FREE), 0);
	write_page(&w, &p, 5);
	swap_out_all(w.q);
	assert_int_equal(w.q->swap.nr_slots_used + (u64)sim_process_mm(p.p)->rss[MM_ANONPAGES], 33);
	assert_int_equal(w.q->vm_events[PGLAZYFREED], 31);
	for (u32 i = 0; i < 32; i++)
		if (i != 5)
			p.tag[i] = 0;
	for (u32 i = 0; i < 64; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

/* Background reclaim stops above the high watermark. */
static void test_kswapd_balances(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 64 * MIB), .rnd = 1, .last_tag = 6 };
	struct proc p = proc_new(w.q, 8192);
	u64 direct;

	w.q->hooks.wake_kswapd = wake_kswapd;
	for (u32 i = 0; i < 8192; i++) {
		w.last_tag += w.last_tag % 64 == 2;
		write_page(&w, &p, i);
		if (w.q->kswapd_word)
			kswapd_once(w.q, 0);
	}
	direct = w.q->vm_events[PGSTEAL_DIRECT];
	assert_true(w.q->vm_events[PGSTEAL_KSWAPD] > 4000);
	assert_true(direct < 100);
	for (u32 i = 0; i < 8192; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

/* Every allocation and every I/O of a small life with swap is made to fail in turn. */
static void test_failure_sweep(void **state)
{
	for (u64 n = 1; n < 4000; n += getenv("QUIRE_LONG") ? 1 : 13) {
		struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 8 * MIB, .folio_max_order = 2 }, 8 * MIB),
				   .rnd = n, .fail_kinds = SIM_FAIL_ALL, .fail_percent = 0 };
		struct proc p = proc_new(w.q, 96), c;
		bool forked, reached;
		u64 buf[512];

		for (u32 i = 0; i < 48; i++)
			write_page(&w, &p, i);
		sim_fail_nth(w.q, SIM_FAIL_ALL, n);
		w.fail_percent = 1; /* accesses may fail now */
		swap_out_all(w.q);
		forked = proc_fork(&w, &p, &c);
		for (u32 i = 0; i < 96; i++) {
			page_of(++w.last_tag, buf);
			if (sim_process_write(p.p, p.base + (u64)i * PAGE_SIZE, buf, PAGE_SIZE) == PAGE_SIZE)
				p.tag[i] = w.last_tag;
		}
		swap_out_all(w.q);
		for (u32 i = 0; i < 96; i++)
			sim_process_read(p.p, p.base + (u64)i * PAGE_SIZE, buf, PAGE_SIZE);
		reached = sim_fail_injected(w.q) != 0;
		sim_fail_none(w.q);
		w.fail_percent = 0;
		for (u32 i = 0; forked && i < 96; i++)
			check_page(&w, &c, i);
		for (u32 i = 0; i < 96; i++)
			check_page(&w, &p, i);
		check_machine(w.q);
		if (forked)
			proc_exit(&c);
		proc_exit(&p);
		end_world(w.q);
		if (!reached)
			return;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork_shares_a_slot), cmocka_unit_test(test_read_error_is_sigbus),
		cmocka_unit_test(test_damaged_page_is_noticed), cmocka_unit_test(test_swapoff_brings_everything_back),
		cmocka_unit_test(test_higher_priority_first), cmocka_unit_test(test_locked_pages_stay),
		cmocka_unit_test(test_lazily_freed_pages_are_dropped), cmocka_unit_test(test_four_times_memory),
		cmocka_unit_test(test_kswapd_balances), cmocka_unit_test(test_model), cmocka_unit_test(test_model_hosted_tlb),
		cmocka_unit_test(test_model_with_failures), cmocka_unit_test(test_failure_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
