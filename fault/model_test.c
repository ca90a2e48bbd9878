/*
 * Random touches, forks, copies, protections and plain I/O in several address spaces against a flat model: arrays of
 * bytes.
 *
 * Each mm has four regions at fixed places:
 *   ANON    private anonymous memory    model: bytes and a protection per page, copied by fork
 *   PRIV    a file, private             model: bytes and "copied" per page; else the file's
 *   SHARED  the same file, shared       model: the file's bytes
 *   SHM     a shmem object              model: one array for all
 * After each step the touched bytes are compared; at intervals every counter: each folio's mapcount and refcount
 * against the entries of all mms, each mm's rss, and every TLB against the tables.
 */
#include "testutil.h"

#define MAX_MMS 4u
#define ANON_PAGES 192u
#define FILE_PAGES 24u
#define SHM_PAGES 48u
#define ANON_AT 0x10000000ul
#define PRIV_AT 0x20003000ul /* not at a 64 KiB boundary */
#define SHARED_AT 0x30000000ul
#define SHM_AT 0x40000000ul

struct model_mm {
	struct mm_struct *mm; /* NULL: free slot */
	u8 *anon;
	u8 prot[ANON_PAGES];  /* 0 none, 1 read, 2 read-write, 3 not mapped */
	u8 *priv;
	bool copied[FILE_PAGES];
};

struct world {
	struct rig r;
	u64 seed;
	struct model_mm mms[MAX_MMS];
	struct model_mm *on; /* whom the CPU runs */
	struct test_file *t;
	struct file *shm_file;
	u8 *file, *shm;
	u64 shm_pages;
	u64 steps;
};

static u64 rnd(struct world *w, u64 n)
{
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (w->seed >> 24) % n;
}

static void map_all(struct world *w, struct mm_struct *mm)
{
	map_anon(mm, ANON_AT, ANON_PAGES * PAGE_SIZE, RW);
	assert_true(do_mmap(mm, w->t->file, PRIV_AT, FILE_PAGES * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED, 0) > 0);
	assert_true(do_mmap(mm, w->t->file, SHARED_AT, FILE_PAGES * PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, 0) > 0);
	assert_true(do_mmap(mm, w->shm_file, SHM_AT, SHM_PAGES * PAGE_SIZE, RW, MAP_SHARED | MAP_FIXED, 0) > 0);
}

static void slot_init(struct model_mm *m, struct mm_struct *mm)
{
	m->mm = mm;
	m->anon = calloc(ANON_PAGES, PAGE_SIZE);
	m->priv = calloc(FILE_PAGES, PAGE_SIZE);
	memset(m->prot, 2, sizeof(m->prot));
	memset(m->copied, 0, sizeof(m->copied));
}

/* ---- where an address leads in the model ---- */
struct place {
	u64 addr;
	u8 *bytes;    /* NULL: no such page */
	int code;     /* the signal's si_code if not allowed; 0 = allowed */
	int sig;
};

static struct place place_of(struct world *w, bool write)
{
	struct model_mm *m = w->on;
	u64 region = rnd(w, 4), off = rnd(w, PAGE_SIZE / 8) * 8, page;
	struct place p = { 0 };

	switch (region) {
	case 0:
		page = rnd(w, ANON_PAGES);
		p.addr = ANON_AT + page * PAGE_SIZE + off;
		p.bytes = m->anon + page * PAGE_SIZE + off;
		p.sig = 11;
		p.code = m->prot[page] == 3 ? 1 : m->prot[page] == 0 || (write && m->prot[page] == 1) ? 2 : 0;
		break;
	case 1:
		page = rnd(w, FILE_PAGES);
		p.addr = PRIV_AT + page * PAGE_SIZE + off;
		if (write && !m->copied[page]) {
			memcpy(m->priv + page * PAGE_SIZE, w->file + page * PAGE_SIZE, PAGE_SIZE);
			m->copied[page] = true;
		}
		p.bytes = (m->copied[page] ? m->priv : w->file) + page * PAGE_SIZE + off;
		break;
	case 2:
		page = rnd(w, FILE_PAGES);
		p.addr = SHARED_AT + page * PAGE_SIZE + off;
		p.bytes = w->file + page * PAGE_SIZE + off;
		break;
	default:
		page = rnd(w, SHM_PAGES);
		p.addr = SHM_AT + page * PAGE_SIZE + off;
		p.bytes = w->shm + page * PAGE_SIZE + off;
		p.sig = 7;
		p.code = page >= w->shm_pages ? 2 : 0;
	}
	return p;
}

/* ---- steps ---- */
static void step_access(struct world *w, bool write)
{
	struct place p = place_of(w, write);
	u64 v = rnd(w, ~0ull), got = 0;
	int err = write ? sim_store(w->r.cpu, p.addr, 8, v) : sim_load(w->r.cpu, p.addr, 8, &got);

	if (p.code) {
		assert_int_equal(err, -EFAULT);
		assert_int_equal(w->r.cpu->info.sig, p.sig);
		assert_int_equal(w->r.cpu->info.code, p.code);
		return;
	}
	assert_int_equal(err, 0);
	if (write)
		memcpy(p.bytes, &v, 8);
	else
		assert_int_equal(got, *(u64 *)(void *)p.bytes);
}

/* The kernel's way to the same bytes. */
static void step_vm_access(struct world *w, bool write)
{
	struct place p = place_of(w, write);
	u64 v = rnd(w, ~0ull), got = 0;
	long n = access_process_vm(w->on->mm, p.addr, write ? &v : &got, 8, write);

	assert_int_equal(n, p.code ? -EFAULT : 8);
	if (p.code)
		return;
	if (write)
		memcpy(p.bytes, &v, 8);
	else
		assert_int_equal(got, *(u64 *)(void *)p.bytes);
}

static void step_switch(struct world *w)
{
	struct model_mm *m = &w->mms[rnd(w, MAX_MMS)];

	if (!m->mm)
		return;
	w->on = m;
	sim_cpu_switch_mm(w->r.cpu, m->mm);
}

static void step_fork(struct world *w)
{
	struct model_mm *m = &w->mms[rnd(w, MAX_MMS)], *from = w->on;
	struct mm_struct *child;

	if (m->mm)
		return;
	child = dup_mm(from->mm);
	assert_false(IS_ERR(child));
	slot_init(m, child);
	memcpy(m->anon, from->anon, ANON_PAGES * PAGE_SIZE);
	memcpy(m->priv, from->priv, FILE_PAGES * PAGE_SIZE);
	memcpy(m->prot, from->prot, sizeof(m->prot));
	memcpy(m->copied, from->copied, sizeof(m->copied));
}

static void drop_slot(struct model_mm *m)
{
	mmput(m->mm);
	free(m->anon);
	free(m->priv);
	m->mm = NULL;
}

static void step_exit(struct world *w)
{
	struct model_mm *m = &w->mms[rnd(w, MAX_MMS)];

	if (m->mm && m != w->on)
		drop_slot(m);
}

static void step_protect(struct world *w)
{
	static const u64 prots[] = { PROT_NONE, PROT_READ, RW };
	struct model_mm *m = w->on;
	u64 page = rnd(w, ANON_PAGES), n = 1 + rnd(w, 20), kind = rnd(w, 4), addr = ANON_AT + page * PAGE_SIZE, i;

	n = MIN(n, ANON_PAGES - page);
	if (kind == 3) {
		assert_int_equal(do_munmap(m->mm, addr, n * PAGE_SIZE), 0);
		memset(m->anon + page * PAGE_SIZE, 0, n * PAGE_SIZE);
		memset(m->prot + page, 3, n);
		if (rnd(w, 4)) {
			map_anon(m->mm, addr, n * PAGE_SIZE, RW);
			memset(m->prot + page, 2, n);
		}
		return;
	}
	for (i = 0; i < n; i++)
		if (m->prot[page + i] == 3)
			return;
	assert_int_equal(do_mprotect(m->mm, addr, n * PAGE_SIZE, prots[kind]), 0);
	memset(m->prot + page, (int)kind, n);
}

static void step_file(struct world *w)
{
	u64 off = rnd(w, FILE_PAGES * PAGE_SIZE), len = 1 + rnd(w, 6000);
	static u8 buf[6000];

	len = MIN(len, FILE_PAGES * PAGE_SIZE - off);
	switch (rnd(w, 4)) {
	case 0:
		memset(buf, (int)rnd(w, 256), len);
		assert_int_equal(filemap_write(w->t->m, off, buf, len), len);
		memcpy(w->file + off, buf, len);
		break;
	case 1:
		assert_int_equal(filemap_read(w->t->m, off, buf, len), len);
		assert_memory_equal(buf, w->file + off, len);
		break;
	case 2:
		assert_int_equal(filemap_sync(w->t->m, 0, ~0ull, true), 0);
		assert_memory_equal(w->t->data, w->file, FILE_PAGES * PAGE_SIZE);
		break;
	default: /* what is clean may leave the cache */
		assert_int_equal(filemap_sync(w->t->m, 0, ~0ull, false), 0);
		invalidate_mapping_range(w->t->m, rnd(w, FILE_PAGES) * PAGE_SIZE, FILE_PAGES * PAGE_SIZE);
	}
}

static void step_shm(struct world *w)
{
	u64 pages = rnd(w, SHM_PAGES + 1);

	if (rnd(w, 3)) {
		u64 a = MIN(pages, w->shm_pages), n = rnd(w, 8), b = MIN(a + n, w->shm_pages);

		assert_int_equal(filemap_punch_hole(w->shm_file->mapping, a * PAGE_SIZE, b * PAGE_SIZE), 0);
		memset(w->shm + a * PAGE_SIZE, 0, (b - a) * PAGE_SIZE);
		return;
	}
	assert_int_equal(shmem_set_size(w->shm_file->mapping, pages * PAGE_SIZE), 0);
	if (pages < w->shm_pages)
		memset(w->shm + pages * PAGE_SIZE, 0, (SHM_PAGES - pages) * PAGE_SIZE);
	w->shm_pages = pages;
}

static void step_reclaim(struct world *w)
{
	w->r.q->hooks.try_to_free_pages(w->r.q, GFP_KERNEL, 0);
}

/* ---- the books ---- */
static void count_entries(struct world *w, const struct model_mm *m, u32 *maps)
{
	s64 rss[NR_MM_COUNTERS] = { 0 };
	struct pt_iter it;

	pt_iter_init(&it, w->r.q, m->mm->pgd, 0, m->mm->task_size);
	while (pt_iter_next(&it)) {
		pte_t p = pte_read(it.slot);
		struct folio *folio;

		if (!pte_present(p) || pte_special(p))
			continue;
		folio = pte_folio(m->mm, p);
		rss[mm_counter(folio)]++;
		maps[folio_pfn(w->r.q, folio)]++;
		/* Exclusive means exclusive. */
		if (pte_excl(p))
			assert_int_equal(folio->f.type, FRAME_ANON);
	}
	for (u32 i = 0; i < NR_MM_COUNTERS; i++)
		assert_int_equal(rss[i], m->mm->rss[i]);
}

static void check_books(struct world *w)
{
	struct quire *q = w->r.q;
	u32 pages = (u32)(q->cfg.memory >> PAGE_SHIFT), *maps = calloc(pages, sizeof(*maps)), i;
	u64 anon = 0, mapped = 0;

	for (i = 0; i < MAX_MMS; i++)
		if (w->mms[i].mm)
			count_entries(w, &w->mms[i], maps);
	spin_lock(&q->lock);
	for (i = 0; i < pages; i++) {
		struct frame *f = pfn_to_frame(q, i);
		bool cached = (f->type == FRAME_FILE || f->type == FRAME_SHMEM) && f->mapping;

		if (f->type != FRAME_ANON && f->type != FRAME_FILE && f->type != FRAME_SHMEM) {
			assert_int_equal(maps[i], 0);
			continue;
		}
		assert_int_equal(f->mapcount, maps[i]);
		assert_int_equal(f->refcount, maps[i] + cached);
		if (f->type == FRAME_ANON)
			anon += 1u << f->order;
		else if (f->mapcount)
			mapped += 1u << f->order;
	}
	assert_int_equal(q->nr_anon_pages, anon);
	assert_int_equal(q->nr_file_mapped, mapped);
	assert_true(mapping_is_valid(w->t->m));
	assert_true(mapping_is_valid(w->shm_file->mapping));
	spin_unlock(&q->lock);
	assert_int_equal(sim_tlb_check(q), 0);
	assert_int_equal(port_ctx()->nparked, 0);
	free(maps);
}

static void step(struct world *w)
{
	u64 k = rnd(w, 100);

	if (k < 40)
		step_access(w, true);
	else if (k < 70)
		step_access(w, false);
	else if (k < 78)
		step_vm_access(w, k & 1);
	else if (k < 84)
		step_switch(w);
	else if (k < 87)
		step_fork(w);
	else if (k < 89)
		step_exit(w);
	else if (k < 93)
		step_protect(w);
	else if (k < 97)
		step_file(w);
	else if (k < 99)
		step_shm(w);
	else
		step_reclaim(w);
}

static void run_model(const struct sim_config *cfg, u64 seed, u64 steps)
{
	struct world w = { .seed = seed, .shm_pages = SHM_PAGES };
	u32 i;

	w.r = rig_new(cfg);
	w.t = tf_new(w.r.q, 1, FILE_PAGES * PAGE_SIZE, 0);
	w.file = malloc(FILE_PAGES * PAGE_SIZE);
	memcpy(w.file, w.t->data, FILE_PAGES * PAGE_SIZE);
	w.shm = calloc(SHM_PAGES, PAGE_SIZE);
	w.shm_file = shmem_file_setup(w.r.q, "memfd:model", SHM_PAGES * PAGE_SIZE, 0);
	assert_non_null(w.shm_file);
	slot_init(&w.mms[0], w.r.mm);
	w.r.mm = NULL;
	w.on = &w.mms[0];
	map_all(&w, w.on->mm);
	for (w.steps = 0; w.steps < steps; w.steps++) {
		step(&w);
		if (w.steps % 64 == 0)
			check_books(&w);
	}
	check_books(&w);
	sim_cpu_switch_mm(w.r.cpu, NULL);
	for (i = 0; i < MAX_MMS; i++)
		if (w.mms[i].mm)
			drop_slot(&w.mms[i]);
	file_put(w.t->file);
	file_put(w.shm_file);
	assert_memory_equal(w.t->data, w.file, FILE_PAGES * PAGE_SIZE);
	tf_free(w.t);
	free(w.file);
	free(w.shm);
	rig_free(&w.r);
}

static u64 model_steps(void)
{
	const char *s = getenv("QUIRE_STEPS");

	return s ? strtoull(s, NULL, 0) : 6000;
}

static struct sim_config config(u32 order, enum sim_tlb_mode tlb)
{
	return (struct sim_config){ .memory = 32 * MIB, .folio_max_order = order, .tlb = tlb, .overcommit_memory = 1,
				    .break_percent = 20, .check_law1 = true, .check_reuse = true, .nr_cpus = 2 };
}

static void test_4k(void **state)
{
	struct sim_config cfg = config(0, SIM_TLB_STRICT);

	(void)state;
	run_model(&cfg, sim_seed(101), model_steps());
}

static void test_64k(void **state)
{
	struct sim_config cfg = config(4, SIM_TLB_NORMAL);

	(void)state;
	run_model(&cfg, sim_seed(102), model_steps());
}

static void test_64k_hosted_tlb(void **state)
{
	struct sim_config cfg = config(4, SIM_TLB_HOSTED);

	(void)state;
	run_model(&cfg, sim_seed(103), model_steps());
}

static void test_hardware_dirty(void **state)
{
	struct sim_config cfg = config(4, SIM_TLB_NORMAL);

	(void)state;
	cfg.hw_af = cfg.hw_dbm = true;
	run_model(&cfg, sim_seed(104), model_steps());
}

static void test_junk_ram(void **state)
{
	struct sim_config cfg = config(4, SIM_TLB_STRICT);

	(void)state;
	cfg.no_virgin_zero = true;
	cfg.debug_poison = true;
	run_model(&cfg, sim_seed(105), model_steps());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_4k), cmocka_unit_test(test_64k), cmocka_unit_test(test_64k_hosted_tlb),
		cmocka_unit_test(test_hardware_dirty), cmocka_unit_test(test_junk_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
