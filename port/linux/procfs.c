/*
 * /proc as the guests of a machine see it: descriptors of served files.
 *
 * A text file becomes a memfd that holds the text, so that every way of reading it works as on the host.  Reading from offset 0
 * makes the text anew, because programs keep such files open and read them again (free, vmstat, top).  Long ones grow as they
 * are read (procfs_fill.c), and are completed before the host may read them in ways that are not seen here.  Binary files
 * (mem, pagemap) are an empty memfd, which lends the descriptor and the position; reads and writes are served here.
 *
 * The table of served descriptors is private to the process.  An entry counts only while the descriptor still is the memfd
 * that it was made for: descriptors vanish in many ways (exec, untrapped close), and the inode tells.
 *
 * Lock: served_lock, private, spinning with sched_yield; held for a few loads and stores, never across a host call other
 * than that.  It holds the owner's pid, so that a copy taken by fork in another thread's hands is known to be stale.
 * fill_lock, of the same kind, is held while a file grows; it comes before served_lock.
 */
#include "procfs.h"
#include "x86_64/native_nr.h"
#include <linux/fcntl.h>
#include <linux/fs.h>
#include <asm/stat.h>

#define MAX_SERVED 64u
#define HOST_MFD_CLOEXEC 1u
#define FRESH_NS 1000000ull    /* text younger than this is not made again: the first read after open */
#define STORE_ROOM 64u         /* longest number written, with blanks */

struct served {
	u32 used;
	s32 fd;
	u64 ino;                /* of the memfd */
	u64 made_ns;            /* port_clock_ns() of the text */
	struct procfs_name name;
	u32 access;             /* O_RDONLY, O_WRONLY or O_RDWR: what it was opened for, the memfd being open for both */
	struct procfs_seq seq;  /* procfs_is_seq(); fill_lock */
};

static struct served served[MAX_SERVED]; /* served_lock */
static u32 nserved;                      /* used entries, a hint when read without the lock */
static s32 served_lock;                  /* 0, or the pid of the process whose thread holds it */
static s32 fill_lock;                    /* the same */

static void lock(s32 *word)
{
	s32 seen = 0;

	while (!__atomic_compare_exchange_n(word, &seen, kproc.pid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		if (seen != kproc.pid)
			continue; /* held in the parent when it forked: take it over (seen is the old value now) */
		host_call(__NR_sched_yield);
		seen = 0;
	}
}

static void unlock(s32 *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

static void lock_served(void)
{
	lock(&served_lock);
}

static void unlock_served(void)
{
	unlock(&served_lock);
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

/* ---- opening ---- */

/* The rights to another process's files are the host's to decide: it is asked for the same file. */
static long check_rights(const struct procfs_name *name, int dirfd, const char *path, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;
	long fd;

	if (write && !procfs_is_writable(name->kind))
		return -EACCES;
	if ((flags & O_ACCMODE) != O_WRONLY && (name->kind == PROCFS_DROP_CACHES || name->kind == PROCFS_COMPACT_MEMORY))
		return -EACCES; /* 0200, for root too: a sysctl's mode is no matter of capabilities */
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

/* Does opening it give another way to a descriptor that is open already (/proc/self/fd/3, /dev/stdin)?  Rather once too often. */
static bool names_descriptor(const char *path)
{
	const char *last = path;

	for (; *path; path++)
		if (*path == '/')
			last = path + 1;
	return !strncmp(last, "std", 3) || (*last >= '0' && *last <= '9');
}

static void complete_all(void)
{
	unsigned i;

	for (i = 0; i < MAX_SERVED; i++)
		if (served[i].used && procfs_is_seq(served[i].name.kind))
			procfs_complete(served[i].fd);
}

/* The text, as far as it is made at once. */
static int first_text(struct served *entry)
{
	entry->seq = (struct procfs_seq){ 0 };
	if (procfs_is_binary(entry->name.kind) || procfs_is_seq(entry->name.kind))
		return 0;
	return procfs_fill(entry->fd, &entry->name);
}

/* The table is full.  Text still stands without an entry; a binary file is nothing, nor would writes do anything. */
static int without_entry(struct served *entry)
{
	if (procfs_is_binary(entry->name.kind) || entry->access != O_RDONLY)
		return -EMFILE;
	return procfs_is_seq(entry->name.kind) ? procfs_fill(entry->fd, &entry->name) : 0;
}

long procfs_open(int dirfd, const char *path, int flags)
{
	struct served entry = { .used = 1, .access = (u32)flags & O_ACCMODE };
	char exe[4096];
	long fd, r;

	if (READ_ONCE(nserved) && names_descriptor(path))
		complete_all();
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
	entry.fd = (s32)fd;
	entry.ino = inode_of((int)fd);
	r = first_text(&entry);
	entry.made_ns = port_clock_ns();
	if (!r && !insert_served(&entry)) {
		purge_served();
		if (!insert_served(&entry))
			r = without_entry(&entry);
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

static bool is_fresh(const struct served *s)
{
	return port_clock_ns() - s->made_ns < FRESH_NS;
}

/* Notes what was made and when, if the descriptor is still the same. */
static void note_made(const struct served *s)
{
	struct served *slot;

	lock_served();
	slot = slot_of(s->fd);
	if (slot && slot->ino == s->ino) {
		slot->made_ns = s->made_ns;
		slot->seq = s->seq;
	}
	unlock_served();
}

static void refresh(struct served *s)
{
	/* The old text stays when there is none any more (the process is gone). */
	if (is_fresh(s) || procfs_fill(s->fd, &s->name))
		return;
	s->made_ns = port_clock_ns();
	note_made(s);
}

static u64 size_of(int fd)
{
	struct stat st;

	return host_call(__NR_fstat, fd, &st) ? 0 : (u64)st.st_size;
}

/* Makes a file of VMAs as far as byte `want`.  Who reads from its beginning gets it anew; and if somebody else has written to the
 * memfd (a copy of the descriptor in another process, or by dup), all of it is made. */
static int grow(int fd, u64 pos, u64 want)
{
	struct served s;
	int r = 0;

	lock(&fill_lock);
	if (find_served(fd, &s)) {
		bool shared = size_of(fd) != s.seq.filled;

		if (shared || (!pos && s.seq.filled && !is_fresh(&s))) {
			s.seq = (struct procfs_seq){ 0 };
			host_call(__NR_ftruncate, fd, 0);
			want = shared ? ~0ull : MAX(want, 1ull);
		}
		if (!s.seq.filled)
			s.made_ns = port_clock_ns();
		r = procfs_fill_to(fd, &s.name, &s.seq, want);
		note_made(&s);
	}
	unlock(&fill_lock);
	return r;
}

void procfs_complete(int fd)
{
	struct served s;

	if (find_served(fd, &s) && procfs_is_seq(s.name.kind) && s.seq.next != PROCFS_SEQ_END)
		grow(fd, 1, ~0ull);
}

void procfs_refresh(int fd)
{
	struct served s;
	long pos;

	if (!find_served(fd, &s) || procfs_is_binary(s.name.kind))
		return;
	pos = host_call(__NR_lseek, fd, 0, SEEK_CUR);
	if (procfs_is_seq(s.name.kind))
		grow(fd, (u64)pos, ~0ull);
	else if (!pos)
		refresh(&s);
}

/* Position and result of a call on a binary file; the position is the memfd's. */
static long binary_call(const struct served *s, u64 buf, u64 len, s64 offset, bool write)
{
	bool own = offset < 0;
	long r, pos = own ? host_call(__NR_lseek, s->fd, 0, SEEK_CUR) : offset;

	if (pos < 0)
		return pos;
	if (write && s->access == O_RDONLY)
		return -EBADF;
	r = procfs_binary(&s->name, buf, len, (u64)pos, write);
	if (r > 0 && own)
		host_call(__NR_lseek, s->fd, pos + r, SEEK_SET);
	return r;
}

/* How far a read of len bytes at pos makes the text: what is there and one page of whole blocks.  There the host's read ends, as
 * Linux's does (fs/seq_file.c), and some readers stop at a short read. */
static u64 next_page(const struct served *s, u64 pos, u64 len)
{
	return pos + len <= s->seq.filled ? 0 : MAX(pos, s->seq.filled) + 1;
}

long procfs_flags(int fd, long flags)
{
	struct served s;

	return find_served(fd, &s) ? (flags & ~(long)O_ACCMODE) | s.access : flags;
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
	if (offset < 0)
		offset = host_call(__NR_lseek, fd, 0, SEEK_CUR);
	if (procfs_is_seq(s.name.kind)) {
		*r = grow(fd, (u64)offset, next_page(&s, (u64)offset, len));
		return *r < 0;
	}
	if (!offset)
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
	*r = s.access == O_RDONLY ? -EBADF : len >= sizeof(text) ? -EINVAL : copy_from_user(text, buf, len);
	if (*r)
		return true;
	text[len] = '\0';
	*r = procfs_store(&s.name, text, len);
	if (!*r)
		*r = (long)len;
	return true;
}
