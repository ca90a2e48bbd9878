/*
 * Pages out and in, whatever the back end: pages of one value cost nothing, and every page carries a checksum while
 * it is out.
 *
 * Writing is optimistic.  No lock is held while a page is put into its stored form; if somebody maps it meanwhile,
 * FF_SWAPOUT is gone and the result is thrown away (reclaim/swapout.c).  So nobody ever waits for a writer, and a writer that
 * dies leaves a page that was not written: it is still in the cache.
 *
 * Pages of a device come and go in runs of neighbours; one failure in a run fails all of it, since nobody knows which page it was.
 *
 * Locks: prepare none, commit q->lock, load any.
 */
#include "swap.h"

static struct swap_area *area_of(struct quire *q, u64 entry)
{
	return q->swap.areas[swp_type(entry)];
}

const struct swap_ops *swap_ops_of(struct quire *q, u64 entry)
{
	return area_of(q, entry)->ops;
}

/* ---- out ---- */
int swap_prepare(struct quire *q, const struct swap_ops *ops, const void *page, struct swap_write *w)
{
	if (!ops->io && should_fail(q, FAIL_IO))
		return -EIO;
	w->sum = page_checksum(page);
	w->state = SLOT_FILLED;
	w->len = 0;
	if (page_same_filled(page, &w->value))
		return 0;
	w->state = SLOT_STORED;
	return ops->io ? 0 : ops->prepare(q, ops, page, w);
}

int swap_write_pages(struct quire *q, u64 entry, u32 n, void *const *pages)
{
	struct swap_area *a = area_of(q, entry);
	int err = should_fail(q, FAIL_IO) ? -EIO : a->ops->io(q, a->dev, true, swp_offset(entry), n, pages);

	if (err && err != -ENOSPC)
		quire_log(q, 3, "Write-error on swap-device (%u:%llu): %s, %u pages", swp_type(entry),
			  (unsigned long long)swp_offset(entry), a->name, n);
	return err;
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

void swap_forward(struct quire *q, u64 entry, u64 to)
{
	struct swap_slot *s = swap_slot_of(q, entry);

	BUG_ON(!s || s->state != SLOT_EMPTY);
	swap_unhold(q, to);
	s->data = to;
	s->sum = swap_slot_of(q, to)->sum;
	s->state = SLOT_FORWARDED;
	q->swap.forwarded++;
}

/* ---- in, at once ---- */

/* The slot that has the bytes, and where it is.  NULL: none has. */
static const struct swap_slot *slot_with_bytes(struct quire *q, u64 *entry)
{
	const struct swap_slot *s = swap_slot_of(q, *entry);

	if (s && s->state == SLOT_FORWARDED) {
		*entry = s->data;
		s = swap_slot_of(q, *entry);
	}
	return s && s->state != SLOT_EMPTY ? s : NULL;
}

int swap_load(struct quire *q, u64 entry, void *page)
{
	const struct swap_slot *s = slot_with_bytes(q, &entry);
	struct swap_area *a = area_of(q, entry);
	int err = 0;

	if (!s || should_fail(q, FAIL_IO))
		return -EIO;
	BUG_ON(!undo_note_filled(port_ctx(), page, 1)); /* a step fills one frame */
	if (s->state == SLOT_FILLED)
		page_fill(page, s->data);
	else
		err = a->ops->load(a, s, page);
	if (err == -EAGAIN)
		return err;
	if (err)
		return -EIO;
	return page_checksum(page) != s->sum ? -EBADMSG : 0;
}

/* ---- in, from a device ---- */
static struct swap_read read_of(struct quire *q, u64 entry, const struct swap_slot *s)
{
	const struct swap_area *a = area_of(q, entry);

	return (struct swap_read){ .entry = entry, .ops = a->ops, .dev = a->dev, .stamp = s->data, .sum = s->sum };
}

bool swap_needs_io(struct quire *q, u64 entry, struct swap_read *r)
{
	const struct swap_slot *s = slot_with_bytes(q, &entry);

	if (!s || s->state != SLOT_STORED || !swap_ops_of(q, entry)->io)
		return false;
	*r = read_of(q, entry, s);
	return true;
}

void swap_readahead_window(struct quire *q, u64 first, u32 n, struct swap_read *r)
{
	const struct swap_area *a = area_of(q, first);

	lockdep_assert_held(&q->lock);
	for (u32 i = 0; i < n; i++) {
		u64 entry = swp_entry(swp_type(first), swp_offset(first) + i);
		const struct swap_slot *s = swp_offset(entry) <= a->pages ? swap_slot_of(q, entry) : NULL;

		r[i] = (struct swap_read){ .entry = entry };
		if (s && s->count && !s->folio && s->state == SLOT_STORED)
			r[i] = read_of(q, entry, s);
	}
}

void swap_read_pages(struct quire *q, const struct swap_read *r, u32 n, void *const *pages, int *result)
{
	int err = should_fail(q, FAIL_IO) ? -EIO : r->ops->io(q, r->dev, false, swp_offset(r->entry), n, pages);

	for (u32 i = 0; i < n; i++)
		result[i] = err ? -EIO : page_checksum(pages[i]) != r[i].sum ? -EBADMSG : 0;
}

const char *swap_error_text(int err)
{
	return err == -EBADMSG ? "its bytes are not those that were stored" : "I/O error";
}

bool swap_read_is_current(struct quire *q, const struct swap_read *r)
{
	const struct swap_slot *s = swap_slot_of(q, r->entry);

	return s && s->count && s->state == SLOT_STORED && s->data == r->stamp;
}
