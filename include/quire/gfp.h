/*
 * Allocation flags, with Linux's names and meanings (include/linux/gfp_types.h).
 *
 * One rule differs from Linux and is central here: direct reclaim never runs
 * under a lock.  An allocation made while the context holds any spin lock fails
 * at once when memory is short (as if GFP_NOWAIT); the outermost caller drops
 * its locks, calls the reclaim hook and tries again.
 */
#ifndef QUIRE_GFP_H
#define QUIRE_GFP_H
#include <quire/types.h>

typedef u32 gfp_t;
#define __GFP_DMA ((gfp_t)0x01)
#define __GFP_HIGHMEM ((gfp_t)0x02)
#define __GFP_DMA32 ((gfp_t)0x04)
#define __GFP_MOVABLE ((gfp_t)0x08)
#define __GFP_RECLAIMABLE ((gfp_t)0x10)
#define __GFP_HIGH ((gfp_t)0x20)           /* may use half of the min reserve */
#define __GFP_IO ((gfp_t)0x40)
#define __GFP_FS ((gfp_t)0x80)
#define __GFP_ZERO ((gfp_t)0x100)
#define __GFP_DIRECT_RECLAIM ((gfp_t)0x400)
#define __GFP_KSWAPD_RECLAIM ((gfp_t)0x800)
#define __GFP_WRITE ((gfp_t)0x1000)
#define __GFP_NOWARN ((gfp_t)0x2000)
#define __GFP_RETRY_MAYFAIL ((gfp_t)0x4000)
#define __GFP_NOFAIL ((gfp_t)0x8000)
#define __GFP_NORETRY ((gfp_t)0x10000)
#define __GFP_MEMALLOC ((gfp_t)0x20000)    /* may use every reserve */
#define __GFP_COMP ((gfp_t)0x40000)
#define __GFP_NOMEMALLOC ((gfp_t)0x80000)
#define __GFP_HARDWALL ((gfp_t)0x100000)
#define __GFP_THISNODE ((gfp_t)0x200000)
#define __GFP_ACCOUNT ((gfp_t)0x400000)
#define __GFP_TELL_ZERO ((gfp_t)0x800000)  /* ours: FF_ZEROED stays set if the bytes are known to be zero; who writes clears it */
#define __GFP_RECLAIM (__GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM)

#define GFP_ATOMIC (__GFP_HIGH | __GFP_KSWAPD_RECLAIM)
#define GFP_KERNEL (__GFP_RECLAIM | __GFP_IO | __GFP_FS)
#define GFP_NOWAIT (__GFP_KSWAPD_RECLAIM | __GFP_NOWARN)
#define GFP_NOIO (__GFP_RECLAIM)
#define GFP_NOFS (__GFP_RECLAIM | __GFP_IO)
#define GFP_USER (__GFP_RECLAIM | __GFP_IO | __GFP_FS | __GFP_HARDWALL)
#define GFP_DMA __GFP_DMA
#define GFP_DMA32 __GFP_DMA32
#define GFP_HIGHUSER (GFP_USER | __GFP_HIGHMEM)
#define GFP_HIGHUSER_MOVABLE (GFP_HIGHUSER | __GFP_MOVABLE)
#define GFP_TRANSHUGE_LIGHT \
	((GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN) & ~__GFP_RECLAIM)

#endif
