/*
 * Shared port state that changes inside transactions: contexts, per-mm generations and flush logs, pins.
 *
 * This file is compiled with store instrumentation like the core: what it writes in shared memory under a lock is rolled back
 * when the writer dies.  pool_lock is a leaf: nothing else is taken under it, but it may be taken under mm->lock or q->lock.
 * A context's own fields (state, pins) are written by their owner only.
 */
#include "revoke.h"

struct host_mm *host_mm_of(struct mm_struct *mm)
{
	return mm->port_mm;
}

static struct host_mm *host_mm_by_index(u32 i)
{
	return (struct host_mm *)(SHARED_BASE + HOST_MM_OFFSET) + i;
}

int port_mm_init(struct mm_struct *mm)
{
	struct machine_shared *m = shared_area();
	struct host_mm *h = NULL;

	spin_lock(&m->pool_lock);
	if (m->host_mm_free) {
		h = host_mm_by_index(m->host_mm_free - 1);
		m->host_mm_free = h->next_free;
	} else if (m->host_mm_used < MAX_HOST_MM) {
		h = host_mm_by_index(m->host_mm_used);
		h->index = m->host_mm_used++;
	}
	if (h) {
		/* gen goes on from the previous owner's: a stale `flushed` can never look current. */
		h->first_ctx = 0;
		h->nproc = 0;
		h->next_free = 0;
		h->many = 0;
		h->base = h->gen;
		memset(h->hot, 0, sizeof(h->hot));
		mm->port_mm = h;
	}
	spin_unlock(&m->pool_lock);
	return h ? 0 : -ENOMEM;
}

void port_mm_destroy(struct mm_struct *mm)
{
	struct machine_shared *m = shared_area();
	struct host_mm *h = mm->port_mm;

	if (!h)
		return;
	spin_lock(&m->pool_lock);
	h->gen++;
	h->next_free = m->host_mm_free;
	m->host_mm_free = h->index + 1;
	mm->port_mm = NULL;
	spin_unlock(&m->pool_lock);
}

static void log_range(struct mm_struct *mm, u64 start, u64 end, u32 protect)
{
	struct host_mm *h = host_mm_of(mm);
	struct flush_range *last;

	if (!h || start >= end)
		return;
	last = &h->log[h->gen % FLUSH_LOG];
	last->start = start;
	last->end = end | protect;
	h->gen++;
}

void port_tlb_flush_range(struct mm_struct *mm, u64 start, u64 end)
{
	log_range(mm, start & PAGE_MASK, PAGE_ALIGN(end), 0);
}

void port_tlb_protect_range(struct mm_struct *mm, u64 start, u64 end)
{
	log_range(mm, start & PAGE_MASK, PAGE_ALIGN(end), FLUSH_PROTECT);
}

int flush_log_read(struct mm_struct *mm, u64 since, struct flush_range *out, u32 room, u64 *gen)
{
	struct host_mm *h = host_mm_of(mm);
	int n = 0;
	u64 g;

	spin_lock(&mm->lock);
	*gen = h->gen;
	if (h->gen - since > room)
		n = -1;
	else
		for (g = since; g < h->gen; g++)
			out[n++] = h->log[g % FLUSH_LOG];
	spin_unlock(&mm->lock);
	return n;
}

u64 process_serial_new(void)
{
	struct machine_shared *m = shared_area();
	u64 serial;

	spin_lock(&m->pool_lock);
	serial = ++m->serial;
	spin_unlock(&m->pool_lock);
	return serial;
}

/* Serials count up, so the lists are of one length: 16 processes if there are as many as there may be. */
static u32 *list_of(u64 serial)
{
	return &shared_area()->ctx_of[serial % CTX_LISTS];
}

static void list_add(struct ctx *c)
{
	u32 *head = list_of(c->port_data[CTXP_SERIAL]);

	c->port_data[CTXP_OF_NEXT] = *head;
	c->port_data[CTXP_OF_PREV] = 0;
	if (*head)
		ctx_by_id(*head)->port_data[CTXP_OF_PREV] = c->id;
	*head = c->id;
}

static void list_remove(struct ctx *c)
{
	u32 next = (u32)c->port_data[CTXP_OF_NEXT], prev = (u32)c->port_data[CTXP_OF_PREV];

	if (next)
		ctx_by_id(next)->port_data[CTXP_OF_PREV] = prev;
	if (prev)
		ctx_by_id(prev)->port_data[CTXP_OF_NEXT] = next;
	else
		*list_of(c->port_data[CTXP_SERIAL]) = next;
}

struct ctx *ctx_alloc(struct quire *q, s32 pid, u64 serial)
{
	struct machine_shared *m = shared_area();
	struct ctx *c = NULL;
	u32 id;

	spin_lock(&m->pool_lock);
	if (m->ctx_free) {
		id = m->ctx_free;
		c = ctx_by_id(id);
		m->ctx_free = (u32)c->port_data[CTXP_FREE_NEXT];
	} else if (m->ctx_used < MAX_CTX) {
		id = ++m->ctx_used;
		c = ctx_by_id(id);
		c->id = id;
	}
	if (c) {
		ctx_settle(c);
		c->q = q;
		c->state = CTX_KERNEL;
		c->task = NULL;
		c->mm = NULL;
		c->flags = 0;
		c->nmms = 0;
		c->nswaps = 0;
		c->nfiles = 0;
		c->port_data[CTXP_TGID] = (u64)pid;
		c->port_data[CTXP_SERIAL] = serial;
		c->port_data[CTXP_NEXT] = c->port_data[CTXP_PREV] = 0;
		c->port_data[CTXP_FREE_NEXT] = 0;
		c->port_data[CTXP_ROBUST] = 0;
		c->port_data[CTXP_BIRTH] = c->port_data[CTXP_PARENT] = 0;
		c->port_data[CTXP_TRACER] = c->port_data[CTXP_TRACE] = 0;
		list_add(c);
	}
	spin_unlock(&m->pool_lock);
	return c;
}

void ctx_free(struct ctx *c)
{
	struct machine_shared *m = shared_area();

	/* life stays: should we, its owner, die before the commit, the host must find our number there. */
	spin_lock(&m->pool_lock);
	list_remove(c);
	c->state = CTX_FREE;
	c->task = NULL;
	c->npins = 0;
	c->port_data[CTXP_FREE_NEXT] = m->ctx_free;
	m->ctx_free = c->id;
	spin_unlock(&m->pool_lock);
}

/* If the last one was given back meanwhile, it begins anew. */
struct ctx *ctx_next_of(u64 serial, const struct ctx *last)
{
	struct machine_shared *m = shared_area();
	u32 id;

	spin_lock(&m->pool_lock);
	if (last && last->state != CTX_FREE && last->port_data[CTXP_SERIAL] == serial)
		id = (u32)last->port_data[CTXP_OF_NEXT];
	else
		id = *list_of(serial);
	while (id && ctx_by_id(id)->port_data[CTXP_SERIAL] != serial)
		id = (u32)ctx_by_id(id)->port_data[CTXP_OF_NEXT];
	spin_unlock(&m->pool_lock);
	return id ? ctx_by_id(id) : NULL;
}

struct ctx *ctx_alloc_child(struct quire *q, u64 serial, u64 parent)
{
	struct ctx *c;

	spin_lock(&shared_area()->pool_lock);
	c = ctx_alloc(q, 0, serial);
	if (c) {
		c->port_data[CTXP_BIRTH] = birth_word(serial, BIRTH_EXPECTED, 0);
		c->port_data[CTXP_PARENT] = parent;
		newborn_push(c);
	}
	spin_unlock(&shared_area()->pool_lock);
	return c;
}

/* A new process is announced, so that the supervisor takes a pidfd. */
void newborn_push(struct ctx *c)
{
	struct machine_shared *m = shared_area();

	spin_lock(&m->pool_lock);
	c->port_data[CTXP_NEWBORN] = m->newborn;
	m->newborn = c->id;
	spin_unlock(&m->pool_lock);
}

struct ctx *newborn_pop(void)
{
	struct machine_shared *m = shared_area();
	struct ctx *c = NULL;

	spin_lock(&m->pool_lock);
	if (m->newborn) {
		c = ctx_by_id(m->newborn);
		m->newborn = (u32)c->port_data[CTXP_NEWBORN];
		c->port_data[CTXP_NEWBORN] = 0;
	}
	spin_unlock(&m->pool_lock);
	return c;
}

static bool same_process_on_mm(struct host_mm *h, const struct ctx *me)
{
	u32 id;

	for (id = h->first_ctx; id; id = (u32)ctx_by_id(id)->port_data[CTXP_NEXT])
		if (id != me->id && ctx_by_id(id)->port_data[CTXP_SERIAL] == me->port_data[CTXP_SERIAL])
			return true;
	return false;
}

void ctx_join_mm(struct ctx *c, struct mm_struct *mm)
{
	struct host_mm *h = host_mm_of(mm);

	spin_lock(&mm->lock);
	if (!same_process_on_mm(h, c))
		h->nproc++;
	c->port_data[CTXP_NEXT] = h->first_ctx;
	c->port_data[CTXP_PREV] = 0;
	if (h->first_ctx)
		ctx_by_id(h->first_ctx)->port_data[CTXP_PREV] = c->id;
	h->first_ctx = c->id;
	c->mm = mm;
	spin_unlock(&mm->lock);
}

void ctx_leave_mm(struct ctx *c)
{
	struct mm_struct *mm = c->mm;
	struct host_mm *h;
	u32 next, prev;

	if (!mm)
		return;
	h = host_mm_of(mm);
	spin_lock(&mm->lock);
	next = (u32)c->port_data[CTXP_NEXT];
	prev = (u32)c->port_data[CTXP_PREV];
	if (next)
		ctx_by_id(next)->port_data[CTXP_PREV] = prev;
	if (prev)
		ctx_by_id(prev)->port_data[CTXP_NEXT] = next;
	else
		h->first_ctx = next;
	c->port_data[CTXP_NEXT] = c->port_data[CTXP_PREV] = 0;
	c->mm = NULL;
	c->npins = 0;
	if (!same_process_on_mm(h, c))
		h->nproc--;
	spin_unlock(&mm->lock);
}

int pin_add(struct ctx *c, u64 start, u64 end)
{
	struct mm_struct *mm = c->mm;

	if (c->npins == CTX_MAX_PINS)
		return -E2BIG;
	spin_lock(&mm->lock);
	c->pins[c->npins].start = start;
	c->pins[c->npins].end = end;
	c->npins++;
	spin_unlock(&mm->lock);
	return 0;
}

/* Only the owner adds or drops pins, and a revoker that still sees one merely skips a page: no lock. */
void pins_drop(struct ctx *c)
{
	WRITE_ONCE(c->npins, 0);
}

void mm_for_each_ctx(struct mm_struct *mm, bool (*fn)(struct ctx *c, void *arg), void *arg)
{
	struct host_mm *h = host_mm_of(mm);
	u32 id;

	lockdep_assert_held(&mm->lock);
	for (id = h->first_ctx; id; id = (u32)ctx_by_id(id)->port_data[CTXP_NEXT])
		if (!fn(ctx_by_id(id), arg))
			return;
}

/* ---- ptrace.c: threads that another process on the same mm looks at ---- */

static struct ctx *thread_on_mm(struct mm_struct *mm, s32 tid, u64 tracer)
{
	u32 id;

	for (id = host_mm_of(mm)->first_ctx; id; id = (u32)ctx_by_id(id)->port_data[CTXP_NEXT]) {
		struct ctx *c = ctx_by_id(id);

		if ((s32)c->port_data[CTXP_TID] == tid)
			return c->port_data[CTXP_TRACER] == tracer ? c : NULL;
	}
	return NULL;
}

struct ctx *ctx_traced_by(struct mm_struct *mm, s32 tid, u64 tracer)
{
	struct ctx *c;

	spin_lock(&mm->lock);
	c = thread_on_mm(mm, tid, tracer);
	spin_unlock(&mm->lock);
	return c;
}

struct ctx *ctx_trace_change(struct mm_struct *mm, s32 tid, u64 from, u64 to, u32 state)
{
	struct ctx *c;

	spin_lock(&mm->lock);
	c = thread_on_mm(mm, tid, from);
	if (c && !from && c->port_data[CTXP_SERIAL] == to)
		c = NULL; /* nobody traces himself */
	if (c) {
		c->port_data[CTXP_TRACER] = to;
		c->port_data[CTXP_TRACE] = state;
	}
	spin_unlock(&mm->lock);
	return c;
}

bool ctx_trace_report(struct mm_struct *mm, s32 tid, u64 tracer)
{
	struct ctx *c;
	bool new;

	spin_lock(&mm->lock);
	c = thread_on_mm(mm, tid, tracer);
	new = c && c->port_data[CTXP_TRACE] == TRACE_STOPPED;
	if (new)
		c->port_data[CTXP_TRACE] = TRACE_REPORTED;
	spin_unlock(&mm->lock);
	return new;
}

bool ctx_trace_registers(struct mm_struct *mm, s32 tid, u64 tracer, u64 *regs)
{
	struct ctx *c;
	bool still;

	spin_lock(&mm->lock);
	c = thread_on_mm(mm, tid, tracer);
	still = c && (c->port_data[CTXP_TRACE] == TRACE_STOPPED || c->port_data[CTXP_TRACE] == TRACE_REPORTED);
	if (still && regs)
		memcpy(regs, c->port_regs, sizeof(c->port_regs));
	spin_unlock(&mm->lock);
	return still;
}

struct pin_query {
	u64 start, end;
	bool found;
};

static bool pin_overlaps(struct ctx *c, void *arg)
{
	struct pin_query *pq = arg;
	u32 i, n = MIN(READ_ONCE(c->npins), CTX_MAX_PINS);

	for (i = 0; i < n && !pq->found; i++)
		pq->found = c->pins[i].start < pq->end && pq->start < c->pins[i].end;
	if (c->state == CTX_NATIVE_UNPINNED)
		pq->found = true;
	return !pq->found;
}

bool port_range_pinned(struct mm_struct *mm, u64 start, u64 end)
{
	struct pin_query pq = { start, end, false };

	if (!mm->port_mm)
		return false;
	mm_for_each_ctx(mm, pin_overlaps, &pq);
	return pq.found;
}
