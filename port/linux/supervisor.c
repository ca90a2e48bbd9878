/*
 * The supervisor: starts a machine, watches its processes, tidies up after the dead, ends it.
 *
 * One thread does everything but one thing: the bell thread sleeps on the shared doorbell word (a futex) and turns it into
 * an event.  The main loop waits for that, for pidfds of guests, and for signals.
 *
 *	guest process born        doorbell -> pidfd -> epoll
 *	guest process dead        pidfd readable -> reap(serial): roll back, free its memory
 *	first program ended       (unless --keep) everything else is killed, then the machine ends
 *	panic                     everything is killed, exit code 125
 */
#define _GNU_SOURCE
#include "supervisor.h"
#include "sup_control.h"
#include "sup_internal.h"
#include "selftest_sup.h"
#include "../../cmd/quire/options.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/futex.h>
#include <unistd.h>

#define FAILED 125
#define BELL_TAG 0ull
#define SIGNAL_TAG 1ull
#define BIRTHS_NS 1000000      /* births are collected for so long */
#define MANY_BIRTHS 24         /* what the memory that all processes share costs each of them is worth some milliseconds */
#define BELL_LOOK_NS 1000000000 /* somebody may be killed between ringing and waking */
#define NEWBORN_POLL_MS 100 /* a child that died before its first step tells nobody */
#define CONTROL_TAG 2ull
#define DEAD_TAG 3ull /* and above: watched processes, index + DEAD_TAG */

struct watched { int pidfd; u64 serial; };
struct newborn { u64 serial; u32 ctx_id; };
struct sup {
	const struct run_options *o;
	const struct kernel_exports *k;
	int ram_fd, epoll, bell, sigfd, watchdog, log_fd;
	pid_t first;
	int first_status;
	bool first_ended;
	struct watched *watched;
	size_t nwatched, cap;
	struct newborn *newborns; /* announced, not watched yet */
	size_t nnewborns, newborn_cap;
	u64 log_pos;
	char partial[1024]; /* a log line that is not complete yet */
	size_t partial_len;
	sigset_t old_mask;
	struct control *control; /* NULL: no commands reach this machine */
	bool end_asked;          /* by a signal: a machine that is kept ends too */
};

static struct machine_shared *machine(void) { return shared_area(); }

static void bell_sleep(u32 word, long ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	syscall(SYS_futex, &machine()->doorbell, FUTEX_WAIT, word, &ts, NULL, 0);
}

/*
 * Births are collected for a moment: most processes of a shell live shorter than that, and then nobody need watch them.  While the
 * bell waits for more, who gives birth rings by a store alone.  The moment ends with the first ring that is urgent.
 */
static void *bell_main(void *arg)
{
	struct machine_shared *m = machine();
	struct sup *s = arg;
	u32 urgent = 0, births = 0;
	size_t collapsed = 0;

	for (;;) {
		u32 word = __atomic_load_n(&m->doorbell, __ATOMIC_SEQ_CST);
		bool now = __atomic_load_n(&m->urgent, __ATOMIC_SEQ_CST) != urgent;

		if (!now && __atomic_load_n(&m->births, __ATOMIC_SEQ_CST) == births) {
			__atomic_store_n(&m->bell_idle, 1, __ATOMIC_SEQ_CST);
			if (__atomic_load_n(&m->births, __ATOMIC_SEQ_CST) == births)
				bell_sleep(word, BELL_LOOK_NS);
			__atomic_store_n(&m->bell_idle, 0, __ATOMIC_SEQ_CST);
			continue;
		}
		if (!now)
			bell_sleep(word, BIRTHS_NS);
		urgent = __atomic_load_n(&m->urgent, __ATOMIC_SEQ_CST);
		births = __atomic_load_n(&m->births, __ATOMIC_SEQ_CST);
		eventfd_write(s->bell, 1);
		if (births >= MANY_BIRTHS)
			image_collapse(s->o->memory, &collapsed);
	}
	return NULL;
}

static void *kswapd_main(void *arg)
{
	struct sup *s = arg;

	prctl(PR_SET_NAME, "kswapd0");
	s->k->kswapd();
	return NULL;
}

static int epoll_watch(struct sup *s, int fd, u64 tag)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = tag };

	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev);
}

static int fail(const char *what)
{
	fprintf(stderr, "quire: %s: %s\n", what, strerror(errno));
	return -1;
}

/* ---- the machine's log ---- */

/* One line for people who did not ask for the log: "[    1.234567] Out of memory: Killed process 42 (x) total-vm:..." without the
 * stamp, and where the rest stands. */
static void tell_oom(struct sup *s, const char *line)
{
	const char *text = strstr(line, "] Out of memory");

	if (!text || !strstr(text, ": Killed process"))
		return;
	text += 2;
	fprintf(stderr, "quire: %.*s; why: %s\n", (int)strcspn(text, "\n"), text, s->o->log_path ? s->o->log_path : "--log FILE");
}

static void log_line(struct sup *s, const char *line, size_t n)
{
	if (s->log_fd >= 0 && write(s->log_fd, line, n) < 0)
		s->log_fd = -1;
	if (s->o->verbose)
		fprintf(stderr, "%.*s", (int)n, line);
	else
		tell_oom(s, line);
}

static void follow_log(struct sup *s)
{
	char buf[4096];
	size_t n, i;

	while ((n = s->k->log_read(&s->log_pos, buf, sizeof(buf))) > 0) {
		for (i = 0; i < n; i++) {
			s->partial[s->partial_len++] = buf[i];
			if (buf[i] != '\n' && s->partial_len < sizeof(s->partial) - 1)
				continue;
			s->partial[s->partial_len] = 0;
			log_line(s, s->partial, s->partial_len);
			s->partial_len = 0;
		}
	}
}

/* ---- processes ---- */

static void process_dead(struct sup *s, size_t i)
{
	epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->watched[i].pidfd, NULL);
	close(s->watched[i].pidfd);
	s->k->reap(s->watched[i].serial);
	s->watched[i].pidfd = -1;
}

static size_t watch_slot(struct sup *s)
{
	size_t i;

	for (i = 0; i < s->nwatched; i++)
		if (s->watched[i].pidfd < 0)
			return i;
	if (s->nwatched == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->watched = realloc(s->watched, s->cap * sizeof(*s->watched));
		if (!s->watched)
			abort();
	}
	return s->nwatched++;
}

static void collect_newborns(struct sup *s)
{
	struct newborn n;

	while (s->k->next_newborn(&n.serial, &n.ctx_id)) {
		if (s->nnewborns == s->newborn_cap) {
			s->newborn_cap = s->newborn_cap ? s->newborn_cap * 2 : 64;
			s->newborns = realloc(s->newborns, s->newborn_cap * sizeof(n));
			if (!s->newborns)
				abort();
		}
		s->newborns[s->nnewborns++] = n;
	}
}

static void watch_pidfd(void *arg, u64 serial, int fd)
{
	struct sup *s = arg;
	size_t i = watch_slot(s);

	s->watched[i].pidfd = fd;
	s->watched[i].serial = serial;
	epoll_watch(s, fd, DEAD_TAG + i);
}

/* The machine cannot go on, and errno says why. */
static void give_up(const char *what)
{
	struct machine_shared *m = machine();

	snprintf(m->panic_text, sizeof(m->panic_text), "%s: %s%s", what, strerror(errno),
		 errno == EMFILE ? " (one descriptor for each process; see ulimit -Hn)" : "");
	m->panicked = 1;
}

/* A pidfd is only trusted when the process still lived after it was opened: then the number cannot have been reused. */
static void watch_process(struct sup *s, u64 serial, s32 pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0 && errno != ESRCH) {
		give_up("a process cannot be watched");
		return;
	}
	if (fd < 0 || !s->k->process_lives(serial)) {
		if (fd >= 0)
			close(fd);
		s->k->reap(serial);
		return;
	}
	watch_pidfd(s, serial, fd);
}

static void watch_newborns(struct sup *s)
{
	size_t i, kept = 0;
	s32 pid;

	collect_newborns(s);
	for (i = 0; i < s->nnewborns; i++) {
		struct newborn n = s->newborns[i];

		switch (s->k->newborn_state(n.serial, n.ctx_id, &pid)) {
		case NEWBORN_WAIT: s->newborns[kept++] = n; break;
		case NEWBORN_WATCH: watch_process(s, n.serial, pid); break;
		case NEWBORN_GONE: s->k->reap(n.serial); break;
		}
	}
	s->nnewborns = kept;
}

/* The first program stopped (^Z): so do we, that the shell notices; and on we go together. */
static void stop_together(struct sup *s)
{
	kill(getpid(), SIGSTOP);
	kill(s->first, SIGCONT);
}

/* Where did my prompt go? */
static void say_kept(struct sup *s)
{
	if (s->o->keep && s->control && isatty(2))
		fprintf(stderr, "quire: the program ended; machine '%s' goes on until ^C or 'kill %d'\n", control_name(s->control),
			getpid());
}

static void reap_zombies(struct sup *s)
{
	int status;
	pid_t pid;

	rescue_lock();
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != s->first || (WIFSTOPPED(status) && status >> 16))
			continue;
		if (WIFSTOPPED(status)) {
			if (WSTOPSIG(status) != SIGSTOP || isatty(0))
				stop_together(s);
			continue;
		}
		s->first_status = status;
		s->first_ended = true;
		say_kept(s);
	}
	rescue_unlock();
}

static bool ends_programs(u32 sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGQUIT || sig == SIGHUP;
}

/* A machine that is kept ends when it was told to and its first program has ended; ^C while that runs is for the program. */
static void handle_signals(struct sup *s)
{
	struct signalfd_siginfo si;

	while (read(s->sigfd, &si, sizeof(si)) == sizeof(si)) {
		bool by_kill = si.ssi_code <= 0; /* to us alone; the terminal's go to the guest as well */

		if (si.ssi_signo == SIGCHLD) {
			reap_zombies(s);
			continue;
		}
		s->end_asked |= ends_programs(si.ssi_signo) && (by_kill || s->first_ended);
		if (by_kill && !s->first_ended)
			kill(s->first, (int)si.ssi_signo);
	}
}

/* ---- start ---- */

static int open_log(struct sup *s)
{
	s->log_fd = -1;
	if (!s->o->log_path)
		return 0;
	s->log_fd = open(s->o->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return s->log_fd < 0 ? fail(s->o->log_path) : 0;
}

static int boot_machine(struct sup *s)
{
	struct machine_params p = {
		.memory = s->o->memory, .nr_cpus = s->o->nr_cpus, .overcommit = s->o->overcommit,
		.folio_max_order = s->o->folio_max_order, .aslr = s->o->aslr, .verbose = s->o->verbose, .patch = s->o->patch_syscalls,
		.host_huge = image_host_huge(), .vsyscall = image_vsyscall(),
		.seed = s->o->seed_given ? s->o->seed : 0, .version = QUIRE_VERSION, .policy = s->o->policy,
	};
	long ret;

	if (swap_open_all(s->o, &p))
		return -1;
	s->k = image_map(p.memory, &s->ram_fd);
	if (!s->k)
		return -1;
	ret = s->k->machine_init(&p);
	follow_log(s);
	if (ret) {
		fprintf(stderr, "quire: the machine does not boot: %s\n", strerror((int)-ret));
		return -1;
	}
	return 0;
}

static int event_sources(struct sup *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGCONT);
	sigprocmask(SIG_BLOCK, &set, &s->old_mask);
	s->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->sigfd < 0 || s->epoll < 0 || s->bell < 0 || epoll_watch(s, s->bell, BELL_TAG) ||
	    epoll_watch(s, s->sigfd, SIGNAL_TAG))
		return fail("epoll");
	return 0;
}

static char *search_path(const char *name, int *code)
{
	const char *path = getenv("PATH"), *at, *end;
	char *full = NULL;
	int denied = 0;

	if (strchr(name, '/'))
		return strdup(name);
	for (at = path ? path : "/bin:/usr/bin"; at; at = *end ? end + 1 : NULL) {
		end = strchrnul(at, ':');
		free(full);
		if (asprintf(&full, "%.*s%s%s", (int)(end - at), at, end > at ? "/" : "", name) < 0)
			abort();
		if (!access(full, X_OK))
			return full;
		denied |= errno == EACCES;
	}
	free(full);
	*code = denied ? 126 : 127;
	return NULL;
}

char *find_program(const char *name, int *code)
{
	char *path = search_path(name, code);

	if (!path)
		fprintf(stderr, "quire: %s: %s\n", name, *code == 126 ? "Permission denied" : "command not found");
	return path;
}

static u32 count_strings(char *const *list)
{
	u32 n = 0;

	while (list[n])
		n++;
	return n;
}

/* A core of a guest would hold the whole machine, RAM and all: it gets the registers only (core(5); children inherit this). */
static void keep_cores_small(void)
{
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "0", 1) < 0)
		perror("quire: coredump_filter");
	close(fd);
}

/* Nothing of libc may be left with the host (rseq would be written to after its memory is gone). */
void guest_become(const struct kernel_exports *k, struct guest_boot *b, char *const *argv, const sigset_t *mask)
{
	b->hwcap = getauxval(AT_HWCAP);
	b->hwcap2 = getauxval(AT_HWCAP2);
	b->minsigstksz = getauxval(AT_MINSIGSTKSZ);
	b->clktck = getauxval(AT_CLKTCK);
	b->argv = (const char *const *)argv;
	b->argc = count_strings(argv);
	b->envp = (const char *const *)environ;
	b->envc = count_strings(environ);
	image_find_vdso(b);
	keep_cores_small();
	memcpy(&b->sigmask, mask, sizeof(b->sigmask));
	if (__rseq_size)
		syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32, 1 /* UNREGISTER */, RSEQ_SIG);
	k->guest_start(b);
}

/* Other descriptors of ours are close-on-exec. */
static void child_main(struct sup *s, const char *path, pid_t supervisor)
{
	struct guest_boot b = { .ram_fd = s->ram_fd, .path = path, .error_fd = -1 };

	/* Until the kernel sees to that itself (start.c): the watchdog does not know us yet. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != supervisor)
		_exit(FAILED);
	limits_give_back(&b);
	control_forget(s->control);
	close(s->sigfd);
	close(s->epoll);
	close(s->bell);
	close(s->watchdog);
	if (s->log_fd >= 0)
		close(s->log_fd);
	guest_become(s->k, &b, s->o->argv, &s->old_mask);
}

static int start_first(struct sup *s)
{
	pid_t self = getpid();
	int code = 0;
	char *path = find_program(s->o->argv[0], &code);

	if (!path)
		return code;
	fflush(NULL);
	s->first = fork();
	if (s->first == 0)
		child_main(s, path, self);
	if (s->first < 0) {
		fail("fork");
		return FAILED;
	}
	return 0;
}

/* ---- the loop and the end ---- */

static void one_event(struct sup *s, u64 tag)
{
	eventfd_t n;

	if (tag == BELL_TAG) {
		eventfd_read(s->bell, &n);
		swap_serve();
		watch_newborns(s);
		follow_log(s);
	} else if (tag == SIGNAL_TAG) {
		handle_signals(s);
	} else if (tag == CONTROL_TAG) {
		control_serve(s->control);
	} else if (s->watched[tag - DEAD_TAG].pidfd >= 0) {
		process_dead(s, tag - DEAD_TAG);
		watch_newborns(s); /* it may have announced a child that never came */
	}
}

/* Without a socket nobody could ever join: then keeping means to wait for the background processes. */
static bool is_over(struct sup *s)
{
	size_t i;

	if (!s->first_ended)
		return false;
	if (!s->o->keep || s->end_asked)
		return true;
	watch_newborns(s); /* who was born in this moment counts */
	if (s->control || s->nnewborns)
		return false;
	for (i = 0; i < s->nwatched; i++)
		if (s->watched[i].pidfd >= 0)
			return false;
	return true;
}

static void serve(struct sup *s)
{
	struct epoll_event ev[32];
	int i, n;

	while (!machine()->panicked && !is_over(s)) {
		n = epoll_wait(s->epoll, ev, 32, s->nnewborns ? NEWBORN_POLL_MS : -1);
		if (!n)
			watch_newborns(s);
		for (i = 0; i < n; i++)
			one_event(s, ev[i].data.u64);
	}
}

static void end_machine(struct sup *s)
{
	char why[sizeof(machine()->panic_text) + 1] = "its first program ended (see --keep)";

	if (machine()->panicked)
		snprintf(why, sizeof(why), "%.255s", machine()->panic_text);
	else if (s->o->keep)
		strcpy(why, "it was told to");
	__atomic_store_n(&machine()->ending, 1, __ATOMIC_SEQ_CST);
	control_close(s->control, why);
	kill_all_guests(s->k, 2000);
	follow_log(s);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int exit_code(struct sup *s)
{
	int st = s->first_status;

	if (machine()->panicked) {
		fprintf(stderr, "quire: the machine had to end: %.255s\n", machine()->panic_text);
		return FAILED;
	}
	if (machine()->start_error) {
		fprintf(stderr, "quire: %s: %s\n", s->o->argv[0], strerror(machine()->start_error));
		return WEXITSTATUS(st);
	}
	return WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
}

static int start_control(struct sup *s)
{
	struct control_owner owner = { .watch = watch_pidfd, .owner = s, .k = s->k, .ram_fd = s->ram_fd, .memory = s->o->memory };

	if (!s->control)
		return 0;
	control_start(s->control, &owner);
	return epoll_watch(s, control_fd(s->control), CONTROL_TAG) ? fail("epoll") : 0;
}

static int run_machine(const struct run_options *o, struct control *control)
{
	struct sup s = { .o = o, .control = control };
	pthread_t bell, kswapd;
	int code;

	if (!limits_take() || open_log(&s) || boot_machine(&s))
		return FAILED;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	s.watchdog = watchdog_start(s.k, s.ram_fd);
	if (s.watchdog < 0 || event_sources(&s) || start_control(&s))
		return FAILED;
	code = start_first(&s);
	if (code)
		return code;
	if (pthread_create(&bell, NULL, bell_main, &s) || pthread_create(&kswapd, NULL, kswapd_main, &s) ||
	    rescue_start()) {
		fail("pthread_create");
		kill(s.first, SIGKILL);
		return FAILED;
	}
	swap_serve();
	selftest_start(s.k, s.first);
	serve(&s);
	selftest_stop();
	end_machine(&s);
	if (o->stats)
		stats_print(o->stats_json);
	return exit_code(&s);
}

int supervisor_run(const struct run_options *o)
{
	struct control *control = control_open(o->name);
	int code;

	if (!control && o->name)
		return FAILED;
	code = run_machine(o, control);
	control_close(control, "it could not start"); /* if it has not been closed with a better reason */
	return code;
}
