/* ucontext coroutines, longjmp out of deep frames, dlopen, large thread stacks, environment of the loader. */
#include "guest.h"
#include <dlfcn.h>
#include <sys/auxv.h>
#include <ucontext.h>

static ucontext_t main_context, coroutine;
static int steps;

static void runs_in_turn(void)
{
	volatile char room[3 * PAGE];

	for (int i = 0; i < 5; i++) {
		room[i * 2000] = (char)i;
		steps += room[i * 2000] == i;
		swapcontext(&coroutine, &main_context);
	}
}

static void coroutines(void)
{
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = fresh(32 * PAGE);
	coroutine.uc_stack.ss_size = 32 * PAGE;
	coroutine.uc_link = &main_context;
	makecontext(&coroutine, runs_in_turn, 0);
	for (int i = 0; i < 6; i++)
		swapcontext(&main_context, &coroutine);
	printf("coroutine steps: %d\n", steps);
}

static jmp_buf env;

static __attribute__((noinline)) void deep(int n)
{
	volatile char frame[500];

	frame[n % 500] = 1;
	if (n == 0)
		longjmp(env, 12);
	if (frame[n % 500]) /* always; but a compiler may not know */
		deep(n - 1);
	frame[0] = frame[1];
}

static void *big_stack(void *arg)
{
	volatile char *p = __builtin_alloca(20 << 20);

	for (size_t i = 0; i < 20 << 20; i += PAGE)
		p[i] = 1;
	return (void *)1;
}

int main(void)
{
	double (*cosine)(double);
	pthread_attr_t attr;
	pthread_t t;
	void *lib, *r;

	coroutines();
	if (setjmp(env) == 0)
		deep(1000);
	else
		printf("longjmp arrived\n");
	lib = dlopen("libm.so.6", RTLD_NOW);
	VERIFY(lib != NULL);
	cosine = (double (*)(double))(uintptr_t)dlsym(lib, "cos");
	printf("cos 1 = %.6f\n", cosine(1.0));
	VERIFY(dlclose(lib) == 0);
	VERIFY(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 32 << 20) == 0);
	VERIFY(pthread_create(&t, &attr, big_stack, NULL) == 0 && pthread_join(t, &r) == 0);
	printf("big stack: %ld\n", (long)r);
	printf("auxv: page %lu, entry %d, random %d, vdso %d, execfn %d, secure %lu\n", getauxval(AT_PAGESZ),
	       getauxval(AT_ENTRY) != 0, getauxval(AT_RANDOM) != 0, getauxval(AT_SYSINFO_EHDR) != 0,
	       getauxval(AT_EXECFN) != 0, getauxval(AT_SECURE));
	return 0;
}
