/*
 * Limits, rights and personality of a guest: getrlimit(2), setrlimit(2), prlimit(2), capabilities, personality(2).
 *
 * Limits on memory are the machine's: the host would hold them against this kernel's own mappings, and count what it maps for the
 * guest by its own rules.  The other limits are the host's.  A personality is told to the host too, for what it does itself
 * (uname's names), but for the bits that would change this kernel's own mappings.
 */
#include "memory.h"
#include "hostsys.h"
#include "process.h"
#include <linux/capability.h>

#define RLIMIT_DATA_ 2
#define RLIMIT_STACK_ 3
#define RLIMIT_MEMLOCK_ 8
#define RLIMIT_AS_ 9
#define PERSONALITY_QUERY 0xffffffffu

/* Limits that must not bite the host's own bookkeeping are virtual (design: the guest's limits never bite the machine). */
static struct rlimit_pair virtual_rlimit[NR_RLIMITS];

static bool is_virtual(u64 resource)
{
	return resource == RLIMIT_DATA_ || resource == RLIMIT_STACK_ || resource == RLIMIT_MEMLOCK_ ||
	       resource == RLIMIT_AS_;
}

void rlimits_init(const struct rlimit_pair *users)
{
	struct rlimit_pair wide = { ~0ull, ~0ull };
	u64 i;

	for (i = 0; i < NR_RLIMITS; i++) {
		if (!is_virtual(i))
			continue;
		virtual_rlimit[i] = users[i];
		if (i != RLIMIT_STACK_)
			host_call(__NR_prlimit64, 0, i, &wide, NULL);
	}
}

u64 rlimit_stack(void)
{
	return virtual_rlimit[RLIMIT_STACK_].cur;
}

/* Rights are the host's to give and to take (setuid and capset are native): looked up when they matter. */
static u64 host_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (host_call(__NR_capget, &head, data))
		return 0;
	return data[0].effective | (u64)data[1].effective << 32;
}

bool host_capable(unsigned cap)
{
	return host_capabilities() >> cap & 1;
}

void capabilities_refresh(struct mm_struct *mm)
{
	u64 caps = host_capabilities();

	mm->cap_ipc_lock = caps & BIT(CAP_IPC_LOCK);
	mm->cap_sys_rawio = caps & BIT(CAP_SYS_RAWIO);
}

void rlimits_apply(struct mm_struct *mm)
{
	spin_lock(&mm->lock);
	mm->rlim_as = virtual_rlimit[RLIMIT_AS_].cur;
	mm->rlim_data = virtual_rlimit[RLIMIT_DATA_].cur;
	mm->rlim_stack = virtual_rlimit[RLIMIT_STACK_].cur;
	mm->rlim_memlock = virtual_rlimit[RLIMIT_MEMLOCK_].cur;
	capabilities_refresh(mm);
	spin_unlock(&mm->lock);
}

static long prlimit_virtual(u64 resource, u64 new, u64 old)
{
	struct rlimit_pair *v = &virtual_rlimit[resource], was = *v, want;

	if (new) {
		if (copy_from_user(&want, new, sizeof(want)))
			return -EFAULT;
		if (want.cur > want.max)
			return -EINVAL;
		if (want.max > v->max && !host_capable(CAP_SYS_RESOURCE))
			return -EPERM;
		*v = want;
		rlimits_apply(kproc.mm);
	}
	if (old && copy_to_user(old, &was, sizeof(was)))
		return -EFAULT;
	return 0;
}

long sys_prlimit64(struct trap *t, const u64 a[6])
{
	if ((a[0] == 0 || (s32)a[0] == kproc.pid) && a[1] < NR_RLIMITS && is_virtual(a[1]))
		return prlimit_virtual(a[1], a[2], a[3]);
	return native_syscall(t, __NR_prlimit64, a);
}

long sys_getrlimit(struct trap *t, const u64 a[6])
{
	if (a[0] < NR_RLIMITS && is_virtual(a[0]))
		return prlimit_virtual(a[0], 0, a[1]);
	return native_syscall(t, __NR_getrlimit, a);
}

long sys_setrlimit(struct trap *t, const u64 a[6])
{
	if (a[0] < NR_RLIMITS && is_virtual(a[0]))
		return prlimit_virtual(a[0], a[1], 0);
	return native_syscall(t, __NR_setrlimit, a);
}

/* ---- personality ---- */

static void personality_set(u32 persona)
{
	host_call(__NR_personality, persona & ~READ_IMPLIES_EXEC);
	kproc.task->personality = persona;
}

long sys_personality(u32 persona)
{
	u32 was = kproc.task->personality;

	if (persona != PERSONALITY_QUERY)
		personality_set(persona);
	return was;
}

void personality_init(u32 persona)
{
	personality_set(persona);
}

void personality_exec(struct exec_args *args)
{
	u32 persona = kproc.task->personality;

	args->aslr = !(shared_area()->options & OPT_NO_ASLR) && !(persona & ADDR_NO_RANDOMIZE);
	args->compat_layout = persona & ADDR_COMPAT_LAYOUT;
}

void personality_executed(void)
{
	if (kproc.task->personality & READ_IMPLIES_EXEC)
		personality_set(kproc.task->personality & ~READ_IMPLIES_EXEC); /* Linux: set_personality_64bit() */
}
