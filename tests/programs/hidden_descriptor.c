/* A number that nobody has opened does not exist, whatever is asked of it.  (The machine keeps a descriptor of its own there.) */
#include "guest.h"
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#define HIDDEN 1021

static long by_path(const char *form, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), form, HIDDEN);
	return open(path, flags);
}

int main(void)
{
	int other = temp_file(PAGE), pipes[2], ep = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	struct iovec iov = {&event, sizeof(event)};
	struct statfs fs;
	struct stat st;
	char buf[100];
	long n;

	VERIFY(other >= 0 && pipe(pipes) == 0 && ep >= 0);
	SHOW(dup(HIDDEN));
	SHOW(dup2(HIDDEN, 40));
	SHOW(dup3(HIDDEN, 41, 0));
	SHOW(fcntl(HIDDEN, F_DUPFD, 0));
	SHOW(fcntl(HIDDEN, F_GETFD));
	SHOW(fcntl(HIDDEN, F_SETFL, 0));
	SHOW(close(HIDDEN));
	SHOW(fstat(HIDDEN, &st));
	SHOW(fstatat(HIDDEN, "", &st, AT_EMPTY_PATH));
	SHOW(fstatfs(HIDDEN, &fs));
	SHOW(read(HIDDEN, buf, 10));
	SHOW(write(HIDDEN, buf, 10));
	SHOW(pwrite(HIDDEN, buf, 10, 0));
	SHOW(writev(HIDDEN, &iov, 1));
	SHOW(ftruncate(HIDDEN, 0));
	SHOW(fallocate(HIDDEN, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20));
	SHOW(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, HIDDEN, 0));
	SHOW(sendfile(HIDDEN, other, NULL, 10));
	SHOW(splice(pipes[0], NULL, HIDDEN, NULL, 10, 0));
	SHOW(copy_file_range(other, NULL, HIDDEN, NULL, 10, 0));
	SHOW(ioctl(HIDDEN, FIONREAD, &n));
	SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, HIDDEN, &event));
	SHOW(by_path("/proc/self/fd/%d", O_RDWR));
	SHOW(by_path("/dev/fd/%d", O_RDWR));
	SHOW(by_path("/proc/thread-self/fd/%d", O_RDWR));
	SHOW(by_path("/proc/self/fdinfo/%d", O_RDONLY));
	SHOW(by_path("/proc/self/../self/fd/%d", O_RDWR));
	SHOW(access("/proc/self/fd/1021", F_OK));
	SHOW(readlink("/proc/self/fd/1021", buf, 100));
	SHOW(truncate("/proc/self/fd/1021", 0));
	SHOW(chmod("/proc/self/fd/1021", 0));
	SHOW(linkat(HIDDEN, "", AT_FDCWD, "/tmp/quire-guest-link", AT_EMPTY_PATH));
	SHOW(syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, getpid(), 0), HIDDEN, 0));
	SHOW(syscall(SYS_execveat, HIDDEN, "", (char *[]){"x", NULL}, (char *[]){NULL}, AT_EMPTY_PATH));
	VERIFY(all_zero(fresh(1000 * PAGE), 1000 * PAGE));
	return 0;
}
