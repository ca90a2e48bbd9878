/*
 * The page-table codec and the one walker: AArch64 VMSAv8-64 stage 1, 4 KiB granule, 48-bit addresses, four levels.
 * Source: ARM DDI 0487, D8.3 (descriptor formats), D8.4 (access permissions); software bits as Linux uses them.
 *
 *   63   58 57   56     55    54  53   52   51  50  48 47            12 11 10 9 8 7   6   5 4   2 1    0
 *  [ -    ][EXCL][SPEC][DIRTY][UXN][PXN][CONT][DBM][ 0  ][ output address ][nG][AF][ SH ][RO][USR][-][attr][T/P][V]
 *
 * Masks appear in this file only; everybody else uses the one-line accessors.
 *
 * Accessed and dirty by ARMv8.0 rules (design.md 3.3):
 *   - no AF: any access faults.
 *   - DBM is the *permission* to write ("writable"), RO (AP[2]) what the MMU obeys.  A clean writable entry has DBM and
 *     RO: the first write faults, and pte_mkdirty() sets DIRTY and clears RO.
 * EXCL says: this anonymous frame belongs to this entry alone, so a write needs no copy.  fork() clears it on both
 * sides. PROT_NONE keeps the entry valid but not accessible from EL0 (USR clear, UXN set).
 *
 * An entry that is not valid but not zero (bits 5:2 say which kind):
 *   swap      [ 0 ][      offset 50 bits, 61:12      ][EXCL 11][type 10:6][kind 5:2][0 0]
 *   migration [ 0 ][      pfn, 61:12                 ][EXCL 11][W 10][YOUNG 9][DIRTY 8][kind][0 0]
 *   guard     marks a page that must not be touched (MADV_GUARD_INSTALL)
 *
 * Tables are order-0 frames of type FRAME_PGTABLE; frame.private counts their non-zero entries, so that an empty table
 * is known without looking; frame.index is the first address it maps.  Tables are reached through the direct map.
 *
 * A block comes with a table in reserve, so that it can be split when there is no memory: the reserves of a level-2 table's
 * blocks hang on its record (frame.next), and count among the tree's tables.
 *
 * The contiguous hint stands in all 16 entries of an aligned 64 KiB that leads to as many aligned frames with the same attributes, or
 * in none (ARM DDI 0487, D8.6.1).  pgtable_fill() sets it; whoever changes one entry takes it off all of them first (mm/memory.c).
 *
 * Locks: user tables mm->lock, the kernel's q->lock.  Entries are read by MMUs without any lock, so each store is
 * one aligned 64-bit store.
 */
#ifndef QUIRE_PGTABLE_H
#define QUIRE_PGTABLE_H
#include <quire/phys.h>
#include <quire/types.h>

typedef struct { u64 v; } pte_t;

#define PT_LEVELS 4
#define PT_ENTRIES 512u
#define PT_LAST_LEVEL 3
#define VA_BITS 48
/* Bytes that one entry of a level maps: level 3 = 4 KiB, 2 = 2 MiB, 1 = 1 GiB, 0 = 512 GiB. */
static inline unsigned pt_shift(int level) { return PAGE_SHIFT + 9u * (unsigned)(PT_LAST_LEVEL - level); }
static inline u64 pt_size(int level) { return 1ull << pt_shift(level); }
static inline unsigned pt_index(u64 addr, int level) { return (unsigned)(addr >> pt_shift(level)) & (PT_ENTRIES - 1); }
#define PMD_SIZE (1ull << 21)
#define CONT_PTE_SIZE (1ull << 16)
#define CONT_PTES 16u

#define PTE_VALID BIT(0)
#define PTE_TABLE BIT(1)      /* levels 0-2: table, not block; level 3: must be set (page) */
#define PTE_ATTR_SHIFT 2      /* AttrIndx: 0 = normal memory, 1 = device */
#define PTE_USER BIT(6)       /* AP[1] */
#define PTE_RDONLY BIT(7)     /* AP[2] */
#define PTE_SH_INNER (3ull << 8)
#define PTE_AF BIT(10)
#define PTE_NG BIT(11)
#define PTE_ADDR_MASK 0x0000fffffffff000ull
#define PTE_DBM BIT(51)
#define PTE_CONT BIT(52)
#define PTE_PXN BIT(53)
#define PTE_UXN BIT(54)
#define PTE_DIRTY BIT(55)     /* software */
#define PTE_SPECIAL BIT(56)   /* software: no struct frame accounting (zero page, devices) */
#define PTE_EXCL BIT(57)      /* software */

/* Protections: what vm_get_page_prot() and vmalloc give.  Never with AF or DIRTY for user pages. */
#define PROT_PTE_BASE (PTE_VALID | PTE_TABLE | PTE_SH_INNER)
#define PAGE_NONE_PROT (PROT_PTE_BASE | PTE_NG | PTE_RDONLY | PTE_PXN | PTE_UXN)
#define PAGE_READONLY_PROT (PAGE_NONE_PROT | PTE_USER)
#define PAGE_READONLY_EXEC_PROT (PAGE_READONLY_PROT & ~PTE_UXN)
#define PAGE_SHARED_PROT (PAGE_READONLY_PROT | PTE_DBM)
#define PAGE_SHARED_EXEC_PROT (PAGE_READONLY_EXEC_PROT | PTE_DBM)
#define PAGE_KERNEL_PROT (PROT_PTE_BASE | PTE_AF | PTE_PXN | PTE_UXN | PTE_DBM | PTE_DIRTY)
#define PAGE_KERNEL_RO_PROT ((PAGE_KERNEL_PROT & ~(PTE_DBM | PTE_DIRTY)) | PTE_RDONLY)
#define PTE_PROT_MASK (PTE_USER | PTE_RDONLY | PTE_DBM | PTE_PXN | PTE_UXN | PTE_NG)

static inline pte_t __pte(u64 v) { return (pte_t){v}; }
static inline bool pte_none(pte_t p) { return p.v == 0; }
static inline bool pte_valid(pte_t p) { return p.v & PTE_VALID; }
static inline bool pte_present(pte_t p) { return pte_valid(p); } /* Linux's name */
/* At levels 0-2. */
static inline bool pte_table(pte_t p) { return (p.v & (PTE_VALID | PTE_TABLE)) == (PTE_VALID | PTE_TABLE); }
static inline bool pte_block(pte_t p) { return (p.v & (PTE_VALID | PTE_TABLE)) == PTE_VALID; }
static inline u64 pte_addr(pte_t p) { return p.v & PTE_ADDR_MASK; }
static inline pfn_t pte_pfn(pte_t p) { return (pfn_t)(pte_addr(p) >> PAGE_SHIFT); }
static inline bool pte_young(pte_t p) { return p.v & PTE_AF; }
static inline bool pte_user(pte_t p) { return p.v & PTE_USER; }
static inline bool pte_write(pte_t p) { return p.v & PTE_DBM; }
static inline bool pte_rdonly(pte_t p) { return p.v & PTE_RDONLY; }
static inline bool pte_exec(pte_t p) { return !(p.v & PTE_UXN); }
static inline bool pte_hw_dirty(pte_t p) { return pte_write(p) && !pte_rdonly(p); }
static inline bool pte_dirty(pte_t p) { return (p.v & PTE_DIRTY) || pte_hw_dirty(p); }
static inline bool pte_special(pte_t p) { return p.v & PTE_SPECIAL; }
static inline bool pte_excl(pte_t p) { return p.v & PTE_EXCL; }
static inline bool pte_cont(pte_t p) { return (p.v & (PTE_CONT | PTE_VALID)) == (PTE_CONT | PTE_VALID); }

static inline pte_t pfn_pte(pfn_t pfn, u64 prot) { return __pte(((u64)pfn << PAGE_SHIFT) | prot); }
static inline pte_t pte_mktable(pfn_t pfn) { return __pte(((u64)pfn << PAGE_SHIFT) | PTE_VALID | PTE_TABLE); }
static inline pte_t pte_mkblock(pte_t p) { return __pte(p.v & ~PTE_TABLE); }
static inline pte_t pte_mkyoung(pte_t p) { return __pte(p.v | PTE_AF); }
static inline pte_t pte_mkold(pte_t p) { return __pte(p.v & ~PTE_AF); }
static inline pte_t pte_mkspecial(pte_t p) { return __pte(p.v | PTE_SPECIAL); }
static inline pte_t pte_mkexcl(pte_t p) { return __pte(p.v | PTE_EXCL); }
static inline pte_t pte_clear_excl(pte_t p) { return __pte(p.v & ~PTE_EXCL); }
static inline pte_t pte_mkcont(pte_t p) { return __pte(p.v | PTE_CONT); }
static inline pte_t pte_mknoncont(pte_t p) { return __pte(p.v & ~PTE_CONT); }
static inline pte_t pte_mkdirty(pte_t p)
{
	return __pte((p.v | PTE_DIRTY) & ~(pte_write(p) ? PTE_RDONLY : 0));
}
static inline pte_t pte_mkclean(pte_t p) { return __pte((p.v & ~PTE_DIRTY) | PTE_RDONLY); }
static inline pte_t pte_mkwrite(pte_t p)
{
	return __pte((p.v | PTE_DBM) & ~((p.v & PTE_DIRTY) ? PTE_RDONLY : 0));
}
/* Keeps what the MMU may have recorded: a hardware-dirty entry becomes software-dirty. */
static inline pte_t pte_wrprotect(pte_t p)
{
	return __pte((p.v | PTE_RDONLY | (pte_hw_dirty(p) ? PTE_DIRTY : 0)) & ~PTE_DBM);
}
/* The same frame, young, dirty, special and exclusive state under another protection. */
static inline pte_t pte_modify(pte_t p, u64 prot)
{
	u64 dirty = pte_dirty(p) ? PTE_DIRTY : 0;
	pte_t n = __pte((p.v & ~(PTE_PROT_MASK | PTE_DIRTY)) | (prot & PTE_PROT_MASK) | dirty);

	return dirty && pte_write(n) ? pte_mkdirty(n) : n;
}

/* ---- entries that are not valid ---- */
enum pte_kind { PTE_KIND_NONE = 0, PTE_KIND_SWAP = 1, PTE_KIND_MIGRATION = 2, PTE_KIND_GUARD = 3 };
#define PTE_KIND_SHIFT 2
#define PTE_KIND_MASK (0xfull << PTE_KIND_SHIFT)
#define PTE_SWP_TYPE_SHIFT 6
#define PTE_SWP_TYPE_MASK 0x1full
#define PTE_SWP_EXCL BIT(11)
#define PTE_MIG_WRITE BIT(10)
#define PTE_MIG_YOUNG BIT(9)
#define PTE_MIG_DIRTY BIT(8)
#define PTE_SWP_OFF_SHIFT 12
#define PTE_SWP_OFF_MASK ((1ull << 50) - 1)

/* A swap entry outside a page table (hooks, frame.private): type in bits 54:50, offset below.  Never 0: slot 0 of
 * every area is its header, as on Linux. */
#define SWP_TYPE_SHIFT 50
#define MAX_SWAPFILES 32u
static inline u64 swp_entry(unsigned type, u64 offset) { return ((u64)type << SWP_TYPE_SHIFT) | offset; }
static inline unsigned swp_type(u64 entry) { return (unsigned)(entry >> SWP_TYPE_SHIFT); }
static inline u64 swp_offset(u64 entry) { return entry & PTE_SWP_OFF_MASK; }

static inline enum pte_kind pte_kind(pte_t p)
{
	return pte_valid(p) ? PTE_KIND_NONE : (enum pte_kind)((p.v & PTE_KIND_MASK) >> PTE_KIND_SHIFT);
}
static inline bool pte_is_swap(pte_t p) { return pte_kind(p) == PTE_KIND_SWAP; }
static inline bool pte_is_migration(pte_t p) { return pte_kind(p) == PTE_KIND_MIGRATION; }
static inline bool pte_is_guard(pte_t p) { return pte_kind(p) == PTE_KIND_GUARD; }
static inline pte_t swp_entry_to_pte(u64 entry, bool exclusive)
{
	return __pte((swp_offset(entry) << PTE_SWP_OFF_SHIFT) | ((u64)swp_type(entry) << PTE_SWP_TYPE_SHIFT) |
		     (exclusive ? PTE_SWP_EXCL : 0) | ((u64)PTE_KIND_SWAP << PTE_KIND_SHIFT));
}
static inline u64 pte_to_swp_entry(pte_t p)
{
	return swp_entry((unsigned)((p.v >> PTE_SWP_TYPE_SHIFT) & PTE_SWP_TYPE_MASK),
			 (p.v >> PTE_SWP_OFF_SHIFT) & PTE_SWP_OFF_MASK);
}
static inline bool pte_swp_excl(pte_t p) { return p.v & PTE_SWP_EXCL; }
static inline pte_t pte_swp_clear_excl(pte_t p) { return __pte(p.v & ~PTE_SWP_EXCL); }
/* A page on the move: `old` is the entry it replaces, whose share of the folio's mapcount and references it keeps. */
static inline pte_t pte_mkmigration(pte_t old)
{
	return __pte(((u64)pte_pfn(old) << PTE_SWP_OFF_SHIFT) | ((u64)PTE_KIND_MIGRATION << PTE_KIND_SHIFT) |
		     (pte_excl(old) ? PTE_SWP_EXCL : 0) | (pte_write(old) ? PTE_MIG_WRITE : 0) |
		     (pte_young(old) ? PTE_MIG_YOUNG : 0) | (pte_dirty(old) ? PTE_MIG_DIRTY : 0));
}
static inline pfn_t pte_migration_pfn(pte_t p) { return (pfn_t)(p.v >> PTE_SWP_OFF_SHIFT); }
static inline pte_t pte_mkguard(void) { return __pte((u64)PTE_KIND_GUARD << PTE_KIND_SHIFT); }

/* The one way to read and to write an entry in memory.  MMUs of other CPUs read at the same time. */
static inline pte_t pte_read(const pte_t *slot)
{
#ifdef __SANITIZE_THREAD__
	return __pte(__atomic_load_n(&slot->v, __ATOMIC_RELAXED));
#else
	return __pte(READ_ONCE(slot->v));
#endif
}
static inline void pte_store(pte_t *slot, pte_t p)
{
#ifdef __SANITIZE_THREAD__
	__atomic_store_n(&slot->v, p.v, __ATOMIC_RELEASE);
#else
	WRITE_ONCE(slot->v, p.v);
#endif
}

/* ---- lib/pgtable.c: the walker ---- */
/* One tree of tables.  pgd: physical address of the level-0 table, 0 = none yet. */
struct pgtable {
	struct quire *q;
	u64 *pgd;
	u64 *bytes; /* grows and shrinks with the tables; NULL = not counted */
};

/* The slot for addr at the deepest level that exists, and that level; NULL if there is no level-0 table. */
pte_t *pgtable_lookup(struct quire *q, u64 pgd, u64 addr, int *level);
/* The level-3 slot for addr; NULL if a table is missing or a block maps it. */
pte_t *pgtable_pte(struct quire *q, u64 pgd, u64 addr);
/* The slot at `level` (0-3), making the tables above it.  NULL when out of memory (tables made so far stay, empty
 * ones are found by pgtable_free_empty) or when a block is in the way. */
pte_t *pgtable_alloc(const struct pgtable *pt, u64 addr, int level);
/* Stores an entry and keeps the table's count of live entries. */
void pgtable_set(struct quire *q, pte_t *slot, pte_t p);
/* The same in two steps, for many entries of a table that were none, in one transaction: each is stored, then so many of them counted. */
void pgtable_store(pte_t *slot, pte_t p);
void pgtable_count(struct quire *q, pte_t *slot, u32 n);
/* n none entries of one level-3 table lead to consecutive frames, p being the first; n entries become none.  As
 * pgtable_set() for each, but the count is touched once. */
void pgtable_fill(struct quire *q, pte_t *slot, pte_t p, u32 n);
void pgtable_clear(struct quire *q, pte_t *slot, u32 n);

/* Walks the non-zero leaf entries (pages, blocks, non-present kinds) of [addr, end) in order.
 *   struct pt_iter it; pt_iter_init(&it, q, pgd, start, end);
 *   while (pt_iter_next(&it)) use(it.addr, it.slot, it.level);
 * The caller may clear or change entries; it must start again with a new iterator after dropping the lock. */
struct pt_iter {
	struct quire *q;
	u64 pgd;
	u64 addr;  /* of the current entry (start of its page, or of the block clipped to the range) */
	u64 next;  /* where to look next */
	u64 end;
	pte_t *slot;
	int level;
};
void pt_iter_init(struct pt_iter *it, struct quire *q, u64 pgd, u64 start, u64 end);
bool pt_iter_next(struct pt_iter *it);
/* The table under the iterator has changed (a block was split): the next step looks at the same address again. */
static inline void pt_iter_again(struct pt_iter *it)
{
	it->next = it->addr;
	it->slot = NULL;
}

/* Takes one empty table that lies wholly or partly in [*cursor, end) out of the tree (deepest first, never the root)
 * and returns its frame, counters updated, or NULL if none is left.  *cursor starts as the range's start and only
 * grows. The caller flushes and then frees the frame. */
struct frame *pgtable_take_empty(const struct pgtable *pt, u64 *cursor, u64 end);
/* The root, which must be empty; NULL if there is none. */
struct frame *pgtable_take_root(const struct pgtable *pt);

/* ---- blocks of 2 MiB ---- */
/* The block that maps addr, or NULL. */
pte_t *pgtable_block(struct quire *q, u64 pgd, u64 addr);
/* The entry of the page at addr as a level-3 one, also if a block maps it; zero when there is none. */
pte_t pgtable_read(struct quire *q, u64 pgd, u64 addr);
/* The level-2 slot for addr, without an entry, with a table in reserve for it; NULL: out of memory, or pages are mapped there.
 * An empty table in the way becomes the reserve, and its translation is to be flushed before the block is stored; else that of
 * the block in slot `from` (if not NULL), which is about to move; else a new one. */
enum reserve_source { RESERVE_NEW, RESERVE_MOVED, RESERVE_WAS_TABLE };
pte_t *pgtable_block_slot(const struct pgtable *pt, u64 addr, pte_t *from, enum reserve_source *source);
/* Takes a table out of the reserve of a slot whose block is gone; NULL if it had none.  The caller flushes and frees it. */
struct frame *pgtable_take_reserve(const struct pgtable *pt, pte_t *slot);
/* A block becomes 512 pages with the same attributes, in two steps: the table is filled, and stored in the block's place
 * (which the caller has cleared and flushed in between, if the port wants that).  NULL: it had no reserve, and memory is short. */
struct frame *pgtable_split_fill(const struct pgtable *pt, pte_t *slot, u64 addr);
void pgtable_split_store(const struct pgtable *pt, pte_t *slot, struct frame *table);
/* Both steps at once.  0 (also if no block maps addr) or -ENOMEM. */
int pgtable_split_block(const struct pgtable *pt, u64 addr);
/* Every table's count is right, no empty tables (unless allowed), *bytes (tables below the root) agrees.  Reports
 * through quire_log. */
bool pgtable_is_valid(const struct pgtable *pt, bool empty_ok);

#endif
