/*
 * The one table through which a floor calls downwards (to a floor below it in the
 * list of design.md section 1).  Filled once at boot by the machine's builder (core_hooks.c),
 * immutable afterwards; a NULL entry means "nobody there".
 */
#ifndef QUIRE_HOOKS_H
#define QUIRE_HOOKS_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;
struct mm_struct;
struct folio;

struct quire_hooks {
	/* Under no lock: free about 2^order frames or more.  Returns frames freed; 0 = no progress. */
	u64 (*try_to_free_pages)(struct quire *q, gfp_t gfp, unsigned order);
	/* Any context: free memory fell below the low watermark. */
	void (*wake_kswapd)(struct quire *q);
	/* Under no lock: reclaim failed.  Kills somebody; 0 = retry, -ENOMEM = give up (the caller dies). */
	int (*out_of_memory)(struct quire *q, gfp_t gfp, unsigned order);
	/* mmap -> populate (fault/): make [start, end) resident, as mm_populate().  Under no lock. */
	int (*populate)(struct mm_struct *mm, u64 start, u64 end, bool write_if_possible);
	/* zap -> swap: n references to a swap entry went away.  Under mm->lock. */
	void (*swap_free)(struct quire *q, u64 entry, u32 n);
	/* fork -> swap: one more reference to a swap entry.  Under mm->lock. */
	void (*swap_dup)(struct quire *q, u64 entry);
	/* phys -> LRU: a folio on an LRU list is about to be freed; take it off.  Under q->lock. */
	void (*lru_del)(struct quire *q, struct folio *folio);
};

#endif
