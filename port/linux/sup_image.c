/*
 * Mapping what every process of the machine shares: the memfd (port state, contexts, frame records, RAM) and the kernel ELF, both at
 * their fixed addresses.  The kernel's text and data come from a second memfd, mapped privately, so that fork copies no entries
 * of it.
 *
 * Every process touches these from its first trap on, and fork copies none of it: page by page that is fifty faults of the host for each
 * child.  So the kernel's text and constants have 2 MiB of addresses to themselves, and they and what all processes use of the rest
 * lie in huge pages of the host, where it has them: one fault each.
 */
#define _GNU_SOURCE
#include "sup_internal.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#undef PROT_READ
#undef PROT_WRITE
#undef PROT_EXEC
#undef PROT_NONE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE (2ull << 20)
#define POPULATE_NS 3000000 /* of this thread at boot for all of them: a host may get them 4 KiB by 4 KiB (hugeram.c) */

extern const char kernel_blob[], kernel_blob_end[];

static void complain(const char *what)
{
	fprintf(stderr, "quire: %s: %s\n", what, strerror(errno));
}

/* Before Linux 6.3 there is no MFD_EXEC, and every memfd may be mapped executable. */
static int make_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC | MFD_ALLOW_SEALING);

	return fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static int make_shared(u64 memory)
{
	int fd = make_memfd("quire");

	if (fd < 0) {
		complain("memfd_create");
		return -1;
	}
	if (ftruncate(fd, (off_t)(RAM_OFFSET + memory)) < 0) {
		complain("cannot size the machine's memory (is there a file size limit, ulimit -f?)");
		return -1;
	}
	/* However a guest comes by the descriptor: nobody cuts the machine's memory off. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	return fd;
}

/* The setting in brackets in one of the files under transparent_hugepage; "" if there is no such file. */
static void thp_setting(const char *name, char *setting, size_t size)
{
	char path[128], text[256];
	ssize_t n;
	int fd;

	setting[0] = '\0';
	snprintf(path, sizeof(path), "/sys/kernel/mm/transparent_hugepage/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n > 0) {
		char *from, *to;

		text[n] = '\0';
		from = strchr(text, '[');
		to = from ? strchr(from, ']') : NULL;
		if (to)
			snprintf(setting, size, "%.*s", (int)(to - from - 1), from + 1);
	}
}

bool image_host_huge(void)
{
	char setting[32];

	/* Per size from Linux 6.12; "inherit", or no such file, means the setting for all. */
	thp_setting("hugepages-2048kB/shmem_enabled", setting, sizeof(setting));
	if (!setting[0] || !strcmp(setting, "inherit"))
		thp_setting("shmem_enabled", setting, sizeof(setting));
	return setting[0] && strcmp(setting, "never") && strcmp(setting, "deny");
}

/* 2 MiB of a memfd, in a mapping that asks for a huge page: who maps them without asking gets the same page.  NULL and errno. */
static void *map_block(int fd, u64 offset, bool huge)
{
	void *at = mmap((void *)SCRATCH_BASE, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, (off_t)offset);

	if (at == MAP_FAILED)
		return NULL;
	if (huge)
		madvise(at, HUGE, MADV_HUGEPAGE);
	return at;
}

static u64 thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* The block at `offset` gets its huge page.  Nothing was there yet. */
static void populate_block(int fd, u64 offset)
{
	volatile char *at = map_block(fd, offset, true);

	if (!at)
		return;
	*at = 0;
	munmap((void *)at, HUGE);
}

/* Offsets of what every process uses, most used first; slabs and page tables begin at the start of the highest zone (phys/init.c).
 * The others only where there are many processes. */
enum { RAM_BLOCK = 2, BOOT_BLOCKS = 4, BLOCKS = 8 };

static u64 block_offset(u64 memory, size_t i)
{
	u64 kernel = memory > ZONE_DMA32_END ? ZONE_DMA32_END : memory >= ZONE_DMA_END + HUGE ? ZONE_DMA_END : 0;
	u64 records = ALIGN_DOWN(kernel / PAGE_SIZE * sizeof(struct frame), HUGE);
	u64 blocks[BLOCKS] = { 0, GUEST_CTX_OFFSET, [RAM_BLOCK] = RAM_OFFSET + kernel, MEM_MAP_OFFSET + records,
			       GUEST_CTX_OFFSET + HUGE, RAM_OFFSET + kernel + HUGE, RAM_OFFSET + kernel + 2 * HUGE,
			       RAM_OFFSET + kernel + 3 * HUGE };

	return blocks[i];
}

static void populate_shared(int fd, u64 memory, u64 start)
{
	u8 *begun = (u8 *)(SHARED_BASE + RAM_BLOCKS_OFFSET);
	size_t i;

	for (i = 0; i < BOOT_BLOCKS && thread_ns() - start < POPULATE_NS; i++)
		populate_block(fd, block_offset(memory, i));
	begun[(block_offset(memory, RAM_BLOCK) - RAM_OFFSET) / HUGE] = i > RAM_BLOCK; /* then hugeram.c need not */
}

/* A machine with many processes is worth the time that boot did not take: blocks that lie in small pages become huge ones, one with each
 * call from *next = 0 on.  Where the host cannot (before Linux 6.1, no memory), nothing changes. */
void image_collapse(u64 memory, size_t *next)
{
	u64 offset;

	if (*next >= BLOCKS || !image_host_huge())
		return;
	offset = block_offset(memory, (*next)++);
	if (offset + HUGE > RAM_OFFSET + memory)
		return;
	(void)*(volatile char *)(SHARED_BASE + offset); /* EINVAL where this process has no page table */
	madvise((void *)(SHARED_BASE + offset), HUGE, MADV_COLLAPSE);
}

static int map_shared(int fd, u64 memory)
{
	u64 size = RAM_OFFSET + memory;

	if (fd < 0)
		return -1;
	if (mmap((void *)SHARED_BASE, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, fd,
		 0) != (void *)SHARED_BASE) {
		complain(limits_address_space() ? "cannot map the machine's memory: the limit on address space (ulimit -v) forbids it"
						: "cannot map the machine's memory above 0x7c0000000000 (there is no such place inside "
						  "another machine)");
		return -1;
	}
	madvise((void *)SHARED_BASE, size, MADV_DONTDUMP);
	return 0;
}

static int prot_of(const Elf64_Phdr *ph)
{
	return (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
	       (ph->p_flags & PF_X ? PROT_EXEC : 0);
}

/* File part from the memfd, the rest of the memory (bss) anonymous; the partial page between them is cleared.  What is not written to is
 * mapped up to the end of its block, since the host maps huge pages only as a whole. */
static int map_segment(int fd, const Elf64_Phdr *ph)
{
	bool data = ph->p_flags & PF_W;
	u64 start = ALIGN_DOWN(ph->p_vaddr, PAGE_SIZE), file_end = ph->p_vaddr + ph->p_filesz;
	u64 bss = data ? PAGE_ALIGN(file_end) : ALIGN_UP(file_end, HUGE);
	u64 end = PAGE_ALIGN(ph->p_vaddr + ph->p_memsz);

	if (ph->p_filesz && mmap((void *)start, bss - start, prot_of(ph), MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd,
				 (off_t)ALIGN_DOWN(ph->p_offset, PAGE_SIZE)) == MAP_FAILED)
		return -1;
	if (!ph->p_filesz)
		bss = start;
	if (end > bss && mmap((void *)bss, end - bss, prot_of(ph), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			      0) == MAP_FAILED)
		return -1;
	if (data && ph->p_filesz && ph->p_memsz > ph->p_filesz)
		memset((void *)file_end, 0, MIN(bss, ph->p_vaddr + ph->p_memsz) - file_end);
	return 0;
}

/* What of the image is mapped: its symbols, which are most of it, are not. */
static u64 image_size(const Elf64_Ehdr *eh)
{
	const Elf64_Phdr *ph = (const void *)(kernel_blob + eh->e_phoff);
	u64 size = 0;
	int i;

	for (i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD)
			size = MAX(size, ph[i].p_offset + ph[i].p_filesz);
	return size;
}

/* The memfd that holds the image, or -1 and errno. */
static int store_kernel(bool huge)
{
	u64 size = image_size((const void *)kernel_blob), at, n;
	int fd = make_memfd("quire-kernel");
	void *to;

	if (fd < 0 || ftruncate(fd, (off_t)ALIGN_UP(size, HUGE)) < 0)
		return -1;
	for (at = 0; at < size; at += n) {
		n = MIN(size - at, HUGE);
		to = map_block(fd, at, huge);
		if (!to)
			return -1;
		memcpy(to, kernel_blob + at, n);
		munmap(to, HUGE);
	}
	return fd;
}

static const struct kernel_exports *map_kernel(bool huge)
{
	const Elf64_Ehdr *eh = (const void *)kernel_blob;
	const Elf64_Phdr *ph = (const void *)(kernel_blob + eh->e_phoff);
	int fd = store_kernel(huge), i;

	if (fd < 0) {
		complain("cannot store the kernel image");
		return NULL;
	}
	for (i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD && map_segment(fd, &ph[i])) {
			complain("cannot map the kernel image");
			return NULL;
		}
	}
	close(fd);
	return (const void *)eh->e_entry;
}

static const struct kernel_exports *join(u64 memory, int ram_fd, bool huge)
{
	const struct kernel_exports *k;

	if (map_shared(ram_fd, memory))
		return NULL;
	k = map_kernel(huge);
	if (k && k->magic != EXPORTS_MAGIC) {
		fprintf(stderr, "quire: the kernel image inside this program is damaged\n");
		return NULL;
	}
	return k;
}

const struct kernel_exports *image_join(u64 memory, int ram_fd)
{
	return join(memory, ram_fd, image_host_huge());
}

const struct kernel_exports *image_map(u64 memory, int *ram_fd)
{
	bool huge = image_host_huge();
	u64 start = thread_ns(); /* the kernel's own block counts: if that was slow the others will be */
	const struct kernel_exports *k;

	*ram_fd = make_shared(memory);
	k = join(memory, *ram_fd, huge);
	if (k && huge)
		populate_shared(*ram_fd, memory, start);
	if (k)
		((struct machine_shared *)shared_area())->build_id = kernel_build_id;
	return k;
}

static void add_special(struct guest_boot *b, u64 lo, u64 hi, const char *line)
{
	struct special_range *r = &b->special[b->nspecial];
	const char *name = strchr(line, '[');

	if (b->nspecial == ARRAY_SIZE(b->special))
		return;
	b->nspecial++;
	r->start = lo;
	r->end = hi;
	r->exec = strstr(line, "r-xp") != NULL;
	snprintf(r->name, sizeof(r->name), "%.*s", (int)strcspn(name, "\n"), name);
}

u32 image_vsyscall(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	u32 rights = 0;

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[vsyscall]"))
			rights = 1 | (strstr(line, " r-xp ") ? 4 : 0);
	if (f)
		fclose(f);
	return rights;
}

void image_find_vdso(struct guest_boot *b)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		unsigned long lo, hi;

		if (sscanf(line, "%lx-%lx", &lo, &hi) != 2 || !(strstr(line, "[vvar") || strstr(line, "[vdso]")))
			continue;
		if (strstr(line, "[vdso]"))
			b->vdso = lo;
		if (!b->vdso_start || lo < b->vdso_start)
			b->vdso_start = lo;
		if (hi > b->vdso_end)
			b->vdso_end = hi;
		add_special(b, lo, hi, line);
	}
	if (f)
		fclose(f);
}
