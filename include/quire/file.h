/*
 * Files as the memory system sees them: address spaces (page caches), their operations, and shmem.
 *
 * Bytes are reached only through the operations (design.md 3.10).  With PORT_CAP_HOST_FILES a file folio is a token:
 * a real frame (PFN, LRU, accounting, limit) whose bytes are the host's page cache, mapped by the port.  shmem objects
 * (anonymous shared memory, System V, memfd-like) always hold their bytes in frames.
 */
#ifndef QUIRE_FILE_H
#define QUIRE_FILE_H
#include <quire/types.h>
#include <radix.h>
#include <sync.h>

struct quire;
struct address_space;
struct vm_area_struct;
struct folio;

/* Under no lock; may block; 0 or negative errno. */
struct mapping_ops {
	/* Copies up to len bytes at off (bytes) to/from kernel memory.  Returns bytes copied (0 at end of file). */
	long (*copy_in)(struct address_space *m, u64 off, const void *src, size_t len);
	long (*copy_out)(struct address_space *m, u64 off, void *dst, size_t len);
	/* Fill a frame-backed folio (not called for tokens). */
	int (*read_folio)(struct address_space *m, struct folio *folio);
	/* Write a dirty frame-backed folio out. */
	int (*write_folio)(struct address_space *m, struct folio *folio);
	int (*sync)(struct address_space *m, u64 start, u64 end);
	/* [start, end) bytes read as zero afterwards (MADV_REMOVE), if the machine does not hold the bytes itself; or NULL. */
	int (*punch_hole)(struct address_space *m, u64 start, u64 end);
	/* vec[i] = whether the bytes of page `index` + i are in memory, if the machine does not hold them itself; or NULL. */
	int (*mincore)(struct address_space *m, u64 index, u64 n, u8 *vec);
	/* Size in bytes now. */
	u64 (*size)(struct address_space *m);
	/* The last reference went away: free host resources.  Under no lock.  Asked again if the first asker died on the way. */
	void (*release)(struct address_space *m);
};

#define AS_TOKEN BIT(0)  /* folios are tokens (bytes with the host) */
#define AS_SHMEM BIT(1)  /* the machine's own shared memory: frames hold the bytes, swap-backed */
#define AS_DAX BIT(2)    /* no folios at all: device */

/* The cache of one file (inode).  Found by (dev, ino) among q->files.  Fields: q->lock. */
struct address_space {
	struct quire *q;                /* immutable */
	const struct mapping_ops *ops;  /* immutable */
	u32 flags;                      /* AS_*; immutable */
	u32 refcount;                   /* struct files + transient */
	u64 dev, ino;                   /* identity; immutable */
	struct radix i_pages;           /* page index -> struct folio * (head, at every index it covers) */
	u64 nrpages;
	struct vm_area_struct *i_mmap;  /* VMAs that map this file */
	u64 shmem_size;                 /* bytes; AS_SHMEM */
	u64 shmem_accounted;            /* pages charged to Committed_AS */
	struct radix swapped;           /* AS_SHMEM: page index -> swap entry (file/shmem_swap.c) */
	u64 nr_swapped;
	bool cutting;                   /* nothing goes to swap now */
	void *port_private;             /* port: sim file, host anchor id */
	struct address_space *hash_next;
	u64 ra_prev;                    /* readahead: last index faulted */
	u64 ra_size;                    /* readahead: pages of the last window */
	u64 ra_end;                     /* tokens: pages that the file had when it was opened last, no window reaches beyond; 0: not known */
	u64 i_seq;                      /* changes when the file shrinks and when a folio was written out */
	struct mutex wb_mutex;          /* held while folios are written out or truncated */
	u64 nr_dirty;                   /* pages, of those that count (file/page_writeback.c, all of this) */
	u64 dirtied_ns;                 /* since when it has some */
	struct address_space *wb_prev, *wb_next; /* q->wb's list */
	u64 writeback_index;            /* page at which writing by and by goes on */
};

#define FMODE_READ 1u
#define FMODE_WRITE 2u
#define FMODE_NOEXEC 4u /* on a noexec mount: PROT_EXEC is EPERM */
#define FMODE_NOMULTI 32u /* not moved together with others by one mremap() */
#define FMODE_NOMMAP 16u /* cannot be mapped: ENODEV */
#define FMODE_SEAL_WRITE 8u /* shared writable mappings are EPERM */

/* An open file as mappings remember it. */
struct file {
	struct quire *q;
	struct address_space *mapping; /* counted */
	u32 refcount;                  /* q->lock */
	u32 mode;                      /* FMODE_* */
	char *path;                    /* as /proc/PID/maps prints it; kmalloc'ed */
	u64 port_private;
};

/* ---- file/file.c ---- */
/* Finds or makes the address space of (dev, ino).  A reference is returned.  NULL when out of memory. */
struct address_space *mapping_get(struct quire *q, u64 dev, u64 ino, const struct mapping_ops *ops, u32 flags);
/* The same, but never makes one: NULL if the machine does not know the file. */
struct address_space *mapping_find(struct quire *q, u64 dev, u64 ino);
void mapping_put(struct address_space *m);
struct file *file_create(struct quire *q, struct address_space *m, u32 mode, const char *path); /* takes over no reference */
void file_get(struct file *f);
void file_put(struct file *f); /* under no lock (release may block) */
/* A reference that only the calling context knows of.  file_put() takes it back. */
void file_get_held(struct file *f);
/* For whoever tidies up after a dead context, under no lock: gives its references back. */
void file_drop_held(struct ctx *dead);
/* c has a reference of f from here on that is written nowhere else.  In the transaction that takes it.  A full list forgets:
 * that costs a file object after a death, never more. */
static inline void file_note_held(struct ctx *c, struct file *f)
{
	if (c->nfiles < CTX_MAX_FILES)
		c->files[c->nfiles++] = f;
}

/* ---- file/readwrite.c, file/writeback.c: plain file I/O, coherent with mappings.  Under no lock ---- */
/* Bytes read or written (short at end of file), or negative errno. */
long filemap_read(struct address_space *m, u64 off, void *dst, size_t len);
long filemap_write(struct address_space *m, u64 off, const void *src, size_t len);
/* Writes dirty folios that overlap [start, end) bytes, then ops->sync if wait.  0 or the first error. */
int filemap_sync(struct address_space *m, u64 start, u64 end, bool wait);

/* ---- file/shmem.c ---- */
/* A new shared-memory object of size bytes; name as in maps ("/dev/zero (deleted)", "/SYSV00000000 (deleted)").
 * NULL when out of memory.  Charged to Committed_AS here unless VM_NORESERVE, and released with the last reference; the
 * caller checks the overcommit limit. */
struct file *shmem_file_setup(struct quire *q, const char *name, u64 size, u64 vm_flags);
/* As ftruncate on memfd/tmpfs: grows or shrinks (then as truncate_pagecache).  0 or negative errno. */
int shmem_set_size(struct address_space *m, u64 size);

/* ---- file/truncate.c ---- */
/* The file shrank to size: folios beyond leave the cache and every mapping; later touches are SIGBUS. */
void truncate_pagecache(struct address_space *m, u64 size);

#endif
