/*
 * Plain reads and writes of files, coherent with mappings of the same file.
 *
 * Reads come from the cache (and fill it); writes go through: to the file first, then into what is cached.  The order
 * matters against a page being read in at the same time: once the file has the new bytes i_seq moves, so a page that
 * was read before is either already in the cache - and gets the bytes here - or is refused there.  wb_mutex keeps an
 * older copy of the page, on its way out, from overtaking the write.
 *
 * Tokens and shared memory need none of this: their operations reach the only copy of the bytes there is.
 * Locks: m->wb_mutex for writes; q->lock to look folios up; none while bytes are copied.
 */
#include "filemap.h"

/* The cached folio of a page, held, and the page's address; NULL if there is none. */
static struct folio *cached_page(struct address_space *m, u64 index, u8 **va)
{
	struct quire *q = m->q;
	struct folio *folio;

	spin_lock(&q->lock);
	folio = filemap_lookup(m, index);
	if (folio) {
		folio_get_hold(q, folio);
		folio_mark_accessed(q, folio);
		*va = (u8 *)frame_address(q, &folio->f) + ((index - folio->f.index) << PAGE_SHIFT);
	}
	spin_unlock(&q->lock);
	return folio;
}

/* n bytes inside one page.  Bytes read, 0 = not cached and could not be: read past the cache; or negative errno. */
static long read_page_part(struct address_space *m, u64 off, u8 *dst, size_t n)
{
	struct folio *folio;
	bool did_io;
	int err;
	u8 *va;

	while (!(folio = cached_page(m, off >> PAGE_SHIFT, &va))) {
		err = filemap_fill(m, off >> PAGE_SHIFT, RA_NORMAL, &did_io);
		if (err && err != -EAGAIN)
			return err == -ENOMEM ? m->ops->copy_out(m, off, dst, n) : err;
	}
	memcpy(dst, va + (off & (PAGE_SIZE - 1)), n);
	folio_drop_held(m->q, folio);
	return (long)n;
}

long filemap_read(struct address_space *m, u64 off, void *dst, size_t len)
{
	u64 size, done = 0;
	long r = 0;

	if (m->flags & (AS_TOKEN | AS_SHMEM))
		return m->ops->copy_out(m, off, dst, len);
	size = mapping_size(m);
	if (off >= size)
		return 0;
	len = MIN(len, size - off);
	while (done < len) {
		size_t n = MIN(PAGE_SIZE - ((off + done) & (PAGE_SIZE - 1)), len - done);

		r = read_page_part(m, off + done, (u8 *)dst + done, n);
		if (r <= 0)
			break;
		done += (u64)r;
	}
	return done ? (long)done : r == -ERANGE ? 0 : r;
}

/* Copies what was written to the file into the pages of it that are cached. */
static void update_cached(struct address_space *m, u64 off, const u8 *src, size_t len)
{
	size_t done = 0;

	spin_lock(&m->q->lock);
	m->i_seq++;
	spin_unlock(&m->q->lock);
	while (done < len) {
		size_t in = (off + done) & (PAGE_SIZE - 1), n = MIN(PAGE_SIZE - in, len - done);
		u8 *va;
		struct folio *folio = cached_page(m, (off + done) >> PAGE_SHIFT, &va);

		if (folio) {
			memcpy(va + in, src + done, n);
			folio_drop_held(m->q, folio);
		}
		done += n;
	}
}

long filemap_write(struct address_space *m, u64 off, const void *src, size_t len)
{
	long n;

	if (m->flags & (AS_TOKEN | AS_SHMEM))
		return m->ops->copy_in(m, off, src, len);
	mutex_lock(&m->wb_mutex);
	n = port_should_fail(m->q, FAIL_IO) ? -EIO : m->ops->copy_in(m, off, src, len);
	if (n > 0)
		update_cached(m, off, src, (size_t)n);
	mutex_unlock(&m->wb_mutex);
	return n;
}
