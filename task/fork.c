/*
 * fork: an address space that shares everything copy-on-write.
 *
 * The work is mm_dup_vmas()'s, which goes in bounded pieces; here is only the all or nothing: whatever part of the
 * copy exists when memory runs out is given back by mmput(), and the parent has lost nothing but some write
 * permissions that its next faults restore.  Locks: called under none.
 */
#include <mm/mm.h>

struct mm_struct *dup_mm(struct mm_struct *oldmm)
{
	struct mm_struct *mm = mm_alloc(oldmm->q, oldmm->abi);
	int err;

	if (!mm)
		return ERR_PTR(-ENOMEM);
	err = mm_dup_vmas(mm, oldmm);
	if (err) {
		mmput(mm);
		return ERR_PTR(err);
	}
	return mm;
}
