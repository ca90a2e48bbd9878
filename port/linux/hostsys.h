/* Numbers of the host's system calls and the few constants that go with them. */
#ifndef QUIRE_LINUX_HOSTSYS_H
#define QUIRE_LINUX_HOSTSYS_H
#include <asm/unistd.h>
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_PRIVATE_FLAG 128
#define FUTEX_OWNER_DIED 0x40000000u
#define HOST_O_RDONLY 0
#define HOST_O_CLOEXEC 02000000
#define HOST_AT_FDCWD (-100)
#define HOST_MADV_HUGEPAGE 14
#define HOST_MADV_NOHUGEPAGE 15
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#define MEMBARRIER_CMD_GLOBAL_EXPEDITED 2
#define MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED 4
#endif
