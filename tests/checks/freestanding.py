#!/usr/bin/env python3
"""The hosted flavour of the core: needs nothing but sync/, the port and the memory intrinsics, and has no mutable globals.

Usage: freestanding.py [ARCHIVE...]   (default: those that ./dev build leaves)
"""
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# The port's functions, what a freestanding compiler may call by itself, the logger of stores (sync/undo.c), and the
# name by which the linker makes its table for weak symbols.
ALLOWED = re.compile(r"^(port_|host_|mem(cpy|move|set|cmp)$|str(len|cmp|ncmp|nlen)$|__asan_store|"
                     r"__asan_handle_no_return$|_GLOBAL_OFFSET_TABLE_$)")
FUNCTION = re.compile(r"^[a-z][\w\s*]*?\b(\w+)\(.*\)(?: __attribute__\(.*\))?;", re.M)
MUTABLE = re.compile(r"^\.(data|bss|tdata|tbss|sdata|sbss)(\.|$)")
CONSTANT = re.compile(r"^\.data\.rel\.ro")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def undefined(archives):
    """Symbols that no member defines: {name: [members that want it]}."""
    wanted, defined, member = {}, set(), "?"
    for line in run("nm", *archives).splitlines():
        fields = line.split()
        if line.endswith(":"):
            member = os.path.basename(line[:-1])
        elif len(fields) == 2 and fields[0] in "Uwv":
            wanted.setdefault(fields[1], []).append(member)
        elif len(fields) == 3:
            defined.add(fields[2])
    return {name: who for name, who in wanted.items() if name not in defined}


def sync_functions():
    """What sync/ provides: it is compiled apart, because the logger must not log itself."""
    names = set()
    for path in glob.glob(os.path.join(ROOT, "sync", "*.h")):
        with open(path, encoding="utf-8") as f:
            names.update(FUNCTION.findall(f.read()))
    return names


def commons(archive):
    return [line for line in run("nm", archive).splitlines() if re.search(r" C \S+$", line)]


def mutable_sections(archive):
    found, member = [], "?"
    for line in run("size", "-A", archive).splitlines():
        fields = line.split()
        if "(ex " in line:
            member = fields[0]
        elif len(fields) == 3 and MUTABLE.match(fields[0]) and not CONSTANT.match(fields[0]) and int(fields[1]):
            found.append(f"{member}: {fields[1]} bytes of {fields[0]}: state belongs in struct quire")
    return found


def check(*archives):
    # The core comes in two archives: with its stores logged, and text views, which need no log.
    archives = archives or glob.glob(os.path.join(ROOT, "build/port/linux/libcore-*.a"))
    if not archives:
        return ["libcore-hosted.a is not there: the hosted flavour was not built"], []
    given = sync_functions()
    bad = [f"the core needs {name}() (from {', '.join(sorted(set(who))[:3])}), which is neither sync, port nor intrinsic"
           for name, who in sorted(undefined(archives).items()) if not ALLOWED.match(name) and name not in given]
    members = 0
    for path in archives:
        bad += mutable_sections(path)
        bad += [f"{path}: common symbol: {line.strip()}" for line in commons(path)]
        members += len(run("ar", "t", path).split())
    if members < 20:
        bad.append(f"only {members} objects: this is not the core")
    return bad, [f"{members} objects in {len(archives)} archives"]


if __name__ == "__main__":
    failures, notes = check(*sys.argv[1:])
    print("\n".join(failures + notes))
    sys.exit(1 if failures else 0)
