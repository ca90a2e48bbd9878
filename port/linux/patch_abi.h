/* What x86_64/patch.S and the C side of rewritten system calls agree on.  For the assembler too. */
#ifndef QUIRE_LINUX_PATCH_ABI_H
#define QUIRE_LINUX_PATCH_ABI_H

#define PATCH_MAX_SITES 4096
#define PATCH_STUB_BYTES 10        /* mov $i, %ecx; jmp patch_entry */
/* Slot i: 8 bytes at PATCH_SLOTS + 8 * i.  In `ff 24 25 disp32` the last two bytes of the address stand where `syscall` was: f4 is hlt, so
 * the addresses begin with 0x3ff4. */
#define PATCH_SLOTS 0x3ff40000
#define PATCH_SLOTS_BYTES (PATCH_MAX_SITES * 8)

#define KT_FAST_SP 56              /* struct kthread.fast_sp */
#define CTX_STATE 12               /* struct ctx.state */
#define CTX_STATE_KERNEL 1
#define PF_BYTES 80                /* struct patch_frame */
#define PF_AT (0x20000 - 256 - PF_BYTES) /* from the bottom of the trap slot; 16-byte aligned */
#define PF_AX 48
#define PF_CX 56
#define PF_SP 64
#define PF_FLAGS 72

#endif
