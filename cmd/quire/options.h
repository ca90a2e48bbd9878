/*
 * The command line of `quire`: what `quire run` and its sisters may be told.
 *
 * One table (options.c) holds every option with its argument, default and help text; the parser, `--help` and
 * the man page (help.c) all read that table, so they cannot disagree.  Nothing here touches a machine: parsing
 * only fills struct run_options, and asks for what it needs to know of the host through struct host_facts, so
 * that tests can parse on a host of their own making.
 */
#ifndef QUIRE_CMD_OPTIONS_H
#define QUIRE_CMD_OPTIONS_H
#include <quire/types.h>
#include <stdio.h>

/* Exit codes of quire itself; a program that ran gives its own, or 128 + the signal that ended it. */
#define QUIRE_EXIT_FAILED 125      /* Quire could not do what was asked, or the machine had to end */
#define QUIRE_EXIT_NOT_EXECUTABLE 126
#define QUIRE_EXIT_NOT_FOUND 127

#define RUN_MEMORY_MIN (8ull << 20)  /* bytes: below this no program gets through its dynamic loader */
#define RUN_MEMORY_MAX (1ull << 40)  /* bytes: room reserved for the direct map */
#define RUN_SWAP_MIN (1ull << 20)    /* bytes */
#define RUN_SWAP_MAX (64ull << 30)   /* bytes: what one area's table has room for */
#define RUN_MAX_SWAP 16u             /* areas */
#define RUN_ZSTD_LEVELS 3u           /* SWAP_ZSTD_LEVELS; the next is SWAP_ZSTD_LEVEL_DEFAULT */
#define RUN_ZSTD_LEVEL 3u
#define RUN_FAIL_MAX_ONE_IN 1000000000ull /* --fail 1/N */
#define RUN_MAX_CPUS 64u             /* = QUIRE_MAX_CPUS */
#define RUN_NAME_MAX 63u
#define OPTION_ERROR_MAX 512

/* What --fail can make fail. */
enum run_fail_kind {
	RUN_FAIL_SWAP_READ,  /* EIO, at any point of a transfer */
	RUN_FAIL_SWAP_WRITE,
	RUN_FAIL_SWAP_FULL,  /* a write finds no room */
	RUN_FAIL_SWAP_SHORT, /* the host transfers a part only */
	RUN_FAIL_SWAP_SLOW,  /* it takes longer */
	RUN_NR_FAIL,
};

/* When one kind fails: never if both are 0. */
struct run_fail {
	u64 nth;                  /* the nth alone, counted from 1 */
	u64 share;                /* so many of 2^32, drawn from the seed */
	u64 seed;
	bool seed_given;          /* else it is the machine's, or 1 */
};

/* What `quire run` was asked to do.  Strings belong to the caller's argv. */
struct run_options {
	u64 memory;               /* bytes of RAM, a multiple of 2 MiB (small sizes: of 4 KiB) */
	struct run_swap {
		const char *path; /* NULL = compressed in memory; not terminated: */
		size_t path_len;
		u64 bytes;        /* whole pages */
		s32 prio;         /* 0..32767, -1 = lower than those before */
		u32 zstd_level;   /* of the compressor in memory, 1..RUN_ZSTD_LEVELS; 0 = lz4 */
	} swap[RUN_MAX_SWAP];
	u32 nr_swap;
	struct run_fail fail[RUN_NR_FAIL];
	u32 nr_cpus;              /* per-CPU slots, 1..RUN_MAX_CPUS */
	u32 folio_max_order;      /* largest anonymous folio, 2^order pages: 0, 2, 4 or 9 */
	const char *policy;       /* of reclaim, by name; NULL = the default */
	u32 overcommit;           /* vm.overcommit_memory: 0, 1, 2 */
	bool aslr;                /* randomise the layout of new address spaces */
	bool patch_syscalls;      /* rewrite hot system call sites */
	bool seed_given;          /* else the machine draws a seed from the host */
	u64 seed;
	bool keep;                /* the machine outlives its first program */
	bool stats, stats_json;   /* print statistics at exit */
	bool verbose;             /* the machine's log also goes to standard error */
	const char *log_path;     /* append the machine's log here; NULL = nowhere */
	const char *name;         /* how other commands find the machine; NULL = its process number */
	int argc;                 /* the program, at least 1 after a successful parse */
	char **argv;              /* argv[argc] == NULL */
};

/* What parsing needs to know of the host. */
struct host_facts {
	u64 mem_total;            /* bytes, /proc/meminfo's MemTotal */
	u32 nr_cpus;              /* online */
};

enum option_outcome {
	OPTIONS_OK,
	OPTIONS_HELP,             /* --help was asked for */
	OPTIONS_VERSION,          /* --version was asked for */
	OPTIONS_BAD,              /* error[] says what was wrong and what would be right */
};

struct option_spec;
typedef int (*option_setter)(struct run_options *o, const struct host_facts *host, const char *value, char *error);

struct option_spec {
	const char *name;         /* without "--" */
	const char *arg;          /* name of its argument in help texts, NULL = takes none */
	const char *fallback;     /* what holds without the option, for help texts; NULL = nothing to say */
	const char *help;         /* one or more sentences */
	option_setter set;        /* 0, or -1 with error[] filled; NULL for --help and --version */
};

/* Ends with an entry whose name is NULL. */
extern const struct option_spec run_option_table[];

/* One sub-command; the table ends with an entry whose name is NULL. */
struct command_spec {
	const char *name;
	const char *args;         /* synopsis after the name */
	const char *help;
	int (*main)(int argc, char **argv); /* argv[0] is the sub-command's name; NULL = not there yet */
};

/* ---- main.c ---- */
const struct command_spec *find_command_spec(const char *name); /* NULL if there is none */

/* ---- options.c ---- */
/* The defaults on this host: a quarter of its memory, all of its CPUs. */
void run_options_default(struct run_options *o, const struct host_facts *host);
/* argv[0] is "run"; options come before the program or "--".  error: OPTION_ERROR_MAX bytes. */
enum option_outcome run_options_parse(struct run_options *o, const struct host_facts *host, int argc, char **argv,
				      char *error);
/* "64M", "1G", "4096", "25%" (of whole; refused when whole is 0).  0, or -1 with error[] filled. */
int parse_size(const char *text, u64 whole, u64 *bytes, char *error);
/* The name itself if the machine has such a policy (reclaim/policies.c), else NULL with error[] filled. */
const char *parse_policy(const char *text, char *error);
/* Asks /proc/meminfo and sysconf.  0 or negative errno. */
int host_facts_read(struct host_facts *host);

/* ---- help.c ---- */
void help_run(FILE *out);
void help_main(FILE *out, const struct command_spec *commands);
void help_man(FILE *out, const struct command_spec *commands); /* roff, for man(1) */

#endif
