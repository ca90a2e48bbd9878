/*
 * The conformance suite: every law of include/port/port.h, checked on a booted machine from above the port.
 *
 * It is written for any flavour: no libc, no threads of its own, nothing but the core, port.h and the few things that only
 * the port under test can lend (struct port_under_test).  Results go through report(); conformance_run() returns
 * how many checks failed.  A port passes when that is 0 in all its modes.
 */
#ifndef TESTS_CONFORMANCE_H
#define TESTS_CONFORMANCE_H
#include <quire/machine.h>

struct port_under_test {
	struct quire *q;
	unsigned nr_cpus;  /* CPUs that access() and run() know, at least 1 */
	/* One 8-byte access by a guest running mm on this CPU, with all the port's ways to resolve it.  0 if it happened, else
	 * negative (a signal).  Under no lock. */
	int (*access)(struct port_under_test *p, unsigned cpu, struct mm_struct *mm, u64 va, bool write, u64 *val);
	/* How many aborts have reached the core (or would have) so far. */
	u64 (*aborts)(struct port_under_test *p);
	/* Runs fn(p, i, arg) for i in [0, n) at the same time, each in its own context, thread i on CPU i; returns when all have. */
	void (*run)(struct port_under_test *p, unsigned n, void (*fn)(struct port_under_test *p, unsigned i, void *arg),
		    void *arg);
	/* A native call (or a device) begins and ends to use [start, end) of mm.  NULL: the port has no such thing. */
	void (*pin)(struct port_under_test *p, struct mm_struct *mm, u64 start, u64 end);
	void (*unpin)(struct port_under_test *p, struct mm_struct *mm, u64 start, u64 end);
	/* A check failed. */
	void (*report)(struct port_under_test *p, const char *check, int line, const char *what);
	void *cookie;      /* the port's own */
	/* The suite's: */
	const char *check; /* the one that runs */
	u32 failed;        /* atomic */
};

u32 conformance_run(struct port_under_test *p);

/* ---- what the suite's files share ---- */
struct conformance_check {
	const char *name;
	void (*fn)(struct port_under_test *p);
};
extern const struct conformance_check conformance_basics[], conformance_translations[]; /* end with a NULL name */
void conformance_fail(struct port_under_test *p, int line, const char *what);
#define CHECK(p, cond) \
	do { \
		if (unlikely(!(cond))) \
			conformance_fail(p, __LINE__, #cond); \
	} while (0)

#endif
