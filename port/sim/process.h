/*
 * Simulated processes: a task and its mm, run on a simulated CPU by the thread that calls.
 *
 * System calls are the functions of sys/sys.h on p->task.  Accesses go through the MMU with all their faults.  One thread
 * at a time drives a process; threads of one process are several struct sim_process on the same mm (sim_process_thread).
 */
#ifndef PORT_SIM_PROCESS_H
#define PORT_SIM_PROCESS_H
#include "mmu.h"

struct sim_process {
	struct quire *q;
	struct task *task;     /* a counted reference */
	struct sim_cpu *cpu;   /* the CPU it runs on */
	bool thread;           /* shares task with the process it was made from */
};

/* A process with an empty arm64 address space on CPU 0, pids from 1 up.  NULL when the machine is out of memory. */
struct sim_process *sim_process_new(struct quire *q, const char *comm);
/* fork(2).  ERR_PTR(-ENOMEM ...). */
struct sim_process *sim_process_fork(struct sim_process *p);
/* Another thread of p on CPU n. */
struct sim_process *sim_process_thread(struct sim_process *p, unsigned n);
/* execve(2): 0, or negative errno and nothing changed. */
int sim_process_exec(struct sim_process *p, const struct exec_args *args, struct exec_result *out);
/* _exit(2); p is gone.  For a thread only the thread ends. */
void sim_process_exit(struct sim_process *p);
void sim_process_set_cpu(struct sim_process *p, unsigned n);
struct mm_struct *sim_process_mm(struct sim_process *p);

/* Accesses at EL0, as sim_load() and friends; what signal they raised is in p->cpu->info. */
int sim_process_load(struct sim_process *p, u64 va, unsigned size, u64 *val);
int sim_process_store(struct sim_process *p, u64 va, unsigned size, u64 val);
int sim_process_fetch(struct sim_process *p, u64 va, u32 *insn);
int sim_process_fetch_add(struct sim_process *p, u64 va, unsigned size, u64 add, u64 *old);
size_t sim_process_read(struct sim_process *p, u64 va, void *buf, size_t len);
size_t sim_process_write(struct sim_process *p, u64 va, const void *buf, size_t len);

#endif
