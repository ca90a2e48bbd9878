/*
 * Rewriting of hot system call sites (`--patch-syscalls`): patch.c, patch_store.c, patch_elf.c, x86_64/patch.S.
 *
 * A trap costs a signal; a rewritten site costs some jumps.  Text is never written to: the machine keeps *blocks*, copies of
 * 256 KiB of a file's text in frames of its own, shared by all its processes, and the software TLB maps a block instead of the
 * file where an address space maps that file private and executable (patch_map()).  The page tables know nothing of it.
 *
 *	FAR   b8 nr nr nr nr 0f 05   mov $nr, %eax; syscall       ->  ff 24 25 .. .. f4 3f   jmp *slot
 *	      A thread that was between the two meets `f4`, hlt: its #GP is taken for the system call that stood there.
 *	      Written only into a new block, which nobody executes yet.
 *	NEAR  0f 05                  syscall                      ->  eb ..                  jmp to a cave
 *	      A cave is padding between two functions that .eh_frame proves to be none of either: 7 bytes, jmp *slot.
 *	      Written into a block in use, a byte at a time: first hlt, which traps and counts as the call, then the distance,
 *	      then the jump, with all CPUs interrupted in between.  Who dies on the way leaves a hlt, which works.
 *
 * Slots are absolute addresses (PATCH_SLOTS), so a block is good at any address that the file is mapped at.  slot[i] points to
 * stub i, which loads i and goes on in patch_entry; kproc.patch.base[] says where this process has the block, hence where to return.
 */
#ifndef QUIRE_LINUX_PATCH_H
#define QUIRE_LINUX_PATCH_H
#include "patch_abi.h"
#include <quire/types.h>
#include <sync.h>

struct quire;

#define PATCH_BLOCK_ORDER 6u
#define PATCH_BLOCK_PAGES (1u << PATCH_BLOCK_ORDER)
#define PATCH_BLOCK_BYTES (PATCH_BLOCK_PAGES << PAGE_SHIFT)
#define PATCH_MAX_BLOCKS 64u
#define PATCH_NEAR_LEN 2u /* bytes from the site's start to where the guest goes on */
#define PATCH_FAR_LEN 7u

enum patch_kind { PATCH_FAR, PATCH_NEAR };
struct patch_site {
	u32 block;
	u32 off;  /* byte of the block where the rewritten bytes begin */
	s32 nr;   /* FAR: the call's number */
	u32 cave; /* NEAR: byte of the block where the cave begins */
	u32 kind; /* enum patch_kind */
};

struct patch_block {
	u64 dev, ino;
	u64 mtime_sec, mtime_nsec, size; /* of the file when it was copied */
	u64 index;                       /* block number in the file */
	pfn_t pfn;                       /* first of PATCH_BLOCK_PAGES frames, for good */
	u32 pages;                       /* that the file has */
	u32 stale;                       /* the file changed since: for nobody any more who does not have it mapped */
};

/* Traps from text that may become a block.  Guesses, raced for; two blocks with one place take turns. */
#define PATCH_TALLIES 256u
struct patch_tally {
	u64 key;
	u32 hits;
};

/* One per machine, in machine_shared.  Blocks and sites are only ever added.  Lock: patch_store.lock (leaf), to write;
 * reading needs none: what an index below the counts names is complete. */
struct patch_store {
	struct spinlock lock;
	u32 nblocks, nsites;
	pfn_t slots_unfilled, slots;     /* frames with the slot pointers; 0 = none yet */
	struct patch_block block[PATCH_MAX_BLOCKS];
	struct patch_site site[PATCH_MAX_SITES];
	struct patch_tally tally[PATCH_TALLIES]; /* by hash of file and block */
};

#define PATCH_HOT 128u
/* Private to a process.  Under kproc.install, except hot[], which is a guess and is raced for. */
struct patch_proc {
	u64 base[PATCH_MAX_BLOCKS];      /* address of the block's first byte; 0 = this process does not use it */
	u32 off;                         /* no more rewritten text in this process: the guest wants the slots' addresses */
	u32 slots_mapped;
	u32 own_only;                    /* a static program: text of other files is data to it (valgrind, emulators) */
	struct { u64 ip; u32 hits; } hot[PATCH_HOT]; /* trapping sites, hashed; hits ~0 = cannot be rewritten */
};

struct kthread;
struct ucontext_host;
struct run;
struct trap;

/* What patch_entry leaves on the trap stack (x86_64/patch.S). */
struct patch_frame {
	u64 a[6];   /* di, si, dx, r10, r8, r9 */
	u64 ax;     /* number, then result */
	u64 cx;     /* slot, then return address */
	u64 sp, flags;
};

/* ---- patch.c ---- */
/* After a trapped call from ip (behind the instruction): perhaps rewrites the site. */
void patch_consider(u64 ip, long nr);
/* The kernel was interrupted where registers are still, or again, the guest's: makes uc look as if the guest had been, at the
 * call or behind it. */
enum patch_place {
	PATCH_ELSEWHERE,
	PATCH_GUEST,  /* uc is the guest's now */
	PATCH_SLOW,   /* the same, by patch_slow: behind a call, or (k->fast_redo) one that is to be made now */
	PATCH_WINDOW, /* about to leave: a signal that is noted must be seen (patch_exit_again()) */
};
enum patch_place patch_leave(struct kthread *k, struct ucontext_host *uc);
void patch_exit_again(struct kthread *k, struct ucontext_host *uc);
/* The guest was interrupted in a cave: puts it back to the call. */
void patch_leave_cave(struct ucontext_host *uc);
/* A #GP of the guest's at a hlt that this file wrote: steps over it; the call is to be made. */
bool patch_is_hlt(struct ucontext_host *uc);
/* Maps the run in pieces, blocks where there are some.  Under install.  As map_run(). */
long patch_map(const struct run *r, long (*plain)(const struct run *));
/* The host mappings of [start, end) are gone.  Under install. */
void patch_unmapped(u64 start, u64 end);
/* A flush of [start, end): if it is the slots', the guest maps something there.  Under install. */
void patch_flushed(u64 start, u64 end);
/* Is addr a slot that is only not mapped?  Then it is now. */
bool patch_slot_fault(u64 addr);
/* The guest has mapped something up to or around `at`. */
void patch_check_room(u64 at);
/* exec: a new address space. */
void patch_exec(bool has_interp);

/* ---- patch_store.c (instrumented) ---- */
void patch_store_init(void);
/* Index of a block of that file and place, not stale unless this process uses it; -1 = none. */
int patch_block_find(u64 dev, u64 ino, u64 index);
/* Under no lock; may reclaim.  Adds a block.  Its index; -1: somebody was faster, or there are too many; -ENOMEM. */
int patch_block_add(struct quire *q, struct patch_block *b); /* takes frames; nobody maps it before it is published */
void patch_block_publish(u32 i, u32 pages);
/* A slot for a site and the jump to it, or -1. */
int patch_far_add(const struct patch_site *s, u8 *block);
int patch_near_add(const struct patch_site *s, u8 *block);
int patch_site_find(u32 block, u32 off);
/* The guest opens that file: blocks made of an older state of it are for nobody new. */
void patch_note_file(u64 dev, u64 ino, u64 size, u64 mtime_sec, u64 mtime_nsec);
pfn_t patch_slots_alloc(struct quire *q, unsigned order); /* 0: no memory */
void patch_slots_publish(void);

/* ---- patch_elf.c ---- */
struct file;
struct patch_elf {
	struct file *f;
	u64 load_off, load_vaddr, load_size; /* the executable segment */
	u64 hdr_off, hdr_vaddr;              /* .eh_frame_hdr */
	u64 eh_bias;                         /* vaddr - file offset of the segment that .eh_frame lies in */
	u32 nfde;
};
/* Reads what is needed to know functions' ends.  False if the file does not say so in the usual way. */
bool patch_elf_open(struct patch_elf *e, struct file *f, u64 off);
/* The function that the byte at file offset `off` belongs to, and where the next one begins; all file offsets. */
bool patch_function_at(struct patch_elf *e, u64 off, u64 *start, u64 *end, u64 *next);
#endif
