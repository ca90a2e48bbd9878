/*
 * The table walker: reads descriptors from simulated RAM as an ARMv8.0 MMU does (ARM DDI 0487, D8.2, D8.3, D8.4).
 *
 *	63 62:61 60 59 | 58:55 | 54  53  52   51  | 47        12 | 11 10 9:8 7:6 5  4:2      1    0
 *	table: NS AP UXN PXN   |                  | next table   |                          1    1
 *	leaf:                  | UXN PXN Cont DBM | output       | nG AF SH  AP  NS AttrIndx type 1
 *
 * Written from the manual and deliberately not sharing a line with the core's walker, so that they check each other.
 * Descriptors are changed by the core with plain stores while a CPU walks, as on hardware; read_desc() is therefore
 * exempt from the thread sanitizer.
 */
#include "mmu_internal.h"

#define DESC_VALID BIT(0)
#define DESC_TABLE BIT(1) /* levels 0-2: table; level 3: page */
#define DESC_AP1 BIT(6)   /* EL0 may access */
#define DESC_AP2 BIT(7)   /* read-only */
#define DESC_AF BIT(10)
#define DESC_NG BIT(11)
#define DESC_DBM BIT(51)
#define DESC_CONT BIT(52)
#define DESC_PXN BIT(53)
#define DESC_UXN BIT(54)
#define DESC_PXN_TABLE BIT(59)
#define DESC_UXN_TABLE BIT(60)
#define DESC_AP_TABLE0 BIT(61) /* no EL0 access below */
#define DESC_AP_TABLE1 BIT(62) /* no write below */
#define DESC_ADDR 0x0000fffffffff000ull

#define FSC_ADDRESS_SIZE 0x00u
#define FSC_EXTERNAL_WALK 0x14u
#define CONT_ENTRIES 16u

SIM_RACY u64 sim_read_desc(const u64 *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

u64 *sim_desc_host(struct sim_machine *m, u64 pa)
{
	return pa + 8 <= m->ram_bytes ? (u64 *)(void *)(m->ram + pa) : NULL;
}

static unsigned level_shift(unsigned level)
{
	return 39 - 9 * level;
}

/* D8.4: data and instruction permissions from AP, UXN, PXN and the table attributes above. */
static u8 leaf_perms(u64 desc, u64 hier)
{
	bool user = (desc & DESC_AP1) && !(hier & DESC_AP_TABLE0);
	bool write = !(desc & DESC_AP2) && !(hier & DESC_AP_TABLE1);
	bool ux = !(desc & DESC_UXN) && !(hier & DESC_UXN_TABLE);
	/* What EL0 may write, EL1 never executes. */
	bool px = !(desc & DESC_PXN) && !(hier & DESC_PXN_TABLE) && !(user && write);
	u32 p = SIM_PERM_KR;

	p |= write ? SIM_PERM_KW : 0;
	p |= user ? SIM_PERM_UR | SIM_PERM_USER : 0;
	p |= user && write ? SIM_PERM_UW : 0;
	p |= ux ? SIM_PERM_UX : 0;
	p |= px ? SIM_PERM_KX : 0;
	return (u8)p;
}

/* D8.6.1: the 16 members of a contiguous set must agree, but for AF and the dirty state.  A set that is only partly
 * valid (being installed) is treated as single entries. */
static bool contiguous_set(struct sim_machine *m, const struct sim_walk *w, unsigned shift)
{
	u64 first_pa = ALIGN_DOWN(w->desc_pa, CONT_ENTRIES * 8);
	u64 ignore = DESC_AF | (w->desc & DESC_DBM ? DESC_AP2 : 0);
	u64 step = 1ull << shift;
	u64 base = (w->desc & ~ignore) - ((w->desc_pa - first_pa) / 8) * step;
	bool bad = (w->desc & DESC_ADDR & (step * CONT_ENTRIES - 1)) != (w->desc_pa - first_pa) / 8 * step;
	unsigned i;

	for (i = 0; i < CONT_ENTRIES; i++) {
		u64 d = sim_read_desc(sim_desc_host(m, first_pa + i * 8));

		if (!(d & DESC_VALID))
			return false;
		bad |= (d & ~ignore) != base + i * step;
	}
	if (bad)
		sim_violation(m, &m->stats.cont_bad, "contiguous set disagrees", w->desc_pa, w->desc);
	return !bad;
}

static void walk_leaf(struct sim_machine *m, struct sim_walk *w, u64 hier)
{
	unsigned shift = level_shift(w->level);
	u64 oa = w->desc & DESC_ADDR & ~((1ull << shift) - 1);

	if (oa >> SIM_PA_BITS) {
		w->fsc = FSC_ADDRESS_SIZE + w->level;
		return;
	}
	w->fsc = w->desc & DESC_AF ? SIM_FSC_NONE : FSC_ACCESS + w->level;
	w->perms = leaf_perms(w->desc, hier);
	w->writable_clean = (w->desc & DESC_DBM) && (w->desc & DESC_AP2) && !(hier & DESC_AP_TABLE1);
	w->global = !(w->desc & DESC_NG);
	w->shift = (u8)shift;
	w->pa = oa;
	if ((w->desc & DESC_CONT) && w->level >= 2 && contiguous_set(m, w, shift)) {
		w->shift += 4;
		w->pa = ALIGN_DOWN(oa, 1ull << w->shift);
	}
}

void sim_walk_table(struct quire *q, u64 table, u64 va, struct sim_walk *w)
{
	struct sim_machine *m = sim_of(q);
	u64 hier = 0;
	unsigned level;

	*w = (struct sim_walk){ 0 };
	for (level = 0; level < 4; level++) {
		u64 desc_pa = table + ((va >> level_shift(level)) & 511) * 8;
		u64 *p = sim_desc_host(m, desc_pa);

		w->level = (u8)level;
		if (!p) {
			w->fsc = FSC_EXTERNAL_WALK + level;
			return;
		}
		w->desc_pa = desc_pa;
		w->desc = w->path[level] = sim_read_desc(p);
		/* Level 0 has no blocks and level 3 nothing but pages: reserved encodings are invalid. */
		if (!(w->desc & DESC_VALID) || (!(w->desc & DESC_TABLE) && (level == 0 || level == 3))) {
			w->fsc = FSC_TRANSLATION + level;
			return;
		}
		if (level == 3 || !(w->desc & DESC_TABLE)) {
			walk_leaf(m, w, hier);
			return;
		}
		table = w->desc & DESC_ADDR;
		hier |= w->desc;
		if (table >> SIM_PA_BITS) {
			w->fsc = FSC_ADDRESS_SIZE + level;
			return;
		}
	}
}

/* Hardware management of AF and dirty state (D8.5): one compare-and-swap on the descriptor that was walked; nothing if it has
 * changed meanwhile. */
void sim_update_desc(struct sim_machine *m, const struct sim_walk *w, bool write)
{
	u64 seen = w->desc, want = w->desc | DESC_AF;

	if (write && m->cfg.hw_dbm && w->writable_clean)
		want &= ~DESC_AP2;
	__atomic_compare_exchange_n(sim_desc_host(m, w->desc_pa), &seen, want, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
