/*
 * Rewritten system call sites: which ones, and what a call through one does.  patch.h has the picture.
 *
 * Invariants
 *	1. A thread in guest code has an empty trap stack, so a rewritten call may begin at its top.
 *	2. From patch_entered to the exit the context's state is KERNEL, as after a trap; the exit publishes USER and flushes as
 *	   every exit does (flush_until_current()).
 *	3. A process maps a block at one address only (base[]), because the way back is computed from it.
 *	4. Text that was rewritten becomes plain again (the guest wrote to it, or wants the slots' addresses) only through a hole in the
 *	   host's mappings, and with a signal to every other thread, so that none goes on inside a cave that is none any more.
 *
 * Locks: base[], off, slots_mapped under kproc.install.  Nothing here runs under a spin lock.
 */
#include "patch.h"
#include "guest_signal.h"
#include "hostsys.h"
#include "native_table.h"
#include "process.h"
#include "refill.h"
#include "revoke.h"
#include "x86_64/native_nr.h"
#include "x86_64/regs.h"
#include "../../mm/mm.h"
#include <asm/stat.h>

_Static_assert(offsetof(struct kthread, fast_sp) == KT_FAST_SP, "patch_abi.h");
_Static_assert(offsetof(struct ctx, state) == CTX_STATE && CTX_KERNEL == CTX_STATE_KERNEL, "patch_abi.h");
_Static_assert(sizeof(struct patch_frame) == PF_BYTES && offsetof(struct patch_frame, ax) == PF_AX, "patch_abi.h");
_Static_assert(offsetof(struct patch_frame, cx) == PF_CX && offsetof(struct patch_frame, sp) == PF_SP, "patch_abi.h");
_Static_assert(offsetof(struct patch_frame, flags) == PF_FLAGS && PF_AT + PF_BYTES + 256 == TRAP_SLOT_SIZE, "patch_abi.h");

#ifndef HITS_MAKE /* tests make them smaller */
#define HITS_LOOK 2u   /* traps at a site after which it is worth to look for a block */
#define HITS_MAKE 160u /* by anybody in the text of a block until it is made: what that costs (0.3 to 0.5 ms) is what so many have cost */
#endif
#define HITS_LOOK_AGAIN 16u /* another process may have made one */
#define HITS_NEVER ~0u
#define RAM_SHARE 64u  /* blocks take at most this part of RAM */
#define CALL_INSN 2u   /* bytes of `syscall` */

int patch_syscall(struct patch_frame *f); /* from patch.S */

static struct patch_store *store(void) { return &shared_area()->patch; }
static bool enabled(void) { return shared_area()->options & OPT_PATCH && !kproc.patch.off; }

/* ---- the call ---- */

/* These change the register set itself, or need all of it: they take a real trap. */
static bool needs_trap(long nr)
{
	switch (nr) {
	case __NR_fork: case __NR_vfork: case __NR_clone: case __NR_clone3: case __NR_execve: case __NR_execveat:
	case __NR_exit: case __NR_exit_group: case __NR_rt_sigreturn: case __NR_rt_sigsuspend:
		return true;
	default:
		return false;
	}
}

/* These read or change the guest's signal mask, which after a trap stands in the host's frame. */
static bool needs_mask(long nr)
{
	switch (nr) {
	case __NR_rt_sigprocmask: case __NR_ppoll: case __NR_pselect6: case __NR_epoll_pwait: case __NR_epoll_pwait2:
	case __NR_io_pgetevents:
		return true;
	default:
		return false;
	}
}

static bool restarts(long ret) { return ret == -ERESTARTSYS || ret == -ERESTARTNOINTR; }

static long call_with_mask(struct trap *t, long nr, const u64 a[6])
{
	struct kthread *k = t->k;
	u64 old = 0;
	long ret;

	host_call(__NR_rt_sigprocmask, 0, NULL, &old, 8);
	/* A signal that was noted has everything blocked until the exit. */
	t->uc->sigmask = old = k->pending & PEND_SIGNAL ? k->fast_mask : old;
	ret = guest_syscall(t, nr, a);
	if (t->uc->sigmask != old) {
		if (!(k->pending & PEND_SIGNAL))
			host_call(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &t->uc->sigmask, NULL, 8);
		k->fast_mask = t->uc->sigmask; /* also for one that came in between */
	}
	return ret;
}

static void make_call(struct kthread *k, struct patch_frame *f, long nr)
{
	struct ucontext_host uc; /* of all of it only the stack pointer and the mask are looked at (needs_trap) */
	struct trap t = { .k = k, .uc = &uc, .nr = nr };

	uc.r.sp = f->sp;
	uc.sigmask = 0;
	k->trap = &t;
	k->syscall_nr = nr;
	f->ax = (u64)(needs_mask(nr) ? call_with_mask(&t, nr, f->a) : guest_syscall(&t, nr, f->a));
	k->trap = NULL;
}

/* Returns 1: back to the guest; 0: by way of a signal to ourselves. */
int patch_syscall(struct patch_frame *f)
{
	const struct patch_site *s = &store()->site[f->cx % PATCH_MAX_SITES];
	struct kthread *k = kthread();
	long nr;

	f->cx = kproc.patch.base[s->block] + s->off + (s->kind == PATCH_FAR ? PATCH_FAR_LEN : PATCH_NEAR_LEN);
	if (s->kind == PATCH_FAR)
		f->ax = (u64)s->nr;
	nr = (s32)f->ax;
	k->fast_redo = needs_trap(nr);
	if (k->fast_redo)
		return 0;
	if (native_is_untrapped(nr)) {
		k->syscall_nr = -1;
		f->ax = (u64)host_syscall(nr, f->a[0], f->a[1], f->a[2], f->a[3], f->a[4], f->a[5]);
	} else {
		make_call(k, f, nr);
	}
	if (k->pending || k->has_saved_mask || kproc.exec_stop || shared_area()->ending || restarts((long)f->ax))
		return 0;
	k->syscall_nr = -1;
	flush_until_current(k);
	return 1;
}

static struct patch_frame *frame_of(struct kthread *k)
{
	return (struct patch_frame *)((u8 *)k + PF_AT);
}

/* At one of the stubs, or before patch_entered: the call has not begun. */
static void back_to_call(struct kthread *k, struct ucontext_host *uc)
{
	bool in_stub = uc->r.ip < (u64)patch_entry;
	u64 slot = in_stub ? (uc->r.ip - (u64)patch_stubs) / PATCH_STUB_BYTES : uc->r.cx;
	const struct patch_site *s = &store()->site[slot % PATCH_MAX_SITES];

	if (uc->r.ip >= (u64)patch_entry_saved)
		uc->r.sp = k->fast_sp;
	uc->r.ip = kproc.patch.base[s->block] + s->off;
}

static void registers_from_frame(struct kthread *k, struct ucontext_host *uc)
{
	const struct patch_frame *f = frame_of(k);

	uc->r.di = f->a[0];
	uc->r.si = f->a[1];
	uc->r.dx = f->a[2];
	uc->r.r10 = f->a[3];
	uc->r.r8 = f->a[4];
	uc->r.r9 = f->a[5];
	uc->r.ax = f->ax;
	uc->r.cx = uc->r.ip = f->cx;
	uc->r.r11 = uc->r.flags = f->flags;
	uc->r.sp = f->sp;
	if (k->pending & PEND_SIGNAL)
		uc->sigmask = k->fast_mask;
}

enum patch_place patch_leave(struct kthread *k, struct ucontext_host *uc)
{
	u64 ip = uc->r.ip;

	if (ip < (u64)patch_stubs || ip > (u64)patch_slow_here)
		return PATCH_ELSEWHERE;
	if (ip < (u64)patch_entered) {
		back_to_call(k, uc);
		return PATCH_GUEST;
	}
	if (ip == (u64)patch_exit_jump) {
		uc->r.ip = uc->r.cx;
		return PATCH_GUEST;
	}
	if (ip == (u64)patch_slow_here) {
		registers_from_frame(k, uc);
		return PATCH_SLOW;
	}
	if (ip >= (u64)patch_exit_window && ip < (u64)patch_exit_jump)
		return PATCH_WINDOW;
	return PATCH_ELSEWHERE;
}

void patch_exit_again(struct kthread *k, struct ucontext_host *uc)
{
	uc->r.ip = (u64)patch_exit_window;
	uc->r.sp = (u64)frame_of(k);
}

/* ---- addresses of this process's blocks ---- */

static u32 nblocks(void) { return __atomic_load_n(&store()->nblocks, __ATOMIC_ACQUIRE); }

/* The block that has addr, or -1. */
static int block_at(u64 addr)
{
	u32 i, n = nblocks();

	for (i = 0; i < n; i++)
		if (kproc.patch.base[i] && addr - kproc.patch.base[i] < PATCH_BLOCK_BYTES)
			return (int)i;
	return -1;
}

static const struct patch_site *site_by_cave(u32 block, u64 off)
{
	u32 i, n = __atomic_load_n(&store()->nsites, __ATOMIC_ACQUIRE);
	const struct patch_site *s = store()->site;

	for (i = 0; i < n; i++, s++)
		if (s->block == block && s->kind == PATCH_NEAR && s->cave == off)
			return s;
	return NULL;
}

void patch_leave_cave(struct ucontext_host *uc)
{
	int b = enabled() || kproc.patch.off ? block_at(uc->r.ip) : -1;
	const struct patch_site *s = b < 0 ? NULL : site_by_cave((u32)b, uc->r.ip - kproc.patch.base[b]);

	if (s)
		uc->r.ip = kproc.patch.base[b] + s->off;
}

bool patch_is_hlt(struct ucontext_host *uc)
{
	int b = block_at(uc->r.ip), i;
	u32 off;

	if (b < 0)
		return false;
	off = (u32)(uc->r.ip - kproc.patch.base[b]);
	i = patch_site_find((u32)b, off);
	if (i < 0 || store()->site[i].kind != PATCH_NEAR)
		i = patch_site_find((u32)b, off - (PATCH_FAR_LEN - CALL_INSN));
	else
		off = 0;
	if (i < 0 || (off && store()->site[i].kind != PATCH_FAR))
		return false;
	uc->r.flags &= ~EFLAGS_RF;
	uc->r.ip += CALL_INSN;
	uc->r.cx = uc->r.ip;
	uc->r.r11 = uc->r.flags;
	return true;
}

/* ---- the slots' addresses ---- */

static bool guest_wants_slots(void)
{
	struct vm_area_struct *v;
	bool wants;

	spin_lock(&kproc.mm->lock);
	v = find_vma(kproc.mm, PATCH_SLOTS);
	wants = v && vma_start(v) < PATCH_SLOTS + PATCH_SLOTS_BYTES;
	spin_unlock(&kproc.mm->lock);
	return wants;
}

static bool map_slots(void)
{
	pfn_t pfn = READ_ONCE(store()->slots);

	if (kproc.patch.slots_mapped)
		return true;
	if (!pfn || guest_wants_slots())
		return false;
	if (host_call(__NR_mmap, PATCH_SLOTS, PATCH_SLOTS_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_POPULATE, KERNEL_FD,
		      RAM_OFFSET + ((u64)pfn << PAGE_SHIFT)) < 0)
		return false;
	kproc.patch.slots_mapped = 1;
	return true;
}

bool patch_slot_fault(u64 addr)
{
	bool ok;

	if (addr - PATCH_SLOTS >= PATCH_SLOTS_BYTES || !enabled())
		return false;
	install_lock();
	kproc.patch.slots_mapped = 0;
	ok = map_slots();
	install_unlock();
	return ok;
}

static bool poke(struct ctx *c, void *arg)
{
	struct kthread *k = kthread();

	if (c != k->ctx && c->port_data[CTXP_SERIAL] == k->ctx->port_data[CTXP_SERIAL])
		host_call(__NR_tgkill, kproc.pid, c->port_data[CTXP_TID], SIG_PRIVATE);
	return true;
}

/*
 * Text of [start, end) is not mapped any more and may come back plain.  A thread that stands in a cave there faults, and waits for
 * the install lock that we hold; the signal is pending before it can go on, and puts it back (patch_leave_cave()).
 */
static void expel(u64 start, u64 end)
{
	u32 i, n = nblocks();

	if (READ_ONCE(kproc.nthreads) <= 1)
		return;
	for (i = 0; i < n; i++)
		if (kproc.patch.base[i] && kproc.patch.base[i] < end && start < kproc.patch.base[i] + PATCH_BLOCK_BYTES)
			break;
	if (i == n)
		return;
	spin_lock(&kproc.mm->lock);
	mm_for_each_ctx(kproc.mm, poke, NULL);
	spin_unlock(&kproc.mm->lock);
}

void patch_unmapped(u64 start, u64 end)
{
	if (start < PATCH_SLOTS + PATCH_SLOTS_BYTES && end > PATCH_SLOTS)
		kproc.patch.slots_mapped = 0;
}

void patch_flushed(u64 start, u64 end)
{
	u32 i, n;

	if (!enabled())
		return;
	if (start < PATCH_SLOTS + PATCH_SLOTS_BYTES && end > PATCH_SLOTS && guest_wants_slots()) {
		kproc.patch.off = 1;
		for (i = 0, n = nblocks(); i < n; i++)
			if (kproc.patch.base[i])
				host_tlb_drop_range(kproc.patch.base[i], kproc.patch.base[i] + PATCH_BLOCK_BYTES);
		host_call(__NR_munmap, PATCH_SLOTS, PATCH_SLOTS_BYTES);
		start = 0;
		end = GUEST_END;
	}
	expel(start, end);
}

/* Others on this address space (vfork) hear of it through the log of flushes. */
void patch_check_room(u64 at)
{
	struct mm_struct *mm = kproc.mm;

	if (!enabled() || at > PATCH_SLOTS + (1ull << 30) || !guest_wants_slots())
		return;
	spin_lock(&mm->lock);
	port_tlb_flush_range(mm, PATCH_SLOTS, PATCH_SLOTS + PATCH_SLOTS_BYTES);
	spin_unlock(&mm->lock);
	port_tlb_sync(mm);
}

void patch_exec(bool has_interp)
{
	if (!(shared_area()->options & OPT_PATCH))
		return;
	memset(&kproc.patch, 0, sizeof(kproc.patch));
	kproc.patch.own_only = !has_interp;
}

/* ---- mapping ---- */

/* Is the block still where it was? */
static bool still_at(const struct patch_block *b, u64 base)
{
	struct vm_area_struct *v;
	bool there;

	spin_lock(&kproc.mm->lock);
	v = find_vma(kproc.mm, base);
	there = v && vma_start(v) < base + PATCH_BLOCK_BYTES && (v->vm_flags & VM_EXEC) && v->vm_file &&
		v->vm_file->mapping->ino == b->ino && v->vm_file->mapping->dev == b->dev;
	spin_unlock(&kproc.mm->lock);
	return there;
}

/* May this process have block i at base? */
static bool claim(int i, u64 base)
{
	if (kproc.patch.base[i] == base)
		return true;
	if (kproc.patch.base[i] && still_at(&store()->block[i], kproc.patch.base[i]))
		return false;
	if (!map_slots())
		return false;
	kproc.patch.base[i] = base;
	return true;
}

/* A program without an interpreter that maps other files' text translates it: it reads it, and must find what the file holds. */
static bool is_run_here(const struct file *f)
{
	return !kproc.patch.own_only || (kproc.mm->exe_file && f->mapping == kproc.mm->exe_file->mapping);
}

static bool is_private_text(u64 addr)
{
	struct vm_area_struct *v;
	bool ok;

	spin_lock(&kproc.mm->lock);
	v = vma_lookup(kproc.mm, addr);
	ok = v && v->vm_file && !(v->vm_flags & (VM_SHARED | VM_WRITE)) && (v->vm_flags & VM_EXEC) && is_run_here(v->vm_file);
	spin_unlock(&kproc.mm->lock);
	return ok;
}

/* The first piece of what is left of r: up to the end of a block, or up to where one begins. */
static struct run first_piece(const struct run *r)
{
	u64 index = r->off / PATCH_BLOCK_BYTES, in = r->off % PATCH_BLOCK_BYTES, room = PATCH_BLOCK_BYTES - in;
	int i = patch_block_find(r->dev, r->ino, index);
	struct run p = *r;

	p.end = MIN(r->end, r->start + room);
	if (i >= 0 && in < (u64)store()->block[i].pages << PAGE_SHIFT && claim(i, r->start - in)) {
		p.end = MIN(p.end, r->start - in + ((u64)store()->block[i].pages << PAGE_SHIFT));
		p.kind = RUN_RAM;
		p.pfn = store()->block[i].pfn + (pfn_t)(in >> PAGE_SHIFT);
	}
	return p;
}

long patch_map(const struct run *r, long (*plain)(const struct run *))
{
	struct run left = *r, p;
	long ret = 0;

	if (!enabled() || !nblocks() || (r->prot & PROT_WRITE) || !is_private_text(r->start))
		return plain(r);
	for (; left.start < left.end && ret >= 0; left.off += p.end - p.start, left.start = p.end) {
		p = first_piece(&left);
		/* Plain pieces that follow each other are one. */
		while (p.kind == RUN_FILE && p.end < left.end) {
			struct run next = left;

			next.off += p.end - p.start;
			next.start = p.end;
			next = first_piece(&next);
			if (next.kind != RUN_FILE)
				break;
			p.end = next.end;
		}
		ret = plain(&p);
	}
	return ret;
}

/* ---- making ---- */

struct text {
	struct file *f; /* counted */
	u64 off;        /* byte of the file where the `syscall` stands */
	u64 base;       /* where the block's first byte lies, or would lie */
};

static bool find_text(u64 addr, struct text *t)
{
	struct mm_struct *mm = kproc.mm;
	struct vm_area_struct *v;
	bool ok;

	spin_lock(&mm->lock);
	v = vma_lookup(mm, addr);
	ok = v && v->vm_file && !(v->vm_flags & (VM_SHARED | VM_WRITE)) && (v->vm_flags & VM_EXEC) &&
	     (v->vm_file->mapping->flags & AS_TOKEN) && is_run_here(v->vm_file);
	if (ok) {
		t->f = v->vm_file;
		file_get(t->f);
		t->off = addr - vma_start(v) + (v->vm_pgoff << PAGE_SHIFT);
		t->base = addr - t->off % PATCH_BLOCK_BYTES;
	}
	spin_unlock(&mm->lock);
	return ok;
}

static u8 *block_bytes(const struct patch_block *b)
{
	return port_frame_address(kthread()->ctx->q, b->pfn);
}

/* Is p[0..] = b8 nr 00 00 0f 05, with a number that may be served without a trap? */
static bool is_far(const u8 *p, u32 *nr)
{
	if (p[0] != 0xb8 || p[3] || p[4] || p[5] != 0x0f || p[6] != 0x05)
		return false;
	*nr = p[1] | (u32)p[2] << 8;
	return *nr < NATIVE_MAX && !needs_trap(*nr) && !native_is_untrapped(*nr) && native_lookup(*nr);
}

/* Under no lock, in a block that nobody maps yet. */
static long write_far_sites(struct patch_elf *e, u32 index, const struct patch_block *b)
{
	u64 first = b->index * PATCH_BLOCK_BYTES, start, end, next;
	u8 *bytes = block_bytes(b);
	u32 off, nr, n = 0;

	for (off = 1; off + PATCH_FAR_LEN <= b->pages << PAGE_SHIFT; off++) {
		/* A REX prefix before it would make it another instruction; one that crosses pages may be half mapped. */
		if (!is_far(bytes + off, &nr) || (bytes[off - 1] & 0xf0) == 0x40 || (off & (PAGE_SIZE - 1)) > PAGE_SIZE - PATCH_FAR_LEN)
			continue;
		if (!patch_function_at(e, first + off, &start, &end, &next) || first + off + PATCH_FAR_LEN > end)
			continue;
		if (patch_far_add(&(struct patch_site){ .block = index, .off = off, .nr = (s32)nr, .kind = PATCH_FAR }, bytes) < 0)
			break;
		n++;
	}
	return n;
}

static bool file_identity(const struct file *f, struct patch_block *b)
{
	struct stat st;

	if (host_call(__NR_stat, f->path, &st) < 0 || st.st_dev != b->dev || st.st_ino != b->ino)
		return false;
	b->size = (u64)st.st_size;
	b->mtime_sec = (u64)st.st_mtime;
	b->mtime_nsec = (u64)st.st_mtime_nsec;
	return true;
}

static bool slots_ready(struct quire *q)
{
	u32 order = 0, i;
	u64 *slot;
	pfn_t pfn;

	if (READ_ONCE(store()->slots))
		return true;
	while ((PAGE_SIZE << order) < PATCH_SLOTS_BYTES)
		order++;
	pfn = patch_slots_alloc(q, order);
	if (!pfn)
		return false;
	slot = port_frame_address(q, pfn);
	for (i = 0; i < PATCH_MAX_SITES; i++)
		slot[i] = (u64)patch_stubs + (u64)i * PATCH_STUB_BYTES;
	patch_slots_publish();
	return true;
}

static bool room_for_blocks(u32 n)
{
	return (u64)n * PATCH_BLOCK_BYTES <= shared_area()->ram_bytes / RAM_SHARE && n <= PATCH_MAX_BLOCKS;
}

static int make_block(const struct text *t, struct patch_elf *e)
{
	struct address_space *m = t->f->mapping;
	struct patch_block b = { .dev = m->dev, .ino = m->ino, .index = t->off / PATCH_BLOCK_BYTES };
	struct quire *q = kthread()->ctx->q;
	long n;
	int i;

	if (!room_for_blocks(nblocks() + 1) || !file_identity(t->f, &b))
		return -1;
	if (!slots_ready(q))
		return -ENOMEM;
	i = patch_block_add(q, &b);
	if (i < 0)
		return i;
	n = m->ops->copy_out(m, b.index * PATCH_BLOCK_BYTES, block_bytes(&b),
			     MIN(PATCH_BLOCK_BYTES, PAGE_ALIGN(b.size) - b.index * PATCH_BLOCK_BYTES));
	b.pages = n > 0 ? (u32)(PAGE_ALIGN((u64)n) >> PAGE_SHIFT) : 0;
	n = write_far_sites(e, (u32)i, &b);
	patch_block_publish((u32)i, b.pages);
	if (shared_area()->options & OPT_VERBOSE)
		klog("%s: %ld system calls rewritten in a copy of the text from byte %lu on", t->f->path, n,
		     (unsigned long)(b.index * PATCH_BLOCK_BYTES));
	return i;
}

/* ---- caves ---- */

/* Length of the no-op at p, within n bytes; 0 = it is none.  (Intel SDM 2B, NOP; what assemblers pad with.) */
static u32 nop_length(const u8 *p, u64 n)
{
	u64 i = 0;
	u32 rest;

	if (p[0] == 0xcc)
		return 1;
	while (i < n && i < 10 && p[i] == 0x66)
		i++;
	if (i < n && p[i] == 0x90)
		return (u32)i + 1;
	if (i && i < n && p[i] == 0x2e)
		i++;
	if (i + 3 > n || p[i] != 0x0f || p[i + 1] != 0x1f)
		return 0;
	rest = p[i + 2] == 0x00 ? 0 : p[i + 2] == 0x40 ? 1 : p[i + 2] == 0x44 ? 2 : p[i + 2] == 0x80 ? 4 : p[i + 2] == 0x84 ? 5 : ~0u;
	return rest == ~0u || i + 3 + rest > n ? 0 : (u32)i + 3 + rest;
}

static bool is_jump_to_slot(const u8 *p)
{
	return p[0] == 0xff && p[1] == 0x24 && p[2] == 0x25 && p[5] == 0xf4 && p[6] == 0x3f;
}

static bool reachable(u32 site, u32 cave)
{
	s32 d = (s32)cave - (s32)site - (s32)PATCH_NEAR_LEN;

	return d >= -128 && d <= 127 && site >> PAGE_SHIFT == cave >> PAGE_SHIFT &&
	       cave >> PAGE_SHIFT == (cave + PATCH_FAR_LEN - 1) >> PAGE_SHIFT;
}

/* Seven free bytes of padding in [from, to) that the site reaches: their offset, or -1.  All of the rest must be padding. */
static s64 cave_in(const u8 *bytes, u32 site, u64 from, u64 to)
{
	u64 p = from, q;
	u32 n;

	while (to - p >= PATCH_FAR_LEN && to >= p && is_jump_to_slot(bytes + p))
		p += PATCH_FAR_LEN;
	if (p + PATCH_FAR_LEN > to)
		return -1;
	for (q = p; q < to; q += n) {
		n = nop_length(bytes + q, to - q);
		if (!n)
			return -1;
	}
	if (reachable(site, (u32)p))
		return (s64)p;
	p = to - PATCH_FAR_LEN;
	return reachable(site, (u32)p) ? (s64)p : -1;
}

#define FUNCTIONS_AROUND 3
static s64 find_cave(struct patch_elf *e, const struct patch_block *b, u32 site)
{
	u64 first = b->index * PATCH_BLOCK_BYTES, limit = first + ((u64)b->pages << PAGE_SHIFT), at = first + site;
	u64 start, end, next, up = at;
	s64 cave;
	int i;

	for (i = 0; i < FUNCTIONS_AROUND; i++, up = next) {
		if (!patch_function_at(e, up, &start, &end, &next))
			break;
		if (!i)
			at = start;
		cave = end >= first && next <= limit ? cave_in(block_bytes(b), site, end - first, next - first) : -1;
		if (cave >= 0)
			return cave;
	}
	for (i = 0; i < FUNCTIONS_AROUND && at > first; i++, at = start) {
		/* The one before: its last byte lies behind at most 16 bytes of padding or 64. */
		u64 back = at - 1;

		while (at - back < 64 && !patch_function_at(e, back, &start, &end, &next))
			back--;
		if (at - back >= 64 || next != at || start < first)
			return -1;
		cave = cave_in(block_bytes(b), site, end - first, next - first);
		if (cave >= 0)
			return cave;
	}
	return -1;
}

/*
 * In text that any process of the machine may be executing.  The barrier interrupts every CPU that runs one, so nobody puts a
 * new byte behind an old one.  (As the kernel's own text_poke(), with hlt for int3: a debugger may want those.)
 */
static void write_near(volatile u8 *site, u8 distance)
{
	site[0] = 0xf4;
	host_call(__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
	site[1] = distance;
	host_call(__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
	site[0] = 0xeb;
}

static bool make_near(struct patch_elf *e, u32 index, u32 off)
{
	const struct patch_block *b = &store()->block[index];
	u8 *bytes = block_bytes(b);
	struct patch_site s = { .block = index, .off = off, .nr = -1, .kind = PATCH_NEAR };
	s64 cave;

	if (off >> PAGE_SHIFT >= b->pages || bytes[off] != 0x0f || bytes[off + 1] != 0x05)
		return false;
	cave = find_cave(e, b, off);
	if (cave < 0)
		return false;
	s.cave = (u32)cave;
	if (patch_near_add(&s, bytes) < 0)
		return false;
	write_near(bytes + off, (u8)(s.cave - off - PATCH_NEAR_LEN));
	return true;
}

static void use_block(int i, u64 base)
{
	install_lock();
	if (!kproc.patch.base[i])
		host_tlb_drop_range(base, base + PATCH_BLOCK_BYTES);
	install_unlock();
}

/* 0; -ENOMEM: there is no memory for it now; -1: there is no point in trying again. */
static int try_site(u64 ip, bool make)
{
	struct patch_elf e;
	struct text t;
	bool ok = true;
	u32 off;
	int i;

	if (!find_text(ip - CALL_INSN, &t))
		return -1;
	off = (u32)(t.off % PATCH_BLOCK_BYTES);
	i = patch_block_find(t.f->mapping->dev, t.f->mapping->ino, t.off / PATCH_BLOCK_BYTES);
	if (i >= 0 || make)
		ok = patch_elf_open(&e, t.f, t.off);
	if (i < 0 && make && ok)
		i = make_block(&t, &e);
	if (i >= 0 && ok) {
		if (patch_site_find((u32)i, off) < 0 && (off < 5 || patch_site_find((u32)i, off - 5) < 0))
			ok = make_near(&e, (u32)i, off);
		use_block(i, t.base);
	}
	file_put(t.f);
	if (!ok || (make && i < 0 && i != -ENOMEM))
		return -1;
	return make && i < 0 ? i : 0;
}

/* Counts the trap for the block that the call would be in.  Is it time to make that?  Most programs are short, and start with the same
 * calls in the same libraries: so the machine counts, not each process. */
static bool block_is_due(u64 ip)
{
	struct mm_struct *mm = kproc.mm;
	struct patch_tally *t;
	struct vm_area_struct *v;
	u64 key = 0, index = 0, dev = 0, ino = 0;

	spin_lock(&mm->lock);
	v = vma_lookup(mm, ip - CALL_INSN);
	if (v && v->vm_file && !(v->vm_flags & (VM_SHARED | VM_WRITE)) && (v->vm_file->mapping->flags & AS_TOKEN)) {
		dev = v->vm_file->mapping->dev;
		ino = v->vm_file->mapping->ino;
		index = (ip - CALL_INSN - vma_start(v) + (v->vm_pgoff << PAGE_SHIFT)) / PATCH_BLOCK_BYTES;
		key = ((dev * 0x9e3779b97f4a7c15ull + ino) * 0x9e3779b97f4a7c15ull + index) * 0x9e3779b97f4a7c15ull | 1;
	}
	spin_unlock(&mm->lock);
	if (!key || patch_block_find(dev, ino, index) >= 0)
		return false;
	t = &store()->tally[(key >> 32) % PATCH_TALLIES];
	if (READ_ONCE(t->key) != key) {
		WRITE_ONCE(t->key, key);
		WRITE_ONCE(t->hits, 0);
	}
	return __atomic_add_fetch(&t->hits, 1, __ATOMIC_RELAXED) % HITS_MAKE == 0;
}

void patch_consider(u64 ip, long nr)
{
	u32 at = (u32)(ip * 0x9e3779b97f4a7c15ull >> 57) % PATCH_HOT, hits;
	bool due;
	int err;

	if (!enabled() || !kproc.mm || needs_trap(nr))
		return;
	if (kproc.newborn) {
		kproc.newborn--;
		return;
	}
	if (kproc.patch.hot[at].ip != ip) {
		kproc.patch.hot[at].ip = ip;
		kproc.patch.hot[at].hits = 0;
	}
	if (kproc.patch.hot[at].hits == HITS_NEVER)
		return;
	hits = ++kproc.patch.hot[at].hits;
	due = hits <= HITS_MAKE && block_is_due(ip);
	if (!due && hits != HITS_LOOK && hits != HITS_LOOK_AGAIN && hits != HITS_MAKE)
		return;
	err = try_site(ip, due);
	if (err)
		kproc.patch.hot[at].hits = err == -ENOMEM ? HITS_LOOK : HITS_NEVER;
}
