/*
 * exec_mm: the host's own programs read into the simulated machine and compared byte by byte, hand-made images for the
 * corners, mutated ones that must be refused or work but never crash, and every allocation failed in turn.
 */
#include "memfile_test.h"
#include "elf.h"
#include <mm/mm.h>

enum { T_NULL = 0, T_PHDR = 3, T_PHENT = 4, T_PHNUM = 5, T_PAGESZ = 6, T_BASE = 7, T_ENTRY = 9, T_UID = 11, T_PLATFORM = 15,
       T_HWCAP = 16, T_CLKTCK = 17, T_SECURE = 23, T_RANDOM = 25, T_EXECFN = 31, T_SYSINFO = 33, T_MINSIGSTKSZ = 51 };

static u64 rng;

static u64 rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1dull;
}

/* ---- the machine and its files ---- */

struct world {
	struct quire *q;
	struct leak_check before;
	struct file *prog, *interp;
	u8 *prog_bytes, *interp_bytes; /* the test's own copies */
	size_t prog_size, interp_size;
	char interp_path[256];         /* as the program asked for it */
};

static void *copy_of(const void *data, size_t n)
{
	void *p = malloc(n ? n : 1);

	memcpy(p, data, n);
	return p;
}

static struct file *open_interp(struct quire *q, const char *path, void *cookie)
{
	struct world *w = cookie;

	snprintf(w->interp_path, sizeof(w->interp_path), "%s", path);
	if (!w->interp)
		return ERR_PTR(-ENOENT);
	file_get(w->interp);
	return w->interp;
}

static void world_open(struct world *w, const struct sim_config *cfg, void *prog, size_t size, const char *interp)
{
	memset(w, 0, sizeof(*w));
	w->q = sim_machine_new(cfg);
	w->before = leak_count(w->q);
	w->prog_bytes = prog;
	w->prog_size = size;
	w->prog = memfile_new(w->q, 1, "/bin/program", copy_of(prog, size), size);
	assert_non_null(w->prog);
	if (interp) {
		w->interp_bytes = host_file(interp, &w->interp_size);
		assert_non_null(w->interp_bytes);
		w->interp = memfile_new(w->q, 2, "/lib/ld.so", copy_of(w->interp_bytes, w->interp_size), w->interp_size);
		assert_non_null(w->interp);
	}
}

static void world_close(struct world *w)
{
	file_put(w->prog);
	if (w->interp)
		file_put(w->interp);
	leak_assert_none(w->q, w->before);
	sim_machine_free(w->q);
	free(w->prog_bytes);
	free(w->interp_bytes);
}

static const char *const test_argv[] = { "program", "one", "", "three words here" };
static const char *const test_envp[] = { "PATH=/bin", "HOME=/root", "X=" };

static struct exec_args args_of(struct world *w)
{
	return (struct exec_args){
		.file = w->prog, .filename = "/bin/program", .argc = 4, .envc = 3, .argv = test_argv, .envp = test_envp,
		.open_interp = open_interp, .cookie = w, .uid = 11, .euid = 12, .gid = 13, .egid = 14, .hwcap = 0xabc,
		.hwcap2 = 2, .minsigstksz = 3376, .clktck = 100, .sysinfo_ehdr = 0x6ffff0000000, .rlim_stack = 8 << 20,
		.abi = &guest_abi_x86_64,
	};
}

/* ---- checks ---- */

static void read_user(struct mm_struct *mm, u64 addr, void *buf, size_t n)
{
	long got = access_process_vm(mm, addr, buf, n, false);

	if (got != (long)n)
		fail_msg("read of %zu bytes at %#lx gave %ld", n, (unsigned long)addr, got);
}

static u64 read_word(struct mm_struct *mm, u64 addr)
{
	u64 v;

	read_user(mm, addr, &v, sizeof(v));
	return v;
}

static void check_string(struct mm_struct *mm, u64 addr, const char *want)
{
	char buf[256];

	read_user(mm, addr, buf, strlen(want) + 1);
	assert_string_equal(buf, want);
}

/* Every byte of every PT_LOAD, and zeros behind it. */
static void check_image(struct mm_struct *mm, const u8 *file, u64 bias)
{
	const struct elf64_ehdr *eh = (const void *)file;

	for (u32 i = 0; i < eh->e_phnum; i++) {
		const struct elf64_phdr *ph = (const void *)(file + eh->e_phoff + i * sizeof(*ph));
		u8 *buf;

		if (ph->p_type != PT_LOAD || !ph->p_memsz)
			continue;
		buf = malloc(ph->p_memsz);
		read_user(mm, ph->p_vaddr + bias, buf, ph->p_memsz);
		assert_memory_equal(buf, file + ph->p_offset, ph->p_filesz);
		for (u64 k = ph->p_filesz; k < ph->p_memsz; k++)
			assert_int_equal(buf[k], 0);
		/* The rest of the last page is zeroed where it can be written. */
		if ((ph->p_flags & PF_W) && ph->p_memsz > ph->p_filesz) {
			u64 end = ph->p_vaddr + bias + ph->p_memsz, n = PAGE_ALIGN(end) - end;
			u8 tail[PAGE_SIZE];

			read_user(mm, end, tail, n);
			for (u64 k = 0; k < n; k++)
				assert_int_equal(tail[k], 0);
		}
		free(buf);
	}
}

struct auxv_seen {
	u64 type[40], value[40];
	unsigned n;
};

static u64 aux_value(const struct auxv_seen *a, u64 type)
{
	for (unsigned i = 0; i < a->n; i++) {
		if (a->type[i] == type)
			return a->value[i];
	}
	fail_msg("no AT %lu", (unsigned long)type);
	return 0;
}

/* argc, argv, envp, auxv as a program's start-up code walks them. */
static struct auxv_seen check_stack(struct mm_struct *mm, const struct exec_result *r, const struct exec_args *args)
{
	struct auxv_seen a = { .n = 0 };
	u64 at = r->sp;

	assert_int_equal(at % 16, 0);
	assert_int_equal(read_word(mm, at), args->argc ? args->argc : 1);
	at += 8;
	for (u32 i = 0; i < (args->argc ? args->argc : 1); i++, at += 8)
		check_string(mm, read_word(mm, at), args->argc ? args->argv[i] : "");
	assert_int_equal(read_word(mm, at), 0);
	at += 8;
	for (u32 i = 0; i < args->envc; i++, at += 8)
		check_string(mm, read_word(mm, at), args->envp[i]);
	assert_int_equal(read_word(mm, at), 0);
	for (at += 8; read_word(mm, at); at += 16) {
		assert_true(a.n < 40);
		a.type[a.n] = read_word(mm, at);
		a.value[a.n++] = read_word(mm, at + 8);
	}
	check_string(mm, aux_value(&a, T_EXECFN), args->filename);
	check_string(mm, aux_value(&a, T_PLATFORM), args->abi->platform);
	assert_int_equal(aux_value(&a, T_PAGESZ), PAGE_SIZE);
	assert_int_equal(aux_value(&a, T_UID), args->uid);
	assert_int_equal(aux_value(&a, T_SYSINFO), args->sysinfo_ehdr);
	assert_int_equal(aux_value(&a, T_HWCAP), args->hwcap);
	read_word(mm, aux_value(&a, T_RANDOM) + 8);
	/* The argument strings lie in [arg_start, arg_end), the environment behind them. */
	check_string(mm, mm->arg_start, args->argc ? args->argv[0] : "");
	if (args->envc)
		check_string(mm, mm->env_start, args->envp[0]);
	assert_int_equal(mm->arg_end, mm->env_start);
	assert_int_equal(mm->env_end, aux_value(&a, T_EXECFN));
	assert_memory_equal(mm->saved_auxv, &a.type[0], 8);
	return a;
}

static void check_program(struct world *w, const struct exec_args *args, const struct exec_result *r)
{
	const struct elf64_ehdr *eh = (const void *)w->prog_bytes;
	struct auxv_seen a = check_stack(r->mm, r, args);
	u64 bias = aux_value(&a, T_ENTRY) - eh->e_entry;

	check_image(r->mm, w->prog_bytes, bias);
	assert_int_equal(aux_value(&a, T_PHNUM), eh->e_phnum);
	assert_int_equal(aux_value(&a, T_PHENT), 56);
	if (aux_value(&a, T_PHDR)) {
		u8 ph[56];

		read_user(r->mm, aux_value(&a, T_PHDR), ph, sizeof(ph));
		assert_memory_equal(ph, w->prog_bytes + eh->e_phoff, sizeof(ph));
	}
	if (w->interp_path[0]) {
		const struct elf64_ehdr *ieh = (const void *)w->interp_bytes;

		check_image(r->mm, w->interp_bytes, aux_value(&a, T_BASE));
		assert_int_equal(r->entry, ieh->e_entry + aux_value(&a, T_BASE));
	} else {
		assert_int_equal(aux_value(&a, T_BASE), 0);
		assert_int_equal(r->entry, aux_value(&a, T_ENTRY));
	}
	assert_true(mm_is_valid(r->mm));
	assert_ptr_equal(r->mm->exe_file, w->prog);
}

/* ---- real programs ---- */

static void run_real(const char *path, bool aslr, u64 seed, bool tokens)
{
	struct sim_config cfg = { .memory = 128 << 20, .seed = seed, .host_files = tokens, .break_percent = aslr ? 10 : 0 };
	struct exec_result r;
	struct exec_args args;
	struct world w;
	size_t size;
	void *data = host_file(path, &size);

	if (!data) {
		print_message("%s is not on this host\n", path);
		return;
	}
	world_open(&w, &cfg, data, size, "/lib64/ld-linux-x86-64.so.2");
	args = args_of(&w);
	args.aslr = aslr;
	assert_int_equal(exec_mm(w.q, &args, &r), 0);
	check_program(&w, &args, &r);
	assert_false(r.exec_stack);
	mmput(r.mm);
	world_close(&w);
}

static const char *const programs[] = { "/bin/true", "/bin/bash", "/usr/bin/python3", "/usr/bin/perl", "/usr/sbin/ldconfig",
					"/lib64/ld-linux-x86-64.so.2" };

static void test_real_programs(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		run_real(programs[i], false, 1, false);
		run_real(programs[i], true, 7 + i, false);
		run_real(programs[i], true, 70 + i, true);
	}
}

static void test_layout_without_aslr(void **state)
{
	struct world w;
	struct exec_result r;
	struct exec_args args;
	size_t size;
	void *data = host_file("/bin/true", &size);
	struct vm_area_struct *vma;

	world_open(&w, NULL, data, size, "/lib64/ld-linux-x86-64.so.2");
	args = args_of(&w);
	assert_int_equal(exec_mm(w.q, &args, &r), 0);
	assert_int_equal(r.mm->start_code, 0x555555554000);
	assert_int_equal(r.mm->start_brk, r.mm->brk);
	assert_true(r.mm->brk > r.mm->end_data && r.mm->brk - r.mm->end_data < (1 << 20));
	vma = find_vma(r.mm, r.sp);
	assert_non_null(vma);
	assert_int_equal(vma_end(vma), 0x700000000000);
	assert_int_equal(vma_end(vma) - vma_start(vma), 132 << 10);
	assert_true(vma->vm_flags & VM_GROWSDOWN);
	assert_false(vma->vm_flags & VM_EXEC);
	/* 128 MiB gap at least below the stack; the interpreter directly below mmap_base. */
	assert_true(0x700000000000 - r.mm->mmap_base >= 128 << 20);
	vma = find_vma(r.mm, r.entry);
	assert_true(vma && vma_start(vma) <= r.entry);
	assert_true(r.mm->mmap_base - r.entry < 1 << 20);
	assert_string_equal(w.interp_path, "/lib64/ld-linux-x86-64.so.2");
	mmput(r.mm);
	world_close(&w);
}

/* As programs of old had it: mappings grow up from a third of the address space. */
static void test_compat_layout(void **state)
{
	struct world w;
	struct exec_result r;
	struct exec_args args;
	size_t size;
	void *data = host_file("/bin/true", &size);
	struct mm_struct *child;
	long first, second;
	u64 third;

	world_open(&w, NULL, data, size, "/lib64/ld-linux-x86-64.so.2");
	args = args_of(&w);
	args.compat_layout = true;
	assert_int_equal(exec_mm(w.q, &args, &r), 0);
	third = PAGE_ALIGN(r.mm->task_size / 3);
	assert_int_equal(r.mm->mmap_base, third);
	assert_int_equal(vma_start(find_vma(r.mm, third)), third); /* the interpreter */
	first = do_mmap(r.mm, NULL, 0, 2 * PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	second = do_mmap(r.mm, NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	assert_true(first > (long)third && first - (long)third < 1 << 20);
	assert_int_equal(second, first + 2 * (long)PAGE_SIZE);
	/* A hint below is a hint; what does not fit above is not looked for below. */
	assert_int_equal(do_mmap(r.mm, NULL, 0x10000000, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0), 0x10000000);
	assert_int_equal(do_mmap(r.mm, NULL, 0, r.mm->task_size / 3 * 2 + PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0),
			 -ENOMEM);
	child = dup_mm(r.mm);
	assert_false(IS_ERR(child));
	assert_int_equal(do_mmap(child, NULL, 0, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 0), second + (long)PAGE_SIZE);
	mmput(child);
	mmput(r.mm);
	world_close(&w);
}

static void test_aslr_moves_things(void **state)
{
	u64 code[2], stack[2], base[2], brk[2];

	for (int i = 0; i < 2; i++) {
		struct sim_config cfg = { .seed = 100 + (u64)i };
		struct world w;
		struct exec_result r;
		struct exec_args args;
		size_t size;
		void *data = host_file("/bin/true", &size);

		world_open(&w, &cfg, data, size, "/lib64/ld-linux-x86-64.so.2");
		args = args_of(&w);
		args.aslr = true;
		assert_int_equal(exec_mm(w.q, &args, &r), 0);
		code[i] = r.mm->start_code;
		stack[i] = r.mm->start_stack;
		base[i] = r.mm->mmap_base;
		brk[i] = r.mm->brk - r.mm->end_data;
		assert_in_range(code[i], 0x555555554000, 0x555555554000 + (1ull << 40));
		assert_in_range(stack[i], 0x700000000000 - (1ull << 34) - (1 << 20), 0x700000000000);
		mmput(r.mm);
		world_close(&w);
	}
	assert_int_not_equal(code[0], code[1]);
	assert_int_not_equal(stack[0], stack[1]);
	assert_int_not_equal(base[0], base[1]);
	assert_int_not_equal(brk[0], brk[1]);
}

/* ---- hand-made images ---- */

#define IMAGE_SIZE 0x6000

/* A program of two segments with a hole between them and bss; type ET_EXEC or ET_DYN. */
static u8 *make_image(u16 type, u64 base, u64 align)
{
	u8 *f = calloc(1, IMAGE_SIZE);
	struct elf64_ehdr *eh = (void *)f;
	struct elf64_phdr *ph = (void *)(f + 64);

	for (u32 i = 0x1000; i < IMAGE_SIZE; i++)
		f[i] = (u8)(i * 7 + 3);
	memcpy(eh->e_ident, "\177ELF\2\1\1", 7);
	*eh = (struct elf64_ehdr){ .e_type = type, .e_machine = 62, .e_version = 1, .e_entry = base + 0x1010, .e_phoff = 64,
				   .e_ehsize = 64, .e_phentsize = 56, .e_phnum = 3 };
	memcpy(eh->e_ident, "\177ELF\2\1\1", 7);
	ph[0] = (struct elf64_phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = base, .p_filesz = 0x1800,
				     .p_memsz = 0x1800, .p_align = align };
	ph[1] = (struct elf64_phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_offset = 0x2100,
				     .p_vaddr = base + 0x205100, .p_filesz = 0x1234, .p_memsz = 0x5234, .p_align = align };
	ph[2] = (struct elf64_phdr){ .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W };
	return f;
}

static int exec_image(struct world *w, u8 *image, struct exec_result *r)
{
	struct exec_args args;

	world_open(w, NULL, image, IMAGE_SIZE, NULL);
	args = args_of(w);
	return exec_mm(w->q, &args, r);
}

static void test_fixed_image_with_holes(void **state)
{
	struct exec_args args;
	struct exec_result r;
	struct world w;
	u8 byte;

	assert_int_equal(exec_image(&w, make_image(ET_EXEC, 0x400000, PAGE_SIZE), &r), 0);
	args = args_of(&w);
	check_program(&w, &args, &r);
	assert_int_equal(r.entry, 0x401010);
	/* The hole between the segments is nobody's. */
	assert_null(vma_lookup(r.mm, 0x500000));
	assert_int_equal(access_process_vm(r.mm, 0x500000, &byte, 1, false), -EFAULT);
	/* brk begins right behind bss. */
	assert_int_equal(r.mm->start_brk, PAGE_ALIGN(0x400000 + 0x205100 + 0x5234));
	assert_int_equal(r.mm->start_code, 0x400000);
	assert_int_equal(r.mm->end_code, 0x401800);
	assert_int_equal(r.mm->end_data, 0x605100 + 0x1234);
	mmput(r.mm);
	world_close(&w);
}

static void test_static_pie_is_aligned(void **state)
{
	struct exec_args args;
	struct exec_result r;
	struct world w;

	assert_int_equal(exec_image(&w, make_image(ET_DYN, 0, 0x200000), &r), 0);
	args = args_of(&w);
	check_program(&w, &args, &r);
	assert_int_equal(r.mm->start_code % 0x200000, 0);
	/* Without an interpreter the image is among the mappings and the heap where programs are. */
	assert_true(r.mm->start_code > 0x600000000000);
	assert_int_equal(r.mm->start_brk, 0x555555554000);
	mmput(r.mm);
	world_close(&w);
}

static void test_exec_stack_is_granted(void **state)
{
	u8 *image = make_image(ET_EXEC, 0x400000, PAGE_SIZE);
	struct exec_result r;
	struct world w;

	((struct elf64_phdr *)(image + 64))[2].p_flags |= PF_X;
	assert_int_equal(exec_image(&w, image, &r), 0);
	assert_true(r.exec_stack);
	assert_true(find_vma(r.mm, r.sp)->vm_flags & VM_EXEC);
	mmput(r.mm);
	world_close(&w);
}

/* One field wrong at a time; each is refused with ENOEXEC and nothing stays behind. */
static void test_malformed_headers(void **state)
{
	for (int which = 0; which < 16; which++) {
		u8 *image = make_image(ET_EXEC, 0x400000, PAGE_SIZE);
		struct elf64_ehdr *eh = (void *)image;
		struct elf64_phdr *ph = (void *)(image + 64);
		struct exec_result r;
		struct world w;
		int err;

		switch (which) {
		case 0: eh->e_ident[0] = 0; break;
		case 1: eh->e_ident[4] = 1; break;
		case 2: eh->e_ident[5] = 2; break;
		case 3: eh->e_type = 1; break;
		case 4: eh->e_machine = 183; break;
		case 5: eh->e_phentsize = 32; break;
		case 6: eh->e_phnum = 0; break;
		case 7: eh->e_phnum = 2000; break;
		case 8: eh->e_phoff = ~0ull - 10; break;
		case 9: eh->e_phoff = IMAGE_SIZE - 20; break;
		case 10: ph[1].p_memsz = 0x1000; break;
		case 11: ph[1].p_vaddr = ~0ull - 0x1000; break;
		case 12: ph[1].p_offset = 0x2000; break;
		case 13: ph[1].p_offset = ~0ull - 0xeff; break;
		case 14: ph[0].p_type = ph[1].p_type = 7; break;
		case 15: ph[1].p_filesz = ph[1].p_memsz = 1ull << 60; break;
		}
		err = exec_image(&w, image, &r);
		if (err != -ENOEXEC)
			fail_msg("case %d gave %d", which, err);
		world_close(&w);
	}
}

/* ---- arguments and errors ---- */

static void test_errors(void **state)
{
	struct exec_result r;
	struct exec_args args;
	struct world w;
	size_t size;
	void *data = host_file("/bin/true", &size);
	char *big = malloc(131073);

	world_open(&w, NULL, data, size, NULL);
	args = args_of(&w);
	assert_int_equal(exec_mm(w.q, &args, &r), -ENOENT); /* no interpreter */
	w.interp = memfile_new(w.q, 3, "/lib/bad.so", copy_of("this is no library", 18), 18);
	assert_int_equal(exec_mm(w.q, &args, &r), -ELIBBAD);
	w.prog->mode |= FMODE_NOEXEC;
	assert_int_equal(exec_mm(w.q, &args, &r), -EACCES);
	w.prog->mode &= ~FMODE_NOEXEC;
	args.abi = &guest_abi_arm64;
	assert_int_equal(exec_mm(w.q, &args, &r), -ENOEXEC);

	/* MAX_ARG_STRLEN counts the NUL: 131072 is the first length too long. */
	args = args_of(&w);
	memset(big, 'x', 131072);
	big[131072] = '\0';
	args.argv = (const char *const[]){ big };
	args.argc = 1;
	assert_int_equal(exec_mm(w.q, &args, &r), -E2BIG);
	big[131071] = '\0';
	assert_int_equal(exec_mm(w.q, &args, &r), -ELIBBAD);
	free(big);
	world_close(&w);
}

/* A quarter of the stack limit is the bound for all strings and pointers together. */
static void test_total_argument_size(void **state)
{
	const u32 n = 64;
	const char **argv = calloc(n, sizeof(*argv));
	char *s = malloc(40000);
	struct exec_result r;
	struct exec_args args;
	struct world w;

	memset(s, 'y', 39999);
	s[39999] = '\0';
	for (u32 i = 0; i < n; i++)
		argv[i] = s;
	world_open(&w, NULL, make_image(ET_EXEC, 0x400000, PAGE_SIZE), IMAGE_SIZE, NULL);
	args = args_of(&w);
	args.argv = argv;
	args.envc = 0;
	args.argc = 52; /* 2 080 000 < 2 MiB */
	assert_int_equal(exec_mm(w.q, &args, &r), 0);
	check_string(r.mm, r.mm->arg_start + 39990, "yyyyyyyyy");
	assert_int_equal(r.mm->arg_end - r.mm->arg_start, 52 * 40000);
	mmput(r.mm);
	args.argc = 53;
	assert_int_equal(exec_mm(w.q, &args, &r), -E2BIG);
	args.rlim_stack = 64 << 20; /* at most 6 MiB whatever the limit */
	args.argc = 64;
	assert_int_equal(exec_mm(w.q, &args, &r), 0);
	mmput(r.mm);
	args.argc = 0;
	assert_int_equal(exec_mm(w.q, &args, &r), 0);
	check_stack(r.mm, &r, &args);
	mmput(r.mm);
	world_close(&w);
	free(argv);
	free(s);
}

/* ---- mutations ---- */

static void mutate(u8 *image, size_t header_bytes)
{
	unsigned n = 1 + (unsigned)(rnd() % 4);

	while (n--) {
		size_t at = rnd() % header_bytes;

		switch (rnd() % 4) {
		case 0: image[at] = (u8)rnd(); break;
		case 1: image[at] ^= (u8)(1u << (rnd() % 8)); break;
		case 2: *(u64 *)(image + (at & ~7ull)) = rnd() % 3 ? rnd() >> (rnd() % 64) : ~0ull << (rnd() % 64); break;
		default: *(u32 *)(image + (at & ~3ull)) = (u32)(rnd() % 8); break;
		}
	}
}

static void test_mutated_images(void **state)
{
	const char *longer = getenv("QUIRE_LONG");
	int rounds = longer ? 200000 : 4000, worked = 0;
	struct world w;
	struct memfile *f;

	rng = sim_seed(20240607) * 2 + 1;
	world_open(&w, NULL, make_image(ET_DYN, 0, PAGE_SIZE), IMAGE_SIZE, "/lib64/ld-linux-x86-64.so.2");
	f = w.prog->mapping->port_private;
	for (int i = 0; i < rounds; i++) {
		u8 *fresh = make_image(rnd() % 2 ? ET_DYN : ET_EXEC, rnd() % 2 ? 0x400000 : 0x10000, PAGE_SIZE << (rnd() % 10));
		struct exec_args args = args_of(&w);
		struct exec_result r;
		int err;

		/* Now and then the third header names an interpreter. */
		if (rnd() % 3 == 0) {
			struct elf64_phdr *ph = (void *)(fresh + 64);

			ph[2] = (struct elf64_phdr){ .p_type = PT_INTERP, .p_offset = 0x1900, .p_filesz = 8 };
			memcpy(fresh + 0x1900, "/lib/ld", 8);
		}
		mutate(fresh, 64 + 3 * 56);
		memcpy(f->data, fresh, IMAGE_SIZE);
		truncate_pagecache(w.prog->mapping, 0); /* the cache must not keep the old bytes */
		free(fresh);
		args.aslr = rnd() % 2;
		err = exec_mm(w.q, &args, &r);
		assert_in_range(-err, 0, 4095);
		if (!err) {
			worked++;
			assert_true(mm_is_valid(r.mm));
			mmput(r.mm);
		}
	}
	assert_in_range(worked, 1, rounds - 1);
	world_close(&w);
}

/* ---- failures on demand ---- */

static void test_failure_sweep(void **state)
{
	struct sim_config cfg = { .memory = 32 << 20 };
	struct exec_args args;
	struct exec_result r;
	struct world w;
	size_t size;
	void *data = host_file("/bin/true", &size);
	u64 n, failed = 0;

	world_open(&w, &cfg, data, size, "/lib64/ld-linux-x86-64.so.2");
	args = args_of(&w);
	for (n = 1;; n++) {
		int err;

		truncate_pagecache(w.prog->mapping, 0);
		truncate_pagecache(w.interp->mapping, 0);
		sim_fail_nth(w.q, SIM_FAIL_ALL, n);
		err = exec_mm(w.q, &args, &r);
		if (!sim_fail_injected(w.q))
			break;
		failed += err != 0;
		if (err)
			assert_true(err == -ENOMEM || err == -EIO || err == -EFAULT);
		else
			mmput(r.mm);
	}
	mmput(r.mm);
	print_message("%lu failures injected, %lu calls failed\n", (unsigned long)n - 1, (unsigned long)failed);
	world_close(&w);
}

/* From the nth on everything fails: no retry can save the call, so what is undone is all of it. */
static void test_failure_from(void **state)
{
	struct sim_config cfg = { .memory = 32 << 20 };
	struct exec_args args;
	struct exec_result r;
	struct world w;
	size_t size;
	void *data = host_file("/bin/true", &size);
	u64 n, failed = 0;

	world_open(&w, &cfg, data, size, "/lib64/ld-linux-x86-64.so.2");
	args = args_of(&w);
	for (n = 1;; n++) {
		int err;

		truncate_pagecache(w.prog->mapping, 0);
		truncate_pagecache(w.interp->mapping, 0);
		sim_fail_from(w.q, SIM_FAIL_MEMORY, n);
		err = exec_mm(w.q, &args, &r);
		if (!err)
			mmput(r.mm);
		if (!sim_fail_injected(w.q))
			break;
		sim_fail_none(w.q);
		failed += err != 0;
	}
	assert_true(failed > 0);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_programs),
		cmocka_unit_test(test_layout_without_aslr),
		cmocka_unit_test(test_compat_layout),
		cmocka_unit_test(test_aslr_moves_things),
		cmocka_unit_test(test_fixed_image_with_holes),
		cmocka_unit_test(test_static_pie_is_aligned),
		cmocka_unit_test(test_exec_stack_is_granted),
		cmocka_unit_test(test_malformed_headers),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_total_argument_size),
		cmocka_unit_test(test_mutated_images),
		cmocka_unit_test(test_failure_sweep),
		cmocka_unit_test(test_failure_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
