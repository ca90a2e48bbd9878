/*
 * The one ordered range container (design.md 3.6): a B-tree of disjoint ranges with gap search.
 * Serves VMAs and vmalloc.  Nodes come from q->range_cache; entries embed struct range_node.
 * Caller locks.
 */
#ifndef QUIRE_RANGE_TREE_H
#define QUIRE_RANGE_TREE_H
#include <quire/types.h>
struct quire;
struct range_node {
	u64 start, end; /* [start, end), start < end */
};
/* A tree node of n slots.  Slot i stands for the ranges inside [lo[i], hi[i]); level 0: p[i] is a struct range_node and
 * lo, hi are copies of its bounds; above: p[i] is a node, gap[i] the largest hole between two ranges inside it.  hi of
 * unused slots is ~0. */
#define RANGE_FANOUT 15u
struct range_btnode {
	u32 n;
	u32 level;
	u64 hi[RANGE_FANOUT], lo[RANGE_FANOUT], gap[RANGE_FANOUT];
	void *p[RANGE_FANOUT];
};
struct range_tree {
	struct range_btnode *root;
	struct range_btnode *spare; /* reserved nodes, linked by p[0] */
	u32 nspare;
	u32 height;                 /* levels; 0 = empty */
	u32 count;                  /* ranges */
};
/* Makes sure the next n inserts cannot fail.  0 or -ENOMEM.  Reserved nodes hang on the tree. */
int range_tree_reserve(struct quire *q, struct range_tree *t, unsigned n);
int range_tree_insert(struct quire *q, struct range_tree *t, struct range_node *n); /* -EEXIST on overlap, -ENOMEM */
void range_tree_erase(struct quire *q, struct range_tree *t, struct range_node *n);  /* cannot fail */
/* Changes an entry's bounds in place; the new range must not cross its neighbours. */
void range_tree_resize(struct range_tree *t, struct range_node *n, u64 start, u64 end);
struct range_node *range_tree_find(const struct range_tree *t, u64 addr);   /* first with end > addr */
struct range_node *range_tree_prev(const struct range_tree *t, const struct range_node *n);
struct range_node *range_tree_next(const struct range_tree *t, const struct range_node *n);
struct range_node *range_tree_first(const struct range_tree *t);
/* Lowest / highest address a with [a, a+len) free inside [lo, hi), a % align == 0; ~0 if none.  guard_of(n, &before,
 * &after) may ask for free bytes around an entry (stack guard gaps); NULL = none. */
typedef void (*range_guard_fn)(const struct range_node *n, u64 *before, u64 *after);
u64 range_tree_gap_bottom_up(const struct range_tree *t, u64 lo, u64 hi, u64 len, u64 align, range_guard_fn guard);
u64 range_tree_gap_top_down(const struct range_tree *t, u64 lo, u64 hi, u64 len, u64 align, range_guard_fn guard);
void range_tree_destroy(struct quire *q, struct range_tree *t);
bool range_tree_is_valid(const struct range_tree *t);
#endif
