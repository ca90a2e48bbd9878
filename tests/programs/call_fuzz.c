/*
 * Random system calls with random arguments, wild accesses and jumps, deep recursion, bounded fork bombs.
 *
 * call_fuzz DIRECTORY SEED SECONDS [FIRST]
 * A parent keeps two workers running, each from a seed of its own that is printed when QUIRE_FUZZ_VERBOSE is set, kills those that
 * take too long, and checks at the end that its own memory and descriptors are what they were.  FIRST: the first worker's
 * number, to run a certain one again.
 *
 * It must not hurt the host: root becomes nobody first, names are changed only below DIRECTORY and only by names from a table,
 * signals go to the worker itself, and calls whose effect would outlive it (IPC objects, keys, mounts) are left out.
 */
#include "guest.h"
#include <grp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>

#define NOBODY 65534
#define ARENA_PAGES 64ul
#define CALLS_PER_WORKER 4000
#define WORKER_SECONDS 0.8
#define WORKERS 2
#define MAX_FORKS 24 /* of one worker and its children, at a time unknown to them: ever */

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
/* Newer than some headers. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack 453
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static uint64_t rng;
static unsigned char *arena;
static volatile unsigned *forks; /* shared by a worker and what it forks */
static pid_t self;
static bool may_change_names;
static const char *const names[] = {"f0", "f1", "d0", "d0/f2", "d0/d1", "none", "", ".", "link", "/dev/null", "/dev/zero",
				    "/proc/self/maps", "/proc/self/stat", "/proc/self/mem", "/proc/self/fd", "/proc/meminfo",
				    "/proc/self/smaps", "/proc/self/exe", "/proc/self/cwd", "/nonexistent/x"};
static const char *const own_names[] = {"f0", "f1", "d0", "d0/f2", "d0/d1", "link", "none/x"};

static uint64_t rnd(uint64_t below)
{
	return next_random(&rng) % below;
}

/* ---- arguments ---- */

static const uint64_t wild_values[] = {
	0, 1, 8, 0xfff, 0x1000, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x6fffffffffff, 0x6ffffffff000,
	0x700000000000, 0x710000000000, 0x7c0000000000, 0x7c2000000000, 0x7d0000000000, 0x7e0000000000, 0x7e0000001000,
	0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0xffff800000000000, 0xffffffffff600000, 0xfffffffffffff000,
	~0ull, ~7ull, 1ull << 63, 0x7fffffffffffffff,
};

static uint64_t wild(void)
{
	switch (rnd(4)) {
	case 0: return wild_values[rnd(COUNT(wild_values))];
	case 1: return wild_values[rnd(COUNT(wild_values))] + rnd(64) - 32;
	case 2: return next_random(&rng) >> rnd(64);
	default: return rnd(1 << 20);
	}
}

static uint64_t pointer(void)
{
	unsigned long bytes = ARENA_PAGES * PAGE;

	switch (rnd(10)) {
	case 0: case 1: case 2: case 3: case 4: return (uint64_t)arena + rnd(bytes);
	case 5: return (uint64_t)arena + bytes - rnd(64);
	case 6: return ((uint64_t)arena + rnd(bytes)) & ~(PAGE - 1);
	case 7: return (uint64_t)names[rnd(COUNT(names))];
	default: return wild();
	}
}

static uint64_t length(void)
{
	switch (rnd(8)) {
	case 0: return 0;
	case 1: case 2: return rnd(64);
	case 3: case 4: return rnd(4 * PAGE);
	case 5: return rnd(ARENA_PAGES * PAGE * 2);
	default: return wild();
	}
}

static uint64_t pages(void)
{
	return rnd(4) ? (1 + rnd(ARENA_PAGES)) * PAGE : length();
}

static uint64_t descriptor(void)
{
	switch (rnd(12)) {
	case 0: return 1021; /* the machine's own */
	case 1: return 1000 + rnd(40);
	case 2: return wild();
	case 3: return (uint64_t)(int64_t)AT_FDCWD;
	default: return 3 + rnd(24);
	}
}

/* For calls that only look. */
static uint64_t some_path(void)
{
	return rnd(4) ? (uint64_t)names[rnd(COUNT(names))] : pointer();
}

/* A vector of buffers, or rubbish. */
static uint64_t vector(void)
{
	struct iovec *v;

	if (rnd(5) == 0)
		return pointer();
	v = (struct iovec *)(arena + rnd(8) * 256);
	for (int i = 0; i < 8; i++)
		v[i] = (struct iovec){(void *)pointer(), length()};
	return (uint64_t)v;
}

static uint64_t message(void)
{
	struct msghdr *m = (struct msghdr *)(arena + PAGE + rnd(8) * 128);

	if (rnd(4) == 0)
		return pointer();
	*m = (struct msghdr){.msg_name = rnd(2) ? NULL : (void *)pointer(), .msg_namelen = (socklen_t)rnd(200),
			     .msg_iov = (void *)vector(), .msg_iovlen = rnd(10), .msg_control = rnd(2) ? NULL : (void *)pointer(),
			     .msg_controllen = rnd(100)};
	return (uint64_t)m;
}

/* A short time, so that sleeping calls come back. */
static uint64_t short_time(void)
{
	struct timespec *t = (struct timespec *)(arena + 2 * PAGE + rnd(8) * 16);

	if (rnd(6) == 0)
		return pointer();
	*t = (struct timespec){0, (long)rnd(2000000)};
	return (uint64_t)t;
}

static const int ioctls[] = {FIONREAD, FIONBIO, TCGETS, TIOCGWINSZ, FIOCLEX, FIONCLEX, FIOASYNC & 0, TIOCGPGRP, 0x1234};
static const int fcntls[] = {F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_GETLK, F_SETLK, F_OFD_GETLK, F_OFD_SETLK, F_DUPFD_CLOEXEC,
			     F_ADD_SEALS, F_GET_SEALS, F_GETPIPE_SZ, F_SETPIPE_SZ, 77777};
static const int prctls[] = {PR_GET_PDEATHSIG, PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME,
			     PR_GET_SECCOMP, PR_SET_SECCOMP, PR_CAPBSET_READ, PR_GET_TSC, PR_GET_SECUREBITS, PR_GET_TIMERSLACK,
			     PR_SET_TIMERSLACK, PR_SET_MM, PR_GET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS, PR_GET_THP_DISABLE,
			     PR_SET_THP_DISABLE, PR_SET_SYSCALL_USER_DISPATCH, PR_SET_VMA, PR_SET_MDWE, PR_GET_MDWE, 4711};

/* One letter an argument: the table below. */
static uint64_t argument(char kind)
{
	switch (kind) {
	case 'p': return pointer();
	case 'l': return length();
	case 'L': return pages();
	case 'f': return descriptor();
	case 'w': return wild();
	case 'a': return rnd(3) ? ((uint64_t)arena + rnd(ARENA_PAGES + 8) * PAGE) : pointer();
	case 'r': return some_path();
	case 'n': return (uint64_t)own_names[rnd(COUNT(own_names))];
	case 'v': return vector();
	case 'm': return message();
	case 't': return short_time();
	case 'o': return rnd(16) ? rnd(40) : wild();
	case 's': return rnd(16) ? rnd(66) : wild();
	case 'S': return 8;
	case 'k': return rnd(10);
	case 'P': return (uint64_t)self;
	case '0': return 0;
	case 'I': return (uint64_t)ioctls[rnd(COUNT(ioctls))];
	case 'F': return (uint64_t)fcntls[rnd(COUNT(fcntls))];
	case 'R': return (uint64_t)prctls[rnd(COUNT(prctls))];
	case 'O': return O_RDONLY | (wild() & (O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_PATH));
	case 'W': return wild() & (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_DIRECTORY);
	case 'M': return rnd(8) ? (uint64_t[]){MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_FIXED}[rnd(3)] | (rnd(3) ? MAP_ANONYMOUS : 0)
				: wild();
	case 'A': return AF_UNIX;
	case 'T': return (uint64_t[]){SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}[rnd(3)] | SOCK_NONBLOCK;
	default: return rnd(512);
	}
}

/* ---- calls ---- */

struct call { short nr; const char args[7]; bool changes_names; };
#define C(name, args) {SYS_##name, args, false}
#define N(name, args) {SYS_##name, args, true}
static const struct call calls[] = {
	C(read, "fpl"), C(write, "fpl"), C(pread64, "fplw"), C(pwrite64, "fplk"), C(readv, "fvk"), C(writev, "fvk"),
	C(preadv, "fvkw"), C(pwritev, "fvkk"), C(preadv2, "fvkw0o"), C(pwritev2, "fvkk0o"), C(lseek, "fwo"), C(open, "rOw"),
	C(openat, "frOw"), C(openat2, "frpl"), C(close, "f"), C(close_range, "ffo"), C(dup, "f"), C(dup2, "ff"), C(dup3, "ffw"),
	C(fcntl, "fFw"), C(ioctl, "fIp"), C(poll, "pkk"), C(ppoll, "pktpS"), C(select, "kpppt"), C(pselect6, "kppptp"),
	C(epoll_create1, "0"), C(epoll_ctl, "fkfp"), C(epoll_wait, "fpkk"), C(epoll_pwait, "fpkkpS"), C(eventfd2, "wo"),
	C(signalfd4, "fpSw"), C(timerfd_create, "ko"), C(timerfd_settime, "fopp"), C(timerfd_gettime, "fp"), C(pipe, "p"),
	C(pipe2, "pw"), C(socket, "AT0"), C(socketpair, "AT0p"), C(sendto, "fplo00"), C(recvfrom, "fplopp"), C(sendmsg, "fmo"),
	C(recvmsg, "fmo"), C(sendmmsg, "fpko"), C(recvmmsg, "fpkot"), C(shutdown, "fo"), C(getsockname, "fpp"),
	C(getpeername, "fpp"), C(setsockopt, "foopl"), C(getsockopt, "foopp"), C(accept4, "fppw"), C(listen, "fo"),
	C(stat, "rp"), C(lstat, "rp"), C(fstat, "fp"), C(newfstatat, "frpo"), C(statx, "frowp"), C(access, "ro"),
	C(faccessat, "fro"), C(readlink, "rpl"), C(readlinkat, "frpl"), C(getcwd, "pl"), C(getdents64, "fpl"), C(getdents, "fpl"),
	C(statfs, "rp"), C(fstatfs, "fp"), C(getxattr, "rppl"), C(listxattr, "rpl"), C(flock, "fo"), C(fadvise64, "fwwo"),
	C(readahead, "fwl"), C(name_to_handle_at, "frppo"), C(inotify_init1, "0"), C(inotify_add_watch, "frw"), C(chdir, "0"),
	C(sendfile, "ffpl"), C(splice, "fpfplo"), C(tee, "fflo"), C(vmsplice, "fvko"), C(copy_file_range, "fpfplo"),
	C(fallocate, "fokL"), C(ftruncate, "fL"), C(memfd_create, "rk"), C(cachestat, "fppo"),
	C(mmap, "aLoMfk"), C(mmap, "aLoMf0"), C(munmap, "aL"), C(mprotect, "aLo"), C(mremap, "aLLoa"), C(madvise, "aLo"),
	C(mlock, "aL"), C(mlock2, "aLo"), C(munlock, "aL"), C(mlockall, "o"), C(munlockall, "0"), C(mincore, "aLp"), C(msync, "aLo"),
	C(brk, "p"), C(remap_file_pages, "aLoko"), C(mbind, "aLoppo"), C(set_mempolicy, "opl"), C(get_mempolicy, "pplao"),
	C(move_pages, "0kpppo"), C(shmat, "wpo"), C(shmdt, "a"), C(process_vm_readv, "Pvkvk0"), C(process_vm_writev, "Pvkvk0"),
	C(wait4, "wpop"), C(waitid, "owpop"), C(kill, "Ps"), C(tkill, "Ps"), C(tgkill, "PPs"), C(rt_sigqueueinfo, "Psp"),
	C(rt_tgsigqueueinfo, "PPsp"), C(rt_sigaction, "sppS"), C(rt_sigprocmask, "kppS"), C(rt_sigpending, "pS"),
	C(rt_sigsuspend, "pS"), C(rt_sigtimedwait, "pptS"), C(rt_sigreturn, "0"), C(sigaltstack, "pp"), C(getitimer, "op"),
	C(setitimer, "opp"), C(alarm, "k"), C(timer_create, "opp"), C(timer_settime, "oopp"), C(timer_gettime, "op"),
	C(timer_delete, "o"), C(timer_getoverrun, "o"), C(nanosleep, "tp"), C(clock_nanosleep, "oktp"), C(clock_gettime, "op"),
	C(clock_getres, "op"), C(gettimeofday, "pp"), C(time, "p"), C(times, "p"), C(getrusage, "wp"), C(sysinfo, "p"),
	C(uname, "p"), C(getrlimit, "op"), C(setrlimit, "op"), C(prlimit64, "0opp"), C(futex, "pkwtpw"), C(futex, "powtpw"),
	C(futex_waitv, "pkoto"), C(set_robust_list, "pl"), C(get_robust_list, "0pp"), C(set_tid_address, "p"), C(arch_prctl, "wp"),
	C(prctl, "Rpppp"), C(prctl, "Rwwww"), C(io_uring_setup, "op"), C(io_setup, "op"), C(io_submit, "wop"), C(rseq, "plow"),
	C(membarrier, "ooo"), C(seccomp, "oop"), C(ptrace, "o0pp"), C(userfaultfd, "o"), C(perf_event_open, "pPoow"),
	C(process_madvise, "fvkoo"), C(kcmp, "PPoff"), C(getrandom, "plo"), C(getcpu, "ppp"), C(sched_yield, "0"),
	C(sched_getaffinity, "0lp"), C(sched_getattr, "0plo"), C(sched_getparam, "0p"), C(getgroups, "lp"), C(getresuid, "ppp"),
	C(capget, "pp"), C(capset, "pp"), C(pidfd_open, "Pw"), C(pidfd_send_signal, "fspo"), C(pidfd_getfd, "ffo"),
	C(personality, "w"), C(unshare, "0"), C(umask, "w"), C(setns, "fo"), C(restart_syscall, "0"), C(pkey_alloc, "oo"),
	C(pkey_mprotect, "aLow"), C(map_shadow_stack, "aLo"), C(modify_ldt, "opl"), C(mseal, "aLo"), C(exit, "0"),
	N(mkdir, "nw"), N(rmdir, "n"), N(unlink, "n"), N(rename, "nn"), N(link, "nn"), N(symlink, "nn"), N(truncate, "nL"),
	N(open, "nWw"), N(creat, "nw"), N(chmod, "nw"), N(utimensat, "fnpo"),
};

/* Calls that would end the worker by themselves are made seldom. */
static bool too_deadly(long nr)
{
	return (nr == SYS_exit || nr == SYS_rt_sigreturn || nr == SYS_arch_prctl || nr == SYS_kill || nr == SYS_tkill ||
		nr == SYS_tgkill || nr == SYS_rt_sigqueueinfo || nr == SYS_rt_tgsigqueueinfo || nr == SYS_pidfd_send_signal ||
		nr == SYS_munmap || nr == SYS_rt_sigsuspend || nr == SYS_rt_sigaction) &&
	       rnd(8) != 0;
}

static void one_call(void)
{
	const struct call *c = &calls[rnd(COUNT(calls))];
	uint64_t a[6];

	if (rnd(100) == 0) { /* numbers that do not exist, other ABIs' numbers */
		syscall((long)(rnd(2) ? 480 + wild() % 100000 : 0x40000000 + rnd(600)), pointer(), pointer(), pointer());
		return;
	}
	if (too_deadly(c->nr) || (c->changes_names && !may_change_names))
		return;
	for (unsigned i = 0; i < 6; i++)
		a[i] = i < strlen(c->args) ? argument(c->args[i]) : wild();
	if (c->nr == SYS_unshare || c->nr == SYS_chdir)
		a[0] = c->nr == SYS_unshare ? CLONE_FILES : (uint64_t)".";
	syscall(c->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- what a worker does ---- */

static void wake_up(int sig)
{
	(void)sig;
}

static bool may_fork(void)
{
	return __atomic_add_fetch(forks, 1, __ATOMIC_SEQ_CST) <= MAX_FORKS;
}

/* Memory to play with: private, shared, a file's, and holes. */
static void set_up(void)
{
	int fd = open("f0", O_RDWR | O_CREAT, 0666), n;

	arena = mmap(NULL, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mmap(arena + 16 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (fd >= 0 && ftruncate(fd, 6 * PAGE) == 0)
		mmap(arena + 24 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	munmap(arena + 40 * PAGE, 4 * PAGE);
	mprotect(arena + 48 * PAGE, 4 * PAGE, PROT_READ);
	for (unsigned i = 0; i < 16 * PAGE; i += 8)
		*(uint64_t *)(arena + i) = rnd(3) ? wild() : (uint64_t)arena + rnd(ARENA_PAGES * PAGE);
	for (n = 0; n < 8; n++) {
		int p[2];

		if ((n & 1 ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) : pipe2(p, O_NONBLOCK)) == 0 && n > 4)
			close(p[n & 1]);
	}
}

static void random_calls(void)
{
	struct itimerval ticks = {{0, 20000}, {0, 20000}};
	struct sigaction wake = {.sa_handler = wake_up};

	set_up();
	sigaction(SIGALRM, &wake, NULL);
	setitimer(ITIMER_REAL, &ticks, NULL);
	for (int i = 0; i < CALLS_PER_WORKER; i++) {
		if (rnd(400) == 0 && may_fork() && fork() == 0) {
			rng ^= (uint64_t)i * 0x9e3779b97f4a7c15ull;
			setitimer(ITIMER_REAL, &ticks, NULL);
			i = CALLS_PER_WORKER - 200;
		}
		if (rnd(3000) == 0)
			execl("/proc/self/exe", "call_fuzz", "child", (char *)NULL);
		one_call();
	}
}

static sigjmp_buf back;
static void caught(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	(void)si;
	siglongjmp(back, sig);
}

/* Everywhere but in the kernel's own range, which nothing protects (CAVEATS.md). */
static uint64_t wild_target(void)
{
	uint64_t at = rnd(3) ? pointer() : wild();

	return at >= 0x700000000000ull && at < 0x800000000000ull ? at & 0xfffffffffffull : at;
}

static void wild_accesses(void)
{
	set_up();
	for (int i = 0; i < 600; i++) {
		uint64_t at = wild_target();

		for (int s = SIGILL; s <= SIGSEGV; s++)
			if (s != SIGKILL && s != SIGUSR1)
				handle(s, caught, rnd(2) ? SA_NODEFER : 0);
		if (sigsetjmp(back, 1))
			continue;
		switch (rnd(6)) {
		case 0: case 1: case 2: (void)*(volatile uint8_t *)at; break;
		case 3: *(volatile uint8_t *)at = 1; break;
		case 4: __atomic_fetch_add((uint64_t *)at, 1, __ATOMIC_SEQ_CST); break;
		default: ((void (*)(void))at)(); break;
		}
	}
}

static __attribute__((noinline)) uint64_t dig(uint64_t depth)
{
	volatile uint64_t local[64];

	local[depth % 64] = depth;
	if (depth == ~0ull)
		return 0; /* never; but compilers want to hear it */
	return dig(depth + 1) + local[(depth + 1) % 64] * 0 + local[depth % 64];
}

static void deep_recursion(void)
{
	struct rlimit r = {rnd(2) ? 8 << 20 : 64 << 20, RLIM_INFINITY};
	static char alt[65536];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt)};

	getrlimit(RLIMIT_STACK, &(struct rlimit){0, 0});
	setrlimit(RLIMIT_STACK, &r);
	if (rnd(2)) {
		VERIFY(sigaltstack(&ss, NULL) == 0);
		handle(SIGSEGV, caught, SA_ONSTACK);
		if (sigsetjmp(back, 1))
			_exit(7);
	}
	_exit((int)dig(rnd(10)) & 1);
}

static void bomb(void)
{
	for (;;) {
		if (!may_fork())
			break;
		if (fork() == 0 && rnd(3) == 0)
			break;
	}
	if (rnd(3) == 0)
		execlp("true", "true", (char *)NULL);
	if (rnd(3) == 0)
		abort();
	while (rnd(4) && wait(NULL) > 0)
		;
}

static void work(uint64_t seed)
{
	int null = open("/dev/null", O_RDWR);
	struct rlimit cpu = {2, 4}, files = {rnd(2) ? 64 : 256, 1024}, size = {16 << 20, 16 << 20}, as = {1 << 30, 1 << 30};

	rng = seed;
	self = getpid();
	for (int i = 0; i < 3; i++)
		dup2(null, i); /* the terminal is not ours to play with */
	setpgid(0, 0);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_FSIZE, &size);
	setrlimit(RLIMIT_AS, &as);
	switch (rnd(8)) {
	case 0: wild_accesses(); break;
	case 1: deep_recursion(); break;
	case 2: bomb(); break;
	default: random_calls(); break;
	}
	_exit(0);
}

/* ---- the parent ---- */

static struct worker { pid_t pid; double since; } workers[WORKERS];
static struct { unsigned exited, killed, late; } ended;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void start(struct worker *w, uint64_t seed)
{
	*forks = 0;
	w->since = now();
	w->pid = fork();
	VERIFY(w->pid >= 0);
	if (w->pid == 0)
		work(seed);
	setpgid(w->pid, w->pid);
}

/* True when the worker is over: then whatever it forked is killed as well. */
static bool is_over(struct worker *w)
{
	int status;

	if (now() - w->since > WORKER_SECONDS && kill(w->pid, SIGKILL) == 0)
		ended.late++;
	if (waitpid(w->pid, &status, now() - w->since > WORKER_SECONDS ? 0 : WNOHANG) == 0)
		return false;
	kill(-w->pid, SIGKILL);
	if (WIFSIGNALED(status))
		ended.killed++;
	else
		ended.exited++;
	return true;
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1100; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void become_nobody(const char *directory)
{
	struct rlimit processes = {600, 600};

	VERIFY(chdir(directory) == 0);
	may_change_names = geteuid() == 0;
	if (may_change_names)
		VERIFY(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
	setrlimit(RLIMIT_NPROC, &processes);
	umask(0);
}

int main(int argc, char **argv)
{
	uint64_t seed, n = 0, before;
	bool verbose = getenv("QUIRE_FUZZ_VERBOSE") != NULL;
	char *mine = fresh(200 * PAGE);
	unsigned files = open_descriptors();
	double end;

	if (argc < 4)
		return 0; /* a worker has executed us */
	become_nobody(argv[1]);
	seed = strtoull(argv[2], NULL, 0);
	end = now() + atof(argv[3]);
	if (argc > 4)
		n = strtoull(argv[4], NULL, 0);
	memset(mine, 0x5a, 200 * PAGE);
	before = digest(mine, 200 * PAGE);
	forks = fresh_shared(PAGE);
	while (now() < end || workers[0].pid || workers[1].pid) {
		for (struct worker *w = workers; w < workers + WORKERS; w++) {
			if (w->pid && is_over(w))
				w->pid = 0;
			if (w->pid || now() >= end)
				continue;
			if (verbose)
				printf("worker %lu\n", (unsigned long)n), fflush(stdout);
			start(w, seed * 1000003 + ++n * 0x9e3779b97f4a7c15ull);
		}
		sleep_ms(1);
	}
	printf("workers %lu: exited %u, died %u, were late %u\n", (unsigned long)n, ended.exited, ended.killed, ended.late);
	VERIFY(digest(mine, 200 * PAGE) == before);
	VERIFY(open_descriptors() == files);
	printf("intact\n");
	return 0;
}
