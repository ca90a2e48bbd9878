/*
 * The simulated disk: see simfs.h.
 *
 * A file's bytes lie in one lazily backed host mapping of fixed capacity, so that their addresses never change: the MMU
 * may remember them.  Invariant: bytes behind `size` are zero.  It moves whole folios by physical address, as a
 * DMA device would, so HighMem frames are as good as any.
 *
 * Locks: disk.lock for the list and reference counts; file.lock for size, bytes moved by operations, failures and
 * counts.  Both are innermost; nothing of the core is called under them.
 */
#include "simfs.h"
#include "mmu_internal.h"
#include <file/filemap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIN_CAPACITY (256ull << 20)

struct sim_file {
	struct sim_disk *disk;      /* immutable */
	struct sim_file *next;      /* disk.lock */
	char *path;                 /* immutable */
	u64 ino;                    /* immutable */
	u32 refs;                   /* the name + the address space; disk.lock */
	bool linked;                /* has its name; disk.lock */
	u8 *bytes;                  /* immutable */
	u64 capacity;               /* bytes; immutable */
	pthread_mutex_t lock;
	u64 size;                   /* bytes; lock */
	int broken;                 /* negative errno of every operation; lock */
	u64 fail_nth;               /* countdown; 0 = none; lock */
	int fail_err;               /* lock */
	struct sim_file_counts counts; /* lock */
};

struct sim_disk {
	pthread_mutex_t lock;
	struct sim_file *files;     /* lock */
	u64 last_ino;               /* lock */
};

static struct sim_file *file_of(struct address_space *m) { return m->port_private; }

/* ---- operations ---- */

/* Counts the operation and tells whether it fails.  Under file.lock. */
static int start_op(struct sim_file *s, u64 *counter)
{
	++*counter;
	if (s->fail_nth && --s->fail_nth == 0)
		return s->fail_err;
	return s->broken;
}

static long op_copy_in(struct address_space *m, u64 off, const void *src, size_t len)
{
	struct sim_file *s = file_of(m);
	long n;

	pthread_mutex_lock(&s->lock);
	n = start_op(s, &s->counts.copy_ins);
	if (!n && len && off >= s->capacity)
		n = -EFBIG;
	if (!n) {
		n = (long)MIN(len, s->capacity - MIN(off, s->capacity));
		memcpy(s->bytes + off, src, (size_t)n);
		s->size = MAX(s->size, off + (u64)n);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

static long op_copy_out(struct address_space *m, u64 off, void *dst, size_t len)
{
	struct sim_file *s = file_of(m);
	long n;

	pthread_mutex_lock(&s->lock);
	n = start_op(s, &s->counts.copy_outs);
	if (!n && off < s->size) {
		n = (long)MIN(len, s->size - off);
		memcpy(dst, s->bytes + off, (size_t)n);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* Physical bytes of a folio, wherever it lies. */
static u8 *folio_bytes(struct address_space *m, struct folio *folio)
{
	return sim_of(m->q)->ram + ((u64)folio_pfn(m->q, folio) << PAGE_SHIFT);
}

static int op_read_folio(struct address_space *m, struct folio *folio)
{
	struct sim_file *s = file_of(m);
	u64 off = folio->f.index << PAGE_SHIFT, len = (u64)folio_nr_pages(folio) << PAGE_SHIFT, n;
	u8 *to = folio_bytes(m, folio);
	int err;

	pthread_mutex_lock(&s->lock);
	err = start_op(s, &s->counts.reads);
	if (!err) {
		n = off < s->size ? MIN(len, s->size - off) : 0;
		memcpy(to, s->bytes + off, n);
		memset(to + n, 0, len - n);
	}
	pthread_mutex_unlock(&s->lock);
	return err;
}

/* Guests may be writing to the folio meanwhile, as to any page under writeback. */
SIM_RACY static void copy_racy(u8 *to, const u8 *from, u64 n)
{
	u64 i;

	for (i = 0; i + 8 <= n; i += 8)
		*(u64 *)(void *)(to + i) = *(const volatile u64 *)(const void *)(from + i);
	for (; i < n; i++)
		to[i] = *(const volatile u8 *)(from + i);
}

static int op_write_folio(struct address_space *m, struct folio *folio)
{
	struct sim_file *s = file_of(m);
	u64 off = folio->f.index << PAGE_SHIFT, len = (u64)folio_nr_pages(folio) << PAGE_SHIFT;
	int err;

	pthread_mutex_lock(&s->lock);
	err = start_op(s, &s->counts.writes);
	if (!err && off < s->size)
		copy_racy(s->bytes + off, folio_bytes(m, folio), MIN(len, s->size - off));
	pthread_mutex_unlock(&s->lock);
	return err;
}

static int op_sync(struct address_space *m, u64 start, u64 end)
{
	struct sim_file *s = file_of(m);
	int err;

	(void)start;
	(void)end;
	pthread_mutex_lock(&s->lock);
	err = start_op(s, &s->counts.syncs);
	pthread_mutex_unlock(&s->lock);
	return err;
}

static u64 op_size(struct address_space *m)
{
	struct sim_file *s = file_of(m);
	u64 size;

	pthread_mutex_lock(&s->lock);
	size = s->size;
	pthread_mutex_unlock(&s->lock);
	return size;
}

static void free_file(struct sim_file *s)
{
	munmap(s->bytes, s->capacity);
	pthread_mutex_destroy(&s->lock);
	free(s->path);
	free(s);
}

/* Drops one reference; the last one frees the file. */
static void put_file(struct sim_file *s)
{
	struct sim_disk *d = s->disk;
	struct sim_file **link;
	bool last;

	pthread_mutex_lock(&d->lock);
	last = --s->refs == 0;
	for (link = &d->files; last && *link != s; link = &(*link)->next)
		;
	if (last)
		*link = s->next;
	pthread_mutex_unlock(&d->lock);
	if (last)
		free_file(s);
}

static void op_release(struct address_space *m)
{
	struct sim_file *s = file_of(m);

	m->port_private = NULL;
	if (s)
		put_file(s);
}

static const struct mapping_ops sim_file_ops = {
	.copy_in = op_copy_in,
	.copy_out = op_copy_out,
	.read_folio = op_read_folio,
	.write_folio = op_write_folio,
	.sync = op_sync,
	.size = op_size,
	.release = op_release,
};

/* ---- tokens ---- */

/* The MMU translated to the frame at pa: if it is a token of one of our files, where its bytes are.  The frame is mapped,
 * so its record does not change. */
SIM_RACY static u8 *token_bytes(struct sim_machine *m, u64 pa)
{
	pfn_t pfn = (pfn_t)(pa >> PAGE_SHIFT);
	const struct frame *f = &pfn_folio(m->q, pfn)->f;
	u64 page = pfn - frame_to_pfn(m->q, f);
	const struct address_space *as;

	as = (const struct address_space *)(uintptr_t)f->mapping;
	if (f->type != FRAME_FILE || !(as->flags & AS_TOKEN) || as->ops != &sim_file_ops)
		return NULL;
	return ((struct sim_file *)as->port_private)->bytes + ((f->index + page) << PAGE_SHIFT) + (pa & ~PAGE_MASK);
}

/* ---- names ---- */

static void free_disk(struct sim_machine *m)
{
	while (m->disk->files) {
		struct sim_file *s = m->disk->files;

		m->disk->files = s->next;
		free_file(s);
	}
	free(m->disk);
}

/* The machine's disk, made at first use, by one thread. */
static struct sim_disk *disk_of(struct quire *q)
{
	struct sim_machine *m = sim_of(q);

	if (m->disk)
		return m->disk;
	m->disk = calloc(1, sizeof(*m->disk));
	if (!m->disk)
		sim_die("sim: disk");
	pthread_mutex_init(&m->disk->lock, NULL);
	m->free_disk = free_disk;
	m->token_bytes = token_bytes;
	return m->disk;
}

/* Under disk.lock. */
static struct sim_file *find_file(struct sim_disk *d, const char *path)
{
	struct sim_file *s = d->files;

	while (s && !(s->linked && !strcmp(s->path, path)))
		s = s->next;
	return s;
}

static struct sim_file *new_file(struct sim_disk *d, const char *path, const void *bytes, u64 len)
{
	struct sim_file *s = calloc(1, sizeof(*s));

	if (!s)
		sim_die("sim: file");
	s->disk = d;
	s->path = strdup(path);
	s->capacity = MAX(MIN_CAPACITY, PAGE_ALIGN(len) * 2);
	s->bytes = sim_map(s->capacity);
	s->size = len;
	s->refs = 1;
	s->linked = true;
	pthread_mutex_init(&s->lock, NULL);
	if (bytes)
		memcpy(s->bytes, bytes, len);
	pthread_mutex_lock(&d->lock);
	s->ino = ++d->last_ino;
	s->next = d->files;
	d->files = s;
	pthread_mutex_unlock(&d->lock);
	return s;
}

/* An open file on s; the address space holds its own reference to s. */
static struct file *open_on(struct quire *q, struct sim_file *s, u32 mode)
{
	u32 flags = q->caps & PORT_CAP_HOST_FILES ? AS_TOKEN : 0;
	struct address_space *m = mapping_get(q, SIM_FILE_DEV, s->ino, &sim_file_ops, flags);
	struct file *f;

	if (!m)
		return NULL;
	pthread_mutex_lock(&s->disk->lock);
	if (!m->port_private) {
		m->port_private = s;
		s->refs++;
	}
	pthread_mutex_unlock(&s->disk->lock);
	f = file_create(q, m, mode, s->path);
	mapping_put(m);
	return f;
}

struct file *sim_file_create(struct quire *q, const char *path, const void *bytes, u64 len)
{
	struct sim_disk *d = disk_of(q);
	struct file *f;

	sim_file_unlink(q, path);
	f = open_on(q, new_file(d, path, bytes, len), FMODE_READ | FMODE_WRITE);
	if (!f)
		sim_file_unlink(q, path);
	return f;
}

struct file *sim_file_open(struct quire *q, const char *path, u32 mode)
{
	struct sim_disk *d = disk_of(q);
	struct sim_file *s;
	struct file *f;

	pthread_mutex_lock(&d->lock);
	s = find_file(d, path);
	if (s)
		s->refs++;
	pthread_mutex_unlock(&d->lock);
	if (!s)
		return ERR_PTR(-ENOENT);
	f = open_on(q, s, mode);
	put_file(s);
	return f ? f : ERR_PTR(-ENOMEM);
}

int sim_file_unlink(struct quire *q, const char *path)
{
	struct sim_disk *d = disk_of(q);
	struct sim_file *s;

	pthread_mutex_lock(&d->lock);
	s = find_file(d, path);
	if (s)
		s->linked = false;
	pthread_mutex_unlock(&d->lock);
	if (!s)
		return -ENOENT;
	put_file(s);
	return 0;
}

/* ---- the host's own reads and writes ---- */

long sim_file_pread(struct file *f, u64 off, void *buf, size_t len)
{
	struct address_space *m = f->mapping;

	return m->flags & AS_TOKEN ? op_copy_out(m, off, buf, len) : filemap_read(m, off, buf, len);
}

long sim_file_pwrite(struct file *f, u64 off, const void *buf, size_t len)
{
	struct address_space *m = f->mapping;

	return m->flags & AS_TOKEN ? op_copy_in(m, off, buf, len) : filemap_write(m, off, buf, len);
}

int sim_file_truncate(struct file *f, u64 size)
{
	struct sim_file *s = file_of(f->mapping);
	u64 old;

	if (size > s->capacity)
		return -EFBIG;
	pthread_mutex_lock(&s->lock);
	old = s->size;
	s->size = size;
	pthread_mutex_unlock(&s->lock);
	if (size >= old)
		return 0;
	/* Mappings first: a guest with the page may write behind the new end until it has lost it. */
	truncate_pagecache(f->mapping, size);
	pthread_mutex_lock(&s->lock);
	memset(s->bytes + size, 0, PAGE_ALIGN(old) - size);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

u64 sim_file_size(struct file *f)
{
	return op_size(f->mapping);
}

const u8 *sim_file_disk(struct file *f)
{
	return file_of(f->mapping)->bytes;
}

void sim_file_break(struct file *f, int err)
{
	struct sim_file *s = file_of(f->mapping);

	pthread_mutex_lock(&s->lock);
	s->broken = err;
	pthread_mutex_unlock(&s->lock);
}

void sim_file_fail_nth(struct file *f, u64 n, int err)
{
	struct sim_file *s = file_of(f->mapping);

	pthread_mutex_lock(&s->lock);
	s->fail_nth = n;
	s->fail_err = err;
	pthread_mutex_unlock(&s->lock);
}

struct sim_file_counts sim_file_counts(struct file *f)
{
	struct sim_file *s = file_of(f->mapping);
	struct sim_file_counts c;

	pthread_mutex_lock(&s->lock);
	c = s->counts;
	pthread_mutex_unlock(&s->lock);
	return c;
}
