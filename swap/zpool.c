/*
 * Objects of odd sizes packed into frames: where compressed pages lie.
 *
 * Sizes are rounded up to classes of 64 bytes.  A block of a class is 1 to 4 frames that need not be neighbours; objects
 * lie back to back in them and may cross from one frame to the next, so they are reached by copies only.
 *
 *	first frame's record:  private  bitmap of objects in use
 *	                       mapping  class (bits 7:0), frames (15:8), fourth frame's pfn (63:32)
 *	                       index    second (31:0) and third (63:32) frame's pfn
 *	                       next/prev   the class's list of blocks with room
 *
 * A handle is (pfn of the first frame) << 8 | number of the object; never 0, since frame 0 is not the allocator's to give.
 *
 * Invariants: a block is on its class's list exactly while some but not all of its objects are in use; a block
 * without objects does not exist.  The frames are charged to the machine like any others.
 * Locks: q->lock.
 */
#include "swap.h"

#define MAX_BLOCK_FRAMES 4u
#define MAX_OBJECTS 64u /* bits of the bitmap */
/* Reclaim stores, in order to free: it may use every reserve, and must not wait. */
#define GFP_ZPOOL (__GFP_HIGH | __GFP_MEMALLOC | __GFP_NOWARN)

static u32 class_of(u32 len)
{
	return (len + ZPOOL_STEP - 1) / ZPOOL_STEP - 1;
}

static u32 class_size(u32 class)
{
	return (class + 1) * ZPOOL_STEP;
}

static u32 objects_in(u32 class, u32 frames)
{
	return MIN((u32)(frames * PAGE_SIZE) / class_size(class), MAX_OBJECTS);
}

/* The number of frames that wastes least of each. */
static u32 frames_of(u32 class)
{
	u32 best = 1;

	for (u32 n = 2; n <= MAX_BLOCK_FRAMES; n++)
		if (objects_in(class, n) * best > objects_in(class, best) * n)
			best = n;
	return best;
}

static u32 block_class(const struct frame *f)
{
	return (u32)(f->mapping & 0xff);
}

static u32 block_frames(const struct frame *f)
{
	return (u32)(f->mapping >> 8) & 0xff;
}

static pfn_t block_pfn(const struct quire *q, const struct frame *f, u32 i)
{
	switch (i) {
	case 0:
		return frame_to_pfn(q, f);
	case 1:
		return (pfn_t)f->index;
	case 2:
		return (pfn_t)(f->index >> 32);
	default:
		return (pfn_t)(f->mapping >> 32);
	}
}

static u64 full_map(u32 objects)
{
	return objects == 64 ? ~0ull : (1ull << objects) - 1;
}

/* All frames or none.  Their bytes are written without being logged, hence noted for a rollback. */
static bool take_frames(struct quire *q, u32 n, struct frame **f)
{
	for (u32 i = 0; i < n; i++) {
		f[i] = alloc_page(q, GFP_ZPOOL);
		if (!f[i] || !undo_note_filled(port_ctx(), frame_address(q, f[i]), 1)) {
			if (f[i])
				__free_pages(q, f[i], 0);
			while (i--)
				__free_pages(q, f[i], 0);
			return false;
		}
	}
	return true;
}

/* Where reserves are being used, a block must not cost more than the frame that storing a page will free. */
static u32 take_block(struct quire *q, u32 class, struct frame **f)
{
	u32 n = frames_of(class);

	if (n > 1 && phys_balanced(q, 0, WMARK_MIN, ZONE_NORMAL) && take_frames(q, n, f))
		return n;
	return take_frames(q, 1, f);
}

static struct frame *block_new(struct quire *q, u32 class)
{
	struct frame *f[MAX_BLOCK_FRAMES] = { NULL };
	u64 pfn[MAX_BLOCK_FRAMES] = { 0 };
	u32 n = take_block(q, class, f);

	if (!n)
		return NULL;
	for (u32 i = 0; i < n; i++)
		pfn[i] = frame_to_pfn(q, f[i]);
	f[0]->private = 0;
	f[0]->mapping = class | n << 8 | pfn[3] << 32;
	f[0]->index = pfn[1] | pfn[2] << 32;
	q->swap.pool.nr_frames += n;
	frame_list_add(q, &q->swap.pool.partial[class], f[0]);
	return f[0];
}

static void block_free(struct quire *q, struct frame *f)
{
	u32 n = block_frames(f);

	frame_list_del(q, &q->swap.pool.partial[block_class(f)], f);
	q->swap.pool.nr_frames -= n;
	for (u32 i = n; i-- > 0;) {
		struct frame *page = pfn_to_frame(q, block_pfn(q, f, i));

		if (!i)
			f->private = f->mapping = f->index = 0;
		__free_pages(q, page, 0);
	}
}

/* Copies between an object, which may cross frames, and private memory. */
static void object_copy(struct quire *q, const struct frame *f, u32 object, void *mem, u32 len, bool in)
{
	u32 off = object * class_size(block_class(f)), done = 0;

	while (done < len) {
		u32 at = (off + done) % (u32)PAGE_SIZE, n = MIN(len - done, (u32)PAGE_SIZE - at);
		u8 *va = frame_address(q, pfn_to_frame(q, block_pfn(q, f, (off + done) / (u32)PAGE_SIZE)));

		if (in)
			copy_unlogged(va + at, (u8 *)mem + done, ALIGN_UP(n, 8));
		else
			copy_unlogged((u8 *)mem + done, va + at, ALIGN_UP(n, 8));
		done += n;
	}
}

u64 zpool_store(struct quire *q, const void *src, u32 len)
{
	u32 class = class_of(len), object;
	struct frame_list *l = &q->swap.pool.partial[class];
	struct frame *f;
	u64 full;

	lockdep_assert_held(&q->lock);
	BUG_ON(!len || class >= ZPOOL_CLASSES);
	f = l->first ? pfn_to_frame(q, l->first - 1) : block_new(q, class);
	if (!f)
		return 0;
	full = full_map(objects_in(class, block_frames(f)));
	object = (u32)__builtin_ctzll(~f->private);
	f->private |= BIT(object);
	if (f->private == full)
		frame_list_del(q, l, f);
	object_copy(q, f, object, (void *)(uintptr_t)src, len, true);
	q->swap.pool.nr_objects++;
	q->swap.pool.bytes += len;
	return (u64)frame_to_pfn(q, f) << 8 | object;
}

void zpool_read(struct quire *q, u64 handle, void *dst, u32 len)
{
	object_copy(q, pfn_to_frame(q, (pfn_t)(handle >> 8)), handle & 0xff, dst, len, false);
}

void zpool_free(struct quire *q, u64 handle, u32 len)
{
	struct frame *f = pfn_to_frame(q, (pfn_t)(handle >> 8));
	u32 object = handle & 0xff, class = block_class(f);

	lockdep_assert_held(&q->lock);
	BUG_ON(class != class_of(len) || !(f->private & BIT(object)));
	if (f->private == full_map(objects_in(class, block_frames(f))))
		frame_list_add(q, &q->swap.pool.partial[class], f);
	f->private &= ~BIT(object);
	q->swap.pool.nr_objects--;
	q->swap.pool.bytes -= len;
	if (!f->private)
		block_free(q, f);
}
