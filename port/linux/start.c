/*
 * The first process of a machine: from a child of the supervisor to a guest.
 *
 * The supervisor's child arrives here with libc's mappings around it.  It moves to a trap slot, takes a context, unmaps everything that
 * is not the kernel's, installs handlers and the filter, prepares the first exec, and enters it by sending itself the private
 * signal: the frame that the host builds is a complete register set with valid FP state, to be overwritten.
 */
#include "exec.h"
#include "hostsys.h"
#include "revoke.h"
#include "guest_signal.h"
#include "x86_64/regs.h"
#include <linux/fcntl.h>

#define RLIMIT_NOFILE 7

static struct guest_boot boot; /* a copy: the caller's memory goes away */
static struct exec_strings boot_strings;
static char boot_path[PATH_SIZE];

static void fail(long err) __attribute__((noreturn));
static void fail(long err)
{
	/* 126/127 as shells do (POSIX 2.8.2); the text for people is the supervisor's business. */
	s32 error = (s32)-err;

	if (boot.error_fd >= 0)
		host_call(__NR_write, boot.error_fd, &error, sizeof(error));
	else
		shared_area()->start_error = error;
	host_call(__NR_exit_group, err == -ENOENT || err == -ENOTDIR ? 127 : 126);
	__builtin_unreachable();
}

void fmt_uint(char *out, u64 v)
{
	char digits[24], *d = digits + sizeof(digits) - 1;

	*d = 0;
	do
		*--d = (char)('0' + v % 10);
	while (v /= 10);
	while ((*out++ = *d++))
		;
}

/* Everything in the guest's range, and what libc left above it, except the vdso. */
static void unmap_launcher(void)
{
	host_call(__NR_munmap, PAGE_SIZE * 16, SHARED_BASE - PAGE_SIZE * 16);
	host_call(__NR_munmap, KERNEL_END, boot.vdso_start - KERNEL_END);
	host_call(__NR_munmap, boot.vdso_end, 0x7ffffffff000ull - boot.vdso_end);
}

/* A VMA's name is read by every process of the machine, so it must lie where all have the same: in the kernel's constants. */
static const char *special_name(const char *name)
{
	static const char *const known[] = { "[vdso]", "[vvar]", "[vvar_vclock]" };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(known[i], name))
			return known[i];
	return "[vvar]";
}

/* Above task_size: listed in maps, never managed.  Without memory for it the listing is incomplete, nothing else. */
void map_vdso(struct mm_struct *mm)
{
	u32 i;

	for (i = 0; i < kproc.nspecial; i++) {
		const struct special_range *r = &kproc.special[i];

		install_special_mapping(mm, r->start, r->end - r->start,
					VM_READ | VM_MAYREAD | VM_MAYEXEC | (r->exec ? VM_EXEC : VM_IO), special_name(r->name));
	}
}

static long add_list(struct exec_strings *s, const char *const *list, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		size_t len = strlen(list[i]) + 1;

		if (s->text + len > s->text_end)
			return -E2BIG;
		memcpy(s->text, list[i], len);
		s->ptrs[s->nptrs++] = s->text;
		s->text += len;
	}
	return 0;
}

/* While libc's memory still exists: strings into kernel memory, above the ranges that unmap_launcher() clears?  No: host
 * mmaps land there, so the area is placed inside the anchors' range. */
static void copy_arguments(const struct guest_boot *b)
{
	struct exec_strings *s = &boot_strings;

	boot = *b;
	if (exec_area_init(s, (void *)(TRAP_BASE + (1ull << 38))))
		fail(-ENOMEM);
	if (add_list(s, b->argv, b->argc))
		fail(-E2BIG);
	s->argc = s->nptrs;
	if (add_list(s, b->envp, b->envc))
		fail(-E2BIG);
	if (strlen(b->path) >= sizeof(boot_path))
		fail(-ENAMETOOLONG);
	memcpy(boot_path, b->path, strlen(b->path) + 1);
}

static void adopt_task(struct ctx *c)
{
	struct quire *q = &shared_area()->q;
	u64 serial = c->port_data[CTXP_SERIAL];
	/* Under a number that leads to the serial first: whoever reaps us finds it in any case. */
	struct task *task = task_create(q, -(s32)serial, shared_area()->supervisor_pid, "quire");

	if (!task)
		fail(-ENOMEM);
	task->port_data[TASKP_SERIAL] = serial;
	task_set_pid(task, kproc.pid);
	task->uid = (u32)host_call(__NR_getuid);
	kproc.task = task;
	c->task = task;
}

/* The kernel's descriptor may lie above the soft limit (RLIMIT_NOFILE): what is open stays open, also across fork. */
static void keep_ram_fd(void)
{
	struct { u64 cur, max; } limit, wide;
	long ret;

	host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
	wide = limit;
	if (wide.cur <= KERNEL_FD)
		wide.cur = KERNEL_FD + 1;
	if (wide.max < wide.cur)
		wide.max = wide.cur; /* for root */
	ret = host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, &wide, NULL);
	if (ret >= 0)
		ret = host_call(__NR_dup3, boot.ram_fd, KERNEL_FD, 0);
	if (ret < 0)
		fail(-EMFILE);
	host_call(__NR_close, boot.ram_fd);
	host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
}

static void second_half(void *arg)
{
	struct kthread *k = arg;
	struct quire *q = &shared_area()->q;
	struct ctx *c = ctx_by_id(boot.ctx_id ? boot.ctx_id : shared_area()->first_ctx);
	long ret;

	k->ctx = c;
	c->port_data[CTXP_TGID] = (u64)kproc.pid; /* before the context is ours: then whoever ends the machine finds us */
	kthread_bind(k, c);
	/* libc's fork left its own words with the host: the host would write to them after they are gone. */
	host_call(__NR_set_tid_address, 0);
	unmap_launcher();
	signals_init();
	rlimits_init(boot.limits);
	adopt_task(c);
	personality_init(boot.personality);
	host_call(__NR_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
	if (boot.ctx_id) {
		/* The supervisor has a pidfd already; our parent is the command that joins, and we end with it. */
		host_call(__NR_prctl, 1 /* PR_SET_PDEATHSIG */, SIG_KILL, 0, 0, 0);
	} else {
		host_call(__NR_prctl, 1 /* PR_SET_PDEATHSIG */, SIG_PRIVATE, 0, 0, 0);
		newborn_push(c);
		doorbell_ring();
	}
	if (!port_ctx_alive(ctx_by_id(shared_area()->supervisor_ctx)) || shared_area()->ending)
		machine_died();
	keep_ram_fd();
	ret = exec_prepare(&boot_strings, AT_FDCWD, boot_path, 0);
	exec_area_free(&boot_strings);
	if (ret) {
		task_exit(kproc.task);
		fail(ret);
	}
	ret = seccomp_install();
	if (ret < 0)
		fail(ret);
	(void)q;
	kproc.starting = 1;
	host_call(__NR_tgkill, kproc.pid, k->tid, SIG_PRIVATE);
	__builtin_trap();
}

/* In kernel_signal(): the frame of the start signal becomes the program's first registers. */
void start_first_program(struct kthread *k, struct ucontext_host *uc)
{
	kproc.starting = 0;
	uc->sigmask = boot.sigmask & ~SIGMASK_NEVER;
	exec_commit(k, uc);
}

void guest_start(const struct guest_boot *b)
{
	struct kthread *k;

	copy_arguments(b);
	kproc.pid = (s32)host_call(__NR_getpid);
	kproc.nthreads = kproc.nliving = 1;
	kproc.vdso = boot.vdso;
	kproc.vdso_start = boot.vdso_start;
	kproc.vdso_end = boot.vdso_end;
	kproc.nspecial = boot.nspecial;
	memcpy(kproc.special, boot.special, sizeof(kproc.special));
	kproc.hwcap = boot.hwcap;
	kproc.hwcap2 = boot.hwcap2;
	kproc.minsigstksz = boot.minsigstksz;
	kproc.clktck = boot.clktck;
	k = kthread_alloc();
	if (!k)
		fail(-ENOMEM);
	kthread_forget_others(k); /* the supervisor's */
	call_on_stack(kthread_stack_top(k), second_half, k);
}
