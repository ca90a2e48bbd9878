#!/usr/bin/env python3
"""Memory shortage with swap: more memory than there is, the end of swap, death under pressure.

Environment: QUIRE (the program), QUIRE_LONG=1 (minutes instead of seconds, more kills), QUIRE_SEED.
"""
import os
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import PROGRAMS, QUIRE, SEED, Failed, children, descendants, expect, run  # noqa: E402

LONG = bool(os.environ.get("QUIRE_LONG"))
KILLS = 2000 if LONG else 200
PATTERN = f"{PROGRAMS}/swap_pattern"
# Twice: whoever reclaims may be the last to let go of a dead process's memory, a moment after its parent heard of the death.
FIGURES = "for i in 0.3 3; do sleep $i; echo figures; grep -h VmSwap /proc/[0-9]*/status; cat /proc/meminfo /proc/vmstat; done"


def figures(text):
    """Name: number, of meminfo (kB) and vmstat."""
    found = dict(re.findall(r"^(\w+|\w+\(\w+\)):\s+(\d+) kB$", text, re.M))
    found.update(re.findall(r"^(\w+) (\d+)$", text, re.M))
    return {name: int(value) for name, value in found.items()}


def no_slot_is_lost(text):
    """What swap is used is used by somebody: every slot is held by some process's entries."""
    text = text.rpartition("figures\n")[2]
    held = sum(int(kb) for kb in re.findall(r"^VmSwap:\s+(\d+) kB$", text, re.M))
    f = figures(text)
    used = f["SwapTotal"] - f["SwapFree"]
    expect(used <= held, f"{used} kB of swap are used, but processes hold {held} kB")
    expect(f["nr_zspages"] * 4 <= used + 64, f"{f['nr_zspages']} frames hold {used} kB of pages")
    return f


def four_times_memory():
    """A pattern over four times the memory, alone and in four forked processes: no wrong byte."""
    seconds = 600 if LONG else 16
    code, out, errors = run("--memory", "64M", "--swap", "2G", "--", "bash", "-c", f"{PATTERN} 256 {seconds}; echo code $?; {FIGURES}",
                            timeout=seconds * 10 + 120)
    expect(code == 0 and "code 0" in out, f"{code}: {out[:500]} {errors[-500:]}")
    expect("alone: 0 wrong" in out and "in the end: 0 wrong, 0 children failed" in out, out[:500])
    f = no_slot_is_lost(out)
    expect(f["pswpout"] > 60000 and f["pswpin"] > 60000, f"only {f['pswpout']} pages out, {f['pswpin']} in")
    expect(f["oom_kill"] == 0, "somebody was killed")
    print(f"    {f['pswpout']} pages out, {f['pswpin']} in; kswapd freed {f['pgsteal_kswapd']}, processes {f['pgsteal_direct']}")


def small_folios():
    """The same with pages of 4 KiB only, and two processors' slots in one."""
    code, out, errors = run("--memory", "32M", "--swap", "512M", "--folio-max", "4K", "--cpus", "1", "--", PATTERN, "96", "3",
                            timeout=120)
    expect(code == 0 and "in the end: 0 wrong, 0 children failed" in out, f"{code}: {out[:500]} {errors[-500:]}")


def megabytes(*options):
    code, out, _ = run(*options, "--", f"{PROGRAMS}/endless_malloc", timeout=120)
    expect(code == 137, f"exit code {code}: {out[-200:]}")
    return int(re.findall(r"Now allocated (\d+) Megabytes", out)[-1])


def further_by_the_swap():
    """The tutorial's endless program gets further by about the swap's worth, then it is killed."""
    alone, some, more = (megabytes("--memory", "64M", *s) for s in ((), ("--swap", "64M"), ("--swap", "256M")))
    expect(52 <= some - alone <= 66, f"{alone} MB without, {some} MB with 64 MB of swap")
    expect(220 <= more - alone <= 260, f"{alone} MB without, {more} MB with 256 MB of swap")


def killed_under_pressure():
    """kill -9 at random moments while everybody swaps: the machine goes on, no wrong byte, no lost frame or slot."""
    random.seed(SEED)
    process = subprocess.Popen([QUIRE, "run", "--memory", "64M", "--swap", "1G", "--", "bash", "-c",
                                f"{PATTERN} 96 0 3 {KILLS} 2>&1; echo code $?; {FIGURES}"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    expect(line.startswith("parent "), f"it said {line!r}")
    parent, kills, end = int(line.split()[1]), 0, time.monotonic() + 60 + KILLS
    while process.poll() is None and time.monotonic() < end:
        victims = children(parent)
        if victims:
            time.sleep(random.random() * 0.06)
            try:
                os.kill(random.choice(victims), signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
        time.sleep(0.001)
    if process.poll() is None:
        guests = descendants(process.pid)
        process.kill()
        raise Failed(f"hung after {kills} kills; guests {guests} (seed {SEED})")
    out, errors = process.communicate()
    expect(process.returncode == 0 and "code 0" in out, f"{process.returncode} after {kills} kills: {out[:500]} {errors[-500:]} (seed {SEED})")
    expect("in the end: 0 wrong, 0 children failed" in out, f"{out[:500]} (seed {SEED})")
    f = no_slot_is_lost(out)
    used = f["MemTotal"] - f["MemFree"] - f["Cached"]
    expect(used < 12 << 10, f"{used} kB are in use at the end (seed {SEED})")
    print(f"    {kills} kills, {f['pswpout']} pages out, {f['pswpin']} in; {used} kB in use at the end")


TESTS = [four_times_memory, small_folios, further_by_the_swap, killed_under_pressure]


def main():
    passed = failed = 0
    for test in TESTS:
        if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
            continue
        try:
            test()
            passed += 1
        except (Failed, subprocess.TimeoutExpired, OSError) as error:
            failed += 1
            print(f"FAILED {test.__doc__}\n    {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
