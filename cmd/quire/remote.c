/*
 * quire exec, ps, maps, cat, dmesg, translate, devmem: checks the arguments, asks the machine (port/linux/sup_control.h),
 * prints the answer.  What a command is called with stands in the table of main.c; usage texts come from there.
 *
 * Every failure is a sentence on standard error and exit code 125.  No locks, no state.
 */
#include "remote.h"
#include "options.h"
#include "port/linux/sup_control.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define DUMP_WIDTH 16u
#define DEVMEM_READ_DEFAULT 16u
#define LIST_PATIENCE_S 3 /* one machine that is stopped must not hide the others */

/* ---- talking ---- */

static int complain(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int complain(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "quire %s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return QUIRE_EXIT_FAILED;
}

static bool asks_help(int argc, char **argv)
{
	return argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
}

static int usage(char **argv, bool asked)
{
	const struct command_spec *c = find_command_spec(argv[0]);
	FILE *out = asked ? stdout : stderr;

	fprintf(out, "Usage: quire %s %s\n%s\n", c->name, c->args, c->help);
	return asked ? 0 : QUIRE_EXIT_FAILED;
}

static void list_name(const char *name, int fd, void *arg)
{
	unsigned *n = arg;

	close(fd);
	fprintf(stderr, "%s%s", (*n)++ ? ", " : "; running: ", name);
}

/* A connection, or -1 after saying which machines there are. */
static int reach(const char *command, const char *name)
{
	int fd = control_connect(name);
	unsigned n = 0;

	if (fd >= 0)
		return fd;
	fprintf(stderr, "quire %s: there is no machine named '%s'", command, name);
	control_each(list_name, &n);
	fprintf(stderr, "%s\n", n ? "" : "; none is running ('quire run --name NAME --keep -- PROGRAM' starts one)");
	return -1;
}

typedef void (*data_fn)(const char *data, size_t n, void *arg);

static void print_data(const char *data, size_t n, void *arg)
{
	fwrite(data, 1, n, stdout);
}

/* Sends the request and hands the answer over in pieces.  0, or the exit code after printing why.  Closes fd. */
static int converse(const char *command, int fd, struct control_request *r, data_fn fn, void *arg)
{
	struct control_packet p;
	ssize_t n;

	r->version = CONTROL_VERSION;
	n = send(fd, r, sizeof(*r), MSG_NOSIGNAL); /* it may have refused us and gone: then its reason waits to be read */
	if (n < 0 && errno == EPIPE)
		n = 0;
	p.kind = CONTROL_DATA;
	while (n >= 0 && p.kind == CONTROL_DATA) {
		do
			n = recv(fd, &p, sizeof(p), 0);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			break;
		if (n < (ssize_t)CONTROL_HEAD || p.size > (size_t)n - CONTROL_HEAD || p.version != CONTROL_VERSION)
			n = -1, errno = EPROTO;
		else if (p.kind == CONTROL_DATA)
			fn(p.data, p.size, arg);
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		close(fd);
		return complain(command, "the machine does not answer (is its supervisor stopped?)");
	}
	close(fd);
	if (n < 0 || p.kind != CONTROL_END)
		return complain(command, "the machine ended, or does not answer");
	if (p.error)
		return complain(command, "%.255s", p.size ? p.data : "refused");
	return 0;
}

static int print_answer(const char *command, const char *name, struct control_request *r)
{
	int fd = reach(command, name), code;

	if (fd < 0)
		return QUIRE_EXIT_FAILED;
	code = converse(command, fd, r, print_data, NULL);
	if (fflush(stdout) && !code)
		return complain(command, "cannot write: %s", strerror(errno));
	return code;
}

/* ---- numbers ---- */

static bool parse_pid(const char *text, s32 *pid)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	*pid = (s32)v;
	return isdigit((unsigned char)*text) && !*end && !errno && v > 0 && v <= INT32_MAX;
}

/* As addresses stand in maps: hexadecimal, with or without 0x. */
static bool parse_address(const char *text, u64 *address)
{
	char *end;

	errno = 0;
	*address = strtoull(text, &end, 16);
	return isxdigit((unsigned char)*text) && !*end && !errno;
}

static bool parse_count(const char *text, u64 *count)
{
	char *end;

	errno = 0;
	*count = strtoull(text, &end, 0);
	return isdigit((unsigned char)*text) && !*end && !errno && *count > 0;
}

/* As C writes numbers.  *width: what holds it, counting the digits that were written in hexadecimal (0x00aa is two bytes). */
static bool parse_value(const char *text, u64 *value, u32 *width)
{
	bool hex = text[0] == '0' && tolower((unsigned char)text[1]) == 'x';
	char *end;
	u64 w;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)*text) || *end || errno)
		return false;
	w = hex ? (strlen(text) - 2 + 1) / 2 : *value > UINT32_MAX ? 8 : *value > UINT16_MAX ? 4 : *value > UINT8_MAX ? 2 : 1;
	*width = w > 4 ? 8 : w > 2 ? 4 : w > 1 ? 2 : 1;
	return true;
}

static int bad_pid(char **argv, const char *text)
{
	return complain(argv[0], "'%s' is not a process number ('quire ps NAME' lists them)", text);
}

static int bad_address(char **argv, const char *text)
{
	return complain(argv[0], "'%s' is not an address: hexadecimal digits would be right, as in 7f12a4000000", text);
}

/* ---- the commands ---- */

int remote_exec(int argc, char **argv)
{
	int fd, at = 2;

	if (asks_help(argc, argv))
		return usage(argv, true);
	if (argc > at && !strcmp(argv[at], "--"))
		at++;
	if (argc <= at || !*argv[at])
		return usage(argv, false);
	fd = reach(argv[0], argv[1]);
	return fd < 0 ? QUIRE_EXIT_FAILED : control_exec(argv[1], fd, argv + at);
}

static void keep_info(const char *data, size_t n, void *arg)
{
	if (n == sizeof(struct control_info))
		memcpy(arg, data, n);
}

static void list_machine(const char *name, int fd, void *arg)
{
	struct control_request r = { .op = CONTROL_INFO };
	struct timeval patience = { .tv_sec = LIST_PATIENCE_S };
	struct control_info i = { 0 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (converse(name, fd, &r, keep_info, &i) == 0)
		printf("%-20s %7d %10llu %10llu %10u\n", name, i.pid, (unsigned long long)i.memory >> 10,
		       (unsigned long long)i.used >> 10, i.processes);
}

int remote_ps(int argc, char **argv)
{
	struct control_request r = { .op = CONTROL_PS };

	if (asks_help(argc, argv) || argc > 2)
		return usage(argv, argc == 2);
	if (argc == 2)
		return print_answer(argv[0], argv[1], &r);
	printf("%-20s %7s %10s %10s %10s\n", "NAME", "PID", "MEMORY", "USED", "PROCESSES");
	control_each(list_machine, NULL);
	return 0;
}

int remote_maps(int argc, char **argv)
{
	struct control_request r = { .op = CONTROL_PROC };
	s32 pid;

	if (asks_help(argc, argv) || argc != 3)
		return usage(argv, asks_help(argc, argv));
	if (!parse_pid(argv[2], &pid))
		return bad_pid(argv, argv[2]);
	snprintf(r.file, sizeof(r.file), "%d/maps", pid);
	return print_answer(argv[0], argv[1], &r);
}

int remote_cat(int argc, char **argv)
{
	struct control_request r = { .op = CONTROL_PROC };

	if (asks_help(argc, argv) || argc != 3)
		return usage(argv, asks_help(argc, argv));
	if (strlen(argv[2]) >= sizeof(r.file))
		return complain(argv[0], "'%.40s...' is too long for a file of /proc", argv[2]);
	snprintf(r.file, sizeof(r.file), "%s", argv[2]);
	return print_answer(argv[0], argv[1], &r);
}

int remote_dmesg(int argc, char **argv)
{
	struct control_request r = { .op = CONTROL_LOG };

	if (asks_help(argc, argv) || argc != 2)
		return usage(argv, asks_help(argc, argv));
	return print_answer(argv[0], argv[1], &r);
}

int remote_translate(int argc, char **argv)
{
	struct control_request r = { .op = CONTROL_TRANSLATE };

	if (asks_help(argc, argv) || argc != 4)
		return usage(argv, asks_help(argc, argv));
	if (!parse_pid(argv[2], &r.pid))
		return bad_pid(argv, argv[2]);
	if (!parse_address(argv[3], &r.address))
		return bad_address(argv, argv[3]);
	return print_answer(argv[0], argv[1], &r);
}

/* ---- devmem ---- */

struct dump { u64 address; u8 line[DUMP_WIDTH]; unsigned n; };

static void dump_line(struct dump *d)
{
	unsigned i;

	if (!d->n)
		return;
	printf("%012llx ", (unsigned long long)d->address);
	for (i = 0; i < DUMP_WIDTH; i++) {
		if (i < d->n)
			printf(" %02x", d->line[i]);
		else
			printf("   ");
	}
	printf("  |");
	for (i = 0; i < d->n; i++)
		putchar(d->line[i] >= 32 && d->line[i] < 127 ? d->line[i] : '.');
	printf("|\n");
	d->address += d->n;
	d->n = 0;
}

static void dump_data(const char *data, size_t n, void *arg)
{
	struct dump *d = arg;

	for (; n; n--) {
		d->line[d->n++] = (u8)*data++;
		if (d->n == DUMP_WIDTH)
			dump_line(d);
	}
}

static int devmem_read(int argc, char **argv, struct control_request *r)
{
	struct dump d = { .address = r->address };
	int fd, code;

	r->op = CONTROL_DEVMEM_READ;
	r->count = DEVMEM_READ_DEFAULT;
	if (argc > 5)
		return usage(argv, false);
	if (argc == 5 && !parse_count(argv[4], &r->count))
		return complain(argv[0], "'%s' is not a number of bytes", argv[4]);
	fd = reach(argv[0], argv[1]);
	if (fd < 0)
		return QUIRE_EXIT_FAILED;
	code = converse(argv[0], fd, r, dump_data, &d);
	if (!code)
		dump_line(&d);
	return code;
}

static int devmem_write(int argc, char **argv, struct control_request *r)
{
	r->op = CONTROL_DEVMEM_WRITE;
	r->count = 1;
	if (argc < 5 || argc > 6)
		return usage(argv, false);
	if (!parse_value(argv[4], &r->value, &r->width))
		return complain(argv[0], "'%s' is not a value: a number would be right, as in 0xaaaa; its digits tell how many bytes",
				argv[4]);
	if (argc == 6 && !parse_count(argv[5], &r->count))
		return complain(argv[0], "'%s' is not how often to write it", argv[5]);
	return print_answer(argv[0], argv[1], r);
}

int remote_devmem(int argc, char **argv)
{
	struct control_request r = { .op = CONTROL_DEVMEM_READ };
	bool write;

	if (asks_help(argc, argv) || argc < 4)
		return usage(argv, asks_help(argc, argv));
	write = !strcmp(argv[2], "write");
	if (!write && strcmp(argv[2], "read"))
		return complain(argv[0], "'%s': read or write would be right", argv[2]);
	if (!parse_address(argv[3], &r.address))
		return bad_address(argv, argv[3]);
	return write ? devmem_write(argc, argv, &r) : devmem_read(argc, argv, &r);
}
