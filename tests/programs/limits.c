/* Resource limits as a program sets them: address space, data, files, file size, locked memory, stack. */
#include "guest.h"
#include <sys/resource.h>

static void limit(int what, rlim_t to)
{
	struct rlimit r;

	VERIFY(getrlimit(what, &r) == 0);
	r.rlim_cur = to;
	VERIFY(setrlimit(what, &r) == 0 && getrlimit(what, &r) == 0 && r.rlim_cur == to);
}

static void address_space(void)
{
	limit(RLIMIT_AS, 512 << 20);
	SHOW(mmap(NULL, 1 << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	SHOW(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	printf("malloc: %d %d\n", malloc((1ul << 30) + (size_t)getpid() * 0) == NULL, malloc(1 << 20) != NULL);
}

static void data(void)
{
	limit(RLIMIT_DATA, 64 << 20);
	SHOW(mmap(NULL, 128 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	SHOW(mmap(NULL, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	SHOW(mmap(NULL, 128 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

static void file_size(void)
{
	int fd = temp_file(100);

	limit(RLIMIT_FSIZE, 1000);
	signal(SIGXFSZ, SIG_IGN);
	SHOWN(pwrite(fd, "x", 1, 2000));
	SHOWN(pwrite(fd, "0123456789", 10, 995));
	SHOWN(ftruncate(fd, 5000));
	signal(SIGXFSZ, SIG_DFL);
	fflush(stdout);
	SHOWN(pwrite(fd, "x", 1, 2000));
}

static void memory_despite_file_size(void)
{
	char *p = fresh(300 * PAGE);
	struct rlimit old;

	VERIFY(getrlimit(RLIMIT_FSIZE, &old) == 0);
	limit(RLIMIT_FSIZE, 0);
	memset(p, 1, 300 * PAGE);
	limit(RLIMIT_FSIZE, old.rlim_cur); /* our own output may be a file */
	printf("memory is not a file: %d\n", p[299 * PAGE]);
}

static void descriptors(void)
{
	int n = 0, last = -1, fd;

	limit(RLIMIT_NOFILE, 40);
	while ((fd = open("/dev/null", O_RDONLY)) >= 0) {
		last = fd;
		n++;
	}
	printf("opened until %d: %s\n", last, strerrorname_np(errno));
	SHOW(dup(1));
	SHOW(dup2(1, 40));
	SHOW(dup2(1, 39));
	printf("memory still works: %d\n", all_zero(fresh(50 * PAGE), 50 * PAGE));
}

static void small_stack(void)
{
	limit(RLIMIT_STACK, 256 << 10);
	execlp("sh", "sh", "-c", "ulimit -s; exit 4", NULL);
}

static void wrong(void)
{
	struct rlimit r = {10, 5};

	SHOW(setrlimit(RLIMIT_AS, &r));
	SHOW(setrlimit(99, &r));
	SHOW(getrlimit(99, &r));
}

int main(void)
{
	in_child("address space", address_space);
	in_child("data", data);
	in_child("file size", file_size);
	in_child("memory", memory_despite_file_size);
	in_child("descriptors", descriptors);
	in_child("stack", small_stack);
	in_child("wrong", wrong);
	return 0;
}
