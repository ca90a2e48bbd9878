#!/usr/bin/env python3
"""Random system calls, wild accesses, deep recursion and bounded fork bombs (tests/programs/call_fuzz.c) in machines.

Whatever the guests do: the machine never hangs, never ends with 125, leaves no process and no file, and the terminal it ran on is as
it was.  Environment: QUIRE, QUIRE_SEED (default: of the day), FUZZ_SECONDS (default 24, an hour with QUIRE_LONG=1).
The last line is 'N passed, N failed'.
"""
import os
import pty
import select
import shutil
import signal
import sys
import tempfile
import termios
import time

from harness import LONG, PROGRAMS, QUIRE, Failed, alive, descendants, describe, leftovers, summary, wait_gone

PROGRAM = os.path.join(PROGRAMS, "call_fuzz")
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3600" if LONG else "24"))
SEED = int(os.environ.get("QUIRE_SEED", str(int(time.time()) // 86400)))
# Several machines one after the other: plenty of memory, little, and little with swap.
KINDS = (("256M", []), ("64M", []), ("48M", ["--swap", "64M"]))
GRACE = 60.0  # seconds for the last workers on a loaded host


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
            states = [(p, describe(p)) for p in left[:20]]
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


def one_machine(number, memory, options, seconds):
    directory = tempfile.mkdtemp(prefix="quire-fuzz-")
    os.chmod(directory, 0o777)
    seed = SEED * 1000 + number
    before = leftovers()
    log = tempfile.NamedTemporaryFile("r", suffix=".log")
    try:
        code, text, seen = on_terminal([QUIRE, "run", "--memory", memory, "--log", log.name, *options, "--", PROGRAM, directory,
                                        str(seed), str(seconds)], seconds + GRACE)
        wait_gone(seen)
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
    return summary(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
