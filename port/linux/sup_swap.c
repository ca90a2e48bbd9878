/*
 * The supervisor's half of swapio.h: swap files, and the threads that read and write them.
 *
 *	at the start   --swap FILE:SIZE   opened or made, checked, its room reserved, its header written
 *	SWAPIO_OPEN    swapon(2)          a guest's descriptor is opened again; it must have mkswap(8)'s header
 *
 * A file in use is locked (flock), so that no two machines take the same one.  Workers start with the first request.  They
 * are ordinary threads without a context: they touch nothing of the machine but requests and the frames named in them.
 *
 * Locks: `table` for reading during I/O, for writing while devices come and go.
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include "../../cmd/quire/options.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WORKERS 2
#define FAILED_TO(...) (fprintf(stderr, "quire: --swap: " __VA_ARGS__), -1)

/* Page 0 of a swap file, as mkswap(8) makes it (Linux: union swap_header). */
struct swap_header {
	char bootbits[1024];
	u32 version;       /* 1 */
	u32 last_page;
	u32 nr_badpages;
	u8 uuid[16];
	char label[16];
	char pad[3018];
	char magic[10];
};
_Static_assert(sizeof(struct swap_header) == PAGE_SIZE, "one page");

static struct {
	pthread_rwlock_t table;
	struct { bool used; int fd; } device[SWAPIO_DEVICES];
	bool serving;
} state = { .table = PTHREAD_RWLOCK_INITIALIZER };

/* A number for the descriptor, which is given over; -1 = none left. */
static int device_add(int fd)
{
	int dev = -1;

	pthread_rwlock_wrlock(&state.table);
	for (unsigned i = 0; i < SWAPIO_DEVICES && dev < 0; i++)
		if (!state.device[i].used)
			dev = (int)i;
	if (dev >= 0) {
		state.device[dev].used = true;
		state.device[dev].fd = fd;
	}
	pthread_rwlock_unlock(&state.table);
	return dev;
}

static int device_close(u32 dev)
{
	pthread_rwlock_wrlock(&state.table);
	if (dev < SWAPIO_DEVICES && state.device[dev].used) {
		close(state.device[dev].fd);
		state.device[dev].used = false;
	}
	pthread_rwlock_unlock(&state.table);
	return 0;
}

/* ---- I/O ---- */

/* What is left of a request after n bytes are done. */
static int rest_of(const struct swapio_request *r, size_t done, struct iovec *iov)
{
	int n = 0;

	for (u32 i = (u32)(done / PAGE_SIZE); i < r->n && i < HOST_SWAP_MAX; i++) {
		size_t skip = i == done / PAGE_SIZE ? done % PAGE_SIZE : 0;

		iov[n++] = (struct iovec){ .iov_base = (char *)r->pages[i] + skip, .iov_len = PAGE_SIZE - skip };
	}
	return n;
}

static int transfer(int fd, const struct swapio_request *r)
{
	size_t done = 0, all = (size_t)r->n * PAGE_SIZE;
	struct fail_transfer fail = fail_transfer(r->op == SWAPIO_WRITE, all);
	struct iovec iov[HOST_SWAP_MAX];

	while (done < all) {
		off_t at = (off_t)(r->page * PAGE_SIZE + done);
		int n = rest_of(r, done, iov);
		ssize_t ret;

		if (done >= fail.fails_at)
			break;
		n = fail_cut(iov, n, fail.fails_at - done);
		ret = r->op == SWAPIO_WRITE ? pwritev(fd, iov, n, at) : preadv(fd, iov, n, at);
		if (ret < 0 && errno == EINTR)
			continue;
		if (ret < 0)
			return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? -ENOSPC : -EIO;
		if (ret == 0)
			return -EIO; /* somebody cut the file */
		done += (size_t)ret;
	}
	return done >= fail.fails_at ? fail.err : 0; /* or after all of it */
}

static int device_io(const struct swapio_request *r)
{
	int ret = -EIO;

	pthread_rwlock_rdlock(&state.table);
	if (r->dev < SWAPIO_DEVICES && state.device[r->dev].used)
		ret = transfer(state.device[r->dev].fd, r);
	pthread_rwlock_unlock(&state.table);
	return ret;
}

/* ---- opening ---- */
static bool header_is_valid(const struct swap_header *h)
{
	return !memcmp(h->magic, SWAP_HEADER_MAGIC, sizeof(h->magic)) && h->version == 1 && !h->nr_badpages && h->last_page;
}

/* Pages of the swap file with its header, or negative errno. */
static s64 swap_file_pages(int fd)
{
	struct swap_header h;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || !header_is_valid(&h) || (u64)st.st_size / PAGE_SIZE <= h.last_page)
		return -EINVAL;
	return (s64)h.last_page + 1;
}

/* A guest's descriptor: this one must stay when it is closed there. */
static int device_open(struct swapio_request *r)
{
	char path[64];
	s64 pages;
	int fd, dev;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", r->pid, r->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	pages = swap_file_pages(fd);
	if (pages >= 0 && flock(fd, LOCK_EX | LOCK_NB))
		pages = -EBUSY;
	dev = pages < 0 ? (int)pages : device_add(fd);
	if (dev == -1)
		dev = -EMFILE;
	if (dev < 0)
		close(fd);
	r->page = dev < 0 ? 0 : (u64)pages;
	return dev;
}

/* ---- the workers ---- */
static long futex(u32 *word, int op, u32 value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void carry_out(struct swapio_request *r, u32 owner)
{
	switch (r->op) {
	case SWAPIO_OPEN: r->result = device_open(r); break;
	case SWAPIO_CLOSE: r->result = device_close(r->dev); break;
	default: r->result = device_io(r); break;
	}
	__atomic_store_n(&r->state, SWAPIO_WORD(owner, SWAPIO_DONE), __ATOMIC_SEQ_CST);
	futex(&r->state, FUTEX_WAKE, 1u << 30);
}

static bool serve_one(struct swapio *s)
{
	for (u32 i = 0; i < SWAPIO_REQUESTS; i++) {
		struct swapio_request *r = &s->request[i];
		u32 word = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE);

		if (SWAPIO_STATE(word) != SWAPIO_QUEUED ||
		    !__atomic_compare_exchange_n(&r->state, &word, SWAPIO_WORD(SWAPIO_OWNER(word), SWAPIO_ACTIVE), false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		carry_out(r, SWAPIO_OWNER(word));
		return true;
	}
	return false;
}

static void *worker_main(void *arg)
{
	struct swapio *s = &shared_area()->swapio;
	sigset_t set;

	sigfillset(&set); /* SIGXFSZ, too: EFBIG is enough */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_NAME, "kswapio");
	for (;;) {
		u32 seen = __atomic_load_n(&s->queued, __ATOMIC_SEQ_CST);

		if (!serve_one(s))
			futex(&s->queued, FUTEX_WAIT, seen);
	}
	return NULL;
}

static bool any_device(void)
{
	for (unsigned i = 0; i < SWAPIO_DEVICES; i++)
		if (state.device[i].used)
			return true;
	return false;
}

/* Where there are files from the start, workers are, too: the thread that calls this may itself reclaim, and would wait for a
 * worker that it has yet to start. */
void swap_serve(void)
{
	pthread_t t;

	if (state.serving || (!any_device() && !__atomic_load_n(&shared_area()->swapio.wanted, __ATOMIC_SEQ_CST)))
		return;
	for (int i = 0; i < WORKERS; i++)
		if (!pthread_create(&t, NULL, worker_main, NULL))
			state.serving = true;
	if (!state.serving)
		fprintf(stderr, "quire: no thread for swap files: %s\n", strerror(errno));
}

/* ---- --swap FILE:SIZE ---- */
static int write_header(int fd, u64 pages)
{
	struct swap_header h = { .version = 1, .last_page = (u32)(pages - 1) };

	memcpy(h.magic, SWAP_HEADER_MAGIC, sizeof(h.magic));
	return pwrite(fd, &h, sizeof(h), 0) == sizeof(h) ? 0 : -1;
}

/* May this file be overwritten?  A new one or a swap file.  0, or -1 after saying why not. */
static int check_file(int fd, const char *path, u64 *size)
{
	struct stat st;
	char magic[10];

	if (fstat(fd, &st))
		return FAILED_TO("%s: %s\n", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return FAILED_TO("%s is not a regular file\n", path);
	*size = (u64)st.st_size;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return FAILED_TO("%s is in use by another machine\n", path);
	if (st.st_size && (pread(fd, magic, 10, PAGE_SIZE - 10) != 10 || memcmp(magic, SWAP_HEADER_MAGIC, 10)))
		return FAILED_TO("%s is there and is no swap file: its contents would be lost; remove it or choose another name\n", path);
	return 0;
}

/* Room for all of it now, so that it cannot run out later; a file system that cannot promise may still do. */
static int reserve(int fd, const char *path, u64 bytes)
{
	if (ftruncate(fd, (off_t)bytes))
		return FAILED_TO("%s: %s\n", path, strerror(errno));
	if (fallocate(fd, 0, 0, (off_t)bytes) && errno != EOPNOTSUPP && errno != ENOSYS)
		return FAILED_TO("%s: no room for %llu MiB: %s\n", path, (unsigned long long)(bytes >> 20), strerror(errno));
	if (write_header(fd, bytes / PAGE_SIZE))
		return FAILED_TO("%s: %s\n", path, strerror(errno));
	return 0;
}

static int file_area(const struct run_swap *o, struct machine_swap *s)
{
	char path[4096], *full;
	u64 size = 0;
	int fd, dev;

	if (o->path_len >= sizeof(path))
		return FAILED_TO("the file's name is too long\n");
	memcpy(path, o->path, o->path_len);
	path[o->path_len] = 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd < 0)
		return FAILED_TO("%s: %s\n", path, strerror(errno));
	if (check_file(fd, path, &size))
		return -1;
	if (reserve(fd, path, o->bytes)) {
		if (!size)
			unlink(path); /* ours, and of no use */
		return -1;
	}
	full = realpath(path, NULL);
	if (!full || strlen(full) > SWAP_NAME_MAX)
		return FAILED_TO("%s: the name is too long\n", path);
	memcpy(s->name, full, strlen(full) + 1);
	free(full);
	dev = device_add(fd);
	if (dev < 0)
		return FAILED_TO("too many files\n");
	s->file = true;
	s->dev = (u32)dev;
	s->pages = o->bytes / PAGE_SIZE - 1;
	return 0;
}

int swap_open_all(const struct run_options *o, struct machine_params *p)
{
	unsigned rams = 0;

	_Static_assert(RUN_MAX_SWAP <= SWAPIO_DEVICES, "every area may be a file");
	_Static_assert(RUN_ZSTD_LEVELS == SWAP_ZSTD_LEVELS && RUN_ZSTD_LEVEL == SWAP_ZSTD_LEVEL_DEFAULT, "what the option may ask for");
	fail_plan(o);
	for (u32 i = 0; i < o->nr_swap; i++) {
		struct machine_swap *s = &p->swap[p->nr_swap++];

		s->prio = o->swap[i].prio;
		if (o->swap[i].path) {
			if (file_area(&o->swap[i], s))
				return -1;
			continue;
		}
		s->pages = o->swap[i].bytes / PAGE_SIZE;
		s->zstd = o->swap[i].zstd_level;
		snprintf(s->name, sizeof(s->name), s->zstd ? "/dev/zram%u-zstd" : "/dev/zram%u", rams++);
	}
	return 0;
}
