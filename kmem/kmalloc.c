/*
 * kmalloc: memory by size.
 *
 * Thirteen size classes of slabs up to 8 KiB; what is larger takes whole blocks of the page allocator, whose head
 * record is marked with KMALLOC_LARGE in `mapping`, so that kfree() knows its own blocks from others'.  A class whose
 * size is a power of two aligns to its size, as Linux promises.
 *
 * kfree() needs no size: the frame record of the object's page names the cache.  What the record does not know for a
 * slab or a marked block was never kmalloc's, and a slab address that is no object's start was made up; both are
 * found on every free, in every build, before anything is changed.
 *
 * Locks: none held by the caller; see magazine.c.
 */
#include "magazine.h"

#define KMALLOC_LARGE 0x6b6d616c6c6f63ull

/* Bytes of each class, as in Linux: powers of two, and 96 and 192. */
static const u16 class_size[KMALLOC_CLASSES] = {8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192};
/* (size - 1) / 8 -> class.  One table for all sizes: a branch between small and large ones costs every call more than a line of cache. */
static const u8 class_of[KMALLOC_MAX_CACHE_SIZE / 8] = {
	[0] = 0, [1] = 1, [2 ... 3] = 2, [4 ... 7] = 3, [8 ... 11] = 4, [12 ... 15] = 5, [16 ... 23] = 6, [24 ... 31] = 7,
	[32 ... 63] = 8, [64 ... 127] = 9, [128 ... 255] = 10, [256 ... 511] = 11, [512 ... 1023] = 12,
};

static unsigned large_order(size_t size)
{
	return 64 - (unsigned)__builtin_clzll((size - 1) >> PAGE_SHIFT);
}

static void *alloc_large(struct quire *q, size_t size, gfp_t gfp)
{
	struct frame *f;

	if (size > KMALLOC_MAX_SIZE || port_should_fail(q, FAIL_SLAB))
		return NULL;
	f = alloc_pages(q, (gfp & ~(__GFP_HIGHMEM | __GFP_MOVABLE)) | __GFP_COMP, large_order(size));
	if (!f)
		return NULL;
	spin_lock(&q->lock);
	f->mapping = KMALLOC_LARGE;
	q->kmem.nr_large_pages += 1ull << f->order;
	spin_unlock(&q->lock);
	return slab_base(q, f);
}

/* Sizes 0 and above the largest class. */
static __attribute__((noinline)) void *alloc_odd_size(struct quire *q, size_t size, gfp_t gfp)
{
	return size ? alloc_large(q, size, gfp) : ZERO_SIZE_PTR;
}

static inline void *kmalloc_caller(struct quire *q, size_t size, gfp_t gfp, u64 caller)
{
	struct kmem_cache **classes = q->kmem.kmalloc[KMALLOC_NORMAL];

	if (unlikely(size - 1 >= KMALLOC_MAX_CACHE_SIZE))
		return alloc_odd_size(q, size, gfp);
	if (unlikely(gfp & (__GFP_DMA | __GFP_RECLAIMABLE)))
		classes = q->kmem.kmalloc[gfp & __GFP_DMA ? KMALLOC_DMA : KMALLOC_RECLAIM];
	return cache_alloc(q, classes[class_of[(size - 1) / 8]], gfp, caller);
}

static void free_large(struct quire *q, struct frame *f, const void *p, u64 caller)
{
	u32 order;

	if (ZERO_OR_NULL_PTR(p))
		return;
	if (!f || f->type != FRAME_KERNEL || f->mapping != KMALLOC_LARGE)
		slab_bad_free(q, NULL, p, caller, "Not a kmalloc object");
	if (p != slab_base(q, f))
		slab_bad_free(q, NULL, p, caller, "Not the start of an object");
	order = f->order;
	/* One transaction: a context that dies here has freed all of it or nothing. */
	spin_lock(&q->lock);
	f->mapping = 0;
	q->kmem.nr_large_pages -= 1ull << order;
	__free_pages(q, f, order);
	spin_unlock(&q->lock);
}

/* What is no address in a slab, or does not look like one at once. */
static __attribute__((noinline)) void kfree_odd(struct quire *q, const void *p, u64 caller)
{
	u64 off;
	struct frame *s = kmem_locate(q, p, &off);

	if (!s || s->type != FRAME_SLAB) {
		free_large(q, s, p, caller);
		return;
	}
	check_object(q, NULL, p, caller);
	cache_free(q, slab_cache(s), (void *)(uintptr_t)p, caller);
}

/* As in cache_alloc(), every way out of here is a return or a tail call. */
static inline void kfree_caller(struct quire *q, const void *p, u64 caller)
{
	u64 a = (u64)(uintptr_t)p, off = a & (PAGE_SIZE - 1);
	/* What was just freed is what is allocated next, so each step from p to its magazine delays every pair of calls: two fewer than
	 * by way of the frame number. */
	struct frame *s = (void *)(uintptr_t)(q->kmem.mem_map_bias + (a >> PAGE_SHIFT) * sizeof(struct frame));

	if (unlikely(a - (u64)(uintptr_t)q->cfg.direct_map >= q->cfg.memory)) {
		kfree_odd(q, p, caller);
		return;
	}
	if (s->type == FRAME_TAIL) {
		off += (u64)s->head_off << PAGE_SHIFT;
		s -= s->head_off;
	}
	if (unlikely(s->type != FRAME_SLAB || off >> s->order >= PAGE_SIZE)) {
		kfree_odd(q, p, caller);
		return;
	}
	if (unlikely(!is_object_start(slab_cache(s), off)))
		slab_bad_free(q, NULL, p, caller, "Not the start of an object");
	cache_free(q, slab_cache(s), (void *)(uintptr_t)p, caller);
}

void *kmalloc(struct quire *q, size_t size, gfp_t gfp)
{
	return kmalloc_caller(q, size, gfp, CALLER);
}

void *kzalloc(struct quire *q, size_t size, gfp_t gfp)
{
	return kmalloc_caller(q, size, gfp | __GFP_ZERO, CALLER);
}

void *kmalloc_array(struct quire *q, size_t n, size_t size, gfp_t gfp)
{
	size_t bytes;

	return __builtin_mul_overflow(n, size, &bytes) ? NULL : kmalloc_caller(q, bytes, gfp, CALLER);
}

void *kcalloc(struct quire *q, size_t n, size_t size, gfp_t gfp)
{
	size_t bytes;

	return __builtin_mul_overflow(n, size, &bytes) ? NULL : kmalloc_caller(q, bytes, gfp | __GFP_ZERO, CALLER);
}

void kfree(struct quire *q, const void *p)
{
	kfree_caller(q, p, CALLER);
}

/* The class's size, not what was asked for: all of it may be used (Linux's callers do). */
size_t ksize(struct quire *q, const void *p)
{
	struct frame *s;

	if (ZERO_OR_NULL_PTR(p))
		return 0;
	s = kmem_frame(q, p);
	if (s && s->type == FRAME_KERNEL && s->mapping == KMALLOC_LARGE)
		return PAGE_SIZE << s->order;
	s = check_object(q, NULL, p, CALLER);
	return slab_cache(s)->object_size;
}

void *krealloc(struct quire *q, const void *p, size_t size, gfp_t gfp)
{
	size_t old = ksize(q, p);
	void *to;

	if (!size) {
		kfree_caller(q, p, CALLER);
		return ZERO_SIZE_PTR;
	}
	if (!ZERO_OR_NULL_PTR(p) && size <= old)
		return (void *)(uintptr_t)p;
	to = kmalloc_caller(q, size, gfp, CALLER);
	if (!to)
		return NULL;
	/* The old class may hold bytes beyond what was asked for; their user may know of them by ksize(). */
	if (old) {
		memcpy(to, p, old);
		kfree_caller(q, p, CALLER);
	}
	return to;
}

void *kmemdup(struct quire *q, const void *src, size_t len, gfp_t gfp)
{
	void *to = kmalloc_caller(q, len, gfp, CALLER);

	if (to && len)
		memcpy(to, src, len);
	return to;
}

char *kstrdup(struct quire *q, const char *s, gfp_t gfp)
{
	size_t len;
	char *to;

	if (!s)
		return NULL;
	len = strlen(s) + 1;
	to = kmalloc_caller(q, len, gfp, CALLER);
	if (to)
		memcpy(to, s, len);
	return to;
}

/* Three families, as on Linux: one cache's slabs must not mix what is reclaimable, or must lie low, with the rest. */
static bool create_classes(struct quire *q, enum kmalloc_kind kind, const char *prefix, u32 flags)
{
	unsigned i;

	for (i = 0; i < KMALLOC_CLASSES; i++) {
		u32 size = class_size[i];
		char name[CACHE_NAME_MAX];
		struct fmt_buf b = fmt_init(name, sizeof(name));

		if (size < 1024)
			fmt_printf(&b, "%s-%u", prefix, size);
		else
			fmt_printf(&b, "%s-%uk", prefix, size / 1024);
		q->kmem.kmalloc[kind][i] = kmem_cache_create(q, name, size, size & -size, flags, NULL);
		if (!q->kmem.kmalloc[kind][i])
			return false;
	}
	return true;
}

int kmalloc_init(struct quire *q)
{
	/* The newest cache is listed first: this gives slabinfo Linux's order of the families. */
	bool ok = create_classes(q, KMALLOC_NORMAL, "kmalloc", 0) &&
		  create_classes(q, KMALLOC_RECLAIM, "kmalloc-rcl", SLAB_RECLAIM_ACCOUNT) &&
		  create_classes(q, KMALLOC_DMA, "dma-kmalloc", SLAB_CACHE_DMA);

	return ok ? 0 : -ENOMEM;
}
