/* Each kind of fault on the simulated machine: what the MMU reports, which way the fault takes, what is there
 * afterwards. */
#include "testutil.h"

#define SEGV 11
#define SIGBUS_ 7
#define MAPERR 1
#define ACCERR 2

static struct sim_config config(u32 order)
{
	return (struct sim_config){ .memory = 64 * MIB, .overcommit_memory = 1, .folio_max_order = order,
				    .check_law1 = true, .check_reuse = true };
}

/* ---- anonymous memory ---- */

static void test_first_write_4k(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 1 * MIB, RW);
	static const char *const path[] = { "do_mem_abort", "do_translation_fault", "do_page_fault", "handle_mm_fault",
					    "handle_pte_fault", "do_anonymous_page" };
	u32 i;

	(void)state;
	r.q->trace_faults = true;
	store8(&r, a + 0x5008, 42);
	assert_int_equal(r.cpu->esr >> ESR_EC_SHIFT, ESR_EC_DABT_LOW);
	assert_true(r.cpu->esr & ESR_WNR);
	assert_int_equal(r.cpu->esr & 0x3c, FSC_TRANSLATION);
	assert_int_equal(r.cpu->far, a + 0x5008);
	assert_int_equal(r.q->trace.n, ARRAY_SIZE(path));
	for (i = 0; i < ARRAY_SIZE(path); i++)
		assert_string_equal(r.q->trace.fn[i], path[i]);
	assert_int_equal(load8(&r, a + 0x5008), 42);
	assert_int_equal(load8(&r, a + 0x5010), 0);
	assert_int_equal(r.cpu->nr_exceptions, 1);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 1);
	assert_int_equal(r.q->nr_anon_pages, 1);
	assert_int_equal(r.mm->min_flt, 1);
	assert_int_equal(r.mm->maj_flt, 0);
	assert_int_equal(r.q->vm_events[PGFAULT], 1);
	assert_true(pte_excl(pte_of(r.mm, a + 0x5000)));
	assert_int_equal(pte_folio(r.mm, pte_of(r.mm, a + 0x5000))->f.refcount, 1);
	assert_true(pte_none(pte_of(r.mm, a + 0x4000)));
	rig_free(&r);
}

static void test_zero_page(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 1 * MIB, RW);

	(void)state;
	assert_int_equal(load8(&r, a), 0);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 0);
	assert_int_equal(pte_pfn(pte_of(r.mm, a)), r.q->zero_pfn);
	assert_false(pte_write(pte_of(r.mm, a)));
	r.q->trace_faults = true;
	store8(&r, a + 8, 7);
	assert_int_equal(r.cpu->esr & 0x3c, FSC_PERMISSION);
	assert_true(traced(r.q, "do_wp_page"));
	assert_int_equal(load8(&r, a), 0);
	assert_int_equal(load8(&r, a + 8), 7);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 1);
	assert_int_not_equal(pte_pfn(pte_of(r.mm, a)), r.q->zero_pfn);
	assert_int_equal(*(u64 *)frame_address(r.q, pfn_to_frame(r.q, r.q->zero_pfn)), 0);
	assert_int_equal(sim_tlb_check(r.q), 0);
	rig_free(&r);
}

static void test_large_folios(void **state)
{
	struct sim_config cfg = config(4);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0x10000000, 256 * KIB, RW), i;
	u64 small = map_anon(r.mm, 0x20004000, 32 * KIB, RW); /* 20004..2000c: fits 16 KiB blocks only */
	struct folio *folio;

	(void)state;
	store8(&r, a + 0x12340, 1);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 16);
	for (i = 0; i < 16; i++) {
		store8(&r, a + 0x10000 + i * PAGE_SIZE, i);
		assert_int_equal(pte_pfn(pte_of(r.mm, a + 0x10000 + i * PAGE_SIZE)),
				 pte_pfn(pte_of(r.mm, a + 0x10000)) + i);
	}
	assert_int_equal(r.cpu->nr_exceptions, 1);
	folio = pte_folio(r.mm, pte_of(r.mm, a + 0x12000));
	assert_int_equal(folio_order(folio), 4);
	assert_int_equal(folio->f.refcount, 16);
	assert_int_equal(folio->f.mapcount, 16);
	store8(&r, small + 0x100, 1);
	assert_int_equal(folio_order(pte_folio(r.mm, pte_of(r.mm, small))), 2);
	/* A page already there keeps the block from being taken whole. */
	assert_int_equal(load8(&r, a + 0x20000), 0);
	store8(&r, a + 0x21000, 1);
	assert_int_equal(folio_order(pte_folio(r.mm, pte_of(r.mm, a + 0x21000))), 0);
	/* Half of a folio goes; the rest stays whole. */
	assert_int_equal(do_munmap(r.mm, a + 0x10000, 0x8000), 0);
	assert_int_equal(load8(&r, a + 0x18000), 8);
	assert_int_equal(folio->f.refcount, 8);
	expect_signal(&r, SIM_READ, a + 0x17fff, SEGV, MAPERR);
	rig_free(&r);
}

static void test_nohugepage_and_pressure(void **state)
{
	struct sim_config cfg = config(4);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0x10000000, 32 * MIB, RW), b = map_anon(r.mm, 0x30000000, 128 * MIB, RW), i;

	(void)state;
	vma_lookup(r.mm, a)->vm_flags |= VM_NOHUGEPAGE;
	store8(&r, a, 1);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 1);
	for (i = 0; nr_free_pages(r.q) > totalram_pages(r.q) / 16; i++)
		store8(&r, b + i * 64 * KIB, 1);
	store8(&r, b + (i + 1) * 64 * KIB, 1);
	assert_int_equal(folio_order(pte_folio(r.mm, pte_of(r.mm, b + (i + 1) * 64 * KIB))), 0);
	/* Who goes on where the block before is all there still gets a large one; from its middle on nobody does. */
	store8(&r, b + (i + 3) * 64 * KIB - PAGE_SIZE, 1);
	assert_int_equal(folio_order(pte_folio(r.mm, pte_of(r.mm, b + (i + 3) * 64 * KIB - PAGE_SIZE))), 0);
	store8(&r, b + i * 64 * KIB, 1);
	assert_int_equal(folio_order(pte_folio(r.mm, pte_of(r.mm, b + i * 64 * KIB))), 4);
	rig_free(&r);
}

/* A program that walks through a large mapping gets 2 MiB at a time after a while; one that hops does not. */
static void test_huge_folios(void **state)
{
	struct sim_config cfg = config(9);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0x10000000, 16 * MIB, RW), b = map_anon(r.mm, 0x20000000, 16 * MIB, RW), i, n;
	u64 h = map_anon(r.mm, 0x30000000, 4 * MIB, RW);
	struct mm_struct *child;

	(void)state;
	for (i = 0; i < 8 * MIB; i += PAGE_SIZE)
		store8(&r, a + i, i);
	assert_int_equal(r.cpu->nr_exceptions, 32 + 3); /* 2 MiB in 64 KiB folios, then three of 2 MiB */
	assert_int_equal(r.q->vm_events[QFAULT_ANON_2M], 3);
	assert_int_equal(folio_order(pte_folio(r.mm, pte_of(r.mm, a + 4 * MIB))), 9);
	assert_non_null(pgtable_block(r.q, r.mm->pgd, a + 4 * MIB));
	for (i = 0; i < 16 * MIB; i += 2 * MIB)
		store8(&r, b + i, 1);
	assert_int_equal(r.q->vm_events[QFAULT_ANON_2M], 3);
	vma_lookup(r.mm, h)->vm_flags |= VM_HUGEPAGE;
	store8(&r, h + 3 * MIB, 1);
	assert_int_equal(r.q->vm_events[THP_FAULT_ALLOC], 4);
	/* Copied in pieces of 64 KiB; the child, alone with the rest, keeps it. */
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	store8(&r, a + 4 * MIB + 0x12345678 % MIB, 5);
	assert_int_equal(r.q->vm_events[QCOW_BATCH], 1);
	assert_int_equal(load8(&r, a + 5 * MIB), 5 * MIB);
	sim_cpu_switch_mm(r.cpu, child);
	for (i = 2 * MIB; i < 8 * MIB; i += PAGE_SIZE)
		assert_int_equal(load8(&r, a + i), i);
	sim_cpu_switch_mm(r.cpu, r.mm);
	mmput(child);
	n = r.cpu->nr_exceptions;
	store8(&r, a + 6 * MIB, 7);
	store8(&r, a + 8 * MIB - 8, 7);
	assert_int_equal(r.cpu->nr_exceptions, n + 1); /* one fault gives the rights to all of the folio back */
	rig_free(&r);
}

/* ---- rights ---- */

static void test_rights(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 ro = map_anon(r.mm, 0x10000000, 64 * KIB, PROT_READ);
	u64 none = map_anon(r.mm, 0x20000000, 64 * KIB, PROT_NONE);
	u64 wo = map_anon(r.mm, 0x30000000, 64 * KIB, PROT_WRITE);

	(void)state;
	expect_signal(&r, SIM_READ, 0x40000123, SEGV, MAPERR);
	expect_signal(&r, SIM_WRITE, 0x123, SEGV, MAPERR);
	assert_int_equal(load8(&r, ro), 0);
	expect_signal(&r, SIM_WRITE, ro + 5, SEGV, ACCERR);
	expect_signal(&r, SIM_WRITE, ro + 0x2005, SEGV, ACCERR);
	expect_signal(&r, SIM_EXEC, ro + 0x2000, SEGV, ACCERR);
	assert_int_equal(r.cpu->esr >> ESR_EC_SHIFT, ESR_EC_IABT_LOW);
	expect_signal(&r, SIM_READ, none, SEGV, ACCERR);
	assert_int_equal(load8(&r, wo), 0); /* what may be written may be read */
	expect_signal(&r, SIM_READ, 0xffff800000000000ull, SEGV, MAPERR);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 0);
	rig_free(&r);
}

static void test_kernel_mode(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 64 * KIB, RW), v;

	(void)state;
	sim_cpu_set_el(r.cpu, 1);
	assert_int_equal(sim_store_unpriv(r.cpu, a, 8, 77), 0); /* copy_to_user faults the page in */
	assert_int_equal(r.cpu->esr >> ESR_EC_SHIFT, ESR_EC_DABT_CUR);
	assert_int_equal(sim_load_unpriv(r.cpu, 0x123000, 8, &v), -EFAULT);
	assert_int_equal(r.cpu->result, FAULT_FIXUP);
	assert_int_equal(sim_load_unpriv(r.cpu, 0xffff900000000000ull, 8, &v), -EFAULT);
	assert_int_equal(r.cpu->result, FAULT_FIXUP);
	sim_cpu_set_el(r.cpu, 0);
	assert_int_equal(load8(&r, a), 77);
	/* Cache maintenance sets WnR but only reads: no page of its own. */
	assert_int_equal(sim_cache_op(r.cpu, a + 0x3000), 0);
	assert_int_equal(pte_pfn(pte_of(r.mm, a + 0x3000)), r.q->zero_pfn);
	rig_free(&r);
}

static void test_stack(void **state)
{
	struct sim_config cfg = config(4);
	struct rig r = rig_new(&cfg);
	u64 top = 0x50000000, start = top - 64 * KIB;

	(void)state;
	assert_true(do_mmap(r.mm, NULL, start, 64 * KIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED,
			    0) > 0);
	r.mm->rlim_stack = 1 * MIB;
	r.q->trace_faults = true;
	store8(&r, start - 8, 5);
	assert_true(traced(r.q, "expand_stack"));
	assert_int_equal(vma_start(vma_lookup(r.mm, start)), start - PAGE_SIZE);
	store8(&r, top - 1 * MIB, 6); /* as far as the limit goes */
	expect_signal(&r, SIM_WRITE, top - 1 * MIB - 1, SEGV, MAPERR);
	assert_int_equal(load8(&r, start - 8), 5);
	/* The guard gap before the next mapping below. */
	r.mm->rlim_stack = 8 * MIB;
	map_anon(r.mm, top - 3 * MIB, 64 * KIB, RW);
	store8(&r, top - 3 * MIB + 64 * KIB + STACK_GUARD_GAP, 1);
	expect_signal(&r, SIM_WRITE, top - 3 * MIB + 64 * KIB + STACK_GUARD_GAP - 1, SEGV, MAPERR);
	rig_free(&r);
}

/* ---- copy-on-write ---- */

static void test_cow_small(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 64 * KIB, RW);
	struct mm_struct *child, *parent = r.mm;
	pfn_t pfn;

	(void)state;
	store8(&r, a, 1);
	store8(&r, a + 0x1000, 2);
	child = dup_mm(parent);
	assert_false(IS_ERR(child));
	pfn = pte_pfn(pte_of(parent, a));
	assert_int_equal(pte_pfn(pte_of(child, a)), pfn);
	assert_int_equal(pfn_folio(r.q, pfn)->f.refcount, 2);
	r.q->trace_faults = true;
	store8(&r, a, 10);
	assert_true(traced(r.q, "wp_page_copy"));
	assert_int_not_equal(pte_pfn(pte_of(parent, a)), pfn);
	assert_int_equal(pfn_folio(r.q, pfn)->f.refcount, 1);
	sim_cpu_switch_mm(r.cpu, child);
	assert_int_equal(load8(&r, a), 1);
	store8(&r, a, 11); /* the last one keeps the page */
	assert_true(traced(r.q, "wp_page_reuse"));
	assert_int_equal(pte_pfn(pte_of(child, a)), pfn);
	assert_int_equal(load8(&r, a + 0x1000), 2);
	sim_cpu_switch_mm(r.cpu, parent);
	assert_int_equal(load8(&r, a), 10);
	assert_int_equal(sim_tlb_check(r.q), 0);
	mmput(child);
	rig_free(&r);
}

static void test_cow_batch(void **state)
{
	struct sim_config cfg = config(4);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0x10000000, 256 * KIB, RW), i, n;
	struct mm_struct *child, *parent = r.mm;

	(void)state;
	for (i = 0; i < 64; i++)
		store8(&r, a + i * PAGE_SIZE, 100 + i);
	child = dup_mm(parent);
	assert_false(IS_ERR(child));
	n = r.cpu->nr_exceptions;
	store8(&r, a + 0x15000, 1); /* copies 10000..1ffff */
	store8(&r, a + 0x1f000, 2);
	assert_int_equal(r.cpu->nr_exceptions, n + 1);
	assert_int_equal(r.q->vm_events[QCOW_BATCH], 1);
	assert_int_equal(load8(&r, a + 0x14000), 100 + 0x14);
	/* A block with a hole is copied page by page. */
	assert_int_equal(do_munmap(parent, a + 0x25000, PAGE_SIZE), 0);
	store8(&r, a + 0x20000, 3);
	assert_int_equal(r.q->vm_events[QCOW_COPY], 1);
	assert_int_equal(load8(&r, a + 0x21000), 100 + 0x21);
	/* The child alone has the first block now: one fault makes all of it writable. */
	sim_cpu_switch_mm(r.cpu, child);
	n = r.cpu->nr_exceptions;
	store8(&r, a + 0x10000, 5);
	assert_true(pte_excl(pte_of(child, a + 0x1f000)));
	assert_int_equal(load8(&r, a + 0x15000), 100 + 0x15);
	sim_cpu_switch_mm(r.cpu, parent);
	mmput(child);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 63);
	rig_free(&r);
}

static void test_pinned_page_is_copied(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 64 * KIB, RW);
	struct mm_struct *child;
	u32 pfn, shared;

	(void)state;
	store8(&r, a, 1);
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	mmput(child);
	/* Not exclusive any more, but only ours: a pin for reading makes it exclusive, so that it stays in view. */
	assert_int_equal(get_user_pages(r.mm, a, 1, false, &pfn), 1);
	assert_int_equal(pte_pfn(pte_of(r.mm, a)), pfn);
	store8(&r, a, 2);
	assert_int_equal(pte_pfn(pte_of(r.mm, a)), pfn);
	assert_int_equal(*(u64 *)frame_address(r.q, pfn_to_frame(r.q, pfn)), 2);
	put_user_pages(r.q, &pfn, 1, true);
	/* An extra reference to a page that is not exclusive: always a copy. */
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	mmput(child);
	shared = pte_pfn(pte_of(r.mm, a));
	spin_lock(&r.q->lock);
	folio_get(pfn_folio(r.q, shared), 1);
	spin_unlock(&r.q->lock);
	store8(&r, a, 3);
	assert_int_not_equal(pte_pfn(pte_of(r.mm, a)), shared);
	put_user_pages(r.q, &shared, 1, false);
	rig_free(&r);
}

/* ---- accessed and dirty ---- */

static void test_af_and_dirty(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 64 * KIB, RW);
	pte_t *slot;

	(void)state;
	store8(&r, a, 1);
	slot = pte_lookup(r.mm, a);
	spin_lock(&r.mm->lock);
	set_pte(r.mm, slot, pte_mkold(pte_mkclean(pte_read(slot))));
	port_tlb_flush_range(r.mm, a, a + PAGE_SIZE);
	spin_unlock(&r.mm->lock);
	port_tlb_sync(r.mm);
	assert_int_equal(load8(&r, a), 1);
	assert_int_equal(r.cpu->esr & 0x3c, FSC_ACCESS);
	assert_true(pte_young(pte_read(slot)));
	assert_false(pte_dirty(pte_read(slot)));
	store8(&r, a, 2);
	assert_int_equal(r.cpu->esr & 0x3c, FSC_PERMISSION);
	assert_true(pte_dirty(pte_read(slot)));
	rig_free(&r);
}

/* ---- the table ---- */

static void test_abort_table(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	struct fault_info info;
	u64 a = map_anon(r.mm, 0, 64 * KIB, PROT_READ);
	u32 fsc;

	(void)state;
	for (fsc = 0; fsc < 64; fsc++) {
		bool page = (fsc >= 4 && fsc <= 15) || fsc == 0x2b;
		enum fault_result res = do_mem_abort(r.mm, a + 8, esr_make(ESR_EC_DABT_LOW, true, fsc), &info);

		assert_int_equal(res, FAULT_SIGNAL);
		assert_int_equal(info.addr, a + 8);
		if (page || fsc == 0x11)
			assert_int_equal(info.sig, SEGV);
		else if (fsc == 0x21 || fsc == 0x10 || fsc == 0x18)
			assert_int_equal(info.sig, SIGBUS_);
		else
			assert_int_equal(info.sig, 9);
		if (page)
			assert_int_equal(info.code, ACCERR);
		if (fsc == 0x21)
			assert_int_equal(info.code, 1); /* BUS_ADRALN */
		if (fsc == 0x10)
			assert_int_equal(info.code, 3); /* BUS_OBJERR */
		assert_int_equal(do_mem_abort(r.mm, a + 8, esr_make(ESR_EC_DABT_CUR, true, fsc), &info), FAULT_FIXUP);
	}
	assert_int_equal(do_mem_abort(NULL, a, esr_make(ESR_EC_DABT_CUR, false, 7), &info), FAULT_FIXUP);
	rig_free(&r);
}

/* ---- get_user_pages and friends ---- */

static void test_access_process_vm(void **state)
{
	struct sim_config cfg = config(4);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0x10000000, 128 * KIB, RW), ro = map_anon(r.mm, 0x20000000, 64 * KIB, PROT_READ);
	char out[9000], in[9000];

	(void)state;
	memset(out, 0x5a, sizeof(out));
	assert_int_equal(access_process_vm(r.mm, a + 100, out, sizeof(out), true), sizeof(out));
	assert_int_equal(access_process_vm(r.mm, a + 100, in, sizeof(in), false), sizeof(in));
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(load8(&r, a + 100), 0x5a5a5a5a5a5a5a5aull);
	/* Short at the end of the mapping, -EFAULT if there is nothing. */
	assert_int_equal(access_process_vm(r.mm, a + 128 * KIB - 10, out, 100, true), 10);
	assert_int_equal(access_process_vm(r.mm, a + 128 * KIB, out, 100, true), -EFAULT);
	assert_int_equal(access_process_vm(r.mm, ~0ull - 50, out, 100, true), -EFAULT);
	assert_int_equal(access_process_vm(r.mm, ro, in, 100, false), 100);
	assert_int_equal(in[0], 0);
	assert_int_equal(access_process_vm(r.mm, ro, out, 100, true), -EFAULT);
	assert_int_equal(access_process_vm_flags(r.mm, ro, out, 100, true, ACCESS_FORCE), 100);
	assert_int_equal(load8(&r, ro), 0x5a5a5a5a5a5a5a5aull);
	expect_signal(&r, SIM_WRITE, ro, SEGV, ACCERR);
	/* Nobody touched anything: no faults are counted for that. */
	assert_int_equal(r.mm->min_flt, 0);
	rig_free(&r);
}

static void test_populate(void **state)
{
	struct sim_config cfg = config(0);
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0x10000000, 64 * KIB, RW), b = map_anon(r.mm, 0x10020000, 64 * KIB, PROT_READ);
	u64 n = r.cpu->nr_exceptions;

	(void)state;
	assert_int_equal(mm_populate(r.mm, a, b + 64 * KIB, true), 0);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 16); /* read-only memory gets the zero page */
	store8(&r, a + 0xf000, 1);
	assert_int_equal(load8(&r, b + 0xf000), 0);
	assert_int_equal(r.cpu->nr_exceptions, n);
	map_anon(r.mm, 0x10020000, PAGE_SIZE, PROT_NONE);
	assert_int_equal(mm_populate(r.mm, a, b + 64 * KIB, true), -EFAULT);
	rig_free(&r);
}

/* ---- out of memory ---- */

static void test_out_of_memory(void **state)
{
	struct sim_config cfg = { .memory = 8 * MIB, .overcommit_memory = 1 };
	struct rig r = rig_new(&cfg);
	u64 a = map_anon(r.mm, 0, 32 * MIB, RW), i;
	int err = 0;

	(void)state;
	for (i = 0; !err && i < 32 * MIB; i += PAGE_SIZE)
		err = sim_store(r.cpu, a + i, 8, i);
	assert_int_equal(err, -EINTR);
	assert_int_equal(r.cpu->result, FAULT_KILLED);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], i / PAGE_SIZE - 1);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_write_4k), cmocka_unit_test(test_zero_page),
		cmocka_unit_test(test_large_folios), cmocka_unit_test(test_huge_folios),
		cmocka_unit_test(test_nohugepage_and_pressure),
		cmocka_unit_test(test_rights), cmocka_unit_test(test_kernel_mode), cmocka_unit_test(test_stack),
		cmocka_unit_test(test_cow_small), cmocka_unit_test(test_cow_batch),
		cmocka_unit_test(test_pinned_page_is_copied), cmocka_unit_test(test_af_and_dirty),
		cmocka_unit_test(test_abort_table), cmocka_unit_test(test_access_process_vm),
		cmocka_unit_test(test_populate), cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
