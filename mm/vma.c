/*
 * VMAs: looking them up, making, splitting, merging and moving their edges.
 *
 * Invariants (mm_is_valid): the tree holds disjoint page-aligned ranges below task_size; neighbours that could be one
 * VMA by Linux's rules are one, as far as Linux would have merged them; a VMA whose anonymous pages are not indexed by
 * their present address (anon_pgoff) is on mm->moved_vmas.
 *
 * Whether Linux merges depends on which anon_vma each VMA has.  We have no anon_vmas; anon_id stands for "the same
 * anon_vma" and anon_forked for "more than one in its chain", so that /proc/PID/maps agrees.
 *
 * Locks: mm->lock, writers mmap_lock too; i_mmap and file references q->lock.
 */
#include <mm/vma.h>

/* ---- lookup ---- */
struct vm_area_struct *find_vma(struct mm_struct *mm, u64 addr)
{
	return node_vma(range_tree_find(&mm->vmas, addr));
}

struct vm_area_struct *vma_lookup(struct mm_struct *mm, u64 addr)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	return vma && vma_start(vma) <= addr ? vma : NULL;
}

struct vm_area_struct *vma_next(struct mm_struct *mm, struct vm_area_struct *vma)
{
	return node_vma(range_tree_next(&mm->vmas, &vma->node));
}

struct vm_area_struct *vma_prev(struct mm_struct *mm, const struct vm_area_struct *vma)
{
	return node_vma(range_tree_prev(&mm->vmas, &vma->node));
}

struct vm_area_struct *vma_first(struct mm_struct *mm)
{
	return node_vma(range_tree_first(&mm->vmas));
}

/* Where the guard gap below a stack begins; the VMA's start for others. */
u64 vm_start_gap(const struct vm_area_struct *vma)
{
	u64 start = vma_start(vma);

	if (!(vma->vm_flags & VM_GROWSDOWN))
		return start;
	return start > STACK_GUARD_GAP ? start - STACK_GUARD_GAP : 0;
}

/* ---- what the entries of a VMA look like ---- */

/* Private writable memory is mapped read-only by default: writing is granted page by page, to exclusive pages. */
u64 vm_get_page_prot(u64 vm_flags)
{
	if (!(vm_flags & VM_ACCESS_FLAGS))
		return PAGE_NONE_PROT;
	if ((vm_flags & (VM_WRITE | VM_SHARED)) == (VM_WRITE | VM_SHARED))
		return vm_flags & VM_EXEC ? PAGE_SHARED_EXEC_PROT : PAGE_SHARED_PROT;
	return vm_flags & VM_EXEC ? PAGE_READONLY_EXEC_PROT : PAGE_READONLY_PROT;
}

/* ---- memory of VMAs ---- */
struct vm_area_struct *vma_alloc(struct mm_struct *mm)
{
	struct vm_area_struct *vma = mm->spare_vmas;

	BUG_ON(!vma); /* the call forgot mm_prepare() */
	mm->spare_vmas = (struct vm_area_struct *)(uintptr_t)vma->node.start;
	mm->nr_spare_vmas--;
	memset(vma, 0, sizeof(*vma));
	vma->vm_mm = mm;
	return vma;
}

static void vma_recycle(struct mm_struct *mm, struct vm_area_struct *vma)
{
	if (mm->nr_spare_vmas >= PREPARE_MAX) {
		kmem_cache_free(mm->q, mm->q->vma_cache, vma);
		return;
	}
	vma->node.start = (u64)(uintptr_t)mm->spare_vmas;
	mm->spare_vmas = vma;
	mm->nr_spare_vmas++;
}

static void vma_get_file(struct vm_area_struct *vma, struct file *file)
{
	vma->vm_file = file;
	if (!file)
		return;
	spin_lock(&file->q->lock);
	file->refcount++;
	spin_unlock(&file->q->lock);
}

/* The last reference to a file cannot be dropped under a lock: such VMAs wait for mm_reap(). */
void vma_release(struct mm_struct *mm, struct vm_area_struct *vma)
{
	struct file *file = vma->vm_file;
	bool last = false;

	if (file) {
		spin_lock(&mm->q->lock);
		last = file->refcount == 1;
		if (!last)
			file->refcount--;
		spin_unlock(&mm->q->lock);
	}
	if (!last) {
		vma_recycle(mm, vma);
		return;
	}
	vma->moved_next = mm->dead_vmas;
	mm->dead_vmas = vma;
}

/* ---- links ---- */
static void i_mmap_link(struct vm_area_struct *vma)
{
	struct address_space *m = vma->vm_file->mapping;
	struct vm_area_struct *first;

	spin_lock(&m->q->lock);
	first = m->i_mmap;
	vma->i_mmap_seq = first ? first->i_mmap_seq + 1 : 1;
	vma->i_mmap_prev = NULL;
	vma->i_mmap_next = first;
	if (first)
		first->i_mmap_prev = vma;
	m->i_mmap = vma;
	spin_unlock(&m->q->lock);
}

static void i_mmap_unlink(struct vm_area_struct *vma)
{
	struct address_space *m = vma->vm_file->mapping;

	spin_lock(&m->q->lock);
	if (vma->i_mmap_prev)
		vma->i_mmap_prev->i_mmap_next = vma->i_mmap_next;
	else
		m->i_mmap = vma->i_mmap_next;
	if (vma->i_mmap_next)
		vma->i_mmap_next->i_mmap_prev = vma->i_mmap_prev;
	vma->i_mmap_next = vma->i_mmap_prev = NULL;
	spin_unlock(&m->q->lock);
}

static bool vma_is_moved(const struct vm_area_struct *vma)
{
	return vma->anon && vma->anon_pgoff != vma_start(vma) >> PAGE_SHIFT;
}

static void moved_unlink(struct mm_struct *mm, struct vm_area_struct *vma)
{
	if (!vma->moved_prev && mm->moved_vmas != vma)
		return;
	if (vma->moved_prev)
		vma->moved_prev->moved_next = vma->moved_next;
	else
		mm->moved_vmas = vma->moved_next;
	if (vma->moved_next)
		vma->moved_next->moved_prev = vma->moved_prev;
	vma->moved_next = vma->moved_prev = NULL;
	mm->nr_moved_vmas--;
}

/* Puts vma on the list of moved ones or takes it off, as it is now. */
static void moved_update(struct mm_struct *mm, struct vm_area_struct *vma)
{
	bool listed = vma->moved_prev || mm->moved_vmas == vma;

	if (listed == vma_is_moved(vma))
		return;
	if (listed) {
		moved_unlink(mm, vma);
		return;
	}
	vma->moved_next = mm->moved_vmas;
	if (mm->moved_vmas)
		mm->moved_vmas->moved_prev = vma;
	mm->moved_vmas = vma;
	mm->nr_moved_vmas++;
}

void vma_link(struct mm_struct *mm, struct vm_area_struct *vma)
{
	int err = range_tree_insert(mm->q, &mm->vmas, &vma->node);

	BUG_ON(err); /* callers made room: no overlap, nodes reserved */
	if (vma->vm_file)
		i_mmap_link(vma);
	moved_update(mm, vma);
	mm->map_seq++;
}

void vma_unlink(struct mm_struct *mm, struct vm_area_struct *vma)
{
	range_tree_erase(mm->q, &mm->vmas, &vma->node);
	if (vma->vm_file)
		i_mmap_unlink(vma);
	moved_unlink(mm, vma);
	mm->map_seq++;
}

void vma_set_range(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end)
{
	s64 pages = (s64)(start - vma_start(vma)) >> PAGE_SHIFT;

	vma->vm_pgoff += (u64)pages;
	vma->anon_pgoff += (u64)pages;
	range_tree_resize(&mm->vmas, &vma->node, start, end);
	mm->map_seq++;
}

/* ---- splitting ---- */
struct vm_area_struct *vma_split(struct mm_struct *mm, struct vm_area_struct *vma, u64 addr)
{
	struct vm_area_struct *upper = vma_alloc(mm);
	u64 pages = (addr - vma_start(vma)) >> PAGE_SHIFT;

	mm_split_block_at(mm, addr);
	*upper = *vma;
	upper->node = (struct range_node){addr, vma_end(vma)};
	upper->vm_pgoff += pages;
	upper->anon_pgoff += pages;
	upper->moved_next = upper->moved_prev = NULL;
	upper->ra_last = upper->ra_size = 0;
	vma_get_file(upper, vma->vm_file);
	range_tree_resize(&mm->vmas, &vma->node, vma_start(vma), addr);
	vma_link(mm, upper);
	return upper;
}

int split_vma(struct mm_struct *mm, struct vm_area_struct *vma, u64 addr)
{
	if (mm->vmas.count >= max_map_count(mm->q))
		return -ENOMEM;
	vma_split(mm, vma, addr);
	return 0;
}

/* ---- merging ---- */
struct vma_proto vma_proto_of(const struct vm_area_struct *vma, u64 start, u64 end, u64 vm_flags)
{
	u64 pages = (start - vma_start(vma)) >> PAGE_SHIFT;

	return (struct vma_proto){
		.start = start,
		.end = end,
		.vm_flags = vm_flags,
		.pgoff = vma->vm_pgoff + pages,
		.file = vma->vm_file,
		.name = vma->name,
		.anon = vma->anon,
		.anon_pgoff = vma->anon_pgoff + pages,
		.anon_id = vma->anon_id,
		.anon_forked = vma->anon_forked,
	};
}

/*
 * A port that has tokens only makes a new file for every call; the same mapping with the same rights is the same.  But each
 * attachment of a System V segment is a file of its own on Linux too.
 */
static bool same_file(const struct file *a, const struct file *b)
{
	return a == b || (a && b && a->mapping == b->mapping && a->mode == b->mode && (a->mapping->flags & AS_TOKEN) &&
			  !(a->mode & FMODE_NOMULTI));
}

/* May it vanish into another?  Linux's can_merge_remove_vma(): not what is told of its end (attachments are counted). */
static bool can_merge_remove(const struct vm_area_struct *vma)
{
	return !vma->vm_file || !(vma->vm_file->mode & FMODE_NOMULTI);
}

static bool same_kind(const struct vm_area_struct *vma, const struct vma_proto *p)
{
	return !((vma->vm_flags ^ p->vm_flags) & ~VM_STICKY) && same_file(vma->vm_file, p->file) && vma->name == p->name &&
	       !(p->vm_flags & VM_SPECIAL);
}

/* Linux's is_mergeable_anon_vma(): an anon_vma may be handed on only by a VMA that shares no pages with a parent. */
static bool anon_compatible(const struct vm_area_struct *vma, const struct vma_proto *p)
{
	if (!vma->anon_id && p->anon_id)
		return !p->anon_forked;
	if (vma->anon_id && !p->anon_id)
		return !vma->anon_forked;
	return vma->anon_id == p->anon_id;
}

static bool can_merge_left(const struct vm_area_struct *prev, const struct vma_proto *p)
{
	if (!prev || vma_end(prev) != p->start || !same_kind(prev, p) || !anon_compatible(prev, p))
		return false;
	if (prev->anon && p->anon && prev->anon_pgoff + vma_pages(prev) != p->anon_pgoff)
		return false;
	return prev->vm_pgoff + vma_pages(prev) == p->pgoff;
}

static bool can_merge_right(const struct vm_area_struct *next, const struct vma_proto *p)
{
	u64 pages = (p->end - p->start) >> PAGE_SHIFT;

	if (!next || vma_start(next) != p->end || !same_kind(next, p) || !anon_compatible(next, p))
		return false;
	if (next->anon && p->anon && p->anon_pgoff + pages != next->anon_pgoff)
		return false;
	return p->pgoff + pages == next->vm_pgoff;
}

/* Both fit the middle; do they fit each other?  (Whether pages are shared with a parent was asked for the middle.) */
static bool neighbours_compatible(const struct vm_area_struct *prev, const struct vm_area_struct *next)
{
	u64 gap = (vma_start(next) - vma_end(prev)) >> PAGE_SHIFT;

	if (!prev->anon || !next->anon)
		return true;
	return prev->anon_id == next->anon_id && prev->anon_pgoff + vma_pages(prev) + gap == next->anon_pgoff;
}

/* vma takes over the sticky flags, and if it has none the anonymous identity, of a mapping that it swallows. */
static void inherit(struct mm_struct *mm, struct vm_area_struct *vma, const struct vma_proto *p)
{
	vma->vm_flags |= p->vm_flags & VM_STICKY;
	if (vma->anon || !p->anon)
		return;
	vma->anon = p->anon;
	vma->anon_id = p->anon_id;
	vma->anon_forked = p->anon_forked;
	vma->anon_pgoff = p->anon_pgoff + (u64)((s64)(vma_start(vma) - p->start) >> PAGE_SHIFT);
	moved_update(mm, vma);
}

static void vma_swallow(struct mm_struct *mm, struct vm_area_struct *keep, struct vm_area_struct *gone)
{
	struct vma_proto p = vma_proto_of(gone, vma_start(gone), vma_end(gone), gone->vm_flags);

	vma_unlink(mm, gone);
	inherit(mm, keep, &p);
	vma_release(mm, gone);
}

struct vm_area_struct *vma_merge_new(struct mm_struct *mm, const struct vma_proto *p)
{
	struct vm_area_struct *prev = p->start ? vma_lookup(mm, p->start - 1) : NULL;
	struct vm_area_struct *next = vma_lookup(mm, p->end);
	bool left = can_merge_left(prev, p);
	bool right = can_merge_right(next, p) && (!left || (neighbours_compatible(prev, next) && can_merge_remove(next)));
	u64 end = right ? vma_end(next) : p->end;

	if (left) {
		if (right)
			vma_swallow(mm, prev, next);
		vma_set_range(mm, prev, vma_start(prev), end);
		inherit(mm, prev, p);
		return prev;
	}
	if (!right)
		return NULL;
	vma_set_range(mm, next, p->start, end);
	inherit(mm, next, p);
	return next;
}

struct vm_area_struct *vma_create(struct mm_struct *mm, const struct vma_proto *p)
{
	struct vm_area_struct *vma = vma_merge_new(mm, p);

	if (vma)
		return vma;
	vma = vma_alloc(mm);
	vma->node = (struct range_node){p->start, p->end};
	vma->vm_flags = p->vm_flags;
	vma->vm_pgoff = p->pgoff;
	vma->anon_pgoff = p->anon ? p->anon_pgoff : p->start >> PAGE_SHIFT;
	vma->anon = p->anon;
	vma->anon_id = p->anon_id;
	vma->anon_forked = p->anon_forked;
	vma->name = p->name;
	vma_get_file(vma, p->file);
	vma_link(mm, vma);
	return vma;
}

/* [start, end) of vma leaves it for a neighbour: vma shrinks or goes. */
static void vma_give_up(struct mm_struct *mm, struct vm_area_struct *vma, struct vm_area_struct *to, u64 start, u64 end)
{
	struct vma_proto p = vma_proto_of(vma, start, end, vma->vm_flags);

	if (start == vma_start(vma) && end == vma_end(vma)) {
		vma_swallow(mm, to, vma);
		return;
	}
	if (start == vma_start(vma))
		vma_set_range(mm, vma, end, vma_end(vma));
	else
		vma_set_range(mm, vma, vma_start(vma), start);
	inherit(mm, to, &p);
}

/* Merges [start, end) of vma, with new flags, into its neighbours.  NULL if Linux would not. */
static struct vm_area_struct *merge_existing(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end,
					     u64 vm_flags)
{
	struct vma_proto p = vma_proto_of(vma, start, end, vm_flags);
	struct vm_area_struct *prev = start == vma_start(vma) ? vma_prev(mm, vma) : NULL;
	struct vm_area_struct *next = end == vma_end(vma) ? vma_next(mm, vma) : NULL;
	bool left = can_merge_left(prev, &p);
	bool right = can_merge_right(next, &p) && (!left || (neighbours_compatible(prev, next) && can_merge_remove(next)));
	u64 limit;

	if (!left && !right)
		return NULL;
	if (start == vma_start(vma) && end == vma_end(vma) && !can_merge_remove(vma))
		return NULL;
	mm_split_block_at(mm, start);
	mm_split_block_at(mm, end);
	if (!left) {
		vma_give_up(mm, vma, next, start, end);
		vma_set_range(mm, next, start, vma_end(next));
		return next;
	}
	limit = right ? vma_end(next) : end;
	vma_give_up(mm, vma, prev, start, end);
	if (right)
		vma_swallow(mm, prev, next);
	vma_set_range(mm, prev, vma_start(prev), limit);
	return prev;
}

struct vm_area_struct *vma_modify_flags(struct mm_struct *mm, struct vm_area_struct *vma, u64 start, u64 end,
					u64 vm_flags)
{
	struct vm_area_struct *merged = merge_existing(mm, vma, start, end, vm_flags);

	if (merged)
		return merged;
	if (start > vma_start(vma)) {
		if (split_vma(mm, vma, start) != 0)
			return ERR_PTR(-ENOMEM);
		vma = find_vma(mm, start);
	}
	if (end < vma_end(vma) && split_vma(mm, vma, end) != 0)
		return ERR_PTR(-ENOMEM);
	vma->vm_flags = vm_flags;
	mm->map_seq++;
	return vma;
}

/* ---- anonymous identity ---- */

/* Linux's anon_vma_compatible(): could these be one VMA but for their access flags? */
static bool could_share_anon(const struct vm_area_struct *a, const struct vm_area_struct *b)
{
	return a && b && vma_end(a) == vma_start(b) && same_file(a->vm_file, b->vm_file) &&
	       !((a->vm_flags ^ b->vm_flags) & ~(VM_ACCESS_FLAGS | VM_STICKY)) &&
	       a->vm_pgoff + vma_pages(a) == b->vm_pgoff;
}

/* Linux's reusable_anon_vma(): whose identity this VMA shall share, so that the two may become one; NULL: nobody's. */
static const struct vm_area_struct *anon_sharer(struct mm_struct *mm, struct vm_area_struct *vma)
{
	struct vm_area_struct *next = vma_next(mm, vma), *prev = vma_prev(mm, vma);

	if (could_share_anon(vma, next) && next->anon_id && !next->anon_forked)
		return next;
	if (could_share_anon(prev, vma) && prev->anon_id && !prev->anon_forked)
		return prev;
	return NULL;
}

/* The index of the VMA's first page among anonymous pages.  Of a file's private pages any would do; what has moved continues where its
 * neighbour ends, for one VMA has one such offset. */
static u64 first_anon_index(const struct vm_area_struct *vma, const struct vm_area_struct *sharer)
{
	u64 at = vma_start(vma) >> PAGE_SHIFT, theirs = sharer ? vma_start(sharer) >> PAGE_SHIFT : at;

	if (vma_is_anonymous(vma))
		return vma->vm_pgoff; /* one that moved and was emptied keeps its odd offset */
	/* Below its neighbour there may be no room: 0 is the first. */
	return sharer && sharer->anon_pgoff + at >= theirs ? sharer->anon_pgoff + at - theirs : at;
}

void __vma_prepare_anon(struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;
	const struct vm_area_struct *sharer;

	lockdep_assert_held(&mm->lock);
	sharer = anon_sharer(mm, vma);
	vma->anon_id = sharer ? sharer->anon_id : ++mm->last_anon_id;
	vma->anon = mm->anon;
	vma->anon_pgoff = first_anon_index(vma, sharer);
	moved_update(mm, vma);
}

void vma_forget_anon(struct mm_struct *mm, struct vm_area_struct *vma)
{
	vma->anon = NULL;
	vma->anon_id = 0;
	vma->anon_forked = false;
	vma->anon_pgoff = vma_start(vma) >> PAGE_SHIFT;
	moved_update(mm, vma);
}
