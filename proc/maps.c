/*
 * /proc/PID/maps: one line for each VMA, as Linux prints it (fs/proc/task_mmu.c, show_map_vma):
 *
 *	start-end perms offset dev inode          name
 *	55b9de2f8000-55b9de2fa000 r--p 00000000 fe:00 247134                     /usr/bin/cat
 *
 * Names stand at column 73; a line without one ends with the space behind the inode.
 *
 * Locks: mm->lock; the reader commits after a few VMAs and goes on behind the last address it has shown.
 */
#include "maps.h"

#define NAME_COLUMN 73u
#define GATE_START 0xffffffffff600000ull
#define VMAS_AT_ONCE 4u /* bounds the stores of one transaction: the text is written inside it */

/* dev_t as stat(2) gives it on 64-bit Linux (glibc, sys/sysmacros.h). */
static unsigned dev_major(u64 dev)
{
	return (unsigned)(((dev >> 8) & 0xfff) | ((dev >> 32) & ~0xfffull));
}

static unsigned dev_minor(u64 dev)
{
	return (unsigned)((dev & 0xff) | ((dev >> 12) & ~0xffull));
}

void proc_vma_prefix(struct fmt_buf *out, u64 start, u64 end, u64 vm_flags, u64 offset, u64 dev, u64 ino)
{
	fmt_printf(out, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", (unsigned long)start, (unsigned long)end,
		   vm_flags & VM_READ ? 'r' : '-', vm_flags & VM_WRITE ? 'w' : '-', vm_flags & VM_EXEC ? 'x' : '-',
		   vm_flags & VM_MAYSHARE ? 's' : 'p', (unsigned long)offset, dev_major(dev), dev_minor(dev),
		   (unsigned long)ino);
}

/* The name of a VMA without a file, by where it lies; NULL if it has none. */
static const char *special_name(const struct mm_struct *mm, const struct vm_area_struct *vma)
{
	u64 start = vma_start(vma), end = vma_end(vma);

	if (vma->name)
		return vma->name;
	if (start < mm->brk && end > mm->start_brk)
		return "[heap]";
	if (start <= mm->start_stack && end >= mm->start_stack)
		return "[stack]";
	return NULL;
}

/* As seq_path(): a newline in a name must not end the line. */
static void put_path(struct fmt_buf *out, const char *path)
{
	size_t n = 0;

	for (; path[n]; path += n ? n : 1, n = 0) {
		while (path[n] && path[n] != '\n')
			n++;
		fmt_write(out, path, n);
		if (path[n] == '\n' && !n)
			fmt_write(out, "\\012", 4);
	}
}

void proc_vma_line(struct mm_struct *mm, struct vm_area_struct *vma, struct fmt_buf *out)
{
	struct file *file = vma->vm_file;
	const char *name = file ? file->path : special_name(mm, vma);
	size_t from = out->len;

	proc_vma_prefix(out, vma_start(vma), vma_end(vma), vma->vm_flags, file ? vma->vm_pgoff << PAGE_SHIFT : 0,
			file ? file->mapping->dev : 0, file ? file->mapping->ino : 0);
	if (name) {
		fmt_pad_to(out, from, NAME_COLUMN, ' ');
		put_path(out, name);
	}
	fmt_putc(out, '\n');
}

/* x86-64: a page of the host's that is in no address space's tree.  False if there is none. */
bool proc_gate_line(struct quire *q, struct fmt_buf *out)
{
	size_t from = out->len;

	if (!q->cfg.vsyscall_flags)
		return false;
	proc_vma_prefix(out, GATE_START, GATE_START + PAGE_SIZE, q->cfg.vsyscall_flags, 0, 0, 0);
	fmt_pad_to(out, from, NAME_COLUMN, ' ');
	fmt_printf(out, "[vsyscall]\n");
	return true;
}

/* Shows at most n VMAs from addr on; returns where to go on, PROC_VMA_END at the end. */
static u64 show_some(struct mm_struct *mm, u64 addr, unsigned n, struct fmt_buf *out)
{
	struct vm_area_struct *vma;

	spin_lock(&mm->lock);
	vma = find_vma(mm, addr);
	for (; vma && n; n--) {
		proc_vma_line(mm, vma, out);
		addr = vma_end(vma);
		vma = vma_next(mm, vma);
	}
	spin_unlock(&mm->lock);
	if (vma)
		return addr;
	proc_gate_line(mm->q, out);
	return PROC_VMA_END;
}

void proc_maps(struct quire *q, struct mm_struct *mm, struct fmt_buf *out)
{
	for (u64 addr = 0; addr != PROC_VMA_END;)
		addr = show_some(mm, addr, VMAS_AT_ONCE, out);
}

u64 proc_vmas_from(show_vma_fn show, struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out)
{
	size_t before = 0, last = 0;

	/* Blocks are much alike: one that would not fit is rarely made in vain. */
	while (addr != PROC_VMA_END && out->len + last <= PROC_SEQ_PAGE) {
		u64 next = show(q, mm, addr, out);

		if (before && out->len > PROC_SEQ_PAGE) {
			out->len = before;
			break;
		}
		last = out->len - before;
		before = out->len;
		addr = next;
	}
	return addr;
}

static u64 show_one(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out)
{
	return show_some(mm, addr, 1, out);
}

u64 proc_maps_from(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out)
{
	return proc_vmas_from(show_one, q, mm, addr, out);
}
