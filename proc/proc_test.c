/*
 * The text views against the host's own files (names, order, columns, byte for byte where the facts can be made the
 * same) and against known contents, parsed by the rules that procps uses.
 */
#include "../task/memfile_test.h"
#include <mm/mm.h>
#include <sys/utsname.h>
#include "proc.h"

#define BASE 0x10000000ull
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)

static char text[1 << 20], host[1 << 20];

static struct fmt_buf fresh(void)
{
	return fmt_init(text, sizeof(text));
}

/* Through cat, so that "self" is an ordinary small process and not this one under sanitizers. */
static const char *slurp(const char *path)
{
	char command[100];
	FILE *f;
	size_t n;

	snprintf(command, sizeof(command), "cat %s", path);
	f = popen(command, "r");
	n = f ? fread(host, 1, sizeof(host) - 1, f) : 0;
	host[n] = '\0';
	if (f)
		pclose(f);
	return host;
}

/* A copy of what is in text[], for when slurp() and text[] are needed together. */
static char *kept(void)
{
	static char copy[1 << 16];

	assert_true(strlen(text) < sizeof(copy));
	return strcpy(copy, text);
}

/* Formats change between kernels; names are compared only on the one they were taken from. */
static bool host_is_reference(void)
{
	struct utsname u;

	uname(&u);
	return !strncmp(u.release, "6.18.", 5);
}

/* As procps looks values up: the line that begins with the name and a colon. */
static unsigned long value_of(const char *s, const char *name)
{
	size_t n = strlen(name);

	for (; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL) {
		if (!strncmp(s, name, n) && (s[n] == ':' || s[n] == ' '))
			return strtoul(s + n + 1, NULL, 10);
	}
	fail_msg("no line '%s'", name);
	return 0;
}

/* Same names in the same order, and values in the same columns where width allows. */
static void compare_shape(const char *mine, const char *theirs)
{
	while (*mine && *theirs) {
		size_t a = strcspn(mine, "\n"), b = strcspn(theirs, "\n"), na = strcspn(mine, ": \n"), nb = strcspn(theirs, ": \n");

		if (na != nb || strncmp(mine, theirs, na))
			fail_msg("line '%.*s' where Linux has '%.*s'", (int)a, mine, (int)b, theirs);
		if (strstr(mine, " kB") && a < 28 && b < 28 && a != b)
			fail_msg("width: '%.*s' and '%.*s'", (int)a, mine, (int)b, theirs);
		mine += a + 1;
		theirs += b + 1;
	}
	assert_int_equal(*mine, 0);
	assert_int_equal(*theirs, 0);
}

static struct mm_struct *touched_mm(struct quire *q, u64 pages)
{
	struct mm_struct *mm = mm_alloc(q, &guest_abi_arm64);
	u32 esr = esr_make(ESR_EC_DABT_LOW, true, FSC_TRANSLATION + 3);
	struct fault_info info;

	assert_int_equal(do_mmap(mm, NULL, BASE, pages * PAGE_SIZE, RW, ANON, 0), (long)BASE);
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(do_mem_abort(mm, BASE + i * PAGE_SIZE, esr, &info), FAULT_OK);
	return mm;
}

static void test_meminfo(void **state)
{
	struct sim_config cfg = { .memory = 48 << 20 };
	struct quire *q = sim_machine_new(&cfg);
	struct fmt_buf b = fresh();
	unsigned long free_before, anon_before;
	struct mm_struct *mm;

	proc_meminfo(q, &b);
	if (host_is_reference())
		compare_shape(text, slurp("/proc/meminfo"));
	assert_int_equal(value_of(text, "MemTotal"), 48 << 10);
	assert_non_null(strstr(text, "MemTotal:          49152 kB\n"));
	assert_non_null(strstr(text, "VmallocTotal:   34359738367 kB\n"));
	assert_non_null(strstr(text, "HugePages_Total:       0\n"));
	free_before = value_of(text, "MemFree");
	anon_before = value_of(text, "AnonPages");
	assert_true(value_of(text, "MemAvailable") <= free_before);
	assert_true(free_before > 40 << 10);
	mm = touched_mm(q, 1000);
	b = fresh();
	proc_meminfo(q, &b);
	assert_int_equal(value_of(text, "AnonPages"), anon_before + 4000);
	assert_in_range(free_before - value_of(text, "MemFree"), 4000, 4000 + 1024);
	assert_int_equal(value_of(text, "Committed_AS"), 4000);
	assert_int_equal(value_of(text, "Active(anon)") + value_of(text, "Inactive(anon)"), 4000);
	assert_true(value_of(text, "PageTables") >= 16);
	mmput(mm);
	sim_machine_free(q);
}

static void test_vmstat(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct fmt_buf b = fresh();
	unsigned long faults;
	struct mm_struct *mm;

	proc_vmstat(q, &b);
	if (host_is_reference())
		compare_shape(text, slurp("/proc/vmstat"));
	faults = value_of(text, "pgfault");
	mm = touched_mm(q, 64);
	b = fresh();
	proc_vmstat(q, &b);
	assert_int_equal(value_of(text, "pgfault"), faults + 64);
	assert_int_equal(value_of(text, "nr_anon_pages"), 64);
	mmput(mm);
	sim_machine_free(q);
}

/* ---- maps ---- */

struct host_line {
	unsigned long start, end, offset, ino;
	unsigned major, minor;
	char perms[8], name[300];
	bool has_name;
};

static bool parse_line(const char *s, struct host_line *l)
{
	int at = 0;

	/* pmap's own format string */
	if (sscanf(s, "%lx-%lx %7s %lx %x:%x %lu %n", &l->start, &l->end, l->perms, &l->offset, &l->major, &l->minor, &l->ino,
		   &at) < 7)
		return false;
	snprintf(l->name, sizeof(l->name), "%.*s", (int)strcspn(s + at, "\n"), s + at);
	l->has_name = l->name[0] != '\0';
	return true;
}

static u64 prot_of(const char *perms)
{
	return (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) | (perms[2] == 'x' ? PROT_EXEC : 0);
}

/* Names of special mappings are not copied. */
static const char *name_that_stays(const char *name)
{
	static char names[16][40];
	static unsigned used;

	assert_true(used < 16 && strlen(name) < 40);
	return strcpy(names[used++], name);
}

/* Makes the same mapping on the simulated machine. */
static void replay_line(struct quire *q, struct mm_struct *mm, const struct host_line *l)
{
	u64 len = l->end - l->start, flags = MAP_FIXED | MAP_NORESERVE | (l->perms[3] == 's' ? MAP_SHARED : MAP_PRIVATE);
	struct file *file = NULL;
	u64 vm;

	if (l->name[0] == '[' && strcmp(l->name, "[heap]") && strcmp(l->name, "[stack]")) {
		vm = (l->perms[0] == 'r' ? VM_READ | VM_MAYREAD : 0) | (l->perms[2] == 'x' ? VM_EXEC | VM_MAYEXEC : 0);
		assert_int_equal(install_special_mapping(mm, l->start, len, vm, name_that_stays(l->name)), (long)l->start);
		return;
	}
	if (l->has_name && l->name[0] == '/') {
		size_t size = l->offset + len;
		struct address_space *m = mapping_get(q, ((u64)l->major << 8) | l->minor, l->ino, &memfile_ops, 0);

		if (!m->port_private) {
			m->port_private = calloc(1, sizeof(struct memfile));
			*(struct memfile *)m->port_private = (struct memfile){ .data = calloc(1, size), .size = size };
		}
		file = file_create(q, m, FMODE_READ | FMODE_WRITE, l->name);
		mapping_put(m);
	} else {
		flags |= MAP_ANONYMOUS;
	}
	assert_int_equal(do_mmap(mm, file, l->start, len, prot_of(l->perms), flags, l->offset >> PAGE_SHIFT), (long)l->start);
	if (file)
		file_put(file);
	if (!strcmp(l->name, "[heap]")) {
		mm->start_brk = l->start;
		mm->brk = l->end;
	}
	if (!strcmp(l->name, "[stack]"))
		mm->start_stack = l->end - 64;
}

/* A real process's maps, mapped again here, print the same bytes. */
static void test_maps_equal_the_hosts(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = mm_alloc(q, &guest_abi_arm64);
	struct fmt_buf b = fresh();
	size_t n;
	unsigned lines = 0;

	slurp("/proc/self/maps | grep -v vsyscall");
	n = strlen(host);
	for (const char *s = host; *s; s += strcspn(s, "\n") + 1) {
		struct host_line l;

		assert_true(parse_line(s, &l));
		replay_line(q, mm, &l);
		lines++;
	}
	assert_true(lines > 10);
	proc_maps(q, mm, &b);
	assert_string_equal(text, host);
	/* Sizing without a buffer gives the same length. */
	b = fmt_init(NULL, 0);
	proc_maps(q, mm, &b);
	assert_int_equal(b.len, n);
	mmput(mm);
	sim_machine_free(q);
}

static void test_maps_corners(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = mm_alloc(q, &guest_abi_arm64);
	struct file *f = memfile_new(q, 1234567890123ull, "/tmp/a\nb (deleted)", calloc(1, PAGE_SIZE), PAGE_SIZE);
	struct fmt_buf b = fresh();

	do_mmap(mm, f, 0x20000, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, 0);
	do_mmap(mm, NULL, 0x40000, PAGE_SIZE, PROT_NONE, ANON, 0);
	proc_maps(q, mm, &b);
	assert_string_equal(text, "00020000-00021000 r--s 00000000 fe:00 1234567890123                      /tmp/a\\012b (deleted)\n"
				  "00040000-00041000 ---p 00000000 00:00 0 \n");
	mmput(mm);
	file_put(f);
	sim_machine_free(q);
}

/* ---- smaps ---- */

static void test_smaps(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = touched_mm(q, 6), *child;
	struct fmt_buf b = fresh();
	u64 v = 9;

	assert_int_equal(do_mmap(mm, NULL, BASE + (1 << 20), 8 * PAGE_SIZE, RW, ANON, 0), (long)(BASE + (1 << 20)));
	proc_smaps(q, mm, &b);
	assert_int_equal(value_of(text, "Size"), 24);
	assert_int_equal(value_of(text, "Rss"), 24);
	assert_int_equal(value_of(text, "Pss"), 24);
	assert_int_equal(value_of(text, "Private_Dirty"), 24);
	assert_int_equal(value_of(text, "Anonymous"), 24);
	assert_non_null(strstr(text, "THPeligible:           0\nVmFlags: rd wr mr mw me ac "));
	if (host_is_reference()) {
		char names[2][2000] = { "", "" };
		const char *src[2];

		src[0] = kept();
		src[1] = slurp("/proc/self/smaps");
		/* The first block's names, up to VmFlags. */
		for (int k = 0; k < 2; k++) {
			const char *s = strchr(src[k], '\n') + 1;

			for (; strncmp(s, "VmFlags", 7); s += strcspn(s, "\n") + 1)
				strncat(names[k], s, strcspn(s, ":") + 1);
		}
		assert_string_equal(names[0], names[1]);
	}
	child = dup_mm(mm);
	access_process_vm(child, BASE, &v, 8, true);
	b = fresh();
	proc_smaps_rollup(q, mm, &b);
	assert_non_null(strstr(text, "10000000-10108000 ---p 00000000 00:00 0                                  [rollup]\n"));
	assert_int_equal(value_of(text, "Rss"), 24);
	assert_int_equal(value_of(text, "Pss"), 4 + 5 * 2); /* one page is its own again, five are shared by two */
	assert_int_equal(value_of(text, "Shared_Dirty"), 20);
	assert_int_equal(value_of(text, "Pss_Anon"), 14);
	if (host_is_reference()) {
		compare_shape(strchr(kept(), '\n') + 1, strchr(slurp("/proc/self/smaps_rollup"), '\n') + 1);
	}
	mmput(child);
	mmput(mm);
	sim_machine_free(q);
}

/* What a reader gets piece by piece is the whole text; a piece is whole blocks within a page, or one that is longer. */
static void test_pieces(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct mm_struct *mm = touched_mm(q, 6);
	static char whole[200000], piece[PROC_SEQ_PAGE + PROC_VMA_TEXT_MAX], path[4000];
	u64 (*const from[])(struct quire *, struct mm_struct *, u64, struct fmt_buf *) = { proc_maps_from, proc_smaps_from };
	struct file *f;

	memset(path, 'p', sizeof(path) - 1);
	path[0] = '/';
	f = memfile_new(q, 77, path, malloc(PAGE_SIZE), PAGE_SIZE);
	for (u64 i = 0; i < 60; i++)
		do_mmap(mm, i % 20 == 5 ? f : NULL, BASE + (4 << 20) + 2 * i * PAGE_SIZE, PAGE_SIZE, PROT_READ,
			i % 20 == 5 ? MAP_PRIVATE | MAP_FIXED : ANON, 0);
	for (int k = 0; k < 2; k++) {
		struct fmt_buf b = fmt_init(whole, sizeof(whole));
		size_t at = 0, pieces = 0;

		(k ? proc_smaps : proc_maps)(q, mm, &b);
		for (u64 addr = 0; addr != PROC_VMA_END; pieces++) {
			struct fmt_buf p = fmt_init(piece, sizeof(piece));

			addr = from[k](q, mm, addr, &p);
			assert_false(fmt_truncated(&p));
			assert_true(p.len <= PROC_SEQ_PAGE || strstr(piece, "/ppp"));
			assert_memory_equal(whole + at, piece, p.len);
			at += p.len;
		}
		assert_int_equal(at, b.len);
		assert_in_range(pieces, b.len / PROC_SEQ_PAGE, b.len / PROC_SEQ_PAGE * 2 + 1);
	}
	mmput(mm);
	file_put(f);
	sim_machine_free(q);
}

/* A big VMA is read in many pieces; the sums are right all the same. */
static void test_smaps_of_many_pages(void **state)
{
	struct sim_config cfg = { .break_percent = 30 };
	struct quire *q = sim_machine_new(&cfg);
	struct mm_struct *mm = touched_mm(q, 3000);
	struct fmt_buf b = fresh();
	u64 *entries = calloc(3100, sizeof(u64));

	proc_smaps(q, mm, &b);
	assert_int_equal(value_of(text, "Rss"), 12000);
	assert_int_equal(proc_pagemap(mm, BASE, entries, 3100), 3100);
	for (int i = 0; i < 3100; i++) {
		assert_int_equal(entries[i] >> 63, i < 3000);
		if (i < 3000) {
			assert_int_equal((entries[i] >> 56) & 1, 1); /* mapped once */
			assert_int_equal((entries[i] >> 61) & 1, 0);
			assert_int_equal(proc_kpagecount(q, (pfn_t)(entries[i] & ((1ull << 55) - 1))), 1);
			assert_true(proc_kpageflags(q, (pfn_t)(entries[i] & ((1ull << 55) - 1))) & (1 << 12));
		}
	}
	assert_int_equal(proc_pagemap(mm, 1ull << 48, entries, 10), 0);
	assert_int_equal(proc_pagemap(mm, (1ull << 48) - 2 * PAGE_SIZE, entries, 10), 2);
	assert_int_equal(proc_kpageflags(q, ~0u), BIT(20));
	assert_true(proc_kpageflags(q, q->zero_pfn) & BIT(24));
	free(entries);
	mmput(mm);
	sim_machine_free(q);
}

/* ---- tasks ---- */

static void test_status_and_stat(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct task *t = task_create(q, 4242, 1, "weird) (name");
	struct fmt_buf b = fresh();
	unsigned long f[60];
	const char *s;
	int n = 0;

	task_set_mm(t, touched_mm(q, 100));
	proc_status(q, t, &b);
	assert_non_null(strstr(text, "Name:\tweird) (name\n"));
	assert_non_null(strstr(text, "Pid:\t4242\nPPid:\t1\n"));
	assert_non_null(strstr(text, "VmRSS:\t     400 kB\n"));
	assert_non_null(strstr(text, "RssAnon:\t     400 kB\n"));
	assert_int_equal(value_of(text, "VmSize"), 400);
	assert_int_equal(value_of(text, "VmHWM"), 400);
	if (host_is_reference()) {
		const char *theirs;

		b = fresh();
		proc_status_vm(q, t->mm, &b);
		theirs = strstr(slurp("/proc/self/status"), "VmPeak:");
		assert_non_null(theirs);
		*strstr(host, "HugetlbPages:") = '\0';
		compare_shape(kept(), theirs);
	}
	b = fresh();
	proc_stat(q, t, &b);
	/* procps: the name ends at the last parenthesis. */
	s = strrchr(text, ')') + 2;
	assert_int_equal(*s, 'R');
	for (s += 2; *s && *s != '\n'; n++)
		f[n + 4] = strtoul(s, (char **)&s, 10), s += *s == ' ';
	assert_int_equal(n, 49); /* fields 4 to 52 */
	assert_int_equal(f[4], 1);
	assert_int_equal(f[20], 1);
	assert_int_equal(f[23], 100 * PAGE_SIZE);
	assert_int_equal(f[24], 100);
	b = fresh();
	proc_statm(q, t->mm, &b);
	assert_string_equal(text, "100 100 0 0 0 100 0\n");
	task_exit(t);
	sim_machine_free(q);
}

static void test_oom_views(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct task *t = task_create(q, 7, 1, "x");
	struct fmt_buf b = fresh();

	task_set_mm(t, touched_mm(q, 1));
	proc_oom_score(q, t, &b);
	assert_in_range(strtoul(text, NULL, 10), 660, 670);
	assert_int_equal(proc_set_oom_score_adj(t, -1001, true), -EINVAL);
	assert_int_equal(proc_set_oom_score_adj(t, 1001, true), -EINVAL);
	assert_int_equal(proc_set_oom_score_adj(t, -1000, true), 0);
	b = fresh();
	proc_oom_score(q, t, &b);
	proc_oom_score_adj(q, t, &b);
	assert_string_equal(text, "0\n-1000\n");

	/* Without rights it goes up, and down again to where one with rights left it. */
	assert_int_equal(proc_set_oom_score_adj(t, -10, true), 0);
	assert_int_equal(proc_set_oom_score_adj(t, 300, false), 0);
	assert_int_equal(proc_set_oom_score_adj(t, -10, false), 0);
	assert_int_equal(proc_set_oom_score_adj(t, -11, false), -EACCES);
	task_exit(t);
	sim_machine_free(q);
}

static void test_small_files(void **state)
{
	struct quire *q = sim_machine_new(NULL);
	struct fmt_buf b = fresh();
	struct task *t = task_create(q, 77, 1, "x");
	u64 load[3] = { 5, 110, 1234 };

	proc_swaps(q, &b);
	assert_string_equal(text, slurp("/proc/swaps")[0] && !strchr(strchr(host, '\n') + 1, '\n') ? host :
			    "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
	b = fresh();
	proc_loadavg(q, load, &b);
	assert_string_equal(text, "0.05 1.10 12.34 0/1 77\n");
	task_exit(t);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_meminfo),
		cmocka_unit_test(test_vmstat),
		cmocka_unit_test(test_maps_equal_the_hosts),
		cmocka_unit_test(test_maps_corners),
		cmocka_unit_test(test_smaps),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_smaps_of_many_pages),
		cmocka_unit_test(test_status_and_stat),
		cmocka_unit_test(test_oom_views),
		cmocka_unit_test(test_small_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
