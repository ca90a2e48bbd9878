/* A call that waits with a buffer in hand while its pages are shared by fork, protected or given back. */
#include "guest.h"
#include <sys/socket.h>

static int sv[2];
static char *area;

static void *receiver(void *arg)
{
	size_t *n = arg;

	*n = (size_t)recv(sv[0], area, 3 * PAGE, 0);
	return NULL;
}

static void round_of(const char *what, void (*meanwhile)(void))
{
	char data[5000];
	pthread_t t;
	size_t n = 0;

	area = fresh(3 * PAGE);
	memset(area, 1, 3 * PAGE);
	memset(data, 'd', sizeof(data));
	VERIFY(pthread_create(&t, NULL, receiver, &n) == 0);
	sleep_ms(20);
	meanwhile();
	VERIFY(send(sv[1], data, sizeof(data), 0) == sizeof(data));
	VERIFY(pthread_join(t, NULL) == 0);
	if (n == (size_t)-1)
		printf("%s: not received\n", what);
	else
		printf("%s: %zu bytes, first %c, last %c, behind %d\n", what, n, area[0], area[n - 1], area[n]);
	munmap(area, 3 * PAGE);
}

static void nothing(void)
{
}

static void forks(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		bool old = true;

		sleep_ms(50);
		for (size_t i = 0; i < 3 * PAGE; i++)
			old &= area[i] == 1;
		_exit(old ? 0 : 1);
	}
	(void)status;
}

static void writes_after_fork(void)
{
	forks();
	memset(area + PAGE, 3, 100);
}

static void maps_and_unmaps(void)
{
	for (int i = 0; i < 100; i++) {
		char *p = fresh(50 * PAGE);

		memset(p, 2, 50 * PAGE);
		VERIFY(munmap(p, 50 * PAGE) == 0);
	}
}

int main(void)
{
	int status, children = 0, clean = 0;

	VERIFY(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) == 0);
	round_of("alone", nothing);
	round_of("fork meanwhile", forks);
	round_of("fork and write meanwhile", writes_after_fork);
	round_of("much mapping meanwhile", maps_and_unmaps);
	while (wait(&status) > 0) {
		children++;
		clean += status == 0;
	}
	printf("children that saw the old bytes: %d of %d\n", clean, children);
	return 0;
}
