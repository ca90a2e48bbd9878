/* fork and copy-on-write: the child shares every frame until one of the two writes. */
#include "look.h"

#include <sys/mman.h>
#include <sys/wait.h>

int main(void)
{
	size_t pages = 1024;
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long before, parents;

	memset(p, 1, pages * PAGE);
	say_frame("parent before fork", p);
	parents = frame_of(p);
	fflush(stdout);
	if (fork() == 0) {
		volatile char sum = 0;

		before = faults();
		for (size_t i = 0; i < pages; i++)
			sum = (char)(sum + p[i * PAGE]);
		printf("child reads 1024 pages: %ld faults\n", faults() - before);
		say_frame("child after reading", p);
		printf("the frame is %s\n", frame_of(p) == parents ? "the parent's" : "another");
		before = faults();
		p[0] = 2; /* do_wp_page copies */
		printf("child writes one byte: %s\n", faults() > before ? "a fault" : "no fault");
		say_frame("child after writing", p);
		printf("the frame is %s\n", frame_of(p) != parents || parents < 0 ? "its own now" : "still the parent's");
		exit(0);
	}
	wait(NULL);
	printf("parent still reads %d\n", p[0]);
	return 0;
}
