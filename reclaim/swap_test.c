/* Swap in compressed memory, with lz4 and then with zstd, and what is the same for all swap: see swap_world_test.h. */
#include "swap_world_test.h"

/* ---- alone, in other orders ---- */
static void four_times(u64 memory)
{
	struct sim_config cfg = { .memory = memory, .folio_max_order = 4, .check_law1 = true, .check_reuse = true };
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

/* What was out and what is in memory fill it to the last frame at some sizes; reclaim must have its reserve at all of them. */
static void test_four_times_memory(void **state)
{
	four_times(8 * MIB);
	four_times(8 * MIB + 384 * PAGE_SIZE);
	four_times(8 * MIB + 768 * PAGE_SIZE);
}

static void test_model(void **state)
{
	model_of_orders(add_compressed, 2);
}

static void test_model_hosted_tlb(void **state)
{
	model_hosted_tlb(add_compressed, 3);
}

static void test_model_with_failures(void **state)
{
	model_with_failures(add_compressed, 4);
}

/* Memory for a while ample, so that pages that were sent out with MADV_PAGEOUT come back in blocks. */
static void test_model_with_room(void **state)
{
	run_model(&(struct sim_config){ .memory = 24 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true,
					.break_percent = 10 }, add_compressed, 5, SIM_FAIL_ALL, 2, steps(4000));
}

/* ---- one thing at a time ---- */
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

/* A large folio that a server and all its children share is split, and its pages go. */
static void test_large_folio_of_many(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 32 * MIB, .folio_max_order = 4 }, 16 * MIB),
			   .rnd = 1, .last_tag = 20 };
	struct proc p = proc_new(w.q, 512), c[30];

	for (u32 i = 0; i < 512; i++)
		write_page(&w, &p, i);
	assert_true(folio_order(pte_folio(sim_process_mm(p.p), pte_at(sim_process_mm(p.p), p.base + MIB))) > 0);
	for (u32 k = 0; k < ARRAY_SIZE(c); k++)
		assert_true(proc_fork(&w, &p, &c[k]));
	swap_out_all(w.q);
	assert_int_equal(w.q->nr_anon_pages, 0);
	for (u32 k = 0; k < ARRAY_SIZE(c); k++) {
		check_page(&w, &c[k], 7 * k);
		proc_exit(&c[k]);
	}
	check_page(&w, &p, 500);
	check_machine(w.q);
	proc_exit(&p);
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

/* With swap full, all of memory is not searched for the one or two pages that have a slot all the same: before somebody was killed that took
 * seconds, under a lock that the victim's death needed. */
static void test_full_swap_is_not_searched(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 2 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 2048);
	u64 before;

	for (u32 i = 0; i < 2048; i++)
		write_page(&w, &p, i);
	swap_out_all(w.q);
	for (u32 i = 0; i < 2048 && !w.q->nr_swapcache_pages; i += 8)
		check_page(&w, &p, i);
	for (u32 i = 0; i < 20 && w.q->nr_free_swap_pages; i++)
		try_to_free_pages(w.q, GFP_KERNEL, 0);
	assert_int_equal(w.q->nr_free_swap_pages, 0);
	assert_in_range(w.q->nr_swapcache_pages, 1, 30);
	before = w.q->vm_events[PGSCAN_DIRECT];
	try_to_free_pages(w.q, GFP_KERNEL, 0);
	assert_in_range(w.q->vm_events[PGSCAN_DIRECT] - before, 0, 200);
	for (u32 i = 0; i < 2048; i++)
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

/* MADV_PAGEOUT: exactly those pages, young or not, also of large folios; not what others map, or what is locked. */
static void test_madvise_pageout(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 32 * MIB, .folio_max_order = 9 }, 32 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 2048), c;
	struct mm_struct *mm = sim_process_mm(p.p);
	s64 resident;

	for (u32 i = 0; i < 1500; i++) {
		w.last_tag += w.last_tag % 64 == 2; /* no incompressible ones here */
		write_page(&w, &p, i);
	}
	resident = mm->rss[MM_ANONPAGES];
	assert_int_equal(sys_madvise(p.p->task, p.base + 100 * PAGE_SIZE, 700 * PAGE_SIZE, MADV_PAGEOUT), 0);
	assert_int_equal(mm->rss[MM_SWAPENTS], 700);
	assert_int_equal(mm->rss[MM_ANONPAGES], resident - 700);
	check_machine(w.q);
	assert_int_equal(do_mlock(mm, p.base, 32 * PAGE_SIZE, 0), 0);
	assert_int_equal(sys_madvise(p.p->task, p.base, 32 * PAGE_SIZE, MADV_PAGEOUT), -EINVAL);
	assert_int_equal(do_munlock(mm, p.base, 32 * PAGE_SIZE), 0);
	assert_true(proc_fork(&w, &p, &c));
	assert_int_equal(sys_madvise(c.p->task, c.base, 32 * PAGE_SIZE, MADV_PAGEOUT), 0);
	assert_int_equal(mm->rss[MM_SWAPENTS], 700);
	assert_int_equal(sys_madvise(p.p->task, p.base, 2048 * PAGE_SIZE, MADV_COLD), 0);
	for (u32 i = 0; i < 1500; i++) {
		check_page(&w, &p, i);
		check_page(&w, &c, i);
	}
	check_machine(w.q);
	proc_exit(&c);
	proc_exit(&p);
	end_world(w.q);
}

/* A fault brings the whole block of 64 KiB back as one folio, if nothing is odd about its entries; else the page alone. */
static void test_blocks_come_back_whole(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB, .folio_max_order = 4, .check_law1 = true, .check_reuse = true };
	struct world w = { .q = machine_with_swap(&cfg, 64 * MIB), .rnd = 1 };
	struct proc p = proc_new(w.q, 512), c;
	struct mm_struct *mm = sim_process_mm(p.p);
	u32 at = (u32)((ALIGN_UP(p.base, CONT_PTE_SIZE) - p.base) / PAGE_SIZE);

	for (u32 i = 0; i < 512; i++) {
		w.last_tag += w.last_tag % 64 == 2; /* no incompressible ones here */
		write_page(&w, &p, i);
	}
	assert_int_equal(sys_madvise(p.p->task, p.base, 512 * PAGE_SIZE, MADV_PAGEOUT), 0);
	assert_int_equal(mm->rss[MM_SWAPENTS], 512);
	check_page(&w, &p, at + 7);
	assert_int_equal(w.q->vm_events[PSWPIN], 16);
	assert_int_equal(mm->rss[MM_SWAPENTS], 512 - 16);
	assert_int_equal(w.q->swap.nr_slots_used, 512 - 16);
	assert_int_equal(folio_order(pte_folio(mm, pte_read(pte_lookup(mm, p.base + at * PAGE_SIZE)))), 4);
	for (u32 i = 0; i < 16; i++)
		check_page(&w, &p, at + i);
	assert_int_equal(w.q->vm_events[PSWPIN], 16);
	/* A hole in a block, and one that a child shares. */
	assert_int_equal(sys_madvise(p.p->task, p.base + (at + 16) * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED), 0);
	p.tag[at + 16] = 0;
	check_page(&w, &p, at + 24);
	assert_int_equal(w.q->vm_events[PSWPIN], 20); /* a quarter of it has no hole */
	assert_true(proc_fork(&w, &p, &c));
	check_page(&w, &c, at + 40);
	check_page(&w, &p, at + 40);
	assert_int_equal(w.q->vm_events[PSWPIN], 21);
	proc_exit(&c);
	/* Reading one of its pages fails: the others are not to suffer. */
	sim_fail_nth(w.q, BIT(FAIL_IO), 3);
	check_page(&w, &p, at + 64);
	sim_fail_none(w.q);
	assert_int_equal(port_ctx()->nswaps, 0);
	check_machine(w.q);
	for (u32 i = 0; i < 512; i++)
		write_page(&w, &p, i);
	for (u32 i = 0; i < 512; i++)
		check_page(&w, &p, i);
	check_machine(w.q);
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

static u32 nr_young(struct proc *p)
{
	struct mm_struct *mm = sim_process_mm(p->p);
	u32 n = 0;

	for (u32 i = 0; i < p->npages; i++) {
		pte_t e = pgtable_read(mm->q, mm->pgd, p->base + (u64)i * PAGE_SIZE);

		n += pte_present(e) && pte_young(e);
	}
	return n;
}

/* One gentle turn of the lists; pages freed. */
static u64 one_turn(struct quire *q, u64 pages)
{
	struct scan_control sc = { .q = q, .gfp = GFP_KERNEL, .priority = DEF_PRIORITY, .to_reclaim = pages, .budget = pages, .anon = true };

	shrink_anon(&sc);
	return sc.reclaimed;
}

/* Where faults are dear a page that was asked, and used, is not asked the next time; but it goes when it is used no more. */
static void test_dear_faults(void **state)
{
	for (u32 dear = 0; dear < 2; dear++) {
		struct sim_config cfg = { .memory = 16 * MIB, .policy = &policy_clock };
		struct world w = { .q = machine_with_swap(&cfg, 16 * MIB), .rnd = 1 };
		struct proc p = proc_new(w.q, 64);
		u64 freed = 0;

		if (dear)
			w.q->caps |= PORT_CAP_DEAR_FAULTS;
		for (u32 i = 0; i < 64; i++)
			write_page(&w, &p, i);
		assert_int_equal(nr_young(&p), 64);
		assert_int_equal(one_turn(w.q, 64), 0);
		assert_int_equal(nr_young(&p), 0);
		for (u32 i = 0; i < 64; i++)
			check_page(&w, &p, i);
		assert_int_equal(one_turn(w.q, 64), 0);
		assert_int_equal(nr_young(&p), dear ? 64 : 0);
		if (dear)
			assert_int_equal(one_turn(w.q, 64), 0);
		assert_int_equal(nr_young(&p), 0);
		for (u32 i = 0; i < 8; i++)
			freed += one_turn(w.q, 64);
		assert_true(freed > 48); /* not all: some do not get smaller, and the lists keep their balance */
		for (u32 i = 0; i < 64; i++)
			check_page(&w, &p, i);
		proc_exit(&p);
		end_world(w.q);
	}
}

static u64 resident(struct proc *p)
{
	return (u64)sim_process_mm(p->p)->rss[MM_ANONPAGES];
}

static void activate_all(struct quire *q)
{
	struct folio *folio;

	spin_lock(&q->lock);
	while ((folio = lru_tail(q, LRU_KIND_ANON, 0)))
		q->lru.policy->activate(q, folio);
	spin_unlock(&q->lock);
}

/* Where a page that is out comes back for the price of an answer, none is asked that never was out; who has been active is believed first, and
 * asked then. */
static void test_dear_faults_near_swap(void **state)
{
	struct world w = { .q = machine_with_swap(&(struct sim_config){ .memory = 16 * MIB }, 16 * MIB), .rnd = 1, .last_tag = 6 };
	struct proc p = proc_new(w.q, 48), active = proc_new(w.q, 304);
	u64 turns = 0;

	w.q->caps |= PORT_CAP_DEAR_FAULTS;
	for (u32 i = 0; i < 304; i++) {
		w.last_tag = 6; /* they all get smaller */
		write_page(&w, &active, i);
	}
	activate_all(w.q);
	for (u32 i = 0; i < 48; i++) {
		w.last_tag = 6;
		write_page(&w, &p, i);
	}
	/* All 48 are young; those that go were not asked before, and the others still are. */
	assert_true(one_turn(w.q, 48) > 0);
	assert_true(resident(&p) < 48);
	assert_int_equal(nr_young(&p), resident(&p));
	for (u32 i = 0; i < 48; i++)
		check_page(&w, &p, i);
	assert_true(w.q->vm_events[WORKINGSET_ACTIVATE_ANON] > 0);
	while (nr_young(&active) == 304) {
		assert_true(turns++ < 100);
		one_turn(w.q, 64);
		assert_int_equal(resident(&active), 304);
	}
	assert_true(turns > 304 / 64);
	/* Nobody answers: now they go. */
	for (turns = 0; resident(&active) > 152; turns++) {
		assert_true(turns < 100);
		one_turn(w.q, 64);
	}
	for (u32 i = 0; i < 304; i++)
		check_page(&w, &active, i);
	proc_exit(&active);
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
		cmocka_unit_test(test_fork_shares_a_slot), cmocka_unit_test(test_large_folio_of_many),
		cmocka_unit_test(test_read_error_is_sigbus),
		cmocka_unit_test(test_damaged_page_is_noticed), cmocka_unit_test(test_swapoff_brings_everything_back),
		cmocka_unit_test(test_higher_priority_first), cmocka_unit_test(test_full_swap_is_not_searched),
		cmocka_unit_test(test_locked_pages_stay),
		cmocka_unit_test(test_lazily_freed_pages_are_dropped),
		cmocka_unit_test(test_four_times_memory), cmocka_unit_test(test_blocks_come_back_whole), cmocka_unit_test(test_kswapd_balances), cmocka_unit_test(test_dear_faults), cmocka_unit_test(test_dear_faults_near_swap), cmocka_unit_test(test_madvise_pageout), cmocka_unit_test(test_model), cmocka_unit_test(test_model_hosted_tlb),
		cmocka_unit_test(test_model_with_failures), cmocka_unit_test(test_model_with_room), cmocka_unit_test(test_failure_sweep),
	};

	int failed = cmocka_run_group_tests_name("lz4", tests, NULL, NULL);

	add_compressed = add_zstd;
	return failed + cmocka_run_group_tests_name("zstd", tests, NULL, NULL);
}
