/*
 * What the files of the lab share.  Single-threaded libc code; nothing here is part of the core.
 */
#ifndef QUIRE_CMD_LAB_INTERNAL_H
#define QUIRE_CMD_LAB_INTERNAL_H
#include <port/sim/sim.h>
#include <quire/mempool.h>
#include <quire/vmalloc.h>
#include "lab.h"

#define LAB_LINE_MAX 1024
#define LAB_WORDS_MAX 32
#define LAB_NAME_MAX 64
#define LAB_RANGE_MAX 100000u /* names that one A1..A9 may stand for */

/* What a name stands for. */
enum thing_kind {
	THING_BLOCK, /* alloc: frames */
	THING_KMALLOC,
	THING_VMALLOC,
	THING_CACHE,
	THING_OBJECT, /* of a cache */
	THING_POOL,
	THING_ELEMENT, /* of a pool */
	THING_PROCESS,
	THING_MAPPING, /* p: its address in the process */
	NR_THINGS
};

struct thing {
	struct thing *next; /* hash chain */
	char name[LAB_NAME_MAX];
	enum thing_kind kind;
	bool live;                  /* false: freed on line freed_at; the address is kept for `free!` */
	unsigned made_at, freed_at; /* lines */
	void *p;                    /* frame, address, cache or pool */
	unsigned order;             /* THING_BLOCK */
	size_t size;                /* bytes asked for */
	struct thing *owner;        /* cache of an object, pool of an element, process of a mapping */
	u64 serial;                 /* order of making */
};

#define LAB_BUCKETS 4096u
struct lab {
	struct quire *q;
	const struct lab_options *options;
	const char *script; /* its name */
	FILE *in, *out, *err;
	unsigned line; /* being run */
	struct thing *things[LAB_BUCKETS];
	u64 serial;
	int status; /* 0 or 125 */
};

/* A command gets its words; words[0] is its own name, words[1] one name of an expanded range.  0 or -1 after
 * lab_error(). */
typedef int (*lab_command_fn)(struct lab *lab, unsigned n, char **words);
struct lab_command {
	const char *name, *usage, *help;
	unsigned min, max; /* words after the name */
	bool names;        /* the first word may be a range of names */
	lab_command_fn run;
};

/* ---- lab.c ---- */
int lab_error(struct lab *lab, const char *fmt, ...) PRINTF_LIKE(2, 3);
int lab_number(struct lab *lab, const char *word, u64 max, u64 *value);
int lab_size(struct lab *lab, const char *word, size_t *size);      /* 100, 4K, 1M */
int lab_gfp(struct lab *lab, unsigned n, char **words, gfp_t *gfp); /* words of flags; none = GFP_KERNEL */

/* ---- lab_things.c ---- */
extern const char *const thing_word[NR_THINGS];
struct thing *thing_find(struct lab *lab, const char *name);
/* A live thing of this kind (NR_THINGS: any), or NULL after lab_error(). */
struct thing *thing_want(struct lab *lab, const char *name, enum thing_kind kind);
/* A new live thing; an old one of that name must be dead.  NULL after lab_error(). */
struct thing *thing_new(struct lab *lab, const char *name, enum thing_kind kind);
void thing_dead(struct lab *lab, struct thing *t);
void things_free(struct lab *lab);
/* Calls fn for every live thing in the order of making. */
void things_each(struct lab *lab, void (*fn)(struct lab *lab, struct thing *t));

/* ---- lab_process.c ---- */
void lab_processes_end(struct lab *lab);

/* ---- lab_alloc.c, lab_process.c, lab_views.c: tables that end with a NULL name ---- */
extern const struct lab_command lab_alloc_commands[];
extern const struct lab_command lab_process_commands[];
extern const struct lab_command lab_view_commands[];
void lab_print_log(struct lab *lab, FILE *to);
/* Sizes a text first, then prints it, as a reader of /proc would. */
struct fmt_buf;
typedef void (*lab_text_fn)(struct quire *q, void *of, u64 at, struct fmt_buf *out);
void lab_print_text(struct lab *lab, lab_text_fn text_of, void *of, u64 at);
/* Processes and mappings are not freed: -1 after lab_error(). */
int lab_refuse_free(struct lab *lab, const struct thing *t);

#endif
