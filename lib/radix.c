/*
 * Radix tree from u64 to pointer: see radix.h for shape, invariants and locks.
 *
 * No recursion: a descent keeps its path (at most 11 nodes) in an array, so that the way back up - freeing
 * nodes that became empty - is a loop.
 */
#include <quire/machine.h>
#include <radix.h>

struct radix_path {
	struct radix_node *node[RADIX_MAX_HEIGHT]; /* [level - 1]; level 1 holds the entries */
};

static unsigned slot_of(u64 index, u32 level)
{
	return (unsigned)(index >> ((level - 1) * RADIX_SHIFT)) & (RADIX_SLOTS - 1);
}

/* The highest index that a tree of this height can hold. */
static u64 height_max(u32 height)
{
	u32 bits = height * RADIX_SHIFT;

	return bits >= 64 ? ~0ull : (1ull << bits) - 1;
}

void *radix_lookup(const struct radix *r, u64 index)
{
	void *p = r->root;
	u32 level;

	if (index > height_max(r->height))
		return NULL;
	for (level = r->height; level && p; level--)
		p = ((struct radix_node *)p)->slots[slot_of(index, level)];
	return p;
}

static struct radix_node *node_alloc(struct quire *q)
{
	/* Reclaim puts shared memory into swap by way of a tree: it gives back more than it takes. */
	gfp_t gfp = port_ctx()->flags & CTX_RECLAIM ? __GFP_HIGH | __GFP_MEMALLOC | __GFP_NOWARN : GFP_KERNEL;
	struct radix_node *n = kmem_cache_alloc(q, q->radix_cache, gfp);

	if (n)
		memset(n, 0, sizeof(*n));
	return n;
}

/* Frees a chain of single-child nodes hung below slot; used to undo an insert that ran out of memory. */
static void free_empty_path(struct quire *q, struct radix *r, struct radix_path *p, u32 level, u64 index)
{
	for (; level <= r->height; level++) {
		struct radix_node *n = p->node[level - 1];

		if (n->count)
			return;
		kmem_cache_free(q, q->radix_cache, n);
		if (level == r->height) {
			r->root = NULL;
			r->height = 0;
			return;
		}
		n = p->node[level];
		n->slots[slot_of(index, level + 1)] = NULL;
		n->count--;
	}
}

/* A root with only slot 0 in use adds nothing: its child becomes the root. */
static void shrink_height(struct quire *q, struct radix *r)
{
	while (r->height > 1 && r->root->count == 1 && r->root->slots[0]) {
		struct radix_node *old = r->root;

		r->root = old->slots[0];
		r->height--;
		kmem_cache_free(q, q->radix_cache, old);
	}
}

/* Makes the tree high enough for index.  On failure it is as high as before. */
static int grow_height(struct quire *q, struct radix *r, u64 index)
{
	while (!r->height || index > height_max(r->height)) {
		struct radix_node *n = node_alloc(q);

		if (!n) {
			if (r->root)
				shrink_height(q, r);
			return -ENOMEM;
		}
		if (r->root) {
			n->slots[0] = r->root;
			n->count = 1;
		}
		r->root = n;
		r->height++;
		/* An empty tree may start at any height: no use stacking empty nodes. */
		if (n->count == 0)
			while (index > height_max(r->height))
				r->height++;
	}
	return 0;
}

/* Fills p with the nodes from the root to level 1, making those that miss. */
static int descend_make(struct quire *q, struct radix *r, u64 index, struct radix_path *p)
{
	u32 level;

	p->node[r->height - 1] = r->root;
	for (level = r->height; level > 1; level--) {
		struct radix_node *n = p->node[level - 1], *child = n->slots[slot_of(index, level)];

		if (!child) {
			child = node_alloc(q);
			if (!child) {
				free_empty_path(q, r, p, level, index);
				if (r->root)
					shrink_height(q, r);
				return -ENOMEM;
			}
			n->slots[slot_of(index, level)] = child;
			n->count++;
		}
		p->node[level - 2] = child;
	}
	return 0;
}

static void radix_erase(struct quire *q, struct radix *r, u64 index)
{
	struct radix_path p;
	struct radix_node *n = r->root;
	u32 level;

	if (!radix_lookup(r, index))
		return;
	for (level = r->height; level >= 1; level--) {
		p.node[level - 1] = n;
		n = n->slots[slot_of(index, level)];
	}
	p.node[0]->slots[slot_of(index, 1)] = NULL;
	p.node[0]->count--;
	free_empty_path(q, r, &p, 1, index);
	if (r->root)
		shrink_height(q, r);
}

int radix_store(struct quire *q, struct radix *r, u64 index, void *value)
{
	struct radix_path p;
	struct radix_node *leaf;
	int err;

	if (!value) {
		radix_erase(q, r, index);
		return 0;
	}
	err = grow_height(q, r, index);
	if (!err)
		err = descend_make(q, r, index, &p);
	if (err)
		return err;
	leaf = p.node[0];
	if (!leaf->slots[slot_of(index, 1)])
		leaf->count++;
	leaf->slots[slot_of(index, 1)] = value;
	return 0;
}

void *radix_next(const struct radix *r, u64 *index, u64 last)
{
	u64 i = *index;

	last = MIN(last, height_max(r->height));
	while (r->root && i <= last) {
		void *p = r->root;
		u32 level = r->height;
		u64 span;

		for (; level && ((struct radix_node *)p)->slots[slot_of(i, level)]; level--)
			p = ((struct radix_node *)p)->slots[slot_of(i, level)];
		if (!level) {
			*index = i;
			return p;
		}
		/* Nothing below this slot: on to the first index of the next one. */
		span = 1ull << ((level - 1) * RADIX_SHIFT);
		i = (i | (span - 1)) + 1;
		if (!i)
			break;
	}
	return NULL;
}

void radix_destroy(struct quire *q, struct radix *r)
{
	/* Walks down the first used slot again and again; each node is cut off and freed when it is empty. */
	while (r->root) {
		struct radix_node *n = r->root, *parent = NULL;
		u32 level, s = 0;

		for (level = r->height; level > 1; level--) {
			for (s = 0; s < RADIX_SLOTS && !n->slots[s]; s++)
				;
			if (s == RADIX_SLOTS)
				break;
			parent = n;
			n = n->slots[s];
		}
		if (!parent) {
			r->root = NULL;
		} else {
			u32 i = 0;

			while (parent->slots[i] != n)
				i++;
			parent->slots[i] = NULL;
		}
		kmem_cache_free(q, q->radix_cache, n);
	}
	r->height = 0;
}

/* Checks one node's count and, at the root, that the tree is not higher than it needs. */
static bool node_ok(const struct radix *r, const struct radix_node *n, u32 level)
{
	u32 used = 0, s;

	for (s = 0; s < RADIX_SLOTS; s++)
		used += n->slots[s] != NULL;
	if (!used || used != n->count)
		return false;
	return level != r->height || level == 1 || used > 1 || !n->slots[0];
}

bool radix_is_valid(const struct radix *r)
{
	const struct radix_node *path[RADIX_MAX_HEIGHT];
	u32 next[RADIX_MAX_HEIGHT] = { 0 }, level = r->height;

	if (!r->root || !r->height)
		return !r->root && !r->height;
	if (r->height > RADIX_MAX_HEIGHT || !node_ok(r, r->root, level))
		return false;
	path[level - 1] = r->root;
	while (level <= r->height) {
		const struct radix_node *child = NULL;

		if (level == 1 || next[level - 1] == RADIX_SLOTS) {
			level++; /* done with this node */
			continue;
		}
		child = path[level - 1]->slots[next[level - 1]++];
		if (!child)
			continue;
		level--;
		if (!node_ok(r, child, level))
			return false;
		path[level - 1] = child;
		next[level - 1] = 0;
	}
	return true;
}
