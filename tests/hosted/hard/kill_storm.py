#!/usr/bin/env python3
"""Guests of a busy machine are killed from outside at random moments, hundreds of times: the machine goes on, nobody hangs,
and when the survivors have gone as well, memory is what it was.

kill_storm.py QUIRE [KILLS]      (default 400; ten times that with QUIRE_LONG=1)
"""
import os
import random
import re
import select
import signal
import subprocess
import sys
import time

SEED = int(os.environ.get("QUIRE_SEED", "1"))
MEMORY = "256M"

# The first program: keeps every job running until it reads a line, ends them, and shows meminfo before and after.
FIRST = r"""
show() { echo "meminfo $1"; cat /proc/meminfo; echo "end"; }
job_loop() { while :; do ls / | sort | tail -1 >/dev/null; /bin/true; x=$(echo a | cat); done; }
job_python() { exec python3 -c '
import os, subprocess, threading
def touch():
    while True:
        b = bytearray(1 << 20); b[::4096] = b"x" * 256
for _ in range(2): threading.Thread(target=touch, daemon=True).start()
while True:
    subprocess.run(["/bin/true"])
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
'; }
job_storm() { while :; do for i in 1 2 3 4 5 6; do (:) & done; wait; done; }
ls / | sort | tail -1 >/dev/null; /bin/true; python3 -c 'import os, subprocess, threading'; x=$(echo a | cat)
exec 3>&2 2>/dev/null
sleep 0.3
show before
declare -A job
start() { job_$1 & job[$!]=$1; }
for j in loop loop python python storm; do start $j; done
deaths=0
stop=
trap 'stop=1' USR1
while [ -z "$stop" ]; do
  wait -n -p who
  [ -n "$who" ] && [ -n "${job[$who]}" ] && { kind=${job[$who]}; unset "job[$who]"; deaths=$((deaths+1)); start $kind; }
done
for p in "${!job[@]}"; do kill -9 $p; done
wait
sleep 1
echo "deaths $deaths"
show after
exit 7
"""


def fail(text, process=None):
    print(f"FAILED: {text} (seed {SEED})")
    if process:
        process.kill()
    sys.exit(1)


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


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
    """Zombies are dead: whose parent is slow is not our business."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Output:
    """Lines of the program's output, with a limit on silence."""

    def __init__(self, process):
        self.process, self.rest = process, b""

    def until(self, word, seconds):
        lines, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                lines.append(line.decode())
                if lines[-1].startswith(word):
                    return lines
            if select.select([self.process.stdout], [], [], 1.0)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    fail(f"the machine ended: {lines[-20:]} {self.process.stderr.read()[-800:]}", self.process)
                self.rest += data
        return fail(f"no answer within {seconds} s, waiting for {word!r}; processes {descendants(self.process.pid)}", self.process)


def meminfo(lines):
    return {m[1]: int(m[2]) for m in (re.match(r"(\S+):\s+(\d+)", line) for line in lines) if m}


def unaccounted(info):
    """kB that are neither free nor said to be used for something."""
    known = sum(info.get(k, 0) for k in ("MemFree", "AnonPages", "Cached", "Buffers", "Slab", "PageTables", "KernelStack",
                                         "SwapCached"))
    return info["MemTotal"] - known


def kill_some(process, first, wanted):
    kills = 0
    while kills < wanted:
        if process.poll() is not None:
            fail(f"the machine ended after {kills} kills with {process.returncode}: {process.stderr.read()[-800:]}")
        victims = [p for p in descendants(first)]
        time.sleep(random.random() ** 3 * 0.1)
        if not victims:
            continue
        try:
            os.kill(random.choice(victims), signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            pass
    return kills


def main():
    quire = sys.argv[1]
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 4000 if os.environ.get("QUIRE_LONG") else 400
    random.seed(SEED)
    start = time.monotonic()
    process = subprocess.Popen([quire, "run", "--memory", MEMORY, "--", "bash", "-c", FIRST], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    output = Output(process)
    before = meminfo(output.until("end", 60))
    first = next(p for p in children(process.pid) if comm(p) != "quire-watchdog")
    kills = kill_some(process, first, wanted)
    os.kill(first, signal.SIGUSR1)
    os.kill(random.choice(descendants(first)), signal.SIGKILL)  # so that wait -n returns
    lines = output.until("end", 60)
    after = meminfo(lines)
    deaths = next(line.split()[1] for line in lines if line.startswith("deaths"))
    left = descendants(process.pid)
    try:
        code = process.wait(20)
    except subprocess.TimeoutExpired:
        fail("it does not end", process)
    if code != 7:
        fail(f"exit code {code}: {process.stderr.read()[-500:]}")
    end = time.monotonic() + 1
    while any(alive(p) for p in left):
        if time.monotonic() > end:
            fail(f"left behind: {[(p, comm(p)) for p in left if alive(p)]}")
        time.sleep(0.01)
    print(f"{kills} kills from outside ({deaths} of jobs themselves) in {time.monotonic() - start:.1f} s, none ended the machine")
    names = ("MemFree", "AnonPages", "PageTables", "Slab", "Cached")
    for name in names:
        print(f"    {name}: {before.get(name)} kB before, {after.get(name)} kB after")
    print(f"    unaccounted: {unaccounted(before)} kB before, {unaccounted(after)} kB after")
    bad = [name for name, limit in (("AnonPages", 1024), ("PageTables", 256), ("Slab", 4096))
           if after[name] > before[name] + limit]
    # Copies of rewritten text (port/linux/patch.h) are 256 KiB each; those of libc stay until the machine ends.
    if unaccounted(after) > unaccounted(before) + 512 + 1024:
        bad.append("unaccounted")
    if bad:
        fail(f"memory was lost: {bad}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
