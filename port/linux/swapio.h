/*
 * Swap files on the host: how a guest's kernel asks the supervisor for I/O.
 *
 * Only the supervisor has the files open.  So guests need no descriptors that they could close, lie in no guest's limits
 * (RLIMIT_FSIZE, RLIMIT_NOFILE), and an I/O is always brought to its end: the requester may be killed, the supervisor
 * may not (then the machine ends).
 *
 *	requester:  FREE -> CLAIMED, fills in -> QUEUED ................ DONE -> FREE
 *	worker:                                 QUEUED -> ACTIVE -> DONE
 *
 * request.state holds the owner's context, too, so that whoever tidies up after a death finds its requests; one that is ACTIVE is
 * waited for, because the frames in it must not be used again before.  All atomically; nothing here is in a transaction.
 */
#ifndef QUIRE_LINUX_SWAPIO_H
#define QUIRE_LINUX_SWAPIO_H
#include <port/host.h>

#define SWAPIO_REQUESTS 64u
#define SWAPIO_DEVICES 32u
#define SWAP_HEADER_MAGIC "SWAPSPACE2" /* the last ten bytes of page 0, as mkswap(8) writes them */

enum swapio_op {
	SWAPIO_READ, SWAPIO_WRITE,
	SWAPIO_OPEN,  /* descriptor `fd` of process `pid` becomes a device; result: its number, page: its pages */
	SWAPIO_CLOSE,
};
enum swapio_state { SWAPIO_FREE, SWAPIO_CLAIMED, SWAPIO_QUEUED, SWAPIO_ACTIVE, SWAPIO_DONE };
#define SWAPIO_STATE(word) ((word) & 7u)
#define SWAPIO_OWNER(word) ((word) >> 3)
#define SWAPIO_WORD(owner, state) ((owner) << 3 | (u32)(state))

struct swapio_request {
	u32 state;  /* futex */
	u32 op;     /* enum swapio_op */
	u32 dev;
	u32 n;      /* pages */
	s32 result; /* 0 or negative errno */
	s32 pid, fd;
	u64 page;
	u64 pages[HOST_SWAP_MAX]; /* addresses in the shared area */
};

struct swapio {
	u32 queued;  /* futex: workers sleep on it; requests ever */
	u32 wanted;  /* somebody needs workers */
	struct swapio_request request[SWAPIO_REQUESTS];
};

/* ---- swapio.c (in every process) ---- */
/* A dead context's requests: under no lock; waits for those that are being carried out. */
void swapio_abandon(struct quire *q, u32 ctx_id);

/* Descriptor fd of this process becomes a device: result is its number (or negative errno), page its pages.  The request stays
 * the caller's until swapio_settled(); should it die before, the device is closed again unless an area uses it. */
struct swapio_request *swapio_open(s32 fd);
void swapio_settled(struct swapio_request *r);

/* ---- swapon.c ---- */
long guest_swapon(u64 path, u64 flags);
long guest_swapoff(u64 path);

/* ---- sup_swap.c (the supervisor; libc) ---- */
struct run_options;
struct machine_params;
/* Opens or makes the files that the options name, and describes all areas.  0, or -1 after saying why. */
int swap_open_all(const struct run_options *o, struct machine_params *p);
/* Starts the workers if there are files, or somebody wants them. */
void swap_serve(void);

#endif
