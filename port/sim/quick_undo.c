/*
 * phys/quick.c in the flavour whose core is logged: its stores are events at which a context may die, as everybody's, but the hooks do
 * not note them, as nobody does on the hosted port.  What it calls of page_alloc.c is logged.
 */
#include "sim_internal.h"

#include "../../phys/phys.h"

struct frame *quick_alloc_pages(struct quire *q, gfp_t gfp, unsigned order);
void quick_free_pages(struct quire *q, struct frame *f, unsigned order);
struct frame *logged_alloc_pages(struct quire *q, gfp_t gfp, unsigned order, void *caller);
void logged_free_pages(struct quire *q, struct frame *f, unsigned order, void *caller);

#define alloc_pages quick_alloc_pages
#define __free_pages quick_free_pages
#define alloc_pages_asked logged_alloc_pages
#define free_pages_caller logged_free_pages
#include "../../phys/quick.c"
#undef alloc_pages
#undef __free_pages
#undef alloc_pages_asked
#undef free_pages_caller

static void unlogged(bool yes)
{
	struct sim_ctx *s = sim_ctx_current();

	if (s)
		s->unlogged = yes;
}

struct frame *alloc_pages(struct quire *q, gfp_t gfp, unsigned order)
{
	struct frame *f;

	unlogged(true);
	f = quick_alloc_pages(q, gfp, order);
	unlogged(false);
	return f;
}

void __free_pages(struct quire *q, struct frame *f, unsigned order)
{
	unlogged(true);
	quick_free_pages(q, f, order);
	unlogged(false);
}

struct frame *logged_alloc_pages(struct quire *q, gfp_t gfp, unsigned order, void *caller)
{
	unlogged(false);
	return alloc_pages_asked(q, gfp, order, caller);
}

void logged_free_pages(struct quire *q, struct frame *f, unsigned order, void *caller)
{
	unlogged(false);
	free_pages_caller(q, f, order, caller);
}
