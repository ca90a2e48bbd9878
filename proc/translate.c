/*
 * From a virtual address to a physical one, told level by level: for people who want to see the walk.
 *
 *	level 3 index 103  at 0x0000000000a3d338  0x0268000012345f43  page 0x12345000, user, read/write, accessed, dirty
 *
 * The descriptors are copied under mm->lock and the frame's record under q->lock; the text is made afterwards, from the
 * copies, so that what it says held together at one moment.
 */
#include "maps.h"
#include <pgtable.h>

#define LINE_ROOM 512u

struct walk_step { u64 slot_pa; pte_t entry; };
struct walk {
	struct walk_step step[PT_LEVELS];
	int steps;             /* that exist */
	bool mapped;           /* the last one leads to a frame */
	u64 pa;                /* of the byte, when mapped */
	struct frame frame;    /* a copy of its folio's record */
	pfn_t head;
	u64 pgd;
	bool in_vma;
	char vma[LINE_ROOM];   /* the VMA's line of maps */
};

/* Under mm->lock. */
static void walk_tables(struct quire *q, u64 addr, struct walk *w)
{
	u64 table = w->pgd;
	int level;

	for (level = 0; table && level < PT_LEVELS; level++) {
		pte_t *slots = port_frame_address(q, (pfn_t)(table >> PAGE_SHIFT));
		unsigned i = pt_index(addr, level);
		pte_t p = pte_read(&slots[i]);

		w->step[w->steps++] = (struct walk_step){ table + i * sizeof(pte_t), p };
		if (level < PT_LAST_LEVEL && pte_table(p)) {
			table = pte_addr(p);
			continue;
		}
		w->mapped = pte_valid(p);
		w->pa = pte_addr(p) + (addr & (pt_size(level) - 1));
		return;
	}
}

/* Under mm->lock. */
static void copy_frame_record(struct quire *q, struct walk *w)
{
	pfn_t pfn = (pfn_t)(w->pa >> PAGE_SHIFT);
	struct folio *folio;

	if (!w->mapped || w->pa >= q->cfg.memory)
		return;
	spin_lock(&q->lock);
	folio = pfn_folio(q, pfn);
	w->frame = folio->f;
	w->head = folio_pfn(q, folio);
	spin_unlock(&q->lock);
}

static const char *memory_type(pte_t p) { return p.v & (7ull << PTE_ATTR_SHIFT) ? "device memory" : "normal memory"; }
static const char *sharing(pte_t p)
{
	static const char *const name[] = { "not shareable", "shareable (reserved)", "outer shareable", "inner shareable" };

	return name[(p.v >> 8) & 3];
}

/* What the MMU and the software bits of a page or block say. */
static void put_leaf(struct fmt_buf *out, int level, pte_t p)
{
	fmt_printf(out, "%s 0x%lx: %s, ", level == PT_LAST_LEVEL ? "page" : "block of 2 MiB", (unsigned long)pte_addr(p),
		   pte_user(p) ? "user" : "kernel only");
	fmt_printf(out, "%s, %s, ", pte_rdonly(p) ? (pte_write(p) ? "read-only until first written (DBM)" : "read-only") :
		   "read/write", pte_exec(p) ? "executable" : "UXN");
	fmt_printf(out, "%s%s%s", pte_young(p) ? "AF" : "no AF", p.v & PTE_NG ? ", nG" : "", p.v & PTE_PXN ? ", PXN" : "");
	fmt_printf(out, ", %s, %s%s", memory_type(p), sharing(p), pte_cont(p) ? ", contiguous" : "");
	fmt_printf(out, "; software: %s%s%s", pte_dirty(p) ? "dirty" : "clean", pte_excl(p) ? ", exclusive" : "",
		   pte_special(p) ? ", special" : "");
}

static void put_entry(struct fmt_buf *out, int level, pte_t p)
{
	if (pte_none(p))
		fmt_printf(out, "nothing");
	else if (level < PT_LAST_LEVEL && pte_table(p))
		fmt_printf(out, "table 0x%lx", (unsigned long)pte_addr(p));
	else if (pte_valid(p))
		put_leaf(out, level, p);
	else if (pte_is_swap(p))
		fmt_printf(out, "swapped out: area %u, slot %lu%s", swp_type(pte_to_swp_entry(p)),
			   (unsigned long)swp_offset(pte_to_swp_entry(p)), pte_swp_excl(p) ? ", exclusive" : "");
	else if (pte_is_migration(p))
		fmt_printf(out, "on the move from frame %u", pte_migration_pfn(p));
	else if (pte_is_guard(p))
		fmt_printf(out, "guard: no access");
	else
		fmt_printf(out, "not valid");
}

static const char *type_name(u8 type)
{
	static const char *const name[] = {
		[FRAME_VIRGIN] = "never used", [FRAME_FREE] = "free", [FRAME_PCP] = "free (per-CPU list)", [FRAME_TAIL] = "tail",
		[FRAME_KERNEL] = "kernel", [FRAME_SLAB] = "slab", [FRAME_PGTABLE] = "page table", [FRAME_ANON] = "anonymous",
		[FRAME_FILE] = "page cache", [FRAME_SHMEM] = "shared memory", [FRAME_VMALLOC] = "vmalloc",
		[FRAME_RESERVED] = "reserved (the zero page)",
	};

	return type < ARRAY_SIZE(name) && name[type] ? name[type] : "?";
}

static void put_flags(struct fmt_buf *out, u16 flags)
{
	static const char *const name[] = { "dirty", "referenced", "lru", "active", "unevictable", "swapbacked", "swapcache",
					    "uptodate", "writeback", "locked", "workingset", "mlocked", "poisoned", "zeroed",
					    "reclaim" };
	const char *between = ", flags ";
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(name); i++) {
		if (!(flags & BIT(i)))
			continue;
		fmt_printf(out, "%s%s", between, name[i]);
		between = "|";
	}
}

static void put_frame(struct quire *q, struct fmt_buf *out, const struct walk *w)
{
	pfn_t pfn = (pfn_t)(w->pa >> PAGE_SHIFT);

	fmt_printf(out, "frame    %u: %s, refcount %u, mapcount %u", pfn, type_name(w->frame.type), w->frame.refcount,
		   w->frame.mapcount);
	if (w->frame.order)
		fmt_printf(out, ", page %u of a folio of %u", pfn - w->head, 1u << w->frame.order);
	put_flags(out, w->frame.flags);
	fmt_putc(out, '\n');
	if (w->frame.type == FRAME_FILE && (q->caps & PORT_CAP_HOST_FILES))
		fmt_printf(out, "         (the host's page cache holds the bytes of this file; the frame stands for them)\n");
}

static void put_walk(struct quire *q, u64 addr, const struct walk *w, struct fmt_buf *out)
{
	int level;

	fmt_printf(out, "virtual  0x%016lx\nvma      %s", (unsigned long)addr, w->in_vma ? w->vma : "none\n");
	if (!w->pgd)
		fmt_printf(out, "no tables yet\n");
	else
		fmt_printf(out, "root     0x%016lx\n", (unsigned long)w->pgd);
	for (level = 0; level < w->steps; level++) {
		const struct walk_step *s = &w->step[level];

		fmt_printf(out, "level %d  index %3u  at 0x%016lx  0x%016lx  ", level, pt_index(addr, level),
			   (unsigned long)s->slot_pa, (unsigned long)s->entry.v);
		put_entry(out, level, s->entry);
		fmt_putc(out, '\n');
	}
	if (!w->mapped) {
		fmt_printf(out, "physical none: %s\n", w->in_vma ? "a touch faults" : "a touch is SIGSEGV");
		return;
	}
	fmt_printf(out, "physical 0x%016lx\n", (unsigned long)w->pa);
	if (w->pa < q->cfg.memory)
		put_frame(q, out, w);
}

void proc_translate(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out)
{
	struct walk w = { .steps = 0 };
	struct fmt_buf line = fmt_init(w.vma, sizeof(w.vma) - 1);
	struct vm_area_struct *vma;

	spin_lock(&mm->lock);
	w.pgd = mm->pgd;
	vma = vma_lookup(mm, addr);
	w.in_vma = vma != NULL;
	if (vma)
		proc_vma_line(mm, vma, &line);
	walk_tables(q, addr, &w);
	copy_frame_record(q, &w);
	spin_unlock(&mm->lock);
	if (fmt_truncated(&line)) /* a long name: it ends the line no more */
		w.vma[sizeof(w.vma) - 2] = '\n', w.vma[sizeof(w.vma) - 1] = 0;
	put_walk(q, addr, &w, out);
}
