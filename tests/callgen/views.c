/*
 * What /proc says about a worker's window, in a form that is the same everywhere.
 */
#include "callgen.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES (256u << 10)

/* Reads a whole file of /proc.  The buffer belongs to the calling worker. */
static char *read_text(const char *path)
{
	static char texts[MAX_WORKERS][TEXT_BYTES];
	char *text = texts[me->index];
	int fd = open(path, O_RDONLY);
	size_t n = 0;
	ssize_t got;

	while (fd >= 0 && n < TEXT_BYTES - 1 && (got = read(fd, text + n, TEXT_BYTES - 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	text[n] = 0;
	return text;
}

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
	char *text = read_text("/proc/thread-self/maps"), *next;
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
	char *text = read_text("/proc/thread-self/maps"), *next;
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
 * Resident and anonymous kilobytes of the window.  Of file mappings only the private copies count: how much of a file is
 * mapped around a fault depends on what its cache holds, and a machine's cache is not the host's.
 */
static void say_smaps(void)
{
	static const char *const fields[] = {"Rss: ", "Anonymous: ", "Swap: "};
	char *text = read_text("/proc/thread-self/smaps"), *next;
	unsigned long sums[3] = {0}, kb;
	bool in = false, cached = false;
	struct line l;

	for (; *text; text = next) {
		next = text + strcspn(text, "\n");
		if (*next)
			*next++ = 0;
		if (strchr("0123456789abcdef", *text) && parse_line(text, &l)) {
			in = ours(&l);
			cached = strchr("dmvz", l.kind);
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
}

u64 status_pages(const char *field)
{
	char *at = strstr(read_text("/proc/thread-self/status"), field);

	return at ? strtoul(at + strlen(field), NULL, 10) * 1024 / PAGE : 0;
}

void say_views(u32 i)
{
	say_maps();
	if (opt.rss && i % 8 == 0)
		say_smaps();
	if (opt.ordinary && opt.mode != MODE_THREADS)
		say(" lck %llu", (unsigned long long)status_pages("VmLck:"));
}
