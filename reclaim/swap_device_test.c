/*
 * Swap on devices: I/O under no lock, in runs and with readahead; what goes wrong there; several areas at once.
 */
#include "swap_world_test.h"

static u32 new_device(struct quire *q, const char *name, u64 pages, s32 prio)
{
	u32 dev = sim_swap_new(q, pages + 1);

	assert_int_equal(swapon_device(q, name, "file", dev, pages, prio), 0);
	return dev;
}

static void add_device(struct quire *q, u64 pages)
{
	new_device(q, "/swap0", pages, 10);
}

/* Half in memory, which refuses some pages, half on a device; and a small device that is full all the time. */
static void add_both(struct quire *q, u64 pages)
{
	u32 full = new_device(q, "/full", pages / 8, 20);

	sim_swap_break(q, full, 0, -ENOSPC);
	add_zram(q, pages / 2);
	new_device(q, "/swap0", pages / 2, 10);
	new_device(q, "/swap1", pages / 2, 10);
	swap_may_be_full = true;
}

#define SMALL { .memory = 16 * MIB }

/* n pages of which none is of one word, all out. */
static struct proc swapped_out(struct world *w, u32 n)
{
	struct proc p = proc_new(w->q, n);

	for (u32 i = 0; i < n; i++) {
		w->last_tag += w->last_tag % 64 == 4;
		write_page(w, &p, i);
	}
	swap_out_all(w->q);
	assert_int_equal(w->q->nr_anon_pages, 0);
	return p;
}

static void test_runs_and_readahead(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = swapped_out(&w, 512);
	struct sim_swap_counts c = sim_swap_counts(w.q, 0);

	assert_int_equal(c.pages_written, 512);
	assert_true(c.writes <= 512 / 12);
	for (u32 i = 0; i < 512; i++)
		check_page(&w, &p, i);
	c = sim_swap_counts(w.q, 0);
	assert_int_equal(c.pages_read, 512);
	assert_true(c.reads <= 512 / 6);
	assert_true(w.q->vm_events[SWAP_RA] >= 400);
	assert_int_equal(w.q->vm_events[SWAP_RA_HIT], w.q->vm_events[SWAP_RA]);
	assert_int_equal(w.q->vm_events[PSWPIN], 512);
	check_machine(w.q);
	proc_exit(&p);
	end_world(w.q);
	/* (The device went with its area.) */
}

/* Reading back what was in use when it went is waiting for memory; reading back what was not, is not. */
static void test_swap_in_is_a_stall(void **state)
{
	for (u32 hot = 0; hot < 2; hot++) {
		struct sim_config cfg = { .memory = 16 * MIB, .real_clock = true };
		struct world w = { .q = machine_with(&cfg, add_device, 16 * MIB), .rnd = 1, .last_tag = 6 };
		struct proc p = proc_new(w.q, 64);
		struct psi_view before, after;

		for (u32 i = 0; i < 64; i++) {
			w.last_tag = 6;
			write_page(&w, &p, i);
		}
		for (struct folio *f = lru_tail(w.q, LRU_KIND_ANON, 0); f && hot; f = f->f.prev ? (struct folio *)pfn_to_frame(w.q, f->f.prev - 1) : NULL)
			f->f.flags |= FF_WORKINGSET;
		assert_int_equal(do_madvise(sim_process_mm(p.p), p.base, 64 * PAGE_SIZE, MADV_PAGEOUT), 0);
		assert_int_equal(w.q->nr_anon_pages, 0);
		psi_read(w.q, &before);
		for (u32 i = 0; i < 64; i++)
			check_page(&w, &p, i);
		psi_read(w.q, &after);
		assert_int_equal(after.total[PSI_MEM_SOME] > before.total[PSI_MEM_SOME], hot);
		assert_int_equal(w.q->psi.nr_stalled, 0);
		proc_exit(&p);
		end_world(w.q);
	}
}

/* madvise(MADV_RANDOM): neighbours are of no use. */
static void test_no_readahead_where_it_is_random(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = swapped_out(&w, 64);

	assert_int_equal(sys_madvise(p.p->task, p.base, 64 * PAGE_SIZE, MADV_RANDOM), 0);
	check_page(&w, &p, 20);
	assert_int_equal(sim_swap_counts(w.q, 0).pages_read, 1);
	proc_exit(&p);
	end_world(w.q);
}

/* vm.page-cluster, its limits, and that nothing counts as a hit that was not asked for. */
static void test_page_cluster(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = swapped_out(&w, 256);

	assert_int_equal(set_page_cluster(w.q, -1), -EINVAL);
	assert_int_equal(set_page_cluster(w.q, 32), -EINVAL);
	for (u32 i = 0; i < 3; i++) {
		static const u32 cluster[] = { 0, 2, 31 }, pages[] = { 1, 4, 32 };
		u64 before = sim_swap_counts(w.q, 0).pages_read;

		assert_int_equal(set_page_cluster(w.q, cluster[i]), 0);
		check_page(&w, &p, 20 + 70 * i);
		assert_in_range(sim_swap_counts(w.q, 0).pages_read - before, (pages[i] + 1) / 2, pages[i]);
	}
	assert_true(w.q->vm_events[SWAP_RA] > 16);
	assert_int_equal(w.q->vm_events[SWAP_RA_HIT], 0);
	proc_exit(&p);
	end_world(w.q);
}

/* What was read along and never asked for goes again without being written. */
static void test_readahead_pages_are_reclaimed(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = swapped_out(&w, 64);
	u64 v;

	for (u32 i = 3; i < 64; i += 8)
		assert_int_equal(sim_process_load(p.p, p.base + i * PAGE_SIZE, 8, &v), 0);
	assert_true(w.q->nr_swapcache_pages > 40);
	check_machine(w.q);
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_swapcache_pages, 0);
	assert_int_equal(sim_swap_counts(w.q, 0).pages_written, 64 + 8); /* the eight that were used */
	for (u32 i = 0; i < 64; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

static void expect_sigbus(struct world *w, struct proc *p, u32 page, const char *why)
{
	u64 v;

	sim_log_clear(w->q);
	assert_int_equal(sim_process_load(p->p, p->base + page * PAGE_SIZE, 8, &v), -EFAULT);
	assert_int_equal(p->p->cpu->info.sig, 7);
	assert_non_null(strstr(sim_log_text(w->q), why));
	check_machine(w->q);
}

static void test_read_errors_and_damage(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = swapped_out(&w, 32);
	u64 entry;

	sim_swap_break(w.q, 0, -EIO, 0);
	expect_sigbus(&w, &p, 9, "is lost: I/O error");
	sim_swap_break(w.q, 0, 0, 0);
	check_page(&w, &p, 9);
	/* A wrong bit: the page itself is lost, its neighbours are not. */
	entry = pte_to_swp_entry(pte_read(pte_lookup(sim_process_mm(p.p), p.base + 18 * PAGE_SIZE)));
	sim_swap_page(w.q, 0, swp_offset(entry))[1000] ^= 4;
	expect_sigbus(&w, &p, 18, "is lost: its bytes are not those that were stored");
	for (u32 i = 0; i < 32; i++)
		if (i != 18)
			check_page(&w, &p, i);
	expect_sigbus(&w, &p, 18, "Read-error on swap-device");
	write_page(&w, &p, 5);
	assert_int_equal(sys_madvise(p.p->task, p.base + 18 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED), 0);
	p.tag[18] = 0;
	check_page(&w, &p, 18);
	proc_exit(&p);
	end_world(w.q);
}

/* No other area: pages that cannot be written stay in memory, and go when the device works again. */
static void test_write_error_keeps_the_page(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 64);

	for (u32 i = 0; i < 64; i++) {
		w.last_tag += w.last_tag % 64 == 4; /* what is of one word needs no device */
		write_page(&w, &p, i);
	}
	sim_swap_break(w.q, 0, 0, -EIO);
	sim_log_clear(w.q);
	assert_int_equal(try_to_free_pages(w.q, GFP_KERNEL, 0), 0);
	assert_non_null(strstr(sim_log_text(w.q), "Write-error on swap-device"));
	assert_true(w.q->swap.write_errors > 0);
	check_machine(w.q);
	for (u32 i = 0; i < 32; i++)
		check_page(&w, &p, i);
	sim_swap_break(w.q, 0, 0, 0);
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_anon_pages, 0);
	for (u32 i = 0; i < 64; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

/* No room on the first device: another takes what it would not, and it is asked no more. */
static void test_no_space_falls_to_others(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	u32 other = new_device(w.q, "/swap1", 4096, 5);
	struct proc p = proc_new(w.q, 256), c;
	u64 asked;

	for (u32 i = 0; i < 256; i++) {
		w.last_tag += w.last_tag % 64 == 4;
		write_page(&w, &p, i);
	}
	sim_swap_break(w.q, 0, 0, -ENOSPC);
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_anon_pages, 0);
	assert_int_equal(sim_swap_counts(w.q, other).pages_written, 256);
	assert_true(w.q->swap.forwarded > 0 && w.q->swap.forwarded < 256);
	assert_int_equal(w.q->nr_free_swap_pages, 4096 - 256);
	asked = sim_swap_counts(w.q, 0).writes;
	check_machine(w.q);
	assert_true(proc_fork(&w, &p, &c));
	for (u32 i = 0; i < 256; i++)
		check_page(&w, &p, i);
	swap_out_all(w.q);
	for (u32 i = 0; i < 256; i++)
		check_page(&w, &c, i);
	assert_int_equal(sim_swap_counts(w.q, 0).writes, asked);
	assert_int_equal(swapoff(w.q, "/swap1"), 0); /* which brings back what was forwarded there, too */
	check_page(&w, &p, 7);
	swap_may_be_full = true;
	proc_exit(&p);
	proc_exit(&c);
	end_world(w.q);
}

/* What does not get smaller goes to the device. */
static void test_memory_refuses_device_takes(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_zram, 16 * MIB), .rnd = 1 };
	u32 dev = new_device(w.q, "/swap0", 4096, SWAP_PRIO_DEFAULT);
	struct proc p = proc_new(w.q, 64);

	for (u32 i = 0; i < 64; i++) {
		w.last_tag = i * 64 + 2; /* the next is noise */
		write_page(&w, &p, i);
	}
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_anon_pages, 0);
	assert_int_equal(sim_swap_counts(w.q, dev).pages_written, 64);
	assert_int_equal(w.q->swap.forwarded, 64);
	assert_int_equal(w.q->swap.pool.nr_frames, 0);
	for (u32 i = 0; i < 64; i++)
		check_page(&w, &p, i);
	assert_int_equal(w.q->swap.nr_slots_used, 0);
	proc_exit(&p);
	end_world(w.q);
}

static void test_equal_priorities_take_turns(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p;
	struct swap_stat st;

	new_device(w.q, "/swap1", 4096, 10);
	new_device(w.q, "/swap2", 4096, 9);
	new_device(w.q, "/swap3", 100, 11);
	p = swapped_out(&w, 612);
	for (unsigned type = 0; type < 4; type++) {
		assert_true(swap_area_stat(w.q, type, &st));
		if (type < 2)
			assert_in_range(st.used, 256 - 32, 256 + 32);
		else
			assert_int_equal(st.used, type == 2 ? 0 : 100);
	}
	for (u32 i = 0; i < 612; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

static void test_swapoff_of_a_device(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config)SMALL, add_device, 16 * MIB), .rnd = 1 };
	struct proc p = swapped_out(&w, 256);

	/* What cannot be read keeps the area in use. */
	sim_swap_break(w.q, 0, -EIO, 0);
	assert_int_equal(swapoff(w.q, "/swap0"), -EIO);
	assert_int_equal(w.q->total_swap_pages, 4096);
	sim_swap_break(w.q, 0, 0, 0);
	assert_int_equal(swapoff(w.q, "/swap0"), 0);
	assert_false(sim_swap_counts(w.q, 0).open);
	assert_false(swap_device_is_used(w.q, 0));
	for (u32 i = 0; i < 256; i++)
		check_page(&w, &p, i);
	proc_exit(&p);
	end_world(w.q);
}

/* ---- the model ---- */
static void test_model_device(void **state)
{
	model_of_orders(add_device, 12);
}

static void test_model_several_areas(void **state)
{
	model_hosted_tlb(add_both, 13);
}

static void test_model_several_areas_with_failures(void **state)
{
	model_with_failures(add_both, 14);
}

/* ---- several processors ---- */
static void run_race(const struct sim_config *cfg, u64 seed)
{
	struct world w = { .q = machine_with(cfg, add_both, 8 * cfg->memory), .rnd = sim_seed(seed) };
	struct race r = { .sharers = 1 };

	for (u32 i = 0; i < RACERS; i++)
		r.p[i] = proc_new(w.q, (u32)(cfg->memory / PAGE_SIZE / 2));
	race(&w, &r);
	for (u32 i = 0; i < RACERS; i++)
		proc_exit(&r.p[i]);
	end_world(w.q);
}

static void test_race_replayed(void **state)
{
	run_race(&(struct sim_config){ .memory = 4 * MIB, .nr_cpus = 4, .sched = SIM_SCHED_ONE, .check_reuse = true }, 15);
}

static void test_race_of_threads(void **state)
{
	run_race(&(struct sim_config){ .memory = 4 * MIB, .nr_cpus = 4, .real_clock = true }, 16);
}

/* Every allocation and every I/O of a small life with a device and memory is made to fail in turn. */
static void sweep_round(u64 n, bool *reached)
{
	struct world w = { .q = machine_with(&(struct sim_config){ .memory = 8 * MIB, .folio_max_order = 2 }, add_both, 8 * MIB), .rnd = n };
	struct proc p = proc_new(w.q, 96), c;
	u64 buf[512];
	bool forked;

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
	swapoff(w.q, "/swap1");
	*reached = sim_fail_injected(w.q) != 0;
	sim_fail_none(w.q);
	w.fail_percent = 0;
	for (u32 i = 0; i < 96; i++) {
		check_page(&w, &p, i);
		if (forked)
			check_page(&w, &c, i);
	}
	check_machine(w.q);
	if (forked)
		proc_exit(&c);
	proc_exit(&p);
	end_world(w.q);
}

static void test_failure_sweep(void **state)
{
	bool reached = true;

	for (u64 n = 1; n < 8000 && reached; n += getenv("QUIRE_LONG") ? 1 : 17)
		sweep_round(n, &reached);
	assert_false(reached);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_and_readahead), cmocka_unit_test(test_swap_in_is_a_stall), cmocka_unit_test(test_page_cluster), cmocka_unit_test(test_no_readahead_where_it_is_random),
		cmocka_unit_test(test_readahead_pages_are_reclaimed), cmocka_unit_test(test_read_errors_and_damage),
		cmocka_unit_test(test_write_error_keeps_the_page), cmocka_unit_test(test_no_space_falls_to_others),
		cmocka_unit_test(test_memory_refuses_device_takes), cmocka_unit_test(test_equal_priorities_take_turns),
		cmocka_unit_test(test_swapoff_of_a_device), cmocka_unit_test(test_model_device),
		cmocka_unit_test(test_model_several_areas), cmocka_unit_test(test_model_several_areas_with_failures),
		cmocka_unit_test(test_race_replayed), cmocka_unit_test(test_race_of_threads), cmocka_unit_test(test_failure_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
