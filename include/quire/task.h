/*
 * Tasks: the processes and threads of a machine, as far as memory is concerned.
 */
#ifndef QUIRE_TASK_H
#define QUIRE_TASK_H
#include <quire/types.h>
#include <sync.h>

struct quire;
struct mm_struct;
struct file;
struct guest_abi;

#define TASK_COMM_LEN 16
enum oom_state {
	OOM_NONE,
	OOM_CHOSEN,
	OOM_GIVEN_UP, /* it did not die in time: choose another */
	OOM_REAPED,   /* nor has this one, but its memory is back */
};
/* personality(2): the bits that change what memory looks like. */
#define ADDR_NO_RANDOMIZE 0x0040000u
#define ADDR_COMPAT_LAYOUT 0x0200000u
#define READ_IMPLIES_EXEC 0x0400000u

enum task_state { TASK_EMBRYO, TASK_RUNNING, TASK_ZOMBIE, TASK_DEAD };

/* One process (thread group).  Fields: q->tasks.lock unless noted. */
struct task {
	struct quire *q;           /* immutable */
	s32 pid, ppid;             /* immutable / reparenting; on the hosted port the host's numbers */
	u32 state;
	struct mm_struct *mm;      /* counted; NULL after exit */
	char comm[TASK_COMM_LEN];
	s32 oom_score_adj;
	s32 oom_score_adj_min;     /* what a process without rights may go down to: the last value that one with rights set */
	u32 nr_threads;
	u32 oom_victim;            /* enum oom_state: chosen by the OOM killer */
	u64 oom_ns;                /* when */
	u64 start_ns;
	u32 uid;
	u32 personality;           /* personality(2), its process's own; on Linux each thread has one */
	u64 port_data[8];          /* port's own */
	struct task *next, *prev;  /* q->tasks list */
	u32 refcount;              /* the table's (until exit) + transient holders */
	struct task *hash_next;    /* q->tasks.hash chain */
};

#define TASK_HASH_BUCKETS 256u
struct task_table {
	struct spinlock lock;      /* LOCK_RANK_TASKS; protects all of this and the tasks' fields */
	struct task *first;        /* newest first */
	u32 nr;
	struct task *hash[TASK_HASH_BUCKETS]; /* by pid */
	u64 total_forks;           /* tasks ever created: "processes" of /proc/stat */
	u32 last_pid;              /* pid created last */
	u64 exit_ns;               /* when a task left the table last */
};

/* ---- task/task.c: under no lock unless noted ---- */
struct task *task_create(struct quire *q, s32 pid, s32 ppid, const char *comm); /* NULL if out of memory */
struct task *task_find(struct quire *q, s32 pid); /* under q->tasks.lock */
/* Drops the mm, leaves the table and gives back the table's reference: t may be gone afterwards. */
void task_exit(struct task *t);
/* A reference that keeps the record (not the process) alive, or NULL if no such task. */
struct task *task_find_get(struct quire *q, s32 pid);
void task_put(struct task *t);
/* The task's address space with a reference for the caller (mmput() it), or NULL after exit. */
struct mm_struct *task_get_mm(struct task *t);
/* The next task by ascending pid after `pid` (-1 to begin), with a reference; NULL at the end.  Lets readers walk
 * the table without keeping its lock; tasks born or gone meanwhile may be missed or seen. */
struct task *task_next_get(struct quire *q, s32 pid);
/* An embryo learns its number (the hosted port knows it only after the host's fork).  The number must be free. */
void task_set_pid(struct task *t, s32 pid);
void task_set_pid_locked(struct task *t, s32 pid); /* under q->tasks.lock */
void task_set_comm(struct task *t, const char *comm);
void task_set_mm(struct task *t, struct mm_struct *mm); /* takes over the reference, drops the old one */

/* ---- task/abi.c: the guests that exist ---- */
extern const struct guest_abi guest_abi_x86_64; /* under the hosted port: the top of the host's space is the kernel's */
extern const struct guest_abi guest_abi_arm64;  /* 48-bit, as the sim machine and bare metal */

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
	bool compat_layout;            /* ADDR_COMPAT_LAYOUT: mappings grow up from a third of the address space */
	const struct guest_abi *abi;   /* task/abi.c */
};
struct exec_result {
	struct mm_struct *mm;          /* a new one, users = 1 */
	u64 entry, sp;                 /* where the guest starts */
	bool exec_stack;
	bool has_interp;               /* somebody else than the program loads its libraries */
};
/* Builds a new address space.  0, or -ENOEXEC, -ENOMEM, -E2BIG, -EACCES, -ELIBBAD ...; nothing kept on failure. */
int exec_mm(struct quire *q, const struct exec_args *args, struct exec_result *out);

#endif
