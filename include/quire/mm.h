/*
 * Address spaces: mm_struct, VMAs and the mmap family.  See mm/mm.h for what floors inside the core share
 * (page tables, gather, rmap).
 *
 * Locks.  mm->mmap_lock (mutex) serialises everything that changes the VMA tree, for a whole system call.
 * mm->lock (spin) opens a transaction and protects VMAs and page tables; page faults need only this one.
 * A long operation commits in pieces: it drops and retakes mm->lock while it keeps mmap_lock, so faults may
 * come in between and every piece must leave a valid tree.
 */
#ifndef QUIRE_MM_H
#define QUIRE_MM_H
#include <quire/types.h>
#include <range_tree.h>
#include <sync.h>

struct quire;
struct file;
struct task;
struct address_space;
struct anon_family;
struct mm_struct;
struct guest_abi;

/* VMA flags: Linux's values (include/linux/mm.h), so that smaps' VmFlags can be derived. */
#define VM_READ 0x1ul
#define VM_WRITE 0x2ul
#define VM_EXEC 0x4ul
#define VM_SHARED 0x8ul
#define VM_MAYREAD 0x10ul
#define VM_MAYWRITE 0x20ul
#define VM_MAYEXEC 0x40ul
#define VM_MAYSHARE 0x80ul
#define VM_GROWSDOWN 0x100ul
#define VM_PFNMAP 0x400ul
#define VM_MAYBE_GUARD 0x800ul
#define VM_LOCKED 0x2000ul
#define VM_IO 0x4000ul
#define VM_SEQ_READ 0x8000ul
#define VM_RAND_READ 0x10000ul
#define VM_DONTCOPY 0x20000ul
#define VM_DONTEXPAND 0x40000ul
#define VM_LOCKONFAULT 0x80000ul
#define VM_ACCOUNT 0x100000ul
#define VM_NORESERVE 0x200000ul
#define VM_SYNC 0x800000ul
#define VM_WIPEONFORK 0x2000000ul
#define VM_DONTDUMP 0x4000000ul
#define VM_SOFTDIRTY 0x8000000ul
#define VM_MIXEDMAP 0x10000000ul
#define VM_HUGEPAGE 0x20000000ul
#define VM_NOHUGEPAGE 0x40000000ul
#define VM_MERGEABLE 0x80000000ul
/* The memory policy (mm/policy.c): mode, its flags and whether it names node 0; 0 = default.  In vm_flags, so that VMAs with
 * different policies stay apart as on Linux. */
#define VM_POLICY_SHIFT 48
#define VM_POLICY_MASK (0x7ful << VM_POLICY_SHIFT)
#define VM_DROPPABLE (1ul << 40)
#define VM_DENYWRITE (1ul << 41) /* MAP_DENYWRITE: who mapped it, a loader, says that nobody writes to the file */
#define VM_SEALED (1ul << 63)

/* One mapped range.  All fields: mm->lock (writers also mm->mmap_lock). */
struct vm_area_struct {
	struct range_node node;      /* [start, end) in bytes: vma_start(), vma_end() */
	struct mm_struct *vm_mm;     /* immutable */
	u64 vm_flags;
	u64 vm_pgoff;                /* page offset in file; anonymous: start >> PAGE_SHIFT at creation */
	struct file *vm_file;        /* counted reference, or NULL */
	struct anon_family *anon;    /* family at first anonymous fault (vma_prepare_anon), or NULL */
	u64 anon_pgoff;              /* page number of start by which anonymous folios are indexed: start >> PAGE_SHIFT
				      * unless the VMA moved after its first anonymous fault */
	u64 anon_id;                 /* which anon_vma Linux would have here (decides merging); 0 = none */
	bool anon_forked;            /* Linux's anon_vma_chain would not be singular: pages may be shared with a parent */
	struct vm_area_struct *moved_next, *moved_prev; /* mm->moved_vmas, if anon_pgoff is not linear */
	u64 i_mmap_seq;              /* grows with every insertion into an i_mmap; q->lock */
	const char *name;            /* "[heap]"-like names of special mappings, or NULL */
	u64 host_private;            /* port's own (hosted: kind of host mapping); copied on split and fork */
	u64 ra_last, ra_size;        /* sequential-touch detector: next expected page, batch in pages */
	/* file VMAs: links of address_space.i_mmap, q->lock */
	struct vm_area_struct *i_mmap_next, *i_mmap_prev;
};
static inline u64 vma_start(const struct vm_area_struct *v) { return v->node.start; }
static inline u64 vma_end(const struct vm_area_struct *v) { return v->node.end; }
static inline u64 vma_pages(const struct vm_area_struct *v) { return (v->node.end - v->node.start) >> PAGE_SHIFT; }
static inline bool vma_is_anonymous(const struct vm_area_struct *v) { return !v->vm_file && !(v->vm_flags & VM_PFNMAP); }

enum { MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES, NR_MM_COUNTERS };

enum oom_reaped { OOM_REAP_NONE, OOM_REAP_BEGUN, OOM_REAP_DONE };

struct mm_struct {
	struct quire *q;             /* immutable */
	struct mutex mmap_lock;
	struct spinlock lock;
	u32 users;                   /* tasks on this mm; q->lock */
	u32 dying;                   /* exit_mmap has begun; mm->lock */
	const struct guest_abi *abi; /* immutable after exec */
	struct range_tree vmas;      /* mm->lock */
	u64 pgd;                     /* physical address of the level-0 table; 0 = none; mm->lock */
	u64 pgtables_bytes;          /* mm->lock */
	s64 rss[NR_MM_COUNTERS];     /* pages; mm->lock */
	u64 hiwater_rss, hiwater_vm; /* pages; mm->lock */
	u64 total_vm, locked_vm, pinned_vm, data_vm, exec_vm, stack_vm; /* pages; mm->lock */
	u64 def_flags;               /* mlockall(MCL_FUTURE), PR_SET_THP_DISABLE; mm->lock */
	u64 mmap_base, task_size;    /* bytes; set by exec */
	bool mmap_bottom_up;         /* mmap_base is the lowest address for new mappings, not the highest; set by exec */
	u64 start_code, end_code, start_data, end_data;
	u64 start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end;
	u64 rlim_as, rlim_data, rlim_stack, rlim_memlock; /* bytes; ~0 = unlimited; mm->lock */
	bool cap_ipc_lock;           /* may exceed rlim_memlock */
	bool cap_sys_rawio;          /* may map below mmap_min_addr */
	u64 map_seq;                 /* changes with every change of the VMA tree; mm->lock */
	struct file *exe_file;       /* counted */
	u64 saved_auxv[64];          /* /proc/PID/auxv */
	struct anon_family *anon;    /* the fork family this mm belongs to; q->lock for membership */
	struct mm_struct *family_next, *family_prev; /* q->lock */
	struct mm_struct *all_next, *all_prev;       /* q->mms; q->lock */
	u64 min_flt, maj_flt;        /* mm->lock */
	u64 port_data[8];            /* port's own, set by port_mm_init */
	void *port_mm;               /* port's own */
	u32 nr_moved_vmas;           /* VMAs whose anon_pgoff is not start >> PAGE_SHIFT (after mremap); mm->lock */
	struct vm_area_struct *moved_vmas; /* and their list; mm->lock */
	u64 busy_start, busy_end;    /* bytes being unmapped or moved in several pieces; see mm/mm.h; mm->lock */
	u64 busy2_start, busy2_end;  /* where mremap is moving them to; mm->lock */
	struct vm_area_struct *spare_vmas; /* (node.start is the link) VMAs in reserve, so that no step fails; mm->lock */
	u32 nr_spare_vmas;
	struct vm_area_struct *dead_vmas;  /* unmapped, their last file reference still to be dropped; mm->lock */
	u64 last_anon_id;            /* mm->lock */
	u64 family_seq;              /* grows along the family's list, newest first; q->lock */
	s32 oom_score_adj;
	u32 mdwe;                    /* PR_MDWE_*; mm->lock */
	u32 oom_reaped;              /* enum oom_reaped: private pages are being, or were, taken from a victim; mm->lock */
	u32 unsynced;                /* batches of reclaim whose flushes are not synchronised yet; mm->lock */
};

/* What differs by the instruction set and OS flavour of the guest (design.md 3.4). */
struct guest_abi {
	const char *name;
	u64 task_size;             /* first byte beyond user space */
	u64 stack_top;
	u64 elf_et_dyn_base;
	u64 mmap_min_addr;
	u64 map_32bit_end;         /* MAP_32BIT limit; 0 = flag unknown */
	u16 elf_machine;           /* EM_* */
	const char *platform;      /* AT_PLATFORM */
	bool read_implies_exec_ok;
	u64 mmap_rnd_pages;        /* mmap base and PIE base move by fewer pages than this (a power of two) */
	u64 stack_rnd_pages;       /* the same for the stack's top */
	u64 brk_rnd_bytes;         /* and for the start of the heap */
};

/* ---- mm/mm.c ---- */
struct mm_struct *mm_alloc(struct quire *q, const struct guest_abi *abi); /* users = 1; NULL if out of memory */
void mmget(struct mm_struct *mm);
void mmput(struct mm_struct *mm); /* the last one runs exit_mmap.  Under no lock. */
/* A reference that only the calling context knows of (mm_alloc and mmget give one, mmput takes it back) stands in
 * ctx->mms[], so that it is not lost if the context dies.  Whoever writes such a reference into a structure says so here, in
 * the same transaction; mm_hold() is the way back.  Under q->lock. */
void mm_hold(struct mm_struct *mm);
void mm_unhold(struct mm_struct *mm);
/* The same reference, noted by the context `from` of this process until now. */
void mm_hold_from(struct mm_struct *mm, struct ctx *from);
/* For whoever tidies up after a dead context, under no lock: gives its references back and finishes what it was taking down. */
void mm_drop_held(struct ctx *dead);

/* mmap_write_begin/end: the whole of a mapping call.  -EINTR never; cannot fail. */
void mmap_write_begin(struct mm_struct *mm); /* mmap_lock + lock */
void mmap_write_end(struct mm_struct *mm);
void mmap_write_cycle(struct mm_struct *mm); /* commit, then go on under mmap_lock + lock */

/* ---- mm/vma.c ---- */
/* First VMA with end > addr, or NULL (not necessarily containing addr): as Linux's find_vma. */
struct vm_area_struct *find_vma(struct mm_struct *mm, u64 addr);
struct vm_area_struct *vma_lookup(struct mm_struct *mm, u64 addr); /* containing addr, or NULL */
struct vm_area_struct *vma_next(struct mm_struct *mm, struct vm_area_struct *vma);
struct vm_area_struct *vma_first(struct mm_struct *mm);
bool mm_is_valid(struct mm_struct *mm);

/* ---- the mmap family: arguments as the system calls, errors as the man pages; called under no lock ---- */
/* mm/mmap.c.  file: NULL for anonymous; pgoff in pages.  Returns address or negative errno. */
long do_mmap(struct mm_struct *mm, struct file *file, u64 addr, u64 len, u64 prot, u64 flags, u64 pgoff);
/* A mapping whose translations the port installs by itself (vdso, devices): named, VM_PFNMAP|VM_DONTEXPAND. */
long install_special_mapping(struct mm_struct *mm, u64 addr, u64 len, u64 vm_flags, const char *name);
long do_munmap(struct mm_struct *mm, u64 addr, u64 len);
long do_mseal(struct mm_struct *mm, u64 addr, u64 len, u64 flags);
/* PR_SET_MDWE: nothing becomes executable that was not mapped so, and nothing is writable and executable.  0 or the errno. */
#define PR_MDWE_REFUSE_EXEC_GAIN 1ul
#define PR_MDWE_NO_INHERIT 2ul
long mm_set_mdwe(struct mm_struct *mm, u64 bits);
static inline u32 mm_inherited_mdwe(const struct mm_struct *mm) { return mm->mdwe & PR_MDWE_NO_INHERIT ? 0 : mm->mdwe; }
long do_brk(struct mm_struct *mm, u64 brk);                 /* returns the new (or unchanged) break */
long do_mprotect(struct mm_struct *mm, u64 addr, u64 len, u64 prot);          /* mm/mprotect.c */
long do_remap_file_pages(struct mm_struct *mm, u64 start, u64 size, u64 prot, u64 pgoff, u64 flags);
long do_mremap(struct mm_struct *mm, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr); /* mm/mremap.c */
long do_madvise(struct mm_struct *mm, u64 addr, u64 len, int advice);         /* mm/madvise.c */
/* mm/policy.c; 7 bits, 0 = default; empty: -EIO if a page is there */
long do_mbind(struct mm_struct *mm, u64 start, u64 len, u32 policy, bool empty);
long vma_policy(struct mm_struct *mm, u64 addr);                                 /* mm/policy.c; or -EFAULT */
long do_mlock(struct mm_struct *mm, u64 addr, u64 len, int flags);            /* mm/mlock.c; MLOCK_ONFAULT */
long do_munlock(struct mm_struct *mm, u64 addr, u64 len);
long do_mlockall(struct mm_struct *mm, int flags);
long do_munlockall(struct mm_struct *mm);
/* vec: kernel memory, one byte per page of [addr, addr+len).  mm/mincore.c */
long do_mincore(struct mm_struct *mm, u64 addr, u64 len, u8 *vec);
long do_msync(struct mm_struct *mm, u64 addr, u64 len, int flags);

/* Linux's numbers for mmap(2), mprotect(2), mremap(2), madvise(2), mlock2(2), msync(2) on x86-64 and arm64. */
#define PROT_READ 0x1
#define PROT_WRITE 0x2
#define PROT_EXEC 0x4
#define PROT_SEM 0x8
#define PROT_NONE 0x0
#define PROT_GROWSDOWN 0x01000000
#define PROT_GROWSUP 0x02000000
#define MAP_SHARED 0x01
#define MAP_PRIVATE 0x02
#define MAP_SHARED_VALIDATE 0x03
#define MAP_DROPPABLE 0x08
#define MAP_TYPE 0x0f
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define MAP_32BIT 0x40
#define MAP_ABOVE4G 0x80
#define MAP_GROWSDOWN 0x0100
#define MAP_DENYWRITE 0x0800
#define MAP_EXECUTABLE 0x1000
#define MAP_LOCKED 0x2000
#define MAP_NORESERVE 0x4000
#define MAP_POPULATE 0x8000
#define MAP_NONBLOCK 0x10000
#define MAP_STACK 0x20000
#define MAP_HUGETLB 0x40000
#define MAP_SYNC 0x80000
#define MAP_FIXED_NOREPLACE 0x100000
#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#define MREMAP_DONTUNMAP 4
#define MADV_NORMAL 0
#define MADV_RANDOM 1
#define MADV_SEQUENTIAL 2
#define MADV_WILLNEED 3
#define MADV_DONTNEED 4
#define MADV_FREE 8
#define MADV_REMOVE 9
#define MADV_DONTFORK 10
#define MADV_DOFORK 11
#define MADV_MERGEABLE 12
#define MADV_UNMERGEABLE 13
#define MADV_HUGEPAGE 14
#define MADV_NOHUGEPAGE 15
#define MADV_DONTDUMP 16
#define MADV_DODUMP 17
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#define MADV_DONTNEED_LOCKED 24
#define MADV_COLLAPSE 25
#define MADV_HWPOISON 100
#define MADV_SOFT_OFFLINE 101
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#define MCL_CURRENT 1
#define MCL_FUTURE 2
#define MCL_ONFAULT 4
#define MLOCK_ONFAULT 1
#define MS_ASYNC 1
#define MS_INVALIDATE 2
#define MS_SYNC 4

#endif
