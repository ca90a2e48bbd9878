/* fork from a program with threads: the child has one thread and a copy of one moment; other threads go on. */
#include "guest.h"

static uint64_t *pairs; /* pairs[2i] == pairs[2i+1], except within one store */
static volatile bool stop;

static void *writer(void *arg)
{
	uint64_t n = 0;

	while (!stop) {
		n++;
		for (size_t i = 0; i < 64; i++) {
			__atomic_store_n(&pairs[i * 512], n, __ATOMIC_SEQ_CST);
			__atomic_store_n(&pairs[i * 512 + 1], n, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

/* A writer that visits many pages in one order, far apart: at any one moment the first k hold n and the others n - 1. */
#define ORDERED 16384u
#define STRIDE 5461u /* odd, so all are visited; a third of the whole, so neighbours in time are far apart in space */
static uint64_t *ordered;

static uint64_t *place(size_t i)
{
	return &ordered[i * STRIDE % ORDERED * 512];
}

static void *ordered_writer(void *arg)
{
	for (uint64_t n = 1; !stop; n++)
		for (size_t i = 0; i < ORDERED; i++)
			__atomic_store_n(place(i), n, __ATOMIC_SEQ_CST);
	return NULL;
}

static bool one_moment(void)
{
	uint64_t first = *place(0);
	size_t i = 0;

	while (i < ORDERED && *place(i) == first)
		i++;
	while (i < ORDERED && *place(i) + 1 == first)
		i++;
	return i == ORDERED;
}

/* However large the copy is, it shows one moment of the other threads' writes. */
static int forks_at_one_moment(int forks)
{
	pthread_t t;
	int status, good = 0;

	stop = false;
	ordered = fresh(ORDERED * PAGE);
	VERIFY(pthread_create(&t, NULL, ordered_writer, NULL) == 0);
	for (int i = 0; i < forks; i++) {
		pid_t pid = fork();

		VERIFY(pid >= 0);
		if (pid == 0)
			_exit(one_moment() ? 11 : 12);
		VERIFY(waitpid(pid, &status, 0) == pid);
		good += WIFEXITED(status) && WEXITSTATUS(status) == 11;
		sleep_ms(5);
	}
	stop = true;
	VERIFY(pthread_join(t, NULL) == 0);
	return good;
}

int main(void)
{
	pthread_t t[2];
	int status, good = 0;

	pairs = fresh(64 * PAGE);
	VERIFY(pthread_create(&t[0], NULL, writer, NULL) == 0);
	for (int i = 0; i < 30; i++) {
		pid_t pid = fork();

		VERIFY(pid >= 0);
		if (pid == 0) {
			uint64_t before = digest(pairs, 64 * PAGE), off = 0;

			for (size_t k = 0; k < 64; k++)
				off += pairs[k * 512] != pairs[k * 512 + 1];
			sleep_ms(2);
			/* Nobody writes here any more; at most one pair was caught half-way. */
			_exit(digest(pairs, 64 * PAGE) == before && off <= 1 ? 11 : 12);
		}
		VERIFY(waitpid(pid, &status, 0) == pid);
		good += WIFEXITED(status) && WEXITSTATUS(status) == 11;
	}
	stop = true;
	VERIFY(pthread_join(t[0], NULL) == 0);
	printf("children with a quiet, consistent copy: %d\n", good);
	printf("children with a copy of one moment: %d of 20\n", forks_at_one_moment(20));
	return 0;
}
