/*
 * A large folio of anonymous or shared memory becomes pages, so that each can go its own way: swap takes pages of 4 KiB.
 *
 * Entries do not change, for the frames stay where they are; only the records do.  What was one count for all pages is told
 * apart by asking every entry which page it maps; so all address spaces that map the folio must be lockable now.  Pages
 * that nobody maps any more are parked, to be dropped after the commit (folios of 2 MiB may have many, and the log has
 * room for only so much).
 *
 * Locks: q->lock; mm locks by trylock (rmap_walk).
 */
#include <file/filemap.h>
#include <mm/mm.h>
#include "vmscan.h"

#define SPLIT_MAX_PAGES (1u << PMD_ORDER)

struct split {
	pfn_t head;
	u32 seen;
	u16 maps[SPLIT_MAX_PAGES]; /* entries of each page */
};

static bool count_entry(struct folio *folio, struct vm_area_struct *vma, u64 addr, pte_t *slot, void *arg)
{
	struct split *s = arg;
	u16 *maps = &s->maps[pte_pfn(pte_read(slot)) - s->head];

	if (*maps == 0xffff)
		return false;
	(*maps)++;
	s->seen++;
	return true;
}

/* Page i of what was one folio is on its own now, with its own counts. */
static void page_on_its_own(struct quire *q, struct folio *page, const struct frame *was, u32 i, u32 maps)
{
	struct ctx *c = port_ctx();

	page->f.mapping = was->mapping;
	page->f.index = was->index + i;
	if (was->type == FRAME_SHMEM) {
		radix_store(q, &folio_mapping(page)->i_pages, page->f.index, page); /* it replaces */
		page->f.refcount = maps + 1;
		page->f.mapcount = maps;
		q->nr_file_mapped += maps != 0;
		folio_add_lru_tail(q, page);
		return;
	}
	if (!maps) {
		c->parked[c->nparked] = (struct parked_frame){ .pfn = folio_pfn(q, page), .refs = 1 };
		c->nparked++;
		return;
	}
	page->f.refcount = maps;
	page->f.mapcount = maps;
	q->nr_anon_pages++;
	folio_add_lru_tail(q, page);
}

/* Nobody has a reference but entries and, for shared memory, the object. */
static bool can_split(const struct frame *f)
{
	if (f->type == FRAME_SHMEM)
		return f->mapping && f->refcount == f->mapcount + 1;
	return f->type == FRAME_ANON && f->mapcount && f->refcount == f->mapcount;
}

bool split_folio(struct quire *q, struct folio *folio)
{
	struct ctx *c = port_ctx();
	u32 n = folio_nr_pages(folio);
	struct frame was = folio->f;
	struct split s;

	lockdep_assert_held(&q->lock);
	if (!can_split(&was) || n > SPLIT_MAX_PAGES || c->nparked + n > CTX_MAX_PARKED)
		return false;
	s.head = folio_pfn(q, folio);
	s.seen = 0;
	for (u32 i = 0; i < n; i++)
		s.maps[i] = 0;
	if (rmap_walk(q, folio, count_entry, &s, 0) != RMAP_DONE || s.seen != was.mapcount)
		return false;
	folio_del_lru(q, folio);
	if (was.type == FRAME_ANON)
		q->nr_anon_pages -= n;
	else if (was.mapcount)
		q->nr_file_mapped -= n;
	split_page(q, &folio->f, was.order);
	/* From the last to the first, so that reclaim meets them in the order of their addresses. */
	for (u32 i = n; i-- > 0;)
		page_on_its_own(q, (struct folio *)(&folio->f + i), &was, i, s.maps[i]);
	count_vm_event(q, THP_SPLIT_PAGE);
	return true;
}

void split_finish(struct quire *q, u32 nparked)
{
	struct ctx *c = port_ctx();

	while (c->nparked > nparked) {
		spin_lock(&q->lock);
		for (u32 i = 0; i < 32 && c->nparked > nparked; i++) {
			struct parked_frame p = c->parked[--c->nparked];

			folio_put(q, pfn_folio(q, p.pfn), p.refs);
		}
		spin_unlock(&q->lock);
	}
}
