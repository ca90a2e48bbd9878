/* exec, posix_spawn, vfork and system: how failure is told. */
#include "guest.h"
#include <spawn.h>

extern char **environ;

static void make(const char *path, const void *bytes, size_t n, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	VERIFY(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fchmod(fd, mode) == 0 && close(fd) == 0);
}

static void spawn(const char *path)
{
	char *argv[] = {(char *)path, NULL};
	pid_t pid = 0;
	int status = 0, error = posix_spawn(&pid, path, NULL, NULL, argv, environ);

	if (!error)
		VERIFY(waitpid(pid, &status, 0) == pid);
	printf("posix_spawn %s: %s, status %x\n", path, strerrorname_np(error), status);
}

static void vforked(const char *path)
{
	char *argv[] = {(char *)path, NULL};
	volatile int error = 0;
	pid_t pid = vfork();
	int status;

	if (pid == 0) {
		execv(path, argv);
		error = errno; /* the parent sees this: the memory is shared until exec or exit */
		_exit(9);
	}
	VERIFY(waitpid(pid, &status, 0) == pid);
	printf("vfork %s: %s, status %x\n", path, strerrorname_np(error), status);
}

int main(void)
{
	static const char elf_start[] = "\177ELF\2\1\1", script[] = "#!/nonexistent/interpreter\n", words[] = "exit 5\n";
	char dir[] = "/tmp/quire-guest-XXXXXX", *huge[] = {"x", calloc(1, 3 << 20), NULL};
	char *argv[] = {"x", NULL};

	VERIFY(mkdtemp(dir) && chdir(dir) == 0);
	make("cut", elf_start, sizeof(elf_start), 0700);
	make("script", script, sizeof(script) - 1, 0700);
	make("words", words, sizeof(words) - 1, 0700);
	make("empty", "", 0, 0700);
	make("plain", elf_start, sizeof(elf_start), 0600);
	SHOW(execve("missing", argv, environ));
	SHOW(execve("cut", argv, environ));
	SHOW(execve("script", argv, environ));
	SHOW(execve("words", argv, environ));
	SHOW(execve("empty", argv, environ));
	SHOW(execve("plain", argv, environ));
	SHOW(execve(".", argv, environ));
	SHOW(execve("plain/x", argv, environ));
	SHOW(execve("", argv, environ));
	SHOW(execve(nowhere(), argv, environ));
	SHOW(execve("/bin/true", nowhere(), environ));
	memset(huge[1], 'h', (3 << 20) - 1);
	SHOW(execve("/bin/true", huge, environ));
	spawn("missing");
	spawn("./cut");
	spawn("/bin/false");
	vforked("missing");
	vforked("/bin/true");
	fflush(stdout);
	printf("system: %x %x\n", (unsigned)system("exit 3"), (unsigned)system("nonexistent-command 2>/dev/null"));
	printf("execvp runs words by the shell: %x\n", (unsigned)system("./words"));
	VERIFY(unlink("cut") == 0 && unlink("script") == 0 && unlink("words") == 0 && unlink("empty") == 0 &&
	       unlink("plain") == 0 && chdir("/") == 0 && rmdir(dir) == 0);
	return 0;
}
