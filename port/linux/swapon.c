/*
 * swapon(2) and swapoff(2) inside the machine: swap files for this machine alone, on the host's file systems.
 *
 * The file is opened with the guest's own rights, and then by the supervisor by that descriptor, since it must stay open as
 * long as it is used and only the supervisor does I/O on it (swapio.h).  It needs the header that mkswap(8) writes, as on Linux.
 * An area goes by its file's path as the host resolves it.
 */
#include "kernel.h"
#include "hostsys.h"
#include "memory.h"
#include "fmt.h"
#include "process.h"
#include "swapio.h"
#include <linux/capability.h>

#define SWAP_FLAG_PREFER_ 0x8000u
#define SWAP_FLAG_PRIO_MASK_ 0x7fffu
#define SWAP_FLAGS_VALID_ 0x7ffffu /* with the three about discarding, which change nothing here */
#define O_RDWR_ 2
#define O_PATH_ 010000000
#define PATH_SIZE 4096

/* What the descriptor's file is called: 0 or negative errno. */
static int path_of(s32 fd, char *name, size_t size)
{
	char link[32];
	struct fmt_buf b = fmt_init(link, sizeof(link));
	long n;

	fmt_printf(&b, "/proc/self/fd/%d", fd);
	n = host_call(__NR_readlink, link, name, size);
	if (n < 0)
		return (int)n;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	name[n] = 0;
	return 0;
}

static int swapon_fd(s32 fd, const char *name, s32 prio)
{
	struct quire *q = kthread()->ctx->q;
	struct swapio_request *r;
	struct swap_stat st;
	int ret;

	for (unsigned type = 0; type < QUIRE_MAX_SWAP_AREAS; type++)
		if (swap_area_stat(q, type, &st) && !strcmp(st.name, name))
			return -EBUSY;
	r = swapio_open(fd);
	ret = r->result;
	if (ret >= 0) {
		u32 dev = (u32)ret;

		ret = swapon_device(q, name, "file", dev, r->page - 1, prio);
		if (ret)
			host_swap_close(q, dev);
	}
	swapio_settled(r);
	return ret == -EEXIST ? -EBUSY : ret;
}

long guest_swapon(u64 path, u64 flags)
{
	s32 prio = flags & SWAP_FLAG_PREFER_ ? (s32)(flags & SWAP_FLAG_PRIO_MASK_) : SWAP_PRIO_DEFAULT;
	char text[PATH_SIZE], name[SWAP_NAME_MAX + 1];
	long ret, fd;

	if (flags & ~(u64)SWAP_FLAGS_VALID_)
		return -EINVAL;
	if (!host_capable(CAP_SYS_ADMIN))
		return -EPERM;
	ret = strncpy_from_user(text, path, sizeof(text));
	if (ret < 0)
		return ret;
	fd = host_call(__NR_openat, HOST_AT_FDCWD, text, O_RDWR_ | HOST_O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	ret = path_of((s32)fd, name, sizeof(name));
	if (!ret)
		ret = swapon_fd((s32)fd, name, prio);
	host_call(__NR_close, fd);
	return ret;
}

long guest_swapoff(u64 path)
{
	struct quire *q = kthread()->ctx->q;
	char text[PATH_SIZE], name[SWAP_NAME_MAX + 1];
	long ret, fd;

	if (!host_capable(CAP_SYS_ADMIN))
		return -EPERM;
	ret = strncpy_from_user(text, path, sizeof(text));
	if (ret < 0)
		return ret;
	ret = swapoff(q, text); /* an area in memory has no file */
	if (ret != -EINVAL)
		return ret;
	fd = host_call(__NR_openat, HOST_AT_FDCWD, text, O_PATH_ | HOST_O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	ret = path_of((s32)fd, name, sizeof(name));
	host_call(__NR_close, fd);
	return ret ? ret : swapoff(q, name);
}
