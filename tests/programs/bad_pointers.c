/* EFAULT where Linux gives it, from calls of every kind, and no side effect lost. */
#include "guest.h"
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>

int main(void)
{
	char *p = fresh(4 * PAGE), *bad = nowhere(), *ro, buf[100] = "";
	struct iovec iov[2] = {{buf, 10}, {bad, 10}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	int fds[2], sv[2], fd = temp_file(2 * PAGE);

	VERIFY(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) == 0);
	VERIFY(munmap(p + PAGE, PAGE) == 0 && mprotect(p + 2 * PAGE, PAGE, PROT_READ) == 0);
	ro = p + 2 * PAGE;
	VERIFY(write(fds[1], "0123456789", 10) == 10);
	SHOWN(read(fds[0], bad, 5));
	SHOWN(read(fds[0], ro, 5));
	SHOWN(read(fds[0], buf, 5));
	printf("nothing was lost: %.5s\n", buf);
	SHOWN(write(fds[1], bad, 5));
	SHOWN(write(fds[1], p + PAGE - 3, 3));
	SHOWN(pread(fd, p + PAGE - 100, 200, 0));
	SHOWN(pread(fd, bad, 100, 0));
	SHOWN(pwrite(fd, p + PAGE - 100, 200, 0));
	SHOWN(readv(fds[0], (struct iovec *)bad, 1));
	SHOWN(pwritev(fd, iov, 2, 0));
	SHOWN(sendmsg(sv[0], &msg, 0));
	SHOWN(sendmsg(sv[0], (struct msghdr *)bad, 0));
	SHOWN(send(sv[0], "datagram", 8, 0));
	SHOWN(recv(sv[1], buf, 100, MSG_DONTWAIT));
	SHOWN(open(bad, O_RDONLY));
	SHOWN(syscall(SYS_newfstatat, AT_FDCWD, "/", bad, 0));
	SHOWN(syscall(SYS_newfstatat, AT_FDCWD, bad, buf, 0));
	SHOWN(readlink("/proc/self/exe", bad, 100));
	SHOWN(readlink("/proc/self/exe", ro, 100));
	SHOWN(syscall(SYS_getcwd, bad, 100));
	SHOWN(uname((struct utsname *)ro));
	SHOWN(pipe((int *)bad));
	SHOWN(poll((struct pollfd *)bad, 1, 0));
	SHOWN(syscall(SYS_select, 1, bad, NULL, NULL, NULL));
	SHOWN(syscall(SYS_nanosleep, bad, NULL));
	SHOWN(syscall(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, bad));
	SHOWN(syscall(SYS_rt_sigaction, SIGUSR1, bad, NULL, 8));
	SHOWN(syscall(SYS_rt_sigaction, SIGUSR1, NULL, ro, 8));
	SHOWN(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8));
	SHOWN(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 4));
	SHOWN(syscall(SYS_sigaltstack, bad, NULL));
	SHOWN(getrlimit(RLIMIT_NOFILE, (struct rlimit *)ro));
	SHOWN(setrlimit(RLIMIT_NOFILE, (struct rlimit *)bad));
	SHOWN(syscall(SYS_getrandom, bad, 10, 0));
	SHOWN(syscall(SYS_execve, bad, NULL, NULL));
	SHOWN(bind(sv[0], (struct sockaddr *)bad, 16));
	SHOWN(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, bad));
	SHOWN(syscall(SYS_wait4, -1, bad, 0, NULL));
	SHOWN(syscall(SYS_set_robust_list, p, 1));
	SHOWN(syscall(SYS_gettimeofday, bad, NULL));
	SHOWN(syscall(SYS_setitimer, ITIMER_REAL, bad, NULL));
	SHOWN(process_vm_readv(getpid(), iov, 1, iov + 1, 1, 0));
	return 0;
}
