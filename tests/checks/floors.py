#!/usr/bin/env python3
"""Floor order: a floor includes only include/, lib/, sync/, itself and the floors above it; and nothing of libc."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FLOORS = ["phys", "kmem", "swap", "mm", "file", "fault", "reclaim", "task", "sys", "proc"]
# What a freestanding C11 implementation provides (C11 4p6).
FREESTANDING = {"float.h", "iso646.h", "limits.h", "stdalign.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h",
                "stdnoreturn.h"}
TEST_FILE = re.compile(r"_(test|bench|model)\.[ch]$|^test")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')


def resolve(name, directory):
    """The place of an included file in the tree, as the compiler would find it, or None."""
    for place in (directory, "include", "lib", "sync", "."):
        path = os.path.normpath(os.path.join(place, name))
        if os.path.exists(os.path.join(ROOT, path)):
            return path
    return None


def allowed_dirs(floor):
    if floor in ("include", "lib", "sync"):
        return {"include", "lib", "sync"}
    return {"include", "lib", "sync"} | set(FLOORS[:FLOORS.index(floor) + 1])


def check_file(path, floor):
    bad = []
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            match = INCLUDE.match(line)
            if not match or match.group(1) in FREESTANDING:
                continue
            target = resolve(match.group(1), os.path.dirname(path))
            if target and target.startswith("third_party" + os.sep) and floor == "swap":
                continue  # compiled with the kernel's own flags
            if target is None:
                bad.append(f"{path}:{number}: includes <{match.group(1)}>, which is not freestanding")
            elif target.split(os.sep)[0] not in allowed_dirs(floor):
                bad.append(f"{path}:{number}: floor {floor}/ includes {target}, which is not above it")
    return bad


def check():
    bad, seen = [], 0
    for floor in ["include", "lib", "sync"] + FLOORS:
        for directory, _, names in os.walk(os.path.join(ROOT, floor)):
            for name in sorted(names):
                # Tests may use libc, cmocka and the whole machine.
                if not name.endswith((".c", ".h")) or TEST_FILE.search(name):
                    continue
                bad += check_file(os.path.relpath(os.path.join(directory, name), ROOT), floor)
                seen += 1
    return bad, [f"{seen} files of {len(FLOORS) + 3} floors"]


if __name__ == "__main__":
    failures, notes = check()
    print("\n".join(failures + notes))
    sys.exit(1 if failures else 0)
