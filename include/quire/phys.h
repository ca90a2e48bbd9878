/*
 * Physical memory: frame records, zones, buddy allocator, per-CPU lists.
 *
 * Words: a *frame* is one page of RAM, named by its PFN, described by a `struct
 * frame`.  A *folio* is 2^order frames managed as one; its record is the record of
 * its first frame (the head), the others (tails) say nothing of their own.  `struct folio`,
 * `struct slab` and `struct ptdesc` are the same record seen as one use: a
 * function takes the type it means, and none takes "maybe a tail".
 *
 * Everything here is protected by q->lock unless it says otherwise.
 */
#ifndef QUIRE_PHYS_H
#define QUIRE_PHYS_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;

#define MAX_ORDER 10 /* largest buddy block: 2^10 frames = 4 MiB, as on Linux */
#define NR_ORDERS (MAX_ORDER + 1)
#define PMD_ORDER 9
#define CONT_PTE_ORDER 4

/* An all-zero record means: never used (and, with PORT_CAP_VIRGIN_ZERO, all-zero bytes). */
enum frame_type {
	FRAME_VIRGIN = 0,
	FRAME_FREE,     /* head of a free buddy block of `order` */
	FRAME_PCP,      /* on a per-CPU list */
	FRAME_TAIL,     /* not the first frame of its block (so may be VIRGIN ones); head_off hints where that is or was */
	FRAME_KERNEL,   /* alloc_pages() for nobody in particular */
	FRAME_SLAB,
	FRAME_PGTABLE,
	FRAME_ANON,
	FRAME_FILE,     /* in a page cache (token or bytes) */
	FRAME_SHMEM,    /* page cache of the machine's own shared memory */
	FRAME_VMALLOC,
	FRAME_RESERVED, /* never in the allocator: boot data, the zero page */
};

enum frame_flag { /* bits of frame.flags */
	FF_DIRTY = BIT(0),
	FF_REFERENCED = BIT(1),
	FF_LRU = BIT(2),
	FF_ACTIVE = BIT(3),
	FF_UNEVICTABLE = BIT(4),
	FF_SWAPBACKED = BIT(5),
	FF_SWAPCACHE = BIT(6),
	FF_UPTODATE = BIT(7),
	FF_WRITEBACK = BIT(8),
	FF_SEEN = BIT(9),      /* reclaim has looked at it since it came into memory */
	FF_WORKINGSET = BIT(10),
	FF_ASKED = BIT(11),    /* anonymous: reclaim made its entries old (PORT_CAP_DEAR_FAULTS, reclaim/swapout.c) */
	FF_READAHEAD = FF_ASKED, /* in the swap cache and nobody's yet: it was read ahead (fault/swapin.c) */
	FF_POISONED = BIT(12), /* debug: free bytes carry the poison pattern */
	FF_ZEROED = BIT(13),   /* free and known to be all zero */
	FF_RECLAIM = BIT(14),
	FF_LIST1 = BIT(15),    /* with FF_ACTIVE: the number of its LRU list (quire/lru.h) */
};

/* 48 bytes per 4 KiB frame = 1.17 % of RAM (asserted). */
struct frame {
	u8 type;         /* enum frame_type */
	u8 order;        /* of the block this frame heads */
	u16 flags;       /* enum frame_flag */
	u32 refcount;    /* 1 for the owner + 1 per page-table entry + transient references */
	u32 mapcount;    /* page-table entries that map any frame of this folio */
	u32 head_off;    /* FRAME_TAIL: this pfn - head pfn, perhaps of an earlier block: pfn_folio() */
	pfn_t next, prev; /* list links, as pfn + 1; 0 = none.  Buddy, per-CPU, LRU or slab lists */
	u64 mapping;     /* FRAME_ANON: struct anon_family *; FILE/SHMEM: struct address_space *; SLAB: cache */
	u64 index;       /* ANON: virtual page number at first mapping; FILE: page offset; PGTABLE: base address */
	u64 private;     /* by type: swap entry, slab free list, page-table count, owner mm */
};
_Static_assert(sizeof(struct frame) <= 48, "frame metadata budget: 1.2 % of RAM");

struct folio { struct frame f; };
struct slab { struct frame f; };
struct ptdesc { struct frame f; };

/* A list of frames by PFN, heads only. */
struct frame_list {
	pfn_t first, last; /* pfn + 1; 0 = empty */
	u64 count;
};

enum zone_type { ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_HIGHMEM, MAX_NR_ZONES };
enum migratetype { MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_PCPTYPES };
enum { WMARK_MIN, WMARK_LOW, WMARK_HIGH, NR_WMARK };

/* How physical memory is laid out; given at boot. */
struct zone_layout {
	const char *name;            /* "64", "32", "flat" ... */
	u64 dma_end, dma32_end;      /* bytes; a zone with end 0 is absent */
	u64 lowmem_end;              /* frames above are HighMem (~0 = none) */
	bool pae_32bit;
};

/* Layouts that machines really have; NULL in quire_config means the first. */
#define ZONE_DMA_END (16ull << 20)  /* what 24 address lines reach */
#define ZONE_DMA32_END (4ull << 30) /* what 32 reach */
extern const struct zone_layout zone_layout_64;   /* DMA 16 MiB, DMA32 to 4 GiB, Normal */
extern const struct zone_layout zone_layout_32;   /* DMA 16 MiB, Normal to 896 MiB, HighMem; no PAE: at most 4 GiB */
extern const struct zone_layout zone_layout_flat; /* Normal only */
const struct zone_layout *zone_layout_by_name(const char *name); /* "64", "32", "flat"; NULL if unknown */

/* ---- phys/init.c: boot, single-threaded, in this order ---- */
/* Checks cfg and lays the zones out; 0, or -EINVAL with the reason logged.  From here to phys_init() the early
 * allocator works.  Needs q->cfg, q->caps and q->lock; may be left out (phys_init calls it). */
int phys_early_init(struct quire *q);
/* size bytes (zeroed) of direct-mapped RAM, never given back; NULL if there is no room or phys_init() is done. */
void *early_alloc(struct quire *q, size_t size, size_t align);
/* Opens the buddy allocator.  0 or negative errno with the reason logged.  Cost does not depend on RAM size. */
int phys_init(struct quire *q);

/* ---- phys/page_alloc.c ---- */
/* 2^order contiguous frames, or NULL.  The head's record has refcount 1, type FRAME_KERNEL; if order > 0 it
 * stands for all of them (always compound).  Callers then set the type they want. */
struct frame *alloc_pages(struct quire *q, gfp_t gfp, unsigned order);
static inline struct frame *alloc_page(struct quire *q, gfp_t gfp) { return alloc_pages(q, gfp, 0); }
/* Gives the block back whatever its refcount; order must be that of the allocation. */
void __free_pages(struct quire *q, struct frame *f, unsigned order);
/* Kernel addresses instead of records; 0 when out of memory. */
void *__get_free_pages(struct quire *q, gfp_t gfp, unsigned order);
void *get_zeroed_page(struct quire *q, gfp_t gfp);
void free_pages(struct quire *q, void *addr, unsigned order);
/* Whole pages, not rounded up to a power of two; each is a block of order 0 afterwards, so giving back very many inside
 * one transaction is not for a short log. */
void *alloc_pages_exact(struct quire *q, size_t size, gfp_t gfp);
void free_pages_exact(struct quire *q, void *addr, size_t size);
/* Fills out[0..n) with order-0 frames, returns how many it got. */
unsigned alloc_pages_bulk(struct quire *q, gfp_t gfp, unsigned n, struct frame **out);

/* Gives n blocks back at once (each of its own order), cheaper than one by one. */
void free_pages_bulk(struct quire *q, unsigned n, struct frame **frames);
/* Turns a block of 2^order frames into 2^order blocks of one frame with refcount 1 each, type and flags as the
 * head's. */
void split_page(struct quire *q, struct frame *f, unsigned order);

/* ---- folios: reference counts.  Under q->lock or the mm->lock of the mapping mm: see LOCKING.md ---- */
struct folio *folio_alloc(struct quire *q, gfp_t gfp, unsigned order); /* refcount 1 */
void folio_get(struct folio *folio, u32 n);
/* Drops n references; the last one frees the folio's frames. */
void folio_put(struct quire *q, struct folio *folio, u32 n);

/* ---- phys/frame.c: names and addresses ---- */
static inline unsigned folio_order(const struct folio *folio) { return folio->f.order; }
static inline u32 folio_nr_pages(const struct folio *folio) { return 1u << folio->f.order; }
struct frame *pfn_to_frame(struct quire *q, pfn_t pfn);
pfn_t frame_to_pfn(const struct quire *q, const struct frame *f);
/* The folio that contains frame pfn.  Quick for its first frame, and for others where set_tails() was called. */
struct folio *pfn_folio(struct quire *q, pfn_t pfn);
/* Makes the records of a block's other frames lead to its head.  The block's owner, before others see it. */
void set_tails(struct frame *f, unsigned order);
static inline pfn_t folio_pfn(const struct quire *q, const struct folio *folio)
{
	return frame_to_pfn(q, &folio->f);
}
/* Direct-map address of a lowmem frame / of a folio's first byte; NULL for HighMem. */
void *frame_address(struct quire *q, const struct frame *f);
struct frame *virt_to_frame(struct quire *q, const void *addr);

void frame_list_add(struct quire *q, struct frame_list *l, struct frame *f);      /* at the front */
void frame_list_add_tail(struct quire *q, struct frame_list *l, struct frame *f);
void frame_list_del(struct quire *q, struct frame_list *l, struct frame *f);
struct frame *frame_list_pop(struct quire *q, struct frame_list *l);              /* front, or NULL */

/* ---- figures ---- */
u64 nr_free_pages(struct quire *q);
bool has_free_pages(struct quire *q, u64 n); /* nr_free_pages(q) >= n, but quicker */
u64 totalram_pages(struct quire *q);
/* For /proc/vmstat, any context: frames ever handed out by zone (pgalloc_*), allocations (numa_hit), frames ever given
 * back (pgfree).  Counted for each CPU, so not in q->vm_events. */
void phys_alloc_counts(struct quire *q, u64 pgalloc[MAX_NR_ZONES], u64 *allocs, u64 *pgfree);
/* Moves every per-CPU list back into the buddy lists, so that blocks can merge. */
void drain_all_pages(struct quire *q);
bool phys_is_valid(struct quire *q); /* walks everything; reports what is wrong through quire_log */

/* What frame pfn is just now, a hint: whoever allocates may be changing it.  Under q->lock FRAME_ANON and FRAME_FILE are true. */
enum frame_type frame_type_hint(struct quire *q, pfn_t pfn);
/* What frame pfn belongs to.  Under q->lock (a frame on a per-CPU list may leave it at any time). */
enum block_state { BLOCK_USED, BLOCK_FREE, BLOCK_PCP, BLOCK_RESERVED };
enum block_state phys_lookup(struct quire *q, pfn_t pfn, pfn_t *head, unsigned *order);
/* Takes the free block that starts at head out of the buddy lists, as an allocation would (compaction's target
 * frames).  NULL if it is no longer free with that order, or taking it would go below the min watermark. */
struct frame *phys_take_free_block(struct quire *q, pfn_t head, unsigned order);

/* ---- phys/watermark.c ---- */
/* kswapd's question: has some zone that a request of this class may use more than its watermark, with a block of
 * order?  Any context. */
bool phys_balanced(struct quire *q, unsigned order, int wmark, enum zone_type highest);
/* Frames missing to the high watermark, summed over the zones that lie below it. */
u64 phys_shortfall(struct quire *q);
/* A watermark, summed over all zones. */
u64 phys_watermark_pages(struct quire *q, int wmark);
void set_min_free_kbytes(struct quire *q, u64 kbytes); /* vm.min_free_kbytes; under no lock */
void set_watermark_scale_factor(struct quire *q, u32 factor); /* vm.watermark_scale_factor; likewise */
void set_lowmem_reserve_ratio(struct quire *q, const u32 ratio[MAX_NR_ZONES]);
/* Per mille, as /sys/kernel/debug/extfrag: unusable free memory for order; fragmentation index (-1000: would
 * succeed). */
int unusable_free_index(struct quire *q, enum zone_type zone, unsigned order);
int fragmentation_index(struct quire *q, enum zone_type zone, unsigned order);
int phys_largest_free_order(struct quire *q); /* -1: nothing free */

/* ---- phys/report.c ---- */
void show_mem(struct quire *q); /* Linux's Mem-Info block into the log */
/* The flags as Linux's %pGg prints them ("GFP_KERNEL|__GFP_ZERO").  Returns buf, always terminated. */
char *gfp_flags_string(gfp_t gfp, char *buf, size_t size);

/* ---- phys/debug.c: cfg.debug_owner ---- */
struct fmt_buf;
/* One line per call site, most frames first: who holds how many. */
void phys_show_owners(struct quire *q, struct fmt_buf *out);

#endif
