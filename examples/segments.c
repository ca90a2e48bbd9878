/* Where variables live: text, read-only data, data, bss, heap, mapping and stack, each shown in its mapping. */
#include "look.h"

#include <sys/mman.h>

static int initialised = 42;
static int zeroed[10000];
static const char constant[] = "constant";

int main(void)
{
	static int local_static = 7;
	int local = 1;
	int *heap = malloc(sizeof(*heap)), *large = malloc(1 << 20);
	void *mapped = mmap(NULL, 1 << 16, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	zeroed[5000] = 1;
	const struct { const char *what; const void *p; } things[] = {
		{"main(), in text", (const void *)(uintptr_t)main}, {"a constant, in read-only data", constant},
		{"an initialised variable, in data", &initialised}, {"a static local, in data too", &local_static},
		{"a zero variable, in bss", &zeroed[5000]}, {"malloc(4), on the heap", heap},
		{"malloc(1 MiB), in its own mapping", large}, {"a shared mapping", mapped}, {"a local variable, on the stack", &local},
	};
	for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
		printf("%s: %p\n", things[i].what, things[i].p);
		show_mapping((uintptr_t)things[i].p);
	}
	free(heap);
	free(large);
	return 0;
}
