/* What the files of sync/ share. */
#ifndef QUIRE_SYNC_INTERNAL_H
#define QUIRE_SYNC_INTERNAL_H
#include <port/port.h>
#include <sync.h>

#define compiler_barrier() __asm__ __volatile__("" ::: "memory")

/* How often a contended lock is polled before its waiter sleeps: about 2 us, some times a short
 * transaction and well below a futex round trip (61 us measured, host-notes). */
#define SPIN_POLLS 400
/* A sleeper looks this often whether the owner still lives, should the host's own wake-up be late. */
#define OWNER_POLL_NS 500000ull
/* After so many looks in a row the owner may be stopped: no transaction takes that long. */
#define OWNER_SLOW_POLLS 4
/* What another context does in a microsecond takes longer than so many looks (about a millisecond) only if it is not running. */
#define SETTLE_POLLS 20000

/* sync/owner.c: owner words shared by spin locks and mutexes. */
bool owner_word_try(u32 *word, u32 me);
void owner_word_lock(u32 *word, u32 me);
void owner_word_unlock(u32 *word);
static inline u32 owner_of(u32 word) { return word & ~SPIN_WAITERS; }

#endif
