/*
 * Files under /proc that the machine serves, and the descriptors that stand for them.  All calls under no lock.
 */
#ifndef QUIRE_LINUX_PROCFS_H
#define QUIRE_LINUX_PROCFS_H
#include "kernel.h"
#include <fmt.h>

enum procfs_kind {
	PROCFS_NONE,
	/* of the machine */
	PROCFS_MEMINFO, PROCFS_VMSTAT, PROCFS_BUDDYINFO, PROCFS_ZONEINFO, PROCFS_PAGETYPEINFO, PROCFS_SLABINFO,
	PROCFS_VMALLOCINFO, PROCFS_SWAPS, PROCFS_PRESSURE_MEMORY, PROCFS_KPAGECOUNT, PROCFS_KPAGEFLAGS,
	PROCFS_OVERCOMMIT_MEMORY, PROCFS_OVERCOMMIT_RATIO, PROCFS_MAX_MAP_COUNT, PROCFS_MIN_FREE_KBYTES,
	PROCFS_DROP_CACHES, PROCFS_PANIC_ON_OOM, PROCFS_OOM_KILL_ALLOCATING_TASK, PROCFS_OOM_DUMP_TASKS,
	PROCFS_SWAPPINESS, PROCFS_PAGE_CLUSTER, PROCFS_COMPACT_MEMORY, PROCFS_OVERCOMMIT_KBYTES, PROCFS_WATERMARK_SCALE_FACTOR,
	PROCFS_NR_HUGEPAGES, PROCFS_STAT_REFRESH,
	PROCFS_DIRTY, /* enum wb_setting follows on */
	PROCFS_DIRTY_LAST = PROCFS_DIRTY + NR_WB_SETTINGS - 1,
	/* of a process */
	PROCFS_MAPS, PROCFS_SMAPS, PROCFS_SMAPS_ROLLUP, PROCFS_STATUS, PROCFS_STATM, PROCFS_STAT, PROCFS_OOM_SCORE,
	PROCFS_OOM_SCORE_ADJ, PROCFS_CMDLINE, PROCFS_ENVIRON, PROCFS_AUXV, PROCFS_MEM, PROCFS_PAGEMAP, PROCFS_EXE,
	PROCFS_CLEAR_REFS, PROCFS_OOM_ADJ,
};
#define PROCFS_FIRST_OF_PROCESS PROCFS_MAPS

/* What a path names. */
struct procfs_name {
	u32 kind;  /* enum procfs_kind */
	s32 pid;   /* of a guest; 0 for files of the machine */
	s32 tid;   /* given by /task/N, else 0 */
};

/* ---- procfs_path.c ---- */
/* False when the host should be asked. */
bool procfs_parse(int dirfd, const char *path, struct procfs_name *name);
/* The program that /proc/PID/exe stands for: length without NUL or negative errno. */
long procfs_exe(s32 pid, char *buf, size_t size);
/* path is replaced by the program if it names /proc/PID/exe: the host's link leads to the wrong file. */
void procfs_follow_exe(int dirfd, char *path, size_t size);

/* How far the text of a file that is made VMA by VMA has come. */
struct procfs_seq {
	u64 next;   /* address to go on at; PROCFS_SEQ_END: all of it is there */
	u64 filled; /* bytes in the memfd */
};
#define PROCFS_SEQ_END (~0ull)

/* ---- procfs_fill.c: text into the memfd behind a descriptor ---- */
/* All of the contents, in place of what is there.  0 or negative errno. */
int procfs_fill(int fd, const struct procfs_name *name);
/* The same for a file made VMA by VMA, as far as byte `want`, or to its end. */
int procfs_fill_to(int fd, const struct procfs_name *name, struct procfs_seq *seq, u64 want);

/* ---- procfs_text.c ---- */
/* Is it made VMA by VMA?  Such a file can be very long, and readers are often content with its beginning. */
bool procfs_is_seq(u32 kind);
/* Appends what fits of it from *next on and moves *next behind that.  0, or -ESRCH when the process is gone. */
int procfs_text_from(const struct procfs_name *name, u64 *next, struct fmt_buf *out);
/* Appends the contents.  0, -ESRCH when the process is gone, or another negative errno. */
int procfs_text(const struct procfs_name *name, struct fmt_buf *out);
/* A write of `len` bytes of text (NUL-terminated): 0 or negative errno. */
int procfs_store(const struct procfs_name *name, const char *text, size_t len);
bool procfs_is_writable(u32 kind);
/* Is it an array that is read at an offset, without an end worth generating? */
bool procfs_is_binary(u32 kind);
/* Reads or writes guest memory [buf, buf + len) from or to position `offset` of a binary file: bytes or negative errno. */
long procfs_binary(const struct procfs_name *name, u64 buf, u64 len, u64 offset, bool write);

/* ---- procfs.c: descriptors; procfs_open and procfs_readlink are in kernel.h ---- */
/* fd is about to be closed (or replaced): forget it. */
void procfs_fd_closed(int fd);
void procfs_range_closed(u32 first, u32 last);
/* newfd is a copy of oldfd. */
void procfs_fd_dup(int oldfd, int newfd);
/* Before the host reads fd from its beginning: makes the text anew.  Does nothing for a descriptor that is not served. */
void procfs_refresh(int fd);
/* Before the host may read fd, or a copy of it, in ways that are not seen here: all of its text is there. */
void procfs_complete(int fd);
/* Before the host reads or writes fd: true when the machine has dealt with it, result in *r.  offset: of pread and
 * pwrite, or -1 for the descriptor's own.  A read from offset 0 refreshes the text first. */
bool procfs_read(int fd, u64 buf, u64 len, s64 offset, long *r);
bool procfs_write(int fd, u64 buf, u64 len, s64 offset, long *r);
/* What F_GETFL says of a descriptor, `flags`, or of what a served one stands for. */
long procfs_flags(int fd, long flags);

#endif
