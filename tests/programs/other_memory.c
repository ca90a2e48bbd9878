/* One process's view of another's memory: process_vm_readv and writev, /proc/PID/mem, ptrace-free. */
#include "guest.h"
#include <sys/prctl.h>
#include <sys/uio.h>

/* The same file takes several buffers at once, at a place given with the call or at its own. */
static void by_vectors(int fd, char *at)
{
	char in[8] = "abcdefg", out[9] = { 0 };
	struct iovec give[3] = { { in, 3 }, { nowhere(), 0 }, { in + 3, 5 } }, take[2] = { { out, 2 }, { out + 2, 6 } };

	SHOWN(pwritev(fd, give, 3, (off_t)(uintptr_t)at));
	SHOWN(preadv(fd, take, 2, (off_t)(uintptr_t)at));
	printf("%s\n", out);
	VERIFY(lseek(fd, (off_t)(uintptr_t)(at + 1), SEEK_SET) == (off_t)(uintptr_t)(at + 1));
	SHOWN(writev(fd, take, 1));
	SHOWN(readv(fd, take, 2));
	printf("%s\n", out);
	take[1].iov_base = nowhere();
	SHOWN(preadv(fd, take, 2, (off_t)(uintptr_t)at));
	SHOWN(preadv(fd, take, 2, -1));
	SHOWN(preadv(fd, take, 0, (off_t)(uintptr_t)at));
	SHOWN(preadv(fd, take, 2, (off_t)(uintptr_t)(at + 11 * PAGE)));
}

int main(void)
{
	char *area = fresh(20 * PAGE), *mine = fresh(20 * PAGE), path[64];
	struct iovec local[2] = {{mine, 100}, {mine + 3 * PAGE, 9 * PAGE}}, remote[2] = {{area + 50, 200}, {area + 4 * PAGE, 12 * PAGE}};
	struct iovec nothing = {nowhere(), 100}, one = {mine, 100};
	int to[2], from[2], fd;
	char c = 0;
	pid_t pid;

	prctl(PR_SET_DUMPABLE, 1);
	VERIFY(pipe(to) == 0 && pipe(from) == 0);
	pid = fork();
	if (pid == 0) {
		close(to[1]);
		for (size_t i = 0; i < 20 * PAGE; i++)
			area[i] = (char)(i / 100);
		VERIFY(munmap(area + 18 * PAGE, PAGE) == 0 && write(from[1], &c, 1) == 1 && read(to[0], &c, 1) == 1);
		_exit(area[5] == 'w' && area[6 * PAGE] == 'v');
	}
	VERIFY(read(from[0], &c, 1) == 1);
	SHOWN(process_vm_readv(pid, local, 2, remote, 2, 0));
	printf("read: %d %d\n", mine[0] == 0 && mine[60] == 1, digest(mine + 3 * PAGE, 9 * PAGE) != digest(area, 9 * PAGE));
	printf("digest %016lx\n", digest(mine, 20 * PAGE));
	remote[0] = (struct iovec){area + 17 * PAGE + 4000, 200};
	SHOWN(process_vm_readv(pid, &one, 1, remote, 1, 0));
	remote[0] = (struct iovec){area + 17 * PAGE + 4090, 20};
	SHOWN(process_vm_readv(pid, &one, 1, remote, 1, 0));
	SHOWN(process_vm_readv(pid, &one, 1, &nothing, 1, 0));
	SHOWN(process_vm_readv(pid, &nothing, 1, &one, 1, 0));
	SHOWN(process_vm_readv(pid, &one, 1, &one, 1, 7));
	SHOWN(process_vm_readv(0x3ffffff, &one, 1, &one, 1, 0));
	mine[0] = 'w';
	remote[0] = (struct iovec){area + 5, 1};
	SHOWN(process_vm_writev(pid, &one, 1, remote, 1, 0));
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR);
	VERIFY(fd >= 0);
	SHOWN(pread(fd, mine, 10, (off_t)(uintptr_t)(area + 1000)));
	printf("by /proc: %d\n", mine[0]);
	SHOWN(pwrite(fd, "v", 1, (off_t)(uintptr_t)(area + 6 * PAGE)));
	SHOWN(pread(fd, mine, 10, (off_t)(uintptr_t)(area + 18 * PAGE)));
	by_vectors(fd, area + 7 * PAGE);
	VERIFY(write(to[1], &c, 1) == 1);
	VERIFY(waitpid(pid, (int *)mine, 0) == pid);
	printf("the child saw both writes: %d\n", WEXITSTATUS(*(int *)mine));
	return 0;
}
