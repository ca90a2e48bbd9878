/* Shared memory of the machine in swap: the same bytes for everybody who maps it, whatever was swapped in between. */
#include "swap_world_test.h"

#define SHARED (MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE)

static struct proc shared_new(struct quire *q, u32 npages)
{
	struct proc p = { .p = sim_process_new(q, "shared"), .npages = npages, .tag = calloc(npages, 4) };
	long a = sys_mmap(p.p->task, 0, (u64)npages * PAGE_SIZE, RW, SHARED, NULL, 0);

	assert_true(a > 0);
	p.base = (u64)a;
	return p;
}

/* Another process with the same pages: and the same tags. */
static void shared_fork(struct world *w, struct proc *from, struct proc *to)
{
	*to = *from;
	to->p = sim_process_fork(from->p);
	assert_false(IS_ERR(to->p));
}

static struct address_space *object_of(struct proc *p)
{
	return vma_lookup(sim_process_mm(p->p), p->base)->vm_file->mapping;
}

static void add_device(struct quire *q, u64 pages)
{
	assert_int_equal(swapon_device(q, "/swap0", "file", sim_swap_new(q, pages + 1), pages, 10), 0);
}

static void end_shared(struct world *w, struct proc *p, u32 n)
{
	u32 *tag = p->tag;

	for (u32 i = 0; i < n; i++)
		sim_process_exit(p[i].p);
	free(tag);
	assert_int_equal(w->q->nr_shmem_pages, 0);
	end_world(w->q);
}

static void run_out_and_in(add_swap_fn add, u32 folio_max_order)
{
	struct world w = { .q = machine_with(&(struct sim_config){ .memory = 16 * MIB, .folio_max_order = folio_max_order }, add, 16 * MIB),
			   .rnd = 1 };
	struct proc p[2] = { shared_new(w.q, 512) };

	shared_fork(&w, &p[0], &p[1]);
	for (u32 i = 0; i < 400; i++) {
		w.last_tag += w.last_tag % 64 == 2;
		write_page(&w, &p[i & 1], i);
	}
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_shmem_pages, 0);
	/* (Of large folios the pages that were never written are of one word.) */
	assert_true(w.q->swap.nr_slots_used >= 400);
	assert_int_equal(sim_process_mm(p[0].p)->rss[MM_SHMEMPAGES], 0);
	check_machine(w.q);
	for (u32 i = 0; i < 512; i++)
		check_page(&w, &p[~i & 1], i);
	assert_int_equal(w.q->swap.nr_slots_used, 0);
	for (u32 i = 0; i < 512; i++)
		check_page(&w, &p[i & 1], i);
	check_machine(w.q);
	swap_out_all(w.q);
	for (u32 i = 100; i < 200; i++)
		write_page(&w, &p[0], i);
	for (unsigned type = 0; type < 2; type++) {
		struct swap_stat st;

		if (swap_area_stat(w.q, type, &st))
			assert_int_equal(swapoff(w.q, st.name), 0);
	}
	for (u32 i = 0; i < 512; i++)
		check_page(&w, &p[1], i);
	end_shared(&w, p, 2);
}

static void test_out_and_in(void **state)
{
	run_out_and_in(add_zram, 0);
	run_out_and_in(add_device, 0);
}

static void test_large_folios(void **state)
{
	run_out_and_in(add_zram, 4);
	run_out_and_in(add_device, 4);
}

/* The object's last mapping goes while its pages are out. */
static void test_the_object_goes(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config){ .memory = 16 * MIB }, add_device, 16 * MIB), .rnd = 1 };
	struct proc p[1] = { shared_new(w.q, 300) };

	for (u32 i = 0; i < 300; i++)
		write_page(&w, p, i);
	swap_out_all(w.q);
	assert_true(object_of(p)->nr_swapped == 300);
	end_shared(&w, p, 1);
}

/* Holes and cuts take what is in swap, too, and a page that is cut in two loses its rest. */
static void test_holes_and_cuts(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config){ .memory = 16 * MIB }, add_zram, 16 * MIB), .rnd = 1 };
	struct proc p[1] = { shared_new(w.q, 64) };
	u64 word;

	for (u32 i = 0; i < 64; i++)
		write_page(&w, p, i);
	swap_out_all(w.q);
	assert_int_equal(sys_madvise(p->p->task, p->base + 8 * PAGE_SIZE, 8 * PAGE_SIZE, MADV_REMOVE), 0);
	memset(p->tag + 8, 0, 8 * 4);
	assert_int_equal(object_of(p)->nr_swapped, 56);
	for (u32 i = 0; i < 24; i++)
		check_page(&w, p, i);
	assert_int_equal(shmem_set_size(object_of(p), 30 * PAGE_SIZE + 8), 0);
	assert_int_equal(object_of(p)->nr_swapped, 30 - 24);
	assert_int_equal(shmem_set_size(object_of(p), 64 * PAGE_SIZE), 0);
	assert_int_equal(sim_process_load(p->p, p->base + 30 * PAGE_SIZE + 8, 8, &word), 0);
	assert_int_equal(word, 0);
	memset(p->tag + 31, 0, 33 * 4);
	for (u32 i = 0; i < 64; i++)
		if (i != 30)
			check_page(&w, p, i);
	check_machine(w.q);
	end_shared(&w, p, 1);
}

static void test_read_error_is_sigbus(void **state)
{
	struct world w = { .q = machine_with(&(struct sim_config){ .memory = 16 * MIB }, add_device, 16 * MIB), .rnd = 1 };
	struct proc p[1] = { shared_new(w.q, 8) };
	u64 v;

	for (u32 i = 0; i < 8; i++)
		write_page(&w, p, i);
	swap_out_all(w.q);
	sim_swap_break(w.q, 0, -EIO, 0);
	sim_log_clear(w.q);
	assert_int_equal(sim_process_load(p->p, p->base, 8, &v), -EFAULT);
	assert_int_equal(p->p->cpu->info.sig, 7);
	assert_non_null(strstr(sim_log_text(w.q), "Read-error on swap-device"));
	sim_swap_break(w.q, 0, 0, 0);
	for (u32 i = 0; i < 8; i++)
		check_page(&w, p, i);
	end_shared(&w, p, 1);
}

/* ---- the model: processes on one object of four times the memory ---- */
#define SHARERS 3u

static void shared_step(struct world *w, struct proc *p)
{
	struct proc *who = &p[draw(w, SHARERS)];
	u32 page = (u32)draw(w, who->npages), n = 1 + (u32)draw(w, MIN(who->npages - page, 16));

	switch (draw(w, 16)) {
	case 0:
		try_to_free_pages(w->q, GFP_KERNEL, 0);
		break;
	case 1:
		if (!sys_madvise(who->p->task, who->base + (u64)page * PAGE_SIZE, (u64)n * PAGE_SIZE, MADV_REMOVE))
			memset(who->tag + page, 0, n * 4);
		break;
	case 2:
		sys_madvise(who->p->task, who->base + (u64)page * PAGE_SIZE, (u64)n * PAGE_SIZE, MADV_DONTNEED); /* it stays */
		break;
	case 3: case 4: case 5: case 6: case 7:
		for (u32 i = 0; i < n; i++)
			check_page(w, who, page + i);
		break;
	default:
		for (u32 i = 0; i < MIN(n, 8); i++)
			write_page(w, who, page + i);
	}
}

static void run_shared_model(const struct sim_config *cfg, add_swap_fn add, u64 seed, u64 kinds, unsigned percent)
{
	struct world w = { .q = machine_with(cfg, add, 8 * cfg->memory), .rnd = sim_seed(seed), .fail_kinds = kinds, .fail_percent = percent };
	struct proc p[SHARERS] = { shared_new(w.q, (u32)(4 * cfg->memory / PAGE_SIZE)) };

	for (u32 i = 1; i < SHARERS; i++)
		shared_fork(&w, &p[0], &p[i]);
	inject(&w, true);
	for (unsigned i = 0; i < steps(4000); i++)
		shared_step(&w, p);
	inject(&w, false);
	check_machine(w.q);
	for (u32 page = 0; page < p->npages; page++)
		check_page(&w, &p[page % SHARERS], page);
	assert_true(w.q->vm_events[PSWPOUT] > 1000 && w.q->vm_events[PSWPIN] > 1000);
	end_shared(&w, p, SHARERS);
}

static void test_model(void **state)
{
	run_shared_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true,
					       .break_percent = 10 }, add_zram, 21, 0, 0);
	run_shared_model(&(struct sim_config){ .memory = 4 * MIB, .tlb = SIM_TLB_HOSTED, .check_reuse = true, .break_percent = 3 },
			 add_device, 22, 0, 0);
}

static void test_model_with_failures(void **state)
{
	run_shared_model(&(struct sim_config){ .memory = 4 * MIB, .folio_max_order = 4, .break_percent = 5 }, add_device, 23, SIM_FAIL_ALL, 3);
}

/* ---- several processors on one object, each with pages of its own ---- */
static void run_race(const struct sim_config *cfg, add_swap_fn add, u64 seed)
{
	struct world w = { .q = machine_with(cfg, add, 8 * cfg->memory), .rnd = sim_seed(seed) };
	struct race r = { .p = { shared_new(w.q, (u32)(2 * cfg->memory / PAGE_SIZE)) }, .sharers = RACERS };

	for (u32 i = 1; i < RACERS; i++)
		shared_fork(&w, &r.p[0], &r.p[i]);
	race(&w, &r);
	end_shared(&w, r.p, RACERS);
}

static void test_races(void **state)
{
	run_race(&(struct sim_config){ .memory = 4 * MIB, .nr_cpus = 4, .sched = SIM_SCHED_ONE, .check_reuse = true }, add_zram, 24);
	run_race(&(struct sim_config){ .memory = 4 * MIB, .nr_cpus = 4, .real_clock = true }, add_device, 25);
}

/* Every allocation and every I/O of a small life is made to fail in turn. */
static void test_failure_sweep(void **state)
{
	bool reached = true;

	for (u64 n = 1; n < 4000 && reached; n += getenv("QUIRE_LONG") ? 1 : 11) {
		struct world w = { .q = machine_with(&(struct sim_config){ .memory = 8 * MIB, .folio_max_order = 4 }, n & 1 ? add_zram : add_device,
						     8 * MIB), .rnd = n, .fail_kinds = SIM_FAIL_ALL };
		struct proc p[1] = { shared_new(w.q, 64) };
		u64 buf[512];

		sim_fail_nth(w.q, SIM_FAIL_ALL, n);
		w.fail_percent = 1; /* accesses may fail now */
		for (u32 round = 0; round < 2; round++) {
			for (u32 i = 0; i < 64; i++) {
				page_of(++w.last_tag, buf);
				if (sim_process_write(p->p, p->base + (u64)i * PAGE_SIZE, buf, PAGE_SIZE) == PAGE_SIZE)
					p->tag[i] = w.last_tag;
			}
			swap_out_all(w.q);
		}
		for (u32 i = 0; i < 64; i++)
			sim_process_read(p->p, p->base + (u64)i * PAGE_SIZE, buf, PAGE_SIZE);
		reached = sim_fail_injected(w.q) != 0;
		sim_fail_none(w.q);
		w.fail_percent = 0;
		for (u32 i = 0; i < 64; i++)
			check_page(&w, p, i);
		end_shared(&w, p, 1);
	}
	assert_false(reached);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_out_and_in), cmocka_unit_test(test_large_folios), cmocka_unit_test(test_the_object_goes),
		cmocka_unit_test(test_holes_and_cuts), cmocka_unit_test(test_read_error_is_sigbus), cmocka_unit_test(test_model),
		cmocka_unit_test(test_model_with_failures), cmocka_unit_test(test_races), cmocka_unit_test(test_failure_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
