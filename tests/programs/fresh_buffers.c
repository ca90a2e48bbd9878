/* Calls that write into memory never touched before, across a page boundary, copy-on-write or shared: all must arrive. */
#include "guest.h"
#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/un.h>
#include <sys/utsname.h>

static char *base;
static size_t used;

/* n bytes of memory that no page table knows yet, straddling two pages. */
static void *straddle(size_t n)
{
	size_t pages = (n + PAGE - 1) / PAGE + 2;
	char *p = base + used + PAGE - n % PAGE / 2;

	used += pages * PAGE;
	VERIFY(used <= 4096 * PAGE);
	return (void *)((uintptr_t)p & ~7ul);
}

static void names(void)
{
	char *cwd = straddle(4096), *link = straddle(4096), *entries = straddle(32768);
	struct utsname *uts = straddle(sizeof(*uts));
	struct stat *st = straddle(sizeof(*st));
	struct statfs *fs = straddle(sizeof(*fs));
	struct statx *sx = straddle(sizeof(*sx));
	int dir = open("/", O_RDONLY | O_DIRECTORY), etc = 0;
	char path[64];
	long n;

	VERIFY(chdir("/usr/bin") == 0 && syscall(SYS_getcwd, cwd, 4096) > 0);
	printf("getcwd: %s\n", cwd);
	snprintf(path, sizeof(path), "/tmp/quire-guest-link-%d", getpid());
	VERIFY(symlink("/some/where/else", path) == 0);
	n = readlink(path, link, 4096);
	VERIFY(unlink(path) == 0);
	printf("readlink: %.*s\n", (int)n, link);
	VERIFY(uname(uts) == 0);
	printf("uname: %s %s\n", uts->sysname, uts->machine);
	VERIFY(stat("/usr/bin/env", st) == 0 && S_ISREG(st->st_mode));
	VERIFY(statx(AT_FDCWD, "/usr/bin/env", 0, STATX_ALL, sx) == 0);
	printf("stat: %d %d\n", st->st_size > 10000, sx->stx_size == (uint64_t)st->st_size);
	VERIFY(fstat(dir, st) == 0 && S_ISDIR(st->st_mode) && statfs("/", fs) == 0);
	printf("statfs: %d\n", fs->f_bsize > 0);
	while ((n = syscall(SYS_getdents64, dir, entries, 32768)) > 0)
		for (long at = 0; at < n; at += ((struct dirent *)(entries + at))->d_reclen)
			etc += strcmp(((struct dirent *)(entries + at))->d_name, "etc") == 0;
	printf("getdents: /etc found %d\n", etc);
}

static void clocks(void)
{
	struct timespec *t = straddle(sizeof(*t)), *t2 = straddle(sizeof(*t2));
	struct timeval *tv = straddle(sizeof(*tv));
	struct tms *tms = straddle(sizeof(*tms));
	struct rusage *usage = straddle(sizeof(*usage));
	struct rlimit *limit = straddle(sizeof(*limit));
	struct itimerval *it = straddle(sizeof(*it));
	struct sysinfo *info = straddle(sizeof(*info));

	VERIFY(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, t) == 0 && clock_gettime(CLOCK_MONOTONIC, t2) == 0);
	printf("clocks agree: %d\n", t2->tv_sec - t->tv_sec <= 1 && t->tv_sec > 0);
	VERIFY(syscall(SYS_gettimeofday, tv, NULL) == 0 && tv->tv_sec > 1600000000);
	VERIFY(times(tms) != -1 && getrusage(RUSAGE_SELF, usage) == 0 && usage->ru_maxrss > 0);
	VERIFY(getrlimit(RLIMIT_NOFILE, limit) == 0 && limit->rlim_cur > 10);
	VERIFY(syscall(SYS_prlimit64, 0, RLIMIT_STACK, NULL, limit) == 0 && getitimer(ITIMER_REAL, it) == 0);
	VERIFY(it->it_value.tv_sec == 0 && sysinfo(info) == 0 && info->totalram > 0);
	printf("clocks, usage, limits, timers arrived\n");
}

static void descriptors(void)
{
	int *fds = straddle(8), *sv = straddle(8), ev = eventfd(5, 0), ep = epoll_create1(0), tfd, n;
	uint64_t *count = straddle(8);
	struct epoll_event *events = straddle(16 * sizeof(*events)), *add = straddle(sizeof(*add));
	struct pollfd *p = straddle(2 * sizeof(*p));
	fd_set *set = straddle(sizeof(*set));
	struct itimerspec *its = straddle(sizeof(*its));
	socklen_t *len = straddle(4);
	int *option = straddle(4);
	struct sockaddr_un *name = straddle(sizeof(*name));

	VERIFY(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
	VERIFY(read(ev, count, 8) == 8);
	printf("eventfd: %d\n", (int)*count);
	add->events = EPOLLIN;
	add->data.u64 = 0x1122334455667788;
	VERIFY(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], add) == 0 && write(fds[1], "x", 1) == 1);
	n = epoll_wait(ep, events, 16, -1);
	printf("epoll_wait: %d, %d\n", n, events[0].data.u64 == 0x1122334455667788);
	p[0] = (struct pollfd){fds[0], POLLIN, 0};
	p[1] = (struct pollfd){sv[0], POLLIN | POLLOUT, 0};
	n = poll(p, 2, -1);
	printf("poll: %d %x %x\n", n, p[0].revents, p[1].revents);
	FD_ZERO(set);
	FD_SET(fds[0], set);
	FD_SET(sv[0], set);
	n = select(fds[0] + 10, set, NULL, NULL, NULL);
	printf("select: %d %d %d\n", n, FD_ISSET(fds[0], set) != 0, FD_ISSET(sv[0], set) != 0);
	tfd = timerfd_create(CLOCK_MONOTONIC, 0);
	its->it_value.tv_nsec = 1000000;
	VERIFY(timerfd_settime(tfd, 0, its, NULL) == 0 && read(tfd, count, 8) == 8);
	printf("timerfd: %d\n", *count >= 1);
	*len = 4;
	VERIFY(getsockopt(sv[0], SOL_SOCKET, SO_TYPE, option, len) == 0);
	printf("getsockopt: %d %u\n", *option == SOCK_STREAM, *len);
	*len = sizeof(*name);
	VERIFY(getsockname(sv[0], (struct sockaddr *)name, len) == 0);
	printf("getsockname: %d %u\n", name->sun_family == AF_UNIX, *len);
}

static void signals(void)
{
	struct sigaction *sa = straddle(sizeof(*sa)), *old = straddle(sizeof(*old));
	sigset_t *set = straddle(sizeof(*set)), *pending = straddle(sizeof(*pending));
	siginfo_t *info = straddle(sizeof(*info));
	stack_t *ss = straddle(sizeof(*ss));

	sa->sa_handler = SIG_IGN;
	VERIFY(sigaction(SIGUSR1, sa, old) == 0 && old->sa_handler == SIG_DFL && sigaction(SIGUSR1, NULL, old) == 0);
	printf("sigaction: %d\n", old->sa_handler == SIG_IGN);
	sigemptyset(set);
	sigaddset(set, SIGUSR2);
	VERIFY(sigprocmask(SIG_BLOCK, set, NULL) == 0 && kill(getpid(), SIGUSR2) == 0 && sigpending(pending) == 0);
	printf("sigpending: %d\n", sigismember(pending, SIGUSR2));
	VERIFY(sigwaitinfo(set, info) == SIGUSR2 && sigaltstack(NULL, ss) == 0);
	printf("sigwaitinfo: from me %d; sigaltstack: %d\n", info->si_pid == getpid(), ss->ss_flags == SS_DISABLE);
}

/* Copy-on-write and file-backed destinations. */
static void special_places(void)
{
	int fd = temp_file(3 * PAGE), status;
	char *f = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), *cow = straddle(3 * PAGE);
	int zero = open("/dev/zero", O_RDWR);
	char *z = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
	pid_t pid;

	memset(cow, 7, 3 * PAGE);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		VERIFY(pread(fd, cow, 3 * PAGE, 0) == 3 * PAGE && (unsigned char)cow[2 * PAGE] == 2);
		_exit(memcmp(cow, f, 3 * PAGE) != 0);
	}
	VERIFY(waitpid(pid, &status, 0) == pid);
	printf("read over shared pages: child %d, parent keeps %d\n", status, cow[0] == 7 && cow[3 * PAGE - 1] == 7);
	VERIFY(pread(fd, f + 100, PAGE, PAGE) == PAGE);
	printf("read into a private file mapping: %d\n", (unsigned char)f[100] == 1);
	printf("/dev/zero mapped: %d\n", all_zero(z, PAGE));
	VERIFY(read(zero, cow, 2 * PAGE) == 2 * PAGE);
	printf("read of /dev/zero: %d %d\n", all_zero(cow, 2 * PAGE), cow[2 * PAGE] == 7);
	z[5] = 1;
	printf("and written: %d\n", z[5]);
}

int main(void)
{
	base = fresh(4096 * PAGE);
	names();
	clocks();
	descriptors();
	signals();
	special_places();
	return 0;
}
