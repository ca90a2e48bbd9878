/* The lab: what scripts print, what is refused and with which words; the examples run; the same script gives the same
 * bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lab.h"

static const char *examples;

struct result {
	char *out, *err;
	int status;
};

static struct result run(const struct lab_options *o, const char *script)
{
	static const struct lab_options none;
	struct result r = {0};
	size_t n, m;
	FILE *in = fmemopen((void *)(uintptr_t)script, strlen(script), "r");
	FILE *out = open_memstream(&r.out, &n), *err = open_memstream(&r.err, &m);

	assert_non_null(in);
	r.status = lab_run(o ? o : &none, "script", in, out, err);
	fclose(in);
	fclose(out);
	fclose(err);
	return r;
}

static void drop(struct result r)
{
	free(r.out);
	free(r.err);
}

static void prints(const struct lab_options *o, const char *script, const char *words)
{
	struct result r = run(o, script);

	if (r.status || !strstr(r.out, words))
		fail_msg("status %d, expected \"%s\" in:\n%s%s", r.status, words, r.out, r.err);
	drop(r);
}

static void refuses(const struct lab_options *o, const char *script, const char *words)
{
	struct result r = run(o, script);

	if (r.status != 125 || !strstr(r.err, words))
		fail_msg("status %d, expected \"%s\" in:\n%s%s", r.status, words, r.out, r.err);
	drop(r);
}

static void test_commands(void **state)
{
	prints(NULL, "alloc a 3\nshow a # words\n", "a: block, frame ");
	prints(NULL, "alloc a 3\nshow a\n", ", order 3\n");
	prints(NULL, "kmalloc k 100\nshow k", "100 bytes asked for, 128 usable");
	prints(NULL, "kmalloc k 100\nkrealloc k 5000\nshow k\nfree k\ncheck", "5000 bytes asked for, 8192 usable");
	prints(NULL, "kzalloc k 0\nshow k\nkfree k", "no bytes at all");
	prints(NULL, "vmalloc v 1M\nshow v\nwrite v 1M 1\nvfree v\npurge", "fault at 0xffff8000001");
	prints(NULL, "vzalloc v 64K\nshow vmallocinfo", " pages=16 vmalloc N0=16\n");
	prints(NULL, "cache c 600\ncache-alloc o1..o9 c\nshow c", "c: cache of 600-byte objects, 9 live");
	prints(NULL, "cache c 600\ncache-alloc o c\ncache-destroy c\nshow log", "Slab cache still has objects");
	prints(NULL, "cache c 600\ncache-alloc o c\nfree o\ncache-destroy c\ncheck", "every structure is valid");
	prints(NULL, "mempool p 3 pages 1\nfail from 1\nmempool-alloc e1..e4 p\nfail off\nshow p",
	       "mempool-alloc e4: out of memory\n");
	prints(NULL, "mempool p 3 kmalloc 100\nmempool-resize p 9\nshow p\nmempool-destroy p", "9 elements in reserve");
	prints(NULL, "fail nth 2 page\nalloc a1..a3 5\nshow names", "alloc a2: out of memory\na1: block");
	prints(NULL, "kmalloc huge 100M", "kmalloc huge: out of memory");
	prints(NULL, "alloc a1..a10/3 0\nfree a1\nfree a4\nfree a7\nfree a10\ncheck", "every structure is valid");
	prints(NULL, "echo one two # three", "one two\n");
}

static void test_views(void **state)
{
	prints(NULL, "show buddyinfo", "Node 0, zone");
	prints(NULL, "show slabinfo", "slabinfo - version: 2.1\n");
	prints(NULL, "show zoneinfo", "pages free");
	prints(NULL, "show pagetypeinfo", "Unmovable");
	prints(NULL, "show meminfo", "MemTotal:          65536 kB");
	prints(NULL, "show vmstat", "nr_free_pages ");
	prints(NULL, "show fragmentation", "largest free order: 10");
	prints(&(struct lab_options){.debug = true}, "alloc a 4\nshow owners", "        16          1          1  0x");
	prints(&(struct lab_options){.nr_cpus = 4}, "cpu 3\nalloc a 0\nfree a\ncpu 0\ncheck",
	       "every structure is valid");
}

static void test_bad_input(void **state)
{
	refuses(NULL, "alloc a 0\n\nfrobnicate", "quire lab: script:3: 'frobnicate' is not a command");
	refuses(NULL, "alloc a", "script:1: usage: alloc NAME ORDER [GFP]");
	refuses(NULL, "alloc a 11", "'11' is not a number from 0 to 10");
	refuses(NULL, "alloc a x", "'x' is not a number");
	refuses(NULL, "alloc a 1 SIDEWAYS", "'SIDEWAYS' is no allocation flag");
	refuses(NULL, "alloc a 1\nalloc a 1", "script:2: 'a' is in use since line 1");
	refuses(NULL, "alloc a 1\nfree a\nfree a", "script:3: 'a' was freed on line 2");
	refuses(NULL, "free b", "'b' is not known");
	refuses(NULL, "alloc a 1\nkfree a", "'a' is a block, not a kmalloc memory");
	refuses(NULL, "alloc a1..b3 0", "'a1..b3' is no range of names");
	refuses(NULL, "alloc a3..a1 0", "'a3..a1' is no range of names");
	refuses(NULL, "kmalloc k 12X", "'12X' has no unit that I know");
	refuses(NULL, "show nothing", "'nothing' is neither a view nor a name");
	refuses(NULL, "fail now", "nth N or from N would be right");
	refuses(NULL, "cache c 100\nfree c", "use cache-destroy");
	refuses(NULL, "mempool p 3 sand 1", "'sand' is no back end");
	refuses(NULL, "kmalloc k 8\nwrite k 1T 1", "outside of the machine's memory");
}

static void has(const char *script, const char *words)
{
	struct result r = run(NULL, script);

	if (r.status || !strstr(r.out, words))
		fail_msg("status %d, no '%s' in:\n%s%s", r.status, words, r.out, r.err);
	drop(r);
}

/* Each access says which way its fault took, and what the processor's registers were. */
static void test_processes(void **state)
{
	has("process p\nmap a p 8K\nload p a", "(translation fault, level 0), ESR_EL1 0x92000004");
	has("process p\nmap a p 8K\nload p a\nload p a+8", "0x0\n  no fault");
	has("process p\nmap a p 8K\nstore p a+4096 77\ndevmem read 0", "do_anonymous_page");
	has("process p\nmap a p 8K r\nstore p a 1", "not possible\n  data abort, write");
	has("process p\nmap a p 8K r\nstore p a 1", "> signal 11, code 2");
	has("process p\nload p 16", "> signal 11, code 1");
	has("process p\nmap a p 8K rx\nfetch p a", "instruction abort (translation fault");
	has("process p\nmap a p 8K\nstore p a 5\nfork c p\nstore c a 6\nload p a", ": 0x5\n");
	has("process p\nmap a p 8K\nstore p a 5\nfork c p\nstore c a 6", "wp_page_copy");
	has("process p\nmap a p 8K\nstore p a 5\nfork c p\nexit c\nstore p a 6", "wp_page_reuse");
	has("process p\nmap a p 8K shared\nfork c p\nstore c a 6\nload p a", ": 0x6\n");
	has("process p\nmap a p 8K\nstore p a 5\ntranslate p a", "level 3");
	has("process p\nmap a p 8K\nmaps p\nsmaps p\nstatus p", "VmRSS:");
	has("process p\nmap a p 8K\nunmap a\nmap a p 4K\nload p a", ": 0x0\n");
	has("devmem write 0x100000 0xabc\ndevmem read 0x100000", "0x100000: 0x0000000000000abc");
	has("process p\nexec p /proc/self/exe\nmaps p", "[stack]");
	has("process p\nexec p /etc/passwd", "error 8 (Exec format error)");
	has("process p1..p3\nexit p1..p3\ncheck", "every structure is valid");
	refuses(NULL, "map a p 4K", "'p' is not known");
	refuses(NULL, "process p\nmap a p 4K rq", "neither a protection");
	refuses(NULL, "process p\nfree p", "use exit or unmap");
	refuses(NULL, "process p\nexit p\nload p 0", "'p' was freed on line 2");
	refuses(NULL, "process p\nexec p /nonexistent", "/nonexistent: No such file");
	refuses(NULL, "devmem read 3", "no address of eight bytes");
	refuses(NULL, "devmem look 8", "usage: devmem read PHYS");
}

/* What the allocators themselves refuse: the machine ends with its report. */
static void test_crimes(void **state)
{
	refuses(NULL, "kmalloc k 64\nfree k\nfree! k", "BUG kmalloc-64 (Not tainted): Object already free");
	refuses(NULL, "kmalloc k 64\nfree k\nfree! k", "script:3: the machine had to end: ");
	refuses(NULL, "vmalloc v 4K\nfree v\nfree! v", "Trying to vfree() nonexistent vm area");
	refuses(NULL, "cache c 100 debug\ncache-alloc o c\nwrite o 100 1\nfree o", "Right Redzone overwritten");
	refuses(&(struct lab_options){.debug = true}, "kmalloc k 64\nfree k\nwrite k 10 1\nkmalloc l1..l100 64",
		"Poison overwritten");
	refuses(NULL, "alloc a 2\nfree a\nfree! a", "the machine had to end");
}

static void test_machines(void **state)
{
	prints(&(struct lab_options){.zones = "32", .memory = 1ull << 30}, "alloc a 0 HIGHUSER\nshow a",
	       "zone HighMem");
	prints(&(struct lab_options){.zones = "flat"}, "show buddyinfo", "Normal");
	prints(&(struct lab_options){.zones = "dma=8M,lowmem=32M"}, "alloc a 0 DMA\nshow a\nalloc b 0 HIGHUSER\nkmap b",
	       "b: mapped at 0xffffffffc");
	refuses(&(struct lab_options){.zones = "round"}, "", "'round' is no zone layout");
	refuses(&(struct lab_options){.zones = "dma=8"
					       "X"},
		"", "'8X' has no unit");
	refuses(&(struct lab_options){.zones = "dma=64M,lowmem=16M"}, "echo", "cannot boot");
}

static char *read_example(const char *name)
{
	char path[1024];
	char *text = calloc(1, 65536);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.lab", examples, name);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, 65535, f) > 0);
	fclose(f);
	return text;
}

static void test_examples(void **state)
{
	static const struct {
		const char *name, *zones, *words;
	} list[] = {
		{"buddy", "flat", "f1023: "},
		{"slab", NULL, "inode: objects remain in use; the cache stays"},
		{"fault", NULL, "do_wp_page > wp_page_reuse"},
		{"reserves", "dma=4M,lowmem=12M", "mempool-alloc e5: out of memory"},
	};
	unsigned i;

	for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		struct lab_options o = {.memory = 16 << 20, .zones = list[i].zones};
		char *script = read_example(list[i].name);
		struct result a = run(&o, script), b = run(&o, script);

		if (a.status || !strstr(a.out, "check: every structure is valid"))
			fail_msg("%s: status %d\n%s%s", list[i].name, a.status, a.out, a.err);
		if (i)
			assert_non_null(strstr(a.out, list[i].words));
		/* Callers' addresses apart, nothing depends on anything but the script. */
		assert_int_equal(strlen(a.out), strlen(b.out));
		if (i < 2)
			assert_string_equal(a.out, b.out);
		free(script);
		drop(a);
		drop(b);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands), cmocka_unit_test(test_views),    cmocka_unit_test(test_bad_input),
		cmocka_unit_test(test_processes), cmocka_unit_test(test_crimes),   cmocka_unit_test(test_machines), cmocka_unit_test(test_examples),
	};

	examples = argc > 1 ? argv[1] : "examples/lab";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
