/*
 * Processes of many kinds that are killed (-9) at random moments, by their parent or by somebody outside (tests/hosted/deaths.py): they
 * fault, fork, execute, run threads, map and write files, share memory, wait for locks.
 *
 * short_lives CHILDREN DEATHS inside|outside
 * Prints /proc/meminfo after the first quarter of the deaths (until then the machine's caches of objects fill) and after all of them,
 * with nobody alive, between lines "before", "after" and "end".
 */
#include "guest.h"
#include <spawn.h>
#include <sys/prctl.h>

#define KINDS 7
static char self[4096];
static pthread_mutex_t *shared_lock; /* robust, process-shared */
static uint64_t rng = 7;

static void touch(uint64_t *seed, size_t most)
{
	size_t n = 1 + next_random(seed) % most;
	char *p = fresh(n * PAGE), *moved;

	for (size_t i = 0; i < n; i++)
		p[i * PAGE] = (char)i;
	if (n <= 2) {
		munmap(p, n * PAGE);
		return;
	}
	VERIFY(mprotect(p, PAGE, PROT_READ) == 0);
	moved = mremap(p + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	VERIFY(moved != MAP_FAILED && moved[0] == 1 && moved[PAGE] == 0);
	for (size_t i = 2; i < n; i++)
		VERIFY(p[i * PAGE] == (char)i);
	/* Not the page that moved: by now another thread may have mapped something there. */
	munmap(moved, 2 * PAGE);
	munmap(p, PAGE);
	munmap(p + 2 * PAGE, (n - 2) * PAGE);
}

static void *touches(void *arg)
{
	uint64_t seed = (uint64_t)arg;

	for (;;)
		touch(&seed, 50);
	return NULL;
}

static void forks(uint64_t *seed)
{
	char *p = fresh(20 * PAGE);

	memset(p, 1, 20 * PAGE);
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			memset(p, 2, PAGE * (1 + next_random(seed) % 20));
			_exit(0);
		}
		if (pid > 0)
			waitpid(pid, NULL, 0);
	}
}

static void executes(void)
{
	char *argv[] = {self, "once", NULL}, *env[] = {NULL};
	pid_t pid;

	for (;;)
		if (posix_spawn(&pid, self, NULL, NULL, argv, env) == 0)
			waitpid(pid, NULL, 0);
}

static void *executes_again(void *arg)
{
	sleep_ms(1);
	execl(self, self, "threads", (char *)NULL);
	return arg;
}

static void threads(uint64_t seed, bool again)
{
	pthread_t t;

	for (int i = 0; i < 3; i++)
		pthread_create(&t, NULL, touches, (void *)next_random(&seed));
	if (again)
		pthread_create(&t, NULL, executes_again, NULL);
	touches((void *)next_random(&seed));
}

static void files(uint64_t *seed)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600); /* no name: nobody could remove it after a kill */

	if (fd < 0 || ftruncate(fd, 16 * PAGE))
		_exit(1);

	for (;;) {
		char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, next_random(seed) % 2 ? MAP_SHARED : MAP_PRIVATE, fd, 0);

		VERIFY(p != MAP_FAILED);
		for (int i = 0; i < 16; i++)
			p[next_random(seed) % (16 * PAGE)]++;
		if (next_random(seed) % 4 == 0)
			msync(p, 16 * PAGE, MS_SYNC);
		munmap(p, 16 * PAGE);
		VERIFY(pread(fd, self + 2048, 100, 0) == 100);
	}
}

static void locks(uint64_t *seed)
{
	for (;;) {
		int r = pthread_mutex_lock(shared_lock);

		VERIFY(r == 0 || r == EOWNERDEAD);
		if (r == EOWNERDEAD)
			pthread_mutex_consistent(shared_lock);
		touch(seed, 10);
		pthread_mutex_unlock(shared_lock);
	}
}

static void live(unsigned kind, uint64_t seed)
{
	switch (kind) {
	case 0: touches((void *)seed); break;
	case 1: forks(&seed); break;
	case 2: executes(); break;
	case 3: threads(seed, false); break;
	case 4: threads(seed, true); break;
	case 5: files(&seed); break;
	default: locks(&seed); break;
	}
}

static pid_t start(unsigned kind)
{
	uint64_t seed = next_random(&rng);
	pid_t pid = fork();

	VERIFY(pid >= 0);
	if (pid == 0)
		live(kind, seed);
	return pid;
}

static void show(const char *when)
{
	char buf[4096];
	int fd = open("/proc/meminfo", O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	VERIFY(n > 0 && close(fd) == 0);
	buf[n] = 0;
	printf("%s\n%send\n", when, buf);
	fflush(stdout);
}

static pid_t children[64];
static unsigned kinds[64];

static void start_all(int n)
{
	for (int i = 0; i < n; i++) {
		kinds[i] = (unsigned)i % KINDS;
		children[i] = start(kinds[i]);
	}
}

/* A machine gives the memory of who was killed back a little after the parent knows; until then it has the process in its /proc. */
static void wait_forgotten(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	for (int ms = 0; ms < 60000 && (fd = open(path, O_RDONLY)) >= 0; ms++) {
		close(fd);
		sleep_ms(1);
	}
}

/* What they forked comes to us, and ends by itself. */
static void end_all(int n)
{
	pid_t pid;

	for (int i = 0; i < n; i++)
		kill(children[i], SIGKILL);
	while ((pid = waitpid(-1, NULL, 0)) > 0)
		wait_forgotten(pid);
	sleep_ms(100);
}

/* The index of the next child that is dead. */
static int wait_child(int n, int *status)
{
	for (;;) {
		pid_t pid = waitpid(-1, status, 0);
		int i;

		VERIFY(pid > 0);
		for (i = 0; i < n; i++)
			if (children[i] == pid)
				return i;
	}
}

static unsigned deaths_until(int n, unsigned wanted, bool inside)
{
	unsigned deaths, other = 0;
	int status, i;

	for (deaths = 0; deaths < wanted; deaths++) {

		if (inside) {
			struct timespec t = {0, (long)(next_random(&rng) % 6000000 >> (next_random(&rng) % 8))};

			nanosleep(&t, NULL);
			kill(children[next_random(&rng) % (uint64_t)n], SIGKILL);
		}
		i = wait_child(n, &status);
		if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
			printf("death %u: status %#x of process %d, kind %u\n", deaths, status, (int)children[i], kinds[i]);
			other++;
		}
		kinds[i] = (unsigned)(next_random(&rng) % KINDS);
		children[i] = start(kinds[i]);
	}
	return other;
}

int main(int argc, char **argv)
{
	int n = argc > 3 ? atoi(argv[1]) : 0;
	ssize_t got = readlink("/proc/self/exe", self, 2047);
	uint64_t seed = (uint64_t)getpid(), before;
	char *mine = fresh(200 * PAGE);
	pthread_mutexattr_t attr;
	unsigned other, wanted;

	VERIFY(got > 0 && n <= 64);
	if (argc > 1 && strcmp(argv[1], "once") == 0)
		return touch(&seed, 20), 0;
	if (argc > 1 && strcmp(argv[1], "threads") == 0)
		threads(seed, true);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	memset(mine, 0x5a, 200 * PAGE);
	before = digest(mine, 200 * PAGE);
	shared_lock = fresh_shared(PAGE);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(shared_lock, &attr);
	wanted = (unsigned)atoi(argv[2]);
	start_all(n);
	printf("go\n");
	fflush(stdout);
	other = deaths_until(n, wanted / 4, strcmp(argv[3], "inside") == 0);
	end_all(n);
	show("before");
	start_all(n);
	other += deaths_until(n, wanted - wanted / 4, strcmp(argv[3], "inside") == 0);
	end_all(n);
	show("after");
	VERIFY(digest(mine, 200 * PAGE) == before);
	printf("deaths %s, of another kind %u\n", argv[2], other);
	return other != 0;
}
