/* Shared memory of every kind between processes: anonymous, memfd, POSIX, System V. */
#include "guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>

static volatile int *area;

static void adds(void)
{
	for (int i = 0; i < 10000; i++)
		__atomic_fetch_add(&area[i % 1024 * 4], 1, __ATOMIC_SEQ_CST);
}

static void hammer(const char *what)
{
	int sum = 0;
	pid_t pids[3];

	for (int i = 0; i < 3; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			adds();
			_exit(0);
		}
	}
	adds();
	for (int i = 0; i < 3; i++)
		VERIFY(waitpid(pids[i], NULL, 0) == pids[i]);
	for (int i = 0; i < 1024; i++)
		sum += area[i * 4];
	printf("%s: %d\n", what, sum);
}

static void anonymous(void)
{
	area = fresh_shared(4 * PAGE);
	hammer("anonymous");
	VERIFY(munmap((void *)area, 4 * PAGE) == 0);
}

static void memfd(void)
{
	int fd = memfd_create("quire-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char byte;

	VERIFY(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
	area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	hammer("memfd");
	VERIFY(pread(fd, &byte, 1, 0) == 1);
	printf("read from the descriptor: %d\n", byte == *(volatile char *)area);
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	SHOW(munmap((void *)area, 4 * PAGE));
	SHOW(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK));
	SHOW(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	SHOW(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	SHOW(pwrite(fd, "x", 1, 0));
}

static void posix(void)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "/quire-guest-%d", getpid());
	fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
	VERIFY(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
	area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VERIFY(shm_unlink(name) == 0 && close(fd) == 0);
	hammer("posix");
}

static void system_v(void)
{
	int id = shmget(IPC_PRIVATE, 5 * PAGE - 7, IPC_CREAT | 0600), id2;
	key_t key = 0x71000000 + getpid();
	struct shmid_ds ds;
	void *second;

	VERIFY(id >= 0);
	area = shmat(id, NULL, 0);
	VERIFY(area != (void *)-1);
	hammer("System V");
	second = shmat(id, NULL, SHM_RDONLY);
	printf("attached twice: %d\n", second != area && *(int *)second == *area);
	VERIFY(shmctl(id, IPC_STAT, &ds) == 0);
	printf("size %zu, attached %ld, mine %d\n", ds.shm_segsz, (long)ds.shm_nattch, ds.shm_cpid == getpid());
	SHOW(shmdt(second));
	SHOW(shmdt(second));
	SHOW(shmctl(id, IPC_RMID, NULL));
	*area = 12;
	printf("removed, still attached: %d\n", *area);
	SHOW(shmdt((void *)area));
	SHOW(shmat(id, NULL, 0));
	SHOW(shmget(IPC_PRIVATE, 0, IPC_CREAT | 0600));
	SHOW(shmget(key, PAGE, 0600));
	id = shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0600);
	id2 = shmget(key, PAGE, IPC_CREAT | 0600);
	printf("same by key: %d\n", id == id2 && id >= 0);
	SHOW(shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0600));
	SHOW(shmget(key, 2 * PAGE, 0600));
	SHOW(shmctl(id, IPC_RMID, NULL));
}

int main(void)
{
	anonymous();
	memfd();
	posix();
	system_v();
	return 0;
}
