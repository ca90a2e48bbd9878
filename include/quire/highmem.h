/*
 * HighMem: frames outside the direct map are reached through short-lived mappings in the kernel half.
 * A frame of the direct map needs none: its own address is returned and nothing happens.
 */
#ifndef QUIRE_HIGHMEM_H
#define QUIRE_HIGHMEM_H
#include <quire/types.h>
#include <quire/vmalloc.h>

struct quire;
struct frame;

/* ---- permanent mappings: kmem/highmem.c ---- */
#define LAST_PKMAP 512u /* slots, as on 32-bit Linux with 2 MiB tables */
/* The frame's mapping, counted; may be used from any context.  Waits for a slot, so: under no lock. */
void *kmap(struct quire *q, struct frame *f);
void kunmap(struct quire *q, struct frame *f);
/* The address that frame f is mapped at by kmap or the direct map, or NULL. */
void *page_address(struct quire *q, struct frame *f);

/* ---- mappings of the calling context, which nest: unmapped in the reverse order ---- */
#define KM_MAX_IDX 16u          /* a context's slots */
#define KM_MAX_CONTEXTS 256u
/* Never waits, never fails (the slots' tables are made at boot); more than KM_MAX_IDX at once end the machine. */
void *kmap_local_page(struct quire *q, struct frame *f);
void kunmap_local(struct quire *q, const void *addr);

/* Frames that nobody else sees yet, wherever they lie; not logged (port_clear_pages, port_copy_pages). */
void clear_highpages(struct quire *q, struct frame *f, u32 n); /* for q->hooks.clear_highpages */
void copy_highpages(struct quire *q, struct frame *to, struct frame *from, u32 n);

/* ---- fixed addresses ---- */
#define FIX_SLOTS 16u           /* for set_fixmap; above them lie the slots of kmap_local_page */
static inline u64 fix_to_virt(unsigned idx) { return FIXADDR_START + (u64)idx * PAGE_SIZE; }
/* Maps a physical page at a fixed address; an earlier mapping is cleared and flushed first.  0, or -ENOMEM when the
 * fixmap's table is missing and cannot be made (never with HighMem, where it is made at boot). */
int set_fixmap(struct quire *q, unsigned idx, u64 phys, u64 prot);
void clear_fixmap(struct quire *q, unsigned idx);

#endif
