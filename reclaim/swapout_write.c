/*
 * Anonymous pages on their way out, second half: from frames into slots.
 *
 *   for each folio:
 *	q->lock: is it still unmapped?   FF_SWAPOUT is set; on a device the slot is held
 *	no lock: its bytes are put into the form in which they are kept, or wait until a run of neighbours is written
 *	q->lock: FF_SWAPOUT still there?  Then the slot has the bytes, and the frame is freed
 *
 * A fault in between finds the folio in the cache and takes it back; then it is simply not freed, and what was written is
 * forgotten.  So nobody ever waits for a writer.
 *
 * What an area would not take (it does not get smaller, no room, an I/O error) is offered to the others: the slot then
 * forwards to theirs (swap.h).  If nobody takes it the page stays in memory.
 *
 * Death.  The slots of a run stand in ctx->swaps[]: a slot that others could get while its old page is still being
 * written would end up with the wrong bytes.  The folios stand in ctx->parked[].
 *
 * Locks: called under none; q->lock.
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include <port/host.h>
#include "swapout.h"

/* Pages of neighbouring slots of a device. */
struct run {
	u32 n;
	u64 first;                            /* entry; the others follow */
	struct folio *folio[HOST_SWAP_MAX];
	void *page[HOST_SWAP_MAX];
	u32 sum[HOST_SWAP_MAX];
};

struct writer {
	struct swapout *b;
	struct quire *q;
	struct run run;
	struct swap_write w; /* the page at hand */
};

void swapout_release(struct quire *q, struct folio *folio)
{
	folio_unhold(q, folio);
	folio_put(q, folio, 1);
	isolate_count(q, -1);
}

/* Under q->lock.  Does nobody but the cache and this batch know the folio? */
static bool is_unused(const struct folio *folio)
{
	return (folio->f.flags & FF_SWAPCACHE) && !folio->f.mapcount && folio->f.refcount == 2;
}

static bool is_still_ours(const struct folio *folio)
{
	return is_unused(folio) && (folio->f.flags & FF_SWAPOUT);
}

static void count_freed(struct swapout *b)
{
	b->sc->reclaimed++;
	count_vm_event(b->q, b->sc->kswapd ? PGSTEAL_KSWAPD : PGSTEAL_DIRECT);
	count_vm_event(b->q, PGSTEAL_ANON);
}

/* The slot has the bytes. */
static void leave_memory(struct swapout *b, struct folio *folio)
{
	swap_slot_of(b->q, folio->f.private)->shadow = workingset_eviction_anon(b->q, folio);
	swap_cache_del(b->q, folio);
	count_freed(b);
}

/* The first transaction: the entry under which it is to be written, 0 = it is not. */
static u64 write_begin(struct swapout *b, struct folio *folio)
{
	struct quire *q = b->q;
	struct swap_slot *s;

	if (!(folio->f.flags & FF_SWAPCACHE)) {
		if (!folio->f.mapcount && folio->f.refcount == 1)
			count_freed(b); /* it was lazily free */
		return 0;
	}
	if (!is_unused(folio))
		return 0;
	s = swap_slot_of(q, folio->f.private);
	if (s->refused && q->swap.nr_order < 2) {
		reclaim_keep(b->sc, folio, KEEP_REFERENCED);
		return 0;
	}
	if (s->state != SLOT_EMPTY) {
		leave_memory(b, folio); /* the slot has it already */
		return 0;
	}
	folio->f.flags |= FF_SWAPOUT;
	return folio->f.private;
}

static void written(struct swapout *b, struct folio *folio)
{
	folio->f.flags &= (u16)~FF_SWAPOUT;
	lru_note_cost(b->q, LRU_KIND_ANON, 1, 0);
	leave_memory(b, folio);
}

/* The last transaction, under q->lock.  err: what preparing or writing it said.  What it says now: somebody else should take it. */
static int write_end(struct writer *wr, struct folio *folio, u64 entry, int err)
{
	if (!is_still_ours(folio))
		return 0;
	if (!err)
		err = swap_commit(wr->q, entry, &wr->w);
	if (!err)
		written(wr->b, folio);
	return err;
}

/* Nobody takes it: it stays. */
static void give_up(struct writer *wr, struct folio *folio, u64 entry, int err)
{
	struct quire *q = wr->q;
	bool refused = err == -ENOSPC && !swap_ops_of(q, entry)->io;

	folio->f.flags &= (u16)~FF_SWAPOUT;
	q->swap.refused += refused;
	swap_slot_of(q, entry)->refused = refused;
	wr->b->starved |= err == -ENOMEM;
	reclaim_keep(wr->b->sc, folio, err == -ENOMEM ? KEEP_DIRTY : KEEP_REFERENCED); /* not again soon */
}

/* ---- forwarding ---- */

/* Under no lock: writes the page to another area, whose slot is held.  0 or why not. */
static int write_elsewhere(struct writer *wr, struct folio *folio, u64 to, const struct swap_ops *ops)
{
	void *page = frame_address(wr->q, &folio->f);
	int err = swap_prepare(wr->q, ops, page, &wr->w);

	if (!err && ops->io && wr->w.state == SLOT_STORED)
		err = swap_write_pages(wr->q, to, 1, &page);
	return err;
}

/* Under q->lock, after that.  True: it is done with. */
static bool forward_end(struct writer *wr, struct folio *folio, u64 entry, u64 to, int err)
{
	struct quire *q = wr->q;

	if (err == -ENOSPC && swap_ops_of(q, to)->io)
		swap_area_is_full(q, to);
	if (is_still_ours(folio) && !err && !swap_commit(q, to, &wr->w)) {
		swap_forward(q, entry, to);
		written(wr->b, folio);
		return true;
	}
	swap_unhold(q, to);
	swap_put(q, to, 1);
	return !is_still_ours(folio);
}

/* Under no lock.  `entry`'s area would not take its page: will another?  Lets go of the folio. */
static void forward(struct writer *wr, struct folio *folio, u64 entry, int why)
{
	struct quire *q = wr->q;
	u32 tried = (u32)BIT(swp_type(entry));
	bool done = false;

	spin_lock(&q->lock);
	for (;;) {
		const struct swap_ops *ops;
		u64 to = 0;
		int err;

		done = done || !is_still_ours(folio);
		if (!done)
			to = swap_alloc_elsewhere(q, tried);
		if (!to)
			break;
		ops = swap_ops_of(q, to);
		tried |= (u32)BIT(swp_type(to));
		spin_unlock(&q->lock);
		err = write_elsewhere(wr, folio, to, ops);
		spin_lock(&q->lock);
		done = forward_end(wr, folio, entry, to, err);
	}
	if (!done)
		give_up(wr, folio, entry, why);
	swapout_release(q, folio);
	spin_unlock(&q->lock);
}

/* ---- runs ---- */
static void drop_slot(struct quire *q, u64 entry)
{
	swap_unhold(q, entry);
	swap_put(q, entry, 1);
}

static void run_write(struct writer *wr)
{
	struct run *r = &wr->run;
	struct quire *q = wr->q;
	int err;

	if (!r->n)
		return;
	err = swap_write_pages(q, r->first, r->n, r->page);
	spin_lock(&q->lock);
	q->swap.write_errors += err && err != -ENOSPC;
	if (err == -ENOSPC)
		swap_area_is_full(q, r->first);
	for (u32 i = 0; i < r->n; i++) {
		wr->w.state = SLOT_STORED;
		wr->w.sum = r->sum[i];
		if (write_end(wr, r->folio[i], r->first + i, err)) {
			drop_slot(q, r->first + i);
			continue;
		}
		drop_slot(q, r->first + i);
		swapout_release(q, r->folio[i]);
		r->folio[i] = NULL;
	}
	spin_unlock(&q->lock);
	for (u32 i = 0; i < r->n; i++)
		if (r->folio[i])
			forward(wr, r->folio[i], r->first + i, err);
	r->n = 0;
}

/* The page at hand is to be written; its slot is held. */
static void run_add(struct writer *wr, struct folio *folio, u64 entry)
{
	struct run *r = &wr->run;
	u32 sum = wr->w.sum;

	if (r->n == HOST_SWAP_MAX || (r->n && entry != r->first + r->n))
		run_write(wr);
	if (!r->n)
		r->first = entry;
	r->folio[r->n] = folio;
	r->page[r->n] = frame_address(wr->q, &folio->f);
	r->sum[r->n++] = sum;
}

/* ---- one folio ---- */
static void write_one(struct writer *wr, struct folio *folio)
{
	struct quire *q = wr->q;
	const struct swap_ops *ops;
	u64 entry;
	int err;

	spin_lock(&q->lock);
	entry = write_begin(wr->b, folio);
	if (!entry) {
		swapout_release(q, folio);
		spin_unlock(&q->lock);
		return;
	}
	ops = swap_ops_of(q, entry);
	if (ops->io)
		swap_hold(q, entry);
	spin_unlock(&q->lock);
	err = swap_prepare(q, ops, frame_address(q, &folio->f), &wr->w);
	if (!err && ops->io && wr->w.state == SLOT_STORED) {
		run_add(wr, folio, entry);
		return;
	}
	spin_lock(&q->lock);
	err = write_end(wr, folio, entry, err);
	if (ops->io)
		drop_slot(q, entry);
	if (!err)
		swapout_release(q, folio);
	spin_unlock(&q->lock);
	if (err)
		forward(wr, folio, entry, err);
}

void swapout_write(struct swapout *b)
{
	struct writer wr;

	wr.b = b;
	wr.q = b->q;
	wr.run.n = 0;
	for (u32 i = 0; i < b->n; i++)
		write_one(&wr, b->folio[i]);
	run_write(&wr);
}
