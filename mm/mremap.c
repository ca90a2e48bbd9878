/*
 * mremap: growing, shrinking, moving and duplicating mappings.
 *
 *   same size, no new address      nothing
 *   smaller                        the tail is unmapped
 *   larger                         extended in place if nothing is in the way, else moved (MAYMOVE)
 *   MREMAP_FIXED, DONTUNMAP        moved; with FIXED and equal sizes across several VMAs, gaps kept (as Linux >= 6.17)
 *   old size 0                     a second mapping of shared memory
 *
 * A move makes the new VMA, moves the entries one by one, then unmaps the old range.  Anonymous pages keep their index,
 * so that nothing has to be told to other mms that share them; the new VMA becomes a "moved" one (mm/rmap.c).
 * While entries move both ranges are busy (mm->busy_*, busy2_*), so faults wait; if tables for the new place cannot be
 * had, the entries go back and nothing has changed.
 *
 * Locks: mmap_lock + mm->lock; mm->lock is dropped between pieces.
 */
#include <mm/vma.h>

#define MREMAP_FLAGS (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)

/* One mremap of (a part of) one VMA. */
struct remap {
	struct mmu_gather *tlb;
	struct mm_struct *mm;
	struct vm_area_struct *vma;           /* contains addr */
	u64 addr, old_len, new_len, new_addr; /* bytes */
	u64 flags;
	bool populate; /* locked memory grew: [new_addr + old_len, new_addr + new_len) */
};

static bool implies_new_addr(u64 flags)
{
	return flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
}

static u64 delta_pages(const struct remap *r)
{
	return (r->new_len > r->old_len ? r->new_len - r->old_len : r->old_len - r->new_len) >> PAGE_SHIFT;
}

/* ---- checks ---- */

/* What can be judged without looking at the mappings.  0 or -EINVAL. */
static int check_params(const struct mm_struct *mm, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr)
{
	if ((flags & ~(u64)MREMAP_FLAGS) || !PAGE_ALIGNED(addr) || !new_len || new_len > mm->task_size)
		return -EINVAL;
	if (!implies_new_addr(flags))
		return 0;
	if (new_addr > mm->task_size - new_len || !PAGE_ALIGNED(new_addr) || !(flags & MREMAP_MAYMOVE))
		return -EINVAL;
	if ((flags & MREMAP_DONTUNMAP) && old_len != new_len)
		return -EINVAL;
	if (addr + old_len > new_addr && new_addr + new_len > addr)
		return -EINVAL;
	return 0;
}

/* May this VMA be resized or moved so?  0 or the errno. */
static int check_vma(struct remap *r)
{
	struct vm_area_struct *vma = r->vma;
	u64 pgoff;

	if (!vma)
		return -EFAULT;
	if (vma_is_sealed(vma))
		return -EPERM;
	if (r->new_len <= r->old_len && !implies_new_addr(r->flags))
		return 0;
	if (!r->old_len && !(vma->vm_flags & (VM_SHARED | VM_MAYSHARE)))
		return -EINVAL;
	if ((r->flags & MREMAP_DONTUNMAP) && (vma->vm_flags & (VM_DONTEXPAND | VM_PFNMAP)))
		return -EINVAL;
	/* What is cut off before the move may reach beyond this VMA, what moves may not. */
	if (MIN(r->old_len, r->new_len) > vma_end(vma) - r->addr)
		return -EFAULT;
	if (r->new_len <= r->old_len)
		return 0;
	r->populate = vma->vm_flags & VM_LOCKED;
	pgoff = linear_page_index(vma, r->addr);
	if (pgoff + (r->new_len >> PAGE_SHIFT) < pgoff)
		return -EINVAL;
	if (vma->vm_flags & (VM_DONTEXPAND | VM_PFNMAP))
		return -EFAULT;
	if (!mlock_future_ok(r->mm, vma->vm_flags, delta_pages(r) << PAGE_SHIFT))
		return -EAGAIN;
	return may_expand_vm(r->mm, vma->vm_flags, delta_pages(r)) ? 0 : -ENOMEM;
}

/* ---- moving entries ---- */

/* A block moves as one if all of it does and its new place is aligned, else page by page.  False = no memory. */
static bool move_block(struct mmu_gather *tlb, struct pt_iter *it, u64 to)
{
	if (((it->addr | to) & (PMD_SIZE - 1)) || it->addr + PMD_SIZE > it->end) {
		pt_iter_again(it);
		return mm_split_block(tlb->mm, it->addr);
	}
	return mm_move_block(tlb, it->slot, it->addr, to);
}

/* Moves one entry.  False = no memory for the tables of its new place. */
static bool move_entry(struct mmu_gather *tlb, struct pt_iter *it, u64 to)
{
	struct mm_struct *mm = tlb->mm;
	pte_t *slot, p;

	if (it->level != PT_LAST_LEVEL)
		return move_block(tlb, it, to);
	slot = pte_alloc(mm, to);
	if (!slot)
		return false;
	p = pte_read(it->slot);
	set_pte(mm, it->slot, __pte(0));
	tlb_remove(tlb, it->addr, 1, 0, 0);
	set_pte(mm, slot, pte_present(p) ? pte_mknoncont(p) : p);
	return true;
}

/* One piece of the move from *from on.  1 = all done, 0 = commit and go on, -ENOMEM. */
static int move_piece(struct mmu_gather *tlb, u64 *from, u64 end, u64 shift)
{
	struct pt_iter it;
	bool progress = false;

	pt_iter_init(&it, tlb->mm->q, tlb->mm->pgd, *from, end);
	while (pt_iter_next(&it)) {
		*from = it.addr;
		if (progress && txn_should_break())
			return 0;
		if (!move_entry(tlb, &it, it.addr + shift))
			return -ENOMEM;
		progress = true;
		if (tlb_full(tlb))
			return 0;
	}
	*from = end;
	return 1;
}

/* Drops mm->lock, reclaims.  0 = try again. */
static int move_reclaim(struct mmu_gather *tlb, unsigned *tries)
{
	int err;

	tlb_flush(tlb);
	spin_unlock(&tlb->mm->lock);
	tlb_finish_mmu(tlb);
	err = mm_reclaim(tlb->mm->q, tries);
	spin_lock(&tlb->mm->lock);
	return err;
}

/* Moves the entries of [from, from + len) by shift.  0 or -ENOMEM with everything back where it was. */
static int move_page_tables(struct mmu_gather *tlb, u64 start, u64 len, u64 shift)
{
	u64 from = start;
	unsigned tries = 0;
	int ret;

	while ((ret = move_piece(tlb, &from, start + len, shift)) != 1) {
		if (ret == 0)
			tlb_cycle(tlb);
		else if (move_reclaim(tlb, &tries) != 0)
			break;
	}
	if (ret == 1)
		return 0;
	/* Back: the tables of the old place are still there, so this needs no memory. */
	for (u64 back = start + shift; (ret = move_piece(tlb, &back, start + len + shift, -shift)) != 1;)
		tlb_cycle(tlb);
	return -ENOMEM;
}

/* ---- moving a VMA ---- */

/* The new mapping is charged as a whole, since what is unmapped will be uncharged.  0 or -ENOMEM. */
static int charge_move(struct remap *r)
{
	u64 pages = r->new_len >> PAGE_SHIFT, old = r->flags & MREMAP_DONTUNMAP ? 0 : r->old_len >> PAGE_SHIFT;

	if (!(r->vma->vm_flags & VM_ACCOUNT))
		return 0;
	if (pages > old && vm_enough_memory(r->mm, pages - old) != 0)
		return -ENOMEM;
	vm_unacct_memory(r->mm->q, pages > old ? -old : -pages);
	return 0;
}

/* Makes the destination's VMA, or extends a neighbour. */
static void copy_vma(struct remap *r)
{
	struct vm_area_struct *vma = r->vma;
	struct vma_proto p = vma_proto_of(vma, r->addr, r->addr + r->new_len, vma->vm_flags);

	p.start = r->new_addr;
	p.end = r->new_addr + r->new_len;
	if (!vma->anon)
		p.anon_pgoff = p.start >> PAGE_SHIFT;
	if (vma_is_anonymous(vma) && !vma->anon)
		p.pgoff = p.start >> PAGE_SHIFT; /* never touched: as good as new */
	vm_stat_account(r->mm, vma->vm_flags, (s64)(r->new_len >> PAGE_SHIFT));
	if (vma->vm_flags & VM_LOCKED)
		r->mm->locked_vm += r->new_len >> PAGE_SHIFT;
	vma_create(r->mm, &p)->host_private = vma->host_private;
}

/* MREMAP_DONTUNMAP: the old VMA stays, empty; by convention it is not locked any more. */
static void leave_empty(struct remap *r)
{
	struct mm_struct *mm = r->mm;
	struct vm_area_struct *vma = vma_lookup(mm, r->addr);

	if (vma->vm_flags & VM_LOCKED)
		mm->locked_vm -= vma_pages(vma);
	vma->vm_flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
	if (vma_start(vma) == r->addr && vma_end(vma) == r->addr + r->old_len)
		vma_forget_anon(mm, vma);
}

/* Undoes copy_vma and its charge after the entries went back. */
static void uncopy_vma(struct remap *r)
{
	split_ends(r->mm, r->new_addr, r->new_addr + r->new_len);
	unmap_region(r->tlb, r->new_addr, r->new_addr + r->new_len);
}

static long move_vma(struct remap *r)
{
	struct mm_struct *mm = r->mm;
	int err;

	if (mm->vmas.count >= max_map_count(mm->q) - 3)
		return -ENOMEM;
	err = mm_prepare(mm, PREPARE_MAX);
	if (!err)
		err = charge_move(r);
	if (err)
		return err;
	copy_vma(r);
	mark_busy(mm, r->addr, r->addr + r->old_len);
	mm->busy2_start = r->new_addr;
	mm->busy2_end = r->new_addr + r->new_len;
	err = move_page_tables(r->tlb, r->addr, r->old_len, r->new_addr - r->addr);
	if (err) {
		uncopy_vma(r);
		return err;
	}
	if (r->flags & MREMAP_DONTUNMAP) {
		leave_empty(r);
	} else if (r->old_len) {
		split_ends(mm, r->addr, r->addr + r->old_len);
		unmap_region(r->tlb, r->addr, r->addr + r->old_len);
	}
	return (long)r->new_addr;
}

/* A free place for the new mapping, or the errno. */
static long set_new_addr(struct remap *r)
{
	u64 flags = r->flags & MREMAP_FIXED ? MAP_FIXED : 0;
	long ret = get_unmapped_area(r->mm, r->vma->vm_file, implies_new_addr(r->flags) ? r->new_addr : 0, r->new_len,
				     flags);

	if (!IS_ERR(ret))
		r->new_addr = (u64)ret;
	return IS_ERR(ret) ? ret : 0;
}

static int unmap_range(struct remap *r, u64 start, u64 len)
{
	int err = check_munmap(r->mm, start, len);

	if (!err)
		err = mm_prepare(r->mm, 2);
	if (!err)
		err = split_ends(r->mm, start, start + len);
	if (!err)
		unmap_region(r->tlb, start, start + len);
	return err;
}

static int shrink(struct remap *r)
{
	int err = unmap_range(r, r->addr + r->new_len, r->old_len - r->new_len);

	if (!err)
		r->vma = vma_lookup(r->mm, r->addr);
	return err ? err : r->vma ? 0 : -EFAULT;
}

static long mremap_to(struct remap *r)
{
	long err;

	if (r->flags & MREMAP_FIXED) {
		err = unmap_range(r, r->new_addr, r->new_len);
		if (err)
			return err;
		r->vma = vma_lookup(r->mm, r->addr);
		if (!r->vma)
			return -EFAULT;
	}
	if (r->old_len > r->new_len) {
		err = shrink(r);
		if (err)
			return err;
		r->old_len = r->new_len;
	}
	if ((r->flags & MREMAP_DONTUNMAP) && !may_expand_vm(r->mm, r->vma->vm_flags, r->old_len >> PAGE_SHIFT))
		return -ENOMEM;
	err = set_new_addr(r);
	return err ? err : move_vma(r);
}

/* ---- staying ---- */
static bool can_expand_in_place(const struct remap *r)
{
	struct vm_area_struct *next = vma_next(r->mm, r->vma);
	u64 end = r->addr + r->new_len;

	return vma_end(r->vma) - r->addr == r->old_len && end <= r->mm->task_size && (!next || vma_start(next) >= end);
}

static long expand_in_place(struct remap *r)
{
	struct mm_struct *mm = r->mm;
	struct vm_area_struct *vma = r->vma;
	u64 flags = vma->vm_flags, pages = delta_pages(r);
	struct vma_proto p = vma_proto_of(vma, vma_end(vma), vma_end(vma) + (pages << PAGE_SHIFT), flags);

	p.anon_forked = false; /* the extension itself shares nothing: Linux lets it reach the next mapping */
	if ((flags & VM_ACCOUNT) && vm_enough_memory(mm, pages) != 0)
		return -ENOMEM;
	if (!vma_merge_new(mm, &p)) {
		if (flags & VM_ACCOUNT)
			vm_unacct_memory(mm->q, pages);
		return -ENOMEM;
	}
	vm_stat_account(mm, flags, (s64)pages);
	if (flags & VM_LOCKED)
		mm->locked_vm += pages;
	return (long)r->addr;
}

static long mremap_at(struct remap *r)
{
	long err;

	if (r->new_len == r->old_len)
		return (long)r->addr;
	if (r->new_len < r->old_len) {
		err = unmap_range(r, r->addr + r->new_len, r->old_len - r->new_len);
		return err ? err : (long)r->addr;
	}
	if (can_expand_in_place(r))
		return expand_in_place(r);
	if (!(r->flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	err = set_new_addr(r);
	return err ? err : move_vma(r);
}

/* MREMAP_FIXED without resizing: every VMA of the range moves, gaps between them stay gaps. */
static long remap_move(struct remap *whole)
{
	u64 end = whole->addr + whole->old_len, at = whole->addr;
	bool seen = false;

	while (at < end) {
		struct remap r = *whole;
		long ret;

		r.vma = find_vma(r.mm, at);
		if (!r.vma || vma_start(r.vma) >= end)
			break;
		if (!seen && vma_start(r.vma) > at)
			return -EFAULT;
		r.addr = MAX(at, vma_start(r.vma));
		r.old_len = r.new_len = MIN(end, vma_end(r.vma)) - r.addr;
		r.new_addr = r.addr + (whole->new_addr - whole->addr);
		at = r.addr + r.old_len;
		/* Linux's vma_multi_allowed(). */
		if (r.vma->vm_file && (r.vma->vm_file->mode & FMODE_NOMULTI) && (seen || vma_end(r.vma) < end))
			return -EFAULT;
		ret = check_vma(&r);
		if (!ret)
			ret = mremap_to(&r);
		if (IS_ERR(ret))
			return ret;
		seen = true;
	}
	return seen ? (long)whole->new_addr : -EFAULT;
}

static long mremap_locked(struct remap *r)
{
	long err;

	if (implies_new_addr(r->flags) && r->mm->vmas.count + 2 >= max_map_count(r->mm->q) - 3)
		return -ENOMEM;
	err = mm_prepare(r->mm, PREPARE_MAX);
	if (err)
		return err;
	if ((r->flags & MREMAP_FIXED) && r->old_len == r->new_len)
		return remap_move(r);
	r->vma = vma_lookup(r->mm, r->addr);
	err = check_vma(r);
	if (err)
		return err;
	return implies_new_addr(r->flags) ? mremap_to(r) : mremap_at(r);
}

long do_mremap(struct mm_struct *mm, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr)
{
	struct mmu_gather tlb;
	struct remap r = {
		.tlb = &tlb,
		.mm = mm,
		.addr = addr,
		.old_len = PAGE_ALIGN(old_len),
		.new_len = PAGE_ALIGN(new_len),
		.flags = flags,
		.new_addr = new_addr,
	};
	long ret = check_params(mm, addr, r.old_len, r.new_len, flags, new_addr);

	if (ret)
		return ret;
	old_len = r.old_len;
	tlb_gather_mmu(&tlb, mm);
	mmap_write_begin(mm);
	ret = mremap_locked(&r);
	finish_call(&tlb);
	if (!IS_ERR(ret) && r.populate && r.new_len > old_len)
		populate(mm, (u64)ret + old_len, (u64)ret + r.new_len, false);
	return ret;
}
