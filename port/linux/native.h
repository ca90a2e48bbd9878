/*
 * Inside native*.c: one system call on its way to the host.
 *
 * The host must never meet a guest page that is not resident (it would answer EFAULT, sometimes after it has done its
 * work).  So every pointer that is passed on is one of
 *	- a copy in kernel memory (the frame's arena): paths and small structures,
 *	- a guest address inside a range pinned by user_pin(): bulk data.
 * The kernel lies in the same host address space as the guest, so both can be passed alike.
 *
 * A frame lives on the trap stack of one thread: no locks.
 */
#ifndef QUIRE_LINUX_NATIVE_H
#define QUIRE_LINUX_NATIVE_H
#include "kernel.h"
#include "native_table.h"

#define NATIVE_ARENA 12288u            /* bytes on the stack: two paths and some */
#define NATIVE_MAX_OUTS 8
#define NATIVE_PATH 4096u              /* PATH_MAX, with the NUL */
#define NATIVE_SMALL 512u              /* input buffers up to this are copied: cheaper than a pin */
#define NATIVE_PIECE (1ull << 20)      /* reads go in pieces of this, so that a large buffer is not made resident for nothing */
#define NATIVE_MAX_RW 0x7ffff000ull    /* MAX_RW_COUNT */
#define NATIVE_ALLOC_MAX (16ull << 20) /* largest private buffer for one argument */
#define UIO_MAXIOV 1024u

/* Copied back to the guest when the call has succeeded. */
struct native_out {
	u64 dst;         /* guest address */
	const void *src; /* arena */
	u64 len;         /* bytes */
};

struct native_chunk;
struct native_frame {
	struct trap *t;
	struct kthread *k;
	const struct native_call *call;
	long nr;
	u64 a[6];                    /* the guest's arguments */
	u64 h[6];                    /* the host's */
	u32 nouts;
	bool pinned;                 /* user_unpin_all() is due */
	bool has_mask;               /* the call has a signal mask of its own */
	u64 mask;                    /* it */
	struct native_out outs[NATIVE_MAX_OUTS];
	struct native_chunk *chunks; /* host mappings for what the arena cannot hold */
	u32 used;                    /* bytes of the arena */
	u8 arena[NATIVE_ARENA] __attribute__((aligned(16)));
};

struct native_iovec { u64 base, len; };
struct native_timespec { s64 sec, nsec; };

/* process.c: is that a process of this machine (the supervisor is none)? */
bool guest_exists(s32 pid);

/* ---- native_frame.c: memory of a frame; 0 or negative errno ---- */
void native_frame_release(struct native_frame *f);
/* n bytes until the frame is released, 16-byte aligned, not cleared; NULL when the host has no memory. */
void *native_alloc(struct native_frame *f, u64 n);
/* Drops the pins, keeps the arena. */
void native_unpin(struct native_frame *f);
/* Pins [addr, addr + len). */
int native_pin(struct native_frame *f, u64 addr, u64 len, bool write);
/* Pins as much of the beginning as can be had: bytes > 0, or 0 when len is 0, or negative errno. */
s64 native_pin_prefix(struct native_frame *f, u64 addr, u64 len, bool write);
/* The same for a transfer that ends where the buffer does: memory that the guest cannot reach is left to the host, which
 * finds the fault itself, if it gets there at all (an end of file, a bad descriptor come first). */
s64 native_pin_transfer(struct native_frame *f, u64 addr, u64 len, bool write);
/* Copies in; *out = the copy's address.  A NULL pointer is passed on as it is. */
int native_in(struct native_frame *f, u64 user, u64 len, u64 *out);
int native_string(struct native_frame *f, u64 user, u64 *out);
/* Copied if small, pinned if large. */
int native_inbuf(struct native_frame *f, u64 user, u64 len, u64 *out);
/* A cleared copy-out buffer; NULL is passed on.  With NF_EFFECT the guest's memory itself, pinned. */
int native_outbuf(struct native_frame *f, u64 user, u64 len, u64 *out);
/* A copy that goes back when the call succeeds. */
int native_inout(struct native_frame *f, u64 user, u64 len, u64 *out);
/* Registers a copy-out. */
int native_add_out(struct native_frame *f, u64 user, const void *src, u64 len);
int native_copy_outs(struct native_frame *f);
/* Most bytes that one call may pin: what makes resident at most a quarter of the machine's RAM. */
u64 native_bulk_limit(void);
/* -EBADF for the kernel's own descriptor. */
static inline int native_check_fd(u64 fd)
{
	return (s32)fd == KERNEL_FD ? -EBADF : 0;
}

/* ---- native.c ---- */
/* Executes f->h on the host; sleeps interruptibly if the call may.  What only the kernel's own signal interrupted
 * starts again: arguments that the host updates (remaining times) are kernel copies and carry on where they were. */
long native_issue(struct native_frame *f);
long native_issue_nr(struct native_frame *f, long nr);
/* Prepares one argument as described / executes, copies out. */
int native_prepare_arg(struct native_frame *f, unsigned i, struct native_arg d);
long native_finish(struct native_frame *f);
/* `n` descriptions, prepared and executed: for calls whose arguments depend on a command. */
long native_run(struct native_frame *f, const struct native_arg *d, unsigned n);
/* Is a signal or a stop waiting, which the guest must see? */
static inline bool native_pending(const struct native_frame *f)
{
	return READ_ONCE(f->k->pending) != 0;
}

/* ---- native_iov.c ---- */
/* The guest's vector made usable for the host. */
struct native_iov {
	struct native_iovec *host; /* n of them */
	u64 n;
	u64 bytes;                 /* in host[] */
	u64 wanted;                /* in the guest's */
	u64 *bounce;               /* per element: the guest's address when host[] is a private copy, else 0 */
	u64 bounced;               /* bytes in private copies */
};
#define IOV_WRITE 1u /* the host writes to it */
#define IOV_WHOLE 2u /* a short transfer is not allowed (messages) */
/* The first `skip` bytes of the guest's vector are left out. */
int native_iov_get(struct native_frame *f, u64 user, u64 n, u64 skip, unsigned flags, struct native_iov *v);
/* After a read of `done` bytes: what went through private copies. */
int native_iov_put(const struct native_iov *v, u64 done);

/* ---- native_wait.c: time ---- */
/* Guest's mask for the duration of a call (ppoll and friends): the copy for the host in *out. */
int native_sigmask(struct native_frame *f, u64 user, u64 size, u64 *out);
/* After a call with a mask of its own. */
void native_sigmask_done(struct native_frame *f, long r);

/* ---- handlers named in native_table.def ---- */
/* native_io.c */
long native_read(struct native_frame *f);
long native_write(struct native_frame *f);
long native_readv(struct native_frame *f);
long native_writev(struct native_frame *f);
long native_vmsplice(struct native_frame *f);
long native_kcmp(struct native_frame *f);
long native_getrandom(struct native_frame *f);
/* native_fd.c */
long native_open(struct native_frame *f);
long native_openat2(struct native_frame *f);
long native_readlink(struct native_frame *f);
long native_close(struct native_frame *f);
long native_close_range(struct native_frame *f);
long native_dup(struct native_frame *f);
long native_dup2(struct native_frame *f);
long native_fcntl(struct native_frame *f);
long native_pidfd_getfd(struct native_frame *f);
long native_name_to_handle(struct native_frame *f);
long native_open_by_handle(struct native_frame *f);
long native_xattrat(struct native_frame *f);
long native_mount(struct native_frame *f);
long native_fsconfig(struct native_frame *f);
/* native_dir.c */
long native_getdents(struct native_frame *f);
/* native_ioctl.c */
long native_ioctl(struct native_frame *f);
/* native_wait.c */
long native_poll(struct native_frame *f);
long native_ppoll(struct native_frame *f);
long native_select(struct native_frame *f);
long native_pselect6(struct native_frame *f);
long native_epoll_ctl(struct native_frame *f);
long native_epoll_wait(struct native_frame *f);
long native_signalfd(struct native_frame *f);
long native_sigqueue(struct native_frame *f);
long native_nanosleep(struct native_frame *f);
long native_clock_nanosleep(struct native_frame *f);
long native_setitimer(struct native_frame *f);
long native_timer_settime(struct native_frame *f);
long native_timer_create(struct native_frame *f);
long native_timer_delete(struct native_frame *f);
/* exec: those of the process end. */
void timers_delete_all(void);
/* native_msg.c */
long native_setsockopt(struct native_frame *f);
long native_getsockopt(struct native_frame *f);
long native_sendto(struct native_frame *f);
long native_recvfrom(struct native_frame *f);
long native_sendmsg(struct native_frame *f);
long native_recvmsg(struct native_frame *f);
long native_sendmmsg(struct native_frame *f);
long native_recvmmsg(struct native_frame *f);
/* native_ipc.c */
long native_semop(struct native_frame *f);
long native_semctl(struct native_frame *f);
long native_msgsnd(struct native_frame *f);
long native_msgrcv(struct native_frame *f);
long native_msgctl(struct native_frame *f);
long native_shmctl(struct native_frame *f);
long native_mq_open(struct native_frame *f);
long native_capget(struct native_frame *f);
long native_capset(struct native_frame *f);
long native_sched_setattr(struct native_frame *f);
long native_unshare(struct native_frame *f);
long native_reboot(struct native_frame *f);
long native_keyctl(struct native_frame *f);
long native_prctl(struct native_frame *f);
long native_getrusage(struct native_frame *f);

#endif
