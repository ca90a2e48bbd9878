/*
 * Simulated processes: see process.h.  A process puts its mm on its CPU before each access if somebody else ran there, so
 * processes share CPUs as freely as a scheduler would make them.
 */
#include "process.h"
#include "mmu_internal.h"
#include <stdlib.h>

static struct sim_process *wrap(struct quire *q, struct task *t, unsigned cpu)
{
	struct sim_process *p = calloc(1, sizeof(*p));

	if (!p)
		sim_die("sim: process");
	p->q = q;
	p->task = t;
	p->cpu = sim_cpu_get(q, cpu);
	return p;
}

/* Pids come from the machine's own count, so that they replay. */
static struct sim_process *make(struct quire *q, struct mm_struct *mm, s32 ppid, const char *comm, unsigned cpu)
{
	s32 pid = __atomic_add_fetch(&sim_of(q)->last_pid, 1, __ATOMIC_RELAXED);
	struct task *t = task_create(q, pid, ppid, comm);

	if (!t) {
		mmput(mm);
		return NULL;
	}
	task_set_mm(t, mm);
	return wrap(q, task_find_get(q, pid), cpu);
}

struct sim_process *sim_process_new(struct quire *q, const char *comm)
{
	struct mm_struct *mm = mm_alloc(q, &guest_abi_arm64);

	return mm ? make(q, mm, 0, comm, 0) : NULL;
}

struct mm_struct *sim_process_mm(struct sim_process *p)
{
	return p->task->mm;
}

struct sim_process *sim_process_fork(struct sim_process *p)
{
	struct mm_struct *mm = dup_mm(sim_process_mm(p));
	struct sim_process *child;

	if (IS_ERR(mm))
		return (struct sim_process *)mm;
	child = make(p->q, mm, p->task->pid, p->task->comm, p->cpu->id);
	return child ? child : ERR_PTR(-ENOMEM);
}

struct sim_process *sim_process_thread(struct sim_process *p, unsigned n)
{
	struct sim_process *t = wrap(p->q, task_find_get(p->q, p->task->pid), n);

	t->thread = true;
	return t;
}

int sim_process_exec(struct sim_process *p, const struct exec_args *args, struct exec_result *out)
{
	int err = exec_mm(p->q, args, out);

	if (!err)
		task_set_mm(p->task, out->mm);
	return err;
}

void sim_process_exit(struct sim_process *p)
{
	if (!p->thread)
		task_exit(p->task);
	task_put(p->task);
	free(p);
}

void sim_process_set_cpu(struct sim_process *p, unsigned n)
{
	p->cpu = sim_cpu_get(p->q, n);
}

/* The CPU, running p in user mode. */
static struct sim_cpu *cpu_of(struct sim_process *p)
{
	struct mm_struct *mm = sim_process_mm(p);

	if (p->cpu->mm != mm)
		sim_cpu_switch_mm(p->cpu, mm);
	return p->cpu;
}

int sim_process_load(struct sim_process *p, u64 va, unsigned size, u64 *val)
{
	return sim_load(cpu_of(p), va, size, val);
}

int sim_process_store(struct sim_process *p, u64 va, unsigned size, u64 val)
{
	return sim_store(cpu_of(p), va, size, val);
}

int sim_process_fetch(struct sim_process *p, u64 va, u32 *insn)
{
	return sim_fetch(cpu_of(p), va, insn);
}

int sim_process_fetch_add(struct sim_process *p, u64 va, unsigned size, u64 add, u64 *old)
{
	return sim_fetch_add(cpu_of(p), va, size, add, old);
}

size_t sim_process_read(struct sim_process *p, u64 va, void *buf, size_t len)
{
	return sim_read_bytes(cpu_of(p), va, buf, len);
}

size_t sim_process_write(struct sim_process *p, u64 va, const void *buf, size_t len)
{
	return sim_write_bytes(cpu_of(p), va, buf, len);
}
