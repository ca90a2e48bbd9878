/* Rooms for zstd (swap/room.c): few of them, many who want them; they come with the first area and go with the last. */
#include "swap_world_test.h"
#include <fmt.h>
#include <quire/kmem.h>

/* 8 MiB have one room, whatever the number of CPUs. */
static struct quire *machine_with_one_room(enum sim_sched sched, u64 seed)
{
	struct sim_config cfg = { .memory = 8 * MIB, .nr_cpus = 4, .sched = sched, .seed = seed, .folio_max_order = 2, .tlb = SIM_TLB_HOSTED,
				  .real_clock = sched == SIM_SCHED_THREADS, .break_percent = 5 };
	struct quire *q = machine_with(&cfg, add_zstd, 64 * MIB);

	assert_int_equal(q->swap.nr_rooms, 1);
	return q;
}

/* ---- coming and going ---- */
static u64 rooms_live(struct quire *q)
{
	return kmem_cache_live_objects(q, q->swap.room_cache);
}

static void test_rooms_come_and_go(void **state)
{
	struct quire *q = machine_with(&(struct sim_config){ .memory = 64 * MIB, .nr_cpus = 3 }, add_zram, MIB);
	static char text[8192];
	struct fmt_buf out = fmt_init(text, sizeof(text));

	assert_int_equal(q->swap.nr_rooms, 0); /* lz4 needs none */
	assert_int_equal(swapon_zstd(q, "/z", 0, 256, 0), -EINVAL);
	assert_int_equal(swapon_zstd(q, "/z", SWAP_ZSTD_LEVELS + 1, 256, 0), -EINVAL);
	assert_int_equal(swapon_zstd(q, "/a", 1, 256, 0), 0);
	assert_int_equal(swapon_zstd(q, "/a", 2, 256, 0), -EEXIST);
	assert_int_equal(swapon_zstd(q, "/b", 3, 256, 0), 0);
	assert_int_equal(q->swap.nr_rooms, 3);
	assert_int_equal(rooms_live(q), 3);
	proc_slabinfo(q, &out);
	assert_non_null(strstr(text, "swap_room"));
	assert_int_equal(swapoff(q, "/a"), 0);
	assert_int_equal(rooms_live(q), 3);
	assert_int_equal(swapoff(q, "/b"), 0);
	assert_int_equal(rooms_live(q), 0);
	assert_int_equal(swapon_zstd(q, "/a", 2, 256, 0), 0);
	assert_int_equal(rooms_live(q), 3);
	end_world(q);
}

static void test_no_memory_for_rooms(void **state)
{
	struct quire *q = machine_with(&(struct sim_config){ .memory = 64 * MIB, .nr_cpus = 3 }, add_zram, MIB);
	int err = -ENOMEM;
	u64 n;

	for (n = 1; err; n++) {
		sim_fail_nth(q, SIM_FAIL_ALL, n);
		err = swapon_zstd(q, "/z", 3, 256, 0);
		sim_fail_none(q);
		assert_true(!err || err == -ENOMEM);
		assert_int_equal(q->swap.room_users, !err);
		if (err && q->swap.room_cache)
			assert_int_equal(rooms_live(q), 0);
	}
	assert_true(n > 4); /* the cache, three rooms */
	end_world(q);
}

/* ---- waiting ---- */
struct waiting {
	struct world w;
	struct proc p;
	bool taken, left;
	u32 seen_left[3];
};

static void sit_in_the_room(struct quire *q, struct waiting *t)
{
	struct swap_room *r = swap_room_lock(q);

	assert_non_null(r);
	assert_ptr_equal(swap_room_trylock(q), r); /* one's own is no obstacle */
	swap_room_unlock(r);
	WRITE_ONCE(t->taken, true);
	for (u32 i = 0; i < 200; i++)
		sim_preempt();
	WRITE_ONCE(t->left, true);
	swap_room_unlock(r);
}

/* One sits in the only room; one reads a page back, one writes pages out, one takes the area away from under a third. */
static void wait_thread(struct quire *q, unsigned i, void *arg)
{
	struct waiting *t = arg;

	if (i == 0) {
		sit_in_the_room(q, t);
		return;
	}
	while (!READ_ONCE(t->taken))
		sim_preempt();
	if (i == 1) {
		assert_null(swap_room_trylock(q));
		check_page(&t->w, &t->p, 3);
	} else {
		struct swap_room *r = swap_room_lock(q);

		assert_non_null(r);
		swap_room_unlock(r);
	}
	t->seen_left[i] = READ_ONCE(t->left);
}

static void test_waiting_for_a_room(void **state)
{
	struct quire *q = machine_with_one_room(SIM_SCHED_ONE, sim_seed(11));
	struct waiting t = { .w = { .q = q, .rnd = 1, .last_tag = 20 } };

	t.p = proc_new(q, 16);
	for (u32 i = 0; i < 16; i++)
		write_page(&t.w, &t.p, i);
	swap_out_all(q);
	assert_int_equal(q->swap.stored, 16);
	sim_run(q, 3, wait_thread, &t);
	assert_true(t.seen_left[1] && t.seen_left[2]);
	for (u32 i = 0; i < 16; i++)
		check_page(&t.w, &t.p, i);
	proc_exit(&t.p);
	end_world(q);
}

/* ---- many at once ---- */
struct crowd {
	struct proc p[4];
	u32 steps;
};

static void crowd_thread(struct quire *q, unsigned i, void *arg)
{
	struct crowd *c = arg;
	struct proc *p = &c->p[i];
	struct world w = { .q = q, .rnd = i + 1, .last_tag = 1000 * i };

	sim_process_set_cpu(p->p, i);
	port_ctx()->task = p->p->task;
	for (u32 n = 0; n < c->steps; n++) {
		u32 page = (u32)draw(&w, p->npages);

		if (draw(&w, 3))
			write_page(&w, p, page);
		else
			check_page(&w, p, page);
		if (!draw(&w, 400))
			try_to_free_pages(q, GFP_KERNEL, 0);
	}
	port_ctx()->task = NULL;
}

static void run_crowd(enum sim_sched sched, u64 seed, u32 n)
{
	struct quire *q = machine_with_one_room(sched, seed);
	struct world w = { .q = q };
	struct crowd c = { .steps = n };

	for (u32 i = 0; i < 4; i++)
		c.p[i] = proc_new(q, 1024); /* twice the memory in all */
	sim_run(q, 4, crowd_thread, &c);
	assert_true(q->swap.stored > 100 && q->vm_events[PSWPIN] > 100);
	check_machine(q);
	for (u32 i = 0; i < 4; i++) {
		for (u32 page = 0; page < 1024; page++)
			check_page(&w, &c.p[i], page);
		proc_exit(&c.p[i]);
	}
	end_world(q);
}

static void test_four_programs_one_room(void **state)
{
	run_crowd(SIM_SCHED_ONE, sim_seed(12), steps(1500));
#if !defined(__SANITIZE_THREAD__) /* which does not know the fence between a slot's bytes and its empty folio (swap/cache.c) */
	run_crowd(SIM_SCHED_THREADS, sim_seed(13), steps(3000));
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rooms_come_and_go), cmocka_unit_test(test_no_memory_for_rooms),
		cmocka_unit_test(test_waiting_for_a_room), cmocka_unit_test(test_four_programs_one_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
