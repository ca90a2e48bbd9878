/* Large transfers through pipes, sockets, vectors and messages, from and into memory that is not resident. */
#include "guest.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define BYTES (8ul << 20)
static uint64_t wanted;

static void fill(char *p)
{
	uint64_t seed = 42;

	for (size_t i = 0; i < BYTES; i += 8)
		*(uint64_t *)(p + i) = next_random(&seed);
	wanted = digest(p, BYTES);
}

static void receives(int fd, bool vectors)
{
	char *p = fresh(BYTES);
	size_t at = 0;

	while (at < BYTES) {
		size_t left = BYTES - at, half = left / 2;
		struct iovec iov[2] = {{p + at, half}, {p + at + half, left - half}};
		ssize_t n = vectors ? readv(fd, iov, 2) : read(fd, p + at, left > 300000 ? 300000 : left);

		VERIFY(n > 0);
		at += (size_t)n;
	}
	printf("  arrived whole: %d\n", digest(p, BYTES) == wanted);
	fflush(stdout);
	_exit(0);
}

static void sends(int fd, char *p, bool vectors)
{
	for (size_t at = 0; at < BYTES;) {
		size_t left = BYTES - at;
		struct iovec iov[3] = {{p + at, left / 3}, {p + at + left / 3, left / 3},
				       {p + at + left / 3 * 2, left - left / 3 * 2}};
		ssize_t n = vectors ? writev(fd, iov, 3) : write(fd, p + at, left);

		VERIFY(n > 0);
		at += (size_t)n;
	}
}

static void stream(const char *what, int fds[2], bool vectors)
{
	char *p = fresh(BYTES);
	pid_t pid;

	fill(p);
	printf("%s%s\n", what, vectors ? ", vectors" : "");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		receives(fds[0], vectors);
	sends(fds[1], p, vectors);
	VERIFY(waitpid(pid, NULL, 0) == pid && munmap(p, BYTES) == 0);
	close(fds[0]);
	close(fds[1]);
}

static void messages(void)
{
	char *out = fresh(64 * PAGE), *in = fresh(64 * PAGE), *control = fresh(PAGE), *cin = fresh(PAGE);
	struct iovec ov[4], iv[2] = {{in + 100, 30000}, {in + 20 * PAGE, 100000}};
	struct msghdr om = {.msg_iov = ov, .msg_iovlen = 4}, im = {.msg_iov = iv, .msg_iovlen = 2};
	int sv[2], passed = temp_file(PAGE), got;
	struct cmsghdr *c = (struct cmsghdr *)control;
	char byte;

	VERIFY(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	for (int i = 0; i < 4; i++) {
		ov[i] = (struct iovec){out + (size_t)i * 9 * PAGE + 11, 9000};
		memset(ov[i].iov_base, 'a' + i, 9000);
	}
	c->cmsg_len = CMSG_LEN(sizeof(int));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(c), &passed, sizeof(int));
	om.msg_control = control;
	om.msg_controllen = CMSG_SPACE(sizeof(int));
	im.msg_control = cin;
	im.msg_controllen = PAGE;
	SHOWN(sendmsg(sv[0], &om, 0));
	SHOWN(recvmsg(sv[1], &im, 0));
	printf("parts: %c %c %c %c\n", in[100], in[100 + 9000], in[100 + 27000], in[20 * PAGE + 5999]);
	c = CMSG_FIRSTHDR(&im);
	memcpy(&got, CMSG_DATA(c), sizeof(int));
	VERIFY(pread(got, &byte, 1, 3) == 1);
	printf("descriptor passed: %d, byte %d\n", got != passed, byte);
	VERIFY(send(sv[0], out, 20000, 0) == 20000);
	SHOWN(recv(sv[1], in + 40 * PAGE, 100, MSG_TRUNC));
}

static void many_messages(void)
{
	struct mmsghdr *m = fresh(4 * PAGE), *r = m + 16;
	struct iovec *iov = fresh(PAGE);
	char *bytes = fresh(64 * PAGE);
	int sv[2];

	VERIFY(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) == 0);
	for (size_t i = 0; i < 8; i++) {
		iov[i] = (struct iovec){bytes + i * PAGE, 100 + i};
		iov[i + 8] = (struct iovec){bytes + (i + 8) * PAGE + 4000, 500};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
		r[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i + 8], .msg_iovlen = 1};
		memset(iov[i].iov_base, (int)('A' + i), 100);
	}
	SHOWN(sendmmsg(sv[0], m, 8, 0));
	SHOWN(recvmmsg(sv[1], r, 8, 0, NULL));
	printf("lengths %u %u, bytes %c %c\n", r[0].msg_len, r[7].msg_len, bytes[8 * PAGE + 4000], bytes[15 * PAGE + 4050]);
}

static void within_the_kernel(void)
{
	int fd = temp_file(32 * PAGE), fds[2], out = temp_file(0);
	char *p = fresh(32 * PAGE);
	off_t at = 0;

	SHOWN(sendfile(out, fd, &at, 20 * PAGE));
	SHOWN(copy_file_range(fd, NULL, out, NULL, 4 * PAGE, 0));
	VERIFY(pipe(fds) == 0);
	SHOWN(splice(fd, &(off_t){0}, fds[1], NULL, 4 * PAGE, 0));
	SHOWN(read(fds[0], p, 32 * PAGE));
	printf("spliced: %016lx\n", digest(p, 4 * PAGE));
	SHOWN(pread(out, p, 32 * PAGE, 0));
	printf("sent: %016lx\n", digest(p, 20 * PAGE));
}

int main(void)
{
	int fds[2], sv[2];

	for (int vectors = 0; vectors < 2; vectors++) {
		VERIFY(pipe(fds) == 0);
		stream("pipe", fds, vectors);
		VERIFY(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
		stream("socket", sv, vectors);
	}
	messages();
	many_messages();
	within_the_kernel();
	return 0;
}
