/* What vmalloc.c, highmem.c and proc/vmallocinfo.c share. */
#ifndef QUIRE_KMEM_VMALLOC_H
#define QUIRE_KMEM_VMALLOC_H
#include <pgtable.h>
#include <quire/highmem.h>
#include <quire/vmalloc.h>
#include "slab.h"

#define KMEM_VMALLOC_MAX (VMALLOC_END - VMALLOC_START - 2 * PAGE_SIZE)

/* ---- vmalloc.c ---- */
struct pgtable kernel_pgtable(struct quire *q); /* the kernel half; under q->lock */
/* The walker counts addresses from 0 in either half. */
static inline u64 kernel_offset(u64 addr)
{
	return addr & (BIT(VA_BITS) - 1);
}

/* ---- highmem.c ---- */
/* Makes the tables of the fixed mappings, if the machine has HighMem.  0 or -ENOMEM. */
int highmem_init(struct quire *q);

#endif
