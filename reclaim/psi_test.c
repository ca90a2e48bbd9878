/*
 * Pressure stall information: totals of overlapping waits, averages beside Linux's formula in floating point, deaths, the
 * text, and that real reclaim counts.
 */
#include "../task/memfile_test.h"
#include <file/filemap.h>
#include <proc/proc.h>
#include "reclaim.h"

#define MS 1000000ull

static u64 some(struct quire *q)
{
	struct psi_view v;

	psi_read(q, &v);
	return v.total[PSI_MEM_SOME];
}

static u64 full(struct quire *q)
{
	struct psi_view v;

	psi_read(q, &v);
	return v.total[PSI_MEM_FULL];
}

static void test_totals(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	bool outer, inner;

	sim_advance_clock(q, 500 * MS);
	assert_true(some(q) < MS);
	outer = psi_memstall_enter(q);
	inner = psi_memstall_enter(q);
	assert_true(outer && !inner);
	sim_advance_clock(q, 100 * MS);
	psi_memstall_leave(q, inner);
	sim_advance_clock(q, 100 * MS); /* still: the outer one waits */
	psi_memstall_leave(q, outer);
	sim_advance_clock(q, 100 * MS);
	assert_in_range(some(q), 200 * MS, 201 * MS);
	assert_in_range(full(q), 200 * MS, 201 * MS);

	/* While a program runs somebody waits, but not everybody. */
	sim_set_programs_run(q, true);
	outer = psi_memstall_enter(q);
	sim_advance_clock(q, 300 * MS);
	psi_memstall_leave(q, outer);
	assert_in_range(some(q), 500 * MS, 501 * MS);
	assert_in_range(full(q), 200 * MS, 201 * MS);
	sim_machine_free(q);
}

/* Two at once count once; one that dies waits no longer. */
static void test_two_and_a_death(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct ctx other = { .q = q };
	bool mine = psi_memstall_enter(q);

	other.memstall = 1; /* as it would have left it */
	q->psi.nr_stalled++;
	sim_advance_clock(q, 100 * MS);
	psi_memstall_leave(q, mine);
	sim_advance_clock(q, 100 * MS);
	assert_in_range(some(q), 200 * MS, 201 * MS);
	psi_abandon(q, &other);
	psi_abandon(q, &other);
	assert_int_equal(q->psi.nr_stalled, 0);
	sim_advance_clock(q, 100 * MS);
	assert_in_range(some(q), 200 * MS, 201 * MS);
	sim_machine_free(q);
}

static void expect_averages(struct quire *q, const double *want)
{
	struct psi_view v;

	psi_read(q, &v);
	for (int a = 0; a < NR_PSI_AVGS; a++) {
		double off = v.avg[PSI_MEM_SOME][a] / 100.0 - want[a];

		assert_true(off < 0.7 && off > -0.7);
	}
}

/* A quarter of each period is waited through, then nothing: the averages rise to 25 % and decay. */
static void test_averages(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	static const double keep[NR_PSI_AVGS] = { 0.818731, 0.967216, 0.993356 }; /* exp(-2 / 10), exp(-2 / 60), exp(-2 / 300) */
	double want[NR_PSI_AVGS] = { 0 };
	struct fmt_buf b;
	char text[300];

	psi_memstall_leave(q, psi_memstall_enter(q));
	for (int period = 0; period < 200; period++) {
		bool in = psi_memstall_enter(q);
		double share = period < 100 ? 25 : 0;

		sim_advance_clock(q, period < 100 ? 500 * MS : 0);
		psi_memstall_leave(q, in);
		sim_advance_clock(q, period < 100 ? 1500 * MS : 2000 * MS);
		for (int a = 0; a < NR_PSI_AVGS; a++)
			want[a] = want[a] * keep[a] + share * (1 - keep[a]);
		expect_averages(q, want);
		if (period == 99) {
			b = fmt_init(text, sizeof(text));
			proc_pressure_memory(q, &b);
			assert_memory_equal(text, "some avg10=25.0", 15);
			assert_non_null(strstr(text, " avg60=24."));
			assert_non_null(strstr(text, "\nfull avg10=25.0"));
			assert_non_null(strstr(text, " total=5000"));
		}
	}
	/* A long time without anything in one step, as after an idle hour. */
	sim_advance_clock(q, 3600000 * MS);
	for (int a = 0; a < NR_PSI_AVGS; a++)
		want[a] = 0;
	expect_averages(q, want);
	sim_machine_free(q);
}

static void test_reclaim_counts(void **state)
{
	struct sim_config cfg = { .memory = 16 << 20, .real_clock = true };
	struct quire *q = sim_machine_new(&cfg);
	struct file *f = memfile_new(q, 1, "/data", calloc(1, 4 << 20), 4 << 20);
	u64 buf[512];

	for (u64 at = 0; at < 4 << 20; at += PAGE_SIZE)
		assert_int_equal(filemap_read(f->mapping, at, buf, PAGE_SIZE), PAGE_SIZE);
	assert_int_equal(some(q), 0);
	assert_true(try_to_free_pages(q, GFP_KERNEL, 0) > 0);
	assert_true(some(q) > 0);
	assert_int_equal(q->psi.nr_stalled, 0);
	file_put(f);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_totals),
		cmocka_unit_test(test_two_and_a_death),
		cmocka_unit_test(test_averages),
		cmocka_unit_test(test_reclaim_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
