/* Failed assertions: one line that says where and what, then the machine ends. */
#include "sync_internal.h"

static char *append(char *p, char *end, const char *s)
{
	while (*s && p < end)
		*p++ = *s++;
	return p;
}

void quire_bug(const char *file, int line, const char *what)
{
	char text[200], digits[12], *end = text + sizeof(text) - 1, *p, *d = digits + sizeof(digits) - 1;

	*d = 0;
	do
		*--d = (char)('0' + line % 10);
	while ((line /= 10) && d > digits);
	p = append(text, end, "kernel BUG at ");
	p = append(p, end, file);
	p = append(p, end, ":");
	p = append(p, end, d);
	p = append(p, end, ": ");
	p = append(p, end, what);
	*p = 0;
	port_panic(port_ctx()->q, text);
}
