/*
 * `quire lab`: a small script of allocator commands on a simulated machine.  docs/lab.md is the manual.
 */
#ifndef QUIRE_CMD_LAB_H
#define QUIRE_CMD_LAB_H
#include <quire/types.h>
#include <stdio.h>

/* What the machine is made of. */
struct lab_options {
	u64 memory;  /* bytes; 0 = 64 MiB */
	u32 nr_cpus; /* 0 = 1 */
	u64 seed;
	const char *zones; /* "64", "32", "flat" or "dma=SIZE,dma32=SIZE,lowmem=SIZE"; NULL = "64" */
	const char *policy; /* of reclaim; NULL = the default */
	bool debug;        /* red zones, poison, owners */
};

int lab_main(int argc, char **argv);
/* Runs a script.  name: for messages.  0, or 125 after a message on err (bad input, or the machine had to end). */
int lab_run(const struct lab_options *o, const char *name, FILE *script, FILE *out, FILE *err);

#endif
