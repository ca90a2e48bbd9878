/*
 * The guest ABIs: all that differs by instruction set in the layout of an address space (design.md 3.4).
 * Constant data; no locks.
 */
#include <quire/machine.h>

/*
 * x86-64 programs on the hosted port.  The host's own mappings and the kernel of this machine live above
 * 0x700000000000, so user space ends there instead of at Linux's 0x7ffffffff000; everything else is as in
 * arch/x86: 28 bits of mmap randomness, 22 of stack, heap within 1 GiB of its place.
 */
const struct guest_abi guest_abi_x86_64 = {
	.name = "x86_64",
	.task_size = 0x700000000000,
	.stack_top = 0x700000000000,
	.elf_et_dyn_base = 0x555555554000,
	.mmap_min_addr = 0x10000,
	.map_32bit_end = 0x80000000,
	.elf_machine = 62, /* EM_X86_64 */
	.platform = "x86_64",
	.mmap_rnd_pages = 1ull << 28,
	.stack_rnd_pages = 1ull << 22,
	.brk_rnd_bytes = 1ull << 30,
};

/* arm64 with 48-bit addresses and 4 KiB pages: PIE programs at two thirds of the space, 18 bits of randomness. */
const struct guest_abi guest_abi_arm64 = {
	.name = "aarch64",
	.task_size = 1ull << 48,
	.stack_top = 1ull << 48,
	.elf_et_dyn_base = 0xaaaaaaaaa000,
	.mmap_min_addr = 0x10000,
	.map_32bit_end = 0,
	.elf_machine = 183, /* EM_AARCH64 */
	.platform = "aarch64",
	.mmap_rnd_pages = 1ull << 18,
	.stack_rnd_pages = 1ull << 18,
	.brk_rnd_bytes = 1ull << 30,
};
