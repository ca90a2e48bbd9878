/* fmt_printf against the C library's snprintf: random formats, values and buffer sizes from a seed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <fmt.h>

static u64 rng;

static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

static u64 start_seed(void)
{
	const char *s = getenv("QUIRE_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : (u64)time(NULL);

	print_message("QUIRE_SEED=%" PRIu64 "\n", seed);
	rng = seed * 2 + 1;
	return seed;
}

/* A value that is small, large or at an edge. */
static u64 rnd_value(void)
{
	static const u64 edges[] = { 0, 1, 9, 10, ~0ull, 1ull << 63, (1ull << 63) - 1, 0x80000000u, 0x7fffffff, 255, 128, 65535 };
	u64 r = rnd();

	return r & 1 ? edges[(r >> 8) % ARRAY_SIZE(edges)] : rnd() >> ((r >> 8) & 63);
}

static void make_spec(char *out, const char *len, char conv)
{
	char *p = out;
	u64 r = rnd();

	*p++ = '%';
	/* '0' and '#' with s or c, and ' ' with u, are undefined or ignored with a warning: leave them out. */
	if (r & 1)
		*p++ = '-';
	if ((r & 2) && conv != 's' && conv != 'c')
		*p++ = '0';
	if ((r & 4) && conv == 'd')
		*p++ = '+';
	if ((r & 8) && conv == 'd')
		*p++ = ' ';
	if ((r & 16) && strchr("xXo", conv))
		*p++ = '#';
	if (r & 32)
		p += sprintf(p, "%u", (unsigned)(r >> 20) % 30);
	if ((r & 64) && conv != 'c')
		p += sprintf(p, ".%u", (unsigned)(r >> 32) % 26);
	sprintf(p, "%s%c", len, conv);
}

static void check(const char *fmt, const char *want, int want_len, const char *got, const struct fmt_buf *b, size_t size)
{
	if ((int)b->len != want_len || (size && strcmp(want, got)))
		fail_msg("format '%s' size %zu: want %d '%s', got %zu '%s'", fmt, size, want_len, want, b->len, got);
	assert_int_equal(fmt_truncated(b), (size_t)want_len >= size);
	if (size)
		assert_int_equal(fmt_stored(b), strlen(got));
}

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
#define BOTH(...) do { \
	struct fmt_buf b = fmt_init(got, size); \
	int n = snprintf(want, size, __VA_ARGS__); \
	fmt_printf(&b, __VA_ARGS__); \
	check(fmt, want, n, got, &b, size); \
} while (0)

static void test_random_numbers(void **state)
{
	static const char convs[] = "diuxXo";
	char fmt[64], spec[40], want[200], got[200];

	start_seed();
	for (int i = 0; i < 200000; i++) {
		char c = convs[rnd() % 6];
		size_t size = rnd() % 4 ? sizeof(got) : rnd() % 20;
		u64 v = rnd_value();
		static const char *lens[] = { "hh", "h", "", "l", "ll", "z" };
		unsigned l = rnd() % 6;

		make_spec(spec, lens[l], c == 'i' ? 'd' : c);
		snprintf(fmt, sizeof(fmt), "<%s>%%%%", spec);
		got[0] = want[0] = '\0';
		switch (l) {
		case 0: case 1: case 2: BOTH(fmt, (int)v); break;
		case 3: BOTH(fmt, (long)v); break;
		case 4: BOTH(fmt, (long long)v); break;
		default: BOTH(fmt, (size_t)v); break;
		}
	}
}

static void test_random_texts(void **state)
{
	static const char *texts[] = { "", "a", "hello", "a rather long text that does not fit everywhere", NULL };
	char fmt[64], spec[40], want[200], got[200];

	start_seed();
	for (int i = 0; i < 50000; i++) {
		const char *t = texts[rnd() % 5];
		size_t size = rnd() % 4 ? sizeof(got) : rnd() % 20;

		got[0] = want[0] = '\0';
		make_spec(spec, "", i & 1 ? 's' : 'c');
		snprintf(fmt, sizeof(fmt), "x%sy", spec);
		if (i & 1)
			BOTH(fmt, t);
		else
			BOTH(fmt, (int)('a' + i % 26));
	}
}

static void test_stars_pointers_unknown(void **state)
{
	char want[200], got[200];
	size_t size = sizeof(got);
	const char *fmt = "stars";

	BOTH("[%*d] [%-*d] [%.*d] [%*.*s]", 7, 42, 7, 42, 5, 42, -9, 2, "abcdef");
	BOTH("[%.*d] [%*s]", -3, 17, 4, "x");
	BOTH("%p %p %20p %-20p|", (void *)0, (void *)0x1234, (void *)0xdeadbeef, (void *)0);
	struct fmt_buf b = fmt_init(got, size);

	static const char odd[] = "%q %5y %";
	const char *volatile hide = odd;
	fmt_printf(&b, hide);
	assert_string_equal(got, "%q %5y %");
}

static void test_fixed_and_padding(void **state)
{
	char got[64];
	struct fmt_buf b = fmt_init(got, sizeof(got));

	fmt_fixed(&b, 1234, 2);
	fmt_putc(&b, ' ');
	fmt_fixed(&b, -5, 3);
	fmt_putc(&b, ' ');
	fmt_fixed(&b, 7, 0);
	assert_string_equal(got, "12.34 -0.005 7");
	b = fmt_init(got, sizeof(got));
	fmt_putc(&b, 'a');
	fmt_pad_to(&b, 0, 5, '.');
	fmt_pad_to(&b, 0, 3, '.');
	assert_string_equal(got, "a....");
}

static void test_sizing_without_buffer(void **state)
{
	struct fmt_buf b = fmt_init(NULL, 0);

	fmt_printf(&b, "%s %d", "hello", 12345);
	assert_int_equal(b.len, 11);
	assert_true(fmt_truncated(&b));
	assert_int_equal(fmt_stored(&b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_numbers),
		cmocka_unit_test(test_random_texts),
		cmocka_unit_test(test_stars_pointers_unknown),
		cmocka_unit_test(test_fixed_and_padding),
		cmocka_unit_test(test_sizing_without_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
