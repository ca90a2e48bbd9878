/*
 * The port contract, second half: processes, signals and files, where the machine
 * has them.  The sim port keeps them in memory; the hosted port asks its host.
 */
#ifndef PORT_HOST_H
#define PORT_HOST_H
#include <quire/types.h>

struct quire;
struct task;
struct address_space;
struct folio;

/* Sends a signal to a task's process, as kill(2) by the kernel.  0 or negative errno.  Under no spin lock. */
int host_kill(struct quire *q, struct task *t, int sig);

#endif
