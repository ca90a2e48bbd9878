/*
 * Futexes: the host's own, made to work on memory that the machine maps.
 *
 * Private mappings of the guest are shared mappings of a memfd for the host, whose keys would be (file, offset): a frame that
 * changes under a sleeper (copy-on-write, reclaim) would lose the wake.  With FUTEX_PRIVATE_FLAG the key is (host mm,
 * address), which never changes; so the flag is forced on private VMAs, also for the kernel's own wakes.  On shared VMAs
 * the key must be the frame, and the pin keeps the frame while anybody sleeps (host-notes 20).
 * Where processes share an address space (CLONE_VM) the host's mm differs, so there the key is the frame for private memory as well:
 * the pin is one for writing, after which the frame is this address space's own and stays.  From then on for good, as who sleeps by one key
 * would not hear of a wake by the other; who slept before is woken by both.
 * Relative waits become absolute ones, so that an interruption by the kernel's own signal costs nothing.
 */
#include "process.h"
#include "hostsys.h"
#include "revoke.h"
#include "x86_64/native_nr.h"
#include <linux/futex.h>
#include <linux/time_types.h>

#define NSEC_PER_SEC 1000000000ll
#define CLOCK_MONOTONIC_ 1
#define CLOCK_REALTIME_ 0
#define FUTEX2_NUMA_ 4u

/* Does, or did, another process share this address space (vfork's do not count: their parent waits)? */
static bool many_processes(void)
{
	return READ_ONCE(host_mm_of(kproc.mm)->many);
}

/* Is the key of a futex there the frame?  Also where there is no frame to be had, which the host says by EFAULT. */
static bool keyed_by_frame(u64 addr)
{
	struct vm_area_struct *vma;
	bool by_frame;

	spin_lock(&kproc.mm->lock);
	vma = vma_lookup(kproc.mm, addr);
	by_frame = !vma || (vma->vm_flags & VM_SHARED) || !(vma->vm_flags & (VM_READ | VM_WRITE | VM_EXEC)) ||
		   (many_processes() && (vma->vm_flags & VM_WRITE));
	spin_unlock(&kproc.mm->lock);
	return by_frame;
}

static u64 flag_for(u64 addr, u64 op)
{
	return ((op & FUTEX_PRIVATE_FLAG) && !many_processes()) || !keyed_by_frame(addr) ? FUTEX_PRIVATE_FLAG : 0;
}

static int pin_word(u64 addr, bool write)
{
	if (!write && many_processes() && !user_pin(addr, 4, true))
		return 0;
	return user_pin(addr, 4, write);
}

/* Those who began to sleep before the address space was shared. */
static long wake_early(u64 addr, u64 op, u64 n, u64 bits)
{
	long ret = many_processes() ? host_call(__NR_futex, addr, op | FUTEX_PRIVATE_FLAG, n, 0, 0, bits) : 0;

	return ret < 0 ? 0 : ret;
}

void guest_futex_wake(u64 addr, int n)
{
	if (many_processes())
		pin_word(addr, false);
	host_call(__NR_futex, addr, FUTEX_WAKE | flag_for(addr, 0), n);
	wake_early(addr, FUTEX_WAKE, (u64)n, 0);
	if (many_processes())
		user_unpin_all();
}

/* Now + *ts on that clock. */
static void make_absolute(struct __kernel_timespec *ts, int clock)
{
	struct __kernel_timespec now;

	host_call(__NR_clock_gettime, clock, &now);
	ts->tv_sec += now.tv_sec;
	ts->tv_nsec += now.tv_nsec;
	if (ts->tv_nsec >= NSEC_PER_SEC) {
		ts->tv_nsec -= NSEC_PER_SEC;
		ts->tv_sec++;
	}
	if (ts->tv_sec < 0)
		ts->tv_sec = (1ll << 62);
}

static bool bad_timespec(const struct __kernel_timespec *ts)
{
	return ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= NSEC_PER_SEC;
}

/* FUTEX_WAIT and WAIT_BITSET. */
static long futex_wait(struct trap *t, const u64 a[6])
{
	u64 cmd = a[1] & FUTEX_CMD_MASK, flags = flag_for(a[0], a[1]) | (a[1] & FUTEX_CLOCK_REALTIME);
	u64 bits = cmd == FUTEX_WAIT ? FUTEX_BITSET_MATCH_ANY : a[5];
	struct __kernel_timespec ts;
	bool timed = a[3] != 0;
	long ret;

	if (timed) {
		if (copy_from_user(&ts, a[3], sizeof(ts)))
			return -EFAULT;
		if (bad_timespec(&ts))
			return -EINVAL;
		if (cmd == FUTEX_WAIT)
			make_absolute(&ts, (a[1] & FUTEX_CLOCK_REALTIME) ? CLOCK_REALTIME_ : CLOCK_MONOTONIC_);
	}
	do
		ret = host_syscall_interruptible(__NR_futex, a[0], FUTEX_WAIT_BITSET | flags, (u32)a[2],
						 timed ? (u64)&ts : 0, 0, bits);
	while (ret == -EINTR && !t->k->pending);
	if (timed && ret == -ERESTARTSYS)
		ret = -EINTR; /* a timed wait is not restarted (futex(2), signal(7)) */
	return ret;
}

static bool takes_second(u64 cmd)
{
	return cmd == FUTEX_REQUEUE || cmd == FUTEX_CMP_REQUEUE || cmd == FUTEX_WAKE_OP ||
	       cmd == FUTEX_WAIT_REQUEUE_PI || cmd == FUTEX_CMP_REQUEUE_PI;
}

static bool takes_timeout(u64 cmd)
{
	return cmd == FUTEX_LOCK_PI || cmd == FUTEX_LOCK_PI2 || cmd == FUTEX_WAIT_REQUEUE_PI;
}

static bool writes_word(u64 cmd)
{
	return cmd == FUTEX_LOCK_PI || cmd == FUTEX_LOCK_PI2 || cmd == FUTEX_TRYLOCK_PI || cmd == FUTEX_UNLOCK_PI ||
	       cmd == FUTEX_CMP_REQUEUE_PI || cmd == FUTEX_WAIT_REQUEUE_PI;
}

static long futex_pinned(struct trap *t, const u64 a[6])
{
	u64 cmd = a[1] & FUTEX_CMD_MASK, val2 = a[3];
	struct __kernel_timespec ts;
	long ret;

	if (cmd == FUTEX_WAIT || cmd == FUTEX_WAIT_BITSET)
		return futex_wait(t, a);
	if (takes_timeout(cmd) && a[3]) {
		if (copy_from_user(&ts, a[3], sizeof(ts)))
			return -EFAULT;
		val2 = (u64)&ts;
	}
	ret = host_syscall_interruptible(__NR_futex, a[0], cmd | (a[1] & FUTEX_CLOCK_REALTIME) | flag_for(a[0], a[1]),
					 a[2], val2, a[4], a[5]);
	/* Waits for locks that lend priority start again also after a handler without SA_RESTART. */
	return takes_timeout(cmd) && ret == -ERESTARTSYS ? -ERESTARTNOINTR : ret;
}

long sys_futex(struct trap *t, const u64 a[6])
{
	u64 cmd = a[1] & FUTEX_CMD_MASK;
	long ret = -EFAULT;
	int tries;

	if (a[0] & 3)
		return -EINVAL;
	if (cmd == FUTEX_WAKE && flag_for(a[0], a[1]))
		return host_call(__NR_futex, a[0], cmd | FUTEX_PRIVATE_FLAG, a[2]);
	for (tries = 0; ret == -EFAULT && tries < 3; tries++) {
		if (pin_word(a[0], writes_word(cmd)) || (takes_second(cmd) && user_pin(a[4], 4, true)))
			break;
		ret = futex_pinned(t, a);
		user_unpin_all();
	}
	user_unpin_all();
	if ((cmd == FUTEX_WAKE || cmd == FUTEX_WAKE_BITSET) && ret >= 0 && ret < (s32)a[2])
		ret += wake_early(a[0], cmd, a[2] - (u64)ret, a[5]);
	return ret;
}

/* ---- futex_waitv(2): many words at once ---- */

/* Where the host will read: resident, and on shared memory kept so while anybody sleeps. */
static long waitv_make_ready(struct futex_waitv *v, u32 n)
{
	u32 i, word;
	long ret = 0;

	for (i = 0; i < n && ret != -E2BIG; i++) {
		u64 flag = flag_for(v[i].uaddr, v[i].flags);

		/* What cannot be read stays as it is: the host says so, and first of all if it is not private. */
		if (flag && !copy_from_user(&word, v[i].uaddr, 4))
			v[i].flags |= (u32)flag;
		else if (!flag)
			ret = pin_word(v[i].uaddr, false);
		if (!flag)
			v[i].flags &= ~(u32)FUTEX_PRIVATE_FLAG;
	}
	return ret == -E2BIG ? -ENOMEM : 0;
}

long sys_futex_waitv(struct trap *t, const u64 a[6])
{
	struct futex_waitv v[FUTEX_WAITV_MAX];
	struct __kernel_timespec ts;
	u32 n = (u32)a[1];
	long ret = -EFAULT;
	int tries;

	if (a[2] || !a[0] || !n || n > FUTEX_WAITV_MAX)
		return -EINVAL;
	if (a[3] && (s32)a[4] != CLOCK_REALTIME_ && (s32)a[4] != CLOCK_MONOTONIC_)
		return -EINVAL;
	if ((a[3] && copy_from_user(&ts, a[3], sizeof(ts))) || copy_from_user(v, a[0], n * sizeof(v[0])))
		return -EFAULT;
	for (tries = 0; ret == -EFAULT && tries < 3; tries++) {
		ret = waitv_make_ready(v, n);
		if (!ret) {
			do
				ret = host_syscall_interruptible(__NR_futex_waitv, (u64)v, n, 0, a[3] ? (u64)&ts : 0, a[4], 0);
			while (ret == -EINTR && !t->k->pending);
		}
		user_unpin_all();
	}
	return ret;
}

/* ---- futex_wake(2), futex_wait(2), futex_requeue(2): Linux 6.7's calls, one for each operation ---- */

/* With FUTEX2_NUMA a second word follows, to which the host writes the node. */
static long pin_futex2(u64 addr, u64 flags)
{
	return flags & FUTEX2_NUMA_ ? user_pin(addr, 8, true) : pin_word(addr, false);
}

static u64 futex2_flags(u64 addr, u64 flags)
{
	return (flags & ~(u64)FUTEX_PRIVATE_FLAG) | flag_for(addr, flags);
}

/* What cannot be pinned the host cannot read either: it says so, or first what else is wrong. */
long sys_futex_wake(struct trap *t, const u64 a[6])
{
	long ret;

	(void)t;
	pin_futex2(a[0], a[3]);
	ret = host_call(__NR_futex_wake, a[0], a[1], a[2], futex2_flags(a[0], a[3]));
	user_unpin_all();
	return ret;
}

long sys_futex_wait(struct trap *t, const u64 a[6])
{
	struct __kernel_timespec ts;
	u64 timeout = a[4];
	long ret = -EFAULT;
	int tries;

	if (timeout && !copy_from_user(&ts, timeout, sizeof(ts)))
		timeout = (u64)&ts;
	for (tries = 0; ret == -EFAULT && tries < 3; tries++) {
		pin_futex2(a[0], a[3]);
		do
			ret = host_syscall_interruptible(__NR_futex_wait, a[0], a[1], a[2], futex2_flags(a[0], a[3]), timeout, a[5]);
		while (ret == -EINTR && !t->k->pending);
		user_unpin_all();
	}
	return ret;
}

long sys_futex_requeue(struct trap *t, const u64 a[6])
{
	struct futex_waitv v[2];
	long ret = -EFAULT;
	int tries;

	(void)t;
	if (a[1] || !a[0])
		return -EINVAL;
	if (copy_from_user(v, a[0], sizeof(v)))
		return -EFAULT;
	for (tries = 0; ret == -EFAULT && tries < 3; tries++) {
		/* The host wants both keyed alike; where one has nothing behind it, as they came, and it says so. */
		ret = flag_for(v[0].uaddr, v[0].flags) == flag_for(v[1].uaddr, v[1].flags) ? waitv_make_ready(v, 2) : 0;
		if (!ret)
			ret = host_call(__NR_futex_requeue, (u64)v, 0, a[2], a[3]);
		user_unpin_all();
	}
	return ret;
}

/* ---- robust lists ---- */
#define ROBUST_LIST_LIMIT 2048 /* entries, as on Linux: the list may be a circle */
#define ROBUST_PI 1ull         /* bit 0 of an entry's address: a lock that lends priority */

/* The mark is no atomic change of the word: who began to wait meanwhile may have noted that in the old value.  So one is woken
 * whatever the word said. */
static void robust_futex_died(const struct robust_walk *w, u64 entry, s64 off)
{
	u64 futex = (entry & ~ROBUST_PI) + (u64)off;
	u32 word, died;

	if (!w->read(w->mm, futex, &word, 4) || (word & FUTEX_TID_MASK) != w->tid)
		return;
	died = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
	if (w->write(w->mm, futex, &died, 4) && !(entry & ROBUST_PI))
		w->wake(w->mm, futex);
}

void robust_list_died(const struct robust_walk *w, u64 at)
{
	struct { u64 next; s64 off; u64 pending; } head;
	u64 entry, next;
	int i;

	if (!at || !w->read(w->mm, at, &head, sizeof(head)))
		return;
	for (i = 0, entry = head.next; i < ROBUST_LIST_LIMIT && (entry & ~ROBUST_PI) != at; i++, entry = next) {
		if (!w->read(w->mm, entry & ~ROBUST_PI, &next, 8))
			return;
		if (entry != head.pending)
			robust_futex_died(w, entry, head.off);
	}
	if (head.pending)
		robust_futex_died(w, head.pending, head.off);
}
