/* PR_SET_MDWE: memory that is writable is not executable, and nothing becomes executable later; who inherits that. */
#include "guest.h"
#include <sys/prctl.h>

#define SET_MDWE 65
#define GET_MDWE 66

static void show_bits(const char *who)
{
	printf("%s: %d\n", who, prctl(GET_MDWE, 0, 0, 0, 0));
}

static void arguments(void)
{
	show_bits("at first");
	SHOW(prctl(GET_MDWE, 1, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 0, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 4, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 2, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 1, 0, 0, 1));
}

static const char *map(int prot, int flags, int fd)
{
	void *p = mmap(NULL, PAGE, prot, flags, fd, 0);

	return p == MAP_FAILED ? strerrorname_np(errno) : "ok";
}

static void denied(int fd)
{
	char *p = fresh(2 * PAGE), *x = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	printf("rwx %s, wx %s, rx %s, rw %s\n", map(7, MAP_PRIVATE | MAP_ANONYMOUS, -1), map(6, MAP_PRIVATE | MAP_ANONYMOUS, -1),
	       map(5, MAP_PRIVATE | MAP_ANONYMOUS, -1), map(3, MAP_PRIVATE | MAP_ANONYMOUS, -1));
	printf("file rwx %s, shared rwx %s\n", map(7, MAP_PRIVATE, fd), map(7, MAP_SHARED | MAP_ANONYMOUS, -1));
	SHOW(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	SHOW(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	SHOW(mprotect(x, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	SHOW(mprotect(x, PAGE, PROT_READ | PROT_EXEC));
	SHOW(mprotect(x, PAGE, PROT_READ));
	SHOW(mprotect(x, PAGE, PROT_READ | PROT_EXEC));
	SHOW(mprotect(x, 2 * PAGE, PROT_EXEC));
}

/* A child by fork, and one by fork and exec, say what they have. */
static void heirs(char **argv)
{
	fflush(stdout);
	if (!fork()) {
		show_bits("child");
		fflush(stdout);
		execl("/proc/self/exe", argv[0], "heir", NULL);
		_exit(1);
	}
	wait(NULL);
}

int main(int argc, char **argv)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	if (argc > 1) {
		show_bits("after exec");
		printf("rwx %s\n", map(7, MAP_PRIVATE | MAP_ANONYMOUS, -1));
		return 0;
	}
	arguments();
	fflush(stdout);
	if (!fork()) { /* without heirs */
		SHOW(prctl(SET_MDWE, 3, 0, 0, 0));
		show_bits("bound alone");
		SHOW(prctl(SET_MDWE, 1, 0, 0, 0));
		printf("rwx %s\n", map(7, MAP_PRIVATE | MAP_ANONYMOUS, -1));
		heirs(argv);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	SHOW(prctl(SET_MDWE, 1, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 1, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 0, 0, 0, 0));
	SHOW(prctl(SET_MDWE, 3, 0, 0, 0));
	show_bits("bound");
	denied(fd);
	heirs(argv);
	return 0;
}
