/*
 * Flushes, pins and the checks that find a forgotten flush.
 *
 * port_tlb_flush_range() notes the range in mm's pending list; what happens at once depends on the mode (sim.h).
 * port_tlb_sync() applies every pending range to every CPU.  A pending range that a pin covers is kept back in hosted
 * mode and tried again by every later sync; the frame below it must stay owned until then.
 *
 * flush_seq changes at every request and every application, so that a checker can tell whether what it saw in a TLB and in
 * the tables belongs together.
 *
 * Locks: sim_mm.flush_lock -> cpu->lock -> sim_mm.tlb_lock.
 */
#include "mmu_internal.h"
#include <stdio.h>
#include <stdlib.h>

#define ALL_USER_END BIT(48)

static void bump(u64 *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

void sim_violation(struct sim_machine *m, u64 *counter, const char *what, u64 a, u64 b)
{
	char text[160];
	int n = snprintf(text, sizeof(text), "sim: %s: %#llx, %#llx", what, (unsigned long long)a, (unsigned long long)b);
	bool fatal = (counter == &m->stats.reuse && m->cfg.check_reuse) || (counter == &m->stats.law1 && m->cfg.check_law1);

	bump(counter);
	port_log(m->q, 3, text, (size_t)n);
	if (fatal)
		port_panic(m->q, text);
}

static u16 asid_of(const struct sim_mm *s)
{
	return (u16)(__atomic_load_n(&s->context, __ATOMIC_SEQ_CST) & (BIT(s->m->cfg.asid_bits) - 1));
}

static void flush_cpu(struct sim_mm *s, struct sim_cpu *cpu, u64 start, u64 end)
{
	sim_lock(&cpu->lock);
	/* One page or a range: TLBI VAE1, which takes globals too; everything: TLBI ASIDE1, which does not. */
	if (s->m->cfg.tlb != SIM_TLB_HOSTED && asid_of(s))
		sim_tlb_flush(cpu->tlb, asid_of(s), end < ALL_USER_END, start, end);
	sim_utlb_forget(cpu);
	sim_unlock(&cpu->lock);
}

/* Under flush_lock. */
static void flush_all_cpus(struct sim_mm *s, u64 start, u64 end)
{
	unsigned i;

	if (s->tlb) {
		sim_lock(&s->tlb_lock);
		sim_tlb_flush(s->tlb, -1, true, start, end);
		sim_unlock(&s->tlb_lock);
	}
	for (i = 0; i < s->m->cfg.nr_cpus; i++)
		flush_cpu(s, &s->m->cpus[i], start, end);
}

static bool overlaps(const struct sim_range *r, u32 n, u64 start, u64 end)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (r[i].start < end && start < r[i].end)
			return true;
	return false;
}

static void add_pending(struct sim_mm *s, u64 start, u64 end)
{
	if (s->npending == SIM_MAX_PENDING) {
		s->npending = 1;
		s->pending[0] = (struct sim_range){ 0, ALL_USER_END };
		return;
	}
	s->pending[s->npending++] = (struct sim_range){ start, end };
}

void port_tlb_flush_range(struct mm_struct *mm, u64 start, u64 end)
{
	struct sim_mm *s = sim_mm_of(mm);
	struct sim_machine *m = sim_of(mm->q);
	unsigned i;

	bump(&m->stats.flush_ranges);
	sim_preempt();
	if (!s || m->ignore_flushes || start >= end)
		return;
	start = ALIGN_DOWN(start, PAGE_SIZE);
	end = MIN(PAGE_ALIGN(end), ALL_USER_END);
	pthread_mutex_lock(&s->flush_lock);
	__atomic_add_fetch(&s->flush_seq, 1, __ATOMIC_SEQ_CST);
	if (m->cfg.tlb == SIM_TLB_STRICT)
		flush_all_cpus(s, start, end);
	else
		add_pending(s, start, end);
	for (i = 0; m->cfg.tlb == SIM_TLB_NORMAL && i < m->cfg.nr_cpus; i++)
		if (sim_rng_percent(&m->flush_coin, 50))
			flush_cpu(s, &m->cpus[i], start, end);
	pthread_mutex_unlock(&s->flush_lock);
}

/* A TLB entry is dropped whole. */
void port_tlb_protect_range(struct mm_struct *mm, u64 start, u64 end)
{
	port_tlb_flush_range(mm, start, end);
}

/* Flushes [start, end) except what is pinned.  True if something was left.  Under flush_lock. */
static bool flush_unpinned(struct sim_mm *s, u64 start, u64 end)
{
	u64 va;

	if (s->m->cfg.tlb != SIM_TLB_HOSTED || !overlaps(s->pins, s->npins, start, end)) {
		flush_all_cpus(s, start, end);
		return false;
	}
	for (va = start; va < end && va < ALL_USER_END; va += PAGE_SIZE)
		if (!overlaps(s->pins, s->npins, va, va + PAGE_SIZE))
			flush_all_cpus(s, va, va + PAGE_SIZE);
	return true;
}

void port_tlb_sync(struct mm_struct *mm)
{
	struct sim_mm *s = sim_mm_of(mm);
	struct sim_machine *m = sim_of(mm->q);
	u32 i, kept = 0;

	bump(&m->stats.flush_syncs);
	if (in_transaction())
		port_panic(mm->q, "port_tlb_sync under a spin lock");
	sim_preempt();
	if (!s || m->ignore_flushes)
		return;
	pthread_mutex_lock(&s->flush_lock);
	for (i = 0; i < s->npending; i++)
		if (flush_unpinned(s, s->pending[i].start, s->pending[i].end)) {
			s->pending[kept++] = s->pending[i];
			bump(&m->stats.refused);
		}
	s->npending = kept;
	__atomic_add_fetch(&s->flush_seq, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&s->flush_lock);
}

void port_kernel_flush(struct quire *q, u64 start, u64 end)
{
	struct sim_machine *m = sim_of(q);
	unsigned i;

	if (m->ignore_flushes)
		return;
	for (i = 0; i < m->cfg.nr_cpus; i++) {
		sim_lock(&m->cpus[i].lock);
		sim_tlb_flush(m->cpus[i].tlb, -1, true, start, end);
		sim_utlb_forget(&m->cpus[i]);
		sim_unlock(&m->cpus[i].lock);
	}
}

void sim_ignore_flushes(struct quire *q, bool ignore)
{
	sim_of(q)->ignore_flushes = ignore;
}

/* ---- pins ---- */

bool port_range_pinned(struct mm_struct *mm, u64 start, u64 end)
{
	struct sim_mm *s = sim_mm_of(mm);
	bool pinned;

	if (!s)
		return false;
	pthread_mutex_lock(&s->flush_lock);
	pinned = overlaps(s->pins, s->npins, start, end);
	pthread_mutex_unlock(&s->flush_lock);
	return pinned;
}

/* As a native call does: the pin is set under mm->lock, so that no flusher is between its question and its flush. */
void sim_pin_range(struct mm_struct *mm, u64 start, u64 end)
{
	struct sim_mm *s = sim_mm_of(mm);

	spin_lock(&mm->lock);
	pthread_mutex_lock(&s->flush_lock);
	if (s->npins == SIM_MAX_PINS)
		sim_die("sim: too many pins");
	s->pins[s->npins++] = (struct sim_range){ start, end };
	pthread_mutex_unlock(&s->flush_lock);
	spin_unlock(&mm->lock);
}

void sim_unpin_range(struct mm_struct *mm, u64 start, u64 end)
{
	struct sim_mm *s = sim_mm_of(mm);
	u32 i;

	spin_lock(&mm->lock);
	pthread_mutex_lock(&s->flush_lock);
	for (i = 0; i < s->npins && (s->pins[i].start != start || s->pins[i].end != end); i++)
		;
	if (i == s->npins)
		port_panic(mm->q, "sim_unpin_range: no such pin");
	s->pins[i] = s->pins[--s->npins];
	pthread_mutex_unlock(&s->flush_lock);
	spin_unlock(&mm->lock);
}

/* ---- checks ---- */

static u64 entry_pa(const struct sim_tlb_entry *e, u64 va)
{
	return e->pa + (va - e->va);
}

/* Does e agree with the tables for the page at va?  Less permission than the tables give is fine, and so is an entry
 * whose Access flag was cleared since: both only cost time. */
static bool page_stale(struct quire *q, u64 table, const struct sim_tlb_entry *e, u64 va)
{
	struct sim_walk w;

	if (!table)
		return true;
	sim_walk_table(q, table, va, &w);
	if (w.fsc != SIM_FSC_NONE && (w.fsc & ~3u) != FSC_ACCESS)
		return true;
	return w.pa + (va & ((1ull << w.shift) - 1)) != entry_pa(e, va) || (e->perms & ~w.perms);
}

static bool entry_stale(struct quire *q, u64 table, const struct sim_tlb_entry *e)
{
	u64 va;

	for (va = e->va; va - e->va < 1ull << e->shift; va += PAGE_SIZE)
		if (page_stale(q, table, e, va))
			return true;
	return false;
}

static struct sim_mm *mm_by_uid(struct sim_machine *m, u64 uid)
{
	struct sim_mm *s = m->mms;

	while (s && s->uid != uid)
		s = s->next;
	return s;
}

/* Can this entry still be used by anybody? */
static bool entry_live(struct sim_machine *m, const struct sim_tlb_entry *e, struct sim_mm *s)
{
	if (!e->valid)
		return false;
	if (!e->mm_uid)
		return true;
	return s && (m->cfg.tlb == SIM_TLB_HOSTED || e->global || e->asid == asid_of(s));
}

static u64 check_entry(struct sim_machine *m, const struct sim_tlb_entry *e, bool excuse_pending)
{
	struct sim_mm *s = e->mm_uid ? mm_by_uid(m, e->mm_uid) : NULL;
	u64 end = e->va + (1ull << e->shift);
	char text[160];
	int n;

	if (!entry_live(m, e, s) || (s && excuse_pending && overlaps(s->pending, s->npending, e->va, end)))
		return 0;
	if (s && m->cfg.tlb == SIM_TLB_HOSTED && overlaps(s->pins, s->npins, e->va, end))
		return 0;
	if (!entry_stale(m->q, s ? s->mm->pgd : m->kernel_table ? m->kernel_table : m->q->kmem.kernel_pgd, e))
		return 0;
	n = snprintf(text, sizeof(text), "sim: stale translation: va %#llx pa %#llx perms %#x shift %u",
		     (unsigned long long)e->va, (unsigned long long)e->pa, e->perms, e->shift);
	port_log(m->q, 3, text, (size_t)n);
	return 1;
}

static u64 check_tlb(struct sim_machine *m, const struct sim_tlb *t, u64 uid, bool excuse_pending)
{
	u64 bad = 0;
	unsigned i;

	for (i = 0; i < SIM_TLB_ENTRIES; i++)
		if (t->e[i].valid && (!uid || t->e[i].mm_uid == uid))
			bad += check_entry(m, &t->e[i], excuse_pending);
	return bad;
}

static u64 check_all(struct sim_machine *m, u64 uid, bool excuse_pending)
{
	struct sim_mm *s;
	u64 bad = 0;
	unsigned i;

	for (i = 0; i < m->cfg.nr_cpus; i++)
		bad += check_tlb(m, m->cpus[i].tlb, uid, excuse_pending);
	for (s = m->mms; s; s = s->next)
		if (s->tlb)
			bad += check_tlb(m, s->tlb, uid, excuse_pending);
	return bad;
}

u64 sim_tlb_check(struct quire *q)
{
	return check_all(sim_of(q), 0, true);
}

u64 sim_tlb_check_synced(struct mm_struct *mm)
{
	return check_all(sim_of(mm->q), sim_mm_of(mm)->uid, false);
}

/*
 * Law 1: valid -> valid never changes the frame.  Called after cpu filled its TLB for va: is there another CPU whose
 * entry names another frame, though no flush was asked for?  The tables are read after that entry, and flush_seq around
 * both, so a frame that was properly cleared and flushed in between is no violation.
 */
static void check_other_cpu(struct sim_mm *s, struct sim_cpu *other, u64 va)
{
	u64 seq = __atomic_load_n(&s->flush_seq, __ATOMIC_SEQ_CST);
	struct sim_tlb_entry *found, e = { 0 };
	struct sim_walk w;
	bool excused;

	sim_lock(&other->lock);
	found = sim_tlb_find(other->tlb, va, asid_of(s));
	if (found)
		e = *found;
	sim_unlock(&other->lock);
	if (!e.valid || e.mm_uid != s->uid || !s->mm->pgd)
		return;
	sim_walk_table(s->m->q, s->mm->pgd, va, &w);
	if (w.fsc != SIM_FSC_NONE || w.pa + (va & ((1ull << w.shift) - 1)) == entry_pa(&e, va))
		return;
	pthread_mutex_lock(&s->flush_lock);
	excused = overlaps(s->pending, s->npending, e.va, e.va + (1ull << e.shift)) ||
		  __atomic_load_n(&s->flush_seq, __ATOMIC_SEQ_CST) != seq;
	pthread_mutex_unlock(&s->flush_lock);
	if (!excused)
		sim_violation(s->m, &s->m->stats.law1, "frame changed without a flush: va, old pa", va, entry_pa(&e, va));
}

/* The same for an entry that the CPU itself replaced.  seq: flush_seq before the look-up. */
void sim_check_replaced(struct sim_mm *s, u64 va, u64 old_pa, u64 seq)
{
	bool excused;

	pthread_mutex_lock(&s->flush_lock);
	excused = overlaps(s->pending, s->npending, va, va + 1) || __atomic_load_n(&s->flush_seq, __ATOMIC_SEQ_CST) != seq;
	pthread_mutex_unlock(&s->flush_lock);
	if (!excused)
		sim_violation(s->m, &s->m->stats.law1, "frame changed without a flush: va, old pa", va, old_pa);
}

void sim_check_law1(struct sim_cpu *cpu, struct sim_mm *s, u64 va)
{
	unsigned i;

	if (s->m->cfg.tlb == SIM_TLB_HOSTED)
		return; /* one TLB for all: cpu.c compares when it replaces an entry */
	for (i = 0; i < s->m->cfg.nr_cpus; i++)
		if (i != cpu->id)
			check_other_cpu(s, &s->m->cpus[i], va);
}

static bool reuse_in_tlb(struct sim_machine *m, const struct sim_tlb *t, u64 pa, u64 end, struct sim_tlb_entry *found)
{
	unsigned i;

	for (i = 0; i < SIM_TLB_ENTRIES; i++) {
		const struct sim_tlb_entry *e = &t->e[i];

		if (e->valid && e->pa < end && pa < e->pa + (1ull << e->shift) &&
		    entry_live(m, e, e->mm_uid ? mm_by_uid(m, e->mm_uid) : NULL)) {
			*found = *e;
			return true;
		}
	}
	return false;
}

/* Under mms_lock. */
static bool reuse_anywhere(struct sim_machine *m, u64 pa, u64 end, struct sim_tlb_entry *found)
{
	struct sim_mm *s;
	bool hit = false;
	unsigned i;

	for (i = 0; i < m->cfg.nr_cpus && !hit; i++) {
		sim_lock(&m->cpus[i].lock);
		hit = reuse_in_tlb(m, m->cpus[i].tlb, pa, end, found);
		sim_unlock(&m->cpus[i].lock);
	}
	for (s = m->mms; s && !hit; s = s->next)
		if (s->tlb) {
			sim_lock(&s->tlb_lock);
			hit = reuse_in_tlb(m, s->tlb, pa, end, found);
			sim_unlock(&s->tlb_lock);
		}
	return hit;
}

/* Law 2: flush before a frame is reused.  Asked by port_clear_pages and port_copy_pages. */
void sim_check_reuse(struct quire *q, const void *host, size_t pages)
{
	struct sim_machine *m = sim_of(q);
	u64 pa = (u64)((const u8 *)host - m->ram);
	struct sim_tlb_entry e;
	bool hit;

	if ((const u8 *)host < m->ram || pa >= m->ram_bytes)
		return;
	pthread_mutex_lock(&m->mms_lock);
	hit = reuse_anywhere(m, pa, pa + pages * PAGE_SIZE, &e);
	pthread_mutex_unlock(&m->mms_lock);
	if (hit)
		sim_violation(m, &m->stats.reuse, "frame overwritten while a TLB holds it: va, pa", e.va, pa);
}

struct sim_stats sim_stats(struct quire *q)
{
	return sim_of(q)->stats;
}
