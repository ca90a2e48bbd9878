#!/usr/bin/env python3
"""A machine with far too little memory makes progress or kills somebody, in bounded time; policies and vm.* settings of a machine.

Environment: QUIRE (the program), QUIRE_LONG=1 (more sizes).
"""
import re
import sys
import tempfile
import time

from harness import LONG, PROGRAMS, expect, run, run_logged, run_tests

BOUND = 90  # seconds; six of thrashing are allowed, the rest is for a loaded host

# Leaves about a megabyte for two megabytes of file that are used at random, for ever.
SQUEEZE = """
import mmap, random, sys, tempfile
def free():
    with open('/proc/meminfo') as f:
        fields = dict(line.split(':') for line in f)
    return sum(int(fields[n].split()[0]) for n in ('MemFree', 'Active(file)', 'Inactive(file)'))
f = tempfile.TemporaryFile()
f.truncate(2 << 20)
m, hold = mmap.mmap(f.fileno(), 2 << 20), mmap.mmap(-1, 256 << 20)
at = 0
while free() > 2400:
    for _ in range(16):
        hold[at] = 1
        at += 4096
print('squeezed', flush=True)
s = 0
while True:
    s += m[random.randrange(512) * 4096]
"""


def timed(*arguments):
    """(exit code, stdout, seconds) of `quire run ...`."""
    start = time.monotonic()
    code, out, _ = run(*arguments, timeout=BOUND)
    return code, out, time.monotonic() - start


def too_small():
    """python3 in memory in which it hardly fits, or does not: it ends, one way or the other."""
    for size in ("8M", "8200K", "8400K", "9M", "10M") if LONG else ("8M", "8200K"):
        code, out, seconds = timed("--memory", size, "--", "python3", "-S", "-c", "print('there')")
        expect((code, out) in ((0, "there\n"), (137, "")), f"--memory {size}: exit code {code} after {seconds:.0f} s: {out}")


def squeezed():
    """A program that leaves itself no room for the file it works on is killed, and the log says why."""
    code, out, _, said = run_logged("--memory", "24M", "--", "python3", "-S", "-c", SQUEEZE, timeout=BOUND)
    expect(code == 137 and "squeezed" in out, f"exit code {code}: {out}")
    expect("Killed process" in said, f"the log says: {said[-500:]}")


def gets_on():
    """Three processes on seven times the memory, with a slow swap file: each gets through all its pages, and others can be started."""
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        script = (f"{PROGRAMS}/swap_pattern 24 3 3 & n=0; while kill -0 $! 2>/dev/null; do /bin/true && n=$((n+1)); done; "
                  "wait $!; echo code $?, started $n")
        code, out, errors, said = run_logged("--memory", "10M", "--swap", f"{directory}/swap:128M", "--fail", "swap-slow=1/100", "--stats",
                                             "--", "bash", "-c", script, timeout=BOUND)
    started = re.search(r"code 0, started (\d+)", out)
    expect(code == 0 and "in the end: 0 wrong, 0 children failed" in out and started and int(started[1]) > 2,
           f"{code}: {out} {errors[-1500:]} {said[-500:]}")
    expect("Killed process" not in said, said[-500:])
    expect(int(re.search(r"read from swap: (\d+)", errors)[1]) > 10000, errors)


def policies():
    """A program that needs more than there is, under each policy."""
    program = "d = {str(i): i for i in range(40000)}; print(sum(d.values()))"
    for policy in ("second-chance", "generations", "clock"):
        code, out, _ = run("--policy", policy, "--memory", "14M", "--swap", "32M", "--", "python3", "-S", "-c", program, timeout=BOUND)
        expect((code, out) == (0, "799980000\n"), f"{policy}: exit code {code}: {out}")


def settings():
    """vm.swappiness is kept within its limits, vm.compact_memory compacts, vm.drop_caches drops."""
    script = ("cd /proc/sys/vm; cat swappiness; echo 100 > swappiness; cat swappiness; echo 201 > swappiness || echo no; "
              "cat swappiness; echo 1 > compact_memory && echo yes; echo 2 > compact_memory || echo no; echo 3 > drop_caches && echo yes; "
              "grep -E '^(compact_migrate_scanned|drop_pagecache) ' /proc/vmstat")
    code, out, _ = run("--memory", "64M", "--", "bash", "-c", script, timeout=BOUND)
    lines = out.splitlines()
    expect(code == 0 and lines[:7] == ["60", "100", "no", "100", "yes", "no", "yes"], f"exit code {code}: {out}")
    counts = dict(line.split() for line in lines[7:])
    expect(int(counts["compact_migrate_scanned"]) > 0 and re.fullmatch("[1-9][0-9]*", counts["drop_pagecache"]), out)


def dirty_settings():
    """vm.dirty_*: Linux's defaults, checks, and of ratio and bytes the last one written counts."""
    script = ("cd /proc/sys/vm; cat dirty_background_ratio dirty_background_bytes dirty_ratio dirty_bytes dirty_writeback_centisecs "
              "dirty_expire_centisecs; echo 101 > dirty_ratio || echo no; echo 8191 > dirty_bytes || echo no; "
              "echo 1048576 > dirty_bytes; cat dirty_ratio dirty_bytes; echo 0 > dirty_expire_centisecs && echo yes; "
              "grep -E '^nr_dirty_threshold' /proc/vmstat")
    code, out, _ = run("--memory", "64M", "--", "bash", "-c", script)
    expect(code == 0 and out.split() == "10 0 20 0 500 3000 no no 0 1048576 yes nr_dirty_threshold 256".split(), f"exit code {code}: {out}")


TESTS = [too_small, squeezed, gets_on, policies, settings, dirty_settings]


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
