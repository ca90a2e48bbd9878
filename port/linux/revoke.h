/* The lazy revocation protocol (revoke.c, hostmm.c; ../shared/revocation.md is restated in DESIGN.md). */
#ifndef QUIRE_LINUX_REVOKE_H
#define QUIRE_LINUX_REVOKE_H
#include "kernel.h"

struct host_mm *host_mm_of(struct mm_struct *mm);
/* exit path: publishes USER, then makes sure that nothing was revoked unseen. */
void flush_until_current(struct kthread *k);

/* ---- hostmm.c (instrumented: shared state in transactions) ---- */
struct ctx *ctx_alloc(struct quire *q, s32 pid, u64 serial); /* state KERNEL; NULL when MAX_CTX are in use */
void ctx_free(struct ctx *c);
/* The contexts of the process with that serial, one after the other: begin with NULL.  Takes pool_lock. */
struct ctx *ctx_next_of(u64 serial, const struct ctx *last);
u64 process_serial_new(void);
/* The context of a process that fork will make, announced to the supervisor: from here on only the supervisor frees it. */
struct ctx *ctx_alloc_child(struct quire *q, u64 serial, u64 parent);
/* EXPECTED -> state, with the number that is known by now (0: none).  False if it is not expected (any more). */
bool birth_change(struct ctx *c, u64 serial, u32 state, s32 pid);
void ctx_join_mm(struct ctx *c, struct mm_struct *mm);   /* takes mm->lock */
void ctx_leave_mm(struct ctx *c);                        /* takes mm->lock */
/* Entries logged after `since`: copies at most `room` (<= FLUSH_LOG) ranges into out, returns their number, or -1 when there are more: with
 * FLUSH_LOG the log was overrun, and everything must go.  *gen = generation that a flush of them reaches.  Takes mm->lock. */
int flush_log_read(struct mm_struct *mm, u64 since, struct flush_range *out, u32 room, u64 *gen);
/* Pins, newest last.  Takes mm->lock, so that a revoker either sees the pin or has bumped gen before. */
int pin_add(struct ctx *c, u64 start, u64 end);
void pins_drop(struct ctx *c);
/* Walks the contexts on mm under mm->lock; fn returns false to stop. */
void mm_for_each_ctx(struct mm_struct *mm, bool (*fn)(struct ctx *c, void *arg), void *arg);
/* ptrace.c.  The thread of that number on mm, if that process traces it. */
struct ctx *ctx_traced_by(struct mm_struct *mm, s32 tid, u64 tracer);
/* The same, and makes it be traced by `to`, in that state.  From nobody (0): not if it is a thread of `to` itself. */
struct ctx *ctx_trace_change(struct mm_struct *mm, s32 tid, u64 from, u64 to, u32 state);
bool ctx_trace_report(struct mm_struct *mm, s32 tid, u64 tracer); /* STOPPED -> REPORTED */
bool ctx_trace_registers(struct mm_struct *mm, s32 tid, u64 tracer, u64 *regs); /* of one that stands still; regs may be NULL */
void newborn_push(struct ctx *c);
struct ctx *newborn_pop(void);
#endif
