/* The text views of physical memory.  Called under no lock; each takes q->lock for a moment.  Format: Linux 6.18. */
#ifndef PROC_PHYS_VIEWS_H
#define PROC_PHYS_VIEWS_H
#include <quire/types.h>

struct quire;
struct fmt_buf;

void proc_buddyinfo(struct quire *q, struct fmt_buf *out);    /* proc/buddyinfo.c */
void proc_pagetypeinfo(struct quire *q, struct fmt_buf *out); /* proc/pagetypeinfo.c */
void proc_zoneinfo(struct quire *q, struct fmt_buf *out);     /* proc/zoneinfo.c */

#endif
