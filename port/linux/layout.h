/*
 * Where things lie in the host address space of every process of a hosted machine.
 *
 *	0x0000_0001_0000 .. 0x7000_0000_0000   the guest
 *	0x7100_0000_0000 .. 0x7b00_0000_0000   anchors: one hidden mapping per mapped host file (private)
 *	0x7b80_0000_0000 .. 0x7b80_0020_0000   scratch of hugeram.c (private)
 *	0x7c00_0000_0000 ..                    SHARED: the machine's memfd, the same everywhere
 *	    + 0                                  struct machine_shared (port state, struct quire)
 *	    + HOST_MM_OFFSET                     struct host_mm [MAX_HOST_MM], the first in the same 2 MiB
 *	    + RAM_BLOCKS_OFFSET                  one byte per 2 MiB of RAM: hugeram.c
 *	    + CTX_OFFSET                         struct ctx [MAX_CTX]
 *	    + MEM_MAP_OFFSET                     frame records
 *	    + RAM_OFFSET                         RAM: the direct map
 *	0x7d00_0000_0000 ..                    trap stacks (private), one TRAP_SLOT_SIZE per thread
 *	0x7e00_0000_0000 ..                    the kernel ELF: text, constants, private data
 *	above                                  the host's vdso and, in the supervisor, libc
 *
 * Host mmaps may start near 0x7eff_xxxx_xxxx (host-notes), hence the upper bound.
 */
#ifndef QUIRE_LINUX_LAYOUT_H
#define QUIRE_LINUX_LAYOUT_H

#define GUEST_END 0x700000000000ull
#define ANCHOR_BASE 0x710000000000ull
#define ANCHOR_END 0x7b0000000000ull
#define SCRATCH_BASE 0x7b8000000000ull /* aligned to 2 MiB */
#define SHARED_BASE 0x7c0000000000ull
#define TRAP_BASE 0x7d0000000000ull
#define KERNEL_BASE 0x7e0000000000ull
#define KERNEL_END 0x7e0040000000ull

#define HOST_MM_OFFSET 0x0000100000ull    /* 1 MiB for port state and struct quire */
#define MAX_HOST_MM 32768u
#define RAM_BLOCKS_OFFSET 0x0060000000ull /* 4.5 million blocks at most */
/* A context is half a MiB, mostly log.  The guests' begin with 2 MiB of their own, which a huge page can hold (sup_image.c). */
#define GUEST_CTX_OFFSET 0x0080000000ull
#define SUPERVISOR_CTXS 2u
#define CTX_OFFSET (GUEST_CTX_OFFSET - SUPERVISOR_CTXS * sizeof(struct ctx))
#define MAX_CTX 16384u
#define MEM_MAP_OFFSET 0x0500000000ull
#define RAM_OFFSET 0x2000000000ull     /* 108 GiB of frame records: 9 TiB of RAM would fit */
#define MAX_RAM (TRAP_BASE - SHARED_BASE - RAM_OFFSET)

#define TRAP_SLOT_SIZE 0x20000ull      /* 128 KiB: struct kthread at the bottom, the stack above */

/* The one descriptor a guest process carries for the kernel: the machine's memfd.  Below the usual soft limit of
 * 1024, so that every process can hold it and fork copies a small table. */
#define KERNEL_FD 1021

#endif
