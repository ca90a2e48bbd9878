/*
 * A B-tree of disjoint ranges that also answers "where is a hole of that size".
 *
 * Every slot above the leaves summarises its subtree: first byte, last byte, largest hole between two of its ranges.
 * A hole between the subtrees of two neighbouring slots is seen from their common node, so a change is repaired on
 * one path from leaf to root, and a search for a hole looks into at most one subtree in vain per level.
 *
 *                 [ 100..900 gap 300 | 950..2000 gap 40 ]            hole 900..950 belongs to this node
 *                    /                        \
 *        [100..200|500..900]        [950..990|1030..2000]            hole 200..500 to that one
 *
 * Invariants (range_tree_is_valid): slots ascend and do not overlap; summaries are exact; all leaves are at the same
 * depth; no node is empty.  Nodes may be underfull: on erase a node is merged with a neighbour when both fit with room
 * to spare, which keeps the height logarithmic and makes a change cheap (few stores, as they are logged).
 *
 * Descents remember their path in a small array: there are no parent links and no recursion.  Caller locks.
 */
#include <quire/machine.h>
#include <range_tree.h>

#define MAX_HEIGHT 12 /* 3^12 ranges even if every node were nearly empty */
#define MERGE_MAX 12u /* two nodes are merged when they have at most this many slots together */
#define KEEP_SPARE 8u /* freed nodes kept for the next insert */

/* From the root (depth 0) to a leaf: the node and the slot taken there. */
struct path {
	struct range_btnode *node[MAX_HEIGHT];
	unsigned idx[MAX_HEIGHT];
	unsigned leaf; /* depth of the leaf */
};

struct slot {
	u64 lo, hi, gap;
	void *p;
};

/* Number of the n ascending keys that are <= key.  Without unpredictable branches. */
static unsigned count_upto(const u64 *keys, unsigned n, u64 key)
{
	unsigned base = 0;

	while (n > 1) {
		unsigned half = n / 2;

		base += half & -(unsigned)(keys[base + half - 1] <= key); /* a mask: the compiler would branch */
		n -= half;
	}
	return base + (keys[base] <= key);
}

/* The first slot that ends above addr; n if there is none.  Counts over all slots (unused ones end at ~0): fifteen
 * independent comparisons are quicker than four that wait for each other. */
static inline unsigned slot_above(const struct range_btnode *b, u64 addr)
{
	unsigned even = 0, odd = b->hi[RANGE_FANOUT - 1] <= addr;

	/* Two sums, so that one addition need not wait for all before it. */
#pragma GCC unroll 7
	for (unsigned i = 0; i < RANGE_FANOUT - 1; i += 2) {
		even += b->hi[i] <= addr;
		odd += b->hi[i + 1] <= addr;
	}
	return even + odd;
}

static struct slot summary(struct range_btnode *b)
{
	struct slot s = {b->lo[0], b->hi[b->n - 1], b->gap[0], b};

	for (unsigned i = 1; i < b->n; i++) {
		s.gap = MAX(s.gap, b->gap[i]);
		s.gap = MAX(s.gap, b->lo[i] - b->hi[i - 1]);
	}
	return s;
}

/* Returns whether anything changed. */
static bool slot_set(struct range_btnode *b, unsigned i, struct slot s)
{
	if (b->lo[i] == s.lo && b->hi[i] == s.hi && b->gap[i] == s.gap && b->p[i] == s.p)
		return false;
	b->lo[i] = s.lo;
	b->hi[i] = s.hi;
	b->gap[i] = s.gap;
	b->p[i] = s.p;
	return true;
}

/* Moves n slots; the ranges may overlap when a == b. */
static void slots_move(struct range_btnode *a, unsigned to, struct range_btnode *b, unsigned from, unsigned n)
{
	memmove(&a->lo[to], &b->lo[from], n * sizeof(u64));
	memmove(&a->hi[to], &b->hi[from], n * sizeof(u64));
	memmove(&a->gap[to], &b->gap[from], n * sizeof(u64));
	memmove(&a->p[to], &b->p[from], n * sizeof(void *));
}

static void slot_insert(struct range_btnode *b, unsigned i, struct slot s)
{
	slots_move(b, i + 1, b, i, b->n - i);
	b->n++;
	b->p[i] = NULL;
	slot_set(b, i, s);
}

/* Slots from n on are unused from now on. */
static void set_count(struct range_btnode *b, unsigned n)
{
	for (unsigned i = n; i < b->n; i++)
		b->hi[i] = ~0ull;
	b->n = n;
}

static void slot_remove(struct range_btnode *b, unsigned i)
{
	slots_move(b, i, b, i + 1, b->n - i - 1);
	set_count(b, b->n - 1);
}

/* ---- nodes ---- */
static struct range_btnode *spare_pop(struct range_tree *t)
{
	struct range_btnode *b = t->spare;

	t->spare = b->p[0];
	t->nspare--;
	b->n = RANGE_FANOUT;
	set_count(b, 0);
	return b;
}

static void spare_push(struct range_tree *t, struct range_btnode *b)
{
	b->p[0] = t->spare;
	t->spare = b;
	t->nspare++;
}

static void node_free(struct quire *q, struct range_tree *t, struct range_btnode *b)
{
	if (t->nspare < KEEP_SPARE)
		spare_push(t, b);
	else
		kmem_cache_free(q, q->range_cache, b);
}

/* One insert may split every level and add a root. */
int range_tree_reserve(struct quire *q, struct range_tree *t, unsigned n)
{
	while (t->nspare < n * (t->height + 1)) {
		struct range_btnode *b = kmem_cache_alloc(q, q->range_cache, GFP_KERNEL);

		if (!b)
			return -ENOMEM;
		spare_push(t, b);
	}
	return 0;
}

/* ---- descents ---- */

/* To the leaf slot of the first range that ends after addr, or behind the last slot. */
static void descend(const struct range_tree *t, u64 addr, struct path *p)
{
	struct range_btnode *b = t->root;
	unsigned depth = 0;

	for (;; depth++) {
		unsigned i = slot_above(b, addr);

		p->node[depth] = b;
		if (!b->level) {
			p->idx[depth] = i;
			p->leaf = depth;
			return;
		}
		if (i == b->n)
			i--;
		p->idx[depth] = i;
		b = b->p[i];
	}
}

/* Repairs the summaries above depth. */
static void refresh_up(struct path *p, unsigned depth)
{
	for (; depth > 0; depth--)
		if (!slot_set(p->node[depth - 1], p->idx[depth - 1], summary(p->node[depth])))
			return;
}

/* The lines of a node that a search will touch, asked for at once: a big tree costs one miss per level, not three. */
static void prefetch_node(const struct range_btnode *b)
{
	__builtin_prefetch(b);
	__builtin_prefetch(&b->hi[7]);
	__builtin_prefetch(&b->p[0]);
	__builtin_prefetch(&b->p[8]);
}

struct range_node *range_tree_find(const struct range_tree *t, u64 addr)
{
	const struct range_btnode *b = t->root;

	if (!b || addr >= b->hi[b->n - 1])
		return NULL;
	while (b->level) {
		b = b->p[slot_above(b, addr)];
		prefetch_node(b);
	}
	return b->p[slot_above(b, addr)];
}

struct range_node *range_tree_next(const struct range_tree *t, const struct range_node *n)
{
	return range_tree_find(t, n->end);
}

struct range_node *range_tree_prev(const struct range_tree *t, const struct range_node *n)
{
	const struct range_btnode *b = t->root;

	while (b) {
		unsigned i = n->start ? count_upto(b->lo, b->n, n->start - 1) : 0;

		if (i == 0)
			return NULL;
		if (!b->level)
			return b->p[i - 1];
		b = b->p[i - 1];
	}
	return NULL;
}

struct range_node *range_tree_first(const struct range_tree *t)
{
	return range_tree_find(t, 0);
}

/* ---- changes ---- */

/* Where to split a full node.  Uneven at the ends, so that ascending or descending inserts leave full nodes behind. */
static unsigned split_point(unsigned pos)
{
	if (pos < 2)
		return 3;
	return pos > RANGE_FANOUT - 2 ? RANGE_FANOUT - 3 : RANGE_FANOUT / 2;
}

/* Inserts s at slot pos of the full node a; returns the summary of the new right neighbour. */
static struct slot split_insert(struct range_tree *t, struct range_btnode *a, unsigned pos, struct slot s)
{
	struct range_btnode *b = spare_pop(t);
	unsigned keep = split_point(pos);

	b->level = a->level;
	b->n = a->n - keep;
	slots_move(b, 0, a, keep, b->n);
	set_count(a, keep);
	if (pos <= keep)
		slot_insert(a, pos, s);
	else
		slot_insert(b, pos - keep, s);
	return summary(b);
}

static void new_root(struct range_tree *t, struct slot left, struct slot right)
{
	struct range_btnode *r = spare_pop(t);

	r->level = t->height++;
	slot_insert(r, 0, left);
	slot_insert(r, 1, right);
	t->root = r;
}

static void insert_at(struct range_tree *t, struct path *p, struct slot s)
{
	unsigned depth = p->leaf, pos = p->idx[depth];

	for (;;) {
		struct range_btnode *b = p->node[depth];

		if (b->n < RANGE_FANOUT) {
			slot_insert(b, pos, s);
			refresh_up(p, depth);
			return;
		}
		s = split_insert(t, b, pos, s);
		if (depth == 0) {
			new_root(t, summary(b), s);
			return;
		}
		depth--;
		pos = p->idx[depth] + 1;
		slot_set(p->node[depth], p->idx[depth], summary(b));
	}
}

int range_tree_insert(struct quire *q, struct range_tree *t, struct range_node *n)
{
	struct slot s = {n->start, n->end, 0, n};
	struct path p;

	if (range_tree_reserve(q, t, 1) != 0)
		return -ENOMEM;
	if (!t->root) {
		t->root = spare_pop(t);
		t->root->level = 0;
		t->height = 1;
	}
	if (t->count) {
		descend(t, n->start, &p);
		if (p.idx[p.leaf] < p.node[p.leaf]->n && p.node[p.leaf]->lo[p.idx[p.leaf]] < n->end)
			return -EEXIST;
	} else {
		p.node[0] = t->root;
		p.idx[0] = p.leaf = 0;
	}
	insert_at(t, &p, s);
	t->count++;
	return 0;
}

/* Merges node depth of the path with a neighbour if both fit.  Returns the parent's slot that is left over, or -1. */
static int merge_sibling(struct path *p, unsigned depth)
{
	struct range_btnode *b = p->node[depth], *up = p->node[depth - 1];
	unsigned i = p->idx[depth - 1];
	struct range_btnode *left = i > 0 ? up->p[i - 1] : NULL;
	struct range_btnode *right = i + 1 < up->n ? up->p[i + 1] : NULL;

	if (left && left->n + b->n <= MERGE_MAX) {
		slots_move(left, left->n, b, 0, b->n);
		left->n += b->n;
		slot_set(up, i - 1, summary(left));
		return (int)i;
	}
	if (right && right->n + b->n <= MERGE_MAX) {
		slots_move(b, b->n, right, 0, right->n);
		b->n += right->n;
		slot_set(up, i, summary(b));
		return (int)i + 1;
	}
	return -1;
}

static void shrink_root(struct quire *q, struct range_tree *t)
{
	while (t->root && (t->root->n == 0 || (t->root->level && t->root->n == 1))) {
		struct range_btnode *old = t->root;

		t->root = old->n ? old->p[0] : NULL;
		t->height = old->n ? t->height - 1 : 0;
		node_free(q, t, old);
	}
}

void range_tree_erase(struct quire *q, struct range_tree *t, struct range_node *n)
{
	struct path p;
	unsigned depth;

	descend(t, n->start, &p);
	depth = p.leaf;
	BUG_ON(p.idx[depth] >= p.node[depth]->n || p.node[depth]->p[p.idx[depth]] != n);
	slot_remove(p.node[depth], p.idx[depth]);
	t->count--;
	for (; depth > 0; depth--) {
		int gone = p.node[depth]->n ? merge_sibling(&p, depth) : (int)p.idx[depth - 1];

		if (gone < 0) {
			refresh_up(&p, depth);
			break;
		}
		node_free(q, t, p.node[depth - 1]->p[gone]);
		slot_remove(p.node[depth - 1], (unsigned)gone);
	}
	shrink_root(q, t);
}

void range_tree_resize(struct range_tree *t, struct range_node *n, u64 start, u64 end)
{
	struct path p;
	struct range_btnode *leaf;
	unsigned i;

	descend(t, n->start, &p);
	leaf = p.node[p.leaf];
	i = p.idx[p.leaf];
	BUG_ON(i >= leaf->n || leaf->p[i] != n || start >= end);
	DEBUG_ON(i > 0 && leaf->hi[i - 1] > start);
	DEBUG_ON(i + 1 < leaf->n && leaf->lo[i + 1] < end);
	leaf->lo[i] = n->start = start;
	leaf->hi[i] = n->end = end;
	refresh_up(&p, p.leaf);
}

void range_tree_destroy(struct quire *q, struct range_tree *t)
{
	while (t->root) {
		struct range_btnode *up = NULL, *b = t->root;

		while (b->level && b->n) {
			up = b;
			b = b->p[b->n - 1];
		}
		if (up)
			up->n--;
		else
			t->root = NULL;
		kmem_cache_free(q, q->range_cache, b);
	}
	while (t->spare)
		kmem_cache_free(q, q->range_cache, spare_pop(t));
	t->height = t->count = 0;
}

/* ---- holes ---- */
struct gap {
	u64 start, end;
};

/* The highest hole of at least len bytes between two ranges that starts below pos. */
static bool gap_below(const struct range_tree *t, u64 pos, u64 len, struct gap *g)
{
	const struct range_btnode *b = t->root, *up[MAX_HEIGHT];
	int idx[MAX_HEIGHT], depth = 0, i;
	bool entered = false;

	if (!b)
		return false;
	i = (int)MIN(count_upto(b->hi, b->n, pos - 1), b->n - 1);
	for (;;) {
		if (!entered && b->level && b->gap[i] >= len && b->lo[i] < pos) {
			up[depth] = b;
			idx[depth++] = i;
			b = b->p[i];
			i = (int)MIN(count_upto(b->hi, b->n, pos - 1), b->n - 1);
			continue;
		}
		entered = false;
		if (i > 0 && b->lo[i] - b->hi[i - 1] >= len && b->hi[i - 1] < pos) {
			*g = (struct gap){b->hi[i - 1], b->lo[i]};
			return true;
		}
		if (--i >= 0)
			continue;
		if (depth == 0)
			return false;
		b = up[--depth];
		i = idx[depth];
		entered = true;
	}
}

/* The lowest hole of at least len bytes between two ranges that ends above pos. */
static bool gap_above(const struct range_tree *t, u64 pos, u64 len, struct gap *g)
{
	const struct range_btnode *b = t->root, *up[MAX_HEIGHT];
	unsigned idx[MAX_HEIGHT], depth = 0, i;
	bool entered = false;

	if (!b)
		return false;
	i = count_upto(b->lo, b->n, pos);
	i -= i > 0;
	for (;;) {
		if (!entered && b->level && b->gap[i] >= len && b->hi[i] > pos) {
			up[depth] = b;
			idx[depth++] = i;
			b = b->p[i];
			i = count_upto(b->lo, b->n, pos);
			i -= i > 0;
			continue;
		}
		entered = false;
		if (i + 1 < b->n && b->lo[i + 1] - b->hi[i] >= len && b->lo[i + 1] > pos) {
			*g = (struct gap){b->hi[i], b->lo[i + 1]};
			return true;
		}
		if (++i < b->n)
			continue;
		if (depth == 0)
			return false;
		b = up[--depth];
		i = idx[depth];
		entered = true;
	}
}

/* What is usable of a hole inside [lo, hi): takes the guards of its neighbours off.  False if too small. */
static bool gap_usable(const struct range_tree *t, struct gap *g, u64 lo, u64 hi, u64 len, range_guard_fn guard)
{
	u64 before = 0, after = 0, unused;

	if (guard) {
		const struct range_node *prev = g->start ? range_tree_find(t, g->start - 1) : NULL;
		const struct range_node *next = g->end != ~0ull ? range_tree_find(t, g->end) : NULL;

		if (prev)
			guard(prev, &unused, &after);
		if (next)
			guard(next, &before, &unused);
	}
	if (g->end - g->start < before + after)
		return false;
	g->start = MAX(g->start + after, lo);
	g->end = MIN(g->end - before, hi);
	return g->end > g->start && g->end - g->start >= len;
}

/* The holes in front of the first and behind the last range. */
static struct gap gap_front(const struct range_tree *t)
{
	return (struct gap){0, t->root ? t->root->lo[0] : ~0ull};
}

static struct gap gap_back(const struct range_tree *t)
{
	return (struct gap){t->root ? t->root->hi[t->root->n - 1] : 0, ~0ull};
}

static u64 fit_high(const struct range_tree *t, struct gap g, u64 lo, u64 hi, u64 len, u64 align, range_guard_fn guard)
{
	u64 a;

	if (!gap_usable(t, &g, lo, hi, len, guard))
		return ~0ull;
	a = ALIGN_DOWN(g.end - len, align);
	return a >= g.start ? a : ~0ull;
}

static u64 fit_low(const struct range_tree *t, struct gap g, u64 lo, u64 hi, u64 len, u64 align, range_guard_fn guard)
{
	u64 a;

	if (!gap_usable(t, &g, lo, hi, len, guard))
		return ~0ull;
	a = ALIGN_UP(g.start, align);
	return a >= g.start && a + len <= g.end ? a : ~0ull;
}

u64 range_tree_gap_top_down(const struct range_tree *t, u64 lo, u64 hi, u64 len, u64 align, range_guard_fn guard)
{
	struct gap g = gap_back(t);
	u64 pos = hi, a = ~0ull;

	if (g.start < hi)
		a = fit_high(t, g, lo, hi, len, align, guard);
	while (a == ~0ull && gap_below(t, pos, len, &g) && g.end > lo) {
		a = fit_high(t, g, lo, hi, len, align, guard);
		pos = g.start;
	}
	if (a == ~0ull && t->root)
		a = fit_high(t, gap_front(t), lo, hi, len, align, guard);
	return a;
}

u64 range_tree_gap_bottom_up(const struct range_tree *t, u64 lo, u64 hi, u64 len, u64 align, range_guard_fn guard)
{
	struct gap g = gap_front(t);
	u64 pos = lo, a = ~0ull;

	if (g.end > lo)
		a = fit_low(t, g, lo, hi, len, align, guard);
	while (a == ~0ull && gap_above(t, pos, len, &g) && g.start < hi) {
		a = fit_low(t, g, lo, hi, len, align, guard);
		pos = g.end;
	}
	if (a == ~0ull && t->root)
		a = fit_low(t, gap_back(t), lo, hi, len, align, guard);
	return a;
}

/* ---- validity ---- */
static bool node_is_valid(const struct range_btnode *b)
{
	if (b->n == 0 || b->n > RANGE_FANOUT)
		return false;
	for (unsigned i = b->n; i < RANGE_FANOUT; i++)
		if (b->hi[i] != ~0ull)
			return false;
	for (unsigned i = 0; i < b->n; i++) {
		const struct range_node *r = b->p[i];

		if (b->lo[i] >= b->hi[i] || (i > 0 && b->hi[i - 1] > b->lo[i]))
			return false;
		if (!b->level && (r->start != b->lo[i] || r->end != b->hi[i] || b->gap[i]))
			return false;
	}
	return true;
}

static bool child_is_valid(const struct range_btnode *up, unsigned i)
{
	struct range_btnode *b = up->p[i];
	struct slot s;

	if (b->level + 1 != up->level || !node_is_valid(b))
		return false;
	s = summary(b);
	return s.lo == up->lo[i] && s.hi == up->hi[i] && s.gap == up->gap[i];
}

bool range_tree_is_valid(const struct range_tree *t)
{
	const struct range_btnode *b = t->root, *up[MAX_HEIGHT];
	unsigned idx[MAX_HEIGHT], depth = 0, i = 0, count = 0;

	if (!b)
		return t->count == 0 && t->height == 0;
	if (b->level + 1 != t->height || !node_is_valid(b))
		return false;
	for (;;) {
		if (b->level && i < b->n) {
			if (!child_is_valid(b, i))
				return false;
			up[depth] = b;
			idx[depth++] = i;
			b = b->p[i];
			i = 0;
			continue;
		}
		if (!b->level)
			count += b->n;
		if (depth == 0)
			return count == t->count;
		b = up[--depth];
		i = idx[depth] + 1;
	}
}
