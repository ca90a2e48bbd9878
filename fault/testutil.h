/*
 * What the fault tests share: a machine with one CPU on one mm, and a file in memory that counts what is asked of it.
 * Test code only (libc, cmocka).
 */
#ifndef FAULT_TESTUTIL_H
#define FAULT_TESTUTIL_H
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <file/filemap.h>
#include <mm/mm.h>
#include <port/sim/mmu.h>
#include <port/sim/simfs.h>

#define MIB (1ul << 20)
#define KIB (1ul << 10)
#define RW (PROT_READ | PROT_WRITE)

/* ---- a file ---- */
struct test_file {
	struct address_space *m;
	struct file *file;
	u8 *data;
	u64 size, capacity; /* bytes */
	u64 reads, writes, copy_ins, copy_outs, syncs;
	bool broken;        /* every operation fails */
	bool released;
};

static inline struct test_file *tf_of(struct address_space *m) { return m->port_private; }

static inline long tf_copy_in(struct address_space *m, u64 off, const void *src, size_t len)
{
	struct test_file *t = tf_of(m);

	__atomic_fetch_add(&t->copy_ins, 1, __ATOMIC_RELAXED);
	if (t->broken)
		return -EIO;
	if (off >= t->capacity)
		return -EFBIG;
	len = MIN(len, t->capacity - off);
	memcpy(t->data + off, src, len);
	t->size = MAX(t->size, off + len);
	return (long)len;
}

static inline long tf_copy_out(struct address_space *m, u64 off, void *dst, size_t len)
{
	struct test_file *t = tf_of(m);

	__atomic_fetch_add(&t->copy_outs, 1, __ATOMIC_RELAXED);
	if (t->broken)
		return -EIO;
	if (off >= t->size)
		return 0;
	len = MIN(len, t->size - off);
	memcpy(dst, t->data + off, len);
	return (long)len;
}

static inline int tf_read_folio(struct address_space *m, struct folio *folio)
{
	struct test_file *t = tf_of(m);
	u8 *va = frame_address(m->q, &folio->f);
	u64 off = folio->f.index << PAGE_SHIFT, n = off < t->size ? MIN(PAGE_SIZE, t->size - off) : 0;

	__atomic_fetch_add(&t->reads, 1, __ATOMIC_RELAXED);
	if (t->broken)
		return -EIO;
	memcpy(va, t->data + off, n);
	memset(va + n, 0, PAGE_SIZE - n);
	return 0;
}

static inline int tf_write_folio(struct address_space *m, struct folio *folio)
{
	struct test_file *t = tf_of(m);
	u64 off = folio->f.index << PAGE_SHIFT;

	__atomic_fetch_add(&t->writes, 1, __ATOMIC_RELAXED);
	if (t->broken)
		return -EIO;
	if (off < t->size)
		memcpy(t->data + off, frame_address(m->q, &folio->f), MIN(PAGE_SIZE, t->size - off));
	return 0;
}

static inline int tf_sync(struct address_space *m, u64 start, u64 end)
{
	(void)start;
	(void)end;
	__atomic_fetch_add(&tf_of(m)->syncs, 1, __ATOMIC_RELAXED);
	return 0;
}

static inline u64 tf_size(struct address_space *m) { return tf_of(m)->size; }
static inline void tf_release(struct address_space *m) { tf_of(m)->released = true; }

__attribute__((unused)) static const struct mapping_ops tf_ops = {
	.copy_in = tf_copy_in, .copy_out = tf_copy_out, .read_folio = tf_read_folio, .write_folio = tf_write_folio,
	.sync = tf_sync, .size = tf_size, .release = tf_release,
};

/* Page i of the file starts as bytes of value i + 1. */
static inline struct test_file *tf_new(struct quire *q, u64 ino, u64 size, u32 as_flags)
{
	struct test_file *t = calloc(1, sizeof(*t));
	u64 i;

	t->capacity = PAGE_ALIGN(size) + 4 * MIB;
	t->data = calloc(1, t->capacity);
	t->size = size;
	for (i = 0; i < size; i++)
		t->data[i] = (u8)((i >> PAGE_SHIFT) + 1);
	t->m = mapping_get(q, 0x801, ino, &tf_ops, as_flags);
	assert_non_null(t->m);
	t->m->port_private = t;
	t->file = file_create(q, t->m, FMODE_READ | FMODE_WRITE, "/tmp/test");
	assert_non_null(t->file);
	mapping_put(t->m);
	return t;
}

static inline void tf_free(struct test_file *t)
{
	free(t->data);
	free(t);
}

/* ---- a machine ---- */
struct rig {
	struct quire *q;
	struct mm_struct *mm;
	struct sim_cpu *cpu;
	s64 frames; /* in use before anything was mapped */
};

/* Frames in use that are not slabs', beyond those in use at boot. */
static inline s64 frames_in_use(struct quire *q)
{
	return sim_leaked_frames(q) - (s64)(q->kmem.nr_slab_pages[0] + q->kmem.nr_slab_pages[1]);
}

static inline struct rig rig_new(const struct sim_config *cfg)
{
	struct rig r = { .q = sim_machine_new(cfg) };

	r.frames = frames_in_use(r.q);
	r.mm = mm_alloc(r.q, NULL);
	assert_non_null(r.mm);
	r.cpu = sim_cpu_get(r.q, 0);
	sim_set_abort_handler(r.q, do_mem_abort);
	sim_cpu_switch_mm(r.cpu, r.mm);
	sim_cpu_set_el(r.cpu, 0);
	return r;
}

static inline void rig_drop_mm(struct rig *r)
{
	sim_cpu_switch_mm(r->cpu, NULL);
	mmput(r->mm);
	r->mm = NULL;
}

static inline void rig_free(struct rig *r)
{
	if (r->mm)
		rig_drop_mm(r);
	assert_int_equal(r->q->nr_anon_pages, 0);
	assert_int_equal(r->q->nr_file_mapped, 0);
	assert_int_equal(port_ctx()->nparked, 0);
	assert_true(phys_is_valid(r->q));
	assert_int_equal(frames_in_use(r->q), r->frames);
	assert_int_equal(kmem_cache_live_objects(r->q, r->q->vma_cache), 0);
	assert_int_equal(kmem_cache_live_objects(r->q, r->q->radix_cache), 0);
	assert_int_equal(kmem_cache_live_objects(r->q, r->q->file_cache), 0);
	assert_int_equal(kmem_cache_live_objects(r->q, r->q->mapping_cache), 0);
	sim_machine_free(r->q);
}

static inline u64 map_anon(struct mm_struct *mm, u64 addr, u64 len, u64 prot)
{
	long a = do_mmap(mm, NULL, addr, len, prot, MAP_PRIVATE | MAP_ANONYMOUS | (addr ? MAP_FIXED : 0), 0);

	assert_true(a > 0);
	return (u64)a;
}

static inline u64 map_file(struct mm_struct *mm, struct file *f, u64 len, u64 prot, u64 flags, u64 pgoff)
{
	long a = do_mmap(mm, f, 0, len, prot, flags, pgoff);

	assert_true(a > 0);
	return (u64)a;
}

static inline pte_t pte_of(struct mm_struct *mm, u64 addr)
{
	return pte_at(mm, addr);
}

static inline u64 load8(struct rig *r, u64 addr)
{
	u64 v = ~0ull;

	assert_int_equal(sim_load(r->cpu, addr, 8, &v), 0);
	return v;
}

static inline void store8(struct rig *r, u64 addr, u64 v)
{
	assert_int_equal(sim_store(r->cpu, addr, 8, v), 0);
}

/* An access that must end in this signal at this address. */
static inline void expect_signal(struct rig *r, enum sim_access how, u64 addr, int sig, int code)
{
	u64 v;
	u32 insn;
	int err = how == SIM_READ ? sim_load(r->cpu, addr, 1, &v) :
		  how == SIM_WRITE ? sim_store(r->cpu, addr, 1, 1) : sim_fetch(r->cpu, addr, &insn);

	assert_int_equal(err, -EFAULT);
	assert_int_equal(r->cpu->result, FAULT_SIGNAL);
	assert_int_equal(r->cpu->info.sig, sig);
	assert_int_equal(r->cpu->info.code, code);
	assert_int_equal(r->cpu->info.addr, addr);
}

static inline bool traced(const struct quire *q, const char *fn)
{
	u32 i;

	for (i = 0; i < q->trace.n; i++)
		if (!strcmp(q->trace.fn[i], fn))
			return true;
	return false;
}

/* A file of port/sim/simfs.h that is mapped at addr goes: mapping, name and reference. */
static inline void file_end(struct rig *r, u64 addr, struct file *f)
{
	assert_int_equal(do_munmap(r->mm, addr, PAGE_ALIGN(sim_file_size(f))), 0);
	assert_int_equal(sim_file_unlink(r->q, f->path), 0);
	file_put(f);
}
#endif
