/* Two processes, the same address, different frames: a virtual address means nothing without its page tables. */
#include "look.h"

#include <sys/wait.h>

static int variable = 1;

int main(void)
{
	int fds[2];
	long frame, other = 0;

	if (pipe(fds))
		return 1;
	variable = 2;
	if (fork() == 0) {
		variable = 3; /* copy-on-write gives the child a frame of its own */
		say_frame("child ", &variable);
		printf("child : &variable = %p, variable = %d\n", (void *)&variable, variable);
		frame = frame_of(&variable);
		fflush(stdout);
		return write(fds[1], &frame, sizeof(frame)) != sizeof(frame);
	}
	if (read(fds[0], &other, sizeof(other)) != sizeof(other))
		return 1;
	wait(NULL);
	frame = frame_of(&variable);
	say_frame("parent", &variable);
	printf("parent: &variable = %p, variable = %d\n", (void *)&variable, variable);
	if (frame > 0)
		printf("same address, %s frame\n", frame == other ? "same" : "different");
	return 0;
}
