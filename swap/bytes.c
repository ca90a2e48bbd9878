/*
 * What is done to the bytes of a page on its way out and back: compressing, comparing, filling, checking.
 *
 * Only private memory and frames that nobody else sees are written here, so nothing is logged: the hosted flavour
 * compiles this file without the store logger, and rollbacks do not need its stores.
 * lz4 (third_party/lz4, BSD 2-clause) is compiled into this file: freestanding, without allocation, everything static.
 */
#include "swap.h"

#define LZ4_FREESTANDING 1
#define LZ4_STATIC_LINKING_ONLY_DISABLE_MEMORY_ALLOCATION 1
#define LZ4_HEAPMODE 0
#define LZ4_MEMORY_USAGE 12 /* a hash table of 4 KiB: more does not help for a page */
#define LZ4LIB_VISIBILITY static __attribute__((unused))
#define LZ4_memcpy(d, s, n) __builtin_memcpy(d, s, n)
#define LZ4_memmove(d, s, n) __builtin_memmove(d, s, n)
#define LZ4_memset(p, v, n) __builtin_memset(p, v, n)
#pragma GCC diagnostic ignored "-Wunused-function" /* judged at the end of the file, so not within the push */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wimplicit-fallthrough"
#include "../third_party/lz4/lz4.c"
#pragma GCC diagnostic pop

_Static_assert(sizeof(LZ4_stream_t) <= PAGE_COMPRESS_WORK, "room for lz4's state");

/* Other threads may write to a page while it is looked at; who asked will find out and throw the result away. */
#if defined(__SANITIZE_THREAD__)
#define UNLOCKED __attribute__((no_sanitize("thread"), noinline))
#else
#define UNLOCKED
#endif

u32 page_compress(const void *page, void *dst, u32 max, void *work)
{
	int n = LZ4_compress_fast_extState(work, page, dst, PAGE_SIZE, (int)max, 1);

	return n > 0 ? (u32)n : 0;
}

bool page_decompress(const void *src, u32 len, void *page)
{
	return LZ4_decompress_safe(src, page, (int)len, PAGE_SIZE) == (int)PAGE_SIZE;
}

UNLOCKED bool page_same_filled(const void *page, u64 *value)
{
	const u64 *w = page;
	u64 first = w[0];

	for (size_t i = 1; i < PAGE_SIZE / 8; i++)
		if (w[i] != first)
			return false;
	*value = first;
	return true;
}

UNLOCKED void page_fill(void *page, u64 value)
{
	u64 *w = page;

	for (size_t i = 0; i < PAGE_SIZE / 8; i++)
		w[i] = value;
}

/* Four independent lanes, each mixed as FNV-1a does but by 64-bit words; the multiplier is splitmix64's. */
UNLOCKED u32 page_checksum(const void *page)
{
	const u64 mul = 0xbf58476d1ce4e5b9ull, *w = page;
	u64 a = 1, b = 2, c = 3, d = 4;

	for (size_t i = 0; i < PAGE_SIZE / 8; i += 4) {
		a = (a ^ w[i]) * mul;
		b = (b ^ w[i + 1]) * mul;
		c = (c ^ w[i + 2]) * mul;
		d = (d ^ w[i + 3]) * mul;
		a ^= a >> 29;
		c ^= c >> 29;
	}
	a = (a ^ (b >> 32) ^ b) * mul + ((c ^ (d >> 32) ^ d) * mul);
	return (u32)(a >> 32);
}

UNLOCKED void copy_unlogged(void *dst, const void *src, size_t n)
{
	u64 *d = dst;
	const u64 *s = src;

	for (size_t i = 0; i < n / 8; i++)
		d[i] = s[i];
}
