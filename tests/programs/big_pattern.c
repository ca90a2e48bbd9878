/* Writes a pattern over much memory, in several orders and strides, and reads it back. */
#include "guest.h"

static uint64_t expected(size_t word)
{
	return (word + 1) * 0x9e3779b97f4a7c15ull;
}

int main(int argc, char **argv)
{
	size_t bytes = (argc > 1 ? (size_t)atoi(argv[1]) : 48) << 20, words = bytes / 8, pages = bytes / PAGE, bad = 0;
	uint64_t *p = fresh(bytes), seed = 99, sum = 0;

	/* First touch in a random order of pages, one word each. */
	for (size_t i = 0; i < pages; i++) {
		size_t page = (i * 2654435761ul + 12345) % pages;

		p[page * (PAGE / 8) + i % 512] ^= 0;
	}
	for (size_t i = 0; i < words; i++)
		bad += p[i] != 0;
	printf("not zero before: %zu\n", bad);
	for (size_t i = 0; i < words; i++)
		p[i] = expected(i);
	for (size_t i = words; i-- > 0;)
		bad += p[i] != expected(i);
	printf("wrong backwards: %zu\n", bad);
	for (size_t i = 0; i < words / 4; i++) {
		size_t w = next_random(&seed) % words;

		bad += p[w] != expected(w);
		sum += p[w];
	}
	printf("wrong at random: %zu, sum %016lx\n", bad, sum);
	VERIFY(madvise(p + words / 2, bytes / 4, MADV_DONTNEED) == 0);
	for (size_t i = 0; i < words; i++)
		bad += p[i] != (i >= words / 2 && i < words * 3 / 4 ? 0 : expected(i));
	printf("wrong after giving a quarter back: %zu\n", bad);
	return bad != 0;
}
