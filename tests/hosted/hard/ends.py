#!/usr/bin/env python3
"""The end of machines, whatever way: the supervisor is SIGKILLed while guests spin, sleep, fork, are stopped (also in their first
steps); the first program ends; SIGTERM.  No guest is left, and nothing else either.  And what a machine costs to boot.

ends.py QUIRE TAGGED_GUEST       (rounds: 6; 100 with QUIRE_LONG=1)
"""
import glob
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import LONG, SEED, alive, describe, stat  # noqa: E402

ROUNDS = 100 if LONG else 6
QUIRE, TAGGED = sys.argv[1:3]
# It takes milliseconds.  But the dying have to run to die, and other tests may keep every CPU busy; whoever was forgotten lives on for ever.
LIMIT = 15.0

FORKS = "while :; do (:) & (:) & wait; done"
AT_BIRTH = "for i in {1..50}; do sleep 1000 & kill -STOP $!; done; sleep 1000"
FORKERS = "while :; do (:) & (:) & (:) & (:) & wait; done &" * 8 + " wait"
STOPPED = "sleep 1000 & kill -STOP $!; bash -c 'kill -STOP $$' & sleep 1000"
GUESTS = {
    "spinning": ["bash", "-c", "while :; do :; done & while :; do :; done"],
    "asleep": ["bash", "-c", "sleep 1000 & sleep 1000 & cat /dev/zero >/dev/null & read x </dev/zero & wait"],
    "stopped": ["bash", "-c", STOPPED],
    "stopped at birth": ["bash", "-c", AT_BIRTH],
    "stopped group": ["setsid", "-w", "bash", "-c", FORKERS],
    "forking": ["bash", "-c", f"{FORKS} & {FORKS} & {FORKS}"],
    "a bit of everything": [TAGGED, "60"],
    "own session": ["setsid", "bash", "-c", "trap '' TERM HUP INT; setsid sleep 1000 & while :; do sleep 1000; done"],
}


def fail(text):
    print(f"FAILED: {text} (seed {SEED})")
    sys.exit(1)


def target(link):
    """Descriptors come and go while we look: one that went says nothing about the others."""
    try:
        return os.readlink(link)
    except OSError:
        return None


def marked(mark):
    """Living processes of this round: a guest's memory is not the host's, so they are known by a descriptor they inherit."""
    found = []
    for path in glob.glob("/proc/[0-9]*"):
        pid = int(path[6:])
        if pid != os.getpid() and alive(pid) and any(target(f) == mark for f in glob.glob(f"{path}/fd/*")):
            found.append(pid)
    return found


STARTED = []  # supervisors' numbers: other machines of this host are not our business


def leftovers():
    """Files that name a machine of ours."""
    files = [p for where in ("/dev/shm/*quire*", "/tmp/*quire*", "/run/*quire*/*", "/run/user/*/*quire*/*") for p in glob.glob(where)]
    return {p for p in files for pid in STARTED if str(pid) in re.findall(r"\d+", os.path.basename(p))}


def one_cpu():
    """Children wait until their parents are done: there are more that have not taken their first step."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def stop_groups(pids):
    """Parents and children at once, wherever they are."""
    for group in {s.group for s in map(stat, pids) if s and s.group == s.session != os.getsid(0)}:
        os.killpg(group, signal.SIGSTOP)


def said(errors):
    errors.seek(0)
    return errors.read()[-300:]


def one_end(kind, how, mark_file):
    """Starts a machine, ends it, and waits until nobody is left.  Seconds."""
    mark = os.path.realpath(mark_file.name)
    errors = tempfile.TemporaryFile("w+")  # a pipe would fill
    process = subprocess.Popen([QUIRE, "run", "--memory", "128M", "--", *GUESTS[kind]], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=errors, pass_fds=[mark_file.fileno()],
                               preexec_fn=one_cpu if kind == "stopped group" else None)
    STARTED.append(process.pid)
    deadline = time.monotonic() + 20
    # The supervisor and two guests: the watchdog keeps no descriptor but its own.
    while len(marked(mark)) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.random() * 0.2)
    guests = marked(mark)
    if not guests:  # there is nothing to end
        fail(f"{kind}, {how}: only {guests} run, exit code {process.poll()}: {said(errors)}")
    if kind == "stopped group":
        stop_groups(guests)
    if how == "KILL":
        process.kill()
    else:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        for pid in guests:  # the first program may ignore SIGTERM: then it is ended as well
            if (s := stat(pid)) and s.parent == process.pid:
                os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    while True:
        left = marked(mark)
        seconds = time.monotonic() - start
        if not left:
            break
        if seconds > LIMIT:
            described = [(pid, describe(pid)) for pid in left]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            fail(f"{kind}, {how}: {described} of {guests} live on after {seconds:.1f} s")
        time.sleep(0.002)
    process.wait()
    errors.close()
    return seconds


def ends(how):
    worst = 0.0
    for round_number in range(ROUNDS):
        for kind in GUESTS:
            with open(f"/tmp/hard-ends-{os.getpid()}-{round_number}-{how}", "w", encoding="ascii") as mark:
                try:
                    worst = max(worst, one_end(kind, how, mark))
                finally:
                    os.unlink(mark.name)
    return worst


def boot_times():
    """Milliseconds of `quire run true` by size, (best, median).  In turns, so that what else runs disturbs all of them."""
    times = {memory: [] for memory in ("64M", "1G", "16G", "256G")}
    for _ in range(15):
        for memory, samples in times.items():
            start = time.perf_counter()
            code = subprocess.run([QUIRE, "run", "--memory", memory, "--", "true"], stdin=subprocess.DEVNULL,
                                  check=False).returncode
            samples.append((time.perf_counter() - start) * 1000)
            if code:
                fail(f"quire run --memory {memory} true: {code}")
    return {memory: (min(samples), sorted(samples)[len(samples) // 2]) for memory, samples in times.items()}


def main():
    random.seed(SEED)
    for how in ("KILL", "TERM"):
        print(f"{how}: {ROUNDS} rounds of {len(GUESTS)} kinds of guests, none left after {ends(how):.2f} s at worst", flush=True)
    if leftovers():
        fail(f"left behind: {leftovers()}")
    for _ in range(3):
        times = boot_times()
        longer = times["256G"][0] > 2 * times["64M"][0] + 5
        if not longer:
            break
    print("boot and end, `quire run true`, ms (best, median): " +
          ", ".join(f"{m}: {b:.1f}, {med:.1f}" for m, (b, med) in times.items()))
    if longer:
        fail("booting takes longer with more memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
