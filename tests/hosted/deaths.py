#!/usr/bin/env python3
"""kill -9 at random moments, by a guest and from outside: no hang, no leak of frames, processes, descriptors or files.

Lives and deaths are those of tests/programs/short_lives.c.  Environment: QUIRE, QUIRE_SEED, INSIDE and OUTSIDE (numbers of kills: 400
and 250; 10000 and 1000 with QUIRE_LONG=1).  Prints the share of outside kills that ended the machine.  The last line is 'N passed, N failed'.
"""
import glob
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUIRE = os.path.abspath(os.environ.get("QUIRE", os.path.join(ROOT, "build", "quire")))
PROGRAM = os.path.join(os.path.dirname(QUIRE), "tests", "programs", "short_lives")
LONG = bool(os.environ.get("QUIRE_LONG"))
INSIDE = int(os.environ.get("INSIDE", "10000" if LONG else "400"))
OUTSIDE = int(os.environ.get("OUTSIDE", "1000" if LONG else "250"))
SEED = int(os.environ.get("QUIRE_SEED", "1"))
CHILDREN = 7
SILENCE = 120.0  # seconds


class Failed(Exception):
    """What a test found wrong."""


def children(pid):
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path, encoding="ascii") as f:
                found += [int(p) for p in f.read().split()]
        except OSError:
            pass
    return found


def descendants(pid):
    found, todo = [], [pid]
    while todo:
        below = children(todo.pop())
        found += below
        todo += below
    return found


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError:
        return ""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def leftovers():
    return set(glob.glob("/dev/shm/*quire*") + glob.glob("/run/*quire*/*") + glob.glob("/run/user/*/*quire*/*"))


class Machine:
    def __init__(self, deaths, how):
        self.before = leftovers()
        self.log = tempfile.NamedTemporaryFile("r", suffix=".log")
        self.process = subprocess.Popen([QUIRE, "run", "--memory", "256M", "--log", self.log.name, "--", PROGRAM, str(CHILDREN),
                                         str(deaths), how],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.rest = b""

    def until(self, word, between=lambda: None, seconds=SILENCE):
        """Lines up to the one that begins with `word`; `between` is called all the time."""
        lines, end = [], time.monotonic() + seconds
        while True:
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                lines.append(line.decode())
                if lines[-1].startswith(word):
                    return lines
            if select.select([self.process.stdout], [], [], 0.0)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise Failed(f"the machine ended with {self.process.wait()}: {lines[-3:]} {self.process.stderr.read()[-500:]}")
                self.rest += data
            if time.monotonic() > end:
                raise Failed(f"no {word!r} within {seconds} s: "
                             f"{[(p, comm(p)) for p in descendants(self.process.pid)[:20]]}")
            between() if between() is not None else time.sleep(0.01)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self):
        """What is wrong with what it left."""
        below = descendants(self.process.pid)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            code = "it does not end"
        end = time.monotonic() + 3
        while any(alive(p) for p in below) and time.monotonic() < end:
            time.sleep(0.01)
        if code != 0:
            return f"exit code {code}: {self.rest[-300:]} {self.process.stdout.read()[-300:]} {self.process.stderr.read()[-500:]}"
        if any(alive(p) for p in below):
            return f"left behind: {[(p, comm(p)) for p in below if alive(p)]}"
        return f"files left behind: {leftovers() - self.before}" if leftovers() - self.before else None

    def said(self):
        """The last of the machine's log: where its kernel went wrong, if it did."""
        return self.log.read()[-400:]

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


def meminfo(lines):
    return {m[1]: int(m[2]) for m in (re.match(r"(\S+):\s+(\d+)", line) for line in lines) if m}


def unaccounted(info):
    """kB that are neither free nor said to be used for something."""
    return info["MemTotal"] - sum(info.get(k, 0) for k in ("MemFree", "AnonPages", "Cached", "Buffers", "Slab", "PageTables",
                                                           "KernelStack", "SwapCached"))


def leaks(before, after):
    limits = {"AnonPages": 1024, "PageTables": 256, "Slab": 2048, "Shmem": 256}
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
            self.first = next((p for p in children(self.machine.process.pid) if comm(p) == "short_lives"), None)
        victims = descendants(self.first) if self.first else []
        time.sleep(random.random() ** 3 * 0.02)
        if victims:
            try:
                os.kill(random.choice(victims), signal.SIGKILL)
                self.kills += 1
            except ProcessLookupError:
                pass
        return True


def run(deaths, how):
    """Returns (kills, seconds)."""
    start = time.monotonic()
    machine = Machine(deaths, how)
    try:
        machine.until("go")
        killer = Killer(machine, deaths)
        between = killer if how == "outside" else lambda: None
        try:
            before = meminfo(machine.until("end", between, SILENCE + deaths * 0.3))
            files = machine.descriptors()
            lines = machine.until("end", between, SILENCE + deaths * 0.3)
        except Failed as error:
            raise Failed(f"{error}; after {killer.kills} kills from outside: 1 of them ended the machine"
                         if how == "outside" else error) from error
        after, grown = meminfo(lines), machine.descriptors() - files
        wrong = machine.end()
    except Failed as error:
        raise Failed(f"{error}; its log: {machine.said()}") from error
    finally:
        machine.kill()
    if wrong:
        raise Failed(wrong)
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
    print(f"{passed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
