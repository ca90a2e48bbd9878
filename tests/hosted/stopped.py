#!/usr/bin/env python3
"""A guest that is stopped from outside at any moment, also inside a transaction of the machine, keeps nobody waiting, and stays stopped.

Environment: QUIRE, QUIRE_SEED, STOPS (default 120; 2000 with QUIRE_LONG=1).  The last line is 'N passed, N failed'.
"""
import os
import random
import signal
import subprocess
import sys
import time

from harness import LONG, PROGRAMS, QUIRE, SEED, Failed, Lines, exit_code, stat, summary

STOPS = int(os.environ.get("STOPS", "2000" if LONG else "120"))
CHILDREN = 3
PATIENCE = 60.0  # seconds for the others' next step on a loaded host


def state(pid):
    s = stat(pid)
    return s.state if s else "gone"


class Machine:
    def __init__(self):
        self.process = subprocess.Popen([QUIRE, "run", "--memory", "128M", "--", f"{PROGRAMS}/stop_hammer", str(CHILDREN)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.lines = Lines(self.process)
        self.children = [int(p) for p in self.lines.next(PATIENCE).split()]

    def counts(self):
        self.process.stdin.write(b"\n")
        return [int(n) for n in self.lines.next(PATIENCE).split()]

    def close(self):
        self.process.stdin.close()
        code = exit_code(self.process, PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def others_advance(machine, victim, before):
    end = time.monotonic() + PATIENCE
    while True:
        now = machine.counts()
        waiting = [i for i in range(CHILDREN) if i != victim and now[i] < before[i] + 3]
        if not waiting:
            return
        if time.monotonic() > end:
            raise Failed(f"child {victim} is stopped, {waiting} wait: {before} then {now}")
        time.sleep(0.002)


def stays_stopped(machine, victim, pid):
    end = time.monotonic() + PATIENCE
    while state(pid) != "T":
        if time.monotonic() > end:
            raise Failed(f"child {victim} is in state {state(pid)}, not stopped")
        time.sleep(0.001)
    before = machine.counts()[victim]
    time.sleep(0.02)
    if machine.counts()[victim] != before:
        raise Failed(f"child {victim} goes on though it was stopped")
    if state(pid) != "T":
        raise Failed(f"child {victim} is in state {state(pid)}, no longer stopped")


def stops(kind):
    machine = Machine()
    try:
        for number in range(STOPS):
            victim = random.randrange(CHILDREN)
            pid = machine.children[victim]
            time.sleep(random.random() * 0.004)
            os.kill(pid, kind)
            before = machine.counts()
            try:
                others_advance(machine, victim, before)
                if number % 8 == 0:
                    stays_stopped(machine, victim, pid)
            except Failed as error:
                raise Failed(f"stop {number}: {error}") from error
            finally:
                os.kill(pid, signal.SIGCONT)
    finally:
        code = machine.close()
    if code != 0:
        raise Failed(f"exit code {code}")


def main():
    passed = failed = 0
    random.seed(SEED)
    for kind in (signal.SIGSTOP,):
        try:
            stops(kind)
            passed += 1
        except (Failed, OSError) as error:
            failed += 1
            print(f"FAILED {kind.name}: {error} (seed {SEED})", flush=True)
    return summary(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
