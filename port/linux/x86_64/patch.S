/*
 * Rewritten system call sites arrive here (../patch.h), with the guest's registers and stack.
 *
 * The guest's stack is not touched (its red zone is in use): the trap stack is empty while a thread is in guest code.  What
 * `syscall` may change, rcx and r11, are ours from the start; everything else is put back.
 *
 * Signals, by where they interrupt (patch_leave()):
 *	[patch_stubs, patch_entered)                nothing has happened yet: back to the call
 *	C code                                      as anywhere in the kernel: noted
 *	[patch_exit_window, patch_exit_jump)        noted, and the window begins anew, so that it is seen
 *	patch_exit_jump                             the guest, behind the call
 *	patch_slow_here                             the guest, behind the call; its registers stand in struct patch_frame
 */
#include "../patch_abi.h"
	.text
	.balign	16
	.globl patch_stubs
patch_stubs:
	.set	i, 0
	.rept	PATCH_MAX_SITES
	.byte	0xb9			/* mov $i, %ecx */
	.long	i
	.byte	0xe9			/* jmp patch_entry */
	.long	patch_entry - . - 4
	.set	i, i + 1
	.endr

	.globl patch_entry
patch_entry:
	mov	%rsp, %gs:KT_FAST_SP
	.globl patch_entry_saved
patch_entry_saved:
	mov	%gs:0, %rsp
	lea	PF_AT(%rsp), %rsp
	mov	%gs:8, %r11
	movl	$CTX_STATE_KERNEL, CTX_STATE(%r11)
	.globl patch_entered
patch_entered:
	mov	%rdi, (%rsp)
	mov	%rsi, 8(%rsp)
	mov	%rdx, 16(%rsp)
	mov	%r10, 24(%rsp)
	mov	%r8, 32(%rsp)
	mov	%r9, 40(%rsp)
	mov	%rax, PF_AX(%rsp)
	mov	%rcx, PF_CX(%rsp)
	mov	%gs:KT_FAST_SP, %rdi
	mov	%rdi, PF_SP(%rsp)
	pushfq
	popq	PF_FLAGS(%rsp)
	cld
	mov	%rsp, %rdi
	call	patch_syscall
	test	%eax, %eax
	jz	patch_slow
	.globl patch_exit_window
patch_exit_window:
	cmpl	$0, %gs:16
	jne	patch_slow
	mov	(%rsp), %rdi
	mov	8(%rsp), %rsi
	mov	16(%rsp), %rdx
	mov	24(%rsp), %r10
	mov	32(%rsp), %r8
	mov	40(%rsp), %r9
	mov	PF_AX(%rsp), %rax
	mov	PF_CX(%rsp), %rcx
	mov	PF_FLAGS(%rsp), %r11
	pushq	%r11
	popfq
	mov	PF_SP(%rsp), %rsp
	.globl patch_exit_jump
patch_exit_jump:
	jmp	*%rcx

	/* Something is to be done that needs a whole register set: the host makes one, with a signal to ourselves. */
patch_slow:
	mov	$39, %eax		/* getpid */
	syscall
	mov	%eax, %edi
	mov	$186, %eax		/* gettid */
	syscall
	mov	%eax, %esi
	mov	$16, %edx		/* SIG_PRIVATE */
	mov	$234, %eax		/* tgkill */
	syscall
	.globl patch_slow_here
patch_slow_here:
	ud2
	.section .note.GNU-stack,"",@progbits
