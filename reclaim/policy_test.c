/*
 * Policies, and what reclaim promises whatever the policy: no byte is lost, what is used stays longer than what is not, locked
 * pages stay, what was given up goes, refaults are noticed, and a machine that thrashes does not do so for ever.
 */
#include "../fault/testutil.h"
#include <port/sim/simfs.h>
#include "reclaim.h"

static bool lists_ok(struct quire *q)
{
	bool ok;

	spin_lock(&q->lock);
	ok = lru_is_valid(q);
	spin_unlock(&q->lock);
	return ok;
}

static u64 event(struct quire *q, enum vm_event_item e)
{
	return q->vm_events[e];
}

/* Runs a test on a machine of each policy. */
static void with_each_policy(struct sim_config cfg, void (*fn)(struct rig *r))
{
	for (unsigned i = 0; reclaim_policy_nth(i); i++) {
		struct rig r;

		cfg.policy = reclaim_policy_nth(i);
		r = rig_new(&cfg);
		fn(&r);
		assert_true(lists_ok(r.q));
		rig_free(&r);
	}
}

/* A file of `pages` pages, each beginning with its number, mapped. */
static u64 numbered_file(struct rig *r, const char *path, u64 pages, struct file **f)
{
	u64 *bytes = calloc(pages, PAGE_SIZE);

	for (u64 i = 0; i < pages; i++)
		bytes[i * PAGE_SIZE / 8] = i;
	*f = sim_file_create(r->q, path, bytes, pages * PAGE_SIZE);
	free(bytes);
	assert_non_null(*f);
	return map_file(r->mm, *f, pages * PAGE_SIZE, RW, MAP_SHARED, 0);
}

static u64 resident(struct rig *r, u64 addr, u64 pages)
{
	u64 n = 0;

	for (u64 i = 0; i < pages; i++)
		n += pte_present(pte_of(r->mm, addr + i * PAGE_SIZE));
	return n;
}

/* ---- what is used stays ---- */

/* Sixteen pages are used again and again while 16 MiB are read once through 8 MiB: they are hardly ever missed. */
static void hot_set(struct rig *r)
{
	struct file *hot, *cold;
	u64 h = numbered_file(r, "/hot", 16, &hot), c = numbered_file(r, "/cold", 4096, &cold), missed = 0;

	for (u64 i = 0; i < 4096; i++) {
		assert_int_equal(load8(r, c + i * PAGE_SIZE), i);
		missed += i >= 16 && !pte_present(pte_of(r->mm, h + i % 16 * PAGE_SIZE));
		assert_int_equal(load8(r, h + i % 16 * PAGE_SIZE), i % 16);
	}
	print_message("%s: %lu of 4080 uses missed\n", r->q->lru.policy->name, (unsigned long)missed);
	assert_true(missed < 64);
	assert_true(event(r->q, PGSTEAL_FILE) > 2000);
	file_end(r, h, hot);
	file_end(r, c, cold);
}

static void test_hot_set(void **state)
{
	with_each_policy((struct sim_config){ .memory = 8 * MIB, .host_files = true }, hot_set);
	with_each_policy((struct sim_config){ .memory = 8 * MIB, .break_percent = 10 }, hot_set);
}

/* ---- random operations against what the pages must hold ---- */

#define MODEL_PAGES 2600u

struct model {
	struct rig *r;
	u64 rnd, file, anon;
	struct file *t;
	u64 file_word[MODEL_PAGES], anon_word[MODEL_PAGES];
	bool given_up[MODEL_PAGES]; /* MADV_FREE: reads as before or zero */
};

static u64 draw(struct model *m, u64 n)
{
	m->rnd = m->rnd * 6364136223846793005ull + 1442695040888963407ull;
	return (m->rnd >> 33) % n;
}

static void check_anon(struct model *m, u64 i)
{
	u64 v = load8(m->r, m->anon + i * PAGE_SIZE);

	if (m->given_up[i] && !v)
		m->anon_word[i] = 0;
	assert_int_equal(v, m->anon_word[i]);
}

static void model_step(struct model *m)
{
	u64 i = draw(m, 4) ? draw(m, MODEL_PAGES) : draw(m, 200), a = m->anon + i % 256 * PAGE_SIZE, v = draw(m, 1ull << 30) + 1;

	switch (draw(m, 40)) {
	case 0:
		store8(m->r, m->file + i * PAGE_SIZE, m->file_word[i] = v);
		break;
	case 1: case 2: case 3:
		store8(m->r, a, m->anon_word[i % 256] = v);
		m->given_up[i % 256] = false;
		break;
	case 4:
		assert_int_equal(do_madvise(m->r->mm, a, PAGE_SIZE, MADV_FREE), 0);
		m->given_up[i % 256] = true;
		break;
	case 5: case 6: case 7:
		check_anon(m, i % 256);
		break;
	case 8:
		assert_int_equal(do_madvise(m->r->mm, m->file + i * PAGE_SIZE, PAGE_SIZE, draw(m, 2) ? MADV_COLD : MADV_PAGEOUT), 0);
		break;
	case 9:
		if (draw(m, 2))
			do_mlock(m->r->mm, m->file + i * PAGE_SIZE, PAGE_SIZE, 0);
		else
			do_munlock(m->r->mm, m->file, MODEL_PAGES * PAGE_SIZE);
		break;
	default:
		assert_int_equal(load8(m->r, m->file + i * PAGE_SIZE), m->file_word[i]);
	}
}

static void model(struct rig *r)
{
	struct model *m = calloc(1, sizeof(*m));
	const char *steps = getenv("QUIRE_STEPS");

	m->r = r;
	m->rnd = sim_seed(11);
	m->file = numbered_file(r, "/model", MODEL_PAGES, &m->t);
	m->anon = map_anon(r->mm, 0, 256 * PAGE_SIZE, RW);
	r->mm->rlim_memlock = 64 * PAGE_SIZE;
	for (u64 i = 0; i < MODEL_PAGES; i++)
		m->file_word[i] = i;
	for (u64 n = steps ? strtoull(steps, NULL, 0) : 20000; n; n--) {
		model_step(m);
		if (n % 2000 == 0)
			assert_true(lists_ok(r->q) && mm_is_valid(r->mm));
	}
	for (u64 i = 0; i < 256; i++)
		check_anon(m, i);
	for (u64 i = 0; i < MODEL_PAGES; i++)
		assert_int_equal(load8(r, m->file + i * PAGE_SIZE), m->file_word[i]);
	assert_true(event(r->q, PGSTEAL_FILE) > 100);
	file_end(r, m->file, m->t);
	free(m);
}

static void test_model(void **state)
{
	with_each_policy((struct sim_config){ .memory = 6 * MIB, .break_percent = 10 }, model);
	with_each_policy((struct sim_config){ .memory = 6 * MIB, .host_files = true, .tlb = SIM_TLB_HOSTED }, model);
	with_each_policy((struct sim_config){ .memory = 6 * MIB, .hw_dbm = true }, model);
}

/* ---- refaults ---- */

static void refaults(struct rig *r)
{
	struct file *t;
	u64 a = numbered_file(r, "/again", 3000, &t), n;

	for (u64 i = 0; i < 3000; i++)
		load8(r, a + i * PAGE_SIZE);
	assert_int_equal(event(r->q, WORKINGSET_REFAULT_FILE), 0);
	n = 3000 - resident(r, a, 3000);
	for (u64 i = 0; i < 3000; i++)
		load8(r, a + i * PAGE_SIZE);
	/* Every page that was out came back; some of them went again before their turn. */
	assert_true(n > 500 && event(r->q, WORKINGSET_REFAULT_FILE) >= n);
	assert_true(r->q->lru.nonresident_age >= event(r->q, PGSTEAL_FILE));
	file_end(r, a, t);
	/* A new file of that number of the same disk: its pages' histories are those of the old one's. */
	assert_true(r->q->lru.refaults_soon <= event(r->q, WORKINGSET_REFAULT_FILE));
}

static void test_refaults(void **state)
{
	with_each_policy((struct sim_config){ .memory = 8 * MIB }, refaults);
}

/* A page that comes back at once has a better claim than the active ones. */
static void test_refault_activates(void **state)
{
	struct sim_config cfg = { .memory = 16 * MIB };
	struct rig r = rig_new(&cfg);
	struct file *hot, *t;
	u64 h = numbered_file(&r, "/hot", 512, &hot), a = numbered_file(&r, "/cool", 64, &t);

	for (int round = 0; round < 2; round++)
		for (u64 i = 0; i < 512; i++)
			load8(&r, h + i * PAGE_SIZE);
	madvise_cold(r.mm, a, a + 64 * PAGE_SIZE, false);
	for (u64 i = 0; i < 64; i++)
		load8(&r, a + i * PAGE_SIZE);
	for (int i = 0; i < 8 && !r.q->nr_lru_pages[LRU_ACTIVE_FILE]; i++)
		try_to_free_pages(r.q, GFP_KERNEL, 0);
	madvise_cold(r.mm, a, a + 64 * PAGE_SIZE, true);
	assert_int_equal(resident(&r, a, 64), 0);
	assert_int_equal(event(r.q, WORKINGSET_ACTIVATE_FILE), 0);
	for (u64 i = 0; i < 64; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE), i);
	assert_true(event(r.q, WORKINGSET_ACTIVATE_FILE) >= 32);
	file_end(&r, h, hot);
	file_end(&r, a, t);
	rig_free(&r);
}

/* The same for anonymous memory: what went to swap and is wanted at once becomes active. */
static void anon_refaults(struct rig *r)
{
	u64 a = map_anon(r->mm, 0, 600 * PAGE_SIZE, RW), c = map_anon(r->mm, 0, 64 * PAGE_SIZE, RW);

	assert_int_equal(swapon_compressed(r->q, "/dev/zram0", 4096, SWAP_PRIO_DEFAULT), 0);
	for (u64 i = 0; i < 600; i++)
		store8(r, a + i * PAGE_SIZE, i);
	for (u64 i = 0; i < 64; i++)
		store8(r, c + i * PAGE_SIZE, i);
	/* Someone is active: what comes back is compared with that. */
	for (int i = 0; i < 8 && r->q->nr_lru_pages[LRU_ACTIVE_ANON] < 300; i++)
		try_to_free_pages(r->q, GFP_KERNEL, 0);
	for (u64 i = 0; i < 600; i++)
		load8(r, a + i * PAGE_SIZE);
	assert_int_equal(do_madvise(r->mm, c, 64 * PAGE_SIZE, MADV_PAGEOUT), 0);
	assert_true(r->mm->rss[MM_SWAPENTS] >= 64);
	for (u64 i = 0; i < 64; i++)
		assert_int_equal(load8(r, c + i * PAGE_SIZE), i);
	assert_true(event(r->q, WORKINGSET_REFAULT_ANON) >= 64);
	assert_true(event(r->q, WORKINGSET_ACTIVATE_ANON) >= 64);
	rig_drop_mm(r);
	assert_int_equal(swapoff(r->q, "/dev/zram0"), 0);
}

static void test_anon_refault_activates(void **state)
{
	static const char *const policies[] = { "second-chance", "generations" }; /* the clock knows no active pages */

	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
		struct sim_config cfg = { .memory = 16 * MIB, .policy = reclaim_policy_by_name(policies[i]) };
		struct rig r = rig_new(&cfg);

		anon_refaults(&r);
		assert_true(lists_ok(r.q));
		rig_free(&r);
	}
}

/* What share of what reclaim took was anonymous, after one kind had turned out to cost something. */
static u64 anon_share_of_cost(u64 anon_cost, u64 file_cost)
{
	struct sim_config cfg = { .memory = 16 * MIB };
	struct rig r = rig_new(&cfg);
	struct file *t;
	u64 f = numbered_file(&r, "/shared", 1200, &t), a = map_anon(r.mm, 0, 1200 * PAGE_SIZE, RW), anon = 0, all = 0;

	assert_int_equal(swapon_compressed(r.q, "/dev/zram0", 4096, SWAP_PRIO_DEFAULT), 0);
	assert_int_equal(set_swappiness(r.q, 100), 0);
	for (u64 i = 0; i < 1200; i++) {
		load8(&r, f + i * PAGE_SIZE);
		store8(&r, a + i * PAGE_SIZE, i);
	}
	for (int i = 0; i < 12; i++) {
		r.q->lru.cost[LRU_KIND_ANON] = anon_cost;
		r.q->lru.cost[LRU_KIND_FILE] = file_cost;
		try_to_free_pages(r.q, GFP_KERNEL, 0);
	}
	anon = event(r.q, PGSTEAL_ANON);
	all = anon + event(r.q, PGSTEAL_FILE);
	assert_true(all > 200);
	file_end(&r, f, t);
	rig_drop_mm(&r);
	assert_int_equal(swapoff(r.q, "/dev/zram0"), 0);
	rig_free(&r);
	return anon * 100 / all;
}

/* A restored refault costs, old costs fade, and reclaim leans to the kind that costs less. */
static void test_cost(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	u64 dear = anon_share_of_cost(500, 0), even = anon_share_of_cost(0, 0), cheap = anon_share_of_cost(0, 500);

	print_message("anonymous share by cost: %lu, %lu, %lu %%\n", (unsigned long)dear, (unsigned long)even, (unsigned long)cheap);
	assert_true(dear + 5 < even && even + 5 < cheap);
	q->nr_lru_pages[LRU_ACTIVE_FILE] += 4096;
	lru_note_cost(q, LRU_KIND_ANON, 10, 3);
	assert_int_equal(q->lru.cost[LRU_KIND_ANON], 323);
	lru_note_cost(q, LRU_KIND_FILE, 0, 701);
	assert_int_equal(q->lru.cost[LRU_KIND_ANON], 323);
	assert_int_equal(q->lru.cost[LRU_KIND_FILE], 701);
	lru_note_cost(q, LRU_KIND_FILE, 0, 1);
	assert_int_equal(q->lru.cost[LRU_KIND_ANON], 161);
	assert_int_equal(q->lru.cost[LRU_KIND_FILE], 351);
	q->nr_lru_pages[LRU_ACTIVE_FILE] -= 4096;
	sim_machine_free(q);
}

/* ---- what was given up goes, what is locked stays ---- */

static void lazyfree(struct rig *r)
{
	u64 a = map_anon(r->mm, 0, 256 * PAGE_SIZE, RW), n = 1ul << r->q->cfg.folio_max_order;

	for (u64 i = 0; i < 256; i++)
		store8(r, a + i * PAGE_SIZE, i + 1);
	assert_int_equal(do_madvise(r->mm, a, 256 * PAGE_SIZE, MADV_FREE), 0);
	assert_int_equal(event(r->q, PGLAZYFREE), 256);
	for (u64 i = 0; i < 256; i += 8)
		store8(r, a + i * PAGE_SIZE, i + 1000);
	for (int i = 0; i < 40; i++)
		try_to_free_pages(r->q, GFP_KERNEL, 0);
	/* No swap: the folios that were written to since are all that is left. */
	assert_int_equal(resident(r, a, 256), 32 * n);
	assert_int_equal(event(r->q, PGLAZYFREED), 256 - 32 * n);
	for (u64 i = 0; i < 256; i++)
		assert_int_equal(load8(r, a + i * PAGE_SIZE), i % 8 ? (i % 8 < n ? i + 1 : 0) : i + 1000);
}

static void test_lazyfree_without_swap(void **state)
{
	with_each_policy((struct sim_config){ .memory = 16 * MIB }, lazyfree);
	with_each_policy((struct sim_config){ .memory = 16 * MIB, .folio_max_order = 2, .tlb = SIM_TLB_HOSTED }, lazyfree);
}

static void locked(struct rig *r)
{
	struct file *t;
	u64 a = numbered_file(r, "/locked", 128, &t);

	r->mm->rlim_memlock = ~0ull;
	assert_int_equal(do_mlock(r->mm, a, 128 * PAGE_SIZE, 0), 0);
	for (int i = 0; i < 20; i++)
		try_to_free_pages(r->q, GFP_KERNEL, 0);
	assert_int_equal(resident(r, a, 128), 128);
	assert_int_equal(r->q->nr_lru_pages[LRU_UNEVICTABLE], 128);
	assert_int_equal(do_munlock(r->mm, a, 128 * PAGE_SIZE), 0);
	for (int i = 0; i < 40; i++)
		try_to_free_pages(r->q, GFP_KERNEL, 0);
	assert_int_equal(resident(r, a, 128), 0);
	assert_int_equal(event(r->q, UNEVICTABLE_PGRESCUED), 128);
	file_end(r, a, t);
}

static void test_locked_pages(void **state)
{
	with_each_policy((struct sim_config){ .memory = 16 * MIB }, locked);
}

/* ---- swappiness ---- */

static u64 anon_share(u32 swappiness)
{
	struct sim_config cfg = { .memory = 16 * MIB };
	struct rig r = rig_new(&cfg);
	struct file *t;
	u64 f = numbered_file(&r, "/shared", 1200, &t), a = map_anon(r.mm, 0, 1200 * PAGE_SIZE, RW), anon, all;

	assert_int_equal(swapon_compressed(r.q, "/dev/zram0", 4096, SWAP_PRIO_DEFAULT), 0);
	assert_int_equal(set_swappiness(r.q, swappiness), 0);
	for (u64 i = 0; i < 1200; i++) {
		load8(&r, f + i * PAGE_SIZE);
		store8(&r, a + i * PAGE_SIZE, i);
	}
	for (int i = 0; i < 12; i++)
		try_to_free_pages(r.q, GFP_KERNEL, 0);
	anon = event(r.q, PGSTEAL_ANON);
	all = anon + event(r.q, PGSTEAL_FILE);
	assert_true(all > 200);
	for (u64 i = 0; i < 1200; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE), i);
	file_end(&r, f, t);
	rig_drop_mm(&r);
	assert_int_equal(swapoff(r.q, "/dev/zram0"), 0);
	rig_free(&r);
	return anon * 100 / all;
}

static void test_swappiness(void **state)
{
	u64 none = anon_share(0), some = anon_share(60), most = anon_share(200);
	struct quire *q = sim_machine_new(NULL);

	print_message("anonymous share of what was reclaimed: %lu, %lu, %lu %%\n", (unsigned long)none, (unsigned long)some,
		      (unsigned long)most);
	assert_int_equal(none, 0);
	assert_in_range(some, 10, 70);
	assert_true(most > 90);
	assert_int_equal(set_swappiness(q, 201), -EINVAL);
	assert_int_equal(set_swappiness(q, -1), -EINVAL);
	sim_machine_free(q);
}

/* ---- thrashing ---- */

#define SECOND 1000000000ull

/* Fills memory with anonymous pages until reclaim has only about `left` pages to choose from. */
static void squeeze(struct rig *r, u64 left)
{
	u64 free;
	long a = do_mmap(r->mm, NULL, 0, 64 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);

	assert_true(a > 0);
	for (u64 i = 0;; i++) {
		free = nr_free_pages(r->q) + r->q->nr_lru_pages[LRU_INACTIVE_FILE] + r->q->nr_lru_pages[LRU_ACTIVE_FILE];
		if (free <= left + r->q->phys.zones[ZONE_DMA].watermark[WMARK_HIGH])
			return;
		store8(r, (u64)a + i * PAGE_SIZE, i);
	}
}

/* Uses `pages` pages of a file at random, so fast that `rate` uses take a second.  Returns the seconds until somebody was killed,
 * or `most`. */
static u64 use_at_random(struct rig *r, u64 addr, u64 pages, u64 rate, u64 most)
{
	u64 rnd = 1;

	for (u64 s = 0; s < most; s++) {
		for (u64 i = 0; i < rate; i++) {
			rnd = rnd * 6364136223846793005ull + 1442695040888963407ull;
			load8(r, addr + (rnd >> 33) % pages * PAGE_SIZE);
			sim_advance_clock(r->q, SECOND / rate);
			if (sim_signals_sent(r->q, 77, 9))
				return s;
		}
	}
	return most;
}

static void thrash(struct rig *r)
{
	struct task *t = task_create(r->q, 77, 1, "greedy");
	struct file *f;
	u64 a = numbered_file(r, "/sliver", 512, &f), seconds;

	mmget(r->mm);
	task_set_mm(t, r->mm);
	squeeze(r, 200);
	seconds = use_at_random(r, a, 512, 20000, 20);
	print_message("%s: killed after %lu s\n", r->q->lru.policy->name, (unsigned long)seconds);
	assert_in_range(seconds, 4, 8);
	assert_non_null(strstr(sim_log_text(r->q), "Thrashing: "));
	assert_int_equal(r->q->reclaim.thrash_kills, 1);
	assert_false(r->q->reclaim.thrashing);
	task_exit(t);
	file_end(r, a, f);
}

static void test_thrashing_ends(void **state)
{
	with_each_policy((struct sim_config){ .memory = 8 * MIB, .host_files = true }, thrash);
}

/* Much work in little memory is no thrashing: a file four times as large as memory, for ever; and a squeezed machine whose
 * pages are used slowly. */
static void test_work_is_not_thrashing(void **state)
{
	struct sim_config cfg = { .memory = 8 * MIB, .host_files = true };
	struct rig r = rig_new(&cfg);
	struct task *t = task_create(r.q, 77, 1, "busy");
	struct file *f, *g;
	u64 a = numbered_file(&r, "/large", 8192, &f), b = numbered_file(&r, "/slow", 512, &g);

	mmget(r.mm);
	task_set_mm(t, r.mm);
	assert_int_equal(use_at_random(&r, a, 8192, 20000, 12), 12);
	assert_true(event(r.q, WORKINGSET_REFAULT_FILE) > 10000);
	squeeze(&r, 200);
	assert_int_equal(use_at_random(&r, b, 512, 300, 12), 12);
	assert_int_equal(r.q->reclaim.thrash_kills, 0);
	task_exit(t);
	file_end(&r, a, f);
	file_end(&r, b, g);
	rig_free(&r);
}

static void test_names(void **state)
{
	assert_ptr_equal(reclaim_policy_nth(0), &policy_second_chance);
	for (unsigned i = 0; reclaim_policy_nth(i); i++)
		assert_ptr_equal(reclaim_policy_by_name(reclaim_policy_nth(i)->name), reclaim_policy_nth(i));
	assert_null(reclaim_policy_by_name("none"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names), cmocka_unit_test(test_hot_set), cmocka_unit_test(test_model),
		cmocka_unit_test(test_refaults), cmocka_unit_test(test_refault_activates),
		cmocka_unit_test(test_anon_refault_activates), cmocka_unit_test(test_cost),
		cmocka_unit_test(test_lazyfree_without_swap), cmocka_unit_test(test_locked_pages),
		cmocka_unit_test(test_swappiness), cmocka_unit_test(test_thrashing_ends),
		cmocka_unit_test(test_work_is_not_thrashing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
