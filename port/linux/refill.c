/*
 * The host's own mappings as a software-filled TLB over the machine's page tables.
 *
 * A guest access without a host mapping arrives as SIGSEGV.  host_fault() looks into the page tables; if they allow the
 * access it maps the run of contiguous frames around it, otherwise the core's do_mem_abort() decides first.
 *
 * Invariants
 *   1. A host mapping inside the guest's range agrees with some state of the page tables at a generation >= the newest flush
 *      that this process has done (kproc.flushed), plus what the flush log says since.
 *   2. Every host mmap/munmap/mremap on the guest's range runs under kproc.install.
 *   3. A refill first flushes up to the generation at which it reads the tables, so it never installs beside a stale
 *      neighbour; what is revoked after that is in the log and will be flushed before the next guest instruction.
 */
#include "refill.h"
#include "revoke.h"
#include "selftest.h"
#include "hostsys.h"
#include "../../mm/mm.h"

/* Refills cover the aligned 64 KiB around the fault; sequential touch doubles that up to 2 MiB. */
#define WINDOW_MIN (16ull << PAGE_SHIFT)
#define WINDOW_MAX PMD_SIZE
#define SMALL_FLUSH (4ull << PAGE_SHIFT) /* bytes */
#define SMALL_FLUSHES 16
#define FILE_WINDOW (64ull << PAGE_SHIFT)
#define NEWEST_INSTALLS 4

void install_lock(void)
{
	u32 seen = 0;

	if (__atomic_compare_exchange_n(&kproc.install, &seen, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&kproc.install, 2, __ATOMIC_ACQUIRE) != 0)
		host_call(__NR_futex, &kproc.install, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, 0);
}

void install_unlock(void)
{
	if (__atomic_exchange_n(&kproc.install, 0, __ATOMIC_RELEASE) == 2)
		host_call(__NR_futex, &kproc.install, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

/* What the host may allow on an entry: only what needs no more bookkeeping by the core. */
static u32 host_prot(pte_t p)
{
	u32 prot = 0;

	if (!pte_valid(p) || !pte_young(p))
		return 0;
	if (pte_user(p))
		prot |= PROT_READ;
	if (pte_user(p) && pte_hw_dirty(p))
		prot |= PROT_WRITE;
	if (pte_exec(p))
		prot |= PROT_EXEC;
	return prot;
}

/* What one entry maps, for comparison with its neighbours. */
struct leaf {
	enum run_kind kind;
	u32 prot;
	pfn_t pfn;
	struct folio *folio; /* NULL: none, or not asked yet */
	struct address_space *mapping;
	u64 index;
};

/* The folio of a frame; mostly that of the leaf read before, which is told without looking at the frame's own record. */
static struct folio *leaf_folio(struct quire *q, pfn_t pfn, const struct leaf *last)
{
	struct folio *folio = last->folio;

	return folio && pfn - folio_pfn(q, folio) < folio_nr_pages(folio) ? folio : pfn_folio(q, pfn);
}

/* *l: one that was read before under the same lock, or empty. */
static bool leaf_read(struct quire *q, pte_t p, struct leaf *l)
{
	struct folio *folio;
	pfn_t pfn;

	l->prot = host_prot(p);
	if (!l->prot)
		return false;
	pfn = pte_pfn(p);
	l->pfn = pfn;
	l->mapping = NULL;
	if (pfn == q->zero_pfn) {
		l->kind = RUN_ZERO;
		return true;
	}
	l->folio = folio = leaf_folio(q, pfn, l);
	l->kind = RUN_RAM;
	if (folio->f.type == FRAME_FILE) {
		struct address_space *m = (struct address_space *)folio->f.mapping;

		if (!m)
			return false; /* cut off its file, and soon off this entry: the core sorts it out */
		if (m->flags & AS_TOKEN) {
			l->kind = RUN_FILE;
			l->mapping = m;
			l->index = folio->f.index + (pfn - folio_pfn(q, folio));
		}
	}
	return true;
}

/* Does b, d entries after a, continue it? */
static bool leaf_continues(const struct leaf *a, const struct leaf *b, s64 d)
{
	if (a->kind != b->kind || a->prot != b->prot)
		return false;
	if (a->kind == RUN_RAM)
		return (s64)b->pfn == (s64)a->pfn + d;
	if (a->kind == RUN_FILE)
		return a->mapping == b->mapping && (s64)b->index == (s64)a->index + d;
	return true;
}

/* The guest address range that a refill at addr may cover. */
static void window_of(struct quire *q, u64 addr, const struct leaf *l, u64 *lo, u64 *hi)
{
	u64 size = l->kind != RUN_FILE ? WINDOW_MIN : l->prot & PROT_EXEC ? PMD_SIZE : FILE_WINDOW;

	if (l->kind == RUN_RAM && folio_order(l->folio) == PMD_ORDER)
		size = PMD_SIZE;
	*lo = ALIGN_DOWN(addr, size);
	*hi = *lo + size;
	if (l->kind == RUN_RAM && addr >= kproc.seq_next && addr < kproc.seq_next + WINDOW_MIN) {
		kproc.seq_window = MIN(kproc.seq_window * 2, WINDOW_MAX);
		*hi = MAX(*hi, *lo + kproc.seq_window);
	} else {
		kproc.seq_window = size;
	}
	/* One level-3 table. */
	*lo = MAX(*lo, ALIGN_DOWN(addr, PMD_SIZE));
	*hi = MIN(*hi, ALIGN_DOWN(addr, PMD_SIZE) + PMD_SIZE);
	kproc.seq_next = *hi;
}

static void run_extend(struct mm_struct *mm, u64 addr, pte_t *slot, const struct leaf *at, struct run *r)
{
	struct leaf l = *at;
	u64 lo, hi, a;

	window_of(mm->q, addr, at, &lo, &hi);
	r->start = addr;
	for (a = addr; a > lo; a -= PAGE_SIZE) {
		s64 d = -(s64)((addr - (a - PAGE_SIZE)) >> PAGE_SHIFT);

		if (!leaf_read(mm->q, pte_read(slot + d), &l) || !leaf_continues(at, &l, d))
			break;
		r->start = a - PAGE_SIZE;
	}
	for (a = addr + PAGE_SIZE; a < hi; a += PAGE_SIZE) {
		s64 d = (s64)((a - addr) >> PAGE_SHIFT);

		if (!leaf_read(mm->q, pte_read(slot + d), &l) || !leaf_continues(at, &l, d))
			break;
	}
	r->end = a;
	r->kind = at->kind;
	r->prot = at->prot;
	r->pfn = at->pfn - (pfn_t)((addr - r->start) >> PAGE_SHIFT);
	r->mapping = at->mapping;
	if (r->kind == RUN_FILE) {
		r->dev = at->mapping->dev;
		r->ino = at->mapping->ino;
		r->off = (at->index << PAGE_SHIFT) - (addr - r->start);
	}
}

/* The run that begins at start, up to end.  False: start is not mapped. */
static bool run_within(struct mm_struct *mm, u64 start, u64 end, struct run *r)
{
	struct leaf at = { .folio = NULL }, l;
	u64 a;

	if (!leaf_read(mm->q, pgtable_read(mm->q, mm->pgd, start), &at))
		return false;
	l = at;
	for (a = start + PAGE_SIZE; a < end; a += PAGE_SIZE)
		if (!leaf_read(mm->q, pgtable_read(mm->q, mm->pgd, a), &l) || !leaf_continues(&at, &l, (s64)((a - start) >> PAGE_SHIFT)))
			break;
	*r = (struct run){ .start = start, .end = a, .kind = at.kind, .prot = at.prot, .pfn = at.pfn, .mapping = at.mapping,
			   .off = at.index << PAGE_SHIFT };
	if (at.mapping) {
		r->dev = at.mapping->dev;
		r->ino = at.mapping->ino;
	}
	return true;
}

/* A block of 2 MiB is one run. */
static void run_of_block(u64 addr, const struct leaf *at, struct run *r)
{
	u64 start = ALIGN_DOWN(addr, PMD_SIZE);

	*r = (struct run){ .start = start, .end = start + PMD_SIZE, .kind = RUN_RAM, .prot = at->prot,
			   .pfn = at->pfn - (pfn_t)((addr - start) >> PAGE_SHIFT) };
	kproc.seq_window = PMD_SIZE;
	kproc.seq_next = r->end;
}

/* ---- what was installed lately, for fork ---- */

static void note_install(u64 start, u64 end)
{
	struct native_range *r = &kproc.installed[kproc.installs++ % ARRAY_SIZE(kproc.installed)];

	r->start = start;
	r->end = end;
}

u64 installs_mark(void)
{
	u64 mark;

	install_lock();
	mark = kproc.installs;
	install_unlock();
	return mark;
}

void installs_undo(u64 mark)
{
	if (selftest_on(ST_KEEP_INSTALLS))
		return;
	if (kproc.installs - mark > ARRAY_SIZE(kproc.installed)) {
		host_tlb_drop_all();
		return;
	}
	for (; mark < kproc.installs; mark++) {
		struct native_range *r = &kproc.installed[mark % ARRAY_SIZE(kproc.installed)];

		host_call(__NR_munmap, r->start, r->end - r->start);
	}
}

enum refill_result { REFILL_OK, REFILL_MISS, REFILL_STALE, REFILL_NATIVE };

/* Reads the tables at addr.  MISS: the core must decide.  STALE: flush first. */
static enum refill_result find_run(struct mm_struct *mm, u64 addr, u32 need, struct run *r)
{
	enum refill_result res = REFILL_MISS;
	struct leaf at = { .folio = NULL };
	pte_t *slot;

	spin_lock(&mm->lock);
	if (host_mm_of(mm)->gen != kproc.flushed) {
		spin_unlock(&mm->lock);
		return REFILL_STALE;
	}
	slot = pgtable_pte(mm->q, mm->pgd, addr);
	if (leaf_read(mm->q, slot ? pte_read(slot) : pgtable_read(mm->q, mm->pgd, addr), &at) && (at.prot & need) == need) {
		if (slot)
			run_extend(mm, addr, slot, &at, r);
		else
			run_of_block(addr, &at, r);
		res = REFILL_OK;
	}
	spin_unlock(&mm->lock);
	return res;
}

static long map_ram(const struct run *r)
{
	u64 len = r->end - r->start, offset = (u64)r->pfn << PAGE_SHIFT;
	/* Of text (patch.h) only parts are run, and the host maps some pages around each touch. */
	bool text = (r->prot & PROT_EXEC) && !(r->prot & PROT_WRITE);
	u32 flags = MAP_SHARED | MAP_FIXED | ((len > PAGE_SIZE && !text) || r->in_use ? MAP_POPULATE : 0);

	if (!r->in_use)
		ram_populate(offset, len);
	return host_call(__NR_mmap, r->start, len, r->prot, flags, KERNEL_FD, RAM_OFFSET + offset);
}

/* What the newest refills have mapped is left out on both sides of addr: mapping it once more costs its unmapping too.  Should
 * it be gone already, it comes back by a refill of its own. */
static void leave_out_newest(struct run *r, u64 addr)
{
	u64 i, n = MIN(kproc.installs, (u64)NEWEST_INSTALLS);

	for (i = 1; i <= n; i++) {
		const struct native_range *had = &kproc.installed[(kproc.installs - i) % ARRAY_SIZE(kproc.installed)];
		u64 cut = 0;

		if (had->end <= addr && had->end > r->start)
			cut = had->end - r->start;
		else if (had->start > addr && had->start < r->end)
			r->end = had->start;
		r->start += cut;
		r->pfn += (pfn_t)(cut >> PAGE_SHIFT);
		r->off += cut;
	}
}

static long map_plain(const struct run *r)
{
	if (r->kind == RUN_RAM)
		return map_ram(r);
	if (r->kind == RUN_FILE)
		return anchor_map(r->dev, r->ino, r->off, r->start, r->end - r->start, r->prot);
	return host_call(__NR_mmap, r->start, r->end - r->start, r->prot & ~PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static long map_run(const struct run *r)
{
	note_install(r->start, r->end);
	return r->kind == RUN_FILE && (r->prot & PROT_EXEC) ? patch_map(r, map_plain) : map_plain(r);
}

/* Has the flush that the core's answer caused mapped the page already?  Asked once: it may be gone again. */
static bool is_fresh(u64 addr, u32 need)
{
	u64 fresh = kproc.fresh;

	kproc.fresh = 0;
	return fresh && addr >= fresh && addr < kproc.fresh_end && (kproc.fresh_prot & need) == need && host_mm_of(kproc.mm)->gen == kproc.flushed;
}

/* Under install.  0, REFILL_MISS as -ENOENT, or the host's error. */
static long refill_locked(u64 addr, u32 need)
{
	struct run r;
	long ret;

	if (is_fresh(addr, need))
		return 0;
	for (;;) {
		enum refill_result res = find_run(kproc.mm, addr, need, &r);

		if (res == REFILL_STALE) {
			host_tlb_flush();
			continue;
		}
		if (res == REFILL_MISS)
			return -ENOENT;
		selftest_delay();
		leave_out_newest(&r, addr);
		ret = map_run(&r);
		if (ret >= 0 || ret != -ENOMEM)
			break;
		/* The host's limit on mappings (vm.max_map_count): they are only a TLB. */
		host_tlb_drop_all();
		kproc.stat_drops++;
		ret = map_run(&r);
		break;
	}
	kproc.stat_refills++;
	return ret < 0 ? ret : 0;
}

long host_refill(u64 addr, u32 need)
{
	long ret;

	install_lock();
	ret = refill_locked(addr & PAGE_MASK, need);
	install_unlock();
	return ret;
}

void host_map_present(u64 start, u64 end)
{
	struct run r;

	install_lock();
	while (start < end) {
		enum refill_result res = find_run(kproc.mm, start, PROT_READ, &r);

		if (res == REFILL_STALE) {
			host_tlb_flush();
			continue;
		}
		if (res != REFILL_OK || map_run(&r) < 0)
			r.end = start + PAGE_SIZE;
		start = r.end;
	}
	install_unlock();
}

static bool in_native_range(u64 addr)
{
	u32 i;

	for (i = 0; i < kproc.nnative; i++)
		if (addr >= kproc.native[i].start && addr < kproc.native[i].end)
			return true;
	return false;
}

static u32 need_of(u32 esr)
{
	u32 ec = esr >> ESR_EC_SHIFT;

	if (ec == ESR_EC_IABT_LOW || ec == ESR_EC_IABT_CUR)
		return PROT_EXEC;
	return (esr & ESR_WNR) ? PROT_WRITE : PROT_READ;
}

/* A write soon after a fork, here or in the child: the next fork copies the page at once (clone.c).  Guesses, raced for. */
static void fork_fault(u64 addr)
{
	u64 page = addr & PAGE_MASK, *hot = kproc.fork_hot;
	u32 i;

	kproc.fork_faults--;
	for (i = 0; i < FORK_HOT && hot[i] && hot[i] != page; i++)
		;
	if (i < FORK_HOT)
		hot[i] = page;
}

enum fault_result host_fault(u64 addr, u32 esr, struct fault_info *info)
{
	u32 need = need_of(esr);
	enum fault_result r;
	long ret;

	BUG_ON(in_transaction());
	for (;;) {
		if (addr < GUEST_END) {
			ret = host_refill(addr, need);
			if (!ret)
				return FAULT_OK;
			if (ret != -ENOENT)
				break;
			if (patch_slot_fault(addr))
				return FAULT_OK;
		}
		if (in_native_range(addr)) {
			*info = (struct fault_info){ .sig = 11, .code = 2, .addr = addr };
			return FAULT_SIGNAL;
		}
		r = do_mem_abort(kproc.mm, addr, esr, info);
		if (r != FAULT_OK || addr >= GUEST_END)
			return r;
		if (unlikely(kproc.fork_faults) && need == PROT_WRITE)
			fork_fault(addr);
	}
	klog("cannot map guest address %#lx: host error %ld", (unsigned long)addr, -ret);
	*info = (struct fault_info){ .sig = 7, .code = 2, .addr = addr };
	return FAULT_SIGNAL;
}

/* ---- flushing ---- */

/* Ranges that must stay mapped.  Under install; too many (over 4096) end the machine. */
struct keep_list {
	u32 n, room;
	struct flush_range *r;
};
static struct flush_range many_kept[4096];

/* More than fit into the page that each child writes to anyway. */
static bool keep_more(struct keep_list *k)
{
	if (k->r == many_kept)
		return false;
	memcpy(many_kept, k->r, k->n * sizeof(*k->r));
	k->r = many_kept;
	k->room = ARRAY_SIZE(many_kept);
	return true;
}

static void keep(struct keep_list *k, u64 start, u64 end)
{
	BUG_ON(k->n == k->room && !keep_more(k));
	k->r[k->n].start = start;
	k->r[k->n++].end = end;
}

static bool collect_pins(struct ctx *c, void *arg)
{
	u32 i, n = MIN(READ_ONCE(c->npins), CTX_MAX_PINS);

	if (c->port_data[CTXP_SERIAL] != kthread()->ctx->port_data[CTXP_SERIAL])
		return true;
	for (i = 0; i < n; i++)
		keep(arg, c->pins[i].start & PAGE_MASK, PAGE_ALIGN(c->pins[i].end));
	return true;
}

static struct keep_list keep_pins_and_natives(void)
{
	struct keep_list k = { .room = ARRAY_SIZE(kproc.few_kept), .r = kproc.few_kept };
	u32 i;

	spin_lock(&kproc.mm->lock);
	mm_for_each_ctx(kproc.mm, collect_pins, &k);
	spin_unlock(&kproc.mm->lock);
	for (i = 0; i < kproc.nnative; i++)
		keep(&k, kproc.native[i].start, kproc.native[i].end);
	return k;
}

/* Reads may go on through what is mapped; where something is not, the host stops half-way, and then all of it goes. */
static void host_unmap(u64 start, u64 len, bool protect)
{
	if (protect && host_call(__NR_mprotect, start, len, PROT_READ) >= 0)
		return;
	host_call(__NR_munmap, start, len);
	patch_unmapped(start, start + len);
}

/* Unmaps (or write-protects) [start, end) except what overlaps a kept range. */
static void unmap_except(u64 start, u64 end, bool protect, const struct keep_list *k)
{
	u64 at = start;

	while (at < end) {
		u64 stop = end, skip_to = end;
		u32 i;

		for (i = 0; i < k->n; i++) {
			if (k->r[i].end <= at || k->r[i].start >= stop)
				continue;
			stop = MAX(k->r[i].start, at);
			skip_to = k->r[i].end;
		}
		if (stop > at)
			host_unmap(at, stop - at, protect);
		at = stop == end ? end : skip_to;
	}
}

void host_tlb_drop_all(void)
{
	struct keep_list kept = keep_pins_and_natives();

	unmap_except(PAGE_SIZE * 16, GUEST_END, false, &kept);
	kproc.seq_window = WINDOW_MIN;
}

/* A flushed range that a native call of this process is using, or a small one that is likely to be touched next (a page that
 * was copied on write): what is still valid is mapped again in place (mmap replaces atomically, so a call never sees a hole);
 * what is not goes. */
static void refresh(u64 start, u64 end)
{
	struct run r;
	bool valid;
	u64 a;

	for (a = start; a < end; a = r.end) {
		spin_lock(&kproc.mm->lock);
		valid = run_within(kproc.mm, a, end, &r);
		spin_unlock(&kproc.mm->lock);
		r.in_use = true;
		if (!valid || map_run(&r) < 0) {
			r.end = a + PAGE_SIZE;
			host_call(__NR_munmap, a, PAGE_SIZE);
			continue;
		}
		kproc.fresh = a;
		kproc.fresh_end = r.end;
		kproc.fresh_prot = r.prot;
	}
}

static void flush_range(u64 start, u64 end, bool protect, const struct keep_list *k)
{
	u32 i;

	unmap_except(start, end, protect, k);
	for (i = 0; i < k->n; i++) {
		u64 s = MAX(start, k->r[i].start), e = MIN(end, k->r[i].end);

		if (s < e && !in_native_range(s))
			refresh(s, e);
	}
}

void host_tlb_drop_range(u64 start, u64 end)
{
	struct keep_list kept = keep_pins_and_natives();

	flush_range(start, end, false, &kept);
}

static void flush_one(const struct flush_range *range, const struct keep_list *k)
{
	u64 start = range->start, end = MIN(range->end & PAGE_MASK, GUEST_END);

	if (start >= end)
		return;
	flush_range(start, end, range->end & FLUSH_PROTECT, k);
	patch_flushed(start, end);
}

/* A few pages at a few places: what copy-on-write leaves behind. */
static bool is_small(const struct flush_range *r, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if ((r[i].end & FLUSH_PROTECT) || r[i].end - r[i].start > SMALL_FLUSH || in_native_range(r[i].start))
			return false;
	return n > 0 && n <= SMALL_FLUSHES;
}

/* Shell's sort with Ciura's gaps: mostly there are a few ranges, at times the whole log. */
static void sort_ranges(struct flush_range *r, int n)
{
	static const int gaps[] = { 701, 301, 132, 57, 23, 10, 4, 1 };
	u32 g;
	int i, j;

	for (g = 0; g < ARRAY_SIZE(gaps); g++) {
		for (i = gaps[g]; i < n; i++) {
			struct flush_range x = r[i];

			for (j = i; j >= gaps[g] && r[j - gaps[g]].start > x.start; j -= gaps[g])
				r[j] = r[j - gaps[g]];
			r[j] = x;
		}
	}
}

/* Neighbours and overlaps of one kind become one: a munmap costs per call, not per page. */
static int merge_ranges(struct flush_range *r, int n)
{
	int i, out = 0;

	sort_ranges(r, n);
	for (i = 1; i < n; i++) {
		bool same_kind = !((r[i].end ^ r[out].end) & FLUSH_PROTECT);

		if (same_kind && r[i].start <= r[out].end)
			r[out].end = MAX(r[out].end, r[i].end);
		else
			r[++out] = r[i];
	}
	return n > 0 ? out + 1 : 0;
}

void host_tlb_flush(void)
{
	static struct flush_range many[FLUSH_LOG];
	struct flush_range *ranges = kproc.few_ranges;
	struct keep_list kept;
	bool small;
	u64 gen;
	int n, i;

	if (!kproc.mm || host_mm_of(kproc.mm)->gen == kproc.flushed)
		return;
	n = flush_log_read(kproc.mm, kproc.flushed, ranges, ARRAY_SIZE(kproc.few_ranges), &gen);
	if (n < 0) {
		ranges = many;
		n = flush_log_read(kproc.mm, kproc.flushed, ranges, FLUSH_LOG, &gen);
	}
	selftest_delay();
	kept = keep_pins_and_natives();
	if (n < 0) {
		struct flush_range all = { PAGE_SIZE * 16, GUEST_END };

		flush_one(&all, &kept);
		kproc.stat_drops++;
	}
	n = merge_ranges(ranges, n);
	small = is_small(ranges, n);
	for (i = 0; i < n; i++) {
		if (small && ranges[i].end <= GUEST_END) {
			refresh(ranges[i].start, ranges[i].end);
			patch_flushed(ranges[i].start, ranges[i].end);
		} else {
			flush_one(&ranges[i], &kept);
		}
	}
	kproc.flushed = gen;
}

