/*
 * quire: the command-line program.  Finds the sub-command and hands over; every sub-command returns the exit
 * code of the process.  Ordinary libc C; no state.
 */
#include "options.h"

#include <string.h>
#ifdef QUIRE_HAVE_SUPERVISOR
#include "port/linux/supervisor.h"
#include "remote.h"
#define REMOTE(fn) fn
#else
#define REMOTE(fn) NULL
#endif
#ifdef QUIRE_HAVE_LAB
#include "lab/lab.h"
#endif

#ifndef QUIRE_VERSION
#define QUIRE_VERSION "unknown"
#endif

static int complain(const char *who, const char *what)
{
	fprintf(stderr, "quire%s%s: %s\n", *who ? " " : "", who, what);
	return QUIRE_EXIT_FAILED;
}

static int print_version(void)
{
	printf("quire %s\n", QUIRE_VERSION);
	return 0;
}

static int run_main(int argc, char **argv)
{
	char error[OPTION_ERROR_MAX];
	struct run_options options;
	struct host_facts host;

	if (host_facts_read(&host))
		return complain("run", "cannot read MemTotal from /proc/meminfo; is /proc mounted?");
	switch (run_options_parse(&options, &host, argc, argv, error)) {
	case OPTIONS_HELP:
		help_run(stdout);
		return 0;
	case OPTIONS_VERSION:
		return print_version();
	case OPTIONS_BAD:
		return complain("run", error);
	default:
		break;
	}
#ifdef QUIRE_HAVE_SUPERVISOR
	return supervisor_run(&options);
#else
	return complain("run", "this build has no hosted machine (CAVEATS.md)");
#endif
}

/* Sub-commands whose main is NULL are named so that they fail by name, not as "unknown". */
static const struct command_spec commands[] = {
	{"run", "[OPTIONS] -- PROGRAM ...", "Start a machine and run a program on its memory.", run_main},
#ifdef QUIRE_HAVE_LAB
	{"lab", "[OPTIONS] SCRIPT|-", "Run a script of memory operations on a simulated machine and print what it sees.",
	 lab_main},
#else
	{"lab", "[OPTIONS] SCRIPT|-", "Run a script of memory operations on a simulated machine and print what it sees.",
	 NULL},
#endif
	{"exec", "NAME [--] PROGRAM ...", "Run a program on a machine that is running, as one more of its processes.",
	 REMOTE(remote_exec)},
	{"ps", "[NAME]", "List machines (sizes in KiB), or the processes of one.", REMOTE(remote_ps)},
	{"maps", "NAME PID", "Print a process's mappings.", REMOTE(remote_maps)},
	{"cat", "NAME FILE", "Print a file of a machine's /proc: meminfo, buddyinfo, slabinfo, vmstat, PID/smaps, PID/status, ...",
	 REMOTE(remote_cat)},
	{"dmesg", "NAME", "Print a machine's log.", REMOTE(remote_dmesg)},
	{"translate", "NAME PID ADDRESS", "Walk the page tables for an address (hexadecimal), level by level.",
	 REMOTE(remote_translate)},
	{"devmem", "NAME read|write ADDRESS [VALUE] [COUNT]", "Read COUNT bytes of a machine's physical memory at ADDRESS "
	 "(hexadecimal), or write VALUE there, COUNT times.", REMOTE(remote_devmem)},
	{NULL, NULL, NULL, NULL},
};

const struct command_spec *find_command_spec(const char *name)
{
	const struct command_spec *c = commands;

	while (c->name && strcmp(c->name, name) != 0)
		c++;
	return c->name ? c : NULL;
}

static int no_command(const char *name)
{
	char text[256];

	snprintf(text, sizeof(text), "unknown command '%s': 'quire --help' lists the commands", name);
	return complain("", text);
}

/* Does argv ask for help by itself?  For the commands that have no parser of their own yet. */
static bool asks_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 || strcmp(arg, "help") == 0;
}

int main(int argc, char **argv)
{
	const struct command_spec *c;

#ifdef QUIRE_HAVE_SUPERVISOR
	limits_find_room(argv);
#endif
	if (argc < 2) {
		help_main(stderr, commands);
		return QUIRE_EXIT_FAILED;
	}
	if (asks_help(argv[1]) || strcmp(argv[1], "--man") == 0) {
		(argv[1][2] == 'm' ? help_man : help_main)(stdout, commands);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return print_version();
	c = find_command_spec(argv[1]);
	if (c && c->main)
		return c->main(argc - 1, argv + 1);
	if (c)
		return complain(c->name, "this command is not there in this build (CAVEATS.md)");
	return no_command(argv[1]);
}
