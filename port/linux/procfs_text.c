/*
 * What the served files contain, and what writing to them does.
 *
 * The core's views (proc/) know memory; the host knows the rest of a process (states, CPU times, terminals, capabilities).
 * status and stat are merged: the host's file with the memory fields replaced.  What only shows that a kernel lives inside the
 * process (its seccomp filter, its signal handlers) is replaced too.
 */
#include "procfs.h"
#include "x86_64/native_nr.h"
#include "../../file/filemap.h"
#include "../../proc/phys_views.h"
#include "../../proc/proc.h"
#include "../../reclaim/reclaim.h"

#define HOST_O_RDONLY_CLOEXEC 02000000
#define STATUS_ROOM 4096u
#define STAT_ROOM 1024u
#define CHUNK 1024u             /* bytes moved at once; on the stack */
#define TITLE_MAX 4096u         /* a title written over the arguments (Linux: one page) */
#define NEVER_IGNORED 2         /* handler values up to SIG_IGN = 1 are not functions */

static long host_file(const struct procfs_name *name, const char *leaf, char *buf, size_t size)
{
	char path[80];
	struct fmt_buf b = fmt_init(path, sizeof(path));
	size_t done = 0;
	long fd, n;

	if (name->tid)
		fmt_printf(&b, "/proc/%d/task/%d/%s", name->pid, name->tid, leaf);
	else
		fmt_printf(&b, "/proc/%d/%s", name->pid, leaf);
	fd = host_call(__NR_openat, -100, path, HOST_O_RDONLY_CLOEXEC, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESRCH : fd;
	while ((n = host_call(__NR_read, fd, buf + done, size - 1 - done)) > 0)
		done += (size_t)n;
	host_call(__NR_close, fd);
	buf[done] = '\0';
	return n < 0 ? n : (long)done;
}

/* ---- status ---- */

static bool starts_with(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

/* The signals that this process's program handles or ignores. */
static u64 signal_set(bool ignored)
{
	u64 set = 0;
	int i;

	for (i = 1; i <= NSIG; i++) {
		u64 handler = READ_ONCE(kproc.sigaction[i].handler);

		if (ignored ? handler == NEVER_IGNORED - 1 : handler >= NEVER_IGNORED)
			set |= BIT(i - 1);
	}
	return set;
}

/* Puts what replaces a line of the host's; false when the line is right as it is. */
static bool replace_line(const struct procfs_name *name, struct mm_struct *mm, const char *line, struct fmt_buf *out)
{
	bool own = name->pid == kproc.pid;

	if (starts_with(line, "VmPeak:")) {
		if (mm)
			proc_status_vm(mm->q, mm, out);
		return true;
	}
	if (starts_with(line, "Vm") || starts_with(line, "Rss"))
		return true;
	if (starts_with(line, "Seccomp:") || starts_with(line, "Seccomp_filters:") || starts_with(line, "NoNewPrivs:")) {
		const char *end = line;

		while (*end != ':')
			end++;
		fmt_write(out, line, (size_t)(end - line));
		fmt_printf(out, ":\t%u\n", own && starts_with(line, "NoNewPrivs:") ? kproc.no_new_privs : 0);
		return true;
	}
	if (own && starts_with(line, "SigIgn:"))
		return fmt_printf(out, "SigIgn:\t%016lx\n", (unsigned long)signal_set(true)), true;
	if (own && starts_with(line, "SigCgt:"))
		return fmt_printf(out, "SigCgt:\t%016lx\n", (unsigned long)signal_set(false)), true;
	return false;
}

static int text_status(const struct procfs_name *name, struct mm_struct *mm, struct fmt_buf *out)
{
	char host[STATUS_ROOM], *line = host;
	long n = host_file(name, "status", host, sizeof(host));

	if (n < 0)
		return (int)n;
	while (*line) {
		size_t len = 0;

		while (line[len] && line[len] != '\n')
			len++;
		len += line[len] == '\n';
		if (!replace_line(name, mm, line, out))
			fmt_write(out, line, len);
		line += len;
	}
	return 0;
}

/* ---- stat ---- */

/* proc_pid_stat(5): minflt, majflt, vsize, rss, code and stack addresses, data to environment. */
#define FIELD(n) BIT(n)
#define MACHINE_FIELDS (FIELD(10) | FIELD(12) | FIELD(23) | FIELD(24) | FIELD(26) | FIELD(27) | FIELD(28) | FIELD(45) | \
			FIELD(46) | FIELD(47) | FIELD(48) | FIELD(49) | FIELD(50) | FIELD(51))
#define HIDDEN_FIELDS (FIELD(29) | FIELD(30)) /* stack pointer and ip: the kernel's */

/* Behind the last ')', at the blank before field 3. */
static const char *after_comm(const char *s)
{
	const char *p = s;

	for (; *s; s++)
		if (*s == ')')
			p = s + 1;
	return p;
}

static const char *next_field(const char *s, size_t *len)
{
	while (*s == ' ')
		s++;
	*len = 0;
	while (s[*len] && s[*len] != ' ' && s[*len] != '\n')
		++*len;
	return s;
}

static int text_stat(const struct procfs_name *name, struct task *t, struct fmt_buf *out)
{
	char host[STAT_ROOM], ours[STAT_ROOM];
	struct fmt_buf mine = fmt_init(ours, sizeof(ours));
	long n = host_file(name, "stat", host, sizeof(host));
	const char *h, *m;
	size_t hl, ml;
	unsigned field;

	if (n < 0)
		return (int)n;
	proc_stat(t->q, t, &mine);
	h = after_comm(host);
	m = after_comm(ours);
	fmt_write(out, host, (size_t)(h - host));
	for (field = 3;; field++, h += hl, m += ml) {
		h = next_field(h, &hl);
		m = next_field(m, &ml);
		if (!hl)
			break;
		fmt_putc(out, ' ');
		if (field < 64 && HIDDEN_FIELDS & FIELD(field))
			fmt_putc(out, '0');
		else if (field < 64 && MACHINE_FIELDS & FIELD(field) && ml)
			fmt_write(out, m, ml);
		else
			fmt_write(out, h, hl);
	}
	fmt_putc(out, '\n');
	return 0;
}

/* ---- arguments and environment ---- */

/* Bytes [start, end) of the process, or up to and with the first NUL. */
static void put_memory(struct mm_struct *mm, u64 start, u64 end, bool to_nul, struct fmt_buf *out)
{
	char chunk[CHUNK];

	while (start < end) {
		long n = access_process_vm(mm, start, chunk, MIN(end - start, CHUNK), false), i;

		if (n <= 0)
			return;
		for (i = 0; to_nul && i < n; i++) {
			if (!chunk[i]) {
				fmt_write(out, chunk, (size_t)i + 1);
				return;
			}
		}
		fmt_write(out, chunk, (size_t)n);
		start += (u64)n;
	}
}

static void text_cmdline(struct mm_struct *mm, struct fmt_buf *out)
{
	struct mm_usage u;
	char last = 0;

	mm_usage_get(mm, &u);
	if (u.arg_end <= u.arg_start)
		return;
	/* A program that writes a title over its arguments may run on into the environment (setproctitle). */
	if (access_process_vm(mm, u.arg_end - 1, &last, 1, false) == 1 && last)
		put_memory(mm, u.arg_start, MIN(MAX(u.env_end, u.arg_end), u.arg_start + TITLE_MAX), true, out);
	else
		put_memory(mm, u.arg_start, u.arg_end, false, out);
}

static void text_environ(struct mm_struct *mm, struct fmt_buf *out)
{
	struct mm_usage u;

	mm_usage_get(mm, &u);
	put_memory(mm, u.env_start, u.env_end, false, out);
}

/* ---- which is which ---- */

static void mm_text(struct quire *q, u32 kind, struct mm_struct *mm, struct fmt_buf *out)
{
	switch (kind) {
	case PROCFS_MAPS: proc_maps(q, mm, out); break;
	case PROCFS_SMAPS: proc_smaps(q, mm, out); break;
	case PROCFS_SMAPS_ROLLUP: proc_smaps_rollup(q, mm, out); break;
	case PROCFS_STATM: proc_statm(q, mm, out); break;
	case PROCFS_AUXV: proc_auxv(q, mm, out); break;
	case PROCFS_CMDLINE: text_cmdline(mm, out); break;
	case PROCFS_ENVIRON: text_environ(mm, out); break;
	}
}

static int process_text(const struct procfs_name *name, struct task *t, struct fmt_buf *out)
{
	struct quire *q = t->q;
	struct mm_struct *mm;
	int r = 0;

	if (name->kind == PROCFS_STAT)
		return text_stat(name, t, out);
	if (name->kind == PROCFS_OOM_SCORE)
		return proc_oom_score(q, t, out), 0;
	if (name->kind == PROCFS_OOM_SCORE_ADJ)
		return proc_oom_score_adj(q, t, out), 0;
	if (name->kind == PROCFS_OOM_ADJ)
		return proc_oom_adj(t, out), 0;
	mm = task_get_mm(t);
	if (name->kind == PROCFS_STATUS)
		r = text_status(name, mm, out);
	else if (mm)
		mm_text(q, name->kind, mm, out);
	else if (name->kind == PROCFS_STATM)
		fmt_printf(out, "0 0 0 0 0 0 0\n"); /* after exit, as Linux */
	if (mm)
		mmput(mm);
	return r;
}

static void put_number(struct fmt_buf *out, u64 v)
{
	fmt_printf(out, "%lu\n", (unsigned long)v);
}

static void machine_text(struct quire *q, u32 kind, struct fmt_buf *out)
{
	switch (kind) {
	case PROCFS_DIRTY ... PROCFS_DIRTY_LAST: fmt_printf(out, "%ld\n", (long)wb_setting_get(q, kind - PROCFS_DIRTY)); break;
	case PROCFS_MEMINFO: proc_meminfo(q, out); break;
	case PROCFS_VMSTAT: proc_vmstat(q, out); break;
	case PROCFS_BUDDYINFO: proc_buddyinfo(q, out); break;
	case PROCFS_ZONEINFO: proc_zoneinfo(q, out); break;
	case PROCFS_PAGETYPEINFO: proc_pagetypeinfo(q, out); break;
	case PROCFS_SLABINFO: proc_slabinfo(q, out); break;
	case PROCFS_VMALLOCINFO: proc_vmallocinfo(q, out); break;
	case PROCFS_SWAPS: proc_swaps(q, out); break;
	case PROCFS_PRESSURE_MEMORY: proc_pressure_memory(q, out); break;
	case PROCFS_OVERCOMMIT_MEMORY: put_number(out, q->cfg.overcommit_memory); break;
	case PROCFS_OVERCOMMIT_RATIO: put_number(out, q->cfg.overcommit_ratio); break;
	case PROCFS_OVERCOMMIT_KBYTES: put_number(out, q->cfg.overcommit_kbytes); break;
	case PROCFS_WATERMARK_SCALE_FACTOR: put_number(out, q->phys.watermark_scale_factor); break;
	case PROCFS_NR_HUGEPAGES: put_number(out, 0); break;
	case PROCFS_MAX_MAP_COUNT: put_number(out, q->cfg.max_map_count); break;
	case PROCFS_MIN_FREE_KBYTES: put_number(out, q->phys.min_free_kbytes); break;
	case PROCFS_SWAPPINESS: put_number(out, q->reclaim.swappiness); break;
	case PROCFS_PAGE_CLUSTER: put_number(out, q->reclaim.page_cluster); break;
	case PROCFS_PANIC_ON_OOM: put_number(out, q->oom.panic_on_oom); break;
	case PROCFS_OOM_KILL_ALLOCATING_TASK: put_number(out, q->oom.kill_allocating_task); break;
	case PROCFS_OOM_DUMP_TASKS: put_number(out, q->oom.dump_tasks); break;
	}
}

int procfs_text(const struct procfs_name *name, struct fmt_buf *out)
{
	struct quire *q = kthread()->ctx->q;
	struct task *t;
	int r;

	if (name->kind < PROCFS_FIRST_OF_PROCESS)
		return machine_text(q, name->kind, out), 0;
	t = task_find_get(q, name->pid);
	if (!t)
		return -ESRCH;
	r = process_text(name, t, out);
	task_put(t);
	return r;
}

bool procfs_is_seq(u32 kind)
{
	return kind == PROCFS_MAPS || kind == PROCFS_SMAPS;
}

int procfs_text_from(const struct procfs_name *name, u64 *next, struct fmt_buf *out)
{
	struct quire *q = kthread()->ctx->q;
	struct task *t = task_find_get(q, name->pid);
	struct mm_struct *mm = t ? task_get_mm(t) : NULL;

	if (t)
		task_put(t);
	if (!mm) {
		*next = PROCFS_SEQ_END;
		return t ? 0 : -ESRCH;
	}
	*next = name->kind == PROCFS_MAPS ? proc_maps_from(q, mm, *next, out) : proc_smaps_from(q, mm, *next, out);
	mmput(mm);
	return 0;
}
_Static_assert(PROCFS_SEQ_END == PROC_VMA_END, "one end");

/* ---- writing ---- */

bool procfs_is_writable(u32 kind)
{
	switch (kind) {
	case PROCFS_OVERCOMMIT_MEMORY: case PROCFS_OVERCOMMIT_RATIO: case PROCFS_MAX_MAP_COUNT:
	case PROCFS_MIN_FREE_KBYTES: case PROCFS_DROP_CACHES: case PROCFS_OOM_SCORE_ADJ: case PROCFS_MEM:
	case PROCFS_SWAPPINESS: case PROCFS_PAGE_CLUSTER: case PROCFS_COMPACT_MEMORY: case PROCFS_DIRTY ... PROCFS_DIRTY_LAST:
	case PROCFS_PANIC_ON_OOM: case PROCFS_OOM_KILL_ALLOCATING_TASK: case PROCFS_OOM_DUMP_TASKS:
	case PROCFS_CLEAR_REFS: case PROCFS_OOM_ADJ: case PROCFS_OVERCOMMIT_KBYTES: case PROCFS_WATERMARK_SCALE_FACTOR:
	case PROCFS_NR_HUGEPAGES: case PROCFS_STAT_REFRESH:
		return true;
	default:
		return false;
	}
}

/* A decimal number, blanks and a newline around it (kstrtoint, proc_dointvec). */
static bool parse_number(const char *s, s64 *v)
{
	bool negative;
	unsigned digits = 0;

	while (*s == ' ' || *s == '\t' || *s == '\n')
		s++;
	negative = *s == '-';
	s += negative || *s == '+';
	for (*v = 0; *s >= '0' && *s <= '9' && digits < 18; s++, digits++)
		*v = *v * 10 + (*s - '0');
	while (*s == ' ' || *s == '\t' || *s == '\n')
		s++;
	if (negative)
		*v = -*v;
	return digits && !*s;
}

static int store_oom_score_adj(s32 pid, s64 adj, bool old_name)
{
	struct task *t = task_find_get(kthread()->ctx->q, pid);
	int r = -ESRCH;

	if (!t)
		return r;
	/* User 0 stands for CAP_SYS_RESOURCE, which containers take from it: this is about the machine's memory, not the host's. */
	r = (old_name ? proc_set_oom_adj : proc_set_oom_score_adj)(t, adj, !host_call(__NR_geteuid));
	task_put(t);
	return r;
}

static int store_clear_refs(s32 pid, s64 type)
{
	struct task *t = task_find_get(kthread()->ctx->q, pid);
	struct mm_struct *mm = t ? task_get_mm(t) : NULL;
	int r = t ? 0 : -ESRCH;

	if (t)
		task_put(t);
	if (mm) {
		r = proc_clear_refs(mm, type);
		mmput(mm);
	}
	return r;
}

/* The n-th file of a hash chain, if it is one of the host's; false at the chain's end. */
static bool nth_file(struct quire *q, unsigned bucket, unsigned n, struct address_space *copy)
{
	struct address_space *m;

	spin_lock(&q->lock);
	for (m = q->files[bucket]; m && n; m = m->hash_next)
		n--;
	if (m) {
		copy->dev = m->dev;
		copy->ino = m->ino;
		copy->ops = m->ops;
		copy->flags = m->flags;
	}
	spin_unlock(&q->lock);
	return m != NULL;
}

/* Drops the machine's page cache of host files.  Mapped folios go too: they fault back in from the host's cache. */
static void drop_page_cache(struct quire *q)
{
	struct address_space copy, *m;
	unsigned bucket, n;

	for (bucket = 0; bucket < FILE_HASH_BUCKETS; bucket++) {
		for (n = 0; nth_file(q, bucket, n, &copy); n++) {
			if (!(copy.flags & AS_TOKEN))
				continue;
			m = mapping_get(q, copy.dev, copy.ino, copy.ops, copy.flags);
			if (!m)
				return;
			invalidate_mapping_range(m, 0, ~0ull & PAGE_MASK);
			mapping_put(m);
		}
	}
}

static void count_drop(struct quire *q, s64 what)
{
	spin_lock(&q->lock);
	count_vm_events(q, DROP_PAGECACHE, what & 1);
	count_vm_events(q, DROP_SLAB, what >> 1 & 1);
	spin_unlock(&q->lock);
}

static int store_setting(struct quire *q, u32 *setting, s64 v, s64 max)
{
	if (v < 0 || v > max)
		return -EINVAL;
	spin_lock(&q->lock);
	*setting = (u32)v;
	spin_unlock(&q->lock);
	return 0;
}

/* Whichever was set last counts; the other one shows 0. */
static int store_commit_limit(struct quire *q, bool kbytes, s64 v)
{
	if (v < 0 || (!kbytes && v > INT_MAX))
		return -EINVAL;
	spin_lock(&q->lock);
	q->cfg.overcommit_kbytes = kbytes ? (u64)v : 0;
	q->cfg.overcommit_ratio = kbytes ? 0 : (u32)v;
	spin_unlock(&q->lock);
	return 0;
}

int procfs_store(const struct procfs_name *name, const char *text, size_t len)
{
	struct quire *q = kthread()->ctx->q;
	s64 v;

	if (!parse_number(text, &v))
		return -EINVAL;
	switch (name->kind) {
	case PROCFS_OOM_SCORE_ADJ:
	case PROCFS_OOM_ADJ:
		return store_oom_score_adj(name->pid, v, name->kind == PROCFS_OOM_ADJ);
	case PROCFS_CLEAR_REFS:
		return store_clear_refs(name->pid, v);
	case PROCFS_OVERCOMMIT_MEMORY:
		return store_setting(q, &q->cfg.overcommit_memory, v, 2);
	case PROCFS_OVERCOMMIT_RATIO: case PROCFS_OVERCOMMIT_KBYTES:
		return store_commit_limit(q, name->kind == PROCFS_OVERCOMMIT_KBYTES, v);
	case PROCFS_WATERMARK_SCALE_FACTOR:
		return v < 1 || v > 3000 ? -EINVAL : (set_watermark_scale_factor(q, (u32)v), 0);
	case PROCFS_NR_HUGEPAGES:
		return v < 0 ? -EINVAL : 0; /* as on Linux when no memory is found for the pool: it stays empty */
	case PROCFS_STAT_REFRESH:
		return 0;
	case PROCFS_MAX_MAP_COUNT:
		return store_setting(q, &q->cfg.max_map_count, v, INT_MAX);
	case PROCFS_MIN_FREE_KBYTES:
		if (v < 0 || (u64)v > q->cfg.memory >> 12)
			return -EINVAL;
		set_min_free_kbytes(q, (u64)v);
		return 0;
	case PROCFS_DIRTY ... PROCFS_DIRTY_LAST:
		/* Kept and shown; pages of files are the host's here, which has its own. */
		return wb_setting_set(q, name->kind - PROCFS_DIRTY, v);
	case PROCFS_SWAPPINESS:
		return set_swappiness(q, v);
	case PROCFS_PAGE_CLUSTER:
		return set_page_cluster(q, v);
	case PROCFS_COMPACT_MEMORY:
		if (v != 1)
			return -EINVAL;
		compact_memory(q);
		return 0;
	case PROCFS_PANIC_ON_OOM:
		return store_setting(q, &q->oom.panic_on_oom, v, 2);
	case PROCFS_OOM_KILL_ALLOCATING_TASK:
		return store_setting(q, &q->oom.kill_allocating_task, v, INT_MAX);
	case PROCFS_OOM_DUMP_TASKS:
		return store_setting(q, &q->oom.dump_tasks, v, INT_MAX);
	case PROCFS_DROP_CACHES:
		/* 1 = page cache, 2 = what shrinkers will give, 3 = both. */
		if (v < 1 || v > 3)
			return -EINVAL;
		if (v & 1)
			drop_page_cache(q);
		if (v & 2)
			drop_slab(q);
		count_drop(q, v);
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- arrays read at an offset ---- */

bool procfs_is_binary(u32 kind)
{
	return kind == PROCFS_MEM || kind == PROCFS_PAGEMAP || kind == PROCFS_KPAGECOUNT || kind == PROCFS_KPAGEFLAGS;
}

static long move_memory(struct mm_struct *mm, u64 buf, u64 len, u64 addr, bool write)
{
	u8 chunk[CHUNK];
	u64 done = 0;

	while (done < len) {
		u64 n = MIN(len - done, CHUNK);
		long got;

		if (write && copy_from_user(chunk, buf + done, n))
			return done ? (long)done : -EFAULT;
		got = access_process_vm_flags(mm, addr + done, chunk, n, write, ACCESS_FORCE);
		if (got <= 0)
			return done ? (long)done : -EIO;
		if (!write && copy_to_user(buf + done, chunk, (size_t)got))
			return done ? (long)done : -EFAULT;
		done += (u64)got;
		if ((u64)got < n)
			break;
	}
	return (long)done;
}

/* n words from index on; fewer at the end. */
static size_t page_words(struct quire *q, u32 kind, struct mm_struct *mm, u64 index, u64 *words, size_t n)
{
	u64 frames = q->cfg.memory >> PAGE_SHIFT;
	size_t i;

	if (kind == PROCFS_PAGEMAP)
		return index < GUEST_END >> PAGE_SHIFT ? proc_pagemap(mm, index << PAGE_SHIFT, words, n) : 0;
	for (i = 0; i < n && index + i < frames; i++)
		words[i] = kind == PROCFS_KPAGECOUNT ? proc_kpagecount(q, (pfn_t)(index + i)) :
						       proc_kpageflags(q, (pfn_t)(index + i));
	return i;
}

static long read_words(struct quire *q, u32 kind, struct mm_struct *mm, u64 buf, u64 len, u64 offset)
{
	u64 words[CHUNK / 8], done = 0;

	if ((offset | len) % 8)
		return -EINVAL;
	while (done < len) {
		size_t n = MIN((len - done) / 8, ARRAY_SIZE(words)), got;

		got = page_words(q, kind, mm, (offset + done) / 8, words, n);
		if (got && copy_to_user(buf + done, words, got * 8))
			return done ? (long)done : -EFAULT;
		done += got * 8;
		if (got < n)
			break;
	}
	return (long)done;
}

long procfs_binary(const struct procfs_name *name, u64 buf, u64 len, u64 offset, bool write)
{
	struct quire *q = kthread()->ctx->q;
	struct mm_struct *mm;
	struct task *t;
	long r;

	if (write && name->kind != PROCFS_MEM)
		return -EBADF;
	if (name->kind < PROCFS_FIRST_OF_PROCESS)
		return read_words(q, name->kind, NULL, buf, len, offset);
	t = task_find_get(q, name->pid);
	mm = t ? task_get_mm(t) : NULL;
	if (t)
		task_put(t);
	if (!mm)
		return 0; /* the process is gone: end of file, as on Linux */
	r = name->kind == PROCFS_MEM ? move_memory(mm, buf, len, offset, write) :
				       read_words(q, name->kind, mm, buf, len, offset);
	mmput(mm);
	return r;
}
