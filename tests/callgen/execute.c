/*
 * Carries out one step and prints it with its result, by the means of a backend: native.c, or simulated.c.
 *
 * Everything a step needs lies in static or stack memory, so that nothing but the step itself changes the address space.
 */
#include "callgen.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

const char *const op_names[NR_OPS] = {
	"mmap", "munmap", "mprotect", "mremap", "madvise", "mlock", "munlock", "mlockall", "mincore", "msync", "brk",
	"load", "store", "fill", "sum", "exec",
	"pread", "pwrite", "pipe", "truncate", "fallocate", "seal",
	"vm_read", "vm_write", "mbind", "get_policy", "move_pages",
	"rlimit", "shmget", "shmat", "shmdt", "shmrm", "snapshot", "fork", "exit",
};

u8 buffers[MAX_WORKERS][BUFFER_BYTES];

/* ---- output ---- */
void say(const char *format, ...)
{
	u32 *len = &sh->out[me->index].len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(sh->out[me->index].text + *len, OUT_BYTES - *len, format, args);
	va_end(args);
	if (n > 0 && (u32)n < OUT_BYTES - *len)
		*len += (u32)n;
}

static u64 mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static u32 hash_bytes(const void *p, size_t n)
{
	u64 h = n;

	for (size_t i = 0; i < n; i++)
		h = mix(h, ((const u8 *)p)[i]);
	return (u32)h;
}

/* ---- addresses ---- */
static u64 real(u64 token)
{
	if (token >= HEAP_TOKEN && token < HEAP_TOKEN + 0x100000000ull)
		return token - HEAP_TOKEN + heap_start;
	if (token == BUFFER_TOKEN)
		return (u64)buffers[me->index];
	return token;
}

static bool in_window(u64 a) { return a >= me->window && a < me->window + (WINDOW_PAGES + WINDOW_TAIL) * PAGE; }
static bool in_heap(u64 a)
{
	return opt.mode != MODE_THREADS && a >= heap_start && a < heap_start + (HEAP_PAGES + WINDOW_TAIL) * PAGE;
}

static void say_addr(u64 a)
{
	if (in_window(a))
		say("w%llu+%llx", (unsigned long long)(a - me->window) / PAGE, (unsigned long long)(a % PAGE));
	else if (in_heap(a))
		say("h%llu+%llx", (unsigned long long)(a - heap_start) / PAGE, (unsigned long long)(a % PAGE));
	else if (a < 0x100000 || a >= 0x7ffffffff000ull)
		say("%llx", (unsigned long long)a);
	else
		say("elsewhere");
}

/* ---- calls ---- */
static void say_result(s64 ret)
{
	if (ret < 0)
		say(" = %s", strerrorname_np((int)-ret) ? strerrorname_np((int)-ret) : "?");
	else
		say(" = %lld", (long long)ret);
}

/* ---- accesses ---- */
__thread struct trouble caught;

static void say_fault(void)
{
	say(" %s code %d at ", caught.sig == SIGSEGV ? "SEGV" : "BUS", caught.code);
	say_addr(caught.addr);
}

/* One access of each kind, then another 64 bytes on; how far it came is said when it faults. */
static void do_access(const struct step *s)
{
	u64 a = real(s->a), progress = 0, v = 0, h = 0;
	bool good = true;

	switch (s->op) {
	case OP_LOAD:
		good = mem_load(a, s->d, &h);
		break;
	case OP_STORE:
		good = mem_store(a, s->d, s->c);
		break;
	case OP_FILL:
		for (; progress < s->b && (good = mem_store(a + progress, 1, s->c + progress / 64)); progress += 64)
			;
		break;
	case OP_SUM:
		for (; progress < s->b && (good = mem_load(a + progress, 1, &v)); progress += 64)
			h = mix(h, v);
		break;
	default:
		/* "ret", where it can be written; else whatever fault comes of fetching it. */
		good = mem_store(a, 1, 0xc3) && mem_run(a);
		break;
	}
	if (good) {
		say(" = %llx", (unsigned long long)h);
		return;
	}
	say_fault();
	say(" after %llu", (unsigned long long)progress);
}

/* Fetches where nothing was written: only what cannot be read is certain to fault. */
static void do_fetch(const struct step *s)
{
	u64 a = real(s->a), v;

	if (!mem_load(a, 1, &v))
		say_fault();
	else if (v != 0xc3)
		say(" no code");
	else if (!mem_run(a))
		say_fault();
	else
		say(" = ran");
}

/* The page's words, or what reading it raises. */
static void hash_page(u64 a, u64 *h)
{
	u64 words[PAGE / 8];

	if (!mem_read(a, words, sizeof(words))) {
		*h = mix(*h, (u64)caught.sig << 8 | (u32)caught.code);
		return;
	}
	for (u64 i = 0; i < PAGE / 8; i++)
		*h = mix(*h, words[i]);
}

u64 hash_window(void)
{
	u64 h = 1;

	for (u32 i = 0; i < WINDOW_PAGES; i++)
		hash_page(me->window + i * PAGE, &h);
	for (u32 i = 0; opt.mode != MODE_THREADS && i < HEAP_PAGES; i++)
		hash_page(heap_start + i * PAGE, &h);
	return h;
}

/* ---- mappings ---- */
/* What the kernel put outside the window is looked at and taken away again. */
static void settle(s64 ret, u64 len)
{
	u64 h = 0;

	if (ret < 0) {
		say_result(ret);
		return;
	}
	say(" = ");
	if (in_window((u64)ret) || in_heap((u64)ret)) {
		say_addr((u64)ret);
		return;
	}
	say("outside%s%s", (u64)ret % PAGE ? " unaligned" : "", (u64)ret < 1ull << 31 ? " low" : "");
	if (len <= 64 * PAGE)
		for (u64 at = 0; at < PAGE_UP(len); at += PAGE)
			hash_page((u64)ret + at, &h);
	say(" %08x", (u32)h);
	raw(SYS_munmap, (u64)ret, PAGE_UP(len), 0, 0, 0, 0);
}

static void do_mincore(const struct step *s)
{
	u64 a = real(s->a), bits = 0;
	u8 vec[64];
	s64 ret;

	if (s->b > sizeof(vec) * PAGE) {
		say_result(raw(SYS_mincore, a, s->b, 0, 0, 0, 0));
		return;
	}
	ret = raw(SYS_mincore, a, s->b, (u64)vec, 0, 0, 0);
	say_result(ret);
	if (ret || !opt.rss || opt.folios || range_has(a, PAGE_UP(s->b), "dmvz"))
		return;
	for (u64 i = 0; i < PAGE_UP(s->b) / PAGE; i++)
		bits |= (u64)(vec[i] & 1) << i;
	say(" vec %llx", (unsigned long long)bits);
}

static void do_mapping(const struct step *s)
{
	u64 a = real(s->a);

	switch (s->op) {
	case OP_MMAP:
		settle(raw(SYS_mmap, a, s->b, s->c, s->d, (u64)(s64)me->fds[s->file], s->e), s->b);
		break;
	case OP_MUNMAP: say_result(raw(SYS_munmap, a, s->b, 0, 0, 0, 0)); break;
	case OP_MPROTECT: say_result(raw(SYS_mprotect, a, s->b, s->c, 0, 0, 0)); break;
	case OP_MREMAP: settle(raw(SYS_mremap, a, s->b, s->c, s->d, real(s->e), 0), s->c); break;
	case OP_MADVISE: say_result(raw(SYS_madvise, a, s->b, s->c, 0, 0, 0)); break;
	case OP_MLOCK: say_result(s->c ? raw(SYS_mlock2, a, s->b, s->c, 0, 0, 0) : raw(SYS_mlock, a, s->b, 0, 0, 0, 0)); break;
	case OP_MUNLOCK: say_result(raw(SYS_munlock, a, s->b, 0, 0, 0, 0)); break;
	case OP_MLOCKALL: say_result(s->c ? raw(SYS_mlockall, s->c, 0, 0, 0, 0, 0) : raw(SYS_munlockall, 0, 0, 0, 0, 0, 0)); break;
	case OP_MINCORE: do_mincore(s); break;
	case OP_MSYNC: say_result(raw(SYS_msync, a, s->b, s->c, 0, 0, 0)); break;
	default:
		say(" = ");
		say_addr((u64)raw(SYS_brk, a, 0, 0, 0, 0, 0));
		break;
	}
}

/* ---- files ---- */
static void do_pipe(const struct step *s)
{
	u8 *buf = buffers[me->index];
	s64 n = raw(SYS_write, (u64)me->pipe[1], real(s->a), s->b, 0, 0, 0), got;

	say_result(n);
	if (n <= 0)
		return;
	got = raw(SYS_read, (u64)me->pipe[0], (u64)buf, (u64)n, 0, 0, 0);
	say(" got %lld %08x", (long long)got, got > 0 ? hash_bytes(buf, (size_t)got) : 0);
}

/*
 * A machine makes the buffers of a host's call resident before the host looks at the call, also those parts that it then
 * does not touch (CAVEATS.md).  So they are touched here first.  Returns false if a part lies beyond the end of a file.
 */
static bool touch_buffer(u64 a, u64 len, bool write)
{
	u64 end = a + len, v = 0;
	bool cut = false;

	for (; a < end; a = (a & ~(PAGE - 1)) + PAGE) {
		bool gone = !mem_load(a, 1, &v) && caught.sig == SIGBUS;

		/* Where the file ends, a write is still the first step of a copy. */
		if (write)
			gone |= !mem_store(a, 1, gone ? 0 : v) && caught.sig == SIGBUS;
		cut |= gone;
	}
	return !cut;
}

static void do_file(const struct step *s)
{
	int fd = me->fds[s->file];
	struct iovec iov[2] = {{(void *)real(s->a), s->b / 2}, {(void *)(real(s->a) + s->b / 2), s->b - s->b / 2}};

	if (s->a != BUFFER_TOKEN && (s->op == OP_PREAD || s->op == OP_PWRITE || s->op == OP_PIPE))
		if (!touch_buffer(real(s->a), s->b, s->op == OP_PREAD) && s->op == OP_PWRITE) {
			say(" no buffer"); /* the call itself could make the file long enough */
			return;
		}
	switch (s->op) {
	case OP_PREAD:
		say_result(s->d & 1 ? raw(SYS_pread64, (u64)fd, real(s->a), s->b, s->c, 0, 0) : raw(SYS_preadv, (u64)fd, (u64)iov, 2, s->c, 0, 0));
		break;
	case OP_PWRITE:
		say_result(s->d & 1 ? raw(SYS_pwrite64, (u64)fd, real(s->a), s->b, s->c, 0, 0) : raw(SYS_pwritev, (u64)fd, (u64)iov, 2, s->c, 0, 0));
		break;
	case OP_PIPE:
		do_pipe(s);
		break;
	case OP_TRUNCATE:
		say_result(raw(SYS_ftruncate, (u64)fd, s->c, 0, 0, 0, 0));
		break;
	case OP_FALLOCATE:
		say_result(raw(SYS_fallocate, (u64)fd, s->d, s->c, s->b, 0, 0));
		break;
	default:
		say_result(raw(SYS_fcntl, (u64)fd, s->c ? F_ADD_SEALS : F_GET_SEALS, s->c, 0, 0, 0));
		break;
	}
}

/* ---- other processes' memory, policies ---- */
/* What a copy between overlapping ranges leaves depends on how it is cut into pieces: may the local side lie here? */
static bool apart(u64 a, u64 len, const struct iovec remote[2])
{
	for (u32 i = 0; i < 2; i++)
		if ((u64)remote[i].iov_base < a + len && a < (u64)remote[i].iov_base + remote[i].iov_len)
			return false;
	return !range_has(a, len, "dmvz"); /* these may be the same memory at another address */
}

static void do_vm(const struct step *s)
{
	bool reading = s->op == OP_VM_READ;
	bool any = opt.mode == MODE_RING && opt.seed % 4 < 2; /* others_memory() in stream.c */
	u32 slot = any ? (u32)(s->d % MAX_SLOTS) : me->slot;
	s64 pid = any ? sh->pid[slot] : raw(SYS_getpid, 0, 0, 0, 0, 0, 0);
	u8 *buf = buffers[me->index];
	struct iovec local[2] = {{buf, s->b / 3}, {buf + s->b / 3, s->b - s->b / 3}};
	struct iovec remote[2] = {{(void *)real(s->a), s->b / 2}, {(void *)real(s->c), s->b - s->b / 2}};
	s64 ret;

	if (s->e % 4 == 0 && apart(me->window + s->e / 4 % WINDOW_PAGES * PAGE, local[1].iov_len, remote))
		local[1].iov_base = (void *)(me->window + s->e / 4 % WINDOW_PAGES * PAGE);
	memset(buf, reading ? 0x55 : (int)(s->e & 0xff), s->b);
	ret = pid ? raw(reading ? SYS_process_vm_readv : SYS_process_vm_writev, (u64)pid, (u64)local, 2, (u64)remote, 2, s->e % 64 == 1) : 0;
	say(" slot %u", slot);
	say_result(ret);
	if (reading && ret > 0)
		say(" %08x", hash_bytes(buf, s->b));
}

static void do_policy(const struct step *s)
{
	unsigned long mask[8] = {s->d};
	void *pages[4];
	int status[4] = {99, 99, 99, 99}, mode = -1, nodes[4] = {0};
	s64 ret;

	switch (s->op) {
	case OP_MBIND:
		say_result(raw(SYS_mbind, real(s->a), s->b, s->c, (u64)mask, 64, range_has(real(s->a), s->b, "dmvz") ? s->e & ~1ull : s->e));
		break;
	case OP_GET_POLICY:
		mask[0] = 0;
		ret = raw(SYS_get_mempolicy, (u64)&mode, (u64)mask, 512, s->c & 2 ? real(s->a) : 0, s->c, 0);
		say_result(ret);
		/* Shared memory objects have policies of their own, which a machine does not keep. */
		if (!ret && !((s->c & 2) && range_has(real(s->a) & ~(PAGE - 1), PAGE, "mvz")))
			say(" mode %d mask %lx", mode, mask[0]);
		break;
	default:
		for (u32 i = 0; i < 4; i++)
			pages[i] = (void *)(real(s->c) + i * PAGE);
		ret = raw(SYS_move_pages, 0, 4, (u64)pages, s->d & 1 ? (u64)nodes : 0, (u64)status, s->d & 1 ? 2 : 0);
		say_result(ret);
		if (!(s->d & 1) && opt.rss && !opt.folios && !range_has(real(s->c), 4 * PAGE, "dmvz"))
			say(" %d %d %d %d", status[0], status[1], status[2], status[3]);
		break;
	}
}

static void do_rlimit(const struct step *s)
{
	struct rlimit lim;
	u64 used;

	raw(SYS_prlimit64, 0, s->c, 0, (u64)&lim, 0, 0);
	if (s->c == RLIMIT_MEMLOCK && opt.ordinary)
		used = s->d == ~0ull ? MEMLOCK_PAGES : s->d;
	else if (s->d == ~0ull)
		used = ~0ull;
	else
		used = s->d + (s->c == RLIMIT_AS ? status_pages("VmSize:") : s->c == RLIMIT_DATA ? status_pages("VmData:") : 40);
	lim.rlim_cur = used == ~0ull ? RLIM_INFINITY : used * PAGE;
	if (lim.rlim_cur > lim.rlim_max)
		lim.rlim_cur = lim.rlim_max;
	say_result(raw(SYS_prlimit64, 0, s->c, (u64)&lim, 0, 0, 0));
}

/* ---- System V ---- */
static void do_shm(const struct step *s)
{
	u32 i = (u32)(s->d % NR_SHM);
	s64 ret;

	switch (s->op) {
	case OP_SHMGET:
		if (sh->shm[i]) {
			say(" taken");
			return;
		}
		ret = raw(SYS_shmget, IPC_PRIVATE, s->b, 0600, 0, 0, 0);
		if (ret >= 0)
			sh->shm[i] = (int)ret + 1;
		say_result(ret < 0 ? ret : 0);
		break;
	case OP_SHMAT:
		ret = sh->shm[i] ? raw(SYS_shmat, (u64)sh->shm[i] - 1, real(s->a), s->c, 0, 0, 0) : raw(SYS_shmat, ~0ull, 0, 0, 0, 0, 0);
		if (ret >= 0 && !in_window((u64)ret) && !in_heap((u64)ret)) {
			say(" = outside");
			say_result(raw(SYS_shmdt, (u64)ret, 0, 0, 0, 0, 0));
			break;
		}
		settle(ret, PAGE);
		break;
	case OP_SHMDT:
		say_result(raw(SYS_shmdt, real(s->a), 0, 0, 0, 0, 0));
		break;
	default:
		ret = sh->shm[i] ? raw(SYS_shmctl, (u64)sh->shm[i] - 1, IPC_RMID, 0, 0, 0, 0) : -EINVAL;
		sh->shm[i] = 0;
		say_result(ret);
		break;
	}
}

/* A copy of the process looks at everything, writes to some of it, looks again and ends. */
void snapshot_look(const struct step *s, u64 hashes[2])
{
	struct step w = {.op = OP_FILL, .a = s->c, .b = s->b, .c = 0x77};

	hashes[0] = hash_window();
	if (opt.mode != MODE_THREADS)
		do_access(&w);
	hashes[1] = hash_window();
}

static void do_snapshot(const struct step *s)
{
	u64 hashes[2] = {0, 0};

	snapshot(s, hashes);
	say(" %08x %08x", (u32)hashes[0], (u32)hashes[1]);
}

/* ---- the step ---- */
static void say_step(const struct step *s, u32 i)
{
	say("%u %s(", i, op_names[s->op]);
	say_addr(real(s->a));
	say(", %llx, ", (unsigned long long)s->b);
	if (s->c >= HEAP_TOKEN || s->c >= WINDOW)
		say_addr(real(s->c));
	else
		say("%llx", (unsigned long long)s->c);
	say(", %llx, ", (unsigned long long)s->d);
	if (s->op == OP_MREMAP)
		say_addr(real(s->e));
	else
		say("%llx", (unsigned long long)s->e);
	say(") file %u", s->file);
}

void execute(const struct step *s, u32 i)
{
	say_step(s, i);
	note_resident();
	switch (s->op) {
	case OP_MMAP ... OP_BRK: do_mapping(s); break;
	case OP_LOAD ... OP_SUM: do_access(s); break;
	case OP_EXEC: s->d & 1 ? do_fetch(s) : do_access(s); break;
	case OP_PREAD ... OP_SEAL: do_file(s); break;
	case OP_VM_READ ... OP_VM_WRITE: do_vm(s); break;
	case OP_MBIND ... OP_MOVE_PAGES: do_policy(s); break;
	case OP_RLIMIT: do_rlimit(s); break;
	case OP_SHMGET ... OP_SHMRM: do_shm(s); break;
	case OP_SNAPSHOT: do_snapshot(s); break;
	default: break;
	}
	say_views(i);
	say("\n");
}
