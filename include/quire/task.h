/*
 * Tasks: the processes and threads of a machine, as far as memory is concerned.
 */
#ifndef QUIRE_TASK_H
#define QUIRE_TASK_H
#include <quire/types.h>

struct quire;
struct mm_struct;
struct file;
struct guest_abi;

#define TASK_COMM_LEN 16
enum task_state { TASK_EMBRYO, TASK_RUNNING, TASK_ZOMBIE, TASK_DEAD };

/* One process (thread group).  Fields: q->tasks.lock unless noted. */
struct task {
	struct quire *q;           /* immutable */
	s32 pid, ppid;             /* immutable / reparenting; on the hosted port the host's numbers */
	u32 state;
	struct mm_struct *mm;      /* counted; NULL after exit */
	char comm[TASK_COMM_LEN];
	s32 oom_score_adj;
	u32 nr_threads;
	u32 oom_victim;            /* chosen by the OOM killer */
	u64 start_ns;
	u32 uid;
	u64 port_data[8];          /* port's own */
	struct task *next, *prev;  /* q->tasks list */
};

struct task_table {
	struct spinlock lock;
	struct task *first;
	u32 nr;
};

/* ---- task/task.c: under no lock unless noted ---- */
struct task *task_create(struct quire *q, s32 pid, s32 ppid, const char *comm); /* NULL if out of memory */
struct task *task_find(struct quire *q, s32 pid); /* under q->tasks.lock */
/* Drops the mm and leaves the table. */
void task_exit(struct task *t);
void task_set_mm(struct task *t, struct mm_struct *mm); /* takes over the reference, drops the old one */

/* ---- task/fork.c ---- */
/* A copy of mm: VMAs, page tables copy-on-write, pinned pages copied.  ERR_PTR(-ENOMEM ...) on failure, nothing kept. */
struct mm_struct *dup_mm(struct mm_struct *oldmm);

/* ---- task/exec.c ---- */
struct exec_args {
	struct file *file;             /* the program */
	const char *filename;          /* AT_EXECFN */
	u32 argc, envc;
	const char *const *argv;       /* kernel memory */
	const char *const *envp;
	/* opens PT_INTERP's path; ERR_PTR on failure */
	struct file *(*open_interp)(struct quire *q, const char *path, void *cookie);
	void *cookie;
	u64 uid, euid, gid, egid, secure;
	u64 hwcap, hwcap2, minsigstksz, clktck, sysinfo_ehdr;
	u64 rlim_stack;                /* bytes */
	bool aslr;
	const struct guest_abi *abi;
};
struct exec_result {
	struct mm_struct *mm;          /* a new one, users = 1 */
	u64 entry, sp;                 /* where the guest starts */
	bool exec_stack;
};
/* Builds a new address space.  0, or -ENOEXEC, -ENOMEM, -E2BIG, -EACCES, -ELIBBAD ...; nothing kept on failure. */
int exec_mm(struct quire *q, const struct exec_args *args, struct exec_result *out);

#endif
