#!/usr/bin/env python3
"""The examples show what examples/README.md says: each is run natively and under Quire and its output examined.

Expectations are regular expressions over the whole output; NATIVE and QUIRE mark the few that hold on one side only.
"""
import os
import re
import sys
import tempfile

from harness import QUIRE, outcome, summary

PROGRAMS = os.path.join(os.path.dirname(QUIRE), "examples")
HAS_FRAME = r"(is frame \d+|has a frame)"

# name: (arguments, exit code, [expressions that must match])
EXAMPLES = {
    "malloc_100": ([], 0, [r"before the touch: address \S+ has no frame yet", rf"after the touch: address \S+ {HAS_FRAME}",
                           r"64 MiB are booked, and the process holds \d{3,4} KiB", r"touching 4096 pages took \d+ faults",
                           r"holds (1[6-9]|2\d)\d{3} KiB now", r"page of 4096"]),
    "mlock_now": ([], 0, [r"before mlock: address \S+ has no frame yet", rf"never touched: address \S+ {HAS_FRAME}",
                          r"resident grew by 4[0-3]\d\d KiB, locked are 4096 KiB", r"touching all 1024 pages took \d faults",
                          r"after munlock locked are 0 KiB"]),
    "malloc_1": ([], 0, [r"rw-p 00000000 00:00 0 +\[heap\]", r"the heap has 132 KiB", r"still has 132 KiB"]),
    "free_threshold": ([], 0, [r"100 KiB blocks lie in the heap:\n.*\[heap\]", r"mapping of its own:\n.* 00:00 0 *\n",
                               r"1 MiB freed: resident fell by 1\d{3} KiB\n +nothing is mapped",
                               r"100 blocks of 100 KiB freed: resident fell by \d{1,3} KiB",
                               r"above them freed too: resident fell by [19]\d{3,4} KiB in all"]),
    "mallopt_knobs": ([], 0, [r"as it comes: 8 MiB again take \d+ faults", r"the knobs save faults: yes"]),
    "same_address": ([], 0, [r"child : &variable = (\S+), variable = 3[\s\S]*parent: &variable = \1, variable = 2",
                             r"QUIRE same address, different frame"]),
    "segments": ([], 0, [r"in text: \S+\n.* r-xp .*segments", r"read-only data: \S+\n.* r--p .*segments",
                         r"in data: \S+\n.* rw-p .*segments", r"in bss: \S+\n.* rw-p ", r"on the heap: \S+\n.*\[heap\]",
                         r"own mapping: \S+\n.* rw-p 00000000 00:00 0", r"shared mapping: \S+\n.* r--s ",
                         r"on the stack: \S+\n.*\[stack\]"]),
    "mmap_flags": ([], 0, [r"is gone +0", r"NOREPLACE.*refused: File exists", r"another place +yes",
                           r"MAP_POPULATE[\s\S]*has a frame +yes", r"none yet[\s\S]*has a frame +no", r"MAP_32BIT.* 0x[0-9a-f]{1,8}\n",
                           r"opened for reading +0x", r"opened for reading +refused: Permission denied", r"directory +refused: No such device",
                           r"length 0 +refused: Invalid argument", r"more than the address space +refused: Cannot allocate memory"]),
    "fork_cow": ([], 0, [r"child reads 1024 pages: \d+ faults", r"child writes one byte: a fault", r"its own now",
                         r"parent still reads 1", r"QUIRE the frame is the parent's"]),
    "virt_to_phys": ([], 0, [r"variable = 0x12345679 at virtual 0x", r"QUIRE frame 0x[0-9a-f]+, so physical 0x[0-9a-f]+"]),
    "endless_malloc": (["5"], 0, [r"^(Now allocated \d Megabytes\n){5}$"]),
}


def examine(where, name, command, code, expressions):
    got, text, errors = outcome(command)
    wrong = [] if got == code else [f"exit code {got}, not {code}: {errors.strip()[:300]}"]
    for expression in expressions:
        side, _, rest = expression.partition(" ")
        if side in ("NATIVE", "QUIRE"):
            if side.lower() != where:
                continue
            expression = rest
        if not re.search(expression, text):
            wrong.append(f"does not show /{expression}/")
    if wrong:
        print(f"FAILED {name} ({where}): " + "\n    ".join(wrong))
        print("    " + "\n    ".join(text.splitlines()[:20]))
    return not wrong


def endless():
    """The machine of 64 MiB ends the endless program near 64 MB, says so in its log, and reports 137."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        got, text, _ = outcome([QUIRE, "run", "--memory", "64M", "--log", log.name, "--", f"{PROGRAMS}/endless_malloc"])
        said = log.read()
    megabytes = text.count("Megabytes")
    good = got == 137 and 40 <= megabytes <= 64 and re.search(r"Out of memory: Killed process \d+ \(endless_malloc\)", said)
    if not good:
        print(f"FAILED endless_malloc in 64M: exit code {got}, {megabytes} MB, log: {said[-300:]!r}")
    return bool(good)


def main():
    results = []
    for name, (arguments, code, expressions) in EXAMPLES.items():
        program = [f"{PROGRAMS}/{name}", *arguments]
        results.append(examine("native", name, program, code, expressions))
        results.append(examine("quire", name, [QUIRE, "run", "--memory", "512M", "--", *program], code, expressions))
    results.append(endless())
    return summary(sum(results), len(results) - sum(results))


if __name__ == "__main__":
    sys.exit(main())
