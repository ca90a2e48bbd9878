/* The software-filled TLB (refill.c) and the anchors of mapped files (anchor.c). */
#ifndef QUIRE_LINUX_REFILL_H
#define QUIRE_LINUX_REFILL_H
#include "kernel.h"

enum run_kind { RUN_RAM, RUN_ZERO, RUN_FILE };
struct run {
	u64 start, end;   /* guest addresses */
	enum run_kind kind;
	u32 prot;
	pfn_t pfn;        /* RUN_RAM: of start */
	struct address_space *mapping; /* RUN_FILE */
	u64 dev, ino, off; /* RUN_FILE: file and byte offset of start */
	bool shared_write; /* RUN_FILE: the VMA is shared and may be written */
	bool in_use;      /* RUN_RAM: the host has its frames, and they are about to be used */
};

/* Maps the run around addr if the page tables allow `need` (PROT_*).  0, -ENOENT (ask the core), or a host error. */
long host_refill(u64 addr, u32 need);

/* What the page tables allow to read in [start, end) is mapped, as they allow it. */
void host_map_present(u64 start, u64 end);

/* A thread of a process that forks: mappings made after the address space was copied are the parent's only.  Under no
 * lock; then in the child, with nobody else there. */
u64 installs_mark(void);
void installs_undo(u64 mark);

/* Drops the host mappings of [start, end), except what a native call of this process uses: that is mapped again.  Under install. */
void host_tlb_drop_range(u64 start, u64 end);
/* hugeram.c: [offset, offset + len) of RAM will be used: host frames for it, by huge pages. */
void ram_populate(u64 offset, u64 len);

/* ---- anchor.c: one hidden mapping per mapped host file and protection; mremap(anchor, 0, ...) duplicates it ---- */
/* Makes sure that [0, end) bytes of the file can be mapped.  fd: the guest's.  0 or negative errno as mmap(2). */
long anchor_create(int fd, u64 dev, u64 ino, u64 end, bool writable);
/* Maps [off, off+len) of the file at addr (guest range, replaced).  Under install. */
long anchor_map(u64 dev, u64 ino, u64 off, u64 addr, u64 len, u32 prot);
/* A kernel address where byte off of the file can be read (and written if `write`) now, and how far: NULL if unknown. */
void *anchor_bytes(u64 dev, u64 ino, u64 off, bool write, u64 *avail);
long anchor_attach(int shmid, u64 dev, u64 ino, u64 size, bool writable);
/* exec, shmdt: when there are many, forget those that the new address space does not map. */
void anchors_trim(void);
/* Between these, under no lock, no anchor goes: one that is being made has no mapping yet, and another thread may unmap the
 * one whose bytes are copied. */
void anchors_hold(void);
void anchors_release(void);
void anchors_forget_holders(void); /* the child of a fork: the parent's other threads are not here */
bool anchors_counted(void); /* some anchors must not outlive their last mapping */
#endif
