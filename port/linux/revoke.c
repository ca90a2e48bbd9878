/*
 * Lazy revocation: nobody waits for another process (DESIGN.md, "Revocation").
 *
 * A revoker (any process) has cleared entries, logged the ranges and bumped gen in one transaction.  A thread that is not in
 * guest code flushes by itself before it goes back (flush_until_current).  A thread in guest code gets SIG_PRIVATE, and one
 * membarrier makes sure that the signal has been seen by every CPU before this function returns: a pending unblocked
 * signal runs before the next guest instruction, also after SIGCONT.
 *
 *   revoker:  entries, gen++  |full barrier|  read state  -> USER? signal
 *   victim:   state = USER    |full barrier|  read gen    -> changed? flush
 */
#include "revoke.h"
#include "selftest.h"
#include "hostsys.h"
#include "guest_signal.h"

void flush_until_current(struct kthread *k)
{
	struct ctx *c = k->ctx;

	for (;;) {
		__atomic_exchange_n(&c->state, CTX_USER, __ATOMIC_SEQ_CST);
		selftest_delay();
		if (!kproc.mm || READ_ONCE(host_mm_of(kproc.mm)->gen) == READ_ONCE(kproc.flushed))
			return;
		WRITE_ONCE(c->state, CTX_KERNEL);
		install_lock();
		host_tlb_flush();
		install_unlock();
	}
}

#define TARGETS 64
struct targets {
	u64 serial;      /* not to be signalled: our own process */
	u32 first;       /* this pass looks at context ids [first, first + TARGETS) */
	u32 n;
	struct { s32 tgid, tid; } t[TARGETS];
};

/* State first, then tid: a context that is reused meanwhile only gets a harmless extra signal. */
static bool collect_target(struct ctx *c, void *arg)
{
	struct targets *ts = arg;

	if (c->port_data[CTXP_SERIAL] == ts->serial || c->id - ts->first >= TARGETS)
		return true;
	if (__atomic_load_n(&c->state, __ATOMIC_SEQ_CST) != CTX_USER)
		return true;
	ts->t[ts->n].tid = (s32)c->port_data[CTXP_TID];
	ts->t[ts->n++].tgid = (s32)c->port_data[CTXP_TGID];
	return true;
}

/* Signals every thread of other processes that is in guest code.  Returns how many. */
static u32 signal_users(struct mm_struct *mm, u64 own_serial)
{
	struct targets ts = { .serial = own_serial };
	u32 i, total = 0, last = READ_ONCE(shared_area()->ctx_used);

	for (ts.first = 1; ts.first <= last; ts.first += TARGETS) {
		ts.n = 0;
		spin_lock(&mm->lock);
		mm_for_each_ctx(mm, collect_target, &ts);
		spin_unlock(&mm->lock);
		selftest_delay();
		for (i = 0; i < ts.n; i++)
			host_call(__NR_tgkill, ts.t[i].tgid, ts.t[i].tid, SIG_PRIVATE);
		total += ts.n;
	}
	__atomic_add_fetch(&shared_area()->stat_revoke_signals, total, __ATOMIC_RELAXED);
	return total;
}

void port_tlb_sync(struct mm_struct *mm)
{
	struct ctx *me = port_ctx();
	struct host_mm *h = host_mm_of(mm);
	bool mine = kproc.mm == mm;

	if (!h)
		return;
	if (mine) {
		install_lock();
		host_tlb_flush();
		install_unlock();
	}
	if (h->nproc <= (mine ? 1u : 0u))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	selftest_delay();
	if (!selftest_on(ST_NO_SIGNAL) && signal_users(mm, me->port_data[CTXP_SERIAL]))
		host_call(__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
}
