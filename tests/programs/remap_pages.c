/* remap_file_pages(): another part of the file at the same place; what it refuses; and a program that unmaps all it has. */
#include "guest.h"

#define PAGES 8ul

static unsigned char at(const char *p, unsigned long page)
{
	return (unsigned char)p[page * PAGE];
}

static void show(const char *what, const char *p)
{
	printf("%s:", what);
	for (unsigned long i = 0; i < PAGES; i++)
		printf(" %d", at(p, i));
	printf("\n");
}

static void permute(const char *what, char *p, char *other)
{
	for (unsigned long i = 0; i < PAGES; i++)
		p[i * PAGE] = (char)(10 + i);
	for (unsigned long i = 0; i < PAGES; i++)
		VERIFY(remap_file_pages(p + i * PAGE, PAGE, 0, PAGES - 1 - i, 0) == 0);
	show(what, p);
	p[2 * PAGE] = 77;
	if (other)
		show("seen by the other", other);
	SHOW(remap_file_pages(p, PAGES * PAGE, 0, 0, 0));
	show("in order again", p);
	SHOW(remap_file_pages(p + PAGE + 5, PAGE, 0, 3, MAP_NONBLOCK));
	show("one", p);
	SHOW(remap_file_pages(p, PAGES * PAGE, 0, 0, 0)); /* more than one mapping */
	SHOW(remap_file_pages(p, PAGE, PROT_READ, 0, 0));
	SHOW(remap_file_pages(p, 0, 0, 0, 0));
	SHOW(remap_file_pages(p, PAGE, 0, ~0ul, 0));
	SHOW(remap_file_pages(p + (PAGES - 1) * PAGE, 2 * PAGE, 0, 0, 0));
	munmap(p + PAGE, PAGE);
	SHOW(remap_file_pages(p, 3 * PAGE, 0, 0, 0));
	SHOW(remap_file_pages(p + PAGE, PAGE, 0, 0, 0));
}

static void unmaps_all(void)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		munmap(NULL, (1ul << 47) - PAGE);
		_exit(1);
	}
	VERIFY(waitpid(pid, &status, 0) == pid);
	printf("unmapped everything: signal %d\n", WTERMSIG(status));
}

int main(void)
{
	int fd = memfd_create("remap", 0);
	char *p = fresh_shared((PAGES + 1) * PAGE), *q;

	munmap(p + PAGES * PAGE, PAGE);
	permute("anonymous", p, NULL);
	SHOW(ftruncate(fd, PAGES * PAGE));
	q = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	p = fresh_shared((PAGES + 1) * PAGE);
	munmap(p + PAGES * PAGE, PAGE);
	VERIFY(mmap(p, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == p);
	permute("file", p, q);
	SHOW(remap_file_pages(fresh(PAGE), PAGE, 0, 0, 0));
	q = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	SHOW(remap_file_pages(q, PAGE, 0, 1, 0));
	SHOW(syscall(__NR_pkey_mprotect, q, PAGE, PROT_READ | PROT_WRITE, -1));
	SHOW(syscall(__NR_pkey_mprotect, q, PAGE, PROT_READ | PROT_WRITE, 15));
	unmaps_all();
	return 0;
}
