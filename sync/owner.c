/*
 * Owner words: the 32-bit heart of spin locks and mutexes.
 *
 *	0                     free
 *	id                    held by context id, nobody sleeps
 *	id | SPIN_WAITERS     held, somebody sleeps (or once slept) on the word
 *
 * Invariant: a sleeper has seen SPIN_WAITERS set, so the unlocker wakes one; a waiter that got the word after
 * sleeping keeps the flag, because others may sleep still.  An unlocker may die between freeing and waking:
 * sleepers therefore sleep at most OWNER_POLL_NS at a time.
 */
#include "sync_internal.h"

bool owner_word_try(u32 *word, u32 me)
{
	u32 expected = 0;

	return __atomic_compare_exchange_n(word, &expected, me, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* Sleeps until the word changes or it is time to look at its owner.  `polls`: how often in a row it was the same one. */
static void wait_for_owner(u32 *word, u32 seen, unsigned polls)
{
	struct ctx *owner;

	if (!(seen & SPIN_WAITERS)) {
		u32 expected = seen;

		if (!__atomic_compare_exchange_n(word, &expected, seen | SPIN_WAITERS, false, __ATOMIC_RELAXED,
						 __ATOMIC_RELAXED))
			return;
		seen |= SPIN_WAITERS;
	}
	port_wait(word, seen, OWNER_POLL_NS);
	if (owner_of(__atomic_load_n(word, __ATOMIC_RELAXED)) != owner_of(seen))
		return;
	owner = port_ctx_by_id(owner_of(seen));
	if (owner && !port_ctx_alive(owner))
		ctx_recover(owner);
	else if (owner && polls >= OWNER_SLOW_POLLS)
		port_owner_slow(owner);
}

void owner_word_lock(u32 *word, u32 me)
{
	u32 mine = me, last = 0;
	unsigned polls, same = 0;

	for (;;) {
		u32 seen = 0;

		for (polls = 0; polls < SPIN_POLLS; polls++) {
			seen = __atomic_load_n(word, __ATOMIC_RELAXED);
			if (!seen && owner_word_try(word, mine))
				return;
			port_relax();
		}
		if (!seen)
			continue;
		mine = me | SPIN_WAITERS;
		same = owner_of(seen) == last ? same + 1 : 0;
		last = owner_of(seen);
		wait_for_owner(word, seen, same);
	}
}

void owner_word_unlock(u32 *word)
{
	u32 old = __atomic_exchange_n(word, 0, __ATOMIC_RELEASE);

	if (old & SPIN_WAITERS)
		port_wake(word, 1);
}
