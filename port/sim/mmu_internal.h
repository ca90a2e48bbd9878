/* What the files of the simulated MMU share: walk.c, tlb.c, asid.c, flush.c, cpu.c. */
#ifndef PORT_SIM_MMU_INTERNAL_H
#define PORT_SIM_MMU_INTERNAL_H
#include "mmu.h"
#include "sim_internal.h"

#define SIM_PA_BITS 44 /* TCR_EL1.IPS: as many as a 32-bit PFN reaches */

/* Small functions that read or write what the core or a guest changes without a lock, as hardware does. */
#if defined(__SANITIZE_THREAD__)
#define SIM_RACY __attribute__((no_sanitize("thread"), noinline))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIM_RACY __attribute__((no_sanitize("thread"), noinline))
#endif
#endif
#ifndef SIM_RACY
#define SIM_RACY
#endif

static inline void sim_lock(u32 *word)
{
	while (unlikely(__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)))
		sim_lock_contended(word);
}

static inline void sim_unlock(u32 *word)
{
	__atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

/* ---- walk.c ---- */
u64 sim_read_desc(const u64 *p);
u64 *sim_desc_host(struct sim_machine *m, u64 pa);
void sim_update_desc(struct sim_machine *m, const struct sim_walk *w, bool write);

/* ---- tlb.c ---- */
#define SIM_TLB_CLASSES 5
#define SIM_TLB_WAYS 2u
#define SIM_TLB_ENTRIES ((512 + 128 + 64 + 16 + 8) * SIM_TLB_WAYS)

/* Set-associative, one part per page size.  Lock: that of its owner (cpu->lock, or sim_mm.tlb_lock). */
struct sim_tlb {
	u32 used[SIM_TLB_CLASSES];   /* valid entries of each size */
	struct sim_tlb_entry e[SIM_TLB_ENTRIES];
	u32 victim;                  /* alternates the way that is replaced */
};
struct sim_tlb_entry *sim_tlb_find(struct sim_tlb *t, u64 va, u16 asid);
void sim_tlb_insert(struct sim_tlb *t, const struct sim_tlb_entry *e);
void sim_tlb_drop(struct sim_tlb *t, struct sim_tlb_entry *e);
/* Invalidates what overlaps [start, end) and has this asid (globals too if `globals`); asid < 0: any. */
void sim_tlb_flush(struct sim_tlb *t, int asid, bool globals, u64 start, u64 end);

/* ---- asid.c ---- */
#define SIM_MAX_PENDING 64
#define SIM_MAX_PINS 64
struct sim_range {
	u64 start, end;
};

/* What the port keeps for one mm: mm->port_mm. */
struct sim_mm {
	struct mm_struct *mm;
	struct sim_machine *m;
	u64 uid;                      /* never reused; immutable */
	u64 context;                  /* generation | ASID; 0 = none yet; atomic, written under m->asid_lock */
	struct sim_mm *next;          /* m->mms; m->mms_lock */
	struct sim_tlb *tlb;          /* SIM_TLB_HOSTED: the software TLB */
	u32 tlb_lock;                 /* inside cpu->lock */
	pthread_mutex_t flush_lock;   /* held while flushes are asked for or applied */
	u32 npending;                 /* flush_lock */
	struct sim_range pending[SIM_MAX_PENDING]; /* bytes; flush_lock */
	u64 flush_seq;                /* changes whenever a flush is asked for or applied; atomic */
	u32 npins;                    /* flush_lock */
	struct sim_range pins[SIM_MAX_PINS];
};
static inline struct sim_mm *sim_mm_of(const struct mm_struct *mm) { return mm->port_mm; }
void sim_mmu_init(struct sim_machine *m);
void sim_mmu_destroy(struct sim_machine *m);

/* ---- flush.c ---- */
/* Counts and logs a broken law; panics if the configuration says so (cont_bad: cpu.c does, when its locks are free). */
void sim_violation(struct sim_machine *m, u64 *counter, const char *what, u64 a, u64 b);
void sim_check_law1(struct sim_cpu *cpu, struct sim_mm *smm, u64 va);
void sim_check_replaced(struct sim_mm *s, u64 va, u64 old_pa, u64 seq);
void sim_check_reuse(struct quire *q, const void *host, size_t pages);

/* ---- cpu.c ---- */
void sim_utlb_forget(struct sim_cpu *cpu); /* under cpu->lock */

#endif
