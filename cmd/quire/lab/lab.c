/*
 * The lab: options, the script's lines, ranges of names, and the end of the machine.
 *
 * A script is read line by line; `#` starts a comment.  Bad input ends the run with a message that names the line, and
 * exit code 125; so does a machine that finds itself broken (a double free), with its log.  What stands on standard
 * output is a function of options and script alone.
 */
#include "lab_internal.h"
#include <port/sim/mmu.h>
#include "../options.h"
#include "../../../reclaim/reclaim.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define LAB_EXIT_BAD 125
#define LAB_MEMORY_MIN (1ull << 20)

int lab_error(struct lab *lab, const char *fmt, ...)
{
	va_list ap;

	fprintf(lab->err, "quire lab: %s:%u: ", lab->script, lab->line);
	va_start(ap, fmt);
	vfprintf(lab->err, fmt, ap);
	va_end(ap);
	fputc('\n', lab->err);
	lab->status = LAB_EXIT_BAD;
	return -1;
}

/* ---- words ---- */

int lab_number(struct lab *lab, const char *word, u64 max, u64 *value)
{
	char *end;

	if (!isdigit((unsigned char)*word))
		return lab_error(lab, "'%s' is not a number", word);
	*value = strtoull(word, &end, 0);
	if (*end || *value > max)
		return lab_error(lab, "'%s' is not a number from 0 to %llu", word, (unsigned long long)max);
	return 0;
}

int lab_size(struct lab *lab, const char *word, size_t *size)
{
	char why[OPTION_ERROR_MAX];
	u64 bytes;

	if (parse_size(word, 0, &bytes, why))
		return lab_error(lab, "%s", why);
	*size = bytes;
	return 0;
}

static const struct {
	const char *name;
	gfp_t gfp;
	bool whole; /* a complete set, not one more flag */
} gfp_words[] = {
	{"KERNEL", GFP_KERNEL, true},
	{"ATOMIC", GFP_ATOMIC, true},
	{"NOWAIT", GFP_NOWAIT, true},
	{"USER", GFP_USER, true},
	{"HIGHUSER", GFP_HIGHUSER, true},
	{"MOVABLE", GFP_HIGHUSER_MOVABLE, true},
	{"RECLAIMABLE", __GFP_RECLAIMABLE, false},
	{"DMA", __GFP_DMA, false},
	{"DMA32", __GFP_DMA32, false},
	{"ZERO", __GFP_ZERO, false},
	{"NOWARN", __GFP_NOWARN, false},
	{"MEMALLOC", __GFP_MEMALLOC, false},
};

int lab_gfp(struct lab *lab, unsigned n, char **words, gfp_t *gfp)
{
	gfp_t base = GFP_KERNEL, more = 0;
	unsigned i, j;

	for (i = 0; i < n; i++) {
		const char *word = strncmp(words[i], "GFP_", 4) ? words[i] : words[i] + 4;

		for (j = 0; j < ARRAY_SIZE(gfp_words) && strcmp(word, gfp_words[j].name); j++)
			;
		if (j == ARRAY_SIZE(gfp_words))
			return lab_error(lab,
					 "'%s' is no allocation flag: KERNEL, ATOMIC, NOWAIT, USER, HIGHUSER, MOVABLE, "
					 "RECLAIMABLE, DMA, DMA32, ZERO, NOWARN or MEMALLOC would be right",
					 words[i]);
		if (gfp_words[j].whole)
			base = gfp_words[j].gfp;
		else
			more |= gfp_words[j].gfp;
	}
	*gfp = base | more;
	return 0;
}

/* ---- ranges: a1..a9, a1..a9/2 ---- */

struct range {
	char prefix[LAB_NAME_MAX];
	u64 first, last, step;
};

/* Splits "a17" into its prefix and 17; false if it does not end in a number. */
static bool split_name(const char *name, size_t len, size_t *prefix, u64 *number)
{
	size_t p = len;

	while (p > 0 && isdigit((unsigned char)name[p - 1]))
		p--;
	if (p == len || len - p > 9)
		return false;
	*prefix = p;
	*number = strtoull(name + p, NULL, 10);
	return true;
}

static int bad_range(struct lab *lab, const char *word)
{
	return lab_error(lab, "'%s' is no range of names: a1..a9 or a1..a9/2 would be right", word);
}

static int parse_range(struct lab *lab, const char *word, const char *dots, struct range *r)
{
	const char *second = dots + 2, *slash = strchr(second, '/');
	size_t len = slash ? (size_t)(slash - second) : strlen(second), p, p2;

	r->step = 1;
	if (!split_name(word, (size_t)(dots - word), &p, &r->first) || !split_name(second, len, &p2, &r->last))
		return bad_range(lab, word);
	if (slash && (lab_number(lab, slash + 1, LAB_RANGE_MAX, &r->step) || !r->step))
		return lab->status ? -1 : bad_range(lab, word);
	if (p != p2 || strncmp(word, second, p) || p >= LAB_NAME_MAX - 10 || r->last < r->first ||
	    r->last - r->first >= LAB_RANGE_MAX)
		return bad_range(lab, word);
	memcpy(r->prefix, word, p);
	r->prefix[p] = 0;
	return 0;
}

static int run_range(struct lab *lab, const struct lab_command *c, unsigned n, char **words, const char *dots)
{
	char name[LAB_NAME_MAX + 32];
	struct range r;
	u64 i;

	if (parse_range(lab, words[1], dots, &r))
		return -1;
	for (i = r.first; i <= r.last; i += r.step) {
		snprintf(name, sizeof(name), "%s%llu", r.prefix, (unsigned long long)i);
		words[1] = name;
		if (c->run(lab, n, words))
			return -1;
	}
	return 0;
}

/* ---- lines ---- */

static const struct lab_command *find_command(const char *name)
{
	static const struct lab_command *const tables[] = {lab_alloc_commands, lab_process_commands, lab_view_commands};
	const struct lab_command *c;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		for (c = tables[i]; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return NULL;
}

/* Cuts line into words; returns how many, or LAB_WORDS_MAX + 1. */
static unsigned split_line(char *line, char **words)
{
	unsigned n = 0;
	char *w;

	line[strcspn(line, "#\n")] = 0;
	for (w = strtok(line, " \t\r"); w && n <= LAB_WORDS_MAX; w = strtok(NULL, " \t\r"))
		words[n++] = w;
	return n;
}

static int run_line(struct lab *lab, char *line)
{
	char *words[LAB_WORDS_MAX + 1], *dots;
	unsigned n = split_line(line, words);
	const struct lab_command *c;

	if (!n)
		return 0;
	if (n > LAB_WORDS_MAX)
		return lab_error(lab, "too many words");
	c = find_command(words[0]);
	if (!c)
		return lab_error(lab, "'%s' is not a command (quire lab --help lists them)", words[0]);
	if (n - 1 < c->min || n - 1 > c->max)
		return lab_error(lab, "usage: %s %s", c->name, c->usage);
	dots = c->names ? strstr(words[1], "..") : NULL;
	return dots ? run_range(lab, c, n, words, dots) : c->run(lab, n, words);
}

static void run_script(void *arg)
{
	struct lab *lab = arg;
	char line[LAB_LINE_MAX];

	while (fgets(line, sizeof(line), lab->in)) {
		lab->line++;
		if (!strchr(line, '\n') && !feof(lab->in)) {
			lab_error(lab, "line is too long");
			return;
		}
		if (run_line(lab, line))
			return;
	}
}

/* ---- the machine ---- */

static int parse_zone(const char *word, struct zone_layout *z, char *why)
{
	static const char *const key[] = {"dma=", "dma32=", "lowmem="};
	u64 *const where[] = {&z->dma_end, &z->dma32_end, &z->lowmem_end};
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(key); i++)
		if (!strncmp(word, key[i], strlen(key[i])))
			return parse_size(word + strlen(key[i]), 0, where[i], why);
	snprintf(why, OPTION_ERROR_MAX,
		 "'%s' is no zone layout: 64, 32, flat or dma=SIZE,dma32=SIZE,lowmem=SIZE would be right", word);
	return -1;
}

static const struct zone_layout *find_zones(const char *text, struct zone_layout *custom, char *why)
{
	const struct zone_layout *known = text ? zone_layout_by_name(text) : &zone_layout_64;
	char copy[256], *word;

	if (known)
		return known;
	*custom = (struct zone_layout){.name = "custom", .lowmem_end = ~0ull};
	snprintf(copy, sizeof(copy), "%s", text);
	for (word = strtok(copy, ","); word; word = strtok(NULL, ","))
		if (parse_zone(word, custom, why))
			return NULL;
	return custom;
}

static int bad_machine(FILE *err, const char *why)
{
	fprintf(err, "quire lab: %s\n", why);
	return LAB_EXIT_BAD;
}

static void report_panic(struct lab *lab, const char *text)
{
	fflush(lab->out);
	lab_print_log(lab, lab->err);
	lab_error(lab, "the machine had to end: %s", text);
}

int lab_run(const struct lab_options *o, const char *name, FILE *script, FILE *out, FILE *err)
{
	struct lab *lab = calloc(1, sizeof(*lab));
	struct zone_layout custom;
	char why[OPTION_ERROR_MAX];
	const struct zone_layout *zones = find_zones(o->zones, &custom, why);
	const char *panic;
	int status;

	if (!lab)
		abort();
	if (!zones) {
		free(lab);
		return bad_machine(err, why);
	}
	lab->q = sim_machine_new_raw(&(struct sim_config){.memory = o->memory,
							  .nr_cpus = o->nr_cpus,
							  .seed = o->seed,
							  .zones = zones,
							  .policy = o->policy ? reclaim_policy_by_name(o->policy) : NULL,
							  .debug_poison = o->debug,
							  .debug_owner = o->debug});
	lab->options = o;
	lab->script = name;
	lab->in = script;
	lab->out = out;
	lab->err = err;
	if (quire_boot(lab->q, sim_quire_config(lab->q))) {
		fputs(sim_log_text(lab->q), err);
		lab->status = bad_machine(err, "this machine cannot boot");
	} else {
		sim_set_abort_handler(lab->q, do_mem_abort);
		panic = sim_expect_panic(run_script, lab);
		if (panic)
			report_panic(lab, panic);
		else
			lab_processes_end(lab);
	}
	sim_machine_free(lab->q);
	things_free(lab);
	status = lab->status;
	free(lab);
	return status;
}

/* ---- the command line ---- */

static void print_commands(const struct lab_command *c)
{
	for (; c->name; c++)
		printf("  %-16s %-30s %s\n", c->name, c->usage, c->help);
}

static int usage(void)
{
	printf("usage: quire lab [--memory SIZE] [--zones LAYOUT] [--cpus N] [--seed N] [--debug] SCRIPT|-\n\n"
	       "Runs a script of commands, one a line, on a simulated machine and prints what it sees.\n\n"
	       "  --memory SIZE   bytes of RAM (default 64M)\n"
	       "  --zones LAYOUT  64 (default), 32, flat, or dma=SIZE,dma32=SIZE,lowmem=SIZE\n"
	       "  --cpus N        CPUs, 1 to 64 (default 1)\n"
	       "  --seed N        of everything random (default 0)\n"
	       "  --policy NAME   of reclaim: second-chance (default), generations, clock\n"
	       "  --debug         red zones, poison and owners everywhere\n\ncommands:\n");
	print_commands(lab_alloc_commands);
	print_commands(lab_process_commands);
	print_commands(lab_view_commands);
	printf("\nA first word like a1..a9 or a1..a9/2 stands for many names.  Exit code: 0, or 125 after an error.\n");
	return 0;
}

static int set_option(struct lab_options *o, const char *name, const char *value, char *why)
{
	char *end;
	u64 n = strtoull(value, &end, 0);
	bool number = isdigit((unsigned char)*value) && !*end;

	if (!strcmp(name, "--zones")) {
		o->zones = value;
	} else if (!strcmp(name, "--memory")) {
		if (parse_size(value, 0, &o->memory, why))
			return -1;
		if (o->memory < LAB_MEMORY_MIN || o->memory > RUN_MEMORY_MAX) {
			snprintf(why, OPTION_ERROR_MAX, "--memory %s: 1M to 1T would be right", value);
			return -1;
		}
	} else if (!strcmp(name, "--cpus") && number && n >= 1 && n <= RUN_MAX_CPUS) {
		o->nr_cpus = (u32)n;
	} else if (!strcmp(name, "--policy")) {
		o->policy = parse_policy(value, why);
		return o->policy ? 0 : -1;
	} else if (!strcmp(name, "--seed") && number) {
		o->seed = n;
	} else {
		snprintf(why, OPTION_ERROR_MAX, "%s %s makes no sense (quire lab --help)", name, value);
		return -1;
	}
	return 0;
}

static int run_file(const struct lab_options *o, const char *path)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "r") : stdin;
	int status;

	if (!f) {
		fprintf(stderr, "quire lab: %s: ", path);
		perror(NULL);
		return LAB_EXIT_BAD;
	}
	status = lab_run(o, path, f, stdout, stderr);
	if (f != stdin)
		fclose(f);
	return status;
}

int lab_main(int argc, char **argv)
{
	struct lab_options o = {0};
	char why[OPTION_ERROR_MAX];
	int i;

	for (i = 1; i < argc && !strncmp(argv[i], "--", 2); i++) {
		if (!strcmp(argv[i], "--help"))
			return usage();
		if (!strcmp(argv[i], "--debug")) {
			o.debug = true;
			continue;
		}
		if (i + 1 >= argc)
			return bad_machine(stderr, "an option lacks its value, or is unknown (quire lab --help)");
		if (set_option(&o, argv[i], argv[i + 1], why))
			return bad_machine(stderr, why);
		i++;
	}
	if (i != argc - 1)
		return bad_machine(stderr, "which script?  usage: quire lab [OPTIONS] SCRIPT|-  (quire lab --help)");
	return run_file(&o, argv[i]);
}
