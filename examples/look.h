/*
 * How the examples look at themselves: page faults, resident memory, mappings, and the frame behind an address.
 * Everything comes from the interfaces that any Linux program has, so the examples run natively too.
 */
#ifndef EXAMPLES_LOOK_H
#define EXAMPLES_LOOK_H
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096ul

/* Page faults of this process so far that needed no file to be read. */
static inline long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* A number from /proc/self/status, in KiB: "VmRSS", "VmLck", "VmData" ... */
static inline long status_kb(const char *name)
{
	char line[256];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), ": %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/* Prints the line of /proc/self/maps that holds an address; returns its size in KiB, 0 if nothing is mapped there. */
static inline long show_mapping(uintptr_t at)
{
	unsigned long start, end;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &start, &end) != 2 || at < start || at >= end)
			continue;
		printf("    %s", line);
		fclose(f);
		return (long)(end - start) / 1024;
	}
	if (f)
		fclose(f);
	printf("    nothing is mapped at %#lx\n", at);
	return 0;
}

/*
 * The frame number behind an address by /proc/self/pagemap: 0 if none is there, -1 if this system will not say
 * (Linux tells frame numbers to root only; in a machine of Quire's everybody may know).
 */
static inline long frame_of(const void *p)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	ssize_t n = pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)p / PAGE * sizeof(entry)));

	close(fd);
	if (n != sizeof(entry) || !(entry >> 63))
		return 0;
	entry &= (1ull << 55) - 1;
	return entry ? (long)entry : -1;
}

static inline void say_frame(const char *what, const void *p)
{
	long frame = frame_of(p);

	if (frame > 0)
		printf("%s: address %p is frame %ld, physical 0x%lx\n", what, p, frame,
		       (unsigned long)frame * PAGE + (uintptr_t)p % PAGE);
	else
		printf("%s: address %p has %s\n", what, p, frame == 0 ? "no frame yet" : "a frame, but only root may know which");
}

#endif
