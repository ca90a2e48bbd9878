/*
 * /proc/vmallocinfo: one line an area, in the order of addresses, in the format of Linux's mm/vmalloc.c.
 *
 * Sizes include the guard page.  Linux hashes the addresses and names the caller by symbol; here addresses are plain
 * and the caller is the address in the code, as Linux prints it where it knows no symbol.  Areas that are freed but not
 * yet purged come last.
 *
 * Locks: q->lock, for one line at a time.
 */
#include <fmt.h>
#include <quire/machine.h>

static void area_line(const struct vmap_area *a, struct fmt_buf *out)
{
	unsigned long start = (unsigned long)a->node.start, end = (unsigned long)a->node.end;

	fmt_printf(out, "0x%016lx-0x%016lx %7ld", start, end, (long)(end - start));
	if (a->dead) {
		fmt_printf(out, " unpurged vm_area\n");
		return;
	}
	fmt_printf(out, " 0x%lx", (unsigned long)a->caller);
	if (a->kind == VMAP_ALLOC && a->nr_pages)
		fmt_printf(out, " pages=%u", a->nr_pages);
	fmt_printf(out, a->kind == VMAP_ALLOC ? " vmalloc" : " vmap");
	if (a->kind == VMAP_ALLOC && a->nr_pages)
		fmt_printf(out, " N0=%u", a->nr_pages);
	fmt_putc(out, '\n');
}

/* The first area at or above *cursor that is dead or not, as asked; false when there is none.  One line a transaction.
 * */
static bool next_line(struct quire *q, u64 *cursor, bool dead, struct fmt_buf *out)
{
	const struct range_node *n;

	spin_lock(&q->lock);
	n = range_tree_find(&q->kmem.vmap, *cursor);
	if (n) {
		const struct vmap_area *a = container_of(n, struct vmap_area, node);

		/* An area that is still being filled has no line yet, as with VM_UNINITIALIZED. */
		if ((a->ready || a->dead) && a->dead == dead)
			area_line(a, out);
		*cursor = n->end;
	}
	spin_unlock(&q->lock);
	return n != NULL;
}

void proc_vmallocinfo(struct quire *q, struct fmt_buf *out)
{
	u64 cursor = VMALLOC_START;

	while (next_line(q, &cursor, false, out))
		;
	cursor = VMALLOC_START;
	while (next_line(q, &cursor, true, out))
		;
}
