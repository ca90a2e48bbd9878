/*
 * What natively run and simulated streams share besides the steps: options, which steps run, and where.
 */
#include "callgen.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options opt;
struct shared *sh;
__thread struct worker *me;
u64 heap_start;

bool kept(u32 i) { return i >= opt.nkeep || opt.keep[i] != '0'; }

u64 file_bytes(void) { return (opt.rss ? FILE_PAGES + 128 : FILE_PAGES / 2) * PAGE; }

u32 live_slot(u32 wanted)
{
	for (u32 i = 0; i < MAX_SLOTS; i++)
		if (sh->alive[(wanted + i) % MAX_SLOTS])
			return (wanted + i) % MAX_SLOTS;
	return 0;
}

static void read_keep(const char *path)
{
	static char keep[1 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, keep, sizeof(keep));

	if (n < 0)
		_exit(86);
	close(fd);
	opt.keep = keep;
	opt.nkeep = (size_t)n;
}

void parse_options(int argc, char **argv)
{
	static const char *const modes[] = {"one", "ring", "race", "threads"};

	if (argc < 4) {
		dprintf(2, "usage: callgen SEED COUNT one|ring|race|threads [rss|folios] [ordinary] [sim] [verbose] [keep=FILE] [dir=DIR]\n");
		_exit(2);
	}
	opt.seed = strtoull(argv[1], NULL, 0);
	opt.count = (u32)strtoul(argv[2], NULL, 0);
	opt.dir = "/tmp";
	for (u32 i = 0; i < 4; i++)
		if (!strcmp(argv[3], modes[i]))
			opt.mode = i;
	for (int i = 4; i < argc; i++) {
		opt.rss |= !strcmp(argv[i], "rss");
		opt.folios |= !strcmp(argv[i], "folios");
		opt.sim |= !strcmp(argv[i], "sim");
		opt.ordinary |= !strcmp(argv[i], "ordinary");
		opt.verbose |= !strcmp(argv[i], "verbose");
		if (!strncmp(argv[i], "keep=", 5))
			read_keep(argv[i] + 5);
		if (!strncmp(argv[i], "dir=", 4))
			opt.dir = argv[i] + 4;
	}
	opt.rss |= opt.folios;
	/* What one process reads into the shared cache is mapped around the faults of another, sooner or later. */
	opt.rss = opt.rss && opt.mode != MODE_RACE;
}
