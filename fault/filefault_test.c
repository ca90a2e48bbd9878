/* Faults on files: the page cache, fault-around, private copies, shared dirty pages, writeback, tokens, cutting, shmem.
 * */
#include "testutil.h"

#define BUS_ADRERR_ 2

static struct sim_config config(void)
{
	return (struct sim_config){ .memory = 64 * MIB, .folio_max_order = 4, .overcommit_memory = 1,
				    .check_law1 = true, .check_reuse = true };
}

static void check_cache(struct rig *r, struct address_space *m)
{
	spin_lock(&r->q->lock);
	assert_true(mapping_is_valid(m));
	spin_unlock(&r->q->lock);
}

static void end(struct rig *r, struct test_file *t)
{
	struct file *f = t->file;

	check_cache(r, t->m);
	rig_drop_mm(r);
	file_put(f);
	assert_true(t->released);
	tf_free(t);
	assert_int_equal(r->q->nr_file_pages, 0);
	assert_int_equal(r->q->nr_dirty_pages, 0);
	assert_int_equal(r->q->nr_writeback_pages, 0);
	rig_free(r);
}

static void test_read_fault_around(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 64 * PAGE_SIZE, 0);
	u64 a = map_file(r.mm, t->file, 64 * PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0), i;

	(void)state;
	r.q->trace_faults = true;
	assert_int_equal(load8(&r, a + 5 * PAGE_SIZE) & 0xff, 6);
	assert_true(traced(r.q, "do_read_fault"));
	assert_true(traced(r.q, "filemap_map_pages"));
	assert_int_equal(r.mm->maj_flt, 1);
	assert_int_equal(r.mm->min_flt, 0);
	assert_int_equal(r.q->vm_events[PGMAJFAULT], 1);
	assert_int_equal(r.mm->rss[MM_FILEPAGES], 16); /* the aligned window around the page, as on Linux */
	assert_int_equal(t->reads, 16);
	for (i = 0; i < 16; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE) & 0xff, i + 1);
	assert_int_equal(r.cpu->nr_exceptions, 1);
	assert_int_equal(r.q->nr_file_mapped, 16);
	/* A second mapping finds everything: a minor fault. */
	i = map_file(r.mm, t->file, 64 * PAGE_SIZE, PROT_READ, MAP_SHARED, 0);
	assert_int_equal(load8(&r, i + 3 * PAGE_SIZE) & 0xff, 4);
	assert_int_equal(r.mm->min_flt, 1);
	assert_int_equal(t->reads, 16);
	assert_int_equal(r.mm->rss[MM_FILEPAGES], 32);
	assert_int_equal(r.q->nr_file_mapped, 16);
	check_cache(&r, t->m);
	end(&r, t);
}

static void test_private_write(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 16 * PAGE_SIZE, 0);
	u64 a = map_file(r.mm, t->file, 16 * PAGE_SIZE, RW, MAP_PRIVATE, 0);

	(void)state;
	r.q->trace_faults = true;
	store8(&r, a + 2 * PAGE_SIZE, 99);
	assert_true(traced(r.q, "do_cow_fault"));
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 1);
	assert_int_equal(load8(&r, a + 2 * PAGE_SIZE), 99);
	assert_int_equal(load8(&r, a + 2 * PAGE_SIZE + 8) & 0xff, 3);
	assert_int_equal(load8(&r, a + 3 * PAGE_SIZE) & 0xff, 4);
	store8(&r, a + 3 * PAGE_SIZE, 98); /* read first, then written */
	assert_true(traced(r.q, "wp_page_copy"));
	assert_int_equal(load8(&r, a + 3 * PAGE_SIZE + 8) & 0xff, 4);
	assert_int_equal(r.mm->rss[MM_ANONPAGES], 2);
	assert_int_equal(r.mm->rss[MM_FILEPAGES], 14);
	assert_int_equal(t->data[2 * PAGE_SIZE], 3);
	assert_int_equal(r.q->nr_dirty_pages, 0);
	end(&r, t);
}

static void test_shared_write_and_writeback(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 16 * PAGE_SIZE, 0);
	u64 a = map_file(r.mm, t->file, 16 * PAGE_SIZE, RW, MAP_SHARED, 0), b;

	(void)state;
	r.q->trace_faults = true;
	store8(&r, a + PAGE_SIZE, 1000);
	assert_true(traced(r.q, "do_shared_fault"));
	assert_int_equal(r.mm->rss[MM_FILEPAGES], 1);
	assert_int_equal(load8(&r, a), 0x0101010101010101ull);
	store8(&r, a, 2000); /* mapped clean by the read: a dirty fault */
	assert_true(traced(r.q, "fault_dirty_shared_page"));
	assert_int_equal(r.q->nr_dirty_pages, 2);
	b = map_file(r.mm, t->file, 16 * PAGE_SIZE, PROT_READ, MAP_SHARED, 0);
	assert_int_equal(load8(&r, b), 2000);
	assert_int_not_equal(*(u64 *)t->data, 2000);
	assert_int_equal(filemap_sync(t->m, 0, 16 * PAGE_SIZE, true), 0);
	assert_int_equal(t->writes, 2);
	assert_int_equal(t->syncs, 1);
	assert_int_equal(*(u64 *)t->data, 2000);
	assert_int_equal(r.q->nr_dirty_pages, 0);
	/* Clean again: nothing more to write; and the next store is noticed. */
	assert_int_equal(filemap_sync(t->m, 0, ~0ull, true), 0);
	assert_int_equal(t->writes, 2);
	store8(&r, a, 3000);
	assert_int_equal(r.q->nr_dirty_pages, 1);
	assert_int_equal(filemap_sync(t->m, 0, ~0ull, true), 0);
	assert_int_equal(*(u64 *)t->data, 3000);
	/* An I/O error is told, and nothing is forgotten. */
	store8(&r, a, 4000);
	t->broken = true;
	assert_int_equal(filemap_sync(t->m, 0, ~0ull, true), -EIO);
	t->broken = false;
	assert_int_equal(r.q->nr_dirty_pages, 1);
	/* The last close writes what is left. */
	assert_int_equal(do_munmap(r.mm, a, 16 * PAGE_SIZE), 0);
	assert_int_equal(do_munmap(r.mm, b, 16 * PAGE_SIZE), 0);
	rig_drop_mm(&r);
	file_put(t->file);
	assert_true(t->released);
	assert_int_equal(*(u64 *)t->data, 4000);
	tf_free(t);
	rig_free(&r);
}

static void test_beyond_the_end(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 3 * PAGE_SIZE + 100, 0);
	u64 a = map_file(r.mm, t->file, 16 * PAGE_SIZE, RW, MAP_SHARED, 0);
	u64 p = map_file(r.mm, t->file, 16 * PAGE_SIZE, RW, MAP_PRIVATE, 0);

	(void)state;
	assert_int_equal(load8(&r, a + 3 * PAGE_SIZE), 0x0404040404040404ull);
	assert_int_equal(load8(&r, a + 3 * PAGE_SIZE + 104), 0);
	expect_signal(&r, SIM_READ, a + 4 * PAGE_SIZE + 7, 7, BUS_ADRERR_);
	expect_signal(&r, SIM_WRITE, a + 4 * PAGE_SIZE, 7, BUS_ADRERR_);
	expect_signal(&r, SIM_WRITE, p + 4 * PAGE_SIZE, 7, BUS_ADRERR_);
	t->broken = true;
	assert_int_equal(do_munmap(r.mm, a, 16 * PAGE_SIZE), 0);
	invalidate_mapping_range(t->m, 0, 16 * PAGE_SIZE);
	expect_signal(&r, SIM_READ, p, 7, BUS_ADRERR_); /* cannot be read */
	t->broken = false;
	assert_int_equal(load8(&r, p) & 0xff, 1);
	end(&r, t);
}

static void test_truncate(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 16 * PAGE_SIZE, 0);
	u64 a = map_file(r.mm, t->file, 16 * PAGE_SIZE, RW, MAP_SHARED, 0);
	u64 p = map_file(r.mm, t->file, 16 * PAGE_SIZE, RW, MAP_PRIVATE, 0), i;
	struct mm_struct *child;

	(void)state;
	for (i = 0; i < 16; i++) {
		store8(&r, a + i * PAGE_SIZE + 8, i);
		store8(&r, p + i * PAGE_SIZE, i);
	}
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	t->size = 5 * PAGE_SIZE + 16;
	truncate_pagecache(t->m, t->size);
	check_cache(&r, t->m);
	assert_int_equal(t->m->nrpages, 6);
	assert_int_equal(load8(&r, a + 5 * PAGE_SIZE + 8), 5);
	assert_int_equal(load8(&r, a + 5 * PAGE_SIZE + 16), 0); /* the tail is zero, though it was not */
	expect_signal(&r, SIM_READ, a + 6 * PAGE_SIZE, 7, BUS_ADRERR_);
	expect_signal(&r, SIM_READ, p + 6 * PAGE_SIZE, 7, BUS_ADRERR_); /* private copies go, too */
	assert_int_equal(load8(&r, p + 5 * PAGE_SIZE), 5);
	sim_cpu_switch_mm(r.cpu, child);
	expect_signal(&r, SIM_WRITE, a + 6 * PAGE_SIZE, 7, BUS_ADRERR_);
	assert_int_equal(load8(&r, p + 5 * PAGE_SIZE), 5);
	sim_cpu_switch_mm(r.cpu, r.mm);
	mmput(child);
	/* It grows again: zeros. */
	memset(t->data + t->size, 0, t->capacity - t->size);
	t->size = 16 * PAGE_SIZE;
	assert_int_equal(load8(&r, a + 6 * PAGE_SIZE + 8), 0);
	assert_int_equal(sim_tlb_check(r.q), 0);
	end(&r, t);
}

static void test_plain_io_is_coherent(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 16 * PAGE_SIZE, 0);
	u64 a = map_file(r.mm, t->file, 32 * PAGE_SIZE, RW, MAP_SHARED, 0), v = 0;
	char buf[3 * 4096];

	(void)state;
	store8(&r, a + 8, 77);
	assert_int_equal(filemap_read(t->m, 8, &v, 8), 8);
	assert_int_equal(v, 77);
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(filemap_write(t->m, PAGE_SIZE - 10, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(load8(&r, a + PAGE_SIZE), 0xeeeeeeeeeeeeeeeeull);
	assert_int_equal(load8(&r, a + 8), 77);
	/* A write behind the end makes the file longer, and the pages appear. */
	expect_signal(&r, SIM_READ, a + 16 * PAGE_SIZE, 7, BUS_ADRERR_);
	assert_int_equal(filemap_write(t->m, 17 * PAGE_SIZE, buf, 10), 10);
	assert_int_equal(load8(&r, a + 17 * PAGE_SIZE), 0xeeeeeeeeeeeeeeeeull);
	assert_int_equal(filemap_read(t->m, 17 * PAGE_SIZE + 4, buf, 100), 6);
	assert_int_equal(filemap_read(t->m, 18 * PAGE_SIZE, buf, 100), 0);
	end(&r, t);
}

static void test_readahead_grows(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 256 * PAGE_SIZE, 0);
	u64 i, misses = 0, before;
	char c;

	(void)state;
	for (i = 0; i < 256; i++) {
		before = t->reads;
		assert_int_equal(filemap_read(t->m, i * PAGE_SIZE, &c, 1), 1);
		assert_int_equal((u8)c, (u8)(i + 1));
		misses += t->reads != before;
	}
	assert_int_equal(t->reads, 256);
	assert_in_range(misses, 8, 20); /* windows of 16, 4 .. 32 pages; not one miss a page */
	end(&r, t);
}

/* ---- tokens ---- */

static void test_tokens(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 100 * PAGE_SIZE + 50, AS_TOKEN);
	struct mm_struct *mm = r.mm;
	u64 a = map_file(mm, t->file, 128 * PAGE_SIZE, RW, MAP_PRIVATE, 0), i;
	struct fault_info info;
	u64 v;

	(void)state;
	/* The MMU would see the token's own bytes, so the faults are raised by hand, as the hosted port does. */
	assert_int_equal(do_mem_abort(mm, a + 5 * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, false, 7), &info), FAULT_OK);
	assert_int_equal(mm->rss[MM_FILEPAGES], 64);
	assert_int_equal(t->m->nrpages, 64);
	assert_int_equal(t->reads + t->copy_outs, 0);
	assert_int_equal(mm->maj_flt, 0);
	assert_int_equal(pte_folio(mm, pte_of(mm, a))->f.type, FRAME_FILE);
	/* A private copy: bytes through copy_out, into a frame of ours. */
	assert_int_equal(do_mem_abort(mm, a + 5 * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, true, 15), &info), FAULT_OK);
	assert_int_equal(t->copy_outs, 1);
	assert_int_equal(load8(&r, a + 5 * PAGE_SIZE), 0x0606060606060606ull);
	assert_int_equal(mm->rss[MM_FILEPAGES], 63);
	assert_int_equal(mm->rss[MM_ANONPAGES], 1);
	/* Straight away, at the file's last, partial page; and beyond. */
	store8(&r, a + 100 * PAGE_SIZE, 1);
	assert_int_equal(load8(&r, a + 100 * PAGE_SIZE + 40) & 0xff, 101);
	assert_int_equal(load8(&r, a + 100 * PAGE_SIZE + 56), 0);
	expect_signal(&r, SIM_WRITE, a + 101 * PAGE_SIZE, 7, BUS_ADRERR_);
	assert_int_equal(do_mem_abort(mm, a + 101 * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, false, 7), &info),
			 FAULT_SIGNAL);
	assert_int_equal(info.sig, 7);
	/* The kernel reaches token pages through the operations. */
	assert_int_equal(access_process_vm(mm, a + 7 * PAGE_SIZE, &v, 8, false), 8);
	assert_int_equal(v, 0x0808080808080808ull);
	i = map_file(mm, t->file, 64 * PAGE_SIZE, RW, MAP_SHARED, 0);
	v = 0x1234;
	assert_int_equal(access_process_vm(mm, i + 8, &v, 8, true), 8);
	assert_int_equal(*(u64 *)(t->data + 8), 0x1234);
	assert_int_equal(r.q->nr_dirty_pages, 0);
	/* The host cut the file. */
	t->size = 2 * PAGE_SIZE;
	truncate_pagecache(t->m, t->size);
	assert_int_equal(t->m->nrpages, 2);
	assert_int_equal(do_mem_abort(mm, a + 5 * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, false, 7), &info), FAULT_SIGNAL);
	check_cache(&r, t->m);
	end(&r, t);
}

/* The data of the program that runs is copied in blocks after a few pages; any other file's page by page. */
static void test_program_data(void **state)
{
	enum { PAGES = 150, EARLY = 6 };
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, PAGES * PAGE_SIZE - 50, AS_TOKEN);
	struct mm_struct *mm = r.mm;
	u64 a = map_file(mm, t->file, 160 * PAGE_SIZE, RW, MAP_PRIVATE, 0), i;
	struct fault_info info;
	u64 v;

	(void)state;
	for (i = 0; i < 32; i++)
		store8(&r, a + i * PAGE_SIZE, i);
	assert_int_equal(t->copy_outs, 32);
	assert_int_equal(mm->rss[MM_ANONPAGES], 32);
	mm->exe_file = t->file;
	t->file->refcount++;
	/* Some pages are mapped, most are not; the first few are copied alone. */
	assert_int_equal(do_mem_abort(mm, a + 70 * PAGE_SIZE, esr_make(ESR_EC_DABT_LOW, false, 7), &info), FAULT_OK);
	for (i = 0; i < EARLY; i++)
		store8(&r, a + (32 + i) * PAGE_SIZE, i);
	assert_int_equal(mm->rss[MM_ANONPAGES], 32 + EARLY);
	/* Mapped pages are replaced, and the others appear. */
	v = (u64)t->copy_outs;
	store8(&r, a + 79 * PAGE_SIZE, 79);
	assert_int_equal(t->copy_outs, v + 1);
	assert_int_equal(mm->rss[MM_ANONPAGES], 32 + EARLY + 16);
	for (i = 64; i < 80; i++)
		assert_int_equal(load8(&r, a + i * PAGE_SIZE + 8), (i + 1) * 0x0101010101010101ull);
	assert_int_equal(load8(&r, a + 79 * PAGE_SIZE), 79);
	/* Where pages were copied before, smaller blocks. */
	store8(&r, a + 47 * PAGE_SIZE, 1);
	assert_int_equal(mm->rss[MM_ANONPAGES], 32 + EARLY + 16 + 4);
	/* At the end of the file no page behind it comes into being, and its last one ends in zeroes. */
	store8(&r, a + (PAGES - 1) * PAGE_SIZE, 1);
	assert_int_equal(mm->rss[MM_ANONPAGES], 32 + EARLY + 16 + 4 + 1);
	assert_int_equal(load8(&r, a + PAGES * PAGE_SIZE - 40), 0);
	expect_signal(&r, SIM_WRITE, a + PAGES * PAGE_SIZE, 7, BUS_ADRERR_);
	check_cache(&r, t->m);
	end(&r, t);
}

/* Small data of a library is copied in blocks from its start, wherever that is; that of a file without text page by page. */
static void test_library_data(void **state)
{
	enum { TEXT = 5, DATA = 7 };
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, (TEXT + DATA) * PAGE_SIZE, AS_TOKEN);
	struct mm_struct *mm = r.mm;
	u64 a = map_file(mm, t->file, (TEXT + DATA) * PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0), d = a + TEXT * PAGE_SIZE, i;

	(void)state;
	/* Somebody may write to the file. */
	assert_int_equal(do_mmap(mm, t->file, d, DATA * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED, TEXT), (long)d);
	store8(&r, d + 5 * PAGE_SIZE, 5);
	assert_int_equal(mm->rss[MM_ANONPAGES], 1);
	assert_int_equal(do_munmap(mm, d, DATA * PAGE_SIZE), 0);
	t->copy_outs = 0;
	assert_int_equal(do_mmap(mm, t->file, d, DATA * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED | MAP_DENYWRITE, TEXT), (long)d);
	/* 4 + 2 + 1 */
	store8(&r, d + 5 * PAGE_SIZE, 5);
	assert_int_equal(mm->rss[MM_ANONPAGES], 2);
	store8(&r, d + 6 * PAGE_SIZE, 6);
	assert_int_equal(mm->rss[MM_ANONPAGES], 3);
	store8(&r, d + 2 * PAGE_SIZE, 2);
	assert_int_equal(mm->rss[MM_ANONPAGES], 7);
	assert_int_equal(t->copy_outs, 3);
	for (i = 0; i < DATA; i++)
		assert_int_equal(load8(&r, d + i * PAGE_SIZE + 8), (TEXT + i + 1) * 0x0101010101010101ull);
	/* What cannot be executed is no library's. */
	assert_int_equal(do_munmap(mm, a, (TEXT + DATA) * PAGE_SIZE), 0);
	a = map_file(mm, t->file, (TEXT + DATA) * PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0);
	d = a + TEXT * PAGE_SIZE;
	assert_int_equal(do_mmap(mm, t->file, d, DATA * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED | MAP_DENYWRITE, TEXT), (long)d);
	store8(&r, d + 2 * PAGE_SIZE, 2);
	assert_int_equal(mm->rss[MM_ANONPAGES], 1);
	check_cache(&r, t->m);
	end(&r, t);
}

/* Private pages that moved beside others of their file: both become one mapping when their rights agree, as on Linux. */
static void test_moved_private_pages_merge(void **state)
{
	for (u32 below = 0; below < 2; below++) {
		struct sim_config cfg = config();
		struct rig r = rig_new(&cfg);
		struct test_file *t = tf_new(r.q, 1, 6 * PAGE_SIZE, AS_TOKEN);
		struct mm_struct *mm = r.mm;
		u64 a = map_file(mm, t->file, 3 * PAGE_SIZE, RW, MAP_PRIVATE, below ? 3 : 0), n = 0x50000000;
		u64 to = n + (below ? 3 : 0) * PAGE_SIZE, other = n + (below ? 0 : 3) * PAGE_SIZE;
		struct vm_area_struct *vma;

		(void)state;
		store8(&r, a + PAGE_SIZE, 11);
		assert_int_equal(do_mprotect(mm, a, 3 * PAGE_SIZE, PROT_READ), 0);
		assert_int_equal(do_mremap(mm, a, 3 * PAGE_SIZE, 3 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to), (long)to);
		assert_int_equal(do_mmap(mm, t->file, other, 3 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_FIXED, below ? 0 : 3), (long)other);
		store8(&r, other + 2 * PAGE_SIZE, 22);
		assert_int_equal(do_mprotect(mm, other, 3 * PAGE_SIZE, PROT_READ), 0);
		vma = find_vma(mm, n);
		assert_true(vma_start(vma) == n && vma_pages(vma) == 6);
		assert_int_equal(load8(&r, to + PAGE_SIZE), 11);
		assert_int_equal(load8(&r, other + 2 * PAGE_SIZE), 22);
		check_cache(&r, t->m);
		end(&r, t);
	}
}

/* A miss brings in no pages that the file did not have when it was opened, but for the one that is wanted and those in front of it. */
static void test_token_window(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	struct test_file *t = tf_new(r.q, 1, 40 * PAGE_SIZE, AS_TOKEN);
	u64 a = map_file(r.mm, t->file, 40 * PAGE_SIZE, PROT_READ, MAP_PRIVATE, 0);

	(void)state;
	t->m->ra_end = 3;
	load8(&r, a);
	assert_int_equal(t->m->nrpages, 3);
	load8(&r, a + 9 * PAGE_SIZE);
	assert_int_equal(t->m->nrpages, 10);
	check_cache(&r, t->m);
	end(&r, t);
}

/* ---- shmem ---- */

static void test_shmem(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	u64 base = r.q->committed_pages, a, b;
	struct file *f = shmem_file_setup(r.q, "memfd:x", 1 * MIB, 0);
	struct mm_struct *other = mm_alloc(r.q, NULL);
	u64 v = 5;

	(void)state;
	assert_non_null(f);
	assert_int_equal(r.q->committed_pages, base + 256);
	a = map_file(r.mm, f, 1 * MIB, RW, MAP_SHARED, 0);
	b = map_file(other, f, 1 * MIB, RW, MAP_SHARED, 0);
	store8(&r, a + 0x12008, 1);
	assert_int_equal(r.mm->rss[MM_SHMEMPAGES], 16);
	assert_int_equal(r.q->nr_shmem_pages, 16);
	sim_cpu_switch_mm(r.cpu, other);
	assert_int_equal(load8(&r, b + 0x12008), 1);
	store8(&r, b + 0x12010, 2);
	sim_cpu_switch_mm(r.cpu, r.mm);
	assert_int_equal(load8(&r, a + 0x12010), 2);
	assert_int_equal(load8(&r, a + 0x80000), 0);
	/* As a file. */
	assert_int_equal(filemap_read(f->mapping, 0x12008, &v, 8), 8);
	assert_int_equal(v, 1);
	assert_int_equal(filemap_read(f->mapping, 0xf0000, &v, 8), 8);
	assert_int_equal(v, 0);
	v = 9;
	assert_int_equal(filemap_write(f->mapping, 0xf0000, &v, 8), 8);
	assert_int_equal(load8(&r, a + 0xf0000), 9);
	/* Cut in the middle of a folio, grown again. */
	store8(&r, a + 0x14000, 7);
	assert_int_equal(shmem_set_size(f->mapping, 0x13004), 0);
	expect_signal(&r, SIM_READ, a + 0x14000, 7, BUS_ADRERR_);
	assert_int_equal(load8(&r, a + 0x12008), 1);
	assert_int_equal(shmem_set_size(f->mapping, 1 * MIB), 0);
	assert_int_equal(load8(&r, a + 0x14000), 0);
	assert_int_equal(load8(&r, a + 0xf0000), 0);
	/* A hole. */
	store8(&r, a + 0x11000, 3);
	assert_int_equal(filemap_punch_hole(f->mapping, 0x11000, 0x20000), 0);
	assert_int_equal(load8(&r, a + 0x11000), 0);
	assert_int_equal(load8(&r, a + 0x12008), 0);
	check_cache(&r, f->mapping);
	assert_int_equal(sim_tlb_check(r.q), 0);
	mmput(other);
	rig_drop_mm(&r);
	file_put(f);
	assert_int_equal(r.q->committed_pages, base);
	assert_int_equal(r.q->nr_shmem_pages, 0);
	rig_free(&r);
}

static void test_shared_anonymous_fork(void **state)
{
	struct sim_config cfg = config();
	struct rig r = rig_new(&cfg);
	long a = do_mmap(r.mm, NULL, 0, 1 * MIB, RW, MAP_SHARED | MAP_ANONYMOUS, 0);
	struct mm_struct *child;

	(void)state;
	assert_true(a > 0);
	store8(&r, (u64)a, 1);
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	sim_cpu_switch_mm(r.cpu, child);
	store8(&r, (u64)a + 8, 2);
	sim_cpu_switch_mm(r.cpu, r.mm);
	assert_int_equal(load8(&r, (u64)a + 8), 2);
	mmput(child);
	rig_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_fault_around), cmocka_unit_test(test_private_write),
		cmocka_unit_test(test_shared_write_and_writeback), cmocka_unit_test(test_beyond_the_end),
		cmocka_unit_test(test_truncate), cmocka_unit_test(test_plain_io_is_coherent),
		cmocka_unit_test(test_readahead_grows), cmocka_unit_test(test_tokens), cmocka_unit_test(test_program_data),
		cmocka_unit_test(test_library_data), cmocka_unit_test(test_moved_private_pages_merge), cmocka_unit_test(test_token_window),
		cmocka_unit_test(test_shmem),
		cmocka_unit_test(test_shared_anonymous_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
