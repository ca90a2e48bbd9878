/*
 * Execution contexts, locks and transactions.
 *
 * A *context* (struct ctx) is one thread of control that may run core code: a
 * simulated CPU, a unit-test thread, a guest thread inside the hosted kernel, a
 * supervisor thread.  On the hosted port contexts lie in memory shared by all
 * processes, because a context may die at any instruction (kill -9) and somebody
 * else must then tidy up after it.
 *
 * Transactions (design.md section 5, revocation.md section 2):
 *   - A context that holds at least one spin lock is in a transaction.
 *   - Strict two-phase locking: spin_unlock() of an inner lock only marks it.  When
 *     the last lock is unlocked the transaction commits (log length := 0) and
 *     then every lock is really released, newest first.
 *   - In the hosted build the compiler calls the logger (sync/undo.c) before every
 *     store; while a transaction is open the old value is logged.  If the context
 *     dies, any waiter rolls the log back and frees the locks: for everybody else
 *     the transaction never happened.
 *   - Therefore, between lock and unlock: no atomics and no inline assembly on
 *     logged state, no blocking, no host calls, and boundedly many stores
 *     (ask txn_should_break() in long loops and commit in pieces).
 *   - Frame contents are not logged: use port_clear_pages()/port_copy_pages(),
 *     and only on frames nobody else can see.
 *
 * The lock order (LOCKING.md):  task list -> mm->lock -> q->lock.   CPU slots are
 * only ever taken by spin_trylock, at any point.  Because unlocking is deferred,
 * *sequences* inside one transaction must obey the order too.  Debug builds check it.
 *
 * Mutexes are long-lived (held across host calls and several transactions).  They are
 * not part of a transaction; protect data by a mutex only together with a spin lock.
 */
#ifndef QUIRE_SYNC_H
#define QUIRE_SYNC_H
#include <quire/types.h>

struct quire;
struct mm_struct;
struct file;

enum lock_rank {
	LOCK_RANK_NONE = 0,
	LOCK_RANK_TASKS = 1,  /* q->tasks.lock: the task table */
	LOCK_RANK_MM = 2,     /* mm->lock: VMAs and page tables of one mm */
	LOCK_RANK_CPU = 3,    /* per-CPU slots: spin_trylock only */
	LOCK_RANK_CORE = 4,   /* q->lock: frames, slabs, page cache, rmap, LRU, swap */
	LOCK_RANK_LEAF = 5,   /* short private leaf locks (console, logs) */
};

/* A spin-then-wait lock that knows its owner.  All-zero is a valid unlocked lock
 * of rank NONE.  word: 0 free, else owner ctx id | SPIN_WAITERS. */
struct spinlock {
	u32 word;
	u32 rank;
};
#define SPIN_WAITERS 0x80000000u

/* word: 0 free, else owner ctx id | SPIN_WAITERS.  Sleeping, owner known. */
struct mutex {
	u32 word;
};

#define CTX_MAX_HELD 64
#define CTX_MAX_MUTEX 8
#define CTX_MAX_PINS 130 /* futex_waitv(2) takes 128 words; one more for a copy meanwhile */
#define CTX_MAX_PARKED 1024
#define CTX_MAX_MMS 64
#define CTX_MAX_SWAPS 36
#define CTX_MAX_FILES 8
#define CTX_PORT_REGS 27
#define UNDO_CAPACITY 16384
#define UNDO_INLINE 16
/* A long operation commits when its log has grown past this.  On an address space (munmap, fork) a commit may mean to synchronise
 * with other processes, so it pays to do much at once; without one (exit) each page of the log is only one more page that a
 * short-lived process touches for the first time, at 1 us. */
#define UNDO_BREAK (UNDO_CAPACITY / 2)
#define UNDO_BREAK_ALONE 512

/* One overwritten piece of memory: `size` <= UNDO_INLINE old bytes at `addr`. */
struct undo_entry {
	u64 addr;
	u64 size;
	u8 old[UNDO_INLINE];
};

struct held_lock {
	struct spinlock *lock; /* noted before it is taken */
	u32 depth;             /* 0: unlocked by the code, kept until commit */
	u32 pad;
};

/* A range of a guest's address space that a native call in flight may touch. */
struct pin {
	u64 start, end; /* bytes, [start, end) */
};

/* A frame taken out of use whose stale translations may not be flushed everywhere yet. */
struct parked_frame {
	pfn_t pfn;
	u32 refs;
};

/* Frames filled with port_copy_pages() in the open transaction.  Their bytes are not logged; a rollback gives the frames
 * back to the free lists, where they may count as zero, so whoever recovers clears them. */
#define CTX_MAX_FILLED 16
struct filled_frames {
	void *va;
	u64 pages;
};

/*
 * Written only by its own context while alive; by the recoverer after its death.
 * `id` is never 0 and constant.  The undo log is last so that untouched parts of it
 * cost no memory.
 */
struct ctx {
	u32 id;
	u32 life;          /* hosted: TID robust word, FUTEX_OWNER_DIED when dead; else 1 */
	u32 recovering;    /* id of the context that rolls this one back, or 0 */
	u32 state;         /* port: CTX_KERNEL, CTX_USER, ... */
	u32 cpu;           /* CPU slot hint */
	u32 nheld;
	u32 depth;         /* spin locks held and not yet unlocked */
	u32 nmutex;
	union {            /* one word, so that a commit is one store */
		struct {
			u32 log_len; /* 0 = nothing to undo */
			u32 nfilled; /* entries of filled[] */
		};
		u64 undo_state;
	};
	u32 nparked;       /* logged: changes only inside transactions */
	u32 npins;         /* hosted: changed under mm->lock, not logged */
	u32 flags;         /* CTX_*, and the port's own below bit 24; not logged */
	u32 memstall;      /* waits for memory (reclaim/psi.c); logged */
	struct quire *q;
	struct mm_struct *parked_mm; /* logged */
	struct mm_struct *mm;        /* the mm this context runs on, or NULL */
	struct mm_struct *lent_mm;   /* mm whose pins these are (== mm mostly) */
	void *task;
	u64 port_data[14];
	u64 port_regs[CTX_PORT_REGS]; /* port: registers of a thread that another one looks at */
	struct filled_frames filled[CTX_MAX_FILLED];
	struct held_lock held[CTX_MAX_HELD];
	struct mutex *mutexes[CTX_MAX_MUTEX];
	struct ctx *recovers; /* the dead context that this one is rolling back; noted before its `recovering` is claimed */
	struct pin pins[CTX_MAX_PINS];
	/* Address spaces that this context has a reference of which is written nowhere else, or (users == 0) is taking down:
	 * whoever tidies up after it goes on.  Logged; mm_hold(). */
	u32 nmms;
	u32 nisolated;     /* pages in this context's hands on their way to swap (reclaim/throttle.c); logged */
	struct mm_struct *mms[CTX_MAX_MMS];
	/* Swap entries whose pages this context is writing to a device: each is counted here, so that nobody else gets the slot before
	 * the I/O is over.  Logged; swap_hold(). */
	u32 nswaps;
	u64 swaps[CTX_MAX_SWAPS];
	/* The same for files: a reference of each, or (refcount == 0) the file itself, half-way to being freed.  Logged;
	 * file_note_held(). */
	u32 nfiles;
	struct file *files[CTX_MAX_FILES];
	struct parked_frame parked[CTX_MAX_PARKED];
	struct undo_entry log[UNDO_CAPACITY];
};

#define CTX_RECLAIM 0x80000000u /* reclaims: its own allocations must not reclaim again */

void spin_lock_init(struct spinlock *l, enum lock_rank rank);
void spin_lock(struct spinlock *l);
bool spin_trylock(struct spinlock *l);
void spin_unlock(struct spinlock *l);
/* For who has only looked: l was taken for the first time in this transaction, and nothing that it protects was changed since.  Then it
 * is free at once, not at commit, if it is the newest lock. */
void spin_unlock_unused(struct spinlock *l);
/* Trylock and unlock for hot paths that have asked port_ctx() already: c must be the caller's own context. */
bool ctx_spin_trylock(struct ctx *c, struct spinlock *l);
void ctx_spin_unlock(struct ctx *c, struct spinlock *l);
/* After a failed trylock by somebody who will try again for ever: if the owner is dead, nobody else might ever free it. */
void spin_help(struct spinlock *l);
/* True if this context holds l (also when only kept until commit). */
bool spin_is_held(const struct spinlock *l);
/* True if this context's transaction has l: held, or unlocked and kept until commit.  Locking it then cannot wait. */
bool spin_is_kept(const struct spinlock *l);

void mutex_init(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);
bool mutex_is_held(const struct mutex *m);

/* True while this context holds a spin lock, i.e. may neither block nor reclaim. */
bool in_transaction(void);
/* True when a long loop should drop its locks and take them again: the log is long (hosted), or a
 * coin drawn from the seed says so (sim, so that tests exercise every break). */
bool txn_should_break(void);

/* Notes the old contents of [addr, addr+size) in the open transaction's log; nothing outside one.  Called by
 * the compiler's store instrumentation in the hosted flavour, before the store. */
void undo_note(struct ctx *c, const void *addr, size_t size);

/* Notes frames that are about to be filled inside a transaction.  False: no room, log the stores instead. */
bool undo_note_filled(struct ctx *c, void *va, u64 pages);

/* Rolls back a dead context and frees its locks.  Returns false if another context is already doing so.
 * Idempotent: if the recoverer dies, the next one starts again.  A context that turns out to live is left alone: between the
 * caller's look and this call it may have been given to somebody else. */
bool ctx_recover(struct ctx *dead);
/* The same, and waits for whoever is doing so. */
void ctx_recover_wait(struct ctx *dead);
/* Before a context that was given back goes to somebody else: waits until its former owner has taken its last step with it and nobody
 * rolls it back, nor will.  Sets c->life = 1. */
void ctx_settle(struct ctx *c);
/* Readies an all-zero context for use. */
void ctx_init(struct ctx *c, struct quire *q, u32 id);

/* Debug assertions.  BUG_ON is always compiled; DEBUG_ON only in debug builds (QUIRE_DEBUG). */
void quire_bug(const char *file, int line, const char *what) __attribute__((noreturn, cold));
#define BUG() quire_bug(__FILE__, __LINE__, "BUG")
#define BUG_ON(c) do { if (unlikely(c)) quire_bug(__FILE__, __LINE__, #c); } while (0)
#ifdef QUIRE_DEBUG
#define DEBUG_ON(c) BUG_ON(c)
#else
#define DEBUG_ON(c) do { if (0) (void)(c); } while (0)
#endif
#define lockdep_assert_held(l) DEBUG_ON(!spin_is_held(l))

#endif
