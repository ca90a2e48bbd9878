/*
 * vmalloc: scattered frames made contiguous through the kernel's own page tables.
 *
 * Addresses from here are addresses of the machine's MMU (EL1), not of the host: on a simulated machine they are
 * reached by the port's simulated loads and stores, on bare metal directly.  The hosted port does not use them.
 */
#ifndef QUIRE_VMALLOC_H
#define QUIRE_VMALLOC_H
#include <quire/gfp.h>
#include <quire/types.h>

struct quire;
struct frame;

/* The kernel half of the address space (TTBR1).  Everything here is mapped by one tree of tables. */
#define VMALLOC_START 0xffff800000000000ull
#define VMALLOC_END 0xffffbfff00000000ull
#define PKMAP_BASE 0xffffffffc0000000ull  /* <quire/highmem.h> */
#define FIXADDR_START 0xffffffffd0000000ull
#define FIXADDR_TOP 0xffffffffe0000000ull

/* Physical address of the level-0 table for the kernel half; 0 as long as nothing was ever mapped.  Read it under
 * q->lock. */
u64 kernel_pgd(struct quire *q);

/* ---- kmem/vmalloc.c.  Under no lock, except where noted ---- */
/* size bytes, rounded up to pages, behind them an unmapped guard page.  NULL: out of memory, addresses, or size 0. */
void *vmalloc(struct quire *q, size_t size);
void *vzalloc(struct quire *q, size_t size);
void *__vmalloc(struct quire *q, size_t size, gfp_t gfp);
/* NULL is ignored.  Anything else that vmalloc did not return ends the machine with a report.  The frames return to the
 * page allocator at the next purge. */
void vfree(struct quire *q, const void *addr);
/* Maps count frames of the caller, in this order; the caller keeps owning them.  prot: PAGE_KERNEL_PROT ... of
 * lib/pgtable.h. */
void *vmap(struct quire *q, struct frame **frames, unsigned count, u64 prot);
void vunmap(struct quire *q, const void *addr);
/* The frame mapped at addr, or NULL.  Any context. */
struct frame *vmalloc_to_page(struct quire *q, const void *addr);
static inline bool is_vmalloc_addr(const void *p)
{
	return (u64)(uintptr_t)p >= VMALLOC_START && (u64)(uintptr_t)p < VMALLOC_END;
}
/* Everything freed so far: one flush, then frames and addresses are free for new use.  Returns frames given back. */
u64 vm_unmap_aliases(struct quire *q);
/* Areas, tables and counters agree; says what is wrong through quire_log. */
bool vmalloc_is_valid(struct quire *q);

/* kmalloc if that is possible without effort, else vmalloc; kvfree takes either. */
void *kvmalloc(struct quire *q, size_t size, gfp_t gfp);
void kvfree(struct quire *q, const void *p);

#endif
