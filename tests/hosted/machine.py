#!/usr/bin/env python3
"""A hosted machine as a whole: what it says of itself, out of memory, death of guests and of the supervisor, leftovers.

Environment: QUIRE (the program), QUIRE_LONG=1 (more rounds), KILLS (outside kills, default 150; 1000 when long).
"""
import glob
import os
import random
import re
import signal
import subprocess
import sys
import time

from harness import (LONG, PATIENCE, PROGRAMS, QUIRE, SEED, Failed, alive, descendants, expect, kill_children, meminfo, outcome, run,
                     run_logged, run_tests, wait_gone)

KILLS = int(os.environ.get("KILLS", "1000" if LONG else "150"))


def mem_total():
    """MemTotal is what --memory said."""
    for option, kb in (("64M", 64 << 10), ("1G", 1 << 20), ("300M", 300 << 10)):
        code, out, errors = run("--memory", option, "--", "cat", "/proc/meminfo")
        expect(code == 0, f"exit code {code}: {errors}")
        fields = meminfo(out.splitlines())
        expect(fields["MemTotal"] == kb, f"--memory {option}: MemTotal {fields['MemTotal']} kB")
        expect(0 < fields["MemFree"] <= kb and fields["MemAvailable"] <= kb, f"MemFree {fields['MemFree']} kB")


def maps():
    """/proc/self/maps is the machine's: program, heap, stack, no trace of the kernel's own mappings."""
    code, out, errors = run("--", "cat", "/proc/self/maps")
    expect(code == 0, f"exit code {code}: {errors}")
    for word in ("/cat", "[stack]", "libc.so", "[heap]"):
        expect(word in out, f"no {word} in maps:\n{out}")
    starts = [int(line.split("-")[0], 16) for line in out.splitlines()]
    expect(starts == sorted(starts), "not in order")
    expect("memfd" not in out and "7e0000000000" not in out, f"the kernel shows:\n{out}")
    expect(re.fullmatch(r"([0-9a-f]+-[0-9a-f]+ [r-][w-][x-][ps] [0-9a-f]{8,} \S+:\S+ \d+ *[^\n]*\n)+", out), "not in maps' form")


def out_of_memory():
    """Out of memory kills the biggest process, says so in Linux's words, and the others go on."""
    code, out, errors, said = run_logged("--memory", "64M", "--", "bash", "-c",
                                         f"{PROGRAMS}/endless_malloc > /dev/null; echo big $?; {PROGRAMS}/hello; echo small $?")
    expect(code == 0 and "big 137" in out and "hello, world" in out and "small 0" in out, f"{code}: {out} {errors}")
    expect(re.search(r"Out of memory: Killed process \d+ \(endless_malloc\) total-vm:\d+kB, anon-rss:\d+kB", said),
           f"the log says: {said[-500:]}")


def out_of_memory_many():
    """The same, ten times over in one machine: nothing leaks."""
    command = f"for i in 1 2 3 4 5 6 7 8 9 10; do {PROGRAMS}/endless_malloc > /dev/null; echo $?; done; {PROGRAMS}/big_pattern 20"
    code, out, errors = run("--memory", "64M", "--", "bash", "-c", command)
    expect(code == 0 and out.count("137") == 10 and "wrong backwards: 0" in out, f"{code}: {out} {errors}")


def first_ends_rest_ends():
    """When the first program ends, the rest ends too."""
    code, out, _ = run("--", "bash", "-c", "sleep 1000 & echo $!; exit 3")
    expect(code == 3, f"exit code {code}")
    expect(wait_gone([int(out)]), "the background guest lives on")


def supervisor_killed():
    """kill -9 of the supervisor ends every guest."""
    for _ in range(5):
        process = subprocess.Popen([QUIRE, "run", "--memory", "128M", "--", "bash", "-c",
                                    "sleep 1000 & while :; do :; done & echo up; wait"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.readline()
        time.sleep(random.random() * 0.1)
        guests = descendants(process.pid)
        expect(len(guests) >= 3, f"only {guests} below the supervisor")
        process.kill()
        process.wait()
        process.stdout.close()
        if not wait_gone(guests):
            left = [p for p in guests if alive(p)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise Failed(f"guests {left} of {guests} live on")


def killed_from_outside():
    """Guests are killed from outside at random moments; the machine goes on, memory stays right."""
    random.seed(SEED)
    process = subprocess.Popen([QUIRE, "run", "--memory", "256M", "--", f"{PROGRAMS}/hammer", "3", str(KILLS)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kills = kill_children(process, 0.02, PATIENCE + KILLS * 0.5)
    out, errors = process.communicate()
    expect(process.returncode != 125, f"the machine ended after {kills} kills: {errors[-500:]} (seed {SEED})")
    expect(process.returncode == 0, f"exit code {process.returncode} after {kills} kills: {out} {errors[-500:]} (seed {SEED})")
    print(f"    {kills} kills from outside, none ended the machine")


def nothing_left():
    """A machine that ended leaves no process, no shared memory and no temporary file."""
    sockets = f"/tmp/quire-{os.geteuid()}" # others' machines come and go there

    def leftovers():
        return {p for p in glob.glob("/dev/shm/*uire*") + glob.glob("/tmp/*uire*") + glob.glob("/run/*quire*")
                if "quire-diff" not in p and "quire-guest" not in p and p != sockets}
    before = leftovers()
    process = subprocess.Popen([QUIRE, "run", "--memory", "64M", "--", "bash", "-c", "echo runs; read x; ls / | wc -l"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = process.stdout.readline()
    seen = descendants(process.pid)
    process.communicate(timeout=PATIENCE)
    expect(process.returncode == 0 and said and seen, f"it did not run: {process.returncode} {said} {seen}")
    expect(wait_gone(seen), f"processes are left: {[p for p in seen if alive(p)]}")
    expect(leftovers() <= before, f"left behind: {leftovers() - before}")
    expect(not os.path.exists(f"{sockets}/{process.pid}"), "its socket is left behind")


def two_machines():
    """Machines beside each other know nothing of each other."""
    processes = [subprocess.Popen([QUIRE, "run", "--memory", "128M", "--", f"{PROGRAMS}/fork_cow"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outs = [p.communicate(timeout=PATIENCE)[0] for p in processes]
    expect(all(p.returncode == 0 for p in processes) and len(set(outs)) == 1, f"they differ: {outs}")


def interrupted():
    """SIGINT and SIGTERM at the front end reach the program, and the exit code is the program's."""
    for sig, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen([QUIRE, "run", "--", "sleep", "1000"], stdin=subprocess.DEVNULL)
        time.sleep(0.3)
        guests = descendants(process.pid)
        process.send_signal(sig)
        try:
            got = process.wait(30)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise Failed(f"{sig.name} had no effect") from error
        expect(got in (code, -sig), f"{sig.name}: exit code {got}")
        expect(wait_gone(guests), f"{sig.name}: guests live on")


def more_processes_than_descriptors():
    """The supervisor needs a descriptor for each process: the soft limit is the guests' own, the hard one ends the machine clearly."""
    many = "for i in $(seq 150); do sleep 20 & done; echo all; kill $(jobs -p); wait; ulimit -Sn"
    code, out, err = outcome(["bash", "-c", 'ulimit -Sn 100; exec "$0" run -- bash -c "$1"', QUIRE, many])
    expect(code == 0 and out.split() == ["all", "100"], f"exit {code}: {out}{err[-300:]}")
    forks = "import os, time\nfor i in range(200): os.fork() or time.sleep(300)\nprint('all')"
    command = 'ulimit -n 1040; for i in {100..1000}; do eval "exec $i</dev/null"; done; exec "$0" run -- python3 -c "$1"'
    code, out, err = outcome(["bash", "-c", command, QUIRE, forks])
    expect(code == 125 and "cannot be watched: Too many open files" in err, f"exit {code}: {out}{err[-300:]}")


def users_limits():
    """What the user's shell set is the program's, and does not keep the machine from starting."""
    show = "ulimit -Ss; ulimit -Sv; ulimit -Sd; ulimit -Sf; ulimit -Sn; cat /proc/self/personality; echo a | cat"
    for limits in ("ulimit -Ss unlimited", "ulimit -Ss 4000000000", "ulimit -Ss 512", "ulimit -Sv 4000000", "ulimit -Sd 1000000", "ulimit -Sf 1000",
                   "ulimit -Sn 64"):
        want = outcome(["bash", "-c", f"{limits}; {show}"])
        got = outcome(["bash", "-c", f"{limits}; exec '{QUIRE}' run --memory 64M -- bash -c '{show}'"])
        expect(got == want, f"{limits}: {got}, natively {want}")
    for layout in ("-L", "-R", "-X", "-LR"):
        want = outcome(["setarch", layout, "cat", "/proc/self/personality"])
        for command in ([QUIRE, "run", "--", "setarch", layout], ["setarch", layout, QUIRE, "run", "--"]):
            got = outcome([*command, "cat", "/proc/self/personality"])
            expect(got == want, f"{' '.join(command)}: {got}, natively {want}")
    code, _, errors = outcome([QUIRE, "run", "--", QUIRE, "run", "--", "true"])
    expect(code == 125 and "inside another machine" in errors, f"a machine in a machine: exit code {code}: {errors}")
    code, _, errors = outcome(["bash", "-c", f"ulimit -Hf 1000; exec '{QUIRE}' run -- true"])
    # Who may raise a hard limit is not kept from anything.
    expect(code == 0 or (code == 125 and "ulimit -f" in errors), f"hard limit on file sizes: exit code {code}: {errors}")


def standard_streams():
    """Input, output and error are the program's own; a closed pipe is SIGPIPE."""
    done = outcome([QUIRE, "run", "--", "bash", "-c", "tr a-z A-Z; echo err >&2"], given="some words\n")
    expect(done == (0, "SOME WORDS\n", "err\n"), f"{done}")
    _, out, errors = outcome(["bash", "-c", f"{QUIRE} run -- yes | head -1"])
    expect(out == "y\n", f"{out} {errors}")


TESTS = [mem_total, maps, users_limits, more_processes_than_descriptors, standard_streams, out_of_memory, out_of_memory_many, first_ends_rest_ends, interrupted,
         two_machines, nothing_left, supervisor_killed, killed_from_outside]


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
