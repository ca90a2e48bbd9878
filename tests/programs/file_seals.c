/* Seals of a memfd and mappings of it: who stands in whose way. */
#include "guest.h"
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static int sealable(void)
{
	int fd = memfd_create("seals", MFD_ALLOW_SEALING);

	VERIFY(fd >= 0 && !ftruncate(fd, 4 * PAGE));
	return fd;
}

static char *map(int fd, int prot, int flags)
{
	char *p = mmap(NULL, 4 * PAGE, prot, flags, fd, 0);

	printf("map %d %d: %s\n", prot, flags, p == MAP_FAILED ? strerrorname_np(errno) : "ok");
	return p;
}

int main(void)
{
	int fd = sealable();
	char *p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED), *copy;

	p[0] = 1;
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	copy = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	copy[0] = 2;
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	munmap(p, 4 * PAGE);
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	VERIFY(copy[0] == 2 && copy[PAGE] == 0);
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	p = map(fd, PROT_READ, MAP_SHARED);
	if (p != MAP_FAILED)
		printf("content %d\n", p[0]);
	SHOW(ftruncate(fd, PAGE));
	SHOW(pwrite(fd, "x", 1, 0));
	close(fd);

	/* A private mapping alone does not count as a writer. */
	fd = sealable();
	copy = map(fd, PROT_READ, MAP_PRIVATE);
	VERIFY(copy[PAGE] == 0);
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	close(fd);

	/* Mappings that exist stay writable, new ones are not. */
	fd = sealable();
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	p[PAGE] = 3;
	map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	copy = map(fd, PROT_READ, MAP_SHARED);
	SHOW(mprotect(copy, PAGE, PROT_READ | PROT_WRITE));
	printf("content %d\n", copy[PAGE]);
	SHOW(fcntl(fd, F_GET_SEALS) == F_SEAL_FUTURE_WRITE);
	return 0;
}
