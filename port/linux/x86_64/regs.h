/*
 * x86-64: the host's signal frame and the registers in it.
 * Layout: arch/x86/include/uapi/asm/sigcontext.h (struct sigcontext_64, struct _fpx_sw_bytes), ucontext.h.
 */
#ifndef QUIRE_X86_64_REGS_H
#define QUIRE_X86_64_REGS_H
#include "../kernel.h"

struct sigcontext_host {
	u64 r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	u16 cs, gs, fs, ss;
	u64 err, trapno, oldmask, cr2;
	u64 fpstate; /* address of the FXSAVE/XSAVE area, or 0 */
	u64 reserved[8];
};
struct stack_host { u64 sp; s32 flags; u32 pad; u64 size; };
struct ucontext_host {
	u64 uc_flags, uc_link;
	struct stack_host stack;
	struct sigcontext_host r;
	u64 sigmask;
};
_Static_assert(sizeof(struct ucontext_host) == 304, "struct ucontext of the x86-64 kernel ABI");

/* struct _fpx_sw_bytes at byte 464 of the FXSAVE area. */
#define FPX_SW_OFFSET 464
#define FP_XSTATE_MAGIC1 0x46505853u
#define FPX_LEGACY_SIZE 512
#define FPX_MXCSR_OFFSET 24
#define FPX_XSTATE_BV_OFFSET 512
#define MXCSR_DEFAULT 0x1f80u

#define TRAPNO_GP 13
#define TRAPNO_PF 14
#define TRAPNO_AC 17
/* Page-fault error code (Intel SDM vol. 3, 4.7). */
#define PF_PROT BIT(0)
#define PF_WRITE BIT(1)
#define PF_USER BIT(2)
#define PF_INSTR BIT(4)

#define EFLAGS_TF BIT(8)
#define EFLAGS_DF BIT(10)
#define EFLAGS_RF BIT(16)
#define EFLAGS_START 0x202ull /* IF and the always-one bit */

static inline bool ip_in_kernel(u64 ip) { return ip >= KERNEL_BASE && ip < KERNEL_END; }
/* The size of the `syscall` instruction: going back by it restarts the call. */
#define SYSCALL_INSN_SIZE 2

static inline u32 fpstate_size(const u8 *fp)
{
	u32 magic, size;

	__builtin_memcpy(&magic, fp + FPX_SW_OFFSET, 4);
	__builtin_memcpy(&size, fp + FPX_SW_OFFSET + 4, 4);
	return magic == FP_XSTATE_MAGIC1 ? size : FPX_LEGACY_SIZE;
}

/* patch.S */
extern const char patch_stubs[], patch_entry[], patch_entry_saved[], patch_entered[];
extern const char patch_exit_window[], patch_exit_jump[], patch_slow_here[];

/* syscall.S */
void export_registers(const struct ucontext_host *uc, long nr, u64 to[CTX_PORT_REGS]); /* trap.c */
void init_fpstate(struct ucontext_host *uc); /* signal.c: registers of a new program */
void host_sigreturn(struct ucontext_host *uc) __attribute__((noreturn));
void kernel_restorer(void);
extern const char kernel_restorer_end[], native_window_start[], native_window_end[];
extern const char user_copy_start[], user_copy_end[], user_copy_fault[];
u64 user_copy(void *dst, const void *src, u64 n); /* bytes NOT copied */
u64 user_touch_read(u64 addr);  /* 0, or 1 when the address cannot be read */
u64 user_touch_write(u64 addr); /* the same for writing; memory is unchanged */
long host_clone_thread(u64 flags, void *stack_top, u32 *parent_tid, u32 *child_tid, u64 tls, void (*fn)(void *));
void call_on_stack(void *top, void (*fn)(void *), void *arg) __attribute__((noreturn));
void host_unmap_and_exit(void *addr, u64 len, u32 *free_word) __attribute__((noreturn));

static inline void set_gs_base(u64 v)
{
	host_call(158 /* arch_prctl */, 0x1001 /* ARCH_SET_GS */, v);
}

#endif
