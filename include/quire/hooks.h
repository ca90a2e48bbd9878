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
struct frame;
struct file;
struct address_space;

struct quire_hooks {
	/* Under no lock: free about 2^order frames or more.  Returns frames freed; 0 = no progress. */
	u64 (*try_to_free_pages)(struct quire *q, gfp_t gfp, unsigned order);
	/* Under no lock: there is memory, but no free block of this order.  True: now there is one (somebody else may take it). */
	bool (*compact_pages)(struct quire *q, gfp_t gfp, unsigned order);
	/* Any context: free memory fell below the low watermark. */
	void (*wake_kswapd)(struct quire *q);
	/* Under no lock: reclaim failed.  Kills somebody; 0 = retry, -ENOMEM = give up (the caller dies). */
	int (*out_of_memory)(struct quire *q, gfp_t gfp, unsigned order);
	/* mmap -> populate (fault/): make [start, end) resident, as mm_populate().  Under no lock. */
	int (*populate)(struct mm_struct *mm, u64 start, u64 end, bool write_if_possible);
	/* MADV_POPULATE_READ, _WRITE -> fault: mm_fault_in().  Under no lock. */
	int (*fault_in)(struct mm_struct *mm, u64 start, u64 end, bool write);
	/* zap -> swap: n references to a swap entry went away.  Under mm->lock. */
	void (*swap_free)(struct quire *q, u64 entry, u32 n);
	/* fork -> swap: one more reference to a swap entry.  Under mm->lock. */
	void (*swap_dup)(struct quire *q, u64 entry);
	/* mm -> file: see file.h; file_put and file_setup under no lock. */
	struct file *(*shmem_file_setup)(struct quire *q, const char *name, u64 size, u64 vm_flags);
	void (*file_put)(struct file *f);
	/* msync -> writeback: filemap_sync().  Under no lock. */
	int (*filemap_sync)(struct address_space *m, u64 start, u64 end, bool wait);
	/* MADV_REMOVE -> file: punch a hole of whole pages (bytes [start, end)).  0 or negative errno.  Under no lock. */
	int (*punch_hole)(struct address_space *m, u64 start, u64 end);
	/* MADV_WILLNEED -> file: start reading page `index` and its neighbours up to n pages.  Under no lock. */
	void (*readahead)(struct address_space *m, u64 index, u64 n);
	/* mm -> file: bytes of the folio differ from the file's (a dirty entry was removed).  Under q->lock. */
	void (*folio_mark_dirty)(struct folio *folio);
	/* MADV_COLD, MADV_PAGEOUT -> reclaim: make the mapped pages of [start, end) cold / try to evict them.  Under no lock. */
	void (*madvise_cold)(struct mm_struct *mm, u64 start, u64 end, bool pageout);
	/* A wait for memory begins and ends, but for one inside another: psi_memstall_enter(), psi_memstall_leave().  Under no lock. */
	bool (*memstall_enter)(struct quire *q);
	void (*memstall_leave)(struct quire *q, bool entered);
	/* mincore -> swap: is the entry's page in the swap cache?  Under q->lock. */
	bool (*swap_cached)(struct quire *q, u64 entry);
	/* overcommit -> swap: pages of swap space, used or not.  Under q->lock or none. */
	u64 (*total_swap_pages)(struct quire *q);
	/* phys -> highmem: clear n frames from f on that have no direct-map address.  Any context.  NULL: such frames
	 * are not given to __GFP_ZERO requests. */
	void (*clear_highpages)(struct quire *q, struct frame *f, u32 n);
	/* mm -> LRU: a new anonymous folio is mapped; folio_add_lru().  Under q->lock. */
	void (*lru_add)(struct quire *q, struct folio *folio);
	/* migration -> a test: the bytes of this folio have moved elsewhere and its frames are about to be freed.  Under no lock. */
	void (*folio_moved)(struct quire *q, struct folio *folio);
	/* phys -> LRU: a folio on an LRU list is about to be freed; take it off.  Under q->lock. */
	void (*lru_del)(struct quire *q, struct folio *folio);
};

#endif
