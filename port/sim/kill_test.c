/*
 * Death at any instruction: a guest's life is cut off at every logged store, lock and port call in turn.  After recovery
 * every structure is valid, no lock is held, the machine lives on, and next to nothing is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <port/sim/process.h>
#include <port/sim/simfs.h>
#include <mm/mm.h>
#include <quire/swap.h>
#include <reclaim/vmscan.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sys.h>

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

struct life {
	struct sim_process *p;
	struct file *file;
	unsigned blocks;
};

typedef void (*life_fn)(struct quire *q, unsigned i, void *arg);

static unsigned count_blocks(struct mm_struct *mm)
{
	struct pt_iter it;
	unsigned n = 0;

	pt_iter_init(&it, mm->q, mm->pgd, 0, mm->task_size);
	while (pt_iter_next(&it))
		n += it.level != PT_LAST_LEVEL;
	return n;
}

/* Mappings made, split, joined, filled, moved, given up; a file; a child that writes. */
static void live(struct quire *q, unsigned i, void *arg)
{
	struct life *l = arg;
	struct task *t = l->p->task;
	struct sim_process *c;
	long a, b;
	u64 v;

	if (i)
		return;
	a = sys_mmap(t, 0, 16 * PAGE_SIZE, RW, ANON, NULL, 0);
	b = sys_mmap(t, 0, 4 * PAGE_SIZE, RW, MAP_SHARED, l->file, 0);
	sim_process_store(l->p, (u64)a, 8, 1);
	sim_process_store(l->p, (u64)a + 5 * PAGE_SIZE, 8, 2);
	sim_process_store(l->p, (u64)b, 8, 3);
	sim_process_load(l->p, (u64)b + PAGE_SIZE, 8, &v);
	sys_mprotect(t, (u64)a + 4 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ);
	c = sim_process_fork(l->p);
	if (!IS_ERR(c)) {
		sim_process_store(c, (u64)a, 8, 4);
		sim_process_exit(c);
	}
	sys_madvise(t, (u64)a, 6 * PAGE_SIZE, 21 /* MADV_PAGEOUT */);
	sim_process_load(l->p, (u64)a + 5 * PAGE_SIZE, 8, &v);
	sys_madvise(t, (u64)a, 2 * PAGE_SIZE, 4 /* MADV_DONTNEED */);
	sys_munmap(t, (u64)a + 8 * PAGE_SIZE, 4 * PAGE_SIZE);
	sys_brk(t, 0);
	sys_munmap(t, (u64)b, 4 * PAGE_SIZE);
	sys_munmap(t, (u64)a, 16 * PAGE_SIZE);
}

#define BLOCK (2ul << 20)
#define AT 0x40000000ul
#define SWAP "/dev/zram0"

/* Blocks of 2 MiB: made, shared and copied by fork, made one's own again, moved, taken apart by protection, unmapping and swap, given up. */
static void live_with_blocks(struct quire *q, unsigned i, void *arg)
{
	struct life *l = arg;
	struct task *t = l->p->task;
	struct sim_process *c;
	u64 v;

	if (i)
		return;
	sys_mmap(t, AT, 2 * BLOCK, RW, ANON | MAP_FIXED, NULL, 0);
	sys_madvise(t, AT, 2 * BLOCK, MADV_HUGEPAGE);
	sim_process_store(l->p, AT, 8, 1);
	sim_process_store(l->p, AT + BLOCK, 8, 2);
	l->blocks = count_blocks(t->mm);
	c = sim_process_fork(l->p);
	if (!IS_ERR(c)) {
		sim_process_store(c, AT + BLOCK, 8, 3);
		sim_process_exit(c);
	}
	sim_process_store(l->p, AT, 8, 4);
	sys_mremap(t, AT, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, AT + 4 * BLOCK);
	sys_mprotect(t, AT + BLOCK + 5 * PAGE_SIZE, 20 * PAGE_SIZE, PROT_READ);
	sys_madvise(t, AT + 4 * BLOCK + 64 * PAGE_SIZE, 8 * PAGE_SIZE, MADV_PAGEOUT);
	sim_process_load(l->p, AT + 4 * BLOCK + 65 * PAGE_SIZE, 8, &v);
	sys_munmap(t, AT + 4 * BLOCK + 7 * PAGE_SIZE, 3 * PAGE_SIZE);
	sys_munmap(t, AT + 4 * BLOCK, BLOCK);
	sys_mmap(t, AT, BLOCK, RW, ANON | MAP_FIXED, NULL, 0);
	sys_madvise(t, AT, BLOCK, MADV_HUGEPAGE);
	sim_process_store(l->p, AT, 8, 5);
	sys_munmap(t, AT + BLOCK - PAGE_SIZE, 2 * PAGE_SIZE);
	sys_madvise(t, AT, BLOCK, MADV_HUGEPAGE);
	sys_munmap(t, AT, BLOCK);
	sim_process_store(l->p, AT + BLOCK + PAGE_SIZE, 8, 6);
}

/* Everybody's process ends.  Address spaces without a task (a fork cut short) went with the dead context. */
static void end_all(struct quire *q)
{
	struct task *t;

	while ((t = task_next_get(q, -1))) {
		task_exit(t);
		task_put(t);
	}
	assert_null(q->mms);
}

struct figures {
	u64 frames, objects;
};

static struct figures in_use(struct quire *q)
{
	struct figures f = { 0, 0 };
	struct kmem_cache *c;

	kmem_reap(q);
	drain_all_pages(q);
	for (c = q->kmem.caches; c; c = c->next)
		if (c != &q->kmem.magazine_cache)
			f.objects += kmem_cache_live_objects(q, c);
	f.frames = totalram_pages(q) - nr_free_pages(q) - q->kmem.nr_slab_pages[0] - q->kmem.nr_slab_pages[1];
	return f;
}

/* One life that ends at event n (~0: in peace).  Returns its events. */
static u64 one_life(struct quire *q, life_fn live_it, u64 n)
{
	struct life l = { .p = sim_process_new(q, "life"), .file = sim_file_create(q, "/tmp/life", NULL, 4 * PAGE_SIZE) };
	unsigned dead;

	assert_non_null(l.p);
	assert_non_null(l.file);
	sim_kill_at(q, 0, n);
	sim_run(q, 1, live_it, &l);
	sim_kill_at(q, 0, 0);
	dead = sim_recover_dead(q);
	if (n == ~0ull && live_it == live_with_blocks)
		assert_int_equal(l.blocks, 2);
	/* A life varies by a few events with the state of the caches: the last ones may not be reached. */
	assert_int_equal(dead, sim_kill_events(q) == n);
	assert_int_equal(q->lock.word, 0);
	assert_int_equal(q->reclaim.nr_isolated, 0);
	assert_int_equal(q->swap.room[0].lock.word, 0);
	assert_true(mm_is_valid(l.p->task->mm));
	task_put(l.p->task);
	free(l.p);
	end_all(q);
	file_put(l.file);
	sim_file_unlink(q, "/tmp/life");
	return sim_kill_events(q);
}

/* What a death may cost: references that only the dead context knew of.  The core's own are in its lists (parked frames,
 * held mms, held files); not this test's reference of the child's task. */
#define MAY_LOSE_OBJECTS 1
#define MAY_LOSE_FRAMES 0

static void kill_at_every_event(struct quire *q, life_fn live_it, u64 step)
{
	u64 n, events, deaths = 0, costly = 0;
	struct figures before, now;

	one_life(q, live_it, ~0ull);
	before = in_use(q);
	events = one_life(q, live_it, ~0ull);
	now = in_use(q);
	assert_int_equal(now.frames, before.frames);
	assert_int_equal(now.objects, before.objects);
	assert_true(events > 1000); /* the stores are really seen */
	if (getenv("QUIRE_LONG"))
		step = 1;
	for (n = 1 + sim_seed(0) % step; n <= events; n += step) {
		before = now;
		one_life(q, live_it, n);
		now = in_use(q);
		assert_true(phys_is_valid(q));
		assert_in_range(now.objects - before.objects, 0, MAY_LOSE_OBJECTS);
		assert_in_range(now.frames - before.frames, 0, MAY_LOSE_FRAMES);
		costly += now.objects != before.objects;
		deaths++;
	}
	fprintf(stderr, "%llu deaths in %llu events; %llu cost an object\n", (unsigned long long)deaths,
		(unsigned long long)events, (unsigned long long)costly);
}

static void killed_at_every_event(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 32 << 20, .sched = SIM_SCHED_ONE });

	assert_int_equal(swapon_zstd(q, "/dev/zram0", SWAP_ZSTD_LEVEL_DEFAULT, 256, SWAP_PRIO_DEFAULT), 0);
	kill_at_every_event(q, live, 7);
	assert_true(q->swap.stored && q->vm_events[PSWPIN]);
	sim_machine_free(q);
}

static void killed_with_blocks(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 64 << 20, .sched = SIM_SCHED_ONE, .folio_max_order = PMD_ORDER });

	assert_int_equal(swapon_compressed(q, SWAP, 4096, SWAP_PRIO_DEFAULT), 0);
	kill_at_every_event(q, live_with_blocks, 61);
	assert_int_equal(q->swap.nr_slots_used, 0);
	assert_true(q->vm_events[THP_FAULT_ALLOC] > 0 && q->vm_events[THP_SPLIT_PAGE] > 0 && q->vm_events[PSWPOUT] > 0);
	assert_int_equal(swapoff(q, SWAP), 0);
	sim_machine_free(q);
}

/* ---- single frames, which come and go without the log ---- */

#define PURSE 40u /* frames: so many that the CPU's list is filled and emptied on the way */

struct purse {
	struct frame *f[PURSE];
	struct frame *going; /* on its way back; the dead may have given it already */
};

/* This file is not instrumented: no death comes between an event of the core and what is written here. */
static void spend(struct quire *q, struct purse *p, unsigned i)
{
	p->going = p->f[i];
	p->f[i] = NULL;
	__free_pages(q, p->going, 0);
	p->going = NULL;
}

static void come_and_go(struct quire *q, unsigned n, void *arg)
{
	struct purse *p = arg;
	unsigned i, round;

	/* What the first round gives back is what the second finds on the lists. */
	for (round = 0; round < 2; round++) {
		for (i = 0; i < PURSE; i++) {
			p->f[i] = alloc_pages(q, i % 3 ? GFP_KERNEL : GFP_KERNEL | __GFP_MOVABLE, 0);
			if (p->f[i] && i % 4 == 1)
				p->f[i]->private = 1; /* owners write records; a free record has none of it */
			if (i % 5 == 4)
				spend(q, p, i - 2);
		}
		for (i = 0; i < PURSE; i++)
			if (p->f[i])
				spend(q, p, i);
	}
	(void)n;
}

static bool still_in_use(struct quire *q, struct frame *f)
{
	enum block_state state;
	unsigned order;
	pfn_t head;

	spin_lock(&q->lock);
	state = phys_lookup(q, frame_to_pfn(q, f), &head, &order);
	spin_unlock(&q->lock);
	return state == BLOCK_USED;
}

/* One life that ends at event n; what the dead had is given back for it.  Returns its events. */
static u64 one_purse(struct quire *q, u64 n)
{
	struct purse p = { .going = NULL };
	unsigned i;

	sim_kill_at(q, 0, n);
	sim_run(q, 1, come_and_go, &p);
	sim_kill_at(q, 0, 0);
	assert_int_equal(sim_recover_dead(q), sim_kill_events(q) == n);
	assert_int_equal(q->lock.word, 0);
	if (n % 2)
		assert_true(phys_is_valid(q)); /* with what the death left on the lists; else the drain meets it first */
	drain_all_pages(q);
	if (p.going && still_in_use(q, p.going))
		__free_pages(q, p.going, 0);
	for (i = 0; i < PURSE; i++)
		if (p.f[i])
			__free_pages(q, p.f[i], 0);
	drain_all_pages(q);
	assert_true(phys_is_valid(q));
	return sim_kill_events(q);
}

/* A frame is with somebody or free, whenever the owner of its CPU's slot dies: nothing is lost, and nothing is there twice. */
static void killed_between_list_and_owner(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 32 << 20, .sched = SIM_SCHED_ONE });
	u64 n, events, free;

	one_purse(q, ~0ull);
	free = nr_free_pages(q);
	events = one_purse(q, ~0ull);
	assert_in_range(events, 10 * PURSE, ~0u);
	for (n = 1; n <= events; n++) {
		one_purse(q, n);
		assert_int_equal(nr_free_pages(q), free);
	}
	fprintf(stderr, "%llu deaths between list and owner\n", (unsigned long long)events);
	sim_machine_free(q);
}

/* ---- the largest transaction ---- */

#define SHARERS 8u /* as many address spaces as one transaction locks (mm/rmap.c) */

/* A block that eight share becomes pages, in all of them at once: the undo log has room for it. */
static void a_shared_block_is_split(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 64 << 20, .sched = SIM_SCHED_ONE, .folio_max_order = PMD_ORDER });
	struct sim_process *p[SHARERS] = { sim_process_new(q, "shared") };
	struct task *t = p[0]->task;
	struct folio *folio;
	u32 logged;
	bool split;

	sys_mmap(t, AT, BLOCK, RW, ANON | MAP_FIXED, NULL, 0);
	sys_madvise(t, AT, BLOCK, MADV_HUGEPAGE);
	sim_process_store(p[0], AT, 8, 1);
	for (unsigned i = 1; i < SHARERS; i++)
		p[i] = sim_process_fork(p[0]);
	assert_int_equal(count_blocks(p[SHARERS - 1]->task->mm), 1);
	folio = pte_folio(t->mm, pte_at(t->mm, AT));
	spin_lock(&q->lock);
	split = split_folio(q, folio);
	logged = port_ctx()->log_len;
	spin_unlock(&q->lock);
	assert_true(split);
	fprintf(stderr, "%u stores in the log, of %u\n", logged, UNDO_CAPACITY);
	assert_in_range(logged, 8 * PT_ENTRIES, UNDO_CAPACITY - 1);
	for (unsigned i = 0; i < SHARERS; i++) {
		assert_true(mm_is_valid(p[i]->task->mm));
		sim_process_exit(p[i]);
	}
	assert_true(phys_is_valid(q));
	sim_machine_free(q);
}

/* ---- contexts that wait for a dead one's lock ---- */

struct ledger {
	struct spinlock *lock;
	u64 *a, *b; /* in the machine's memory; equal outside transactions */
};

static void transfer(struct quire *q, unsigned i, void *arg)
{
	struct ledger *l = arg;
	unsigned n;

	for (n = 0; n < 100; n++) {
		spin_lock(l->lock);
		undo_note(port_ctx(), l->a, 8); /* this test is not instrumented, so it notes by hand */
		++*l->a;
		sim_preempt();
		undo_note(port_ctx(), l->b, 8);
		++*l->b;
		spin_unlock(l->lock);
	}
	(void)i;
}

static void waiters_recover_a_dead_owner(void **state)
{
	struct quire *q = sim_machine_new(&(struct sim_config){ .memory = 32 << 20, .sched = SIM_SCHED_ONE, .nr_cpus = 3 });
	u64 *page = get_zeroed_page(q, GFP_KERNEL), n;

	for (n = 1; n < 400; n++) {
		struct ledger l = { &q->lock, page, page + 1 };

		page[0] = page[1] = 0;
		sim_kill_at(q, 1, n);
		sim_run(q, 3, transfer, &l); /* the other two get through whatever the dead one held */
		sim_kill_at(q, 0, 0);
		assert_int_equal(sim_recover_dead(q), 1);
		assert_int_equal(page[0], page[1]);
		assert_in_range(page[0], 200, 300);
	}
	free_pages(q, page, 0);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_at_every_event),
		cmocka_unit_test(killed_with_blocks),
		cmocka_unit_test(killed_between_list_and_owner),
		cmocka_unit_test(a_shared_block_is_split),
		cmocka_unit_test(waiters_recover_a_dead_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
