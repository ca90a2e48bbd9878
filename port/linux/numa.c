/*
 * Memory policy on a machine with one node (numa(7)): every valid request is granted, every page is on node 0.
 */
#include "hostsys.h"
#include "memory.h"
#include "../../mm/mm.h"
#include <linux/capability.h>

#define MPOL_MODES 7u           /* MPOL_DEFAULT .. MPOL_WEIGHTED_INTERLEAVE */
#define MPOL_MODE_FLAGS 0xe000u
#define MPOL_DEFAULT_ 0u
#define MPOL_PREFERRED_ 1u
#define MPOL_LOCAL_ 4u
#define MPOL_MF_STRICT_ 1u
#define MPOL_MF_MOVE_ALL_ 4u
#define MPOL_F_NODE_ 1u
#define MPOL_F_ADDR_ 2u
#define MPOL_F_MEMS_ALLOWED_ 4u
#define MAX_NODES 4096u

/* The first word of a node mask, or errno; maxnode counts one too many (set_mempolicy(2), BUGS). */
static long read_nodes(u64 mask, u64 maxnode, u64 *nodes)
{
	*nodes = 0;
	if (!mask || maxnode <= 1)
		return 0;
	if (maxnode - 1 > MAX_NODES)
		return -EINVAL;
	if (copy_from_user(nodes, mask, 8))
		return -EFAULT;
	if (maxnode - 1 < 64)
		*nodes &= (1ull << (maxnode - 1)) - 1;
	return 0;
}

/* Does the policy make sense, and does it name a node that exists? */
static long check_policy(u64 mode, u64 mask, u64 maxnode)
{
	u64 kind = mode & ~(u64)MPOL_MODE_FLAGS, nodes;
	long ret;

	if (kind >= MPOL_MODES)
		return -EINVAL;
	ret = read_nodes(mask, maxnode, &nodes);
	if (ret)
		return ret;
	if (kind == MPOL_DEFAULT_)
		return nodes || (mode & MPOL_MODE_FLAGS) ? -EINVAL : 0;
	if (kind == MPOL_LOCAL_)
		return nodes ? -EINVAL : 0;
	if (!nodes)
		return kind == MPOL_PREFERRED_ ? 0 : -EINVAL;
	return nodes & 1 ? 0 : -EINVAL;
}

/* Seven bits: mode, mode flags (shifted down), whether node 0 is named.  MPOL_PREFERRED of nothing is MPOL_LOCAL. */
static u32 encode_policy(u64 mode, u64 nodes)
{
	u32 kind = mode & 7;

	if (kind == MPOL_PREFERRED_ && !(nodes & 1))
		kind = MPOL_LOCAL_;
	if (kind == MPOL_DEFAULT_)
		return 0;
	return kind | (u32)(mode & MPOL_MODE_FLAGS) >> 10 | (nodes & 1 ? 0x40 : 0);
}

long guest_mbind(const u64 a[6])
{
	u64 len = PAGE_ALIGN(a[1]), nodes;
	long ret;

	if ((a[0] & ~PAGE_MASK) || (a[5] & ~7ull))
		return -EINVAL;
	if (a[0] + len < a[0])
		return -EINVAL;
	ret = check_policy(a[2], a[3], a[4]);
	if (!ret)
		ret = read_nodes(a[3], a[4], &nodes);
	if (ret || !len)
		return ret;
	/* MPOL_MF_STRICT: every page is on node 0; is that where it belongs? */
	return do_mbind(kproc.mm, a[0], len, encode_policy(a[2], nodes), (a[5] & 3) == MPOL_MF_STRICT_ && a[2] && !(nodes & 1));
}

long guest_set_mempolicy(const u64 a[6])
{
	return check_policy(a[0], a[1], a[2]);
}

/* Is a page there that the hardware would read?  Then nobody asks for rights (Linux's get_user_pages_fast()). */
static bool is_mapped(u64 addr)
{
	struct mm_struct *mm = kproc.mm;
	pte_t p;

	if (addr >= GUEST_END)
		return false;
	spin_lock(&mm->lock);
	p = pte_at(mm, addr);
	spin_unlock(&mm->lock);
	return pte_present(p) && pte_user(p) && !pte_special(p);
}

long guest_get_mempolicy(const u64 a[6])
{
	u64 nodes = (a[4] & MPOL_F_MEMS_ALLOWED_) ? 1 : 0, words, i;
	long policy = 0;
	s32 mode = 0;
	u8 byte;

	if ((a[4] & ~7ull) || (a[1] && !a[2]))
		return -EINVAL;
	if ((a[4] & MPOL_F_MEMS_ALLOWED_) && (a[4] & (MPOL_F_NODE_ | MPOL_F_ADDR_)))
		return -EINVAL;
	if (!(a[4] & (MPOL_F_ADDR_ | MPOL_F_MEMS_ALLOWED_)) && a[3])
		return -EINVAL;
	if (a[4] & MPOL_F_ADDR_)
		policy = vma_policy(kproc.mm, a[3]);
	if (policy < 0)
		return policy;
	/* Whose node is asked: the page's, which is brought in for that; a task that interleaves there is none. */
	if ((a[4] & 3) == MPOL_F_NODE_)
		return -EINVAL;
	if ((a[4] & MPOL_F_NODE_) && access_process_vm_flags(kproc.mm, a[3], &byte, 1, false, is_mapped(a[3]) ? ACCESS_FORCE : 0) != 1)
		return -EFAULT;
	if (!(a[4] & MPOL_F_NODE_))
		mode = (s32)((policy & 7) | (policy & 0x38) << 10);
	nodes |= (u64)policy >> 6;
	if (a[0] && copy_to_user(a[0], &mode, 4))
		return -EFAULT;
	words = a[1] ? MIN((a[2] - 1 + 63) / 64, MAX_NODES / 64) : 0;
	for (i = 0; i < words; i++, nodes = 0)
		if (copy_to_user(a[1] + 8 * i, &nodes, 8))
			return -EFAULT;
	return 0;
}

/* Where each page is: node 0 when it is present, else -ENOENT, -EFAULT outside mappings (move_pages(2)). */
static s32 page_node(struct mm_struct *mm, u64 addr)
{
	s32 node;
	pte_t p;

	if (addr >= GUEST_END)
		return -EFAULT;
	spin_lock(&mm->lock);
	p = pte_at(mm, addr);
	if (!vma_lookup(mm, addr))
		node = -EFAULT;
	else if (pte_valid(p))
		node = pte_special(p) ? -EFAULT : 0;
	else
		node = -ENOENT;
	spin_unlock(&mm->lock);
	return node;
}

static long move_pages_of(struct mm_struct *mm, const u64 a[6])
{
	u64 i, page;
	s32 node, want;

	for (i = 0; i < a[1]; i++) {
		if (copy_from_user(&page, a[2] + 8 * i, 8))
			return -EFAULT;
		if (a[3]) {
			if (copy_from_user(&want, a[3] + 4 * i, 4))
				return -EFAULT;
			if (want != 0)
				return -ENODEV;
		}
		node = page_node(mm, page);
		if (copy_to_user(a[4] + 4 * i, &node, 4))
			return -EFAULT;
	}
	return 0;
}

/* The address space of a process, 0 for the caller's, with a reference; ERR_PTR if there is none or it may not be touched. */
static struct mm_struct *mm_of_process(s32 pid)
{
	long ok = pid ? guest_may_attach(pid) : kproc.pid;
	struct task *t = ok > 0 ? task_find_get(kproc.task->q, (s32)ok) : NULL;
	struct mm_struct *mm = t ? task_get_mm(t) : NULL;

	if (t)
		task_put(t);
	return mm ? mm : ERR_PTR(ok < 0 ? ok : -ESRCH);
}

long guest_move_pages(const u64 a[6])
{
	struct mm_struct *mm;
	long ret;

	if (a[5] & ~6ull)
		return -EINVAL;
	if ((a[5] & MPOL_MF_MOVE_ALL_) && !host_capable(CAP_SYS_NICE))
		return -EPERM;
	mm = mm_of_process((s32)a[0]);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	ret = move_pages_of(mm, a);
	mmput(mm);
	return ret;
}

/* There is nowhere to go. */
long guest_migrate_pages(const u64 a[6])
{
	u64 old, new;
	struct mm_struct *mm;
	long ret = read_nodes(a[2], a[1], &old);

	if (!ret)
		ret = read_nodes(a[3], a[1], &new);
	if (ret)
		return ret;
	mm = mm_of_process((s32)a[0]);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	mmput(mm);
	if ((new & ~1ull) && !host_capable(CAP_SYS_NICE))
		return -EPERM;
	return new & 1 ? 0 : -EINVAL;
}
