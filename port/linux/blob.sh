#!/bin/sh
# blob.sh KERNEL_ELF OUTPUT.S: an assembler file that holds the kernel ELF, so that `quire` is one file, and its build id: the first
# 64 bits of its SHA-256.
id=$(sha256sum "$1" | cut -c1-16) || exit 1
cat > "$2" <<END
	.section .rodata
	.globl kernel_blob, kernel_blob_end
	.balign 4096
kernel_blob:
	.incbin "$(realpath "$1")"
kernel_blob_end:
	.globl kernel_build_id
	.balign 8
kernel_build_id:
	.quad 0x$id
	.section .note.GNU-stack,"",@progbits
END
