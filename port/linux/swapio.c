/*
 * The requester's half of swapio.h: the port's swap devices.
 */
#include "kernel.h"
#include "hostsys.h"
#include "process.h"
#include "swapio.h"

#define NAP_NS 1000000ull

static struct swapio *swapio(void)
{
	return &shared_area()->swapio;
}

static void futex_wait(u32 *word, u32 seen)
{
	host_call(__NR_futex, word, FUTEX_WAIT, seen, NULL);
}

static struct swapio_request *claim(u32 owner)
{
	u32 never = 0;

	for (;;) {
		for (u32 i = 0; i < SWAPIO_REQUESTS; i++) {
			struct swapio_request *r = &swapio()->request[i];
			u32 was = 0;

			if (!__atomic_load_n(&r->state, __ATOMIC_RELAXED) &&
			    __atomic_compare_exchange_n(&r->state, &was, SWAPIO_WORD(owner, SWAPIO_CLAIMED), false,
							__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
				return r;
		}
		port_wait(&never, 0, NAP_NS);
	}
}

/* The request is carried out; it stays the caller's. */
static s32 carry_out(struct swapio_request *r, u32 owner)
{
	struct swapio *s = swapio();
	u32 seen;

	__atomic_store_n(&r->state, SWAPIO_WORD(owner, SWAPIO_QUEUED), __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&s->queued, 1, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&s->wanted, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&s->wanted, 1, __ATOMIC_SEQ_CST);
		doorbell_ring();
	}
	port_wake(&s->queued, 1);
	while (SWAPIO_STATE(seen = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE)) != SWAPIO_DONE)
		futex_wait(&r->state, seen);
	return r->result;
}

static void let_go(struct swapio_request *r)
{
	__atomic_store_n(&r->state, SWAPIO_FREE, __ATOMIC_RELEASE);
}

int host_swap_io(struct quire *q, u32 dev, bool write, u64 page, u32 n, void *const *pages)
{
	u32 owner = port_ctx()->id;
	struct swapio_request *r;
	s32 ret;

	if (!n || n > HOST_SWAP_MAX)
		return -EIO;
	r = claim(owner);
	r->op = write ? SWAPIO_WRITE : SWAPIO_READ;
	r->dev = dev;
	r->page = page;
	r->n = n;
	for (u32 i = 0; i < n; i++)
		r->pages[i] = (u64)pages[i];
	ret = carry_out(r, owner);
	let_go(r);
	return ret;
}

void host_swap_close(struct quire *q, u32 dev)
{
	u32 owner = port_ctx()->id;
	struct swapio_request *r = claim(owner);

	r->op = SWAPIO_CLOSE;
	r->dev = dev;
	carry_out(r, owner);
	let_go(r);
}

struct swapio_request *swapio_open(s32 fd)
{
	u32 owner = port_ctx()->id;
	struct swapio_request *r = claim(owner);

	r->op = SWAPIO_OPEN;
	r->pid = kproc.pid;
	r->fd = fd;
	carry_out(r, owner);
	return r;
}

void swapio_settled(struct swapio_request *r)
{
	let_go(r);
}

/* ---- after a death ---- */

/* True: it is over now. */
static bool end_request(struct quire *q, struct swapio_request *r, u32 word)
{
	u32 dev = r->dev;

	switch (SWAPIO_STATE(word)) {
	case SWAPIO_ACTIVE:
		futex_wait(&r->state, word);
		return false;
	case SWAPIO_DONE:
		/* It may have died before the device became part of an area. */
		if (r->op == SWAPIO_OPEN && r->result >= 0 && !swap_device_is_used(q, (u32)r->result))
			host_swap_close(q, (u32)r->result);
		let_go(r);
		return true;
	default:
		if (!__atomic_compare_exchange_n(&r->state, &word, SWAPIO_FREE, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return false;
		if (SWAPIO_STATE(word) == SWAPIO_QUEUED && r->op == SWAPIO_CLOSE)
			host_swap_close(q, dev);
		return true;
	}
}

void swapio_abandon(struct quire *q, u32 ctx_id)
{
	for (u32 i = 0; i < SWAPIO_REQUESTS; i++) {
		struct swapio_request *r = &swapio()->request[i];
		u32 word;

		do {
			word = __atomic_load_n(&r->state, __ATOMIC_ACQUIRE);
		} while (SWAPIO_STATE(word) && SWAPIO_OWNER(word) == ctx_id && !end_request(q, r, word));
	}
}
