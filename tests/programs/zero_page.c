/* Memory that is only read is zero however much there is; a write changes one page only. */
#include "guest.h"

int main(void)
{
	size_t bytes = 256ul << 20;
	const char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t nonzero = 0;

	VERIFY(p != MAP_FAILED);
	for (size_t i = 0; i < bytes; i += PAGE)
		nonzero += p[i + i / PAGE % PAGE] != 0;
	printf("nonzero: %zu\n", nonzero);
	for (size_t i = 0; i < bytes; i += 64 * PAGE)
		((char *)p)[i + 5] = 1;
	for (size_t i = 0; i < bytes; i += PAGE)
		nonzero += p[i + 5] != 0;
	printf("nonzero after writes: %zu\n", nonzero);
	return 0;
}
