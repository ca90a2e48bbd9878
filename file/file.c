/*
 * Open files and address spaces: who is there, and for how long.
 *
 *   VMA --vm_file--> struct file --mapping--> struct address_space --i_pages--> folios
 *                                                   ^
 *   q->files[hash(dev, ino)] -----------------------+        i_mmap: the VMAs that map it
 *
 * An address space exists once per (dev, ino) and lives while a struct file (or a transient user) refers to it;
 * its folios go with it.  The last put writes dirty folios out, empties the cache in pieces - each a transaction that
 * leaves a valid mapping, which mapping_get() may find again - and only then unhashes and frees it.
 *
 * Locks: q->lock for everything here.  ops->release runs under no lock.
 */
#include "filemap.h"

/* Folios freed in one transaction by the last put: each costs some 40 stores. */
#define DROP_BATCH 64u

static struct address_space **hash_bucket(struct quire *q, u64 dev, u64 ino)
{
	u64 h = (ino ^ (dev << 7) ^ (dev >> 9)) * 0x9e3779b97f4a7c15ull;

	return &q->files[(h >> 40) % FILE_HASH_BUCKETS];
}

static struct address_space *hash_find(struct quire *q, u64 dev, u64 ino)
{
	struct address_space *m = *hash_bucket(q, dev, ino);

	while (m && (m->dev != dev || m->ino != ino))
		m = m->hash_next;
	return m;
}

static void hash_remove(struct address_space *m)
{
	struct address_space **link = hash_bucket(m->q, m->dev, m->ino);

	while (*link != m)
		link = &(*link)->hash_next;
	*link = m->hash_next;
}

struct address_space *mapping_get(struct quire *q, u64 dev, u64 ino, const struct mapping_ops *ops, u32 flags)
{
	struct address_space *m, **bucket = hash_bucket(q, dev, ino);

	spin_lock(&q->lock);
	m = hash_find(q, dev, ino);
	if (!m) {
		m = kmem_cache_alloc(q, q->mapping_cache, GFP_KERNEL);
		if (m) {
			memset(m, 0, sizeof(*m));
			m->q = q;
			m->ops = ops;
			m->flags = flags;
			m->dev = dev;
			m->ino = ino;
			mutex_init(&m->wb_mutex);
			m->hash_next = *bucket;
			*bucket = m;
		}
	}
	if (m)
		m->refcount++;
	spin_unlock(&q->lock);
	return m;
}

struct address_space *mapping_find(struct quire *q, u64 dev, u64 ino)
{
	struct address_space *m;

	spin_lock(&q->lock);
	m = hash_find(q, dev, ino);
	if (m)
		m->refcount++;
	spin_unlock(&q->lock);
	return m;
}

/* Drops up to DROP_BATCH folios of a mapping that nobody uses.  Under q->lock.  True when it is empty. */
static bool drop_some_folios(struct address_space *m)
{
	u64 index = 0;
	u32 n;

	for (n = 0; n < DROP_BATCH; n++) {
		struct folio *folio = radix_next(&m->i_pages, &index, ~0ull);

		if (!folio)
			return true;
		filemap_delete_folio(m, folio);
	}
	return false;
}

/* Bytes first: while we count, it stays. */
static void write_before_last_put(struct address_space *m)
{
	struct quire *q = m->q;
	bool dirty;

	spin_lock(&q->lock);
	dirty = m->refcount == 1 && m->nrpages && !(m->flags & (AS_TOKEN | AS_SHMEM));
	spin_unlock(&q->lock);
	if (dirty && filemap_sync(m, 0, ~0ull, false))
		quire_log(q, 3, "lost write of dev %llx ino %llu", (unsigned long long)m->dev,
			  (unsigned long long)m->ino);
}

/* Gives the reference of *where back and clears *where.  If we die on the way, *where still says what is left to be done:
 * it holds a counted mapping, or one that counts 0, is unhashed and has only to be freed. */
static void mapping_put_from(struct address_space **where)
{
	struct address_space *m = *where;
	struct quire *q = m->q;
	bool gone = false;

	write_before_last_put(m);
	spin_lock(&q->lock);
	/* Our reference keeps it while it is emptied; a reference taken meanwhile ends that. */
	while (m->refcount == 1 && !(gone = drop_some_folios(m))) {
		spin_unlock(&q->lock);
		spin_lock(&q->lock);
	}
	if (m->refcount > 1) {
		m->refcount--;
		*where = NULL;
	} else if (m->refcount) {
		m->refcount = 0;
		hash_remove(m);
	}
	gone = *where != NULL;
	spin_unlock(&q->lock);
	if (!gone)
		return;
	if (m->ops->release)
		m->ops->release(m);
	spin_lock(&q->lock);
	*where = NULL;
	kmem_cache_free(q, q->mapping_cache, m);
	spin_unlock(&q->lock);
}

void mapping_put(struct address_space *m)
{
	mapping_put_from(&m);
}

struct file *file_create(struct quire *q, struct address_space *m, u32 mode, const char *path)
{
	struct file *f = kmem_cache_alloc(q, q->file_cache, GFP_KERNEL);
	char *copy = kstrdup(q, path ? path : "", GFP_KERNEL);

	if (!f || !copy) {
		if (f)
			kmem_cache_free(q, q->file_cache, f);
		if (copy)
			kfree(q, copy);
		return NULL;
	}
	memset(f, 0, sizeof(*f));
	f->q = q;
	f->mapping = m;
	f->refcount = 1;
	f->mode = mode;
	f->path = copy;
	spin_lock(&q->lock);
	m->refcount++;
	spin_unlock(&q->lock);
	return f;
}

void file_get(struct file *f)
{
	spin_lock(&f->q->lock);
	f->refcount++;
	spin_unlock(&f->q->lock);
}

void file_get_held(struct file *f)
{
	spin_lock(&f->q->lock);
	f->refcount++;
	file_note_held(port_ctx(), f);
	spin_unlock(&f->q->lock);
}

/* Strikes a reference of f off the context's list; false if none is noted.  Under q->lock. */
static bool forget_held(struct ctx *c, const struct file *f)
{
	u32 i = c->nfiles;

	while (i && c->files[i - 1] != f)
		i--;
	if (i)
		c->files[i - 1] = c->files[--c->nfiles];
	return i;
}

/* Nobody refers to f any more but the caller's list. */
static void file_free(struct file *f)
{
	struct quire *q = f->q;

	if (f->mapping)
		mapping_put_from(&f->mapping);
	spin_lock(&q->lock);
	forget_held(port_ctx(), f);
	kfree(q, f->path);
	kmem_cache_free(q, q->file_cache, f);
	spin_unlock(&q->lock);
}

void file_put(struct file *f)
{
	struct ctx *c = port_ctx();
	bool last;

	spin_lock(&f->q->lock);
	last = --f->refcount == 0;
	forget_held(c, f);
	if (last)
		file_note_held(c, f);
	spin_unlock(&f->q->lock);
	if (last)
		file_free(f);
}

/* Moves the newest of the dead context's files to the caller: one transaction, so that it is never in two hands. */
static struct file *take_over(struct ctx *dead)
{
	struct file *f = NULL;

	spin_lock(&dead->q->lock);
	if (dead->nfiles) {
		f = dead->files[--dead->nfiles];
		file_note_held(port_ctx(), f);
	}
	spin_unlock(&dead->q->lock);
	return f;
}

void file_drop_held(struct ctx *dead)
{
	struct file *f;

	while ((f = take_over(dead))) {
		if (READ_ONCE(f->refcount))
			file_put(f);
		else
			file_free(f);
	}
}
