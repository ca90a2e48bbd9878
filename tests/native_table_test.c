/*
 * The table of native calls against the host's headers, and its interpreter against the host itself.
 *
 * The guest is a range of this process that the host kernel can touch only where it is pinned: everything else is
 * PROT_NONE.  So a pointer that reaches the host neither copied nor pinned answers EFAULT, as it would in a machine.
 * The test itself and the copies use a second mapping of the same memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <linux/capability.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#undef NSIG
#undef FP_XSTATE_MAGIC1
#include "kernel.h"
#include "memory.h"
#include "native.h"
#include "native_table.h"
#include "procfs.h"
#include "x86_64/native_nr.h"
#include "x86_64/regs.h"
#include "../sys/sys.h"

#define HEADER "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
#define GUEST 0x200000000000ull
#define GUEST_PAGES 2048u
#define HOLE 1024u /* this guest page and those behind it are not mapped */
#define BAD (GUEST + HOLE * PAGE_SIZE)

static u8 *alias; /* the guest's memory, always accessible */
static struct kthread thread;
static struct ucontext_host uc;
static struct trap trap = { .k = &thread, .uc = &uc };
struct kproc kproc;
static unsigned npins, max_pins, eintr_left;
static bool signal_on_eintr;
static u64 seen_mask;
static unsigned host_calls;

/* ---- the kernel around native*.c ---- */

static bool mapped(u64 addr, u64 len)
{
	return addr >= GUEST && addr + len <= BAD && addr + len >= addr;
}

int user_pin(u64 addr, u64 len, bool write)
{
	u64 start = ALIGN_DOWN(addr, PAGE_SIZE), end = PAGE_ALIGN(addr + len);

	if (!len)
		return 0;
	if (npins == CTX_MAX_PINS - 1)
		return -E2BIG;
	if (!mapped(addr, len))
		return -EFAULT;
	npins++;
	max_pins = MAX(max_pins, npins);
	/* Overlapping read and write pins: the last one wins, so never take rights away. */
	(void)write;
	assert_int_equal(0, syscall(__NR_mprotect, start, end - start, PROT_READ | PROT_WRITE));
	return 0;
}

void user_unpin_all(void)
{
	npins = 0;
	assert_int_equal(0, syscall(__NR_mprotect, GUEST, GUEST_PAGES * PAGE_SIZE, PROT_NONE));
}

int copy_from_user(void *dst, u64 src, size_t n)
{
	if (!n)
		return 0;
	if (!mapped(src, n))
		return -EFAULT;
	memcpy(dst, alias + (src - GUEST), n);
	return 0;
}

int copy_to_user(u64 dst, const void *src, size_t n)
{
	if (!n)
		return 0;
	if (!mapped(dst, n))
		return -EFAULT;
	memcpy(alias + (dst - GUEST), src, n);
	return 0;
}

long strncpy_from_user(char *dst, u64 src, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++) {
		if (copy_from_user(dst + i, src + i, 1))
			return -EFAULT;
		if (!dst[i])
			return (long)i;
	}
	return -ENAMETOOLONG;
}

long host_syscall(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	long r = syscall(nr, a, b, c, d, e, f);

	host_calls++;
	return r == -1 ? -errno : r;
}

long host_syscall_interruptible(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	if (nr == __NR_ppoll && d)
		seen_mask = *(u64 *)d;
	if (nr == __NR_pselect6 && f)
		seen_mask = **(u64 **)f;
	if (nr == __NR_epoll_pwait && e)
		seen_mask = *(u64 *)e;
	if (eintr_left) {
		eintr_left--;
		thread.pending = signal_on_eintr;
		return -EINTR;
	}
	return host_syscall(nr, a, b, c, d, e, f);
}

u64 port_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

/* Nothing has been said yet, and nobody counts. */
bool first_time(u32 what)
{
	(void)what;
	return true;
}

void klog(const char *fmt, ...)
{
	(void)fmt;
}

/* procfs.c has tests of its own. */
static int closed_fd, dup_from, dup_to;
struct task *task_find_get(struct quire *q, s32 pid) { return NULL; }
void task_put(struct task *t) { (void)t; }
void procfs_fd_closed(int fd) { closed_fd = fd; }
void procfs_range_closed(u32 first, u32 last) { closed_fd = (int)first; (void)last; }
void procfs_fd_dup(int oldfd, int newfd) { dup_from = oldfd; dup_to = newfd; }
void procfs_refresh(int fd) { (void)fd; }
void procfs_complete(int fd) { (void)fd; }
bool guest_exists(s32 pid) { return true; }
bool procfs_read(int fd, u64 buf, u64 len, s64 offset, long *r) { return false; }
bool procfs_write(int fd, u64 buf, u64 len, s64 offset, long *r) { return false; }
long procfs_flags(int fd, long flags) { return flags; }
void sys_getrusage(struct task *t, struct quire_rusage *out) { *out = (struct quire_rusage){ 11, 22, 33 }; }
bool host_capable(unsigned cap) { return cap == CAP_SYS_BOOT; }
void procfs_follow_exe(int dirfd, char *path, size_t size)
{
	if (!strcmp(path, "/proc/self/exe"))
		snprintf(path, size, "/etc/passwd");
}
long procfs_open(int dirfd, const char *path, int flags) { return strcmp(path, "/proc/served") ? PROCFS_NOT_OURS : 77; }
long procfs_readlink(int dirfd, const char *path, char *buf, size_t size)
{
	if (strcmp(path, "/proc/self/exe"))
		return PROCFS_NOT_OURS;
	memcpy(buf, "/served", MIN(size, 7u));
	return (long)MIN(size, 7u);
}

/* ---- helpers ---- */

#define CALL6(nr, a, b, c, d, e, f, ...) \
	call((nr), (const u64[6]){ (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f) })
#define G(...) CALL6(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

static long call(long nr, const u64 a[6])
{
	long r = native_syscall(&trap, nr, a);

	assert_int_equal(npins, 0); /* everything was unpinned */
	return r;
}

static void *at(u64 guest) { return alias + (guest - GUEST); }

static u64 put(u64 guest, const void *p, size_t n)
{
	memcpy(at(guest), p, n);
	return guest;
}

static u64 text(u64 guest, const char *s) { return put(guest, s, strlen(s) + 1); }

static int setup(void **state)
{
	int fd = (int)syscall(__NR_memfd_create, "guest", 0);
	long r;

	assert_int_equal(0, ftruncate(fd, GUEST_PAGES * PAGE_SIZE));
	r = syscall(__NR_mmap, GUEST, GUEST_PAGES * PAGE_SIZE, PROT_NONE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	assert_true((u64)r == GUEST);
	alias = (u8 *)syscall(__NR_mmap, 0, GUEST_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	r = syscall(__NR_mmap, SHARED_BASE, PAGE_ALIGN(sizeof(struct machine_shared)), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	assert_true((u64)r == SHARED_BASE);
	close(fd);
	/* The premise of it all: the host cannot touch what is not pinned. */
	assert_int_equal(syscall(__NR_uname, GUEST), -1);
	assert_int_equal(errno, EFAULT);
	return 0;
}

static int fresh(void **state)
{
	memset(&thread, 0, sizeof(thread));
	memset(&uc, 0, sizeof(uc));
	shared_area()->ram_bytes = 1ull << 30;
	kproc.nthreads = 1;
	eintr_left = 0;
	signal_on_eintr = false;
	max_pins = 0;
	return 0;
}

/* ---- the table ---- */

static void test_every_number_once(void **state)
{
	FILE *h = fopen(HEADER, "r");
	char line[256], name[64];
	unsigned n = 0, known = 0, i;
	long nr;

	assert_non_null(h);
	while (fgets(line, sizeof(line), h)) {
		if (sscanf(line, "#define __NR_%63s %ld", name, &nr) != 2)
			continue;
		n++;
		if (!native_lookup(nr))
			fail_msg("%s (%ld) is not classified", name, nr);
		assert_string_equal(native_lookup(nr)->name, name);
	}
	fclose(h);
	assert_true(n > 350);
	for (i = 0; i < NATIVE_MAX; i++)
		known += native_lookup(i) != NULL;
	assert_true(known >= n);
	/* 451 and up are the same on every architecture, without gaps. */
	for (i = 424; i < NATIVE_MAX; i++)
		assert_non_null(native_lookup(i));
	assert_null(native_lookup(-1));
	assert_null(native_lookup(400));
	assert_null(native_lookup(NATIVE_MAX));
	assert_null(native_lookup(0x40000000)); /* x32 */
}

/* Twice in the file would be an error of the compiler only with -Woverride-init. */
static void test_no_duplicates(void **state)
{
	FILE *d = fopen(NATIVE_DEF, "r");
	char line[512], seen[NATIVE_MAX][24];
	unsigned n = 0, i;

	assert_non_null(d);
	while (fgets(line, sizeof(line), d)) {
		char *p = strchr(line, '('), *q;

		if (!isupper((unsigned char)line[0]) || !p)
			continue;
		q = p + strcspn(p, ",)");
		*q = '\0';
		for (i = 0; i < n; i++)
			if (!strcmp(seen[i], p + 1))
				fail_msg("%s stands twice", p + 1);
		snprintf(seen[n++], sizeof(seen[0]), "%.23s", p + 1);
	}
	fclose(d);
	for (i = 0; i < NATIVE_MAX; i++)
		n -= native_lookup(i) != NULL;
	assert_int_equal(n, 0);
}

static void check_args(const struct native_call *c)
{
	unsigned i;

	for (i = 0; i < 6; i++) {
		struct native_arg d = c->arg[i];
		bool buffer = d.kind == ARG_INBUF || d.kind == ARG_OUTBUF || d.kind == ARG_OUTLEN;

		assert_true(d.len < 6);
		if (buffer || d.kind == ARG_IN || d.kind == ARG_OUT || d.kind == ARG_INOUT)
			assert_true(d.size > 0);
		if (d.kind == ARG_OUTLEN)
			assert_int_equal(c->arg[d.len].kind, ARG_LEN);
		else if (buffer)
			assert_int_equal(c->arg[d.len].kind, ARG_VALUE);
		if (c->class == NC_NONE)
			assert_true(d.kind == ARG_VALUE || d.kind == ARG_FD);
		if (c->flags & NF_FREE)
			assert_int_equal(d.kind, ARG_VALUE);
	}
}

static void test_entries_make_sense(void **state)
{
	static const long trapped[] = { __NR_close, __NR_dup2, __NR_dup3, __NR_fcntl, __NR_ioctl, __NR_mmap, __NR_read,
					__NR_exit, __NR_pause, __NR_flock, __NR_ftruncate };
	unsigned i;

	for (i = 0; i < NATIVE_MAX; i++) {
		const struct native_call *c = native_lookup(i);

		if (!c)
			continue;
		assert_true(c->name[0] && strlen(c->name) < sizeof(c->name));
		check_args(c);
		if (c->class == NC_REFUSED)
			assert_true(c->error && c->why && !c->described);
		if (c->flags & NF_FREE)
			assert_true(c->class == NC_NONE && !(c->flags & NF_BLOCK) && native_is_untrapped(i));
	}
	for (i = 0; i < ARRAY_SIZE(trapped); i++)
		assert_false(native_is_untrapped(trapped[i]));
	assert_true(native_is_untrapped(__NR_getpid) && native_is_untrapped(__NR_lseek));
}

static void test_refusals(void **state)
{
	assert_int_equal(G(__NR_io_uring_setup, 8, GUEST), -ENOSYS);
	assert_int_equal(G(__NR_pkey_alloc, 0, 0), -ENOSPC);
	assert_int_equal(G(__NR_mmap, 0, 4096), -ENOSYS); /* dispatch.c's */
	assert_int_equal(G(9999), -ENOSYS);
}

static bool lists(u64 buf, long bytes, const char *name)
{
	long pos;

	for (pos = 0; pos < bytes; pos += *(u16 *)at(buf + (u64)pos + 16))
		if (!strcmp(at(buf + (u64)pos + 19), name))
			return true;
	return false;
}

static void test_kernel_descriptor_does_not_exist(void **state)
{
	int fd = dup2(1, KERNEL_FD), dir;
	long n;

	assert_int_equal(fd, KERNEL_FD);
	assert_int_equal(G(__NR_read, KERNEL_FD, GUEST, 1), -EBADF);
	assert_int_equal(G(__NR_write, KERNEL_FD, GUEST, 1), -EBADF);
	assert_int_equal(G(__NR_close, KERNEL_FD), -EBADF);
	assert_int_equal(G(__NR_dup2, 1, KERNEL_FD), -EBADF);
	assert_int_equal(G(__NR_dup3, KERNEL_FD, 9, 0), -EBADF);
	assert_int_equal(G(__NR_fcntl, KERNEL_FD, F_GETFD), -EBADF);
	assert_int_equal(G(__NR_ioctl, KERNEL_FD, TIOCGWINSZ, GUEST), -EBADF);
	assert_int_equal(G(__NR_fstat, KERNEL_FD, GUEST), -EBADF);
	assert_int_equal(G(__NR_ftruncate, KERNEL_FD, 0), -EBADF);
	assert_int_equal(G(__NR_openat, KERNEL_FD, text(GUEST, "x"), 0), -EBADF);
	assert_int_equal(G(__NR_close_range, KERNEL_FD - 3, KERNEL_FD + 3, 0), 0);
	assert_true(fcntl(KERNEL_FD, F_GETFD) >= 0);
	assert_int_equal(closed_fd, KERNEL_FD - 3);
	dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
	n = G(__NR_getdents64, dir, GUEST, 32768);
	assert_true(n > 0 && lists(GUEST, n, "1") && !lists(GUEST, n, "1021"));
	close(dir);
	close(fd);
}

/* ---- data ---- */

static u64 fill(u64 guest, u64 n, unsigned seed)
{
	u64 i;

	for (i = 0; i < n; i++)
		*(u8 *)at(guest + i) = (u8)(seed + i * 7 + (i >> 8));
	return guest;
}

static void test_read_write_pipe(void **state)
{
	u64 src = GUEST + 4000, dst = GUEST + 100 * PAGE_SIZE + 77;
	int p[2];

	assert_int_equal(G(__NR_pipe2, GUEST, O_CLOEXEC), 0);
	memcpy(p, at(GUEST), sizeof(p));
	assert_int_equal(G(__NR_write, p[1], fill(src, 100, 1), 100), 100);
	assert_int_equal(G(__NR_write, p[1], fill(src + 100, 9000, 101), 9000), 9000);
	assert_int_equal(G(__NR_read, p[0], dst, 1 << 20), 9100);
	assert_memory_equal(at(src), at(dst), 100);
	assert_memory_equal(at(src + 100), at(dst + 100), 9000);
	/* Only the beginning of the buffer is there: enough for the data, so the read succeeds. */
	assert_int_equal(G(__NR_write, p[1], src, 5000), 5000);
	assert_int_equal(G(__NR_read, p[0], BAD - 6000, 1 << 20), 5000);
	assert_memory_equal(at(src), at(BAD - 6000), 5000);
	/* Nothing is there: nothing is consumed. */
	assert_int_equal(G(__NR_write, p[1], src, 10), 10);
	assert_int_equal(G(__NR_read, p[0], BAD, 100), -EFAULT);
	assert_int_equal(G(__NR_read, p[0], dst, 100), 10);
	/* A pipe takes nothing of a page that it cannot have whole: that is the host's to decide (pipe_write). */
	assert_int_equal(G(__NR_write, p[1], BAD - 3, 10), -EFAULT);
	assert_int_equal(G(__NR_write, p[1], BAD, 10), -EFAULT);
	assert_int_equal(G(__NR_read, p[0], dst, 0), 0);
	assert_int_equal(G(__NR_ioctl, p[0], FIONREAD, dst), 0);
	assert_int_equal(*(int *)at(dst), 0);
	assert_int_equal(G(__NR_close, p[0]), 0);
	assert_int_equal(G(__NR_close, p[1]), 0);
	assert_int_equal(closed_fd, p[1]);
}

static int temp_file(void)
{
	char name[] = "/tmp/native-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	return fd;
}

/* Larger than a quarter of RAM: in pieces, nothing lost. */
static void test_large_transfers(void **state)
{
	u64 n = 3 * NATIVE_PIECE + 1234, src = GUEST + 5, dst = GUEST + 1023 * PAGE_SIZE - n;
	int fd = temp_file();

	assert_true(dst > src + 16);
	shared_area()->ram_bytes = 4 << 20;
	fill(src, n < dst - src ? n : dst - src, 3);
	n = MIN(n, dst - src);
	assert_int_equal(G(__NR_write, fd, src, n), n);
	assert_int_equal(G(__NR_lseek, fd, 0, SEEK_SET), 0);
	memset(at(dst), 0, n);
	assert_int_equal(G(__NR_read, fd, dst, n), n);
	assert_memory_equal(at(src), at(dst), n);
	assert_int_equal(G(__NR_pwrite64, fd, src, n, 100), n);
	memset(at(dst), 0, n);
	assert_int_equal(G(__NR_pread64, fd, dst, n, 100), n);
	assert_memory_equal(at(src), at(dst), n);
	assert_int_equal(G(__NR_pread64, fd, dst, 1, -1), -EINVAL);
	close(fd);
}

/* A vector of n segments of the given size each, one page apart. */
static u64 vector(u64 table, unsigned n, u64 base, u64 size)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		struct native_iovec v = { .base = base + i * 2 * PAGE_SIZE, .len = size };

		put(table + i * sizeof(v), &v, sizeof(v));
	}
	return table;
}

static void check_vector_io(unsigned n, u64 size)
{
	u64 table = GUEST, table2 = GUEST + 4 * PAGE_SIZE, a = GUEST + 16 * PAGE_SIZE + 9, b = GUEST + 500 * PAGE_SIZE + 50;
	int fd = temp_file();
	unsigned i;

	vector(table, n, a, size);
	vector(table2, n, b, size);
	for (i = 0; i < n; i++)
		fill(a + i * 2 * PAGE_SIZE, size, i);
	memset(at(b), 0, n * 2 * PAGE_SIZE);
	assert_int_equal(G(__NR_writev, fd, table, n), n * size);
	assert_int_equal(G(__NR_preadv, fd, table2, n, 0), n * size);
	for (i = 0; i < n; i++)
		assert_memory_equal(at(a + i * 2 * PAGE_SIZE), at(b + i * 2 * PAGE_SIZE), size);
	assert_true(max_pins <= CTX_MAX_PINS - 1);
	close(fd);
}

static void test_vectors(void **state)
{
	struct native_iovec v[3] = { { GUEST + 100, 10 }, { BAD - 5, 10 }, { GUEST + 200, 10 } };
	int p[2];

	check_vector_io(1, 10);
	check_vector_io(5, 3000);
	check_vector_io(40, 100);
	check_vector_io(40, 5000);
	check_vector_io(200, 4097);
	assert_int_equal(pipe(p), 0);
	/* Where memory ends, the host says what becomes of the rest: a pipe refuses all of it. */
	assert_int_equal(G(__NR_writev, p[1], put(GUEST, v, sizeof(v)), 3), -EFAULT);
	assert_int_equal(G(__NR_writev, p[1], GUEST, 1025), -EINVAL);
	assert_int_equal(G(__NR_writev, p[1], GUEST, 0), 0);
	assert_int_equal(G(__NR_writev, p[1], BAD, 2), -EFAULT);
	v[1].len = 1ull << 63;
	assert_int_equal(G(__NR_writev, p[1], put(GUEST, v, sizeof(v)), 3), -EINVAL);
	v[1] = (struct native_iovec){ GUEST + 8192, 20 };
	assert_int_equal(G(__NR_vmsplice, p[1], put(GUEST, v, sizeof(v)), 3, 0), 40);
	assert_int_equal(G(__NR_vmsplice, p[0], GUEST, 3, 0), 40);
	close(p[0]);
	close(p[1]);
}

static void test_random_bytes(void **state)
{
	u64 n = 2 * NATIVE_PIECE + 5, zeros = 0, i;

	memset(at(GUEST), 0, n);
	assert_int_equal(G(__NR_getrandom, GUEST, n, 0), n);
	for (i = 0; i < n; i++)
		zeros += *(u8 *)at(GUEST + i) == 0;
	assert_true(zeros < n / 100);
}

/* ---- names, structures ---- */

static void test_names_and_structs(void **state)
{
	u64 path = GUEST + 4090, st = GUEST + 9000, buf = GUEST + 20000;
	struct stat want;
	struct utsname uts;
	long r;

	assert_int_equal(stat("/etc/passwd", &want), 0);
	text(path, "/etc/passwd");
	assert_int_equal(G(__NR_stat, path, st), 0);
	assert_int_equal(((struct stat *)at(st))->st_ino, want.st_ino);
	assert_int_equal(G(__NR_newfstatat, AT_FDCWD, path, st, 0), 0);
	assert_int_equal(G(__NR_stat, text(buf, "/proc/self/exe"), st), 0);
	assert_int_equal(((struct stat *)at(st))->st_ino, want.st_ino);
	assert_int_equal(G(__NR_newfstatat, AT_FDCWD, buf, st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(((struct stat *)at(st))->st_mode));
	assert_int_equal(G(__NR_stat, path, BAD), -EFAULT);
	assert_int_equal(G(__NR_stat, BAD, st), -EFAULT);
	assert_int_equal(G(__NR_stat, 0, st), -EFAULT);
	memset(at(buf), 'x', 5000);
	assert_int_equal(G(__NR_stat, buf, st), -ENAMETOOLONG);
	assert_int_equal(G(__NR_statx, AT_FDCWD, path, 0, 0x7ff, st), 0);
	assert_int_equal(G(__NR_uname, st), 0);
	uname(&uts);
	assert_string_equal(((struct utsname *)at(st))->release, uts.release);
	r = G(__NR_getcwd, buf, 4096);
	assert_true(r > 1 && (long)strlen(at(buf)) == r - 1);
	assert_int_equal(G(__NR_open, text(buf, "/proc/served"), 0), 77);
	assert_int_equal(G(__NR_readlink, text(buf, "/proc/self/exe"), st, 100), 7);
	assert_memory_equal(at(st), "/served", 7);
	assert_int_equal(G(__NR_readlink, text(buf, "/proc/self/exe"), st, 0), -EINVAL);
	r = G(__NR_openat, AT_FDCWD, text(buf, "/etc"), O_RDONLY | O_DIRECTORY);
	assert_true(r >= 0);
	assert_true(G(__NR_getdents64, r, buf, 32768) > 100);
	assert_int_equal(G(__NR_getdents64, r, BAD, 32768), -EFAULT);
	close((int)r);
	r = G(__NR_openat2, AT_FDCWD, path, put(st, (u64[3]){ O_RDONLY }, 24), 24);
	assert_true(r >= 0);
	assert_int_equal(G(__NR_dup2, r, 99), 99);
	assert_true(dup_from == r && dup_to == 99);
	dup_to = (int)G(__NR_dup, r);
	assert_true(dup_from == r && G(__NR_close, dup_to) == 0);
	close(99);
	close((int)r);
}

static void test_clocks_and_ids(void **state)
{
	u64 p = GUEST + PAGE_SIZE - 8; /* across a page boundary */

	memset(at(p), 0, 64);
	assert_int_equal(G(__NR_clock_gettime, CLOCK_REALTIME, p), 0);
	assert_true(*(s64 *)at(p) > 1600000000);
	assert_int_equal(G(__NR_clock_gettime, CLOCK_REALTIME, BAD), -EFAULT);
	assert_int_equal(G(__NR_getresuid, p, p + 4, p + 8), 0);
	assert_int_equal(*(u32 *)at(p + 4), geteuid());
	assert_int_equal(G(__NR_getrusage, 0, p), 0);
	assert_int_equal(((u64 *)at(p))[4], 11);
	assert_int_equal(((u64 *)at(p))[8], 22);
	assert_int_equal(G(__NR_sched_getaffinity, 0, 128, p) % 8, 0);
	assert_true(*(u64 *)at(p));
	assert_true(G(__NR_getgroups, 64, p) >= 0);
	assert_int_equal(G(__NR_getgroups, -1, p), -EINVAL);
	assert_int_equal(G(__NR_capget, put(p, (u32[2]){ 0x20080522, 0 }, 8), p + 8), 0);
	assert_int_equal(G(__NR_capget, put(p, (u32[2]){ 1, 0 }, 8), p + 8), -EINVAL);
	assert_int_equal(*(u32 *)at(p), 0x20080522);
	assert_int_equal(G(__NR_prctl, 15 /* SET_NAME */, text(p, "a-rather-long-thread-name")), 0);
	assert_int_equal(G(__NR_prctl, 16, p), 0);
	assert_string_equal(at(p), "a-rather-long-t");
	assert_int_equal(G(__NR_membarrier, 0, 0, 0) & 1, 1);
}

/* The child is still there to be waited for after a bad pointer. */
static void test_wait_faults_before(void **state)
{
	pid_t pid = fork();
	u64 status = GUEST + 8;

	if (!pid)
		_exit(7);
	assert_int_equal(G(__NR_wait4, pid, BAD, 0, 0), -EFAULT);
	assert_int_equal(G(__NR_wait4, pid, status, 0, BAD), -EFAULT);
	assert_int_equal(G(__NR_wait4, pid, status, 0, GUEST + 4000), pid);
	assert_int_equal(WEXITSTATUS(*(int *)at(status)), 7);
	pid = fork();
	if (!pid)
		_exit(8);
	assert_int_equal(G(__NR_waitid, P_PID, pid, status, WEXITED, 0), 0);
	assert_int_equal(((siginfo_t *)at(status))->si_status, 8);
}

static void test_locks(void **state)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	int fd = temp_file();
	u64 p = GUEST + PAGE_SIZE - 16;

	assert_int_equal(G(__NR_fcntl, fd, F_SETLK, put(p, &l, sizeof(l))), 0);
	assert_int_equal(G(__NR_fcntl, fd, F_OFD_GETLK, p), 0);
	assert_int_equal(((struct flock *)at(p))->l_type, F_WRLCK);
	assert_int_equal(((struct flock *)at(p))->l_pid, getpid());
	assert_int_equal(G(__NR_fcntl, fd, F_SETLKW, BAD), -EFAULT);
	assert_int_equal(G(__NR_flock, fd, 2), 0);
	close(fd);
}

/* ---- waiting ---- */

static void test_poll_select(void **state)
{
	struct pollfd pf[2] = { { .events = POLLIN }, { .events = POLLOUT } };
	struct timespec soon = { .tv_nsec = 2000000 };
	u64 fds = GUEST + PAGE_SIZE - 8, ts = GUEST + 9000, sets = GUEST + 12000, mask = GUEST + 16000;
	u64 all = ~0ull;
	int p[2];

	assert_int_equal(pipe(p), 0);
	pf[0].fd = p[0];
	pf[1].fd = p[1];
	put(fds, pf, sizeof(pf));
	assert_int_equal(G(__NR_poll, fds, 2, -1), 1);
	assert_int_equal(((struct pollfd *)at(fds))[1].revents, POLLOUT);
	assert_int_equal(((struct pollfd *)at(fds))[0].revents, 0);
	kproc.nthreads = 2;
	memset(at(fds + 14), 0, 2);
	assert_int_equal(G(__NR_poll, fds, 2, -1), 1);
	assert_int_equal(((struct pollfd *)at(fds))[1].revents, POLLOUT);
	assert_int_equal(G(__NR_poll, fds, 1, 1), 0);
	/* The remaining time is told; the mask never has the kernel's signals. */
	put(ts, &soon, sizeof(soon));
	put(mask, &all, 8);
	assert_int_equal(G(__NR_ppoll, fds, 1, ts, mask, 8), 0);
	assert_int_equal(((struct timespec *)at(ts))->tv_nsec, 0);
	assert_true(seen_mask && !(seen_mask & (BIT(10) | BIT(6) | BIT(30) | BIT(SIG_PRIVATE - 1) | BIT(8) | BIT(18))));
	assert_int_equal(*(u64 *)at(mask), all);
	assert_int_equal(G(__NR_poll, BAD, 2, 0), -EFAULT);

	memset(at(sets), 0, 256);
	((u8 *)at(sets))[p[1] / 8] |= (u8)(1 << p[1] % 8);
	((u8 *)at(sets + 128))[p[0] / 8] |= (u8)(1 << p[0] % 8);
	put(ts, (u64[2]){ 5, 0 }, 16);
	assert_int_equal(G(__NR_select, 64, sets + 128, sets, 0, ts), 1);
	assert_int_equal(((u8 *)at(sets + 128))[p[0] / 8], 0);
	assert_true(*(u64 *)at(ts) <= 5);
	seen_mask = 0;
	put(mask + 8, (u64[2]){ mask, 8 }, 16);
	put(ts, &soon, sizeof(soon));
	assert_int_equal(G(__NR_pselect6, 64, 0, 0, 0, ts, mask + 8), 0);
	assert_true(seen_mask && !(seen_mask & BIT(10)));
	close(p[0]);
	close(p[1]);
}

static void test_epoll(void **state)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLONESHOT, .data.u64 = 0x1234567890 };
	u64 e = GUEST + PAGE_SIZE - 6, mask = GUEST + 100;
	int ep = epoll_create1(0), p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(G(__NR_epoll_ctl, ep, EPOLL_CTL_ADD, p[1], put(e, &ev, sizeof(ev))), 0);
	/* One shot: a bad buffer must not use it up. */
	assert_int_equal(G(__NR_epoll_wait, ep, BAD, 4, 0), -EFAULT);
	memset(at(e), 0, 12);
	assert_int_equal(G(__NR_epoll_wait, ep, e, 100000, -1), 1);
	assert_true(((struct epoll_event *)at(e))->data.u64 == 0x1234567890);
	assert_int_equal(G(__NR_epoll_wait, ep, e, 0, 0), -EINVAL);
	put(mask, (u64[1]){ ~0ull }, 8);
	eintr_left = 3; /* the kernel's own signal */
	assert_int_equal(G(__NR_epoll_pwait, ep, e, 4, 2, mask, 8), 0);
	assert_int_equal(eintr_left, 0);
	assert_false(seen_mask & BIT(SIG_PRIVATE - 1));
	assert_int_equal(thread.has_saved_mask, 0);
	/* A signal of the guest's: its handler returns to the mask before the call. */
	uc.sigmask = 0x55;
	eintr_left = 1;
	signal_on_eintr = true;
	assert_int_equal(G(__NR_epoll_pwait, ep, e, 4, -1, mask, 8), -EINTR);
	assert_int_equal(thread.has_saved_mask, 1);
	assert_int_equal(thread.saved_mask, 0x55);
	assert_int_equal(G(__NR_epoll_ctl, ep, EPOLL_CTL_DEL, p[1], BAD), 0);
	close(p[0]);
	close(p[1]);
	close(ep);
}

static void test_sleep(void **state)
{
	struct timespec t = { .tv_nsec = 3000000 };
	u64 req = GUEST + 40, rem = GUEST + 80, start = port_clock_ns();

	put(req, &t, sizeof(t));
	eintr_left = 2;
	assert_int_equal(G(__NR_nanosleep, req, 0), 0);
	assert_true(port_clock_ns() - start >= 3000000);
	eintr_left = 1;
	signal_on_eintr = true;
	assert_int_equal(G(__NR_clock_nanosleep, CLOCK_MONOTONIC, 0, req, rem), -EINTR);
	assert_int_equal(((struct timespec *)at(rem))->tv_nsec, 3000000);
	thread.pending = 0;
	assert_int_equal(G(__NR_nanosleep, BAD, 0), -EFAULT);
	/* An interval that would leave no time for the program is bounded. */
	assert_int_equal(G(__NR_setitimer, 0, put(req, (u64[4]){ 0, 1, 100, 0 }, 32), GUEST + 200), 0);
	assert_int_equal(G(__NR_setitimer, 0, put(req, (u64[4]){ 0 }, 32), GUEST + 200), 0);
	assert_int_equal(((u64 *)at(GUEST + 200))[1], 100);
}

/* ---- sockets ---- */

struct message { struct msghdr hdr; struct iovec iov[20]; u8 control[64]; };

static void make_message(u64 guest, u64 data, unsigned n, u64 size, u64 controllen)
{
	struct message m = { .hdr = { .msg_iovlen = n, .msg_controllen = controllen } };
	unsigned i;

	m.hdr.msg_iov = (void *)(guest + offsetof(struct message, iov));
	if (controllen)
		m.hdr.msg_control = (void *)(guest + offsetof(struct message, control));
	for (i = 0; i < n; i++)
		m.iov[i] = (struct iovec){ (void *)(data + i * 2 * PAGE_SIZE), size };
	put(guest, &m, sizeof(m));
}

static void test_messages(void **state)
{
	u64 out = GUEST + 4000, in = GUEST + 12000, a = GUEST + 20 * PAGE_SIZE, b = GUEST + 200 * PAGE_SIZE;
	struct cmsghdr c = { .cmsg_len = CMSG_LEN(4), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	struct message *m = at(in);
	int s[2], fd = 1, i;

	assert_int_equal(G(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, GUEST), 0);
	memcpy(s, at(GUEST), sizeof(s));
	make_message(out, a, 18, 700, CMSG_SPACE(4));
	put(out + offsetof(struct message, control), &c, sizeof(c));
	put(out + offsetof(struct message, control) + sizeof(c), &fd, 4);
	for (i = 0; i < 18; i++)
		fill(a + (u64)i * 2 * PAGE_SIZE, 700, (unsigned)i);
	make_message(in, b, 18, 700, CMSG_SPACE(4));
	assert_int_equal(G(__NR_sendmsg, s[0], out, 0), 18 * 700);
	assert_int_equal(G(__NR_recvmsg, s[1], in, 0), 18 * 700);
	for (i = 0; i < 18; i++)
		assert_memory_equal(at(a + (u64)i * 2 * PAGE_SIZE), at(b + (u64)i * 2 * PAGE_SIZE), 700);
	assert_int_equal(m->hdr.msg_controllen, CMSG_SPACE(4));
	assert_true((u64)m->hdr.msg_iov == in + offsetof(struct message, iov)); /* the guest's pointers are untouched */
	close(*(int *)(m->control + sizeof(c)));
	/* Not even half a message is lost to a bad buffer. */
	assert_int_equal(G(__NR_sendto, s[0], a, 600, 0, 0, 0), 600);
	make_message(in, BAD - 10, 1, 700, 0);
	assert_int_equal(G(__NR_recvmsg, s[1], in, 0), -EFAULT);
	assert_int_equal(G(__NR_recvfrom, s[1], b, 4096, 0, 0, 0), 600);
	assert_memory_equal(at(a), at(b), 600);
	close(s[0]);
	close(s[1]);
}

static void test_many_messages(void **state)
{
	u64 vec = GUEST + 4080, a = GUEST + 20 * PAGE_SIZE, b = GUEST + 100 * PAGE_SIZE, iov = GUEST + 9000;
	struct mmsghdr h[5];
	int s[2], i;

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, s), 0);
	memset(h, 0, sizeof(h));
	for (i = 0; i < 5; i++) {
		struct iovec v = { (void *)(a + (u64)i * PAGE_SIZE), 1000 + (u64)i };

		h[i].msg_hdr.msg_iov = (void *)put(iov + (u64)i * 16, &v, 16);
		h[i].msg_hdr.msg_iovlen = 1;
		fill(a + (u64)i * PAGE_SIZE, 2000, (unsigned)i);
	}
	put(vec, h, sizeof(h));
	assert_int_equal(G(__NR_sendmmsg, s[0], vec, 5, 0), 5);
	assert_int_equal(((struct mmsghdr *)at(vec))[4].msg_len, 1004);
	for (i = 0; i < 5; i++) {
		struct iovec v = { (void *)(b + (u64)i * PAGE_SIZE), 2000 };

		put(iov + (u64)i * 16, &v, 16);
	}
	assert_int_equal(G(__NR_recvmmsg, s[1], vec, 5, MSG_WAITFORONE, 0), 5);
	for (i = 0; i < 5; i++) {
		assert_int_equal(((struct mmsghdr *)at(vec))[i].msg_len, 1000 + i);
		assert_memory_equal(at(a + (u64)i * PAGE_SIZE), at(b + (u64)i * PAGE_SIZE), 1000 + (u64)i);
	}
	assert_int_equal(G(__NR_recvmmsg, s[1], vec, 5, MSG_DONTWAIT, 0), -EAGAIN);
	close(s[0]);
	close(s[1]);
}

static void test_addresses_and_options(void **state)
{
	u64 addr = GUEST + PAGE_SIZE - 3, len = GUEST + 8000, val = GUEST + 9000;
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "\0quire-native-test" };
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	long fd;

	assert_int_equal(G(__NR_bind, l, put(addr, &un, sizeof(un)), 20), 0);
	assert_int_equal(G(__NR_listen, l, 5), 0);
	assert_int_equal(G(__NR_connect, c, addr, 20), 0);
	put(len, (u32[1]){ 110 }, 4);
	assert_int_equal(G(__NR_accept4, l, BAD, len, 0), -EFAULT); /* the connection still waits */
	fd = G(__NR_accept4, l, val, len, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(*(u32 *)at(len), 2);
	put(len, (u32[1]){ 110 }, 4);
	memset(at(addr), 0, 64);
	assert_int_equal(G(__NR_getsockname, l, addr, len), 0);
	assert_int_equal(*(u32 *)at(len), 20);
	assert_memory_equal(at(addr), &un, 20);
	put(len, (u32[1]){ 4 }, 4);
	put(val, (u32[1]){ 1 }, 4);
	assert_int_equal(G(__NR_setsockopt, fd, SOL_SOCKET, SO_PASSCRED, val, 4), 0);
	put(val, (u32[1]){ 0 }, 4);
	assert_int_equal(G(__NR_getsockopt, fd, SOL_SOCKET, SO_PASSCRED, val, len), 0);
	assert_int_equal(*(u32 *)at(val), 1);
	assert_int_equal(G(__NR_close, fd), 0);
	close(l);
	close(c);
}

/* ---- IPC, ioctl ---- */

static void test_semaphores(void **state)
{
	long id = G(__NR_semget, 0, 70, 0600);
	u64 p = GUEST + PAGE_SIZE - 20, ts = GUEST + 9000;
	u16 vals[70], back[70];
	struct { u16 num; short op, flg; } op = { 3, -100, 0 };
	int i;

	assert_true(id >= 0);
	for (i = 0; i < 70; i++)
		vals[i] = (u16)(i * 3);
	assert_int_equal(G(__NR_semctl, id, 0, 17 /* SETALL */, put(p, vals, sizeof(vals))), 0);
	memset(at(p), 0, sizeof(vals));
	assert_int_equal(G(__NR_semctl, id, 0, 13 /* GETALL */, p), 0);
	memcpy(back, at(p), sizeof(back));
	assert_memory_equal(vals, back, sizeof(vals));
	assert_int_equal(G(__NR_semctl, id, 5, 12 /* GETVAL */), 15);
	put(ts, (u64[2]){ 0, 1000000 }, 16);
	eintr_left = 1;
	assert_int_equal(G(__NR_semtimedop, id, put(p, &op, sizeof(op)), 1, ts), -EAGAIN);
	op.op = -5;
	assert_int_equal(G(__NR_semop, id, put(p, &op, sizeof(op)), 1), 0);
	assert_int_equal(G(__NR_semctl, id, 3, 12), 4);
	assert_int_equal(G(__NR_semctl, id, 0, 2 /* STAT */, p), 0);
	assert_int_equal(((u64 *)at(p))[10], 70);
	assert_int_equal(G(__NR_semctl, id, 0, 0 /* RMID */), 0);
}

static void test_message_queues(void **state)
{
	long id = G(__NR_msgget, 0, 0600);
	u64 m = GUEST + PAGE_SIZE - 4, n = GUEST + 90 * PAGE_SIZE;

	assert_true(id >= 0);
	fill(m + 8, 3000, 9);
	put(m, (u64[1]){ 5 }, 8);
	assert_int_equal(G(__NR_msgsnd, id, m, 3000, 0), 0);
	assert_int_equal(G(__NR_msgrcv, id, BAD, 4000, 0, 0), -EFAULT);
	assert_int_equal(G(__NR_msgrcv, id, n, 4000, 0, 0), 3000);
	assert_memory_equal(at(m), at(n), 3008);
	assert_int_equal(G(__NR_msgctl, id, 2, n), 0);
	assert_int_equal(G(__NR_msgctl, id, 0, 0), 0);
}

static void test_ioctls(void **state)
{
	struct { s32 len; u32 pad; u64 buf; } conf = { .len = 400, .buf = GUEST + 20000 };
	u64 p = GUEST + PAGE_SIZE - 2;
	struct winsize ws = { 30, 100, 0, 0 };
	int pt = posix_openpt(O_RDWR | O_NOCTTY), s = socket(AF_INET, SOCK_DGRAM, 0);

	assert_true(pt >= 0);
	assert_int_equal(G(__NR_ioctl, pt, TIOCSWINSZ, put(p, &ws, sizeof(ws))), 0);
	memset(at(p), 0, sizeof(ws));
	assert_int_equal(G(__NR_ioctl, pt, TIOCGWINSZ, p), 0);
	assert_memory_equal(at(p), &ws, sizeof(ws));
	assert_int_equal(G(__NR_ioctl, pt, 0x5401 /* TCGETS */, p), 0);
	assert_int_equal(G(__NR_ioctl, pt, TIOCGPTN, p), 0); /* says its size */
	assert_int_equal(G(__NR_ioctl, pt, TIOCGPTN, BAD), -EFAULT);
	assert_int_equal(G(__NR_ioctl, pt, FIOCLEX, 0), 0);
	assert_int_equal(G(__NR_ioctl, s, 0x8912 /* SIOCGIFCONF */, put(p, &conf, sizeof(conf))), 0);
	assert_true(*(s32 *)at(p) % 40 == 0);
	put(p, "lo\0", 4);
	memset(at(p + 4), 0, 36);
	assert_true(G(__NR_ioctl, s, 0x8913 /* SIOCGIFFLAGS */, p) <= 0);
	assert_int_equal(G(__NR_ioctl, s, 0xdead, 5), -ENOTTY);
	assert_int_equal(G(__NR_ioctl, pt, 0x4004ae86 /* KVM */, p), -ENOTTY);
	close(pt);
	close(s);
}

static void test_copies_between_descriptors(void **state)
{
	int a = temp_file(), b = temp_file();
	u64 off = GUEST + PAGE_SIZE - 4;

	assert_int_equal(G(__NR_write, a, fill(GUEST + 5000, 1000, 4), 1000), 1000);
	put(off, (u64[1]){ 10 }, 8);
	assert_int_equal(G(__NR_sendfile, b, a, off, 500), 500);
	assert_int_equal(*(u64 *)at(off), 510);
	assert_int_equal(G(__NR_sendfile, b, a, BAD, 500), -EFAULT);
	put(off + 8, (u64[1]){ 600 }, 8);
	assert_int_equal(G(__NR_copy_file_range, a, off, b, off + 8, 100, 0), 100);
	assert_int_equal(((u64 *)at(off))[0], 610);
	assert_int_equal(((u64 *)at(off))[1], 700);
	close(a);
	close(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, fresh)
	const struct CMUnitTest tests[] = {
		T(test_every_number_once), T(test_no_duplicates), T(test_entries_make_sense), T(test_refusals),
		T(test_kernel_descriptor_does_not_exist), T(test_read_write_pipe), T(test_large_transfers),
		T(test_vectors), T(test_random_bytes), T(test_names_and_structs), T(test_clocks_and_ids),
		T(test_wait_faults_before), T(test_locks), T(test_poll_select), T(test_epoll), T(test_sleep),
		T(test_messages), T(test_many_messages), T(test_addresses_and_options), T(test_semaphores),
		T(test_message_queues), T(test_ioctls), T(test_copies_between_descriptors),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
