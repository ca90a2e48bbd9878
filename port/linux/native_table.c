/*
 * The table of system calls (native_table.h), built from native_table.def.  A number that stands in it twice
 * does not compile (-Woverride-init); one that is missing fails tests/native_table_test.c.
 */
#include "native.h"
#include "native_table.h"
#include "x86_64/native_nr.h"

#define V { ARG_VALUE, 0, 0 }
#define FD { ARG_FD, 0, 0 }
#define STR { ARG_STR, 0, 0 }
#define IN(n) { ARG_IN, 0, n }
#define OUT(n) { ARG_OUT, 0, n }
#define INOUT(n) { ARG_INOUT, 0, n }
#define INB(k) { ARG_INBUF, k, 1 }
#define OUTB(k) { ARG_OUTBUF, k, 1 }
#define INA(k, n) { ARG_INBUF, k, n }
#define OUTA(k, n) { ARG_OUTBUF, k, n }
#define OUTL(k, n) { ARG_OUTLEN, k, n }
#define LEN { ARG_LEN, 0, 4 }
#define VSIZE { ARG_VSIZE, 0, 0 }

#define ENTRY(name, class, flags, error, described, fn, why, ...) \
	[__NR_##name] = { #name, class, flags, error, described, fn, why, { __VA_ARGS__ } },
#define NONE(name, flags, ...) ENTRY(name, NC_NONE, flags, 0, 1, NULL, NULL, __VA_ARGS__)
#define BUF(name, flags, ...) ENTRY(name, NC_BUF, flags, 0, 1, NULL, NULL, __VA_ARGS__)
#define CALL(name, flags, fn) ENTRY(name, NC_BUF, flags, 0, 1, fn, NULL, V)
#define SERVED(name) ENTRY(name, NC_SERVED, 0, 0, 0, NULL, NULL, V)
#define SERVED_BUF(name, flags, ...) ENTRY(name, NC_SERVED, flags, 0, 1, NULL, NULL, __VA_ARGS__)
#define SERVED_CALL(name, flags, fn) ENTRY(name, NC_SERVED, flags, 0, 1, fn, NULL, V)
#define REFUSED(name, error, why) ENTRY(name, NC_REFUSED, 0, error, 0, NULL, why, V)

const struct native_call native_table[NATIVE_MAX] = {
#include "native_table.def"
};

const struct native_call *native_lookup(long nr)
{
	if (nr < 0 || nr >= NATIVE_MAX || native_table[nr].class == NC_UNKNOWN)
		return NULL;
	return &native_table[nr];
}

bool native_is_untrapped(long nr)
{
	const struct native_call *c = native_lookup(nr);

	return c && c->flags & NF_FREE;
}
