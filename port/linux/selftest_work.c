/*
 * What the workers of the death test do: everything at once that processes of a machine do to shared structures.
 *
 * Compiled with store instrumentation, as the core is: each operation is one transaction or a call of the core that is made
 * of some.  So after any death the invariants below hold, and nothing that was allocated is lost:
 *   1. a list's links, count and sum agree, and each node's bytes have its sum
 *   2. blocks[] and objects are either allocated and listed or neither
 *   3. an address space stands in mm[] or in somebody's ctx->mms[]
 * Locks: q->lock for all but cpu[], which have their own (trylock, as per-CPU data).
 */
#include "selftest.h"
#include "process.h"
#include "hostsys.h"
#include "revoke.h"
#include "../../mm/mm.h"

#define ARENA 0x100000000ull    /* where the workers map */
#define ARENA_PAGES 512u
#define LOST_SIZE 96u           /* kmalloc size used for objects that a death may lose, and its cache */
#define LOST_CACHE "kmalloc-96"
#define LOST_MAX 12u            /* at most so many by each death */

struct worker {
	struct quire *q;
	struct selftest *s;
	u64 seed;
};

static u32 rnd(struct worker *w, u32 below)
{
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (u32)(w->seed >> 33) % below;
}

/* ---- lists ---- */

static u64 sum_of(const struct st_node *n)
{
	u64 sum = n->size, i;

	for (i = 0; i < n->size; i++)
		sum = sum * 31 + n->bytes[i];
	return sum;
}

static void link_node(struct st_list *l, struct st_node *n, bool front)
{
	struct st_node **head = front ? &l->first : &l->last;

	n->next = front ? l->first : NULL;
	n->prev = front ? NULL : l->last;
	if (*head && front)
		(*head)->prev = n;
	if (*head && !front)
		(*head)->next = n;
	*head = n;
	if (!l->first)
		l->first = n;
	if (!l->last)
		l->last = n;
	l->count++;
	l->sum += n->sum;
}

static void unlink_node(struct st_list *l, struct st_node *n)
{
	if (n->prev)
		n->prev->next = n->next;
	else
		l->first = n->next;
	if (n->next)
		n->next->prev = n->prev;
	else
		l->last = n->prev;
	l->count--;
	l->sum -= n->sum;
}

static void op_push(struct worker *w)
{
	struct st_list *l = &w->s->lists[rnd(w, ST_LISTS)];
	u64 size = rnd(w, 600), i;
	struct st_node *n;

	spin_lock(&w->q->lock);
	n = l->count < 64 ? kmalloc(w->q, sizeof(*n) + size, GFP_ATOMIC) : NULL;
	if (n) {
		n->size = size;
		for (i = 0; i < size; i++)
			n->bytes[i] = (u8)rnd(w, 256);
		n->sum = sum_of(n);
		link_node(l, n, rnd(w, 2));
	}
	spin_unlock(&w->q->lock);
}

static struct st_node *pick(struct worker *w, struct st_list *l)
{
	u32 steps = l->count ? rnd(w, (u32)l->count) : 0;
	struct st_node *n = l->first;

	while (n && steps--)
		n = n->next;
	return n;
}

static void op_pop(struct worker *w)
{
	struct st_list *l = &w->s->lists[rnd(w, ST_LISTS)];
	struct st_node *n;

	spin_lock(&w->q->lock);
	n = pick(w, l);
	if (n) {
		BUG_ON(n->sum != sum_of(n));
		unlink_node(l, n);
		kfree(w->q, n);
	}
	spin_unlock(&w->q->lock);
}

static void op_move(struct worker *w)
{
	struct st_list *from = &w->s->lists[rnd(w, ST_LISTS)], *to = &w->s->lists[rnd(w, ST_LISTS)];
	struct st_node *n;
	u32 i;

	spin_lock(&w->q->lock);
	for (i = 0; i < 8 && (n = pick(w, from)); i++) {
		unlink_node(from, n);
		link_node(to, n, rnd(w, 2));
	}
	spin_unlock(&w->q->lock);
}

/* ---- the allocators ---- */

static void op_block(struct worker *w)
{
	u32 i = rnd(w, ST_BLOCKS), order = rnd(w, 5);
	struct frame *f;

	spin_lock(&w->q->lock);
	if (w->s->blocks[i].pfn) {
		__free_pages(w->q, pfn_to_frame(w->q, w->s->blocks[i].pfn - 1), w->s->blocks[i].order);
		w->s->blocks[i].pfn = 0;
	} else if ((f = alloc_pages(w->q, GFP_ATOMIC, order))) {
		w->s->blocks[i].pfn = frame_to_pfn(w->q, f) + 1;
		w->s->blocks[i].order = order;
	}
	spin_unlock(&w->q->lock);
}

/* Under a lock that is not q->lock: the allocators' own locks are taken inside. */
static void op_object(struct worker *w)
{
	u32 c = rnd(w, 2), i, n = 1 + rnd(w, 16);

	if (!spin_trylock(&w->s->cpu[c].lock))
		return;
	while (n--) {
		void **slot;

		i = rnd(w, ST_OBJECTS);
		slot = &w->s->cpu[c].obj[i];
		if (*slot) {
			kfree(w->q, *slot);
			*slot = NULL;
		} else {
			*slot = kmalloc(w->q, 16u << rnd(w, 8), GFP_ATOMIC);
		}
	}
	spin_unlock(&w->s->cpu[c].lock);
}

/* With no lock at all: the fast paths. */
static void op_lost(struct worker *w)
{
	void *p[LOST_MAX];
	u32 i, n = 1 + rnd(w, LOST_MAX);

	for (i = 0; i < n; i++)
		p[i] = kmalloc(w->q, LOST_SIZE, GFP_KERNEL);
	for (i = 0; i < n; i++)
		kfree(w->q, p[i]);
}

/* ---- address spaces ---- */

/* A reference to one of them, or NULL. */
static struct mm_struct *get_mm(struct worker *w)
{
	struct mm_struct *mm;

	spin_lock(&w->q->lock);
	mm = w->s->mm[rnd(w, ST_MMS)];
	if (!mm)
		mm = w->s->mm[0];
	mmget(mm);
	spin_unlock(&w->q->lock);
	return mm;
}

static void op_map(struct worker *w)
{
	u64 page = rnd(w, ARENA_PAGES), n = 1 + rnd(w, 24), addr = ARENA + (page << PAGE_SHIFT);
	struct mm_struct *mm = get_mm(w);
	u64 prot = rnd(w, 4) ? PROT_READ | PROT_WRITE : PROT_READ;

	switch (rnd(w, 6)) {
	case 0: do_munmap(mm, addr, n << PAGE_SHIFT); break;
	case 1: do_mprotect(mm, addr, n << PAGE_SHIFT, prot); break;
	case 2: do_madvise(mm, addr, n << PAGE_SHIFT, MADV_DONTNEED); break;
	case 3: do_mremap(mm, addr, n << PAGE_SHIFT, (n + 1) << PAGE_SHIFT, MREMAP_MAYMOVE | MREMAP_FIXED,
			  ARENA + ((u64)rnd(w, ARENA_PAGES) << PAGE_SHIFT)); break;
	default: do_mmap(mm, NULL, addr, n << PAGE_SHIFT, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0);
	}
	mmput(mm);
}

static void op_fault(struct worker *w)
{
	struct mm_struct *mm = get_mm(w);
	struct fault_info fi;
	u32 i, n = 1 + rnd(w, 16);

	for (i = 0; i < n; i++)
		do_mem_abort(mm, ARENA + ((u64)rnd(w, ARENA_PAGES) << PAGE_SHIFT),
			     esr_make(ESR_EC_DABT_LOW, rnd(w, 3), FSC_TRANSLATION + 3), &fi);
	mmput(mm);
}

/* A copy of an address space takes the place of one of the copies. */
static void op_fork(struct worker *w)
{
	struct mm_struct *mm = get_mm(w), *copy = dup_mm(mm), *old;
	u32 i = 1 + rnd(w, ST_MMS - 1);

	mmput(mm);
	if (IS_ERR(copy))
		return;
	spin_lock(&w->q->lock);
	old = w->s->mm[i];
	w->s->mm[i] = copy;
	mm_unhold(copy);
	if (old)
		mm_hold(old);
	spin_unlock(&w->q->lock);
	if (old)
		mmput(old);
}

static void one_op(struct worker *w)
{
	static void (*const ops[])(struct worker *) = {
		op_push, op_push, op_pop, op_pop, op_move, op_block, op_object, op_lost, op_map, op_map, op_fault, op_fault,
		op_fault, op_fork,
	};

	ops[rnd(w, ARRAY_SIZE(ops))](w);
}

static void wait_while_paused(struct selftest *s)
{
	u32 seen = 0, now;

	while ((now = READ_ONCE(s->pause))) {
		if (now != seen)
			__atomic_add_fetch(&s->paused, 1, __ATOMIC_SEQ_CST);
		seen = now;
		port_wait(&s->pause, now, 1000000);
	}
}

/* ---- what the harness calls ---- */

static void bind(u32 ctx_id)
{
	struct kthread *k = kthread_alloc();

	BUG_ON(!k);
	kproc.pid = (s32)host_call(__NR_getpid);
	kthread_bind_light(k, ctx_by_id(ctx_id));
	ctx_by_id(ctx_id)->port_data[CTXP_TGID] = (u64)kproc.pid;
}

static void work(u32 ctx_id, u32 index, u64 seed, u64 rounds)
{
	struct selftest *s = selftest_area();
	struct worker w = { .q = &shared_area()->q, .s = s, .seed = seed };
	u64 i;

	bind(ctx_id);
	ctx_join_mm(ctx_by_id(ctx_id), s->mm[0]);
	for (i = 0; i < rounds; i++) {
		wait_while_paused(s);
		one_op(&w);
		s->progress[index].n++;
	}
}

static long init(void)
{
	struct selftest *s = selftest_area();
	struct quire *q = &shared_area()->q;
	struct mm_struct *mm = mm_alloc(q, &guest_abi_x86_64);

	if (!mm)
		return -ENOMEM;
	spin_lock_init(&s->cpu[0].lock, LOCK_RANK_CPU);
	spin_lock_init(&s->cpu[1].lock, LOCK_RANK_CPU);
	spin_lock(&q->lock);
	s->mm[0] = mm;
	mm_unhold(mm);
	spin_unlock(&q->lock);
	return 0;
}

static u32 new_ctx(u64 *serial)
{
	struct ctx *c;

	*serial = process_serial_new();
	c = ctx_alloc(&shared_area()->q, 0, *serial);
	return c ? c->id : 0;
}

static bool list_is_valid(const struct st_list *l)
{
	struct st_node *n, *prev = NULL;
	u64 count = 0, sum = 0;

	for (n = l->first; n && count <= l->count; prev = n, n = n->next, count++) {
		if (n->prev != prev || n->sum != sum_of(n))
			return false;
		sum += n->sum;
	}
	return l->last == prev && count == l->count && sum == l->sum;
}

/* users is what mm[] and living contexts account for, and every mm is one of those. */
static bool mms_are_valid(struct selftest *s, struct quire *q)
{
	struct mm_struct *mm;
	u32 i, n = 0;

	for (mm = q->mms; mm; mm = mm->all_next, n++)
		if (!mm_is_valid(mm))
			return false;
	for (i = 0; i < ST_MMS; i++) {
		n -= s->mm[i] != NULL;
		if (s->mm[i] && s->mm[i]->users != 1) {
			quire_log(q, 3, "selftest: mm %u has %u users", i, s->mm[i]->users);
			return false;
		}
	}
	if (n)
		quire_log(q, 3, "selftest: %u address spaces that nobody knows", n);
	return !n;
}

static bool valid(void)
{
	struct selftest *s = selftest_area();
	struct quire *q = &shared_area()->q;
	u32 i;

	for (i = 0; i < ST_LISTS; i++) {
		if (!list_is_valid(&s->lists[i])) {
			quire_log(q, 3, "selftest: list %u is broken", i);
			return false;
		}
	}
	return mms_are_valid(s, q) && kmem_is_valid(q) && phys_is_valid(q);
}

static void drain_lists(struct selftest *s, struct quire *q)
{
	struct st_node *n;
	u32 i;

	spin_lock(&q->lock);
	for (i = 0; i < ST_LISTS; i++) {
		while ((n = s->lists[i].first)) {
			unlink_node(&s->lists[i], n);
			kfree(q, n);
		}
	}
	for (i = 0; i < ST_BLOCKS; i++) {
		if (s->blocks[i].pfn)
			__free_pages(q, pfn_to_frame(q, s->blocks[i].pfn - 1), s->blocks[i].order);
		s->blocks[i].pfn = 0;
	}
	for (i = 0; i < 2 * ST_OBJECTS; i++) {
		kfree(q, s->cpu[i / ST_OBJECTS].obj[i % ST_OBJECTS]);
		s->cpu[i / ST_OBJECTS].obj[i % ST_OBJECTS] = NULL;
	}
	spin_unlock(&q->lock);
}

static void drain(void)
{
	struct selftest *s = selftest_area();
	struct quire *q = &shared_area()->q;
	u32 i;

	drain_lists(s, q);
	for (i = 0; i < ST_MMS; i++) {
		struct mm_struct *mm;

		spin_lock(&q->lock);
		mm = s->mm[i];
		s->mm[i] = NULL;
		if (mm)
			mm_hold(mm);
		spin_unlock(&q->lock);
		if (mm)
			mmput(mm);
	}
}

/* Frames of slabs are not counted: free objects lie in the magazines of contexts, dead ones' too. */
static void usage(u64 *frames, u64 *objects, u64 *lost)
{
	struct quire *q = &shared_area()->q;
	struct kmem_cache *c;

	kmem_reap(q);
	drain_all_pages(q);
	*frames = totalram_pages(q) - nr_free_pages(q) - q->kmem.nr_slab_pages[0] - q->kmem.nr_slab_pages[1];
	*objects = *lost = 0;
	for (c = q->kmem.caches; c; c = c->next) {
		if (!strcmp(c->name, LOST_CACHE))
			*lost += kmem_cache_live_objects(q, c);
		else if (c != &q->kmem.magazine_cache)
			*objects += kmem_cache_live_objects(q, c);
	}
}

static u32 open_log(u32 ctx_id)
{
	return ctx_by_id(ctx_id)->log_len;
}

static void bench(enum st_bench what, u64 pairs)
{
	struct quire *q = &shared_area()->q;

	for (; pairs; pairs--) {
		if (what == ST_BENCH_LOCK) {
			spin_lock(&q->lock);
			spin_unlock(&q->lock);
		} else if (what == ST_BENCH_PAGE) {
			__free_pages(q, alloc_pages(q, GFP_KERNEL, 0), 0);
		} else {
			kfree(q, kmalloc(q, 64, GFP_KERNEL));
		}
	}
}

const struct selftest_exports selftest_exports = {
	.init = init,
	.new_ctx = new_ctx,
	.work = work,
	.valid = valid,
	.drain = drain,
	.usage = usage,
	.open_log = open_log,
	.bench = bench,
	.bind = bind,
	.bind_revoker = selftest_bind_revoker,
	.revoke = selftest_revoke,
};
