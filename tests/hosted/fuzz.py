#!/usr/bin/env python3
"""Random system calls, wild accesses, deep recursion and bounded fork bombs (tests/programs/call_fuzz.c) in machines.

Whatever the guests do: the machine never hangs, never ends with 125, leaves no process and no file, and the terminal it ran on is as
it was.  Environment: QUIRE, QUIRE_SEED (default: of the day), FUZZ_SECONDS (default 24, an hour with QUIRE_LONG=1).
The last line is 'N passed, N failed'.
"""
import glob
import os
import pty
import select
import shutil
import signal
import sys
import tempfile
import termios
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUIRE = os.path.abspath(os.environ.get("QUIRE", os.path.join(ROOT, "build", "quire")))
PROGRAM = os.path.join(os.path.dirname(QUIRE), "tests", "programs", "call_fuzz")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3600" if os.environ.get("QUIRE_LONG") else "24"))
SEED = int(os.environ.get("QUIRE_SEED", str(int(time.time()) // 86400)))
# Several machines one after the other: plenty of memory, little, and little with swap.
KINDS = (("256M", []), ("64M", []), ("48M", ["--swap", "64M"]))
GRACE = 60.0  # seconds for the last workers on a loaded host


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


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def state_of(terminal):
    """Modes of the terminal without the queue of what was typed."""
    return termios.tcgetattr(terminal)


def on_terminal(command, seconds):
    """Runs a command on a terminal of its own.  Returns (exit code, output, processes seen below it)."""
    master, slave = pty.openpty()
    before = state_of(slave)
    pid = os.fork()
    if pid == 0:
        os.login_tty(slave) if hasattr(os, "login_tty") else login(slave)
        os.close(master)
        os.execv(command[0], command)
    text, end, seen, looked = b"", time.monotonic() + seconds, set(), 0.0
    status = None
    while status is None:
        if select.select([master], [], [], 0.05)[0]:
            text += os.read(master, 65536)
        if time.monotonic() - looked > 0.5:
            looked = time.monotonic()
            seen.update(descendants(pid))
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            status = code
        elif time.monotonic() > end:
            left = descendants(pid)
            states = [(p, *map(describe, (p,))) for p in left[:20]]
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Failed(f"it hangs; below it: {states}; it said {text[-500:]!r}")
    while select.select([master], [], [], 0)[0]:
        text += os.read(master, 65536)
    after = state_of(slave)
    os.close(master)
    os.close(slave)
    if before != after:
        raise Failed(f"the terminal was {before} and is {after}")
    return os.waitstatus_to_exitcode(status), text.decode("utf-8", "replace"), seen


def login(slave):
    os.setsid()
    import fcntl
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.close(slave)


def describe(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            stat = f.read()
        return stat[stat.index("(") + 1:stat.rindex(")")] + " " + stat[stat.rindex(")") + 2]
    except OSError:
        return "gone"


def leftovers():
    return set(glob.glob("/dev/shm/*quire*") + glob.glob("/run/*quire*/*") + glob.glob("/run/user/*/*quire*/*"))


def one_machine(number, memory, options, seconds):
    directory = tempfile.mkdtemp(prefix="quire-fuzz-")
    os.chmod(directory, 0o777)
    seed = SEED * 1000 + number
    before = leftovers()
    log = tempfile.NamedTemporaryFile("r", suffix=".log")
    try:
        code, text, seen = on_terminal([QUIRE, "run", "--memory", memory, "--log", log.name, *options, "--", PROGRAM, directory,
                                        str(seed), str(seconds)], seconds + GRACE)
        end = time.monotonic() + 2.0
        while any(alive(p) for p in seen) and time.monotonic() < end:
            time.sleep(0.02)
    except Failed as error:
        raise Failed(f"memory {memory}, seed {seed}: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if code or "intact" not in text:
        raise Failed(f"memory {memory}, seed {seed}: exit code {code}, it said {text[-800:]!r}, its log {log.read()[-400:]!r}")
    left = [p for p in seen if alive(p)]
    if left:
        raise Failed(f"memory {memory}, seed {seed}: left behind {[(p, describe(p)) for p in left]}")
    if leftovers() - before:
        raise Failed(f"memory {memory}, seed {seed}: left behind {leftovers() - before}")
    return next(line for line in text.splitlines() if line.startswith("workers"))


def main():
    passed, failed = 0, 0
    rounds = max(1, int(SECONDS // 300))
    for number in range(rounds * len(KINDS)):
        memory, options = KINDS[number % len(KINDS)]
        try:
            print(f"    memory {memory} {' '.join(options)}: {one_machine(number, memory, options, SECONDS / rounds / len(KINDS))}",
                  flush=True)
            passed += 1
        except Failed as error:
            failed += 1
            print(f"FAILED {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
