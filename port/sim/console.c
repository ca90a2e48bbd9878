/*
 * The machine's words to people: its log, kept for tests to read, and its panic, which a test may expect.
 */
#include "sim_internal.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

struct panic_catcher {
	jmp_buf jump;
	struct ctx *ctx;
	bool armed;
	char text[1024];
};
static _Thread_local struct panic_catcher catcher;

static void log_grow(struct sim_log *l, size_t need)
{
	if (l->len + need + 1 <= l->cap)
		return;
	l->cap = MAX(l->cap * 2, l->len + need + 1024);
	l->text = realloc(l->text, l->cap);
	if (!l->text)
		sim_die("sim: log");
}

void port_log(struct quire *q, int level, const char *text, size_t len)
{
	struct sim_log *l = &sim_of(q)->log;

	pthread_mutex_lock(&l->lock);
	log_grow(l, len + 1);
	memcpy(l->text + l->len, text, len);
	l->len += len;
	l->text[l->len++] = '\n';
	l->text[l->len] = 0;
	pthread_mutex_unlock(&l->lock);
	if (l->to_stderr)
		fprintf(stderr, "<%d>%.*s\n", level, (int)len, text);
}

const char *sim_log_text(struct quire *q)
{
	struct sim_log *l = &sim_of(q)->log;

	return l->text ? l->text : "";
}

void sim_log_clear(struct quire *q)
{
	struct sim_log *l = &sim_of(q)->log;

	pthread_mutex_lock(&l->lock);
	l->len = 0;
	if (l->text)
		l->text[0] = 0;
	pthread_mutex_unlock(&l->lock);
}

void port_panic(struct quire *q, const char *text)
{
	if (q)
		sim_of(q)->panicked = true;
	if (catcher.armed) {
		catcher.armed = false;
		snprintf(catcher.text, sizeof(catcher.text), "%s", text);
		longjmp(catcher.jump, 1);
	}
	fprintf(stderr, "sim: machine panic: %s\n", text);
	if (q)
		fprintf(stderr, "%s", sim_log_text(q));
	abort();
}

const char *sim_expect_panic(void (*fn)(void *arg), void *arg)
{
	struct sim_ctx *s = sim_ctx_current();

	catcher.ctx = s ? s->ctx : NULL;
	catcher.armed = true;
	if (setjmp(catcher.jump)) {
		if (catcher.ctx)
			sim_ctx_break_locks(catcher.ctx);
		return catcher.text;
	}
	fn(arg);
	catcher.armed = false;
	return NULL;
}

u64 sim_seed(u64 fallback)
{
	const char *s = getenv("QUIRE_SEED");
	u64 seed = s ? strtoull(s, NULL, 0) : fallback;

	fprintf(stderr, "QUIRE_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}
