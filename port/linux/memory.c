/*
 * The memory system calls of a guest: descriptors become files here, the rest is the core's.
 * After each call the exit path flushes what it revoked (host_tlb_flush), so nothing is unmapped twice.
 */
#include "memory.h"
#include "hostfile.h"
#include "hostsys.h"
#include "process.h"
#include "refill.h"
#include "revoke.h"
#include "../../sys/sys.h"
#include <linux/capability.h>
#include <linux/fcntl.h>

/* ---- mmap ---- */

#define LOW_MEMORY 0x100000ull /* above any mmap_min_addr */

#define LINUX_TASK_SIZE 0x7ffffffff000ull /* x86-64 with four levels */
#define DEV_ZERO ((1ull << 8) | 5)

/* A device: the host maps it, the core only knows the range. */
static long mmap_device(u64 addr, u64 len, u64 prot, u64 flags, int fd, u64 off)
{
	u64 vmf = (prot & 7) | ((flags & MAP_TYPE) == MAP_PRIVATE ? 0 : VM_SHARED | VM_MAYSHARE) | VM_MAYREAD |
		  VM_MAYWRITE | VM_MAYEXEC | VM_IO;
	long at, ret;

	if (kproc.nnative == MAX_NATIVE_RANGES)
		return -ENOMEM;
	at = do_mmap(kproc.mm, NULL, addr, len, PROT_NONE,
		     (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT)) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
	if (IS_ERR(at))
		return at;
	do_munmap(kproc.mm, (u64)at, len);
	install_lock();
	host_tlb_flush();
	ret = host_call(__NR_mmap, at, len, prot, flags | MAP_FIXED, fd, off);
	if (ret >= 0) {
		kproc.native[kproc.nnative].start = (u64)at;
		kproc.native[kproc.nnative++].end = (u64)at + PAGE_ALIGN(len);
	}
	install_unlock();
	if (ret < 0)
		return ret;
	ret = install_special_mapping(kproc.mm, (u64)at, PAGE_ALIGN(len), vmf, NULL);
	return ret < 0 ? ret : at;
}

/* mem(4): a mapping of /dev/zero is anonymous memory, but what is asked for is checked as for a file. */
static long mmap_zero(u64 addr, u64 len, u64 prot, u64 flags)
{
	u64 type = flags & MAP_TYPE;

	if (type == MAP_SHARED_VALIDATE && (flags & MAP_SYNC))
		return -EOPNOTSUPP;
	if (type == MAP_SHARED_VALIDATE)
		type = MAP_SHARED;
	else if (type != MAP_SHARED && type != MAP_PRIVATE)
		return -EINVAL;
	return sys_mmap(kproc.task, addr, len, prot, (flags & ~(u64)MAP_TYPE) | type | MAP_ANONYMOUS, NULL, 0);
}

static long mmap_regular(u64 addr, u64 len, u64 prot, u64 flags, int fd, u64 off, const struct hostfile_info *info)
{
	bool shared = (flags & MAP_TYPE) == MAP_SHARED || (flags & MAP_TYPE) == MAP_SHARED_VALIDATE;
	struct file *f = NULL;
	long ret;

	anchors_hold(); /* another thread's munmap must not take the anchor away before it is used */
	if (info->regular && (flags & MAP_FIXED) && !shared)
		f = hostfile_again(fd, info, addr, off + PAGE_ALIGN(len));
	if (!f)
		f = hostfile_open(fd, off + PAGE_ALIGN(len), shared);
	ret = IS_ERR(f) ? PTR_ERR(f) : sys_mmap(kproc.task, addr, len, prot, flags, f, off);
	if (!IS_ERR(f))
		file_put(f);
	anchors_release();
	return ret;
}

static long mmap_file(u64 addr, u64 len, u64 prot, u64 flags, int fd, u64 off)
{
	struct hostfile_info info;
	long ret = hostfile_stat(fd, &info);

	if (ret)
		return ret;
	if (info.chardev && info.rdev == DEV_ZERO)
		return mmap_zero(addr, len, prot, flags);
	if (info.chardev)
		return mmap_device(addr, len, prot, flags, fd, off);
	return mmap_regular(addr, len, prot, flags, fd, off, &info);
}

/* A length that nobody can map; but the descriptor is looked at first. */
static long mmap_bad_length(int fd, u64 len)
{
	long ret = host_call(__NR_fcntl, fd, F_GETFL);

	if (ret >= 0 && (ret & O_PATH))
		return -EBADF;
	return ret < 0 ? ret : len ? -ENOMEM : -EINVAL;
}

long guest_mmap(u64 addr, u64 len, u64 prot, u64 flags, u64 fd, u64 off)
{
	if (off & ~PAGE_MASK)
		return -EINVAL;
	if ((flags & MAP_LOCKED) || (kproc.mm->def_flags & VM_LOCKED) || ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) && addr < LOW_MEMORY))
		capabilities_refresh(kproc.mm);
	if (flags & MAP_ANONYMOUS)
		return sys_mmap(kproc.task, addr, len, prot, flags, NULL, off);
	if ((s32)fd == KERNEL_FD)
		return -EBADF;
	if (!len || len > GUEST_END)
		return mmap_bad_length((s32)fd, len);
	return mmap_file(addr, len, prot, flags, (s32)fd, off);
}

/* A device's host mapping goes with its range. */
static void forget_native(u64 start, u64 end)
{
	u32 i, n = 0;

	for (i = 0; i < kproc.nnative; i++) {
		struct native_range r = kproc.native[i];

		if (r.start < end && start < r.end) {
			host_call(__NR_munmap, MAX(r.start, start), MIN(r.end, end) - MAX(r.start, start));
			if (r.start < start)
				kproc.native[n++] = (struct native_range){ r.start, start };
			if (r.end > end && n < MAX_NATIVE_RANGES)
				kproc.native[n++] = (struct native_range){ end, r.end };
			continue;
		}
		kproc.native[n++] = r;
	}
	kproc.nnative = n;
}

/* What lies between the guest's end and Linux's is the kernel's; for the guest nothing is mapped there. */
static u64 cut_off_end(u64 addr, u64 len)
{
	bool reaches_over = len <= LINUX_TASK_SIZE && addr < GUEST_END && addr <= LINUX_TASK_SIZE - len;

	return reaches_over ? MIN(len, GUEST_END - addr) : len;
}

long guest_munmap(u64 addr, u64 len)
{
	long ret;

	len = cut_off_end(addr, len);
	ret = sys_munmap(kproc.task, addr, len);

	if (!ret && kproc.nnative) {
		install_lock();
		forget_native(addr, addr + PAGE_ALIGN(len));
		install_unlock();
	}
	if (!ret && anchors_counted())
		anchors_trim();
	return ret;
}

/* ---- sysinfo(2) ---- */

struct sysinfo_host {
	s64 uptime;
	u64 loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
	u16 procs, pad;
	u64 totalhigh, freehigh;
	u32 mem_unit;
};

long guest_sysinfo(u64 out)
{
	struct quire_sysinfo q;
	struct sysinfo_host si;
	long ret = host_call(__NR_sysinfo, &si);

	if (ret < 0)
		return ret;
	sys_sysinfo(kthread()->ctx->q, &q);
	si.totalram = q.totalram;
	si.freeram = q.freeram;
	si.sharedram = q.sharedram;
	si.bufferram = q.bufferram;
	si.totalswap = q.totalswap;
	si.freeswap = q.freeswap;
	si.totalhigh = q.totalhigh;
	si.freehigh = q.freehigh;
	si.procs = (u16)q.procs;
	si.mem_unit = 1;
	return copy_to_user(out, &si, sizeof(si));
}
