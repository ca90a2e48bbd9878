/*
 * The system calls that concern memory, as functions on tasks.
 *
 * A call is made by the task itself (its mm cannot vanish meanwhile), under no lock, with the arguments as the program
 * gave them; it returns what the program sees: a value or a negative errno, as the man pages have it.  Addresses of
 * user memory are u64 and are read and written through access_process_vm(), so bad ones are -EFAULT.
 *
 * Arguments are checked here and in mm/; descriptors are the port's business: it passes files, not numbers.
 * -ENOMEM for want of frames (not because a limit says so) is tried once more after reclaim.
 */
#ifndef QUIRE_SYS_H
#define QUIRE_SYS_H
#include <quire/machine.h>

/* ---- sys/mman.c ---- */
/* file: NULL if the descriptor is not open or flags has MAP_ANONYMOUS.  offset in bytes. */
long sys_mmap(struct task *t, u64 addr, u64 len, u64 prot, u64 flags, struct file *file, u64 offset);
long sys_munmap(struct task *t, u64 addr, u64 len);
long sys_brk(struct task *t, u64 brk);
long sys_mprotect(struct task *t, u64 addr, u64 len, u64 prot);
long sys_remap_file_pages(struct task *t, u64 start, u64 size, u64 prot, u64 pgoff, u64 flags);
long sys_mremap(struct task *t, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr);
long sys_madvise(struct task *t, u64 addr, u64 len, int advice);
long sys_msync(struct task *t, u64 addr, u64 len, int flags);
long sys_mlock(struct task *t, u64 addr, u64 len);
long sys_mlock2(struct task *t, u64 addr, u64 len, u64 flags);
long sys_munlock(struct task *t, u64 addr, u64 len);
long sys_mlockall(struct task *t, int flags);
long sys_munlockall(struct task *t);
long sys_mseal(struct task *t, u64 addr, u64 len, u64 flags);
long sys_mincore(struct task *t, u64 addr, u64 len, u64 vec);

/* ---- sys/vmrw.c ---- */
/* pid's memory from and to the caller's, by arrays of struct iovec in the caller's memory.  Whether the caller may do that is
 * for the port to ask first. */
long sys_process_vm_readv(struct task *t, long pid, u64 lvec, u64 liovcnt, u64 rvec, u64 riovcnt, u64 flags);
long sys_process_vm_writev(struct task *t, long pid, u64 lvec, u64 liovcnt, u64 rvec, u64 riovcnt, u64 flags);

/* Advice for a process's memory by an array of struct iovec in the caller's.  pid: or what is wrong with the descriptor that should
 * have named it. */
struct madvise_caller {
	bool may_look;     /* at that process's memory */
	bool cap_sys_nice;
};
long sys_process_madvise(struct task *t, long pid, const struct madvise_caller *who, u64 vec, u64 vlen, int advice, u64 flags);

/* ---- sys/limits.c ---- */
#define RLIMIT_DATA 2
#define RLIMIT_STACK 3
#define RLIMIT_MEMLOCK 8
#define RLIMIT_AS 9
/* The soft limits that mm/ obeys; others are none of its business (-EINVAL).  bytes: ~0 = unlimited. */
long sys_set_mm_rlimit(struct task *t, unsigned resource, u64 bytes);
/* What sysinfo(2) says about memory; mem_unit is 1. */
struct quire_sysinfo {
	u64 totalram, freeram, sharedram, bufferram, totalswap, freeswap, totalhigh, freehigh; /* bytes */
	u32 procs;
	u64 uptime; /* seconds */
};
void sys_sysinfo(struct quire *q, struct quire_sysinfo *out);
/* What getrusage(2) says about memory: ru_maxrss in KiB, ru_minflt, ru_majflt. */
struct quire_rusage {
	u64 maxrss_kb, minflt, majflt;
};
void sys_getrusage(struct task *t, struct quire_rusage *out);

#endif
