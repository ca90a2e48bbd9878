/*
 * Writeback of dirty file pages by time and by amount (file/page_writeback.c): what a machine remembers about it.
 */
#ifndef QUIRE_WRITEBACK_H
#define QUIRE_WRITEBACK_H
#include <quire/types.h>

struct quire;
struct address_space;

/* /proc/sys/vm/dirty_*.  Of ratio and bytes one counts: writing either sets the other to 0. */
enum wb_setting {
	WB_DIRTY_BACKGROUND_RATIO, WB_DIRTY_BACKGROUND_BYTES, /* percent; bytes */
	WB_DIRTY_RATIO, WB_DIRTY_BYTES,
	WB_DIRTY_WRITEBACK_CENTISECS, WB_DIRTY_EXPIRE_CENTISECS,
	NR_WB_SETTINGS,
};

struct writeback_info {
	/* q->lock: */
	s64 setting[NR_WB_SETTINGS];
	struct address_space *first, *last; /* files with dirty pages: the one that has had some for longest first */
	u64 last_kupdate_ns;     /* when old data was looked for last */
	/* Atomic; hints, in nobody's transaction: */
	bool has_flusher;        /* somebody calls wb_flusher_once() */
	u32 wanted;              /* 1 = the flusher has work; it waits here */
	u32 batches;             /* counts batches written; throttled writers wait here */
};

/* In pages. */
struct dirty_limits {
	u64 background, hard;
};

/* ---- file/page_writeback.c.  Under no lock unless noted ---- */
void writeback_init(struct quire *q); /* at boot */
s64 wb_setting_get(struct quire *q, enum wb_setting which);
/* 0, -EINVAL or -ERANGE, as Linux's sysctl. */
int wb_setting_set(struct quire *q, enum wb_setting which, s64 value);
/* Under q->lock: from which amount of dirty pages the flusher writes, and from which writers wait. */
struct dirty_limits global_dirty_limits(const struct quire *q);
/* Under q->lock: n pages of m became dirty, or (negative) are dirty no more. */
void wb_account_dirty(struct address_space *m, s64 n);
/* Somebody has made a page dirty: waits while there are too many of them, for a bounded time. */
void balance_dirty_pages(struct quire *q);
/* The flusher's loop body, for a thread of the port: waits until there is something to do (at most that long), then writes what has
 * been dirty for too long, and while there is more than the background limit. */
void wb_flusher_once(struct quire *q, u64 timeout_ns);

#endif
