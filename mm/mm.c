/*
 * The life of an address space: made, shared, taken down; and the frame of every mapping call.
 *
 *   mm_alloc -> users 1 -> mmget/mmput -> users 0 -> exit_mmap: dying -> entries, VMAs, tables, family -> gone
 *
 * exit_mmap works in small transactions and may be begun again by somebody else at any commit (the caller may die):
 * everything it still has to do can be read off the mm.
 *
 * Invariants: an mm is on q->mms and on its family's list from mm_alloc until exit_mmap has nothing left to do.
 * Locks: users, q->mms and families: q->lock.  Everything else: mm->lock.
 */
#include <mm/vma.h>

/* So many rounds without progress are too many, or RECLAIM_MOST in which others took all that came back. */
#define RECLAIM_TRIES 16u
#define RECLAIM_MOST 1024u

int mm_init(struct quire *q)
{
	q->vma_cache = kmem_cache_create(q, "vm_area_struct", sizeof(struct vm_area_struct), 0, 0, NULL);
	q->mm_cache = kmem_cache_create(q, "mm_struct", sizeof(struct mm_struct), 64, 0, NULL);
	q->anon_cache = kmem_cache_create(q, "anon_family", sizeof(struct anon_family), 0, 0, NULL);
	if (!q->range_cache)
		q->range_cache = kmem_cache_create(q, "range_node", sizeof(struct range_btnode), 64, 0, NULL);
	return q->vma_cache && q->mm_cache && q->anon_cache && q->range_cache ? 0 : -ENOMEM;
}

/* ---- families.  Under q->lock ---- */
void family_join(struct anon_family *family, struct mm_struct *mm)
{
	mm->anon = family;
	mm->family_seq = ++family->last_seq;
	mm->family_prev = NULL;
	mm->family_next = family->mms;
	if (family->mms)
		family->mms->family_prev = mm;
	family->mms = mm;
	family->refcount++;
}

void family_leave(struct mm_struct *mm)
{
	struct anon_family *family = mm->anon;

	if (!family)
		return;
	if (mm->family_prev)
		mm->family_prev->family_next = mm->family_next;
	else
		family->mms = mm->family_next;
	if (mm->family_next)
		mm->family_next->family_prev = mm->family_prev;
	mm->family_next = mm->family_prev = NULL;
	mm->anon = NULL;
	if (--family->refcount == 0)
		kmem_cache_free(mm->q, mm->q->anon_cache, family);
}

/* ---- birth ---- */
static void mm_set_defaults(struct mm_struct *mm, struct quire *q, const struct guest_abi *abi)
{
	memset(mm, 0, sizeof(*mm));
	mm->q = q;
	mm->abi = abi;
	mm->users = 1;
	mm->task_size = abi ? abi->task_size : 1ull << (VA_BITS - 1);
	mm->mmap_base = ALIGN_DOWN(mm->task_size - (mm->task_size >> 6), PAGE_SIZE);
	mm->rlim_as = mm->rlim_data = ~0ull;
	mm->rlim_stack = 8ull << 20;
	mm->rlim_memlock = 8ull << 20;
	mutex_init(&mm->mmap_lock);
	spin_lock_init(&mm->lock, LOCK_RANK_MM);
}

static void mm_publish(struct mm_struct *mm, struct anon_family *family)
{
	struct quire *q = mm->q;

	family_join(family, mm);
	mm->all_next = q->mms;
	if (q->mms)
		q->mms->all_prev = mm;
	q->mms = mm;
}

/* In one transaction, so that a death leaves either nothing or an mm that is listed and held. */
static struct mm_struct *mm_try_alloc(struct quire *q, const struct guest_abi *abi)
{
	struct anon_family *family;
	struct mm_struct *mm;

	spin_lock(&q->lock);
	family = kmem_cache_alloc(q, q->anon_cache, GFP_KERNEL);
	mm = kmem_cache_alloc(q, q->mm_cache, GFP_KERNEL);
	if (mm && family) {
		mm_set_defaults(mm, q, abi);
		*family = (struct anon_family){.q = q};
		mm_publish(mm, family);
		mm_hold(mm);
	} else {
		kmem_cache_free(q, q->mm_cache, mm);
		kmem_cache_free(q, q->anon_cache, family);
		mm = NULL;
	}
	spin_unlock(&q->lock);
	return mm;
}

struct mm_struct *mm_alloc(struct quire *q, const struct guest_abi *abi)
{
	struct mm_struct *mm;
	unsigned tries = 0;

	while (!(mm = mm_try_alloc(q, abi)))
		if (in_transaction() || mm_reclaim(q, &tries))
			return NULL;
	if (port_mm_init(mm)) {
		mmput(mm);
		return NULL;
	}
	return mm;
}

/* ---- references that only a context knows of: sync.h, ctx->mms[].  A full list forgets: that costs memory after a
 * death, never more ---- */
void mm_hold(struct mm_struct *mm)
{
	struct ctx *c = port_ctx();

	lockdep_assert_held(&mm->q->lock);
	if (c->nmms < CTX_MAX_MMS)
		c->mms[c->nmms++] = mm;
}

void mm_hold_from(struct mm_struct *mm, struct ctx *from)
{
	u32 i = from->nmms;

	lockdep_assert_held(&mm->q->lock);
	while (i && from->mms[i - 1] != mm)
		i--;
	if (!i)
		return;
	from->mms[i - 1] = from->mms[--from->nmms];
	mm_hold(mm);
}

void mm_unhold(struct mm_struct *mm)
{
	struct ctx *c = port_ctx();
	u32 i = c->nmms;

	lockdep_assert_held(&mm->q->lock);
	while (i && c->mms[i - 1] != mm)
		i--;
	if (i)
		c->mms[i - 1] = c->mms[--c->nmms];
}

void mmget(struct mm_struct *mm)
{
	spin_lock(&mm->q->lock);
	mm->users++;
	mm_hold(mm);
	spin_unlock(&mm->q->lock);
}

void mmput(struct mm_struct *mm)
{
	struct quire *q = mm->q;
	bool last;

	spin_lock(&q->lock);
	last = --mm->users == 0;
	mm_unhold(mm);
	if (last)
		mm_hold(mm); /* until exit_mmap() is through */
	spin_unlock(&q->lock);
	if (last)
		exit_mmap(mm);
}

/* Moves the newest of the dead context's references to the caller: one transaction, so that it is never in two
 * hands. */
static struct mm_struct *take_over(struct ctx *dead)
{
	struct mm_struct *mm = NULL;

	spin_lock(&dead->q->lock);
	if (dead->nmms) {
		mm = dead->mms[--dead->nmms];
		mm_hold(mm);
	}
	spin_unlock(&dead->q->lock);
	return mm;
}

void mm_drop_held(struct ctx *dead)
{
	struct mm_struct *mm;

	while ((mm = take_over(dead))) {
		if (READ_ONCE(mm->users))
			mmput(mm);
		else
			exit_mmap(mm);
	}
}

/* ---- the frame of a mapping call ---- */
void mmap_write_begin(struct mm_struct *mm)
{
	mutex_lock(&mm->mmap_lock);
	spin_lock(&mm->lock);
	/* Left over only if an earlier holder died in the middle: what it was unmapping stays as it is now. */
	clear_busy(mm);
}

void mmap_write_end(struct mm_struct *mm)
{
	clear_busy(mm);
	spin_unlock(&mm->lock);
	mutex_unlock(&mm->mmap_lock);
}

void mmap_write_cycle(struct mm_struct *mm)
{
	spin_unlock(&mm->lock);
	spin_lock(&mm->lock);
}

void mm_wait_busy(struct mm_struct *mm)
{
	mmap_write_begin(mm);
	mmap_write_end(mm);
}

int mm_reclaim(struct quire *q, unsigned *tries)
{
	if (*tries >= RECLAIM_MOST || !q->hooks.try_to_free_pages)
		return -ENOMEM;
	if (q->hooks.try_to_free_pages(q, GFP_KERNEL, 0)) {
		++*tries;
		return 0;
	}
	*tries += RECLAIM_MOST / RECLAIM_TRIES;
	return q->hooks.out_of_memory ? q->hooks.out_of_memory(q, GFP_KERNEL, 0) : -ENOMEM;
}

bool mm_try_prepare(struct mm_struct *mm, unsigned nr)
{
	struct quire *q = mm->q;

	while (mm->nr_spare_vmas < nr) {
		struct vm_area_struct *vma = kmem_cache_alloc(q, q->vma_cache, GFP_KERNEL);

		if (!vma)
			return false;
		vma->node.start = (u64)(uintptr_t)mm->spare_vmas;
		mm->spare_vmas = vma;
		mm->nr_spare_vmas++;
	}
	return range_tree_reserve(q, &mm->vmas, nr) == 0;
}

int mm_prepare(struct mm_struct *mm, unsigned nr)
{
	unsigned tries = 0;

	while (!mm_try_prepare(mm, nr)) {
		int err;

		spin_unlock(&mm->lock);
		err = mm_reclaim(mm->q, &tries);
		spin_lock(&mm->lock);
		if (err)
			return -ENOMEM;
	}
	return 0;
}

static struct file *reap_one(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	struct file *file = NULL;

	spin_lock(&mm->lock);
	vma = mm->dead_vmas;
	if (vma) {
		file = vma->vm_file;
		file_note_held(port_ctx(), file);
		mm->dead_vmas = vma->moved_next;
		kmem_cache_free(mm->q, mm->q->vma_cache, vma);
	}
	spin_unlock(&mm->lock);
	return file;
}

void mm_reap(struct mm_struct *mm)
{
	struct file *file;

	while (READ_ONCE(mm->dead_vmas) && (file = reap_one(mm)))
		if (mm->q->hooks.file_put)
			mm->q->hooks.file_put(file);
}

void finish_call(struct mmu_gather *tlb)
{
	tlb_flush(tlb);
	mmap_write_end(tlb->mm);
	tlb_finish_mmu(tlb);
	mm_reap(tlb->mm);
}

/* ---- death ---- */
static void exit_vmas(struct mmu_gather *tlb)
{
	struct mm_struct *mm = tlb->mm;

	mmap_write_begin(mm);
	mm->dying = 1;
	unmap_region(tlb, 0, ~0ull);
	finish_call(tlb);
}

/* The root of the tables, the spares and the tree's reserve. */
static void exit_rest(struct mmu_gather *tlb)
{
	struct mm_struct *mm = tlb->mm;
	struct pgtable pt = mm_pgtable(mm);
	struct frame *root;

	spin_lock(&mm->lock);
	root = pgtable_take_root(&pt);
	if (root)
		tlb_remove(tlb, 0, 1, frame_to_pfn(mm->q, root), 1);
	while (mm->spare_vmas) {
		struct vm_area_struct *vma = mm->spare_vmas;

		mm->spare_vmas = (struct vm_area_struct *)(uintptr_t)vma->node.start;
		mm->nr_spare_vmas--;
		kmem_cache_free(mm->q, mm->q->vma_cache, vma);
	}
	range_tree_destroy(mm->q, &mm->vmas);
	tlb_flush(tlb);
	spin_unlock(&mm->lock);
	tlb_finish_mmu(tlb);
}

static void mm_unpublish(struct mm_struct *mm)
{
	struct quire *q = mm->q;

	if (mm->all_prev)
		mm->all_prev->all_next = mm->all_next;
	else
		q->mms = mm->all_next;
	if (mm->all_next)
		mm->all_next->all_prev = mm->all_prev;
	family_leave(mm);
}

void exit_mmap(struct mm_struct *mm)
{
	struct quire *q = mm->q;
	struct file *exe;
	struct mmu_gather tlb;

	tlb_gather_mmu(&tlb, mm);
	exit_vmas(&tlb);
	exit_rest(&tlb);
	port_mm_destroy(mm);
	spin_lock(&q->lock);
	exe = mm->exe_file;
	mm->exe_file = NULL;
	if (exe && q->hooks.file_put)
		file_note_held(port_ctx(), exe);
	mm_unpublish(mm);
	mm_unhold(mm);
	kmem_cache_free(q, q->mm_cache, mm);
	spin_unlock(&q->lock);
	if (exe && q->hooks.file_put)
		q->hooks.file_put(exe);
}
