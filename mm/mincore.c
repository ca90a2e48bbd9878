/*
 * mincore and msync: what is in memory, and writing shared file pages back.
 *
 * Locks: mincore looks under mm->lock (and q->lock for the page cache), a VMA or a piece at a time; msync drops
 * everything for the I/O and looks the next VMA up again.
 */
#include <mm/vma.h>

#define MINCORE_BATCH 4096u /* pages looked at in one critical section */

/* ---- mincore ---- */
static bool cached(struct mm_struct *mm, const struct vm_area_struct *vma, u64 addr)
{
	struct quire *q = mm->q;
	bool in;

	if (!vma->vm_file)
		return false;
	spin_lock(&q->lock);
	in = radix_lookup(&vma->vm_file->mapping->i_pages, linear_page_index(vma, addr)) != NULL;
	spin_unlock(&q->lock);
	return in;
}

static bool swap_resident(struct mm_struct *mm, pte_t p)
{
	struct quire *q = mm->q;
	bool in;

	if (!q->hooks.swap_cached)
		return false;
	spin_lock(&q->lock);
	in = q->hooks.swap_cached(q, pte_to_swp_entry(p));
	spin_unlock(&q->lock);
	return in;
}

static u8 mincore_page(struct mm_struct *mm, const struct vm_area_struct *vma, u64 addr)
{
	int level;
	pte_t *slot = pgtable_lookup(mm->q, mm->pgd, addr, &level);
	pte_t p = slot ? pte_read(slot) : __pte(0);

	if (pte_none(p) || pte_is_guard(p))
		return cached(mm, vma, addr);
	if (pte_is_swap(p))
		return swap_resident(mm, p);
	return pte_present(p) || pte_is_migration(p);
}

/* [addr, returned) was answered; 0 = nothing is mapped at addr. */
static u64 mincore_piece(struct mm_struct *mm, u64 addr, u64 end, u8 *vec)
{
	struct vm_area_struct *vma;
	u64 stop = 0;

	spin_lock(&mm->lock);
	vma = vma_lookup(mm, addr);
	if (vma) {
		stop = MIN(MIN(end, vma_end(vma)), addr + ((u64)MINCORE_BATCH << PAGE_SHIFT));
		for (; addr < stop; addr += PAGE_SIZE)
			*vec++ = mincore_page(mm, vma, addr);
	}
	spin_unlock(&mm->lock);
	return stop;
}

long do_mincore(struct mm_struct *mm, u64 addr, u64 len, u8 *vec)
{
	u64 end = addr + PAGE_ALIGN(len);

	if (!PAGE_ALIGNED(addr))
		return -EINVAL;
	if (len > mm->task_size || addr > mm->task_size - len)
		return -ENOMEM;
	while (addr < end) {
		u64 stop = mincore_piece(mm, addr, end, vec);

		if (!stop)
			return -ENOMEM;
		vec += (stop - addr) >> PAGE_SHIFT;
		addr = stop;
	}
	return 0;
}

/* ---- msync ---- */

/* A part of a file to write; holds a reference to the file. */
struct sync_job {
	struct file *file;
	u64 start, end; /* bytes of the file */
};

/* Drops a job's reference, under no lock. */
static void job_put(struct quire *q, struct sync_job *job)
{
	if (job->file && q->hooks.file_put)
		q->hooks.file_put(job->file);
}

static void job_take(struct sync_job *job, struct vm_area_struct *vma, u64 start, u64 end)
{
	u64 base = vma->vm_pgoff << PAGE_SHIFT;

	job->file = vma->vm_file;
	job->start = base + (start - vma_start(vma));
	job->end = base + (MIN(end, vma_end(vma)) - vma_start(vma));
	spin_lock(&vma->vm_mm->q->lock);
	job->file->refcount++;
	file_note_held(port_ctx(), job->file);
	spin_unlock(&vma->vm_mm->q->lock);
}

/* One VMA.  1 = go on at *start, 0 = done, or the errno. */
static int msync_step(struct mm_struct *mm, u64 *start, u64 end, int flags, bool *hole, struct sync_job *job)
{
	struct vm_area_struct *vma = find_vma(mm, *start);

	if (!vma)
		return -ENOMEM;
	if (*start < vma_start(vma)) {
		if (flags == MS_ASYNC || vma_start(vma) >= end)
			return -ENOMEM;
		*start = vma_start(vma);
		*hole = true;
	}
	if ((flags & MS_INVALIDATE) && (vma->vm_flags & VM_LOCKED))
		return -EBUSY;
	if ((flags & MS_SYNC) && vma->vm_file && (vma->vm_flags & VM_SHARED))
		job_take(job, vma, *start, end);
	*start = vma_end(vma);
	return *start < end;
}

long do_msync(struct mm_struct *mm, u64 addr, u64 len, int flags)
{
	u64 end = addr + PAGE_ALIGN(len);
	bool hole = false;
	int more = 1;

	if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) || !PAGE_ALIGNED(addr) ||
	    ((flags & MS_ASYNC) && (flags & MS_SYNC)))
		return -EINVAL;
	if (end < addr)
		return -ENOMEM;
	if (end == addr)
		return 0;
	while (more > 0) {
		struct sync_job job = {0};
		int err = 0;

		spin_lock(&mm->lock);
		more = msync_step(mm, &addr, end, flags, &hole, &job);
		spin_unlock(&mm->lock);
		if (job.file && mm->q->hooks.filemap_sync)
			err = mm->q->hooks.filemap_sync(job.file->mapping, job.start, job.end, true);
		job_put(mm->q, &job);
		if (err)
			return err;
	}
	if (more < 0)
		return more;
	return hole ? -ENOMEM : 0;
}
