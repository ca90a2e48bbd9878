/* mincore, mlock, msync: residency that a program can count on, and errors. */
#include "guest.h"
#include <sys/resource.h>

int main(void)
{
	char *p = fresh(64 * PAGE), *gone = fresh(PAGE);
	struct rlimit lock = {8 * PAGE, 8 * PAGE}, old;
	unsigned char vec[64];
	int fd = temp_file(4 * PAGE), resident = 0;
	char *f = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	VERIFY(munmap(gone, PAGE) == 0);
	SHOW(mincore(p, 64 * PAGE, vec));
	for (int i = 0; i < 64; i++)
		resident += vec[i] & 1;
	printf("before any touch: %d\n", resident);
	memset(p, 1, 64 * PAGE);
	VERIFY(mincore(p, 64 * PAGE, vec) == 0);
	resident = 0;
	for (int i = 0; i < 64; i++)
		resident += vec[i] & 1;
	printf("after touching all: %d\n", resident);
	SHOW(mincore(p + 1, PAGE, vec));
	SHOW(mincore(gone, PAGE, vec));
	SHOW(mincore(p, PAGE, (unsigned char *)8));
	SHOW(mincore(p, 0, vec));
	VERIFY(madvise(p, 64 * PAGE, MADV_DONTNEED) == 0);
	SHOW(mlock(p, 8 * PAGE));
	VERIFY(mincore(p, 8 * PAGE, vec) == 0);
	printf("locked is resident: %d%d%d\n", vec[0] & 1, vec[3] & 1, vec[7] & 1);
	SHOW(msync(p, PAGE, MS_SYNC | MS_INVALIDATE));
	SHOW(munlock(p, 8 * PAGE));
	SHOW(mlock(gone, PAGE));
	SHOW(munlock(gone, PAGE));
	SHOW(mlock2(p, PAGE, MLOCK_ONFAULT));
	SHOW(mlock2(p, PAGE, 8));
	SHOW(munlockall());
	SHOW(mlockall(0));
	SHOW(mlockall(MCL_ONFAULT));
	SHOW(getrlimit(RLIMIT_MEMLOCK, &old));
	SHOW(setrlimit(RLIMIT_MEMLOCK, &lock));
	SHOW(msync(f, 4 * PAGE, MS_SYNC));
	SHOW(msync(f, 4 * PAGE, MS_ASYNC));
	SHOW(msync(f, 4 * PAGE, MS_ASYNC | MS_SYNC));
	SHOW(msync(f + 1, PAGE, MS_SYNC));
	SHOW(msync(f, PAGE, 64));
	SHOW(msync(gone, PAGE, MS_SYNC));
	return 0;
}
