/*
 * Spin locks with strict two-phase locking; see sync.h for the rules.
 *
 * A context's held[] lists its locks in the order taken.  A lock is noted there before it is taken and struck off after it
 * is released, so whoever recovers a dead context finds every lock it may own.  depth counts the locks that the code
 * holds now; when it falls to 0 the transaction commits.
 */
#include "sync_internal.h"

void spin_lock_init(struct spinlock *l, enum lock_rank rank)
{
	l->word = 0;
	l->rank = rank;
}

static struct held_lock *find_held(struct ctx *c, const struct spinlock *l)
{
	u32 i;

	for (i = c->nheld; i > 0; i--)
		if (c->held[i - 1].lock == l)
			return &c->held[i - 1];
	return NULL;
}

#ifdef QUIRE_DEBUG
static bool never_waited_for(const struct spinlock *l)
{
	return l->rank == LOCK_RANK_CPU || l->rank == LOCK_RANK_LEAF;
}
#endif

/* A lock that may be waited for must not rank below one that is held, even if only until commit.
 * CPU slots are exempt: they are never waited for; so are leaves, which are waited for by contexts that hold nothing else
 * and only tried inside a transaction (lib/log.c). */
static void check_order(struct ctx *c, const struct spinlock *l)
{
#ifdef QUIRE_DEBUG
	u32 i;

	BUG_ON(l->rank == LOCK_RANK_CPU || (l->rank == LOCK_RANK_LEAF && c->nheld));
	for (i = 0; i < c->nheld; i++)
		BUG_ON(!never_waited_for(c->held[i].lock) && c->held[i].lock->rank > l->rank);
#else
	(void)c;
	(void)l;
#endif
}

static void note_held(struct ctx *c, struct spinlock *l)
{
	u32 n = c->nheld;

	BUG_ON(n == CTX_MAX_HELD);
	c->held[n].lock = l;
	c->held[n].depth = 1;
	compiler_barrier();
	WRITE_ONCE(c->nheld, n + 1);
	compiler_barrier();
}

void spin_lock(struct spinlock *l)
{
	struct ctx *c = port_ctx();
	struct held_lock *h = find_held(c, l);

	if (h) {
		h->depth++;
	} else {
		check_order(c, l);
		note_held(c, l);
		if (!owner_word_try(&l->word, c->id))
			owner_word_lock(&l->word, c->id);
	}
	c->depth++;
}

/* A context that holds something already.  Rare for CPU slots, and kept out of their way. */
static __attribute__((noinline)) bool trylock_nested(struct ctx *c, struct spinlock *l)
{
	struct held_lock *h = find_held(c, l);

	if (h) {
		h->depth++;
		c->depth++;
		return true;
	}
	/* A long transaction that moves from CPU to CPU must leave room for the locks it waits for. */
	if (l->rank == LOCK_RANK_CPU && c->nheld >= CTX_MAX_HELD - 4)
		return false;
	note_held(c, l);
	if (owner_word_try(&l->word, c->id)) {
		c->depth++;
		return true;
	}
	WRITE_ONCE(c->nheld, c->nheld - 1);
	return false;
}

/* This and unlocking of the only lock are the hot path of every per-CPU list: no calls, no loops. */
bool ctx_spin_trylock(struct ctx *c, struct spinlock *l)
{
	u32 expected = 0;

	if (unlikely(c->nheld))
		return trylock_nested(c, l);
	if (__atomic_load_n(&l->word, __ATOMIC_RELAXED))
		return false;
	c->held[0].lock = l;
	c->held[0].depth = 1;
	compiler_barrier();
	WRITE_ONCE(c->nheld, 1);
	compiler_barrier();
	if (likely(__atomic_compare_exchange_n(&l->word, &expected, c->id, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))) {
		c->depth = 1;
		return true;
	}
	WRITE_ONCE(c->nheld, 0);
	return false;
}

bool spin_trylock(struct spinlock *l)
{
	return ctx_spin_trylock(port_ctx(), l);
}

void spin_help(struct spinlock *l)
{
	struct ctx *owner = port_ctx_by_id(owner_of(__atomic_load_n(&l->word, __ATOMIC_RELAXED)));

	if (owner && !port_ctx_alive(owner))
		ctx_recover(owner);
	else if (owner)
		port_owner_slow(owner);
}

/* CPU slots are never waited for, so they have nobody to wake and a plain store frees them. */
static inline void release_word(struct spinlock *l)
{
	if (l->rank == LOCK_RANK_CPU)
		__atomic_store_n(&l->word, 0, __ATOMIC_RELEASE);
	else
		owner_word_unlock(&l->word);
}

/* The only lock held, and somebody may wait for it. */
static __attribute__((noinline)) void unlock_last(struct ctx *c, struct spinlock *l)
{
	owner_word_unlock(&l->word);
	compiler_barrier();
	WRITE_ONCE(c->nheld, 0);
}

/* The transaction is over: forget how to undo it, then let others in. */
static void commit(struct ctx *c)
{
	compiler_barrier();
	WRITE_ONCE(c->undo_state, 0);
	compiler_barrier();
	while (c->nheld) {
		u32 i = c->nheld - 1;

		release_word(c->held[i].lock);
		compiler_barrier();
		WRITE_ONCE(c->nheld, i);
	}
}

static __attribute__((noinline)) void unlock_nested(struct ctx *c, struct spinlock *l)
{
	struct held_lock *h = find_held(c, l);

	BUG_ON(!h || !h->depth);
	h->depth--;
	if (--c->depth == 0)
		commit(c);
}

void ctx_spin_unlock(struct ctx *c, struct spinlock *l)
{
	if (unlikely(c->nheld != 1 || c->held[0].lock != l || c->held[0].depth != 1)) {
		unlock_nested(c, l);
		return;
	}
	c->held[0].depth = 0;
	c->depth = 0;
	compiler_barrier();
	WRITE_ONCE(c->undo_state, 0);
	compiler_barrier();
	if (likely(l->rank == LOCK_RANK_CPU)) {
		__atomic_store_n(&l->word, 0, __ATOMIC_RELEASE);
		compiler_barrier();
		WRITE_ONCE(c->nheld, 0);
		return;
	}
	unlock_last(c, l);
}

void spin_unlock(struct spinlock *l)
{
	ctx_spin_unlock(port_ctx(), l);
}

/* Undoing the transaction touches nothing under l, so whoever gets it now sees what he would have seen without us. */
void spin_unlock_unused(struct spinlock *l)
{
	struct ctx *c = port_ctx();
	struct held_lock *last = &c->held[c->nheld - 1];

	if (c->depth == 1 || last->lock != l || last->depth != 1) {
		ctx_spin_unlock(c, l);
		return;
	}
	last->depth = 0;
	c->depth--;
	release_word(l);
	compiler_barrier();
	WRITE_ONCE(c->nheld, c->nheld - 1);
}

bool spin_is_held(const struct spinlock *l)
{
	struct held_lock *h = find_held(port_ctx(), l);

	return h && h->depth;
}

bool spin_is_kept(const struct spinlock *l)
{
	return find_held(port_ctx(), l) != NULL;
}

bool in_transaction(void)
{
	return port_ctx()->depth != 0;
}
