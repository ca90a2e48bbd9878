/*
 * /proc as the guests of a machine see it.  First version: nothing is served, the host is asked for everything.
 */
#include "procfs.h"

long procfs_open(int dirfd, const char *path, int flags)
{
	return PROCFS_NOT_OURS;
}

long procfs_readlink(int dirfd, const char *path, char *buf, size_t size)
{
	return PROCFS_NOT_OURS;
}

void procfs_fd_closed(int fd)
{
}

void procfs_range_closed(u32 first, u32 last)
{
}

void procfs_fd_dup(int oldfd, int newfd)
{
}

void procfs_refresh(int fd)
{
}

bool procfs_read(int fd, u64 buf, u64 len, s64 offset, long *r)
{
	return false;
}

bool procfs_write(int fd, u64 buf, u64 len, s64 offset, long *r)
{
	return false;
}
