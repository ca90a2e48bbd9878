/* exec in place (exec.c): what the first start of a machine shares with it. */
#ifndef QUIRE_LINUX_EXEC_H
#define QUIRE_LINUX_EXEC_H
#include "process.h"

#define PATH_SIZE 4096
/* Argument and environment strings in kernel-private memory: ptrs[0..argc) argv, ptrs[argc..nptrs) envp. */
struct exec_strings {
	void *base;
	const char **ptrs;
	u32 nptrs, argc;
	char *text, *text_end;
};
#define EXEC_AREA (160ull << 20) /* virtual: strings and pointers of one exec */
/* At `fixed`, or anywhere.  0 or errno. */
long exec_area_init(struct exec_strings *s, void *fixed);
void exec_area_free(struct exec_strings *s);
/* Builds the new address space from name (PATH_SIZE bytes, overwritten).  0 or errno; then exec_commit() cannot fail. */
long exec_prepare(struct exec_strings *s, int dirfd, char *name, int flags);
void exec_commit(struct kthread *k, struct ucontext_host *uc);
/* exec_creds.c: user and group numbers, capabilities, dumpability. */
void exec_credentials(void);
/* Lists the host's vdso in the new address space. */
void map_vdso(struct mm_struct *mm);
void fmt_uint(char *out, u64 v);
#endif
