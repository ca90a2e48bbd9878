/*
 * struct phys: what phys/ keeps in struct quire.  Nobody outside phys/ and proc/ looks inside.
 *
 * Locks: q->lock unless a field says otherwise.  "boot" = written at boot only.
 */
#ifndef QUIRE_PHYS_STATE_H
#define QUIRE_PHYS_STATE_H
#include <quire/phys.h>
#include <sync.h>

#define PAGEBLOCK_ORDER PMD_ORDER
#define PAGEBLOCK_NR_PAGES (1u << PAGEBLOCK_ORDER)
#define MAX_ORDER_NR_PAGES (1u << MAX_ORDER)

/* Free blocks of one order in one zone. */
struct free_area {
	struct frame_list free_list[MIGRATE_PCPTYPES];
	u64 nr_free; /* blocks, all types; virgin blocks not counted */
};

/*
 * A zone: the frames [start_pfn, end_pfn), all present.  Invariant:
 *   managed = frames in use + on per-CPU lists + nr_free
 *   nr_free = sum over orders (free_area[o].nr_free << o) + (virgin_end - virgin_next)
 */
struct zone {
	const char *name;         /* boot */
	pfn_t start_pfn, end_pfn; /* boot; equal = the zone is empty */
	pfn_t virgin_next, virgin_end; /* frames never handed out, whole order-10 blocks, records all zero */
	bool configured;          /* boot: the layout has this zone, if only without frames */
	bool highmem;             /* boot: no direct-map address */
	u64 managed;              /* boot: frames the allocator was given */
	u64 nr_free;              /* frames in the buddy lists and the virgin region */
	struct free_area free_area[NR_ORDERS];
	u64 nr_pageblocks[MIGRATE_PCPTYPES]; /* pageblocks by type */
	u64 watermark[NR_WMARK];  /* frames */
	u64 watermark_promo;      /* frames: high plus one more step, as zoneinfo prints it */
	u64 lowmem_reserve[MAX_NR_ZONES]; /* frames kept from requests of that class */
	u32 pcp_batch, pcp_high_min, pcp_high_max; /* frames */
	u64 nr_alloc;             /* allocations served under q->lock */
	u64 nr_alloc_pages;       /* frames of those */
};

/* Orders with per-CPU lists: 0..4 and 9. */
#define NR_PCP_ORDERS 6
#define NR_PCP_LISTS (NR_PCP_ORDERS * MIGRATE_PCPTYPES)

/* A stack of free blocks, linked through frame.next.  Lock: the slot's. */
struct pcp_list {
	pfn_t first;  /* pfn + 1; 0 = empty */
	u32 pad;
	u64 nr_alloc; /* blocks ever handed out */
};

/* One zone's blocks at one CPU.  Lock: the slot's. */
struct per_cpu_pages {
	s32 count;    /* frames on the lists */
	s32 high;     /* drain above this many frames */
	u32 batch;    /* frames moved at once */
	u32 next_drain; /* list where the next drain begins */
	struct pcp_list lists[NR_PCP_LISTS];
};

/* A CPU slot.  The lock is only ever tried (rank CPU). */
struct phys_cpu {
	struct spinlock lock;
	u8 cur_zone[MAX_NR_ZONES]; /* by request class: zone the last refill came from */
	pfn_t in_flight; /* pfn + 1 of the frame that phys/quick.c moves; not 0 in a free slot: its last user died doing so */
	struct per_cpu_pages pcp[MAX_NR_ZONES];
} __attribute__((aligned(64)));

/* Owner tracking: one call site. */
struct phys_site {
	u64 ip;           /* return address; 0 = unused entry */
	u64 live_blocks, live_pages, allocs;
};
#define PHYS_MAX_SITES 1024u

/* Owner tracking: one frame; indices into sites[], 0 = unknown. */
struct phys_owner {
	u16 alloc_site, free_site;
};

struct phys {
	struct zone zones[MAX_NR_ZONES];
	pfn_t zone_end[MAX_NR_ZONES - 1]; /* boot: pfn where zones 0, 1, 2 end */
	pfn_t nr_frames;          /* boot: frames of RAM */
	pfn_t lowmem_end;         /* boot: first frame without a direct-map address */
	u8 first_zone[MAX_NR_ZONES]; /* boot: highest zone with frames at or below that class */
	u8 *pageblock_mt;         /* boot pointer; one byte per pageblock, migrate type ^ MIGRATE_MOVABLE */
	struct phys_cpu *cpus;    /* boot pointer; cfg.nr_cpus slots */
	bool mobility_disabled;   /* boot: all types share the movable lists */
	u8 gfp_type[4];           /* boot: migrate type by __GFP_MOVABLE and __GFP_RECLAIMABLE */
	bool debug;               /* boot: debug_poison or debug_owner */
	u16 virgin_flags;         /* boot: FF_ZEROED if never-used frames read as zero */
	u8 state;                 /* 0, PHYS_EARLY, PHYS_READY */
	pfn_t early_next, early_limit; /* boot: early allocator takes frames downwards */
	u64 min_free_kbytes;
	u32 watermark_scale_factor; /* of 10000 */
	u32 lowmem_reserve_ratio[MAX_NR_ZONES];
	/* rate limit of allocation-failure reports */
	u64 warn_window_ns;
	u32 warn_count, warn_missed;
	/* cfg.debug_owner */
	struct phys_owner *owners; /* boot pointer; one per frame, or NULL */
	struct phys_site *sites;   /* boot pointer; PHYS_MAX_SITES, open hash */
	u64 steals, claims;        /* fallbacks: single blocks taken, pageblocks converted */
};
#define PHYS_EARLY 1
#define PHYS_READY 2
#endif
