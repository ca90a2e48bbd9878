/* pthreads: mutexes, condition variables, barriers, thread-local storage, once, keys, cancellation, robust joins. */
#include "guest.h"

#define N 8
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static __thread int local = 5;
static long counter, turns, destroyed, onced;

static void destroy(void *p)
{
	__atomic_fetch_add(&destroyed, (long)p, __ATOMIC_RELAXED);
}

static void run_once(void)
{
	onced++;
}

static void *worker(void *arg)
{
	long me = (long)arg;

	pthread_once(&once, run_once);
	VERIFY(local == 5 && pthread_setspecific(key, (void *)me) == 0);
	local = (int)me;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
	}
	pthread_barrier_wait(&barrier);
	/* In turn: thread 0, 1, 2, ... */
	pthread_mutex_lock(&lock);
	while (turns != me)
		pthread_cond_wait(&cond, &lock);
	printf("turn of %ld\n", me);
	turns++;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	VERIFY(local == (int)me);
	return (void *)(me * me);
}

static void *waits_for_ever(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

int main(void)
{
	struct timespec past = {1, 0};
	pthread_t t[N];
	void *result;
	long sum = 0;

	VERIFY(pthread_key_create(&key, destroy) == 0 && pthread_barrier_init(&barrier, NULL, N) == 0);
	for (long i = 0; i < N; i++)
		VERIFY(pthread_create(&t[i], NULL, worker, (void *)i) == 0);
	for (int i = 0; i < N; i++) {
		VERIFY(pthread_join(t[i], &result) == 0);
		sum += (long)result;
	}
	printf("counter %ld, squares %ld, destroyed %ld, once %ld, local %d\n", counter, sum, destroyed, onced, local);
	pthread_mutex_lock(&lock);
	printf("timed wait: %s\n", strerrorname_np(pthread_cond_timedwait(&cond, &lock, &past)));
	printf("timed lock: %s\n", strerrorname_np(pthread_mutex_timedlock(&lock, &past)));
	VERIFY(pthread_create(&t[0], NULL, waits_for_ever, NULL) == 0 && pthread_cancel(t[0]) == 0);
	VERIFY(pthread_join(t[0], &result) == 0);
	printf("cancelled: %d\n", result == PTHREAD_CANCELED);
	return 0;
}
