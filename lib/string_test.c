/* The freestanding memory and string functions, under other names, against the C library's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#undef QUIRE_UNIT
#define memcpy q_memcpy
#define memmove q_memmove
#define memset q_memset
#define memcmp q_memcmp
#define strlen q_strlen
#define strcmp q_strcmp
#define strncmp q_strncmp
#include "string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
#undef strcmp
#undef strncmp
#include <string.h>

static int sign(int v)
{
	return (v > 0) - (v < 0);
}

static u8 a[600], b[600], c[600];

static void fill(unsigned seed)
{
	srand(seed);
	for (size_t i = 0; i < sizeof(a); i++)
		a[i] = b[i] = (u8)(rand() % 5);
}

static void test_copies_and_moves(void **state)
{
	for (unsigned i = 0; i < 20000; i++) {
		size_t from, to, n;

		fill(i);
		from = (size_t)rand() % 200;
		to = (size_t)rand() % 200;
		n = (size_t)rand() % 300;
		memmove(a + to, a + from, n);
		assert_ptr_equal(q_memmove(b + to, b + from, n), b + to);
		assert_memory_equal(a, b, sizeof(a));
		memcpy(a + to, c + from, n);
		assert_ptr_equal(q_memcpy(b + to, c + from, n), b + to);
		assert_memory_equal(a, b, sizeof(a));
		memset(a + to, (int)i, n);
		assert_ptr_equal(q_memset(b + to, (int)i, n), b + to);
		assert_memory_equal(a, b, sizeof(a));
	}
}

static void test_comparisons(void **state)
{
	for (unsigned i = 0; i < 20000; i++) {
		size_t n, at;

		fill(i);
		n = (size_t)rand() % 40;
		at = (size_t)rand() % 40;
		if (i & 1)
			b[at] ^= (u8)rand();
		a[60] = b[60] = 0;
		assert_int_equal(sign(q_memcmp(a, b, n)), sign(memcmp(a, b, n)));
		assert_int_equal(sign(q_strncmp((char *)a, (char *)b, n)), sign(strncmp((char *)a, (char *)b, n)));
		assert_int_equal(sign(q_strcmp((char *)a, (char *)b)), sign(strcmp((char *)a, (char *)b)));
		assert_int_equal(q_strlen((char *)a), strlen((char *)a));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_and_moves),
		cmocka_unit_test(test_comparisons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
