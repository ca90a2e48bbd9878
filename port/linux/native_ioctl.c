/*
 * ioctl: what the argument points to.
 *
 * Modern requests say their size and direction (asm-generic/ioctl.h), but not all tell the truth (TUNSETIFF says int and
 * takes a struct ifreq), and some are followed by an array.  So they get the guest's memory itself, pinned with
 * some room behind it, and only the legacy ones in the table are copied by their true size.  Requests that neither
 * say nor are listed may take a number or a pointer: if it can be one, the page around it is pinned.
 */
#include "native.h"
#include "x86_64/native_nr.h"
#include <asm/ioctl.h>
#include <asm/ioctls.h>
#include <linux/fs.h>
#include <linux/fiemap.h>
#include <linux/sockios.h>

#define IFREQ_BYTES 40u
#define IFREQ_DATA 16u       /* offset of ifr_data */
#define ARPREQ_BYTES 68u
#define RTENTRY_BYTES 120u
#define RTENTRY_DEV 80u      /* offset of rt_dev */
#define EXTENT_BYTES 56u     /* struct fiemap_extent */
#define DEDUPE_BYTES 32u     /* struct file_dedupe_range_info */
#define TAIL_ROOM 512u       /* pinned behind an argument of known size */
#define KVM_TYPE 0xAE
#define TUNSETIFF_ 0x400454cau
#define TUNGETIFF_ 0x800454d2u
#define FIONREAD_ 0x541Bu

struct legacy { u32 request; u8 kind; u8 size; };

/* asm-generic/ioctls.h, linux/sockios.h, linux/fs.h */
static const struct legacy legacy_table[] = {
	{ TCGETS, ARG_OUT, 36 }, { TCSETS, ARG_IN, 36 }, { TCSETSW, ARG_IN, 36 }, { TCSETSF, ARG_IN, 36 },
	{ TCGETA, ARG_OUT, 18 }, { TCSETA, ARG_IN, 18 }, { TCSETAW, ARG_IN, 18 }, { TCSETAF, ARG_IN, 18 },
	{ TCSBRK, ARG_VALUE, 0 }, { TCXONC, ARG_VALUE, 0 }, { TCFLSH, ARG_VALUE, 0 }, { TIOCEXCL, ARG_VALUE, 0 },
	{ TIOCNXCL, ARG_VALUE, 0 }, { TIOCSCTTY, ARG_VALUE, 0 }, { TIOCGPGRP, ARG_OUT, 4 }, { TIOCSPGRP, ARG_IN, 4 },
	{ TIOCOUTQ, ARG_OUT, 4 }, { TIOCSTI, ARG_IN, 1 }, { TIOCGWINSZ, ARG_OUT, 8 }, { TIOCSWINSZ, ARG_IN, 8 },
	{ TIOCMGET, ARG_OUT, 4 }, { TIOCMBIS, ARG_IN, 4 }, { TIOCMBIC, ARG_IN, 4 }, { TIOCMSET, ARG_IN, 4 },
	{ TIOCGSOFTCAR, ARG_OUT, 4 }, { TIOCSSOFTCAR, ARG_IN, 4 }, { FIONREAD_, ARG_OUT, 4 },
	{ TIOCCONS, ARG_VALUE, 0 }, { TIOCGSERIAL, ARG_OUT, 72 }, { TIOCSSERIAL, ARG_IN, 72 }, { TIOCPKT, ARG_IN, 4 },
	{ FIONBIO, ARG_IN, 4 }, { TIOCNOTTY, ARG_VALUE, 0 }, { TIOCSETD, ARG_IN, 4 }, { TIOCGETD, ARG_OUT, 4 },
	{ TCSBRKP, ARG_VALUE, 0 }, { TIOCSBRK, ARG_VALUE, 0 }, { TIOCCBRK, ARG_VALUE, 0 }, { TIOCGSID, ARG_OUT, 4 },
	{ TIOCVHANGUP, ARG_VALUE, 0 }, { TIOCGPTPEER, ARG_VALUE, 0 }, { TIOCGICOUNT, ARG_OUT, 80 },
	{ TIOCSERGETLSR, ARG_OUT, 4 }, { TIOCMIWAIT, ARG_VALUE, 0 }, { FIONCLEX, ARG_VALUE, 0 },
	{ FIOCLEX, ARG_VALUE, 0 }, { FIOASYNC, ARG_IN, 4 }, { FIOQSIZE, ARG_OUT, 8 },
	{ FIOSETOWN, ARG_IN, 4 }, { SIOCSPGRP, ARG_IN, 4 }, { FIOGETOWN, ARG_OUT, 4 }, { SIOCGPGRP, ARG_OUT, 4 },
	{ SIOCATMARK, ARG_OUT, 4 }, { SIOCGSTAMP_OLD, ARG_OUT, 16 }, { SIOCGSTAMPNS_OLD, ARG_OUT, 16 },
	{ TUNSETIFF_, ARG_INOUT, IFREQ_BYTES }, { TUNGETIFF_, ARG_INOUT, IFREQ_BYTES },
	{ FIBMAP, ARG_INOUT, 4 }, { FIGETBSZ, ARG_OUT, 4 }, { FICLONE, ARG_VALUE, 0 },
	{ BLKROSET, ARG_IN, 4 }, { BLKROGET, ARG_OUT, 4 }, { BLKRRPART, ARG_VALUE, 0 }, { BLKGETSIZE, ARG_OUT, 8 },
	{ BLKFLSBUF, ARG_VALUE, 0 }, { BLKRASET, ARG_VALUE, 0 }, { BLKRAGET, ARG_OUT, 8 }, { BLKFRASET, ARG_VALUE, 0 },
	{ BLKFRAGET, ARG_OUT, 8 }, { BLKSECTGET, ARG_OUT, 2 }, { BLKSSZGET, ARG_OUT, 4 }, { BLKDISCARD, ARG_IN, 16 },
	{ BLKIOMIN, ARG_OUT, 4 }, { BLKIOOPT, ARG_OUT, 4 }, { BLKALIGNOFF, ARG_OUT, 4 }, { BLKPBSZGET, ARG_OUT, 4 },
	{ BLKDISCARDZEROES, ARG_OUT, 4 }, { BLKSECDISCARD, ARG_IN, 16 }, { BLKROTATIONAL, ARG_OUT, 2 },
	{ BLKZEROOUT, ARG_IN, 16 },
	{ SIOCDARP, ARG_INOUT, ARPREQ_BYTES }, { SIOCGARP, ARG_INOUT, ARPREQ_BYTES }, { SIOCSARP, ARG_INOUT, ARPREQ_BYTES },
};

static const struct legacy *find_legacy(u32 request)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(legacy_table); i++)
		if (legacy_table[i].request == request)
			return &legacy_table[i];
	return NULL;
}

static long run_argument(struct native_frame *f, struct native_arg d)
{
	int r = native_prepare_arg(f, 2, d);

	return r ? r : native_finish(f);
}

/* [arg, arg + size) and what can be had behind it.  Failures are the host's to report. */
static long pin_and_issue(struct native_frame *f, u64 size, bool write)
{
	if (f->a[2] >= PAGE_SIZE && f->a[2] < GUEST_END &&
	    native_pin_prefix(f, f->a[2], size, write) <= 0 && write)
		(void)native_pin_prefix(f, f->a[2], size, false);
	return native_issue(f);
}

/* struct ifconf { int len; struct ifreq *buf; } */
static long get_ifconf(struct native_frame *f)
{
	struct { s32 len; u32 pad; u64 buf; } *conf;
	int r = native_inout(f, f->a[2], sizeof(*conf), &f->h[2]);

	if (r || !f->a[2])
		return r ? r : -EFAULT;
	conf = (void *)f->h[2];
	if (conf->buf && conf->len > 0)
		r = native_pin(f, conf->buf, (u64)conf->len, true);
	return r ? r : native_finish(f);
}

/* Requests whose struct ifreq has a pointer to more (ethtool, MII by data, bridges). */
static bool ifreq_has_data(u32 request)
{
	return request == SIOCETHTOOL || request == SIOCBRADDIF || request == SIOCSHWTSTAMP || request == SIOCGHWTSTAMP ||
	       request == SIOCBONDINFOQUERY || request == SIOCBONDSLAVEINFOQUERY ||
	       (request >= SIOCDEVPRIVATE && request <= SIOCDEVPRIVATE + 15);
}

static long socket_ioctl(struct native_frame *f, u32 request)
{
	u64 data;

	if (request == SIOCGIFCONF)
		return get_ifconf(f);
	if (request == SIOCADDRT || request == SIOCDELRT) {
		int r = native_in(f, f->a[2], RTENTRY_BYTES, &f->h[2]);
		u64 *dev = (u64 *)(f->h[2] + RTENTRY_DEV);

		if (!r && f->a[2])
			r = native_string(f, *dev, dev);
		return r ? r : native_issue(f);
	}
	if (ifreq_has_data(request) && !copy_from_user(&data, f->a[2] + IFREQ_DATA, sizeof(data)) && data < GUEST_END)
		(void)native_pin_prefix(f, data, PAGE_SIZE, true);
	return run_argument(f, (struct native_arg){ ARG_INOUT, 0, IFREQ_BYTES });
}

/* A head that counts the records behind it. */
static u64 counted_bytes(struct native_frame *f, u64 head, u64 count_offset, u32 count_bytes, u64 record)
{
	u32 count = 0;

	if (copy_from_user(&count, f->a[2] + count_offset, count_bytes))
		return head;
	return head + MIN(count, 65536u) * record;
}

static long sized_ioctl(struct native_frame *f, u32 request)
{
	u64 size = _IOC_SIZE(request);

	if (request == FS_IOC_FIEMAP)
		size = counted_bytes(f, sizeof(struct fiemap), offsetof(struct fiemap, fm_extent_count), 4, EXTENT_BYTES);
	else if (request == FIDEDUPERANGE)
		size = counted_bytes(f, sizeof(struct file_dedupe_range),
				     offsetof(struct file_dedupe_range, dest_count), 2, DEDUPE_BYTES);
	return pin_and_issue(f, size + TAIL_ROOM, _IOC_DIR(request) & _IOC_READ);
}

long native_ioctl(struct native_frame *f)
{
	u32 request = (u32)f->a[1];
	const struct legacy *l;

	if (native_check_fd(f->a[0]))
		return -EBADF;
	if (_IOC_TYPE(request) == KVM_TYPE && _IOC_DIR(request) != _IOC_NONE)
		return -ENOTTY; /* its guests' memory would be the host's view of ours */
	l = find_legacy(request);
	if (l)
		return run_argument(f, (struct native_arg){ l->kind, 0, l->size });
	if (request >= SIOCADDRT && request <= SIOCDEVPRIVATE + 15)
		return socket_ioctl(f, request);
	if (_IOC_SIZE(request))
		return sized_ioctl(f, request);
	return pin_and_issue(f, PAGE_SIZE, true);
}
