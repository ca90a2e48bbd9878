/*
 * The simulated MMU: CPUs that load, store and fetch by virtual address through real AArch64 page tables.
 *
 * Translation regime: EL1&0, stage 1, 4 KiB granule, 48-bit addresses in both halves (T0SZ = T1SZ = 16), 44-bit physical
 * addresses.  Sources: ARM DDI 0487, D8 (VMSAv8-64), D17.2.37 (ESR_EL1), D1.3 (exception entry).
 * TTBR0 is mm->pgd of the mm the CPU is on, TTBR1 the core's kernel table.
 *
 * A CPU is driven by one thread at a time; its TLB may be flushed by any.
 */
#ifndef PORT_SIM_MMU_H
#define PORT_SIM_MMU_H
#include "sim.h"

enum sim_access { SIM_READ, SIM_WRITE, SIM_EXEC };

/* ---- TLB entries ---- */
#define SIM_PERM_UR 1u   /* EL0 read, write, execute */
#define SIM_PERM_UW 2u
#define SIM_PERM_UX 4u
#define SIM_PERM_KR 8u   /* EL1 read, write, execute */
#define SIM_PERM_KW 16u
#define SIM_PERM_KX 32u
#define SIM_PERM_USER 64u /* AP[1]: EL0 accessible, for PAN */

struct sim_tlb_entry {
	u64 va, pa;   /* aligned to 1 << shift */
	u64 mm_uid;   /* whose walk filled it; 0 = kernel half */
	u16 asid;
	u8 shift;     /* log2 of the bytes covered: 12, 16 (contiguous), 21, 25 (contiguous), 30 */
	u8 perms;     /* SIM_PERM_* */
	bool valid, global;
};

#define SIM_FSC_NONE 0x80u /* no fault; 0 is a fault status code */
/* What a table walk found. */
struct sim_walk {
	u32 fsc;      /* SIM_FSC_NONE, or the fault status code with its level */
	u8 level;     /* of the last descriptor read */
	u8 shift;     /* of the translation, contiguous included */
	u8 perms;
	bool global;
	bool writable_clean; /* DBM set: hardware may make it writable */
	u64 pa;       /* of the first byte covered */
	u64 desc, desc_pa; /* the last descriptor and where it lies */
	u64 path[4];  /* the descriptors read, by level */
};
/* Walks a table whose level-0 frame lies at physical address `table`.  Reads RAM only; never changes it. */
void sim_walk_table(struct quire *q, u64 table, u64 va, struct sim_walk *out);

#define SIM_UTLB_SLOTS 256u
/* One page's translation at the CPU's present EL and ASID; key: page address | generation. */
struct sim_utlb_entry {
	u64 key;
	u8 *host;
};

struct sim_tlb;

struct sim_cpu {
	/* For tests to read after a failed access: */
	u64 far;                    /* FAR_EL1 */
	u32 esr;                    /* ESR_EL1 */
	u32 vector;                 /* offset in the vector table that was taken: 0x200 = EL1 sync, 0x400 = EL0 sync */
	enum fault_result result;
	struct fault_info info;
	u64 nr_exceptions;          /* taken so far */
	/* State: */
	u32 el;                     /* 0 or 1; set by sim_cpu_set_el */
	u64 sp;                     /* user stack pointer, informational */
	struct mm_struct *mm;       /* lock */
	u64 mm_uid;                 /* lock */
	u16 asid;                   /* lock */
	struct quire *q;            /* immutable */
	unsigned id;                /* immutable */
	struct sim_tlb *tlb;        /* this CPU's own; lock */
	u32 lock;                   /* held during every access and by whoever flushes */
	u32 ugen;                   /* generation of valid utlb entries, 1..4095; lock */
	u64 fast_loads;
	struct sim_utlb_entry utlb[3][SIM_UTLB_SLOTS]; /* by enum sim_access; lock */
};

/* ---- cpu.c ---- */
struct sim_cpu *sim_cpu_get(struct quire *q, unsigned n);
void sim_cpu_set_el(struct sim_cpu *cpu, unsigned el);
/* What handles aborts: do_mem_abort on a machine made by sim_machine_new; NULL = the access just fails. */
typedef enum fault_result (*sim_abort_fn)(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info);
void sim_set_abort_handler(struct quire *q, sim_abort_fn fn);
/*
 * Accesses of 1, 2, 4 or 8 bytes at the CPU's EL.  A fault is taken to the vector table and the access tried again if the
 * handler says so.  0, or -EFAULT (a signal or a fixup: see cpu->result, info, esr, far) or -EINTR (the task
 * is being killed); then nothing was read or written, except that an access that crosses a page may have done its first part.
 */
int sim_load(struct sim_cpu *cpu, u64 va, unsigned size, u64 *val);
int sim_store(struct sim_cpu *cpu, u64 va, unsigned size, u64 val);
/* An instruction fetch: 4 bytes, aligned (else a PC alignment fault, EC 0x22). */
int sim_fetch(struct sim_cpu *cpu, u64 va, u32 *insn);
/* LDADD: aligned only.  Atomic against every other CPU. */
int sim_fetch_add(struct sim_cpu *cpu, u64 va, unsigned size, u64 add, u64 *old);
/* LDTR, STTR at EL1: EL0's permissions, an EL1 exception. */
int sim_load_unpriv(struct sim_cpu *cpu, u64 va, unsigned size, u64 *val);
int sim_store_unpriv(struct sim_cpu *cpu, u64 va, unsigned size, u64 val);
/* DC CVAC: checked as a read, reported with CM and WnR set. */
int sim_cache_op(struct sim_cpu *cpu, u64 va);
/* Byte ranges, in accesses of up to 8 bytes.  Returns bytes done before the first fault that stayed. */
size_t sim_read_bytes(struct sim_cpu *cpu, u64 va, void *buf, size_t len);
size_t sim_write_bytes(struct sim_cpu *cpu, u64 va, const void *buf, size_t len);

/* ---- asid.c ---- */
/* Puts the CPU on mm (NULL: none, TTBR0 disabled). */
void sim_cpu_switch_mm(struct sim_cpu *cpu, struct mm_struct *mm);
/* Physical address of the kernel half's level-0 table; 0 = the core's own (q->kmem.kernel_pgd). */
void sim_set_kernel_table(struct quire *q, u64 table);

/* ---- flush.c ---- */
/* A native call or device may touch [start, end) until unpinned: port_range_pinned says so, SIM_TLB_HOSTED refuses flushes. */
void sim_pin_range(struct mm_struct *mm, u64 start, u64 end);
void sim_unpin_range(struct mm_struct *mm, u64 start, u64 end);
/* With no thread inside: compares every TLB entry with the page tables.  Returns how many are stale, i.e. translate to
 * another frame or permit more than the tables do, although no flush is pending for them; each is logged. */
u64 sim_tlb_check(struct quire *q);
/* As sim_tlb_check for one mm; pending flushes do not excuse (as after port_tlb_sync). */
u64 sim_tlb_check_synced(struct mm_struct *mm);
/* Test aid: drop every flush that is asked for from now on (negative controls). */
void sim_ignore_flushes(struct quire *q, bool ignore);

/* Counters since the machine began. */
struct sim_stats {
	u64 tlb_misses, walks;
	u64 flush_ranges, flush_syncs;  /* asked for */
	u64 refused;                    /* pending ranges left because they were pinned */
	u64 rollovers;                  /* of the ASID generation */
	u64 law1;                       /* a live translation changed its frame without a flush */
	u64 reuse;                      /* a frame was overwritten while a TLB held it */
	u64 cont_bad;                   /* contiguous sets whose members disagree */
	u64 exceptions;
};
struct sim_stats sim_stats(struct quire *q);

#endif
