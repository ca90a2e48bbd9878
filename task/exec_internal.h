/* What task/exec.c and task/exec_stack.c share. */
#ifndef QUIRE_EXEC_INTERNAL_H
#define QUIRE_EXEC_INTERNAL_H
#include <quire/machine.h>

#define AUXV_WORDS 64 /* as mm_struct.saved_auxv */
#define STACK_GUARD_GAP (256 * PAGE_SIZE)

/* elf.h's AT_* (include/uapi/linux/auxvec.h). */
enum {
	AT_NULL = 0, AT_PHDR = 3, AT_PHENT = 4, AT_PHNUM = 5, AT_PAGESZ = 6, AT_BASE = 7, AT_FLAGS = 8, AT_ENTRY = 9,
	AT_UID = 11, AT_EUID = 12, AT_GID = 13, AT_EGID = 14, AT_PLATFORM = 15, AT_HWCAP = 16, AT_CLKTCK = 17,
	AT_SECURE = 23, AT_RANDOM = 25, AT_HWCAP2 = 26, AT_EXECFN = 31, AT_SYSINFO_EHDR = 33, AT_MINSIGSTKSZ = 51,
};

/* What the images decided and the stack must tell. */
struct exec_images {
	u64 phdr, phent, phnum, base, entry;
};

/*
 * Where everything lies on the new stack; all addresses, high to low:
 *	top             end of the VMA; the highest word stays zero
 *	execfn          the file's name
 *	env_start       environment strings, up to execfn
 *	arg_start       argument strings, up to env_start
 *	platform, random
 *	auxv, envp[], argv[], argc
 *	sp              16-byte aligned
 */
struct stack_plan {
	u64 top, execfn, env_start, arg_start, platform, random, sp;
	u32 argc;              /* at least 1: a program without arguments gets "" */
	u32 auxv_words;        /* with AT_NULL's two */
	u64 auxv[AUXV_WORDS];
};

/* -E2BIG if arguments and environment exceed what Linux allows under this stack limit; else 0. */
int stack_check_args(const struct exec_args *args, u64 rlim_stack);
void stack_plan_make(struct quire *q, struct stack_plan *p, const struct exec_args *args,
		     const struct exec_images *im, u64 top);
/* Maps the stack and fills it.  0 or negative errno. */
int stack_build(struct mm_struct *mm, const struct stack_plan *p, const struct exec_args *args, bool exec);

#endif
