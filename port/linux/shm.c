/*
 * System V shared memory.  Segments are the host's, so that they are coherent with other host processes and survive their
 * creator; here they look like mapped files: the segment is attached once, hidden, as an anchor, and the guest's mappings are
 * refilled from it.  maps prints what Linux does: "/SYSVkkkkkkkk (deleted)", device 00:01, inode = identifier.
 *
 * The host counts the anchor and every refill as an attachment; shmctl corrects that for the guest, but other host processes
 * see too many while a machine has the segment attached (CAVEATS.md).
 */
#include "hostfile.h"
#include "hostsys.h"
#include "memory.h"
#include "refill.h"
#include "../../sys/sys.h"
#include "fmt.h"
#include <linux/ipc.h>
#include <linux/shm.h>

#define SHM_DEV 1ull /* what stat and maps show for the kernel's internal tmpfs */
#define SHMLBA PAGE_SIZE

struct shm_segment {
	u64 size;
	u32 key;
	bool writable;
};

static long segment_stat(int id, struct shm_segment *seg)
{
	struct shmid64_ds ds;
	long ret = host_call(__NR_shmctl, id, IPC_STAT, &ds);

	if (ret < 0)
		return ret;
	seg->size = ds.shm_segsz;
	seg->key = (u32)ds.shm_perm.key;
	return 0;
}

/* A file object over the segment.  ERR_PTR as shmat(2) would fail. */
static struct file *segment_file(int id, const struct shm_segment *seg)
{
	struct quire *q = kthread()->ctx->q;
	struct address_space *m;
	struct fmt_buf b;
	struct file *f;
	char path[40];
	long ret = anchor_attach(id, SHM_DEV, (u64)id, seg->size, seg->writable);

	if (ret)
		return ERR_PTR(ret);
	m = mapping_get(q, SHM_DEV, (u64)id, &hostfile_ops, AS_TOKEN);
	if (!m)
		return ERR_PTR(-ENOMEM);
	b = fmt_init(path, sizeof(path));
	fmt_printf(&b, "/SYSV%08x (deleted)", seg->key);
	f = file_create(q, m, FMODE_READ | FMODE_NOMULTI | (seg->writable ? FMODE_WRITE : 0), path);
	mapping_put(m);
	return f ? f : ERR_PTR(-ENOMEM);
}

long guest_shmat(int id, u64 addr, u64 flags)
{
	struct shm_segment seg = { .writable = !(flags & SHM_RDONLY) };
	u64 prot = PROT_READ | (seg.writable ? PROT_WRITE : 0) | ((flags & SHM_EXEC) ? PROT_EXEC : 0);
	u64 how = MAP_SHARED;
	struct file *f;
	long ret;

	if (id < 0)
		return -EINVAL;
	if (addr) {
		if (flags & SHM_RND)
			addr &= ~(SHMLBA - 1);
		if ((addr & (SHMLBA - 1)) || !addr)
			return -EINVAL;
		how |= (flags & SHM_REMAP) ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	} else if (flags & SHM_REMAP) {
		return -EINVAL;
	}
	ret = segment_stat(id, &seg);
	if (ret)
		return ret;
	anchors_hold();
	f = segment_file(id, &seg);
	if (IS_ERR(f))
		ret = PTR_ERR(f);
	else if (addr + seg.size < addr && !(flags & SHM_REMAP))
		ret = -EINVAL; /* as if something were mapped there */
	else
		ret = sys_mmap(kproc.task, addr, seg.size, prot, how, f, 0);
	if (!IS_ERR(f))
		file_put(f);
	anchors_release();
	return ret == -EEXIST ? -EINVAL : ret;
}

/* Attachments that the machine's programs have; false if none ever mapped the segment. */
static bool count_attached(int id, u64 *n)
{
	struct quire *q = kthread()->ctx->q;
	struct address_space *m = mapping_find(q, SHM_DEV, (u64)id);
	struct vm_area_struct *vma;

	if (!m)
		return false;
	*n = 0;
	spin_lock(&q->lock);
	for (vma = m->i_mmap; vma; vma = vma->i_mmap_next)
		*n += vma->vm_pgoff == 0;
	spin_unlock(&q->lock);
	mapping_put(m);
	return true;
}

/* The host counts anchors and refills; the guest is told of its own attachments. */
long guest_shmctl(struct trap *t, const u64 a[6])
{
	long ret = native_syscall(t, __NR_shmctl, a);
	u64 cmd = a[1] & ~(u64)IPC_64, n;

	if (ret < 0 || (cmd != IPC_STAT && cmd != SHM_STAT && cmd != SHM_STAT_ANY))
		return ret;
	if (count_attached(cmd == IPC_STAT ? (int)a[0] : (int)ret, &n) &&
	    copy_to_user(a[2] + offsetof(struct shmid64_ds, shm_nattch), &n, sizeof(n)))
		return -EFAULT;
	return ret;
}

/*
 * The next piece, at or after *from, of a segment whose first byte would lie at addr: mprotect and munmap may have split
 * it or taken its beginning away (ksys_shmdt() in Linux).  *id is ~0 for the first one found, which decides.
 */
static bool next_fragment(u64 addr, u64 *from, u64 *len, u64 *id)
{
	struct mm_struct *mm = kproc.mm;
	struct vm_area_struct *vma;

	spin_lock(&mm->lock);
	for (vma = find_vma(mm, *from); vma; vma = vma_next(mm, vma)) {
		const struct address_space *m = vma->vm_file ? vma->vm_file->mapping : NULL;

		if (m && (vma->vm_file->mode & FMODE_NOMULTI) && m->ops == &hostfile_ops && (*id == ~0ull || m->ino == *id) &&
		    vma_start(vma) >= addr && vma_start(vma) - addr == vma->vm_pgoff << PAGE_SHIFT)
			break;
	}
	if (vma) {
		*id = vma->vm_file->mapping->ino;
		*from = vma_start(vma);
		*len = vma_end(vma) - vma_start(vma);
	}
	spin_unlock(&mm->lock);
	return vma;
}

long guest_shmdt(u64 addr)
{
	u64 from = addr, len, id = ~0ull;
	long ret = -EINVAL;

	if (addr & (SHMLBA - 1))
		return -EINVAL;
	while (next_fragment(addr, &from, &len, &id)) {
		ret = sys_munmap(kproc.task, from, len);
		if (ret)
			return ret;
		from += len;
	}
	if (!ret)
		anchors_trim();
	return ret;
}
