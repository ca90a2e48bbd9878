/*
 * Anchors: how a process maps a host file long after the guest closed its descriptor.
 *
 * When the guest maps a file, the kernel maps the whole file once, hidden above the guest's range (MAP_SHARED, PROT_READ).
 * mremap(anchor + off, 0, len, ...) duplicates a shared mapping without a descriptor (mremap(2), old_size 0), so refills
 * need no descriptor, and fork carries anchors to children for free.  The anchor keeps the inode alive, so (dev, ino) names
 * the file for as long as the anchor exists.
 *
 * One anchor per (file, protection); `writable` ones come from a descriptor open for writing.  Under kproc.install.
 */
#include "refill.h"
#include "hostsys.h"
#include <fmt.h>
#include <linux/fcntl.h>

#define MAX_ANCHORS 4096u
#define ANCHOR_GAP (1ull << 21)
#define KEEP_ANCHORS 64u
#define SHM_RDONLY_ 010000 /* shmat(2) */

struct anchor_slot {
	u64 dev, ino, addr, len;
	u32 prot;
	bool writable;
	bool segment; /* System V: every anchor counts as an attachment, so none is kept without need */
};
static struct anchor_slot slots[MAX_ANCHORS];
static u32 nslots;
static u64 next_addr = ANCHOR_BASE;
static u32 holders;      /* threads that use an anchor which no mapping keeps (yet) */
static bool trim_wanted; /* somebody would have trimmed meanwhile */

static struct anchor_slot *find_exactly(u64 dev, u64 ino, u32 prot, bool writable, u64 end)
{
	u32 i;

	for (i = 0; i < nslots; i++)
		if (slots[i].ino == ino && slots[i].dev == dev && slots[i].prot == prot && slots[i].len >= end &&
		    slots[i].writable == writable)
			return &slots[i];
	return NULL;
}

/* What need not be writable is not, if there is a choice: every mapping made from a writable one is a writer's for the host. */
static struct anchor_slot *find(u64 dev, u64 ino, u32 prot, bool writable, u64 end)
{
	struct anchor_slot *s = writable ? NULL : find_exactly(dev, ino, prot, false, end);

	return s ? s : find_exactly(dev, ino, prot, true, end);
}

static struct anchor_slot *add(u64 dev, u64 ino, u64 len, u32 prot, bool writable)
{
	struct anchor_slot *s;

	if (nslots == MAX_ANCHORS || next_addr + len + ANCHOR_GAP > ANCHOR_END)
		return NULL;
	s = &slots[nslots++];
	*s = (struct anchor_slot){ dev, ino, next_addr, len, prot, writable, false };
	next_addr += ALIGN_UP(len, ANCHOR_GAP) + ANCHOR_GAP;
	return s;
}

/* A descriptor of the same file that cannot write; negative if there is none to be had. */
static long reopen_readonly(int fd)
{
	char path[40];
	struct fmt_buf b = fmt_init(path, sizeof(path));

	fmt_printf(&b, "/proc/self/fd/%d", fd);
	return host_call(__NR_openat, HOST_AT_FDCWD, path, HOST_O_CLOEXEC);
}

/*
 * A writable one is mapped for writing first: only then does the host check seals and count the mapping as a writer's.  What
 * is only read must not count as one, or a file that is mapped privately could not be sealed: the host goes by the descriptor.
 */
static long map_anchor(const struct anchor_slot *s, int fd)
{
	u32 prot = PROT_READ | (s->writable ? PROT_WRITE : 0);
	bool may_write = !s->writable && (host_call(__NR_fcntl, fd, F_GETFL) & O_ACCMODE) == O_RDWR;
	long reader = may_write ? reopen_readonly(fd) : -1;
	long ret = host_call(__NR_mmap, s->addr, s->len, prot, MAP_SHARED | MAP_FIXED, reader < 0 ? fd : reader, 0);

	if (ret >= 0 && s->writable)
		ret = host_call(__NR_mprotect, s->addr, s->len, PROT_READ);
	if (reader >= 0)
		host_call(__NR_close, reader);
	return ret;
}

long anchor_create(int fd, u64 dev, u64 ino, u64 end, bool writable)
{
	struct anchor_slot *s;
	long ret = 0;

	install_lock();
	if (!find_exactly(dev, ino, PROT_READ, writable, end)) {
		s = add(dev, ino, PAGE_ALIGN(end), PROT_READ, writable);
		ret = s ? map_anchor(s, fd) : -ENOMEM;
		if (s && ret < 0)
			nslots--;
	}
	install_unlock();
	return ret < 0 ? ret : 0;
}

/* The same for a System V segment: attached instead of mapped. */
long anchor_attach(int shmid, u64 dev, u64 ino, u64 size, bool writable)
{
	struct anchor_slot *s;
	long ret = 0;

	install_lock();
	if (!find_exactly(dev, ino, PROT_READ, writable, size)) { /* in_use() keeps each for its own kind of mapping */
		s = add(dev, ino, PAGE_ALIGN(size), PROT_READ, writable);
		ret = s ? host_call(__NR_shmat, shmid, s->addr, writable ? 0 : SHM_RDONLY_) : -ENOMEM;
		if (s && ret >= 0)
			ret = host_call(__NR_mprotect, s->addr, s->len, PROT_READ);
		if (s && ret < 0)
			nslots--;
		else if (s)
			s->segment = true;
	}
	install_unlock();
	return ret < 0 ? ret : 0;
}

/* The anchor that already has the wanted protection and length; made from a readable one when it is missing. */
static struct anchor_slot *with_prot(u64 dev, u64 ino, u32 prot, u64 end)
{
	struct anchor_slot *s = find(dev, ino, prot, prot & PROT_WRITE, end), *base;

	if (s)
		return s;
	/* Also from one that is too short: a mapping may have grown (mremap) since its file was anchored. */
	base = find(dev, ino, PROT_READ, prot & PROT_WRITE, 0);
	if (!base)
		return NULL;
	s = add(dev, ino, MAX(base->len, PAGE_ALIGN(end)), prot, base->writable);
	if (!s)
		return NULL;
	s->segment = base->segment;
	if (host_call(__NR_mremap, base->addr, 0, s->len, MREMAP_MAYMOVE | MREMAP_FIXED, s->addr) < 0 ||
	    host_call(__NR_mprotect, s->addr, s->len, prot) < 0) {
		host_call(__NR_munmap, s->addr, s->len);
		nslots--;
		return NULL;
	}
	return s;
}

long anchor_map(u64 dev, u64 ino, u64 off, u64 addr, u64 len, u32 prot)
{
	struct anchor_slot *s = with_prot(dev, ino, prot, off + len);

	if (!s)
		return -EBADF;
	return host_call(__NR_mremap, s->addr + off, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr);
}

void *anchor_bytes(u64 dev, u64 ino, u64 off, bool write, u64 *avail)
{
	u32 prot = write ? PROT_READ | PROT_WRITE : PROT_READ;
	struct anchor_slot *s = with_prot(dev, ino, prot, off + 1);

	if (!s)
		return NULL;
	*avail = s->len - off;
	return (void *)(s->addr + off);
}

/* Private mappings have one that is only read. */
static bool in_use(struct mm_struct *mm, const struct anchor_slot *s)
{
	struct vm_area_struct *vma;

	for (vma = vma_first(mm); vma; vma = vma_next(mm, vma))
		if (vma->vm_file && vma->vm_file->mapping->dev == s->dev && vma->vm_file->mapping->ino == s->ino &&
		    (!s->writable || (vma->vm_flags & VM_SHARED)))
			return true;
	return false;
}

/*
 * Those that the address space does not map go: when there are many, and always segments (attachments are counted) and
 * writable ones (a file with a writable mapping cannot be sealed, executed, or made a swap file).
 */
bool anchors_counted(void)
{
	u32 i;

	for (i = 0; i < nslots; i++)
		if (slots[i].segment || slots[i].writable)
			return true;
	return false;
}

static void trim(void)
{
	bool many = nslots > KEEP_ANCHORS;
	u32 i, kept = 0;

	trim_wanted = holders;
	if (holders)
		return;
	for (i = 0; i < nslots; i++) {
		bool keep = !many && !slots[i].segment && !slots[i].writable;

		if (!keep) {
			spin_lock(&kproc.mm->lock);
			keep = in_use(kproc.mm, &slots[i]);
			spin_unlock(&kproc.mm->lock);
		}
		if (keep)
			slots[kept++] = slots[i];
		else
			host_call(__NR_munmap, slots[i].addr, slots[i].len);
	}
	nslots = kept;
}

void anchors_trim(void)
{
	install_lock();
	trim();
	install_unlock();
}

void anchors_hold(void)
{
	install_lock();
	holders++;
	install_unlock();
}

void anchors_release(void)
{
	install_lock();
	holders--;
	if (trim_wanted)
		trim();
	install_unlock();
}

void anchors_forget_holders(void)
{
	if (holders) /* a store would cost each child a copy of the page */
		holders = 0;
}
