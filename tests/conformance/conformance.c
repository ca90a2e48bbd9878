/* The suite's runner. */
#include "conformance.h"

void conformance_fail(struct port_under_test *p, int line, const char *what)
{
	__atomic_add_fetch(&p->failed, 1, __ATOMIC_RELAXED);
	p->report(p, p->check, line, what);
}

static void run_list(struct port_under_test *p, const struct conformance_check *list)
{
	for (; list->name; list++) {
		p->check = list->name;
		list->fn(p);
		CHECK(p, !in_transaction());
		CHECK(p, port_ctx()->nmutex == 0);
	}
}

u32 conformance_run(struct port_under_test *p)
{
	p->failed = 0;
	run_list(p, conformance_basics);
	run_list(p, conformance_translations);
	return p->failed;
}
