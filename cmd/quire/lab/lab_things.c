/*
 * Names of the lab: a hash table from name to what was allocated under it.  A name whose thing was freed stays known,
 * so that a second free can be refused with the line of the first, or be done on purpose.
 */
#include "lab_internal.h"
#include <stdlib.h>
#include <string.h>

const char *const thing_word[NR_THINGS] = {"block",  "kmalloc memory", "vmalloc memory", "cache",
					   "object", "mempool",        "mempool element", "process", "mapping"};

static unsigned bucket_of(const char *name)
{
	unsigned h = 5381;

	while (*name)
		h = h * 33 + (unsigned char)*name++;
	return h % LAB_BUCKETS;
}

struct thing *thing_find(struct lab *lab, const char *name)
{
	struct thing *t = lab->things[bucket_of(name)];

	while (t && strcmp(t->name, name))
		t = t->next;
	return t;
}

struct thing *thing_want(struct lab *lab, const char *name, enum thing_kind kind)
{
	struct thing *t = thing_find(lab, name);

	if (!t)
		lab_error(lab, "'%s' is not known", name);
	else if (!t->live)
		lab_error(lab, "'%s' was freed on line %u (write the command with '!' to do it all the same)", name,
			  t->freed_at);
	else if (kind != NR_THINGS && t->kind != kind)
		lab_error(lab, "'%s' is a %s, not a %s", name, thing_word[t->kind], thing_word[kind]);
	else
		return t;
	return NULL;
}

struct thing *thing_new(struct lab *lab, const char *name, enum thing_kind kind)
{
	struct thing *t = thing_find(lab, name);
	unsigned b = bucket_of(name);

	if (t && t->live) {
		lab_error(lab, "'%s' is in use since line %u", name, t->made_at);
		return NULL;
	}
	if (strlen(name) >= LAB_NAME_MAX) {
		lab_error(lab, "'%s' is too long for a name", name);
		return NULL;
	}
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t)
			abort();
		t->next = lab->things[b];
		lab->things[b] = t;
	}
	*t = (struct thing){.next = t->next, .kind = kind, .live = true, .made_at = lab->line, .serial = ++lab->serial};
	strcpy(t->name, name);
	return t;
}

void thing_dead(struct lab *lab, struct thing *t)
{
	t->live = false;
	t->freed_at = lab->line;
}

static int by_serial(const void *a, const void *b)
{
	const struct thing *x = *(struct thing *const *)a, *y = *(struct thing *const *)b;

	return (x->serial > y->serial) - (x->serial < y->serial);
}

void things_each(struct lab *lab, void (*fn)(struct lab *lab, struct thing *t))
{
	struct thing **list = calloc(lab->serial + 1, sizeof(*list)), *t;
	size_t n = 0, i;
	unsigned b;

	if (!list)
		abort();
	for (b = 0; b < LAB_BUCKETS; b++)
		for (t = lab->things[b]; t; t = t->next)
			if (t->live)
				list[n++] = t;
	qsort(list, n, sizeof(*list), by_serial);
	for (i = 0; i < n; i++)
		fn(lab, list[i]);
	free(list);
}

void things_free(struct lab *lab)
{
	unsigned b;

	for (b = 0; b < LAB_BUCKETS; b++)
		while (lab->things[b]) {
			struct thing *t = lab->things[b];

			lab->things[b] = t->next;
			free(t);
		}
}
