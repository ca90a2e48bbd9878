#!/usr/bin/env python3
"""Writes the hand-made seeds of elf_fuzz (tests/fuzz/elf): small programs, one for each corner of the loader."""
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "elf")
EXEC, DYN = 2, 3
LOAD, INTERP, PHDR, STACK = 1, 3, 6, 0x6474E551
R, W, X = 4, 2, 1


def elf(kind, entry, headers, body=b""):
    """headers: (type, flags, offset, vaddr, filesz, memsz, align)."""
    out = b"\x7fELF\x02\x01\x01" + bytes(9)
    out += struct.pack("<HHIQQQIHHHHHH", kind, 62, 1, entry, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
    for what, flags, offset, vaddr, filesz, memsz, align in headers:
        out += struct.pack("<IIQQQQQQ", what, flags, offset, vaddr, vaddr, filesz, memsz, align)
    return out + body


def seeds():
    one = [(LOAD, R | X, 0, 0x400000, 120, 120, 0x1000)]
    yield "static", elf(EXEC, 0x400078, one, bytes(32))
    yield "pie", elf(DYN, 0x78, [(LOAD, R | X, 0, 0, 120, 120, 0x1000)], bytes(32))
    yield "bss", elf(EXEC, 0x400080, [(LOAD, R | X, 0, 0x400000, 176, 176, 0x1000),
                                      (LOAD, R | W, 100, 0x601064, 60, 0x3000, 0x1000)], bytes(40))
    yield "only_bss", elf(EXEC, 0x400010, [(LOAD, R | W | X, 0, 0x400000, 0, 0x2000, 0x1000)])
    yield "hole", elf(DYN, 0x100, [(LOAD, R | X, 0, 0, 176, 0x200, 0x1000),
                                   (LOAD, R | W, 0, 0x200000, 176, 0x1200, 0x200000)])
    yield "overlap", elf(EXEC, 0x400100, [(LOAD, R | W, 0, 0x400000, 176, 0x3000, 0x1000),
                                          (LOAD, R | X, 0, 0x401000, 176, 0x1000, 0x1000)])
    path = b"/lib/ld.so\0"
    offset = 64 + 3 * 56
    yield "interp", elf(DYN, 0x40, [(PHDR, R, 64, 64, 168, 168, 8), (INTERP, R, offset, offset, len(path), len(path), 1),
                                    (LOAD, R | X, 0, 0, offset + len(path), 0x400, 0x1000)], path)
    yield "stack_exec", elf(DYN, 0x40, [(LOAD, R | X, 0, 0, 176, 176, 0x1000), (STACK, R | W | X, 0, 0, 0, 0, 16)])
    yield "last_page", elf(EXEC, 0x7FFFFFFFE040, [(LOAD, R | X, 0, 0x7FFFFFFFE000, 120, 0xFFF, 0x1000)])
    yield "many", elf(DYN, 0x40, [(LOAD, R | W, 0, i << 16, 64, 0x10000 - i, 1 << (12 + i)) for i in range(12)])
    yield "data_only", elf(DYN, 0x40, [(LOAD, 0, 0, 0, 120, 120, 0)])
    yield "not_elf", b"#!/bin/sh\nexit 0\n"


def main():
    os.makedirs(HERE, exist_ok=True)
    for name, data in seeds():
        with open(os.path.join(HERE, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
