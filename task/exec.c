/*
 * exec: a new address space from a program file.
 *
 * The new mm belongs to this call alone until it is returned, so nothing here needs to be undone piece by
 * piece: whatever fails, mmput() takes the whole of it back.  The caller's task keeps its old mm until
 * task_set_mm().
 *
 * Layout, low to high (mmap_base and the stack's top move by random amounts when aslr is on):
 *
 *	ET_EXEC image | heap -> ... | PIE image | heap -> ... <- mmap_base (interpreter, libraries) | gap | <- stack
 *
 * A PIE with an interpreter goes to elf_et_dyn_base; without one (static PIE, or ld.so run by hand) it goes
 * where mmap puts it, and its heap to elf_et_dyn_base, so that the two cannot collide.
 *
 * Locks: mm->lock, briefly, for the fields that readers of /proc may look at.  Files are read under no lock.
 */
#include "elf.h"
#include "exec_internal.h"

#define STACK_GAP_MIN (128ul << 20)
#define RLIM_STACK_DEFAULT (8ul << 20)

struct exec_state {
	const struct exec_args *args;
	struct mm_struct *mm;
	struct elf_image prog, interp;
	struct file *interp_file;   /* NULL: no interpreter */
	struct stack_plan plan;
};

/* A page-aligned random distance below `pages` pages; 0 without ASLR. */
static u64 random_pages(struct quire *q, const struct exec_args *args, u64 pages)
{
	return args->aslr && pages ? (port_random(q) & (pages - 1)) << PAGE_SHIFT : 0;
}

/* As Linux's mmap_base(): below the largest stack that may grow, its randomness and the guard gap. */
static u64 choose_mmap_base(struct quire *q, const struct exec_args *args, u64 rlim_stack)
{
	const struct guest_abi *abi = args->abi;
	u64 pad = STACK_GUARD_GAP + (args->aslr ? abi->stack_rnd_pages << PAGE_SHIFT : 0);
	u64 gap = rlim_stack, gap_max = abi->task_size / 6 * 5;

	if (gap + pad > gap)
		gap += pad;
	gap = MAX(STACK_GAP_MIN, MIN(gap, gap_max));
	return PAGE_ALIGN(abi->task_size - gap - random_pages(q, args, abi->mmap_rnd_pages));
}

/* As Linux's mmap_legacy_base(). */
static u64 compat_base(struct quire *q, const struct exec_args *args)
{
	return PAGE_ALIGN(args->abi->task_size / 3) + random_pages(q, args, args->abi->mmap_rnd_pages);
}

static void set_layout(struct exec_state *s)
{
	const struct exec_args *args = s->args;
	struct mm_struct *mm = s->mm;
	u64 rlim = args->rlim_stack ? args->rlim_stack : RLIM_STACK_DEFAULT;
	u64 base = args->compat_layout ? compat_base(mm->q, args) : choose_mmap_base(mm->q, args, rlim);

	spin_lock(&mm->lock);
	mm->rlim_stack = rlim;
	mm->task_size = args->abi->task_size;
	mm->mmap_base = base;
	mm->mmap_bottom_up = args->compat_layout;
	spin_unlock(&mm->lock);
}

static int open_interp(struct quire *q, struct exec_state *s)
{
	char *path = elf_interp_path(q, &s->prog);
	struct file *f;

	if (!path)
		return 0;
	if (IS_ERR(path))
		return (int)PTR_ERR(path);
	f = s->args->open_interp ? s->args->open_interp(q, path, s->args->cookie) : ERR_PTR(-ENOENT);
	kfree(q, path);
	if (IS_ERR(f))
		return (int)PTR_ERR(f);
	s->interp_file = f;
	return 0;
}

static int read_images(struct quire *q, struct exec_state *s)
{
	const struct exec_args *args = s->args;
	int err;

	if (args->file->mode & FMODE_NOEXEC)
		return -EACCES;
	err = elf_read(q, args->file, args->abi, &s->prog);
	if (!err)
		err = open_interp(q, s);
	if (err || !s->interp_file)
		return err;
	if (s->interp_file->mode & FMODE_NOEXEC)
		return -EACCES;
	err = elf_read(q, s->interp_file, args->abi, &s->interp);
	return err == -ENOEXEC ? -ELIBBAD : err;
}

/* Sets img->bias so that the image's start comes to `at`. */
static int place_at(struct elf_image *img, u64 at, u64 task_size)
{
	if (at > task_size || img->end - img->start > task_size - at)
		return -ENOMEM;
	img->bias = at - img->start;
	return 0;
}

static int place_by_mmap(struct exec_state *s, struct elf_image *img, u64 align)
{
	long at = elf_find_room(s->mm, img, align);

	return at < 0 ? (int)at : place_at(img, (u64)at, s->mm->task_size);
}

static int place_program(struct quire *q, struct exec_state *s)
{
	struct elf_image *img = &s->prog;
	u64 at;

	if (img->eh.e_type == ET_EXEC)
		return 0;
	if (!s->interp_file)
		return place_by_mmap(s, img, img->align);
	at = s->args->abi->elf_et_dyn_base + random_pages(q, s->args, s->args->abi->mmap_rnd_pages);
	return place_at(img, ALIGN_DOWN(at, img->align), s->mm->task_size);
}

static int map_images(struct quire *q, struct exec_state *s)
{
	int err = place_program(q, s);

	if (!err)
		err = elf_map(s->mm, &s->prog);
	if (err || !s->interp_file)
		return err;
	if (s->interp.eh.e_type == ET_DYN)
		err = place_by_mmap(s, &s->interp, PAGE_SIZE);
	if (!err)
		err = elf_map(s->mm, &s->interp);
	return err;
}

static u64 choose_brk(struct quire *q, const struct exec_state *s)
{
	const struct exec_args *args = s->args;
	bool moved = s->prog.eh.e_type == ET_DYN && !s->interp_file;
	u64 brk = moved ? args->abi->elf_et_dyn_base : s->prog.end + s->prog.bias;

	if (args->aslr)
		brk += random_pages(q, args, args->abi->brk_rnd_bytes >> PAGE_SHIFT);
	/* A page between bss and heap, so that an overrun of the one is not silently the other's. */
	return moved || !args->aslr ? brk : brk + PAGE_SIZE;
}

/* start_code and its relatives, by the rules of load_elf_binary().  Under mm->lock. */
static void set_code_and_data(struct mm_struct *mm, const struct elf_image *img)
{
	u64 start_code = ~0ull, end_code = 0, start_data = 0, end_data = 0;

	for (u32 i = 0; i < img->eh.e_phnum; i++) {
		const struct elf64_phdr *ph = &img->ph[i];

		if (ph->p_type != PT_LOAD)
			continue;
		start_code = MIN(start_code, ph->p_vaddr);
		start_data = MAX(start_data, ph->p_vaddr);
		if (ph->p_flags & PF_X)
			end_code = MAX(end_code, ph->p_vaddr + ph->p_filesz);
		end_data = MAX(end_data, ph->p_vaddr + ph->p_filesz);
	}
	mm->start_code = start_code + img->bias;
	mm->end_code = end_code + img->bias;
	mm->start_data = start_data + img->bias;
	mm->end_data = end_data + img->bias;
}

static void set_fields(struct exec_state *s)
{
	const struct stack_plan *p = &s->plan;
	struct mm_struct *mm = s->mm;
	u64 brk = choose_brk(mm->q, s);

	file_get(s->args->file);
	spin_lock(&mm->lock);
	set_code_and_data(mm, &s->prog);
	mm->start_brk = mm->brk = brk;
	mm->start_stack = p->sp;
	mm->arg_start = p->arg_start;
	mm->arg_end = mm->env_start = p->env_start;
	mm->env_end = p->execfn;
	memcpy(mm->saved_auxv, p->auxv, sizeof(mm->saved_auxv));
	mm->exe_file = s->args->file;
	spin_unlock(&mm->lock);
}

static u64 entry_of(const struct exec_state *s)
{
	const struct elf_image *img = s->interp_file ? &s->interp : &s->prog;

	return img->eh.e_entry + img->bias;
}

static int build(struct quire *q, struct exec_state *s, bool exec_stack)
{
	struct exec_images im;
	u64 top;
	int err;

	set_layout(s);
	err = map_images(q, s);
	if (err)
		return err;
	im.phdr = elf_phdr_addr(&s->prog);
	im.phent = sizeof(struct elf64_phdr);
	im.phnum = s->prog.eh.e_phnum;
	im.base = s->interp_file ? s->interp.bias : 0;
	im.entry = s->prog.eh.e_entry + s->prog.bias;
	top = PAGE_ALIGN(s->args->abi->stack_top) - random_pages(q, s->args, s->args->abi->stack_rnd_pages);
	stack_plan_make(q, &s->plan, s->args, &im, top);
	err = stack_build(s->mm, &s->plan, s->args, exec_stack);
	if (!err)
		set_fields(s);
	return err;
}

static void release(struct quire *q, struct exec_state *s)
{
	elf_release(q, &s->prog);
	elf_release(q, &s->interp);
	if (s->interp_file)
		file_put(s->interp_file);
	if (s->mm)
		mmput(s->mm);
	kfree(q, s);
}

int exec_mm(struct quire *q, const struct exec_args *args, struct exec_result *out)
{
	u64 rlim = args->rlim_stack ? args->rlim_stack : RLIM_STACK_DEFAULT;
	int err = stack_check_args(args, rlim);
	struct exec_state *s;

	if (err)
		return err;
	s = kzalloc(q, sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	s->args = args;
	err = read_images(q, s);
	if (!err) {
		s->mm = mm_alloc(q, args->abi);
		err = s->mm ? build(q, s, elf_wants_exec_stack(&s->prog)) : -ENOMEM;
	}
	if (!err) {
		out->mm = s->mm;
		out->entry = entry_of(s);
		out->sp = s->plan.sp;
		out->exec_stack = elf_wants_exec_stack(&s->prog);
		out->has_interp = s->interp_file != NULL;
		s->mm = NULL;
	}
	release(q, s);
	return err;
}
