/* Futexes, raw and by pthreads, private and between processes; robust mutexes whose owner dies. */
#include "guest.h"
#include <linux/futex.h>
#include <semaphore.h>

struct shared {
	pthread_mutex_t mutex, robust;
	pthread_cond_t cond;
	pthread_barrier_t barrier;
	sem_t sem;
	uint32_t word, woken;
	int turn, count;
};
static struct shared *sh;

static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *t, uint32_t *word2, uint32_t value3)
{
	return syscall(SYS_futex, word, op, value, t, word2, value3);
}

static void init(void)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	pthread_barrierattr_t ba;

	sh = fresh_shared(sizeof(*sh));
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	VERIFY(pthread_mutex_init(&sh->mutex, &ma) == 0);
	pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
	VERIFY(pthread_mutex_init(&sh->robust, &ma) == 0);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	VERIFY(pthread_cond_init(&sh->cond, &ca) == 0);
	pthread_barrierattr_init(&ba);
	pthread_barrierattr_setpshared(&ba, PTHREAD_PROCESS_SHARED);
	VERIFY(pthread_barrier_init(&sh->barrier, &ba, 3) == 0 && sem_init(&sh->sem, 1, 0) == 0);
}

static void plays(int me)
{
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&sh->mutex);
		while (sh->turn != me)
			pthread_cond_wait(&sh->cond, &sh->mutex);
		sh->turn = (me + 1) % 3;
		sh->count++;
		pthread_cond_broadcast(&sh->cond);
		pthread_mutex_unlock(&sh->mutex);
	}
	pthread_barrier_wait(&sh->barrier);
	sem_post(&sh->sem);
}

static void between_processes(void)
{
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			plays(i);
			_exit(0);
		}
	for (int i = 0; i < 3; i++)
		VERIFY(sem_wait(&sh->sem) == 0);
	while (wait(NULL) > 0)
		;
	printf("three processes in turn: %d\n", sh->count);
}

static void dies_with_lock(void)
{
	VERIFY(pthread_mutex_lock(&sh->robust) == 0);
	raise(SIGKILL);
}

static void *thread_dies_with_lock(void *arg)
{
	VERIFY(pthread_mutex_lock(&sh->robust) == 0);
	return NULL;
}

static void owner_dead(const char *what)
{
	int r = pthread_mutex_lock(&sh->robust);

	printf("%s: %s", what, strerrorname_np(r));
	if (r == EOWNERDEAD)
		printf(", made consistent: %s", strerrorname_np(pthread_mutex_consistent(&sh->robust)));
	printf(", unlock: %s\n", strerrorname_np(pthread_mutex_unlock(&sh->robust)));
}

static void *raw_waiter(void *arg)
{
	uint32_t *word = arg;

	while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0)
		futex(word, FUTEX_WAIT, 0, NULL, NULL, 0);
	__atomic_fetch_add(&sh->woken, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void raw(void)
{
	struct timespec t = {0, 10000000}, bad = {0, 2000000000};
	uint32_t *word = fresh(PAGE), *word2 = word + 1;
	pthread_t threads[5];

	SHOW(futex(word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0));
	SHOW(futex(word, FUTEX_WAIT, 0, &t, NULL, 0));
	SHOW(futex(word, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
	SHOW(futex(word, FUTEX_WAIT_PRIVATE, 0, &bad, NULL, 0));
	SHOW(futex(word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, NULL, 0));
	SHOW(futex((uint32_t *)((char *)word + 1), FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
	SHOW(futex((uint32_t *)8, FUTEX_WAIT_PRIVATE, 0, &t, NULL, 0));
	SHOW(futex(word, 99, 0, NULL, NULL, 0));
	SHOWN(futex(word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0));
	SHOWN(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, word2, 0));
	SHOW(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, word2, 5));
	for (int i = 0; i < 5; i++)
		VERIFY(pthread_create(&threads[i], NULL, raw_waiter, word) == 0);
	sleep_ms(20);
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	futex(word, FUTEX_WAKE, 100, NULL, NULL, 0);
	for (int i = 0; i < 5; i++)
		VERIFY(pthread_join(threads[i], NULL) == 0);
	printf("woken: %u\n", sh->woken);
}

/* A private futex word that copy-on-write moves to another frame while somebody sleeps on it. */
static void moved_word(void)
{
	uint32_t *word = fresh(PAGE);
	pthread_t t;
	pid_t pid;

	sh->woken = 0;
	VERIFY(pthread_create(&t, NULL, raw_waiter, word) == 0);
	sleep_ms(20);
	pid = fork();
	if (pid == 0) {
		sleep_ms(60);
		_exit(0);
	}
	word[10] = 1; /* breaks the sharing: the word lies elsewhere now */
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&sh->woken, __ATOMIC_SEQ_CST)) {
		futex(word, FUTEX_WAKE, 1, NULL, NULL, 0);
		sleep_ms(1);
	}
	VERIFY(pthread_join(t, NULL) == 0 && waitpid(pid, NULL, 0) == pid);
	printf("woken after the frame changed: %u\n", sh->woken);
}

static uint32_t *lent;
static pthread_t waiter_of_lent;
static volatile sig_atomic_t interrupted;

static void note(int sig, siginfo_t *info, void *context)
{
	interrupted++;
}

static void *holds_lent(void *arg)
{
	VERIFY(futex(lent, FUTEX_LOCK_PI, 0, NULL, NULL, 0) == 0);
	__atomic_store_n(&sh->woken, 1, __ATOMIC_SEQ_CST);
	sleep_ms(30);
	pthread_kill(waiter_of_lent, SIGUSR1);
	sleep_ms(30);
	VERIFY(futex(lent, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) == 0);
	return NULL;
}

/* A wait for a lock that lends priority goes on after any handler, SA_RESTART or not. */
static void priority_lent(void)
{
	struct sigaction sa = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
	pthread_t t;

	sigaction(SIGUSR1, &sa, NULL);
	lent = fresh(PAGE);
	waiter_of_lent = pthread_self();
	sh->woken = 0;
	VERIFY(pthread_create(&t, NULL, holds_lent, NULL) == 0);
	while (!__atomic_load_n(&sh->woken, __ATOMIC_SEQ_CST))
		sleep_ms(1);
	SHOW(futex(lent, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	printf("interrupted: %d\n", interrupted);
	VERIFY(pthread_join(t, NULL) == 0);
}

static void *wakes(void *word)
{
	sleep_ms(30);
	while (futex(word, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
		sleep_ms(1);
	return NULL;
}

/* As many as there may be, each on a page of its own that others share. */
static void most_words(void)
{
	static struct futex_waitv v[128];
	char *at = fresh_shared(COUNT(v) * PAGE);
	pthread_t t;

	for (size_t i = 0; i < COUNT(v); i++)
		v[i] = (struct futex_waitv){.val = 0, .uaddr = (uintptr_t)(at + i * PAGE + 8 * i), .flags = FUTEX_32};
	VERIFY(pthread_create(&t, NULL, wakes, (void *)(uintptr_t)v[127].uaddr) == 0);
	SHOWN(syscall(SYS_futex_waitv, v, 128, 0, NULL, CLOCK_MONOTONIC));
	VERIFY(pthread_join(t, NULL) == 0);
	v[126].val = 1;
	SHOW(syscall(SYS_futex_waitv, v, 128, 0, NULL, CLOCK_MONOTONIC));
}

/* Some words at once, of both kinds; the last one is woken. */
static void many_words(void)
{
	uint32_t *word[4] = {fresh(PAGE), fresh_shared(PAGE), fresh(PAGE), fresh_shared(PAGE)};
	struct futex_waitv v[4];
	struct timespec past = {1, 0};
	pthread_t t;

	for (int i = 0; i < 4; i++)
		v[i] = (struct futex_waitv){.val = 0, .uaddr = (uintptr_t)word[i], .flags = FUTEX_32};
	SHOW(syscall(SYS_futex_waitv, v, 4, 0, &past, CLOCK_MONOTONIC));
	VERIFY(pthread_create(&t, NULL, wakes, word[3]) == 0);
	SHOWN(syscall(SYS_futex_waitv, v, 4, 0, NULL, CLOCK_MONOTONIC));
	VERIFY(pthread_join(t, NULL) == 0);
	VERIFY(pthread_create(&t, NULL, wakes, word[2]) == 0);
	SHOWN(syscall(SYS_futex_waitv, v, 3, 0, NULL, CLOCK_MONOTONIC));
	VERIFY(pthread_join(t, NULL) == 0);
	*word[1] = 5;
	SHOW(syscall(SYS_futex_waitv, v, 4, 0, NULL, CLOCK_MONOTONIC));
	SHOW(syscall(SYS_futex_waitv, v, 0, 0, NULL, CLOCK_MONOTONIC));
	SHOW(syscall(SYS_futex_waitv, v, 129, 0, NULL, CLOCK_MONOTONIC));
	SHOW(syscall(SYS_futex_waitv, v, 4, 1, NULL, CLOCK_MONOTONIC));
	SHOW(syscall(SYS_futex_waitv, v, 4, 0, &past, CLOCK_BOOTTIME));
	SHOW(syscall(SYS_futex_waitv, NULL, 4, 0, NULL, 0));
	v[2].uaddr = 0;
	SHOW(syscall(SYS_futex_waitv, v, 4, 0, NULL, 0));
	v[2].uaddr = (uintptr_t)word[2] + 1;
	SHOW(syscall(SYS_futex_waitv, v, 4, 0, NULL, 0));
}

int main(void)
{
	pthread_t t;

	init();
	between_processes();
	owner_dead("free");
	in_child("owner killed", dies_with_lock);
	owner_dead("after kill");
	VERIFY(pthread_create(&t, NULL, thread_dies_with_lock, NULL) == 0 && pthread_join(t, NULL) == 0);
	owner_dead("after thread's end");
	owner_dead("free again");
	raw();
	moved_word();
	priority_lent();
	many_words();
	most_words();
	return 0;
}
