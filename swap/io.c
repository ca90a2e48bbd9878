/*
 * Pages out and in, whatever the back end: pages of one value cost nothing, and every page carries a checksum while
 * it is out.
 *
 * Writing is optimistic.  No lock is held while a page is put into its stored form; if somebody maps it meanwhile,
 * FF_SWAPOUT is gone and the result is thrown away (reclaim/swapout.c).  So nobody ever waits for a writer, and a writer that
 * dies leaves a page that was not written: it is still in the cache.
 *
 * Locks: prepare none, commit q->lock, load any.
 */
#include "swap.h"

static struct swap_area *area_of(struct quire *q, u64 entry)
{
	return q->swap.areas[swp_type(entry)];
}

int swap_prepare(struct quire *q, u64 entry, const void *page, struct swap_write *w)
{
	struct swap_area *a = area_of(q, entry);

	if (should_fail(q, FAIL_IO))
		return -EIO;
	w->sum = page_checksum(page);
	w->state = SLOT_FILLED;
	w->len = 0;
	if (page_same_filled(page, &w->value))
		return 0;
	w->state = SLOT_STORED;
	return a->ops->prepare(a, page, w);
}

int swap_commit(struct quire *q, u64 entry, const struct swap_write *w)
{
	struct swap_area *a = area_of(q, entry);
	struct swap_slot *s = swap_slot_of(q, entry);
	int err = 0;

	lockdep_assert_held(&q->lock);
	BUG_ON(!s || s->state != SLOT_EMPTY);
	if (w->state == SLOT_FILLED)
		s->data = w->value;
	else
		err = a->ops->store(a, s, w);
	if (err)
		return err;
	s->state = w->state;
	s->sum = w->sum;
	q->swap.stored += w->state == SLOT_STORED;
	q->swap.filled += w->state == SLOT_FILLED;
	count_vm_event(q, PSWPOUT);
	return 0;
}

int swap_load(struct quire *q, u64 entry, void *page)
{
	struct swap_area *a = area_of(q, entry);
	const struct swap_slot *s = swap_slot_of(q, entry);
	int err = 0;

	if (!s || s->state == SLOT_EMPTY || should_fail(q, FAIL_IO))
		return -EIO;
	BUG_ON(!undo_note_filled(port_ctx(), page, 1)); /* a step fills one frame */
	if (s->state == SLOT_FILLED)
		page_fill(page, s->data);
	else
		err = a->ops->load(a, s, page);
	return err || page_checksum(page) != s->sum ? -EIO : 0;
}
