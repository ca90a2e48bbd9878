/*
 * Reclaim: misses of each policy on the traces in bench/traces beside exact LRU and the optimum (OPT, which knows the future),
 * and what it costs to find pages in memories of different sizes.  No argument, or names of traces.
 *
 * A trace is run as a program on a simulated machine whose memory is taken away until about a third, then a tenth of the
 * trace's pages fit.  LRU and OPT get as many pages as the machine ever held at once, which is in their favour: the machine frees in batches.
 */
#include <dirent.h>
#include <port/sim/mmu.h>
#include <port/sim/simfs.h>
#include <reclaim/reclaim.h>
#include <fault/fault.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef TRACES
#define TRACES "bench/traces"
#endif
#define MAX_USES 200000u
#define MIB (1ul << 20)

struct trace {
	char name[64];
	u32 uses, pages;    /* pages: highest number + 1 */
	u32 distinct;
	u32 page[MAX_USES];
};

static int failed;

/* ---- traces ---- */

static bool read_varint(FILE *f, u64 *v)
{
	unsigned shift = 0;
	int c;

	*v = 0;
	do {
		c = getc(f);
		if (c == EOF)
			return false;
		*v |= (u64)(c & 0x7f) << shift;
		shift += 7;
	} while (c & 0x80);
	return true;
}

static bool trace_read(struct trace *t, const char *file)
{
	char path[512], line[256];
	u64 d, page = 0;
	FILE *f;

	snprintf(path, sizeof(path), TRACES "/%s", file);
	f = fopen(path, "rb");
	if (!f || !fgets(line, sizeof(line), f) || strcmp(line, "QTRACE1\n") || !fgets(line, sizeof(line), f)) {
		fprintf(stderr, "reclaim_bench: %s is no trace\n", path);
		return false;
	}
	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%.*s", (int)strcspn(file, "."), file);
	while (t->uses < MAX_USES && read_varint(f, &d)) {
		page += d & 1 ? ~(d >> 1) : d >> 1;
		t->page[t->uses++] = (u32)page;
		t->pages = MAX(t->pages, (u32)page + 1);
	}
	fclose(f);
	u8 *seen = calloc(t->pages, 1);
	for (u32 i = 0; i < t->uses; i++) {
		t->distinct += !seen[t->page[i]];
		seen[t->page[i]] = 1;
	}
	free(seen);
	return t->uses;
}

/* ---- the two that everything is measured by ---- */

/* Misses with `room` pages of which the one goes whose key is `first`: LRU by the last use, OPT by the next. */
static u32 misses_of(const struct trace *t, u32 room, bool opt)
{
	u32 *next = calloc(t->uses, sizeof(*next)), *at = calloc(t->pages, sizeof(*at)), *in = calloc(room, sizeof(*in));
	u32 *place = calloc(t->pages, sizeof(*place)), n = 0, misses = 0;

	for (u32 i = t->uses; i-- > 0;) {
		next[i] = at[t->page[i]] ? at[t->page[i]] : ~0u;
		at[t->page[i]] = i;
	}
	for (u32 i = 0; i < t->uses; i++) {
		u32 p = t->page[i], victim = 0;

		if (!place[p]) {
			misses++;
			if (n < room) {
				victim = n++;
			} else {
				for (u32 k = 1; k < n; k++)
					if (opt ? at[in[k]] > at[in[victim]] : at[in[k]] < at[in[victim]])
						victim = k;
				place[in[victim]] = 0;
			}
			in[victim] = p;
			place[p] = 1;
		}
		at[p] = opt ? next[i] : i;
	}
	free(next);
	free(at);
	free(in);
	free(place);
	return misses;
}

/* ---- a trace on a machine ---- */

static struct sim_cpu *start_program(struct quire *q, struct mm_struct **mm)
{
	struct sim_cpu *cpu = sim_cpu_get(q, 0);

	*mm = mm_alloc(q, NULL);
	sim_set_abort_handler(q, do_mem_abort);
	sim_cpu_switch_mm(cpu, *mm);
	sim_cpu_set_el(cpu, 0);
	return cpu;
}

static u64 cached(const struct quire *q)
{
	return q->nr_lru_pages[LRU_INACTIVE_FILE] + q->nr_lru_pages[LRU_ACTIVE_FILE];
}

/* Takes frames until only about `room` pages of cache fit. */
static void take_memory_away(struct quire *q, u64 room)
{
	u64 min = 0;

	for (unsigned z = 0; z < MAX_NR_ZONES; z++)
		min += q->phys.zones[z].watermark[WMARK_MIN];
	while (nr_free_pages(q) > room + min + 64)
		if (!alloc_page(q, GFP_KERNEL & ~__GFP_DIRECT_RECLAIM))
			break;
}

static u32 run_policy(const struct trace *t, const struct reclaim_policy *policy, u32 part, u64 *most)
{
	struct sim_config cfg = { .memory = 64 * MIB, .host_files = true, .policy = policy, .zones = &zone_layout_flat };
	struct quire *q = sim_machine_new(&cfg);
	struct file *f = sim_file_create(q, "/trace", NULL, (u64)t->pages << PAGE_SHIFT);
	struct mm_struct *mm;
	struct sim_cpu *cpu = start_program(q, &mm);
	u32 misses = 0;
	u64 warm;
	long base;

	q->cfg.fault_around_tokens = 1;
	base = do_mmap(mm, f, 0, (u64)t->pages << PAGE_SHIFT, PROT_READ, MAP_SHARED, 0);
	/* Every page once, so that tables and the slabs' own stocks take no room later; then all of them go, unremembered. */
	for (u32 i = 0; i < t->pages; i++)
		failed += sim_load(cpu, (u64)base + ((u64)i << PAGE_SHIFT), 8, &warm) != 0;
	madvise_cold(mm, (u64)base, (u64)base + ((u64)t->pages << PAGE_SHIFT), true);
	while (cached(q) && try_to_free_pages(q, GFP_KERNEL, 0))
		;
	memset(q->lru.shadows, 0, q->lru.nr_shadows * sizeof(struct shadow));
	drain_all_pages(q);
	take_memory_away(q, t->distinct / part);
	*most = 0;
	for (u32 i = 0; i < t->uses; i++) {
		u64 addr = (u64)base + ((u64)t->page[i] << PAGE_SHIFT), v;
		pte_t *slot = pte_lookup(mm, addr);

		misses += !slot || !pte_present(pte_read(slot));
		if (sim_load(cpu, addr, 8, &v))
			failed++;
		*most = MAX(*most, cached(q));
	}
	sim_cpu_switch_mm(cpu, NULL);
	sim_machine_free(q);
	return misses;
}

static double aim_of(const struct reclaim_policy *p)
{
	return p == &policy_second_chance ? 1.15 : !strcmp(p->name, "generations") ? 1.10 : 0;
}

static void bench_trace(const struct trace *t, u32 part)
{
	for (unsigned i = 0; reclaim_policy_nth(i); i++) {
		const struct reclaim_policy *p = reclaim_policy_nth(i);
		u64 room;
		u32 misses = run_policy(t, p, part, &room), lru = misses_of(t, (u32)room, false), opt = misses_of(t, (u32)room, true);
		double ratio = (double)misses / lru;

		printf("%-10s %-14s %7u uses %6lu pages of %6u   misses %6u  LRU %6u  OPT %6u  ratio to LRU %5.3f", t->name, p->name, t->uses,
		       (unsigned long)room, t->distinct, misses, lru, opt, ratio);
		if (aim_of(p) > 0)
			printf("  aim %.2f%s", aim_of(p), ratio > aim_of(p) ? " *" : "");
		printf("\n");
		fflush(stdout);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void bench_traces(int argc, char **argv)
{
	struct trace *t = malloc(sizeof(*t));
	DIR *d = opendir(TRACES);
	char *names[64];
	int n = 0;

	if (!d) {
		fprintf(stderr, "reclaim_bench: no %s\n", TRACES);
		failed++;
		return;
	}
	for (struct dirent *e; (e = readdir(d)) && n < 64;)
		if (strstr(e->d_name, ".trace"))
			names[n++] = strdup(e->d_name);
	closedir(d);
	qsort(names, (size_t)n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		bool wanted = argc < 2;

		for (int k = 1; k < argc; k++)
			wanted |= !strncmp(names[i], argv[k], strlen(argv[k]));
		if (wanted && trace_read(t, names[i])) {
			for (int part = 0; part < 2; part++)
				bench_trace(t, part ? 10 : 3);
		}
		free(names[i]);
	}
	free(t);
}

/* ---- what finding a page costs ---- */

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

/* Reclaims and uses pages at random until so many were reclaimed; returns the time that reclaim took. */
static u64 reclaim_and_use(struct quire *q, struct sim_cpu *cpu, u64 base, u64 pages, u64 target)
{
	u64 goal = q->vm_events[PGSTEAL_DIRECT] + target, spent = 0, rnd = 1, start, v;

	while (q->vm_events[PGSTEAL_DIRECT] < goal) {
		start = now_ns();
		if (!try_to_free_pages(q, GFP_KERNEL, 0))
			failed++;
		spent += now_ns() - start;
		for (int i = 0; i < 8; i++) {
			rnd = rnd * 6364136223846793005ull + 1442695040888963407ull;
			failed += sim_load(cpu, base + ((rnd >> 33) % pages << PAGE_SHIFT), 8, &v) != 0;
		}
	}
	return spent;
}

/* A machine nine tenths full of pages of a file, or of anonymous ones, all used.  Returns where they are mapped. */
static u64 fill_machine(struct quire *q, struct sim_cpu *cpu, struct mm_struct *mm, u64 pages, bool anon)
{
	struct file *f = anon ? NULL : sim_file_create(q, "/big", NULL, pages << PAGE_SHIFT);
	u32 flags = anon ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
	long base = do_mmap(mm, f, 0, pages << PAGE_SHIFT, anon ? PROT_READ | PROT_WRITE : PROT_READ, flags, 0);
	struct fault_info info;
	u64 v;

	/* Anonymous pages are faulted in, but not written: 8 GiB of zeroes cost the host nothing. */
	for (u64 i = 0; i < pages; i += anon ? 1 : 64) {
		u64 addr = (u64)base + (i << PAGE_SHIFT);

		if (anon)
			failed += do_mem_abort(mm, addr, esr_make(ESR_EC_DABT_LOW, true, FSC_TRANSLATION + 3), &info) != FAULT_OK;
		else
			failed += sim_load(cpu, addr, 8, &v) != 0;
	}
	return (u64)base;
}

/* A quarter of the pages is reclaimed, and then another, with some use in between.  Scanned per reclaimed page of the second
 * quarter; *first of the first, which has to find out that all is in use. */
static double scan_cost(u64 memory, const struct reclaim_policy *policy, bool anon, double *first, double *ns)
{
	struct sim_config cfg = { .memory = memory, .host_files = true, .policy = policy, .overcommit_memory = 1 };
	struct quire *q = sim_machine_new(&cfg);
	u64 pages = memory / PAGE_SIZE / 10 * 9, scanned, stolen, spent, base;
	struct mm_struct *mm;
	struct sim_cpu *cpu = start_program(q, &mm);

	failed += anon && swapon_compressed(q, "/dev/zram0", pages, SWAP_PRIO_DEFAULT);
	base = fill_machine(q, cpu, mm, pages, anon);
	scanned = q->vm_events[PGSCAN_DIRECT];
	stolen = q->vm_events[PGSTEAL_DIRECT];
	reclaim_and_use(q, cpu, base, pages, pages / 4);
	*first = (double)(q->vm_events[PGSCAN_DIRECT] - scanned) / (double)(q->vm_events[PGSTEAL_DIRECT] - stolen);
	scanned = q->vm_events[PGSCAN_DIRECT];
	stolen = q->vm_events[PGSTEAL_DIRECT];
	spent = reclaim_and_use(q, cpu, base, pages, pages / 4);
	scanned = q->vm_events[PGSCAN_DIRECT] - scanned;
	stolen = q->vm_events[PGSTEAL_DIRECT] - stolen;
	*ns = (double)spent / (double)stolen;
	sim_cpu_switch_mm(cpu, NULL);
	sim_machine_free(q);
	return (double)scanned / (double)stolen;
}

/* Anonymous pages are of zeroes and go to swap as such: what remains is the search, unmapping, and the slots. */
static void bench_scan(const struct reclaim_policy *policy, bool anon)
{
	static const u64 sizes[] = { 64, 512, 2048, 8192 };
	double least = 0;

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s += anon ? 3 : 1) {
		double ns, first, cost = scan_cost(sizes[s] * MIB, policy, anon, &first, &ns);

		least = s ? least : cost;
		printf("scan %s  %-14s %5lu MiB  %6.2f scanned (%5.2f at first), %7.0f ns per reclaimed page  ratio to 64 MiB %5.2f  aim 1.25%s\n",
		       anon ? "anon" : "file", policy->name, (unsigned long)sizes[s], cost, first, ns, cost / least,
		       cost / least > 1.25 ? " *" : "");
		fflush(stdout);
	}
}

static void bench_scan_cost(void)
{
	for (unsigned i = 0; reclaim_policy_nth(i); i++)
		for (int anon = 0; anon < 2; anon++)
			bench_scan(reclaim_policy_nth(i), anon);
}

int main(int argc, char **argv)
{
	bench_traces(argc, argv);
	if (argc < 2 || !strcmp(argv[1], "scan"))
		bench_scan_cost();
	return failed != 0;
}
