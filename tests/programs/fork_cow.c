/* fork and copy-on-write: parent, child and grandchild each see their own writes and nobody else's. */
#include "guest.h"

#define PAGES 512
static char *private_area, *shared_area;
static int global = 1;

static uint64_t state_of(void)
{
	return digest(private_area, PAGES * PAGE);
}

static void grandchild(void)
{
	memset(private_area, 3, PAGES * PAGE / 4);
	global = 3;
	shared_area[2] = 3;
	printf("grandchild: %016lx, global %d\n", state_of(), global);
}

static void child(void)
{
	uint64_t before = state_of();

	for (size_t i = 0; i < PAGES; i += 2)
		private_area[i * PAGE + 17] = 2;
	global = 2;
	shared_area[1] = 2;
	printf("child: %016lx, changed %d, global %d\n", state_of(), before != state_of(), global);
	in_child("grandchild", grandchild);
	printf("child again: %016lx, global %d\n", state_of(), global);
}

/* A child that only reads must see a snapshot while the parent writes. */
static void snapshot(void)
{
	int go[2], done[2], status;
	uint64_t before = state_of(), after;
	pid_t pid;
	char c = 0;

	VERIFY(pipe(go) == 0 && pipe(done) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		VERIFY(read(go[0], &c, 1) == 1);
		after = state_of();
		VERIFY(write(done[1], &after, sizeof(after)) == sizeof(after));
		_exit(0);
	}
	memset(private_area, 9, PAGES * PAGE);
	VERIFY(write(go[1], &c, 1) == 1 && read(done[0], &after, sizeof(after)) == sizeof(after));
	VERIFY(waitpid(pid, &status, 0) == pid && status == 0);
	printf("snapshot held: %d\n", before == after);
}

/* The last owner writes in place; contents must survive others' exits. */
static void many_children(void)
{
	pid_t pids[20];
	int status, good = 0;

	for (int i = 0; i < 20; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			for (size_t k = (size_t)i; k < PAGES; k += 20)
				private_area[k * PAGE] = (char)(100 + i);
			for (size_t k = 0; k < PAGES; k++)
				VERIFY(private_area[k * PAGE] == (k % 20 == (size_t)i ? (char)(100 + i) : 9));
			_exit(i);
		}
	}
	for (int i = 0; i < 20; i++)
		good += waitpid(pids[i], &status, 0) == pids[i] && WEXITSTATUS(status) == i;
	printf("children that saw only their own writes: %d\n", good);
	printf("parent untouched: %d\n", private_area[0] == 9 && private_area[(PAGES - 1) * PAGE] == 9);
}

int main(void)
{
	uint64_t seed = 7;

	private_area = fresh(PAGES * PAGE);
	shared_area = fresh_shared(PAGE);
	for (size_t i = 0; i < PAGES * PAGE; i += 8)
		*(uint64_t *)(private_area + i) = next_random(&seed);
	printf("parent: %016lx\n", state_of());
	in_child("child", child);
	printf("parent again: %016lx, global %d, shared %d %d\n", state_of(), global, shared_area[1], shared_area[2]);
	snapshot();
	many_children();
	return 0;
}
