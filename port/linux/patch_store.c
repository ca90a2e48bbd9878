/*
 * Rewritten text: the machine's blocks and sites.
 *
 * Compiled with store instrumentation like the core: who dies in here is rolled back.  Lock: patch_store.lock, a leaf.  Nothing is ever
 * taken out: a block may be mapped by anybody, so its frames stay until the machine ends (DESIGN.md says how many there can be).
 */
#include "kernel.h"
#include "patch.h"

static struct patch_store *store(void)
{
	return &shared_area()->patch;
}

void patch_store_init(void)
{
	spin_lock_init(&store()->lock, LOCK_RANK_LEAF);
}

/* Under no lock.  A machine whose memory is in use has no large block at hand, but mostly can make one: it is made, and given back to be found. */
static bool make_block_of(struct quire *q, unsigned order)
{
	struct frame *f = alloc_pages(q, GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order);

	if (f)
		__free_pages(q, f, order);
	return f;
}

static pfn_t slots_alloc(struct quire *q, unsigned order)
{
	struct patch_store *s = store();
	struct frame *f;

	spin_lock(&q->lock);
	spin_lock(&s->lock);
	if (!s->slots_unfilled) {
		f = alloc_pages(q, GFP_NOWAIT, order);
		s->slots_unfilled = f ? frame_to_pfn(q, f) : 0;
	}
	spin_unlock(&s->lock);
	spin_unlock(&q->lock);
	return s->slots_unfilled;
}

/* Frames for the slots.  Whoever asks fills them, all with the same, and then publishes: a death in between costs nothing. */
pfn_t patch_slots_alloc(struct quire *q, unsigned order)
{
	pfn_t pfn = slots_alloc(q, order);

	return pfn || !make_block_of(q, order) ? pfn : slots_alloc(q, order);
}

void patch_slots_publish(void)
{
	struct patch_store *s = store();

	spin_lock(&s->lock);
	s->slots = s->slots_unfilled;
	spin_unlock(&s->lock);
}

static bool is_of(const struct patch_block *b, u64 dev, u64 ino)
{
	return b->ino == ino && b->dev == dev;
}

/* A stale block goes on where it is in use: what is rewritten must not become plain under a thread that is in a cave. */
int patch_block_find(u64 dev, u64 ino, u64 index)
{
	struct patch_store *s = store();
	u32 i, n = __atomic_load_n(&s->nblocks, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++)
		if (is_of(&s->block[i], dev, ino) && s->block[i].index == index && (!s->block[i].stale || kproc.patch.base[i]))
			return (int)i;
	return -1;
}

static int block_add(struct quire *q, struct patch_block *b)
{
	struct patch_store *s = store();
	struct frame *f = NULL;
	int at = -1;

	spin_lock(&q->lock);
	spin_lock(&s->lock);
	if (patch_block_find(b->dev, b->ino, b->index) < 0 && s->nblocks < PATCH_MAX_BLOCKS) {
		f = alloc_pages(q, GFP_NOWAIT, PATCH_BLOCK_ORDER);
		at = -ENOMEM;
	}
	if (f) {
		b->pfn = frame_to_pfn(q, f);
		b->pages = 0;
		at = (int)s->nblocks;
		s->block[at] = *b;
		s->nblocks++;
	}
	spin_unlock(&s->lock);
	spin_unlock(&q->lock);
	return at;
}

int patch_block_add(struct quire *q, struct patch_block *b)
{
	int at = block_add(q, b);

	return at == -ENOMEM && make_block_of(q, PATCH_BLOCK_ORDER) ? block_add(q, b) : at;
}

void patch_block_publish(u32 i, u32 pages)
{
	struct patch_store *s = store();

	spin_lock(&s->lock);
	s->block[i].pages = pages;
	spin_unlock(&s->lock);
}

/* Under the lock. */
static int site_add(const struct patch_site *site)
{
	struct patch_store *s = store();

	if (s->nsites == PATCH_MAX_SITES)
		return -1;
	s->site[s->nsites] = *site;
	return (int)s->nsites++;
}

int patch_site_find(u32 block, u32 off)
{
	struct patch_store *s = store();
	u32 i, n = __atomic_load_n(&s->nsites, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++)
		if (s->site[i].block == block && s->site[i].off == off)
			return (int)i;
	return -1;
}

/* jmp *slot */
static void write_jump(u8 *to, u32 slot)
{
	u32 addr = PATCH_SLOTS + 8 * slot, i;

	to[0] = 0xff;
	to[1] = 0x24;
	to[2] = 0x25;
	for (i = 0; i < 4; i++)
		to[3 + i] = (u8)(addr >> 8 * i);
}

/* In a block that is not published yet. */
int patch_far_add(const struct patch_site *site, u8 *block)
{
	int slot;

	spin_lock(&store()->lock);
	slot = site_add(site);
	spin_unlock(&store()->lock);
	if (slot >= 0)
		write_jump(block + site->off, (u32)slot);
	return slot;
}

/* Somebody else may have been faster since the caller looked. */
static bool taken(const struct patch_site *site)
{
	struct patch_store *s = store();
	u32 i;

	for (i = 0; i < s->nsites; i++)
		if (s->site[i].block == site->block &&
		    (s->site[i].off == site->off ||
		     (s->site[i].kind == PATCH_NEAR && s->site[i].cave + PATCH_FAR_LEN > site->cave &&
		      site->cave + PATCH_FAR_LEN > s->site[i].cave)))
			return true;
	return false;
}

/* A site and its cave, which nobody executes; the site itself is the caller's to change (patch.c). */
int patch_near_add(const struct patch_site *site, u8 *block)
{
	int slot;

	spin_lock(&store()->lock);
	slot = taken(site) ? -1 : site_add(site);
	if (slot >= 0)
		write_jump(block + site->cave, (u32)slot);
	spin_unlock(&store()->lock);
	return slot;
}

/* The guest maps that file, and the host says that it is like this: blocks of an older one are for nobody new. */
void patch_note_file(u64 dev, u64 ino, u64 size, u64 mtime_sec, u64 mtime_nsec)
{
	struct patch_store *s = store();
	u32 i, n = __atomic_load_n(&s->nblocks, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++) {
		struct patch_block *b = &s->block[i];

		if (!is_of(b, dev, ino) || b->stale ||
		    (b->size == size && b->mtime_sec == mtime_sec && b->mtime_nsec == mtime_nsec))
			continue;
		spin_lock(&s->lock);
		b->stale = 1;
		spin_unlock(&s->lock);
	}
}
