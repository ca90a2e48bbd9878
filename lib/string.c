/*
 * The memory and string functions that a freestanding compiler may call, for the flavours without libc.
 *
 * Weak, so that a port may bring its own: the hosted port's memcpy and memset also write the undo log
 * (revocation.md section 2), and a bare-metal port may use its machine's string instructions.  Plain word
 * loops; the attribute keeps gcc from turning a loop back into a call of the function that it implements
 * (clang needs -fno-builtin on the command line for that).
 */
#ifndef QUIRE_UNIT
#include <quire/types.h>

#ifdef __clang__
#define PLAIN_LOOP __attribute__((weak))
#else
#define PLAIN_LOOP __attribute__((weak, optimize("no-tree-loop-distribute-patterns")))
#endif

/* A word that may alias anything and lie at any address. */
typedef u64 __attribute__((may_alias, aligned(1))) word_t;
#define WORD sizeof(u64)

PLAIN_LOOP void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	u8 *d = dst;
	const u8 *s = src;

	for (; n >= 4 * WORD; n -= 4 * WORD, d += 4 * WORD, s += 4 * WORD) {
		u64 a = ((const word_t *)s)[0], b = ((const word_t *)s)[1];
		u64 c = ((const word_t *)s)[2], e = ((const word_t *)s)[3];

		((word_t *)d)[0] = a;
		((word_t *)d)[1] = b;
		((word_t *)d)[2] = c;
		((word_t *)d)[3] = e;
	}
	for (; n >= WORD; n -= WORD, d += WORD, s += WORD)
		*(word_t *)d = *(const word_t *)s;
	while (n--)
		*d++ = *s++;
	return dst;
}

PLAIN_LOOP void *memmove(void *dst, const void *src, size_t n)
{
	u8 *d = dst;
	const u8 *s = src;

	/* A copy upwards is right when dst lies below src; word by word also when they overlap. */
	if ((uintptr_t)d - (uintptr_t)s >= n) {
		for (; n >= WORD; n -= WORD, d += WORD, s += WORD)
			*(word_t *)d = *(const word_t *)s;
		while (n--)
			*d++ = *s++;
		return dst;
	}
	for (; n >= WORD; n -= WORD)
		*(word_t *)(d + n - WORD) = *(const word_t *)(s + n - WORD);
	while (n--)
		d[n] = s[n];
	return dst;
}

PLAIN_LOOP void *memset(void *dst, int c, size_t n)
{
	u8 *d = dst;
	u64 w = 0x0101010101010101ull * (u8)c;

	for (; n >= WORD; n -= WORD, d += WORD)
		*(word_t *)d = w;
	while (n--)
		*d++ = (u8)c;
	return dst;
}

PLAIN_LOOP int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n >= WORD && *(const word_t *)x == *(const word_t *)y; n -= WORD) {
		x += WORD;
		y += WORD;
	}
	for (; n; n--, x++, y++) {
		if (*x != *y)
			return *x - *y;
	}
	return 0;
}

PLAIN_LOOP size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

PLAIN_LOOP int strncmp(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++) {
		if (*a != *b || !*a)
			return (u8)*a - (u8)*b;
	}
	return 0;
}

PLAIN_LOOP int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (u8)*a - (u8)*b;
}
#else
/* With libc there is nothing to provide; ISO C wants a declaration in every file. */
typedef int quire_string_uses_libc;
#endif
