/*
 * Where machines are found: directories of sockets, one socket per machine.
 *
 * Who makes, removes or replaces a socket holds the directory's lock (flock on the directory itself), so a socket that refuses
 * connections while the lock is held is stale for certain: its supervisor was killed.  Sockets are reached through
 * /proc/self/fd/DIR/NAME, since a socket's own path may be no longer than 107 bytes.
 */
#define _GNU_SOURCE
#include "sup_control.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define TRIES 100
#define BACKLOG 64
#define PATIENCE_S 20

/* The n-th directory where this user's machines may be; false past the last. */
static bool directory_path(unsigned n, char path[PATH_MAX])
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	unsigned uid = (unsigned)geteuid();

	switch (n) {
	case 0:
		if (runtime && *runtime == '/' && strlen(runtime) < PATH_MAX - 16)
			snprintf(path, PATH_MAX, "%s/quire", runtime);
		else
			snprintf(path, PATH_MAX, "/tmp/quire-%u", uid);
		return true;
	case 1: snprintf(path, PATH_MAX, "/run/user/%u/quire", uid); return true;
	case 2: snprintf(path, PATH_MAX, "/tmp/quire-%u", uid); return true;
	default: return false;
	}
}

/* Nobody but its owner may put anything there, and the owner is us (root: anybody). */
static int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || (st.st_mode & 022) || (st.st_uid != geteuid() && geteuid())) {
		close(fd);
		errno = EPERM;
		return -1;
	}
	return fd;
}

/* Made if need be, and locked.  Its last user may just have removed it: then again. */
static int lock_directory(const char *path)
{
	struct stat st;
	int fd, i;

	for (i = 0; i < TRIES; i++) {
		if (mkdir(path, 0700) && errno != EEXIST)
			return -1;
		fd = open_directory(path);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return -1;
		if (!flock(fd, LOCK_EX) && !fstat(fd, &st) && st.st_nlink)
			return fd;
		close(fd);
	}
	errno = EAGAIN;
	return -1;
}

static void socket_address(struct sockaddr_un *a, int dir, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%.63s", dir, name);
}

static int connect_in(int dir, const char *name)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un a;

	/* A supervisor that was stopped (^Z) answers nobody. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	socket_address(&a, dir, name);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

/* ---- the supervisor's side ---- */

static int bind_locked(int dir, const char *name)
{
	int fd = connect_in(dir, name);
	struct sockaddr_un a;

	if (fd >= 0) {
		close(fd);
		errno = EADDRINUSE;
		return -1;
	}
	unlinkat(dir, name, 0);
	socket_address(&a, dir, name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, BACKLOG)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* Sockets that supervisors left which were killed: those named by a process number that is free show it without being asked. */
static void sweep_locked(const char *path, int dir)
{
	struct dirent **list;
	int n = scandir(path, &list, NULL, NULL), i;

	for (i = 0; i < n; i++) {
		char *end;
		long pid = strtol(list[i]->d_name, &end, 10);

		if (pid > 0 && !*end && kill((pid_t)pid, 0) && errno == ESRCH)
			unlinkat(dir, list[i]->d_name, 0);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

int control_listen(const char *name, int *dir, bool quiet)
{
	char path[PATH_MAX];
	int fd = -1;

	directory_path(0, path);
	*dir = lock_directory(path);
	if (*dir >= 0)
		fd = bind_locked(*dir, name);
	if (fd >= 0) {
		sweep_locked(path, *dir);
		flock(*dir, LOCK_UN);
		return fd;
	}
	if (!quiet && errno == EADDRINUSE)
		fprintf(stderr, "quire: a machine named '%s' is running already ('quire ps' lists them)\n", name);
	else if (!quiet)
		fprintf(stderr, "quire: cannot make the machine's socket %s/%s: %s\n", path, name, strerror(errno));
	if (*dir >= 0)
		close(*dir);
	return -1;
}

void control_unlink(int dir, const char *name)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	int i;

	/* Not for ever: a command that was stopped may hold it. */
	for (i = 0; i < TRIES && flock(dir, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK; i++)
		usleep(1000);
	unlinkat(dir, name, 0);
	/* Gone too if it was the last machine. */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	n = readlink(link, path, sizeof(path) - 1);
	if (n > 0) {
		path[n] = 0;
		rmdir(path);
	}
	close(dir);
}

/* ---- the commands' side ---- */

static bool is_machine_name(const char *name)
{
	size_t i, n = strlen(name);

	if (!n || n > CONTROL_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	for (i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}

/* Under the lock a refusal means that nobody will ever listen there again. */
static void remove_stale(int dir, const char *name)
{
	int fd;

	if (flock(dir, LOCK_EX | LOCK_NB))
		return;
	fd = connect_in(dir, name);
	if (fd >= 0)
		close(fd);
	else if (errno == ECONNREFUSED)
		unlinkat(dir, name, 0);
	flock(dir, LOCK_UN);
}

/* Root visits others' directories: who answers there must be the directory's owner. */
static bool is_honest(int dir, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	struct stat st;

	return !fstat(dir, &st) && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.uid == st.st_uid;
}

static int try_directory(const char *path, const char *name)
{
	int dir = open_directory(path), fd;

	if (dir < 0)
		return -1;
	fd = connect_in(dir, name);
	if (fd < 0 && errno == ECONNREFUSED)
		remove_stale(dir, name);
	if (fd >= 0 && !is_honest(dir, fd)) {
		close(fd);
		fd = -1;
	}
	close(dir);
	return fd;
}

/* Every directory that may hold machines we may see, each once; fn returns false to stop. */
static void each_directory(bool (*fn)(const char *path, void *arg), void *arg)
{
	char path[4][PATH_MAX];
	glob_t g = { 0 };
	size_t i, j, n = 0;
	bool seen = false, more = true;

	for (i = 0; more && directory_path((unsigned)i, path[n]); i++) {
		for (j = 0, seen = false; j < n && !seen; j++)
			seen = !strcmp(path[j], path[n]);
		if (!seen)
			more = fn(path[n++], arg);
	}
	if (!more || geteuid())
		return;
	glob("/run/user/*/quire", GLOB_NOSORT, NULL, &g);
	glob("/tmp/quire-*", GLOB_NOSORT | GLOB_APPEND, NULL, &g);
	for (i = 0; more && i < g.gl_pathc; i++) {
		for (j = 0, seen = false; j < n && !seen; j++)
			seen = !strcmp(path[j], g.gl_pathv[i]);
		if (!seen)
			more = fn(g.gl_pathv[i], arg);
	}
	globfree(&g);
}

struct search { const char *name; int fd; };
static bool search_directory(const char *path, void *arg)
{
	struct search *s = arg;

	s->fd = try_directory(path, s->name);
	return s->fd < 0;
}

int control_connect(const char *name)
{
	struct search s = { name, -1 };

	if (is_machine_name(name))
		each_directory(search_directory, &s);
	return s.fd;
}

struct visit { void (*fn)(const char *name, int fd, void *arg); void *arg; };
static bool visit_directory(const char *path, void *arg)
{
	struct visit *v = arg;
	struct dirent **list;
	int n = scandir(path, &list, NULL, alphasort), i;

	for (i = 0; i < n; i++) {
		int fd = is_machine_name(list[i]->d_name) ? try_directory(path, list[i]->d_name) : -1;

		if (fd >= 0)
			v->fn(list[i]->d_name, fd, v->arg);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return true;
}

void control_each(void (*fn)(const char *name, int fd, void *arg), void *arg)
{
	struct visit v = { fn, arg };

	each_directory(visit_directory, &v);
}
