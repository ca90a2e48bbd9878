/*
 * x86-64 primitives of the hosted kernel: host calls, the restartable windows, guest memory copies, thread start.
 *
 * Two windows close the lost-wakeup races (host-notes 5).  A signal handler that finds the interrupted ip inside
 *	[native_window_start, native_window_end)   sets ip = native_window_start
 *	[kernel_restorer, kernel_restorer_end)     sets ip = kernel_restorer
 * after it has set %gs:16 (kthread.pending), so the check is made again.
 */
	.text
	.globl host_syscall
	.type host_syscall, @function
host_syscall:				/* (nr, a, b, c, d, e, [8(%rsp)] f) */
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	syscall
	ret

	.globl host_syscall_interruptible
	.type host_syscall_interruptible, @function
host_syscall_interruptible:
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	xor	%ecx, %ecx		/* rcx = 0 says: not started (the syscall instruction overwrites it) */
	.globl native_window_start
native_window_start:
	cmpl	$0, %gs:16
	jne	1f
	syscall
	.globl native_window_end
native_window_end:
	ret
1:	/* rcx == native_window_end: the host had begun it and would have restarted it */
	lea	native_window_end(%rip), %rax
	cmp	%rax, %rcx
	mov	$-513, %rax		/* ERESTARTNOINTR */
	mov	$-512, %rdx		/* ERESTARTSYS */
	cmove	%rdx, %rax
	ret

/* Return from the outermost trap.  rsp = struct ucontext_host *. */
	.globl kernel_restorer
	.type kernel_restorer, @function
kernel_restorer:
	cmpl	$0, %gs:16
	jne	1f
	mov	$15, %eax		/* rt_sigreturn */
	syscall
	.globl kernel_restorer_end
kernel_restorer_end:
	ud2
1:	mov	%rsp, %rdi
	mov	%rsp, %rbx
	and	$-16, %rsp
	call	exit_work
	mov	%rbx, %rsp
	jmp	kernel_restorer

	.globl call_restorer
	.type call_restorer, @function
call_restorer:				/* (uc) */
	mov	%rdi, %rsp
	jmp	kernel_restorer

	.globl host_sigreturn
	.type host_sigreturn, @function
host_sigreturn:				/* (uc) */
	mov	%rdi, %rsp
	mov	$15, %eax
	syscall
	ud2

/* Copies to or from guest memory by its own address.  A fault that cannot be resolved goes to user_copy_fault. */
	.globl user_copy_start
user_copy_start:
	.globl user_copy
	.type user_copy, @function
user_copy:				/* (dst, src, n) */
	mov	%rdx, %rcx
	rep movsb
	mov	%rcx, %rax
	ret
	.globl user_touch_read
	.type user_touch_read, @function
user_touch_read:
	movb	(%rdi), %al
	xor	%eax, %eax
	ret
	.globl user_touch_write
	.type user_touch_write, @function
user_touch_write:			/* an atomic or with 0: needs write access, changes nothing */
	lock orb $0, (%rdi)
	xor	%eax, %eax
	ret
	.globl user_copy_end
user_copy_end:
	.globl user_copy_fault
user_copy_fault:			/* rcx: bytes left for user_copy; the touches return nonzero too */
	lea	1(%rcx), %rax
	test	%rcx, %rcx
	cmovne	%rcx, %rax
	ret

/* (flags, stack_top, parent_tid, child_tid, tls, fn): the child runs fn on the new stack; stack_top[-1] = argument. */
	.globl host_clone_thread
	.type host_clone_thread, @function
host_clone_thread:
	mov	%rcx, %r10
	mov	$56, %eax		/* clone */
	push	%r12
	mov	%r9, %r12
	syscall
	test	%rax, %rax
	jz	1f
	pop	%r12
	ret
1:	xor	%ebp, %ebp
	mov	-8(%rsp), %rdi
	sub	$64, %rsp
	and	$-16, %rsp
	call	*%r12
	ud2

	.globl call_on_stack
	.type call_on_stack, @function
call_on_stack:				/* (top, fn, arg) */
	mov	%rdi, %rsp
	and	$-16, %rsp
	mov	%rdx, %rdi
	xor	%ebp, %ebp
	call	*%rsi
	ud2
	.section .note.GNU-stack,"",@progbits
