/*
 * Reading and mapping ELF64 files.
 *
 * Two steps, and only the first may find fault with the file: elf_read() checks everything that the second
 * relies on, so elf_map() fails for want of memory (or a file that shrinks meanwhile), never from strange numbers.
 *
 * One PT_LOAD, file left, memory right:
 *
 *	p_offset              vaddr+bias (rounded down to a page)
 *	+---------+           +---------+  private file mapping, up to the page that holds the last
 *	| p_filesz|    ->     | p_filesz|  file byte; the rest of that page is zeroed by hand
 *	+---------+           +---------+
 *	                      | bss     |  anonymous, up to PAGE_ALIGN(vaddr + p_memsz)
 *	                      +---------+
 *
 * File bytes come only through the mapping's operations, which may block: no lock is held anywhere here.
 */
#include <quire/machine.h>
#include "elf.h"

/* Reads exactly len bytes; a short file is -ENOEXEC. */
static int read_exact(struct file *file, u64 off, void *dst, size_t len)
{
	struct address_space *m = file->mapping;
	u8 *p = dst;

	while (len) {
		long n = m->ops->copy_out(m, off, p, len);

		if (n < 0)
			return (int)n;
		if (n == 0 || (size_t)n > len)
			return -ENOEXEC;
		p += n;
		off += (u64)n;
		len -= (size_t)n;
	}
	return 0;
}

static bool header_ok(const struct elf64_ehdr *eh, const struct guest_abi *abi)
{
	static const u8 ident[7] = { 0x7f, 'E', 'L', 'F', 2 /* 64-bit */, 1 /* little-endian */, 1 };

	return !memcmp(eh->e_ident, ident, sizeof(ident)) && (eh->e_type == ET_EXEC || eh->e_type == ET_DYN) &&
	       eh->e_machine == abi->elf_machine && eh->e_version == 1 &&
	       eh->e_phentsize == sizeof(struct elf64_phdr) && eh->e_phnum &&
	       (u32)eh->e_phnum * sizeof(struct elf64_phdr) <= ELF_PHDR_BYTES_MAX;
}

/* Are the numbers of this PT_LOAD such that no sum below can wrap and no mapping can be refused? */
static bool load_ok(const struct elf64_phdr *ph, const struct guest_abi *abi, const struct elf_image *img)
{
	if (ph->p_filesz > ph->p_memsz || ph->p_memsz > abi->task_size || ph->p_vaddr > abi->task_size - ph->p_memsz)
		return false;
	if (!ph->p_filesz)
		return true;
	if (ph->p_offset > img->file_size || ph->p_filesz > img->file_size - ph->p_offset)
		return false;
	return !((ph->p_vaddr ^ ph->p_offset) & (PAGE_SIZE - 1));
}

static int check_loads(struct elf_image *img, const struct guest_abi *abi)
{
	img->start = ~0ull;
	img->end = 0;
	img->align = PAGE_SIZE;
	for (u32 i = 0; i < img->eh.e_phnum; i++) {
		const struct elf64_phdr *ph = &img->ph[i];

		if (ph->p_type != PT_LOAD || !ph->p_memsz)
			continue;
		if (!load_ok(ph, abi, img))
			return -ENOEXEC;
		img->start = MIN(img->start, ALIGN_DOWN(ph->p_vaddr, PAGE_SIZE));
		img->end = MAX(img->end, PAGE_ALIGN(ph->p_vaddr + ph->p_memsz));
		if (ph->p_align > img->align && !(ph->p_align & (ph->p_align - 1)) && ph->p_align < abi->task_size / 4)
			img->align = ph->p_align;
	}
	if (img->end <= img->start || img->end > abi->task_size)
		return -ENOEXEC;
	if (img->eh.e_type == ET_EXEC && img->start < abi->mmap_min_addr)
		return -ENOEXEC;
	return 0;
}

/* The entry must lie in the image; only its own header says where it is. */
static bool entry_ok(const struct elf_image *img)
{
	return img->eh.e_entry >= img->start && img->eh.e_entry < img->end;
}

int elf_read(struct quire *q, struct file *file, const struct guest_abi *abi, struct elf_image *img)
{
	size_t bytes;
	int err;

	memset(img, 0, sizeof(*img));
	img->file = file;
	err = read_exact(file, 0, &img->eh, sizeof(img->eh));
	if (err)
		return err;
	if (!header_ok(&img->eh, abi) || img->eh.e_phoff > ~0ull - ELF_PHDR_BYTES_MAX)
		return -ENOEXEC;
	img->file_size = file->mapping->ops->size(file->mapping);
	bytes = img->eh.e_phnum * sizeof(struct elf64_phdr);
	img->ph = kmalloc(q, bytes, GFP_KERNEL);
	if (!img->ph)
		return -ENOMEM;
	err = read_exact(file, img->eh.e_phoff, img->ph, bytes);
	if (!err)
		err = check_loads(img, abi);
	if (!err && !entry_ok(img))
		err = -ENOEXEC;
	if (err)
		elf_release(q, img);
	return err;
}

void elf_release(struct quire *q, struct elf_image *img)
{
	kfree(q, img->ph);
	img->ph = NULL;
}

char *elf_interp_path(struct quire *q, const struct elf_image *img)
{
	for (u32 i = 0; i < img->eh.e_phnum; i++) {
		const struct elf64_phdr *ph = &img->ph[i];
		char *path;
		int err;

		if (ph->p_type != PT_INTERP)
			continue;
		if (ph->p_filesz < 2 || ph->p_filesz > ELF_PATH_MAX || ph->p_offset > img->file_size)
			return ERR_PTR(-ENOEXEC);
		path = kmalloc(q, ph->p_filesz, GFP_KERNEL);
		if (!path)
			return ERR_PTR(-ENOMEM);
		err = read_exact(img->file, ph->p_offset, path, ph->p_filesz);
		if (!err && path[ph->p_filesz - 1])
			err = -ENOEXEC;
		if (!err)
			return path;
		kfree(q, path);
		return ERR_PTR(err);
	}
	return NULL;
}

bool elf_wants_exec_stack(const struct elf_image *img)
{
	for (u32 i = 0; i < img->eh.e_phnum; i++) {
		if (img->ph[i].p_type == PT_GNU_STACK)
			return img->ph[i].p_flags & PF_X;
	}
	/* Without the header, 64-bit Linux gives a stack that is not executable (arch/x86/include/asm/elf.h). */
	return false;
}

long elf_find_room(struct mm_struct *mm, const struct elf_image *img, u64 align)
{
	u64 len = img->end - img->start, want = len + (align > PAGE_SIZE ? align : 0);
	long at, err;

	/* The mm belongs to nobody yet, so what was found free stays free. */
	at = do_mmap(mm, NULL, 0, want, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
	if (at < 0)
		return at;
	err = do_munmap(mm, (u64)at, want);
	if (err)
		return err;
	return (long)ALIGN_DOWN((u64)at + want - len, align);
}

static u64 prot_of(const struct elf64_phdr *ph)
{
	return (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
	       (ph->p_flags & PF_X ? PROT_EXEC : 0);
}

static int zero_user(struct mm_struct *mm, u64 addr, u64 len)
{
	static const u8 zeros[512];

	while (len) {
		size_t n = MIN(len, sizeof(zeros));
		long done = access_process_vm(mm, addr, (void *)(uintptr_t)zeros, n, true);

		if (done != (long)n)
			return -ENOMEM;
		addr += n;
		len -= n;
	}
	return 0;
}

static int map_fixed(struct mm_struct *mm, struct file *file, u64 start, u64 end, u64 prot, u64 pgoff)
{
	u64 flags = MAP_PRIVATE | MAP_FIXED | (file ? MAP_DENYWRITE : MAP_ANONYMOUS);
	long at;

	if (start >= end)
		return 0;
	at = do_mmap(mm, file, start, end - start, prot, flags, pgoff);
	return at < 0 ? (int)at : 0;
}

static int map_load(struct mm_struct *mm, const struct elf_image *img, const struct elf64_phdr *ph)
{
	u64 addr = ph->p_vaddr + img->bias, start = ALIGN_DOWN(addr, PAGE_SIZE);
	u64 file_end = addr + ph->p_filesz, map_end = PAGE_ALIGN(file_end), prot = prot_of(ph);
	int err = 0;

	if (!ph->p_filesz)
		return map_fixed(mm, NULL, start, PAGE_ALIGN(addr + ph->p_memsz), prot, 0);
	err = map_fixed(mm, img->file, start, map_end, prot, ph->p_offset >> PAGE_SHIFT);
	if (err || ph->p_memsz == ph->p_filesz)
		return err;
	/* As Linux, whose segments without write permission keep what the file has behind their end. */
	if ((prot & PROT_WRITE) && map_end > file_end)
		err = zero_user(mm, file_end, map_end - file_end);
	if (err)
		return err;
	return map_fixed(mm, NULL, map_end, PAGE_ALIGN(addr + ph->p_memsz), prot, 0);
}

int elf_map(struct mm_struct *mm, const struct elf_image *img)
{
	for (u32 i = 0; i < img->eh.e_phnum; i++) {
		const struct elf64_phdr *ph = &img->ph[i];
		int err;

		if (ph->p_type != PT_LOAD || !ph->p_memsz)
			continue;
		err = map_load(mm, img, ph);
		if (err)
			return err;
	}
	return 0;
}

u64 elf_phdr_addr(const struct elf_image *img)
{
	for (u32 i = 0; i < img->eh.e_phnum; i++) {
		const struct elf64_phdr *ph = &img->ph[i];

		if (ph->p_type == PT_LOAD && img->eh.e_phoff >= ph->p_offset &&
		    img->eh.e_phoff - ph->p_offset < ph->p_filesz)
			return img->eh.e_phoff - ph->p_offset + ph->p_vaddr + img->bias;
	}
	return 0;
}
