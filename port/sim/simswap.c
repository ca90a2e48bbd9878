/*
 * The simulated machine's swap devices: pages in host memory.
 *
 * Requests are carried out in pieces of one page, with a chance for others to run in between, so that whoever relies on
 * a request being one step is found out.  Devices are made and broken by tests while no other thread runs core code.
 */
#include "sim_internal.h"
#include <port/host.h>
#include <stdlib.h>
#include <string.h>

u32 sim_swap_new(struct quire *q, u64 pages)
{
	struct sim_machine *m = sim_of(q);
	u32 dev = 0;

	while (dev < SIM_MAX_SWAP_DEVICES && m->swap_devices[dev].bytes)
		dev++;
	if (dev == SIM_MAX_SWAP_DEVICES)
		abort();
	m->swap_devices[dev] = (struct sim_swap_device){ .bytes = calloc(pages, PAGE_SIZE), .pages = pages };
	if (!m->swap_devices[dev].bytes)
		abort();
	return dev;
}

void sim_swap_break(struct quire *q, u32 dev, int read_error, int write_error)
{
	sim_of(q)->swap_devices[dev].read_error = read_error;
	sim_of(q)->swap_devices[dev].write_error = write_error;
}

u8 *sim_swap_page(struct quire *q, u32 dev, u64 page)
{
	return sim_of(q)->swap_devices[dev].bytes + page * PAGE_SIZE;
}

struct sim_swap_counts sim_swap_counts(struct quire *q, u32 dev)
{
	const struct sim_swap_device *d = &sim_of(q)->swap_devices[dev];

	return (struct sim_swap_counts){ .reads = d->reads, .writes = d->writes, .pages_read = d->pages_read,
					 .pages_written = d->pages_written, .open = d->bytes != NULL };
}

/* A page that is written may be changing (then nobody will believe what was written), and a slot may be read that is being
 * written (then the stamp will be another). */
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread"), noinline))
#endif
static void copy_page(void *to, const void *from)
{
	volatile u64 *t = to;
	const volatile u64 *f = from;

	for (size_t i = 0; i < PAGE_SIZE / 8; i++)
		t[i] = f[i];
}

int host_swap_io(struct quire *q, u32 dev, bool write, u64 page, u32 n, void *const *pages)
{
	struct sim_swap_device *d = &sim_of(q)->swap_devices[dev];
	int err = write ? d->write_error : d->read_error;

	if (in_transaction())
		port_panic(q, "swap I/O under a spin lock");
	if (dev >= SIM_MAX_SWAP_DEVICES || !d->bytes || !n || n > HOST_SWAP_MAX || page + n > d->pages)
		return -EIO;
	__atomic_add_fetch(write ? &d->writes : &d->reads, 1, __ATOMIC_RELAXED);
	if (err)
		return err;
	for (u32 i = 0; i < n; i++) {
		sim_preempt();
		if (write)
			copy_page(d->bytes + (page + i) * PAGE_SIZE, pages[i]);
		else
			copy_page(pages[i], d->bytes + (page + i) * PAGE_SIZE);
	}
	__atomic_add_fetch(write ? &d->pages_written : &d->pages_read, n, __ATOMIC_RELAXED);
	return 0;
}

void host_swap_close(struct quire *q, u32 dev)
{
	struct sim_swap_device *d = &sim_of(q)->swap_devices[dev];

	free(d->bytes);
	d->bytes = NULL;
}

void sim_swap_free(struct sim_machine *m)
{
	for (u32 i = 0; i < SIM_MAX_SWAP_DEVICES; i++)
		free(m->swap_devices[i].bytes);
}
