/*
 * exec in place: the host process stays, its guest's address space is replaced.
 *
 * Order: (1) everything that can fail: open, read, copy the arguments, build the new mm; (2) stop the other threads; (3) leave
 * the old mm, drop all host mappings, close close-on-exec descriptors, reset signals; (4) start.  Nothing after (1) fails.
 *
 * The program goes on in the process's first thread, whose number is the process's.  Another thread that calls exec does (1) and
 * hands over (de_thread() in Linux lets it take the first one's number, which no host call can do): the first thread does the rest
 * wherever it is, on its way out of the kernel or asleep because it has ended (first_thread_waits()).
 */
#include "exec.h"
#include "hostfile.h"
#include "hostsys.h"
#include "memory.h"
#include "native.h"
#include "procfs.h"
#include "refill.h"
#include "revoke.h"
#include "guest_signal.h"
#include "x86_64/regs.h"
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/sched.h>

#define RLIMIT_NOFILE 7
#define MAX_INTERP_DEPTH 5
#define SHEBANG_SIZE 256      /* BINPRM_BUF_SIZE */
#define LOW_FDS 32
#define START_STACK (8 * PAGE_SIZE) /* of arguments and environment, mapped at once */
#define MAX_ARG_STRLEN (32 * PAGE_SIZE)

/* A prepared exec: valid between (1) and (4). */
struct prepared {
	struct mm_struct *mm;
	u64 entry, sp;
	bool has_interp;
	char path[PATH_SIZE];
	char comm[TASK_COMM_LEN];
};
static struct prepared prepared;

void exec_area_free(struct exec_strings *s)
{
	if (s->base)
		host_call(__NR_munmap, s->base, EXEC_AREA);
	s->base = NULL;
}

/* Kernel-private memory for one exec's strings: [pointers | strings], grown from both ends of the lower and upper half. */
long exec_area_init(struct exec_strings *s, void *fixed)
{
	long at = host_call(__NR_mmap, fixed, EXEC_AREA, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (fixed ? MAP_FIXED : 0), -1, 0);

	memset(s, 0, sizeof(*s));
	if (at < 0)
		return at;
	/* A few pages at both ends are used: a host that gives everybody huge pages would clear 4 MiB for them. */
	host_call(__NR_madvise, at, EXEC_AREA, HOST_MADV_NOHUGEPAGE);
	s->base = (void *)at;
	s->ptrs = s->base;
	s->text = (char *)s->base + EXEC_AREA / 2;
	s->text_end = (char *)s->base + EXEC_AREA;
	return 0;
}

static long add_kernel_string(struct exec_strings *s, const char *str)
{
	size_t n = strlen(str) + 1;

	if (s->text + n > s->text_end || (char *)&s->ptrs[s->nptrs + 2] > (char *)s->base + EXEC_AREA / 2)
		return -E2BIG;
	memcpy(s->text, str, n);
	s->ptrs[s->nptrs++] = s->text;
	s->text += n;
	return 0;
}

static long add_user_strings(struct exec_strings *s, u64 array, u32 skip)
{
	u64 p;
	u32 i;

	for (i = skip; array; i++) {
		long n;

		if (copy_from_user(&p, array + 8ull * i, 8))
			return -EFAULT;
		if (!p)
			break;
		if ((char *)&s->ptrs[s->nptrs + 2] > (char *)s->base + EXEC_AREA / 2)
			return -E2BIG;
		n = strncpy_from_user(s->text, p, MIN((size_t)(s->text_end - s->text), MAX_ARG_STRLEN));
		if (n < 0)
			return n == -ENAMETOOLONG ? -E2BIG : n;
		s->ptrs[s->nptrs++] = s->text;
		s->text += n + 1;
	}
	return 0;
}

/* ---- opening programs ---- */

static long open_program_now(int dirfd, const char *path, int flags)
{
	struct hostfile_info info;
	long fd, ret;

	if (dirfd == KERNEL_FD)
		return -EBADF;
	if ((flags & AT_EMPTY_PATH) && !*path) {
		char link[32] = "/proc/self/fd/";

		if (dirfd < 0 && dirfd != AT_FDCWD)
			return -EBADF;
		fmt_uint(link + 14, (u64)dirfd);
		fd = host_call(__NR_openat, AT_FDCWD, link, O_RDONLY | HOST_O_CLOEXEC);
		ret = fd < 0 ? fd : host_call(__NR_faccessat, AT_FDCWD, link, 1 /* X_OK */);
	} else {
		u64 nofollow = (flags & AT_SYMLINK_NOFOLLOW) ? O_NOFOLLOW : 0;

		fd = host_call(__NR_openat, dirfd, path, O_RDONLY | HOST_O_CLOEXEC | O_NONBLOCK | nofollow);
		ret = fd < 0 ? fd : host_call(439 /* faccessat2 */, dirfd, path, 1, AT_EACCESS);
	}
	if (fd < 0)
		return fd == -ENXIO ? -EACCES : fd;
	if (!ret)
		ret = hostfile_stat((int)fd, &info);
	if (!ret && !info.regular)
		ret = -EACCES;
	if (!ret && (info.mode & 06000))
		klog("%s is set-user-ID or set-group-ID: inside a machine it runs without that", path);
	if (ret < 0) {
		host_call(__NR_close, fd);
		return ret;
	}
	return fd;
}

/* Linux needs no descriptor to execute a program, so a full table must not matter: there is room above the soft limit for a
 * moment.  (Not when the hard limit is as low, for those who may not raise it: CAVEATS.md.) */
static long open_program(int dirfd, const char *path, int flags)
{
	struct { u64 cur, max; } limit, wide;
	long fd = open_program_now(dirfd, path, flags);

	if (fd != -EMFILE || host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) < 0)
		return fd;
	wide = limit;
	wide.cur += 64;
	if (wide.max < wide.cur)
		wide.max = wide.cur; /* for those who may */
	if (host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, &wide, NULL) < 0)
		return fd;
	fd = open_program_now(dirfd, path, flags);
	host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, &limit, NULL);
	return fd;
}

static struct file *open_interp(struct quire *q, const char *path, void *cookie)
{
	long fd = open_program(AT_FDCWD, path, 0);
	struct file *f;

	if (fd < 0)
		return ERR_PTR(fd);
	f = hostfile_open((int)fd, 0, false);
	host_call(__NR_close, fd);
	return f;
}

/* "#! interpreter [argument]": cuts the line in place.  False if there is none. */
static bool parse_shebang(char *line, char **interp, char **arg)
{
	char *p = line + 2, *end;

	while (*p == ' ' || *p == '\t')
		p++;
	for (end = p; *end && *end != '\n'; end++)
		;
	*end = 0;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = 0;
	if (!*p)
		return false;
	*interp = p;
	while (*p && *p != ' ' && *p != '\t')
		p++;
	*arg = NULL;
	if (*p) {
		*p++ = 0;
		while (*p == ' ' || *p == '\t')
			p++;
		*arg = *p ? p : NULL;
	}
	return true;
}

/* Puts interpreter, its argument and the script's name in front of what follows argv[0]. */
static long prepend_interp(struct exec_strings *s, const char *interp, const char *arg, const char *script)
{
	u32 add = arg ? 3 : 2, drop = s->argc ? 1 : 0, i;
	const char *head[3];
	long ret = 0;

	if ((char *)&s->ptrs[s->nptrs + add + 1] > (char *)s->base + EXEC_AREA / 2)
		return -E2BIG;
	for (i = 0; i < add && !ret; i++) {
		ret = add_kernel_string(s, i == 0 ? interp : i == add - 1 ? script : arg);
		head[i] = s->text - strlen(i == 0 ? interp : i == add - 1 ? script : arg) - 1;
		if (!ret)
			s->nptrs--;
	}
	if (ret)
		return ret;
	memmove(s->ptrs + add, s->ptrs + drop, (s->nptrs - drop) * sizeof(char *));
	for (i = 0; i < add; i++)
		s->ptrs[i] = head[i];
	s->nptrs += add - drop;
	s->argc += add - drop;
	return 0;
}

/* Opens the program, following #! lines; name: what the guest called it, replaced by the last interpreter. */
static struct file *resolve_program(struct exec_strings *s, int dirfd, char *name, int flags)
{
	char line[SHEBANG_SIZE + 1], *interp, *arg;
	struct file *f;
	int depth;

	for (depth = 0; depth < MAX_INTERP_DEPTH; depth++) {
		long fd = open_program(dirfd, name, flags), n;

		if (fd < 0)
			return ERR_PTR(fd);
		n = host_call(__NR_pread64, fd, line, SHEBANG_SIZE, 0);
		line[n < 0 ? 0 : n] = 0;
		if (n > EI_CLASS && !memcmp(line, ELFMAG, SELFMAG) && line[EI_CLASS] == ELFCLASS32)
			klog("%s is a 32-bit program: this machine runs x86-64 programs only", name);
		if (n < 2 || line[0] != '#' || line[1] != '!') {
			f = n < 0 ? ERR_PTR(n) : n == 0 ? ERR_PTR(-ENOEXEC) : hostfile_open((int)fd, 0, false);
			host_call(__NR_close, fd);
			return f;
		}
		host_call(__NR_close, fd);
		if (!parse_shebang(line, &interp, &arg))
			return ERR_PTR(-ENOEXEC);
		n = prepend_interp(s, interp, arg, name);
		if (n)
			return ERR_PTR(n);
		memcpy(name, interp, strlen(interp) + 1);
		dirfd = AT_FDCWD;
		flags = 0;
	}
	return ERR_PTR(-ELOOP);
}

static u64 host_id(long nr) { return (u64)host_call(nr); }

static void set_names(struct prepared *p, const struct file *f, const char *name)
{
	const char *base = name, *c;
	size_t n;

	for (c = name; *c; c++)
		if (*c == '/')
			base = c + 1;
	n = MIN(strlen(base), (size_t)TASK_COMM_LEN - 1);
	memset(p->comm, 0, sizeof(p->comm));
	memcpy(p->comm, base, n);
	n = MIN(strlen(f->path), sizeof(p->path) - 1);
	memcpy(p->path, f->path, n);
	p->path[n] = 0;
}

long exec_prepare(struct exec_strings *s, int dirfd, char *name, int flags)
{
	struct quire *q = kthread()->ctx->q;
	struct exec_result res;
	struct exec_args a = { 0 };
	char called[PATH_SIZE];
	struct file *f;
	long ret;

	memcpy(called, name, strlen(name) + 1);
	f = resolve_program(s, dirfd, name, flags);
	if (IS_ERR(f))
		return PTR_ERR(f);
	a = (struct exec_args){ .file = f, .filename = called, .argc = s->argc, .envc = s->nptrs - s->argc,
				.argv = s->ptrs, .envp = s->ptrs + s->argc, .open_interp = open_interp,
				.uid = host_id(__NR_getuid), .euid = host_id(__NR_geteuid),
				.gid = host_id(__NR_getgid), .egid = host_id(__NR_getegid),
				.hwcap = kproc.hwcap, .hwcap2 = kproc.hwcap2, .minsigstksz = kproc.minsigstksz,
				.clktck = kproc.clktck, .sysinfo_ehdr = kproc.vdso, .rlim_stack = rlimit_stack(),
				.abi = &guest_abi_x86_64 };
	personality_exec(&a);
	ret = exec_mm(q, &a, &res);
	if (!ret) {
		rlimits_apply(res.mm);
		prepared.mm = res.mm;
		prepared.entry = res.entry;
		prepared.sp = res.sp;
		prepared.has_interp = res.has_interp;
		set_names(&prepared, f, called);
		map_vdso(res.mm);
	}
	file_put(f);
	return ret;
}

/* ---- the point of no return ---- */

/* Whether the descriptor is open. */
static bool close_one_on_exec(long fd)
{
	long flags = fd == KERNEL_FD ? -EBADF : host_call(__NR_fcntl, fd, F_GETFD);

	if (flags >= 0 && (flags & FD_CLOEXEC))
		host_call(__NR_close, fd);
	return flags >= 0;
}

/* Few, and low as they mostly are: asking for each is cheaper than a list from /proc.  Linux says since 6.2 how many there are, in the size
 * of the directory; 0 else. */
static bool close_few_on_exec(void)
{
	struct { u64 dev, ino, nlink; u32 mode, uid, gid, pad; u64 rdev, size, rest[11]; } st; /* struct stat, 144 bytes */
	u64 fd, left;

	if (host_call(__NR_stat, "/proc/thread-self/fd", &st) < 0 || st.size < 2)
		return false;
	left = st.size - 1; /* KERNEL_FD */
	for (fd = 0; left && fd < LOW_FDS; fd++)
		left -= close_one_on_exec((long)fd);
	return !left;
}

/* The table is full, or there is no /proc: one by one. */
static void close_all_on_exec(void)
{
	struct { u64 cur, max; } limit;
	u64 fd, end = 65536;

	if (host_call(__NR_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) == 0)
		end = MIN(MAX(limit.cur, 4096ull), 1ull << 20); /* it may have been lowered since */
	for (fd = 0; fd < end; fd++)
		close_one_on_exec((long)fd);
}

static void close_on_exec(void)
{
	struct { u64 ino; s64 off; u16 reclen; u8 type; char name[]; } *d;
	u8 buf[2048];
	long fd, n, at;

	host_call(__NR_unshare, CLONE_FILES);
	if (close_few_on_exec())
		return;
	fd = host_call(__NR_openat, AT_FDCWD, "/proc/thread-self/fd", O_RDONLY | O_DIRECTORY | HOST_O_CLOEXEC);
	if (fd < 0) {
		close_all_on_exec();
		return;
	}
	while ((n = host_call(__NR_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (at = 0; at < n; at += d->reclen) {
			long other = 0;
			const char *c;

			d = (void *)(buf + at);
			for (c = d->name; *c >= '0' && *c <= '9'; c++)
				other = other * 10 + (*c - '0');
			if (d->name[0] == '.' || other == fd || other == KERNEL_FD)
				continue;
			if (host_call(__NR_fcntl, other, F_GETFD) & FD_CLOEXEC)
				host_call(__NR_close, other);
		}
	}
	host_call(__NR_close, fd);
}

static void switch_mm(struct kthread *k, struct mm_struct *mm)
{
	struct task *task = kproc.task;

	install_lock();
	ctx_leave_mm(k->ctx);
	host_call(__NR_munmap, PAGE_SIZE * 16, GUEST_END - PAGE_SIZE * 16);
	kproc.nnative = 0;
	patch_exec(prepared.has_interp);
	kproc.fresh = kproc.fork_faults = 0;
	kproc.mm = mm;
	kproc.flushed = host_mm_of(mm)->base;
	kproc.seq_next = 0;
	install_unlock();
	/* First the old one goes: who is on no address space undoes little at once, and the child of a fork has touched little of its
	 * log yet. */
	task_set_mm(task, mm);
	ctx_join_mm(k->ctx, mm);
}

/* What every start touches first is mapped without a trap for each: text where it begins, and the arguments. */
static void map_start(u64 entry, u64 sp)
{
	struct fault_info info;

	host_fault(entry, esr_make(ESR_EC_IABT_LOW, false, FSC_TRANSLATION + 3), &info);
	host_map_present(sp & PAGE_MASK, MIN(PAGE_ALIGN(sp) + START_STACK, GUEST_END));
}

void exec_commit(struct kthread *k, struct ucontext_host *uc)
{
	struct task *task = kproc.task;
	u32 i;

	switch_mm(k, prepared.mm);
	anchors_trim();
	if (kproc.vforked)
		vfork_done(task);
	kproc.vforked = false;
	close_on_exec();
	signals_exec_reset(k);
	task_set_comm(task, prepared.comm);
	host_call(__NR_prctl, 15 /* PR_SET_NAME */, prepared.comm);
	for (i = 0; i < sizeof(prepared.path); i++)
		kproc.exe_path[i] = prepared.path[i];
	exec_credentials();
	personality_executed();
	timers_delete_all();
	host_call(__NR_arch_prctl, 0x1002 /* ARCH_SET_FS */, 0);
	k->clear_child_tid = 0;
	k->guest_robust_head = 0;
	k->ctx->port_data[CTXP_ROBUST] = 0;
	kproc.nliving = 1;
	kproc.membarrier = 0;
	kproc.exec_stop = kproc.exec_busy = 0;
	map_start(prepared.entry, prepared.sp);
	start_program(uc, prepared.entry, prepared.sp);
}

static bool poke_thread(struct ctx *c, void *arg)
{
	struct kthread *k = kthread();

	if (c != k->ctx && c->port_data[CTXP_SERIAL] == k->ctx->port_data[CTXP_SERIAL])
		host_call(__NR_tgkill, kproc.pid, c->port_data[CTXP_TID], SIG_PRIVATE);
	return true;
}

static void poke_others(void)
{
	spin_lock(&kproc.mm->lock);
	mm_for_each_ctx(kproc.mm, poke_thread, NULL);
	spin_unlock(&kproc.mm->lock);
}

/* The others have left, but the host lists a thread until it is buried: the new program must not see it.  A thread is a directory
 * (st_nlink counts them); without /proc nobody sees anything. */
static void wait_buried(void)
{
	struct { u64 dev, ino, nlink, rest[15]; } st; /* struct stat, 144 bytes */
	u32 tries;

	for (tries = 0; kproc.threaded && tries < 10000; tries++) {
		if (host_call(__NR_stat, "/proc/self/task", &st) < 0 || st.nlink <= 3)
			break;
		host_call(__NR_sched_yield);
	}
	kproc.threaded = 0;
}

/* Until no more than `left` threads are on the address space. */
static void wait_for_others(u32 left)
{
	u32 n;

	while ((n = __atomic_load_n(&kproc.nthreads, __ATOMIC_SEQ_CST)) > left) {
		poke_others();
		port_wait(&kproc.nthreads, n, 1000000);
	}
}

/* Robust futexes and the thread's word are let go only when nobody is left who could see it: a thread that joins the one that execs
 * must not wake up. */
static void become_alone(struct kthread *k)
{
	wait_for_others(1);
	wait_buried();
	thread_release_user(k);
}

/* The reference to the new address space, known only to the one who prepared it, changes hands in one transaction. */
static void take_prepared(void)
{
	struct mm_struct *mm = prepared.mm;

	spin_lock(&mm->q->lock);
	mm_hold_from(mm, kproc.exec_ctx);
	spin_unlock(&mm->q->lock);
	__atomic_store_n(&kproc.exec_taken, 1, __ATOMIC_SEQ_CST);
	port_wake(&kproc.exec_taken, 1);
}

void exec_stop_point(struct kthread *k, struct ucontext_host *uc)
{
	if (k->tid != kproc.pid)
		thread_end_for_exec(k);
	wait_for_others(2);
	take_prepared();
	become_alone(k);
	exec_commit(k, uc);
	set_guest_mask(k, uc, kproc.exec_mask);
	k->syscall_nr = -1;
}

static void __attribute__((noreturn)) hand_over(struct trap *t)
{
	kproc.exec_ctx = t->k->ctx;
	kproc.exec_mask = guest_mask(t->k, t->uc);
	kproc.exec_taken = 0;
	__atomic_store_n(&kproc.exec_stop, 1, __ATOMIC_SEQ_CST);
	host_call(__NR_futex, &kproc.exec_stop, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
	while (!__atomic_load_n(&kproc.exec_taken, __ATOMIC_SEQ_CST)) {
		poke_others();
		port_wait(&kproc.exec_taken, 0, 1000000);
	}
	thread_end_for_exec(t->k);
}

/* One exec at a time.  Whoever waits when it has succeeded ends with the others; a signal comes first, as on Linux. */
static long exec_begin(const struct kthread *k)
{
	u32 zero = 0;

	while (!__atomic_compare_exchange_n(&kproc.exec_busy, &zero, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		zero = 0;
		if (kproc.exec_stop || k->pending)
			return -ERESTARTNOINTR;
		port_wait(&kproc.exec_busy, 1, 1000000);
	}
	return 0;
}

static void exec_failed(void)
{
	__atomic_store_n(&kproc.exec_busy, 0, __ATOMIC_SEQ_CST);
	port_wake(&kproc.exec_busy, ~0u >> 1);
}

long sys_execveat(struct trap *t, int dirfd, u64 path, u64 argv, u64 envp, int flags)
{
	struct exec_strings s;
	char name[PATH_SIZE];
	long ret;

	if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -EINVAL;
	ret = strncpy_from_user(name, path, sizeof(name));
	if (ret < 0)
		return ret;
	if (!*name && !(flags & AT_EMPTY_PATH))
		return -ENOENT;
	procfs_follow_exe(dirfd, name, sizeof(name));
	ret = exec_area_init(&s, NULL);
	if (!ret)
		ret = add_user_strings(&s, argv, 0);
	s.argc = s.nptrs;
	if (!ret && !s.argc)
		ret = add_kernel_string(&s, ""), s.argc = s.nptrs;
	if (!ret)
		ret = add_user_strings(&s, envp, 0);
	if (!ret)
		ret = exec_begin(t->k);
	if (!ret) {
		ret = exec_prepare(&s, dirfd, name, flags);
		if (ret)
			exec_failed();
	}
	exec_area_free(&s);
	if (ret)
		return ret;
	if (t->k->tid != kproc.pid)
		hand_over(t);
	__atomic_store_n(&kproc.exec_stop, 1, __ATOMIC_SEQ_CST);
	become_alone(t->k);
	exec_commit(t->k, t->uc);
	t->k->syscall_nr = -1;
	return 0;
}

long sys_execve(struct trap *t, u64 path, u64 argv, u64 envp)
{
	return sys_execveat(t, AT_FDCWD, path, argv, envp, 0);
}

void start_program(struct ucontext_host *uc, u64 entry, u64 sp)
{
	struct sigcontext_host keep = uc->r;

	memset(&uc->r, 0, sizeof(uc->r));
	uc->r.ip = entry;
	uc->r.sp = sp;
	uc->r.flags = EFLAGS_START;
	uc->r.cs = keep.cs;
	uc->r.ss = keep.ss;
	uc->r.gs = keep.gs;
	uc->r.fs = keep.fs;
	uc->r.fpstate = keep.fpstate;
	init_fpstate(uc);
}
