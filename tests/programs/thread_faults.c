/* Threads that fault on the same pages at once, while others map, unmap and protect beside them. */
#include "guest.h"

#define PAGES 2048
static char *area;
static pthread_barrier_t barrier;
static volatile bool stop;

static void *toucher(void *arg)
{
	long me = (long)arg;

	for (int round = 0; round < 4; round++) {
		pthread_barrier_wait(&barrier);
		for (size_t i = 0; i < PAGES; i++)
			area[i * PAGE + (size_t)me] = (char)(me + round + 1);
		for (size_t i = PAGES; i-- > 0;)
			VERIFY(area[i * PAGE + (size_t)me] == (char)(me + round + 1));
		pthread_barrier_wait(&barrier);
		if (me == 0)
			VERIFY(madvise(area, PAGES * PAGE, MADV_DONTNEED) == 0);
		pthread_barrier_wait(&barrier);
		VERIFY(area[(size_t)(me * 100) * PAGE + 64] == 0);
	}
	return NULL;
}

static void *mapper(void *arg)
{
	uint64_t seed = 3;
	long maps = 0;

	while (!stop) {
		size_t n = 1 + next_random(&seed) % 30;
		char *p = fresh(n * PAGE);

		memset(p, 1, n * PAGE);
		VERIFY(mprotect(p, n * PAGE, PROT_READ) == 0 && p[n * PAGE - 1] == 1);
		VERIFY(munmap(p, n * PAGE) == 0);
		maps++;
	}
	return (void *)(long)(maps > 0);
}

int main(void)
{
	pthread_t t[4], m;
	void *mapped;

	area = fresh(PAGES * PAGE);
	VERIFY(pthread_barrier_init(&barrier, NULL, 4) == 0);
	VERIFY(pthread_create(&m, NULL, mapper, NULL) == 0);
	for (long i = 0; i < 4; i++)
		VERIFY(pthread_create(&t[i], NULL, toucher, (void *)i) == 0);
	for (int i = 0; i < 4; i++)
		VERIFY(pthread_join(t[i], NULL) == 0);
	stop = true;
	VERIFY(pthread_join(m, &mapped) == 0);
	printf("mapper worked: %d, area zero after DONTNEED: %d\n", (int)(long)mapped, all_zero(area, PAGES * PAGE));
	return 0;
}
