/*
 * Inside mm/ only: VMAs as objects, splitting, merging, removal, and what the mapping calls share.
 * Everything here runs under mmap_lock + mm->lock unless it says otherwise.
 */
#ifndef QUIRE_MM_VMA_H
#define QUIRE_MM_VMA_H
#include <mm/mm.h>

/* Pages that a call may need VMAs for: two splits and one new mapping. */
#define PREPARE_MAX 3u

/* ---- mm/vma.c ---- */
/* A mapping that does not exist yet, for merging and creation. */
struct vma_proto {
	u64 start, end;   /* bytes */
	u64 vm_flags, pgoff;
	struct file *file;
	const char *name;
	struct anon_family *anon; /* what an existing mapping brings along (mremap), else 0 */
	u64 anon_pgoff, anon_id;
	bool anon_forked;
};
struct vm_area_struct *vma_alloc(struct mm_struct *mm);  /* zeroed, from the spares of mm_prepare */
void vma_release(struct mm_struct *mm, struct vm_area_struct *vma); /* not linked any more; drops its file reference */
void vma_link(struct mm_struct *mm, struct vm_area_struct *vma);
void vma_unlink(struct mm_struct *mm, struct vm_area_struct *vma);
/* [addr, end) becomes a VMA of its own and is returned; the lower part stays in vma. */
struct vm_area_struct *vma_split(struct mm_struct *mm, struct vm_area_struct *vma, u64 addr);
/* The same, by the rule that max_map_count is not exceeded.  0 or -ENOMEM. */
int split_vma(struct mm_struct *mm, struct vm_area_struct *vma, u64 addr);
/* What [start, end) would be as a continuation of vma (also beyond its end). */
struct vma_proto vma_proto_of(const struct vm_area_struct *vma, u64 start, u64 end, u64 vm_flags);
/* The VMA that now contains [p->start, p->end) after merging with neighbours, or NULL: not mergeable. */
struct vm_area_struct *vma_merge_new(struct mm_struct *mm, const struct vma_proto *p);
/* vma_merge_new, else a new VMA.  Takes over no file reference (gets its own). */
struct vm_area_struct *vma_create(struct mm_struct *mm, const struct vma_proto *p);
/* Gives [start, end) of vma these flags, merging or splitting by Linux's rules.  Returns the VMA that has the range
 * now, or ERR_PTR(-ENOMEM) (nothing changed). */
struct vm_area_struct *vma_modify_flags(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end,
					u64 vm_flags);
/* Moves an edge of a VMA; offsets follow the start. */
void vma_set_range(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end);
/* All its anonymous pages went elsewhere: as if it had never had any. */
void vma_forget_anon(struct mm_struct *mm, struct vm_area_struct *vma);
u64 vm_start_gap(const struct vm_area_struct *vma);
/* Is it to stay as it is (mm/mseal.c)? */
static inline bool vma_is_sealed(const struct vm_area_struct *vma) { return vma->vm_flags & VM_SEALED; }

/* ---- mm/mm.c ---- */
/* mm_prepare without the reclaim: false when memory is short (what it got stays in reserve).  Under mm->lock. */
bool mm_try_prepare(struct mm_struct *mm, unsigned nr);
/* Fork families, under q->lock. */
void family_join(struct anon_family *family, struct mm_struct *mm);
void family_leave(struct mm_struct *mm);

/* ---- mm/accounting.c ---- */
void vm_stat_account(struct mm_struct *mm, u64 vm_flags, s64 npages);
/* Would locking that much more exceed RLIMIT_MEMLOCK? */
bool mlock_future_ok(struct mm_struct *mm, u64 vm_flags, u64 bytes);
bool can_do_mlock(const struct mm_struct *mm);
bool accountable_mapping(const struct file *file, u64 vm_flags);
u64 max_map_count(const struct quire *q);

/* ---- mm/unmap.c ---- */
/* Takes whole VMAs inside [start, end) away (they were split at its ends), in pieces; the range stays busy until
 * mmap_write_end. */
void unmap_region(struct mmu_gather *tlb, u64 start, u64 end);
/* Splits at both ends (after mm_prepare(mm, 2)), for what is then unmapped.  0, or -ENOMEM, or -EPERM if something there is sealed
 * (nothing but a harmless split was done). */
int split_ends(struct mm_struct *mm, u64 start, u64 end);
/* Would split_ends exceed max_map_count? */
bool split_would_fail(struct mm_struct *mm, u64 start, u64 end);
/* Arguments of munmap.  0 or -EINVAL. */
int check_munmap(const struct mm_struct *mm, u64 addr, u64 len);
void mark_busy(struct mm_struct *mm, u64 start, u64 end);
void clear_busy(struct mm_struct *mm);
/* Ends a mapping call: mmap_write_end, tlb_finish_mmu, mm_reap. */
void finish_call(struct mmu_gather *tlb);

/* ---- mm/mmap.c ---- */
/* Where a mapping goes: address or negative errno. */
long get_unmapped_area(struct mm_struct *mm, const struct file *file, u64 addr, u64 len, u64 flags);
u64 calc_vm_prot_bits(u64 prot);
/* The tail of every mapping call: replaces what is at [p->start, p->end) and maps p there (after mm_prepare(mm, 3)).  0,
 * -ENOMEM, or -EPERM if something there is sealed (nothing changed). */
int mmap_region(struct mmu_gather *tlb, struct vma_proto *p);

/* Page tables left empty in [start, end) go. */
void free_tables(struct mmu_gather *tlb, u64 start, u64 end);

/* ---- mm/mlock.c ---- */
/* Under no lock: faults in what a call promised (not in VM_LOCKONFAULT memory).  0 or the first error if it should stop
 * there. */
int populate(struct mm_struct *mm, u64 start, u64 end, bool stop_on_error);

/* ---- mm/mprotect.c ---- */
/* Does PR_SET_MDWE forbid the step from flags old to new (of a new mapping: both the same)? */
bool map_deny_write_exec(const struct mm_struct *mm, u64 old, u64 new);
/* Gives the entries of [start, end) the protection of their VMAs, in pieces. */
void change_protection(struct mmu_gather *tlb, u64 start, u64 end);

#endif
