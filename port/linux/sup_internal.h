/* What the files of the supervisor share.  Ordinary libc code. */
#ifndef QUIRE_LINUX_SUP_INTERNAL_H
#define QUIRE_LINUX_SUP_INTERNAL_H
#include "exports.h"
#include <stdio.h>

/* sup_image.c: maps the machine's memfd and the kernel ELF.  NULL after printing why. */
const struct kernel_exports *image_map(u64 memory, int *ram_fd);
/* The host's vdso and its data pages, from /proc/self/maps. */
void image_find_vdso(struct guest_boot *b);

/* sup_watch.c: a small process that kills every guest when the supervisor dies.  Returns a descriptor to keep open, or -1. */
int watchdog_start(const struct kernel_exports *k);
/* SIGKILL to every live guest process, until none is left or `ms` have passed.  Number left. */
unsigned kill_all_guests(const struct kernel_exports *k, unsigned ms);

/* sup_stats.c */
void stats_print(bool json);
#endif
