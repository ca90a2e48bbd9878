/*
 * The stack a new program finds: arguments, environment and auxiliary vector, byte for byte as Linux lays
 * them out on x86-64 and arm64 (System V ABI AMD64 3.4.1; AAPCS64 Linux ABI).
 *
 * First plan, then build: sizes decide every address, so the strings can be written in one ascending pass.
 * Writing goes through access_process_vm(), which faults the new stack in like the program would.
 * No locks; the mm belongs to the caller alone.
 */
#include "exec_internal.h"

#define ARG_STRING_MAX (32 * PAGE_SIZE) /* MAX_ARG_STRLEN */
#define ARG_MAX_BYTES 131072ul
#define STACK_LIMIT_DEFAULT (8ul << 20)
#define STACK_EXPAND 131072ul           /* room below the first pages: 132 KiB for most programs */

/* Collects small writes at ascending addresses. */
struct stack_writer {
	struct mm_struct *mm;
	u64 addr;   /* of buf[0] */
	size_t n;   /* bytes in buf */
	int err;    /* first failure */
	u8 buf[512];
};

static u32 arg_count(const struct exec_args *args)
{
	return args->argc ? args->argc : 1;
}

static const char *arg_at(const struct exec_args *args, u32 i)
{
	return args->argc ? args->argv[i] : "";
}

/* Bytes of n strings with their NULs; ~0 if one is longer than the system allows. */
static u64 strings_size(const char *const *v, u32 n)
{
	u64 total = 0;

	for (u32 i = 0; i < n; i++) {
		size_t len = strlen(v[i]) + 1;

		if (len > ARG_STRING_MAX)
			return ~0ull;
		total += len;
	}
	return total;
}

/* The bound of Linux's bprm_stack_limits(): a quarter of the stack, at most 6 MiB, at least 128 KiB. */
int stack_check_args(const struct exec_args *args, u64 rlim_stack)
{
	u64 limit = MIN(STACK_LIMIT_DEFAULT / 4 * 3, rlim_stack / 4);
	u64 pointers = ((u64)arg_count(args) + args->envc) * sizeof(u64);
	u64 a = strings_size(args->argv, args->argc), e = strings_size(args->envp, args->envc);

	limit = MAX(limit, ARG_MAX_BYTES);
	if (limit <= pointers || a == ~0ull || e == ~0ull)
		return -E2BIG;
	if (a + e + strlen(args->filename) + 1 > limit - pointers)
		return -E2BIG;
	return 0;
}

static void aux(struct stack_plan *p, u64 type, u64 value)
{
	BUG_ON(p->auxv_words + 2 > AUXV_WORDS);
	p->auxv[p->auxv_words++] = type;
	p->auxv[p->auxv_words++] = value;
}

/* In Linux's order (create_elf_tables); entries that this machine has no value for are left out. */
static void plan_auxv(struct stack_plan *p, const struct exec_args *args, const struct exec_images *im)
{
	if (args->sysinfo_ehdr)
		aux(p, AT_SYSINFO_EHDR, args->sysinfo_ehdr);
	if (args->minsigstksz)
		aux(p, AT_MINSIGSTKSZ, args->minsigstksz);
	aux(p, AT_HWCAP, args->hwcap);
	aux(p, AT_PAGESZ, PAGE_SIZE);
	aux(p, AT_CLKTCK, args->clktck ? args->clktck : 100);
	aux(p, AT_PHDR, im->phdr);
	aux(p, AT_PHENT, im->phent);
	aux(p, AT_PHNUM, im->phnum);
	aux(p, AT_BASE, im->base);
	aux(p, AT_FLAGS, 0);
	aux(p, AT_ENTRY, im->entry);
	aux(p, AT_UID, args->uid);
	aux(p, AT_EUID, args->euid);
	aux(p, AT_GID, args->gid);
	aux(p, AT_EGID, args->egid);
	aux(p, AT_SECURE, args->secure);
	aux(p, AT_RANDOM, p->random);
	aux(p, AT_HWCAP2, args->hwcap2);
	aux(p, AT_EXECFN, p->execfn);
	if (p->platform)
		aux(p, AT_PLATFORM, p->platform);
	aux(p, AT_NULL, 0);
}

void stack_plan_make(struct quire *q, struct stack_plan *p, const struct exec_args *args,
		     const struct exec_images *im, u64 top)
{
	const char *platform = args->abi->platform;
	u64 at, words;

	memset(p, 0, sizeof(*p));
	p->argc = arg_count(args);
	p->top = top;
	p->execfn = top - sizeof(u64) - (strlen(args->filename) + 1);
	p->env_start = p->execfn - strings_size(args->envp, args->envc);
	p->arg_start = p->env_start - (args->argc ? strings_size(args->argv, args->argc) : 1);
	at = args->aslr ? p->arg_start - port_random(q) % 8192 : p->arg_start;
	at = ALIGN_DOWN(at, 16);
	if (platform) {
		at -= strlen(platform) + 1;
		p->platform = at;
	}
	at -= 16;
	p->random = at;
	plan_auxv(p, args, im);
	words = p->auxv_words + 1 + (p->argc + 1) + (args->envc + 1);
	p->sp = ALIGN_DOWN(ALIGN_DOWN(at, sizeof(u64)) - words * sizeof(u64), 16);
}

static void writer_flush(struct stack_writer *w)
{
	if (w->n && !w->err && access_process_vm(w->mm, w->addr, w->buf, w->n, true) != (long)w->n)
		w->err = -ENOMEM;
	w->addr += w->n;
	w->n = 0;
}

static void writer_put(struct stack_writer *w, const void *data, size_t n)
{
	const u8 *p = data;

	while (n) {
		size_t take = MIN(n, sizeof(w->buf) - w->n);

		memcpy(w->buf + w->n, p, take);
		w->n += take;
		p += take;
		n -= take;
		if (w->n == sizeof(w->buf))
			writer_flush(w);
	}
}

static void writer_word(struct stack_writer *w, u64 word)
{
	writer_put(w, &word, sizeof(word));
}

static void writer_seek(struct stack_writer *w, u64 addr)
{
	writer_flush(w);
	w->addr = addr;
}

/* The pointers to n strings that lie one after another from addr, and the NULL behind them. */
static void write_pointers(struct stack_writer *w, u64 addr, const char *const *v, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		writer_word(w, addr);
		addr += strlen(v[i]) + 1;
	}
	writer_word(w, 0);
}

static void write_vectors(struct stack_writer *w, const struct stack_plan *p, const struct exec_args *args)
{
	const char *empty = "";

	writer_seek(w, p->sp);
	writer_word(w, p->argc);
	write_pointers(w, p->arg_start, args->argc ? args->argv : &empty, p->argc);
	write_pointers(w, p->env_start, args->envp, args->envc);
	writer_put(w, p->auxv, p->auxv_words * sizeof(u64));
}

static void write_strings(struct stack_writer *w, const struct stack_plan *p, const struct exec_args *args)
{
	u64 seed[2] = { port_random(w->mm->q), port_random(w->mm->q) };

	writer_seek(w, p->random);
	writer_put(w, seed, sizeof(seed));
	if (p->platform)
		writer_put(w, args->abi->platform, strlen(args->abi->platform) + 1);
	writer_seek(w, p->arg_start);
	for (u32 i = 0; i < p->argc; i++)
		writer_put(w, arg_at(args, i), strlen(arg_at(args, i)) + 1);
	for (u32 i = 0; i < args->envc; i++)
		writer_put(w, args->envp[i], strlen(args->envp[i]) + 1);
	writer_put(w, args->filename, strlen(args->filename) + 1);
	writer_flush(w);
}

/* Linux: what the strings need, and 128 KiB below, within the limit. */
static u64 stack_length(const struct mm_struct *mm, const struct stack_plan *p)
{
	u64 strings = PAGE_ALIGN(p->top - p->arg_start), needed = PAGE_ALIGN(p->top - p->sp);
	u64 len = strings + STACK_EXPAND;

	if (len > mm->rlim_stack)
		len = ALIGN_DOWN(mm->rlim_stack, PAGE_SIZE);
	return MAX(len, needed);
}

int stack_build(struct mm_struct *mm, const struct stack_plan *p, const struct exec_args *args, bool exec)
{
	u64 len = stack_length(mm, p), prot = PROT_READ | PROT_WRITE | (exec ? PROT_EXEC : 0);
	struct stack_writer w;
	long at;

	at = do_mmap(mm, NULL, p->top - len, len, prot,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_FIXED | MAP_GROWSDOWN, 0);
	if (at < 0)
		return (int)at;
	memset(&w, 0, sizeof(w));
	w.mm = mm;
	write_vectors(&w, p, args);
	write_strings(&w, p, args);
	return w.err;
}
