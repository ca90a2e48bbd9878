/*
 * mmap: where a mapping goes, whether it may, and putting it there.  Also brk and the growth of stacks, which are
 * mappings by other names.
 *
 * Order of work, so that a refused call changes nothing: arguments -> address -> permissions -> limits -> charge;
 * after that nothing can fail: old mappings out, new one in (merged if possible), then populate.
 *
 * The order of checks is Linux's (mm/mmap.c of 6.x), because which errno wins is visible.
 * Locks: mmap_lock + mm->lock from finding the address to the end; a search and its insertion lie in one transaction or
 * under mm->busy_*.
 */
#include <mm/vma.h>

#define MAP_32BIT_START 0x40000000ull
#define MAX_LFS_FILESIZE 0x7fffffffffffffffull
/* Flags that MAP_SHARED and MAP_PRIVATE accept and that do nothing, or something elsewhere (Linux's
 * LEGACY_MAP_MASK). */
#define MAP_HUGE_SIZES (0x1full << 26) /* MAP_HUGE_2MB | MAP_HUGE_1GB */
#define LEGACY_MAP_MASK                                                                                                \
	(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE | MAP_GROWSDOWN |       \
	 MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT | MAP_ABOVE4G | \
	 MAP_HUGE_SIZES)

/* ---- where ---- */
static void stack_guard(const struct range_node *n, u64 *before, u64 *after)
{
	const struct vm_area_struct *vma = container_of(n, struct vm_area_struct, node);

	*before = vma_start(vma) - vm_start_gap(vma);
	*after = 0;
}

static u64 min_addr(const struct mm_struct *mm)
{
	u64 lo = mm->abi ? mm->abi->mmap_min_addr : 0;

	return MAX(lo, PAGE_SIZE);
}

/* A wish is granted if the range is free, also of the guard gap of a stack above it. */
static bool hint_is_free(struct mm_struct *mm, u64 addr, u64 len, u64 limit)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	return addr <= limit && len <= limit - addr && (!vma || addr + len <= vm_start_gap(vma));
}

static u64 search_32bit(struct mm_struct *mm, u64 addr, u64 len)
{
	u64 limit = mm->abi->map_32bit_end;

	if (addr && hint_is_free(mm, PAGE_ALIGN(addr), len, limit))
		return PAGE_ALIGN(addr);
	return range_tree_gap_bottom_up(&mm->vmas, MAP_32BIT_START, limit, len, PAGE_SIZE, stack_guard);
}

static u64 search_from_base(struct mm_struct *mm, u64 lo, u64 len, u64 align)
{
	if (mm->mmap_bottom_up)
		return range_tree_gap_bottom_up(&mm->vmas, MAX(lo, mm->mmap_base), mm->task_size, len, align, stack_guard);
	return range_tree_gap_top_down(&mm->vmas, lo, mm->mmap_base, len, align, stack_guard);
}

static u64 search_gap(struct mm_struct *mm, const struct file *file, u64 addr, u64 len, u64 flags)
{
	u64 lo = min_addr(mm), got = ~0ull;

	if ((flags & MAP_32BIT) && mm->abi && mm->abi->map_32bit_end)
		return search_32bit(mm, addr, len);
	addr &= PAGE_MASK;
	if (addr && hint_is_free(mm, addr, len, mm->task_size))
		return addr;
	if ((flags & MAP_ABOVE4G) && mm->abi && mm->abi->map_32bit_end)
		lo = 1ull << 32;
	/* Big anonymous mappings are aligned so that 2 MiB folios fit (Linux: thp_get_unmapped_area since 6.7). */
	if (!file && !addr && !(len & (PMD_SIZE - 1)))
		got = search_from_base(mm, lo, len, PMD_SIZE);
	if (got == ~0ull)
		got = search_from_base(mm, lo, len, PAGE_SIZE);
	if (got == ~0ull && !mm->mmap_bottom_up) /* the space below is full: above mmap_base, as Linux falls back */
		got = range_tree_gap_bottom_up(&mm->vmas, PAGE_ALIGN(mm->task_size / 3), mm->task_size, len, PAGE_SIZE,
					       stack_guard);
	return got;
}

long get_unmapped_area(struct mm_struct *mm, const struct file *file, u64 addr, u64 len, u64 flags)
{
	if (len > mm->task_size)
		return -ENOMEM;
	if (!(flags & MAP_FIXED))
		addr = search_gap(mm, file, addr, len, flags);
	else if (IS_ERR(addr))
		return (long)addr; /* as Linux, which takes it for an error of its own */
	if (addr > mm->task_size - len)
		return -ENOMEM;
	if (!PAGE_ALIGNED(addr))
		return -EINVAL;
	if (addr < min_addr(mm) && mm->abi && mm->abi->mmap_min_addr > addr && !mm->cap_sys_rawio)
		return -EPERM;
	return (long)addr;
}

/* ---- whether ---- */
u64 calc_vm_prot_bits(u64 prot)
{
	return (prot & PROT_READ ? VM_READ : 0) | (prot & PROT_WRITE ? VM_WRITE : 0) | (prot & PROT_EXEC ? VM_EXEC : 0);
}

static u64 calc_vm_flag_bits(u64 flags)
{
	return (flags & MAP_GROWSDOWN ? VM_GROWSDOWN : 0) | (flags & MAP_LOCKED ? VM_LOCKED : 0) |
	       (flags & MAP_STACK ? VM_NOHUGEPAGE : 0) | (flags & MAP_SYNC ? VM_SYNC : 0) |
	       (flags & MAP_DENYWRITE ? VM_DENYWRITE : 0);
}

/* Private or shared mapping of a file.  0 or the errno; adds to *vm_flags. */
static int check_file_mapping(const struct file *file, u64 prot, u64 flags, u64 *vm_flags)
{
	u64 type = flags & MAP_TYPE;
	bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;

	if (!shared && type != MAP_PRIVATE)
		return -EINVAL;
	if (type == MAP_SHARED_VALIDATE && (flags & ~(u64)LEGACY_MAP_MASK))
		return -EOPNOTSUPP;
	if (shared && (prot & PROT_WRITE) && !(file->mode & FMODE_WRITE))
		return -EACCES;
	if (shared) {
		*vm_flags |= VM_SHARED | VM_MAYSHARE;
		if (!(file->mode & FMODE_WRITE))
			*vm_flags &= ~(VM_MAYWRITE | VM_SHARED);
	}
	if (!(file->mode & FMODE_READ))
		return -EACCES;
	if (file->mode & FMODE_NOEXEC) {
		if (*vm_flags & VM_EXEC)
			return -EPERM;
		*vm_flags &= ~VM_MAYEXEC;
	}
	if (file->mode & FMODE_NOMMAP)
		return -ENODEV;
	if (*vm_flags & VM_GROWSDOWN)
		return -EINVAL;
	if (shared && (file->mode & FMODE_SEAL_WRITE)) {
		if (prot & PROT_WRITE)
			return -EPERM;
		*vm_flags &= ~VM_MAYWRITE;
	}
	return 0;
}

static int check_anon_mapping(u64 flags, u64 *vm_flags)
{
	bool grows = *vm_flags & VM_GROWSDOWN;

	switch (flags & MAP_TYPE) {
	case MAP_SHARED: *vm_flags |= VM_SHARED | VM_MAYSHARE; return grows ? -EINVAL : 0;
	case MAP_DROPPABLE:
		*vm_flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP;
		return grows || (flags & MAP_LOCKED) ? -EINVAL : 0;
	case MAP_PRIVATE: return 0;
	default: return -EINVAL;
	}
}

/* Pipes, directories and the like have no size to go beyond. */
static bool file_offset_ok(const struct file *file, u64 pgoff, u64 len)
{
	u64 max = file->mode & FMODE_NOMMAP ? ~0ull : MAX_LFS_FILESIZE;

	return len <= max && pgoff <= (max - len) >> PAGE_SHIFT;
}

/* Everything that depends on the file and the kind of mapping. */
static int check_mapping(struct mm_struct *mm, const struct file *file, u64 prot, u64 flags, const struct vma_proto *p,
			 u64 *vm_flags)
{
	int err;

	if ((flags & MAP_LOCKED) && !can_do_mlock(mm))
		return -EPERM;
	if (!mlock_future_ok(mm, *vm_flags, p->end - p->start))
		return -EAGAIN;
	if (file && !(flags & MAP_ANONYMOUS)) {
		if (!file_offset_ok(file, p->pgoff, p->end - p->start))
			return -EOVERFLOW;
		err = check_file_mapping(file, prot, flags, vm_flags);
	} else {
		err = check_anon_mapping(flags, vm_flags);
	}
	if (!err && (flags & MAP_NORESERVE) && mm->q->cfg.overcommit_memory != 2)
		*vm_flags |= VM_NORESERVE;
	return err;
}

/* ---- putting it there ---- */

/* Pages, and charged pages, of what is mapped in the range now. */
static void count_range(struct mm_struct *mm, u64 start, u64 end, u64 *pages, u64 *charged)
{
	*pages = *charged = 0;
	for (struct vm_area_struct *vma = find_vma(mm, start); vma && vma_start(vma) < end; vma = vma_next(mm, vma)) {
		u64 n = (MIN(vma_end(vma), end) - MAX(vma_start(vma), start)) >> PAGE_SHIFT;

		*pages += n;
		*charged += vma->vm_flags & VM_ACCOUNT ? n : 0;
	}
}

static int charge_new(struct mm_struct *mm, struct vma_proto *p, u64 pages, u64 old_charged)
{
	int err = 0;

	if (!accountable_mapping(p->file, p->vm_flags))
		return 0;
	if (pages > old_charged)
		err = vm_enough_memory(mm, pages - old_charged);
	if (err)
		return err;
	/* What goes is uncharged when it goes; so the new mapping's whole charge must stand by then. */
	vm_unacct_memory(mm->q, pages > old_charged ? -old_charged : -pages);
	p->vm_flags |= VM_ACCOUNT;
	return 0;
}

static void account_new(struct mm_struct *mm, struct vm_area_struct *vma, u64 pages)
{
	/* Such memory is never locked; as on Linux that is settled after merging. */
	if (vma->vm_flags & (VM_SPECIAL | VM_DROPPABLE))
		vma->vm_flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
	vm_stat_account(mm, vma->vm_flags, (s64)pages);
	if (vma->vm_flags & VM_LOCKED)
		mm->locked_vm += pages;
	vma->vm_flags |= VM_SOFTDIRTY;
}

int mmap_region(struct mmu_gather *tlb, struct vma_proto *p)
{
	struct mm_struct *mm = tlb->mm;
	u64 pages = (p->end - p->start) >> PAGE_SHIFT, old_pages, old_charged;
	int err;

	count_range(mm, p->start, p->end, &old_pages, &old_charged);
	/* Linux splits before it looks at the limits, and leaves it so. */
	err = old_pages ? split_ends(mm, p->start, p->end) : 0;
	if (err)
		return err;
	if (!may_expand_vm(mm, p->vm_flags, pages - old_pages))
		return -ENOMEM;
	err = charge_new(mm, p, pages, old_charged);
	if (err)
		return err;
	if (old_pages)
		unmap_region(tlb, p->start, p->end);
	account_new(mm, vma_create(mm, p), pages);
	return 0;
}

/* Under the locks.  The address, or the errno with nothing changed. */
static long mmap_locked(struct mmu_gather *tlb, struct file *file, struct file *shmem, u64 addr, u64 len, u64 prot,
			u64 flags, u64 pgoff, u64 *vm_flags)
{
	struct mm_struct *mm = tlb->mm;
	struct vma_proto p = {.file = shmem ? shmem : file, .pgoff = pgoff};
	struct vm_area_struct *vma;
	int err;

	if (mm->vmas.count > max_map_count(mm->q))
		return -ENOMEM;
	*vm_flags = calc_vm_prot_bits(prot) | calc_vm_flag_bits(flags) | mm->def_flags | VM_MAYREAD | VM_MAYWRITE |
		    VM_MAYEXEC;
	addr = (u64)get_unmapped_area(mm, p.file, addr, len, flags);
	if (IS_ERR(addr))
		return (long)addr;
	vma = find_vma(mm, addr);
	if ((flags & MAP_FIXED_NOREPLACE) && vma && vma_start(vma) < addr + len)
		return -EEXIST;
	p.start = addr;
	p.end = addr + len;
	err = check_mapping(mm, file, prot, flags, &p, vm_flags);
	if (err)
		return err;
	if (map_deny_write_exec(mm, *vm_flags, *vm_flags))
		return -EACCES;
	if (!p.file)
		p.pgoff = addr >> PAGE_SHIFT;
	p.vm_flags = *vm_flags;
	err = mm_prepare(mm, PREPARE_MAX);
	if (!err)
		err = mmap_region(tlb, &p);
	return err ? err : (long)addr;
}

/* Anonymous shared memory is a file of the machine's own that nobody else can name. */
static struct file *shared_anon_file(struct quire *q, u64 len, u64 flags, u64 vm_flags)
{
	if (!(flags & MAP_ANONYMOUS) || (flags & MAP_TYPE) != MAP_SHARED)
		return NULL;
	if (!q->hooks.shmem_file_setup)
		return ERR_PTR(-ENODEV);
	return q->hooks.shmem_file_setup(q, "/dev/zero (deleted)", len, vm_flags);
}

static int check_mmap(const struct mm_struct *mm, struct file *file, u64 *len, u64 flags, u64 pgoff)
{
	if (flags & MAP_HUGETLB)
		return file && !(flags & MAP_ANONYMOUS) ? -EINVAL : -ENOMEM;
	if (!*len)
		return -EINVAL;
	*len = PAGE_ALIGN(*len);
	if (!*len)
		return -ENOMEM;
	if (pgoff + (*len >> PAGE_SHIFT) < pgoff)
		return -EOVERFLOW;
	return *len > mm->task_size ? -ENOMEM : 0;
}

long do_mmap(struct mm_struct *mm, struct file *file, u64 addr, u64 len, u64 prot, u64 flags, u64 pgoff)
{
	struct mmu_gather tlb;
	struct file *shmem;
	u64 vm_flags = 0;
	long ret = check_mmap(mm, file, &len, flags, pgoff);

	if (ret)
		return ret;
	if (flags & MAP_ANONYMOUS)
		file = NULL;
	else if (!file)
		return -EBADF;
	if (flags & MAP_FIXED_NOREPLACE)
		flags |= MAP_FIXED;
	if (!(flags & MAP_FIXED) && (addr &= PAGE_MASK) && addr < min_addr(mm))
		addr = PAGE_ALIGN(min_addr(mm));
	shmem = shared_anon_file(mm->q, len, flags, flags & MAP_NORESERVE ? VM_NORESERVE : 0);
	if (IS_ERR(shmem))
		return PTR_ERR(shmem);
	tlb_gather_mmu(&tlb, mm);
	mmap_write_begin(mm);
	ret = mmap_locked(&tlb, file, shmem, addr, len, prot, flags, shmem ? 0 : pgoff, &vm_flags);
	finish_call(&tlb);
	if (shmem)
		mm->q->hooks.file_put(shmem);
	if (!IS_ERR(ret) && ((vm_flags & VM_LOCKED) || (flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE))
		populate(mm, (u64)ret, (u64)ret + len, false);
	return ret;
}

/* The kernel's own mappings: no checks but for room. */
static long map_kernel(struct mm_struct *mm, struct vma_proto *p, u64 len, bool fixed)
{
	struct mmu_gather tlb;
	long ret;

	tlb_gather_mmu(&tlb, mm);
	mmap_write_begin(mm);
	/* What the port maps by itself (a vdso) may lie beyond the program's own range. */
	if (fixed && (p->vm_flags & VM_PFNMAP))
		ret = (long)p->start;
	else
		ret = get_unmapped_area(mm, NULL, p->start, len, fixed ? MAP_FIXED : 0);
	if (!IS_ERR(ret)) {
		int err;

		p->start = (u64)ret;
		p->end = p->start + len;
		p->pgoff = p->start >> PAGE_SHIFT;
		err = mm_prepare(mm, PREPARE_MAX);
		if (!err)
			err = mmap_region(&tlb, p);
		ret = err ? err : ret;
	}
	finish_call(&tlb);
	return ret;
}

int mm_map_fixed(struct mm_struct *mm, u64 addr, u64 len, u64 vm_flags)
{
	struct vma_proto p = {.start = addr, .vm_flags = vm_flags};
	long ret = map_kernel(mm, &p, PAGE_ALIGN(len), true);

	return IS_ERR(ret) ? (int)ret : 0;
}

long install_special_mapping(struct mm_struct *mm, u64 addr, u64 len, u64 vm_flags, const char *name)
{
	struct vma_proto p = {.start = addr, .vm_flags = vm_flags | VM_PFNMAP | VM_DONTEXPAND, .name = name};

	return map_kernel(mm, &p, PAGE_ALIGN(len), addr != 0);
}

/* ---- remap_file_pages: a part of a shared mapping shows another part of its file ---- */

/* Do mappings of the same file, alike and without a hole, cover [start, end)?  vma holds start.  Under mm->lock. */
static bool one_shared_mapping(struct mm_struct *mm, struct vm_area_struct *vma, u64 end)
{
	struct vm_area_struct *next;

	if (!vma || !(vma->vm_flags & VM_SHARED))
		return false;
	for (; vma_end(vma) < end; vma = next) {
		next = vma_next(mm, vma);
		if (!next || vma_start(next) != vma_end(vma) || next->vm_file != vma->vm_file ||
		    next->vm_flags != vma->vm_flags)
			return false;
	}
	return true;
}

/* As Linux since 4.0: an ordinary mapping, put over the old one (remap_file_pages(2)). */
long do_remap_file_pages(struct mm_struct *mm, u64 start, u64 size, u64 prot, u64 pgoff, u64 flags)
{
	struct vm_area_struct *vma;
	struct file *file = NULL;
	u64 vm_flags = 0;
	long ret;

	start &= PAGE_MASK;
	size &= PAGE_MASK;
	if (prot || start + size <= start || pgoff + (size >> PAGE_SHIFT) < pgoff)
		return -EINVAL;
	spin_lock(&mm->lock);
	vma = vma_lookup(mm, start);
	if (one_shared_mapping(mm, vma, start + size)) {
		file = vma->vm_file;
		vm_flags = vma->vm_flags;
		spin_lock(&mm->q->lock);
		file->refcount++;
		spin_unlock(&mm->q->lock);
	}
	spin_unlock(&mm->lock);
	if (!file)
		return -EINVAL;
	prot = (vm_flags & VM_READ ? PROT_READ : 0) | (vm_flags & VM_WRITE ? PROT_WRITE : 0) |
	       (vm_flags & VM_EXEC ? PROT_EXEC : 0);
	flags = (flags & MAP_NONBLOCK) | MAP_SHARED | MAP_FIXED | MAP_POPULATE | (vm_flags & VM_LOCKED ? MAP_LOCKED : 0);
	ret = do_mmap(mm, file, start, size, prot, flags, pgoff);
	mm->q->hooks.file_put(file);
	return IS_ERR(ret) ? ret : 0;
}
