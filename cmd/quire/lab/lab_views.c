/*
 * The lab's commands that look at the machine, or turn one of its knobs.
 */
#include "lab_internal.h"
#include <fmt.h>
#include <proc/phys_views.h>
#include <proc/proc.h>
#include <stdlib.h>
#include <string.h>

typedef void (*view_fn)(struct quire *q, struct fmt_buf *out);

void lab_print_text(struct lab *lab, lab_text_fn text_of, void *of, u64 at)
{
	struct fmt_buf size = fmt_init(NULL, 0), text;
	size_t room;
	char *buf;

	text_of(lab->q, of, at, &size);
	room = size.len + 4096; /* the view may have grown a little by being looked at */
	buf = malloc(room);
	if (!buf)
		abort();
	text = fmt_init(buf, room);
	text_of(lab->q, of, at, &text);
	fputs(buf, lab->out);
	free(buf);
}

static void view_of_machine(struct quire *q, void *of, u64 at, struct fmt_buf *out)
{
	const view_fn *view = of;

	(void)at;
	(*view)(q, out);
}

static void print_view(struct lab *lab, view_fn view)
{
	lab_print_text(lab, view_of_machine, &view, 0);
}

static const struct {
	const char *name;
	view_fn view;
} views[] = {
	{"buddyinfo", proc_buddyinfo}, {"pagetypeinfo", proc_pagetypeinfo}, {"zoneinfo", proc_zoneinfo},
	{"slabinfo", proc_slabinfo},   {"vmallocinfo", proc_vmallocinfo},   {"meminfo", proc_meminfo},
	{"vmstat", proc_vmstat},       {"owners", phys_show_owners},
};

static const char *zone_of(struct lab *lab, pfn_t pfn)
{
	const struct zone_layout *z = lab->q->cfg.zones ? lab->q->cfg.zones : &zone_layout_64;
	u64 pa = (u64)pfn << PAGE_SHIFT;

	if (pa < z->dma_end)
		return "DMA";
	if (pa < z->dma32_end)
		return "DMA32";
	return pa < z->lowmem_end ? "Normal" : "HighMem";
}

static void show_frame(struct lab *lab, const struct thing *t, pfn_t pfn)
{
	fprintf(lab->out, "%s: %s, frame %u, zone %s", t->name, thing_word[t->kind], pfn, zone_of(lab, pfn));
}

static void show_thing(struct lab *lab, struct thing *t)
{
	struct frame *f;

	switch (t->kind) {
	case THING_BLOCK:
		show_frame(lab, t, frame_to_pfn(lab->q, t->p));
		fprintf(lab->out, ", order %u\n", t->order);
		break;
	case THING_KMALLOC:
	case THING_OBJECT:
		if (ZERO_OR_NULL_PTR(t->p)) {
			fprintf(lab->out, "%s: no bytes at all\n", t->name);
			break;
		}
		f = virt_to_frame(lab->q, t->p);
		show_frame(lab, t, frame_to_pfn(lab->q, f));
		fprintf(lab->out, ", offset %lu, %zu bytes asked for, %zu usable\n",
			(unsigned long)((uintptr_t)t->p & (PAGE_SIZE - 1)), t->size, ksize(lab->q, t->p));
		break;
	case THING_VMALLOC:
		f = vmalloc_to_page(lab->q, t->p);
		fprintf(lab->out, "%s: vmalloc memory at 0x%lx, %zu bytes, first frame %u\n", t->name,
			(unsigned long)(uintptr_t)t->p, t->size, frame_to_pfn(lab->q, f));
		break;
	case THING_CACHE:
		fprintf(lab->out, "%s: cache of %zu-byte objects, %lu live\n", t->name, t->size,
			(unsigned long)kmem_cache_live_objects(lab->q, t->p));
		break;
	case THING_POOL:
		fprintf(lab->out, "%s: mempool with %d elements in reserve\n", t->name,
			mempool_free_elements(lab->q, t->p));
		break;
	default: fprintf(lab->out, "%s: %s of %s\n", t->name, thing_word[t->kind], t->owner->name); break;
	}
}

void lab_print_log(struct lab *lab, FILE *to)
{
	char text[4096];
	u64 pos = 0;

	for (;;) {
		struct fmt_buf b = fmt_init(text, sizeof(text));

		if (!quire_log_read(lab->q, &pos, &b))
			return;
		fputs(text, to);
	}
}

static void show_fragmentation(struct lab *lab)
{
	int zone;
	unsigned order;

	for (zone = 0; zone < MAX_NR_ZONES; zone++) {
		static const char *const name[] = {"DMA", "DMA32", "Normal", "HighMem"};

		if (unusable_free_index(lab->q, (enum zone_type)zone, 0) != 0)
			continue; /* no such zone, or nothing free in it */
		fprintf(lab->out, "unusable free memory, %8s:", name[zone]);
		for (order = 0; order <= MAX_ORDER; order++) {
			int v = unusable_free_index(lab->q, (enum zone_type)zone, order);

			fprintf(lab->out, " %d.%03d", v / 1000, v % 1000);
		}
		fputc('\n', lab->out);
	}
	fprintf(lab->out, "largest free order: %d\n", phys_largest_free_order(lab->q));
}

static int cmd_show(struct lab *lab, unsigned n, char **w)
{
	struct thing *t;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(views); i++)
		if (!strcmp(w[1], views[i].name)) {
			print_view(lab, views[i].view);
			return 0;
		}
	if (!strcmp(w[1], "fragmentation")) {
		show_fragmentation(lab);
	} else if (!strcmp(w[1], "names")) {
		things_each(lab, show_thing);
	} else if (!strcmp(w[1], "log")) {
		lab_print_log(lab, lab->out);
	} else {
		t = thing_find(lab, w[1]);
		if (!t)
			return lab_error(lab,
					 "'%s' is neither a view nor a name; views are buddyinfo, pagetypeinfo, "
					 "zoneinfo, "
					 "slabinfo, vmallocinfo, meminfo, vmstat, owners, fragmentation, names and log",
					 w[1]);
		if (!t->live)
			return lab_error(lab, "'%s' was freed on line %u", w[1], t->freed_at);
		show_thing(lab, t);
	}
	return 0;
}

static int cmd_echo(struct lab *lab, unsigned n, char **w)
{
	unsigned i;

	for (i = 1; i < n; i++)
		fprintf(lab->out, "%s%s", i > 1 ? " " : "", w[i]);
	fputc('\n', lab->out);
	return 0;
}

static int cmd_drain(struct lab *lab, unsigned n, char **w)
{
	drain_all_pages(lab->q);
	return 0;
}

static int cmd_reap(struct lab *lab, unsigned n, char **w)
{
	fprintf(lab->out, "reap: %lu frames\n", (unsigned long)kmem_reap(lab->q));
	return 0;
}

static int cmd_purge(struct lab *lab, unsigned n, char **w)
{
	fprintf(lab->out, "purge: %lu frames\n", (unsigned long)vm_unmap_aliases(lab->q));
	return 0;
}

/* fail off | fail nth N [KIND] | fail from N [KIND] */
static int cmd_fail(struct lab *lab, unsigned n, char **w)
{
	u64 kinds = SIM_FAIL_MEMORY, count;

	if (!strcmp(w[1], "off")) {
		sim_fail_none(lab->q);
		return 0;
	}
	if (n < 3 || (strcmp(w[1], "nth") && strcmp(w[1], "from")))
		return lab_error(lab, "fail: off, nth N or from N would be right");
	if (lab_number(lab, w[2], 1ull << 40, &count))
		return -1;
	if (n > 3 && !strcmp(w[3], "page"))
		kinds = BIT(FAIL_PAGE);
	else if (n > 3 && !strcmp(w[3], "slab"))
		kinds = BIT(FAIL_SLAB);
	else if (n > 3 && !strcmp(w[3], "vmalloc"))
		kinds = BIT(FAIL_VMALLOC);
	else if (n > 3)
		return lab_error(lab, "'%s' is no kind of failure: page, slab or vmalloc would be right", w[3]);
	if (!strcmp(w[1], "nth"))
		sim_fail_nth(lab->q, kinds, count);
	else
		sim_fail_from(lab->q, kinds, count);
	return 0;
}

static int cmd_check(struct lab *lab, unsigned n, char **w)
{
	bool ok = phys_is_valid(lab->q) && kmem_is_valid(lab->q) && vmalloc_is_valid(lab->q);

	fprintf(lab->out, "check: %s\n", ok ? "every structure is valid" : "BROKEN (show log)");
	return 0;
}

static int cmd_cpu(struct lab *lab, unsigned n, char **w)
{
	u64 cpu;

	if (lab_number(lab, w[1], lab->q->cfg.nr_cpus - 1, &cpu))
		return -1;
	sim_thread_set_cpu((unsigned)cpu);
	return 0;
}

const struct lab_command lab_view_commands[] = {
	{"show", "VIEW | NAME", "print a view of /proc, or what a name stands for", 1, 1, false, cmd_show},
	{"echo", "TEXT", "print words", 0, LAB_WORDS_MAX, false, cmd_echo},
	{"drain", "", "per-CPU lists back into the buddy lists", 0, 0, false, cmd_drain},
	{"reap", "", "free slab memory that is only kept for speed", 0, 0, false, cmd_reap},
	{"purge", "", "flush what vfree left behind", 0, 0, false, cmd_purge},
	{"fail", "off | nth N [KIND] | from N [KIND]", "make allocations fail (KIND: page, slab, vmalloc)", 1, 3, false,
	 cmd_fail},
	{"check", "", "walk every structure", 0, 0, false, cmd_check},
	{"cpu", "N", "go on on CPU N", 1, 1, false, cmd_cpu},
	{0},
};
