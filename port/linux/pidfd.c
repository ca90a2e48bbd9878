/*
 * Calls on the memory of another process, which a descriptor names (pidfd_open(2)) or a number.  The descriptor is the host's; whose it is,
 * and whether the caller may look at that process, the host is asked, and what is done there is done to the machine's address space of it.
 * Locks: called under none.
 */
#include "hostsys.h"
#include "memory.h"
#include "native.h"
#include "x86_64/native_nr.h"
#include "../../reclaim/reclaim.h"
#include "../../sys/sys.h"
#include <fmt.h>
#include <linux/capability.h>

#define PIDFD_SELF_THREAD_ (-10000)
#define PIDFD_SELF_THREAD_GROUP_ (-10001)

/* The number behind "Pid:" in a descriptor's fdinfo: 0 in no namespace of ours, -1 gone.  -EBADF: it is no pidfd. */
static long parse_pid(const char *text, long n)
{
	static const char key[] = "\nPid:\t";
	const char *s = text, *end = text + n;
	long pid = 0;

	while (s + sizeof(key) <= end && memcmp(s, key, sizeof(key) - 1))
		s++;
	if (s + sizeof(key) > end)
		return -EBADF;
	for (s += sizeof(key) - 1; s < end && *s >= '0' && *s <= '9'; s++)
		pid = pid * 10 + (*s - '0');
	return pid ? pid : -ESRCH;
}

/* The process, or -EBADF, or -ESRCH. */
static long pidfd_pid(s32 fd)
{
	char text[512], path[40];
	struct fmt_buf b = fmt_init(path, sizeof(path));
	long in, n;

	if (fd == PIDFD_SELF_THREAD_ || fd == PIDFD_SELF_THREAD_GROUP_)
		return kproc.pid;
	if (fd < 0 || native_check_fd((u64)fd))
		return -EBADF;
	fmt_printf(&b, "/proc/thread-self/fdinfo/%d", fd);
	in = host_call(__NR_openat, HOST_AT_FDCWD, path, HOST_O_CLOEXEC);
	if (in < 0)
		return -EBADF;
	n = host_call(__NR_read, in, text, sizeof(text));
	host_call(__NR_close, in);
	return parse_pid(text, n);
}

/* PTRACE_MODE_READ_FSCREDS (ptrace(2)): opening just this file asks for that. */
static bool may_look_at(long pid)
{
	char path[32];
	struct fmt_buf b = fmt_init(path, sizeof(path));
	long fd;

	if (pid == kproc.pid)
		return true;
	fmt_printf(&b, "/proc/%ld/maps", pid);
	fd = host_call(__NR_openat, HOST_AT_FDCWD, path, HOST_O_CLOEXEC);
	if (fd >= 0)
		host_call(__NR_close, fd);
	return fd >= 0;
}

long guest_process_madvise(const u64 a[6])
{
	long pid = pidfd_pid((s32)a[0]);
	struct madvise_caller who = { .may_look = pid > 0 && may_look_at(pid), .cap_sys_nice = host_capable(CAP_SYS_NICE) };

	return sys_process_madvise(kproc.task, pid, &who, a[1], a[2], (int)a[3], (u32)a[4]);
}

/* ---- process_mrelease(2) ---- */

/* What the host says behind "KEY:\t" in a process's status, as a hexadecimal number or the code of its first letter. */
static u64 status_field(const char *text, const char *key)
{
	size_t n = strlen(key);
	const char *s = text;
	u64 v = 0;

	while (*s && strncmp(s, key, n))
		s++;
	if (!*s)
		return 0;
	s += n;
	if (*s == 'Z' || *s == 'X')
		return (u64)*s;
	for (; (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'f'); s++)
		v = v * 16 + (u64)(*s <= '9' ? *s - '0' : *s - 'a' + 10);
	return v;
}

/* Was it sent SIGKILL, or has it ended? */
static bool is_dying(long pid)
{
	char text[4096], path[32];
	struct fmt_buf b = fmt_init(path, sizeof(path));
	long in, n;

	fmt_printf(&b, "/proc/%ld/status", pid);
	in = host_call(__NR_openat, HOST_AT_FDCWD, path, HOST_O_CLOEXEC);
	if (in < 0)
		return true;
	n = host_call(__NR_read, in, text, sizeof(text) - 1);
	host_call(__NR_close, in);
	if (n <= 0)
		return true;
	text[n] = '\0';
	return status_field(text, "\nState:\t") || ((status_field(text, "\nSigPnd:\t") | status_field(text, "\nShdPnd:\t")) & BIT(9 - 1));
}

long guest_process_mrelease(const u64 a[6])
{
	struct task *t;
	long pid, ret;

	if ((u32)a[1])
		return -EINVAL;
	pid = pidfd_pid((s32)a[0]);
	if (pid < 0)
		return pid;
	t = task_find_get(kproc.task->q, (s32)pid);
	if (!t)
		return -ESRCH;
	ret = is_dying(pid) ? oom_release(t) : -EINVAL;
	task_put(t);
	return ret;
}

/* ---- whom a process may attach to, by its number ---- */

/* PTRACE_MODE_ATTACH_REALCREDS: the host looks at that before it looks at the address, where nothing is. */
long guest_may_attach(s32 pid)
{
	u8 byte;
	struct { u64 base, len; } local = { (u64)&byte, 1 }, remote = { 8, 1 };
	long ret;

	if (pid == kproc.pid)
		return pid;
	ret = host_call(__NR_process_vm_readv, pid, &local, 1, &remote, 1, 0);
	return ret == -EPERM || ret == -ESRCH ? ret : pid;
}
