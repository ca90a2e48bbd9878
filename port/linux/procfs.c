/*
 * /proc as the guests of a machine see it: descriptors of served files.
 *
 * A text file becomes a memfd that holds the text, so that every way of reading it works as on the host.  Reading from offset 0
 * makes the text anew, because programs keep such files open and read them again (free, vmstat, top).  Binary files
 * (mem, pagemap) are an empty memfd, which lends the descriptor and the position; reads and writes are served here.
 *
 * The table of served descriptors is private to the process.  An entry counts only while the descriptor still is the memfd
 * that it was made for: descriptors vanish in many ways (exec, close_range, untrapped dup), and the inode tells.
 *
 * Lock: served_lock, private, spinning with sched_yield; held for a few loads and stores, never across a host call other
 * than that.  It holds the owner's pid, so that a copy taken by fork in another thread's hands is known to be stale.
 */
#include "procfs.h"
#include "x86_64/native_nr.h"
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <asm/stat.h>

#define MAX_SERVED 64u
#define HOST_MFD_CLOEXEC 1u
#define TEXT_ROOM 16384u       /* first guess, bytes */
#define TEXT_MAX (256ull << 20)
#define HOST_PROT_RW 3
#define HOST_MAP_PRIVATE_ANON 0x22
#define FRESH_NS 1000000ull    /* text younger than this is not made again: the first read after open */
#define STORE_ROOM 64u         /* longest number written, with blanks */

struct served {
	u32 used;
	s32 fd;
	u64 ino;                /* of the memfd */
	u64 made_ns;            /* port_clock_ns() of the text */
	struct procfs_name name;
	u32 writable;           /* opened for writing */
};

static struct served served[MAX_SERVED]; /* served_lock */
static u32 nserved;                      /* used entries, a hint when read without the lock */
static s32 served_lock;                  /* 0, or the pid of the process whose thread holds it */

static void lock_served(void)
{
	s32 seen = 0;

	while (!__atomic_compare_exchange_n(&served_lock, &seen, kproc.pid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		if (seen != kproc.pid)
			continue; /* held in the parent when it forked: take it over (seen is the old value now) */
		host_call(__NR_sched_yield);
		seen = 0;
	}
}

static void unlock_served(void)
{
	__atomic_store_n(&served_lock, 0, __ATOMIC_RELEASE);
}

static u64 inode_of(int fd)
{
	struct stat st;

	return host_call(__NR_fstat, fd, &st) ? 0 : st.st_ino;
}

/* Under served_lock. */
static struct served *slot_of(int fd)
{
	unsigned i;

	for (i = 0; i < MAX_SERVED; i++)
		if (served[i].used && served[i].fd == fd)
			return &served[i];
	return NULL;
}

/* A copy of the entry for fd, if it still is the descriptor it was. */
static bool find_served(int fd, struct served *copy)
{
	struct served *s;

	if (!READ_ONCE(nserved))
		return false;
	lock_served();
	s = slot_of(fd);
	if (s)
		*copy = *s;
	unlock_served();
	if (!s)
		return false;
	if (inode_of(fd) == copy->ino)
		return true;
	procfs_fd_closed(fd);
	return false;
}

static bool insert_served(const struct served *entry)
{
	struct served *s;
	unsigned i;

	lock_served();
	s = slot_of(entry->fd);
	for (i = 0; !s && i < MAX_SERVED; i++)
		if (!served[i].used)
			s = &served[i];
	if (s) {
		if (!s->used)
			WRITE_ONCE(nserved, nserved + 1);
		*s = *entry;
	}
	unlock_served();
	return s != NULL;
}

/* Entries whose descriptors went away unseen. */
static void purge_served(void)
{
	struct served copy;
	unsigned i;

	for (i = 0; i < MAX_SERVED; i++) {
		s32 fd;

		lock_served();
		fd = served[i].used ? served[i].fd : -1;
		unlock_served();
		if (fd >= 0)
			(void)find_served(fd, &copy);
	}
}

void procfs_range_closed(u32 first, u32 last)
{
	unsigned i;

	if (!READ_ONCE(nserved))
		return;
	lock_served();
	for (i = 0; i < MAX_SERVED; i++) {
		if (served[i].used && (u32)served[i].fd >= first && (u32)served[i].fd <= last) {
			served[i].used = 0;
			WRITE_ONCE(nserved, nserved - 1);
		}
	}
	unlock_served();
}

void procfs_fd_closed(int fd)
{
	procfs_range_closed((u32)fd, (u32)fd);
}

void procfs_fd_dup(int oldfd, int newfd)
{
	struct served copy;

	if (!find_served(oldfd, &copy))
		return;
	copy.fd = newfd;
	insert_served(&copy);
}

/* ---- making the text ---- */

static void *map_buffer(u64 bytes)
{
	long r = host_call(__NR_mmap, 0, bytes, HOST_PROT_RW, HOST_MAP_PRIVATE_ANON, -1, 0);

	return r < 0 && r > -4096 ? NULL : (void *)r;
}

/* Writes all of it at offset 0 and cuts the rest off. */
static int fill_file(int fd, const char *text, u64 len)
{
	u64 done = 0;

	while (done < len) {
		long n = host_call(__NR_pwrite64, fd, text + done, len - done, done);

		if (n <= 0)
			return n ? (int)n : -EIO;
		done += (u64)n;
	}
	return (int)host_call(__NR_ftruncate, fd, len);
}

/* The text's size is known only afterwards: the buffer grows until it fits. */
static int make_text(int fd, const struct procfs_name *name)
{
	u64 room = TEXT_ROOM;
	int r;

	for (;;) {
		char *buf = map_buffer(room);
		struct fmt_buf out;

		if (!buf)
			return -ENOMEM;
		out = fmt_init(buf, room);
		r = procfs_text(name, &out);
		if (!r && !fmt_truncated(&out))
			r = fill_file(fd, buf, out.len);
		else if (!r && room < TEXT_MAX)
			r = 1;
		host_call(__NR_munmap, buf, room);
		if (r != 1)
			return r;
		room = PAGE_ALIGN(out.len + out.len / 4 + PAGE_SIZE);
	}
}

/* ---- opening ---- */

/* The rights to another process's files are the host's to decide: it is asked for the same file. */
static long check_rights(const struct procfs_name *name, int dirfd, const char *path, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;
	long fd;

	if (write && !procfs_is_writable(name->kind))
		return -EACCES;
	if (name->kind < PROCFS_FIRST_OF_PROCESS)
		return write && host_call(__NR_geteuid) ? -EACCES : 0;
	fd = host_call(__NR_openat, dirfd, path, (flags & (O_ACCMODE | O_DIRECTORY)) | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	host_call(__NR_close, fd);
	return 0;
}

static const char *file_title(u32 kind)
{
	return procfs_is_binary(kind) ? "proc-binary" : "proc";
}

long procfs_open(int dirfd, const char *path, int flags)
{
	struct served entry = { .used = 1, .writable = (flags & O_ACCMODE) != O_RDONLY };
	char exe[4096];
	long fd, r;

	if (flags & O_PATH || !procfs_parse(dirfd, path, &entry.name))
		return PROCFS_NOT_OURS;
	if (entry.name.kind == PROCFS_EXE) {
		r = procfs_exe(entry.name.pid, exe, sizeof(exe));
		return r < 0 ? r : host_call(__NR_openat, -100, exe, flags, 0);
	}
	r = check_rights(&entry.name, dirfd, path, flags);
	if (r)
		return r;
	fd = host_call(__NR_memfd_create, file_title(entry.name.kind), flags & O_CLOEXEC ? HOST_MFD_CLOEXEC : 0);
	if (fd < 0)
		return fd;
	r = procfs_is_binary(entry.name.kind) ? 0 : make_text((int)fd, &entry.name);
	entry.fd = (s32)fd;
	entry.ino = inode_of((int)fd);
	entry.made_ns = port_clock_ns();
	if (!r && !insert_served(&entry)) {
		purge_served();
		/* Without an entry the text still stands; a binary file is nothing without it. */
		if (!insert_served(&entry) && (procfs_is_binary(entry.name.kind) || entry.writable))
			r = -EMFILE;
	}
	if (r) {
		procfs_fd_closed((int)fd);
		host_call(__NR_close, fd);
		return r;
	}
	return fd;
}

long procfs_readlink(int dirfd, const char *path, char *buf, size_t size)
{
	struct procfs_name name;
	char exe[4096];
	long n;

	if (!procfs_parse(dirfd, path, &name) || name.kind != PROCFS_EXE)
		return PROCFS_NOT_OURS;
	n = procfs_exe(name.pid, exe, sizeof(exe));
	if (n > (long)size)
		n = (long)size;
	if (n > 0)
		memcpy(buf, exe, (size_t)n);
	return n;
}

/* ---- reading and writing ---- */

static void refresh(const struct served *s)
{
	struct served *slot;

	if (port_clock_ns() - s->made_ns < FRESH_NS)
		return;
	/* The old text stays when there is none any more (the process is gone). */
	if (make_text(s->fd, &s->name))
		return;
	lock_served();
	slot = slot_of(s->fd);
	if (slot && slot->ino == s->ino)
		slot->made_ns = port_clock_ns();
	unlock_served();
}

void procfs_refresh(int fd)
{
	struct served s;

	if (find_served(fd, &s) && !procfs_is_binary(s.name.kind) &&
	    host_call(__NR_lseek, fd, 0, SEEK_CUR) == 0)
		refresh(&s);
}

/* Position and result of a call on a binary file; the position is the memfd's. */
static long binary_call(const struct served *s, u64 buf, u64 len, s64 offset, bool write)
{
	bool own = offset < 0;
	long r, pos = own ? host_call(__NR_lseek, s->fd, 0, SEEK_CUR) : offset;

	if (pos < 0)
		return pos;
	if (write && !s->writable)
		return -EBADF;
	r = procfs_binary(&s->name, buf, len, (u64)pos, write);
	if (r > 0 && own)
		host_call(__NR_lseek, s->fd, pos + r, SEEK_SET);
	return r;
}

bool procfs_read(int fd, u64 buf, u64 len, s64 offset, long *r)
{
	struct served s;

	if (!find_served(fd, &s))
		return false;
	if (procfs_is_binary(s.name.kind)) {
		*r = binary_call(&s, buf, len, offset, false);
		return true;
	}
	if (offset == 0 || (offset < 0 && host_call(__NR_lseek, fd, 0, SEEK_CUR) == 0))
		refresh(&s);
	return false;
}

bool procfs_write(int fd, u64 buf, u64 len, s64 offset, long *r)
{
	char text[STORE_ROOM];
	struct served s;

	if (!find_served(fd, &s))
		return false;
	if (procfs_is_binary(s.name.kind)) {
		*r = binary_call(&s, buf, len, offset, true);
		return true;
	}
	*r = !s.writable ? -EBADF : len >= sizeof(text) ? -EINVAL : copy_from_user(text, buf, len);
	if (*r)
		return true;
	text[len] = '\0';
	*r = procfs_store(&s.name, text, len);
	if (!*r)
		*r = (long)len;
	return true;
}
