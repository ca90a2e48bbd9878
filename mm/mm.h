/*
 * What the floors below mm/ (fault, file, reclaim, task, proc) share with it: page tables of an mm, gathering of frames
 * that leave, counters, rmap.  Sections by the file that owns them.  The public half is include/quire/mm.h.
 *
 * How a mapping call works, and what a fault must know of it
 *
 *   mmap_write_begin(mm)        mmap_lock (mutex), then mm->lock: a transaction opens
 *     ... change VMAs, clear entries, park frames, tlb_flush()
 *     mmap_write_cycle(mm)      commit; mmap_lock stays; faults may come in between
 *     ...
 *   mmap_write_end(mm)          commit
 *   tlb_finish_mmu()            port_tlb_sync(), then the parked frames are really freed
 *
 * A call in several pieces is atomic for faults by two rules:
 *   1. mm->busy_start/busy_end is the range that the holder of mmap_lock is unmapping or moving.  A fault inside it
 *      (mm_range_busy()) drops mm->lock, calls mm_wait_busy(mm) under no lock, and starts again.
 *   2. A fault that would end in a signal (no VMA, access not allowed) is decided again after mm_wait_busy(mm): only the
 *      verdict found while nobody held mmap_lock counts.
 *
 * MADV_FREE: a "lazily freed" page is an anonymous folio without FF_DIRTY that is not in the swap cache, mapped by
 * clean entries only.  Reclaim may drop it (the entries become zero: pte_none); a write makes its entry dirty and saves
 * it.
 *
 * Who protects what: entries and counters of an mm: mm->lock.  refcount, mapcount, mapping, index of folios:
 * q->lock (taken inside mm->lock).  Each entry that maps a frame of a folio holds one reference and one mapcount of the
 * folio.  Special entries (zero page, VM_PFNMAP) hold nothing and are not in rss.
 */
#ifndef QUIRE_MM_INTERNAL_H
#define QUIRE_MM_INTERNAL_H
#include <quire/machine.h>
#include <pgtable.h>

#define STACK_GUARD_GAP (256ul << PAGE_SHIFT)
#define VM_ACCESS_FLAGS (VM_READ | VM_WRITE | VM_EXEC)
/* Never merged, never expanded, not locked (Linux's VM_SPECIAL). */
#define VM_SPECIAL (VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP)
#define VM_STACK VM_GROWSDOWN
/* Flags that do not keep VMAs apart: a merged VMA has them if any part had. */
#define VM_STICKY (VM_SOFTDIRTY | VM_MAYBE_GUARD | VM_DENYWRITE)

/* ---- mm/mm.c ---- */
/* Caches for VMAs, mms, families and tree nodes (q->vma_cache, mm_cache, anon_cache, range_cache).  Once, at boot. */
int mm_init(struct quire *q);
/* Frees everything of an mm without users, in pieces, under no lock.  May be called again after the caller died inside;
 * mmput() calls it.  The mm itself is gone afterwards. */
void exit_mmap(struct mm_struct *mm);
/* Under q->lock, for walkers of q->mms: a reference unless the last user is gone. */
static inline bool mmget_not_zero(struct mm_struct *mm)
{
	if (!mm->users)
		return false;
	mm->users++;
	return true;
}
static inline bool mm_range_busy(const struct mm_struct *mm, u64 addr)
{
	return (addr >= mm->busy_start && addr < mm->busy_end) || (addr >= mm->busy2_start && addr < mm->busy2_end);
}
/* Under no lock: waits until no mapping call is at work on mm. */
void mm_wait_busy(struct mm_struct *mm);
/* Under no lock, after an allocation failed inside a transaction.  0 = try again (at most a few times, *tries counts),
 * -ENOMEM = give up. */
int mm_reclaim(struct quire *q, unsigned *tries);
/* Inside a mapping call (mmap_lock + lock): from here on `nr` new VMAs cannot fail.  May commit in between.  0 or
 * -ENOMEM. */
int mm_prepare(struct mm_struct *mm, unsigned nr);
/* Under no lock: drops the file references that unmapping left behind.  Every mapping call ends with it. */
void mm_reap(struct mm_struct *mm);

/* ---- mm/vma.c ---- */
u64 vm_get_page_prot(u64 vm_flags);
/* Before the first anonymous page of a VMA is mapped; cheap when done already.  Under mm->lock; cannot fail. */
void __vma_prepare_anon(struct vm_area_struct *vma);
static inline void vma_prepare_anon(struct vm_area_struct *vma)
{
	if (unlikely(!vma->anon))
		__vma_prepare_anon(vma);
}
/* folio->f.index of an anonymous page at addr. */
static inline u64 linear_anon_index(const struct vm_area_struct *vma, u64 addr)
{
	return vma->anon_pgoff + ((addr - vma_start(vma)) >> PAGE_SHIFT);
}
/* Page of the file at addr. */
static inline u64 linear_page_index(const struct vm_area_struct *vma, u64 addr)
{
	return vma->vm_pgoff + ((addr - vma_start(vma)) >> PAGE_SHIFT);
}
static inline struct vm_area_struct *node_vma(struct range_node *n)
{
	return n ? container_of(n, struct vm_area_struct, node) : NULL;
}
static inline bool vma_is_accessible(const struct vm_area_struct *vma) { return vma->vm_flags & VM_ACCESS_FLAGS; }
struct vm_area_struct *vma_prev(struct mm_struct *mm, const struct vm_area_struct *vma);

/* ---- mm/mmap.c ---- */
/* A fault at addr just below a VM_GROWSDOWN mapping: grows it if limits allow.  0, or -ENOMEM / -EFAULT (then SIGSEGV).
 * Under no lock. */
int expand_stack(struct mm_struct *mm, u64 addr);
/* As do_mmap for the kernel's own uses (exec's stack): anonymous private memory with these vm_flags, exactly there. */
int mm_map_fixed(struct mm_struct *mm, u64 addr, u64 len, u64 vm_flags);

/* ---- mm/accounting.c ---- */
/* May npages more of such memory be mapped (RLIMIT_AS, RLIMIT_DATA)?  Under mm->lock. */
bool may_expand_vm(struct mm_struct *mm, u64 vm_flags, u64 npages);
/* Charges Committed_AS by the overcommit policy.  0 or -ENOMEM.  Under mm->lock. */
int vm_enough_memory(struct mm_struct *mm, u64 npages);
void vm_unacct_memory(struct quire *q, u64 npages);
u64 vm_commit_limit(struct quire *q); /* pages */
static inline u64 get_mm_rss(const struct mm_struct *mm)
{
	return (u64)(mm->rss[MM_FILEPAGES] + mm->rss[MM_ANONPAGES] + mm->rss[MM_SHMEMPAGES]);
}

/* Under no lock, after a migration entry was met: waits until its page may have arrived (or a moment). */
static inline void migration_entry_wait(struct quire *q)
{
	port_wait(&q->migrations, __atomic_load_n(&q->migrations, __ATOMIC_ACQUIRE), 200000);
}

/* ---- mm/memory.c: entries of an mm.  Under mm->lock ---- */
static inline void add_mm_counter(struct mm_struct *mm, int member, s64 n) { mm->rss[member] += n; }
int mm_counter(const struct folio *folio); /* MM_ANONPAGES, MM_FILEPAGES or MM_SHMEMPAGES */
static inline struct pgtable mm_pgtable(struct mm_struct *mm)
{
	return (struct pgtable){mm->q, &mm->pgd, &mm->pgtables_bytes};
}
/* The level-3 slot of addr; NULL when a table is missing. */
static inline pte_t *pte_lookup(struct mm_struct *mm, u64 addr) { return pgtable_pte(mm->q, mm->pgd, addr); }
/* The same, making tables; NULL when memory is short (drop the locks, mm_reclaim(), retry). */
pte_t *pte_alloc(struct mm_struct *mm, u64 addr);
/* The entry of the page at addr, read only: of a block its part, as if it were an entry of its own. */
static inline pte_t pte_at(struct mm_struct *mm, u64 addr) { return pgtable_read(mm->q, mm->pgd, addr); }
/* The contiguous set around slot becomes single entries (break-before-make). */
void contpte_unfold(struct mm_struct *mm, pte_t *slot);
/* The only way to change an entry of an mm. */
static inline void set_pte(struct mm_struct *mm, pte_t *slot, pte_t p)
{
	if (unlikely(pte_cont(pte_read(slot))))
		contpte_unfold(mm, slot);
	pgtable_set(mm->q, slot, pte_cont(p) ? pte_mknoncont(p) : p);
}
/* n entries of one table, alone or whole contiguous sets, become none. */
static inline void clear_ptes(struct mm_struct *mm, pte_t *slot, u32 n)
{
	if (unlikely(n < CONT_PTES && pte_cont(pte_read(slot))))
		contpte_unfold(mm, slot);
	pgtable_clear(mm->q, slot, n);
}

/* Blocks of 2 MiB: whole anonymous folios.  A block lies in one VMA, counts for 512 entries in every counter, and has a table
 * in reserve, so that splitting it cannot fail.  Whoever changes a part of it splits it first. */
/* The block at addr, if there is one, becomes pages; the translations stay right.  Only a block without reserve (which
 * nobody but a test makes) may stay, for want of memory: false. */
bool mm_split_block(struct mm_struct *mm, u64 addr);
/* The same where a VMA is about to end at addr, inside the block. */
void mm_split_block_at(struct mm_struct *mm, u64 addr);
/* Maps p (a page's entry for the first frame) as a block; false when memory for tables is short, or pages are mapped there. */
bool mm_map_block(struct mm_struct *mm, u64 addr, pte_t p);
struct mmu_gather;
/* Clears a block's entry, and gathers its translation and the table that it had in reserve. */
void clear_block(struct mmu_gather *tlb, pte_t *slot, u64 addr);
/* Moves a block to another aligned address.  False when memory for the tables above is short; going back never is. */
bool mm_move_block(struct mmu_gather *tlb, pte_t *slot, u64 addr, u64 to);
/* The folio behind a present, not special entry. */
static inline struct folio *pte_folio(struct mm_struct *mm, pte_t p) { return pfn_folio(mm->q, pte_pfn(p)); }

struct mmu_gather;
/* Clears the entries of [*cursor, end): counters, rmap, swap references, parked frames.  Returns true when the whole
 * range is done, false when the transaction should be committed first (*cursor says where to go on).
 * ZAP_KEEP_COWS: only pages of the file itself (truncation), not private copies. */
#define ZAP_ALL 0u
#define ZAP_KEEP_COWS 1u
#define ZAP_KEEP_GUARDS 2u
bool zap_page_range(struct mmu_gather *tlb, u64 *cursor, u64 end, u32 flags);
/* Under no lock: the above in as many pieces as it takes, for calls that keep the VMAs (MADV_DONTNEED, truncation). */
void zap_range_pieces(struct mm_struct *mm, u64 start, u64 end, u32 flags);

/* ---- mm/gather.c: frames on their way out ----
 *
 *	struct mmu_gather tlb;
 *	tlb_gather_mmu(&tlb, mm);          remembers where this context's parked list begins
 *	  spin_lock(&mm->lock)
 *	    clear entries; tlb_remove(&tlb, addr, pages, pfn, refs)   the references pass to ctx->parked[]
 *	    if (tlb_full(&tlb)) { commit and tlb_finish_mmu() first }
 *	  tlb_flush(&tlb)                  port_tlb_flush_range() of what was gathered; before EVERY commit
 *	  spin_unlock(&mm->lock)
 *	tlb_finish_mmu(&tlb)               under no lock: sync, then the references are dropped; it can be used again
 */
struct mmu_gather {
	struct mm_struct *mm;
	struct ctx *ctx;
	u64 start, end;   /* bytes, what was cleared since the last tlb_flush() */
	u64 wp_start, wp_end; /* neighbouring entries that only lost the right to write, not flushed yet; end 0 = none */
	u32 base;         /* ctx->nparked when it began: entries below belong to others */
	struct mm_struct *outer; /* ctx->parked_mm when it began: whose those entries are */
	bool pending;     /* something was flushed that is not yet synchronised */
	bool need_memory; /* the walk stopped because a block could not be split: tlb_cycle() reclaims */
};
#define TLB_GATHER_MAX 512u
void tlb_gather_mmu(struct mmu_gather *tlb, struct mm_struct *mm);
/* pages entries from addr on were cleared or restricted; refs references to the folio of pfn go with them; 0 = none. */
void tlb_remove(struct mmu_gather *tlb, u64 addr, u64 pages, pfn_t pfn, u32 refs);
/* pages entries from addr on may still be read and executed as before, but no longer written. */
void tlb_protect(struct mmu_gather *tlb, u64 addr, u64 pages);
static inline bool tlb_full(const struct mmu_gather *tlb) { return tlb->ctx->nparked - tlb->base >= TLB_GATHER_MAX; }
void tlb_flush(struct mmu_gather *tlb);
void tlb_finish_mmu(struct mmu_gather *tlb);
/* Under no lock, anywhere: commit point of a long loop.  Flush, unlock mm->lock, finish, lock again. */
void tlb_cycle(struct mmu_gather *tlb);

/* ---- mm/rmap.c: who maps a folio.  Under q->lock ---- */
/*
 * Fork families.  All mms that come from one exec by fork() share one family; an anonymous folio knows its family and
 * its index (linear_anon_index), so its mappings are found by asking each mm of the family what it has there.
 * folio->f.mapping is meaningful only while the folio is mapped: the first mapping sets it.
 */
struct anon_family {
	struct quire *q;
	u32 refcount;            /* mms in the family; q->lock */
	struct mm_struct *mms;   /* newest first (by family_seq), linked by family_next; q->lock */
	u64 last_seq;            /* q->lock */
};
/* n more entries map the folio: mapcount, AnonPages / Mapped.  The caller has n references for them. */
void folio_add_rmap(struct quire *q, struct folio *folio, u32 n);
/* A folio's first mapping: sets mapping and index too.  addr is where the folio's page 0 would be. */
void folio_add_new_anon_rmap(struct folio *folio, struct vm_area_struct *vma, u64 addr, u32 n);
/* The same for one that may be mapped already (swap-in, fork). */
void folio_add_anon_rmap(struct folio *folio, struct vm_area_struct *vma, u64 addr, u32 n);
void folio_remove_rmap(struct quire *q, struct folio *folio, u32 n);

/* Called for each entry that maps a page of the folio, under that mm's lock too.  False = stop the walk.  The entry may
 * be changed or cleared (then: set_pte, folio_remove_rmap, counters, flush, park: the visitor's duty). */
typedef bool (*rmap_visit_fn)(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg);
enum rmap_result {
	RMAP_DONE,     /* every mapping was visited */
	RMAP_STOPPED,  /* the visitor said so */
	RMAP_BUSY,     /* an mm's lock was refused, or too many mms for one transaction: some were not visited */
};
#define RMAP_MIGRATION 2u /* visits the migration entries that stand for the folio's pages, not those that map it */
#define RMAP_KEPT 4u /* locks nothing new: visits what an earlier walk of the same transaction did */
#define RMAP_MAY_CYCLE 1u /* q->lock (held once, nothing else) may be dropped between mms: hold a reference */
/* The order of locks is mm->lock -> q->lock, so mms are locked by spin_trylock here (unless held by the caller). */
enum rmap_result rmap_walk(struct quire *q, struct folio *folio, rmap_visit_fn visit, void *arg, u32 flags);
/* Does vma map page index of its file / of its family?  Address or ~0. */
u64 vma_address(const struct vm_area_struct *vma, const struct folio *folio, u32 page);

/* ---- mm/fork.c ---- */
/* dst: fresh from mm_alloc(), empty.  Copies VMAs and entries copy-on-write, in pieces; joins src's family.  0 or
 * -ENOMEM (then dst holds a part: mmput() it).  Pages pinned in src are copied at once.  Copies the layout fields,
 * limits, exe_file (counted) and def_flags (not MCL_FUTURE) too.  Under no lock. */
int mm_dup_vmas(struct mm_struct *dst, struct mm_struct *src);

#endif
