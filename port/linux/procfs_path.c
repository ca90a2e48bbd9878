/*
 * Which paths under /proc name something that the machine serves.
 *
 *	/proc/NAME   /proc/pressure/memory   /proc/sys/vm/NAME   /proc/{self,thread-self,PID}[/task/TID]/NAME
 *
 * Most paths are turned away by their last component, without asking the host anything.  Relative ones are resolved through
 * the host's link for the directory; links inside a path, except self and thread-self, are not followed.
 */
#include "procfs.h"
#include "x86_64/native_nr.h"

#define PATH_ROOM 256u /* longer names are not ours */
#define HOST_AT_FDCWD_ (-100)

struct known { char name[28]; u32 kind; };

static const struct known machine_files[] = {
	{ "meminfo", PROCFS_MEMINFO }, { "vmstat", PROCFS_VMSTAT }, { "buddyinfo", PROCFS_BUDDYINFO },
	{ "zoneinfo", PROCFS_ZONEINFO }, { "pagetypeinfo", PROCFS_PAGETYPEINFO }, { "slabinfo", PROCFS_SLABINFO },
	{ "vmallocinfo", PROCFS_VMALLOCINFO }, { "swaps", PROCFS_SWAPS }, { "kpagecount", PROCFS_KPAGECOUNT },
	{ "kpageflags", PROCFS_KPAGEFLAGS },
};
static const struct known pressure_files[] = { { "memory", PROCFS_PRESSURE_MEMORY } };
static const struct known vm_files[] = {
	{ "overcommit_memory", PROCFS_OVERCOMMIT_MEMORY }, { "overcommit_ratio", PROCFS_OVERCOMMIT_RATIO },
	{ "max_map_count", PROCFS_MAX_MAP_COUNT }, { "min_free_kbytes", PROCFS_MIN_FREE_KBYTES },
	{ "dirty_background_ratio", PROCFS_DIRTY + WB_DIRTY_BACKGROUND_RATIO },
	{ "dirty_background_bytes", PROCFS_DIRTY + WB_DIRTY_BACKGROUND_BYTES }, { "dirty_ratio", PROCFS_DIRTY + WB_DIRTY_RATIO },
	{ "dirty_bytes", PROCFS_DIRTY + WB_DIRTY_BYTES }, { "dirty_writeback_centisecs", PROCFS_DIRTY + WB_DIRTY_WRITEBACK_CENTISECS },
	{ "dirty_expire_centisecs", PROCFS_DIRTY + WB_DIRTY_EXPIRE_CENTISECS }, { "swappiness", PROCFS_SWAPPINESS },
	{ "page-cluster", PROCFS_PAGE_CLUSTER }, { "compact_memory", PROCFS_COMPACT_MEMORY },
	{ "drop_caches", PROCFS_DROP_CACHES }, { "panic_on_oom", PROCFS_PANIC_ON_OOM },
	{ "overcommit_kbytes", PROCFS_OVERCOMMIT_KBYTES }, { "watermark_scale_factor", PROCFS_WATERMARK_SCALE_FACTOR },
	{ "nr_hugepages", PROCFS_NR_HUGEPAGES }, { "nr_hugepages_mempolicy", PROCFS_NR_HUGEPAGES },
	{ "nr_overcommit_hugepages", PROCFS_NR_HUGEPAGES }, { "stat_refresh", PROCFS_STAT_REFRESH },
	{ "oom_kill_allocating_task", PROCFS_OOM_KILL_ALLOCATING_TASK }, { "oom_dump_tasks", PROCFS_OOM_DUMP_TASKS },
};
static const struct known process_files[] = {
	{ "maps", PROCFS_MAPS }, { "smaps", PROCFS_SMAPS }, { "smaps_rollup", PROCFS_SMAPS_ROLLUP },
	{ "status", PROCFS_STATUS }, { "statm", PROCFS_STATM }, { "stat", PROCFS_STAT },
	{ "oom_score", PROCFS_OOM_SCORE }, { "oom_score_adj", PROCFS_OOM_SCORE_ADJ }, { "cmdline", PROCFS_CMDLINE },
	{ "environ", PROCFS_ENVIRON }, { "auxv", PROCFS_AUXV }, { "mem", PROCFS_MEM }, { "pagemap", PROCFS_PAGEMAP },
	{ "exe", PROCFS_EXE }, { "clear_refs", PROCFS_CLEAR_REFS }, { "oom_adj", PROCFS_OOM_ADJ },
};

static u32 find_name(const struct known *table, size_t n, const char *name)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!strcmp(table[i].name, name))
			return table[i].kind;
	return PROCFS_NONE;
}
#define FIND(table, name) find_name(table, ARRAY_SIZE(table), name)

static const char *last_component(const char *path)
{
	const char *last = path;

	for (; *path; path++)
		if (path[0] == '/' && path[1] && path[1] != '/')
			last = path + 1;
	return last;
}

/* The directory that a relative path starts from; false if it is not under /proc. */
static bool base_of(int dirfd, struct fmt_buf *out)
{
	char link[40], *end;
	struct fmt_buf b = fmt_init(link, sizeof(link));
	long n;

	if (dirfd == HOST_AT_FDCWD_)
		fmt_printf(&b, "/proc/self/cwd");
	else
		fmt_printf(&b, "/proc/self/fd/%d", dirfd);
	n = host_call(__NR_readlink, link, out->buf, out->size - 1);
	if (n <= 0 || n >= (long)out->size - 1)
		return false;
	end = out->buf + n;
	*end = '\0';
	out->len = (size_t)n;
	return !strncmp(out->buf, "/proc", 5) && (out->buf[5] == '/' || !out->buf[5]);
}

/* Appends the components of `path`, resolving "." and "..", to the text in out (which has no trailing slash). */
static bool append_components(struct fmt_buf *out, const char *path)
{
	while (*path) {
		size_t n = 0;

		while (*path == '/')
			path++;
		while (path[n] && path[n] != '/')
			n++;
		if (n == 2 && path[0] == '.' && path[1] == '.') {
			while (out->len && out->buf[--out->len] != '/')
				;
			out->buf[out->len] = '\0';
		} else if (n && !(n == 1 && path[0] == '.')) {
			fmt_putc(out, '/');
			fmt_write(out, path, n);
		}
		path += n;
		if (fmt_truncated(out))
			return false;
	}
	return true;
}

/* A whole component that is a number; moves *p behind it and its slash. */
static bool take_number(const char **p, s32 *v)
{
	const char *s = *p;
	u32 n = 0;

	if (*s < '1' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (n > 100000000)
			return false;
		n = n * 10 + (u32)(*s - '0');
	}
	if (*s != '/')
		return false;
	*v = (s32)n;
	*p = s + 1;
	return true;
}

static bool take_prefix(const char **p, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(*p, prefix, n))
		return false;
	*p += n;
	return true;
}

static bool is_guest(s32 pid)
{
	struct task *t;

	if (pid == kproc.pid)
		return true;
	t = task_find_get(kthread()->ctx->q, pid);
	if (t)
		task_put(t);
	return t != NULL;
}

/* p: behind "/proc/", normalised. */
static bool parse_rest(const char *p, struct procfs_name *name)
{
	*name = (struct procfs_name){ .kind = FIND(machine_files, p) };
	if (name->kind)
		return true;
	if (take_prefix(&p, "pressure/")) {
		name->kind = FIND(pressure_files, p);
		return name->kind != PROCFS_NONE;
	}
	if (take_prefix(&p, "sys/vm/")) {
		name->kind = FIND(vm_files, p);
		return name->kind != PROCFS_NONE;
	}
	if (take_prefix(&p, "self/"))
		name->pid = kproc.pid;
	else if (take_prefix(&p, "thread-self/"))
		name->pid = kproc.pid, name->tid = kthread()->tid;
	else if (!take_number(&p, &name->pid))
		return false;
	if (take_prefix(&p, "task/") && !take_number(&p, &name->tid))
		return false;
	name->kind = FIND(process_files, p);
	return name->kind != PROCFS_NONE && is_guest(name->pid);
}

bool procfs_parse(int dirfd, const char *path, struct procfs_name *name)
{
	const char *last = last_component(path);
	char full[PATH_ROOM];
	struct fmt_buf b = fmt_init(full, sizeof(full));

	if (!FIND(machine_files, last) && !FIND(process_files, last) && !FIND(vm_files, last) && !FIND(pressure_files, last))
		return false;
	if (path[0] != '/' && !base_of(dirfd, &b))
		return false;
	if (!append_components(&b, path))
		return false;
	return !strncmp(full, "/proc/", 6) && parse_rest(full + 6, name);
}

long procfs_exe(s32 pid, char *buf, size_t size)
{
	struct mm_struct *mm;
	struct task *t;
	long n = -ENOENT;

	if (pid == kproc.pid) {
		n = (long)MIN(strlen(kproc.exe_path), size - 1);
		memcpy(buf, kproc.exe_path, (size_t)n);
		buf[n] = '\0';
		return n;
	}
	t = task_find_get(kthread()->ctx->q, pid);
	if (!t)
		return -ESRCH;
	mm = task_get_mm(t);
	task_put(t);
	if (!mm)
		return -ENOENT;
	/* exe_file is set by exec and stays until the mm goes. */
	if (mm->exe_file && mm->exe_file->path) {
		n = (long)MIN(strlen(mm->exe_file->path), size - 1);
		memcpy(buf, mm->exe_file->path, (size_t)n);
		buf[n] = '\0';
	}
	mmput(mm);
	return n;
}

void procfs_follow_exe(int dirfd, char *path, size_t size)
{
	struct procfs_name name;
	size_t n = strlen(path);

	if (n < 3 || strcmp(path + n - 3, "exe"))
		return;
	if (procfs_parse(dirfd, path, &name) && name.kind == PROCFS_EXE)
		procfs_exe(name.pid, path, size);
}
