/*
 * Kernel threads of a host process: trap slots, and binding a host thread to a context.
 *
 * A trap slot is TRAP_SLOT_SIZE bytes of private memory: struct kthread at the bottom, the alternate signal stack above.  It must be
 * private (fork copies it), and it must outlive the thread's last instruction: slot_busy[] is the thread's
 * CLONE_CHILD_CLEARTID word, so the host itself says when a slot may be used again.
 */
#include "process.h"
#include "hostsys.h"
#include "revoke.h"
#include "x86_64/regs.h"

#define MAX_SLOTS 8192u
static u32 slot_busy[MAX_SLOTS];
static u32 slot_mapped; /* slots below have memory */

u32 *kthread_slot_word(struct kthread *k)
{
	return &slot_busy[k->slot];
}

static bool slot_claim(u32 i)
{
	u32 zero = 0;

	return !slot_busy[i] &&
	       __atomic_compare_exchange_n(&slot_busy[i], &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

struct kthread *kthread_alloc(void)
{
	struct kthread *k;
	u32 i;

	for (i = 0; i < MAX_SLOTS && !slot_claim(i); i++)
		;
	if (i == MAX_SLOTS)
		return NULL;
	kproc.threaded = 1;
	k = (struct kthread *)(TRAP_BASE + i * TRAP_SLOT_SIZE);
	if (i >= READ_ONCE(slot_mapped)) {
		if (host_call(__NR_mmap, k, TRAP_SLOT_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) < 0) {
			slot_busy[i] = 0;
			return NULL;
		}
		/* Slots are handed out lowest first, so this only ever grows by the newest one; a racing pair may map
		 * out of order, hence the maximum. */
		if (i + 1 > slot_mapped)
			slot_mapped = i + 1;
	}
	memset(k, 0, sizeof(*k));
	k->self = k;
	k->slot = i;
	k->syscall_nr = -1;
	return k;
}

void kthread_free(struct kthread *k)
{
	__atomic_store_n(&slot_busy[k->slot], 0, __ATOMIC_RELEASE);
}

/* After fork: only the forking thread lives on in the child. */
void kthread_forget_others(struct kthread *k)
{
	u32 i;

	if (kproc.threaded)
		kproc.threaded = 0;
	for (i = 0; i < slot_mapped; i++)
		if (i != k->slot && slot_busy[i])
			slot_busy[i] = 0;
}

void *kthread_stack_top(struct kthread *k)
{
	return (u8 *)k + TRAP_SLOT_SIZE;
}

/* Without the alternate stack: a supervisor thread takes no traps. */
void kthread_bind_light(struct kthread *k, struct ctx *c)
{
	k->ctx = c;
	k->tid = (s32)host_call(__NR_gettid);
	set_gs_base((u64)k);
	c->port_data[CTXP_TID] = (u64)k->tid;
	k->robust_entry = (u64)&k->robust;
	k->robust.next = (u64)&k->robust_entry;
	k->robust.off = (u64)&c->life - (u64)&k->robust_entry;
	k->robust.pending_op = 0;
	__atomic_store_n(&c->life, (u32)k->tid, __ATOMIC_RELEASE);
	host_call(__NR_set_robust_list, &k->robust, sizeof(k->robust));
}

void kthread_bind(struct kthread *k, struct ctx *c)
{
	struct stack_host ss = { .sp = (u64)(k + 1), .size = TRAP_SLOT_SIZE - sizeof(*k) };

	host_call(__NR_sigaltstack, &ss, NULL);
	kthread_bind_light(k, c);
}

/* Here and not in hostmm.c, because no store of it may be logged: the child calls it before it has a context of its own, and what it logged
 * would go into its parent's log, between the parent's entries. */
bool birth_change(struct ctx *c, u64 serial, u32 state, s32 pid)
{
	u64 seen = birth_word(serial, BIRTH_EXPECTED, 0), to = birth_word(serial, state, pid), *word = &c->port_data[CTXP_BIRTH];

	if (__atomic_compare_exchange_n(word, &seen, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return true;
	/* The parent was faster in saying the child's number. */
	return state == BIRTH_BORN && seen == birth_word(serial, BIRTH_EXPECTED, pid) &&
	       __atomic_compare_exchange_n(word, &seen, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
