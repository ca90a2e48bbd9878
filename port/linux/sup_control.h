/*
 * How the commands reach a running machine: one unix socket per machine, a few messages.  Ordinary libc code; the header stands
 * alone, so that the command line may include it.
 *
 * Sockets lie in $XDG_RUNTIME_DIR/quire or /tmp/quire-UID (mode 0700), named as the machine: `--name`, or the supervisor's
 * process number.  Only the owner and root are answered.
 *
 *	client                                  supervisor
 *	struct control_request           ->
 *	                                 <-     CONTROL_DATA ... (pieces of a text or of memory)
 *	                                 <-     CONTROL_END (error 0, or a sentence that says what was wrong)
 *
 * SOCK_SEQPACKET: one message is one packet.  After CONTROL_WATCH the connection stays, and the machine's end is told by
 * CONTROL_MACHINE_ENDED with the reason, or, if the supervisor was killed, by the end of the connection.
 */
#ifndef QUIRE_LINUX_SUP_CONTROL_H
#define QUIRE_LINUX_SUP_CONTROL_H
#include <quire/types.h>

#define CONTROL_VERSION 0x51430001u /* "QC" and the protocol's number */
#define CONTROL_PIECE 16384u        /* bytes of data in one packet at most */
#define CONTROL_FILE_MAX 128u
#define CONTROL_BYTES_MAX (16u << 20) /* of one devmem */
#define CONTROL_NAME_MAX 63u

enum control_op {
	CONTROL_INFO,        /* struct control_info */
	CONTROL_PROC,        /* the text of file */
	CONTROL_LOG,
	CONTROL_PS,
	CONTROL_TRANSLATE,   /* pid, address */
	CONTROL_DEVMEM_READ, /* address, count bytes */
	CONTROL_DEVMEM_WRITE, /* address, value of `width` bytes, count times */
	CONTROL_WATCH,       /* is this program fit to join?  build_id */
	CONTROL_JOIN,        /* the sender becomes a guest: build_id; struct control_ticket, with the memfd in the same packet */
};

struct control_request {
	u32 version, op;
	u64 build_id;
	s32 pid;
	u32 width;            /* 1, 2, 4, 8 */
	u64 address, value, count;
	char file[CONTROL_FILE_MAX];
};

enum control_kind { CONTROL_DATA, CONTROL_END, CONTROL_MACHINE_ENDED };
struct control_packet {
	u32 version, kind;
	s32 error;            /* CONTROL_END: negative errno, or 0 */
	u32 size;             /* bytes of data; a sentence ends with NUL */
	char data[CONTROL_PIECE];
};
#define CONTROL_HEAD offsetof(struct control_packet, data)

struct control_info {
	u64 memory, used;     /* bytes */
	u64 build_id;
	s32 pid;              /* of the supervisor */
	u32 processes;
};
struct control_ticket {
	u64 memory;           /* bytes of RAM */
	u32 ctx_id;           /* the context made for the sender */
	u32 pad;
};

/* ---- sup_control_dir.c: names ---- */
/* The listening socket of a new machine, or -1 after printing why (unless quiet).  *dir is opened too: control_unlink()
 * closes it. */
int control_listen(const char *name, int *dir, bool quiet);
void control_unlink(int dir, const char *name);
/* A connection to the machine of that name, or -1: none answers.  A socket that nobody listens on is removed. */
int control_connect(const char *name);
/* Calls fn for every machine of this user (of all users, for root) that answers, with a connection that fn closes. */
void control_each(void (*fn)(const char *name, int fd, void *arg), void *arg);

/* ---- sup_control_join.c: `quire exec` ---- */
/* Runs argv as a process of the machine that fd leads to.  The exit code: the program's, or 125 to 127 after printing why. */
int control_exec(const char *name, int fd, char **argv);

/* ---- sup_control.c ---- */
struct kernel_exports;
struct control;
struct control_owner {
	/* A process is about to become a guest: pidfd is the owner's from now on. */
	void (*watch)(void *owner, u64 serial, int pidfd);
	void *owner;
	const struct kernel_exports *k;
	int ram_fd;
	u64 memory;
};
/* Announces the machine: name NULL = the caller's pid.  NULL if it cannot, after printing why if it was to have a name. */
struct control *control_open(const char *name);
/* From now on requests are answered: whenever control_fd() is readable, control_serve() does what can be done without waiting. */
void control_start(struct control *c, const struct control_owner *owner);
int control_fd(const struct control *c);
const char *control_name(const struct control *c);
void control_serve(struct control *c);
/* In a child of the supervisor: lets go of the socket, so that it goes when the supervisor is killed.  c may be NULL. */
void control_forget(struct control *c);
/* Tells who watches that the machine ends, and removes the socket.  c may be NULL; the second time nothing happens. */
void control_close(struct control *c, const char *why);

#endif
