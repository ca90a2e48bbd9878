/*
 * The mmap family against the kernel that runs this test.
 *
 * One random stream of calls is executed twice: by raw system calls in a child process, inside a window of addresses
 * that nothing else uses, and on a simulated machine.  After every call these must agree: what it returned (errno, or
 * the address if it lies in the window), the bytes read or the signal a touch got, mincore's vector, the locked and now
 * and then the resident size, and the list of mappings in the window as /proc/self/maps prints it (ranges, permissions,
 * sharing, file offsets).
 *
 * The stream does not depend on results, so that both sides can be run one after the other.  What the kernel may answer
 * freely (an address outside the window) is unmapped at once on both sides.  "Fork" goes on in the child.
 *
 * QUIRE_SEED replays a run; QUIRE_DIFF_OPS sets the length of each stream, QUIRE_DIFF_ROUNDS their number (50 000
 * calls in all, a million with QUIRE_LONG; fewer under sanitizers), QUIRE_DIFF_RSS how often the resident size is looked at.
 *
 * tests/callgen does the same with whole processes, files and the simulated MMU, outside of the sanitizers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
/* <sys/mman.h> is left out on purpose: the core's headers define the same names. */
#include <mm/mm.h>
#include <port/sim/sim.h>
#include <cmocka.h>

#define WINDOW 0x200000000000ull /* outside of what sanitizers use */
#define WINDOW_PAGES 64u
#define WINDOW_END (WINDOW + WINDOW_PAGES * PAGE_SIZE)
#define FILE_PAGES 24u
#define MAX_MAPS 96u
#define MEMLOCK_PAGES 20u

enum op_kind {
	OP_MMAP,
	OP_MUNMAP,
	OP_MPROTECT,
	OP_MREMAP,
	OP_MADVISE,
	OP_MLOCK,
	OP_MUNLOCK,
	OP_MINCORE,
	OP_MSYNC,
	OP_READ,
	OP_WRITE,
	OP_FORK,
	OP_MLOCKALL,
	NR_OPS
};
static const char *const op_names[NR_OPS] = {"mmap",    "munmap", "mprotect", "mremap", "madvise", "mlock",   "munlock",
					     "mincore", "msync",  "read",     "write",  "fork",    "mlockall"};

static u32 rss_every = 8; /* QUIRE_DIFF_RSS */
/* Half of the streams have a file long enough, in the others touches beyond its end are SIGBUS. */
static bool long_file;
static u64 file_bytes(void)
{
	return (long_file ? FILE_PAGES + 128 : FILE_PAGES / 2) * PAGE_SIZE;
}
static bool rss_wanted(u32 i)
{
	return i % rss_every == 0;
}

struct op {
	enum op_kind kind;
	u64 a, b, c, d, e;
	int file; /* 0 none, 1 read-write, 2 read-only */
};

struct map {
	u64 start, end, pgoff;
	char perms[8];
};

struct result {
	s64 ret; /* errno negative; or 0; or an address in the window */
	u32 nmaps;
	u64 vec;    /* mincore, one bit a page */
	u64 locked; /* pages of VmLck; unprivileged streams only */
	u64 rss;    /* pages, by smaps; every rss_every operations */
	struct map maps[MAX_MAPS];
};

/* What both sides share: mapped outside the window, shared between processes. */
struct shared {
	u32 done; /* operations the native side finished */
	struct result native[];
};

/* ---- the stream ---- */
static u64 rng_state;
static u64 rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state * 0x2545f4914f6cdd1dull;
}
static u64 below(u64 n)
{
	return (rng() >> 20) % n;
}
static bool chance(u64 percent)
{
	return below(100) < percent;
}
static u64 pick(const u64 *list, size_t n)
{
	return list[below(n)];
}
#define PICK(...) pick((const u64[]){__VA_ARGS__}, sizeof((const u64[]){__VA_ARGS__}) / sizeof(u64))

static u64 any_addr(void)
{
	u64 a = WINDOW + below(WINDOW_PAGES) * PAGE_SIZE;

	return chance(2) ? a + 1 + below(4095) : a;
}

static u64 any_len(void)
{
	if (chance(2))
		return PICK(0, 1, 4095, ~0ull, ~0ull - 4095, 1ull << 63, 1ull << 47);
	return (1 + below(chance(70) ? 4 : 20)) * PAGE_SIZE - (chance(10) ? below(PAGE_SIZE) : 0);
}

static u64 any_prot(void)
{
	return chance(2) ? PICK(PROT_SEM, 0x10, PROT_GROWSDOWN, PROT_GROWSUP) | below(8)
			 : PICK(0, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
				PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC, PROT_WRITE);
}

static void gen_mmap(struct op *o)
{
	bool anon = chance(75);

	o->a = any_addr();
	o->b = any_len();
	o->c = any_prot();
	o->d = PICK(MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, 0, MAP_DROPPABLE) |
	       (anon ? MAP_ANONYMOUS : 0);
	o->d |= chance(75) ? MAP_FIXED : chance(50) ? MAP_FIXED_NOREPLACE : 0;
	if (chance(8))
		o->d |= PICK(MAP_GROWSDOWN, MAP_NORESERVE, MAP_STACK, MAP_LOCKED, MAP_POPULATE, MAP_NONBLOCK,
			     MAP_DENYWRITE, MAP_SYNC, MAP_POPULATE | MAP_NONBLOCK, MAP_EXECUTABLE);
	if (chance(4))
		o->d |= MAP_GROWSDOWN;
	o->file = anon ? 0 : chance(70) ? 1 : 2;
	o->e = anon ? 0 : below(FILE_PAGES) * PAGE_SIZE + (chance(3) ? 100 : 0);
}

static void gen_mremap(struct op *o, bool privileged)
{
	o->a = any_addr();
	o->b = chance(8) ? 0 : any_len();
	o->c = chance(50) ? o->b : any_len();
	o->d = PICK(0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED,
		    MREMAP_MAYMOVE | MREMAP_DONTUNMAP, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, MREMAP_FIXED,
		    8);
	o->e = any_addr();
	/* Linux 6.18 counts locked memory twice after this, and would hit RLIMIT_MEMLOCK early. */
	if (!privileged)
		o->d &= ~(u64)MREMAP_DONTUNMAP;
}

static void gen_op(struct op *o, bool privileged)
{
	*o = (struct op){.kind = OP_MMAP};
	switch (below(20)) {
	case 0 ... 4: gen_mmap(o); return;
	case 5: o->kind = OP_MUNMAP; break;
	case 6 ... 7:
		o->kind = OP_MPROTECT;
		o->c = any_prot();
		break;
	case 8 ... 9:
		o->kind = OP_MREMAP;
		gen_mremap(o, privileged);
		return;
	case 10 ... 11:
		o->kind = OP_MADVISE;
		o->c = PICK(0, 1, 2, 3, 4, 4, 4, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 22, 23,
			    24, 5, 99, 102, 102, 103);
		break;
	case 12:
		o->kind = chance(60) ? OP_MLOCK : OP_MUNLOCK;
		o->c = chance(30) ? MLOCK_ONFAULT : chance(3) ? 2 : 0;
		break;
	case 13:
		o->kind = chance(60) ? OP_MINCORE : OP_MSYNC;
		o->c = PICK(0, MS_ASYNC, MS_SYNC, MS_INVALIDATE, MS_SYNC | MS_INVALIDATE, MS_SYNC | MS_ASYNC, 8);
		break;
	case 14 ... 15: o->kind = OP_READ; break;
	case 16 ... 18:
		o->kind = OP_WRITE;
		o->c = below(256);
		break;
	default:
		if (chance(12)) {
			o->kind = OP_FORK;
		} else if (chance(3) && privileged) {
			o->kind = OP_MLOCKALL;
			o->c = PICK(0, MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT, MCL_ONFAULT, 8, 16);
		} else {
			o->kind = OP_WRITE;
			o->c = below(256);
		}
		break;
	}
	o->a = any_addr();
	o->b = any_len();
	/* These go on behind holes: they would reach the test program itself. */
	if ((o->kind == OP_MADVISE || o->kind == OP_MSYNC) && o->b > 1ull << 32)
		o->b = ~0ull;
}

/* ---- native side ---- */
static sigjmp_buf touch_jump;
static int fds[3];
static struct shared *sh;

static void on_fault(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	siglongjmp(touch_jump, sig * 256 + (si->si_code & 0xff));
}

/* The byte read, or -(signal * 256 + code). */
static s64 native_touch(u64 addr, bool write, u8 value)
{
	volatile u8 *p = (u8 *)(uintptr_t)addr;
	int how = sigsetjmp(touch_jump, 1);

	if (how)
		return -(s64)(0x10000 + how);
	if (write)
		*p = value;
	return *p;
}

static s64 raw(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	long r = syscall(nr, a, b, c, d, e, f);

	return r == -1 ? -errno : r;
}

/* Addresses outside the window are the kernel's choice. */
static s64 settle_native(s64 ret, u64 len)
{
	if (ret < 0 || ((u64)ret >= WINDOW && (u64)ret < WINDOW_END))
		return ret;
	syscall(SYS_munmap, ret, PAGE_ALIGN(len));
	return 1;
}

static u64 vec_bits(const u8 *p, u64 len)
{
	u64 bits = 0;

	for (u64 i = 0; i < PAGE_ALIGN(len) / PAGE_SIZE; i++)
		bits |= (u64)(p[i] & 1) << i;
	return bits;
}

static bool mincore_len_ok(u64 len)
{
	return len <= 64 * PAGE_SIZE;
}

static s64 native_op(const struct op *o, u64 *bits)
{
	static u8 vec[4096];
	s64 ret;

	switch (o->kind) {
	case OP_MMAP: return settle_native(raw(SYS_mmap, o->a, o->b, o->c, o->d, (u64)(s64)fds[o->file], o->e), o->b);
	case OP_MUNMAP: return raw(SYS_munmap, o->a, o->b, 0, 0, 0, 0);
	case OP_MPROTECT: return raw(SYS_mprotect, o->a, o->b, o->c, 0, 0, 0);
	case OP_MREMAP: return settle_native(raw(SYS_mremap, o->a, o->b, o->c, o->d, o->e, 0), o->c);
	case OP_MADVISE: return raw(SYS_madvise, o->a, o->b, o->c, 0, 0, 0);
	case OP_MLOCK: return raw(SYS_mlock2, o->a, o->b, o->c, 0, 0, 0);
	case OP_MUNLOCK: return raw(SYS_munlock, o->a, o->b, 0, 0, 0, 0);
	case OP_MLOCKALL: return o->c ? raw(SYS_mlockall, o->c, 0, 0, 0, 0, 0) : raw(SYS_munlockall, 0, 0, 0, 0, 0, 0);
	case OP_MINCORE:
		if (!mincore_len_ok(o->b))
			return 0;
		ret = raw(SYS_mincore, o->a, o->b, (u64)(uintptr_t)vec, 0, 0, 0);
		if (!ret)
			*bits = vec_bits(vec, o->b);
		return ret;
	case OP_MSYNC: return raw(SYS_msync, o->a, o->b, o->c, 0, 0, 0);
	case OP_READ:
	case OP_WRITE: return native_touch(o->a, o->kind == OP_WRITE, (u8)o->c);
	default: return 0;
	}
}

static void native_maps(struct result *r)
{
	static char buf[1 << 16];
	static size_t n;
	int fd = open("/proc/self/maps", O_RDONLY);
	ssize_t got;
	char *line, *next;

	for (n = 0; (got = read(fd, buf + n, sizeof(buf) - 1 - n)) > 0;)
		n += (size_t)got;
	close(fd);
	buf[n] = 0;
	r->nmaps = 0;
	for (line = buf; *line; line = next + 1) {
		struct map m = {0};
		unsigned long start, end, off;

		next = strchr(line, '\n');
		if (!next)
			break;
		if (sscanf(line, "%lx-%lx %7s %lx", &start, &end, m.perms, &off) != 4 || start < WINDOW ||
		    start >= WINDOW_END + (64 << PAGE_SHIFT))
			continue;
		m.start = start;
		m.end = end;
		m.pgoff = m.perms[3] == 's' || off ? off >> PAGE_SHIFT : 0;
		if (r->nmaps < MAX_MAPS)
			r->maps[r->nmaps++] = m;
	}
}

static u64 native_locked(void)
{
	static char buf[8192];
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	char *at;

	close(fd);
	buf[n > 0 ? n : 0] = 0;
	at = strstr(buf, "VmLck:");
	return at ? strtoul(at + 6, NULL, 10) / 4 : ~0ull;
}

static u64 native_rss(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[256];
	bool in = false;
	u64 pages = 0;

	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end, kb;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start >= WINDOW && start < WINDOW_END + (64 << PAGE_SHIFT);
		else if (in && sscanf(line, "Rss: %lu", &kb) == 1)
			pages += kb / 4;
	}
	fclose(f);
	return pages;
}

/* The parent of a fork waits and passes the child's verdict on. */
static void native_fork(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		return;
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static void native_setup(bool privileged)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct rlimit lim = {MEMLOCK_PAGES * PAGE_SIZE, MEMLOCK_PAGES * PAGE_SIZE};
	char path[64];

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	fds[0] = -1;
	fds[1] = (int)syscall(SYS_memfd_create, "diff", 0);
	if (ftruncate(fds[1], (off_t)file_bytes()) != 0)
		_exit(98);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[1]);
	fds[2] = open(path, O_RDONLY);
	if (!privileged) {
		setrlimit(RLIMIT_MEMLOCK, &lim);
		if (setuid(65534) != 0)
			_exit(97);
		prctl(PR_SET_DUMPABLE, 1);
	}
}

/* QUIRE_DIFF_SMAPS=op: the flags that the kernel gives each mapping just before that operation. */
static void native_smaps(u32 i)
{
	const char *at = getenv("QUIRE_DIFF_SMAPS");
	char line[256];
	bool in = false;
	FILE *f;

	if (!at || strtoul(at, NULL, 0) != i || !(f = fopen("/proc/self/smaps", "r")))
		return;
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in = start >= WINDOW && start < WINDOW_END;
		if (in && sscanf(line, "%lx-%lx ", &start, &end) == 2)
			fprintf(stderr, "  smaps %3lu-%3lu", (start - (unsigned long)WINDOW) >> PAGE_SHIFT,
				(end - (unsigned long)WINDOW) >> PAGE_SHIFT);
		if (in &&
		    (!strncmp(line, "VmFlags", 7) || !strncmp(line, "Rss:", 4) || !strncmp(line, "Anonymous:", 10)))
			fprintf(stderr, "  %.*s%s", (int)strcspn(line, "\n"), line, line[0] == 'V' ? "\n" : "");
	}
	fclose(f);
}

static void native_run(const struct op *ops, u32 n, bool privileged)
{
	native_setup(privileged);
	for (u32 i = 0; i < n; i++) {
		struct result *r = &sh->native[i];

		native_smaps(i);
		if (ops[i].kind == OP_FORK)
			native_fork();
		r->ret = native_op(&ops[i], &r->vec);
		native_maps(r);
		r->locked = privileged ? 0 : native_locked();
		r->rss = rss_wanted(i) ? native_rss() : 0;
		sh->done = i + 1;
	}
	_exit(0);
}

/* ---- simulated side ---- */
struct sim_side {
	struct quire *q;
	struct mm_struct *mm;
	struct file *files[3];
};

static s64 settle_sim(struct sim_side *s, s64 ret, u64 len)
{
	if (ret < 0 || ((u64)ret >= WINDOW && (u64)ret < WINDOW_END))
		return ret;
	do_munmap(s->mm, (u64)ret, PAGE_ALIGN(len));
	return 1;
}

static pte_t sim_entry(struct mm_struct *mm, u64 addr)
{
	pte_t *slot, p;

	spin_lock(&mm->lock);
	slot = pte_lookup(mm, addr);
	p = slot ? pte_read(slot) : __pte(0);
	spin_unlock(&mm->lock);
	return p;
}

static bool entry_allows(pte_t p, bool write)
{
	return pte_present(p) && pte_young(p) && pte_user(p) && !(write && pte_rdonly(p));
}

/* As a processor would do it: try, fault, try again. */
static s64 sim_touch(struct sim_side *s, u64 addr, bool write, u8 value)
{
	for (int i = 0; i < 8; i++) {
		pte_t p = sim_entry(s->mm, addr);
		u8 *page = pte_present(p) ? port_frame_address(s->q, pte_pfn(p)) : NULL;
		struct fault_info info = {0};
		u32 fsc = !pte_present(p) ? FSC_TRANSLATION : !pte_young(p) ? FSC_ACCESS : FSC_PERMISSION;

		if (entry_allows(p, write)) {
			if (write)
				page[addr & ~PAGE_MASK] = value;
			if (!write || entry_allows(p, false))
				return page[addr & ~PAGE_MASK];
		}
		if (do_mem_abort(s->mm, addr, esr_make(ESR_EC_DABT_LOW, write, fsc | 3), &info) != FAULT_OK)
			return -(s64)(0x10000 + info.sig * 256 + (info.code & 0xff));
	}
	return -1;
}

static s64 sim_mmap(struct sim_side *s, const struct op *o)
{
	if (o->e & ~PAGE_MASK)
		return -EINVAL;
	return settle_sim(s, do_mmap(s->mm, s->files[o->file], o->a, o->b, o->c, o->d, o->e >> PAGE_SHIFT), o->b);
}

static s64 sim_op(struct sim_side *s, const struct op *o, u64 *bits)
{
	static u8 vec[4096];
	struct mm_struct *child;
	s64 ret;

	switch (o->kind) {
	case OP_MMAP: return sim_mmap(s, o);
	case OP_MUNMAP: return do_munmap(s->mm, o->a, o->b);
	case OP_MPROTECT: return do_mprotect(s->mm, o->a, o->b, o->c);
	case OP_MREMAP: return settle_sim(s, do_mremap(s->mm, o->a, o->b, o->c, o->d, o->e), o->c);
	case OP_MADVISE: return do_madvise(s->mm, o->a, o->b, (int)o->c);
	case OP_MLOCK: return do_mlock(s->mm, o->a, o->b, (int)o->c);
	case OP_MUNLOCK: return do_munlock(s->mm, o->a, o->b);
	case OP_MLOCKALL: return o->c ? do_mlockall(s->mm, (int)o->c) : do_munlockall(s->mm);
	case OP_MINCORE:
		if (!mincore_len_ok(o->b))
			return 0;
		ret = do_mincore(s->mm, o->a, o->b, vec);
		if (!ret)
			*bits = vec_bits(vec, o->b);
		return ret;
	case OP_MSYNC: return do_msync(s->mm, o->a, o->b, (int)o->c);
	case OP_READ:
	case OP_WRITE: return sim_touch(s, o->a, o->kind == OP_WRITE, (u8)o->c);
	case OP_FORK:
		child = dup_mm(s->mm);
		assert_false(IS_ERR(child));
		assert_true(mm_is_valid(s->mm));
		mmput(s->mm);
		s->mm = child;
		return 0;
	default: return 0;
	}
}

static void sim_maps(struct sim_side *s, struct result *r)
{
	r->nmaps = 0;
	for (struct vm_area_struct *v = find_vma(s->mm, WINDOW); v && vma_start(v) < WINDOW_END + (64 << PAGE_SHIFT);
	     v = vma_next(s->mm, v)) {
		struct map m = {.start = vma_start(v), .end = vma_end(v), .pgoff = v->vm_file ? v->vm_pgoff : 0};

		snprintf(m.perms, sizeof(m.perms), "%c%c%c%c", v->vm_flags & VM_READ ? 'r' : '-',
			 v->vm_flags & VM_WRITE ? 'w' : '-', v->vm_flags & VM_EXEC ? 'x' : '-',
			 v->vm_flags & VM_MAYSHARE ? 's' : 'p');
		if (r->nmaps < MAX_MAPS)
			r->maps[r->nmaps++] = m;
	}
}

static u64 sim_rss(struct mm_struct *mm)
{
	struct pt_iter it;
	u64 pages = 0;

	spin_lock(&mm->lock);
	pt_iter_init(&it, mm->q, mm->pgd, WINDOW, WINDOW_END + (64 << PAGE_SHIFT));
	while (pt_iter_next(&it))
		pages += pte_present(pte_read(it.slot)) && !pte_special(pte_read(it.slot));
	spin_unlock(&mm->lock);
	return pages;
}

static void sim_setup(struct sim_side *s, u64 seed, bool privileged)
{
	struct sim_config cfg = {.seed = seed, .break_percent = 20, .memory = 64 << 20};

	s->q = sim_machine_new(&cfg);
	s->mm = mm_alloc(s->q, &guest_abi_x86_64);
	s->mm->cap_ipc_lock = privileged;
	s->mm->cap_sys_rawio = privileged;
	s->mm->rlim_memlock = MEMLOCK_PAGES * PAGE_SIZE;
	s->files[0] = NULL;
	s->files[1] = shmem_file_setup(s->q, "/memfd:diff (deleted)", file_bytes(), VM_NORESERVE);
	s->files[1]->mapping->refcount++; /* the second file's */
	s->files[2] = file_create(s->q, s->files[1]->mapping, FMODE_READ, "/memfd:diff (deleted)");
}

static void sim_teardown(struct sim_side *s)
{
	mmput(s->mm);
	file_put(s->files[2]);
	file_put(s->files[1]);
	assert_int_equal(s->q->nr_anon_pages, 0);
	assert_int_equal(s->q->nr_file_mapped, 0);
	assert_int_equal(s->q->nr_pagetable_pages, 0);
	assert_int_equal(s->q->committed_pages, 0);
	assert_int_equal(kmem_cache_live_objects(s->q, s->q->vma_cache), 0);
	assert_true(phys_is_valid(s->q));
	sim_machine_free(s->q);
}

/* ---- comparing ---- */
static bool same_maps(const struct result *a, const struct result *b)
{
	if (a->nmaps != b->nmaps)
		return false;
	for (u32 i = 0; i < a->nmaps; i++) {
		const struct map *m = &a->maps[i], *n = &b->maps[i];
		/* Offsets of private anonymous memory are printed by neither, but a private file page at offset 0
		 * is. */
		if (m->start != n->start || m->end != n->end || strcmp(m->perms, n->perms) || m->pgoff != n->pgoff)
			return false;
	}
	return true;
}

static bool has_map(const struct result *r, const struct map *m)
{
	for (u32 i = 0; i < r->nmaps; i++)
		if (!memcmp(&r->maps[i], m, sizeof(*m)))
			return true;
	return false;
}

/* Lines that the other side does not have are marked. */
static void print_maps(const char *who, const struct result *r, const struct result *other)
{
	fprintf(stderr, "  %s:\n", who);
	for (u32 i = 0; i < r->nmaps; i++)
		fprintf(stderr, "   %c%3lld-%3lld %s %llx\n", has_map(other, &r->maps[i]) ? ' ' : '*',
			(long long)((s64)(r->maps[i].start - WINDOW) >> PAGE_SHIFT),
			(long long)((s64)(r->maps[i].end - WINDOW) >> PAGE_SHIFT), r->maps[i].perms,
			(unsigned long long)r->maps[i].pgoff);
}

static void print_op(u32 i, const struct op *o)
{
	fprintf(stderr, "op %u %s(%lld pages+%llx, %llx, %llx, %llx, %llx) file %d\n", i, op_names[o->kind],
		(long long)((s64)(o->a - WINDOW) >> PAGE_SHIFT), (unsigned long long)(o->a & ~PAGE_MASK),
		(unsigned long long)o->b, (unsigned long long)o->c, (unsigned long long)o->d, (unsigned long long)o->e,
		o->file);
}

/* QUIRE_DIFF_TRACE=page: every change of the VMA that holds this page of the window, and what changed it. */
static void trace(struct sim_side *s, const struct op *ops, u32 i)
{
	static char last[160];
	char line[160] = "nothing";
	const char *page = getenv("QUIRE_DIFF_TRACE");
	struct vm_area_struct *v;

	if (!page)
		return;
	v = vma_lookup(s->mm, WINDOW + strtoul(page, NULL, 0) * PAGE_SIZE);
	if (v)
		snprintf(line, sizeof(line),
			 "pte %llx %lld-%lld flags %llx file %d pgoff %llx anon %llu%s anon_pgoff %llx",
			 (unsigned long long)sim_entry(s->mm, WINDOW + strtoul(page, NULL, 0) * PAGE_SIZE).v,
			 (long long)((s64)(vma_start(v) - WINDOW) >> PAGE_SHIFT),
			 (long long)((s64)(vma_end(v) - WINDOW) >> PAGE_SHIFT), (unsigned long long)v->vm_flags,
			 v->vm_file != NULL, (unsigned long long)v->vm_pgoff, (unsigned long long)v->anon_id,
			 v->anon_forked ? " forked" : "", (unsigned long long)v->anon_pgoff);
	if (!strcmp(line, last) && !getenv("QUIRE_DIFF_ALL"))
		return;
	strcpy(last, line);
	print_op(i, &ops[i]);
	fprintf(stderr, "  -> %s\n", line);
}

static bool agrees(const struct op *ops, u32 i, const struct result *sim, const struct result *before)
{
	const struct result *nat = &sh->native[i];

	if (nat->ret == sim->ret && nat->vec == sim->vec && nat->locked == sim->locked && nat->rss == sim->rss &&
	    same_maps(nat, sim))
		return true;
	print_op(i, &ops[i]);
	fprintf(stderr, "  native %lld (%llx), sim %lld (%llx); vec %llx %llx, locked %llu %llu, rss %llu %llu\n",
		(long long)nat->ret, (unsigned long long)nat->ret, (long long)sim->ret, (unsigned long long)sim->ret,
		(unsigned long long)nat->vec, (unsigned long long)sim->vec, (unsigned long long)nat->locked,
		(unsigned long long)sim->locked, (unsigned long long)nat->rss, (unsigned long long)sim->rss);
	print_maps("before", before, before);
	print_maps("native", nat, sim);
	print_maps("sim", sim, nat);
	return false;
}

static void run_native(const struct op *ops, u32 n, bool privileged)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		native_run(ops, n, privileged);
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("native side ended with status %x after %u operations", status, sh->done);
}

/* Returns n, or the operation that diverged. */
static u32 run_sim(const struct op *ops, u32 n, u64 seed, bool privileged)
{
	struct result now, before = {0};
	struct sim_side s;
	u32 i;

	sim_setup(&s, seed, privileged);
	for (i = 0; i < n; i++) {
		now = (struct result){0};
		now.ret = sim_op(&s, &ops[i], &now.vec);
		sim_maps(&s, &now);
		now.locked = privileged ? 0 : s.mm->locked_vm;
		now.rss = rss_wanted(i) ? sim_rss(s.mm) : 0;
		trace(&s, ops, i);
		if (!mm_is_valid(s.mm)) {
			print_op(i, &ops[i]);
			fail_msg("%s", sim_log_text(s.q));
		}
		if (!agrees(ops, i, &now, &before))
			break;
		before = now;
	}
	sim_teardown(&s);
	return i;
}

/*
 * The host may do things of its own accord between two calls: reclaim lazily freed pages, merge equal ones, map fewer file pages around a
 * fault because some are locked for I/O.  So what diverges is run again, until all agrees once; it is a failure when it diverges
 * in one place three times, or TRIES times anywhere.
 */
#define TRIES 8
static bool again(const u32 *places, u32 n)
{
	u32 same = 0;

	for (u32 i = 0; i < n; i++)
		same += places[i] == places[n - 1];
	return same < 3 && n < TRIES;
}

static void run_stream(u64 seed, u32 n, bool privileged)
{
	struct op *ops = calloc(n, sizeof(*ops));
	size_t size = sizeof(struct shared) + n * sizeof(struct result);
	u32 places[TRIES], tries = 0, at;

	long_file = seed & 2;
	rng_state = seed * 2 + 1;
	for (u32 i = 0; i < 8; i++)
		rng();
	for (u32 i = 0; i < n; i++)
		gen_op(&ops[i], privileged);
	do {
		sh = (void *)syscall(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		run_native(ops, n, privileged);
		at = places[tries++] = run_sim(ops, n, seed, privileged);
		syscall(SYS_munmap, sh, size);
	} while (at != n && again(places, tries));
	free(ops);
	if (at == n && tries > 1)
		fprintf(stderr, "operation %u diverged once and not again\n", places[0]);
	assert_int_equal(at, n);
}

static u32 env_number(const char *name, u32 fallback)
{
	const char *text = getenv(name);

	return text ? (u32)strtoul(text, NULL, 0) : fallback;
}

/* The answers are those of Linux 6.18: earlier kernels treat mremap over several mappings and guards otherwise. */
static bool host_is_the_oracle(void)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (uname(&u) != 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major == 6 && minor == 18;
}

static u32 default_rounds(void)
{
	const char *text = getenv("QUIRE_LONG");
	bool in_full = text && *text;
#ifdef __SANITIZE_ADDRESS__
	return in_full ? 100 : 8;
#else
	return in_full ? 1000 : 50;
#endif
}

static void test_against_the_host(void **state)
{
	u64 seed = sim_seed((u64)getpid() * 1000003u);
	u32 rounds = env_number("QUIRE_DIFF_ROUNDS", default_rounds()), n = env_number("QUIRE_DIFF_OPS", 1000);
	bool root = geteuid() == 0;

	rss_every = env_number("QUIRE_DIFF_RSS", 8);

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip(); /* its shadow memory does not cover the window */
#endif
	if (!host_is_the_oracle()) {
		fprintf(stderr, "skipped: this host does not run Linux 6.18\n");
		skip();
	}
	for (u32 i = 0; i < rounds; i++) {
		fprintf(stderr, "stream %u: QUIRE_SEED=%llu QUIRE_DIFF_ROUNDS=1\n", i, (unsigned long long)(seed + i));
		run_stream(seed + i, n, root && (seed + i) % 2 == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_the_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
