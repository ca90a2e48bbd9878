/*
 * The port contract on a Linux host (include/port/port.h, host.h), for guest processes and the supervisor alike.
 */
#include "kernel.h"
#include "hostsys.h"
#include "refill.h"
#include "process.h"
#include "selftest.h"
#include "fmt.h"
#include <port/host.h>
#include <undo.h>

u64 port_caps(const struct quire *q)
{
	return PORT_CAP_DIRECT_MAP | PORT_CAP_HOST_FILES | PORT_CAP_VIRGIN_ZERO | PORT_CAP_BBM | PORT_CAP_DEAR_FAULTS;
}

struct ctx *port_ctx(void)
{
	struct ctx *c;

	__asm__("mov %%gs:8, %0" : "=r"(c));
	return c;
}

struct ctx *port_ctx_quick(void)
{
	return port_ctx();
}

struct ctx *port_ctx_by_id(u32 id)
{
	return id && id <= MAX_CTX ? ctx_by_id(id) : NULL;
}

bool port_ctx_alive(const struct ctx *c)
{
	return c && !(__atomic_load_n(&c->life, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED);
}

void port_owner_slow(struct ctx *owner)
{
	struct machine_shared *m = shared_area();
	u64 bit = BIT(owner->id % 64);

	if (__atomic_fetch_or(&m->slow_owners[owner->id / 64], bit, __ATOMIC_SEQ_CST) & bit)
		return;
	__atomic_add_fetch(&m->slow_bell, 1, __ATOMIC_SEQ_CST);
	port_wake(&m->slow_bell, 1);
}

bool port_break_hint(struct ctx *c)
{
	return false;
}

/* The host's CPU number from the limit of the per-CPU segment (vdso's getcpu does the same).  Asked now and then only: it is a
 * hint, and the instruction takes some 15 ns. */
#define CPU_USES 64u
unsigned port_cpu(void)
{
	struct kthread *k = kthread();
	u32 v = 0;

	if (k->cpu_uses++ % CPU_USES)
		return k->cpu;
	__asm__("lsl %1, %0" : "=r"(v) : "r"(0x7bu));
	k->cpu = (v & 0xfff) % shared_area()->cpu_count;
	return k->cpu;
}

int port_wait(u32 *word, u32 expected, u64 timeout_ns)
{
	s64 ts[2] = { (s64)(timeout_ns / 1000000000u), (s64)(timeout_ns % 1000000000u) };

	return (int)host_call(__NR_futex, word, FUTEX_WAIT, expected, timeout_ns == ~0ull ? NULL : ts);
}

void port_wake(u32 *word, u32 n)
{
	host_call(__NR_futex, word, FUTEX_WAKE, MIN(n, 0x7fffffffu));
}

void port_relax(void)
{
	__builtin_ia32_pause();
}

u64 port_clock_ns(void)
{
	s64 ts[2];

	host_call(__NR_clock_gettime, 1 /* CLOCK_MONOTONIC */, ts);
	return (u64)ts[0] * 1000000000u + (u64)ts[1];
}

bool port_programs_run(const struct quire *q)
{
	u32 id, last = READ_ONCE(shared_area()->ctx_used);

	for (id = 1; id <= last; id++)
		if (READ_ONCE(ctx_by_id(id)->state) == CTX_USER)
			return true;
	return false;
}

/* splitmix64 (Steele, Lea, Flood 2014) from the machine's seed; a race only reorders the stream. */
u64 port_random(struct quire *q)
{
	u64 z;

	if (!q->cfg.seed) {
		host_call(__NR_getrandom, &z, sizeof(z), 0);
		return z;
	}
	z = __atomic_add_fetch(&shared_area()->seed_state, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void *port_frame_address(struct quire *q, pfn_t pfn)
{
	return (void *)(SHARED_BASE + RAM_OFFSET + ((u64)pfn << PAGE_SHIFT));
}

void port_clear_pages(void *va, size_t n)
{
	u64 count = n * (PAGE_SIZE / 8);

	__asm__ volatile("rep stosq" : "+D"(va), "+c"(count) : "a"(0ull) : "memory");
}

void port_copy_pages(void *dst, const void *src, size_t n)
{
	u64 count = n * (PAGE_SIZE / 8);

	if ((u64)dst >= SHARED_BASE + RAM_OFFSET)
		ram_populate((u64)dst - SHARED_BASE - RAM_OFFSET, n * PAGE_SIZE);
	if (!undo_note_filled(port_ctx(), dst, n)) {
		memcpy(dst, src, n * PAGE_SIZE);
		return;
	}
	__asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(count) : : "memory");
}

void port_kernel_flush(struct quire *q, u64 start, u64 end)
{
}

bool port_should_fail(struct quire *q, unsigned kind)
{
	return false;
}

int host_kill(struct quire *q, struct task *t, int sig)
{
	return t->pid > 0 ? (int)host_call(__NR_kill, t->pid, sig) : -ESRCH;
}

/* The log goes to the supervisor's descriptor if it has one: the machine's ring is what everybody shares. */
void port_log(struct quire *q, int level, const char *text, size_t len)
{
	__atomic_add_fetch(&shared_area()->log_seq, 1, __ATOMIC_SEQ_CST);
	if (level <= 3 || (shared_area()->options & OPT_VERBOSE))
		doorbell_ring();
}

void port_panic(struct quire *q, const char *text)
{
	struct machine_shared *m = shared_area();
	u32 zero = 0;
	size_t i;

	if (__atomic_compare_exchange_n(&m->ending, &zero, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		for (i = 0; i < sizeof(m->panic_text) - 1 && text[i]; i++)
			m->panic_text[i] = text[i];
		m->panic_text[i] = 0;
		__atomic_store_n(&m->panicked, 1, __ATOMIC_SEQ_CST);
	}
	doorbell_ring();
	machine_died();
}

bool first_time(u32 what)
{
	u64 *word = &shared_area()->said[what / 64], bit = BIT(what % 64);

	return !(__atomic_load_n(word, __ATOMIC_RELAXED) & bit) &&
	       !(__atomic_fetch_or(word, bit, __ATOMIC_RELAXED) & bit);
}

void klog(const char *fmt, ...)
{
	char line[256];
	struct fmt_buf b;
	va_list ap;

	b = fmt_init(line, sizeof(line));
	va_start(ap, fmt);
	fmt_vprintf(&b, fmt, ap);
	va_end(ap);
	quire_log(kthread()->ctx->q, 4, "%s", line);
}

/* ---- the compiler's hooks: stores of the core inside transactions ---- */

static bool is_shared(u64 addr)
{
	return addr - SHARED_BASE < TRAP_BASE - SHARED_BASE;
}

/* Test builds: true if the store is not to be noted. */
static bool note_tested(void)
{
	if (!selftest_on(ST_NO_LOG | ST_OWNERS))
		return false;
	if (selftest_on(ST_OWNERS) && kthread()->tid != (s32)host_call(__NR_gettid))
		port_panic(port_ctx()->q, "selftest: a store is noted in the log of another thread");
	return selftest_on(ST_NO_LOG);
}

static void note_store(const void *addr, size_t size)
{
	if (is_shared((u64)addr) && !note_tested())
		undo_note(port_ctx(), addr, size);
}

#define STORE_HOOK(n)                                                               \
	void __asan_store##n##_noabort(const void *);                               \
	void __asan_store##n##_noabort(const void *addr)                            \
	{                                                                           \
		struct ctx *c;                                                      \
                                                                                    \
		if (!is_shared((u64)addr)) /* the stack, mostly */                  \
			return;                                                     \
		c = kthread()->ctx;                                                 \
		if (c->nheld && !note_tested())                                     \
			undo_note_piece(c, addr, n);                                \
	}
STORE_HOOK(1)
STORE_HOOK(2)
STORE_HOOK(4)
STORE_HOOK(8)
STORE_HOOK(16)
void __asan_storeN_noabort(const void *, size_t);
void __asan_storeN_noabort(const void *addr, size_t size) { note_store(addr, size); }
void __asan_handle_no_return(void);
void __asan_handle_no_return(void) { }

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	if (n)
		note_store(dst, n);
	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	void *d = dst;

	if (n)
		note_store(dst, n);
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	u8 *d = dst;
	const u8 *s = src;

	if (d <= s || d >= s + n)
		return memcpy(dst, src, n);
	note_store(dst, n);
	while (n--) {
		d[n] = s[n];
		__asm__ volatile("" ::: "memory");
	}
	return dst;
}
