/*
 * What an address space uses, as one consistent snapshot: for the OOM killer and the views in /proc.
 * Locks: mm->lock, briefly.
 */
#include <mm/mm.h>
#include "reclaim.h"

void mm_usage_get(struct mm_struct *mm, struct mm_usage *u)
{
	spin_lock(&mm->lock);
	u->total_vm = mm->total_vm;
	u->locked_vm = mm->locked_vm;
	u->pinned_vm = mm->pinned_vm;
	u->data_vm = mm->data_vm;
	u->exec_vm = mm->exec_vm;
	u->stack_vm = mm->stack_vm;
	u->anon = (u64)MAX(mm->rss[MM_ANONPAGES], 0);
	u->file = (u64)MAX(mm->rss[MM_FILEPAGES], 0);
	u->shmem = (u64)MAX(mm->rss[MM_SHMEMPAGES], 0);
	u->swap = (u64)MAX(mm->rss[MM_SWAPENTS], 0);
	u->rss = u->anon + u->file + u->shmem;
	u->hiwater_rss = MAX(mm->hiwater_rss, u->rss);
	u->hiwater_vm = MAX(mm->hiwater_vm, u->total_vm);
	u->pgtables_bytes = mm->pgtables_bytes;
	u->min_flt = mm->min_flt;
	u->maj_flt = mm->maj_flt;
	u->start_code = mm->start_code;
	u->end_code = mm->end_code;
	u->start_data = mm->start_data;
	u->end_data = mm->end_data;
	u->start_brk = mm->start_brk;
	u->brk = mm->brk;
	u->start_stack = mm->start_stack;
	u->arg_start = mm->arg_start;
	u->arg_end = mm->arg_end;
	u->env_start = mm->env_start;
	u->env_end = mm->env_end;
	spin_unlock(&mm->lock);
}
