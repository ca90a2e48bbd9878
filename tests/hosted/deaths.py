#!/usr/bin/env python3
"""kill -9 at random moments, by a guest and from outside: no hang, no leak of frames, processes, descriptors or files.

Lives and deaths are those of tests/programs/short_lives.c.  Environment: QUIRE, QUIRE_SEED, INSIDE and OUTSIDE (numbers of kills: 400
and 250; 10000 and 1000 with QUIRE_LONG=1).  Prints the share of outside kills that ended the machine.  The last line is 'N passed, N failed'.
"""
import os
import random
import subprocess
import sys
import tempfile
import time

from harness import (LONG, PROGRAMS, QUIRE, SEED, Failed, Lines, alive, children, descendants, describe, exit_code, kill_one, leftovers,
                     meminfo, summary, unaccounted, wait_gone)

PROGRAM = os.path.join(PROGRAMS, "short_lives")
INSIDE = int(os.environ.get("INSIDE", "10000" if LONG else "400"))
OUTSIDE = int(os.environ.get("OUTSIDE", "1000" if LONG else "250"))
CHILDREN = 7
SILENCE = 120.0  # seconds


class Machine:
    def __init__(self, deaths, how):
        self.before = leftovers()
        self.log = tempfile.NamedTemporaryFile("r", suffix=".log")
        self.process = subprocess.Popen([QUIRE, "run", "--memory", "256M", "--log", self.log.name, "--", PROGRAM, str(CHILDREN),
                                         str(deaths), how],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.lines = Lines(self.process)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self):
        """What is wrong with what it left."""
        below = descendants(self.process.pid)
        code = exit_code(self.process, 60)
        gone = wait_gone(below)
        if code != 0:
            return f"exit code {code}: {self.lines.rest[-300:]} {self.process.stdout.read()[-300:]} {self.process.stderr.read()[-500:]}"
        if not gone:
            return f"left behind: {[(p, describe(p)) for p in below if alive(p)]}"
        return f"files left behind: {leftovers() - self.before}" if leftovers() - self.before else None

    def said(self):
        """The last of the machine's log: where its kernel went wrong, if it did."""
        return self.log.read()[-400:]

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def leaks(before, after):
    limits = {"AnonPages": 1024, "PageTables": 256, "Slab": 4096, "Shmem": 256}  # each cache keeps free objects for 16 contexts
    bad = [f"{k}: {before.get(k, 0)} kB, then {after.get(k, 0)} kB" for k, more in limits.items()
           if after.get(k, 0) > before.get(k, 0) + more]
    if unaccounted(after) > unaccounted(before) + 1024:  # lists of the CPUs
        bad.append(f"unaccounted: {unaccounted(before)} kB, then {unaccounted(after)} kB")
    return bad


class Killer:
    """Kills anybody below the first program, at random moments."""

    def __init__(self, machine, wanted):
        self.machine, self.wanted, self.kills, self.first = machine, wanted, 0, None

    def __call__(self):
        if self.first is None:
            self.first = next((p for p in children(self.machine.process.pid) if describe(p).startswith("short_lives ")), None)
        victims = descendants(self.first) if self.first else []
        time.sleep(random.random() ** 3 * 0.02)
        if victims:
            self.kills += kill_one(victims)


def run(deaths, how):
    """Returns (kills, seconds)."""
    start = time.monotonic()
    machine = Machine(deaths, how)
    try:
        machine.lines.until("go", SILENCE)
        killer = Killer(machine, deaths)
        between = killer if how == "outside" else None
        try:
            first = machine.lines.until("end", SILENCE + deaths * 0.3, between)
            files = machine.descriptors()
            lines = machine.lines.until("end", SILENCE + deaths * 0.3, between)
        except Failed as error:
            raise Failed(f"{error}; after {killer.kills} kills from outside: 1 of them ended the machine"
                         if how == "outside" else error) from error
        before, after, grown = meminfo(first), meminfo(lines), machine.descriptors() - files
        wrong = machine.end()
    except Failed as error:
        raise Failed(f"{error}; its log: {machine.said()}") from error
    finally:
        machine.kill()
    if wrong:
        raise Failed(f"{wrong}; {[line for line in first + lines if ': status' in line or 'not true' in line]}")
    if leaks(before, after):
        raise Failed(f"memory was lost: {'; '.join(leaks(before, after))}")
    if grown > CHILDREN:  # pidfds of processes that have not been buried yet
        raise Failed(f"the supervisor has {grown} descriptors more")
    return (killer.kills if how == "outside" else deaths), time.monotonic() - start


def main():
    passed = failed = 0
    random.seed(SEED)
    for how, deaths in (("inside", INSIDE), ("outside", OUTSIDE)):
        try:
            kills, seconds = run(deaths, how)
            passed += 1
            print(f"    {kills} kills from {how} in {seconds:.0f} s" + (", 0 % of them ended the machine" if how == "outside" else ""),
                  flush=True)
        except Failed as error:
            failed += 1
            print(f"FAILED {how}: {error} (seed {SEED})", flush=True)
    return summary(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
