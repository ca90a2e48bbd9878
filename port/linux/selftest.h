/*
 * Test builds of the hosted kernel (QUIRE_SELFTEST, tests/hosted/hard): what the harness and the kernel share, the switches that
 * break a mechanism on purpose (each must make a test fail), and the places where delays are injected.  In the
 * product all of this is nothing.
 */
#ifndef QUIRE_LINUX_SELFTEST_H
#define QUIRE_LINUX_SELFTEST_H
#include "kernel.h"

/* selftest.options */
#define ST_NO_LOG BIT(0)     /* stores inside transactions are not logged: deaths corrupt */
#define ST_NO_SIGNAL BIT(1)  /* revokers send no signal to threads in guest code: stale reads */
#define ST_KEEP_INSTALLS BIT(3) /* a forked child keeps what was mapped after the copy: it sees its parent's pages */
#define ST_DELAYS BIT(2)     /* random pauses at the places that ask for them */
#define ST_OWNERS BIT(4)     /* each logged store asks the host whether the log is its own thread's: slow */

#define ST_WORKERS 8
#define ST_LISTS 4
#define ST_BLOCKS 64
#define ST_OBJECTS 64
#define ST_MMS 4

struct st_node { struct st_node *next, *prev; u64 size, sum; u8 bytes[]; };
struct st_list { struct st_node *first, *last; u64 count, sum; };

/* Lies in the shared area, at ST_OFFSET. */
struct selftest {
	u64 options;                     /* ST_*: before anybody runs */
	u32 pause;                       /* number of a pause: workers stop at the top of their loop while it is not 0 */
	u32 paused;                      /* atomically: workers that have stopped */
	struct { u64 n, pad[7]; } progress[ST_WORKERS]; /* operations done; the worker's own */
	struct st_list lists[ST_LISTS];  /* q->lock */
	struct { u32 pfn, order; } blocks[ST_BLOCKS]; /* pfn + 1, 0 = none; q->lock */
	struct { struct spinlock lock; void *obj[ST_OBJECTS]; } cpu[2]; /* rank CPU */
	struct mm_struct *mm[ST_MMS];    /* [0] for ever, the others come and go; q->lock */
	u64 revoked, frames, refused, batches; /* the reclaimer's figures: folios, frames, folios, calls */
};
#define ST_OFFSET 0x30000000ull /* above hugeram.c's bytes, below the contexts (layout.h) */
#define selftest_area() ((struct selftest *)(SHARED_BASE + ST_OFFSET))

enum st_bench { ST_BENCH_LOCK, ST_BENCH_PAGE, ST_BENCH_KMALLOC };

struct selftest_exports {
	/* Under no lock, by the machine's maker: the address space that workers share.  0 or -ENOMEM. */
	long (*init)(void);
	/* A context for a worker; 0 when there is none. */
	u32 (*new_ctx)(u64 *serial);
	/* In a process of its own: works for ever, or for `rounds` operations. */
	void (*work)(u32 ctx_id, u32 index, u64 seed, u64 rounds);
	/* With nobody working: is everything as it should be?  Says what is not in the machine's log. */
	bool (*valid)(void);
	/* Gives back whatever the lists hold. */
	void (*drain)(void);
	/* Frames not free (but for slabs), live objects of all caches, and of the one that deaths may lose from (12 each). */
	void (*usage)(u64 *frames, u64 *objects, u64 *lost);
	/* Log entries that the context would have to undo now. */
	u32 (*open_log)(u32 ctx_id);
	/* `pairs` times one lock and unlock, or one allocation and its free, by the calling thread: for bench/hosted_alloc_bench.c. */
	void (*bench)(enum st_bench what, u64 pairs);
	/* A context for a thread of the supervisor, bound to the calling thread. */
	void (*bind)(u32 ctx_id);
	/* The context is the reclaimer's.  Before bind(). */
	void (*bind_revoker)(u32 ctx_id);
	/* Takes up to `batch` anonymous folios from wherever they are mapped; returns how many moved. */
	u32 (*revoke)(u64 *seed, u32 batch);
};

#ifdef QUIRE_SELFTEST
extern const struct selftest_exports selftest_exports;
void selftest_bind_revoker(u32 ctx_id); /* selftest.c */
u32 selftest_revoke(u64 *seed, u32 batch);
static inline bool selftest_on(u64 option) { return selftest_area()->options & option; }
/* Now and then up to 100 us, where a race would need them. */
static inline void selftest_delay(void)
{
	u64 x;
	u32 i, n;

	if (!selftest_on(ST_DELAYS))
		return;
	x = __builtin_ia32_rdtsc() * 0x9e3779b97f4a7c15ull;
	if (x >> 60)
		return;
	n = (x >> 40) & 0xfff;
	for (i = 0; i < n; i++)
		__builtin_ia32_pause();
}
#else
static inline bool selftest_on(u64 option) { (void)option; return false; }
static inline void selftest_delay(void) { }
#endif
#endif
