/*
 * The simulated machine's body: RAM, frame records, configuration, capabilities, random numbers.
 *
 * RAM and the frame records are lazily backed host mappings, so a machine of 64 GiB costs what is touched.
 * This file refers to nothing of the core except sync/, so that tests of the upper floors link without the lower ones;
 * what needs the core is in boot.c.
 */
#include "mmu_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SIM_DEFAULT_MEMORY (64ull << 20)
#define SIM_JUNK_LIMIT (1ull << 30)
#define RAM_ALIGN (2ull << 20)

void sim_die(const char *what)
{
	perror(what);
	exit(99);
}

void *sim_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		sim_die("sim: mmap");
	return p;
}

void sim_unmap(void *p, size_t bytes)
{
	munmap(p, bytes);
}

void sim_rng_seed(struct sim_rng *r, u64 seed)
{
	__atomic_store_n(&r->state, seed, __ATOMIC_RELAXED);
}

u64 sim_rng_next(struct sim_rng *r)
{
	u64 z = __atomic_add_fetch(&r->state, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static void fill_defaults(struct sim_config *c)
{
	c->memory = c->memory ? ALIGN_UP(c->memory, PAGE_SIZE) : SIM_DEFAULT_MEMORY;
	c->nr_cpus = c->nr_cpus ? MIN(c->nr_cpus, (u32)QUIRE_MAX_CPUS) : 1;
	c->overcommit_ratio = c->overcommit_ratio ? c->overcommit_ratio : 50;
	c->max_map_count = c->max_map_count ? c->max_map_count : 65530;
	c->preempt_percent = c->preempt_percent ? c->preempt_percent : 20;
	c->asid_bits = c->asid_bits ? c->asid_bits : 16;
	c->hw_af |= c->hw_dbm; /* TCR_EL1.HD has no effect without HA (ARM DDI 0487, TCR_EL1) */
}

static void map_memory(struct sim_machine *m)
{
	m->ram_bytes = m->cfg.memory;
	m->ram_map_bytes = m->ram_bytes + RAM_ALIGN;
	m->ram_map = sim_map(m->ram_map_bytes);
	m->ram = (u8 *)ALIGN_UP((uintptr_t)m->ram_map, RAM_ALIGN);
	m->mem_map_bytes = ALIGN_UP(m->ram_bytes / PAGE_SIZE * sizeof(struct frame), PAGE_SIZE);
	m->mem_map = sim_map(m->mem_map_bytes);
	if (m->cfg.no_virgin_zero) {
		if (m->ram_bytes > SIM_JUNK_LIMIT)
			sim_die("sim: no_virgin_zero wants at most 1 GiB");
		memset(m->ram, 0xa7, m->ram_bytes);
	}
}

static void fill_quire_config(struct sim_machine *m)
{
	const struct sim_config *c = &m->cfg;

	m->qcfg = (struct quire_config){
		.memory = c->memory,
		.nr_cpus = c->nr_cpus,
		.seed = c->seed,
		.zones = c->zones,
		.direct_map = m->ram,
		.mem_map = m->mem_map,
		.overcommit_memory = c->overcommit_memory,
		.overcommit_ratio = c->overcommit_ratio,
		.folio_max_order = c->folio_max_order,
		.policy = c->policy,
		.max_map_count = c->max_map_count,
		.debug_poison = c->debug_poison,
		.debug_owner = c->debug_owner,
		.version = "sim",
	};
}

void sim_set_programs_run(struct quire *q, bool run)
{
	__atomic_store_n(&sim_of(q)->programs_run, run, __ATOMIC_RELAXED);
}

bool port_programs_run(const struct quire *q)
{
	return __atomic_load_n(&sim_of(q)->programs_run, __ATOMIC_RELAXED);
}

struct quire *sim_machine_new_raw(const struct sim_config *cfg)
{
	struct sim_machine *m = calloc(1, sizeof(*m));

	if (!m)
		sim_die("sim: calloc");
	m->cfg = cfg ? *cfg : (struct sim_config){ 0 };
	fill_defaults(&m->cfg);
	map_memory(m);
	fill_quire_config(m);
	m->q = sim_map(sizeof(*m->q));
	m->q->port_data = m;
	m->q->cfg = m->qcfg;
	m->q->caps = port_caps(m->q);
	m->q->lock.rank = LOCK_RANK_CORE;
	m->q->tasks.lock.rank = LOCK_RANK_TASKS;
	m->q->log_lock.rank = LOCK_RANK_LEAF;
	sim_rng_seed(&m->random, m->cfg.seed);
	sim_rng_seed(&m->coin, m->cfg.seed ^ 0xc01ull);
	pthread_mutex_init(&m->log.lock, NULL);
	pthread_mutex_init(&m->ctx_lock, NULL);
	pthread_mutex_init(&m->signal_lock, NULL);
	m->log.to_stderr = getenv("QUIRE_LOG") != NULL;
	sim_fail_none(m->q);
	sim_sched_init(m);
	sim_mmu_init(m);
	sim_thread_enter(m->q);
	return m->q;
}

const struct quire_config *sim_quire_config(struct quire *q)
{
	return &sim_of(q)->qcfg;
}

void sim_machine_free(struct quire *q)
{
	struct sim_machine *m = sim_of(q);

	sim_thread_enter(q);
	if (m->cfg.check_leaks && m->nothing_leaked && !m->panicked && !m->nothing_leaked(q))
		abort();
	sim_swap_free(m);
	if (m->free_disk)
		m->free_disk(m);
	sim_mmu_destroy(m);
	sim_ctx_end_all(m);
	sim_unmap(m->ram_map, m->ram_map_bytes);
	sim_unmap(m->mem_map, m->mem_map_bytes);
	sim_unmap(q, sizeof(*q));
	free(m->log.text);
	free(m);
}

u64 port_caps(const struct quire *q)
{
	const struct sim_config *c = &sim_of(q)->cfg;
	u64 caps = PORT_CAP_DIRECT_MAP | PORT_CAP_CONT;

	if (c->zones && c->zones->lowmem_end < c->memory)
		caps &= ~PORT_CAP_DIRECT_MAP;
	if (!c->no_virgin_zero)
		caps |= PORT_CAP_VIRGIN_ZERO;
	if (c->host_files)
		caps |= PORT_CAP_HOST_FILES;
	if (c->tbi0)
		caps |= PORT_CAP_TBI;
	if (c->hw_af)
		caps |= PORT_CAP_HW_AF;
	if (c->hw_dbm)
		caps |= PORT_CAP_HW_DBM;
	return caps;
}

u64 port_random(struct quire *q)
{
	return sim_rng_next(&sim_of(q)->random);
}

/* Asked by txn_should_break(): lets tests take every break in a long loop. */
bool port_break_hint(struct ctx *c);
bool port_break_hint(struct ctx *c)
{
	struct sim_machine *m = c->q ? sim_of(c->q) : NULL;

	return m && sim_rng_percent(&m->coin, m->cfg.break_percent);
}

void *port_frame_address(struct quire *q, pfn_t pfn)
{
	struct sim_machine *m = sim_of(q);
	u64 pa = (u64)pfn << PAGE_SHIFT;

	if (pa >= m->ram_bytes || (m->cfg.zones && pa >= m->cfg.zones->lowmem_end))
		return NULL;
	return m->ram + pa;
}

/* The current context's machine: the calls below have no other handle. */
static void about_to_overwrite(void *va, size_t n)
{
	struct sim_machine *m = sim_ctx_current() ? sim_ctx_current()->m : NULL;

	if (m && m->cfg.check_reuse)
		sim_check_reuse(m->q, va, n);
}

#define KERNEL_HALF 0xffff000000000000ull

/* Where a page that the kernel touches really lies.  An address of the kernel half (kmap, vmalloc) goes through the kernel's
 * tables, as at EL1, and must be mapped; all others are of the direct map. */
static u8 *kernel_page(void *va, u8 perm)
{
	struct sim_machine *m;
	struct sim_walk w;

	if ((u64)(uintptr_t)va < KERNEL_HALF)
		return va;
	m = sim_ctx_current()->m;
	sim_walk_table(m->q, m->q->kmem.kernel_pgd, (u64)(uintptr_t)va, &w);
	if (w.fsc != SIM_FSC_NONE || !(w.perms & perm))
		port_panic(m->q, "the kernel touches an address that is not mapped for it");
	return m->ram + w.pa + ((u64)(uintptr_t)va & (BIT(w.shift) - 1));
}

void port_clear_pages(void *va, size_t n)
{
	size_t i;

	for (i = 0; (u64)(uintptr_t)va >= KERNEL_HALF && i < n; i++) {
		u8 *page = kernel_page((u8 *)va + i * PAGE_SIZE, SIM_PERM_KW);

		about_to_overwrite(page, 1);
		memset(page, 0, PAGE_SIZE);
	}
	if (i)
		return;
	about_to_overwrite(va, n);
	memset(va, 0, n * PAGE_SIZE);
}

void port_copy_pages(void *dst, const void *src, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		u8 *to = kernel_page((u8 *)dst + i * PAGE_SIZE, SIM_PERM_KW);

		about_to_overwrite(to, 1);
		memcpy(to, kernel_page((u8 *)(uintptr_t)src + i * PAGE_SIZE, SIM_PERM_KR), PAGE_SIZE);
	}
}
