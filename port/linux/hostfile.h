/* Host files as the core's files (hostfile.c). */
#ifndef QUIRE_LINUX_HOSTFILE_H
#define QUIRE_LINUX_HOSTFILE_H
#include "kernel.h"

extern const struct mapping_ops hostfile_ops;
struct hostfile_info {
	u64 dev, ino, rdev, size;
	u64 mtime_sec, mtime_nsec;
	u32 mode;
	bool regular, chardev;
};
long hostfile_stat(int fd, struct hostfile_info *info);
/* A file object for mappings up to byte map_end, with its anchor.  ERR_PTR as mmap(2) would fail. */
struct file *hostfile_open(int fd, u64 map_end, bool shared);
/* The same for what is to be mapped over a mapping of that file at addr: the file of that one.  NULL: it is to be opened. */
struct file *hostfile_again(int fd, const struct hostfile_info *info, u64 addr, u64 map_end);
/* The guest may have cut the file behind fd (or path): pages beyond its new end leave every mapping. */
void hostfile_truncated(int fd);
void hostfile_truncated_path(const char *path);
#endif
