/*
 * What each step of a stream does.  A step's numbers come from the seed, the worker and its index alone.
 */
#include "callgen.h"
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

#ifndef PROT_SEM
#define PROT_SEM 8
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

static __thread u64 rng_state;

static u64 rng(void)
{
	u64 z = (rng_state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static u64 below(u64 n) { return (rng() >> 8) % n; }
static bool chance(u64 percent) { return below(100) < percent; }
static u64 pick(const u64 *list, size_t n) { return list[below(n)]; }
#define PICK(...) pick((const u64[]){__VA_ARGS__}, sizeof((const u64[]){__VA_ARGS__}) / sizeof(u64))

static u64 window_of(u32 worker) { return WINDOW + (opt.mode == MODE_THREADS ? worker * WINDOW_STRIDE : 0); }
static __thread u64 window; /* of the worker whose step is being made */

static u64 any_page(void)
{
	if (opt.mode != MODE_THREADS && chance(6))
		return HEAP_TOKEN + below(HEAP_PAGES) * PAGE;
	return window + below(WINDOW_PAGES) * PAGE;
}

static u64 any_addr(void)
{
	u64 a = any_page();

	if (chance(1) && opt.mode != MODE_THREADS)
		return PICK(0, 0, 0x7ffffffff000, 0x800000000000, ~0ull & ~(PAGE - 1), 1ull << 63);
	return chance(2) ? a + 1 + below(PAGE - 1) : a;
}

static u64 some_len(void)
{
	return (1 + below(chance(70) ? 4 : 20)) * PAGE - (chance(10) ? below(PAGE) : 0);
}

static u64 any_len(void) { return chance(2) ? PICK(0, 1, PAGE - 1, ~0ull, ~0ull - 4095, 1ull << 63, 1ull << 47) : some_len(); }

static u64 any_prot(void)
{
	if (chance(2))
		return PICK(PROT_SEM, 0x10, PROT_GROWSDOWN, PROT_GROWSUP) | below(8);
	return PICK(0, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
		    PROT_READ | PROT_WRITE | PROT_EXEC, PROT_WRITE);
}

/* What no machine does as the host (CAVEATS.md) is kept apart by streams: files, or other processes' memory. */
static bool others_memory(void) { return opt.mode == MODE_RING && opt.seed % 4 < 2; }

static u32 any_file(void)
{
	if (opt.sim)
		return (u32)PICK(F_MEM, F_MEM, F_MEM, F_MEM, F_MEM_RO, F_DISK, F_DISK, F_DISK, F_DISK_RO, F_DISK_WO, F_CLOSED);
	if (chance(5))
		return (u32)below(NR_FILES);
	return (u32)PICK(F_MEM, F_MEM, F_MEM, F_MEM_RO, F_DISK, F_DISK, F_DISK_RO, F_SEALED);
}

static void gen_mmap(struct step *s)
{
	bool anon = chance(70) || others_memory();

	s->c = any_prot();
	s->d = PICK(MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE, 0, MAP_DROPPABLE) | (anon ? MAP_ANONYMOUS : 0);
	s->d |= chance(75) ? MAP_FIXED : chance(50) ? MAP_FIXED_NOREPLACE : 0;
	if (chance(8))
		s->d |= PICK(MAP_GROWSDOWN, MAP_NORESERVE, MAP_STACK, MAP_LOCKED, MAP_POPULATE, MAP_NONBLOCK, MAP_DENYWRITE, MAP_SYNC,
			     MAP_POPULATE | MAP_NONBLOCK, MAP_EXECUTABLE, MAP_32BIT);
	if (chance(4))
		s->d |= MAP_GROWSDOWN;
	s->file = anon ? F_NONE : any_file();
	s->e = anon ? 0 : below(FILE_PAGES) * PAGE + (chance(3) ? 100 : 0);
	if (!anon && chance(1))
		s->e = PICK(~0ull & ~(PAGE - 1), 1ull << 62, 1ull << 63, (1ull << 63) - PAGE);
	if (s->file == F_ZERO) {
		s->d = (s->d & ~(u64)MAP_TYPE) | MAP_SHARED;
		s->e = 0;
	}
	/* Whether a file system knows MAP_SYNC is its own affair. */
	if (!anon)
		s->d &= ~(u64)MAP_SYNC;
	/* A hint outside leaves the place to the kernel. */
	if (!(s->d & (MAP_FIXED | MAP_FIXED_NOREPLACE)) && chance(30))
		s->a = 0;
	if (s->b > 1ull << 32 && s->b < ~0ull - PAGE)
		s->d &= ~(u64)MAP_POPULATE;
}

static void gen_mremap(struct step *s)
{
	s->b = chance(8) ? 0 : any_len();
	s->c = chance(50) ? s->b : any_len();
	s->d = PICK(0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
		    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, MREMAP_FIXED, 8);
	s->e = any_addr();
	/* Linux 6.18 counts locked memory twice after this, and would hit RLIMIT_MEMLOCK early. */
	if (opt.ordinary)
		s->d &= ~(u64)MREMAP_DONTUNMAP;
}

static void gen_advice(struct step *s)
{
	/* Never 100 and 101: they would take pages of the host out of service. */
	s->c = PICK(0, 1, 2, 3, 4, 4, 4, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 22, 23, 24, 5, 99, 102, 102, 103);
	/* What the host's reclaim then does to file pages is its own affair. */
	if (opt.rss && s->c == MADV_PAGEOUT)
		s->c = MADV_COLD;
	if (opt.sim && s->c == MADV_REMOVE)
		s->c = MADV_DONTNEED;
}

static void gen_access(struct step *s)
{
	static const enum op kinds[] = {OP_LOAD, OP_LOAD, OP_LOAD, OP_STORE, OP_STORE, OP_STORE, OP_STORE, OP_STORE, OP_FILL, OP_SUM, OP_EXEC};

	s->op = kinds[below(sizeof(kinds) / sizeof(*kinds))];
	s->a = any_page() + (chance(50) ? below(PAGE) : 0);
	s->b = s->op == OP_FILL || s->op == OP_SUM ? some_len() : 0;
	s->c = rng() & 0xff;
	s->d = PICK(1, 1, 4, 8, 8); /* width */
	if (chance(1) && s->op == OP_LOAD)
		s->a = PICK(0, 8, 1ull << 63, 0x800000000000, 0xffff800000000000);
	if (s->op == OP_EXEC)
		s->a &= ~(PAGE - 1);
	/* Where x86 and ARM differ: whose fault is it if the second page of an access is not there? */
	if (opt.sim)
		s->a &= ~7ull;
}

static void gen_file(struct step *s)
{
	s->op = (enum op)PICK(OP_PREAD, OP_PREAD, OP_PREAD, OP_PWRITE, OP_PWRITE, OP_PWRITE, OP_PIPE, OP_TRUNCATE, OP_TRUNCATE, OP_FALLOCATE,
			      OP_SEAL);
	s->file = chance(90) ? (u32)PICK(F_MEM, F_MEM, F_DISK, F_SEALED) : (u32)PICK(F_MEM_RO, F_DISK_RO, F_DISK_WO, F_ZERO, F_DIR, F_PATH);
	s->a = any_page() + (chance(50) ? below(PAGE) : 0);
	/* tmpfs grows by what it fails to write. */
	if (s->op == OP_PWRITE && s->file != F_DISK)
		s->a = BUFFER_TOKEN;
	s->b = some_len();
	s->c = below(FILE_PAGES + 2) * PAGE + (chance(50) ? below(PAGE) : 0);
	s->d = rng() & 0xff;
	if (s->op == OP_TRUNCATE || s->op == OP_FALLOCATE) {
		s->file = (u32)PICK(F_MEM, F_MEM, F_DISK, F_SEALED);
		s->d = s->op == OP_FALLOCATE ? PICK(0, 1, 3, 3) : 0; /* allocate, keep the size, punch a hole */
	}
	if (opt.rss && (s->op == OP_TRUNCATE || s->op == OP_FALLOCATE)) {
		s->op = OP_PWRITE;
	}
	if (opt.sim) {
		s->op = s->op == OP_PREAD || s->op == OP_PWRITE || s->op == OP_TRUNCATE ? s->op : OP_PREAD;
		s->a = BUFFER_TOKEN;
		s->file = s->op == OP_TRUNCATE ? (u32)PICK(F_MEM, F_MEM, F_DISK) : any_file();
	}
	if (s->op == OP_SEAL) {
		s->file = F_SEALED;
		s->c = chance(70) ? PICK(F_SEAL_GROW, F_SEAL_FUTURE_WRITE) : PICK(F_SEAL_SHRINK, F_SEAL_SEAL);
		/* Most streams keep it open: a sealed file soon answers EPERM to everything. */
		if (opt.seed % 4 || opt.rss)
			s->c = 0;
	}
}

static void gen_other(struct step *s)
{
	s->op = (enum op)PICK(OP_VM_READ, OP_VM_WRITE, OP_VM_READ, OP_VM_WRITE, OP_MBIND, OP_GET_POLICY, OP_MOVE_PAGES, OP_RLIMIT, OP_SHMGET,
			      OP_SHMAT, OP_SHMAT, OP_SHMDT, OP_SHMDT, OP_SHMRM, OP_SNAPSHOT, OP_BRK, OP_BRK, OP_MLOCKALL);
	s->a = any_addr();
	s->b = some_len();
	s->c = any_page() + (chance(50) ? below(PAGE) : 0);
	s->d = below(64);
	s->e = rng();
	if ((s->op == OP_SHMAT || s->op == OP_SHMGET) && others_memory())
		s->op = OP_STORE;
	switch (s->op) {
	case OP_MBIND:
		s->c = PICK(MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, 5, 99);
		s->d = PICK(0, 1, 1, 2);
		s->e = PICK(0, 0, 1, 2, 3, 8);
		/* MPOL_MF_STRICT tells where pages are, and so which of them. */
		if (!opt.rss || opt.folios)
			s->e &= ~1ull;
		break;
	case OP_GET_POLICY:
		s->c = PICK(0, 1, 2, 2, 3, 4, 6, 8);
		/* Whose node: of memory that may not be read only a page that is there tells. */
		if (s->c == 3 && (!opt.rss || opt.folios))
			s->c = 2;
		break;
	case OP_RLIMIT:
		s->c = PICK(RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK);
		s->d = chance(70) ? ~0ull : below(40); /* pages above what is used now; ~0: no limit */
		break;
	case OP_SHMAT:
		s->c = PICK(0, SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_RDONLY | SHM_REMAP, SHM_EXEC);
		break;
	case OP_BRK:
		s->a = HEAP_TOKEN + below(HEAP_PAGES) * PAGE + (chance(30) ? below(PAGE) : 0);
		break;
	case OP_MLOCKALL:
		/* Without MCL_CURRENT: that would lock the program itself. */
		s->c = chance(60) ? 0 : PICK(MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT, MCL_ONFAULT, 8, 16);
		break;
	default:
		break;
	}
	if (opt.sim && ((s->op >= OP_MBIND && s->op <= OP_MOVE_PAGES) || (s->op >= OP_SHMGET && s->op <= OP_SHMRM)))
		s->op = OP_STORE;
	if (opt.ordinary && s->op == OP_SHMAT)
		s->c &= ~(u64)SHM_EXEC; /* rights are looked at before or after the address */
	if (opt.mode == MODE_THREADS && (s->op == OP_RLIMIT || s->op == OP_BRK || s->op == OP_MLOCKALL || s->op == OP_MBIND || s->op == OP_SHMGET))
		s->op = OP_STORE; /* these belong to the whole process */
	if (opt.mode == MODE_RACE && (s->op == OP_SHMGET || s->op == OP_SHMRM || s->op == OP_SHMAT))
		s->op = OP_STORE;
	if (s->op == OP_STORE)
		s->d = 8;
	if (s->op == OP_STORE && opt.sim)
		s->a &= ~7ull;
}

static void gen_range(struct step *s)
{
	s->op = (enum op)PICK(OP_MUNMAP, OP_MUNMAP, OP_MPROTECT, OP_MPROTECT, OP_MPROTECT, OP_MREMAP, OP_MREMAP, OP_MREMAP, OP_MADVISE, OP_MADVISE,
			      OP_MADVISE, OP_MADVISE, OP_MLOCK, OP_MUNLOCK, OP_MINCORE, OP_MSYNC);
	s->a = any_addr();
	s->b = any_len();
	s->c = any_prot();
	if (s->op == OP_MREMAP && opt.folios)
		s->op = OP_MPROTECT; /* what moved is not where its folio was meant to lie: no bound */
	if (s->op == OP_MREMAP)
		gen_mremap(s);
	else if (s->op == OP_MADVISE)
		gen_advice(s);
	else if (s->op == OP_MLOCK)
		s->c = chance(30) ? 1 /* MLOCK_ONFAULT */ : chance(3) ? 2 : 0;
	else if (s->op == OP_MSYNC)
		s->c = PICK(0, MS_ASYNC, MS_SYNC, MS_INVALIDATE, MS_SYNC | MS_INVALIDATE, MS_SYNC | MS_ASYNC, 8);
	/* These go on behind holes: they would reach the program itself. */
	if ((s->op == OP_MADVISE || s->op == OP_MSYNC) && s->b > 1ull << 32)
		s->b = ~0ull;
	if (s->op == OP_MUNMAP && s->a < WINDOW)
		s->a |= 1;
}

void step_generate(struct step *s, u32 worker, u32 i)
{
	rng_state = (opt.seed * 0x2545f4914f6cdd1dull) ^ ((u64)worker << 56) ^ ((u64)i << 20);
	rng();
	window = window_of(worker);
	*s = (struct step){.slot = (u32)below(MAX_SLOTS)};
	switch (below(100)) {
	case 0 ... 21:
		s->op = OP_MMAP;
		s->a = any_addr();
		s->b = any_len();
		gen_mmap(s);
		break;
	case 22 ... 54:
		gen_range(s);
		break;
	case 55 ... 79:
		gen_access(s);
		break;
	case 80 ... 88:
		gen_file(s);
		break;
	default:
		gen_other(s);
		break;
	}
	if (opt.mode == MODE_RING && chance(2))
		s->op = chance(60) ? OP_FORK : OP_EXIT;
}
