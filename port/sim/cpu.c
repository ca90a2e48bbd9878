/*
 * A simulated CPU: accesses by virtual address, and the exceptions they raise.
 *
 *	sim_load ... -> try_access -> micro-TLB hit: done
 *	                           -> translate: TLB, walker; fills both
 *	                           -> a fault: vector table -> el0_sync / el1_sync -> el0_da, el0_ia, el1_abort
 *	                              -> do_mem_abort(mm, far, esr) -> try again, or give up with a signal
 *
 * cpu->lock is held from the look-up to the end of the access, so a flush that has returned finds no access in flight
 * (the DSB after a TLBI), and a walk cannot put a translation back that was flushed meanwhile.  It is free of contention
 * unless somebody flushes.  It is never held during an exception.
 *
 * The micro-TLB holds translations for the CPU's present EL and address space only; any flush or switch empties it
 * by changing its generation, so it hides no missing flush: the main TLB below does not forget.
 *
 * When a TLB entry does not permit an access, the entry is dropped and the tables are walked again before a fault is
 * raised: ports do that for the core, which flushes only when it clears or restricts.
 */
#include "mmu_internal.h"

#define MAX_TRIES 10000 /* faults in a row without progress before we call it a bug */
#define EC_PC_ALIGNMENT 0x22u
#define UGEN_MAX 4095u

/* One attempt: what is wanted, and what stood in the way. */
struct attempt {
	u64 va;
	enum sim_access type;
	bool unpriv;       /* LDTR, STTR: EL0's permissions at EL1 */
	bool rmw;          /* an atomic: needs reading and writing */
	bool cm;           /* cache maintenance */
	u32 fsc;
	bool read_allowed; /* permission fault of an atomic: would a load have worked? */
	bool filled;       /* the TLB got a new entry */
	bool replaced;     /* ... in place of one that named another frame: */
	u64 replaced_pa;
};

struct sim_cpu *sim_cpu_get(struct quire *q, unsigned n)
{
	return &sim_of(q)->cpus[n];
}

void sim_utlb_forget(struct sim_cpu *cpu)
{
	if (++cpu->ugen > UGEN_MAX) {
		memset(cpu->utlb, 0, sizeof(cpu->utlb));
		cpu->ugen = 1;
	}
}

void sim_cpu_set_el(struct sim_cpu *cpu, unsigned el)
{
	sim_lock(&cpu->lock);
	cpu->el = el;
	sim_utlb_forget(cpu);
	sim_unlock(&cpu->lock);
}

void sim_set_abort_handler(struct quire *q, sim_abort_fn fn)
{
	sim_of(q)->abort_handler = fn;
}

/* ---- translation ---- */

static bool user_half(u64 va)
{
	return !(va >> 48);
}

static u8 wanted_perm(const struct sim_cpu *cpu, const struct attempt *a)
{
	bool user = !cpu->el || a->unpriv;

	if (a->type == SIM_EXEC)
		return user ? SIM_PERM_UX : SIM_PERM_KX;
	if (a->rmw)
		return user ? SIM_PERM_UR | SIM_PERM_UW : SIM_PERM_KR | SIM_PERM_KW;
	if (a->type == SIM_WRITE)
		return user ? SIM_PERM_UW : SIM_PERM_KW;
	return user ? SIM_PERM_UR : SIM_PERM_KR;
}

static bool permitted(const struct sim_cpu *cpu, const struct attempt *a, u8 perms)
{
	u8 want = wanted_perm(cpu, a);

	if (cpu->el && !a->unpriv && a->type != SIM_EXEC && (perms & SIM_PERM_USER) && sim_of(cpu->q)->cfg.pan)
		return false;
	return (perms & want) == want;
}

/* Roots of the tables: the core may set them while a CPU walks. */
SIM_RACY static u64 racy_root(const u64 *root)
{
	return *(const volatile u64 *)root;
}

static u64 table_of(struct sim_cpu *cpu, u64 va)
{
	u64 set;

	if (user_half(va))
		return cpu->mm ? racy_root(&cpu->mm->pgd) : 0;
	set = __atomic_load_n(&sim_of(cpu->q)->kernel_table, __ATOMIC_ACQUIRE);
	return set ? set : racy_root(&cpu->q->kmem.kernel_pgd);
}

/* Walks until the descriptor grants the access, setting AF and dirty state where hardware does that.  Sets a->fsc. */
static void walk_for(struct sim_cpu *cpu, struct attempt *a, u64 va, struct sim_walk *w)
{
	struct sim_machine *m = sim_of(cpu->q);
	u64 table = table_of(cpu, va);
	bool granted, dirties;

	for (;;) {
		__atomic_add_fetch(&m->stats.walks, 1, __ATOMIC_RELAXED);
		a->fsc = FSC_TRANSLATION; /* level 0: a disabled TTBR */
		if (!table)
			return;
		sim_walk_table(cpu->q, table, va, w);
		a->fsc = w->fsc;
		if (w->fsc != SIM_FSC_NONE && !(m->cfg.hw_af && (w->fsc & ~3u) == FSC_ACCESS))
			return;
		granted = permitted(cpu, a, w->perms);
		dirties = !granted && (a->type == SIM_WRITE || a->rmw) && m->cfg.hw_dbm && w->writable_clean &&
			  permitted(cpu, a, w->perms | SIM_PERM_KW | (w->perms & SIM_PERM_USER ? SIM_PERM_UW : 0));
		if (!granted && !dirties) {
			a->fsc = FSC_PERMISSION + w->level;
			a->read_allowed = w->perms & (!cpu->el || a->unpriv ? SIM_PERM_UR : SIM_PERM_KR);
			return;
		}
		if (w->fsc == SIM_FSC_NONE && !dirties) {
			a->fsc = SIM_FSC_NONE;
			return;
		}
		/* Whether it worked or somebody else was faster: the next walk sees. */
		sim_update_desc(m, w, dirties);
	}
}

static struct sim_tlb_entry entry_from(struct sim_cpu *cpu, u16 asid, u64 va, const struct sim_walk *w)
{
	return (struct sim_tlb_entry){
		.va = ALIGN_DOWN(va, 1ull << w->shift),
		.pa = w->pa,
		.mm_uid = user_half(va) ? cpu->mm_uid : 0,
		.asid = asid,
		.shift = w->shift,
		.perms = w->perms,
		.valid = true,
		.global = w->global,
	};
}

/* Law 1 on this very TLB: an entry that only lacked a permission must come back with the same frame, unless a flush is
 * pending for it, which sim_check_replaced() finds out when our locks are free. */
static void note_replaced(struct attempt *a, const struct sim_tlb_entry *old, const struct sim_tlb_entry *new, u64 va)
{
	a->replaced = old->valid && user_half(va) && old->mm_uid == new->mm_uid &&
		      old->pa + (va - old->va) != new->pa + (va - new->va);
	a->replaced_pa = old->pa + (va - old->va);
}

/* The physical address of va for this attempt, or a->fsc set.  Under cpu->lock and the lock of t. */
static u64 look_up(struct sim_cpu *cpu, struct sim_tlb *t, u16 asid, struct attempt *a, u64 va)
{
	struct sim_machine *m = sim_of(cpu->q);
	struct sim_tlb_entry *e = sim_tlb_find(t, va, asid), old = { 0 }, new;
	struct sim_walk w;

	if (e && permitted(cpu, a, e->perms))
		return e->pa + (va - e->va);
	if (e) {
		old = *e;
		sim_tlb_drop(t, e);
	}
	__atomic_add_fetch(&m->stats.tlb_misses, 1, __ATOMIC_RELAXED);
	walk_for(cpu, a, va, &w);
	if (a->fsc != SIM_FSC_NONE)
		return 0;
	new = entry_from(cpu, asid, va, &w);
	sim_tlb_insert(t, &new);
	a->filled = user_half(va);
	note_replaced(a, &old, &new, va);
	return new.pa + (va - new.va);
}

static u64 look_up_half(struct sim_cpu *cpu, struct attempt *a, u64 va)
{
	struct sim_mm *s = user_half(va) && cpu->mm ? sim_mm_of(cpu->mm) : NULL;
	u64 pa;

	if (!s || !s->tlb)
		return look_up(cpu, cpu->tlb, cpu->asid, a, va);
	/* Hosted: one TLB for all CPUs of the mm; it serves one address space, so ASIDs play no part. */
	sim_lock(&s->tlb_lock);
	pa = look_up(cpu, s->tlb, 0, a, va);
	sim_unlock(&s->tlb_lock);
	return pa;
}

/* TBI0 ignores the top byte of addresses whose bit 55 is clear. */
static u64 untag(const struct sim_cpu *cpu, u64 va)
{
	return sim_of(cpu->q)->cfg.tbi0 && !(va & BIT(55)) ? va & (BIT(56) - 1) : va;
}

/* Host address of va, or NULL and a->fsc.  Under cpu->lock. */
static u8 *translate(struct sim_cpu *cpu, struct attempt *a)
{
	struct sim_machine *m = sim_of(cpu->q);
	u64 va = untag(cpu, a->va), pa;
	u8 *host;

	a->fsc = SIM_FSC_NONE;
	if (!user_half(va) && va >> 48 != 0xffff) {
		a->fsc = FSC_TRANSLATION;
		return NULL;
	}
	pa = look_up_half(cpu, a, va);
	if (a->fsc == SIM_FSC_NONE && pa >= m->ram_bytes)
		a->fsc = FSC_EXTERNAL;
	if (a->fsc != SIM_FSC_NONE)
		return NULL;
	host = m->cfg.host_files && m->token_bytes ? m->token_bytes(m, pa) : NULL;
	if (!host)
		host = m->ram + pa;
	if (!a->unpriv && !a->rmw) {
		struct sim_utlb_entry *u = &cpu->utlb[a->type][(a->va >> PAGE_SHIFT) % SIM_UTLB_SLOTS];

		u->key = (a->va & PAGE_MASK) | cpu->ugen;
		u->host = host - (pa & ~PAGE_MASK);
	}
	return host;
}

/* ---- exceptions ---- */

typedef int (*vector_fn)(struct sim_cpu *cpu);

static int do_abort(struct sim_cpu *cpu)
{
	struct sim_machine *m = sim_of(cpu->q);

	cpu->result = FAULT_SIGNAL;
	if (!m->abort_handler)
		return -EFAULT;
	sim_preempt();
	cpu->result = m->abort_handler(cpu->mm, cpu->far, cpu->esr, &cpu->info);
	if (cpu->result == FAULT_OK)
		return 0;
	return cpu->result == FAULT_KILLED ? -EINTR : -EFAULT;
}

/* Linux: el0_pc -> do_sp_pc_abort: SIGBUS, BUS_ADRALN. */
static int do_sp_pc_abort(struct sim_cpu *cpu)
{
	cpu->result = FAULT_SIGNAL;
	cpu->info = (struct fault_info){ .sig = 7, .code = 1, .addr = cpu->far };
	return -EFAULT;
}

static int bad_mode(struct sim_cpu *cpu)
{
	port_panic(cpu->q, "sim: unexpected exception class");
}

/* Dispatch by exception class, as el0t_64_sync_handler and el1h_64_sync_handler do. */
static int el0_sync(struct sim_cpu *cpu)
{
	switch (cpu->esr >> ESR_EC_SHIFT) {
	case ESR_EC_DABT_LOW: /* el0_da */
	case ESR_EC_IABT_LOW: /* el0_ia */
		return do_abort(cpu);
	case EC_PC_ALIGNMENT:
		return do_sp_pc_abort(cpu);
	}
	return bad_mode(cpu);
}

static int el1_sync(struct sim_cpu *cpu)
{
	switch (cpu->esr >> ESR_EC_SHIFT) {
	case ESR_EC_DABT_CUR:
	case ESR_EC_IABT_CUR: /* el1_abort */
		return do_abort(cpu);
	}
	return bad_mode(cpu);
}

/* VBAR_EL1: 16 vectors of 0x80 bytes; four kinds (sync, IRQ, FIQ, SError) for EL1t, EL1h, EL0 64-bit and EL0 32-bit. */
static const vector_fn vectors[16] = {
	bad_mode, bad_mode, bad_mode, bad_mode,
	el1_sync, bad_mode, bad_mode, bad_mode,
	el0_sync, bad_mode, bad_mode, bad_mode,
	bad_mode, bad_mode, bad_mode, bad_mode,
};

static int take_exception(struct sim_cpu *cpu, u64 far, u32 esr)
{
	cpu->far = far;
	cpu->esr = esr;
	cpu->vector = cpu->el ? 0x200 : 0x400;
	cpu->nr_exceptions++;
	cpu->info = (struct fault_info){ 0 };
	__atomic_add_fetch(&sim_of(cpu->q)->stats.exceptions, 1, __ATOMIC_RELAXED);
	port_ctx()->mm = cpu->mm;
	return vectors[cpu->vector >> 7](cpu);
}

/* WnR of an atomic tells whether a load would have passed (ARM DDI 0487, ISS encoding for Data Abort, WnR). */
static bool reported_as_write(const struct attempt *a)
{
	if (a->rmw)
		return (a->fsc & ~3u) == FSC_PERMISSION && a->read_allowed;
	return a->type == SIM_WRITE || a->cm;
}

static int abort_exception(struct sim_cpu *cpu, const struct attempt *a)
{
	u32 ec, esr;

	if (a->type == SIM_EXEC)
		ec = cpu->el ? ESR_EC_IABT_CUR : ESR_EC_IABT_LOW;
	else
		ec = cpu->el ? ESR_EC_DABT_CUR : ESR_EC_DABT_LOW;
	esr = esr_make(ec, a->type != SIM_EXEC && reported_as_write(a), a->fsc);
	return take_exception(cpu, a->va, esr | (a->cm ? (u32)ESR_CM : 0));
}

/* ---- accesses ---- */

/* The guests' own races are theirs, and the core may copy what a guest is writing: not for the thread sanitizer. */
SIM_RACY static u64 guest_read(const u8 *p, unsigned size)
{
	u64 v = 0;

	switch (size) {
	case 1: return __atomic_load_n(p, __ATOMIC_RELAXED);
	case 2: return __atomic_load_n((const u16 *)(const void *)p, __ATOMIC_RELAXED);
	case 4: return __atomic_load_n((const u32 *)(const void *)p, __ATOMIC_RELAXED);
	case 8: return __atomic_load_n((const u64 *)(const void *)p, __ATOMIC_RELAXED);
	}
	return v;
}

SIM_RACY static void guest_write(u8 *p, unsigned size, u64 v)
{
	switch (size) {
	case 1: __atomic_store_n(p, (u8)v, __ATOMIC_RELAXED); break;
	case 2: __atomic_store_n((u16 *)(void *)p, (u16)v, __ATOMIC_RELAXED); break;
	case 4: __atomic_store_n((u32 *)(void *)p, (u32)v, __ATOMIC_RELAXED); break;
	case 8: __atomic_store_n((u64 *)(void *)p, v, __ATOMIC_RELAXED); break;
	}
}

SIM_RACY static u64 guest_add(u8 *p, unsigned size, u64 v)
{
	switch (size) {
	case 1: return __atomic_fetch_add(p, (u8)v, __ATOMIC_SEQ_CST);
	case 2: return __atomic_fetch_add((u16 *)(void *)p, (u16)v, __ATOMIC_SEQ_CST);
	case 4: return __atomic_fetch_add((u32 *)(void *)p, (u32)v, __ATOMIC_SEQ_CST);
	default: return __atomic_fetch_add((u64 *)(void *)p, v, __ATOMIC_SEQ_CST);
	}
}

/* The access itself, on one page and naturally aligned.  val: in for writes, out for reads. */
static void perform(const struct attempt *a, u8 *host, unsigned size, u64 *val)
{
	if (a->rmw)
		*val = guest_add(host, size, *val);
	else if (a->cm)
		return;
	else if (a->type == SIM_WRITE)
		guest_write(host, size, *val);
	else
		*val = guest_read(host, size);
}

/* 0, or the result of an exception that could not be resolved. */
static int access_aligned(struct sim_cpu *cpu, struct attempt *a, unsigned size, u64 *val)
{
	struct sim_machine *m = sim_of(cpu->q);
	unsigned tries;
	u8 *host;
	int err;

	for (tries = 0; tries < MAX_TRIES; tries++) {
		struct sim_mm *s;
		u64 seq;

		s = cpu->mm ? sim_mm_of(cpu->mm) : NULL;
		seq = s ? __atomic_load_n(&s->flush_seq, __ATOMIC_SEQ_CST) : 0;
		sim_lock(&cpu->lock);
		a->filled = a->replaced = false;
		host = translate(cpu, a);
		if (host)
			perform(a, host, size, val);
		sim_unlock(&cpu->lock);
		if (m->cfg.check_law1 && __atomic_load_n(&m->stats.cont_bad, __ATOMIC_RELAXED))
			port_panic(cpu->q, "sim: contiguous set disagrees; see the log");
		if (a->filled && s)
			sim_check_law1(cpu, s, untag(cpu, a->va));
		if (a->replaced && s)
			sim_check_replaced(s, untag(cpu, a->va), a->replaced_pa, seq);
		if (host)
			return 0;
		err = abort_exception(cpu, a);
		if (err)
			return err;
	}
	port_panic(cpu->q, "sim: a fault is resolved again and again, and the access still faults");
}

/* Unaligned: byte by byte, as a CPU may; then the fault's FAR is the first byte on the page that faults. */
static int access_slow(struct sim_cpu *cpu, struct attempt *a, unsigned size, u64 *val)
{
	u64 va = a->va, out = 0;
	unsigned i;
	int err;

	if (!(va & (size - 1)))
		return access_aligned(cpu, a, size, val);
	if (sim_of(cpu->q)->cfg.align_check || a->rmw) {
		a->fsc = FSC_ALIGNMENT;
		err = abort_exception(cpu, a);
		return err ? err : -EFAULT;
	}
	for (i = 0; i < size; i++) {
		u64 byte = *val >> (8 * i);

		a->va = va + i;
		err = access_aligned(cpu, a, 1, &byte);
		if (err)
			return err;
		out |= (byte & 0xff) << (8 * i);
	}
	if (a->type != SIM_WRITE)
		*val = out;
	return 0;
}

/* The host address if the micro-TLB has the page.  Under cpu->lock. */
static inline u8 *utlb_hit(const struct sim_cpu *cpu, enum sim_access type, u64 va)
{
	const struct sim_utlb_entry *u = &cpu->utlb[type][(va >> PAGE_SHIFT) % SIM_UTLB_SLOTS];

	return likely(u->key == ((va & PAGE_MASK) | cpu->ugen)) ? u->host + (va & ~PAGE_MASK) : NULL;
}

/* Out of line, so that the fast paths below stay short. */
static __attribute__((noinline)) int load_slow(struct sim_cpu *cpu, u64 va, unsigned size, u64 *val)
{
	struct attempt a = { .va = va, .type = SIM_READ };

	return access_slow(cpu, &a, size, val);
}

static __attribute__((noinline)) int store_slow(struct sim_cpu *cpu, u64 va, unsigned size, u64 val)
{
	struct attempt a = { .va = va, .type = SIM_WRITE };

	return access_slow(cpu, &a, size, &val);
}

int sim_load(struct sim_cpu *cpu, u64 va, unsigned size, u64 *val)
{
	u8 *host;

	if (unlikely(va & (size - 1)))
		return load_slow(cpu, va, size, val);
	sim_lock(&cpu->lock);
	host = utlb_hit(cpu, SIM_READ, va);
	if (likely(host != NULL)) {
		*val = likely(size == 8) ? guest_read(host, 8) : guest_read(host, size);
		sim_unlock(&cpu->lock);
		return 0;
	}
	sim_unlock(&cpu->lock);
	return load_slow(cpu, va, size, val);
}

int sim_store(struct sim_cpu *cpu, u64 va, unsigned size, u64 val)
{
	u8 *host;

	if (unlikely(va & (size - 1)))
		return store_slow(cpu, va, size, val);
	sim_lock(&cpu->lock);
	host = utlb_hit(cpu, SIM_WRITE, va);
	if (likely(host != NULL)) {
		if (likely(size == 8))
			guest_write(host, 8, val);
		else
			guest_write(host, size, val);
		sim_unlock(&cpu->lock);
		return 0;
	}
	sim_unlock(&cpu->lock);
	return store_slow(cpu, va, size, val);
}

int sim_fetch(struct sim_cpu *cpu, u64 va, u32 *insn)
{
	struct attempt a = { .va = va, .type = SIM_EXEC };
	u64 v = 0;
	int err;

	if (va & 3)
		return take_exception(cpu, va, esr_make(EC_PC_ALIGNMENT, false, 0));
	err = access_aligned(cpu, &a, 4, &v);
	*insn = (u32)v;
	return err;
}

int sim_fetch_add(struct sim_cpu *cpu, u64 va, unsigned size, u64 add, u64 *old)
{
	struct attempt a = { .va = va, .type = SIM_WRITE, .rmw = true };

	*old = add;
	return access_slow(cpu, &a, size, old);
}

int sim_load_unpriv(struct sim_cpu *cpu, u64 va, unsigned size, u64 *val)
{
	struct attempt a = { .va = va, .type = SIM_READ, .unpriv = true };

	return access_slow(cpu, &a, size, val);
}

int sim_store_unpriv(struct sim_cpu *cpu, u64 va, unsigned size, u64 val)
{
	struct attempt a = { .va = va, .type = SIM_WRITE, .unpriv = true };

	return access_slow(cpu, &a, size, &val);
}

int sim_cache_op(struct sim_cpu *cpu, u64 va)
{
	struct attempt a = { .va = va, .type = SIM_READ, .cm = true };
	u64 none = 0;

	return access_aligned(cpu, &a, 1, &none);
}

/* The largest naturally aligned access at va that fits into len. */
static unsigned step_size(u64 va, size_t len)
{
	unsigned size = 8;

	while (size > 1 && ((va & (size - 1)) || size > len))
		size /= 2;
	return size;
}

size_t sim_read_bytes(struct sim_cpu *cpu, u64 va, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		unsigned size = step_size(va + done, len - done);
		u64 v = 0;

		if (sim_load(cpu, va + done, size, &v))
			break;
		memcpy((u8 *)buf + done, &v, size);
		done += size;
	}
	return done;
}

size_t sim_write_bytes(struct sim_cpu *cpu, u64 va, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		unsigned size = step_size(va + done, len - done);
		u64 v = 0;

		memcpy(&v, (const u8 *)buf + done, size);
		if (sim_store(cpu, va + done, size, v))
			break;
		done += size;
	}
	return done;
}
