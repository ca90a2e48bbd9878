/*
 * Quire's own, not upstream's: what zstd asks of its environment, without a libc (upstream means this file to be replaced).
 *
 * There is no memory to be had: zstd works in the room that it is given (ZSTD_initStaticCCtx, ZSTD_initStaticDCtx).  Longer
 * copies are loops of zstd's own, since in the hosted flavour memcpy() and memset() note what they overwrite for a
 * rollback, and nobody wants a compressor's tables back.
 */
#ifndef ZSTD_DEPS_COMMON
#define ZSTD_DEPS_COMMON
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define QUIRE_ZSTD_INLINE 64 /* what the compiler makes of so few bytes needs no call */

static inline void *quire_zstd_copy(void *to, const void *from, size_t n)
{
	unsigned char *d = (unsigned char *)to;
	const unsigned char *s = (const unsigned char *)from;

	for (; n >= 8; n -= 8, d += 8, s += 8)
		__builtin_memcpy(d, s, 8);
	while (n--)
		*d++ = *s++;
	return to;
}

static inline void *quire_zstd_move(void *to, const void *from, size_t n)
{
	unsigned char *d = (unsigned char *)to;
	const unsigned char *s = (const unsigned char *)from;

	if ((uintptr_t)d - (uintptr_t)s >= n) { /* forwards is safe by bytes; words only when they are apart */
		while (n--)
			*d++ = *s++;
		return to;
	}
	while (n--)
		d[n] = s[n];
	return to;
}

static inline void *quire_zstd_set(void *to, int value, size_t n)
{
	unsigned char *d = (unsigned char *)to;
	uint64_t word = 0x0101010101010101u * (uint64_t)(unsigned char)value;

	for (; n >= 8; n -= 8, d += 8)
		__builtin_memcpy(d, &word, 8);
	while (n--)
		*d++ = (unsigned char)value;
	return to;
}

#define QUIRE_ZSTD_SMALL(n) (__builtin_constant_p(n) && (n) <= QUIRE_ZSTD_INLINE)
#define ZSTD_memcpy(d, s, n) (QUIRE_ZSTD_SMALL(n) ? __builtin_memcpy(d, s, n) : quire_zstd_copy(d, s, n))
#define ZSTD_memmove(d, s, n) (QUIRE_ZSTD_SMALL(n) ? __builtin_memmove(d, s, n) : quire_zstd_move(d, s, n))
#define ZSTD_memset(p, v, n) (QUIRE_ZSTD_SMALL(n) ? __builtin_memset(p, v, n) : quire_zstd_set(p, v, n))

#define ZSTD_malloc(n) ((void)(n), (void *)0)
#define ZSTD_calloc(n, m) ((void)(n), (void)(m), (void *)0)
#define ZSTD_free(p) ((void)(p))
#define ZSTD_div64(a, b) ((a) / (b))

#endif
