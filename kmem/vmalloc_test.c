/* vmalloc, HighMem mappings and fixmap through the simulated MMU; a model of areas; every allocation failed in turn. */
#include "kmem_test.h"
#include <port/sim/mmu.h>
#include "vmalloc.h"

static const struct zone_layout classic = {.name = "32",
					   .dma_end = 16 << 20,
					   .lowmem_end = 48 << 20,
					   .pae_32bit = true};

/* Frames in use, the kernel's root table and the like counted already. */
static u64 baseline(struct quire *q)
{
	vfree(q, vmalloc(q, 1));
	return kmem_frames_in_use(q);
}

static struct sim_cpu *kernel_cpu(struct quire *q)
{
	struct sim_cpu *cpu = sim_cpu_get(q, 0);

	sim_set_kernel_table(q, kernel_pgd(q));
	sim_cpu_set_el(cpu, 1);
	return cpu;
}

static void put(struct quire *q, const void *va, u64 val)
{
	assert_int_equal(sim_store(kernel_cpu(q), (u64)(uintptr_t)va, 8, val), 0);
}

static u64 get(struct quire *q, const void *va)
{
	u64 val = 0;

	assert_int_equal(sim_load(kernel_cpu(q), (u64)(uintptr_t)va, 8, &val), 0);
	return val;
}

static bool faults(struct quire *q, const void *va)
{
	u64 val;

	return sim_load(kernel_cpu(q), (u64)(uintptr_t)va, 8, &val) != 0;
}

static char *vmallocinfo(struct quire *q)
{
	char *text = malloc(1 << 16);
	struct fmt_buf b = fmt_init(text, 1 << 16);

	proc_vmallocinfo(q, &b);
	return text;
}

static void test_contiguous(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u64 before = baseline(q), i;
	u8 *p = vmalloc(q, 100 * PAGE_SIZE - 5), *z;
	char *info;

	assert_true(is_vmalloc_addr(p));
	assert_false(is_vmalloc_addr(&before));
	for (i = 0; i < 100; i++)
		put(q, p + i * PAGE_SIZE + 8 * (i % 512), i ^ 0x5555);
	for (i = 0; i < 100; i++) {
		struct frame *f = vmalloc_to_page(q, p + i * PAGE_SIZE);
		u64 *bytes = frame_address(q, f);

		assert_int_equal(get(q, p + i * PAGE_SIZE + 8 * (i % 512)), i ^ 0x5555);
		assert_int_equal(bytes[i % 512], i ^ 0x5555); /* the same frame by the direct map */
		assert_int_equal(f->type, FRAME_VMALLOC);
	}
	assert_true(faults(q, p + 100 * PAGE_SIZE)); /* guard page */
	assert_true(faults(q, p - 8));
	z = vzalloc(q, 3 * PAGE_SIZE);
	assert_true((u64)(z - p) >= 101 * PAGE_SIZE);
	for (i = 0; i < 3 * PAGE_SIZE; i += 8)
		assert_int_equal(get(q, z + i), 0);
	info = vmallocinfo(q);
	assert_non_null(strstr(info, "  413696 0x"));
	assert_non_null(strstr(info, " pages=100 vmalloc N0=100\n"));
	free(info);
	assert_int_equal(q->kmem.nr_vmalloc_pages, 103);
	assert_true(vmalloc_is_valid(q));
	vfree(q, p);
	vfree(q, z);
	vfree(q, NULL);
	vm_unmap_aliases(q);
	assert_true(faults(q, p));
	assert_null(vmalloc_to_page(q, p));
	assert_int_equal(kmem_frames_in_use(q), before);
	assert_int_equal(q->kmem.kernel_pgtable_bytes, 0);
	sim_machine_free(q);
}

/* Freed areas wait; one flush frees them all; stale translations never outlive it. */
static void test_lazy_purge(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.check_reuse = true});
	u64 free_before;
	u8 *p[20];
	unsigned i;
	char *info;

	for (i = 0; i < 20; i++) {
		p[i] = vmalloc(q, 2 * PAGE_SIZE);
		put(q, p[i], i); /* now a TLB knows it */
	}
	free_before = nr_free_pages(q);
	for (i = 0; i < 20; i += 2)
		vfree(q, p[i]);
	assert_int_equal(get(q, p[0]), 0); /* no flush: the TLB still knows it */
	assert_int_equal(get(q, p[18]), 18);
	assert_int_equal(nr_free_pages(q), free_before); /* the frames still wait */
	info = vmallocinfo(q);
	assert_non_null(strstr(info, "   12288 unpurged vm_area\n"));
	free(info);
	assert_int_equal(vm_unmap_aliases(q), 20);
	assert_true(faults(q, p[0]));
	assert_true(faults(q, p[18]));
	assert_int_equal(sim_tlb_check(q), 0);
	assert_int_equal(vm_unmap_aliases(q), 0);
	for (i = 1; i < 20; i += 2) {
		assert_int_equal(get(q, p[i]), i);
		vfree(q, p[i]);
	}
	assert_true(vmalloc_is_valid(q));
	sim_machine_free(q);
}

static void test_vmap(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u64 before = baseline(q);
	struct frame *f[3];
	u8 *p, *ro;
	unsigned i;
	u64 val;

	assert_int_equal(alloc_pages_bulk(q, GFP_KERNEL, 3, f), 3);
	p = vmap(q, f, 3, PAGE_KERNEL_PROT);
	ro = vmap(q, f, 3, PAGE_KERNEL_RO_PROT);
	for (i = 0; i < 3; i++)
		put(q, p + i * PAGE_SIZE, 1000 + i);
	for (i = 0; i < 3; i++)
		assert_int_equal(get(q, ro + i * PAGE_SIZE), 1000 + i);
	assert_int_not_equal(sim_store(kernel_cpu(q), (u64)(uintptr_t)ro, 8, 1), 0);
	vunmap(q, ro);
	assert_int_not_equal(sim_load(kernel_cpu(q), (u64)(uintptr_t)ro, 8, &val), 0);
	assert_true(vmalloc_is_valid(q));
	vunmap(q, p);
	assert_int_equal(sim_tlb_check(q), 0);
	free_pages_bulk(q, 3, f);
	assert_int_equal(kmem_frames_in_use(q), before);
	sim_machine_free(q);
}

static void test_kvmalloc_and_limits(void **state)
{
	struct quire *q = kmem_machine(NULL);
	void *small = kvmalloc(q, 100, GFP_KERNEL), *large = kvmalloc(q, 6 << 20, GFP_KERNEL);

	assert_false(is_vmalloc_addr(small));
	assert_true(is_vmalloc_addr(large)); /* beyond the largest block */
	kvfree(q, small);
	kvfree(q, large);
	kvfree(q, NULL);
	assert_null(vmalloc(q, 0));
	assert_null(vmalloc(q, SIZE_MAX));
	assert_null(vmalloc(q, 1ull << 45));
	assert_null(vmalloc(q, 65 << 20));
	assert_non_null(strstr(whole_log(q), "vmalloc error: size 68157440, exceeds total pages; caller 0x"));
	assert_null(__vmalloc(q, 63 << 20 | PAGE_SIZE * 254, GFP_NOWAIT)); /* fails in the middle */
	assert_true(vmalloc_is_valid(q));
	assert_int_equal(q->kmem.nr_vmalloc_pages, 0);
	sim_machine_free(q);
}

struct crime {
	struct quire *q;
	u8 *p;
};

static void vfree_twice(void *arg)
{
	struct crime *k = arg;

	vfree(k->q, k->p);
	vfree(k->q, k->p);
}

static void vfree_middle(void *arg)
{
	struct crime *k = arg;

	vfree(k->q, k->p + PAGE_SIZE);
}

static void vunmap_of_vmalloc(void *arg)
{
	struct crime *k = arg;

	vunmap(k->q, k->p);
}

static void touch_freed(void *arg)
{
	struct crime *k = arg;

	vfree(k->q, k->p);
	vm_unmap_aliases(k->q);
	port_clear_pages(k->p, 1);
}

static void test_bad_input(void **state)
{
	static const struct {
		void (*fn)(void *);
		const char *words;
	} list[] = {
		{vfree_twice, "Trying to vfree() nonexistent vm area 0x"},
		{vfree_middle, "Trying to vfree() nonexistent vm area 0x"},
		{vunmap_of_vmalloc, "Trying to vunmap() nonexistent vm area 0x"},
		{touch_freed, NULL},
	};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(list); i++) {
		struct crime k = {.q = kmem_machine(NULL)};

		k.p = vmalloc(k.q, 4 * PAGE_SIZE);
		assert_non_null(sim_expect_panic(list[i].fn, &k));
		if (list[i].words)
			assert_non_null(strstr(whole_log(k.q), list[i].words));
		sim_machine_free(k.q);
	}
}

/* ---- a model: areas in a flat table ---- */

struct area {
	u8 *p;
	unsigned pages;
	u64 tag;
};

static void check_area(struct quire *q, const struct area *a, u64 page)
{
	assert_int_equal(get(q, a->p + page * PAGE_SIZE + 16), a->tag + page);
}

static void test_model(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.check_reuse = true, .break_percent = 10, .nr_cpus = 2});
	u64 before = baseline(q), seed = sim_seed(3) | 1, i, j, n;
	const char *ops = getenv("QUIRE_OPS");
	struct area live[60] = {0};

	n = ops ? strtoull(ops, NULL, 0) : 20000;
	for (i = 0; i < n; i++) {
		struct area *a = &live[rnd(&seed) % 60];

		if (a->p) {
			check_area(q, a, rnd(&seed) % a->pages);
			check_area(q, a, 0);
			vfree(q, a->p);
			a->p = NULL;
		} else {
			a->pages = 1 + rnd(&seed) % (rnd(&seed) % 10 ? 20 : 700);
			a->p = __vmalloc(q, a->pages * PAGE_SIZE, GFP_KERNEL | __GFP_NOWARN);
			a->tag = rnd(&seed);
			for (j = 0; a->p && j < a->pages; j++)
				put(q, a->p + j * PAGE_SIZE + 16, a->tag + j);
		}
		for (j = 0; a->p && j < 60; j++)
			assert_true(&live[j] == a || !live[j].p || live[j].p >= a->p + (a->pages + 1) * PAGE_SIZE ||
				    live[j].p + (live[j].pages + 1) * PAGE_SIZE <= a->p);
		if (i % 500 == 0) {
			assert_true(vmalloc_is_valid(q));
			assert_true(phys_is_valid(q));
			vm_unmap_aliases(q);
			assert_int_equal(sim_tlb_check(q), 0);
		}
	}
	for (j = 0; j < 60; j++)
		vfree(q, live[j].p);
	assert_true(vmalloc_is_valid(q));
	assert_int_equal(kmem_frames_in_use(q), before);
	assert_int_equal(q->kmem.nr_vmalloc_pages, 0);
	sim_machine_free(q);
}

static void vmalloc_thread(struct quire *q, unsigned t, void *arg)
{
	u64 seed = t * 77 + 1, i;
	void *p[8] = {0};

	for (i = 0; i < 2000; i++) {
		unsigned j = rnd(&seed) % 8;

		vfree(q, p[j]);
		p[j] = vmalloc(q, (1 + rnd(&seed) % 40) * PAGE_SIZE);
		assert_true(!p[j] || vmalloc_to_page(q, p[j])->type == FRAME_VMALLOC);
	}
	for (i = 0; i < 8; i++)
		vfree(q, p[i]);
}

static void test_threads(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.nr_cpus = 4});
	u64 before = baseline(q);

	sim_run(q, 4, vmalloc_thread, NULL);
	assert_true(vmalloc_is_valid(q));
	assert_int_equal(kmem_frames_in_use(q), before);
	sim_machine_free(q);
}

static bool scenario(struct quire *q)
{
	void *a = vmalloc(q, 70 * PAGE_SIZE), *b = kvmalloc(q, 600 * PAGE_SIZE, GFP_KERNEL), *m = NULL;
	struct frame *f = alloc_page(q, GFP_KERNEL);
	bool ok;

	if (f)
		m = vmap(q, &f, 1, PAGE_KERNEL_PROT);
	ok = a && b && m;
	vunmap(q, m);
	if (f)
		__free_pages(q, f, 0);
	vfree(q, a);
	kvfree(q, b);
	return ok;
}

static void test_failure_sweep(void **state)
{
	struct quire *q = kmem_machine(NULL);
	u64 before = baseline(q), asked, n;

	sim_fail_none(q);
	assert_true(scenario(q));
	asked = sim_fail_count(q);
	for (n = 1; n <= asked + 5; n++) {
		sim_fail_nth(q, SIM_FAIL_MEMORY, n);
		scenario(q);
		sim_fail_from(q, SIM_FAIL_MEMORY, n);
		scenario(q);
		sim_fail_none(q);
		assert_true(vmalloc_is_valid(q));
		assert_true(kmem_is_valid(q));
		assert_int_equal(kmem_frames_in_use(q), before);
	}
	sim_machine_free(q);
}

/* ---- HighMem ---- */

static struct quire *highmem_machine(struct sim_config cfg)
{
	cfg.memory = 64 << 20;
	cfg.zones = &classic;
	return kmem_machine(&cfg);
}

static struct frame *high_frame(struct quire *q)
{
	struct frame *f = alloc_page(q, GFP_HIGHUSER);

	assert_non_null(f);
	assert_null(frame_address(q, f));
	return f;
}

static void touch_unmapped(void *arg)
{
	struct crime *k = arg;
	struct frame *f = high_frame(k->q);
	void *va = kmap(k->q, f);

	port_clear_pages(va, 1);
	kunmap(k->q, f);
	port_clear_pages(va, 1);
}

static void test_kmap(void **state)
{
	struct quire *q = highmem_machine((struct sim_config){.check_reuse = true});
	struct frame *f = high_frame(q), *low = alloc_page(q, GFP_KERNEL);
	u8 *a, *b;

	assert_ptr_equal(kmap(q, low), frame_address(q, low));
	kunmap(q, low);
	assert_null(page_address(q, f));
	a = kmap(q, f);
	b = kmap(q, f);
	assert_ptr_equal(a, b); /* counted */
	assert_ptr_equal(page_address(q, f), a);
	put(q, a + 64, 4711);
	kunmap(q, f);
	assert_int_equal(get(q, b + 64), 4711);
	kunmap(q, f);
	assert_true(faults(q, a + 64));
	assert_null(page_address(q, f));
	a = kmap_local_page(q, f);
	assert_int_equal(get(q, a + 64), 4711);
	kunmap_local(q, a + 64);
	assert_true(faults(q, a + 64));
	__free_pages(q, f, 0);
	f = alloc_page(q, GFP_HIGHUSER | __GFP_ZERO);
	assert_null(frame_address(q, f)); /* cleared through a mapping */
	a = kmap(q, f);
	assert_int_equal(get(q, a + 64), 0);
	kunmap(q, f);
	sim_machine_free(q);
}

static void test_kmap_local_nests(void **state)
{
	struct quire *q = highmem_machine((struct sim_config){0});
	struct frame *f[KM_MAX_IDX];
	void *va[KM_MAX_IDX];
	unsigned i;

	for (i = 0; i < KM_MAX_IDX; i++) {
		f[i] = high_frame(q);
		va[i] = kmap_local_page(q, f[i]);
		put(q, va[i], i);
	}
	for (i = KM_MAX_IDX; i > 0; i--) {
		assert_int_equal(get(q, va[i - 1]), i - 1);
		kunmap_local(q, va[i - 1]);
	}
	copy_highpages(q, f[0], f[5], 1);
	va[0] = kmap_local_page(q, f[0]);
	assert_int_equal(get(q, va[0]), 5);
	kunmap_local(q, va[0]);
	sim_machine_free(q);
}

static void kunmap_local_wrong_order(void *arg)
{
	struct crime *k = arg;
	void *a = kmap_local_page(k->q, high_frame(k->q));

	kmap_local_page(k->q, high_frame(k->q));
	kunmap_local(k->q, a);
}

static void kunmap_unmapped(void *arg)
{
	struct crime *k = arg;

	kunmap(k->q, high_frame(k->q));
}

static void test_highmem_bad_input(void **state)
{
	static void (*const crimes[])(void *) = {touch_unmapped, kunmap_local_wrong_order, kunmap_unmapped};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(crimes); i++) {
		struct crime k = {.q = highmem_machine((struct sim_config){0})};

		assert_non_null(sim_expect_panic(crimes[i], &k));
		sim_machine_free(k.q);
	}
}

/* More mappings wanted at once than there are slots: the others wait, and all get one in the end. */
static void kmap_thread(struct quire *q, unsigned t, void *arg)
{
	u64 seed = t + 1, i, j;

	for (i = 0; i < 5; i++) {
		struct frame *f[100];
		u64 n = 60 + rnd(&seed) % 40;

		for (j = 0; j < n; j++)
			f[j] = high_frame(q);
		for (j = 0; j < n; j++)
			assert_true((u64)(uintptr_t)kmap(q, f[j]) >= PKMAP_BASE);
		for (j = 0; j < n; j++) {
			kunmap(q, f[j]);
			__free_pages(q, f[j], 0);
		}
	}
}

static void test_kmap_waits(void **state)
{
	struct quire *q = highmem_machine((struct sim_config){.nr_cpus = 4});

	/* 8 threads of at most 99 want up to 792 of 512 slots; each frees all after all, so leave room for no
	 * deadlock. */
	sim_run(q, 5, kmap_thread, NULL);
	assert_int_equal(q->kmem.pkmap_users, 0);
	assert_int_equal(q->kmem.pkmap_waiters, 0);
	sim_machine_free(q);
}

struct waiter_plan {
	struct frame *held[LAST_PKMAP];
	struct frame *extra[3];
	unsigned got;
};

static void one_waiter(struct quire *q, unsigned t, void *arg)
{
	struct waiter_plan *w = arg;
	unsigned i;

	if (t < 3) {
		assert_non_null(kmap(q, w->extra[t])); /* blocks */
		w->got++;
		return;
	}
	while (q->kmem.pkmap_waiters < 3)
		port_relax();
	assert_int_equal(w->got, 0);
	for (i = 0; i < 3; i++)
		kunmap(q, w->held[i * 100]);
}

static void test_kmap_area_full(void **state)
{
	struct quire *q = highmem_machine((struct sim_config){.sched = SIM_SCHED_ONE});
	static struct waiter_plan w;
	unsigned i;

	memset(&w, 0, sizeof(w));
	for (i = 0; i < LAST_PKMAP; i++)
		kmap(q, w.held[i] = high_frame(q));
	for (i = 0; i < 3; i++)
		w.extra[i] = high_frame(q);
	sim_run(q, 4, one_waiter, &w);
	assert_int_equal(w.got, 3);
	assert_int_equal(q->kmem.pkmap_users, LAST_PKMAP);
	sim_machine_free(q);
}

static void test_fixmap(void **state)
{
	struct quire *q = kmem_machine(&(struct sim_config){.check_law1 = true});
	struct frame *f = alloc_page(q, GFP_KERNEL), *g = alloc_page(q, GFP_KERNEL);
	void *va = (void *)(uintptr_t)fix_to_virt(3);

	*(u64 *)frame_address(q, f) = 11;
	*(u64 *)frame_address(q, g) = 22;
	assert_int_equal(set_fixmap(q, 3, (u64)frame_to_pfn(q, f) << PAGE_SHIFT, PAGE_KERNEL_PROT), 0);
	assert_int_equal(get(q, va), 11);
	assert_int_equal(set_fixmap(q, 3, (u64)frame_to_pfn(q, g) << PAGE_SHIFT, PAGE_KERNEL_PROT), 0);
	assert_int_equal(get(q, va), 22);
	clear_fixmap(q, 3);
	clear_fixmap(q, 3);
	assert_true(faults(q, va));
	assert_int_equal(sim_stats(q).law1, 0);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_contiguous),
		cmocka_unit_test(test_lazy_purge),
		cmocka_unit_test(test_vmap),
		cmocka_unit_test(test_kvmalloc_and_limits),
		cmocka_unit_test(test_bad_input),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_failure_sweep),
		cmocka_unit_test(test_kmap),
		cmocka_unit_test(test_kmap_local_nests),
		cmocka_unit_test(test_highmem_bad_input),
		cmocka_unit_test(test_kmap_waits),
		cmocka_unit_test(test_kmap_area_full),
		cmocka_unit_test(test_fixmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
