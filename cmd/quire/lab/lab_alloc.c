/*
 * The lab's commands that allocate and free.  An allocation that fails is a result, not an error: it is printed, and
 * the name stays free.
 */
#include "lab_internal.h"
#include <string.h>
#include <quire/highmem.h>
#include <port/sim/mmu.h>

static int out_of_memory(struct lab *lab, const char *what, const char *name)
{
	fprintf(lab->out, "%s %s: out of memory\n", what, name);
	return 0;
}

/* Keeps p under name, or reports that there is none. */
static int keep(struct lab *lab, const char *what, struct thing *t, void *p, size_t size)
{
	t->p = p;
	t->size = size;
	if (p)
		return 0;
	thing_dead(lab, t);
	return out_of_memory(lab, what, t->name);
}

/* ---- frames ---- */

static int cmd_alloc(struct lab *lab, unsigned n, char **w)
{
	struct thing *t;
	u64 order;
	gfp_t gfp;

	if (lab_number(lab, w[2], MAX_ORDER, &order) || lab_gfp(lab, n - 3, w + 3, &gfp))
		return -1;
	t = thing_new(lab, w[1], THING_BLOCK);
	if (!t)
		return -1;
	t->order = (unsigned)order;
	return keep(lab, w[0], t, alloc_pages(lab->q, gfp, t->order), PAGE_SIZE << order);
}

/* ---- by size ---- */

/* kmalloc and vmalloc take the same words. */
static int by_size(struct lab *lab, unsigned n, char **w, enum thing_kind kind, gfp_t more)
{
	struct thing *t;
	size_t size;
	gfp_t gfp;
	void *p;

	if (lab_size(lab, w[2], &size) || lab_gfp(lab, n - 3, w + 3, &gfp))
		return -1;
	t = thing_new(lab, w[1], kind);
	if (!t)
		return -1;
	p = kind == THING_KMALLOC ? kmalloc(lab->q, size, gfp | more) : __vmalloc(lab->q, size, gfp | more);
	return keep(lab, w[0], t, p, size);
}

static int cmd_kmalloc(struct lab *lab, unsigned n, char **w)
{
	return by_size(lab, n, w, THING_KMALLOC, 0);
}
static int cmd_kzalloc(struct lab *lab, unsigned n, char **w)
{
	return by_size(lab, n, w, THING_KMALLOC, __GFP_ZERO);
}
static int cmd_vmalloc(struct lab *lab, unsigned n, char **w)
{
	return by_size(lab, n, w, THING_VMALLOC, 0);
}
static int cmd_vzalloc(struct lab *lab, unsigned n, char **w)
{
	return by_size(lab, n, w, THING_VMALLOC, __GFP_ZERO);
}

static int cmd_krealloc(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_want(lab, w[1], THING_KMALLOC);
	size_t size;
	void *p;

	if (!t || lab_size(lab, w[2], &size))
		return -1;
	p = krealloc(lab->q, t->p, size, GFP_KERNEL);
	if (!p)
		return out_of_memory(lab, w[0], t->name);
	t->p = p;
	t->size = size;
	return 0;
}

/* ---- caches ---- */

static int cmd_cache(struct lab *lab, unsigned n, char **w)
{
	struct thing *t;
	u32 flags = 0;
	size_t size;
	u64 align = 0;
	unsigned i;

	if (lab_size(lab, w[2], &size))
		return -1;
	for (i = 3; i < n; i++) {
		if (!strcmp(w[i], "debug"))
			flags |= SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER;
		else if (!strcmp(w[i], "hwcache"))
			flags |= SLAB_HWCACHE_ALIGN;
		else if (!strcmp(w[i], "reclaimable"))
			flags |= SLAB_RECLAIM_ACCOUNT;
		else if (lab_number(lab, w[i], 8 * PAGE_SIZE, &align))
			return -1;
	}
	t = thing_new(lab, w[1], THING_CACHE);
	return t ? keep(lab, w[0], t, kmem_cache_create(lab->q, w[1], size, align, flags, NULL), size) : -1;
}

static int cmd_cache_alloc(struct lab *lab, unsigned n, char **w)
{
	struct thing *c = thing_want(lab, w[2], THING_CACHE), *t;
	gfp_t gfp;

	if (!c || lab_gfp(lab, n - 3, w + 3, &gfp))
		return -1;
	t = thing_new(lab, w[1], THING_OBJECT);
	if (!t)
		return -1;
	t->owner = c;
	return keep(lab, w[0], t, kmem_cache_alloc(lab->q, c->p, gfp), c->size);
}

static int cmd_cache_shrink(struct lab *lab, unsigned n, char **w)
{
	struct thing *c = thing_want(lab, w[1], THING_CACHE);

	if (!c)
		return -1;
	fprintf(lab->out, "%s: %s\n", c->name, kmem_cache_shrink(lab->q, c->p) ? "slabs remain" : "no slab remains");
	return 0;
}

static int cmd_cache_destroy(struct lab *lab, unsigned n, char **w)
{
	struct thing *c = thing_want(lab, w[1], THING_CACHE);

	if (!c)
		return -1;
	if (kmem_cache_destroy(lab->q, c->p))
		fprintf(lab->out, "%s: objects remain in use; the cache stays (show log)\n", c->name);
	else
		thing_dead(lab, c);
	return 0;
}

/* ---- mempools ---- */

/* NULL: out of memory, or (with lab->status set) bad words. */
static mempool_t *make_pool(struct lab *lab, char **w, int count)
{
	struct thing *c;
	size_t size;
	u64 order;

	if (!strcmp(w[3], "slab")) {
		c = thing_want(lab, w[4], THING_CACHE);
		return c ? mempool_create_slab_pool(lab->q, count, c->p) : NULL;
	}
	if (!strcmp(w[3], "kmalloc"))
		return lab_size(lab, w[4], &size) ? NULL : mempool_create_kmalloc_pool(lab->q, count, size);
	if (!strcmp(w[3], "pages"))
		return lab_number(lab, w[4], MAX_ORDER, &order)
			       ? NULL
			       : mempool_create_page_pool(lab->q, count, (unsigned)order);
	lab_error(lab, "'%s' is no back end: slab CACHE, kmalloc SIZE or pages ORDER would be right", w[3]);
	return NULL;
}

static int cmd_mempool(struct lab *lab, unsigned n, char **w)
{
	struct thing *t;
	mempool_t *pool;
	u64 count;

	if (lab_number(lab, w[2], 1u << 20, &count))
		return -1;
	t = thing_new(lab, w[1], THING_POOL);
	if (!t)
		return -1;
	pool = make_pool(lab, w, (int)count);
	return lab->status ? -1 : keep(lab, w[0], t, pool, count);
}

/* The lab is one thread: a blocking allocation from an empty pool would wait for ever, so it must not block. */
static int cmd_mempool_alloc(struct lab *lab, unsigned n, char **w)
{
	struct thing *pool = thing_want(lab, w[2], THING_POOL), *t;

	if (!pool)
		return -1;
	t = thing_new(lab, w[1], THING_ELEMENT);
	if (!t)
		return -1;
	t->owner = pool;
	return keep(lab, w[0], t, mempool_alloc(lab->q, pool->p, GFP_NOWAIT), 0);
}

static int cmd_mempool_resize(struct lab *lab, unsigned n, char **w)
{
	struct thing *pool = thing_want(lab, w[1], THING_POOL);
	u64 count;

	if (!pool || lab_number(lab, w[2], 1u << 20, &count))
		return -1;
	return mempool_resize(lab->q, pool->p, (int)count) ? out_of_memory(lab, w[0], pool->name) : 0;
}

static int cmd_mempool_destroy(struct lab *lab, unsigned n, char **w)
{
	struct thing *pool = thing_want(lab, w[1], THING_POOL);

	if (!pool)
		return -1;
	mempool_destroy(lab->q, pool->p);
	thing_dead(lab, pool);
	return 0;
}

/* ---- freeing, whatever it is ---- */

/* The one place that knows how each kind of thing is given back. */
static void really_free(struct lab *lab, struct thing *t)
{
	switch (t->kind) {
	case THING_BLOCK: __free_pages(lab->q, t->p, t->order); break;
	case THING_KMALLOC: kfree(lab->q, t->p); break;
	case THING_VMALLOC: vfree(lab->q, t->p); break;
	case THING_OBJECT: kmem_cache_free(lab->q, t->owner->p, t->p); break;
	case THING_ELEMENT: mempool_free(lab->q, t->owner->p, t->p); break;
	default: break;
	}
}

static int cmd_free(struct lab *lab, unsigned n, char **w)
{
	static const struct {
		const char *command;
		enum thing_kind kind;
	} only[] = {{"kfree", THING_KMALLOC},
		    {"vfree", THING_VMALLOC},
		    {"cache-free", THING_OBJECT},
		    {"mempool-free", THING_ELEMENT}};
	enum thing_kind kind = NR_THINGS;
	struct thing *t;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(only); i++)
		if (!strcmp(w[0], only[i].command))
			kind = only[i].kind;
	t = thing_want(lab, w[1], kind);
	if (!t)
		return -1;
	if (t->kind == THING_CACHE || t->kind == THING_POOL)
		return lab_error(lab, "'%s' is a %s: use cache-destroy or mempool-destroy", t->name,
				 thing_word[t->kind]);
	if (lab_refuse_free(lab, t))
		return -1;
	if (t->owner && !t->owner->live)
		return lab_error(lab, "the %s of '%s' is gone", thing_word[t->owner->kind], t->name);
	really_free(lab, t);
	thing_dead(lab, t);
	return 0;
}

/* On purpose: whatever the name last stood for is freed (again), to see what the allocator says. */
static int cmd_free_anyway(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_find(lab, w[1]);

	if (!t || !t->p)
		return lab_error(lab, "'%s' is not known", w[1]);
	if (lab_refuse_free(lab, t))
		return -1;
	really_free(lab, t);
	thing_dead(lab, t);
	return 0;
}

/* ---- touching ---- */

static u8 *bytes_of(struct lab *lab, const struct thing *t)
{
	if (t->kind == THING_BLOCK)
		return frame_address(lab->q, t->p);
	return t->kind == THING_KMALLOC || t->kind == THING_OBJECT ? t->p : NULL;
}

static int store(struct lab *lab, u8 *at, u64 n)
{
	u8 *ram = lab->q->cfg.direct_map;

	if (at < ram || at + n > ram + lab->q->cfg.memory)
		return lab_error(lab, "that lies outside of the machine's memory");
	memset(at, 0x5a, n);
	return 0;
}

/* vmalloc memory has addresses of the simulated MMU only; a fault there is a result, too. */
static int store_mapped(struct lab *lab, u64 va, u64 n)
{
	struct sim_cpu *cpu = sim_cpu_get(lab->q, 0);
	u64 i;

	sim_set_kernel_table(lab->q, kernel_pgd(lab->q));
	sim_cpu_set_el(cpu, 1);
	for (i = 0; i < n; i++)
		if (sim_store(cpu, va + i, 1, 0x5a)) {
			fprintf(lab->out, "fault at 0x%llx: ESR 0x%08x\n", (unsigned long long)(va + i), cpu->esr);
			return 0;
		}
	return 0;
}

/* write NAME OFFSET LENGTH: also beyond the end, and after a free. */
static int cmd_write(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_find(lab, w[1]);
	size_t off, len;
	u8 *p;

	if (!t || !t->p)
		return lab_error(lab, "'%s' is not known", w[1]);
	if (lab_size(lab, w[2], &off) || lab_size(lab, w[3], &len))
		return -1;
	if (t->kind == THING_VMALLOC)
		return store_mapped(lab, (u64)(uintptr_t)t->p + off, len);
	p = bytes_of(lab, t);
	if (!p)
		return lab_error(lab, "'%s' has no address of its own", t->name);
	return store(lab, p + off, len);
}

static int cmd_kmap(struct lab *lab, unsigned n, char **w)
{
	struct thing *t = thing_want(lab, w[1], THING_BLOCK);

	if (!t)
		return -1;
	if (!strcmp(w[0], "kmap"))
		fprintf(lab->out, "%s: mapped at 0x%lx\n", t->name, (unsigned long)(uintptr_t)kmap(lab->q, t->p));
	else if (!page_address(lab->q, t->p))
		return lab_error(lab, "'%s' is not mapped", t->name);
	else
		kunmap(lab->q, t->p);
	return 0;
}

const struct lab_command lab_alloc_commands[] = {
	{"alloc", "NAME ORDER [GFP]", "2^ORDER frames from the page allocator", 2, 8, true, cmd_alloc},
	{"kmalloc", "NAME SIZE [GFP]", "memory by size", 2, 8, true, cmd_kmalloc},
	{"kzalloc", "NAME SIZE [GFP]", "the same, zeroed", 2, 8, true, cmd_kzalloc},
	{"krealloc", "NAME SIZE", "another size for kmalloc memory", 2, 2, true, cmd_krealloc},
	{"vmalloc", "NAME SIZE [GFP]", "scattered frames made contiguous", 2, 8, true, cmd_vmalloc},
	{"vzalloc", "NAME SIZE [GFP]", "the same, zeroed", 2, 8, true, cmd_vzalloc},
	{"cache", "NAME SIZE [ALIGN] [debug] [hwcache] [reclaimable]", "a slab cache", 2, 6, true, cmd_cache},
	{"cache-alloc", "NAME CACHE [GFP]", "an object of a cache", 2, 8, true, cmd_cache_alloc},
	{"cache-shrink", "CACHE", "give empty slabs back", 1, 1, true, cmd_cache_shrink},
	{"cache-destroy", "CACHE", "end a cache, if it has no objects", 1, 1, true, cmd_cache_destroy},
	{"mempool", "NAME COUNT slab CACHE | kmalloc SIZE | pages ORDER", "a reserve of COUNT elements", 4, 4, true,
	 cmd_mempool},
	{"mempool-alloc", "NAME POOL", "an element of a pool, without waiting", 2, 2, true, cmd_mempool_alloc},
	{"mempool-resize", "POOL COUNT", "another reserve", 2, 2, true, cmd_mempool_resize},
	{"mempool-destroy", "POOL", "end a pool whose elements are all back", 1, 1, true, cmd_mempool_destroy},
	{"free", "NAME", "free a block, memory, object or element", 1, 1, true, cmd_free},
	{"kfree", "NAME", "the same, for kmalloc memory only", 1, 1, true, cmd_free},
	{"vfree", "NAME", "the same, for vmalloc memory only", 1, 1, true, cmd_free},
	{"cache-free", "NAME", "the same, for objects only", 1, 1, true, cmd_free},
	{"mempool-free", "NAME", "the same, for elements only", 1, 1, true, cmd_free},
	{"free!", "NAME", "free it even if it is free: see what the machine says", 1, 1, true, cmd_free_anyway},
	{"write", "NAME OFFSET LENGTH", "store into it, also where one must not", 3, 3, true, cmd_write},
	{"kmap", "NAME", "map a HighMem frame", 1, 1, true, cmd_kmap},
	{"kunmap", "NAME", "and unmap it", 1, 1, true, cmd_kmap},
	{0},
};
