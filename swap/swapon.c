/*
 * Opening and closing swap areas, and what /proc/swaps says of them.
 *
 * An area that is being closed takes no more pages and does not count as swap space (swap_area_close); when its last slot is
 * free it is taken apart (swap_area_destroy).  Locks: q->lock; both called under none.
 */
#include "swap.h"
#include "swap_area.h"

#define MAX_AREA_CLUSTERS ((u32)((PAGE_SIZE << MAX_ORDER) / sizeof(struct swap_cluster)))

static void set_name(struct swap_area *a, const char *name)
{
	size_t n = strlen(name);

	memcpy(a->name, name, MIN(n, SWAP_NAME_MAX));
}

/* An area that is not in use yet; NULL = no memory. */
static struct swap_area *area_new(struct quire *q, const struct swap_ops *ops, const char *name, u64 pages)
{
	struct swap_area *a = kzalloc(q, sizeof(*a), GFP_KERNEL);
	size_t bytes;

	if (!a)
		return NULL;
	a->q = q;
	a->ops = ops;
	a->pages = pages;
	a->nr_clusters = (u32)(pages / SLOTS_PER_CLUSTER + 1); /* slot 0 is not used */
	bytes = a->nr_clusters * sizeof(*a->clusters);
	while (PAGE_SIZE << a->clusters_order < bytes)
		a->clusters_order++;
	a->clusters = __get_free_pages(q, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN, a->clusters_order);
	set_name(a, name);
	if (a->clusters)
		return a;
	kfree(q, a);
	return NULL;
}

static void area_free(struct swap_area *a)
{
	free_pages(a->q, a->clusters, a->clusters_order);
	kfree(a->q, a);
}

/* Under q->lock.  Its place among those that take pages: behind all of its priority. */
static void order_insert(struct quire *q, struct swap_area *a)
{
	u32 i = q->swap.nr_order++;

	for (; i && q->swap.areas[q->swap.order[i - 1]]->prio < a->prio; i--)
		q->swap.order[i] = q->swap.order[i - 1];
	q->swap.order[i] = (u8)a->type;
}

/* False: somebody else is closing it. */
static bool order_remove(struct quire *q, const struct swap_area *a)
{
	u32 i = 0;

	while (i < q->swap.nr_order && q->swap.order[i] != a->type)
		i++;
	if (i == q->swap.nr_order)
		return false;
	for (q->swap.nr_order--; i < q->swap.nr_order; i++)
		q->swap.order[i] = q->swap.order[i + 1];
	return true;
}

static struct swap_area *find_area(struct quire *q, const char *name)
{
	for (u32 i = 0; i < QUIRE_MAX_SWAP_AREAS; i++)
		if (q->swap.areas[i] && !strcmp(q->swap.areas[i]->name, name))
			return q->swap.areas[i];
	return NULL;
}

/* Under q->lock.  Gives the area a number and opens it. */
static int area_link(struct swap_area *a, s32 prio)
{
	struct quire *q = a->q;
	u32 type = 0;

	if (find_area(q, a->name))
		return -EEXIST;
	while (type < QUIRE_MAX_SWAP_AREAS && q->swap.areas[type])
		type++;
	if (type == QUIRE_MAX_SWAP_AREAS)
		return -EBUSY;
	a->type = type;
	a->prio = prio >= 0 ? prio : -2 - q->swap.next_priority++;
	q->swap.areas[type] = a;
	order_insert(q, a);
	q->total_swap_pages += a->pages;
	q->nr_free_swap_pages += a->pages;
	return 0;
}

u64 swap_max_pages(void)
{
	return (u64)MAX_AREA_CLUSTERS * SLOTS_PER_CLUSTER - 1;
}

struct new_area {
	const struct swap_ops *ops;
	const char *kind, *what; /* what: for the log */
	u32 dev;
};

static int area_open(struct quire *q, const struct new_area *n, const char *name, u64 pages, s32 prio)
{
	struct swap_area *a;
	int err;

	if (!pages || pages > swap_max_pages() || prio > 32767)
		return -EINVAL;
	a = area_new(q, n->ops, name, pages);
	if (!a)
		return -ENOMEM;
	a->kind = n->kind;
	a->dev = n->dev;
	spin_lock(&q->lock);
	err = area_link(a, prio);
	spin_unlock(&q->lock);
	if (err) {
		area_free(a);
		return err;
	}
	quire_log(q, 6, "Adding %luk swap on %s.  Priority:%d (%s)", (unsigned long)(pages << (PAGE_SHIFT - 10)), a->name, a->prio,
		  n->what);
	return 0;
}

int swapon_compressed(struct quire *q, const char *name, u64 pages, s32 prio)
{
	return area_open(q, &(struct new_area){ &swap_ops_lz4, "partition", "lz4, in memory", 0 }, name, pages, prio);
}

int swapon_zstd(struct quire *q, const char *name, u32 level, u64 pages, s32 prio)
{
	static const char *const what[SWAP_ZSTD_LEVELS] = { "zstd 1, in memory", "zstd 2, in memory", "zstd 3, in memory" };
	int err;

	if (level < 1 || level > SWAP_ZSTD_LEVELS)
		return -EINVAL;
	err = swap_rooms_get(q);
	if (err)
		return err;
	err = area_open(q, &(struct new_area){ &swap_ops_zstd[level - 1], "partition", what[level - 1], 0 }, name, pages, prio);
	if (err)
		swap_rooms_put(q);
	return err;
}

int swapon_device(struct quire *q, const char *name, const char *kind, u32 dev, u64 pages, s32 prio)
{
	return area_open(q, &(struct new_area){ &swap_ops_device, kind, "on the host", dev }, name, pages, prio);
}

bool swap_device_is_used(struct quire *q, u32 dev)
{
	bool used = false;

	spin_lock(&q->lock);
	for (u32 i = 0; i < QUIRE_MAX_SWAP_AREAS; i++)
		used |= q->swap.areas[i] && q->swap.areas[i]->ops == &swap_ops_device && q->swap.areas[i]->dev == dev;
	spin_unlock(&q->lock);
	return used;
}

/* ---- closing, for reclaim/swapoff.c ---- */
int swap_area_close(struct quire *q, const char *name)
{
	struct swap_area *a;
	int type = -EINVAL;

	spin_lock(&q->lock);
	a = find_area(q, name);
	if (a && order_remove(q, a)) {
		type = (int)a->type;
		q->total_swap_pages -= a->pages;
		q->nr_free_swap_pages -= a->full ? 0 : a->pages - a->used;
	}
	spin_unlock(&q->lock);
	return type;
}

void swap_area_reopen(struct quire *q, unsigned type)
{
	struct swap_area *a = q->swap.areas[type];

	spin_lock(&q->lock);
	order_insert(q, a);
	a->full = false;
	q->total_swap_pages += a->pages;
	q->nr_free_swap_pages += a->pages - a->used;
	spin_unlock(&q->lock);
}

bool swap_area_destroy(struct quire *q, unsigned type)
{
	struct swap_area *a = q->swap.areas[type];

	spin_lock(&q->lock);
	if (a->used)
		a = NULL;
	else
		q->swap.areas[type] = NULL;
	spin_unlock(&q->lock);
	if (!a)
		return false;
	if (a->ops->close)
		a->ops->close(a);
	area_free(a);
	return true;
}

bool swap_area_stat(struct quire *q, unsigned type, struct swap_stat *st)
{
	const struct swap_area *a;

	spin_lock(&q->lock);
	a = type < QUIRE_MAX_SWAP_AREAS ? q->swap.areas[type] : NULL;
	if (a) {
		memcpy(st->name, a->name, sizeof(st->name));
		st->kind = a->kind;
		st->pages = a->pages;
		st->used = a->used;
		st->prio = a->prio;
	}
	spin_unlock(&q->lock);
	return a;
}
