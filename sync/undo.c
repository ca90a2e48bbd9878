/*
 * The undo log and recovery of dead contexts (revocation.md section 2).
 *
 * While a context holds a spin lock, undo_note() saves what each store is about to overwrite.  An entry is complete before
 * log_len counts it, and x86-64 and the barriers here keep that order, so a context that dies at any instruction leaves a
 * log that leads back to the last commit.  Recovery is idempotent: undoing twice gives the same bytes, locks
 * that the dead context does not own are left alone, and log_len falls only after everything is undone.
 *
 * This file must never be instrumented itself.
 */
#include "sync_internal.h"
#include "undo.h"

void ctx_init(struct ctx *c, struct quire *q, u32 id)
{
	c->id = id;
	c->q = q;
	c->life = 1;
}

void undo_log_full(struct ctx *c)
{
	port_panic(c->q, "undo log overflow: a transaction did not commit in time");
}

void undo_note(struct ctx *c, const void *addr, size_t size)
{
	const u8 *p = addr;

	if (!c->nheld)
		return;
	for (; size > UNDO_INLINE; size -= UNDO_INLINE, p += UNDO_INLINE)
		undo_note_piece(c, p, UNDO_INLINE);
	if (size)
		undo_note_piece(c, p, size);
}

bool txn_should_break(void)
{
	struct ctx *c = port_ctx();

	return c->log_len > (c->mm ? UNDO_BREAK : UNDO_BREAK_ALONE) || port_break_hint(c);
}

bool undo_note_filled(struct ctx *c, void *va, u64 pages)
{
	if (!c->nheld)
		return true;
	if (c->nfilled == CTX_MAX_FILLED)
		return false;
	c->filled[c->nfilled] = (struct filled_frames){ va, pages };
	compiler_barrier();
	WRITE_ONCE(c->nfilled, c->nfilled + 1);
	compiler_barrier();
	return true;
}

static void undo_all(struct ctx *dead)
{
	u32 i, b;

	for (i = 0; i < dead->nfilled; i++)
		port_clear_pages(dead->filled[i].va, dead->filled[i].pages);

	for (i = dead->log_len; i > 0; i--) {
		struct undo_entry *e = &dead->log[i - 1];
		volatile u8 *to = (volatile u8 *)(uintptr_t)e->addr;

		if (e->size == 8) {
			*(volatile u64 *)to = *(u64 *)(void *)e->old;
			continue;
		}
		for (b = 0; b < e->size; b++)
			to[b] = e->old[b];
	}
	__atomic_store_n(&dead->undo_state, 0, __ATOMIC_RELEASE);
}

static void free_locks(struct ctx *dead)
{
	while (dead->nheld) {
		struct spinlock *l = dead->held[dead->nheld - 1].lock;

		if (owner_of(__atomic_load_n(&l->word, __ATOMIC_ACQUIRE)) == dead->id)
			owner_word_unlock(&l->word);
		compiler_barrier();
		WRITE_ONCE(dead->nheld, dead->nheld - 1);
	}
	dead->depth = 0;
	while (dead->nmutex) {
		struct mutex *m = dead->mutexes[dead->nmutex - 1];

		if (owner_of(__atomic_load_n(&m->word, __ATOMIC_ACQUIRE)) == dead->id)
			owner_word_unlock(&m->word);
		compiler_barrier();
		WRITE_ONCE(dead->nmutex, dead->nmutex - 1);
	}
}

/* The claim is a lock, too: `from`, which is dead, may have died with it. */
static void drop_claim(struct ctx *from)
{
	struct ctx *c = from->recovers;
	u32 id = from->id;

	if (!c)
		return;
	__atomic_compare_exchange_n(&c->recovering, &id, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	compiler_barrier();
	WRITE_ONCE(from->recovers, NULL);
}

/* Makes the caller the one recoverer; takes over from a recoverer that died. */
static bool claim_recovery(struct ctx *dead)
{
	struct ctx *me = port_ctx();
	u32 seen = 0;

	WRITE_ONCE(me->recovers, dead);
	compiler_barrier();
	if (__atomic_compare_exchange_n(&dead->recovering, &seen, me->id, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return true;
	if (!port_ctx_alive(port_ctx_by_id(seen)) &&
	    __atomic_compare_exchange_n(&dead->recovering, &seen, me->id, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return true;
	WRITE_ONCE(me->recovers, NULL);
	return false;
}

bool ctx_recover(struct ctx *dead)
{
	if (!claim_recovery(dead))
		return false;
	/* Asked under the claim: ctx_settle() says first that the context lives, and then waits for claims. */
	if (!port_ctx_alive(dead)) {
		undo_all(dead);
		free_locks(dead);
		drop_claim(dead);
	}
	drop_claim(port_ctx());
	return true;
}

/* A turn of a loop that waits for c to get on, which may be stopped. */
static void wait_for_ctx(struct ctx *c, unsigned *turns)
{
	if (++*turns % SETTLE_POLLS == 0 && c)
		port_owner_slow(c);
	port_relax();
}

void ctx_recover_wait(struct ctx *dead)
{
	unsigned turns = 0;

	while (!ctx_recover(dead))
		wait_for_ctx(port_ctx_by_id(__atomic_load_n(&dead->recovering, __ATOMIC_RELAXED)), &turns);
}

void ctx_settle(struct ctx *c)
{
	unsigned turns = 0;

	/* Its last unlock frees the lock first and strikes it off afterwards. */
	while (__atomic_load_n(&c->nheld, __ATOMIC_ACQUIRE)) {
		if (!port_ctx_alive(c))
			ctx_recover_wait(c);
		else
			wait_for_ctx(c, &turns);
	}
	__atomic_store_n(&c->life, 1, __ATOMIC_SEQ_CST);
	while (!claim_recovery(c))
		wait_for_ctx(port_ctx_by_id(__atomic_load_n(&c->recovering, __ATOMIC_RELAXED)), &turns);
	drop_claim(port_ctx());
}
