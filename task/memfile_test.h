/*
 * Files in the memory of a test: the mapping operations of an array of bytes, and copies of the host's files.
 * Included by tests only; ordinary libc C.
 */
#ifndef QUIRE_MEMFILE_TEST_H
#define QUIRE_MEMFILE_TEST_H
#include <port/sim/sim.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct memfile {
	u8 *data;
	size_t size;
};

static long memfile_copy_out(struct address_space *m, u64 off, void *dst, size_t len)
{
	struct memfile *f = m->port_private;

	if (off >= f->size)
		return 0;
	len = MIN(len, f->size - off);
	memcpy(dst, f->data + off, len);
	return (long)len;
}

static long memfile_copy_in(struct address_space *m, u64 off, const void *src, size_t len)
{
	struct memfile *f = m->port_private;

	if (off >= f->size)
		return 0;
	len = MIN(len, f->size - off);
	memcpy(f->data + off, src, len);
	return (long)len;
}

static int memfile_read_folio(struct address_space *m, struct folio *folio)
{
	struct memfile *f = m->port_private;
	u8 *to = frame_address(m->q, &folio->f);
	u64 off = folio->f.index << PAGE_SHIFT;
	size_t bytes = (size_t)PAGE_SIZE << folio->f.order, n = off < f->size ? MIN(bytes, f->size - off) : 0;

	if (n)
		memcpy(to, f->data + off, n);
	memset(to + n, 0, bytes - n);
	return 0;
}

static int memfile_write_folio(struct address_space *m, struct folio *folio)
{
	struct memfile *f = m->port_private;
	u64 off = folio->f.index << PAGE_SHIFT;
	size_t bytes = (size_t)PAGE_SIZE << folio->f.order, n = off < f->size ? MIN(bytes, f->size - off) : 0;

	if (n)
		memcpy(f->data + off, frame_address(m->q, &folio->f), n);
	return 0;
}

static u64 memfile_size(struct address_space *m)
{
	return ((struct memfile *)m->port_private)->size;
}

static void memfile_release(struct address_space *m)
{
	struct memfile *f = m->port_private;

	free(f->data);
	free(f);
}

static const struct mapping_ops memfile_ops = {
	.copy_in = memfile_copy_in, .copy_out = memfile_copy_out, .read_folio = memfile_read_folio,
	.write_folio = memfile_write_folio, .size = memfile_size, .release = memfile_release,
};

/* A new file with these bytes (taken over; from malloc).  Its folios are tokens if the machine's host keeps the bytes of
 * files.  NULL when the machine is out of memory. */
static inline struct file *memfile_new(struct quire *q, u64 ino, const char *path, void *data, size_t size)
{
	u32 flags = q->caps & PORT_CAP_HOST_FILES ? AS_TOKEN : 0;
	struct address_space *m = mapping_get(q, 0xfe00, ino, &memfile_ops, flags);
	struct file *file;

	if (!m) {
		free(data);
		return NULL;
	}
	if (!m->port_private) {
		struct memfile *f = calloc(1, sizeof(*f));

		f->data = data;
		f->size = size;
		m->port_private = f;
	} else {
		free(data);
	}
	file = file_create(q, m, FMODE_READ, path); /* holds a reference of its own */
	mapping_put(m);
	return file;
}

/* What must be the same before and after a scenario: objects alive in all caches, and frames that are not slabs. */
struct leak_check {
	u64 objects, frames;
};

static inline struct leak_check leak_count(struct quire *q)
{
	struct leak_check l = { 0, 0 };

	kmem_reap(q);
	drain_all_pages(q);
	for (struct kmem_cache *c = q->kmem.caches; c; c = c->next) {
		if (c != &q->kmem.magazine_cache)
			l.objects += kmem_cache_live_objects(q, c);
	}
	l.frames = totalram_pages(q) - nr_free_pages(q) - q->kmem.nr_slab_pages[0] - q->kmem.nr_slab_pages[1];
	return l;
}

static inline void leak_assert_none(struct quire *q, struct leak_check before)
{
	struct leak_check now = leak_count(q);

	assert_int_equal(now.objects, before.objects);
	assert_int_equal(now.frames, before.frames);
}

/* All bytes of one of the host's files, or NULL. */
static inline void *host_file(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");
	u8 *data = NULL;
	size_t cap = 0;

	*size = 0;
	if (!f)
		return NULL;
	do {
		cap += 1 << 16;
		data = realloc(data, cap);
		*size += fread(data + *size, 1, cap - *size, f);
	} while (*size == cap);
	fclose(f);
	return data;
}

#endif
