/*
 * Pages through zstd: every kind comes back as it was, damaged bytes are an error and no more, and no more stack is
 * used than a fault has.  Pages, rooms and stored bytes are allocations of exactly their size, so that the address sanitizer sees a
 * byte too far.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <port/sim/sim.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "swap.h"

/* What either may use; lz4 takes 5 KiB. A trap stack has 128 (TRAP_SLOT_SIZE). */
#define STACK_MAX (4u << 10)

static u64 rnd;
static u64 draw(u64 n)
{
	rnd += 0x9e3779b97f4a7c15ull;
	u64 z = rnd;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % n;
}

/* ---- kinds of pages ---- */
static void zero(u8 *p) { memset(p, 0, PAGE_SIZE); }
static void one_byte(u8 *p) { zero(p); p[draw(PAGE_SIZE)] = (u8)(1 + draw(255)); }
static void one_value(u8 *p) { page_fill(p, draw(~0ull)); }
static void bytes_of_one(u8 *p) { memset(p, (int)draw(256), PAGE_SIZE); }
static void noise(u8 *p) { for (u32 i = 0; i < PAGE_SIZE; i++) p[i] = (u8)draw(256); }
static void half_noise(u8 *p) { noise(p); memset(p + PAGE_SIZE / 2, 0x55, PAGE_SIZE / 2); }
static void few_letters(u8 *p) { for (u32 i = 0; i < PAGE_SIZE; i++) p[i] = "etaoin shrdlu"[draw(13)]; }
static void two_bits(u8 *p) { for (u32 i = 0; i < PAGE_SIZE; i++) p[i] = (u8)draw(4); }
static void ramp(u8 *p) { for (u32 i = 0; i < PAGE_SIZE / 4; i++) ((u32 *)p)[i] = i * 3; }
static void pointers(u8 *p) { for (u32 i = 0; i < PAGE_SIZE / 8; i++) ((u64 *)p)[i] = 0x7f0000000000 + draw(4096) * 16; }
static void period(u8 *p) { u32 n = 1 + (u32)draw(700); for (u32 i = 0; i < PAGE_SIZE; i++) p[i] = (u8)(i < n ? draw(256) : p[i - n]); }
static void edge(u8 *p) { noise(p); memset(p + draw(PAGE_SIZE), 0, 0); memcpy(p + PAGE_SIZE - 600, p, 600); memset(p + 700, 1, 1500); }

/* Copies of what was before, of all lengths and distances, and new bytes in between: what a match finder is for. */
static void copies(u8 *p)
{
	u32 at = 0;

	while (at < PAGE_SIZE) {
		u32 n = 1 + (u32)draw(1ull << draw(10)), back = at ? 1 + (u32)draw(at) : 0;

		n = MIN(n, (u32)PAGE_SIZE - at);
		for (u32 i = 0; i < n; i++, at++)
			p[at] = back && back != at ? p[at - back] : (u8)draw(256);
		for (u32 i = 0; i < 4 && at < PAGE_SIZE; i++)
			p[at++] = (u8)draw(32);
	}
}

static void text(u8 *p)
{
	static const char *const words[] = { "page", "frame", "the", "of", "a", "fault", "is", "machine", "swap", "in", "memory", "lock" };
	u32 at = 0;

	while (at < PAGE_SIZE) {
		const char *w = words[draw(ARRAY_SIZE(words))];

		for (; *w && at < PAGE_SIZE; w++)
			p[at++] = (u8)*w;
		if (at < PAGE_SIZE)
			p[at++] = draw(9) ? ' ' : '\n';
	}
}

static const struct kind {
	const char *name;
	void (*fill)(u8 *page);
	u32 at_most; /* compressed bytes of any level; 0 = it must be refused, ~0 = may be */
} kinds[] = {
	{ "zero", zero, 40 }, { "one byte", one_byte, 60 }, { "one value", one_value, 60 }, { "bytes of one value", bytes_of_one, 40 },
	{ "noise", noise, 0 }, { "half noise", half_noise, 2200 }, { "letters", few_letters, 2200 }, { "two bits", two_bits, 1450 },
	{ "ramp", ramp, ~0u }, { "pointers", pointers, 3000 }, { "period", period, 900 }, { "edge", edge, 2500 }, { "copies", copies, ~0u },
	{ "text", text, 1900 },
};

/* ---- pages, rooms ---- */
struct desk {
	u8 *page, *back;
	void *room;
	u8 stored[SWAP_WRITE_MAX + 64]; /* with guards */
};

static struct desk *desk_new(void)
{
	struct desk *d = malloc(sizeof(*d));

	d->page = malloc(PAGE_SIZE);
	d->back = malloc(PAGE_SIZE);
	d->room = malloc(page_zstd_room());
	memset(d->room, 0xee, page_zstd_room()); /* what is in it does not matter */
	return d;
}

static void desk_free(struct desk *d)
{
	free(d->page);
	free(d->back);
	free(d->room);
	free(d);
}

static bool load(struct desk *d, const void *bytes, u32 len)
{
	memcpy(page_zstd_stored(d->room), bytes, len);
	return page_zstd_decompress(len, d->back, d->room);
}

static u32 store(struct desk *d, u32 max, u32 level)
{
	u32 n;

	memset(d->stored, 0x5a, sizeof(d->stored));
	n = page_zstd_compress(d->page, d->stored, max, level, d->room);
	assert_true(n <= max);
	for (u32 i = max; i < sizeof(d->stored); i++)
		assert_int_equal(d->stored[i], 0x5a);
	return n;
}

static void test_every_kind_comes_back(void **state)
{
	struct desk *d = desk_new();

	rnd = sim_seed(1);
	for (u32 round = 0; round < (getenv("QUIRE_LONG") ? 20000u : 40u); round++) {
		for (const struct kind *k = kinds; k < kinds + ARRAY_SIZE(kinds); k++) {
			u32 level = 1 + round % SWAP_ZSTD_LEVELS, n;

			k->fill(d->page);
			n = store(d, SWAP_WRITE_MAX, level);
			if (k->at_most != ~0u && (k->at_most ? !n || n > k->at_most : n))
				fail_msg("%s: %u bytes at level %u", k->name, n, level);
			memset(d->back, 0xdd, PAGE_SIZE);
			if (n && !load(d, d->stored, n))
				fail_msg("%s: does not come back (level %u)", k->name, level);
			if (n)
				assert_memory_equal(d->page, d->back, PAGE_SIZE);
		}
	}
	desk_free(d);
}

static void test_only_so_much_room(void **state)
{
	struct desk *d = desk_new();
	u32 n, fits;

	rnd = 2;
	text(d->page);
	n = store(d, SWAP_WRITE_MAX, 3);
	for (u32 max = 0; max <= n + 40; max++) {
		fits = store(d, max, 3);
		assert_true(fits == 0 || fits == n || max < n + 20); /* zstd may want a few bytes more than it uses in the end */
		if (max < n)
			assert_true(!fits || load(d, d->stored, fits));
		else if (fits)
			assert_true(load(d, d->stored, fits) && !memcmp(d->page, d->back, PAGE_SIZE));
	}
	desk_free(d);
}

/* The room's former contents make no difference: somebody may have died in it. */
static void test_a_room_left_in_disorder(void **state)
{
	struct desk *d = desk_new(), *e = desk_new();
	u32 n, m;

	rnd = sim_seed(3);
	for (u32 round = 0; round < 60; round++) {
		kinds[round % ARRAY_SIZE(kinds)].fill(d->page);
		memcpy(e->page, d->page, PAGE_SIZE);
		for (size_t i = 0; i < page_zstd_room(); i++)
			((u8 *)e->room)[i] = (u8)draw(256);
		n = store(d, SWAP_WRITE_MAX, 1 + round % 3);
		m = store(e, SWAP_WRITE_MAX, 1 + round % 3);
		assert_int_equal(n, m);
		assert_memory_equal(d->stored, e->stored, n);
		for (size_t i = 0; i < page_zstd_room(); i++)
			((u8 *)e->room)[i] = (u8)draw(256);
		if (n)
			assert_true(load(e, d->stored, n) && !memcmp(e->back, d->page, PAGE_SIZE));
	}
	desk_free(d);
	desk_free(e);
}

static void test_smaller_than_lz4(void **state)
{
	struct desk *d = desk_new();
	u64 work[PAGE_COMPRESS_WORK / 8], lz4 = 0, zstd[SWAP_ZSTD_LEVELS + 1] = { 0 };

	rnd = 4;
	for (u32 round = 0; round < 20; round++) {
		(round & 1 ? text : pointers)(d->page);
		lz4 += page_compress(d->page, d->stored, SWAP_WRITE_MAX, work);
		for (u32 level = 1; level <= SWAP_ZSTD_LEVELS; level++)
			zstd[level] += store(d, SWAP_WRITE_MAX, level);
	}
	for (u32 level = 1; level <= SWAP_ZSTD_LEVELS; level++)
		assert_true(zstd[level] && zstd[level] * 10 < lz4 * 9);
	desk_free(d);
}

/* ---- damage ---- */
static u64 damaged, noticed;
static void load_damaged(struct desk *d, const u8 *bytes, u32 len)
{
	damaged++;
	noticed += !load(d, bytes, len) || memcmp(d->page, d->back, PAGE_SIZE);
}

static void test_damage_is_an_error(void **state)
{
	struct desk *d = desk_new();
	u32 n, step = getenv("QUIRE_LONG") ? 1 : 23;
	u8 *bytes;

	rnd = sim_seed(5);
	for (const struct kind *k = kinds; k < kinds + ARRAY_SIZE(kinds); k++) {
		k->fill(d->page);
		n = store(d, SWAP_WRITE_MAX, 1 + (u32)draw(3));
		if (!n)
			continue;
		bytes = malloc(n);
		for (u32 bit = 0; bit < 8 * n; bit += bit < 512 ? 1 : step) { /* every bit of the headers and tables */
			memcpy(bytes, d->stored, n);
			bytes[bit / 8] ^= (u8)(1u << bit % 8);
			load_damaged(d, bytes, n);
		}
		for (u32 i = 0; i < 100; i++) {
			memcpy(bytes, d->stored, n);
			for (u64 flips = 2 + draw(30); flips; flips--)
				bytes[draw(n)] = (u8)draw(256);
			load_damaged(d, bytes, n);
		}
		for (u32 len = 0; len < n; len += 1 + len / 16)
			assert_false(load(d, d->stored, len));
		free(bytes);
	}
	print_message("%llu damaged pages, %llu noticed by what zstd made of them\n", (unsigned long long)damaged,
		      (unsigned long long)noticed);
	assert_true(damaged > 4000 && noticed * 10 > damaged * 9); /* the rest is the checksum's */
	desk_free(d);
}

static void test_anything_at_all(void **state)
{
	struct desk *d = desk_new();
	u8 bytes[SWAP_WRITE_MAX];

	rnd = sim_seed(6);
	for (u32 i = 0; i < (getenv("QUIRE_LONG") ? 2000000u : 2000u); i++) {
		u32 len = (u32)draw(SWAP_WRITE_MAX + 1);

		for (u32 j = 0; j < len; j++)
			bytes[j] = (u8)draw(256);
		if (len > 5 && draw(4)) { /* a header that lets it get further: a compressed block of that length */
			bytes[0] = 0;
			bytes[1] = 16;
			bytes[2] = (u8)((len - 5) << 3 | 5);
			bytes[3] = (u8)((len - 5) >> 5);
			bytes[4] = (u8)((len - 5) >> 13);
		}
		load(d, bytes, len);
	}
	desk_free(d);
}

/* ---- the stack ---- */
struct painted {
	u8 *low;
	size_t size, used;
	struct desk *d;
};

static __attribute__((noinline)) void both_ways(struct desk *d)
{
	for (const struct kind *k = kinds; k < kinds + ARRAY_SIZE(kinds); k++) {
		for (u32 level = 1; level <= SWAP_ZSTD_LEVELS; level++) {
			u32 n;

			n = page_zstd_compress(d->page, d->stored, SWAP_WRITE_MAX, level, d->room);
			memcpy(page_zstd_stored(d->room), d->stored, n);
			page_zstd_decompress(n, d->back, d->room);
		}
		k->fill(d->page);
	}
}

/* Below this frame everything is painted, and looked at afterwards. */
static __attribute__((unused)) void *measure(void *arg) /* by the sanitizers' builds */
{
	struct painted *p = arg;
	u8 *here = __builtin_frame_address(0), *deepest = p->low;

	both_ways(p->d); /* first what is done only once */
	for (volatile u8 *b = p->low; b < here - 1024; b++)
		*b = 0xa5;
	both_ways(p->d);
	while (*deepest == 0xa5)
		deepest++;
	p->used = (size_t)(here - deepest);
	return NULL;
}

static void test_stack(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || (defined(__has_feature) && !defined(__GNUC__))
	skip();
#else
	struct painted p = { .size = 256 << 10, .d = desk_new() };
	pthread_attr_t attr;
	pthread_t t;

	rnd = 7;
	p.low = aligned_alloc(PAGE_SIZE, p.size);
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, p.low, p.size), 0);
	assert_int_equal(pthread_create(&t, &attr, measure, &p), 0);
	pthread_join(t, NULL);
	print_message("%zu bytes of stack, %zu of a room\n", p.used, page_zstd_room());
	assert_in_range(p.used, 500, STACK_MAX);
	pthread_attr_destroy(&attr);
	free(p.low);
	desk_free(p.d);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_comes_back), cmocka_unit_test(test_only_so_much_room),
		cmocka_unit_test(test_a_room_left_in_disorder), cmocka_unit_test(test_smaller_than_lz4),
		cmocka_unit_test(test_damage_is_an_error), cmocka_unit_test(test_anything_at_all), cmocka_unit_test(test_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
