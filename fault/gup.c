/*
 * The kernel's access to user memory by page tables: access_process_vm, get_user_pages, mm_populate.
 *
 * A page is looked at under mm->lock; if its entry does not allow the access the fault path is run for it, as if
 * the program itself had touched it (but nothing is counted as a fault, as on Linux), and it is looked at again.
 * Bytes are copied with no lock held, on a reference.
 *
 * A write that races with a fork or another copy-on-write could land in a frame that the mm no longer sees; so
 * after a write the entry is looked at once more, and the write is repeated if it has changed.
 *
 * Locks: mm->lock to look, q->lock inside to take references; none while copying or faulting.
 */
#include "fault.h"

/* One page as the kernel reaches it.  Exactly one of folio and file is set, or neither: the zero page. */
struct user_page {
	struct folio *folio; /* a reference is held */
	u8 *va;              /* kernel address of the page */
	pfn_t pfn;
	bool excl;           /* the entry says that nobody else has it */
	struct file *file;   /* token: counted; bytes at pgoff by its operations */
	u64 pgoff;
};

/* Would the MMU let this access through, or FORCE in its place? */
static bool entry_allows(pte_t p, u32 flags, u64 vm_flags)
{
	if (!pte_present(p) || !pte_young(p))
		return false;
	if (!(flags & FAULT_FLAG_WRITE))
		return true;
	if (pte_special(p))
		return false;
	/* A private copy in a VMA that is not writable itself: exclusive and dirty is what the fault path leaves. */
	return pte_dirty(p) && (pte_write(p) || ((flags & FAULT_FLAG_FORCE) && !(vm_flags & VM_WRITE) && pte_excl(p)));
}

/* Takes what is needed to reach the page behind entry p.  Under mm->lock. */
static void take_page(struct mm_struct *mm, struct vm_area_struct *vma, u64 addr, pte_t p, struct user_page *up)
{
	struct quire *q = mm->q;
	struct address_space *m;
	struct folio *folio;

	*up = (struct user_page){ .pfn = pte_pfn(p), .excl = pte_excl(p),
				  .va = frame_address(q, pfn_to_frame(q, pte_pfn(p))) };
	if (pte_special(p))
		return;
	folio = pte_folio(mm, p);
	m = folio_mapping(folio);
	if (m && mapping_is_token(m)) {
		up->file = vma->vm_file;
		up->pgoff = linear_page_index(vma, addr);
		file_get_held(up->file);
		return;
	}
	up->folio = folio;
	spin_lock(&q->lock);
	folio_get(folio, 1);
	spin_unlock(&q->lock);
}

/* 0 and *up; -EAGAIN: fault it in; -EFAULT: not allowed. */
static int try_page(struct mm_struct *mm, u64 addr, u32 flags, struct user_page *up)
{
	struct vm_area_struct *vma;
	int err = -EAGAIN;
	pte_t p;

	spin_lock(&mm->lock);
	vma = vma_lookup(mm, addr);
	p = vma ? pte_at(mm, addr) : __pte(0);
	if (vma && (vma->vm_flags & (VM_PFNMAP | VM_IO)))
		err = -EFAULT;
	else if (vma && fault_access_allowed(flags, vma->vm_flags) && entry_allows(p, flags, vma->vm_flags)) {
		take_page(mm, vma, addr & PAGE_MASK, p, up);
		err = 0;
	}
	spin_unlock(&mm->lock);
	return err;
}

static void put_page(struct quire *q, struct user_page *up)
{
	if (up->file)
		file_put(up->file);
	if (!up->folio)
		return;
	spin_lock(&q->lock);
	folio_put(q, up->folio, 1);
	spin_unlock(&q->lock);
}

static int reason_to_errno(enum vm_fault_reason r)
{
	return r == VM_FAULT_DONE ? 0 : r == VM_FAULT_OOM ? -ENOMEM : -EFAULT;
}

/* The page of addr, faulted in.  0 and *up (to be put), or -EFAULT, -ENOMEM. */
static int get_page(struct mm_struct *mm, u64 addr, u32 flags, struct user_page *up)
{
	struct vm_fault vmf;
	int err;

	while ((err = try_page(mm, addr, flags, up)) == -EAGAIN) {
		err = reason_to_errno(fault_run(&vmf, mm, addr, flags));
		if (err)
			break;
	}
	return err;
}

/* Does the entry of addr still lead to the page written to? */
static bool still_there(struct mm_struct *mm, u64 addr, const struct user_page *up)
{
	bool same;
	pte_t p;

	spin_lock(&mm->lock);
	p = pte_at(mm, addr);
	same = pte_present(p) && pte_pfn(p) == up->pfn;
	spin_unlock(&mm->lock);
	return same;
}

/* Bytes inside one page.  1 = done, 0 = look again, or negative errno. */
static long copy_page_part(struct mm_struct *mm, u64 addr, u8 *buf, size_t n, u32 flags)
{
	u64 in = addr & (PAGE_SIZE - 1);
	bool write = flags & FAULT_FLAG_WRITE;
	struct user_page up;
	long r = get_page(mm, addr, flags, &up);

	if (r)
		return r;
	r = 1;
	if (up.file) {
		struct address_space *m = up.file->mapping;
		u64 off = (up.pgoff << PAGE_SHIFT) + in;

		r = write ? m->ops->copy_in(m, off, buf, n) : m->ops->copy_out(m, off, buf, n);
		if (!write && r >= 0)
			memset(buf + r, 0, n - (size_t)r); /* the rest of the file's last page */
		/* A token's file says where it ends by not copying. */
		r = r < 0 || (!r && (m->flags & AS_TOKEN)) ? -EFAULT : 1;
	} else if (write) {
		memcpy(up.va + in, buf, n);
		r = still_there(mm, addr, &up);
	} else {
		memcpy(buf, up.va + in, n);
	}
	put_page(mm->q, &up);
	return r;
}

long access_process_vm_flags(struct mm_struct *mm, u64 addr, void *buf, size_t len, bool write, u32 flags)
{
	u32 ff = (flags & ACCESS_OWN ? 0 : FAULT_FLAG_REMOTE) | (write ? FAULT_FLAG_WRITE : 0) | (flags & ACCESS_FORCE ? FAULT_FLAG_FORCE : 0);
	size_t done = 0;
	long r = 1;

	if (addr + len < addr || addr + len > mm->task_size)
		len = addr < mm->task_size ? mm->task_size - addr : 0;
	if (!len)
		return addr < mm->task_size ? 0 : -EFAULT;
	while (done < len && r >= 0) {
		size_t n = MIN(PAGE_SIZE - ((addr + done) & (PAGE_SIZE - 1)), len - done);

		r = copy_page_part(mm, addr + done, (u8 *)buf + done, n, ff);
		if (r > 0)
			done += n;
	}
	return done ? (long)done : r;
}

long access_process_vm(struct mm_struct *mm, u64 addr, void *buf, size_t len, bool write)
{
	return access_process_vm_flags(mm, addr, buf, len, write, 0);
}

/* A page to pin.  Anonymous pages are made exclusive, also for reading: a pin on a page shared copy-on-write would lose
 * sight of it at the next write. */
static int get_page_pinned(struct mm_struct *mm, u64 addr, u32 flags, struct user_page *up)
{
	int err = get_page(mm, addr, flags, up);

	if (err || (flags & FAULT_FLAG_WRITE) || !up->folio || up->folio->f.type != FRAME_ANON || up->excl)
		return err;
	put_page(mm->q, up);
	return get_page(mm, addr, flags | FAULT_FLAG_WRITE | FAULT_FLAG_FORCE, up);
}

long get_user_pages(struct mm_struct *mm, u64 addr, u32 n, bool write, u32 *pfns)
{
	u32 flags = FAULT_FLAG_REMOTE | (write ? FAULT_FLAG_WRITE : 0), i;
	int err = 0;

	for (i = 0; i < n; i++) {
		struct user_page up;

		err = get_page_pinned(mm, addr + ((u64)i << PAGE_SHIFT), flags, &up);
		if (!err && !up.folio) {
			put_page(mm->q, &up);
			err = up.file ? -EOPNOTSUPP : -EFAULT;
		}
		if (err)
			break;
		pfns[i] = up.pfn;
	}
	return i ? (long)i : err;
}

/* Tokens are mapped wherever they are asked for; only the file's own bytes tell that there is nothing (SIGBUS on touch). */
static bool is_beyond_the_end(const struct user_page *up)
{
	struct address_space *m = up->file ? up->file->mapping : NULL;
	u8 byte;

	return m && (m->flags & AS_TOKEN) && m->ops->copy_out(m, up->pgoff << PAGE_SHIFT, &byte, 1) <= 0;
}

u64 fault_in_remote(struct mm_struct *mm, u64 addr, u64 n, bool write)
{
	u32 flags = FAULT_FLAG_REMOTE | (write ? FAULT_FLAG_WRITE : 0);
	struct user_page up;
	bool beyond = false;
	u64 i;

	for (i = 0; i < n && !beyond && !get_page(mm, addr + (i << PAGE_SHIFT), flags, &up); i++) {
		beyond = is_beyond_the_end(&up);
		put_page(mm->q, &up);
	}
	return i - beyond;
}

void put_user_pages(struct quire *q, const u32 *pfns, u32 n, bool dirtied)
{
	u32 i;

	for (i = 0; i < n; i++) {
		struct folio *folio = pfn_folio(q, pfns[i]);

		spin_lock(&q->lock);
		if (dirtied)
			folio_mark_dirty(folio);
		folio_put(q, folio, 1);
		spin_unlock(&q->lock);
	}
}

/* ---- populate ---- */

/* First page of [addr, end) whose entry does not allow the access yet; looks at no more than one table's worth. */
static u64 skip_present(struct mm_struct *mm, u64 addr, u64 end, u32 flags, u64 vm_flags)
{
	u64 stop = MIN(end, ALIGN_DOWN(addr, PMD_SIZE) + PMD_SIZE);
	pte_t *slot = pgtable_block(mm->q, mm->pgd, addr);

	if (slot)
		return entry_allows(pte_read(slot), flags, vm_flags) ? stop : addr;
	slot = pte_lookup(mm, addr);
	for (; slot && addr < stop && entry_allows(pte_read(slot), flags, vm_flags); slot++)
		addr += PAGE_SIZE;
	return addr;
}

/* What there is to do next in [*addr, end).  Returns false at the end; *flags says how to touch *addr, 0 = go on
 * looking. */
enum populate_mode {
	POPULATE_READ,
	POPULATE_PRIVATE, /* as MAP_POPULATE: private writable memory by write faults, the rest by read faults */
	POPULATE_WRITE,
};

static bool populate_next(struct mm_struct *mm, u64 *addr, u64 end, enum populate_mode mode, u32 *flags)
{
	struct vm_area_struct *vma;
	bool more = false;

	spin_lock(&mm->lock);
	*flags = 0;
	vma = *addr < end ? find_vma(mm, *addr) : NULL;
	if (vma && vma_start(vma) < end) {
		bool private = (vma->vm_flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;
		bool write = mode == POPULATE_WRITE || (mode == POPULATE_PRIVATE && private);
		/* Whatever is accessible at all is populated (populate_vma_page_range() forces it). */
		u32 want = FAULT_FLAG_REMOTE | (write ? FAULT_FLAG_WRITE : 0) |
			   (mode == POPULATE_PRIVATE && (vma->vm_flags & VM_ACCESS_FLAGS) ? FAULT_FLAG_FORCE : 0);
		u64 from = MAX(*addr, vma_start(vma)), to = MIN(end, vma_end(vma));

		more = true;
		*addr = vma->vm_flags & (VM_PFNMAP | VM_IO) ? to : skip_present(mm, from, to, want, vma->vm_flags);
		if (*addr == from)
			*flags = want;
	}
	spin_unlock(&mm->lock);
	return more;
}

static bool beyond_the_end(struct mm_struct *mm, u64 addr)
{
	u32 flags = FAULT_FLAG_REMOTE | FAULT_FLAG_FORCE;
	struct user_page up;
	bool beyond;

	if (try_page(mm, addr, flags, &up))
		return false;
	beyond = is_beyond_the_end(&up);
	put_page(mm->q, &up);
	return beyond;
}

/* Looks at the last page of every mapping in the range. */
static bool all_there(struct mm_struct *mm, u64 start, u64 end)
{
	bool there = true;
	u64 at = start;

	while (there && at < end) {
		struct vm_area_struct *vma;
		u64 last = 0;

		spin_lock(&mm->lock);
		vma = find_vma(mm, at);
		at = vma && vma_start(vma) < end ? vma_end(vma) : end;
		if (vma && vma->vm_file && (vma->vm_file->mapping->flags & AS_TOKEN) && vma_start(vma) < end)
			last = MIN(vma_end(vma), end) - 1;
		spin_unlock(&mm->lock);
		there = !last || !beyond_the_end(mm, last);
	}
	return there;
}

static int populate(struct mm_struct *mm, u64 start, u64 end, enum populate_mode mode)
{
	u64 addr = start & PAGE_MASK;
	struct vm_fault vmf;
	int err = 0;
	u32 flags;

	while (!err && populate_next(mm, &addr, end, mode, &flags))
		if (flags)
			err = reason_to_errno(fault_run(&vmf, mm, addr, flags));
	return err ? err : all_there(mm, start, end) ? 0 : -EFAULT;
}

int mm_populate(struct mm_struct *mm, u64 start, u64 end, bool write_if_possible)
{
	return populate(mm, start, end, write_if_possible ? POPULATE_PRIVATE : POPULATE_READ);
}

int mm_fault_in(struct mm_struct *mm, u64 start, u64 end, bool write)
{
	return populate(mm, start, end, write ? POPULATE_WRITE : POPULATE_READ);
}
