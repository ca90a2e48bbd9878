#!/usr/bin/env python3
"""Swap files that fail: I/O errors, no room, short and slow transfers, damage.  No wrong byte ever.

What cannot be read is SIGBUS for the program that needs it, the log says why, and the rest goes on; what cannot be written
loses nothing.  Environment: QUIRE, QUIRE_SEED (of the injected failures; 1), QUIRE_LONG=1 (an hour and a half instead of half a minute).
"""
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time

from harness import LONG, PROGRAMS, QUIRE, SEED, expect, kill_children, run_tests

PATTERN = f"{PROGRAMS}/swap_pattern"
SECONDS = 1200 if LONG else 3
# What is used of swap in the end, when the pattern and its processes are gone.
LEFT = ("bash", "-c", "for i in 0.3 2; do sleep $i; echo figures; grep -h VmSwap /proc/[0-9]*/status; cat /proc/swaps; "
        "grep oom_kill /proc/vmstat; done")


class Machine:
    """`quire run` of the pattern on two swap files, with a log and statistics."""

    def __init__(self, directory, kind, *options, seconds=SECONDS, mib=96, memory="24M", children=4, deaths=()):
        self.log_name = f"{directory}/log"
        command = [QUIRE, "run", "--memory", memory, "--json", "--log", self.log_name, *options, "--", PATTERN, *kind, "survive", str(mib),
                   str(seconds), str(children), *deaths, "--", *LEFT]
        self.limit = seconds * 6 + 100
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def swapped(self, kb):
        """Waits until so much has gone to the files."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            text = subprocess.run([QUIRE, "cat", str(self.process.pid), "meminfo"], capture_output=True, text=True, check=False).stdout
            found = dict(re.findall(r"^(Swap\w+):\s+(\d+) kB", text, re.M))
            if found and int(found["SwapTotal"]) - int(found["SwapFree"]) > kb:
                return
            time.sleep(0.05)
        raise OSError("the machine does not swap")

    def end(self):
        """(What it printed, statistics, log.)  It must have ended well, with no wrong byte and all of swap given back."""
        try:
            out, errors = self.process.communicate(timeout=self.limit)
        finally:
            self.process.kill()
        with open(self.log_name, encoding="utf-8") as f:
            log = f.read()
        said = f"(seed {SEED}) {self.process.returncode}: {out[-700:]} {errors[-900:]}"
        expect(self.process.returncode == 0 and "code 0\n" in out, said)
        expect("in the end: 0 wrong, 0 children failed" in out and "words are wrong" not in errors, said)
        last = out.rpartition("figures\n")[2]
        used = sum(int(kb) for kb in re.findall(r"^\S+\s+(?:file|partition)\s+\d+\s+(\d+)", last, re.M))
        held = sum(int(kb) for kb in re.findall(r"^VmSwap:\s+(\d+)", last, re.M))
        expect("Priority" in last and used <= held, f"slots are lost: {last}")
        expect("oom_kill 0\n" in last, f"somebody was killed for want of memory: {last}")
        met = sum(int(n) for n in re.findall(r"(\d+) SIGBUS", errors))
        given_up = sum(int(n) for n in re.findall(r"(\d+) given up", errors))
        return met, given_up, json.loads(errors[errors.rindex("{"):]), log


def files(directory, mib=300):
    return ("--swap", f"{directory}/a:{mib}M,pri=5", "--swap", f"{directory}/b:{mib}M,pri=5")


def io_errors():
    """Every fiftieth read or write fails, is cut short or slow: four times the memory, alone and in four processes, private and shared."""
    for kind in ((), ("shared",)):
        with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
            met, given_up, stats, log = Machine(directory, kind, *files(directory), "--fail", f"swap-io=1/50:{SEED}").end()
            expect(stats["failures_on_demand"] > 100 and stats["swap_write_errors"] > 5 and met > 20, f"{met} SIGBUS; {stats}")
            expect(not given_up, f"{given_up} pages were given up, though each try is a new one")
            expect("Write-error on swap-device" in log and re.search("Read-error on swap-device .* is lost: I/O error", log), log[-1000:])
            print(f"    {kind}: {stats['failures_on_demand']} failures, {met} SIGBUS, {stats['swap_out']} pages out, {stats['swap_in']} in")


def only_writes():
    """One write in three fails: nobody notices, but that memory is short."""
    with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
        met, _, stats, _ = Machine(directory, (), *files(directory), "--fail", f"swap-write=1/3:{SEED}", mib=64, seconds=SECONDS / 2).end()
        expect(met == 0 and stats["swap_write_errors"] > 100, f"{met} SIGBUS; {stats}")


def no_room():
    """Files that say after some time that there is no room: what they have stays good, the rest goes to memory."""
    with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
        met, _, stats, log = Machine(directory, (), *files(directory), "--swap", "700M", "--fail", f"swap-full=1/400:{SEED}",
                                     memory="48M", seconds=SECONDS / 2).end()
        expect(met == 0 and stats["failures_on_demand"] >= 2, f"{met} SIGBUS; {stats}")
        expect(log.count("No room left on swap-device") == 2, log[-1000:])


def real_limit():
    """The host's own refusal: the supervisor may not write beyond the middle of its files (EFBIG, as a full disk)."""
    with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
        machine = Machine(directory, (), *files(directory), "--swap", "700M", memory="48M", seconds=SECONDS / 2)
        machine.swapped(4 << 10)
        resource.prlimit(machine.process.pid, resource.RLIMIT_FSIZE, (24 << 20, resource.RLIM_INFINITY))
        met, _, _, log = machine.end()
        expect(met == 0 and "No room left on swap-device" in log, f"{met} SIGBUS; {log[-1000:]}")


def damage():
    """Somebody writes into a swap file: those pages are lost, and known to be, and no others."""
    random.seed(SEED)
    with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
        machine = Machine(directory, (), *files(directory, 500))
        machine.swapped(40 << 10)
        written = 0
        while machine.process.poll() is None and written < (20000 if LONG else 100):
            with open(f"{directory}/{random.choice('ab')}", "r+b") as f:
                f.seek(4096 + random.randrange(12 << 20))
                f.write(random.randbytes(1 + random.randrange(64)))
            written += 1
            time.sleep(0.01)
        met, given_up, _, log = machine.end()
        expect(given_up > 0 and met >= given_up, f"{written} times, {met} SIGBUS, {given_up} pages given up")
        expect("is lost: its bytes are not those that were stored" in log, log[-1000:])
        print(f"    written over {written} times: {given_up} pages were given up")


def killed_while_io_fails():
    """kill -9 at random moments, while I/O fails, is cut short and slow: no wrong byte, and no slot is lost."""
    random.seed(SEED)
    for kind in ((), ("shared",)):
        with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
            deaths = 2000 if LONG else 25
            machine = Machine(directory, kind, *files(directory), "--fail", f"swap-io=1/20:{SEED}", mib=40, children=3, deaths=(str(deaths),))
            kills = kill_children(machine.process, 0.04, 100 + deaths)
            _, given_up, stats, _ = machine.end()
            expect(kills >= deaths and not given_up and stats["failures_on_demand"] > 100, f"{kills} kills, {given_up} given up; {stats}")
            print(f"    {kind}: {kills} kills, {stats['failures_on_demand']} failures")


def one_by_number():
    """One read alone fails, and the program that it hits does nothing about it: SIGBUS, and the others go on."""
    with tempfile.TemporaryDirectory(prefix="swap-errors-") as directory:
        script = f"{PATTERN} 96 1 0; echo code $?; {PATTERN} 64 1; echo code $?"
        # A read of several pages is tried again page by page, so not every one that fails is somebody's.
        for number in range(500, 540):
            done = subprocess.run([QUIRE, "run", "--memory", "48M", *files(directory), "--fail", f"swap-read=#{number}", "--json", "--log",
                                   f"{directory}/log", "--", "bash", "-c", script], capture_output=True, text=True, timeout=200, check=False)
            stats = json.loads(done.stderr[done.stderr.rindex("{"):])
            with open(f"{directory}/log", encoding="utf-8") as f:
                said = f"{number}, {done.returncode}: {done.stdout} {stats} {f.read()[-700:]}"
            lost = stats["swap_read_errors"]
            expect(done.returncode == 0 and stats["failures_on_demand"] == 1 and lost <= 1, said)
            expect(re.fullmatch(("code 135\n" if lost else r"(?s:.*)\ncode 0\n") + r"(?s:.*)in the end: 0 wrong, 0 children failed\ncode 0\n",
                                done.stdout), said)
            expect(lost == said.count("Read-error on swap-device"), said)
            if lost:
                return
        expect(False, f"no read that failed was somebody's: {said}")


TESTS = [io_errors, only_writes, no_room, real_limit, damage, killed_while_io_fails, one_by_number]


if __name__ == "__main__":
    sys.exit(run_tests(TESTS, also=(ValueError,)))
