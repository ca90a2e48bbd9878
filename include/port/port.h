/*
 * The port contract: the memory machine under the core.  See PORTING.md.
 *
 * Laws (design.md section 4): valid -> valid never changes the frame (clear, flush, install);
 * flush before a frame is reused, and a flush may be refused; ports never allocate from the core;
 * only port_wait and block I/O block, never under a spin lock; errors are negative errnos.
 */
#ifndef PORT_PORT_H
#define PORT_PORT_H
#include <quire/types.h>

struct quire;
struct mm_struct;
struct ctx;

/* ---- capabilities: asked, never #ifdef'ed in the core ---- */
#define PORT_CAP_HW_AF BIT(0)        /* the MMU sets the Access flag by itself */
#define PORT_CAP_HW_DBM BIT(1)       /* the MMU sets dirty (clears AP[2]) by itself */
#define PORT_CAP_DIRECT_MAP BIT(2)   /* every frame has a kernel address */
#define PORT_CAP_HOST_FILES BIT(3)   /* file folios are tokens: bytes live in the host's page cache */
#define PORT_CAP_VIRGIN_ZERO BIT(4)  /* never-used frames read as zero */
#define PORT_CAP_TBI BIT(5)          /* the MMU ignores the top byte of user addresses */
#define PORT_CAP_BBM BIT(6)          /* a translation may change its size, its frames unchanged, without break-before-make (FEAT_BBM) */
#define PORT_CAP_CONT BIT(7)         /* the TLB makes use of the contiguous hint */
#define PORT_CAP_DEAR_FAULTS BIT(8)  /* an Access flag fault costs thousands of instructions: reclaim asks for use more rarely */
u64 port_caps(const struct quire *q);

/* ---- contexts and waiting ---- */
/* The calling thread's context.  Never NULL where core code may run. */
struct ctx *port_ctx(void);
/* The same where the port can tell at once, else NULL: for hot paths that have a slower one. */
struct ctx *port_ctx_quick(void);
/* Is that context still alive?  False only if it certainly died. */
bool port_ctx_alive(const struct ctx *c);
/* A waiter's complaint: that living context has held a lock for milliseconds.  It may have been stopped by somebody outside; the port
 * sees to it that it goes on.  In any state, cheap. */
void port_owner_slow(struct ctx *owner);
/* The context with that id; NULL if there never was one.  Used to look at the owner of a lock. */
struct ctx *port_ctx_by_id(u32 id);
/* Test aid: should a long transaction commit now although its log has room?  (See txn_should_break.) */
bool port_break_hint(struct ctx *c);
/* Index of the CPU the caller runs on, a hint: 0 <= n < q->nr_cpus. */
unsigned port_cpu(void);
/* Sleeps while *word == expected, at most timeout_ns (~0 = for ever).  Returns 0 when woken (also
 * spuriously), -EAGAIN if *word differed, -ETIMEDOUT, -EINTR if the context has something urgent to do. */
int port_wait(u32 *word, u32 expected, u64 timeout_ns);
/* Wakes at most n sleepers on word, in any process of the machine. */
void port_wake(u32 *word, u32 n);
/* Busy-wait hint. */
void port_relax(void);
/* Monotonic nanoseconds.  The sim port counts its own time, so that runs replay. */
u64 port_clock_ns(void);
/* 64 random bits from the machine's seed (sim) or the host (hosted, unless --seed). */
u64 port_random(struct quire *q);

/* ---- frames ---- */
/* Kernel address of frame pfn by the direct map; NULL for a HighMem frame. */
void *port_frame_address(struct quire *q, pfn_t pfn);
/* Not logged by transactions; va is a direct-map address, n pages. */
void port_clear_pages(void *va, size_t n);
void port_copy_pages(void *dst, const void *src, size_t n);

/* Does any CPU run a program's own code at this moment?  A hint, for statistics.  Any context. */
bool port_programs_run(const struct quire *q);

/* ---- translations of user address spaces ---- */
/* Gives mm what the port keeps per address space (ASID, generation).  0 or -ENOMEM.  Under no lock. */
int port_mm_init(struct mm_struct *mm);
void port_mm_destroy(struct mm_struct *mm);
/* Under mm->lock, after PTEs in [start, end) were cleared or restricted: no *new* use of the old
 * translations once port_tlb_sync() has returned.  Cannot fail. */
void port_tlb_flush_range(struct mm_struct *mm, u64 start, u64 end);
/* The same when all that [start, end) lost is the permission to write: reads through the old translations stay right. */
void port_tlb_protect_range(struct mm_struct *mm, u64 start, u64 end);
/* Under no lock: returns when no CPU of any process can use a translation flushed before the call, except
 * pinned ranges, which the flusher skipped beforehand (port_range_pinned). */
void port_tlb_sync(struct mm_struct *mm);
/* Under mm->lock: may a native call in flight (or a device) touch [start, end)?  Such pages must be neither
 * revoked for reclaim nor write-protected for aging; fork copies them for the child at once. */
bool port_range_pinned(struct mm_struct *mm, u64 start, u64 end);
/* Under q->lock or none: kernel translations (vmalloc, kmap) in [start, end) were removed. */
void port_kernel_flush(struct quire *q, u64 start, u64 end);

/* ---- words to people ---- */
/* Appends one line (no newline) to the host's log; level as in syslog(2), 0-7. */
void port_log(struct quire *q, int level, const char *text, size_t len);
/* The machine cannot go on: say why and end it. */
void port_panic(struct quire *q, const char *text) __attribute__((noreturn));

/* ---- failure injection ---- */
/* Asked by every allocator before it allocates; true = fail this one.  kind: a FAIL_* below. */
#define FAIL_PAGE 1
#define FAIL_SLAB 2
#define FAIL_VMALLOC 3
#define FAIL_IO 4
bool port_should_fail(struct quire *q, unsigned kind);

#endif
