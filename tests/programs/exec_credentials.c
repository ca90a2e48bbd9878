/*
 * Rights across exec: saved numbers, "keep capabilities", ambient ones.  Says more as root; as anybody else only that nothing changes.
 */
#include "guest.h"
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void show(const char *when)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct cap[2];
	uid_t u[3];
	gid_t g[3];

	memset(cap, 0, sizeof(cap));
	VERIFY(syscall(SYS_capget, &head, cap) == 0 && getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0);
	printf("%s: uid %u %u %u gid %u %u %u permitted %x effective %x inheritable %x keep %d dumpable %d\n", when, u[0], u[1], u[2],
	       g[0], g[1], g[2], cap[0].permitted, cap[0].effective, cap[0].inheritable, prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0),
	       prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	fflush(stdout);
}

static void exec_after(const char *self, void (*prepare)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		prepare();
		show("before exec");
		execl(self, self, "after exec", (char *)NULL);
		_exit(127);
	}
	VERIFY(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 0);
}

static void nothing(void) { }
static void give_up(void) { VERIFY(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0); }
static void keep(void)
{
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	give_up();
}

static void only_effective(void)
{
	VERIFY(setresuid(0, 1000, 0) == 0);
}

static void only_real(void)
{
	VERIFY(setresgid(1000, 0, 7) == 0 && setresuid(1000, 0, 1000) == 0);
}

static void ambient(void)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct cap[2];

	keep();
	VERIFY(syscall(SYS_capget, &head, cap) == 0);
	cap[0].inheritable |= 1u << CAP_CHOWN;
	cap[0].effective = 0;
	VERIFY(syscall(SYS_capset, &head, cap) == 0);
	VERIFY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
}

int main(int argc, char **argv)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (argc > 1) {
		show(argv[1]);
		return 0;
	}
	VERIFY(n > 0);
	self[n] = 0;
	exec_after(self, nothing);
	if (getuid())
		return 0;
	exec_after(self, give_up);
	exec_after(self, keep);
	exec_after(self, only_effective);
	exec_after(self, only_real);
	exec_after(self, ambient);
	return 0;
}
