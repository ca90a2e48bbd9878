/* What the two halves of swapping out share: swapout.c unmaps, swapout_write.c stores. */
#ifndef QUIRE_SWAPOUT_H
#define QUIRE_SWAPOUT_H
#include "vmscan.h"
#include <swap/swap.h>

#define SWAPOUT_BATCH 64u
#define SWAPOUT_MMS 8u
#define SWAPOUT_AGED 128u /* entries made old after which translations are synchronised: ports keep a log of bounded length */
#define BLOCKED_TRIES 8u

/* Pages on their way.  Belongs to its context. */
struct swapout {
	struct scan_control *sc;
	struct quire *q;
	u32 n, nmms;
	struct folio *folio[SWAPOUT_BATCH]; /* each held, unmapped when taken */
	struct mm_struct *mms[SWAPOUT_MMS]; /* each counted and held */
	u32 aged;                           /* entries made old since the last sync */
	u32 tries;                          /* waits for the candidate's address space so far */
	bool blocked;                       /* somebody works in it: the candidate waits at its place */
	bool starved;                       /* there was no frame to store a page in */
	bool mms_full;                      /* one more address space would have been needed: end the batch */
	enum unmap_result why;              /* why the walk over a folio's entries stopped */
};

/* ---- swapout.c ---- */
/* Under no lock: swaps out pages of their own, each held, whatever their age; lets go of them all. */
void swapout_held(struct quire *q, struct folio **folio, u32 n);

/* ---- swapout_write.c ---- */
/* Under no lock, when nobody can reach the frames by an address any more: stores and frees what is still unmapped, and lets go of
 * all of b->folio[]. */
void swapout_write(struct swapout *b);
/* Under q->lock: the batch lets go of a folio. */
void swapout_release(struct quire *q, struct folio *folio);

#endif
