/*
 * What the supervisor (an ordinary libc program) calls inside the kernel ELF.  The ELF's entry address is that of
 * `kernel_exports`.  A supervisor thread that calls these must have bound a context first (bind_thread).
 */
#ifndef QUIRE_LINUX_EXPORTS_H
#define QUIRE_LINUX_EXPORTS_H
#include "kernel.h"
#include "process.h"

#define RUN_MAX_SWAP 16u /* = cmd/quire/options.h */

struct machine_params {
	u64 memory;            /* bytes */
	u32 vsyscall;          /* rights of the host's vsyscall page, as in a mode: 4 read, 1 execute; 0 = there is none */
	struct machine_swap {
		u64 pages;     /* usable ones */
		s32 prio;
		bool file;     /* else compressed in memory, */
		u32 zstd;      /* with zstd of this level; 0 = lz4 */
		u32 dev;       /* of a file: the supervisor's number (sup_swap.c) */
		char name[SWAP_NAME_MAX + 1];
	} swap[RUN_MAX_SWAP];
	u32 nr_swap;
	u32 nr_cpus;
	u32 overcommit;
	u32 folio_max_order;
	u32 aslr, verbose, patch, host_huge;
	u64 seed;              /* 0 = from the host */
	const char *version;
	const char *policy;    /* by name (reclaim/policies.c); NULL = the default */
};

struct selftest_exports;
enum newborn_state {
	NEWBORN_WAIT,  /* neither: ask again when something has happened */
	NEWBORN_WATCH,
	NEWBORN_GONE,  /* it will never be: reap(serial) */
};
#define EXPORTS_MAGIC 0x51756972652e6b31ull /* "Quire.k1" */
struct kernel_exports {
	u64 magic;
	/* Boots the machine in the shared area (mapped, zero) and binds the calling thread.  0 or negative errno; the reason is in
	 * the machine's log. */
	long (*machine_init)(const struct machine_params *p);
	/* In a child of the supervisor: becomes the first guest. */
	void (*guest_start)(const struct guest_boot *b);
	/* Reclaims in the background for ever.  On a thread of its own that has no context yet. */
	void (*kswapd)(void);
	/* A process that is not watched yet (and may not exist yet).  False if none. */
	bool (*next_newborn)(u64 *serial, u32 *ctx_id);
	/* What is known of it now.  *pid is valid for NEWBORN_WATCH: open a pidfd, then ask process_lives(). */
	enum newborn_state (*newborn_state)(u64 serial, u32 ctx_id, s32 *pid);
	/* Has the process a living thread (or is it about to have its first)? */
	bool (*process_lives)(u64 serial);
	/* The process with that serial is dead: roll its contexts back, free its memory. */
	void (*reap)(u64 serial);
	/* Text of the machine's log from *pos on: returns bytes copied, advances *pos. */
	size_t (*log_read)(u64 *pos, char *buf, size_t size);
	/* pid of the process that has this context, 0 if none lives, -1 past the end: for ending the machine. */
	s32 (*live_pid)(u32 ctx_id);
	/* May there be processes of the machine whose numbers no context tells?  Their parents died at once after making them. */
	bool (*strays)(void);
	/* The commands that look at a running machine (sup_control_views.h). */
	long (*proc_text)(const char *file, char *buf, size_t size);
	long (*pids)(s32 *out, u32 n);
	long (*translate)(s32 pid, u64 addr, char *buf, size_t size);
	long (*devmem_write)(u64 phys, const void *bytes, size_t n);
	u32 (*join)(s32 pid, u64 *serial);
	/* Is every structure of the machine valid?  For tests, with nobody else running. */
	bool (*check)(void);
	/* Test builds only, else NULL (selftest.h). */
	const struct selftest_exports *selftest;
};
extern const struct kernel_exports kernel_exports;
#endif
