/*
 * do_page_fault and the loop that runs one fault: see fault.h for the picture.
 *
 * Invariants of the loop: between two steps no lock is held and nothing is remembered about the address space; at most
 * one folio is held (vmf->spare) and at most two files counted (need_file, spare_file), all given back before the loop
 * ends; a verdict that means a signal was reached while no mapping call was at work on the mm.
 */
#include "fault.h"
#include <sync.h>

/* Rounds of reclaim that freed something after which the OOM killer is asked all the same (Linux: MAX_RECLAIM_RETRIES).
 * */
#define FAULT_RECLAIM_ROUNDS 16u
/* Rounds before the fault gives up, whatever the OOM killer says: the task dies, the machine goes on. */
#define FAULT_MAX_RECLAIM 200u

/* ---- one step ---- */

static void fault_begin(struct vm_fault *vmf)
{
	vmf->tlb_used = false;
	spin_lock(&vmf->mm->lock);
}

static void fault_end(struct vm_fault *vmf)
{
	if (vmf->tlb_used)
		tlb_flush(&vmf->tlb);
	spin_unlock(&vmf->mm->lock);
	if (vmf->tlb_used)
		tlb_finish_mmu(&vmf->tlb);
}

void fault_gather(struct vm_fault *vmf, u64 addr, u64 pages, pfn_t pfn, u32 refs)
{
	if (!vmf->tlb_used)
		tlb_gather_mmu(&vmf->tlb, vmf->mm);
	vmf->tlb_used = true;
	tlb_remove(&vmf->tlb, addr, pages, pfn, refs);
}

enum vm_fault_reason fault_need_file(struct vm_fault *vmf, enum vm_fault_need need)
{
	file_get_held(vmf->vma->vm_file);
	vmf->need_file = vmf->vma->vm_file;
	vmf->need_random = vmf->vma->vm_flags & VM_RAND_READ;
	return fault_retry(vmf, need);
}

/* May the access take place at all?  FORCE is ptrace's right: anything that mprotect could still allow. */
bool fault_access_allowed(u32 flags, u64 vm_flags)
{
	if (flags & FAULT_FLAG_WRITE) {
		if (vm_flags & VM_WRITE)
			return true;
		return (flags & FAULT_FLAG_FORCE) && (vm_flags & VM_MAYWRITE) && !(vm_flags & VM_SHARED);
	}
	if (flags & FAULT_FLAG_INSTRUCTION)
		return vm_flags & VM_EXEC;
	/* What may be written or executed may be read: no port of ours has execute-only memory.  But Linux's
	 * get_user_pages() goes by the flags. */
	if (vm_flags & (flags & FAULT_FLAG_REMOTE ? VM_READ : VM_ACCESS_FLAGS))
		return true;
	return (flags & FAULT_FLAG_FORCE) && (vm_flags & VM_MAYREAD);
}

static enum vm_fault_reason fault_step_vma(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = find_vma(vmf->mm, vmf->far);

	if (!vma)
		return VM_FAULT_BADMAP;
	if (unlikely(vma_start(vma) > vmf->far)) {
		/* Only a program's own access grows a stack (as Linux since 6.5). */
		if (!(vma->vm_flags & VM_GROWSDOWN) || (vmf->flags & FAULT_FLAG_REMOTE))
			return VM_FAULT_BADMAP;
		return fault_retry(vmf, NEED_STACK);
	}
	if (!fault_access_allowed(vmf->flags, vma->vm_flags))
		return VM_FAULT_BADACCESS;
	/* A victim's private pages are gone: a fresh one would look like what the program had there. */
	if (unlikely(vmf->mm->oom_reaped) && !(vma->vm_flags & VM_SHARED))
		return VM_FAULT_OOM;
	vmf->vma = vma;
	return handle_mm_fault(vmf);
}

/* Is another context in the middle of a mapping call?  A plain load: it may be out of date the next moment, but what
 * such a call changes it changes under mm->lock, which we hold. */
static bool mapping_call_runs(struct mm_struct *mm)
{
	return __atomic_load_n(&mm->mmap_lock.word, __ATOMIC_RELAXED) && !mutex_is_held(&mm->mmap_lock);
}

static enum vm_fault_reason fault_step(struct vm_fault *vmf)
{
	enum vm_fault_reason r;

	if (unlikely(mm_range_busy(vmf->mm, vmf->address)) && !mutex_is_held(&vmf->mm->mmap_lock))
		return fault_retry(vmf, NEED_MM_IDLE);
	r = fault_step_vma(vmf);
	if (unlikely(r == VM_FAULT_BADMAP || r == VM_FAULT_BADACCESS) && mapping_call_runs(vmf->mm))
		return fault_retry(vmf, NEED_MM_IDLE);
	return r;
}

void fault_count(struct vm_fault *vmf)
{
	if (vmf->accounted || (vmf->flags & FAULT_FLAG_REMOTE))
		return;
	vmf->accounted = true;
	count_vm_event(vmf->q, PGFAULT);
	if (vmf->major)
		count_vm_event(vmf->q, PGMAJFAULT);
}

/* Linux counts a fault when it is over, and in the task only if it was of use and a real access. */
static void fault_account(struct vm_fault *vmf, enum vm_fault_reason r)
{
	struct quire *q = vmf->q;

	if (r == VM_FAULT_RETRY || (vmf->flags & FAULT_FLAG_REMOTE))
		return;
	if (r == VM_FAULT_DONE) {
		vmf->mm->min_flt += !vmf->major;
		vmf->mm->maj_flt += vmf->major;
	}
	if (vmf->accounted)
		return;
	spin_lock(&q->lock);
	fault_count(vmf);
	spin_unlock(&q->lock);
}

/* ---- what a step needed ---- */

/* Did the OOM killer choose a task on this mm?  Then nobody should wait for memory on its behalf. */
static bool mm_is_oom_victim(struct mm_struct *mm)
{
	struct task *t;
	bool victim = false;

	spin_lock(&mm->q->tasks.lock);
	for (t = mm->q->tasks.first; t && !victim; t = t->next)
		victim = t->mm == mm && t->oom_victim;
	spin_unlock(&mm->q->tasks.lock);
	return victim;
}

/* Somebody else took whatever came back, every time.  Nobody dies without a word in the log. */
static void say_gave_up(struct vm_fault *vmf)
{
	struct task *t = port_ctx()->task;

	quire_log(vmf->q, 3, "Out of memory (no page for a fault in %u rounds of reclaim): Killed process %d (%s)", FAULT_MAX_RECLAIM,
		  t ? t->pid : 0, t ? t->comm : "?");
}

static enum vm_fault_reason serve_memory(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;
	bool progress = false;

	FAULT_TRACE(q, "try_to_free_pages");
	if (mm_is_oom_victim(vmf->mm))
		return VM_FAULT_OOM;
	if (vmf->tries++ >= FAULT_MAX_RECLAIM) {
		if (!(vmf->flags & FAULT_FLAG_REMOTE))
			say_gave_up(vmf);
		return VM_FAULT_OOM;
	}
	if (q->hooks.try_to_free_pages)
		progress = q->hooks.try_to_free_pages(q, GFP_HIGHUSER_MOVABLE, 0);
	/* Somebody else may take what was freed.  If that goes on, freeing a little now and then is no progress. */
	if (progress && vmf->tries % FAULT_RECLAIM_ROUNDS)
		return VM_FAULT_RETRY;
	if (q->hooks.out_of_memory && !q->hooks.out_of_memory(q, GFP_HIGHUSER_MOVABLE, 0))
		return VM_FAULT_RETRY;
	return VM_FAULT_OOM;
}

static enum vm_fault_reason serve_page_cache(struct vm_fault *vmf)
{
	bool did_io = false;
	int err;

	err = filemap_fill(vmf->need_file->mapping, vmf->pgoff, vmf->need_random ? RA_RANDOM : RA_NORMAL, &did_io);
	vmf->major |= did_io;
	if (!err || err == -EAGAIN)
		return VM_FAULT_RETRY;
	return err == -ENOMEM ? serve_memory(vmf) : VM_FAULT_SIGBUS;
}

static enum vm_fault_reason serve_clear(struct vm_fault *vmf)
{
	folio_clear(vmf->q, vmf->spare);
	vmf->spare_state = SPARE_CLEAR;
	return VM_FAULT_RETRY;
}

/* Bytes of the file at off into the n bytes at va; what lies behind its end is zero.  How many there were, 0 = none, or -errno. */
static long read_bytes(struct quire *q, struct address_space *m, u64 off, u8 *va, size_t n)
{
	size_t done = 0;
	long got;

	while (done < n) {
		got = port_should_fail(q, FAIL_IO) ? -EIO : m->ops->copy_out(m, off + done, va + done, n - done);
		if (got < 0)
			return got;
		if (!got)
			break;
		done += (size_t)got;
	}
	memset(va + done, 0, n - done);
	return (long)done;
}

/* Fills the spare from a file whose bytes are the host's. */
static enum vm_fault_reason serve_bytes(struct vm_fault *vmf)
{
	struct quire *q = vmf->q;
	size_t size = (size_t)folio_nr_pages(vmf->spare) << PAGE_SHIFT;
	u64 pgoff = vmf->pgoff - ((vmf->address - vmf->spare_base) >> PAGE_SHIFT);
	long n = read_bytes(q, vmf->need_file->mapping, pgoff << PAGE_SHIFT, frame_address(q, &vmf->spare->f), size);

	if (size > PAGE_SIZE && n <= (long)(size - PAGE_SIZE)) { /* a page of it lies behind the end, or cannot be read */
		vmf->no_block = true;
		spare_drop(vmf);
		return VM_FAULT_RETRY;
	}
	if (n <= 0)
		return VM_FAULT_SIGBUS;
	vmf->spare->f.flags &= (u16)~FF_ZEROED;
	vmf->spare_state = SPARE_BYTES;
	vmf->spare_pgoff = pgoff;
	/* The file stays counted as long as its bytes are held, so that its mapping's address means this file. */
	if (vmf->spare_file)
		file_put(vmf->spare_file);
	vmf->spare_file = vmf->need_file;
	vmf->need_file = NULL;
	return VM_FAULT_RETRY;
}

static enum vm_fault_reason serve_need(struct vm_fault *vmf)
{
	switch (vmf->need) {
	case NEED_MEMORY:
		return serve_memory(vmf);
	case NEED_PAGE_CACHE:
		return serve_page_cache(vmf);
	case NEED_CLEAR:
		return serve_clear(vmf);
	case NEED_BYTES:
		return serve_bytes(vmf);
	case NEED_SWAP:
		return serve_swap(vmf);
	case NEED_SWAP_BLOCK:
		return serve_swap_block(vmf);
	case NEED_SWAP_ROOM:
		swap_room_wait(vmf->q);
		return VM_FAULT_RETRY;
	case NEED_STACK:
		FAULT_TRACE(vmf->q, "expand_stack");
		return expand_stack(vmf->mm, vmf->address) ? VM_FAULT_BADMAP : VM_FAULT_RETRY;
	case NEED_MM_IDLE:
		mm_wait_busy(vmf->mm);
		return VM_FAULT_RETRY;
	case NEED_MIGRATION:
		migration_entry_wait(vmf->q);
		return VM_FAULT_RETRY;
	case NEED_NOTHING:
		port_relax();
		return VM_FAULT_RETRY;
	}
	BUG();
}

static enum vm_fault_reason fault_service(struct vm_fault *vmf)
{
	enum vm_fault_reason r;

	if (unlikely(vmf->nblock && vmf->need != NEED_SWAP_BLOCK))
		spare_drop(vmf);
	r = serve_need(vmf);
	if (vmf->need_file)
		file_put(vmf->need_file);
	vmf->need_file = NULL;
	return r;
}

/* ---- the loop ---- */

enum vm_fault_reason fault_run(struct vm_fault *vmf, struct mm_struct *mm, u64 far, u32 flags)
{
	enum vm_fault_reason r;

	vmf->mm = mm;
	vmf->q = mm->q;
	vmf->far = far;
	vmf->address = far & PAGE_MASK;
	vmf->flags = flags;
	vmf->need_file = NULL;
	vmf->spare = NULL;
	vmf->spare_file = NULL;
	vmf->major = false;
	vmf->accounted = false;
	vmf->dirtied = false;
	vmf->tries = 0;
	vmf->swap_error = 0;
	vmf->nblock = 0;
	vmf->no_block = false;
	do {
		fault_begin(vmf);
		r = fault_step(vmf);
		fault_account(vmf, r);
		fault_end(vmf);
		if (r == VM_FAULT_RETRY)
			r = fault_service(vmf);
		else
			break;
	} while (r == VM_FAULT_RETRY);
	/* Pages of the host's files are not counted: nobody waits for them. */
	if (unlikely(vmf->dirtied) && !(vmf->q->caps & PORT_CAP_HOST_FILES))
		balance_dirty_pages(vmf->q);
	if (unlikely(vmf->swap_error))
		fault_report_swap_error(vmf);
	if (unlikely(vmf->spare))
		spare_drop(vmf);
	if (unlikely(vmf->spare_file))
		file_put(vmf->spare_file);
	return r;
}

static u32 fault_flags(u32 esr)
{
	u32 ec = esr >> ESR_EC_SHIFT, flags = 0;

	if (ec == ESR_EC_DABT_LOW || ec == ESR_EC_IABT_LOW)
		flags |= FAULT_FLAG_USER;
	if (ec == ESR_EC_IABT_LOW || ec == ESR_EC_IABT_CUR)
		flags |= FAULT_FLAG_INSTRUCTION;
	else if ((esr & ESR_WNR) && !(esr & ESR_CM)) /* cache maintenance reports itself as a write, but reads */
		flags |= FAULT_FLAG_WRITE;
	return flags;
}

enum fault_result do_page_fault(struct mm_struct *mm, u64 far, u32 esr, struct fault_info *info)
{
	u32 flags = fault_flags(esr);
	struct vm_fault vmf;

	FAULT_TRACE(mm->q, "do_page_fault");
	/* The kernel never executes user memory. */
	if ((flags & (FAULT_FLAG_INSTRUCTION | FAULT_FLAG_USER)) == FAULT_FLAG_INSTRUCTION)
		return FAULT_FIXUP;
	switch (fault_run(&vmf, mm, far, flags)) {
	case VM_FAULT_DONE:
		return FAULT_OK;
	case VM_FAULT_OOM:
		return FAULT_KILLED;
	case VM_FAULT_SIGBUS:
		info->sig = SIGBUS_NO;
		info->code = BUS_ADRERR;
		break;
	case VM_FAULT_BADACCESS:
		info->sig = SIGSEGV_NO;
		info->code = SEGV_ACCERR;
		break;
	default:
		info->sig = SIGSEGV_NO;
		info->code = SEGV_MAPERR;
	}
	info->addr = far;
	return flags & FAULT_FLAG_USER ? FAULT_SIGNAL : FAULT_FIXUP;
}
