#!/usr/bin/env python3
"""Size budgets: no function over 80 lines (fails); medians, long files and the share of comments (reported)."""
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIRS = ["include", "lib", "sync", "phys", "kmem", "swap", "mm", "file", "fault", "reclaim", "task", "sys", "proc",
        "port", "cmd", "bench", "tests", "examples"]
FUNCTION_MAX, FILE_MAX = 80, 900


def sources():
    for top in DIRS:
        for directory, _, names in os.walk(os.path.join(ROOT, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(directory, name), ROOT)


def functions(paths):
    """(path, name, line, lines) of every function definition, from the opening line to the closing brace."""
    out = subprocess.run(["ctags", "--output-format=json", "--languages=C", "--map-C=+.h", "--kinds-C=f",
                          "--fields=+ne", "-f", "-", "-L", "-"], input="\n".join(paths), cwd=ROOT, check=True,
                         capture_output=True, text=True).stdout
    for line in out.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            yield tag["path"], tag["name"], tag["line"], tag["end"] - tag["line"] + 1


def comment_lines(text):
    """Lines that consist of comment only, or open a trailing one."""
    count = sum(1 + m.group().count("\n") for m in re.finditer(r"/\*.*?\*/", text, re.S))
    return count + len(re.findall(r"^[^\"\n]*//", text, re.M))


def check():
    paths = list(sources())
    lengths, bad, notes = [], [], []
    for path, name, line, length in functions(paths):
        core = not path.startswith(("tests/", "examples/", "bench/")) and not path.endswith("_test.c")
        if core:
            lengths.append(length)
        if length > FUNCTION_MAX:
            bad.append(f"{path}:{line}: {name}() has {length} lines, {FUNCTION_MAX} is the most")
    total = comments = 0
    for path in paths:
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            text = f.read()
        lines = text.count("\n")
        if lines > FILE_MAX:
            notes.append(f"{path}: {lines} lines, more than {FILE_MAX}: one concept a file?")
        if not path.startswith(("tests/", "examples/")) and not path.endswith("_test.c"):
            total, comments = total + lines, comments + comment_lines(text)
    if lengths:
        lengths.sort()
        notes.append(f"{len(lengths)} functions: median {statistics.median(lengths):g} lines (aim 12), 90% within "
                     f"{lengths[len(lengths) * 9 // 10]} (aim 40), longest {lengths[-1]} (at most {FUNCTION_MAX})")
        notes.append(f"{len(paths)} files; without tests {total} lines, {100 * comments // total}% comments (aim 20)")
    return bad, notes


if __name__ == "__main__":
    failures, remarks = check()
    print("\n".join(failures + remarks))
    sys.exit(1 if failures else 0)
