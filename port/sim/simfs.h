/*
 * The simulated disk: files in host memory, by path, for tests and the lab.
 *
 * A file lives on the disk until sim_file_unlink(); opening it again finds what was written back.  On a machine with
 * PORT_CAP_HOST_FILES files are tokens (AS_TOKEN): guests' loads and stores go to the file's own bytes, as the hosted port
 * maps the host's file.  Elsewhere their pages are cached in frames.
 */
#ifndef PORT_SIM_SIMFS_H
#define PORT_SIM_SIMFS_H
#include "sim.h"

#define SIM_FILE_DEV 0x801u

/* A new file with these bytes (copied; NULL = zeros), open for reading and writing.  NULL when the core is out of memory
 * (then there is no such file).  An existing path is replaced. */
struct file *sim_file_create(struct quire *q, const char *path, const void *bytes, u64 len);
/* Opens an existing file; mode: FMODE_*.  ERR_PTR(-ENOENT or -ENOMEM). */
struct file *sim_file_open(struct quire *q, const char *path, u32 mode);
/* Takes the name away; the bytes go with the last open file. */
int sim_file_unlink(struct quire *q, const char *path);

/* What other programs on the host do: read and write as read(2) and write(2) would, coherent with mappings.  Bytes done, or
 * negative errno.  Writing behind the end grows the file. */
long sim_file_pread(struct file *f, u64 off, void *buf, size_t len);
long sim_file_pwrite(struct file *f, u64 off, const void *buf, size_t len);
/* ftruncate(2). */
int sim_file_truncate(struct file *f, u64 size);
u64 sim_file_size(struct file *f);
/* The bytes on the disk: for frame-backed files what has been written back so far. */
const u8 *sim_file_disk(struct file *f);

/* Every operation fails with err (negative; 0 = works again). */
void sim_file_break(struct file *f, int err);
/* The nth operation from now (1 = the next) fails with err, once. */
void sim_file_fail_nth(struct file *f, u64 n, int err);
struct sim_file_counts {
	u64 reads, writes, copy_ins, copy_outs, syncs; /* operations, failed ones included */
};
struct sim_file_counts sim_file_counts(struct file *f);

#endif
