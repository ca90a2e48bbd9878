/*
 * What a running machine shows to its commands: /proc files, processes, address translation, physical memory; and the context of
 * a program that joins.  Runs in the supervisor, by the same text functions that serve the guests' own /proc.
 *
 * Locks: q->tasks.lock and q->lock for a moment each; the text functions take their own.
 */
#include "sup_control_views.h"
#include "procfs.h"
#include "revoke.h"
#include "../../proc/proc.h"

#define PATH_ROOM 160u
#define NO_DIRECTORY (-100) /* AT_FDCWD: paths are absolute */

long control_proc_text(const char *file, char *buf, size_t size)
{
	char path[PATH_ROOM];
	struct fmt_buf p = fmt_init(path, sizeof(path)), out = fmt_init(buf, size);
	struct procfs_name name;
	int r;

	fmt_printf(&p, "%s%s", *file == '/' ? "" : "/proc/", file);
	if (fmt_truncated(&p) || !procfs_parse(NO_DIRECTORY, path, &name))
		return -ENOENT;
	if (procfs_is_binary(name.kind) || name.kind == PROCFS_EXE || name.kind == PROCFS_DROP_CACHES ||
	    name.kind == PROCFS_COMPACT_MEMORY)
		return -EINVAL;
	r = procfs_text(&name, &out);
	return r ? r : (long)out.len;
}

long control_pids(s32 *out, u32 n)
{
	struct quire *q = &shared_area()->q;
	struct task *t;
	u32 count = 0;

	spin_lock(&q->tasks.lock);
	for (t = q->tasks.first; t; t = t->next) {
		if (t->pid <= 0) /* fork has not told the number yet */
			continue;
		if (count < n)
			out[count] = t->pid;
		count++;
	}
	spin_unlock(&q->tasks.lock);
	return (long)count;
}

long control_translate(s32 pid, u64 addr, char *buf, size_t size)
{
	struct quire *q = &shared_area()->q;
	struct fmt_buf out = fmt_init(buf, size);
	struct task *t = task_find_get(q, pid);
	struct mm_struct *mm = t ? task_get_mm(t) : NULL;

	if (t)
		task_put(t);
	if (!mm)
		return -ESRCH;
	proc_translate(q, mm, addr, &out);
	mmput(mm);
	return (long)out.len;
}

/*
 * A frame that is free must stay as its owner-to-be expects it (never-used ones are known to be zero), so only frames in use are
 * written; under q->lock they stay so.
 */
static long write_frame(struct quire *q, u64 phys, const void *bytes, size_t n)
{
	pfn_t head, pfn = (pfn_t)(phys >> PAGE_SHIFT);
	enum block_state state;
	unsigned order;
	long r = 0;

	spin_lock(&q->lock);
	state = phys_lookup(q, pfn, &head, &order);
	if (state == BLOCK_RESERVED)
		r = -EPERM;
	else if (state != BLOCK_USED)
		r = -EBUSY;
	else if (pfn_folio(q, pfn)->f.type == FRAME_FILE)
		r = -ENXIO;
	else
		memcpy((u8 *)port_frame_address(q, pfn) + (phys & (PAGE_SIZE - 1)), bytes, n);
	spin_unlock(&q->lock);
	return r;
}

long control_devmem_write(u64 phys, const void *bytes, size_t n)
{
	struct quire *q = &shared_area()->q;
	const u8 *from = bytes;
	long r = 0;

	if (phys >= q->cfg.memory || n > q->cfg.memory - phys)
		return -ERANGE;
	while (n && !r) {
		size_t part = MIN(n, PAGE_SIZE - (phys & (PAGE_SIZE - 1)));

		r = write_frame(q, phys, from, part);
		phys += part;
		from += part;
		n -= part;
	}
	return r;
}

u32 control_join(s32 pid, u64 *serial)
{
	struct quire *q = &shared_area()->q;
	struct task *t = task_find_get(q, pid);
	struct ctx *c;

	if (t) {
		task_put(t);
		return 0;
	}
	*serial = process_serial_new();
	c = ctx_alloc(q, pid, *serial);
	if (!c)
		return 0;
	/* So that the end of the machine finds it before it has bound the context. */
	c->port_data[CTXP_BIRTH] = birth_word(*serial, BIRTH_BORN, pid);
	return c->id;
}
