/*
 * Descriptors of files under /proc that the machine serves (procfs*.c).  All calls under no lock.
 */
#ifndef QUIRE_LINUX_PROCFS_H
#define QUIRE_LINUX_PROCFS_H
#include "kernel.h"

/* fd is about to be closed (or replaced): forget it. */
void procfs_fd_closed(int fd);
void procfs_range_closed(u32 first, u32 last);
/* newfd is a copy of oldfd. */
void procfs_fd_dup(int oldfd, int newfd);
/* Makes the text behind fd anew; does nothing for a descriptor that is not served. */
void procfs_refresh(int fd);
/* Before the host reads or writes fd: true when the machine has dealt with it, result in *r.  offset: of pread and
 * pwrite, or -1 for the descriptor's own.  A read from offset 0 refreshes the text first. */
bool procfs_read(int fd, u64 buf, u64 len, s64 offset, long *r);
bool procfs_write(int fd, u64 buf, u64 len, s64 offset, long *r);

#endif
