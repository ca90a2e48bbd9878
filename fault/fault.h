/*
 * What the files of fault/ share.  Sections by owning file.
 *
 * How a fault runs
 *
 *   do_mem_abort (abort.c)        table by fault status code
 *     do_page_fault (fault.c)     ESR -> flags; verdict -> signal
 *       fault_run                 the loop:
 *         fault_begin             mm->lock: a transaction opens
 *         fault_step              VMA, rights, handle_mm_fault: one look at the entry, one step
 *         fault_end               commit; stale translations are synchronised, frames that left are freed
 *         fault_service           what the step needs and no lock allows: memory, file bytes, swap devices, zeroes, stack growth
 *
 * A step never waits.  If it lacks something it says what (vmf->need) and returns VM_FAULT_RETRY; the loop commits,
 * serves the need with no lock held, and runs the step again from the VMA on: nothing that was seen before is
 * believed, except vmf->spare, a folio held in ctx->parked[] whose bytes were prepared in between.
 *
 * Locks: a step runs under mm->lock, and takes q->lock inside for folios and counters, as late as it can.
 */
#ifndef QUIRE_FAULT_INTERNAL_H
#define QUIRE_FAULT_INTERNAL_H
#include <file/filemap.h>
#include <mm/mm.h>
#include <quire/machine.h>
#include <swap/swap.h>

#define SIGBUS_NO 7
#define SIGKILL_NO 9
#define SIGSEGV_NO 11
#define SEGV_MAPERR 1
#define SEGV_ACCERR 2
#define BUS_ADRALN 1
#define BUS_ADRERR 2
#define BUS_OBJERR 3
#define SI_KERNEL 0x80

/* Frames for user memory.  The copies below need kernel addresses, so HighMem is not asked for. */
#define GFP_FAULT (GFP_HIGHUSER_MOVABLE & ~__GFP_HIGHMEM)
#define GFP_FAULT_LARGE (GFP_TRANSHUGE_LIGHT & ~__GFP_HIGHMEM)
/* Pages of the blocks in which copy-on-write copies and large anonymous folios come. */
#define BLOCK_PAGES (1u << CONT_PTE_ORDER)

enum fault_flag {
	FAULT_FLAG_WRITE = 1u << 0,
	FAULT_FLAG_INSTRUCTION = 1u << 1,
	FAULT_FLAG_USER = 1u << 2,   /* from EL0: ends in a signal, not in a fixup */
	FAULT_FLAG_REMOTE = 1u << 3, /* get_user_pages: no access took place, nothing to count as one */
	FAULT_FLAG_FORCE = 1u << 4,  /* FOLL_FORCE: may read what is not readable, and write private copies */
};

/* How a step or the whole fault ended. */
enum vm_fault_reason {
	VM_FAULT_DONE = 0,  /* the entry allows the access now */
	VM_FAULT_RETRY,     /* vmf->need says why */
	VM_FAULT_BADMAP,    /* SEGV_MAPERR */
	VM_FAULT_BADACCESS, /* SEGV_ACCERR */
	VM_FAULT_SIGBUS,    /* beyond the end of the file, or it could not be read */
	VM_FAULT_OOM,
};

enum vm_fault_need {
	NEED_NOTHING,    /* just look again */
	NEED_MEMORY,     /* an allocation failed */
	NEED_PAGE_CACHE, /* page pgoff of need_file */
	NEED_CLEAR,      /* vmf->spare is to be zeroed */
	NEED_BYTES,      /* vmf->spare is to be filled with page pgoff of need_file (tokens) */
	NEED_STACK,      /* expand_stack(mm, address) */
	NEED_MM_IDLE,    /* a mapping call is at work here */
	NEED_MIGRATION,  /* the page is on the move */
	NEED_SWAP,       /* vmf->spare is to be filled with vmf->swap (swap.c) */
	NEED_SWAP_BLOCK, /* vmf->spare is to be filled with vmf->block[] (swapblock.c) */
	NEED_SWAP_ROOM,  /* all rooms for decompressing are in use (swap/room.c) */
};

enum spare_state { SPARE_RAW, SPARE_CLEAR, SPARE_BYTES, SPARE_SWAP, SPARE_SWAP_BLOCK };

/* One fault.  Belongs to its context. */
struct vm_fault {
	struct mm_struct *mm;
	struct quire *q;
	u64 far;                     /* byte address of the access */
	u64 address;                 /* its page */
	u32 flags;                   /* enum fault_flag */

	/* Valid while mm->lock is held: */
	struct vm_area_struct *vma;
	pte_t *slot;                 /* level-3 slot of address */
	pte_t orig;                  /* what it held */
	u64 pgoff;                   /* page of the file, file VMAs only */

	/* What the step lacks: */
	enum vm_fault_need need;
	struct file *need_file;      /* counted */
	bool need_random;            /* the VMA says that neighbours are of no use */
	bool dirtied;                /* a page of a shared file: too many of them, and the fault waits in the end */

	/* A folio prepared between two steps; held (file/hold.c). */
	struct folio *spare;
	enum spare_state spare_state;
	u64 spare_base;              /* user address its first byte is meant for */
	struct file *spare_file;     /* SPARE_BYTES: where the bytes are from; counted */
	u64 spare_pgoff;
	struct swap_read swap;       /* NEED_SWAP, SPARE_SWAP: what is, or was, to be read */
	int swap_err;                /* SPARE_SWAP: 0, or why it could not be read; with swap_error: why */
	u32 nblock;                  /* pages of a block on its way in (swapblock.c); their slots are held */
	bool no_block;               /* that, or a block of bytes, failed: the page comes alone */
	u64 block[BLOCK_PAGES];      /* their entries */

	struct mmu_gather tlb;
	bool tlb_used;               /* this step cleared or restricted entries */
	bool major;                  /* waited for I/O */
	bool accounted;              /* counted in vm_events already, where q->lock was held anyway */
	u64 swap_error;              /* entry whose page could not be read; 0 = none */
	unsigned tries;              /* reclaim attempts without progress */
};

/* Names a function of the fault's path for `quire lab`. */
static inline void fault_trace(struct quire *q, const char *fn)
{
	if (unlikely(q->trace_faults) && q->trace.n < ARRAY_SIZE(q->trace.fn))
		q->trace.fn[q->trace.n++] = fn;
}
#define FAULT_TRACE(q, name) fault_trace(q, name)

/* ---- fault.c ---- */
/* Runs one fault to its end.  Under no lock. */
enum vm_fault_reason fault_run(struct vm_fault *vmf, struct mm_struct *mm, u64 far, u32 flags);
/* Inside a step: the stale translation of an entry that was cleared must go, and refs references to pfn's folio with
 * it. */
void fault_gather(struct vm_fault *vmf, u64 addr, u64 pages, pfn_t pfn, u32 refs);
static inline enum vm_fault_reason fault_retry(struct vm_fault *vmf, enum vm_fault_need need)
{
	vmf->need = need;
	return VM_FAULT_RETRY;
}
/* Counts the fault in vm_events, once.  Under q->lock, when the step is as good as done. */
void fault_count(struct vm_fault *vmf);
/* The step needs page vmf->pgoff of its VMA's file. */
enum vm_fault_reason fault_need_file(struct vm_fault *vmf, enum vm_fault_need need);
/* May this access (enum fault_flag) take place in a VMA with these flags? */
bool fault_access_allowed(u32 flags, u64 vm_flags);
static inline bool fault_is_write(const struct vm_fault *vmf) { return vmf->flags & FAULT_FLAG_WRITE; }

/* ---- spare.c: vmf->spare ---- */
/* The spare, if it is for this block and in this state; else NULL, and an unfit one is given back. */
struct folio *spare_for(struct vm_fault *vmf, u64 base, unsigned order, enum spare_state state);
/* A folio that was allocated in this step becomes the spare, for base; false (and it is free again) when no more can be held. */
bool spare_keep(struct vm_fault *vmf, struct folio *folio, u64 base);
/* Allocates a page as the spare for base; false when memory is short. */
bool spare_alloc(struct vm_fault *vmf, u64 base);
/* Inside a step: it is not wanted any more. */
void spare_give_back(struct vm_fault *vmf);
/* The step installs it: one reference, the caller's. */
struct folio *spare_take(struct vm_fault *vmf);
/* Under no lock. */
void spare_drop(struct vm_fault *vmf);
/* May a folio of this order be spent to save faults?  Under mm->lock. */
bool memory_allows(struct quire *q, unsigned order);
/* The same for the block at base, whose entries are in the table of vmf->slot; also while memory is not ample, if a stream of
 * accesses arrives there and reclaim keeps up. */
bool block_allowed(const struct vm_fault *vmf, u64 base, unsigned order);

/* ---- abort.c's table entries ---- */
enum fault_result do_page_fault(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info);

/* ---- memory.c: the dispatcher and what several kinds of fault share.  Under mm->lock ---- */
enum vm_fault_reason handle_mm_fault(struct vm_fault *vmf);
/* The slot of addr in the same table as vmf->slot. */
static inline pte_t *slot_at(const struct vm_fault *vmf, u64 addr)
{
	return vmf->slot + ((s64)(addr - vmf->address) >> PAGE_SHIFT);
}
/* Does the aligned block of pages around address lie inside the VMA? */
bool block_in_vma(const struct vm_fault *vmf, u64 base, u64 pages);
/* Are all entries of [base, base + pages) none?  They lie in the table of vmf->slot. */
bool block_is_none(const struct vm_fault *vmf, u64 base, u64 pages);
/* Maps a new anonymous folio (one reference, the caller's) at [base, ...), whose entries are none: references, rmap,
 * LRU, counters, entries.  Under q->lock, too: taken once for all of it. */
void map_new_anon(struct vm_fault *vmf, struct folio *folio, u64 base);
/* The same without the entries, which the caller has made or will make in this step. */
void count_new_anon(struct vm_fault *vmf, struct folio *folio, u64 base);
/* The entry of a page of our own. */
pte_t new_anon_pte(const struct vm_area_struct *vma, pfn_t pfn);

/* ---- anonymous.c, cow.c, filefault.c ---- */
enum vm_fault_reason do_anonymous_page(struct vm_fault *vmf);
/* A write where not even a level-3 table with entries is: 2 MiB as one block, if policy, place and memory allow it.
 * VM_FAULT_OOM: they do not, go on by pages. */
enum vm_fault_reason do_huge_anonymous_page(struct vm_fault *vmf);
/* A write to a block without the right to write; vmf->slot is the block's.  VM_FAULT_RETRY: it must be split. */
bool wp_block_reuse(struct vm_fault *vmf);
/* A write to a present entry without the right to write. */
enum vm_fault_reason do_wp_page(struct vm_fault *vmf);
/* A swap entry: swap.c. */
enum vm_fault_reason do_swap_page(struct vm_fault *vmf);
/* Under no lock: a page could not be read. */
void fault_report_swap_error(struct vm_fault *vmf);
/* Serves NEED_SWAP, and reads neighbours along with it: swapin.c. */
enum vm_fault_reason serve_swap(struct vm_fault *vmf);
/* ---- swapblock.c: inside a step, unless noted ---- */
/* Can the swapped pages around the address come back as one folio?  Then it is the spare, and NEED_SWAP_BLOCK has to be served. */
bool swap_block_begin(struct vm_fault *vmf);
/* Under no lock: serves that. */
enum vm_fault_reason serve_swap_block(struct vm_fault *vmf);
/* Maps the SPARE_SWAP_BLOCK; false (and it is given back) if something has changed. */
bool swap_block_finish(struct vm_fault *vmf);
/* Under q->lock: the slots of a block are held no more. */
void swap_block_release(struct vm_fault *vmf);

/* ---- filefault.c ---- */
/* No entry yet, in a VMA with a file. */
enum vm_fault_reason do_file_fault(struct vm_fault *vmf);

/* ---- cowblock.c ---- */
/* The step needs a private copy of a token's bytes: the prepared spare and the address it is for, or NULL and *r. */
struct folio *token_copy(struct vm_fault *vmf, u64 *base, enum vm_fault_reason *r);
/* Maps that copy in place of what is there. */
void map_token_copy(struct vm_fault *vmf, struct folio *copy, u64 base);

#endif
