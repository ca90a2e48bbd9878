/*
 * Runs streams of steps in one process, a ring of processes, processes side by side, or threads.
 *
 * In a ring one process at a time carries out a step and passes the turn on, so that what they share changes in a fixed
 * order.  Side by side, each worker keeps to what is its own: private memory inherited from the parent and files of its
 * own; its lines are printed when all are done.
 *
 * Usage: callgen SEED COUNT one|ring|race|threads [rss|folios] [ordinary] [sim] [verbose] [keep=FILE] [dir=DIR]
 */
#include "callgen.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct worker workers[MAX_WORKERS];
static int turns[MAX_SLOTS][2]; /* a pipe per process of a ring; a turn is the number of the next step */

/* ---- set-up ---- */
static void fill_file(int fd, u64 bytes)
{
	u8 page[PAGE];

	for (u64 at = 0; at < bytes; at += PAGE) {
		memset(page, (int)(at / PAGE + 1), sizeof(page));
		if (pwrite(fd, page, sizeof(page), (off_t)at) != (ssize_t)sizeof(page))
			_exit(98);
	}
}

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags);
}

/* Descriptors of a worker's own.  Every second page is written, the rest are holes. */
static void open_files(struct worker *w)
{
	u64 bytes = file_bytes();
	char path[256];

	w->fds[F_NONE] = -1;
	w->fds[F_MEM] = memfd_create("callgen", 0);
	w->fds[F_SEALED] = memfd_create("sealed", MFD_ALLOW_SEALING);
	snprintf(path, sizeof(path), "%s/callgen-%u", opt.dir, w->index);
	w->fds[F_DISK] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
	if (w->fds[F_MEM] < 0 || w->fds[F_SEALED] < 0 || w->fds[F_DISK] < 0)
		_exit(97);
	fill_file(w->fds[F_MEM], bytes);
	fill_file(w->fds[F_SEALED], bytes / 2);
	fill_file(w->fds[F_DISK], bytes);
	w->fds[F_MEM_RO] = reopen(w->fds[F_MEM], O_RDONLY);
	w->fds[F_DISK_RO] = open(path, O_RDONLY);
	w->fds[F_DISK_WO] = open(path, O_WRONLY);
	w->fds[F_PATH] = open(path, O_PATH);
	w->fds[F_ZERO] = open("/dev/zero", O_RDWR);
	w->fds[F_DIR] = open(opt.dir, O_RDONLY | O_DIRECTORY);
	w->fds[F_CLOSED] = 900;
	if (pipe2(w->pipe, O_NONBLOCK) != 0)
		_exit(97);
	w->fds[F_PIPE] = w->pipe[0];
}

static void become_ordinary(void)
{
	u64 pages = opt.mode == MODE_THREADS ? 4096 : MEMLOCK_PAGES; /* threads share it: out of reach */
	struct rlimit lim = {pages * PAGE, pages * PAGE};

	setrlimit(RLIMIT_MEMLOCK, &lim);
	if (setuid(65534) != 0)
		_exit(93);
	prctl(PR_SET_DUMPABLE, 1);
}

static void find_heap(void)
{
	u64 old = PAGE_UP((u64)syscall(SYS_brk, 0));

	/* A page between what libc has of it and ours: they are never one mapping. */
	heap_start = old + PAGE;
	if ((u64)syscall(SYS_brk, heap_start) != heap_start || munmap((void *)old, PAGE) != 0)
		_exit(92);
}

/* ---- one worker ---- */
static void one_step(u32 i)
{
	struct step s;

	step_generate(&s, me->index, i);
	execute(&s, i);
	__atomic_add_fetch(&sh->calls, 1, __ATOMIC_RELAXED);
	if (sh->out[me->index].len > OUT_BYTES / 2 && opt.mode != MODE_RACE && opt.mode != MODE_THREADS)
		flush_output(me->index);
}

static void run_worker(void)
{
	for (u32 i = 0; i < opt.count; i++)
		if (kept(i))
			one_step(i);
	say("end %08x\n", (u32)hash_window());
}

/* ---- a ring of processes ---- */
static u32 slot_of(u32 i)
{
	struct step s;

	if (i >= opt.count)
		return 0;
	step_generate(&s, 0, i);
	return live_slot(s.slot);
}

static void pass_turn(u32 next)
{
	while (next < opt.count && !kept(next))
		next++;
	if (write(turns[slot_of(next)][1], &next, sizeof(next)) != sizeof(next))
		_exit(91);
}

/* The new process waits for its turn.  Returns whether this is the child. */
static bool ring_fork(void)
{
	u32 slot = 0;
	pid_t pid;

	while (slot < MAX_SLOTS && sh->alive[slot])
		slot++;
	if (slot == MAX_SLOTS) {
		say("no slot ");
		return false;
	}
	pid = fork();
	if (pid == 0) {
		me->slot = slot;
		return true;
	}
	if (pid > 0) {
		sh->pid[slot] = pid;
		sh->alive[slot] = 1;
	}
	say("slot %u %s ", slot, pid > 0 ? "starts" : strerrorname_np(errno));
	return false;
}

static void ring_exit(u32 i)
{
	say("%u exit of slot %u %08x\n", i, me->slot, (u32)hash_window());
	sh->alive[me->slot] = 0;
	/* Who is next waits until this process is gone (ring_loop). */
	pass_turn(i + 1);
	_exit(0);
}

/* A process that ended is not seen half gone. */
static void wait_for_the_dead(void)
{
	for (u32 i = 0; i < MAX_SLOTS; i++)
		while (!sh->alive[i] && sh->pid[i] && kill(sh->pid[i], 0) == 0)
			usleep(50);
}

static void ring_loop(void)
{
	struct step s;
	u32 i;

	while (read(turns[me->slot][0], &i, sizeof(i)) == sizeof(i)) {
		wait_for_the_dead();
		if (i >= opt.count) {
			say("end of slot %u %08x\n", me->slot, (u32)hash_window());
			if (!me->slot) {
				/* The others in turn: each takes its own hash and ends. */
				for (u32 k = 1; k < MAX_SLOTS; k++) {
					if (!sh->alive[k])
						continue;
					if (write(turns[k][1], &i, sizeof(i)) != sizeof(i) || read(turns[0][0], &i, sizeof(i)) != sizeof(i))
						_exit(90);
				}
				return;
			}
			sh->alive[me->slot] = 0;
			_exit(write(turns[0][1], &i, sizeof(i)) == sizeof(i) ? 0 : 90);
		}
		step_generate(&s, 0, i);
		say("p%u ", me->slot);
		if (s.op == OP_EXIT && me->slot)
			ring_exit(i);
		if (s.op == OP_FORK && ring_fork())
			continue;
		one_step(i);
		pass_turn(i + 1);
	}
	_exit(89);
}

static void run_ring(void)
{
	u32 first = 0;

	/* Nobody is waited for: they vanish by themselves, also those whose parents are gone. */
	signal(SIGCHLD, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (u32 i = 0; i < MAX_SLOTS; i++)
		if (pipe(turns[i]) != 0)
			_exit(97);
	sh->alive[0] = 1;
	sh->pid[0] = getpid();
	pass_turn(first);
	ring_loop();
	flush_output(0);
}

/* ---- side by side ---- */
/* What is shared with the parent, or still reads the parent's files, goes; private pages stay, copied on write. */
static void leave_shared_memory(void)
{
	static char text[64 << 10];
	unsigned long start, end;
	size_t n = 0;
	ssize_t got;
	char perms[5];
	int fd = open("/proc/self/maps", O_RDONLY);

	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	text[n] = 0;
	for (char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3 && perms[3] == 's' &&
		    ((start >= WINDOW && start < WINDOW + (WINDOW_PAGES + WINDOW_TAIL) * PAGE) ||
		     (start >= heap_start && start < heap_start + (HEAP_PAGES + WINDOW_TAIL) * PAGE)))
			munmap((void *)start, end - start);
}

static void run_race(void)
{
	u32 prefix = opt.count / 4;
	bool bad = false;
	int status;

	/* The parent's part: memory for all to inherit. */
	for (u32 i = 0; i < prefix; i++)
		if (kept(i))
			one_step(i);
	flush_output(0);
	for (u32 k = 1; k < MAX_WORKERS; k++) {
		pid_t pid = fork();

		if (pid < 0)
			_exit(88);
		if (pid)
			continue;
		me = &workers[k];
		me->index = k;
		me->window = WINDOW;
		open_files(me);
		leave_shared_memory();
		run_worker();
		_exit(0);
	}
	while (wait(&status) > 0)
		bad |= status != 0;
	for (u32 k = 1; k < MAX_WORKERS; k++)
		flush_output(k);
	say("end %08x%s\n", (u32)hash_window(), bad ? " and a worker died" : "");
	flush_output(0);
}

static void *thread_main(void *arg)
{
	me = arg;
	run_worker();
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[MAX_WORKERS];

	for (u32 k = 0; k < MAX_WORKERS; k++) {
		workers[k].index = k;
		workers[k].window = WINDOW + k * WINDOW_STRIDE;
		if (k)
			open_files(&workers[k]);
	}
	for (u32 k = 0; k < MAX_WORKERS; k++)
		if (pthread_create(&threads[k], NULL, thread_main, &workers[k]))
			_exit(87);
	for (u32 k = 0; k < MAX_WORKERS; k++)
		pthread_join(threads[k], NULL);
	for (u32 k = 0; k < MAX_WORKERS; k++)
		flush_output(k);
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	me = &workers[0];
	me->window = WINDOW;
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sh == MAP_FAILED)
		return 97;
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	open_files(me);
	find_heap();
	catch_faults();
	if (opt.ordinary)
		become_ordinary();
	switch (opt.mode) {
	case MODE_RING: run_ring(); break;
	case MODE_RACE: run_race(); break;
	case MODE_THREADS: run_threads(); break;
	default:
		run_worker();
		flush_output(0);
		break;
	}
	for (u32 i = 0; i < NR_SHM; i++)
		if (sh->shm[i])
			shmctl(sh->shm[i] - 1, IPC_RMID, NULL);
	printf("calls %u\n", sh->calls);
	return 0;
}
