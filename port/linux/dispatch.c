/*
 * System calls that the machine serves itself.  Everything else is native_syscall()'s: pinned and executed by the host.
 */
#include "hostfile.h"
#include "hostsys.h"
#include "memory.h"
#include "process.h"
#include "../../sys/sys.h"
#include "guest_signal.h"
#include "x86_64/native_nr.h"
#include "x86_64/regs.h"

#define ARCH_SET_GS_ 0x1001
#define ARCH_SET_FS_ 0x1002
#define ARCH_GET_FS_ 0x1003
#define ARCH_GET_GS_ 0x1004

static long sys_arch_prctl(u64 code, u64 arg)
{
	u64 v;
	long ret;

	switch (code) {
	case ARCH_SET_GS_:
		klog("arch_prctl(ARCH_SET_GS) refused: the hosted kernel keeps gs");
		return -EPERM;
	case ARCH_SET_FS_:
		return host_call(__NR_arch_prctl, code, arg);
	case ARCH_GET_FS_:
		ret = host_call(__NR_arch_prctl, code, &v);
		return ret < 0 ? ret : copy_to_user(arg, &v, 8);
	case ARCH_GET_GS_:
		v = 0;
		return copy_to_user(arg, &v, 8);
	default:
		return -EINVAL;
	}
}

static long sys_set_robust_list(struct kthread *k, u64 head, u64 len)
{
	if (len != 24)
		return -EINVAL;
	k->guest_robust_head = head;
	k->ctx->port_data[CTXP_ROBUST] = head;
	k->guest_robust_len = len;
	return 0;
}

static long sys_get_robust_list(struct kthread *k, u64 pid, u64 head, u64 len)
{
	u64 theirs[2];
	long ret;

	if (pid && (s32)pid != k->tid) {
		ret = host_call(__NR_get_robust_list, pid, &theirs[0], &theirs[1]);
		return ret < 0 ? ret : -EPERM;
	}
	if (copy_to_user(head, &k->guest_robust_head, 8) || copy_to_user(len, &k->guest_robust_len, 8))
		return -EFAULT;
	return 0;
}

#define PR_SET_PDEATHSIG_ 1
#define PR_GET_PDEATHSIG_ 2
#define PR_SET_NAME_ 15
#define PR_GET_SECCOMP_ 21
#define PR_SET_SECCOMP_ 22
#define PR_SET_MM_ 35
#define PR_SET_NO_NEW_PRIVS_ 38
#define PR_GET_NO_NEW_PRIVS_ 39
#define PR_GET_TID_ADDRESS_ 40
#define PR_SET_MDWE_ 65
#define PR_GET_MDWE_ 66

/* A filter would apply to this kernel's own calls as well.  As from a kernel that is built without it. */
static long refuse_seccomp(void)
{
	if (first_time(__NR_seccomp))
		klog("seccomp refused: the filter would bind this kernel, which runs in the same process");
	return -ENOSYS;
}

static long sys_prctl(struct trap *t, const u64 a[6])
{
	u32 sig;
	long ret;

	switch (a[0]) {
	case PR_SET_PDEATHSIG_:
		/* The host's is the kernel's own (the supervisor's death); the guest's wish is kept for PR_GET. */
		if (a[1] > NSIG)
			return -EINVAL;
		t->k->guest_pdeathsig = (u32)a[1];
		return 0;
	case PR_GET_PDEATHSIG_:
		sig = t->k->guest_pdeathsig;
		return copy_to_user(a[1], &sig, 4);
	case PR_GET_TID_ADDRESS_:
		return copy_to_user(a[1], &t->k->clear_child_tid, 8);
	case PR_GET_SECCOMP_:
		return 0; /* the one that is there is the machine's */
	case PR_SET_SECCOMP_:
		refuse_seccomp();
		return -EINVAL;
	case PR_SET_MM_:
		if (first_time(SAID_PR_SET_MM))
			klog("prctl(PR_SET_MM) refused: the machine knows best where a program's parts lie");
		return -EINVAL;
	case PR_SET_NO_NEW_PRIVS_:
		if (a[1] != 1 || a[2] || a[3] || a[4])
			return -EINVAL;
		kproc.no_new_privs = 1;
		return 0;
	case PR_GET_NO_NEW_PRIVS_:
		return a[1] || a[2] || a[3] || a[4] ? -EINVAL : (long)kproc.no_new_privs;
	case PR_SET_MDWE_:
		return a[2] || a[3] || a[4] ? -EINVAL : mm_set_mdwe(kproc.mm, a[1]);
	case PR_GET_MDWE_:
		return a[1] || a[2] || a[3] || a[4] ? -EINVAL : (long)kproc.mm->mdwe;
	case PR_SET_NAME_:
		ret = native_syscall(t, __NR_prctl, a);
		if (ret == 0 && t->k->tid == kproc.pid) {
			char comm[TASK_COMM_LEN] = { 0 };

			host_call(__NR_prctl, 16 /* PR_GET_NAME */, comm);
			task_set_comm(kproc.task, comm);
		}
		return ret;
	default:
		return native_syscall(t, __NR_prctl, a);
	}
}

static long memory_call(struct trap *t, long nr, const u64 a[6])
{
	struct task *task = kproc.task;

	if (nr == __NR_mlock || nr == __NR_mlock2 || nr == __NR_mlockall || nr == __NR_mremap ||
	    (nr == __NR_brk && (kproc.mm->def_flags & VM_LOCKED)))
		capabilities_refresh(kproc.mm);
	switch (nr) {
	case __NR_mmap: return guest_mmap(a[0], a[1], a[2], a[3], a[4], a[5]);
	case __NR_munmap: return guest_munmap(a[0], a[1]);
	case __NR_mprotect: return sys_mprotect(task, a[0], a[1], a[2]);
	case __NR_mremap: return sys_mremap(task, a[0], a[1], a[2], a[3], a[4]);
	case __NR_brk: return sys_brk(task, a[0]);
	case __NR_remap_file_pages: return sys_remap_file_pages(task, a[0], a[1], a[2], a[3], a[4]);
	/* There are no keys: only "none" (-1) can be meant, and then it is mprotect. */
	case __NR_pkey_mprotect: return (s32)a[3] == -1 ? sys_mprotect(task, a[0], a[1], a[2]) : -EINVAL;
	case __NR_madvise: return sys_madvise(task, a[0], a[1], (int)a[2]);
	case __NR_mlock: return sys_mlock(task, a[0], a[1]);
	case __NR_mlock2: return sys_mlock2(task, a[0], a[1], a[2]);
	case __NR_munlock: return sys_munlock(task, a[0], a[1]);
	case __NR_mlockall: return sys_mlockall(task, (int)a[0]);
	case __NR_munlockall: return sys_munlockall(task);
	case __NR_msync: return sys_msync(task, a[0], a[1], (int)a[2]);
	case __NR_mincore: return sys_mincore(task, a[0], a[1], a[2]);
	case __NR_process_vm_readv: return sys_process_vm_readv(task, guest_may_attach((s32)a[0]), a[1], a[2], a[3], a[4], a[5]);
	case __NR_process_vm_writev: return sys_process_vm_writev(task, guest_may_attach((s32)a[0]), a[1], a[2], a[3], a[4], a[5]);
	case __NR_mseal: return sys_mseal(task, a[0], a[1], a[2]);
	case __NR_process_madvise: return guest_process_madvise(a);
	case __NR_process_mrelease: return guest_process_mrelease(a);
	case __NR_shmat: return guest_shmat((s32)a[0], a[1], a[2]);
	case __NR_shmdt: return guest_shmdt(a[0]);
	case __NR_shmctl: return guest_shmctl(t, a);
	case __NR_sysinfo: return guest_sysinfo(a[0]);
	case __NR_swapon: return guest_swapon(a[0], a[1]);
	case __NR_swapoff: return guest_swapoff(a[0]);
	case __NR_prlimit64: return sys_prlimit64(t, a);
	case __NR_getrlimit: return sys_getrlimit(t, a);
	case __NR_setrlimit: return sys_setrlimit(t, a);
	default: return -EOPNOTSUPP;
	}
}

/* Rewritten system calls need some addresses, until the guest maps something there. */
static long sys_memory(struct trap *t, long nr, const u64 a[6])
{
	long ret = memory_call(t, nr, a);

	if (ret > 0 && (nr == __NR_mmap || nr == __NR_brk || nr == __NR_mremap || nr == __NR_shmat))
		patch_check_room((u64)ret);
	return ret;
}

static long sys_numa(struct trap *t, long nr, const u64 a[6])
{
	switch (nr) {
	case __NR_mbind: return guest_mbind(a);
	case __NR_set_mempolicy: return guest_set_mempolicy(a);
	case __NR_get_mempolicy: return guest_get_mempolicy(a);
	case __NR_move_pages: return guest_move_pages(a);
	case __NR_migrate_pages: return guest_migrate_pages(a);
	default: return -EOPNOTSUPP;
	}
}

static long sys_process(struct trap *t, long nr, const u64 a[6])
{
	switch (nr) {
	case __NR_fork: return sys_clone(t, 17, 0, 0, 0, 0);
	case __NR_vfork: return sys_vfork(t);
	case __NR_clone: return sys_clone(t, a[0], a[1], a[2], a[3], a[4]);
	case __NR_clone3: return sys_clone3(t, a[0], a[1]);
	case __NR_execve: return sys_execve(t, a[0], a[1], a[2]);
	case __NR_execveat: return sys_execveat(t, (s32)a[0], a[1], a[2], a[3], (s32)a[4]);
	case __NR_exit: return sys_exit_thread(t, (s32)a[0]);
	case __NR_exit_group: return sys_exit_group(t, (s32)a[0]);
	case __NR_set_tid_address: t->k->clear_child_tid = a[0]; return t->k->tid;
	case __NR_set_robust_list: return sys_set_robust_list(t->k, a[0], a[1]);
	case __NR_get_robust_list: return sys_get_robust_list(t->k, a[0], a[1], a[2]);
	case __NR_futex: return sys_futex(t, a);
	case __NR_futex_waitv: return sys_futex_waitv(t, a);
	case __NR_futex_wake: return sys_futex_wake(t, a);
	case __NR_futex_wait: return sys_futex_wait(t, a);
	case __NR_futex_requeue: return sys_futex_requeue(t, a);
	case __NR_arch_prctl: return sys_arch_prctl(a[0], a[1]);
	case __NR_prctl: return sys_prctl(t, a);
	default: return -EOPNOTSUPP;
	}
}

static long sys_signals(struct trap *t, long nr, const u64 a[6])
{
	switch (nr) {
	case __NR_rt_sigaction: return sys_rt_sigaction(t, (s32)a[0], a[1], a[2], a[3]);
	case __NR_rt_sigprocmask: return sys_rt_sigprocmask(t, (s32)a[0], a[1], a[2], a[3]);
	case __NR_rt_sigreturn: return sys_rt_sigreturn(t);
	case __NR_sigaltstack: return sys_sigaltstack(t, a[0], a[1]);
	case __NR_rt_sigsuspend: return sys_rt_sigsuspend(t, a[0], a[1]);
	case __NR_rt_sigtimedwait: return sys_rt_sigtimedwait(t, a[0], a[1], a[2], a[3]);
	case __NR_rt_sigpending: return sys_rt_sigpending(t, a[0], a[1]);
	default: return -EOPNOTSUPP;
	}
}

/* wait4 writes *status before it is called for, to be sure that it can; but a caller without children hears of that first. */
static long sys_wait4(struct trap *t, const u64 a[6])
{
	long ret, probe;
	s32 pid = (s32)a[0];
	u64 kind = pid == -1 ? 0 /* P_ALL */ : pid > 0 ? 1 /* P_PID */ : 2 /* P_PGID */;
	u64 id = pid == -1 ? 0 : pid > 0 ? (u64)pid : (u64)-pid;

	if (trace_wait(t, a, &ret))
		return ret;
	ret = native_syscall(t, __NR_wait4, a);
	if (ret != -EFAULT)
		return ret;
	probe = host_call(__NR_waitid, kind, id, NULL, 0x01000005 /* WNOWAIT | WEXITED | WNOHANG */, NULL);
	return probe == -ECHILD ? probe : ret;
}

/* membarrier(2): three commands want to be registered for, each by the bit above its own; that of GLOBAL_EXPEDITED wants nothing. */
#define MEMBARRIER_WANTING (8u | 32u | 128u) /* PRIVATE_EXPEDITED, _SYNC_CORE, _RSEQ */
#define MEMBARRIER_REGISTERING (MEMBARRIER_WANTING << 1 | MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
#define MEMBARRIER_CMD_GET_REGISTRATIONS_ 512u

/* The host's process is registered by this kernel too, and stays so over exec: what the program asked for is counted apart. */
static long sys_membarrier(struct trap *t, const u64 a[6])
{
	u32 cmd = (u32)a[0], mine = __atomic_load_n(&kproc.membarrier, __ATOMIC_RELAXED);
	long ret = native_syscall(t, __NR_membarrier, a);

	if (ret < 0)
		return ret;
	if (cmd == MEMBARRIER_CMD_GET_REGISTRATIONS_)
		return (long)mine;
	if ((cmd & MEMBARRIER_WANTING) << 1 & ~mine)
		return -EPERM;
	if (cmd & MEMBARRIER_REGISTERING)
		__atomic_or_fetch(&kproc.membarrier, cmd, __ATOMIC_RELAXED);
	return ret;
}

/* Calls that may cut a file that somebody maps. */
static long sys_truncating(struct trap *t, long nr, const u64 a[6])
{
	long ret = native_syscall(t, nr, a);
	char path[4096];

	if (ret)
		return ret;
	if (nr != __NR_truncate)
		hostfile_truncated((s32)a[0]);
	else if (strncpy_from_user(path, a[0], sizeof(path)) >= 0)
		hostfile_truncated_path(path);
	return 0;
}

/* -EOPNOTSUPP from a group means "not mine"; calls that can really fail with it are native. */
long guest_syscall(struct trap *t, long nr, const u64 a[6])
{
	switch (nr) {
	case __NR_remap_file_pages: case __NR_pkey_mprotect: case __NR_mseal:
	case __NR_mmap: case __NR_munmap: case __NR_mprotect: case __NR_mremap: case __NR_brk: case __NR_madvise:
	case __NR_mlock: case __NR_mlock2: case __NR_munlock: case __NR_mlockall: case __NR_munlockall:
	case __NR_msync: case __NR_mincore: case __NR_sysinfo: case __NR_prlimit64: case __NR_getrlimit:
	case __NR_setrlimit: case __NR_process_vm_readv: case __NR_process_vm_writev:
	case __NR_process_madvise: case __NR_process_mrelease:
	case __NR_shmat: case __NR_shmdt: case __NR_shmctl: case __NR_swapon: case __NR_swapoff:
		return sys_memory(t, nr, a);
	case __NR_fork: case __NR_vfork: case __NR_clone: case __NR_clone3: case __NR_execve: case __NR_execveat:
	case __NR_exit: case __NR_exit_group: case __NR_set_tid_address: case __NR_set_robust_list:
	case __NR_get_robust_list: case __NR_futex: case __NR_futex_waitv:
	case __NR_futex_wake: case __NR_futex_wait: case __NR_futex_requeue: case __NR_arch_prctl: case __NR_prctl:
		return sys_process(t, nr, a);
	case __NR_rt_sigaction: case __NR_rt_sigprocmask: case __NR_rt_sigreturn: case __NR_sigaltstack:
	case __NR_rt_sigsuspend: case __NR_rt_sigtimedwait: case __NR_rt_sigpending:
		return sys_signals(t, nr, a);
	case __NR_mbind: case __NR_set_mempolicy: case __NR_get_mempolicy: case __NR_move_pages: case __NR_migrate_pages:
		return sys_numa(t, nr, a);
	case __NR_membarrier:
		return sys_membarrier(t, a);
	case __NR_wait4:
		return sys_wait4(t, a);
	case __NR_ftruncate: case __NR_truncate:
		return sys_truncating(t, nr, a);
	case __NR_personality:
		return sys_personality((u32)a[0]);
	case __NR_ptrace:
		return sys_ptrace(a);
	case __NR_seccomp:
		return refuse_seccomp();
	case __NR_restart_syscall:
		return -EINTR;
	default:
		return native_syscall(t, nr, a);
	}
}
