/*
 * ELF64 programs: what task/elf.c offers to task/exec.c.  Layouts: System V ABI, chapters 4 and 5 (object
 * files, program loading); elf(5).
 *
 * An elf_image belongs to one context; no locks.
 */
#ifndef QUIRE_TASK_ELF_H
#define QUIRE_TASK_ELF_H
#include <quire/types.h>

struct quire;
struct file;
struct mm_struct;
struct guest_abi;

#define ELF_PATH_MAX 4096u
#define ELF_PHDR_BYTES_MAX 65536u /* Linux's limit on the program header table */

enum { ET_EXEC = 2, ET_DYN = 3 };
enum { PT_LOAD = 1, PT_INTERP = 3, PT_GNU_STACK = 0x6474e551 };
enum { PF_X = 1, PF_W = 2, PF_R = 4 };

struct elf64_ehdr {
	u8 e_ident[16];
	u16 e_type, e_machine;
	u32 e_version;
	u64 e_entry, e_phoff, e_shoff;
	u32 e_flags;
	u16 e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
};
struct elf64_phdr {
	u32 p_type, p_flags;
	u64 p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
};
_Static_assert(sizeof(struct elf64_ehdr) == 64 && sizeof(struct elf64_phdr) == 56, "the format's own sizes");

/* A checked program or interpreter.  All addresses are those of the file (before `bias`). */
struct elf_image {
	struct file *file;       /* the caller's reference */
	struct elf64_ehdr eh;
	struct elf64_phdr *ph;   /* eh.e_phnum entries; kmalloc'ed */
	u64 file_size;           /* bytes, when it was read */
	u64 start, end;          /* page-aligned bounds of all PT_LOADs, bytes */
	u64 align;               /* largest p_align that is a power of two; at least PAGE_SIZE */
	u64 bias;                /* added to every address; set before elf_map() */
};

/* Reads and checks headers.  0; -ENOEXEC if this is no program for abi; -ENOMEM; -EIO.  After 0: elf_release(). */
int elf_read(struct quire *q, struct file *file, const struct guest_abi *abi, struct elf_image *img);
void elf_release(struct quire *q, struct elf_image *img);
/* The path in PT_INTERP, kmalloc'ed; NULL if there is none; ERR_PTR(-ENOEXEC, -ENOMEM, -EIO). */
char *elf_interp_path(struct quire *q, const struct elf_image *img);
bool elf_wants_exec_stack(const struct elf_image *img);
/* Finds room for the whole image where mmap would put it and returns the lowest address, or a negative errno. */
long elf_find_room(struct mm_struct *mm, const struct elf_image *img, u64 align);
/* Maps every PT_LOAD at its place + bias.  0 or negative errno; on failure the mm is good for mmput() only. */
int elf_map(struct mm_struct *mm, const struct elf_image *img);
/* Where the program headers lie in memory (AT_PHDR); 0 if no PT_LOAD covers them. */
u64 elf_phdr_addr(const struct elf_image *img);

#endif
