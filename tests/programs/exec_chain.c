/*
 * Executes itself in every form, handing a counter on: by path, by descriptor, by a script, from a threaded program, with
 * much argument and environment; checks what must survive exec and what must not.
 */
#include "guest.h"

static char self[4096];
static const char *const stages[] = {"path", "descriptor", "script", "threads", "big", "end"};

static void again(const char *stage, char **env)
{
	char *argv[] = {"chain", (char *)stage, NULL};

	fflush(stdout);
	execve(self, argv, env);
	VERIFY(false);
}

static void by_script(char **env)
{
	char path[] = "/tmp/quire-guest-XXXXXX", line[4200];
	char *argv[] = {path, "threads", NULL};
	int fd = mkstemp(path), n = snprintf(line, sizeof(line), "#!%s script-arg\n", self);

	VERIFY(fd >= 0 && write(fd, line, (size_t)n) == n && fchmod(fd, 0700) == 0 && close(fd) == 0);
	fflush(stdout);
	execve(path, argv, env);
	VERIFY(false);
}

static void *never_ends(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

static void from_threads(char **env)
{
	pthread_t t;

	for (int i = 0; i < 3; i++)
		VERIFY(pthread_create(&t, NULL, never_ends, NULL) == 0);
	again("big", env);
}

static void big(void)
{
	size_t n = 2000;
	char **argv = calloc(n + 3, sizeof(*argv)), *env[] = {malloc(100001), NULL};

	memset(env[0], 'e', 100000);
	memcpy(env[0], "BIG=", 4);
	env[0][100000] = 0;
	argv[0] = "chain";
	argv[1] = "end";
	for (size_t i = 0; i < n; i++)
		VERIFY(asprintf(&argv[i + 2], "argument-%zu-%0*d", i, (int)(i % 90), 0) > 0);
	fflush(stdout);
	execve(self, argv, env);
	VERIFY(false);
}

static void state_now(const char *stage)
{
	struct sigaction usr1, usr2;
	sigset_t mask;

	sigaction(SIGUSR1, NULL, &usr1);
	sigaction(SIGUSR2, NULL, &usr2);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	printf("%s: handler reset %d, ignored kept %d, mask kept %d, fd 50 %s, fd 51 %s, env %s\n", stage,
	       usr1.sa_handler == SIG_DFL, usr2.sa_handler == SIG_IGN, sigismember(&mask, SIGTERM),
	       fcntl(50, F_GETFD) == -1 ? "closed" : "open", fcntl(51, F_GETFD) == -1 ? "closed" : "open",
	       getenv("CHAIN") ? getenv("CHAIN") : "none");
}

static void nothing(int sig)
{
}

int main(int argc, char **argv)
{
	char *env[] = {"CHAIN=yes", "PATH=/usr/bin:/bin", NULL};
	const char *stage = argc > 1 ? argv[1] : "start";
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	sigset_t term;

	VERIFY(n > 0);
	self[n] = 0;
	if (strcmp(stage, "script-arg") == 0) { /* argv: self, script-arg, path of the script, threads */
		printf("script: %d arguments, last %s\n", argc, argv[argc - 1]);
		unlink(argv[2]);
		stage = argv[3];
	}
	state_now(stage);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	signal(SIGUSR1, nothing);
	signal(SIGUSR2, SIG_IGN);
	VERIFY(dup3(1, 50, O_CLOEXEC) == 50 && dup2(1, 51) == 51);
	if (strcmp(stage, "start") == 0)
		again(stages[0], env);
	if (strcmp(stage, "path") == 0)
		again("descriptor", env);
	if (strcmp(stage, "descriptor") == 0) {
		char *next[] = {"chain", "script", NULL};

		fflush(stdout);
		fexecve(open(self, O_RDONLY | O_CLOEXEC), next, env);
	}
	if (strcmp(stage, "script") == 0)
		by_script(env);
	if (strcmp(stage, "threads") == 0)
		from_threads(env);
	if (strcmp(stage, "big") == 0)
		big();
	printf("%d arguments, last %s, environment %zu\n", argc, argv[argc - 1], strlen(getenv("BIG")));
	return 23;
}
