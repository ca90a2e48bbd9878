/*
 * mincore and msync: what is in memory, and writing shared file pages back.
 *
 * A page of a file whose bytes the machine does not hold (a host's file) is in memory if its owner says so: a frame stands for
 * it in the page cache also when nobody has read the bytes yet.
 *
 * Locks: mincore looks under mm->lock (and q->lock for the page cache), a VMA or a piece at a time; msync drops
 * everything for the I/O and looks the next VMA up again.
 */
#include <mm/vma.h>

#define MINCORE_BATCH 4096u /* pages looked at in one critical section */
#define ASK 2u

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

/* Does only the file's owner know which of its pages are in memory?  A frame stands for the page all the same. */
static bool bytes_elsewhere(const struct vm_area_struct *vma)
{
	return vma->vm_file && vma->vm_file->mapping->ops->mincore;
}

/* The answer, with ASK if it is a guess that the file's owner corrects. */
static u8 mincore_page(struct mm_struct *mm, const struct vm_area_struct *vma, u64 addr)
{
	int level;
	pte_t *slot = pgtable_lookup(mm->q, mm->pgd, addr, &level);
	pte_t p = slot ? pte_read(slot) : __pte(0);
	u8 ask = bytes_elsewhere(vma) ? ASK : 0;

	if (pte_none(p) || pte_is_guard(p))
		return cached(mm, vma, addr) | ask;
	if (pte_is_swap(p))
		return swap_resident(mm, p);
	if (!pte_present(p))
		return pte_is_migration(p);
	return 1 | (ask && !pte_special(p) && pte_folio(mm, p)->f.type == FRAME_FILE ? ask : 0);
}

/* A stretch of pages of one VMA. */
struct mincore_piece {
	u64 start, end;    /* addresses; start == end: nothing is mapped there */
	struct file *file; /* counted, if its owner is to be asked; */
	u64 index;         /* the file's page at start */
};

/* Answers for the VMA at piece->start, not beyond piece->end. */
static void look_at_piece(struct mm_struct *mm, struct mincore_piece *piece, u8 *vec)
{
	struct vm_area_struct *vma;
	u64 addr = piece->start;

	spin_lock(&mm->lock);
	vma = vma_lookup(mm, addr);
	piece->end = vma ? MIN(MIN(piece->end, vma_end(vma)), addr + ((u64)MINCORE_BATCH << PAGE_SHIFT)) : addr;
	for (; addr < piece->end; addr += PAGE_SIZE)
		*vec++ = mincore_page(mm, vma, addr);
	if (vma && bytes_elsewhere(vma)) {
		piece->file = vma->vm_file;
		piece->index = linear_page_index(vma, piece->start);
		spin_lock(&mm->q->lock);
		piece->file->refcount++;
		spin_unlock(&mm->q->lock);
	}
	spin_unlock(&mm->lock);
}

/* Runs of ASK become what the owner says; if it cannot say, the guess stands. */
static void ask_owner(struct quire *q, const struct mincore_piece *piece, u8 *vec)
{
	struct address_space *m = piece->file->mapping;
	u64 n = (piece->end - piece->start) >> PAGE_SHIFT, first, i = 0;

	while (i < n) {
		for (first = i; i < n && (vec[i] & ASK); i++)
			vec[i] &= 1;
		if (i > first)
			m->ops->mincore(m, piece->index + first, i - first, vec + first);
		else
			i++;
	}
	if (q->hooks.file_put)
		q->hooks.file_put(piece->file);
}

long do_mincore(struct mm_struct *mm, u64 addr, u64 len, u8 *vec)
{
	u64 end = addr + PAGE_ALIGN(len);

	if (!PAGE_ALIGNED(addr))
		return -EINVAL;
	if (len > mm->task_size || addr > mm->task_size - len)
		return -ENOMEM;
	while (addr < end) {
		struct mincore_piece piece = {.start = addr, .end = end};

		look_at_piece(mm, &piece, vec);
		if (piece.end == piece.start)
			return -ENOMEM;
		if (piece.file)
			ask_owner(mm->q, &piece, vec);
		vec += (piece.end - addr) >> PAGE_SHIFT;
		addr = piece.end;
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
