/*
 * Served files under /proc: which paths are ours, merging with the host's files, descriptors, refreshing, stores.
 * The core is replaced by a machine with one process (this one) and a fixed text for each view.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "procfs.h"
#include "x86_64/native_nr.h"
#include "../../file/filemap.h"
#include "../../proc/phys_views.h"
#include "../../proc/proc.h"
#include "../../reclaim/reclaim.h"

struct kproc kproc;
static struct quire q;
static struct mm_struct mm = { .q = &q };
static struct task task = { .q = &q, .mm = &mm };
static struct ctx context = { .q = &q };
static struct kthread thread = { .ctx = &context };
static char args[] = "prog\0one\0two";
static u64 clock_ns;
static unsigned meminfo_reads, invalidated, refs, lines_made, first_line;
static int compactions;
static s64 swappiness, page_cluster;

/* ---- the machine ---- */

struct task *task_find_get(struct quire *m, s32 pid)
{
	if (pid != task.pid && pid != 4711)
		return NULL;
	refs++;
	return &task;
}
void task_put(struct task *t) { refs--; }
struct mm_struct *task_get_mm(struct task *t) { refs++; return &mm; }
void mmput(struct mm_struct *m) { refs--; }
void mm_usage_get(struct mm_struct *m, struct mm_usage *u)
{
	memset(u, 0, sizeof(*u));
	u->arg_start = (u64)args;
	u->arg_end = u->env_start = u->arg_start + sizeof(args);
	u->env_end = u->env_start;
}
long access_process_vm_flags(struct mm_struct *m, u64 addr, void *buf, size_t len, bool write, u32 flags)
{
	if (addr < (u64)args || addr >= (u64)args + sizeof(args))
		return -EFAULT;
	len = MIN(len, (u64)args + sizeof(args) - addr);
	memcpy(write ? (void *)addr : buf, write ? buf : (void *)addr, len);
	return (long)len;
}
long access_process_vm(struct mm_struct *m, u64 addr, void *buf, size_t len, bool write)
{
	return access_process_vm_flags(m, addr, buf, len, write, 0);
}
void proc_meminfo(struct quire *m, struct fmt_buf *out) { fmt_printf(out, "MemTotal: %u\n", ++meminfo_reads); }
void proc_maps(struct quire *m, struct mm_struct *a, struct fmt_buf *out)
{
	for (unsigned i = 0; i < 3000; i++)
		fmt_printf(out, "line %u of a long text\n", i);
}
/* The same in pieces: "addresses" are numbers of lines. */
u64 proc_maps_from(struct quire *m, struct mm_struct *a, u64 addr, struct fmt_buf *out)
{
	for (; addr < 3000 && out->len + 30 <= PROC_SEQ_PAGE; addr++, lines_made++)
		fmt_printf(out, "line %u of a long text\n", (unsigned)addr + first_line);
	return addr < 3000 ? addr : PROC_VMA_END;
}
u64 proc_smaps_from(struct quire *m, struct mm_struct *a, u64 addr, struct fmt_buf *out)
{
	return fmt_printf(out, "proc_smaps\n"), PROC_VMA_END;
}
void proc_status_vm(struct quire *m, struct mm_struct *a, struct fmt_buf *out) { fmt_printf(out, "VmPeak:\t42 kB\n"); }
void proc_stat(struct quire *m, struct task *t, struct fmt_buf *out)
{
	fmt_printf(out, "1 (x) R");
	for (unsigned i = 4; i <= 52; i++)
		fmt_printf(out, " %u", 900000 + i);
	fmt_printf(out, "\n");
}
#define VIEW(name) void name(struct quire *m, struct fmt_buf *out) { fmt_printf(out, #name "\n"); }
VIEW(proc_vmstat) VIEW(proc_buddyinfo) VIEW(proc_zoneinfo) VIEW(proc_pagetypeinfo) VIEW(proc_slabinfo)
VIEW(proc_vmallocinfo) VIEW(proc_swaps) VIEW(proc_pressure_memory)
#define MM_VIEW(name) void name(struct quire *m, struct mm_struct *a, struct fmt_buf *out) { fmt_printf(out, #name "\n"); }
MM_VIEW(proc_smaps) MM_VIEW(proc_smaps_rollup) MM_VIEW(proc_statm) MM_VIEW(proc_auxv)
void proc_oom_score(struct quire *m, struct task *t, struct fmt_buf *out) { fmt_printf(out, "666\n"); }
void proc_oom_score_adj(struct quire *m, struct task *t, struct fmt_buf *out) { fmt_printf(out, "%d\n", t->oom_score_adj); }
void proc_oom_adj(struct task *t, struct fmt_buf *out) {}
int proc_set_oom_adj(struct task *t, s64 old, bool capable) { return 0; }
int proc_set_oom_score_adj(struct task *t, s64 adj, bool capable)
{
	if (adj < -1000 || adj > 1000)
		return -EINVAL;
	t->oom_score_adj = (s32)adj;
	return 0;
}
int proc_clear_refs(struct mm_struct *m, s64 type) { return type < 1 || type > 5 ? -EINVAL : 0; }
size_t proc_pagemap(struct mm_struct *m, u64 addr, u64 *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		entries[i] = (addr >> PAGE_SHIFT) + i;
	return n;
}
u64 proc_kpagecount(struct quire *m, pfn_t pfn) { return pfn + 1; }
u64 proc_kpageflags(struct quire *m, pfn_t pfn) { return pfn + 2; }
static enum wb_setting dirty_set;
static s64 dirty_value;
int wb_setting_set(struct quire *m, enum wb_setting which, s64 v) { dirty_set = which; dirty_value = v; return v > 100 ? -EINVAL : 0; }
s64 wb_setting_get(struct quire *m, enum wb_setting which) { return 40 + which; }
static unsigned slabs_dropped;
u64 drop_slab(struct quire *m) { slabs_dropped++; return 0; }
int set_swappiness(struct quire *m, s64 value) { swappiness = value; return value > 200 ? -EINVAL : 0; }
int set_page_cluster(struct quire *m, s64 value) { page_cluster = value; return value > 31 ? -EINVAL : 0; }
void compact_memory(struct quire *m) { compactions++; }
void set_min_free_kbytes(struct quire *m, u64 kb) { q.phys.min_free_kbytes = kb; }
void set_watermark_scale_factor(struct quire *m, u32 factor) { q.phys.watermark_scale_factor = factor; }
struct address_space *mapping_get(struct quire *m, u64 dev, u64 ino, const struct mapping_ops *ops, u32 flags)
{
	return q.files[ino % FILE_HASH_BUCKETS];
}
void mapping_put(struct address_space *m) { }
void invalidate_mapping_range(struct address_space *m, u64 start, u64 end) { invalidated++; }
void spin_lock(struct spinlock *l) { }
void spin_unlock(struct spinlock *l) { }
u64 port_clock_ns(void) { return clock_ns; }
int copy_from_user(void *dst, u64 src, size_t n) { memcpy(dst, (void *)src, n); return 0; }
int copy_to_user(u64 dst, const void *src, size_t n) { memcpy((void *)dst, src, n); return 0; }
long host_syscall(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	long r = syscall(nr, a, b, c, d, e, f);

	return r == -1 ? -errno : r;
}

static int setup(void **state)
{
	thread.self = &thread;
	kproc.pid = task.pid = getpid();
	thread.tid = kproc.pid;
	kproc.task = &task;
	kproc.mm = &mm;
	strcpy(kproc.exe_path, "/bin/cat");
	q.cfg.memory = 64 << 20;
	return (int)syscall(__NR_arch_prctl, 0x1001 /* ARCH_SET_GS */, &thread);
}

/* ---- paths ---- */

static u32 kind(int dirfd, const char *path)
{
	struct procfs_name n;

	return procfs_parse(dirfd, path, &n) ? n.kind : PROCFS_NONE;
}

static void test_paths(void **state)
{
	struct procfs_name n;
	char path[64];
	int proc = open("/proc", O_RDONLY | O_DIRECTORY), self = open("/proc/self", O_RDONLY | O_DIRECTORY);

	assert_int_equal(kind(-100, "/proc/meminfo"), PROCFS_MEMINFO);
	assert_int_equal(kind(-100, "//proc/.//self/../meminfo"), PROCFS_MEMINFO);
	assert_int_equal(kind(-100, "/etc/../proc/self/maps"), PROCFS_MAPS);
	assert_int_equal(kind(-100, "/proc/self/task/12/status"), PROCFS_STATUS);
	assert_int_equal(kind(-100, "/proc/thread-self/stat"), PROCFS_STAT);
	assert_int_equal(kind(-100, "/proc/sys/vm/overcommit_memory"), PROCFS_OVERCOMMIT_MEMORY);
	assert_int_equal(kind(proc, "meminfo"), PROCFS_MEMINFO);
	assert_int_equal(kind(self, "smaps"), PROCFS_SMAPS);
	assert_int_equal(kind(self, "../self/statm"), PROCFS_STATM);
	assert_true(procfs_parse(-100, "/proc/4711/maps", &n));
	assert_int_equal(n.pid, 4711);
	snprintf(path, sizeof(path), "/proc/%d/task/99/stat", getpid());
	assert_true(procfs_parse(-100, path, &n) && n.pid == getpid() && n.tid == 99);
	/* Not ours. */
	assert_int_equal(kind(-100, "/proc/1/maps"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/proc/stat"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/proc/maps"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/proc/self/meminfo"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/proc/4711x/maps"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/tmp/meminfo"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/procx/meminfo"), PROCFS_NONE);
	assert_int_equal(kind(-100, "meminfo"), PROCFS_NONE);
	assert_int_equal(kind(-100, "/proc/../../../meminfo"), PROCFS_NONE);
	assert_int_equal(kind(-100, ""), PROCFS_NONE);
	assert_int_equal(kind(12345, "maps"), PROCFS_NONE);
	assert_int_equal(refs, 0);
	close(proc);
	close(self);
}

static void test_exe(void **state)
{
	char buf[64];
	long fd;

	assert_int_equal(procfs_readlink(-100, "/proc/self/exe", buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "/bin/cat", 8);
	assert_int_equal(procfs_readlink(-100, "/proc/self/exe", buf, 3), 3);
	assert_int_equal(procfs_readlink(-100, "/proc/self/cwd", buf, 3), PROCFS_NOT_OURS);
	strcpy(buf, "/proc/self/exe");
	procfs_follow_exe(-100, buf, sizeof(buf));
	assert_string_equal(buf, "/bin/cat");
	fd = procfs_open(-100, "/proc/self/exe", O_RDONLY);
	assert_true(fd >= 0);
	close((int)fd);
}

/* ---- contents ---- */

static long slurp(const char *path, char *buf, size_t size)
{
	long fd = procfs_open(-100, path, O_RDONLY | O_CLOEXEC), n, r = 1;

	assert_true(fd >= 0);
	assert_int_equal(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
	for (n = 0; r > 0; n += r) {
		assert_false(procfs_read((int)fd, (u64)buf + (u64)n, size - 1 - (size_t)n, -1, &r));
		r = read((int)fd, buf + n, size - 1 - (size_t)n);
		assert_true(r >= 0);
	}
	buf[n] = '\0';
	procfs_fd_closed((int)fd);
	close((int)fd);
	return n;
}

static void test_contents(void **state)
{
	static char buf[200000];
	char *p;

	assert_int_equal(procfs_open(-100, "/proc/uptime", O_RDONLY), PROCFS_NOT_OURS);
	assert_int_equal(procfs_open(-100, "/proc/meminfo", O_WRONLY), -EACCES);
	assert_true(slurp("/proc/self/maps", buf, sizeof(buf)) > 60000); /* larger than the first guess */
	assert_non_null(strstr(buf, "line 2999 of"));
	slurp("/proc/vmstat", buf, sizeof(buf));
	assert_string_equal(buf, "proc_vmstat\n");
	slurp("/proc/pressure/memory", buf, sizeof(buf));
	assert_string_equal(buf, "proc_pressure_memory\n");
	assert_int_equal(procfs_open(-100, "/proc/pressure/io", O_RDONLY), PROCFS_NOT_OURS);
	assert_int_equal(slurp("/proc/self/cmdline", buf, sizeof(buf)), sizeof(args));
	assert_memory_equal(buf, args, sizeof(args));
	/* Memory from the machine, the rest from the host. */
	kproc.sigaction[10].handler = 0x1000;
	kproc.sigaction[11].handler = 1;
	slurp("/proc/self/status", buf, sizeof(buf));
	assert_non_null(strstr(buf, "\nVmPeak:\t42 kB\nHugetlbPages:"));
	assert_null(strstr(buf, "VmRSS"));
	assert_non_null(strstr(buf, "SigIgn:\t0000000000000400\nSigCgt:\t0000000000000200\n"));
	assert_non_null(strstr(buf, "Seccomp:\t0\n"));
	slurp("/proc/self/stat", buf, sizeof(buf));
	assert_int_equal(atoi(buf), getpid());
	assert_non_null(strstr(buf, "(procfs_test)"));
	assert_non_null(strstr(buf, " 900023 900024 "));
	assert_null(strstr(buf, "900025"));
	assert_non_null(p = strstr(buf, " 900051 "));
	assert_null(strstr(buf, "900052"));
	assert_int_equal(refs, 0);
}

/* ---- descriptors ---- */

static void test_refresh(void **state)
{
	char buf[64];
	long fd = procfs_open(-100, "/proc/meminfo", O_RDONLY), r;
	unsigned before = meminfo_reads;

	assert_false(procfs_read((int)fd, (u64)buf, 10, -1, &r)); /* just made: as it is */
	assert_int_equal(meminfo_reads, before);
	assert_int_equal(read((int)fd, buf, 4), 4);
	clock_ns += 10000000;
	assert_false(procfs_read((int)fd, (u64)buf, 10, -1, &r)); /* in the middle */
	assert_int_equal(meminfo_reads, before);
	assert_false(procfs_read((int)fd, (u64)buf, 10, 0, &r)); /* pread at the beginning */
	assert_int_equal(meminfo_reads, before + 1);
	lseek((int)fd, 0, SEEK_SET);
	clock_ns += 10000000;
	dup2((int)fd, 77);
	procfs_fd_dup((int)fd, 77);
	procfs_refresh(77);
	assert_int_equal(meminfo_reads, before + 2);
	assert_true(procfs_write(77, (u64)"1", 1, -1, &r));
	assert_int_equal(r, -EBADF);
	/* Something else took the number: no longer ours. */
	dup2(1, 77);
	assert_false(procfs_write(77, (u64)"1", 1, -1, &r));
	procfs_range_closed(0, ~0u);
	clock_ns += 10000000;
	procfs_refresh((int)fd);
	assert_int_equal(meminfo_reads, before + 2);
	close(77);
	close((int)fd);
}

static long size_of_file(long fd)
{
	long pos = lseek((int)fd, 0, SEEK_CUR), size = lseek((int)fd, 0, SEEK_END);

	lseek((int)fd, pos, SEEK_SET);
	return size;
}

/* Long files are made as far as they are read, and all of them before anybody may read them unseen. */
static void test_long_files_grow(void **state)
{
	static char buf[200000];
	long fd, all, r;

	lines_made = 0;
	fd = procfs_open(-100, "/proc/self/maps", O_RDONLY);
	assert_int_equal(lines_made, 0);
	assert_false(procfs_read((int)fd, (u64)buf, 30, -1, &r));
	assert_in_range(lines_made, 2, 400);
	assert_int_equal(read((int)fd, buf, 30), 30);
	assert_memory_equal(buf, "line 0 of a long text\nline 1 o", 30);
	lines_made = 0;
	assert_false(procfs_read((int)fd, (u64)buf, 30, -1, &r)); /* there already */
	assert_int_equal(lines_made, 0);
	assert_false(procfs_read((int)fd, (u64)buf, 10, 50000, &r)); /* pread far behind */
	assert_in_range(lines_made, 1500, 2800);
	assert_int_equal(pread((int)fd, buf, 10, 50000), 10);
	procfs_complete((int)fd);
	all = size_of_file(fd);
	assert_true(all > 60000);

	/* From the beginning again: anew, if it is not fresh. */
	first_line = 1;
	lseek((int)fd, 0, SEEK_SET);
	assert_false(procfs_read((int)fd, (u64)buf, 30, -1, &r));
	assert_int_equal(pread((int)fd, buf, 6, 0), 6);
	assert_memory_equal(buf, "line 0", 6);
	clock_ns += 10000000;
	assert_false(procfs_read((int)fd, (u64)buf, 30, -1, &r));
	assert_int_equal(pread((int)fd, buf, 6, 0), 6);
	assert_memory_equal(buf, "line 1", 6);
	assert_int_equal(size_of_file(fd) / PAGE_SIZE, 0); /* whole lines that fit in a page */
	assert_true(size_of_file(fd) < 20000);

	/* A copy of the descriptor, known or not. */
	dup2((int)fd, 77);
	procfs_fd_dup((int)fd, 77);
	assert_false(procfs_read(77, (u64)buf, sizeof(buf), 5000, &r));
	assert_in_range(size_of_file(77), 8000, 9000);
	assert_false(procfs_read(77, (u64)buf, sizeof(buf), 60000, &r));
	assert_true(size_of_file(77) > 60000);
	assert_false(procfs_read((int)fd, (u64)buf, 30, 40000, &r)); /* somebody else wrote: all of it is made */
	assert_true(size_of_file(77) > 60000);
	assert_int_equal(pread((int)fd, buf, sizeof(buf), 0), size_of_file(fd));
	assert_non_null(strstr(buf, "line 3000 of a long text\n"));
	assert_int_equal(procfs_open(-100, "/dev/fd/77", O_RDONLY), PROCFS_NOT_OURS);
	close(77);
	close((int)fd);
	procfs_range_closed(0, ~0u);
	first_line = 0;
	assert_int_equal(refs, 0);
}

/* Opening a descriptor by its name is another way to read it. */
static void test_names_of_descriptors(void **state)
{
	char path[40];
	long fd = procfs_open(-100, "/proc/self/maps", O_RDONLY);

	snprintf(path, sizeof(path), "/proc/self/fd/%ld", fd);
	assert_int_equal(size_of_file(fd), 0);
	assert_int_equal(procfs_open(-100, path, O_RDONLY), PROCFS_NOT_OURS);
	assert_true(size_of_file(fd) > 60000);
	close((int)fd);
	procfs_range_closed(0, ~0u);
}

/* More than the table holds; closed ones make room without having been told of. */
static void test_many_descriptors(void **state)
{
	long fd[100], r;
	int i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 60; i++)
			assert_true((fd[i] = procfs_open(-100, "/proc/self/mem", O_RDWR)) >= 0);
		for (i = 0; i < 60; i++)
			close((int)fd[i]);
	}
	for (i = 0; i < 64; i++)
		assert_true((fd[i] = procfs_open(-100, "/proc/self/mem", O_RDONLY)) >= 0);
	assert_int_equal(procfs_open(-100, "/proc/self/mem", O_RDONLY), -EMFILE);
	r = procfs_open(-100, "/proc/meminfo", O_RDONLY); /* a text needs no entry */
	assert_true(r >= 0);
	close((int)r);
	for (i = 0; i < 64; i++)
		close((int)fd[i]);
	procfs_range_closed(0, ~0u);
}

static void test_memory_and_pages(void **state)
{
	char buf[16];
	u64 words[4];
	long fd = procfs_open(-100, "/proc/self/mem", O_RDWR), r;

	assert_true(procfs_read((int)fd, (u64)buf, 4, (s64)(u64)args, &r));
	assert_int_equal(r, 4);
	assert_memory_equal(buf, "prog", 4);
	lseek((int)fd, (off_t)(u64)args + 5, SEEK_SET);
	assert_true(procfs_write((int)fd, (u64)"ONE", 3, -1, &r));
	assert_int_equal(r, 3);
	assert_string_equal(args + 5, "ONE");
	assert_int_equal(lseek((int)fd, 0, SEEK_CUR), (off_t)(u64)args + 8);
	assert_true(procfs_read((int)fd, (u64)buf, 4, 8, &r));
	assert_int_equal(r, -EIO);
	close((int)fd);
	fd = procfs_open(-100, "/proc/self/pagemap", O_RDONLY);
	assert_true(procfs_read((int)fd, (u64)words, 32, 80, &r));
	assert_int_equal(r, 32);
	assert_int_equal(words[3], 13);
	assert_true(procfs_read((int)fd, (u64)words, 30, 80, &r));
	assert_int_equal(r, -EINVAL);
	close((int)fd);
	fd = procfs_open(-100, "/proc/kpagecount", O_RDONLY);
	assert_true(procfs_read((int)fd, (u64)words, 32, (16384 - 2) * 8, &r)); /* two frames before the end */
	assert_int_equal(r, 16);
	assert_int_equal(words[1], 16384);
	close((int)fd);
	procfs_range_closed(0, ~0u);
}

static long store(const char *path, const char *text)
{
	long fd = procfs_open(-100, path, O_WRONLY | O_TRUNC), r = 0;

	if (fd < 0)
		return fd;
	assert_true(procfs_write((int)fd, (u64)text, strlen(text), -1, &r));
	procfs_fd_closed((int)fd);
	close((int)fd);
	return r;
}

static void test_stores(void **state)
{
	struct address_space a = { .ino = 5, .flags = AS_TOKEN }, b = { .ino = 5, .flags = AS_SHMEM, .hash_next = &a };

	assert_int_equal(store("/proc/self/oom_score_adj", "500\n"), 4);
	assert_int_equal(task.oom_score_adj, 500);
	assert_int_equal(store("/proc/self/oom_score_adj", " 600 "), 5);
	assert_int_equal(store("/proc/self/oom_score_adj", "1001"), -EINVAL);
	assert_int_equal(store("/proc/self/oom_score_adj", "5x"), -EINVAL);
	assert_int_equal(store("/proc/self/oom_score_adj", ""), -EINVAL);
	assert_int_equal(task.oom_score_adj, 600);
	if (geteuid())
		skip();
	assert_int_equal(store("/proc/self/oom_score_adj", "-17\n"), 4);
	assert_int_equal(store("/proc/sys/vm/overcommit_memory", "2"), 1);
	assert_int_equal(q.cfg.overcommit_memory, 2);
	assert_int_equal(store("/proc/sys/vm/overcommit_memory", "3"), -EINVAL);
	assert_int_equal(store("/proc/sys/vm/min_free_kbytes", "512"), 3);
	assert_int_equal(q.phys.min_free_kbytes, 512);
	assert_int_equal(store("/proc/sys/vm/swappiness", "70\n"), 3);
	assert_int_equal(swappiness, 70);
	assert_int_equal(store("/proc/sys/vm/swappiness", "201"), -EINVAL);
	assert_int_equal(store("/proc/sys/vm/page-cluster", "0\n"), 2);
	assert_int_equal(page_cluster, 0);
	assert_int_equal(store("/proc/sys/vm/page-cluster", "32"), -EINVAL);
	assert_int_equal(store("/proc/sys/vm/dirty_ratio", "30\n"), 3);
	assert_true(dirty_set == WB_DIRTY_RATIO && dirty_value == 30);
	assert_int_equal(store("/proc/sys/vm/dirty_expire_centisecs", "70\n"), 3);
	assert_true(dirty_set == WB_DIRTY_EXPIRE_CENTISECS && dirty_value == 70);
	assert_int_equal(store("/proc/sys/vm/dirty_background_ratio", "101"), -EINVAL);
	assert_int_equal(store("/proc/sys/vm/compact_memory", "0"), -EINVAL);
	assert_int_equal(store("/proc/sys/vm/compact_memory", "1"), 1);
	assert_int_equal(compactions, 1);
	assert_int_equal(store("/proc/sys/vm/panic_on_oom", "2\n"), 2);
	assert_int_equal(q.oom.panic_on_oom, 2);
	assert_int_equal(store("/proc/sys/vm/panic_on_oom", "3"), -EINVAL);
	assert_int_equal(store("/proc/sys/vm/oom_kill_allocating_task", "1"), 1);
	assert_int_equal(q.oom.kill_allocating_task, 1);
	assert_int_equal(store("/proc/sys/vm/oom_dump_tasks", "0"), 1);
	assert_int_equal(q.oom.dump_tasks, 0);
	q.files[5] = &b;
	assert_int_equal(store("/proc/sys/vm/drop_caches", "3\n"), 2);
	assert_int_equal(invalidated, 1); /* the token file only */
	assert_int_equal(slabs_dropped, 1);
	q.files[5] = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths), cmocka_unit_test(test_exe), cmocka_unit_test(test_contents),
		cmocka_unit_test(test_refresh), cmocka_unit_test(test_long_files_grow),
		cmocka_unit_test(test_names_of_descriptors), cmocka_unit_test(test_many_descriptors),
		cmocka_unit_test(test_memory_and_pages), cmocka_unit_test(test_stores),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
