/*
 * Mutexes: long-lived, sleeping, owner known.  They take no part in transactions; a dead owner's mutexes are freed by
 * ctx_recover(), and whatever they serialised must be valid at every commit point.
 * Never taken while a spin lock is held.
 */
#include "sync_internal.h"

void mutex_init(struct mutex *m)
{
	m->word = 0;
}

static void note_mutex(struct ctx *c, struct mutex *m)
{
	BUG_ON(c->nmutex == CTX_MAX_MUTEX);
	c->mutexes[c->nmutex] = m;
	compiler_barrier();
	WRITE_ONCE(c->nmutex, c->nmutex + 1);
	compiler_barrier();
}

static void forget_mutex(struct ctx *c, struct mutex *m)
{
	u32 i = c->nmutex;

	while (i > 0 && c->mutexes[i - 1] != m)
		i--;
	BUG_ON(!i);
	/* Fill the hole with the newest before shrinking: at any moment every owned mutex is listed. */
	c->mutexes[i - 1] = c->mutexes[c->nmutex - 1];
	compiler_barrier();
	WRITE_ONCE(c->nmutex, c->nmutex - 1);
}

void mutex_lock(struct mutex *m)
{
	struct ctx *c = port_ctx();

	DEBUG_ON(c->depth);
	BUG_ON(mutex_is_held(m));
	note_mutex(c, m);
	if (!owner_word_try(&m->word, c->id))
		owner_word_lock(&m->word, c->id);
}

bool mutex_trylock(struct mutex *m)
{
	struct ctx *c = port_ctx();

	note_mutex(c, m);
	if (owner_word_try(&m->word, c->id))
		return true;
	forget_mutex(c, m);
	return false;
}

void mutex_unlock(struct mutex *m)
{
	struct ctx *c = port_ctx();

	BUG_ON(!mutex_is_held(m));
	owner_word_unlock(&m->word);
	forget_mutex(c, m);
}

bool mutex_is_held(const struct mutex *m)
{
	return owner_of(__atomic_load_n(&m->word, __ATOMIC_RELAXED)) == port_ctx()->id;
}
