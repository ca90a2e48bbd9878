/*
 * The core's printf.  One pass over the format; a conversion is parsed into a `struct spec` and then
 * laid out as  [spaces][sign or 0x][zeros][digits][spaces].  No allocation, no recursion, no locks.
 */
#include <fmt.h>

enum { F_LEFT = 1, F_ZERO = 2, F_PLUS = 4, F_SPACE = 8, F_ALT = 16 };
enum length { LEN_INT, LEN_CHAR, LEN_SHORT, LEN_LONG, LEN_LLONG, LEN_SIZE };

struct spec {
	unsigned flags; /* F_* */
	int width;      /* minimum bytes */
	int precision;  /* -1: not given */
	enum length length;
};

/* Longest digits: 64 bits in octal. */
#define DIGITS_MAX 22

void fmt_putc(struct fmt_buf *b, char c)
{
	if (b->len + 1 < b->size) {
		b->buf[b->len] = c;
		b->buf[b->len + 1] = '\0';
	}
	b->len++;
}

void fmt_write(struct fmt_buf *b, const char *s, size_t n)
{
	size_t room = b->len + 1 < b->size ? b->size - 1 - b->len : 0;
	size_t take = MIN(n, room);

	if (take) {
		memcpy(b->buf + b->len, s, take);
		b->buf[b->len + take] = '\0';
	}
	b->len += n;
}

static void fmt_repeat(struct fmt_buf *b, char c, long n)
{
	for (; n > 0; n--)
		fmt_putc(b, c);
}

void fmt_pad_to(struct fmt_buf *b, size_t from, size_t column, char c)
{
	fmt_repeat(b, c, (long)(from + column) - (long)b->len);
}

/* Lays out a number whose digits and prefix are known; both are short. */
static void put_number(struct fmt_buf *b, const struct spec *s, const char *prefix, const char *digits, int n)
{
	int npre = (int)strlen(prefix);
	int zeros = s->precision > n ? s->precision - n : 0;
	int pad = s->width - npre - zeros - n;

	if (pad > 0 && (s->flags & F_ZERO) && !(s->flags & F_LEFT) && s->precision < 0) {
		zeros += pad;
		pad = 0;
	}
	if (!(s->flags & F_LEFT))
		fmt_repeat(b, ' ', pad);
	fmt_write(b, prefix, (size_t)npre);
	fmt_repeat(b, '0', zeros);
	fmt_write(b, digits, (size_t)n);
	if (s->flags & F_LEFT)
		fmt_repeat(b, ' ', pad);
}

static int digits_of(char *out, u64 v, unsigned base, bool upper)
{
	const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	char rev[DIGITS_MAX];
	int n = 0;

	for (; v; v /= base)
		rev[n++] = set[v % base];
	for (int i = 0; i < n; i++)
		out[i] = rev[n - 1 - i];
	return n;
}

static void put_unsigned(struct fmt_buf *b, struct spec *s, u64 v, char conv)
{
	unsigned base = conv == 'o' ? 8 : conv == 'u' ? 10 : 16;
	const char *prefix = "";
	char digits[DIGITS_MAX];
	int n = digits_of(digits, v, base, conv == 'X');

	if ((s->flags & F_ALT) && base == 16 && v)
		prefix = conv == 'X' ? "0X" : "0x";
	/* '#' makes an octal number start with a zero, unless it does already. */
	if ((s->flags & F_ALT) && base == 8 && s->precision <= n && (v || s->precision == 0))
		prefix = "0";
	/* A zero has no digits so far: one, unless a precision of 0 says none. */
	if (!v && s->precision < 0)
		digits[n++] = '0';
	put_number(b, s, prefix, digits, n);
}

static void put_signed(struct fmt_buf *b, struct spec *s, s64 v)
{
	const char *prefix = v < 0 ? "-" : s->flags & F_PLUS ? "+" : s->flags & F_SPACE ? " " : "";
	char digits[DIGITS_MAX];
	int n = digits_of(digits, v < 0 ? 0 - (u64)v : (u64)v, 10, false);

	if (!v && s->precision < 0)
		digits[n++] = '0';
	put_number(b, s, prefix, digits, n);
}

static void put_text(struct fmt_buf *b, const struct spec *s, const char *text, size_t n)
{
	long pad = s->width - (long)n;

	if (!(s->flags & F_LEFT))
		fmt_repeat(b, ' ', pad);
	fmt_write(b, text, n);
	if (s->flags & F_LEFT)
		fmt_repeat(b, ' ', pad);
}

static void put_string(struct fmt_buf *b, const struct spec *s, const char *text)
{
	size_t n = 0;

	if (!text)
		text = s->precision >= 0 && s->precision < 6 ? "" : "(null)";
	while ((s->precision < 0 || n < (size_t)s->precision) && text[n])
		n++;
	put_text(b, s, text, n);
}

static void put_pointer(struct fmt_buf *b, struct spec *s, const void *p)
{
	if (!p) {
		put_text(b, s, "(nil)", 5);
		return;
	}
	s->flags |= F_ALT;
	put_unsigned(b, s, (u64)(uintptr_t)p, 'x');
}

static const char *parse_flags(const char *f, struct spec *s)
{
	for (;; f++) {
		switch (*f) {
		case '-': s->flags |= F_LEFT; break;
		case '0': s->flags |= F_ZERO; break;
		case '+': s->flags |= F_PLUS; break;
		case ' ': s->flags |= F_SPACE; break;
		case '#': s->flags |= F_ALT; break;
		default: return f;
		}
	}
}

static const char *parse_int(const char *f, int *out)
{
	int v = 0;

	for (; *f >= '0' && *f <= '9'; f++)
		v = v < 100000 ? v * 10 + (*f - '0') : v;
	*out = v;
	return f;
}

static const char *parse_length(const char *f, struct spec *s)
{
	if (f[0] == 'h') {
		s->length = f[1] == 'h' ? LEN_CHAR : LEN_SHORT;
		return f + (f[1] == 'h' ? 2 : 1);
	}
	if (f[0] == 'l') {
		s->length = f[1] == 'l' ? LEN_LLONG : LEN_LONG;
		return f + (f[1] == 'l' ? 2 : 1);
	}
	if (f[0] == 'z' || f[0] == 't' || f[0] == 'j') {
		s->length = f[0] == 'j' ? LEN_LLONG : LEN_SIZE;
		return f + 1;
	}
	return f;
}

/* va_list may be an array type: inside a struct it can be passed on by address. */
struct args {
	va_list ap;
};

static s64 arg_signed(struct args *a, enum length length)
{
	switch (length) {
	case LEN_CHAR: return (signed char)va_arg(a->ap, int);
	case LEN_SHORT: return (short)va_arg(a->ap, int);
	case LEN_LONG: return va_arg(a->ap, long);
	case LEN_LLONG: return va_arg(a->ap, long long);
	case LEN_SIZE: return va_arg(a->ap, ptrdiff_t);
	default: return va_arg(a->ap, int);
	}
}

static u64 arg_unsigned(struct args *a, enum length length)
{
	switch (length) {
	case LEN_CHAR: return (unsigned char)va_arg(a->ap, unsigned);
	case LEN_SHORT: return (unsigned short)va_arg(a->ap, unsigned);
	case LEN_LONG: return va_arg(a->ap, unsigned long);
	case LEN_LLONG: return va_arg(a->ap, unsigned long long);
	case LEN_SIZE: return va_arg(a->ap, size_t);
	default: return va_arg(a->ap, unsigned);
	}
}

static const char *parse_spec(const char *f, struct spec *s, struct args *a)
{
	f = parse_flags(f, s);
	if (*f == '*') {
		s->width = va_arg(a->ap, int);
		f++;
		if (s->width < 0) {
			s->flags |= F_LEFT;
			s->width = -s->width;
		}
	} else {
		f = parse_int(f, &s->width);
	}
	if (*f == '.') {
		if (*++f == '*') {
			s->precision = va_arg(a->ap, int);
			f++;
		} else {
			f = parse_int(f, &s->precision);
		}
	}
	return parse_length(f, s);
}

/* One conversion; `f` stands behind the '%'.  Returns where the text goes on. */
static const char *convert(struct fmt_buf *b, const char *f, struct args *a)
{
	struct spec s = { .precision = -1 };
	const char *start = f - 1;
	char c;

	f = parse_spec(f, &s, a);
	switch (*f) {
	case 'd':
	case 'i':
		put_signed(b, &s, arg_signed(a, s.length));
		break;
	case 'u':
	case 'x':
	case 'X':
	case 'o':
		put_unsigned(b, &s, arg_unsigned(a, s.length), *f);
		break;
	case 'c':
		c = (char)va_arg(a->ap, int);
		put_text(b, &s, &c, 1);
		break;
	case 's':
		put_string(b, &s, va_arg(a->ap, const char *));
		break;
	case 'p':
		put_pointer(b, &s, va_arg(a->ap, const void *));
		break;
	case '%':
		fmt_putc(b, '%');
		break;
	default:
		fmt_write(b, start, (size_t)(f - start));
		return f;
	}
	return f + 1;
}

void fmt_vprintf(struct fmt_buf *b, const char *fmt, va_list ap)
{
	struct args a;

	va_copy(a.ap, ap);
	while (*fmt) {
		size_t n = 0;

		while (fmt[n] && fmt[n] != '%')
			n++;
		fmt_write(b, fmt, n);
		fmt += n;
		if (*fmt)
			fmt = convert(b, fmt + 1, &a);
	}
	va_end(a.ap);
}

void fmt_printf(struct fmt_buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fmt_vprintf(b, fmt, ap);
	va_end(ap);
}

void fmt_fixed(struct fmt_buf *b, s64 value, unsigned decimals)
{
	u64 v = value < 0 ? 0 - (u64)value : (u64)value;
	u64 unit = 1;

	for (unsigned i = 0; i < decimals; i++)
		unit *= 10;
	if (value < 0)
		fmt_putc(b, '-');
	fmt_printf(b, "%llu", (unsigned long long)(v / unit));
	if (decimals)
		fmt_printf(b, ".%0*llu", (int)decimals, (unsigned long long)(v % unit));
}
