/*
 * The table of system calls: who executes each one, and what its arguments point to.
 *
 * Every number of the architecture stands in native_table.def exactly once (tests/native_table_test.c):
 *
 *	NC_NONE     no memory arguments: the host executes it as it is
 *	NC_BUF      the host executes it after its arguments were copied in or pinned
 *	NC_SERVED   belongs to the machine (dispatch.c); a native description says what is left for the host, if anything
 *	NC_REFUSED  answered with an error; `why` says for what reason
 *
 * Immutable; no locks.
 */
#ifndef QUIRE_LINUX_NATIVE_TABLE_H
#define QUIRE_LINUX_NATIVE_TABLE_H
#include <quire/types.h>

struct native_frame;

enum native_class { NC_UNKNOWN, NC_NONE, NC_BUF, NC_SERVED, NC_REFUSED };

#define NF_FREE 1u   /* needs no look at all: may stay untrapped */
#define NF_BLOCK 2u  /* may sleep: signals must be able to end it */
#define NF_EFFECT 4u /* outputs are checked before the call, because it cannot be taken back */
#define NF_RETRY 8u  /* harmless to repeat: once more after EFAULT */
#define NF_FOLLOW 16u /* follows links in its path: /proc/PID/exe leads to the guest's program */

/* How the host gets one argument.  `len` is the index of the argument that has the length. */
enum native_arg_kind {
	ARG_VALUE,  /* passed on */
	ARG_FD,     /* a descriptor: the kernel's own does not exist for guests */
	ARG_STR,    /* path or other text: a copy */
	ARG_IN,     /* `size` bytes in: a copy */
	ARG_OUT,    /* `size` bytes out: copied back when the call succeeds */
	ARG_INOUT,  /* both */
	ARG_INBUF,  /* in, arg[len] * size bytes */
	ARG_OUTBUF, /* out, arg[len] * size bytes: pinned */
	ARG_OUTLEN, /* out, *(u32 *)arg[len] bytes, at most `size`; pinned.  arg[len] itself is ARG_LEN */
	ARG_LEN,    /* in/out length of an ARG_OUTLEN */
	ARG_VSIZE,  /* in, the struct begins with its own size in bytes (u32), at most one page */
};
struct native_arg {
	u8 kind;   /* enum native_arg_kind */
	u8 len;    /* index of an argument */
	u16 size;  /* bytes */
};

struct native_call {
	char name[24];
	u8 class;                             /* enum native_class */
	u8 flags;                             /* NF_* */
	u8 error;                             /* NC_REFUSED: positive errno */
	u8 described;                         /* there is something to execute natively */
	long (*fn)(struct native_frame *f);   /* instead of the argument descriptions, or NULL */
	const char *why;                      /* NC_REFUSED */
	struct native_arg arg[6];
};

#define NATIVE_MAX 471 /* numbers below are known; the newest host has 469 */
extern const struct native_call native_table[NATIVE_MAX];

/* The entry of a number, or NULL. */
const struct native_call *native_lookup(long nr);
/* May the seccomp filter let the call pass without a trap?  No memory arguments, does not sleep, no descriptor
 * or process state that the machine must know about. */
bool native_is_untrapped(long nr);

#endif
