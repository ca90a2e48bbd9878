/*
 * do_mem_abort: from the syndrome of an abort to who deals with it.
 *
 * The fault status code (ARM DDI 0487, ISS encoding for an exception from a Data Abort, "DFSC"; instruction aborts use
 * the same codes) falls into few classes, so the table is by class and a function names the class of each of the 64
 * codes.  What an abort that nobody can serve means for the program - which signal, which si_code - is what Linux
 * on arm64 tells its programs, so that guests see the same.
 *
 * Aborts taken from EL1 (EC *_CUR) never become signals: what cannot be served is FAULT_FIXUP, and the port looks the
 * faulting instruction up in its exception table (copy_from_user and the like), or else the machine has a bug.
 *
 * No locks are held here.
 */
#include "fault.h"

enum abort_class {
	ABORT_BAD,           /* reserved codes, address size, TLB conflict: the program cannot go on */
	ABORT_TRANSLATION,   /* levels 0-3 and -1: no valid entry */
	ABORT_ACCESS_FLAG,   /* levels 0-3: entry without AF */
	ABORT_PERMISSION,    /* levels 0-3 */
	ABORT_EXTERNAL,      /* synchronous external abort, parity or ECC error, not on a table walk */
	ABORT_EXTERNAL_WALK, /* the same while walking the tables */
	ABORT_TAG_CHECK,
	ABORT_ALIGNMENT,
	NR_ABORT_CLASSES
};

#define SEGV_MTESERR 9
/* FAR holds a tag in its top byte when the machine ignores top bytes; bit 55 tells user from kernel. */
#define FAR_TAG_SHIFT 56

typedef enum fault_result (*abort_fn)(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info);

struct abort_row {
	abort_fn fn; /* NULL: straight to the signal */
	int sig, code;
	const char *name;
};

static bool from_user(u32 esr)
{
	u32 ec = esr >> ESR_EC_SHIFT;

	return ec == ESR_EC_DABT_LOW || ec == ESR_EC_IABT_LOW;
}

static enum fault_result do_translation_fault(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info)
{
	if (mm)
		FAULT_TRACE(mm->q, "do_translation_fault");
	/* A kernel address, touched by a program or by the kernel: no address space of ours explains it. */
	if (!mm || far >= mm->task_size) {
		info->sig = SIGSEGV_NO;
		info->code = SEGV_MAPERR;
		return from_user(esr) ? FAULT_SIGNAL : FAULT_FIXUP;
	}
	return do_page_fault(mm, far, esr, info);
}

static enum fault_result do_protection_fault(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info)
{
	/* Kernel mappings are never there for programs to break, and programs are not told that they exist. */
	if (!mm || far >= mm->task_size)
		info->code = SEGV_MAPERR;
	if (!mm || far >= mm->task_size)
		return from_user(esr) ? FAULT_SIGNAL : FAULT_FIXUP;
	return do_page_fault(mm, far, esr, info);
}

static const struct abort_row abort_rows[NR_ABORT_CLASSES] = {
	[ABORT_BAD] = { NULL, SIGKILL_NO, SI_KERNEL, "do_bad" },
	[ABORT_TRANSLATION] = { do_translation_fault, SIGSEGV_NO, SEGV_MAPERR, "translation fault" },
	[ABORT_ACCESS_FLAG] = { do_protection_fault, SIGSEGV_NO, SEGV_ACCERR, "access flag fault" },
	[ABORT_PERMISSION] = { do_protection_fault, SIGSEGV_NO, SEGV_ACCERR, "permission fault" },
	[ABORT_EXTERNAL] = { NULL, SIGBUS_NO, BUS_OBJERR, "do_sea" },
	[ABORT_EXTERNAL_WALK] = { NULL, SIGKILL_NO, SI_KERNEL, "do_sea" },
	[ABORT_TAG_CHECK] = { NULL, SIGSEGV_NO, SEGV_MTESERR, "do_tag_check_fault" },
	[ABORT_ALIGNMENT] = { NULL, SIGBUS_NO, BUS_ADRALN, "do_alignment_fault" },
};

static enum abort_class abort_class(u32 fsc)
{
	switch (fsc) {
	case 0x04: case 0x05: case 0x06: case 0x07: case 0x2b:
		return ABORT_TRANSLATION;
	case 0x08: case 0x09: case 0x0a: case 0x0b:
		return ABORT_ACCESS_FLAG;
	case 0x0c: case 0x0d: case 0x0e: case 0x0f:
		return ABORT_PERMISSION;
	case 0x10: case 0x18:
		return ABORT_EXTERNAL;
	case 0x13: case 0x14: case 0x15: case 0x16: case 0x17:
	case 0x1b: case 0x1c: case 0x1d: case 0x1e: case 0x1f:
		return ABORT_EXTERNAL_WALK;
	case 0x11:
		return ABORT_TAG_CHECK;
	case 0x21:
		return ABORT_ALIGNMENT;
	default:
		return ABORT_BAD;
	}
}

enum fault_result do_mem_abort(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info)
{
	const struct abort_row *row = &abort_rows[abort_class(esr & ESR_FSC_MASK)];

	/* With TBI the tag is no part of the address; Linux hides it from si_addr, too. */
	if (mm && (mm->q->caps & PORT_CAP_TBI) && !(far & BIT(55)))
		far &= BIT(FAR_TAG_SHIFT) - 1;
	info->sig = row->sig;
	info->code = row->code;
	info->addr = far;
	if (mm && unlikely(mm->q->trace_faults)) {
		mm->q->trace.n = 0;
		FAULT_TRACE(mm->q, "do_mem_abort");
	}
	if (row->fn)
		return row->fn(mm, far, esr, info);
	if (mm)
		FAULT_TRACE(mm->q, row->name);
	return from_user(esr) ? FAULT_SIGNAL : FAULT_FIXUP;
}
