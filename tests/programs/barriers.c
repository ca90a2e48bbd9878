/* membarrier(2): what was registered, what is refused before it was, and what fork and exec keep of it. */
#include "guest.h"
#include <linux/membarrier.h>

#define GET_REGISTRATIONS 512

static long barrier(int cmd, unsigned flags)
{
	return syscall(SYS_membarrier, cmd, flags, 0);
}

static void show_all(const char *who)
{
	static const int cmds[] = { MEMBARRIER_CMD_GLOBAL, MEMBARRIER_CMD_GLOBAL_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED,
				    MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ };

	printf("%s: registered %ld;", who, barrier(GET_REGISTRATIONS, 0));
	for (size_t i = 0; i < COUNT(cmds); i++)
		printf(" %d=%s", cmds[i], barrier(cmds[i], 0) ? strerrorname_np(errno) : "0");
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		show_all("after exec");
		return 0;
	}
	show_all("at first");
	SHOW(barrier(-1, 0));
	SHOW(barrier(3, 0));
	SHOW(barrier(GET_REGISTRATIONS, 1));
	SHOW(barrier(MEMBARRIER_CMD_QUERY, 1));
	SHOW(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 1));
	SHOW(barrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0));
	show_all("one");
	SHOW(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0));
	show_all("two");
	SHOW(barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0));
	show_all("three");
	fflush(stdout);
	if (!fork()) {
		show_all("child");
		execl("/proc/self/exe", argv[0], "again", NULL);
		_exit(1);
	}
	wait(NULL);
	return 0;
}
