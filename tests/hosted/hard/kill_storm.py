#!/usr/bin/env python3
"""Guests of a busy machine are killed from outside at random moments, hundreds of times: the machine goes on, nobody hangs,
and when the survivors have gone as well, memory is what it was.

kill_storm.py QUIRE [KILLS]      (default 400; ten times that with QUIRE_LONG=1)
"""
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import (LONG, SEED, Failed, Lines, alive, children, descendants, describe, exit_code, expect, kill_one, meminfo,  # noqa: E402
                     unaccounted, wait_gone)

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
# Orphans end by themselves, and the memory of who was killed comes back, a little after the deaths: who waits for it for a while sees a loss.
settled() {
  for i in {1..100}; do
    sleep 0.3
    used=$(grep -e AnonPages -e PageTables /proc/meminfo | { while read _ kb _; do n=$((n + kb)); done; echo $n; })
    [ -n "$1" ] && [ $used -gt $(($1 + 256)) ] || break
  done
  echo $used
}
at_first=$(settled)
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
settled $at_first >/dev/null
echo "deaths $deaths"
show after
exit 7
"""


def kill_some(process, first, wanted):
    kills = 0
    while kills < wanted:
        if process.poll() is not None:
            raise Failed(f"the machine ended after {kills} kills with {process.returncode}: {process.stderr.read()[-800:]}")
        victims = descendants(first)
        time.sleep(random.random() ** 3 * 0.1)
        if victims:
            kills += kill_one(victims)
    return kills


def storm(process, wanted):
    """What the machine said of its memory before and after, and how many died."""
    output = Lines(process)
    before = meminfo(output.until("end", 150))
    first = next(p for p in children(process.pid) if not describe(p).startswith("quire-watchdog "))
    kills = kill_some(process, first, wanted)
    os.kill(first, signal.SIGUSR1)
    kill_one(descendants(first))  # so that wait -n returns
    lines = output.until("end", 150)
    deaths = next(line.split()[1] for line in lines if line.startswith("deaths"))
    left = descendants(process.pid)
    code = exit_code(process, 60)
    expect(code == 7, f"exit code {code}: {process.stderr.read()[-500:]}")
    expect(wait_gone(left), f"left behind: {[(p, describe(p)) for p in left if alive(p)]}")
    return before, meminfo(lines), kills, deaths


def compare(before, after):
    for name in ("MemFree", "AnonPages", "PageTables", "Slab", "Cached"):
        print(f"    {name}: {before.get(name)} kB before, {after.get(name)} kB after")
    print(f"    unaccounted: {unaccounted(before)} kB before, {unaccounted(after)} kB after")
    bad = [name for name, limit in (("AnonPages", 1024), ("PageTables", 256), ("Slab", 4096))
           if after[name] > before[name] + limit]
    # Copies of rewritten text (port/linux/patch.h) are 256 KiB each; those of libc stay until the machine ends.
    if unaccounted(after) > unaccounted(before) + 512 + 1024:
        bad.append("unaccounted")
    expect(not bad, f"memory was lost: {bad}")


def main():
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 4000 if LONG else 400
    random.seed(SEED)
    start = time.monotonic()
    process = subprocess.Popen([sys.argv[1], "run", "--memory", MEMORY, "--", "bash", "-c", FIRST], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    try:
        before, after, kills, deaths = storm(process, wanted)
        print(f"{kills} kills from outside ({deaths} of jobs themselves) in {time.monotonic() - start:.1f} s, none ended the machine")
        compare(before, after)
    except Failed as error:
        print(f"FAILED: {error} (seed {SEED})")
        return 1
    finally:
        process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
