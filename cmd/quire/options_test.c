/*
 * Tests of the command line's parser: what it accepts, what it refuses, and that every refusal says why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../reclaim/reclaim.h"
#include "options.h"

static const struct host_facts host = {.mem_total = 24ull << 30, .nr_cpus = 2};
static char error[OPTION_ERROR_MAX];
static struct run_options o;

/* Splits a line at blanks and parses it as the arguments of "run". */
static enum option_outcome parse(const char *line)
{
	static char text[512];
	static char *argv[64];
	int argc = 0;

	snprintf(text, sizeof(text), "run %s", line);
	for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	error[0] = 0;
	return run_options_parse(&o, &host, argc, argv, error);
}

static void refuses(const char *line, const char *because)
{
	assert_int_equal(parse(line), OPTIONS_BAD);
	if (!strstr(error, because))
		fail_msg("'%s' gave \"%s\", which does not say \"%s\"", line, error, because);
}

static void defaults(void **state)
{
	assert_int_equal(parse("/bin/echo hi"), OPTIONS_OK);
	assert_int_equal(o.memory, 6ull << 30);
	assert_int_equal(o.nr_cpus, 2);
	assert_int_equal(o.folio_max_order, 9);
	assert_true(o.aslr && o.patch_syscalls && !o.seed_given && !o.keep && !o.stats && !o.verbose);
	assert_int_equal(o.overcommit, 0);
	assert_null(o.name);
	assert_null(o.log_path);
	assert_int_equal(o.argc, 2);
	assert_string_equal(o.argv[0], "/bin/echo");
	assert_null(o.argv[2]);
}

static void tiny_and_huge_hosts(void **state)
{
	struct host_facts tiny = {.mem_total = 1 << 20, .nr_cpus = 0};
	struct host_facts huge = {.mem_total = ~0ull, .nr_cpus = 4096};

	run_options_default(&o, &tiny);
	assert_int_equal(o.memory, RUN_MEMORY_MIN);
	assert_int_equal(o.nr_cpus, 1);
	run_options_default(&o, &huge);
	assert_int_equal(o.memory, RUN_MEMORY_MAX);
	assert_int_equal(o.nr_cpus, RUN_MAX_CPUS);
}

static void memory_sizes(void **state)
{
	static const struct { const char *line; u64 bytes; } cases[] = {
		{"--memory 64M x", 64ull << 20},         {"--memory=64M x", 64ull << 20},
		{"--memory 1G x", 1ull << 30},           {"--memory 1g x", 1ull << 30},
		{"--memory 1GiB x", 1ull << 30},         {"--memory 1GB x", 1ull << 30},
		{"--memory 65536K x", 64ull << 20},      {"--memory 67108864 x", 64ull << 20},
		{"--memory 67108864B x", 64ull << 20},   {"--memory 25% x", 6ull << 30},
		{"--memory 100% x", 24ull << 30},        {"--memory 1T x", 1ull << 40},
		{"--memory 8M x", 8ull << 20},           {"--memory 8400K x", 8400ull << 10},
		{"--memory 65M x", 64ull << 20},         {"--memory 1G --memory 64M x", 64ull << 20},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(parse(cases[i].line), OPTIONS_OK);
		/* A share is rounded down like any size: 25% of 24 GiB loses the division's remainder. */
		assert_in_range(o.memory, cases[i].bytes - (2ull << 20), cases[i].bytes);
		assert_true(o.memory == cases[i].bytes || strchr(cases[i].line, '%'));
	}
}

static void memory_refusals(void **state)
{
	refuses("--memory 7M x", "8M to 1024G");
	refuses("--memory 0 x", "out of range");
	refuses("--memory 2T x", "out of range");
	refuses("--memory -1 x", "not a size");
	refuses("--memory lots x", "64M");
	refuses("--memory 64Q x", "K, M, G or T");
	refuses("--memory 64MM x", "K, M, G or T");
	refuses("--memory 64iB x", "K, M, G or T");
	refuses("--memory 0% x", "1% to 100%");
	refuses("--memory 101% x", "1% to 100%");
	refuses("--memory 99999999999999999999999 x", "64 bits");
	refuses("--memory 99999999999T x", "64 bits");
	refuses("--memory", "needs an argument");
	refuses("--memory -- x", "needs an argument");
	refuses("--memory= x", "not a size");
}

static void other_values(void **state)
{
	assert_int_equal(parse("--cpus 4 --folio-max 64K --seed 0x10 --aslr off --patch-syscalls off --overcommit 2 --name a.b-c_1 --keep "
			       "--log /tmp/l --json --verbose -- prog -x --memory"), OPTIONS_OK);
	assert_int_equal(o.nr_cpus, 4);
	assert_int_equal(o.folio_max_order, 4);
	assert_true(o.seed_given && o.seed == 16);
	assert_false(o.aslr);
	assert_false(o.patch_syscalls);
	assert_int_equal(o.overcommit, 2);
	assert_string_equal(o.name, "a.b-c_1");
	assert_string_equal(o.log_path, "/tmp/l");
	assert_true(o.keep && o.stats && o.stats_json && o.verbose);
	assert_int_equal(o.argc, 3);
	assert_string_equal(o.argv[2], "--memory");
	assert_int_equal(parse("--folio-max 4K x"), OPTIONS_OK);
	assert_int_equal(o.folio_max_order, 0);
	assert_int_equal(parse("--folio-max 2M x"), OPTIONS_OK);
	assert_int_equal(o.folio_max_order, 9);
}

static void swap_areas(void **state)
{
	assert_int_equal(parse("--swap 64M --swap lz4:2M,pri=7 --swap zstd:1G --swap zstd:3M,level=1,pri=9 --swap zstd:4M,pri=1,level=2 "
			       "--swap ./zstd:5M --swap a,b:c:6M,pri=0 x"), OPTIONS_OK);
	assert_int_equal(o.nr_swap, 7);
	for (u32 i = 0; i < 5; i++)
		assert_null(o.swap[i].path);
	assert_int_equal(o.swap[0].bytes, 64 << 20);
	assert_int_equal(o.swap[0].prio, -1);
	assert_int_equal(o.swap[0].zstd_level, 0);
	assert_int_equal(o.swap[1].zstd_level, 0);
	assert_int_equal(o.swap[1].prio, 7);
	assert_int_equal(o.swap[2].zstd_level, 3);
	assert_int_equal(o.swap[2].bytes, 1 << 30);
	assert_int_equal(o.swap[3].zstd_level, 1);
	assert_int_equal(o.swap[3].prio, 9);
	assert_int_equal(o.swap[4].zstd_level, 2);
	assert_int_equal(o.swap[4].prio, 1);
	assert_int_equal(o.swap[5].path_len, 6);
	assert_int_equal(o.swap[5].zstd_level, 0);
	assert_memory_equal(o.swap[6].path, "a,b:c:", 6);
	assert_int_equal(o.swap[6].path_len, 5);
	assert_int_equal(o.swap[6].prio, 0);
}

static void failures(void **state)
{
	assert_int_equal(parse("x"), OPTIONS_OK);
	for (u32 i = 0; i < RUN_NR_FAIL; i++)
		assert_true(!o.fail[i].nth && !o.fail[i].share);
	assert_int_equal(parse("--fail swap-io=1/4:7 --fail=swap-full=#12 --fail swap-slow=50% x"), OPTIONS_OK);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_READ].share, 1u << 30);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_WRITE].share, 1u << 30);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_SHORT].seed, 7);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_FULL].nth, 12);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_FULL].share, 0);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_SLOW].share, 1u << 31);
	assert_true(o.fail[RUN_FAIL_SWAP_SHORT].seed_given && !o.fail[RUN_FAIL_SWAP_SLOW].seed_given);
	assert_int_equal(parse("--fail swap-read=1/1 --fail swap-write=100% x"), OPTIONS_OK);
	assert_true(o.fail[RUN_FAIL_SWAP_READ].share == 1ull << 32 && o.fail[RUN_FAIL_SWAP_WRITE].share == 1ull << 32);
	assert_int_equal(parse("--fail swap-read=1/1000000000 x"), OPTIONS_OK);
	assert_int_equal(o.fail[RUN_FAIL_SWAP_READ].share, 4);
	refuses("--fail swap-read x", "WHAT=RATE[:SEED]");
	refuses("--fail swap-read= x", "how often");
	refuses("--fail swap-read=3 x", "1/N, P% or #N");
	refuses("--fail swap-read=1/0 x", "out of range");
	refuses("--fail swap-read=1/2000000000 x", "out of range");
	refuses("--fail swap-read=101% x", "out of range");
	refuses("--fail swap-read=-1% x", "not a whole number");
	refuses("--fail swap-read=#0 x", "out of range");
	refuses("--fail swap-read=#x x", "not a whole number");
	refuses("--fail swap-read=1/2: x", "not a whole number");
	refuses("--fail swap-read=1/2:x x", "not a whole number");
	refuses("--fail =1/2 x", "cannot fail on demand");
	refuses("--fail memory=1/2 x", "'memory' cannot fail on demand: swap-io");
	refuses("--fail", "needs an argument");
}

static void refusals(void **state)
{
	refuses("", "which program?");
	refuses("--keep", "which program?");
	refuses("--keep --", "which program?");
	refuses("--memroy 64M x", "did you mean --memory?");
	refuses("--frobnicate x", "--help");
	refuses("-m 64M x", "two dashes");
	refuses("--keep=yes x", "takes no argument");
	refuses("--cpus 0 x", "1 to 64");
	refuses("--cpus 65 x", "1 to 64");
	refuses("--cpus two x", "not a whole number");
	refuses("--folio-max 8K x", "4K, 16K, 64K or 2M");
	refuses("--folio-max 25% x", "no unit");
	refuses("--seed abc x", "not a whole number");
	refuses("--aslr maybe x", "on or off");
	refuses("--patch-syscalls 1 x", "on or off");
	refuses("--overcommit 3 x", "0 to 2");
	refuses("--policy best x", "second-chance, generations or clock");
	refuses("--name ../x y", "not a name");
	refuses("--name -x y", "not a name");
	refuses("--swap /tmp/x x", "needs a size");
	refuses("--swap zstd: x", "not a size");
	refuses("--swap zstd x", "not a size");
	refuses("--swap zstd:64M,level=0 x", "1 to 3");
	refuses("--swap zstd:64M,level=4 x", "1 to 3");
	refuses("--swap zstd:64M,level= x", "not a whole number");
	refuses("--swap zstd:64M,speed=1 x", "pri=N would be right, or level=N");
	refuses("--swap zstd:64M, x", "pri=N would be right");
	refuses("--swap 64M,level=1 x", "only zstd has levels");
	refuses("--swap lz4:64M,level=1 x", "only zstd has levels");
	refuses("--swap /tmp/x:64M,level=1 x", "only zstd has levels");
	refuses("--swap :64M x", "file name is missing");
	refuses("--swap 64M,pri=40000 x", "out of range");
	refuses("--swap /tmp/x:64 x", "out of range");
	refuses("--swap 4K x", "out of range");
	refuses("--log= x", "file name");
}

static void errors_name_the_option(void **state)
{
	refuses("--cpus 0 x", "--cpus: ");
	refuses("--memory lots x", "--memory: 'lots'");
}

static void long_input_is_cut(void **state)
{
	char *big = malloc(8192);
	char *argv[] = {"run", big, "x", NULL};

	memset(big, 'a', 8191);
	big[0] = big[1] = '-';
	big[8191] = 0;
	assert_int_equal(run_options_parse(&o, &host, 3, argv, error), OPTIONS_BAD);
	assert_in_range(strlen(error), 1, OPTION_ERROR_MAX - 1);
	memcpy(big, "--name=", 7);
	assert_int_equal(run_options_parse(&o, &host, 3, argv, error), OPTIONS_BAD);
	assert_in_range(strlen(error), 1, OPTION_ERROR_MAX - 1);
	free(big);
}

static void help_and_version(void **state)
{
	assert_int_equal(parse("--help"), OPTIONS_HELP);
	assert_int_equal(parse("-h"), OPTIONS_HELP);
	assert_int_equal(parse("--keep --help"), OPTIONS_HELP);
	assert_int_equal(parse("--version"), OPTIONS_VERSION);
	assert_int_equal(parse("-- --help"), OPTIONS_OK);
}

/* Every option of the table stands in the help text and in the man page. */
static void one_source(void **state)
{
	static const struct command_spec none[] = {{NULL, NULL, NULL, NULL}};
	char *text[2] = {NULL, NULL};
	size_t size;
	FILE *f;

	f = open_memstream(&text[0], &size);
	help_run(f);
	fclose(f);
	f = open_memstream(&text[1], &size);
	help_man(f, none);
	fclose(f);
	for (const struct option_spec *s = run_option_table; s->name; s++) {
		char head[64], roff[64];
		size_t n = 0;

		snprintf(head, sizeof(head), "--%s", s->name);
		for (const char *c = s->name; *c; roff[n++] = *c++)
			if (*c == '-')
				roff[n++] = '\\';
		roff[n] = 0;
		assert_non_null(strstr(text[0], head));
		assert_non_null(strstr(text[1], roff));
	}
	free(text[0]);
	free(text[1]);
}

/* What may be asked for is what the core has. */
static void policies(void **state)
{
	char line[64];

	for (unsigned i = 0; reclaim_policy_nth(i); i++) {
		assert_non_null(parse_policy(reclaim_policy_nth(i)->name, error));
		snprintf(line, sizeof(line), "--policy %s x", reclaim_policy_nth(i)->name);
		assert_int_equal(parse(line), OPTIONS_OK);
		assert_string_equal(o.policy, reclaim_policy_nth(i)->name);
	}
	assert_null(parse_policy("", error));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),       cmocka_unit_test(tiny_and_huge_hosts),
		cmocka_unit_test(memory_sizes),   cmocka_unit_test(memory_refusals),
		cmocka_unit_test(other_values), cmocka_unit_test(swap_areas), cmocka_unit_test(failures), cmocka_unit_test(refusals),
		cmocka_unit_test(errors_name_the_option), cmocka_unit_test(long_input_is_cut),
		cmocka_unit_test(policies),       cmocka_unit_test(help_and_version), cmocka_unit_test(one_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
