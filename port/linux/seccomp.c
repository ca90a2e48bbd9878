/*
 * The seccomp filter: which system calls of the guest trap.
 *
 * Numbers first, so that the host's per-filter cache of always-allowed numbers works (seccomp(2), since Linux 5.11);
 * then the instruction pointer: calls made by the kernel ELF itself pass; everything else traps with SIGSYS.
 * The filter is inherited by every process of the machine.
 */
#include "process.h"
#include "hostsys.h"
#include "native_table.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define MAX_NR 480
#define MAX_FILTER 700
#define PR_SET_NO_NEW_PRIVS_ 38
#define PR_GET_NO_NEW_PRIVS_ 39

static struct sock_filter prog[MAX_FILTER];
static u16 plen;

static void emit(u16 code, u32 k, u8 jt, u8 jf)
{
	prog[plen++] = (struct sock_filter){ code, jt, jf, k };
}

static void emit_ret(u32 action)
{
	emit(BPF_RET | BPF_K, action, 0, 0);
}

#define LOAD_AT(off) emit(BPF_LD | BPF_W | BPF_ABS, (u32)(off), 0, 0)
#define LOAD(field) LOAD_AT(offsetof(struct seccomp_data, field))

/* For each run [lo, hi] of numbers: if (nr >= lo && nr <= hi) allow. */
static void emit_allowed_numbers(void)
{
	u32 nr, hi;

	for (nr = 0; nr < MAX_NR; nr = hi) {
		hi = nr + 1;
		if (!native_is_untrapped((long)nr))
			continue;
		while (hi < MAX_NR && native_is_untrapped((long)hi))
			hi++;
		emit(BPF_JMP | BPF_JGE | BPF_K, nr, 0, 2);
		emit(BPF_JMP | BPF_JGE | BPF_K, hi, 1, 0);
		emit_ret(SECCOMP_RET_ALLOW);
	}
}

/* close(fd) runs natively except on the kernel's own descriptor and above.  (dup(fd) does not: a copy of a served descriptor
 * would be read unseen.) */
static void emit_low_descriptors(void)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, __NR_close, 0, 4);
	LOAD(args[0]);
	emit(BPF_JMP | BPF_JGE | BPF_K, KERNEL_FD, 1, 0);
	emit_ret(SECCOMP_RET_ALLOW);
	LOAD(nr);
}

long seccomp_install(void)
{
	struct sock_fprog fprog = { 0, prog };

	plen = 0;
	LOAD(arch);
	emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	emit_ret(SECCOMP_RET_ERRNO | ENOSYS); /* int 0x80: i386 calls do not exist here */
	LOAD(nr);
	emit_allowed_numbers();
	emit_low_descriptors();
	LOAD_AT(offsetof(struct seccomp_data, instruction_pointer) + 4);
	emit(BPF_JMP | BPF_JEQ | BPF_K, (u32)(KERNEL_BASE >> 32), 0, 3);
	LOAD(instruction_pointer);
	emit(BPF_JMP | BPF_JGE | BPF_K, (u32)(KERNEL_END - KERNEL_BASE), 1, 0);
	emit_ret(SECCOMP_RET_ALLOW);
	emit_ret(SECCOMP_RET_TRAP);
	fprog.len = plen;
	kproc.no_new_privs = host_call(__NR_prctl, PR_GET_NO_NEW_PRIVS_, 0, 0, 0, 0) == 1;
	if (host_call(__NR_prctl, PR_SET_NO_NEW_PRIVS_, 1, 0, 0, 0) < 0)
		return -EPERM;
	return host_call(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog);
}
