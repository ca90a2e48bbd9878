/*
 * kmalloc + kfree beside glibc malloc, mimalloc and jemalloc, in the same run; vmalloc; overhead of the metadata.
 *
 * Patterns, each over batches of live objects:
 *	lifo      allocate one, free it
 *	fifo      allocate BATCH, free them in the same order
 *	random    allocate BATCH, free them in a random order
 *	remote    one thread allocates BATCH, another frees them; turns are taken, only the work is timed
 * Every figure is the median of ROUNDS rounds, in ns for one pair; the ratio is to the best of the others.
 *
 * The other allocators are opened with dlopen(RTLD_LOCAL), so that none of them replaces malloc in this program; those
 * that are not installed are left out and said to be.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <port/sim/sim.h>
#include <quire/vmalloc.h>
#include "timing.h"

#define ROUNDS 31
#define BATCH 4096u
#define PAIRS (BATCH * 8)

enum pattern { LIFO, FIFO, RANDOM, REMOTE, NR_PATTERNS };
static const char *const pattern_name[NR_PATTERNS] = {"lifo", "fifo", "random", "remote"};

static struct quire *q;
static void *obj[BATCH];
static unsigned order[BATCH];

/* An allocator under test.  Both call through pointers, so nobody is inlined. */
struct peer {
	const char *name;
	void *(*alloc)(size_t size);
	void (*free)(void *p);
};

static void *quire_alloc(size_t size)
{
	return kmalloc(q, size, GFP_KERNEL);
}

static void quire_free(void *p)
{
	kfree(q, p);
}

/* The first word is touched, as any user would. */
static inline void touch(void *p)
{
	*(volatile char *)p = 1;
}

static void alloc_batch(const struct peer *a, size_t size)
{
	unsigned i;

	for (i = 0; i < BATCH; i++) {
		obj[i] = a->alloc(size);
		touch(obj[i]);
	}
}

static void free_batch(const struct peer *a)
{
	unsigned i;

	for (i = 0; i < BATCH; i++)
		a->free(obj[order[i]]);
}

static double time_lifo(const struct peer *a, size_t size)
{
	double t = cpu_ns();
	unsigned i;

	for (i = 0; i < PAIRS; i++) {
		void *p = a->alloc(size);

		touch(p);
		a->free(p);
	}
	return (cpu_ns() - t) / PAIRS;
}

static double time_batches(const struct peer *a, size_t size)
{
	double t = cpu_ns();
	unsigned i;

	for (i = 0; i < PAIRS / BATCH; i++) {
		alloc_batch(a, size);
		free_batch(a);
	}
	return (cpu_ns() - t) / PAIRS;
}

struct remote {
	const struct peer *a;
	pthread_barrier_t turn;
	double spent;
};

static void *remote_free(void *arg)
{
	struct remote *r = arg;
	unsigned i;

	sim_thread_enter(q);
	for (i = 0; i < PAIRS / BATCH; i++) {
		double t;

		pthread_barrier_wait(&r->turn);
		t = cpu_ns();
		free_batch(r->a);
		r->spent += cpu_ns() - t;
		pthread_barrier_wait(&r->turn);
	}
	sim_thread_leave();
	return NULL;
}

static double time_remote(const struct peer *a, size_t size)
{
	struct remote r = {.a = a};
	double spent = 0;
	pthread_t thread;
	unsigned i;

	pthread_barrier_init(&r.turn, NULL, 2);
	pthread_create(&thread, NULL, remote_free, &r);
	for (i = 0; i < PAIRS / BATCH; i++) {
		double t = cpu_ns();

		alloc_batch(a, size);
		spent += cpu_ns() - t;
		pthread_barrier_wait(&r.turn);
		pthread_barrier_wait(&r.turn);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&r.turn);
	return (spent + r.spent) / PAIRS;
}

static void set_order(enum pattern p)
{
	u64 seed = 12345;
	unsigned i;

	for (i = 0; i < BATCH; i++)
		order[i] = i;
	for (i = BATCH - 1; p == RANDOM && i > 0; i--) {
		unsigned j, t;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		j = (unsigned)(seed >> 33) % (i + 1);
		t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
}

static double time_pattern(const struct peer *a, enum pattern p, size_t size)
{
	return p == LIFO ? time_lifo(a, size) : p == REMOTE ? time_remote(a, size) : time_batches(a, size);
}

/* Rounds of all allocators are interleaved, so that a noisy moment hits them alike. */
static void compare(const struct peer *peers, unsigned n, enum pattern p, size_t size)
{
	double t[4][ROUNDS], m[4], best = 1e9;
	unsigned i, r;

	set_order(p);
	for (r = 0; r < ROUNDS; r++)
		for (i = 0; i < n; i++)
			t[i][r] = time_pattern(&peers[i], p, size);
	printf("%-7s %5zu B", pattern_name[p], size);
	for (i = 0; i < n; i++) {
		m[i] = median(t[i], ROUNDS);
		printf("  %s %7.1f", peers[i].name, m[i]);
		best = i && m[i] < best ? m[i] : best;
	}
	printf("  ratio to best %.2f\n", m[0] / best);
}

static unsigned open_peer(struct peer *p, const char *lib, const char *name, const char *alloc, const char *release)
{
	void *h = dlopen(lib, RTLD_NOW | RTLD_LOCAL);

	if (!h) {
		printf("%s is not installed (%s)\n", name, dlerror());
		return 0;
	}
	p->name = name;
	*(void **)&p->alloc = dlsym(h, alloc);
	*(void **)&p->free = dlsym(h, release);
	return p->alloc && p->free;
}

static void bench_kmalloc(void)
{
	static const size_t size[] = {8, 64, 512, 4096};
	struct peer peers[4] = {{"quire", quire_alloc, quire_free}, {"glibc", malloc, free}};
	unsigned n = 2, s;
	int p;

	n += open_peer(&peers[n], "libmimalloc.so.2", "mimalloc", "mi_malloc", "mi_free");
	n += open_peer(&peers[n], "libjemalloc.so.2", "jemalloc", "malloc", "free");
	printf("kmalloc + kfree, ns a pair, median of %d\n", ROUNDS);
	for (p = LIFO; p < NR_PATTERNS; p++)
		for (s = 0; s < ARRAY_SIZE(size); s++)
			compare(peers, n, (enum pattern)p, size[s]);
}

/* A lock pair is the primitive that everything else is made of. */
static double lock_pair(void)
{
	double t[ROUNDS];
	unsigned r, i;

	for (r = 0; r < ROUNDS; r++) {
		double t0 = cpu_ns();

		for (i = 0; i < PAIRS; i++) {
			spin_lock(&q->lock);
			spin_unlock(&q->lock);
		}
		t[r] = (cpu_ns() - t0) / PAIRS;
	}
	return median(t, ROUNDS);
}

static void bench_vmalloc(void)
{
	enum { PAGES = 256, LOOPS = 64 };
	double t[ROUNDS], b[ROUNDS], vm, bulk;
	static struct frame *f[PAGES];
	unsigned r, i;

	for (r = 0; r < ROUNDS; r++) {
		double t0 = cpu_ns();

		for (i = 0; i < LOOPS; i++)
			vfree(q, vmalloc(q, PAGES * PAGE_SIZE));
		t[r] = (cpu_ns() - t0) / LOOPS;
		t0 = cpu_ns();
		for (i = 0; i < LOOPS; i++) {
			alloc_pages_bulk(q, GFP_KERNEL, PAGES, f);
			free_pages_bulk(q, PAGES, f);
		}
		b[r] = (cpu_ns() - t0) / LOOPS;
	}
	vm = median(t, ROUNDS);
	bulk = median(b, ROUNDS);
	printf("vmalloc(1 MiB) + vfree %.0f ns; the same frames by alloc_pages_bulk %.0f ns; ratio %.2f\n", vm, bulk,
	       vm / bulk);
}

/* Bytes of slabs that are no object's, and frame records, as parts of what they serve. */
static void overhead(void)
{
	static const size_t size[] = {8, 64, 96, 192, 512, 4096, 8192};
	static void *p[20000];
	unsigned s, i;

	printf("frame records: %.2f %% of RAM\n", 100.0 * sizeof(struct frame) / PAGE_SIZE);
	q = sim_machine_new(
		&(struct sim_config){.memory = 1ull << 30}); /* without the magazines that earlier runs left */
	for (s = 0; s < ARRAY_SIZE(size); s++) {
		u64 before, pages;

		before = q->kmem.nr_slab_pages[0];
		for (i = 0; i < 20000; i++)
			p[i] = kmalloc(q, size[s], GFP_KERNEL);
		pages = q->kmem.nr_slab_pages[0] - before;
		printf("20000 objects of %4zu B: slab overhead %.2f %%\n", size[s],
		       100.0 * ((double)(pages << PAGE_SHIFT) / (20000.0 * (double)size[s]) - 1));
		for (i = 0; i < 20000; i++)
			kfree(q, p[i]);
	}
	sim_machine_free(q);
}

/* jemalloc wants more static TLS than glibc keeps for libraries opened late; the tunable is read at program start
 * only. */
static void reexec_with_tls(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384", 1);
	execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
	reexec_with_tls(argv);
	q = sim_machine_new(&(struct sim_config){.memory = 1ull << 30, .nr_cpus = 2, .real_clock = true});
	sim_fail_nth(q, 0, 0); /* nobody injects or counts failures here */
	bench_kmalloc();
	printf("lock pair %.1f ns\n", lock_pair());
	bench_vmalloc();
	sim_machine_free(q);
	overhead();
	return 0;
}
