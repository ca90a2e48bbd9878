/* Many short threads, each with fresh stack memory, some detached; the last main thread exits by pthread_exit. */
#include "guest.h"

static long done;

static void *brief(void *arg)
{
	char stack[20000];

	memset(stack, (int)(long)arg, sizeof(stack));
	VERIFY(stack[10000] == (char)(long)arg);
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
	return arg;
}

static void *last(void *arg)
{
	sleep_ms(50);
	while (__atomic_load_n(&done, __ATOMIC_SEQ_CST) < 600)
		sleep_ms(1);
	printf("threads done: %ld\n", done);
	fflush(stdout);
	exit(7);
}

int main(void)
{
	pthread_t t[50];
	void *r;

	for (int round = 0; round < 10; round++) {
		for (long i = 0; i < 50; i++)
			VERIFY(pthread_create(&t[i], NULL, brief, (void *)i) == 0);
		for (long i = 0; i < 50; i++)
			VERIFY(pthread_join(t[i], &r) == 0 && (long)r == i);
	}
	for (long i = 0; i < 100; i++) {
		VERIFY(pthread_create(&t[0], NULL, brief, (void *)i) == 0);
		VERIFY(pthread_detach(t[0]) == 0);
	}
	VERIFY(pthread_create(&t[0], NULL, last, NULL) == 0);
	pthread_exit(NULL);
}
