/*
 * The text views: what a guest reads under /proc.  Each function appends the whole file to `out` (lib/fmt.h counts
 * past the end, so the caller sizes first and then allocates).
 *
 * All are called under no lock.  They take mm->lock and q->lock themselves, in short pieces: a reader goes on
 * by address after each piece and never holds an mm up.  What changes meanwhile may be seen or missed, as on Linux.
 * Formats are those of Linux 6.18 on x86-64, byte for byte, so that procps's parsers hold.
 */
#ifndef QUIRE_PROC_H
#define QUIRE_PROC_H
#include <fmt.h>
#include <quire/machine.h>

/* ---- proc/meminfo.c: /proc/meminfo ---- */
void proc_meminfo(struct quire *q, struct fmt_buf *out);

/* ---- proc/vmstat.c: /proc/vmstat ---- */
void proc_vmstat(struct quire *q, struct fmt_buf *out);

/* ---- proc/system.c: /proc/swaps, /proc/pressure/memory, /proc/loadavg ---- */
void proc_swaps(struct quire *q, struct fmt_buf *out);
/* /proc/pressure/memory */
void proc_pressure_memory(struct quire *q, struct fmt_buf *out);
/* load: the three averages in hundredths, as the port counts them; NULL = 0. */
void proc_loadavg(struct quire *q, const u64 load[3], struct fmt_buf *out);

/* maps and smaps in pieces, as a seq_file gives them: whole VMAs within a page, at least one.  One alone has at most
 * PROC_VMA_TEXT_MAX bytes (with the longest path); a buffer needs room for that behind the page. */
#define PROC_SEQ_PAGE PAGE_SIZE
#define PROC_VMA_TEXT_MAX 6144u
#define PROC_VMA_END (~0ull)

/* ---- proc/maps.c: /proc/PID/maps ---- */
void proc_maps(struct quire *q, struct mm_struct *mm, struct fmt_buf *out);
/* A piece, from addr on; returns where to go on, or PROC_VMA_END. */
u64 proc_maps_from(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out);

/* ---- proc/smaps.c: /proc/PID/smaps, smaps_rollup ---- */
void proc_smaps(struct quire *q, struct mm_struct *mm, struct fmt_buf *out);
u64 proc_smaps_from(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out); /* as proc_maps_from() */
void proc_smaps_rollup(struct quire *q, struct mm_struct *mm, struct fmt_buf *out);

/* ---- proc/pid.c: /proc/PID/status, statm, stat, oom_score, oom_score_adj, auxv ---- */
void proc_status(struct quire *q, struct task *t, struct fmt_buf *out);
/* Only the lines VmPeak to VmSwap, for a port that has the others from its host. */
void proc_status_vm(struct quire *q, struct mm_struct *mm, struct fmt_buf *out);
void proc_statm(struct quire *q, struct mm_struct *mm, struct fmt_buf *out);
/* What the core does not know (terminal, signals, CPU times) is 0. */
void proc_stat(struct quire *q, struct task *t, struct fmt_buf *out);
void proc_oom_score(struct quire *q, struct task *t, struct fmt_buf *out);
void proc_oom_score_adj(struct quire *q, struct task *t, struct fmt_buf *out);
/* A write to oom_score_adj, by somebody with or without CAP_SYS_RESOURCE.  0, -EINVAL or -EACCES. */
int proc_set_oom_score_adj(struct task *t, s64 adj, bool capable);
/* The same under its old name. */
void proc_oom_adj(struct task *t, struct fmt_buf *out);
int proc_set_oom_adj(struct task *t, s64 old, bool capable);
/* What is written to /proc/PID/clear_refs.  0 or -EINVAL. */
int proc_clear_refs(struct mm_struct *mm, s64 type);
void proc_auxv(struct quire *q, struct mm_struct *mm, struct fmt_buf *out); /* binary */

/* ---- proc/pagemap.c: /proc/PID/pagemap, /proc/kpagecount, /proc/kpageflags (binary) ---- */
/* Entries of n pages from addr on.  Returns how many were written (fewer at the end of user space). */
size_t proc_pagemap(struct mm_struct *mm, u64 addr, u64 *entries, size_t n);
u64 proc_kpagecount(struct quire *q, pfn_t pfn);
u64 proc_kpageflags(struct quire *q, pfn_t pfn);

/* ---- proc/translate.c: the walk to addr, level by level, its physical address and its frame ---- */
void proc_translate(struct quire *q, struct mm_struct *mm, u64 addr, struct fmt_buf *out);

/* Elsewhere: proc_slabinfo() and proc_vmallocinfo() in quire/kmem.h; proc_buddyinfo() and its kin in proc/phys_views.h. */

#endif
