/*
 * Conformance: capabilities, frames, contexts, waiting, time, randomness, words, failures - all of port.h that is not
 * about translations.
 */
#include "conformance.h"

#define TIMEOUT_NS 2000000ull
#define ROUNDS 300u

static void caps_are_consistent(struct port_under_test *p)
{
	u64 caps = port_caps(p->q);

	CHECK(p, caps == port_caps(p->q));
	CHECK(p, caps == p->q->caps);
	CHECK(p, !(caps & PORT_CAP_HW_DBM) || (caps & PORT_CAP_HW_AF));
}

/* The direct map is linear where it exists, and exists everywhere if the port says so. */
static void frames_have_addresses(struct port_under_test *p)
{
	u64 n = p->q->cfg.memory >> PAGE_SHIFT, pfn, step = MAX(n / 509, 1ull);
	u8 *base = port_frame_address(p->q, 0);

	CHECK(p, base == p->q->cfg.direct_map);
	for (pfn = 0; pfn < n; pfn += step) {
		u8 *a = port_frame_address(p->q, (pfn_t)pfn);

		CHECK(p, !a || a == base + (pfn << PAGE_SHIFT));
		CHECK(p, a || !(port_caps(p->q) & PORT_CAP_DIRECT_MAP));
	}
}

static bool all_zero(const void *page)
{
	const u64 *w = page;
	u64 i, or = 0;

	for (i = 0; i < PAGE_SIZE / 8; i++)
		or |= w[i];
	return !or;
}

/* Looks at frames that nobody has ever had, while q->lock keeps it so. */
static void virgin_frames_are_zero(struct port_under_test *p)
{
	u64 n = p->q->cfg.memory >> PAGE_SHIFT, i, step = MAX(n / 97, 1ull);

	if (!(port_caps(p->q) & PORT_CAP_VIRGIN_ZERO))
		return;
	spin_lock(&p->q->lock);
	for (i = 0; i < n; i += step) {
		void *page = port_frame_address(p->q, (pfn_t)i);

		if (p->q->cfg.mem_map[i].type == FRAME_VIRGIN && page)
			CHECK(p, all_zero(page));
	}
	spin_unlock(&p->q->lock);
}

static void pages_are_cleared_and_copied(struct port_under_test *p)
{
	u8 *a = __get_free_pages(p->q, GFP_KERNEL, 2), *b = __get_free_pages(p->q, GFP_KERNEL, 2);
	u64 i;

	CHECK(p, a && b);
	if (!a || !b)
		return;
	for (i = 0; i < 4 * PAGE_SIZE; i++)
		a[i] = (u8)(i * 7 + (i >> PAGE_SHIFT));
	port_clear_pages(b, 4);
	for (i = 0; i < 4; i++)
		CHECK(p, all_zero(b + i * PAGE_SIZE));
	port_copy_pages(b, a, 3);
	CHECK(p, !memcmp(a, b, 3 * PAGE_SIZE));
	CHECK(p, all_zero(b + 3 * PAGE_SIZE));
	port_clear_pages(a + PAGE_SIZE, 1);
	CHECK(p, all_zero(a + PAGE_SIZE) && !all_zero(a) && !all_zero(a + 2 * PAGE_SIZE));
	free_pages(p->q, a, 2);
	free_pages(p->q, b, 2);
}

static void context_knows_itself(struct port_under_test *p)
{
	struct ctx *c = port_ctx();

	CHECK(p, c != NULL);
	CHECK(p, c == port_ctx());
	CHECK(p, c->q == p->q);
	CHECK(p, c->id != 0 && !(c->id & SPIN_WAITERS));
	CHECK(p, port_ctx_alive(c));
	CHECK(p, port_ctx_by_id(c->id) == c);
	CHECK(p, port_cpu() < p->q->cfg.nr_cpus);
	CHECK(p, c->depth == 0 && c->log_len == 0 && c->nparked == 0);
}

static void note_id(struct port_under_test *p, unsigned i, void *arg)
{
	u32 *ids = arg;

	context_knows_itself(p);
	ids[i] = port_ctx()->id;
}

static void contexts_differ(struct port_under_test *p)
{
	u32 ids[4] = { 0 };
	unsigned n = MIN(p->nr_cpus, 4u), i, j;

	/* All of them live at the same time, for run() returns only when all have ended. */
	p->run(p, n, note_id, ids);
	for (i = 0; i < n; i++) {
		CHECK(p, ids[i] != port_ctx()->id);
		for (j = 0; j < i; j++)
			CHECK(p, ids[i] != 0 && ids[j] != 0);
	}
}

static void time_goes_forward(struct port_under_test *p)
{
	u64 last = port_clock_ns(), now, i;

	for (i = 0; i < 1000; i++, last = now) {
		now = port_clock_ns();
		CHECK(p, now >= last);
	}
}

static void random_bits_vary(struct port_under_test *p)
{
	u64 ones = 0, all = ~0ull, any = 0, i;

	for (i = 0; i < 256; i++) {
		u64 r = port_random(p->q);

		all &= r;
		any |= r;
		ones += (u64)__builtin_popcountll(r);
	}
	CHECK(p, all == 0 && any == ~0ull);
	CHECK(p, ones > 256 * 64 * 45 / 100 && ones < 256 * 64 * 55 / 100);
}

static void wait_looks_at_the_word(struct port_under_test *p)
{
	u32 word = 3;
	u64 before = port_clock_ns();
	int err;

	CHECK(p, port_wait(&word, 4, ~0ull) == -EAGAIN);
	CHECK(p, port_wait(&word, 4, 0) == -EAGAIN);
	port_wake(&word, 1); /* nobody sleeps */
	port_wake(&word, ~0u);
	/* It may also end early (0, -EINTR); but -ETIMEDOUT only after the time. */
	while ((err = port_wait(&word, 3, TIMEOUT_NS)) == 0 || err == -EINTR)
		before = port_clock_ns();
	CHECK(p, err == -ETIMEDOUT);
	CHECK(p, port_clock_ns() - before >= TIMEOUT_NS);
	CHECK(p, word == 3);
}

/* Each waits until it is its turn, for ever: a lost wake-up hangs here. */
static void take_turns(struct port_under_test *p, unsigned i, void *arg)
{
	u32 *word = arg, w;
	unsigned n = MIN(p->nr_cpus, 4u), round;

	for (round = 0; round < ROUNDS; round++) {
		while ((w = __atomic_load_n(word, __ATOMIC_ACQUIRE)) % n != i)
			port_wait(word, w, ~0ull);
		__atomic_store_n(word, w + 1, __ATOMIC_RELEASE);
		port_wake(word, ~0u);
	}
}

static void wakes_are_not_lost(struct port_under_test *p)
{
	u32 word = 0;
	unsigned n = MIN(p->nr_cpus, 4u);

	p->run(p, n, take_turns, &word);
	CHECK(p, word == n * ROUNDS);
}

struct lock_job {
	struct spinlock lock;
	struct mutex mutex;
	u64 a, b, c;
};

static void count_under_locks(struct port_under_test *p, unsigned i, void *arg)
{
	struct lock_job *j = arg;
	unsigned round;

	(void)i;
	for (round = 0; round < ROUNDS; round++) {
		mutex_lock(&j->mutex);
		j->c++;
		spin_lock(&j->lock);
		CHECK(p, j->a == j->b);
		j->a++;
		port_relax();
		j->b++;
		spin_unlock(&j->lock);
		mutex_unlock(&j->mutex);
		spin_lock(&j->lock);
		j->a++;
		j->b++;
		spin_unlock(&j->lock);
	}
}

static void locks_exclude(struct port_under_test *p)
{
	struct lock_job j = { .a = 0 };
	unsigned n = MIN(p->nr_cpus, 4u);

	spin_lock_init(&j.lock, LOCK_RANK_CORE);
	mutex_init(&j.mutex);
	p->run(p, n, count_under_locks, &j);
	CHECK(p, j.a == 2 * n * ROUNDS && j.b == j.a && j.c == n * ROUNDS);
}

static void words_are_taken(struct port_under_test *p)
{
	int level;

	for (level = 0; level < 8; level++)
		port_log(p->q, level, "conformance", 11);
	port_log(p->q, 7, "", 0);
}

static void nothing_fails_unasked(struct port_under_test *p)
{
	unsigned i;

	for (i = 0; i < 1000; i++)
		CHECK(p, !port_should_fail(p->q, FAIL_PAGE + i % 4));
}

const struct conformance_check conformance_basics[] = {
	{ "caps_are_consistent", caps_are_consistent },
	{ "frames_have_addresses", frames_have_addresses },
	{ "virgin_frames_are_zero", virgin_frames_are_zero },
	{ "pages_are_cleared_and_copied", pages_are_cleared_and_copied },
	{ "context_knows_itself", context_knows_itself },
	{ "contexts_differ", contexts_differ },
	{ "time_goes_forward", time_goes_forward },
	{ "random_bits_vary", random_bits_vary },
	{ "wait_looks_at_the_word", wait_looks_at_the_word },
	{ "wakes_are_not_lost", wakes_are_not_lost },
	{ "locks_exclude", locks_exclude },
	{ "words_are_taken", words_are_taken },
	{ "nothing_fails_unasked", nothing_fails_unasked },
	{ NULL, NULL },
};
