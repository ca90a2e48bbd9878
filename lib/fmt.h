/*
 * Text formatting into a caller's buffer: the core's printf, free of libc.
 *
 * A fmt_buf counts every byte that was asked for, also past the end of its buffer; so one can size with
 * a zero-length buffer, and truncation is known (fmt_truncated).  The text is always NUL-terminated if
 * the buffer holds at least one byte.  No locks: a fmt_buf belongs to one context.
 */
#ifndef QUIRE_FMT_H
#define QUIRE_FMT_H
#include <quire/types.h>

struct fmt_buf {
	char *buf;   /* may be NULL if size is 0 */
	size_t size; /* bytes in buf, with the NUL */
	size_t len;  /* bytes asked for so far, without the NUL; may exceed size */
};

static inline struct fmt_buf fmt_init(char *buf, size_t size)
{
	if (size)
		buf[0] = '\0';
	return (struct fmt_buf){ .buf = buf, .size = size };
}
static inline bool fmt_truncated(const struct fmt_buf *b) { return b->len >= b->size; }
/* Bytes of text that really stand in the buffer. */
static inline size_t fmt_stored(const struct fmt_buf *b)
{
	return b->len < b->size ? b->len : b->size ? b->size - 1 : 0;
}

void fmt_putc(struct fmt_buf *b, char c);
void fmt_write(struct fmt_buf *b, const char *s, size_t n);
/* Appends `c` until the text is `column` bytes longer than it was at length `from` (no effect if it already is). */
void fmt_pad_to(struct fmt_buf *b, size_t from, size_t column, char c);

/*
 * A subset of C11 7.21.6.1: conversions d i u x X o c s p %, flags - 0 + space #, width and precision
 * (also *), length modifiers hh h l ll z j t.  %p prints as glibc does ("0x..." or "(nil)").  An unknown
 * conversion is copied as it stands and takes no argument.  Nothing for floating point: see fmt_fixed.
 */
void fmt_printf(struct fmt_buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void fmt_vprintf(struct fmt_buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

/* Appends value / 10^decimals with that many decimals: fmt_fixed(b, 1234, 2) appends "12.34". */
void fmt_fixed(struct fmt_buf *b, s64 value, unsigned decimals);

#endif
