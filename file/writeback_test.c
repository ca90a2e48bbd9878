/*
 * Writeback by age and by amount: settings and their checks, the timer, the background, who makes pages dirty waits, a broken disk.
 */
#include "../fault/testutil.h"
#include <fmt.h>
#include <port/sim/simfs.h>
#include <proc/proc.h>
#include <reclaim/reclaim.h>

#define SECOND 1000000000ull

static u64 event(const struct quire *q, enum vm_event_item e)
{
	return q->vm_events[e];
}

static void set(struct quire *q, enum wb_setting which, s64 v)
{
	assert_int_equal(wb_setting_set(q, which, v), 0);
}

static u64 map_new(struct rig *r, const char *path, u64 pages, struct file **f)
{
	*f = sim_file_create(r->q, path, NULL, pages * PAGE_SIZE);
	assert_non_null(*f);
	return map_file(r->mm, *f, pages * PAGE_SIZE, RW, MAP_SHARED, 0);
}

static u64 on_disk(struct file *f, u64 page)
{
	return *(const u64 *)(const void *)(sim_file_disk(f) + page * PAGE_SIZE);
}

/* Files with dirty pages are on the list, in the order of their age, and nobody else. */
static void check_list(struct quire *q)
{
	u64 pages = 0, files = 0, listed = 0, last = 0;

	spin_lock(&q->lock);
	for (u32 i = 0; i < FILE_HASH_BUCKETS; i++)
		for (struct address_space *m = q->files[i]; m; m = m->hash_next)
			files += m->nr_dirty != 0;
	for (struct address_space *m = q->wb.first; m; m = m->wb_next) {
		assert_true(m->nr_dirty && m->dirtied_ns >= last);
		assert_ptr_equal(m->wb_next ? m->wb_next->wb_prev : q->wb.last, m);
		if (!m->wb_next)
			assert_ptr_equal(q->wb.last, m);
		last = m->dirtied_ns;
		pages += m->nr_dirty;
		listed++;
	}
	spin_unlock(&q->lock);
	assert_int_equal(files, listed);
	assert_int_equal(pages, q->nr_dirty_pages);
	assert_true(event(q, NR_WRITTEN) <= event(q, NR_DIRTIED) + q->nr_dirty_pages);
}

/* ---- settings ---- */

static void test_settings(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	static const s64 defaults[] = { 10, 0, 20, 0, 500, 3000 };

	for (unsigned i = 0; i < NR_WB_SETTINGS; i++)
		assert_int_equal(wb_setting_get(q, i), defaults[i]);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_RATIO, 101), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_RATIO, -1), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_BACKGROUND_RATIO, 101), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_BACKGROUND_BYTES, 0), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_BYTES, 2 * PAGE_SIZE - 1), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_BYTES, 1l << 45), -ERANGE);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_EXPIRE_CENTISECS, -1), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_EXPIRE_CENTISECS, 1l << 31), -EINVAL);
	assert_int_equal(wb_setting_set(q, WB_DIRTY_WRITEBACK_CENTISECS, 1l << 31), -EINVAL);
	for (unsigned i = 0; i < NR_WB_SETTINGS; i++)
		assert_int_equal(wb_setting_get(q, i), defaults[i]);
	/* Of two that say the same thing the last one written counts. */
	set(q, WB_DIRTY_BYTES, 1 << 20);
	assert_int_equal(wb_setting_get(q, WB_DIRTY_RATIO), 0);
	set(q, WB_DIRTY_RATIO, 0); /* no change: the bytes stay */
	assert_int_equal(wb_setting_get(q, WB_DIRTY_BYTES), 1 << 20);
	set(q, WB_DIRTY_RATIO, 30);
	assert_int_equal(wb_setting_get(q, WB_DIRTY_BYTES), 0);
	set(q, WB_DIRTY_BACKGROUND_BYTES, 4097);
	assert_int_equal(wb_setting_get(q, WB_DIRTY_BACKGROUND_RATIO), 0);
	assert_int_equal(global_dirty_limits(q).background, 2);
	set(q, WB_DIRTY_BACKGROUND_RATIO, 0);
	assert_int_equal(wb_setting_get(q, WB_DIRTY_BACKGROUND_BYTES), 0);
	sim_machine_free(q);
}

static void test_limits_and_views(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);
	struct dirty_limits l = global_dirty_limits(r.q);
	struct file *f;
	u64 a = map_new(&r, "/v", 32, &f);
	char text[16384];
	struct fmt_buf out = fmt_init(text, sizeof(text));
	char want[80];

	assert_in_range(l.hard, 64 * 256 / 5 - 400, 64 * 256 / 5);
	assert_in_range(l.background, l.hard / 2 - 1, l.hard / 2 + 1);
	set(r.q, WB_DIRTY_BACKGROUND_RATIO, 90);
	assert_int_equal(global_dirty_limits(r.q).background, global_dirty_limits(r.q).hard / 2);
	set(r.q, WB_DIRTY_BYTES, 100 * PAGE_SIZE);
	for (u64 i = 0; i < 8; i++)
		store8(&r, a + i * PAGE_SIZE, i);
	assert_int_equal(r.q->nr_dirty_pages, 8);
	proc_vmstat(r.q, &out);
	snprintf(want, sizeof(want), "\nnr_dirty 8\nnr_writeback 0\n");
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, "\nnr_dirtied 8\nnr_written 0\n"));
	assert_non_null(strstr(text, "\nnr_dirty_threshold 100\nnr_dirty_background_threshold 50\n"));
	out = fmt_init(text, sizeof(text));
	proc_meminfo(r.q, &out);
	assert_non_null(strstr(text, "\nDirty:                32 kB\nWriteback:             0 kB\n"));
	assert_int_equal(filemap_sync(f->mapping, 0, ~0ull, true), 0);
	out = fmt_init(text, sizeof(text));
	proc_vmstat(r.q, &out);
	assert_non_null(strstr(text, "\nnr_dirty 0\n"));
	assert_non_null(strstr(text, "\nnr_dirtied 8\nnr_written 8\n"));
	file_end(&r, a, f);
	rig_free(&r);
}

/* ---- the timer ---- */

static void kupdate(struct rig *r)
{
	struct file *f, *g;
	u64 a = map_new(r, "/old", 16, &f), b = map_new(r, "/young", 16, &g);

	wb_flusher_once(r->q, 0);
	store8(r, a, 77);
	sim_advance_clock(r->q, 20 * SECOND);
	wb_flusher_once(r->q, 0);
	store8(r, b, 78);
	check_list(r->q);
	assert_int_equal(on_disk(f, 0), 0);
	sim_advance_clock(r->q, 11 * SECOND);
	wb_flusher_once(r->q, 0);
	/* 31 and 11 seconds old. */
	assert_int_equal(on_disk(f, 0), 77);
	assert_int_equal(on_disk(g, 0), r->q->caps & PORT_CAP_HW_DBM ? 78 : 0);
	check_list(r->q);
	store8(r, a, 79); /* it was made clean: this is seen */
	assert_true((r->q->caps & PORT_CAP_HW_DBM) || f->mapping->nr_dirty == 1);
	set(r->q, WB_DIRTY_WRITEBACK_CENTISECS, 0);
	sim_advance_clock(r->q, 1000 * SECOND);
	wb_flusher_once(r->q, 0);
	assert_int_equal(on_disk(f, 0), 77); /* no timer */
	set(r->q, WB_DIRTY_WRITEBACK_CENTISECS, 100);
	wb_flusher_once(r->q, 0);
	assert_int_equal(on_disk(f, 0), 79);
	assert_int_equal(on_disk(g, 0), 78);
	check_list(r->q);
	file_end(r, a, f);
	file_end(r, b, g);
}

static void test_kupdate(void **state)
{
	struct sim_config cfg = { .memory = 16 * MIB };

	for (int i = 0; i < 3; i++) {
		struct rig r;

		cfg.hw_dbm = i == 1;
		cfg.tlb = i == 2 ? SIM_TLB_HOSTED : SIM_TLB_NORMAL;
		r = rig_new(&cfg);
		kupdate(&r);
		rig_free(&r);
	}
}

/* ---- the background ---- */

static void test_background(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);
	struct file *f, *g;
	u64 a = map_new(&r, "/first", 2000, &f), b = map_new(&r, "/second", 600, &g);

	set(r.q, WB_DIRTY_BACKGROUND_BYTES, 1000 * PAGE_SIZE);
	set(r.q, WB_DIRTY_BYTES, 8000 * PAGE_SIZE);
	for (u64 i = 0; i < 999; i++)
		store8(&r, a + i * PAGE_SIZE, i + 1);
	wb_flusher_once(r.q, 0);
	assert_int_equal(event(r.q, NR_WRITTEN), 0);
	for (u64 i = 999; i < 2000; i++)
		store8(&r, a + i * PAGE_SIZE, i + 1);
	for (u64 i = 0; i < 600; i++)
		store8(&r, b + i * PAGE_SIZE, i + 1);
	assert_int_equal(r.q->nr_dirty_pages, 2600);
	wb_flusher_once(r.q, 0);
	/* Until it is below, and the file that was dirty first goes first. */
	assert_in_range(r.q->nr_dirty_pages, 1, 1000);
	assert_int_equal(g->mapping->nr_dirty, 600);
	assert_int_equal(on_disk(f, 5), 6);
	check_list(r.q);
	file_end(&r, a, f);
	file_end(&r, b, g);
	rig_free(&r);
}

/* ---- throttling ---- */

#define LIMIT 128u

static void test_throttled_alone(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);
	struct file *f;
	u64 a = map_new(&r, "/t", 4096, &f), most = 0;

	set(r.q, WB_DIRTY_BACKGROUND_BYTES, LIMIT / 2 * PAGE_SIZE);
	set(r.q, WB_DIRTY_BYTES, LIMIT * PAGE_SIZE);
	for (u64 i = 0; i < 4096; i++) {
		store8(&r, a + i * PAGE_SIZE, i + 1);
		most = MAX(most, r.q->nr_dirty_pages + r.q->nr_writeback_pages);
	}
	assert_in_range(most, LIMIT / 2, LIMIT);
	assert_int_equal(event(r.q, NR_DIRTIED), 4096);
	assert_true(event(r.q, NR_WRITTEN) >= 4096 - LIMIT);
	for (u64 i = 0; i < 4096; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE), i + 1);
	file_end(&r, a, f);
	rig_free(&r);
}

/* A disk that is broken holds nobody up for ever, and no byte is lost. */
static void test_broken_disk(void **state)
{
	struct sim_config cfg = { .memory = 64 * MIB };
	struct rig r = rig_new(&cfg);
	struct file *f;
	u64 a = map_new(&r, "/b", 300, &f);

	set(r.q, WB_DIRTY_BYTES, LIMIT * PAGE_SIZE);
	for (u64 i = 0; i < 100; i++)
		store8(&r, a + i * PAGE_SIZE, i + 1);
	sim_file_break(f, -EIO);
	for (u64 i = 100; i < 300; i++)
		load8(&r, a); /* what is not there cannot be read, either */
	set(r.q, WB_DIRTY_BYTES, 50 * PAGE_SIZE);
	for (u64 i = 0; i < 5; i++)
		balance_dirty_pages(r.q);
	wb_flusher_once(r.q, 0);
	assert_int_equal(r.q->nr_dirty_pages, 100);
	check_list(r.q);
	sim_file_break(f, 0);
	balance_dirty_pages(r.q);
	assert_true(r.q->nr_dirty_pages <= 50);
	wb_flusher_once(r.q, 0);
	for (u64 i = 0; i < 100; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE), i + 1);
	file_end(&r, a, f);
	rig_free(&r);
}

struct crowd {
	struct mm_struct *mm[3];
	u64 base[3];
	u64 most;
	u32 done;
	u64 slept;
};

#define CROWD_PAGES 1500u

static void crowd_thread(struct quire *q, unsigned i, void *arg)
{
	struct crowd *c = arg;

	if (i == 3) {
		while (__atomic_load_n(&c->done, __ATOMIC_ACQUIRE) < 3)
			wb_flusher_once(q, SECOND);
		return;
	}
	for (u64 p = 0; p < CROWD_PAGES; p++) {
		u64 v = p + 1, dirty;

		if (access_process_vm(c->mm[i], c->base[i] + p * PAGE_SIZE, &v, 8, true) != 8)
			abort();
		spin_lock(&q->lock);
		dirty = q->nr_dirty_pages + q->nr_writeback_pages;
		c->most = MAX(c->most, dirty);
		spin_unlock(&q->lock);
	}
	__atomic_add_fetch(&c->done, 1, __ATOMIC_RELEASE);
}

static void run_crowd(enum sim_sched sched)
{
	struct sim_config cfg = { .memory = 64 * MIB, .sched = sched, .nr_cpus = 4, .seed = sim_seed(21), .break_percent = 5 };
	struct rig r = rig_new(&cfg);
	struct crowd c = { 0 };
	struct file *f[3];

	set(r.q, WB_DIRTY_BACKGROUND_BYTES, LIMIT / 2 * PAGE_SIZE);
	set(r.q, WB_DIRTY_BYTES, LIMIT * PAGE_SIZE);
	for (int i = 0; i < 3; i++) {
		char path[8] = "/c0";

		path[2] = (char)('0' + i);
		c.mm[i] = r.mm;
		c.base[i] = map_new(&r, path, CROWD_PAGES, &f[i]);
	}
	wb_flusher_once(r.q, 0); /* there is a flusher */
	sim_run(r.q, 4, crowd_thread, &c);
	/* Each of the three may have made one page dirty before it looked. */
	print_message("at most %lu dirty\n", (unsigned long)c.most);
	assert_in_range(c.most, LIMIT / 2, LIMIT + 3);
	check_list(r.q);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(filemap_sync(f[i]->mapping, 0, ~0ull, true), 0);
		for (u64 p = 0; p < CROWD_PAGES; p++)
			assert_int_equal(on_disk(f[i], p), p + 1);
		file_end(&r, c.base[i], f[i]);
	}
	assert_int_equal(r.q->nr_dirty_pages, 0);
	rig_free(&r);
}

static void test_throttled_crowd(void **state)
{
	run_crowd(SIM_SCHED_ONE);
	run_crowd(SIM_SCHED_THREADS);
}

/* ---- all of it in any order ---- */

#define FILES 4u
#define PAGES 200u

static u64 next(u64 *rnd)
{
	*rnd = *rnd * 6364136223846793005ull + 1442695040888963407ull;
	return *rnd >> 33;
}

static void run_model(struct sim_config cfg)
{
	u64 rnd = cfg.seed = sim_seed(77), base[FILES], word[FILES][PAGES] = { 0 };
	struct rig r = rig_new(&cfg);
	struct file *f[FILES];
	static const char *const path[FILES] = { "/0", "/1", "/2", "/3" };

	for (u32 i = 0; i < FILES; i++)
		base[i] = map_new(&r, path[i], PAGES, &f[i]);
	set(r.q, WB_DIRTY_BACKGROUND_BYTES, 100 * PAGE_SIZE);
	set(r.q, WB_DIRTY_BYTES, 300 * PAGE_SIZE);
	for (u32 n = 0; n < 6000; n++) {
		u64 i = next(&rnd) % FILES, p = next(&rnd) % PAGES, at = base[i] + p * PAGE_SIZE;

		switch (next(&rnd) % 32) {
		case 0:
			sim_advance_clock(r.q, next(&rnd) % (20 * SECOND));
			wb_flusher_once(r.q, 0);
			break;
		case 1:
			assert_int_equal(filemap_sync(f[i]->mapping, p << PAGE_SHIFT, (p + 30) << PAGE_SHIFT, true), 0);
			break;
		case 2:
			try_to_free_pages(r.q, GFP_KERNEL, 0);
			break;
		case 3:
			sim_file_fail_nth(f[i], 1 + next(&rnd) % 4, -EIO);
			wb_flusher_once(r.q, 0);
			sim_file_fail_nth(f[i], 0, 0);
			break;
		case 4:
			assert_int_equal(sim_file_truncate(f[i], p << PAGE_SHIFT), 0);
			assert_int_equal(sim_file_truncate(f[i], PAGES << PAGE_SHIFT), 0);
			memset(&word[i][p], 0, (PAGES - p) * 8);
			break;
		default:
			if (next(&rnd) % 3)
				store8(&r, at, word[i][p] = n + 1);
			else
				assert_int_equal(load8(&r, at), word[i][p]);
		}
		if (n % 64 == 0)
			check_list(r.q);
	}
	assert_true(event(r.q, NR_WRITTEN) > 300);
	for (u32 i = 0; i < FILES; i++) {
		assert_int_equal(filemap_sync(f[i]->mapping, 0, ~0ull, true), 0);
		for (u64 p = 0; p < PAGES; p++)
			assert_int_equal(on_disk(f[i], p), word[i][p]);
		file_end(&r, base[i], f[i]);
	}
	assert_int_equal(r.q->nr_dirty_pages + r.q->nr_writeback_pages, 0);
	check_list(r.q);
	rig_free(&r);
}

static void test_model(void **state)
{
	run_model((struct sim_config){ .memory = 16 * MIB, .break_percent = 10 });
	run_model((struct sim_config){ .memory = 16 * MIB, .tlb = SIM_TLB_HOSTED });
	run_model((struct sim_config){ .memory = 16 * MIB, .hw_dbm = true });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_settings), cmocka_unit_test(test_limits_and_views), cmocka_unit_test(test_kupdate),
		cmocka_unit_test(test_background), cmocka_unit_test(test_throttled_alone), cmocka_unit_test(test_broken_disk),
		cmocka_unit_test(test_throttled_crowd), cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
