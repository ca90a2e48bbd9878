/*
 * Swap: where anonymous pages are while they have no frame.
 *
 * A *swap area* is a numbered set of slots, one page each, with a back end that keeps the bytes.  A *swap entry*
 * (lib/pgtable.h) names a slot; it stands in page-table entries in place of a frame.
 */
#ifndef QUIRE_SWAP_H
#define QUIRE_SWAP_H
#include <quire/phys.h>
#include <quire/types.h>
#include <sync.h>

struct quire;
struct swap_area;
struct mm_struct;

#define QUIRE_MAX_SWAP_AREAS 32u
#define SWAP_NAME_MAX 255u

/* Objects of odd sizes in whole frames (swap/zpool.c); sizes are multiples of ZPOOL_STEP bytes. */
#define ZPOOL_STEP 64u
#define ZPOOL_CLASSES 51u
struct zpool {
	struct frame_list partial[ZPOOL_CLASSES]; /* blocks with room, by class; q->lock */
	u64 nr_frames;  /* frames taken; q->lock */
	u64 nr_objects; /* q->lock */
	u64 bytes;      /* what was asked for; q->lock */
};

/* Memory for a compressor to work in (swap/room.c). */
#define SWAP_ROOMS_MAX 64u
struct swap_room {
	struct spinlock lock; /* LOCK_RANK_LEAF */
	void *mem;            /* NULL = no area needs it; q->lock and `lock` */
};

/* What swap/ keeps in struct quire.  q->lock. */
struct swap_info {
	struct swap_area *areas[QUIRE_MAX_SWAP_AREAS]; /* by type; NULL = none */
	u8 order[QUIRE_MAX_SWAP_AREAS]; /* types of the areas that take pages, highest priority first */
	u32 nr_order;
	s32 next_priority;  /* for an area that was given none: -2, -3, ... as on Linux */
	u64 stamp;          /* of the newest page written to a device: slot->data */
	struct zpool pool;
	struct swap_room room[SWAP_ROOMS_MAX];
	u32 nr_rooms;       /* 0 until the first area needs them, then constant */
	u32 room_users;     /* areas that need them */
	struct kmem_cache *room_cache; /* NULL until then */
	u64 nr_slots_used;
	u64 stored, filled, refused; /* pages ever: compressed, of one value (nothing stored), not worth storing */
	u64 forwarded;      /* pages ever that one area would not take and another did */
	u64 read_errors, write_errors; /* pages that could not be read; I/O errors on the way out */
};

/* A priority as swapon(2): 0..32767, or this for "lower than all so far". */
#define SWAP_PRIO_DEFAULT (-1)

/* ---- swap/swapon.c: under no lock ---- */
/* Memory that holds pages compressed, in the machine's own frames: room for `pages` pages.  0 or -ENOMEM, -EINVAL, -EBUSY (no
 * free number), -EEXIST (the name is in use). */
int swapon_compressed(struct quire *q, const char *name, u64 pages, s32 prio);
/* The same with zstd instead of lz4, and levels as zstd counts them: 1 to SWAP_ZSTD_LEVELS. */
#define SWAP_ZSTD_LEVELS 3u
#define SWAP_ZSTD_LEVEL_DEFAULT 3u
int swapon_zstd(struct quire *q, const char *name, u32 level, u64 pages, s32 prio);
/* Slots on a device of the port's (host_swap_io), whose page 0 is its header: `pages` usable ones behind it.  kind as /proc/swaps
 * calls it: a constant string.  Errors as above; the device stays the caller's then, else swapoff() closes it. */
int swapon_device(struct quire *q, const char *name, const char *kind, u32 dev, u64 pages, s32 prio);
/* Is the device part of an area? */
bool swap_device_is_used(struct quire *q, u32 dev);
/* The most pages an area can have. */
u64 swap_max_pages(void);
/* One area as /proc/swaps shows it.  False: no such number. */
struct swap_stat {
	char name[SWAP_NAME_MAX + 1];
	const char *kind; /* "partition" or "file" */
	u64 pages, used;
	s32 prio;
};
bool swap_area_stat(struct quire *q, unsigned type, struct swap_stat *st);

/* ---- reclaim/swapoff.c: under no lock ---- */
/* Brings every page back and closes the area.  0, -EINVAL (no such area), -ENOMEM (no room: it goes on being used), -EIO. */
int swapoff(struct quire *q, const char *name);

#endif
