/* Memory system calls of the hosted guest (memory.c), and its limits (limits.c). */
#ifndef QUIRE_LINUX_MEMORY_H
#define QUIRE_LINUX_MEMORY_H
#include "kernel.h"
void capabilities_refresh(struct mm_struct *mm); /* what the host would let the guest do */
bool host_capable(unsigned cap); /* CAP_* of the guest's process, effective */
void rlimits_apply(struct mm_struct *mm);
u64 rlimit_stack(void);
long sys_prlimit64(struct trap *t, const u64 a[6]);
long sys_getrlimit(struct trap *t, const u64 a[6]);
long sys_setrlimit(struct trap *t, const u64 a[6]);
long sys_personality(u32 persona);
struct exec_args;
void personality_exec(struct exec_args *args); /* sets what a program's place in memory depends on */
void personality_executed(void); /* the same program has begun */
long guest_mmap(u64 addr, u64 len, u64 prot, u64 flags, u64 fd, u64 off);
long guest_munmap(u64 addr, u64 len);
long guest_sysinfo(u64 out);
long guest_shmat(int id, u64 addr, u64 flags); /* shm.c */
long guest_shmdt(u64 addr);
long guest_shmctl(struct trap *t, const u64 a[6]);
long guest_process_madvise(const u64 a[6]); /* pidfd.c */
long guest_process_mrelease(const u64 a[6]);
long guest_may_attach(s32 pid); /* pid, or negative errno */
long guest_mbind(const u64 a[6]); /* numa.c */
long guest_set_mempolicy(const u64 a[6]);
long guest_get_mempolicy(const u64 a[6]);
long guest_move_pages(const u64 a[6]);
long guest_migrate_pages(const u64 a[6]);
#endif
