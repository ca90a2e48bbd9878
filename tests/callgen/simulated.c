/*
 * The backend of a simulated machine: the same streams as native.c runs, on the core's system calls and through the
 * simulated MMU (stale translations and wrong faults show), with a process per slot of a ring.  Streams are made with the
 * option "sim": what belongs to a port (sealed files, System V, pipes, memory policies) is left out on both sides.
 *
 * Buffers of system calls that the core reads through user memory lie in a scratch mapping of each process, outside the
 * window.
 *
 * Usage: callgen_sim SEED COUNT one|ring [rss|folios] [ordinary] [verbose] [keep=FILE]
 */
#include "callgen.h"
#include <errno.h>
#include <fcntl.h>
#include <file/filemap.h>
#include <fmt.h>
#include <mm/mm.h>
#include <port/sim/process.h>
#include <port/sim/simfs.h>
#include <proc/proc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../../sys/sys.h"

#define HEAP 0x10000000ull
#define SCRATCH 0x400000000000ull
#define SCRATCH_BYTES (4u << 20) /* more private data than the heap may grow by: RLIMIT_DATA then means the same on both sides */
#define SCRATCH_IOV 0u           /* two arrays of two ranges */
#define SCRATCH_VEC 128u         /* mincore's */
#define SCRATCH_BUFFER 4096u     /* stands for the worker's buffer */
#define TEXT_BYTES (1u << 20)
#define CHECK_EVERY 16u          /* steps between walks over all structures */
#define CANONICAL_END 0x800000000000ull

static struct quire *q;
static struct sim_process *slots[MAX_SLOTS];
static struct sim_process *current;
static struct file *files[NR_FILES];

static struct worker worker;

static struct task *task(void) { return current->task; }
static struct mm_struct *mm(void) { return sim_process_mm(current); }

static void die(const char *why)
{
	fflush(stdout);
	fprintf(stderr, "callgen_sim: %s\n%s", why, sim_log_text(q));
	abort();
}

/* ---- system calls ---- */
static bool is_buffer(u64 a) { return a >= (u64)buffers[0] && a < (u64)buffers[0] + sizeof(buffers); }

/* The worker's buffer as the process sees it. */
static u64 user_address(u64 a) { return is_buffer(a) ? SCRATCH + SCRATCH_BUFFER + (a - (u64)buffers[0]) : a; }

static void put_user(u64 a, const void *from, u64 n)
{
	if (access_process_vm(mm(), a, (void *)(uintptr_t)from, n, true) != (long)n)
		die("scratch memory cannot be written");
}

static void get_user(u64 a, void *to, u64 n)
{
	if (access_process_vm(mm(), a, to, n, false) != (long)n)
		die("scratch memory cannot be read");
}

static struct file *file_of(u64 fd) { return fd < NR_FILES ? files[fd] : NULL; }

static s64 sim_mmap(u64 a, u64 len, u64 prot, u64 flags, u64 fd, u64 off)
{
	struct file *f = file_of(fd);

	if ((flags & MAP_ANONYMOUS) || f || !off)
		return sys_mmap(task(), a, len, prot, flags, f, off);
	return off % PAGE ? -EINVAL : -EBADF;
}

static s64 sim_vm(u64 pid, const u64 *near, u64 near_n, const u64 *far, u64 far_n, u64 flags, bool write)
{
	u64 iov[4] = {user_address(near[0]), near[1], user_address(near[2]), near[3]};
	s64 ret;

	for (u64 i = 0; i < 4; i += 2)
		if (is_buffer(near[i]))
			put_user(iov[i], (void *)near[i], iov[i + 1]);
	put_user(SCRATCH + SCRATCH_IOV, iov, sizeof(iov));
	put_user(SCRATCH + SCRATCH_IOV + sizeof(iov), far, sizeof(iov));
	ret = (write ? sys_process_vm_writev : sys_process_vm_readv)(task(), (s32)pid, SCRATCH + SCRATCH_IOV, near_n,
								     SCRATCH + SCRATCH_IOV + sizeof(iov), far_n, flags);
	for (u64 i = 0; i < 4; i += 2)
		if (is_buffer(near[i]))
			get_user(iov[i], (void *)near[i], iov[i + 1]);
	return ret;
}

static s64 sim_mincore(u64 a, u64 len, u8 *vec)
{
	s64 ret = sys_mincore(task(), a, len, vec ? SCRATCH + SCRATCH_VEC : 0);

	if (!ret && vec)
		get_user(SCRATCH + SCRATCH_VEC, vec, PAGE_ALIGN(len) / PAGE);
	return ret;
}

/* Plain reads and writes, of the worker's buffer only. */
static s64 sim_rw(u64 fd, void *buf, u64 len, u64 off, bool write)
{
	struct file *f = file_of(fd);

	if (!f || !(f->mode & (write ? FMODE_WRITE : FMODE_READ)))
		return -EBADF;
	if (!write)
		return filemap_read(f->mapping, off, buf, len);
	if (mapping_is_shmem(f->mapping) && off + len > f->mapping->shmem_size)
		shmem_set_size(f->mapping, off + len);
	return mapping_is_shmem(f->mapping) ? filemap_write(f->mapping, off, buf, len) : sim_file_pwrite(f, off, buf, len);
}

static s64 sim_truncate(u64 fd, u64 size)
{
	struct file *f = file_of(fd);

	if (!f)
		return -EBADF;
	if (!(f->mode & FMODE_WRITE))
		return -EINVAL;
	return mapping_is_shmem(f->mapping) ? shmem_set_size(f->mapping, size) : sim_file_truncate(f, size);
}

static s64 sim_prlimit(u64 resource, const u64 *set, u64 *get)
{
	struct mm_struct *m = mm();

	if (get) {
		get[0] = resource == RLIMIT_AS ? m->rlim_as : resource == RLIMIT_DATA ? m->rlim_data :
			 resource == RLIMIT_STACK ? m->rlim_stack : m->rlim_memlock;
		get[1] = resource == RLIMIT_MEMLOCK && opt.ordinary ? MEMLOCK_PAGES * PAGE : ~0ull;
	}
	return set ? sys_set_mm_rlimit(task(), (unsigned)resource, set[0]) : 0;
}

s64 raw(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct task *t = task();
	const struct { u64 base, len; } *iov = (void *)b;

	switch (nr) {
	case SYS_mmap: return sim_mmap(a, b, c, d, e, f);
	case SYS_munmap: return sys_munmap(t, a, b);
	case SYS_mprotect: return sys_mprotect(t, a, b, c);
	case SYS_mremap: return sys_mremap(t, a, b, c, d, e);
	case SYS_madvise: return sys_madvise(t, a, b, (int)c);
	case SYS_mlock: return sys_mlock(t, a, b);
	case SYS_mlock2: return sys_mlock2(t, a, b, c);
	case SYS_munlock: return sys_munlock(t, a, b);
	case SYS_mlockall: return sys_mlockall(t, (int)a);
	case SYS_munlockall: return sys_munlockall(t);
	case SYS_mincore: return sim_mincore(a, b, (u8 *)c);
	case SYS_msync: return sys_msync(t, a, b, (int)c);
	case SYS_brk: return sys_brk(t, a);
	case SYS_pread64: return sim_rw(a, (void *)b, c, d, false);
	case SYS_pwrite64: return sim_rw(a, (void *)b, c, d, true);
	case SYS_preadv: return sim_rw(a, (void *)iov->base, iov[0].len + iov[1].len, d, false);
	case SYS_pwritev: return sim_rw(a, (void *)iov->base, iov[0].len + iov[1].len, d, true);
	case SYS_ftruncate: return sim_truncate(a, b);
	case SYS_process_vm_readv: return sim_vm(a, (u64 *)b, c, (u64 *)d, e, f, false);
	case SYS_process_vm_writev: return sim_vm(a, (u64 *)b, c, (u64 *)d, e, f, true);
	case SYS_getpid: return t->pid;
	case SYS_prlimit64: return sim_prlimit(b, (u64 *)c, (u64 *)d);
	default: die("a call that no stream with \"sim\" makes"); return 0;
	}
}

/* ---- accesses ---- */

/* What x86 says of addresses that no table can translate. */
static bool beyond(u64 a)
{
	bool canonical = a < CANONICAL_END || a >= ~(CANONICAL_END - 1);

	if (a < CANONICAL_END)
		return false;
	caught = canonical ? (struct trouble){SIGSEGV, 1, a} : (struct trouble){SIGSEGV, 0x80, 0};
	return true;
}

static bool access_done(int err)
{
	const struct fault_info *info = &current->cpu->info;

	if (!err)
		return true;
	if (err != -EFAULT || current->cpu->result != FAULT_SIGNAL)
		die("an access ended without a signal");
	caught = (struct trouble){info->sig, info->code, info->addr};
	return false;
}

bool mem_load(u64 a, u64 width, u64 *v) { return !beyond(a) && access_done(sim_process_load(current, a, (unsigned)width, v)); }

bool mem_store(u64 a, u64 width, u64 value)
{
	u64 old;

	if (beyond(a))
		return false;
	if (width == 8)
		value *= 0x0101010101010101ull;
	else
		value = width == 4 ? (u32)(value * 0x01010101u) : (u8)value;
	/* The atomic one after the other: ARM's reports itself as a read where it would fault as such, x86's never does. */
	return access_done(sim_process_store(current, a, (unsigned)width, value)) &&
	       (width != 8 || access_done(sim_process_fetch_add(current, a, 1, 0, &old)));
}

bool mem_run(u64 a)
{
	u32 insn;

	return !beyond(a) && access_done(sim_process_fetch(current, a, &insn));
}

bool mem_read(u64 a, u64 *words, u64 bytes)
{
	for (u64 i = 0; i < bytes / 8; i++)
		if (!mem_load(a + i * 8, 8, &words[i]))
			return false;
	return true;
}

/* ---- views ---- */
char *view_text(const char *name)
{
	static char text[TEXT_BYTES];
	struct fmt_buf out = fmt_init(text, sizeof(text));

	if (!strcmp(name, "maps"))
		proc_maps(q, mm(), &out);
	else if (!strcmp(name, "smaps"))
		proc_smaps(q, mm(), &out);
	else
		proc_status(q, task(), &out);
	return text;
}

/* The bound is the native side's. */
void mem_present(u64 a, u32 pages, u64 *present) { memset(present, 0, pages * sizeof(*present)); }

/* ---- processes ---- */
static struct sim_process *forked(void)
{
	struct sim_process *child = sim_process_fork(current);

	if (IS_ERR(child))
		die("fork failed");
	return child;
}

void snapshot(const struct step *s, u64 hashes[2])
{
	static u8 kept_buffer[BUFFER_BYTES];
	struct sim_process *parent = current;

	memcpy(kept_buffer, buffers[me->index], sizeof(kept_buffer));
	current = forked();
	snapshot_look(s, hashes);
	sim_process_exit(current);
	current = parent;
	memcpy(buffers[me->index], kept_buffer, sizeof(kept_buffer));
	if (opt.mode != MODE_RING) /* nobody waits there */
		say(" status 0");
}

/* What a natively run stream begins with. */
static u64 host_limit(unsigned resource)
{
	u64 lim[2] = {~0ull, ~0ull};

	syscall(SYS_prlimit64, 0, resource, NULL, lim);
	return lim[0];
}

static void map_fixed(u64 a, u64 len)
{
	if (sys_mmap(task(), a, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0) != (long)a)
		die("no memory for a process");
}

static void new_process(void)
{
	struct mm_struct *m = mm_alloc(q, &guest_abi_x86_64);

	current = sim_process_new(q, "callgen");
	if (!current || !m)
		die("no memory for a process");
	task_set_mm(current->task, m);
	m->start_brk = m->brk = HEAP;
	m->cap_ipc_lock = m->cap_sys_rawio = !opt.ordinary;
	m->rlim_stack = host_limit(RLIMIT_STACK);
	m->rlim_memlock = opt.ordinary ? MEMLOCK_PAGES * PAGE : host_limit(RLIMIT_MEMLOCK);
	map_fixed(SCRATCH, SCRATCH_BYTES);
	map_fixed(HEAP - 2 * PAGE, PAGE); /* what libc has of the heap: no stack grows towards it */
}

/* The same bytes as native.c's. */
static void fill_file(u32 i, u64 bytes)
{
	u8 page[PAGE];

	for (u64 at = 0; at < bytes; at += PAGE) {
		memset(page, (int)(at / PAGE + 1), sizeof(page));
		if (sim_rw(i, page, PAGE, at, true) != (s64)PAGE)
			die("a file cannot be filled");
	}
}

static void open_files(void)
{
	u64 bytes = file_bytes();

	for (u32 i = 0; i < NR_FILES; i++)
		worker.fds[i] = (int)i;
	worker.fds[F_NONE] = -1;
	files[F_MEM] = shmem_file_setup(q, "/memfd:callgen (deleted)", 0, VM_NORESERVE);
	files[F_DISK] = sim_file_create(q, "/callgen", NULL, 0);
	if (!files[F_MEM] || !files[F_DISK])
		die("no files");
	fill_file(F_MEM, bytes);
	fill_file(F_DISK, bytes);
	files[F_MEM_RO] = file_create(q, files[F_MEM]->mapping, FMODE_READ, files[F_MEM]->path);
	files[F_DISK_RO] = sim_file_open(q, "/callgen", FMODE_READ);
	files[F_DISK_WO] = sim_file_open(q, "/callgen", FMODE_WRITE);
}

/* ---- the stream ---- */
static void check(void)
{
	for (u32 i = 0; i < MAX_SLOTS; i++)
		if (sh->alive[i] && !mm_is_valid(sim_process_mm(slots[i])))
			die("an address space is not valid");
}

static void show(void)
{
	fwrite(sh->out[me->index].text, 1, sh->out[me->index].len, stdout);
	sh->out[me->index].len = 0;
}

/* A slot is a worker of its own: it has a buffer. */
static void become(u32 slot)
{
	me->slot = me->index = slot;
	current = slots[slot];
}

static void one_step(u32 i)
{
	struct step s;

	step_generate(&s, 0, i);
	execute(&s, i);
	sh->calls++;
	if (i % CHECK_EVERY == 0)
		check();
	show();
}

static void run_fork(void)
{
	u32 slot = 0;

	while (slot < MAX_SLOTS && sh->alive[slot])
		slot++;
	if (slot == MAX_SLOTS) {
		say("no slot ");
		return;
	}
	slots[slot] = forked();
	memcpy(buffers[slot], buffers[me->slot], sizeof(buffers[slot]));
	sh->pid[slot] = slots[slot]->task->pid;
	sh->alive[slot] = 1;
	say("slot %u starts ", slot);
}

static void run_exit(u32 i)
{
	say("%u exit of slot %u %08x\n", i, me->slot, (u32)hash_window());
	sh->alive[me->slot] = 0;
	sim_process_exit(current);
	slots[me->slot] = NULL;
	show();
}

static void run_ring_step(u32 i)
{
	struct step s;

	step_generate(&s, 0, i);
	become(live_slot(s.slot));
	say("p%u ", me->slot);
	if (s.op == OP_EXIT && me->slot) {
		run_exit(i);
		return;
	}
	if (s.op == OP_FORK)
		run_fork();
	one_step(i);
}

static void end_all(void)
{
	for (u32 i = 0; i < MAX_SLOTS; i++) {
		if (!sh->alive[i])
			continue;
		become(i);
		if (opt.mode == MODE_RING)
			say("end of slot %u %08x\n", i, (u32)hash_window());
		else
			say("end %08x\n", (u32)hash_window());
		sim_process_exit(current);
		show();
	}
	for (u32 i = 0; i < NR_FILES; i++)
		if (files[i])
			file_put(files[i]);
	sim_file_unlink(q, "/callgen");
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	if (!opt.sim || opt.mode == MODE_RACE || opt.mode == MODE_THREADS) {
		fprintf(stderr, "callgen_sim: only the modes one and ring, with sim\n");
		return 2;
	}
	sh = calloc(1, sizeof(*sh));
	q = sim_machine_new(&(struct sim_config){.seed = opt.seed, .break_percent = 20, .memory = 256 << 20, .check_reuse = true,
						 .check_law1 = true, .check_leaks = true, .folio_max_order = opt.folios ? 9 : 0});
	me = &worker;
	worker.window = WINDOW;
	heap_start = HEAP;
	open_files();
	new_process();
	slots[0] = current;
	sh->alive[0] = 1;
	sh->pid[0] = current->task->pid;
	for (u32 i = 0; i < opt.count; i++) {
		if (!kept(i))
			continue;
		if (opt.mode == MODE_RING)
			run_ring_step(i);
		else
			one_step(i);
	}
	end_all();
	printf("calls %u\n", sh->calls);
	sim_machine_free(q);
	return 0;
}
