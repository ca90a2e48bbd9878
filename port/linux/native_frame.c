/*
 * Memory of one native call: the arena, copies in and out, pins.  See native.h.
 */
#include "native.h"
#include "x86_64/native_nr.h"

#define HOST_PROT_RW 3          /* PROT_READ | PROT_WRITE */
#define HOST_MAP_PRIVATE_ANON 0x22 /* MAP_PRIVATE | MAP_ANONYMOUS */

/* Head of a host mapping that holds what did not fit into the arena. */
struct native_chunk {
	struct native_chunk *next;
	u64 bytes; /* of the mapping */
};

static void *chunk_alloc(struct native_frame *f, u64 n)
{
	u64 bytes = PAGE_ALIGN(n + sizeof(struct native_chunk) + 16);
	struct native_chunk *c;
	long r;

	if (n > NATIVE_ALLOC_MAX)
		return NULL;
	/* The host chooses a place near its own mappings: far above everything of the guest. */
	r = host_call(__NR_mmap, 0, bytes, HOST_PROT_RW, HOST_MAP_PRIVATE_ANON, -1, 0);
	if (r < 0 && r > -4096)
		return NULL;
	c = (struct native_chunk *)r;
	c->next = f->chunks;
	c->bytes = bytes;
	f->chunks = c;
	return (u8 *)c + ALIGN_UP(sizeof(*c), 16);
}

void *native_alloc(struct native_frame *f, u64 n)
{
	u64 size = ALIGN_UP(n, 16);
	void *p;

	if (n > NATIVE_ARENA || f->used + size > NATIVE_ARENA)
		return chunk_alloc(f, n);
	p = f->arena + f->used;
	f->used += (u32)size;
	return p;
}

void native_unpin(struct native_frame *f)
{
	if (f->pinned)
		user_unpin_all();
	f->pinned = false;
}

void native_frame_release(struct native_frame *f)
{
	struct native_chunk *c, *next;

	for (c = f->chunks; c; c = next) {
		next = c->next;
		host_call(__NR_munmap, c, c->bytes);
	}
	f->chunks = NULL;
	f->used = 0;
	f->nouts = 0;
	native_unpin(f);
}

u64 native_bulk_limit(void)
{
	return MAX(shared_area()->ram_bytes / 4, NATIVE_PIECE);
}

int native_pin(struct native_frame *f, u64 addr, u64 len, bool write)
{
	if (!len)
		return 0;
	if (addr >= GUEST_END || len > GUEST_END - addr)
		return -EFAULT;
	f->pinned = true;
	return user_pin(addr, len, write);
}

/*
 * A read into a buffer whose end is not mapped is legal as long as the data end before it.  Ranges are halved down
 * to the page at the edge; each success costs a pin, so at most log2(pages) are used.
 */
s64 native_pin_prefix(struct native_frame *f, u64 addr, u64 len, bool write)
{
	u64 done = 0, step = len;
	int r = native_pin(f, addr, len, write);

	if (!r)
		return (s64)len;
	if (r != -EFAULT && r != -ENOMEM)
		return r;
	if (addr >= GUEST_END)
		return -EFAULT;
	while (done < len && step > 1) {
		u64 to;

		step = (step + 1) / 2;
		to = MIN(ALIGN_DOWN(addr + done + step, PAGE_SIZE), addr + len);
		if (to <= addr + done)
			break;
		if (native_pin(f, addr + done, to - (addr + done), write))
			continue;
		done = to - addr;
	}
	if (!done) {
		/* Even the halves failed: the first page alone. */
		u64 to = MIN(ALIGN_DOWN(addr, PAGE_SIZE) + PAGE_SIZE, addr + len);

		if (native_pin(f, addr, to - addr, write))
			return r;
		done = to - addr;
	}
	return (s64)done;
}

s64 native_pin_transfer(struct native_frame *f, u64 addr, u64 len, bool write)
{
	s64 n = native_pin_prefix(f, addr, len, write);
	u64 next = addr + (n < 0 ? 0 : (u64)n);

	/* Halving stops short of the last whole page now and then. */
	while (n > 0 && n < (s64)len && next < GUEST_END && !native_pin(f, next, MIN(PAGE_SIZE, addr + len - next), write)) {
		n = (s64)MIN((u64)n + PAGE_SIZE, len);
		next = addr + (u64)n;
	}

	if (n == (s64)len || (n < 0 && n != -EFAULT))
		return n;
	/* Never an address of the machine's own; the gap below the anchors is mapped to nobody. */
	if (next >= GUEST_END || len > GUEST_END - addr)
		return n;
	/* Short of memory, or really nothing there? */
	return native_pin(f, next, 1, write) == -EFAULT ? (s64)len : n;
}

int native_in(struct native_frame *f, u64 user, u64 len, u64 *out)
{
	void *p;

	*out = user;
	if (!user || !len)
		return 0;
	p = native_alloc(f, len);
	if (!p)
		return -ENOMEM;
	*out = (u64)p;
	return copy_from_user(p, user, len);
}

/* /proc/PID/fd/N, /dev/fd/N and the like, N being the kernel's own descriptor. */
static bool names_kernel_fd(const char *path, u64 n)
{
	static const char fd[] = "fd/1021", info[] = "fdinfo/1021";

	_Static_assert(KERNEL_FD == 1021, "the texts above");
	if (n < sizeof(fd) || path[n - 1] != '1' || (memcmp(path, "/proc/", 6) && memcmp(path, "/dev/", 5)))
		return false;
	if (!memcmp(path + n - (sizeof(fd) - 1), fd, sizeof(fd) - 1))
		return path[n - sizeof(fd)] == '/';
	return n > sizeof(info) && !memcmp(path + n - sizeof(info), "/fdinfo/1021", sizeof(info));
}

int native_string(struct native_frame *f, u64 user, u64 *out)
{
	char *p;
	long n;

	*out = 0;
	if (!user)
		return 0;
	p = native_alloc(f, NATIVE_PATH);
	if (!p)
		return -ENOMEM;
	n = strncpy_from_user(p, user, NATIVE_PATH);
	if (n < 0)
		return (int)n;
	if (names_kernel_fd(p, (u64)n))
		return -ENOENT;
	/* Give back what the text does not need, if it came from the arena's end. */
	if ((u8 *)p + NATIVE_PATH == f->arena + f->used)
		f->used -= NATIVE_PATH - (u32)ALIGN_UP((u64)n + 1, 16);
	*out = (u64)p;
	return 0;
}

int native_inbuf(struct native_frame *f, u64 user, u64 len, u64 *out)
{
	int r;

	*out = user;
	if (!user || !len)
		return 0;
	if (len <= NATIVE_SMALL)
		return native_in(f, user, len, out);
	r = native_pin(f, user, len, false);
	if (r == -E2BIG && len <= NATIVE_ALLOC_MAX)
		return native_in(f, user, len, out);
	return r;
}

int native_add_out(struct native_frame *f, u64 user, const void *src, u64 len)
{
	if (f->nouts == NATIVE_MAX_OUTS)
		return -ENOMEM;
	f->outs[f->nouts++] = (struct native_out){ .dst = user, .src = src, .len = len };
	return 0;
}

int native_outbuf(struct native_frame *f, u64 user, u64 len, u64 *out)
{
	void *p;

	*out = user;
	if (!user || !len)
		return 0;
	if (f->call->flags & NF_EFFECT)
		return native_pin(f, user, len, true);
	p = native_alloc(f, len);
	if (!p)
		return -ENOMEM;
	memset(p, 0, len);
	*out = (u64)p;
	return native_add_out(f, user, p, len);
}

int native_inout(struct native_frame *f, u64 user, u64 len, u64 *out)
{
	int r = 0;

	*out = user;
	if (!user || !len)
		return 0;
	if (f->call->flags & NF_EFFECT)
		r = native_pin(f, user, len, true);
	if (!r)
		r = native_in(f, user, len, out);
	return r ? r : native_add_out(f, user, (void *)*out, len);
}

int native_copy_outs(struct native_frame *f)
{
	unsigned i;

	for (i = 0; i < f->nouts; i++)
		if (copy_to_user(f->outs[i].dst, f->outs[i].src, f->outs[i].len))
			return -EFAULT;
	return 0;
}
