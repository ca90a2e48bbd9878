/*
 * The compiler's store hooks in the unit flavour whose core is compiled as the hosted one is: each store of the core calls
 * one of these first.  Inside a transaction the old value is logged; and each is an event at which a context may die
 * (kill.c).  memset and its kin are calls of the functions below there (-Dmemset=sim_logged_memset).
 *
 * Only stores to what contexts share are logged: RAM, frame records, struct quire, and the context's own parked list.
 */
#include "sim_internal.h"

static bool within(const void *p, const void *start, u64 bytes)
{
	return (u64)((const u8 *)p - (const u8 *)start) < bytes;
}

static bool shared(const struct sim_ctx *s, const void *p)
{
	const struct sim_machine *m = s->m;

	return within(p, m->ram, m->ram_bytes) || within(p, m->q, sizeof(*m->q)) || within(p, m->mem_map, m->mem_map_bytes) ||
	       within(p, s->ctx, offsetof(struct ctx, log));
}

static void note(const void *addr, size_t size)
{
	struct sim_ctx *s = sim_ctx_current();

	if (!s || !shared(s, addr))
		return;
	if (!s->unlogged)
		undo_note(s->ctx, addr, size);
	sim_event(s); /* noted, not stored yet */
}

#define STORE_HOOK(n) \
	void __asan_store##n##_noabort(const void *addr); \
	void __asan_store##n##_noabort(const void *addr) { note(addr, n); }
STORE_HOOK(1)
STORE_HOOK(2)
STORE_HOOK(4)
STORE_HOOK(8)
STORE_HOOK(16)
void __asan_storeN_noabort(const void *addr, size_t size);
void __asan_storeN_noabort(const void *addr, size_t size) { note(addr, size); }
void __asan_handle_no_return(void);
void __asan_handle_no_return(void) { }

void *sim_logged_memset(void *dst, int c, size_t n);
void *sim_logged_memset(void *dst, int c, size_t n)
{
	note(dst, n);
	return memset(dst, c, n);
}

void *sim_logged_memcpy(void *restrict dst, const void *restrict src, size_t n);
void *sim_logged_memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	note(dst, n);
	return memcpy(dst, src, n);
}

void *sim_logged_memmove(void *dst, const void *src, size_t n);
void *sim_logged_memmove(void *dst, const void *src, size_t n)
{
	note(dst, n);
	return memmove(dst, src, n);
}
