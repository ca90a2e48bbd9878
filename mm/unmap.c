/*
 * Unmapping: munmap, and the common way in which every call takes mappings away.
 *
 * A region goes in this order: entries (in pieces, mm->busy_* keeps faults out), then VMAs, then empty tables.  Until
 * its last transaction the region has VMAs without entries, so every commit leaves a valid tree.
 *
 *     |####VMA####|###VMA###|      zap_page_range ... commit, sync, free ... zap_page_range
 *     |    VMA    |   VMA   |      vma_unlink, vma_unlink
 *     |                     |      pgtable_take_empty
 *
 * Locks: mmap_lock + mm->lock throughout; mm->lock is dropped between pieces.
 */
#include <mm/vma.h>

void mark_busy(struct mm_struct *mm, u64 start, u64 end)
{
	mm->busy_start = start;
	mm->busy_end = end;
}

void clear_busy(struct mm_struct *mm)
{
	if (mm->busy_end | mm->busy2_end)
		mm->busy_start = mm->busy_end = mm->busy2_start = mm->busy2_end = 0;
}

int check_munmap(const struct mm_struct *mm, u64 addr, u64 len)
{
	if (!PAGE_ALIGNED(addr) || addr > mm->task_size || len > mm->task_size - addr || !PAGE_ALIGN(len))
		return -EINVAL;
	return 0;
}

bool split_would_fail(struct mm_struct *mm, u64 start, u64 end)
{
	struct vm_area_struct *vma = vma_lookup(mm, start);

	return vma && vma_start(vma) < start && vma_end(vma) > end && mm->vmas.count >= max_map_count(mm->q);
}

static bool any_sealed(struct mm_struct *mm, u64 start, u64 end)
{
	struct vm_area_struct *vma = find_vma(mm, start);

	while (vma && vma_start(vma) < end && !vma_is_sealed(vma))
		vma = vma_next(mm, vma);
	return vma && vma_start(vma) < end;
}

/* As on Linux the first split is there, and stays, when a later mapping turns out to be sealed. */
int split_ends(struct mm_struct *mm, u64 start, u64 end)
{
	struct vm_area_struct *vma;

	if (split_would_fail(mm, start, end))
		return -ENOMEM;
	vma = vma_lookup(mm, start);
	if (vma && vma_start(vma) < start) {
		if (vma_is_sealed(vma))
			return -EPERM;
		vma_split(mm, vma, start);
	}
	if (any_sealed(mm, start, end))
		return -EPERM;
	vma = vma_lookup(mm, end);
	if (vma && vma_start(vma) < end)
		vma_split(mm, vma, end);
	return 0;
}

static void remove_vma(struct mm_struct *mm, struct vm_area_struct *vma)
{
	u64 pages = vma_pages(vma);

	vm_stat_account(mm, vma->vm_flags, -(s64)pages);
	if (vma->vm_flags & VM_LOCKED)
		mm->locked_vm -= pages;
	if (vma->vm_flags & VM_ACCOUNT)
		vm_unacct_memory(mm->q, pages);
	vma_unlink(mm, vma);
	vma_release(mm, vma);
}

static void remove_vmas(struct mmu_gather *tlb, u64 start, u64 end)
{
	struct mm_struct *mm = tlb->mm;
	struct vm_area_struct *vma;

	while ((vma = find_vma(mm, start)) && vma_start(vma) < end) {
		remove_vma(mm, vma);
		if (txn_should_break())
			tlb_cycle(tlb);
	}
}

void free_tables(struct mmu_gather *tlb, u64 start, u64 end)
{
	struct pgtable pt = mm_pgtable(tlb->mm);
	struct frame *table;

	end = MIN(end, 1ull << VA_BITS);
	while ((table = pgtable_take_empty(&pt, &start, end))) {
		tlb_remove(tlb, ALIGN_DOWN(start, PMD_SIZE), PT_ENTRIES, frame_to_pfn(tlb->mm->q, table), 1);
		if (tlb_full(tlb) || txn_should_break())
			tlb_cycle(tlb);
	}
}

void unmap_region(struct mmu_gather *tlb, u64 start, u64 end)
{
	u64 cursor = start;

	mark_busy(tlb->mm, start, end);
	while (!zap_page_range(tlb, &cursor, MIN(end, 1ull << VA_BITS), ZAP_ALL))
		tlb_cycle(tlb);
	remove_vmas(tlb, start, end);
	free_tables(tlb, start, end);
}

long do_munmap(struct mm_struct *mm, u64 addr, u64 len)
{
	int err = check_munmap(mm, addr, len);
	struct mmu_gather tlb;
	struct vm_area_struct *vma;
	u64 end = addr + PAGE_ALIGN(len);

	if (err)
		return err;
	tlb_gather_mmu(&tlb, mm);
	mmap_write_begin(mm);
	vma = find_vma(mm, addr);
	if (vma && vma_start(vma) < end) {
		err = mm_prepare(mm, 2);
		if (!err)
			err = split_ends(mm, addr, end);
		if (!err)
			unmap_region(&tlb, addr, end);
	}
	finish_call(&tlb);
	return err;
}
