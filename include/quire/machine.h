/*
 * struct quire: one machine.  Every core function takes it, or an object that reaches it.
 */
#ifndef QUIRE_MACHINE_H
#define QUIRE_MACHINE_H
#include <quire/errno.h>
#include <quire/fault.h>
#include <quire/file.h>
#include <quire/gfp.h>
#include <quire/hooks.h>
#include <quire/kmem.h>
#include <quire/lru.h>
#include <quire/mm.h>
#include <quire/phys.h>
#include <quire/phys_state.h>
#include <quire/swap.h>
#include <quire/kmem_state.h>
#include <quire/task.h>
#include <quire/types.h>
#include <quire/vmstat.h>
#include <quire/writeback.h>
#include <port/port.h>
#include <sync.h>

#define QUIRE_MAX_CPUS 64
#define QUIRE_DMESG_BYTES (256u << 10)
#define FILE_HASH_BUCKETS 1024u

/* The LRU lists, with Linux's names (include/linux/mmzone.h). */
enum lru_list { LRU_INACTIVE_ANON, LRU_ACTIVE_ANON, LRU_INACTIVE_FILE, LRU_ACTIVE_FILE, LRU_UNEVICTABLE, NR_LRU_LISTS };

/* What one machine is made of; given once. */
struct quire_config {
	u64 memory;                      /* bytes of RAM, = MemTotal */
	u32 nr_cpus;                     /* 1..QUIRE_MAX_CPUS */
	u64 seed;
	const struct zone_layout *zones; /* NULL = 64-bit default */
	void *direct_map;                /* address of physical address 0; page aligned */
	struct frame *mem_map;           /* zeroed, memory / PAGE_SIZE records, outside RAM */
	u32 overcommit_memory;           /* 0, 1, 2 */
	u32 overcommit_ratio;            /* percent, mode 2 */
	u64 overcommit_kbytes;           /* instead of it, unless 0 */
	u32 folio_max_order;             /* largest anonymous folio; 0 = 4 KiB only */
	u32 fault_around_pages;          /* file pages mapped around a read fault; 0 = default (16) */
	u32 vsyscall_flags;              /* VM_READ, VM_EXEC: rights of the host's vsyscall page, which maps shows last; 0 = none */
	u32 fault_around_tokens;         /* the same for token folios (hosted files); 0 = default (64) */
	u32 max_map_count;
	const struct reclaim_policy *policy; /* reclaim/policies.c; NULL = second-chance */
	bool debug_poison, debug_owner;
	bool no_migratetypes;            /* phys: one kind of free list for all (to measure what the kinds are good for) */
	const char *version;
};

/* The OOM killer's settings (/proc/sys/vm) and what it remembers. */
struct oom_settings {
	u32 panic_on_oom;                /* 1, 2 = the machine ends instead of a process; q->lock */
	u32 kill_allocating_task;        /* whoever asks goes, not the largest; q->lock */
	u32 dump_tasks;                  /* a table of all tasks in the report; q->lock */
	u64 window_ns;                   /* when the current window of reports began; q->oom_lock, as all below */
	u32 reports, missed;             /* written and left out in that window */
	u64 scanned, stolen;             /* pages that reclaim had looked at and freed at the last report */
	u64 last_ns;                     /* when that was; 0 = never */
};

/* Pressure stall information (reclaim/psi.c).  q->lock; nanoseconds of port_clock_ns(). */
enum psi_state { PSI_MEM_SOME, PSI_MEM_FULL, NR_PSI_STATES };
#define NR_PSI_AVGS 3                    /* over 10, 60 and 300 seconds */
struct psi {
	u32 nr_stalled;                  /* contexts that wait for memory now */
	bool full;                       /* and no program ran when the state last changed */
	u64 last_ns;                     /* totals are right up to here */
	u64 total[NR_PSI_STATES];
	u64 avg_ns, avg_total[NR_PSI_STATES]; /* when the averages were made last, and from which totals */
	u32 avg[NR_PSI_STATES][NR_PSI_AVGS];  /* percent << PSI_FIXED_SHIFT */
};
#define PSI_FIXED_SHIFT 11

struct quire {
	struct quire_config cfg;         /* immutable after boot */
	struct quire_hooks hooks;        /* immutable after boot */
	u64 boot_ns;
	u64 caps;                        /* port_caps() at boot */

	struct spinlock lock;            /* LOCK_RANK_CORE: phys, kmem, file, rmap, LRU, swap */
	struct phys phys;                /* phys/: own locks documented there */
	struct kmem kmem;                /* kmem/ */

	/* q->lock: */
	struct mm_struct *mms;           /* every address space */
	struct address_space *files[FILE_HASH_BUCKETS];
	u64 nr_file_pages, nr_shmem_pages, nr_anon_pages, nr_file_mapped, nr_pagetable_pages;
	u64 committed_pages;             /* Committed_AS */
	u64 shmem_last_ino;              /* inode numbers of shmem objects */
	struct lruvec lru;               /* quire/lru.h */
	struct reclaim_info reclaim;     /* quire/lru.h */
	u64 nr_dirty_pages, nr_writeback_pages; /* of frame-backed files; file/ */
	struct writeback_info wb;        /* quire/writeback.h */
	u64 nr_lru_pages[NR_LRU_LISTS];  /* pages (not folios) on the lists, as /proc sorts them; file/lru.c */
	u64 total_swap_pages, nr_free_swap_pages, nr_swapcache_pages; /* swap/ */
	u64 vm_events[96];               /* enum vm_event_item, quire/vmstat.h */
	struct kmem_cache *vma_cache, *mm_cache, *file_cache, *mapping_cache, *task_cache, *radix_cache,
		*range_cache, *anon_cache;
	pfn_t zero_pfn;                  /* the shared zero page; FRAME_RESERVED */

	struct task_table tasks;

	/* reclaim/oom.c */
	struct mutex oom_lock;           /* one report, one victim at a time */
	u32 oom_wake;                    /* waited on; counts address spaces given up by victims; q->tasks.lock */
	struct oom_settings oom;
	struct psi psi;

	struct swap_info swap;           /* swap/ */
	u32 kswapd_word;                 /* 1 = kswapd is wanted; kswapd waits on it; atomic */

	/* The machine's log (dmesg): a ring; leaf lock. */
	struct spinlock log_lock;
	u64 log_head;                    /* bytes ever written */
	u64 log_sent;                    /* bytes given to port_log() */
	u64 log_dropped;                 /* lines lost inside transactions; no lock, a hint */
	char log_buf[QUIRE_DMESG_BYTES];

	u32 migrations;                  /* waited on; counts finished batches of migrate_folios(); atomically */

	void *port_data;                 /* port's own */
	u32 fail_kinds;                  /* BIT(FAIL_*) that port_should_fail() wants to be asked about; set by the port */
	bool trace_faults;
	struct fault_trace trace;        /* last fault when trace_faults (single-threaded lab only) */
};

/* port_should_fail() for hot paths: one load when the port has no plan. */
static inline bool should_fail(struct quire *q, unsigned kind)
{
	return unlikely(q->fail_kinds & BIT(kind)) && port_should_fail(q, kind);
}

/* ---- core/boot (sys/boot.c) ---- */
/* Brings a zeroed struct quire up: phys, kmem, caches, hooks.  0 or negative errno with a reason logged. */
int quire_boot(struct quire *q, const struct quire_config *cfg);

/* ---- lib/log.c ---- */
/* One line into the machine's log, formatted as printf (see lib/fmt.h), with a "[    1.234567] " stamp. */
void quire_log(struct quire *q, int level, const char *fmt, ...) PRINTF_LIKE(3, 4);
void quire_vlog(struct quire *q, int level, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);
/* Appends whole lines (with stamps) from position *pos (bytes ever written; 0 = oldest kept) and moves *pos
 * behind them.  Returns lines; 0 = nothing new, or out has less than one line's room.  Under no lock. */
struct fmt_buf;
size_t quire_log_read(struct quire *q, u64 *pos, struct fmt_buf *out);

#endif
