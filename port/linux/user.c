/*
 * Guest memory as the kernel uses it: by its own addresses, under a pin.
 *
 * A pin keeps [start, end) from being revoked or write-protected by anybody: it is noted under mm->lock, then pending flushes
 * are done, then the pages are touched (faults resolve them), and from then on the host mapping stays.  The last pin slot is
 * reserved for copies, so that copy_from_user always works while a call has its buffers pinned.
 * Under no lock.
 */
#include "x86_64/regs.h"
#include "revoke.h"

static int pin_range(u64 addr, u64 len, u32 limit)
{
	struct ctx *c = kthread()->ctx;
	int ret;

	if (addr >= GUEST_END || len > GUEST_END - addr)
		return -EFAULT;
	if (c->npins >= limit)
		return -E2BIG;
	install_lock();
	ret = pin_add(c, addr, addr + len);
	host_tlb_flush();
	install_unlock();
	return ret;
}

static void pin_pop(void)
{
	struct ctx *c = kthread()->ctx;

	WRITE_ONCE(c->npins, c->npins - 1);
}

int user_pin(u64 addr, u64 len, bool write)
{
	u64 a, end = addr + len;
	int ret;

	if (!len)
		return 0;
	ret = pin_range(addr, len, CTX_MAX_PINS - 1);
	if (ret)
		return ret;
	for (a = addr; a < end; a = (a & PAGE_MASK) + PAGE_SIZE) {
		if (write ? user_touch_write(a) : user_touch_read(a)) {
			pin_pop();
			return -EFAULT;
		}
	}
	return 0;
}

void user_unpin_all(void)
{
	pins_drop(kthread()->ctx);
}

int copy_from_user(void *dst, u64 src, size_t n)
{
	u64 left;

	if (!n)
		return 0;
	if (pin_range(src, n, CTX_MAX_PINS))
		return -EFAULT;
	left = user_copy(dst, (const void *)src, n);
	pin_pop();
	return left ? -EFAULT : 0;
}

int copy_to_user(u64 dst, const void *src, size_t n)
{
	u64 left;

	if (!n)
		return 0;
	if (pin_range(dst, n, CTX_MAX_PINS))
		return -EFAULT;
	left = user_copy((void *)dst, src, n);
	pin_pop();
	return left ? -EFAULT : 0;
}

static size_t find_nul(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n && s[i])
		i++;
	return i;
}

long strncpy_from_user(char *dst, u64 src, size_t size)
{
	size_t done = 0;

	while (done < size) {
		size_t n = MIN(size - done, PAGE_SIZE - ((src + done) & (PAGE_SIZE - 1)));
		size_t len;

		if (copy_from_user(dst + done, src + done, n))
			return -EFAULT;
		len = find_nul(dst + done, n);
		if (len < n)
			return (long)(done + len);
		done += n;
	}
	return -ENAMETOOLONG;
}
