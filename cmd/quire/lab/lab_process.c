/*
 * The lab's processes: address spaces that a script maps, touches, forks and looks at, on the machine's simulated CPUs.
 *
 * An access goes through the MMU.  If that traps, the way of the fault is printed function by function, with ESR_EL1 and FAR_EL1 as the
 * processor would have them; the addresses are the simulated machine's own.
 */
#include "lab_internal.h"
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <port/sim/process.h>
#include <port/sim/simfs.h>
#include <proc/proc.h>
#include <sys/sys.h>

static struct sim_process *process_of(struct lab *lab, const char *name)
{
	struct thing *t = thing_want(lab, name, THING_PROCESS);

	return t ? t->p : NULL;
}

/* NAME, NAME+OFFSET (a mapping) or a number. */
static int address(struct lab *lab, const char *word, u64 *at)
{
	char name[LAB_NAME_MAX];
	const char *plus = strchr(word, '+');
	size_t n = plus ? (size_t)(plus - word) : strlen(word);
	struct thing *t;
	u64 offset = 0;

	if (*word >= '0' && *word <= '9')
		return lab_number(lab, word, ~0ull, at);
	if (n >= sizeof(name))
		return lab_error(lab, "'%s' is too long for a name", word);
	memcpy(name, word, n);
	name[n] = 0;
	t = thing_want(lab, name, THING_MAPPING);
	if (!t || (plus && lab_number(lab, plus + 1, ~0ull, &offset)))
		return -1;
	*at = (u64)(uintptr_t)t->p + offset;
	return 0;
}

/* ---- making and ending ---- */

static int cmd_process(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_new(lab, w[1], THING_PROCESS);
	struct sim_process *p;

	(void)n;
	if (!t)
		return -1;
	p = sim_process_new(lab->q, w[1]);
	if (!p) {
		thing_dead(lab, t);
		fprintf(lab->out, "process %s: out of memory\n", w[1]);
		return 0;
	}
	t->p = p;
	fprintf(lab->out, "%s: process %d\n", w[1], p->task->pid);
	return 0;
}

static int cmd_fork(struct lab *lab, unsigned n, char **w)
{
	struct sim_process *parent = process_of(lab, w[2]), *child;
	struct thing *t = parent ? thing_new(lab, w[1], THING_PROCESS) : NULL;

	(void)n;
	if (!t)
		return -1;
	child = sim_process_fork(parent);
	if (IS_ERR(child)) {
		thing_dead(lab, t);
		fprintf(lab->out, "fork %s: error %ld\n", w[1], -PTR_ERR(child));
		return 0;
	}
	t->p = child;
	fprintf(lab->out, "%s: process %d, a copy of %s\n", w[1], child->task->pid, w[2]);
	return 0;
}

static int cmd_exit(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_want(lab, w[1], THING_PROCESS);

	(void)n;
	if (!t)
		return -1;
	sim_process_exit(t->p);
	thing_dead(lab, t);
	return 0;
}

/* A file of the host's, copied to the simulated disk under its own name.  ERR_PTR. */
#define FILE_MOST (256u << 20)
static struct file *file_from_host(struct quire *q, const char *path, void *cookie)
{
	FILE *f = fopen(path, "rb");
	struct file *file = ERR_PTR(-ENOEXEC);
	u8 *bytes;
	long size;

	(void)cookie;
	if (!f)
		return ERR_PTR(-errno);
	size = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
	rewind(f);
	bytes = size >= 0 && size <= FILE_MOST ? malloc((size_t)size + 1) : NULL;
	if (bytes && fread(bytes, 1, (size_t)size, f) == (size_t)size)
		file = sim_file_create(q, path, bytes, (u64)size);
	free(bytes);
	fclose(f);
	return file ? file : ERR_PTR(-ENOMEM);
}

/* The machine that an ELF file is for says whose layout it gets; what is none is refused by exec itself. */
static const struct guest_abi *abi_of(struct file *f)
{
	u8 head[20] = {0};

	return sim_file_pread(f, 0, head, sizeof(head)) == sizeof(head) && head[18] == EM_AARCH64 ? &guest_abi_arm64 : &guest_abi_x86_64;
}

/* exec PROCESS FILE [ARGUMENT...].  The program is loaded; what it would do then is up to the script. */
static int cmd_exec(struct lab *lab, unsigned n, char **w)
{
	struct sim_process *p = process_of(lab, w[1]);
	struct exec_args args = {.filename = w[2], .argc = n - 2, .argv = (const char *const *)w + 2, .open_interp = file_from_host};
	struct exec_result out;
	int err;

	if (!p)
		return -1;
	args.file = file_from_host(lab->q, w[2], NULL);
	if (IS_ERR(args.file))
		return lab_error(lab, "%s: %s", w[2], strerror((int)-PTR_ERR(args.file)));
	args.abi = abi_of(args.file);
	err = sim_process_exec(p, &args, &out);
	file_put(args.file);
	if (err)
		fprintf(lab->out, "exec %s: error %d (%s)\n", w[1], -err, strerror(-err));
	else
		fprintf(lab->out, "%s: entry 0x%lx, stack pointer 0x%lx\n", w[1], (unsigned long)out.entry, (unsigned long)out.sp);
	return 0;
}

static void end_one(struct lab *lab, struct thing *t)
{
	if (t->kind != THING_PROCESS)
		return;
	sim_process_exit(t->p);
	thing_dead(lab, t);
}

int lab_refuse_free(struct lab *lab, const struct thing *t)
{
	if (t->kind != THING_PROCESS && t->kind != THING_MAPPING)
		return 0;
	return lab_error(lab, "'%s' is a %s: use exit or unmap", t->name, thing_word[t->kind]);
}

void lab_processes_end(struct lab *lab)
{
	things_each(lab, end_one);
}

/* ---- mappings ---- */

/* map NAME PROCESS SIZE [r|rw|rx|rwx] [shared] */
static int cmd_map(struct lab *lab, unsigned n, char **w)
{
	struct sim_process *p = process_of(lab, w[2]);
	u64 prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE;
	struct thing *t;
	size_t size;
	long at;

	if (!p || lab_size(lab, w[3], &size))
		return -1;
	for (unsigned i = 4; i < n; i++) {
		if (!strcmp(w[i], "shared"))
			flags = MAP_SHARED;
		else if (*w[i] && strspn(w[i], "rwx") == strlen(w[i]))
			prot = (strchr(w[i], 'r') ? PROT_READ : 0) | (strchr(w[i], 'w') ? PROT_WRITE : 0) |
			       (strchr(w[i], 'x') ? PROT_EXEC : 0);
		else
			return lab_error(lab, "'%s' is neither a protection (r, rw, rx, rwx) nor 'shared'", w[i]);
	}
	t = thing_new(lab, w[1], THING_MAPPING);
	if (!t)
		return -1;
	at = sys_mmap(p->task, 0, size, prot, flags | MAP_ANONYMOUS, NULL, 0);
	if (at < 0) {
		thing_dead(lab, t);
		fprintf(lab->out, "map %s: error %ld\n", w[1], -at);
		return 0;
	}
	t->p = (void *)(uintptr_t)at;
	t->size = size;
	t->owner = thing_find(lab, w[2]);
	fprintf(lab->out, "%s: 0x%lx, %zu bytes of %s\n", w[1], (unsigned long)at, size, w[2]);
	return 0;
}

/* In one process; a copy that a fork made stays, under the same name. */
static int cmd_unmap(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_want(lab, w[1], THING_MAPPING);
	struct sim_process *p = !t ? NULL : process_of(lab, n > 2 ? w[2] : t->owner->name);
	long ret;

	if (!p)
		return -1;
	ret = sys_munmap(p->task, (u64)(uintptr_t)t->p, t->size);
	if (ret)
		fprintf(lab->out, "unmap %s: error %ld\n", w[1], -ret);
	else if (n < 3)
		thing_dead(lab, t);
	return 0;
}

/* ---- accesses ---- */

static const char *abort_word(u32 esr)
{
	u32 ec = esr >> ESR_EC_SHIFT;

	return ec == ESR_EC_IABT_LOW || ec == ESR_EC_IABT_CUR ? "instruction abort" : esr & ESR_WNR ? "data abort, write" : "data abort, read";
}

static const char *status_word(u32 esr)
{
	static const char *const word[] = {"address size", "translation", "access flag", "permission"};
	u32 fsc = esr & ESR_FSC_MASK;

	return fsc < 16 ? word[fsc / 4] : fsc == FSC_ALIGNMENT ? "alignment" : "external";
}

/* The way of the newest fault of an access that took `taken` of them. */
static void print_faults(struct lab *lab, const struct sim_process *p, u64 taken, int failed)
{
	const struct fault_trace *trace = &lab->q->trace;

	if (!taken) {
		fprintf(lab->out, "  no fault\n");
		return;
	}
	fprintf(lab->out, "  %s (%s fault", abort_word(p->cpu->esr), status_word(p->cpu->esr));
	if ((p->cpu->esr & ESR_FSC_MASK) < 16)
		fprintf(lab->out, ", level %u", p->cpu->esr & 3);
	fprintf(lab->out, "), ESR_EL1 0x%08x, FAR_EL1 0x%lx", p->cpu->esr, (unsigned long)p->cpu->far);
	if (taken > 1)
		fprintf(lab->out, "; the last of %lu faults", (unsigned long)taken);
	fprintf(lab->out, "\n  ");
	for (u32 i = 0; i < trace->n; i++)
		fprintf(lab->out, "%s%s", i ? " > " : "", trace->fn[i]);
	if (failed)
		fprintf(lab->out, " > signal %d, code %d", p->cpu->info.sig, p->cpu->info.code);
	fprintf(lab->out, "\n");
}

/* load PROCESS ADDRESS, store PROCESS ADDRESS VALUE, fetch PROCESS ADDRESS */
static int access_word(struct lab *lab, unsigned n, char **w)
{
	struct sim_process *p = process_of(lab, w[1]);
	u64 at, value = 0, before;
	u32 insn = 0;
	int err;

	if (!p || address(lab, w[2], &at) || (n > 3 && lab_number(lab, w[3], ~0ull, &value)))
		return -1;
	lab->q->trace_faults = true;
	lab->q->trace.n = 0;
	before = p->cpu->nr_exceptions;
	if (!strcmp(w[0], "store"))
		err = sim_process_store(p, at, 8, value);
	else if (!strcmp(w[0], "load"))
		err = sim_process_load(p, at, 8, &value);
	else
		err = sim_process_fetch(p, at, &insn);
	lab->q->trace_faults = false;
	if (err)
		fprintf(lab->out, "%s %s 0x%lx: not possible\n", w[0], w[1], (unsigned long)at);
	else
		fprintf(lab->out, "%s %s 0x%lx: 0x%lx\n", w[0], w[1], (unsigned long)at, (unsigned long)(value | insn));
	print_faults(lab, p, p->cpu->nr_exceptions - before, err);
	return 0;
}

/* ---- looking ---- */

static void view_translate(struct quire *q, void *of, u64 at, struct fmt_buf *b) { proc_translate(q, of, at, b); }
static void view_maps(struct quire *q, void *of, u64 at, struct fmt_buf *b) { (void)at, proc_maps(q, of, b); }
static void view_smaps(struct quire *q, void *of, u64 at, struct fmt_buf *b) { (void)at, proc_smaps(q, of, b); }
static void view_status(struct quire *q, void *of, u64 at, struct fmt_buf *b) { (void)at, proc_status(q, of, b); }

static int cmd_translate(struct lab *lab, unsigned n, char **w)
{
	struct sim_process *p = process_of(lab, w[1]);
	u64 at;

	(void)n;
	if (!p || address(lab, w[2], &at))
		return -1;
	lab_print_text(lab, view_translate, sim_process_mm(p), at);
	return 0;
}

static int cmd_maps(struct lab *lab, unsigned n, char **w)
{
	struct sim_process *p = process_of(lab, w[1]);

	(void)n;
	if (!p)
		return -1;
	if (!strcmp(w[0], "status"))
		lab_print_text(lab, view_status, p->task, 0);
	else
		lab_print_text(lab, !strcmp(w[0], "maps") ? view_maps : view_smaps, sim_process_mm(p), 0);
	return 0;
}

/* devmem read PHYS, devmem write PHYS VALUE: eight bytes of RAM */
static int cmd_devmem(struct lab *lab, unsigned n, char **w)
{
	bool write = !strcmp(w[1], "write");
	u64 at, value, *word;

	if ((!write && strcmp(w[1], "read")) || n != (write ? 4u : 3u))
		return lab_error(lab, "usage: devmem read PHYS | devmem write PHYS VALUE");
	if (lab_number(lab, w[2], ~0ull, &at) || (write && lab_number(lab, w[3], ~0ull, &value)))
		return -1;
	if (at % 8 || at >= lab->q->cfg.memory)
		return lab_error(lab, "0x%llx is no address of eight bytes of RAM (multiples of 8 below 0x%llx are)", (unsigned long long)at,
				 (unsigned long long)lab->q->cfg.memory);
	word = port_frame_address(lab->q, (pfn_t)(at >> PAGE_SHIFT));
	if (!word)
		return lab_error(lab, "frame %lu has no kernel address (HighMem: kmap it)", (unsigned long)(at >> PAGE_SHIFT));
	word += at % PAGE_SIZE / 8;
	if (write)
		*word = value;
	fprintf(lab->out, "0x%lx: 0x%016lx\n", (unsigned long)at, (unsigned long)*word);
	return 0;
}

const struct lab_command lab_process_commands[] = {
	{"process", "NAME", "a process with an empty address space", 1, 1, true, cmd_process},
	{"fork", "NAME PROCESS", "a child of a process", 2, 2, false, cmd_fork},
	{"exec", "PROCESS FILE [ARGUMENT...]", "load an ELF file of the host's, as execve(2)", 2, LAB_WORDS_MAX - 1, false, cmd_exec},
	{"exit", "PROCESS", "end a process", 1, 1, true, cmd_exit},
	{"map", "NAME PROCESS SIZE [r|rw|rx|rwx] [shared]", "anonymous memory", 3, 5, false, cmd_map},
	{"unmap", "NAME [PROCESS]", "unmap it, in its process or in a child", 1, 2, false, cmd_unmap},
	{"load", "PROCESS ADDRESS", "read 8 bytes; ADDRESS: number, NAME or NAME+OFFSET", 2, 2, false, access_word},
	{"store", "PROCESS ADDRESS VALUE", "write 8 bytes, and see the way of the fault", 3, 3, false, access_word},
	{"fetch", "PROCESS ADDRESS", "execute there", 2, 2, false, access_word},
	{"translate", "PROCESS ADDRESS", "the walk of the page tables, level by level", 2, 2, false, cmd_translate},
	{"devmem", "read PHYS | write PHYS VALUE", "8 bytes of RAM by physical address", 2, 3, false, cmd_devmem},
	{"maps", "PROCESS", "as /proc/PID/maps", 1, 1, false, cmd_maps},
	{"smaps", "PROCESS", "as /proc/PID/smaps", 1, 1, false, cmd_maps},
	{"status", "PROCESS", "as /proc/PID/status", 1, 1, false, cmd_maps},
	{NULL, NULL, NULL, 0, 0, false, NULL},
};
