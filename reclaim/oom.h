/*
 * Inside the OOM killer: what its three files share.  oom.c decides, oom_report.c tells, oom_reap.c takes memory back.
 * All under no lock; q->oom_lock (a mutex) where it says so.
 */
#ifndef QUIRE_OOM_H
#define QUIRE_OOM_H
#include "reclaim.h"

#define OOM_SCORE_ADJ_MIN (-1000)

/* What the allocation that failed was, and what came of it. */
struct oom_control {
	struct quire *q;
	struct task *self;        /* who asked; NULL = the machine itself */
	gfp_t gfp;
	unsigned order;
	struct task *chosen;      /* with a reference; NULL = nobody may be killed */
	long points;              /* of chosen */
	const char *message;      /* how the report begins the line that names the victim */
	bool for_asking;          /* chosen because it asked (vm.oom_kill_allocating_task) */
	u64 last_scanned, last_stolen; /* pages: what the last attempt at reclaim looked at and freed */
};

/* A task as the report shows it, read at one moment. */
struct oom_task {
	char comm[TASK_COMM_LEN];
	s32 pid, adj;
	u32 uid, state;           /* enum oom_state */
	struct mm_usage u;
};

/* ---- reclaim/oom.c ---- */
/* False after exit: it has no memory to speak of. */
bool oom_task_view(struct task *t, struct oom_task *v);
/* Pages of all memory that a process might fill: what points are measured against. */
u64 oom_totalpages(struct quire *q);
/* Points by what a task uses; LONG_MIN for one that must not be killed (again). */
long oom_points(struct quire *q, const struct oom_task *v);
/* Pages that reclaim looked at and freed since the machine began. */
void oom_reclaim_counts(struct quire *q, u64 *scanned, u64 *stolen);

/* ---- reclaim/oom_report.c: under q->oom_lock ---- */
/* Linux's report up to the table of tasks; then, if somebody was chosen, who goes.  Nothing if too many were written lately. */
void oom_dump(struct oom_control *oc);
/* In plain words: what memory was used for and by whom, what reclaim got, why this victim, what would have saved it. */
void oom_explain(struct oom_control *oc);

/* ---- reclaim/oom_reap.c ---- */
/* Takes the private memory of victims that had their time to die by themselves. */
void oom_reap_victims(struct quire *q);

#endif
