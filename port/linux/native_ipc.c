/*
 * System V and POSIX IPC, capabilities, keys, scheduling attributes, usage, prctl: calls whose argument depends on a command.
 * Structure sizes: asm-generic/{sem,msg,shm}buf.h, linux/capability.h, linux/sched/types.h.
 */
#include "memory.h"
#include "native.h"
#include "x86_64/native_nr.h"
#include "../../sys/sys.h"
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/reboot.h>
#include <linux/resource.h>

#define SEMBUF_BYTES 6u
#define SEM_OPS_MAX 32000u /* SEMOPM's upper bound */
#define NSEC_PER_SEC 1000000000ull

enum { IPC_RMID_, IPC_SET_, IPC_STAT_, IPC_INFO_ };
enum { MSG_STAT_ = 11, MSG_INFO_, MSG_STAT_ANY_ };
enum { SHM_LOCK_ = 11, SHM_UNLOCK_, SHM_STAT_, SHM_INFO_, SHM_STAT_ANY_ };
enum { SEM_GETALL_ = 13, SEM_SETALL_ = 17, SEM_STAT_ = 18, SEM_INFO_, SEM_STAT_ANY_ };

/* Prepares argument `i` alone and executes. */
static long run_one(struct native_frame *f, unsigned i, enum native_arg_kind kind, u64 size)
{
	int r = native_prepare_arg(f, i, (struct native_arg){ (u8)kind, 0, (u16)size });

	return r ? r : native_finish(f);
}

/* ---- semaphores ---- */

static u64 sem_deadline(const struct native_timespec *ts)
{
	if (!ts || ts->sec < 0 || ts->sec > (s64)(1ull << 32) || ts->nsec < 0 || (u64)ts->nsec >= NSEC_PER_SEC)
		return ~0ull;
	return port_clock_ns() + (u64)ts->sec * NSEC_PER_SEC + (u64)ts->nsec;
}

/* semop(id, ops, n), semtimedop(id, ops, n, timeout).  The host does not tell what is left of the timeout. */
long native_semop(struct native_frame *f)
{
	bool timed = f->nr == __NR_semtimedop;
	struct native_timespec *ts = NULL;
	u64 n = (u32)f->a[2], deadline, now;
	long ret;
	int r = 0;

	if (n && n <= SEM_OPS_MAX)
		r = native_in(f, f->a[1], n * SEMBUF_BYTES, &f->h[1]);
	if (!r && timed)
		r = native_in(f, f->a[3], sizeof(*ts), &f->h[3]);
	if (r)
		return r;
	if (timed && f->a[3])
		ts = (void *)f->h[3];
	deadline = sem_deadline(ts);
	for (;;) {
		ret = host_syscall_interruptible(f->nr, f->h[0], f->h[1], f->h[2], f->h[3], 0, 0);
		if (ret != -EINTR || native_pending(f))
			return ret;
		if (deadline == ~0ull)
			continue;
		now = port_clock_ns();
		ts->sec = (s64)((deadline > now ? deadline - now : 0) / NSEC_PER_SEC);
		ts->nsec = (s64)((deadline > now ? deadline - now : 0) % NSEC_PER_SEC);
	}
}

/* GETALL and SETALL move as many shorts as the set has; only the host knows. */
static long sem_all(struct native_frame *f, bool write)
{
	u64 ds[13] = { 0 }; /* struct semid64_ds: ipc64_perm 48, otime 16, ctime 16, nsems */
	long r = host_call(__NR_semctl, f->a[0], 0, IPC_STAT_, ds);
	u64 bytes = r < 0 ? PAGE_SIZE : MIN(ds[10], 65536u) * 2;
	s64 got;

	got = native_pin_prefix(f, f->a[3], bytes, write);
	return got < 0 ? got : native_issue(f);
}

long native_semctl(struct native_frame *f)
{
	switch ((s32)f->a[2]) {
	case IPC_SET_:
		return run_one(f, 3, ARG_IN, 104);
	case IPC_STAT_: case SEM_STAT_: case SEM_STAT_ANY_:
		return run_one(f, 3, ARG_OUT, 104);
	case IPC_INFO_: case SEM_INFO_:
		return run_one(f, 3, ARG_OUT, 40);
	case SEM_GETALL_:
		return sem_all(f, true);
	case SEM_SETALL_:
		return sem_all(f, false);
	default:
		return native_issue(f);
	}
}

/* ---- messages, shared memory ---- */

/* msgsnd(id, struct { long type; char text[size]; } *, size, flags) */
long native_msgsnd(struct native_frame *f)
{
	int r = 0;

	if (f->a[2] <= NATIVE_MAX_RW)
		r = native_inbuf(f, f->a[1], f->a[2] + 8, &f->h[1]);
	return r ? r : native_issue(f);
}

long native_msgrcv(struct native_frame *f)
{
	s64 got = 0;

	if (f->a[2] <= NATIVE_MAX_RW)
		got = native_pin_prefix(f, f->a[1], MIN(f->a[2] + 8, NATIVE_PIECE), true);
	return got < 0 ? got : native_issue(f);
}

long native_msgctl(struct native_frame *f)
{
	switch ((s32)f->a[1]) {
	case IPC_SET_:
		return run_one(f, 2, ARG_IN, 120);
	case IPC_STAT_: case MSG_STAT_: case MSG_STAT_ANY_:
		return run_one(f, 2, ARG_OUT, 120);
	case IPC_INFO_: case MSG_INFO_:
		return run_one(f, 2, ARG_OUT, 32);
	default:
		return native_issue(f);
	}
}

long native_shmctl(struct native_frame *f)
{
	switch ((s32)f->a[1]) {
	case IPC_SET_:
		return run_one(f, 2, ARG_IN, 112);
	case IPC_STAT_: case SHM_STAT_: case SHM_STAT_ANY_:
		return run_one(f, 2, ARG_OUT, 112);
	case IPC_INFO_:
		return run_one(f, 2, ARG_OUT, 72);
	case SHM_INFO_:
		return run_one(f, 2, ARG_OUT, 48);
	default:
		return native_issue(f);
	}
}

/* The attributes are looked at only when the queue may be made. */
long native_mq_open(struct native_frame *f)
{
	int r = native_string(f, f->a[0], &f->h[0]);

	if (!r && f->a[1] & 0100 /* O_CREAT */)
		r = native_in(f, f->a[3], 64, &f->h[3]);
	else
		f->h[3] = 0;
	return r ? r : native_issue(f);
}

/* ---- capabilities ---- */

/* Version 1 has one struct of 12 bytes, the others two. */
static u64 cap_bytes(u32 version)
{
	return version == 0x19980330 ? 12 : 24;
}

/* The host writes the version it likes into the header when it does not know the guest's. */
static long cap_call(struct native_frame *f, enum native_arg_kind kind)
{
	int r = native_in(f, f->a[0], 8, &f->h[0]);
	long ret;

	if (r)
		return r;
	if (!f->a[0])
		return -EFAULT;
	r = native_prepare_arg(f, 1, (struct native_arg){ (u8)kind, 0, (u16)cap_bytes(*(u32 *)f->h[0]) });
	if (r)
		return r;
	ret = native_issue(f);
	if (ret >= 0 && native_copy_outs(f))
		return -EFAULT;
	if (copy_to_user(f->a[0], (void *)f->h[0], 4))
		return -EFAULT;
	return ret;
}

long native_capget(struct native_frame *f)
{
	return cap_call(f, ARG_OUT);
}

long native_capset(struct native_frame *f)
{
	return cap_call(f, ARG_IN);
}

/* ---- scheduling, namespaces ---- */

/* sched_setattr(pid, attr, flags): size 0 means the first version; the host writes the size it knows with E2BIG. */
long native_sched_setattr(struct native_frame *f)
{
	u32 size;
	long ret;
	int r;

	if (copy_from_user(&size, f->a[1], sizeof(size)))
		return -EFAULT;
	r = native_in(f, f->a[1], MIN(MAX(size, 48u), (u32)PAGE_SIZE), &f->h[1]);
	if (r)
		return r;
	ret = native_issue(f);
	if (ret == -E2BIG && copy_to_user(f->a[1], (void *)f->h[1], sizeof(size)))
		return -EFAULT;
	return ret;
}

/* Process numbers are the host's throughout a machine, so guests stay in one PID namespace. */
long native_unshare(struct native_frame *f)
{
	return f->a[0] & 0x20000000 /* CLONE_NEWPID */ ? -EPERM : native_issue(f);
}

/* A machine ends with its first program and not by a call of this name, which would end the host; but what is wrong with the call
 * is said as always. */
long native_reboot(struct native_frame *f)
{
	u32 magic = (u32)f->a[1];

	if (!host_capable(CAP_SYS_BOOT))
		return -EPERM;
	if ((u32)f->a[0] != LINUX_REBOOT_MAGIC1 || (magic != LINUX_REBOOT_MAGIC2 && magic != LINUX_REBOOT_MAGIC2A &&
						    magic != LINUX_REBOOT_MAGIC2B && magic != LINUX_REBOOT_MAGIC2C))
		return -EINVAL;
	switch ((u32)f->a[2]) {
	case LINUX_REBOOT_CMD_RESTART: case LINUX_REBOOT_CMD_HALT: case LINUX_REBOOT_CMD_CAD_ON: case LINUX_REBOOT_CMD_CAD_OFF:
	case LINUX_REBOOT_CMD_POWER_OFF: case LINUX_REBOOT_CMD_RESTART2: case LINUX_REBOOT_CMD_SW_SUSPEND: case LINUX_REBOOT_CMD_KEXEC:
		return -EPERM;
	default:
		return -EINVAL;
	}
}

/* Times are the host's; what concerns memory is the machine's. */
long native_getrusage(struct native_frame *f)
{
	struct quire_rusage mine;
	struct rusage *ru;
	int r = native_outbuf(f, f->a[1], sizeof(*ru), &f->h[1]);
	long ret;

	if (r)
		return r;
	ret = native_issue(f);
	if (ret)
		return ret;
	if (f->a[1] && (s32)f->a[0] != RUSAGE_CHILDREN) {
		ru = (struct rusage *)f->h[1];
		sys_getrusage(kproc.task, &mine);
		ru->ru_maxrss = (__kernel_long_t)mine.maxrss_kb;
		if ((s32)f->a[0] == RUSAGE_SELF) {
			ru->ru_minflt = (__kernel_long_t)mine.minflt;
			ru->ru_majflt = (__kernel_long_t)mine.majflt;
		}
	}
	return native_copy_outs(f);
}

/* ---- keys ---- */

#define KEY_V { ARG_VALUE, 0, 0 }
#define KEY_STR { ARG_STR, 0, 0 }
/* What arguments 1..3 of each operation are (linux/keyctl.h).  Described operations only; the rest is refused. */
static const struct { u8 known; struct native_arg arg[3]; } key_ops[] = {
	[0] = { 1, { KEY_V } },                              /* GET_KEYRING_ID */
	[1] = { 1, { KEY_STR } },                            /* JOIN_SESSION_KEYRING */
	[2] = { 1, { KEY_V, { ARG_INBUF, 3, 1 } } },         /* UPDATE */
	[3] = { 1, { KEY_V } },                              /* REVOKE */
	[4] = { 1, { KEY_V } },                              /* CHOWN */
	[5] = { 1, { KEY_V } },                              /* SETPERM */
	[6] = { 1, { KEY_V, { ARG_OUTBUF, 3, 1 } } },        /* DESCRIBE */
	[7] = { 1, { KEY_V } },                              /* CLEAR */
	[8] = { 1, { KEY_V } },                              /* LINK */
	[9] = { 1, { KEY_V } },                              /* UNLINK */
	[10] = { 1, { KEY_V, KEY_STR, KEY_STR } },           /* SEARCH */
	[11] = { 1, { KEY_V, { ARG_OUTBUF, 3, 1 } } },       /* READ */
	[12] = { 1, { KEY_V, { ARG_INBUF, 3, 1 } } },        /* INSTANTIATE */
	[13] = { 1, { KEY_V } },                             /* NEGATE */
	[14] = { 1, { KEY_V } },                             /* SET_REQKEY_KEYRING */
	[15] = { 1, { KEY_V } },                             /* SET_TIMEOUT */
	[16] = { 1, { KEY_V } },                             /* ASSUME_AUTHORITY */
	[17] = { 1, { KEY_V, { ARG_OUTBUF, 3, 1 } } },       /* GET_SECURITY */
	[18] = { 1, { KEY_V } },                             /* SESSION_TO_PARENT */
	[19] = { 1, { KEY_V } },                             /* REJECT */
	[21] = { 1, { KEY_V } },                             /* INVALIDATE */
	[22] = { 1, { KEY_V } },                             /* GET_PERSISTENT */
	[29] = { 1, { KEY_V, KEY_STR, KEY_STR } },           /* RESTRICT_KEYRING */
	[30] = { 1, { KEY_V } },                             /* MOVE */
	[31] = { 1, { { ARG_OUTBUF, 2, 1 } } },              /* CAPABILITIES */
};

long native_keyctl(struct native_frame *f)
{
	u32 op = (u32)f->a[0];
	unsigned i;

	if (op >= ARRAY_SIZE(key_ops) || !key_ops[op].known)
		return -EOPNOTSUPP;
	for (i = 0; i < 3; i++) {
		int r = native_prepare_arg(f, i + 1, key_ops[op].arg[i]);

		if (r)
			return r;
	}
	return native_finish(f);
}

/* ---- prctl: what dispatch.c leaves ---- */

#define PR_GET_AUXV_ 0x41555856
#define PR_SET_VMA_ 0x53564d41
#define PR_SET_MEMORY_MERGE_ 67

static long set_name(struct native_frame *f)
{
	char *name = native_alloc(f, TASK_COMM_LEN);
	long n;

	if (!name)
		return -ENOMEM;
	n = strncpy_from_user(name, f->a[1], TASK_COMM_LEN - 1);
	if (n < 0 && n != -ENAMETOOLONG)
		return n;
	name[n < 0 ? TASK_COMM_LEN - 1 : n] = '\0';
	f->h[1] = (u64)name;
	return native_issue(f);
}

static long get_auxv(struct native_frame *f)
{
	u64 bytes = sizeof(kproc.mm->saved_auxv);

	if (f->a[3] || f->a[4])
		return -EINVAL;
	if (copy_to_user(f->a[1], kproc.mm->saved_auxv, MIN(bytes, f->a[2])))
		return -EFAULT;
	return (long)bytes;
}

long native_prctl(struct native_frame *f)
{
	switch ((u32)f->a[0]) {
	case PR_SET_NAME:
		return set_name(f);
	case PR_GET_NAME:
		return run_one(f, 1, ARG_OUT, TASK_COMM_LEN);
	case PR_GET_PDEATHSIG: case PR_GET_UNALIGN: case PR_GET_FPEMU: case PR_GET_FPEXC: case PR_GET_ENDIAN:
	case PR_GET_TSC: case PR_GET_CHILD_SUBREAPER:
		return run_one(f, 1, ARG_OUT, 4);
	case PR_GET_TID_ADDRESS:
		return run_one(f, 1, ARG_OUT, 8);
	case PR_SCHED_CORE:
		return run_one(f, 4, ARG_OUT, 8);
	case PR_GET_AUXV_:
		return get_auxv(f);
	case PR_SET_MM:
		return -EPERM;
	case PR_SET_VMA_: case PR_SET_SYSCALL_USER_DISPATCH: case PR_SET_MEMORY_MERGE_:
	case PR_SET_TAGGED_ADDR_CTRL:
		return -EINVAL; /* they act on the host's mappings or on traps, or as a kernel built without them */
	default:
		return native_issue(f);
	}
}
