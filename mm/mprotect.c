/*
 * mprotect: new flags for VMAs, then the entries follow.
 *
 * VMAs change first, entries after them in pieces.  In between an entry may still allow what its VMA forbids (the call
 * has not returned yet), or forbid what it allows (a fault mends that).  Private pages never become writable here
 * unless they are exclusive and dirty already: the write fault decides.
 *
 * Locks: mmap_lock + mm->lock; mm->lock is dropped between pieces.
 */
#include <mm/vma.h>

/* ---- entries ---- */
static pte_t change_one(const struct vm_area_struct *vma, pte_t p)
{
	pte_t n = pte_modify(p, vm_get_page_prot(vma->vm_flags));

	if ((vma->vm_flags & (VM_WRITE | VM_SHARED)) == VM_WRITE && pte_excl(n) && !pte_special(n))
		n = pte_mkwrite(n);
	return n;
}

/* Only what was lost needs a flush; a right that was won shows at the next fault at the latest. */
static void flush_changed(struct mmu_gather *tlb, u64 addr, u64 pages, pte_t old, pte_t new)
{
	if ((pte_user(old) && !pte_user(new)) || (pte_exec(old) && !pte_exec(new)))
		tlb_remove(tlb, addr, pages, 0, 0);
	else if (pte_write(old) && !pte_write(new))
		tlb_protect(tlb, addr, pages);
}

/* Returns whether [*cursor, vma's end or end) is done. */
static bool change_range(struct mmu_gather *tlb, const struct vm_area_struct *vma, u64 *cursor, u64 end)
{
	struct mm_struct *mm = tlb->mm;
	struct pt_iter it;
	bool progress = false;

	pt_iter_init(&it, mm->q, mm->pgd, *cursor, MIN(end, vma_end(vma)));
	while (pt_iter_next(&it)) {
		pte_t p = pte_read(it.slot), n;

		*cursor = it.addr;
		if (progress && txn_should_break())
			return false;
		progress = true;
		if (!pte_present(p))
			continue;
		DEBUG_ON(it.level != PT_LAST_LEVEL && it.addr + PMD_SIZE > it.end); /* a VMA holds whole blocks */
		n = change_one(vma, p);
		if (n.v == p.v)
			continue;
		set_pte(mm, it.slot, n);
		flush_changed(tlb, it.addr, pt_size(it.level) >> PAGE_SHIFT, p, n);
	}
	*cursor = MIN(end, vma_end(vma));
	return true;
}

void change_protection(struct mmu_gather *tlb, u64 start, u64 end)
{
	struct vm_area_struct *vma;

	while (start < end && (vma = find_vma(tlb->mm, start)) && vma_start(vma) < end) {
		if (start < vma_start(vma))
			start = vma_start(vma);
		if (!change_range(tlb, vma, &start, end))
			tlb_cycle(tlb);
	}
}

/* ---- VMAs ---- */

/* Charges what becomes writable, and gives back what never will be written.  0 or -ENOMEM; *newflags may change. */
static int fixup_charge(struct mm_struct *mm, const struct vm_area_struct *vma, u64 pages, u64 *newflags)
{
	u64 old = vma->vm_flags;

	if (*newflags & VM_WRITE) {
		if (!may_expand_vm(mm, *newflags, pages) && may_expand_vm(mm, old, pages))
			return -ENOMEM;
		if (old & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE))
			return 0;
		if (vm_enough_memory(mm, pages) != 0)
			return -ENOMEM;
		*newflags |= VM_ACCOUNT;
	} else if ((old & VM_ACCOUNT) && vma_is_anonymous(vma) && !vma->anon) {
		*newflags &= ~VM_ACCOUNT;
	}
	return 0;
}

/* [start, end) of vma gets newflags.  0, -ENOMEM, or -EPERM if it is sealed. */
static int mprotect_fixup(struct mmu_gather *tlb, struct vm_area_struct *vma, u64 start, u64 end, u64 newflags)
{
	struct mm_struct *mm = tlb->mm;
	u64 old = vma->vm_flags, pages = (end - start) >> PAGE_SHIFT;
	int err;

	if (vma_is_sealed(vma))
		return -EPERM;
	if (newflags == old)
		return 0;
	err = fixup_charge(mm, vma, pages, &newflags);
	if (err)
		return err;
	vma = vma_modify_flags(mm, vma, start, end, newflags);
	if (IS_ERR(vma)) {
		if (newflags & ~old & VM_ACCOUNT)
			vm_unacct_memory(mm->q, pages);
		return -ENOMEM;
	}
	if (old & ~newflags & VM_ACCOUNT)
		vm_unacct_memory(mm->q, pages);
	vm_stat_account(mm, old, -(s64)pages);
	vm_stat_account(mm, newflags, (s64)pages);
	change_protection(tlb, start, end);
	return 0;
}

static u64 mprotect_flags(const struct vm_area_struct *vma, u64 prot)
{
	return calc_vm_prot_bits(prot) | (vma->vm_flags & ~VM_ACCESS_FLAGS);
}

/* Access without the MAY bit that allows it. */
static bool beyond_may(u64 vm_flags)
{
	return (vm_flags & ~(vm_flags >> 4)) & VM_ACCESS_FLAGS;
}

bool map_deny_write_exec(const struct mm_struct *mm, u64 old, u64 new)
{
	return mm->mdwe && (new & VM_EXEC) && ((new & VM_WRITE) || !(old & VM_EXEC));
}

/* A process may bind itself but not free itself again (prctl(2)). */
long mm_set_mdwe(struct mm_struct *mm, u64 bits)
{
	long err = 0;

	if ((bits & ~(PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT)) || bits == PR_MDWE_NO_INHERIT)
		return -EINVAL;
	spin_lock(&mm->lock);
	if (mm->mdwe && mm->mdwe != bits)
		err = -EPERM;
	else
		mm->mdwe = (u32)bits;
	spin_unlock(&mm->lock);
	return err;
}

/* Private locked memory that becomes writable is copied at once, as Linux does. */
static bool wants_populate(u64 old, u64 newflags)
{
	return (old & (VM_WRITE | VM_SHARED | VM_LOCKED)) == VM_LOCKED && (newflags & VM_WRITE);
}

/* Goes on from *at.  0 = all done, 1 = [*from, *at) must be populated before going on, or the errno. */
static int mprotect_range(struct mmu_gather *tlb, u64 *at, u64 end, u64 prot, u64 *from)
{
	struct mm_struct *mm = tlb->mm;

	while (*at < end) {
		struct vm_area_struct *vma = vma_lookup(mm, *at);
		u64 newflags = vma ? mprotect_flags(vma, prot) : 0;
		bool filling = vma && wants_populate(vma->vm_flags, newflags);
		int err;

		if (!vma)
			return -ENOMEM;
		if (beyond_may(newflags) || map_deny_write_exec(mm, vma->vm_flags, newflags))
			return -EACCES;
		*from = *at;
		*at = MIN(vma_end(vma), end);
		err = mm_prepare(mm, 2);
		if (!err)
			err = mprotect_fixup(tlb, vma, *from, *at, newflags);
		if (err || filling)
			return err ? err : 1;
	}
	return 0;
}

/* Finds the first VMA and bends the range for PROT_GROWSDOWN.  0 or the errno. */
static int mprotect_start(struct mm_struct *mm, u64 *start, u64 end, u64 grows)
{
	struct vm_area_struct *vma = find_vma(mm, *start);

	if (!vma || vma_start(vma) >= end)
		return -ENOMEM;
	if (grows & PROT_GROWSDOWN) {
		*start = vma_start(vma);
		return vma->vm_flags & VM_GROWSDOWN ? 0 : -EINVAL;
	}
	if (vma_start(vma) > *start)
		return -ENOMEM;
	return grows & PROT_GROWSUP ? -EINVAL : 0; /* no mapping grows up on these machines */
}

long do_mprotect(struct mm_struct *mm, u64 addr, u64 len, u64 prot)
{
	u64 grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP), end = addr + PAGE_ALIGN(len);
	struct mmu_gather tlb;
	u64 from = addr;
	int err;

	prot &= ~grows;
	if (grows == (PROT_GROWSDOWN | PROT_GROWSUP) || !PAGE_ALIGNED(addr))
		return -EINVAL;
	if (!len)
		return 0;
	if (end <= addr)
		return -ENOMEM;
	if (prot & ~(u64)(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM))
		return -EINVAL;
	tlb_gather_mmu(&tlb, mm);
	mmap_write_begin(mm);
	err = mprotect_start(mm, &addr, end, grows);
	if (!err)
		err = mprotect_range(&tlb, &addr, end, prot, &from);
	finish_call(&tlb);
	while (err > 0) {
		populate(mm, from, addr, false);
		mmap_write_begin(mm);
		err = mprotect_range(&tlb, &addr, end, prot, &from);
		finish_call(&tlb);
	}
	return err;
}
