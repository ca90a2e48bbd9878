/*
 * What would outlive a call or bind the kernel below the program is refused or done by copying, never ignored.  Under Quire only: exit code 0
 * when all is as it should be.  Each is tried twice: the machine's log must say so once (tests/hosted/refused.py).
 */
#include "guest.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#define MSG_ZEROCOPY 0x4000000
#endif

static void fails(const char *what, long ret, int error)
{
	if (ret == -1 && errno == error)
		return;
	printf("%s: %ld %s, not %s\n", what, ret, strerrorname_np(errno), strerrorname_np(error));
	exit(1);
}
#define FAILS(call, error) fails(#call, (long)(call), error)

static void seccomp_is_refused(void)
{
	struct sock_filter deny = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	struct sock_fprog prog = {1, &deny};

	VERIFY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	FAILS(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), ENOSYS);
	FAILS(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL), ENOSYS);
	FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), EINVAL);
	FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT), EINVAL);
	VERIFY(prctl(PR_GET_SECCOMP) == 0 && getppid() > 0 && access("/", F_OK) == 0);
}

static void rings_are_refused(void)
{
	uint64_t buf[64] = {0};

	FAILS(syscall(SYS_io_uring_setup, 8, buf), ENOSYS);
	FAILS(syscall(SYS_io_setup, 8, buf), ENOSYS);
	FAILS(syscall(SYS_userfaultfd, 0), ENOSYS);
	FAILS(ptrace(PTRACE_TRACEME, 0, NULL, NULL), EPERM);
	FAILS(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL), EPERM);
}

/* The pipe holds what the memory held then. */
static void vmsplice_copies(void)
{
	char *p = fresh(PAGE), got[PAGE];
	struct iovec iov = {p, PAGE};
	int fds[2];

	memset(p, 'a', PAGE);
	VERIFY(pipe(fds) == 0 && vmsplice(fds[1], &iov, 1, SPLICE_F_GIFT) == (ssize_t)PAGE);
	memset(p, 'b', PAGE);
	VERIFY(munmap(p, PAGE) == 0 && read(fds[0], got, PAGE) == (ssize_t)PAGE && got[0] == 'a' && got[PAGE - 1] == 'a');
	close(fds[0]);
	close(fds[1]);
}

static void zerocopy_copies(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), peer, one = 1;
	socklen_t len = sizeof(at);
	char *p = fresh(16 * PAGE), got[16 * PAGE];

	VERIFY(bind(server, (struct sockaddr *)&at, len) == 0 && listen(server, 1) == 0 &&
	       getsockname(server, (struct sockaddr *)&at, &len) == 0 && connect(client, (struct sockaddr *)&at, len) == 0);
	peer = accept(server, NULL, NULL);
	FAILS(setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), EOPNOTSUPP);
	memset(p, 'a', 16 * PAGE);
	VERIFY(send(client, p, 16 * PAGE, MSG_ZEROCOPY) == (ssize_t)(16 * PAGE));
	memset(p, 'b', 16 * PAGE);
	VERIFY(recv(peer, got, sizeof(got), MSG_WAITALL) == (ssize_t)sizeof(got));
	for (size_t i = 0; i < sizeof(got); i++)
		VERIFY(got[i] == 'a');
	close(server);
	close(client);
	close(peer);
}

int main(void)
{
	for (int i = 0; i < 2; i++) {
		seccomp_is_refused();
		rings_are_refused();
		vmsplice_copies();
		zerocopy_copies();
	}
	printf("refused or copied\n");
	return 0;
}
