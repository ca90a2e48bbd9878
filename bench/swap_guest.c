/*
 * What swapping costs a program: bench.py runs this natively and under Quire and puts the figures side by side.
 *
 *	swap_guest out_in [random]	under Quire, three numbers, ns a page: first touch, MADV_PAGEOUT, touching again
 *	swap_guest compress			lz4 alone on the same pages, ns a page
 *	swap_guest peer				one mprotect and one memcpy for each 64 KiB, ns a page
 *
 * The pages are filled with what lz4 makes a third of.  What comes back is compared; a run whose pages were not really
 * out is no measurement and fails.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#define PAGE_SIZE 4096ul
#define AREA (32ul << 20)
#define PAGES (AREA / PAGE_SIZE)
#define BLOCK (64ul << 10)
#define ROUNDS 3

/* swap/bytes.c; its header and the host's do not go together. */
#define WORK 4608u
#define COMPRESSED_MAX 3072u
uint32_t page_compress(const void *page, void *dst, uint32_t max, void *work);

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "swap_guest: %s\n", what);
	exit(1);
}

static char *area(void)
{
	char *p = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Word i of the area: in eight, two are new and the others are those of 64 bytes before, as fields of records are. */
static uint64_t word(uint64_t i)
{
	return i % 8 < 2 ? mix(i) : mix(i % 8 + i / 512 * 8);
}

static void fill(char *p)
{
	for (uint64_t i = 0; i < AREA / 8; i++)
		((uint64_t *)(void *)p)[i] = word(i);
}

static bool is_whole(const char *p)
{
	for (uint64_t i = 0; i < AREA / 8; i++)
		if (((const uint64_t *)(const void *)p)[i] != word(i))
			return false;
	return true;
}

static uint64_t swapped_kib(void)
{
	unsigned long kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmSwap: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

/* Writes what is there to every page. */
static double touch(char *p, bool randomly)
{
	double start = now_ns();

	for (uint64_t i = 0; i < PAGES; i++) {
		volatile char *c = p + (randomly ? (i * 0x9e3779b1u + 12345) % PAGES : i) * PAGE_SIZE;

		*c = *c;
	}
	return (now_ns() - start) / (double)PAGES;
}

/* The same with nothing to read there yet: a read alone would map the zero page. */
static double first_touch(char *p, bool randomly)
{
	double start = now_ns();

	for (uint64_t i = 0; i < PAGES; i++)
		*(volatile char *)(p + (randomly ? (i * 0x9e3779b1u + 12345) % PAGES : i) * PAGE_SIZE) = 1;
	return (now_ns() - start) / (double)PAGES;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v)
{
	qsort(v, ROUNDS, sizeof(*v), by_size);
	return v[ROUNDS / 2];
}

static void out_in(bool randomly)
{
	double first[ROUNDS], out[ROUNDS], in[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		char *p = area();

		first[i] = first_touch(p, randomly);
		fill(p);
		out[i] = now_ns();
		if (madvise(p, AREA, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
		out[i] = (now_ns() - out[i]) / (double)PAGES;
		if (swapped_kib() < AREA / 1024 / 100 * 95)
			die("pages stayed in memory");
		in[i] = touch(p, randomly);
		if (!is_whole(p))
			die("wrong bytes came back");
		munmap(p, AREA);
	}
	printf("%.2f %.2f %.2f\n", median(first), median(out), median(in));
}

static double compress_once(const char *p)
{
	uint64_t work[WORK / 8], bytes = 0;
	uint8_t buf[COMPRESSED_MAX];
	double start = now_ns();

	for (uint64_t i = 0; i < PAGES; i++)
		bytes += page_compress(p + i * PAGE_SIZE, buf, sizeof(buf), work);
	start = now_ns() - start;
	if (bytes < AREA / 4 || bytes > AREA / 2)
		die("the pages do not become a third");
	return start / (double)PAGES;
}

static double peer_once(char *p, char *to)
{
	double start = now_ns();

	for (uint64_t at = 0; at < AREA; at += BLOCK) {
		if (mprotect(p + at, BLOCK, PROT_READ))
			die("mprotect");
		memcpy(to + at, p + at, BLOCK);
	}
	start = now_ns() - start;
	mprotect(p, AREA, PROT_READ | PROT_WRITE);
	return start / (double)PAGES;
}

int main(int argc, char **argv)
{
	char *p, *to;
	double v[ROUNDS];

	if (argc < 2)
		die("which measurement?");
	if (!strcmp(argv[1], "out_in")) {
		out_in(argc > 2 && !strcmp(argv[2], "random"));
		return 0;
	}
	p = area();
	to = area();
	madvise(p, AREA, MADV_NOHUGEPAGE);
	madvise(to, AREA, MADV_NOHUGEPAGE);
	fill(p);
	memset(to, 1, AREA);
	for (int i = 0; i < ROUNDS; i++)
		v[i] = !strcmp(argv[1], "peer") ? peer_once(p, to) : compress_once(p);
	printf("%.2f\n", median(v));
	return 0;
}
