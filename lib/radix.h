/*
 * A radix tree from u64 index to pointer: 64 slots a node, nodes from q->radix_cache.
 *
 *   height 1            height 2                       (up to 11: 11 * 6 bits >= 64)
 *   root                root
 *   [0 .. 63]           [0 .. 63] -> nodes -> entries
 *
 * Invariants: a node is never empty (count counts its non-NULL slots); every index in the tree is below
 * 64^height; the root of a tree higher than 1 has a slot in use other than slot 0 (else it is made lower).
 * Locks: the caller's (q->lock for page caches).  Stores obey the rules of transactions.
 */
#ifndef QUIRE_RADIX_H
#define QUIRE_RADIX_H
#include <quire/types.h>

#define RADIX_SHIFT 6
#define RADIX_SLOTS (1u << RADIX_SHIFT)
#define RADIX_MAX_HEIGHT 11u

struct quire;

/* Public so that the machine's builder can size q->radix_cache. */
struct radix_node {
	u32 count; /* non-NULL slots, 1..64 */
	u32 pad;
	void *slots[RADIX_SLOTS];
};
struct radix {
	struct radix_node *root;
	u32 height; /* levels; 0 = empty */
};
void *radix_lookup(const struct radix *r, u64 index);
/* Stores (replacing); value NULL erases.  0 or -ENOMEM (never when replacing or erasing). */
int radix_store(struct quire *q, struct radix *r, u64 index, void *value);
/* First non-NULL entry with index >= *index and <= last; sets *index.  NULL if none. */
void *radix_next(const struct radix *r, u64 *index, u64 last);
void radix_destroy(struct quire *q, struct radix *r); /* frees nodes, not values */
bool radix_is_valid(const struct radix *r);
#endif
