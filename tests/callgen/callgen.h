/*
 * A random stream of memory system calls and accesses, printed step by step.
 *
 * The program prints the same natively and as a guest of a machine: no absolute addresses, times or process numbers.
 * What a step does depends on the seed, the worker and the step's number only, never on earlier results; so any subset
 * of a stream is a stream, and a driver can cut a failing one down (tests/hosted/callgen.py).
 *
 * Addresses in steps are *tokens*: the window lies at the same place everywhere and stands for itself, the heap is
 * named by HEAP_TOKEN + offset and found at run time.
 */
#ifndef TESTS_CALLGEN_H
#define TESTS_CALLGEN_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define PAGE 4096ull
#define PAGE_UP(x) (((x) + PAGE - 1) & ~(PAGE - 1))
#define WINDOW 0x200000000000ull
#define WINDOW_STRIDE 0x40000000ull /* one window per thread */
#define WINDOW_PAGES 64u
#define WINDOW_TAIL 64u             /* a mapping that starts in the window may reach this many pages beyond */
#define HEAP_TOKEN 0x600000000000ull
#define HEAP_PAGES 48u
#define BUFFER_TOKEN 0x6f0000000000ull /* the worker's own buffer */
#define FILE_PAGES 24u
#define MEMLOCK_PAGES 20u
#define MAX_SLOTS 4u                /* processes of a ring */
#define MAX_WORKERS 4u              /* threads, or processes that run side by side */
#define NR_SHM 3u
#define OUT_BYTES (4u << 20)

enum op {
	OP_MMAP, OP_MUNMAP, OP_MPROTECT, OP_MREMAP, OP_MADVISE, OP_MLOCK, OP_MUNLOCK, OP_MLOCKALL, OP_MINCORE, OP_MSYNC, OP_BRK,
	OP_LOAD, OP_STORE, OP_FILL, OP_SUM, OP_EXEC,
	OP_PREAD, OP_PWRITE, OP_PIPE, OP_TRUNCATE, OP_FALLOCATE, OP_SEAL,
	OP_VM_READ, OP_VM_WRITE, OP_MBIND, OP_GET_POLICY, OP_MOVE_PAGES,
	OP_RLIMIT, OP_SHMGET, OP_SHMAT, OP_SHMDT, OP_SHMRM, OP_SNAPSHOT, OP_FORK, OP_EXIT, NR_OPS
};
extern const char *const op_names[NR_OPS];

/* Descriptors of a worker, in this order. */
enum { F_NONE, F_MEM, F_MEM_RO, F_DISK, F_DISK_RO, F_DISK_WO, F_ZERO, F_PIPE, F_DIR, F_SEALED, F_PATH, F_CLOSED, NR_FILES };

struct step {
	enum op op;
	u32 slot;           /* which process of a ring */
	u32 file;           /* F_... */
	u64 a, b, c, d, e;  /* arguments; addresses are tokens */
};

struct options {
	u64 seed;
	u32 count;          /* steps per worker */
	enum { MODE_ONE, MODE_RING, MODE_RACE, MODE_THREADS } mode;
	bool rss;           /* compare what is resident: no truncation, no pageout */
	bool folios;        /* as rss, but folios may be large: what is resident has bounds only */
	bool ordinary;      /* without root's rights */
	bool sim;           /* only what a simulated machine knows (simulated.c) */
	bool verbose;       /* print the mappings after each step */
	const char *keep;   /* '0' skips a step, '1' keeps it; steps beyond are kept */
	size_t nkeep;
	const char *dir;    /* for the files on disk */
};
extern struct options opt;

/* What all processes of a run share; outside of every window. */
struct shared {
	u32 alive[MAX_SLOTS];
	int pid[MAX_SLOTS];          /* of the last process in each slot */
	int shm[NR_SHM];             /* System V ids + 1 */
	u32 calls;
	struct { u32 len; char text[OUT_BYTES]; } out[MAX_WORKERS];
};
extern struct shared *sh;

/* One stream's executor; a thread each in MODE_THREADS. */
struct worker {
	u32 index;          /* which output */
	u32 slot;           /* in a ring */
	u64 window;
	int fds[NR_FILES];
	int pipe[2];
};
extern __thread struct worker *me;
extern u64 heap_start;

/* ---- the backend: native.c, or simulated.c ---- */
#define BUFFER_BYTES (24 * PAGE)
extern u8 buffers[MAX_WORKERS][BUFFER_BYTES];
s64 raw(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f); /* a system call: errno negative */
/* The signal that the last access raised which returned false. */
struct trouble { int sig, code; u64 addr; };
extern __thread struct trouble caught;
bool mem_load(u64 a, u64 width, u64 *v);
bool mem_store(u64 a, u64 width, u64 value); /* value is repeated to fill the width */
bool mem_run(u64 a);                         /* a "ret" stands there */
bool mem_read(u64 a, u64 *words, u64 bytes); /* whole words */
char *view_text(const char *name);           /* "maps", "smaps" or "status" of the worker; valid until the next one */
void snapshot(const struct step *s, u64 hashes[2]); /* forks; the child calls snapshot_look() and ends */

void mem_present(u64 a, u32 pages, u64 *present); /* of each page: 0, or it is in memory (or swapped) */

/* options.c */
void parse_options(int argc, char **argv);
bool kept(u32 i);            /* does step i run? */
u32 live_slot(u32 wanted);   /* of a ring */
u64 file_bytes(void);        /* size of the files at first */
/* stream.c */
void step_generate(struct step *s, u32 worker, u32 i);
/* execute.c */
void execute(const struct step *s, u32 i);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
u64 hash_window(void);
void snapshot_look(const struct step *s, u64 hashes[2]);
/* native.c, besides the backend */
void flush_output(u32 index);
void catch_faults(void);
/* views.c */
void say_views(u32 i);
void note_resident(void); /* before a step, too: other processes may have written here */
bool range_has(u64 start, u64 len, const char *kinds); /* mappings of these kinds, as in views.c */
u64 status_pages(const char *field);
#endif
