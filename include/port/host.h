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

/* ---- swap devices: pages outside the machine.  Under no lock ---- */
#define HOST_SWAP_MAX 32u /* pages of one request */
/* Reads or writes n (1..HOST_SWAP_MAX) whole pages from `page` on; pages[i] is the kernel address of a frame.  The frames stay the
 * caller's until this returns; should the caller die in it, the port ends the I/O before it gives up the context.  Blocks.  0, -EIO,
 * -ENOSPC (writing only), maybe after a part was done. */
int host_swap_io(struct quire *q, u32 dev, bool write, u64 page, u32 n, void *const *pages);
/* The device is not used any more. */
void host_swap_close(struct quire *q, u32 dev);

#endif
