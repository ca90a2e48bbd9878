/* A radix tree from u64 index to pointer, 64 slots a node, nodes from q->radix_cache.  Caller locks (q->lock). */
#ifndef QUIRE_RADIX_H
#define QUIRE_RADIX_H
#include <quire/types.h>
struct quire;
struct radix_node;
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
