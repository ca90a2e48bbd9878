/* struct kmem: what kmem/ keeps in struct quire.  Nobody outside kmem/ and proc/ looks inside, except for the
 * counters, which are read by proc/ under q->lock. */
#ifndef QUIRE_KMEM_STATE_H
#define QUIRE_KMEM_STATE_H
#include <quire/kmem.h>
#include <quire/highmem.h>
#include <quire/phys.h>
#include <range_tree.h>
#include <sync.h>

/*
 * Slots.  A slot is a place for per-CPU data.  Contexts with small ids own the slot of their id for good and need no
 * lock at all; every other context takes a slot hinted by its CPU number, by trylock.
 */
#define KMEM_MAX_CPUS 64
#define KMEM_OWN_SLOTS 16
#define KMEM_MAX_SLOTS (KMEM_OWN_SLOTS + KMEM_MAX_CPUS)

/* A stack of free objects; 1024 bytes.  Owner: the slot it hangs on, else q->lock. */
#define MAGAZINE_MAX 126
struct magazine {
	u64 n;
	struct magazine *next; /* in a depot */
	void *obj[MAGAZINE_MAX];
};

/* The magazines of one cache in one slot.  Either may be NULL; then n and cap of the loaded one are 0.  While a
 * magazine is loaded, n stands here and not in the magazine. */
struct kmem_slot {
	u32 n;                  /* objects in the loaded magazine */
	u32 cap;                /* objects that it can hold */
	struct magazine *loaded, *prev;
	u64 pad;
};

#define CACHE_NAME_MAX 32
/* The first group is read by every allocation; immutable after creation, as is the second. */
struct kmem_cache {
	u32 size;               /* bytes from one object to the next */
	u32 flags;              /* SLAB_* */
	u64 reciprocal;         /* ceil(2^40 / size): replaces a division */
	u64 divisor;            /* ceil(2^64 / size): tells a multiple of size by one multiplication */
	u32 object_size;        /* bytes asked for */
	u32 link;               /* offset of the free link, from the object */
	u16 mag_min, mag_max;   /* objects in a full magazine: at first, and of a busy cache; 0 = no magazines */
	u8 order, min_order;    /* frames of a slab: preferred, least */
	u32 depot_max;          /* objects kept in the depot at most */
	void (*ctor)(void *);

	u32 align;              /* bytes */
	u32 left;               /* debug: bytes of red zone before the object */
	u32 inuse_end;          /* debug: object + right red zone end here, from the object */
	u32 track;              /* debug: offset of the two owner records, from the object; 0 = none */
	gfp_t gfp;              /* added for every slab */
	char name[CACHE_NAME_MAX];

	/* q->lock: */
	struct kmem_cache *next, *prev;  /* q->kmem.caches */
	struct frame_list partial;       /* slabs with free and used objects */
	struct frame_list full, empty;
	u64 nr_objs;                     /* in all slabs */
	u64 nr_inuse;                    /* out of their slabs: live or in a magazine */
	struct magazine *depot;          /* magazines that were full when they came */
	u32 depot_objs;                  /* objects in them */
	u32 mag_size;                    /* objects in a full magazine now */
	u32 exchanges;                   /* trips to the depot or the slabs since mag_size last changed */

	struct kmem_slot slot[KMEM_MAX_SLOTS]; /* as many as the machine has; owner: the slot */
};

struct kmem_cpu {
	struct spinlock lock;            /* LOCK_RANK_CPU, trylock only */
	u8 pad[56];
};

#define KMALLOC_CLASSES 13
enum kmalloc_kind { KMALLOC_NORMAL, KMALLOC_RECLAIM, KMALLOC_DMA, KMALLOC_KINDS };

struct kmem {
	struct kmem_cache *kmalloc[KMALLOC_KINDS][KMALLOC_CLASSES]; /* immutable after boot */
	u64 secret;                      /* immutable; marks free objects */
	u64 mem_map_bias;                /* immutable: frame record of address a = mem_map_bias + (a >> PAGE_SHIFT) * its size */
	u32 nr_slots;                    /* immutable */
	u32 debug_flags;                 /* immutable: SLAB_* that every cache gets, from cfg.debug_* */
	struct mutex reap_mutex;         /* held while a cache disappears */

	/* q->lock: */
	struct kmem_cache *caches;       /* newest first */
	struct magazine *empty;          /* spare magazines */
	u32 nr_empty;
	u64 nr_slab_pages[2];            /* unreclaimable, reclaimable */
	u64 nr_large_pages;              /* kmalloc above KMALLOC_MAX_CACHE_SIZE */
	struct kmem_cache cache_cache, magazine_cache;

	struct kmem_cpu cpu[KMEM_MAX_CPUS];

	/* The kernel half of the address space; q->lock: */
	u64 kernel_pgd;                  /* physical address of the level-0 table, 0 = none yet */
	u64 kernel_pgtable_bytes;
	struct range_tree vmap;          /* struct vmap_area, also those freed and not yet purged */
	struct vmap_area *lazy;          /* freed, not yet purged */
	u64 nr_lazy_pages;
	u64 nr_vmalloc_pages;            /* frames mapped by vmalloc */
	struct kmem_cache *area_cache;   /* immutable */
	struct pkmap_slot *pkmap;        /* LAST_PKMAP of them; NULL without HighMem; immutable pointer */
	u32 pkmap_last, pkmap_users;     /* last slot given out; slots in use */
	u32 pkmap_seq;                   /* counts slots given back; waiters sleep on it */
	u32 pkmap_waiters;
	u8 kmap_depth[KM_MAX_CONTEXTS];  /* mappings of each context; owner: the context */
};

/* One slot of the PKMAP area. */
struct pkmap_slot {
	pfn_t pfn;
	u32 count;                       /* users; 0 = free */
};

/* A range of kernel addresses, guard page included.  q->lock. */
enum vmap_kind { VMAP_ALLOC, VMAP_MAP };
struct vmap_area {
	struct range_node node;
	enum vmap_kind kind;             /* immutable */
	bool ready;                      /* false while its maker still fills it */
	bool dead;                       /* on the lazy list: unmapped, not yet flushed */
	u32 nr_pages;                    /* frames */
	struct frame_list frames;        /* VMAP_ALLOC: the frames, owned */
	u64 caller;
	struct vmap_area *next_lazy;
};
#endif
