/*
 * The backend of a program that runs by itself: system calls, accesses, /proc, fork.
 *
 * Faults are caught by a jump out of the handler.  The handler runs with nothing blocked (SA_NODEFER), so the jump need
 * not restore a mask.
 */
#include "callgen.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_BYTES (256u << 10)

s64 raw(long nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	long r = syscall(nr, a, b, c, d, e, f);

	return r == -1 ? -errno : r;
}

void flush_output(u32 index)
{
	for (u32 at = 0; at < sh->out[index].len;) {
		ssize_t n = write(1, sh->out[index].text + at, sh->out[index].len - at);

		if (n <= 0)
			_exit(96);
		at += (u32)n;
	}
	sh->out[index].len = 0;
}

/* ---- accesses ---- */
static __thread sigjmp_buf jump;

static void on_fault(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	caught.sig = sig;
	caught.code = si->si_code;
	caught.addr = (u64)si->si_addr;
	siglongjmp(jump, 1);
}

void catch_faults(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
}

bool mem_load(u64 a, u64 width, u64 *v)
{
	if (sigsetjmp(jump, 0))
		return false;
	switch (width) {
	case 1: *v = *(volatile u8 *)a; break;
	case 4: *v = *(volatile u32 *)a; break;
	default: *v = *(volatile u64 *)a; break;
	}
	return true;
}

bool mem_store(u64 a, u64 width, u64 value)
{
	if (sigsetjmp(jump, 0))
		return false;
	switch (width) {
	case 1: *(volatile u8 *)a = (u8)value; break;
	case 4: *(volatile u32 *)a = (u32)(value * 0x01010101u); break;
	default: __atomic_fetch_add((volatile u8 *)a, (u8)value, __ATOMIC_SEQ_CST);
		*(volatile u64 *)a = value * 0x0101010101010101ull; break;
	}
	return true;
}

bool mem_run(u64 a)
{
	if (sigsetjmp(jump, 0))
		return false;
	((void (*)(void))a)();
	return true;
}

/* A function of its own: what the compiler keeps in registers here, no jump may change. */
static void __attribute__((noinline)) copy_words(volatile u64 *from, u64 *to, u64 n)
{
	while (n--)
		*to++ = *from++;
}

bool mem_read(u64 a, u64 *words, u64 bytes)
{
	if (sigsetjmp(jump, 0))
		return false;
	copy_words((volatile u64 *)a, words, bytes / 8);
	return true;
}

/* ---- views ---- */
char *view_text(const char *name)
{
	static char texts[MAX_WORKERS][TEXT_BYTES];
	char *text = texts[me->index], path[64];
	size_t n = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/thread-self/%s", name);
	fd = open(path, O_RDONLY);
	while (fd >= 0 && n < TEXT_BYTES - 1 && (got = read(fd, text + n, TEXT_BYTES - 1 - n)) > 0)
		n += (size_t)got;
	close(fd);
	text[n] = 0;
	return text;
}

void mem_present(u64 a, u32 pages, u64 *present)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (pread(fd, present, pages * sizeof(*present), (off_t)(a / PAGE * sizeof(*present))) != (ssize_t)(pages * sizeof(*present)))
		_exit(85);
	close(fd);
	for (u32 i = 0; i < pages; i++)
		present[i] >>= 62; /* bit 63: present, 62: swapped (Documentation/admin-guide/mm/pagemap.rst) */
}

/* ---- processes ---- */
void snapshot(const struct step *s, u64 hashes[2])
{
	int ends[2], status;
	pid_t pid;

	if (pipe(ends) != 0)
		_exit(95);
	pid = fork();
	if (pid == 0) {
		snapshot_look(s, hashes);
		_exit(write(ends[1], hashes, 2 * sizeof(*hashes)) == 2 * sizeof(*hashes) ? 0 : 94);
	}
	close(ends[1]);
	if (pid > 0 && read(ends[0], hashes, 2 * sizeof(*hashes)) != 2 * sizeof(*hashes))
		say(" short");
	close(ends[0]);
	if (pid < 0)
		say(" %s", strerrorname_np(errno));
	else if (waitpid(pid, &status, 0) == pid)
		say(" status %x", status);
}
