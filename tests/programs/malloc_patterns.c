/* Random malloc, calloc, realloc, memalign and free in four threads; every block carries a pattern that is checked. */
#include "guest.h"

#define SLOTS 400
struct slot {
	unsigned char *p;
	size_t n;
	unsigned char mark;
};

static size_t pick_size(uint64_t r)
{
	switch (r % 8) {
	case 0: return 1 + r / 8 % 200000;
	case 1: return 1 + r / 8 % 20000;
	default: return 1 + r / 8 % 600;
	}
}

static void check_slot(const struct slot *s)
{
	for (size_t i = 0; i < s->n; i += s->n / 16 + 1)
		VERIFY(s->p[i] == s->mark);
	VERIFY(s->p[s->n - 1] == s->mark);
}

static void fill(struct slot *s, uint64_t r)
{
	s->mark = (unsigned char)(r >> 40);
	memset(s->p, s->mark, s->n);
}

static void renew(struct slot *s, uint64_t r)
{
	size_t n = pick_size(r);

	if (s->p && r >> 60 == 1) {
		unsigned char *p = realloc(s->p, n);

		VERIFY(p && p[0] == s->mark && p[(n < s->n ? n : s->n) - 1] == s->mark);
		s->p = p;
	} else {
		free(s->p);
		s->p = r >> 60 == 2 ? calloc(1, n) : r >> 60 == 3 ? aligned_alloc(4096, (n + 4095) & ~4095ul) : malloc(n);
		VERIFY(s->p && (r >> 60 != 2 || all_zero(s->p, n)));
	}
	s->n = n;
	fill(s, r);
}

static void *worker(void *arg)
{
	struct slot *slots = calloc(SLOTS, sizeof(*slots));
	uint64_t seed = (uintptr_t)arg * 7919 + 1;
	size_t total = 0;

	for (int i = 0; i < 20000; i++) {
		uint64_t r = next_random(&seed);
		struct slot *s = &slots[r % SLOTS];

		if (s->p)
			check_slot(s);
		renew(s, next_random(&seed));
		total += s->n;
	}
	for (int i = 0; i < SLOTS; i++)
		free(slots[i].p);
	free(slots);
	return (void *)total;
}

int main(void)
{
	pthread_t t[4];
	void *total;

	for (uintptr_t i = 0; i < 4; i++)
		VERIFY(pthread_create(&t[i], NULL, worker, (void *)i) == 0);
	for (int i = 0; i < 4; i++) {
		VERIFY(pthread_join(t[i], &total) == 0);
		printf("thread %d: %zu bytes in all\n", i, (size_t)total);
	}
	return 0;
}
