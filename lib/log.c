/*
 * The machine's log: what `quire dmesg` shows.
 *
 * A ring of bytes in struct quire.  A line lies in it as <level digit>"[%5lu.%06lu] "text"\n"; the digit is
 * not shown.  log_head counts bytes ever written, log_sent those already given to port_log().  Positions
 * only grow; position p lies at log_buf[p % QUIRE_DMESG_BYTES].
 *
 * Locks: q->log_lock, a leaf.  Since unlocking is deferred to the end of the transaction, taking a leaf by
 * waiting and then q->lock would break the lock order; so inside a transaction the lock is only tried, and
 * a line that loses is counted, not written.  port_log() is a host call: it is left to the next quire_log()
 * outside any transaction, which forwards everything not yet sent.
 */
#include <fmt.h>
#include <quire/machine.h>

#define LOG_LINE_MAX 640 /* the longest line of Mem-Info on a large machine */

/* In two pieces at most, through memcpy: few undo entries. */
static void ring_write(struct quire *q, const char *s, size_t n)
{
	while (n) {
		size_t at = q->log_head % QUIRE_DMESG_BYTES;
		size_t take = MIN(n, QUIRE_DMESG_BYTES - at);

		memcpy(q->log_buf + at, s, take);
		q->log_head += take;
		s += take;
		n -= take;
	}
}

static char ring_char(const struct quire *q, u64 pos)
{
	return q->log_buf[pos % QUIRE_DMESG_BYTES];
}

/* The first line start at or after pos that has not been overwritten. */
static u64 ring_line_at(const struct quire *q, u64 pos)
{
	if (pos + QUIRE_DMESG_BYTES >= q->log_head)
		return pos;
	pos = q->log_head - QUIRE_DMESG_BYTES;
	while (pos < q->log_head && ring_char(q, pos) != '\n')
		pos++;
	return MIN(pos + 1, q->log_head);
}

/* Copies the line at pos without its newline; returns the position behind it. */
static u64 ring_line(const struct quire *q, u64 pos, struct fmt_buf *out)
{
	for (; pos < q->log_head; pos++) {
		char c = ring_char(q, pos);

		if (c == '\n')
			return pos + 1;
		fmt_putc(out, c);
	}
	return pos;
}

static void forward(struct quire *q)
{
	char line[LOG_LINE_MAX + 1];

	for (;;) {
		struct fmt_buf b = fmt_init(line, sizeof(line));

		spin_lock(&q->log_lock);
		q->log_sent = ring_line(q, ring_line_at(q, q->log_sent), &b);
		spin_unlock(&q->log_lock);
		if (!b.len)
			return;
		port_log(q, line[0] - '0', line + 1, fmt_stored(&b) - 1);
	}
}

static bool log_lock(struct quire *q)
{
	if (in_transaction())
		return spin_trylock(&q->log_lock);
	spin_lock(&q->log_lock);
	return true;
}

void quire_vlog(struct quire *q, int level, const char *fmt, va_list ap)
{
	char line[LOG_LINE_MAX];
	struct fmt_buf b = fmt_init(line, sizeof(line) - 1);
	u64 us = (port_clock_ns() - q->boot_ns) / 1000;
	size_t n;

	fmt_printf(&b, "%c[%5lu.%06lu] ", '0' + (level & 7), (unsigned long)(us / 1000000), (unsigned long)(us % 1000000));
	fmt_vprintf(&b, fmt, ap);
	n = fmt_stored(&b);
	line[n++] = '\n';
	if (!log_lock(q)) {
		WRITE_ONCE(q->log_dropped, READ_ONCE(q->log_dropped) + 1);
		return;
	}
	ring_write(q, line, n);
	spin_unlock(&q->log_lock);
	if (!in_transaction())
		forward(q);
}

void quire_log(struct quire *q, int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	quire_vlog(q, level, fmt, ap);
	va_end(ap);
}

size_t quire_log_read(struct quire *q, u64 *pos, struct fmt_buf *out)
{
	size_t lines = 0;

	spin_lock(&q->log_lock);
	*pos = ring_line_at(q, *pos);
	/* Whole lines only, and only such as fit: the reader comes back for the rest. */
	while (*pos < q->log_head && out->len + LOG_LINE_MAX + 1 < out->size) {
		*pos = ring_line(q, *pos + 1, out);
		fmt_putc(out, '\n');
		lines++;
	}
	spin_unlock(&q->log_lock);
	return lines;
}
