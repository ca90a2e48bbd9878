/*
 * What the user's shell set before `quire`: resource limits and the personality.  They are meant for the program, not for the machine.
 *
 * The supervisor takes its own out of the way, as far as it may, and hands the user's to the guests.  Two of them reach further than a
 * limit: with an unlimited stack, or with ADDR_COMPAT_LAYOUT, the host puts libraries and the vdso of every process where guests'
 * memory belongs (layout.h).  Nothing can be done about that once a program runs, so this one executes itself again, with a stack limit
 * that makes the host choose the usual places; what the user had travels in the environment.
 *
 * Ordinary libc code; used before there is more than one thread.
 */
#include "sup_internal.h"
#include "layout.h"
#include "process.h"
#include "supervisor.h"
#include <quire/task.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRAVELS "QUIRE_USERS_LIMITS"
#define USUAL_STACK (8ul << 20) /* bytes: _STK_LIM, Linux's default */
#define PERSONALITY_QUERY 0xffffffffu

/* The user's; those of the address space are the machine's to keep for each guest, the others the host's. */
static struct rlimit users[RLIM_NLIMITS];
static unsigned users_personality;
static bool came_back; /* this is the second execution: users[RLIMIT_STACK] and the personality are known */

/* <sys/personality.h> has names that <quire/task.h> has, too. */
static unsigned host_personality(unsigned persona)
{
	return (unsigned)syscall(SYS_personality, (unsigned long)persona);
}

/* Where the host puts what it maps without being told where: below the kernel's own places is too low. */
static bool layout_is_low(void)
{
	u64 vdso = getauxval(AT_SYSINFO_EHDR), libc = (u64)(uintptr_t)&strtoul;

	return (vdso && vdso < KERNEL_END) || libc < KERNEL_END;
}

static bool parse_travelled(const char *text)
{
	unsigned long long cur, persona;
	char *end;

	errno = 0;
	cur = strtoull(text, &end, 16);
	if (errno || *end != ':')
		return false;
	persona = strtoull(end + 1, &end, 16);
	if (errno || *end || persona > PERSONALITY_QUERY)
		return false;
	users[RLIMIT_STACK].rlim_cur = cur;
	users_personality = (unsigned)persona;
	return true;
}

void limits_find_room(char **argv)
{
	const char *text = getenv(TRAVELS);
	struct rlimit stack;
	char note[64];
	unsigned persona;

	came_back = text && parse_travelled(text);
	unsetenv(TRAVELS);
	if (came_back || !layout_is_low() || getrlimit(RLIMIT_STACK, &stack))
		return;
	persona = host_personality(PERSONALITY_QUERY);
	snprintf(note, sizeof(note), "%llx:%x", (unsigned long long)stack.rlim_cur, persona);
	stack.rlim_cur = USUAL_STACK < stack.rlim_max ? USUAL_STACK : stack.rlim_max;
	host_personality(persona & ~ADDR_COMPAT_LAYOUT);
	if (!setrlimit(RLIMIT_STACK, &stack) && !setenv(TRAVELS, note, 1))
		execv((const char *)getauxval(AT_EXECFN), argv);
	unsetenv(TRAVELS); /* mapping the machine will fail, and say so */
}

static void widen(int resource)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	if (!setrlimit(resource, &all))
		return;
	all.rlim_cur = all.rlim_max = users[resource].rlim_max;
	setrlimit(resource, &all);
}

/* As many descriptors as may be had: a process needs one here for each that lives. */
static void widen_files(void)
{
	struct rlimit all = users[RLIMIT_NOFILE];

	if (all.rlim_max <= KERNEL_FD) {
		all.rlim_cur = all.rlim_max = 1ul << 20; /* Linux's default for fs.nr_open */
		if (!setrlimit(RLIMIT_NOFILE, &all))
			return;
	}
	all.rlim_cur = all.rlim_max = users[RLIMIT_NOFILE].rlim_max;
	setrlimit(RLIMIT_NOFILE, &all);
}

bool limits_take(void)
{
	rlim_t stack = users[RLIMIT_STACK].rlim_cur;
	struct rlimit size;
	int i;

	for (i = 0; i < RLIM_NLIMITS; i++)
		getrlimit(i, &users[i]);
	if (came_back)
		users[RLIMIT_STACK].rlim_cur = stack;
	else
		users_personality = host_personality(PERSONALITY_QUERY);
	widen(RLIMIT_AS);
	widen(RLIMIT_DATA);
	widen(RLIMIT_FSIZE);
	widen_files();
	if (getrlimit(RLIMIT_FSIZE, &size) || size.rlim_cur == RLIM_INFINITY)
		return true;
	fprintf(stderr, "quire: the machine's memory is a file to the host, which the limit on file sizes (ulimit -f) forbids; only "
			"'ulimit -f unlimited' would do, set for the program inside if it needs another\n");
	return false;
}

bool limits_address_space(void)
{
	struct rlimit space;

	return !getrlimit(RLIMIT_AS, &space) && space.rlim_cur != RLIM_INFINITY;
}

void limits_give_back(struct guest_boot *b)
{
	int i;

	for (i = 0; i < RLIM_NLIMITS && i < NR_RLIMITS; i++) {
		b->limits[i].cur = users[i].rlim_cur; /* RLIM_INFINITY is ~0 here as there */
		b->limits[i].max = users[i].rlim_max;
	}
	b->personality = users_personality;
	setrlimit(RLIMIT_NOFILE, &users[RLIMIT_NOFILE]);
	setrlimit(RLIMIT_FSIZE, &users[RLIMIT_FSIZE]);
}
