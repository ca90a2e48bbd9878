/*
 * The conformance suite on the sim port, in all its modes, with and without the core's fault handler behind the MMU; and
 * its negative control: a port that drops flushes must fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "conformance.h"
#include <port/sim/mmu.h>
#include <stdio.h>

struct sim_under_test {
	struct port_under_test p;
	bool quiet;
};

static int access_sim(struct port_under_test *p, unsigned n, struct mm_struct *mm, u64 va, bool write, u64 *val)
{
	struct sim_cpu *cpu = sim_cpu_get(p->q, n);

	if (__atomic_load_n(&cpu->mm, __ATOMIC_RELAXED) != mm)
		sim_cpu_switch_mm(cpu, mm);
	return write ? sim_store(cpu, va, 8, *val) : sim_load(cpu, va, 8, val);
}

static u64 aborts_sim(struct port_under_test *p)
{
	return sim_stats(p->q).exceptions;
}

struct run_job {
	struct port_under_test *p;
	void (*fn)(struct port_under_test *p, unsigned i, void *arg);
	void *arg;
};

static void run_one(struct quire *q, unsigned i, void *arg)
{
	struct run_job *j = arg;

	(void)q;
	j->fn(j->p, i, j->arg);
}

static void run_sim_threads(struct port_under_test *p, unsigned n,
			    void (*fn)(struct port_under_test *p, unsigned i, void *arg), void *arg)
{
	struct run_job j = { p, fn, arg };

	sim_run(p->q, n, run_one, &j);
}

static void pin_sim(struct port_under_test *p, struct mm_struct *mm, u64 start, u64 end)
{
	sim_pin_range(mm, start, end);
}

static void unpin_sim(struct port_under_test *p, struct mm_struct *mm, u64 start, u64 end)
{
	sim_unpin_range(mm, start, end);
}

static void report_sim(struct port_under_test *p, const char *check, int line, const char *what)
{
	if (!container_of(p, struct sim_under_test, p)->quiet)
		fprintf(stderr, "%s: line %d: %s\n", check, line, what);
}

static enum fault_result refuse(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info)
{
	return FAULT_SIGNAL;
}

/* with_core: do_mem_abort resolves what it can; else every abort fails the access. */
static u32 run_suite(struct sim_config cfg, bool with_core, bool ignore_flushes)
{
	struct sim_under_test t = { .quiet = ignore_flushes };
	u32 failed;

	cfg.memory = cfg.memory ? cfg.memory : 64 << 20;
	cfg.nr_cpus = 3;
	cfg.check_leaks = !ignore_flushes;
	t.p = (struct port_under_test){
		.q = sim_machine_new(&cfg),
		.nr_cpus = 3,
		.access = access_sim,
		.aborts = aborts_sim,
		.run = run_sim_threads,
		.pin = pin_sim,
		.unpin = unpin_sim,
		.report = report_sim,
	};
	if (!with_core)
		sim_set_abort_handler(t.p.q, refuse);
	sim_ignore_flushes(t.p.q, ignore_flushes);
	failed = conformance_run(&t.p);
	if (!ignore_flushes && !failed)
		assert_int_equal(sim_tlb_check(t.p.q), 0);
	sim_machine_free(t.p.q);
	return failed;
}

static void every_mode_conforms(void **state)
{
	enum sim_tlb_mode mode;
	enum sim_sched sched;
	unsigned core;

	for (mode = SIM_TLB_NORMAL; mode <= SIM_TLB_HOSTED; mode++)
		for (sched = SIM_SCHED_THREADS; sched <= SIM_SCHED_ONE; sched++)
			for (core = 0; core < 2; core++)
				assert_int_equal(run_suite((struct sim_config){ .tlb = mode,
										.sched = sched,
										.seed = mode + core,
										.check_law1 = true,
										.check_reuse = true },
							   core, false), 0);
}

static void hardware_flags_conform(void **state)
{
	assert_int_equal(run_suite((struct sim_config){ .hw_af = true }, true, false), 0);
	assert_int_equal(run_suite((struct sim_config){ .hw_dbm = true }, true, false), 0);
	assert_int_equal(run_suite((struct sim_config){ .hw_dbm = true }, false, false), 0);
}

static void other_machines_conform(void **state)
{
	assert_int_equal(run_suite((struct sim_config){ .no_virgin_zero = true }, true, false), 0);
	assert_int_equal(run_suite((struct sim_config){ .asid_bits = 3 }, true, false), 0);
	assert_int_equal(run_suite((struct sim_config){ .host_files = true, .tlb = SIM_TLB_HOSTED }, true, false), 0);
	assert_int_equal(run_suite((struct sim_config){ .memory = 2ull << 30, .zones = &zone_layout_32 }, true, false), 0);
	assert_int_equal(run_suite((struct sim_config){ .break_percent = 30, .sched = SIM_SCHED_ONE }, true, false), 0);
}

static void dropped_flushes_do_not(void **state)
{
	enum sim_tlb_mode mode;

	for (mode = SIM_TLB_NORMAL; mode <= SIM_TLB_HOSTED; mode++)
		assert_int_not_equal(run_suite((struct sim_config){ .tlb = mode, .sched = SIM_SCHED_ONE }, true, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mode_conforms),
		cmocka_unit_test(hardware_flags_conform),
		cmocka_unit_test(other_machines_conform),
		cmocka_unit_test(dropped_flushes_do_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
