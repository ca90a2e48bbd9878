/* What the files of the supervisor share.  Ordinary libc code. */
#ifndef QUIRE_LINUX_SUP_INTERNAL_H
#define QUIRE_LINUX_SUP_INTERNAL_H
#include "exports.h"
#include <signal.h>
#include <stdio.h>

/* sup_image.c: maps the machine's memfd and the kernel ELF.  NULL after printing why. */
const struct kernel_exports *image_map(u64 memory, int *ram_fd);
/* The same for a machine that runs: ram_fd is its memfd.  The build ids must have been compared before. */
const struct kernel_exports *image_join(u64 memory, int ram_fd);
/* Rights of the host's vsyscall page, as struct machine_params has them. */
u32 image_vsyscall(void);
/* Does the host give shared memory huge pages to who asks (transparent_hugepage/shmem_enabled)? */
bool image_host_huge(void);
/* After many births: one more block of what all processes share becomes a huge page.  *next: 0 at first. */
void image_collapse(u64 memory, size_t *next);
/* Of the kernel inside this program: processes of one machine must agree, for they share pointers into it. */
extern const u64 kernel_build_id;
/* The host's vdso and its data pages, from /proc/self/maps. */
void image_find_vdso(struct guest_boot *b);

/* supervisor.c: what execvp(3) would run, or NULL with *code 126 or 127 after saying so. */
char *find_program(const char *name, int *code);
/* The calling process becomes a guest: fills in what is the same for all guests, lets go of libc, enters the kernel. */
void guest_become(const struct kernel_exports *k, struct guest_boot *b, char *const *argv, const sigset_t *mask);

/* sup_watch.c: a small process that kills every guest when the supervisor dies.  Returns a descriptor to keep open, or -1.  ram_fd: the
 * machine's memory, by which it knows guests that the machine does not know. */
int watchdog_start(const struct kernel_exports *k, int ram_fd);
/* SIGKILL to every live guest process, until none is left or `ms` have passed.  Number left. */
unsigned kill_all_guests(const struct kernel_exports *k, unsigned ms);

/* sup_limits.c: takes the user's limits out of the machine's way, as far as the host lets us.  False, after saying so, where the machine
 * could not be. */
bool limits_take(void);
bool limits_address_space(void); /* Is there one that could not be taken out of the way? */
/* In a process that becomes a guest: they are its own. */
void limits_give_back(struct guest_boot *b);

/* sup_rescue.c: a thread that sees to owners of locks which are stopped.  Children are reaped under its lock only. */
int rescue_start(void);
void rescue_lock(void);
void rescue_unlock(void);

/* sup_fail.c: failures on demand (--fail).  From any thread, after fail_plan(). */
struct run_options;
struct iovec;
void fail_plan(const struct run_options *o);
/* What the next transfer of a request's `bytes` meets; `fails_at` stays beyond all of them if it does not fail. */
struct fail_transfer {
	size_t fails_at;  /* so many bytes are done, then: */
	int err;          /* negative errno */
};
struct fail_transfer fail_transfer(bool write, size_t bytes);
/* Cuts n pieces short, so that the host does no more than the first `most` bytes, or fewer where it is to be short.  Pieces left. */
int fail_cut(struct iovec *iov, int n, size_t most);
u64 fail_count(void); /* failures so far */

/* sup_stats.c */
void stats_print(bool json);
#endif
