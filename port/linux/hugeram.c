/*
 * Host frames for RAM by 2 MiB at once.
 *
 * RAM is a memfd without host frames until somebody touches it; the host then fills it page by page, which is most of what a
 * first touch costs.  One huge page costs a tenth of 512 small ones, spares every process its faults on the direct map, and
 * still can be mapped to guests in pieces of 4 KiB.  So before a block of 2 MiB is mapped for the first time it is
 * populated through a mapping of this process that asks for huge pages and goes again at once (the direct map does not
 * ask: its faults would populate blocks that hold one slab).
 *
 * Not so
 *   - the first blocks of a machine: a short program would pay for more than it uses;
 *   - where the host gives shared memory no huge pages (OPT_HOST_HUGE, sup_image.c);
 *   - where they turn out slow: a host that is itself a guest may have given its large free blocks back to its hypervisor,
 *     and gets them 4 KiB by 4 KiB.  Then ever more blocks pass before the next attempt.
 *
 * The host's use of memory may run ahead of the guests' by one such block for each that they have begun, never beyond
 * --memory.  kproc.populating keeps the scratch mapping to one thread, and nobody waits for it: who comes second does without.
 * The marks are shared and racy: the worst is a block populated twice, or by small pages.
 */
#include "refill.h"
#include "hostsys.h"

#define BLOCK_SIZE (2ull << 20)
#define FIRST_BLOCKS 8u         /* 16 MiB by small pages */
#define SLOW_NS 1000000u        /* of this thread for 2 MiB: what 512 small pages cost */
#define MIN_SKIP 24u            /* blocks by small pages after a slow one; doubles */
#define MAX_SKIP 1024u

/* Not the wall's: who was preempted is not slow. */
static u64 thread_ns(void)
{
	s64 ts[2];

	host_call(__NR_clock_gettime, 3 /* CLOCK_THREAD_CPUTIME_ID */, ts);
	return (u64)ts[0] * 1000000000u + (u64)ts[1];
}

static void populate(u64 offset)
{
	if (host_call(__NR_mmap, SCRATCH_BASE, BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, KERNEL_FD,
		      RAM_OFFSET + offset) < 0)
		return;
	host_call(__NR_madvise, SCRATCH_BASE, BLOCK_SIZE, HOST_MADV_HUGEPAGE);
	host_call(__NR_madvise, SCRATCH_BASE, BLOCK_SIZE, MADV_POPULATE_WRITE);
	host_call(__NR_munmap, SCRATCH_BASE, BLOCK_SIZE);
}

static void block_begin(struct machine_shared *m, u64 offset)
{
	u64 start;

	if (offset + BLOCK_SIZE > m->ram_bytes || __atomic_add_fetch(&m->blocks_begun, 1, __ATOMIC_RELAXED) <= FIRST_BLOCKS)
		return;
	if (READ_ONCE(m->blocks_skip)) {
		WRITE_ONCE(m->blocks_skip, m->blocks_skip - 1);
		return;
	}
	if (__atomic_exchange_n(&kproc.populating, 1, __ATOMIC_ACQUIRE))
		return;
	start = thread_ns();
	populate(offset);
	__atomic_store_n(&kproc.populating, 0, __ATOMIC_RELEASE);
	if (thread_ns() - start < SLOW_NS) {
		WRITE_ONCE(m->blocks_backoff, 0);
		return;
	}
	WRITE_ONCE(m->blocks_backoff, MIN(MAX(2 * m->blocks_backoff, MIN_SKIP), MAX_SKIP));
	WRITE_ONCE(m->blocks_skip, m->blocks_backoff);
}

void ram_populate(u64 offset, u64 len)
{
	struct machine_shared *m = shared_area();
	u8 *begun = (u8 *)(SHARED_BASE + RAM_BLOCKS_OFFSET);
	u64 at;

	if (!(m->options & OPT_HOST_HUGE))
		return;
	for (at = ALIGN_DOWN(offset, BLOCK_SIZE); at < offset + len; at += BLOCK_SIZE) {
		if (READ_ONCE(begun[at / BLOCK_SIZE]))
			continue;
		WRITE_ONCE(begun[at / BLOCK_SIZE], 1);
		block_begin(m, at);
	}
}
