#!/bin/sh
# blob.sh KERNEL_ELF OUTPUT.S: an assembler file that holds the kernel ELF, so that `quire` is one file.
cat > "$2" <<END
	.section .rodata
	.globl kernel_blob, kernel_blob_end
	.balign 4096
kernel_blob:
	.incbin "$(realpath "$1")"
kernel_blob_end:
	.section .note.GNU-stack,"",@progbits
END
