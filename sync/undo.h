/*
 * The store logger's fast path, for the compiler's hooks: a size that is known when compiling makes it a dozen instructions.
 */
#ifndef QUIRE_UNDO_H
#define QUIRE_UNDO_H
#include <sync.h>

void undo_log_full(struct ctx *c) __attribute__((noreturn, cold));

/* Notes the old contents of [addr, addr + size), size <= UNDO_INLINE, in a context that is in a transaction.  The entry is complete
 * before it is counted: the context may die at any instruction. */
static inline void undo_note_piece(struct ctx *c, const void *addr, size_t size)
{
	u32 n = c->log_len;
	struct undo_entry *e = &c->log[n];

	if (unlikely(n == UNDO_CAPACITY))
		undo_log_full(c);
	e->addr = (u64)(uintptr_t)addr;
	e->size = size;
	__builtin_memcpy(e->old, addr, size);
	__asm__ __volatile__("" ::: "memory");
	WRITE_ONCE(c->log_len, n + 1);
	__asm__ __volatile__("" ::: "memory");
}
#endif
