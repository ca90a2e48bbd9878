/* What proc/maps.c and proc/smaps.c share. */
#ifndef QUIRE_PROC_MAPS_H
#define QUIRE_PROC_MAPS_H
#include <mm/mm.h>
#include "proc.h"

/* One line of maps, with its newline.  Under mm->lock. */
void proc_vma_line(struct mm_struct *mm, struct vm_area_struct *vma, struct fmt_buf *out);
/* The line of what follows the last VMA; false if nothing does. */
bool proc_gate_line(struct quire *q, struct fmt_buf *out);
/* Its first part, up to column 73 where names begin: for lines that stand for more than one VMA. */
void proc_vma_prefix(struct fmt_buf *out, u64 start, u64 end, u64 vm_flags, u64 offset, u64 dev, u64 ino);
/* A piece (proc.h) of what `show` makes of one VMA after the other. */
typedef u64 (*show_vma_fn)(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out);
u64 proc_vmas_from(show_vma_fn show, struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out);

#endif
