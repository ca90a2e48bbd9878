/*
 * The kernel's side of the commands that look at a running machine (sup_control.c).  Called by the supervisor's main thread,
 * under no lock.
 */
#ifndef QUIRE_LINUX_SUP_CONTROL_VIEWS_H
#define QUIRE_LINUX_SUP_CONTROL_VIEWS_H
#include "kernel.h"

/* A text file of the machine's /proc ("meminfo", "12/maps"): its length (what fits is in buf), or negative errno: -ENOENT not
 * served, -EINVAL not a text, -ESRCH no such process. */
long control_proc_text(const char *file, char *buf, size_t size);
/* How many processes there are; the pids of the first n are stored. */
long control_pids(s32 *out, u32 n);
/* The walk to addr in text: its length or -ESRCH. */
long control_translate(s32 pid, u64 addr, char *buf, size_t size);
/* Stores into physical memory.  0, -ERANGE beyond the end, -EBUSY a frame nobody uses, -EPERM a reserved one, -ENXIO a
 * frame that has no bytes (of a host file).  What lies before the frame that is refused has been stored. */
long control_devmem_write(u64 phys, const void *bytes, size_t n);
/* A context for process pid, which is about to become a guest, and the serial to reap it by.  Its id; 0: none is left, or the
 * process is a guest already. */
u32 control_join(s32 pid, u64 *serial);

#endif
