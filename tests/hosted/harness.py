"""What the tests of the built program share: where things lie, `quire run`, a look at the host's processes, deaths, a run of tests.

No test itself, and so not executable: `./dev test` runs what is (tests/all.py).  Environment: QUIRE (the program), QUIRE_LONG=1
(tests that take hours), QUIRE_SEED.
"""
import collections
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
PROGRAMS = os.path.join(os.path.dirname(QUIRE), "tests", "programs")
LONG = bool(os.environ.get("QUIRE_LONG"))
SEED = int(os.environ.get("QUIRE_SEED", "1"))
# Limits on time are for what hangs.  A test machine may have two slow processors that are busy with something else, so whatever ends by
# itself gets ten times what it ever needs.
PATIENCE = 150.0
LIVES_ON = 20.0  # whoever lives after that long was forgotten


class Failed(Exception):
    """What a test found wrong."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


# ---- running commands ----
def outcome(command, timeout=PATIENCE, given=None, env=None):
    """(exit code, stdout, stderr) of a command; the exit code is "timeout" where it had to be killed.  `given` is its input."""
    stdin = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False, **stdin)
    except subprocess.TimeoutExpired:
        return "timeout", "", ""
    return done.returncode, done.stdout, done.stderr


def quire(*arguments, timeout=PATIENCE, given=None, env=None):
    """The same of a command of the built program, which must end in time."""
    code, out, errors = outcome([QUIRE, *arguments], timeout, given, env)
    expect(code != "timeout", f"quire {' '.join(arguments)[:300]}: still running after {timeout} s")
    return code, out, errors


def run(*arguments, timeout=PATIENCE):
    return quire("run", *arguments, timeout=timeout)


def run_logged(*arguments, timeout=PATIENCE):
    """As run(), and the machine's log."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        return *run("--log", log.name, *arguments, timeout=timeout), log.read()


def exit_code(process, seconds):
    """Of a process that should end by itself by then; if it does not, that is said, and it is killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "it does not end"


def run_session(argv, timeout, **more):
    """Runs a command in a session of its own, of which nobody is left.  Returns its exit code, or "timeout" if it was cut off."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **more)
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        code = "timeout"
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    return code


class Lines:
    """Lines that a process prints (its stdout and stderr are pipes without buffers here), with a limit on silence."""

    def __init__(self, process):
        self.process, self.rest = process, b""

    def until(self, word, seconds, between=None):
        """All lines up to the one that begins with the word.  `between` is called all the time until it comes."""
        lines, end = [], time.monotonic() + seconds
        while not (lines and lines[-1].startswith(word)):
            if b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                lines.append(line.decode())
                continue
            if between:
                between()
            if time.monotonic() > end:
                below = [(p, describe(p)) for p in descendants(self.process.pid)[:20]]
                raise Failed(f"no line {word!r} within {seconds:g} s, but {lines[-3:]} {self.rest[-300:]}; below it: {below}")
            if select.select([self.process.stdout], [], [], 0 if between else 0.5)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    code = exit_code(self.process, 10)
                    raise Failed(f"it ended with {code}: {lines[-3:]} {self.rest[-300:]} {self.process.stderr.read()[-800:]}")
                self.rest += data
        return lines

    def next(self, seconds):
        return self.until("", seconds)[-1]


# ---- the host's processes ----
Stat = collections.namedtuple("Stat", "name state parent group session terminal")


def stat(pid):
    """The first fields of /proc/PID/stat, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            before, _, behind = f.read().rpartition(")")
    except OSError:
        return None
    state, *numbers = behind.split()[:5]
    return Stat(before[before.index("(") + 1:], state, *map(int, numbers))


def describe(pid):
    s = stat(pid)
    return f"{s.name} {s.state}" if s else "gone"


def alive(pid):
    """Zombies are dead: whose parent is slow is nobody's business here."""
    s = stat(pid)
    return s is not None and s.state not in "ZX"


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


def eventually(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def wait_gone(pids, seconds=LIVES_ON):
    return eventually(lambda: not any(alive(p) for p in pids), seconds)


def leftovers():
    """Files that machines leave only if something went wrong."""
    return set(glob.glob("/dev/shm/*quire*") + glob.glob("/run/*quire*/*") + glob.glob("/run/user/*/*quire*/*"))


# ---- deaths ----
def kill_one(pids):
    """kill -9 of one of them, at random.  False: it, or all of them, were gone already."""
    if not pids:
        return False
    try:
        os.kill(random.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_children(process, pause, seconds):
    """Kills children of the guest that says "parent PID" at random moments, a `pause` apart at most, until the machine ends.  Returns
    how many; a machine that has not ended by then hangs."""
    line = process.stdout.readline()
    expect(line.startswith("parent "), f"it said {line!r} {process.stderr.read()[:500] if not line else ''}")
    parent, kills, end = int(line.split()[1]), 0, time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        victims = children(parent)
        if victims:
            time.sleep(random.random() * pause)
            kills += kill_one(victims)
        time.sleep(0.001)
    if process.poll() is None:
        guests = descendants(process.pid)
        process.kill()
        process.wait()
        raise Failed(f"hung after {kills} kills; guests {guests} (seed {SEED})")
    return kills


# ---- memory ----
def meminfo(lines):
    """Name: kB."""
    return {m[1]: int(m[2]) for m in (re.match(r"(\S+):\s+(\d+)", line) for line in lines) if m}


def unaccounted(info):
    """kB that are neither free nor said to be used for something."""
    return info["MemTotal"] - sum(info.get(k, 0) for k in ("MemFree", "AnonPages", "Cached", "Buffers", "Slab", "PageTables",
                                                           "KernelStack", "SwapCached"))


# ---- a run of tests ----
def summary(passed, failed):
    """The last line of every test, and its exit code."""
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def run_tests(tests, also=()):
    """Runs functions, or those that the command line names.  They fail by Failed, and by what else may come of a machine."""
    passed = failed = 0
    for test in tests:
        if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
            continue
        try:
            test()
            passed += 1
        except (Failed, subprocess.TimeoutExpired, OSError, *also) as error:
            failed += 1
            print(f"FAILED {test.__name__}: {test.__doc__}\n    {error}", flush=True)
    return summary(passed, failed)
