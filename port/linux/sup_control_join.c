/*
 * `quire exec`: a program that joins a running machine.
 *
 *	this process (front)         its child
 *	-----------------------------------------------------------------
 *	WATCH: may we?
 *	fork                    ->   JOIN: context and memfd
 *	waits, passes signals on     maps the machine and the kernel at their addresses, becomes a guest
 *	tells how it ended
 *
 * The child keeps what it inherits from the caller: terminal, session, process group, directory, environment, limits.  It dies
 * with the front (PR_SET_PDEATHSIG), and the supervisor watches it as any guest.  The front learns of the machine's end by its
 * own connection.
 */
#define _GNU_SOURCE
#include "sup_control.h"
#include "sup_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILED 125
#define END_WAIT_MS 500 /* between a guest's SIGKILL and the news that the machine ended */

static int receive(int fd, struct control_packet *p, int *passed)
{
	struct iovec iov = { p, sizeof(*p) };
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *h;
	ssize_t n;

	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < (ssize_t)CONTROL_HEAD || p->version != CONTROL_VERSION)
		return -1;
	h = CMSG_FIRSTHDR(&m);
	if (passed && h && h->cmsg_type == SCM_RIGHTS)
		memcpy(passed, CMSG_DATA(h), sizeof(int));
	return 0;
}

static int ask(int fd, u32 op, void *data, size_t size, int *passed)
{
	struct control_request r = { .version = CONTROL_VERSION, .op = op, .build_id = kernel_build_id };
	struct control_packet p;

	if (send(fd, &r, sizeof(r), MSG_NOSIGNAL) != sizeof(r))
		goto lost;
	for (;;) {
		if (receive(fd, &p, passed))
			goto lost;
		if (p.kind == CONTROL_DATA && p.size == size)
			memcpy(data, p.data, size);
		if (p.kind == CONTROL_END)
			break;
	}
	if (p.error)
		fprintf(stderr, "quire exec: %.255s\n", p.data);
	return p.error;
lost:
	fprintf(stderr, "quire exec: the machine does not answer any more\n");
	return -EPIPE;
}

/* ---- the child ---- */

static void __attribute__((noreturn)) child_main(const char *name, const char *path, char **argv, const sigset_t *mask, int error_fd)
{
	struct guest_boot b = { .path = path, .error_fd = error_fd, .ram_fd = -1 };
	const struct kernel_exports *k;
	struct control_ticket ticket;
	int fd = control_connect(name);

	if (fd < 0)
		fprintf(stderr, "quire exec: machine '%s' has ended\n", name);
	if (fd < 0 || !limits_take() || ask(fd, CONTROL_JOIN, &ticket, sizeof(ticket), &b.ram_fd))
		_exit(FAILED);
	k = b.ram_fd < 0 ? NULL : image_join(ticket.memory, b.ram_fd);
	if (!k)
		_exit(FAILED);
	b.ctx_id = ticket.ctx_id;
	limits_give_back(&b);
	close(fd);
	guest_become(k, &b, argv, mask);
	_exit(FAILED);
}

/* ---- the front ---- */

struct front { pid_t child; const char *program; int fd, error_fd; };

/* Why the machine ended, if it did; else NULL.  ms: how long to wait for the news. */
static const char *machine_ended(const struct front *f, int ms, struct control_packet *p)
{
	struct pollfd poll_fd = { .fd = f->fd, .events = POLLIN };

	if (poll(&poll_fd, 1, ms) <= 0)
		return NULL;
	if (receive(f->fd, p, NULL) || p->kind != CONTROL_MACHINE_ENDED)
		return "its supervisor was killed";
	p->data[sizeof(p->data) - 1] = 0;
	return p->data;
}

static int exit_code(const struct front *f, int status)
{
	bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	struct control_packet p;
	const char *why = killed ? machine_ended(f, END_WAIT_MS, &p) : NULL;
	s32 error;

	if (why) {
		fprintf(stderr, "quire exec: the machine ended: %.400s\n", why);
		return FAILED;
	}
	if (read(f->error_fd, &error, sizeof(error)) == sizeof(error))
		fprintf(stderr, "quire: %s: %s\n", f->program, strerror(error));
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The child stopped (^Z): so do we, that the shell notices; and on we go together. */
static bool child_ended(const struct front *f, int *status)
{
	while (waitpid(f->child, status, WNOHANG | WUNTRACED) == f->child) {
		if (!WIFSTOPPED(*status))
			return true;
		if (WSTOPSIG(*status) == SIGSTOP && !isatty(0))
			continue;
		kill(getpid(), SIGSTOP);
		kill(f->child, SIGCONT);
	}
	return false;
}

static int front_main(const struct front *f, const sigset_t *set)
{
	int status = 0;
	siginfo_t si;

	while (!child_ended(f, &status)) {
		if (sigwaitinfo(set, &si) < 0 || si.si_signo == SIGCHLD)
			continue;
		if (si.si_code <= 0) /* by kill(2) to us alone; the terminal's go to the guest as well */
			kill(f->child, si.si_signo);
	}
	return exit_code(f, status);
}

static void block_signals(sigset_t *set, sigset_t *old)
{
	static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT };
	size_t i;

	sigemptyset(set);
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(set, signals[i]);
	sigprocmask(SIG_BLOCK, set, old);
	signal(SIGCHLD, SIG_DFL); /* inherited as ignored, there would be nothing to wait for */
}

int control_exec(const char *name, int fd, char **argv)
{
	struct front f = { .program = argv[0], .fd = fd };
	pid_t self = getpid();
	sigset_t set, old;
	int code = 0, p[2];
	char *path;

	if (ask(fd, CONTROL_WATCH, NULL, 0, NULL))
		return FAILED;
	path = find_program(argv[0], &code);
	if (!path)
		return code;
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK)) {
		fprintf(stderr, "quire exec: pipe: %s\n", strerror(errno));
		return FAILED;
	}
	block_signals(&set, &old);
	fflush(NULL);
	f.child = fork();
	if (f.child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(FAILED);
		close(fd);
		child_main(name, path, argv, &old, p[1]);
	}
	close(p[1]);
	f.error_fd = p[0];
	if (f.child < 0) {
		fprintf(stderr, "quire exec: fork: %s\n", strerror(errno));
		return FAILED;
	}
	code = front_main(&f, &set);
	close(p[0]);
	free(path);
	return code;
}
