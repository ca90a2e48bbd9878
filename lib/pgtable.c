/*
 * The walker over translation tables: one loop over levels (xv6's walk(), with levels as data).
 *
 *   address  47      39 38      30 29      21 20      12 11         0
 *           [ level 0  | level 1  | level 2  | level 3  | offset     ]      ARM DDI 0487, D8.2.7
 *
 * Invariants (pgtable_is_valid): frame.private of a table = its non-zero entries; frame.index = the first address it
 * maps; *bytes = tables below the root, those in reserve included; a level-2 table without entries has none in reserve.  The root stays until pgtable_take_root().
 * Locks: user tables mm->lock, the kernel's q->lock.  Making a table takes q->lock for the machine's counter.
 */
#include <quire/machine.h>
#include <pgtable.h>

static pte_t *table_slots(struct quire *q, pte_t table)
{
	return port_frame_address(q, pte_pfn(table));
}

static struct frame *slot_table(struct quire *q, const pte_t *slot)
{
	return virt_to_frame(q, slot);
}

pte_t *pgtable_lookup(struct quire *q, u64 pgd, u64 addr, int *level)
{
	pte_t *slot = NULL, p = __pte(pgd);

	if (!pgd)
		return NULL;
	for (*level = 0;; (*level)++) {
		slot = &table_slots(q, p)[pt_index(addr, *level)];
		if (*level == PT_LAST_LEVEL)
			return slot;
		p = pte_read(slot);
		if (!pte_table(p))
			return slot;
	}
}

pte_t *pgtable_pte(struct quire *q, u64 pgd, u64 addr)
{
	int level;
	pte_t *slot = pgtable_lookup(q, pgd, addr, &level);

	return slot && level == PT_LAST_LEVEL ? slot : NULL;
}

void pgtable_set(struct quire *q, pte_t *slot, pte_t p)
{
	struct frame *table = slot_table(q, slot);
	bool was = !pte_none(pte_read(slot)), is = !pte_none(p);

	if (was != is)
		table->private += is ? 1 : (u64)-1;
	pte_store(slot, p);
}

void pgtable_store(pte_t *slot, pte_t p)
{
	DEBUG_ON(!pte_none(pte_read(slot)) || pte_none(p));
	pte_store(slot, p);
}

void pgtable_count(struct quire *q, pte_t *slot, u32 n)
{
	slot_table(q, slot)->private += n;
}

void pgtable_fill(struct quire *q, pte_t *slot, pte_t p, u32 n)
{
	struct frame *table = slot_table(q, slot);
	u32 i;

	for (i = 0; i < n; i++) {
		DEBUG_ON(!pte_none(pte_read(slot + i)));
		pte_store(slot + i, __pte(p.v + ((u64)i << PAGE_SHIFT)));
	}
	table->private += n;
}

void pgtable_clear(struct quire *q, pte_t *slot, u32 n)
{
	struct frame *table = slot_table(q, slot);
	u32 i, live = 0;

	for (i = 0; i < n; i++) {
		live += !pte_none(pte_read(slot + i));
		pte_store(slot + i, __pte(0));
	}
	table->private -= live;
}

static void count_table(const struct pgtable *pt, bool root, s64 n)
{
	if (pt->bytes && !root)
		*pt->bytes += (u64)n * PAGE_SIZE;
	spin_lock(&pt->q->lock);
	pt->q->nr_pagetable_pages += (u64)n;
	spin_unlock(&pt->q->lock);
}

/* A cleared table that maps addr by entries of `level`. */
static struct frame *table_alloc(const struct pgtable *pt, u64 addr, int level)
{
	struct frame *f = alloc_page(pt->q, GFP_KERNEL | __GFP_ZERO);

	if (!f)
		return NULL;
	f->type = FRAME_PGTABLE;
	f->index = level ? ALIGN_DOWN(addr, pt_size(level - 1)) : 0;
	f->private = 0;
	count_table(pt, level == 0, 1);
	return f;
}

pte_t *pgtable_alloc(const struct pgtable *pt, u64 addr, int want)
{
	struct quire *q = pt->q;
	pte_t *slot, p;

	if (!*pt->pgd) {
		struct frame *root = table_alloc(pt, 0, 0);

		if (!root)
			return NULL;
		*pt->pgd = (u64)frame_to_pfn(q, root) << PAGE_SHIFT;
	}
	p = __pte(*pt->pgd);
	for (int level = 0;; level++) {
		slot = &table_slots(q, p)[pt_index(addr, level)];
		if (level == want)
			return slot;
		p = pte_read(slot);
		if (pte_none(p)) {
			struct frame *table = table_alloc(pt, addr, level + 1);

			if (!table)
				return NULL;
			p = pte_mktable(frame_to_pfn(q, table));
			pgtable_set(q, slot, p);
		} else if (!pte_table(p)) {
			return NULL;
		}
	}
}

/* ---- ranges ---- */
void pt_iter_init(struct pt_iter *it, struct quire *q, u64 pgd, u64 start, u64 end)
{
	*it = (struct pt_iter){.q = q, .pgd = pgd, .addr = start, .next = start, .end = end};
}

/* The slot for addr: beside the last one if that lay in the same level-3 table, else by a walk. */
static pte_t *iter_slot(struct pt_iter *it, u64 addr)
{
	if (it->slot && it->level == PT_LAST_LEVEL && (addr ^ it->addr) < pt_size(PT_LAST_LEVEL - 1))
		return it->slot + (addr >> PAGE_SHIFT) - (it->addr >> PAGE_SHIFT);
	return pgtable_lookup(it->q, it->pgd, addr, &it->level);
}

/* Behind `slot`, which ends at `next`: over the none entries that follow in the same table, without a walk for each. */
static u64 skip_none(const pte_t *slot, int level, u64 next, u64 end)
{
	u64 size = pt_size(level);

	while (next < end && pt_index(next, level) && pte_none(pte_read(++slot)))
		next += size;
	return next;
}

bool pt_iter_next(struct pt_iter *it)
{
	u64 addr = it->next;

	if (!it->pgd)
		return false;
	while (addr < it->end) {
		pte_t *slot = iter_slot(it, addr);
		u64 next = ALIGN_DOWN(addr, pt_size(it->level)) + pt_size(it->level);

		it->slot = slot;
		it->addr = addr;
		it->next = next > addr ? next : ~0ull;
		if (!pte_none(pte_read(slot)))
			return true;
		it->next = skip_none(slot, it->level, it->next, it->end);
		addr = it->next;
	}
	return false;
}

/* ---- taking tables away ---- */

/* The slot that holds the table of level `level` for addr.  It exists. */
static pte_t *parent_slot(struct quire *q, u64 pgd, u64 addr, int level)
{
	pte_t *slot = NULL, p = __pte(pgd);

	for (int l = 0; l < level; l++) {
		slot = &table_slots(q, p)[pt_index(addr, l)];
		p = pte_read(slot);
	}
	return slot;
}

struct frame *pgtable_take_empty(const struct pgtable *pt, u64 *cursor, u64 end)
{
	while (*pt->pgd && *cursor < end) {
		int level;
		pte_t *slot = pgtable_lookup(pt->q, *pt->pgd, *cursor, &level);
		struct frame *table = slot_table(pt->q, slot);
		u64 step = level == PT_LAST_LEVEL ? pt_size(PT_LAST_LEVEL - 1) : pt_size(level);
		u64 next = ALIGN_DOWN(*cursor, step) + step;

		if (level > 0 && table->private == 0) {
			pgtable_set(pt->q, parent_slot(pt->q, *pt->pgd, *cursor, level), __pte(0));
			count_table(pt, false, -1);
			return table;
		}
		if (next > *cursor && level < PT_LAST_LEVEL && pte_none(pte_read(slot)))
			next = skip_none(slot, level, next, end);
		*cursor = next > *cursor ? next : ~0ull;
	}
	return NULL;
}

struct frame *pgtable_take_root(const struct pgtable *pt)
{
	struct frame *root = *pt->pgd ? pfn_to_frame(pt->q, (pfn_t)(*pt->pgd >> PAGE_SHIFT)) : NULL;

	if (!root)
		return NULL;
	BUG_ON(root->private != 0);
	*pt->pgd = 0;
	count_table(pt, true, -1);
	return root;
}

/* ---- blocks ---- */

pte_t *pgtable_block(struct quire *q, u64 pgd, u64 addr)
{
	int level;
	pte_t *slot = pgtable_lookup(q, pgd, addr, &level);

	return slot && level == PT_LAST_LEVEL - 1 && pte_block(pte_read(slot)) ? slot : NULL;
}

pte_t pgtable_read(struct quire *q, u64 pgd, u64 addr)
{
	int level;
	pte_t *slot = pgtable_lookup(q, pgd, addr, &level), p = slot ? pte_read(slot) : __pte(0);

	if (level == PT_LAST_LEVEL || pte_none(p) || !slot)
		return p;
	return __pte((p.v | PTE_TABLE) + (addr & (pt_size(level) - 1) & PAGE_MASK));
}

static void reserve_push(struct quire *q, pte_t *slot, struct frame *table)
{
	struct frame *up = slot_table(q, slot);

	table->next = up->next;
	up->next = frame_to_pfn(q, table) + 1;
}

static struct frame *reserve_pop(struct quire *q, pte_t *slot)
{
	struct frame *up = slot_table(q, slot), *table = up->next ? pfn_to_frame(q, up->next - 1) : NULL;

	if (table) {
		up->next = table->next;
		table->next = 0;
	}
	return table;
}

pte_t *pgtable_block_slot(const struct pgtable *pt, u64 addr, pte_t *from, enum reserve_source *source)
{
	pte_t *slot = pgtable_alloc(pt, addr, PT_LAST_LEVEL - 1), p;
	struct frame *table = NULL;

	if (!slot)
		return NULL;
	p = pte_read(slot);
	*source = pte_table(p) ? RESERVE_WAS_TABLE : RESERVE_NEW;
	if (pte_table(p)) {
		table = pfn_to_frame(pt->q, pte_pfn(p));
	} else if (pte_none(p)) {
		table = from ? reserve_pop(pt->q, from) : NULL;
		*source = table ? RESERVE_MOVED : RESERVE_NEW;
		if (!table)
			table = table_alloc(pt, addr, PT_LAST_LEVEL);
	}
	if (!table || table->private)
		return NULL;
	if (*source == RESERVE_WAS_TABLE)
		pgtable_set(pt->q, slot, __pte(0));
	reserve_push(pt->q, slot, table);
	return slot;
}

struct frame *pgtable_take_reserve(const struct pgtable *pt, pte_t *slot)
{
	struct frame *table = reserve_pop(pt->q, slot);

	if (table)
		count_table(pt, false, -1);
	return table;
}

struct frame *pgtable_split_fill(const struct pgtable *pt, pte_t *slot, u64 addr)
{
	struct frame *table = reserve_pop(pt->q, slot);
	pte_t block = pte_read(slot), *slots;

	if (!table)
		table = table_alloc(pt, addr, PT_LAST_LEVEL);
	if (!table)
		return NULL;
	slots = table_slots(pt->q, pte_mktable(frame_to_pfn(pt->q, table)));
	for (u64 i = 0; i < PT_ENTRIES; i++)
		pte_store(&slots[i], __pte((block.v | PTE_TABLE) + (i << PAGE_SHIFT)));
	table->index = ALIGN_DOWN(addr, pt_size(PT_LAST_LEVEL - 1));
	table->private = PT_ENTRIES;
	return table;
}

void pgtable_split_store(const struct pgtable *pt, pte_t *slot, struct frame *table)
{
	pgtable_set(pt->q, slot, pte_mktable(frame_to_pfn(pt->q, table)));
}

int pgtable_split_block(const struct pgtable *pt, u64 addr)
{
	pte_t *slot = pgtable_block(pt->q, *pt->pgd, addr);
	struct frame *table = slot ? pgtable_split_fill(pt, slot, addr) : NULL;

	if (table)
		pgtable_split_store(pt, slot, table);
	return slot && !table ? -ENOMEM : 0;
}

/* ---- validity ---- */

/* Checks one table; *tables counts it. */
static bool table_is_valid(struct quire *q, u64 pa, u64 base, int level, bool empty_ok)
{
	struct frame *f = pfn_to_frame(q, (pfn_t)(pa >> PAGE_SHIFT));
	const pte_t *slots = table_slots(q, __pte(pa));
	u64 live = 0;

	for (unsigned i = 0; i < PT_ENTRIES; i++)
		live += !pte_none(pte_read(&slots[i]));
	if (f->type == FRAME_PGTABLE && f->private == live && f->index == base && (live || empty_ok || level == 0))
		return true;
	quire_log(q, 3,
		  "pgtable: level %d table at %#llx for %#llx: type %u, %llu live entries, counted %llu, base %#llx",
		  level, (unsigned long long)pa, (unsigned long long)base, f->type, (unsigned long long)live,
		  (unsigned long long)f->private, (unsigned long long)f->index);
	return false;
}

/* Tables in reserve below the table at pa. */
static u64 reserve_length(struct quire *q, u64 pa)
{
	pfn_t next = pfn_to_frame(q, (pfn_t)(pa >> PAGE_SHIFT))->next;
	u64 n = 0;

	for (; next && n <= PT_ENTRIES; n++)
		next = pfn_to_frame(q, next - 1)->next;
	return n;
}

bool pgtable_is_valid(const struct pgtable *pt, bool empty_ok)
{
	u64 pa[PT_LEVELS] = {*pt->pgd}, base[PT_LEVELS] = {0}, tables = 0;
	unsigned idx[PT_LEVELS] = {0};
	int level = 0;

	if (!*pt->pgd)
		return !pt->bytes || *pt->bytes == 0;
	if (!table_is_valid(pt->q, pa[0], 0, 0, true))
		return false;
	while (level >= 0) {
		unsigned i = idx[level]++;
		pte_t p;

		if (i == PT_ENTRIES || level == PT_LAST_LEVEL) {
			level--;
			continue;
		}
		p = pte_read(&table_slots(pt->q, __pte(pa[level]))[i]);
		if (!pte_table(p))
			continue;
		base[level + 1] = base[level] + ((u64)i << pt_shift(level));
		level++;
		pa[level] = pte_addr(p);
		idx[level] = 0;
		tables += 1 + reserve_length(pt->q, pa[level]);
		if (!table_is_valid(pt->q, pa[level], base[level], level, empty_ok))
			return false;
	}
	return !pt->bytes || *pt->bytes == tables * PAGE_SIZE;
}
