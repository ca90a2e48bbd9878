/*
 * libFuzzer on exec: any bytes are a program file.  exec_mm() must refuse it or make an address space that is valid, can
 * be touched and leaves nothing behind; never crash.  A program that asks for an interpreter gets itself as one.
 *
 * One machine serves all inputs; every LEAK_EVERY inputs its objects and frames are counted.  The machine's answer to
 * an input depends on that input alone, so a crash file replays: `elf_fuzz FILE`.
 */
#include <mm/mm.h>
#include <port/sim/sim.h>
#include <port/sim/simfs.h>
#include <stdio.h>
#include <stdlib.h>

#define LEAK_EVERY 512u
#define PATH "/bin/fuzzed"
#define TOUCHES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct quire *q;

struct in_use {
	u64 objects, frames;
};

static struct in_use count(void)
{
	struct in_use u = { 0, 0 };

	kmem_reap(q);
	drain_all_pages(q);
	for (struct kmem_cache *c = q->kmem.caches; c; c = c->next)
		if (c != &q->kmem.magazine_cache)
			u.objects += kmem_cache_live_objects(q, c);
	u.frames = totalram_pages(q) - nr_free_pages(q) - q->kmem.nr_slab_pages[0] - q->kmem.nr_slab_pages[1];
	return u;
}

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "elf_fuzz: %s\n", what);
	abort();
}

static struct file *open_interp(struct quire *machine, const char *path, void *cookie)
{
	check(strlen(path) < 4096, "a path without end");
	return sim_file_open(machine, PATH, FMODE_READ);
}

/* The first and the last byte of the first VMAs, read and written where that is allowed; faults are answers, too. */
static void touch(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	u64 at = 0;
	u32 i;

	for (i = 0; i < TOUCHES; i++) {
		u64 start, end;
		u8 byte = 0;

		spin_lock(&mm->lock);
		vma = find_vma(mm, at);
		start = vma ? vma_start(vma) : 0;
		end = vma ? vma_end(vma) : 0;
		spin_unlock(&mm->lock);
		if (!vma)
			return;
		access_process_vm(mm, start, &byte, 1, false);
		access_process_vm(mm, start, &byte, 1, true);
		access_process_vm(mm, end - 1, &byte, 1, false);
		access_process_vm(mm, end - 1, &byte, 1, true);
		at = end;
	}
}

static void run(const u8 *data, size_t size)
{
	static const char *const argv[] = { "fuzzed", "one", "" }, *const envp[] = { "PATH=/bin" };
	struct exec_args args = {
		.filename = PATH, .argc = 3, .envc = 1, .argv = argv, .envp = envp, .open_interp = open_interp,
		.clktck = 100, .rlim_stack = 8 << 20, .abi = &guest_abi_x86_64, .aslr = size & 1,
	};
	struct exec_result res;

	args.file = sim_file_create(q, PATH, data, size);
	check(args.file != NULL, "no memory for the file");
	if (!exec_mm(q, &args, &res)) {
		check(mm_is_valid(res.mm), "exec made an invalid address space");
		touch(res.mm);
		check(mm_is_valid(res.mm), "touching it made it invalid");
		mmput(res.mm);
	}
	sim_file_unlink(q, PATH);
	file_put(args.file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct in_use before;
	static u64 runs;

	if (!q) {
		q = sim_machine_new(&(struct sim_config){ .memory = 64 << 20, .overcommit_memory = 1 });
		run(data, size); /* what comes into being once */
		before = count();
	}
	run(data, size);
	if (++runs % LEAK_EVERY == 0) {
		struct in_use now = count();

		check(now.objects == before.objects && now.frames == before.frames, "something leaked in the last inputs");
	}
	return 0;
}
