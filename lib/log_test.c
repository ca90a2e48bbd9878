/* The machine's log: stamps, the ring's wrap, readers that come late, and lines written inside transactions. */
#include <port/sim/sim.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <fmt.h>

static char text[QUIRE_DMESG_BYTES * 2];

static void test_stamp_and_levels(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct fmt_buf b = fmt_init(text, sizeof(text));
	unsigned long s, us;
	u64 pos = 0;

	sim_advance_clock(q, 12345678901ull);
	quire_log(q, 3, "value %d of %s", 42, "x");
	assert_true(quire_log_read(q, &pos, &b) >= 1);
	assert_non_null(strstr(text, "] value 42 of x\n"));
	assert_int_equal(sscanf(strstr(text, "] value") - 13, "[%5lu.%06lu]", &s, &us), 2);
	assert_int_equal(s, 12);
	assert_int_equal(quire_log_read(q, &pos, &b), 0);
	assert_non_null(strstr(sim_log_text(q), "value 42 of x\n"));
	sim_machine_free(q);
}

static void test_wrap_keeps_whole_lines(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct fmt_buf b = fmt_init(text, sizeof(text));
	unsigned first = ~0u, next = ~0u;
	u64 pos = 0;

	for (unsigned i = 0; i < 20000; i++)
		quire_log(q, 6, "line %u %.*s", i, (int)(i % 60), "............................................................");
	quire_log_read(q, &pos, &b);
	for (const char *s = text; *s; s = strchr(s, '\n') + 1) {
		unsigned n;

		assert_int_equal(s[0], '[');
		assert_int_equal(sscanf(strchr(s, ']') + 1, " line %u", &n), 1);
		if (first == ~0u)
			first = n;
		else
			assert_int_equal(n, next);
		next = n + 1;
	}
	assert_int_equal(next, 20000);
	assert_in_range(first, 1, 19000);
	assert_true(b.len > QUIRE_DMESG_BYTES * 97ul / 100 && b.len <= QUIRE_DMESG_BYTES);
	sim_machine_free(q);
}

/* A small buffer gets whole lines, and the rest on the next calls. */
static void test_reading_in_pieces(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct fmt_buf all = fmt_init(text, sizeof(text));
	static char joined[1 << 16];
	char piece[1200];
	u64 pos = 0, again = 0;
	size_t n = 0;

	for (int i = 0; i < 300; i++)
		quire_log(q, 6, "entry %d", i);
	quire_log_read(q, &pos, &all);
	for (;;) {
		struct fmt_buf b = fmt_init(piece, sizeof(piece));

		if (!quire_log_read(q, &again, &b))
			break;
		assert_false(fmt_truncated(&b));
		memcpy(joined + n, piece, b.len);
		n += b.len;
	}
	joined[n] = '\0';
	assert_string_equal(joined, text);
	sim_machine_free(q);
}

/* Inside a transaction the line is kept, and shown to the host when the next one outside comes. */
static void test_inside_a_transaction(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	char long_text[2000];

	sim_log_clear(q);
	spin_lock(&q->lock);
	quire_log(q, 4, "inside");
	spin_unlock(&q->lock);
	assert_null(strstr(sim_log_text(q), "inside"));
	quire_log(q, 4, "outside");
	assert_true(strstr(sim_log_text(q), "inside") < strstr(sim_log_text(q), "outside"));
	assert_non_null(strstr(sim_log_text(q), "inside"));
	/* Taking other locks after a line is allowed. */
	spin_lock(&q->tasks.lock);
	quire_log(q, 4, "under the table's lock");
	spin_lock(&q->lock);
	spin_unlock(&q->lock);
	spin_unlock(&q->tasks.lock);
	memset(long_text, 'z', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	quire_log(q, 4, "%s", long_text);
	quire_log(q, 4, "after the long one");
	assert_non_null(strstr(sim_log_text(q), "zzz\n"));
	assert_non_null(strstr(sim_log_text(q), "after the long one\n"));
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stamp_and_levels),
		cmocka_unit_test(test_wrap_keeps_whole_lines),
		cmocka_unit_test(test_reading_in_pieces),
		cmocka_unit_test(test_inside_a_transaction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
