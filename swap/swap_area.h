/* Closing a swap area: the steps of swapoff (reclaim/swapoff.c).  Under no lock. */
#ifndef QUIRE_SWAP_AREA_H
#define QUIRE_SWAP_AREA_H
#include <quire/types.h>

struct quire;

/* ---- swap/swapon.c ---- */
/* The area takes no more pages and is not counted as swap space.  Its number, or -EINVAL: there is none of that name. */
int swap_area_close(struct quire *q, const char *name);
/* It could not be emptied: it is used again. */
void swap_area_reopen(struct quire *q, unsigned type);
/* False: some slot is still in use. */
bool swap_area_destroy(struct quire *q, unsigned type);

#endif
