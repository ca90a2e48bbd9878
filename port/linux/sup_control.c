/*
 * The supervisor answers commands about its machine.
 *
 * Everything happens in the supervisor's main thread (the one that may run the kernel's code), when its loop finds control_fd()
 * readable.  Nothing here waits: an answer is made whole in memory and sent in pieces as the client takes them.  Bounds:
 * MAX_CLIENTS connections, ANSWERS_MAX bytes of answers in all; who would exceed them is told so.
 *
 * A client is always in one of these states:
 *	asking     a request is awaited
 *	answered   (answer != NULL) the answer goes out; no further request is read
 *	watching   it waits for the machine's end
 */
#define _GNU_SOURCE
#include "sup_control.h"
#include "sup_internal.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_CLIENTS 256u
#define ANSWERS_MAX (256ull << 20)
#define TEXT_FIRST 65536u
#define TEXT_MAX (128ull << 20)
#define EVENTS 32

struct client {
	struct client *next;
	int fd;
	bool watching;
	char *answer;          /* text or bytes; malloc'ed */
	size_t len, sent;
	s32 error;             /* of the END that follows */
	char sentence[256];    /* what was wrong */
	int pass_fd;           /* goes with the END; -1 = none */
};

struct control {
	struct control_owner owner;
	char name[CONTROL_NAME_MAX + 1];
	int dir, listener, epoll;
	struct client *clients, *dead; /* dead: freed at the end of the round, events may still name them */
	unsigned nclients;
	u64 bytes;             /* of all answers */
};

/* ---- clients ---- */

static void drop_answer(struct control *c, struct client *cl)
{
	free(cl->answer);
	c->bytes -= cl->len;
	cl->answer = NULL;
	cl->len = cl->sent = 0;
}

static void client_drop(struct control *c, struct client *cl)
{
	struct client **at = &c->clients;

	while (*at != cl)
		at = &(*at)->next;
	*at = cl->next;
	close(cl->fd); /* leaves the epoll set by that: nobody else holds this descriptor */
	cl->fd = -1;
	drop_answer(c, cl);
	cl->next = c->dead;
	c->dead = cl;
	c->nclients--;
}

static int send_packet(int fd, struct control_packet *p, int pass_fd)
{
	struct iovec iov = { p, CONTROL_HEAD + p->size };
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	p->version = CONTROL_VERSION;
	if (pass_fd >= 0) {
		struct cmsghdr *h;

		m.msg_control = room;
		m.msg_controllen = sizeof(room);
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &pass_fd, sizeof(int));
	}
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* One packet of what is to be said; 1 when all is said. */
static int say_next(struct client *cl, struct control_packet *p)
{
	size_t left = cl->len - cl->sent;
	int r;

	memset(p, 0, CONTROL_HEAD);
	if (left) {
		p->kind = CONTROL_DATA;
		p->size = (u32)MIN(left, sizeof(p->data));
		memcpy(p->data, cl->answer + cl->sent, p->size);
		r = send_packet(cl->fd, p, -1);
		cl->sent += r ? 0 : p->size;
		return r;
	}
	p->kind = CONTROL_END;
	p->error = cl->error;
	p->size = cl->error ? (u32)strlen(cl->sentence) + 1 : 0;
	memcpy(p->data, cl->sentence, p->size);
	r = send_packet(cl->fd, p, cl->pass_fd);
	return r ? r : 1;
}

static void arm(struct control *c, struct client *cl, u32 events)
{
	struct epoll_event ev = { .events = events, .data.ptr = cl };

	epoll_ctl(c->epoll, EPOLL_CTL_MOD, cl->fd, &ev);
}

/* As much of the answer as the client takes now. */
static void client_send(struct control *c, struct client *cl)
{
	struct control_packet p;
	int r;

	while (!(r = say_next(cl, &p)))
		;
	if (r == -EAGAIN) {
		arm(c, cl, EPOLLOUT);
	} else if (r < 0) {
		client_drop(c, cl);
	} else {
		drop_answer(c, cl);
		cl->pass_fd = -1;
		arm(c, cl, EPOLLIN);
	}
}

static void refuse(struct client *cl, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void refuse(struct client *cl, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cl->sentence, sizeof(cl->sentence), fmt, ap);
	va_end(ap);
	cl->error = error;
}

/* Takes `bytes` over (malloc'ed). */
static void answer(struct control *c, struct client *cl, char *bytes, size_t len)
{
	if (c->bytes + len > ANSWERS_MAX) {
		free(bytes);
		refuse(cl, -EBUSY, "too many large answers wait to be read; try again");
		return;
	}
	cl->answer = bytes;
	cl->len = len;
	c->bytes += len;
}

static void answer_struct(struct control *c, struct client *cl, const void *what, size_t size)
{
	char *copy = malloc(size);

	if (!copy)
		abort();
	memcpy(copy, what, size);
	answer(c, cl, copy, size);
}

/* ---- texts ---- */

struct text_source {
	const struct kernel_exports *k;
	const struct control_request *r;
	long (*make)(const struct text_source *s, char *buf, size_t size);
};

static long make_proc(const struct text_source *s, char *buf, size_t size)
{
	return s->k->proc_text(s->r->file, buf, size);
}

static long make_translation(const struct text_source *s, char *buf, size_t size)
{
	return s->k->translate(s->r->pid, s->r->address, buf, size);
}

/* Made again with more room until it fits: it may grow meanwhile.  The length, or negative errno. */
static long whole_text(const struct text_source *s, char **text)
{
	size_t room = TEXT_FIRST;
	long n;

	for (;;) {
		*text = malloc(room);
		if (!*text)
			return -ENOMEM;
		n = s->make(s, *text, room);
		if (n >= 0 && (size_t)n < room)
			return n;
		free(*text);
		if (n < 0)
			return n;
		room = (size_t)n + (size_t)n / 4 + 1;
		if (room > TEXT_MAX)
			return -EFBIG;
	}
}

static void op_text(struct control *c, struct client *cl, const struct text_source *s)
{
	char *text = NULL;
	long n = whole_text(s, &text);

	if (n >= 0)
		answer(c, cl, text, (size_t)n);
	else if (n == -ESRCH)
		refuse(cl, -ESRCH, "no such process on machine '%s' ('quire ps %s' lists them)", c->name, c->name);
	else if (n == -EINVAL)
		refuse(cl, -EINVAL, "%s is an array, not a text: 'quire translate' and 'quire devmem' show what it holds",
		       s->r->file);
	else if (n == -ENOENT)
		refuse(cl, -ENOENT, "the machine serves no /proc file '%s', or there is no such process ('quire ps %s')",
		       s->r->file, c->name);
	else
		refuse(cl, (s32)n, "%s", strerror((int)-n));
}

static void op_log(struct control *c, struct client *cl)
{
	size_t room = TEXT_FIRST, len = 0, n;
	char *text = malloc(room);
	u64 pos = 0;

	while (text && (n = c->owner.k->log_read(&pos, text + len, room - len)) > 0) {
		len += n;
		if (room - len < TEXT_FIRST / 2 && room < TEXT_MAX) {
			room *= 2;
			text = realloc(text, room);
		}
	}
	if (!text)
		abort();
	answer(c, cl, text, len);
}

/* ---- processes ---- */

struct process_line { s32 pid, ppid; char state, comm[64]; u64 vsize, rss; };

/* proc_pid_stat(5): pid (comm) state ppid ... 23 vsize 24 rss. */
static bool read_process(const struct kernel_exports *k, s32 pid, struct process_line *p)
{
	char file[32], text[2048], *open, *close;
	unsigned long vsize, rss;
	long n;

	snprintf(file, sizeof(file), "%d/stat", pid);
	n = k->proc_text(file, text, sizeof(text));
	if (n <= 0 || (size_t)n >= sizeof(text))
		return false;
	open = strchr(text, '(');
	close = strrchr(text, ')');
	if (!open || !close || sscanf(close + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u "
				      "%lu %lu", &p->state, &p->ppid, &vsize, &rss) != 4)
		return false;
	*close = 0;
	snprintf(p->comm, sizeof(p->comm), "%.63s", open + 1);
	p->pid = pid;
	p->vsize = vsize;
	p->rss = rss * PAGE_SIZE;
	return true;
}

static int by_number(const void *a, const void *b)
{
	return *(const s32 *)a < *(const s32 *)b ? -1 : *(const s32 *)a > *(const s32 *)b;
}

/* Sorted; malloc'ed. */
static s32 *all_pids(const struct kernel_exports *k, u32 *n)
{
	u32 room = (u32)k->pids(NULL, 0) + 16;
	s32 *list = malloc(room * sizeof(*list));

	if (!list)
		abort();
	*n = MIN((u32)k->pids(list, room), room);
	qsort(list, *n, sizeof(*list), by_number);
	return list;
}

static void op_ps(struct control *c, struct client *cl)
{
	struct process_line p;
	char *text = NULL;
	size_t len = 0;
	u32 n, i;
	s32 *pids = all_pids(c->owner.k, &n);
	FILE *f = open_memstream(&text, &len);

	if (!f)
		abort();
	fprintf(f, "%7s %7s S %10s %10s COMMAND\n", "PID", "PPID", "VSZ", "RSS");
	for (i = 0; i < n; i++)
		if (read_process(c->owner.k, pids[i], &p))
			fprintf(f, "%7d %7d %c %10llu %10llu %s\n", p.pid, p.ppid, p.state,
				(unsigned long long)p.vsize >> 10, (unsigned long long)p.rss >> 10, p.comm);
	fclose(f);
	free(pids);
	answer(c, cl, text, len);
}

/* The value of a line of meminfo, in bytes. */
static u64 meminfo_field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) << 10 : 0;
}

static void op_info(struct control *c, struct client *cl)
{
	struct control_info info = { .memory = c->owner.memory, .build_id = kernel_build_id, .pid = getpid() };
	char text[8192];

	if (c->owner.k->proc_text("meminfo", text, sizeof(text)) > 0)
		info.used = meminfo_field(text, "MemTotal:") - meminfo_field(text, "MemAvailable:");
	info.processes = (u32)c->owner.k->pids(NULL, 0);
	answer_struct(c, cl, &info, sizeof(info));
}

/* ---- physical memory ---- */

static bool range_is_bad(struct control *c, struct client *cl, const struct control_request *r, u64 bytes)
{
	if (r->address < c->owner.memory && bytes <= c->owner.memory - r->address && bytes <= CONTROL_BYTES_MAX)
		return false;
	if (bytes > CONTROL_BYTES_MAX)
		refuse(cl, -E2BIG, "%llu bytes at once are too many: at most %u", (unsigned long long)bytes, CONTROL_BYTES_MAX);
	else
		refuse(cl, -ERANGE, "0x%llx is beyond the machine's memory, which ends at 0x%llx",
		       (unsigned long long)(r->address + bytes), (unsigned long long)c->owner.memory);
	return true;
}

/* By read(2), so that frames that were never used take no memory of the host by being looked at. */
static void op_devmem_read(struct control *c, struct client *cl, const struct control_request *r)
{
	size_t done = 0;
	char *bytes;

	if (range_is_bad(c, cl, r, r->count))
		return;
	bytes = malloc(r->count + 1);
	if (!bytes)
		abort();
	while (done < r->count) {
		ssize_t n = pread(c->owner.ram_fd, bytes + done, r->count - done, (off_t)(RAM_OFFSET + r->address + done));

		if (n <= 0) {
			free(bytes);
			refuse(cl, -EIO, "cannot read the machine's memory: %s", strerror(errno));
			return;
		}
		done += (size_t)n;
	}
	answer(c, cl, bytes, done);
}

static void op_devmem_write(struct control *c, struct client *cl, const struct control_request *r)
{
	u64 i, bytes;
	char *image;
	long ret;

	if (!r->width || r->width > 8 || __builtin_mul_overflow(r->width, r->count, &bytes)) {
		refuse(cl, -EINVAL, "a value of %u bytes, %llu times: too much", r->width, (unsigned long long)r->count);
		return;
	}
	if (range_is_bad(c, cl, r, bytes))
		return;
	image = malloc(bytes + 1);
	if (!image)
		abort();
	for (i = 0; i < r->count; i++)
		memcpy(image + i * r->width, &r->value, r->width);
	ret = c->owner.k->devmem_write(r->address, image, bytes);
	free(image);
	if (ret == -EBUSY)
		refuse(cl, -EBUSY, "no one uses that frame: a value written there would be seen by nobody");
	else if (ret == -EPERM)
		refuse(cl, -EPERM, "that frame is reserved (the zero page, boot data): every process would be damaged");
	else if (ret == -ENXIO)
		refuse(cl, -ENXIO, "that frame stands for a page of a file, whose bytes are in the host's page cache");
	else if (ret)
		refuse(cl, (s32)ret, "%s", strerror((int)-ret));
}

/* ---- joining ---- */

static bool may_join(struct control *c, struct client *cl, const struct control_request *r, const struct ucred *peer)
{
	if (r->build_id != kernel_build_id)
		refuse(cl, -ENOEXEC, "machine '%s' was started by another build of quire (kernel %016llx, this one's is %016llx): use "
		       "the same program", c->name, (unsigned long long)kernel_build_id, (unsigned long long)r->build_id);
	else if (peer->uid != geteuid())
		refuse(cl, -EPERM, "machine '%s' belongs to user %u, and only that user's programs may join it", c->name,
		       (unsigned)geteuid());
	else
		return true;
	return false;
}

static bool has_hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/*
 * The sender holds the only copy of its end, so while that is open the process number is its own, and the pidfd is right.
 */
static void op_join(struct control *c, struct client *cl, const struct ucred *peer)
{
	struct control_ticket ticket = { .memory = c->owner.memory };
	int pidfd = peer->pid > 0 ? (int)syscall(SYS_pidfd_open, peer->pid, 0) : -1;
	u64 serial;

	if (pidfd < 0 || has_hung_up(cl->fd)) {
		refuse(cl, -ESRCH, "process %d is not in sight of the machine's supervisor (another PID namespace?)", peer->pid);
		if (pidfd >= 0)
			close(pidfd);
		return;
	}
	ticket.ctx_id = c->owner.k->join(peer->pid, &serial);
	if (!ticket.ctx_id) {
		close(pidfd);
		refuse(cl, -EAGAIN, "no room for another process on machine '%s'", c->name);
		return;
	}
	c->owner.watch(c->owner.owner, serial, pidfd);
	answer_struct(c, cl, &ticket, sizeof(ticket));
	cl->pass_fd = c->owner.ram_fd;
}

/* ---- requests ---- */

static void dispatch(struct control *c, struct client *cl, struct control_request *r, const struct ucred *peer)
{
	struct text_source s = { c->owner.k, r, r->op == CONTROL_TRANSLATE ? make_translation : make_proc };

	r->file[CONTROL_FILE_MAX - 1] = 0;
	switch (r->op) {
	case CONTROL_INFO: op_info(c, cl); break;
	case CONTROL_PROC: case CONTROL_TRANSLATE: op_text(c, cl, &s); break;
	case CONTROL_LOG: op_log(c, cl); break;
	case CONTROL_PS: op_ps(c, cl); break;
	case CONTROL_DEVMEM_READ: op_devmem_read(c, cl, r); break;
	case CONTROL_DEVMEM_WRITE: op_devmem_write(c, cl, r); break;
	case CONTROL_WATCH:
		cl->watching = may_join(c, cl, r, peer);
		break;
	case CONTROL_JOIN:
		if (may_join(c, cl, r, peer))
			op_join(c, cl, peer);
		break;
	default:
		refuse(cl, -ENOSYS, "machine '%s' does not know this request", c->name);
	}
}

static void client_request(struct control *c, struct client *cl)
{
	struct control_request r;
	ssize_t n = recv(cl->fd, &r, sizeof(r), MSG_DONTWAIT | MSG_TRUNC);
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || getsockopt(cl->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
		client_drop(c, cl);
		return;
	}
	cl->error = 0;
	cl->watching = false;
	if (n != sizeof(r) || r.version != CONTROL_VERSION)
		refuse(cl, -EPROTO, "machine '%s' was started by a version of quire that speaks otherwise", c->name);
	else if (peer.uid != geteuid() && peer.uid)
		refuse(cl, -EPERM, "machine '%s' belongs to another user", c->name);
	else
		dispatch(c, cl, &r, &peer);
	client_send(c, cl);
}

static void accept_client(struct control *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct epoll_event ev = { .events = EPOLLIN };
	struct client *cl;

	if (fd < 0)
		return;
	cl = c->nclients < MAX_CLIENTS ? calloc(1, sizeof(*cl)) : NULL;
	ev.data.ptr = cl;
	if (!cl || epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &ev)) {
		struct client busy = { .fd = fd, .pass_fd = -1 };
		struct control_packet p;

		refuse(&busy, -EBUSY, "machine '%s' is talking to too many commands; try again", c->name);
		say_next(&busy, &p);
		close(fd);
		free(cl);
		return;
	}
	cl->fd = fd;
	cl->pass_fd = -1;
	cl->next = c->clients;
	c->clients = cl;
	c->nclients++;
}

static void free_dead(struct control *c)
{
	while (c->dead) {
		struct client *cl = c->dead;

		c->dead = cl->next;
		free(cl);
	}
}

void control_serve(struct control *c)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(c->epoll, ev, EVENTS, 0), i;

	for (i = 0; i < n; i++) {
		struct client *cl = ev[i].data.ptr;

		if (!cl)
			accept_client(c);
		else if (cl->fd < 0)
			continue;
		else if (ev[i].events & EPOLLOUT)
			client_send(c, cl);
		else if (ev[i].events & EPOLLIN)
			client_request(c, cl);
		else
			client_drop(c, cl);
	}
	free_dead(c);
}

/* ---- from start to end ---- */

struct control *control_open(const char *name)
{
	struct control *c = calloc(1, sizeof(*c));
	struct epoll_event ev = { .events = EPOLLIN };

	if (!c)
		abort();
	if (name)
		snprintf(c->name, sizeof(c->name), "%.63s", name);
	else
		snprintf(c->name, sizeof(c->name), "%d", getpid());
	c->listener = control_listen(c->name, &c->dir, !name);
	if (c->listener < 0) {
		free(c);
		return NULL;
	}
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll < 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->listener, &ev)) {
		fprintf(stderr, "quire: epoll: %s\n", strerror(errno));
		control_close(c, "it could not start");
		return NULL;
	}
	return c;
}

void control_start(struct control *c, const struct control_owner *owner)
{
	c->owner = *owner;
}

int control_fd(const struct control *c) { return c->epoll; }
const char *control_name(const struct control *c) { return c->name; }

void control_forget(struct control *c)
{
	struct client *cl;

	if (!c)
		return;
	close(c->listener);
	close(c->epoll);
	close(c->dir);
	for (cl = c->clients; cl; cl = cl->next)
		close(cl->fd);
}

void control_close(struct control *c, const char *why)
{
	struct control_packet p = { .kind = CONTROL_MACHINE_ENDED };

	if (!c || c->listener < 0)
		return;
	control_unlink(c->dir, c->name);
	close(c->listener);
	c->listener = -1;
	p.size = (u32)snprintf(p.data, 512, "%s", why) + 1;
	p.size = MIN(p.size, 512u);
	while (c->clients) {
		if (c->clients->watching)
			send_packet(c->clients->fd, &p, -1);
		client_drop(c, c->clients);
	}
	free_dead(c);
	close(c->epoll);
}
