/*
 * The OOM reaper: a victim that does not die at once loses its memory all the same.
 *
 * A process that was sent SIGKILL runs none of its program any more, so nobody misses its private pages: they are
 * unmapped while the process still exists (a debugger holds it, it sleeps in the host where no signal reaches it, or the
 * supervisor has not come to it yet).  What it shares with others, and what a native call in flight may still write to, stays.
 *
 * Linux has a thread for it; here whoever waits for the memory takes it, so there is nobody else to be waited for.  The
 * victim first has OOM_REAP_DELAY_NS to die by itself: that is cheaper, and its robust futexes lie in that very memory.
 *
 *	mm->oom_reaped   BEGUN: its pages go, so a fault that would bring a fresh zero page is refused (fault/fault.c)
 *	                 DONE
 *
 * Several may be at the same address space; the one who ends it says so.  Locks: called under none; mm->lock in pieces.
 */
#include <mm/mm.h>
#include "oom.h"

#define OOM_REAP_DELAY_NS 200000000ull

/* ---- one address space ---- */

/* Private memory, and private copies of file pages.  Under mm->lock. */
static bool may_reap(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_SHARED | VM_PFNMAP));
}

/* Under mm->lock. */
struct reaping {
	struct mmu_gather tlb;
	u64 at;   /* byte address: everything below is done */
	u64 skip; /* bytes left out at the next pin: more and more, since pins may cover much */
};

/* The end of a part of [start, end) that no native call may write to; start itself if its first page is such a one. */
static u64 unpinned_end(struct mm_struct *mm, u64 start, u64 end)
{
	while (start < end && port_range_pinned(mm, start, end))
		end = start + ALIGN_DOWN((end - start) / 2, PAGE_SIZE);
	return end;
}

/* The next VMA or a part of it.  False: there is none. */
static bool reap_piece(struct reaping *r)
{
	struct mm_struct *mm = r->tlb.mm;
	struct vm_area_struct *vma = find_vma(mm, r->at);
	u64 end;

	if (!vma)
		return false;
	r->at = MAX(r->at, vma_start(vma));
	end = may_reap(vma) ? unpinned_end(mm, r->at, vma_end(vma)) : r->at;
	if (end == r->at) {
		r->at = may_reap(vma) ? MIN(r->at + r->skip, vma_end(vma)) : vma_end(vma);
		r->skip *= 2;
		return true;
	}
	r->skip = PMD_SIZE;
	if (!zap_page_range(&r->tlb, &r->at, end, ZAP_ALL))
		tlb_cycle(&r->tlb);
	return true;
}

/* Whether the caller is the one who ended it. */
static bool reap_mm(struct mm_struct *mm)
{
	struct reaping r = { .skip = PMD_SIZE };
	bool mine;

	tlb_gather_mmu(&r.tlb, mm);
	spin_lock(&mm->lock);
	mm->oom_reaped = MAX(mm->oom_reaped, (u32)OOM_REAP_BEGUN);
	while (reap_piece(&r))
		;
	mine = mm->oom_reaped != OOM_REAP_DONE;
	mm->oom_reaped = OOM_REAP_DONE;
	tlb_flush(&r.tlb);
	spin_unlock(&mm->lock);
	tlb_finish_mmu(&r.tlb);
	return mine;
}

/* ---- victims ---- */

static unsigned long kib(u64 pages)
{
	return (unsigned long)(pages << (PAGE_SHIFT - 10));
}

static void say_reaped(struct quire *q, const struct oom_task *v)
{
	quire_log(q, 6, "oom_reaper: reaped process %d (%s), now anon-rss:%lukB, file-rss:%lukB, shmem-rss:%lukB", v->pid, v->comm,
		  kib(v->u.anon), kib(v->u.file), kib(v->u.shmem));
}

static void reap_task(struct quire *q, struct task *t)
{
	struct mm_struct *mm = task_get_mm(t);
	struct oom_task v;

	if (mm) {
		if (reap_mm(mm) && oom_task_view(t, &v))
			say_reaped(q, &v);
		mmput(mm);
	}
	spin_lock(&q->tasks.lock);
	if (t->oom_victim == OOM_CHOSEN)
		t->oom_victim = OOM_REAPED;
	q->oom_wake++;
	spin_unlock(&q->tasks.lock);
	port_wake(&q->oom_wake, ~0u);
}

/* Does somebody else run on the address space? */
static bool has_sharer(struct quire *q, const struct task *t, const struct mm_struct *mm)
{
	struct task *other;
	bool found = false;

	spin_lock(&q->tasks.lock);
	for (other = q->tasks.first; other && !found; other = other->next)
		found = other != t && other->mm == mm;
	spin_unlock(&q->tasks.lock);
	return found;
}

int oom_release(struct task *t)
{
	struct mm_struct *mm = task_get_mm(t);
	int ret = -ESRCH;

	if (mm) {
		ret = has_sharer(t->q, t, mm) ? -EINVAL : 0;
		if (!ret)
			reap_mm(mm);
		mmput(mm);
	}
	return ret;
}

/* A victim, with a reference, whose time is over; never the caller, whose memory is in use. */
static struct task *next_overdue(struct quire *q, struct task *self)
{
	struct task *t;

	spin_lock(&q->tasks.lock);
	for (t = q->tasks.first; t; t = t->next)
		if (t->oom_victim == OOM_CHOSEN && t->mm && t != self && port_clock_ns() - t->oom_ns >= OOM_REAP_DELAY_NS)
			break;
	if (t)
		t->refcount++;
	spin_unlock(&q->tasks.lock);
	return t;
}

void oom_reap_victims(struct quire *q)
{
	struct task *t;

	while ((t = next_overdue(q, port_ctx()->task))) {
		reap_task(q, t);
		task_put(t);
	}
}
