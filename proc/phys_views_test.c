/*
 * The views of physical memory, against golden text and against the host's own files: on a Linux 6.18 every
 * line of /proc/zoneinfo, buddyinfo and pagetypeinfo must read like ours when numbers are masked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ctype.h>
#include <fmt.h>
#include <phys/phys.h>
#include <port/sim/sim.h>
#include <proc/phys_views.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TEXT (64 << 10)

static struct quire *boot(const struct sim_config *cfg)
{
	struct quire *q = sim_machine_new_raw(cfg);

	assert_int_equal(phys_init(q), 0);
	return q;
}

static char *view(struct quire *q, void (*fn)(struct quire *q, struct fmt_buf *out))
{
	char *text = malloc(TEXT);
	struct fmt_buf b = fmt_init(text, TEXT);

	fn(q, &b);
	assert_false(fmt_truncated(&b));
	return text;
}

static void expect_view(struct quire *q, void (*fn)(struct quire *q, struct fmt_buf *out), const char *want)
{
	char *text = view(q, fn);

	assert_string_equal(text, want);
	free(text);
}

static void buddyinfo_of_a_new_machine(void **state)
{
	struct quire *q = boot(NULL);
	struct frame *f;

	expect_view(q, proc_buddyinfo,
		    "Node 0, zone      DMA      1      1      1      1      1      1      1      1      1      1      "
		    "3 \n"
		    "Node 0, zone    DMA32      0      1      1      1      1      1      1      1      1      1     "
		    "11 \n");
	f = alloc_pages(q, GFP_KERNEL, 10);
	expect_view(q, proc_buddyinfo,
		    "Node 0, zone      DMA      1      1      1      1      1      1      1      1      1      1      "
		    "3 \n"
		    "Node 0, zone    DMA32      0      1      1      1      1      1      1      1      1      1     "
		    "10 \n");
	__free_pages(q, f, 10);
	expect_view(q, proc_buddyinfo,
		    "Node 0, zone      DMA      1      1      1      1      1      1      1      1      1      1      "
		    "3 \n"
		    "Node 0, zone    DMA32      0      1      1      1      1      1      1      1      1      1     "
		    "11 \n");
	sim_machine_free(q);
}

static void pagetypeinfo_shows_types(void **state)
{
	struct quire *q = boot(NULL);
	struct frame *f = alloc_pages(q, GFP_KERNEL, 5);

	expect_view(q, proc_pagetypeinfo,
		    "Page block order: 9\n"
		    "Pages per block:  512\n"
		    "\n"
		    "Free pages count per migrate type at order       0      1      2      3      4      5      6      "
		    "7      8      9     10 \n"
		    "Node    0, zone      DMA, type    Unmovable      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "Node    0, zone      DMA, type      Movable      1      1      1      1      1      1      1      "
		    "1      1      1      3 \n"
		    "Node    0, zone      DMA, type  Reclaimable      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "Node    0, zone      DMA, type   HighAtomic      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "Node    0, zone      DMA, type      Isolate      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "Node    0, zone    DMA32, type    Unmovable      0      0      0      0      0      1      1      "
		    "1      1      1      0 \n"
		    "Node    0, zone    DMA32, type      Movable      0      1      1      1      1      1      1      "
		    "1      1      1     10 \n"
		    "Node    0, zone    DMA32, type  Reclaimable      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "Node    0, zone    DMA32, type   HighAtomic      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "Node    0, zone    DMA32, type      Isolate      0      0      0      0      0      0      0      "
		    "0      0      0      0 \n"
		    "\n"
		    "Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic      Isolate \n"
		    "Node 0, zone      DMA            0            8            0            0            0 \n"
		    "Node 0, zone    DMA32            2           22            0            0            0 \n");
	__free_pages(q, f, 5);
	sim_machine_free(q);
}

static void zoneinfo_counts(void **state)
{
	struct quire *q = boot(&(struct sim_config){.nr_cpus = 2});
	struct frame *f = alloc_page(q, GFP_KERNEL);
	char *text = view(q, proc_zoneinfo);

	assert_non_null(strstr(text, "Node 0, zone      DMA\n  per-node stats\n      nr_inactive_anon 0\n"));
	assert_non_null(strstr(text, "\n        spanned  4096\n        present  4096\n        managed  4095\n"));
	assert_non_null(strstr(text, "\n      numa_hit     1\n"));
	assert_non_null(strstr(text, "\n    cpu: 1\n"));
	assert_non_null(strstr(text, "\nNode 0, zone   Normal\n  pages free     0\n"));
	assert_non_null(strstr(text, "\n  start_pfn:           4096\n"));
	free(text);
	__free_pages(q, f, 0);
	sim_machine_free(q);
}

static void classic_layout_shows_highmem(void **state)
{
	struct quire *q = boot(&(struct sim_config){.memory = 1ull << 30, .zones = &zone_layout_32});
	char *text = view(q, proc_zoneinfo);

	assert_non_null(strstr(text, "Node 0, zone  HighMem\n"));
	assert_non_null(strstr(text, "Node 0, zone  Movable\n"));
	assert_null(strstr(text, "DMA32"));
	assert_null(strstr(text, "Device"));
	free(text);
	expect_view(
		q, proc_buddyinfo,
		"Node 0, zone      DMA      1      1      1      1      1      1      1      1      1      1      3 \n"
		"Node 0, zone   Normal      0      1      1      1      1      1      1      1      1      1    219 \n"
		"Node 0, zone  HighMem      0      0      0      0      0      0      0      0      0      0     32 "
		"\n");
	sim_machine_free(q);
}

/* ---- against the host ---- */

/* Numbers become '#'.  In columns (right-aligned) every byte of the number and the blanks before it does, so that widths
 * are compared; elsewhere each number becomes one, and blanks stay. */
static void mask(char *s, bool columns)
{
	char *to = s;

	while (*s) {
		char *p = s;

		while (columns && *p == ' ')
			p++;
		if (!isdigit((unsigned char)*p)) {
			*to++ = *s++;
			continue;
		}
		while (isdigit((unsigned char)*p))
			p++;
		if (!columns)
			*to++ = '#';
		for (; s < p; s++)
			if (columns)
				*to++ = '#';
	}
	*to = 0;
}

static bool host_is_618(void)
{
	struct utsname u;

	return uname(&u) == 0 && strncmp(u.release, "6.18", 4) == 0 && strcmp(u.machine, "x86_64") == 0;
}

static char *read_host(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text;
	size_t n;

	if (!f)
		return NULL;
	text = malloc(TEXT);
	n = fread(text, 1, TEXT - 1, f);
	text[n] = 0;
	fclose(f);
	return text;
}

static void same_shape(struct quire *q, const char *path, void (*fn)(struct quire *q, struct fmt_buf *out),
		       bool columns)
{
	char *host = read_host(path), *ours;

	if (!host) {
		print_message("%s cannot be read here\n", path);
		return;
	}
	ours = view(q, fn);
	mask(host, columns);
	mask(ours, columns);
	assert_string_equal(ours, host);
	free(host);
	free(ours);
}

static bool has_zone(const char *text, const char *name)
{
	char want[40];

	snprintf(want, sizeof(want), "zone %8s", name);
	return strstr(text, want) != NULL;
}

static void reads_like_the_host(void **state)
{
	char *buddy = read_host("/proc/buddyinfo");
	struct quire *q;

	if (!host_is_618() || !buddy || !has_zone(buddy, "DMA") || !has_zone(buddy, "Normal") ||
	    strstr(buddy, "Node 1")) {
		print_message("not a one-node Linux 6.18 on x86-64 with three zones: skipped\n");
		free(buddy);
		skip();
	}
	free(buddy);
	q = boot(&(struct sim_config){.memory = 6ull << 30, .nr_cpus = (u32)sysconf(_SC_NPROCESSORS_ONLN)});
	same_shape(q, "/proc/buddyinfo", proc_buddyinfo, true);
	same_shape(q, "/proc/pagetypeinfo", proc_pagetypeinfo, true);
	same_shape(q, "/proc/zoneinfo", proc_zoneinfo, false);
	sim_machine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buddyinfo_of_a_new_machine),
		cmocka_unit_test(pagetypeinfo_shows_types),
		cmocka_unit_test(zoneinfo_counts),
		cmocka_unit_test(classic_layout_shows_highmem),
		cmocka_unit_test(reads_like_the_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
