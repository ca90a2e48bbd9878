/*
 * The exception path: (FAR, ESR) in AArch64 encoding in, an outcome out.
 * ARM DDI 0487, D17.2.37 (ESR_EL1) and the ISS encoding for Data/Instruction Aborts.
 */
#ifndef QUIRE_FAULT_H
#define QUIRE_FAULT_H
#include <quire/types.h>

struct quire;
struct mm_struct;
struct folio;

#define ESR_EC_SHIFT 26
#define ESR_EC_IABT_LOW 0x20u
#define ESR_EC_IABT_CUR 0x21u
#define ESR_EC_DABT_LOW 0x24u
#define ESR_EC_DABT_CUR 0x25u
#define ESR_IL BIT(25)
#define ESR_WNR BIT(6)
#define ESR_CM BIT(8)
#define ESR_S1PTW BIT(7)
#define ESR_FSC_MASK 0x3fu
#define FSC_TRANSLATION 0x04u /* + level */
#define FSC_ACCESS 0x08u      /* + level */
#define FSC_PERMISSION 0x0cu  /* + level */
#define FSC_EXTERNAL 0x10u
#define FSC_ALIGNMENT 0x21u
static inline u32 esr_make(u32 ec, bool write, u32 fsc)
{
	return (ec << ESR_EC_SHIFT) | (u32)ESR_IL | (write ? (u32)ESR_WNR : 0) | fsc;
}

/* What the port must now do. */
enum fault_result {
	FAULT_OK = 0,   /* the access may be tried again */
	FAULT_SIGNAL,   /* deliver `sig` with `code`, address `addr` */
	FAULT_FIXUP,    /* kernel-mode access to a bad user address: use the exception table */
	FAULT_KILLED,   /* the task is being killed (OOM): die at the next safe point */
};
struct fault_info {
	int sig;        /* SIGSEGV 11 or SIGBUS 7; SIGKILL 9 (code SI_KERNEL) for aborts Linux answers so */
	int code;       /* SEGV_MAPERR 1, SEGV_ACCERR 2; BUS_ADRALN 1, BUS_ADRERR 2, BUS_OBJERR 3 */
	u64 addr;
};

/* The one entry of every port.  Under no lock.  mm: the faulting thread's (NULL: kernel thread).  sp: the
 * user stack pointer, 0 if unknown (informational: Linux >= 6.5 grows stacks without looking at it). */
enum fault_result do_mem_abort(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info);

/* ---- fault/gup.c: kernel access to user memory of any mm, by page tables, not by address ---- */
/* Copies; faults pages in (and breaks copy-on-write for writes) as the access would.  Returns bytes copied,
 * short at the first page that cannot be had (-EFAULT if none).  Under no lock. */
long access_process_vm(struct mm_struct *mm, u64 addr, void *buf, size_t len, bool write);
/* As FOLL_FORCE: writes to private read-only pages copy them first (ptrace, exec's stack set-up). */
#define ACCESS_OWN 1   /* the task's own access: what the hardware allows */
#define ACCESS_FORCE 2
long access_process_vm_flags(struct mm_struct *mm, u64 addr, void *buf, size_t len, bool write, u32 flags);
/* Faults in n pages from addr on, one after the other, as get_user_pages() would of another process; tokens too.  Returns how
 * many could be had before the first that could not. */
u64 fault_in_remote(struct mm_struct *mm, u64 addr, u64 n, bool write);
/* Makes [start, end) resident as MAP_POPULATE does.  0 or negative errno (first failure). */
int mm_populate(struct mm_struct *mm, u64 start, u64 end, bool write_if_possible);
/* The same by read or write faults throughout (MADV_POPULATE_*).  The VMAs allow that access. */
int mm_fault_in(struct mm_struct *mm, u64 start, u64 end, bool write);

/* get_user_pages(2 of Linux's API): faults in and references the frames of n pages from addr (page aligned) on; pfns[i] each with
 * one reference, to be given back by put_user_pages().  A pinned anonymous page stays where the mm sees it: it is made
 * exclusive first.  Returns pages pinned, short at the first failure, or -EFAULT / -ENOMEM if there is none.  Token pages
 * have no bytes in frames: -EOPNOTSUPP.  Under no lock. */
long get_user_pages(struct mm_struct *mm, u64 addr, u32 n, bool write, u32 *pfns);
void put_user_pages(struct quire *q, const u32 *pfns, u32 n, bool dirtied);

/* Trace of the last fault, function by function, when q->trace_faults is set (quire lab). */
struct fault_trace {
	u32 n;
	const char *fn[24];
};

#endif
