/*
 * Owners of locks that were stopped.
 *
 * SIGSTOP, ^Z or a debugger may stop a guest at any instruction, also inside a transaction; it is not dead, so nobody may roll it back, and
 * those who want its lock would wait until somebody continues it.  They tell this thread (port_owner_slow()), which lets the owner,
 * and only the owner, run until it holds nothing:
 *
 *	stopped ('T')   PTRACE_SEIZE, PTRACE_CONT until it has let go, PTRACE_INTERRUPT, PTRACE_DETACH.  The stop of its process stays in force:
 *	                the rest of it never moves, its parent sees nothing, and on detaching it stops again.  Where the host forbids
 *	                that (a process that is not dumpable), SIGCONT and then SIGSTOP: its parent may notice.
 *	traced ('t')    the debugger has it.  It gets TRACED_MS; then it is killed, and rolled back like anybody else who dies.
 *
 * A thread of a stopped process may need another one of it (kproc.install, while it holds a mutex): then all of them run.
 * Takes none of the machine's locks, and only reads its memory.
 *
 * wait(2): stops of what is traced here must be seen here.  The main thread reaps children only under the lock of rescue_lock().
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include <errno.h>
#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/futex.h>
#include <time.h>
#include <unistd.h>

#define STEP_US 20      /* between two looks at an owner that runs */
#define ALONE_MS 5      /* for the owner alone; then its whole process may run */
#define BUDGET_MS 40    /* for one owner: it may be waiting for another one that is stopped */
#define TRACED_MS 3000
#define MAX_SEIZED 256

struct seized {
	pid_t tid[MAX_SEIZED];
	unsigned n;
};

static pthread_mutex_t reaping = PTHREAD_MUTEX_INITIALIZER;

void rescue_lock(void) { pthread_mutex_lock(&reaping); }
void rescue_unlock(void) { pthread_mutex_unlock(&reaping); }

static void nap_us(long us)
{
	struct timespec t = { 0, us * 1000 };

	nanosleep(&t, NULL);
}

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The letter of /proc/TID/stat, 'X' if there is none. */
static char thread_state(pid_t tid)
{
	char path[32], text[512], *at;
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	f = fopen(path, "re");
	if (!f)
		return 'X';
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = 0;
	at = strrchr(text, ')');
	return at && at[1] ? at[2] : 'X';
}

static bool holds_something(const struct ctx *c, pid_t tid)
{
	return (pid_t)c->port_data[CTXP_TID] == tid && (__atomic_load_n(&c->nheld, __ATOMIC_ACQUIRE) ||
							__atomic_load_n(&c->nmutex, __ATOMIC_ACQUIRE) ||
							__atomic_load_n(&c->recovers, __ATOMIC_ACQUIRE));
}

/* ---- what is traced here ---- */

/* Until it stands still.  The signal to give it when it goes on, or -1 if it is gone. */
static int wait_stop(pid_t tid)
{
	int status;

	if (waitpid(tid, &status, __WALL) < 0 || !WIFSTOPPED(status))
		return -1;
	return status >> 16 ? 0 : WSTOPSIG(status); /* an event of ptrace's own, or a signal on its way to the guest */
}

static bool seize(struct seized *s, pid_t tid)
{
	int sig;

	if (s->n == MAX_SEIZED || ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
		return false;
	/* It was stopped, and that becomes a stop of ours; unless SIGCONT has come by. */
	ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	sig = wait_stop(tid);
	if (sig < 0)
		return true;
	s->tid[s->n++] = tid;
	ptrace(PTRACE_CONT, tid, 0, sig);
	return true;
}

static void seize_process(struct seized *s, pid_t tgid, pid_t but)
{
	struct dirent *d;
	char path[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", tgid);
	dir = opendir(path);
	while (dir && (d = readdir(dir)))
		if (atoi(d->d_name) > 0 && atoi(d->d_name) != but && thread_state(atoi(d->d_name)) == 'T')
			seize(s, atoi(d->d_name));
	if (dir)
		closedir(dir);
}

/* Whatever came for them meanwhile is passed on. */
static void pass_signals(struct seized *s)
{
	unsigned i;
	int status;

	for (i = 0; i < s->n; i++)
		if (waitpid(s->tid[i], &status, __WALL | WNOHANG) == s->tid[i] && WIFSTOPPED(status))
			ptrace(PTRACE_CONT, s->tid[i], 0, status >> 16 ? 0 : WSTOPSIG(status));
}

static void let_go(struct seized *s)
{
	unsigned i;
	int sig;

	for (i = 0; i < s->n; i++) {
		ptrace(PTRACE_INTERRUPT, s->tid[i], 0, 0);
		sig = wait_stop(s->tid[i]);
		if (sig >= 0)
			ptrace(PTRACE_DETACH, s->tid[i], 0, sig);
	}
}

/* Interrupted between two transactions, or already in the next one? */
static bool stop_outside(const struct ctx *c, pid_t tid, long end)
{
	int sig;

	for (;;) {
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
		sig = wait_stop(tid);
		if (sig < 0)
			return true;
		if (!holds_something(c, tid) || now_ms() > end) {
			ptrace(PTRACE_DETACH, tid, 0, sig);
			return true;
		}
		ptrace(PTRACE_CONT, tid, 0, sig);
		nap_us(STEP_US);
	}
}

static void run_on(const struct ctx *c, pid_t tgid, pid_t tid, struct seized *s)
{
	long start = now_ms(), end = start + BUDGET_MS;
	struct seized rest = { .n = 0 };

	while (holds_something(c, tid) && now_ms() < end) {
		nap_us(STEP_US);
		pass_signals(s);
		pass_signals(&rest);
		if (!rest.n && now_ms() > start + ALONE_MS)
			seize_process(&rest, tgid, tid);
		if (thread_state(tid) == 'X')
			break;
	}
	if (s->n)
		stop_outside(c, tid, end);
	let_go(&rest);
}

/* Where tracing is forbidden. */
static void by_signals(const struct ctx *c, pid_t tgid, pid_t tid)
{
	long end = now_ms() + BUDGET_MS;

	kill(tgid, SIGCONT);
	while (holds_something(c, tid) && now_ms() < end)
		nap_us(STEP_US);
	kill(tgid, SIGSTOP);
}

static void continue_owner(const struct ctx *c, pid_t tgid, pid_t tid)
{
	struct seized s = { .n = 0 };

	rescue_lock();
	if (seize(&s, tid))
		run_on(c, tgid, tid, &s);
	else if (errno == EPERM)
		by_signals(c, tgid, tid);
	rescue_unlock();
}

static void end_traced(const struct ctx *c, pid_t tgid, pid_t tid)
{
	long end = now_ms() + TRACED_MS;

	while (holds_something(c, tid) && thread_state(tid) == 't') {
		if (now_ms() > end) {
			fprintf(stderr, "quire: a debugger stopped process %d where others wait for it; it was killed\n", tgid);
			kill(tgid, SIGKILL);
			return;
		}
		nap_us(10000);
	}
}

static void look_at(u32 id)
{
	const struct ctx *c = ctx_by_id(id);
	pid_t tid = (pid_t)c->port_data[CTXP_TID], tgid = (pid_t)c->port_data[CTXP_TGID];
	char state;

	if ((c->flags & CTXF_SUPERVISOR) || tid <= 0 || tgid <= 0 || !holds_something(c, tid))
		return;
	state = thread_state(tid);
	if (state == 'T')
		continue_owner(c, tgid, tid);
	else if (state == 't')
		end_traced(c, tgid, tid);
}

static void *rescue_main(void *arg)
{
	struct machine_shared *m = shared_area();
	u32 seen, i;

	(void)arg;
	prctl(PR_SET_NAME, "quire-rescue");
	for (;;) {
		seen = __atomic_load_n(&m->slow_bell, __ATOMIC_SEQ_CST);
		for (i = 0; i < MAX_CTX / 64; i++) {
			u64 bits = __atomic_exchange_n(&m->slow_owners[i], 0, __ATOMIC_SEQ_CST);

			for (; bits; bits &= bits - 1)
				look_at(i * 64 + (u32)__builtin_ctzll(bits));
		}
		nap_us(500); /* however busy the locks are */
		syscall(SYS_futex, &m->slow_bell, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	return NULL;
}

int rescue_start(void)
{
	pthread_t t;

	return pthread_create(&t, NULL, rescue_main, NULL);
}
