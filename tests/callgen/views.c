/*
 * What /proc says about a worker's window, in a form that is the same everywhere.
 */
#include "callgen.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
	u64 start, end, offset;
	char perms[5];
	char kind; /* what the name says */
};

static char kind_of(const char *name)
{
	static const struct { const char *prefix; char kind; } kinds[] = {
		{"/memfd:", 'm'}, {"/dev/zero", 'z'}, {"/SYSV", 'v'}, {"[heap]", 'h'}, {"[stack]", 's'}, {"[", '?'}, {"/", 'd'},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strncmp(name, kinds[i].prefix, strlen(kinds[i].prefix)))
			return kinds[i].kind;
	return '-';
}

static bool parse_line(const char *text, struct line *l)
{
	unsigned long start, end, offset, inode;
	int name = 0;

	if (sscanf(text, "%lx-%lx %4s %lx %*x:%*x %lu %n", &start, &end, l->perms, &offset, &inode, &name) < 5)
		return false;
	l->start = start;
	l->end = end;
	l->offset = offset;
	l->kind = kind_of(text + name);
	if (l->kind == 'z')
		l->offset = 0; /* a mapping of /dev/zero keeps the offset that was asked for, to no effect */
	return true;
}

/* Into tokens; false when the line is none of ours. */
static bool ours(struct line *l)
{
	if (l->start < me->window + (WINDOW_PAGES + WINDOW_TAIL) * PAGE && l->end > me->window) {
		l->start -= me->window;
		l->end -= me->window;
		return true;
	}
	if (opt.mode == MODE_THREADS || l->end <= heap_start || l->start >= heap_start + (HEAP_PAGES + WINDOW_TAIL) * PAGE)
		return false;
	l->start = (l->start > heap_start ? l->start - heap_start : 0) + (1ull << 32);
	l->end = l->end - heap_start + (1ull << 32);
	return true;
}

static u64 mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static void say_line(const struct line *l)
{
	bool heap = l->start >> 32;

	say("\n      %s%3llu-%3llu %s %llx %c", heap ? "heap " : "", (unsigned long long)(u32)l->start / PAGE,
	    (unsigned long long)(u32)l->end / PAGE, l->perms, (unsigned long long)l->offset, l->kind);
}

static void say_maps(void)
{
	char *text = view_text("maps"), *next;
	u64 hash = 1;
	u32 n = 0;
	struct line l;

	for (; *text; text = next) {
		next = text + strcspn(text, "\n");
		if (*next)
			*next++ = 0;
		if (!parse_line(text, &l) || !ours(&l))
			continue;
		n++;
		hash = mix(mix(mix(hash, l.start), l.end), l.offset);
		for (int i = 0; i < 4; i++)
			hash = mix(hash, (u8)l.perms[i]);
		hash = mix(hash, (u8)l.kind);
		if (opt.verbose)
			say_line(&l);
	}
	say(" maps %u %08x", n, (u32)hash);
}

bool range_has(u64 start, u64 len, const char *kinds)
{
	char *text = view_text("maps"), *next;
	struct line l;

	for (; *text; text = next) {
		next = text + strcspn(text, "\n");
		if (*next)
			*next++ = 0;
		if (parse_line(text, &l) && strchr(kinds, l.kind) && l.start < start + len && start < l.end)
			return true;
	}
	return false;
}

/*
 * With large folios a mapping may hold more than was touched, but only in 64 KiB blocks that held a page once: the rest
 * of a folio stays when a part of it goes.  (The window and the heap have no room for larger folios.)
 */
#define BLOCK_BYTES (64u << 10)
#define WINDOW_SPAN (WINDOW_PAGES + WINDOW_TAIL)
#define HEAP_SPAN (HEAP_PAGES + WINDOW_TAIL)
static bool block_held[2][WINDOW_SPAN * PAGE / BLOCK_BYTES + 3];

/* reach: blocks to either side; the heap lies elsewhere in a block on each side of the comparison. */
static void note_blocks(bool *held, u64 start, u32 pages, u64 reach)
{
	u64 entries[WINDOW_SPAN];

	mem_present(start, pages, entries);
	for (u32 i = 0; i < pages; i++) {
		u64 block = (start + i * PAGE) / BLOCK_BYTES - start / BLOCK_BYTES;

		for (u64 b = block < reach ? 0 : block - reach; entries[i] && b <= block + reach; b++)
			held[b] = true;
	}
}

void note_resident(void)
{
	if (!opt.folios)
		return;
	note_blocks(block_held[0], me->window, WINDOW_SPAN, 0);
	note_blocks(block_held[1], heap_start, HEAP_SPAN, 1);
}

/* Kilobytes that may be resident of a mapping. */
static u64 most_resident(u64 start, u64 end)
{
	bool heap = end > heap_start && start < heap_start + HEAP_SPAN * PAGE;
	u64 from = heap ? heap_start : me->window, n = 0;

	for (u64 a = start > from ? start : from; a < end && a < from + WINDOW_SPAN * PAGE; a += PAGE)
		n += block_held[heap][a / BLOCK_BYTES - from / BLOCK_BYTES];
	return n * PAGE / 1024;
}

/*
 * Resident and anonymous kilobytes of the window.  Of file mappings only the private copies count: how much of a file is
 * mapped around a fault depends on what its cache holds, and a machine's cache is not the host's.
 */
static void say_smaps(void)
{
	static const char *const fields[] = {"Rss: ", "Anonymous: ", "Swap: "};
	char *text, *next;
	unsigned long sums[3] = {0}, most = 0, kb;
	bool in = false, cached = false;
	struct line l, seen;

	text = view_text("smaps");

	for (; *text; text = next) {
		next = text + strcspn(text, "\n");
		if (*next)
			*next++ = 0;
		if (strchr("0123456789abcdef", *text) && parse_line(text, &l)) {
			seen = l;
			in = ours(&l);
			cached = strchr("dmvz", l.kind);
			most += in && !cached ? most_resident(seen.start, seen.end) : 0;
			if (in && opt.verbose)
				say_line(&l);
			continue;
		}
		for (int i = cached; in && i < 3; i++) {
			size_t n = strlen(fields[i]) - 1;

			if (strncmp(text, fields[i], n) || sscanf(text + n, "%lu", &kb) != 1)
				continue;
			sums[i] += kb;
			if (opt.verbose)
				say(" %.*s%lu", (int)n, fields[i], kb);
		}
	}
	say(" rss %lu anon %lu swap %lu", sums[0], sums[1], sums[2]);
	if (opt.folios)
		say(" limit %lu", most);
}

u64 status_pages(const char *field)
{
	char *at = strstr(view_text("status"), field);

	return at ? strtoul(at + strlen(field), NULL, 10) * 1024 / PAGE : 0;
}

void say_views(u32 i)
{
	say_maps();
	note_resident();
	if (opt.rss && i % 8 == 0)
		say_smaps();
	if (opt.ordinary && opt.mode != MODE_THREADS)
		say(" lck %llu", (unsigned long long)status_pages("VmLck:"));
}
