/*
 * Parsing of `quire run`'s options: the one table of them, and a setter for each.
 *
 * A setter gets the text of its argument and either stores a checked value or writes a sentence that says what
 * was wrong and what would be right.  No locks; no state but the caller's struct run_options.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int bad(char *error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int bad(char *error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error, OPTION_ERROR_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

/* The shift of a unit letter, or -1. */
static int unit_shift(char c)
{
	switch (toupper((unsigned char)c)) {
	case 'K': return 10;
	case 'M': return 20;
	case 'G': return 30;
	case 'T': return 40;
	default: return -1;
	}
}

/* Accepts what may follow the digits of a size: nothing, B, K, KB, KiB, ...; fills *shift. */
static bool parse_unit(const char *s, unsigned *shift)
{
	int n = unit_shift(*s);

	*shift = n < 0 ? 0 : (unsigned)n;
	if (n >= 0)
		s++;
	if (n >= 0 && *s == 'i')
		return strcmp(s, "iB") == 0;
	return *s == 0 || strcmp(s, "B") == 0;
}

int parse_size(const char *text, u64 whole, u64 *bytes, char *error)
{
	unsigned shift;
	char *end;
	u64 n;

	if (!isdigit((unsigned char)*text))
		return bad(error, "'%s' is not a size: write a number and a unit, as in 64M, 1G%s", text,
			   whole ? " or 25%" : "");
	errno = 0;
	n = strtoull(text, &end, 10);
	if (whole && strcmp(end, "%") == 0) {
		if (errno || n < 1 || n > 100)
			return bad(error, "'%s' is not a share: write 1%% to 100%%", text);
		*bytes = whole / 100 * n;
		return 0;
	}
	if (!parse_unit(end, &shift))
		return bad(error, "'%s' has no unit that I know: write K, M, G or T after the number%s", text,
			   whole ? ", or % for a share of the host's memory" : "");
	if (errno || n > (~0ull >> shift))
		return bad(error, "'%s' is more than 64 bits can count", text);
	*bytes = n << shift;
	return 0;
}

static int parse_number(const char *text, u64 lo, u64 hi, u64 *out, char *error)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)*text) || *end || errno)
		return bad(error, "'%s' is not a whole number", text);
	if (*out < lo || *out > hi)
		return bad(error, "%s is out of range: %llu to %llu would be right", text, (unsigned long long)lo,
			   (unsigned long long)hi);
	return 0;
}

/* Whole 2 MiB blocks, so that the largest folios fit without a ragged end; tiny machines in whole pages. */
static u64 round_memory(u64 bytes)
{
	return ALIGN_DOWN(bytes, bytes >= (64ull << 20) ? 2ull << 20 : PAGE_SIZE);
}

static int set_memory(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	u64 bytes;

	if (parse_size(value, host->mem_total, &bytes, error))
		return -1;
	if (bytes < RUN_MEMORY_MIN || bytes > RUN_MEMORY_MAX)
		return bad(error, "%s of memory (%llu bytes) is out of range: %lluM to %lluG would be right", value,
			   (unsigned long long)bytes, RUN_MEMORY_MIN >> 20, RUN_MEMORY_MAX >> 30);
	o->memory = round_memory(bytes);
	return 0;
}

/* What follows SIZE: ",pri=N" and ",level=N" in any order.  *level: 0 = not given. */
static int parse_swap_flags(char *text, s32 *prio, u32 *level, char *error)
{
	char *next;
	u64 n;

	for (; text; text = next) {
		next = strchr(text, ',');
		if (next)
			*next++ = 0;
		if (!strncmp(text, "pri=", 4)) {
			if (parse_number(text + 4, 0, 32767, &n, error))
				return -1;
			*prio = (s32)n;
		} else if (!strncmp(text, "level=", 6)) {
			if (parse_number(text + 6, 1, RUN_ZSTD_LEVELS, &n, error))
				return -1;
			*level = (u32)n;
		} else {
			return bad(error, "'%.100s' after the size: pri=N would be right, or level=N for zstd", text);
		}
	}
	return 0;
}

/* SIZE[,FLAG]..., of which the flags have been read. */
static int parse_swap_size(const char *text, u64 *bytes, char *error)
{
	if (parse_size(text, 0, bytes, error))
		return -1;
	if (*bytes < RUN_SWAP_MIN || *bytes > RUN_SWAP_MAX)
		return bad(error, "%.100s of swap (%llu bytes) is out of range: %lluM to %lluG would be right", text,
			   (unsigned long long)*bytes, RUN_SWAP_MIN >> 20, RUN_SWAP_MAX >> 30);
	*bytes = ALIGN_DOWN(*bytes, PAGE_SIZE);
	return 0;
}

/* The part before the last colon: a compressor's name or, anything else, a file's.  level: 0 = not given. */
static int parse_swap_kind(struct run_swap *s, const char *value, size_t len, u32 level, char *error)
{
	if (!len)
		return bad(error, "a file name is missing before the colon");
	if (len == 4 && !memcmp(value, "zstd", 4)) {
		s->zstd_level = level ? level : RUN_ZSTD_LEVEL;
		return 0;
	}
	if (level)
		return bad(error, "only zstd has levels: zstd:SIZE,level=N would be right");
	if (len == 3 && !memcmp(value, "lz4", 3))
		return 0;
	s->path = value;
	s->path_len = len;
	return 0;
}

/* [lz4:|zstd:|FILE:]SIZE[,pri=N][,level=N].  FILE ends at the last colon. */
static int set_swap(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	struct run_swap *s = &o->swap[o->nr_swap];
	const char *colon = strrchr(value, ':');
	const char *size = colon ? colon + 1 : value;
	char text[256], *flags;
	u32 level = 0;

	if (o->nr_swap == RUN_MAX_SWAP)
		return bad(error, "at most %u swap areas", RUN_MAX_SWAP);
	if (!colon && strchr(value, '/'))
		return bad(error, "'%.100s' needs a size: FILE:SIZE, as in /var/tmp/swap:1G", value);
	if (strlen(size) >= sizeof(text))
		return bad(error, "that is too long");
	strcpy(text, size);
	*s = (struct run_swap){ .prio = -1 };
	flags = strchr(text, ',');
	if (flags)
		*flags++ = 0;
	if (parse_swap_flags(flags, &s->prio, &level, error) || parse_swap_size(text, &s->bytes, error))
		return -1;
	if (!colon && level)
		return bad(error, "only zstd has levels: zstd:SIZE,level=N would be right");
	if (colon && parse_swap_kind(s, value, (size_t)(colon - value), level, error))
		return -1;
	o->nr_swap++;
	return 0;
}

/* What stands before the '=' of --fail, and the kinds that it means. */
static const struct { const char *name; u32 kinds; } fail_names[] = {
	{"swap-io", BIT(RUN_FAIL_SWAP_READ) | BIT(RUN_FAIL_SWAP_WRITE) | BIT(RUN_FAIL_SWAP_SHORT) | BIT(RUN_FAIL_SWAP_SLOW)},
	{"swap-read", BIT(RUN_FAIL_SWAP_READ)}, {"swap-write", BIT(RUN_FAIL_SWAP_WRITE)}, {"swap-full", BIT(RUN_FAIL_SWAP_FULL)},
	{"swap-short", BIT(RUN_FAIL_SWAP_SHORT)}, {"swap-slow", BIT(RUN_FAIL_SWAP_SLOW)},
};

/* The kinds, or 0. */
static u32 fail_kinds(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(fail_names); i++)
		if (strlen(fail_names[i].name) == len && !memcmp(fail_names[i].name, name, len))
			return fail_names[i].kinds;
	return 0;
}

/* "#N", "1/N" or "P%" */
static int parse_fail_when(struct run_fail *f, char *text, char *error)
{
	size_t len = strlen(text);
	u64 n;

	if (text[0] == '#')
		return parse_number(text + 1, 1, ~0ull, &f->nth, error);
	if (!strncmp(text, "1/", 2)) {
		if (parse_number(text + 2, 1, RUN_FAIL_MAX_ONE_IN, &n, error))
			return -1;
		f->share = (1ull << 32) / n;
		return 0;
	}
	if (!len || text[len - 1] != '%')
		return bad(error, "'%.100s' does not say how often: 1/N, P%% or #N (the Nth alone) would be right", text);
	text[len - 1] = 0;
	if (parse_number(text, 0, 100, &n, error))
		return -1;
	f->share = (n << 32) / 100;
	return 0;
}

/* WHAT=RATE[:SEED] */
static int set_fail(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	const char *is = strchr(value, '=');
	struct run_fail f = { 0 };
	char text[64], *seed;
	u32 kinds;

	if (!is || strlen(is + 1) >= sizeof(text))
		return bad(error, "'%.100s': WHAT=RATE[:SEED] would be right, as in swap-io=1/100", value);
	kinds = fail_kinds(value, (size_t)(is - value));
	if (!kinds)
		return bad(error, "'%.*s' cannot fail on demand: swap-io, swap-read, swap-write, swap-full, swap-short or swap-slow "
			   "would be right", (int)MIN(is - value, 100), value);
	strcpy(text, is + 1);
	seed = strchr(text, ':');
	f.seed_given = seed;
	if (seed)
		*seed++ = 0;
	if (parse_fail_when(&f, text, error) || (seed && parse_number(seed, 0, ~0ull, &f.seed, error)))
		return -1;
	for (u32 kind = 0; kind < RUN_NR_FAIL; kind++)
		if (kinds & BIT(kind))
			o->fail[kind] = f;
	return 0;
}

static int set_cpus(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	u64 n;

	if (parse_number(value, 1, RUN_MAX_CPUS, &n, error))
		return -1;
	o->nr_cpus = (u32)n;
	return 0;
}

static int set_folio_max(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	static const u32 orders[] = {0, 2, 4, 9}; /* 4 KiB, 16 KiB, 64 KiB, 2 MiB */
	u64 bytes;

	if (parse_size(value, 0, &bytes, error))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		if (bytes == PAGE_SIZE << orders[i]) {
			o->folio_max_order = orders[i];
			return 0;
		}
	}
	return bad(error, "%s is not a folio size: 4K, 16K, 64K or 2M would be right", value);
}

/* As reclaim/policies.c has them; options_test.c compares. */
static const char *const policies[] = {"second-chance", "generations", "clock"};

const char *parse_policy(const char *text, char *error)
{
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		if (!strcmp(text, policies[i]))
			return policies[i];
	bad(error, "'%s' is no policy: second-chance, generations or clock would be right", text);
	return NULL;
}

static int set_policy(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->policy = parse_policy(value, error);
	return o->policy ? 0 : -1;
}

static int set_seed(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->seed_given = true;
	return parse_number(value, 0, ~0ull, &o->seed, error);
}

static int set_aslr(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->aslr = strcmp(value, "on") == 0;
	if (!o->aslr && strcmp(value, "off") != 0)
		return bad(error, "'%s': on or off would be right", value);
	return 0;
}

static int set_patch_syscalls(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->patch_syscalls = strcmp(value, "on") == 0;
	if (!o->patch_syscalls && strcmp(value, "off") != 0)
		return bad(error, "'%s': on or off would be right", value);
	return 0;
}

static int set_overcommit(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	u64 n;

	if (parse_number(value, 0, 2, &n, error))
		return -1;
	o->overcommit = (u32)n;
	return 0;
}

static int set_log(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	if (!*value)
		return bad(error, "a file name would be right");
	o->log_path = value;
	return 0;
}

static int set_name(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	size_t n = strlen(value);
	bool ok = n >= 1 && n <= RUN_NAME_MAX && value[0] != '.' && value[0] != '-';

	for (size_t i = 0; ok && i < n; i++)
		ok = isalnum((unsigned char)value[i]) || strchr("._-", value[i]);
	if (!ok)
		return bad(error, "'%s' is not a name: letters, digits, '.', '_' and '-', at most %u, beginning with a "
			   "letter, a digit or '_'", value, RUN_NAME_MAX);
	o->name = value;
	return 0;
}

static int set_keep(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->keep = true;
	return 0;
}

static int set_stats(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->stats = true;
	return 0;
}

static int set_json(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->stats = o->stats_json = true;
	return 0;
}

static int set_verbose(struct run_options *o, const struct host_facts *host, const char *value, char *error)
{
	o->verbose = true;
	return 0;
}

const struct option_spec run_option_table[] = {
	{"memory", "SIZE", "a quarter of the host's memory",
	 "RAM of the machine, as its MemTotal will say: a number with K, M, G or T, or a share of the host's memory such "
	 "as 25%. Nothing is taken from the host before it is used.", set_memory},
	{"swap", "[zstd:|FILE:]SIZE[,pri=N][,level=N]", "none",
	 "Swap space: so much anonymous memory may be kept compressed in the machine's own memory, with lz4 or with zstd, or in FILE on the "
	 "host, which is made if need be. zstd makes pages smaller and takes longer; its level is 1 to 3, by default 3. May be given several "
	 "times: areas of higher priority (0 to 32767) are used first, equal ones in turn; without a priority the earlier area is used "
	 "first.", set_swap},
	{"cpus", "N", "the host's CPUs", "Per-CPU slots of the machine, 1 to 64.", set_cpus},
	{"folio-max", "SIZE", "2M", "Largest folio for anonymous memory: 4K, 16K, 64K or 2M.", set_folio_max},
	{"policy", "NAME", "second-chance",
	 "Which pages go first when memory is short: second-chance, generations or clock (docs/policies.md).", set_policy},
	{"overcommit", "0|1|2", "0", "As vm.overcommit_memory: 0 guess, 1 always, 2 never.", set_overcommit},
	{"aslr", "on|off", "on", "Randomise where stack, heap and mappings lie.", set_aslr},
	{"patch-syscalls", "on|off", "on", "Rewrite system calls that a program makes often, in the machine's copies of its text, so that "
	 "they need no signal.", set_patch_syscalls},
	{"seed", "N", "drawn from the host", "Seed of everything random in the machine.", set_seed},
	{"fail", "WHAT=RATE[:SEED]", "nothing fails",
	 "Makes I/O of swap files fail on purpose, to see what programs make of it. WHAT: swap-read, swap-write (I/O errors), swap-full (no "
	 "room), swap-short (done in parts), swap-slow, or swap-io (all but swap-full). RATE: 1/N or P% of them, drawn from SEED (default: "
	 "--seed's, else 1), or #N, the Nth alone. May be given several times (docs/swap.md).", set_fail},
	{"name", "NAME", "the supervisor's process number", "How other commands find the machine.", set_name},
	{"keep", NULL, NULL,
	 "The machine outlives its first program and takes others ('quire exec') until its supervisor is told to end: ^C or kill.", set_keep},
	{"log", "FILE", "none", "Append the machine's log (its dmesg) to FILE.", set_log},
	{"stats", NULL, NULL, "Print statistics at exit: faults by kind, refills, copies, peak memory.", set_stats},
	{"json", NULL, NULL, "Statistics as JSON; implies --stats.", set_json},
	{"verbose", NULL, NULL, "The machine's log goes to standard error too.", set_verbose},
	{"help", NULL, NULL, "Print this and exit.", NULL},
	{"version", NULL, NULL, "Print the version and exit.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

void run_options_default(struct run_options *o, const struct host_facts *host)
{
	u64 memory = host->mem_total / 4;

	memset(o, 0, sizeof(*o));
	memory = MAX(memory, RUN_MEMORY_MIN);
	memory = MIN(memory, RUN_MEMORY_MAX);
	o->memory = round_memory(memory);
	o->nr_cpus = MAX(1u, MIN(host->nr_cpus, RUN_MAX_CPUS));
	o->folio_max_order = 9;
	o->aslr = true;
	o->patch_syscalls = true;
}

/* How many letters differ at the least (Levenshtein), for "did you mean"; names are short. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[32], diag, old;
	size_t n = strlen(b);

	if (n >= ARRAY_SIZE(row))
		return ~0u;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1]; i++) {
		diag = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			old = row[j];
			row[j] = MIN(MIN(row[j], row[j - 1]) + 1, diag + (a[i - 1] != b[j - 1]));
			diag = old;
		}
	}
	return row[n];
}

static int unknown_option(const char *name, size_t len, char *error)
{
	const char *nearest = NULL;
	unsigned best = 3; /* more than two letters off is no typing error */
	char word[32];

	snprintf(word, sizeof(word), "%.*s", (int)len, name);
	for (const struct option_spec *s = run_option_table; s->name; s++) {
		unsigned d = distance(word, s->name);

		if (d < best) {
			best = d;
			nearest = s->name;
		}
	}
	if (nearest)
		return bad(error, "unknown option '--%.*s': did you mean --%s?", (int)len, name, nearest);
	return bad(error, "unknown option '--%.*s': 'quire run --help' lists the options", (int)len, name);
}

static const struct option_spec *find_option(const char *name, size_t len)
{
	for (const struct option_spec *s = run_option_table; s->name; s++)
		if (strlen(s->name) == len && memcmp(s->name, name, len) == 0)
			return s;
	return NULL;
}

/* Handles argv[*i], an option that begins with "--"; moves *i past it and its argument. */
static int parse_one(struct run_options *o, const struct host_facts *host, const struct option_spec *s, int argc,
		     char **argv, int *i, char *error)
{
	const char *value = strchr(argv[*i], '=');
	char text[OPTION_ERROR_MAX];

	value = value ? value + 1 : NULL;
	if (!s->arg && value)
		return bad(error, "--%s takes no argument", s->name);
	if (s->arg && !value && *i + 1 < argc && strcmp(argv[*i + 1], "--") != 0)
		value = argv[++*i];
	if (s->arg && !value)
		return bad(error, "--%s needs an argument: --%s %s", s->name, s->name, s->arg);
	++*i;
	if (s->set(o, host, value, text) == 0)
		return 0;
	return bad(error, "--%s: %s", s->name, text);
}

enum option_outcome run_options_parse(struct run_options *o, const struct host_facts *host, int argc, char **argv,
				      char *error)
{
	const struct option_spec *s;
	size_t len;
	int i = 1;

	run_options_default(o, host);
	while (i < argc && argv[i][0] == '-' && argv[i][1]) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (strcmp(argv[i], "-h") == 0)
			return OPTIONS_HELP;
		if (argv[i][1] != '-') {
			bad(error, "unknown option '%s': options begin with two dashes ('quire run --help')", argv[i]);
			return OPTIONS_BAD;
		}
		len = strcspn(argv[i] + 2, "=");
		s = find_option(argv[i] + 2, len);
		if (!s) {
			unknown_option(argv[i] + 2, len, error);
			return OPTIONS_BAD;
		}
		if (!s->set)
			return strcmp(s->name, "help") == 0 ? OPTIONS_HELP : OPTIONS_VERSION;
		if (parse_one(o, host, s, argc, argv, &i, error))
			return OPTIONS_BAD;
	}
	o->argc = argc - i;
	o->argv = argv + i;
	if (o->argc < 1 || !*o->argv[0]) {
		bad(error, "which program? 'quire run [OPTIONS] -- PROGRAM [ARGUMENTS]' would be right");
		return OPTIONS_BAD;
	}
	return OPTIONS_OK;
}

/* The value of a "Name:   123 kB" line, in bytes; 0 if the line is another. */
static u64 meminfo_bytes(const char *line, const char *name)
{
	size_t n = strlen(name);

	if (strncmp(line, name, n) != 0 || line[n] != ':')
		return 0;
	return strtoull(line + n + 1, NULL, 10) << 10;
}

int host_facts_read(struct host_facts *host)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char line[256];
	FILE *f;

	host->nr_cpus = cpus > 0 ? (u32)cpus : 1;
	host->mem_total = 0;
	f = fopen("/proc/meminfo", "re");
	if (!f)
		return -errno;
	while (!host->mem_total && fgets(line, sizeof(line), f))
		host->mem_total = meminfo_bytes(line, "MemTotal");
	fclose(f);
	return host->mem_total ? 0 : -ENODATA;
}
